//! Spreading activation, as a fan and as a walk.
//!
//! The walk is personalised PageRank (Haveliwala 2002; HippoRAG, Gutiérrez et al. 2024):
//! r = (1 − α)·p + α·Pᵀr, with p the seeds, P the links of each node divided by their sum, and what
//! comes to a node without links going back to the seeds. Dividing by the sum is the fan effect. Here
//! it is summed hop by hop, from the seeds outwards, and stops where little is left: after H hops
//! α^(H+1) of the mass has not arrived.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Activation that a source with `fan` ≥ 1 associations spreads to each: S − ln fan, at least 0
/// (Anderson 1974; ACT-R). The fan counts the source itself.
pub fn spread_fan(s: f64, fan: f64) -> f64 {
    (s - fan.ln()).max(0.0)
}

/// The links of a node that was visited: weights above 0, heaviest first.
struct Links<K> {
    to: Vec<(K, f64)>,
    /// Their sum, including those left out.
    sum: f64,
}

/// Spreads from `seeds` (node, weight) and returns (node, mass, lift) of every node reached, most mass
/// first, equal ones in order of the node.
///
/// * `alpha` in 0..1: probability of going on at each hop. `max_hops`: most hops.
/// * `eps`: a node on which less than this is left to go on, as a share of all, is not gone on from.
/// * `max_edges`: most edges that are read. Where they run out the heaviest are followed, of the node
///   with the most mass first; what would go on elsewhere is lost.
/// * `neighbours` gives the links of a node with their weights; asked once per node. Its second argument
///   are the nodes that it will be asked next, in order, if edges are left: it may read ahead. Weights
///   that are not above 0 count as no link, and so do seeds.
///
/// mass: the share of the walk that stops there; they add up to at most 1, and with `eps` 0 and no
/// bound on edges to 1 − α^(max_hops+1). lift, in nats: ln(1 + mass/π), π being the node's share of
/// the strengths of all nodes visited. The strength of a node is the sum of its links' weights, or,
/// for one that was reached and not gone on from, of the links that reached it. So what the seeds
/// reach more than a random walk would is lifted, and hubs are not. A node without links has lift 0.
///
/// `pause` is called at every node that is gone on from.
///
/// # Errors
/// Those of `neighbours`.
pub fn spread<K, E>(
    seeds: &[(K, f64)],
    alpha: f64,
    max_hops: usize,
    eps: f64,
    max_edges: usize,
    mut neighbours: impl FnMut(K, &[K]) -> Result<Vec<(K, f64)>, E>,
    mut pause: impl FnMut(),
) -> Result<Vec<(K, f64, f64)>, E>
where
    K: Copy + Eq + Hash + Ord,
{
    let start = shares(seeds);
    let mut walk = Walk {
        links: HashMap::new(),
        edges_left: max_edges,
    };
    let mut mass: BTreeMap<K, f64> = BTreeMap::new();
    // Where the walk is after so many hops, and how much of all it is.
    let mut frontier = start.clone();
    for hop in 0..=max_hops {
        for (node, here) in &frontier {
            *mass.entry(*node).or_default() += (1.0 - alpha) * here;
        }
        if hop == max_hops {
            break;
        }
        let going: Vec<(K, f64)> = frontier
            .iter()
            .map(|(node, here)| (*node, alpha * here))
            .filter(|(_, left)| *left >= eps && *left > 0.0)
            .collect();
        frontier = walk.hop(going, &start, &mut neighbours, &mut pause)?;
        if frontier.is_empty() {
            break;
        }
    }

    let strength = strengths(&mass, &walk.links);
    let all: f64 = strength.values().sum();
    let mut found: Vec<(K, f64, f64)> = mass
        .into_iter()
        .map(|(node, mass)| {
            let lift = match strength.get(&node) {
                Some(own) if *own > 0.0 => (mass * all / own).ln_1p(),
                _ => 0.0,
            };
            (node, mass, lift)
        })
        .collect();
    found.sort_by(|a, b| b.1.total_cmp(&a.1));
    Ok(found)
}

