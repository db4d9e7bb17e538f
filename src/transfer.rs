//! Import: lines of JSON, ours and others', checked one by one and brought into one shape.
//!
//! What is accepted here is written by `engram_internal.import_as_owner()` with the rights of the tables'
//! owner, because times, versions and states of memories are not for callers to set otherwise. So nothing
//! in the data may say where it goes or, unless row security does not bind the caller, who wrote it.

mod foreign;
mod shape;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::{JsonB, Uuid};
use serde_json::{Map, Value, json};

use crate::api::{Report, shorten};
use crate::error::{Error, Result};
use crate::privilege::AsOwner;
use crate::raw::{self, RawJsonb};
use crate::{identity, spi, uses};

pub use foreign::Format;

/// Most lines of one call.
const MAX_LINES: usize = 100_000;

/// One line: what it is, or why it is nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// `memory`, `link`, …
    pub kind: String,
    /// In the shape of `export()`.
    pub content: std::result::Result<Map<String, Value>, String>,
}

/// What became of a line.
struct Outcome {
    position: i32,
    kind: String,
    id: Option<Uuid>,
    status: String,
    error: Option<String>,
}

impl Outcome {
    fn error(position: i32, kind: String, why: String) -> Self {
        Self {
            position,
            kind,
            id: None,
            status: "error".to_owned(),
            error: Some(why),
        }
    }
}

/// A text of JSON with `null` for what lies deeper than can be read, and in which elements of the array that it is that
/// was so (0 if it is none).
fn shallow(text: &str) -> (Cow<'_, str>, Vec<usize>) {
    let (mut out, mut from, mut cut) = (String::new(), 0, Vec::new());
    let (mut depth, mut element) = (0usize, 0);
    let (mut quoted, mut escaped) = (false, false);
    let array = text.trim_start().starts_with('[');
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'[' | b'{' => {
                depth += 1;
                if depth == raw::READABLE + 1 {
                    out.push_str(&text[from..at]);
                    out.push_str("null");
                    if cut.last() != Some(&element) {
                        cut.push(element);
                    }
                }
            }
            b']' | b'}' => {
                if depth == raw::READABLE + 1 {
                    from = at + 1;
                }
                depth = depth.saturating_sub(1);
            }
            b',' if array && depth == 1 => element += 1,
            _ => {}
        }
    }
    if cut.is_empty() {
        return (text.into(), cut);
    }
    out.push_str(&text[from..]);
    (out.into(), cut)
}

/// The values in an argument: one, an array of them, or text with one a line; and which of them lack what was nested
/// too deep.
fn values(data: &str) -> Result<(Vec<Value>, Vec<usize>)> {
    let (text, mut cut) = shallow(data);
    let values = match raw::read(&text)? {
        Value::Array(values) => values,
        Value::String(text) => match serde_json::from_str(&shallow(&text).0) {
            Ok(Value::String(_)) | Err(_) => text
                .lines()
                .filter(|line| !line.trim().is_empty())
                .enumerate()
                .map(|(nth, line)| {
                    let (line, within) = shallow(line);
                    if !within.is_empty() {
                        cut.push(nth);
                    }
                    serde_json::from_str(&line)
                })
                .collect::<std::result::Result<_, _>>()
                .map_err(|_| {
                    Error::invalid(
                        format!("data is a text that is not JSON: {}", shorten(&text)),
                        "Give one JSON object, an array of them, or a text with one on each line.",
                    )
                })?,
            Ok(_) => return values(&text),
        },
        Value::Null => Vec::new(),
        other => vec![other],
    };
    Ok((values, cut))
}

/// Everybody that a line names becomes the caller.
fn owned(line: &mut Map<String, Value>, me: &str) {
    fn set(map: &mut Map<String, Value>, key: &str, me: &str) {
        if let Some(value) = map.get_mut(key).filter(|v| !v.is_null()) {
            *value = Value::from(me);
        }
    }
    for key in ["user_id", "erased_by"] {
        set(line, key, me);
    }
    for list in ["uses", "events", "turns"] {
        let Some(Value::Array(entries)) = line.get_mut(list) else {
            continue;
        };
        for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
            for key in ["user_id", "actor"] {
                set(entry, key, me);
            }
            if let Some(Value::Object(old)) = entry.get_mut("old") {
                set(old, "user_id", me);
            }
        }
    }
}

