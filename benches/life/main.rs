//! What learning from use costs: noting uses, folding them, knowing what is needed, consolidating;
//! beside what people write by hand for it, in the same server. `./task bench life --help` lists the
//! options.

#[allow(dead_code)] // each program uses a part
#[path = "../common/mod.rs"]
mod common;

mod activation;
mod care;
#[path = "../speed/clock.rs"]
mod clock;
mod crowd;
mod fold;
#[allow(dead_code)]
#[path = "../speed/generator.rs"]
mod generator;
mod live;
mod load;
mod meter;
mod touch;

use std::path::PathBuf;

use common::server::Server;
use common::{Failure, Result, in_repository, machine, publish, say};
use generator::Generator;
use load::Calls;

const USAGE: &str = "\
usage: ./task bench life [options]

  --quick                small sizes, done in a minute; no report of record
  --memories M           memories of a workspace (5000)
  --large L              memories of one more workspace, for activation (100000; 0: none)
  --users U              workspaces of 100 memories, for folds (200)
  --calls C              noted calls that are folded (20000)
  --consolidate N        memories that are consolidated (200000)
  --wide W               rows of the wide table with GIN and HNSW (10000)
  --dims D               dimensions of its vectors (384)
  --queries Q            single calls that are measured (500)
  --seconds T            length of each throughput measurement (5)
  --crowd T              seconds that many sessions use, pin and erase the same memories (60)
  --seed S               another seed makes other data (1)
  --only LIST            of touch,recall,live,fold,crowd,activation,consolidate (all)
  --shared-buffers SIZE  of the server (2GB)
  --keep yes             leave the database as it is in the end, to be looked at
  --out FILE             where the report goes (benches/results/life.md; --quick: only the screen)
";

const PARTS: [&str; 7] = [
    "touch",
    "recall",
    "live",
    "fold",
    "crowd",
    "activation",
    "consolidate",
];
/// Name of the database for all but consolidation.
const NAME: &str = "life";
/// Workspaces whose users touch memories at the same time.
const USERS: usize = 4;
/// Memories of each of the many workspaces.
const SMALL: usize = 100;

/// What the command line says.
pub struct Options {
    memories: usize,
    large: usize,
    users: usize,
    calls: usize,
    consolidate: usize,
    wide: usize,
    dims: usize,
    queries: usize,
    seconds: f64,
    crowd: f64,
    seed: u64,
    only: Vec<String>,
    shared_buffers: String,
    keep: bool,
    out: Option<PathBuf>,
}

impl Options {
    /// `None` when the usage was asked for.
    fn parse() -> Result<Option<Self>> {
        let mut options = Self {
            memories: 5000,
            large: 100_000,
            users: 200,
            calls: 20_000,
            consolidate: 200_000,
            wide: 10_000,
            dims: 384,
            queries: 500,
            seconds: 5.0,
            crowd: 60.0,
            seed: 1,
            only: PARTS.map(str::to_owned).to_vec(),
            shared_buffers: "2GB".to_owned(),
            keep: false,
            out: Some(in_repository("benches/results/life.md")),
        };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "-h" | "--help" => return Ok(None),
                "--quick" => {
                    options = Self {
                        large: 0,
                        users: 20,
                        calls: 2000,
                        consolidate: 10_000,
                        wide: 500,
                        dims: 64,
                        queries: 100,
                        seconds: 0.5,
                        crowd: 5.0,
                        out: None,
                        ..options
                    };
                    continue;
                }
                _ => {}
            }
            let value = args
                .next()
                .ok_or_else(|| Failure::new(format!("{arg} needs a value.\n\n{USAGE}")))?;
            match arg.as_str() {
                "--memories" => options.memories = number(&arg, &value)?,
                "--large" => options.large = number(&arg, &value)?,
                "--users" => options.users = number(&arg, &value)?,
                "--calls" => options.calls = number(&arg, &value)?,
                "--consolidate" => options.consolidate = number(&arg, &value)?,
                "--wide" => options.wide = number(&arg, &value)?,
                "--dims" => options.dims = number(&arg, &value)?,
                "--queries" => options.queries = number(&arg, &value)?,
                "--seconds" => options.seconds = number(&arg, &value)?,
                "--crowd" => options.crowd = number(&arg, &value)?,
                "--seed" => options.seed = number(&arg, &value)?,
                "--shared-buffers" => options.shared_buffers = value,
                "--keep" => options.keep = value == "yes",
                "--out" => options.out = Some(value.into()),
                "--only" => {
                    options.only = value.split(',').map(str::to_owned).collect();
                    if let Some(other) = options
                        .only
                        .iter()
                        .find(|part| !PARTS.contains(&part.as_str()))
                    {
                        return Err(Failure::new(format!(
                            "--only names {other}; there are {}.",
                            PARTS.join(", ")
                        )));
                    }
                }
                _ => return Err(Failure::new(format!("Unknown option {arg}.\n\n{USAGE}"))),
            }
        }
        if options.memories < 250
            || options.users < 1
            || options.calls < 1
            || options.queries < 1
            || options.dims < 1
            || options.wide < 100
            || options.consolidate < options.memories
        {
            return Err(Failure::new(
                "At least 250 memories a workspace and as many to consolidate, 100 rows of the wide table, and 1 of everything else are needed.",
            ));
        }
        Ok(Some(options))
    }

    fn wants(&self, part: &str) -> bool {
        self.only.iter().any(|p| p == part)
    }
}

