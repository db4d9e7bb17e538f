//! Folding: calls that wait become heat, strengths, links and a log.
//!
//! What belongs together is brought together here: every memory and every pair is read once and written
//! once, however many calls used it. Who calls this holds the workspace ([`super::fold`]), so nobody
//! else folds in it or deletes links. Rows of states are locked first, and calls whose memories
//! somebody else is changing or deleting are left for later: nobody who folds waits for anybody.

use std::collections::HashSet;
use std::ffi::CStr;

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::pg_sys;
use uuid::Uuid;

use super::QUEUE;
use crate::error::Result;
use crate::life::{self, After, Stored};
use crate::model::course::Course;
use crate::model::fsrs::Rating;
use crate::model::links::{self, Link};
use crate::model::memory::{Event, Linking, Params, Settings, Traits};
use crate::partitions::Routes;
use crate::raw::RawJsonb;
use crate::scan::{Fresh, Lookup, Row, Table, Tuple};
use crate::spi;
use crate::write::{self, Shape, Value, Writer};

/// Microseconds of a day.
const DAY: f64 = 86_400e6;

/// `memory_state` as setup() makes it.
pub const STATE: Shape<11> = Shape {
    columns: [
        (c"workspace_id", pg_sys::UUIDOID),
        (c"memory_id", pg_sys::UUIDOID),
        (c"access_count", pg_sys::INT8OID),
        (c"last_accessed_at", pg_sys::TIMESTAMPTZOID),
        (c"heat", pg_sys::BYTEAOID),
        (c"working_strength", pg_sys::FLOAT8OID),
        (c"core_strength", pg_sys::FLOAT8OID),
        (c"layer", pg_sys::TEXTOID),
        (c"stability", pg_sys::FLOAT8OID),
        (c"difficulty", pg_sys::FLOAT8OID),
        (c"base", pg_sys::JSONBOID),
    ],
    nullable: &[
        c"heat",
        c"working_strength",
        c"core_strength",
        c"layer",
        c"stability",
        c"difficulty",
        c"base",
    ],
    checks: &[
        c"memory_state_access_count_check",
        c"memory_state_heat_check",
        c"memory_state_layer_check",
    ],
    // The memory is there: it was added or read just before, and takes this along when it goes.
    keys: &[c"memory_state_memory_fkey"],
    triggers: &[c"memory_state_restore"],
};

/// `access_log`.
const LOG: Shape<11> = Shape {
    columns: [
        (c"workspace_id", pg_sys::UUIDOID),
        (c"memory_id", pg_sys::UUIDOID),
        (c"accessed_at", pg_sys::TIMESTAMPTZOID),
        (c"id", pg_sys::UUIDOID),
        (c"user_id", pg_sys::UUIDOID),
        (c"kind", pg_sys::TEXTOID),
        (c"gain", pg_sys::FLOAT8OID),
        (c"rating", pg_sys::INT2OID),
        (c"recall_id", pg_sys::UUIDOID),
        (c"place", pg_sys::INT2OID),
        (c"pair_gain", pg_sys::FLOAT8OID),
    ],
    nullable: &[c"user_id", c"rating", c"recall_id"],
    checks: &[],
    keys: &[],
    triggers: &[],
};

/// `hebbian_links`.
const LINKS: Shape<7> = Shape {
    columns: [
        (c"workspace_id", pg_sys::UUIDOID),
        (c"a", pg_sys::UUIDOID),
        (c"b", pg_sys::UUIDOID),
        (c"forward", pg_sys::FLOAT8OID),
        (c"backward", pg_sys::FLOAT8OID),
        (c"linked_at", pg_sys::TIMESTAMPTZOID),
        (c"count", pg_sys::INT4OID),
    ],
    nullable: &[],
    checks: &[c"hebbian_links_order_check", c"hebbian_links_mass_check"],
    keys: &[],
    triggers: &[],
};

/// What became of it.
pub struct Folded {
    /// Calls.
    pub calls: i32,
    /// Both ends of links that a call was older than.
    pub late_links: Vec<Uuid>,
}

struct Call {
    row: pg_sys::ItemPointerData,
    id: Uuid,
    at: i64,
    user: Option<Uuid>,
    kind: String,
    gain: f64,
    rating: Option<i16>,
    recall: Option<Uuid>,
    /// How many it named.
    named: usize,
    /// Each once, in order of use, with its place from 1.
    memories: Vec<(Uuid, i16)>,
}

