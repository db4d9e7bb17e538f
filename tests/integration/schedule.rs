//! Consolidation: it does not matter how often it runs, or whether it runs to its end; it says beforehand
//! what it will do, writes only what changes, and loses nobody's changes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use postgres::Client;
use postgres::types::ToSql;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cluster::{Cluster, Database, Installation, json_rows, one};

fn log_in(client: &mut Client, user: &str) {
    client
        .execute("SELECT set_config('engram.user_id', $1, false)", &[&user])
        .unwrap();
}

/// Where two readings differ by more than rounding, if they do.
fn difference(a: &Value, b: &Value, tolerance: f64, path: &str) -> Option<String> {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => {
            let (x, y) = (x.as_f64().unwrap(), y.as_f64().unwrap());
            let same = (x - y).abs() <= tolerance * x.abs().max(1.0);
            (!same).then(|| format!("{path}: {x} and {y}"))
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => x
            .iter()
            .zip(y)
            .enumerate()
            .find_map(|(i, (x, y))| difference(x, y, tolerance, &format!("{path}[{i}]"))),
        (Value::Object(x), Value::Object(y)) if x.len() == y.len() => {
            x.iter().find_map(|(k, x)| {
                difference(
                    x,
                    y.get(k).unwrap_or(&Value::Null),
                    tolerance,
                    &format!("{path}.{k}"),
                )
            })
        }
        _ => (a != b).then(|| format!("{path}: {a} and {b}")),
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

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;
const MEMORIES: usize = 60;
const TYPES: [&str; 7] = [
    "factual",
    "episodic",
    "relational",
    "emotional",
    "procedural",
    "opinion",
    "causal",
];

/// The same ids in every workspace: they decide what is otherwise equal.
fn id(n: usize) -> Uuid {
    // In another order than the memories were stored.
    let n = (n as u128 * 37) % 61;
    Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + n)
}

#[derive(Clone, Debug)]
enum What {
    Store {
        n: usize,
        kind: &'static str,
        importance: f64,
        pinned: bool,
    },
    Touch {
        ids: Vec<Uuid>,
        kind: &'static str,
        gain: Option<f64>,
    },
    Reinforce {
        ids: Vec<Uuid>,
        value: f64,
    },
    Rate {
        id: Uuid,
        rating: i32,
    },
}

/// What happens in a year: (second at which it is told, second at which it was, what), in that order.
/// `late`: uses are told up to ten days after they were.
fn history(seed: u64, late: bool) -> Vec<(i64, i64, What)> {
    let mut dice = Dice(seed);
    let mut out = Vec::new();
    let mut stored = Vec::new();
    for n in 0..MEMORIES {
        // Most of them in the first months, in no order.
        let at =
            (dice.roll(if n % 3 == 0 { 360 } else { 60 }) as i64) * DAY + dice.roll(86_400) as i64;
        let what = What::Store {
            n,
            kind: TYPES[n % TYPES.len()],
            importance: dice.roll(11) as f64 / 10.0,
            pinned: n % 20 == 19,
        };
        stored.push(at);
        out.push((at, at, what));
    }
    for _ in 0..450 {
        let at = dice.roll(YEAR as usize) as i64;
        let told = at
            + if late {
                dice.roll(10 * DAY as usize) as i64
            } else {
                0
            };
        // Groups of neighbours, so that pairs come together again and nobody has many partners.
        let first = dice.roll(MEMORIES);
        let ids: Vec<Uuid> = (0..1 + dice.roll(5))
            .map(|_| (first + dice.roll(5)) % MEMORIES)
            .filter(|n| stored[*n] < at)
            .map(id)
            .collect();
        let (Some(first), true) = (ids.first().copied(), told < YEAR) else {
            continue;
        };
        let what = match dice.roll(10) {
            0 => What::Rate {
                id: first,
                rating: 1 + dice.roll(4) as i32,
            },
            1 => What::Reinforce {
                ids,
                value: dice.roll(9) as f64 / 4.0 - 1.0,
            },
            2 => What::Touch {
                ids,
                kind: "shown",
                gain: Some(0.1),
            },
            3 => What::Touch {
                ids,
                kind: "used",
                gain: Some(3.0),
            },
            _ => What::Touch {
                ids,
                kind: "used",
                gain: None,
            },
        };
        out.push((told, at, what));
    }
    out.sort_by_key(|(told, at, _)| (*told, *at));
    out
}

/// A moment of the simulated year, $1 being its second.
const MOMENT: &str = "(SELECT a FROM start) + $1 * interval '1 second'";

fn happen(app: &mut Client, admin: &mut Client, workspace: Uuid, at: i64, what: &What) {
    let sql = |call: &str| {
        format!(
            "WITH start AS (SELECT begun AS a FROM year) SELECT {}",
            call.replace("$1", MOMENT).replace("$1", "$1::bigint")
        )
    };
    let at: &(dyn ToSql + Sync) = &at;
    match what {
        What::Store { n, kind, importance, pinned } => {
            // Equal words of equal weight, so that everything else decides.
            let content = format!("harbour note of {kind} number{n}");
            admin
                .execute(
                    "INSERT INTO engram.memories (workspace_id, id, content, type, importance, pinned, created_at)
                     SELECT $2, $3, $4, $5, $6, $7, begun + $1::bigint * interval '1 second' FROM year",
                    &[at, &workspace, &id(*n), &content, kind, importance, pinned],
                )
                .map(|_| ())
        }
        What::Touch { ids, kind, gain } => app
            .execute(&sql("engram.touch($2, $3, $4, at => $1)"), &[at, ids, kind, gain])
            .map(|_| ()),
        What::Reinforce { ids, value } => app
            .execute(&sql("engram.reinforce($2, $3, at => $1)"), &[at, ids, value])
            .map(|_| ()),
        What::Rate { id, rating } => app
            .execute(&sql("engram.rate($2, $3, at => $1)"), &[at, id, rating])
            .map(|_| ()),
    }
    .unwrap_or_else(|e| panic!("{what:?}: {e:?}"));
}

fn consolidate(app: &mut Client, at: i64, options: &str) -> Value {
    one(
        app,
        &format!(
            "SELECT to_jsonb(c) FROM year, engram.consolidate(at => begun + $1::bigint * interval '1 second'{options}) c"
        ),
        &[&at],
    )
}

/// How often, and how, a workspace is consolidated.
struct Schedule {
    user: &'static str,
    /// Seconds to the next run after one.
    next: fn(&mut Dice) -> Option<i64>,
    batch: Option<i32>,
}

const SCHEDULES: [Schedule; 5] = [
    Schedule {
        user: "never",
        next: |_| None,
        batch: None,
    },
    Schedule {
        user: "sixhourly",
        next: |_| Some(6 * HOUR),
        batch: None,
    },
    Schedule {
        user: "daily",
        next: |_| Some(DAY),
        batch: Some(2),
    },
    Schedule {
        user: "weekly",
        next: |_| Some(7 * DAY),
        batch: None,
    },
    Schedule {
        user: "anytime",
        next: |dice| Some(1 + dice.roll(40 * DAY as usize) as i64),
        batch: Some(1),
    },
];

/// Everything that a user sees at the end of the year and later.
fn readings(app: &mut Client) -> BTreeMap<String, Value> {
    let mut out = BTreeMap::new();
    let mut read = |name: &str, sql: &str| {
        let found = json_rows(app, sql, &[]);
        out.insert(name.to_owned(), Value::Array(found));
    };
    for (when, at) in [
        ("end", "(SELECT ended FROM year)"),
        ("later", "(SELECT ended + interval '60 days' FROM year)"),
    ] {
        let every = |call: &str| {
            format!(
                "SELECT m.id, r.* FROM engram.memories m, {} r ORDER BY m.id",
                call.replace("AT", at)
            )
        };
        read(
            &format!("{when} retention"),
            &every("engram.retention(m.id, AT)"),
        );
        read(
            &format!("{when} activation"),
            &every("engram.activation(m.id, AT)"),
        );
        read(
            &format!("{when} links"),
            &every("engram.links(m.id, AT)").replace("r ORDER BY m.id", "r ORDER BY m.id, r.other"),
        );
        read(
            &format!("{when} related"),
            &every("engram.related(m.id, hops => 2, match_count => 1000, at => AT)")
                .replace("SELECT m.id, r.*", "SELECT m.id AS source, r.*")
                .replace("ORDER BY m.id", "ORDER BY m.id, r.id"),
        );
        for (what, query) in [
            ("harbour", "'harbour'"),
            ("opinion", "'opinion number7'"),
            ("nothing asked", "NULL"),
        ] {
            // In order of rank.
            read(
                &format!("{when} search {what}"),
                &format!(
                    "SELECT id, score, explain FROM engram.search({query}, match_count => 1000, explain => true, at => {at})"
                ),
            );
        }
        read(
            &format!("{when} recalled layers"),
            &format!(
                "SELECT id FROM engram.search('harbour', filter => '{{\"layer\": \"core\"}}', match_count => 100, at => {at})"
            ),
        );
    }
    read(
        "list",
        "SELECT id, layer, access_count, last_accessed_at FROM engram.list(match_count => 1000) ORDER BY id",
    );
    read("stats", "SELECT by_layer FROM engram.stats()");
    read(
        "overview",
        "SELECT * FROM (SELECT to_jsonb(o) - 'workspace_id' - 'updated_at' AS o FROM engram.memory_overview o) x ORDER BY o ->> 'id'",
    );
    out
}

fn assert_same(users: &[(&str, BTreeMap<String, Value>)], tolerance: impl Fn(&str) -> f64) {
    let (first, wanted) = &users[0];
    for (user, got) in &users[1..] {
        for (name, wanted) in wanted {
            if let Some(what) = difference(wanted, &got[name], tolerance(name), name) {
                panic!("{first} and {user} differ in {what}");
            }
        }
    }
}

/// Lives through a year under every schedule, and compares.
fn a_year(seed: u64, late: bool) {
    let db = Database::new();
    let (mut app, mut admin) = (db.connect("app"), db.admin());
    admin
        .batch_execute(
            "CREATE TABLE year AS SELECT date_trunc('hour', now()) - interval '366 days' AS begun,
               date_trunc('hour', now()) - interval '1 day' AS ended;
             GRANT SELECT ON year TO app;
             -- Everything fades so fast that a year sees all of it.
             UPDATE engram.settings SET mu2 = 0.02, alpha = 0.05, demote = 0.15, link_half_life_days = 6",
        )
        .unwrap();
    let events = history(seed, late);
    let mut moved = Vec::new();
    for schedule in &SCHEDULES {
        log_in(&mut app, schedule.user);
        let workspace: Uuid = one(&mut app, "SELECT engram.current_user_id()", &[]);
        // Writers fold by chance as well; one of them never, one as soon as something waits.
        if let Some(threshold) = match schedule.user {
            "never" => Some(100_000),
            "anytime" => Some(1),
            _ => None,
        } {
            admin
                .execute(
                    "INSERT INTO engram.settings (workspace_id, fold_threshold) VALUES ($1, $2)",
                    &[&workspace, &threshold],
                )
                .unwrap();
        }
        let mut dice = Dice(seed + 1);
        let mut due = (schedule.next)(&mut dice);
        let mut totals = [0i64; 3];
        let (mut run, mut events) = (0, events.iter().peekable());
        loop {
            let told = events.peek().map_or(YEAR, |(told, ..)| *told);
            if let Some(at) = due.filter(|at| *at <= told.min(YEAR)) {
                run += 1;
                let rehearsed =
                    (run % 7 == 0).then(|| consolidate(&mut app, at, ", dry_run => true"));
                let mut report = Vec::new();
                loop {
                    let batch = schedule
                        .batch
                        .map_or(String::new(), |n| format!(", batch_size => {n}"));
                    report.push(consolidate(&mut app, at, &batch));
                    if report.last().unwrap()["done"] == true {
                        break;
                    }
                }
                let sum = |key: &str| report.iter().map(|r| r[key].as_i64().unwrap()).sum::<i64>();
                if let Some(rehearsed) = rehearsed {
                    for (key, value) in rehearsed.as_object().unwrap() {
                        if key != "done" {
                            assert_eq!(
                                value.as_i64(),
                                Some(sum(key)),
                                "{}: {key}: {rehearsed} {report:?}",
                                schedule.user
                            );
                        }
                    }
                }
                for (total, key) in totals.iter_mut().zip(["promoted", "demoted", "archived"]) {
                    *total += sum(key);
                }
                due = (schedule.next)(&mut dice).map(|wait| at + wait);
            } else if let Some((_, at, what)) = events.next() {
                happen(&mut app, &mut admin, workspace, *at, what);
            } else {
                break;
            }
        }
        moved.push((schedule.user, totals));
    }
    assert!(
        moved[1].1.iter().all(|n| *n >= 2),
        "something happens, in all directions: {moved:?}"
    );

    // Late uses are added in another order, and counters of heat have 24 bits.
    let tolerance = |name: &str| match late {
        true if ["activation", "search", "overview"]
            .iter()
            .any(|n| name.contains(n)) =>
        {
            1e-6
        }
        _ => 1e-9,
    };
    let collect = |app: &mut Client| -> Vec<(&str, BTreeMap<String, Value>)> {
        app.batch_execute("BEGIN").unwrap();
        let all = SCHEDULES
            .iter()
            .map(|schedule| {
                log_in(app, schedule.user);
                (schedule.user, readings(app))
            })
            .collect();
        app.batch_execute("COMMIT").unwrap();
        all
    };
    let waiting: i64 = one(
        &mut admin,
        "SELECT max(n) FROM (SELECT count(*) AS n FROM engram.access_queue GROUP BY workspace_id) x",
        &[],
    );
    assert!(
        waiting > 200,
        "one workspace has never folded anything: {waiting}"
    );
    if !late {
        assert_same(&collect(&mut app), tolerance);
    }

    // One last run in each, then what is stored is the same as well.
    for schedule in &SCHEDULES {
        log_in(&mut app, schedule.user);
        consolidate(&mut app, YEAR, "");
    }
    let after = collect(&mut app);
    assert_same(&after, tolerance);
    let layers: Vec<&str> = after[0].1["end retention"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["layer"].as_str().unwrap())
        .collect();
    assert!(
        ["working", "core", "archive"]
            .iter()
            .all(|l| layers.contains(l)),
        "{layers:?}"
    );
    let mut stored = Vec::new();
    for schedule in &SCHEDULES {
        log_in(&mut app, schedule.user);
        let wrong: i64 = one(
            &mut app,
            "SELECT count(*) FROM year, engram.memories m, engram.retention(m.id, ended) r WHERE m.layer <> r.layer",
            &[],
        );
        assert_eq!(
            wrong, 0,
            "memories.layer shows the layer of the moment of the last run"
        );
        let mut tables = BTreeMap::new();
        for (name, sql) in [
            (
                "links",
                "SELECT a, b, count, linked_at, engram.link_decay(forward, k.s, 518400) AS forward, engram.link_decay(backward, k.s, 518400) AS backward
                 FROM engram.hebbian_links, year, LATERAL (SELECT date_part('epoch', ended - linked_at) AS s) k ORDER BY a, b",
            ),
            (
                "states",
                "SELECT memory_id, access_count, last_accessed_at, working_strength, core_strength, layer, stability, difficulty
                 FROM engram.memory_state ORDER BY memory_id",
            ),
            ("log", "SELECT memory_id, accessed_at, kind, gain, rating, place, pair_gain FROM engram.access_log ORDER BY 1, 2, 3, 4, 6"),
            ("memories", "SELECT id, layer, version, created_at = updated_at AS unchanged FROM engram.memories ORDER BY id"),
        ] {
            tables.insert(name.to_owned(), Value::Array(json_rows(&mut app, sql, &[])));
        }
        stored.push((schedule.user, tables));
    }
    assert!(stored[0].1["links"].as_array().unwrap().len() > 20);
    assert_same(&stored, |_| 1e-9);

    // What changes from here on starts from the same, whatever memories.layer showed before: some change
    // now, without and with a run in between, and are read a month later.
    app.batch_execute("BEGIN").unwrap();
    let mut changed = Vec::new();
    for schedule in &SCHEDULES {
        log_in(&mut app, schedule.user);
        if schedule.user == "daily" {
            app.batch_execute("SELECT engram.consolidate()").unwrap();
        }
        for n in 0..MEMORIES {
            let sql = match n % 5 {
                0 => "SELECT engram.pin($1)",
                1 => "SELECT engram.unpin($1)",
                2 => "SELECT engram.update($1, importance => 0.65)",
                3 => "SELECT engram.touch(ARRAY[$1::uuid])",
                _ => {
                    "SELECT engram.contradict(id, $1) FROM engram.memories WHERE content LIKE '%number0'"
                }
            };
            app.execute(sql, &[&id(n)]).unwrap();
        }
        app.batch_execute("SELECT engram.unpin(id) FROM engram.memories WHERE pinned")
            .unwrap();
        changed.push((
            schedule.user,
            BTreeMap::from([(
                "retention".to_owned(),
                Value::Array(json_rows(&mut app, "SELECT m.id, r.* FROM engram.memories m, engram.retention(m.id, now() + interval '30 days') r ORDER BY m.id", &[])),
            )]),
        ));
    }
    app.batch_execute("ROLLBACK").unwrap();
    assert_same(&changed, |_| 1e-9);
}

#[test]
fn how_often_a_job_runs_changes_nothing() {
    a_year(1, false);
}

#[test]
fn nor_does_it_when_uses_come_to_light_late() {
    a_year(3, true);
}

/// What was used lived by the settings of that time, whether or not somebody had folded it when these changed.
#[test]
fn settings_change_nothing_that_was_before() {
    let db = Database::new();
    let mut admin = db.admin();
    let mut told = Vec::new();
    for user in ["ann", "bob"] {
        let mut app = db.user(user);
        let workspace = me(&mut app);
        let ids: Vec<Uuid> = ["one", "two"]
            .map(|content| {
                one(
                    &mut admin,
                    "INSERT INTO engram.memories (workspace_id, content, type, importance, created_at)
                     VALUES ($1, $2, 'episodic', 0.5, now() - interval '60 days') RETURNING id",
                    &[&workspace, &content],
                )
            })
            .into();
        let mut states = Vec::new();
        for change in [
            "SELECT engram.apply_preset('researcher')",
            "SELECT engram.configure('{\"strength_gain\": 5, \"link_members\": 0}')",
        ] {
            app.execute(
                "SELECT engram.touch($1, at => now() - interval '1 hour')",
                &[&ids],
            )
            .unwrap();
            if user == "bob" {
                app.batch_execute("SELECT engram.consolidate()").unwrap();
            }
            app.batch_execute(change).unwrap();
            let sql = "SELECT jsonb_build_object('retention', to_jsonb(r) - 'last_accessed_at', 'links', (SELECT count(*) FROM engram.links($1)))
                       FROM engram.retention($1, '2030-01-01') r";
            states.push(one::<Value>(&mut app, sql, &[&ids[0]]));
        }
        // Nor do the defaults of all, which nobody's own settings are.
        app.batch_execute("SELECT engram.configure('{\"strength_gain\": null}')")
            .unwrap();
        told.push(states);
    }
    for (a, b) in told[0].iter().zip(&told[1]) {
        assert_eq!(difference(a, b, 1e-3, "state"), None, "{a} {b}");
    }

    let mut cat = db.user("cat");
    let id: Uuid = one(&mut cat, "SELECT engram.add('three')", &[]);
    cat.execute("SELECT engram.touch(ARRAY[$1::uuid])", &[&id])
        .unwrap();
    let strength = "SELECT working_strength FROM engram.retention($1, '2030-01-01')";
    let before: f64 = one(&mut cat, strength, &[&id]);
    admin
        .batch_execute("SELECT engram.configure('{\"strength_gain\": 5}', '00000000-0000-0000-0000-000000000000')")
        .unwrap();
    let after: f64 = one(&mut cat, strength, &[&id]);
    assert!(
        (before - after).abs() < 1e-9 * before.abs().max(1e-300),
        "{before} {after}"
    );
}

/// Who waits for somebody else's settings holds nothing meanwhile that this one may want.
#[test]
fn two_who_change_settings_do_not_lock_each_other_out() {
    let db = Database::new();
    let (mut ann, mut other, mut watch) = (db.user("ann"), db.user("ann"), db.admin());
    let id: Uuid = one(&mut ann, "SELECT engram.add('one')", &[]);
    ann.batch_execute("BEGIN; SELECT engram.configure('{\"decay\": 0.45}')")
        .unwrap();
    other
        .execute("SELECT engram.touch(ARRAY[$1::uuid])", &[&id])
        .unwrap();
    let waiting = thread::spawn(move || {
        other
            .batch_execute("SELECT engram.configure('{\"decay\": 0.46}')")
            .unwrap();
        one::<f64>(
            &mut other,
            "SELECT decay FROM engram.settings WHERE workspace_id = engram.current_user_id()",
            &[],
        )
    });
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    let started = std::time::Instant::now();
    while one::<i64>(&mut watch, busy, &[]) == 0 {
        assert!(started.elapsed().as_secs() < 30 && !waiting.is_finished());
    }
    ann.execute("SELECT engram.pin($1)", &[&id]).unwrap();
    ann.batch_execute("COMMIT").unwrap();
    assert_eq!(waiting.join().unwrap(), 0.46);
}

/// A moment in the past counts what came later as it does once it is folded, by every reader.
#[test]
fn the_past_is_the_same_before_and_after_a_fold() {
    let db = Database::new();
    let mut app = db.user("ann");
    let ids: Vec<Uuid> = ["red apple", "red brick", "red cloud"]
        .map(|content| one(&mut app, "SELECT engram.add($1)", &[&content]))
        .into();
    for (used, times) in [(&ids[..2], 3), (&ids[2..], 30)] {
        app.execute(
            "SELECT count(engram.touch($1, at => now() - interval '1 day')) FROM generate_series(1, $2)",
            &[&used, &times],
        )
        .unwrap();
    }
    let told = |app: &mut Client| -> Vec<Value> {
        [
            "SELECT jsonb_agg(jsonb_build_array(s.content, s.score)) FROM engram.search('red', at => now() - interval '2 days') s, LATERAL (SELECT $1::uuid) x",
            "SELECT coalesce(jsonb_agg(to_jsonb(r) - 'created_at'), '[]') FROM engram.related($1, at => now() - interval '2 days') r",
            "SELECT coalesce(jsonb_agg(to_jsonb(l)), '[]') FROM engram.links($1, at => now() - interval '2 days') l",
            "SELECT coalesce(jsonb_agg(to_jsonb(s) ORDER BY s.memory_id), '[]') FROM engram.spread(NULL, ARRAY[$1::uuid], at => now() - interval '2 days') s",
        ]
        .map(|sql| one(app, sql, &[&ids[0]]))
        .into()
    };
    let before = told(&mut app);
    app.batch_execute("SELECT engram.consolidate()").unwrap();
    let after = told(&mut app);
    for (a, b) in before.iter().zip(&after) {
        assert_eq!(difference(a, b, 1e-6, "told"), None, "{a} {b}");
    }
}

/// Uses that count against a memory leave it where its strengths say, rated or not.
#[test]
fn what_has_counted_against_a_memory_archives_it() {
    let db = Database::new();
    let mut app = db.user("ann");
    let workspace = me(&mut app);
    let ids: Vec<Uuid> = ["one", "two"]
        .map(|content| {
            one(
                &mut db.admin(),
                "INSERT INTO engram.memories (workspace_id, content, type, importance, created_at)
                 VALUES ($1, $2, 'episodic', 1, now() - interval '100 days') RETURNING id",
                &[&workspace, &content],
            )
        })
        .into();
    app.execute(
        "SELECT count(engram.reinforce($1, -1, at => now() - interval '80 days')) FROM generate_series(1, 20)",
        &[&ids],
    )
    .unwrap();
    app.execute(
        "SELECT engram.rate($1, 2, at => now() - interval '60 days')",
        &[&ids[1]],
    )
    .unwrap();
    for id in &ids {
        let sql = "SELECT to_jsonb(r) FROM engram.retention($1) r";
        let state: Value = one(&mut app, sql, &[id]);
        assert_eq!(state["layer"], "archive", "{state}");
        for key in ["working_strength", "core_strength", "strength"] {
            assert_eq!(state[key], 0.0, "{state}");
        }
    }
}

/// What every table of engram holds, where, and by which transactions.
fn fingerprint(admin: &mut Client) -> BTreeMap<String, String> {
    let tables = json_rows(
        admin,
        "SELECT relname FROM pg_class WHERE relnamespace = 'engram'::regnamespace AND relkind = 'r'",
        &[],
    );
    assert!(tables.len() > 15);
    tables
        .iter()
        .map(|table| {
            let table = table["relname"].as_str().unwrap();
            let sql = format!(
                "SELECT coalesce(md5(string_agg(concat(x.ctid, x.xmin, x), ' ' ORDER BY x.ctid)), '') FROM engram.{table} x"
            );
            (table.to_owned(), one(admin, &sql, &[]))
        })
        .collect()
}

/// `n` memories of last year, most of which a run will move.
fn fill(admin: &mut Client, workspace: Uuid, n: i32) {
    admin
        .execute(
            "INSERT INTO engram.memories (workspace_id, content, type, importance, created_at)
             SELECT $1, 'entry ' || i, (ARRAY['episodic', 'opinion', 'causal'])[1 + i % 3], (i % 11) / 10.0,
                    now() - interval '300 days' + i % 97 * interval '1 day'
             FROM generate_series(1, $2) i",
            &[&workspace, &n],
        )
        .unwrap();
}

fn me(app: &mut Client) -> Uuid {
    one(app, "SELECT engram.current_user_id()", &[])
}

/// Rows of memories, states and links that this session has written lately; within a transaction it only grows.
fn written(app: &mut Client) -> [i64; 3] {
    ["memories", "memory_state", "hebbian_links"].map(|table| {
        one(
            app,
            "SELECT n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_xact_all_tables WHERE relid = $1::text::regclass",
            &[&format!("engram.{table}")],
        )
    })
}

#[test]
fn a_run_says_beforehand_what_it_will_do_and_does_it_once() {
    let db = Database::new();
    let (mut app, mut admin) = (db.user("ann"), db.admin());
    let workspace = me(&mut app);
    fill(&mut admin, workspace, 150);
    app.batch_execute("SELECT engram.configure('{\"forgetting\": true, \"forget_threshold\": 0.001, \"link_limit\": 2, \"link_threshold\": 6, \"demote\": 0.2}')").unwrap();
    let used = |app: &mut Client, days: i32| {
        app.execute(
            "SELECT engram.touch((SELECT array_agg(id ORDER BY md5(concat_ws(' ', id, i, $1::float8))) FROM (
                 SELECT id, row_number() OVER (ORDER BY content) AS n FROM engram.memories WHERE type = 'causal') m WHERE n <= 22),
               gain => 1 + i / 7.0,
               at => now() - $1 * interval '1 day' - i * interval '1 minute')
             FROM generate_series(1, 40) i",
            &[&f64::from(days)],
        )
        .unwrap();
    };
    // One weak link that is old enough to be followed, among strong ones that are too young.
    app.execute(
        "SELECT engram.touch(ARRAY[o[a], o[b]], gain => gain, at => now() - interval '200 days')
         FROM (SELECT array_agg(id ORDER BY content) AS o FROM engram.memories WHERE type = 'opinion') m,
           (VALUES (1, 2, 0.2, 6), (1, 3, 20, 1), (1, 4, 20, 1), (2, 3, 20, 1), (2, 4, 20, 1)) AS v (a, b, gain, calls),
           generate_series(1, calls)",
        &[],
    )
    .unwrap();
    used(&mut app, 200);
    let mut seen = [0i64; 6];
    for days in [150, 100, 60, 0] {
        // With uses that wait, and without.
        if days != 60 {
            used(&mut app, days + 10);
        }
        let at = format!("at => now() - interval '{days} days'");
        let run = |app: &mut Client, options: &str| -> Value {
            one(
                app,
                &format!("SELECT to_jsonb(c) FROM engram.consolidate({at}{options}) c"),
                &[],
            )
        };
        let related = |app: &mut Client| {
            let sql = format!(
                "SELECT m.id AS source, r.id, r.score FROM engram.memories m, engram.related(m.id, match_count => 1000, {at}) r
                 WHERE m.deleted_at IS NULL ORDER BY 1, 2"
            );
            json_rows(app, &sql, &[])
        };
        for batch in [", batch_size => 7", ""] {
            let before = fingerprint(&mut admin);
            let rehearsed = run(&mut app, &format!("{batch}, dry_run => true"));
            assert_eq!(fingerprint(&mut admin), before, "a dry run writes nothing");
            assert_eq!(
                run(&mut app, &format!("{batch}, dry_run => true")),
                rehearsed
            );
            // What is written is what changes: a row of memories each, and no state when nothing waited.
            app.batch_execute("BEGIN").unwrap();
            let earlier = written(&mut app);
            let linked = related(&mut app);
            let done = run(&mut app, batch);
            let n = |key: &str| done[key].as_i64().unwrap();
            for (table, wanted) in written(&mut app)
                .iter()
                .zip(earlier)
                .zip([
                    Some(n("promoted") + n("demoted") + n("archived") + n("forgotten")),
                    (n("folded") == 0).then_some(0),
                    (n("folded") == 0).then_some(n("links_pruned")),
                ])
                .map(|((now, earlier), wanted)| (now - earlier, wanted))
            {
                assert!(
                    wanted.is_none_or(|wanted| wanted == table),
                    "{table}, not {wanted:?}: {done}"
                );
            }
            assert_eq!(done, rehearsed);
            // Of links that are pruned nobody saw anything.
            let left: Vec<Uuid> = app
                .query(
                    "SELECT id FROM engram.memories WHERE deleted_at IS NULL",
                    &[],
                )
                .unwrap()
                .iter()
                .map(|row| row.get(0))
                .collect();
            let kept = linked.into_iter().filter(|link| {
                ["source", "id"]
                    .iter()
                    .all(|end| left.iter().any(|id| link[*end] == json!(id.to_string())))
            });
            let (before, after) = (
                Value::Array(kept.collect()),
                Value::Array(related(&mut app)),
            );
            assert_eq!(difference(&before, &after, 1e-12, "related"), None);
            app.batch_execute("COMMIT").unwrap();
            for (sum, key) in seen.iter_mut().zip([
                "folded",
                "promoted",
                "demoted",
                "archived",
                "forgotten",
                "links_pruned",
            ]) {
                *sum += n(key);
            }
            if batch.is_empty() {
                // A second run finds nothing, and writes nothing but when it ran.
                let before = fingerprint(&mut admin);
                let again = run(&mut app, "");
                assert_eq!(
                    again,
                    json!({"folded": 0, "promoted": 0, "demoted": 0, "archived": 0, "forgotten": 0, "links_pruned": 0, "skipped": 0, "done": true})
                );
                let after = fingerprint(&mut admin);
                let written: Vec<&String> =
                    before.keys().filter(|t| before[*t] != after[*t]).collect();
                assert_eq!(written, ["maintenance"]);
            }
        }
    }
    // Everything has happened at least once.
    assert!(seen.iter().all(|n| *n > 0), "{seen:?}");
}

