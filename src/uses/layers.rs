//! The layers that memories are in by now.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use uuid::Uuid;

use super::care::{self, Columns, Kept, StateColumns};
use crate::error::{Error, Result};
use crate::model::layers::Layer;
use crate::model::memory::Params;
use crate::scan::{Lookup, Row, Table};
use crate::search::ids::IdSet;
use crate::{rows, spi};

/// What the present layers of the memories of a workspace depend on beside their rows.
pub struct LayerRules {
    workspace: Uuid,
    params: Params,
    now: i64,
    /// Memories with uses that wait to be folded.
    used: IdSet,
}

impl LayerRules {
    /// As the caller.
    pub fn read(workspace: Uuid) -> Result<Self> {
        let params = spi::row(
            "SELECT engram_internal.dynamics($1)",
            &[DatumWithOid::from(spi::pg_uuid(workspace))],
            |row| Ok(row.get::<Vec<f64>>(1)?),
        )?;
        let params = params.flatten().and_then(|p| Params::from_slice(&p));
        let waiting = super::waiting(workspace, i64::MAX)?;
        Ok(Self {
            workspace,
            params: params.ok_or_else(Error::no_defaults)?,
            // SAFETY: the start of the running transaction.
            now: unsafe { pg_sys::GetCurrentTransactionStartTimestamp() },
            used: waiting.into_iter().flat_map(|call| call.ids).collect(),
        })
    }

    /// The layer of a memory, of its row and its state; `None` where uses of it wait.
    fn layer(
        &self,
        row: &Row<'_>,
        columns: &Columns,
        id: Uuid,
        kept: &Kept,
    ) -> Result<Option<Layer>> {
        // SAFETY: setup() made the column text.
        let shown = unsafe { row.text(columns.shown) }.and_then(Layer::parse);
        match shown.filter(|_| !self.used.contains(&id)) {
            Some(shown) => care::layer(row, columns, kept, shown, &self.params, self.now).map(Some),
            None => Ok(None),
        }
    }
}

/// The present layers of single memories of a workspace. The caller may see all of them, and their states.
pub struct Layers<'t> {
    rules: &'t LayerRules,
    states: Lookup<'t, 2>,
    state: StateColumns,
    columns: Columns,
}

impl<'t> Layers<'t> {
    /// Under the active snapshot, which must outlive it.
    pub fn new(memories: &Table, states: &'t Table, rules: &'t LayerRules) -> Result<Self> {
        let state = StateColumns::of(states)?;
        Ok(Self {
            rules,
            states: Lookup::upto(states, state.last)?,
            state,
            columns: Columns::of(memories)?,
        })
    }

    /// That of a memory whose row this is, with all its columns; `None` where it takes more to tell: uses that wait,
    /// or a state that is missing.
    pub fn of(&mut self, row: &Row<'_>) -> Result<Option<Layer>> {
        // SAFETY: setup() made the column a uuid.
        let id = unsafe { row.uuid(self.columns.id) }.unwrap_or_default();
        let Some(state) = self.states.find([self.rules.workspace, id]) else {
            return Ok(None);
        };
        let kept = self.state.kept(&state)?;
        self.rules.layer(row, &self.columns, id, &kept)
    }
}

/// The present layers of all memories of a workspace that are not forgotten, as the caller sees them. The caller was
/// allowed the workspace.
pub fn layers(workspace: Uuid) -> Result<Vec<(Uuid, Layer)>> {
    let (memories, states) = tables()?;
    if !rows::states_visible(&memories, &states, workspace) {
        return as_caller(workspace, None);
    }
    let rules = LayerRules::read(workspace)?;
    let columns = Columns::of(&memories)?;
    let kept = care::kept(&states, Some(workspace), |_| true)?;
    let (mut out, mut others) = (Vec::with_capacity(kept.len()), Vec::new());
    memories.each(Some(workspace), columns.last, |row| {
        if row.datum(columns.deleted).is_some() {
            return Ok(());
        }
        // SAFETY: setup() made the column a uuid.
        let id = unsafe { row.uuid(columns.id) }.unwrap_or_default();
        let layer = match kept.get(&(workspace, id)) {
            Some(kept) => rules.layer(&row, &columns, id, kept)?,
            None => None,
        };
        match layer {
            Some(layer) => out.push((id, layer)),
            None => others.push(id),
        }
        Ok(())
    })?;
    if !others.is_empty() {
        out.extend(as_caller(workspace, Some(&others))?);
    }
    Ok(out)
}

