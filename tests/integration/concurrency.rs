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

/// Two sessions that each do `first` in a transaction, with a number of their own for each {n}, and, once both have,
/// `then`. Neither may fail.
fn in_turn(db: &Database, first: &str, then: &str) {
    let barrier = Barrier::new(2);
    let of = |sql: &str, n: usize| sql.replace("{n}", &n.to_string());
    thread::scope(|scope| {
        for n in 1..=2 {
            let barrier = &barrier;
            let (first, then) = (of(first, n), of(then, n));
            scope.spawn(move || {
                let mut ann = db.user("ann");
                ann.batch_execute(&format!("BEGIN; {first}")).unwrap();
                barrier.wait();
                ann.batch_execute(&format!("{then}; COMMIT"))
                    .unwrap_or_else(|e| panic!("{first}, then {then}: {e:?}"));
            });
        }
    });
}

/// Has whatever is stored take the long way.
fn the_long_way(db: &Database) {
    db.admin()
        .batch_execute(
            "CREATE FUNCTION public.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
             CREATE TRIGGER own AFTER INSERT ON engram.memories FOR EACH STATEMENT EXECUTE FUNCTION public.nothing()",
        )
        .unwrap();
}

#[test]
fn two_that_store_different_contents_never_deadlock() {
    let one_by_one = |from: usize, to: usize| {
        format!(
            "SELECT engram.add('thing ' || i || ' of {{n}}') FROM generate_series({from}, {to}) i"
        )
    };
    let batch = |from: usize, to: usize| {
        format!(
            "SELECT count(*) FROM engram.add_many((SELECT jsonb_agg(jsonb_build_object('content', 'thing ' || i || ' of {{n}}'))
             FROM generate_series({from}, {to}) i))"
        )
    };
    let import = |from: usize, to: usize| {
        format!(
            "DO $$ DECLARE bad text; BEGIN
               SELECT i.status || coalesce(i.error, '') INTO bad FROM engram.import((SELECT jsonb_agg(jsonb_build_object('kind', 'memory',
                 'id', '00000000-0000-0000-{{n}}000-' || lpad(i::text, 12, '0'), 'content', 'thing ' || i || ' of {{n}}'))
               FROM generate_series({from}, {to}) i), 'engram') i WHERE i.status <> 'added' LIMIT 1;
               IF FOUND THEN RAISE EXCEPTION '%', bad; END IF; END $$"
        )
    };
    let alias = "SELECT engram.add_alias('entity {n}', 'alias {n}')".to_owned();
    for long in [false, true] {
        for (first, then) in [
            (one_by_one(1, 60), one_by_one(101, 110)),
            (one_by_one(1, 70), one_by_one(101, 200)),
            (one_by_one(1, 3), batch(101, 300)),
            (batch(1, 30), batch(101, 140)),
            (batch(1, 100), one_by_one(101, 110)),
            (one_by_one(1, 3), alias.clone()),
            (one_by_one(1, 70), alias.clone()),
            (one_by_one(1, 3), import(101, 103)),
            (one_by_one(1, 3), import(101, 200)),
        ] {
            let db = Database::new();
            if long {
                the_long_way(&db);
            }
            // Who is past its share before the other one comes keeps that waiting.
            let apart = first.contains(" 70)") || first.contains(" 100)");
            if apart {
                let mut ann = db.user("ann");
                ann.batch_execute(&format!("BEGIN; {first}").replace("{n}", "1"))
                    .unwrap();
                let mut other = db.user("ann");
                other.batch_execute("SET lock_timeout = '300ms'").unwrap();
                let waits = other.batch_execute(&first.replace("{n}", "2"));
                let code = waits
                    .err()
                    .as_ref()
                    .and_then(|e| e.code())
                    .map(|c| c.code().to_owned());
                assert_eq!(code.as_deref(), Some("55P03"), "{first}");
                ann.batch_execute(&format!("{then}; COMMIT").replace("{n}", "1"))
                    .unwrap();
            } else {
                in_turn(&db, &first, &then);
            }
        }
    }
}