impl Call {
    /// The mass that each pair of those gets that are linked.
    fn pair_gain(&self, links: &Course<Linking>) -> f64 {
        let members = links.at(self.at).members.min(self.named);
        if self.gain > 0.0 && members > 1 {
            self.gain / (members - 1) as f64
        } else {
            0.0
        }
    }

    fn event(&self) -> Option<Event> {
        (self.gain != 0.0 || self.rating.is_some()).then(|| Event {
            at: self.at,
            gain: self.gain,
            rating: self.rating.and_then(|r| Rating::from_number(r.into())),
        })
    }
}

/// Numbers of the columns of a table, in the order of its shape.
fn columns<const N: usize>(table: &Table, shape: &Shape<N>) -> Result<[i16; N]> {
    let mut numbers = [0; N];
    for (number, (name, _)) in numbers.iter_mut().zip(&shape.columns) {
        *number = table.column(name)?;
    }
    Ok(numbers)
}

/// Tables that calls are folded from and into.
struct Tables {
    queue: Table,
    states: Table,
    links: Table,
    memories: Table,
    /// Of the log.
    routes: Routes,
}

impl Tables {
    /// Locks them. `None` where the caller does not own them, or the log is not as setup() makes it.
    fn open() -> Result<Option<Self>> {
        if !Table::open(c"access_queue")?.owned() {
            return Ok(None);
        }
        let queue = Table::open_for_insert(c"access_queue")?;
        let states = Table::open_for_insert(c"memory_state")?;
        let links = Table::open_for_insert(c"hebbian_links")?;
        let memories = Table::open(c"memories")?;
        let Some(routes) = Routes::open(c"access_log") else {
            return Ok(None);
        };
        let owned = [&queue, &states, &links].iter().all(|t| t.owned());
        Ok(owned.then_some(Self {
            queue,
            states,
            links,
            memories,
            routes,
        }))
    }

    /// The parts of the log that these calls belong into; most often one. `None` where there is none for a call.
    fn log_parts(&self, calls: &[Call]) -> Result<Option<Vec<(pg_sys::Oid, Table)>>> {
        let mut parts: Vec<(pg_sys::Oid, Table)> = Vec::new();
        for call in calls {
            let Some(part) = self.routes.find(call.at) else {
                return Ok(None);
            };
            if !parts.iter().any(|(known, _)| *known == part) {
                parts.push((part, Table::open_part(part)?));
            }
        }
        Ok(Some(parts))
    }
}

/// Folds at most so many calls of a workspace. `None` where that takes statements: the tables are not
/// as setup() makes them, or have lost rows.
pub fn fold(workspace: Uuid, at_most: usize, rules: &Settings) -> Result<Option<Folded>> {
    let Some(tables) = Tables::open()? else {
        return Ok(None);
    };
    let (Some(_), Some(mut states), Some(mut links)) = (
        Writer::open(&tables.queue, &QUEUE),
        Writer::open(&tables.states, &STATE),
        Writer::open(&tables.links, &LINKS),
    ) else {
        return Ok(None);
    };
    let snapshot = Fresh::new();
    let mut calls = waiting(&tables.queue, workspace, at_most)?;
    let Some(parts) = tables.log_parts(&calls)? else {
        return Ok(None);
    };
    let mut logs = Vec::with_capacity(parts.len());
    for (part, table) in &parts {
        match Writer::open(table, &LOG).filter(|_| table.owned()) {
            Some(writer) => logs.push((*part, writer)),
            None => return Ok(None),
        }
    }
    let Some(mut memories) = Memories::lock(&tables, workspace, &calls)? else {
        return Ok(None);
    };
    memories.take(&mut calls);
    memories.update_states(&calls, &mut states, &rules.params)?;
    let late_links = update_links(workspace, &calls, &tables.links, &mut links, &rules.links)?;
    // After the states, some of which ask for what was logged before.
    for (part, log) in &mut logs {
        let theirs = calls
            .iter()
            .filter(|call| tables.routes.find(call.at) == Some(*part));
        write_log(workspace, theirs, log, &rules.links);
    }
    drop((memories, snapshot));
    drop((states, links, logs));
    write::done();
    Ok(Some(Folded {
        calls: i32::try_from(calls.len()).unwrap_or(i32::MAX),
        late_links,
    }))
}

