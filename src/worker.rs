//! The optional background worker: one a database of `engram.worker_databases`, which does what
//! `CALL engram.maintain()` does every `engram.worker_interval` seconds. Only a server that preloads the
//! library has it; everything else works without.

use std::time::Duration;

use pgrx::bgworkers::{
    BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, SignalWakeFlags,
};
use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::{JsonB, pg_sys};
use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::{settings, spi};

/// Most databases that get a worker; each takes one of `max_worker_processes`.
const MAX_DATABASES: usize = 32;

/// Registers the workers, while the server starts.
pub fn register() {
    // SAFETY: a plain flag of the process.
    if !unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
        return;
    }
    let databases = settings::worker_databases();
    if databases.len() > MAX_DATABASES {
        pgrx::warning!(
            "engram.worker_databases names {} databases, the first {MAX_DATABASES} are maintained",
            databases.len()
        );
    }
    for database in databases.into_iter().take(MAX_DATABASES) {
        BackgroundWorkerBuilder::new(&format!("engram maintenance of {database}"))
            .set_type("engram maintenance")
            .set_library("engram")
            .set_function("engram_worker")
            .set_extra(&database)
            // Not on a standby, until it is promoted.
            .set_start_time(BgWorkerStartTime::RecoveryFinished)
            .set_restart_time(Some(Duration::from_secs(60)))
            .enable_spi_access()
            .load();
    }
}

/// Where a worker begins.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn engram_worker(_argument: pg_sys::Datum) {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    // So that a shutdown ends a statement too, and not only the wait between two.
    // SAFETY: the handler has the signature that PostgreSQL calls.
    unsafe {
        #[cfg(feature = "pg18")]
        pg_sys::pqsignal_be(pg_sys::SIGTERM as i32, Some(stop));
        #[cfg(not(feature = "pg18"))]
        pg_sys::pqsignal(pg_sys::SIGTERM as i32, Some(stop));
    }
    BackgroundWorker::connect_worker_to_spi(Some(BackgroundWorker::get_extra()), None);
    // It is a superuser, and the settings of a database are its owner's.
    // SAFETY: NUL-terminated constants; no transaction is needed to set what is not looked up.
    unsafe {
        for (name, value) in [
            (c"search_path", c"pg_catalog, pg_temp"),
            // Under an older snapshot nothing is folded or packed.
            (c"default_transaction_isolation", c"read committed"),
        ] {
            pg_sys::SetConfigOption(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_OVERRIDE,
            );
        }
    }
    loop {
        maintain();
        let interval = Duration::from_secs(settings::worker_interval());
        if !BackgroundWorker::wait_latch(Some(interval)) {
            return;
        }
        pgrx::check_for_interrupts!();
        if BackgroundWorker::sighup_received() {
            // SAFETY: what every background process does on SIGHUP, outside a transaction.
            unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
        }
    }
}

/// Ends the worker at the next moment at which it looks for interrupts.
unsafe extern "C-unwind" fn stop(_signal: i32) {
    // SAFETY: flags that PostgreSQL's own handlers set in the same way, and the latch of this process.
    unsafe {
        (&raw mut pg_sys::ProcDiePending).write_volatile(1);
        (&raw mut pg_sys::InterruptPending).write_volatile(1);
        pg_sys::SetLatch(pg_sys::MyLatch);
    }
}

/// One run over all phases, each batch in a transaction of its own. An error ends the worker, and the
/// server starts it again a minute later.
fn maintain() {
    let phases = BackgroundWorker::transaction(|| phases().unwrap_or_else(|e| error!("{e}")));
    if phases.is_empty() {
        return;
    }
    let mut report = Map::new();
    for phase in phases {
        let mut step = Value::Null;
        loop {
            pgrx::check_for_interrupts!();
            let next = BackgroundWorker::transaction({
                let (phase, step) = (phase.clone(), step.clone());
                move || run_step(&phase, step).unwrap_or_else(|e| error!("{e}"))
            });
            step = next;
            if step.get("done").and_then(Value::as_bool).unwrap_or(true) {
                break;
            }
        }
        if let Some(counts) = step.as_object_mut() {
            counts.remove("done");
        }
        report.insert(phase, step);
    }
    BackgroundWorker::transaction(move || {
        finish(Value::Object(report)).unwrap_or_else(|e| error!("{e}"));
    });
}

/// The phases of a database in which engram is installed as this library needs it, else none.
fn phases() -> Result<Vec<String>> {
    let ready = spi::row(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_extension e \
                        WHERE e.extname OPERATOR(pg_catalog.=) 'engram' AND e.extversion OPERATOR(pg_catalog.=) $1) \
            AND pg_catalog.to_regclass('engram.maintenance') IS NOT NULL",
        &[DatumWithOid::from(env!("CARGO_PKG_VERSION"))],
        |row| Ok(row.get::<bool>(1)?),
    )?;
    if ready.flatten() != Some(true) {
        return Ok(Vec::new());
    }
    let phases = spi::row("SELECT engram_internal.phases()", &[], |row| {
        Ok(row.get::<Vec<Option<String>>>(1)?)
    })?;
    Ok(phases
        .flatten()
        .unwrap_or_default()
        .into_iter()
        .flatten()
        .collect())
}

fn run_step(phase: &str, so_far: Value) -> Result<Value> {
    let after = so_far
        .get("after")
        .and_then(Value::as_str)
        .map(str::to_owned);
    let so_far = match so_far {
        Value::Null => None,
        step => Some(JsonB(step)),
    };
    let step = spi::changed(
        "SELECT engram_internal.maintain_step($1, $2, $3)",
        &[
            DatumWithOid::from(phase),
            DatumWithOid::from(after),
            DatumWithOid::from(so_far),
        ],
        |row| Ok(row.get::<JsonB>(1)?),
    )?;
    Ok(step
        .into_iter()
        .flatten()
        .next()
        .map_or(Value::Null, |json| json.0))
}

fn finish(report: Value) -> Result<()> {
    spi::changed(
        "SELECT engram_internal.administer('maintain', $1)",
        &[DatumWithOid::from(JsonB(
            json!({"phase": "finish", "report": report}),
        ))],
        |_| Ok(()),
    )?;
    Ok(())
}
