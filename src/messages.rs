//! Turns of conversations: reading what is appended, archiving, and the rule by which turns are sampled.

use pgrx::datum::{DatumWithOid, Interval, TimestampWithTimeZone};
use pgrx::prelude::*;
use pgrx::{JsonB, Uuid};
use serde_json::{Map, Value};

use crate::api::{MAX_ITEMS, Report, shorten, time};
use crate::error::{Error, Result};
use crate::model::sampling::Sampling;
use crate::privilege::AsOwner;
use crate::raw::{self, RawJsonb};
use crate::{identity, spi, uses};

/// Roles of a turn.
pub const ROLES: [&str; 4] = ["user", "assistant", "system", "tool"];
/// Longest name of a conversation, in characters.
pub const MAX_SESSION: usize = 500;

/// The end of the year 9999 in UTC, in microseconds since the epoch of PostgreSQL, less a second for turns of
/// equal times, which are stored a microsecond apart.
const YEAR_10000: i64 = 252_455_615_999_000_000;

const KEYS: [&str; 7] = [
    "content",
    "role",
    "speaker",
    "metadata",
    "id",
    "created_at",
    "session_id",
];

/// One turn to append.
struct Turn {
    session_id: String,
    role: String,
    speaker: Option<String>,
    content: String,
    metadata: Option<Value>,
    id: Option<uuid::Uuid>,
    created_at: Option<TimestampWithTimeZone>,
}

fn text(map: &Map<String, Value>, key: &str) -> std::result::Result<Option<String>, String> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(s)) => Ok(Some(s.clone())),
        Some(other) => Err(format!(
            "{key} must be a text, not {}",
            shorten(&other.to_string())
        )),
    }
}

/// What is wrong with the name of a conversation.
pub fn check_session(id: &str) -> std::result::Result<(), String> {
    match id.chars().count() {
        0 => Err("session_id is empty; name the conversation".to_owned()),
        n if n > MAX_SESSION => Err(format!(
            "session_id has {n} characters, the limit is {MAX_SESSION}"
        )),
        _ => Ok(()),
    }
}

/// What is wrong with a role.
pub fn check_role(role: &str) -> std::result::Result<(), String> {
    if ROLES.contains(&role) {
        return Ok(());
    }
    Err(format!(
        "unknown role {:?}; known: {}",
        shorten(role),
        ROLES.join(", ")
    ))
}

fn read(item: &Value, session: Option<&str>) -> std::result::Result<Turn, String> {
    let Value::Object(map) = item else {
        return Err(format!(
            "an item must be an object, not {}",
            shorten(&item.to_string())
        ));
    };
    if let Some(key) = map.keys().find(|k| !KEYS.contains(&k.as_str())) {
        return Err(format!(
            "unknown key {:?}; keys are {}",
            shorten(key),
            KEYS.join(", ")
        ));
    }
    let session_id = text(map, "session_id")?
        .or_else(|| session.map(str::to_owned))
        .ok_or("neither the item nor the call names a session_id")?;
    check_session(&session_id)?;
    let role = text(map, "role")?.unwrap_or_else(|| "user".to_owned());
    check_role(&role)?;
    let id = text(map, "id")?
        .map(|id| {
            uuid::Uuid::try_parse(&id)
                .map_err(|_| format!("id must be a UUID, not {:?}", shorten(&id)))
        })
        .transpose()?;
    let created_at = time("created_at", text(map, "created_at")?.as_deref())?;
    if created_at.is_some_and(|at| at.is_infinity() || at.is_neg_infinity()) {
        return Err("created_at is infinite; give a moment in time".to_owned());
    }
    if created_at.is_some_and(|at| i64::from(at) >= YEAR_10000) {
        return Err("created_at lies after the year 9999; give a moment before".to_owned());
    }
    let metadata = match map.get("metadata") {
        None | Some(Value::Null) => None,
        Some(object @ Value::Object(_)) if raw::is_deep_value(object) => {
            return Err(format!("{}; flatten it", raw::too_deep()));
        }
        Some(Value::Object(object)) => Some(Value::Object(object.clone())),
        Some(other) => {
            return Err(format!(
                "metadata must be an object, not {}",
                shorten(&other.to_string())
            ));
        }
    };
    Ok(Turn {
        session_id,
        role,
        speaker: text(map, "speaker")?,
        content: text(map, "content")?.ok_or("content is missing")?,
        metadata,
        id,
        created_at,
    })
}