#[test]
fn pins_survive_a_run() {
    let db = Database::new();
    let mut app = db.user("ann");
    let workspace = me(&mut app);
    fill(&mut db.admin(), workspace, 900);
    let ids: Vec<Uuid> = app
        .query(
            "SELECT id FROM engram.memories ORDER BY md5(content) LIMIT 400",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    let running = AtomicBool::new(true);
    let runs = thread::scope(|scope| {
        let job = scope.spawn(|| {
            let mut job = db.user("ann");
            let mut runs = 0;
            while running.load(Ordering::Relaxed) {
                // To and fro in time, so that there is always something to move.
                for at in ["now()", "now() - interval '299 days'"] {
                    job.batch_execute(&format!("CALL engram.consolidate_in_batches(10, {at})"))
                        .unwrap();
                    runs += 1;
                }
            }
            runs
        });
        for id in &ids {
            assert!(one::<bool>(&mut app, "SELECT engram.pin($1)", &[id]));
        }
        running.store(false, Ordering::Relaxed);
        job.join().unwrap()
    });
    assert!(runs > 0);
    app.batch_execute("SELECT engram.consolidate()").unwrap();
    let kept: i64 = one(
        &mut app,
        "SELECT count(*) FROM engram.list('{\"pinned\": true, \"layer\": \"core\"}', match_count => 1000) l
         JOIN engram.memories m USING (id) WHERE m.layer = 'core' AND m.id = ANY ($1)",
        &[&ids],
    );
    assert_eq!(kept, 400);
}

#[test]
fn rows_that_move_stay_on_their_pages() {
    // By itself: a transaction that goes on anywhere may keep dead rows where they are.
    let cluster = Cluster::start(Installation::current(), "pages");
    cluster.create_database("c");
    let mut admin = cluster.connect("c", "postgres");
    admin
        .batch_execute(
            "CREATE ROLE app LOGIN; CREATE EXTENSION engram CASCADE; SELECT engram.setup('{\"grant_to\": [\"app\"]}');
             ALTER TABLE engram.memories SET (autovacuum_enabled = off)",
        )
        .unwrap();
    let mut app = cluster.connect("c", "app");
    log_in(&mut app, "ann");
    let stored = "SELECT engram.add_many(jsonb_agg(jsonb_build_object('content', repeat(md5(n::text) || ' ', 5) || n)))
                  FROM generate_series(1, 600) n";
    app.batch_execute(stored).unwrap();
    let mut updates = || -> (i64, i64) {
        let row = admin
            .query_one(
                "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_all_tables WHERE relid = 'engram.memories'::regclass",
                &[],
            )
            .unwrap();
        (row.get(0), row.get(1))
    };
    let before = updates();
    // All of one age: everything on a page moves at the same time.
    app.batch_execute("CALL engram.consolidate_in_batches(1000, now() + interval '1 year')")
        .unwrap();
    app.batch_execute("SELECT pg_stat_force_next_flush()")
        .unwrap();
    let after = updates();
    let (all, in_place) = (after.0 - before.0, after.1 - before.1);
    assert_eq!(all, 600, "each is moved once");
    assert!(in_place * 20 >= all * 19, "{in_place} of {all}");
    let left: i64 = one(
        &mut app,
        "SELECT c.archived + c.demoted + c.promoted FROM engram.consolidate(at => now() + interval '1 year', dry_run => true) c",
        &[],
    );
    assert_eq!(left, 0);
}

#[test]
fn a_run_ends_while_somebody_holds_what_is_to_be_moved() {
    let db = Database::new();
    let (mut admin, mut app, mut other) = (db.admin(), db.user("ann"), db.admin());
    let workspace = me(&mut app);
    fill(&mut admin, workspace, 90);
    for client in [&mut admin, &mut app] {
        client
            .batch_execute("SET statement_timeout = '60 s'")
            .unwrap();
    }
    let moving: i64 = one(
        &mut app,
        "SELECT c.archived + c.demoted + c.promoted FROM engram.consolidate(dry_run => true) c",
        &[],
    );
    assert!(moving > 60, "{moving}");
    other
        .batch_execute("BEGIN; SELECT FROM (SELECT FROM engram.memories ORDER BY id LIMIT 70 FOR NO KEY UPDATE) x")
        .unwrap();
    // More of them than fit into a batch, and on few pages.
    app.batch_execute("CALL engram.consolidate_in_batches(5)")
        .unwrap();
    let report = crate::care::maintain(&mut admin);
    let left = report["consolidate"]["skipped"].as_i64().unwrap();
    assert!(left > 30, "{report}");
    let again: (bool, i64) = {
        let call = "SELECT c.done, c.skipped FROM engram.consolidate(batch_size => 1000) c";
        let row = app.query_one(call, &[]).unwrap();
        (row.get(0), row.get(1))
    };
    assert_eq!(again, (true, left), "each is counted once");
    other.batch_execute("ROLLBACK").unwrap();
    app.batch_execute("CALL engram.consolidate_in_batches(5)")
        .unwrap();
    let left: i64 = one(
        &mut app,
        "SELECT c.archived + c.demoted + c.promoted FROM engram.consolidate(dry_run => true) c",
        &[],
    );
    assert_eq!(left, 0);
}

#[test]
fn a_run_that_is_killed_is_run_again() {
    let cluster = Cluster::start(Installation::current(), "sleep");
    cluster.create_database("c");
    let mut admin = cluster.connect("c", "postgres");
    admin
        .batch_execute("CREATE ROLE app LOGIN; CREATE EXTENSION engram CASCADE; SELECT engram.setup('{\"grant_to\": [\"app\"]}')")
        .unwrap();
    let user = |name: &str| {
        let mut client = cluster.connect("c", "app");
        log_in(&mut client, name);
        client
    };
    // Two alike; in the one nobody disturbs anything.
    let (mut ann, mut bob) = (user("ann"), user("bob"));
    let (hers, his) = (me(&mut ann), me(&mut bob));
    fill(&mut admin, hers, 700);
    let at: String = one(
        &mut admin,
        "SELECT quote_literal(now() - interval '1 hour') || '::timestamptz'",
        &[],
    );
    admin
        .execute(
            "INSERT INTO engram.memories (workspace_id, id, content, type, importance, created_at)
             SELECT $2, id, content, type, importance, created_at FROM engram.memories WHERE workspace_id = $1",
            &[&hers, &his],
        )
        .unwrap();
    for client in [&mut ann, &mut bob] {
        client
            .batch_execute(&format!(
                "SELECT engram.touch((SELECT array_agg(id ORDER BY id) FROM engram.memories WHERE hashtext(content) % 40 = i),
                   at => {at} - interval '250 days' + i * interval '1 day') FROM generate_series(1, 39) i"
            ))
            .unwrap();
    }
    let run = format!("CALL engram.consolidate_in_batches(5, {at})");
    bob.batch_execute(&run).unwrap();
    let moved = "SELECT count(*) FROM engram.memories WHERE layer <> 'working'";
    let all: i64 = one(&mut bob, moved, &[]);
    let mut job = user("ann");
    let backend: i32 = one(&mut job, "SELECT pg_backend_pid()", &[]);
    thread::scope(|scope| {
        let job = scope.spawn(|| job.batch_execute(&run));
        while one::<i64>(&mut ann, moved, &[]) < all / 4 {}
        // The postmaster alone would leave it at work.
        // SAFETY: a signal to a process of the server that this test has started.
        unsafe { libc::kill(backend, libc::SIGKILL) };
        cluster.kill();
        assert!(job.join().unwrap().is_err());
    });
    drop((ann, bob, admin));
    cluster.up();
    let (mut ann, mut bob) = (user("ann"), user("bob"));
    let part: i64 = one(&mut ann, moved, &[]);
    assert!(
        part >= all / 4 && part < all,
        "{part} of {all}: what was done stays done"
    );
    ann.batch_execute(&run).unwrap();
    let end = |client: &mut Client| {
        let mut out = Vec::new();
        for sql in [
            "SELECT id, layer, version FROM engram.memories ORDER BY id",
            "SELECT memory_id, access_count, last_accessed_at, heat, working_strength, core_strength, layer, stability, difficulty, base
             FROM engram.memory_state ORDER BY memory_id",
            "SELECT a, b, forward, backward, linked_at, count FROM engram.hebbian_links ORDER BY a, b",
            "SELECT memory_id, accessed_at, kind, place, pair_gain FROM engram.access_log ORDER BY memory_id, accessed_at, place",
            "SELECT count(*) FROM engram.access_queue",
        ] {
            out.push(Value::Array(json_rows(client, sql, &[])));
        }
        Value::Array(out)
    };
    let (hers, his) = (end(&mut ann), end(&mut bob));
    assert_eq!(difference(&his, &hers, 0.0, "end"), None);
}

