//! The lane of a search for nothing in particular: what is most needed now, by how often and how
//! lately it was used.

use pgrx::datum::DatumWithOid;
use uuid::Uuid;

use super::Context;
use crate::error::Result;
use crate::model::activation::base_level_petrov;
use crate::spi;

/// Decay of base-level activation (Anderson & Lebiere 1998).
const DECAY: f64 = 0.5;

/// Base level of every memory of the workspace, in no order.
pub fn levels(context: &Context) -> Result<Vec<(Uuid, f64)>> {
    context.as_owner(
        include_str!("sql/used.sql"),
        &[
            DatumWithOid::from(spi::pg_uuid(context.workspace)),
            DatumWithOid::from(context.at),
        ],
        |row| {
            let id = spi::uuid(row.get::<pgrx::Uuid>(1)?.expect("NOT NULL"));
            let n = row.get::<i64>(2)?.unwrap_or(1).unsigned_abs();
            let last = row.get::<f64>(3)?.unwrap_or(0.0);
            let created = row.get::<f64>(4)?.unwrap_or(0.0);
            Ok((id, base_level_petrov(&[last], n, created, DECAY)))
        },
    )
}
