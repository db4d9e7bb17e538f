//! Reading blocks and vectors straight from their tables.
//!
//! A scan through the executor copies every tuple at least once. Here the tuple is read in the page
//! that holds it, through the primary key, under the snapshot of the running statement. Nothing is
//! planned, so no statistics can lead astray. No permission is asked either: the caller must have
//! been allowed the workspace.

use std::ffi::CStr;
use std::num::NonZeroUsize;

use pgrx::htup::heap_getattr_raw;
use pgrx::{FromDatum, IntoDatum, PgTupleDesc, pg_sys};
use uuid::Uuid;

use crate::blocks::segment::Place;
use crate::error::{Error, Result};
use crate::spi;

/// An open table of the store, read by its primary key. Closed when dropped; the lock stays until
/// the transaction ends, as after a query.
pub struct Table {
    relation: pg_sys::Relation,
    key: pg_sys::Oid,
}

impl Table {
    /// Opens `engram.<name>`.
    pub fn open(name: &CStr) -> Result<Self> {
        Self::open_with(name, pg_sys::AccessShareLock)
    }

    /// Opens `engram.<name>` for adding rows.
    pub fn open_for_insert(name: &CStr) -> Result<Self> {
        Self::open_with(name, pg_sys::RowExclusiveLock)
    }

    /// Opens `engram.<name>` for locking rows.
    pub fn open_to_lock(name: &CStr) -> Result<Self> {
        Self::open_with(name, pg_sys::RowShareLock)
    }

    /// Opens a table by its Oid, locked for writing.
    pub fn open_part(oid: pg_sys::Oid) -> Result<Self> {
        Self::open_oid(oid, pg_sys::RowExclusiveLock)
    }

    fn open_with(name: &CStr, lock: u32) -> Result<Self> {
        // SAFETY: catalog look-ups by C strings.
        let oid = unsafe {
            let schema = pg_sys::get_namespace_oid(c"engram".as_ptr(), true);
            let oid = pg_sys::get_relname_relid(name.as_ptr(), schema);
            let kind = u8::try_from(pg_sys::get_rel_relkind(oid));
            (kind == Ok(pg_sys::RELKIND_RELATION)).then_some(oid)
        };
        let oid = oid.ok_or_else(|| Error::NotReady {
            message: format!("table engram.{} is missing", name.to_string_lossy()),
            hint: "The tables are of an older version, or were dropped. Run: ALTER EXTENSION engram UPDATE; SELECT engram.setup(); SELECT engram.reindex();".to_owned(),
        })?;
        Self::open_oid(oid, lock)
    }

    fn open_oid(oid: pg_sys::Oid, lock: u32) -> Result<Self> {
        // SAFETY: an Oid that was dropped meanwhile raises an error; the rest hangs on the open relation.
        unsafe {
            let relation = pg_sys::table_open(oid, lock as i32);
            let mut table = Self {
                relation,
                key: pg_sys::InvalidOid,
            };
            #[cfg(feature = "pg18")]
            let key = pg_sys::RelationGetPrimaryKeyIndex(relation, false);
            #[cfg(not(feature = "pg18"))]
            let key = pg_sys::RelationGetPrimaryKeyIndex(relation);
            table.key = key;
            if key == pg_sys::InvalidOid {
                let name = std::ffi::CStr::from_ptr((*(*relation).rd_rel).relname.data.as_ptr());
                return Err(Error::NotReady {
                    message: format!("table engram.{} has no primary key", name.to_string_lossy()),
                    hint: "Somebody dropped it. Drop the table, then run: SELECT engram.setup(); SELECT engram.reindex();".to_owned(),
                });
            }
            Ok(table)
        }
    }

    /// The open relation, good as long as the table.
    pub fn relation(&self) -> pg_sys::Relation {
        self.relation
    }

    fn granted(&self, right: u32) -> bool {
        // SAFETY: the relation is open, and the rest are look-ups by its id.
        unsafe {
            pg_sys::pg_class_aclcheck((*self.relation).rd_id, pg_sys::GetUserId(), right.into())
                == pg_sys::AclResult::ACLCHECK_OK
        }
    }

    /// Whether the current role may read all columns; its policies are not asked.
    pub fn may_read(&self) -> bool {
        self.granted(pg_sys::ACL_SELECT)
    }

    /// Whether the current role may add rows; its policies are not asked.
    pub fn may_insert(&self) -> bool {
        self.granted(pg_sys::ACL_INSERT)
    }

    /// The role that owns it.
    pub fn owner(&self) -> pg_sys::Oid {
        // SAFETY: the relation is open.
        unsafe { (*(*self.relation).rd_rel).relowner }
    }

    /// The role that owns it, if the current one may read, insert and update rows; its policies are not asked.
    pub fn owner_for_writing(&self) -> Option<pg_sys::Oid> {
        let rights = [pg_sys::ACL_SELECT, pg_sys::ACL_INSERT, pg_sys::ACL_UPDATE];
        // SAFETY: the relation is open.
        rights
            .iter()
            .all(|right| self.granted(*right))
            .then(|| unsafe { (*(*self.relation).rd_rel).relowner })
    }

    /// The role that owns it, if the current one may insert rows; its policies are not asked.
    pub fn owner_for_insert(&self) -> Option<pg_sys::Oid> {
        // SAFETY: the relation is open.
        self.granted(pg_sys::ACL_INSERT)
            .then(|| unsafe { (*(*self.relation).rd_rel).relowner })
    }

