//! Reading the uses of many memories at once.
//!
//! By index scan, row after row, most of the time goes into finding a row again in a page that was just left. Here
//! places are gathered from the index first, and each page is visited once, as a bitmap scan does.

use std::ffi::CStr;
use std::num::NonZeroUsize;

use pgrx::{PgTupleDesc, pg_sys};
use uuid::Uuid;

use crate::error::Result;
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
}

/// Columns of `memory_state` that are read.
const COLUMNS: [&CStr; 4] = [c"memory_id", c"access_count", c"last_accessed_at", c"heat"];

/// Functions of the server without a guard of their own, as in [`crate::scan`].
mod raw {
    use pgrx::pg_sys;

    unsafe extern "C-unwind" {
        pub fn heap_hot_search_buffer(
            tid: pg_sys::ItemPointer,
            relation: pg_sys::Relation,
            buffer: pg_sys::Buffer,
            snapshot: pg_sys::Snapshot,
            tuple: pg_sys::HeapTuple,
            all_dead: *mut bool,
            first_call: bool,
        ) -> bool;
        pub fn heap_copytuple(tuple: pg_sys::HeapTuple) -> pg_sys::HeapTuple;
        pub fn ReadBuffer(relation: pg_sys::Relation, block: u32) -> pg_sys::Buffer;
        pub fn LockBuffer(buffer: pg_sys::Buffer, mode: i32);
        pub fn UnlockReleaseBuffer(buffer: pg_sys::Buffer);
    }
}

/// Where in a row the values of [`COLUMNS`] begin, as setup() makes the table: all columns before `heat` are of fixed length
/// and never NULL.
struct Layout {
    numbers: [NonZeroUsize; 4],
    /// `None` for a table that somebody made otherwise.
    offsets: Option<[usize; 4]>,
}

impl Layout {
    fn of(states: &Table) -> Result<Self> {
        let mut numbers = [NonZeroUsize::MIN; 4];
        for (number, name) in numbers.iter_mut().zip(COLUMNS) {
            *number = NonZeroUsize::new(usize::from(states.column(name)?.unsigned_abs()))
                .unwrap_or(NonZeroUsize::MIN);
        }
        // SAFETY: the relation is open.
        let of = unsafe { PgTupleDesc::from_pg_unchecked((*states.relation()).rd_att) };
        let mut offsets = Some([0; 4]);
        let mut at = 0;
        for (nth, column) in of.iter().take(numbers[3].get()).enumerate() {
            if let Some(which) = numbers.iter().position(|number| number.get() == nth + 1)
                && let Some(offsets) = &mut offsets
            {
                offsets[which] = at;
            }
            let last = nth + 1 == numbers[3].get();
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
    unsafe fn read(&self, tuple: &pg_sys::HeapTupleData) -> Option<Used> {
        let [memory, count, last, heat] = self.offsets?;
        let nth = self.numbers[3].get() - 1;
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
            })
        }
    }

    /// Any row.
    ///
    /// # Safety
    /// The row is of the table that this is the layout of.
    unsafe fn any(&self, row: &Row<'_>) -> Option<Used> {
        let [memory, count, last, heat] = self.numbers.map(|number| number.get() as i16);
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
            })
        }
    }
}

/// The header of a heat: its length with that of the header, times two and one.
#[cfg(target_endian = "little")]
const SHORT: u8 = ((BYTES + 1) << 1 | 1) as u8;
#[cfg(target_endian = "big")]
const SHORT: u8 = (BYTES + 1) as u8 | 0x80;

/// Calls `visit` with the state of each of some memories of a workspace, or of all, that has one, in no order. Each id is
/// to be given once. The caller was allowed the workspace; what policies hide is not hidden here. Under the active
/// snapshot.
pub fn each(
    states: &Table,
    workspace: Uuid,
    ids: Option<&[Uuid]>,
    mut visit: impl FnMut(Used) -> Result<()>,
) -> Result<()> {
    let layout = Layout::of(states)?;
    let relation = states.relation();
    // SAFETY: the relation is open.
    if unsafe { (*(*relation).rd_rel).relam } != pg_sys::HEAP_TABLE_AM_OID {
        return states.each(Some(workspace), i16::MAX, |row| {
            // SAFETY: a row of this table.
            let used = unsafe { layout.any(&row) };
            used.filter(|used| ids.is_none_or(|ids| ids.contains(&used.memory)))
                .map_or(Ok(()), &mut visit)
        });
    }
    let places = states.places(workspace, ids)?;
    let mut found: Vec<Used> = Vec::new();
    let mut others: Vec<pg_sys::HeapTuple> = Vec::new();
    for page in places.chunk_by(|a, b| a >> 16 == b >> 16) {
        pgrx::check_for_interrupts!();
        found.reserve(page.len());
        others.reserve(page.len());
        // SAFETY: places of rows of the open relation, which is a heap; under the lock on the page values are read
        // where they lie and copied. After an error the abort releases page and lock, and nothing in here wants to be
        // dropped.
        unsafe {
            let snapshot = pg_sys::GetActiveSnapshot();
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                let buffer = raw::ReadBuffer(relation, (page[0] >> 16) as u32);
                raw::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
                for place in page {
                    let mut tid = pg_sys::ItemPointerData {
                        ip_blkid: pg_sys::BlockIdData {
                            bi_hi: (place >> 32) as u16,
                            bi_lo: (place >> 16) as u16,
                        },
                        ip_posid: *place as u16,
                    };
                    let mut tuple = pg_sys::HeapTupleData::default();
                    if raw::heap_hot_search_buffer(
                        &raw mut tid,
                        relation,
                        buffer,
                        snapshot,
                        &raw mut tuple,
                        std::ptr::null_mut(),
                        true,
                    ) {
                        match layout.read(&tuple) {
                            Some(used) => found.push(used),
                            None => others.push(raw::heap_copytuple(&raw mut tuple)),
                        }
                    }
                }
                raw::UnlockReleaseBuffer(buffer);
            });
        }
        for used in found.drain(..) {
            visit(used)?;
        }
        for tuple in others.drain(..) {
            let tuple = Tuple::new(states, tuple);
            // SAFETY: a row of this table.
            unsafe { layout.any(&tuple.row()) }.map_or(Ok(()), &mut visit)?;
        }
    }
    Ok(())
}
