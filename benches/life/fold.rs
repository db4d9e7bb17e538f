//! What folding costs: noted calls become heat, strengths, links and a log.

use postgres::Client;
use uuid::Uuid;

use super::Options;
use super::load::{self, Calls, MEMBERS};
use super::meter::{Costs, Session, flush};
use crate::common::markdown::Table;
use crate::common::server::Server;
use crate::common::{Failure, Result, say};

/// Times that each is done, with other calls: later ones find links that are there already.
const ROUNDS: u64 = 3;

/// (title, calls that one fold takes in, all in one workspace).
const SHAPES: [(&str, i32, bool); 3] = [
    ("one workspace, 1,000 calls a fold", 1000, true),
    ("one workspace, 10,000 calls a fold", 10_000, true),
    ("many workspaces, all calls of one a fold", 10_000, false),
];

pub fn report(
    server: &Server,
    options: &Options,
    database: &str,
    one: &Calls,
    many: &[Calls],
) -> Result<String> {
    let mut table = Table::new(&[
        "calls",
        "engram, calls per CPU second",
        "(b) one by one, calls per CPU second",
        "ratio",
        "engram, WAL bytes a call",
        "(b), WAL bytes a call",
        "ratio",
    ]);
    let mut pairs = 0;
    for (n, (title, most, alone)) in SHAPES.into_iter().enumerate() {
        say(format!("folds: {title}"));
        let calls: Vec<&Calls> = if alone {
            vec![one]
        } else {
            many.iter().collect()
        };
        let (mut own, mut other) = (Costs::default(), Costs::default());
        for round in 0..ROUNDS {
            let mut admin = server.admin(database)?;
            note(&mut admin, options, &calls, 100 + 10 * n as u64 + round)?;
            if n == 0 && round == 0 {
                pairs = distinct(&mut admin)?;
            }
            load::settle(&mut admin)?;
            // Who folds by turns: whoever comes second finds warm caches of nothing that is its own.
            let mut session = Session::new(server.admin(database)?, server.admin(database)?)?;
            let users: Vec<Uuid> = calls.iter().map(|c| c.user).collect();
            session.measure(&mut own, |client| fold(client, &users, most))?;
            flush(&mut session.client)?;
            let mut session = Session::new(server.admin(database)?, server.admin(database)?)?;
            session.measure(&mut other, |client| {
                // A transaction each, as they come: in one, every update would leave a row behind.
                client.batch_execute(
                    "DO $$
                     DECLARE
                       c record;
                     BEGIN
                       FOR c IN SELECT * FROM plain.calls LOOP
                         PERFORM plain.touch_set(c.user_id, c.ids);
                         COMMIT;
                       END LOOP;
                     END
                     $$",
                )?;
                Ok(())
            })?;
            flush(&mut session.client)?;
        }
        let a_call = |value: f64| value / options.calls as f64;
        let per_second = |costs: &Costs| 1e3 / a_call(costs.cpu());
        table.row(&[
            title.to_owned(),
            format!("{:.0}", per_second(&own)),
            format!("{:.0}", per_second(&other)),
            format!("{:.1}", per_second(&own) / per_second(&other)),
            format!("{:.0}", a_call(own.wal())),
            format!("{:.0}", a_call(other.wal())),
            format!("{:.1}", other.wal() / own.wal()),
        ]);
    }
    Ok(table.under(&format!(
        "Folding {} calls of {MEMBERS} memories; one workspace of {} memories, {} of {}",
        options.calls,
        one.ids.len(),
        many.len(),
        many.first().map_or(0, |c| c.ids.len())
    )) + &format!(
        "{} pairs a call; those of the first {} calls are {pairs} different ones. (b) applies the same calls one by \
         one, a transaction each, within the server; it has neither the heat nor the strengths nor the order of use, which engram keeps.\n\n",
        MEMBERS * (MEMBERS - 1) / 2,
        options.calls,
    ))
}

/// Puts the same calls into both queues.
fn note(admin: &mut Client, options: &Options, calls: &[&Calls], series: u64) -> Result<()> {
    // The calls are to wait for the measured fold, not to be folded by whoever notes them.
    admin.batch_execute(
        "TRUNCATE plain.calls; UPDATE engram.settings SET fold_threshold = 100000",
    )?;
    let statement = admin.prepare("INSERT INTO plain.calls VALUES ($1, $2, $3)")?;
    let mut transaction = admin.transaction()?;
    for n in 0..options.calls {
        let of = calls[n % calls.len()];
        transaction.execute(&statement, &[&(n as i32), &of.user, &of.call(series, n)])?;
    }
    transaction.commit()?;
    admin.batch_execute(
        "INSERT INTO engram.access_queue (workspace_id, id, accessed_at, user_id, kind, gain, rating, memory_ids)
         SELECT c.user_id, engram_internal.uuid_v7(), now() + c.nth * interval '1 microsecond' - interval '1 second',
                c.user_id, 'used', 1, 3, c.ids
         FROM plain.calls c ORDER BY c.nth",
    )?;
    let waiting: i64 = admin
        .query_one("SELECT count(*) FROM engram.access_queue", &[])?
        .get(0);
    if waiting != options.calls as i64 {
        return Err(Failure::new(format!("{waiting} calls wait.")));
    }
    admin.batch_execute("UPDATE engram.settings SET fold_threshold = 128 WHERE workspace_id = '00000000-0000-0000-0000-000000000000'")?;
    Ok(())
}

fn distinct(admin: &mut Client) -> Result<i64> {
    let row = admin.query_one(
        "SELECT count(DISTINCT (x, y)) FROM plain.calls c, unnest(c.ids) x, unnest(c.ids) y WHERE x < y",
        &[],
    )?;
    Ok(row.get(0))
}

fn fold(client: &mut Client, users: &[Uuid], most: i32) -> Result<()> {
    let statement = client.prepare("SELECT engram_internal.fold($1, $2)")?;
    for user in users {
        while client
            .query_one(&statement, &[user, &most])?
            .get::<_, i32>(0)
            > 0
        {}
    }
    let row = client.query_one("SELECT count(*) FROM engram.access_queue", &[])?;
    match row.get::<_, i64>(0) {
        0 => Ok(()),
        n => Err(Failure::new(format!("{n} calls were not folded."))),
    }
}
