//! Queries with kept plans.
//!
//! `Spi::get_one` and its kin take a transaction id even to read, which fails on a standby. [`rows`] and
//! [`row`] never do.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::PgOid;
use pgrx::spi::{OwnedPreparedStatement, Spi, SpiClient, SpiHeapTupleData};

use crate::error::Result;

/// Statements that a backend keeps prepared.
const MAX_PLANS: usize = 60;
/// Longer ones, which callers' filters make, are not kept: their plans are large and seldom used again.
const MAX_KEPT: usize = 4000;

thread_local! {
    static PLANS: RefCell<HashMap<String, Rc<OwnedPreparedStatement>>> = RefCell::default();
}

/// The statement, prepared the first time. PostgreSQL plans it anew when the tables, the role or its
/// policies change.
fn prepared(
    client: &SpiClient<'_>,
    sql: &str,
    args: &[DatumWithOid<'_>],
) -> Result<Rc<OwnedPreparedStatement>> {
    if let Some(plan) = PLANS.with_borrow(|plans| plans.get(sql).cloned()) {
        return Ok(plan);
    }
    let types: Vec<PgOid> = args.iter().map(|arg| PgOid::from(arg.oid())).collect();
    let plan = Rc::new(client.prepare(sql, &types)?.keep());
    PLANS.with_borrow_mut(|plans| {
        if sql.len() <= MAX_KEPT {
            if plans.len() >= MAX_PLANS {
                plans.clear();
            }
            plans.insert(sql.to_owned(), plan.clone());
        }
    });
    Ok(plan)
}

/// Runs a query and maps every row. The statement stays prepared, so its text should not differ
/// from call to call.
pub fn rows<T>(
    sql: &str,
    args: &[DatumWithOid<'_>],
    mut map: impl FnMut(&SpiHeapTupleData<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    Spi::connect(|client| {
        let plan = prepared(client, sql, args)?;
        let mut out = Vec::new();
        for row in client.select(&*plan, None, args)? {
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

/// Runs a statement that may write and maps every row that it returns.
pub fn changed<T>(
    sql: &str,
    args: &[DatumWithOid<'_>],
    mut map: impl FnMut(&SpiHeapTupleData<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    Spi::connect_mut(|client| {
        let plan = prepared(client, sql, args)?;
        let mut out = Vec::new();
        for row in client.update(&*plan, None, args)? {
            out.push(map(&row)?);
        }
        Ok(out)
    })
}

/// Runs a statement that writes; returns how many rows it did.
pub fn change(sql: &str, args: &[DatumWithOid<'_>]) -> Result<usize> {
    Spi::connect_mut(|client| {
        let plan = prepared(client, sql, args)?;
        Ok(client.update(&*plan, None, args)?.len())
    })
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
