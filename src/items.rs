//! The items of `add_many`: JSON objects with the arguments of `add`, read one by one, so that a
//! bad one tells what is wrong with it and leaves the others alone.

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::api::shorten;

/// One memory to add. Times are still text: only PostgreSQL knows what it reads.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Item {
    pub content: Option<String>,
    pub kind: Option<String>,
    pub importance: Option<f64>,
    pub embedding: Option<Vec<f32>>,
    pub tags: Option<Vec<String>>,
    pub metadata: Option<Value>,
    pub occurred_at: Option<String>,
    pub agent_id: Option<String>,
    pub session_id: Option<String>,
    pub speaker: Option<String>,
    pub role: Option<String>,
    pub source: Option<String>,
    pub entities: Option<Vec<String>>,
    pub id: Option<Uuid>,
    pub expires_at: Option<String>,
    pub on_duplicate: Option<String>,
    pub summary: Option<String>,
    pub valid_from: Option<String>,
    pub valid_to: Option<String>,
    pub pinned: Option<bool>,
    pub model: Option<String>,
}

/// Keys that items had until 0.9.
pub const FIRST_KEYS: usize = 16;

/// The keys that an item may have: the arguments of `add` but the workspace, and what else there is to say of a new one.
pub const KEYS: [&str; 21] = [
    "content",
    "type",
    "importance",
    "embedding",
    "tags",
    "metadata",
    "occurred_at",
    "agent_id",
    "session_id",
    "speaker",
    "role",
    "source",
    "entities",
    "id",
    "expires_at",
    "on_duplicate",
    "summary",
    "valid_from",
    "valid_to",
    "pinned",
    "model",
];

/// Reads one item with the first so many of the keys; the error is a sentence for its author.
pub fn parse(item: &Value, keys: usize) -> Result<Item, String> {
    let keys = &KEYS[..keys];
    let map = match item {
        Value::Object(map) => map,
        Value::String(content) => {
            return Ok(Item {
                content: Some(content.clone()),
                ..Item::default()
            });
        }
        _ => return Err(format!("an item must be an object, not {}", name(item))),
    };
    if let Some(key) = map.keys().find(|k| !keys.contains(&k.as_str())) {
        return Err(format!(
            "unknown key {:?}; keys are {}",
            shorten(key),
            keys.join(", ")
        ));
    }
    Ok(Item {
        content: text(map, "content")?,
        kind: text(map, "type")?,
        importance: number(map, "importance")?,
        embedding: embedding(map)?,
        tags: texts(map, "tags")?,
        metadata: map.get("metadata").filter(|v| !v.is_null()).cloned(),
        occurred_at: text(map, "occurred_at")?,
        agent_id: text(map, "agent_id")?,
        session_id: text(map, "session_id")?,
        speaker: text(map, "speaker")?,
        role: text(map, "role")?,
        source: text(map, "source")?,
        entities: texts(map, "entities")?,
        id: match text(map, "id")? {
            Some(id) => Some(
                Uuid::try_parse(&id)
                    .map_err(|_| format!("id must be a UUID, not {:?}", shorten(&id)))?,
            ),
            None => None,
        },
        expires_at: text(map, "expires_at")?,
        on_duplicate: text(map, "on_duplicate")?,
        summary: text(map, "summary")?,
        valid_from: text(map, "valid_from")?,
        valid_to: text(map, "valid_to")?,
        pinned: match map.get("pinned") {
            None | Some(Value::Null) => None,
            Some(Value::Bool(pinned)) => Some(*pinned),
            Some(other) => {
                return Err(format!("pinned must be true or false, not {}", name(other)));
            }
        },
        model: text(map, "model")?,
    })
}

fn name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn text(map: &Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(s)) => Ok(Some(s.clone())),
        Some(other) => Err(format!("{key} must be a text, not {}", name(other))),
    }
}

fn number(map: &Map<String, Value>, key: &str) -> Result<Option<f64>, String> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(n)) => match n.as_f64().filter(|x| x.is_finite()) {
            Some(x) => Ok(Some(x)),
            None => Err(format!(
                "{key} {} is beyond what a number can be. Give a number from 0 to 1, or leave it out.",
                shorten(&n.to_string())
            )),
        },
        Some(other) => Err(format!("{key} must be a number, not {}", name(other))),
    }
}

