//! The SQL functions over the state of memories: arguments in, errors out. What they compute is in
//! [`crate::model::memory`] and [`crate::model::links`]; what they write is in [`crate::uses`].

use std::cmp::Ordering;
use std::collections::HashSet;
use std::rc::Rc;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;
use pgrx::{JsonB, PgMemoryContexts, Uuid};
use serde_json::{Value, json};

use crate::api::{HitRow, Report, hit_row, request, shorten};
use crate::error::Error;
use crate::model::course::Course;
use crate::model::fsrs::Rating;
use crate::model::heat::Heat;
use crate::model::layers::Layer;
use crate::model::links::{self, Link};
use crate::model::memory::{self, Base, Event, Linking, Params, Settings, State, TYPES, Traits};
use crate::raw::RawJsonb;
use crate::uses::{self, Use};
use crate::vector::Vector;
use crate::{search, spi};

/// Microseconds of a day.
const DAY: f64 = 86_400e6;

fn broken(what: &str) -> Error {
    Error::NotReady {
        message: format!("engram.memory_state holds a {what} that this version cannot read"),
        hint: "Restore the row, or set the column to NULL: then the memory counts as never used."
            .to_owned(),
    }
}

/// Settings as `engram_internal.dynamics_over_time()` gives them.
fn settings(values: Option<Array<'_, f64>>, linking: Linking) -> Result<Settings, Error> {
    // An array without NULLs is read where it lies.
    let known = values.as_ref().and_then(|v| v.as_slice().ok());
    known
        .and_then(|values| Settings::from_slice(values, linking))
        .ok_or_else(Error::no_defaults)
}

/// As [`settings`], where links do not matter.
fn params(values: Option<Array<'_, f64>>) -> Result<Course<Params>, Error> {
    Ok(settings(values, linking(None, None, None))?.params)
}

fn linking(members: Option<i32>, half_life_days: Option<f64>, prune: Option<f64>) -> Linking {
    Linking {
        members: usize::try_from(members.unwrap_or(0)).unwrap_or(0),
        half_life_days: half_life_days.unwrap_or(30.0),
        prune: prune.unwrap_or(0.0),
    }
}

/// What the dynamics of a memory depend on, as `memories` has it.
pub fn traits(
    kind: Option<&str>,
    importance: Option<f64>,
    pinned: Option<bool>,
    inert: Option<bool>,
) -> Result<Traits, Error> {
    let kind = kind.unwrap_or("factual");
    Ok(Traits {
        kind: TYPES.iter().position(|t| *t == kind).ok_or_else(|| {
            Error::invalid(
                format!("unknown memory type {:?}", shorten(kind)),
                format!("Known types: {}.", TYPES.join(", ")),
            )
        })?,
        importance: importance.unwrap_or(0.5),
        pinned: pinned.unwrap_or(false),
        inert: inert.unwrap_or(false),
    })
}

fn layer(name: Option<&str>) -> Result<Layer, Error> {
    name.map_or(Ok(Layer::Working), |name| {
        Layer::parse(name).ok_or_else(|| {
            Error::invalid(
                format!("unknown layer {:?}", shorten(name)),
                "Known layers: working, core, archive.",
            )
        })
    })
}

fn micros(at: TimestampWithTimeZone) -> i64 {
    at.into()
}

/// When a memory was stored, without which it has no state.
fn stored_at(created_at: Option<TimestampWithTimeZone>) -> Result<i64, Error> {
    created_at.map(micros).ok_or_else(|| {
        Error::invalid(
            "created_at is NULL",
            "Pass created_at of the memory, as engram.memories has it.",
        )
    })
}

fn timestamp(micros: i64) -> Result<TimestampWithTimeZone, Error> {
    TimestampWithTimeZone::try_from(micros).map_err(|_| {
        Error::invalid(
            format!("a moment {micros} µs from the year 2000 is out of range"),
            "Give moments that a timestamptz can hold.",
        )
    })
}

/// Heat as it is stored.
pub fn heat(bytes: Option<&[u8]>) -> Result<Option<Heat>, Error> {
    bytes
        .map(|bytes| Heat::decode(bytes).map_err(|_| broken("heat")))
        .transpose()
}

/// Uses, each with the call that it belongs to.
fn events(
    calls: Option<Array<'_, Uuid>>,
    times: Option<Array<'_, TimestampWithTimeZone>>,
    gains: Option<Array<'_, f64>>,
    ratings: Option<Array<'_, i16>>,
) -> Vec<(uuid::Uuid, Event)> {
    let (Some(calls), Some(times), Some(gains), Some(ratings)) = (calls, times, gains, ratings)
    else {
        return Vec::new();
    };
    calls
        .iter()
        .zip(times.iter())
        .zip(gains.iter())
        .zip(ratings.iter())
        .filter_map(|(((call, at), gain), rating)| {
            let event = Event {
                at: micros(at?),
                gain: gain?,
                rating: rating.and_then(|r| Rating::from_number(r.into())),
            };
            Some((spi::uuid(call?), event))
        })
        .collect()
}

