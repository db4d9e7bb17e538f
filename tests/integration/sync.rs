//! Delta synchronisation: a device that applies all pages has what the server has, whatever happened meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use postgres::Client;
use serde_json::Value;
use uuid::Uuid;

use crate::cluster::{self, Cluster, Database, Installation, failure, one, shared};

/// The first column of the only row.
fn add(client: &mut Client, content: &str) -> Uuid {
    one(client, "SELECT engram.add($1)", &[&content])
}

/// A copy of somebody's memories.
#[derive(Clone, Default)]
struct Device {
    memories: BTreeMap<Uuid, Value>,
    cursor: Option<String>,
    /// Rows that it was sent, and what they told to do.
    sent: Vec<(Uuid, String)>,
}

impl Device {
    /// One call. True when the device has caught up.
    fn page(&mut self, client: &mut Client, match_count: i32) -> Result<bool, postgres::Error> {
        let sql = "SELECT id, op, version, changed_at IS NOT NULL, memory, cursor_next FROM engram.changes($1, $2)";
        let rows = client.query(sql, &[&self.cursor, &match_count])?;
        let mut ended = false;
        let mut seen = Vec::new();
        for row in &rows {
            let op: String = row.get(1);
            assert!(!ended, "end is last");
            if op == "end" {
                assert!(row.get::<_, Option<Uuid>>(0).is_none());
                ended = true;
            } else {
                let id: Uuid = row.get(0);
                assert!(!seen.contains(&id), "each memory once in a page");
                assert!(row.get::<_, bool>(3));
                seen.push(id);
                if op == "upsert" {
                    let memory: Value = row.get(4);
                    assert_eq!(memory["version"], row.get::<_, i32>(2));
                    self.memories.insert(id, memory);
                } else {
                    assert_eq!(op, "delete");
                    self.memories.remove(&id);
                }
                self.sent.push((id, op));
            }
            self.cursor = row.get(5);
        }
        assert!(ended || !rows.is_empty(), "a call never ends with nothing");
        assert!(seen.len() <= match_count as usize);
        Ok(ended)
    }

    /// Calls until it has caught up; what it was sent.
    fn sync(&mut self, client: &mut Client, match_count: i32) -> Vec<(Uuid, String)> {
        let before = self.sent.len();
        while !self.page(client, match_count).unwrap() {}
        self.sent[before..].to_vec()
    }
}

/// What a device should have, read without changes().
fn truth(client: &mut Client) -> BTreeMap<Uuid, Value> {
    let sql = "SELECT m.id, to_jsonb(m) - 'workspace_id' - 'content_hash' - 'layer' || jsonb_build_object('entities',
                 ARRAY(SELECT label FROM engram.graph_links g WHERE g.memory_id = m.id AND g.relation = 'mentions' ORDER BY node))
               FROM engram.memories m WHERE deleted_at IS NULL";
    let rows = client.query(sql, &[]).unwrap();
    rows.iter().map(|r| (r.get(0), r.get(1))).collect()
}

fn upserts(ids: &[Uuid]) -> Vec<(Uuid, String)> {
    ids.iter().map(|id| (*id, "upsert".to_owned())).collect()
}

/// Small random numbers, the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// One random change of a random memory; errors that the order of things brings about are part of it.
fn change(client: &mut Client, dice: &mut Dice) -> Result<(), postgres::Error> {
    let pick = "(SELECT id FROM engram.memories ORDER BY md5(id::text || $1) LIMIT 1)";
    let salt = format!("{}", dice.0);
    let text = format!("note {salt}");
    let sql = match dice.below(13) {
        0..=2 => "SELECT engram.add($1, entities => '{Ann,Bob}')".to_owned(),
        3 => "SELECT engram.add_many(jsonb_build_array(jsonb_build_object('content', 'a ' || $1), jsonb_build_object('content', 'b ' || $1)))".to_owned(),
        4 => format!("SELECT engram.update({pick}, content => $1 || ' changed', tags => '{{x}}')"),
        5 => format!("SELECT engram.forget({pick})"),
        6 => format!("SELECT engram.restore({pick})"),
        7 => format!("SELECT engram.erase(ARRAY[{pick}])"),
        8 => format!("SELECT engram.supersede({pick}, content => $1 || ' instead')"),
        9 => format!("UPDATE engram.memories SET metadata = jsonb_build_object('n', $1::text) WHERE id = {pick}"),
        10 => format!("DELETE FROM engram.memories WHERE id = {pick}"),
        11 => format!("SELECT engram.remove_entities({pick}, ARRAY['Ann', $1])"),
        _ => "INSERT INTO engram.memories (content) VALUES ('plain ' || $1)".to_owned(),
    };
    client.execute(&sql, &[&text]).map(|_| ())
}

