//! Links by use and by hand, entities and their aliases, and what is found by following them.

use std::collections::{BTreeMap, BTreeSet};

use postgres::Client;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cluster::{Database, failure, json_rows, one};

fn add(client: &mut Client, content: &str) -> Uuid {
    one(client, "SELECT engram.add($1)", &[&content])
}

/// An id as JSON has it.
fn text(id: Uuid) -> Value {
    Value::String(id.to_string())
}

fn several(client: &mut Client, n: usize) -> Vec<Uuid> {
    (0..n)
        .map(|i| add(client, &format!("memory {i}")))
        .collect()
}

fn touch(client: &mut Client, ids: &[Uuid], days_ago: f64) {
    client
        .execute(
            "SELECT engram.touch($1, at => now() - $2 * interval '1 day')",
            &[&ids, &days_ago],
        )
        .unwrap();
}

fn link(client: &mut Client, source: Uuid, target: Uuid, weight: f64) -> bool {
    one(
        client,
        "SELECT engram.link($1, $2, 'leads to', $3)",
        &[&source, &target, &weight],
    )
}

fn fold(client: &mut Client, at_most: i32) -> i32 {
    one(
        client,
        "SELECT engram_internal.fold(engram.current_user_id(), $1)",
        &[&at_most],
    )
}

fn set(db: &Database, settings: &str) {
    db.admin()
        .batch_execute(&format!("UPDATE engram.settings SET {settings}"))
        .unwrap();
}

/// Ids that `related` finds from a memory, best first.
fn related(client: &mut Client, id: Uuid, hops: i32) -> Vec<Uuid> {
    client
        .query(
            "SELECT id FROM engram.related($1, hops => $2, match_count => 1000)",
            &[&id, &hops],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect()
}

fn sorted(mut ids: Vec<Uuid>) -> Vec<Uuid> {
    ids.sort_unstable();
    ids
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-12
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((k, a), (l, b))| k == l && same(a, b))
        }
        _ => a == b,
    }
}

/// A small generator of numbers, so that runs repeat.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

#[test]
fn what_is_used_together_is_linked() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let ids = several(&mut ann, 4);
    let (three, alone) = (&ids[..3], ids[3]);
    let links =
        |ann: &mut Client, id: Uuid| json_rows(ann, "SELECT * FROM engram.links($1)", &[&id]);
    for used in 1..=8 {
        touch(&mut ann, three, 0.0);
        if used % 2 == 0 {
            fold(&mut ann, 1000);
        }
        for id in three {
            let listed = links(&mut ann, *id);
            assert_eq!(
                listed.len(),
                2,
                "one link to each of the others: {listed:?}"
            );
            assert!(
                listed
                    .iter()
                    .all(|l| l["count"] == used && l["kind"] == "hebbian")
            );
            let strength = listed[0]["strength"].as_f64().unwrap();
            // Each call of three gives a pair half of what a call of two would.
            assert!((strength - (1.0 - (-0.5 * f64::from(used)).exp())).abs() < 1e-4);
            let found = related(&mut ann, *id, 1);
            let others: Vec<Uuid> = three.iter().copied().filter(|o| o != id).collect();
            assert_eq!(
                sorted(found),
                if used < 3 { vec![] } else { sorted(others) }
            );
        }
    }
    // In order: the first leads to the last, and not the other way.
    let from_first = &json_rows(
        &mut ann,
        "SELECT * FROM engram.links($1) WHERE other = $2",
        &[&ids[0], &ids[2]],
    )[0];
    let from_last = &json_rows(
        &mut ann,
        "SELECT * FROM engram.links($1) WHERE other = $2",
        &[&ids[2], &ids[0]],
    )[0];
    assert!(
        (from_first["direction"].as_f64().unwrap() - 0.8).abs() < 1e-4,
        "4 / (4 + 1): {from_first}"
    );
    assert_eq!(from_first["causal"], true);
    let both: f64 = [from_first, from_last]
        .iter()
        .map(|l| l["direction"].as_f64().unwrap())
        .sum();
    assert!(
        both.abs() < 1e-6,
        "seen from the other end it is turned round"
    );
    for _ in 0..4 {
        touch(&mut ann, &[alone], 0.0);
        touch(&mut ann, &[alone, alone], 0.0);
    }
    assert!(
        links(&mut ann, alone).is_empty(),
        "nothing is linked to itself"
    );
    fold(&mut ann, 1000);
    assert!(links(&mut ann, alone).is_empty());

    set(&db, "link_threshold = 1000000");
    assert!(related(&mut ann, ids[0], 5).is_empty());
    set(&db, "link_threshold = 1, link_members = 0");
    touch(&mut ann, &[ids[0], alone], 0.0);
    assert!(links(&mut ann, alone).is_empty());
    set(&db, "link_members = 2");
    touch(&mut ann, &[ids[0], alone, ids[1]], 0.0);
    assert_eq!(
        links(&mut ann, alone).len(),
        1,
        "only the first two are linked"
    );
}

#[test]
fn links_by_use_fade_and_are_kept_by_use() {
    let db = Database::new();
    set(&db, "link_half_life_days = 5");
    let mut ann = db.user("ann");
    let ids = several(&mut ann, 4);
    for _ in 0..3 {
        touch(&mut ann, &ids[..2], 100.0);
    }
    for tenth in (0..=9).rev() {
        touch(&mut ann, &ids[2..], f64::from(tenth) * 10.0);
    }
    for when in ["waiting", "folded"] {
        let at = |ann: &mut Client, days: f64| -> Option<f64> {
            ann.query_opt(
                "SELECT score FROM engram.related($1, at => now() - $2 * interval '1 day')",
                &[&ids[0], &days],
            )
            .unwrap()
            .map(|row| row.get(0))
        };
        for (days, mass) in [(100.0, 3.0), (95.0, 1.5), (90.0, 0.75)] {
            let strength: f64 = 1.0 - f64::exp(-mass);
            assert!(
                (at(&mut ann, days).unwrap() - strength).abs() < 1e-6,
                "{when} {days}"
            );
        }
        assert_eq!(at(&mut ann, 60.0), None, "{when}: 3 / 2^8 is below 0.02");
        assert_eq!(at(&mut ann, 0.0), None);
        assert_eq!(related(&mut ann, ids[2], 1), [ids[3]], "{when}");
        fold(&mut ann, 1000);
    }
}

