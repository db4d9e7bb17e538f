//! Reading the uses of many memories at once.
//!
//! By index scan, row after row, most of the time goes into finding a row again in a page that was just left. Here
//! places are gathered from the index first, and each page is visited once, as a bitmap scan does. The pages that come
//! next are fetched meanwhile.

use std::cell::RefCell;
use std::ffi::CStr;
use std::num::NonZeroUsize;
use std::ops::Range;

use pgrx::{PgTupleDesc, pg_sys};
use uuid::Uuid;

use crate::error::Result;
use crate::heap::{Pages, Places, raw};
use crate::model::heat::BYTES;
use crate::scan::{Row, Table, Tuple};

/// What `memory_state` says of the uses of a memory.
pub struct Used {
    pub memory: Uuid,
    /// Uses, storing it included.
    pub count: i64,
    /// Microseconds since the epoch of PostgreSQL.
    pub last: i64,
    /// As it is stored; `None` in rows of memories that were never used, and of older versions.
    pub heat: Option<[u8; BYTES]>,
    workspace: Uuid,
    /// Where the index says that it is.
    place: u64,
}

/// Columns of `memory_state` that are read.
const COLUMNS: [&CStr; 5] = [
    c"workspace_id",
    c"memory_id",
    c"access_count",
    c"last_accessed_at",
    c"heat",
];
/// The last of them in a row.
const HEAT: usize = COLUMNS.len() - 1;

thread_local! {
    static PLACES: RefCell<Places> = const { RefCell::new(Places::new()) };
}

/// Where in a row the values of [`COLUMNS`] begin, as setup() makes the table: all columns before `heat` are of fixed length
/// and never NULL.
struct Layout {
    numbers: [NonZeroUsize; COLUMNS.len()],
    /// `None` for a table that somebody made otherwise.
    offsets: Option<[usize; COLUMNS.len()]>,
}

impl Layout {
    fn of(states: &Table) -> Result<Self> {
        let mut numbers = [NonZeroUsize::MIN; COLUMNS.len()];
        for (number, name) in numbers.iter_mut().zip(COLUMNS) {
            *number = NonZeroUsize::new(usize::from(states.column(name)?.unsigned_abs()))
                .unwrap_or(NonZeroUsize::MIN);
        }
        // SAFETY: the relation is open.
        let of = unsafe { PgTupleDesc::from_pg_unchecked((*states.relation()).rd_att) };
        let mut offsets = Some([0; COLUMNS.len()]);
        let mut at = 0;
        for (nth, column) in of.iter().take(numbers[HEAT].get()).enumerate() {
            if let Some(which) = numbers.iter().position(|number| number.get() == nth + 1)
                && let Some(offsets) = &mut offsets
            {
                offsets[which] = at;
            }
            let last = nth + 1 == numbers[HEAT].get();
            // Those in front are ids, numbers and times: 8 or 16 bytes, which need no gaps.
            let plain = column.attnotnull && matches!(column.attlen, 8 | 16);
            if !(last || plain) {
                offsets = None;
            }
            at += usize::try_from(column.attlen).unwrap_or(0);
        }
        Ok(Self { numbers, offsets })
    }

    /// Reads a row where it lies; `None` if that is not as setup() and folds make it.
    ///
    /// # Safety
    /// The tuple is one of the table that this is the layout of, and stays while this runs.
    unsafe fn read(&self, tuple: &pg_sys::HeapTupleData, place: u64) -> Option<Used> {
        let [workspace, memory, count, last, heat] = self.offsets?;
        let nth = self.numbers[HEAT].get() - 1;
        // SAFETY: the caller's promise: values of the columns' types lie where the layout says.
        unsafe {
            let header = &*tuple.t_data;
            if usize::from(header.t_infomask2 & pg_sys::HEAP_NATTS_MASK as u16) <= nth {
                return None;
            }
            let start = tuple.t_data.cast::<u8>().add(usize::from(header.t_hoff));
            let null = header.t_infomask & pg_sys::HEAP_HASNULL as u16 != 0
                && *header.t_bits.as_ptr().add(nth / 8) & (1 << (nth % 8)) == 0;
            let heat = if null {
                None
            } else if *start.add(heat) == SHORT {
                Some(start.add(heat + 1).cast::<[u8; BYTES]>().read())
            } else {
                return None;
            };
            Some(Used {
                memory: Uuid::from_bytes(start.add(memory).cast::<[u8; 16]>().read()),
                count: start.add(count).cast::<i64>().read_unaligned(),
                last: start.add(last).cast::<i64>().read_unaligned(),
                heat,
                workspace: Uuid::from_bytes(start.add(workspace).cast::<[u8; 16]>().read()),
                place,
            })
        }
    }

    /// Any row.
    ///
    /// # Safety
    /// The row is of the table that this is the layout of.
    unsafe fn any(&self, row: &Row<'_>) -> Option<Used> {
        let [workspace, memory, count, last, heat] = self.numbers.map(|number| number.get() as i16);
        // SAFETY: the caller's promise; setup() gave the columns these types.
        unsafe {
            Some(Used {
                memory: row.uuid(memory)?,
                count: row.get(count).unwrap_or(1),
                last: row.get(last).unwrap_or(0),
                // What has another length cannot be read, and is not to pass for nothing.
                heat: row
                    .bytes(heat)
                    .map(|bytes| bytes.try_into().unwrap_or([0; BYTES])),
                workspace: row.uuid(workspace)?,
                place: 0,
            })
        }
    }
}