/// Calls that have happened, in the order of their ids.
fn waiting(queue: &Table, workspace: Uuid, at_most: usize) -> Result<Vec<Call>> {
    let [_, id, at, user, kind, gain, rating, recall, ids] = columns(queue, &QUEUE)?;
    // SAFETY: reads the clock.
    let now = unsafe { pg_sys::GetCurrentTimestamp() };
    let mut calls = Vec::new();
    let mut rows = Lookup::new(queue)?;
    rows.seek([workspace]);
    while calls.len() < at_most
        && let Some(row) = rows.next()
    {
        pgrx::check_for_interrupts!();
        // SAFETY: the shape says of which types the columns are.
        let call = unsafe {
            let named = row.uuids(ids);
            let mut memories: Vec<(Uuid, i16)> = Vec::with_capacity(named.len());
            let mut seen = HashSet::new();
            for (nth, id) in named.iter().enumerate() {
                let again = if named.len() <= 16 {
                    memories.iter().any(|(other, _)| other == id)
                } else {
                    !seen.insert(*id)
                };
                if !again {
                    memories.push((*id, i16::try_from(nth + 1).unwrap_or(i16::MAX)));
                }
            }
            Call {
                row: row.at,
                id: row.uuid(id).unwrap_or_default(),
                at: row.get(at).unwrap_or(0),
                user: row.uuid(user),
                kind: row.text(kind).unwrap_or_default().to_owned(),
                gain: row.get(gain).unwrap_or(0.0),
                rating: row.get(rating),
                recall: row.uuid(recall),
                named: named.len(),
                memories,
            }
        };
        if call.at <= now {
            calls.push(call);
        }
    }
    Ok(calls)
}

/// Memories that calls used.
struct Memories<'t> {
    workspace: Uuid,
    tables: &'t Tables,
    rows: Lookup<'t, 2>,
    /// Their states, in the order of ids: nobody else changes these from now on.
    states: Vec<(Uuid, Tuple)>,
    /// Those whose states somebody else is changing.
    busy: HashSet<Uuid>,
    /// Those that there are no more.
    gone: HashSet<Uuid>,
}

impl<'t> Memories<'t> {
    /// Locks the states of what calls name. `None` where a memory has none.
    fn lock(tables: &'t Tables, workspace: Uuid, calls: &[Call]) -> Result<Option<Self>> {
        let mut wanted: Vec<Uuid> = calls
            .iter()
            .flat_map(|call| call.memories.iter().map(|(id, _)| *id))
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut state = Lookup::new(&tables.states)?;
        let mut found = Self {
            workspace,
            tables,
            rows: Lookup::new(&tables.memories)?,
            states: Vec::with_capacity(wanted.len()),
            busy: HashSet::new(),
            gone: HashSet::new(),
        };
        let [_, id, ..] = columns(&tables.states, &STATE)?;
        state.seek_any([workspace, Uuid::nil()], &wanted);
        // SAFETY: the shape says that the column is one.
        let mut next = || state.next().map(|row| (unsafe { row.uuid(id) }, row.at));
        let mut row = next();
        for id in wanted {
            pgrx::check_for_interrupts!();
            match row {
                Some((of, at)) if of == Some(id) => {
                    match write::lock(&tables.states, at) {
                        Some(tuple) => found.states.push((id, Tuple::new(&tables.states, tuple))),
                        None => {
                            found.busy.insert(id);
                        }
                    }
                    row = next();
                }
                // A partial restore has left its state out.
                _ if found.rows.find([workspace, id]).is_some() => return Ok(None),
                _ => {
                    found.gone.insert(id);
                }
            }
        }
        Ok(Some(found))
    }

    /// Takes calls out of the queue, and what is gone out of them. Those that have to wait stay there.
    fn take(&self, calls: &mut Vec<Call>) {
        if !self.busy.is_empty() {
            calls.retain(|call| call.memories.iter().all(|(id, _)| !self.busy.contains(id)));
        }
        // Whoever deletes a memory takes it out of calls; what that holds comes next time.
        calls.retain(|call| write::delete(&self.tables.queue, call.row));
        if !self.gone.is_empty() {
            for call in calls {
                call.memories.retain(|(id, _)| !self.gone.contains(id));
            }
        }
    }

