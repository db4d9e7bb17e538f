//! What other memory systems export, as lines of ours. Shapes as their documentation and data show them;
//! ids are made of theirs and the workspace, so that an import that is repeated finds what it stored.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::shape::to_base64;
use super::{Line, MAX_LINES};
use crate::api::shorten;
use crate::error::{Error, Result};
use crate::model::heat::HeatSum;

/// Whose export it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Lines of `export()`.
    Engram,
    /// Tables of engramai's SQLite file, as `sqlite3 -json` prints them.
    Engramai,
    /// Memories of mem0 as `get_all` or its export gives them, and rows of its history.
    Mem0,
    /// The graph of the reference memory server of the Model Context Protocol.
    Mcp,
}

/// Microseconds from 1970 to 2000, where PostgreSQL counts from.
const EPOCH: i64 = 946_684_800_000_000;
const SECOND: f64 = 1e6;
const TABLES: [&str; 7] = [
    "memories",
    "access_log",
    "hebbian_links",
    "graph_links",
    "entities",
    "memory_entities",
    "memory_embeddings",
];

impl Format {
    /// By the name that a caller gives.
    pub fn parse(name: &str) -> Result<Self> {
        Ok(match name {
            "engram" => Self::Engram,
            "engramai" => Self::Engramai,
            "mem0" => Self::Mem0,
            "mcp" => Self::Mcp,
            _ => {
                return Err(Error::invalid(
                    format!("unknown format {:?}", shorten(name)),
                    "Known: engram, engramai, mem0, mcp. Leave it out to have it found by shape.",
                ));
            }
        })
    }

    /// By the shape of the first object.
    pub fn of(values: &[Value]) -> Option<Self> {
        let first = values.iter().find_map(Value::as_object)?;
        let has = |key: &str| first.contains_key(key);
        let entry = |key: &str| {
            first
                .get(key)
                .and_then(|v| v.get(0))
                .unwrap_or(&Value::Null)
        };
        if has("engram") || has("kind") {
            Some(Self::Engram)
        } else if has("memory_type")
            || has("hebbian_links")
            || has("access_log")
            || entry("memories").get("memory_type").is_some()
        {
            Some(Self::Engramai)
        } else if has("results")
            || has("history")
            || has("memory")
            || has("memory_id") && has("event")
            || entry("memories").get("memory").is_some()
        {
            Some(Self::Mem0)
        } else if has("entities")
            || matches!(
                first.get("type").and_then(Value::as_str),
                Some("entity" | "relation")
            )
        {
            Some(Self::Mcp)
        } else {
            None
        }
    }
}

/// Bytes that a conversion may write of what stands in the data once: more than this is no jsonb anyway.
const MOST_COPIED: usize = 1 << 28;

/// What is left of [`MOST_COPIED`].
struct Room(usize);

impl Room {
    fn new() -> Self {
        Self(MOST_COPIED)
    }

    /// Takes room for so many copies of so many bytes; why not, where there is none.
    fn take(&mut self, copies: usize, bytes: usize) -> std::result::Result<(), String> {
        let left = self.0.checked_sub(copies.saturating_mul(bytes));
        self.0 = left.ok_or("what is to be copied of the data is too much; split it")?;
        Ok(())
    }
}

/// Whether there are more lines than one call may have, so that the others need not be made.
fn full(lines: &[Line]) -> bool {
    lines.len() > MAX_LINES
}

/// Converts; what cannot be read becomes a line that says why. Ends early where there are too many lines.
pub fn lines(format: Format, values: Vec<Value>, workspace: Uuid, now: i64) -> Vec<Line> {
    match format {
        Format::Engram => Vec::new(),
        Format::Engramai => engramai(values, workspace),
        Format::Mem0 => mem0(values, workspace, now),
        Format::Mcp => mcp(values, workspace),
    }
}

fn good(kind: &str, content: Value) -> Line {
    let content = match content {
        // What is not known is left out.
        Value::Object(map) => Ok(map.into_iter().filter(|(_, v)| !v.is_null()).collect()),
        other => Err(format!("not an object: {}", shorten(&other.to_string()))),
    };
    Line {
        kind: kind.to_owned(),
        content,
    }
}

