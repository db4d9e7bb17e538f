//! A table that users may have changed, written to directly while they have not.
//!
//! `memories` and `embeddings` are everybody's: users attach triggers, policies, constraints, defaults and
//! indexes to them. What an INSERT would do then is not ours to guess. So a table is looked at once, and
//! again whenever it changes, and only one that is as setup() made it, but for more indexes on plain
//! columns, is written to from here.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CStr;
use std::rc::Rc;

use pgrx::{PgTupleDesc, pg_guard, pg_sys};

use crate::rows;
use crate::scan::Table;
use crate::write::{checks_are, named, triggers};

/// The type of a column.
pub enum Type {
    Of(pg_sys::Oid),
    /// pgvector's, wherever that is installed.
    Vector,
}

/// What a table must be like.
pub struct Shape {
    /// All its columns; rows give their values in this order.
    pub columns: &'static [(&'static CStr, Type)],
    /// Those that a row may leave NULL.
    pub nullable: &'static [&'static CStr],
    /// Its CHECK constraints, which the caller vouches for.
    pub checks: &'static [&'static CStr],
    /// The triggers that an INSERT sets off, whose work the caller does. Their functions have their names.
    pub triggers: &'static [&'static CStr],
    /// Its foreign keys, which the caller vouches for.
    pub keys: &'static [&'static CStr],
    /// The column whose default is `now()`, which the caller gives it; no other has a default.
    pub dated: Option<&'static CStr>,
    /// A boolean column that is false in every row that is written: no index of rows where it is true
    /// gets them.
    pub never: Option<&'static CStr>,
    /// The policy for INSERT, whose condition the caller vouches for.
    pub policy: (&'static CStr, &'static str),
}

/// Which rows an index has.
#[derive(Clone, Copy)]
enum Rows {
    All,
    /// Those that have a value here.
    With(usize),
    None,
}

struct Index {
    id: pg_sys::Oid,
    /// The places of its columns in a row of the table.
    columns: Vec<usize>,
    unique: bool,
    rows: Rows,
}

/// How a table's rows are made.
pub struct Layout {
    /// Where in the row each column of the shape is.
    places: Vec<usize>,
    width: usize,
    indexes: Vec<Index>,
    /// No policy for INSERT but ours.
    pub only_ours: bool,
}

thread_local! {
    static KNOWN: RefCell<HashMap<pg_sys::Oid, Option<Rc<Layout>>>> = RefCell::default();
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}

#[pg_guard]
extern "C-unwind" fn forget(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    KNOWN.with_borrow_mut(|known| {
        if relation == pg_sys::InvalidOid {
            known.clear();
        } else {
            known.remove(&relation);
        }
    });
}

/// The layout of a table, `None` where something could be missed by writing to it from here.
pub fn layout(table: &Table, shape: &Shape) -> Option<Rc<Layout>> {
    // SAFETY: the relation is open.
    let id = unsafe { (*table.relation()).rd_id };
    if let Some(known) = KNOWN.with_borrow(|known| known.get(&id).cloned()) {
        return known;
    }
    if !WATCHED.replace(true) {
        // SAFETY: the function lives as long as the library, which is never unloaded.
        unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(forget), pg_sys::Datum::null()) };
    }
    // Set first: what changes while it is looked at takes it away again.
    KNOWN.with_borrow_mut(|known| known.insert(id, None));
    // SAFETY: the relation is open and locked for writing, so that it stays as it is.
    let found = unsafe { read(table.relation(), shape) }.map(Rc::new);
    KNOWN.with_borrow_mut(|known| {
        if let Some(place) = known.get_mut(&id) {
            *place = found.clone();
        }
    });
    found
}

fn is_vector(of: pg_sys::Oid) -> bool {
    // SAFETY: a look-up that gives a fresh C string.
    let name = unsafe { CStr::from_ptr(pg_sys::format_type_be(of)) };
    let name = name.to_string_lossy();
    name.rsplit('.').next() == Some("vector")
}

