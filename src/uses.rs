//! Noting that memories were used, and folding what was noted.
//!
//! A use costs its transaction one row in `access_queue`, whatever it will change. One of the writers,
//! by chance and once enough of them wait, folds the rows of a workspace into `memory_state`,
//! `access_log` and `hebbian_links`; readers count in what waits, so nobody sees a difference. A trigger
//! on the queue does that when the writer commits: until its end a fold holds the rows that it has
//! changed, and a transaction that goes on would have others wait for it.

mod care;
mod course;
mod credits;
mod fold;
mod layers;
mod levels;
mod states;

use std::collections::HashSet;
use std::ffi::CStr;

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::{FromDatum, JsonB, pg_sys};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::api::shorten;
use crate::error::{Error, Result};
use crate::model::course::Course;
use crate::model::memory::{Linking, Settings};
use crate::privilege::AsOwner;
use crate::scan::{Fresh, Key, Lookup, Table};
use crate::text::Date;
use crate::write::{self, Shape, Value as Cell, Writer};
use crate::{identity, ids, own, rows, spi};

/// Most memories that one call credits.
const MAX_IDS: usize = 1000;

/// One call that credits memories.
pub struct Use {
    /// In order of use.
    pub ids: Vec<Option<pgrx::Uuid>>,
    /// One of the kinds that `access_queue` knows.
    pub kind: &'static str,
    /// `None`: the workspace's `shown_gain`.
    pub gain: Option<f64>,
    /// FSRS rating.
    pub rating: Option<u8>,
    /// By default the time of the transaction.
    pub at: Option<TimestampWithTimeZone>,
    /// What it answers.
    pub recall_id: Option<pgrx::Uuid>,
    /// By default the caller's own.
    pub workspace: Option<pgrx::Uuid>,
}

/// The workspace that a call writes in. One's own needs no further question.
pub fn resolve(workspace: Option<pgrx::Uuid>) -> Result<Uuid> {
    let workspace = resolve_for(identity::caller().id, workspace)?;
    // For its error: there may be no tables yet, or older ones.
    Table::open(c"access_queue")?;
    Ok(workspace)
}

/// As [`resolve`], for this caller, and for who opens the tables anyway.
fn resolve_for(me: Option<Uuid>, workspace: Option<pgrx::Uuid>) -> Result<Uuid> {
    if workspace.is_none()
        && let Some(mine) = me
        && own::writable_is_own()
    {
        return Ok(mine);
    }
    let found = spi::row(
        "SELECT engram_internal.resolve_workspace($1, $2)",
        // Who only tells what would be done may be in a transaction that cannot write; who writes has asked.
        &[
            DatumWithOid::from(workspace),
            DatumWithOid::from(!read_only()),
        ],
        spi::id,
    )?;
    found
        .flatten()
        .map(spi::uuid)
        .ok_or_else(|| Error::invalid("no workspace", "Name one."))
}

