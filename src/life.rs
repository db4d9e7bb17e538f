//! The SQL functions over the state of memories: arguments in, errors out. What they compute is in
//! [`crate::model::memory`] and [`crate::model::links`]; what they write is in [`crate::uses`].

use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;
use pgrx::{JsonB, Uuid};
use serde_json::{Value, json};

use crate::api::{HitRow, Report, hit_row, request};
use crate::error::Error;
use crate::model::fsrs::Rating;
use crate::model::heat::Heat;
use crate::model::layers::Layer;
use crate::model::links::{self, Link};
use crate::model::memory::{self, Base, Event, Params, State, TYPES, Traits};
use crate::raw::RawJsonb;
use crate::uses::{self, Use};
use crate::vector::Vector;
use crate::{search, spi};

fn broken(what: &str) -> Error {
    Error::NotReady {
        message: format!("engram.memory_state holds a {what} that this version cannot read"),
        hint: "Restore the row, or set the column to NULL: then the memory counts as never used."
            .to_owned(),
    }
}

fn params(values: Option<Array<'_, f64>>) -> Result<Params, Error> {
    let values: Vec<f64> = values.iter().flat_map(|v| v.iter()).flatten().collect();
    Params::from_slice(&values).ok_or_else(|| Error::NotReady {
        message: "engram.settings has no row of defaults".to_owned(),
        hint: "Put it back with: SELECT engram.setup();".to_owned(),
    })
}

fn traits(
    kind: Option<&str>,
    importance: Option<f64>,
    pinned: Option<bool>,
    inert: Option<bool>,
) -> Result<Traits, Error> {
    let kind = kind.unwrap_or("factual");
    Ok(Traits {
        kind: TYPES.iter().position(|t| *t == kind).ok_or_else(|| {
            Error::invalid(
                format!("unknown memory type {kind:?}"),
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
                format!("unknown layer {name:?}"),
                "Known layers: working, core, archive.",
            )
        })
    })
}

fn micros(at: TimestampWithTimeZone) -> i64 {
    at.into()
}

fn timestamp(micros: i64) -> Result<TimestampWithTimeZone, Error> {
    TimestampWithTimeZone::try_from(micros).map_err(|_| {
        Error::invalid(
            format!("a moment {micros} µs from the year 2000 is out of range"),
            "Give moments that a timestamptz can hold.",
        )
    })
}

fn heat(bytes: Option<&[u8]>) -> Result<Option<Heat>, Error> {
    bytes
        .map(|bytes| Heat::decode(bytes).map_err(|_| broken("heat")))
        .transpose()
}

fn events(
    times: Option<Array<'_, TimestampWithTimeZone>>,
    gains: Option<Array<'_, f64>>,
    ratings: Option<Array<'_, i16>>,
) -> Vec<Event> {
    let (Some(times), Some(gains), Some(ratings)) = (times, gains, ratings) else {
        return Vec::new();
    };
    times
        .iter()
        .zip(gains.iter())
        .zip(ratings.iter())
        .filter_map(|((at, gain), rating)| {
            Some(Event {
                at: micros(at?),
                gain: gain?,
                rating: rating.and_then(|r| Rating::from_number(r.into())),
            })
        })
        .collect()
}

/// A state row as it is stored. What an older version has not filled in is what a memory begins with;
/// uses that it only counted are taken as spread evenly between the first and the last.
#[allow(clippy::too_many_arguments)]
fn stored(
    created_at: i64,
    memory_layer: Option<&str>,
    access_count: Option<i64>,
    last_accessed_at: Option<TimestampWithTimeZone>,
    heat_bytes: Option<&[u8]>,
    working: Option<f64>,
    core: Option<f64>,
    layer_name: Option<&str>,
    stability: Option<f64>,
    difficulty: Option<f64>,
    traits: &Traits,
    params: &Params,
) -> Result<State, Error> {
    let mut state = State::new(
        created_at,
        layer(layer_name.or(memory_layer))?,
        traits,
        params,
    );
    let count = access_count.unwrap_or(1).max(1);
    match heat(heat_bytes)? {
        Some(heat) => state.heat = heat,
        None if count > 1 => {
            let last = last_accessed_at.map_or(created_at, micros).max(created_at);
            // More than this many cannot be told apart.
            let steps = (count - 1).min(64);
            let gain = (count - 1) as f64 / steps as f64;
            for i in 1..=steps {
                let part = (last - created_at) as f64 * i as f64 / steps as f64;
                state.heat.touch(created_at + part as i64, gain);
            }
        }
        None => {}
    }
    state.working = working.unwrap_or(state.working);
    state.core = core.unwrap_or(state.core);
    state.stability = stability.unwrap_or(state.stability);
    state.difficulty = difficulty.unwrap_or(state.difficulty);
    state.uses = count;
    state.last_used = last_accessed_at.map_or(created_at, micros);
    Ok(state)
}

