//! What engram is compared with: one wide table `docs` and searches over it in SQL.

use postgres::Client;

use super::Result;
use super::server::ROLE;

/// Settings of a connection that reads vectors through HNSW until enough rows pass the filter. The
/// planner prices an exact scan without the TOAST table that it reads, so the index is chosen for it.
pub const ITERATIVE: &str = "SET hnsw.iterative_scan = relaxed_order; SET enable_sort = off";
/// Settings of a connection that computes every distance. Bitmap scans, which GIN and the tenant's
/// B-tree serve, stay.
pub const EXACT: &str = "SET enable_indexscan = off";

/// The table, its policy and the functions, with vectors of `dims` dimensions; no indexes yet.
pub fn create(admin: &mut Client, dims: usize) -> Result<()> {
    let table = include_str!("../speed/baselines/table.sql")
        .replace("@dims@", &dims.to_string())
        .replace("@role@", ROLE);
    admin.batch_execute(&table)?;
    let published = include_str!("../speed/baselines/published.sql");
    admin.batch_execute(&published.replace("@dims@", &dims.to_string()))?;
    for source in [
        include_str!("../speed/baselines/repaired.sql"),
        include_str!("../speed/baselines/filtered.sql"),
    ] {
        // A tag that may be NULL would spoil the plans of searches without one.
        for (suffix, condition) in [("", ""), ("_tagged", "AND d.tags @> ARRAY[tag]")] {
            let function = source
                .replace("@suffix@", suffix)
                .replace("@tagged@", condition);
            admin.batch_execute(&function)?;
        }
    }
    Ok(())
}

/// The indexes, built after loading as anybody would.
pub fn index(admin: &mut Client, rows: usize, dims: usize) -> Result<()> {
    // The graph should fit: building it on disk takes several times as long.
    let megabytes = (rows * dims * 8 / 1_000_000 + 256).min(4096);
    admin.batch_execute(&format!("SET maintenance_work_mem = '{megabytes}MB'"))?;
    admin.batch_execute(include_str!("../speed/baselines/indexes.sql"))?;
    admin.batch_execute("RESET maintenance_work_mem")?;
    Ok(())
}