unsafe fn read(relation: pg_sys::Relation, shape: &Shape) -> Option<Layout> {
    // SAFETY: the caller's promise: everything read hangs on the cache entry of an open relation.
    unsafe {
        let class = &*(*relation).rd_rel;
        if class.relam != pg_sys::HEAP_TABLE_AM_OID
            || !(*relation).rd_rules.is_null()
            || class.relispartition
        {
            return None;
        }
        let attributes = PgTupleDesc::from_pg_unchecked((*relation).rd_att);
        let mut places = vec![usize::MAX; shape.columns.len()];
        for (place, attribute) in attributes.iter().enumerate() {
            if attribute.attisdropped {
                continue;
            }
            let name = CStr::from_ptr(attribute.attname.data.as_ptr());
            let nth = shape.columns.iter().position(|(known, _)| *known == name)?;
            let fits = match shape.columns[nth].1 {
                Type::Of(of) => of == attribute.atttypid,
                Type::Vector => is_vector(attribute.atttypid),
            };
            // No length or number of dimensions, and nothing required but what every row has.
            let open = attribute.atttypmod == -1
                && !(attribute.attnotnull && shape.nullable.contains(&name));
            if !fits || !open || attribute.attgenerated != 0 || attribute.attidentity != 0 {
                return None;
            }
            places[nth] = place;
        }
        if places.contains(&usize::MAX) {
            return None;
        }
        if !checks_are(relation, shape.checks) {
            return None;
        }
        let place = |name: Option<&CStr>| {
            let nth = shape
                .columns
                .iter()
                .position(|(known, _)| Some(*known) == name)?;
            Some(places[nth])
        };
        let constraints = (*(*relation).rd_att).constr;
        if !constraints.is_null() {
            for nth in 0..usize::from((*constraints).num_defval) {
                let default = &*(*constraints).defval.add(nth);
                let column = usize::try_from(default.adnum).ok()?.checked_sub(1);
                let now = format!(":funcid {} ", pg_sys::F_NOW);
                let value = CStr::from_ptr(default.adbin).to_string_lossy();
                if column != place(shape.dated) || !value.starts_with(&format!("{{FUNCEXPR {now}"))
                {
                    return None;
                }
            }
        }
        if !triggers_are(relation, shape) {
            return None;
        }
        let never = place(shape.never);
        Some(Layout {
            indexes: indexes(relation, never)?,
            only_ours: rows::only_policy(
                relation,
                pg_sys::ACL_INSERT_CHR,
                shape.policy.0,
                shape.policy.1,
            ),
            width: attributes.len(),
            places,
        })
    }
}

/// Whether an INSERT sets off the shape's triggers and checks its foreign keys, all of them and nothing else.
unsafe fn triggers_are(relation: pg_sys::Relation, shape: &Shape) -> bool {
    // SAFETY: as `read`.
    unsafe {
        let (mut known, mut keys) = (0, 0);
        for trigger in triggers(relation) {
            if u32::from(trigger.tgtype.unsigned_abs()) & pg_sys::TRIGGER_TYPE_INSERT == 0 {
                continue;
            }
            if u8::try_from(trigger.tgenabled) != Ok(b'O')
                || !trigger.tgqual.is_null()
                || trigger.tgnargs > 0
            {
                return false;
            }
            if trigger.tgisinternal {
                let name = pg_sys::get_constraint_name(trigger.tgconstraint);
                if !named(name, shape.keys) {
                    return false;
                }
                keys += 1;
            } else {
                let function = pg_sys::get_func_name(trigger.tgfoid);
                if !named(trigger.tgname, shape.triggers)
                    || function.is_null()
                    || CStr::from_ptr(function) != CStr::from_ptr(trigger.tgname)
                    || pg_sys::get_func_namespace(trigger.tgfoid)
                        != (*(*relation).rd_rel).relnamespace
                {
                    return false;
                }
                known += 1;
            }
        }
        known == shape.triggers.len() && keys == shape.keys.len()
    }
}

/// The indexes, `None` when one is of another kind than those that setup() makes.
unsafe fn indexes(relation: pg_sys::Relation, never: Option<usize>) -> Option<Vec<Index>> {
    // SAFETY: as `read`; each index is open while it is looked at.
    unsafe {
        let list = pg_sys::RelationGetIndexList(relation);
        let count = if list.is_null() { 0 } else { (*list).length };
        let mut found = Vec::new();
        for nth in 0..usize::try_from(count).unwrap_or(0) {
            let id = (*(*list).elements.add(nth)).oid_value;
            let index = pg_sys::index_open(id, pg_sys::AccessShareLock as i32);
            let one = read_index(index, never);
            pg_sys::index_close(index, pg_sys::NoLock as i32);
            found.push(Index { id, ..one? });
        }
        Some(found)
    }
}

unsafe fn read_index(index: pg_sys::Relation, never: Option<usize>) -> Option<Index> {
    // SAFETY: the index is open.
    unsafe {
        let class = &*(*index).rd_rel;
        let state = &*(*index).rd_index;
        if ![pg_sys::BTREE_AM_OID, pg_sys::GIN_AM_OID].contains(&class.relam)
            || !state.indimmediate
            || state.indisexclusion
            || !state.indislive
            || !state.indisready
        {
            return None;
        }
        let keys = state
            .indkey
            .values
            .as_slice(usize::try_from(state.indnatts).ok()?);
        let mut columns = Vec::with_capacity(keys.len());
        for key in keys {
            // 0 is an expression.
            columns.push(usize::try_from(*key).ok()?.checked_sub(1)?);
        }
        Some(Index {
            id: pg_sys::InvalidOid,
            columns,
            unique: state.indisunique,
            rows: condition(pg_sys::RelationGetIndexPredicate(index), never)?,
        })
    }
}

