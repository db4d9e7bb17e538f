//! Many sessions of one user at the same time: nothing is lost and nobody waits in a circle.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use postgres::Client;
use postgres::error::SqlState;
use uuid::Uuid;

use super::generator::Random;
use super::load::{Calls, MEMBERS};
use crate::common::markdown::Table;
use crate::common::server::{Server, act_for};
use crate::common::{Failure, Result, say};

const SESSIONS: usize = 8;
/// Memories that the sessions share, and how many of them stay.
const SHARED: usize = 400;
const STAY: usize = 300;

const KINDS: [&str; 5] = ["touch", "recall", "pin, unpin", "erase", "consolidate"];

#[derive(Default)]
struct Tally {
    done: [AtomicU64; KINDS.len()],
    deadlocks: AtomicU64,
}

/// Sessions that recall, touch, pin and erase the same memories for so long, against one that
/// consolidates all the time.
pub fn report(
    server: &Server,
    database: &str,
    calls: &Calls,
    seed: u64,
    seconds: f64,
) -> Result<String> {
    say(format!("{SESSIONS} sessions for {seconds} s"));
    let mut admin = server.admin(database)?;
    let ids = &calls.ids[..SHARED.min(calls.ids.len())];
    let (stay, go) = ids.split_at(STAY.min(ids.len() / 2));
    finish(&mut admin)?;
    let before = counts(&mut admin, calls.user, stay)?;
    let used: Vec<AtomicI64> = stay.iter().map(|_| AtomicI64::new(0)).collect();
    let tally = Tally::default();
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for session in 0..SESSIONS {
            let (used, tally) = (&used, &tally);
            threads.push(scope.spawn(move || -> Result<()> {
                let mut client = server.app(database)?;
                act_for(&mut client, &calls.user.to_string())?;
                let mut random = Random::new(&[seed, 12, session as u64]);
                while Instant::now() < until {
                    step(&mut client, &mut random, stay, go, used, tally)?;
                }
                Ok(())
            }));
        }
        let tally = &tally;
        threads.push(scope.spawn(move || -> Result<()> {
            let mut client = server.admin(database)?;
            while Instant::now() < until {
                attempt(
                    &mut client,
                    "SELECT FROM engram.consolidate()",
                    &[],
                    4,
                    tally,
                )?;
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        }));
        for thread in threads {
            thread
                .join()
                .unwrap_or_else(|e| std::panic::resume_unwind(e))?;
        }
        Ok::<_, Failure>(())
    })?;
    finish(&mut admin)?;
    let after = counts(&mut admin, calls.user, stay)?;
    let mut sum = 0;
    for (((id, before), after), used) in stay.iter().zip(&before).zip(&after).zip(&used) {
        let used = used.load(Ordering::Relaxed);
        sum += used;
        if after - before != used {
            return Err(Failure::new(format!(
                "Memory {id} was used {used} times; its count grew by {}.",
                after - before
            )));
        }
    }
    let mut table = Table::new(&["calls", "answered"]);
    for (kind, done) in KINDS.iter().zip(&tally.done) {
        table.row(&[(*kind).to_owned(), done.load(Ordering::Relaxed).to_string()]);
    }
    Ok(table.under(&format!(
        "{SESSIONS} sessions of one user for {seconds} s, against consolidation all the time"
    )) + &format!(
        "{} deadlocks. The memories that stayed were used {sum} times, and each count grew by just its uses.\n\n",
        tally.deadlocks.load(Ordering::Relaxed)
    ))
}

fn step(
    client: &mut Client,
    random: &mut Random,
    stay: &[Uuid],
    go: &[Uuid],
    used: &[AtomicI64],
    tally: &Tally,
) -> Result<()> {
    let any = go[random.below(go.len())];
    match random.below(100) {
        0..60 => {
            let mut places: Vec<usize> = Vec::new();
            while places.len() < MEMBERS - 1 {
                // Some are used by everybody all the time.
                let most = random.below(stay.len()) + 1;
                let place = random.below(most);
                if !places.contains(&place) {
                    places.push(place);
                }
            }
            let mut ids: Vec<Uuid> = places.iter().map(|n| stay[*n]).collect();
            ids.insert(random.below(MEMBERS), any);
            if attempt(client, "SELECT engram.touch($1)", &[&ids], 0, tally)? {
                for place in places {
                    used[place].fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        60..80 => {
            let text = if random.below(2) == 0 {
                None
            } else {
                Some("the")
            };
            attempt(client, "SELECT FROM engram.recall($1)", &[&text], 1, tally)?;
        }
        80..98 => {
            let id = if random.below(4) == 0 {
                any
            } else {
                stay[random.below(stay.len())]
            };
            let sql = match random.below(2) {
                0 => "SELECT engram.pin($1)",
                _ => "SELECT engram.unpin($1)",
            };
            attempt(client, sql, &[&id], 2, tally)?;
        }
        // All of them should last for a while.
        _ if random.below(20) == 0 => {
            attempt(
                client,
                "SELECT FROM engram.erase(ARRAY[$1::uuid])",
                &[&any],
                3,
                tally,
            )?;
        }
        _ => {}
    }
    Ok(())
}

/// Runs a statement; false when it found nothing or ended a deadlock.
fn attempt(
    client: &mut Client,
    sql: &str,
    args: &[&(dyn postgres::types::ToSql + Sync)],
    kind: usize,
    tally: &Tally,
) -> Result<bool> {
    match client.query(sql, args) {
        Ok(_) => {
            tally.done[kind].fetch_add(1, Ordering::Relaxed);
            Ok(true)
        }
        Err(e) if e.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) => {
            tally.deadlocks.fetch_add(1, Ordering::Relaxed);
            Ok(false)
        }
        // Somebody has erased it.
        Err(e) if e.code().is_some_and(|code| code.code() == "PT404") => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Folds whatever waits.
fn finish(admin: &mut Client) -> Result<()> {
    admin.batch_execute("SELECT FROM engram.consolidate()")?;
    let left: i64 = admin
        .query_one("SELECT count(*) FROM engram.access_queue", &[])?
        .get(0);
    match left {
        0 => Ok(()),
        left => Err(Failure::new(format!("{left} calls were not folded."))),
    }
}

fn counts(admin: &mut Client, user: Uuid, ids: &[Uuid]) -> Result<Vec<i64>> {
    let rows = admin.query(
        "SELECT s.access_count FROM unnest($2::uuid[]) WITH ORDINALITY u (id, nth)
         JOIN engram.memory_state s ON s.workspace_id = $1 AND s.memory_id = u.id ORDER BY u.nth",
        &[&user, &ids],
    )?;
    if rows.len() != ids.len() {
        return Err(Failure::new("A memory that nobody erased is gone."));
    }
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
