//! Which memories time has moved into another layer than is shown.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use uuid::Uuid;

use super::fold::{TRAITS, traits};
use crate::error::{Error, Result};
use crate::life;
use crate::model::heat::{COUNTERS, Heat};
use crate::model::layers::Layer;
use crate::model::memory::{Params, State};
use crate::scan::Table;
use crate::search::ids::{IdHasher, IdMap};
use crate::spi;

/// States that are held in memory at the same time, some 100 bytes each.
const HELD: f64 = 2e6;

/// A memory that has moved.
pub struct Moved {
    pub workspace: Uuid,
    pub id: Uuid,
    /// The layer that is shown, and the one that it is in.
    pub old: Layer,
    pub new: Layer,
}

/// What a layer depends on, of a row of `memory_state`; what an older version has not filled in is NaN, or
/// the moment `i64::MIN`.
struct Kept {
    at: i64,
    working: f64,
    core: f64,
    layer: Option<Layer>,
}

/// Of all memories, or of one workspace's, those that are in another layer at a moment than is shown: at most
/// so many, the first in the order of the key. The caller owns the tables.
pub fn moved(workspace: Option<Uuid>, at: i64, most: usize) -> Result<Vec<Moved>> {
    let states = Table::open(c"memory_state")?;
    let memories = Table::open(c"memories")?;
    if !states.owned() || !memories.owned() {
        return Err(Error::Forbidden {
            message: "only the owner of the tables may care for all memories".to_owned(),
            hint: "Call engram.consolidate().".to_owned(),
        });
    }
    let rules = rules()?;
    let defaults = rules.get(&Uuid::nil()).ok_or_else(|| Error::NotReady {
        message: "engram.settings has no row of defaults".to_owned(),
        hint: "Put it back with: SELECT engram.setup();".to_owned(),
    })?;
    // A part after the other where they are too many to be held.
    let parts = match workspace {
        Some(_) => 1,
        None => (states.estimate() / HELD).ceil().clamp(1.0, 255.0) as u8,
    };
    let mut out = Vec::new();
    for part in 0..parts {
        let kept = kept(&states, workspace, |id| {
            parts == 1 || id.as_bytes()[15] % parts == part
        })?;
        compare(&memories, workspace, &kept, &rules, defaults, at, &mut out)?;
    }
    out.sort_unstable_by_key(|m| (m.workspace, m.id));
    out.truncate(most);
    Ok(out)
}

/// Parameters of the workspaces that have settings of their own, and the defaults.
fn rules() -> Result<IdMap<Params>> {
    let rows = spi::rows(
        "SELECT w.workspace_id, engram_internal.dynamics(w.workspace_id) \
         FROM (SELECT t.workspace_id FROM engram.settings t UNION SELECT t.workspace_id FROM engram.memory_type_settings t) w",
        &[],
        |row| {
            let id = row.get::<pgrx::Uuid>(1)?.map(spi::uuid).unwrap_or_default();
            let values = row.get::<Vec<f64>>(2)?.unwrap_or_default();
            Ok((id, Params::from_slice(&values)))
        },
    )?;
    Ok(rows
        .into_iter()
        .filter_map(|(id, params)| Some((id, params?)))
        .collect())
}

type States = HashMap<(Uuid, Uuid), Kept, BuildHasherDefault<IdHasher>>;

fn kept(states: &Table, workspace: Option<Uuid>, wanted: impl Fn(&Uuid) -> bool) -> Result<States> {
    let [owner, id, heat, working, core, layer] = [
        states.column(c"workspace_id")?,
        states.column(c"memory_id")?,
        states.column(c"heat")?,
        states.column(c"working_strength")?,
        states.column(c"core_strength")?,
        states.column(c"layer")?,
    ];
    let last = [heat, working, core, layer]
        .into_iter()
        .max()
        .unwrap_or(layer);
    let mut kept = States::default();
    if workspace.is_none() {
        kept.reserve(states.estimate().clamp(0.0, HELD) as usize);
    }
    states.each(workspace, last, |row| {
        // SAFETY: setup() gave the columns these types.
        let (key, heat, state) = unsafe {
            let key = (
                row.uuid(owner).unwrap_or_default(),
                row.uuid(id).unwrap_or_default(),
            );
            if !wanted(&key.1) {
                return Ok(());
            }
            let state = Kept {
                at: i64::MIN,
                working: row.get(working).unwrap_or(f64::NAN),
                core: row.get(core).unwrap_or(f64::NAN),
                layer: row.text(layer).and_then(Layer::parse),
            };
            (key, row.bytes(heat), state)
        };
        let at = match life::heat(heat)? {
            Some(heat) => heat.at,
            None => i64::MIN,
        };
        kept.insert(key, Kept { at, ..state });
        Ok(())
    })?;
    Ok(kept)
}

fn compare(
    memories: &Table,
    workspace: Option<Uuid>,
    kept: &States,
    rules: &IdMap<Params>,
    defaults: &Params,
    at: i64,
    out: &mut Vec<Moved>,
) -> Result<()> {
    let [owner, id, created, deleted, shown] = [
        memories.column(c"workspace_id")?,
        memories.column(c"id")?,
        memories.column(c"created_at")?,
        memories.column(c"deleted_at")?,
        memories.column(c"layer")?,
    ];
    let of_traits = TRAITS
        .iter()
        .map(|name| memories.column(name))
        .collect::<Result<Vec<i16>>>()?;
    let last = of_traits
        .iter()
        .copied()
        .chain([created, deleted, shown])
        .max();
    memories.each(workspace, last.unwrap_or(i16::MAX), |row| {
        if row.datum(deleted).is_some() {
            return Ok(());
        }
        // SAFETY: setup() gave the columns these types.
        let (key, created_at, old) = unsafe {
            (
                (
                    row.uuid(owner).unwrap_or_default(),
                    row.uuid(id).unwrap_or_default(),
                ),
                row.get(created).unwrap_or(0),
                row.text(shown).and_then(Layer::parse),
            )
        };
        let (Some(kept), Some(old)) = (kept.get(&key), old) else {
            return Ok(());
        };
        let traits = traits(&row, &of_traits)?;
        let params = rules.get(&key.0).unwrap_or(defaults);
        let or = |value: f64, other: f64| if value.is_nan() { other } else { value };
        let state = State {
            heat: Heat {
                at: if kept.at == i64::MIN {
                    created_at
                } else {
                    kept.at
                },
                uses: 1,
                counters: [0.0; COUNTERS],
            },
            working: or(kept.working, 1.0),
            core: or(kept.core, 0.0),
            layer: kept.layer.unwrap_or(old),
            stability: 0.0,
            difficulty: 0.0,
            uses: 1,
            last_used: created_at,
            rested: 0,
        };
        let new = state.layer_at(at, &traits, params);
        if new != old {
            out.push(Moved {
                workspace: key.0,
                id: key.1,
                old,
                new,
            });
        }
        Ok(())
    })
}
