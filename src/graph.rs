//! The graph of a workspace: links between memories that were used together, links that somebody
//! made, and entities that several memories mention.
//!
//! A [`Graph`] reads what is linked to many memories at once, uses that wait to be folded included. All
//! of it runs with the rights of whoever calls: the SQL functions below as the caller, candidates of a
//! search as the owner of the tables. What may be shown is asked of `memories` as the caller, hop by hop, so
//! that nothing is reached through what the caller may not see.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use pgrx::datum::datetime_support::now;
use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::prelude::*;
use pgrx::spi::SpiHeapTupleData;
use uuid::Uuid;

use crate::api::Report;
use crate::error::{Error, Result};
use crate::model::links::{self, Link};
use crate::model::spreading;
use crate::scan::{Key, Table};
use crate::{identity, spi, text};

/// Relation under which links by co-activation are shown. Nobody makes a link of that name.
const USED_WITH: &str = "used_with";
/// Memories whose links are read at once.
const CHUNK: usize = 32;
/// Memories of one entity that are looked at, the newest: beyond, an entity tells hardly anything.
const FAN: i32 = 100;
/// Entities of one memory that are looked at.
const MAX_ENTITIES: i32 = 100;
/// Most edges that `related` reads, and memories of the entity that it begins with.
const RELATED_EDGES: usize = 2000;
/// Most edges that `path` reads.
const PATH_EDGES: usize = 10_000;
/// Most links that are listed of one memory.
const LISTED: usize = 1000;

/// Settings of a workspace about links by co-activation.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Calls that a pair needs before its link is followed.
    pub threshold: i32,
    /// Mass below which a link is gone.
    pub prune: f64,
    /// Links that are followed from one memory, the strongest.
    pub limit: usize,
    /// Half-life in microseconds.
    pub half_life: f64,
    /// Memories of one call that are linked with each other.
    pub members: usize,
}

impl Rules {
    fn read(workspace: Uuid) -> Result<Self> {
        let found = spi::row(
            include_str!("graph/rules.sql"),
            &[DatumWithOid::from(spi::pg_uuid(workspace))],
            |row| {
                Ok(Self {
                    threshold: row.get::<i32>(1)?.unwrap_or(3),
                    prune: row.get::<f64>(2)?.unwrap_or(0.02),
                    limit: count(row.get::<i32>(3)?.unwrap_or(32)),
                    half_life: row.get::<f64>(4)?.unwrap_or(30.0) * 86_400e6,
                    members: count(row.get::<i32>(5)?.unwrap_or(6)),
                })
            },
        )?;
        found.ok_or_else(|| Error::NotReady {
            message: "engram.settings has no row of defaults".to_owned(),
            hint: "Put it back with: SELECT engram.setup();".to_owned(),
        })
    }
}

fn count(n: i32) -> usize {
    usize::try_from(n).unwrap_or(0)
}

fn most(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

fn id_at(row: &SpiHeapTupleData<'_>, column: usize) -> Result<Uuid> {
    Ok(row
        .get::<pgrx::Uuid>(column)?
        .map(spi::uuid)
        .unwrap_or_default())
}

fn micros_at(row: &SpiHeapTupleData<'_>, column: usize) -> Result<i64> {
    Ok(row
        .get::<TimestampWithTimeZone>(column)?
        .map_or(0, i64::from))
}

fn uuids(ids: &[Uuid]) -> DatumWithOid<'static> {
    DatumWithOid::from(spi::pg_uuids(ids))
}

/// The ends of a link, the lower first.
type Pair = (Uuid, Uuid);

fn pair(one: Uuid, other: Uuid) -> Pair {
    (one.min(other), one.max(other))
}

/// A call that waits to be folded and used several memories.
struct Call {
    at: i64,
    gain: f64,
    /// Each once, in order of use.
    ids: Vec<Uuid>,
}

/// A link by co-activation, as seen from one end.
#[derive(Clone, Debug)]
pub struct Bond {
    /// The other end.
    pub to: Uuid,
    /// Mass of the calls that used this end first, at the moment of the graph.
    pub forward: f64,
    /// Mass of the others.
    pub backward: f64,
    /// Calls.
    pub count: i32,
    /// The latest of them, in microseconds.
    pub at: i64,
}

impl Bond {
    /// Total mass.
    pub fn mass(&self) -> f64 {
        self.forward + self.backward
    }

    /// 0 to 1.
    pub fn strength(&self) -> f64 {
        links::link_strength(self.mass())
    }
}

