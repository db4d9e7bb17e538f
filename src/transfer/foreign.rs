//! What other memory systems export, as lines of ours. Shapes as their documentation and data show them;
//! ids are made of theirs and the workspace, so that an import that is repeated finds what it stored.

mod engramai;
mod mcp;
mod mem0;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Line, MAX_LINES};
use crate::api::shorten;
use crate::error::{Error, Result};
use crate::text::Date;

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
        Format::Engramai => engramai::lines(values, workspace),
        Format::Mem0 => mem0::lines(values, workspace, now),
        Format::Mcp => mcp::lines(values, workspace),
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

/// What a row should have, and the row that has not.
fn lacking(what: &str, row: &Value) -> String {
    format!("{what}: {}", shorten(&row.to_string()))
}

/// A list; nothing where it is empty.
fn unless_empty<T: Into<Value>>(list: Vec<T>) -> Value {
    if list.is_empty() {
        Value::Null
    } else {
        list.into()
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

/// The text under a key; empty is none.
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
        micros.div_euclid(Date::MICROSECONDS),
        micros.rem_euclid(Date::MICROSECONDS),
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

/// The moment that a row tells under a key, as a number or in ISO 8601.
fn instant(row: &Value, key: &str) -> Option<i64> {
    match row.get(key)? {
        Value::Number(seconds) => moment(seconds.as_f64()?),
        Value::String(text) => parse_iso(text),
        _ => None,
    }
}

/// A moment of ISO 8601 in the usual form, UTC where it names no offset. For putting moments in order: what is stored
/// is read by PostgreSQL, which knows more forms.
fn parse_iso(text: &str) -> Option<i64> {
    let digits = |from: usize, to: usize| -> Option<i64> {
        let part = text.get(from..to)?;
        (part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse().ok())?
    };
    let sign = |at: usize, signs: &str| text.get(at..=at).filter(|c| signs.contains(c));
    let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
    sign(4, "-").and(sign(7, "-"))?;
    // The reverse of what `iso` does.
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100
        + day_of_year
        - 719_468;
    let mut seconds = days * 86_400;
    let mut micros = 0;
    if text.len() > 10 {
        sign(10, "Tt ")?;
        sign(13, ":").and(sign(16, ":"))?;
        seconds += digits(11, 13)? * 3600 + digits(14, 16)? * 60 + digits(17, 19)?;
        let mut end = 19;
        if sign(end, ".").is_some() {
            let fraction = text[20..].bytes().take_while(u8::is_ascii_digit).count();
            end = 20 + fraction;
            let micro = &text[20..20 + fraction.min(6)];
            micros = format!("{micro:0<6}").parse().ok()?;
        }
        if let Some(sign) = sign(end, "+-") {
            let minutes = digits(end + 1, end + 3)? * 60 + digits(end + 4, end + 6).unwrap_or(0);
            seconds -= if sign == "+" { minutes } else { -minutes } * 60;
        }
    }
    Some(seconds * 1_000_000 + micros - EPOCH)
}

fn number(row: &Value, key: &str) -> Option<f64> {
    row.get(key)?.as_f64()
}

/// A relation between two entities, from, what and to: a memory that says so, mentions both, and is linked to the
/// second. Where one of them is missing, says what such a row `needs`.
fn relation(
    workspace: Uuid,
    whose: &str,
    row: &Value,
    parts: [Option<&str>; 3],
    needs: &str,
) -> Line {
    let [Some(from), Some(relation), Some(to)] = parts else {
        let problem = lacking(&format!("a relation needs {needs}"), row);
        return bad("memory", problem);
    };
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
    fn words_for_moments() {
        for (text, same) in [
            ("2024-02-29T23:59:59.5Z", "2024-02-29T23:59:59.500000Z"),
            ("2024-02-29 15:59:59-08:00", "2024-02-29T23:59:59.000000Z"),
            (
                "2024-03-01T05:29:59.25+05:30",
                "2024-02-29T23:59:59.250000Z",
            ),
            ("2024-03-01", "2024-03-01T00:00:00.000000Z"),
            (
                "1999-12-31T23:59:59.1234567+00",
                "1999-12-31T23:59:59.123456Z",
            ),
        ] {
            assert_eq!(parse_iso(text).map(iso).as_deref(), Some(same));
        }
        for text in [
            "",
            "yesterday",
            "2024-02",
            "2024-02-29T",
            "2024/02/29",
            "2024-02-29T12:00",
        ] {
            assert_eq!(parse_iso(text), None, "{text}");
        }
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
    fn a_link_without_its_moment_is_of_the_last_common_one() {
        let linked_at = |stored: Value, calls: Value| {
            let memories: Vec<Value> = (["a", "b"].iter().zip([json!(1e9), stored]))
                .map(|(id, at)| json!({"id": id, "content": id, "created_at": at}))
                .collect();
            let link = json!({"source_id": "a", "target_id": "b", "strength": 0.5});
            let data = json!({"memories": memories, "access_log": calls, "hebbian_links": [link]});
            let found = lines(Format::Engramai, vec![data], Uuid::from_u128(7), 0);
            let pair = found.into_iter().find(|l| l.kind == "pair").unwrap();
            pair.content.map(|pair| pair["linked_at"].clone())
        };
        let later =
            json!([{"memory_id": "a", "accessed_at": 3e9}, {"memory_id": "b", "accessed_at": 2e9}]);
        assert_eq!(
            linked_at(json!(1.5e9), json!([])).unwrap(),
            iso(moment(1e9).unwrap())
        );
        assert_eq!(
            linked_at(json!(1.5e9), later).unwrap(),
            iso(moment(2e9).unwrap())
        );
        assert!(linked_at(Value::Null, json!([])).is_err());
    }

    #[test]
    fn steps_are_in_the_order_of_their_moments() {
        // The clock of the second one, in the east, says more than those of the others.
        let at = [
            "2025-01-01T20:00:00-08:00",
            "2025-01-02T16:30:00+09:00",
            "2025-01-01T23:59:00-08:00",
            "2025-01-02T08:00:00+00:00",
        ];
        let step = |n: usize, event: &str| json!({"memory_id": "a", "event": event, "new_memory": format!("{n}"), "updated_at": at[n]});
        let history = vec![
            step(3, "UPDATE"),
            step(2, "UPDATE"),
            step(0, "ADD"),
            step(1, "UPDATE"),
        ];
        let found = lines(Format::Mem0, history, Uuid::from_u128(7), 0);
        let memory = found[0].content.as_ref().unwrap();
        assert_eq!(memory["content"], "3");
        let steps = memory["events"].as_array().unwrap().iter();
        let steps: Vec<&str> = steps.map(|e| e["at"].as_str().unwrap()).collect();
        assert_eq!(steps, at);
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
        fn moments_are_read_as_they_are_written(seconds in -6.2e10..2.5e11f64, text in "[-0-9T:.+Z é]{0,30}") {
            let at = moment(seconds).unwrap();
            prop_assert_eq!(parse_iso(&iso(at)), Some(at));
            let _ = parse_iso(&text);
        }

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
