//! Storing, reading, changing, forgetting and erasing.

use postgres::Client;
use postgres::types::ToSql;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cluster::{Database, failure};

/// First column of the first row.
fn one<T: for<'a> postgres::types::FromSql<'a>>(
    client: &mut Client,
    sql: &str,
    args: &[&(dyn ToSql + Sync)],
) -> T {
    client
        .query_one(sql, args)
        .unwrap_or_else(|e| panic!("{sql}: {e:?}"))
        .get(0)
}

/// A whole row of `get` as JSON, or null.
fn get(client: &mut Client, id: Uuid) -> Value {
    client
        .query_opt("SELECT to_jsonb(g) FROM engram.get($1) g", &[&id])
        .unwrap()
        .map_or(Value::Null, |row| row.get(0))
}

fn add(client: &mut Client, content: &str) -> Uuid {
    one(client, "SELECT engram.add($1)", &[&content])
}

#[test]
fn every_argument_of_add_is_stored() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let wanted = Uuid::now_v7();
    let id: Uuid = one(
        &mut ann,
        "SELECT engram.add(content => 'She likes it', type => 'opinion', importance => 0.7,
           embedding => '[1,2,3]', tags => ARRAY['drink', 'taste'], metadata => '{\"a\": {\"b\": 1}}',
           occurred_at => '2023-05-08T10:00:00Z', agent_id => 'bot', session_id => 's1',
           speaker => 'Ann', role => 'user', source => 'chat', entities => ARRAY['Ann', 'Green Tea', 'ann!'],
           id => $1, expires_at => '2099-01-01T00:00:00Z', on_duplicate => 'allow', workspace => NULL)",
        &[&wanted],
    );
    assert_eq!(id, wanted);
    let row = get(&mut ann, id);
    let me: Uuid = one(&mut ann, "SELECT engram.current_user_id()", &[]);
    for (key, value) in [
        ("content", json!("She likes it")),
        ("type", json!("opinion")),
        ("importance", json!(0.7)),
        ("tags", json!(["drink", "taste"])),
        ("metadata", json!({"a": {"b": 1}})),
        ("occurred_at", json!("2023-05-08T10:00:00+00:00")),
        ("agent_id", json!("bot")),
        ("session_id", json!("s1")),
        ("speaker", json!("Ann")),
        ("role", json!("user")),
        ("source", json!("chat")),
        ("entities", json!(["Ann", "Green Tea"])),
        ("expires_at", json!("2099-01-01T00:00:00+00:00")),
        ("workspace_id", json!(me.to_string())),
        ("user_id", json!(me.to_string())),
        ("layer", json!("working")),
        ("pinned", json!(false)),
        ("version", json!(1)),
        ("access_count", json!(1)),
    ] {
        assert_eq!(row[key], value, "{key}");
    }
    let vector: String = one(
        &mut ann,
        "SELECT embedding::text FROM engram.embeddings WHERE memory_id = $1 AND model = 'tiny'",
        &[&id],
    );
    assert_eq!(vector, "[1,2,3]");
    let found: i64 = one(
        &mut ann,
        "SELECT count(*) FROM engram.search('where was that green tea?')",
        &[],
    );
    assert_eq!(found, 1, "an entity named in the query finds the memory");
}

#[test]
fn defaults_are_those_of_the_type_and_null_means_default() {
    let db = Database::new();
    let mut ann = db.user("ann");
    for (kind, importance) in [
        ("factual", 0.3),
        ("episodic", 0.4),
        ("relational", 0.6),
        ("emotional", 0.9),
        ("procedural", 0.5),
        ("opinion", 0.3),
        ("causal", 0.7),
    ] {
        let id: Uuid = one(
            &mut ann,
            "SELECT engram.add($1, $2, tags => NULL, metadata => NULL, on_duplicate => NULL)",
            &[&format!("a {kind} thing"), &kind],
        );
        let row = get(&mut ann, id);
        assert_eq!(row["importance"], json!(importance), "{kind}");
        assert_eq!((&row["tags"], &row["metadata"]), (&json!([]), &json!({})));
    }
    // Per workspace, by whoever administers the database.
    let me: Uuid = one(&mut ann, "SELECT engram.current_user_id()", &[]);
    db.admin()
        .execute(
            "INSERT INTO engram.memory_type_settings VALUES ($1, 'factual', 0.8, 0.5)",
            &[&me],
        )
        .unwrap();
    let id = add(&mut ann, "one more fact");
    assert_eq!(get(&mut ann, id)["importance"], json!(0.8));
}

#[test]
fn content_survives_to_the_byte() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let long = "0123456789".repeat(10_000);
    let words: String = (0..13_000).map(|i| format!("w{i}x-y{i} ")).collect();
    for content in [
        "plain",
        "  leading and trailing  ",
        "quotes ' \" ` $$ \\ ; -- /* */",
        "'; DROP TABLE engram.memories; --",
        "emoji 👩‍👩‍👧‍👦 🏳️‍🌈",
        "漢字かな交じり文 한국어 ไทย",
        "مرحبا بالعالم",
        "שלום",
        "e\u{301} é \u{200b}zero\u{feff}width",
        "tab\tnew\nline\r\n",
        &long,
        words.trim_end(),
    ] {
        let id = add(&mut ann, content);
        let stored: String = one(&mut ann, "SELECT content FROM engram.get($1)", &[&id]);
        assert!(stored == content, "{:.40}", content);
        let many: Value = one(
            &mut ann,
            "SELECT to_jsonb(a) FROM engram.add_many(jsonb_build_array(jsonb_build_object('content', $1::text))) a",
            &[&content],
        );
        assert_eq!(
            many["id"],
            json!(id.to_string()),
            "the same memory through add_many"
        );
    }
}