fn bad(kind: &str, problem: impl Into<String>) -> Line {
    Line {
        kind: kind.to_owned(),
        content: Err(problem.into()),
    }
}

/// Whether an object holds rows under one of these keys, rather than being one, which has an id.
fn holds(map: &Map<String, Value>, keys: &[&str]) -> bool {
    let row = map.contains_key("id");
    keys.iter()
        .any(|key| map.get(*key).is_some_and(|rows| rows.is_array() || !row))
}

/// The rows under a key; what is there and is no array becomes a line that says so.
fn rows_of(map: &mut Map<String, Value>, key: &str, lines: &mut Vec<Line>) -> Vec<Value> {
    match map.remove(key) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(rows)) => rows,
        Some(other) => {
            let other = shorten(&other.to_string());
            lines.push(bad(
                "unknown",
                format!("{key} must be an array, not {other}"),
            ));
            Vec::new()
        }
    }
}

/// The text under a key; empty is none, numbers are text too.
fn text<'a>(row: &'a Value, key: &str) -> Option<&'a str> {
    row.get(key)?.as_str().filter(|t| !t.is_empty())
}

/// An id of theirs as one of ours.
fn made(workspace: Uuid, whose: &str, id: &str) -> Uuid {
    Uuid::new_v5(&workspace, format!("{whose}:{id}").as_bytes())
}

/// Microseconds since 2000 of seconds since 1970.
fn moment(seconds: f64) -> Option<i64> {
    // The years 1 to 9999.
    (-6.2e10..2.5e11)
        .contains(&seconds)
        .then(|| (seconds * SECOND).round() as i64 - EPOCH)
}

/// A moment in ISO 8601, UTC.
fn iso(at: i64) -> String {
    let micros = at.saturating_add(EPOCH);
    let (days, rest) = (
        micros.div_euclid(86_400_000_000),
        micros.rem_euclid(86_400_000_000),
    );
    // The proleptic Gregorian calendar in years that begin in March, from 0000-03-01.
    let z = days + 719_468;
    let (era, day_of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let m = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * m + 2) / 5 + 1;
    let month = if m < 10 { m + 3 } else { m - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let seconds = rest / 1_000_000;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        rest % 1_000_000
    )
}

/// A time: seconds since 1970, or text that PostgreSQL will read.
fn time(row: &Value, key: &str) -> Value {
    match row.get(key) {
        Some(Value::Number(n)) => n
            .as_f64()
            .and_then(moment)
            .map_or(Value::Null, |at| iso(at).into()),
        Some(Value::String(text)) if !text.is_empty() => text.as_str().into(),
        _ => Value::Null,
    }
}

fn number(row: &Value, key: &str) -> Option<f64> {
    row.get(key)?.as_f64()
}

// --- engramai ------------------------------------------------------------------------------------

/// What hangs on a memory, if this is the first of its id.
fn hanging<'v>(on: &BTreeMap<&str, Vec<&'v Value>>, id: &str, first: bool) -> Vec<&'v Value> {
    on.get(id).filter(|_| first).cloned().unwrap_or_default()
}

