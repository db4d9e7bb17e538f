//! The filter dialect, compared with a plain evaluation in Rust over random rows and filters.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use postgres::Client;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

use crate::cluster::Database;

/// Does a row (as JSON, entities as their keys) match the filter? Written without a look at the SQL.
fn matches(row: &Value, filter: &Value) -> bool {
    filter
        .as_object()
        .unwrap()
        .iter()
        .all(|(key, value)| match key.as_str() {
            "AND" => value.as_array().unwrap().iter().all(|f| matches(row, f)),
            "OR" => value.as_array().unwrap().iter().any(|f| matches(row, f)),
            "NOT" if value.is_array() => !value.as_array().unwrap().iter().any(|f| matches(row, f)),
            "NOT" => !matches(row, value),
            _ => {
                let column = [
                    "type",
                    "importance",
                    "pinned",
                    "tags",
                    "speaker",
                    "content",
                    "entities",
                    "version",
                    "occurred_at",
                ]
                .contains(&key.as_str());
                let field = if column {
                    row.get(key).filter(|v| !v.is_null()).cloned()
                } else {
                    let path = key.strip_prefix("metadata.").unwrap_or(key);
                    path.split('.')
                        .try_fold(&row["metadata"], |v, part| v.as_object()?.get(part))
                        .cloned()
                };
                let list = column && (key == "tags" || key == "entities");
                let tests: Vec<(String, Value)> = match value {
                    Value::Object(ops) => ops.clone().into_iter().collect(),
                    Value::Array(_) => vec![("in".into(), value.clone())],
                    Value::String(_) if list => vec![("contains".into(), value.clone())],
                    _ => vec![("eq".into(), value.clone())],
                };
                tests
                    .iter()
                    .all(|(op, wanted)| test(op, field.as_ref(), wanted, list))
            }
        })
}

fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        (Value::String(a), Value::String(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        _ => None,
    }
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        _ => a == b,
    }
}

fn strings(v: &Value) -> BTreeSet<String> {
    v.as_array()
        .unwrap()
        .iter()
        .map(|s| s.as_str().unwrap().to_owned())
        .collect()
}

fn test(op: &str, field: Option<&Value>, wanted: &Value, list: bool) -> bool {
    if list {
        let have = strings(field.unwrap());
        return match op {
            "eq" if wanted.is_null() => have.is_empty(),
            "ne" if wanted.is_null() => !have.is_empty(),
            "eq" => have == strings(wanted),
            "ne" => have != strings(wanted),
            "in" => !have.is_disjoint(&strings(wanted)),
            "nin" => have.is_disjoint(&strings(wanted)),
            "contains" if wanted.is_array() => have.is_superset(&strings(wanted)),
            "contains" => have.contains(wanted.as_str().unwrap()),
            "icontains" => have.iter().any(|h| {
                h.to_lowercase()
                    .contains(&wanted.as_str().unwrap().to_lowercase())
            }),
            "exists" => have.is_empty() != wanted.as_bool().unwrap(),
            _ => unreachable!("{op}"),
        };
    }
    let null = Value::Null;
    let value = field.unwrap_or(&null);
    let ordered = |keep: fn(Ordering) -> bool| compare(value, wanted).is_some_and(keep);
    match op {
        "eq" => equal(value, wanted),
        "ne" => !equal(value, wanted),
        "in" => wanted.as_array().unwrap().iter().any(|w| equal(value, w)),
        "nin" => !wanted.as_array().unwrap().iter().any(|w| equal(value, w)),
        "gt" => ordered(Ordering::is_gt),
        "gte" => ordered(Ordering::is_ge),
        "lt" => ordered(Ordering::is_lt),
        "lte" => ordered(Ordering::is_le),
        "exists" => field.is_some() == wanted.as_bool().unwrap(),
        "contains" => match (value, wanted) {
            (Value::String(s), Value::String(w)) => s.contains(w.as_str()),
            (Value::Array(items), Value::Array(w)) => {
                w.iter().all(|w| items.iter().any(|i| equal(i, w)))
            }
            (Value::Array(items), w) => items.iter().any(|i| equal(i, w)),
            (Value::Object(o), Value::Object(w)) => {
                w.iter().all(|(k, v)| o.get(k).is_some_and(|x| equal(x, v)))
            }
            _ => false,
        },
        "icontains" => {
            let w = wanted.as_str().unwrap().to_lowercase();
            match value {
                Value::String(s) => s.to_lowercase().contains(&w),
                Value::Array(items) => items
                    .iter()
                    .any(|i| i.as_str().is_some_and(|s| s.to_lowercase().contains(&w))),
                _ => false,
            }
        }
        _ => unreachable!("{op}"),
    }
}

const WORDS: [&str; 6] = ["apollo", "Apollo 11", "tea", "a'b\"c", "", "ZZ"];

fn word() -> impl Strategy<Value = String> {
    proptest::sample::select(&WORDS[..]).prop_map(str::to_owned)
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        word().prop_map(Value::from),
        (-3i64..4).prop_map(Value::from),
        Just(json!(1.5)),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
    ]
}

fn metadata() -> impl Strategy<Value = Value> {
    let value = prop_oneof![
        4 => scalar(),
        1 => proptest::collection::vec(scalar(), 0..3).prop_map(Value::from),
        1 => (scalar(), scalar()).prop_map(|(a, b)| json!({"n": a, "m": b})),
    ];
    proptest::collection::btree_map(proptest::sample::select(vec!["p", "q", "r.s"]), value, 0..3)
        .prop_map(|m| {
            Value::Object(
                m.into_iter()
                    .map(|(k, v)| (k.replace(".s", ""), v))
                    .collect(),
            )
        })
}

