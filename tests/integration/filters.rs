//! The filter dialect, compared with a plain evaluation in Rust over random rows and filters.

use std::cmp::Ordering;
use std::collections::BTreeSet;
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
    for i in 0..80 {
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
    assert_eq!(rows.len(), 80);
    let client = Mutex::new(ann);
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
            prop_assert_eq!(&searched, &wanted, "search {}", filter);
            Ok(())
        })
        .unwrap();
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
