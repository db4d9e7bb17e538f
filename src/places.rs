//! Where the rows of a segment's entries are now, and whether it still knows.
//!
//! Segments note where rows were, so that a search need not ask an index for each. Places are those where the
//! chains of versions begin: there a row is found for longer.

use uuid::Uuid;

use crate::blocks::segment::{Head, Kind, PARTS_LEVEL, Part, Place};
use crate::error::{Error, Result};
use crate::scan::{Lookup, Parts, Table};

/// Entries that are looked at to tell whether rows have moved, as they do all together.
const SAMPLE: usize = 4;

/// A table that the caller owns.
pub fn owned(name: &std::ffi::CStr) -> Result<Table> {
    only_owned(Table::open(name)?, name)
}

/// A table that the caller owns, for adding rows.
pub fn owned_for_insert(name: &std::ffi::CStr) -> Result<Table> {
    only_owned(Table::open_for_insert(name)?, name)
}

fn only_owned(table: Table, name: &std::ffi::CStr) -> Result<Table> {
    if table.owned() {
        return Ok(table);
    }
    Err(Error::Forbidden {
        message: format!(
            "only the owner of engram.{} may look where its rows are",
            name.to_string_lossy()
        ),
        hint: "engram.reindex() does it with the rights that it takes.".to_owned(),
    })
}

/// The places where these rows' chains begin, by id; ids ascend, and `None` is nowhere. Of a table whose primary key
/// begins with workspace and memory, the rows of one model if it has models.
fn roots(
    table: &Table,
    memory: &'static std::ffi::CStr,
    workspace: Uuid,
    ids: &[Uuid],
    model: &str,
) -> Result<Vec<Option<Place>>> {
    let id = table.column(memory)?;
    let of_model = (!model.is_empty())
        .then(|| table.column(c"model"))
        .transpose()?;
    let mut places = vec![None; ids.len()];
    let mut rows: Lookup<'_, 2> = Lookup::upto(table, id.max(of_model.unwrap_or(0)))?;
    rows.seek_any([workspace, Uuid::nil()], ids);
    while let Some((root, row)) = rows.next_rooted() {
        pgrx::check_for_interrupts!();
        // SAFETY: setup() made the columns uuid and text.
        let (id, meant) = unsafe {
            let meant = of_model.is_none_or(|column| row.text(column) == Some(model));
            (row.uuid(id), meant)
        };
        if meant
            && let Some(id) = id
            && let Ok(nth) = ids.binary_search(&id)
        {
            places[nth] = Some(root);
        }
    }
    Ok(places)
}

/// Places of the rows of memories, or of their vectors of a model, and of the states of memories; ids ascend.
fn find(workspace: Uuid, model: &str, ids: &[Uuid]) -> Result<[Vec<Option<Place>>; 2]> {
    if !model.is_empty() {
        let vectors = owned(c"embeddings")?;
        let rows = roots(&vectors, c"memory_id", workspace, ids, model)?;
        return Ok([rows, Vec::new()]);
    }
    let (memories, states) = (owned(c"memories")?, owned(c"memory_state")?);
    Ok([
        roots(&memories, c"id", workspace, ids, "")?,
        roots(&states, c"memory_id", workspace, ids, "")?,
    ])
}

/// The values of a column of a segment from `number` on, part by part, until `visit` has seen enough.
fn each_part(
    parts: &mut Parts<'_>,
    cluster: i32,
    kind: Kind,
    number: usize,
    mut visit: impl FnMut(&[u8]) -> bool,
) -> Result<()> {
    parts.seek(PARTS_LEVEL, cluster, kind.key(number));
    while let Some(bytes) = parts.next() {
        let part = Part::parse(bytes).ok_or_else(Error::unreadable_block)?;
        if part.kind != kind || !visit(part.content) {
            break;
        }
    }
    Ok(())
}

/// Where the rows of all entries of a segment are, [`Place::BYTES`] each, zeros for nowhere, and where those of their
/// states are, which vectors do not have.
pub fn of_segment(workspace: Uuid, model: &str, cluster: i32) -> Result<(Vec<u8>, Vec<u8>)> {
    let blocks = owned(c"search_blocks")?;
    let mut ids: Vec<Uuid> = Vec::new();
    let mut parts = Parts::new(&blocks, workspace, model)?;
    each_part(&mut parts, cluster, Kind::Ids, 0, |content| {
        let these = content.as_chunks::<16>().0.iter();
        ids.extend(these.map(|id| Uuid::from_bytes(*id)));
        true
    })?;
    drop(parts);
    let bytes = |places: Vec<Option<Place>>| {
        let each = places.into_iter();
        each.flat_map(|p| p.map_or([0; Place::BYTES], Place::to_bytes))
            .collect()
    };
    let [rows, states] = find(workspace, model, &ids)?;
    Ok((bytes(rows), bytes(states)))
}

/// Whether a segment knows where its parts and the rows of its entries are, as far as a sample tells.
pub fn known(workspace: Uuid, model: &str, cluster: i32, head: &[u8]) -> Result<bool> {
    let blocks = owned(c"search_blocks")?;
    let head = Head::parse(head).ok_or_else(Error::unreadable_block)?;
    let mut parts = Parts::new(&blocks, workspace, model)?;
    // The first part, which is one of ids.
    parts.seek(PARTS_LEVEL, cluster, [0; 16]);
    let first = parts.row().map(|row| row.place().to_bytes().to_vec());
    if first.is_none() || head.first_place() != first {
        return Ok(false);
    }
    let value = |parts: &mut Parts<'_>, kind: Kind, entry: usize| -> Result<Option<Vec<u8>>> {
        let mut found = None;
        let (number, at) = (entry / kind.slice(), entry % kind.slice() * kind.width());
        each_part(parts, cluster, kind, number, |content| {
            found = content.get(at..at + kind.width()).map(<[u8]>::to_vec);
            false
        })?;
        Ok(found)
    };
    // By chance, as good as any: the entries that were looked at before may be the ones that stayed.
    let dice = crate::ids::next().as_u64_pair().1;
    let mut ids: Vec<(Uuid, usize)> = Vec::with_capacity(SAMPLE);
    for nth in 0..SAMPLE.min(head.n) {
        let entry = (dice >> (12 * nth)) as usize % head.n;
        let id = value(&mut parts, Kind::Ids, entry)?.and_then(|id| Uuid::from_slice(&id).ok());
        ids.extend(id.map(|id| (id, entry)));
    }
    ids.sort_unstable();
    ids.dedup();
    let [rows, states] = find(
        workspace,
        model,
        &ids.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
    )?;
    for (kind, places) in [(Kind::Rows, rows), (Kind::States, states)] {
        for ((_, entry), place) in ids.iter().zip(places) {
            // A row that is gone is nowhere to be missed.
            if let Some(place) = place
                && let Some(noted) = value(&mut parts, kind, *entry)?
                && noted != place.to_bytes()
            {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
