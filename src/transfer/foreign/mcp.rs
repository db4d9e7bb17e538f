//! The graph of the memory server of MCP.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Room, bad, full, good, lacking, made, relation, rows_of, text};
use crate::api::shorten;
use crate::transfer::Line;

pub(super) fn lines(values: Vec<Value>, workspace: Uuid) -> Vec<Line> {
    let mut lines = Vec::new();
    let (entities, relations) = read(values, &mut lines);
    let mut room = Room::new();
    for row in &entities {
        if full(&lines) {
            return lines;
        }
        if let Err(problem) = entity(row, workspace, &mut room, &mut lines) {
            lines.push(bad("memory", problem));
        }
    }
    for row in &relations {
        if full(&lines) {
            return lines;
        }
        lines.push(relation(
            workspace,
            "mcp",
            row,
            [
                text(row, "from"),
                text(row, "relationType"),
                text(row, "to"),
            ],
            "from, relationType and to",
        ));
    }
    lines
}

/// Entities and relations.
fn read(values: Vec<Value>, lines: &mut Vec<Line>) -> (Vec<Value>, Vec<Value>) {
    let (mut entities, mut relations) = (Vec::new(), Vec::new());
    for value in values {
        match value {
            Value::Object(mut map)
                if map.contains_key("entities") || map.contains_key("relations") =>
            {
                entities.extend(rows_of(&mut map, "entities", lines));
                relations.extend(rows_of(&mut map, "relations", lines));
            }
            row if row.get("relationType").is_some() => relations.push(row),
            row => entities.push(row),
        }
    }
    (entities, relations)
}

/// What is said of an entity, each a memory; that there is one, where nothing is.
fn entity(
    row: &Value,
    workspace: Uuid,
    room: &mut Room,
    lines: &mut Vec<Line>,
) -> Result<(), String> {
    let name = text(row, "name").ok_or_else(|| lacking("an entity needs a name", row))?;
    let kind = text(row, "entityType").unwrap_or("entity");
    let observations = observations(row, name)?;
    room.take(observations.len(), 3 * name.len() + 2 * kind.len())?;
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
    if observations.is_empty() {
        lines.push(memory(format!("{name} is a {kind}"), ""));
    }
    for observation in observations {
        if full(lines) {
            break;
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
    Ok(())
}

/// The observations of an entity that say something.
fn observations<'v>(row: &'v Value, name: &str) -> Result<Vec<&'v str>, String> {
    let said = match row.get("observations") {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(said)) if said.iter().all(Value::is_string) => &said[..],
        Some(other) => {
            return Err(format!(
                "observations of {:?} must be an array of texts, not {}",
                shorten(name),
                shorten(&other.to_string())
            ));
        }
    };
    Ok(said
        .iter()
        .filter_map(Value::as_str)
        .filter(|o| !o.trim().is_empty())
        .collect())
}