/// Which share of the walk begins at each seed.
fn shares<K: Copy + Ord>(seeds: &[(K, f64)]) -> BTreeMap<K, f64> {
    let mut start: BTreeMap<K, f64> = BTreeMap::new();
    let sound = || seeds.iter().filter(|(_, w)| *w > 0.0 && w.is_finite());
    // As shares of the largest, or large ones would add up to infinity.
    let largest = sound().fold(0.0, |most: f64, (_, weight)| most.max(*weight));
    for (node, weight) in sound() {
        *start.entry(*node).or_default() += weight / largest;
    }
    let total: f64 = start.values().sum();
    start.values_mut().for_each(|weight| *weight /= total);
    start
}

/// A walk: what it has read.
struct Walk<K> {
    /// Of nodes that it went on from.
    links: HashMap<K, Links<K>>,
    /// How many more may be read.
    edges_left: usize,
}

impl<K: Copy + Eq + Hash + Ord> Walk<K> {
    /// Goes on from nodes, each with what is left to go on; where that comes to. What comes to nodes without links goes
    /// back to where the walk began.
    fn hop<E>(
        &mut self,
        mut going: Vec<(K, f64)>,
        start: &BTreeMap<K, f64>,
        neighbours: &mut impl FnMut(K, &[K]) -> Result<Vec<(K, f64)>, E>,
        pause: &mut impl FnMut(),
    ) -> Result<BTreeMap<K, f64>, E> {
        // The heaviest first; the sort keeps the order of nodes among equals.
        going.sort_by(|a, b| b.1.total_cmp(&a.1));
        let unread: Vec<K> = going
            .iter()
            .map(|(node, _)| *node)
            .filter(|node| !self.links.contains_key(node))
            .collect();
        let mut ahead = unread.as_slice();
        let mut reached: BTreeMap<K, f64> = BTreeMap::new();
        let mut back = 0.0;
        for (node, left) in going {
            pause();
            let Links { to, sum } = match self.links.entry(node) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(_) if self.edges_left == 0 => continue,
                Entry::Vacant(new) => {
                    ahead = ahead.get(1..).unwrap_or_default();
                    let read = read(neighbours(node, ahead)?, self.edges_left);
                    self.edges_left -= read.to.len();
                    new.insert(read)
                }
            };
            if to.is_empty() {
                back += left;
            }
            for (next, weight) in &*to {
                *reached.entry(*next).or_default() += left * (weight / *sum);
            }
        }
        if back > 0.0 {
            for (seed, share) in start {
                *reached.entry(*seed).or_default() += back * share;
            }
        }
        Ok(reached)
    }
}

/// The links of a node as the walk uses them.
fn read<K: Ord>(mut to: Vec<(K, f64)>, most: usize) -> Links<K> {
    to.retain(|(_, weight)| *weight > 0.0 && weight.is_finite());
    to.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let sum = to.iter().map(|(_, weight)| weight).sum();
    to.truncate(most);
    Links { to, sum }
}

