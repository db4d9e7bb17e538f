//! Rows of memories that were found: straight from their table where the caller may see all of the workspace,
//! else asked of the policies on it.

use pgrx::datum::DatumWithOid;
use uuid::Uuid;

use super::eligible::Eligible;
use super::ids::IdMap;
use super::{Context, Hit};
use crate::blocks::segment::Place;
use crate::error::Result;
use crate::heap::{self, Placed};
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
    let columns = Columns::of(memories)?;
    let at = i64::from(context.at);
    let key = [memories.column(c"workspace_id")?, memories.column(c"id")?];
    let mut rows = Placed::new(memories, key, i16::MAX)?;
    rows.approach(wanted.iter().map(|(_, place)| *place), 384);
    let mut found = IdMap::default();
    for (id, place) in wanted {
        let Some(row) = rows.find([context.workspace, *id], *place, |_| true) else {
            continue;
        };
        let over = columns.over(&row, at);
        if over.deleted
            || over.superseded && !context.superseded
            || over.expired && !context.expired
            || !eligible.holds(&row)
        {
            continue;
        }
        found.insert(*id, columns.hit(*id, &row));
        // Whoever was shown a memory may use it.
        if let Some(place) = place {
            heap::note_memory(memories, id, *place);
        }
    }
    // Only what still stands contradicts.
    let mut stands = |id: &Uuid| {
        let row = rows.find([context.workspace, *id], None, |_| true);
        row.is_some_and(|row| columns.over(&row, at) == Over::default())
    };
    for hit in found.values_mut() {
        hit.contradicted_by.retain(&mut stands);
    }
    Ok(found)
}

/// Where a row of the table of memories has what a hit is made of.
struct Columns {
    content: i16,
    kind: i16,
    importance: i16,
    tags: i16,
    metadata: i16,
    speaker: i16,
    role: i16,
    session: i16,
    occurred: i16,
    created: i16,
    deleted: i16,
    superseded: i16,
    expires: i16,
    contradicted: i16,
}

/// Why a memory may stand no longer.
#[derive(Default, PartialEq)]
struct Over {
    deleted: bool,
    superseded: bool,
    expired: bool,
}

impl Columns {
    fn of(memories: &Table) -> Result<Self> {
        let column = |name| memories.column(name);
        Ok(Self {
            content: column(c"content")?,
            kind: column(c"type")?,
            importance: column(c"importance")?,
            tags: column(c"tags")?,
            metadata: column(c"metadata")?,
            speaker: column(c"speaker")?,
            role: column(c"role")?,
            session: column(c"session_id")?,
            occurred: column(c"occurred_at")?,
            created: column(c"created_at")?,
            deleted: column(c"deleted_at")?,
            superseded: column(c"superseded_by")?,
            expires: column(c"expires_at")?,
            contradicted: column(c"contradicted_by")?,
        })
    }

    /// What is over at a moment, in microseconds since 2000-01-01 UTC.
    fn over(&self, row: &Row<'_>, at: i64) -> Over {
        // SAFETY: the column is a timestamp.
        let expires = unsafe { row.get::<i64>(self.expires) };
        Over {
            deleted: row.datum(self.deleted).is_some(),
            superseded: row.datum(self.superseded).is_some(),
            expired: expires.is_some_and(|expires| expires <= at),
        }
    }

    fn hit(&self, id: Uuid, row: &Row<'_>) -> Hit {
        // SAFETY: the columns have these types; setup() made them. All is copied.
        unsafe {
            Hit {
                id,
                content: row.get(self.content).unwrap_or_default(),
                kind: row.get(self.kind).unwrap_or_default(),
                score: 0.0,
                importance: row.get(self.importance).unwrap_or_default(),
                tags: row
                    .get::<Vec<Option<String>>>(self.tags)
                    .unwrap_or_default()
                    .into_iter()
                    .flatten()
                    .collect(),
                metadata: row.get(self.metadata).expect("NOT NULL"),
                speaker: row.get(self.speaker),
                role: row.get(self.role),
                session_id: row.get(self.session),
                occurred_at: row.get(self.occurred),
                created_at: row.get(self.created).expect("NOT NULL"),
                matched: Vec::new(),
                explain: None,
                contradicted_by: row.uuids(self.contradicted),
                repeats: Vec::new(),
            }
        }
    }
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
