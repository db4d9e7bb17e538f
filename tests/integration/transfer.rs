//! Export and import: what goes out comes in as it was, elsewhere and again, and nothing else comes in.

use std::collections::{BTreeMap, BTreeSet};

use postgres::Client;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cluster::{Database, failure};

/// A line of an import's report: kind, status, error.
type Outcome = (String, String, Option<String>);

fn import(client: &mut Client, data: &Value, more: &str) -> Vec<Outcome> {
    client
        .query(
            &format!("SELECT kind, status, error FROM engram.import($1{more})"),
            &[data],
        )
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect()
}

/// How many lines of each kind ended how.
fn counts(outcomes: &[Outcome]) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    for (kind, status, _) in outcomes {
        *counts.entry((kind.clone(), status.clone())).or_default() += 1;
    }
    counts
}

fn statuses(outcomes: &[Outcome]) -> BTreeSet<&str> {
    outcomes.iter().map(|o| o.1.as_str()).collect()
}

/// All lines but the header.
fn export(client: &mut Client) -> Vec<Value> {
    let rows = client.query("SELECT engram.export()", &[]).unwrap();
    let lines: Vec<Value> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(lines[0]["engram"]["format"], 1);
    lines[1..].to_vec()
}

#[track_caller]
fn assert_same(a: &[Value], b: &[Value]) {
    for (a, b) in a.iter().zip(b) {
        assert_eq!(a, b);
    }
    assert_eq!(a.len(), b.len());
}