/// A condition on one field; only what the dialect allows.
fn condition() -> impl Strategy<Value = Value> {
    let words = || proptest::collection::vec(word(), 0..3);
    let op = |name: &'static str, value: BoxedStrategy<Value>| {
        value.prop_map(move |v| json!({name: v})).boxed()
    };
    let ordered = || proptest::sample::select(vec!["gt", "gte", "lt", "lte"]);
    let text_field = proptest::sample::select(vec!["speaker", "content", "type"]);
    let text = (
        text_field,
        prop_oneof![
            word().prop_map(Value::from),
            words().prop_map(Value::from),
            op(
                "eq",
                prop_oneof![word().prop_map(Value::from), Just(Value::Null)].boxed()
            ),
            op(
                "ne",
                prop_oneof![word().prop_map(Value::from), Just(Value::Null)].boxed()
            ),
            op("in", words().prop_map(Value::from).boxed()),
            op("nin", words().prop_map(Value::from).boxed()),
            op("contains", word().prop_map(Value::from).boxed()),
            op("icontains", word().prop_map(Value::from).boxed()),
            op("exists", any::<bool>().prop_map(Value::from).boxed()),
            (ordered(), word()).prop_map(|(o, w)| json!({o: w})),
        ],
    )
        .prop_map(|(f, v)| json!({f: v}));
    let number = (
        proptest::sample::select(vec!["importance", "version"]),
        prop_oneof![
            (ordered(), ordered(), -1f64..2.0, 0f64..2.0)
                .prop_map(|(o, p, a, b)| json!({o: a, p: b})),
            op("in", Just(json!([0.5, 1, 0.25])).boxed()),
            op("nin", Just(json!([0.5, 1])).boxed()),
            Just(json!(0.5)),
        ],
    )
        .prop_map(|(f, v)| json!({f: v}));
    let list = (
        proptest::sample::select(vec!["tags", "entities"]),
        prop_oneof![
            word().prop_map(Value::from),
            words().prop_map(Value::from),
            op("eq", words().prop_map(Value::from).boxed()),
            op("ne", words().prop_map(Value::from).boxed()),
            op("nin", words().prop_map(Value::from).boxed()),
            op(
                "contains",
                prop_oneof![word().prop_map(Value::from), words().prop_map(Value::from)].boxed()
            ),
            op("icontains", word().prop_map(Value::from).boxed()),
            op("exists", any::<bool>().prop_map(Value::from).boxed()),
        ],
    )
        .prop_map(|(f, v)| json!({f: v}));
    let meta = (
        proptest::sample::select(vec![
            "p",
            "metadata.p",
            "q",
            "metadata.r",
            "q.n",
            "metadata.p.m",
        ]),
        prop_oneof![
            scalar(),
            op("eq", scalar().boxed()),
            op("ne", scalar().boxed()),
            op(
                "in",
                proptest::collection::vec(scalar(), 0..3)
                    .prop_map(Value::from)
                    .boxed()
            ),
            op(
                "nin",
                proptest::collection::vec(scalar(), 0..3)
                    .prop_map(Value::from)
                    .boxed()
            ),
            op(
                "contains",
                prop_oneof![scalar(), Just(json!({"n": 1})), Just(json!([1]))].boxed()
            ),
            op("icontains", word().prop_map(Value::from).boxed()),
            op("exists", any::<bool>().prop_map(Value::from).boxed()),
            (
                ordered(),
                prop_oneof![
                    word().prop_map(Value::from),
                    (-3i64..4).prop_map(Value::from)
                ]
            )
                .prop_map(|(o, v)| json!({o: v})),
        ],
    )
        .prop_map(|(f, v)| json!({f: v}));
    prop_oneof![
        text,
        number,
        list,
        meta,
        any::<bool>().prop_map(|b| json!({"pinned": b}))
    ]
}

fn filter() -> impl Strategy<Value = Value> {
    condition().prop_recursive(3, 12, 3, |inner| {
        let many = || proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from);
        prop_oneof![
            many().prop_map(|v| json!({"AND": v})),
            many().prop_map(|v| json!({"OR": v})),
            many().prop_map(|v| json!({"NOT": v})),
            inner.clone().prop_map(|v| json!({"NOT": v})),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| {
                let mut both: Map<String, Value> = a.as_object().unwrap().clone();
                both.extend(b.as_object().unwrap().clone());
                Value::Object(both)
            }),
        ]
    })
}

fn entity_key(name: &str) -> String {
    name.to_lowercase()
        .trim_matches(|c: char| !c.is_alphanumeric())
        .to_owned()
}

/// Entities in a filter compare by key; brings the filter to that form for the reference.
fn with_entity_keys(filter: &Value) -> Value {
    fn keys(v: &Value) -> Value {
        match v {
            Value::String(s) => Value::from(entity_key(s)),
            Value::Array(a) => a.iter().map(keys).collect(),
            Value::Object(o) => {
                Value::Object(o.iter().map(|(k, v)| (k.clone(), keys(v))).collect())
            }
            other => other.clone(),
        }
    }
    match filter {
        Value::Object(o) => Value::Object(
            o.iter()
                .map(|(k, v)| {
                    (
                        k.clone(),
                        if k == "entities" {
                            keys(v)
                        } else {
                            with_entity_keys(v)
                        },
                    )
                })
                .collect(),
        ),
        Value::Array(a) => a.iter().map(with_entity_keys).collect(),
        other => other.clone(),
    }
}

