//! What a recall has been credited for. A showing, a use, feedback and a rating are credits of different kinds, and a memory
//! is credited once for each of them: a call that is repeated changes nothing.

use pgrx::datum::DatumWithOid;
use uuid::Uuid;

use crate::error::Result;
use crate::privilege::AsOwner;
use crate::scan::Table;
use crate::spi;

/// Statements on `recall_credits`. $1: workspace, $2: recall, $3: memories, $4: which list the kind of credit has.
struct Credits {
    /// Writes the row of a recall that has none.
    first: &'static str,
    /// What the list of the kind holds. Who comes second waits here for the first.
    known: &'static str,
    /// Appends to the list.
    append: &'static str,
}

/// A user may have written a list by hand, in more than one dimension, which unnest() flattens. A list that is NULL is of
/// a row that an older version wrote, which told no kinds apart: there the first one stands for all.
const BY_KIND: Credits = Credits {
    first: "INSERT INTO engram.recall_credits (workspace_id, recall_id, memory_ids, reinforced_ids, rated_ids) \
            VALUES ($1, $2, CASE $4 WHEN 0 THEN $3 ELSE '{}' END, CASE $4 WHEN 1 THEN $3 ELSE '{}' END, \
                    CASE $4 WHEN 2 THEN $3 ELSE '{}' END) \
            ON CONFLICT DO NOTHING",
    known: "SELECT ARRAY(SELECT unnest(CASE $4 WHEN 1 THEN coalesce(c.reinforced_ids, c.memory_ids) \
                                               WHEN 2 THEN coalesce(c.rated_ids, c.memory_ids) ELSE c.memory_ids END)) \
            FROM engram.recall_credits c WHERE c.workspace_id = $1 AND c.recall_id = $2 AND $3 IS NOT NULL FOR UPDATE",
    append: "UPDATE engram.recall_credits c \
             SET memory_ids = ARRAY(SELECT unnest(c.memory_ids)) || CASE $4 WHEN 0 THEN $3 ELSE '{}' END, \
                 reinforced_ids = ARRAY(SELECT unnest(coalesce(c.reinforced_ids, c.memory_ids))) || CASE $4 WHEN 1 THEN $3 ELSE '{}' END, \
                 rated_ids = ARRAY(SELECT unnest(coalesce(c.rated_ids, c.memory_ids))) || CASE $4 WHEN 2 THEN $3 ELSE '{}' END \
             WHERE c.workspace_id = $1 AND c.recall_id = $2",
};

/// Until setup() has run, the table of an older version has one list for all kinds.
const TOGETHER: Credits = Credits {
    first: "INSERT INTO engram.recall_credits (workspace_id, recall_id, memory_ids) \
            SELECT $1, $2, $3 WHERE $4 IS NOT NULL ON CONFLICT DO NOTHING",
    known: "SELECT ARRAY(SELECT unnest(c.memory_ids)) FROM engram.recall_credits c \
            WHERE c.workspace_id = $1 AND c.recall_id = $2 AND $3 IS NOT NULL AND $4 IS NOT NULL FOR UPDATE",
    append: "UPDATE engram.recall_credits c SET memory_ids = ARRAY(SELECT unnest(c.memory_ids)) || $3 \
             WHERE c.workspace_id = $1 AND c.recall_id = $2 AND $4 IS NOT NULL",
};

/// Leaves those that the recall has not credited yet with this kind of credit, one of those of `access_queue`, and
/// remembers them. The caller may write the workspace.
pub fn uncredited(
    workspace: Uuid,
    recall_id: pgrx::Uuid,
    kind: &str,
    ids: &mut Vec<Uuid>,
) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let table = Table::open(c"recall_credits")?;
    let known_apart = table.column(c"reinforced_ids").is_ok() && table.column(c"rated_ids").is_ok();
    let statements = if known_apart { BY_KIND } else { TOGETHER };
    // As where the call is noted, and for its reason.
    let _owner = table.owner_for_writing().map(AsOwner::new);
    drop(table);
    let list = match kind {
        "reinforced" => 1,
        "rated" => 2,
        _ => 0,
    };
    // What is shown comes before what is used of it, or after it: both are credited, so the one must not stand in the
    // list of the other. It has a row of its own, whose id follows from that of the recall.
    let recall_id = match kind {
        "shown" => spi::pg_uuid(Uuid::new_v5(&spi::uuid(recall_id), b"shown")),
        _ => recall_id,
    };
    let args = |ids: &[Uuid]| {
        [
            DatumWithOid::from(spi::pg_uuid(workspace)),
            DatumWithOid::from(recall_id),
            DatumWithOid::from(spi::pg_uuids(ids)),
            DatumWithOid::from(list),
        ]
    };
    if spi::change(statements.first, &args(ids))? > 0 {
        return Ok(());
    }
    // A retry, or a second call for the same recall.
    let known = spi::changed(statements.known, &args(ids), |row| {
        Ok(row.get::<Vec<Option<pgrx::Uuid>>>(1)?.unwrap_or_default())
    })?;
    let known: Vec<Uuid> = known
        .into_iter()
        .flatten()
        .flatten()
        .map(spi::uuid)
        .collect();
    ids.retain(|id| !known.contains(id));
    if !ids.is_empty() {
        spi::change(statements.append, &args(ids))?;
    }
    Ok(())
}
