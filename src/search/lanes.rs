//! The best of what each lane has found, of the memories that may be a result.

use std::cmp::Ordering;

use uuid::Uuid;

use super::Scope;
use super::corpus::{Entries, Points};
use super::eligible::{Candidate, Eligible};
use super::ids::{IdSet, NumberMap};
use super::semantic::{MOST_DOUBTED, Semantic};
use super::words::Words;
use crate::error::Result;
use crate::model::dates;
use crate::text::Date;

/// Score and place of what a lane has found.
type Found = (f64, u32);

/// Chooses the best of what a lane has found.
struct Best<'b, 't, C> {
    eligible: &'b Eligible<'b>,
    /// What places are of.
    entries: &'b Entries<'t>,
    /// The memory at a place.
    candidate: C,
}

impl<C: Fn(u32) -> Candidate> Best<'_, '_, C> {
    /// The best `pool` of what was found, best first, eligible all. Of equals the newer memory comes first. `more`
    /// were found that are not among them.
    fn of(&self, mut found: Vec<Found>, pool: usize, more: usize) -> Result<Vec<u32>> {
        let head = self.head(&found, pool);
        let mut looked = head.len();
        let mut out = self.passed(&head, pool, found.len() - looked + more)?;
        let order = |a: &Found, b: &Found| self.order(a, b);
        if out.len() < pool && looked < found.len() {
            // Those that have been looked at go to the front.
            found.select_nth_unstable_by(looked, order);
        }
        // What comes next, three times as much as before each time.
        while out.len() < pool && looked < found.len() {
            pgrx::check_for_interrupts!();
            let rest = &mut found[looked..];
            let count = rest.len().min(2 * looked.max(1));
            if count < rest.len() {
                rest.select_nth_unstable_by(count, order);
            }
            let left = rest.len() - count;
            let next = &mut rest[..count];
            next.sort_unstable_by(order);
            out.extend(self.passed(next, pool - out.len(), left + more)?);
            looked += count;
        }
        Ok(out)
    }

    fn order(&self, a: &Found, b: &Found) -> Ordering {
        b.0.total_cmp(&a.0)
            .then_with(|| self.entries.compare(b.1 as usize, a.1 as usize))
    }

    /// Those that are looked at first, best first.
    fn head(&self, found: &[Found], pool: usize) -> Vec<Found> {
        let order = |a: &Found, b: &Found| self.order(a, b);
        // What comes after twice the pool is looked at only when conditions have eaten what came before.
        let wanted = if self.eligible.asks() { pool * 2 } else { pool };
        let mut head: Vec<Found> = Vec::with_capacity(pool * 8);
        let mut least = f64::NEG_INFINITY;
        for f in found {
            if f.0 < least {
                continue;
            }
            head.push(*f);
            if head.len() >= pool * 8 {
                head.select_nth_unstable_by(wanted, order);
                head.truncate(wanted);
                least = head.iter().map(|f| f.0).fold(f64::INFINITY, f64::min);
            }
        }
        if head.len() > wanted {
            head.select_nth_unstable_by(wanted, order);
            head.truncate(wanted);
        }
        head.sort_unstable_by(order);
        head
    }

    /// The first `wanted` of these that are eligible. Where they are too few, there are `more` to be asked for.
    fn passed(&self, part: &[Found], wanted: usize, more: usize) -> Result<Vec<u32>> {
        if !self.eligible.asks() {
            return Ok(part.iter().take(wanted).map(|f| f.1).collect());
        }
        let all: Vec<Candidate> = part.iter().map(|f| (self.candidate)(f.1)).collect();
        let chosen: IdSet = (self.eligible.first(&all, wanted, more)?)
            .into_iter()
            .collect();
        Ok(part
            .iter()
            .zip(&all)
            .filter(|(_, c)| chosen.contains(&c.id))
            .map(|(f, _)| f.1)
            .collect())
    }
}

/// Documents that match the words best, best first; of those that hold enough of them.
pub(super) fn by_words(scope: &Scope<'_, '_>, words: &Words) -> Result<Vec<usize>> {
    let found = words
        .scores
        .iter()
        .filter(|s| words.evident(s, scope.context.min_coverage))
        .filter(|s| scope.admits(s.document as usize))
        .map(|s| (s.covered(&scope.context.weights), s.document))
        .collect();
    best_of(scope, found)
}

