//! Searching the past: what was otherwise at a moment, laid over what is scanned.
//!
//! Blocks hold the present. Of memories that have changed since, documents of the highest possible version
//! take the place of theirs, and vectors of other texts are left out; conditions and rows are asked of
//! `engram_internal.memories_as_of()`. The cost grows with the number of later changes.

use pgrx::datum::datetime_support::clock_timestamp;
use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use uuid::Uuid;

use super::Context;
use super::ids::{IdMap, IdSet};
use crate::error::{Error, Result};
use crate::model::heat::Heat;
use crate::{spi, sync};

/// What was otherwise at a moment.
pub struct Past {
    /// The moment.
    pub as_of: TimestampWithTimeZone,
    /// Blocks of one document each, which replace those of the same memories.
    pub documents: Vec<Vec<u8>>,
    /// Memories whose vectors speak of another text.
    pub rewritten: IdSet,
    /// Keys of the entities that changed memories mentioned then.
    pub entities: IdMap<Vec<String>>,
}

/// The error for a moment of which nothing can be known yet.
pub fn check(as_of: Option<TimestampWithTimeZone>) -> Result<()> {
    let Some(as_of) = as_of else { return Ok(()) };
    if as_of.is_neg_infinity() {
        return Err(Error::invalid(
            "as_of is infinite",
            "Give a moment in time, or leave it out.",
        ));
    }
    if i64::from(as_of) > i64::from(clock_timestamp()) {
        return Err(Error::invalid(
            format!("as_of {as_of} is in the future"),
            "Give a moment that is past, or leave as_of out for the present.",
        ));
    }
    if let Some(begin) = sync::history_begins()?
        && i64::from(as_of) < begin
    {
        return Err(Error::invalid(
            format!("as_of {as_of} is before what is kept"),
            format!(
                "Changes from before {} were dropped (memory_events_days, drop_partitions()). Give a later moment.",
                TimestampWithTimeZone::try_from(begin)
                    .map_or_else(|_| begin.to_string(), |at| at.to_string())
            ),
        ));
    }
    Ok(())
}

impl Past {
    /// Reads, as the caller, what has changed since.
    pub fn read(context: &Context, as_of: TimestampWithTimeZone) -> Result<Self> {
        let mut past = Self {
            as_of,
            documents: Vec::new(),
            rewritten: IdSet::default(),
            entities: IdMap::default(),
        };
        spi::rows(
            include_str!("sql/changed.sql"),
            &[
                DatumWithOid::from(spi::pg_uuid(context.workspace)),
                DatumWithOid::from(as_of),
                DatumWithOid::from(context.text_config.as_str()),
            ],
            |row| {
                let id = spi::uuid(row.get::<pgrx::Uuid>(1)?.expect("NOT NULL"));
                if let Some(document) = row.get::<&[u8]>(2)? {
                    past.documents.push(document.to_vec());
                }
                let nodes = row.get::<Vec<Option<String>>>(3)?.unwrap_or_default();
                past.entities
                    .insert(id, nodes.into_iter().flatten().collect());
                if row.get::<bool>(4)?.unwrap_or(true) {
                    past.rewritten.insert(id);
                }
                Ok(())
            },
        )?;
        Ok(past)
    }

    /// The moment in microseconds since 2000-01-01 UTC.
    pub fn at(&self) -> i64 {
        self.as_of.into()
    }

    /// Of links of nodes to memories those of then.
    pub fn mentions(&self, links: &mut Vec<(String, Uuid)>, names: &[String]) {
        links.retain(|(_, memory)| !self.entities.contains_key(memory));
        for (memory, nodes) in &self.entities {
            links.extend(
                nodes
                    .iter()
                    .filter(|node| names.contains(node))
                    .map(|node| (node.clone(), *memory)),
            );
        }
    }
}

/// Uses and heat of memories by what the log has until the moment that is searched.
pub fn replayed(context: &Context, ids: &[Uuid]) -> Result<IdMap<(i64, Heat)>> {
    let (Some(past), false) = (&context.past, ids.is_empty()) else {
        return Ok(IdMap::default());
    };
    let rows = context.as_owner(
        include_str!("sql/replay.sql"),
        &[
            DatumWithOid::from(spi::pg_uuid(context.workspace)),
            DatumWithOid::from(spi::pg_uuids(ids)),
            DatumWithOid::from(past.as_of),
        ],
        |row| {
            let id = spi::uuid(row.get::<pgrx::Uuid>(1)?.expect("NOT NULL"));
            let created = row.get::<TimestampWithTimeZone>(2)?.map_or(0, i64::from);
            let times = row.get::<Vec<Option<TimestampWithTimeZone>>>(3)?;
            let gains = row.get::<Vec<Option<f64>>>(4)?.unwrap_or_default();
            let mut heat = Heat::new(created, 1.0);
            let mut count = 1;
            for (at, gain) in times.unwrap_or_default().into_iter().zip(gains) {
                if let (Some(at), Some(gain)) = (at, gain) {
                    heat.touch(at.into(), gain);
                    count += 1;
                }
            }
            Ok((id, (count, heat)))
        },
    )?;
    Ok(rows.into_iter().collect())
}
