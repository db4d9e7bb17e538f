//! What it costs to know how much memories are needed now.

use postgres::Statement;
use uuid::Uuid;

use super::Options;
use super::generator::Random;
use super::load::Calls;
use super::meter::{Costs, Session};
use crate::common::markdown::Table;
use crate::common::server::{Server, act_for};
use crate::common::{Failure, Result, say};

/// Uses of a memory, storing it included.
pub const USES: usize = 5;
const CANDIDATES: usize = 200;
const WARM_UP: usize = 5;

/// Everything that is done with the log by hand; `@age@` is how an age becomes seconds.
const LOG: &str = "SELECT sum(x.level) FROM (SELECT ln(sum(@age@ ^ -0.5)) AS level FROM plain.access_log l WHERE @which@ GROUP BY l.memory_id) x";
const NUMERIC: &str = "extract(epoch FROM now() - l.accessed_at)::double precision";
const FLOAT: &str = "date_part('epoch', now() - l.accessed_at)";

fn log(age: &str, which: &str) -> String {
    LOG.replace("@age@", age).replace("@which@", which)
}

struct Variant {
    title: &'static str,
    statement: Statement,
    session: Session,
    costs: Costs,
    /// Whether it computes the levels of all.
    levels: bool,
    sum: f64,
}

/// Of 200 candidates of a workspace, and of all of each.
pub fn report(
    server: &Server,
    options: &Options,
    database: &str,
    workspaces: &[&Calls],
) -> Result<String> {
    let mut report = String::new();
    let first = workspaces[0];
    say("activation of candidates");
    let mut variants = variants(
        server,
        database,
        first.user,
        vec![
            (
                "engram.activations() of them",
                "SELECT sum(a.activation) AS level FROM engram.activations($2) a WHERE a.id <> $1"
                    .to_owned(),
            ),
            (
                "engram: heat_level() by key",
                "SELECT sum(engram.heat_level(s.heat, now(), 0.5)) FROM unnest($2::uuid[]) u (id) \
                 JOIN engram.memory_state s ON s.workspace_id = $1 AND s.memory_id = u.id"
                    .to_owned(),
            ),
            (
                "log, extract(epoch …)",
                log(NUMERIC, "l.memory_id = ANY ($2) AND l.user_id = $1"),
            ),
            (
                "log, date_part('epoch', …)",
                log(FLOAT, "l.memory_id = ANY ($2) AND l.user_id = $1"),
            ),
            (
                "only reading the state by key",
                "SELECT sum(length(s.heat))::double precision FROM unnest($2::uuid[]) u (id) \
                 JOIN engram.memory_state s ON s.workspace_id = $1 AND s.memory_id = u.id"
                    .to_owned(),
            ),
            (
                "passing the ids alone",
                "SELECT count(*)::double precision FROM unnest($2::uuid[]) u (id) WHERE u.id <> $1"
                    .to_owned(),
            ),
        ],
    )?;
    for n in 0..options.queries + WARM_UP {
        let mut random = Random::new(&[options.seed, 11, n as u64]);
        let ids: Vec<Uuid> = (0..CANDIDATES.min(first.ids.len()))
            .map(|k| {
                // A different one in every stretch.
                let stretch = first.ids.len() / CANDIDATES.min(first.ids.len());
                first.ids[k * stretch + random.below(stretch)]
            })
            .collect();
        round(&mut variants, n, |statement, client| {
            let row = client.query_one(statement, &[&first.user, &ids])?;
            Ok(row.get(0))
        })?;
        agree(&variants, ids.len())?;
    }
    report += &table(
        &variants,
        &format!("Activation of {CANDIDATES} candidates, {USES} uses a memory"),
    );
    for calls in workspaces {
        say(format!("activation of {} memories", calls.ids.len()));
        let mut variants = self::variants(
            server,
            database,
            calls.user,
            vec![
                (
                    "engram.activations() of all",
                    "SELECT sum(a.activation) AS level FROM engram.activations() a WHERE a.id <> $1".to_owned(),
                ),
                (
                    "engram: heat_level() of all",
                    "SELECT sum(engram.heat_level(s.heat, now(), 0.5)) FROM engram.memory_state s WHERE s.workspace_id = $1"
                        .to_owned(),
                ),
                ("log, extract(epoch …)", log(NUMERIC, "l.user_id = $1")),
                ("log, date_part('epoch', …)", log(FLOAT, "l.user_id = $1")),
                (
                    "engram.search() with nothing asked",
                    "SELECT sum(s.score) FROM engram.search() s WHERE $1::uuid IS NOT NULL".to_owned(),
                ),
                (
                    "only reading the state",
                    "SELECT sum(length(s.heat))::double precision FROM engram.memory_state s WHERE s.workspace_id = $1"
                        .to_owned(),
                ),
            ],
        )?;
        let rounds = (options.queries * options.memories / calls.ids.len()).max(5);
        for n in 0..rounds + WARM_UP {
            round(&mut variants, n, |statement, client| {
                let row = client.query_one(statement, &[&calls.user])?;
                Ok(row.get(0))
            })?;
            agree(&variants, calls.ids.len())?;
        }
        report += &table(
            &variants,
            &format!(
                "Activation of a whole workspace, {} memories, {USES} uses each",
                calls.ids.len()
            ),
        );
    }
    report += "All levels agree to 0.003 nats with those of the log. The search also finds, ranks and fetches its ten rows, as the caller.\n\n";
    Ok(report)
}

