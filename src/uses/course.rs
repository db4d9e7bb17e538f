//! What uses of a workspace count by, over time.

use std::cell::RefCell;
use std::collections::HashMap;

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::spi::SpiHeapTupleData;
use uuid::Uuid;

use super::layers::Seen;
use crate::error::{Error, Result};
use crate::model::memory::TYPES;
use crate::scan::{Key, Table};
use crate::{identity, rows, spi};

/// Settings that uses count by beside `decay_per_day` of each type: mu1, mu2, alpha, promote, demote, archive, strength_gain,
/// link_members, link_half_life_days and link_prune. A workspace inherits what is none.
type Row = [Option<f64>; 10];

const COLUMNS: &str = "mu1, mu2, alpha, promote, demote, archive, strength_gain, link_members::float8, link_half_life_days, link_prune";

/// What uses count by until a change: what `engram_internal.dynamics()` gives, and the last three of [`Row`].
type Values = [f64; VALUES];
const VALUES: usize = 18;

/// `decay_per_day` of each type.
type Rates = [Option<f64>; TYPES.len()];

/// Of a type for which there are no settings.
const USUAL_RATE: f64 = 0.1;

/// What was read before, good for who sees the same.
struct Read {
    seen: Seen,
    caller: Option<Uuid>,
    workspace: Uuid,
    values: Vec<f64>,
}

thread_local! {
    static READ: RefCell<Option<Read>> = const { RefCell::new(None) };
}

/// What `engram_internal.dynamics_over_time()` gives, of what the caller sees; `None` where there are no defaults. A
/// statement that asks for one memory after the other has it read once.
pub fn over_time(workspace: Uuid) -> Result<Option<Vec<f64>>> {
    // A store that setup() has not brought up to date.
    let Ok(history) = Table::open(c"settings_history") else {
        return now(workspace);
    };
    let mut changed = false;
    for of in [workspace, Uuid::nil()] {
        changed |= history.any(&[(c"workspace_id", Key::Uuid(of))])?;
    }
    if !changed {
        return now(workspace);
    }
    let plain = rows::sees_past_settings(&history)
        && rows::sees_settings(&Table::open(c"settings")?)
        && rows::sees_types(&Table::open(c"memory_type_settings")?);
    drop(history);
    let (seen, caller) = (Seen::now(), identity::caller().id);
    let known = READ.with_borrow(|read| {
        let same = |read: &&Read| {
            plain && read.seen == seen && read.caller == caller && read.workspace == workspace
        };
        read.as_ref().filter(same).map(|read| read.values.clone())
    });
    if known.is_some() {
        return Ok(known);
    }
    let values = read(workspace)?;
    READ.set(values.clone().filter(|_| plain).map(|values| Read {
        seen,
        caller,
        workspace,
        values,
    }));
    Ok(values)
}

/// Whether a workspace has memories, or any workspace if it is that of the defaults, those included that others are
/// storing. For the owner of the tables, whom no policy binds.
pub fn any_memories(workspace: Uuid) -> Result<bool> {
    let memories = Table::open(c"memories")?;
    if !memories.owned() {
        return Err(Error::Forbidden {
            message: "only the owner of the tables of engram may ask for anybody's memories"
                .to_owned(),
            hint: "It happens by itself where settings change.".to_owned(),
        });
    }
    let of = [(c"workspace_id", Key::Uuid(workspace))];
    let keys = if workspace.is_nil() { &[] } else { &of[..] };
    memories.any_to_come(keys)
}

/// Those of now alone.
fn now(workspace: Uuid) -> Result<Option<Vec<f64>>> {
    let values = spi::row(
        "SELECT engram_internal.dynamics($1)",
        &[DatumWithOid::from(spi::pg_uuid(workspace))],
        |row| Ok(row.get::<Vec<Option<f64>>>(1)?),
    )?;
    let whole = |values: Vec<Option<f64>>| values.into_iter().collect::<Option<Vec<f64>>>();
    values
        .flatten()
        .map(|values| whole(values).ok_or_else(Error::no_defaults))
        .transpose()
}

fn read(workspace: Uuid) -> Result<Option<Vec<f64>>> {
    let Some(params) = now(workspace)? else {
        return Ok(None);
    };
    let decay = params.first().copied().unwrap_or(f64::NAN);
    let mut in_force = InForce::now(workspace, decay)?;
    // Back from now, change by change. Of those that make no difference, as where the workspace has its own, is nothing kept.
    let mut later = in_force.values();
    let mut before: Vec<(i64, Values)> = Vec::new();
    for change in changes(workspace)? {
        let until = change.until;
        in_force.undo(change);
        let then = in_force.values();
        if then.iter().any(|value| value.is_nan()) {
            return Err(Error::no_defaults());
        }
        if then != later {
            before.push((until, then));
            later = then;
        }
    }
    let mut all = params;
    all.reserve(before.len() * (1 + VALUES));
    for (until, then) in before.iter().rev() {
        all.push(*until as f64);
        all.extend(then);
    }
    Ok(Some(all))
}

