//! Tables of engramai's SQLite file.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    Room, bad, full, good, holds, iso, lacking, made, moment, number, rows_of, text, time,
    unless_empty,
};
use crate::api::shorten;
use crate::model::heat::HeatSum;
use crate::transfer::Line;
use crate::transfer::shape::to_base64;

const TABLES: [&str; 7] = [
    "memories",
    "access_log",
    "hebbian_links",
    "graph_links",
    "entities",
    "memory_entities",
    "memory_embeddings",
];

/// Rows by the memory that they are about.
type ByMemory<'v> = BTreeMap<&'v str, Vec<&'v Value>>;

pub(super) fn lines(values: Vec<Value>, workspace: Uuid) -> Vec<Line> {
    let mut lines = Vec::new();
    let tables = Tables::read(values, &mut lines);
    let beside = Beside::of(&tables);
    let mut import = Import {
        workspace,
        beside: &beside,
        seen: BTreeSet::new(),
        room: Room::new(),
        lines,
    };
    for row in tables.rows("memories") {
        if full(&import.lines) {
            break;
        }
        import.memory(row);
    }
    import.unknown_uses();
    import.pairs(tables.rows("hebbian_links"));
    import.lines
}

/// The rows of each table.
struct Tables(BTreeMap<&'static str, Vec<Value>>);

impl Tables {
    fn read(values: Vec<Value>, lines: &mut Vec<Line>) -> Self {
        let mut tables: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
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
                let rows = rows_of(&mut map, table, lines);
                tables.entry(table).or_default().extend(rows);
            }
        }
        Self(tables)
    }

    fn rows(&self, table: &str) -> &[Value] {
        self.0.get(table).map_or(&[][..], Vec::as_slice)
    }

    fn by_memory(&self, table: &str) -> ByMemory<'_> {
        let mut found = ByMemory::new();
        for row in self.rows(table) {
            if let Some(memory) = text(row, "memory_id") {
                found.entry(memory).or_default().push(row);
            }
        }
        found
    }
}

/// What stands beside the rows of memories.
struct Beside<'v> {
    /// Ids of all memories.
    known: BTreeSet<&'v str>,
    uses: ByMemory<'v>,
    graph: ByMemory<'v>,
    mentions: ByMemory<'v>,
    embeddings: ByMemory<'v>,
    /// When memories were stored, in seconds since 1970.
    stored: Vec<(&'v str, f64)>,
    /// Of entities, by their ids.
    names: BTreeMap<String, &'v str>,
}

impl<'v> Beside<'v> {
    fn of(tables: &'v Tables) -> Self {
        Self {
            known: (tables.rows("memories").iter())
                .filter_map(|m| text(m, "id"))
                .collect(),
            uses: tables.by_memory("access_log"),
            graph: tables.by_memory("graph_links"),
            mentions: tables.by_memory("memory_entities"),
            embeddings: tables.by_memory("memory_embeddings"),
            stored: (tables.rows("memories").iter())
                .filter_map(|m| Some((text(m, "id")?, number(m, "created_at")?)))
                .collect(),
            names: (tables.rows("entities").iter())
                .filter_map(|e| Some((e.get("id")?.to_string(), text(e, "name")?)))
                .collect(),
        }
    }
}

/// A memory whose line is being made.
#[derive(Clone, Copy)]
struct Memory<'v> {
    row: &'v Value,
    /// Their id.
    hex: &'v str,
    /// Of memories with the same id the first one is stored, and has all that hangs on it.
    first: bool,
}

impl Memory<'_> {
    /// What hangs on it.
    fn hanging<'b, 'v>(&self, on: &'b ByMemory<'v>) -> &'b [&'v Value] {
        let rows = on.get(self.hex).filter(|_| self.first);
        rows.map_or(&[][..], Vec::as_slice)
    }

    fn metadata(&self) -> Map<String, Value> {
        let mut metadata = match self.row.get("metadata") {
            Some(Value::Object(map)) => map.clone(),
            Some(Value::String(json)) if !json.is_empty() => match serde_json::from_str(json) {
                Ok(Value::Object(map)) => map,
                _ => Map::from_iter([("metadata".to_owned(), json.as_str().into())]),
            },
            _ => Map::new(),
        };
        if let Some(namespace) = text(self.row, "namespace").filter(|n| *n != "default") {
            metadata.insert("namespace".to_owned(), namespace.into());
        }
        metadata.insert("engramai_id".to_owned(), self.hex.into());
        metadata
    }
}

