//! Read-only queries.
//!
//! `Spi::get_one` and its kin take a transaction id even to read, which fails on a standby. The
//! functions here never do.

use std::collections::HashSet;

use pgrx::datum::DatumWithOid;
use pgrx::spi::{Spi, SpiHeapTupleData};

use crate::error::Result;

/// Runs a query and maps every row.
pub fn rows<T>(
    sql: &str,
    args: &[DatumWithOid<'_>],
    mut map: impl FnMut(&SpiHeapTupleData<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    Spi::connect(|client| {
        let mut out = Vec::new();
        for row in client.select(sql, None, args)? {
            pgrx::check_for_interrupts!();
            out.push(map(&row)?);
        }
        Ok(out)
    })
}

/// Runs a query that gives at most one row of interest.
pub fn row<T>(
    sql: &str,
    args: &[DatumWithOid<'_>],
    map: impl FnMut(&SpiHeapTupleData<'_>) -> Result<T>,
) -> Result<Option<T>> {
    Ok(rows(sql, args, map)?.into_iter().next())
}

/// The ids that a query gave in its first column, once [`rows`] has mapped it with [`id`].
pub fn id_set(rows: Vec<Option<pgrx::Uuid>>) -> HashSet<uuid::Uuid> {
    rows.into_iter().flatten().map(uuid).collect()
}

/// The id in the first column of a row.
pub fn id(row: &SpiHeapTupleData<'_>) -> Result<Option<pgrx::Uuid>> {
    Ok(row.get::<pgrx::Uuid>(1)?)
}

/// A UUID as PostgreSQL's type.
pub fn pg_uuid(id: uuid::Uuid) -> pgrx::Uuid {
    pgrx::Uuid::from_bytes(*id.as_bytes())
}

/// PostgreSQL's UUID as ours.
pub fn uuid(id: pgrx::Uuid) -> uuid::Uuid {
    uuid::Uuid::from_bytes(*id.as_bytes())
}

/// Many UUIDs as PostgreSQL's type.
pub fn pg_uuids(ids: &[uuid::Uuid]) -> Vec<pgrx::Uuid> {
    ids.iter().map(|id| pg_uuid(*id)).collect()
}
