//! Rows of memories that were found: straight from their table where the caller may see all of the workspace,
//! else asked of the policies on it.

use pgrx::datum::DatumWithOid;
use uuid::Uuid;

use super::eligible::Eligible;
use super::ids::IdMap;
use super::{Context, Hit};
use crate::blocks::segment::Place;
use crate::error::Result;
use crate::heap::Placed;
use crate::raw::RawJsonb;
use crate::scan::{Row, Table};
use crate::{rows, spi};

/// The rows of these memories that the caller may see, without scores.
pub(super) fn rows_of(
    context: &Context,
    eligible: &Eligible<'_>,
    wanted: &[(Uuid, Option<Place>)],
) -> Result<IdMap<Hit>> {
    let memories = Table::open(c"memories")?;
    if context.past.is_none() && rows::all_visible(&memories, context.workspace) {
        return rows_directly(context, eligible, &memories, wanted);
    }
    let ids: Vec<Uuid> = wanted.iter().map(|(id, _)| *id).collect();
    rows_as_caller(context, &ids)
}

/// What `sql/fetch.sql` gives, of a workspace all of whose rows the caller may see.
fn rows_directly(
    context: &Context,
    eligible: &Eligible<'_>,
    memories: &Table,
    wanted: &[(Uuid, Option<Place>)],
) -> Result<IdMap<Hit>> {
    let column = |name| memories.column(name);
    let [content, kind, importance, tags, metadata] = [
        column(c"content")?,
        column(c"type")?,
        column(c"importance")?,
        column(c"tags")?,
        column(c"metadata")?,
    ];
    let [speaker, role, session, occurred, created] = [
        column(c"speaker")?,
        column(c"role")?,
        column(c"session_id")?,
        column(c"occurred_at")?,
        column(c"created_at")?,
    ];
    let [deleted, superseded, expires, contradicted] = [
        column(c"deleted_at")?,
        column(c"superseded_by")?,
        column(c"expires_at")?,
        column(c"contradicted_by")?,
    ];
    let at = i64::from(context.at);
    // Deleted, superseded, expired
    let over = |row: &Row<'_>| {
        // SAFETY: the column is a timestamp.
        let expires = unsafe { row.get::<i64>(expires) };
        (
            row.datum(deleted).is_some(),
            row.datum(superseded).is_some(),
            expires.is_some_and(|expires| expires <= at),
        )
    };
    let mut found = IdMap::default();
    let key = [column(c"workspace_id")?, column(c"id")?];
    let mut rows = Placed::new(memories, key, i16::MAX)?;
    rows.approach(wanted.iter().map(|(_, place)| *place), 384);
    for (id, place) in wanted {
        let Some(row) = rows.find([context.workspace, *id], *place, |_| true) else {
            continue;
        };
        let (deleted, superseded, expired) = over(&row);
        if deleted
            || superseded && !context.superseded
            || expired && !context.expired
            || !eligible.holds(&row)
        {
            continue;
        }
        // SAFETY: the columns have these types; setup() made them. All is copied.
        let hit = unsafe {
            Hit {
                id: *id,
                content: row.get(content).unwrap_or_default(),
                kind: row.get(kind).unwrap_or_default(),
                score: 0.0,
                importance: row.get(importance).unwrap_or_default(),
                tags: row
                    .get::<Vec<Option<String>>>(tags)
                    .unwrap_or_default()
                    .into_iter()
                    .flatten()
                    .collect(),
                metadata: row.get(metadata).expect("NOT NULL"),
                speaker: row.get(speaker),
                role: row.get(role),
                session_id: row.get(session),
                occurred_at: row.get(occurred),
                created_at: row.get(created).expect("NOT NULL"),
                matched: Vec::new(),
                explain: None,
                contradicted_by: row.uuids(contradicted),
                repeats: Vec::new(),
            }
        };
        found.insert(*id, hit);
        // Whoever was shown a memory may use it.
        if let Some(place) = place {
            crate::heap::note_memory(memories, id, *place);
        }
    }
    // Only what still stands contradicts.
    let mut stands = |id: &Uuid| {
        let row = rows.find([context.workspace, *id], None, |_| true);
        row.is_some_and(|row| over(&row) == (false, false, false))
    };
    for hit in found.values_mut() {
        hit.contradicted_by.retain(&mut stands);
    }
    Ok(found)
}

/// As [`rows_of`], asked of the policies on the table.
fn rows_as_caller(context: &Context, ids: &[Uuid]) -> Result<IdMap<Hit>> {
    let mut args = vec![
        DatumWithOid::from(spi::pg_uuid(context.workspace)),
        DatumWithOid::from(spi::pg_uuids(ids)),
        DatumWithOid::from(context.at),
        DatumWithOid::from(context.superseded),
        DatumWithOid::from(context.expired),
    ];
    let sql = match &context.past {
        None => include_str!("sql/fetch.sql"),
        Some(past) => {
            args.push(DatumWithOid::from(past.as_of));
            include_str!("sql/fetch_past.sql")
        }
    };
    let rows = spi::rows(sql, &args, |row| {
        let id = spi::uuid(row.get::<pgrx::Uuid>(1)?.expect("NOT NULL"));
        Ok((
            id,
            Hit {
                id,
                content: row.get(2)?.unwrap_or_default(),
                kind: row.get(3)?.unwrap_or_default(),
                score: 0.0,
                importance: row.get(4)?.unwrap_or_default(),
                tags: row
                    .get::<Vec<Option<String>>>(5)?
                    .unwrap_or_default()
                    .into_iter()
                    .flatten()
                    .collect(),
                metadata: row.get::<RawJsonb>(6)?.expect("NOT NULL"),
                speaker: row.get(7)?,
                role: row.get(8)?,
                session_id: row.get(9)?,
                occurred_at: row.get(10)?,
                created_at: row.get(11)?.expect("NOT NULL"),
                matched: Vec::new(),
                explain: None,
                contradicted_by: row
                    .get::<Vec<Option<pgrx::Uuid>>>(12)?
                    .into_iter()
                    .flatten()
                    .flatten()
                    .map(spi::uuid)
                    .collect(),
                repeats: Vec::new(),
            },
        ))
    })?;
    Ok(rows.into_iter().collect())
}