/// Everything that reads links, as one list.
fn readings(client: &mut Client, ids: &[Uuid]) -> Vec<Value> {
    let mut out = Vec::new();
    for id in ids {
        out.extend(json_rows(
            client,
            "SELECT * FROM engram.related($1, hops => 3, match_count => 100)",
            &[id],
        ));
        out.extend(json_rows(client, "SELECT * FROM engram.links($1)", &[id]));
        out.extend(json_rows(
            client,
            "SELECT * FROM engram.path($1, $2, 6)",
            &[id, &ids[0]],
        ));
        out.extend(json_rows(
            client,
            "SELECT * FROM engram.spread(NULL, ARRAY[$1]::uuid[], eps => 0)",
            &[id],
        ));
    }
    for word in 0..ids.len() {
        out.extend(associated(client, &format!("memory {word}")));
    }
    out
}

/// What a search finds, and what links add to it. It reads them in a way of its own.
fn associated(client: &mut Client, query: &str) -> Vec<Value> {
    json_rows(
        client,
        "SELECT id, explain->'links' AS links FROM engram.search($1, match_count => 20, explain => true) ORDER BY id",
        &[&query],
    )
}

#[test]
fn what_waits_counts_as_if_it_were_folded() {
    let db = Database::new();
    set(
        &db,
        "fold_threshold = 100000, link_threshold = 2, link_members = 3, link_half_life_days = 3, link_limit = 4",
    );
    for seed in 1..=4 {
        let mut ann = db.user(&format!("ann{seed}"));
        ann.batch_execute("BEGIN").unwrap();
        let mut dice = Dice(seed);
        let ids = several(&mut ann, 9);
        // One is erased while calls of it wait, one is forgotten; calls come late, and so long after one
        // another that links end in between.
        let (kept, gone) = ids.split_at(8);
        let mut call = |ann: &mut Client| {
            let used: Vec<Uuid> = (0..2 + dice.roll(4)).map(|_| ids[dice.roll(9)]).collect();
            let at = dice.roll(30) as f64;
            ann.execute(
                "SELECT engram.touch($1, at => now() - $2 * interval '1 day', gain => $3)",
                &[&used, &at, &(0.25 * (1 + dice.roll(8)) as f64)],
            )
            .unwrap();
        };
        for _ in 0..20 {
            call(&mut ann);
        }
        assert!(fold(&mut ann, 12) > 0);
        for _ in 0..30 {
            call(&mut ann);
        }
        ann.execute("SELECT engram.erase($1)", &[&gone]).unwrap();
        ann.execute("SELECT engram.forget($1)", &[&kept[7]])
            .unwrap();
        let seen = &kept[..7];
        let before = readings(&mut ann, seen);
        assert!(
            before.len() > 60,
            "there is something to compare: {}",
            before.len()
        );
        loop {
            let folded = fold(&mut ann, 9);
            let after = readings(&mut ann, seen);
            for (a, b) in before.iter().zip(&after) {
                assert!(same(a, b), "seed {seed}\n{a}\n{b}");
            }
            assert_eq!(before.len(), after.len());
            if folded == 0 {
                break;
            }
        }
        let waiting: i64 = one(&mut ann, "SELECT count(*) FROM engram.access_queue", &[]);
        assert_eq!(waiting, 0);
        ann.batch_execute("ROLLBACK").unwrap();
    }
}

#[test]
fn pruning_waits_for_nobody_who_deletes_links() {
    let db = Database::new();
    set(&db, "fold_threshold = 100000, link_limit = 1");
    let (mut ann, mut other) = (db.user("ann"), db.admin());
    ann.batch_execute("SET lock_timeout = '3 s'").unwrap();
    let ids = several(&mut ann, 12);
    // Faded for long, and too many of one memory.
    touch(&mut ann, &ids[..4], 900.0);
    for first in 5..11 {
        touch(&mut ann, &ids[first..], 1.0);
    }
    assert!(fold(&mut ann, 1000) > 0);
    let prune = |ann: &mut Client| -> i64 {
        one(ann, "SELECT links_pruned FROM engram.consolidate()", &[])
    };
    // As who erases a memory and comes to its links one after the other.
    other
        .batch_execute("BEGIN; SELECT FROM engram.hebbian_links FOR UPDATE")
        .unwrap();
    assert_eq!(prune(&mut ann), 0);
    other.batch_execute("ROLLBACK").unwrap();
    touch(&mut ann, &ids[5..7], 0.0);
    assert!(prune(&mut ann) > 6);
}

#[test]
fn a_young_link_waits_for_calls_that_come_late() {
    let db = Database::new();
    set(&db, "link_prune = 0.3");
    let count = |cared: bool| -> Value {
        let mut ann = db.user(if cared { "ann" } else { "bob" });
        let ids = several(&mut ann, 2);
        let mut call = |days_ago: f64, gain: f64| {
            ann.execute(
                "SELECT engram.touch($1, at => now() - $2 * interval '1 day', gain => $3)",
                &[&ids, &days_ago, &gain],
            )
            .unwrap();
            if cared {
                ann.batch_execute("SELECT engram.consolidate()").unwrap();
            }
        };
        call(0.5, 0.2);
        call(1.0, 0.9);
        json_rows(&mut ann, "SELECT count FROM engram.links($1)", &[&ids[0]])[0]["count"].clone()
    };
    assert_eq!(count(false), 2);
    assert_eq!(count(true), 2);
}

#[test]
fn a_search_follows_links_with_and_without_their_indexes() {
    let db = Database::new();
    set(
        &db,
        "fold_threshold = 100000, link_threshold = 2, link_half_life_days = 30, link_limit = 4",
    );
    let mut ann = db.user("ann");
    let mut dice = Dice(5);
    let (ids, _) = net(&mut ann, &mut dice, 12, 9);
    for nth in 0..40 {
        let used: Vec<Uuid> = (0..3).map(|_| ids[dice.roll(12)]).collect();
        touch(&mut ann, &used, 40.0 - f64::from(nth));
        if nth == 20 {
            assert!(fold(&mut ann, 1000) > 0);
        }
    }
    // An entity is no link, and what is superseded is not reached.
    ann.execute("SELECT engram.add_entities($1, '{Oslo}')", &[&ids[0]])
        .unwrap();
    ann.execute("SELECT engram.supersede($1, $2)", &[&ids[1], &ids[2]])
        .unwrap();
    // At the same moment, all of them.
    ann.batch_execute("BEGIN").unwrap();
    let queries: Vec<String> = (0..12).map(|word| format!("memory {word}")).collect();
    let mut all = || -> Vec<Value> {
        let found = queries.iter().flat_map(|query| associated(&mut ann, query));
        found.collect()
    };
    let direct = all();
    let linked = |row: &&Value| row["links"].as_f64().is_some_and(|share| share > 0.0);
    assert!(direct.iter().filter(linked).count() > 40, "{direct:?}");
    for index in ["hebbian_links_reverse_idx", "graph_links_target_idx"] {
        db.admin()
            .batch_execute(&format!(
                "ALTER INDEX engram.{index} RENAME TO else_{index}"
            ))
            .unwrap();
        let other = all();
        assert_eq!(direct.len(), other.len());
        for (a, b) in direct.iter().zip(&other) {
            assert!(same(a, b), "{index}\n{a}\n{b}");
        }
    }
}

