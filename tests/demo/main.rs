//! The demo behind `./task run`: puts a conversation into engram and asks it questions.
//!
//! It is a client like any other. It connects twice: as superuser for what an administrator does
//! once, and as the ordinary role `app`, bound by row security, for everything else.

mod input;
mod load;
mod npy;
mod search;
mod server;
mod show;

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use postgres::Client;

use input::Source;
use load::{Embeddings, Loader, Model};
use search::Question;

const USAGE: &str = "\
usage: demo --socket DIR [FILE.jsonl] [options]

Loads FILE, or a conversation of its own, into engram and searches it.

  --socket DIR       directory of the server's socket
  --database NAME    database to use (engram)
  --query TEXT       search for TEXT; may be repeated
  --user NAME        whose memory --query asks (the first user of FILE)
  --limit N          results of each search (5)
  --no-embeddings    ignore FILE.f32.npy and embeddings in FILE
";

/// Why the program ends early.
#[derive(Debug)]
pub enum Failure {
    /// A sentence that says what to do.
    Sentence(String),
    /// Whoever read our output has seen enough.
    OutputClosed,
}

/// What nearly everything here returns.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    fn new(sentence: impl Display) -> Self {
        Self::Sentence(sentence.to_string())
    }
}

impl From<postgres::Error> for Failure {
    fn from(error: postgres::Error) -> Self {
        Self::Sentence(server::explain(&error))
    }
}

/// Only writing to the output uses `?` on these; files have sentences of their own.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::new(format!("Cannot write the output: {error}.")),
        }
    }
}

#[derive(Debug)]
struct Options {
    socket: PathBuf,
    database: String,
    file: Option<PathBuf>,
    queries: Vec<String>,
    user: Option<String>,
    limit: i32,
    embeddings: bool,
}

impl Options {
    /// `None` when the usage was asked for.
    fn parse(args: impl IntoIterator<Item = String>) -> Result<Option<Self>> {
        let mut socket = None;
        let mut options = Self {
            socket: PathBuf::new(),
            database: "engram".to_owned(),
            file: None,
            queries: Vec::new(),
            user: None,
            limit: 5,
            embeddings: true,
        };
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let mut value = || {
                args.next()
                    .ok_or_else(|| Failure::new(format!("{arg} needs a value.\n\n{USAGE}")))
            };
            match arg.as_str() {
                "-h" | "--help" => return Ok(None),
                "--socket" => socket = Some(value()?.into()),
                "--database" => options.database = value()?,
                "--query" => options.queries.push(value()?),
                "--user" => options.user = Some(value()?),
                "--limit" => {
                    let given = value()?;
                    options.limit = given
                        .parse()
                        .ok()
                        .filter(|n| (1..=1000).contains(n))
                        .ok_or_else(|| {
                            Failure::new(format!(
                                "--limit is {given}; give a number from 1 to 1000."
                            ))
                        })?;
                }
                "--no-embeddings" => options.embeddings = false,
                option if option.starts_with('-') => {
                    return Err(Failure::new(format!("Unknown option {option}.\n\n{USAGE}")));
                }
                _ if options.file.is_some() => {
                    return Err(Failure::new(format!(
                        "One file at a time, and {arg} is a second one. A question goes behind --query, in quotes."
                    )));
                }
                _ => options.file = Some(arg.into()),
            }
        }
        options.socket =
            socket.ok_or_else(|| Failure::new(format!("--socket is missing.\n\n{USAGE}")))?;
        Ok(Some(options))
    }
}

/// The whole program. `live` says that `err` is a terminal, whose line can be written again.
pub fn run(
    args: impl IntoIterator<Item = String>,
    out: &mut dyn Write,
    err: &mut dyn Write,
    live: bool,
) -> Result<()> {
    let Some(options) = Options::parse(args)? else {
        write!(out, "{USAGE}")?;
        return Ok(());
    };
    // Files first: a wrong name should not leave half of the work done.
    let source = Source::open(options.file.as_deref())?;
    let embeddings = match &options.file {
        _ if !options.embeddings => Embeddings::Ignored,
        Some(file) => Embeddings::beside(file, source.total)?,
        None => Embeddings::InLines,
    };

    let mut admin = server::connect(&options.socket, &options.database, "postgres")?;
    server::prepare(&mut admin, out)?;
    let mut app = server::connect(&options.socket, &options.database, server::ROLE)?;

    let loaded = Loader::new(&mut admin, &mut app, embeddings).load(&source, out, err, live)?;

    let user = options.user.as_ref().unwrap_or(&loaded.first_user);
    let questions = questions(&mut app, &options, loaded.model.as_ref(), user)?;
    search::all(&mut app, &questions, options.limit, out)?;
    search::as_others(&mut app, &questions, out)?;
    show::stats(&mut app, user, out)?;
    show::next_steps(&options.socket, &options.database, user, out)
}

/// What to ask, and whose memory.
fn questions(
    app: &mut Client,
    options: &Options,
    model: Option<&Model>,
    user: &str,
) -> Result<Vec<Question>> {
    let by_words = |text: &str| Question {
        text: text.to_owned(),
        user: user.to_owned(),
        vector: None,
    };
    if !options.queries.is_empty() {
        return Ok(options.queries.iter().map(|text| by_words(text)).collect());
    }
    let Some(file) = &options.file else {
        return Ok(search::ABOUT_THE_CONVERSATION.map(by_words).into());
    };
    let questions = search::from_file(&file.with_file_name("queries.jsonl"), user, model);
    if !questions.is_empty() {
        return Ok(questions);
    }
    Ok(search::about_the_middle(app, user)?.into_iter().collect())
}

/// `name.jsonl` → `name.f32.npy`.
fn vectors_beside(file: &Path) -> PathBuf {
    file.with_extension("f32.npy")
}

fn main() {
    let live = std::io::stderr().is_terminal();
    let args = std::env::args_os()
        .skip(1)
        .map(|arg| arg.to_string_lossy().into_owned());
    let mut out = std::io::stdout().lock();
    match run(args, &mut out, &mut std::io::stderr(), live) {
        Ok(()) | Err(Failure::OutputClosed) => {}
        Err(Failure::Sentence(sentence)) => {
            let _ = out.flush();
            eprintln!("error: {sentence}");
            std::process::exit(1);
        }
    }
}
