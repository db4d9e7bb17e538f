//! What a search costs in a workspace that is in use.

use postgres::Client;
use uuid::Uuid;

use super::Options;
use super::generator::Generator;
use super::load::{self, Calls};
use super::meter::{Costs, Session};
use crate::common::markdown::Table;
use crate::common::server::{Server, act_for};
use crate::common::{Result, say};

/// Calls that wait: nearly as many as the default lets wait.
const WAITING: usize = 120;
/// Of each answer, how many of the first results are credited.
const CREDITED: usize = 5;
/// Searches that are measured together.
const BATCH: usize = 10;
const WARM_UP: usize = 2;

/// Search with two words in three workspaces alike but for their use, which take turns.
pub fn report(
    server: &Server,
    options: &Options,
    generator: &Generator,
    database: &str,
    users: [&Calls; 3],
) -> Result<String> {
    say("search where memories are used");
    let mut admin = server.admin(database)?;
    for calls in users {
        admin.execute("SELECT engram.reindex($1)", &[&calls.user])?;
    }
    // What is in use: the same number of calls, which wait, or have been folded.
    const NIL: Uuid = Uuid::nil();
    let threshold = "UPDATE engram.settings SET fold_threshold = $2 WHERE workspace_id = $1";
    admin.execute(threshold, &[&NIL, &100_000])?;
    for (nth, calls) in users.iter().enumerate().skip(1) {
        use_it(server, options, generator, database, calls.user, nth)?;
    }
    admin.execute("SELECT engram.consolidate($1)", &[&users[2].user])?;
    load::settle(&mut admin)?;
    let mut sessions = Vec::new();
    for calls in users {
        let mut client = server.app(database)?;
        act_for(&mut client, &calls.user.to_string())?;
        let mut session = Session::new(client, server.admin(database)?)?;
        let statement = session.client.prepare("SELECT * FROM engram.search($1)")?;
        sessions.push((session, statement, Costs::default()));
    }
    for n in 0..options.queries.div_ceil(BATCH).max(20) + WARM_UP {
        for turn in 0..3 {
            let nth = (turn + n) % 3;
            let batch: Vec<_> = (0..BATCH)
                .map(|k| generator.question(nth + 1, options.memories, n * BATCH + k))
                .collect();
            let (session, statement, costs) = &mut sessions[nth];
            let mut ignored = Costs::default();
            let note = if n < WARM_UP { &mut ignored } else { costs };
            session.measure(note, |client| {
                for question in &batch {
                    client.query(statement, &[&question.two])?;
                }
                Ok(())
            })?;
        }
    }
    admin.execute(threshold, &[&NIL, &128])?;
    for (_, _, costs) in &mut sessions {
        costs.divide(BATCH);
    }
    let rest = sessions[0].2.cpu();
    let mut table = Table::new(&["workspace", "CPU µs p50", "ratio"]);
    for ((_, _, costs), title) in sessions.iter().zip([
        "at rest".to_owned(),
        format!("{WAITING} calls wait to be folded"),
        "the same, folded".to_owned(),
    ]) {
        table.row(&[
            title,
            format!("{:.0}", costs.cpu() * 1e3),
            format!("{:.2}", costs.cpu() / rest),
        ]);
    }
    Ok(table.under(&format!(
        "Search with 2 words among {} memories, of which {CREDITED} of each answer were used (ratio: to the workspace at rest)",
        options.memories
    )))
}

/// Searches, and credits the best results of each answer.
fn use_it(
    server: &Server,
    options: &Options,
    generator: &Generator,
    database: &str,
    user: Uuid,
    nth: usize,
) -> Result<()> {
    let mut client: Client = server.app(database)?;
    act_for(&mut client, &user.to_string())?;
    for n in 0..WAITING {
        let question = generator.question(nth + 1, options.memories, n);
        client.query(
            "SELECT engram.touch(ARRAY(SELECT id FROM engram.search($1, match_count => $2)))",
            &[&question.two, &(CREDITED as i32)],
        )?;
    }
    Ok(())
}