/// Which rows satisfy the condition of an index: a list whose parts must all hold.
unsafe fn condition(parts: *mut pg_sys::List, never: Option<usize>) -> Option<Rows> {
    if parts.is_null() {
        return Some(Rows::All);
    }
    // SAFETY: a list of nodes, each of which says of which kind it is.
    unsafe {
        let parts = std::slice::from_raw_parts(
            (*parts).elements,
            usize::try_from((*parts).length).unwrap_or(0),
        );
        let column = |node: *mut pg_sys::Node| {
            let var = node.cast::<pg_sys::Var>();
            ((*node).type_ == pg_sys::NodeTag::T_Var)
                .then(|| usize::try_from((*var).varattno).ok()?.checked_sub(1))
                .flatten()
        };
        let nodes = || {
            parts
                .iter()
                .map(|part| part.ptr_value.cast::<pg_sys::Node>())
        };
        if never.is_some() && nodes().any(|node| column(node) == never) {
            return Some(Rows::None);
        }
        let [only] = parts else { return None };
        let node = only.ptr_value.cast::<pg_sys::Node>();
        if (*node).type_ != pg_sys::NodeTag::T_NullTest {
            return None;
        }
        let test = &*node.cast::<pg_sys::NullTest>();
        (test.nulltesttype == pg_sys::NullTestType::IS_NOT_NULL && !test.argisrow)
            .then(|| column(test.arg.cast()))
            .flatten()
            .map(Rows::With)
    }
}

/// Rows that are added to the pages of a table with one entry in the log each.
const BATCH: usize = 64;

impl Layout {
    /// Adds rows; each has so many values as the shape has columns, of their types, and none that a check
    /// refuses.
    pub fn insert(&self, table: &Table, rows: &[Vec<Option<pg_sys::Datum>>]) {
        let relation = table.relation();
        let mut values: Vec<(Vec<pg_sys::Datum>, Vec<bool>)> = Vec::with_capacity(rows.len());
        for row in rows {
            let mut datums = vec![pg_sys::Datum::null(); self.width];
            let mut nulls = vec![true; self.width];
            for (value, place) in row.iter().zip(&self.places) {
                if let Some(datum) = value {
                    (datums[*place], nulls[*place]) = (*datum, false);
                }
            }
            values.push((datums, nulls));
        }
        let mut at = Vec::with_capacity(rows.len());
        // SAFETY: as many values as the table has columns, of their types; slots of this table's rows, each of
        // which owns the tuple that is stored in it.
        unsafe {
            let command = pg_sys::GetCurrentCommandId(true);
            let mut slots: Vec<*mut pg_sys::TupleTableSlot> = Vec::new();
            for part in values.chunks_mut(BATCH) {
                pgrx::check_for_interrupts!();
                for (nth, (datums, nulls)) in part.iter_mut().enumerate() {
                    let tuple = pg_sys::heap_form_tuple(
                        (*relation).rd_att,
                        datums.as_mut_ptr(),
                        nulls.as_mut_ptr(),
                    );
                    if slots.len() == nth {
                        slots.push(pg_sys::MakeSingleTupleTableSlot(
                            (*relation).rd_att,
                            &raw const pg_sys::TTSOpsHeapTuple,
                        ));
                    }
                    pg_sys::ExecStoreHeapTuple(tuple, slots[nth], true);
                }
                pg_sys::heap_multi_insert(
                    relation,
                    slots.as_mut_ptr(),
                    i32::try_from(part.len()).unwrap_or(0),
                    command,
                    0,
                    std::ptr::null_mut(),
                );
                at.extend(slots[..part.len()].iter().map(|slot| (**slot).tts_tid));
            }
            for slot in slots {
                pg_sys::ExecDropSingleTupleTableSlot(slot);
            }
        }
        for index in &self.indexes {
            pgrx::check_for_interrupts!();
            self.index(relation, index, &values, &mut at);
        }
    }

    fn index(
        &self,
        relation: pg_sys::Relation,
        index: &Index,
        values: &[(Vec<pg_sys::Datum>, Vec<bool>)],
        at: &mut [pg_sys::ItemPointerData],
    ) {
        let has = |nulls: &[bool]| match index.rows {
            Rows::All => true,
            Rows::With(place) => !nulls[place],
            Rows::None => false,
        };
        if !values.iter().any(|(_, nulls)| has(nulls)) {
            return;
        }
        // SAFETY: the index is one of this table's, which is locked; it has no expression, and the rows
        // satisfy its condition.
        unsafe {
            let opened = pg_sys::index_open(index.id, pg_sys::RowExclusiveLock as i32);
            let info = pg_sys::BuildDummyIndexInfo(opened);
            let unique = if index.unique {
                pg_sys::IndexUniqueCheck::UNIQUE_CHECK_YES
            } else {
                pg_sys::IndexUniqueCheck::UNIQUE_CHECK_NO
            };
            for ((datums, nulls), at) in values.iter().zip(at) {
                if !has(nulls) {
                    continue;
                }
                let mut keys: Vec<pg_sys::Datum> =
                    index.columns.iter().map(|place| datums[*place]).collect();
                let mut missing: Vec<bool> =
                    index.columns.iter().map(|place| nulls[*place]).collect();
                pg_sys::index_insert(
                    opened,
                    keys.as_mut_ptr(),
                    missing.as_mut_ptr(),
                    &raw mut *at,
                    relation,
                    unique,
                    false,
                    info,
                );
            }
            pg_sys::pfree(info.cast());
            pg_sys::index_close(opened, pg_sys::NoLock as i32);
        }
    }
}