#[test]
fn a_link_is_made_once_and_taken_away() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let ids = several(&mut ann, 3);
    assert!(link(&mut ann, ids[0], ids[1], 0.5));
    assert!(
        !link(&mut ann, ids[0], ids[1], 0.25),
        "the same again is not new"
    );
    assert!(one::<bool>(
        &mut ann,
        "SELECT engram.link($1, $2)",
        &[&ids[0], &ids[1]]
    ));
    assert!(
        link(&mut ann, ids[1], ids[0], 1.0),
        "the other way is another link"
    );
    let listed = json_rows(
        &mut ann,
        "SELECT other, kind, relation, strength, direction, causal, count FROM engram.links($1) ORDER BY relation, direction",
        &[&ids[0]],
    );
    let row = |relation: &str, strength: f64, direction: f64| {
        json!({"other": ids[1].to_string(), "kind": "graph", "relation": relation, "strength": strength,
               "direction": direction, "causal": false, "count": null})
    };
    let wanted = [
        row("leads to", 1.0, -1.0),
        row("leads to", 0.25, 1.0),
        row("related", 1.0, 1.0),
    ];
    assert!(
        listed.iter().zip(&wanted).all(|(a, b)| same(a, b)) && listed.len() == 3,
        "{listed:?}"
    );
    assert_eq!(
        json_rows(
            &mut ann,
            "SELECT id, via, relations, hops FROM engram.related($1)",
            &[&ids[1]]
        ),
        [
            json!({"id": ids[0].to_string(), "via": ids[1].to_string(), "relations": ["leads to", "related"], "hops": 1})
        ]
    );
    assert_eq!(
        one::<i32>(
            &mut ann,
            "SELECT engram.unlink($1, $2, 'related')",
            &[&ids[0], &ids[1]]
        ),
        1
    );
    assert_eq!(
        one::<i32>(
            &mut ann,
            "SELECT engram.unlink($1, $2)",
            &[&ids[0], &ids[1]]
        ),
        1
    );
    assert_eq!(
        one::<i32>(
            &mut ann,
            "SELECT engram.unlink($1, $2)",
            &[&ids[0], &ids[1]]
        ),
        0
    );
    assert_eq!(
        related(&mut ann, ids[0], 1),
        [ids[1]],
        "the link back stays"
    );

    // Erased from one end or the other, by use or by hand: nothing is left.
    for _ in 0..3 {
        touch(&mut ann, &ids, 0.0);
    }
    fold(&mut ann, 100);
    link(&mut ann, ids[1], ids[2], 1.0);
    ann.execute("SELECT engram.add_entities($1, ARRAY['Zoe'])", &[&ids[1]])
        .unwrap();
    ann.execute("SELECT engram.erase(ARRAY[$1]::uuid[])", &[&ids[1]])
        .unwrap();
    let left: i64 = one(
        &mut ann,
        "SELECT (SELECT count(*) FROM engram.graph_links) + (SELECT count(*) FROM engram.hebbian_links h WHERE $1 IN (h.a, h.b))",
        &[&ids[1]],
    );
    assert_eq!(left, 0);
    assert_eq!(related(&mut ann, ids[0], 5), [ids[2]]);
}

#[test]
fn what_cannot_be_linked_is_refused() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let ids = several(&mut ann, 3);
    let theirs = add(&mut db.user("bob"), "of Bob");
    ann.execute("SELECT engram.forget($1)", &[&ids[2]]).unwrap();
    let [a, b, forgotten] = [ids[0], ids[1], ids[2]];
    let nowhere = Uuid::now_v7();
    let long = "x".repeat(101);
    for (sql, code, part) in [
        (
            format!("SELECT engram.link('{a}', '{a}')"),
            "22023",
            a.to_string(),
        ),
        (
            format!("SELECT engram.link('{a}', '{b}', '')"),
            "22023",
            "0 characters".into(),
        ),
        (
            format!("SELECT engram.link('{a}', '{b}', '{long}')"),
            "22023",
            "101".into(),
        ),
        (
            format!("SELECT engram.link('{a}', '{b}', 'mentions')"),
            "22023",
            "mentions".into(),
        ),
        (
            format!("SELECT engram.link('{a}', '{b}', ' used_with ')"),
            "22023",
            "used_with".into(),
        ),
        (
            format!("SELECT engram.link('{a}', '{b}', weight => 0)"),
            "22023",
            "0".into(),
        ),
        (
            format!("SELECT engram.link('{a}', '{b}', weight => 1.5)"),
            "22023",
            "1.5".into(),
        ),
        (
            format!("SELECT engram.link('{a}', '{b}', weight => 'NaN')"),
            "22023",
            "NaN".into(),
        ),
        (
            format!("SELECT engram.link('{a}', NULL)"),
            "22023",
            "NULL".into(),
        ),
        (
            format!("SELECT engram.link('{a}', '{theirs}')"),
            "PT404",
            theirs.to_string(),
        ),
        (
            format!("SELECT engram.link('{forgotten}', '{a}')"),
            "PT404",
            forgotten.to_string(),
        ),
        (
            format!("SELECT engram.add_entities('{nowhere}', '{{Ann}}')"),
            "PT404",
            nowhere.to_string(),
        ),
        (
            format!("SELECT engram.add_entities('{a}', '{{!}}')"),
            "22023",
            "!".into(),
        ),
        (
            format!("SELECT engram.remove_entities('{theirs}', '{{Ann}}')"),
            "PT404",
            theirs.to_string(),
        ),
        (
            "SELECT engram.add_alias('Ann', '?')".into(),
            "22023",
            "?".into(),
        ),
        (
            "SELECT engram.add_alias(NULL, 'Ann')".into(),
            "22023",
            "NULL".into(),
        ),
        (
            format!("SELECT engram.add_alias('Ann', repeat('{long}', 5))"),
            "22023",
            "505".into(),
        ),
        (
            "SELECT engram.entities(match_count => 0)".into(),
            "22023",
            "0".into(),
        ),
        (
            format!("SELECT engram.related('{nowhere}')"),
            "PT404",
            nowhere.to_string(),
        ),
        (
            format!("SELECT engram.related('{a}', 'Ann')"),
            "22023",
            "both".into(),
        ),
        ("SELECT engram.related()".into(), "22023", "neither".into()),
        (
            "SELECT engram.related(entity => ' ')".into(),
            "22023",
            " ".into(),
        ),
        (
            format!("SELECT engram.related('{a}', hops => 6)"),
            "22023",
            "6".into(),
        ),
        (
            format!("SELECT engram.related('{a}', match_count => 0)"),
            "22023",
            "0".into(),
        ),
        (
            format!("SELECT engram.related('{a}', at => 'infinity')"),
            "22023",
            "infinite".into(),
        ),
        (
            format!("SELECT engram.path('{a}', '{theirs}')"),
            "PT404",
            theirs.to_string(),
        ),
        (
            format!("SELECT engram.path('{a}', '{b}', 7)"),
            "22023",
            "7".into(),
        ),
        (
            format!("SELECT engram.path('{a}', NULL)"),
            "22023",
            "NULL".into(),
        ),
        (
            format!("SELECT engram.links('{theirs}')"),
            "PT404",
            theirs.to_string(),
        ),
        (
            format!("SELECT engram.spread(NULL, ARRAY['{a}', NULL]::uuid[])"),
            "22023",
            "NULL".into(),
        ),
        (
            format!("SELECT engram.spread(NULL, ARRAY['{a}']::uuid[], '{{1,2}}')"),
            "22023",
            "2".into(),
        ),
        (
            format!("SELECT engram.spread(NULL, ARRAY['{a}']::uuid[], '{{-1}}')"),
            "22023",
            "-1".into(),
        ),
        (
            format!("SELECT engram.spread(NULL, ARRAY['{a}']::uuid[], alpha => 1)"),
            "22023",
            "1".into(),
        ),
        (
            format!("SELECT engram.spread(NULL, ARRAY['{a}']::uuid[], max_hops => 1001)"),
            "22023",
            "1001".into(),
        ),
        (
            format!("SELECT engram.spread(NULL, ARRAY['{a}']::uuid[], eps => 'NaN')"),
            "22023",
            "NaN".into(),
        ),
        (
            format!("SELECT engram.spread(NULL, ARRAY['{a}']::uuid[], max_edges => -1)"),
            "22023",
            "-1".into(),
        ),
    ] {
        let e = failure(ann.simple_query(&sql));
        assert_eq!(e.code, code, "{sql}: {e:?}");
        assert!(
            e.message.contains(&part) && !e.hint.is_empty(),
            "{sql}: {e:?}"
        );
    }
}