#[test]
fn devices_end_equal_to_the_server_whatever_writers_do() {
    let db = Database::new();
    let mut ann = db.user("ann");
    for i in 0..30 {
        add(&mut ann, &format!("first {i}"));
    }
    let done = AtomicBool::new(false);
    let devices: Vec<Device> = thread::scope(|scope| {
        let writers: Vec<_> = (0..4u64)
            .map(|n| {
                let mut client = db.user("ann");
                scope.spawn(move || {
                    let mut dice = Dice(0x5eed_1001 + n * 7919);
                    let mut committed = 0;
                    for _ in 0..40 {
                        client.batch_execute("BEGIN").unwrap();
                        let mut failed = false;
                        for _ in 0..1 + dice.below(5) {
                            client.batch_execute("SAVEPOINT s").unwrap();
                            let result = change(&mut client, &mut dice);
                            failed = result.as_ref().is_err_and(|e| {
                                // Deadlocks between writers happen; they are not what is tested.
                                e.code().unwrap().code() == "40P01"
                            });
                            if failed {
                                break;
                            }
                            let end = if result.is_err() || dice.below(5) == 0 {
                                "ROLLBACK TO s"
                            } else {
                                "RELEASE s"
                            };
                            client.batch_execute(end).unwrap();
                            if dice.below(4) == 0 {
                                thread::sleep(Duration::from_millis(dice.below(25) as u64));
                            }
                        }
                        let end = if failed || dice.below(6) == 0 {
                            "ROLLBACK"
                        } else {
                            "COMMIT"
                        };
                        client.batch_execute(end).unwrap();
                        committed += i32::from(end == "COMMIT");
                    }
                    assert!(committed > 10);
                })
            })
            .collect();
        let done = &done;
        let devices: Vec<_> = (0..3u64)
            .map(|n| {
                let mut client = db.user("ann");
                scope.spawn(move || {
                    let mut dice = Dice(0x5eed_2001 + n * 104_729);
                    let mut device = Device::default();
                    while !done.load(Ordering::Relaxed) {
                        // Mostly not until it has caught up.
                        device.page(&mut client, 1 + dice.below(20) as i32).unwrap();
                        thread::sleep(Duration::from_millis(dice.below(12) as u64));
                    }
                    // To the end of the round that it is in, which may have begun before the last commit, and
                    // of one that begins now.
                    device.sync(&mut client, 1 + dice.below(9) as i32);
                    device.sync(&mut client, 1 + dice.below(9) as i32);
                    device
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        devices.into_iter().map(|d| d.join().unwrap()).collect()
    });
    let wanted = truth(&mut ann);
    assert!(wanted.len() > 30, "{}", wanted.len());
    let mut anew = Device::default();
    anew.sync(&mut ann, 7);
    assert_eq!(anew.memories, wanted);
    for mut device in devices {
        assert_eq!(device.memories, wanted);
        assert!(device.sent.iter().any(|(_, op)| op == "delete"));
        assert_eq!(device.sync(&mut ann, 500), []);
    }
}

#[test]
fn who_takes_long_is_delivered_after_the_commit_and_holds_nobody_back() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let mut slow = db.user("ann");
    let old = add(&mut ann, "from before");
    let mut device = Device::default();
    assert_eq!(device.sync(&mut ann, 500), upserts(&[old]));
    slow.batch_execute("BEGIN").unwrap();
    let late = add(&mut slow, "takes long");
    slow.batch_execute("SAVEPOINT s").unwrap();
    slow.execute("SELECT engram.update($1, 'changed at last')", &[&old])
        .unwrap();
    // Rounds come and go, others are delivered, nothing of the slow one is.
    let mut rolling = db.user("ann");
    for i in 0..5 {
        rolling.batch_execute("BEGIN").unwrap();
        add(&mut rolling, &format!("never was {i}"));
        let quick = add(&mut ann, &format!("quick {i}"));
        assert_eq!(device.sync(&mut ann, 1), upserts(&[quick]), "round {i}");
        assert_eq!(device.sync(&mut ann, 500), [], "round {i}");
        rolling.batch_execute("ROLLBACK").unwrap();
    }
    // A round that was begun before the commit does not get it; the next one does.
    let before: Vec<Uuid> = (0..3)
        .map(|i| add(&mut ann, &format!("page {i}")))
        .collect();
    assert!(!device.page(&mut ann, 2).unwrap());
    slow.batch_execute("COMMIT").unwrap();
    assert_eq!(device.sync(&mut ann, 2), upserts(&before[2..]));
    assert_eq!(device.sync(&mut ann, 2), upserts(&[late, old]));
    assert_eq!(device.memories, truth(&mut ann));
    assert_eq!(device.sync(&mut ann, 2), []);
}

#[test]
fn a_transaction_that_writes_or_looks_at_the_past_is_told_the_truth() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let first = add(&mut ann, "first");
    let mut device = Device::default();
    device.sync(&mut ann, 500);
    // What may still be undone is not sent.
    ann.batch_execute("BEGIN").unwrap();
    add(&mut ann, "perhaps");
    let e = failure(ann.query("SELECT * FROM engram.changes($1)", &[&device.cursor]));
    assert_eq!(e.code, "25000", "{e:?}");
    ann.batch_execute("ROLLBACK").unwrap();
    // A transaction that has written something else may ask; what it is itself counts as unseen.
    ann.batch_execute("CREATE TEMP TABLE t (i int); BEGIN; INSERT INTO t VALUES (1)")
        .unwrap();
    let mut other = db.user("ann");
    let second = add(&mut other, "second");
    assert_eq!(device.sync(&mut ann, 500), upserts(&[second]));
    let third = add(&mut ann, "third");
    ann.batch_execute("COMMIT").unwrap();
    assert_eq!(device.sync(&mut ann, 500), upserts(&[third]));
    // An old snapshot cannot show what the cursor already promises: it says so by sending nothing.
    let mut old = db.user("ann");
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM engram.list()")
        .unwrap();
    let fourth = add(&mut ann, "fourth");
    let fifth = add(&mut ann, "fifth");
    assert!(!device.page(&mut ann, 1).unwrap());
    let cursor = device.cursor.clone();
    assert_eq!(device.sync(&mut old, 500), []);
    assert_eq!(device.cursor, cursor);
    old.batch_execute("COMMIT").unwrap();
    assert_eq!(device.sync(&mut old, 500), upserts(&[fifth]));
    // Several pages in one snapshot.
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .unwrap();
    let mut anew = Device::default();
    assert_eq!(anew.sync(&mut old, 1).len(), 5);
    assert_eq!(
        one::<Option<String>>(
            &mut old,
            "SELECT pg_current_xact_id_if_assigned()::text",
            &[]
        ),
        None
    );
    old.batch_execute("COMMIT").unwrap();
    assert_eq!(anew.sync(&mut ann, 500), []);
    let _ = (first, fourth);
}

#[test]
fn deletes_of_every_kind_are_told() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let ids: Vec<Uuid> = ["a", "b", "secret c", "d"]
        .iter()
        .map(|c| add(&mut ann, c))
        .collect();
    let mut device = Device::default();
    device.sync(&mut ann, 500);
    ann.execute("SELECT engram.forget($1)", &[&ids[0]]).unwrap();
    ann.execute("SELECT engram.erase(ARRAY[$1::uuid])", &[&ids[1]])
        .unwrap();
    let never = add(&mut ann, "came and went");
    ann.execute("DELETE FROM engram.memories WHERE id = $1", &[&never])
        .unwrap();
    let mut told = device.sync(&mut ann, 500);
    told.sort();
    let mut due: Vec<_> = [ids[0], ids[1], never]
        .map(|id| (id, "delete".to_owned()))
        .into();
    due.sort();
    assert_eq!(told, due);
    ann.execute("SELECT engram.restore($1)", &[&ids[0]])
        .unwrap();
    assert_eq!(device.sync(&mut ann, 500), upserts(&ids[..1]));
    // What a policy of the user's own hides is gone for the device once it is touched again.
    db.admin()
        .batch_execute("CREATE POLICY hush ON engram.memories AS RESTRICTIVE FOR SELECT USING (content NOT LIKE '%secret%')")
        .unwrap();
    db.admin()
        .execute(
            "UPDATE engram.memories SET importance = 0.99 WHERE id = ANY ($1)",
            &[&ids],
        )
        .unwrap();
    device.sync(&mut ann, 500);
    assert_eq!(device.memories, truth(&mut ann));
    assert!(!device.memories.contains_key(&ids[2]));
}

#[test]
fn cursors_are_checked_and_open_nothing() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let mine: Vec<Uuid> = (0..3).map(|i| add(&mut ann, &format!("ann {i}"))).collect();
    let mut device = Device::default();
    device.page(&mut ann, 1).unwrap();
    let full = device.cursor.clone().unwrap();
    device.sync(&mut ann, 500);
    let between = device.cursor.clone().unwrap();
    ann.execute(
        "SELECT engram.update(m.id, m.content || '!') FROM engram.memories m",
        &[],
    )
    .unwrap();
    device.page(&mut ann, 1).unwrap();
    let delta = device.cursor.clone().unwrap();
    // Another's cursor shows one's own memories only.
    let mut bob = db.user("bob");
    let his = add(&mut bob, "bob");
    for cursor in [&full, &between, &delta] {
        let mut device = Device {
            cursor: Some(cursor.clone()),
            ..Device::default()
        };
        for (id, _) in device.sync(&mut bob, 500) {
            assert_eq!(id, his);
        }
    }
    let refused = |client: &mut Client, cursor: &str, code: &str| {
        let e = failure(client.query("SELECT * FROM engram.changes($1)", &[&cursor]));
        assert_eq!(e.code, code, "{cursor}: {e:?}");
        assert!(!e.hint.is_empty());
    };
    let parts: Vec<&str> = delta.split('.').collect();
    let with = |place: usize, value: &str| {
        let mut parts = parts.clone();
        parts[place] = value;
        parts.join(".")
    };
    for broken in [
        "",
        "1",
        "x",
        "1.......",
        "\u{1F600}",
        "'; DROP TABLE engram.memories; --",
        "2.0.0.0.1:1:...",
    ] {
        refused(&mut ann, broken, "22023");
    }
    for (place, value) in [
        (0, "2"),
        (1, ""),
        (1, "zz"),
        (2, ""),
        (2, "-1"),
        (2, "99999999999"),
        (3, "99999999999999999999999"),
        (3, ""),
        (4, "1:2"),
        (4, "0:1:"),
        (4, "2:1:"),
        (4, "1:5:7"),
        (4, "1:9:5,3"),
        (4, "4294967296:4294967297:"),
        (4, "1:1:0:"),
        (5, "x"),
        (5, "a:b:c"),
        (6, ""),
        (6, "+1"),
        (7, ""),
        (7, "not-a-uuid"),
        (7, "{018f0000-aaaa-7000-8000-000000000001}"),
    ] {
        refused(&mut ann, &with(place, value), "22023");
    }
    // Of elsewhere, of the future, or of what is no longer kept: begin anew.
    refused(&mut ann, &with(1, "0123456789abcdef"), "PT410");
    refused(&mut ann, &with(2, "77"), "PT410");
    refused(&mut ann, &with(3, &u64::MAX.to_string()), "PT410");
    refused(&mut ann, &with(5, &format!("{0}:{0}:", u64::MAX)), "PT410");
    refused(&mut ann, &with(4, &format!("{0}:{0}:", u64::MAX)), "PT410");
    // Any transaction may be named as the last, and it leads at most to the end.
    for last in ["0", "1", "18446744073709551615"] {
        let rows = ann
            .query("SELECT op FROM engram.changes($1)", &[&with(6, last)])
            .unwrap();
        assert_eq!(rows.last().unwrap().get::<_, String>(0), "end");
    }
    for count in [0, -1, 10_001] {
        let e = failure(ann.query("SELECT * FROM engram.changes(match_count => $1)", &[&count]));
        assert_eq!(e.code, "22023");
    }
    let mut admin = db.admin();
    admin
        .batch_execute(
            "INSERT INTO engram.maintenance (workspace_id, events_dropped_xid) SELECT '00000000-0000-0000-0000-000000000000', min(xid) FROM engram.memory_events",
        )
        .unwrap();
    let rows = ann
        .query("SELECT * FROM engram.changes($1)", &[&delta])
        .unwrap();
    assert_eq!(rows.len(), mine.len(), "older ones were dropped");
    admin
        .batch_execute("UPDATE engram.maintenance SET events_dropped_xid = pg_current_xact_id()")
        .unwrap();
    for cursor in [&full, &between, &delta] {
        refused(&mut ann, cursor, "PT410");
    }
    let mut anew = Device::default();
    anew.sync(&mut ann, 2);
    assert_eq!(anew.memories, truth(&mut ann));
    assert_eq!(anew.sync(&mut ann, 2), []);
    // A number of transactions to come is of another server, from where a dump was loaded.
    admin
        .batch_execute("UPDATE engram.maintenance SET events_dropped_xid = '9223372036854775807'")
        .unwrap();
    assert_eq!(anew.sync(&mut ann, 2), []);
    admin
        .batch_execute("TRUNCATE engram.memories CASCADE")
        .unwrap();
    refused(&mut ann, anew.cursor.as_ref().unwrap(), "PT410");
    let new = add(&mut ann, "after the flood");
    let mut anew = Device::default();
    assert_eq!(anew.sync(&mut ann, 2), upserts(&[new]));
    assert_eq!(anew.sync(&mut ann, 2), []);
}