/// A link that somebody made, as seen from one end.
#[derive(Clone, Debug)]
pub struct Made {
    /// The other end.
    pub to: Uuid,
    /// Whether this end is the source.
    pub outward: bool,
    /// Its name.
    pub relation: String,
    /// Above 0, at most 1.
    pub weight: f64,
    /// When it was made.
    pub created_at: TimestampWithTimeZone,
}

/// Reads the links of a workspace as of a moment.
pub struct Graph {
    workspace: Uuid,
    rules: Option<Rules>,
    at: TimestampWithTimeZone,
    /// Whether there are links by co-activation, and links that somebody made or entities.
    bonds: bool,
    made: bool,
    calls: Vec<Call>,
    /// Whether memories of waiting calls are still there.
    there: HashMap<Uuid, bool>,
}

impl Graph {
    /// Opens the graph of a workspace that the caller was found to be allowed. `at` `None`: now, with all
    /// that waits. `rules` `None`: they are read if they are needed. Of a workspace without links this
    /// is three look-ups.
    pub fn open(
        workspace: Uuid,
        rules: Option<Rules>,
        at: Option<TimestampWithTimeZone>,
    ) -> Result<Self> {
        let key = [(c"workspace_id", Key::Uuid(workspace))];
        let mut graph = Self {
            workspace,
            rules,
            at: at.unwrap_or_else(now),
            bonds: Table::open(c"hebbian_links")?.any(&key)?,
            made: Table::open(c"graph_links")?.any(&key)?,
            calls: Vec::new(),
            there: HashMap::new(),
        };
        if Table::open(c"access_queue")?.any(&key)? {
            // A transaction that began earlier sees what was used since, and so would it be folded.
            // SAFETY: reads the clock.
            let until = match at {
                Some(at) => at,
                None => {
                    TimestampWithTimeZone::try_from(unsafe { pgrx::pg_sys::GetCurrentTimestamp() })
                        .unwrap_or(graph.at)
                }
            };
            graph.calls = graph.waiting(until)?;
        }
        Ok(graph)
    }

    /// Whether no memory has a neighbour.
    pub fn is_empty(&self) -> bool {
        !self.bonds && !self.made && self.calls.is_empty()
    }

    fn now(&self) -> i64 {
        self.at.into()
    }

