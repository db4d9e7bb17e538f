//! Conversations: turns in order, once each, whatever happens at the same time; archived and brought back.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use postgres::Client;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cluster::{Database, failure};

fn append(client: &mut Client, session: &str, items: &Value) -> Vec<(String, Option<String>)> {
    client
        .query(
            "SELECT status, error FROM engram.append_messages($1, $2)",
            &[items, &session],
        )
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect()
}

fn contents(client: &mut Client, session: &str, archived: bool) -> Vec<String> {
    client
        .query(
            "SELECT content FROM engram.messages($1, 1000, include_archived => $2)",
            &[&session, &archived],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect()
}

fn one(client: &mut Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).unwrap().get(0)
}

/// `n` turns of 2022, a minute apart, named by number.
fn turns(n: usize) -> Value {
    (0..n)
        .map(|i| {
            json!({"content": format!("turn {i:03}"), "role": if i % 2 == 0 { "user" } else { "assistant" },
                   "speaker": "Ann", "metadata": {"n": i, "null": null}, "id": Uuid::from_u128(i as u128 + 1).to_string(),
                   "created_at": format!("2022-01-01T{:02}:{:02}:00Z", i / 60, i % 60)})
        })
        .collect()
}

/// Every row of the conversation but where it is stored.
fn everything(client: &mut Client, session: &str) -> Vec<String> {
    client
        .query(
            "SELECT (to_jsonb(m) - '{archived,cursor_next}'::text[])::text FROM engram.messages($1, 1000, include_archived => true) m",
            &[&session],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect()
}

#[test]
fn turns_keep_their_order_and_bad_ones_leave_the_others_alone() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let id = Uuid::now_v7();
    let same = "2020-05-05T05:05:05.000005Z";
    let items = json!([
        {"content": "b", "created_at": same, "id": "ffffffff-0000-4000-8000-000000000000"},
        {"content": "a", "created_at": same, "id": "00000000-0000-4000-8000-000000000000"},
        {"content": "c", "created_at": same, "role": "assistant"},
        {"content": "said by nobody", "role": "robot"}, {"role": "user"}, {"content": "x", "created_at": "infinity"},
        {"content": "x", "contents": 1}, 7, {"content": "x", "metadata": []}, {"content": "x", "session_id": ""},
        {"content": "now 1", "id": id.to_string()}, {"content": "now 2"}, {"content": "", "role": "tool"},
        {"content": "elsewhere", "session_id": "other"},
        {"content": "x", "created_at": "294276-12-31T23:59:59.999999Z"},
    ]);
    let got = append(&mut ann, "s", &items);
    let bad: Vec<usize> = (0..got.len()).filter(|i| got[*i].0 == "error").collect();
    assert_eq!(bad, [3, 4, 5, 6, 7, 8, 9, 14]);
    for (i, word) in [
        (3, "robot"),
        (4, "content"),
        (5, "infinite"),
        (6, "contents"),
        (7, "object"),
        (8, "metadata"),
        (9, "session_id"),
        (14, "9999"),
    ] {
        assert!(got[i].1.as_ref().unwrap().contains(word), "{:?}", got[i]);
    }
    assert_eq!(
        contents(&mut ann, "s", false),
        ["b", "a", "c", "now 1", "now 2", ""]
    );
    assert_eq!(contents(&mut ann, "other", false), ["elsewhere"]);
    let far = "-999999999999999999_ffffffff-ffff-ffff-ffff-ffffffffffff";
    for call in [
        format!("SELECT engram.messages('s', cursor => '{far}')"),
        format!("SELECT engram.conversations(cursor => '{far}')"),
    ] {
        let failed = failure(ann.query(&call, &[]));
        assert_eq!(failed.code, "22023", "{call}");
        assert!(failed.hint.contains("unchanged"), "{}", failed.hint);
    }
    // The same id again is a retry, in this conversation.
    assert_eq!(
        append(
            &mut ann,
            "s",
            &json!([{"content": "now 1", "id": id.to_string()}])
        ),
        [("unchanged".to_owned(), None)]
    );
    assert_eq!(
        append(
            &mut ann,
            "t",
            &json!([{"content": "again", "id": id.to_string()}])
        ),
        [("added".to_owned(), None)]
    );
    assert_eq!(contents(&mut ann, "s", false).len(), 6);
    let error = failure(ann.query(
        "SELECT * FROM engram.append_messages('{\"content\": \"x\"}', 's')",
        &[],
    ));
    assert_eq!(error.code, "22023");
    assert_eq!(
        append(&mut ann, "s", &json!([{"content": "x".repeat(200_001)}]))[0].0,
        "error"
    );
}