#[test]
fn values_that_cannot_be_are_refused_with_a_way_out() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let id = add(&mut ann, "kept");
    db.admin()
        .execute("UPDATE engram.settings SET max_content_chars = 20", &[])
        .unwrap();
    let cases: &[(&str, &str, &str)] = &[
        ("SELECT engram.add('x', 'fact')", "22023", "\"fact\""),
        (
            "SELECT engram.add('x', importance => 1.01)",
            "22023",
            "1.01",
        ),
        (
            "SELECT engram.add('x', importance => -0.5)",
            "22023",
            "-0.5",
        ),
        (
            "SELECT engram.add('x', importance => 'NaN')",
            "22023",
            "NaN",
        ),
        ("SELECT engram.add('kept', importance => 7)", "22023", "7"),
        ("SELECT engram.add(NULL)", "22023", "NULL"),
        ("SELECT engram.add('')", "22023", "empty"),
        ("SELECT engram.add(E' \\t\\n\u{200b}')", "22023", "empty"),
        (
            "SELECT engram.add('123456789012345678901')",
            "22023",
            "21 characters, the limit is 20",
        ),
        (
            "SELECT engram.add('x', role => 'boss')",
            "22023",
            "\"boss\"",
        ),
        (
            "SELECT engram.add('x', metadata => '[1]')",
            "22023",
            "array",
        ),
        (
            "SELECT engram.add('x', tags => ARRAY['a', NULL])",
            "22023",
            "tags",
        ),
        (
            "SELECT engram.add('x', entities => ARRAY['!!'])",
            "22023",
            "\"!!\"",
        ),
        (
            "SELECT engram.add('x', on_duplicate => 'replace')",
            "22023",
            "\"replace\"",
        ),
        (
            "SELECT engram.add('x', embedding => '[1,2]')",
            "22000",
            "2 dimensions, model \"tiny\" has 3",
        ),
        (
            "SELECT engram.add('x', embedding => '[0,0,0]')",
            "22000",
            "all zeros",
        ),
        (
            "SELECT engram.add('x', workspace => '018f3a2e-0000-7000-8000-000000000000')",
            "42501",
            "018f3a2e",
        ),
        (
            "SELECT engram.add_many('{\"content\": 1}')",
            "22023",
            "must be an array",
        ),
        (
            "SELECT engram.update('018f3a2e-0000-7000-8000-000000000000', 'x')",
            "PT404",
            "018f3a2e",
        ),
        (
            "SELECT engram.update($1, expected_version => 7)",
            "PT409",
            "version 1, not 7",
        ),
        ("SELECT engram.update($1, importance => 2)", "22023", "2"),
        ("SELECT engram.update($1, content => ' ')", "22023", "empty"),
        (
            "SELECT engram.update($1, clear => ARRAY['content'])",
            "22023",
            "content",
        ),
        (
            "SELECT engram.update($1, speaker => 'Ann', clear => ARRAY['tags', 'speaker'])",
            "22023",
            "speaker is to be cleared",
        ),
        (
            "SELECT engram.update($1, entities => '{}', clear => ARRAY['entities'])",
            "22023",
            "entities is to be cleared",
        ),
        (
            "SELECT engram.update($1, valid_from => '2020-01-02', valid_to => '2020-01-01')",
            "22023",
            "valid_from",
        ),
        (
            "SELECT engram.forget('018f3a2e-0000-7000-8000-000000000000')",
            "PT404",
            "018f3a2e",
        ),
        (
            "SELECT engram.restore('018f3a2e-0000-7000-8000-000000000000')",
            "PT404",
            "018f3a2e",
        ),
        (
            "SELECT engram.pin('018f3a2e-0000-7000-8000-000000000000')",
            "PT404",
            "018f3a2e",
        ),
        ("SELECT engram.unpin(NULL)", "22023", "NULL"),
        (
            "SELECT engram.set_embedding('018f3a2e-0000-7000-8000-000000000000', '[1,2,3]')",
            "PT404",
            "018f3a2e",
        ),
        (
            "SELECT engram.set_embedding($1, '[1,2,3,4]')",
            "22000",
            "4 dimensions",
        ),
        ("SELECT engram.set_embedding($1, NULL)", "22023", "NULL"),
        (
            "SELECT engram.set_embedding($1, '[1,2,3]', 'other')",
            "22023",
            "\"other\"",
        ),
        (
            "SELECT engram.pending_embeddings('other')",
            "22023",
            "\"other\"",
        ),
        (
            "SELECT engram.pending_embeddings(match_count => 0)",
            "22023",
            "0",
        ),
        (
            "SELECT engram.pending_embeddings(lease_seconds => 0)",
            "22023",
            "0",
        ),
        ("SELECT engram.erase()", "22023", "neither"),
        ("SELECT engram.erase(filter => '{}')", "22023", "neither"),
        ("SELECT engram.list(match_count => 1001)", "22023", "1001"),
        ("SELECT engram.list(skip => -1)", "22023", "-1"),
        (
            "SELECT engram.list(cursor => 'page2')",
            "22023",
            "\"page2\"",
        ),
        (
            "SELECT engram.list(include => ARRAY['gone'])",
            "22023",
            "gone",
        ),
        (
            "SELECT engram.list('{\"importance\": {\"above\": 1}}')",
            "22023",
            "\"above\"",
        ),
        (
            "SELECT engram.list('{\"created_at\": {\"gt\": \"soon\"}}')",
            "22023",
            "\"soon\"",
        ),
        ("SELECT engram.search('x', match_count => 0)", "22023", "0"),
        (
            "SELECT engram.search('x', min_score => 'NaN')",
            "22023",
            "NaN",
        ),
        (
            "SELECT engram.search('x', types => ARRAY['fact'])",
            "22023",
            "\"fact\"",
        ),
        (
            "SELECT engram.search('x', include => ARRAY['forgotten'])",
            "22023",
            "forgotten",
        ),
        (
            "SELECT engram.search('x', '[1,2]')",
            "22000",
            "2 dimensions",
        ),
        ("SELECT engram.search('x', '[0,0,0]')", "22000", "all zeros"),
        (
            "SELECT engram.search('x', model => 'other')",
            "22023",
            "\"other\"",
        ),
        (
            "SELECT engram.search('x', filter => '{\"OR\": 1}')",
            "22023",
            "\"OR\"",
        ),
        ("SELECT engram.set_embedding_model('m', 3)", "42501", "app"),
        (
            "INSERT INTO engram.memories (content, importance) VALUES ('x', 3)",
            "22023",
            "3",
        ),
        (
            "INSERT INTO engram.memories (content, type) VALUES ('x', 'fact')",
            "22023",
            "\"fact\"",
        ),
        (
            "INSERT INTO engram.memories (content) VALUES (NULL)",
            "22023",
            "NULL",
        ),
        (
            "INSERT INTO engram.memories (content, user_id) VALUES ('x', '018f3a2e-0000-7000-8000-000000000000')",
            "42501",
            "018f3a2e",
        ),
        (
            "UPDATE engram.memories SET id = gen_random_uuid()",
            "22023",
            "cannot change",
        ),
        (
            "UPDATE engram.memories SET type = 'fact'",
            "22023",
            "\"fact\"",
        ),
    ];
    for (sql, code, word) in cases {
        let sql = sql.replace("$1", &format!("'{id}'"));
        let e = failure(ann.simple_query(&sql));
        assert_eq!(e.code, *code, "{sql}: {e:?}");
        assert!(e.message.contains(word), "{sql}: {e:?}");
        assert!(
            !e.hint.is_empty() || *code == "42501" && e.message.contains("permission"),
            "{sql}: {e:?}"
        );
        assert_eq!(e.detail, "", "{sql}");
    }
    // NUL cannot even be sent as text; as JSON it is PostgreSQL itself that refuses it.
    let e = failure(ann.simple_query(r#"SELECT engram.add_many('[{"content": "a\u0000b"}]')"#));
    assert_eq!(e.code, "22P05");
    assert_eq!(
        get(&mut ann, id)["version"],
        json!(1),
        "nothing above changed the memory"
    );
}

#[test]
fn duplicates_merge_skip_are_rejected_or_allowed() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let first: Uuid = one(
        &mut ann,
        "SELECT engram.add('Ann likes tea', importance => 0.5, tags => ARRAY['a'], metadata => '{\"x\": 1, \"y\": 1}',
           expires_at => '2090-01-01Z')",
        &[],
    );
    let again: Uuid = one(
        &mut ann,
        "SELECT engram.add(E'  ann LIKES\\n tea', importance => 0.9, tags => ARRAY['b', 'a'],
           metadata => '{\"x\": 2}', embedding => '[1,0,0]', entities => ARRAY['Ann'], expires_at => '2095-01-01Z')",
        &[],
    );
    assert_eq!(again, first);
    let row = get(&mut ann, first);
    assert_eq!(
        row["content"],
        json!("Ann likes tea"),
        "the old wording stays"
    );
    assert_eq!(row["importance"], json!(0.9));
    assert_eq!(row["tags"], json!(["a", "b"]));
    assert_eq!(row["metadata"], json!({"x": 2, "y": 1}));
    assert_eq!(row["entities"], json!(["Ann"]));
    assert_eq!(row["expires_at"], json!("2095-01-01T00:00:00+00:00"));
    assert_eq!(row["access_count"], json!(2));
    let vectors: i64 = one(&mut ann, "SELECT count(*) FROM engram.embeddings", &[]);
    assert_eq!(vectors, 1);

    // Less of everything takes nothing away, and no expiry means for good.
    let _: Uuid = one(
        &mut ann,
        "SELECT engram.add('Ann likes tea', importance => 0.1)",
        &[],
    );
    let row = get(&mut ann, first);
    assert_eq!(
        (&row["importance"], &row["access_count"]),
        (&json!(0.9), &json!(3))
    );
    assert_eq!(row["expires_at"], Value::Null);

    let skipped: Uuid = one(
        &mut ann,
        "SELECT engram.add('ann likes tea', on_duplicate => 'skip', importance => 1)",
        &[],
    );
    assert_eq!(skipped, first);
    assert_eq!(get(&mut ann, first)["access_count"], json!(3));
    let e = failure(ann.query(
        "SELECT engram.add('ann likes tea', on_duplicate => 'reject')",
        &[],
    ));
    assert_eq!(e.code, "23505");
    assert!(
        e.message.contains(&first.to_string()) && !e.hint.is_empty(),
        "{e:?}"
    );
    let twin: Uuid = one(
        &mut ann,
        "SELECT engram.add('ann likes tea', on_duplicate => 'allow')",
        &[],
    );
    assert_ne!(twin, first);

    // What is forgotten, expired or another user's is no duplicate.
    let mut bob = db.user("bob");
    assert_ne!(add(&mut bob, "Ann likes tea"), first);
    ann.execute(
        "SELECT engram.forget($1), engram.forget($2)",
        &[&first, &twin],
    )
    .unwrap();
    let fresh: Uuid = one(
        &mut ann,
        "SELECT engram.add('Ann likes tea', expires_at => now() - interval '1 day')",
        &[],
    );
    assert_ne!(fresh, first);
    assert_ne!(add(&mut ann, "Ann likes tea"), fresh);
}

#[test]
fn near_duplicates_merge_when_a_threshold_is_set() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let tea: Uuid = one(
        &mut ann,
        "SELECT engram.add('I drink tea', embedding => '[1,0,0]')",
        &[],
    );
    let near = "SELECT engram.add('Tea is what I drink', embedding => '[0.99,0.1,0]')";
    let apart: Uuid = one(&mut ann, near, &[]);
    assert_ne!(apart, tea, "off by default");
    ann.execute("SELECT engram.erase(ARRAY[$1::uuid])", &[&apart])
        .unwrap();
    db.admin()
        .execute(
            "UPDATE engram.settings SET near_duplicate_threshold = 0.95",
            &[],
        )
        .unwrap();
    assert_eq!(one::<Uuid>(&mut ann, near, &[]), tea);
    let far: Uuid = one(
        &mut ann,
        "SELECT engram.add('Coffee', embedding => '[0.5,1,0]')",
        &[],
    );
    assert_ne!(far, tea);
    let many: Value = one(
        &mut ann,
        "SELECT jsonb_agg(to_jsonb(a)) FROM engram.add_many('[{\"content\": \"tea again\", \"embedding\": [1,0.05,0]}]') a",
        &[],
    );
    assert_eq!(
        (&many[0]["status"], &many[0]["id"]),
        (&json!("merged"), &json!(tea.to_string()))
    );
}

#[test]
fn a_chosen_id_makes_retries_harmless() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let id = Uuid::now_v7();
    let sql = "SELECT engram.add('once', id => $1)";
    assert_eq!(one::<Uuid>(&mut ann, sql, &[&id]), id);
    assert_eq!(one::<Uuid>(&mut ann, sql, &[&id]), id);
    assert_eq!(
        get(&mut ann, id)["access_count"],
        json!(1),
        "a retry is no second use"
    );
    let e = failure(ann.query("SELECT engram.add('something else', id => $1)", &[&id]));
    assert_eq!(e.code, "23505");
    let many: Value = one(
        &mut ann,
        "SELECT to_jsonb(a) FROM engram.add_many(jsonb_build_array(jsonb_build_object('content', 'once', 'id', $1::uuid))) a",
        &[&id],
    );
    assert_eq!(many["status"], json!("unchanged"));
    // The same id in another workspace is another memory.
    let mut bob = db.user("bob");
    assert_eq!(
        one::<Uuid>(&mut bob, "SELECT engram.add('bobs', id => $1)", &[&id]),
        id
    );
    // Erased ids stay erased, by every door.
    ann.execute("SELECT engram.erase(ARRAY[$1::uuid])", &[&id])
        .unwrap();
    for sql in [
        "SELECT engram.add('once', id => $1)",
        "INSERT INTO engram.memories (content, id) VALUES ('once', $1)",
    ] {
        let e = failure(ann.query(sql, &[&id]));
        assert_eq!(e.code, "23505", "{sql}");
        assert!(e.message.contains("erased"), "{e:?}");
    }
    assert_ne!(
        add(&mut ann, "once"),
        id,
        "the content may come back as a new memory"
    );
}

#[test]
fn a_bad_item_does_not_lose_the_others() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let known = add(&mut ann, "known");
    let items = json!([
        {"content": "one", "type": "opinion", "importance": 0.8, "tags": ["t"], "metadata": {"k": 1},
         "embedding": [1, 2, 3], "occurred_at": "2023-05-08", "agent_id": "g", "session_id": "s",
         "speaker": "Ann", "role": "user", "source": "x", "expires_at": "2099-01-01"},
        {"content": "ONE"}, {"content": " "}, {"contnt": "x"}, {"content": "two", "embedding": [1]},
        {"content": "known"}, {"content": "three", "entities": ["Zed"]}, 7, {"content": "four", "importance": 9},
        {"content": "five", "on_duplicate": "never"}, {"content": "six", "occurred_at": "yesterdayish"},
        "seven", {"content": "known", "on_duplicate": "reject"}, {"content": "known", "on_duplicate": "skip"},
    ]);
    let rows = ann
        .query("SELECT * FROM engram.add_many($1)", &[&items])
        .unwrap();
    let got: Vec<(i32, Option<Uuid>, String, Option<String>)> = rows
        .iter()
        .map(|r| (r.get(0), r.get(1), r.get(2), r.get(3)))
        .collect();
    let statuses: Vec<&str> = got.iter().map(|r| r.2.as_str()).collect();
    assert_eq!(
        statuses,
        [
            "added", "merged", "error", "error", "error", "merged", "added", "error", "error",
            "error", "error", "added", "error", "skipped"
        ]
    );
    assert_eq!(
        got.iter().map(|r| r.0).collect::<Vec<_>>(),
        (1..=14).collect::<Vec<i32>>()
    );
    assert_eq!((got[1].1, got[5].1), (got[0].1, Some(known)));
    for (position, word) in [
        (3, "empty"),
        (4, "\"contnt\""),
        (5, "1 dimensions"),
        (8, "object"),
        (9, "9"),
        (10, "\"never\""),
        (11, "yesterdayish"),
        (13, "already stored"),
    ] {
        let (_, id, _, error) = &got[position - 1];
        assert!(
            id.is_none() && error.as_ref().unwrap().contains(word),
            "{:?}",
            got[position - 1]
        );
    }
    let row = get(&mut ann, got[0].1.unwrap());
    for (key, value) in [
        ("type", json!("opinion")),
        ("importance", json!(0.8)),
        ("tags", json!(["t"])),
        ("metadata", json!({"k": 1})),
        ("agent_id", json!("g")),
        ("session_id", json!("s")),
        ("speaker", json!("Ann")),
        ("role", json!("user")),
        ("source", json!("x")),
        ("occurred_at", json!("2023-05-08T00:00:00+00:00")),
        ("access_count", json!(2)),
    ] {
        assert_eq!(row[key], value, "{key}");
    }
    // One thing refused by a trigger of the user's own loses only itself, too.
    db.admin()
        .batch_execute(
            "CREATE FUNCTION no_cats() RETURNS trigger LANGUAGE plpgsql AS
               $$BEGIN IF NEW.content LIKE '%cat%' THEN RAISE 'no cats' USING ERRCODE = 'PT402'; END IF; RETURN NEW; END$$;
             CREATE TRIGGER no_cats BEFORE INSERT ON engram.memories FOR EACH ROW EXECUTE FUNCTION no_cats()",
        )
        .unwrap();
    let rows = ann
        .query("SELECT status FROM engram.add_many('[{\"content\": \"a dog\"}, {\"content\": \"a cat\"}, {\"content\": \"a cow\"}]')", &[])
        .unwrap();
    assert_eq!(
        rows.iter()
            .map(|r| r.get::<_, String>(0))
            .collect::<Vec<_>>(),
        ["added", "error", "added"]
    );
    let e = failure(ann.query("SELECT engram.add('my cat')", &[]));
    assert_eq!(
        e.code, "PT402",
        "an SQLSTATE of the user's own arrives as it was raised"
    );
    let empty = ann
        .query("SELECT * FROM engram.add_many('[]')", &[])
        .unwrap();
    assert!(empty.is_empty());
}

