//! Conditions on a memory, tested where its row lies, or on what its segment knows of it: what most filters ask
//! for needs no statement.
//!
//! Each test means what `filter::compile` writes in SQL. What is not known here, a statement is asked.

use std::cmp::Ordering;
use std::str::FromStr;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::{FromDatum, PgMemoryContexts, PgTupleDesc, pg_sys};
use serde_json::Value;
use uuid::Uuid;

use super::corpus::Values;
use crate::blocks::values::{Builder, Said, of_key};
use crate::error::{Error, Result};
use crate::filter::{FIELDS, Field, Kind, Node, Op};
use crate::jsonb::{self, Json, Type};
use crate::model::layers::Layer;
use crate::scan::{Lookup, Row, Table};

/// What is known of a condition; numbers, so that the least of some is what all of them come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Known {
    No = 0,
    Unknown = 1,
    Yes = 2,
}

impl Known {
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }

    fn not(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Unknown => Self::Unknown,
            Self::Yes => Self::No,
        }
    }
}

/// What a row must satisfy.
pub struct Checks {
    node: Test,
    whole: bool,
    layers: bool,
}

/// What conditions ask of that is not in a row.
pub struct Beside<'a> {
    /// Whether layers can be told.
    pub layers: &'a dyn Fn() -> Result<bool>,
    /// Memories that are about entities with these names, with the numbers of the names; `None` where they are too many.
    pub mentioning: &'a dyn Fn(&[&str]) -> Result<Option<Mentions>>,
}

/// Memories, each with the number of a name that it is about.
pub type Mentions = Vec<(Uuid, usize)>;

enum Test {
    All(Vec<Test>),
    Any(Vec<Test>),
    Not(Box<Test>),
    /// A statement has to be asked.
    Unknown,
    /// Of the present layer, which no column tells.
    Layer(Asked),
    Column {
        name: &'static str,
        column: i16,
        of: pg_sys::Oid,
        asked: Asked,
    },
    Metadata {
        column: i16,
        path: Vec<String>,
        asked: AskedJson,
    },
}

/// What is asked of a value, or of its being NULL. Lists of which one has to be equal are sorted: they may be long.
enum Asked {
    Value {
        op: Op,
        wanted: Vec<Of<String>>,
    },
    Tags {
        op: Op,
        wanted: Vec<String>,
    },
    /// In small letters.
    Lower(String),
}

/// What is asked of a value of metadata, or of there being none.
enum AskedJson {
    /// Equal to one of these, which are sorted.
    Any(Vec<jsonb::Owned>),
    Exists,
    Compared(Op, jsonb::Owned),
    Contains(jsonb::Owned),
    /// As a part of an object that contains another.
    Within(jsonb::Owned),
    Lower(String),
}

/// A value of a column, or one that it is compared with.
enum Of<T> {
    Text(T),
    Number(f64),
    Time(i64),
    Boolean(bool),
    Uuid(Uuid),
}

