//! Ways from memory to memory: what is related, and the shortest path.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use pgrx::datum::DatumWithOid;
use uuid::Uuid;

use super::{CHUNK, Graph, USED_WITH, id_at, most, uuids};
use crate::error::Result;
use crate::spi;

/// Memories of one entity that are looked at, the newest: beyond, an entity tells hardly anything.
const FAN: i32 = 100;
/// Entities of one memory that are looked at.
const MAX_ENTITIES: i32 = 100;
/// Most edges that `related` reads, and memories of the entity that it begins with.
pub const RELATED_EDGES: usize = 2000;
/// Most edges that `path` reads.
pub const PATH_EDGES: usize = 10_000;

/// A step from one memory to another.
#[derive(Debug)]
struct Step {
    to: Uuid,
    /// 0 to 1: 1 − Π(1 − s) over all that links the two.
    strength: f64,
    /// All of these, strongest first.
    relations: Vec<String>,
    /// The entity that the strongest of them is, if it is one.
    entity: Option<String>,
}

/// How strongly an entity links the memories that mention it: the more there are, the less it tells
/// about each (the fan effect, Anderson 1974).
fn entity_strength(fan: usize) -> f64 {
    1.0 / (1.0 + (fan.max(1) as f64).ln())
}

/// The memories that mention an entity, each once with the relation, newest first.
type Mentions = Rc<Vec<(Uuid, String)>>;

/// Steps from memory to memory, each read once.
pub struct Walk<'a> {
    /// What is walked.
    pub graph: Graph,
    /// Only links of this name are followed.
    relation: Option<&'a str>,
    edges_left: usize,
    shown: HashMap<Uuid, bool>,
    entities: HashMap<String, Mentions>,
    steps: HashMap<Uuid, Rc<Vec<Step>>>,
}

impl<'a> Walk<'a> {
    /// A walk that may read so many edges.
    pub fn new(graph: Graph, relation: Option<&'a str>, edges: usize) -> Self {
        Self {
            graph,
            relation,
            edges_left: edges,
            shown: HashMap::new(),
            entities: HashMap::new(),
            steps: HashMap::new(),
        }
    }

    fn ask(&mut self, ids: impl IntoIterator<Item = Uuid>) -> Result<()> {
        let unknown: BTreeSet<Uuid> = ids
            .into_iter()
            .filter(|id| !self.shown.contains_key(id))
            .collect();
        let unknown: Vec<Uuid> = unknown.into_iter().collect();
        let shown = self.graph.present(&unknown)?;
        self.shown
            .extend(unknown.iter().map(|id| (*id, shown.contains(id))));
        Ok(())
    }

    fn is_shown(&self, id: Uuid) -> bool {
        self.shown.get(&id) == Some(&true)
    }

    /// Reads which memories mention these entities, of each the newest `limit`.
    fn read_entities(&mut self, nodes: &[String], limit: i32) -> Result<()> {
        let rows = spi::rows(
            include_str!("mentioning.sql"),
            &[
                self.graph.key(),
                DatumWithOid::from(nodes.to_vec()),
                DatumWithOid::from(self.relation),
                DatumWithOid::from(limit),
            ],
            |row| {
                Ok((
                    row.get::<String>(1)?.unwrap_or_default(),
                    id_at(row, 2)?,
                    row.get::<String>(3)?.unwrap_or_default(),
                ))
            },
        )?;
        self.ask(rows.iter().map(|(_, memory, _)| *memory))?;
        let mut found: HashMap<String, Vec<(Uuid, String)>> = HashMap::new();
        for (node, memory, relation) in rows {
            let list = found.entry(node).or_default();
            // By several relations it is mentioned several times, one after the other.
            if self.is_shown(memory) && list.last().is_none_or(|(last, _)| *last != memory) {
                list.push((memory, relation));
            }
        }
        for node in nodes {
            let list = Rc::new(found.remove(node).unwrap_or_default());
            self.entities.insert(node.clone(), list);
        }
        Ok(())
    }