/// The best of documents that were found, best first.
fn best_of(scope: &Scope<'_, '_>, found: Vec<Found>) -> Result<Vec<usize>> {
    let entries = &scope.corpus.entries;
    let best = Best {
        eligible: scope.eligible,
        entries,
        candidate: |d: u32| entries.candidate(d as usize),
    };
    let documents = best.of(found, scope.context.pool, 0)?;
    Ok(documents.into_iter().map(|d| d as usize).collect())
}

/// Documents of the days or months that the question names, the latest first. A year names too many, and where a workspace
/// says how much evidence a result needs, a date is none.
pub(super) fn by_date(scope: &Scope<'_, '_>, dates: &[dates::Named]) -> Result<Vec<usize>> {
    let context = scope.context;
    if dates.is_empty() || context.min_coverage > 0.0 || context.min_similarity > 0.0 {
        return Ok(Vec::new());
    }
    let entries = &scope.corpus.entries;
    let mut found = Vec::new();
    // What is stored together often happened on one day.
    let mut last = (None, false);
    for stretch in scope.corpus.stretches() {
        let time = stretch.times();
        for (place, document) in stretch.range().enumerate() {
            let time = time(place);
            let day = time.div_euclid(Date::MICROSECONDS);
            if last.0 != Some(day) {
                let named = |date| dates::fit(dates, date) == 1.0;
                last = (Some(day), Date::from_postgres(time).is_some_and(named));
            }
            if last.1 && entries.alive(document as usize) && scope.admits(document as usize) {
                found.push((time as f64, document));
            }
        }
    }
    best_of(scope, found)
}

/// What the vector lane has found.
#[derive(Default)]
pub(super) struct Nearest {
    /// Documents of the best vectors, best first.
    pub(super) documents: Vec<usize>,
    /// The entries of vectors of these and more documents, by document.
    pub(super) vectors: NumberMap<usize>,
}

/// Documents whose vectors are most like the query.
pub(super) fn by_vector(scope: &Scope<'_, '_>, lane: &mut Semantic<'_>) -> Result<Nearest> {
    if scope.eligible.asks() {
        lane.points.complete()?;
    }
    let found = nearest(scope, lane)?;
    // Many in the likeliest cells are forgotten, say. Where few are as alike as is asked for, others are less so.
    if lane.points.partial()
        && found.documents.len() < scope.context.pool
        && (scope.context.min_similarity <= 0.0 || lane.evident() >= scope.context.pool)
    {
        lane.points.complete()?;
        return nearest(scope, lane);
    }
    Ok(found)
}

/// As [`by_vector`], of the vectors that have been compared.
fn nearest(scope: &Scope<'_, '_>, lane: &mut Semantic<'_>) -> Result<Nearest> {
    let Some(mut wanted) = looked_at(scope, lane.points.similarities.len()) else {
        return nearest_of(scope, lane);
    };
    let mut pool = scope.context.pool;
    let documents = &scope.corpus.entries;
    let nothing = lane.nearly_nothing();
    loop {
        let points = &lane.points;
        let (order, all) = most_alike(points, wanted, nothing);
        // A memory may have a vector and not be there to be found: forgotten, or hidden.
        let ids: Vec<Uuid> = order
            .iter()
            .map(|i| points.entries.id(*i as usize))
            .collect();
        let places = documents.find(&ids);
        let vectors: NumberMap<usize> = (order.iter().zip(&ids))
            .filter_map(|(i, id)| Some((*places.get(id)?, *i as usize)))
            .collect();
        let found = order
            .iter()
            .zip(&ids)
            .filter(|(_, id)| {
                places
                    .get(id)
                    .is_some_and(|document| scope.admits(*document))
            })
            .map(|(i, _)| (f64::from(points.similarities[*i as usize]), *i))
            .collect();
        let more = if all {
            0
        } else {
            points.similarities.len() - order.len()
        };
        let best = Best {
            eligible: scope.eligible,
            entries: &points.entries,
            candidate: |i: u32| documents.candidate(places[&points.entries.id(i as usize)]),
        };
        let enough = best.of(found, pool, more)?;
        if !all && enough.len() < pool {
            wanted = wanted.saturating_mul(8);
            continue;
        }
        let mut ranked: Vec<usize> = enough.into_iter().map(|i| i as usize).collect();
        if pool == scope.context.pool && ranked.len() == pool && lane.ends_too_early(&ranked) {
            pool += MOST_DOUBTED;
            wanted += MOST_DOUBTED;
            continue;
        }
        lane.rerank(&mut ranked)?;
        ranked.truncate(scope.context.pool);
        let ids = ranked.iter().map(|i| lane.points.entries.id(*i));
        return Ok(Nearest {
            documents: ids.filter_map(|id| places.get(&id).copied()).collect(),
            vectors,
        });
    }
}