impl Of<&str> {
    /// `None` where they are of different types.
    fn order(&self, other: &Of<String>) -> Option<Ordering> {
        match (self, other) {
            // By code point, as in collation "C".
            (Of::Text(a), Of::Text(b)) => Some((*a).cmp(b.as_str())),
            (Of::Number(a), Of::Number(b)) => a.partial_cmp(b),
            (Of::Time(a), Of::Time(b)) => Some(a.cmp(b)),
            (Of::Boolean(a), Of::Boolean(b)) => Some(a.cmp(b)),
            (Of::Uuid(a), Of::Uuid(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }
}

impl Of<String> {
    fn as_ref(&self) -> Of<&str> {
        match self {
            Self::Text(text) => Of::Text(text),
            Self::Number(number) => Of::Number(*number),
            Self::Time(time) => Of::Time(*time),
            Self::Boolean(yes) => Of::Boolean(*yes),
            Self::Uuid(id) => Of::Uuid(*id),
        }
    }
}

impl Checks {
    /// `None` where nothing of the filter is known here.
    pub fn new(
        node: &Node,
        types: Option<&[String]>,
        memories: &Table,
        beside: &Beside<'_>,
        superseded: bool,
        expired: Option<i64>,
    ) -> Result<Option<Self>> {
        let node = Test::of(node, memories, beside)?;
        if matches!(node, Test::Unknown) {
            return Ok(None);
        }
        let (whole, layers) = (node.whole(), node.layers());
        let none = || Asked::Value {
            op: Op::Eq,
            wanted: Vec::new(),
        };
        let mut all = vec![Test::column(memories, "deleted_at", Kind::Time, none())];
        if !superseded {
            all.push(Test::column(memories, "superseded_by", Kind::Uuid, none()));
        }
        if let Some(now) = expired {
            let asked = Asked::Value {
                op: Op::Lte,
                wanted: vec![Of::Time(now)],
            };
            let over = Test::column(memories, "expires_at", Kind::Time, asked);
            all.push(Test::Not(Box::new(over)));
        }
        if let Some(types) = types {
            let mut types = types.to_vec();
            types.sort_unstable();
            let asked = Asked::Value {
                op: Op::In,
                wanted: types.into_iter().map(Of::Text).collect(),
            };
            all.push(Test::column(memories, "type", Kind::Text, asked));
        }
        all.push(node);
        Ok(Some(Self {
            node: Test::All(all),
            whole,
            layers,
        }))
    }

    /// Whether any condition is of the layer.
    pub fn layers(&self) -> bool {
        self.layers
    }

    /// Whether a row always tells.
    pub fn whole(&self) -> bool {
        self.whole
    }

    /// Whether a row of `memories` passes, whose memory is in this layer, if that is known; `None` where a statement has
    /// to be asked. Long values take memory.
    pub fn passes(&self, row: &Row<'_>, layer: Option<Layer>) -> Option<bool> {
        match self.node.passes(row, layer) {
            Known::Yes => Some(true),
            Known::No => Some(false),
            Known::Unknown => None,
        }
    }

    /// What is known of the entries of a segment.
    pub fn known(&self, values: &mut Values<'_, '_>) -> Said<Known> {
        self.node.known(values)
    }
}

impl Test {
    fn of(node: &Node, memories: &Table, beside: &Beside<'_>) -> Result<Self> {
        let all = |nodes: &[Node]| -> Result<Vec<Self>> {
            nodes
                .iter()
                .map(|n| Self::of(n, memories, beside))
                .collect()
        };
        Ok(match node {
            Node::And(nodes) => Self::All(all(nodes)?),
            Node::Or(nodes) => Self::Any(all(nodes)?),
            Node::Not(node) => Self::Not(Box::new(Self::of(node, memories, beside)?)),
            Node::Test {
                field: Field::Column(nth),
                op,
                value,
            } => match FIELDS[*nth] {
                ("layer", kind, _) => match single(kind, *op, value) {
                    Some(asked) if (beside.layers)()? => Self::Layer(asked),
                    _ => Self::Unknown,
                },
                ("entities", ..) => Self::entities(memories, *op, value, beside)?,
                (name, kind, read) => {
                    // What is computed is no column.
                    if read.strip_prefix("m.") != Some(name) {
                        return Ok(Self::Unknown);
                    }
                    if kind == Kind::Json {
                        return Ok(Self::metadata(memories, Vec::new(), *op, value));
                    }
                    let asked = match kind {
                        Kind::List => tags(*op, value),
                        _ => single(kind, *op, value),
                    };
                    match asked {
                        Some(asked) => Self::column(memories, name, kind, asked),
                        None => Self::Unknown,
                    }
                }
            },
            Node::Test {
                field: Field::Metadata(path),
                op,
                value,
            } => Self::metadata(memories, path.clone(), *op, value),
        })
    }

    /// Those that are about entities are looked for beforehand, where these are named.
    fn entities(memories: &Table, op: Op, value: &Value, beside: &Beside<'_>) -> Result<Self> {
        let names: Option<Vec<&str>> = match (op, value) {
            (Op::In | Op::Nin | Op::Contains, Value::Array(names)) => {
                names.iter().map(Value::as_str).collect()
            }
            (Op::Contains, name) => name.as_str().map(|name| vec![name]),
            _ => None,
        };
        let Some(mut names) = names else {
            return Ok(Self::Unknown);
        };
        names.sort_unstable();
        names.dedup();
        // All of no names is everything, and one of none nothing.
        if names.is_empty() {
            let everything = Self::All(Vec::new());
            return Ok(match op {
                Op::In => Self::Not(Box::new(everything)),
                _ => everything,
            });
        }
        let Some(mut found) = (beside.mentioning)(&names)? else {
            return Ok(Self::Unknown);
        };
        found.sort_unstable();
        found.dedup();
        let least = match op {
            Op::Contains => names.len(),
            _ => 1,
        };
        let ids = found
            .chunk_by(|a, b| a.0 == b.0)
            .filter(|of_one| of_one.len() >= least)
            .map(|of_one| Of::Uuid(of_one[0].0))
            .collect();
        let asked = Asked::Value {
            op: Op::In,
            wanted: ids,
        };
        let about = Self::column(memories, "id", Kind::Uuid, asked);
        Ok(match op {
            Op::Nin if !matches!(about, Self::Unknown) => Self::Not(Box::new(about)),
            _ => about,
        })
    }

    fn column(memories: &Table, name: &'static str, kind: Kind, asked: Asked) -> Self {
        match column(memories, name, kind) {
            Some((column, of)) => Self::Column {
                name,
                column,
                of,
                asked,
            },
            None => Self::Unknown,
        }
    }

    fn metadata(memories: &Table, path: Vec<String>, op: Op, value: &Value) -> Self {
        let Some((column, _)) = column(memories, "metadata", Kind::Json) else {
            return Self::Unknown;
        };
        // An object contains another if it has its keys with values that contain the other's: so much keys tell.
        if let (true, Op::Contains, Value::Object(parts)) = (path.is_empty(), op, value) {
            let part = |(key, value): (&String, &Value)| {
                Some(Self::Metadata {
                    column,
                    path: vec![key.clone()],
                    asked: AskedJson::Within(jsonb::Owned::read(value)?),
                })
            };
            let parts: Option<Vec<Self>> = parts.iter().map(part).collect();
            return parts.map_or(Self::Unknown, Self::All);
        }
        match AskedJson::of(op, value) {
            Some((asked, not)) => {
                let test = Self::Metadata {
                    column,
                    path,
                    asked,
                };
                if not { Self::Not(Box::new(test)) } else { test }
            }
            None => Self::Unknown,
        }
    }

    /// Whether a row always tells.
    fn whole(&self) -> bool {
        match self {
            Self::All(tests) | Self::Any(tests) => tests.iter().all(Self::whole),
            Self::Not(test) => test.whole(),
            Self::Unknown => false,
            Self::Layer(_) | Self::Column { .. } | Self::Metadata { .. } => true,
        }
    }

    /// Whether any condition is of the layer.
    fn layers(&self) -> bool {
        match self {
            Self::All(tests) | Self::Any(tests) => tests.iter().any(Self::layers),
            Self::Not(test) => test.layers(),
            Self::Layer(_) => true,
            Self::Unknown | Self::Column { .. } | Self::Metadata { .. } => false,
        }
    }

    fn passes(&self, row: &Row<'_>, layer: Option<Layer>) -> Known {
        match self {
            Self::All(tests) => {
                let mut least = Known::Yes;
                for test in tests {
                    least = least.min(test.passes(row, layer));
                    if least == Known::No {
                        break;
                    }
                }
                least
            }
            Self::Any(tests) => {
                let mut most = Known::No;
                for test in tests {
                    most = most.max(test.passes(row, layer));
                    if most == Known::Yes {
                        break;
                    }
                }
                most
            }
            Self::Not(test) => test.passes(row, layer).not(),
            Self::Unknown => Known::Unknown,
            Self::Layer(asked) => match layer {
                Some(layer) => asked.test(Some(&Of::Text(layer.name()))),
                None => Known::Unknown,
            },
            Self::Column {
                column, of, asked, ..
            } => match asked {
                Asked::Tags { op, wanted } => {
                    // SAFETY: `column` has looked at its type.
                    match unsafe { tags_of(row, *column) } {
                        Some(tags) => {
                            let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
                            Known::from(compare_tags(&tags, *op, wanted))
                        }
                        None => Known::Unknown,
                    }
                }
                _ if row.datum(*column).is_none() => asked.test(None),
                // SAFETY: as above.
                _ => match unsafe { value_of(row, *column, *of) } {
                    Some(found) => asked.test(Some(&found)),
                    None => Known::Unknown,
                },
            },
            Self::Metadata {
                column,
                path,
                asked,
            } => {
                // SAFETY: as above; the row holds it for that long.
                let found = row
                    .datum(*column)
                    .and_then(|datum| unsafe { Json::of(datum) })
                    .and_then(|json| json.at(path));
                Known::from(asked.test(found))
            }
        }
    }

    /// As [`Self::passes`], of all entries of a segment.
    fn known(&self, values: &mut Values<'_, '_>) -> Said<Known> {
        let mut all = |tests: &[Self], empty: Known, pick: fn(Known, Known) -> Known| {
            let mut out = Said::Same(empty);
            for test in tests {
                // What nothing can change any more is not asked about.
                if out == Said::Same(empty.not()) {
                    break;
                }
                out = match (out, test.known(values)) {
                    (Said::Same(a), Said::Same(b)) => Said::Same(pick(a, b)),
                    (Said::Each(mut all), Said::Same(one))
                    | (Said::Same(one), Said::Each(mut all)) => {
                        for a in &mut all {
                            *a = pick(*a, one);
                        }
                        Said::Each(all)
                    }
                    (Said::Each(mut all), Said::Each(others)) => {
                        for (a, b) in all.iter_mut().zip(others) {
                            *a = pick(*a, b);
                        }
                        Said::Each(all)
                    }
                };
            }
            out
        };
        match self {
            Self::All(tests) => all(tests, Known::Yes, Ord::min),
            Self::Any(tests) => all(tests, Known::No, Ord::max),
            Self::Not(test) => match test.known(values) {
                Said::Same(one) => Said::Same(one.not()),
                Said::Each(all) => Said::Each(all.into_iter().map(Known::not).collect()),
            },
            Self::Unknown | Self::Layer(_) => Said::Same(Known::Unknown),
            Self::Column {
                name, of, asked, ..
            } => {
                let test = |value: Option<&[u8]>| match (value, asked) {
                    (None, Asked::Tags { .. }) => Known::Unknown,
                    (None, _) => asked.test(None),
                    (Some(bytes), Asked::Tags { op, wanted }) => match stored_tags(bytes) {
                        Some(tags) => Known::from(compare_tags(&tags, *op, wanted)),
                        None => Known::Unknown,
                    },
                    (Some(bytes), _) => match stored(bytes, *of) {
                        Some(found) => asked.test(Some(&found)),
                        None => Known::Unknown,
                    },
                };
                values
                    .each(name, *of, test)
                    .unwrap_or(Said::Same(Known::Unknown))
            }
            Self::Metadata { path, asked, .. } => {
                let Some((key, rest)) = path.split_first() else {
                    return Said::Same(Known::Unknown);
                };
                let test = |value: Option<&[u8]>| match value {
                    None => Known::from(asked.test(None)),
                    Some(bytes) => match jsonb::Owned::of(bytes) {
                        Some(found) => Known::from(asked.test(found.json().at(rest))),
                        None => Known::Unknown,
                    },
                };
                match values.each(&of_key(key), pg_sys::JSONBOID, test) {
                    Some(known) => known,
                    // Nobody has the key.
                    None if values.all_keys() => Said::Same(Known::from(asked.test(None))),
                    None => Said::Same(Known::Unknown),
                }
            }
        }
    }
}

impl Asked {
    fn test(&self, found: Option<&Of<&str>>) -> Known {
        match self {
            Self::Value { op, wanted } => Known::from(compare(found, *op, wanted)),
            Self::Lower(part) => match found {
                Some(Of::Text(text)) => match jsonb::lower(text) {
                    Some(lower) => Known::from(lower.contains(part.as_str())),
                    None => Known::Unknown,
                },
                Some(_) => Known::Unknown,
                None => Known::No,
            },
            Self::Tags { .. } => Known::Unknown,
        }
    }
}

impl AskedJson {
    /// What is asked, and whether the reverse of it is.
    fn of(op: Op, value: &Value) -> Option<(Self, bool)> {
        let one = || jsonb::Owned::read(value);
        let all = || -> Option<Vec<jsonb::Owned>> {
            let values = value.as_array()?.iter();
            let mut values: Vec<_> = values.map(jsonb::Owned::read).collect::<Option<_>>()?;
            values.sort_by(|a, b| a.json().compare(b.json()));
            Some(values)
        };
        Some(match (op, value) {
            (Op::Eq, _) => (Self::Any(vec![one()?]), false),
            (Op::Ne, _) => (Self::Any(vec![one()?]), true),
            (Op::In, _) => (Self::Any(all()?), false),
            (Op::Nin, _) => (Self::Any(all()?), true),
            (Op::Exists, Value::Bool(exists)) => (Self::Exists, !exists),
            (Op::Gt | Op::Gte | Op::Lt | Op::Lte, _) => (Self::Compared(op, one()?), false),
            (Op::Contains, _) => (Self::Contains(one()?), false),
            (Op::Icontains, Value::String(part)) => (Self::Lower(jsonb::lower(part)?), false),
            _ => return None,
        })
    }

    fn test(&self, found: Option<Json<'_>>) -> bool {
        match (self, found) {
            (Self::Any(wanted), Some(found)) => {
                wanted.binary_search_by(|w| w.json().compare(found)).is_ok()
            }
            // A key that is absent counts as null.
            (Self::Any(wanted), None) => wanted.iter().any(|w| w.json().kind() == Type::Null),
            (Self::Exists, found) => found.is_some(),
            (_, None) => false,
            (Self::Compared(op, wanted), Some(found)) => {
                let wanted = wanted.json();
                if found.kind() != wanted.kind() {
                    return false;
                }
                let order = match (found.text(), wanted.text()) {
                    // By code point, as in collation "C".
                    (Some(found), Some(wanted)) => found.cmp(wanted),
                    _ => found.compare(wanted),
                };
                match op {
                    Op::Gt => order.is_gt(),
                    Op::Gte => order.is_ge(),
                    Op::Lt => order.is_lt(),
                    _ => order.is_le(),
                }
            }
            (Self::Contains(wanted), Some(found)) => {
                let wanted = wanted.json();
                match (found.kind(), wanted.kind()) {
                    (Type::String, Type::String) => found
                        .text()
                        .zip(wanted.text())
                        .is_some_and(|(text, part)| text.contains(part)),
                    (Type::Array, Type::Array) | (Type::Object, Type::Object) => {
                        found.contains(wanted)
                    }
                    (Type::Array, _) => found.any(|_, element| element.equals(wanted)),
                    _ => false,
                }
            }
            (Self::Within(wanted), Some(found)) => {
                let wanted = wanted.json();
                match (found.kind(), wanted.kind()) {
                    (Type::Array, Type::Array) | (Type::Object, Type::Object) => {
                        found.contains(wanted)
                    }
                    (a, b) => a == b && found.equals(wanted),
                }
            }
            (Self::Lower(part), Some(found)) => {
                let has = |json: Json<'_>| {
                    let lower = json.text().and_then(jsonb::lower);
                    lower.is_some_and(|lower| lower.contains(part.as_str()))
                };
                match found.kind() {
                    Type::String => has(found),
                    Type::Array => found.any(|_, element| has(element)),
                    _ => false,
                }
            }
        }
    }
}

/// The number and the type of a column, if that and the collation are what setup() gives it.
fn column(memories: &Table, name: &str, kind: Kind) -> Option<(i16, pg_sys::Oid)> {
    let types: &[pg_sys::Oid] = match kind {
        Kind::Text => &[pg_sys::TEXTOID],
        Kind::Number => &[pg_sys::FLOAT8OID, pg_sys::INT4OID],
        Kind::Time => &[pg_sys::TIMESTAMPTZOID],
        Kind::Boolean => &[pg_sys::BOOLOID],
        Kind::Uuid => &[pg_sys::UUIDOID],
        Kind::List => &[pg_sys::TEXTARRAYOID],
        Kind::Json => &[pg_sys::JSONBOID],
    };
    // SAFETY: the relation is open.
    let attributes = unsafe { PgTupleDesc::from_pg_unchecked((*memories.relation()).rd_att) };
    let attribute = attributes
        .iter()
        .find(|a| !a.attisdropped && a.name() == name)?;
    let collations = [pg_sys::InvalidOid, pg_sys::DEFAULT_COLLATION_OID];
    let plain = types.contains(&attribute.atttypid) && collations.contains(&attribute.attcollation);
    plain.then_some((attribute.attnum, attribute.atttypid))
}

fn tags(op: Op, value: &Value) -> Option<Asked> {
    let text = |value: &Value| Some(value.as_str()?.to_owned());
    let (op, mut wanted): (Op, Vec<String>) = match (op, value) {
        // No tags at all.
        (Op::Eq | Op::Ne, Value::Null) => (op, Vec::new()),
        (Op::In | Op::Nin | Op::Contains | Op::Eq | Op::Ne, Value::Array(values)) => {
            (op, values.iter().map(text).collect::<Option<_>>()?)
        }
        (Op::Contains, value) => (op, vec![text(value)?]),
        (Op::Exists, Value::Bool(true)) => (Op::Ne, Vec::new()),
        (Op::Exists, Value::Bool(false)) => (Op::Eq, Vec::new()),
        (Op::Icontains, value) => (op, vec![jsonb::lower(value.as_str()?)?]),
        _ => return None,
    };
    wanted.sort_unstable();
    Some(Asked::Tags { op, wanted })
}

/// Lists are sets here: order and repetition do not count.
fn compare_tags(tags: &[&str], op: Op, wanted: &[String]) -> bool {
    let has = |tag: &String| tags.contains(&tag.as_str());
    let among = |tag: &&str| wanted.binary_search_by(|w| w.as_str().cmp(tag)).is_ok();
    let same = || wanted.iter().all(has) && tags.iter().all(among);
    match op {
        Op::In => tags.iter().any(among),
        Op::Nin => !tags.iter().any(among),
        Op::Eq => same(),
        Op::Ne => !same(),
        Op::Icontains => tags.iter().any(|tag| {
            let lower = jsonb::lower(tag);
            lower.is_some_and(|lower| wanted.iter().all(|part| lower.contains(part.as_str())))
        }),
        _ => wanted.iter().all(has),
    }
}

fn single(kind: Kind, op: Op, value: &Value) -> Option<Asked> {
    let wanted = match (op, value) {
        (Op::In | Op::Nin, Value::Array(values)) => {
            let values = values.iter().map(|value| wanted(kind, value));
            let mut values: Vec<Of<String>> = values.collect::<Option<_>>()?;
            values.sort_by(|a, b| a.as_ref().order(b).unwrap_or(Ordering::Equal));
            values
        }
        (Op::Exists, Value::Bool(exists)) => vec![Of::Boolean(*exists)],
        (Op::Eq | Op::Ne, Value::Null) => Vec::new(),
        (Op::Contains | Op::Icontains, _) if kind != Kind::Text => return None,
        (Op::Icontains, _) => return Some(Asked::Lower(jsonb::lower(value.as_str()?)?)),
        (Op::In | Op::Nin | Op::Exists, _) => return None,
        _ => vec![wanted(kind, value)?],
    };
    Some(Asked::Value { op, wanted })
}

fn wanted(kind: Kind, value: &Value) -> Option<Of<String>> {
    Some(match kind {
        Kind::Text => Of::Text(value.as_str()?.to_owned()),
        Kind::Number => Of::Number(value.as_f64()?),
        Kind::Time => Of::Time(
            TimestampWithTimeZone::from_str(value.as_str()?)
                .ok()?
                .into(),
        ),
        Kind::Boolean => Of::Boolean(value.as_bool()?),
        Kind::Uuid => Of::Uuid(Uuid::try_parse(value.as_str()?).ok()?),
        Kind::List | Kind::Json => return None,
    })
}

/// # Safety
/// The column is of this type, and not NULL.
unsafe fn value_of<'a>(row: &Row<'a>, column: i16, of: pg_sys::Oid) -> Option<Of<&'a str>> {
    // SAFETY: the caller's promise.
    unsafe {
        Some(match of {
            pg_sys::TEXTOID => Of::Text(row.text(column)?),
            pg_sys::FLOAT8OID => Of::Number(row.get(column)?),
            pg_sys::INT4OID => Of::Number(row.get::<i32>(column)?.into()),
            pg_sys::TIMESTAMPTZOID => Of::Time(i64::from_datum(row.datum(column)?, false)?),
            pg_sys::BOOLOID => Of::Boolean(row.get(column)?),
            pg_sys::UUIDOID => Of::Uuid(row.uuid(column)?),
            _ => return None,
        })
    }
}

