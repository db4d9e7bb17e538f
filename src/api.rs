//! The functions that SQL sees. Each turns arguments into domain types, calls one function and
//! turns its error into a report; the declarations are in `sql/extension`.

use std::borrow::Cow;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::datum::datetime_support::now;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{JsonB, Uuid};
use serde_json::Value;

use crate::blocks::{self, Stamp, State, cells, segment};
use crate::error::Error;
use crate::heap::Heap;
use crate::model::similarity::{self, Distance};
use crate::places;
use crate::raw::{RawJsonb, Words};
use crate::search::{self, Request};
use crate::store::{self, New};
use crate::text::{self, Date};
use crate::uses;
use crate::vector::Vector;
use crate::{identity, items, locks, setup, spi, sync, terms, words};

pub type Report<T> = Result<T, ErrorReport>;

#[pg_extern(sql = false)]
fn caller_id() -> Option<Uuid> {
    identity::caller().id.map(spi::pg_uuid)
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn caller() -> TableIterator<
    'static,
    (
        name!(user_id, Option<Uuid>),
        name!(source, Option<String>),
        name!(subject, Option<String>),
        name!(problem, Option<String>),
    ),
> {
    let caller = identity::caller();
    TableIterator::once((
        caller.id.map(spi::pg_uuid),
        caller.source.map(str::to_owned),
        caller.subject,
        caller.problem,
    ))
}

#[pg_extern(sql = false)]
fn uuid_v7() -> Uuid {
    spi::pg_uuid(crate::ids::next())
}

#[pg_extern(sql = false)]
fn is_blank(content: &str) -> bool {
    text::is_blank(content)
}

#[pg_extern(sql = false)]
fn normalize_content(content: &str) -> String {
    text::normalize_content(content)
}

#[pg_extern(sql = false)]
fn check_as_of(as_of: Option<TimestampWithTimeZone>) -> Report<()> {
    Ok(search::check_as_of(as_of)?)
}

#[pg_extern(sql = false)]
fn store_origin() -> i64 {
    sync::origin()
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn sync_point(
    since: Option<&str>,
) -> Report<
    TableIterator<
        'static,
        (
            name!(lost, Option<&'static str>),
            name!(ready, bool),
            name!(still, bool),
            name!(keep, bool),
            name!(durable, bool),
            name!(seen, Option<String>),
            name!(upto, Option<String>),
            name!(after_xid, Option<String>),
            name!(after_id, Option<Uuid>),
            name!(head, String),
            name!(next, String),
        ),
    >,
> {
    let point = sync::point(since)?;
    Ok(TableIterator::once((
        point.lost,
        point.ready,
        point.still,
        point.keep,
        point.durable,
        point.seen,
        point.upto,
        point.after_xid,
        point.after_id.map(spi::pg_uuid),
        point.head,
        point.next,
    )))
}

#[pg_extern(sql = false)]
fn flush_log() {
    sync::flush_log();
}

#[pg_extern(sql = false)]
fn entity_node(name: &str) -> String {
    text::entity_node(name)
}

#[pg_extern(sql = false)]
fn indexed_text(
    content: Option<&str>,
    speaker: Option<&str>,
    occurred_at: Option<TimestampWithTimeZone>,
    summary: Option<&str>,
) -> Option<String> {
    let date = occurred_at.and_then(|at| Date::from_postgres(at.into()));
    content.map(|content| text::indexed_text(content, speaker, date, summary))
}

#[pg_extern(sql = false)]
fn prompt_line(
    content: Option<&str>,
    speaker: Option<&str>,
    occurred_at: Option<TimestampWithTimeZone>,
) -> Option<String> {
    let date = occurred_at.and_then(|at| Date::from_postgres(at.into()));
    content.map(|content| text::prompt_line(content, speaker, date))
}

#[pg_extern(sql = false)]
fn tokens(content: &str) -> i32 {
    i32::try_from(text::tokens(content)).unwrap_or(i32::MAX)
}

#[pg_extern(sql = false)]
fn term_count(terms: &[u8]) -> i32 {
    terms::count(terms)
}

#[pg_extern(sql = false)]
fn term_keys(workspace: Uuid, terms: &[u8]) -> Vec<i64> {
    terms::keys(workspace.as_bytes(), terms)
}

#[pg_extern(sql = false)]
fn extra_text(indexed: &str) -> Option<String> {
    text::extra(indexed)
}

#[pg_extern(sql = false)]
fn parsed_text(indexed: &str) -> String {
    words::parsed(indexed).into_owned()
}

fn state(name: Option<&str>) -> Result<State, Error> {
    match name {
        Some("plain") => Ok(State::Plain),
        Some("replaces") => Ok(State::Replaces),
        Some("gone") => Ok(State::Gone),
        other => Err(Error::invalid(
            format!("state is {:?}", shorten(other.unwrap_or("NULL"))),
            "Known: plain, replaces, gone.",
        )),
    }
}

fn stamp(version: Option<i64>, name: Option<&str>) -> Result<Stamp, Error> {
    Ok(Stamp::new(
        version.unwrap_or(0).max(0).unsigned_abs(),
        state(name)?,
    ))
}

#[pg_extern(sql = false)]
fn lexemes(terms: &[u8]) -> Vec<u8> {
    words::lexemes(terms)
}

fn required<T>(value: Option<T>, name: &str) -> Result<T, Error> {
    value.ok_or_else(|| Error::invalid(format!("{name} is NULL"), "Give a value."))
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn document_entry(
    id: Option<Uuid>,
    version: Option<i64>,
    state: Option<&str>,
    session_id: Option<&str>,
    at: Option<TimestampWithTimeZone>,
    content: Option<&str>,
    speaker: Option<&str>,
    terms: Option<&[u8]>,
    extra: Option<&[u8]>,
) -> Report<Vec<u8>> {
    Ok(terms::document(
        *required(id, "id")?.as_bytes(),
        stamp(version, state)?,
        session_id,
        at.map_or(0, i64::from),
        content.unwrap_or_default(),
        speaker,
        terms::words(terms.unwrap_or_default()),
        &terms::first_words(extra.unwrap_or_default()),
    )
    .encode())
}

#[pg_extern(sql = false)]
fn vector_entry(
    id: Option<Uuid>,
    version: Option<i64>,
    state: Option<&str>,
    embedding: Option<Vector>,
) -> Report<Vec<u8>> {
    Ok(blocks::vectors::encode(
        *required(id, "id")?.as_bytes(),
        stamp(version, state)?,
        embedding.as_deref().unwrap_or_default(),
    ))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn merge_blocks(
    blocks: Option<Array<'_, &[u8]>>,
    resolve: Option<bool>,
) -> Report<
    TableIterator<
        'static,
        (
            name!(is_full, bool),
            name!(entries, i32),
            name!(block, Vec<u8>),
        ),
    >,
> {
    let parts: Vec<&[u8]> = match &blocks {
        Some(blocks) => blocks.iter().flatten().collect(),
        None => Vec::new(),
    };
    let merged = blocks::merge(&parts, blocks::ROOM, resolve.unwrap_or(false))
        .map_err(|_| Error::unreadable_block())?;
    Ok(TableIterator::new(merged.into_iter().map(|m| {
        (
            m.full,
            i32::try_from(m.entries).unwrap_or(i32::MAX),
            m.bytes,
        )
    })))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn block_entries(
    block: Option<&[u8]>,
) -> Report<
    TableIterator<
        'static,
        (
            name!(id, Uuid),
            name!(version, i64),
            name!(state, &'static str),
            name!(entry, Vec<u8>),
        ),
    >,
> {
    let block = block.unwrap_or_default();
    // What a segment holds its rows say together.
    if segment::is_row(block) {
        return Ok(entries_table(Vec::new()));
    }
    let entries = blocks::split(block).map_err(|_| Error::unreadable_block())?;
    Ok(entries_table(entries))
}

#[allow(clippy::type_complexity)]
fn entries_table(
    entries: Vec<(blocks::Id, blocks::Stamp, Vec<u8>)>,
) -> TableIterator<
    'static,
    (
        name!(id, Uuid),
        name!(version, i64),
        name!(state, &'static str),
        name!(entry, Vec<u8>),
    ),
> {
    TableIterator::new(entries.into_iter().map(|(id, stamp, entry)| {
        let state = match (stamp.supersedes(), stamp.gone()) {
            (_, true) => "gone",
            (true, false) => "replaces",
            (false, false) => "plain",
        };
        (
            Uuid::from_bytes(id),
            stamp.version().cast_signed(),
            state,
            entry,
        )
    }))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn seal_blocks(
    blocks: Option<Array<'_, &[u8]>>,
    tag: Option<i32>,
) -> Report<
    TableIterator<
        'static,
        (
            name!(level, i16),
            name!(cluster, i32),
            name!(block_id, Uuid),
            name!(entries, i32),
            name!(block, Vec<u8>),
        ),
    >,
> {
    let rows: Vec<&[u8]> = match &blocks {
        Some(blocks) => blocks.iter().flatten().collect(),
        None => Vec::new(),
    };
    let tag = required(tag, "tag")?;
    let sealed =
        segment::seal(&rows, tag.cast_unsigned()).map_err(|_| Error::unreadable_block())?;
    Ok(TableIterator::new(sealed.into_iter().map(|row| {
        (
            if row.part.is_none() { 3 } else { 4 },
            row.tag.cast_signed(),
            Uuid::from_bytes(row.key()),
            i32::try_from(row.entries).unwrap_or(i32::MAX),
            row.bytes,
        )
    })))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn segment_entries(
    blocks: Option<Array<'_, &[u8]>>,
) -> Report<
    TableIterator<
        'static,
        (
            name!(id, Uuid),
            name!(version, i64),
            name!(state, &'static str),
            name!(entry, Vec<u8>),
        ),
    >,
> {
    let rows: Vec<&[u8]> = match &blocks {
        Some(blocks) => blocks.iter().flatten().collect(),
        None => Vec::new(),
    };
    let entries = segment::entries(&rows).map_err(|_| Error::unreadable_block())?;
    Ok(entries_table(entries))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn bury_entries(
    head: Option<&[u8]>,
    parts: Option<Array<'_, &[u8]>>,
    ids: Option<Vec<Option<Uuid>>>,
    versions: Option<Vec<Option<i64>>>,
) -> Report<
    TableIterator<
        'static,
        (
            name!(head, Vec<u8>),
            name!(dead, i32),
            name!(held, Vec<Uuid>),
        ),
    >,
> {
    let parts: Vec<&[u8]> = match &parts {
        Some(parts) => parts.iter().flatten().collect(),
        None => Vec::new(),
    };
    let newer = ids.unwrap_or_default().into_iter().flatten();
    let newer = newer.zip(versions.unwrap_or_default().into_iter().flatten());
    let newer: Vec<(blocks::Id, blocks::Stamp)> = newer
        .map(|(id, version)| {
            let version = u64::try_from(version).unwrap_or(0);
            (*id.as_bytes(), blocks::Stamp::new(version, State::Gone))
        })
        .collect();
    let unreadable = |_| Error::unreadable_block();
    let (head, held) =
        segment::bury(head.unwrap_or_default(), &parts, &newer).map_err(unreadable)?;
    let dead = segment::Head::parse(&head).map_or(0, |head| head.dead());
    Ok(TableIterator::once((
        head,
        i32::try_from(dead).unwrap_or(i32::MAX),
        held.into_iter().map(Uuid::from_bytes).collect(),
    )))
}

fn entries_of(numbers: &[i32]) -> Vec<usize> {
    numbers
        .iter()
        .filter_map(|n| usize::try_from(*n).ok())
        .collect()
}

#[pg_extern(sql = false)]
fn dead_entries(
    head: &[u8],
    parts: Array<'_, &[u8]>,
    ids: Array<'_, Uuid>,
) -> Report<Option<Vec<i32>>> {
    let parts: Vec<&[u8]> = parts.iter().flatten().collect();
    let ids: Vec<blocks::Id> = ids.iter().flatten().map(|id| *id.as_bytes()).collect();
    let entries = segment::dead_of(head, &parts, &ids).map_err(|_| Error::unreadable_block())?;
    Ok(entries.map(|entries| entries.into_iter().map(|entry| entry as i32).collect()))
}

#[pg_extern(sql = false)]
fn blank_part(block: &[u8], head: &[u8], entries: Array<'_, i32>) -> Report<Option<Vec<u8>>> {
    let entries: Vec<i32> = entries.iter().flatten().collect();
    let blank = segment::blanked(head, block, &entries_of(&entries));
    Ok(blank.map_err(|_| Error::unreadable_block())?)
}

#[pg_extern(sql = false)]
fn cells_number(guide: &[u8], head: &[u8]) -> Option<i32> {
    let number = cells::number_of(guide, head).ok()?;
    Some(number.map_or(-1, |number| number as i32))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn blank_cell(
    cell: &[u8],
    number: i32,
    entries: Array<'_, i32>,
) -> TableIterator<'static, (name!(block, Option<Vec<u8>>), name!(vectors, i32))> {
    let entries: Vec<i32> = entries.iter().flatten().collect();
    let number = usize::try_from(number).unwrap_or(usize::MAX);
    let blank = match cells::blanked(cell, number, &entries_of(&entries)) {
        Ok(None) => return TableIterator::new([]),
        Ok(Some((block, left))) => (Some(block), i32::try_from(left).unwrap_or(i32::MAX)),
        Err(_) => (None, 0),
    };
    TableIterator::once(blank)
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn segment_rows(
    head: &[u8],
    rows: &[u8],
    states: &[u8],
) -> Report<TableIterator<'static, (name!(block_id, Uuid), name!(block, Vec<u8>))>> {
    let rows = segment::rows_at(head, rows, states).map_err(|_| Error::unreadable_block())?;
    Ok(TableIterator::new(
        rows.into_iter()
            .map(|row| (Uuid::from_bytes(row.key()), row.bytes)),
    ))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn segment_values(
    workspace: Uuid,
    head: &[u8],
    ids: Array<'_, &[u8]>,
) -> Report<TableIterator<'static, (name!(block_id, Uuid), name!(block, Vec<u8>))>> {
    let unreadable = |_| Error::unreadable_block();
    let parts: Vec<&[u8]> = ids.iter().flatten().collect();
    let ids = segment::ids_of(head, &parts).map_err(unreadable)?;
    let ids: Vec<uuid::Uuid> = ids.into_iter().map(uuid::Uuid::from_bytes).collect();
    let values = search::gather(crate::spi::uuid(workspace), &ids)?;
    let rows = segment::values_of(head, &values).map_err(unreadable)?;
    Ok(TableIterator::new(
        rows.into_iter()
            .map(|row| (Uuid::from_bytes(row.key()), row.bytes)),
    ))
}

#[pg_extern(sql = false)]
fn segment_head(head: &[u8], parts: Array<'_, Uuid>, places: &[u8]) -> Report<Vec<u8>> {
    let keys: Vec<blocks::Id> = parts.iter().flatten().map(|id| *id.as_bytes()).collect();
    Ok(segment::parts_at(head, &keys, places).map_err(|_| Error::unreadable_block())?)
}

/// As the functions of version 0.6 and before call it.
#[pg_extern(sql = false)]
fn root_place(relation: &str, place: &[u8]) -> Report<Option<Vec<u8>>> {
    let name = std::ffi::CString::new(relation).unwrap_or_default();
    let table = crate::places::owned(&name)?;
    let place = place.try_into().ok().and_then(segment::Place::from_bytes);
    let root = place.and_then(|place| Heap::new(&table)?.root(place));
    Ok(root.map(|root| root.to_bytes().to_vec()))
}

#[pg_extern(sql = false)]
fn entry_places(
    workspace: Uuid,
    model: &str,
    cluster: i32,
) -> Report<TableIterator<'static, (name!(places, Vec<u8>), name!(states, Vec<u8>))>> {
    let found = places::of_segment(crate::spi::uuid(workspace), model, cluster)?;
    Ok(TableIterator::once(found))
}

#[pg_extern(sql = false)]
fn arrange_vectors(workspace: Uuid, model: &str, by_angle: bool) -> Report<i64> {
    let arranged = crate::arrange::arrange(crate::spi::uuid(workspace), model, by_angle)?;
    Ok(i64::try_from(arranged).unwrap_or(i64::MAX))
}

#[pg_extern(sql = false)]
fn knows_cells(workspace: Uuid, model: &str) -> Report<bool> {
    Ok(crate::arrange::known(crate::spi::uuid(workspace), model)?)
}

#[pg_extern(sql = false)]
fn knows_places(workspace: Uuid, model: &str, cluster: i32, head: &[u8]) -> Report<bool> {
    Ok(places::known(
        crate::spi::uuid(workspace),
        model,
        cluster,
        head,
    )?)
}

/// As the functions of version 0.6 and before call it.
#[pg_extern(sql = false)]
fn segment_place(head: &[u8]) -> Option<Vec<u8>> {
    segment::Head::parse(head)?.first_place()
}

#[pg_extern(sql = false)]
fn block_holds(block: &[u8], ids: Array<'_, Uuid>) -> Report<bool> {
    let mut ids: Vec<blocks::Id> = ids.iter().flatten().map(|id| *id.as_bytes()).collect();
    ids.sort_unstable();
    if segment::is_row(block) {
        return Ok(segment::holds(block, &ids).ok_or_else(Error::unreadable_block)?);
    }
    let block = blocks::Block::parse(block).ok_or_else(Error::unreadable_block)?;
    Ok(block
        .entries()
        .iter()
        .any(|(id, _)| ids.binary_search(id).is_ok()))
}

#[pg_extern(sql = false)]
fn embedding_dims(embedding: Vector) -> i32 {
    i32::try_from(embedding.len()).unwrap_or(i32::MAX)
}

#[pg_extern(sql = false)]
fn embedding_norm(embedding: Vector) -> f64 {
    similarity::norm(&embedding)
}

#[pg_extern(sql = false)]
fn similarity(embedding: Vector, query: Array<'_, f32>, distance: &str) -> Report<Option<f64>> {
    let distance = Distance::parse(distance).ok_or_else(|| {
        Error::invalid(
            format!("unknown distance {:?}", shorten(distance)),
            "Known: cosine, inner_product, l2.",
        )
    })?;
    let query = query
        .as_slice()
        .map_err(|_| Error::invalid("query has a NULL in it", "Give numbers only."))?;
    Ok(similarity::similarity(distance, &embedding, query))
}

#[pg_extern(sql = false)]
fn compile_filter(
    filter: Option<RawJsonb>,
) -> Report<TableIterator<'static, (name!(condition, String), name!(params, JsonB))>> {
    let compiled = search::compile_filter(parse(filter)?.as_ref())?;
    Ok(TableIterator::once((
        compiled.condition,
        JsonB(Value::Array(compiled.params)),
    )))
}

#[pg_extern(sql = false)]
fn compile_past_filter(
    filter: Option<RawJsonb>,
) -> Report<TableIterator<'static, (name!(condition, String), name!(params, JsonB))>> {
    let compiled = search::compile_filter(parse(filter)?.as_ref())?.past();
    Ok(TableIterator::once((
        compiled.condition,
        JsonB(Value::Array(compiled.params)),
    )))
}

/// An item, or what is wrong with it.
#[derive(Default)]
struct ReadItem {
    error: Option<String>,
    item: items::Item,
    /// `occurred_at`, `expires_at`, `valid_from`, `valid_to`.
    times: [Option<TimestampWithTimeZone>; 4],
}

/// Reads items that may have the first so many of the keys.
fn read_all(items: Option<RawJsonb>, keys: usize) -> Result<Vec<ReadItem>, Error> {
    let parsed = match parse(items)? {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(items)) => items,
        // A REST client that stringifies its JSON sends the array as one JSON string.
        Some(Value::String(text)) if text.trim_start().starts_with('[') => {
            serde_json::from_str(&text).map_err(|_| {
                Error::invalid(
                    "items is a text that is not JSON",
                    "Send an array of objects.",
                )
            })?
        }
        Some(other) => {
            return Err(Error::invalid(
                format!(
                    "items must be an array, not {}",
                    shorten(&other.to_string())
                ),
                r#"For example [{"content": "Ann likes tea"}]."#,
            ));
        }
    };
    if parsed.len() > MAX_ITEMS {
        return Err(Error::invalid(
            format!(
                "items has {} entries, the limit is {MAX_ITEMS}",
                parsed.len()
            ),
            "Send them in several calls.",
        ));
    }
    let read = |item: &Value| {
        let item = items::parse(item, keys)?;
        let times = [
            time("occurred_at", item.occurred_at.as_deref())?,
            time("expires_at", item.expires_at.as_deref())?,
            time("valid_from", item.valid_from.as_deref())?,
            time("valid_to", item.valid_to.as_deref())?,
        ];
        Ok((item, times))
    };
    let rows = parsed.iter().map(|item| match read(item) {
        Ok((item, times)) => ReadItem {
            error: None,
            item,
            times,
        },
        Err(error) => ReadItem {
            error: Some(error),
            ..ReadItem::default()
        },
    });
    Ok(rows.collect())
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn read_items(
    items: Option<RawJsonb>,
) -> Report<
    TableIterator<
        'static,
        (
            name!(position, i32),
            name!(error, Option<String>),
            name!(content, Option<String>),
            name!(r#type, Option<String>),
            name!(importance, Option<f64>),
            name!(embedding, Option<Vec<f32>>),
            name!(tags, Option<Vec<String>>),
            name!(metadata, Option<JsonB>),
            name!(occurred_at, Option<TimestampWithTimeZone>),
            name!(agent_id, Option<String>),
            name!(session_id, Option<String>),
            name!(speaker, Option<String>),
            name!(role, Option<String>),
            name!(source, Option<String>),
            name!(entities, Option<Vec<String>>),
            name!(id, Option<Uuid>),
            name!(expires_at, Option<TimestampWithTimeZone>),
            name!(on_duplicate, Option<String>),
            name!(summary, Option<String>),
            name!(valid_from, Option<TimestampWithTimeZone>),
            name!(valid_to, Option<TimestampWithTimeZone>),
            name!(pinned, Option<bool>),
            name!(model, Option<String>),
        ),
    >,
> {
    let rows = read_all(items, items::KEYS.len())?;
    Ok(TableIterator::new((1..).zip(rows).map(
        |(position, read)| {
            let (item, [occurred_at, expires_at, valid_from, valid_to]) = (read.item, read.times);
            (
                position,
                read.error,
                item.content,
                item.kind,
                item.importance,
                item.embedding,
                item.tags,
                item.metadata.map(JsonB),
                occurred_at,
                item.agent_id,
                item.session_id,
                item.speaker,
                item.role,
                item.source,
                item.entities,
                item.id.map(spi::pg_uuid),
                expires_at,
                item.on_duplicate,
                item.summary,
                valid_from,
                valid_to,
                item.pinned,
                item.model,
            )
        },
    )))
}

/// As the functions of version 0.9 and before call it.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn parse_items(
    items: Option<RawJsonb>,
) -> Report<
    TableIterator<
        'static,
        (
            name!(position, i32),
            name!(error, Option<String>),
            name!(content, Option<String>),
            name!(r#type, Option<String>),
            name!(importance, Option<f64>),
            name!(embedding, Option<Vec<f32>>),
            name!(tags, Option<Vec<String>>),
            name!(metadata, Option<JsonB>),
            name!(occurred_at, Option<TimestampWithTimeZone>),
            name!(agent_id, Option<String>),
            name!(session_id, Option<String>),
            name!(speaker, Option<String>),
            name!(role, Option<String>),
            name!(source, Option<String>),
            name!(entities, Option<Vec<String>>),
            name!(id, Option<Uuid>),
            name!(expires_at, Option<TimestampWithTimeZone>),
            name!(on_duplicate, Option<String>),
        ),
    >,
> {
    let rows = read_all(items, items::FIRST_KEYS)?;
    Ok(TableIterator::new((1..).zip(rows).map(
        |(position, read)| {
            let (item, [occurred_at, expires_at, ..]) = (read.item, read.times);
            (
                position,
                read.error,
                item.content,
                item.kind,
                item.importance,
                item.embedding,
                item.tags,
                item.metadata.map(JsonB),
                occurred_at,
                item.agent_id,
                item.session_id,
                item.speaker,
                item.role,
                item.source,
                item.entities,
                item.id.map(spi::pg_uuid),
                expires_at,
                item.on_duplicate,
            )
        },
    )))
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn store_new(
    content: Option<&str>,
    r#type: Option<&str>,
    importance: Option<f64>,
    embedding: Option<Vector>,
    tags: Option<Words>,
    metadata: Option<RawJsonb>,
    occurred_at: Option<TimestampWithTimeZone>,
    agent_id: Option<&str>,
    session_id: Option<&str>,
    speaker: Option<&str>,
    role: Option<&str>,
    source: Option<&str>,
    entities: Option<Words>,
    id: Option<Uuid>,
    expires_at: Option<TimestampWithTimeZone>,
    on_duplicate: Option<&str>,
    workspace: Option<Uuid>,
) -> Report<Option<Uuid>> {
    let words = |Words(words): Words| {
        words.map(|words| words.into_iter().map(Cow::Owned).collect::<Vec<_>>())
    };
    let (tags, entities) = (tags.map(words), entities.map(words));
    let metadata = metadata.map(|m| m.object());
    let (Some(tags), Some(entities), Some(metadata)) =
        (given(tags), given(entities), given(metadata))
    else {
        return Ok(None);
    };
    let new = New {
        content: content.map(Cow::Borrowed),
        kind: r#type.map(Cow::Borrowed),
        importance,
        embedding: embedding.as_deref().map(Cow::Borrowed),
        tags,
        metadata,
        occurred_at: occurred_at.map(i64::from),
        agent_id: agent_id.map(Cow::Borrowed),
        session_id: session_id.map(Cow::Borrowed),
        speaker: speaker.map(Cow::Borrowed),
        role: role.map(Cow::Borrowed),
        source: source.map(Cow::Borrowed),
        entities,
        id: id.map(spi::uuid),
        expires_at: expires_at.map(i64::from),
        on_duplicate: on_duplicate.map(Cow::Borrowed),
        ..New::default()
    };
    let stored = store::store(workspace.map(spi::uuid), &[new])?;
    Ok(stored
        .and_then(|ids| ids.into_iter().next().flatten())
        .map(spi::pg_uuid))
}

/// An argument that is not given is as good as one that can be read.
fn given<T>(argument: Option<Option<T>>) -> Option<Option<T>> {
    argument.map_or(Some(None), |read| read.map(Some))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn store_items(
    items: Option<RawJsonb>,
    workspace: Option<Uuid>,
) -> Report<
    TableIterator<
        'static,
        (
            name!(given, i32),
            name!(positions, Vec<i32>),
            name!(ids, Vec<Uuid>),
        ),
    >,
> {
    let stored = match items {
        Some(items) => store::store_items(&items, workspace.map(spi::uuid))?,
        None => None,
    };
    Ok(TableIterator::new(stored.into_iter().map(
        |(given, positions, ids)| (given, positions, spi::pg_uuids(&ids)),
    )))
}

/// Most items that one call of `add_many` takes.
pub const MAX_ITEMS: usize = 10_000;

fn parse(json: Option<RawJsonb>) -> Result<Option<Value>, Error> {
    json.map(|json| json.parse()).transpose()
}

pub fn time(key: &str, value: Option<&str>) -> Result<Option<TimestampWithTimeZone>, String> {
    use std::str::FromStr;
    value
        .map(|v| {
            TimestampWithTimeZone::from_str(v).map_err(|_| {
                format!(
                    "{key} must be a timestamp such as 2026-01-31T09:00:00Z, not {:?}",
                    shorten(v)
                )
            })
        })
        .transpose()
}

pub fn shorten(value: &str) -> String {
    value.chars().take(60).collect()
}

#[pg_extern(sql = false, name = "setup")]
fn setup_store(options: Option<RawJsonb>) -> Report<&'static str> {
    uses::writable("engram.setup()")?;
    Ok(setup::setup(parse(options)?)?)
}

#[pg_extern(sql = false)]
fn auto_setup() -> Report<()> {
    Ok(setup::auto_setup()?)
}

#[pg_extern(sql = false)]
fn lock_keys(workspace: pgrx::Uuid, keys: Vec<Option<String>>) -> Report<()> {
    let keys: Vec<&str> = keys.iter().flatten().map(String::as_str).collect();
    Ok(locks::keys(spi::uuid(workspace), &keys)?)
}

#[pg_extern(sql = false)]
fn try_lock_key(workspace: pgrx::Uuid, key: &str) -> Report<bool> {
    Ok(locks::try_key(spi::uuid(workspace), key)?)
}

#[pg_extern(sql = false)]
fn may_lock_key() -> bool {
    locks::may_take()
}

#[pg_extern(sql = false)]
fn lock_names(workspace: pgrx::Uuid) -> Report<()> {
    Ok(locks::names(spi::uuid(workspace))?)
}

#[pg_extern(sql = false)]
fn lock_workspace(workspace: pgrx::Uuid) -> Report<()> {
    Ok(locks::workspace(spi::uuid(workspace))?)
}

#[pg_extern(sql = false)]
fn try_lock_work(workspace: pgrx::Uuid, work: &str) -> Report<bool> {
    Ok(locks::try_work(spi::uuid(workspace), work)?)
}

#[pg_extern(sql = false)]
fn try_lock_settings(workspace: pgrx::Uuid) -> Report<bool> {
    Ok(locks::try_settings(spi::uuid(workspace))?)
}

#[pg_extern(sql = false)]
fn give_back_settings(workspace: pgrx::Uuid) -> Report<()> {
    Ok(locks::give_back_settings(spi::uuid(workspace))?)
}

#[pg_extern(sql = false)]
fn hold_folds(workspace: pgrx::Uuid) -> Report<()> {
    Ok(locks::settings(spi::uuid(workspace))?)
}

#[pg_extern(sql = false)]
fn library_version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

// What the SQL of version 0.3 calls, until it is updated.
#[pg_extern(sql = false)]
fn take_lock() -> bool {
    locks::take()
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments, clippy::type_complexity)]
fn search(
    query_text: Option<String>,
    query_embedding: Option<Vector>,
    match_count: Option<i32>,
    filter: Option<RawJsonb>,
    types: Option<Vec<Option<String>>>,
    min_score: Option<f64>,
    explain: Option<bool>,
    include: Option<Vec<Option<String>>>,
    model: Option<String>,
    at: Option<TimestampWithTimeZone>,
    workspace: Option<Uuid>,
) -> Report<
    TableIterator<
        'static,
        (
            name!(id, Uuid),
            name!(content, String),
            name!(r#type, String),
            name!(score, f64),
            name!(importance, f64),
            name!(tags, Vec<String>),
            name!(metadata, RawJsonb),
            name!(speaker, Option<String>),
            name!(role, Option<String>),
            name!(session_id, Option<String>),
            name!(occurred_at, Option<TimestampWithTimeZone>),
            name!(created_at, TimestampWithTimeZone),
            name!(matched, Vec<String>),
            name!(explain, Option<JsonB>),
        ),
    >,
> {
    let hits = search::search(request(
        query_text,
        query_embedding,
        match_count,
        filter,
        types,
        min_score,
        explain,
        include,
        model,
        at,
        workspace,
        None,
        None,
    )?)?;
    Ok(TableIterator::new(hits.into_iter().map(hit_row)))
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments, clippy::type_complexity)]
fn search_as_of(
    query_text: Option<String>,
    query_embedding: Option<Vector>,
    match_count: Option<i32>,
    filter: Option<RawJsonb>,
    types: Option<Vec<Option<String>>>,
    min_score: Option<f64>,
    explain: Option<bool>,
    include: Option<Vec<Option<String>>>,
    model: Option<String>,
    at: Option<TimestampWithTimeZone>,
    workspace: Option<Uuid>,
    as_of: Option<TimestampWithTimeZone>,
    diversity: Option<f64>,
) -> Report<
    TableIterator<
        'static,
        (
            name!(id, Uuid),
            name!(content, String),
            name!(r#type, String),
            name!(score, f64),
            name!(importance, f64),
            name!(tags, Vec<String>),
            name!(metadata, RawJsonb),
            name!(speaker, Option<String>),
            name!(role, Option<String>),
            name!(session_id, Option<String>),
            name!(occurred_at, Option<TimestampWithTimeZone>),
            name!(created_at, TimestampWithTimeZone),
            name!(matched, Vec<String>),
            name!(explain, Option<JsonB>),
        ),
    >,
> {
    let hits = search::search(request(
        query_text,
        query_embedding,
        match_count,
        filter,
        types,
        min_score,
        explain,
        include,
        model,
        at,
        workspace,
        as_of,
        diversity,
    )?)?;
    Ok(TableIterator::new(hits.into_iter().map(hit_row)))
}

/// The arguments of `search` and `recall`.
#[allow(clippy::too_many_arguments)]
pub fn request(
    query_text: Option<String>,
    query_embedding: Option<Vector>,
    match_count: Option<i32>,
    filter: Option<RawJsonb>,
    types: Option<Vec<Option<String>>>,
    min_score: Option<f64>,
    explain: Option<bool>,
    include: Option<Vec<Option<String>>>,
    model: Option<String>,
    at: Option<TimestampWithTimeZone>,
    workspace: Option<Uuid>,
    as_of: Option<TimestampWithTimeZone>,
    diversity: Option<f64>,
) -> Result<Request, Error> {
    Ok(Request {
        text: query_text,
        embedding: query_embedding.map(|v| v.to_vec()),
        match_count,
        filter: parse(filter)?,
        types,
        min_score,
        explain: explain.unwrap_or(false),
        include,
        model,
        at: at.or(as_of).unwrap_or_else(now),
        workspace,
        as_of,
        diversity: diversity.unwrap_or(0.0),
    })
}

/// A row of `search`.
pub type HitRow = (
    Uuid,
    String,
    String,
    f64,
    f64,
    Vec<String>,
    RawJsonb,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<TimestampWithTimeZone>,
    TimestampWithTimeZone,
    Vec<String>,
    Option<JsonB>,
);

pub fn hit_row(hit: search::Hit) -> HitRow {
    (
        spi::pg_uuid(hit.id),
        hit.content,
        hit.kind,
        hit.score,
        hit.importance,
        hit.tags,
        hit.metadata,
        hit.speaker,
        hit.role,
        hit.session_id,
        hit.occurred_at,
        hit.created_at,
        hit.matched,
        hit.explain.map(JsonB),
    )
}
