//! How fast engram searches and stores, beside what people use without it, on the same rows in the
//! same server. `./task bench speed --help` lists the options.

#[path = "../common/mod.rs"]
mod common;

mod add;
mod baseline;
mod clock;
mod generator;
mod load;
mod search;

use std::path::PathBuf;

use baseline::Baseline;
use common::markdown::Table;
use common::server::Server;
use common::{Failure, Result, in_repository, machine, publish, say};
use generator::Generator;

const USAGE: &str = "\
usage: ./task bench speed [options]

  --preset small|1m      20 workspaces of 5,000 memories (default), or 180 and one of 100,000
  --workspaces N         how many workspaces, at least 2
  --memories M           memories of each
  --large L              memories of one more workspace (0: none)
  --dims D               dimensions of the vectors (384)
  --queries Q            searches that are measured (200)
  --seed S               another seed makes other data (1)
  --baselines p,r,h,e    what to compare with, or none (all)
  --only LIST            of search,flat,qps,size,add (all)
  --seconds T            length of each throughput measurement (10)
  --shared-buffers SIZE  of the server (2GB)
  --out FILE             where the report goes (benches/results/speed.md)
  --fresh                load the data anew even if it is there
";

/// What the command line says.
pub struct Options {
    workspaces: usize,
    memories: usize,
    large: usize,
    dims: usize,
    queries: usize,
    seed: u64,
    baselines: Vec<Baseline>,
    only: Vec<String>,
    seconds: f64,
    shared_buffers: String,
    out: PathBuf,
    fresh: bool,
}

const PARTS: [&str; 5] = ["search", "flat", "qps", "size", "add"];

impl Options {
    /// `None` when the usage was asked for.
    fn parse() -> Result<Option<Self>> {
        let mut options = Self {
            workspaces: 20,
            memories: 5000,
            large: 0,
            dims: 384,
            queries: 200,
            seed: 1,
            baselines: Baseline::ALL.to_vec(),
            only: PARTS.map(str::to_owned).to_vec(),
            seconds: 10.0,
            shared_buffers: "2GB".to_owned(),
            out: in_repository("benches/results/speed.md"),
            fresh: false,
        };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "-h" | "--help" => return Ok(None),
                "--fresh" => {
                    options.fresh = true;
                    continue;
                }
                _ => {}
            }
            let value = args
                .next()
                .ok_or_else(|| Failure::new(format!("{arg} needs a value.\n\n{USAGE}")))?;
            match arg.as_str() {
                "--preset" => {
                    (options.workspaces, options.memories, options.large) = match value.as_str() {
                        "small" => (20, 5000, 0),
                        "1m" | "1M" => (180, 5000, 100_000),
                        _ => {
                            return Err(Failure::new(format!(
                                "--preset is {value}; there are small and 1m."
                            )));
                        }
                    }
                }
                "--workspaces" => options.workspaces = number(&arg, &value)?,
                "--memories" => options.memories = number(&arg, &value)?,
                "--large" => options.large = number(&arg, &value)?,
                "--dims" => options.dims = number(&arg, &value)?,
                "--queries" => options.queries = number(&arg, &value)?,
                "--seed" => options.seed = number(&arg, &value)?,
                "--seconds" => options.seconds = number(&arg, &value)?,
                "--shared-buffers" => options.shared_buffers = value,
                "--out" => options.out = value.into(),
                "--baselines" => {
                    options.baselines = value
                        .split(',')
                        .filter(|letter| *letter != "none")
                        .map(|letter| {
                            Baseline::ALL.into_iter().find(|b| b.letter() == letter).ok_or_else(|| {
                                Failure::new(format!("There is no baseline {letter}; give some of p,r,h,e, or none."))
                            })
                        })
                        .collect::<Result<_>>()?;
                }
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
        if options.workspaces < 2
            || options.memories < 100
            || options.queries < 1
            || options.dims < 1
        {
            return Err(Failure::new(
                "At least 2 workspaces of 100 memories, 1 query and 1 dimension are needed.",
            ));
        }
        if options.large > 0 && options.large <= options.memories {
            return Err(Failure::new("--large must be larger than --memories."));
        }
        Ok(Some(options))
    }