/// How many of so many vectors are looked at first, the best; `None` where the documents that may pass are fewer,
/// and are looked at instead.
fn looked_at(scope: &Scope<'_, '_>, vectors: usize) -> Option<usize> {
    let pool = scope.context.pool;
    // Conditions take some away, and a few vectors are of memories that are not there to be found.
    let spare = if scope.eligible.asks() {
        pool
    } else {
        pool / 8
    };
    let wanted = pool + spare;
    let Some(possible) = scope.eligible.possible() else {
        return Some(wanted);
    };
    // How many of the best have to be looked at, if those that pass are as many everywhere.
    let share = vectors as f64 / possible.max(1) as f64;
    let expected = (wanted as f64 * share).min(vectors as f64);
    let wanted = wanted.max(expected as usize);
    (possible > wanted).then_some(wanted)
}

/// Entries of the `wanted` vectors most like the query, in no order, of those that are more so than `nothing`; and
/// whether there are no others.
fn most_alike(points: &Points<'_>, wanted: usize, nothing: f32) -> (Vec<u32>, bool) {
    let similarity = |i: u32| points.similarities[i as usize];
    // Leaves the best so many, and tells how alike the worst of them is.
    let cut = |order: &mut Vec<u32>| {
        order.select_nth_unstable_by(wanted, |a, b| {
            similarity(*b)
                .total_cmp(&similarity(*a))
                .then_with(|| points.entries.compare(*b as usize, *a as usize))
        });
        order.truncate(wanted);
        order
            .iter()
            .map(|i| similarity(*i))
            .fold(f32::INFINITY, f32::min)
    };
    let mut order: Vec<u32> = Vec::new();
    // What is below the worst of the best so many is passed over.
    let mut least = f32::NEG_INFINITY;
    let mut all = true;
    for (i, found) in points.similarities.iter().enumerate() {
        if *found < least || !points.knows(i) || *found <= nothing || !points.entries.alive(i) {
            continue;
        }
        order.push(i as u32);
        if order.len() >= wanted.saturating_mul(4) {
            least = cut(&mut order);
            all = false;
        }
    }
    if order.len() > wanted {
        cut(&mut order);
        all = false;
    }
    (order, all)
}

/// As [`nearest`], of the documents that may pass, which are few.
fn nearest_of(scope: &Scope<'_, '_>, lane: &mut Semantic<'_>) -> Result<Nearest> {
    let (points, entries) = (&lane.points, &scope.corpus.entries);
    let documents: Vec<(usize, Uuid)> = (0..entries.len())
        .filter(|i| entries.alive(*i) && scope.admits(*i))
        .map(|i| (i, entries.id(i)))
        .collect();
    let ids: Vec<Uuid> = documents.iter().map(|(_, id)| *id).collect();
    let places = points.entries.find(&ids);
    let mut vectors: NumberMap<usize> = NumberMap::default();
    let mut of: NumberMap<usize> = NumberMap::default();
    let mut found: Vec<Found> = Vec::new();
    let nothing = lane.nearly_nothing();
    for (document, id) in &documents {
        let Some(point) = places.get(id) else {
            continue;
        };
        let similarity = points.similarities[*point];
        if similarity > nothing {
            vectors.insert(*document, *point);
            of.insert(*point, *document);
            found.push((similarity.into(), *point as u32));
        }
    }
    let best = Best {
        eligible: scope.eligible,
        entries: &points.entries,
        candidate: |i: u32| entries.candidate(of[&(i as usize)]),
    };
    let first = |found, pool| -> Result<Vec<usize>> {
        let best = best.of(found, pool, 0)?;
        Ok(best.into_iter().map(|i| i as usize).collect())
    };
    let pool = scope.context.pool;
    let mut ranked = first(found.clone(), pool)?;
    if ranked.len() == pool && lane.ends_too_early(&ranked) {
        ranked = first(found, pool + MOST_DOUBTED)?;
    }
    lane.rerank(&mut ranked)?;
    ranked.truncate(pool);
    Ok(Nearest {
        documents: ranked.iter().map(|i| of[i]).collect(),
        vectors,
    })
}
