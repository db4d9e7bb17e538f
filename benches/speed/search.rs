//! What searches cost.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pgvector::Vector;
use postgres::types::ToSql;
use postgres::{Client, Statement};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Options;
use super::baseline::Baseline;
use super::clock::Clock;
use super::generator::{Generator, Question, Random};
use crate::common::markdown::Table;
use crate::common::server::{Server, act_for};
use crate::common::{Result, say};

const RESULTS: i32 = 10;
const WARM_UP: usize = 20;
/// Searches of the large workspace cost the baselines up to a second each.
const LARGE_QUERIES: usize = 50;
const CLIENTS: usize = 4;
/// Searches of a client in one workspace before it goes to another.
const STAY: usize = 10;

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    And,
    Or,
    Vector,
    Tagged,
}

impl Kind {
    const ALL: [Self; 4] = [Self::And, Self::Or, Self::Vector, Self::Tagged];

    fn title(self) -> &'static str {
        match self {
            Self::And => "text and vector, 2 words (the baselines want both)",
            Self::Or => "text and vector, any of 6 words",
            Self::Vector => "vector only",
            Self::Tagged => "text and vector, any of 6 words, with one tag of ten",
        }
    }
}

/// A connection that searches in one way.
struct Searcher {
    title: &'static str,
    baseline: Option<Baseline>,
    client: Client,
    clock: Clock,
    statements: HashMap<u8, Statement>,
}

impl Searcher {
    /// `None` is engram.
    fn new(server: &Server, database: &str, baseline: Option<Baseline>) -> Result<Self> {
        let mut client = match baseline {
            Some(b) if !b.under_policy() => server.admin(database)?,
            _ => server.app(database)?,
        };
        if let Some(baseline) = baseline {
            client.batch_execute(baseline.settings())?;
        }
        let mut statements = HashMap::new();
        for kind in Kind::ALL {
            if let Some(sql) = sql(baseline, kind) {
                statements.insert(kind as u8, client.prepare(&sql)?);
            }
        }
        Ok(Self {
            title: baseline.map_or("engram", Baseline::title),
            baseline,
            clock: Clock::of(&mut client)?,
            client,
            statements,
        })
    }

    fn can(&self, kind: Kind) -> bool {
        self.statements.contains_key(&(kind as u8))
    }

    fn enter(&mut self, user: Uuid) -> Result<()> {
        match self.baseline {
            Some(b) if !b.under_policy() => Ok(()),
            _ => act_for(&mut self.client, &user.to_string()),
        }
    }

    /// One search; the numbers of the memories that it finds.
    fn search(&mut self, kind: Kind, question: &Question, user: Uuid) -> Result<Vec<i64>> {
        let vector = Vector::from(question.vector.clone());
        let text = match (kind, self.baseline) {
            (Kind::And, _) => &question.two,
            (_, None) => &question.six,
            (_, Some(_)) => &question.six_or,
        };
        let filter = json!({"tags": question.tag});
        let tenant = self.baseline.is_some_and(|b| !b.under_policy());
        let mut values: Vec<&(dyn ToSql + Sync)> = vec![&vector, &RESULTS];
        if kind != Kind::Vector {
            values.push(text);
        }
        if tenant {
            values.push(&user);
        }
        if kind == Kind::Tagged {
            match self.baseline {
                None => values.push(&filter),
                Some(_) => values.push(&question.tag),
            }
        }
        let rows = self
            .client
            .query(&self.statements[&(kind as u8)], &values)?;
        Ok(rows
            .iter()
            .map(|row| row.get::<_, Value>(2)["n"].as_i64().unwrap_or(-1))
            .collect())
    }
}