/// `None` where it holds a NULL.
///
/// # Safety
/// The column is `text[]`.
unsafe fn tags_of(row: &Row<'_>, column: i16) -> Option<Vec<String>> {
    // SAFETY: the caller's promise.
    let tags = unsafe { row.get::<Vec<Option<String>>>(column) }?;
    tags.into_iter().collect()
}

fn compare(found: Option<&Of<&str>>, op: Op, wanted: &[Of<String>]) -> bool {
    use Ordering::{Equal, Greater, Less};
    let order = |wanted: &Of<String>| found?.order(wanted);
    let equal = |wanted: &Of<String>| order(wanted) == Some(Equal);
    let among = |all: &[Of<String>]| {
        let order = |wanted: &Of<String>| order(wanted).map_or(Less, Ordering::reverse);
        all.binary_search_by(order).is_ok()
    };
    match (op, wanted) {
        (Op::Exists, [Of::Boolean(exists)]) => found.is_some() == *exists,
        (Op::In, all) => among(all),
        (Op::Nin, all) => !among(all),
        (Op::Eq, []) => found.is_none(),
        (Op::Ne, []) => found.is_some(),
        (Op::Eq, [one]) => equal(one),
        (Op::Ne, [one]) => !equal(one),
        (Op::Gt, [one]) => order(one) == Some(Greater),
        (Op::Gte, [one]) => matches!(order(one), Some(Greater | Equal)),
        (Op::Lt, [one]) => order(one) == Some(Less),
        (Op::Lte, [one]) => matches!(order(one), Some(Less | Equal)),
        (Op::Contains, [Of::Text(part)]) => match found {
            Some(Of::Text(text)) => text.contains(part.as_str()),
            _ => false,
        },
        _ => false,
    }
}