    /// The number of a column.
    pub fn column(&self, name: &CStr) -> Result<i16> {
        // SAFETY: the relation is open and the name is a C string.
        let number = unsafe { pg_sys::get_attnum((*self.relation).rd_id, name.as_ptr()) };
        if number > 0 {
            return Ok(number);
        }
        Err(Error::NotReady {
            message: format!("a table of engram has no column {}", name.to_string_lossy()),
            hint: "Run: ALTER EXTENSION engram UPDATE; SELECT engram.setup();".to_owned(),
        })
    }

    /// Whether any row's key begins with `keys`.
    pub fn any(&self, keys: &[(&CStr, Key<'_>)]) -> Result<bool> {
        Ok(self.count(keys, 1)? > 0)
    }

    /// How many rows it has, as statistics have it.
    pub fn estimate(&self) -> f64 {
        // SAFETY: the relation is open.
        unsafe { (*(*self.relation).rd_rel).reltuples.into() }
    }

    /// Calls `visit` with every row, or with those of one workspace: the columns until the one with
    /// this number.
    pub fn each(
        &self,
        workspace: Option<Uuid>,
        last: i16,
        mut visit: impl FnMut(Row<'_>) -> Result<()>,
    ) -> Result<()> {
        if let Some(workspace) = workspace {
            let mut rows = Lookup::upto(self, last)?;
            rows.seek([workspace]);
            while let Some(row) = rows.next() {
                pgrx::check_for_interrupts!();
                visit(row)?;
            }
            return Ok(());
        }
        // SAFETY: the relation is open, and a statement that runs has an active snapshot. A row's values stay good
        // until the next is asked for.
        unsafe {
            let scan = Scan(pg_sys::systable_beginscan(
                self.relation,
                pg_sys::InvalidOid,
                false,
                pg_sys::GetActiveSnapshot(),
                0,
                std::ptr::null_mut(),
            ));
            let width = i32::from(last).min((*(*self.relation).rd_att).natts);
            while !pg_sys::systable_getnext(scan.0).is_null() {
                pgrx::check_for_interrupts!();
                let slot = (*scan.0).slot;
                pg_sys::slot_getsomeattrs_int(slot, width);
                visit(Row::of(&*slot, width))?;
            }
        }
        Ok(())
    }

    /// Whether the current role owns it or may do everything.
    pub fn owned(&self) -> bool {
        // SAFETY: the relation is open, and the rest are look-ups.
        unsafe { pg_sys::superuser() || pg_sys::GetUserId() == (*(*self.relation).rd_rel).relowner }
    }

    /// How many rows' keys begin with `keys`; at most so many are looked at.
    pub fn count(&self, keys: &[(&CStr, Key<'_>)], most: usize) -> Result<usize> {
        let mut entries = self.entries(keys)?;
        let scan = self.begin(&mut entries);
        let mut count = 0;
        // SAFETY: the scan is open.
        while count < most && unsafe { !pg_sys::systable_getnext(scan.0).is_null() } {
            count += 1;
        }
        Ok(count)
    }

    /// Whether there are rows whose keys begin with `keys`: by now, whatever the isolation of the transaction, and also
    /// those that others are about to commit.
    pub fn any_to_come(&self, keys: &[(&CStr, Key<'_>)]) -> Result<bool> {
        let mut entries = self.entries(keys)?;
        let mut whatever = pg_sys::SnapshotData {
            snapshot_type: pg_sys::SnapshotType::SNAPSHOT_DIRTY,
            ..Default::default()
        };
        // SAFETY: as in `begin`; the snapshot outlives the scan, and such a one need not be active.
        let scan = Scan(unsafe {
            pg_sys::systable_beginscan(
                self.relation,
                self.key,
                true,
                &raw mut whatever,
                entries.len() as i32,
                entries.as_mut_ptr(),
            )
        });
        // SAFETY: the scan is open.
        Ok(unsafe { !pg_sys::systable_getnext(scan.0).is_null() })
    }

    fn entries(&self, keys: &[(&CStr, Key<'_>)]) -> Result<Vec<pg_sys::ScanKeyData>> {
        let mut entries: Vec<pg_sys::ScanKeyData> = Vec::with_capacity(keys.len());
        for (name, key) in keys {
            let attribute = self.column(name)?;
            let (procedure, collation) = key.equality();
            let mut entry = pg_sys::ScanKeyData::default();
            // SAFETY: a plain struct is filled; the procedure compares values of the key's type.
            unsafe {
                pg_sys::ScanKeyEntryInitialize(
                    &raw mut entry,
                    0,
                    attribute,
                    pg_sys::BTEqualStrategyNumber as u16,
                    pg_sys::InvalidOid,
                    collation,
                    pg_sys::Oid::from(procedure),
                    key.datum(),
                );
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    fn begin(&self, entries: &mut [pg_sys::ScanKeyData]) -> Scan {
        Scan(
            // SAFETY: the relation and its index exist, the keys are copied, and a statement that runs
            // has an active snapshot.
            unsafe {
                pg_sys::systable_beginscan(
                    self.relation,
                    self.key,
                    true,
                    pg_sys::GetActiveSnapshot(),
                    entries.len() as i32,
                    entries.as_mut_ptr(),
                )
            },
        )
    }

    /// Calls `visit` with the value of the varlena column `value` of every row whose key begins
    /// with `keys`, in the order of the key, until it says that it has seen enough.
    pub fn scan(
        &self,
        keys: &[(&CStr, Key<'_>)],
        value: &CStr,
        mut visit: impl FnMut(&[u8]) -> Result<bool>,
    ) -> Result<()> {
        let column = NonZeroUsize::new(usize::from(self.column(value)?.unsigned_abs()))
            .expect("column numbers begin at 1");
        let mut entries = self.entries(keys)?;
        let scan = self.begin(&mut entries);
        loop {
            pgrx::check_for_interrupts!();
            // SAFETY: the scan is open. Its tuple stays pinned until the next call, and `visit`
            // borrows the bytes for less than that.
            unsafe {
                let tuple = pg_sys::systable_getnext(scan.0);
                if tuple.is_null() {
                    return Ok(());
                }
                let Some(datum) = heap_getattr_raw(tuple, column, (*self.relation).rd_att) else {
                    continue;
                };
                let stored = datum.cast_mut_ptr::<pg_sys::varlena>();
                // Blocks of one page, which nearly all are, need no call.
                let plain = if pgrx::varatt_is_4b_u(stored)
                    || pgrx::varatt_is_1b(stored) && !pgrx::varatt_is_1b_e(stored)
                {
                    stored
                } else {
                    pg_sys::pg_detoast_datum_packed(stored)
                };
                let bytes = std::slice::from_raw_parts(
                    pgrx::vardata_any(plain).cast::<u8>(),
                    pgrx::varsize_any_exhdr(plain),
                );
                let result = visit(bytes);
                if plain != stored {
                    pg_sys::pfree(plain.cast());
                }
                if !result? {
                    return Ok(());
                }
            }
        }
    }
}

impl Table {
    /// Calls `visit` with the wanted columns of every row whose key begins with `keys`, in the order of
    /// the key. Values are only good until it returns.
    pub fn rows<const N: usize>(
        &self,
        keys: &[(&CStr, Key<'_>)],
        columns: [&CStr; N],
        mut visit: impl FnMut(&[Option<pg_sys::Datum>; N]) -> Result<()>,
    ) -> Result<()> {
        let mut numbers = [NonZeroUsize::MIN; N];
        for (number, name) in numbers.iter_mut().zip(columns) {
            *number = NonZeroUsize::new(usize::from(self.column(name)?.unsigned_abs()))
                .expect("column numbers begin at 1");
        }
        let mut entries = self.entries(keys)?;
        let scan = self.begin(&mut entries);
        loop {
            pgrx::check_for_interrupts!();
            // SAFETY: the scan is open, its tuple stays pinned until the next call, and the datums are
            // handed out for less than that.
            unsafe {
                let tuple = pg_sys::systable_getnext(scan.0);
                if tuple.is_null() {
                    return Ok(());
                }
                let values =
                    numbers.map(|column| heap_getattr_raw(tuple, column, (*self.relation).rd_att));
                visit(&values)?;
            }
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // SAFETY: opened by `open` and not closed before. After an error the transaction's abort
        // closes it, and no destructor may touch it then.
        unsafe {
            if !std::thread::panicking() {
                pg_sys::table_close(self.relation, pg_sys::NoLock as i32);
            }
        }
    }
}

impl Table {
    /// How many entries the primary key, whose first column is that, has for a workspace, at most so many: those of rows
    /// that are gone are among them, for the rows are not looked at.
    pub fn entries_of(&self, workspace: Uuid, most: usize) -> Result<usize> {
        let mut rows: Lookup<'_, 1> = Lookup::new(self)?;
        rows.seek([workspace]);
        let scan = rows.cursor.scan;
        let forward = pg_sys::ScanDirection::ForwardScanDirection;
        // SAFETY: a scan that has been positioned. One guard for many entries: it costs more than they.
        Ok(unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                (0..most)
                    .take_while(|_| !raw::index_getnext_tid(scan, forward).is_null())
                    .count()
            })
        })
    }

    /// Where the rows of a workspace are, or those of some of its memories, as the primary key has it: that begins
    /// with both. In the order of pages; number of page × 2^16 + place in it. Whether a row is there for the snapshot
    /// is to be asked of its page.
    pub fn places(&self, workspace: Uuid, memories: Option<&[Uuid]>) -> Result<Vec<u64>> {
        let workspace = workspace.into_bytes();
        let mut keys = vec![(0, pg_sys::Datum::from(workspace.as_ptr()))];
        if let Some(memories) = memories {
            let array = spi::pg_uuids(memories).into_datum();
            keys.extend(array.map(|array| (pg_sys::SK_SEARCHARRAY as i32, array)));
        }
        let mut places = Vec::new();
        // SAFETY: the relation is open, its index exists and is looked at while it is open, a statement that runs has
        // an active snapshot, and what the keys point at lives until the scan has ended. A place stays good as a row
        // that the snapshot sees cannot be removed.
        unsafe {
            let index = pg_sys::index_open(self.key, pg_sys::AccessShareLock as i32);
            let of = PgTupleDesc::from_pg_unchecked((*index).rd_att);
            if of.len() < 2 || of.iter().take(2).any(|a| a.atttypid != pg_sys::UUIDOID) {
                return Err(Error::NotReady {
                    message: "a table of engram has another primary key".to_owned(),
                    hint: "Somebody changed it. Put it back as setup() makes it.".to_owned(),
                });
            }
            let mut keys: Vec<pg_sys::ScanKeyData> = keys
                .iter()
                .enumerate()
                .map(|(nth, (flags, value))| {
                    let mut key = pg_sys::ScanKeyData::default();
                    pg_sys::ScanKeyEntryInitialize(
                        &raw mut key,
                        *flags,
                        (nth + 1) as i16,
                        pg_sys::BTEqualStrategyNumber as u16,
                        pg_sys::InvalidOid,
                        pg_sys::InvalidOid,
                        pg_sys::Oid::from(pg_sys::F_UUID_EQ),
                        *value,
                    );
                    key
                })
                .collect();
            let mut cursor = Cursor::new(self, index, keys.len());
            cursor.seek(&mut keys);
            let forward = pg_sys::ScanDirection::ForwardScanDirection;
            let mut more = true;
            while more {
                pgrx::check_for_interrupts!();
                places.reserve(BATCH);
                // One guard for many rows: it costs more than the row.
                more = pg_sys::ffi::pg_guard_ffi_boundary(|| {
                    for _ in 0..BATCH {
                        let place = raw::index_getnext_tid(cursor.scan, forward);
                        if place.is_null() {
                            return false;
                        }
                        let block = &(*place).ip_blkid;
                        places.push(
                            u64::from(block.bi_hi) << 32
                                | u64::from(block.bi_lo) << 16
                                | u64::from((*place).ip_posid),
                        );
                    }
                    true
                });
            }
        }
        places.sort_unstable();
        Ok(places)
    }
}

/// Index entries that are read between two looks for interrupts.
const BATCH: usize = 1024;

/// Functions of the server without the guard that turns its errors into ours: to be called where another guard is around,
/// with no value in between that wants to be dropped.
mod raw {
    use pgrx::pg_sys;

    unsafe extern "C-unwind" {
        pub fn index_getnext_tid(
            scan: pg_sys::IndexScanDesc,
            direction: pg_sys::ScanDirection::Type,
        ) -> pg_sys::ItemPointer;

        pub fn index_fetch_heap(
            scan: pg_sys::IndexScanDesc,
            slot: *mut pg_sys::TupleTableSlot,
        ) -> bool;
    }
}

/// A scan of an index under the active snapshot, which must outlive it, and the row that it has come to. Closed
/// when dropped.
struct Cursor {
    index: pg_sys::Relation,
    scan: pg_sys::IndexScanDesc,
    slot: *mut pg_sys::TupleTableSlot,
}

impl Cursor {
    /// Takes over an open index, to be scanned by so many keys.
    ///
    /// # Safety
    /// The index is one of the table's, which stays open as long as this; a snapshot is active.
    unsafe fn new(table: &Table, index: pg_sys::Relation, keys: usize) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let snapshot = pg_sys::GetActiveSnapshot();
            let count = keys as i32;
            #[cfg(feature = "pg18")]
            let none = std::ptr::null_mut();
            #[cfg(feature = "pg18")]
            let scan = pg_sys::index_beginscan(table.relation, index, snapshot, none, count, 0);
            #[cfg(not(feature = "pg18"))]
            let scan = pg_sys::index_beginscan(table.relation, index, snapshot, count, 0);
            Self {
                index,
                scan,
                slot: pg_sys::table_slot_create(table.relation, std::ptr::null_mut()),
            }
        }
    }

    /// Begins anew with these keys, as many as it was made for.
    ///
    /// # Safety
    /// The keys are of the index's columns, and what they point at lives until they are changed.
    unsafe fn seek(&mut self, keys: &mut [pg_sys::ScanKeyData]) {
        // SAFETY: the caller's promise; the scan copies the keys.
        unsafe {
            let none = std::ptr::null_mut();
            pg_sys::index_rescan(self.scan, keys.as_mut_ptr(), keys.len() as i32, none, 0);
        }
    }

    /// Whether there is another row, which is then in the slot.
    fn next(&mut self) -> bool {
        let forward = pg_sys::ScanDirection::ForwardScanDirection;
        // SAFETY: a scan that is open and a slot of its table's rows.
        unsafe { pg_sys::index_getnext_slot(self.scan, forward, self.slot) }
    }

    /// As `next`: where the chain of versions begins to which the row belongs.
    fn next_root(&mut self) -> Option<pg_sys::ItemPointerData> {
        let forward = pg_sys::ScanDirection::ForwardScanDirection;
        // SAFETY: as in `next`. One guard for both: the place is copied before the row takes its place.
        unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                loop {
                    let at = raw::index_getnext_tid(self.scan, forward);
                    if at.is_null() {
                        return None;
                    }
                    let root = *at;
                    if raw::index_fetch_heap(self.scan, self.slot) {
                        return Some(root);
                    }
                }
            })
        }
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        // SAFETY: all made by `new`. After an error the abort releases them.
        unsafe {
            if !std::thread::panicking() {
                pg_sys::ExecDropSingleTupleTableSlot(self.slot);
                pg_sys::index_endscan(self.scan);
                pg_sys::index_close(self.index, pg_sys::AccessShareLock as i32);
            }
        }
    }
}

/// Rows of a table, one after the other, each by a whole or partial key of `uuid` columns. Nothing may
/// be written to the table in between that it should see.
pub struct Lookup<'t, const N: usize> {
    /// It must stay open meanwhile.
    _table: &'t Table,
    /// Columns that are read.
    width: i32,
    cursor: Cursor,
    keys: [pg_sys::ScanKeyData; N],
    /// What the keys point at.
    values: Box<[[u8; 16]; N]>,
}

impl<'t, const N: usize> Lookup<'t, N> {
    /// By the first columns of the primary key, under the active snapshot, which must outlive it.
    pub fn new(table: &'t Table) -> Result<Self> {
        Self::upto(table, i16::MAX)
    }

    /// As [`Self::new`], of whose rows only the columns until the one with this number are read.
    pub fn upto(table: &'t Table, last: i16) -> Result<Self> {
        // SAFETY: the relation is open and its index exists.
        unsafe {
            let index = pg_sys::index_open(table.key, pg_sys::AccessShareLock as i32);
            let of = PgTupleDesc::from_pg_unchecked((*index).rd_att);
            let first = (*(*index).rd_index).indkey.values.as_slice(1)[0];
            if of.len() < N
                || of.iter().take(N).any(|a| a.atttypid != pg_sys::UUIDOID)
                || first != table.column(c"workspace_id")?
            {
                return Err(Error::NotReady {
                    message: "a table of engram has another primary key".to_owned(),
                    hint: "Somebody changed it. Put it back as setup() makes it.".to_owned(),
                });
            }
            Ok(Self::over(table, index, last))
        }
    }

    /// By index `engram.<name>`, which begins with these columns; rows that have a NULL there may be missing in it. `None`
    /// when it is not there, or another than setup() makes.
    pub fn by(table: &'t Table, name: &CStr, columns: [&CStr; N]) -> Result<Option<Self>> {
        let index = table.index(name, &columns.map(|column| (column, pg_sys::UUIDOID)), true)?;
        // SAFETY: just opened, of this table, and its first columns are of that type.
        Ok(index.map(|index| unsafe { Self::over(table, index, i16::MAX) }))
    }

    /// # Safety
    /// An open index of the table, whose first columns are of type `uuid`.
    unsafe fn over(table: &'t Table, index: pg_sys::Relation, last: i16) -> Self {
        // SAFETY: the caller's promise, and a statement that runs has an active snapshot. The values stay where they
        // are, for the box owns them.
        unsafe {
            let cursor = Cursor::new(table, index, N);
            let values = Box::new([[0; 16]; N]);
            let keys = std::array::from_fn(|nth| {
                let mut key = pg_sys::ScanKeyData::default();
                pg_sys::ScanKeyEntryInitialize(
                    &raw mut key,
                    0,
                    (nth + 1) as i16,
                    pg_sys::BTEqualStrategyNumber as u16,
                    pg_sys::InvalidOid,
                    pg_sys::InvalidOid,
                    pg_sys::Oid::from(pg_sys::F_UUID_EQ),
                    pg_sys::Datum::from(values[nth].as_ptr()),
                );
                key
            });
            Self {
                width: i32::from(last).min((*(*table.relation).rd_att).natts),
                _table: table,
                cursor,
                keys,
                values,
            }
        }
    }

    /// Begins anew with another key.
    pub fn seek(&mut self, key: [Uuid; N]) {
        *self.values = key.map(Uuid::into_bytes);
        self.keys[N - 1].sk_flags = 0;
        self.keys[N - 1].sk_argument = pg_sys::Datum::from(self.values[N - 1].as_ptr());
        // SAFETY: keys of the index's leading columns; the scan copies them, and what they point at stays.
        unsafe {
            self.cursor.seek(&mut self.keys);
        }
    }

    /// Begins anew with many keys, which differ in their last part: rows come in the order of that. Neighbours in the
    /// index are found without a search for each.
    pub fn seek_any(&mut self, key: [Uuid; N], last: &[Uuid]) {
        *self.values = key.map(Uuid::into_bytes);
        let key = &mut self.keys[N - 1];
        key.sk_flags = pg_sys::SK_SEARCHARRAY as i32;
        key.sk_argument = crate::write::uuid_array(last);
        // SAFETY: as in `seek`; the scan takes the array apart into memory of its own when it looks for the first row,
        // and until then the memory context keeps it.
        unsafe {
            self.cursor.seek(&mut self.keys);
        }
    }

    /// The next row.
    pub fn next(&mut self) -> Option<Row<'_>> {
        // SAFETY: a scan that has been positioned; the row's values stay good until the next call, which
        // the borrow forbids.
        unsafe {
            if !self.cursor.next() {
                return None;
            }
            pg_sys::slot_getsomeattrs_int(self.cursor.slot, self.width);
            Some(Row::of(&*self.cursor.slot, self.width))
        }
    }

    /// The next row, and where the chain of versions begins to which it belongs.
    pub fn next_rooted(&mut self) -> Option<(Place, Row<'_>)> {
        // SAFETY: as in `next`.
        unsafe {
            let root = place_of(self.cursor.next_root()?);
            pg_sys::slot_getsomeattrs_int(self.cursor.slot, self.width);
            Some((root, Row::of(&*self.cursor.slot, self.width)))
        }
    }

    /// The next row that is wanted.
    pub fn next_wanted(&mut self, wanted: impl Fn(&Row<'_>) -> bool) -> Option<Row<'_>> {
        let width = self.width;
        // SAFETY: as in `next`.
        unsafe {
            while self.cursor.next() {
                pgrx::check_for_interrupts!();
                pg_sys::slot_getsomeattrs_int(self.cursor.slot, width);
                if wanted(&Row::of(&*self.cursor.slot, width)) {
                    return Some(Row::of(&*self.cursor.slot, width));
                }
            }
        }
        None
    }

    /// The row that was found last.
    pub fn row(&self) -> Row<'_> {
        // SAFETY: the slot holds it until the next is asked for, which the borrow forbids.
        unsafe { Row::of(&*self.cursor.slot, self.width) }
    }

    /// Whether the row that was found last, of a heap, is a later version, to which only the place of the first one leads.
    pub fn heap_only(&self) -> bool {
        // SAFETY: the slot holds a heap tuple, for the table is a heap.
        unsafe {
            let tuple =
                pg_sys::ExecFetchSlotHeapTuple(self.cursor.slot, false, std::ptr::null_mut());
            (*(*tuple).t_data).t_infomask2 & pg_sys::HEAP_ONLY_TUPLE as u16 != 0
        }
    }

    /// A copy of the row that was found last.
    pub fn tuple(&self) -> pg_sys::HeapTuple {
        // SAFETY: the slot holds a heap tuple, for the table is a heap.
        unsafe {
            let tuple =
                pg_sys::ExecFetchSlotHeapTuple(self.cursor.slot, false, std::ptr::null_mut());
            pg_sys::heap_copytuple(tuple)
        }
    }

    /// The row of a whole key.
    pub fn find(&mut self, key: [Uuid; N]) -> Option<Row<'_>> {
        self.seek(key);
        self.next()
    }
}

/// Rows of a table by an index on a `bytea` column and, after it, the workspace.
pub struct ByHash<'t> {
    _table: &'t Table,
    cursor: Cursor,
}

impl Table {
    /// Opens index `engram.<name>`, which begins with these columns of these types, of all rows; or, where that will
    /// do, of some. `None` when it is not there, or another.
    fn index(
        &self,
        name: &CStr,
        columns: &[(&CStr, pg_sys::Oid)],
        partial: bool,
    ) -> Result<Option<pg_sys::Relation>> {
        let wanted = columns
            .iter()
            .map(|(column, of)| Ok((self.column(column)?, *of)))
            .collect::<Result<Vec<_>>>()?;
        // SAFETY: catalog look-ups by C strings; the index is looked at while it is open.
        unsafe {
            let schema = (*(*self.relation).rd_rel).relnamespace;
            let id = pg_sys::get_relname_relid(name.as_ptr(), schema);
            let kind = u8::try_from(pg_sys::get_rel_relkind(id));
            if kind != Ok(pg_sys::RELKIND_INDEX) {
                return Ok(None);
            }
            let index = pg_sys::index_open(id, pg_sys::AccessShareLock as i32);
            let state = &*(*index).rd_index;
            let keys = usize::try_from(state.indnkeyatts).unwrap_or(0);
            let types = PgTupleDesc::from_pg_unchecked((*index).rd_att);
            let begins = (state.indkey.values.as_slice(keys).iter().copied())
                .zip(types.iter().map(|a| a.atttypid))
                .take(wanted.len());
            if state.indrelid != (*self.relation).rd_id
                || !state.indisvalid
                || (*(*index).rd_rel).relam != pg_sys::BTREE_AM_OID
                || !begins.eq(wanted)
                || !partial && !pg_sys::RelationGetIndexPredicate(index).is_null()
            {
                pg_sys::index_close(index, pg_sys::AccessShareLock as i32);
                return Ok(None);
            }
            Ok(Some(index))
        }
    }

    /// Opens index `engram.<name>` of these columns under the active snapshot, which must outlive it. `None` when it
    /// is not there, or another than setup() makes.
    pub fn by_hash(&self, name: &CStr, columns: [&CStr; 2]) -> Option<ByHash<'_>> {
        let [hash, workspace] = columns;
        let columns = [(hash, pg_sys::BYTEAOID), (workspace, pg_sys::UUIDOID)];
        let index = self.index(name, &columns, false).ok()??;
        // SAFETY: just opened, of this table.
        let cursor = unsafe { Cursor::new(self, index, 2) };
        Some(ByHash {
            _table: self,
            cursor,
        })
    }
}

impl ByHash<'_> {
    /// Whether a workspace has such a row.
    pub fn any(&mut self, hash: &[u8], workspace: Uuid) -> bool {
        let hash = hash.into_datum().expect("bytes are not NULL");
        let workspace = *workspace.as_bytes();
        let of = [
            (pg_sys::F_BYTEAEQ, hash),
            (pg_sys::F_UUID_EQ, pg_sys::Datum::from(workspace.as_ptr())),
        ];
        let mut keys = [
            pg_sys::ScanKeyData::default(),
            pg_sys::ScanKeyData::default(),
        ];
        // SAFETY: the keys are of the index's columns, and what they point at lives until the row is found.
        unsafe {
            for (nth, (procedure, value)) in of.into_iter().enumerate() {
                pg_sys::ScanKeyEntryInitialize(
                    &raw mut keys[nth],
                    0,
                    (nth + 1) as i16,
                    pg_sys::BTEqualStrategyNumber as u16,
                    pg_sys::InvalidOid,
                    pg_sys::InvalidOid,
                    pg_sys::Oid::from(procedure),
                    value,
                );
            }
            self.cursor.seek(&mut keys);
            self.cursor.next()
        }
    }
}

/// Rows of `search_blocks` of one model of a workspace, from any place in the order of the key on.
pub struct Parts<'t> {
    /// It must stay open meanwhile.
    _table: &'t Table,
    cursor: Cursor,
    keys: [pg_sys::ScanKeyData; 5],
    /// What keys point at: the workspace, and where to begin.
    values: Box<[[u8; 16]; 2]>,
    column: i16,
}

impl<'t> Parts<'t> {
    /// Of the table `search_blocks`, under the active snapshot, which must outlive it, as the memory context
    /// must.
    pub fn new(table: &'t Table, workspace: Uuid, model: &str) -> Result<Self> {
        let column = table.column(c"block")?;
        let equal = pg_sys::BTEqualStrategyNumber;
        // workspace_id, model, level, cluster, block_id
        let kinds = [
            (equal, pg_sys::F_UUID_EQ),
            (equal, pg_sys::F_TEXTEQ),
            (equal, pg_sys::F_INT2EQ),
            (equal, pg_sys::F_INT4EQ),
            (pg_sys::BTGreaterEqualStrategyNumber, pg_sys::F_UUID_GE),
        ];
        let values = Box::new([workspace.into_bytes(), [0; 16]]);
        // SAFETY: as for `Lookup`; the keys are of the types of the columns of the primary key, by whose
        // numbers in the index they go.
        unsafe {
            let index = pg_sys::index_open(table.key, pg_sys::AccessShareLock as i32);
            let of = PgTupleDesc::from_pg_unchecked((*index).rd_att);
            let types = [
                pg_sys::UUIDOID,
                pg_sys::TEXTOID,
                pg_sys::INT2OID,
                pg_sys::INT4OID,
                pg_sys::UUIDOID,
            ];
            if !of.iter().map(|a| a.atttypid).eq(types) {
                return Err(Error::NotReady {
                    message: "table engram.search_blocks has another primary key".to_owned(),
                    hint: "Somebody changed it. Drop the table, then run: SELECT engram.setup(); SELECT engram.reindex();".to_owned(),
                });
            }
            let cursor = Cursor::new(table, index, 5);
            let keys = std::array::from_fn(|nth| {
                let (strategy, procedure) = kinds[nth];
                let (value, collation) = match nth {
                    0 => (pg_sys::Datum::from(values[0].as_ptr()), pg_sys::InvalidOid),
                    1 => (
                        model.into_datum().expect("a text is not NULL"),
                        pg_sys::C_COLLATION_OID,
                    ),
                    4 => (pg_sys::Datum::from(values[1].as_ptr()), pg_sys::InvalidOid),
                    _ => (pg_sys::Datum::from(0), pg_sys::InvalidOid),
                };
                let mut key = pg_sys::ScanKeyData::default();
                pg_sys::ScanKeyEntryInitialize(
                    &raw mut key,
                    0,
                    (nth + 1) as i16,
                    strategy as u16,
                    pg_sys::InvalidOid,
                    collation,
                    pg_sys::Oid::from(procedure),
                    value,
                );
                key
            });
            Ok(Self {
                _table: table,
                cursor,
                keys,
                values,
                column,
            })
        }
    }

    /// Begins anew: the rows of a level and cluster, from this `block_id` on.
    pub fn seek(&mut self, level: i16, cluster: i32, from: [u8; 16]) {
        self.values[1] = from;
        self.keys[2].sk_argument = pg_sys::Datum::from(level);
        self.keys[3].sk_argument = pg_sys::Datum::from(cluster);
        // SAFETY: the keys are those that the scan was begun with; what they point at stays.
        unsafe {
            self.cursor.seek(&mut self.keys);
        }
    }

    /// The next row, its columns until the block.
    pub fn row(&mut self) -> Option<Row<'_>> {
        pgrx::check_for_interrupts!();
        // SAFETY: as in `Lookup`.
        unsafe {
            if !self.cursor.next() {
                return None;
            }
            pg_sys::slot_getsomeattrs_int(self.cursor.slot, i32::from(self.column));
            Some(Row::of(&*self.cursor.slot, i32::from(self.column)))
        }
    }

    /// The block of the next row, where it lies.
    pub fn next(&mut self) -> Option<&[u8]> {
        let column = self.column;
        // SAFETY: the column is `bytea`.
        unsafe { self.row()?.bytes(column) }
    }

    /// The number of the column with the block.
    pub fn column(&self) -> i16 {
        self.column
    }
}

/// A row's values, by the numbers of columns that [`Table::column`] gives.
pub struct Row<'a> {
    /// Where it is.
    pub at: pg_sys::ItemPointerData,
    values: &'a [pg_sys::Datum],
    nulls: &'a [bool],
}

/// A place as PostgreSQL writes it.
pub fn place_of(at: pg_sys::ItemPointerData) -> Place {
    let block = &at.ip_blkid;
    Place {
        block: u32::from(block.bi_hi) << 16 | u32::from(block.bi_lo),
        offset: at.ip_posid,
    }
}

/// A copy of a row.
pub struct Tuple {
    pub tuple: pg_sys::HeapTuple,
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
}

impl Tuple {
    /// Takes a copy of a row of the table apart.
    pub fn new(table: &Table, tuple: pg_sys::HeapTuple) -> Self {
        // SAFETY: the row is of this table, and both arrays have as many places as it has columns.
        unsafe {
            let width = usize::try_from((*(*table.relation).rd_att).natts).unwrap_or(0);
            let mut values = vec![pg_sys::Datum::null(); width];
            let mut nulls = vec![true; width];
            pg_sys::heap_deform_tuple(
                tuple,
                (*table.relation).rd_att,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
            Self {
                tuple,
                values,
                nulls,
            }
        }
    }

    pub fn row(&self) -> Row<'_> {
        Row {
            // SAFETY: the copy lives as long as the memory context that it was made in.
            at: unsafe { (*self.tuple).t_self },
            values: &self.values,
            nulls: &self.nulls,
        }
    }
}

impl<'a> Row<'a> {
    /// Of the values of all columns, as a tuple is taken apart.
    pub fn new(
        at: pg_sys::ItemPointerData,
        values: &'a [pg_sys::Datum],
        nulls: &'a [bool],
    ) -> Self {
        Self { at, values, nulls }
    }