#[test]
fn strengths_are_those_of_the_documentation() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let ids = several(&mut ann, 5);
    for (id, names) in [
        (ids[0], &["Kyoto", "Zen"][..]),
        (ids[1], &["kyoto!"]),
        (ids[2], &["KYOTO", "zen"]),
    ] {
        ann.execute("SELECT engram.add_entities($1, $2)", &[&id, &names])
            .unwrap();
    }
    link(&mut ann, ids[0], ids[1], 0.4);
    link(&mut ann, ids[1], ids[3], 0.5);
    link(&mut ann, ids[0], ids[3], 0.1);
    link(&mut ann, ids[3], ids[4], 1.0);
    let (three, two) = (1.0 / (1.0 + 3f64.ln()), 1.0 / (1.0 + 2f64.ln()));
    let to_1 = 1.0 - (1.0 - three) * 0.6;
    let to_2 = 1.0 - (1.0 - three) * (1.0 - two);
    let found = json_rows(
        &mut ann,
        "SELECT id, content, type, score, hops, via, relations FROM engram.related($1, hops => 3)",
        &[&ids[0]],
    );
    let row = |i: usize, score: f64, hops: i32, via: Value, relations: &[&str]| {
        json!({"id": ids[i].to_string(), "content": format!("memory {i}"), "type": "factual", "score": score, "hops": hops,
               "via": via, "relations": relations})
    };
    let wanted = [
        row(2, to_2, 1, json!("zen"), &["mentions"]),
        row(1, to_1, 1, json!("kyoto"), &["mentions", "leads to"]),
        // The way round is stronger than the weak link.
        row(4, to_1 * 0.5, 3, text(ids[3]), &["leads to"]),
        row(3, to_1 * 0.5, 2, text(ids[1]), &["leads to"]),
    ];
    // Of equal scores the shorter way comes first.
    let wanted = [&wanted[0], &wanted[1], &wanted[3], &wanted[2]];
    assert_eq!(found.len(), 4, "{found:?}");
    for (a, b) in found.iter().zip(wanted) {
        assert!(same(a, b), "{a}\n{b}");
    }
    // Only one kind of link.
    let by = |ann: &mut Client, relation: &str| -> Vec<Uuid> {
        ann.query(
            "SELECT id FROM engram.related($1, relation => $2, hops => 2)",
            &[&ids[0], &relation],
        )
        .unwrap()
        .iter()
        .map(|r| r.get(0))
        .collect()
    };
    assert_eq!(by(&mut ann, "leads to"), [ids[1], ids[3], ids[4]]);
    assert_eq!(
        sorted(by(&mut ann, "mentions")),
        sorted(vec![ids[1], ids[2]])
    );
    assert!(by(&mut ann, "used_with").is_empty());
    // From an entity: those that mention it, and on from there.
    let from = |ann: &mut Client, hops: i32| {
        json_rows(
            ann,
            "SELECT id, score, hops, via FROM engram.related(entity => ' Zen ', hops => $1)",
            &[&hops],
        )
    };
    let direct = from(&mut ann, 1);
    assert!(
        same(
            &direct[0],
            &json!({"id": ids[2].to_string(), "score": two, "hops": 1, "via": "zen"})
        ),
        "newest first: {direct:?}"
    );
    assert_eq!(direct.len(), 2);
    assert_eq!(from(&mut ann, 2).len(), 4);
}