/// Columns that segments hold. A change of one of them, or of metadata, makes a new entry of the memory:
/// the trigger `memories_after_update` names them all but the id.
const HELD: [(&str, Kind); 17] = [
    ("user_id", Kind::Uuid),
    ("agent_id", Kind::Text),
    ("session_id", Kind::Text),
    ("speaker", Kind::Text),
    ("role", Kind::Text),
    ("type", Kind::Text),
    ("importance", Kind::Number),
    ("pinned", Kind::Boolean),
    ("tags", Kind::List),
    ("source", Kind::Text),
    ("occurred_at", Kind::Time),
    ("valid_from", Kind::Time),
    ("valid_to", Kind::Time),
    ("superseded_by", Kind::Uuid),
    ("expires_at", Kind::Time),
    ("created_at", Kind::Time),
    ("deleted_at", Kind::Time),
];

/// What filters ask of these memories, entries of a segment, as [`crate::blocks::values`] stores it. For who owns
/// the table.
pub fn gather(workspace: Uuid, ids: &[Uuid]) -> Result<Vec<u8>> {
    let memories = Table::open(c"memories")?;
    if !memories.owned() {
        return Err(Error::Forbidden {
            message: "only the owner of engram.memories may gather what segments hold of it"
                .to_owned(),
            hint: "engram.reindex() does it with the rights that it takes.".to_owned(),
        });
    }
    let mut all = Gathering::new(ids.len(), &memories);
    let mut rows = Lookup::new(&memories)?;
    let mut memory = PgMemoryContexts::new("engram values");
    for (entry, id) in ids.iter().enumerate() {
        pgrx::check_for_interrupts!();
        let row = rows.find([workspace, *id]);
        // SAFETY: nothing that is made meanwhile is kept.
        unsafe {
            memory.reset();
            memory.switch_to(|_| all.put(entry, row.as_ref()));
        }
    }
    Ok(all.builder.encode())
}