#[test]
fn a_restored_dump_asks_devices_to_begin_anew() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let id = add(&mut ann, "kept");
    ann.execute("SELECT engram.update($1, 'kept still')", &[&id])
        .unwrap();
    let mut device = Device::default();
    device.sync(&mut ann, 500);
    let file = cluster::scratch("sync").join("dump.sql");
    cluster::run(
        shared()
            .client("pg_dump", "postgres")
            .arg("-f")
            .arg(&file)
            .arg(&db.name),
    );
    let target = Database::empty();
    shared()
        .psql(
            &target.name,
            "postgres",
            &fs::read_to_string(&file).unwrap(),
        )
        .unwrap();
    let mut there = target.user("ann");
    let e = failure(there.query("SELECT * FROM engram.changes($1)", &[&device.cursor]));
    assert_eq!(e.code, "PT410", "{e:?}");
    assert!(e.hint.contains("without since"), "{}", e.hint);
    // There its history came with it, and synchronising begins with what is new there.
    let mut anew = Device::default();
    assert_eq!(anew.sync(&mut there, 500), upserts(&[id]));
    assert_eq!(anew.sync(&mut there, 500), []);
    let new = add(&mut there, "new");
    assert_eq!(anew.sync(&mut there, 500), upserts(&[new]));
    let versions: i64 = one(
        &mut there,
        "SELECT count(*) FROM engram.history($1)",
        &[&id],
    );
    assert_eq!(versions, 2);
    // Here the cursor is as good as ever.
    assert_eq!(device.sync(&mut ann, 500), []);
}