#[test]
fn a_plain_insert_is_as_good_as_add() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let id: Uuid = one(
        &mut ann,
        "INSERT INTO engram.memories (content, tags, importance, metadata, type) VALUES ('plain tea', NULL, NULL, NULL, NULL) RETURNING id",
        &[],
    );
    let row = get(&mut ann, id);
    assert_eq!(
        (&row["type"], &row["importance"], &row["access_count"]),
        (&json!("factual"), &json!(0.3), &json!(1))
    );
    assert_eq!(add(&mut ann, "Plain TEA"), id, "its hash is there");
    assert_eq!(
        one::<Uuid>(&mut ann, "SELECT id FROM engram.search('plain')", &[]),
        id
    );
    // As PostgREST does it: a stringified object, and columns that only the engine may set.
    let row: Value = one(
        &mut ann,
        "INSERT INTO engram.memories (content, metadata, version, created_at, content_hash)
         VALUES ('x', to_jsonb('{\"a\": 1}'::text), 99, '1999-01-01', 'ff') RETURNING to_jsonb(memories)",
        &[],
    );
    assert_eq!(row["metadata"], json!({"a": 1}));
    assert_eq!(
        (&row["version"], &row["deleted_at"]),
        (&json!(1), &Value::Null)
    );
    assert!(row["created_at"].as_str().unwrap() > "2020");
    // An UPDATE keeps search and version true.
    ann.execute(
        "UPDATE engram.memories SET content = 'now coffee', version = 50 WHERE id = $1",
        &[&id],
    )
    .unwrap();
    assert_eq!(get(&mut ann, id)["version"], json!(2));
    assert_eq!(
        one::<i64>(&mut ann, "SELECT count(*) FROM engram.search('plain')", &[]),
        0
    );
    assert_eq!(
        one::<i64>(
            &mut ann,
            "SELECT count(*) FROM engram.search('coffee')",
            &[]
        ),
        1
    );
    ann.execute(
        "UPDATE engram.memories SET content = content WHERE id = $1",
        &[&id],
    )
    .unwrap();
    assert_eq!(
        get(&mut ann, id)["version"],
        json!(2),
        "no change, no version"
    );
    // A DELETE leaves the tombstone that erase() leaves.
    ann.execute("DELETE FROM engram.memories WHERE id = $1", &[&id])
        .unwrap();
    assert_eq!(
        one::<i64>(
            &mut ann,
            "SELECT count(*) FROM engram.erasures WHERE id = $1",
            &[&id]
        ),
        1
    );
}

#[test]
fn update_changes_only_what_is_given() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let id: Uuid = one(
        &mut ann,
        "SELECT engram.add('tea', tags => ARRAY['a'], metadata => '{\"x\": 1}', embedding => '[1,0,0]', speaker => 'Ann',
           agent_id => 'g', session_id => 's', source => 'chat', role => 'user', entities => ARRAY['Ann'])",
        &[],
    );
    let before = get(&mut ann, id);
    let version: i32 = one(
        &mut ann,
        "SELECT engram.update($1, importance => 0.6, expected_version => 1)",
        &[&id],
    );
    assert_eq!(version, 2);
    let mut after = get(&mut ann, id);
    assert_eq!(after["importance"], json!(0.6));
    for key in ["importance", "version", "updated_at"] {
        after[key] = before[key].clone();
    }
    assert_eq!(after, before);
    let vectors = "SELECT count(*) FROM engram.embeddings";
    assert_eq!(
        one::<i64>(&mut ann, vectors, &[]),
        1,
        "the text is the same, so the vector stays"
    );

    let _: i32 = one(
        &mut ann,
        "SELECT engram.update($1, content => 'coffee', summary => 'hot', type => 'opinion', tags => ARRAY['b'],
           metadata => '{\"y\": 2}', occurred_at => '2024-01-01Z', agent_id => 'h', session_id => 't', speaker => 'Bea',
           role => 'tool', source => 'mail', entities => ARRAY['Bea'], valid_from => '2024-01-01Z',
           valid_to => '2025-01-01Z', expires_at => '2099-01-01Z')",
        &[&id],
    );
    let row = get(&mut ann, id);
    for (key, value) in [
        ("content", json!("coffee")),
        ("summary", json!("hot")),
        ("type", json!("opinion")),
        ("tags", json!(["b"])),
        ("metadata", json!({"y": 2})),
        ("agent_id", json!("h")),
        ("session_id", json!("t")),
        ("speaker", json!("Bea")),
        ("role", json!("tool")),
        ("source", json!("mail")),
        ("entities", json!(["Bea"])),
        ("valid_to", json!("2025-01-01T00:00:00+00:00")),
        ("version", json!(3)),
    ] {
        assert_eq!(row[key], value, "{key}");
    }
    assert_eq!(
        one::<i64>(&mut ann, vectors, &[]),
        0,
        "the vector of other text is gone"
    );
    assert_eq!(
        one::<i64>(&mut ann, "SELECT count(*) FROM engram.search('hot')", &[]),
        1,
        "the summary is searched"
    );
    assert_eq!(
        one::<i64>(
            &mut ann,
            "SELECT count(*) FROM engram.pending_embeddings()",
            &[]
        ),
        1
    );
    let _: i32 = one(
        &mut ann,
        "SELECT engram.update($1, content => 'cocoa', embedding => '[0,1,0]')",
        &[&id],
    );
    assert_eq!(one::<i64>(&mut ann, vectors, &[]), 1);
    let _: i32 = one(
        &mut ann,
        "SELECT engram.update($1, clear => ARRAY['summary', 'tags', 'metadata', 'occurred_at', 'agent_id',
           'session_id', 'speaker', 'role', 'source', 'entities', 'valid_from', 'valid_to', 'expires_at'])",
        &[&id],
    );
    let row = get(&mut ann, id);
    for key in [
        "summary",
        "occurred_at",
        "agent_id",
        "session_id",
        "speaker",
        "role",
        "source",
        "valid_from",
        "valid_to",
        "expires_at",
    ] {
        assert_eq!(row[key], Value::Null, "{key}");
    }
    assert_eq!(
        (&row["tags"], &row["metadata"], &row["entities"]),
        (&json!([]), &json!({}), &json!([]))
    );
}

#[test]
fn forgotten_memories_come_back_and_erased_ones_do_not() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let id: Uuid = one(
        &mut ann,
        "SELECT engram.add('tea', embedding => '[1,0,0]', entities => ARRAY['Ann'])",
        &[],
    );
    let keep = add(&mut ann, "bread");
    let seen = |ann: &mut Client| -> (i64, i64, i64, i64) {
        (
            one(ann, "SELECT count(*) FROM engram.search('tea')", &[]),
            one(
                ann,
                "SELECT count(*) FROM engram.search(NULL, '[1,0,0]')",
                &[],
            ),
            one(
                ann,
                "SELECT count(*) FROM engram.list('{\"content\": \"tea\"}')",
                &[],
            ),
            one(ann, "SELECT count(*) FROM engram.get($1)", &[&id]),
        )
    };
    assert_eq!(seen(&mut ann), (1, 1, 1, 1));
    assert!(one::<bool>(&mut ann, "SELECT engram.forget($1)", &[&id]));
    assert!(!one::<bool>(&mut ann, "SELECT engram.forget($1)", &[&id]));
    assert_eq!(seen(&mut ann), (0, 0, 0, 0));
    let e = failure(ann.query("SELECT engram.update($1, 'x')", &[&id]));
    assert_eq!(e.code, "PT404");
    assert_eq!(
        one::<i64>(
            &mut ann,
            "SELECT count(*) FROM engram.list(include => ARRAY['forgotten'])",
            &[]
        ),
        2
    );
    assert!(one::<bool>(&mut ann, "SELECT engram.restore($1)", &[&id]));
    assert!(!one::<bool>(&mut ann, "SELECT engram.restore($1)", &[&id]));
    assert_eq!(seen(&mut ann), (1, 1, 1, 1));

    assert!(one::<bool>(&mut ann, "SELECT engram.pin($1)", &[&id]));
    assert!(!one::<bool>(&mut ann, "SELECT engram.pin($1)", &[&id]));
    assert_eq!(get(&mut ann, id)["pinned"], json!(true));
    assert!(one::<bool>(&mut ann, "SELECT engram.unpin($1)", &[&id]));
    assert_eq!(get(&mut ann, id)["pinned"], json!(false));

    let dry = ann.query("SELECT id, erased_at FROM engram.erase(filter => '{\"content\": {\"contains\": \"te\"}}', dry_run => true)", &[]).unwrap();
    assert_eq!(dry.len(), 1);
    assert!(dry[0].get::<_, Option<std::time::SystemTime>>(1).is_none());
    assert_eq!(seen(&mut ann), (1, 1, 1, 1));
    let both = ann
        .query(
            "SELECT id FROM engram.erase(ARRAY[$1::uuid, $2], '{\"content\": \"tea\"}')",
            &[&id, &keep],
        )
        .unwrap();
    assert_eq!(
        both.iter().map(|r| r.get::<_, Uuid>(0)).collect::<Vec<_>>(),
        [id]
    );
    assert_eq!(seen(&mut ann), (0, 0, 0, 0));
    assert_eq!(
        failure(ann.query("SELECT engram.restore($1)", &[&id])).code,
        "PT404"
    );
    // Nothing of it is left anywhere but the tombstone.
    let mut admin = db.admin();
    for table in [
        "memories",
        "memory_state",
        "embeddings",
        "embedding_claims",
        "graph_links",
    ] {
        let column = if table == "memories" {
            "id"
        } else {
            "memory_id"
        };
        let left: i64 = one(
            &mut admin,
            &format!("SELECT count(*) FROM engram.{table} WHERE {column} = $1"),
            &[&id],
        );
        assert_eq!(left, 0, "{table}");
    }
    let scanned: i64 = one(
        &mut admin,
        "SELECT count(*) FROM engram.search_blocks WHERE engram_internal.block_holds(block, ARRAY[$1::uuid])",
        &[&id],
    );
    assert_eq!(scanned, 0, "in no block either");
    assert_eq!(
        one::<i64>(
            &mut admin,
            "SELECT count(*) FROM engram.erasures WHERE id = $1",
            &[&id]
        ),
        1
    );
    assert_eq!(get(&mut ann, keep)["content"], json!("bread"));
}