fn engramai(values: Vec<Value>, workspace: Uuid) -> Vec<Line> {
    let mut tables: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    let mut lines = Vec::new();
    for value in values {
        let Value::Object(mut map) = value else {
            lines.push(bad("unknown", "a row must be an object"));
            continue;
        };
        if !holds(&map, &TABLES) {
            tables
                .entry("memories")
                .or_default()
                .push(Value::Object(map));
            continue;
        }
        for table in TABLES {
            let rows = rows_of(&mut map, table, &mut lines);
            tables.entry(table).or_default().extend(rows);
        }
    }
    let rows = |table: &str| tables.get(table).map_or(&[][..], Vec::as_slice);
    let id = |hex: &str| made(workspace, "engramai", hex).to_string();
    let by_memory = |table: &str, key: &str| {
        let mut found: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for row in rows(table) {
            if let Some(memory) = text(row, key) {
                found.entry(memory).or_default().push(row);
            }
        }
        found
    };
    let known: BTreeSet<&str> = rows("memories")
        .iter()
        .filter_map(|m| text(m, "id"))
        .collect();
    let uses = by_memory("access_log", "memory_id");
    let graph = by_memory("graph_links", "memory_id");
    let mentions = by_memory("memory_entities", "memory_id");
    let embeddings = by_memory("memory_embeddings", "memory_id");
    let names: BTreeMap<String, &str> = rows("entities")
        .iter()
        .filter_map(|e| Some((e.get("id")?.to_string(), text(e, "name")?)))
        .collect();

    let mut room = Room::new();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for row in rows("memories") {
        if full(&lines) {
            return lines;
        }
        let (Some(hex), Some(content)) = (text(row, "id"), text(row, "content")) else {
            lines.push(bad(
                "memory",
                format!(
                    "a memory needs id and content: {}",
                    shorten(&row.to_string())
                ),
            ));
            continue;
        };
        let mut metadata = match row.get("metadata") {
            Some(Value::Object(map)) => map.clone(),
            Some(Value::String(json)) if !json.is_empty() => match serde_json::from_str(json) {
                Ok(Value::Object(map)) => map,
                _ => Map::from_iter([("metadata".to_owned(), json.as_str().into())]),
            },
            _ => Map::new(),
        };
        if let Some(namespace) = text(row, "namespace").filter(|n| *n != "default") {
            metadata.insert("namespace".to_owned(), namespace.into());
        }
        metadata.insert("engramai_id".to_owned(), hex.into());
        // Of memories with the same id the first one is stored, and has all that hangs on it.
        let first = seen.insert(hex);
        let mut entities = Vec::new();
        for link in hanging(&graph, hex, first) {
            if full(&lines) {
                return lines;
            }
            let relation = text(link, "relation").unwrap_or("mentions");
            match text(link, "node_id") {
                Some(node) if known.contains(node) && node != hex => lines.push(good(
                    "link",
                    json!({"source": id(hex), "target": id(node), "relation": if relation == "mentions" { "related" } else { relation }}),
                )),
                Some(node) => entities.push(json!({"name": node, "relation": relation})),
                None => {}
            }
        }
        let mut problem = None;
        for link in hanging(&mentions, hex, first) {
            let name = link
                .get("entity_id")
                .and_then(|e| names.get(&e.to_string()));
            if let Some(name) = name {
                match room.take(1, name.len()) {
                    Ok(()) => entities.push(json!({"name": name})),
                    Err(why) => problem = Some(why),
                }
            }
        }
        if let Some(problem) = problem {
            lines.push(bad("memory", problem));
            continue;
        }
        let embeddings: Vec<Value> = hanging(&embeddings, hex, first)
            .into_iter()
            .filter_map(|row| {
                // Vectors as text; what sqlite3 prints of binary ones is not to be read.
                let vector = text(row, "embedding").filter(|v| v.starts_with('['))?;
                Some(json!({"model": text(row, "model")?, "embedding": vector.replace(' ', "")}))
            })
            .collect();
        let contradictions = |key: &str| {
            let ids: Vec<String> = text(row, key)
                .unwrap_or_default()
                .split(',')
                .map(str::trim)
                .filter(|hex| !hex.is_empty())
                .map(id)
                .collect();
            if ids.is_empty() {
                Value::Null
            } else {
                ids.into()
            }
        };
        let pinned = number(row, "pinned").is_some_and(|p| p != 0.0) || row["pinned"] == true;
        let layer = text(row, "layer").unwrap_or("working");
        let (state, used) = life(row, &hanging(&uses, hex, first), layer, workspace, hex);
        lines.push(good(
            "memory",
            json!({
                "id": id(hex),
                "content": content,
                "summary": text(row, "summary"),
                "type": text(row, "memory_type").unwrap_or("factual"),
                "importance": row.get("importance").filter(|v| !v.is_null()),
                "layer": layer,
                "pinned": pinned,
                "metadata": metadata,
                "source": text(row, "source"),
                "occurred_at": time(row, "occurred_at"),
                "superseded_by": text(row, "superseded_by").map(id),
                "contradicts": contradictions("contradicts"),
                "contradicted_by": contradictions("contradicted_by"),
                "deleted_at": time(row, "deleted_at"),
                "created_at": time(row, "created_at"),
                "entities": if entities.is_empty() { Value::Null } else { entities.into() },
                "embeddings": if embeddings.is_empty() { Value::Null } else { embeddings.into() },
                "state": state,
                "uses": used,
            }),
        ));
    }
    for hex in uses.keys().filter(|hex| !known.contains(*hex)) {
        if full(&lines) {
            return lines;
        }
        lines.push(bad(
            "uses",
            format!(
                "access_log has uses of memory {:?}, which is not in the same data",
                shorten(hex)
            ),
        ));
    }
    hebbian(rows("hebbian_links"), &uses, &mut lines, &id);
    lines
}

