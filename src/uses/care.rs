//! Which memories time has moved into another layer than is shown.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;

use uuid::Uuid;

use super::fold::{TRAITS, traits};
use crate::error::{Error, Result};
use crate::life;
use crate::model::heat::{COUNTERS, Heat};
use crate::model::layers::Layer;
use crate::model::memory::{Params, State};
use crate::scan::{Lookup, Row, Table};
use crate::search::ids::{IdHasher, IdMap};
use crate::spi;

/// States that are held in memory at the same time, some 100 bytes each.
const HELD: f64 = 2e6;

/// A memory that has moved.
pub struct Moved {
    pub workspace: Uuid,
    pub id: Uuid,
    /// The layer that is shown, and the one that it is in.
    pub old: Layer,
    pub new: Layer,
    /// Page of `memories` on which its row lies.
    page: u32,
}

/// What a layer depends on, of a row of `memory_state`; what an older version has not filled in is NaN, or
/// the moment `i64::MIN`.
#[derive(Clone, Copy)]
pub(super) struct Kept {
    at: i64,
    working: f64,
    core: f64,
    layer: Option<Layer>,
}

/// Rows of one page that move in the same transaction. As many new versions fit beside the old ones into what is kept free
/// of a page, so that no index learns of them; then the old ones are dead, and make room for the next.
const TOGETHER: usize = 2;

/// One row in so many that would not find room makes it worth while to go in several transactions, with another look at
/// all rows in the end.
const WORTH: usize = 200;

/// Memories that were found to have moved and whose turn has not come.
struct Left {
    workspace: Option<Uuid>,
    /// By turns, then in the order of the key.
    ids: VecDeque<(usize, Uuid, Uuid)>,
}

thread_local! {
    static LEFT: RefCell<Option<Left>> = const { RefCell::new(None) };
}

/// Of all memories, or of one workspace's, those that are in another layer at a moment than is shown: at most
/// so many, the first in the order of the key. The caller owns the tables.
pub fn moved(workspace: Option<Uuid>, at: i64, most: usize) -> Result<Vec<Moved>> {
    let mut moved = Look::new()?.all(workspace, at)?.0;
    moved.truncate(most);
    Ok(moved)
}

/// A batch of what [`moved`] finds, for a transaction of its own, and whether it is the last. Where many rows of the same
/// pages move, or more than fit into a batch, they go one after the other, and each is looked at again when it is its
/// turn. The last batch is of one more look at all rows: what was held meanwhile, or has moved since. `anew`: the
/// first batch.
pub fn moves(
    workspace: Option<Uuid>,
    at: i64,
    most: usize,
    anew: bool,
) -> Result<(Vec<Moved>, bool)> {
    let look = Look::new()?;
    let left = LEFT
        .take()
        .filter(|left| !anew && left.workspace == workspace);
    if let Some(mut left) = left {
        let batch = look.again(&mut left.ids, at, most)?;
        if !batch.is_empty() {
            LEFT.set(Some(left));
            return Ok((batch, false));
        }
    }
    let (mut moved, rows) = look.all(workspace, at)?;
    if anew {
        let mut on_page: HashMap<u32, usize> = HashMap::new();
        let turns: Vec<usize> = moved
            .iter()
            .map(|m| {
                let before = on_page.entry(m.page).or_default();
                *before += 1;
                (*before - 1) / TOGETHER
            })
            .collect();
        let crowded = turns.iter().filter(|turn| **turn > 0).count();
        if crowded * WORTH > rows || moved.len() > most {
            let mut ids: Vec<_> = (moved.iter().zip(turns))
                .map(|(m, turn)| (turn, m.workspace, m.id))
                .collect();
            ids.sort_unstable();
            let mut ids = VecDeque::from(ids);
            let batch = look.again(&mut ids, at, most)?;
            LEFT.set(Some(Left { workspace, ids }));
            return Ok((batch, false));
        }
    }
    moved.truncate(most);
    Ok((moved, true))
}

/// The tables, and what layers depend on beside them.
struct Look {
    states: Table,
    memories: Table,
    rules: IdMap<Params>,
    defaults: Params,
}