#[test]
fn what_is_archived_is_read_page_by_page_and_comes_back_as_it_was() {
    let db = Database::new();
    let mut ann = db.user("ann");
    append(&mut ann, "old", &turns(250));
    append(
        &mut ann,
        "lively",
        &json!([{"content": "long ago", "created_at": "2020-01-01"}, {"content": "now"}]),
    );
    let before = everything(&mut ann, "old");
    assert_eq!(before.len(), 250);
    let report = |client: &mut Client, sql: &str| -> (i64, i64, i64, bool) {
        let row = client.query_one(sql, &[]).unwrap();
        (row.get(0), row.get(1), row.get(2), row.get(3))
    };
    assert_eq!(
        report(
            &mut ann,
            "SELECT * FROM engram.archive_messages(keep => 30, dry_run => true)"
        ),
        (1, 220, 0, true)
    );
    assert_eq!(
        contents(&mut ann, "old", false).len(),
        250,
        "a dry run moves nothing"
    );
    assert_eq!(
        report(
            &mut ann,
            "SELECT * FROM engram.archive_messages(keep => 30)"
        ),
        (1, 220, 0, true)
    );
    assert_eq!(
        report(
            &mut ann,
            "SELECT * FROM engram.archive_messages(keep => 30)"
        ),
        (0, 0, 0, true)
    );
    assert_eq!(contents(&mut ann, "lively", false).len(), 2);
    assert_eq!(contents(&mut ann, "old", false).len(), 30);
    assert_eq!(everything(&mut ann, "old"), before);
    // In pages of any size: every turn once, newest page first.
    for size in [1, 7, 100] {
        let (mut pages, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let rows = ann
                .query(
                    "SELECT content, cursor_next FROM engram.messages('old', $1, $2, true)",
                    &[&size, &cursor],
                )
                .unwrap();
            let page: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
            assert!(page.len() <= size as usize && page.is_sorted());
            cursor = rows[0].get(1);
            pages.splice(0..0, page);
            if cursor.is_none() {
                break;
            }
        }
        let all: Vec<String> = (0..250).map(|i| format!("turn {i:03}")).collect();
        assert_eq!(pages, all, "pages of {size}");
    }
    let row = ann
        .query_one("SELECT turns, archived, first_message, last_message, first_at < last_at FROM engram.conversations() WHERE session_id = 'old'", &[])
        .unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (30, 220));
    assert_eq!(
        (
            row.get::<_, &str>(2),
            row.get::<_, &str>(3),
            row.get::<_, bool>(4)
        ),
        ("turn 000", "turn 249", true)
    );
    let pages: Vec<String> = {
        let first = ann
            .query_one(
                "SELECT session_id, cursor_next FROM engram.conversations(1)",
                &[],
            )
            .unwrap();
        let next: String = first.get(1);
        let second = ann
            .query_one(
                "SELECT session_id FROM engram.conversations(1, $1)",
                &[&next],
            )
            .unwrap();
        vec![first.get(0), second.get(0)]
    };
    assert_eq!(pages, ["lively", "old"]);
    // A retry of what is archived stores nothing.
    let again = append(&mut ann, "old", &turns(250));
    assert!(again.iter().all(|(status, _)| status == "unchanged"));
    // An archived turn and one at hand are erased; the rest comes back.
    let ids = [
        Uuid::from_u128(3),
        Uuid::from_u128(250),
        Uuid::from_u128(999),
    ];
    let erased = |client: &mut Client, dry: bool| -> (i64, i64) {
        let row = client
            .query_one(
                "SELECT * FROM engram.erase_messages('old', $1, $2)",
                &[&ids.to_vec(), &dry],
            )
            .unwrap();
        (row.get(0), row.get(1))
    };
    assert_eq!(
        (
            erased(&mut ann, true),
            erased(&mut ann, false),
            erased(&mut ann, false)
        ),
        ((1, 1), (1, 1), (0, 0))
    );
    assert_eq!(one(&mut ann, "SELECT engram.restore_messages('old')"), 219);
    assert_eq!(
        one(&mut ann, "SELECT count(*) FROM engram.message_archive"),
        0
    );
    let mut left = before.clone();
    left.remove(249);
    left.remove(2);
    assert_eq!(everything(&mut ann, "old"), left);
    assert_eq!(
        one(
            &mut ann,
            "SELECT messages + archived FROM engram.erase_messages('old')"
        ),
        248
    );
    assert!(everything(&mut ann, "old").is_empty());
    assert_eq!(
        failure(ann.query("SELECT * FROM engram.erase_messages()", &[])).code,
        "22023"
    );
}

