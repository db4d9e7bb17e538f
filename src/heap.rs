//! Rows of a table by where they are, without an index.
//!
//! What is remembered of a place may be out of date: the row may have gone, and another one may be there now.
//! Whoever asks has to look whether the row is the one that was meant, and otherwise go by the index.

use std::cell::RefCell;

use pgrx::pg_sys;
use uuid::Uuid;

use crate::blocks::segment::Place;
use crate::scan::{Lookup, Row, Table};

/// Blocks whose buffers a backend remembers, a power of two. PostgreSQL 15 names files in another way.
#[cfg(not(feature = "pg15"))]
const REMEMBERED: usize = 1 << 14;

/// No page has more tuples: a header of 23 bytes and a pointer of 4 each.
const MOST_ON_A_PAGE: usize = pg_sys::BLCKSZ as usize / 27;

/// Of so many times that a block is in the buffer where it was last, it is asked for as usual once: only that
/// tells PostgreSQL that it is in use.
#[cfg(not(feature = "pg15"))]
const ASKED: u32 = 32;

#[cfg(not(feature = "pg15"))]
#[derive(Clone, Copy, Default)]
struct Recent {
    relation: u32,
    block: u32,
    buffer: pg_sys::Buffer,
    times: u32,
}

#[cfg(not(feature = "pg15"))]
thread_local! {
    /// In which buffer a block was found last. Only a hint: whether it still is there, PostgreSQL checks.
    static RECENT: RefCell<Vec<Recent>> = const { RefCell::new(Vec::new()) };
}

/// Where in [`RECENT`] a block is.
#[cfg(not(feature = "pg15"))]
fn nth(relation: u32, block: u32) -> usize {
    block.wrapping_add(relation.wrapping_mul(0x9e37_79b1)) as usize & (REMEMBERED - 1)
}

/// The buffer to try, unless it is time to ask for the block as usual.
#[cfg(not(feature = "pg15"))]
fn known(relation: u32, block: u32) -> Option<pg_sys::Buffer> {
    RECENT.with_borrow_mut(|recent| {
        if recent.is_empty() {
            recent.resize(REMEMBERED, Recent::default());
        }
        let known = &mut recent[nth(relation, block)];
        known.times += 1;
        let same = (known.relation, known.block) == (relation, block);
        (same && known.buffer > 0 && known.times < ASKED).then_some(known.buffer)
    })
}

#[cfg(not(feature = "pg15"))]
fn note(relation: u32, block: u32, buffer: pg_sys::Buffer) {
    RECENT.with_borrow_mut(|recent| {
        recent[nth(relation, block)] = Recent {
            relation,
            block,
            buffer,
            times: 0,
        };
    });
}

/// Pages of a heap, each to be pinned for a moment, and brought near before that: what a page costs is mostly the wait
/// for memory, and these waits can pass together.
pub struct Pages {
    relation: pg_sys::Relation,
    #[cfg(not(feature = "pg15"))]
    number: u32,
}

impl Pages {
    /// # Safety
    /// The relation is a heap, and open as long as this lives.
    pub unsafe fn new(relation: pg_sys::Relation) -> Self {
        Self {
            relation,
            #[cfg(not(feature = "pg15"))]
            // SAFETY: the caller's promise.
            number: unsafe { (*relation).rd_locator.relNumber.to_u32() },
        }
    }

    /// Pins a page.
    ///
    /// # Safety
    /// The heap has the block. A guard is around, with nothing in between that wants to be dropped.
    pub unsafe fn pin(&self, block: u32) -> pg_sys::Buffer {
        // SAFETY: the caller's promise; a buffer that is remembered is only pinned if it holds the block.
        unsafe {
            #[cfg(not(feature = "pg15"))]
            if let Some(known) = known(self.number, block)
                && raw::ReadRecentBuffer(
                    (*self.relation).rd_locator,
                    pg_sys::ForkNumber::MAIN_FORKNUM,
                    block,
                    known,
                )
            {
                return known;
            }
            let buffer = raw::ReadBuffer(self.relation, block);
            #[cfg(not(feature = "pg15"))]
            note(self.number, block, buffer);
            buffer
        }
    }