/// The statement: $1 vector, $2 count, then as far as needed text, tenant, tag or filter.
fn sql(baseline: Option<Baseline>, kind: Kind) -> Option<String> {
    let columns = "SELECT id, content, metadata FROM";
    let Some(baseline) = baseline else {
        let more = match kind {
            Kind::And | Kind::Or => ", query_text => $3",
            Kind::Vector => "",
            Kind::Tagged => ", query_text => $3, filter => $4",
        };
        return Some(format!(
            "{columns} engram.search(query_embedding => $1, match_count => $2{more})"
        ));
    };
    let function = baseline.function();
    if baseline == Baseline::Published {
        // It has neither a form without text nor filters.
        return matches!(kind, Kind::And | Kind::Or)
            .then(|| format!("{columns} {function}($3, $1, $2)"));
    }
    let tenant = !baseline.under_policy();
    Some(match (kind, tenant) {
        (Kind::And | Kind::Or, false) => format!("{columns} {function}($3, $1, $2)"),
        (Kind::And | Kind::Or, true) => format!("{columns} {function}($3, $1, $2, $4)"),
        (Kind::Vector, false) => format!("{columns} {function}_nearest($1, $2)"),
        (Kind::Vector, true) => format!("{columns} {function}_nearest($1, $2, $3)"),
        (Kind::Tagged, false) => format!("{columns} {function}_tagged($3, $1, $2, $4)"),
        (Kind::Tagged, true) => format!("{columns} {function}_tagged($3, $1, $2, $4, $5)"),
    })
}

/// What a variant did over all questions of a kind.
#[derive(Default)]
pub struct Samples {
    cpu: Vec<f64>,
    wall: Vec<f64>,
    rows: usize,
    found: usize,
    wanted: usize,
}

impl Samples {
    pub fn push(&mut self, cpu: Duration, wall: Duration) {
        self.cpu.push(cpu.as_secs_f64() * 1e3);
        self.wall.push(wall.as_secs_f64() * 1e3);
    }

    pub fn cpu(&self, share: f64) -> f64 {
        quantile(&self.cpu, share)
    }

    pub fn wall(&self, share: f64) -> f64 {
        quantile(&self.wall, share)
    }
}

fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len());
    sorted[at - 1]
}

/// Measures one search and takes note of it.
fn measure(
    searcher: &mut Searcher,
    samples: Option<&mut Samples>,
    kind: Kind,
    question: &Question,
    user: Uuid,
) -> Result<Vec<i64>> {
    searcher.enter(user)?;
    let before = searcher.clock.read()?;
    let started = Instant::now();
    let found = searcher.search(kind, question, user)?;
    let wall = started.elapsed();
    let cpu = searcher.clock.read()? - before;
    if let Some(samples) = samples {
        samples.push(cpu, wall);
        samples.rows += found.len();
    }
    Ok(found)
}

/// The nearest memories of a workspace, by computing every product.
fn exact(vectors: &[Vec<f32>], query: &[f32], user_bits: i64) -> HashSet<i64> {
    let mut all: Vec<(f32, i64)> = vectors
        .iter()
        .enumerate()
        .map(|(n, v)| {
            let product: f32 = v.iter().zip(query).map(|(a, b)| a * b).sum();
            (product, user_bits | n as i64)
        })
        .collect();
    let k = (RESULTS as usize).min(all.len());
    all.select_nth_unstable_by(k - 1, |a, b| b.0.total_cmp(&a.0));
    all[..k].iter().map(|(_, n)| *n).collect()
}