/// The header of a heat: its length with that of the header, times two and one.
#[cfg(target_endian = "little")]
const SHORT: u8 = ((BYTES + 1) << 1 | 1) as u8;
#[cfg(target_endian = "big")]
const SHORT: u8 = (BYTES + 1) as u8 | 0x80;

/// Rows that are handed out together.
const BATCH: usize = 256;

/// So many pages ahead, the beginning of a page is fetched, and later its rows.
const FAR: usize = 16;
const NEAR: usize = 6;

/// Bytes of a row that are read, its header and what lies before them included.
const READ: usize = 192;

/// Calls `visit` with the states of some memories of a workspace, or of all, that have one: some at a time, in no order.
/// Ids are sorted, each once. The caller was allowed the workspace; what policies hide is not hidden here. Under the
/// active snapshot.
pub fn each(
    states: &Table,
    workspace: Uuid,
    ids: Option<&[Uuid]>,
    mut visit: impl FnMut(&mut Vec<Used>) -> Result<()>,
) -> Result<()> {
    let layout = Layout::of(states)?;
    let relation = states.relation();
    // SAFETY: the relation is open.
    if unsafe { (*(*relation).rd_rel).relam } != pg_sys::HEAP_TABLE_AM_OID {
        return states.each(Some(workspace), i16::MAX, |row| {
            // SAFETY: a row of this table.
            let used = unsafe { layout.any(&row) };
            used.filter(|used| ids.is_none_or(|ids| ids.contains(&used.memory)))
                .map_or(Ok(()), |used| visit(&mut vec![used]))
        });
    }
    let Some(ids) = ids else {
        let places = states.places(workspace, None)?;
        return at_places(states, &layout, &places, visit);
    };
    // SAFETY: the relation is open.
    let blocks = unsafe {
        pg_sys::RelationGetNumberOfBlocksInFork(relation, pg_sys::ForkNumber::MAIN_FORKNUM)
    };
    let mut known: Vec<u64> = PLACES.with_borrow(|places| {
        let known = ids.iter().filter_map(|id| places.get(states, id));
        known.filter(|place| place >> 16 < blocks.into()).collect()
    });
    known.sort_unstable();
    known.dedup();
    let mut there = vec![false; ids.len()];
    at_places(states, &layout, &known, |some| {
        some.retain(|state| {
            let nth = ids.binary_search(&state.memory);
            state.workspace == workspace
                && nth.is_ok_and(|nth| !std::mem::replace(&mut there[nth], true))
        });
        visit(some)
    })?;
    let rest: Vec<Uuid> = ids
        .iter()
        .zip(there)
        .filter_map(|(id, there)| (!there).then_some(*id))
        .collect();
    if rest.is_empty() {
        return Ok(());
    }
    let places = states.places(workspace, Some(&rest))?;
    at_places(states, &layout, &places, |some| {
        PLACES.with_borrow_mut(|places| {
            for state in some.iter() {
                places.note(states, &state.memory, state.place);
            }
        });
        visit(some)
    })
}

/// Calls `visit` with the rows at places, which are in the order of pages.
fn at_places(
    states: &Table,
    layout: &Layout,
    places: &[u64],
    mut visit: impl FnMut(&mut Vec<Used>) -> Result<()>,
) -> Result<()> {
    // SAFETY: the relation is an open heap.
    let reader = unsafe { Reader::new(states, layout, places) };
    let of_pages = &reader.of_pages;
    let mut found: Vec<Used> = Vec::with_capacity(places.len().min(2 * BATCH));
    let mut others: Vec<pg_sys::HeapTuple> = Vec::new();
    let mut next = 0;
    while next < of_pages.len() {
        pgrx::check_for_interrupts!();
        let first = next;
        let start = of_pages[first].start;
        while next < of_pages.len() && of_pages[next].end <= start + BATCH {
            next += 1;
        }
        next = next.max(first + 1);
        let most = of_pages[next - 1].end - start;
        found.reserve(most);
        others.reserve(most);
        // SAFETY: after an error the abort releases page and lock, and nothing in here wants to be dropped: there is
        // room in both lists.
        unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                for nth in first..next {
                    reader.read_page(nth, &mut found, &mut others);
                }
            });
        }
        for tuple in others.drain(..) {
            let tuple = Tuple::new(states, tuple);
            // SAFETY: a row of this table.
            found.extend(unsafe { layout.any(&tuple.row()) });
        }
        visit(&mut found)?;
        found.clear();
    }
    Ok(())
}

/// The page that a place is on.
fn block(place: u64) -> u32 {
    (place >> 16) as u32
}

