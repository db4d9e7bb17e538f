//! Databases with the same rows in engram and in `docs`, kept for the next run.

use std::io::Write;
use std::time::Instant;

use pgvector::Vector;
use postgres::types::{Json, ToSql, Type};
use postgres::{Client, binary_copy::BinaryCopyInWriter};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Options;
use super::generator::{Generator, Row};
use crate::common::server::{Server, act_for, install_engram, settle};
use crate::common::{Failure, Result, baselines, from_task, say};

/// Memories that a workspace gets before it is another's turn, so that tenants interleave.
const TURN: usize = 20;

/// A database of `sizes.len()` workspaces. Gives back its name.
pub fn database(
    server: &Server,
    options: &Options,
    generator: &Generator,
    sizes: &[usize],
    with_docs: bool,
) -> Result<String> {
    let large = sizes
        .iter()
        .filter(|n| **n != options.memories)
        .sum::<usize>();
    let name = format!(
        "speed_{}x{}_{large}_{}_{}",
        sizes.len() - usize::from(large > 0),
        options.memories,
        options.dims,
        options.seed
    );
    let mut postgres = server.admin("postgres")?;
    if options.fresh {
        postgres.batch_execute(&format!("DROP DATABASE IF EXISTS {name}"))?;
    }
    if postgres
        .query_opt("SELECT FROM pg_database WHERE datname = $1", &[&name])?
        .is_none()
    {
        postgres.batch_execute(&format!("CREATE DATABASE {name}"))?;
    }
    let mut admin = server.admin(&name)?;
    admin.batch_execute(
        "CREATE EXTENSION IF NOT EXISTS vector;
         CREATE TABLE IF NOT EXISTS loaded (what text PRIMARY KEY, build text NOT NULL)",
    )?;
    let mut changed = false;
    if with_docs && build_of(&mut admin, "docs")?.is_none() {
        say(format!("{name}: loading the baselines' table"));
        admin.batch_execute("DROP TABLE IF EXISTS docs CASCADE")?;
        baselines::create(&mut admin, options.dims)?;
        copy(&mut admin, generator, sizes)?;
        say(format!("{name}: building its indexes"));
        baselines::index(&mut admin, sizes.iter().sum(), options.dims)?;
        note(&mut admin, "docs", "")?;
        changed = true;
    }
    let build = build()?;
    if build_of(&mut admin, "engram")?.as_ref() != Some(&build) {
        admin.batch_execute(
            "DROP EXTENSION IF EXISTS engram;
             DROP SCHEMA IF EXISTS engram CASCADE; DROP SCHEMA IF EXISTS engram_internal CASCADE;
             DELETE FROM loaded WHERE what = 'engram'",
        )?;
        install_engram(&mut admin, options.dims)?;
        let started = Instant::now();
        let mut app = server.app(&name)?;
        let mut done = 0;
        let total: usize = sizes.iter().sum();
        for (workspace, numbers) in turns(sizes) {
            act_for(&mut app, &generator.user(workspace).to_string())?;
            let rows: Vec<Row> = numbers.map(|n| generator.row(workspace, n)).collect();
            add_many(&mut app, &rows)?;
            if (done + rows.len()) * 10 / total > done * 10 / total {
                let rate = (done + rows.len()) as f64 / started.elapsed().as_secs_f64();
                say(format!(
                    "{name}: {} of {total} memories in engram, {rate:.0} a second",
                    done + rows.len()
                ));
                // Autovacuum, which is off so that nothing disturbs, would have come by.
                admin.batch_execute("VACUUM engram.search_blocks")?;
            }
            done += rows.len();
        }
        note(&mut admin, "engram", &build)?;
        changed = true;
    }
    if changed {
        settle(&mut admin)?;
    }
    Ok(name)
}