fn ids(client: &mut Client, sql: &str, filter: &Value) -> BTreeSet<String> {
    client
        .query(sql, &[filter])
        .unwrap_or_else(|e| panic!("{filter}: {e:?}"))
        .iter()
        .map(|row| row.get::<_, uuid::Uuid>(0).to_string())
        .collect()
}

#[test]
fn filters_mean_what_they_say() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let mut runner = TestRunner::new(Config {
        cases: 400,
        failure_persistence: None,
        ..Config::default()
    });
    let row = (
        prop_oneof![Just(None), word().prop_map(Some)],
        proptest::sample::select(vec![0.25, 0.5, 1.0]),
        proptest::collection::vec(word(), 0..3),
        proptest::collection::vec(
            proptest::sample::select(vec!["Apollo", "tea", "Zed Zed"]),
            0..2,
        ),
        metadata(),
        proptest::sample::select(vec!["factual", "opinion"]),
    );
    for i in 0..240 {
        let (speaker, importance, tags, entities, metadata, kind) =
            row.new_tree(&mut runner).unwrap().current();
        ann.execute(
            "SELECT engram.add($1, $2, $3, tags => $4, entities => $5, metadata => $6, speaker => $7)",
            &[&format!("tea Apollo {i}"), &kind, &importance, &tags, &entities, &metadata, &speaker],
        )
        .unwrap();
    }
    ann.batch_execute("SELECT engram.pin(id) FROM engram.memories WHERE content < 'tea Apollo 4'")
        .unwrap();
    let rows: Vec<Value> = ann
        .query(
            "SELECT to_jsonb(l) FROM engram.list(match_count => 1000) l",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| {
            let mut row: Value = row.get(0);
            row["entities"] = row["entities"]
                .as_array()
                .unwrap()
                .iter()
                .map(|e| Value::from(entity_key(e.as_str().unwrap())))
                .collect();
            row
        })
        .collect();
    assert_eq!(rows.len(), 240);
    let client = Mutex::new(ann);
    // Asked of rows alone, and of what segments hold of most of them.
    for most in [0, 240] {
        let held = seal(&mut db.admin(), most);
        assert!((most == 0) == (held == 0) && held <= 240, "{held}");
        runner
            .run(&filter(), |filter| {
                let plain = with_entity_keys(&filter);
                let wanted: BTreeSet<String> = rows
                    .iter()
                    .filter(|row| matches(row, &plain))
                    .map(|row| row["id"].as_str().unwrap().to_owned())
                    .collect();
                let mut client = client.lock().unwrap();
                let listed = ids(&mut client, "SELECT id FROM engram.list($1, 1000)", &filter);
                prop_assert_eq!(&listed, &wanted, "list {}", filter);
                let searched = ids(
                    &mut client,
                    "SELECT id FROM engram.search('apollo', match_count => 1000, filter => $1)",
                    &filter,
                );
                prop_assert_eq!(&searched, &wanted, "search {}, {} held", filter, held);
                Ok(())
            })
            .unwrap();
    }
}

/// Makes segments of at most so many memories, and tells how many of them hold what filters ask for.
fn seal(admin: &mut Client, most: i32) -> i64 {
    admin
        .batch_execute(&format!(
            "SELECT engram_internal.pack(w, '', true, 0), engram_internal.pack(w, '', false, 0)
             FROM (SELECT DISTINCT workspace_id AS w FROM engram.search_blocks) x;
             SELECT engram_internal.seal(w, '', 8, {most}), engram_internal.seal(w, '', 8, {most}), engram_internal.seal(w, '', 8, {most})
             FROM (SELECT DISTINCT workspace_id AS w FROM engram.search_blocks) x WHERE {most} > 0"
        ))
        .unwrap();
    held(admin)
}

fn held(admin: &mut Client) -> i64 {
    let sql = "SELECT coalesce(sum(h.entries), 0)::bigint FROM engram.search_blocks h WHERE h.level = 3 AND EXISTS (
      SELECT FROM engram.search_blocks v WHERE (v.workspace_id, v.model, v.level, v.cluster) = (h.workspace_id, h.model, 4, h.cluster)
        AND v.block_id >= '0d000000-0000-0000-0000-000000000000')";
    admin.query_one(sql, &[]).unwrap().get(0)
}