    /// Memories of each workspace; the large one, if any, comes last.
    fn sizes(&self) -> Vec<usize> {
        let mut sizes = vec![self.memories; self.workspaces];
        if self.large > 0 {
            sizes.push(self.large);
        }
        sizes
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
        "max_wal_size=8GB".to_owned(),
        "checkpoint_timeout=1h".to_owned(),
        "synchronous_commit=off".to_owned(),
        // One process per connection, so that its CPU time is the whole cost.
        "max_parallel_workers_per_gather=0".to_owned(),
        "jit=off".to_owned(),
        "autovacuum=off".to_owned(),
    ])?;
    let generator = Generator::new(options.seed, options.dims);
    let sizes = options.sizes();
    let database = load::database(
        &server,
        &options,
        &generator,
        &sizes,
        !options.baselines.is_empty(),
    )?;

    let mut report = header(&server, &options, &database)?;
    if options.wants("search") {
        say("measuring searches");
        report += &search::latencies(&server, &options, &generator, &database)?;
    }
    if options.wants("flat") {
        let few = load::database(&server, &options, &generator, &sizes[..2], false)?;
        say("measuring flatness");
        report += &search::flatness(&server, &options, &generator, &few, &database)?;
    }
    if options.wants("qps") {
        say("measuring throughput");
        report += &search::throughput(&server, &options, &generator, &database)?;
    }
    if options.wants("size") {
        report += &bytes(&server, &options, &database)?;
    }
    if options.wants("add") {
        say("measuring adds, in a copy of the database");
        report += &add::costs(&server, &options, &generator, &database)?;
    }
    publish(&report, &options.out)
}

fn header(server: &Server, options: &Options, database: &str) -> Result<String> {
    Ok(format!(
        "# Speed\n\n{}. {}. {} workspaces of {} memories{}, {} dimensions, seed {}, {} queries; shared_buffers {}, \
         synchronous_commit, autovacuum, jit and parallel query off, warm cache. CPU is the time that the \
         connection's server process spent on a CPU; variants take turns query by query. Ratios are the \
         baseline's figure over engram's: above 1, engram is the faster.\n\n",
        machine::describe(),
        server.versions(database)?,
        options.workspaces,
        options.memories,
        match options.large {
            0 => String::new(),
            n => format!(" and one of {n}"),
        },
        options.dims,
        options.seed,
        options.queries,
        options.shared_buffers,
    ))
}

/// What a memory takes on disk, indexes and TOAST included.
fn bytes(server: &Server, options: &Options, database: &str) -> Result<String> {
    let mut admin = server.admin(database)?;
    let total: usize = options.sizes().iter().sum();
    let rows = admin.query(
        "SELECT n.nspname || '.' || c.relname, pg_total_relation_size(c.oid), pg_indexes_size(c.oid)
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind = 'r' AND (n.nspname = 'engram' OR n.nspname || '.' || c.relname = 'public.docs')
         ORDER BY n.nspname, 2 DESC",
        &[],
    )?;
    let per_memory = |bytes: i64| format!("{:.0}", bytes as f64 / total as f64);
    let mut table = Table::new(&["table", "bytes per memory", "of these indexes"]);
    let (mut sum, mut indexes) = (0, 0);
    for row in &rows {
        let (name, bytes, index): (String, i64, i64) = (row.get(0), row.get(1), row.get(2));
        if name.starts_with("engram.") {
            sum += bytes;
            indexes += index;
        }
        if bytes as usize >= total || name == "public.docs" {
            table.row(&[name, per_memory(bytes), per_memory(index)]);
        }
    }
    table.row(&[
        "engram, everything".to_owned(),
        per_memory(sum),
        per_memory(indexes),
    ]);
    Ok(table.under("Bytes per memory"))
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
