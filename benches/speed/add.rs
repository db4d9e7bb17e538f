//! What storing costs, with everything searchable at COMMIT.

use std::time::Instant;

use pgvector::Vector;
use postgres::types::Json;
use postgres::{Client, Statement};
use serde_json::json;
use uuid::Uuid;

use super::Options;
use super::clock::Clock;
use super::generator::{Generator, Row};
use super::load::add_many;
use super::search::Samples;
use crate::common::Result;
use crate::common::markdown::Table;
use crate::common::server::{Server, act_for};

/// How a store is asked before the next has its turn.
struct Shape {
    title: &'static str,
    /// Memories of a call.
    size: usize,
    /// Calls of a turn: their mean is one sample.
    calls: usize,
    turns: usize,
}

/// Single adds twice: with caches that the other store has just filled, and with a client's own.
const SHAPES: [Shape; 4] = [
    Shape {
        title: "single",
        size: 1,
        calls: 1,
        turns: 500,
    },
    Shape {
        title: "single, 20 in a row",
        size: 1,
        calls: 20,
        turns: 50,
    },
    Shape {
        title: "batches of 100",
        size: 100,
        calls: 1,
        turns: 20,
    },
    Shape {
        title: "bulk of 1,000",
        size: 1000,
        calls: 1,
        turns: 4,
    },
];
const WARM_UP: usize = 2;
const ADD: &str = "SELECT engram.add($1, embedding => $2, tags => $3, metadata => $4)";
const INSERT: &str = "INSERT INTO docs (id, user_id, content, tags, metadata, embedding)
    SELECT id, user_id, content, ARRAY[tag], metadata, embedding
    FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::text[], $5::jsonb[], $6::vector[])
      AS u (id, user_id, content, tag, metadata, embedding)";

/// Adds to a workspace of its own in a copy of the database, which is dropped again.
pub fn costs(
    server: &Server,
    options: &Options,
    generator: &Generator,
    database: &str,
) -> Result<String> {
    let copy = "speed_add";
    let mut postgres = server.admin("postgres")?;
    postgres.batch_execute(&format!("DROP DATABASE IF EXISTS {copy} WITH (FORCE)"))?;
    postgres.batch_execute(&format!(
        "CREATE DATABASE {copy} TEMPLATE {database} STRATEGY file_copy"
    ))?;
    let table = in_copy(server, options, generator, copy);
    postgres.batch_execute(&format!("DROP DATABASE IF EXISTS {copy} WITH (FORCE)"))?;
    table
}

/// A connection that stores in one way.
struct Store {
    name: &'static str,
    client: Client,
    clock: Clock,
    /// Adds one row to engram, or any number to `docs`.
    statement: Statement,
}

impl Store {
    fn new(server: &Server, database: &str, user: Uuid, engram: bool) -> Result<Self> {
        let mut client = server.app(database)?;
        act_for(&mut client, &user.to_string())?;
        let (name, sql) = if engram {
            ("engram", ADD)
        } else {
            ("docs: GIN and HNSW, RLS", INSERT)
        };
        Ok(Self {
            name,
            statement: client.prepare(sql)?,
            clock: Clock::of(&mut client)?,
            client,
        })
    }
}

fn in_copy(
    server: &Server,
    options: &Options,
    generator: &Generator,
    database: &str,
) -> Result<String> {
    let mut table = Table::new(&[
        "store",
        "call",
        "CPU µs per memory p50",
        "p99",
        "wall µs per memory p50",
        "p99",
        "ratio of CPU",
    ]);
    // A workspace that holds nothing yet.
    let workspace = options.workspaces + 1;
    let user = generator.user(workspace);
    let mut stores = vec![Store::new(server, database, user, true)?];
    if !options.baselines.is_empty() {
        stores.push(Store::new(server, database, user, false)?);
    }
    let mut next = 0;
    for shape in SHAPES {
        let mut samples: Vec<Samples> = stores.iter().map(|_| Samples::default()).collect();
        for turn in 0..shape.turns + WARM_UP {
            let batches: Vec<Vec<Row>> = (0..shape.calls)
                .map(|_| {
                    let from = next;
                    next += shape.size;
                    (from..next).map(|n| generator.row(workspace, n)).collect()
                })
                .collect();
            let memories = (shape.calls * shape.size) as u32;
            for (at, store) in stores.iter_mut().enumerate() {
                let before = store.clock.read()?;
                let started = Instant::now();
                for rows in &batches {
                    match (at, shape.size) {
                        (0, 1) => add(store, &rows[0])?,
                        (0, _) => add_many(&mut store.client, rows)?,
                        _ => insert(store, rows, user)?,
                    }
                }
                let wall = started.elapsed() / memories;
                let cpu = (store.clock.read()? - before) / memories;
                if turn >= WARM_UP {
                    samples[at].push(cpu, wall);
                }
            }
        }
        for (store, s) in stores.iter().zip(&samples) {
            let micro = |ms: f64| format!("{:.0}", ms * 1e3);
            table.row(&[
                store.name.to_owned(),
                shape.title.to_owned(),
                micro(s.cpu(0.5)),
                micro(s.cpu(0.99)),
                micro(s.wall(0.5)),
                micro(s.wall(0.99)),
                format!("{:.1}", s.cpu(0.5) / samples[0].cpu(0.5)),
            ]);
        }
    }
    Ok(table.under("Adding, one transaction a call"))
}

fn add(store: &mut Store, row: &Row) -> Result<()> {
    let vector = Vector::from(row.vector.clone());
    let metadata = Json(json!({"n": row.number}));
    let tags = [row.tag.as_str()];
    store.client.query_one(
        &store.statement,
        &[&row.content, &vector, &&tags[..], &metadata],
    )?;
    Ok(())
}

fn insert(store: &mut Store, rows: &[Row], user: Uuid) -> Result<()> {
    let ids: Vec<i64> = rows.iter().map(|row| row.number).collect();
    let users = vec![user; rows.len()];
    let contents: Vec<&str> = rows.iter().map(|row| row.content.as_str()).collect();
    let tags: Vec<&str> = rows.iter().map(|row| row.tag.as_str()).collect();
    let metadata: Vec<_> = ids.iter().map(|n| Json(json!({"n": n}))).collect();
    let vectors: Vec<Vector> = rows.iter().map(|row| row.vector.clone().into()).collect();
    store.client.execute(
        &store.statement,
        &[&ids, &users, &contents, &tags, &metadata, &vectors],
    )?;
    Ok(())
}
