//! Packing small blocks where entries are added, without a statement.
//!
//! What `engram_internal.pack_sometimes()` does after new entries. Here only the common case is done: blocks of few
//! entries become fuller ones. Whatever else is due is left to the function.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use uuid::Uuid;

use crate::blocks::{self, Merged, Unreadable};
use crate::error::Result;
use crate::privilege::AsOwner;
use crate::scan::{Fresh, Parts, Table};
use crate::store::BLOCKS;
use crate::write::{self, Value, Writer};
use crate::{ids, locks, spi};

/// New entries for which it is worth to pack, and to look whether a segment is full.
const PACKED: u64 = 24;
const SEALED: u64 = 128;
/// Blocks below which nothing is packed: of new entries, and of entries that replace others.
const FEW: usize = 16;
const FEW_REPLACING: usize = 20;
/// Entries of a segment, at least (of documents, of whose rows filters ask as long as they are in blocks, and of
/// vectors) and at most.
const SEGMENT: ([i32; 2], i32) = ([256, 1024], 4096);
/// Blocks that are packed at once, so that nobody does all at once what many have left.
const AT_ONCE: usize = 200;

/// Packs by chance, so that nobody need count: about once for every 24 new entries. `table` is `search_blocks`,
/// locked for writing; whether the caller may is not asked.
pub fn sometimes(table: &Table, workspace: Uuid, model: &str, added: usize) -> Result<()> {
    // The last bytes of an id are as good as two dice.
    let dice = ids::next().as_u64_pair().1;
    let (first, second) = (dice & 0xffff_ffff, dice >> 32 & 0x00ff_ffff);
    let added = added as u64;
    if added == 0 || first % PACKED >= added {
        return Ok(());
    }
    // One at a time in a workspace, until its end is visible to the next, and under a snapshot taken
    // afterwards: see pack(). Nobody waits here.
    if !locks::try_own_work(workspace, "pack") {
        return Ok(());
    }
    let waiting = {
        let _snapshot = Fresh::new();
        few(table, workspace, model)?;
        count(table, workspace, model, 0, FEW_REPLACING)?
    };
    write::done();
    // What comes once for so many entries is asked about when it was packed for so many.
    let due = second % SEALED.div_ceil(PACKED.max(added)) == 0;
    let least = SEGMENT.0[usize::from(!model.is_empty())];
    let full = due && {
        let _snapshot = Fresh::new();
        entries(table, workspace, model, least)? >= least
    };
    if waiting < FEW_REPLACING && !full {
        return Ok(());
    }
    let _owner = AsOwner::new(table.owner());
    let workspace = || DatumWithOid::from(spi::pg_uuid(workspace));
    let model = || DatumWithOid::from(model);
    if waiting >= FEW_REPLACING {
        spi::changed(
            "SELECT engram_internal.pack($1, $2, true, $3)",
            &[
                workspace(),
                model(),
                DatumWithOid::from(FEW_REPLACING as i32),
            ],
            |_| Ok(()),
        )?;
    }
    if full {
        spi::changed(
            "SELECT engram_internal.seal($1, $2, $3, $4)",
            &[
                workspace(),
                model(),
                DatumWithOid::from(least),
                DatumWithOid::from(SEGMENT.1),
            ],
            |_| Ok(()),
        )?;
    }
    Ok(())
}

/// Makes fuller blocks of those with few entries.
fn few(table: &Table, workspace: Uuid, model: &str) -> Result<()> {
    let mut found: Vec<(pg_sys::ItemPointerData, Vec<u8>)> = Vec::with_capacity(2 * FEW);
    let mut rows = Parts::new(table, workspace, model)?;
    let block = rows.column();
    rows.seek(1, 0, [0; 16]);
    while found.len() < AT_ONCE
        && let Some(row) = rows.row()
    {
        // SAFETY: the column is `bytea`.
        if let Some(bytes) = unsafe { row.bytes(block) } {
            found.push((row.at, bytes.to_vec()));
        }
    }
    drop(rows);
    if found.len() < FEW {
        return Ok(());
    }
    // One that cannot be read: reindex() mends it, and until then writing goes on.
    let Ok(mut merged) = merge(&found) else {
        return Ok(());
    };
    let Some(mut writer) = Writer::open(table, &BLOCKS) else {
        return Ok(());
    };
    // What somebody else is taking away meanwhile is theirs.
    let all = found.len();
    found.retain(|(at, _)| write::delete(table, *at));
    if found.len() < all {
        merged = merge(&found).expect("they could be read before");
    }
    writer.insert_all(merged.iter().map(|m| {
        [
            Value::Uuid(workspace),
            Value::Text(model),
            Value::Int2(if m.full { 2 } else { 1 }),
            Value::Int4(0),
            Value::Uuid(ids::next()),
            Value::Int4(i32::try_from(m.entries).unwrap_or(i32::MAX)),
            Value::Bytes(&m.bytes),
        ]
    }));
    Ok(())
}

fn merge(
    found: &[(pg_sys::ItemPointerData, Vec<u8>)],
) -> core::result::Result<Vec<Merged>, Unreadable> {
    let parts: Vec<&[u8]> = found.iter().map(|(_, bytes)| bytes.as_slice()).collect();
    blocks::merge(&parts, blocks::ROOM, false)
}

/// How many blocks of a level there are, counted as far as `most`.
fn count(table: &Table, workspace: Uuid, model: &str, level: i16, most: usize) -> Result<usize> {
    let mut rows = Parts::new(table, workspace, model)?;
    rows.seek(level, 0, [0; 16]);
    let mut count = 0;
    while count < most && rows.row().is_some() {
        count += 1;
    }
    Ok(count)
}

/// How many entries full blocks have that are in no segment, counted as far as `most`.
fn entries(table: &Table, workspace: Uuid, model: &str, most: i32) -> Result<i32> {
    let column = table.column(c"entries")?;
    let mut rows = Parts::new(table, workspace, model)?;
    rows.seek(2, 0, [0; 16]);
    let mut sum = 0;
    while sum < most
        && let Some(row) = rows.row()
    {
        // SAFETY: the column is `integer`.
        sum += unsafe { row.get::<i32>(column) }.unwrap_or(0);
    }
    Ok(sum)
}
