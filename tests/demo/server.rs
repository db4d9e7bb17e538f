//! What an administrator does once, and connecting.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use postgres::error::SqlState;
use postgres::{Client, Config, NoTls, Transaction};

use super::{Failure, Result};

/// The role of the application: owns nothing, bypasses nothing.
pub const ROLE: &str = "app";

/// Connects through the socket in `directory`.
pub fn connect(directory: &Path, database: &str, role: &str) -> Result<Client> {
    Config::new()
        .host_path(directory)
        .user(role)
        .dbname(database)
        .application_name("engram demo")
        .connect_timeout(Duration::from_secs(10))
        // Dates then look the same everywhere.
        .options("-c timezone=UTC")
        .connect(NoTls)
        .map_err(|error| {
            let dir = directory.display();
            Failure::new(if error.code() == Some(&SqlState::INVALID_CATALOG_NAME) {
                format!(
                    "The server has no database {database}. Create it: createdb -h {dir} -U postgres {database}"
                )
            } else if error.code().is_some() {
                explain(&error)
            } else {
                format!(
                    "No PostgreSQL server answers in {dir}: {}. Start one with ./task run, or name the directory of its socket with --socket.",
                    root_cause(&error)
                )
            })
        })
}

/// An error of the server, with its advice, as sentences.
pub fn explain(error: &postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => [Some(db.message()), db.detail(), db.hint()]
            .into_iter()
            .flatten()
            .map(|part| part.trim_end_matches('.'))
            .collect::<Vec<_>>()
            .join(". "),
        None => format!(
            "The connection to the server failed: {}.",
            root_cause(error)
        ),
    }
}

fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Brings the extension, its tables and the role into the database, and prints the statements.
pub fn prepare(admin: &mut Client, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "As administrator:")?;
    let mut run = |admin: &mut Client, statement: &str| -> Result<()> {
        writeln!(out, "  {statement};")?;
        out.flush()?;
        Ok(admin.batch_execute(statement)?)
    };
    run(admin, "CREATE EXTENSION IF NOT EXISTS engram CASCADE")?;
    let outdated: bool = admin
        .query_one(
            "SELECT e.extversion <> a.default_version FROM pg_extension e
             JOIN pg_available_extensions a ON a.name = e.extname WHERE e.extname = 'engram'",
            &[],
        )?
        .get(0);
    if outdated {
        run(admin, "ALTER EXTENSION engram UPDATE")?;
    }
    let role = admin.query_opt("SELECT FROM pg_roles WHERE rolname = $1", &[&ROLE])?;
    if role.is_none() {
        run(admin, &format!("CREATE ROLE {ROLE} LOGIN"))?;
    }
    run(
        admin,
        &format!("SELECT engram.setup('{{\"grant_to\": [\"{ROLE}\"]}}')"),
    )?;
    let row = admin.query_one("SELECT engram, vector, postgres FROM engram.version()", &[])?;
    let [engram, vector, postgres] = [0, 1, 2].map(|i| row.get::<_, String>(i));
    writeln!(
        out,
        "That is engram {engram} with pgvector {vector} on PostgreSQL {postgres}.\n"
    )?;
    Ok(())
}

/// Makes the rest of the transaction act for `user`: `SET LOCAL` with a bound value.
pub fn act_for(transaction: &mut Transaction<'_>, user: &str) -> Result<()> {
    transaction.execute("SELECT set_config('engram.user_id', $1, true)", &[&user])?;
    Ok(())
}
