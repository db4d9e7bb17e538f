//! What the tests of engramai pin down, as far as it is meant to hold here too, asked of engram through
//! SQL by an ordinary role. Where engram differs on purpose, its own rule is tested in that place.

use std::time::{Duration, Instant};

use postgres::Client;
use postgres::types::{FromSql, ToSql};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cluster::{Database, failure, one};

fn all<T>(client: &mut Client, sql: &str, args: &[&(dyn ToSql + Sync)]) -> Vec<T>
where
    T: for<'a> FromSql<'a>,
{
    client
        .query(sql, args)
        .unwrap_or_else(|e| panic!("{sql}: {e:?}"))
        .iter()
        .map(|row| row.get(0))
        .collect()
}

fn add(client: &mut Client, content: &str) -> Uuid {
    one(client, "SELECT engram.add($1)", &[&content])
}

/// The code of the error of a statement that must fail.
fn refused(client: &mut Client, sql: &str) -> String {
    failure(client.simple_query(sql)).code
}

#[track_caller]
fn near(got: f64, wanted: f64, tolerance: f64) {
    assert!((got - wanted).abs() <= tolerance, "{got}, not {wanted}");
}

/// A memory of `user` that was stored in the past. Only the owner can do that.
fn past(
    db: &Database,
    user: &str,
    (kind, importance): (&str, f64),
    created_at: &str,
    pinned: bool,
) -> Uuid {
    let workspace: Uuid = one(&mut db.user(user), "SELECT engram.current_user_id()", &[]);
    one(
        &mut db.admin(),
        &format!(
            "INSERT INTO engram.memories (workspace_id, content, type, importance, created_at, pinned)
             VALUES ($1, $2 || ' ' || gen_random_uuid(), $2, $3, {created_at}, $4) RETURNING id"
        ),
        &[&workspace, &kind, &importance, &pinned],
    )
}

fn state(client: &mut Client, id: Uuid, at: &str) -> Value {
    one(
        client,
        &format!("SELECT to_jsonb(r) FROM engram.retention($1, {at}) r"),
        &[&id],
    )
}

fn number(value: &Value, key: &str) -> f64 {
    value[key]
        .as_f64()
        .unwrap_or_else(|| panic!("{key} of {value}"))
}

/// A moment from now, as a literal.
fn moment(client: &mut Client, from_now: &str) -> String {
    one(
        client,
        "SELECT quote_literal(now() + $1::text::interval)",
        &[&from_now],
    )
}

fn consolidate(client: &mut Client, at: &str) -> Value {
    one(
        client,
        &format!("SELECT to_jsonb(c) FROM engram.consolidate(at => {at}) c"),
        &[],
    )
}

fn layer(client: &mut Client, id: Uuid) -> String {
    one(
        client,
        "SELECT m.layer FROM engram.memories m WHERE m.id = $1",
        &[&id],
    )
}

#[test]
fn activation_rises_with_use_and_falls_with_time() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let kind = ("factual", 0.3);
    let activation = |ann: &mut Client, id: Uuid, at: &str| -> f64 {
        one(ann, &format!("SELECT engram.activation($1, {at})"), &[&id])
    };
    let fresh = past(&db, "ann", kind, "'2024-03-01 00:00Z'", false);
    // One use an hour and thirty days ago.
    let hour = activation(&mut ann, fresh, "'2024-03-01 01:00Z'");
    near(hour, -4.094, 0.003);
    let month = activation(&mut ann, fresh, "'2024-03-31 00:00Z'");
    near(month, -7.384, 0.003);
    // One use a day ago against ten on ten days.
    let day = activation(&mut ann, fresh, "'2024-03-02 00:00Z'");
    near(day, -5.683, 0.003);
    let daily = past(&db, "ann", kind, "'2024-02-20 00:00Z'", false);
    ann.execute(
        "SELECT engram.touch(ARRAY[$1::uuid], at => '2024-02-20Z'::timestamptz + d * interval '1 day')
         FROM generate_series(1, 9) d",
        &[&daily],
    )
    .unwrap();
    near(
        activation(&mut ann, daily, "'2024-03-01 00:00Z'"),
        -4.070,
        0.003,
    );
    // Without any use there is nothing: no memory is without one, storing it is the first.
    assert_eq!(
        one::<f64>(&mut ann, "SELECT engram.base_level('{}')", &[]),
        f64::NEG_INFINITY
    );
    let unknown = "SELECT engram.activation(gen_random_uuid()) IS NULL";
    assert!(one::<bool>(&mut ann, unknown, &[]));
    assert_eq!(state(&mut ann, fresh, "now()")["access_count"], json!(1));
    // A use in the future does not make a memory the most active of all: it is refused.
    let future =
        format!("SELECT engram.touch(ARRAY['{fresh}']::uuid[], at => now() + interval '1 h')");
    assert_eq!(refused(&mut ann, &future), "22023");
    // Importance 0.5 is worth 1 nat, a contradiction costs 3.
    let need = |ann: &mut Client, rest: &str| -> f64 {
        one(
            ann,
            &format!("SELECT engram.need_score(-5, 0, 0, 0, {rest})"),
            &[],
        )
    };
    let plain = need(&mut ann, "0, false");
    near(need(&mut ann, "0.5, false") - plain, 1.0, 1e-12);
    near(need(&mut ann, "0, true") - plain, -3.0, 1e-12);
    // Brought to 0..1 by a logistic about -5.5: bounded, rising, and an hour and a week are further
    // apart than on a line.
    let shown =
        |ann: &mut Client, a: f64| -> f64 { one(ann, "SELECT engram.activation_01($1)", &[&a]) };
    assert_eq!(shown(&mut ann, -5.5), 0.5);
    let steps: Vec<f64> = [-1e9, -20.0, -7.0, -5.0, 0.0, 1e9]
        .map(|a| shown(&mut ann, a))
        .to_vec();
    assert!(
        steps.is_sorted() && steps[0] >= 0.0 && steps[5] <= 1.0,
        "{steps:?}"
    );
    assert!(shown(&mut ann, -4.094) - shown(&mut ann, -6.656) > 2.5 * (6.656 - 4.094) / 20.0);
}