#[test]
fn a_call_reads_what_is_new_and_nothing_else() {
    let db = Database::new();
    let mut admin = db.admin();
    // Many workspaces of which statistics know, and one of which they do not.
    admin
        .batch_execute(
            "SET session_replication_role = replica;
             CREATE FUNCTION public.fill(w uuid, n int) RETURNS void LANGUAGE sql AS $$
               INSERT INTO engram.memories (workspace_id, id, user_id, content, type, importance, layer, pinned, tags, metadata, version, created_at, updated_at, content_hash)
               SELECT w, engram_internal.uuid_v7(), w, 'note ' || i, 'factual', 0.5, 'working', false, '{}', '{}', 1, now(), now(), 'x' FROM generate_series(1, n) i;
               INSERT INTO engram.memory_events (workspace_id, xid, id, at, memory_id, origin, action, version)
               SELECT w, pg_current_xact_id(), engram_internal.uuid_v7(), now(), id, engram_internal.store_origin(), 'added', 1 FROM engram.memories WHERE workspace_id = w $$;
             SELECT public.fill(lpad(n::text, 32, '0')::uuid, 1000) FROM generate_series(1, 12) n;
             RESET session_replication_role; ANALYZE",
        )
        .unwrap();
    let me: Uuid = one(&mut db.user("ann"), "SELECT engram.current_user_id()", &[]);
    admin
        .batch_execute("SET session_replication_role = replica")
        .unwrap();
    admin
        .execute("SELECT public.fill($1, 3000)", &[&me])
        .unwrap();
    admin
        .batch_execute("RESET session_replication_role; SELECT pg_stat_force_next_flush()")
        .unwrap();
    let mut ann = db.user("ann");
    let mut read = |ann: &mut Client, work: &mut dyn FnMut(&mut Client)| -> i64 {
        let sql = "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_user_tables WHERE relname ~ '^(memories|memory_events.*|graph_links)$'";
        ann.batch_execute("SELECT pg_stat_force_next_flush()")
            .unwrap();
        let before: i64 = one(&mut admin, sql, &[]);
        work(ann);
        ann.batch_execute("SELECT pg_stat_force_next_flush()")
            .unwrap();
        one::<i64>(&mut admin, sql, &[]) - before
    };
    let mut device = Device::default();
    // Plans are made for the first calls and kept for the later ones.
    for _ in 0..8 {
        let fetched = read(&mut ann, &mut |ann| {
            device.page(ann, 100).unwrap();
        });
        assert!(
            fetched <= 250,
            "a page of the first round reads {fetched} rows"
        );
    }
    // What was written while another transaction of the server was running is read until that one has ended.
    let filled: String = one(
        &mut ann,
        "SELECT max(xid)::text FROM engram.memory_events",
        &[],
    );
    while !one::<bool>(
        &mut ann,
        "SELECT pg_snapshot_xmin(pg_current_snapshot()) > $1::text::xid8",
        &[&filled],
    ) {
        thread::sleep(Duration::from_millis(10));
    }
    device.sync(&mut ann, 1000);
    for i in 0..8 {
        let fetched = read(&mut ann, &mut |ann| {
            assert_eq!(device.sync(ann, 500), []);
        });
        assert!(fetched <= 10, "an idle call reads {fetched} rows");
        let id = add(&mut ann, &format!("new {i}"));
        let fetched = read(&mut ann, &mut |ann| {
            assert_eq!(device.sync(ann, 500), upserts(&[id]));
        });
        assert!(fetched <= 20, "a call for one change reads {fetched} rows");
        let then: String = one(&mut ann, "SELECT clock_timestamp()::text", &[]);
        ann.execute(
            "SELECT engram.update($1, $2)",
            &[&id, &format!("changed {i}")],
        )
        .unwrap();
        for (sql, most) in [
            ("SELECT FROM engram.history($1::text::uuid)", 30),
            (
                "SELECT FROM engram.get($1::text::uuid, as_of => $2::text::timestamptz)",
                30,
            ),
            (
                "SELECT FROM engram.list(match_count => 20, as_of => $2::text::timestamptz) WHERE $1 <> ''",
                250,
            ),
        ] {
            let fetched = read(&mut ann, &mut |ann| {
                let id = id.to_string();
                let rows = if sql.contains("$2") {
                    ann.query(sql, &[&id, &then])
                } else {
                    ann.query(sql, &[&id])
                };
                assert!(!rows.unwrap().is_empty());
            });
            assert!(fetched <= most, "{sql} reads {fetched} rows");
        }
        device.sync(&mut ann, 500);
    }
}

