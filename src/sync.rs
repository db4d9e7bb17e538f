//! Where the events of memories come from, so that a device that synchronises knows what it has seen.

use pgrx::pg_sys;

/// A number for this table of events in this database of this cluster; 0 when there is no table. Rows that
/// a dump brought into another place carry another number: their transaction ids mean nothing there.
pub fn origin() -> i64 {
    // SAFETY: look-ups in the backend's caches by constant names, and two plain values of this backend.
    let (cluster, database, table) = unsafe {
        let schema = pg_sys::get_namespace_oid(c"engram".as_ptr(), true);
        let table = pg_sys::get_relname_relid(c"memory_events".as_ptr(), schema);
        (pg_sys::GetSystemIdentifier(), pg_sys::MyDatabaseId, table)
    };
    if table == pg_sys::InvalidOid {
        return 0;
    }
    let places = (u64::from(database.to_u32()) << 32) | u64::from(table.to_u32());
    i64::from_ne_bytes(mixed(cluster ^ mixed(places)).to_ne_bytes())
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit of the input reaches every bit of the result.
const fn mixed(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