#[test]
fn reading_is_not_using() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let [read, left] = ["the ferry to Mull", "the ferry to Skye"].map(|c| add(&mut ann, c));
    let tomorrow = moment(&mut ann, "1 day");
    let before = state(&mut ann, read, &tomorrow);
    // Upstream counts a use each time a memory is got, pinned, listed or found.
    for _ in 0..20 {
        ann.execute("SELECT FROM engram.get($1)", &[&read]).unwrap();
        ann.batch_execute(
            "SELECT FROM engram.search('Mull'); SELECT FROM engram.recall('Mull'); SELECT FROM engram.list();
             SELECT engram.context('Mull')",
        )
        .unwrap();
    }
    assert_eq!(state(&mut ann, read, &tomorrow), before);
    assert_eq!(before["access_count"], json!(1));
    let activation = "SELECT engram.activation($1, now() + interval '1 day')";
    near(
        one::<f64>(&mut ann, activation, &[&read]) - one::<f64>(&mut ann, activation, &[&left]),
        0.0,
        1e-3,
    );
    // Credit goes to what was used, once for each recall.
    let recall: Uuid = one(
        &mut ann,
        "SELECT recall_id FROM engram.recall('Mull') LIMIT 1",
        &[],
    );
    let touch = "SELECT engram.touch(ARRAY[$1::uuid], recall_id => $2)";
    assert_eq!(one::<i32>(&mut ann, touch, &[&read, &recall]), 1);
    assert_eq!(one::<i32>(&mut ann, touch, &[&read, &recall]), 0);
    assert_eq!(state(&mut ann, read, &tomorrow)["access_count"], json!(2));
}

#[test]
fn what_is_kept_depends_on_type_use_and_time() {
    let db = Database::new();
    let mut ann = db.user("ann");
    // The curves of upstream, kept for comparison.
    for (kind, uses, importance, days, stability, left) in [
        ("episodic", 1i64, 0.2, 7.0, 9.426, 0.4759),
        ("procedural", 1, 0.5, 7.0, 134.66, 0.9493),
        ("factual", 1, 0.3, 7.0, 35.91, 0.8229),
        ("factual", 5, 0.3, 1.0, 50.56, 0.9804),
    ] {
        let s: f64 = one(
            &mut ann,
            "SELECT engram.stability_upstream($1, $2, $3, 0)",
            &[&kind, &uses, &importance],
        );
        near(s, stability, 0.006);
        let r: f64 = one(
            &mut ann,
            "SELECT engram.exp_retrievability($1, $2)",
            &[&days, &s],
        );
        near(r, left, 1e-4);
    }
    // engram's own have the same order: types that last, and uses that make last.
    let [episodic, procedural, factual, used] = [
        ("episodic", 0.2),
        ("procedural", 0.5),
        ("factual", 0.3),
        ("factual", 0.3),
    ]
    .map(|kind| past(&db, "ann", kind, "'2024-03-01 00:00Z'", false));
    ann.execute(
        "SELECT engram.touch(ARRAY[$1::uuid], at => '2024-03-01Z'::timestamptz + d * interval '36 hours')
         FROM generate_series(1, 4) d",
        &[&used],
    )
    .unwrap();
    for key in ["retention", "retrievability", "stability"] {
        let mut of = |id| number(&state(&mut ann, id, "'2024-03-08 00:00Z'"), key);
        let [episodic, procedural, factual, used] =
            [episodic, procedural, factual, used].map(&mut of);
        assert!(episodic < factual && factual < procedural, "{key}");
        assert!(factual < used, "{key}");
    }
    // What is fresh is there.
    let fresh = state(&mut ann, factual, "'2024-03-01 00:10Z'");
    assert!(number(&fresh, "retention") > 0.99 && number(&fresh, "retrievability") > 0.99);
}

