//! Tasks of the whole store: its partitions, its maintenance. They run with the rights of the owner of
//! the tables, for a caller whom row level security does not bind.

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::{JsonB, pg_sys};
use serde_json::Value;

use crate::api::{Report, shorten};
use crate::error::{Error, Result};
use crate::privilege::AsOwner;
use crate::raw::RawJsonb;
use crate::{setup, spi, uses};

/// The task's function: all are of the form `(task, args) -> jsonb`.
fn function(task: &str) -> Option<&'static str> {
    match task {
        "create_partitions" | "release_partitions" => {
            Some("SELECT engram_internal.partitions_task($1, $2)")
        }
        "maintain" => Some("SELECT engram_internal.maintain_task($1, $2)"),
        "health" | "metrics" => Some("SELECT engram_internal.health_task($1, $2)"),
        _ => None,
    }
}

/// Runs a task as the owner of the tables; `None` when it returned nothing. `reads`: it must be one that
/// only reads, and may run where nothing can be written.
fn run(task: &str, args: Value, reads: bool) -> Result<Option<Value>> {
    let sql = function(task)
        .filter(|_| reads == matches!(task, "health" | "metrics"))
        .ok_or_else(|| {
            Error::invalid(
                format!("unknown task {:?}", shorten(task)),
                "Call the functions of schema engram.",
            )
        })?;
    if !(uses::trusted()? || reads && monitors()?) {
        return Err(Error::Forbidden {
            message: "this concerns the memories of all users".to_owned(),
            hint: "Call it as a role that bypasses row security, such as the owner of the tables or service_role; engram.consolidate() and engram.stats() serve your own workspace.".to_owned(),
        });
    }
    let _owner = AsOwner::confined(uses::owner()?);
    let args = [DatumWithOid::from(task), DatumWithOid::from(JsonB(args))];
    let rows = if reads {
        spi::rows(sql, &args, |row| Ok(row.get::<JsonB>(1)?))?
    } else {
        spi::changed(sql, &args, |row| Ok(row.get::<JsonB>(1)?))?
    };
    Ok(rows.into_iter().flatten().next().map(|json| json.0))
}

/// Whether the caller may look at the figures of the server as a whole.
fn monitors() -> Result<bool> {
    let found = spi::row(
        "SELECT pg_catalog.pg_has_role('pg_monitor', 'USAGE')",
        &[],
        |row| Ok(row.get::<bool>(1)?),
    )?;
    Ok(found.flatten().unwrap_or(false))
}

fn object(args: Option<RawJsonb>) -> Result<Value> {
    Ok(args
        .map(|json| json.parse())
        .transpose()?
        .unwrap_or(Value::Null))
}

#[pg_extern(sql = false)]
fn administer(task: Option<&str>, args: Option<RawJsonb>) -> Report<Option<JsonB>> {
    Ok(run(task.unwrap_or("NULL"), object(args)?, false)?.map(JsonB))
}

#[pg_extern(sql = false)]
fn observe(task: Option<&str>, args: Option<RawJsonb>) -> Report<Option<JsonB>> {
    Ok(run(task.unwrap_or("NULL"), object(args)?, true)?.map(JsonB))
}

#[pg_extern(sql = false)]
fn store_table_names() -> Vec<String> {
    setup::TABLES
        .iter()
        .filter(|name| !matches!(**name, "memory_overview" | "metrics"))
        .map(|name| (*name).to_owned())
        .collect()
}

#[pg_extern(sql = false)]
fn outside_transaction(name: Option<&str>) -> Report<()> {
    // SAFETY: looks at the state of this backend's transaction.
    if unsafe { pg_sys::IsTransactionBlock() } {
        return Err(Error::InTransaction {
            message: format!(
                "{} cannot run inside a transaction block",
                name.unwrap_or("it")
            ),
            hint:
                "It commits as it goes: call it by itself, without BEGIN and not from a function."
                    .to_owned(),
        }
        .into());
    }
    Ok(())
}