/// Reads rows page by page.
struct Reader<'a> {
    states: &'a Table,
    layout: &'a Layout,
    /// Where rows are, in the order of pages.
    places: &'a [u64],
    /// Which of them are of one page each.
    of_pages: Vec<Range<usize>>,
    pages: Pages,
    snapshot: pg_sys::Snapshot,
    /// A page that says that all transactions see its rows is believed.
    plain: bool,
}

impl<'a> Reader<'a> {
    /// # Safety
    /// The table is a heap, of which this is the layout and which has these places.
    unsafe fn new(states: &'a Table, layout: &'a Layout, places: &'a [u64]) -> Self {
        let mut at = 0;
        let of_pages: Vec<Range<usize>> = places
            .chunk_by(|a, b| a >> 16 == b >> 16)
            .map(|page| {
                at += page.len();
                at - page.len()..at
            })
            .collect();
        // SAFETY: the caller's promise; what the snapshot is, and how this transaction is isolated, is read.
        unsafe {
            let snapshot = pg_sys::GetActiveSnapshot();
            let serializable = pg_sys::XactIsoLevel == pg_sys::XACT_SERIALIZABLE as i32;
            Self {
                states,
                layout,
                places,
                of_pages,
                pages: Pages::new(states.relation()),
                snapshot,
                plain: !serializable && !(*snapshot).takenDuringRecovery,
            }
        }
    }

    /// Fetches what is read some pages after this one.
    fn approach_after(&self, nth: usize) {
        if let Some(page) = self.of_pages.get(nth + FAR) {
            let place = self.places[page.start];
            self.pages.approach(block(place), place as u16);
        }
        if let Some(page) = self.of_pages.get(nth + NEAR) {
            for place in &self.places[page.clone()] {
                self.pages.approach_row(block(*place), *place as u16, READ);
            }
        }
    }

    /// Reads the rows of a page; copies those that are not read where they lie.
    ///
    /// # Safety
    /// A guard is around, with nothing in between that wants to be dropped. There is room in both lists.
    unsafe fn read_page(
        &self,
        nth: usize,
        found: &mut Vec<Used>,
        others: &mut Vec<pg_sys::HeapTuple>,
    ) {
        self.approach_after(nth);
        let relation = self.states.relation();
        let places = &self.places[self.of_pages[nth].clone()];
        // SAFETY: the caller's promise, and places of rows of an open heap: under the lock on the page values are read
        // where they lie and copied.
        unsafe {
            let buffer = self.pages.pin(block(places[0]));
            raw::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
            let content = pg_sys::BufferGetPage(buffer).cast::<pg_sys::PageHeaderData>();
            let all = self.plain && (*content).pd_flags & pg_sys::PD_ALL_VISIBLE as u16 != 0;
            for place in places {
                let mut tid = pg_sys::ItemPointerData {
                    ip_blkid: pg_sys::BlockIdData {
                        bi_hi: (place >> 32) as u16,
                        bi_lo: (place >> 16) as u16,
                    },
                    ip_posid: *place as u16,
                };
                let mut tuple = pg_sys::HeapTupleData::default();
                let there = if all {
                    known_visible(content, tid, &mut tuple)
                } else {
                    raw::heap_hot_search_buffer(
                        &raw mut tid,
                        relation,
                        buffer,
                        self.snapshot,
                        &raw mut tuple,
                        std::ptr::null_mut(),
                        true,
                    )
                };
                if there {
                    match self.layout.read(&tuple, *place) {
                        Some(used) => found.push(used),
                        None => others.push(raw::heap_copytuple(&raw mut tuple)),
                    }
                }
            }
            raw::UnlockReleaseBuffer(buffer);
        }
    }
}

/// The row to which an index leads, on a page whose rows all transactions see: such a page has no other versions of them.
///
/// # Safety
/// The page is of a heap and locked.
unsafe fn known_visible(
    page: *const pg_sys::PageHeaderData,
    mut at: pg_sys::ItemPointerData,
    tuple: &mut pg_sys::HeapTupleData,
) -> bool {
    // SAFETY: the caller's promise: entries lie up to `pd_lower`, rows where these say.
    unsafe {
        let before = std::mem::offset_of!(pg_sys::PageHeaderData, pd_linp);
        let count = usize::from((*page).pd_lower).saturating_sub(before) / 4;
        let mut moved = false;
        for _ in 0..2 {
            let nth = usize::from(at.ip_posid);
            if nth == 0 || nth > count {
                return false;
            }
            let item = page
                .cast::<u8>()
                .add(before)
                .cast::<pg_sys::ItemIdData>()
                .add(nth - 1);
            match (*item).lp_flags() {
                pg_sys::LP_NORMAL => {
                    tuple.t_len = (*item).lp_len();
                    tuple.t_self = at;
                    tuple.t_data = page
                        .cast::<u8>()
                        .add((*item).lp_off() as usize)
                        .cast_mut()
                        .cast();
                    // To one that no index knows only the entry of another one leads.
                    let alone = (*tuple.t_data).t_infomask2 & pg_sys::HEAP_ONLY_TUPLE as u16 == 0;
                    return alone || moved;
                }
                pg_sys::LP_REDIRECT => {
                    at.ip_posid = (*item).lp_off() as u16;
                    moved = true;
                }
                _ => return false,
            }
        }
        false
    }
}
