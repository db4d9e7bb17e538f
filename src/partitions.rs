//! Which partition of a table by time a row belongs into.

use std::ffi::CStr;

use pgrx::pg_sys;

/// The bounds of a table that is partitioned by RANGE over one timestamptz.
pub struct Routes {
    /// In ascending order: the moments, in microseconds since the epoch of PostgreSQL, at which one partition
    /// ends and another begins.
    bounds: Vec<i64>,
    /// The partition before each bound and the one after the last; `None` where there is a gap.
    between: Vec<Option<usize>>,
    /// The default one.
    rest: Option<usize>,
    partitions: Vec<pg_sys::Oid>,
}

impl Routes {
    /// Reads the partitions of `engram.<name>` and locks the table for writing, so that none comes or
    /// goes until the end of the transaction. `None` when rows added to it would have to be shown to
    /// triggers or rules, or when it is not partitioned so.
    pub fn open(name: &CStr) -> Option<Self> {
        // SAFETY: catalog look-ups by C strings; the relation is open while what hangs on its cache entry
        // is copied, and the lists are as long as their counts say.
        unsafe {
            let schema = pg_sys::get_namespace_oid(c"engram".as_ptr(), true);
            let oid = pg_sys::get_relname_relid(name.as_ptr(), schema);
            if oid == pg_sys::InvalidOid {
                return None;
            }
            let relation = pg_sys::table_open(oid, pg_sys::RowExclusiveLock as i32);
            let class = &*(*relation).rd_rel;
            let quiet = (*relation).trigdesc.is_null() && !class.relhasrules;
            let partitioned = u8::try_from(class.relkind) == Ok(pg_sys::RELKIND_PARTITIONED_TABLE);
            let routes = (quiet && partitioned)
                .then(|| Self::read(&*pg_sys::RelationGetPartitionDesc(relation, true)))
                .flatten();
            pg_sys::table_close(relation, pg_sys::NoLock as i32);
            routes
        }
    }

    /// # Safety
    /// The description must be that of a table that is open.
    unsafe fn read(parts: &pg_sys::PartitionDescData) -> Option<Self> {
        let count = usize::try_from(parts.nparts).ok()?;
        // SAFETY: the caller's promise; see above.
        unsafe {
            if count == 0 || parts.boundinfo.is_null() {
                return None;
            }
            let info = &*parts.boundinfo;
            if u32::from(info.strategy as u8) != u32::from(b'r') {
                return None;
            }
            let place = |index: i32| usize::try_from(index).ok();
            let mut bounds = Vec::new();
            for nth in 0..usize::try_from(info.ndatums).ok()? {
                bounds.push(match **info.kind.add(nth) {
                    pg_sys::PartitionRangeDatumKind::PARTITION_RANGE_DATUM_MINVALUE => i64::MIN,
                    pg_sys::PartitionRangeDatumKind::PARTITION_RANGE_DATUM_MAXVALUE => i64::MAX,
                    _ => (**info.datums.add(nth)).value() as i64,
                });
            }
            let between = (0..=bounds.len())
                .map(|nth| {
                    let known = nth < usize::try_from(info.nindexes).unwrap_or(0);
                    known.then(|| place(*info.indexes.add(nth))).flatten()
                })
                .collect();
            Some(Self {
                bounds,
                between,
                rest: place(info.default_index),
                partitions: std::slice::from_raw_parts(parts.oids, count).to_vec(),
            })
        }
    }

    /// The partition of a moment; `None` where there is none.
    pub fn find(&self, at: i64) -> Option<pg_sys::Oid> {
        let after = self.bounds.partition_point(|bound| *bound <= at);
        let nth = self.between[after].or(self.rest)?;
        self.partitions.get(nth).copied()
    }
}
