//! The lines of `export()`: which keys each kind has and what their values may be.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::Line;
use crate::api::shorten;
use crate::messages::{MAX_SESSION, ROLES};
use crate::model::heat;
use crate::model::memory::TYPES;
use crate::raw;

/// The format that this version writes and reads.
const FORMAT: u64 = 1;
const LAYERS: [&str; 3] = ["working", "core", "archive"];
const KINDS_OF_USE: [&str; 5] = ["shown", "used", "rated", "reinforced", "stored"];
const ACTIONS: [&str; 9] = [
    "added",
    "updated",
    "forgotten",
    "restored",
    "superseded",
    "unsuperseded",
    "pinned",
    "unpinned",
    "erased",
];

/// What a value must be.
enum Is {
    Id,
    /// Text of at most so many characters.
    Text(usize),
    OneOf(&'static [&'static str]),
    Number(f64, f64),
    Int(i64, i64),
    Bool,
    Time,
    /// The same, or infinity.
    Someday,
    Object,
    /// An object that is stored as metadata.
    Metadata,
    /// What a memory was; keys that are not known may be anything.
    Past,
    Heat,
    /// A text as pgvector writes it.
    Vector,
    /// A flat list of at most so many.
    Ids(usize),
    Texts(usize),
    /// A list of objects, of at most so many.
    List(usize, &'static [Field]),
    One(&'static [Field]),
}

/// A key, whether it must be there, and its value.
struct Field(&'static str, bool, Is);

const LONG: usize = 10_000_000;
const SHORT: usize = 10_000;
/// Changes of settings, which an application may make whenever somebody comes; they are one line.
const CHANGES: usize = 1_000_000;
/// Strengths and gains beyond this come from no use.
const MANY: f64 = 1e9;

const EVENT: &[Field] = &[
    Field("id", true, Is::Id),
    Field("at", true, Is::Time),
    Field("actor", false, Is::Id),
    Field("action", true, Is::OneOf(&ACTIONS)),
    Field("version", true, Is::Int(1, i32::MAX as i64)),
    Field("old", false, Is::Past),
];
/// Of a memory as it was; what is missing was as it is.
const PAST: &[Field] = &[
    Field("agent_id", false, Is::Text(LONG)),
    Field("session_id", false, Is::Text(LONG)),
    Field("speaker", false, Is::Text(LONG)),
    Field("role", false, Is::OneOf(&ROLES)),
    Field("content", false, Is::Text(LONG)),
    Field("summary", false, Is::Text(LONG)),
    Field("type", false, Is::OneOf(&TYPES)),
    Field("importance", false, Is::Number(0.0, 1.0)),
    Field("layer", false, Is::OneOf(&LAYERS)),
    Field("pinned", false, Is::Bool),
    Field("tags", false, Is::Texts(LONG)),
    Field("metadata", false, Is::Object),
    Field("source", false, Is::Text(LONG)),
    Field("occurred_at", false, Is::Someday),
    Field("valid_from", false, Is::Someday),
    Field("valid_to", false, Is::Someday),
    Field("superseded_by", false, Is::Id),
    Field("contradicts", false, Is::Ids(LONG)),
    Field("contradicted_by", false, Is::Ids(LONG)),
    Field("expires_at", false, Is::Someday),
    Field("deleted_at", false, Is::Someday),
    Field("version", false, Is::Int(1, i32::MAX as i64)),
    Field("created_at", false, Is::Someday),
    Field("updated_at", false, Is::Someday),
    Field("entities", false, Is::Texts(LONG)),
];
const USE: &[Field] = &[
    Field("id", true, Is::Id),
    Field("at", true, Is::Time),
    Field("user_id", false, Is::Id),
    Field("kind", true, Is::OneOf(&KINDS_OF_USE)),
    Field("gain", true, Is::Number(-1.0, 100.0)),
    Field("rating", false, Is::Int(1, 4)),
    Field("recall_id", false, Is::Id),
    Field("place", false, Is::Int(1, 1000)),
    Field("pair_gain", false, Is::Number(0.0, 100.0)),
];
const BASE: &[Field] = &[
    Field("at", true, Is::Int(-MOST_MICROS, MOST_MICROS)),
    Field("working", true, Is::Number(-MANY, MANY)),
    Field("core", true, Is::Number(-MANY, MANY)),
    Field("layer", true, Is::OneOf(&LAYERS)),
    Field("stability", false, Is::Number(0.0, MANY)),
    Field("difficulty", false, Is::Number(1.0, 10.0)),
    Field("uses", true, Is::Int(1, i64::MAX)),
    Field("last_used", true, Is::Int(-MOST_MICROS, MOST_MICROS)),
    Field("rested", false, Is::Int(0, MOST_MICROS)),
    Field("seen", false, Is::Ids(SHORT)),
];
/// Ten thousand years either way.
const MOST_MICROS: i64 = 315_576_000_000_000_000;
const STATE: &[Field] = &[
    Field("access_count", true, Is::Int(1, i64::MAX)),
    Field("last_accessed_at", true, Is::Time),
    Field("heat", false, Is::Heat),
    Field("working_strength", false, Is::Number(-MANY, MANY)),
    Field("core_strength", false, Is::Number(-MANY, MANY)),
    Field("layer", false, Is::OneOf(&LAYERS)),
    Field("stability", false, Is::Number(0.0, MANY)),
    Field("difficulty", false, Is::Number(1.0, 10.0)),
    Field("base", false, Is::One(BASE)),
];
const ENTITY: &[Field] = &[
    Field("name", true, Is::Text(500)),
    Field("node", false, Is::Text(500)),
    Field("relation", false, Is::Text(100)),
    Field("weight", false, Is::Number(f64::MIN_POSITIVE, 1.0)),
    Field("created_at", false, Is::Time),
];
const EMBEDDING: &[Field] = &[
    Field("model", true, Is::Text(500)),
    Field("embedding", true, Is::Vector),
    Field("created_at", false, Is::Time),
];
const MEMORY: &[Field] = &[
    Field("id", true, Is::Id),
    Field("user_id", false, Is::Id),
    Field("agent_id", false, Is::Text(SHORT)),
    Field("session_id", false, Is::Text(SHORT)),
    Field("speaker", false, Is::Text(SHORT)),
    Field("role", false, Is::OneOf(&ROLES)),
    Field("content", true, Is::Text(LONG)),
    Field("summary", false, Is::Text(LONG)),
    Field("type", false, Is::OneOf(&TYPES)),
    Field("importance", false, Is::Number(0.0, 1.0)),
    Field("layer", false, Is::OneOf(&LAYERS)),
    Field("pinned", false, Is::Bool),
    Field("tags", false, Is::Texts(SHORT)),
    Field("metadata", false, Is::Metadata),
    Field("source", false, Is::Text(SHORT)),
    Field("occurred_at", false, Is::Someday),
    Field("valid_from", false, Is::Someday),
    Field("valid_to", false, Is::Someday),
    Field("superseded_by", false, Is::Id),
    Field("contradicts", false, Is::Ids(SHORT)),
    Field("contradicted_by", false, Is::Ids(SHORT)),
    Field("expires_at", false, Is::Someday),
    Field("deleted_at", false, Is::Time),
    Field("version", false, Is::Int(1, i32::MAX as i64)),
    Field("created_at", false, Is::Time),
    Field("updated_at", false, Is::Time),
    Field("state", false, Is::One(STATE)),
    Field("entities", false, Is::List(SHORT, ENTITY)),
    Field("embeddings", false, Is::List(100, EMBEDDING)),
    Field("uses", false, Is::List(SHORT, USE)),
    Field("events", false, Is::List(SHORT, EVENT)),
];
const PAST_SETTINGS: &[Field] = &[
    Field("until", true, Is::Time),
    Field("type", false, Is::OneOf(&TYPES)),
    Field("mu1", false, Is::Number(f64::MIN_POSITIVE, 100.0)),
    Field("mu2", false, Is::Number(f64::MIN_POSITIVE, 100.0)),
    Field("alpha", false, Is::Number(0.0, 100.0)),
    Field("promote", false, Is::Number(f64::MIN_POSITIVE, 100.0)),
    Field("demote", false, Is::Number(f64::MIN_POSITIVE, 100.0)),
    Field("archive", false, Is::Number(f64::MIN_POSITIVE, 100.0)),
    Field("strength_gain", false, Is::Number(0.0, 10.0)),
    Field("link_members", false, Is::Int(0, 50)),
    Field(
        "link_half_life_days",
        false,
        Is::Number(f64::MIN_POSITIVE, 100_000.0),
    ),
    Field("link_prune", false, Is::Number(0.0, 1.0)),
    Field("decay_per_day", false, Is::Number(f64::MIN_POSITIVE, 1.0)),
];
const TURN: &[Field] = &[
    Field("user_id", true, Is::Id),
    Field("role", true, Is::OneOf(&ROLES)),
    Field("speaker", false, Is::Text(SHORT)),
    Field("content", true, Is::Text(LONG)),
    Field("metadata", false, Is::Metadata),
    Field("created_at", true, Is::Time),
];

fn fields(kind: &str) -> Option<&'static [Field]> {
    Some(match kind {
        "header" => &[],
        "memory" => MEMORY,
        "settings" => &[
            Field("settings", true, Is::Object),
            Field("preset", false, Is::Text(100)),
            Field("past", false, Is::List(CHANGES, PAST_SETTINGS)),
        ],
        "type_settings" => &[
            Field("type", true, Is::OneOf(&TYPES)),
            Field("default_importance", true, Is::Number(0.0, 1.0)),
            Field("decay_per_day", true, Is::Number(f64::MIN_POSITIVE, 1.0)),
        ],
        "retention" => &[
            Field("name", true, Is::Text(500)),
            Field("action", false, Is::OneOf(&["forget", "erase"])),
            Field("types", false, Is::Texts(SHORT)),
            Field("max_importance", false, Is::Number(0.0, 1.0)),
            Field("max_age", false, Is::Text(100)),
            Field("max_count", false, Is::Int(0, i32::MAX as i64)),
            Field("created_at", false, Is::Time),
        ],
        "model" => &[
            Field("name", true, Is::Text(500)),
            Field("dims", true, Is::Int(1, 16_000)),
            Field(
                "distance",
                true,
                Is::OneOf(&["cosine", "inner_product", "l2"]),
            ),
            Field("is_default", false, Is::Bool),
        ],
        "alias" => &[
            Field("alias", true, Is::Text(500)),
            Field("node", true, Is::Text(500)),
            Field("label", true, Is::Text(500)),
            Field("created_at", false, Is::Time),
        ],
        "erasure" => &[
            Field("id", true, Is::Id),
            Field("erased_by", false, Is::Id),
            Field("erased_at", true, Is::Time),
            Field("events", false, Is::List(SHORT, EVENT)),
        ],
        "more" => &[
            Field("memory_id", true, Is::Id),
            Field("version", true, Is::Int(1, i32::MAX as i64)),
            Field("updated_at", true, Is::Time),
            Field("access_count", false, Is::Int(1, i64::MAX)),
            Field("last_accessed_at", false, Is::Time),
            Field("uses", false, Is::List(SHORT, USE)),
            Field("events", false, Is::List(SHORT, EVENT)),
        ],
        "link" => &[
            Field("source", true, Is::Id),
            Field("target", true, Is::Id),
            Field("relation", true, Is::Text(100)),
            Field("weight", false, Is::Number(f64::MIN_POSITIVE, 1.0)),
            Field("created_at", false, Is::Time),
        ],
        "pair" => &[
            Field("a", true, Is::Id),
            Field("b", true, Is::Id),
            Field("forward", true, Is::Number(0.0, MANY)),
            Field("backward", true, Is::Number(0.0, MANY)),
            Field("linked_at", true, Is::Time),
            Field("count", true, Is::Int(1, i32::MAX as i64)),
        ],
        "call" => &[
            Field("id", true, Is::Id),
            Field("at", true, Is::Time),
            Field("user_id", false, Is::Id),
            Field("use", true, Is::OneOf(&KINDS_OF_USE)),
            Field("gain", true, Is::Number(-1.0, 100.0)),
            Field("rating", false, Is::Int(1, 4)),
            Field("recall_id", false, Is::Id),
            Field("memory_ids", true, Is::Ids(1000)),
        ],
        "credit" => &[
            Field("recall_id", true, Is::Id),
            Field("memory_ids", true, Is::Ids(SHORT)),
            Field("reinforced_ids", false, Is::Ids(SHORT)),
            Field("rated_ids", false, Is::Ids(SHORT)),
            Field("created_at", true, Is::Time),
        ],
        "message" => &[
            Field("session_id", true, Is::Text(MAX_SESSION)),
            Field("id", true, Is::Id),
            Field("created_at", true, Is::Time),
            Field("user_id", false, Is::Id),
            Field("role", true, Is::OneOf(&ROLES)),
            Field("speaker", false, Is::Text(SHORT)),
            Field("content", true, Is::Text(LONG)),
            Field("metadata", false, Is::Metadata),
        ],
        "archive" => &[
            Field("session_id", true, Is::Text(MAX_SESSION)),
            Field("id", true, Is::Id),
            Field("ids", true, Is::Ids(SHORT)),
            Field("turns", true, Is::List(SHORT, TURN)),
        ],
        _ => return None,
    })
}

/// Takes a line of `export()` apart.
pub fn line(value: Value) -> Line {
    let bad = |kind: &str, problem: String| Line {
        kind: kind.to_owned(),
        content: Err(problem),
    };
    let Value::Object(mut map) = value else {
        return bad(
            "unknown",
            format!(
                "a line must be an object, not {}",
                shorten(&value.to_string())
            ),
        );
    };
    if let Some(header) = map.get("engram") {
        return match header.get("format").and_then(Value::as_u64) {
            Some(FORMAT) => Line {
                kind: "header".to_owned(),
                content: Ok(Map::new()),
            },
            other => bad(
                "header",
                format!(
                    "the export has format {}, this version reads {FORMAT}; update engram first",
                    other.map_or("unknown".to_owned(), |f| f.to_string())
                ),
            ),
        };
    }
    let kind = match map.remove("kind") {
        Some(Value::String(kind)) => kind,
        _ => return bad("unknown", "the line has no kind".to_owned()),
    };
    if kind == "cursor" {
        return Line {
            kind: "header".to_owned(),
            content: Ok(Map::new()),
        };
    }
    if fields(&kind).is_none() {
        return bad("unknown", format!("unknown kind {:?}", shorten(&kind)));
    }
    Line {
        kind,
        content: Ok(map),
    }
}

/// Whether a line is what its kind may be; says why not.
pub fn check(kind: &str, line: &Map<String, Value>, workspace: Uuid) -> Result<(), String> {
    let fields = fields(kind).ok_or_else(|| format!("unknown kind {:?}", shorten(kind)))?;
    if let Some(other) = line.get("workspace_id") {
        let same = other.as_str().and_then(|id| id.parse().ok()) == Some(workspace);
        return Err(if same {
            "workspace_id is not part of a line: the call says where it goes".to_owned()
        } else {
            "workspace_id names another workspace".to_owned()
        });
    }
    object(line, fields)?;
    let number = |key: &str| line.get(key).and_then(Value::as_i64);
    let list = |key: &str| {
        line.get(key)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    if kind == "memory" {
        let version = number("version").unwrap_or(1);
        if list("events").any(|e| e["version"].as_i64() > Some(version)) {
            return Err("events has a version above that of the memory".to_owned());
        }
    }
    for event in list("events") {
        if kind != "erasure" && event["action"] == "erased" {
            return Err("events: what is here was not erased".to_owned());
        }
        if event["old"]["version"].as_i64() >= event["version"].as_i64()
            && !event["old"]["version"].is_null()
        {
            return Err("events: old must have a lower version than the event".to_owned());
        }
        let old = event.get("old").is_some();
        let fresh = matches!(event["action"].as_str(), Some("added" | "erased"));
        if old == fresh {
            return Err(format!(
                "events: {} must {} old",
                event["action"],
                if fresh { "not have" } else { "have" }
            ));
        }
    }
    if kind == "pair" && line.get("a").and_then(id) >= line.get("b").and_then(id) {
        return Err("a must be the lower id of the two".to_owned());
    }
    if kind == "archive" && list("ids").count() != list("turns").count() {
        return Err("ids and turns differ in length".to_owned());
    }
    if kind == "archive" && list("ids").count() == 0
        || kind == "call" && list("memory_ids").count() == 0
    {
        return Err("the list is empty".to_owned());
    }
    Ok(())
}

fn id(value: &Value) -> Option<Uuid> {
    let text = value.as_str()?;
    // Only the hyphenated form, as PostgreSQL writes it.
    Uuid::try_parse(text).ok().filter(|_| text.len() == 36)
}

fn object(map: &Map<String, Value>, fields: &[Field]) -> Result<(), String> {
    if let Some(key) = map.keys().find(|k| !fields.iter().any(|f| f.0 == *k)) {
        return Err(format!("unknown key {:?}", shorten(key)));
    }
    for Field(key, required, is) in fields {
        match map.get(*key) {
            None | Some(Value::Null) if *required => return Err(format!("{key} is missing")),
            None | Some(Value::Null) => {}
            Some(value) => matches(value, is)
                .map_err(|what| format!("{key} {what}: {}", shorten(&value.to_string())))?,
        }
    }
    Ok(())
}

fn array(value: &Value, most: usize) -> Result<&[Value], String> {
    match value.as_array() {
        Some(list) if list.len() <= most => Ok(list),
        Some(list) => Err(format!("has {} entries, the limit is {most}", list.len())),
        None => Err("must be an array".to_owned()),
    }
}

fn matches(value: &Value, is: &Is) -> Result<(), String> {
    let must = |ok: bool, what: &str| if ok { Ok(()) } else { Err(what.to_owned()) };
    match is {
        Is::Id => must(id(value).is_some(), "must be a UUID"),
        Is::Text(most) => {
            let text = value.as_str().ok_or("must be a text")?;
            must(
                text.len() <= *most || text.chars().count() <= *most,
                "is too long",
            )
        }
        Is::OneOf(known) => must(
            value.as_str().is_some_and(|v| known.contains(&v)),
            &format!("must be one of {}", known.join(", ")),
        ),
        Is::Number(least, most) => must(
            value.is_number()
                && value
                    .as_f64()
                    .is_some_and(|v| (*least..=*most).contains(&v)),
            &format!("must be a number from {least} to {most}"),
        ),
        Is::Int(least, most) => must(
            value
                .as_i64()
                .is_some_and(|v| (*least..=*most).contains(&v)),
            &format!("must be a whole number from {least} to {most}"),
        ),
        Is::Bool => must(value.is_boolean(), "must be true or false"),
        // What exactly it may be only PostgreSQL knows; this keeps words out, such as infinity and now, and
        // years beyond 9999, between which and the first a clock in microseconds would not reach.
        Is::Time => must(
            value.as_str().is_some_and(|v| {
                v.len() <= 60
                    && v.find('-') == Some(4)
                    && v.bytes().take(4).all(|c| c.is_ascii_digit())
            }),
            "must be a time such as 2026-01-31T09:00:00Z",
        ),
        Is::Someday if matches!(value.as_str(), Some("infinity" | "-infinity")) => Ok(()),
        Is::Someday => must(
            value.as_str().is_some_and(|v| {
                v.len() <= 60 && v.starts_with(|c: char| c.is_ascii_digit()) && v.contains('-')
            }),
            "must be a time such as 2026-01-31T09:00:00Z",
        ),
        Is::Past => {
            let past = value.as_object().ok_or("must be an object")?;
            PAST.iter().try_for_each(|Field(key, _, is)| {
                match past.get(*key).filter(|value| !value.is_null()) {
                    Some(value) => matches(value, is).map_err(|what| {
                        format!("has {key}, which {what}: {}", shorten(&value.to_string()))
                    }),
                    None => Ok(()),
                }
            })
        }
        Is::Metadata if raw::is_deep_value(value) => {
            Err(format!("is nested deeper than {} levels", raw::DEEPEST))
        }
        Is::Object | Is::Metadata => must(value.is_object(), "must be an object"),
        Is::Heat => {
            let bytes = value.as_str().and_then(base64).ok_or("must be base64")?;
            heat::Heat::decode(&bytes)
                .map(|_| ())
                .map_err(|why| format!("cannot be read, {why}"))
        }
        Is::Vector => {
            let text = value.as_str().ok_or("must be a text such as [0.5,1]")?;
            let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
            let fine = inner.is_some_and(|inner| {
                inner.split(',').all(|x| {
                    x.parse::<f32>().is_ok_and(f32::is_finite)
                        && x.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.')
                })
            });
            must(fine, "must be a text such as [0.5,1]")
        }
        Is::Ids(most) => must(
            array(value, *most)?.iter().all(|v| id(v).is_some()),
            "must hold UUIDs",
        ),
        Is::Texts(most) => must(
            array(value, *most)?.iter().all(Value::is_string),
            "must hold texts",
        ),
        Is::List(most, fields) => array(value, *most)?.iter().try_for_each(|entry| {
            object(entry.as_object().ok_or("must hold objects")?, fields)
                .map_err(|what| format!("has an entry whose {what}"))
        }),
        Is::One(fields) => object(value.as_object().ok_or("must be an object")?, fields)
            .map_err(|what| format!("is wrong, {what}")),
    }
}

/// Bytes in base64 with padding (RFC 4648).
fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.as_bytes();
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text.iter().rev().take_while(|c| **c == b'=').count();
    if padding > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for (n, group) in text.chunks_exact(4).enumerate() {
        let last = (n + 1) * 4 == text.len();
        let mut bits = 0u32;
        for (i, c) in group.iter().enumerate() {
            let digit = match c {
                b'A'..=b'Z' => c - b'A',
                b'a'..=b'z' => c - b'a' + 26,
                b'0'..=b'9' => c - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'=' if last && i >= 4 - padding => 0,
                _ => return None,
            };
            bits = bits << 6 | u32::from(digit);
        }
        bytes.extend_from_slice(&bits.to_be_bytes()[1..]);
    }
    bytes.truncate(bytes.len() - padding);
    Some(bytes)
}

/// Base64 with padding.
pub fn to_base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut padded = [0; 4];
        padded[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(padded);
        for i in 0..4 {
            text.push(if i <= group.len() {
                char::from(DIGITS[(bits >> (18 - 6 * i)) as usize & 63])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    proptest! {
        #[test]
        fn base64_there_and_back(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(base64(&to_base64(&bytes)), Some(bytes));
        }

        #[test]
        fn no_text_upsets_the_readers(text in ".{0,40}") {
            let _ = base64(&text);
            for is in [Is::Heat, Is::Vector, Is::Time, Is::Id] {
                let _ = matches(&Value::from(text.as_str()), &is);
            }
        }
    }

    #[test]
    fn known_base64() {
        assert_eq!(to_base64(b"foobar"), "Zm9vYmFy");
        assert_eq!(to_base64(b"fooba"), "Zm9vYmE=");
        assert_eq!(to_base64(b"foob"), "Zm9vYg==");
        for wrong in ["Zm9", "Zm9v=mFy", "====", "Zm9vY===", "Zm\n="] {
            assert_eq!(base64(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_may_not_be_is_refused() {
        let workspace = Uuid::from_u128(1);
        let ok = json!({"id": "018f0000-aaaa-7000-8000-000000000001", "content": "x",
            "state": {"access_count": 2, "last_accessed_at": "2026-01-01T00:00:00+00:00", "working_strength": 0.5},
            "version": 2, "events": [{"id": "018f0000-aaaa-7000-8000-000000000002", "at": "2026-01-01T00:00:00+00:00",
                                      "action": "updated", "version": 2, "old": {}}]});
        let checked = |value: &Value| check("memory", value.as_object().unwrap(), workspace);
        assert_eq!(checked(&ok), Ok(()));
        for (path, bad, word) in [
            ("/id", json!(7), "UUID"),
            ("/id", json!("018f0000aaaa70008000000000000001"), "UUID"),
            ("/content", Value::Null, "missing"),
            ("/state/working_strength", json!("NaN"), "number"),
            ("/state/working_strength", json!(1e12), "number"),
            ("/state/access_count", json!(0), "whole number"),
            ("/state/access_count", json!(1.5), "whole number"),
            ("/state/last_accessed_at", json!("infinity"), "time"),
            (
                "/state",
                json!({"access_count": 1, "last_accessed_at": "2026-01-01", "heat": "AAAA"}),
                "3 bytes",
            ),
            ("/state", json!([]), "object"),
            ("/version", json!(1), "above"),
            ("/events/0/action", json!("invented"), "one of"),
            ("/events/0/action", json!("added"), "not have old"),
            ("/events/0/old", Value::Null, "have old"),
            ("/events/0", json!({"memory_id": "x"}), "unknown key"),
        ] {
            let mut value = ok.clone();
            *value.pointer_mut(path).unwrap() = bad;
            if path == "/events/0/old" {
                value
                    .pointer_mut("/events/0")
                    .unwrap()
                    .as_object_mut()
                    .unwrap()
                    .remove("old");
            }
            let error = checked(&value).unwrap_err();
            assert!(error.contains(word), "{path}: {error}");
        }
        let mut value = ok.clone();
        value["workspace_id"] = json!("018f0000-aaaa-7000-8000-000000000009");
        assert!(checked(&value).unwrap_err().contains("another workspace"));
        value = ok;
        value["tags"] = vec!["t"; 10_001].into();
        assert!(checked(&value).unwrap_err().contains("limit"));
    }
}
