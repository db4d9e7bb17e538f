//! The lane of a search for nothing in particular: what is most needed now, by how often and how
//! lately it was used.

use std::collections::HashMap;

use pgrx::datum::DatumWithOid;
use uuid::Uuid;

use super::eligible::Eligible;
use super::{Context, Lane, take_eligible};
use crate::error::Result;
use crate::model::activation::base_level_petrov;
use crate::spi;

/// Decay of base-level activation (Anderson & Lebiere 1998).
const DECAY: f64 = 0.5;

/// The lane; filled by `candidates`.
pub struct Need<'a> {
    context: &'a Context,
    levels: HashMap<Uuid, f64>,
}

impl<'a> Need<'a> {
    /// Nothing is read yet.
    pub fn new(context: &'a Context) -> Self {
        Self {
            context,
            levels: HashMap::new(),
        }
    }
}

impl Lane for Need<'_> {
    fn name(&self) -> &'static str {
        "need"
    }

    fn candidates(&mut self, eligible: &Eligible<'_>, pool: usize) -> Result<Vec<Uuid>> {
        let mut ranked = self.context.as_owner(
            include_str!("sql/used.sql"),
            &[
                DatumWithOid::from(spi::pg_uuid(self.context.workspace)),
                DatumWithOid::from(self.context.at),
            ],
            |row| {
                let id = spi::uuid(row.get::<pgrx::Uuid>(1)?.expect("NOT NULL"));
                let n = row.get::<i64>(2)?.unwrap_or(1).unsigned_abs();
                let last = row.get::<f64>(3)?.unwrap_or(0.0);
                let created = row.get::<f64>(4)?.unwrap_or(0.0);
                Ok((id, base_level_petrov(&[last], n, created, DECAY)))
            },
        )?;
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| b.0.cmp(&a.0)));
        self.levels = ranked.iter().copied().collect();
        take_eligible(eligible, &ranked, pool)
    }

    fn scores(&self, ids: &[Uuid]) -> Result<HashMap<Uuid, f64>> {
        Ok(ids
            .iter()
            .filter_map(|id| self.levels.get(id).map(|level| (*id, *level)))
            .collect())
    }
}