#[test]
fn the_two_stores_have_the_numbers_of_the_model() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let after = |ann: &mut Client, (r1, r2): (f64, f64), days: f64, importance: Option<f64>| {
        let row = ann
            .query_one(
                "SELECT t.r1, t.r2 FROM engram.trace_evolve($1, $2, $3,
                   coalesce(engram.consolidation_alpha($4), 0), 0.15, 0.005) t",
                &[&r1, &r2, &days, &importance],
            )
            .unwrap();
        (row.get::<_, f64>(0), row.get::<_, f64>(1))
    };
    // A day's decay alone, and with transfer; in closed form, where upstream takes one Euler step.
    let (r1, r2) = after(&mut ann, (1.0, 0.5), 1.0, None);
    near(r1, 0.860708, 1e-6);
    near(r2, 0.497506, 1e-6);
    let (r1, r2) = after(&mut ann, (1.0, 0.0), 1.0, Some(0.5));
    near(r1, 0.860708, 1e-6);
    near(r2, 0.033345, 1e-6);
    // A week in seven steps is a week; upstream's daily steps give 0.30652, weekly ones more.
    let mut traces = (1.0, 0.0);
    for _ in 0..7 {
        traces = after(&mut ann, traces, 1.0, Some(0.8));
    }
    let whole = after(&mut ann, (1.0, 0.0), 7.0, Some(0.8));
    near(traces.0, 0.34994, 1e-5);
    near(traces.1, 0.28533, 1e-5);
    near(traces.1, whole.1, 1e-12);
    // No time, much time, and time that runs backwards.
    assert_eq!(after(&mut ann, (0.7, 0.2), 0.0, Some(0.5)), (0.7, 0.2));
    let year = after(&mut ann, (1.0, 0.0), 365.0, Some(0.5));
    assert!(year.0 < 0.01 && year.1 < 0.1, "{year:?}");
    let back = "SELECT * FROM engram.trace_evolve(1, 0, -1, 0.08, 0.15, 0.005)";
    assert_eq!(refused(&mut ann, back), "22023");

    // The same of memories: episodic ones have upstream's rate.
    let [plain, vital, trivial] =
        [0.5, 0.9, 0.2].map(|i| past(&db, "ann", ("episodic", i), "'2024-03-01 00:00Z'", false));
    let pinned = past(&db, "ann", ("emotional", 0.9), "'2024-03-01 00:00Z'", true);
    let day = state(&mut ann, plain, "'2024-03-02 00:00Z'");
    near(number(&day, "working_strength"), 0.860708, 1e-6);
    near(number(&day, "core_strength"), 0.033345, 1e-6);
    for at in [
        "'2024-03-02 00:00Z'",
        "'2024-03-15 00:00Z'",
        "'2025-03-01 00:00Z'",
    ] {
        assert!(
            number(&state(&mut ann, vital, at), "core_strength")
                > 3.0 * number(&state(&mut ann, trivial, at), "core_strength"),
            "importance consolidates"
        );
        // What is pinned stays as it is.
        let kept = state(&mut ann, pinned, at);
        assert_eq!(
            (
                &kept["working_strength"],
                &kept["core_strength"],
                &kept["layer"]
            ),
            (&json!(1), &json!(0), &json!("core"))
        );
    }
    // A moment before it was stored makes nothing grow.
    let before = state(&mut ann, plain, "'2023-01-01 00:00Z'");
    near(number(&before, "working_strength"), 1.0, 1e-12);
}