/// The state of a memory and its uses. Theirs changes by jobs and holds in between; ours is of a moment and
/// fades from there. That moment is the latest that theirs can be of.
fn life(row: &Value, calls: &[&Value], layer: &str, workspace: Uuid, hex: &str) -> (Value, Value) {
    let Some(created) = number(row, "created_at").and_then(moment) else {
        return (Value::Null, Value::Null);
    };
    let mut times: Vec<i64> = calls
        .iter()
        .filter_map(|call| moment(number(call, "accessed_at")?))
        .collect();
    times.sort_unstable();
    // Storing it is the first use; theirs writes that into the log as well.
    if times
        .first()
        .is_some_and(|at| at.abs_diff(created) < 1_000_000)
    {
        times.remove(0);
    }
    let mut heat = HeatSum::new(created, 1.0);
    for at in &times {
        heat.touch(*at, 1.0);
    }
    let last_used = times.last().map_or(created, |at| (*at).max(created));
    let consolidated = number(row, "last_consolidated")
        .and_then(moment)
        .unwrap_or(created);
    let at = consolidated.max(last_used + i64::from(!times.is_empty()));
    heat.touch(at, 0.0);
    let working = number(row, "working_strength").unwrap_or(1.0);
    let core = number(row, "core_strength").unwrap_or(0.0);
    let count = times.len() + 1;
    let used: Vec<Value> = times
        .iter()
        .enumerate()
        .map(|(n, at)| {
            let id = made(workspace, "engramai use", &format!("{hex} {at} {n}"));
            json!({"id": id.to_string(), "at": iso(*at), "kind": "used", "gain": 1, "rating": 3})
        })
        .collect();
    let state = json!({
        "access_count": count,
        "last_accessed_at": iso(last_used),
        "heat": to_base64(&heat.dithered().encode()),
        "working_strength": working,
        "core_strength": core,
        "layer": layer,
        "base": {"at": at, "working": working, "core": core, "layer": layer, "uses": count, "last_used": last_used},
    });
    let used = if used.is_empty() {
        Value::Null
    } else {
        used.into()
    };
    (state, used)
}

/// Theirs are two rows a pair, of strength 0 until the third call; ours is one, of two masses.
fn hebbian(
    rows: &[Value],
    uses: &BTreeMap<&str, Vec<&Value>>,
    lines: &mut Vec<Line>,
    id: &dyn Fn(&str) -> String,
) {
    struct Pair {
        strength: f64,
        count: f64,
        forward: f64,
        backward: f64,
        at: f64,
    }
    let mut pairs: BTreeMap<(String, String), Pair> = BTreeMap::new();
    let last: HashMap<&str, f64> = uses
        .iter()
        .map(|(hex, calls)| {
            let times = calls.iter().filter_map(|call| number(call, "accessed_at"));
            (*hex, times.fold(f64::NEG_INFINITY, f64::max))
        })
        .collect();
    let last = |hex: &str| last.get(hex).copied().unwrap_or(f64::NEG_INFINITY);
    for row in rows {
        if full(lines) {
            return;
        }
        let (Some(source), Some(target)) = (text(row, "source_id"), text(row, "target_id")) else {
            lines.push(bad(
                "pair",
                format!(
                    "a link needs source_id and target_id: {}",
                    shorten(&row.to_string())
                ),
            ));
            continue;
        };
        if source == target {
            continue;
        }
        let (a, b) = (id(source), id(target));
        let swapped = a > b;
        let key = if swapped { (b, a) } else { (a, b) };
        let get = |key: &str| {
            number(row, key)
                .filter(|x| x.is_finite())
                .unwrap_or(0.0)
                .max(0.0)
        };
        let (mut forward, mut backward) = (get("temporal_forward"), get("temporal_backward"));
        if swapped {
            std::mem::swap(&mut forward, &mut backward);
        }
        // The latest moment at which both can have been used together.
        let at = last(source).min(last(target)).max(get("created_at"));
        let pair = pairs.entry(key).or_insert(Pair {
            strength: 0.0,
            count: 0.0,
            forward: 0.0,
            backward: 0.0,
            at,
        });
        pair.strength = pair.strength.max(get("strength"));
        pair.count = pair.count.max(get("coactivation_count"));
        pair.forward = pair.forward.max(forward);
        pair.backward = pair.backward.max(backward);
        pair.at = pair.at.max(at);
    }
    for ((a, b), pair) in pairs {
        if full(lines) {
            return;
        }
        let Some(at) = moment(pair.at) else {
            lines.push(bad(
                "pair",
                "a link has neither created_at nor uses of both its ends",
            ));
            continue;
        };
        // Strength is 1 - e^-mass; 1 itself would take an infinite one.
        let mass = if pair.strength > 0.0 {
            -(-pair.strength.min(0.999)).ln_1p()
        } else {
            0.2 * pair.count.max(1.0)
        };
        let known = pair.forward + pair.backward;
        let share = if known > 0.0 {
            pair.forward / known
        } else {
            0.5
        };
        lines.push(good(
            "pair",
            json!({"a": a, "b": b, "forward": mass * share, "backward": mass * (1.0 - share),
                   "linked_at": iso(at), "count": pair.count.clamp(1.0, 1e9) as i64}),
        ));
    }
}