#[test]
fn pages_stay_right_while_memories_are_added() {
    let db = Database::new();
    let mut ann = db.user("ann");
    for i in 0..25 {
        add(&mut ann, &format!("memory {i}"));
    }
    let mut seen = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = ann
            .query(
                "SELECT content, cursor_next FROM engram.list(match_count => 10, cursor => $1)",
                &[&cursor],
            )
            .unwrap();
        let Some(last) = page.last() else { break };
        cursor = last.get(1);
        seen.extend(page.iter().map(|r| r.get::<_, String>(0)));
        add(&mut ann, &format!("later {}", seen.len()));
    }
    let wanted: Vec<String> = (0..25).rev().map(|i| format!("memory {i}")).collect();
    assert_eq!(seen, wanted);
    let skipped: String = one(
        &mut ann,
        "SELECT content FROM engram.list('{\"content\": {\"contains\": \"memory\"}}', 1, 3)",
        &[],
    );
    assert_eq!(skipped, "memory 21");
    // Expired and superseded ones are left out unless asked for.
    let id = add(&mut ann, "old");
    let newer = add(&mut ann, "newer");
    ann.execute(
        "UPDATE engram.memories SET expires_at = now() - interval '1 s' WHERE id = $1",
        &[&id],
    )
    .unwrap();
    let count = |ann: &mut Client, include: &[&str]| -> i64 {
        one(
            ann,
            "SELECT count(*) FROM engram.list('{\"content\": \"old\"}', include => $1)",
            &[&include],
        )
    };
    assert_eq!(
        (count(&mut ann, &[]), count(&mut ann, &["expired"])),
        (0, 1)
    );
    ann.execute(
        "UPDATE engram.memories SET expires_at = NULL, superseded_by = $2 WHERE id = $1",
        &[&id, &newer],
    )
    .unwrap();
    assert_eq!(
        (
            count(&mut ann, &["expired"]),
            count(&mut ann, &["superseded"])
        ),
        (0, 1)
    );
}

#[test]
fn embedders_take_turns() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let mut bob = db.user("bob");
    let id: Uuid = one(
        &mut ann,
        "SELECT engram.add('I like tea', speaker => 'Ann', occurred_at => '2023-05-08T23:30:00Z')",
        &[],
    );
    add(&mut ann, "second");
    add(&mut bob, "third");
    let pending = "SELECT id, text, model_name, dims, version FROM engram.pending_embeddings(match_count => $1)";
    let mine = ann.query(pending, &[&10]).unwrap();
    assert_eq!(mine.len(), 2, "an ordinary caller gets its own only");
    let row = mine.iter().find(|r| r.get::<_, Uuid>(0) == id).unwrap();
    assert_eq!(row.get::<_, String>(1), "[8 May 2023] Ann: I like tea");
    assert_eq!(
        (
            row.get::<_, String>(2),
            row.get::<_, i32>(3),
            row.get::<_, i32>(4)
        ),
        ("tiny".into(), 3, 1)
    );
    assert!(ann.query(pending, &[&10]).unwrap().is_empty(), "leased");
    // A worker that bypasses row security serves everybody.
    let mut admin = db.admin();
    assert_eq!(admin.query(pending, &[&10]).unwrap().len(), 1);
    // A lease that runs out is given to the next one.
    admin.execute("UPDATE engram.embedding_claims SET claimed_until = now() - interval '1 s' WHERE memory_id = $1", &[&id]).unwrap();
    assert_eq!(admin.query(pending, &[&10]).unwrap().len(), 1);
    // Changed meanwhile: the old text's vector is refused.
    let _: i32 = one(
        &mut ann,
        "SELECT engram.update($1, content => 'I like coffee')",
        &[&id],
    );
    let e = failure(ann.query(
        "SELECT engram.set_embedding($1, '[1,2,3]', expected_version => 1)",
        &[&id],
    ));
    assert_eq!(e.code, "PT409");
    assert_eq!(
        ann.query(pending, &[&10]).unwrap().len(),
        1,
        "handed out again at once"
    );
    assert!(one::<bool>(
        &mut ann,
        "SELECT engram.set_embedding($1, '[1,2,3]', 'tiny', 2)",
        &[&id]
    ));
    assert!(one::<bool>(
        &mut ann,
        "SELECT engram.set_embedding($1, '[3,2,1]')",
        &[&id]
    ));
    let vector: String = one(
        &mut ann,
        "SELECT embedding::text FROM engram.embeddings WHERE memory_id = $1",
        &[&id],
    );
    assert_eq!(vector, "[3,2,1]");
    let claims: i64 = one(
        &mut admin,
        "SELECT count(*) FROM engram.embedding_claims WHERE memory_id = $1",
        &[&id],
    );
    assert_eq!(claims, 0);
}

