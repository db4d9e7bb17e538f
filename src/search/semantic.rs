//! The vector lane: nearest neighbours of the query vector within the workspace. All vectors are
//! compared by their 8-bit codes, in segments by the upper halves of those, and the best by full precision. Of large
//! workspaces whose vectors are arranged in cells, those of the likeliest cells are.

use std::collections::HashSet;

use uuid::Uuid;

use super::Context;
use super::corpus::Points;
use super::ids::NumberMap;
use super::settings::Model;
use crate::blocks::segment::Place;
use crate::error::{Error, Result};
use crate::heap::Placed;
use crate::model::similarity::{Distance, norm, similarity};
use crate::scan::{Row, Table};
use crate::{simd, vector};

/// Vectors beyond `match_count` that are compared by full precision. The codes are about 0.001 off in
/// cosine, so only a few that stand close together can change places, as a rule.
const RERANK: usize = 15;

/// Where a longer result is shown, its end is ranked by the codes, if these are whole.
const MOST_RERANKED: usize = 100;

/// Standard deviations by which two similarities of codes may be in the wrong order, and most vectors
/// that become candidates because of it.
const DOUBT: f64 = 3.0;
pub const MOST_DOUBTED: usize = 500;
/// Standard deviations by which a similarity may be on the wrong side of what is evidence.
const SIGN_DOUBT: f64 = 4.0;

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
                Self::near(squared.max(0.0).sqrt()) as f32
            }
        }
    }

    /// The similarity of what is so far away.
    pub fn near(distance: f64) -> f64 {
        1.0 / (1.0 + distance)
    }

    /// By how much the similarity of a vector of length `norm` is off where its dot product is.
    pub fn off(self, dot: f32, norm: f32) -> f32 {
        match self.distance {
            Distance::Cosine if norm > 0.0 => dot * self.scale / norm,
            Distance::Cosine => 0.0,
            _ => dot,
        }
    }

    /// The least similarity that may be as much as this one in truth, by so many standard deviations.
    fn least(self, similarity: f64, errors: Errors, deviations: f64) -> f64 {
        match self.distance {
            Distance::L2 => {
                let distance = 1.0 / similarity - 1.0;
                // Vectors are about as long as the query, or as far from it as they are long.
                let whole = f64::from(errors.whole) * self.length.max(distance);
                let off = 2.0 * (distance * whole + f64::from(errors.halves));
                Self::near((distance * distance + deviations * off).sqrt())
            }
            _ => similarity - deviations * f64::from(errors.whole.max(errors.halves)),
        }
    }
}

/// By how much similarities may be off, about a standard deviation. Where distance counts, this is, by whole codes, by how
/// much distances are, beside the lengths of vectors; and by halves, by how much dot products are.
#[derive(Clone, Copy, Default)]
pub struct Errors {
    pub whole: f32,
    pub halves: f32,
}

/// The lane of one query vector.
pub struct Semantic<'a> {
    context: &'a Context,
    model: &'a Model,
    query: Vec<f32>,
    measure: Measure,
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
        let measure = Measure::new(model.distance, norm(&query));
        if model.distance == Distance::Cosine && measure.length == 0.0 {
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
            measure,
            points: Points::none(),
            exact: NumberMap::default(),
        })
    }

    /// Reads the workspace, or, where its vectors are in cells and that is wanted, the likeliest of them.
    pub fn read(&mut self, blocks: &'a Table, likeliest: bool) -> Result<()> {
        let query = simd::Query::new(&self.query);
        self.points = Points::read(
            self.context,
            blocks,
            &self.model.name,
            query,
            self.measure,
            likeliest,
        )?;
        Ok(())
    }

    /// What similarities are above that are evidence of anything: by default a memory that points away from the query is
    /// not like it.
    fn nothing(&self) -> f64 {
        let least = self.context.min_similarity;
        // No distance is so far that it is 0 to more than the last digit.
        if self.model.distance == Distance::L2 && least <= 0.0 {
            f64::NEG_INFINITY
        } else {
            least
        }
    }

    /// What those are above that may be evidence, as far as codes tell.
    pub fn nearly_nothing(&self) -> f32 {
        let nothing = self.nothing();
        if nothing.is_finite() {
            let errors = self.points.errors;
            self.measure.least(nothing, errors, SIGN_DOUBT) as f32
        } else {
            f32::NEG_INFINITY
        }
    }

    /// How many of the vectors that were compared may be evidence.
    pub fn evident(&self) -> usize {
        let nothing = self.nearly_nothing();
        let points = &self.points;
        (points.similarities.iter().enumerate())
            .filter(|(i, similarity)| points.knows(*i) && **similarity > nothing)
            .count()
    }

    /// How many that are shown are ranked by full precision.
    fn shown(&self) -> usize {
        // Distances by whole codes tell little where one dimension is much longer than the others.
        let rough = self.points.errors.halves > 0.0 || self.model.distance == Distance::L2;
        let most = if rough { usize::MAX } else { MOST_RERANKED };
        self.context.match_count.min(most)
    }

    /// What is as alike to the query may be among those that are shown; `None` where all that are ranked are.
    fn doubtful(&self, ranked: &[usize]) -> Option<f64> {
        let last = ranked.get(self.shown() - 1)?;
        let last = self.similarity(*last);
        Some(self.measure.least(last, self.points.errors, DOUBT))
    }

    /// Whether what comes after these may be among those that are shown.
    pub fn ends_too_early(&self, ranked: &[usize]) -> bool {
        let ends = self.doubtful(ranked).zip(ranked.last());
        ends.is_some_and(|(least, last)| self.similarity(*last) >= least)
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
        let mut count = self.shown() + RERANK;
        // Whatever may be among those that are shown is compared again.
        if let Some(least) = self.doubtful(ranked) {
            let rest = ranked.iter().skip(count);
            count += rest.take_while(|i| self.similarity(**i) >= least).count();
        }
        let mut best: Vec<usize> = ranked.iter().copied().take(count).collect();
        // So is what may be evidence of nothing, where that is shown.
        let (nothing, nearly) = (self.nothing(), f64::from(self.nearly_nothing()));
        if nearly.is_finite() {
            let unsure = nothing + (nothing - nearly);
            let rest = ranked.iter().take(self.context.match_count + RERANK);
            best.extend(rest.skip(count).filter(|i| self.similarity(**i) <= unsure));
        }
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
        let gone: HashSet<usize> = (best.into_iter())
            .filter(|i| !exact.contains_key(i))
            .collect();
        let mut again: Vec<(f64, usize)> = ranked
            .iter()
            .filter(|i| !gone.contains(i))
            .map(|i| (self.similarity(*i), *i))
            .filter(|(similarity, _)| *similarity > nothing)
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