/// What has been gathered.
struct Gathering {
    builder: Builder,
    /// By their order in the builder.
    columns: Vec<(i16, pg_sys::Oid)>,
    metadata: Option<i16>,
    deleted: Option<usize>,
}

/// No value of its type: what it is, is not known.
const ODD: &[u8] = &[];

impl Gathering {
    /// For so many entries.
    fn new(n: usize, memories: &Table) -> Self {
        let mut names: Vec<(&str, u32)> = Vec::new();
        let mut columns = Vec::new();
        let mut deleted = None;
        for (name, kind) in HELD {
            if let Some((number, of)) = column(memories, name, kind) {
                if name == "deleted_at" {
                    deleted = Some(names.len());
                }
                names.push((name, of.to_u32()));
                columns.push((number, of));
            }
        }
        Self {
            builder: Builder::new(n, &names, pg_sys::JSONBOID.to_u32()),
            columns,
            metadata: column(memories, "metadata", Kind::Json).map(|found| found.0),
            deleted,
        }
    }

    /// Takes the row of the next entry, `None` when there is none.
    fn put(&mut self, entry: usize, row: Option<&Row<'_>>) {
        let Some(row) = row else {
            // The first condition of every filter does not hold, nor does it not.
            if let Some(nth) = self.deleted {
                self.builder.put(nth, entry, ODD);
            }
            return;
        };
        for (nth, (column, of)) in self.columns.iter().enumerate() {
            if row.datum(*column).is_none() {
                continue;
            }
            // SAFETY: `new` has looked at the types.
            let bytes = unsafe {
                match *of {
                    pg_sys::TEXTARRAYOID => match tags_of(row, *column) {
                        Some(tags) => store_tags(&tags),
                        None => ODD.to_vec(),
                    },
                    of => match value_of(row, *column, of) {
                        Some(value) => store(&value),
                        None => ODD.to_vec(),
                    },
                }
            };
            self.builder.put(nth, entry, &bytes);
        }
        let metadata = self.metadata.and_then(|column| row.datum(column));
        // SAFETY: as above; the row holds it for that long.
        let metadata = metadata.and_then(|datum| unsafe { Json::of(datum) });
        if let Some(metadata) = metadata {
            metadata.any(|key, value| {
                if let Some(key) = key {
                    self.builder.put_key(key, entry, value.bytes());
                }
                false
            });
        }
    }
}