/// Who has asked for all that waits is told of what comes later at once, without looking at everything again.
#[test]
fn embedders_learn_of_what_comes_later() {
    let db = Database::new();
    let (mut ann, mut admin) = (db.user("ann"), db.admin());
    let vector = "[1,2,3]";
    let old = add(&mut ann, "the first");
    let pending = |admin: &mut Client, model: &str| -> Vec<Uuid> {
        let sql = "SELECT id FROM engram.pending_embeddings($1, match_count => 2)";
        let rows = admin.query(sql, &[&model]).unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    let embed = |client: &mut Client, id: Uuid| {
        let sql = "SELECT engram.set_embedding($1, $2::text::extensions.vector)";
        client.execute(sql, &[&id, &vector]).unwrap();
    };
    assert_eq!(pending(&mut admin, "tiny"), [old]);
    embed(&mut ann, old);
    assert!(pending(&mut admin, "tiny").is_empty());
    let swept: bool = one(
        &mut admin,
        "SELECT s.until > now() FROM engram.embedding_models m, engram_internal.sweep(m.name, m.created_at) s",
        &[],
    );
    assert!(swept);

    // Through every door, each once.
    let next = |admin: &mut Client, client: &mut Client, what: &str, id: Uuid| {
        assert_eq!(pending(admin, "tiny"), [id], "{what}");
        assert!(pending(admin, "tiny").is_empty(), "{what}: leased");
        // Neither maintenance nor the end of a lease loses it.
        for sql in [
            "UPDATE engram.embedding_claims SET claimed_until = now() - interval '1 s'",
            "CALL engram.maintain()",
        ] {
            admin.batch_execute(sql).unwrap();
        }
        assert_eq!(pending(admin, "tiny"), [id], "{what}: once more");
        embed(client, id);
        assert!(pending(admin, "tiny").is_empty(), "{what}: done");
    };
    let id = add(&mut ann, "the second");
    next(&mut admin, &mut ann, "add", id);
    let id = Uuid::new_v4();
    ann.execute("SELECT engram.add('the third', id => $1)", &[&id])
        .unwrap();
    next(&mut admin, &mut ann, "add with an id", id);
    let id: Uuid = one(
        &mut ann,
        "INSERT INTO engram.memories (content) VALUES ('the fourth') RETURNING id",
        &[],
    );
    next(&mut admin, &mut ann, "insert", id);
    let version: i32 = one(
        &mut ann,
        "SELECT engram.update($1, content => 'the fourth, changed')",
        &[&id],
    );
    assert_eq!(version, 2);
    next(&mut admin, &mut ann, "new text", id);
    ann.execute("DELETE FROM engram.embeddings WHERE memory_id = $1", &[&id])
        .unwrap();
    next(&mut admin, &mut ann, "vector deleted", id);
    let id = add(&mut ann, "the fifth");
    ann.execute("SELECT engram.forget($1)", &[&id]).unwrap();
    assert!(pending(&mut admin, "tiny").is_empty(), "forgotten");
    admin.batch_execute("CALL engram.maintain()").unwrap();
    ann.execute("SELECT engram.restore($1)", &[&id]).unwrap();
    next(&mut admin, &mut ann, "restored", id);
    // What has its vector, or was never stored, does not wait.
    ann.batch_execute(
        "SELECT engram.add('the sixth', embedding => '[1,0,0]');
         BEGIN; SELECT engram.add('the seventh'); ROLLBACK;
         WITH m AS (INSERT INTO engram.memories (content) VALUES ('the eighth') RETURNING workspace_id, id)
         SELECT engram.set_embedding(m.id, '[0,1,0]') FROM m",
    )
    .unwrap();
    assert!(pending(&mut admin, "tiny").is_empty());
    // The eighth had its vector before its row was counted in.
    admin.batch_execute("CALL engram.maintain()").unwrap();
    let left: i64 = one(
        &mut admin,
        "SELECT count(*) FROM engram.embedding_claims",
        &[],
    );
    assert_eq!(left, 0);

    // A new model gets all, each once, by going on.
    admin
        .batch_execute("SELECT engram.set_embedding_model('big', 4)")
        .unwrap();
    let mut all: Vec<Uuid> = Vec::new();
    loop {
        let some = pending(&mut admin, "big");
        if some.is_empty() {
            break;
        }
        all.extend(some);
    }
    all.sort();
    let mut stored: Vec<Uuid> = ann
        .query(
            "SELECT id FROM engram.memories WHERE deleted_at IS NULL",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    stored.sort();
    assert_eq!(all, stored);
    // Of models that are not the default nothing is noted, so it is looked at again, and when the default changes too.
    let id = add(&mut ann, "the ninth");
    assert_eq!(pending(&mut admin, "big"), [id]);
    assert_eq!(pending(&mut admin, "tiny"), [id]);
    admin
        .batch_execute("SELECT engram.drop_embedding_model('big')")
        .unwrap();
    let left: i64 = one(
        &mut admin,
        "SELECT count(*) FROM engram.embedding_claims WHERE model <> 'tiny'",
        &[],
    );
    assert_eq!(left, 0);
}

/// What nobody noted is looked for at once by who has not looked yet, and nobody else tells it not to.
#[test]
fn nobody_keeps_an_embedder_from_looking() {
    let db = Database::new();
    let (mut ann, mut admin) = (db.user("ann"), db.admin());
    let mut lost = |content: &str| {
        let id = add(&mut ann, content);
        let claim = "DELETE FROM engram.embedding_claims WHERE memory_id = $1";
        assert_eq!(admin.execute(claim, &[&id]).unwrap(), 1);
        id
    };
    let found = |client: &mut Client| -> Vec<Uuid> {
        let rows = client.query("SELECT id FROM engram.pending_embeddings()", &[]);
        rows.unwrap().iter().map(|row| row.get(0)).collect()
    };
    let first = lost("the first");
    let mut worker = db.admin();
    // A client that had the connection before.
    worker
        .batch_execute(
            r#"SELECT set_config('engram_internal.swept', jsonb_build_object('tiny', jsonb_build_object('made', created_at, 'until', '2100-01-01'))::text, false)
               FROM engram.embedding_models;
               SET SESSION AUTHORIZATION app; SET engram.user_id = 'bob'"#,
        )
        .unwrap();
    let sql = "SELECT engram_internal.note_sweep('tiny', now(), '2100-01-01', NULL, NULL)";
    assert_eq!(failure(worker.execute(sql, &[])).code, "42501");
    worker
        .batch_execute("RESET SESSION AUTHORIZATION; RESET engram.user_id")
        .unwrap();
    // What is rolled back was not handed out.
    for end in ["ROLLBACK", "ROLLBACK TO s; COMMIT"] {
        worker.batch_execute("BEGIN; SAVEPOINT s").unwrap();
        assert_eq!(found(&mut worker), [first], "{end}");
        worker.batch_execute(end).unwrap();
    }
    assert_eq!(found(&mut worker), [first]);
    // It has looked at all, as others have not; nor does it show where to clients of its connection.
    let second = lost("the second");
    assert!(found(&mut worker).is_empty());
    let at = "SELECT count(*) FROM engram.embedding_models m, engram_internal.sweep(m.name, m.created_at)";
    assert_eq!(one::<i64>(&mut worker, at, &[]), 1);
    worker
        .batch_execute("SET SESSION AUTHORIZATION app; SET engram.user_id = 'bob'")
        .unwrap();
    assert_eq!(one::<i64>(&mut worker, at, &[]), 0);
    assert_eq!(found(&mut db.admin()), [second]);
}

/// Who hands out and stores in one transaction, and who changes the same memory meanwhile, wait for each other in one
/// order.
#[test]
fn embedders_and_writers_do_not_lock_each_other_out() {
    let db = Database::new();
    for change in [
        "SELECT engram.update($1, tags => '{x}')",
        "SELECT engram.update($1, content => 'changed ' || $1)",
        "SELECT engram.set_embedding($1, '[3,2,1]')",
        "SELECT count(*) FROM engram.erase(ARRAY[$1])",
    ] {
        let mut ann = db.user("ann");
        let id = add(&mut ann, &format!("to be changed by {change}"));
        let mut worker = db.user("ann");
        worker.batch_execute("BEGIN").unwrap();
        let given: Uuid = one(
            &mut worker,
            "SELECT id FROM engram.pending_embeddings()",
            &[],
        );
        assert_eq!(given, id, "{change}");
        let sql = change.replace("$1", &format!("'{id}'::uuid"));
        let other = std::thread::spawn(move || ann.query(&sql, &[]));
        let mut admin = db.admin();
        let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')";
        let began = std::time::Instant::now();
        while !one::<bool>(&mut admin, waits, &[]) && began.elapsed().as_secs() < 5 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        worker
            .execute("SELECT engram.set_embedding($1, '[1,2,3]')", &[&id])
            .unwrap_or_else(|e| panic!("{change}: {e:?}"));
        worker.batch_execute("COMMIT").unwrap();
        other
            .join()
            .unwrap()
            .unwrap_or_else(|e| panic!("{change}: {e:?}"));
        // A new text waits anew; the others have their vector, or are gone.
        let left = db
            .user("ann")
            .query(
                "SELECT engram.set_embedding(id, '[1,1,1]') FROM engram.pending_embeddings()",
                &[],
            )
            .unwrap()
            .len();
        assert_eq!(left, usize::from(change.contains("content =>")), "{change}");
    }
}

#[test]
fn models_live_side_by_side() {
    let db = Database::new();
    let mut admin = db.admin();
    let mut ann = db.user("ann");
    let id: Uuid = one(
        &mut ann,
        "SELECT engram.add('tea', embedding => '[1,0,0]')",
        &[],
    );
    assert!(!one::<bool>(
        &mut admin,
        "SELECT engram.set_embedding_model('big', 4)",
        &[]
    ));
    assert!(
        one::<bool>(
            &mut admin,
            "SELECT engram.set_embedding_model('tiny', 3)",
            &[]
        ),
        "again changes nothing"
    );
    let e = failure(admin.query("SELECT engram.set_embedding_model('big', 5)", &[]));
    assert_eq!(e.code, "22023");
    for sql in [
        "('', 3)",
        "('x', 0)",
        "('x', 16001)",
        "('x', 3, distance => 'manhattan')",
        "(NULL, 3)",
    ] {
        assert_eq!(
            failure(admin.query(&format!("SELECT engram.set_embedding_model{sql}"), &[])).code,
            "22023",
            "{sql}"
        );
    }
    let _: bool = one(
        &mut ann,
        "SELECT engram.set_embedding($1, '[0,0,0,1]', 'big')",
        &[&id],
    );
    assert_eq!(
        one::<i64>(
            &mut ann,
            "SELECT count(*) FROM engram.search(NULL, '[0,0,0,1]', model => 'big')",
            &[]
        ),
        1
    );
    assert_eq!(
        one::<i64>(
            &mut ann,
            "SELECT count(*) FROM engram.search(NULL, '[1,0,0]')",
            &[]
        ),
        1
    );
    assert!(one::<bool>(
        &mut admin,
        "SELECT engram.set_embedding_model('big', 4, true)",
        &[]
    ));
    assert_eq!(
        one::<i64>(
            &mut ann,
            "SELECT count(*) FROM engram.search(NULL, '[0,0,0,1]')",
            &[]
        ),
        1
    );
    let defaults: i64 = one(
        &mut admin,
        "SELECT count(*) FROM engram.embedding_models WHERE is_default",
        &[],
    );
    assert_eq!(defaults, 1);
    // Other distances, and vectors too long for one page.
    let _: bool = one(
        &mut admin,
        "SELECT engram.set_embedding_model('dot', 3000, distance => 'inner_product')",
        &[],
    );
    let long = format!("[{}1]", "0.5,".repeat(2999));
    let _: bool = one(
        &mut ann,
        "SELECT engram.set_embedding($1, $2::text::extensions.vector, 'dot')",
        &[&id, &long],
    );
    let score: f64 = one(
        &mut ann,
        "SELECT (explain->'lanes'->'vector'->>'score')::float8 FROM engram.search(NULL, $1::text::extensions.vector, model => 'dot', explain => true)",
        &[&long],
    );
    assert!((score - (2999.0 * 0.25 + 1.0)).abs() < 1e-6);
}

#[test]
fn stats_whoami_and_version_tell_the_truth() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let gone = add(&mut ann, "gone");
    ann.execute("SELECT engram.forget($1)", &[&gone]).unwrap();
    let pinned: Uuid = one(
        &mut ann,
        "SELECT engram.add('12345', 'opinion', embedding => '[1,0,0]')",
        &[],
    );
    ann.execute("SELECT engram.pin($1)", &[&pinned]).unwrap();
    add(&mut ann, "123");
    let mut bob = db.user("bob");
    add(&mut bob, "not counted");
    let stats: Value = one(&mut ann, "SELECT to_jsonb(s) FROM engram.stats() s", &[]);
    for (key, value) in [
        ("memories", json!(2)),
        ("forgotten", json!(1)),
        ("superseded", json!(0)),
        ("expired", json!(0)),
        ("pinned", json!(1)),
        ("by_type", json!({"opinion": 1, "factual": 1})),
        ("by_layer", json!({"working": 1, "core": 1})),
        ("embeddings", json!({"tiny": 1})),
        ("pending_embeddings", json!(1)),
        ("content_chars", json!(8)),
    ] {
        assert_eq!(stats[key], value, "{key}");
    }
    assert!(stats["oldest"].as_str().unwrap() <= stats["newest"].as_str().unwrap());
    let who: Value = one(&mut ann, "SELECT to_jsonb(w) FROM engram.whoami() w", &[]);
    assert_eq!(
        (&who["source"], &who["subject"], &who["role"]),
        (&json!("setting"), &json!("ann"), &json!("app"))
    );
    assert_eq!(
        (&who["bypasses_rls"], &who["problem"]),
        (&json!(false), &Value::Null)
    );
    assert_eq!(who["readable"], json!([who["user_id"]]));
    let version: Value = one(&mut ann, "SELECT to_jsonb(v) FROM engram.version() v", &[]);
    assert_eq!(version["library"], json!(env!("CARGO_PKG_VERSION")));
    assert_eq!(version["engram"], version["library"]);
    assert!(version["vector"].as_str().unwrap().starts_with("0."));
}

#[test]
fn a_service_names_the_workspace_it_works_in() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let me: Uuid = one(&mut ann, "SELECT engram.current_user_id()", &[]);
    let mut service = db.connect("postgres");
    service.batch_execute("SET ROLE service_role").unwrap();
    let e = failure(service.query("SELECT engram.add('x')", &[]));
    assert_eq!(e.code, "22023");
    assert!(e.hint.contains("workspace"), "{e:?}");
    assert_eq!(
        failure(service.query("SELECT * FROM engram.search('x')", &[])).code,
        "22023"
    );
    let id: Uuid = one(
        &mut service,
        "SELECT engram.add('from the service', workspace => $1)",
        &[&me],
    );
    assert_eq!(get(&mut ann, id)["user_id"], json!(me.to_string()));
    for sql in [
        "SELECT count(*) FROM engram.search('service', workspace => $1)",
        "SELECT count(*) FROM engram.list(workspace => $1)",
        "SELECT memories FROM engram.stats($1)",
    ] {
        assert_eq!(one::<i64>(&mut service, sql, &[&me]), 1, "{sql}");
    }
    let _: bool = one(
        &mut service,
        "SELECT engram.set_embedding_model('other', 8)",
        &[],
    );
}