    fn key(&self) -> DatumWithOid<'static> {
        DatumWithOid::from(spi::pg_uuid(self.workspace))
    }

    fn rules(&mut self) -> Result<Rules> {
        match self.rules {
            Some(rules) => Ok(rules),
            None => Ok(*self.rules.insert(Rules::read(self.workspace)?)),
        }
    }

    fn waiting(&self, until: TimestampWithTimeZone) -> Result<Vec<Call>> {
        let mut calls = spi::rows(
            include_str!("graph/waiting.sql"),
            &[self.key(), DatumWithOid::from(until)],
            |row| {
                let mut seen = HashSet::new();
                let ids = row.get::<Vec<Option<pgrx::Uuid>>>(3)?.unwrap_or_default();
                Ok(Call {
                    at: micros_at(row, 1)?,
                    gain: row.get::<f64>(2)?.unwrap_or(0.0),
                    ids: ids
                        .into_iter()
                        .flatten()
                        .map(spi::uuid)
                        .filter(|id| seen.insert(*id))
                        .collect(),
                })
            },
        )?;
        calls.retain(|call| call.ids.len() > 1);
        Ok(calls)
    }

    /// Makes sure that the first memories of these calls are known to be there or not.
    fn look_up(&mut self, calls: &[usize], members: usize) -> Result<()> {
        loop {
            let mut unknown: BTreeSet<Uuid> = BTreeSet::new();
            for call in calls {
                let mut found = 0;
                for id in &self.calls[*call].ids {
                    if found == members {
                        break;
                    }
                    match self.there.get(id) {
                        Some(false) => continue,
                        Some(true) => {}
                        None => {
                            unknown.insert(*id);
                        }
                    }
                    found += 1;
                }
            }
            if unknown.is_empty() {
                return Ok(());
            }
            let unknown: Vec<Uuid> = unknown.into_iter().collect();
            let found = spi::rows(
                include_str!("graph/members.sql"),
                &[self.key(), uuids(&unknown)],
                |row| id_at(row, 1),
            )?;
            self.there.extend(unknown.iter().map(|id| (*id, false)));
            self.there.extend(found.into_iter().map(|id| (id, true)));
        }
    }

    /// What waiting calls will add to the links of these memories: by pair the moments and gains, below 0
    /// when the higher end was used first. The same rule as that of a fold.
    fn pending(&mut self, nodes: &HashSet<Uuid>) -> Result<BTreeMap<Pair, Vec<(i64, f64)>>> {
        let mut pairs: BTreeMap<Pair, Vec<(i64, f64)>> = BTreeMap::new();
        let touching: Vec<usize> = (0..self.calls.len())
            .filter(|call| self.calls[*call].ids.iter().any(|id| nodes.contains(id)))
            .collect();
        if touching.is_empty() {
            return Ok(pairs);
        }
        let members = self.rules()?.members;
        self.look_up(&touching, members)?;
        for call in touching {
            let call = &self.calls[call];
            let used: Vec<Uuid> = call
                .ids
                .iter()
                .filter(|id| self.there.get(id) == Some(&true))
                .take(members)
                .copied()
                .collect();
            let gain = call.gain * links::pair_gain(used.len());
            for (place, first) in used.iter().enumerate() {
                for second in &used[place + 1..] {
                    if nodes.contains(first) || nodes.contains(second) {
                        let signed = if first < second { gain } else { -gain };
                        pairs
                            .entry(pair(*first, *second))
                            .or_default()
                            .push((call.at, signed));
                    }
                }
            }
        }
        Ok(pairs)
    }

    /// The links of these pairs once their waiting calls are folded.
    fn folded(
        &mut self,
        mut pairs: BTreeMap<Pair, Vec<(i64, f64)>>,
    ) -> Result<BTreeMap<Pair, Link>> {
        let mut found: BTreeMap<Pair, Link> = BTreeMap::new();
        if pairs.is_empty() {
            return Ok(found);
        }
        let rules = self.rules()?;
        let ends = |pairs: &[Pair]| {
            let (a, b): (Vec<Uuid>, Vec<Uuid>) = pairs.iter().copied().unzip();
            [uuids(&a), uuids(&b)]
        };
        if self.bonds {
            let keys: Vec<Pair> = pairs.keys().copied().collect();
            let [a, b] = ends(&keys);
            found.extend(spi::rows(
                include_str!("graph/pairs.sql"),
                &[self.key(), a, b],
                link_row::<1>,
            )?);
        }
        let mut late: Vec<Pair> = Vec::new();
        for (ends, calls) in &mut pairs {
            calls.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
            let mut link = found.remove(ends);
            let mut is_late = false;
            for (at, gain) in calls.iter() {
                is_late |= links::add(&mut link, *at, *gain, rules.half_life, rules.prune);
            }
            if is_late {
                late.push(*ends);
            }
            found.extend(link.map(|link| (*ends, link)));
        }
        if late.is_empty() {
            return Ok(found);
        }
        // A call older than the link may have kept it alive where it seemed to begin anew.
        let [a, b] = ends(&late);
        let logged = spi::rows(
            include_str!("graph/logged.sql"),
            &[self.key(), a, b],
            |row| {
                Ok((
                    (id_at(row, 1)?, id_at(row, 2)?),
                    (micros_at(row, 3)?, row.get::<f64>(4)?.unwrap_or(0.0)),
                ))
            },
        )?;
        for (ends, call) in logged {
            pairs.entry(ends).or_default().push(call);
        }
        for ends in late {
            let calls = pairs.entry(ends).or_default();
            let known = found.get(&ends).map_or(0, |link| link.count);
            if calls.len() >= count(known) {
                calls.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
                let mut link = None;
                for (at, gain) in calls.iter() {
                    links::add(&mut link, *at, *gain, rules.half_life, rules.prune);
                }
                found.extend(link.map(|link| (ends, link)));
            }
        }
        Ok(found)
    }

    /// The links by co-activation of each memory, strongest first, at most `limit`; `threshold`: least
    /// count of calls.
    pub fn bonds(
        &mut self,
        nodes: &[Uuid],
        threshold: i32,
        limit: usize,
    ) -> Result<HashMap<Uuid, Vec<Bond>>> {
        let mut out: HashMap<Uuid, Vec<Bond>> = HashMap::new();
        if nodes.is_empty() || (!self.bonds && self.calls.is_empty()) {
            return Ok(out);
        }
        let asked: HashSet<Uuid> = nodes.iter().copied().collect();
        let pending = self.pending(&asked)?;
        let changed = self.folded(pending)?;
        let rules = self.rules()?;
        let now = self.now();
        let bond = |node: Uuid, (a, b): Pair, link: &Link| {
            let kept = links::link_decay(1.0, (now - link.at).max(0) as f64, rules.half_life);
            let (forward, backward) = (link.forward * kept, link.backward * kept);
            Bond {
                to: if node == a { b } else { a },
                forward: if node == a { forward } else { backward },
                backward: if node == a { backward } else { forward },
                count: link.count,
                at: link.at,
            }
        };
        if self.bonds {
            let stored = spi::rows(
                include_str!("graph/strongest.sql"),
                &[
                    self.key(),
                    uuids(nodes),
                    DatumWithOid::from(self.at),
                    // Shorter ones differ in nothing that is still there after a second.
                    DatumWithOid::from((rules.half_life / 1e6).max(1e-6)),
                    DatumWithOid::from(threshold),
                    // With room for the last digit: what counts is decided below.
                    DatumWithOid::from(rules.prune.max(1e-300).ln() - 1e-9),
                    DatumWithOid::from(most(limit)),
                ],
                |row| Ok((id_at(row, 1)?, link_row::<2>(row)?)),
            )?;
            for (node, (ends, link)) in stored {
                if !changed.contains_key(&ends) {
                    out.entry(node).or_default().push(bond(node, ends, &link));
                }
            }
        }
        for (ends, link) in &changed {
            for node in [ends.0, ends.1].iter().filter(|end| asked.contains(end)) {
                out.entry(*node).or_default().push(bond(*node, *ends, link));
            }
        }
        for list in out.values_mut() {
            list.retain(|b| b.count >= threshold && b.mass() >= rules.prune && b.mass() > 0.0);
            list.sort_by(|a, b| b.mass().total_cmp(&a.mass()).then_with(|| a.to.cmp(&b.to)));
            list.truncate(limit);
        }
        Ok(out)
    }

    /// The links that somebody made, of each memory, heaviest first, at most `limit`.
    pub fn made(
        &self,
        nodes: &[Uuid],
        relation: Option<&str>,
        limit: usize,
    ) -> Result<HashMap<Uuid, Vec<Made>>> {
        let mut out: HashMap<Uuid, Vec<Made>> = HashMap::new();
        if nodes.is_empty() || !self.made {
            return Ok(out);
        }
        let rows = spi::rows(
            include_str!("graph/made.sql"),
            &[
                self.key(),
                uuids(nodes),
                DatumWithOid::from(relation),
                DatumWithOid::from(most(limit)),
            ],
            |row| {
                Ok((
                    id_at(row, 1)?,
                    Made {
                        to: id_at(row, 2)?,
                        outward: row.get::<bool>(3)?.unwrap_or(true),
                        relation: row.get::<String>(4)?.unwrap_or_default(),
                        weight: row.get::<f64>(5)?.unwrap_or(0.0),
                        created_at: row.get::<TimestampWithTimeZone>(6)?.unwrap_or(self.at),
                    },
                ))
            },
        )?;
        for (node, link) in rows {
            out.entry(node).or_default().push(link);
        }
        Ok(out)
    }

    /// What each memory is linked to, with the sum of the strengths of links by co-activation and of the
    /// weights of links that somebody made. A memory without neighbours may be missing.
    pub fn neighbours(&mut self, nodes: &[Uuid]) -> Result<HashMap<Uuid, Vec<(Uuid, f64)>>> {
        let mut sums: HashMap<Uuid, BTreeMap<Uuid, f64>> = HashMap::new();
        if self.is_empty() {
            return Ok(HashMap::new());
        }
        if self.bonds || !self.calls.is_empty() {
            let rules = self.rules()?;
            for (node, list) in self.bonds(nodes, rules.threshold, rules.limit)? {
                let to = sums.entry(node).or_default();
                for bond in list {
                    *to.entry(bond.to).or_default() += bond.strength();
                }
            }
        }
        for (node, list) in self.made(nodes, None, RELATED_EDGES)? {
            let to = sums.entry(node).or_default();
            for link in list {
                *to.entry(link.to).or_default() += link.weight;
            }
        }
        Ok(sums
            .into_iter()
            .map(|(node, to)| (node, to.into_iter().collect()))
            .collect())
    }

    /// Those of the memories that the caller may be shown: there, and neither forgotten nor superseded
    /// nor expired.
    fn present(&self, ids: &[Uuid]) -> Result<HashSet<Uuid>> {
        if ids.is_empty() {
            return Ok(HashSet::new());
        }
        Ok(spi::rows(
            include_str!("graph/present.sql"),
            &[self.key(), uuids(ids), DatumWithOid::from(self.at)],
            |row| id_at(row, 1),
        )?
        .into_iter()
        .collect())
    }

    /// Those of the memories that are there as the caller sees them and not forgotten, in their order.
    fn known(&self, ids: &[Uuid]) -> Result<Vec<Uuid>> {
        spi::rows(
            include_str!("uses/visible.sql"),
            &[self.key(), uuids(ids)],
            |row| id_at(row, 1),
        )
    }

    /// The memory, if it is one of those.
    fn one(&self, id: Option<pgrx::Uuid>) -> Result<Option<Uuid>> {
        match id {
            Some(id) => Ok(self.known(&[spi::uuid(id)])?.pop()),
            None => Ok(None),
        }
    }

    fn rows(&self, ids: &[Uuid]) -> Result<HashMap<Uuid, Row>> {
        Ok(spi::rows(
            include_str!("graph/rows.sql"),
            &[self.key(), uuids(ids)],
            |row| {
                Ok((
                    id_at(row, 1)?,
                    Row {
                        content: row.get(2)?.unwrap_or_default(),
                        kind: row.get(3)?.unwrap_or_default(),
                        created_at: row.get(4)?.unwrap_or(self.at),
                    },
                ))
            },
        )?
        .into_iter()
        .collect())
    }
}