fn base_json(base: &Base) -> Value {
    json!({
        "at": base.at,
        "working": base.working,
        "core": base.core,
        "layer": base.layer.name(),
        "stability": base.stability,
        "difficulty": base.difficulty,
        "uses": base.uses,
        "last_used": base.last_used,
    })
}

fn base_from(value: &Value, first_stability: f64) -> Option<Base> {
    Some(Base {
        at: value["at"].as_i64()?,
        working: value["working"].as_f64()?,
        core: value["core"].as_f64()?,
        layer: Layer::parse(value["layer"].as_str()?)?,
        stability: value["stability"].as_f64().unwrap_or(first_stability),
        difficulty: value["difficulty"]
            .as_f64()
            .unwrap_or_else(|| memory::first_difficulty()),
        uses: value["uses"].as_i64()?,
        last_used: value["last_used"].as_i64()?,
    })
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments, clippy::type_complexity)]
fn state_at(
    params_: Option<Array<'_, f64>>,
    kind: Option<&str>,
    importance: Option<f64>,
    pinned: Option<bool>,
    inert: Option<bool>,
    created_at: TimestampWithTimeZone,
    memory_layer: Option<&str>,
    access_count: Option<i64>,
    last_accessed_at: Option<TimestampWithTimeZone>,
    heat_bytes: Option<&[u8]>,
    working_strength: Option<f64>,
    core_strength: Option<f64>,
    layer_name: Option<&str>,
    stability: Option<f64>,
    difficulty: Option<f64>,
    times: Option<Array<'_, TimestampWithTimeZone>>,
    gains: Option<Array<'_, f64>>,
    ratings: Option<Array<'_, i16>>,
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
            name!(late, bool),
            name!(base, JsonB),
        ),
    >,