#[test]
fn the_workspace_of_the_defaults_takes_nothing_that_somebody_says() {
    const NIL: &str = "00000000-0000-0000-0000-000000000000";
    let db = Database::new();
    let mut admin = db.admin();
    let line =
        r#"{"kind": "memory", "id": "018f0000-aaaa-7000-8000-000000000001", "content": "x"}"#;
    let turn = r#"{"kind": "message", "session_id": "s", "id": "018f0000-aaaa-7000-8000-000000000002", "role": "user", "content": "x", "created_at": "2024-01-01Z"}"#;
    for sql in [
        format!("SELECT engram.add('x', workspace => '{NIL}')"),
        format!("SELECT engram.append_messages('[{{\"content\": \"x\"}}]', 's', '{NIL}')"),
        format!("INSERT INTO engram.memories (workspace_id, content) VALUES ('{NIL}', 'x')"),
    ] {
        let e = failure(admin.query(&sql, &[]));
        assert_eq!(e.code, "22023", "{sql}: {e:?}");
        assert!(
            e.message.contains(NIL) && e.hint.contains("user"),
            "{sql}: {e:?}"
        );
    }
    // By the item and by the line.
    for sql in [
        format!("SELECT status, error FROM engram.add_many('[{{\"content\": \"x\"}}]', '{NIL}')"),
        format!("SELECT status, error FROM engram.import('{line}', workspace => '{NIL}')"),
        format!("SELECT status, error FROM engram.import('{turn}', workspace => '{NIL}')"),
    ] {
        let row = admin.query_one(&sql, &[]).unwrap();
        assert_eq!(row.get::<_, &str>(0), "error", "{sql}");
        assert!(row.get::<_, &str>(1).contains(NIL), "{sql}: {row:?}");
    }
    for table in ["memories", "messages", "memory_events"] {
        let n: i64 = one(
            &mut admin,
            &format!("SELECT count(*) FROM engram.{table}"),
            &[],
        );
        assert_eq!(n, 0, "{table}");
    }
    // Its settings go from store to store as those of others do.
    let settings: String = one(
        &mut admin,
        &format!(
            "SELECT i.status FROM engram.import((SELECT jsonb_agg(x) FROM engram.export('{NIL}') x), workspace => '{NIL}') i WHERE i.kind = 'settings'"
        ),
        &[],
    );
    assert_eq!(settings, "unchanged");
    // A dump may hold what an older version let in.
    admin
        .batch_execute(&format!(
            "SET check_function_bodies = off; INSERT INTO engram.memories (workspace_id, content) VALUES ('{NIL}', 'x')"
        ))
        .unwrap();
}

#[test]
fn metadata_keeps_every_digit_and_level() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let deep = format!("{{\"a\": {}{}}}", "[".repeat(99), "]".repeat(99));
    for (content, metadata) in [
        (
            "digits",
            "{\"n\": 12345678901234567890123456789}".to_owned(),
        ),
        ("fraction", "{\"n\": 0.12345678901234567890123}".to_owned()),
        ("huge", format!("{{\"n\": 1{}}}", "0".repeat(400))),
        ("deep", deep),
    ] {
        ann.execute(
            "SELECT engram.add($1, metadata => $2::text::jsonb)",
            &[&content, &metadata],
        )
        .unwrap();
        for sql in [
            "SELECT metadata = $2::text::jsonb FROM engram.search($1)",
            "SELECT metadata = $2::text::jsonb FROM engram.list(jsonb_build_object('content', $1::text))",
        ] {
            assert!(
                one::<bool>(&mut ann, sql, &[&content, &metadata]),
                "{content}: {sql}"
            );
        }
    }
    let many = "SELECT * FROM engram.add_many('[{\"content\": \"m\", \"metadata\": {\"n\": 12345678901234567890123456789}}]')";
    ann.execute(many, &[]).unwrap();
    let exact: bool = one(
        &mut ann,
        "SELECT metadata = '{\"n\": 12345678901234567890123456789}' FROM engram.search('m')",
        &[],
    );
    assert!(exact);
    let near: i64 = one(
        &mut ann,
        "SELECT count(*) FROM engram.list('{\"n\": 12345678901234567890123456700}')",
        &[],
    );
    assert_eq!(near, 0);
    // What is nested too deep to be read as a filter or as items is an error with a way out.
    for sql in [
        "SELECT * FROM engram.list(('{\"a\":' || repeat('[', 300) || repeat(']', 300) || '}')::jsonb)",
        "SELECT * FROM engram.add_many((repeat('[', 300) || repeat(']', 300))::jsonb)",
    ] {
        let e = failure(ann.query(sql, &[]));
        assert!(e.code == "22023" && !e.hint.is_empty(), "{e:?}");
    }
}

#[test]
fn metadata_that_could_not_be_read_again_is_refused() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let deep = |levels: usize| {
        let inner = levels - 1;
        format!("('{{\"a\":' || repeat('[', {inner}) || repeat(']', {inner}) || '}}')::jsonb")
    };
    let odd = |levels: usize| {
        let inner = levels - 1;
        format!("(repeat('{{\"a\":', {inner}) || '{{}}' || repeat('}}', {inner}))::jsonb")
    };
    let id = add(&mut ann, "plain");
    for (shape, levels) in [
        (deep(100), 100),
        (odd(100), 100),
        (deep(101), 101),
        (odd(101), 101),
        (deep(3000), 3000),
    ] {
        for sql in [
            format!("SELECT engram.add('deep ' || clock_timestamp(), metadata => {shape})"),
            format!(
                "SELECT engram.add('deep ' || clock_timestamp(), metadata => to_jsonb(({shape})::text))"
            ),
            format!("SELECT engram.update('{id}', metadata => {shape})"),
            format!("INSERT INTO engram.memories (content, metadata) VALUES ('deep', {shape})"),
            format!("UPDATE engram.memories SET metadata = {shape} WHERE id = '{id}'"),
        ] {
            if levels <= 100 {
                ann.execute(&sql, &[])
                    .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
                continue;
            }
            let e = failure(ann.execute(&sql, &[]));
            assert!(
                e.code == "22023" && e.message.contains("100") && e.hint.contains("Flatten"),
                "{sql}: {e:?}"
            );
        }
        if levels > 120 {
            continue;
        }
        // Item by item where there are several.
        for call in ["add_many", "append_messages"] {
            let errors: Vec<Option<String>> = ann
                .query(
                    &format!("SELECT error FROM engram.{call}(jsonb_build_array(jsonb_build_object(
                                'content', 'deep ' || clock_timestamp(), 'session_id', 's', 'metadata', {shape}))) ORDER BY 1"),
                    &[],
                )
                .unwrap()
                .iter()
                .map(|row| row.get(0))
                .collect();
            assert_eq!(errors.len(), 1);
            assert_eq!(
                errors[0].as_ref().is_some_and(|e| e.contains("100 levels")),
                levels > 100,
                "{call}: {errors:?}"
            );
        }
    }
    // What an older version took, or a dump brings, is still found as it is, and can be changed and forgotten.
    let mut admin = db.admin();
    admin
        .batch_execute(&format!(
            "SET check_function_bodies = off;
             INSERT INTO engram.memories (workspace_id, id, content, metadata)
             VALUES ((SELECT min(workspace_id::text)::uuid FROM engram.memories), '018f0000-aaaa-7000-8000-000000000001', 'old', {});
             RESET check_function_bodies;
             UPDATE engram.memories SET importance = 0.9 WHERE content = 'old'",
            deep(200)
        ))
        .unwrap();
    for found in ["search('old')", "list('{\"content\": \"old\"}')"] {
        let sql = format!("SELECT metadata = {} FROM engram.{found}", deep(200));
        assert!(one::<bool>(&mut ann, &sql, &[]), "{found}");
    }
    assert!(one::<bool>(
        &mut ann,
        "SELECT engram.forget('018f0000-aaaa-7000-8000-000000000001')",
        &[]
    ));
}

#[test]
fn odd_input_is_refused_before_it_does_harm() {
    let db = Database::new();
    let mut ann = db.user("ann");
    // Stringified metadata is the same to a retry as to the first call.
    for _ in 0..2 {
        let id: Uuid = one(
            &mut ann,
            "SELECT engram.add('m', metadata => '\"{\\\"a\\\": 1}\"')",
            &[],
        );
        assert_eq!(get(&mut ann, id)["metadata"], json!({"a": 1}));
    }
    for (sql, word) in [
        (
            "SELECT engram.add('x', entities => ARRAY[repeat('long', 200)])",
            "800",
        ),
        (
            "SELECT engram.list(cursor => '-999999999999999999_018f3a2e-0000-7000-8000-000000000000')",
            "cursor",
        ),
        ("SELECT engram.search(at => 'infinity')", "infinite"),
        (
            "SELECT engram.add_many((SELECT to_jsonb(jsonb_agg('x'::text)::text) FROM generate_series(1, 10001)))",
            "10001",
        ),
    ] {
        let e = failure(ann.query(sql, &[]));
        assert!(
            e.code == "22023" && e.message.contains(word),
            "{sql}: {e:?}"
        );
    }
    let e = failure(db.admin().query(
        "INSERT INTO engram.memories (workspace_id, content, created_at) VALUES (gen_random_uuid(), 'x', 'infinity')",
        &[],
    ));
    assert_eq!(e.code, "22023");
}

#[test]
fn a_change_of_entities_is_a_new_version() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let id = add(&mut ann, "met");
    let first: i32 = one(
        &mut ann,
        "SELECT engram.update($1, entities => ARRAY['Ann'], expected_version => 1)",
        &[&id],
    );
    assert_eq!(first, 2);
    let e = failure(ann.query(
        "SELECT engram.update($1, entities => ARRAY['Bob'], expected_version => 1)",
        &[&id],
    ));
    assert_eq!(e.code, "PT409");
    assert_eq!(get(&mut ann, id)["entities"], json!(["Ann"]));
}

#[test]
fn one_transaction_takes_few_locks() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND classid = 'engram_internal'::regnamespace
                AND pid = pg_backend_pid()";
    ann.batch_execute(
        "BEGIN; SELECT engram.add('one by one ' || i) FROM generate_series(1, 300) i",
    )
    .unwrap();
    assert!((2..70).contains(&one::<i64>(&mut ann, held, &[])));
    // None that anybody could take beforehand.
    assert_eq!(
        one::<i64>(
            &mut ann,
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
            &[]
        ),
        0
    );
    ann.batch_execute(
        "COMMIT; BEGIN; SELECT engram.add_many(jsonb_agg(jsonb_build_object('content', 'batch ' || i, 'id', gen_random_uuid())))
         FROM generate_series(1, 500) i",
    )
    .unwrap();
    assert!(one::<i64>(&mut ann, held, &[]) < 70);
    ann.batch_execute("COMMIT").unwrap();
    assert_eq!(
        one::<i64>(&mut ann, "SELECT memories FROM engram.stats()", &[]),
        800
    );
}

