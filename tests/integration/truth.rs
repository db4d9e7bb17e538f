//! What holds: memories that supersede or contradict others, and the block of memories for a prompt.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use postgres::Client;
use postgres::types::ToSql;
use serde_json::Value;
use uuid::Uuid;

use crate::cluster::{Database, Failure, failure, one};

const NOWHERE: Uuid = Uuid::from_u128(0x018f_0000_aaaa_7000_8000_0000_0000_ffff);

fn add(client: &mut Client, content: &str) -> Uuid {
    one(client, "SELECT engram.add($1)", &[&content])
}

/// The first column of the only row.
/// The first column of all rows.
fn all<T>(client: &mut Client, sql: &str) -> Vec<T>
where
    T: for<'a> postgres::types::FromSql<'a>,
{
    let rows = client.query(sql, &[]);
    let rows = rows.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    rows.iter().map(|row| row.get(0)).collect()
}

fn supersede(client: &mut Client, old: Uuid, new: Uuid) -> Uuid {
    one(client, "SELECT engram.supersede($1, $2)", &[&old, &new])
}

fn refused(client: &mut Client, sql: &str, args: &[&(dyn ToSql + Sync)]) -> Failure {
    failure(client.query(sql, args))
}

fn successor(client: &mut Client, id: Uuid) -> Option<Uuid> {
    let sql = "SELECT superseded_by FROM engram.memories WHERE id = $1";
    one(client, sql, &[&id])
}

const LISTED: &str = "SELECT content FROM engram.list()";
const FOUND: &str = "SELECT content FROM engram.search('capital')";

// --- superseding --------------------------------------------------------------------------------

#[test]
fn what_is_superseded_leaves_search_and_lists_and_comes_back() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let [a, b, c] =
        ["Bonn", "Berlin", "Kyiv"].map(|city| add(&mut ann, &format!("The capital is {city}")));
    assert_eq!(supersede(&mut ann, a, b), b);
    assert_eq!(supersede(&mut ann, b, c), c);
    let only: Vec<String> = vec!["The capital is Kyiv".to_owned()];
    for sql in [
        LISTED,
        FOUND,
        "SELECT content FROM engram.recall('capital')",
        "SELECT content FROM engram.search()",
    ] {
        assert_eq!(all::<String>(&mut ann, sql), only, "{sql}");
    }
    assert_eq!(
        all::<String>(
            &mut ann,
            "SELECT content FROM engram.list(include => '{superseded}')"
        )
        .len(),
        3
    );
    assert_eq!(
        one::<Option<Uuid>>(&mut ann, "SELECT superseded_by FROM engram.get($1)", &[&a]),
        Some(b)
    );
    for id in [a, b, c] {
        assert_eq!(one::<Uuid>(&mut ann, "SELECT engram.latest($1)", &[&id]), c);
        let chain = ann
            .query("SELECT step, id, content, created_at IS NOT NULL, superseded_by FROM engram.superseded($1)", &[&id])
            .unwrap();
        let chain: Vec<(i32, Uuid, String, bool, Option<Uuid>)> = chain
            .iter()
            .map(|r| (r.get(0), r.get(1), r.get(2), r.get(3), r.get(4)))
            .collect();
        let city = |name: &str| format!("The capital is {name}");
        assert_eq!(
            chain,
            [
                (1, a, city("Bonn"), true, Some(b)),
                (2, b, city("Berlin"), true, Some(c)),
                (3, c, city("Kyiv"), true, None)
            ]
        );
    }
    // Again is nothing new, not even a version.
    let version: i32 = one(&mut ann, "SELECT version FROM engram.get($1)", &[&a]);
    assert_eq!(supersede(&mut ann, a, b), b);
    assert_eq!(
        one::<i32>(&mut ann, "SELECT version FROM engram.get($1)", &[&a]),
        version
    );
    // Another successor is refused, with the name of the one that is there.
    let e = refused(&mut ann, "SELECT engram.supersede($1, $2)", &[&a, &c]);
    assert_eq!(e.code, "PT409");
    assert!(e.hint.contains(&b.to_string()), "{e:?}");
    let e = refused(
        &mut ann,
        "SELECT engram.supersede($1, content => 'x')",
        &[&a],
    );
    assert!(
        e.code == "PT409" && e.hint.contains(&b.to_string()),
        "{e:?}"
    );

    assert!(one::<bool>(
        &mut ann,
        "SELECT engram.unsupersede($1)",
        &[&b]
    ));
    assert!(!one::<bool>(
        &mut ann,
        "SELECT engram.unsupersede($1)",
        &[&b]
    ));
    assert_eq!(all::<String>(&mut ann, LISTED).len(), 2);
    assert_eq!(all::<String>(&mut ann, FOUND).len(), 2);
    assert_eq!(one::<Uuid>(&mut ann, "SELECT engram.latest($1)", &[&a]), b);
}