impl Look {
    fn new() -> Result<Self> {
        let states = Table::open(c"memory_state")?;
        let memories = Table::open(c"memories")?;
        if !states.owned() || !memories.owned() {
            return Err(Error::Forbidden {
                message: "only the owner of the tables may care for all memories".to_owned(),
                hint: "Call engram.consolidate().".to_owned(),
            });
        }
        let rules = rules()?;
        let defaults = rules.get(&Uuid::nil()).copied();
        Ok(Self {
            states,
            memories,
            rules,
            defaults: defaults.ok_or_else(Error::no_defaults)?,
        })
    }

    /// All that have moved, in the order of the key, and how many memories there are.
    fn all(&self, workspace: Option<Uuid>, at: i64) -> Result<(Vec<Moved>, usize)> {
        let columns = Columns::of(&self.memories)?;
        // A part after the other where they are too many to be held.
        let parts = match workspace {
            Some(_) => 1,
            None => (self.states.estimate() / HELD).ceil().clamp(1.0, 255.0) as u8,
        };
        let (mut out, mut rows) = (Vec::new(), 0);
        for part in 0..parts {
            let kept = kept(&self.states, workspace, |id| {
                parts == 1 || id.as_bytes()[15] % parts == part
            })?;
            self.memories.each(workspace, columns.last, |row| {
                rows += usize::from(part == 0);
                let moved = self.moved(&row, &columns, at, |key| Ok(kept.get(key).copied()))?;
                out.extend(moved);
                Ok(())
            })?;
        }
        out.sort_unstable_by_key(|m| (m.workspace, m.id));
        Ok((out, rows))
    }

    /// The next of these that have moved: of one turn, at most so many.
    fn again(
        &self,
        ids: &mut VecDeque<(usize, Uuid, Uuid)>,
        at: i64,
        most: usize,
    ) -> Result<Vec<Moved>> {
        let columns = Columns::of(&self.memories)?;
        let state = StateColumns::of(&self.states)?;
        let mut memory = Lookup::upto(&self.memories, columns.last)?;
        let mut states = Lookup::upto(&self.states, state.last)?;
        let mut out: Vec<Moved> = Vec::new();
        let mut turn = None;
        while let Some((of, owner, id)) = ids.front().copied() {
            pgrx::check_for_interrupts!();
            if out.len() >= most || !out.is_empty() && turn != Some(of) {
                break;
            }
            turn = Some(of);
            ids.pop_front();
            if let Some(row) = memory.find([owner, id]) {
                let moved = self.moved(&row, &columns, at, |key| {
                    let row = states.find([key.0, key.1]);
                    row.map(|row| state.kept(&row)).transpose()
                })?;
                out.extend(moved);
            }
        }
        Ok(out)
    }

    /// What a row of `memories` says, given its state.
    fn moved(
        &self,
        row: &Row<'_>,
        columns: &Columns,
        at: i64,
        state: impl FnOnce(&(Uuid, Uuid)) -> Result<Option<Kept>>,
    ) -> Result<Option<Moved>> {
        if row.datum(columns.deleted).is_some() {
            return Ok(None);
        }
        // SAFETY: setup() gave the columns these types.
        let (key, old) = unsafe {
            (
                (
                    row.uuid(columns.owner).unwrap_or_default(),
                    row.uuid(columns.id).unwrap_or_default(),
                ),
                row.text(columns.shown).and_then(Layer::parse),
            )
        };
        let (Some(kept), Some(old)) = (state(&key)?, old) else {
            return Ok(None);
        };
        let params = self.rules.get(&key.0).unwrap_or(&self.defaults);
        let new = layer(row, columns, &kept, old, params, at)?;
        Ok((new != old).then(|| Moved {
            workspace: key.0,
            id: key.1,
            old,
            new,
            page: row.place().block,
        }))
    }
}

/// The layer of a memory at a moment, of its row, which shows `shown`, and its state.
pub(super) fn layer(
    row: &Row<'_>,
    columns: &Columns,
    kept: &Kept,
    shown: Layer,
    params: &Params,
    at: i64,
) -> Result<Layer> {
    // SAFETY: setup() gave the column this type.
    let created_at = unsafe { row.get(columns.created) }.unwrap_or(0);
    let traits = traits(row, &columns.traits)?;
    let or = |value: f64, other: f64| if value.is_nan() { other } else { value };
    let state = State {
        heat: Heat {
            at: if kept.at == i64::MIN {
                created_at
            } else {
                kept.at
            },
            uses: 1,
            counters: [0.0; COUNTERS],
        },
        working: or(kept.working, 1.0),
        core: or(kept.core, 0.0),
        layer: kept.layer.unwrap_or(shown),
        stability: 0.0,
        difficulty: 0.0,
        uses: 1,
        last_used: created_at,
        rested: 0,
    };
    Ok(state.layer_at(at, &traits, params))
}