#[test]
fn an_id_that_another_turn_has_is_no_retry() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let [a, b, c] = [1, 2, 3].map(|n| format!("018f0000-aaaa-7000-8000-00000000000{n}"));
    let stated = |got: Vec<(String, Option<String>)>| -> Vec<String> {
        got.into_iter()
            .map(|(status, error)| {
                assert_eq!(
                    error.is_some_and(|e| e.contains("another turn")),
                    status == "error"
                );
                status
            })
            .collect()
    };
    let first = json!([
        {"id": a, "content": "one", "created_at": "2020-01-01Z"},
        {"id": b, "content": "two", "created_at": "2020-01-02Z"},
        {"id": b, "content": "two", "created_at": "2020-01-02Z"},
        {"id": b, "content": "three", "created_at": "2020-01-03Z"}
    ]);
    assert_eq!(
        stated(append(&mut ann, "s", &first)),
        ["added", "added", "unchanged", "error"]
    );
    // Archived or not, and beside others.
    ann.query("SELECT engram.archive_messages('0', 1)", &[])
        .unwrap();
    assert_eq!(contents(&mut ann, "s", false), ["two"]);
    let again = json!([
        {"id": a, "content": "one"}, {"id": a, "content": "uno"},
        {"id": b, "content": "two"}, {"id": b, "content": "due"}, {"id": c, "content": "tre"}
    ]);
    assert_eq!(
        stated(append(&mut ann, "s", &again)),
        ["unchanged", "error", "unchanged", "error", "added"]
    );
    assert_eq!(contents(&mut ann, "s", true), ["one", "two", "tre"]);
    // What an import brings is told apart in the same way.
    for (id, content, how, status) in [
        (&a, "one", "skip", "unchanged"),
        (&a, "uno", "skip", "skipped"),
        (&a, "uno", "reject", "error"),
        (&a, "uno", "replace", "error"),
        (&b, "two", "replace", "added"),
        (&c, "tre", "reject", "unchanged"),
        (&c, "three", "reject", "error"),
        (&c, "three", "skip", "skipped"),
        (&c, "three", "replace", "replaced"),
    ] {
        let session = if status == "added" { "t" } else { "s" };
        let line = json!({"kind": "message", "session_id": session, "id": id, "role": "user", "content": content, "created_at": "2020-01-01Z"});
        let got: String = ann
            .query_one(
                "SELECT status FROM engram.import($1, on_conflict => $2)",
                &[&line, &how],
            )
            .unwrap()
            .get(0);
        assert_eq!(got, status, "{line} {how}");
    }
    assert_eq!(contents(&mut ann, "s", true), ["one", "three", "two"]);
}

#[test]
fn one_transaction_archives_as_much_as_it_may_lock() {
    let db = Database::new();
    let mut ann = db.user("ann");
    for n in 0..130 {
        append(&mut ann, &format!("chat {n:03}"), &turns(2));
    }
    let archive =
        "SELECT conversations, done FROM engram.archive_messages(keep => 0, batch_size => 1000)";
    let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND classid = 'engram_internal'::regnamespace
                AND pid = pg_backend_pid()";
    ann.batch_execute("BEGIN").unwrap();
    let mut moved: Vec<i64> = Vec::new();
    loop {
        let row = ann.query_one(archive, &[]).unwrap();
        moved.push(row.get(0));
        assert!(one(&mut ann, held) < 70, "{moved:?}");
        if row.get(1) {
            break;
        }
    }
    // Past its share each call moves one more, and so comes to an end.
    assert_eq!(
        (moved[0], moved[1], moved.iter().sum::<i64>()),
        (64, 1, 130)
    );
    ann.batch_execute("ROLLBACK").unwrap();
    // Each transaction has a share of its own.
    let calls: Vec<i64> = (0..3)
        .map(|_| ann.query_one(archive, &[]).unwrap().get(0))
        .collect();
    assert_eq!(calls, [64, 64, 2]);
}