/// What is shown of a memory.
struct Row {
    content: String,
    kind: String,
    created_at: TimestampWithTimeZone,
}

/// A row of `hebbian_links` whose columns begin at `FIRST`.
fn link_row<const FIRST: usize>(row: &SpiHeapTupleData<'_>) -> Result<(Pair, Link)> {
    Ok((
        (id_at(row, FIRST)?, id_at(row, FIRST + 1)?),
        Link {
            forward: row.get::<f64>(FIRST + 2)?.unwrap_or(0.0),
            backward: row.get::<f64>(FIRST + 3)?.unwrap_or(0.0),
            at: micros_at(row, FIRST + 4)?,
            count: row.get::<i32>(FIRST + 5)?.unwrap_or(1),
        },
    ))
}

/// How far activation spreads; see [`spreading::spread`].
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    /// Probability of going on at each hop.
    pub alpha: f64,
    /// Most hops.
    pub max_hops: usize,
    /// Share below which a memory is not gone on from.
    pub eps: f64,
    /// Most edges.
    pub max_edges: usize,
}

/// Spreads activation from memories with weights: (memory, mass, lift), most mass first. Memories that
/// `keep` does not give back are as if they were not there; it is asked for each once, many at a time.
pub fn spread(
    graph: &mut Graph,
    seeds: &[(Uuid, f64)],
    reach: Reach,
    mut keep: impl FnMut(&Graph, &[Uuid]) -> Result<HashSet<Uuid>>,
) -> Result<Vec<(Uuid, f64, f64)>> {
    let mut read: HashMap<Uuid, Vec<(Uuid, f64)>> = HashMap::new();
    // Seeds were asked for by whoever gave them.
    let mut kept: HashMap<Uuid, bool> = seeds.iter().map(|(id, _)| (*id, true)).collect();
    spreading::spread(
        seeds,
        reach.alpha,
        reach.max_hops,
        reach.eps,
        reach.max_edges,
        |node, ahead| {
            if !read.contains_key(&node) && !graph.is_empty() {
                let batch: Vec<Uuid> = std::iter::once(node)
                    .chain(ahead.iter().copied())
                    .filter(|id| !read.contains_key(id))
                    .take(CHUNK)
                    .collect();
                let mut found = graph.neighbours(&batch)?;
                let unknown: BTreeSet<Uuid> = found
                    .values()
                    .flatten()
                    .map(|(to, _)| *to)
                    .filter(|to| !kept.contains_key(to))
                    .collect();
                let unknown: Vec<Uuid> = unknown.into_iter().collect();
                if !unknown.is_empty() {
                    let shown = keep(graph, &unknown)?;
                    kept.extend(unknown.iter().map(|id| (*id, shown.contains(id))));
                }
                for id in batch {
                    let mut list = found.remove(&id).unwrap_or_default();
                    list.retain(|(to, _)| kept.get(to) == Some(&true));
                    read.insert(id, list);
                }
            }
            Ok(read.remove(&node).unwrap_or_default())
        },
    )
}

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
struct Walk<'a> {
    graph: Graph,
    /// Only links of this name are followed.
    relation: Option<&'a str>,
    edges_left: usize,
    shown: HashMap<Uuid, bool>,
    entities: HashMap<String, Mentions>,
    steps: HashMap<Uuid, Rc<Vec<Step>>>,
}