fn all(client: &mut Client, sql: &str) -> Vec<String> {
    client
        .query(&format!("SELECT x::text FROM ({sql}) x"), &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect()
}

/// A workspace that has lived: everything that there is to export.
fn lived(db: &Database) -> Client {
    let mut ann = db.user("ann");
    let workspace: Uuid = ann
        .query_one("SELECT engram.current_user_id()", &[])
        .unwrap()
        .get(0);
    db.admin()
        .execute(
            "INSERT INTO engram.memory_type_settings VALUES ($1, 'opinion', 0.45, 0.07)",
            &[&workspace],
        )
        .unwrap();
    ann.batch_execute(
        "SELECT engram.configure('{\"decay\": 0.45}');
         SELECT engram.apply_preset('chatbot');
         SELECT engram.add('Fact number ' || i || ' about tea and rain', embedding => ARRAY[i, 1, 0.1]::real[]::extensions.vector,
           entities => ARRAY['Tea', 'Place ' || i % 3], tags => ARRAY['t' || i % 2, 'ünï'], metadata => jsonb_build_object('n', i, 'null', NULL, 'deep', '{\"x\": [1, null]}'::jsonb),
           importance => 0.1 * (i % 10), session_id => 's' || i % 2, speaker => 'Bob', role => 'user', agent_id => 'a', source => 'test',
           occurred_at => timestamptz '2024-02-29' + i * interval '1 day')
         FROM generate_series(1, 12) i;
         SELECT engram.add_alias('Tea', 'Chai');
         SELECT engram.touch(ARRAY(SELECT id FROM engram.list(match_count => 4)), at => now() - i * interval '1 day') FROM generate_series(1, 5) i;
         SELECT engram.touch(ARRAY(SELECT id FROM engram.list(match_count => 1)), at => now() - i * interval '1 minute') FROM generate_series(1, 1100) i;
         SELECT engram.consolidate();
         SELECT engram.configure('{\"mu1\": 0.1, \"link_members\": 4}');
         SELECT engram.rate(id, 2) FROM engram.list(match_count => 1, skip => 5);
         SELECT engram.reinforce(ARRAY(SELECT id FROM engram.list(match_count => 2, skip => 3)), -0.5, recall_id => '018f0000-aaaa-7000-8000-00000000cccc');
         SELECT engram.update(id, content => 'Changed: ' || content, expires_at => '2100-01-01', entities => '{Rain}') FROM engram.list(match_count => 1, skip => 6);
         SELECT engram.update(id, importance => 0.99, valid_from => '2020-01-01', valid_to => '2021-01-01', summary => 'short') FROM engram.list(match_count => 1, skip => 6);
         SELECT engram.pin(id) FROM engram.list(match_count => 1, skip => 7);
         SELECT engram.update(id, occurred_at => '0044-03-15 12:00 BC', expires_at => 'infinity', valid_to => '12000-01-01') FROM engram.list(match_count => 1, skip => 7);
         SELECT engram.forget(id) FROM engram.list(match_count => 1, skip => 8);
         SELECT engram.supersede(id, content => 'What holds now about rain') FROM engram.list(match_count => 1, skip => 9);
         SELECT engram.contradict((SELECT id FROM engram.list(match_count => 1)), (SELECT id FROM engram.list(match_count => 1, skip => 1)));
         SELECT engram.link((SELECT id FROM engram.list(match_count => 1)), (SELECT id FROM engram.list(match_count => 1, skip => 2)), 'part of', 0.5);
         SELECT engram.erase(ARRAY[engram.add('to be erased')]);
         SELECT engram.append_messages((SELECT jsonb_agg(jsonb_build_object('content', 'turn ' || i, 'metadata', '{\"a\": null}'::jsonb,
           'created_at', timestamptz '2022-01-01' + i * interval '1 minute')) FROM generate_series(1, 130) i), 'old');
         SELECT engram.archive_messages(keep => 3);
         SELECT engram.append_messages('[{\"content\": \"hello\"}, {\"content\": \"hi\", \"role\": \"assistant\", \"speaker\": \"Bot\"}]', 'new');",
    )
    .unwrap();
    ann
}

const SEEN: [&str; 6] = [
    "SELECT id, content, version, layer, created_at, updated_at, access_count, entities FROM engram.list(include => '{forgotten,superseded,expired}')",
    "SELECT m.id, engram.activation(m.id, timestamptz '2027-01-01'), r FROM engram.memories m, engram.retention(m.id, timestamptz '2027-01-01') r ORDER BY 1",
    "SELECT id, round(score::numeric, 9), matched FROM engram.search('tea number 3', at => timestamptz '2027-01-01')",
    "SELECT id, round(score::numeric, 9) FROM engram.search('rain', ARRAY[3, 1, 0.1]::real[]::extensions.vector, at => timestamptz '2027-01-01')",
    "SELECT l FROM engram.memories m CROSS JOIN LATERAL engram.links(m.id, timestamptz '2027-01-01') l WHERE m.deleted_at IS NULL ORDER BY m.id, l",
    "SELECT e FROM engram.entities() e ORDER BY 1",
];

#[test]
fn what_goes_out_comes_in_as_it_was() {
    let source = Database::new();
    let mut ann = lived(&source);
    let lines = export(&mut ann);
    let kinds: BTreeSet<&str> = lines.iter().map(|l| l["kind"].as_str().unwrap()).collect();
    let settings = lines.iter().find(|l| l["kind"] == "settings").unwrap();
    assert_eq!(settings["past"].as_array().unwrap().len(), 1, "{settings}");
    assert_eq!(
        kinds,
        BTreeSet::from([
            "settings",
            "type_settings",
            "model",
            "alias",
            "erasure",
            "memory",
            "more",
            "link",
            "pair",
            "call",
            "credit",
            "message",
            "archive"
        ])
    );
    let seen = SEEN.map(|sql| all(&mut ann, sql));
    assert!(seen.iter().all(|rows| !rows.is_empty()));

    // All at once, in any order; line by line, in the order of the stream; in pages.
    for way in ["at once", "line by line", "pages"] {
        let target = Database::new();
        let mut there = target.user("ann");
        let outcomes = match way {
            "at once" => {
                let mut shuffled = lines.clone();
                shuffled.reverse();
                import(&mut there, &Value::from(shuffled), "")
            }
            "line by line" => lines
                .iter()
                .flat_map(|line| import(&mut there, line, ""))
                .collect(),
            _ => {
                let (mut outcomes, mut cursor, mut pages) =
                    (Vec::new(), None::<String>, Vec::new());
                loop {
                    let rows = ann
                        .query(
                            "SELECT engram.export(match_count => 7, cursor => $1)",
                            &[&cursor],
                        )
                        .unwrap();
                    let mut page: Vec<Value> = rows.iter().map(|row| row.get(0)).collect();
                    cursor = None;
                    if page.last().unwrap()["kind"] == "cursor" {
                        assert_eq!(page.len(), 8);
                        cursor = Some(page.pop().unwrap()["cursor"].as_str().unwrap().to_owned());
                    }
                    outcomes.extend(import(&mut there, &Value::from(page.clone()), ""));
                    pages.extend(page);
                    if cursor.is_none() {
                        break;
                    }
                }
                assert_same(&pages[1..], &lines);
                outcomes
            }
        };
        let bad: Vec<&Outcome> = outcomes
            .iter()
            .filter(|o| o.2.is_some() || o.1 == "error")
            .collect();
        assert!(bad.is_empty(), "{way}: {bad:?}");
        assert_same(&export(&mut there), &lines);
        for (sql, before) in SEEN.iter().zip(&seen) {
            assert_eq!(&all(&mut there, sql), before, "{way}: {sql}");
        }
        // Again: nothing changes.
        let again = import(&mut there, &Value::from(lines.clone()), "");
        assert_eq!(statuses(&again), BTreeSet::from(["unchanged"]), "{way}");
        let again = import(
            &mut there,
            &Value::from(lines.clone()),
            ", on_conflict => 'replace'",
        );
        assert_eq!(statuses(&again), BTreeSet::from(["unchanged"]), "{way}");
        assert_same(&export(&mut there), &lines);
        // Who synchronises sees that they came: one event each, of here and now.
        let news: i64 = there
            .query_one(
                "SELECT count(*) FROM engram.memory_events WHERE origin <> 0 AND action = 'added'",
                &[],
            )
            .unwrap()
            .get(0);
        let memories: i64 = there
            .query_one("SELECT count(*) FROM engram.memories", &[])
            .unwrap()
            .get(0);
        assert_eq!(news, memories);
        // What waits is folded there as it would have been here.
        ann.batch_execute("SET engram.user_id = 'ann'").unwrap();
        there.batch_execute("SELECT engram.consolidate(); SELECT engram.touch(ARRAY(SELECT id FROM engram.memories), at => '2026-01-01')").unwrap();
    }
    ann.batch_execute("SET default_transaction_read_only = on")
        .unwrap();
    assert_same(&export(&mut ann), &lines);
    let only: Vec<Value> = ann
        .query("SELECT engram.export(include => '{memories}')", &[])
        .unwrap()
        .iter()
        .skip(1)
        .map(|row| row.get(0))
        .collect();
    assert_eq!(only.len(), 13);
    assert!(only.iter().all(|l| l["kind"] == "memory"
        && l.get("uses").is_none()
        && l.get("events").is_none()
        && l.get("embeddings").is_none()));
    for (call, word) in [
        ("include => '{secrets}'", "include"),
        ("match_count => 0", "match_count"),
        ("cursor => '6:[\"x\",1]'", "cursor"),
        ("cursor => 'x'", "cursor"),
    ] {
        let error = failure(ann.query(&format!("SELECT engram.export({call})"), &[]));
        assert_eq!(error.code, "22023", "{call}");
        assert!(error.message.contains(word) && !error.hint.is_empty());
    }
}

#[test]
fn what_is_here_already_is_kept_replaced_or_refused() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let other = Database::new();
    let mut there = other.user("ann");
    let id: Uuid = ann.query_one("SELECT engram.add('The original', tags => '{a}', entities => '{Ann}', metadata => '{\"k\": 1}')", &[]).unwrap().get(0);
    let erased: Uuid = ann
        .query_one("SELECT engram.add('Erased there')", &[])
        .unwrap()
        .get(0);
    ann.batch_execute("SELECT engram.touch(ARRAY(SELECT id FROM engram.list())); SELECT engram.consolidate(); SELECT engram.configure('{\"decay\": 0.4, \"mu1\": 0.2}')").unwrap();
    let lines = Value::from(export(&mut ann));
    // A dry run tells the same and leaves nothing.
    let dry = import(&mut there, &lines, ", dry_run => true");
    assert_eq!(
        there
            .query_one("SELECT count(*) FROM engram.memory_events", &[])
            .unwrap()
            .get::<_, i64>(0),
        0
    );
    assert_eq!(dry, import(&mut there, &lines, ""));
    there
        .execute(
            "SELECT engram.update($1, content => 'Changed there', expected_version => 1)",
            &[&id],
        )
        .unwrap();
    there
        .execute("SELECT engram.erase(ARRAY[$1::uuid])", &[&erased])
        .unwrap();
    there
        .execute("SELECT engram.configure('{\"decay\": 0.6}')", &[])
        .unwrap();
    let skipped = counts(&import(&mut there, &lines, ""));
    let n = |kind: &str, status: &str| {
        skipped
            .get(&(kind.to_owned(), status.to_owned()))
            .copied()
            .unwrap_or(0)
    };
    assert_eq!(
        (
            n("memory", "skipped"),
            n("memory", "erased"),
            n("settings", "skipped")
        ),
        (1, 1, 1)
    );
    let content = |client: &mut Client| -> (String, i32) {
        let row = client
            .query_one("SELECT content, version FROM engram.get($1)", &[&id])
            .unwrap();
        (row.get(0), row.get(1))
    };
    assert_eq!(content(&mut there), ("Changed there".to_owned(), 2));
    let refused = import(&mut there, &lines, ", on_conflict => 'reject'");
    assert!(
        refused.iter().any(|o| o.0 == "memory"
            && o.1 == "error"
            && o.2.as_ref().unwrap().contains("another"))
    );
    let replaced = import(&mut there, &lines, ", on_conflict => 'replace'");
    assert!(
        replaced
            .iter()
            .any(|o| o.0 == "memory" && o.1 == "replaced")
    );
    assert_eq!(content(&mut there), ("The original".to_owned(), 3));
    assert_eq!(
        all(
            &mut there,
            "SELECT action, version FROM engram.memory_events WHERE origin <> 0 AND action <> 'erased' ORDER BY version"
        ),
        ["(added,1)", "(updated,2)", "(updated,3)"]
    );
    for sql in [
        "SELECT engram.activation(id, timestamptz '2027-01-01') FROM engram.list(filter => '{\"k\": 1}')",
        "SELECT entities, tags, access_count FROM engram.list(filter => '{\"k\": 1}')",
    ] {
        assert_eq!(all(&mut there, sql), all(&mut ann, sql), "{sql}");
    }
    assert_eq!(
        all(&mut there, "SELECT content FROM engram.search('original')").len(),
        1
    );
    assert_eq!(
        all(&mut there, "SELECT content FROM engram.search('changed')").len(),
        0
    );
    // A tombstone erases nothing, and an erased memory leaves one that travels.
    let tombstone =
        json!({"kind": "erasure", "id": id.to_string(), "erased_at": "2026-01-01T00:00:00Z"});
    assert_eq!(import(&mut there, &tombstone, "")[0].1, "skipped");
    let gone = export(&mut there)
        .into_iter()
        .find(|l| l["kind"] == "erasure")
        .unwrap();
    let mut third = other.user("bob");
    assert_eq!(import(&mut third, &gone, "")[0].1, "added");
    let memory = lines
        .as_array()
        .unwrap()
        .iter()
        .find(|l| l["id"] == erased.to_string())
        .unwrap();
    assert_eq!(import(&mut third, memory, "")[0].1, "erased");
    for (call, code) in [
        ("'{\"kind\": \"memory\"}', on_conflict => 'merge'", "22023"),
        ("'{}', format => 'zep'", "22023"),
        ("'[{\"a\": 1}]'", "22023"),
        ("'\"no json\"'", "22023"),
    ] {
        assert_eq!(
            failure(there.query(&format!("SELECT * FROM engram.import({call})"), &[])).code,
            code,
            "{call}"
        );
    }
    assert_eq!(import(&mut there, &json!([]), "").len(), 0);
    assert_eq!(
        import(&mut there, &json!({"engram": {"format": 99}}), "")[0].1,
        "error"
    );
}