/// Latency of every kind of search in every variant, and recall.
pub fn latencies(
    server: &Server,
    options: &Options,
    generator: &Generator,
    database: &str,
) -> Result<String> {
    let mut searchers = vec![Searcher::new(server, database, None)?];
    for baseline in &options.baselines {
        searchers.push(Searcher::new(server, database, Some(*baseline))?);
    }
    let mut random = Random::new(&[options.seed, 6]);
    let small: Vec<usize> = (0..options.queries)
        .map(|_| random.below(options.workspaces))
        .collect();
    let mut report = String::new();
    let mut groups = vec![(options.memories, small)];
    if options.large > 0 {
        let queries = options.queries.min(LARGE_QUERIES);
        groups.push((options.large, vec![options.workspaces; queries]));
    }
    for (memories, workspaces) in groups {
        let questions: Vec<Question> = workspaces
            .iter()
            .enumerate()
            .map(|(n, workspace)| generator.question(*workspace, memories, n))
            .collect();
        for kind in Kind::ALL {
            say(format!("{memories} memories: {}", kind.title()));
            let mut samples: Vec<Samples> = searchers.iter().map(|_| Samples::default()).collect();
            let mut answers: Vec<(usize, usize, Vec<i64>)> = Vec::new();
            // All questions are asked twice, and measured when what they read is in memory.
            for measured in [false, true] {
                for (n, question) in questions.iter().enumerate() {
                    let user = generator.user(question.workspace);
                    // Nobody always comes after the same neighbour's use of the CPU's caches.
                    for turn in 0..searchers.len() {
                        let at = (turn + n) % searchers.len();
                        if searchers[at].can(kind) {
                            let note = measured.then_some(&mut samples[at]);
                            let found = measure(&mut searchers[at], note, kind, question, user)?;
                            if measured && kind == Kind::Vector {
                                answers.push((at, n, found));
                            }
                        }
                    }
                }
            }
            recall(generator, memories, &questions, answers, &mut samples);
            report += &latency_table(&searchers, &samples, kind, memories);
        }
    }
    Ok(report)
}

/// Compares vector answers with the exact ones, workspace by workspace to hold few vectors at once.
fn recall(
    generator: &Generator,
    memories: usize,
    questions: &[Question],
    mut answers: Vec<(usize, usize, Vec<i64>)>,
    samples: &mut [Samples],
) {
    answers.sort_by_key(|(_, n, _)| questions[*n].workspace);
    for group in answers.chunk_by(|a, b| questions[a.1].workspace == questions[b.1].workspace) {
        let workspace = questions[group[0].1].workspace;
        let vectors: Vec<Vec<f32>> = (0..memories)
            .map(|n| generator.vector(workspace, n))
            .collect();
        for (at, n, found) in group {
            let wanted = exact(&vectors, &questions[*n].vector, (workspace as i64) << 32);
            samples[*at].wanted += wanted.len();
            samples[*at].found += found.iter().filter(|n| wanted.contains(n)).count();
        }
    }
}

fn latency_table(
    searchers: &[Searcher],
    samples: &[Samples],
    kind: Kind,
    memories: usize,
) -> String {
    let mut table = Table::new(&[
        "variant",
        "CPU ms p50",
        "CPU ms p95",
        "wall ms p50",
        "wall ms p95",
        "ratio p50",
        "ratio p95",
        "rows",
        "recall@10",
    ]);
    let (p50, p95) = (samples[0].cpu(0.5), samples[0].cpu(0.95));
    for (searcher, s) in searchers.iter().zip(samples) {
        let mut cells = vec![searcher.title.to_owned()];
        if s.cpu.is_empty() {
            cells.extend(std::iter::repeat_n("–".to_owned(), 8));
        } else {
            cells.extend(
                [s.cpu(0.5), s.cpu(0.95), s.wall(0.5), s.wall(0.95)].map(|ms| format!("{ms:.2}")),
            );
            let ratio = |part: f64, own: f64| match searcher.baseline {
                Some(_) => format!("{:.1}", part / own),
                None => "1".to_owned(),
            };
            cells.extend([ratio(s.cpu(0.5), p50), ratio(s.cpu(0.95), p95)]);
            cells.push(format!("{:.1}", s.rows as f64 / s.cpu.len() as f64));
            cells.push(match s.wanted {
                0 => "–".to_owned(),
                n => format!("{:.3}", s.found as f64 / n as f64),
            });
        }
        table.row(&cells);
    }
    table.under(&format!(
        "Search, workspace of {memories} memories: {}",
        kind.title()
    ))
}