fn checked(call: &Use) -> Result<Vec<Uuid>> {
    if call.ids.len() > MAX_IDS {
        return Err(Error::invalid(
            format!("ids has {} entries, the limit is {MAX_IDS}", call.ids.len()),
            "Credit what was used for the answer; that is seldom more than ten.",
        ));
    }
    if let Some(at) = call.at {
        if at.is_infinity() || at.is_neg_infinity() {
            return Err(Error::invalid(
                "at is infinite",
                "Give a moment in time, or leave it out.",
            ));
        }
        // SAFETY: reads the clock.
        if i64::from(at) > unsafe { pg_sys::GetCurrentTimestamp() } {
            return Err(Error::invalid(
                format!("at lies in the future: {at}"),
                "Leave it out to mean now, or give the moment at which the memories were used.",
            ));
        }
    }
    let mut ids: Vec<Uuid> = Vec::with_capacity(call.ids.len());
    for id in &call.ids {
        let id = id.map(spi::uuid).ok_or_else(|| {
            Error::invalid(
                "ids has a NULL in it",
                "Pass the ids that search() returned.",
            )
        })?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// The error of a read-only transaction. On a standby the bindings would come first, with one of their own.
fn require_writable(kind: &str) -> Result<()> {
    writable(match kind {
        "rated" => "engram.rate()",
        "reinforced" => "engram.reinforce()",
        _ => "engram.touch()",
    })
}

/// The error of a read-only transaction for a function of this name.
pub fn writable(name: &str) -> Result<()> {
    if read_only() {
        return Err(Error::read_only(name));
    }
    Ok(())
}

fn read_only() -> bool {
    // SAFETY: reads a flag of this backend and of the server.
    unsafe { pg_sys::XactReadOnly || pg_sys::RecoveryInProgress() }
}

/// Those of the memories that are there, as the caller sees them.
fn visible(me: Option<Uuid>, workspace: Uuid, ids: &[Uuid]) -> Result<Vec<Uuid>> {
    if let Some(ids) = rows::visible_to(me, workspace, ids)? {
        return Ok(ids);
    }
    Ok(spi::rows(
        include_str!("uses/visible.sql"),
        &[
            DatumWithOid::from(spi::pg_uuid(workspace)),
            DatumWithOid::from(spi::pg_uuids(ids)),
        ],
        spi::id,
    )?
    .into_iter()
    .flatten()
    .map(spi::uuid)
    .collect())
}

/// Notes a call; returns how many memories it credits.
pub fn note(call: Use) -> Result<i32> {
    let ids = checked(&call)?;
    if ids.is_empty() {
        resolve(call.workspace)?;
        return Ok(0);
    }
    // Who calls is read from settings, again and again if everybody asked.
    let me = identity::caller().id;
    // Before it is asked for the workspace, which does not know who is called.
    require_writable(call.kind)?;
    let workspace = resolve_for(me, call.workspace)?;
    let ids = visible(me, workspace, &ids)?;
    append(me, workspace, ids, &call)
}

/// Notes the rating of one memory; `None` when it is not there.
pub fn rate(call: Use) -> Result<Option<bool>> {
    let me = identity::caller().id;
    // Before it is asked for the workspace, which does not know who is called.
    require_writable(call.kind)?;
    let workspace = resolve_for(me, call.workspace)?;
    let ids = match call.ids.first().copied().flatten() {
        Some(_) => visible(me, workspace, &checked(&call)?)?,
        None => Vec::new(),
    };
    if ids.is_empty() {
        return Ok(None);
    }
    Ok(Some(append(me, workspace, ids, &call)? > 0))
}

/// Notes that memories were returned, which counts so much, by default the workspace's `shown_gain`; the id under which
/// their use will be credited. `None` where nothing can be written.
pub fn shown(
    ids: &[Uuid],
    gain: Option<f64>,
    workspace: Option<pgrx::Uuid>,
) -> Result<Option<Uuid>> {
    if read_only() || ids.is_empty() {
        return Ok(None);
    }
    let recall_id = ids::next();
    let call = Use {
        ids: Vec::new(),
        kind: "shown",
        gain,
        rating: None,
        at: None,
        // Fresh: nobody else can have credited it.
        recall_id: None,
        workspace,
    };
    let me = identity::caller().id;
    let workspace = resolve_for(me, workspace)?;
    queue(me, workspace, recall_id, ids, &call, Some(recall_id))?;
    Ok(Some(recall_id))
}

fn append(me: Option<Uuid>, workspace: Uuid, mut ids: Vec<Uuid>, call: &Use) -> Result<i32> {
    if let Some(recall_id) = call.recall_id {
        credits::uncredited(workspace, recall_id, call.kind, &mut ids)?;
    }
    if ids.is_empty() {
        return Ok(0);
    }
    let id = ids::next();
    queue(me, workspace, id, &ids, call, call.recall_id.map(spi::uuid))?;
    Ok(i32::try_from(ids.len()).unwrap_or(i32::MAX))
}

/// `access_queue` as setup() makes it. What its checks ask holds of every call that gets here.
const QUEUE: Shape<9> = Shape {
    columns: [
        (c"workspace_id", pg_sys::UUIDOID),
        (c"id", pg_sys::UUIDOID),
        (c"accessed_at", pg_sys::TIMESTAMPTZOID),
        (c"user_id", pg_sys::UUIDOID),
        (c"kind", pg_sys::TEXTOID),
        (c"gain", pg_sys::FLOAT8OID),
        (c"rating", pg_sys::INT2OID),
        (c"recall_id", pg_sys::UUIDOID),
        (c"memory_ids", pg_sys::UUIDARRAYOID),
    ],
    nullable: &[c"user_id", c"rating", c"recall_id"],
    checks: &[
        c"access_queue_accessed_at_check",
        c"access_queue_kind_check",
        c"access_queue_gain_check",
        c"access_queue_rating_check",
        c"access_queue_memory_ids_check",
    ],
    keys: &[],
    triggers: &[c"access_queue_after_insert"],
};

/// One call in so many looks whether enough wait to be folded. It is the one that the trigger on the table
/// lets through.
const LOOKS: u8 = 16;

fn queue(
    user: Option<Uuid>,
    workspace: Uuid,
    id: Uuid,
    ids: &[Uuid],
    call: &Use,
    recall_id: Option<Uuid>,
) -> Result<()> {
    // Not the general way, which is dear: the workspace is one that the caller may write and the user
    // is the caller, which is all that the policy asks.
    let table = Table::open_for_insert(c"access_queue")?;
    let owner = table.owner_for_insert();
    let gain = match call.gain {
        Some(gain) => gain,
        None => {
            let gain = setting(workspace, c"shown_gain")?;
            // SAFETY: the column is float8; setup() made it.
            gain.and_then(|datum| unsafe { f64::from_datum(datum, false) })
                .unwrap_or(0.0)
        }
    };
    // A row that is to set off the trigger, which folds when the transaction commits, takes a statement.
    let folds = id.as_bytes()[15].is_multiple_of(LOOKS) && enough_wait(&table, workspace)?;
    if owner.is_some()
        && !folds
        && let Some(mut rows) = Writer::open(&table, &QUEUE)
    {
        // SAFETY: the start of the running transaction.
        let now = || unsafe { pg_sys::GetCurrentTransactionStartTimestamp() };
        let of = |id: Option<Uuid>| id.map_or(Cell::Null, Cell::Uuid);
        rows.insert(&[
            Cell::Uuid(workspace),
            Cell::Uuid(id),
            Cell::Time(call.at.map_or_else(now, i64::from)),
            of(user),
            Cell::Text(call.kind),
            Cell::Float8(gain),
            call.rating.map_or(Cell::Null, |r| Cell::Int2(r.into())),
            of(recall_id),
            Cell::Uuids(ids),
        ]);
        drop(rows);
        write::done();
        return Ok(());
    }
    drop(table);
    let _owner = owner.map(AsOwner::new);
    spi::change(
        include_str!("uses/queue.sql"),
        &[
            DatumWithOid::from(spi::pg_uuid(workspace)),
            DatumWithOid::from(spi::pg_uuid(id)),
            DatumWithOid::from(call.at),
            DatumWithOid::from(user.map(spi::pg_uuid)),
            DatumWithOid::from(call.kind),
            DatumWithOid::from(call.rating.map(i16::from)),
            DatumWithOid::from(recall_id.map(spi::pg_uuid)),
            DatumWithOid::from(spi::pg_uuids(ids)),
            DatumWithOid::from(gain),
        ],
    )?;
    Ok(())
}

/// Whether a workspace has as many calls waiting as its `fold_threshold` says.
fn enough_wait(queue: &Table, workspace: Uuid) -> Result<bool> {
    // SAFETY: the column is integer; setup() made it.
    let threshold = setting(workspace, c"fold_threshold")?
        .and_then(|datum| unsafe { i32::from_datum(datum, false) });
    let Some(threshold) = threshold else {
        return Ok(true);
    };
    let _snapshot = Fresh::new();
    // This call is one more.
    let wanted = usize::try_from(threshold - 1).unwrap_or(0);
    if queue.entries_of(workspace, wanted)? < wanted {
        return Ok(false);
    }
    Ok(queue.count(&[(c"workspace_id", Key::Uuid(workspace))], wanted)? == wanted)
}

/// A setting of a workspace that is a number, its own before the default.
fn setting(workspace: Uuid, name: &CStr) -> Result<Option<pg_sys::Datum>> {
    let settings = Table::open(c"settings")?;
    let _snapshot = Fresh::new();
    for key in [workspace, Uuid::nil()] {
        let mut found = None;
        settings.rows(&[(c"workspace_id", Key::Uuid(key))], [name], |[value]| {
            // Numbers are passed by value.
            found = *value;
            Ok(())
        })?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// How calls of a workspace are linked, by the settings of now, and were since a moment. The caller was allowed the
/// workspace.
pub fn linking(workspace: Uuid, now: Linking, since: i64) -> Result<Course<Linking>> {
    // A store that setup() has not brought up to date knows of no changes.
    let Ok(history) = Table::open(c"settings_history") else {
        return Ok(Course::new(now));
    };
    let mut changed = false;
    for key in [workspace, Uuid::nil()] {
        let key = [(c"workspace_id", Key::Uuid(key))];
        history.rows(&key, [c"until"], |[until]| {
            // SAFETY: setup() made the column a timestamptz.
            let until = until.and_then(|datum| unsafe { i64::from_datum(datum, false) });
            changed |= until.is_some_and(|until| until >= since);
            Ok(())
        })?;
    }
    drop(history);
    if !changed {
        return Ok(Course::new(now));
    }
    let settings = over_time(workspace)?.and_then(|values| Settings::from_slice(&values, now));
    Ok(settings.ok_or_else(Error::no_defaults)?.links)
}

/// A call that waits to be folded.
#[derive(Clone, Debug)]
pub struct Call {
    /// Microseconds since the epoch of PostgreSQL.
    pub at: i64,
    /// What it counts for each of its memories.
    pub gain: f64,
    /// Each once, in order of use; in the place of one that was erased, or named before, is none.
    pub ids: Vec<Uuid>,
}

/// The calls of a workspace until a moment that wait to be folded. Most often there are none, and that
/// costs one look into an index. The caller was allowed the workspace.
pub fn waiting(workspace: Uuid, until: i64) -> Result<Vec<Call>> {
    let queue = Table::open(c"access_queue")?;
    let [at, gain, rating, ids] = [
        queue.column(c"accessed_at")?,
        queue.column(c"gain")?,
        queue.column(c"rating")?,
        queue.column(c"memory_ids")?,
    ];
    let mut calls = Vec::new();
    let mut rows = Lookup::new(&queue)?;
    rows.seek([workspace]);
    while let Some(row) = rows.next() {
        pgrx::check_for_interrupts!();
        // SAFETY: setup() gave the columns these types.
        let (at, gain) = unsafe { (row.get(at).unwrap_or(0), row.get(gain).unwrap_or(0.0)) };
        if at > until || gain == 0.0 && row.datum(rating).is_none() {
            continue;
        }
        // SAFETY: as above.
        let ids = unsafe { row.uuids(ids) };
        let ids = places(&ids);
        calls.push(Call { at, gain, ids });
    }
    Ok(calls)
}

/// Memories of a call by their places, each once.
pub fn places(ids: &[Uuid]) -> Vec<Uuid> {
    let mut seen = HashSet::new();
    ids.iter()
        .enumerate()
        .map(|(nth, id)| {
            let again = if ids.len() <= 16 {
                ids[..nth].contains(id)
            } else {
                !seen.insert(*id)
            };
            if again { Uuid::nil() } else { *id }
        })
        .collect()
}

/// The owner of the tables.
pub fn owner() -> Result<pg_sys::Oid> {
    let owner = spi::row(
        "SELECT relowner FROM pg_catalog.pg_class WHERE oid = 'engram.memories'::pg_catalog.regclass",
        &[],
        |row| Ok(row.get::<pg_sys::Oid>(1)?),
    )?;
    Ok(owner.flatten().unwrap_or(pg_sys::InvalidOid))
}

/// The owner of the tables, for what is done in the place of a caller who could do as much by hand: who has this right on
/// this table, or on a column of it.
pub fn owner_for(right: &str, table: &str) -> Result<pg_sys::Oid> {
    let owner = spi::row(
        "SELECT c.relowner FROM pg_catalog.pg_class c \
         WHERE c.oid = ('engram.' || $2)::pg_catalog.regclass \
           AND (pg_catalog.has_table_privilege(c.oid, $1) \
                OR $1 <> 'DELETE' AND pg_catalog.has_any_column_privilege(c.oid, $1))",
        &[DatumWithOid::from(right), DatumWithOid::from(table)],
        |row| Ok(row.get::<pg_sys::Oid>(1)?),
    )?;
    owner.flatten().ok_or_else(|| Error::Forbidden {
        message: format!("permission denied for table {table}"),
        hint: format!("This takes {right} on engram.{table}. Ask its owner: SELECT engram.setup('{{\"grant_to\": [\"<your role>\"]}}') gives a role what storing and searching take."),
    })
}

/// Folds at most so many waiting calls of a workspace that the caller may write.
pub fn fold(workspace: Uuid, at_most: i32) -> Result<i32> {
    identity::require_writer(workspace)?;
    let _owner = AsOwner::new(owner_for("INSERT", "access_queue")?);
    let folded = spi::changed(
        "SELECT engram_internal.fold_queue($1, $2)",
        &[
            DatumWithOid::from(spi::pg_uuid(workspace)),
            DatumWithOid::from(at_most),
        ],
        |row| Ok(row.get::<i32>(1)?),
    )?;
    Ok(folded.into_iter().flatten().next().unwrap_or(0))
}

pub use care::{Moved, moved, moves};
pub use course::{any_memories, over_time};
pub use fold::{STATE, fold as fold_calls};
pub use layers::{LayerRules, Layers, Read, layer_of, layers};
pub use levels::levels;
pub use states::each as each_state;

/// Dates the state of a memory now, before what it depends on changes.
pub fn rebase(workspace: Uuid, id: Uuid, new_layer: Option<&str>) -> Result<()> {
    identity::require_writer(workspace)?;
    let _owner = AsOwner::new(owner_for("UPDATE", "memories")?);
    spi::changed(
        "SELECT engram_internal.rebase_state($1, $2, $3)",
        &[
            DatumWithOid::from(spi::pg_uuid(workspace)),
            DatumWithOid::from(spi::pg_uuid(id)),
            DatumWithOid::from(new_layer),
        ],
        |_| Ok(()),
    )?;
    Ok(())
}

/// The report of [`consolidate`].
#[derive(Default)]
pub struct Report {
    /// folded, promoted, demoted, archived, forgotten, links_pruned, skipped.
    pub counts: [i64; 7],
    /// Nothing is left to do.
    pub done: bool,
}

/// The first of January 4400 BC, in microseconds since 2000: what is counted back from there, a hundred thousand days at
/// most, still has a date.
const EARLIEST: i64 = -2_337_186 * Date::MICROSECONDS;

/// Consolidates one workspace that the caller may write, or, for a trusted nobody, all. `turn`: a batch of those that
/// [`moves`] makes, and whether it is the first.
pub fn consolidate(
    workspace: Option<pgrx::Uuid>,
    at: Option<TimestampWithTimeZone>,
    dry_run: bool,
    batch_size: Option<i32>,
    turn: Option<bool>,
) -> Result<Report> {
    writable("engram.consolidate()")?;
    if let Some(size) = batch_size
        && size < 1
    {
        return Err(Error::invalid(
            format!("batch_size is {size}"),
            "Give a number of memories from 1, or leave it out.",
        ));
    }
    if let Some(at) = at {
        if at.is_infinity() || at.is_neg_infinity() {
            return Err(Error::invalid(
                "at is infinite",
                "Give a moment in time, or leave it out.",
            ));
        }
        if i64::from(at) < EARLIEST {
            return Err(Error::invalid(
                format!("at is before 4400 BC: {at}"),
                "Give a moment in the time of the memories, or leave it out.",
            ));
        }
    }
    let everybody = workspace.is_none() && identity::caller().id.is_none() && trusted()?;
    let workspace = if everybody {
        None
    } else {
        Some(resolve(workspace)?)
    };
    let _owner = AsOwner::new(owner_for("UPDATE", "memories")?);
    let mut arguments = vec![
        DatumWithOid::from(workspace.map(spi::pg_uuid)),
        DatumWithOid::from(at),
        DatumWithOid::from(dry_run),
        DatumWithOid::from(batch_size),
    ];
    arguments.extend(turn.map(DatumWithOid::from));
    // Older versions know of no turns.
    let statement = match turn {
        None => {
            "SELECT c.folded, c.promoted, c.demoted, c.archived, c.forgotten, c.links_pruned, c.skipped, c.done \
             FROM engram_internal.consolidate_as_owner($1, $2, $3, $4) c"
        }
        Some(_) => {
            "SELECT c.folded, c.promoted, c.demoted, c.archived, c.forgotten, c.links_pruned, c.skipped, c.done \
             FROM engram_internal.consolidate_as_owner($1, $2, $3, $4, true, $5) c"
        }
    };
    let rows = spi::changed(statement, &arguments, |row| {
        let mut counts = [0; 7];
        for (i, count) in counts.iter_mut().enumerate() {
            *count = row.get::<i64>(i + 1)?.unwrap_or(0);
        }
        Ok(Report {
            counts,
            done: row.get::<bool>(8)?.unwrap_or(true),
        })
    })?;
    Ok(rows.into_iter().next().unwrap_or_default())
}

/// Whether row security does not bind the caller; an error when there are no tables yet.
pub fn trusted() -> Result<bool> {
    let found = spi::row(
        "SELECT engram_internal.require_store(), engram_internal.trusted()",
        &[],
        |row| Ok(row.get::<bool>(2)?),
    )?;
    Ok(found.flatten().unwrap_or(false))
}

/// The workspaces that the caller may care for.
pub fn consolidated() -> Result<Vec<Uuid>> {
    if !trusted()? {
        return Ok(vec![resolve(None)?]);
    }
    // Every workspace has a memory; the index gives one after the other.
    Ok(spi::rows(
        "WITH RECURSIVE w AS ( \
           (SELECT m.workspace_id FROM engram.memories m ORDER BY m.workspace_id LIMIT 1) \
           UNION ALL \
           SELECT (SELECT m.workspace_id FROM engram.memories m WHERE m.workspace_id > w.workspace_id ORDER BY m.workspace_id LIMIT 1) \
           FROM w WHERE w.workspace_id IS NOT NULL) \
         SELECT w.workspace_id FROM w WHERE w.workspace_id IS NOT NULL",
        &[],
        spi::id,
    )?
    .into_iter()
    .flatten()
    .map(spi::uuid)
    .collect())
}

/// Settings that take a role that bypasses row security: they bound what everybody's server does.
const RESERVED: [&str; 5] = [
    "max_content_chars",
    "candidates",
    "approximate_from",
    "fold_threshold",
    "text_config",
];

/// Those that do as well, and hold for all workspaces together: they are read of the defaults alone.
const COMMON: [&str; 7] = [
    "partition_interval",
    "partitions_ahead",
    "access_log_days",
    "memory_events_days",
    "messages_days",
    "archive_messages_days",
    "size_limit_bytes",
];

/// Changes settings of a workspace that the caller may write; returns those in force.
pub fn configure(
    changes: Map<String, Value>,
    preset: Option<&str>,
    workspace: Option<pgrx::Uuid>,
) -> Result<Value> {
    writable(match preset {
        Some(_) => "engram.apply_preset()",
        None => "engram.configure()",
    })?;
    let common = |key: &str| COMMON.contains(&key);
    let reserved = |key: &&String| common(key) || RESERVED.contains(&key.as_str());
    if let Some(key) = changes.keys().find(reserved)
        && !trusted()?
    {
        return Err(Error::Forbidden {
            message: format!("setting {key} is not for users"),
            hint: "Ask an administrator: a role that bypasses row security may set it.".to_owned(),
        });
    }
    let workspace = resolve(workspace)?;
    let mut set = changes.iter().filter(|(_, value)| !value.is_null());
    if let Some((key, _)) = set.find(|(key, _)| common(key))
        && !workspace.is_nil()
    {
        return Err(Error::invalid(
            format!("setting {key} is of all workspaces together, not of \"{workspace}\""),
            format!(
                "Name the workspace of the defaults: SELECT engram.configure('{{\"{key}\": …}}', '{}');",
                Uuid::nil()
            ),
        ));
    }
    let _owner = AsOwner::new(owner_for("UPDATE", "memories")?);
    // Before 0.13 nobody kept what settings were: what was used until now counts at once, by those that were in force.
    let settles = spi::row(
        "SELECT pg_catalog.to_regprocedure('engram_internal.fold_before(uuid)') IS NOT NULL",
        &[],
        |row| Ok(row.get::<bool>(1)?),
    )?;
    if settles.flatten().unwrap_or(false) {
        spi::changed(
            "SELECT engram_internal.fold_before($1)",
            &[DatumWithOid::from(spi::pg_uuid(workspace))],
            |_| Ok(()),
        )?;
    }
    let rows = spi::changed(
        "SELECT engram_internal.change_settings($1, $2, $3)",
        &[
            DatumWithOid::from(spi::pg_uuid(workspace)),
            DatumWithOid::from(JsonB(Value::Object(changes))),
            DatumWithOid::from(preset),
        ],
        |row| Ok(row.get::<JsonB>(1)?),
    )?;
    Ok(rows
        .into_iter()
        .flatten()
        .next()
        .map_or(Value::Null, |j| j.0))
}

/// What [`apply_preset`] sets, in this order.
const PRESET_KEYS: [&str; 10] = [
    "decay",
    "mu1",
    "mu2",
    "alpha",
    "promote",
    "demote",
    "archive",
    "strength_gain",
    "forget_threshold",
    "importance_weight",
];

/// Presets by name. Rates per day.
const PRESETS: [(&str, [f64; 10]); 5] = [
    (
        "default",
        [0.5, 0.15, 0.005, 0.08, 0.25, 0.05, 0.15, 0.15, 0.01, 0.05],
    ),
    (
        "chatbot",
        [0.4, 0.08, 0.003, 0.12, 0.25, 0.05, 0.15, 0.2, 0.005, 0.05],
    ),
    (
        "task_agent",
        [0.6, 0.25, 0.01, 0.05, 0.35, 0.05, 0.2, 0.15, 0.02, 0.05],
    ),
    (
        "personal_assistant",
        [0.45, 0.12, 0.001, 0.1, 0.2, 0.03, 0.15, 0.15, 0.005, 0.07],
    ),
    (
        "researcher",
        [0.35, 0.05, 0.001, 0.15, 0.15, 0.02, 0.1, 0.15, 0.001, 0.03],
    ),
];

/// Applies a preset to a workspace that the caller may write; returns the settings in force.
pub fn apply_preset(name: &str, workspace: Option<pgrx::Uuid>) -> Result<Value> {
    let Some((name, values)) = PRESETS.iter().find(|(known, _)| *known == name) else {
        return Err(Error::invalid(
            format!("unknown preset {:?}", shorten(name)),
            format!("Known: {}.", PRESETS.map(|(name, _)| name).join(", ")),
        ));
    };
    let changes = PRESET_KEYS
        .iter()
        .zip(values)
        .map(|(key, value)| ((*key).to_owned(), Value::from(*value)))
        .collect();
    configure(changes, Some(name), workspace)
}
