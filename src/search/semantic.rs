//! The vector lane: exact nearest neighbours of the query vector within the workspace.

use std::collections::HashMap;

use pgrx::datum::DatumWithOid;
use uuid::Uuid;

use super::eligible::Eligible;
use super::{Context, Lane, Model, take_eligible};
use crate::error::{Error, Result};
use crate::model::similarity::Distance;
use crate::model::similarity::norm;
use crate::spi;

/// The lane of one query vector.
pub struct Semantic<'a> {
    context: &'a Context,
    model: &'a Model,
    query: Vec<f32>,
}

impl<'a> Semantic<'a> {
    /// Checks the query vector against the model.
    pub fn new(context: &'a Context, query: Vec<f32>) -> Result<Self> {
        let Some(model) = &context.model else {
            return Err(Error::NotReady {
                message: "no embedding model is registered as the default".to_owned(),
                hint: "Have an administrator run: SELECT engram.set_embedding_model('all-MiniLM-L6-v2', 384);".to_owned(),
            });
        };
        if usize::try_from(model.dims) != Ok(query.len()) {
            return Err(Error::Dimensions {
                message: format!(
                    "query_embedding has {} dimensions, model \"{}\" has {}",
                    query.len(),
                    model.name,
                    model.dims
                ),
                hint: format!(
                    "Embed the query with model \"{}\", or name its model: model => '…'.",
                    model.name
                ),
            });
        }
        if model.distance == Distance::Cosine && norm(&query) == 0.0 {
            return Err(Error::Dimensions {
                message: "query_embedding is all zeros, which has no direction to compare"
                    .to_owned(),
                hint: "Leave query_embedding out to search by words.".to_owned(),
            });
        }
        Ok(Self {
            context,
            model,
            query,
        })
    }

    fn read(&self, sql: &str, last: DatumWithOid<'_>) -> Result<Vec<(Uuid, f64)>> {
        let found = self.context.as_owner(
            sql,
            &[
                DatumWithOid::from(spi::pg_uuid(self.context.workspace)),
                DatumWithOid::from(self.model.name.as_str()),
                DatumWithOid::from(self.query.clone()),
                DatumWithOid::from(self.model.distance_name.as_str()),
                last,
            ],
            |row| Ok((row.get::<pgrx::Uuid>(1)?, row.get::<f64>(2)?)),
        )?;
        Ok(found
            .into_iter()
            .filter_map(|(id, similarity)| Some((spi::uuid(id?), similarity?)))
            .collect())
    }
}

impl Lane for Semantic<'_> {
    fn name(&self) -> &'static str {
        "vector"
    }

    fn candidates(&mut self, eligible: &Eligible<'_>, pool: usize) -> Result<Vec<Uuid>> {
        let mut limit = i64::try_from(pool).unwrap_or(i64::MAX);
        loop {
            let mut nearest =
                self.read(include_str!("sql/nearest.sql"), DatumWithOid::from(limit))?;
            let all = i64::try_from(nearest.len()).unwrap_or(i64::MAX) < limit;
            // A memory that points away from the query is no evidence of anything.
            if self.model.distance != Distance::L2 {
                nearest.retain(|(_, similarity)| *similarity > 0.0);
            }
            let ids = take_eligible(eligible, &nearest, pool)?;
            if all || ids.len() >= pool {
                return Ok(ids);
            }
            limit = limit.saturating_mul(8);
        }
    }

    fn scores(&self, ids: &[Uuid]) -> Result<HashMap<Uuid, f64>> {
        Ok(self
            .read(
                include_str!("sql/similarities.sql"),
                DatumWithOid::from(spi::pg_uuids(ids)),
            )?
            .into_iter()
            .collect())
    }
}
