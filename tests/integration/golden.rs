//! Golden files: psql for what the SQL surface is and prints, PostgreSQL's isolation tester for what
//! sessions see of each other. Expected files come from a run with ENGRAM_ACCEPT=1 and are read by
//! a human. (The drivers pg_regress and pg_isolation_regress of our PostgreSQL 18 do not start; what
//! they drive does.)

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::cluster::{Database, shared};

fn compare(expected: &Path, got: &str) {
    if std::env::var_os("ENGRAM_ACCEPT").is_some() {
        fs::write(expected, got).unwrap();
    }
    let wanted = fs::read_to_string(expected).unwrap_or_default();
    if wanted != got {
        let line = wanted
            .lines()
            .zip(got.lines())
            .position(|(a, b)| a != b)
            .unwrap_or_else(|| wanted.lines().count().min(got.lines().count()));
        let show = |text: &str| {
            text.lines()
                .skip(line.saturating_sub(2))
                .take(8)
                .collect::<Vec<_>>()
                .join("\n")
        };
        panic!(
            "{} differs at line {}\n--- expected\n{}\n--- got\n{}",
            expected.display(),
            line + 1,
            show(&wanted),
            show(got)
        );
    }
}

/// Runs a client of the tested installation on a script, errors among the results, and compares.
fn golden(program: &str, arguments: &[&str], script: &str) {
    let db = Database::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(script);
    let out = Command::new("sh")
        .args(["-c", "exec \"$0\" \"$@\" 2>&1"])
        .arg(shared().installation.prefix.join(program))
        .args(arguments)
        .stdin(fs::File::open(&script).unwrap())
        .stdout(Stdio::piped())
        .env_remove("RUST_BACKTRACE")
        .env("PGHOST", &shared().directory)
        .env("PGUSER", "postgres")
        .env("PGDATABASE", &db.name)
        .env("PGOPTIONS", "-c timezone=UTC")
        .output()
        .unwrap();
    compare(
        &script.with_extension("out"),
        &String::from_utf8(out.stdout).unwrap(),
    );
}

const PSQL: &[&str] = &["-X", "-q", "-a", "-v", "SHOW_CONTEXT=never"];
const ISOLATION_TESTER: &str = "lib/postgresql/pgxs/src/test/isolation/isolationtester";

#[test]
fn the_surface_is_what_it_was() {
    golden("bin/psql", PSQL, "api.sql");
}

#[test]
fn the_examples_of_the_readme_print_what_it_says() {
    golden("bin/psql", PSQL, "readme.sql");
}

#[test]
fn who_stores_the_same_waits_and_merges() {
    golden(ISOLATION_TESTER, &[""], "isolation/duplicates.spec");
}

#[test]
fn who_changes_the_same_waits_and_is_told() {
    golden(ISOLATION_TESTER, &[""], "isolation/versions.spec");
}

#[test]
fn what_is_taken_away_meanwhile_is_stored_again() {
    golden(ISOLATION_TESTER, &[""], "isolation/lost.spec");
}