    /// The entities of each memory.
    fn mentioned(&mut self, nodes: &[Uuid]) -> Result<HashMap<Uuid, Vec<String>>> {
        let mut out: HashMap<Uuid, Vec<String>> = HashMap::new();
        if !self.graph.made || self.relation == Some(USED_WITH) {
            return Ok(out);
        }
        let rows = spi::rows(
            include_str!("mentioned.sql"),
            &[
                self.graph.key(),
                uuids(nodes),
                DatumWithOid::from(self.relation),
                DatumWithOid::from(MAX_ENTITIES),
            ],
            |row| Ok((id_at(row, 1)?, row.get::<String>(2)?.unwrap_or_default())),
        )?;
        let mut unread: BTreeSet<String> = BTreeSet::new();
        for (memory, node) in rows {
            if !self.entities.contains_key(&node) {
                unread.insert(node.clone());
            }
            out.entry(memory).or_default().push(node);
        }
        let unread: Vec<String> = unread.into_iter().collect();
        if !unread.is_empty() {
            self.read_entities(&unread, FAN)?;
        }
        Ok(out)
    }

    /// Reads the steps from these memories, in their order, until the edges run out.
    fn read(&mut self, nodes: &[Uuid]) -> Result<()> {
        let unread: Vec<Uuid> = nodes
            .iter()
            .copied()
            .filter(|node| !self.steps.contains_key(node))
            .collect();
        for chunk in unread.chunks(CHUNK) {
            if self.edges_left == 0 {
                return Ok(());
            }
            self.read_chunk(chunk)?;
        }
        Ok(())
    }

    fn read_chunk(&mut self, nodes: &[Uuid]) -> Result<()> {
        type Found = BTreeMap<Uuid, Vec<(f64, String, Option<String>)>>;
        let mut found: HashMap<Uuid, Found> = HashMap::new();
        let mut add =
            |node: Uuid, to: Uuid, strength: f64, relation: &str, entity: Option<&str>| {
                found.entry(node).or_default().entry(to).or_default().push((
                    strength,
                    relation.to_owned(),
                    entity.map(str::to_owned),
                ));
            };
        if self.relation.is_none_or(|r| r == USED_WITH)
            && (self.graph.bonds || !self.graph.calls.is_empty())
        {
            let rules = self.graph.rules()?;
            for (node, list) in self.graph.bonds(nodes, rules.threshold, rules.limit)? {
                for bond in list {
                    add(node, bond.to, bond.strength(), USED_WITH, None);
                }
            }
        }
        let made = self.graph.made(nodes, self.relation, self.edges_left)?;
        for (node, list) in made {
            for link in list {
                add(node, link.to, link.weight, &link.relation, None);
            }
        }
        for (node, entities) in self.mentioned(nodes)? {
            for entity in entities {
                let Some(members) = self.entities.get(&entity) else {
                    continue;
                };
                let strength = entity_strength(members.len());
                for (to, relation) in members.iter().filter(|(to, _)| *to != node) {
                    add(node, *to, strength, relation, Some(&entity));
                }
            }
        }
        let reached: Vec<Uuid> = found.values().flat_map(BTreeMap::keys).copied().collect();
        self.ask(reached)?;
        for node in nodes {
            let mut steps: Vec<Step> = Vec::new();
            for (to, mut links) in found.remove(node).unwrap_or_default() {
                if !self.is_shown(to) {
                    continue;
                }
                links.sort_by(|a, b| {
                    b.0.total_cmp(&a.0)
                        .then_with(|| (&a.1, &a.2).cmp(&(&b.1, &b.2)))
                });
                let rest: f64 = links
                    .iter()
                    .map(|(s, ..)| 1.0 - s.clamp(0.0, 1.0))
                    .product();
                let mut relations: Vec<String> = Vec::new();
                for (_, relation, _) in &links {
                    if !relations.contains(relation) {
                        relations.push(relation.clone());
                    }
                }
                steps.push(Step {
                    to,
                    strength: 1.0 - rest,
                    relations,
                    entity: links.swap_remove(0).2,
                });
            }
            steps.sort_by(|a, b| {
                b.strength
                    .total_cmp(&a.strength)
                    .then_with(|| b.to.cmp(&a.to))
            });
            steps.truncate(self.edges_left);
            self.edges_left -= steps.len();
            self.steps.insert(*node, Rc::new(steps));
        }
        Ok(())
    }

