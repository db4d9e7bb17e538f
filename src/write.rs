//! Writing rows straight to their table: no plan, no executor, no trigger.
//!
//! Where a call writes one row, or a fold thousands, getting statements ready and running triggers costs more
//! than the rows. This takes the short way that PostgreSQL takes for its own catalogs, and only where
//! nothing can be missed by it: plain columns, plain indexes, no trigger, no foreign key and no further
//! constraint but those that the caller knows. Defaults and checks are not looked at: the caller gives every
//! value, and none that a check refuses. Privileges are not asked either.

use std::ffi::{CStr, c_char};

use pgrx::{IntoDatum, PgTupleDesc, pg_sys};
use uuid::Uuid;

use crate::blocks::segment::Place;
use crate::scan::{Table, place_of};

/// One value of a row.
pub enum Value<'a> {
    Null,
    Uuid(Uuid),
    Uuids(&'a [Uuid]),
    Text(&'a str),
    Bytes(&'a [u8]),
    Float8(f64),
    Int2(i16),
    Int4(i32),
    Int8(i64),
    /// Microseconds since the epoch of PostgreSQL.
    Time(i64),
    Json(&'a serde_json::Value),
}

/// What a table must look like.
pub struct Shape<const N: usize> {
    /// All its columns, in any order.
    pub columns: [(&'static CStr, pg_sys::Oid); N],
    /// Those that a row may leave NULL.
    pub nullable: &'static [&'static CStr],
    /// CHECK constraints that the caller vouches for.
    pub checks: &'static [&'static CStr],
    /// Foreign keys that the caller vouches for.
    pub keys: &'static [&'static CStr],
    /// Triggers that there may be.
    pub triggers: &'static [&'static CStr],
}

impl Value<'_> {
    fn datum(&self) -> Option<pg_sys::Datum> {
        match self {
            Self::Null => None,
            // By reference; whoever forms the row copies it.
            Self::Uuid(id) => Some(pg_sys::Datum::from(id.as_bytes().as_ptr())),
            Self::Uuids(ids) => Some(uuid_array(ids)),
            Self::Text(text) => text.into_datum(),
            Self::Bytes(bytes) => bytes.into_datum(),
            Self::Float8(number) => number.into_datum(),
            Self::Int2(number) => number.into_datum(),
            Self::Int4(number) => number.into_datum(),
            Self::Int8(number) | Self::Time(number) => number.into_datum(),
            Self::Json(value) => pgrx::JsonB((*value).clone()).into_datum(),
        }
    }
}

/// A `uuid[]` in the current memory context.
pub fn uuid_array(ids: &[Uuid]) -> pg_sys::Datum {
    let mut ids: Vec<pg_sys::Datum> = ids
        .iter()
        .map(|id| pg_sys::Datum::from(id.as_bytes().as_ptr()))
        .collect();
    // SAFETY: so many pointers to 16 bytes each, which live until the array is made of copies.
    unsafe {
        pg_sys::construct_array(
            ids.as_mut_ptr(),
            i32::try_from(ids.len()).unwrap_or(i32::MAX),
            pg_sys::UUIDOID,
            size_of::<Uuid>() as i32,
            false,
            pg_sys::TYPALIGN_CHAR as core::ffi::c_char,
        )
        .into()
    }
}

/// Whether it is one of these; nothing is none of them.
///
/// # Safety
///
/// A C string, or nothing.
pub unsafe fn named(name: *const c_char, names: &[&CStr]) -> bool {
    // SAFETY: the caller's promise.
    !name.is_null() && names.contains(&unsafe { CStr::from_ptr(name) })
}

/// Whether all CHECK constraints of an open relation are among these.
///
/// # Safety
///
/// The relation is open.
pub unsafe fn checks_are(relation: pg_sys::Relation, names: &[&CStr]) -> bool {
    // SAFETY: the caller's promise: everything read hangs on the cache entry of the relation.
    unsafe {
        let constraints = (*(*relation).rd_att).constr;
        constraints.is_null()
            || (0..usize::from((*constraints).num_check))
                .all(|nth| named((*(*constraints).check.add(nth)).ccname, names))
    }
}