/// The elements of an argument that must be an array; a REST client that stringifies its JSON sends it as
/// one JSON string.
pub fn array(items: Option<RawJsonb>, example: &str) -> Result<Vec<Value>> {
    let items = match items.map(|json| json.parse()).transpose()? {
        Some(Value::String(text)) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        other => other.unwrap_or(Value::Null),
    };
    let items = match items {
        Value::Null => Vec::new(),
        Value::Array(items) => items,
        other => {
            return Err(Error::invalid(
                format!(
                    "items must be an array, not {}",
                    shorten(&other.to_string())
                ),
                format!("For example {example}."),
            ));
        }
    };
    if items.len() > MAX_ITEMS {
        return Err(Error::invalid(
            format!(
                "items has {} entries, the limit is {MAX_ITEMS}",
                items.len()
            ),
            "Send them in several calls.",
        ));
    }
    Ok(items)
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn parse_messages(
    items: Option<RawJsonb>,
    session_id: Option<&str>,
) -> Report<
    TableIterator<
        'static,
        (
            name!(position, i32),
            name!(error, Option<String>),
            name!(session_id, Option<String>),
            name!(role, Option<String>),
            name!(speaker, Option<String>),
            name!(content, Option<String>),
            name!(metadata, Option<JsonB>),
            name!(id, Option<Uuid>),
            name!(created_at, Option<TimestampWithTimeZone>),
        ),
    >,
> {
    let items = array(items, r#"[{"role": "user", "content": "Hello"}]"#)?;
    let rows: Vec<_> = (1..)
        .zip(items)
        .map(|(position, item)| match read(&item, session_id) {
            Ok(turn) => (
                position,
                None,
                Some(turn.session_id),
                Some(turn.role),
                turn.speaker,
                Some(turn.content),
                turn.metadata.map(JsonB),
                turn.id.map(spi::pg_uuid),
                turn.created_at,
            ),
            Err(error) => (
                position,
                Some(error),
                None,
                None,
                None,
                None,
                None,
                None,
                None,
            ),
        })
        .collect();
    Ok(TableIterator::new(rows))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn archive_messages(
    inactive_for: Option<Interval>,
    keep: Option<i32>,
    dry_run: Option<bool>,
    batch_size: Option<i32>,
    workspace: Option<Uuid>,
) -> Report<
    TableIterator<
        'static,
        (
            name!(conversations, i64),
            name!(archived, i64),
            name!(skipped, i64),
            name!(done, bool),
        ),
    >,
> {
    // Who only asks may do so where nothing can be written, but on a standby not even locks can be had.
    // SAFETY: reads a flag of the server.
    if dry_run != Some(true) || unsafe { pgrx::pg_sys::RecoveryInProgress() } {
        uses::writable("engram.archive_messages()")?;
    }
    let inactive_for = match inactive_for {
        Some(interval) if interval.as_micros() < 0 => {
            return Err(Error::invalid(
                "inactive_for is less than nothing",
                "Give a length of time, for example '30 days'.",
            )
            .into());
        }
        Some(interval) => interval,
        None => Interval::new(0, 30, 0).map_err(|e| Error::invalid(e.to_string(), "Name one."))?,
    };
    let keep = keep.unwrap_or(50);
    if keep < 0 {
        return Err(Error::invalid(
            format!("keep is {keep}"),
            "Give the number of turns that stay, 0 or more.",
        )
        .into());
    }
    let batch_size = batch_size.unwrap_or(100);
    if !(1..=1000).contains(&batch_size) {
        return Err(Error::invalid(
            format!("batch_size is {batch_size}"),
            "Give a number of conversations from 1 to 1000.",
        )
        .into());
    }
    let everybody = workspace.is_none() && identity::caller().id.is_none() && uses::trusted()?;
    let workspace = if everybody {
        None
    } else {
        Some(spi::pg_uuid(uses::resolve(workspace)?))
    };
    let _owner = AsOwner::new(uses::owner_for("DELETE", "messages")?);
    let rows = spi::changed(
        "SELECT r.conversations, r.archived, r.skipped, r.done \
         FROM engram_internal.archive_messages_as_owner($1, $2, $3, $4, $5) r",
        &[
            DatumWithOid::from(workspace),
            DatumWithOid::from(inactive_for),
            DatumWithOid::from(keep),
            DatumWithOid::from(dry_run.unwrap_or(false)),
            DatumWithOid::from(batch_size),
        ],
        |row| {
            Ok((
                row.get::<i64>(1)?.unwrap_or(0),
                row.get::<i64>(2)?.unwrap_or(0),
                row.get::<i64>(3)?.unwrap_or(0),
                row.get::<bool>(4)?.unwrap_or(true),
            ))
        },
    )?;
    Ok(TableIterator::new(rows))
}

/// Runs a function that counts, as the owner, in a workspace that the caller may write, with this right on conversations.
fn count_as_owner(
    sql: &str,
    right: &str,
    workspace: Option<Uuid>,
    more: Vec<DatumWithOid<'_>>,
) -> Result<i64> {
    let workspace = uses::resolve(workspace)?;
    let _owner = AsOwner::new(uses::owner_for(right, "messages")?);
    let mut args = vec![DatumWithOid::from(spi::pg_uuid(workspace))];
    args.extend(more);
    let counts = spi::changed(sql, &args, |row| Ok(row.get::<i64>(1)?))?;
    Ok(counts.into_iter().flatten().next().unwrap_or(0))
}

#[pg_extern(sql = false)]
fn restore_messages(session_id: Option<&str>, workspace: Option<Uuid>) -> Report<i64> {
    let session_id = session_id.ok_or_else(|| {
        Error::invalid(
            "session_id is NULL",
            "Name the conversation; engram.conversations() lists them.",
        )
    })?;
    uses::writable("engram.restore_messages()")?;
    Ok(count_as_owner(
        "SELECT engram_internal.restore_messages_as_owner($1, $2)",
        "INSERT",
        workspace,
        vec![DatumWithOid::from(session_id)],
    )?)
}

#[pg_extern(sql = false)]
fn erase_archived_messages(
    workspace: Option<Uuid>,
    session_id: Option<&str>,
    ids: Option<Vec<Option<Uuid>>>,
) -> Report<i64> {
    Ok(count_as_owner(
        "SELECT engram_internal.erase_archived($1, $2, $3)",
        "DELETE",
        workspace,
        vec![DatumWithOid::from(session_id), DatumWithOid::from(ids)],
    )?)
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn should_extract(
    message_id: Option<Uuid>,
    content: Option<&str>,
    turns: Option<i32>,
    min_chars: Option<i32>,
    min_turns: Option<i32>,
    base_rate: Option<f64>,
    full_rate: Option<f64>,
    mature_turns: Option<i32>,
    role: Option<&str>,
) -> Report<bool> {
    let missing = |name: &str| Error::invalid(format!("{name} is NULL"), "Give a value.");
    let id = message_id.ok_or_else(|| missing("message_id"))?;
    let content = content.ok_or_else(|| missing("content"))?;
    let count = |name: &str, value: i32| {
        u32::try_from(value)
            .map_err(|_| Error::invalid(format!("{name} is {value}"), "Give a number, 0 or more."))
    };
    let rate = |name: &str, value: f64| {
        if (0.0..=1.0).contains(&value) {
            return Ok(value);
        }
        Err(Error::invalid(
            format!("{name} is {value}"),
            "Give a rate from 0 to 1.",
        ))
    };
    let turns = count("turns", turns.ok_or_else(|| missing("turns"))?)?;
    let min_chars = count("min_chars", min_chars.unwrap_or(20))?;
    let min_turns = count("min_turns", min_turns.unwrap_or(2))?;
    let sampling = Sampling {
        base: rate("base_rate", base_rate.unwrap_or(0.25))?,
        full: rate("full_rate", full_rate.unwrap_or(1.0))?,
        mature: count("mature_turns", mature_turns.unwrap_or(20))?,
    };
    if sampling.base > sampling.full {
        return Err(Error::invalid(
            format!(
                "base_rate {} is above full_rate {}",
                sampling.base, sampling.full
            ),
            "The rate rises from base_rate to full_rate. Swap the two, or give both.",
        )
        .into());
    }
    if let Some(role) = role {
        check_role(role)
            .map_err(|e| Error::invalid(e, "Leave role out if it is none of these."))?;
    }
    Ok(!matches!(role, Some("system" | "tool"))
        && turns >= min_turns
        && sampling.takes(u128::from_be_bytes(*id.as_bytes()), turns)
        && content.trim().chars().count() >= min_chars as usize)
}