#[test]
fn administrators_archive_for_everybody_in_batches() {
    let db = Database::new();
    for user in ["ann", "bob"] {
        let mut client = db.user(user);
        for session in ["x", "y"] {
            append(&mut client, session, &turns(60));
        }
    }
    let mut ann = db.user("ann");
    let mut admin = db.admin();
    let mut total = 0;
    for round in 1.. {
        let row = admin
            .query_one(
                "SELECT archived, done FROM engram.archive_messages(batch_size => 1)",
                &[],
            )
            .unwrap();
        total += row.get::<_, i64>(0);
        if row.get(1) {
            assert_eq!(round, 4);
            break;
        }
    }
    assert_eq!(total, 40);
    // One's own only, and without an identity nothing.
    assert_eq!(one(&mut ann, "SELECT engram.restore_messages('x')"), 10);
    assert_eq!(
        one(
            &mut db.user("bob"),
            "SELECT count(*) FROM engram.message_archive"
        ),
        2
    );
    assert_eq!(
        failure(
            db.connect("app")
                .query("SELECT * FROM engram.archive_messages()", &[])
        )
        .code,
        "42501"
    );
    // Authors stay who they were, whoever moves their turns.
    let authors = one(
        &mut admin,
        "SELECT count(DISTINCT user_id) FROM engram.messages WHERE user_id = workspace_id",
    );
    assert_eq!(authors, 2);
}

#[test]
fn nothing_is_lost_or_doubled_when_all_happens_at_once() {
    let db = Database::new();
    let stop = AtomicBool::new(false);
    let barrier = Barrier::new(5);
    // Old turns, so that the conversation is always due for the archive.
    let item = |n: usize, i: usize| {
        json!([{"content": format!("{n}-{i}"), "id": Uuid::from_u128((n * 1000 + i) as u128 + 1).to_string(),
                "created_at": format!("2022-01-{:02}T00:{:02}:{:02}Z", n + 1, i / 60, i % 60)}])
    };
    thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|n| {
                let (db, barrier, item) = (&db, &barrier, &item);
                scope.spawn(move || {
                    let mut ann = db.user("ann");
                    barrier.wait();
                    for i in 0..150 {
                        assert_eq!(append(&mut ann, "s", &item(n, i))[0].0, "added");
                        // At once and later: retries, of what may be in the archive by now.
                        assert_eq!(append(&mut ann, "s", &item(n, i / 2))[0].0, "unchanged");
                        if i % 10 == 0 {
                            let ids = vec![Uuid::from_u128((n * 1000 + i) as u128 + 1)];
                            let row = ann.query_one("SELECT messages + archived FROM engram.erase_messages('s', $1)", &[&ids]).unwrap();
                            assert_eq!(row.get::<_, i64>(0), 1, "erased wherever it was");
                            assert_eq!(append(&mut ann, "s", &item(n, i))[0].0, "added");
                        }
                    }
                })
            })
            .collect();
        for work in [
            "SELECT archived FROM engram.archive_messages(keep => 3)",
            "SELECT archived FROM engram.archive_messages(keep => 0)",
            "SELECT engram.restore_messages('s')",
        ] {
            let (db, barrier, stop) = (&db, &barrier, &stop);
            scope.spawn(move || {
                let mut ann = db.user("ann");
                barrier.wait();
                while !stop.load(Ordering::Relaxed) {
                    ann.query(work, &[]).unwrap();
                }
            });
        }
        let ended: Vec<_> = writers.into_iter().map(|w| w.join()).collect();
        stop.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok));
    });
    let mut ann = db.user("ann");
    let all = contents(&mut ann, "s", true);
    let wanted: BTreeSet<String> = (0..2)
        .flat_map(|n| (0..150).map(move |i| format!("{n}-{i}")))
        .collect();
    assert_eq!(all.len(), 300);
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), wanted);
}

