//! Memories of mem0, with their history and the relations of its graph.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    Room, bad, full, good, holds, instant, iso, lacking, made, relation, rows_of, text, time,
};
use crate::api::shorten;
use crate::transfer::Line;

pub(super) fn lines(values: Vec<Value>, workspace: Uuid, now: i64) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut export = Export::read(values, &mut lines);
    let past = by_memory(&export.history);
    let revived = revived(&export.memories, &past, &mut lines);
    export.memories.extend(revived);
    let mut import = Import {
        workspace,
        now,
        past: &past,
        seen: BTreeSet::new(),
        room: Room::new(),
    };
    for row in &export.memories {
        if full(&lines) {
            return lines;
        }
        lines.push(match import.memory(row) {
            Ok(memory) => good("memory", memory),
            Err(problem) => bad("memory", problem),
        });
    }
    for row in &export.relations {
        if full(&lines) {
            return lines;
        }
        let to = text(row, "target").or_else(|| text(row, "destination"));
        lines.push(relation(
            workspace,
            "mem0",
            row,
            [text(row, "source"), text(row, "relationship"), to],
            "source, relationship and target",
        ));
    }
    lines
}

/// Rows by what they are.
#[derive(Default)]
struct Export {
    memories: Vec<Value>,
    history: Vec<Value>,
    relations: Vec<Value>,
}

impl Export {
    fn read(values: Vec<Value>, lines: &mut Vec<Line>) -> Self {
        let mut export = Self::default();
        for value in values {
            match value {
                Value::Object(mut map)
                    if holds(&map, &["results", "memories", "history", "relations"]) =>
                {
                    export.memories.extend(rows_of(&mut map, "results", lines));
                    export.memories.extend(rows_of(&mut map, "memories", lines));
                    export.history.extend(rows_of(&mut map, "history", lines));
                    (export.relations).extend(rows_of(&mut map, "relations", lines));
                }
                row if row.get("memory_id").is_some() && row.get("event").is_some() => {
                    export.history.push(row)
                }
                row => export.memories.push(row),
            }
        }
        export
    }
}

/// The steps of each memory's history, in the order in which they were taken.
fn by_memory(history: &[Value]) -> BTreeMap<&str, Vec<&Value>> {
    let mut past: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for row in history {
        if let Some(id) = text(row, "memory_id") {
            past.entry(id).or_default().push(row);
        }
    }
    for rows in past.values_mut() {
        rows.sort_by_key(|row| {
            let order = match text(row, "event") {
                Some("ADD") => 0,
                Some("DELETE") => 2,
                _ => 1,
            };
            let at = instant(row, "updated_at").or_else(|| instant(row, "created_at"));
            (order, at)
        });
    }
    past
}

/// A history without its memories tells what they were.
fn revived(
    memories: &[Value],
    past: &BTreeMap<&str, Vec<&Value>>,
    lines: &mut Vec<Line>,
) -> Vec<Value> {
    let there: BTreeSet<&str> = memories.iter().filter_map(|m| text(m, "id")).collect();
    let mut revived = Vec::new();
    for (id, rows) in past.iter().filter(|(id, _)| !there.contains(*id)) {
        let gone = rows.iter().any(|row| text(row, "event") == Some("DELETE"));
        let last = rows.iter().rev().find_map(|row| text(row, "new_memory"));
        let Some(content) = last.filter(|_| !gone) else {
            let problem = format!("memory {:?} was deleted there", shorten(id));
            lines.push(bad("memory", problem));
            continue;
        };
        revived.push(json!({
            "id": id,
            "memory": content,
            "created_at": rows[0].get("created_at"),
            "updated_at": rows.last().and_then(|r| r.get("updated_at")),
            "actor_id": rows[0].get("actor_id"),
            "role": rows[0].get("role"),
        }));
    }
    revived
}

/// Memories on the way to lines.
struct Import<'v> {
    workspace: Uuid,
    /// Microseconds since 2000.
    now: i64,
    past: &'v BTreeMap<&'v str, Vec<&'v Value>>,
    /// Ids of those that have had their history.
    seen: BTreeSet<&'v str>,
    room: Room,
}

impl<'v> Import<'v> {
    fn memory(&mut self, row: &'v Value) -> Result<Value, String> {
        let content = text(row, "memory").or_else(|| text(row, "text"));
        let (Some(theirs), Some(content)) = (text(row, "id"), content) else {
            return Err(lacking("a memory needs id and memory", row));
        };
        let steps = self.steps(theirs);
        // Each step holds what the memory was, most of which is what it is.
        if steps.len() > 1 {
            self.room.take(steps.len(), row.to_string().len())?;
        }
        let id = match Uuid::try_parse(theirs) {
            Ok(id) => id,
            Err(_) => made(self.workspace, "mem0", theirs),
        };
        let created = match time(row, "created_at") {
            Value::Null => iso(self.now).into(),
            time => time,
        };
        let updated = match time(row, "updated_at") {
            Value::Null => created.clone(),
            time => time,
        };
        let role =
            text(row, "role").filter(|r| matches!(*r, "user" | "assistant" | "system" | "tool"));
        let mut memory = json!({
            "id": id.to_string(), "content": content, "agent_id": text(row, "agent_id"), "session_id": text(row, "run_id"),
            "speaker": text(row, "actor_id"), "role": role, "tags": tags(row), "metadata": metadata(row), "source": "mem0",
            "expires_at": time(row, "expiration_date"), "created_at": created, "updated_at": updated,
            "version": steps.len().max(1),
        });
        let events = self.events(theirs, &memory, &steps);
        if !events.is_empty() {
            memory["events"] = events.into();
        }
        Ok(memory)
    }

    /// Of memories with the same id the first one is stored, and has their history.
    fn steps(&mut self, theirs: &'v str) -> Vec<&'v Value> {
        let steps = self.past.get(theirs);
        steps
            .filter(|_| self.seen.insert(theirs))
            .into_iter()
            .flatten()
            .copied()
            .filter(|s| matches!(text(s, "event"), Some("ADD" | "UPDATE")))
            .collect()
    }

    /// What a memory went through: each step but the first holds what it was before.
    fn events(&self, theirs: &str, memory: &Value, steps: &[&Value]) -> Vec<Value> {
        let mut events: Vec<Value> = Vec::new();
        for (n, step) in (1..).zip(steps) {
            let at = [time(step, "updated_at"), time(step, "created_at")];
            let at = at.into_iter().find(|at| !at.is_null());
            let at = at.unwrap_or_else(|| memory["updated_at"].clone());
            let id = made(self.workspace, "mem0 event", &format!("{theirs} {n}"));
            let action = if n == 1 { "added" } else { "updated" };
            let mut event = json!({"id": id.to_string(), "at": at, "action": action, "version": n});
            if n > 1 {
                let since = events.last().map_or(&memory["created_at"], |e| &e["at"]);
                event["old"] = before(memory, step, n - 1, since);
            }
            events.push(event);
        }
        events
    }
}

/// What a memory was before a step, as of a version and the moment that it was made.
fn before(memory: &Value, step: &Value, version: i32, since: &Value) -> Value {
    let mut old = memory.clone();
    if let Some(content) = text(step, "old_memory") {
        old["content"] = content.into();
    }
    old["version"] = version.into();
    old["updated_at"] = since.clone();
    if let Value::Object(old) = &mut old {
        old.remove("id");
        old.retain(|_, value| !value.is_null());
    }
    old
}

fn metadata(row: &Value) -> Map<String, Value> {
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
    metadata
}

fn tags(row: &Value) -> Vec<&str> {
    row.get("categories")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}