    /// # Safety
    /// So many columns have been read into the slot.
    unsafe fn of(slot: &'a pg_sys::TupleTableSlot, width: i32) -> Self {
        let width = usize::try_from(width).unwrap_or(0);
        // SAFETY: the caller's promise.
        unsafe {
            Self {
                at: slot.tts_tid,
                values: std::slice::from_raw_parts(slot.tts_values, width),
                nulls: std::slice::from_raw_parts(slot.tts_isnull, width),
            }
        }
    }

    /// Where it is, as blocks note it.
    pub fn place(&self) -> Place {
        place_of(self.at)
    }

    /// The value of a column.
    pub fn datum(&self, column: i16) -> Option<pg_sys::Datum> {
        let nth = usize::from(column.unsigned_abs()).checked_sub(1)?;
        (!*self.nulls.get(nth)?).then(|| self.values[nth])
    }

    /// Text where it lies.
    ///
    /// # Safety
    /// The column is `text`.
    pub unsafe fn text(&self, column: i16) -> Option<&'a str> {
        // SAFETY: the caller's promise; the row borrows what it points at.
        unsafe { <&str>::from_datum(self.datum(column)?, false) }
    }

    /// Bytes where they lie.
    ///
    /// # Safety
    /// The column is `bytea`.
    pub unsafe fn bytes(&self, column: i16) -> Option<&'a [u8]> {
        // SAFETY: the caller's promise; the row borrows what it points at.
        unsafe { <&[u8]>::from_datum(self.datum(column)?, false) }
    }

    /// A value that is copied out.
    ///
    /// # Safety
    /// The column has the type.
    pub unsafe fn get<T: FromDatum>(&self, column: i16) -> Option<T> {
        // SAFETY: the caller's promise.
        unsafe { T::from_datum(self.datum(column)?, false) }
    }

    /// A `uuid`.
    ///
    /// # Safety
    /// The column is one.
    pub unsafe fn uuid(&self, column: i16) -> Option<Uuid> {
        // SAFETY: the caller's promise; 16 bytes of it lie there.
        Some(unsafe { Uuid::from_bytes(*self.datum(column)?.cast_mut_ptr::<[u8; 16]>()) })
    }

    /// A `uuid[]` of one dimension or none, without NULLs.
    ///
    /// # Safety
    /// The column is a `uuid[]`.
    pub unsafe fn uuids(&self, column: i16) -> Vec<Uuid> {
        let Some(datum) = self.datum(column) else {
            return Vec::new();
        };
        // SAFETY: the caller's promise; a plain array has its length, dimensions and type in front of its
        // elements, 16 bytes each.
        unsafe {
            let stored = datum.cast_mut_ptr::<pg_sys::varlena>();
            let plain = pg_sys::pg_detoast_datum(stored);
            let array = plain.cast::<pg_sys::ArrayType>();
            let mut ids = Vec::new();
            if (*array).ndim == 1 && (*array).dataoffset == 0 {
                let start = array.add(1).cast::<i32>();
                let length = usize::try_from(*start).unwrap_or(0);
                let first = start.add(2).cast::<[u8; 16]>();
                ids.extend((0..length).map(|nth| Uuid::from_bytes(*first.add(nth))));
            }
            if plain != stored {
                pg_sys::pfree(plain.cast());
            }
            ids
        }
    }
}

