//! How much many memories are needed, by how often and how lately they were used.

use std::collections::HashMap;

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::{FromDatum, pg_sys};
use uuid::Uuid;

use super::states;
use crate::error::Result;
use crate::model::heat::Weights;
use crate::scan::Table;
use crate::search::need;
use crate::{rows, spi};

/// Base level in nats of some memories of a workspace, or of all, at a moment: of those that the caller may see, each once,
/// in no order. The caller was allowed the workspace.
pub fn levels(
    workspace: Uuid,
    ids: Option<Vec<Uuid>>,
    at: TimestampWithTimeZone,
) -> Result<Vec<(Uuid, f64)>> {
    let memories = Table::open(c"memories")?;
    let table = Table::open(c"memory_state")?;
    if !rows::states_visible(&memories, &table, workspace) {
        return as_caller(workspace, ids.as_deref(), at);
    }
    let decay = super::setting(workspace, c"decay")?
        // SAFETY: the column is float8; setup() made it.
        .and_then(|datum| unsafe { f64::from_datum(datum, false) })
        .unwrap_or(0.5);
    let ids = ids.map(|mut ids| {
        ids.sort_unstable();
        ids.dedup();
        ids
    });
    // SAFETY: reads the clock.
    let waiting = super::waiting(workspace, unsafe { pg_sys::GetCurrentTimestamp() })?;
    let mut waiting = need::by_memory(&waiting, |_| true);
    let weights = Weights::new(decay);
    let moment = i64::from(at);
    let mut found = Vec::with_capacity(ids.as_ref().map_or(0, Vec::len));
    // Rows that only a version wrote which kept no heat, and what a partial restore has left out.
    let mut others = Vec::new();
    let mut batch = need::Batch::new(moment, &weights);
    states::each(&table, workspace, ids.as_deref(), |some| {
        for state in some.iter() {
            let id = state.memory;
            if state.heat.is_none() && state.count > 1 {
                others.push(id);
                continue;
            }
            let heat = state.heat.as_ref().map(<[u8; _]>::as_slice);
            let heat = need::heat_of(heat, state.count, state.last)?;
            batch.push(id, need::with(heat, waiting.remove(&id)), &mut found);
        }
        Ok(())
    })?;
    batch.finish(&mut found);
    if let Some(ids) = ids
        && found.len() + others.len() < ids.len()
    {
        let known: HashMap<Uuid, ()> = found.iter().map(|(id, _)| (*id, ())).collect();
        others = ids
            .into_iter()
            .filter(|id| !known.contains_key(id))
            .collect();
    }
    if !others.is_empty() {
        found.extend(as_caller(workspace, Some(&others), at)?);
    }
    Ok(found)
}

fn as_caller(
    workspace: Uuid,
    ids: Option<&[Uuid]>,
    at: TimestampWithTimeZone,
) -> Result<Vec<(Uuid, f64)>> {
    let rows = spi::rows(
        "SELECT p.memory_id, engram.heat_level(p.heat, $3, p.decay) \
         FROM engram_internal.present($1, $3, coalesce($2, ARRAY( \
           SELECT m.id FROM engram.memories m WHERE m.workspace_id = $1 AND $2 IS NULL))) p",
        &[
            DatumWithOid::from(spi::pg_uuid(workspace)),
            DatumWithOid::from(ids.map(spi::pg_uuids)),
            DatumWithOid::from(at),
        ],
        |row| {
            let id = row.get::<pgrx::Uuid>(1)?.map(spi::uuid);
            Ok(id.zip(row.get::<f64>(2)?))
        },
    )?;
    let mut levels: HashMap<Uuid, f64> = HashMap::with_capacity(rows.len());
    levels.extend(rows.into_iter().flatten());
    Ok(levels.into_iter().collect())
}