/// The triggers of an open relation.
///
/// # Safety
///
/// The relation is open, and stays so.
pub unsafe fn triggers<'r>(relation: pg_sys::Relation) -> &'r [pg_sys::Trigger] {
    // SAFETY: the caller's promise: what is read hangs on the cache entry of the relation.
    unsafe {
        let description = (*relation).trigdesc;
        if description.is_null() {
            return &[];
        }
        let count = usize::try_from((*description).numtriggers).unwrap_or(0);
        std::slice::from_raw_parts((*description).triggers, count)
    }
}

/// Bytes of a row that is never moved out of line, in part or whole, below TOAST_TUPLE_THRESHOLD.
const INLINE: u32 = 1000;

/// Rows that are added to one page with one entry in the log.
const BATCH: usize = 64;

/// A table that is written to. Its indexes are closed when it is dropped.
pub struct Writer<'t, const N: usize> {
    table: &'t Table,
    indexes: pg_sys::CatalogIndexState,
    /// Where in the row each column of the shape is.
    places: [usize; N],
    width: usize,
}

impl<'t, const N: usize> Writer<'t, N> {
    /// `None` where something could be missed. The table is locked for writing.
    pub fn open(table: &'t Table, shape: &Shape<N>) -> Option<Self> {
        let relation = table.relation();
        // SAFETY: the relation is open and locked, and everything read hangs on its cache entry.
        unsafe {
            let class = &*(*relation).rd_rel;
            if class.relam != pg_sys::HEAP_TABLE_AM_OID || class.relhasrules {
                return None;
            }
            let attributes = PgTupleDesc::from_pg_unchecked((*relation).rd_att);
            let mut places = [usize::MAX; N];
            for (place, attribute) in attributes.iter().enumerate() {
                if attribute.attisdropped {
                    continue;
                }
                let name = CStr::from_ptr(attribute.attname.data.as_ptr());
                // No length or precision, and nothing required but what every row has.
                let open = attribute.atttypmod == -1
                    && attribute.attgenerated == 0
                    && !(attribute.attnotnull && shape.nullable.contains(&name));
                let nth = shape
                    .columns
                    .iter()
                    .position(|(known, of)| *known == name && *of == attribute.atttypid && open)?;
                places[nth] = place;
            }
            if places.contains(&usize::MAX) {
                return None;
            }
            // Those of the server serve foreign keys, from here or to here, and unique ones that are deferred.
            let known = |trigger: &pg_sys::Trigger| {
                if trigger.tgisinternal {
                    named(
                        pg_sys::get_constraint_name(trigger.tgconstraint),
                        shape.keys,
                    )
                } else {
                    named(trigger.tgname, shape.triggers)
                }
            };
            if !checks_are(relation, shape.checks) || !triggers(relation).iter().all(known) {
                return None;
            }
            let writer = Self {
                table,
                indexes: pg_sys::CatalogOpenIndexes(relation),
                places,
                width: attributes.len(),
            };
            writer.plain().then_some(writer)
        }
    }

    /// Whether all indexes are of columns and of every row.
    fn plain(&self) -> bool {
        // SAFETY: opened by `open`; so many pointers to what describes an index each.
        unsafe {
            let state = &*self.indexes;
            (0..usize::try_from(state.ri_NumIndices).unwrap_or(0)).all(|nth| {
                let index = &**state.ri_IndexRelationInfo.add(nth);
                index.ii_Expressions.is_null()
                    && index.ii_Predicate.is_null()
                    && index.ii_ExclusionOps.is_null()
            })
        }
    }