/// The layer that a filter compares is that of the moment, whatever was shown last, wherever its state comes from.
#[test]
fn layers_in_filters_are_those_of_this_moment() {
    let db = Database::new();
    let (mut ann, mut ben, mut admin) = (db.user("ann"), db.user("ben"), db.admin());
    for user in [&mut ann, &mut ben] {
        user.batch_execute(
            "SELECT engram.add_many(jsonb_agg(jsonb_build_object('content', 'tea number ' || i, 'importance', i % 5 / 5.0,
               'type', (ARRAY['factual', 'episodic', 'opinion'])[1 + i % 3], 'tags', jsonb_build_array('t' || i % 4))))
             FROM generate_series(1, 400) i",
        )
        .unwrap();
    }
    ben.batch_execute("SELECT engram.apply_preset('researcher')")
        .unwrap();
    admin
        .batch_execute(
            // By content and not by ids or chance: each run has the same layers.
            "CREATE FUNCTION pg_temp.r(id uuid, what text) RETURNS double precision LANGUAGE sql
               RETURN (SELECT (hashtextextended(content || what, 0) & 65535) / 65536.0 FROM engram.memories m WHERE m.id = r.id);
             CREATE FUNCTION pg_temp.layer(double precision) RETURNS text LANGUAGE sql
               RETURN (ARRAY['working', 'core', 'archive'])[1 + floor($1 * 3)];
             SET session_replication_role = replica;
             UPDATE engram.memories SET created_at = created_at - interval '300 days', pinned = pg_temp.r(id, 'pinned') < 0.1,
               layer = pg_temp.layer(pg_temp.r(id, 'layer'));
             UPDATE engram.memory_state SET working_strength = pg_temp.r(memory_id, 'working') ^ 3,
               core_strength = pg_temp.r(memory_id, 'core') ^ 2 / 2, layer = pg_temp.layer(pg_temp.r(memory_id, 'state')),
               heat = engram.heat_new(now() - pg_temp.r(memory_id, 'heat') ^ 4 * interval '200 days'), access_count = 1;
             UPDATE engram.memory_state SET working_strength = NULL, core_strength = NULL, heat = NULL, layer = NULL
             WHERE pg_temp.r(memory_id, 'which') < 0.035;
             -- Of some the state is missing, and others have uses that wait.
             DELETE FROM engram.memory_state WHERE pg_temp.r(memory_id, 'which') BETWEEN 0.04 AND 0.06;
             RESET session_replication_role",
        )
        .unwrap();
    for user in [&mut ann, &mut ben] {
        user.batch_execute(
            "SELECT engram.touch(ARRAY[m.id], at => now() - (hashtextextended(m.content, 1) & 255) * interval '1 hour')
             FROM engram.memories m WHERE (hashtextextended(m.content, 2) & 255) BETWEEN 200 AND 220",
        )
        .unwrap();
    }
    let held = seal(&mut admin, 300);
    assert!(held > 500, "{held}");
    for (name, user) in [("ann", &mut ann), ("ben", &mut ben)] {
        let layers: Vec<(String, String, i32)> = user
            .query(
                "SELECT m.id::text, p.layer, right(m.tags[1], 1)::integer FROM engram.memories m
                 CROSS JOIN LATERAL engram_internal.present(m.workspace_id, now(), ARRAY[m.id]) p",
                &[],
            )
            .unwrap()
            .iter()
            .map(|row| (row.get(0), row.get(1), row.get(2)))
            .collect();
        for layer in ["working", "core", "archive"] {
            let many = layers.iter().filter(|l| l.1 == layer).count();
            assert!(many > 10, "{name} has {many} in {layer}");
        }
        let counts = layers.iter().fold(BTreeMap::new(), |mut counts, l| {
            *counts.entry(l.1.clone()).or_insert(0) += 1;
            counts
        });
        let told: Value = user
            .query_one("SELECT by_layer FROM engram.stats()", &[])
            .unwrap()
            .get(0);
        assert_eq!(told, json!(counts), "{name}");
        type Passes<'a> = &'a dyn Fn(&str, i32) -> bool;
        let cases: [(Value, Passes<'_>); 6] = [
            (json!({"layer": "core"}), &|l, _| l == "core"),
            (json!({"layer": {"ne": "working"}}), &|l, _| l != "working"),
            (json!({"layer": {"in": ["core", "archive"]}}), &|l, _| {
                l != "working"
            }),
            (
                json!({"NOT": {"layer": {"contains": "or"}}, "tags": {"contains": "t1"}}),
                &|l, t| l == "archive" && t == 1,
            ),
            (
                json!({"OR": [{"layer": "archive"}, {"tags": {"contains": "t2"}}]}),
                &|l, t| l == "archive" || t == 2,
            ),
            (json!({"layer": {"gt": "core"}}), &|l, _| l == "working"),
        ];
        for (filter, passes) in cases {
            let wanted: BTreeSet<String> = (layers.iter())
                .filter(|(_, layer, tag)| passes(layer, *tag))
                .map(|(id, ..)| id.clone())
                .collect();
            for sql in [
                "SELECT id FROM engram.search('tea', match_count => 1000, filter => $1)",
                "SELECT id FROM engram.list($1, 1000)",
            ] {
                assert_eq!(ids(user, sql, &filter), wanted, "{name} {filter} {sql}");
            }
        }
    }
}