#[test]
fn past_its_share_a_transaction_still_keeps_others_from_the_same() {
    for long in [false, true] {
        let db = Database::new();
        if long {
            the_long_way(&db);
        }
        let (mut ann, mut other) = (db.user("ann"), db.user("ann"));
        for client in [&mut ann, &mut other] {
            client.batch_execute("SET lock_timeout = '300ms'").unwrap();
        }
        let code = |result: Result<(), postgres::Error>| {
            result.err().and_then(|e| Some(e.code()?.code().to_owned()))
        };
        let many = "SELECT engram.add('thing ' || i) FROM generate_series(1, 80) i";
        // What another one has stored already.
        other
            .batch_execute("BEGIN; SELECT engram.add('thing 77')")
            .unwrap();
        assert_eq!(
            code(ann.batch_execute(&format!("BEGIN; {many}"))).as_deref(),
            Some("55P03")
        );
        ann.batch_execute("ROLLBACK").unwrap();
        // And what it stores later.
        other.batch_execute("ROLLBACK").unwrap();
        ann.batch_execute(&format!("BEGIN; {many}")).unwrap();
        for sql in [
            "SELECT engram.add('thing 77')",
            "SELECT engram.add('thing 7')",
            "SELECT count(*) FROM engram.add_many('[{\"content\": \"thing 78\"}]')",
        ] {
            assert_eq!(
                code(other.batch_execute(sql)).as_deref(),
                Some("55P03"),
                "{sql}"
            );
        }
        ann.batch_execute("COMMIT").unwrap();
        other
            .batch_execute("SELECT engram.add('thing 77')")
            .unwrap();
        let stored: i64 = ann
            .query_one("SELECT count(*) FROM engram.memories", &[])
            .unwrap()
            .get(0);
        assert_eq!(stored, 80);
    }
}

#[test]
fn who_locks_a_workspace_is_alone_in_it() {
    let db = Database::new();
    let (mut ann, mut other) = (db.user("ann"), db.user("ann"));
    for client in [&mut ann, &mut other] {
        client.batch_execute("SET lock_timeout = '300ms'").unwrap();
    }
    let code = |result: Result<(), postgres::Error>| {
        result.err().and_then(|e| Some(e.code()?.code().to_owned()))
    };
    let add = "SELECT engram.add('tea')";
    let append = r#"SELECT engram.append_messages('[{"content": "hello"}]', 'chat')"#;
    let past = "SELECT engram.add('thing ' || i) FROM generate_series(1, 70) i";
    for lock in [
        "SELECT engram_internal.lock_workspace(engram.current_user_id())",
        // As SQL before 0.11 says it.
        "SELECT engram_internal.lock_keys(engram.current_user_id(), ARRAY(SELECT n::text FROM generate_series(1, 65) n))",
        "SELECT engram.erase_messages(ids => ARRAY[gen_random_uuid()])",
    ] {
        for store in [add, append, past] {
            for (first, then) in [(lock, store), (store, lock)] {
                ann.batch_execute(&format!("BEGIN; {first}")).unwrap();
                assert_eq!(
                    code(other.batch_execute(then)).as_deref(),
                    Some("55P03"),
                    "{first}, then {then}"
                );
                ann.batch_execute("ROLLBACK").unwrap();
            }
        }
    }
}

#[test]
fn a_batch_that_waits_for_one_content_lets_its_owner_store_more() {
    let db = Database::new();
    let mut ann = db.user("ann");
    ann.batch_execute("BEGIN; SELECT engram.add('thing 70')")
        .unwrap();
    thread::scope(|scope| {
        let batch = scope.spawn(|| {
            db.user("ann").batch_execute(
                "SELECT count(*) FROM engram.add_many((SELECT jsonb_agg(jsonb_build_object('content', 'thing ' || i))
                 FROM generate_series(1, 100) i))",
            )
        });
        let mut admin = db.admin();
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND classid = 'engram_internal'::regnamespace
                     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        while admin.query_one(waits, &[]).unwrap().get::<_, i64>(0) == 0 {
            thread::sleep(Duration::from_millis(10));
        }
        ann.batch_execute("SELECT engram.add('another'); COMMIT")
            .unwrap();
        batch.join().unwrap().unwrap();
    });
    let stored: i64 = ann
        .query_one("SELECT count(*) FROM engram.memories", &[])
        .unwrap()
        .get(0);
    assert_eq!(stored, 101);
}

#[test]
fn names_mean_the_same_to_all_who_store_them() {
    for long in [false, true] {
        let db = Database::new();
        if long {
            the_long_way(&db);
        }
        let (mut ann, mut other) = (db.user("ann"), db.user("ann"));
        for client in [&mut ann, &mut other] {
            client.batch_execute("SET lock_timeout = '300ms'").unwrap();
        }
        let code = |result: Result<(), postgres::Error>| {
            result.err().and_then(|e| Some(e.code()?.code().to_owned()))
        };
        let alias = "SELECT engram.add_alias('New York', 'NYC')";
        let mention = "SELECT engram.add('a trip', entities => ARRAY['NYC'])";
        // Who has stored a name is waited for, and who stores one waits.
        ann.batch_execute(&format!("BEGIN; {mention}")).unwrap();
        assert_eq!(code(other.batch_execute(alias)).as_deref(), Some("55P03"));
        ann.batch_execute("ROLLBACK").unwrap();
        other.batch_execute(&format!("BEGIN; {alias}")).unwrap();
        assert_eq!(code(ann.batch_execute(mention)).as_deref(), Some("55P03"));
        other.batch_execute("COMMIT").unwrap();
        ann.batch_execute(mention).unwrap();
        let node: String = ann
            .query_one("SELECT node FROM engram.entities()", &[])
            .unwrap()
            .get(0);
        assert_eq!(node, "new york");
    }
}