#[test]
fn standbys_serve_devices_and_cursors_outlive_a_failover() {
    let primary = Cluster::start(Installation::current(), "syncprim");
    primary
        .connect("postgres", "postgres")
        .batch_execute(
            "CREATE ROLE app LOGIN; CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions; CREATE EXTENSION engram;
             SELECT engram.setup('{\"grant_to\": [\"app\"]}')",
        )
        .unwrap();
    let mut ann = primary.user("ann");
    let first = add(&mut ann, "first");
    let standby = primary.standby("syncstby");
    standby.catch_up(&primary);
    let mut there = standby.user("ann");
    let mut device = Device::default();
    assert_eq!(device.sync(&mut there, 500), upserts(&[first]));
    // A transaction that is open on the primary holds nobody back on the standby, and is not lost.
    let mut slow = primary.user("ann");
    slow.batch_execute("BEGIN").unwrap();
    let late = add(&mut slow, "takes long");
    slow.batch_execute("SAVEPOINT s").unwrap();
    slow.execute("SELECT engram.update($1, 'first, changed')", &[&first])
        .unwrap();
    let quick = add(&mut ann, "quick");
    standby.catch_up(&primary);
    assert_eq!(device.sync(&mut there, 500), upserts(&[quick]));
    slow.batch_execute("COMMIT").unwrap();
    standby.catch_up(&primary);
    assert_eq!(device.sync(&mut there, 1), upserts(&[late, first]));
    // A device that knows more than a standby that lags is sent nothing, and waits with its cursor.
    standby
        .connect("postgres", "postgres")
        .batch_execute("SELECT pg_wal_replay_pause()")
        .unwrap();
    let more: Vec<Uuid> = (0..4)
        .map(|i| add(&mut ann, &format!("more {i}")))
        .collect();
    assert!(!device.page(&mut ann, 2).unwrap());
    let cursor = device.cursor.clone();
    assert_eq!(device.sync(&mut there, 500), []);
    assert_eq!(device.cursor, cursor);
    standby
        .connect("postgres", "postgres")
        .batch_execute("SELECT pg_wal_replay_resume()")
        .unwrap();
    standby.catch_up(&primary);
    assert_eq!(device.sync(&mut there, 500), upserts(&more[2..]));
    // Cursors of before the switch, between rounds and in the middle of one.
    let mut between = device.clone();
    between.sync(&mut ann, 500);
    let mut ahead = between.clone();
    let pages: Vec<Uuid> = (0..3)
        .map(|i| add(&mut ann, &format!("page {i}")))
        .collect();
    let mut within = between.clone();
    assert!(!within.page(&mut ann, 1).unwrap());
    standby.catch_up(&primary);
    drop(there);
    // The standby no longer gets what comes now.
    standby
        .connect("postgres", "postgres")
        .simple_query("ALTER SYSTEM SET primary_conninfo = ''")
        .unwrap();
    standby
        .connect("postgres", "postgres")
        .simple_query("SELECT pg_reload_conf()")
        .unwrap();
    thread::sleep(Duration::from_millis(500));
    let lost = add(&mut ann, "lost with the primary");
    ahead.sync(&mut ann, 500);
    assert!(ahead.memories.contains_key(&lost));
    primary.down("immediate");
    standby
        .connect("postgres", "postgres")
        .batch_execute("SELECT pg_promote()")
        .unwrap();
    let mut there = standby.user("ann");
    assert_eq!(within.sync(&mut there, 500), upserts(&pages[1..]));
    assert_eq!(between.sync(&mut there, 2), upserts(&pages));
    let e = failure(there.query("SELECT * FROM engram.changes($1)", &[&ahead.cursor]));
    assert_eq!(e.code, "PT410", "{e:?}");
    // Life goes on, and the lost transaction's number is given to another.
    let after = add(&mut there, "after");
    for device in [&mut within, &mut between] {
        assert_eq!(device.sync(&mut there, 500), upserts(&[after]));
        assert_eq!(device.memories, truth(&mut there));
    }
    // Other transactions have the numbers of what was lost by now, and the cursor is refused as before.
    for i in 0..20 {
        add(&mut there, &format!("later {i}"));
    }
    let e = failure(there.query("SELECT * FROM engram.changes($1)", &[&ahead.cursor]));
    assert_eq!(e.code, "PT410", "{e:?}");
    // The old primary comes back by itself: it knows nothing of the new timeline.
    primary.up();
    let mut ann = primary.user("ann");
    let e = failure(ann.query("SELECT * FROM engram.changes($1)", &[&between.cursor]));
    assert_eq!(e.code, "PT410", "{e:?}");
    assert_eq!(ahead.sync(&mut ann, 500), []);
}

#[test]
fn a_crash_loses_nothing_that_a_device_was_sent() {
    let server = Cluster::start(Installation::current(), "synccrash");
    let mut admin = server.connect("postgres", "postgres");
    admin
        .simple_query("ALTER SYSTEM SET wal_writer_delay = '10s'")
        .unwrap();
    admin
        .batch_execute(
            "SELECT pg_reload_conf();
             CREATE ROLE app LOGIN; CREATE EXTENSION engram CASCADE; SELECT engram.setup('{\"grant_to\": [\"app\"]}')",
        )
        .unwrap();
    let mut ann = server.user("ann");
    let mut device = Device::default();
    device.sync(&mut ann, 500);
    ann.batch_execute("SET synchronous_commit = off").unwrap();
    for i in 0..20 {
        add(&mut ann, &format!("soon {i}"));
    }
    assert_eq!(device.sync(&mut ann, 500).len(), 20);
    server.kill();
    server.up();
    let mut ann = server.user("ann");
    assert_eq!(truth(&mut ann), device.memories);
    let new = add(&mut ann, "new");
    assert_eq!(device.sync(&mut ann, 500), upserts(&[new]));
}