fn store(value: &Of<&str>) -> Vec<u8> {
    match value {
        Of::Text(text) => text.as_bytes().to_vec(),
        Of::Number(number) => number.to_le_bytes().to_vec(),
        Of::Time(time) => time.to_le_bytes().to_vec(),
        Of::Boolean(yes) => vec![u8::from(*yes)],
        Of::Uuid(id) => id.as_bytes().to_vec(),
    }
}

/// The reverse, of a column of that type.
fn stored(bytes: &[u8], of: pg_sys::Oid) -> Option<Of<&str>> {
    Some(match of {
        pg_sys::TEXTOID => Of::Text(std::str::from_utf8(bytes).ok()?),
        pg_sys::FLOAT8OID | pg_sys::INT4OID => {
            Of::Number(f64::from_le_bytes(bytes.try_into().ok()?))
        }
        pg_sys::TIMESTAMPTZOID => Of::Time(i64::from_le_bytes(bytes.try_into().ok()?)),
        pg_sys::BOOLOID => Of::Boolean(*bytes.first()? == 1),
        pg_sys::UUIDOID => Of::Uuid(Uuid::from_slice(bytes).ok()?),
        _ => return None,
    })
}

/// How many there are, and each with its length.
fn store_tags(tags: &[String]) -> Vec<u8> {
    let mut out = (tags.len() as u32).to_le_bytes().to_vec();
    for tag in tags {
        out.extend((tag.len() as u32).to_le_bytes());
        out.extend(tag.as_bytes());
    }
    out
}

fn stored_tags(bytes: &[u8]) -> Option<Vec<&str>> {
    let number = |rest: &mut &[u8]| -> Option<usize> {
        let (number, more) = rest.split_first_chunk::<4>()?;
        *rest = more;
        Some(u32::from_le_bytes(*number) as usize)
    };
    let mut rest = bytes;
    let count = number(&mut rest)?;
    let mut tags = Vec::new();
    for _ in 0..count {
        let length = number(&mut rest)?;
        let (tag, more) = rest.split_at_checked(length)?;
        tags.push(std::str::from_utf8(tag).ok()?);
        rest = more;
    }
    Some(tags)
}