#[test]
fn layers_change_where_strengths_cross_thresholds() {
    let db = Database::new();
    let mut ann = db.user("ann");
    // Nothing to do.
    let nothing = json!({"folded": 0, "promoted": 0, "demoted": 0, "archived": 0, "forgotten": 0,
                         "links_pruned": 0, "skipped": 0, "done": true});
    assert_eq!(consolidate(&mut ann, "now()"), nothing);
    for (from, r1, r2, to) in [
        ("working", 0.5, 0.3, "core"),
        ("working", 0.01, 0.01, "archive"),
        ("working", 0.5, 0.01, "working"),
        ("core", 0.02, 0.02, "archive"),
        ("core", 0.02, 0.1, "core"),
        ("archive", 0.02, 0.3, "core"),
    ] {
        let got: String = one(
            &mut ann,
            "SELECT engram.layer_tick($1, $2, $3, 0, 0.036, 0.15, 0.005)",
            &[&from, &r1, &r2],
        );
        assert_eq!(got, to, "{from} {r1} {r2}");
    }
    // Of importance 0.1 it is archived within 30 days, of importance 1 it is core, pinned ones always.
    let kinds = [
        ("episodic", 0.1),
        ("emotional", 1.0),
        ("emotional", 0.9),
        ("episodic", 0.1),
    ];
    let ids: Vec<Uuid> = kinds
        .iter()
        .enumerate()
        .map(|(i, kind)| past(&db, "ann", *kind, "'2024-03-01 00:00Z'", i > 1))
        .collect();
    for day in 1..=30 {
        consolidate(
            &mut ann,
            &format!("'2024-03-01Z'::timestamptz + interval '{day} days'"),
        );
    }
    let layers: Vec<String> = ids.iter().map(|id| layer(&mut ann, *id)).collect();
    assert_eq!(layers, ["archive", "core", "core", "core"]);
    // Thirty runs have moved layers and nothing else: no forced downscaling, no replay of the archive.
    let bob_ids: Vec<Uuid> = kinds
        .iter()
        .enumerate()
        .map(|(i, kind)| past(&db, "bob", *kind, "'2024-03-01 00:00Z'", i > 1))
        .collect();
    let mut bob = db.user("bob");
    for (id, never) in ids.iter().zip(&bob_ids) {
        let at = "'2024-05-01 00:00Z'";
        assert_eq!(state(&mut ann, *id, at), state(&mut bob, *never, at));
    }
    let version: i32 = one(&mut ann, "SELECT max(version) FROM engram.memories", &[]);
    assert_eq!(version, 1, "nobody changed anything");
    // The archive is not the end: use brings back.
    ann.execute(
        "SELECT engram.touch(ARRAY[$1::uuid], gain => 30, at => '2024-05-01Z')",
        &[&ids[0]],
    )
    .unwrap();
    let report = consolidate(&mut ann, "'2024-05-21Z'");
    assert_eq!(
        (&report["folded"], &report["promoted"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(layer(&mut ann, ids[0]), "core");
}

#[test]
fn forgetting_is_asked_for_and_taken_back() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let kind = ("episodic", 0.1);
    let weak = past(&db, "ann", kind, "now() - interval '365 days'", false);
    let pinned = past(&db, "ann", kind, "now() - interval '364 days'", true);
    let forgotten = |ann: &mut Client| consolidate(ann, "now()")["forgotten"].clone();
    let there = |ann: &mut Client, id: Uuid| {
        !all::<Uuid>(ann, "SELECT id FROM engram.get($1)", &[&id]).is_empty()
    };
    // Events of long ago that were stored just now are not old.
    for i in 0..50 {
        ann.execute(
            "SELECT engram.add($1, 'episodic', 0.1, occurred_at => '2015-05-08')",
            &[&format!("at the fair we saw calf number {i}")],
        )
        .unwrap();
    }
    let fair = "SELECT count(*) FROM engram.search('which calf in May 2015?', match_count => 100,
                  filter => '{\"occurred_at\": {\"gte\": \"2015-01-01\", \"lt\": \"2016-01-01\"}}')";
    // Off by default: what is weak goes to the archive and can be read.
    assert_eq!(forgotten(&mut ann), json!(0));
    assert!(there(&mut ann, weak) && layer(&mut ann, weak) == "archive");
    ann.batch_execute("SELECT engram.configure('{\"forgetting\": true}')")
        .unwrap();
    assert_eq!(forgotten(&mut ann), json!(1));
    assert!(!there(&mut ann, weak) && there(&mut ann, pinned));
    assert_eq!(one::<i64>(&mut ann, fair, &[]), 50);
    // Its content is kept, and it comes back.
    let kept = "SELECT id FROM engram.list(include => ARRAY['forgotten'], match_count => 1000)";
    assert!(all::<Uuid>(&mut ann, kept, &[]).contains(&weak));
    ann.execute("SELECT engram.restore($1)", &[&weak]).unwrap();
    assert!(there(&mut ann, weak));
}

fn co_use(client: &mut Client, ids: &[Uuid], at: &str) {
    client
        .execute(&format!("SELECT engram.touch($1, at => {at})"), &[&ids])
        .unwrap();
}

fn related(client: &mut Client, id: Uuid, at: &str) -> Vec<Uuid> {
    all(
        client,
        &format!("SELECT id FROM engram.related($1, at => {at})"),
        &[&id],
    )
}

#[test]
fn what_is_used_together_is_associated() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let ids: Vec<Uuid> = (0..4)
        .map(|i| add(&mut ann, &format!("place {i}")))
        .collect();
    let links = "SELECT count(*), coalesce(min(count), 0), coalesce(max(count), 0),
                   coalesce(max(engram.link_strength(forward + backward)), 0) FROM engram.hebbian_links";
    let fold = |ann: &mut Client| {
        consolidate(ann, "now()");
        let row = ann.query_one(links, &[]).unwrap();
        (
            row.get::<_, i64>(0),
            row.get::<_, i32>(1),
            row.get::<_, i32>(2),
            row.get::<_, f64>(3),
        )
    };
    // One memory alone, or the same one twice, is no pair.
    co_use(&mut ann, &[ids[3]], "now()");
    co_use(&mut ann, &[ids[3], ids[3]], "now()");
    assert_eq!(fold(&mut ann).0, 0);
    // Three used once are three pairs that lead nowhere yet; from the third time on they do, both ways.
    let mut last = 0.0;
    for times in 1..=8 {
        co_use(&mut ann, &ids[..3], "now()");
        let (pairs, least, most, strength) = fold(&mut ann);
        assert_eq!((pairs, least, most), (3, times, times));
        // It grows with each use and stays below 1; it does not jump.
        assert!(
            strength > last && strength < 1.0 && strength - last < 0.5,
            "{strength}"
        );
        last = strength;
        for id in &ids[..3] {
            assert_eq!(
                related(&mut ann, *id, "now()").len(),
                if times < 3 { 0 } else { 2 }
            );
        }
    }
    // Erased, a memory takes along what hangs on it.
    ann.execute("SELECT engram.add_entities($1, ARRAY['Oban'])", &[&ids[0]])
        .unwrap();
    ann.execute("SELECT engram.set_embedding($1, '[1,0,0]')", &[&ids[0]])
        .unwrap();
    ann.execute("SELECT engram.erase(ARRAY[$1::uuid])", &[&ids[0]])
        .unwrap();
    let rest = "SELECT (SELECT count(*) FROM engram.hebbian_links WHERE $1 IN (a, b))
                  + (SELECT count(*) FROM engram.access_log WHERE memory_id = $1)
                  + (SELECT count(*) FROM engram.memory_state WHERE memory_id = $1)
                  + (SELECT count(*) FROM engram.embeddings WHERE memory_id = $1)
                  + (SELECT count(*) FROM engram.graph_links WHERE memory_id = $1)";
    assert_eq!(one::<i64>(&mut ann, rest, &[&ids[0]]), 0);
    assert_eq!(related(&mut ann, ids[1], "now()"), [ids[2]]);
    // Switched off: no links are made, or none are followed.
    ann.batch_execute("SELECT engram.configure('{\"link_threshold\": 999999}')")
        .unwrap();
    assert!(related(&mut ann, ids[1], "now()").is_empty());
    ann.batch_execute("SELECT engram.configure('{\"link_threshold\": 1, \"link_members\": 0}')")
        .unwrap();
    co_use(&mut ann, &[ids[1], ids[3]], "now()");
    assert_eq!(fold(&mut ann).0, 1);
}