#[test]
fn what_is_over_is_neither_shown_nor_passed_through() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let ids = several(&mut ann, 3);
    for pair in ids.windows(2) {
        link(&mut ann, pair[0], pair[1], 1.0);
    }
    let path = |ann: &mut Client| {
        json_rows(
            ann,
            "SELECT * FROM engram.path($1, $2)",
            &[&ids[0], &ids[2]],
        )
        .len()
    };
    for (away, back) in [
        ("SELECT engram.forget($1)", "SELECT engram.restore($1)"),
        (
            "UPDATE engram.memories SET superseded_by = (SELECT min(id::text)::uuid FROM engram.memories WHERE id <> $1) WHERE id = $1",
            "UPDATE engram.memories SET superseded_by = NULL WHERE id = $1",
        ),
        (
            "UPDATE engram.memories SET expires_at = now() WHERE id = $1",
            "UPDATE engram.memories SET expires_at = NULL WHERE id = $1",
        ),
    ] {
        assert_eq!(
            sorted(related(&mut ann, ids[0], 2)),
            sorted(ids[1..].to_vec())
        );
        assert_eq!(path(&mut ann), 3);
        ann.execute(away, &[&ids[1]]).unwrap();
        assert!(related(&mut ann, ids[0], 5).is_empty(), "{away}");
        assert_eq!(path(&mut ann), 0, "{away}");
        let spread = json_rows(
            &mut ann,
            "SELECT memory_id FROM engram.spread(NULL, ARRAY[$1, $2]::uuid[])",
            &[&ids[0], &ids[1]],
        );
        assert_eq!(spread, [json!({"memory_id": ids[0].to_string()})], "{away}");
        ann.execute(back, &[&ids[1]]).unwrap();
    }
    // A policy of the user's own has the last word, and nothing is reached through what it hides.
    db.admin()
        .batch_execute(&format!(
            "CREATE POLICY discreet ON engram.memories AS RESTRICTIVE FOR SELECT USING (id <> '{}')",
            ids[1]
        ))
        .unwrap();
    assert!(related(&mut ann, ids[0], 5).is_empty());
    assert_eq!(path(&mut ann), 0);
    let spread = json_rows(
        &mut ann,
        "SELECT memory_id, mass FROM engram.spread(NULL, ARRAY[$1]::uuid[])",
        &[&ids[0]],
    );
    assert!(
        same(
            &spread[0],
            &json!({"memory_id": ids[0].to_string(), "mass": 0.9375})
        ) && spread.len() == 1,
        "{spread:?}"
    );
    assert!(json_rows(&mut ann, "SELECT * FROM engram.links($1)", &[&ids[0]]).is_empty());
    assert_eq!(
        failure(ann.query("SELECT engram.links($1)", &[&ids[1]])).code,
        "PT404"
    );
}

#[test]
fn circles_end_and_crowds_are_cut() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let ids = several(&mut ann, 70);
    for i in 0..5 {
        link(&mut ann, ids[i], ids[(i + 1) % 5], 1.0);
    }
    let found = related(&mut ann, ids[0], 5);
    assert_eq!(
        sorted(found),
        sorted(ids[1..5].to_vec()),
        "each once, without the start"
    );
    // Everything linked with everything: 2,415 pairs, of which 2,000 steps are read.
    db.admin()
        .execute(
            "INSERT INTO engram.graph_links (workspace_id, memory_id, relation, node, label, target_id)
             SELECT a.workspace_id, a.id, 'near', b.id::text, '', b.id FROM engram.memories a JOIN engram.memories b ON b.workspace_id = a.workspace_id
             WHERE a.id < b.id",
            &[],
        )
        .unwrap();
    assert_eq!(related(&mut ann, ids[0], 5).len(), 69);
    let path = json_rows(
        &mut ann,
        "SELECT step, id FROM engram.path($1, $2, 6)",
        &[&ids[7], &ids[60]],
    );
    assert_eq!(path.len(), 2);
    for edges in [0, 1, 10, 100] {
        let reached = json_rows(
            &mut ann,
            "SELECT * FROM engram.spread(NULL, ARRAY[$1]::uuid[], eps => 0, max_edges => $2)",
            &[&ids[0], &edges],
        );
        assert!(
            reached.len() <= edges as usize + 1,
            "{edges}: {}",
            reached.len()
        );
        let sum: f64 = reached.iter().map(|r| r["mass"].as_f64().unwrap()).sum();
        assert!(sum <= 1.0 + 1e-12);
    }
    // An entity that everything mentions: all are listed, and it links hardly.
    for id in &ids {
        ann.execute("SELECT engram.add_entities($1, ARRAY['Everything'])", &[id])
            .unwrap();
    }
    let crowd = json_rows(
        &mut ann,
        "SELECT id, score FROM engram.related(entity => 'everything', match_count => 1000)",
        &[],
    );
    assert_eq!(crowd.len(), 70);
    assert!(
        crowd
            .iter()
            .all(|r| (r["score"].as_f64().unwrap() - 1.0 / (1.0 + 70f64.ln())).abs() < 1e-12)
    );
}

#[test]
fn an_alias_is_the_entity_wherever_it_is_said() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let mention = |ann: &mut Client, content: &str, names: &[&str]| -> Uuid {
        one(
            ann,
            "SELECT engram.add($1, entities => $2)",
            &[&content, &names],
        )
    };
    let alias = |ann: &mut Client, entity: &str, alias: &str| -> bool {
        one(ann, "SELECT engram.add_alias($1, $2)", &[&entity, &alias])
    };
    let early = mention(&mut ann, "stayed there in May", &["NYC", "New York"]);
    let by_alias = mention(&mut ann, "rain every day", &["nyc"]);
    assert!(alias(&mut ann, "New  York", "N.Y.C"));
    assert!(alias(&mut ann, "new york", " nyc "));
    assert!(!alias(&mut ann, "New York", "NYC"), "known");
    let late = mention(&mut ann, "the trains run late", &["NYC"]);
    let all = sorted(vec![early, by_alias, late]);
    let ids = |ann: &mut Client, sql: &str| -> Vec<Uuid> {
        sorted(
            ann.query(sql, &[])
                .unwrap()
                .iter()
                .map(|r| r.get(0))
                .collect(),
        )
    };
    for sql in [
        "SELECT id FROM engram.related(entity => 'NYC')",
        "SELECT id FROM engram.related(entity => 'new york')",
        "SELECT id FROM engram.search('how is NYC?')",
        "SELECT id FROM engram.search('how is New York?')",
        "SELECT id FROM engram.list('{\"entities\": \"nyc\"}')",
        "SELECT id FROM engram.list('{\"entities\": {\"in\": [\"n.y.c\", \"x\"]}}')",
        "SELECT id FROM engram.list('{\"entities\": {\"contains\": [\"New York\"]}}')",
        "SELECT id FROM engram.list('{\"entities\": {\"eq\": [\"NYC\"]}}')",
        "SELECT id FROM engram.related((SELECT id FROM engram.memories ORDER BY id LIMIT 1))
         UNION SELECT id FROM (SELECT id FROM engram.memories ORDER BY id LIMIT 1) x",
    ] {
        assert_eq!(ids(&mut ann, sql), all, "{sql}");
    }
    assert!(
        ids(
            &mut ann,
            "SELECT id FROM engram.list('{\"entities\": {\"nin\": [\"nyc\"]}}')"
        )
        .is_empty()
    );
    let listed = |ann: &mut Client, query: Option<&str>| {
        json_rows(ann, "SELECT * FROM engram.entities($1)", &[&query])
    };
    let new_york =
        json!({"name": "New York", "node": "new york", "aliases": ["N.Y.C", "nyc"], "memories": 3});
    assert_eq!(
        listed(&mut ann, None),
        std::slice::from_ref(&new_york),
        "stored once"
    );
    assert_eq!(
        listed(&mut ann, Some("NY")),
        std::slice::from_ref(&new_york)
    );
    assert!(listed(&mut ann, Some("paris")).is_empty());

    // An entity that becomes an alias brings its aliases along; neither chains nor circles remain.
    assert!(alias(&mut ann, "The Apple", "Big Apple"));
    assert!(alias(&mut ann, "NYC", "The Apple"));
    let nodes: Vec<Value> = json_rows(
        &mut ann,
        "SELECT DISTINCT node FROM engram.entity_aliases",
        &[],
    );
    assert_eq!(nodes, [json!({"node": "new york"})]);
    assert_eq!(
        ids(
            &mut ann,
            "SELECT id FROM engram.related(entity => 'big apple')"
        ),
        all
    );
    let circle = failure(ann.query("SELECT engram.add_alias('big apple', 'new york')", &[]));
    assert_eq!(circle.code, "22023", "{circle:?}");
    assert_eq!(
        failure(ann.query("SELECT engram.add_alias('Paris', 'nyc')", &[])).code,
        "23505"
    );
    assert_eq!(
        failure(ann.query("SELECT engram.add_alias('Oslo', 'oslo!')", &[])).code,
        "22023"
    );

    // Taken away, it is a name like any other from then on.
    assert!(one::<bool>(
        &mut ann,
        "SELECT engram.remove_alias('NYC')",
        &[]
    ));
    assert!(!one::<bool>(
        &mut ann,
        "SELECT engram.remove_alias('NYC')",
        &[]
    ));
    let own = mention(&mut ann, "a club of that name", &["NYC"]);
    assert_eq!(
        ids(&mut ann, "SELECT id FROM engram.related(entity => 'nyc')"),
        [own]
    );
    assert_eq!(
        ids(
            &mut ann,
            "SELECT id FROM engram.related(entity => 'new york')"
        ),
        all
    );
}

