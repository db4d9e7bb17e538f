//! The vector lane: nearest neighbours of the query vector within the workspace. All vectors are
//! compared by their 8-bit codes, in segments by the upper halves of those, and the best by full precision. Of large
//! workspaces whose vectors are arranged in cells, those of the likeliest cells are.

use uuid::Uuid;

use super::corpus::Points;
use super::ids::NumberMap;
use super::{Context, Model};
use crate::blocks::segment::Place;
use crate::error::{Error, Result};
use crate::heap::Placed;
use crate::model::similarity::{Distance, norm, similarity};
use crate::scan::{Row, Table};
use crate::{simd, vector};

/// Vectors beyond `match_count` that are compared by full precision. The codes are about 0.001 off in
/// cosine, so only a few that stand close together can change places.
const RERANK: usize = 15;

/// Where a longer result is shown, its end is ranked by the codes, if these are whole.
const MOST_RERANKED: usize = 100;

/// Standard deviations by which two similarities of half codes may be in the wrong order, and most vectors
/// that are compared again because of it.
const DOUBT: f64 = 3.0;
const MOST_DOUBTED: usize = 75;

/// Makes a similarity of a dot product.
#[derive(Clone, Copy)]
pub struct Measure {
    /// By which vectors are compared.
    pub distance: Distance,
    /// Euclidean length of the query, and 1 by it.
    length: f64,
    scale: f32,
}

impl Measure {
    fn new(distance: Distance, length: f64) -> Self {
        Self {
            distance,
            length,
            scale: (1.0 / length) as f32,
        }
    }

    /// The similarity of a stored vector of length `norm`.
    pub fn of(self, dot: f32, norm: f32) -> f32 {
        match self.distance {
            Distance::Cosine if norm > 0.0 => (dot * self.scale / norm).clamp(-1.0, 1.0),
            Distance::Cosine => 0.0,
            Distance::InnerProduct => dot,
            Distance::L2 => {
                let (dot, norm) = (f64::from(dot), f64::from(norm));
                let squared = self.length * self.length + norm * norm - 2.0 * dot;
                (1.0 / (1.0 + squared.max(0.0).sqrt())) as f32
            }
        }
    }
}

/// The lane of one query vector.
pub struct Semantic<'a> {
    context: &'a Context,
    model: &'a Model,
    query: Vec<f32>,
    /// All vectors of the workspace.
    pub points: Points<'a>,
    exact: NumberMap<f64>,
}

impl<'a> Semantic<'a> {
    /// Checks the query vector against the model. Nothing is read yet.
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
            points: Points::none(),
            exact: NumberMap::default(),
        })
    }

    /// Reads the workspace, or, where its vectors are in cells and that is wanted, the likeliest of them.
    pub fn read(&mut self, blocks: &'a Table, likeliest: bool) -> Result<()> {
        let query = simd::Query::new(&self.query);
        let measure = Measure::new(self.model.distance, query.norm);
        self.points = Points::read(
            self.context,
            blocks,
            &self.model.name,
            query,
            measure,
            likeliest,
        )?;
        Ok(())
    }

    /// Whether a similarity is evidence of anything: a memory that points away from the query is not
    /// like it.
    pub fn counts(&self, similarity: f64) -> bool {
        self.model.distance == Distance::L2 || similarity > 0.0
    }

    /// Similarity of entry `i` of the points, exact where it has been computed.
    pub fn similarity(&self, i: usize) -> f64 {
        self.exact
            .get(&i)
            .copied()
            .unwrap_or_else(|| f64::from(self.points.similarities[i]))
    }

    /// Compares the best of `ranked` again, by the stored vectors, and sorts it anew. A vector that
    /// is no longer stored is left out.
    pub fn rerank(&mut self, ranked: &mut Vec<usize>) -> Result<()> {
        let halves = self.points.error > 0.0;
        let most = if halves { usize::MAX } else { MOST_RERANKED };
        let shown = self.context.match_count.min(most);
        let mut count = shown + RERANK;
        // Half codes are further off: whatever may be among those that are shown is compared again.
        if let Some(last) = ranked.get(shown - 1) {
            let least = self.similarity(*last) - DOUBT * f64::from(self.points.error);
            count += ranked
                .iter()
                .skip(count)
                .take(MOST_DOUBTED.max(shown))
                .take_while(|i| self.similarity(**i) >= least)
                .count();
        }
        let best: Vec<usize> = ranked.iter().copied().take(count).collect();
        let entries = &self.points.entries;
        let places: Vec<_> = best
            .iter()
            .map(|i| (entries.id(*i), entries.row(*i)))
            .collect();
        let (distance, query, exact) = (self.model.distance, &self.query, &mut self.exact);
        stored(self.context, self.model, &places, |nth, vector| {
            if let Some(found) = similarity(distance, &vector, query) {
                exact.insert(best[nth], found);
            }
        })?;
        // The best are looked up as they are sorted, not at every comparison.
        let exact = &self.exact;
        let mut again: Vec<(f64, usize)> = ranked
            .iter()
            .enumerate()
            .filter(|(nth, i)| *nth >= best.len() || exact.contains_key(i))
            .map(|(_, i)| (self.similarity(*i), *i))
            .filter(|(similarity, _)| self.counts(*similarity))
            .collect();
        again.sort_by(|a, b| {
            let older = || self.points.entries.compare(b.1, a.1);
            b.0.total_cmp(&a.0).then_with(older)
        });
        *ranked = again.into_iter().map(|(_, i)| i).collect();
        Ok(())
    }
}

/// Calls `visit` with the stored vectors of those of the memories that have one of the model.
pub fn stored(
    context: &Context,
    model: &Model,
    wanted: &[(Uuid, Option<Place>)],
    mut visit: impl FnMut(usize, Vec<f32>),
) -> Result<()> {
    let stored = Table::open(c"embeddings")?;
    let (name, embedding) = (stored.column(c"model")?, stored.column(c"embedding")?);
    let key = [
        stored.column(c"workspace_id")?,
        stored.column(c"memory_id")?,
    ];
    let mut rows = Placed::new(&stored, key, name.max(embedding))?;
    rows.approach(wanted.iter().map(|(_, place)| *place), 512);
    for (nth, (id, place)) in wanted.iter().enumerate() {
        // SAFETY: the columns are text and pgvector's type; setup() made them.
        let named = |row: &Row<'_>| unsafe { row.text(name) } == Some(&model.name);
        let row = rows.find([context.workspace, *id], *place, named);
        // SAFETY: as above.
        let bytes = row.and_then(|row| unsafe { row.bytes(embedding) });
        if let Some(vector) = bytes.and_then(vector::numbers) {
            visit(nth, vector);
        }
    }
    Ok(())
}