    /// Where a page was last.
    #[cfg(all(not(feature = "pg15"), target_arch = "x86_64"))]
    fn last(&self, block: u32) -> Option<(pg_sys::Buffer, *const u8)> {
        let buffer = RECENT.with_borrow(|recent| {
            let known = recent.get(nth(self.number, block))?;
            let same = (known.relation, known.block) == (self.number, block);
            (same && known.buffer > 0).then_some(known.buffer)
        })?;
        // SAFETY: pages of shared memory begin there, in the order of their buffers' numbers from 1; that of a buffer
        // once pinned is one of them.
        let page = unsafe {
            pg_sys::BufferBlocks
                .cast::<u8>()
                .add((buffer - 1) as usize * pg_sys::BLCKSZ as usize)
        };
        Some((buffer, page))
    }

    /// Has the processor fetch the beginning of a page and its entry for one of its rows.
    #[cfg(all(not(feature = "pg15"), target_arch = "x86_64"))]
    pub fn approach(&self, block: u32, offset: u16) {
        if let Some((buffer, page)) = self.last(block) {
            // SAFETY: in the arrays of buffers and their descriptions, see `last`.
            let description = unsafe { pg_sys::BufferDescriptors.add((buffer - 1) as usize) };
            fetch(description.cast());
            fetch(page);
            fetch(page.wrapping_add(item(offset)));
        }
    }

    /// Has the processor fetch the first `length` bytes of a row of a page that was approached.
    #[cfg(all(not(feature = "pg15"), target_arch = "x86_64"))]
    pub fn approach_row(&self, block: u32, offset: u16, length: usize) {
        let Some((_, page)) = self.last(block) else {
            return;
        };
        let size = pg_sys::BLCKSZ as usize;
        let mut offset = offset;
        // The row may have moved within the page.
        for _ in 0..2 {
            let at = item(offset);
            if offset == 0 || at + 4 > size {
                return;
            }
            // SAFETY: within a page of shared memory. It is not locked, and another page may be there by now: what is
            // read is only where to fetch from, and fetching can do no harm.
            let entry = unsafe { page.add(at).cast::<u32>().read_volatile() };
            let (place, state) = (entry & 0x7fff, entry >> 15 & 3);
            match state {
                pg_sys::LP_NORMAL => {
                    let row = page.wrapping_add(place as usize);
                    for line in (0..length).step_by(64) {
                        fetch(row.wrapping_add(line));
                    }
                    return;
                }
                pg_sys::LP_REDIRECT => offset = place as u16,
                _ => return,
            }
        }
    }

    #[cfg(not(all(not(feature = "pg15"), target_arch = "x86_64")))]
    pub fn approach(&self, _: u32, _: u16) {}

    #[cfg(not(all(not(feature = "pg15"), target_arch = "x86_64")))]
    pub fn approach_row(&self, _: u32, _: u16, _: usize) {}
}

/// Where in its page the entry for a row is.
#[cfg(all(not(feature = "pg15"), target_arch = "x86_64"))]
fn item(offset: u16) -> usize {
    std::mem::offset_of!(pg_sys::PageHeaderData, pd_linp)
        + 4 * usize::from(offset.saturating_sub(1))
}

#[cfg(all(not(feature = "pg15"), target_arch = "x86_64"))]
fn fetch(at: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a hint; no address does harm.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
}

/// Functions of the server without a guard of their own, as in [`crate::scan`].
pub mod raw {
    use pgrx::pg_sys;

    unsafe extern "C-unwind" {
        pub fn ReadBuffer(relation: pg_sys::Relation, block: u32) -> pg_sys::Buffer;
        pub fn ReleaseBuffer(buffer: pg_sys::Buffer);
        pub fn LockBuffer(buffer: pg_sys::Buffer, mode: i32);
        pub fn heap_hot_search_buffer(
            tid: pg_sys::ItemPointer,
            relation: pg_sys::Relation,
            buffer: pg_sys::Buffer,
            snapshot: pg_sys::Snapshot,
            tuple: pg_sys::HeapTuple,
            all_dead: *mut bool,
            first_call: bool,
        ) -> bool;
        pub fn UnlockReleaseBuffer(buffer: pg_sys::Buffer);
        pub fn heap_copytuple(tuple: pg_sys::HeapTuple) -> pg_sys::HeapTuple;
        pub fn heap_deform_tuple(
            tuple: pg_sys::HeapTuple,
            of: pg_sys::TupleDesc,
            values: *mut pg_sys::Datum,
            nulls: *mut bool,
        );
        #[cfg(not(feature = "pg15"))]
        pub fn ReadRecentBuffer(
            locator: pg_sys::RelFileLocator,
            fork: pg_sys::ForkNumber::Type,
            block: u32,
            buffer: pg_sys::Buffer,
        ) -> bool;
    }
}