#[test]
fn entities_are_added_and_removed() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let id = add(&mut ann, "tea with friends");
    let version =
        |ann: &mut Client| -> i32 { one(ann, "SELECT version FROM engram.get($1)", &[&id]) };
    let change = |ann: &mut Client, what: &str, names: &[&str]| -> i32 {
        one(
            ann,
            &format!("SELECT engram.{what}_entities($1, $2)"),
            &[&id, &names],
        )
    };
    assert_eq!(change(&mut ann, "add", &["Bob", " BOB ", "Green  Tea"]), 2);
    assert_eq!(version(&mut ann), 2);
    assert_eq!(change(&mut ann, "add", &["bob"]), 0);
    assert_eq!(change(&mut ann, "add", &[]), 0);
    assert_eq!(version(&mut ann), 2, "nothing was added");
    ann.execute("SELECT engram.add_alias('Bob', 'Robert')", &[])
        .unwrap();
    assert_eq!(change(&mut ann, "remove", &["Robert", "nobody"]), 1);
    assert_eq!(version(&mut ann), 3);
    let left: Vec<String> = one(&mut ann, "SELECT entities FROM engram.get($1)", &[&id]);
    assert_eq!(left, ["Green  Tea"]);
    // Linked memories are no entities.
    let other = add(&mut ann, "another");
    link(&mut ann, id, other, 1.0);
    assert_eq!(
        json_rows(
            &mut ann,
            "SELECT name, memories FROM engram.entities()",
            &[]
        ),
        [
            json!({"name": "Green  Tea", "memories": 1}),
            json!({"name": "bob", "memories": 0})
        ]
    );
}

/// Undirected links with weights.
type Net = BTreeMap<usize, BTreeMap<usize, f64>>;

/// A random graph of typed links between memories.
fn net(ann: &mut Client, dice: &mut Dice, n: usize, links: usize) -> (Vec<Uuid>, Net) {
    let ids = several(ann, n);
    let mut net = Net::new();
    for _ in 0..links {
        let (a, b) = (dice.roll(n), dice.roll(n));
        let weight = (1 + dice.roll(9)) as f64 / 10.0;
        if a != b && !net.get(&a).is_some_and(|to| to.contains_key(&b)) {
            link(ann, ids[a], ids[b], weight);
            net.entry(a).or_default().insert(b, weight);
            net.entry(b).or_default().insert(a, weight);
        }
    }
    (ids, net)
}

#[test]
fn spreading_is_the_walk_that_it_says() {
    let db = Database::new();
    let mut ann = db.user("ann");
    ann.batch_execute("BEGIN").unwrap();
    let mut dice = Dice(11);
    let (ids, mut net) = net(&mut ann, &mut dice, 14, 22);
    // Links by use add to those by hand.
    let together = [ids[0], ids[1]];
    for _ in 0..3 {
        touch(&mut ann, &together, 0.0);
    }
    let strength = 1.0 - f64::exp(-3.0);
    *net.entry(0).or_default().entry(1).or_default() += strength;
    *net.entry(1).or_default().entry(0).or_default() += strength;
    let seeds = [(0, 3.0), (5, 1.0)];
    let (alpha, hops) = (0.7f64, 4);
    // r = (1 - a) * sum of a^k P^k p, what has no link going back to the seeds.
    let start: Vec<f64> = (0..14)
        .map(|i| seeds.iter().filter(|s| s.0 == i).map(|s| s.1 / 4.0).sum())
        .collect();
    let (mut here, mut wanted) = (start.clone(), vec![0.0; 14]);
    for hop in 0..=hops {
        let mut next = vec![0.0; 14];
        for (i, mass) in here.iter().enumerate() {
            wanted[i] += (1.0 - alpha) * alpha.powi(hop) * mass;
            match net.get(&i) {
                Some(to) => {
                    let sum: f64 = to.values().sum();
                    to.iter().for_each(|(j, w)| next[*j] += mass * w / sum);
                }
                None => start
                    .iter()
                    .enumerate()
                    .for_each(|(j, s)| next[j] += mass * s),
            }
        }
        here = next;
    }
    let found = json_rows(
        &mut ann,
        "SELECT memory_id, mass, lift FROM engram.spread(NULL, $1, '{3,1}', 0.7, 4, 0, 10000)",
        &[&vec![ids[0], ids[5]]],
    );
    assert!(found.len() > 8);
    for (i, id) in ids.iter().enumerate() {
        let mass = found
            .iter()
            .find(|r| r["memory_id"] == text(*id))
            .map_or(0.0, |r| r["mass"].as_f64().unwrap());
        assert!((mass - wanted[i]).abs() < 1e-6, "{i}: {mass} {}", wanted[i]);
    }
    let masses: Vec<f64> = found.iter().map(|r| r["mass"].as_f64().unwrap()).collect();
    assert!(masses.is_sorted_by(|a, b| a >= b));
    assert!(found.iter().all(|r| r["lift"].as_f64().unwrap() >= 0.0));
    // Who is not there, or somebody else's, is no seed.
    let theirs = add(&mut db.user("bob"), "of Bob");
    let again = json_rows(
        &mut ann,
        "SELECT memory_id, mass, lift FROM engram.spread(NULL, $1, '{3,9,1}', 0.7, 4, 0, 10000)",
        &[&vec![ids[0], theirs, ids[5]]],
    );
    assert!(found.iter().zip(&again).all(|(a, b)| same(a, b)) && found.len() == again.len());
}

