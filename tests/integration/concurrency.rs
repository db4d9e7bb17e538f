//! Many sessions at once, and a crash in the middle: nothing is lost, nothing is there twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::cluster::{self, Cluster, Database, Installation};

const SESSIONS: usize = 8;

/// Runs `work` in [`SESSIONS`] threads that start together.
fn together<T: Send>(work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(SESSIONS);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..SESSIONS)
            .map(|n| {
                let (barrier, work) = (&barrier, &work);
                scope.spawn(move || {
                    barrier.wait();
                    work(n)
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

#[test]
fn the_same_content_stored_at_once_is_one_memory() {
    let db = Database::new();
    let ids = together(|_| {
        let mut ann = db.user("ann");
        (0..20)
            .map(|i| -> Uuid {
                ann.query_one("SELECT engram.add($1)", &[&format!("fact {i}")])
                    .unwrap()
                    .get(0)
            })
            .collect::<Vec<_>>()
    });
    for other in &ids[1..] {
        assert_eq!(other, &ids[0]);
    }
    let mut ann = db.user("ann");
    let rows = ann
        .query("SELECT access_count FROM engram.list()", &[])
        .unwrap();
    assert_eq!(rows.len(), 20);
    for row in rows {
        assert_eq!(row.get::<_, i64>(0), SESSIONS as i64, "every use counted");
    }
}

#[test]
fn overlapping_batches_neither_duplicate_nor_deadlock() {
    let db = Database::new();
    let statuses = together(|n| {
        let mut ann = db.user("ann");
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for round in 0..5 {
            // Everybody sends the same contents, each in an order of its own.
            let mut items: Vec<Value> = (0..30)
                .map(|i| json!({"content": format!("round {round} item {i}")}))
                .collect();
            items.rotate_left(n * 4);
            if n % 2 == 1 {
                items.reverse();
            }
            if n == 3 {
                items.push(json!({"content": " "}));
            }
            for row in ann
                .query(
                    "SELECT status FROM engram.add_many($1)",
                    &[&Value::from(items)],
                )
                .unwrap()
            {
                *counts.entry(row.get(0)).or_default() += 1;
            }
        }
        counts
    });
    let total = |status: &str| statuses.iter().filter_map(|s| s.get(status)).sum::<usize>();
    assert_eq!(total("added"), 150);
    assert_eq!(total("merged"), 150 * (SESSIONS - 1));
    assert_eq!(total("error"), 5);
    let mut ann = db.user("ann");
    let stored: i64 = ann
        .query_one("SELECT count(*) FROM engram.memories", &[])
        .unwrap()
        .get(0);
    assert_eq!(stored, 150);
}

#[test]
fn one_id_retried_at_once_is_stored_once() {
    let db = Database::new();
    let id = Uuid::now_v7();
    together(|_| {
        let mut ann = db.user("ann");
        let got: Uuid = ann
            .query_one("SELECT engram.add('retried', id => $1)", &[&id])
            .unwrap()
            .get(0);
        assert_eq!(got, id);
    });
    let mut ann = db.user("ann");
    let rows = ann
        .query("SELECT access_count FROM engram.list()", &[])
        .unwrap();
    assert_eq!((rows.len(), rows[0].get::<_, i64>(0)), (1, 1));
}

#[test]
fn of_two_changes_to_the_same_version_one_wins() {
    let db = Database::new();
    let id: Uuid = db
        .user("ann")
        .query_one("SELECT engram.add('start')", &[])
        .unwrap()
        .get(0);
    let wins: usize = together(|n| {
        let mut ann = db.user("ann");
        (1..=10)
            .filter(|version| {
                let result = ann.query(
                    "SELECT engram.update($1, content => $2, expected_version => $3)",
                    &[&id, &format!("session {n} version {version}"), version],
                );
                match result {
                    Ok(_) => true,
                    Err(e) => {
                        assert_eq!(e.as_db_error().unwrap().code().code(), "PT409");
                        // Wait until the version is there, so that every version is fought for.
                        loop {
                            let now: i32 = ann
                                .query_one("SELECT version FROM engram.get($1)", &[&id])
                                .unwrap()
                                .get(0);
                            if now > *version {
                                break;
                            }
                        }
                        false
                    }
                }
            })
            .count()
    })
    .into_iter()
    .sum();
    assert_eq!(wins, 10, "each version was won once");
    let mut ann = db.user("ann");
    let row = ann
        .query_one("SELECT version, content FROM engram.get($1)", &[&id])
        .unwrap();
    assert_eq!(row.get::<_, i32>(0), 11);
    let content: String = row.get(1);
    let found: Vec<String> = ann
        .query("SELECT content FROM engram.search($1)", &[&content])
        .unwrap()
        .iter()
        .map(|r| r.get(0))
        .collect();
    assert_eq!(
        found,
        [content],
        "the index holds the last content and no other"
    );
}

#[test]
fn every_memory_is_handed_to_one_embedder() {
    let db = Database::new();
    db.user("ann")
        .execute(
            "SELECT engram.add_many(jsonb_agg(jsonb_build_object('content', 'm' || i))) FROM generate_series(1, 200) i",
            &[],
        )
        .unwrap();
    let batches = together(|_| {
        let mut ann = db.user("ann");
        let mut mine = Vec::new();
        // An empty batch can mean that the others hold the rows just now; the end is when nothing
        // is left without a lease.
        loop {
            let rows = ann
                .query(
                    "SELECT id FROM engram.pending_embeddings(match_count => 7)",
                    &[],
                )
                .unwrap();
            mine.extend(rows.iter().map(|r| r.get::<_, Uuid>(0)));
            let left: i64 = ann
                .query_one("SELECT 200 - count(*) FROM engram.embedding_claims WHERE claimed_until > now()", &[])
                .unwrap()
                .get(0);
            if left == 0 {
                return mine;
            }
        }
    });
    let all: Vec<Uuid> = batches.into_iter().flatten().collect();
    assert_eq!(all.len(), 200);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 200);
}

#[test]
fn forgetting_restoring_and_erasing_race_safely() {
    let db = Database::new();
    let ids: Vec<Uuid> = {
        let mut ann = db.user("ann");
        (0..30)
            .map(|i| {
                ann.query_one("SELECT engram.add($1)", &[&format!("tea {i}")])
                    .unwrap()
                    .get(0)
            })
            .collect()
    };
    together(|n| {
        let mut ann = db.user("ann");
        for (i, id) in ids.iter().enumerate() {
            let sql = match (n + i) % 5 {
                0 => "SELECT engram.forget($1)::text",
                1 => "SELECT engram.restore($1)::text",
                2 => "SELECT engram.update($1, importance => random())::text",
                3 => "SELECT count(*)::text FROM engram.erase(ARRAY[$1::uuid])",
                _ => "SELECT engram.pin($1)::text",
            };
            if let Err(e) = ann.query(sql, &[id]) {
                assert_eq!(
                    e.as_db_error().unwrap().code().code(),
                    "PT404",
                    "{sql}: {e:?}"
                );
            }
        }
    });
    // Index and tombstones agree with what is left.
    let row = db
        .admin()
        .query_one(
            "SELECT engram.reindex(),
                    (SELECT count(*) FROM engram.memories) + (SELECT count(*) FROM engram.erasures),
                    (SELECT count(*) FROM engram.memories m JOIN engram.erasures e USING (workspace_id, id))",
            &[],
        )
        .unwrap();
    assert_eq!(
        (
            row.get::<_, i64>(0),
            row.get::<_, i64>(1),
            row.get::<_, i64>(2)
        ),
        (0, 30, 0)
    );
}

#[test]
fn what_was_acknowledged_before_a_crash_is_there_after_it() {
    let cluster = Cluster::start(Installation::current(), "crash");
    cluster.create_database("c");
    let mut admin = cluster.connect("c", "postgres");
    admin
        .batch_execute(
            "CREATE ROLE app LOGIN; CREATE EXTENSION engram CASCADE; SELECT engram.setup('{\"grant_to\": [\"app\"]}');
             SELECT engram.set_embedding_model('tiny', 3)",
        )
        .unwrap();
    drop(admin);
    let stop = AtomicBool::new(false);
    let acknowledged: Vec<Vec<(Uuid, String)>> = thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|n| {
                let (cluster, stop) = (&cluster, &stop);
                scope.spawn(move || {
                    let mut client = cluster.connect("c", "app");
                    client.execute("SELECT set_config('engram.user_id', $1, false)", &[&format!("user{n}")]).unwrap();
                    let mut done = Vec::new();
                    for i in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let content = format!("writer{n} entry{i}");
                        let result = if i % 5 == 4 {
                            client.query(
                                "SELECT id FROM engram.add_many(jsonb_build_array(jsonb_build_object('content', $1::text, 'embedding', '[1,2,3]'::jsonb)))",
                                &[&content],
                            )
                        } else {
                            client.query("SELECT engram.add($1, embedding => '[1,0,0]', entities => ARRAY['Zed'])", &[&content])
                        };
                        match result {
                            Ok(rows) => done.push((rows[0].get(0), content)),
                            Err(_) => break,
                        }
                    }
                    done
                })
            })
            .collect();
        // Long enough that everybody has written something.
        let mut admin = cluster.connect("c", "postgres");
        loop {
            let n: i64 = admin
                .query_one("SELECT count(*) FROM engram.memories", &[])
                .unwrap()
                .get(0);
            if n > 200 {
                break;
            }
        }
        drop(admin);
        cluster.kill();
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().map(|w| w.join().unwrap()).collect()
    });
    cluster.up();
    assert!(acknowledged.iter().map(Vec::len).sum::<usize>() >= 150);
    for (n, mine) in acknowledged.iter().enumerate() {
        let mut client = cluster.connect("c", "app");
        client
            .execute(
                "SELECT set_config('engram.user_id', $1, false)",
                &[&format!("user{n}")],
            )
            .unwrap();
        let listed: Vec<(Uuid, String)> = client
            .query("SELECT m.id, m.content FROM engram.memories m", &[])
            .unwrap()
            .iter()
            .map(|r| (r.get(0), r.get(1)))
            .collect();
        let unique: BTreeSet<&String> = listed.iter().map(|(_, c)| c).collect();
        assert_eq!(unique.len(), listed.len(), "nothing is there twice");
        for (id, content) in mine {
            assert!(
                listed.contains(&(*id, content.clone())),
                "{content} was acknowledged"
            );
        }
        // At most the one in flight is there without having been acknowledged, whole or not at all.
        assert!(listed.len() <= mine.len() + 1);
        for (id, content) in &listed {
            let rows = client
                .query(
                    "SELECT id FROM engram.search($1, match_count => 1)",
                    &[content],
                )
                .unwrap();
            assert_eq!(rows[0].get::<_, Uuid>(0), *id, "{content} is found");
        }
        let complete: i64 = client
            .query_one(
                "SELECT count(*) FROM engram.memories m JOIN engram.memory_state s ON s.memory_id = m.id
                 JOIN engram.embeddings e ON e.memory_id = m.id",
                &[],
            )
            .unwrap()
            .get(0);
        assert_eq!(complete, listed.len() as i64);
    }
}