#[test]
fn nothing_in_the_data_gets_further_than_its_line() {
    let db = Database::new();
    let mut bob = db.user("bob");
    let bobs: Uuid = bob
        .query_one("SELECT engram.add('Bob''s secret')", &[])
        .unwrap()
        .get(0);
    let bobs_workspace: Uuid = bob
        .query_one("SELECT engram.current_user_id()", &[])
        .unwrap()
        .get(0);
    let mut ann = db.user("ann");
    let me: Uuid = ann
        .query_one("SELECT engram.current_user_id()", &[])
        .unwrap()
        .get(0);
    let id = "018f0000-aaaa-7000-8000-000000000001";
    let at = "2024-01-01T00:00:00Z";
    let memory =
        |id: &str| json!({"kind": "memory", "id": id, "content": "fine", "created_at": at});
    let with = |key: &str, value: Value| {
        let mut line = memory(&Uuid::now_v7().to_string());
        line[key] = value;
        line
    };
    let heat = |bytes: usize| "A".repeat(bytes);
    let event =
        json!({"id": id, "at": at, "action": "updated", "version": 1, "old": {"content": "x"}});
    let bad = vec![
        with("workspace_id", bobs_workspace.to_string().into()),
        with(
            "state",
            json!({"access_count": 1, "last_accessed_at": at, "heat": heat(104)}),
        ),
        with(
            "state",
            json!({"access_count": 1, "last_accessed_at": at, "heat": heat(108)}),
        ),
        with(
            "state",
            json!({"access_count": 1, "last_accessed_at": at, "working_strength": "NaN"}),
        ),
        with(
            "state",
            json!({"access_count": 1, "last_accessed_at": "2024-99-99"}),
        ),
        with(
            "state",
            json!({"access_count": 1, "last_accessed_at": at, "base": {"at": 1}}),
        ),
        with("content", "".into()),
        with("content", "x".repeat(200_001).into()),
        with("type", "prophetic".into()),
        with("importance", 2.into()),
        with("created_at", "infinity".into()),
        with("created_at", "2024-13-45".into()),
        with("tags", vec!["t"; 10_001].into()),
        with("contradicts", json!(["x"])),
        with("valid_from", "2024-01-01".into())
            .as_object()
            .map(|m| {
                let mut m = m.clone();
                m.insert("valid_to".into(), "2023-01-01".into());
                m.into()
            })
            .unwrap(),
        with("version", 0.into()),
        with(
            "events",
            json!([{"id": id, "at": at, "action": "updated", "version": 1, "old": {}, "memory_id": bobs.to_string()}]),
        ),
        with(
            "events",
            json!([{"id": id, "at": at, "action": "updated", "version": 9, "old": {}}]),
        ),
        with(
            "events",
            json!([{"id": id, "at": at, "action": "updated", "version": 1, "old": {"importance": "high"}}]),
        ),
        with(
            "events",
            json!([{"id": id, "at": at, "action": "updated", "version": 1, "old": {"entities": 5}}]),
        ),
        with(
            "events",
            json!([{"id": id, "at": at, "action": "updated", "version": 1, "old": {"type": "prophetic"}}]),
        ),
        with(
            "events",
            json!([{"id": id, "at": at, "action": "updated", "version": 1, "old": {"version": 77}}]),
        ),
        with(
            "events",
            json!([{"id": id, "at": at, "action": "erased", "version": 1}]),
        ),
        with("created_at", "294270-01-01T00:00:00Z".into()),
        json!({"kind": "message", "session_id": "s", "id": id, "created_at": "294276-12-31T23:59:59Z", "role": "user", "content": "x"}),
        with(
            "uses",
            json!([{"id": id, "at": at, "kind": "used", "gain": 1e9}]),
        ),
        with(
            "uses",
            json!([{"id": id, "at": at, "kind": "stolen", "gain": 1}]),
        ),
        with(
            "embeddings",
            json!([{"model": "tiny", "embedding": "[0,0,0]"}]),
        ),
        with(
            "embeddings",
            json!([{"model": "tiny", "embedding": "[1,NaN,0]"}]),
        ),
        with("unknown", 1.into()),
        json!({"kind": "link", "source": id, "target": bobs.to_string(), "relation": "x"}),
        json!({"kind": "link", "source": id, "target": id, "relation": "x"}),
        json!({"kind": "pair", "a": id, "b": bobs.to_string(), "forward": 1, "backward": 1, "linked_at": at, "count": 1}),
        json!({"kind": "pair", "a": bobs.to_string(), "b": bobs.to_string(), "forward": 1, "backward": 1, "linked_at": at, "count": 1}),
        json!({"kind": "more", "memory_id": bobs.to_string(), "version": 1, "updated_at": at, "access_count": 1, "last_accessed_at": at, "events": [event]}),
        json!({"kind": "call", "id": id, "at": at, "use": "used", "gain": 1, "memory_ids": [bobs.to_string()]}),
        json!({"kind": "call", "id": id, "at": "2999-01-01T00:00:00Z", "use": "used", "gain": 1, "memory_ids": [id]}),
        json!({"kind": "credit", "recall_id": id, "memory_ids": [bobs.to_string()], "created_at": at}),
        json!({"kind": "settings", "settings": {"decay": 77}}),
        json!({"kind": "settings", "settings": {"workspace_id": bobs_workspace.to_string()}}),
        json!({"kind": "model", "name": "mine", "dims": 3, "distance": "cosine"}),
        json!({"kind": "model", "name": "tiny", "dims": 4, "distance": "cosine"}),
        json!({"kind": "message", "session_id": "", "id": id, "created_at": at, "role": "user", "content": "x"}),
        json!({"kind": "message", "session_id": "s", "id": id, "created_at": at, "role": "robot", "content": "x"}),
        json!({"kind": "archive", "session_id": "s", "id": id, "ids": [id], "turns": []}),
        json!({"kind": "spell"}),
        json!("text"),
        json!({"content": "no kind"}),
    ];
    let mut data = vec![memory(id)];
    data.extend(bad.iter().cloned());
    data.push(memory("018f0000-aaaa-7000-8000-000000000002"));
    let outcomes = import(&mut ann, &Value::from(data.clone()), ", format => 'engram'");
    for (line, (_, status, error)) in data.iter().zip(&outcomes) {
        let good = line == &data[0] || line == &data[data.len() - 1];
        assert_eq!(
            status,
            if good { "added" } else { "error" },
            "{line}: {error:?}"
        );
        if !good {
            assert!(
                error
                    .as_ref()
                    .is_some_and(|e| e.len() > 5 && !e.contains("secret")),
                "{line}: {error:?}"
            );
        }
    }
    assert_eq!(outcomes.len(), data.len());
    let stored: Vec<String> = all(
        &mut db.admin(),
        "SELECT workspace_id, user_id, count(*) FROM engram.memories GROUP BY 1, 2 ORDER BY 3",
    );
    assert_eq!(
        stored,
        [
            format!("({bobs_workspace},{bobs_workspace},1)"),
            format!("({me},{me},2)")
        ]
    );
    assert_eq!(
        bob.query_one("SELECT count(*) FROM engram.memory_events", &[])
            .unwrap()
            .get::<_, i64>(0),
        1
    );
    // Whom the data names does not matter; settings of administrators are left out and said to be.
    let named = json!([
        {"kind": "memory", "id": "018f0000-aaaa-7000-8000-000000000003", "content": "signed", "user_id": bobs_workspace.to_string(), "created_at": at, "version": 2,
         "uses": [{"id": id, "at": at, "user_id": bobs_workspace.to_string(), "kind": "used", "gain": 1}],
         "events": [{"id": id, "at": at, "actor": bobs_workspace.to_string(), "action": "updated", "version": 2, "old": {"user_id": bobs_workspace.to_string()}}]},
        {"kind": "message", "session_id": "s", "id": id, "created_at": at, "role": "user", "content": "x", "user_id": bobs_workspace.to_string()},
        {"kind": "archive", "session_id": "s", "id": id, "ids": [bobs.to_string()], "turns": [{"role": "user", "content": "x", "user_id": bobs_workspace.to_string(), "created_at": at}]},
        {"kind": "settings", "settings": {"decay": 0.3, "max_content_chars": 10000000}},
    ]);
    // A service keeps the names.
    let mut service = db.admin();
    let kept = import(
        &mut service,
        &named,
        &format!(", workspace => '{bobs_workspace}'"),
    );
    assert_eq!(statuses(&kept), BTreeSet::from(["added"]));
    assert!(kept.iter().all(|o| o.2.is_none()));
    let outcomes = import(&mut ann, &named, "");
    assert_eq!(statuses(&outcomes), BTreeSet::from(["added"]));
    assert!(
        outcomes[3]
            .2
            .as_ref()
            .unwrap()
            .contains("max_content_chars")
    );
    for (table, column) in [
        ("memories", "user_id"),
        ("access_log", "user_id"),
        ("memory_events", "actor"),
        ("memory_events", "(old ->> 'user_id')"),
        ("messages", "user_id"),
        ("message_archive", "(messages #>> '{0,user_id}')"),
    ] {
        let authors = all(
            &mut service,
            &format!(
                "SELECT DISTINCT {column}::text AS a FROM engram.{table} WHERE workspace_id = '{me}' AND {column} IS NOT NULL"
            ),
        );
        assert_eq!(authors, [format!("({me})")], "{table}");
    }
    let error = failure(ann.query(
        &format!("SELECT * FROM engram.import('[]', workspace => '{bobs_workspace}')"),
        &[],
    ));
    assert_eq!(error.code, "42501");
}