/// What is read once for all rows of a statement is read anew for the next.
#[test]
fn a_change_of_uses_or_settings_is_seen_by_the_next_look_at_a_layer() {
    let db = Database::new();
    let mut ann = db.user("ann");
    ann.batch_execute(
        "SELECT engram.add('tea number ' || i) FROM generate_series(1, 3) i;
         SELECT engram.configure('{\"promote\": 0.9}')",
    )
    .unwrap();
    db.admin()
        .batch_execute("UPDATE engram.memory_state SET core_strength = 0.5")
        .unwrap();
    ann.batch_execute(
        "BEGIN ISOLATION LEVEL REPEATABLE READ;
         DO $$
         DECLARE
           one uuid := (SELECT id FROM engram.list() LIMIT 1);
           two uuid := (SELECT id FROM engram.list() OFFSET 1 LIMIT 1);
           ws uuid := (SELECT workspace_id FROM engram.list() LIMIT 1);
           seen text[] := '{}';
           due text[] := '{}';
         BEGIN
           -- What a part has written that was undone is seen no more.
           FOR i IN 1..3 LOOP
             BEGIN
               IF i = 2 THEN
                 PERFORM engram.configure('{\"promote\": 0.95, \"demote\": 0.9, \"archive\": 0.9}');
               END IF;
               seen := seen || engram_internal.layer_now(ws, two);
               due := due || (SELECT p.layer FROM engram_internal.present(ws, now(), ARRAY[two]) p);
               IF i = 2 THEN
                 RAISE EXCEPTION 'undo';
               END IF;
             EXCEPTION WHEN raise_exception THEN
               NULL;
             END;
           END LOOP;
           FOR i IN 1..6 LOOP
             IF i = 2 THEN
               PERFORM engram.configure('{\"promote\": 0.25}');
             ELSIF i = 3 THEN
               PERFORM engram.reinforce(ARRAY[one], -1);
             ELSIF i = 4 THEN
               PERFORM engram.consolidate();
             ELSIF i = 5 THEN
               PERFORM engram.pin(one);
             ELSIF i = 6 THEN
               PERFORM engram.forget(one);
             END IF;
             -- The same expression each time, which keeps what it has read.
             seen := seen || engram_internal.layer_now(ws, one);
             due := due || (SELECT p.layer FROM engram_internal.present(ws, now(), ARRAY[one]) p);
           END LOOP;
           IF seen <> due OR NOT 'core' = ANY (due) OR NOT 'working' = ANY (due) THEN
             RAISE EXCEPTION 'seen %, due %', seen, due;
           END IF;
         END
         $$;
         COMMIT",
    )
    .unwrap();
}

/// What a policy of the user's own hides of settings is hidden at every look, and does not change what is noted.
#[test]
fn settings_that_a_policy_hides_at_times_are_read_each_time() {
    let db = Database::new();
    let (mut ann, mut admin) = (db.user("ann"), db.admin());
    ann.batch_execute(
        "SELECT engram.add('tea number ' || i) FROM generate_series(1, 3) i;
         SELECT engram.configure('{\"promote\": 0.9, \"shown_gain\": 0.3}')",
    )
    .unwrap();
    admin
        .batch_execute(
            "UPDATE engram.memory_state SET core_strength = 0.5;
             CREATE POLICY at_times ON engram.settings AS RESTRICTIVE FOR SELECT
             USING (workspace_id = '00000000-0000-0000-0000-000000000000' OR current_setting('tests.see', true) = '1')",
        )
        .unwrap();
    ann.batch_execute(
        "DO $$
         DECLARE
           one uuid := (SELECT id FROM engram.list() LIMIT 1);
           ws uuid := (SELECT workspace_id FROM engram.list() LIMIT 1);
           seen text[] := '{}';
           due text[] := '{}';
         BEGIN
           FOR i IN 1..4 LOOP
             PERFORM set_config('tests.see', (i % 2)::text, true);
             seen := seen || engram_internal.layer_now(ws, one);
             due := due || (SELECT p.layer FROM engram_internal.present(ws, now(), ARRAY[one]) p);
           END LOOP;
           IF seen <> due OR NOT 'core' = ANY (due) OR NOT 'working' = ANY (due) THEN
             RAISE EXCEPTION 'seen %, due %', seen, due;
           END IF;
         END
         $$;
         SELECT engram.recall('tea');
         SELECT engram.touch(ARRAY(SELECT id FROM engram.list()), kind => 'shown')",
    )
    .unwrap();
    let gains: Vec<f64> = admin
        .query_one(
            "SELECT array_agg(gain) FROM engram.access_queue WHERE kind = 'shown'",
            &[],
        )
        .unwrap()
        .get(0);
    assert_eq!(gains, [0.3, 0.3]);
}

/// A key with its columns in another order leads nowhere, and says so.
#[test]
fn a_primary_key_the_other_way_round_is_an_error_and_not_an_empty_answer() {
    let db = Database::new();
    let mut ann = db.user("ann");
    ann.batch_execute("SELECT engram.add('tea')").unwrap();
    db.admin()
        .batch_execute(
            "ALTER TABLE engram.memories ADD UNIQUE (workspace_id, id), DROP CONSTRAINT memories_pkey CASCADE;
             ALTER TABLE engram.memories ADD PRIMARY KEY (id, workspace_id)",
        )
        .unwrap();
    for sql in [
        "SELECT by_layer FROM engram.stats()",
        "SELECT engram_internal.layer_now(workspace_id, id) FROM engram.memories",
    ] {
        let error = ann.query(sql, &[]).unwrap_err();
        assert_eq!(error.code().unwrap().code(), "55000", "{sql}: {error:?}");
    }
}

/// Few memories about an entity are looked for beforehand, and of many each candidate is asked.
#[test]
fn entities_of_thousands_of_memories_filter_as_those_of_a_few() {
    let db = Database::new();
    let mut ann = db.user("ann");
    ann.batch_execute(
        "SELECT engram.add_many(jsonb_agg(jsonb_build_object('content', 'tea number ' || i, 'entities',
           CASE WHEN i % 500 = 0 THEN '[\"Apollo\"]' WHEN i % 100 = 0 THEN '[\"User\", \"Zed\"]' ELSE '[\"User\"]' END::jsonb)))
         FROM generate_series(1, 4100) i",
    )
    .unwrap();
    for (filter, due) in [
        (json!({"entities": "apollo"}), 8),
        (json!({"entities": {"nin": ["User"]}}), 8),
        (json!({"entities": {"contains": ["User", "Zed"]}}), 33),
        (json!({"entities": {"in": ["Zed", "Apollo"]}}), 41),
        (json!({"entities": "User"}), 1000),
        (json!({"NOT": {"entities": "User"}}), 8),
    ] {
        let sql = "SELECT id FROM engram.search('tea', match_count => 1000, filter => $1)";
        assert_eq!(ids(&mut ann, sql, &filter).len(), due, "{filter}");
    }
}