#[test]
fn who_holds_a_conversation_is_not_waited_for_by_the_archive() {
    let db = Database::new();
    let mut ann = db.user("ann");
    append(&mut ann, "s", &turns(60));
    let mut other = db.user("ann");
    let mut writing = other.transaction().unwrap();
    writing
        .query(
            "SELECT * FROM engram.append_messages('[{\"content\": \"new\"}]', 's')",
            &[],
        )
        .unwrap();
    let row = ann
        .query_one("SELECT * FROM engram.archive_messages()", &[])
        .unwrap();
    assert_eq!(
        (
            row.get::<_, i64>(1),
            row.get::<_, i64>(2),
            row.get::<_, bool>(3)
        ),
        (0, 1, true)
    );
    writing.commit().unwrap();
    assert_eq!(
        one(&mut ann, "SELECT archived FROM engram.archive_messages()"),
        0,
        "it is lively again"
    );
    // Reading needs no write, nor a transaction that may.
    ann.batch_execute("SET default_transaction_read_only = on")
        .unwrap();
    assert_eq!(contents(&mut ann, "s", true).len(), 61);
    assert_eq!(
        one(&mut ann, "SELECT turns FROM engram.conversations()"),
        61
    );
}

#[test]
fn turns_are_sampled_for_extraction() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let taken = |client: &mut Client, turns: i32| {
        client
            .query_one(
                "SELECT count(*) FROM generate_series(1, 4000) i
                 WHERE engram.should_extract(md5(i::text)::uuid, 'I moved to Lisbon in March.', $1)",
                &[&turns],
            )
            .unwrap()
            .get::<_, i64>(0)
    };
    assert_eq!((taken(&mut ann, 1), taken(&mut ann, 20)), (0, 4000));
    // 0.25 + 0.75 / 2, five standard deviations.
    assert!((2347..=2653).contains(&taken(&mut ann, 10)));
    for (call, expected) in [
        ("'long enough to be a fact', 20, role => 'user'", true),
        ("'long enough to be a fact', 20, role => 'system'", false),
        ("'long enough to be a fact', 20, role => 'tool'", false),
        ("'     short              ', 20", false),
        ("'short', 20, min_chars => 5", true),
        (
            "'short', 1, min_chars => 5, min_turns => 1, base_rate => 1",
            true,
        ),
        (
            "'short', 30, min_chars => 5, base_rate => 0, full_rate => 0",
            false,
        ),
    ] {
        let sql =
            format!("SELECT engram.should_extract('018f0000-aaaa-7000-8000-000000000001', {call})");
        assert_eq!(
            ann.query_one(&sql, &[]).unwrap().get::<_, bool>(0),
            expected,
            "{call}"
        );
    }
    for call in [
        "NULL, 'x', 1",
        "'018f0000-aaaa-7000-8000-000000000001', NULL, 1",
        "'018f0000-aaaa-7000-8000-000000000001', 'x', NULL",
        "'018f0000-aaaa-7000-8000-000000000001', 'x', -1",
        "'018f0000-aaaa-7000-8000-000000000001', 'x', 1, base_rate => 'NaN'",
        "'018f0000-aaaa-7000-8000-000000000001', 'x', 1, base_rate => 0.6, full_rate => 0.5",
        "'018f0000-aaaa-7000-8000-000000000001', 'x', 1, full_rate => 1.1",
        "'018f0000-aaaa-7000-8000-000000000001', 'x', 1, min_chars => -1",
        "'018f0000-aaaa-7000-8000-000000000001', 'x', 1, mature_turns => -1",
        "'018f0000-aaaa-7000-8000-000000000001', 'x', 1, role => 'robot'",
    ] {
        let error = failure(ann.query(&format!("SELECT engram.should_extract({call})"), &[]));
        assert_eq!(error.code, "22023", "{call}");
        assert!(!error.hint.is_empty(), "{call}");
    }
}