> {
    let params = params(params_)?;
    let traits = traits(kind, importance, pinned, inert)?;
    let mut state = stored(
        micros(created_at),
        memory_layer,
        access_count,
        last_accessed_at,
        heat_bytes,
        working_strength,
        core_strength,
        layer_name,
        stability,
        difficulty,
        &traits,
        &params,
    )?;
    let mut events = events(times, gains, ratings);
    events.sort_by(Event::order);
    let mut late = false;
    for event in &events {
        late |= state.apply(event, &traits, &params);
    }
    let moment = at.map_or(state.at(), micros).max(state.at());
    if settle.unwrap_or(false) {
        state.advance(moment, &traits, &params);
    }
    let (working, core) = state.strengths_at(moment, &traits, &params);
    Ok(TableIterator::once((
        state.layer_at(moment, &traits, &params).name(),
        state.heat.encode().to_vec(),
        working,
        core,
        state.stability,
        state.difficulty,
        state.uses,
        timestamp(state.last_used)?,
        state.retention_at(moment, &traits, &params),
        late,
        JsonB(base_json(&state.base())),
    )))
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments, clippy::type_complexity)]
fn replay(
    params_: Option<Array<'_, f64>>,
    kind: Option<&str>,
    importance: Option<f64>,
    pinned: Option<bool>,
    inert: Option<bool>,
    created_at: TimestampWithTimeZone,
    base: Option<JsonB>,
    heat_bytes: Option<&[u8]>,
    access_count: Option<i64>,
    times: Option<Array<'_, TimestampWithTimeZone>>,
    gains: Option<Array<'_, f64>>,
    ratings: Option<Array<'_, i16>>,
) -> Report<
    TableIterator<
        'static,
        (
            name!(layer, &'static str),
            name!(stability, f64),
            name!(difficulty, f64),
        ),
    >,
> {
    let params = params(params_)?;
    let traits = traits(kind, importance, pinned, inert)?;
    let created = micros(created_at);
    let mut state = State::new(created, Layer::Working, &traits, &params);
    if let Some(heat) = heat(heat_bytes)? {
        state.heat = heat;
    }
    let base = match base {
        Some(JsonB(value)) => base_from(&value, State::first_stability(&traits, &params))
            .ok_or_else(|| broken("base"))?,
        None => State::new(created, Layer::Working, &traits, &params).base(),
    };
    let mut events = events(times, gains, ratings);
    // Older ones are in the base, or came too late for it.
    events.retain(|e| e.at >= base.at);
    let uses = events.iter().filter(|e| e.gain > 0.0).count() as i64;
    if base.uses + uses != access_count.unwrap_or(1) {
        return Ok(TableIterator::new(Vec::new()));
    }
    state.replay(&base, &mut events, &traits, &params);
    Ok(TableIterator::new(vec![(
        state.layer.name(),
        state.stability,
        state.difficulty,
    )]))
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn layer_at(
    params_: Option<Array<'_, f64>>,
    kind: Option<&str>,
    importance: Option<f64>,
    pinned: Option<bool>,
    inert: Option<bool>,
    created_at: TimestampWithTimeZone,
    memory_layer: Option<&str>,
    heat_bytes: Option<&[u8]>,
    working_strength: Option<f64>,
    core_strength: Option<f64>,
    layer_name: Option<&str>,
    at: Option<TimestampWithTimeZone>,
) -> Report<&'static str> {
    let params = params(params_)?;
    let traits = traits(kind, importance, pinned, inert)?;
    let state = stored(
        micros(created_at),
        memory_layer,
        None,
        None,
        heat_bytes,
        working_strength,
        core_strength,
        layer_name,
        Some(0.0),
        Some(0.0),
        &traits,
        &params,
    )?;
    let moment = at.map_or(state.at(), micros);
    Ok(state.layer_at(moment, &traits, &params).name())
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
    let mut calls: Vec<(i64, f64)> = match (times, gains) {
        (Some(times), Some(gains)) => times
            .iter()
            .zip(gains.iter())
            .filter_map(|(at, gain)| Some((micros(at?), gain?)))
            .collect(),
        _ => Vec::new(),
    };
    calls.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut link = match (forward, backward, linked_at) {
        (Some(forward), Some(backward), Some(at)) => Some(Link {
            forward,
            backward,
            at: micros(at),
            count: count.unwrap_or(1),
        }),
        _ => None,
    };
    let half_life = half_life_days.unwrap_or(30.0) * 86_400e6;
    let mut late = false;
    for (at, gain) in calls {
        late |= links::add(&mut link, at, gain, half_life, prune.unwrap_or(0.0));
    }
    let Some(link) = link else {
        return Ok(TableIterator::new(Vec::new()));
    };
    Ok(TableIterator::new(vec![(
        link.forward,
        link.backward,
        timestamp(link.at)?,
        link.count,
        late,
    )]))
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
fn rebase(workspace: Option<Uuid>, id: Option<Uuid>, new_layer: Option<&str>) -> Report<()> {
    if let (Some(workspace), Some(id)) = (workspace, id) {
        uses::rebase(spi::uuid(workspace), spi::uuid(id), new_layer)?;
    }
    Ok(())
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
            format!("kind is {kind:?}"),
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
) -> Report<bool> {
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
    Ok(uses::note(Use {
        ids: vec![id],
        kind: "rated",
        gain: Some(if rating >= 3 { 1.0 } else { 0.0 }),
        rating: Some(rating),
        at,
        recall_id,
        workspace,
    })? > 0)
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
    let hits = search::search(request(
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
    )?)?;
    let ids: Vec<uuid::Uuid> = hits.iter().map(|hit| hit.id).collect();
    let recall_id = uses::shown(&ids, workspace)?.map(spi::pg_uuid);
    Ok(TableIterator::new(hits.into_iter().map(move |hit| {
        let h: HitRow = hit_row(hit);
        (
            h.0, h.1, h.2, h.3, h.4, h.5, h.6, h.7, h.8, h.9, h.10, h.11, h.12, h.13, recall_id,
        )
    })))
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
    let report = uses::consolidate(workspace, at, dry_run.unwrap_or(false), batch_size)?;
    let [a, b, c, d, e, f, g] = report.counts;
    Ok(TableIterator::once((a, b, c, d, e, f, g, report.done)))
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