#[test]
fn a_path_is_the_shortest_and_of_those_the_strongest() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let (ids, net) = net(&mut ann, &mut Dice(5), 24, 34);
    let mut lengths = BTreeSet::new();
    for target in 0..24 {
        // Best product for every number of hops at which a memory is first reached.
        let mut best: BTreeMap<usize, (usize, f64)> = BTreeMap::from([(0, (0, 1.0))]);
        for hop in 1..24 {
            let mut next: BTreeMap<usize, f64> = BTreeMap::new();
            for (node, (_, score)) in best.iter().filter(|(_, b)| b.0 == hop - 1) {
                for (to, weight) in net.get(node).into_iter().flatten() {
                    let entry = next.entry(*to).or_insert(0.0);
                    *entry = entry.max(score * weight);
                }
            }
            for (node, score) in next {
                best.entry(node).or_insert((hop, score));
            }
        }
        for most in [1i32, 2, 4, 6] {
            let path = json_rows(
                &mut ann,
                "SELECT step, id, content, via, relation FROM engram.path($1, $2, $3)",
                &[&ids[0], &ids[target], &most],
            );
            let Some((hops, score)) = best.get(&target).filter(|b| b.0 <= most as usize) else {
                assert!(path.is_empty(), "{target} within {most}: {path:?}");
                continue;
            };
            lengths.insert(*hops);
            assert_eq!(path.len(), hops + 1, "{target}");
            assert!(
                path.iter()
                    .enumerate()
                    .all(|(i, r)| r["step"] == json!(i) && r["via"].is_null())
            );
            let at: Vec<usize> = path
                .iter()
                .map(|r| ids.iter().position(|id| text(*id) == r["id"]).unwrap())
                .collect();
            assert_eq!((at[0], at[*hops]), (0, target));
            let product: f64 = at.windows(2).map(|w| net[&w[0]][&w[1]]).product();
            assert!(
                (product - score).abs() < 1e-12,
                "{target}: {product} {score}"
            );
            assert!(path[1..].iter().all(|r| r["relation"] == "leads to"));
        }
    }
    assert!(lengths.len() > 4, "{lengths:?}");
    // Through an entity.
    let far = add(&mut ann, "far away");
    for id in [far, ids[0]] {
        ann.execute("SELECT engram.add_entities($1, ARRAY['Miso'])", &[&id])
            .unwrap();
    }
    assert_eq!(
        json_rows(
            &mut ann,
            "SELECT * FROM engram.path($1, $2)",
            &[&far, &ids[0]]
        ),
        [
            json!({"step": 0, "id": far.to_string(), "content": "far away", "via": null, "relation": null}),
            json!({"step": 1, "id": ids[0].to_string(), "content": "memory 0", "via": "miso", "relation": "mentions"})
        ]
    );
}

#[test]
fn what_others_have_linked_is_theirs() {
    let db = Database::new();
    let (mut ann, mut bob) = (db.user("ann"), db.user("bob"));
    // The same contents and names on both sides.
    let mine = several(&mut ann, 3);
    let theirs = several(&mut bob, 3);
    for (client, ids) in [(&mut ann, &mine), (&mut bob, &theirs)] {
        link(client, ids[0], ids[1], 1.0);
        for id in ids {
            client
                .execute("SELECT engram.add_entities($1, ARRAY['Shared'])", &[id])
                .unwrap();
        }
        client
            .execute("SELECT engram.add_alias('Shared', 'Common')", &[])
            .unwrap();
        for _ in 0..3 {
            touch(client, ids, 0.0);
        }
    }
    fold(&mut ann, 100);
    let bobs: Uuid = one(&mut bob, "SELECT engram.current_user_id()", &[]);
    for sql in [
        "SELECT to_jsonb(r) FROM engram.related($1, hops => 5) r",
        "SELECT to_jsonb(r) FROM engram.related(entity => 'common', hops => 5) r, (SELECT $1) x",
        "SELECT to_jsonb(r) FROM engram.links($1) r",
        "SELECT to_jsonb(r) FROM engram.spread(NULL, ARRAY[$1]::uuid[]) r",
    ] {
        let sql = sql.replace("(SELECT $1)", "(SELECT $1::uuid)");
        let found = ann.query(&sql, &[&mine[0]]).unwrap();
        assert!(!found.is_empty(), "{sql}");
        for row in found {
            let shown = row.get::<_, Value>(0).to_string();
            assert!(
                theirs.iter().all(|id| !shown.contains(&id.to_string())),
                "{sql}: {shown}"
            );
        }
    }
    let shared = json_rows(
        &mut ann,
        "SELECT memories FROM engram.entities('shared')",
        &[],
    );
    assert_eq!(shared, [json!({"memories": 3})]);
    for sql in [
        "SELECT engram.link($1, $2)",
        "SELECT engram.link($2, $1)",
        "SELECT engram.path($1, $2)",
        "SELECT engram.path($2, $1)",
    ] {
        assert_eq!(
            failure(ann.query(sql, &[&mine[0], &theirs[0]])).code,
            "PT404",
            "{sql}"
        );
    }
    for sql in [
        "SELECT engram.related($1)",
        "SELECT engram.links($1)",
        "SELECT engram.add_entities($1, ARRAY['Shared'])",
        "SELECT engram.remove_entities($1, ARRAY['Shared'])",
    ] {
        assert_eq!(
            failure(ann.query(sql, &[&theirs[0]])).code,
            "PT404",
            "{sql}"
        );
    }
    assert!(
        json_rows(
            &mut ann,
            "SELECT * FROM engram.spread(NULL, $1)",
            &[&theirs]
        )
        .is_empty()
    );
    assert_eq!(
        one::<i32>(
            &mut ann,
            "SELECT engram.unlink($1, $2)",
            &[&theirs[0], &theirs[1]]
        ),
        0
    );
    for sql in [
        "SELECT engram.related(entity => 'shared', workspace => $1)",
        "SELECT engram.spread($1, '{}')",
        "SELECT engram.entities(workspace => $1)",
        "SELECT engram.add_alias('Shared', 'Other', $1)",
        "SELECT engram.remove_alias('Common', $1)",
    ] {
        assert_eq!(failure(ann.query(sql, &[&bobs])).code, "42501", "{sql}");
    }
    assert_eq!(
        json_rows(&mut bob, "SELECT * FROM engram.entity_aliases", &[]).len(),
        1
    );
    // By a link across that somebody forced in, nothing is seen either.
    let across = db.admin().execute(
        "INSERT INTO engram.graph_links (workspace_id, memory_id, relation, node, label, target_id)
         SELECT workspace_id, id, 'across', $2::text, '', $2::text::uuid FROM engram.memories WHERE id = $1",
        &[&mine[0], &theirs[0].to_string()],
    );
    assert_eq!(failure(across).code, "23503");
}

