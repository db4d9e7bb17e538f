//! The lane of a search for nothing in particular: what is most needed now, by how often and how
//! lately it was used.

use uuid::Uuid;

use super::Context;
use super::ids::IdMap;
use crate::error::{Error, Result};
use crate::model::heat::{Heat, Weights};
use crate::scan::Table;
use crate::uses::{self, Call};

/// Base level of every memory of the workspace at the moment of the search, in no order.
pub(super) fn levels(context: &Context) -> Result<Vec<(Uuid, f64)>> {
    let mut uses = by_memory(&context.waiting, |_| true);
    let weights = Weights::new(context.decay);
    let at = i64::from(context.at);
    let mut levels = Vec::new();
    let until = context
        .past
        .as_ref()
        .map_or(i64::MAX, super::past::Past::at);
    let mut later = Vec::new();
    let mut batch = Batch::new(at, &weights);
    // The workspace has been checked; these are ids and numbers, and rows are fetched as the caller.
    let states = Table::open(c"memory_state")?;
    uses::each_state(&states, context.workspace, None, |some| {
        for state in some.iter() {
            let id = state.memory;
            let heat = state.heat.as_ref().map(<[u8; _]>::as_slice);
            let heat = heat_of(heat, state.count, state.last)?;
            if state.last.max(heat.at) > until {
                later.push(id);
                continue;
            }
            batch.push(id, with(heat, uses.remove(&id)), &mut levels);
        }
        Ok(())
    })?;
    batch.finish(&mut levels);
    for (id, (_, heat)) in super::past::replayed(context, &later)? {
        levels.push((id, with(heat, uses.remove(&id)).level_with(at, &weights)));
    }
    Ok(levels)
}

/// Levels of many memories, some of which are computed together.
pub struct Batch<'w> {
    at: i64,
    weights: &'w Weights,
    ids: Vec<Uuid>,
    heats: Vec<Heat>,
    levels: Vec<f64>,
}

impl<'w> Batch<'w> {
    const SIZE: usize = 64;

    /// At a moment.
    pub fn new(at: i64, weights: &'w Weights) -> Self {
        Self {
            at,
            weights,
            ids: Vec::with_capacity(Self::SIZE),
            heats: Vec::with_capacity(Self::SIZE),
            levels: Vec::with_capacity(Self::SIZE),
        }
    }

    /// One more memory; levels that are known by then go to `to`.
    #[inline]
    pub fn push(&mut self, id: Uuid, heat: Heat, to: &mut Vec<(Uuid, f64)>) {
        self.ids.push(id);
        self.heats.push(heat);
        if self.ids.len() == Self::SIZE {
            self.finish(to);
        }
    }

    /// The rest.
    pub fn finish(&mut self, to: &mut Vec<(Uuid, f64)>) {
        self.levels.clear();
        Heat::levels(&self.heats, self.at, self.weights, &mut self.levels);
        to.extend(self.ids.drain(..).zip(self.levels.iter().copied()));
        self.heats.clear();
    }
}

/// Calls that wait to be folded, by memory of those that are wanted, in order of time: moments and gains. Those
/// that count nothing are among them, because a fold dates the heat by them, and rounds it: what waits is read
/// to the last digit as it will be once it is folded.
pub fn by_memory(waiting: &[Call], wanted: impl Fn(&Uuid) -> bool) -> IdMap<Vec<(i64, f64)>> {
    let mut uses: IdMap<Vec<(i64, f64)>> = IdMap::default();
    for call in waiting {
        for id in call.ids.iter().filter(|id| !id.is_nil() && wanted(id)) {
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
#[inline]
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
#[inline]
pub fn with(mut heat: Heat, uses: Option<Vec<(i64, f64)>>) -> Heat {
    // Most often there are none.
    let Some(uses) = uses else { return heat };
    for (at, gain) in uses {
        heat.touch(at, gain);
    }
    heat
}