/// The lines of some data, each checked.
pub fn lines(
    data: &str,
    format: Option<Format>,
    workspace: uuid::Uuid,
    now: i64,
) -> Result<Vec<Line>> {
    let (values, cut) = values(data)?;
    let format = match format.or_else(|| Format::of(&values)) {
        Some(format) => format,
        None if values.is_empty() => Format::Engram,
        None => {
            return Err(Error::invalid(
                format!(
                    "data has no shape that is known: {}",
                    shorten(&values[0].to_string())
                ),
                "Known: lines of engram.export(), tables of engramai, memories of mem0, the graph of the MCP memory server; format => '…' says which.",
            ));
        }
    };
    let too_deep = || format!("is nested deeper than {} levels", raw::READABLE);
    let too_many = || {
        Error::invalid(
            format!("data has more than {MAX_LINES} lines"),
            "Send them in several calls; memories before what hangs on them.",
        )
    };
    let mut lines = match format {
        Format::Engram if values.len() > MAX_LINES => return Err(too_many()),
        Format::Engram => {
            let mut lines: Vec<Line> = values.into_iter().map(shape::line).collect();
            for nth in cut {
                lines[nth].content = Err(format!("the line {}; flatten it", too_deep()));
            }
            lines
        }
        _ if !cut.is_empty() => {
            return Err(Error::invalid(
                format!("data {}", too_deep()),
                "Flatten what lies so deep, or give it as a string of JSON.",
            ));
        }
        other => foreign::lines(other, values, workspace, now),
    };
    if lines.len() > MAX_LINES {
        return Err(too_many());
    }
    for line in &mut lines {
        if let Ok(content) = &line.content
            && let Err(problem) = shape::check(&line.kind, content, workspace)
        {
            line.content = Err(problem);
        }
    }
    refuse_circles(&mut lines);
    Ok(lines)
}

/// Refuses memories that supersede each other in a circle: none of them would be the newest. Circles that close with
/// what is stored already are found when it is written.
fn refuse_circles(lines: &mut [Line]) {
    let id = |line: &Line, key: &str| {
        let text = line.content.as_ref().ok()?.get(key)?.as_str()?;
        uuid::Uuid::try_parse(text).ok()
    };
    let mut next = HashMap::new();
    for line in lines.iter().filter(|line| line.kind == "memory") {
        if let (Some(old), Some(new)) = (id(line, "id"), id(line, "superseded_by")) {
            // Of lines with the same id the first one is stored.
            next.entry(old).or_insert(new);
        }
    }
    // Every memory is passed once, in a walk of some number; a walk that meets itself has found a circle.
    let mut walks: HashMap<uuid::Uuid, usize> = HashMap::new();
    let mut circles = HashSet::new();
    for (walk, start) in next.keys().enumerate() {
        let mut here = *start;
        while let Some(new) = next.get(&here) {
            match walks.get(&here) {
                Some(found) if *found == walk && circles.insert(here) => {}
                Some(_) => break,
                None => {
                    walks.insert(here, walk);
                }
            }
            here = *new;
        }
    }
    for line in lines.iter_mut().filter(|line| line.kind == "memory") {
        if let (Some(old), Some(new)) = (id(line, "id"), id(line, "superseded_by"))
            && circles.contains(&old)
        {
            line.content = Err(if old == new {
                format!("memory \"{old}\" cannot supersede itself")
            } else {
                format!(
                    "memory \"{old}\" cannot be superseded by \"{new}\", which it supersedes itself"
                )
            });
        }
    }
}

/// Locks what the lines bring, which is to be done before rows are locked: who stores has his keys first, too. The functions
/// of an older version do it later.
fn lock_keys(workspace: uuid::Uuid, lines: &[Line]) -> Result<()> {
    let known = spi::row(
        "SELECT pg_catalog.to_regprocedure('engram_internal.lock_import(uuid, jsonb)') IS NOT NULL",
        &[],
        |row| Ok(row.get::<bool>(1)?),
    )?;
    if known.flatten() != Some(true) {
        return Ok(());
    }
    let mut by_kind: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for line in lines {
        if let Ok(content) = &line.content {
            let named: Map<String, Value> = ["id", "memory_id", "content", "session_id"]
                .into_iter()
                .filter_map(|key| Some((key.to_owned(), content.get(key)?.clone())))
                .collect();
            by_kind
                .entry(&line.kind)
                .or_default()
                .push(json!({ "l": named }));
        }
    }
    spi::changed(
        "SELECT engram_internal.lock_import($1, $2)",
        &[
            DatumWithOid::from(spi::pg_uuid(workspace)),
            DatumWithOid::from(JsonB(json!(by_kind))),
        ],
        |_| Ok(()),
    )?;
    Ok(())
}