/// A state row as it is stored, with what `memories` says of its memory. What an older version has not filled
/// in is what a memory begins with; uses that it only counted are taken as spread evenly between the first
/// and the last.
#[derive(Default)]
pub struct Stored<'a> {
    /// When the memory was stored; this and all moments in microseconds.
    pub created_at: i64,
    /// `memories.layer`.
    pub memory_layer: Option<&'a str>,
    pub access_count: Option<i64>,
    pub last_accessed_at: Option<i64>,
    pub heat: Option<&'a [u8]>,
    pub working: Option<f64>,
    pub core: Option<f64>,
    /// `memory_state.layer`.
    pub layer: Option<&'a str>,
    pub stability: Option<f64>,
    pub difficulty: Option<f64>,
    pub base: Option<Value>,
}

impl Stored<'_> {
    fn state(&self, traits: &Traits, params: &Course<Params>) -> Result<State, Error> {
        let created_at = self.created_at;
        // To store it is its first use.
        let params = params.at(created_at);
        let mut state = State::new(
            created_at,
            layer(self.layer.or(self.memory_layer))?,
            traits,
            params,
        );
        let count = self.access_count.unwrap_or(1).max(1);
        match heat(self.heat)? {
            Some(heat) => state.heat = heat,
            None if count > 1 => {
                let last = self.last_accessed_at.unwrap_or(created_at).max(created_at);
                // More than this many cannot be told apart.
                let steps = (count - 1).min(64);
                let gain = (count - 1) as f64 / steps as f64;
                for i in 1..=steps {
                    let part = last.saturating_sub(created_at) as f64 * i as f64 / steps as f64;
                    state
                        .heat
                        .touch(created_at.saturating_add(part as i64), gain);
                }
            }
            None => {}
        }
        state.working = self.working.unwrap_or(state.working);
        state.core = self.core.unwrap_or(state.core);
        state.stability = self.stability.unwrap_or(state.stability);
        state.difficulty = self.difficulty.unwrap_or(state.difficulty);
        state.uses = count;
        state.last_used = self.last_accessed_at.unwrap_or(created_at);
        Ok(state)
    }

    /// Where replays of it begin, unless that is where the memory was stored, and the calls that wait and that this
    /// has taken in.
    fn base(
        &self,
        state: &State,
        traits: &Traits,
        params: &Course<Params>,
    ) -> Result<(Option<Base>, Vec<uuid::Uuid>), Error> {
        Ok(match &self.base {
            Some(value) => {
                let first = State::first_stability(traits, params.at(self.created_at));
                let (base, seen) = base_from(value, first).ok_or_else(|| broken("base"))?;
                (Some(base), seen)
            }
            // What was before is known by number only.
            None if self.heat.is_none() && state.uses > 1 => (Some(state.base()), Vec::new()),
            None => (None, Vec::new()),
        })
    }
}

/// `seen`: calls that wait to be folded and that the base knows already.
fn base_json(base: &Base, seen: &[uuid::Uuid]) -> Value {
    let mut json = json!({
        "at": base.at,
        "working": base.working,
        "core": base.core,
        "layer": base.layer.name(),
        "stability": base.stability,
        "difficulty": base.difficulty,
        "uses": base.uses,
        "last_used": base.last_used,
    });
    if base.rested != 0 {
        json["rested"] = base.rested.into();
    }
    if !seen.is_empty() {
        json["seen"] = seen.iter().map(uuid::Uuid::to_string).collect();
    }
    json
}

fn base_from(value: &Value, first_stability: f64) -> Option<(Base, Vec<uuid::Uuid>)> {
    let base = Base {
        at: value["at"].as_i64()?,
        working: value["working"].as_f64()?,
        core: value["core"].as_f64()?,
        layer: Layer::parse(value["layer"].as_str()?)?,
        stability: value["stability"].as_f64().unwrap_or(first_stability),
        difficulty: value["difficulty"]
            .as_f64()
            .unwrap_or_else(memory::first_difficulty),
        uses: value["uses"].as_i64()?,
        last_used: value["last_used"].as_i64()?,
        rested: value["rested"].as_i64().unwrap_or(0),
    };
    let seen = value["seen"].as_array().map_or(&[][..], Vec::as_slice);
    let seen = seen.iter().filter_map(|id| id.as_str()?.parse().ok());
    Some((base, seen.collect()))
}