#[test]
fn associations_fade_unless_they_are_used() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let day = |d: i32| format!("'2024-01-01Z'::timestamptz + interval '{d} days'");
    let ids: Vec<Uuid> = (0..4)
        .map(|_| past(&db, "ann", ("relational", 0.5), &day(0), false))
        .collect();
    // The half-life of upstream's 0.95 twice a day.
    ann.batch_execute("SELECT engram.configure('{\"link_half_life_days\": 6.757}')")
        .unwrap();
    near(
        one(
            &mut ann,
            "SELECT engram.link_decay(1, 86400, 6.757 * 86400)",
            &[],
        ),
        0.95 * 0.95,
        1e-4,
    );
    for _ in 0..3 {
        co_use(&mut ann, &ids[..2], &day(0));
    }
    // Four halvings leave a sixteenth of it; when there is next to nothing, the link is gone.
    near(
        one(&mut ann, "SELECT engram.link_decay(3, 4, 1)", &[]),
        3.0 / 16.0,
        1e-12,
    );
    let mut there = Vec::new();
    for d in (0..=90).step_by(10) {
        co_use(&mut ann, &ids[2..], &day(d));
        consolidate(&mut ann, &day(d));
        there.push(!related(&mut ann, ids[0], &day(d)).is_empty());
        // What is used every tenth day stays.
        let kept = related(&mut ann, ids[2], &day(d));
        assert_eq!(kept.len(), usize::from(d >= 20), "day {d}");
    }
    // 3 / 2^7.2 is less than 0.02 after 49 days.
    assert_eq!(
        there,
        [
            true, true, true, true, true, false, false, false, false, false
        ]
    );
    let left = "SELECT count(*) FROM engram.hebbian_links";
    assert_eq!(
        one::<i64>(&mut ann, left, &[]),
        1,
        "consolidate() has deleted the other"
    );
}