fn texts(map: &Map<String, Value>, key: &str) -> Result<Option<Vec<String>>, String> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| {
                item.as_str()
                    .map(str::to_owned)
                    .ok_or_else(|| format!("{key} must hold texts, not {}", name(item)))
            })
            .collect::<Result<Vec<_>, _>>()
            .map(Some),
        Some(other) => Err(format!(
            "{key} must be an array of texts, not {}",
            name(other)
        )),
    }
}

/// An array of numbers, or pgvector's text form of one.
fn embedding(map: &Map<String, Value>) -> Result<Option<Vec<f32>>, String> {
    let parsed;
    let value = match map.get("embedding") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => {
            parsed = serde_json::from_str::<Value>(text)
                .map_err(|_| "embedding is neither an array of numbers nor its text".to_owned())?;
            &parsed
        }
        Some(value) => value,
    };
    let Value::Array(numbers) = value else {
        return Err(format!(
            "embedding must be an array of numbers, not {}",
            name(value)
        ));
    };
    if numbers.is_empty() {
        return Err("embedding has no dimensions".to_owned());
    }
    numbers
        .iter()
        .map(|n| {
            n.as_f64()
                .map(|x| x as f32)
                .filter(|x| x.is_finite())
                .ok_or_else(|| {
                    format!(
                        "embedding holds {}, which is not a finite number",
                        shorten(&n.to_string())
                    )
                })
        })
        .collect::<Result<Vec<_>, _>>()
        .map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_key_is_read() {
        let item = parse(&json!({
            "content": "c", "type": "factual", "importance": 1, "embedding": [1, 0.5],
            "tags": ["t"], "metadata": {"a": 1}, "occurred_at": "2023-05-08", "agent_id": "a",
            "session_id": "s", "speaker": "p", "role": "user", "source": "x", "entities": ["E"],
            "id": "018f3a2e-0000-7000-8000-000000000000", "expires_at": "2030-01-01",
            "on_duplicate": "skip", "summary": "y", "valid_from": "2020-01-01", "valid_to": "2021-01-01",
            "pinned": true, "model": "m",
        }), KEYS.len())
        .unwrap();
        assert_eq!(
            (item.pinned, item.model.as_deref()),
            (Some(true), Some("m"))
        );
        assert_eq!(item.embedding, Some(vec![1.0, 0.5]));
        assert_eq!(item.importance, Some(1.0));
        assert_eq!(item.on_duplicate.as_deref(), Some("skip"));
        assert_eq!(item.entities, Some(vec!["E".to_owned()]));
    }

    #[test]
    fn bad_items_say_why() {
        for (item, word) in [
            (json!(7), "object"),
            (json!({"contents": "x"}), "unknown key \"contents\""),
            (json!({"content": 7}), "content must be a text"),
            (json!({"pinned": 1}), "pinned must be true or false"),
            (json!({"importance": "high"}), "importance must be a number"),
            (
                serde_json::from_str(r#"{"importance": 1e400}"#).unwrap(),
                "beyond what a number can be",
            ),
            (json!({"tags": "work"}), "tags must be an array"),
            (json!({"tags": [1]}), "tags must hold texts"),
            (json!({"id": "x"}), "id must be a UUID"),
            (json!({"embedding": []}), "no dimensions"),
            (json!({"embedding": [1e60]}), "finite"),
            (json!({"embedding": "nope"}), "neither"),
        ] {
            let message = parse(&item, KEYS.len()).unwrap_err();
            assert!(message.contains(word), "{item}: {message}");
        }
        let long = "9".repeat(1000);
        for item in [
            json!({"id": long}),
            json!({long.clone(): 1}),
            serde_json::from_str(&format!(r#"{{"embedding": [{long}]}}"#)).unwrap(),
        ] {
            assert!(parse(&item, KEYS.len()).unwrap_err().len() < 400);
        }
        assert_eq!(
            parse(&json!("plain"), KEYS.len())
                .unwrap()
                .content
                .as_deref(),
            Some("plain")
        );
        assert_eq!(
            parse(&json!({"embedding": "[1,2]"}), KEYS.len())
                .unwrap()
                .embedding,
            Some(vec![1.0, 2.0])
        );
    }
}