#[test]
fn turns_that_are_refused_say_what_to_do() {
    let db = Database::new();
    let mut admin = db.admin();
    for (line, word) in [
        (json!({"session_id": ""}), "session_id"),
        (
            json!({"session_id": "s", "content": "x".repeat(200_001)}),
            "200000",
        ),
    ] {
        let e = failure(admin.query(
            "SELECT * FROM engram_internal.import_messages(gen_random_uuid(), true, 'skip', 'message', $1)",
            &[&json!([{"p": 1, "l": line}])],
        ));
        assert!(
            e.code == "22023" && e.message.contains(word) && !e.hint.is_empty(),
            "{e:?}"
        );
    }
}

#[test]
fn an_import_sets_what_configure_would() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let mut admin = db.admin();
    let given = json!({
        "decay": 0.3, "candidates": 300, "fold_threshold": 5, "approximate_from": 1000000, "max_content_chars": 1000,
        "text_config": "pg_catalog.german", "partition_interval": "day", "partitions_ahead": 9, "access_log_days": 1,
        "memory_events_days": 1, "messages_days": 1, "archive_messages_days": 1, "size_limit_bytes": 1,
    });
    // Of all the settings there are, those that configure() refuses.
    let names: Vec<String> = admin
        .query(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = 'engram.settings'::regclass AND attnum > 0
               AND NOT attisdropped AND attname NOT IN ('workspace_id', 'preset') ORDER BY attname COLLATE \"C\"",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    let mut refused = Vec::new();
    for name in &names {
        let change = json!({ name.as_str(): null });
        if let Err(e) = ann.execute("SELECT engram.configure($1)", &[&change]) {
            assert_eq!(e.code().unwrap().code(), "42501", "{name}: {e:?}");
            refused.push(name.as_str());
        }
    }
    assert_eq!(refused.len(), 12);
    let line = json!([{"kind": "settings", "settings": given}]);
    let outcomes = import(&mut ann, &line, ", on_conflict => 'replace'");
    assert_eq!(outcomes[0].1, "replaced");
    assert_eq!(
        outcomes[0].2.as_deref(),
        Some(&*format!(
            "left out, because an administrator sets them: {}",
            refused.join(", ")
        ))
    );
    let own = "SELECT jsonb_strip_nulls(to_jsonb(s)) - 'workspace_id' FROM engram.settings s
               WHERE s.workspace_id <> '00000000-0000-0000-0000-000000000000'";
    let set: Value = ann.query_one(own, &[]).unwrap().get(0);
    assert_eq!(set, json!({"decay": 0.3}));
    // Those of all workspaces together are of none, whoever brings them.
    let me: Uuid = ann
        .query_one("SELECT engram.current_user_id()", &[])
        .unwrap()
        .get(0);
    let into = |workspace: Uuid| format!(", workspace => '{workspace}', on_conflict => 'replace'");
    let outcomes = import(&mut admin, &line, &into(me));
    assert_eq!(
        outcomes[0].2.as_deref(),
        Some(
            "left out, because they are of all workspaces together: access_log_days, archive_messages_days, \
             memory_events_days, messages_days, partition_interval, partitions_ahead, size_limit_bytes"
        )
    );
    let set: Value = admin.query_one(own, &[]).unwrap().get(0);
    assert_eq!(
        (set["candidates"].as_i64(), set.get("size_limit_bytes")),
        (Some(300), None)
    );
    let outcomes = import(&mut admin, &line, &into(Uuid::nil()));
    assert_eq!(
        (outcomes[0].1.as_str(), &outcomes[0].2),
        ("replaced", &None)
    );
    let defaults: Value = admin
        .query_one("SELECT engram.configuration($1)", &[&Uuid::nil()])
        .unwrap()
        .get(0);
    assert_eq!(defaults["size_limit_bytes"], 1);
}