/// Numbers of the columns of `memories`.
pub(super) struct Columns {
    owner: i16,
    pub(super) id: i16,
    created: i16,
    pub(super) deleted: i16,
    pub(super) shown: i16,
    traits: Vec<i16>,
    pub(super) last: i16,
}

impl Columns {
    pub(super) fn of(memories: &Table) -> Result<Self> {
        let [owner, id, created, deleted, shown] = [
            memories.column(c"workspace_id")?,
            memories.column(c"id")?,
            memories.column(c"created_at")?,
            memories.column(c"deleted_at")?,
            memories.column(c"layer")?,
        ];
        let traits = TRAITS
            .iter()
            .map(|name| memories.column(name))
            .collect::<Result<Vec<i16>>>()?;
        let last = traits
            .iter()
            .copied()
            .chain([owner, id, created, deleted, shown])
            .max();
        Ok(Self {
            owner,
            id,
            created,
            deleted,
            shown,
            traits,
            last: last.unwrap_or(i16::MAX),
        })
    }
}

/// Parameters of the workspaces that have settings of their own, and the defaults.
fn rules() -> Result<IdMap<Params>> {
    let rows = spi::rows(
        "SELECT w.workspace_id, engram_internal.dynamics(w.workspace_id) \
         FROM (SELECT t.workspace_id FROM engram.settings t UNION SELECT t.workspace_id FROM engram.memory_type_settings t) w",
        &[],
        |row| {
            let id = row.get::<pgrx::Uuid>(1)?.map(spi::uuid).unwrap_or_default();
            let values = row.get::<Vec<f64>>(2)?.unwrap_or_default();
            Ok((id, Params::from_slice(&values)))
        },
    )?;
    Ok(rows
        .into_iter()
        .filter_map(|(id, params)| Some((id, params?)))
        .collect())
}

pub(super) type States = HashMap<(Uuid, Uuid), Kept, BuildHasherDefault<IdHasher>>;

/// Numbers of the columns of `memory_state`.
pub(super) struct StateColumns {
    owner: i16,
    id: i16,
    heat: i16,
    working: i16,
    core: i16,
    layer: i16,
    pub(super) last: i16,
}

impl StateColumns {
    pub(super) fn of(states: &Table) -> Result<Self> {
        let [owner, id, heat, working, core, layer] = [
            states.column(c"workspace_id")?,
            states.column(c"memory_id")?,
            states.column(c"heat")?,
            states.column(c"working_strength")?,
            states.column(c"core_strength")?,
            states.column(c"layer")?,
        ];
        let last = [owner, id, heat, working, core, layer].into_iter().max();
        Ok(Self {
            owner,
            id,
            heat,
            working,
            core,
            layer,
            last: last.unwrap_or(i16::MAX),
        })
    }

    pub(super) fn kept(&self, row: &Row<'_>) -> Result<Kept> {
        // SAFETY: setup() gave the columns these types.
        let (heat, kept) = unsafe {
            let kept = Kept {
                at: i64::MIN,
                working: row.get(self.working).unwrap_or(f64::NAN),
                core: row.get(self.core).unwrap_or(f64::NAN),
                layer: row.text(self.layer).and_then(Layer::parse),
            };
            (row.bytes(self.heat), kept)
        };
        let at = match life::heat(heat)? {
            Some(heat) => heat.at,
            None => i64::MIN,
        };
        Ok(Kept { at, ..kept })
    }
}

/// States by workspace and memory, of one workspace or of all.
pub(super) fn kept(
    states: &Table,
    workspace: Option<Uuid>,
    wanted: impl Fn(&Uuid) -> bool,
) -> Result<States> {
    let columns = StateColumns::of(states)?;
    let mut kept = States::default();
    if workspace.is_none() {
        kept.reserve(states.estimate().clamp(0.0, HELD) as usize);
    }
    states.each(workspace, columns.last, |row| {
        // SAFETY: setup() gave the columns these types.
        let key = unsafe {
            (
                row.uuid(columns.owner).unwrap_or_default(),
                row.uuid(columns.id).unwrap_or_default(),
            )
        };
        if wanted(&key.1) {
            kept.insert(key, columns.kept(&row)?);
        }
        Ok(())
    })?;
    Ok(kept)
}