#[test]
fn circles_selves_and_unknown_memories_are_refused() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let [a, b, c, gone] = ["one", "two", "three", "four"].map(|s| add(&mut ann, s));
    supersede(&mut ann, a, b);
    supersede(&mut ann, b, c);
    ann.execute("SELECT engram.forget($1)", &[&gone]).unwrap();
    for (old, new, code, named) in [
        (c, a, "22023", a),
        (c, b, "22023", b),
        (c, c, "22023", c),
        (c, NOWHERE, "PT404", NOWHERE),
        (NOWHERE, c, "PT404", NOWHERE),
        (c, gone, "PT404", gone),
        (gone, c, "PT404", gone),
    ] {
        let e = refused(&mut ann, "SELECT engram.supersede($1, $2)", &[&old, &new]);
        assert_eq!(e.code, code, "{e:?}");
        assert!(
            e.message.contains(&named.to_string()) && !e.hint.is_empty(),
            "{e:?}"
        );
    }
    for sql in [
        "SELECT engram.supersede('{c}')",
        "SELECT engram.supersede('{c}', '{a}', 'both')",
        "SELECT engram.supersede('{c}', '{a}', tags => '{x}')",
        "SELECT engram.supersede('{c}', content => ' ')",
        "SELECT engram.supersede(NULL, '{a}')",
        "SELECT engram.supersede('{c}', content => 'Three')",
        "SELECT engram.latest(NULL)",
        "SELECT engram.contradict('{a}', '{a}')",
        "SELECT engram.contradict('{a}', NULL)",
        "SELECT engram.resolve('{c}', '{c}')",
        "SELECT * FROM engram.conflicts(0)",
        "SELECT * FROM engram.conflicts(skip => -1)",
    ] {
        let sql = sql
            .replace("{a}", &a.to_string())
            .replace("{c}", &c.to_string());
        let e = refused(&mut ann, &sql, &[]);
        assert!(e.code == "22023" && !e.hint.is_empty(), "{sql}: {e:?}");
    }
    assert_eq!(successor(&mut ann, c), None);
    // A circle that the owner wrote into the table by hand is walked once.
    db.admin()
        .execute(
            "UPDATE engram.memories SET superseded_by = $1 WHERE id = $2",
            &[&a, &c],
        )
        .unwrap();
    one::<Uuid>(&mut ann, "SELECT engram.latest($1)", &[&b]);
    assert_eq!(
        ann.query("SELECT * FROM engram.superseded($1)", &[&b])
            .unwrap()
            .len(),
        3
    );
}

/// The trigger does not ask the owner of the tables.
#[test]
fn owners_close_no_circle_either() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let [a, b, c] = ["one", "two", "three"].map(|s| add(&mut ann, s));
    let workspace: Uuid = one(&mut ann, "SELECT engram.current_user_id()", &[]);
    let mut owner = db.admin();
    let mine: bool = one(
        &mut owner,
        "SELECT pg_get_userbyid(relowner) = current_user FROM pg_class WHERE oid = 'engram.memories'::regclass",
        &[],
    );
    assert!(mine);
    let sql = "SELECT engram.supersede($1, $2, workspace => $3)";
    for (old, new) in [(c, b), (b, a)] {
        one::<Uuid>(&mut owner, sql, &[&old, &new, &workspace]);
    }
    for (old, new) in [(a, c), (a, b), (a, a)] {
        let e = refused(&mut owner, sql, &[&old, &new, &workspace]);
        assert!(e.code == "22023" && !e.hint.is_empty(), "{e:?}");
    }
    assert_eq!(successor(&mut ann, a), None);
}

#[test]
fn a_correction_takes_over_what_it_does_not_say_itself() {
    let db = Database::new();
    db.admin()
        .batch_execute("UPDATE engram.settings SET near_duplicate_threshold = 0.9")
        .unwrap();
    let mut ann = db.user("ann");
    let old: Uuid = one(
        &mut ann,
        "SELECT engram.add('Caroline lives in Oslo', 'relational', 0.2, '[1,0,0]', '{home,people}', '{\"k\": 1}', '2020-02-02',
           'agent', 'session', 'Bo', 'user', 'chat', '{Caroline Ek}')",
        &[],
    );
    ann.execute("SELECT engram.pin($1)", &[&old]).unwrap();
    // As close to the old one as a repetition would be.
    let correct = "SELECT engram.supersede($1, content => 'Caroline lives in Bergen', embedding => '[1,0.1,0]')";
    let new: Uuid = one(&mut ann, correct, &[&old]);
    assert_ne!(new, old);
    assert_eq!(successor(&mut ann, old), Some(new));
    let same: bool = one(
        &mut ann,
        "SELECT (n.type, n.tags, n.metadata, n.agent_id, n.session_id, n.speaker, n.role, n.entities, n.pinned)
              = (o.type, o.tags, o.metadata, o.agent_id, o.session_id, o.speaker, o.role, o.entities, o.pinned)
            AND (n.importance, n.content) = (0.5, 'Caroline lives in Bergen')
            AND n.source IS NULL AND n.occurred_at IS NULL AND n.superseded_by IS NULL
         FROM engram.get($1) o, engram.get($2) n",
        &[&old, &new],
    );
    assert!(same);
    assert_eq!(
        all::<Uuid>(
            &mut ann,
            "SELECT id FROM engram.search(query_embedding => '[1,0,0]')"
        ),
        [new]
    );
    // A retry finds it.
    assert_eq!(one::<Uuid>(&mut ann, correct, &[&old]), new);
    // What is given is not inherited, and the greater importance is.
    ann.execute("SELECT engram.update($1, importance => 0.8)", &[&new])
        .unwrap();
    let newest: Uuid = one(
        &mut ann,
        "SELECT engram.supersede($1, content => 'Nobody knows where Caroline lives', type => 'opinion', tags => '{}',
           speaker => 'Cy', occurred_at => '2024-01-01', entities => '{}')",
        &[&new],
    );
    let given: bool = one(
        &mut ann,
        "SELECT (type, tags, speaker, importance, occurred_at, entities) = ('opinion', '{}', 'Cy', 0.8, '2024-01-01', '{}')
         FROM engram.get($1)",
        &[&newest],
    );
    assert!(given);
    // What the workspace holds is not stored twice, and what was superseded is not held.
    let tea = add(&mut ann, "Tea is green");
    let other = add(&mut ann, "Tea is black");
    assert_eq!(
        one::<Uuid>(
            &mut ann,
            "SELECT engram.supersede($1, content => 'tea is  BLACK')",
            &[&tea]
        ),
        other
    );
    let back: Uuid = one(
        &mut ann,
        "SELECT engram.supersede($1, content => 'Tea is green')",
        &[&other],
    );
    assert!(back != tea && back != other);
    // All or nothing.
    let before: i64 = one(&mut ann, "SELECT count(*) FROM engram.memories", &[]);
    let e = refused(
        &mut ann,
        "SELECT engram.supersede($1, content => 'Tea is hot', embedding => '[1,0]')",
        &[&back],
    );
    assert_eq!(e.code, "22000", "{e:?}");
    assert_eq!(
        one::<i64>(&mut ann, "SELECT count(*) FROM engram.memories", &[]),
        before
    );
    assert_eq!(successor(&mut ann, back), None);
}

