//! What it costs to care for all memories when nobody uses them.

use std::time::{Duration, SystemTime};

use pgvector::Vector;
use postgres::types::{Json, Type};
use postgres::{Client, binary_copy::BinaryCopyInWriter};
use serde_json::json;

use super::Options;
use super::generator::Generator;
use super::load;
use super::meter::{Costs, Session, Updates, flush};
use crate::common::markdown::Table;
use crate::common::server::Server;
use crate::common::{Failure, Result, baselines, say};

const NAME: &str = "life_care";
/// Rows that the wide table's updates are sampled from, of those that it has.
const SAMPLE: usize = 4;
const ROUNDS: usize = 3;

/// `consolidate()`, or the procedure that commits in between.
#[derive(Clone, Copy)]
enum How {
    AtOnce,
    InBatches,
}

struct Line {
    title: String,
    /// Rows that were looked at and rows that were written.
    looked: usize,
    written: i64,
    costs: Costs,
    hot: Updates,
}

pub fn report(server: &Server, options: &Options, generator: &Generator) -> Result<String> {
    let mut admin = load::create(server, NAME)?;
    let total = options.consolidate;
    let sizes = vec![options.memories; total / options.memories];
    let total = sizes.len() * options.memories;
    load::fill(&mut admin, generator, 0, &sizes, 2)?;
    load::settle(&mut admin)?;
    say("consolidation");
    // One moment: time itself would move memories between the runs.
    let now = SystemTime::now();
    let mut lines = Vec::new();
    // Layers are not shown yet: the first run does that.
    let first = consolidate(
        server,
        How::InBatches,
        "first run after loading",
        total,
        now,
        1,
    )?;
    lines.push(first);
    load::settle(&mut admin)?;
    lines.push(consolidate(
        server,
        How::AtOnce,
        "nothing to do",
        total,
        now,
        ROUNDS,
    )?);
    let mut days = 0.0;
    let mut moved = Line {
        title: "5 % of memories change their layer".to_owned(),
        looked: total,
        written: 0,
        costs: Costs::default(),
        hot: Updates::default(),
    };
    for _ in 0..ROUNDS {
        days = in_days(&mut admin, total, now, days)?;
        let line = consolidate(server, How::InBatches, "", total, now + after(days), 1)?;
        moved.written += line.written / ROUNDS as i64;
        moved.hot.all += line.hot.all;
        moved.hot.hot += line.hot.hot;
        moved.costs.append(line.costs);
        load::settle(&mut admin)?;
    }
    lines.push(moved);
    lines.push(narrow(server, &mut admin, total)?);
    drop(admin);
    let wide = wide(server, options, generator)?;
    load::drop(server, NAME)?;

    let mut table = Table::new(&[
        "what",
        "rows",
        "written",
        "CPU s",
        "wall s",
        "WAL MB",
        "µs CPU a row written",
        "WAL bytes a row written",
        "HOT",
    ]);
    for line in &lines {
        let written = line.written.max(1) as f64;
        let each = |value: f64| match line.written {
            0 => "–".to_owned(),
            _ => format!("{:.2}", value / written),
        };
        table.row(&[
            line.title.clone(),
            line.looked.to_string(),
            line.written.to_string(),
            format!("{:.2}", line.costs.cpu() / 1e3),
            format!("{:.2}", line.costs.wall() / 1e3),
            format!("{:.1}", line.costs.wal() / 1e6),
            each(line.costs.cpu() * 1e3),
            each(line.costs.wal()),
            line.hot.share(),
        ]);
    }
    let each = wide.costs.cpu() / wide.written as f64;
    let bytes = wide.costs.wal() / wide.written as f64;
    table.row(&[
        wide.title.clone(),
        wide.looked.to_string(),
        wide.written.to_string(),
        format!("{:.2}", wide.costs.cpu() / 1e3),
        format!("{:.2}", wide.costs.wall() / 1e3),
        format!("{:.1}", wide.costs.wal() / 1e6),
        format!("{:.2}", each * 1e3),
        format!("{bytes:.2}"),
        wide.hot.share(),
    ]);
    let idle = &lines[1].costs;
    let narrow = &lines[3].costs;
    Ok(table.under(&format!(
        "Consolidation of {total} memories in {} workspaces",
        sizes.len()
    )) + &format!(
        "HOT: of engram's own rows, those of `memories`, where a layer is shown; it writes no `memory_state`. What moves is moved by `consolidate_in_batches()`. Rewriting \
             two strengths of all {total} rows would take {:.0} s of CPU and {:.2} GB of WAL in the wide table (extrapolated \
             from the rows written), {:.0} times the CPU of a run of engram that finds nothing to do and {:.1} times that of \
             a run that moves 5 %; in the narrow table {:.1} times and {:.1} times.\n\n",
        each * total as f64 / 1e3,
        bytes * total as f64 / 1e9,
        each * total as f64 / idle.cpu(),
        each * total as f64 / lines[2].costs.cpu(),
        narrow.cpu() / idle.cpu(),
        narrow.cpu() / lines[2].costs.cpu(),
    ))
}