#[test]
fn search_follows_associations() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let [asked, linked, other] = [
        "the dentist moved",
        "parking is in Mill Lane",
        "a jar of honey",
    ]
    .map(|c| add(&mut ann, c));
    for _ in 0..3 {
        co_use(&mut ann, &[asked, linked], "now()");
    }
    let question = "SELECT id FROM engram.search('dentist')";
    assert_eq!(all::<Uuid>(&mut ann, question, &[]), [asked, linked]);
    ann.batch_execute("SELECT engram.configure('{\"link_weight\": 0}')")
        .unwrap();
    assert_eq!(all::<Uuid>(&mut ann, question, &[]), [asked]);
    let _ = other;
}

#[test]
fn feedback_moves_strengths_and_nothing_else() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let ids: Vec<Uuid> = (0..4)
        .map(|i| add(&mut ann, &format!("advice {i}")))
        .collect();
    // One moment for all readings.
    let at = &moment(&mut ann, "1 hour");
    let strength = |ann: &mut Client, id: Uuid| number(&state(ann, id, at), "working_strength");
    let give = |ann: &mut Client, id: Uuid, value: f64| -> i32 {
        one(
            ann,
            "SELECT engram.reinforce(ARRAY[$1::uuid], $2)",
            &[&id, &value],
        )
    };
    let first = strength(&mut ann, ids[3]);
    // Upstream guesses shares of 1, 2/3 and 1/2 for the last three; here the caller says.
    for (id, value) in ids.iter().zip([1.0, 0.667, 0.5]) {
        give(&mut ann, *id, value);
    }
    let up: Vec<f64> = ids.iter().map(|id| strength(&mut ann, *id)).collect();
    assert!(up[0] > up[1] && up[1] > up[2] && up[2] > up[3], "{up:?}");
    near(up[0] - first, 0.15, 1e-3);
    assert_eq!(up[3], first);
    // Neutral changes nothing, bad takes away, and never more than there is.
    let before = state(&mut ann, ids[3], at);
    give(&mut ann, ids[3], 0.0);
    assert_eq!(state(&mut ann, ids[3], at), before);
    give(&mut ann, ids[3], -1.0);
    let after = state(&mut ann, ids[3], at);
    for (key, sign) in [
        ("working_strength", -1.0),
        ("difficulty", 1.0),
        ("stability", -1.0),
        ("retention", -1.0),
    ] {
        assert!(
            (number(&after, key) - number(&before, key)) * sign > 0.0,
            "{key}: {before} {after}"
        );
    }
    assert_eq!(after["access_count"], before["access_count"]);
    for _ in 0..20 {
        give(&mut ann, ids[3], -1.0);
    }
    let down = state(&mut ann, ids[3], at);
    for key in ["strength", "retention", "retrievability"] {
        assert!((0.0..=1.0).contains(&number(&down, key)), "{key}: {down}");
    }
    // Importance is what somebody said it is, within its bounds.
    let importance = "SELECT count(DISTINCT importance) FROM engram.memories";
    assert_eq!(one::<i64>(&mut ann, importance, &[]), 1);
    for wrong in [
        format!("engram.reinforce(ARRAY['{}']::uuid[], 2)", ids[0]),
        "engram.add('x', importance => 7.5)".to_owned(),
        "engram.add('x', importance => -3)".to_owned(),
        "engram.add('x', 'gossip')".to_owned(),
    ] {
        assert_eq!(
            refused(&mut ann, &format!("SELECT {wrong}")),
            "22023",
            "{wrong}"
        );
    }
}

