//! The SQL functions: arguments in, errors out.

use std::collections::{BTreeSet, HashSet};

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::prelude::*;
use uuid::Uuid;

use super::walk::{self, PATH_EDGES, RELATED_EDGES, Start, Walk};
use super::{Graph, Reach, USED_WITH, count, most, spread};
use crate::api::{Report, shorten};
use crate::error::{Error, Result};
use crate::model::links;
use crate::search::workspace_of;
use crate::{spi, text};

/// Most links that are listed of one memory.
const LISTED: usize = 1000;

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
            format!(
                "entity {:?} has no letter or digit in its name",
                shorten(name)
            ),
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
                "related() was given {}",
                if id.is_some() {
                    "both id and entity"
                } else {
                    "neither id nor entity"
                }
            ),
            "Give one of the two: the memory, or the entity to begin with.",
        )
        .into());
    }
    let at = moment(at)?;
    let Some(workspace) = workspace_of(workspace)? else {
        return Ok(TableIterator::new(Vec::new()));
    };
    let graph = Graph::open(workspace, at)?;
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
    let mut found = walk::reachable(&mut walk, start, most(hops))?;
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
    let Some(workspace) = workspace_of(workspace)? else {
        return Ok(TableIterator::new(Vec::new()));
    };
    let graph = Graph::open(workspace, None)?;
    let (Some(source), Some(target)) = (graph.one(source)?, graph.one(target)?) else {
        return Ok(TableIterator::new(Vec::new()));
    };
    let mut walk = Walk::new(graph, None, PATH_EDGES);
    let steps = walk::shortest(&mut walk, source, target, max_hops)?;
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
        max_hops: within("max_hops", max_hops.unwrap_or(3), 0, 1000)?,
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
    let Some(workspace) = workspace_of(workspace)? else {
        return Ok(TableIterator::new(Vec::new()));
    };
    let mut graph = Graph::open(workspace, at)?;
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
    let Some(workspace) = workspace_of(workspace)? else {
        return Ok(TableIterator::new(Vec::new()));
    };
    let mut graph = Graph::open(workspace, at)?;
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