impl<'a> Walk<'a> {
    fn new(graph: Graph, relation: Option<&'a str>, edges: usize) -> Self {
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
            include_str!("graph/mentioning.sql"),
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
            include_str!("graph/mentioned.sql"),
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
struct Found {
    score: f64,
    hops: i32,
    via: String,
    relations: Vec<String>,
}

/// Where `related` begins.
enum Start {
    Memory(Uuid),
    /// The key of an entity.
    Entity(String),
}

/// Memories within so many hops: the product of the strengths along the best way.
fn reachable(walk: &mut Walk<'_>, start: Start, hops: i32) -> Result<Vec<(Uuid, Found)>> {
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
type PathStep = (Uuid, Option<String>, Option<String>);

/// The shortest way between two memories, and of those the strongest; from both ends, the smaller side
/// first. Empty when there is none.
fn shortest(
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

/// The workspace that a call reads; `None` when the caller is nobody.
fn readable(workspace: Option<pgrx::Uuid>) -> Result<Option<Uuid>> {
    if let Some(own) = identity::caller().id
        && workspace.is_none_or(|named| spi::uuid(named) == own)
    {
        return Ok(Some(own));
    }
    let found = spi::row(
        "SELECT engram_internal.resolve_workspace($1, false)",
        &[DatumWithOid::from(workspace)],
        spi::id,
    )?;
    Ok(found.flatten().map(spi::uuid))
}

fn moment(at: Option<TimestampWithTimeZone>) -> Result<Option<TimestampWithTimeZone>> {
    match at {
        Some(at) if at.is_infinity() || at.is_neg_infinity() => Err(Error::invalid(
            "at is infinite",
            "Give a moment in time, or leave it out.",
        )),
        at => Ok(at),
    }
}

fn within(name: &str, value: i32, least: i32, most: i32) -> Result<usize> {
    if (least..=most).contains(&value) {
        return Ok(count(value));
    }
    Err(Error::invalid(
        format!("{name} is {value}"),
        format!("Give a number from {least} to {most}."),
    ))
}

/// The key of an entity in a workspace, its aliases resolved.
fn entity_key(workspace: Uuid, name: &str) -> Result<String> {
    let node = text::entity_node(name);
    if node.is_empty() {
        return Err(Error::invalid(
            format!("entity {name:?} has no letter or digit in its name"),
            "Give a name, for example 'New York'. engram.entities() lists them.",
        ));
    }
    let entity = spi::row(
        "SELECT a.node FROM engram.entity_aliases a WHERE a.workspace_id = $1 AND a.alias = $2",
        &[
            DatumWithOid::from(spi::pg_uuid(workspace)),
            DatumWithOid::from(node.as_str()),
        ],
        |row| Ok(row.get::<String>(1)?),
    )?;
    Ok(entity.flatten().unwrap_or(node))
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments, clippy::type_complexity)]
fn related(
    workspace: Option<pgrx::Uuid>,
    id: Option<pgrx::Uuid>,
    entity: Option<&str>,
    relation: Option<&str>,
    hops: Option<i32>,
    match_count: Option<i32>,
    at: Option<TimestampWithTimeZone>,
) -> Report<
    TableIterator<
        'static,
        (
            name!(id, pgrx::Uuid),
            name!(content, String),
            name!(r#type, String),
            name!(score, f64),
            name!(hops, i32),
            name!(via, String),
            name!(relations, Vec<String>),
            name!(created_at, TimestampWithTimeZone),
        ),
    >,
> {
    let hops = within("hops", hops.unwrap_or(1), 1, 5)?;
    let match_count = within("match_count", match_count.unwrap_or(10), 1, 1000)?;
    if id.is_some() == entity.is_some() {
        return Err(Error::invalid(
            format!(
                "related() was given {} id and entity",
                if id.is_some() { "both" } else { "neither" }
            ),
            "Give one of the two: the memory, or the entity to begin with.",
        )
        .into());
    }
    let at = moment(at)?;
    let Some(workspace) = readable(workspace)? else {
        return Ok(TableIterator::new(Vec::new()));
    };
    let graph = Graph::open(workspace, None, at)?;
    let start = match entity {
        Some(name) => Start::Entity(entity_key(workspace, name)?),
        None => match graph.one(id)? {
            Some(id) => Start::Memory(id),
            None => return Ok(TableIterator::new(Vec::new())),
        },
    };
    if graph.is_empty() {
        return Ok(TableIterator::new(Vec::new()));
    }
    let mut walk = Walk::new(graph, relation, RELATED_EDGES);
    let mut found = reachable(&mut walk, start, most(hops))?;
    found.truncate(match_count);
    let ids: Vec<Uuid> = found.iter().map(|(id, _)| *id).collect();
    let mut rows = walk.graph.rows(&ids)?;
    let out: Vec<_> = found
        .into_iter()
        .filter_map(|(id, found)| {
            let row = rows.remove(&id)?;
            Some((
                spi::pg_uuid(id),
                row.content,
                row.kind,
                found.score,
                found.hops,
                found.via,
                found.relations,
                row.created_at,
            ))
        })
        .collect();
    Ok(TableIterator::new(out))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn path(
    workspace: Option<pgrx::Uuid>,
    source: Option<pgrx::Uuid>,
    target: Option<pgrx::Uuid>,
    max_hops: Option<i32>,
) -> Report<
    TableIterator<
        'static,
        (
            name!(step, i32),
            name!(id, pgrx::Uuid),
            name!(content, String),
            name!(via, Option<String>),
            name!(relation, Option<String>),
        ),
    >,
> {
    let max_hops = within("max_hops", max_hops.unwrap_or(4), 1, 6)?;
    let Some(workspace) = readable(workspace)? else {
        return Ok(TableIterator::new(Vec::new()));
    };
    let graph = Graph::open(workspace, None, None)?;
    let (Some(source), Some(target)) = (graph.one(source)?, graph.one(target)?) else {
        return Ok(TableIterator::new(Vec::new()));
    };
    let mut walk = Walk::new(graph, None, PATH_EDGES);
    let steps = shortest(&mut walk, source, target, max_hops)?;
    let ids: Vec<Uuid> = steps.iter().map(|(id, ..)| *id).collect();
    let mut rows = walk.graph.rows(&ids)?;
    let out: Vec<_> = (0..)
        .zip(steps)
        .filter_map(|(step, (id, relation, entity))| {
            let row = rows.remove(&id)?;
            Some((step, spi::pg_uuid(id), row.content, entity, relation))
        })
        .collect();
    Ok(TableIterator::new(out))
}

#[pg_extern(sql = false, name = "spread")]
#[allow(clippy::too_many_arguments, clippy::type_complexity)]
fn spread_from(
    workspace: Option<pgrx::Uuid>,
    seeds: Option<Vec<Option<pgrx::Uuid>>>,
    weights: Option<Vec<Option<f64>>>,
    alpha: Option<f64>,
    max_hops: Option<i32>,
    eps: Option<f64>,
    max_edges: Option<i32>,
    at: Option<TimestampWithTimeZone>,
) -> Report<
    TableIterator<
        'static,
        (
            name!(memory_id, pgrx::Uuid),
            name!(mass, f64),
            name!(lift, f64),
        ),
    >,
> {
    let reach = Reach {
        alpha: alpha.unwrap_or(0.5),
        max_hops: within("max_hops", max_hops.unwrap_or(3), 0, 10)?,
        eps: eps.unwrap_or(1e-3),
        max_edges: within("max_edges", max_edges.unwrap_or(2000), 0, 10_000)?,
    };
    if !(0.0..1.0).contains(&reach.alpha) {
        return Err(Error::invalid(
            format!("alpha is {}", reach.alpha),
            "Give a number from 0 to less than 1: the probability of going on.",
        )
        .into());
    }
    if !(0.0..=1.0).contains(&reach.eps) {
        return Err(Error::invalid(
            format!("eps is {}", reach.eps),
            "Give a number from 0 to 1: the share below which the walk does not go on.",
        )
        .into());
    }
    let at = moment(at)?;
    let seeds = seeded(seeds.unwrap_or_default(), weights)?;
    let Some(workspace) = readable(workspace)? else {
        return Ok(TableIterator::new(Vec::new()));
    };
    let mut graph = Graph::open(workspace, None, at)?;
    let ids: Vec<Uuid> = seeds.iter().map(|(id, _)| *id).collect();
    let shown = graph.present(&ids)?;
    let seeds: Vec<(Uuid, f64)> = seeds
        .into_iter()
        .filter(|(id, _)| shown.contains(id))
        .collect();
    let found = spread(&mut graph, &seeds, reach, Graph::present)?;
    Ok(TableIterator::new(
        found
            .into_iter()
            .map(|(id, mass, lift)| (spi::pg_uuid(id), mass, lift)),
    ))
}

/// Seeds with their weights.
fn seeded(
    seeds: Vec<Option<pgrx::Uuid>>,
    weights: Option<Vec<Option<f64>>>,
) -> Result<Vec<(Uuid, f64)>> {
    if seeds.len() > 1000 {
        return Err(Error::invalid(
            format!("seeds has {} entries, the limit is 1000", seeds.len()),
            "Begin with the best hits of a search.",
        ));
    }
    let weights = weights.unwrap_or_else(|| vec![Some(1.0); seeds.len()]);
    if weights.len() != seeds.len() {
        return Err(Error::invalid(
            format!(
                "weights has {} entries for {} seeds",
                weights.len(),
                seeds.len()
            ),
            "Give one weight for each seed, or leave weights out.",
        ));
    }
    seeds
        .into_iter()
        .zip(weights)
        .map(|(seed, weight)| {
            let seed = seed.map(spi::uuid).ok_or_else(|| {
                Error::invalid(
                    "seeds has a NULL in it",
                    "Pass the ids that search() returned.",
                )
            })?;
            let weight = weight.unwrap_or(f64::NAN);
            if weight.is_finite() && weight >= 0.0 {
                return Ok((seed, weight));
            }
            Err(Error::invalid(
                format!("weights has {weight} in it"),
                "Give numbers from 0; only their proportions count.",
            ))
        })
        .collect()
}

/// A pair leads one way when one direction has twice the mass of the other, which counts for at least
/// this.
const LEAST_OTHER: f64 = 0.5;
/// Calls from which a direction is believed.
const LEAST_CALLS: i32 = 3;

#[pg_extern(sql = false, name = "links")]
#[allow(clippy::type_complexity)]
fn links_of(
    workspace: Option<pgrx::Uuid>,
    id: Option<pgrx::Uuid>,
    at: Option<TimestampWithTimeZone>,
) -> Report<
    TableIterator<
        'static,
        (
            name!(other, pgrx::Uuid),
            name!(kind, &'static str),
            name!(relation, String),
            name!(strength, f64),
            name!(direction, f64),
            name!(causal, bool),
            name!(count, Option<i32>),
            name!(linked_at, TimestampWithTimeZone),
        ),
    >,
> {
    let at = moment(at)?;
    let Some(workspace) = readable(workspace)? else {
        return Ok(TableIterator::new(Vec::new()));
    };
    let mut graph = Graph::open(workspace, None, at)?;
    let Some(id) = graph.one(id)? else {
        return Ok(TableIterator::new(Vec::new()));
    };
    let bonds = graph
        .bonds(&[id], 1, LISTED)?
        .remove(&id)
        .unwrap_or_default();
    let made = graph
        .made(&[id], None, LISTED)?
        .remove(&id)
        .unwrap_or_default();
    let ends: BTreeSet<Uuid> = bonds
        .iter()
        .map(|b| b.to)
        .chain(made.iter().map(|m| m.to))
        .collect();
    let ends: Vec<Uuid> = ends.into_iter().collect();
    let known: HashSet<Uuid> = graph.known(&ends)?.into_iter().collect();
    let mut out = Vec::new();
    for bond in bonds.into_iter().filter(|b| known.contains(&b.to)) {
        let (more, less) = (
            bond.forward.max(bond.backward),
            bond.forward.min(bond.backward),
        );
        out.push((
            spi::pg_uuid(bond.to),
            "hebbian",
            USED_WITH.to_owned(),
            bond.strength(),
            links::link_direction(bond.forward, bond.backward),
            more >= 2.0 * less.max(LEAST_OTHER) && bond.count >= LEAST_CALLS,
            Some(bond.count),
            TimestampWithTimeZone::try_from(bond.at).unwrap_or(graph.at),
        ));
    }
    for link in made.into_iter().filter(|m| known.contains(&m.to)) {
        out.push((
            spi::pg_uuid(link.to),
            "graph",
            link.relation,
            link.weight,
            if link.outward { 1.0 } else { -1.0 },
            false,
            None,
            link.created_at,
        ));
    }
    out.sort_by(|a, b| b.3.total_cmp(&a.3));
    Ok(TableIterator::new(out))
}