/// Refuses memories whose ids are those of stored ones that policies keep from the caller: what they hold is neither
/// compared with anything nor replaced. `owner` is that of the tables; `replaces`: they are locked to be replaced.
fn refuse_hidden(
    workspace: uuid::Uuid,
    owner: pgrx::pg_sys::Oid,
    replaces: bool,
    lines: &mut [Line],
) -> Result<()> {
    let id = |line: &Line| {
        let content = (line.kind == "memory").then_some(line.content.as_ref().ok()?)?;
        uuid::Uuid::try_parse(content.get("id")?.as_str()?).ok()
    };
    let mut ids: Vec<uuid::Uuid> = lines.iter().filter_map(id).collect();
    if ids.is_empty() {
        return Ok(());
    }
    ids.sort_unstable();
    ids.dedup();
    let there = |lock: &str| {
        let sql = format!(
            "SELECT u FROM pg_catalog.unnest($2) AS u CROSS JOIN LATERAL ( \
               SELECT m.id FROM engram.memories m WHERE m.workspace_id = $1 AND m.id = u OFFSET 0 {lock}) m"
        );
        let found = spi::changed(
            &sql,
            &[
                DatumWithOid::from(spi::pg_uuid(workspace)),
                DatumWithOid::from(spi::pg_uuids(&ids)),
            ],
            spi::id,
        )?;
        let found = found.into_iter().flatten().map(spi::uuid);
        Ok::<HashSet<uuid::Uuid>, Error>(found.collect())
    };
    // All of them first: what is stored meanwhile is no secret's id.
    let all = {
        let _owner = AsOwner::new(owner);
        there("")?
    };
    let theirs = there(if replaces { "FOR NO KEY UPDATE" } else { "" })?;
    for line in lines {
        if let Some(id) = id(line)
            && all.contains(&id)
            && !theirs.contains(&id)
        {
            line.content = Err(format!(
                "the id \"{id}\" is that of a memory that a policy keeps from you"
            ));
        }
    }
    Ok(())
}

fn import_lines(
    data: Option<&str>,
    format: Option<&str>,
    on_conflict: Option<&str>,
    dry_run: bool,
    workspace: Option<Uuid>,
) -> Result<Vec<Outcome>> {
    let on_conflict = on_conflict.unwrap_or("skip");
    if !matches!(on_conflict, "skip" | "replace" | "reject") {
        return Err(Error::invalid(
            format!("unknown on_conflict {:?}", shorten(on_conflict)),
            "Known: skip (default), replace, reject.",
        ));
    }
    let format = format.map(Format::parse).transpose()?;
    uses::writable("engram.import()")?;
    let workspace = uses::resolve(workspace)?;
    let trusted = uses::trusted()?;
    let me = identity::caller().id.unwrap_or(workspace).to_string();
    // SAFETY: reads the clock.
    let now = unsafe { pgrx::pg_sys::GetCurrentTransactionStartTimestamp() };
    let mut lines = lines(data.unwrap_or("null"), format, workspace, now)?;
    let replaces = on_conflict == "replace";
    let owner = may_import(&lines, replaces)?;
    if !trusted {
        if replaces && !dry_run {
            lock_keys(workspace, &lines)?;
        }
        refuse_hidden(workspace, owner, replaces && !dry_run, &mut lines)?;
    }

    let (accepted, mut outcomes) = accepted(lines, &me, trusted);
    let kinds: Vec<(i32, String)> = (accepted.iter())
        .flat_map(|(kind, lines)| lines.iter().map(move |line| (line, kind)))
        .filter_map(|(line, kind)| Some((line["p"].as_i64()?.try_into().ok()?, kind.clone())))
        .collect();
    outcomes.extend(written(
        workspace,
        trusted,
        on_conflict,
        dry_run,
        owner,
        accepted,
    )?);
    // The functions of an older version pass over kinds that they do not know.
    let told: HashSet<i32> = outcomes.iter().map(|outcome| outcome.position).collect();
    let passed_over = kinds.into_iter().filter(|(n, _)| !told.contains(n));
    outcomes.extend(passed_over.map(|(position, kind)| {
        let why = format!(
            "the functions in this database do not know the kind {kind:?} yet. Have an administrator run: ALTER EXTENSION engram UPDATE;"
        );
        Outcome::error(position, kind, why)
    }));
    outcomes.sort_by_key(|outcome| outcome.position);
    Ok(outcomes)
}