#[test]
fn only_what_may_be_forgotten_is_forgotten() {
    let db = Database::new();
    let (mut app, mut admin) = (db.user("ann"), db.admin());
    let workspace = me(&mut app);
    let mut store = |content: &str, kind: &str, days: f64, importance: f64, pinned: bool| -> Uuid {
        one(
            &mut admin,
            "INSERT INTO engram.memories (workspace_id, content, type, importance, created_at, pinned)
             VALUES ($1, $2, $3, $4, now() - $5 * interval '1 day', $6) RETURNING id",
            &[&workspace, &content, &kind, &importance, &days, &pinned],
        )
    };
    let strong = store(
        "archived, and not faded enough",
        "factual",
        65.0,
        0.1,
        false,
    );
    let mut episode = |content: &str, days, importance, pinned| {
        store(content, "episodic", days, importance, pinned)
    };
    let faded = episode("faded", 200.0, 0.1, false);
    let also = episode("faded too", 150.0, 0.2, false);
    episode("pinned", 200.0, 0.1, true);
    episode(
        "settled, although it has not been used for long",
        100.0,
        1.0,
        false,
    );
    let young = episode("archived, weak and young", 45.0, 0.0, false);
    let used = episode("archived and weak, but used 50 days ago", 200.0, 0.1, false);
    let waits = episode(
        "archived and weak, but used: it waits to be folded",
        200.0,
        0.1,
        false,
    );

    let set = |app: &mut Client, settings: Value| {
        app.execute("SELECT engram.configure($1)", &[&settings])
            .unwrap();
    };
    let run = |app: &mut Client, options: &str| -> i64 {
        one(
            app,
            &format!("SELECT forgotten FROM engram.consolidate({options})"),
            &[],
        )
    };
    let ids = |app: &mut Client, condition: &str| -> Vec<Uuid> {
        let sql = format!("SELECT id FROM engram.memories WHERE {condition} ORDER BY content");
        app.query(&sql, &[])
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect()
    };
    let shown = |app: &mut Client, id: Uuid, days: f64| {
        app.execute(
            "SELECT engram.touch(ARRAY[$1::uuid], 'shown', 0.001, now() - $2 * interval '1 day')",
            &[&id, &days],
        )
        .unwrap();
    };
    set(
        &mut app,
        json!({"alpha": 0.04, "forget_threshold": 0.003, "forget_after_days": 60}),
    );
    shown(&mut app, used, 50.0);
    // Unless somebody asks for it, nothing is.
    assert_eq!(run(&mut app, ""), 0);
    assert_eq!(
        ids(&mut app, "layer = 'archive'"),
        [used, waits, strong, young, faded, also]
    );
    set(&mut app, json!({"forgetting": true}));
    shown(&mut app, waits, 0.0);
    assert_eq!(run(&mut app, "dry_run => true"), 2);
    assert!(ids(&mut app, "deleted_at IS NOT NULL").is_empty());
    assert_eq!(run(&mut app, "batch_size => 1"), 1);
    assert_eq!(run(&mut app, ""), 1);
    assert_eq!(ids(&mut app, "deleted_at IS NOT NULL"), [faded, also]);
    let found = "SELECT count(*) FROM engram.search('faded')";
    assert_eq!(one::<i64>(&mut app, found, &[]), 1);
    // As soon as one of the conditions gives way: those of 45 and 50 days, the one not faded enough.
    set(&mut app, json!({"forget_after_days": 40}));
    assert_eq!(run(&mut app, "dry_run => true"), 2);
    set(
        &mut app,
        json!({"forget_after_days": 60, "forget_threshold": 0.05}),
    );
    assert_eq!(run(&mut app, "dry_run => true"), 1);
    set(&mut app, json!({"forget_threshold": 0.003}));
    // Brought back, it is found, has its time once more, and is kept for good once it is pinned.
    app.execute("SELECT engram.restore($1)", &[&faded]).unwrap();
    assert_eq!(one::<i64>(&mut app, found, &[]), 2);
    assert_eq!(run(&mut app, ""), 0);
    db.admin()
        .batch_execute(
            "SET session_replication_role = replica; UPDATE engram.memories SET updated_at = now() - interval '61 days'",
        )
        .unwrap();
    assert_eq!(run(&mut app, "dry_run => true"), 1);
    app.execute("SELECT engram.pin($1)", &[&faded]).unwrap();
    assert_eq!(run(&mut app, ""), 0);
    assert_eq!(ids(&mut app, "deleted_at IS NOT NULL"), [also]);
}