    fn form(&self, values: &[Value<'_>; N]) -> pg_sys::HeapTuple {
        let mut datums = vec![pg_sys::Datum::null(); self.width];
        let mut nulls = vec![true; self.width];
        for (value, place) in values.iter().zip(self.places) {
            if let Some(datum) = value.datum() {
                (datums[place], nulls[place]) = (datum, false);
            }
        }
        // SAFETY: as many values as the table has columns, of their types.
        unsafe {
            pg_sys::heap_form_tuple(
                (*self.table.relation()).rd_att,
                datums.as_mut_ptr(),
                nulls.as_mut_ptr(),
            )
        }
    }

    /// Adds a row, and tells where it is. Values are of the columns' types.
    pub fn insert(&mut self, values: &[Value<'_>; N]) -> Place {
        // SAFETY: a tuple of this table, which is copied into the page; its copy learns where.
        unsafe {
            let tuple = self.form(values);
            pg_sys::CatalogTupleInsertWithInfo(self.table.relation(), tuple, self.indexes);
            let place = place_of((*tuple).t_self);
            pg_sys::heap_freetuple(tuple);
            place
        }
    }

    /// Adds many rows, best in the order of a key.
    pub fn insert_all<'v>(&mut self, rows: impl IntoIterator<Item = [Value<'v>; N]>) {
        let relation = self.table.relation();
        let mut slots: Vec<*mut pg_sys::TupleTableSlot> = Vec::with_capacity(BATCH);
        let mut used = 0;
        // SAFETY: slots of this table's rows; each owns the tuple that is stored in it.
        unsafe {
            for values in rows {
                let tuple = self.form(&values);
                // What moves out of line is a copy, whose place the slot's tuple never learns: its index
                // entries would lead nowhere.
                if (*tuple).t_len > INLINE {
                    pgrx::check_for_interrupts!();
                    pg_sys::CatalogTupleInsertWithInfo(relation, tuple, self.indexes);
                    pg_sys::heap_freetuple(tuple);
                    continue;
                }
                if used == slots.len() {
                    slots.push(pg_sys::MakeSingleTupleTableSlot(
                        (*relation).rd_att,
                        &raw const pg_sys::TTSOpsHeapTuple,
                    ));
                }
                pg_sys::ExecStoreHeapTuple(tuple, slots[used], true);
                used += 1;
                if used == BATCH {
                    pgrx::check_for_interrupts!();
                    self.flush(&mut slots[..used]);
                    used = 0;
                }
            }
            self.flush(&mut slots[..used]);
            for slot in slots {
                pg_sys::ExecDropSingleTupleTableSlot(slot);
            }
        }
    }

    fn flush(&mut self, slots: &mut [*mut pg_sys::TupleTableSlot]) {
        if slots.is_empty() {
            return;
        }
        // SAFETY: filled slots of this table's rows.
        unsafe {
            pg_sys::CatalogTuplesMultiInsertWithInfo(
                self.table.relation(),
                slots.as_mut_ptr(),
                slots.len() as i32,
                self.indexes,
            );
        }
    }