/// Waits until a session waits for a lock, or its work is done.
fn settled<T>(admin: &mut postgres::Client, pid: i32, work: &thread::ScopedJoinHandle<'_, T>) {
    let waits = "SELECT cardinality(pg_blocking_pids($1)) > 0";
    while !work.is_finished() && !admin.query_one(waits, &[&pid]).unwrap().get::<_, bool>(0) {
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_import_and_what_others_do_meanwhile_wait_for_each_other_in_one_order() {
    // What the other one does, with memories {1} to {3}, which of them somebody holds at first, in which order the
    // lines come, and whether an alias comes with them; both begin.
    let add = "SELECT engram.add_entities('{3}', '{Zoe}')";
    let update = "SELECT engram.update('{3}', entities => '{Zoe}')";
    let supersede = "SELECT engram.supersede('{1}', new => '{2}')";
    let content = "SELECT engram.supersede('{1}', content => 'fact 9')";
    let cases = [
        ("SELECT engram.link('{3}', '{1}')", 2, [1, 2, 3], false),
        (
            "SELECT engram.contradict('{1}', '{3}')",
            2,
            [3, 2, 1],
            false,
        ),
        ("SELECT engram.erase('{{1},{3}}')", 2, [3, 2, 1], false),
        (add, 1, [1, 2, 3], true),
        (update, 1, [1, 2, 3], true),
        (supersede, 1, [1, 2, 3], true),
        (content, 1, [1, 2, 3], true),
        (supersede, 2, [1, 2, 3], false),
        (content, 2, [1, 2, 3], false),
    ];
    let db = Database::new();
    let mut admin = db.admin();
    let mut nth = 0;
    for mode in ["skip", "replace"] {
        for (other, held, order, alias) in &cases {
            for import_first in [true, false] {
                nth += 1;
                let name = format!("user {nth}");
                let what = format!("{mode}, {other}, import first: {import_first}");
                let mut one = db.user(&name);
                let mut ids: Vec<Uuid> = (1..=3)
                    .map(|n| {
                        let add = "SELECT engram.add($1, entities => '{Ann}')";
                        let row = one.query_one(add, &[&format!("fact {n}")]).unwrap();
                        row.get(0)
                    })
                    .collect();
                ids.sort_unstable();
                if *alias {
                    one.batch_execute("SELECT engram.add_alias('Ann', 'Annie')")
                        .unwrap();
                }
                one.batch_execute(&format!("SELECT engram.link('{}', '{}')", ids[2], ids[0]))
                    .unwrap();
                let lines = one.query("SELECT engram.export()", &[]).unwrap();
                let (mut memories, mut lines): (Vec<Value>, Vec<Value>) = lines
                    .iter()
                    .map(|row| row.get::<_, Value>(0))
                    .partition(|line| line["kind"] == "memory");
                memories.sort_by_key(|line| line["id"].to_string());
                for n in order {
                    let mut line = memories[n - 1].clone();
                    line["summary"] = "as it was".into();
                    lines.push(line);
                }
                let other = (1..=3).fold((*other).to_owned(), |sql, n| {
                    sql.replace(&format!("{{{n}}}"), &ids[n - 1].to_string())
                });
                let lines = Value::from(lines);

                one.batch_execute(&format!(
                    "BEGIN; SELECT engram.update('{}', importance => 0.7)",
                    ids[held - 1]
                ))
                .unwrap();
                thread::scope(|scope| {
                    let mut clients = [db.user(&name), db.user(&name)];
                    let pids = clients.each_mut().map(|c| -> i32 {
                        c.query_one("SELECT pg_backend_pid()", &[]).unwrap().get(0)
                    });
                    let [mut a, mut b] = clients;
                    let import = move || {
                        a.query(
                            "SELECT status FROM engram.import($1, on_conflict => $2)",
                            &[&lines, &mode],
                        )
                        .map(|_| ())
                    };
                    let work = move || b.batch_execute(&other);
                    let (import, work) = if import_first {
                        let import = scope.spawn(import);
                        settled(&mut admin, pids[0], &import);
                        (import, scope.spawn(work))
                    } else {
                        let work = scope.spawn(work);
                        settled(&mut admin, pids[1], &work);
                        (scope.spawn(import), work)
                    };
                    settled(&mut admin, pids[0], &import);
                    settled(&mut admin, pids[1], &work);
                    one.batch_execute("COMMIT").unwrap();
                    for done in [import, work] {
                        done.join()
                            .unwrap()
                            .unwrap_or_else(|e| panic!("{what}: {e:?}"));
                    }
                });
            }
        }
    }
}
