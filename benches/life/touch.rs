//! What it costs to note that memories were used.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use postgres::error::SqlState;
use postgres::{Client, Statement};
use uuid::Uuid;

use super::Options;
use super::generator::Generator;
use super::load::{self, Calls, MEMBERS};
use super::meter::{Costs, Session, Updates, flush};
use crate::common::markdown::Table;
use crate::common::server::{Server, act_for};
use crate::common::{Failure, Result, say};

const CLIENTS: usize = 4;
/// Calls that are measured together, as those of a client that is busy: by itself each would find the
/// caches as others left them.
const BATCH: usize = 20;
const WARM_UP: usize = 2;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Variant {
    Engram,
    Loop,
    Set,
    Event,
}

impl Variant {
    const ALL: [Self; 4] = [Self::Engram, Self::Loop, Self::Set, Self::Event];

    fn title(self) -> &'static str {
        match self {
            Self::Engram => "engram.touch, RLS",
            Self::Loop => "(a) loop, one by one, unsorted",
            Self::Set => "(b) set-based, sorted",
            Self::Event => "floor: one row appended, nothing read",
        }
    }

    fn sql(self) -> &'static str {
        match self {
            Self::Engram => "SELECT engram.touch($2::uuid[]) FROM (SELECT $1::uuid) AS me",
            Self::Loop => "SELECT plain.touch_loop($1, $2)",
            Self::Set => "SELECT plain.touch_set($1, $2)",
            Self::Event => "INSERT INTO plain.events (user_id, ids) VALUES ($1, $2)",
        }
    }
}

fn connect(server: &Server, database: &str, user: Uuid) -> Result<Client> {
    let mut client = server.app(database)?;
    act_for(&mut client, &user.to_string())?;
    Ok(client)
}

/// Everything about touches.
pub fn report(
    server: &Server,
    options: &Options,
    database: &str,
    calls: &[Calls],
) -> Result<String> {
    let mut report = single(server, options, database, &calls[0])?;
    report += &throughput(server, options, database, calls)?;
    Ok(report)
}

fn single(server: &Server, options: &Options, database: &str, calls: &Calls) -> Result<String> {
    say("touches, one client");
    let mut sessions = Vec::new();
    for variant in Variant::ALL {
        let mut session = Session::new(
            connect(server, database, calls.user)?,
            server.admin(database)?,
        )?;
        let statement = session.client.prepare(variant.sql())?;
        sessions.push((session, statement, Costs::default()));
    }
    for n in 0..options.queries.div_ceil(BATCH).max(5) + WARM_UP {
        let batch: Vec<Vec<Uuid>> = (0..BATCH).map(|k| calls.call(1, n * BATCH + k)).collect();
        for turn in 0..sessions.len() {
            let at = (turn + n) % Variant::ALL.len();
            let (session, statement, costs) = &mut sessions[at];
            let mut ignored = Costs::default();
            let note = if n < WARM_UP { &mut ignored } else { costs };
            session.measure(note, |client| {
                for ids in &batch {
                    client.query(statement, &[&calls.user, ids])?;
                }
                Ok(())
            })?;
        }
    }
    for (_, _, costs) in &mut sessions {
        costs.divide(BATCH);
    }
    let mut table = Table::new(&[
        "variant",
        "CPU µs p50",
        "ratio",
        "CPU µs mean",
        "ratio",
        "WAL bytes p50",
        "WAL bytes mean",
        "ratio",
    ]);
    let own = &sessions[0].2;
    for (variant, (_, _, costs)) in Variant::ALL.iter().zip(&sessions) {
        table.row(&[
            variant.title().to_owned(),
            format!("{:.0}", costs.cpu() * 1e3),
            format!("{:.1}", costs.cpu() / own.cpu()),
            format!("{:.0}", costs.mean_cpu() * 1e3),
            format!("{:.1}", costs.mean_cpu() / own.mean_cpu()),
            format!("{:.0}", costs.wal()),
            format!("{:.0}", costs.mean_wal()),
            format!("{:.1}", costs.mean_wal() / own.mean_wal()),
        ]);
    }
    Ok(table.under(&format!(
        "Noting that {MEMBERS} memories were used, one client, a transaction each"
    )) + &format!(
        "The figures of {BATCH} calls at a time, divided. The median of engram is of calls that only note; the mean holds the folds, which one call in sixteen does if enough wait.\n\n"
    ))
}