/// Strengths of the nodes visited; see [`spread`].
fn strengths<K: Copy + Eq + Hash + Ord>(
    mass: &BTreeMap<K, f64>,
    links: &HashMap<K, Links<K>>,
) -> BTreeMap<K, f64> {
    let mut strength = BTreeMap::new();
    for node in mass.keys() {
        let Some(links_of) = links.get(node) else {
            continue;
        };
        strength.insert(*node, links_of.sum);
        for (to, weight) in &links_of.to {
            if !links.contains_key(to) {
                *strength.entry(*to).or_default() += weight;
            }
        }
    }
    strength
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::vectors::{cases, number, numbers, vectors};
    use proptest::prelude::*;
    use serde_json::Value;
    use std::collections::BTreeSet;
    use std::convert::Infallible;

    type Graph = BTreeMap<u64, Vec<(u64, f64)>>;

    fn undirected(edges: impl IntoIterator<Item = (u64, u64, f64)>) -> Graph {
        let mut graph = Graph::new();
        for (a, b, weight) in edges {
            graph.entry(a).or_default().push((b, weight));
            graph.entry(b).or_default().push((a, weight));
        }
        graph
    }

    fn walk(
        graph: &Graph,
        seeds: &[(u64, f64)],
        alpha: f64,
        hops: usize,
        eps: f64,
        edges: usize,
    ) -> Vec<(u64, f64, f64)> {
        let neighbours =
            |node, _: &[u64]| Ok::<_, Infallible>(graph.get(&node).cloned().unwrap_or_default());
        let Ok(found) = spread(seeds, alpha, hops, eps, edges, neighbours, || ());
        found
    }

    fn oracle_graph(case: &Value) -> (Graph, Vec<(u64, f64)>) {
        let edges = cases(case, "undirected_edges").iter().map(|e| {
            (
                e[0].as_u64().unwrap(),
                e[1].as_u64().unwrap(),
                e[2].as_f64().unwrap(),
            )
        });
        let seeds = case["seeds"].as_object().unwrap();
        let seeds = seeds
            .iter()
            .map(|(k, v)| (k.parse().unwrap(), v.as_f64().unwrap()));
        (undirected(edges), seeds.collect())
    }

    #[test]
    fn walk_oracle() {
        let file = vectors!("spreading");
        let tolerance = number(&file, "tolerance_abs");
        for case in cases(&file, "cases") {
            let (graph, seeds) = oracle_graph(case);
            let alpha = number(case, "alpha");
            let check = |hops, wanted: Vec<f64>| {
                let found = walk(&graph, &seeds, alpha, hops, 0.0, usize::MAX);
                let mut mass = vec![0.0; wanted.len()];
                for (node, m, _) in found {
                    mass[node as usize] = m;
                }
                for (got, wanted) in mass.iter().zip(&wanted) {
                    assert!(
                        (got - wanted).abs() <= tolerance,
                        "{} hops of {case}: {mass:?}",
                        hops
                    );
                }
            };
            check(400, numbers(case, "ppr"));
            let truncated = &case["truncated_hops"];
            for hops in 1..=3 {
                check(hops, numbers(truncated, &hops.to_string()));
            }
        }
    }

    #[test]
    fn fan_oracle() {
        let file = vectors!("spreading");
        let tolerance = number(&file, "tolerance_abs");
        for case in cases(&file, "fan") {
            let (facts, sources) = (cases(case, "facts"), case["sources"].as_array().unwrap());
            let holds = |fact: &Value, source| fact["fact"].as_array().unwrap().contains(source);
            for fact in facts {
                let mut spread = 0.0;
                for (source, wanted) in sources.iter().zip(numbers(fact, "S_ji")) {
                    let fan = 1 + facts.iter().filter(|f| holds(f, source)).count();
                    let s = if holds(fact, source) {
                        spread_fan(number(case, "S"), fan as f64)
                    } else {
                        0.0
                    };
                    assert!((s - wanted).abs() <= tolerance, "{fact}: {s}");
                    spread += s * number(case, "W_total") / sources.len() as f64;
                }
                assert!(
                    (spread - number(fact, "spread")).abs() <= tolerance,
                    "{fact}: {spread}"
                );
            }
        }
        assert_eq!(spread_fan(1.5, 1000.0), 0.0);
    }

    #[test]
    fn only_proportions_of_seeds_count() {
        let graph = undirected([(0, 1, 1.0), (1, 2, 0.5)]);
        let plain = walk(&graph, &[(0, 1.0), (2, 1.0)], 0.5, 2, 0.0, 10);
        for size in [f64::MAX, 1e-300] {
            let other = walk(&graph, &[(0, size), (2, size)], 0.5, 2, 0.0, 10);
            assert_eq!(other, plain, "{size}");
        }
    }

    #[test]
    fn hubs_are_not_lifted() {
        // A hub of 50 links and a quiet node, both one strong link from the seed.
        let hub = (10..60).map(|leaf| (1, leaf, 1.0));
        let graph = undirected([(0, 1, 1.0), (0, 2, 1.0)].into_iter().chain(hub));
        let found = walk(&graph, &[(0, 1.0)], 0.5, 3, 1e-3, 2000);
        let of = |node| found.iter().find(|f| f.0 == node).unwrap();
        assert!(of(1).2 < of(2).2, "{found:?}");
    }

    #[test]
    fn what_is_no_link_and_no_seed() {
        let graph = Graph::from([(
            0,
            vec![(1, 0.0), (2, -1.0), (3, f64::NAN), (4, f64::INFINITY)],
        )]);
        // All mass stays with the seed, which has no links and no lift.
        let found = walk(
            &graph,
            &[(0, 2.0), (7, 0.0), (8, f64::NAN)],
            0.5,
            2,
            0.0,
            10,
        );
        assert_eq!(found, [(0, 0.875, 0.0)]);
        assert!(walk(&graph, &[(7, 0.0)], 0.5, 2, 0.0, 10).is_empty());
        assert!(walk(&graph, &[], 0.5, 2, 0.0, 10).is_empty());
        let down = |_, _: &[u8]| Err::<Vec<_>, _>("down");
        let failing = spread(&[(0u8, 1.0)], 0.5, 1, 0.0, 10, down, || ());
        assert_eq!(failing.unwrap_err(), "down");
    }

    fn graphs() -> impl Strategy<Value = Graph> {
        proptest::collection::vec((0u64..30, 0u64..30, 0.01f64..1.0), 1..80).prop_map(undirected)
    }

    proptest! {
        #[test]
        fn bounds_hold(
            graph in graphs(), seeds in proptest::collection::vec((0u64..30, 0.1f64..1.0), 1..5),
            alpha in 0f64..0.95, hops in 0usize..6, eps in 0f64..0.05, max_edges in 0usize..60,
        ) {
            let (mut asked, mut edges) = (BTreeSet::new(), 0);
            let mut announced: Option<u64> = None;
            let found = spread(&seeds, alpha, hops, eps, max_edges, |node, ahead| {
                assert_eq!(announced.unwrap_or(node), node, "asked for another than announced");
                announced = ahead.first().copied();
                let links = graph.get(&node).cloned().unwrap_or_default();
                edges += links.len();
                assert!(asked.insert(node), "asked twice");
                assert!(edges - links.len() < max_edges, "asked for more than allowed");
                Ok::<_, Infallible>(links)
            }, || ());
            let Ok(found) = found;
            let sum: f64 = found.iter().map(|f| f.1).sum();
            prop_assert!(sum <= 1.0 - alpha.powi(hops as i32 + 1) + 1e-12);
            prop_assert!(found.is_sorted_by(|a, b| a.1 > b.1 || (a.1 == b.1 && a.0 < b.0)));
            prop_assert!(found.iter().all(|f| f.1 >= 0.0 && f.2 >= 0.0 && f.2.is_finite()));
            // The bounds take away, they do not move.
            let full = walk(&graph, &seeds, alpha, hops, 0.0, usize::MAX);
            for (node, mass, _) in &found {
                let unbounded = full.iter().find(|f| f.0 == *node).map_or(0.0, |f| f.1);
                prop_assert!(*mass <= unbounded + 1e-12);
            }
        }

        /// Neither the order of links nor that of seeds shows.
        #[test]
        fn order_does_not_matter(graph in graphs(), seeds in proptest::collection::btree_map(0u64..30, 0.1f64..1.0, 1..5)) {
            let mut reversed = graph.clone();
            reversed.values_mut().for_each(|links| links.reverse());
            let seeds: Vec<_> = seeds.into_iter().collect();
            let backwards: Vec<_> = seeds.iter().rev().copied().collect();
            prop_assert_eq!(
                walk(&graph, &seeds, 0.5, 3, 1e-3, 40),
                walk(&reversed, &backwards, 0.5, 3, 1e-3, 40)
            );
        }
    }
}
