//! Rows of a table by where they are, without an index.
//!
//! What is remembered of a place may be out of date: the row may have gone, and another one may be there now.
//! Whoever asks has to look whether the row is the one that was meant, and otherwise go by the index.

#[cfg(not(feature = "pg15"))]
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
const ASKED: u32 = 16;

#[cfg(not(feature = "pg15"))]
#[derive(Clone, Copy, Default)]
struct Recent {
    relation: u32,
    block: u32,
    buffer: pg_sys::Buffer,
    times: u32,
}

#[cfg(not(feature = "pg15"))]
impl Recent {
    /// Where it is remembered in which buffer a block is.
    fn nth(relation: u32, block: u32) -> usize {
        block.wrapping_add(relation.wrapping_mul(0x9e37_79b1)) as usize & (REMEMBERED - 1)
    }

    /// The buffer in which a block of shared buffers was found last.
    #[cfg(target_arch = "x86_64")]
    fn of(relation: u32, block: u32) -> Option<pg_sys::Buffer> {
        RECENT.with_borrow(|recent| {
            let known = recent.get(Self::nth(relation, block))?;
            ((known.relation, known.block) == (relation, block) && known.buffer > 0)
                .then_some(known.buffer)
        })
    }
}

#[cfg(not(feature = "pg15"))]
thread_local! {
    /// In which buffer a block was found last. Only a hint: whether it still is there, PostgreSQL checks.
    static RECENT: RefCell<Vec<Recent>> = const { RefCell::new(Vec::new()) };
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
        // pinned, and the page is locked while the snapshot is asked, as a scan of an index does it.
        unsafe {
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
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
            let found = pg_sys::heap_hot_search_buffer(
                &raw mut at,
                relation,
                buffer,
                pg_sys::GetActiveSnapshot(),
                &raw mut tuple,
                std::ptr::null_mut(),
                true,
            );
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_UNLOCK as i32);
            if !found {
                return None;
            }
            pg_sys::heap_deform_tuple(
                &raw mut tuple,
                (*relation).rd_att,
                self.values.as_mut_ptr(),
                self.nulls.as_mut_ptr(),
            );
            self.at = tuple.t_self;
        }
        Some(self.row())
    }

    /// Tells the processor which rows will be asked for soon, so that it need not wait for each in turn. A hint:
    /// what has been evicted meanwhile, or is elsewhere, only costs the reading of a few bytes.
    pub fn expect(&self, places: impl Iterator<Item = Place> + Clone) {
        #[cfg(all(target_arch = "x86_64", not(feature = "pg15")))]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            const LINE: usize = 64;
            // SAFETY: the relation is open.
            let number = unsafe { (*self.table.relation()).rd_locator.relNumber.to_u32() };
            let pages = places.filter(|place| place.block < self.blocks && place.offset > 0);
            // Where the pointer to the tuple is, where its page was last.
            let pointers = pages.filter_map(|place| {
                let known = Recent::of(number, place.block)?;
                let offset = size_of::<pg_sys::PageHeaderData>()
                    + size_of::<pg_sys::ItemIdData>() * (usize::from(place.offset) - 1);
                // SAFETY: buffers that were known once stay in shared memory, whatever page they hold by now.
                let page = unsafe { pg_sys::BufferGetPage(known) }.cast::<u8>();
                (offset + LINE <= pg_sys::BLCKSZ as usize).then_some((page, offset))
            });
            for (page, offset) in pointers.clone() {
                // SAFETY: within the page.
                unsafe {
                    _mm_prefetch::<_MM_HINT_T0>(page.cast());
                    _mm_prefetch::<_MM_HINT_T0>(page.add(offset).cast());
                }
            }
            for (page, offset) in pointers {
                // SAFETY: within the page; nobody relies on what is read, which others may change meanwhile.
                let at = unsafe { page.add(offset).cast::<u32>().read_volatile() } & 0x7fff;
                let at = at as usize;
                if at + 2 * LINE <= pg_sys::BLCKSZ as usize {
                    // SAFETY: within the page.
                    unsafe {
                        _mm_prefetch::<_MM_HINT_T0>(page.add(at).cast());
                        _mm_prefetch::<_MM_HINT_T0>(page.add(at + LINE).cast());
                    }
                }
            }
        }
        #[cfg(not(all(target_arch = "x86_64", not(feature = "pg15"))))]
        drop(places);
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
            self.pin(place.block);
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

    /// # Safety
    /// The table has the block.
    unsafe fn pin(&mut self, block: u32) {
        if self.pinned.1 != 0 && self.pinned.0 == block {
            return;
        }
        self.unpin();
        // SAFETY: the caller's promise; a buffer that is remembered is only pinned if it holds the block.
        unsafe {
            let relation = self.table.relation();
            #[cfg(not(feature = "pg15"))]
            {
                let locator = (*relation).rd_locator;
                let number = locator.relNumber.to_u32();
                let nth = Recent::nth(number, block);
                let known = RECENT.with_borrow_mut(|recent| {
                    if recent.is_empty() {
                        recent.resize(REMEMBERED, Recent::default());
                    }
                    recent[nth].times += 1;
                    recent[nth]
                });
                let main = pg_sys::ForkNumber::MAIN_FORKNUM;
                if known.buffer > 0
                    && known.times < ASKED
                    && (known.relation, known.block) == (number, block)
                    && pg_sys::ReadRecentBuffer(locator, main, block, known.buffer)
                {
                    self.pinned = (block, known.buffer);
                    return;
                }
                let buffer = pg_sys::ReadBuffer(relation, block);
                self.pinned = (block, buffer);
                RECENT.with_borrow_mut(|recent| {
                    recent[nth] = Recent {
                        relation: number,
                        block,
                        buffer,
                        times: 0,
                    };
                });
            }
            #[cfg(feature = "pg15")]
            {
                self.pinned = (block, pg_sys::ReadBuffer(relation, block));
            }
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

    /// Prepares for rows at these places.
    pub fn expect(&self, places: impl Iterator<Item = Option<Place>> + Clone) {
        if let Some(heap) = &self.heap {
            heap.expect(places.flatten());
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