/// The part of recall() that search() has not.
pub fn recall(
    server: &Server,
    options: &Options,
    generator: &Generator,
    database: &str,
    user: Uuid,
) -> Result<String> {
    say("recall beside search");
    let mut table = Table::new(&[
        "call",
        "CPU µs p50",
        "CPU µs mean",
        "WAL bytes p50",
        "WAL bytes mean",
    ]);
    for together in [false, true] {
        beside(
            server, options, generator, database, user, together, &mut table,
        )?;
    }
    // Whoever measures next finds nothing waiting.
    server
        .admin(database)?
        .execute("SELECT engram.consolidate($1)", &[&user])?;
    Ok(table.under("What recall() does beside searching")
        + &format!(
            "Both by turns in one session, each call by itself with a question of its own: what waits to be folded is as much for \
         either. Of one transaction each, the difference holds the commit of a row, which a search has not. In a transaction that \
         writes anyway it is what a recall adds to it; the end of that, of {BATCH} recalls and divided by them, is a row of its \
         own. Calls that wait are folded at an end once there are enough of them: that is in means, not in medians.\n\n"
        ))
}

fn beside(
    server: &Server,
    options: &Options,
    generator: &Generator,
    database: &str,
    user: Uuid,
    together: bool,
    table: &mut Table,
) -> Result<()> {
    let mut session = Session::new(connect(server, database, user)?, server.admin(database)?)?;
    let mut calls = Vec::new();
    for function in ["recall", "search"] {
        let sql = format!("SELECT * FROM engram.{function}($1)");
        calls.push((session.client.prepare(&sql)?, Costs::default()));
    }
    let mut ends = Costs::default();
    for n in 0..options.queries.div_ceil(BATCH).max(10) + WARM_UP {
        let mut ignored = Costs::default();
        if together {
            session
                .client
                .batch_execute("BEGIN; SELECT pg_current_xact_id()")?;
        }
        for k in 0..2 * BATCH {
            // Each of a pair comes first as often.
            let (statement, costs) = &mut calls[(k + k / 2) % 2];
            let question = generator.question(0, options.memories, 2 * n * BATCH + k);
            let note = if n < WARM_UP { &mut ignored } else { costs };
            session.measure(note, |client| {
                Ok(client.query(&*statement, &[&question.two])?)
            })?;
        }
        if together {
            let note = if n < WARM_UP { &mut ignored } else { &mut ends };
            session.measure(note, |client| Ok(client.batch_execute("COMMIT")?))?;
        }
    }
    ends.divide(BATCH);
    let [recall, search] = [&calls[0].1, &calls[1].1];
    let of = if together {
        "in a transaction that writes, without its end"
    } else {
        "one transaction each"
    };
    let figures = |costs: &Costs| {
        [
            costs.cpu() * 1e3,
            costs.mean_cpu() * 1e3,
            costs.wal(),
            costs.mean_wal(),
        ]
    };
    let (of_recall, of_search) = (figures(recall), figures(search));
    let mut effect = of_recall;
    for (value, other) in effect.iter_mut().zip(of_search) {
        *value -= other;
    }
    let mut rows = vec![
        (format!("recall(), 2 words; {of}"), of_recall),
        (format!("search(), 2 words; {of}"), of_search),
        (format!("difference; {of}"), effect),
    ];
    if together {
        rows.push((
            "the end of the recalls' transaction".to_owned(),
            figures(&ends),
        ));
    }
    for (title, values) in rows {
        let mut cells = vec![title];
        cells.extend(values.map(|value| format!("{value:.0}")));
        table.row(&cells);
    }
    Ok(())
}

fn throughput(
    server: &Server,
    options: &Options,
    database: &str,
    calls: &[Calls],
) -> Result<String> {
    let mut table = Table::new(&[
        "variant",
        "different users, a second",
        "ratio",
        "deadlocks",
        "same user, a second",
        "ratio",
        "deadlocks",
    ]);
    let mut own = [0.0; 2];
    let mut notes = String::new();
    for variant in Variant::ALL {
        let mut cells = vec![variant.title().to_owned()];
        for (n, same) in [false, true].into_iter().enumerate() {
            say(format!(
                "touches, {CLIENTS} clients, {}: {}",
                if same { "same user" } else { "different users" },
                variant.title()
            ));
            let before = logged(server, database)?;
            let run = rate(server, options, database, calls, variant, same)?;
            if variant == Variant::Engram {
                own[n] = run.rate;
                notes += &check(server, database, before, run.all, same)?;
            }
            cells.push(format!("{:.0}", run.rate));
            cells.push(format!("{:.1}", own[n] / run.rate));
            cells.push(run.deadlocks.to_string());
        }
        table.row(&cells);
    }
    Ok(table.under(&format!(
        "Throughput: {CLIENTS} clients, {MEMBERS} memories a call (ratio: engram's rate over the variant's)"
    )) + &notes
        + "\n")
}