/// Memories on the way to lines.
struct Import<'v> {
    workspace: Uuid,
    beside: &'v Beside<'v>,
    /// Ids of the memories so far.
    seen: BTreeSet<&'v str>,
    room: Room,
    lines: Vec<Line>,
}

impl<'v> Import<'v> {
    fn id(&self, hex: &str) -> String {
        made(self.workspace, "engramai", hex).to_string()
    }

    /// A memory and its links to others.
    fn memory(&mut self, row: &'v Value) {
        let (Some(hex), Some(content)) = (text(row, "id"), text(row, "content")) else {
            let problem = lacking("a memory needs id and content", row);
            self.lines.push(bad("memory", problem));
            return;
        };
        let first = self.seen.insert(hex);
        let memory = Memory { row, hex, first };
        let Some(mut entities) = self.links(memory) else {
            return;
        };
        if let Err(problem) = self.mentions(memory, &mut entities) {
            self.lines.push(bad("memory", problem));
            return;
        }
        let pinned = number(row, "pinned").is_some_and(|p| p != 0.0) || row["pinned"] == true;
        let layer = text(row, "layer").unwrap_or("working");
        let (state, used) = self.life(memory, layer);
        self.lines.push(good(
            "memory",
            json!({
                "id": self.id(hex),
                "content": content,
                "summary": text(row, "summary"),
                "type": text(row, "memory_type").unwrap_or("factual"),
                "importance": row.get("importance").filter(|v| !v.is_null()),
                "layer": layer,
                "pinned": pinned,
                "metadata": memory.metadata(),
                "source": text(row, "source"),
                "occurred_at": time(row, "occurred_at"),
                "superseded_by": text(row, "superseded_by").map(|hex| self.id(hex)),
                "contradicts": self.contradictions(row, "contradicts"),
                "contradicted_by": self.contradictions(row, "contradicted_by"),
                "deleted_at": time(row, "deleted_at"),
                "created_at": time(row, "created_at"),
                "entities": unless_empty(entities),
                "embeddings": unless_empty(embeddings(memory.hanging(&self.beside.embeddings))),
                "state": state,
                "uses": used,
            }),
        ));
    }

    /// Makes lines of links to other memories; links to anything else are the entities that come back. `None` where
    /// there are too many lines.
    fn links(&mut self, memory: Memory<'_>) -> Option<Vec<Value>> {
        let mut entities = Vec::new();
        for link in memory.hanging(&self.beside.graph) {
            if full(&self.lines) {
                return None;
            }
            let relation = text(link, "relation").unwrap_or("mentions");
            match text(link, "node_id") {
                Some(node) if self.beside.known.contains(node) && node != memory.hex => {
                    let link = json!({
                        "source": self.id(memory.hex),
                        "target": self.id(node),
                        "relation": if relation == "mentions" { "related" } else { relation },
                    });
                    self.lines.push(good("link", link));
                }
                Some(node) => entities.push(json!({"name": node, "relation": relation})),
                None => {}
            }
        }
        Some(entities)
    }

    /// Adds the entities that a memory mentions; why not, where there is no room for all of their names.
    fn mentions(&mut self, memory: Memory<'_>, entities: &mut Vec<Value>) -> Result<(), String> {
        let mut problem = None;
        for link in memory.hanging(&self.beside.mentions) {
            let id = link.get("entity_id").map(Value::to_string);
            if let Some(name) = id.and_then(|id| self.beside.names.get(&id)) {
                match self.room.take(1, name.len()) {
                    Ok(()) => entities.push(json!({"name": name})),
                    Err(why) => problem = Some(why),
                }
            }
        }
        problem.map_or(Ok(()), Err)
    }

    /// The ids in a list that commas separate.
    fn contradictions(&self, row: &Value, key: &str) -> Value {
        let ids: Vec<String> = text(row, key)
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
            .filter(|hex| !hex.is_empty())
            .map(|hex| self.id(hex))
            .collect();
        unless_empty(ids)
    }

    /// The state of a memory and its uses. Theirs changes by jobs and holds in between; ours is of a moment and
    /// fades from there. That moment is the latest that theirs can be of.
    fn life(&self, memory: Memory<'_>, layer: &str) -> (Value, Value) {
        let (row, hex) = (memory.row, memory.hex);
        let Some(created) = number(row, "created_at").and_then(moment) else {
            return (Value::Null, Value::Null);
        };
        let mut times: Vec<i64> = memory
            .hanging(&self.beside.uses)
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
                let id = made(self.workspace, "engramai use", &format!("{hex} {at} {n}"));
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
        (state, unless_empty(used))
    }