/// The owner of the tables, if the caller could write all of this: what is written in its place is no more than that.
fn may_import(lines: &[Line], replaces: bool) -> Result<pg_sys::Oid> {
    let any = |kinds: &[&str]| lines.iter().any(|line| kinds.contains(&line.kind.as_str()));
    let mut owner = uses::owner_for("INSERT", "memories")?;
    if replaces {
        owner = uses::owner_for("UPDATE", "memories")?;
    }
    if any(&["retention"]) {
        owner = uses::owner_for("INSERT", "retention_policies")?;
    }
    if any(&["message", "archive"]) {
        owner = uses::owner_for("INSERT", "messages")?;
    }
    Ok(owner)
}

/// The lines that can be written, by their kinds and with their positions, and why the others can not.
fn accepted(
    lines: Vec<Line>,
    me: &str,
    trusted: bool,
) -> (BTreeMap<String, Vec<Value>>, Vec<Outcome>) {
    let mut outcomes = Vec::with_capacity(lines.len());
    let mut accepted: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (position, line) in (1..).zip(lines) {
        match line.content {
            Ok(mut content) => {
                if !trusted {
                    owned(&mut content, me);
                }
                if !content.contains_key("user_id") && matches!(&*line.kind, "memory" | "message") {
                    content.insert("user_id".to_owned(), me.into());
                }
                accepted
                    .entry(line.kind)
                    .or_default()
                    .push(json!({"p": position, "l": content}));
            }
            Err(error) => outcomes.push(Outcome::error(position, line.kind, error)),
        }
    }
    (accepted, outcomes)
}

/// Has the tables' owner write lines, which have been checked, and says what became of each.
fn written(
    workspace: uuid::Uuid,
    trusted: bool,
    on_conflict: &str,
    dry_run: bool,
    owner: pg_sys::Oid,
    lines: BTreeMap<String, Vec<Value>>,
) -> Result<Vec<Outcome>> {
    let lines: Map<String, Value> = (lines.into_iter())
        .map(|(kind, lines)| (kind, lines.into()))
        .collect();
    let _owner = AsOwner::new(owner);
    spi::changed(
        "SELECT i.\"position\", i.kind, i.id, i.status, i.error \
         FROM engram_internal.import_as_owner($1, $2, $3, $4, $5) i",
        &[
            DatumWithOid::from(spi::pg_uuid(workspace)),
            DatumWithOid::from(trusted),
            DatumWithOid::from(on_conflict),
            DatumWithOid::from(dry_run),
            DatumWithOid::from(JsonB(lines.into())),
        ],
        |row| {
            Ok(Outcome {
                position: row.get(1)?.unwrap_or(0),
                kind: row.get(2)?.unwrap_or_default(),
                id: row.get(3)?,
                status: row.get(4)?.unwrap_or_default(),
                error: row.get(5)?,
            })
        },
    )
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn import(
    data: Option<RawJsonb>,
    format: Option<&str>,
    on_conflict: Option<&str>,
    dry_run: Option<bool>,
    workspace: Option<Uuid>,
) -> Report<
    TableIterator<
        'static,
        (
            name!(position, i32),
            name!(kind, String),
            name!(id, Option<Uuid>),
            name!(status, String),
            name!(error, Option<String>),
        ),
    >,
> {
    let data = data.map(|json| json.text());
    let outcomes = import_lines(
        data.as_deref(),
        format,
        on_conflict,
        dry_run.unwrap_or(false),
        workspace,
    )?;
    Ok(TableIterator::new(
        outcomes
            .into_iter()
            .map(|o| (o.position, o.kind, o.id, o.status, o.error)),
    ))
}