/// The same searches of the same workspaces where there is nobody else, and among all others.
pub fn flatness(
    server: &Server,
    options: &Options,
    generator: &Generator,
    few: &str,
    all: &str,
) -> Result<String> {
    let mut pair = [
        Searcher::new(server, few, None)?,
        Searcher::new(server, all, None)?,
    ];
    let total: usize = options.sizes().iter().sum();
    let names = [2 * options.memories, total].map(|n| format!("CPU ms p50 among {n}"));
    let mut table = Table::new(&["search", &names[0], &names[1], "ratio"]);
    for kind in Kind::ALL {
        let mut samples = [Samples::default(), Samples::default()];
        for n in 0..options.queries + WARM_UP {
            let question = generator.question(n % 2, options.memories, n);
            let user = generator.user(n % 2);
            for turn in 0..2 {
                let at = (turn + n / 2) % 2;
                let note = (n >= WARM_UP).then_some(&mut samples[at]);
                measure(&mut pair[at], note, kind, &question, user)?;
            }
        }
        let [alone, among] = samples.map(|s| s.cpu(0.5));
        table.row(&[
            kind.title().to_owned(),
            format!("{alone:.2}"),
            format!("{among:.2}"),
            format!("{:.2}", among / alone),
        ]);
    }
    Ok(table.under("Flatness: engram's search of one workspace, by what the database holds"))
}

/// Searches a second with several clients.
pub fn throughput(
    server: &Server,
    options: &Options,
    generator: &Generator,
    database: &str,
) -> Result<String> {
    let variants: Vec<Option<Baseline>> = std::iter::once(None)
        .chain(options.baselines.iter().copied().map(Some))
        .collect();
    let mut table = Table::new(&[
        "variant",
        "2 words, a second",
        "ratio",
        "6 words, a second",
        "ratio",
    ]);
    let mut own = [0.0; 2];
    for variant in variants {
        let mut cells = vec![variant.map_or("engram", Baseline::title).to_owned()];
        for (n, kind) in [Kind::And, Kind::Or].into_iter().enumerate() {
            let rate = rate(server, options, generator, database, variant, kind)?;
            if variant.is_none() {
                own[n] = rate;
            }
            cells.push(format!("{rate:.0}"));
            cells.push(format!("{:.1}", own[n] / rate));
        }
        table.row(&cells);
    }
    Ok(table.under(&format!(
        "Throughput: {CLIENTS} clients, workspaces of {} memories (ratio: engram's rate over the variant's)",
        options.memories
    )))
}

fn rate(
    server: &Server,
    options: &Options,
    generator: &Generator,
    database: &str,
    variant: Option<Baseline>,
    kind: Kind,
) -> Result<f64> {
    let mut searchers = (0..CLIENTS)
        .map(|_| Searcher::new(server, database, variant))
        .collect::<Result<Vec<_>>>()?;
    let done = AtomicU64::new(0);
    // Plans and caches of new connections are warm after the first tenth.
    let length = Duration::from_secs_f64(options.seconds);
    let started = Instant::now();
    let (from, until) = (started + length / 10, started + length);
    std::thread::scope(|scope| {
        let threads: Vec<_> = searchers
            .iter_mut()
            .enumerate()
            .map(|(client, searcher)| {
                let done = &done;
                scope.spawn(move || -> Result<()> {
                    let mut random = Random::new(&[options.seed, 7, client as u64]);
                    for n in 0.. {
                        let workspace = random.below(options.workspaces);
                        let user = generator.user(workspace);
                        searcher.enter(user)?;
                        for m in 0..STAY {
                            let question =
                                generator.question(workspace, options.memories, n * STAY + m);
                            searcher.search(kind, &question, user)?;
                            let now = Instant::now();
                            if now > until {
                                return Ok(());
                            }
                            if now > from {
                                done.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        for thread in threads {
            thread
                .join()
                .unwrap_or_else(|e| std::panic::resume_unwind(e))?;
        }
        Ok::<_, crate::common::Failure>(())
    })?;
    Ok(done.into_inner() as f64 / (until - from).as_secs_f64())
}