#[test]
fn an_erased_successor_leaves_what_was_before_it() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let mut chain = |names: &[&str]| -> Vec<Uuid> {
        let ids: Vec<Uuid> = names.iter().map(|n| add(&mut ann, n)).collect();
        for pair in ids.windows(2) {
            supersede(&mut ann, pair[0], pair[1]);
        }
        ids
    };
    let (middle, last, both) = (
        chain(&["a1", "a2", "a3"]),
        chain(&["b1", "b2"]),
        chain(&["c1", "c2", "c3"]),
    );
    let (tail, forgotten, expired) = (
        chain(&["d1", "d2", "d3", "d4"]),
        chain(&["e1", "e2"]),
        chain(&["f1", "f2"]),
    );
    let erase = |client: &mut Client, ids: &[Uuid]| {
        client
            .query("SELECT * FROM engram.erase($1)", &[&ids])
            .unwrap();
    };
    // Its own successor takes over; without one the older is current again.
    erase(&mut ann, &middle[1..2]);
    assert_eq!(successor(&mut ann, middle[0]), Some(middle[2]));
    erase(&mut ann, &last[1..]);
    assert_eq!(successor(&mut ann, last[0]), None);
    // The same when several of a chain go at once.
    erase(&mut ann, &both[1..]);
    assert_eq!(successor(&mut ann, both[0]), None);
    erase(&mut ann, &tail[1..3]);
    assert_eq!(successor(&mut ann, tail[0]), Some(tail[3]));
    assert_eq!(
        all::<String>(
            &mut ann,
            "SELECT content FROM engram.list() ORDER BY content"
        ),
        ["a3", "b1", "c1", "d4", "e2", "f2"]
    );
    assert_eq!(
        all::<String>(&mut ann, "SELECT content FROM engram.search('b1 c1 a1')").len(),
        2
    );

    // Forgetting is no undoing, and neither is what happens to the forgotten and the expired later.
    ann.execute("SELECT engram.forget($1)", &[&forgotten[1]])
        .unwrap();
    ann.execute(
        "UPDATE engram.memories SET expires_at = now() - interval '1 minute' WHERE id = $1",
        &[&expired[1]],
    )
    .unwrap();
    assert_eq!(successor(&mut ann, forgotten[0]), Some(forgotten[1]));
    erase(&mut ann, &[forgotten[1], expired[1]]);
    for old in [forgotten[0], expired[0]] {
        assert_eq!(successor(&mut ann, old), None);
        assert!(
            ann.query("SELECT * FROM engram.get($1)", &[&old])
                .unwrap()
                .is_empty()
        );
        assert!(one::<bool>(&mut ann, "SELECT engram.restore($1)", &[&old]));
        assert_eq!(
            ann.query("SELECT * FROM engram.get($1)", &[&old])
                .unwrap()
                .len(),
            1
        );
    }
}

// --- contradictions -----------------------------------------------------------------------------

/// (claim, against) of all open contradictions.
fn conflicts(client: &mut Client, call: &str) -> Vec<(Uuid, Uuid)> {
    let rows = client
        .query(&format!("SELECT * FROM engram.conflicts({call})"), &[])
        .unwrap();
    rows.iter()
        .map(|row| (row.get("claim"), row.get("against")))
        .collect()
}

/// contradicts and contradicted_by.
fn sides(client: &mut Client, id: Uuid) -> (Option<Vec<Uuid>>, Option<Vec<Uuid>>) {
    let row = client
        .query_one(
            "SELECT contradicts, contradicted_by FROM engram.memories WHERE id = $1",
            &[&id],
        )
        .unwrap();
    (row.get(0), row.get(1))
}