#[test]
fn recall_gives_what_was_asked_and_no_more() {
    let db = Database::new();
    let mut ann = db.user("ann");
    // Of nothing, nothing.
    assert!(all::<Uuid>(&mut ann, "SELECT id FROM engram.recall('anything')", &[]).is_empty());
    let exact = add(&mut ann, "PostgreSQL listens on port 5432");
    let other = add(&mut ann, "the database was slow yesterday");
    let opinion: Uuid = one(
        &mut ann,
        "SELECT engram.add('every database needs PostgreSQL', 'opinion')",
        &[],
    );
    add(&mut ann, "potatoes grow in the garden");
    // The exact term first; the more of the words, the better; none of them, nothing.
    let found = |ann: &mut Client, call: &str| -> Vec<Uuid> {
        all(ann, &format!("SELECT id FROM engram.recall({call})"), &[])
    };
    assert_eq!(found(&mut ann, "'what listens on 5432?'")[0], exact);
    assert_eq!(found(&mut ann, "'a database in PostgreSQL'")[0], opinion);
    assert!(found(&mut ann, "'quantum chromodynamics'").is_empty());
    // By type, and no more than asked for.
    assert_eq!(
        found(&mut ann, "'database PostgreSQL', types => ARRAY['opinion']"),
        [opinion]
    );
    assert_eq!(
        found(&mut ann, "'database PostgreSQL', match_count => 2").len(),
        2
    );
    assert!(found(&mut ann, "'database', types => ARRAY['causal']").is_empty());
    // A pin is no rank.
    ann.execute("SELECT engram.pin($1)", &[&other]).unwrap();
    assert_eq!(
        found(&mut ann, "'what listens on 5432 of the database?'")[0],
        exact
    );

    // Text comes back to the byte.
    let long = "0123456789".repeat(10_000);
    for text in [
        "it's \"so\"; '; DROP TABLE engram.memories; --",
        "👩‍👩‍👧‍👦 漢字かな 한국어",
        &long,
    ] {
        let id = add(&mut ann, text);
        assert_eq!(
            one::<String>(&mut ann, "SELECT content FROM engram.get($1)", &[&id]),
            text
        );
    }
    let nul = r#"SELECT engram.add_many('[{"content": "a\u0000b"}]')"#;
    assert_eq!(refused(&mut ann, nul), "22P05");
    assert!(found(&mut ann, "'漢字'").len() == 1);
}

#[test]
fn a_thousand_memories_are_no_burden() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let me: Uuid = one(&mut ann, "SELECT engram.current_user_id()", &[]);
    db.admin()
        .execute(
            "INSERT INTO engram.memories (workspace_id, content, type, importance, created_at)
             SELECT $1, 'topic ' || i % 50 || ' detail ' || i, 'episodic', (i % 10) / 10.0, '2024-01-01Z'::timestamptz + i * interval '1 hour'
             FROM generate_series(1, 1000) i",
            &[&me],
        )
        .unwrap();
    let mut quickest = |sql: &str| {
        (0..3)
            .map(|_| {
                let start = Instant::now();
                assert!(!ann.query(sql, &[]).unwrap().is_empty());
                start.elapsed()
            })
            .min()
            .unwrap()
    };
    assert!(
        quickest("SELECT FROM engram.recall('what was detail 77 of topic 27?')")
            < Duration::from_millis(500)
    );
    assert!(quickest("SELECT FROM engram.consolidate()") < Duration::from_secs(3));
}

#[test]
fn the_same_thing_twice_is_one_memory() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let say = |client: &mut Client, text: &str, vector: &str, importance: f64| -> Uuid {
        one(
            client,
            "SELECT engram.add($1, importance => $3, embedding => $2::text::extensions.vector)",
            &[&text, &vector, &importance],
        )
    };
    // Off, two rows; on, from the threshold on one, which has the higher importance and a use more.
    let [a, b] = [
        ("tea in the morning", "[1,0,0]"),
        ("morning tea", "[0.99,0.1,0]"),
    ]
    .map(|(text, vector)| say(&mut ann, text, vector, 0.3));
    assert_ne!(a, b);
    ann.batch_execute("SELECT engram.configure('{\"near_duplicate_threshold\": 0.95}')")
        .unwrap();
    let again = say(
        &mut ann,
        "tea, each and every morning, with a lot of milk in it",
        "[1,0.01,0]",
        0.8,
    );
    assert_eq!(again, a);
    let row: Value = one(&mut ann, "SELECT to_jsonb(m) FROM engram.get($1) m", &[&a]);
    assert_eq!(
        (&row["importance"], &row["access_count"]),
        (&json!(0.8), &json!(2))
    );
    assert_eq!(
        row["content"],
        json!("tea in the morning"),
        "the old wording stays, whatever the length"
    );
    assert_ne!(say(&mut ann, "a car", "[0,1,0]", 0.3), a);
    assert_ne!(
        say(&mut db.user("bob"), "tea in the morning", "[1,0,0]", 0.3),
        a
    );
    // A dozen times said is a dozen uses.
    for _ in 0..10 {
        say(&mut ann, "Tea in the MORNING", "[1,0,0]", 0.1);
    }
    assert_eq!(state(&mut ann, a, "now()")["access_count"], json!(12));
}