#[test]
fn what_is_nested_too_deep_is_the_error_of_its_line() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let line = |n: u32, deep: usize| {
        let nested = format!("{}{}", "[".repeat(deep - 1), "]".repeat(deep - 1));
        format!(
            r#"{{"kind": "memory", "id": "018f0000-aaaa-7000-8000-00000000000{n}", "content": "fine {n} ]}}\"",
                "metadata": {{"a": {nested}}}, "created_at": "2024-01-01T00:00:00Z"}}"#
        )
        .replace('\n', "")
    };
    let lines = [line(1, 100), line(2, 101), line(3, 300), line(4, 2)];
    for data in [
        format!("[{}]", lines.join(",")),
        // As clients send what they read of a file.
        Value::from(lines.join("\n")).to_string(),
        Value::from(format!("[{}]", lines.join(","))).to_string(),
    ] {
        let outcomes = ann
            .query(
                "SELECT kind, status, error FROM engram.import($1::text::jsonb, dry_run => true)",
                &[&data],
            )
            .unwrap();
        let outcomes: Vec<Outcome> = outcomes
            .iter()
            .map(|row| (row.get(0), row.get(1), row.get(2)))
            .collect();
        let statuses: Vec<&str> = outcomes.iter().map(|o| o.1.as_str()).collect();
        assert_eq!(
            statuses,
            ["added", "error", "error", "added"],
            "{outcomes:?}"
        );
        assert!(outcomes.iter().all(|o| o.0 == "memory"), "{outcomes:?}");
        for bad in [1, 2] {
            let error = outcomes[bad].2.as_ref().unwrap();
            assert!(error.contains("nested"), "{error}");
        }
    }
    // One value that is nothing but deep.
    let e = failure(ann.query(
        "SELECT * FROM engram.import((repeat('[', 300) || repeat(']', 300))::jsonb, format => 'mem0')",
        &[],
    ));
    assert!(
        e.code == "22023" && e.message.contains("127") && !e.hint.is_empty(),
        "{e:?}"
    );
}