/// Segments hold copies of what filters ask for: each change of a memory is seen at once by whoever may see it,
/// and by nobody else.
#[test]
fn what_segments_hold_for_filters_follows_every_change() {
    let db = Database::new();
    let (mut ann, mut other, mut admin) = (db.user("ann"), db.user("ann"), db.admin());
    ann.execute(
        "SELECT engram.add_many(jsonb_agg(jsonb_build_object('content', 'tea number ' || i, 'tags', jsonb_build_array('t' || i % 10),
           'metadata', jsonb_build_object('n', i % 5, 'long', repeat(md5(i::text), 9))))) FROM generate_series(1, 700) i",
        &[],
    )
    .unwrap();
    assert!(seal(&mut admin, 300) > 400);
    let memories: Vec<uuid::Uuid> = ann
        .query("SELECT id FROM engram.memories ORDER BY id", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    let search = "SELECT id FROM engram.search('tea', match_count => 1000, filter => $1)";
    let includes = "SELECT id FROM engram.search('tea', match_count => 1000, filter => $1, include => '{superseded,expired}')";
    let finds = |client: &mut Client, filter: &Value, id: &uuid::Uuid| {
        ids(client, includes, filter).contains(&id.to_string())
    };
    let one = memories[7];
    let changes = [
        ("tags = '{new}'".to_owned(), json!({"tags": "new"})),
        (
            "metadata = metadata || '{\"n\": 77}'".to_owned(),
            json!({"n": 77}),
        ),
        (
            "metadata = metadata || '{\"k\": {\"l\": [1]}}'".to_owned(),
            json!({"k.l": {"contains": 1}}),
        ),
        (
            "metadata = metadata || '{\"k\": 0}'".to_owned(),
            json!({"metadata": {"contains": {"k": 0}}}),
        ),
        (
            "importance = 0.875".to_owned(),
            json!({"importance": {"gt": 0.87}}),
        ),
        ("type = 'causal'".to_owned(), json!({"type": "causal"})),
        ("pinned = true".to_owned(), json!({"pinned": true})),
        (
            "source = 'mail'".to_owned(),
            json!({"source": ["mail", "post"]}),
        ),
        (
            "agent_id = 'A1'".to_owned(),
            json!({"agent_id": {"icontains": "a1"}}),
        ),
        ("role = 'tool'".to_owned(), json!({"role": {"ne": null}})),
        ("speaker = 'Zoe'".to_owned(), json!({"speaker": "Zoe"})),
        (
            "session_id = 's1'".to_owned(),
            json!({"session_id": {"exists": true}}),
        ),
        (
            "occurred_at = '2020-01-01'".to_owned(),
            json!({"occurred_at": {"lt": "2021-01-01"}}),
        ),
        (
            "valid_from = '2020-01-01'".to_owned(),
            json!({"valid_from": {"lte": "2020-01-01"}}),
        ),
        (
            "valid_to = '2090-01-01'".to_owned(),
            json!({"valid_to": {"gte": "2090-01-01"}}),
        ),
        (
            "expires_at = '2090-01-01'".to_owned(),
            json!({"expires_at": "2090-01-01"}),
        ),
        (
            format!("superseded_by = '{}'", memories[8]),
            json!({"superseded_by": memories[8].to_string()}),
        ),
        (
            "content = 'tea for two'".to_owned(),
            json!({"content": {"contains": "for two"}}),
        ),
        ("summary = 'short'".to_owned(), json!({"summary": "short"})),
    ];
    for (nth, (change, filter)) in changes.iter().enumerate() {
        let id = memories[30 * nth];
        let sql = format!("UPDATE engram.memories SET {change} WHERE id = '{id}'");
        assert!(!finds(&mut ann, filter, &id), "{change}");
        ann.batch_execute(&format!("BEGIN; SAVEPOINT a; {sql}"))
            .unwrap();
        assert!(finds(&mut ann, filter, &id), "{change}: seen at once");
        ann.batch_execute("ROLLBACK TO a").unwrap();
        assert!(!finds(&mut ann, filter, &id), "{change}: rolled back");
        ann.batch_execute(&sql).unwrap();
        assert!(!finds(&mut other, filter, &id), "{change}: not committed");
        ann.batch_execute("COMMIT").unwrap();
        assert!(finds(&mut other, filter, &id), "{change}: committed");
        if nth % 4 == 3 {
            seal(&mut admin, 300);
            admin
                .batch_execute("VACUUM engram.memories, engram.search_blocks")
                .unwrap();
        }
        assert!(finds(&mut other, filter, &id), "{change}: packed");
    }
    for (_, filter) in &changes {
        let listed = ids(&mut ann, "SELECT id FROM engram.list($1, 1000)", filter);
        assert_eq!(ids(&mut ann, search, filter), listed, "{filter}");
    }

    // A snapshot that is older than a change, and than the segments made since.
    let (before, after) = (json!({"tags": "t3"}), json!({"tags": "t33"}));
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT";
    other.batch_execute(begin).unwrap();
    let old = ids(&mut other, search, &before);
    assert!(old.len() > 60);
    ann.batch_execute("UPDATE engram.memories SET tags = '{t33}' WHERE tags = '{t3}'")
        .unwrap();
    assert_eq!(ids(&mut ann, search, &after), old);
    seal(&mut admin, 300);
    admin.batch_execute("SELECT engram.reindex()").unwrap();
    assert_eq!(ids(&mut ann, search, &after), old);
    assert!(ids(&mut ann, search, &before).is_empty());
    assert_eq!(ids(&mut other, search, &before), old);
    assert!(ids(&mut other, search, &after).is_empty());
    other.batch_execute("COMMIT").unwrap();
    assert_eq!(ids(&mut other, search, &after), old);

    // A change that waits to be committed while segments are made of what was before. One change in 24 packs, by
    // chance, and then nobody else does until it is committed.
    for _ in 0..100 {
        ann.batch_execute(&format!(
            "BEGIN; UPDATE engram.memories SET tags = '{{late}}' WHERE id = '{one}'"
        ))
        .unwrap();
        admin
            .batch_execute("DELETE FROM engram.search_blocks WHERE block_id >= '0b000000-0000-0000-0000-000000000000' AND level = 4")
            .unwrap();
        assert_eq!(held(&mut admin), 0);
        admin
            .batch_execute("SELECT engram_internal.place(w, '') FROM (SELECT DISTINCT workspace_id AS w FROM engram.search_blocks) x")
            .unwrap();
        if held(&mut admin) > 0 {
            break;
        }
        ann.batch_execute("ROLLBACK").unwrap();
    }
    assert!(held(&mut admin) > 400);
    assert!(!finds(&mut other, &json!({"tags": "late"}), &one));
    ann.batch_execute("COMMIT").unwrap();
    assert!(finds(&mut other, &json!({"tags": "late"}), &one));

    // Few rows are looked at.
    let pages = |ann: &mut Client, filter: &str| {
        let sql = format!(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM engram.search('tea', filter => '{filter}')"
        );
        ann.query(&sql, &[]).unwrap();
        let plan: Value = ann.query_one(&sql, &[]).unwrap().get(0);
        plan[0]["Plan"]["Shared Hit Blocks"].as_i64().unwrap()
    };
    seal(&mut admin, 300);
    for sql in [
        "VACUUM FULL engram.memories",
        "DELETE FROM engram.search_blocks",
        "SELECT engram.reindex()",
    ] {
        admin.batch_execute(sql).unwrap();
    }
    assert!(seal(&mut admin, 300) > 600);
    let filters = [
        r#"{"tags": "t5"}"#,
        r#"{"n": 3, "metadata": {"contains": {"n": 3}}}"#,
        r#"{"created_at": {"lt": "2020-01-01"}}"#,
    ];
    let few = filters.map(|filter| pages(&mut ann, filter));
    admin
        .batch_execute("DELETE FROM engram.search_blocks WHERE block_id >= '0d000000-0000-0000-0000-000000000000' AND level = 4")
        .unwrap();
    let many = filters.map(|filter| pages(&mut ann, filter));
    for (few, many) in few.iter().zip(many) {
        assert!(few + 30 < many, "{few} pages, {many} where rows tell");
    }

    // Nothing of what was erased stays.
    let secret =
        "SELECT count(*) FROM engram.search_blocks WHERE position('secret'::bytea IN block) > 0";
    let secrets = |admin: &mut Client| admin.query_one(secret, &[]).unwrap().get::<_, i64>(0);
    ann.batch_execute(&format!(
        "UPDATE engram.memories SET metadata = '{{\"s\": \"secret\"}}', tags = '{{secret}}' WHERE id IN ('{one}', '{}')",
        memories[9]
    ))
    .unwrap();
    admin.batch_execute("SELECT engram.reindex()").unwrap();
    for _ in 0..3 {
        seal(&mut admin, 300);
    }
    admin
        .batch_execute("DELETE FROM engram.search_blocks WHERE block_id >= '0b000000-0000-0000-0000-000000000000' AND level = 4;
           SELECT engram_internal.place(w, '') FROM (SELECT DISTINCT workspace_id AS w FROM engram.search_blocks) x")
        .unwrap();
    let many = secrets(&mut admin);
    ann.execute("SELECT engram.erase($1)", &[&vec![one, memories[9]]])
        .unwrap();
    assert_eq!((many > 0, secrets(&mut admin)), (true, 0));

    // Changed where nothing could notice: reindex() does.
    let unnoticed = format!(
        "SET session_replication_role = replica; UPDATE engram.memories SET tags = '{{odd}}' WHERE id = '{}';
         RESET session_replication_role; SELECT engram.reindex()",
        memories[20]
    );
    admin.batch_execute(&unnoticed).unwrap();
    assert!(finds(&mut ann, &json!({"tags": "odd"}), &memories[20]));

    // A store whose triggers do not know the columns keeps nothing of them, until setup() has run.
    admin
        .batch_execute(
            "DROP TRIGGER memories_after_update ON engram.memories;
             CREATE TRIGGER memories_after_update AFTER UPDATE ON engram.memories FOR EACH ROW
             WHEN (OLD.content IS DISTINCT FROM NEW.content OR OLD.session_id IS DISTINCT FROM NEW.session_id)
             EXECUTE FUNCTION engram.memories_after_update();
             DELETE FROM engram.search_blocks; SELECT engram.reindex()",
        )
        .unwrap();
    assert_eq!(seal(&mut admin, 300), 0);
    ann.batch_execute(&format!(
        "UPDATE engram.memories SET tags = '{{now}}' WHERE id = '{}'",
        memories[3]
    ))
    .unwrap();
    assert!(finds(&mut ann, &json!({"tags": "now"}), &memories[3]));
    admin
        .batch_execute("SELECT engram.setup();
           SELECT engram_internal.place(w, '') FROM (SELECT DISTINCT workspace_id AS w FROM engram.search_blocks) x")
        .unwrap();
    assert!(held(&mut admin) > 400);
    assert!(finds(&mut ann, &json!({"tags": "now"}), &memories[3]));
    assert!(!finds(&mut ann, &json!({"tags": "late"}), &memories[3]));
}

#[test]
fn times_and_ids_filter_too() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let mut add = |content: &str, at: Option<&str>| -> uuid::Uuid {
        ann.query_one(
            "SELECT engram.add($1, occurred_at => $2::text::timestamptz)",
            &[&content, &at],
        )
        .unwrap()
        .get(0)
    };
    let (a, b, c) = (
        add("a", Some("2023-01-01T00:00:00Z")),
        add("b", Some("2024-01-01T00:00:00Z")),
        add("c", None),
    );
    let cases = [
        (
            json!({"occurred_at": {"gte": "2023-06-01", "lt": "2025-01-01T00:00:00+01:00"}}),
            vec![b],
        ),
        (json!({"occurred_at": {"exists": false}}), vec![c]),
        (json!({"occurred_at": null}), vec![c]),
        (json!({"occurred_at": {"ne": null}}), vec![a, b]),
        (json!({"occurred_at": "2023-01-01 00:00:00+00"}), vec![a]),
        (
            json!({"occurred_at": ["2023-01-01Z", "2024-01-01Z"]}),
            vec![a, b],
        ),
        (
            json!({"id": [a.to_string(), c.to_string().to_uppercase()]}),
            vec![a, c],
        ),
        (json!({"id": {"ne": a.to_string()}}), vec![b, c]),
        (json!({"created_at": {"gt": "now"}}), vec![]),
        (json!({"metadata": {"eq": {}}}), vec![a, b, c]),
        (Value::Null, vec![a, b, c]),
        (Value::from("{\"content\": \"a\"}"), vec![a]),
    ];
    for (filter, wanted) in cases {
        let wanted: BTreeSet<String> = wanted.iter().map(uuid::Uuid::to_string).collect();
        assert_eq!(
            ids(&mut ann, "SELECT id FROM engram.list($1)", &filter),
            wanted,
            "{filter}"
        );
    }
}

/// A filter that few pass is asked of the whole workspace at once, one that many pass of candidates; what was
/// recorded at a moment is always asked of candidates. All three give the same.
#[test]
fn rare_and_common_conditions_find_what_looking_up_finds() {
    let db = Database::new();
    let mut ann = db.user("ann");
    ann.execute(
        "SELECT engram.add_many(jsonb_agg(jsonb_build_object('content', 'tea number ' || i || repeat(' tea', i % 7),
           'tags', jsonb_build_array('t' || i % 40), 'metadata', jsonb_build_object('n', i),
           'embedding', jsonb_build_array(1, i % 50, i % 31))))
         FROM generate_series(1, 900) i",
        &[],
    )
    .unwrap();
    ann.batch_execute(
        "SELECT engram.forget(id) FROM engram.memories WHERE (metadata ->> 'n')::integer % 90 = 3;
         SELECT engram.supersede(id, engram.add('coffee instead of ' || id)) FROM engram.memories WHERE (metadata ->> 'n')::integer % 400 = 83",
    )
    .unwrap();
    let mut search = |call: &str| -> Vec<(String, f64)> {
        let sql = format!("SELECT content, score FROM engram.search({call}, match_count => 50)");
        let rows = ann.query(&sql, &[]);
        let rows = rows.unwrap_or_else(|e| panic!("{call}: {e:?}"));
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    };
    for hidden in [false, true] {
        if hidden {
            db.admin()
                .batch_execute(
                    "CREATE POLICY odd ON engram.memories AS RESTRICTIVE FOR SELECT
                     USING (coalesce((metadata ->> 'n')::integer % 2, 1) = 1)",
                )
                .unwrap();
        }
        for (filter, most) in [
            (r#"{"tags": "t3"}"#, 23),
            (r#"{"n": {"in": [7, 83, 93, 95, 96]}}"#, 5),
            (r#"{"n": {"gt": 100}}"#, 50),
            (r#"{"tags": "none"}"#, 0),
        ] {
            for question in ["'tea'", "NULL, '[1,20,10]'", "'number tea', '[1,20,10]'"] {
                let call = format!("{question}, filter => '{filter}'");
                let found = search(&call);
                let past = search(&format!("{call}, as_of => clock_timestamp()"));
                assert_eq!(found.len(), past.len(), "{call}");
                assert!(
                    found.len() <= most && (most == 0 || !found.is_empty()),
                    "{call}"
                );
                for (a, b) in found.iter().zip(&past) {
                    assert_eq!(a.0, b.0, "{call}");
                    assert!((a.1 - b.1).abs() < 1e-9, "{call}");
                }
            }
        }
    }
}