/// Settings of a workspace and of nobody, from which it inherits, at a moment.
struct InForce {
    workspace: Uuid,
    /// Changes of it are not kept.
    decay: f64,
    settings: HashMap<Uuid, Row>,
    rates: HashMap<Uuid, Rates>,
    /// Nobody's are there as long as the store is; what they lack they never had.
    first: Row,
}

impl InForce {
    fn now(workspace: Uuid, decay: f64) -> Result<Self> {
        let both = both(workspace);
        let settings = spi::rows(
            &format!(
                "SELECT workspace_id, {COLUMNS} FROM engram.settings WHERE workspace_id = ANY ($1)"
            ),
            &both,
            |row| Ok((whose(row)?, settings_of(row)?)),
        )?;
        let settings: HashMap<Uuid, Row> = settings.into_iter().collect();
        let types = spi::rows(
            "SELECT workspace_id, type, decay_per_day FROM engram.memory_type_settings WHERE workspace_id = ANY ($1)",
            &both,
            |row| {
                let kind = row.get::<&str>(2)?.and_then(kind_of);
                Ok((whose(row)?, kind.zip(row.get::<f64>(3)?)))
            },
        )?;
        let mut rates: HashMap<Uuid, Rates> = HashMap::new();
        for (of, rate) in types {
            if let Some((kind, rate)) = rate {
                rates.entry(of).or_default()[kind] = Some(rate);
            }
        }
        Ok(Self {
            workspace,
            decay,
            first: settings.get(&Uuid::nil()).copied().unwrap_or_default(),
            settings,
            rates,
        })
    }

    fn values(&self) -> Values {
        let nobody = Uuid::nil();
        let own = self.settings.get(&self.workspace);
        let common = self.settings.get(&nobody);
        let value = |nth: usize| {
            let of = |row: Option<&Row>| row.and_then(|row| row[nth]);
            of(own)
                .or(of(common))
                .or(self.first[nth])
                .unwrap_or(f64::NAN)
        };
        let rate = |nth: usize| {
            let of = |id| self.rates.get(&id).and_then(|rates| rates[nth]);
            of(self.workspace).or(of(nobody)).unwrap_or(USUAL_RATE)
        };
        let mut values = [0.0; VALUES];
        values[0] = self.decay;
        for nth in 0..7 {
            values[1 + nth] = value(nth);
            values[8 + nth] = rate(nth);
        }
        for nth in 0..3 {
            values[15 + nth] = value(7 + nth);
        }
        values
    }

    /// Puts back what there was before a change.
    fn undo(&mut self, change: Change) {
        match change.before {
            Before::Settings(row) => {
                self.settings.insert(change.of, row);
            }
            Before::Rate(Some(kind), rate) => self.rates.entry(change.of).or_default()[kind] = rate,
            Before::Rate(None, _) => {}
        }
    }
}

/// A change of settings.
struct Change {
    /// The workspace.
    of: Uuid,
    /// The moment, in microseconds since the epoch of PostgreSQL.
    until: i64,
    before: Before,
}

/// What was in force until a change.
enum Before {
    Settings(Row),
    /// Of a type, if it is one that this version knows.
    Rate(Option<usize>, Option<f64>),
}

/// The latest first.
fn changes(workspace: Uuid) -> Result<Vec<Change>> {
    spi::rows(
        &format!(
            "SELECT workspace_id, {COLUMNS}, until, type, decay_per_day FROM engram.settings_history \
             WHERE workspace_id = ANY ($1) ORDER BY until DESC, workspace_id, type"
        ),
        &both(workspace),
        |row| {
            let kind = row.get::<&str>(13)?.unwrap_or_default();
            Ok(Change {
                of: whose(row)?,
                until: row.get::<TimestampWithTimeZone>(12)?.map_or(0, i64::from),
                before: if kind.is_empty() {
                    Before::Settings(settings_of(row)?)
                } else {
                    Before::Rate(kind_of(kind), row.get::<f64>(14)?)
                },
            })
        },
    )
}

/// The parameter of statements that read what a workspace has of its own and what it inherits.
fn both(workspace: Uuid) -> [DatumWithOid<'static>; 1] {
    [DatumWithOid::from(spi::pg_uuids(&[workspace, Uuid::nil()]))]
}

/// The workspace that a row is of, which is in the first column.
fn whose(row: &SpiHeapTupleData<'_>) -> Result<Uuid> {
    Ok(row.get::<pgrx::Uuid>(1)?.map(spi::uuid).unwrap_or_default())
}

/// [`COLUMNS`] of a row, which are the next.
fn settings_of(row: &SpiHeapTupleData<'_>) -> Result<Row> {
    let mut values = Row::default();
    for (nth, value) in values.iter_mut().enumerate() {
        *value = row.get::<f64>(2 + nth)?;
    }
    Ok(values)
}

fn kind_of(name: &str) -> Option<usize> {
    TYPES.iter().position(|kind| *kind == name)
}
