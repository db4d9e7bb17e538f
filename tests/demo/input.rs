//! Messages from JSONL: one JSON object a line, with the names that exports commonly use.

use std::borrow::Cow;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Failure, Result};

/// Whose memory a message without a user goes into.
pub const DEFAULT_USER: &str = "demo";

const CONVERSATION: &str = include_str!("conversation.jsonl");

/// Namespace of the ids made here. Never change it: a second run would store everything again.
const NAMESPACE: Uuid = Uuid::from_u128(0x4e0d_7c52_93b1_4f6a_8a27_5d1c_b0e9_6f34);

const TYPES: [&str; 7] = [
    "factual",
    "episodic",
    "relational",
    "emotional",
    "procedural",
    "opinion",
    "causal",
];
const ROLES: [&str; 4] = ["user", "assistant", "system", "tool"];

/// A JSONL file in memory.
pub struct Source {
    /// What to call it.
    pub name: String,
    /// The name of a file without directory and extension.
    pub stem: String,
    /// Lines that are not empty.
    pub total: usize,
    text: Cow<'static, [u8]>,
}

/// A line that is not empty.
pub struct Line<'a> {
    /// Counted from 1, empty lines included, as editors do.
    pub number: usize,
    /// Counted from 0, empty lines excluded, as the rows of a matrix of embeddings.
    pub row: usize,
    pub text: &'a [u8],
}

impl Source {
    /// Reads a file, or without one the conversation that the program brings along.
    pub fn open(path: Option<&Path>) -> Result<Self> {
        let (name, mut text): (String, Cow<'static, [u8]>) = match path {
            None => (
                "the demo conversation".to_owned(),
                CONVERSATION.as_bytes().into(),
            ),
            Some(path) => (path.display().to_string(), read(path)?.into()),
        };
        if let Some(rest) = text.strip_prefix(b"\xef\xbb\xbf") {
            text = rest.to_vec().into();
        }
        let stem = path.and_then(Path::file_stem).unwrap_or("file".as_ref());
        let mut source = Self {
            name,
            stem: stem.to_string_lossy().into_owned(),
            total: 0,
            text,
        };
        source.total = source.lines().count();
        let first = source.lines().next();
        if let Some(first) = first
            && first.text.trim_ascii_start().starts_with(b"[")
        {
            return Err(Failure::new(format!(
                "{0} is one JSON array, not one object a line. Turn it into lines first: jq -c '.[]' {0} > lines.jsonl",
                source.name
            )));
        }
        if source.total == 0 {
            return Err(Failure::new(format!(
                "{} is empty. It needs one JSON object a line, at least with content.",
                source.name
            )));
        }
        Ok(source)
    }

    pub fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.text
            .split(|byte| *byte == b'\n')
            .enumerate()
            .filter(|(_, text)| !text.trim_ascii().is_empty())
            .enumerate()
            .map(|(row, (at, text))| Line {
                number: at + 1,
                row,
                text,
            })
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        let name = path.display();
        Failure::new(match error.kind() {
            ErrorKind::NotFound => format!("There is no file {name}. Check the path."),
            ErrorKind::IsADirectory => {
                format!("{name} is a directory. Name the .jsonl file in it.")
            }
            ErrorKind::PermissionDenied => {
                format!("You may not read {name}. Make it readable: chmod a+r {name}")
            }
            _ => format!("Cannot read {name}: {error}."),
        })
    })
}