fn variants(
    server: &Server,
    database: &str,
    user: Uuid,
    texts: Vec<(&'static str, String)>,
) -> Result<Vec<Variant>> {
    texts
        .into_iter()
        .map(|(title, sql)| {
            let mut client = if sql.contains("engram.search") || sql.contains("engram.activations")
            {
                server.app(database)?
            } else {
                server.admin(database)?
            };
            act_for(&mut client, &user.to_string())?;
            let statement = client.prepare(&sql)?;
            Ok(Variant {
                title,
                statement,
                session: Session::new(client, server.admin(database)?)?,
                costs: Costs::default(),
                levels: sql.contains("level"),
                sum: 0.0,
            })
        })
        .collect()
}

fn round(
    variants: &mut [Variant],
    n: usize,
    ask: impl Fn(&Statement, &mut postgres::Client) -> Result<f64>,
) -> Result<()> {
    let count = variants.len();
    for turn in 0..count {
        let variant = &mut variants[(turn + n) % count];
        let mut ignored = Costs::default();
        let note = if n < WARM_UP {
            &mut ignored
        } else {
            &mut variant.costs
        };
        let statement = &variant.statement;
        variant.sum = variant
            .session
            .measure(note, |client| ask(statement, client))?;
    }
    Ok(())
}

/// That engram's levels are those of the log.
fn agree(variants: &[Variant], memories: usize) -> Result<()> {
    let sums: Vec<f64> = variants
        .iter()
        .filter(|v| v.levels)
        .map(|v| v.sum)
        .collect();
    match sums
        .iter()
        .find(|sum| (**sum - sums[0]).abs() > 0.003 * memories as f64)
    {
        Some(other) => Err(Failure::new(format!(
            "The levels of {memories} memories add up to {} by heat and to {other} by the log.",
            sums[0]
        ))),
        None => Ok(()),
    }
}

fn table(variants: &[Variant], title: &str) -> String {
    let mut table = Table::new(&["variant", "CPU ms p50", "wall ms p50", "ratio of CPU"]);
    for variant in variants {
        table.row(&[
            variant.title.to_owned(),
            format!("{:.3}", variant.costs.cpu()),
            format!("{:.3}", variant.costs.wall()),
            format!("{:.1}", variant.costs.cpu() / variants[0].costs.cpu()),
        ]);
    }
    table.under(title)
}
