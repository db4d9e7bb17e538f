//! The lane of a search for nothing in particular: what is most needed now, by how often and how
//! lately it was used.

use pgrx::{FromDatum, pg_sys};
use uuid::Uuid;

use super::Context;
use super::ids::IdMap;
use crate::error::{Error, Result};
use crate::model::heat::{Heat, Weights};
use crate::scan::{Key, Table};
use crate::uses::Call;

/// Base level of every memory of the workspace at the moment of the search, in no order.
pub fn levels(context: &Context, waiting: &[Call]) -> Result<Vec<(Uuid, f64)>> {
    let mut uses = by_memory(waiting);
    let weights = Weights::new(context.decay);
    let at = i64::from(context.at);
    let mut levels = Vec::new();
    let until = context
        .past
        .as_ref()
        .map_or(i64::MAX, super::past::Past::at);
    let mut later = Vec::new();
    // The workspace has been checked; these are ids and numbers, and rows are fetched as the caller.
    Table::open(c"memory_state")?.rows(
        &[(c"workspace_id", Key::Uuid(context.workspace))],
        [c"memory_id", c"access_count", c"last_accessed_at", c"heat"],
        |[id, count, last, heat]| {
            // SAFETY: the columns have these types; setup() made them.
            let (id, count, last, heat) = unsafe {
                (
                    id.and_then(|d| pgrx::Uuid::from_polymorphic_datum(d, false, pg_sys::UUIDOID)),
                    count.and_then(|d| i64::from_datum(d, false)),
                    last.and_then(|d| i64::from_datum(d, false)),
                    heat.and_then(|d| <&[u8]>::from_datum(d, false)),
                )
            };
            let Some(id) = id else { return Ok(()) };
            let id = Uuid::from_bytes(*id.as_bytes());
            let heat = heat_of(heat, count.unwrap_or(1), last.unwrap_or(0))?;
            if last.unwrap_or(0).max(heat.at) > until {
                later.push(id);
                return Ok(());
            }
            let level = with(heat, uses.remove(&id)).level_with(at, &weights);
            levels.push((id, level));
            Ok(())
        },
    )?;
    for (id, (_, heat)) in super::past::replayed(context, &later)? {
        levels.push((id, with(heat, uses.remove(&id)).level_with(at, &weights)));
    }
    Ok(levels)
}

/// Calls that wait to be folded, by memory in order of time: moments and gains. Those that count nothing
/// are among them, because a fold dates the heat by them, and rounds it.
pub fn by_memory(waiting: &[Call]) -> IdMap<Vec<(i64, f64)>> {
    let mut uses: IdMap<Vec<(i64, f64)>> = IdMap::default();
    for call in waiting {
        for id in &call.ids {
            uses.entry(*id)
                .or_default()
                .push((call.at, call.gain.max(0.0)));
        }
    }
    for uses in uses.values_mut() {
        uses.sort_by_key(|(at, _)| *at);
    }
    uses
}

/// Heat as it is stored; a row of an older version has only counts.
pub fn heat_of(bytes: Option<&[u8]>, count: i64, last: i64) -> Result<Heat> {
    let Some(bytes) = bytes else {
        return Ok(Heat::new(last, count.max(1) as f64));
    };
    Heat::decode(bytes).map_err(|_| Error::NotReady {
        message: "engram.memory_state holds a heat that this version cannot read".to_owned(),
        hint: "Restore the row, or set heat to NULL: then only the count is known.".to_owned(),
    })
}

/// Heat after some more uses.
pub fn with(mut heat: Heat, uses: Option<Vec<(i64, f64)>>) -> Heat {
    for (at, gain) in uses.into_iter().flatten() {
        heat.touch(at, gain);
    }
    heat
}
