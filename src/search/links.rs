//! What links to the best candidates add to scores, and which memories they bring in.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::Scope;
use super::corpus::Corpus;
use super::ids::IdMap;
use crate::error::Result;
use crate::graph::Graph;
use crate::privilege::AsOwner;

/// Hits from which activation spreads over links.
const SEEDS: usize = 5;
/// Difference of scores that makes one hit e times as likely a start as another.
const SEED_SCALE: f64 = 0.1;
/// Memories, the strongest, from which it goes on for a second hop, and what that counts.
const GOING_ON: usize = 16;
const SECOND_HOP: f64 = 0.5;

/// What links to the best hits add to scores, 0 to `link_weight`: memories that were used together with
/// them, or that somebody linked to them, one hop or two away, by how probable a random walk from the hits
/// comes there. The more links a memory has, the less each of them tells. Memories that no lane has found
/// join the candidates.
pub(super) fn associated(
    scope: &Scope<'_, '_>,
    order: &[(f64, usize)],
    documents: &[usize],
) -> Result<IdMap<f64>> {
    let (context, corpus) = (scope.context, scope.corpus);
    let Some((best, _)) = order.first() else {
        return Ok(IdMap::default());
    };
    // Which links there were at a moment that is past is not known.
    if context.link_weight == 0.0 || context.past.is_some() {
        return Ok(IdMap::default());
    }
    // For what statements are asked: where a call came late, or an index is not as setup() makes it.
    let _owner = AsOwner::new(context.owner);
    let (rules, waiting) = (context.link_rules, &context.waiting);
    let mut graph = Graph::open_direct(context.workspace, rules, context.at, waiting)?;
    if graph.is_empty() {
        return Ok(IdMap::default());
    }
    let mut seeds: Vec<(Uuid, f64)> = order
        .iter()
        .take(SEEDS)
        .map(|(score, i)| {
            let id = corpus.entries.id(documents[*i]);
            (id, ((score - best) / SEED_SCALE).exp())
        })
        .collect();
    let total: f64 = seeds.iter().map(|(_, weight)| weight).sum();
    for (_, weight) in &mut seeds {
        *weight /= total;
    }
    let mut reached = walk(&mut graph, corpus, &seeds)?;
    let mut onward: Vec<(Uuid, f64)> = reached
        .iter()
        .map(|(id, share)| (*id, *share))
        .filter(|(id, _)| !seeds.iter().any(|(seed, _)| seed == id))
        .collect();
    onward.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    onward.truncate(GOING_ON);
    // Not back to where it began.
    for (id, share) in walk(&mut graph, corpus, &onward)? {
        if !seeds.iter().any(|(seed, _)| *seed == id) {
            *reached.entry(id).or_default() += SECOND_HOP * share;
        }
    }
    Ok(reached
        .into_iter()
        .map(|(id, share)| (id, context.link_weight * share.min(1.0)))
        .collect())
}

/// Where one step of a random walk leads from memories with these shares. What is forgotten, or hidden from
/// the caller, is not in the corpus, and no step leads there.
fn walk(
    graph: &mut Graph,
    corpus: &Corpus<'_>,
    from: &[(Uuid, f64)],
) -> Result<BTreeMap<Uuid, f64>> {
    let mut reached: BTreeMap<Uuid, f64> = BTreeMap::new();
    let ids: Vec<Uuid> = from.iter().map(|(id, _)| *id).collect();
    let links = graph.neighbours(&ids)?;
    let ends: BTreeSet<Uuid> = links.values().flatten().map(|(to, _)| *to).collect();
    let ends: Vec<Uuid> = ends.into_iter().collect();
    let there = corpus.entries.find(&ends);
    for (id, share) in from {
        let to = links.get(id).map_or(&[][..], Vec::as_slice);
        let alive = || to.iter().filter(|(to, _)| there.contains_key(to));
        let sum: f64 = alive().map(|(_, weight)| weight).sum();
        for (to, weight) in alive() {
            *reached.entry(*to).or_default() += share * weight / sum;
        }
    }
    Ok(reached)
}