    fn steps(&self, node: Uuid) -> Rc<Vec<Step>> {
        self.steps.get(&node).cloned().unwrap_or_default()
    }
}

/// Best first, and of equals the newer.
fn best_first(a: &(Uuid, f64), b: &(Uuid, f64)) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then_with(|| b.0.cmp(&a.0))
}

/// How a memory was found.
pub struct Found {
    /// 0 to 1.
    pub score: f64,
    /// Length of the best way.
    pub hops: i32,
    /// The entity that leads to it, or the memory before it.
    pub via: String,
    /// What links it to that, strongest first.
    pub relations: Vec<String>,
}

/// Where `related` begins.
pub enum Start {
    /// With a memory.
    Memory(Uuid),
    /// With the memories that mention an entity, by its key.
    Entity(String),
}

/// Memories within so many hops: the product of the strengths along the best way.
pub fn reachable(walk: &mut Walk<'_>, start: Start, hops: i32) -> Result<Vec<(Uuid, Found)>> {
    let mut best: HashMap<Uuid, Found> = HashMap::new();
    let mut frontier: Vec<(Uuid, f64)> = Vec::new();
    let mut done = 0;
    let from = match start {
        Start::Memory(id) => {
            frontier.push((id, 1.0));
            Some(id)
        }
        Start::Entity(node) => {
            walk.read_entities(std::slice::from_ref(&node), most(RELATED_EDGES))?;
            let members = walk.entities.get(&node).cloned().unwrap_or_default();
            walk.edges_left = walk.edges_left.saturating_sub(members.len());
            let score = entity_strength(members.len());
            for (memory, relation) in members.iter() {
                frontier.push((*memory, score));
                best.insert(
                    *memory,
                    Found {
                        score,
                        hops: 1,
                        via: node.clone(),
                        relations: vec![relation.clone()],
                    },
                );
            }
            done = 1;
            None
        }
    };
    for hop in done + 1..=hops {
        frontier.sort_by(best_first);
        let nodes: Vec<Uuid> = frontier.iter().map(|(node, _)| *node).collect();
        walk.read(&nodes)?;
        let mut next: BTreeMap<Uuid, Found> = BTreeMap::new();
        for (node, score) in &frontier {
            for step in walk.steps(*node).iter() {
                let reached = score * step.strength;
                // Strengths are at most 1, so that coming back to a memory is never better.
                let known = next.get(&step.to).or_else(|| best.get(&step.to));
                if Some(step.to) == from || known.is_some_and(|known| reached <= known.score) {
                    continue;
                }
                next.insert(
                    step.to,
                    Found {
                        score: reached,
                        hops: hop,
                        via: step.entity.clone().unwrap_or_else(|| node.to_string()),
                        relations: step.relations.clone(),
                    },
                );
            }
        }
        frontier = next
            .iter()
            .map(|(node, found)| (*node, found.score))
            .collect();
        best.extend(next);
        if frontier.is_empty() {
            break;
        }
    }
    let mut found: Vec<(Uuid, Found)> = best.into_iter().collect();
    found.sort_by(|(a, x), (b, y)| {
        y.score
            .total_cmp(&x.score)
            .then(x.hops.cmp(&y.hops))
            .then_with(|| b.cmp(a))
    });
    Ok(found)
}

/// How a memory was reached from one end of a path.
struct Reached {
    depth: usize,
    score: f64,
    /// The memory before it, and what links them; none for the end itself.
    before: Option<(Uuid, String, Option<String>)>,
}

/// What is known from one end of a path.
struct Side {
    reached: HashMap<Uuid, Reached>,
    frontier: Vec<(Uuid, f64)>,
    depth: usize,
}

