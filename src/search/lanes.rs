//! The best of what each lane has found, of the memories that may be a result.

use uuid::Uuid;

use super::Context;
use super::corpus::{Corpus, Entries};
use super::eligible::{Candidate, Eligible};
use super::ids::{IdSet, NumberMap};
use super::semantic::{MOST_DOUBTED, Semantic};
use crate::error::Result;

/// The best `pool` of what a lane has found (score, place), best first, eligible all. Of equals the
/// newer memory comes first. `more` were found that are not among them.
pub(super) fn best(
    eligible: &Eligible<'_>,
    entries: &Entries<'_>,
    candidate: &dyn Fn(u32) -> Candidate,
    mut found: Vec<(f64, u32)>,
    pool: usize,
    more: usize,
) -> Result<Vec<u32>> {
    let order = |a: &(f64, u32), b: &(f64, u32)| {
        b.0.total_cmp(&a.0)
            .then_with(|| entries.compare(b.1 as usize, a.1 as usize))
    };
    // What comes after twice the pool is looked at only when conditions have eaten what came before.
    let wanted = if eligible.asks() { pool * 2 } else { pool };
    let mut head: Vec<(f64, u32)> = Vec::with_capacity(pool * 8);
    let mut least = f64::NEG_INFINITY;
    for f in &found {
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
    let passed = |part: &[(f64, u32)], wanted: usize, more: usize| -> Result<Vec<u32>> {
        if !eligible.asks() {
            return Ok(part.iter().take(wanted).map(|f| f.1).collect());
        }
        let all: Vec<Candidate> = part.iter().map(|f| candidate(f.1)).collect();
        let chosen: IdSet = eligible.first(&all, wanted, more)?.into_iter().collect();
        Ok(part
            .iter()
            .zip(&all)
            .filter(|(_, c)| chosen.contains(&c.id))
            .map(|(f, _)| f.1)
            .collect())
    };
    let mut looked = head.len();
    let mut out = passed(&head, pool, found.len() - looked + more)?;
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
        out.extend(passed(next, pool - out.len(), left + more)?);
        looked += count;
    }
    Ok(out)
}

/// Documents of the best vectors, and the entries of vectors of these and more documents.
pub(super) fn nearest(
    context: &Context,
    corpus: &Corpus<'_>,
    eligible: &Eligible<'_>,
    admitted: &dyn Fn(usize) -> bool,
    lane: &mut Semantic<'_>,
) -> Result<(Vec<usize>, NumberMap<usize>)> {
    let points = &lane.points;
    let similarity = |i: u32| points.similarities[i as usize];
    // Conditions take some away, and a few vectors are of memories that are not there to be found.
    let spare = if eligible.asks() {
        context.pool
    } else {
        context.pool / 8
    };
    let mut pool = context.pool;
    let mut wanted = pool + spare;
    if let Some(possible) = eligible.possible() {
        // How many of the best have to be looked at, if those that pass are as many everywhere. Where they
        // are fewer themselves, these are looked at instead.
        let share = points.similarities.len() as f64 / possible.max(1) as f64;
        let expected = (wanted as f64 * share).min(points.similarities.len() as f64);
        wanted = wanted.max(expected as usize);
        if possible <= wanted {
            return nearest_of(context, corpus, eligible, admitted, lane);
        }
    }
    let nothing = lane.nearly_nothing();
    loop {
        // The best so many; what is below the worst of them is passed over.
        let mut order: Vec<u32> = Vec::new();
        let mut least = f32::NEG_INFINITY;
        let mut all = true;
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
        // A memory may have a vector and not be there to be found: forgotten, or hidden.
        let ids: Vec<Uuid> = order
            .iter()
            .map(|i| points.entries.id(*i as usize))
            .collect();
        let places = corpus.entries.find(&ids);
        let vectors: NumberMap<usize> = (order.iter().zip(&ids))
            .filter_map(|(i, id)| Some((*places.get(id)?, *i as usize)))
            .collect();
        let found = order
            .iter()
            .zip(&ids)
            .filter(|(_, id)| places.get(id).is_some_and(|document| admitted(*document)))
            .map(|(i, _)| (f64::from(points.similarities[*i as usize]), *i))
            .collect();
        let more = if all {
            0
        } else {
            points.similarities.len() - order.len()
        };
        let candidate = |i: u32| {
            corpus
                .entries
                .candidate(places[&points.entries.id(i as usize)])
        };
        let enough = best(eligible, &points.entries, &candidate, found, pool, more)?;
        if all || enough.len() >= pool {
            let mut ranked: Vec<usize> = enough.into_iter().map(|i| i as usize).collect();
            if pool == context.pool && ranked.len() == pool && lane.ends_too_early(&ranked) {
                pool += MOST_DOUBTED;
                wanted += MOST_DOUBTED;
                continue;
            }
            lane.rerank(&mut ranked)?;
            ranked.truncate(context.pool);
            let ids = ranked.iter().map(|i| lane.points.entries.id(*i));
            let documents = ids.filter_map(|id| places.get(&id).copied());
            return Ok((documents.collect(), vectors));
        }
        wanted = wanted.saturating_mul(8);
    }
}

/// As [`nearest`], of the documents that may pass, which are few.
fn nearest_of(
    context: &Context,
    corpus: &Corpus<'_>,
    eligible: &Eligible<'_>,
    admitted: &dyn Fn(usize) -> bool,
    lane: &mut Semantic<'_>,
) -> Result<(Vec<usize>, NumberMap<usize>)> {
    let points = &lane.points;
    let documents = (0..corpus.entries.len()).filter(|i| corpus.entries.alive(*i) && admitted(*i));
    let documents: Vec<(usize, Uuid)> = documents.map(|i| (i, corpus.entries.id(i))).collect();
    let ids: Vec<Uuid> = documents.iter().map(|(_, id)| *id).collect();
    let places = points.entries.find(&ids);
    let mut vectors: NumberMap<usize> = NumberMap::default();
    let mut of: NumberMap<usize> = NumberMap::default();
    let mut found: Vec<(f64, u32)> = Vec::new();
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
    let candidate = |i: u32| corpus.entries.candidate(of[&(i as usize)]);
    let first = |found, pool| -> Result<Vec<usize>> {
        let best = best(eligible, &points.entries, &candidate, found, pool, 0)?;
        Ok(best.into_iter().map(|i| i as usize).collect())
    };
    let mut ranked = first(found.clone(), context.pool)?;
    if ranked.len() == context.pool && lane.ends_too_early(&ranked) {
        ranked = first(found, context.pool + MOST_DOUBTED)?;
    }
    lane.rerank(&mut ranked)?;
    ranked.truncate(context.pool);
    let documents = ranked.iter().map(|i| of[i]).collect();
    Ok((documents, vectors))
}