fn logged(server: &Server, database: &str) -> Result<i64> {
    let mut admin = server.admin(database)?;
    admin.batch_execute("SELECT engram.consolidate()")?;
    let row = admin.query_one("SELECT count(*) FROM engram.access_log", &[])?;
    Ok(row.get(0))
}

/// That nothing was lost, and how the state was updated.
fn check(server: &Server, database: &str, before: i64, done: u64, same: bool) -> Result<String> {
    let mut admin = server.admin(database)?;
    let row = admin.query_one("SELECT count(*) FROM engram.access_queue", &[])?;
    let waiting: i64 = row.get(0);
    let after = logged(server, database)?;
    if after - before != done as i64 * MEMBERS as i64 {
        return Err(Failure::new(format!(
            "{done} calls of {MEMBERS} memories were noted, {} uses were logged.",
            after - before
        )));
    }
    Ok(format!(
        "With {}, {done} calls of engram.touch were answered, of which {waiting} waited at the end; afterwards each of their uses was in the log.\n",
        if same {
            "the same user"
        } else {
            "different users"
        },
    ))
}

struct Run {
    rate: f64,
    /// Calls that were answered, the start included.
    all: u64,
    deadlocks: u64,
}

fn rate(
    server: &Server,
    options: &Options,
    database: &str,
    calls: &[Calls],
    variant: Variant,
    same: bool,
) -> Result<Run> {
    let mut clients: Vec<(Client, Statement)> = Vec::new();
    for client in 0..CLIENTS {
        let mut connection = connect(server, database, calls[if same { 0 } else { client }].user)?;
        let statement = connection.prepare(variant.sql())?;
        clients.push((connection, statement));
    }
    let [all, counted, deadlocks] = [0, 0, 0].map(AtomicU64::new);
    let length = Duration::from_secs_f64(options.seconds);
    let started = Instant::now();
    // Plans and caches of new connections are warm after the first tenth.
    let (from, until) = (started + length / 10, started + length);
    std::thread::scope(|scope| {
        let threads: Vec<_> = clients
            .iter_mut()
            .enumerate()
            .map(|(client, (connection, statement))| {
                let calls = &calls[if same { 0 } else { client }];
                let (all, counted, deadlocks) = (&all, &counted, &deadlocks);
                scope.spawn(move || -> Result<()> {
                    for n in 0.. {
                        let ids = calls.call(10 + client as u64, n);
                        let done = connection.query(&*statement, &[&calls.user, &ids]);
                        let now = Instant::now();
                        match done {
                            Ok(_) => {
                                all.fetch_add(1, Ordering::Relaxed);
                                if now > from && now <= until {
                                    counted.fetch_add(1, Ordering::Relaxed);
                                }
                            }
                            Err(e) if e.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) => {
                                deadlocks.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(e) => return Err(e.into()),
                        }
                        if now > until {
                            break;
                        }
                    }
                    flush(connection)
                })
            })
            .collect();
        for thread in threads {
            thread
                .join()
                .unwrap_or_else(|e| std::panic::resume_unwind(e))?;
        }
        Ok::<_, Failure>(())
    })?;
    Ok(Run {
        rate: counted.into_inner() as f64 / (until - from).as_secs_f64(),
        all: all.into_inner(),
        deadlocks: deadlocks.into_inner(),
    })
}

/// How the updates of both states went since the database was filled.
pub fn updates(server: &Server, database: &str, title: &str) -> Result<String> {
    let mut admin = server.admin(database)?;
    let mut table = Table::new(&["table", "updates", "HOT"]);
    for name in [
        "engram.memory_state",
        "engram.hebbian_links",
        "plain.counters",
        "plain.links",
    ] {
        let updates = Updates::of(&mut admin, name)?;
        table.row(&[name.to_owned(), updates.all.to_string(), updates.share()]);
    }
    load::settle(&mut admin)?;
    Ok(table.under(title))
}
