//! Which memories may be a result at all: alive, of the wanted types, passing the filter, with the
//! required phrases and without the excluded words. Asked inside the candidate stage, so that a
//! filter never empties a result that was cut before it, and as the caller, so that what a policy
//! hides takes no place among the candidates.

use std::str::FromStr;

use pgrx::JsonB;
use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use serde_json::Value;
use uuid::Uuid;

use super::ids::IdSet;
use super::words::Analysed;
use super::{Context, Request};
use crate::error::{Error, Result};
use crate::scan::Table;
use crate::{filter, spi};

/// The conditions of one search.
pub struct Eligible<'a> {
    context: &'a Context,
    /// Nothing is asked of a memory.
    free: bool,
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
    let compiled = filter::compile(&node);
    if compiled.condition.contains("entity_aliases") {
        // For its error: the tables may be of an older version.
        Table::open(c"entity_aliases")?;
    }
    Ok(compiled)
}

impl<'a> Eligible<'a> {
    /// Checks the conditions and prepares their SQL.
    pub fn new(context: &'a Context, request: &Request, analysed: &Analysed) -> Result<Self> {
        let mut compiled = compile(request.filter.as_ref())?;
        if context.past.is_some() {
            compiled = compiled.past();
        }
        let types = match &request.types {
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
        let phrases = analysed.constraint();
        let free =
            types.is_none() && compiled.condition == filter::NO_CONDITION && phrases.is_none();
        // Names every parameter once, so that each has a type whatever the conditions are.
        let mut sql = String::from(
            "SELECT u.id FROM pg_catalog.unnest($2) AS u (id) CROSS JOIN LATERAL ( \
             SELECT 1 FROM ",
        );
        sql.push_str(match context.past {
            None => "engram.memories m WHERE m.workspace_id = $1 AND m.id = u.id AND ",
            Some(_) => "engram_internal.memories_as_of($1, $10, ARRAY[u.id]) m WHERE ",
        });
        sql.push_str(
            "m.deleted_at IS NULL \
             AND ($4::text[] IS NULL OR m.type = ANY ($4)) \
             AND ($5 OR m.superseded_by IS NULL) \
             AND ($6 OR m.expires_at IS NULL OR m.expires_at > $3) \
             AND ($7::jsonb, $8::text) IS NOT NULL IS NOT NULL AND ",
        );
        sql.push_str(&compiled.condition.replace("$1", "$7"));
        if phrases.is_some() {
            sql.push_str(
                " AND engram_internal.to_terms($9, engram_internal.indexed_text(m.content, m.speaker, m.occurred_at, m.summary)) \
                 OPERATOR(pg_catalog.@@) $8::pg_catalog.tsquery",
            );
        } else {
            sql.push_str(" AND ($9::text) IS NOT NULL IS NOT NULL");
        }
        sql.push_str(" OFFSET 0) passed");
        Ok(Self {
            context,
            free,
            sql,
            params: Value::Array(compiled.params),
            types,
            phrases,
        })
    }

    /// Whether candidates are looked up.
    pub fn asks(&self) -> bool {
        !self.free
    }

    /// From now on every candidate is looked up. True when it was not before.
    pub fn ask(&mut self) -> bool {
        std::mem::take(&mut self.free)
    }

    /// The first `wanted` of `ids` that may be a result.
    ///
    /// Without any condition all may, until [`Self::ask`]: those that are superseded or expired, which
    /// are few, drop out when the rows are fetched.
    pub fn first(&self, ids: &[Uuid], wanted: usize) -> Result<Vec<Uuid>> {
        if self.free {
            return Ok(ids.iter().copied().take(wanted).collect());
        }
        let mut out = Vec::with_capacity(wanted.min(ids.len()));
        for chunk in ids.chunks(wanted.max(200)) {
            let passed = self.among(chunk)?;
            out.extend(chunk.iter().filter(|id| passed.contains(id)));
            if out.len() >= wanted {
                out.truncate(wanted);
                break;
            }
        }
        Ok(out)
    }

    fn among(&self, ids: &[Uuid]) -> Result<IdSet> {
        let mut args = vec![
            DatumWithOid::from(spi::pg_uuid(self.context.workspace)),
            DatumWithOid::from(spi::pg_uuids(ids)),
            DatumWithOid::from(self.context.at),
            DatumWithOid::from(self.types.clone()),
            DatumWithOid::from(self.context.superseded),
            DatumWithOid::from(self.context.expired),
            DatumWithOid::from(JsonB(self.params.clone())),
            DatumWithOid::from(self.phrases.as_deref()),
            DatumWithOid::from(self.context.text_config.as_str()),
        ];
        if let Some(past) = &self.context.past {
            args.push(DatumWithOid::from(past.as_of));
        }
        let rows = spi::rows(&self.sql, &args, spi::id)?;
        Ok(rows.into_iter().flatten().map(spi::uuid).collect())
    }
}