#[test]
fn contradictions_are_kept_on_both_sides_until_they_are_resolved() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|s| add(&mut ann, s));
    let call = |client: &mut Client, function: &str, x: Uuid, y: Uuid| -> bool {
        one(
            client,
            &format!("SELECT engram.{function}($1, $2)"),
            &[&x, &y],
        )
    };
    assert!(call(&mut ann, "contradict", c, a));
    assert!(!call(&mut ann, "contradict", c, a));
    assert!(call(&mut ann, "contradict", b, a));
    assert!(call(&mut ann, "contradict", d, c));
    assert_eq!(sides(&mut ann, a), (None, Some(vec![b, c])), "sorted");
    assert_eq!(sides(&mut ann, c), (Some(vec![a]), Some(vec![d])));
    let seen: Option<Vec<Uuid>> = one(&mut ann, "SELECT contradicts FROM engram.get($1)", &[&c]);
    assert_eq!(seen, Some(vec![a]));
    assert_eq!(
        conflicts(&mut ann, ""),
        [(d, c), (c, a), (b, a)],
        "the newest first"
    );
    assert_eq!(conflicts(&mut ann, "1, 1"), [(c, a)]);
    let row = ann
        .query_one("SELECT * FROM engram.conflicts(1)", &[])
        .unwrap();
    assert_eq!(
        (
            row.get::<_, &str>("claim_content"),
            row.get::<_, &str>("against_content")
        ),
        ("d", "c")
    );

    // Not there to be decided: forgotten, superseded.
    ann.execute("SELECT engram.forget($1)", &[&d]).unwrap();
    assert_eq!(conflicts(&mut ann, ""), [(c, a), (b, a)]);
    assert!(
        call(&mut ann, "uncontradict", d, c),
        "a forgotten one may be taken back"
    );
    assert!(!call(&mut ann, "uncontradict", d, c));
    ann.execute("SELECT engram.restore($1)", &[&d]).unwrap();
    supersede(&mut ann, c, d);
    assert_eq!(conflicts(&mut ann, ""), [(b, a)]);
    ann.execute("SELECT engram.unsupersede($1)", &[&c]).unwrap();

    // The other way round than it was claimed, too.
    assert!(call(&mut ann, "resolve", a, c));
    assert!(!call(&mut ann, "resolve", a, c));
    assert_eq!(successor(&mut ann, c), Some(a));
    assert_eq!(
        (sides(&mut ann, a), sides(&mut ann, c)),
        ((None, Some(vec![b])), (None, None))
    );
    let e = refused(&mut ann, "SELECT engram.resolve($1, $2)", &[&a, &d]);
    assert_eq!((e.code.as_str(), successor(&mut ann, d)), ("22023", None));
    let e = refused(&mut ann, "SELECT engram.resolve($1, $2)", &[&c, &a]);
    assert_eq!(e.code, "22023", "a circle: {e:?}");
    assert!(call(&mut ann, "resolve", b, a));
    assert_eq!(
        (sides(&mut ann, a), sides(&mut ann, b)),
        ((None, None), (None, None))
    );
    assert!(conflicts(&mut ann, "").is_empty());
    assert_eq!(all::<String>(&mut ann, LISTED), ["d", "b"]);
}

#[test]
fn erased_memories_contradict_nothing() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|s| add(&mut ann, s));
    for (x, y) in [(a, b), (c, b), (d, b), (b, a)] {
        ann.execute("SELECT engram.contradict($1, $2)", &[&x, &y])
            .unwrap();
    }
    // Two that contradict the same one, in one statement.
    ann.query("SELECT * FROM engram.erase($1)", &[&vec![a, c]])
        .unwrap();
    assert_eq!(sides(&mut ann, b), (None, Some(vec![d])));
    ann.query("SELECT * FROM engram.erase($1)", &[&vec![b]])
        .unwrap();
    assert_eq!(sides(&mut ann, d), (None, None));
}

#[test]
fn what_is_contradicted_or_superseded_does_not_consolidate() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let [plain, claim, denied, old] = ["p", "c", "d", "o"].map(|s| add(&mut ann, s));
    ann.execute("SELECT engram.contradict($1, $2)", &[&claim, &denied])
        .unwrap();
    supersede(&mut ann, old, claim);
    let core = |client: &mut Client, id: Uuid| -> f64 {
        one(
            client,
            "SELECT core_strength FROM engram.retention($1, now() + interval '30 days')",
            &[&id],
        )
    };
    for id in [plain, claim] {
        assert!(core(&mut ann, id) > 0.05);
    }
    for id in [denied, old] {
        assert!(core(&mut ann, id) < 1e-6);
    }
    ann.execute("SELECT engram.uncontradict($1, $2)", &[&claim, &denied])
        .unwrap();
    ann.execute("SELECT engram.unsupersede($1)", &[&old])
        .unwrap();
    for id in [denied, old] {
        assert!(core(&mut ann, id) > 0.05);
    }
}