#[test]
fn a_model_that_goes_leaves_no_vector_of_it_behind() {
    let db = Database::new();
    let (mut admin, mut ann) = (db.admin(), db.user("ann"));
    admin
        .batch_execute(
            "SELECT engram.set_embedding_model('old', 3, make_default => true); SELECT engram.set_embedding_model('new', 2)",
        )
        .unwrap();
    for store in [
        "SELECT engram.add('one', embedding => '[1,0,0]')",
        r#"SELECT engram.add_many('[{"content": "two", "embedding": [1,0,0]}]')"#,
    ] {
        ann.batch_execute("BEGIN").unwrap();
        ann.batch_execute(store).unwrap();
        thread::scope(|scope| {
            let drop = scope.spawn(|| {
                admin.batch_execute(
                    "SELECT engram.set_embedding_model('new', 2, make_default => true); SELECT engram.drop_embedding_model('old')",
                )
            });
            // It waits for the vector that may come.
            let mut look = db.admin();
            while !drop.is_finished()
                && !cluster::one::<bool>(
                    &mut look,
                    "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')",
                    &[],
                )
            {
                thread::sleep(Duration::from_millis(10));
            }
            ann.batch_execute("COMMIT").unwrap();
            drop.join().unwrap().unwrap();
        });
        let lost: i64 = cluster::one(
            &mut admin,
            "SELECT count(*) FROM engram.embeddings e LEFT JOIN engram.embedding_models m ON m.name = e.model
             WHERE m.name IS NULL",
            &[],
        );
        assert_eq!(lost, 0);
        admin
            .batch_execute("SELECT engram.set_embedding_model('old', 3, make_default => true)")
            .unwrap();
    }
}
