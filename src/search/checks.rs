//! Conditions on a memory, tested where its row lies: what most filters ask for needs no statement.
//!
//! Each test means what `filter::compile` writes in SQL. What is not known here, a statement is asked.

use std::str::FromStr;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::{FromDatum, PgTupleDesc, pg_sys};
use serde_json::Value;
use uuid::Uuid;

use crate::error::Result;
use crate::filter::{FIELDS, Field, Kind, Node, Op};
use crate::scan::{Row, Table};

/// What a row must satisfy.
pub struct Checks {
    node: Test,
    types: Option<Vec<String>>,
    kind: i16,
    deleted: i16,
    superseded: i16,
    expires: i16,
}

enum Test {
    All(Vec<Test>),
    Any(Vec<Test>),
    Not(Box<Test>),
    Column {
        column: i16,
        of: pg_sys::Oid,
        op: Op,
        wanted: Vec<Of<String>>,
    },
    Tags {
        column: i16,
        op: Op,
        wanted: Vec<String>,
    },
}

/// A value of a column, or one that it is compared with.
enum Of<T> {
    Text(T),
    Number(f64),
    Time(i64),
    Boolean(bool),
    Uuid(Uuid),
}

impl Checks {
    /// `None` where a part of the filter is not known here.
    pub fn new(node: &Node, types: Option<&[String]>, memories: &Table) -> Result<Option<Self>> {
        let Some(node) = Test::of(node, memories) else {
            return Ok(None);
        };
        Ok(Some(Self {
            node,
            types: types.map(<[String]>::to_vec),
            kind: memories.column(c"type")?,
            deleted: memories.column(c"deleted_at")?,
            superseded: memories.column(c"superseded_by")?,
            expires: memories.column(c"expires_at")?,
        }))
    }

    /// Whether a row of `memories` passes; `None` where a statement has to be asked.
    pub fn passes(&self, row: &Row<'_>, superseded: bool, expired: Option<i64>) -> Option<bool> {
        if row.datum(self.deleted).is_some() || !superseded && row.datum(self.superseded).is_some()
        {
            return Some(false);
        }
        // SAFETY: the columns have these types; setup() made them.
        let (until, kind) = unsafe { (row.get::<i64>(self.expires), row.text(self.kind)) };
        if expired.zip(until).is_some_and(|(now, until)| until <= now) {
            return Some(false);
        }
        if let Some(types) = &self.types
            && !types.iter().any(|wanted| Some(wanted.as_str()) == kind)
        {
            return Some(false);
        }
        self.node.passes(row)
    }
}

impl Test {
    fn of(node: &Node, memories: &Table) -> Option<Self> {
        let all = |nodes: &[Node]| -> Option<Vec<Self>> {
            nodes.iter().map(|n| Self::of(n, memories)).collect()
        };
        match node {
            Node::And(nodes) => Some(Self::All(all(nodes)?)),
            Node::Or(nodes) => Some(Self::Any(all(nodes)?)),
            Node::Not(node) => Some(Self::Not(Box::new(Self::of(node, memories)?))),
            Node::Test {
                field: Field::Column(nth),
                op,
                value,
            } => {
                let (name, kind, read) = FIELDS[*nth];
                // Layers and entities are not columns.
                if read.strip_prefix("m.") != Some(name) {
                    return None;
                }
                let (column, of) = column(memories, name, kind)?;
                match kind {
                    Kind::List => tags(column, *op, value),
                    _ => single(column, of, kind, *op, value),
                }
            }
            Node::Test { .. } => None,
        }
    }

    fn passes(&self, row: &Row<'_>) -> Option<bool> {
        match self {
            Self::All(tests) => {
                for test in tests {
                    if !test.passes(row)? {
                        return Some(false);
                    }
                }
                Some(true)
            }
            Self::Any(tests) => {
                for test in tests {
                    if test.passes(row)? {
                        return Some(true);
                    }
                }
                Some(false)
            }
            Self::Not(test) => Some(!test.passes(row)?),
            Self::Column {
                column,
                of,
                op,
                wanted,
            } => {
                let found = match row.datum(*column) {
                    // SAFETY: `column` has looked at its type.
                    Some(_) => Some(unsafe { value_of(row, *column, *of) }?),
                    None => None,
                };
                Some(compare(found.as_ref(), *op, wanted))
            }
            Self::Tags { column, op, wanted } => {
                // SAFETY: as above.
                let tags = unsafe { row.get::<Vec<Option<String>>>(*column) }?;
                let tags: Vec<String> = tags.into_iter().collect::<Option<_>>()?;
                let has = |tag: &String| tags.contains(tag);
                Some(match op {
                    Op::Exists => !tags.is_empty(),
                    Op::In => wanted.iter().any(has),
                    Op::Nin => !wanted.iter().any(has),
                    _ => wanted.iter().all(has),
                })
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
        Kind::Json => return None,
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

fn tags(column: i16, op: Op, value: &Value) -> Option<Test> {
    let text = |value: &Value| Some(value.as_str()?.to_owned());
    let wanted = match (op, value) {
        (Op::In | Op::Nin | Op::Contains, Value::Array(values)) => {
            values.iter().map(text).collect::<Option<_>>()?
        }
        (Op::Contains, value) => vec![text(value)?],
        (Op::Exists, Value::Bool(true)) => Vec::new(),
        _ => return None,
    };
    Some(Test::Tags { column, op, wanted })
}

fn single(column: i16, of: pg_sys::Oid, kind: Kind, op: Op, value: &Value) -> Option<Test> {
    let wanted = match (op, value) {
        (Op::In | Op::Nin, Value::Array(values)) => values
            .iter()
            .map(|value| wanted(kind, value))
            .collect::<Option<_>>()?,
        (Op::Exists, Value::Bool(exists)) => vec![Of::Boolean(*exists)],
        (Op::Eq | Op::Ne, Value::Null) => Vec::new(),
        (Op::Contains, _) if kind != Kind::Text => return None,
        (Op::Icontains | Op::In | Op::Nin | Op::Exists, _) => return None,
        _ => vec![wanted(kind, value)?],
    };
    Some(Test::Column {
        column,
        of,
        op,
        wanted,
    })
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

fn compare(found: Option<&Of<&str>>, op: Op, wanted: &[Of<String>]) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let order = |wanted: &Of<String>| match (found?, wanted) {
        // By code point, as in collation "C".
        (Of::Text(a), Of::Text(b)) => Some((*a).cmp(b.as_str())),
        (Of::Number(a), Of::Number(b)) => a.partial_cmp(b),
        (Of::Time(a), Of::Time(b)) => Some(a.cmp(b)),
        (Of::Boolean(a), Of::Boolean(b)) => Some(a.cmp(b)),
        (Of::Uuid(a), Of::Uuid(b)) => Some(a.cmp(b)),
        _ => None,
    };
    let equal = |wanted: &Of<String>| order(wanted) == Some(Equal);
    match (op, wanted) {
        (Op::Exists, [Of::Boolean(exists)]) => found.is_some() == *exists,
        (Op::In, all) => all.iter().any(equal),
        (Op::Nin, all) => !all.iter().any(equal),
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