#[test]
fn pages_reach_both_ends_of_time() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let times = [
        "294276-12-31 23:59:59.999999Z",
        "294247-06-01 00:00:00.000001Z",
        "2300-01-01 00:00:00.123458Z",
        "2300-01-01 00:00:00.123457Z",
        "1969-12-31 23:59:59.999999Z",
        "4713-01-01 00:00:00 BC",
    ];
    let me: Uuid = one(&mut ann, "SELECT engram.current_user_id()", &[]);
    for at in times {
        db.admin()
            .execute(
                "INSERT INTO engram.memories (workspace_id, content, created_at) VALUES ($1, $2, $2::text::timestamptz)",
                &[&me, &at],
            )
            .unwrap();
    }
    let (mut cursor, mut seen): (Option<String>, Vec<String>) = (None, Vec::new());
    // Days of other lengths are nothing to a moment.
    ann.batch_execute("SET timezone = 'Europe/Berlin'").unwrap();
    while let Some(row) = ann
        .query_opt(
            "SELECT content, cursor_next FROM engram.list(match_count => 1, cursor => $1)",
            &[&cursor],
        )
        .unwrap()
    {
        seen.push(row.get(0));
        cursor = Some(row.get(1));
        assert!(seen.len() <= times.len(), "{seen:?}");
    }
    assert_eq!(seen, times);
    for beyond in ["9224318016000000000", "-210866803200000001"] {
        let cursor = format!("{beyond}_018f3a2e-0000-7000-8000-000000000000");
        let e = failure(ann.query("SELECT engram.list(cursor => $1)", &[&cursor]));
        assert_eq!(e.code, "22023", "{e:?}");
    }
}

#[test]
fn nothing_given_is_no_internal_error() {
    let db = Database::new();
    let wrong = db.admin().query(
        "SELECT n.nspname || '.' || p.proname, 'SELECT FROM ' || quote_ident(n.nspname) || '.' || quote_ident(p.proname) || '('
           || coalesce((SELECT string_agg('NULL::' || format_type(a, NULL), ', ' ORDER BY nth) FROM unnest(p.proargtypes) WITH ORDINALITY x (a, nth)), '') || ')'
         FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
         WHERE n.nspname IN ('engram', 'engram_internal') AND p.prokind = 'f'
           AND p.prorettype NOT IN ('trigger'::regtype, 'internal'::regtype)",
        &[],
    );
    let calls = wrong.unwrap();
    assert!(calls.len() > 100);
    for call in calls {
        let (name, sql): (String, String) = (call.get(0), call.get(1));
        if let Err(e) = db.admin().execute(&sql, &[]) {
            let code = e.code().map_or("no answer", |code| code.code());
            assert!(
                !code.starts_with("XX") && code != "no answer",
                "{name}: {e:?}"
            );
        }
    }
}

#[test]
fn a_call_fails_whole_for_what_is_no_fault_of_an_item() {
    let db = Database::new();
    let (mut ann, mut other) = (db.user("ann"), db.user("ann"));
    for content in ["alpha note", "beta note"] {
        add(&mut ann, content);
    }
    let many = |known: &str| {
        format!(
            "SELECT count(*) FROM engram.add_many('[{{\"content\": \"{known} note\", \"importance\": 1}}, {{\"content\": \"fresh {known}\"}}]')"
        )
    };
    // Who waits in vain.
    ann.batch_execute(
        "BEGIN; UPDATE engram.memories SET importance = 0.7 WHERE content = 'beta note'",
    )
    .unwrap();
    other.batch_execute("SET lock_timeout = '50ms'").unwrap();
    let e = failure(other.query(&many("beta"), &[]));
    assert_eq!(e.code, "55P03", "{e:?}");
    ann.batch_execute("COMMIT").unwrap();
    // Who sees what somebody has changed since.
    other
        .batch_execute(
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM engram.memories",
        )
        .unwrap();
    ann.batch_execute("UPDATE engram.memories SET importance = 0.9 WHERE content = 'alpha note'")
        .unwrap();
    let e = failure(other.query(&many("alpha"), &[]));
    assert_eq!(e.code, "40001", "{e:?}");
    other.batch_execute("ROLLBACK").unwrap();
    // Who may not write at all.
    let e = failure(other.batch_execute(&format!("BEGIN READ ONLY; {}", many("alpha"))));
    assert_eq!(e.code, "25006", "{e:?}");
    other.batch_execute("ROLLBACK").unwrap();
    let known: i64 = one(&mut ann, "SELECT count(*) FROM engram.memories", &[]);
    assert_eq!(known, 2);
}

#[test]
fn vectors_of_forgotten_memories_are_not_counted() {
    let db = Database::new();
    let mut ann = db.user("ann");
    ann.batch_execute(
        "SELECT engram.add('a', embedding => '[1,2,3]');
         SELECT engram.add('b');
         SELECT engram.forget(engram.add('c', embedding => '[1,2,3]'))",
    )
    .unwrap();
    let counts: Value = one(
        &mut ann,
        "SELECT jsonb_build_array(s.memories, s.forgotten, (SELECT sum(v::int) FROM jsonb_each(s.embeddings) e (k, v)), s.pending_embeddings)
         FROM engram.stats() s",
        &[],
    );
    assert_eq!(counts, json!([2, 1, 1, 1]));
}

#[test]
fn a_vector_without_a_model_is_of_the_default_one() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let id = add(&mut ann, "tea");
    let insert = "INSERT INTO engram.embeddings (workspace_id, memory_id, embedding)
                  VALUES (engram.current_user_id(), $1, '[1,2,3]') RETURNING model";
    let model: String = one(&mut ann, insert, &[&id]);
    let usual: String = one(
        &mut ann,
        "SELECT name FROM engram.embedding_models WHERE is_default",
        &[],
    );
    assert_eq!(model, usual);
    db.admin()
        .batch_execute("UPDATE engram.embedding_models SET is_default = false")
        .unwrap();
    let other = add(&mut ann, "coffee");
    // The only one of that length.
    assert_eq!(one::<String>(&mut ann, insert, &[&other]), usual);
    db.admin()
        .batch_execute("DELETE FROM engram.embeddings; DELETE FROM engram.embedding_models")
        .unwrap();
    assert_eq!(failure(ann.query(insert, &[&id])).code, "55000");
}

#[test]
fn a_retry_under_an_id_is_credited_once() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let id = add(&mut ann, "Likes tea");
    let mine = Uuid::now_v7();
    for _ in 0..3 {
        let stored: Uuid = one(
            &mut ann,
            "SELECT engram.add('Likes tea', id => $1)",
            &[&mine],
        );
        assert_eq!(stored, id);
        let (status, stored): (String, Uuid) = {
            let items = json!([{"content": "likes TEA", "id": mine.to_string()}]);
            let row = ann
                .query_one("SELECT status, id FROM engram.add_many($1)", &[&items])
                .unwrap();
            (row.get(0), row.get(1))
        };
        assert_eq!((status.as_str(), stored), ("merged", id));
    }
    assert_eq!(get(&mut ann, id)["access_count"], 2);
    // Without an id, and under another, it is said again.
    add(&mut ann, "Likes tea");
    let other = Uuid::now_v7();
    let _: Uuid = one(
        &mut ann,
        "SELECT engram.add('Likes tea', id => $1)",
        &[&other],
    );
    assert_eq!(get(&mut ann, id)["access_count"], 4);
    // And so it stays once it is folded.
    ann.batch_execute("SELECT engram.consolidate()").unwrap();
    let _: Uuid = one(
        &mut ann,
        "SELECT engram.add('Likes tea', id => $1)",
        &[&mine],
    );
    assert_eq!(get(&mut ann, id)["access_count"], 4);
}

#[test]
fn numbers_beyond_doubles_are_refused() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let error: String = one(
        &mut ann,
        "SELECT status || ': ' || error FROM engram.add_many('[{\"content\": \"x\", \"importance\": 1e400}]')",
        &[],
    );
    assert!(
        error.starts_with("error: importance 1") && error.contains("0 to 1"),
        "{error}"
    );
    for sql in [
        "SELECT engram.list('{\"importance\": {\"gt\": 1e400}}')",
        "SELECT engram.configure('{\"decay\": 1e400}')",
    ] {
        let e = failure(ann.batch_execute(sql));
        assert_eq!(e.code, "22023", "{sql}: {e:?}");
        assert!(!e.hint.is_empty(), "{sql}: {e:?}");
    }
}

#[test]
fn an_id_that_a_policy_hides_is_taken_and_nothing_more_is_told() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let id = add(&mut ann, "a secret");
    db.admin()
        .batch_execute("CREATE POLICY hide ON engram.memories AS RESTRICTIVE FOR SELECT USING (content <> 'a secret')")
        .unwrap();
    let e = failure(ann.query("SELECT engram.add('else', id => $1)", &[&id]));
    assert_eq!(e.code, "23505");
    assert_eq!(e.message, format!("the id \"{id}\" is taken"));
    assert!(e.hint.contains("another id"));
    let error: String = one(
        &mut ann,
        "SELECT error FROM engram.add_many(jsonb_build_array(jsonb_build_object('content', 'else', 'id', $1::uuid)))",
        &[&id],
    );
    assert!(
        error.contains("is taken") && error.contains("another id"),
        "{error}"
    );
}

#[test]
fn names_have_a_length() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let long = "s ".repeat(251);
    let url = format!("https://example.org/{}", "x".repeat(1000));
    let id: Uuid = one(
        &mut ann,
        "SELECT engram.add('findme please', source => $1, speaker => repeat('é', 500), tags => ARRAY[repeat('t', 500)])",
        &[&url],
    );
    let found =
        |ann: &mut Client| -> i64 { one(ann, "SELECT count(*) FROM engram.search('findme')", &[]) };
    assert_eq!(found(&mut ann), 1);
    let refused = |ann: &mut Client, sql: &str, name: &str, value: &str| {
        let e = failure(ann.query(sql, &[&value]));
        assert_eq!(e.code, "22023", "{sql}: {e:?}");
        assert!(e.message.contains(name), "{sql}: {e:?}");
        assert!(!e.hint.is_empty(), "{sql}: {e:?}");
    };
    let far = "u".repeat(2001);
    for (column, value) in [
        ("speaker", &long),
        ("agent_id", &long),
        ("session_id", &long),
        ("source", &far),
    ] {
        for sql in [
            format!("SELECT engram.add('findme too', {column} => $1)"),
            format!("INSERT INTO engram.memories (content, {column}) VALUES ('findme too', $1)"),
            format!("SELECT engram.update('{id}', {column} => $1)"),
            format!("UPDATE engram.memories SET {column} = $1 WHERE id = '{id}'"),
        ] {
            refused(&mut ann, &sql, column, value);
        }
    }
    for sql in [
        "SELECT engram.add('findme too', tags => ARRAY['a', $1])".to_owned(),
        // Also where the content is there already.
        "SELECT engram.add('findme please', tags => ARRAY['a', $1])".to_owned(),
        format!("UPDATE engram.memories SET tags = ARRAY[$1] WHERE id = '{id}'"),
    ] {
        refused(&mut ann, &sql, "tag", &long);
    }
    let items = json!([{"content": "fine"}, {"content": "not", "speaker": long}, {"content": "nor", "tags": [long]}]);
    let statuses: Vec<String> = ann
        .query("SELECT status FROM engram.add_many($1)", &[&items])
        .unwrap()
        .iter()
        .map(|r| r.get(0))
        .collect();
    assert_eq!(statuses, ["added", "error", "error"]);
    let line = json!({"kind": "memory", "id": Uuid::now_v7().to_string(), "content": "imported", "speaker": long});
    let status: String = one(&mut ann, "SELECT status FROM engram.import($1)", &[&line]);
    assert_eq!(status, "error");
    // What is there already stays as it is, and can be changed elsewhere.
    db.admin()
        .batch_execute(
            "SET check_function_bodies = off;
             UPDATE engram.memories SET speaker = repeat('s ', 1000), tags = ARRAY[repeat('t', 1000)] WHERE content = 'findme please'",
        )
        .unwrap();
    ann.execute(
        "UPDATE engram.memories SET importance = 0.9, tags = array_append(tags, 'new') WHERE id = $1",
        &[&id],
    )
    .unwrap();
    let _: i32 = one(
        &mut ann,
        "SELECT engram.update($1, content => 'findme again')",
        &[&id],
    );
    assert_eq!(found(&mut ann), 1);
}

