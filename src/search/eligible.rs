//! Which memories may be a result at all: alive, of the wanted types, passing the filter, with the
//! required phrases and without the excluded words. Asked inside the candidate stage, so that a
//! filter never empties a result that was cut before it, and as the caller, so that what a policy
//! hides takes no place among the candidates.

use std::collections::HashSet;
use std::str::FromStr;

use pgrx::JsonB;
use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use serde_json::Value;
use uuid::Uuid;

use super::Context;
use super::words::Analysed;
use crate::error::{Error, Result};
use crate::{filter, spi};

/// The conditions of one search.
pub struct Eligible<'a> {
    context: &'a Context,
    sql: String,
    params: Value,
    types: Option<Vec<String>>,
    phrases: Option<String>,
}

const TYPES: [&str; 7] = [
    "factual",
    "episodic",
    "relational",
    "emotional",
    "procedural",
    "opinion",
    "causal",
];

/// Reads a filter, times included, and compiles it.
pub fn compile(value: Option<&Value>) -> Result<filter::Compiled> {
    let node = filter::parse(value.unwrap_or(&Value::Null))?;
    for time in filter::times(&node) {
        TimestampWithTimeZone::from_str(&time).map_err(|_| {
            Error::invalid(
                format!("filter: {time:?} is not a timestamp"),
                "Write it as 2026-01-31T09:00:00Z.",
            )
        })?;
    }
    Ok(filter::compile(&node))
}

impl<'a> Eligible<'a> {
    /// Checks the conditions and prepares their SQL.
    pub fn new(
        context: &'a Context,
        filter: Option<&Value>,
        types: Option<&[Option<String>]>,
        include: Option<&[Option<String>]>,
        analysed: &Analysed,
    ) -> Result<Self> {
        let compiled = compile(filter)?;
        let types = match types {
            None => None,
            Some(types) => Some(
                types
                    .iter()
                    .map(|t| match t {
                        Some(t) if TYPES.contains(&t.as_str()) => Ok(t.clone()),
                        other => Err(Error::invalid(
                            format!(
                                "unknown memory type {:?}",
                                other.as_deref().unwrap_or("NULL")
                            ),
                            format!("Known types: {}.", TYPES.join(", ")),
                        )),
                    })
                    .collect::<Result<Vec<_>>>()?,
            ),
        };
        let (mut superseded, mut expired) = (false, false);
        for state in include.unwrap_or_default() {
            match state.as_deref() {
                Some("superseded") => superseded = true,
                Some("expired") => expired = true,
                other => {
                    return Err(Error::invalid(
                        format!("include has {:?}", other.unwrap_or("NULL")),
                        "search can include superseded and expired; engram.list() also includes forgotten.",
                    ));
                }
            }
        }
        let mut sql = String::from(
            "SELECT m.id FROM engram.memories m \
             WHERE m.workspace_id = $1 AND m.id = ANY ($2) AND m.deleted_at IS NULL \
             AND ($4::text[] IS NULL OR m.type = ANY ($4))",
        );
        if !superseded {
            sql.push_str(" AND m.superseded_by IS NULL");
        }
        if !expired {
            sql.push_str(" AND (m.expires_at IS NULL OR m.expires_at > $3)");
        }
        // Names every parameter once, so that each has a type whatever the conditions are.
        sql.push_str(" AND ($3::timestamptz, $5::jsonb) IS NOT NULL IS NOT NULL AND ");
        sql.push_str(&compiled.condition.replace("$1", "$5"));
        Ok(Self {
            context,
            sql,
            params: Value::Array(compiled.params),
            types,
            phrases: analysed.constraint(),
        })
    }

    /// Those of `ids` that may be a result.
    pub fn among(&self, ids: &[Uuid]) -> Result<HashSet<Uuid>> {
        if ids.is_empty() {
            return Ok(HashSet::new());
        }
        let rows = spi::rows(
            &self.sql,
            &[
                DatumWithOid::from(spi::pg_uuid(self.context.workspace)),
                DatumWithOid::from(spi::pg_uuids(ids)),
                DatumWithOid::from(self.context.at),
                DatumWithOid::from(self.types.clone()),
                DatumWithOid::from(JsonB(self.params.clone())),
            ],
            spi::id,
        )?;
        let passed = spi::id_set(rows);
        let Some(phrases) = &self.phrases else {
            return Ok(passed);
        };
        // The terms are the store's own, so this last question is asked as its owner.
        let ids: Vec<Uuid> = passed.into_iter().collect();
        let rows = self.context.as_owner(
            include_str!("sql/phrases.sql"),
            &[
                DatumWithOid::from(spi::pg_uuid(self.context.workspace)),
                DatumWithOid::from(spi::pg_uuids(&ids)),
                DatumWithOid::from(phrases.as_str()),
            ],
            spi::id,
        )?;
        Ok(spi::id_set(rows))
    }
}