/// Runs it as an administrator does, for all workspaces: where nothing moves in one look, else in batches.
fn consolidate(
    server: &Server,
    how: How,
    title: &str,
    looked: usize,
    at: SystemTime,
    rounds: usize,
) -> Result<Line> {
    let mut session = Session::new(server.admin(NAME)?, server.admin(NAME)?)?;
    let mut costs = Costs::default();
    let before = Updates::of(&mut server.admin(NAME)?, "engram.memories")?;
    let mut written = 0;
    for _ in 0..rounds {
        written += session.measure(&mut costs, |client| match how {
            How::AtOnce => {
                let row = client.query_one(
                    "SELECT c.promoted + c.demoted + c.archived, c.done, c.skipped
                     FROM engram.consolidate(at => $1) c",
                    &[&at],
                )?;
                if !row.get::<_, bool>(1) || row.get::<_, i64>(2) > 0 {
                    return Err(Failure::new(
                        "A consolidation was not done, though nobody was in its way.",
                    ));
                }
                Ok(row.get::<_, i64>(0))
            }
            How::InBatches => {
                let at: String = client
                    .query_one("SELECT quote_literal($1::timestamptz)", &[&at])?
                    .get(0);
                client.batch_execute(&format!("CALL engram.consolidate_in_batches(at => {at})"))?;
                Ok(0)
            }
        })?;
    }
    flush(&mut session.client)?;
    let hot = Updates::of(&mut server.admin(NAME)?, "engram.memories")?.since(before);
    if matches!(how, How::InBatches) {
        written = hot.all;
    }
    Ok(Line {
        title: title.to_owned(),
        looked,
        written,
        costs,
        hot,
    })
}

fn after(days: f64) -> Duration {
    Duration::from_secs_f64(days * 86_400.0)
}

/// Days from now, more than `from`, until one memory in twenty is in another layer than is shown.
fn in_days(admin: &mut Client, total: usize, now: SystemTime, from: f64) -> Result<f64> {
    let statement = admin.prepare(
        "SELECT c.promoted + c.demoted + c.archived
         FROM engram.consolidate(at => $1, dry_run => true) c",
    )?;
    let mut moved = |days: f64| -> Result<i64> {
        Ok(admin.query_one(&statement, &[&(now + after(days))])?.get(0))
    };
    let wanted = (total / 20) as i64;
    let (mut low, mut high) = (from, from + 1.0);
    while moved(high)? < wanted {
        low = high;
        high += high - from;
        if high > 10_000.0 {
            return Err(Failure::new(
                "Too few memories change their layer, whatever the time.",
            ));
        }
    }
    for _ in 0..8 {
        let middle = f64::midpoint(low, high);
        if moved(middle)? < wanted {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(high)
}

/// Two strengths of every row, in a table made for it.
fn narrow(server: &Server, admin: &mut Client, total: usize) -> Result<Line> {
    say("strengths rewritten in a narrow table");
    admin.batch_execute(
        "CREATE TABLE plain.strengths (user_id uuid, memory_id uuid, working double precision NOT NULL,
           core double precision NOT NULL, PRIMARY KEY (user_id, memory_id)) WITH (fillfactor = 50);
         INSERT INTO plain.strengths SELECT m.workspace_id, m.id, 1, 0 FROM engram.memories m",
    )?;
    load::settle(admin)?;
    let mut session = Session::new(server.admin(NAME)?, server.admin(NAME)?)?;
    let mut costs = Costs::default();
    let mut hot = Updates::default();
    for _ in 0..ROUNDS {
        let before = Updates::of(admin, "plain.strengths")?;
        session.measure(&mut costs, |client| {
            client.batch_execute("UPDATE plain.strengths SET core = core * 0.995 + working * 0.05, working = working * 0.86")?;
            Ok(())
        })?;
        flush(&mut session.client)?;
        let now = Updates::of(admin, "plain.strengths")?.since(before);
        hot.all += now.all;
        hot.hot += now.hot;
        load::settle(admin)?;
    }
    Ok(Line {
        title: "strengths rewritten: narrow table, fillfactor 50".to_owned(),
        looked: total,
        written: total as i64,
        costs,
        hot,
    })
}

/// Two strengths of some rows, in the table that guides recommend.
fn wide(server: &Server, options: &Options, text: &Generator) -> Result<Line> {
    say(format!(
        "a wide table of {} rows with GIN and HNSW",
        options.wide
    ));
    let mut admin = server.admin(NAME)?;
    baselines::create(&mut admin, options.dims)?;
    admin.batch_execute("ALTER TABLE docs ADD working double precision NOT NULL DEFAULT 1, ADD core double precision NOT NULL DEFAULT 0")?;
    let vectors = Generator::new(text.seed, options.dims);
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
    for n in 0..options.wide {
        let row = vectors.row(n % 4, n / 4);
        writer.write(&[
            &(n as i64),
            &vectors.user(n % 4),
            &row.content,
            &vec![row.tag],
            &Json(json!({"n": row.number})),
            &Vector::from(row.vector),
        ])?;
    }
    writer.finish()?;
    baselines::index(&mut admin, options.wide, options.dims)?;
    load::settle(&mut admin)?;
    let before = Updates::of(&mut admin, "docs")?;
    let mut session = Session::new(server.admin(NAME)?, server.admin(NAME)?)?;
    let mut costs = Costs::default();
    let written = session.measure(&mut costs, |client| {
        Ok(client.execute(
            "UPDATE docs SET core = core * 0.995 + working * 0.05, working = working * 0.86 WHERE id % $1::bigint = 0",
            &[&(SAMPLE as i64)],
        )?)
    })?;
    flush(&mut session.client)?;
    Ok(Line {
        title: "strengths rewritten: wide table, GIN and HNSW, a sample".to_owned(),
        looked: options.wide,
        written: written as i64,
        costs,
        hot: Updates::of(&mut admin, "docs")?.since(before),
    })
}