/// Reads rows of a table under the active snapshot, which must outlive it.
pub struct Heap<'t> {
    table: &'t Table,
    /// Of the table, when the reading began.
    blocks: u32,
    /// The block that is pinned, and its buffer; 0 for none.
    pinned: (u32, pg_sys::Buffer),
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
    at: pg_sys::ItemPointerData,
}

impl<'t> Heap<'t> {
    /// `None` for tables that are no heaps.
    pub fn new(table: &'t Table) -> Option<Self> {
        // SAFETY: the relation is open.
        unsafe {
            let relation = table.relation();
            if (*(*relation).rd_rel).relam != pg_sys::HEAP_TABLE_AM_OID {
                return None;
            }
            let blocks =
                pg_sys::RelationGetNumberOfBlocksInFork(relation, pg_sys::ForkNumber::MAIN_FORKNUM);
            let width = usize::try_from((*(*relation).rd_att).natts).unwrap_or(0);
            Some(Self {
                table,
                blocks,
                pinned: (0, 0),
                values: vec![pg_sys::Datum::null(); width],
                nulls: vec![true; width],
                at: pg_sys::ItemPointerData::default(),
            })
        }
    }

    /// The row at a place, if there is one that the snapshot sees. Its values are good until the next is
    /// asked for.
    pub fn get(&mut self, place: Place) -> Option<Row<'_>> {
        pgrx::check_for_interrupts!();
        if place.block >= self.blocks || place.offset == 0 {
            return None;
        }
        let relation = self.table.relation();
        // SAFETY: the relation is an open heap and the block one of its; the tuple is read while its page is
        // pinned, and the page is locked while the snapshot is asked, as a scan of an index does it. One guard is around
        // all, in which nothing wants to be dropped.
        let found = unsafe {
            let snapshot = pg_sys::GetActiveSnapshot();
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                self.pin(place.block);
                let buffer = self.pinned.1;
                let mut tuple = pg_sys::HeapTupleData::default();
                let mut at = pg_sys::ItemPointerData {
                    ip_blkid: pg_sys::BlockIdData {
                        bi_hi: (place.block >> 16) as u16,
                        bi_lo: (place.block & 0xffff) as u16,
                    },
                    ip_posid: place.offset,
                };
                raw::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
                let found = raw::heap_hot_search_buffer(
                    &raw mut at,
                    relation,
                    buffer,
                    snapshot,
                    &raw mut tuple,
                    std::ptr::null_mut(),
                    true,
                );
                raw::LockBuffer(buffer, pg_sys::BUFFER_LOCK_UNLOCK as i32);
                if found {
                    raw::heap_deform_tuple(
                        &raw mut tuple,
                        (*relation).rd_att,
                        self.values.as_mut_ptr(),
                        self.nulls.as_mut_ptr(),
                    );
                    self.at = tuple.t_self;
                }
                found
            })
        };
        found.then(|| self.row())
    }

    /// Has the processor fetch what [`Self::get`] will read of rows at these places, as many bytes of each.
    pub fn approach(&self, places: impl Iterator<Item = Place> + Clone, length: usize) {
        // SAFETY: a heap that is open for longer than this takes.
        let pages = unsafe { Pages::new(self.table.relation()) };
        for place in places.clone() {
            pages.approach(place.block, place.offset);
        }
        for place in places {
            pages.approach_row(place.block, place.offset, length);
        }
    }

    /// Where the chain of versions begins to which the tuple at a place belongs: there it is found for longer,
    /// and by `get`.
    pub fn root(&mut self, place: Place) -> Option<Place> {
        if place.block >= self.blocks || place.offset == 0 {
            return None;
        }
        let mut roots = [0; MOST_ON_A_PAGE];
        // SAFETY: the block is one of the heap's, pinned and locked while it is read, and no page has more tuples
        // than there is room for.
        unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| self.pin(place.block));
            let buffer = self.pinned.1;
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
            pg_sys::heap_get_root_tuples(pg_sys::BufferGetPage(buffer), roots.as_mut_ptr());
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_UNLOCK as i32);
        }
        let offset = *roots.get(usize::from(place.offset) - 1)?;
        (offset > 0).then_some(Place { offset, ..place })
    }

    /// The row that was found last.
    fn row(&self) -> Row<'_> {
        Row::new(self.at, &self.values, &self.nulls)
    }

    /// Pins a page in place of the one before.
    ///
    /// # Safety
    /// As for [`Pages::pin`].
    unsafe fn pin(&mut self, block: u32) {
        if self.pinned.1 != 0 && self.pinned.0 == block {
            return;
        }
        let before = std::mem::take(&mut self.pinned.1);
        // SAFETY: the caller's promise; what was pinned before was pinned here.
        unsafe {
            if before != 0 {
                raw::ReleaseBuffer(before);
            }
            self.pinned = (block, Pages::new(self.table.relation()).pin(block));
        }
    }

    fn unpin(&mut self) {
        let buffer = std::mem::take(&mut self.pinned.1);
        if buffer != 0 {
            // SAFETY: pinned by `pin`.
            unsafe { pg_sys::ReleaseBuffer(buffer) }
        }
    }
}

