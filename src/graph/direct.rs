//! Rows of the graph's tables by their keys, as a search reads them: without statements, whose making and running costs
//! more than the few rows, and with nobody's policies.
//!
//! Where an index is not as setup() makes it, there is nothing, and statements are asked.

use uuid::Uuid;

use super::{Made, Pair, pair};
use crate::error::Result;
use crate::model::links::Link;
use crate::scan::{Lookup, Row, Table};

/// Those of the memories that a fold would find, as in `members.sql`.
pub fn members(workspace: Uuid, ids: &[Uuid]) -> Result<Vec<Uuid>> {
    let states = Table::open(c"memory_state")?;
    let mut state = Lookup::upto(&states, 2)?;
    let mut rest: Vec<Uuid> = Vec::new();
    let mut found: Vec<Uuid> = Vec::with_capacity(ids.len());
    for id in ids {
        match state.find([workspace, *id]) {
            Some(_) => found.push(*id),
            None => rest.push(*id),
        }
    }
    if !rest.is_empty() {
        let memories = Table::open(c"memories")?;
        let mut memory = Lookup::upto(&memories, 2)?;
        found.extend(
            rest.into_iter()
                .filter(|id| memory.find([workspace, *id]).is_some()),
        );
    }
    Ok(found)
}

/// Numbers of the columns of `hebbian_links`.
struct Columns {
    ends: [i16; 2],
    masses: [i16; 2],
    at: i16,
    count: i16,
}

impl Columns {
    fn of(links: &Table) -> Result<Self> {
        Ok(Self {
            ends: [links.column(c"a")?, links.column(c"b")?],
            masses: [links.column(c"forward")?, links.column(c"backward")?],
            at: links.column(c"linked_at")?,
            count: links.column(c"count")?,
        })
    }

    fn link(&self, row: &Row<'_>) -> (Pair, Link) {
        // SAFETY: setup() gave the columns these types, and none is NULL.
        unsafe {
            let [a, b] = self.ends.map(|end| row.uuid(end).unwrap_or_default());
            let [forward, backward] = self.masses.map(|mass| row.get(mass).unwrap_or(0.0));
            let link = Link {
                forward,
                backward,
                at: row.get(self.at).unwrap_or(0),
                count: row.get(self.count).unwrap_or(1),
            };
            (pair(a, b), link)
        }
    }
}

/// The links between these ends, as in `pairs.sql`.
pub fn pairs(workspace: Uuid, pairs: &[Pair]) -> Result<Vec<(Pair, Link)>> {
    let links = Table::open(c"hebbian_links")?;
    let columns = Columns::of(&links)?;
    let mut by_ends = Lookup::new(&links)?;
    let mut found = Vec::with_capacity(pairs.len());
    for (a, b) in pairs {
        pgrx::check_for_interrupts!();
        if let Some(row) = by_ends.find([workspace, *a, *b]) {
            found.push(columns.link(&row));
        }
    }
    Ok(found)
}

/// A memory with one of its links.
pub type Stored = (Uuid, (Pair, Link));

/// All links of each memory that have had so many calls.
pub fn bonds(workspace: Uuid, nodes: &[Uuid], threshold: i32) -> Result<Option<Vec<Stored>>> {
    let links = Table::open(c"hebbian_links")?;
    let columns = Columns::of(&links)?;
    let mut by_lower = Lookup::new(&links)?;
    let reverse = Lookup::by(
        &links,
        c"hebbian_links_reverse_idx",
        [c"b", c"workspace_id"],
    )?;
    let Some(mut by_higher) = reverse else {
        return Ok(None);
    };
    let mut found = Vec::new();
    for node in nodes {
        by_lower.seek([workspace, *node]);
        by_higher.seek([*node, workspace]);
        for by in [&mut by_lower, &mut by_higher] {
            while let Some(row) = by.next() {
                pgrx::check_for_interrupts!();
                let link = columns.link(&row);
                if link.1.count >= threshold {
                    found.push((*node, link));
                }
            }
        }
    }
    Ok(Some(found))
}

/// All links that somebody made, of each memory, to others.
pub fn made(workspace: Uuid, nodes: &[Uuid]) -> Result<Option<Vec<(Uuid, Made)>>> {
    let links = Table::open(c"graph_links")?;
    let [memory, target, relation, weight, created] = [
        links.column(c"memory_id")?,
        links.column(c"target_id")?,
        links.column(c"relation")?,
        links.column(c"weight")?,
        links.column(c"created_at")?,
    ];
    let mut outward = Lookup::new(&links)?;
    let to = Lookup::by(
        &links,
        c"graph_links_target_idx",
        [c"target_id", c"workspace_id"],
    )?;
    let Some(mut inward) = to else {
        return Ok(None);
    };
    let mut found = Vec::new();
    let mut add = |node: Uuid, row: &Row<'_>, outward: bool| {
        pgrx::check_for_interrupts!();
        // SAFETY: setup() gave the columns these types.
        unsafe {
            // Entities have no target.
            let other = row.uuid(if outward { target } else { memory });
            let (Some(to), Some(relation)) = (other, row.text(relation)) else {
                return;
            };
            if let Some(created_at) = row.get(created)
                && to != node
            {
                let link = Made {
                    to,
                    outward,
                    relation: relation.to_owned(),
                    weight: row.get(weight).unwrap_or(0.0),
                    created_at,
                };
                found.push((node, link));
            }
        }
    };
    for node in nodes {
        outward.seek([workspace, *node]);
        while let Some(row) = outward.next() {
            add(*node, &row, true);
        }
        inward.seek([*node, workspace]);
        while let Some(row) = inward.next() {
            add(*node, &row, false);
        }
    }
    Ok(Some(found))
}
