//! What both benchmark programs need: a server of their own, the baselines, Markdown.

pub mod baselines;
pub mod machine;
pub mod markdown;
pub mod server;

use std::fmt::Display;
use std::path::{Path, PathBuf};

/// A sentence that says why the program ends early.
#[derive(Debug)]
pub struct Failure(pub String);

/// What nearly everything here returns.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub fn new(sentence: impl Display) -> Self {
        Self(sentence.to_string())
    }
}

impl From<postgres::Error> for Failure {
    fn from(error: postgres::Error) -> Self {
        let Some(db) = error.as_db_error() else {
            return Self(format!("The connection to the server failed: {error}."));
        };
        let parts: Vec<&str> = [Some(db.message()), db.detail(), db.hint(), db.where_()]
            .into_iter()
            .flatten()
            .collect();
        Self(parts.join(". "))
    }
}

/// Tells what goes on, on the error output so that the tables stay clean.
pub fn say(text: impl Display) {
    eprintln!("-- {text}");
}

/// Prints a report and writes it to `path`.
pub fn publish(report: &str, path: &Path) -> Result<()> {
    println!("{report}");
    let write = || {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        std::fs::write(path, report)
    };
    write().map_err(|e| Failure::new(format!("Cannot write {}: {e}.", path.display())))?;
    say(format!("written to {}", path.display()));
    Ok(())
}

/// A file of the repository, wherever the program was started.
pub fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A variable that `./task bench` sets.
pub fn from_task(name: &str) -> Result<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).ok_or_else(|| {
        Failure::new(format!(
            "{name} is not set. Start the program with ./task bench."
        ))
    })
}

/// Ends the program with the result of its main function.
pub fn finish(result: Result<()>) {
    if let Err(Failure(sentence)) = result {
        eprintln!("error: {sentence}");
        std::process::exit(1);
    }
}