/// Where a replay begins, as it is stored.
pub fn stored_base(base: &RawJsonb) -> Result<Value, Error> {
    base.parse().map_err(|_| broken("base"))
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments, clippy::type_complexity)]
fn state_at(
    params_: Option<Array<'_, f64>>,
    kind: Option<&str>,
    importance: Option<f64>,
    pinned: Option<bool>,
    inert: Option<bool>,
    created_at: Option<TimestampWithTimeZone>,
    memory_layer: Option<&str>,
    access_count: Option<i64>,
    last_accessed_at: Option<TimestampWithTimeZone>,
    heat_bytes: Option<&[u8]>,
    working_strength: Option<f64>,
    core_strength: Option<f64>,
    layer_name: Option<&str>,
    stability: Option<f64>,
    difficulty: Option<f64>,
    base: Option<RawJsonb>,
    calls: Option<Array<'_, Uuid>>,
    times: Option<Array<'_, TimestampWithTimeZone>>,
    gains: Option<Array<'_, f64>>,
    ratings: Option<Array<'_, i16>>,
    known: Option<i32>,
    at: Option<TimestampWithTimeZone>,
    settle: Option<bool>,
) -> Report<
    TableIterator<
        'static,
        (
            name!(layer, &'static str),
            name!(heat, Vec<u8>),
            name!(working_strength, f64),
            name!(core_strength, f64),
            name!(stability, f64),
            name!(difficulty, f64),
            name!(access_count, i64),
            name!(last_accessed_at, TimestampWithTimeZone),
            name!(retention, f64),
            name!(idle_days, f64),
            name!(late, bool),
            name!(base, Option<JsonB>),
        ),
    >,
> {
    let params = params(params_)?;
    let traits = traits(kind, importance, pinned, inert)?;
    let stored = Stored {
        created_at: stored_at(created_at)?,
        memory_layer,
        access_count,
        last_accessed_at: last_accessed_at.map(micros),
        heat: heat_bytes,
        working: working_strength,
        core: core_strength,
        layer: layer_name,
        stability,
        difficulty,
        base: base.as_ref().map(stored_base).transpose()?,
    };
    let After {
        state,
        moment,
        late,
        base,
    } = after(
        &stored,
        &traits,
        &params,
        events(calls, times, gains, ratings),
        known.map(|n| usize::try_from(n).unwrap_or(0)),
        at.map(micros),
        settle.unwrap_or(false),
    )?;
    // From its latest use on a memory lives by the settings of now.
    let params = match at {
        Some(_) => params.now(),
        None => params.at(moment),
    };
    let (working, core) = state.strengths_at(moment, &traits, params);
    Ok(TableIterator::once((
        state.layer_at(moment, &traits, params).name(),
        state.heat.encode().to_vec(),
        working,
        core,
        state.stability,
        state.difficulty,
        state.uses,
        timestamp(state.last_used)?,
        state.retention_at(moment, &traits, params),
        state.idle_days(moment, &traits),
        late,
        base.map(JsonB),
    )))
}

/// What became of a state.
pub struct After {
    pub state: State,
    /// The moment that was asked about, or that of the state, which is in its layer by the settings of then.
    pub moment: i64,
    /// A use was older than the state, so that layer, stability and difficulty want a replay; of a replay: some
    /// of the uses are missing.
    pub late: bool,
    /// Where a replay begins, unless it is where the memory was stored.
    pub base: Option<Value>,
}

/// A state after some more uses. For a replay pass the whole log first and its length as `known`. `settle`
/// dates the state, and where replays begin, at the moment; whatever waits is known to it from then on.
pub fn after(
    stored: &Stored<'_>,
    traits: &Traits,
    params: &Course<Params>,
    mut events: Vec<(uuid::Uuid, Event)>,
    known: Option<usize>,
    at: Option<i64>,
    settle: bool,
) -> Result<After, Error> {
    let begun = stored.state(traits, params)?;
    let (base, seen) = stored.base(&begun, traits, params)?;
    let mut life = Life::new(stored, begun, base, &seen, traits, params);
    let mut new = events.split_off(events.len().min(known.unwrap_or(0)));
    new.sort_by(|(_, a), (_, b)| a.order(b));
    let before = Before::of(&life.state);
    life.take_in(&new, &before);
    if known.is_some() {
        events.extend(&new);
        life.replay(events);
    }
    if !new.is_empty() {
        life.state.settle(traits, params);
    }
    let moment = at.unwrap_or(life.state.at()).max(life.state.at());
    let (moment, base) = if settle {
        life.settle(moment, &new, &seen, &before)
    } else {
        (moment, life.base.map(|base| base_json(&base, &seen)))
    };
    Ok(After {
        state: life.state,
        moment,
        late: life.late,
        base,
    })
}

/// What is asked of a state as it was before it took in uses.
struct Before {
    at: i64,
    last_used: i64,
    uses: i64,
    heat: Heat,
}

impl Before {
    fn of(state: &State) -> Self {
        Self {
            at: state.at(),
            last_used: state.last_used,
            uses: state.uses,
            heat: state.heat,
        }
    }
}

/// A state that takes in uses, and where a replay of them begins.
struct Life<'a> {
    traits: &'a Traits,
    params: &'a Course<Params>,
    state: State,
    /// The memory when it was stored.
    first: Base,
    /// Where replays begin, unless that is it.
    base: Option<Base>,
    /// Calls that the base has taken in.
    seen: HashSet<&'a uuid::Uuid>,
    late: bool,
}

impl<'a> Life<'a> {
    fn new(
        stored: &Stored<'_>,
        mut state: State,
        base: Option<Base>,
        seen: &'a [uuid::Uuid],
        traits: &'a Traits,
        params: &'a Course<Params>,
    ) -> Self {
        let first = params.at(stored.created_at);
        let first = State::new(stored.created_at, Layer::Working, traits, first).base();
        let begin = base.unwrap_or(first);
        if state.last_used <= begin.last_used {
            state.rested = begin.rested;
        }
        if traits.pinned {
            let since = state.last_used.max(begin.at);
            state.rested = state
                .rested
                .saturating_add(state.at().saturating_sub(since).max(0));
        }
        Self {
            traits,
            params,
            state,
            first,
            base,
            seen: seen.iter().collect(),
            late: false,
        }
    }