#[test]
fn statements_check_what_the_functions_check() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let mut bob = db.user("bob");
    let (a, b) = (add(&mut ann, "first tea"), add(&mut ann, "second tea"));
    let c = add(&mut ann, "third tea");
    let theirs = add(&mut bob, "tea of others");
    ann.execute("SELECT engram.supersede($1, $2)", &[&a, &b])
        .unwrap();
    let refused = |client: &mut Client, sql: &str, id: Uuid, other: Uuid, hint: &str| {
        let e = failure(client.execute(sql, &[&id, &other]));
        assert_eq!(e.code, "22023", "{sql}: {e:?}");
        assert!(e.message.contains(&other.to_string()), "{sql}: {e:?}");
        assert!(e.hint.contains(hint), "{sql}: {e:?}");
    };
    let superseded = "UPDATE engram.memories SET superseded_by = $2 WHERE id = $1";
    for (id, other) in [(b, b), (b, theirs), (b, Uuid::now_v7()), (b, a)] {
        refused(&mut ann, superseded, id, other, "engram.supersede");
    }
    for column in ["contradicts", "contradicted_by"] {
        let sql = format!("UPDATE engram.memories SET {column} = ARRAY[$2::uuid] WHERE id = $1");
        for (id, other) in [(b, b), (b, theirs), (b, Uuid::now_v7())] {
            refused(&mut ann, &sql, id, other, "engram.contradict");
        }
    }
    let insert =
        "INSERT INTO engram.memories (id, content, superseded_by) VALUES ($1, 'by hand', $2)";
    let fresh = Uuid::now_v7();
    for other in [fresh, theirs, Uuid::now_v7()] {
        refused(&mut ann, insert, fresh, other, "engram.supersede");
    }
    let e = failure(ann.execute(
        "INSERT INTO engram.memories (content, deleted_at) VALUES ('gone', now())",
        &[],
    ));
    assert_eq!(e.code, "22023", "{e:?}");
    assert!(e.hint.contains("engram.forget"));
    // What is right passes.
    ann.execute(superseded, &[&b, &c]).unwrap();
    ann.execute(insert, &[&fresh, &c]).unwrap();
    assert_eq!(one::<Uuid>(&mut ann, "SELECT engram.latest($1)", &[&a]), c);
    // And to take it back, and to forget with a statement.
    ann.execute(
        "UPDATE engram.memories SET superseded_by = NULL, deleted_at = now() WHERE id = $1",
        &[&b],
    )
    .unwrap();
}

#[test]
fn two_sessions_close_no_circle_by_statements() {
    let db = Database::new();
    let mut one_ = db.user("ann");
    let mut two = db.user("ann");
    let sql = "UPDATE engram.memories SET superseded_by = $2 WHERE id = $1";
    // With a snapshot that is older than what the other one has done.
    for isolation in ["READ COMMITTED", "REPEATABLE READ"] {
        let (a, b) = (
            add(&mut one_, &format!("a {isolation}")),
            add(&mut one_, &format!("b {isolation}")),
        );
        two.batch_execute(&format!(
            "BEGIN ISOLATION LEVEL {isolation}; SELECT count(*) FROM engram.memories"
        ))
        .unwrap();
        one_.execute(sql, &[&a, &b]).unwrap();
        let e = failure(two.execute(sql, &[&b, &a]));
        assert_eq!(
            e.code,
            if isolation == "READ COMMITTED" {
                "22023"
            } else {
                "40001"
            },
            "{e:?}"
        );
        two.batch_execute("ROLLBACK").unwrap();
    }
}

#[test]
fn writers_name_themselves_in_read_only_transactions() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let id = add(&mut ann, "tea");
    ann.batch_execute("SET default_transaction_read_only = on")
        .unwrap();
    for (call, name) in [
        ("add('x')", "add"),
        ("add_many('[\"x\"]')", "add_many"),
        ("update($1, 'x')", "update"),
        ("forget($1)", "forget"),
        ("supersede($1, content => 'x')", "supersede"),
        ("pending_embeddings()", "pending_embeddings"),
        ("set_embedding($1, '[1,2,3]')", "set_embedding"),
        ("touch(ARRAY[$1])", "touch"),
        ("reinforce(ARRAY[$1], 1)", "reinforce"),
        ("rate($1, 3)", "rate"),
        ("erase(ARRAY[$1])", "erase"),
        ("append_messages('[\"x\"]', 's')", "append_messages"),
        ("set_retention('x', max_count => 1)", "set_retention"),
        ("import('{}')", "import"),
        ("restore_messages('s')", "restore_messages"),
        ("consolidate()", "consolidate"),
        ("consolidate(dry_run => true)", "consolidate"),
        ("archive_messages()", "archive_messages"),
        ("configure('{}')", "configure"),
        ("apply_preset('default')", "apply_preset"),
    ] {
        let sql = format!(
            "SELECT engram.{} FROM (SELECT $1::uuid AS id) x",
            call.replace("$1", "x.id")
        );
        let e = failure(ann.query(&sql, &[&id]));
        assert_eq!(e.code, "25006", "{call}: {e:?}");
        assert_eq!(
            e.message,
            format!("cannot execute engram.{name}() in a read-only transaction")
        );
        assert!(e.hint.contains("POST"), "{call}");
    }
    // What only tells works.
    for sql in [
        "SELECT engram.erase(ARRAY[$1]::uuid[], dry_run => true)",
        "SELECT engram.apply_retention(dry_run => true) WHERE $1::uuid IS NOT NULL",
        "SELECT engram.purge(dry_run => true) WHERE $1::uuid IS NOT NULL",
        "SELECT engram.erase_messages('s', dry_run => true) WHERE $1::uuid IS NOT NULL",
        "SELECT engram.recall('tea') WHERE $1::uuid IS NOT NULL",
    ] {
        ann.query(sql, &[&id])
            .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }
    let admin = &mut db.admin();
    for call in [
        "pending_embeddings()",
        "set_embedding_model('other', 3)",
        "drop_embedding_model('tiny')",
        "create_partitions()",
        "drop_partitions()",
        "reindex()",
        "setup()",
    ] {
        let e = failure(admin.batch_execute(&format!("BEGIN READ ONLY; SELECT engram.{call}")));
        let name = call.split('(').next().unwrap();
        assert!(e.message.contains(&format!("engram.{name}()")), "{e:?}");
        assert!(e.code == "25006" && e.hint.contains("POST"), "{e:?}");
        admin.batch_execute("ROLLBACK").unwrap();
    }
}

#[test]
fn items_have_all_columns_and_name_their_model() {
    let db = Database::new();
    let mut ann = db.user("ann");
    db.admin()
        .batch_execute("SELECT engram.set_embedding_model('twin', 3)")
        .unwrap();
    let full = |content: &str| {
        json!({"content": content, "summary": "a summary of zebras", "valid_from": "2024-01-01", "valid_to": "2025-01-01",
               "pinned": true, "embedding": [1, 2, 3], "model": "twin"})
    };
    let seen = |ann: &mut Client, content: &str| -> Value {
        one(
            ann,
            "SELECT jsonb_build_array(m.version, m.summary, m.valid_from = '2024-01-01', m.valid_to = '2025-01-01', m.pinned, m.layer, e.model,
               (SELECT count(*) FROM engram.search('zebras') s WHERE s.id = m.id))
             FROM engram.memories m LEFT JOIN engram.embeddings e ON e.memory_id = m.id WHERE m.content = $1",
            &[&content],
        )
    };
    let wanted = json!([
        1,
        "a summary of zebras",
        true,
        true,
        true,
        "core",
        "twin",
        1
    ]);
    let statuses = |ann: &mut Client, items: &Value| -> Vec<(String, Option<String>)> {
        ann.query("SELECT status, error FROM engram.add_many($1)", &[items])
            .unwrap()
            .iter()
            .map(|r| (r.get(0), r.get(1)))
            .collect()
    };
    statuses(&mut ann, &json!([full("one by one")]));
    assert_eq!(seen(&mut ann, "one by one"), wanted);
    // The short way, where neither a pin nor another model is asked for.
    let mut plain = full("the short way");
    plain["pinned"] = json!(false);
    plain["model"] = one::<String>(
        &mut ann,
        "SELECT name FROM engram.embedding_models WHERE is_default",
        &[],
    )
    .into();
    statuses(&mut ann, &json!([plain]));
    let short = json!([
        1,
        "a summary of zebras",
        true,
        true,
        false,
        "working",
        plain["model"],
        1
    ]);
    assert_eq!(seen(&mut ann, "the short way"), short);
    // The same with statements, as for tables with a column of one's own.
    db.admin()
        .batch_execute("ALTER TABLE engram.memories ADD COLUMN mine text")
        .unwrap();
    plain["content"] = json!("by one statement");
    statuses(&mut ann, &json!([plain, full("with care")]));
    assert_eq!(seen(&mut ann, "by one statement"), short);
    assert_eq!(seen(&mut ann, "with care"), wanted);
    // Merged into what is there without them.
    add(&mut ann, "said before");
    statuses(&mut ann, &json!([full("said before")]));
    assert_eq!(
        seen(&mut ann, "said before"),
        json!([
            2,
            "a summary of zebras",
            true,
            true,
            true,
            "core",
            "twin",
            1
        ])
    );
    for (key, bad, word) in [
        ("model", json!("nobody"), "\"nobody\" is not registered"),
        ("model", json!(7), "model must be a text"),
        ("embedding", json!([1, 2]), "model \"twin\" has 3"),
        ("pinned", json!("yes"), "pinned must be true or false"),
        ("summary", json!(1), "summary must be a text"),
        ("valid_to", json!("2023-01-01"), "is after valid_to"),
        (
            "valid_from",
            json!("soon"),
            "valid_from must be a timestamp",
        ),
    ] {
        let mut item = full("bad");
        item[key] = bad;
        let got = statuses(
            &mut ann,
            &json!([item, {"content": format!("good beside {key} {word}")}]),
        );
        assert_eq!((&*got[0].0, &*got[1].0), ("error", "added"), "{got:?}");
        assert!(got[0].1.as_deref().unwrap().contains(word), "{got:?}");
    }
}