/// One message.
pub struct Message {
    pub line: usize,
    pub user: String,
    pub embedding: Option<Vec<f32>>,
    /// What `engram.add_many` takes, but for the embedding.
    pub item: Map<String, Value>,
    /// Keys whose value engram does not know and that went into metadata instead.
    pub moved: Vec<(&'static str, String)>,
}

impl Message {
    /// Reads a line; the error is a sentence for its author.
    pub fn parse(line: &Line<'_>) -> std::result::Result<Self, String> {
        let text = std::str::from_utf8(line.text).map_err(|_| "not UTF-8".to_owned())?;
        let mut fields = match serde_json::from_str(text) {
            Ok(Value::Object(fields)) => fields,
            Ok(_) => return Err("not a JSON object".to_owned()),
            Err(error) => {
                // Its position counts lines of this one line.
                let error = error.to_string();
                let reason = error.split(" at line ").next().unwrap_or(&error);
                return Err(format!("not valid JSON ({reason})"));
            }
        };
        if fields
            .iter()
            .any(|(key, value)| key.contains('\0') || has_nul(value))
        {
            return Err("has a NUL character (\\u0000), which PostgreSQL cannot store".to_owned());
        }
        let content = match take(&mut fields, &["content", "text", "message"]) {
            Some(Value::String(content)) => content,
            Some(_) => return Err("content is not a text".to_owned()),
            None => return Err("has no content".to_owned()),
        };
        let user = match take(&mut fields, &["user", "user_id"]) {
            None => DEFAULT_USER.to_owned(),
            Some(value) => scalar(&value)
                .filter(|user| !user.is_empty())
                .ok_or("user is neither a text nor a number")?,
        };
        let mut item = Map::new();
        for (key, aliases) in [
            ("speaker", &["speaker", "name", "from", "author"][..]),
            (
                "session_id",
                &[
                    "session",
                    "session_id",
                    "conversation",
                    "conversation_id",
                    "thread",
                ],
            ),
        ] {
            if let Some(value) = take(&mut fields, aliases) {
                let text = scalar(&value).map_or(value, Value::String);
                item.insert(key.to_owned(), text);
            }
        }
        if let Some(value) = take(
            &mut fields,
            &["occurred_at", "timestamp", "time", "date", "created_at"],
        ) {
            item.insert("occurred_at".to_owned(), time(value));
        }
        for key in ["importance", "tags", "entities"] {
            if let Some(value) = take(&mut fields, &[key]) {
                item.insert(key.to_owned(), value);
            }
        }
        let mut moved = Vec::new();
        for (key, known) in [("role", &ROLES[..]), ("type", &TYPES)] {
            match fields.get(key) {
                Some(Value::String(value)) if known.contains(&value.as_str()) => {
                    item.insert(key.to_owned(), fields.remove(key).unwrap_or_default());
                }
                Some(Value::Null) | None => {}
                // Exports use these words for much else: it stays with the message.
                Some(value) => {
                    moved.push((key, scalar(value).unwrap_or_else(|| value.to_string())))
                }
            }
        }
        let embedding = match take(&mut fields, &["embedding"]) {
            None => None,
            Some(value) => Some(numbers(&value).ok_or("embedding is not an array of numbers")?),
        };
        let id = take(&mut fields, &["id"]);
        let known_as = match &id {
            Some(Value::String(id)) if id.len() == 36 => Uuid::try_parse(id).ok(),
            Some(Value::Array(_) | Value::Object(_)) => {
                return Err("id is neither a text nor a number".to_owned());
            }
            _ => None,
        };
        let memory = known_as.unwrap_or_else(|| {
            let seed = id.clone().unwrap_or_else(|| line.number.into());
            let name = Value::from(vec![user.clone().into(), seed, content.as_str().into()]);
            Uuid::new_v5(&NAMESPACE, name.to_string().as_bytes())
        });
        let mut metadata = match take(&mut fields, &["metadata"]) {
            Some(Value::Object(metadata)) => metadata,
            Some(other) => Map::from_iter([("metadata".to_owned(), other)]),
            None => Map::new(),
        };
        if let (Some(id), None) = (id, known_as) {
            fields.insert("id".to_owned(), id);
        }
        for (key, value) in fields {
            metadata.entry(key).or_insert(value);
        }
        item.insert("content".to_owned(), content.into());
        item.insert("metadata".to_owned(), metadata.into());
        item.insert("id".to_owned(), memory.to_string().into());
        // Messages repeat themselves; only running the program again must not.
        item.insert("on_duplicate".to_owned(), "allow".into());
        Ok(Self {
            line: line.number,
            user,
            embedding,
            item,
            moved,
        })
    }
}

/// Removes and returns the first of `names` that is there and not null.
fn take(fields: &mut Map<String, Value>, names: &[&str]) -> Option<Value> {
    let name = names
        .iter()
        .find(|name| fields.get(**name).is_some_and(|v| !v.is_null()))?;
    fields.remove(*name)
}

/// Texts, numbers and booleans as text.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// Unix time, in seconds or from 11 digits on in milliseconds, as a text that PostgreSQL reads;
/// everything else as it is.
fn time(value: Value) -> Value {
    let Some(number) = value.as_f64() else {
        return value;
    };
    let seconds = if number.abs() >= 1e11 {
        number / 1e3
    } else {
        number
    }
    .floor();
    if seconds.abs() > 1e12 {
        return value;
    }
    let seconds = seconds as i64;
    // PostgreSQL reads Julian days, so nobody has to know the lengths of months here.
    let (day, rest) = (
        2_440_588 + seconds.div_euclid(86_400),
        seconds.rem_euclid(86_400),
    );
    format!(
        "J{day} {:02}:{:02}:{:02}+00",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
    .into()
}

fn numbers(value: &Value) -> Option<Vec<f32>> {
    value
        .as_array()
        .filter(|numbers| !numbers.is_empty())?
        .iter()
        .map(|n| n.as_f64().map(|n| n as f32))
        .collect()
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(k, v)| k.contains('\0') || has_nul(v)),
        _ => false,
    }
}