fn run() -> Result<()> {
    let Some(options) = Options::parse()? else {
        print!("{USAGE}");
        return Ok(());
    };
    let server = Server::start(&[
        format!("shared_buffers={}", options.shared_buffers),
        "max_wal_size=16GB".to_owned(),
        "checkpoint_timeout=1h".to_owned(),
        "synchronous_commit=off".to_owned(),
        // How many pages are written whole depends on when the last checkpoint was.
        "full_page_writes=off".to_owned(),
        // One process per connection, so that its CPU time is the whole cost.
        "max_parallel_workers_per_gather=0".to_owned(),
        "jit=off".to_owned(),
        "autovacuum=off".to_owned(),
    ])?;
    // The memories' own vectors play no part.
    let generator = Generator::new(options.seed, 1);
    let mut report = String::new();
    let mut versions = String::new();
    if PARTS[..6].iter().any(|part| options.wants(part)) {
        let mut admin = load::create(&server, NAME)?;
        versions = server.versions(NAME)?;
        let large = usize::from(options.large > 0);
        let mut sizes = vec![options.memories; USERS + 1];
        sizes.extend(std::iter::repeat_n(options.large, large));
        sizes.extend(std::iter::repeat_n(SMALL, options.users));
        load::fill(&mut admin, &generator, 0, &sizes, activation::USES)?;
        load::by_hand(&mut admin)?;
        let calls = (0..sizes.len())
            .map(|n| Calls::of(&mut admin, &generator, n))
            .collect::<Result<Vec<_>>>()?;
        let (big, many) = calls[USERS + 1..].split_at(large);
        let searched: Vec<&Calls> = calls[..1].iter().chain(big).collect();
        for calls in &searched {
            admin.execute("SELECT engram.reindex($1)", &[&calls.user])?;
        }
        load::settle(&mut admin)?;
        // What reads comes before what writes.
        if options.wants("activation") {
            report = activation::report(&server, &options, NAME, &searched)?;
        }
        if options.wants("recall") {
            report = touch::recall(&server, &options, &generator, NAME, calls[0].user)? + &report;
        }
        if options.wants("live") {
            let users = [&calls[1], &calls[2], &calls[3]];
            report = live::report(&server, &options, &generator, NAME, users)? + &report;
        }
        if options.wants("touch") {
            let mut part = touch::report(&server, &options, NAME, &calls[..USERS])?;
            part += &touch::updates(
                &server,
                NAME,
                "Updates that stayed on their page (HOT), after touches",
            )?;
            report = part + &report;
        }
        if options.wants("fold") {
            admin.batch_execute("SELECT pg_stat_reset()")?;
            report += &fold::report(&server, &options, NAME, &calls[USERS], many)?;
            report += &touch::updates(
                &server,
                NAME,
                "Updates that stayed on their page (HOT), after folds",
            )?;
        }
        if options.wants("crowd") {
            report += &crowd::report(&server, NAME, &calls[0], options.seed, options.crowd)?;
        }
        drop(admin);
        if !options.keep {
            load::drop(&server, NAME)?;
        }
    }
    if options.wants("consolidate") {
        if versions.is_empty() {
            load::create(&server, NAME)?;
            versions = server.versions(NAME)?;
            load::drop(&server, NAME)?;
        }
        report += &care::report(&server, &options, &generator)?;
    }
    let report = header(&options, &versions) + &report;
    match &options.out {
        Some(path) => publish(&report, path),
        None => {
            println!("{report}");
            say("a quick run: not written anywhere");
            Ok(())
        }
    }
}

fn header(options: &Options, versions: &str) -> String {
    format!(
        "# Learning from use\n\n{}. {versions}. Workspaces of {} memories, seed {}, {} single calls; shared_buffers {}, \
         synchronous_commit, full_page_writes, autovacuum (its work is done between the measurements), jit and parallel query \
         off, warm cache. CPU is the time that the connection's server process spent on a CPU; WAL is what the server's log grew \
         by, the commit included. Variants take turns. Ratios are the other's figure over engram's: above 1, engram is the better.\n\n",
        machine::describe(),
        options.memories,
        options.seed,
        options.queries,
        options.shared_buffers,
    )
}

/// Reads a number from the command line.
fn number<T: std::str::FromStr>(option: &str, given: &str) -> Result<T> {
    given
        .parse()
        .map_err(|_| Failure::new(format!("{option} is {given}; give a number.")))
}

fn main() {
    common::finish(run());
}
