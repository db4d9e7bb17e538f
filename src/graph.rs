//! The graph of a workspace: links between memories that were used together, links that somebody
//! made, and entities that several memories mention.
//!
//! A [`Graph`] reads what is linked to many memories at once, uses that wait to be folded included. All
//! of it runs with the rights of whoever calls: the SQL functions below as the caller, by statements; a search,
//! which asks for nobody's policies where it looks for candidates, row by row. What may be shown is asked of
//! `memories` as the caller, hop by hop, so that nothing is reached through what the caller may not see.

mod direct;
mod functions;
mod walk;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use pgrx::datum::datetime_support::now;
use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::pg_sys;
use pgrx::spi::SpiHeapTupleData;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::model::course::Course;
use crate::model::links::{self, Link};
use crate::model::memory::Linking;
use crate::model::spreading;
use crate::scan::{Key, Table};
use crate::spi;
use crate::uses::{self, Call};

/// Relation under which links by co-activation are shown. Nobody makes a link of that name.
const USED_WITH: &str = "used_with";
/// Microseconds of a day.
const DAY: f64 = 86_400e6;
/// Links of one memory that somebody made and that activation spreads over.
const MADE: usize = 1000;
/// Seconds from 1970 to 2000, where PostgreSQL's moments begin.
const POSTGRES_EPOCH_S: f64 = 946_684_800.0;
/// Memories whose links are read at once.
const CHUNK: usize = 32;

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
    /// From settings of those names; NULL is the value that setup() puts there.
    pub fn new(
        threshold: Option<i32>,
        prune: Option<f64>,
        limit: Option<i32>,
        half_life_days: Option<f64>,
        members: Option<i32>,
    ) -> Self {
        Self {
            threshold: threshold.unwrap_or(3),
            prune: prune.unwrap_or(0.02),
            limit: count(limit.unwrap_or(32)),
            half_life: half_life_days.unwrap_or(30.0) * 86_400e6,
            members: count(members.unwrap_or(6)),
        }
    }

    fn read(workspace: Uuid) -> Result<Self> {
        let found = spi::row(
            include_str!("graph/rules.sql"),
            &[DatumWithOid::from(spi::pg_uuid(workspace))],
            |row| {
                Ok(Self::new(
                    row.get(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get(4)?,
                    row.get(5)?,
                ))
            },
        )?;
        found.ok_or_else(Error::no_defaults)
    }
}

/// The time, which goes on during a transaction.
fn clock() -> Option<TimestampWithTimeZone> {
    // SAFETY: reads the clock.
    let micros = unsafe { pg_sys::GetCurrentTimestamp() };
    TimestampWithTimeZone::try_from(micros).ok()
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
    /// Those that wait to be folded and used several memories.
    calls: Vec<Call>,
    /// Whether memories of waiting calls are still there.
    there: HashMap<Uuid, bool>,
    /// Whether tables are read row by row, with nobody's policies.
    direct: bool,
}

impl Graph {
    /// As [`Self::open`], for a search as of now that the caller was found to be allowed: what it finds is shown only if
    /// the caller sees the memories. `waiting`: the calls that wait.
    pub fn open_direct(
        workspace: Uuid,
        rules: Rules,
        at: TimestampWithTimeZone,
        waiting: &[Call],
    ) -> Result<Self> {
        let key = [(c"workspace_id", Key::Uuid(workspace))];
        let links = |call: &&Call| call.gain > 0.0 && call.ids.len() > 1;
        Ok(Self {
            workspace,
            rules: Some(rules),
            at,
            bonds: Table::open(c"hebbian_links")?.any(&key)?,
            made: Table::open(c"graph_links")?.any(&key)?,
            calls: waiting.iter().filter(links).cloned().collect(),
            there: HashMap::new(),
            direct: true,
        })
    }