impl Drop for Heap<'_> {
    fn drop(&mut self) {
        // After an error the abort releases it.
        if !std::thread::panicking() {
            self.unpin();
        }
    }
}

/// Rows whose key begins with a workspace and a memory: by their places where these are known and still
/// right, else by the primary key.
pub struct Placed<'t> {
    rows: Lookup<'t, 2>,
    heap: Option<Heap<'t>>,
    key: [i16; 2],
}

impl<'t> Placed<'t> {
    /// The first two columns of the primary key, and the last column that is read.
    pub fn new(table: &'t Table, key: [i16; 2], last: i16) -> crate::error::Result<Self> {
        Ok(Self {
            rows: Lookup::upto(table, last)?,
            heap: Heap::new(table),
            key,
        })
    }

    /// Prepares for rows at these places, of which so many bytes are read first.
    pub fn approach(&self, places: impl Iterator<Item = Option<Place>> + Clone, length: usize) {
        if let Some(heap) = &self.heap {
            heap.approach(places.flatten(), length);
        }
    }

    /// Calls `visit` with the rows of memories of a workspace, by the index, which finds those that are beside
    /// each other in it together.
    pub fn each(&mut self, workspace: Uuid, memories: &[Uuid], mut visit: impl FnMut(&Row<'_>)) {
        if memories.is_empty() {
            return;
        }
        self.rows.seek_any([workspace, Uuid::nil()], memories);
        while let Some(row) = self.rows.next() {
            pgrx::check_for_interrupts!();
            visit(&row);
        }
    }

    /// The first row of the key that is `wanted`.
    pub fn find(
        &mut self,
        key: [Uuid; 2],
        place: Option<Place>,
        wanted: impl Fn(&Row<'_>) -> bool,
    ) -> Option<Row<'_>> {
        let there = match (&mut self.heap, place) {
            (Some(heap), Some(place)) => heap.get(place).is_some_and(|row| {
                // SAFETY: both columns are uuids; the lookup has checked those of the index.
                let found = self.key.map(|column| unsafe { row.uuid(column) });
                found == key.map(Some) && wanted(&row)
            }),
            _ => false,
        };
        if let Some(heap) = self.heap.as_ref().filter(|_| there) {
            return Some(heap.row());
        }
        self.rows.seek(key);
        self.rows.next_wanted(wanted)
    }
}

/// Where a session found rows of a table last, by id. Only hints: whoever goes there has to look whether the row is the one
/// that was meant.
pub struct Places {
    /// Of the table's file; rows of another one are elsewhere.
    number: u32,
    /// By half of the id, the random one: the half, and the place; 0 for none.
    known: Vec<(u64, u64)>,
}

/// Rows of a table whose places a session remembers, a power of two.
const PLACES: usize = 1 << 14;

thread_local! {
    /// Of `memories`.
    static MEMORIES: RefCell<Places> = const { RefCell::new(Places::new()) };
}

impl Places {
    pub const fn new() -> Self {
        Self {
            number: 0,
            known: Vec::new(),
        }
    }