#[test]
fn links_are_read_by_their_own_indexes() {
    let db = Database::new();
    // Candidates of a search are looked up as the owner, everything else as the caller.
    let (mut ann, mut owner) = (db.user("ann"), db.admin());
    owner.batch_execute("SET engram.user_id = 'ann'").unwrap();
    let one = "engram.current_user_id(), ARRAY[engram.current_user_id()]";
    let cases = [
        (
            "uuid, uuid[], timestamptz, float8, integer, float8, integer",
            format!("{one}, now(), 1, 1, 0, 32"),
            include_str!("../../src/graph/strongest.sql"),
            &[
                ("hebbian_links_pkey", "(a = u.id)"),
                ("hebbian_links_reverse_idx", "(b = u.id)"),
            ][..],
        ),
        (
            "uuid, uuid[], text, integer",
            format!("{one}, NULL, 32"),
            include_str!("../../src/graph/made.sql"),
            &[
                ("graph_links_pkey", "(memory_id = u.id)"),
                ("graph_links_target_idx", "(target_id = u.id)"),
            ],
        ),
        (
            "uuid, uuid[], text, integer",
            format!("{one}, NULL, 32"),
            include_str!("../../src/graph/mentioned.sql"),
            &[("graph_links_pkey", "(memory_id = u.id)")],
        ),
        (
            "uuid, text[], text, integer",
            "engram.current_user_id(), ARRAY['x'], NULL, 32".to_owned(),
            include_str!("../../src/graph/mentioning.sql"),
            &[("graph_links_entity_idx", "(node = u.node)")],
        ),
        (
            "uuid, text[]",
            "engram.current_user_id(), ARRAY['x']".to_owned(),
            include_str!("../../src/search/sql/entities.sql"),
            &[("graph_links_entity_idx", "(node = n.node)")],
        ),
    ];
    for known in ["nothing", "a large workspace", "many small ones"] {
        // What statistics tell, if anything; the workspace that is asked for is in none of them.
        if known != "nothing" {
            let workspaces = if known == "many small ones" {
                10_000
            } else {
                1
            };
            db.admin()
                .batch_execute(&format!(
                    "SET session_replication_role = replica;
                     DELETE FROM engram.hebbian_links; DELETE FROM engram.graph_links;
                     CREATE OR REPLACE FUNCTION public.made_up(kind text, i bigint) RETURNS uuid LANGUAGE sql AS
                       'SELECT overlay(md5(kind || i)::uuid::text placing ''7'' from 15)::uuid';
                     INSERT INTO engram.hebbian_links (workspace_id, a, b, forward, backward, linked_at, count)
                     SELECT made_up('w', i % {workspaces}), least(made_up('m', i / 4), made_up('n', i % 977)), greatest(made_up('m', i / 4), made_up('n', i % 977)),
                            1, 0, now(), 3 FROM generate_series(1, 20000) i ON CONFLICT DO NOTHING;
                     INSERT INTO engram.graph_links (workspace_id, memory_id, relation, node, label, target_id)
                     SELECT made_up('w', i % {workspaces}), made_up('m', i / 4), CASE WHEN i % 3 = 0 THEN 'near' ELSE 'mentions' END,
                            CASE WHEN i % 3 = 0 THEN made_up('m', i)::text ELSE 'e' || i % 700 END, '', CASE WHEN i % 3 = 0 THEN made_up('m', i) END
                     FROM generate_series(1, 20000) i ON CONFLICT DO NOTHING;
                     ANALYZE engram.hebbian_links, engram.graph_links"
                ))
                .unwrap();
        }
        for (types, arguments, sql, wanted) in &cases {
            let client = if sql.contains("$1 workspace, $2 names as keys") {
                &mut owner
            } else {
                &mut ann
            };
            client.batch_execute(&format!(
                "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; DEALLOCATE ALL; PREPARE p ({types}) AS {sql}"
            ))
            .unwrap();
            let plan: Vec<String> = client
                .query(&format!("EXPLAIN (COSTS OFF) EXECUTE p ({arguments})"), &[])
                .unwrap()
                .iter()
                .map(|row| row.get(0))
                .collect();
            for (index, condition) in *wanted {
                assert!(
                    plan.windows(2).any(|lines| lines[0].contains(index)
                        && lines[1].contains("Index Cond")
                        && lines[1].contains(condition)),
                    "knowing {known}: {index} by {condition}\n{}",
                    plan.join("\n")
                );
            }
        }
    }
}

#[test]
fn signs_that_belong_to_a_name_tell_entities_apart() {
    let db = Database::new();
    let mut ann = db.user("ann");
    for (content, entity) in [
        ("Ann writes the parser", "C++"),
        ("Ben writes the window", "C#"),
        ("Cy writes the kernel", "C"),
        ("Dee writes the server", ".NET"),
    ] {
        ann.execute(
            "SELECT engram.add($1, entities => ARRAY[$2])",
            &[&content, &entity],
        )
        .unwrap();
    }
    let about = |client: &mut Client, entity: &str| -> Vec<String> {
        one(
            client,
            "SELECT array_agg(content) FROM engram.related(entity => $1)",
            &[&entity],
        )
    };
    assert_eq!(about(&mut ann, "c++"), ["Ann writes the parser"]);
    assert_eq!(about(&mut ann, "“C#”,"), ["Ben writes the window"]);
    assert_eq!(about(&mut ann, "C"), ["Cy writes the kernel"]);
    let asked: String = one(
        &mut ann,
        "SELECT content FROM engram.search('who knows C#?')",
        &[],
    );
    assert_eq!(asked, "Ben writes the window");
    let none: i64 = one(&mut ann, "SELECT count(*) FROM engram.entities('%')", &[]);
    assert_eq!(none, 0);
    // As older versions stored them.
    let mut admin = db.admin();
    admin
        .batch_execute(
            "UPDATE engram.graph_links SET node = btrim(node, '.+#');
             INSERT INTO engram.entity_aliases (workspace_id, alias, node, label)
             SELECT workspace_id, 'dotnet', 'net', 'dotnet' FROM engram.graph_links WHERE node = 'net';
             SELECT engram.setup()",
        )
        .unwrap();
    assert_eq!(about(&mut ann, "C++"), ["Ann writes the parser"]);
    assert_eq!(about(&mut ann, "C"), ["Cy writes the kernel"]);
    assert_eq!(about(&mut ann, "dotnet"), ["Dee writes the server"]);
}