#[test]
fn engramai_comes_in() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let data: Value = serde_json::from_str(include_str!("../fixtures/engramai.json")).unwrap();
    let outcomes = import(&mut ann, &data, "");
    let n = |kind: &str, status: &str| {
        counts(&outcomes)
            .get(&(kind.to_owned(), status.to_owned()))
            .copied()
            .unwrap_or(0)
    };
    assert_eq!(
        (
            n("memory", "added"),
            n("memory", "error"),
            n("uses", "error"),
            n("pair", "added"),
            n("link", "added")
        ),
        (3, 1, 1, 2, 1),
        "{outcomes:?}"
    );
    let rows = all(
        &mut ann,
        "SELECT content, type, layer, pinned, importance, created_at AT TIME ZONE 'UTC' AS c, access_count, entities, metadata - 'engramai_id' AS m
         FROM engram.list() ORDER BY created_at",
    );
    assert_eq!(
        rows,
        [
            r#"("Mara plays the cello on Thursdays",factual,archive,f,0.6,"2025-01-01 00:00:00.25",3,{Mara},"{""user"": {""mood"": ""calm""}}")"#,
            r#"("Mara has given up the cello",episodic,archive,f,0.4,"2025-01-27 17:46:40",2,{Cello},"{""namespace"": ""music""}")"#,
            r#"("Never book flights before nine",procedural,core,t,0.9,"2025-01-28 21:33:20",1,{},{})"#,
        ]
    );
    // Strengths as of the moment that theirs were of, and activation by all uses.
    let row = ann
        .query_one(
            "SELECT r.working_strength, r.core_strength, engram.activation(m.id, timestamptz '2025-02-01'),
                    engram.base_level(ARRAY[2678399.75, 2368000, 1367999.5]::float8[])
             FROM engram.memories m, engram.retention(m.id, timestamptz '2025-02-01') r WHERE m.content LIKE '%Thursdays'",
            &[],
        )
        .unwrap();
    assert!(
        (row.get::<_, f64>(0) - 0.31).abs() < 1e-6 && (row.get::<_, f64>(1) - 0.42).abs() < 1e-6,
        "{row:?}"
    );
    assert!(
        (row.get::<_, f64>(2) - row.get::<_, f64>(3)).abs() < 0.01,
        "{row:?}"
    );
    let pairs = all(
        &mut ann,
        "SELECT count, round(engram.link_strength(forward + backward)::numeric, 6) AS s, round((greatest(forward, backward) / (forward + backward))::numeric, 6) AS d FROM engram.hebbian_links ORDER BY count",
    );
    assert_eq!(pairs, ["(2,0.329680,0.500000)", "(4,0.500000,0.750000)"]);
    assert_eq!(
        all(&mut ann, "SELECT count(*) FROM engram.conflicts()"),
        ["(1)"]
    );
    assert_eq!(all(&mut ann, "SELECT content FROM engram.search('cello', ARRAY[0.1, 0.2, 0.3]::real[]::extensions.vector)").len(), 2);
    let before = export(&mut ann);
    let again = import(&mut ann, &data, ", on_conflict => 'replace'");
    assert!(
        statuses(&again).is_subset(&BTreeSet::from(["unchanged", "error"])),
        "{again:?}"
    );
    assert_same(&export(&mut ann), &before);
}

#[test]
fn mem0_comes_in() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let data: Value = serde_json::from_str(include_str!("../fixtures/mem0.json")).unwrap();
    let outcomes = import(&mut ann, &data, "");
    let n = |status: &str| outcomes.iter().filter(|o| o.1 == status).count();
    assert_eq!((n("added"), n("error")), (5, 2), "{outcomes:?}");
    let rows = all(
        &mut ann,
        "SELECT content, version, agent_id, session_id, tags, metadata, created_at AT TIME ZONE 'UTC' AS c, entities FROM engram.list() WHERE source = 'mem0' ORDER BY content COLLATE \"C\"",
    );
    assert_eq!(
        rows[0],
        r#"("Drinks oat milk, not cow's milk",2,,,{},"{""mem0_user_id"": ""jonas""}","2024-07-21 16:00:00",{})"#
    );
    assert_eq!(
        rows[1],
        r#"("Has a dog",1,,,{},{},"2024-07-23 09:00:00",{})"#
    );
    assert_eq!(
        rows[2],
        r#"("Name is Jonas",1,helper,run-1,{personal_details},"{""null"": null, ""topic"": ""person"", ""mem0_user_id"": ""jonas""}","2024-07-20 08:30:36.275141",{})"#
    );
    assert!(
        rows[4].starts_with(r#"("jonas works in porto",1,"#)
            && rows[4].ends_with("\"{jonas,porto}\")"),
        "{}",
        rows[4]
    );
    // Its history: what it said before.
    assert_eq!(
        all(
            &mut ann,
            "SELECT action, version, old ->> 'content' AS c, at AT TIME ZONE 'UTC' AS t FROM engram.memory_events WHERE origin = 0 AND memory_id = '9d1c0c64-2f9b-4b7b-8a5b-63a1f9c0d711' ORDER BY version"
        ),
        [
            r#"(added,1,,"2024-07-21 16:00:00")"#,
            r#"(updated,2,"Drinks milk","2024-08-02 16:00:00")"#
        ]
    );
    // What it did not say of the past was as it is, so that there is a memory to go back to.
    assert_eq!(
        all(
            &mut ann,
            "SELECT content, type, importance, tags, entities FROM engram.list(as_of => '2024-07-30')
             WHERE id = '9d1c0c64-2f9b-4b7b-8a5b-63a1f9c0d711'"
        ),
        [r#"("Drinks milk",factual,0.3,{},{})"#]
    );
    let mut trial = ann.transaction().unwrap();
    let version: i32 = trial
        .query_one(
            "SELECT engram.revert('9d1c0c64-2f9b-4b7b-8a5b-63a1f9c0d711', 1)",
            &[],
        )
        .unwrap()
        .get(0);
    assert_eq!(version, 3);
    trial.rollback().unwrap();
    let before = export(&mut ann);
    let again = import(&mut ann, &data, "");
    assert!(
        statuses(&again).is_subset(&BTreeSet::from(["unchanged", "error"])),
        "{again:?}"
    );
    assert_same(&export(&mut ann), &before);
    // A plain list, and rows of the history alone.
    let mut bob = db.user("bob");
    assert_eq!(
        import(&mut bob, &data["results"], "")
            .iter()
            .filter(|o| o.1 == "added")
            .count(),
        3
    );
    let mut eve = db.user("eve");
    assert_eq!(
        import(&mut eve, &data["history"], "")
            .iter()
            .filter(|o| o.1 == "added")
            .count(),
        2
    );
}

#[test]
fn the_graph_of_the_mcp_memory_server_comes_in() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let file = include_str!("../fixtures/mcp.jsonl");
    // The file as it is, in one text.
    let outcomes = import(&mut ann, &Value::from(file), "");
    assert_eq!(
        outcomes.iter().map(|o| o.1.as_str()).collect::<Vec<_>>(),
        ["added", "added", "added", "error", "added"],
        "{outcomes:?}"
    );
    let rows = all(
        &mut ann,
        "SELECT content, type, tags, entities FROM engram.list() ORDER BY content COLLATE \"C\"",
    );
    assert_eq!(
        rows,
        [
            r#"("Atlas is a project",factual,{project},{Atlas})"#,
            r#"("Ines Duarte graduated in 2019",factual,{person},"{""Ines Duarte""}")"#,
            r#"("Ines Duarte works on Atlas",relational,{},"{Atlas,""Ines Duarte""}")"#,
            r#"("Ines Duarte: Speaks fluent Portuguese",factual,{person},"{""Ines Duarte""}")"#,
        ]
    );
    assert_eq!(
        all(
            &mut ann,
            "SELECT relation, label FROM engram.graph_links WHERE relation <> 'mentions'"
        ),
        ["(works_on,Atlas)"]
    );
    // The same graph as an object is the same, and so is each of its lines.
    let lines: Vec<Value> = file
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let graph = json!({"entities": [lines[0], lines[1]], "relations": [lines[3]]});
    let before = export(&mut ann);
    for data in [graph, Value::from(lines)] {
        let again = import(&mut ann, &data, "");
        assert!(
            statuses(&again).is_subset(&BTreeSet::from(["unchanged", "error"])),
            "{again:?}"
        );
    }
    assert_same(&export(&mut ann), &before);
}