    /// Brings the states up to date.
    fn update_states(
        &mut self,
        calls: &[Call],
        writer: &mut Writer<'_, 11>,
        params: &Course<Params>,
    ) -> Result<()> {
        let uses = uses(calls);
        let columns = StoredColumns::of(&self.tables.states, &self.tables.memories)?;
        let ids: Vec<Uuid> = uses.chunk_by(|a, b| a.0 == b.0).map(|e| e[0].0).collect();
        self.rows.seek_any([self.workspace, Uuid::nil()], &ids);
        let mut at = columns.next(&mut self.rows);
        for of_one in uses.chunk_by(|a, b| a.0 == b.0) {
            pgrx::check_for_interrupts!();
            let id = of_one[0].0;
            if at != Some(id) {
                continue;
            }
            if let Ok(nth) = self.states.binary_search_by_key(&id, |(id, _)| *id) {
                let tuple = &self.states[nth].1;
                let memory = self.rows.row();
                let traits = traits(&memory, &columns.traits)?;
                let stored = columns.read(&tuple.row(), &memory)?;
                let after = self.after(&stored, &traits, params, of_one)?;
                write_state(writer, tuple, &after);
            }
            at = columns.next(&mut self.rows);
        }
        Ok(())
    }

    /// The state of a memory after uses that are not in the log yet.
    fn after(
        &self,
        stored: &Stored<'_>,
        traits: &Traits,
        params: &Course<Params>,
        uses: &[(Uuid, Uuid, Event)],
    ) -> Result<After> {
        let after = |uses, known| life::after(stored, traits, params, uses, known, None, false);
        let new: Vec<(Uuid, Event)> = uses.iter().map(|(_, call, e)| (*call, *e)).collect();
        let known = after(new.clone(), None)?;
        if !known.late {
            return Ok(known);
        }
        // What is a matter of order, from the whole history.
        let mut all = history(self.workspace, uses[0].0)?;
        let logged = all.len();
        all.extend(new);
        after(all, Some(logged))
    }
}

/// Uses in the order of the log's key, so that each page of its index is visited once.
fn write_log<'c>(
    workspace: Uuid,
    calls: impl Iterator<Item = &'c Call>,
    log: &mut Writer<'_, 11>,
    links: &Course<Linking>,
) {
    let calls: Vec<&Call> = calls.collect();
    let mut uses: Vec<(Uuid, i64, usize, i16)> = Vec::new();
    for (nth, call) in calls.iter().enumerate() {
        uses.extend(
            call.memories
                .iter()
                .map(|(id, place)| (*id, call.at, nth, *place)),
        );
    }
    uses.sort_unstable();
    let of = |id: Option<Uuid>| id.map_or(Value::Null, Value::Uuid);
    log.insert_all(uses.iter().map(|(memory, at, nth, place)| {
        let call = calls[*nth];
        let linked = usize::from(place.unsigned_abs()) <= links.at(call.at).members;
        [
            Value::Uuid(workspace),
            Value::Uuid(*memory),
            Value::Time(*at),
            Value::Uuid(call.id),
            of(call.user),
            Value::Text(&call.kind),
            Value::Float8(call.gain),
            call.rating.map_or(Value::Null, Value::Int2),
            of(call.recall),
            Value::Int2(*place),
            Value::Float8(if linked { call.pair_gain(links) } else { 0.0 }),
        ]
    }));
}

/// What calls tell of memories: (memory, call, use), by memory.
fn uses(calls: &[Call]) -> Vec<(Uuid, Uuid, Event)> {
    let mut uses: Vec<(Uuid, Uuid, Event)> = Vec::new();
    for call in calls {
        if let Some(event) = call.event() {
            uses.extend(call.memories.iter().map(|(id, _)| (*id, call.id, event)));
        }
    }
    uses.sort_by_key(|(memory, ..)| *memory);
    uses
}

/// Columns that the dynamics of a memory depend on.
struct StoredColumns {
    /// Of its state, in the order of the shape.
    state: [i16; 11],
    /// Of the memory.
    id: i16,
    created: i16,
    layer: i16,
    traits: Vec<i16>,
}

impl StoredColumns {
    fn of(states: &Table, memories: &Table) -> Result<Self> {
        Ok(Self {
            state: columns(states, &STATE)?,
            created: memories.column(c"created_at")?,
            layer: memories.column(c"layer")?,
            traits: TRAITS
                .iter()
                .map(|name| memories.column(name))
                .collect::<Result<_>>()?,
            id: memories.column(c"id")?,
        })
    }