// --- mem0 ----------------------------------------------------------------------------------------

fn mem0(values: Vec<Value>, workspace: Uuid, now: i64) -> Vec<Line> {
    let (mut memories, mut history, mut relations) = (Vec::new(), Vec::new(), Vec::new());
    let mut lines = Vec::new();
    for value in values {
        match value {
            Value::Object(mut map)
                if holds(&map, &["results", "memories", "history", "relations"]) =>
            {
                memories.extend(rows_of(&mut map, "results", &mut lines));
                memories.extend(rows_of(&mut map, "memories", &mut lines));
                history.extend(rows_of(&mut map, "history", &mut lines));
                relations.extend(rows_of(&mut map, "relations", &mut lines));
            }
            row if row.get("memory_id").is_some() && row.get("event").is_some() => {
                history.push(row)
            }
            row => memories.push(row),
        }
    }
    let mut past: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for row in &history {
        if let Some(id) = text(row, "memory_id") {
            past.entry(id.to_owned()).or_default().push(row);
        }
    }
    for rows in past.values_mut() {
        rows.sort_by_key(|row| {
            let order = match text(row, "event") {
                Some("ADD") => 0,
                Some("DELETE") => 2,
                _ => 1,
            };
            let at = text(row, "updated_at").or_else(|| text(row, "created_at"));
            (order, at.unwrap_or_default().to_owned())
        });
    }
    // A history without its memories tells what they were.
    let there: BTreeSet<String> = memories
        .iter()
        .filter_map(|m| text(m, "id"))
        .map(str::to_owned)
        .collect();
    for (id, rows) in past.iter().filter(|(id, _)| !there.contains(*id)) {
        let gone = rows.iter().any(|row| text(row, "event") == Some("DELETE"));
        let last = rows.iter().rev().find_map(|row| text(row, "new_memory"));
        match last.filter(|_| !gone) {
            Some(content) => memories.push(json!({"id": id, "memory": content,
                "created_at": rows[0].get("created_at"), "updated_at": rows.last().and_then(|r| r.get("updated_at")),
                "actor_id": rows[0].get("actor_id"), "role": rows[0].get("role")})),
            None => lines.push(bad("memory", format!("memory {:?} was deleted there", shorten(id)))),
        }
    }
    let mut room = Room::new();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for row in &memories {
        if full(&lines) {
            return lines;
        }
        let (Some(theirs), Some(content)) = (
            text(row, "id"),
            text(row, "memory").or_else(|| text(row, "text")),
        ) else {
            lines.push(bad(
                "memory",
                format!(
                    "a memory needs id and memory: {}",
                    shorten(&row.to_string())
                ),
            ));
            continue;
        };
        let id = match Uuid::try_parse(theirs) {
            Ok(id) => id,
            Err(_) => made(workspace, "mem0", theirs),
        };
        let mut metadata = row
            .get("metadata")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        for key in ["user_id", "app_id"] {
            if let Some(value) = text(row, key) {
                metadata
                    .entry(format!("mem0_{key}"))
                    .or_insert(value.into());
            }
        }
        let tags: Vec<&str> = row
            .get("categories")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        // Of memories with the same id the first one is stored, and has their history.
        let steps = past.get(theirs).filter(|_| seen.insert(theirs));
        let steps: Vec<&Value> = steps
            .into_iter()
            .flatten()
            .copied()
            .filter(|s| matches!(text(s, "event"), Some("ADD" | "UPDATE")))
            .collect();
        // Each step holds what the memory was, most of which is what it is.
        if steps.len() > 1
            && let Err(problem) = room.take(steps.len(), row.to_string().len())
        {
            lines.push(bad("memory", problem));
            continue;
        }
        let created = match time(row, "created_at") {
            Value::Null => iso(now).into(),
            time => time,
        };
        let updated = match time(row, "updated_at") {
            Value::Null => created.clone(),
            time => time,
        };
        let role =
            text(row, "role").filter(|r| matches!(*r, "user" | "assistant" | "system" | "tool"));
        let memory = json!({
            "id": id.to_string(), "content": content, "agent_id": text(row, "agent_id"), "session_id": text(row, "run_id"),
            "speaker": text(row, "actor_id"), "role": role, "tags": tags, "metadata": metadata, "source": "mem0",
            "expires_at": time(row, "expiration_date"), "created_at": created, "updated_at": updated,
            "version": steps.len().max(1),
        });
        let mut events = Vec::new();
        for (n, step) in (1..).zip(&steps) {
            let at = [
                time(step, "updated_at"),
                time(step, "created_at"),
                updated.clone(),
            ];
            let at = at.into_iter().find(|at| !at.is_null());
            let event_id = made(workspace, "mem0 event", &format!("{theirs} {n}"));
            let mut event = json!({"id": event_id.to_string(), "at": at, "action": if n == 1 { "added" } else { "updated" }, "version": n});
            if n > 1 {
                let mut old = memory.clone();
                old["content"] = text(step, "old_memory").unwrap_or(content).into();
                old["version"] = (n - 1).into();
                old["updated_at"] = events
                    .last()
                    .map_or(created.clone(), |e: &Value| e["at"].clone());
                if let Value::Object(old) = &mut old {
                    old.remove("id");
                    old.retain(|_, value| !value.is_null());
                }
                event["old"] = old;
            }
            events.push(event);
        }
        let mut memory = memory;
        if !events.is_empty() {
            memory["events"] = events.into();
        }
        lines.push(good("memory", memory));
    }
    for row in &relations {
        if full(&lines) {
            return lines;
        }
        match (
            text(row, "source"),
            text(row, "relationship"),
            text(row, "target").or_else(|| text(row, "destination")),
        ) {
            (Some(from), Some(relation), Some(to)) => {
                lines.push(relation_line(workspace, "mem0", from, relation, to))
            }
            _ => lines.push(bad(
                "memory",
                format!(
                    "a relation needs source, relationship and target: {}",
                    shorten(&row.to_string())
                ),
            )),
        }
    }
    lines
}