impl Side {
    fn new(end: Uuid) -> Self {
        let itself = Reached {
            depth: 0,
            score: 1.0,
            before: None,
        };
        Self {
            reached: HashMap::from([(end, itself)]),
            frontier: vec![(end, 1.0)],
            depth: 0,
        }
    }

    /// One hop further.
    fn grow(&mut self, walk: &mut Walk<'_>) -> Result<()> {
        self.depth += 1;
        self.frontier.sort_by(best_first);
        let nodes: Vec<Uuid> = self.frontier.iter().map(|(node, _)| *node).collect();
        walk.read(&nodes)?;
        let mut next: BTreeMap<Uuid, Reached> = BTreeMap::new();
        for (node, score) in &self.frontier {
            for step in walk.steps(*node).iter() {
                let score = score * step.strength;
                if self.reached.contains_key(&step.to)
                    || next.get(&step.to).is_some_and(|known| score <= known.score)
                {
                    continue;
                }
                let relation = step.relations.first().cloned().unwrap_or_default();
                next.insert(
                    step.to,
                    Reached {
                        depth: self.depth,
                        score,
                        before: Some((*node, relation, step.entity.clone())),
                    },
                );
            }
        }
        self.frontier = next.iter().map(|(node, r)| (*node, r.score)).collect();
        self.reached.extend(next);
        Ok(())
    }

    /// From a memory back to the end: each memory with what links it to the one before.
    fn way(&self, from: Uuid) -> Vec<(Uuid, String, Option<String>)> {
        let mut out = Vec::new();
        let mut at = from;
        while let Some(Reached {
            before: Some((before, relation, entity)),
            ..
        }) = self.reached.get(&at)
        {
            out.push((at, relation.clone(), entity.clone()));
            at = *before;
        }
        out
    }
}

/// A memory on a path, with the relation and the entity that lead to it.
pub type PathStep = (Uuid, Option<String>, Option<String>);

/// The shortest way between two memories, and of those the strongest; from both ends, the smaller side
/// first. Empty when there is none.
pub fn shortest(
    walk: &mut Walk<'_>,
    source: Uuid,
    target: Uuid,
    max_hops: usize,
) -> Result<Vec<PathStep>> {
    let mut sides = [Side::new(source), Side::new(target)];
    if source == target {
        return Ok(vec![(source, None, None)]);
    }
    // The ends were asked for by name: they may be superseded or expired.
    walk.shown.extend([(source, true), (target, true)]);
    while sides[0].depth + sides[1].depth < max_hops {
        let i = usize::from(sides[1].frontier.len() < sides[0].frontier.len());
        if sides[i].frontier.is_empty() {
            break;
        }
        sides[i].grow(walk)?;
        let [near, far] = &sides;
        let mut meeting: Option<(usize, f64, Uuid)> = None;
        for (node, _) in &sides[i].frontier {
            let (Some(a), Some(b)) = (near.reached.get(node), far.reached.get(node)) else {
                continue;
            };
            let (hops, score) = (a.depth + b.depth, a.score * b.score);
            let better = meeting.is_none_or(|(h, s, id)| {
                (hops, -score)
                    .partial_cmp(&(h, -s))
                    .unwrap_or(std::cmp::Ordering::Equal)
                    .then_with(|| id.cmp(node))
                    .is_lt()
            });
            if better {
                meeting = Some((hops, score, *node));
            }
        }
        if let Some((_, _, middle)) = meeting {
            let mut path: Vec<PathStep> = vec![(source, None, None)];
            path.extend(
                near.way(middle)
                    .into_iter()
                    .rev()
                    .map(|(node, relation, entity)| (node, Some(relation), entity)),
            );
            // From the other end each link is kept with the memory that it leads away from.
            let back = far.way(middle);
            for (i, (_, relation, entity)) in back.iter().enumerate() {
                let next = back.get(i + 1).map_or(target, |(node, ..)| *node);
                path.push((next, Some(relation.clone()), entity.clone()));
            }
            return Ok(path);
        }
    }
    Ok(Vec::new())
}