/// (content, score, its part "contradicted"), best first. The parts add up to the score.
fn ranked(client: &mut Client, call: &str) -> Vec<(String, f64, f64)> {
    let rows = client
        .query(
            &format!("SELECT content, score, explain FROM engram.search({call}, explain => true)"),
            &[],
        )
        .unwrap();
    rows.iter()
        .map(|row| {
            let (score, explain): (f64, Value) = (row.get(1), row.get(2));
            let lanes = explain["lanes"].as_object().unwrap().values();
            let mut sum: f64 = lanes.map(|l| l["contribution"].as_f64().unwrap()).sum();
            for (key, part) in explain.as_object().unwrap() {
                if !["lanes", "score"].contains(&key.as_str()) {
                    sum += part.as_f64().unwrap();
                }
            }
            assert!((sum - score).abs() < 1e-12, "{explain}");
            let lost = explain["contradicted"].as_f64().unwrap_or(0.0);
            (row.get(0), score, lost)
        })
        .collect()
}

#[test]
fn a_correction_outranks_what_it_corrects() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let original = add(&mut ann, "Mara lives in Paris with her cat");
    let correction = add(&mut ann, "Mara moved to Rome");
    add(&mut ann, "Paris is large");
    let question = "'does Mara live in Paris with a cat?'";
    let before = ranked(&mut ann, question);
    assert!(
        before[0].0.contains("her cat") && before[0].1 > before[1].1 + 0.3,
        "{before:?}"
    );

    ann.execute(
        "SELECT engram.contradict($1, $2)",
        &[&correction, &original],
    )
    .unwrap();
    let after = ranked(&mut ann, question);
    let place = |hits: &[(String, f64, f64)], what: &str| {
        hits.iter().position(|h| h.0.contains(what)).unwrap()
    };
    let (corrected, with) = (place(&after, "her cat"), place(&after, "Rome"));
    assert!(
        with < corrected && after[with].1 > after[corrected].1,
        "{after:?}"
    );
    // It loses the weight, and the correction comes right before it, by whatever it was found itself.
    assert_eq!(after[corrected].2, -0.3, "{after:?}");
    assert_eq!(with + 1, corrected, "{after:?}");
    assert!(after[with].2 > 0.0 && after[with].1 - after[corrected].1 < 1e-5);
    assert!(
        after
            .iter()
            .all(|h| h.0.contains("her cat") || h.0.contains("Rome") || h.2 == 0.0)
    );
    let above = ranked(&mut ann, &format!("{question}, min_score => 0.5"));
    assert_eq!(above, after[..2], "{after:?}");
    // Alone among the hits it loses the weight and no more.
    let filter = format!("{question}, filter => '{{\"id\": \"{original}\"}}'");
    assert_eq!(ranked(&mut ann, &filter)[0].2, -0.3);
    assert!(ranked(&mut ann, &format!("{filter}, min_score => 0.9")).is_empty());
    // With nothing asked as well.
    assert!(
        ranked(&mut ann, "match_count => 5")
            .iter()
            .any(|h| h.2 <= -0.3)
    );

    // A claim that stands no more costs nothing.
    ann.execute("SELECT engram.forget($1)", &[&correction])
        .unwrap();
    assert!(ranked(&mut ann, question).iter().all(|h| h.2 == 0.0));
    ann.execute("SELECT engram.restore($1)", &[&correction])
        .unwrap();
    // Two against each other lose the same: the better match is still the better.
    ann.execute(
        "SELECT engram.contradict($1, $2)",
        &[&original, &correction],
    )
    .unwrap();
    let both = ranked(&mut ann, question);
    assert!(place(&both, "her cat") < place(&both, "Rome"), "{both:?}");
    assert!(
        [place(&both, "her cat"), place(&both, "Rome")]
            .iter()
            .all(|i| both[*i].2 == -0.3)
    );
    // Off.
    db.admin()
        .batch_execute("UPDATE engram.settings SET contradiction_weight = 0")
        .unwrap();
    assert_eq!(ranked(&mut ann, question), before);
}

#[test]
fn corrections_of_corrections_come_first_and_circles_end() {
    let db = Database::new();
    let mut ann = db.user("ann");
    // The older, the better it matches.
    let ids: Vec<Uuid> = (0..5)
        .map(|i| add(&mut ann, &format!("port{}", " port".repeat(5 - i))))
        .collect();
    for pair in ids.windows(2) {
        ann.execute("SELECT engram.contradict($1, $2)", &[&pair[1], &pair[0]])
            .unwrap();
    }
    let found: Vec<Uuid> = all(&mut ann, "SELECT id FROM engram.search('port')");
    assert_eq!(found, ids.iter().rev().copied().collect::<Vec<_>>());
    ann.execute("SELECT engram.contradict($1, $2)", &[&ids[0], &ids[4]])
        .unwrap();
    assert_eq!(ranked(&mut ann, "'port'").len(), 5);
}

#[test]
fn many_contradicted_hits_do_not_hide_what_stands() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let claim = add(&mut ann, "nothing of the kind");
    let stands = add(&mut ann, "green tea zero");
    // As good and newer, so that they are fetched first.
    for i in 0..12 {
        let id = add(&mut ann, &format!("green tea {i}"));
        ann.execute("SELECT engram.contradict($1, $2)", &[&claim, &id])
            .unwrap();
    }
    let found: Vec<Uuid> = all(
        &mut ann,
        "SELECT id FROM engram.search('green tea', match_count => 1)",
    );
    assert_eq!(found, [stands]);
}

// --- many sessions ------------------------------------------------------------------------------