    /// Goes to the next of the memories that are looked up.
    fn next(&self, memories: &mut Lookup<'_, 2>) -> Option<Uuid> {
        // SAFETY: the column is one; setup() made it.
        memories.next().and_then(|row| unsafe { row.uuid(self.id) })
    }

    /// What is stored of a memory.
    fn read<'r>(&self, state: &Row<'r>, memory: &Row<'r>) -> Result<Stored<'r>> {
        let [
            _,
            _,
            count,
            last,
            heat,
            working,
            core,
            layer,
            stability,
            difficulty,
            base,
        ] = self.state;
        // SAFETY: the shape says of which types the columns are, and the table's definition those of memories.
        unsafe {
            Ok(Stored {
                created_at: memory.get(self.created).unwrap_or(0),
                memory_layer: memory.text(self.layer),
                access_count: state.get(count),
                last_accessed_at: state.get(last),
                heat: state.bytes(heat),
                working: state.get(working),
                core: state.get(core),
                layer: state.text(layer),
                stability: state.get(stability),
                difficulty: state.get(difficulty),
                base: state
                    .get::<RawJsonb>(base)
                    .as_ref()
                    .map(life::stored_base)
                    .transpose()?,
            })
        }
    }
}

fn write_state(writer: &mut Writer<'_, 11>, row: &Tuple, after: &After) {
    let state = &after.state;
    let encoded = state.heat.encode();
    writer.update(
        row.tuple,
        &[
            (2, Value::Int8(state.uses)),
            (3, Value::Time(state.last_used)),
            (4, Value::Bytes(&encoded)),
            (5, Value::Float8(state.working)),
            (6, Value::Float8(state.core)),
            (7, Value::Text(state.layer.name())),
            (8, Value::Float8(state.stability)),
            (9, Value::Float8(state.difficulty)),
            (10, after.base.as_ref().map_or(Value::Null, Value::Json)),
        ],
    );
}
/// Columns of `memories` that the dynamics of a memory depend on.
pub(super) const TRAITS: [&CStr; 5] = [
    c"type",
    c"importance",
    c"pinned",
    c"superseded_by",
    c"contradicted_by",
];

/// Reads [`TRAITS`], from columns in their order.
pub(super) fn traits(row: &Row<'_>, columns: &[i16]) -> Result<Traits> {
    // SAFETY: setup() gave the columns these types.
    unsafe {
        life::traits(
            row.text(columns[0]),
            row.get(columns[1]),
            row.get(columns[2]),
            Some(row.datum(columns[3]).is_some() || !row.uuids(columns[4]).is_empty()),
        )
    }
}

/// What has been logged of a memory.
fn history(workspace: Uuid, id: Uuid) -> Result<Vec<(Uuid, Event)>> {
    let uses = spi::rows(
        "SELECT l.id, l.accessed_at, l.gain, l.rating FROM engram.access_log l \
         WHERE l.workspace_id = $1 AND l.memory_id = $2 AND (l.gain <> 0 OR l.rating IS NOT NULL)",
        &[
            DatumWithOid::from(spi::pg_uuid(workspace)),
            DatumWithOid::from(spi::pg_uuid(id)),
        ],
        |row| {
            let call = row.get::<pgrx::Uuid>(1)?.map(spi::uuid).unwrap_or_default();
            let event = Event {
                at: row.get::<TimestampWithTimeZone>(2)?.map_or(0, i64::from),
                gain: row.get::<f64>(3)?.unwrap_or(0.0),
                rating: row
                    .get::<i16>(4)?
                    .and_then(|r| Rating::from_number(r.into())),
            };
            Ok((call, event))
        },
    )?;
    Ok(uses)
}

/// Two memories that a call used. Their ids are numbers here, which are faster to sort.
struct Pair {
    /// The lower one.
    a: u128,
    b: u128,
    at: i64,
    /// Below 0 where the higher one was used first.
    gain: f64,
}

impl Pair {
    /// Those that calls link: by their ids, and of the same ids in the order in which they are added.
    fn of(calls: &[Call], linking: &Course<Linking>) -> Vec<Self> {
        let mut pairs = Vec::new();
        for call in calls {
            let gain = call.pair_gain(linking);
            if gain == 0.0 {
                continue;
            }
            let members = linking.at(call.at).members;
            let linked = call
                .memories
                .partition_point(|(_, place)| usize::from(place.unsigned_abs()) <= members);
            let members = &call.memories[..linked];
            for (nth, (first, _)) in members.iter().enumerate() {
                for (second, _) in &members[nth + 1..] {
                    let (first, second) = (first.as_u128(), second.as_u128());
                    let (a, b, gain) = if first < second {
                        (first, second, gain)
                    } else {
                        (second, first, -gain)
                    };
                    let at = call.at;
                    pairs.push(Self { a, b, at, gain });
                }
            }
        }
        pairs.sort_unstable_by(|x, y| {
            (x.a, x.b)
                .cmp(&(y.a, y.b))
                .then_with(|| links::order((x.at, x.gain), (y.at, y.gain)))
        });
        pairs
    }