/// Identifies the installed engram: another build gets its rows loaded anew.
fn build() -> Result<String> {
    let prefix = from_task("ENGRAM_PG18")?;
    let mut files = vec![prefix.join("lib/postgresql/engram.so")];
    let share = std::fs::read_dir(prefix.join("share/postgresql/extension"));
    for entry in share.into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("engram") {
            files.push(entry.path());
        }
    }
    files.sort();
    let mut bytes = Vec::new();
    for file in files {
        bytes.extend(std::fs::read(&file).map_err(|e| {
            Failure::new(format!(
                "Cannot read {}: {e}. Start the program with ./task bench.",
                file.display()
            ))
        })?);
    }
    Ok(Uuid::new_v5(&Uuid::NAMESPACE_OID, &bytes).to_string())
}

fn build_of(admin: &mut Client, what: &str) -> Result<Option<String>> {
    let row = admin.query_opt("SELECT build FROM loaded WHERE what = $1", &[&what])?;
    Ok(row.map(|row| row.get(0)))
}

fn note(admin: &mut Client, what: &str, build: &str) -> Result<()> {
    admin.execute("INSERT INTO loaded VALUES ($1, $2)", &[&what, &build])?;
    Ok(())
}

/// (workspace, its next memories) in order of arrival; large workspaces get more at each turn.
fn turns(sizes: &[usize]) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
    let smallest = sizes.iter().copied().min().unwrap_or(1);
    let rounds = smallest.div_ceil(TURN).max(1);
    (0..rounds).flat_map(move |round| {
        sizes.iter().enumerate().map(move |(workspace, size)| {
            (
                workspace,
                size * round / rounds..size * (round + 1) / rounds,
            )
        })
    })
}

/// One call of `engram.add_many`.
pub fn add_many(app: &mut Client, rows: &[Row]) -> Result<()> {
    let items = items(rows);
    let row = app.query_one(
        "SELECT count(*), min(error) FROM engram.add_many($1) WHERE status <> 'added'",
        &[&Json(items)],
    )?;
    if row.get::<_, i64>(0) > 0 {
        let error: Option<String> = row.get(1);
        return Err(Failure::new(format!(
            "engram.add_many did not add {} memories: {}",
            row.get::<_, i64>(0),
            error.unwrap_or_else(|| "they were there already".to_owned())
        )));
    }
    Ok(())
}

fn items(rows: &[Row]) -> Vec<Value> {
    rows.iter()
        .map(|row| {
            json!({"content": row.content, "tags": [row.tag], "metadata": {"n": row.number},
                   "embedding": as_text(&row.vector)})
        })
        .collect()
}

/// A vector as pgvector writes it.
fn as_text(vector: &[f32]) -> String {
    let mut text = Vec::with_capacity(vector.len() * 12);
    for (n, x) in vector.iter().enumerate() {
        let separator = if n == 0 { '[' } else { ',' };
        // Writing to memory cannot fail.
        let _ = write!(text, "{separator}{x}");
    }
    text.push(b']');
    String::from_utf8(text).unwrap_or_default()
}

fn copy(admin: &mut Client, generator: &Generator, sizes: &[usize]) -> Result<()> {
    let vector = admin.prepare("SELECT $1::vector")?.params()[0].clone();
    let sink = admin.copy_in(
        "COPY docs (id, user_id, content, tags, metadata, embedding) FROM STDIN (FORMAT binary)",
    )?;
    let types = [
        Type::INT8,
        Type::UUID,
        Type::TEXT,
        Type::TEXT_ARRAY,
        Type::JSONB,
        vector,
    ];
    let mut writer = BinaryCopyInWriter::new(sink, &types);
    for (workspace, numbers) in turns(sizes) {
        let user = generator.user(workspace);
        for n in numbers {
            let row = generator.row(workspace, n);
            let values: [&(dyn ToSql + Sync); 6] = [
                &row.number,
                &user,
                &row.content,
                &vec![row.tag],
                &Json(json!({"n": row.number})),
                &Vector::from(row.vector),
            ];
            writer.write(&values)?;
        }
    }
    writer.finish()?;
    Ok(())
}