    /// Opens the graph of a workspace that the caller was found to be allowed. `at` `None`: now, with all
    /// that waits. Of a workspace without links this is three look-ups.
    pub fn open(workspace: Uuid, at: Option<TimestampWithTimeZone>) -> Result<Self> {
        let key = [(c"workspace_id", Key::Uuid(workspace))];
        let mut graph = Self {
            workspace,
            rules: None,
            at: at.unwrap_or_else(now),
            bonds: Table::open(c"hebbian_links")?.any(&key)?,
            made: Table::open(c"graph_links")?.any(&key)?,
            calls: Vec::new(),
            there: HashMap::new(),
            direct: false,
        };
        if Table::open(c"access_queue")?.any(&key)? {
            // A transaction that began earlier, or asks of an earlier moment, sees what was used since, and so would it be
            // folded.
            graph.calls = graph.waiting(clock().unwrap_or(graph.at))?;
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

    /// How calls since a moment are linked.
    fn linking(&mut self, since: i64) -> Result<Course<Linking>> {
        let rules = self.rules()?;
        let now = Linking {
            members: rules.members,
            half_life_days: rules.half_life / DAY,
            prune: rules.prune,
        };
        uses::linking(self.workspace, now, since)
    }

    fn waiting(&self, until: TimestampWithTimeZone) -> Result<Vec<Call>> {
        let mut calls = spi::rows(
            include_str!("graph/waiting.sql"),
            &[self.key(), DatumWithOid::from(until)],
            |row| {
                let ids = row.get::<Vec<Option<pgrx::Uuid>>>(3)?.unwrap_or_default();
                Ok(Call {
                    at: micros_at(row, 1)?,
                    gain: row.get::<f64>(2)?.unwrap_or(0.0),
                    ids: crate::uses::places(
                        &ids.into_iter().flatten().map(spi::uuid).collect::<Vec<_>>(),
                    ),
                })
            },
        )?;
        calls.retain(|call| call.ids.len() > 1);
        Ok(calls)
    }

    /// Makes sure that the first memories of these calls are known to be there or not.
    fn look_up(&mut self, calls: &[usize], linking: &Course<Linking>) -> Result<()> {
        let unknown: BTreeSet<Uuid> = calls
            .iter()
            .map(|call| &self.calls[*call])
            .flat_map(|call| call.ids.iter().take(linking.at(call.at).members))
            .filter(|id| !id.is_nil() && !self.there.contains_key(id))
            .copied()
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let unknown: Vec<Uuid> = unknown.into_iter().collect();
        let found = if self.direct {
            direct::members(self.workspace, &unknown)?
        } else {
            spi::rows(
                include_str!("graph/members.sql"),
                &[self.key(), uuids(&unknown)],
                |row| id_at(row, 1),
            )?
        };
        self.there.extend(unknown.iter().map(|id| (*id, false)));
        self.there.extend(found.into_iter().map(|id| (id, true)));
        Ok(())
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
        let since = touching.iter().map(|call| self.calls[*call].at).min();
        let linking = self.linking(since.unwrap_or(i64::MAX))?;
        self.look_up(&touching, &linking)?;
        for call in touching {
            let call = &self.calls[call];
            let members = linking.at(call.at).members;
            // What is gone counts among those that were used, and is linked with nothing.
            let used: Vec<Uuid> = call
                .ids
                .iter()
                .take(members)
                .filter(|id| self.there.get(id) == Some(&true))
                .copied()
                .collect();
            let gain = call.gain * links::pair_gain(call.ids.len().min(members));
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
        let since = pairs.values().flatten().map(|(at, _)| *at).min();
        let linking = self.linking(since.unwrap_or(i64::MAX))?;
        let add = |link: &mut Option<Link>, at: i64, gain: f64, linking: &Course<Linking>| {
            let rules = linking.at(at);
            links::add(link, at, gain, rules.half_life_days * DAY, rules.prune)
        };
        let ends = |pairs: &[Pair]| {
            let (a, b): (Vec<Uuid>, Vec<Uuid>) = pairs.iter().copied().unzip();
            [uuids(&a), uuids(&b)]
        };
        if self.bonds {
            let keys: Vec<Pair> = pairs.keys().copied().collect();
            found.extend(if self.direct {
                direct::pairs(self.workspace, &keys)?
            } else {
                let [a, b] = ends(&keys);
                spi::rows(
                    include_str!("graph/pairs.sql"),
                    &[self.key(), a, b],
                    link_row::<1>,
                )?
            });
        }
        let mut late: Vec<Pair> = Vec::new();
        for (ends, calls) in &mut pairs {
            calls.sort_by(|a, b| links::order(*a, *b));
            let mut link = found.remove(ends);
            let mut is_late = false;
            for (at, gain) in calls.iter() {
                is_late |= add(&mut link, *at, *gain, &linking);
            }
            if is_late {
                late.push(*ends);
            }
            found.extend(link.map(|link| (*ends, link)));
        }
        if late.is_empty() {
            return Ok(found);
        }
        let linking = self.linking(i64::MIN)?;
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
                calls.sort_by(|a, b| links::order(*a, *b));
                let mut link = None;
                for (at, gain) in calls.iter() {
                    add(&mut link, *at, *gain, &linking);
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
            let read = if self.direct {
                direct::bonds(self.workspace, nodes, threshold)?
            } else {
                None
            };
            let stored = match read {
                Some(stored) => stored,
                None => self.strongest(nodes, rules, threshold, limit)?,
            };
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

    /// The stored links of each memory, strongest first, at most `limit`.
    fn strongest(
        &self,
        nodes: &[Uuid],
        rules: Rules,
        threshold: i32,
        limit: usize,
    ) -> Result<Vec<direct::Stored>> {
        // A half-life below a microsecond leaves nothing to choose from.
        let decay = std::f64::consts::LN_2 / (rules.half_life / 1e6).max(1e-6);
        let unix_s = self.now() as f64 / 1e6 + POSTGRES_EPOCH_S;
        spi::rows(
            include_str!("graph/strongest.sql"),
            &[
                self.key(),
                uuids(nodes),
                DatumWithOid::from(self.at),
                DatumWithOid::from(decay),
                DatumWithOid::from(threshold),
                // With room for the last digits: what counts is decided by who asks.
                DatumWithOid::from(rules.prune.max(1e-300).ln() + unix_s * decay - 1e-6),
                DatumWithOid::from(most(limit)),
            ],
            |row| Ok((id_at(row, 1)?, link_row::<2>(row)?)),
        )
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
        if self.direct
            && relation.is_none()
            && let Some(read) = direct::made(self.workspace, nodes)?
        {
            for (node, link) in read {
                out.entry(node).or_default().push(link);
            }
            for list in out.values_mut() {
                list.sort_by(|a, b| {
                    (b.weight.total_cmp(&a.weight))
                        .then_with(|| (&a.to, &a.relation).cmp(&(&b.to, &b.relation)))
                        .then(a.outward.cmp(&b.outward))
                });
                list.truncate(limit);
            }
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
        for (node, list) in self.made(nodes, None, MADE)? {
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
        || {
            pgrx::check_for_interrupts!();
        },
    )
}