    fn begin(&self) -> Base {
        self.base.unwrap_or(self.first)
    }

    /// Takes in uses, which are in their order.
    fn take_in(&mut self, new: &[(uuid::Uuid, Event)], before: &Before) {
        for (call, event) in new {
            if self.seen.contains(call) {
                self.state.count(event);
            } else if event.at < self.begin().at {
                self.base.get_or_insert(self.first).take_in(
                    event,
                    self.traits,
                    self.params.at(event.at),
                );
                self.state.apply(event, self.traits, self.params);
                self.late = true;
            } else {
                self.late |= self.state.apply(event, self.traits, self.params);
                // In which order the stored one and this are to be taken is not known here.
                self.late |= event.at == before.at && event.at == before.last_used;
            }
        }
    }

    /// Takes what is a matter of order from all uses, if none of them is missing.
    fn replay(&mut self, mut events: Vec<(uuid::Uuid, Event)>) {
        let begin = self.begin();
        // Older ones are in the base, or were taken in by it.
        events.retain(|(call, event)| event.at >= begin.at || self.seen.contains(call));
        let uses = events.iter().filter(|(_, e)| e.gain > 0.0).count() as i64;
        self.late = begin.uses.saturating_add(uses) != self.state.uses;
        if !self.late {
            events.retain(|(call, _)| !self.seen.contains(call));
            let mut events: Vec<Event> = events.into_iter().map(|(_, event)| event).collect();
            self.state
                .replay(&begin, &mut events, self.traits, self.params);
        }
    }

    /// Dates the state, and where replays begin, at a moment, or just after it. Gives that moment, and where replays
    /// begin as it is stored.
    fn settle(
        &mut self,
        mut moment: i64,
        new: &[(uuid::Uuid, Event)],
        seen: &[uuid::Uuid],
        before: &Before,
    ) -> (i64, Option<Value>) {
        if moment == before.at && moment == before.last_used && before.uses > 1 {
            // So that what is folded lies before it.
            moment = moment.saturating_add(1);
        }
        let state = &mut self.state;
        state.advance(moment, self.traits, self.params.now());
        // Heat and number take in what waits when it is folded, for they do not care.
        state.heat = before.heat;
        state.heat.touch(moment, 0.0);
        state.uses = before.uses;
        let mut known: Vec<uuid::Uuid> = new.iter().map(|(call, _)| *call).collect();
        if self.base.is_some_and(|base| base.at >= moment) {
            let again: HashSet<&uuid::Uuid> = new.iter().map(|(call, _)| call).collect();
            known.extend(seen.iter().filter(|call| !again.contains(call)));
        }
        (moment, Some(base_json(&state.base(), &known)))
    }
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn layer_at(
    params_: Option<Array<'_, f64>>,
    kind: Option<&str>,
    importance: Option<f64>,
    pinned: Option<bool>,
    inert: Option<bool>,
    created_at: Option<TimestampWithTimeZone>,
    memory_layer: Option<&str>,
    heat_bytes: Option<&[u8]>,
    working_strength: Option<f64>,
    core_strength: Option<f64>,
    layer_name: Option<&str>,
    at: Option<TimestampWithTimeZone>,
) -> Report<&'static str> {
    let params = params(params_)?;
    let traits = traits(kind, importance, pinned, inert)?;
    let stored = Stored {
        created_at: stored_at(created_at)?,
        memory_layer,
        heat: heat_bytes,
        working: working_strength,
        core: core_strength,
        layer: layer_name,
        stability: Some(0.0),
        difficulty: Some(0.0),
        ..Stored::default()
    };
    let state = stored.state(&traits, &params)?;
    let moment = at.map_or(state.at(), micros);
    Ok(state.layer_at(moment, &traits, params.now()).name())
}

#[pg_extern(sql = false)]
fn layers(
    workspace: Uuid,
) -> Report<TableIterator<'static, (name!(memory_id, Uuid), name!(layer, &'static str))>> {
    let layers = uses::layers(spi::uuid(workspace))?.into_iter();
    Ok(TableIterator::new(
        layers.map(|(id, layer)| (spi::pg_uuid(id), layer.name())),
    ))
}

#[pg_extern(sql = false)]
fn layer_now(
    workspace: Uuid,
    id: Uuid,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Report<Option<&'static str>> {
    // SAFETY: the server keeps what describes the call, and the memory context that belongs to it, for longer than this
    // runs; nobody else puts anything there.
    let read = unsafe {
        let call = &mut *(*fcinfo).flinfo;
        if call.fn_extra.is_null() {
            let mut memory = PgMemoryContexts::For(call.fn_mcxt);
            call.fn_extra = memory.leak_and_drop_on_delete(None::<uses::Read>).cast();
        }
        &mut *call.fn_extra.cast::<Option<uses::Read>>()
    };
    let layer = uses::layer_of(spi::uuid(workspace), spi::uuid(id), read)?;
    Ok(layer.map(Layer::name))
}