/// While it lives, scans see what is committed and what the transaction has done until now, as a statement
/// that begins now would.
pub struct Fresh(());

impl Fresh {
    pub fn new() -> Self {
        // SAFETY: inside a transaction; a snapshot that an error leaves behind goes with the (sub)transaction.
        unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()) }
        Self(())
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // SAFETY: pushed by `new`, and whatever was pushed after it is gone.
        unsafe {
            if !std::thread::panicking() {
                pg_sys::PopActiveSnapshot();
            }
        }
    }
}

struct Scan(pg_sys::SysScanDesc);

impl Drop for Scan {
    fn drop(&mut self) {
        // SAFETY: as for the table.
        unsafe {
            if !std::thread::panicking() {
                pg_sys::systable_endscan(self.0);
            }
        }
    }
}

/// A value that a column of the key equals.
#[derive(Clone, Copy)]
pub enum Key<'a> {
    /// A `uuid` column.
    Uuid(Uuid),
    /// A `text` column of collation "C".
    Text(&'a str),
    /// A `text` column of the database's collation.
    Collated(&'a str),
}

impl Key<'_> {
    fn equality(&self) -> (u32, pg_sys::Oid) {
        match self {
            Self::Uuid(_) => (pg_sys::F_UUID_EQ, pg_sys::InvalidOid),
            Self::Text(_) => (pg_sys::F_TEXTEQ, pg_sys::C_COLLATION_OID),
            Self::Collated(_) => (pg_sys::F_TEXTEQ, pg_sys::DEFAULT_COLLATION_OID),
        }
    }

    fn datum(&self) -> pg_sys::Datum {
        match self {
            Self::Uuid(id) => spi::pg_uuid(*id).into_datum(),
            Self::Text(text) | Self::Collated(text) => text.into_datum(),
        }
        .expect("a value is not NULL")
    }
}