#[test]
fn what_supersedes_itself_in_a_circle_does_not_come_in() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let id = |n: usize| format!("018f0000-aaaa-7000-8000-{n:012}");
    let memory = |n: usize, by: usize| json!({"kind": "memory", "id": id(n), "content": format!("memory {n}"), "superseded_by": id(by)});
    let last = |n: usize| json!({"kind": "memory", "id": id(n), "content": format!("memory {n}")});
    let stated = |outcomes: Vec<Outcome>| -> Vec<String> {
        outcomes
            .into_iter()
            .map(|(_, status, error)| {
                assert_eq!(
                    error.is_some_and(|e| e.contains("supersede")),
                    status == "error"
                );
                status
            })
            .collect()
    };
    // Two, one, and three to which another leads; a chain is none.
    let data = json!([
        memory(1, 2),
        memory(2, 1),
        memory(3, 3),
        memory(4, 5),
        memory(5, 6),
        memory(6, 4),
        memory(7, 4),
        memory(8, 9),
        last(9)
    ]);
    for more in [", dry_run => true", ""] {
        assert_eq!(
            stated(import(&mut ann, &data, more)),
            [
                "error", "error", "error", "error", "error", "error", "added", "added", "added"
            ]
        );
    }
    assert_eq!(all(&mut ann, "SELECT id FROM engram.memories").len(), 3);
    // With what is here: 8 was superseded by 9, and 7 by 4, which was not here.
    let data = json!([memory(4, 7), last(10)]);
    assert_eq!(
        stated(import(&mut ann, &data, ", dry_run => true")),
        ["error", "added"]
    );
    let data = json!([memory(9, 8), last(10)]);
    assert_eq!(
        stated(import(&mut ann, &data, ", on_conflict => 'replace'")),
        ["error", "added"]
    );
    // The other way round is none.
    let data = json!([memory(9, 8), last(8), memory(4, 10)]);
    assert_eq!(
        stated(import(&mut ann, &data, ", on_conflict => 'replace'")),
        ["replaced", "replaced", "added"]
    );
    assert_eq!(
        all(
            &mut ann,
            "SELECT right(engram.latest(id)::text, 2) FROM engram.memories ORDER BY id"
        ),
        ["10", "10", "08", "08", "10"].map(|n| format!("({n})"))
    );
}

#[test]
fn tables_that_are_none_are_told_of() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let fine = json!([{"name": "Ines", "entityType": "person", "observations": ["sings"]}]);
    for (data, key) in [
        (json!({"entities": 5}), "entities"),
        (
            json!({"entities": fine, "relations": {"from": "a"}}),
            "relations",
        ),
        (
            json!({"entities": [{"name": "Ines", "observations": "sings"}]}),
            "observations",
        ),
        (
            json!({"entities": [{"name": "Ines", "observations": ["sings", 5]}]}),
            "observations",
        ),
        (json!({"memories": 5, "hebbian_links": []}), "memories"),
        (
            json!({"memories": [{"id": "a1b2c3d4", "content": "x", "memory_type": "factual"}], "access_log": "none"}),
            "access_log",
        ),
        (json!({"results": [], "history": 5}), "history"),
        (
            json!({"results": [{"id": "a", "memory": "x"}], "relations": "none"}),
            "relations",
        ),
    ] {
        let outcomes = import(&mut ann, &data, ", dry_run => true");
        let errors: Vec<&str> = outcomes.iter().filter_map(|o| o.2.as_deref()).collect();
        assert!(
            errors.len() == 1 && errors[0].contains(key),
            "{data}: {outcomes:?}"
        );
    }
    // Nothing is nothing to be told of.
    for data in [
        json!({"entities": fine, "relations": null}),
        json!({"results": [{"id": "a", "memory": "x"}], "relations": null}),
        json!({"memories": [], "access_log": null}),
    ] {
        let outcomes = import(&mut ann, &data, ", dry_run => true");
        assert!(outcomes.iter().all(|o| o.1 == "added"), "{outcomes:?}");
    }
}

/// What can be known of the past of a workspace, `$T` standing for a moment.
const PASTS: [&str; 4] = [
    "SELECT m.id, h.version, h.action, h.at, h.content, h.importance, h.tags, h.entities, h.changed
     FROM engram.memories m CROSS JOIN LATERAL engram.history(m.id) h ORDER BY m.id, h.version",
    "SELECT id, content, version, importance, tags, entities, deleted_at, superseded_by, created_at, updated_at, access_count, last_accessed_at
     FROM engram.list(match_count => 1000, include => '{forgotten,superseded,expired}', as_of => '$T')",
    "SELECT m.id, g.content, g.version FROM engram.memories m CROSS JOIN LATERAL engram.get(m.id, as_of => '$T') g ORDER BY 1",
    "SELECT id, content, round(score::numeric, 6) FROM engram.search('cat', match_count => 100, as_of => '$T') ORDER BY 1",
];

fn pasts(client: &mut Client, moments: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for moment in moments {
        for sql in PASTS {
            found.push(all(client, &sql.replace("$T", moment)));
        }
    }
    found
}