    /// Adds pairs of the same ids to their link; whether a call came late.
    fn add(pairs: &[Self], link: &mut Option<Link>, linking: &Course<Linking>) -> bool {
        let mut late = false;
        for pair in pairs {
            let rules = linking.at(pair.at);
            let half_life = rules.half_life_days * DAY;
            late |= links::add(link, pair.at, pair.gain, half_life, rules.prune);
        }
        late
    }
}

/// Links that are there, one after the other in the order of their key.
struct StoredLinks<'t> {
    rows: Lookup<'t, 3>,
    columns: [i16; 7],
    /// The higher end of the one that is read.
    end: Option<Uuid>,
}

impl<'t> StoredLinks<'t> {
    fn of(links: &'t Table) -> Result<Self> {
        Ok(Self {
            columns: columns(links, &LINKS)?,
            rows: Lookup::new(links)?,
            end: None,
        })
    }

    /// Goes to the first of those between a memory and any of higher ones.
    fn seek(&mut self, workspace: Uuid, a: Uuid, ends: &[Uuid]) {
        self.rows.seek_any([workspace, a, Uuid::nil()], ends);
        self.advance();
    }

    /// Goes to the next one.
    fn advance(&mut self) {
        let [_, _, end, ..] = self.columns;
        // SAFETY: the shape says of which type the column is.
        self.end = self.rows.next().and_then(|row| unsafe { row.uuid(end) });
    }

    fn link(&self) -> Option<Link> {
        let [_, _, _, forward, backward, at, count] = self.columns;
        let row = self.rows.row();
        // SAFETY: the shape says of which types the columns are.
        unsafe {
            Some(Link {
                forward: row.get(forward)?,
                backward: row.get(backward)?,
                at: row.get(at)?,
                count: row.get(count)?,
            })
        }
    }
}

/// Brings the links up to date; the ends of those of which a call came late.
fn update_links(
    workspace: Uuid,
    calls: &[Call],
    links: &Table,
    writer: &mut Writer<'_, 7>,
    linking: &Course<Linking>,
) -> Result<Vec<Uuid>> {
    let pairs = Pair::of(calls, linking);
    let mut stored = StoredLinks::of(links)?;
    let mut late_links = Vec::new();
    let mut new: Vec<(Uuid, Uuid, Link)> = Vec::new();
    let mut ends: Vec<Uuid> = Vec::new();
    for of_first in pairs.chunk_by(|x, y| x.a == y.a) {
        pgrx::check_for_interrupts!();
        let a = Uuid::from_u128(of_first[0].a);
        let of_each = || of_first.chunk_by(|x, y| x.b == y.b);
        ends.clear();
        ends.extend(of_each().map(|of_one| Uuid::from_u128(of_one[0].b)));
        stored.seek(workspace, a, &ends);
        for (of_one, b) in of_each().zip(&ends) {
            let there = stored.end == Some(*b);
            let mut link = if there { stored.link() } else { None };
            if Pair::add(of_one, &mut link, linking) {
                late_links.extend([a, *b]);
            }
            // It has had a call.
            if let Some(link) = link {
                if there {
                    writer.update(
                        stored.rows.tuple(),
                        &[
                            (3, Value::Float8(link.forward)),
                            (4, Value::Float8(link.backward)),
                            (5, Value::Time(link.at)),
                            (6, Value::Int4(link.count)),
                        ],
                    );
                } else {
                    new.push((a, *b, link));
                }
            }
            if there {
                stored.advance();
            }
        }
    }
    drop(stored);
    writer.insert_all(new.iter().map(|(a, b, link)| {
        [
            Value::Uuid(workspace),
            Value::Uuid(*a),
            Value::Uuid(*b),
            Value::Float8(link.forward),
            Value::Float8(link.backward),
            Value::Time(link.at),
            Value::Int4(link.count),
        ]
    }));
    Ok(late_links)
}