    fn half(id: &Uuid) -> (u64, usize) {
        let half = id.as_u128() as u64;
        (half, half as usize & (PLACES - 1))
    }

    /// Notes where, counted as [`Table::places`] does, the index says that a row is.
    pub fn note(&mut self, table: &Table, id: &Uuid, place: u64) {
        let number = file(table);
        if self.number != number || self.known.is_empty() {
            self.number = number;
            self.known.clear();
            self.known.resize(PLACES, (0, 0));
        }
        let (half, nth) = Self::half(id);
        self.known[nth] = (half, place);
    }

    /// Where to look for a row.
    pub fn get(&self, table: &Table, id: &Uuid) -> Option<u64> {
        let (half, nth) = Self::half(id);
        let (of, place) = *self.known.get(nth)?;
        (of == half && place > 0 && self.number == file(table)).then_some(place)
    }
}

/// The number of a table's file.
fn file(table: &Table) -> u32 {
    // SAFETY: the relation is open.
    unsafe {
        #[cfg(not(feature = "pg15"))]
        return (*table.relation()).rd_locator.relNumber.to_u32();
        #[cfg(feature = "pg15")]
        return (*table.relation()).rd_node.relNode.to_u32();
    }
}

/// Notes where a memory was found.
pub fn note_memory(memories: &Table, id: &Uuid, place: Place) {
    let place = u64::from(place.block) << 16 | u64::from(place.offset);
    MEMORIES.with_borrow_mut(|places| places.note(memories, id, place));
}

/// Memories by where this session found them last, else by the primary key.
pub struct Memories<'t> {
    table: &'t Table,
    heap: Option<Heap<'t>>,
    /// Only opened for those that are not where they were.
    rows: Option<Lookup<'t, 2>>,
    key: [i16; 2],
    last: i16,
}

impl<'t> Memories<'t> {
    /// Of the table `memories`, under the active snapshot, which must outlive it. The last column that is read, after
    /// those of the key.
    pub fn new(table: &'t Table, last: i16) -> crate::error::Result<Self> {
        Ok(Self {
            table,
            heap: Heap::new(table),
            rows: None,
            key: [table.column(c"workspace_id")?, table.column(c"id")?],
            last,
        })
    }

    /// Has the processor fetch what [`Self::find`] will read of these.
    pub fn approach(&self, ids: &[Uuid]) {
        let Some(heap) = &self.heap else { return };
        MEMORIES.with_borrow(|places| {
            let known = ids.iter().filter_map(|id| places.get(self.table, id));
            heap.approach(
                known.map(|place| Place {
                    block: (place >> 16) as u32,
                    offset: place as u16,
                }),
                256,
            );
        });
    }

    /// The memory of a workspace and an id.
    pub fn find(&mut self, key: [Uuid; 2]) -> crate::error::Result<Option<Row<'_>>> {
        let place = MEMORIES.with_borrow(|places| places.get(self.table, &key[1]));
        let there = match (&mut self.heap, place) {
            (Some(heap), Some(place)) => heap
                .get(Place {
                    block: (place >> 16) as u32,
                    offset: place as u16,
                })
                .is_some_and(|row| {
                    // SAFETY: the columns are uuids; setup() made them, and the primary key is of them.
                    self.key.map(|column| unsafe { row.uuid(column) }) == key.map(Some)
                }),
            _ => false,
        };
        if there {
            return Ok(self.heap.as_ref().map(Heap::row));
        }
        if self.rows.is_none() {
            self.rows = Some(Lookup::upto(self.table, self.last)?);
        }
        let Some(rows) = &mut self.rows else {
            return Ok(None);
        };
        let Some(row) = rows.find(key) else {
            return Ok(None);
        };
        let at = row.place();
        // Where the chain of another's versions begins would take a look at the whole page.
        if self.heap.is_some() && !rows.heap_only() {
            note_memory(self.table, &key[1], at);
        }
        Ok(Some(rows.row()))
    }
}