#[test]
fn the_past_comes_in_as_it_was() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let mut moments = Vec::new();
    for step in [
        "SELECT engram.add('Cat ' || i || ' is Miso', entities => '{Miso}') FROM generate_series(1, 30) i",
        "SELECT engram.update(id, content => replace(content, 'Miso', 'Mochi')) FROM engram.list(match_count => 20)",
        "SELECT engram.pin(id) FROM engram.list(match_count => 2);
         SELECT engram.forget(id) FROM engram.list(match_count => 1, skip => 3);
         SELECT engram.supersede(id, content => 'No cat') FROM engram.list(match_count => 1, skip => 5);
         SELECT engram.touch(ARRAY(SELECT id FROM engram.list(match_count => 4)))",
        "SELECT engram.add('A late cat')",
    ] {
        ann.batch_execute(step).unwrap();
        moments.push(
            ann.query_one("SELECT clock_timestamp()::text", &[])
                .unwrap()
                .get(0),
        );
    }
    let lines = export(&mut ann);
    let wanted = pasts(&mut ann, &moments);
    let mut bob = db.user("bob");
    let cursor = |bob: &mut Client| -> String {
        bob.query_one(
            "SELECT cursor_next FROM engram.changes(match_count => 10000) WHERE op = 'end'",
            &[],
        )
        .unwrap()
        .get(0)
    };
    let before = cursor(&mut bob);
    let data = Value::from(lines.clone());
    let first = import(&mut bob, &data, "");
    assert!(
        statuses(&first).is_subset(&BTreeSet::from(["added", "unchanged"])),
        "{first:?}"
    );
    for (n, (got, wanted)) in pasts(&mut bob, &moments).iter().zip(&wanted).enumerate() {
        assert_eq!(got, wanted, "{} as of {}", PASTS[n % 4], moments[n / 4]);
    }
    assert_eq!(wanted[1].len(), 30);
    // Devices learn of all that is there.
    let sent: i64 = bob
        .query_one(
            "SELECT count(*) FROM engram.changes($1, 10000) WHERE op = 'upsert'",
            &[&before],
        )
        .unwrap()
        .get(0);
    assert_eq!(sent, 31);
    let named = |lines: Vec<Value>| -> Vec<Value> {
        let text = Value::from(lines).to_string();
        let user = |name: &str| {
            let mut client = db.user(name);
            let id: Uuid = client
                .query_one("SELECT engram.current_user_id()", &[])
                .unwrap()
                .get(0);
            id.to_string()
        };
        let text = text.replace(&user("bob"), &user("ann"));
        serde_json::from_str(&text).unwrap()
    };
    assert_same(&named(export(&mut bob)), &lines);
    let again = import(&mut bob, &data, "");
    assert_eq!(statuses(&again), BTreeSet::from(["unchanged"]));
    assert_eq!(pasts(&mut bob, &moments), wanted);
}

#[test]
fn what_comes_without_a_past_was_there_since_it_was_created() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let data = json!([
        {"kind": "memory", "id": "018f0000-aaaa-7000-8000-000000000001", "content": "one version",
         "created_at": "2024-03-01T00:00:00Z", "updated_at": "2024-03-01T00:00:00Z"},
        {"kind": "memory", "id": "018f0000-aaaa-7000-8000-000000000002", "content": "the third version", "version": 3,
         "created_at": "2024-03-01T00:00:00Z", "updated_at": "2024-04-01T00:00:00Z"},
    ]);
    assert_eq!(
        statuses(&import(&mut ann, &data, "")),
        BTreeSet::from(["added"])
    );
    for (at, there) in [("2024-02-28", 0), ("2024-03-02", 2)] {
        for sql in [
            format!("SELECT FROM engram.list(as_of => '{at}')"),
            format!("SELECT FROM engram.search('version', as_of => '{at}')"),
        ] {
            assert_eq!(ann.query(&sql, &[]).unwrap().len(), there, "{sql}");
        }
    }
    // What made the versions is known of those that came in as they were first stored.
    assert_eq!(
        all(
            &mut ann,
            "SELECT h.version, h.action, h.at = m.updated_at AS then FROM engram.memories m CROSS JOIN LATERAL engram.history(m.id) h ORDER BY 1"
        ),
        ["(1,added,f)", "(3,,t)"]
    );
}

#[test]
fn retention_policies_come_along() {
    let source = Database::new();
    let mut ann = source.user("ann");
    ann.batch_execute(
        "SELECT engram.set_retention('chatter', max_age => '1 mon 2 days 03:04:05.6', types => '{episodic,opinion}', max_importance => 0.4);
         SELECT engram.set_retention('most', max_count => 500, action => 'erase');
         SET IntervalStyle = 'sql_standard'",
    )
    .unwrap();
    let lines = export(&mut ann);
    assert_eq!(lines.len(), 2);
    // Page by page too.
    let mut cursor: Option<String> = None;
    let mut paged = Vec::new();
    loop {
        let page: Vec<Value> = ann
            .query(
                "SELECT engram.export(match_count => 1, cursor => $1)",
                &[&cursor],
            )
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        cursor = page
            .iter()
            .find(|l| l["kind"] == "cursor")
            .map(|l| l["cursor"].as_str().unwrap().to_owned());
        paged.extend(page.into_iter().filter(|l| l["kind"] == "retention"));
        if cursor.is_none() {
            break;
        }
    }
    assert_same(&paged, &lines);
    assert_eq!(
        all(&mut ann, "SELECT engram.export(include => '{memories}')").len(),
        1
    );
    let target = Database::new();
    let mut bob = target.user("bob");
    let data = Value::from(lines.clone());
    let outcomes = import(&mut bob, &data, "");
    assert_eq!(
        counts(&outcomes),
        BTreeMap::from([(("retention".to_owned(), "added".to_owned()), 2)])
    );
    let policies = "SELECT name, action, types, max_importance, max_age, max_count, created_at FROM engram.retention_policies ORDER BY name";
    ann.batch_execute("RESET IntervalStyle").unwrap();
    assert_eq!(all(&mut bob, policies), all(&mut ann, policies));
    assert_same(&export(&mut bob), &lines);
    assert_eq!(
        statuses(&import(&mut bob, &data, ", on_conflict => 'reject'")),
        BTreeSet::from(["unchanged"])
    );
    // Another one of the name.
    let other = json!({"kind": "retention", "name": "most", "action": "forget", "max_count": 7});
    for (how, status) in [
        ("skip", "skipped"),
        ("reject", "error"),
        ("replace", "replaced"),
    ] {
        let more = format!(", on_conflict => '{how}'");
        assert_eq!(
            statuses(&import(&mut bob, &other, &more)),
            BTreeSet::from([status])
        );
    }
    // What set_retention() refuses is refused here, and the others come in.
    let base = json!({"kind": "retention", "name": "n", "action": "forget", "max_count": 7});
    let mut many = vec![base.clone()];
    for (key, bad) in [
        ("name", json!("")),
        ("action", json!("burn")),
        ("max_count", json!(-1)),
        ("max_count", Value::Null),
        ("max_age", json!("-1 day")),
        ("max_age", json!("a while")),
        ("types", json!(["dreams"])),
        ("max_importance", json!(2)),
        (
            "workspace_id",
            json!("018f0000-aaaa-7000-8000-000000000001"),
        ),
    ] {
        let mut line = base.clone();
        line["name"] = json!("bad");
        line[key] = bad;
        many.push(line);
    }
    let outcomes = import(&mut bob, &Value::from(many), "");
    assert_eq!(outcomes[0].1, "added");
    for outcome in &outcomes[1..] {
        assert_eq!(outcome.1, "error", "{outcome:?}");
    }
    assert_eq!(
        all(
            &mut bob,
            "SELECT name FROM engram.retention_policies ORDER BY 1"
        ),
        ["(chatter)", "(most)", "(n)"]
    );
}