// --- the memory server of MCP --------------------------------------------------------------------

/// A relation between two entities: a memory that says so, mentions both, and is linked to the second.
fn relation_line(workspace: Uuid, whose: &str, from: &str, relation: &str, to: &str) -> Line {
    let words = relation.replace('_', " ");
    good(
        "memory",
        json!({
            "id": made(workspace, whose, &format!("relation\0{from}\0{relation}\0{to}")).to_string(),
            "content": format!("{from} {words} {to}"),
            "type": "relational",
            "source": whose,
            "metadata": {"from": from, "relation": relation, "to": to},
            "entities": [{"name": from}, {"name": to}, {"name": to, "relation": relation}],
        }),
    )
}

fn mcp(values: Vec<Value>, workspace: Uuid) -> Vec<Line> {
    let mut lines = Vec::new();
    let (mut entities, mut relations) = (Vec::new(), Vec::new());
    for value in values {
        match value {
            Value::Object(mut map)
                if map.contains_key("entities") || map.contains_key("relations") =>
            {
                for (key, to) in [("entities", &mut entities), ("relations", &mut relations)] {
                    to.extend(rows_of(&mut map, key, &mut lines));
                }
            }
            row if row.get("relationType").is_some() => relations.push(row),
            row => entities.push(row),
        }
    }
    let mut room = Room::new();
    for row in &entities {
        if full(&lines) {
            return lines;
        }
        let Some(name) = text(row, "name") else {
            lines.push(bad(
                "memory",
                format!("an entity needs a name: {}", shorten(&row.to_string())),
            ));
            continue;
        };
        let kind = text(row, "entityType").unwrap_or("entity");
        let memory = |content: String, observation: &str| {
            good(
                "memory",
                json!({
                    "id": made(workspace, "mcp", &format!("observation\0{name}\0{observation}")).to_string(),
                    "content": content,
                    "source": "mcp",
                    "tags": [kind],
                    "metadata": {"entity": name, "entity_type": kind},
                    "entities": [{"name": name}],
                }),
            )
        };
        let said = match row.get("observations") {
            None | Some(Value::Null) => &[][..],
            Some(Value::Array(said)) if said.iter().all(Value::is_string) => &said[..],
            Some(other) => {
                lines.push(bad(
                    "memory",
                    format!(
                        "observations of {:?} must be an array of texts, not {}",
                        shorten(name),
                        shorten(&other.to_string())
                    ),
                ));
                continue;
            }
        };
        let observations: Vec<&str> = said
            .iter()
            .filter_map(Value::as_str)
            .filter(|o| !o.trim().is_empty())
            .collect();
        if let Err(problem) = room.take(observations.len(), 3 * name.len() + 2 * kind.len()) {
            lines.push(bad("memory", problem));
            continue;
        }
        if observations.is_empty() {
            lines.push(memory(format!("{name} is a {kind}"), ""));
        }
        for observation in observations {
            if full(&lines) {
                return lines;
            }
            // By itself it does not say of whom it speaks.
            let named = observation.to_lowercase().contains(&name.to_lowercase());
            let content = if named {
                observation.to_owned()
            } else {
                format!("{name}: {observation}")
            };
            lines.push(memory(content, observation));
        }
    }
    for row in &relations {
        if full(&lines) {
            return lines;
        }
        match (
            text(row, "from"),
            text(row, "relationType"),
            text(row, "to"),
        ) {
            (Some(from), Some(relation), Some(to)) => {
                lines.push(relation_line(workspace, "mcp", from, relation, to));
            }
            _ => lines.push(bad(
                "memory",
                format!(
                    "a relation needs from, relationType and to: {}",
                    shorten(&row.to_string())
                ),
            )),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn moments_in_words() {
        for (seconds, text) in [
            (0.0, "1970-01-01T00:00:00.000000Z"),
            (946_684_800.25, "2000-01-01T00:00:00.250000Z"),
            (951_782_400.0, "2000-02-29T00:00:00.000000Z"),
            (1_709_251_199.0, "2024-02-29T23:59:59.000000Z"),
            (-1.0, "1969-12-31T23:59:59.000000Z"),
            (4_107_542_400.0, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(iso(moment(seconds).unwrap()), text);
        }
        assert_eq!(moment(f64::NAN), None);
        assert_eq!(moment(1e30), None);
    }

    #[test]
    fn formats_are_found_by_shape() {
        for (value, format) in [
            (json!({"engram": {"format": 1}}), Some(Format::Engram)),
            (json!({"kind": "memory"}), Some(Format::Engram)),
            (
                json!({"memories": [{"memory_type": "factual"}]}),
                Some(Format::Engramai),
            ),
            (
                json!({"id": "a", "content": "x", "memory_type": "factual"}),
                Some(Format::Engramai),
            ),
            (json!({"results": []}), Some(Format::Mem0)),
            (json!({"id": "a", "memory": "x"}), Some(Format::Mem0)),
            (
                json!({"memory_id": "a", "event": "ADD"}),
                Some(Format::Mem0),
            ),
            (json!({"entities": [], "relations": []}), Some(Format::Mcp)),
            (json!({"type": "entity", "name": "x"}), Some(Format::Mcp)),
            (json!({"x": 1}), None),
            (json!(7), None),
        ] {
            assert_eq!(Format::of(std::slice::from_ref(&value)), format, "{value}");
        }
    }

    #[test]
    fn what_stands_in_the_data_once_is_not_written_without_end() {
        let workspace = Uuid::from_u128(7);
        let convert = |format, value| lines(format, vec![value], workspace, 0);
        let errors = |lines: &[Line]| lines.iter().filter(|l| l.content.is_err()).count();
        // Hangs on a memory that comes often.
        let memory =
            json!({"id": "a", "content": "x", "memory_type": "factual", "created_at": 1e8});
        let link = json!({"memory_id": "a", "node_id": "b", "relation": "r"});
        let use_ = json!({"memory_id": "a", "accessed_at": 1e9});
        let mut memories = vec![memory; 300];
        memories.push(json!({"id": "b", "content": "y"}));
        let found = convert(
            Format::Engramai,
            json!({"memories": memories, "graph_links": vec![link; 300], "access_log": vec![use_; 300]}),
        );
        assert_eq!((found.len(), errors(&found)), (601, 0));
        let used = |line: &&Line| line.content.as_ref().is_ok_and(|c| c.contains_key("uses"));
        assert_eq!(found.iter().filter(used).count(), 1);
        let memory = json!({"id": "a", "memory": "x"});
        let step = json!({"memory_id": "a", "event": "UPDATE", "old_memory": "y"});
        let found = convert(
            Format::Mem0,
            json!({"results": vec![memory; 300], "history": vec![step.clone(); 300]}),
        );
        let past = |line: &&Line| {
            line.content
                .as_ref()
                .is_ok_and(|c| c.contains_key("events"))
        };
        assert_eq!(found.iter().filter(past).count(), 1);

        // Long and often.
        let long = "x".repeat(1_000_000);
        let found = convert(
            Format::Mem0,
            json!({"results": [{"id": "a", "memory": "x", "metadata": {"k": long}}], "history": vec![step; 300]}),
        );
        assert_eq!((found.len(), errors(&found)), (1, 1));
        let found = convert(
            Format::Mcp,
            json!({"entities": [{"name": long, "observations": vec!["o"; 300]}, {"name": "n", "observations": ["o"]}]}),
        );
        assert_eq!((found.len(), errors(&found)), (2, 1));
        let mention = json!({"memory_id": "a", "entity_id": 1});
        let found = convert(
            Format::Engramai,
            json!({"memories": [{"id": "a", "content": "x", "memory_type": "factual"}],
                   "entities": [{"id": 1, "name": long}], "memory_entities": vec![mention; 300]}),
        );
        assert_eq!((found.len(), errors(&found)), (1, 1));

        // Short and too many.
        let found = convert(
            Format::Mcp,
            json!({"entities": [{"name": "n", "observations": vec!["o"; 2 * MAX_LINES]}]}),
        );
        assert_eq!(found.len(), MAX_LINES + 1);
    }

    /// Values of any shape under the keys that are looked for.
    fn anything() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
            Just(Value::from("a1b2c3d4")),
        ];
        let keys = proptest::sample::select(vec![
            "memories",
            "access_log",
            "hebbian_links",
            "graph_links",
            "entities",
            "relations",
            "results",
            "history",
            "id",
            "content",
            "memory",
            "memory_id",
            "event",
            "created_at",
            "accessed_at",
            "strength",
            "source_id",
            "target_id",
            "node_id",
            "name",
            "observations",
            "from",
            "to",
            "relationType",
            "metadata",
            "contradicts",
            "last_consolidated",
            "coactivation_count",
        ]);
        leaf.prop_recursive(4, 64, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map(keys.clone().prop_map(str::to_owned), inner, 0..8)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn nothing_upsets_the_importers(values in proptest::collection::vec(anything(), 0..4)) {
            for format in [Format::Engramai, Format::Mem0, Format::Mcp] {
                let workspace = Uuid::from_u128(7);
                let once = lines(format, values.clone(), workspace, 0);
                prop_assert_eq!(&once, &lines(format, values.clone(), workspace, 0));
                for line in &once {
                    if let Ok(content) = &line.content {
                        let _ = super::super::shape::check(&line.kind, content, workspace);
                    }
                }
            }
        }
    }
}