#[test]
fn sessions_without_a_common_row_cannot_close_a_circle_together() {
    let db = Database::new();
    let ids: Vec<Uuid> = {
        let mut ann = db.user("ann");
        (0..8)
            .map(|n| add(&mut ann, &format!("link {n}")))
            .collect()
    };
    // 1 > 2, 3 > 4, 5 > 6 and 7 > 0 are there; 0 > 1, 2 > 3, 4 > 5 and 6 > 7 come at once. Every other
    // one begins first, so that the rest waits while the chain that it has looked at grows.
    let mut ann = db.user("ann");
    for n in [1, 3, 5, 7] {
        supersede(&mut ann, ids[n], ids[(n + 1) % 8]);
    }
    let outcomes: Vec<Option<String>> = thread::scope(|scope| {
        let threads: Vec<_> = [0, 4, 2, 6]
            .into_iter()
            .enumerate()
            .map(|(turn, n)| {
                let (db, ids) = (&db, &ids);
                scope.spawn(move || {
                    let mut ann = db.user("ann");
                    thread::sleep(Duration::from_millis(if turn < 2 { 0 } else { 100 }));
                    let mut all_or_nothing = ann.transaction().unwrap();
                    let done = all_or_nothing
                        .execute("SELECT engram.supersede($1, $2)", &[&ids[n], &ids[n + 1]]);
                    thread::sleep(Duration::from_millis(200));
                    match done {
                        Ok(_) => all_or_nothing.commit().unwrap(),
                        Err(e) => return Some(e.as_db_error().unwrap().code().code().to_owned()),
                    }
                    None
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let refusals: Vec<_> = outcomes.into_iter().flatten().collect();
    assert_eq!(refusals, ["22023"], "the last one, whichever that is");
    let newest = "SELECT count(*) FROM engram.memories WHERE superseded_by IS NULL";
    assert_eq!(one::<i64>(&mut ann, newest, &[]), 1);

    // Under an older snapshot what others did is not seen: then it is a conflict.
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|s| add(&mut ann, s));
    supersede(&mut ann, b, c);
    supersede(&mut ann, d, a);
    let mut late = db.user("ann");
    late.batch_execute(
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM engram.memories",
    )
    .unwrap();
    supersede(&mut ann, a, b);
    let e = refused(&mut late, "SELECT engram.supersede($1, $2)", &[&c, &d]);
    assert_eq!(e.code, "40001", "{e:?}");
}

#[test]
fn whatever_many_sessions_do_at_once_there_is_no_circle_and_no_deadlock() {
    let db = Database::new();
    let ids: Vec<Uuid> = {
        let mut ann = db.user("ann");
        (0..6)
            .map(|i| add(&mut ann, &format!("memory {i}")))
            .collect()
    };
    thread::scope(|scope| {
        for session in 0..6_usize {
            let (db, ids) = (&db, &ids);
            scope.spawn(move || {
                let mut ann = db.user("ann");
                for step in 0..60_usize {
                    let n = (session * 7919 + step * 104_729) % 997;
                    let (x, y) = (ids[n % 6], ids[(n / 6 + 1 + n % 6) % 6]);
                    let sql = match n % 5 {
                        0 | 1 => "SELECT engram.supersede($1, $2)",
                        2 => "SELECT engram.contradict($1, $2)",
                        3 => "SELECT engram.resolve($1, $2)",
                        _ => "SELECT engram.unsupersede($1), $2::uuid",
                    };
                    if let Err(e) = ann.query(sql, &[&x, &y]) {
                        let code = e.as_db_error().unwrap().code().code().to_owned();
                        assert!(["22023", "PT409"].contains(&code.as_str()), "{sql}: {e:?}");
                    }
                }
            });
        }
    });
    let mut ann = db.user("ann");
    let next: HashMap<Uuid, Option<Uuid>> = ann
        .query("SELECT id, superseded_by FROM engram.memories", &[])
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    for id in &ids {
        let mut here = *id;
        for _ in 0..ids.len() {
            match next[&here] {
                Some(newer) => here = newer,
                None => break,
            }
        }
        assert_eq!(next[&here], None, "{next:?}");
        assert_eq!(
            one::<Uuid>(&mut ann, "SELECT engram.latest($1)", &[id]),
            here
        );
    }
    // Both sides tell the same.
    let torn: i64 = one(
        &mut ann,
        "SELECT count(*) FROM engram.memories a JOIN engram.memories b ON true
         WHERE (b.id = ANY (coalesce(a.contradicts, '{}'))) <> (a.id = ANY (coalesce(b.contradicted_by, '{}')))",
        &[],
    );
    assert_eq!(torn, 0);
}

// --- whose --------------------------------------------------------------------------------------

#[test]
fn memories_of_others_are_unknown_in_every_place() {
    let db = Database::new();
    let (mut ann, mut bob, mut admin) = (db.user("ann"), db.user("bob"), db.admin());
    let [theirs, older, denied] = ["zebra", "old zebra", "no zebra"].map(|s| add(&mut bob, s));
    supersede(&mut bob, older, theirs);
    bob.execute("SELECT engram.contradict($1, $2)", &[&theirs, &denied])
        .unwrap();
    bob.execute(
        "UPDATE engram.memories SET type = 'procedural', pinned = true WHERE id = $1",
        &[&theirs],
    )
    .unwrap();
    let mine = add(&mut ann, "mine");
    let state = "SELECT string_agg(concat_ws(' ', ctid, xmin, xmax, m), '' ORDER BY ctid) FROM engram.memories m WHERE content LIKE '%zebra'";
    let before: String = one(&mut admin, state, &[]);
    for sql in [
        "SELECT engram.supersede('{guess}', '{mine}')",
        "SELECT engram.supersede('{mine}', '{guess}')",
        "SELECT engram.supersede('{guess}', content => 'taken over')",
        "SELECT engram.unsupersede('{guess}')",
        "SELECT engram.latest('{guess}')",
        "SELECT * FROM engram.superseded('{guess}')",
        "SELECT engram.contradict('{guess}', '{mine}')",
        "SELECT engram.contradict('{mine}', '{guess}')",
        "SELECT engram.uncontradict('{guess}', '{mine}')",
        "SELECT engram.uncontradict('{mine}', '{guess}')",
        "SELECT engram.resolve('{guess}', '{mine}')",
        "SELECT engram.resolve('{mine}', '{guess}')",
        "SELECT engram_internal.set_successor(NULL, '{mine}', '{guess}')",
        "SELECT engram_internal.lock_memories(NULL, '{{mine},{guess}}', '{}', true)",
    ] {
        let told = |client: &mut Client, guess: Uuid| {
            let sql = sql.replace("{mine}", &mine.to_string());
            let e = refused(client, &sql.replace("{guess}", &guess.to_string()), &[]);
            assert_eq!(e.code, "PT404", "{sql}: {e:?}");
            format!("{e:?}").replace(&guess.to_string(), "<guess>")
        };
        let nowhere = told(&mut ann, NOWHERE);
        for guess in [theirs, older] {
            assert_eq!(told(&mut ann, guess), nowhere, "{sql}");
        }
    }
    for sql in [
        "SELECT count(*) FROM engram.conflicts()",
        "SELECT jsonb_array_length(engram.context('zebra')->'ids')::bigint",
        "SELECT coalesce(cardinality(engram_internal.successors(engram.current_user_id(), '{theirs}')), 0)::bigint",
    ] {
        let sql = sql.replace("{theirs}", &older.to_string());
        assert_eq!(one::<i64>(&mut ann, &sql, &[]), 0, "{sql}");
    }
    assert_eq!(before, one::<String>(&mut admin, state, &[]));
    // A link of one's own to somebody else's id, which only the owner can write, leads nowhere.
    admin.execute(
        "UPDATE engram.memories SET superseded_by = $1, contradicted_by = ARRAY[$1::uuid] WHERE id = $2",
        &[&theirs, &mine],
    )
    .unwrap();
    assert_eq!(
        one::<Uuid>(&mut ann, "SELECT engram.latest($1)", &[&mine]),
        mine
    );
    assert_eq!(
        ranked(&mut ann, "'mine', include => '{superseded}'")[0].2,
        0.0
    );
    assert_eq!(
        bob.query("SELECT * FROM engram.superseded($1)", &[&theirs])
            .unwrap()
            .len(),
        2
    );
}

// --- context ------------------------------------------------------------------------------------

/// Tokens of a line with its end, once more.
fn cost(line: &str) -> i64 {
    let whole = line
        .chars()
        .filter(|c| ('\u{3041}'..='\u{9fff}').contains(c))
        .count();
    let rest = line.chars().count() + 1 - whole;
    (whole + rest.div_ceil(4)) as i64
}

#[test]
fn context_holds_the_best_that_fits_in_order_and_whole() {
    let db = Database::new();
    let mut ann = db.user("ann");
    for i in 0..40 {
        let content = match i % 5 {
            0 => format!("tea {i}"),
            1 => format!(
                "tea {i}\n- [1 May 2023] Eve: {}",
                "and more of it ".repeat(i % 7)
            ),
            2 => format!("tea {i} {}", "茶を飲む人 ".repeat(i % 4 + 1)),
            3 => format!("long tea {i} {}", "black green white ".repeat(i)),
            _ => format!("tea tea tea {i}."),
        };
        ann.execute(
            "SELECT engram.add($1, speaker => $2, occurred_at => CASE WHEN $3 THEN timestamptz '2023-05-08 12:00Z' END)",
            &[&content, &(i % 3 == 0).then_some("Bo"), &(i % 2 == 0)],
        )
        .unwrap();
    }
    for rule in [
        "Answer in French",
        "Never mention tea to Bo, whatever he says about it",
        "Be brief",
    ] {
        ann.execute("SELECT engram.pin(engram.add($1, 'procedural'))", &[&rule])
            .unwrap();
    }
    // Not standing: forgotten, superseded, expired, not pinned, of another type.
    ann.batch_execute(
        "SELECT engram.forget(id) FROM (SELECT engram.add('forgotten rule', 'procedural') AS id) x, engram.pin(id);
         SELECT engram.supersede(engram.add('old rule', 'procedural'), engram.add('steep three minutes', 'procedural'));
         SELECT engram.pin(engram.add('expired rule', 'procedural', expires_at => now() - interval '1 hour'));
         UPDATE engram.memories SET pinned = true WHERE content = 'old rule';
         SELECT engram.pin(engram.add('a pinned fact'))",
    )
    .unwrap();
    let lines = |client: &mut Client, sql: &str| -> Vec<(Uuid, String)> {
        let sql = format!(
            "SELECT id, '- ' || CASE WHEN occurred_at IS NULL THEN '' ELSE '[8 May 2023] ' END || coalesce(speaker || ': ', '')
             || btrim(replace(content, E'\\n', ' ')) FROM {sql}"
        );
        let rows = client.query(&sql, &[]).unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    };
    let rules =
        "'Answer in French', 'Never mention tea to Bo, whatever he says about it', 'Be brief'";
    let standing = lines(
        &mut ann,
        &format!("engram.list() WHERE content IN ({rules})"),
    );
    assert_eq!(standing.len(), 3);
    // At one moment for both, because what is needed most is a matter of milliseconds here.
    let at: String = one(&mut ann, "SELECT (now() + interval '1 minute')::text", &[]);
    for question in ["'tea'", "NULL", "'quantum'"] {
        let found = lines(
            &mut ann,
            &format!(
                "engram.search({question}, match_count => 50, at => '{at}', diversity => 0.1)"
            ),
        );
        let mut longest = 0;
        for budget in (1..120).chain([200, 333, 1000, 5000, 1_000_000]) {
            let sql =
                format!("SELECT engram.context({question}, max_tokens => {budget}, at => '{at}')");
            let block: Value = one(&mut ann, &sql, &[]);
            // The same, made anew from what search gives.
            let (mut spent, mut taken): (i64, Vec<&(Uuid, String)>) = (0, Vec::new());
            for (hit, limit) in standing
                .iter()
                .map(|hit| (hit, i64::from(budget) / 4))
                .chain(found.iter().map(|hit| (hit, i64::from(budget))))
            {
                if !taken.contains(&hit) && spent + cost(&hit.1) <= limit {
                    spent += cost(&hit.1);
                    taken.push(hit);
                }
            }
            let text: Vec<&str> = taken.iter().map(|t| t.1.as_str()).collect();
            let ids: Vec<String> = taken.iter().map(|t| t.0.to_string()).collect();
            assert_eq!(block["text"], text.join("\n"), "{budget}");
            assert_eq!(block["ids"], serde_json::json!(ids), "{budget}");
            assert_eq!(block["tokens"], spent, "{budget}");
            assert!(spent <= i64::from(budget));
            let memories = block["memories"].as_array().unwrap();
            assert_eq!(memories.len(), taken.len());
            assert_eq!(
                memories
                    .iter()
                    .map(|m| m["tokens"].as_i64().unwrap())
                    .sum::<i64>(),
                spent
            );
            for memory in memories {
                assert_eq!(
                    memory["standing"].as_bool().unwrap(),
                    memory["score"].is_null()
                );
            }
            longest = longest.max(taken.len());
            let again: Value = one(&mut ann, &sql, &[]);
            assert_eq!(again["text"], block["text"]);
        }
        assert_eq!(
            longest,
            found.iter().filter(|f| !standing.contains(f)).count() + 3
        );
    }
}

#[test]
fn context_keeps_to_filters_types_and_moments() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let nothing: Value = one(&mut ann, "SELECT engram.context('tea')", &[]);
    assert_eq!(
        nothing,
        serde_json::json!({"text": "", "ids": [], "tokens": 0, "memories": []})
    );
    ann.batch_execute(
        "SELECT engram.add('green tea', 'episodic', metadata => '{\"team\": 1}', expires_at => now() + interval '1 day');
         SELECT engram.add('black tea', metadata => '{\"team\": 2}');
         SELECT engram.add('Green  TEA', 'opinion', on_duplicate => 'allow');
         SELECT engram.pin(engram.add('Speak of tea', 'procedural', metadata => '{\"team\": 2}'));
         SELECT engram.pin(engram.add('speak of tea', 'procedural', on_duplicate => 'allow'))",
    )
    .unwrap();
    let mut text = |call: &str| -> Vec<String> {
        let text: String = one(
            &mut ann,
            &format!("SELECT engram.context({call})->>'text'"),
            &[],
        );
        text.lines().map(str::to_owned).collect()
    };
    assert_eq!(
        text("'tea', max_tokens => 100").len(),
        3,
        "each content once"
    );
    assert_eq!(
        text("'tea', types => '{episodic}'"),
        ["- speak of tea", "- green tea"]
    );
    assert_eq!(
        text("'black', filter => '{\"team\": 2}'"),
        ["- Speak of tea", "- black tea"]
    );
    assert_eq!(text("'black', filter => '{\"team\": 1}'"), [""; 0]);
    assert_eq!(text("'coffee'"), ["- speak of tea"]);
    assert_eq!(
        text("'green', types => '{episodic}', at => now() + interval '2 days'"),
        ["- speak of tea"]
    );
    assert_eq!(text("'green', match_count => 1").len(), 2);
    ann.batch_execute("BEGIN READ ONLY; SELECT engram.context('tea'); COMMIT")
        .unwrap();
    for wrong in [
        "max_tokens => 0",
        "max_tokens => 1000001",
        "match_count => 0",
        "filter => '[]'",
    ] {
        let e = refused(&mut ann, &format!("SELECT engram.context({wrong})"), &[]);
        assert!(e.code == "22023" && !e.hint.is_empty(), "{wrong}: {e:?}");
    }
}