    /// Gives some columns, by their place in the shape, new values in a row that nobody else can
    /// have changed meanwhile; else it raises an error.
    pub fn update(&mut self, row: pg_sys::HeapTuple, changes: &[(usize, Value<'_>)]) {
        let mut datums = vec![pg_sys::Datum::null(); self.width];
        let mut nulls = vec![true; self.width];
        let mut replace = vec![false; self.width];
        for (nth, value) in changes {
            let place = self.places[*nth];
            replace[place] = true;
            if let Some(datum) = value.datum() {
                (datums[place], nulls[place]) = (datum, false);
            }
        }
        // SAFETY: a copy of a row of this table, and arrays of as many values as it has columns.
        unsafe {
            let tuple = pg_sys::heap_modify_tuple(
                row,
                (*self.table.relation()).rd_att,
                datums.as_mut_ptr(),
                nulls.as_mut_ptr(),
                replace.as_mut_ptr(),
            );
            pg_sys::CatalogTupleUpdateWithInfo(
                self.table.relation(),
                &raw mut (*tuple).t_self,
                tuple,
                self.indexes,
            );
            pg_sys::heap_freetuple(tuple);
        }
    }
}

impl<const N: usize> Drop for Writer<'_, N> {
    fn drop(&mut self) {
        // SAFETY: opened by `open`. After an error the abort closes them.
        unsafe {
            if !std::thread::panicking() {
                pg_sys::CatalogCloseIndexes(self.indexes);
            }
        }
    }
}

/// Lets later statements, and scans under a fresh snapshot, see what was written.
pub fn done() {
    // SAFETY: inside a transaction, not in a parallel worker, which could not have written.
    unsafe { pg_sys::CommandCounterIncrement() }
}

/// Locks a row against changes, as FOR NO KEY UPDATE SKIP LOCKED does, and copies it. `None` when
/// somebody else holds it or has changed it since it was read.
pub fn lock(table: &Table, at: pg_sys::ItemPointerData) -> Option<pg_sys::HeapTuple> {
    let relation = table.relation();
    // SAFETY: the relation is open; PostgreSQL fills the tuple from its page and pins that, until it
    // is copied.
    unsafe {
        let mut tuple = pg_sys::HeapTupleData {
            t_self: at,
            t_tableOid: (*relation).rd_id,
            ..Default::default()
        };
        let mut buffer = 0;
        let mut failure = pg_sys::TM_FailureData::default();
        let result = pg_sys::heap_lock_tuple(
            relation,
            &raw mut tuple,
            pg_sys::GetCurrentCommandId(true),
            pg_sys::LockTupleMode::LockTupleNoKeyExclusive,
            pg_sys::LockWaitPolicy::LockWaitSkip,
            false,
            &raw mut buffer,
            &raw mut failure,
        );
        let locked = result == pg_sys::TM_Result::TM_Ok;
        let copy = locked.then(|| pg_sys::heap_copytuple(&raw mut tuple));
        if buffer != 0 {
            pg_sys::ReleaseBuffer(buffer);
        }
        copy
    }
}

/// Has a row stay, with its key, until the transaction ends, as FOR KEY SHARE does. Waits for who changes it; false
/// when it is then no longer there, or another version of it.
pub fn hold(table: &Table, at: pg_sys::ItemPointerData) -> bool {
    let relation = table.relation();
    // SAFETY: the relation is open and locked for this; PostgreSQL fills the tuple from its page and pins that.
    unsafe {
        let mut tuple = pg_sys::HeapTupleData {
            t_self: at,
            t_tableOid: (*relation).rd_id,
            ..Default::default()
        };
        let mut buffer = 0;
        let mut failure = pg_sys::TM_FailureData::default();
        let result = pg_sys::heap_lock_tuple(
            relation,
            &raw mut tuple,
            pg_sys::GetCurrentCommandId(true),
            pg_sys::LockTupleMode::LockTupleKeyShare,
            pg_sys::LockWaitPolicy::LockWaitBlock,
            true,
            &raw mut buffer,
            &raw mut failure,
        );
        if buffer != 0 {
            pg_sys::ReleaseBuffer(buffer);
        }
        result == pg_sys::TM_Result::TM_Ok
    }
}

/// Deletes a row, unless somebody else holds it or has changed it since it was read: then false.
pub fn delete(table: &Table, mut at: pg_sys::ItemPointerData) -> bool {
    // SAFETY: the relation is open and the tuple was read from it.
    unsafe {
        let mut failure = pg_sys::TM_FailureData::default();
        pg_sys::heap_delete(
            table.relation(),
            &raw mut at,
            pg_sys::GetCurrentCommandId(true),
            std::ptr::null_mut(),
            false,
            &raw mut failure,
            false,
        ) == pg_sys::TM_Result::TM_Ok
    }
}