    /// Tells of uses whose memory is not there.
    fn unknown_uses(&mut self) {
        let beside = self.beside;
        for hex in (beside.uses.keys()).filter(|hex| !beside.known.contains(*hex)) {
            if full(&self.lines) {
                return;
            }
            self.lines.push(bad(
                "uses",
                format!(
                    "access_log has uses of memory {:?}, which is not in the same data",
                    shorten(hex)
                ),
            ));
        }
    }

    /// Theirs are two rows a pair, of strength 0 until the third call; ours is one, of two masses.
    fn pairs(&mut self, rows: &[Value]) {
        let mut pairs: BTreeMap<(String, String), Pair> = BTreeMap::new();
        let last = last_uses(self.beside);
        let last = |hex: &str| last.get(hex).copied().unwrap_or(f64::NEG_INFINITY);
        for row in rows {
            if full(&self.lines) {
                return;
            }
            let (Some(source), Some(target)) = (text(row, "source_id"), text(row, "target_id"))
            else {
                let problem = lacking("a link needs source_id and target_id", row);
                self.lines.push(bad("pair", problem));
                continue;
            };
            if source == target {
                continue;
            }
            let (a, b) = (self.id(source), self.id(target));
            let swapped = a > b;
            let key = if swapped { (b, a) } else { (a, b) };
            // The latest moment at which both can have been used together.
            let at = last(source).min(last(target));
            let new = Pair::of(row, at, swapped);
            pairs
                .entry(key)
                .and_modify(|pair| pair.merge(&new))
                .or_insert(new);
        }
        for ((a, b), pair) in pairs {
            if full(&self.lines) {
                return;
            }
            self.lines.push(pair.line(a, b));
        }
    }
}

/// Vectors as text; what sqlite3 prints of binary ones is not to be read.
fn embeddings(rows: &[&Value]) -> Vec<Value> {
    rows.iter()
        .filter_map(|row| {
            let vector = text(row, "embedding").filter(|v| v.starts_with('['))?;
            Some(json!({"model": text(row, "model")?, "embedding": vector.replace(' ', "")}))
        })
        .collect()
}

/// When memories were used last, in seconds since 1970; storing them is the first use.
fn last_uses<'v>(beside: &Beside<'v>) -> HashMap<&'v str, f64> {
    let mut last: HashMap<&str, f64> = HashMap::new();
    let calls = beside.uses.iter().flat_map(|(hex, calls)| {
        (calls.iter()).filter_map(|call| Some((*hex, number(call, "accessed_at")?)))
    });
    let stored = beside.stored.iter().map(|(hex, at)| (*hex, *at));
    for (hex, at) in calls.chain(stored) {
        let known = last.entry(hex).or_insert(at);
        *known = known.max(at);
    }
    last
}

/// A link between two memories that were used together; nothing of it is less than 0.
struct Pair {
    strength: f64,
    count: f64,
    forward: f64,
    backward: f64,
    /// Seconds since 1970.
    at: f64,
}

impl Pair {
    /// As a row has it, which may go from the second to the first; both were used together at a moment or later.
    fn of(row: &Value, at: f64, swapped: bool) -> Self {
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
        Self {
            strength: get("strength"),
            count: get("coactivation_count"),
            forward,
            backward,
            at: at.max(number(row, "created_at").unwrap_or(f64::NEG_INFINITY)),
        }
    }

    /// The larger of everything.
    fn merge(&mut self, other: &Self) {
        self.strength = self.strength.max(other.strength);
        self.count = self.count.max(other.count);
        self.forward = self.forward.max(other.forward);
        self.backward = self.backward.max(other.backward);
        self.at = self.at.max(other.at);
    }

    fn line(&self, a: String, b: String) -> Line {
        let Some(at) = moment(self.at) else {
            return bad(
                "pair",
                "a link has no created_at, and neither have both memories that it links",
            );
        };
        // Strength is 1 - e^-mass; 1 itself would take an infinite one.
        let mass = if self.strength > 0.0 {
            -(-self.strength.min(0.999)).ln_1p()
        } else {
            0.2 * self.count.max(1.0)
        };
        let known = self.forward + self.backward;
        let share = if known > 0.0 {
            self.forward / known
        } else {
            0.5
        };
        good(
            "pair",
            json!({"a": a, "b": b, "forward": mass * share, "backward": mass * (1.0 - share),
                   "linked_at": iso(at), "count": self.count.clamp(1.0, 1e9) as i64}),
        )
    }
}