#[test]
fn corrections_replace_or_outrank() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let found = |ann: &mut Client| -> Vec<Uuid> {
        all(
            ann,
            "SELECT id FROM engram.recall('where does Mara live?')",
            &[],
        )
    };
    let a: Uuid = one(
        &mut ann,
        "SELECT engram.add('Mara lives in Paris', 'relational', 0.2)",
        &[],
    );
    // A correction has the type of what it corrects and is important.
    let b: Uuid = one(
        &mut ann,
        "SELECT engram.supersede($1, content => 'Mara lives in Rome')",
        &[&a],
    );
    let row: Value = one(&mut ann, "SELECT to_jsonb(m) FROM engram.get($1) m", &[&b]);
    assert_eq!(
        (&row["type"], &row["importance"]),
        (&json!("relational"), &json!(0.5))
    );
    let c: Uuid = one(
        &mut ann,
        "SELECT engram.supersede($1, content => 'Mara lives in Oslo')",
        &[&b],
    );
    // The chain has one head; what is superseded is not recalled, and comes back.
    assert_eq!(found(&mut ann), [c]);
    assert_eq!(one::<Uuid>(&mut ann, "SELECT engram.latest($1)", &[&a]), c);
    // Itself, a circle, what is unknown, what is another's.
    let theirs = add(&mut db.user("bob"), "Mara lives nowhere");
    for (new, old, code) in [
        (c, c, "22023"),
        (a, c, "22023"),
        (Uuid::nil(), c, "PT404"),
        (theirs, c, "PT404"),
    ] {
        assert_eq!(
            refused(
                &mut ann,
                &format!("SELECT engram.supersede('{old}', '{new}')")
            ),
            code
        );
    }
    ann.execute("SELECT engram.unsupersede($1)", &[&a]).unwrap();
    assert_eq!(found(&mut ann).len(), 2);
    // Contradicted, it comes after the correction and tells so.
    ann.execute("SELECT engram.contradict($1, $2)", &[&c, &a])
        .unwrap();
    assert_eq!(found(&mut ann), [c, a]);
    let by: Vec<Uuid> = one(
        &mut ann,
        "SELECT contradicted_by FROM engram.memory_overview WHERE id = $1",
        &[&a],
    );
    assert_eq!(by, [c]);
    // Forgotten, it is not recalled either.
    ann.execute("SELECT engram.forget($1)", &[&c]).unwrap();
    assert_eq!(found(&mut ann), [a]);
}

#[test]
fn users_do_not_share() {
    let db = Database::new();
    let (mut ann, mut bob) = (db.user("ann"), db.user("bob"));
    let mine: Uuid = one(
        &mut ann,
        "SELECT engram.add('the key is under the mat', entities => ARRAY['Ines'])",
        &[],
    );
    one::<Uuid>(
        &mut ann,
        "SELECT engram.add('call about the boat', entities => ARRAY['ines'])",
        &[],
    );
    let theirs: Uuid = one(
        &mut bob,
        "SELECT engram.add('the key is in the shed', entities => ARRAY['INES'])",
        &[],
    );
    let keys = "SELECT id FROM engram.search('key')";
    assert_eq!(all::<Uuid>(&mut ann, keys, &[]), [mine]);
    assert_eq!(all::<Uuid>(&mut bob, keys, &[]), [theirs]);
    let into = format!(
        "SELECT engram.add('planted', workspace => '{}')",
        one::<Uuid>(&mut bob, "SELECT engram.current_user_id()", &[])
    );
    assert_eq!(refused(&mut ann, &into), "42501");
    assert_eq!(
        one::<i32>(&mut ann, "SELECT engram.touch(ARRAY[$1::uuid])", &[&theirs]),
        0
    );
    // An entity that two memories mention is there once, and each user has one of their own.
    for (client, memories) in [(&mut ann, 2i64), (&mut bob, 1)] {
        let named: Vec<i64> = all(client, "SELECT memories FROM engram.entities('ines')", &[]);
        assert_eq!(named, [memories]);
    }
    // Counts: by type and layer, pinned, and of uses at least one each.
    ann.execute("SELECT engram.pin($1)", &[&mine]).unwrap();
    let stats: Value = one(&mut ann, "SELECT to_jsonb(s) FROM engram.stats() s", &[]);
    for (key, value) in [
        ("memories", json!(2)),
        ("pinned", json!(1)),
        ("by_type", json!({"factual": 2})),
        ("by_layer", json!({"core": 1, "working": 1})),
    ] {
        assert_eq!(stats[key], value, "{key}");
    }
    let uses = "SELECT sum(access_count)::bigint FROM engram.list()";
    assert_eq!(one::<i64>(&mut ann, uses, &[]), 2);
}