/// Who sees what, and when: equal for those who see the same, as far as only policies of ours decide that.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    bounds: [u32; 5],
    /// What an aborted one has written is seen no more, and nothing else tells.
    subtransaction: pg_sys::SubTransactionId,
    role: pg_sys::Oid,
    at: i64,
}

impl Seen {
    pub(super) fn now() -> Self {
        // SAFETY: a statement that runs has an active snapshot. Between snapshots with the same bounds transactions
        // of others only end, so that as many that run are the same.
        unsafe {
            let of = &*pg_sys::GetActiveSnapshot();
            let (low, high) = (u32::from(of.xmin), u32::from(of.xmax));
            Self {
                bounds: [low, high, of.xcnt, of.subxcnt.unsigned_abs(), of.curcid],
                subtransaction: pg_sys::GetCurrentSubTransactionId(),
                role: pg_sys::GetUserId(),
                at: pg_sys::GetCurrentTransactionStartTimestamp(),
            }
        }
    }
}

/// What was read for the memory before, good for as long as the same is seen.
pub struct Read {
    seen: Seen,
    rules: LayerRules,
}

/// The present layer of one memory, as the caller sees it; `None` when it is not there. `read` is kept between calls.
pub fn layer_of(workspace: Uuid, id: Uuid, read: &mut Option<Read>) -> Result<Option<Layer>> {
    let (memories, states) = tables()?;
    if rows::states_visible(&memories, &states, workspace) {
        let seen = Seen::now();
        let settings = Table::open(c"settings")?;
        let types = Table::open(c"memory_type_settings")?;
        let plain = rows::sees_settings(&settings) && rows::sees_types(&types);
        let known = read
            .take()
            .filter(|known| plain && known.seen == seen && known.rules.workspace == workspace);
        let rules = match known {
            Some(known) => known.rules,
            None => LayerRules::read(workspace)?,
        };
        let rules = &read.insert(Read { seen, rules }).rules;
        let mut rows = Lookup::new(&memories)?;
        let Some(row) = rows.find([workspace, id]) else {
            return Ok(None);
        };
        let layer = Layers::new(&memories, &states, rules)?.of(&row)?;
        if layer.is_some() {
            return Ok(layer);
        }
    }
    let found = as_caller(workspace, Some(&[id]))?;
    Ok(found.first().map(|(_, layer)| *layer))
}

fn tables() -> Result<(Table, Table)> {
    Ok((Table::open(c"memories")?, Table::open(c"memory_state")?))
}

fn as_caller(workspace: Uuid, ids: Option<&[Uuid]>) -> Result<Vec<(Uuid, Layer)>> {
    let rows = spi::rows(
        "SELECT p.memory_id, p.layer FROM engram_internal.present($1, now(), coalesce($2, ARRAY( \
           SELECT m.id FROM engram.memories m WHERE m.workspace_id = $1 AND m.deleted_at IS NULL AND $2 IS NULL))) p",
        &[
            DatumWithOid::from(spi::pg_uuid(workspace)),
            DatumWithOid::from(ids.map(spi::pg_uuids)),
        ],
        |row| {
            let id = row.get::<pgrx::Uuid>(1)?.map(spi::uuid);
            let layer = row.get::<String>(2)?;
            Ok(id.zip(layer.as_deref().and_then(Layer::parse)))
        },
    )?;
    Ok(rows.into_iter().flatten().collect())
}