/// Rows go straight into the result: thousands, each of next to no work, cost less than their way through an iterator.
#[pg_extern(sql = false)]
fn activations(
    ids: Option<Array<'_, Uuid>>,
    at: Option<TimestampWithTimeZone>,
    workspace: Option<Uuid>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Report<()> {
    // SAFETY: the server calls this with what it wants of a set, and keeps that until this returns.
    let result = unsafe {
        #[cfg(feature = "pg15")]
        pg_sys::SetSingleFuncCall(fcinfo, 0);
        #[cfg(not(feature = "pg15"))]
        pg_sys::InitMaterializedSRF(fcinfo, 0);
        &*(*fcinfo).resultinfo.cast::<pg_sys::ReturnSetInfo>()
    };
    let ids = ids.map(|ids| ids.iter().flatten().map(spi::uuid).collect());
    // SAFETY: the start of the running transaction.
    let now = || unsafe { pg_sys::GetCurrentTransactionStartTimestamp() };
    let at = at.map_or_else(now, micros);
    if at == i64::MIN || at == i64::MAX {
        return Err(
            Error::invalid("at is infinite", "Give a moment in time, or leave it out.").into(),
        );
    }
    if let Some(workspace) = search::workspace_of(workspace)? {
        let levels = uses::levels(workspace, ids, timestamp(at)?)?;
        // SAFETY: a row is formed as the function declares it, and then again and again with other values of the same
        // size in their places; the store keeps copies. Nothing in here wants to be dropped when the server raises an
        // error.
        unsafe {
            let nobody = [0u8; 16];
            let mut values = [
                pg_sys::Datum::from(nobody.as_ptr()),
                pg_sys::Datum::from(0u64),
            ];
            let mut nulls = [false; 2];
            #[cfg(feature = "pg18")]
            let row = pg_sys::heap_form_minimal_tuple(
                result.setDesc,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
                0,
            );
            #[cfg(not(feature = "pg18"))]
            let row = pg_sys::heap_form_minimal_tuple(
                result.setDesc,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
            let slot = pg_sys::MakeSingleTupleTableSlot(
                result.setDesc,
                &raw const pg_sys::TTSOpsMinimalTuple,
            );
            pg_sys::ExecStoreMinimalTuple(row, slot, false);
            // Both are of fixed length and end the row.
            let id = row
                .cast::<u8>()
                .add((*row).t_len as usize - 24)
                .cast::<[u8; 16]>();
            let level = id.add(1).cast::<f64>();
            for some in levels.chunks(1024) {
                pgrx::check_for_interrupts!();
                pg_sys::ffi::pg_guard_ffi_boundary(|| {
                    for (of, value) in some {
                        id.write(*of.as_bytes());
                        level.write(*value);
                        tuplestore_puttupleslot(result.setResult, slot);
                    }
                });
            }
            pg_sys::ExecDropSingleTupleTableSlot(slot);
        }
    }
    Ok(())
}

// Without a guard of its own: there is one around many rows.
unsafe extern "C-unwind" {
    fn tuplestore_puttupleslot(
        state: *mut pg_sys::Tuplestorestate,
        slot: *mut pg_sys::TupleTableSlot,
    );
}

#[pg_extern(sql = false)]
fn first_base(created_at: TimestampWithTimeZone, layer_name: &str) -> Report<JsonB> {
    let at = micros(created_at);
    Ok(JsonB(json!({
        "at": at,
        "working": 1.0,
        "core": 0.0,
        "layer": layer(Some(layer_name))?.name(),
        "uses": 1,
        "last_used": at,
    })))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn pairs(
    ids: Array<'_, Uuid>,
) -> TableIterator<'static, (name!(a, Uuid), name!(b, Uuid), name!(direction, i32))> {
    let ids: Rc<[Uuid]> = ids.iter().flatten().collect();
    // One by one: of many ids there are more pairs than memory holds.
    TableIterator::new((0..ids.len()).flat_map(move |n| {
        // Where many are equal, nothing comes for a long time.
        pgrx::check_for_interrupts!();
        let (first, ids) = (ids[n], Rc::clone(&ids));
        (n + 1..ids.len()).filter_map(move |m| {
            let second = ids[m];
            match first.as_bytes().cmp(second.as_bytes()) {
                Ordering::Less => Some((first, second, 1)),
                Ordering::Greater => Some((second, first, -1)),
                Ordering::Equal => None,
            }
        })
    }))
}

type LinkRow = (f64, f64, TimestampWithTimeZone, i32, bool);

/// A link after some more calls.
fn link_with(
    mut link: Option<Link>,
    times: Option<Array<'_, TimestampWithTimeZone>>,
    gains: Option<Array<'_, f64>>,
    linking: &Course<Linking>,
) -> Result<Option<LinkRow>, Error> {
    let mut calls: Vec<(i64, f64)> = match (times, gains) {
        (Some(times), Some(gains)) => times
            .iter()
            .zip(gains.iter())
            .filter_map(|(at, gain)| Some((micros(at?), gain?)))
            .collect(),
        _ => Vec::new(),
    };
    calls.sort_by(|a, b| links::order(*a, *b));
    let mut late = false;
    for (at, gain) in calls {
        let rules = linking.at(at);
        late |= links::add(&mut link, at, gain, rules.half_life_days * DAY, rules.prune);
    }
    link.map(|link| {
        Ok((
            link.forward,
            link.backward,
            timestamp(link.at)?,
            link.count,
            late,
        ))
    })
    .transpose()
}

fn stored_link(
    forward: Option<f64>,
    backward: Option<f64>,
    linked_at: Option<TimestampWithTimeZone>,
    count: Option<i32>,
) -> Option<Link> {
    Some(Link {
        forward: forward?,
        backward: backward?,
        at: micros(linked_at?),
        count: count.unwrap_or(1),
    })
}

/// What SQL before 0.13 calls, which knows no settings but those of now.
#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments, clippy::type_complexity)]
fn link_after(
    forward: Option<f64>,
    backward: Option<f64>,
    linked_at: Option<TimestampWithTimeZone>,
    count: Option<i32>,
    times: Option<Array<'_, TimestampWithTimeZone>>,
    gains: Option<Array<'_, f64>>,
    half_life_days: Option<f64>,
    prune: Option<f64>,
) -> Report<
    TableIterator<
        'static,
        (
            name!(forward, f64),
            name!(backward, f64),
            name!(linked_at, TimestampWithTimeZone),
            name!(count, i32),
            name!(late, bool),
        ),
    >,
> {
    let link = stored_link(forward, backward, linked_at, count);
    let course = Course::new(linking(None, half_life_days, prune));
    Ok(TableIterator::new(link_with(link, times, gains, &course)?))
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments, clippy::type_complexity)]
fn link_over_time(
    forward: Option<f64>,
    backward: Option<f64>,
    linked_at: Option<TimestampWithTimeZone>,
    count: Option<i32>,
    times: Option<Array<'_, TimestampWithTimeZone>>,
    gains: Option<Array<'_, f64>>,
    params_: Option<Array<'_, f64>>,
    half_life_days: Option<f64>,
    prune: Option<f64>,
) -> Report<
    TableIterator<
        'static,
        (
            name!(forward, f64),
            name!(backward, f64),
            name!(linked_at, TimestampWithTimeZone),
            name!(count, i32),
            name!(late, bool),
        ),
    >,
> {
    let link = stored_link(forward, backward, linked_at, count);
    let course = settings(params_, linking(None, half_life_days, prune))?.links;
    Ok(TableIterator::new(link_with(link, times, gains, &course)?))
}

#[pg_extern(sql = false)]
fn dynamics_over_time(workspace: Uuid) -> Report<Option<Vec<f64>>> {
    Ok(uses::over_time(spi::uuid(workspace))?)
}

#[pg_extern(sql = false)]
fn any_memories(workspace: Uuid) -> Report<bool> {
    Ok(uses::any_memories(spi::uuid(workspace))?)
}

#[pg_extern(sql = false)]
fn link_members_at(
    params_: Option<Array<'_, f64>>,
    members: Option<i32>,
    at: Option<TimestampWithTimeZone>,
) -> Report<i32> {
    let course = settings(params_, linking(members, None, None))?.links;
    let members = course.at(at.map_or(i64::MAX, micros)).members;
    Ok(i32::try_from(members).unwrap_or(i32::MAX))
}

#[pg_extern(sql = false)]
fn fold(workspace: Option<Uuid>, at_most: Option<i32>) -> Report<i32> {
    let workspace = workspace.ok_or_else(|| {
        Error::invalid(
            "workspace is NULL",
            "Name the workspace whose uses are to be folded.",
        )
    })?;
    Ok(uses::fold(spi::uuid(workspace), at_most.unwrap_or(10_000))?)
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn fold_calls(
    workspace: Option<Uuid>,
    at_most: Option<i32>,
    params_: Option<Array<'_, f64>>,
    members: Option<i32>,
    half_life_days: Option<f64>,
    prune: Option<f64>,
) -> Report<TableIterator<'static, (name!(calls, i32), name!(late_links, Vec<Uuid>))>> {
    let rules = settings(params_, linking(members, half_life_days, prune))?;
    let at_most = usize::try_from(at_most.unwrap_or(0)).unwrap_or(0);
    let folded = match workspace {
        Some(workspace) => uses::fold_calls(spi::uuid(workspace), at_most, &rules)?,
        None => None,
    };
    Ok(TableIterator::new(folded.into_iter().map(|folded| {
        (folded.calls, spi::pg_uuids(&folded.late_links))
    })))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn moved(
    workspace: Option<Uuid>,
    at: Option<TimestampWithTimeZone>,
    at_most: Option<i32>,
) -> Report<
    TableIterator<
        'static,
        (
            name!(workspaces, Vec<Uuid>),
            name!(ids, Vec<Uuid>),
            name!(olds, Vec<&'static str>),
            name!(news, Vec<&'static str>),
        ),
    >,
> {
    let at = at.map(micros).ok_or_else(|| {
        Error::invalid(
            "at is NULL",
            "Give the moment at which the layers are wanted.",
        )
    })?;
    let most = at_most.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(0));
    let moved = uses::moved(workspace.map(spi::uuid), at, most)?;
    let (workspaces, ids, olds, news) = columns_of(&moved);
    Ok(TableIterator::once((workspaces, ids, olds, news)))
}

/// Workspaces, ids, and the layers before and after.
fn columns_of(
    moved: &[uses::Moved],
) -> (Vec<Uuid>, Vec<Uuid>, Vec<&'static str>, Vec<&'static str>) {
    (
        moved.iter().map(|m| spi::pg_uuid(m.workspace)).collect(),
        moved.iter().map(|m| spi::pg_uuid(m.id)).collect(),
        moved.iter().map(|m| m.old.name()).collect(),
        moved.iter().map(|m| m.new.name()).collect(),
    )
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn moves(
    workspace: Option<Uuid>,
    at: Option<TimestampWithTimeZone>,
    at_most: Option<i32>,
    in_turns: Option<bool>,
    anew: Option<bool>,
) -> Report<
    TableIterator<
        'static,
        (
            name!(workspaces, Vec<Uuid>),
            name!(ids, Vec<Uuid>),
            name!(olds, Vec<&'static str>),
            name!(news, Vec<&'static str>),
            name!(complete, bool),
        ),
    >,
> {
    let workspace = workspace.map(spi::uuid);
    let at = at.map_or_else(
        // SAFETY: the start of the running transaction.
        || unsafe { pg_sys::GetCurrentTransactionStartTimestamp() },
        micros,
    );
    let most = at_most.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(0));
    let (moved, complete) = if in_turns == Some(true) {
        uses::moves(workspace, at, most, anew != Some(false))?
    } else {
        let mut moved = uses::moved(workspace, at, most.saturating_add(1))?;
        let complete = moved.len() <= most;
        moved.truncate(most);
        (moved, complete)
    };
    let (workspaces, ids, olds, news) = columns_of(&moved);
    Ok(TableIterator::once((workspaces, ids, olds, news, complete)))
}

#[pg_extern(sql = false)]
fn rebase(workspace: Option<Uuid>, id: Option<Uuid>, new_layer: Option<&str>) -> Report<()> {
    if let (Some(workspace), Some(id)) = (workspace, id) {
        uses::rebase(spi::uuid(workspace), spi::uuid(id), new_layer)?;
    }
    Ok(())
}

#[pg_extern(sql = false)]
fn said_again(workspace: Option<Uuid>, id: Option<Uuid>, recall_id: Option<Uuid>) -> Report<i32> {
    Ok(uses::note(Use {
        ids: vec![id],
        kind: "stored",
        gain: Some(1.0),
        rating: Some(3),
        at: None,
        recall_id,
        workspace,
    })?)
}

#[pg_extern(sql = false)]
fn touch(
    ids: Option<Vec<Option<Uuid>>>,
    kind: Option<&str>,
    gain: Option<f64>,
    at: Option<TimestampWithTimeZone>,
    recall_id: Option<Uuid>,
    workspace: Option<Uuid>,
) -> Report<i32> {
    let kind = kind.unwrap_or("used");
    if !matches!(kind, "used" | "shown") {
        return Err(Error::invalid(
            format!("kind is {:?}", shorten(kind)),
            "Known: used (it went into the answer) and shown (it was only returned). For ratings there are rate() and reinforce().",
        )
        .into());
    }
    if let Some(gain) = gain
        && !(0.0..=100.0).contains(&gain)
    {
        return Err(Error::invalid(
            format!("gain is {gain}"),
            "Give a number from 0 to 100; 1 is one use. To take credit back, call reinforce() with a value below 0.",
        )
        .into());
    }
    let used = kind == "used";
    Ok(uses::note(Use {
        ids: ids.unwrap_or_default(),
        kind: if used { "used" } else { "shown" },
        gain: gain.or(used.then_some(1.0)),
        rating: (used && gain != Some(0.0)).then_some(3),
        at,
        recall_id,
        workspace,
    })?)
}

#[pg_extern(sql = false)]
fn reinforce(
    ids: Option<Vec<Option<Uuid>>>,
    value: Option<f64>,
    at: Option<TimestampWithTimeZone>,
    recall_id: Option<Uuid>,
    workspace: Option<Uuid>,
) -> Report<i32> {
    let value = value.unwrap_or(1.0);
    if !(-1.0..=1.0).contains(&value) {
        return Err(Error::invalid(
            format!("value is {value}"),
            "Give a number from -1 (it was wrong) to 1 (it was vital).",
        )
        .into());
    }
    Ok(uses::note(Use {
        ids: ids.unwrap_or_default(),
        kind: "reinforced",
        gain: Some(value),
        rating: match value {
            v if v < 0.0 => Some(1),
            0.0 => None,
            v if v < 0.5 => Some(3),
            _ => Some(4),
        },
        at,
        recall_id,
        workspace,
    })?)
}

#[pg_extern(sql = false)]
fn rate(
    id: Option<Uuid>,
    rating: Option<i32>,
    at: Option<TimestampWithTimeZone>,
    recall_id: Option<Uuid>,
    workspace: Option<Uuid>,
) -> Report<Option<bool>> {
    let rating = match rating {
        Some(rating @ 1..=4) => u8::try_from(rating).unwrap_or(3),
        other => {
            return Err(Error::invalid(
                format!(
                    "rating is {}",
                    other.map_or("NULL".to_owned(), |r| r.to_string())
                ),
                "Give 1 (again), 2 (hard), 3 (good) or 4 (easy).",
            )
            .into());
        }
    };
    Ok(uses::rate(Use {
        ids: vec![id],
        kind: "rated",
        gain: Some(if rating >= 3 { 1.0 } else { 0.0 }),
        rating: Some(rating),
        at,
        recall_id,
        workspace,
    })?)
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments, clippy::type_complexity)]
fn recall(
    query_text: Option<String>,
    query_embedding: Option<Vector>,
    match_count: Option<i32>,
    filter: Option<RawJsonb>,
    types: Option<Vec<Option<String>>>,
    min_score: Option<f64>,
    explain: Option<bool>,
    include: Option<Vec<Option<String>>>,
    model: Option<String>,
    at: Option<TimestampWithTimeZone>,
    workspace: Option<Uuid>,
) -> Report<
    TableIterator<
        'static,
        (
            name!(id, Uuid),
            name!(content, String),
            name!(r#type, String),
            name!(score, f64),
            name!(importance, f64),
            name!(tags, Vec<String>),
            name!(metadata, RawJsonb),
            name!(speaker, Option<String>),
            name!(role, Option<String>),
            name!(session_id, Option<String>),
            name!(occurred_at, Option<TimestampWithTimeZone>),
            name!(created_at, TimestampWithTimeZone),
            name!(matched, Vec<String>),
            name!(explain, Option<JsonB>),
            name!(recall_id, Option<Uuid>),
        ),
    >,
> {
    let found = search::find(request(
        query_text,
        query_embedding,
        match_count,
        filter,
        types,
        min_score,
        explain,
        include,
        model,
        at,
        workspace,
        None,
        None,
    )?)?;
    let ids: Vec<uuid::Uuid> = found.hits.iter().map(|hit| hit.id).collect();
    let recall_id = uses::shown(&ids, found.shown_gain, workspace)?.map(spi::pg_uuid);
    Ok(TableIterator::new(found.hits.into_iter().map(move |hit| {
        let h: HitRow = hit_row(hit);
        (
            h.0, h.1, h.2, h.3, h.4, h.5, h.6, h.7, h.8, h.9, h.10, h.11, h.12, h.13, recall_id,
        )
    })))
}

/// The columns of a report, in their order.
fn counted(report: &uses::Report) -> (i64, i64, i64, i64, i64, i64, i64, bool) {
    let [a, b, c, d, e, f, g] = report.counts;
    (a, b, c, d, e, f, g, report.done)
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn consolidate(
    workspace: Option<Uuid>,
    at: Option<TimestampWithTimeZone>,
    dry_run: Option<bool>,
    batch_size: Option<i32>,
) -> Report<
    TableIterator<
        'static,
        (
            name!(folded, i64),
            name!(promoted, i64),
            name!(demoted, i64),
            name!(archived, i64),
            name!(forgotten, i64),
            name!(links_pruned, i64),
            name!(skipped, i64),
            name!(done, bool),
        ),
    >,
> {
    let dry_run = dry_run.unwrap_or(false);
    let report = uses::consolidate(workspace, at, dry_run, batch_size, None)?;
    Ok(TableIterator::once(counted(&report)))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn consolidate_batch(
    workspace: Option<Uuid>,
    at: Option<TimestampWithTimeZone>,
    batch_size: Option<i32>,
    anew: Option<bool>,
) -> Report<
    TableIterator<
        'static,
        (
            name!(folded, i64),
            name!(promoted, i64),
            name!(demoted, i64),
            name!(archived, i64),
            name!(forgotten, i64),
            name!(links_pruned, i64),
            name!(skipped, i64),
            name!(done, bool),
        ),
    >,
> {
    let turn = Some(anew != Some(false));
    let report = uses::consolidate(workspace, at, false, batch_size, turn)?;
    Ok(TableIterator::once(counted(&report)))
}

#[pg_extern(sql = false)]
fn consolidated_workspaces() -> Report<SetOfIterator<'static, Uuid>> {
    Ok(SetOfIterator::new(
        uses::consolidated()?.into_iter().map(spi::pg_uuid),
    ))
}

#[pg_extern(sql = false)]
fn configure(changes: Option<RawJsonb>, workspace: Option<Uuid>) -> Report<JsonB> {
    let changes = match changes.map(|json| json.parse()).transpose()? {
        Some(Value::Object(changes)) => changes,
        other => {
            return Err(Error::invalid(
                format!(
                    "changes must be an object, not {}",
                    other.unwrap_or(Value::Null)
                ),
                r#"For example {"decay": 0.4}. engram.configuration() shows what is in force."#,
            )
            .into());
        }
    };
    Ok(JsonB(uses::configure(changes, None, workspace)?))
}

#[pg_extern(sql = false)]
fn apply_preset(name: Option<&str>, workspace: Option<Uuid>) -> Report<JsonB> {
    Ok(JsonB(uses::apply_preset(
        name.unwrap_or("NULL"),
        workspace,
    )?))
}
