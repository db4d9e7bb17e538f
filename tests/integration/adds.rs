//! Storing without statements: the same as with them, and only where nothing is missed by it.

use postgres::Client;
use serde_json::{Value, json};

use crate::cluster::{Database, failure};

/// Memories of all kinds. Vectors have three dimensions.
fn items() -> Vec<Value> {
    let long = "getUserName() ".repeat(200) + &"x".repeat(3000);
    vec![
        json!("only a text"),
        json!({"content": "Ann Lee: I like green tea, don't you?", "embedding": [1, 0.5, -2e-3],
               "occurred_at": "2023-05-08T10:00:00Z", "session_id": "s1"}),
        json!({"content": "She likes it", "type": "opinion", "importance": 0.7, "embedding": "[0.1,0.2,0.3]",
               "tags": ["drink", "taste", "drink"], "metadata": {"a": {"b": [1, null, "c"]}}, "agent_id": "bot",
               "session_id": "s1", "speaker": "Ann", "role": "user", "source": "chat",
               "entities": ["Ann", "Green Tea", "ann!"], "expires_at": "2099-01-01T00:00:00Z"}),
        json!({"content": "twice", "on_duplicate": "allow", "tags": [], "metadata": {}}),
        json!({"content": "twice", "on_duplicate": "allow", "embedding": [123456789.125, 1e-9, 0]}),
        json!({"content": "東京都へ行く on 2023-05-08, x86_64", "type": "episodic", "occurred_at": "infinity"}),
        json!({"content": long, "type": "causal"}),
        json!({"content": "  the same  ", "embedding": [3, 2, 1]}),
        json!({"content": "The SAME", "tags": ["more"]}),
        json!({"content": "with an id", "id": "018f3a2e-0000-7000-8000-0000000000aa"}),
        // Refused, each for itself.
        json!({"content": " "}),
        json!({"content": "x", "type": "nonsense"}),
        json!({"content": "x", "importance": 2}),
        json!({"content": "x", "role": "king"}),
        json!({"content": "x", "embedding": [1, 2]}),
        json!({"content": "x", "embedding": [0, 0, 0]}),
        json!({"content": "x", "entities": ["?"]}),
        json!({"content": "x", "metadata": "no object"}),
    ]
}

/// All that is stored of the caller's memories, without ids and moments.
fn stored(admin: &mut Client, user: &str) -> Vec<String> {
    admin
        .query(
            "WITH me AS (SELECT u.id FROM (SELECT set_config('engram.user_id', $1, false)) s, engram.current_user_id() u (id))
             SELECT (to_jsonb(m) - '{id,workspace_id,user_id,created_at,updated_at}'::text[])::text
               || (m.user_id = m.workspace_id)::text
               || (m.created_at = m.updated_at)::text
               || (SELECT to_jsonb(s) - '{workspace_id,memory_id,last_accessed_at}'::text[] FROM engram.memory_state s
                   WHERE s.memory_id = m.id AND s.workspace_id = m.workspace_id AND s.last_accessed_at = m.created_at)::text
               || (SELECT jsonb_agg(jsonb_build_array(e.action, e.version, e.old - '{user_id,created_at,updated_at}'::text[], e.actor = m.user_id,
                     e.origin = engram_internal.store_origin(), e.at BETWEEN m.created_at AND clock_timestamp(),
                     e.xid < pg_snapshot_xmax(pg_current_snapshot())) ORDER BY e.at) FROM engram.memory_events e
                   WHERE e.memory_id = m.id AND e.workspace_id = m.workspace_id)::text
               || coalesce((SELECT e.embedding::text || e.model || (e.created_at = m.created_at) FROM engram.embeddings e
                   WHERE e.memory_id = m.id AND e.workspace_id = m.workspace_id), 'no vector')
               || coalesce((SELECT jsonb_agg(g.label ORDER BY g.node) FROM engram.graph_links g
                   WHERE g.memory_id = m.id AND g.workspace_id = m.workspace_id)::text, 'no entity')
             FROM engram.memories m, me WHERE m.workspace_id = me.id
             ORDER BY 1",
            &[&user],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect()
}

/// Memories whose entry in a block is not what the memory says, and those without one.
fn unsearchable(admin: &mut Client) -> i64 {
    admin
        .query_one(
            "WITH entries AS MATERIALIZED (SELECT b.workspace_id, b.model, e.* FROM (SELECT DISTINCT workspace_id, model FROM engram.search_blocks) b,
               engram_internal.held_entries(b.workspace_id, b.model) e)
             SELECT (SELECT count(*) FROM engram.memories m WHERE NOT EXISTS (
                       SELECT FROM entries e, engram_internal.block_entries(engram_internal.document(m.id, m.version, 'plain', m.session_id,
                         coalesce(m.occurred_at, m.created_at), 'pg_catalog.english', m.content, m.speaker, m.occurred_at, m.summary)) d
                       WHERE e.workspace_id = m.workspace_id AND e.model = '' AND e.id = m.id AND e.entry = d.entry))
                  + (SELECT count(*) FROM engram.embeddings v WHERE NOT EXISTS (
                       SELECT FROM entries e, engram_internal.block_entries(engram_internal.vector_entry(v.memory_id, 1, 'plain', v.embedding)) d
                       WHERE e.workspace_id = v.workspace_id AND e.model = v.model AND e.id = v.memory_id AND e.entry = d.entry))
                  + (SELECT abs(count(DISTINCT (workspace_id, model, id)) - (SELECT count(*) FROM engram.memories) - (SELECT count(*) FROM engram.embeddings)) FROM entries)",
            &[],
        )
        .unwrap()
        .get(0)
}

/// How many of the items are stored without a statement; `None` when that is not tried.
fn short(client: &mut Client, items: &Value) -> Option<i32> {
    client
        .query_opt(
            "SELECT cardinality(ids) FROM engram_internal.store_items($1, NULL)",
            &[items],
        )
        .unwrap()
        .map(|row| row.get(0))
}

fn add_many(client: &mut Client, items: &[Value]) -> Vec<(String, Option<String>)> {
    client
        .query(
            "SELECT status, error FROM engram.add_many($1) ORDER BY position",
            &[&Value::from(items)],
        )
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect()
}

#[test]
fn both_ways_store_the_same() {
    let db = Database::new();
    let mut admin = db.admin();
    let outcome = |user: &str| -> Vec<(String, Option<String>)> {
        let mut client = db.user(user);
        // Together, then each in a call of its own.
        let mut all = add_many(&mut client, &items());
        let mut alone = db.user(&format!("{user} alone"));
        for item in items() {
            all.extend(add_many(&mut alone, &[item]));
        }
        all
    };
    let mut ann = db.user("ann");
    ann.batch_execute("BEGIN").unwrap();
    let some = Value::from(&items()[..8]);
    assert_eq!(short(&mut ann, &some), Some(8));
    ann.batch_execute("ROLLBACK").unwrap();
    let first = outcome("ann");
    assert_eq!(unsearchable(&mut admin), 0);
    let tally = |status: &str| first.iter().filter(|(s, _)| s == status).count();
    assert_eq!(
        (tally("added"), tally("merged"), tally("error")),
        (18, 2, 16)
    );

    // The trigger does nothing, and the statements are used for it.
    admin
        .batch_execute(
            "CREATE FUNCTION public.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
             CREATE TRIGGER nothing BEFORE INSERT ON engram.memories FOR EACH ROW EXECUTE FUNCTION public.nothing()",
        )
        .unwrap();
    assert_eq!(short(&mut ann, &some), None);
    assert_eq!(outcome("bob"), first);
    assert_eq!(unsearchable(&mut admin), 0);
    for (one, other) in [("ann", "bob"), ("ann alone", "bob alone")] {
        let (one, other) = (stored(&mut admin, one), stored(&mut admin, other));
        assert_eq!(one.len(), 9);
        assert_eq!(one, other);
    }
}

#[test]
fn what_users_add_to_the_tables_counts() {
    let db = Database::new();
    let mut admin = db.admin();
    let mut ann = db.user("ann");
    admin
        .batch_execute(
            "CREATE TABLE public.log (content text); GRANT ALL ON public.log TO app;
             CREATE TABLE public.people (id uuid PRIMARY KEY);
             CREATE FUNCTION public.loud() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.content := upper(NEW.content); RETURN NEW; END';
             CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.log VALUES (TG_RELID::regclass); RETURN NULL; END'",
        )
        .unwrap();
    // What is done to the tables, how it is undone, and what shows that it counts: a SQLSTATE, or a query that
    // counts 1 for each memory that is stored while it lasts.
    let cases = [
        (
            "CREATE TRIGGER loud BEFORE INSERT ON engram.memories FOR EACH ROW EXECUTE FUNCTION public.loud()",
            "DROP TRIGGER loud ON engram.memories",
            "SELECT count(*) FROM engram.memories WHERE content = upper(content)",
        ),
        (
            "CREATE TRIGGER note AFTER INSERT ON engram.memories FOR EACH ROW EXECUTE FUNCTION public.note()",
            "DROP TRIGGER note ON engram.memories",
            "SELECT count(*) FROM public.log",
        ),
        (
            "CREATE TRIGGER note AFTER INSERT ON engram.embeddings FOR EACH ROW EXECUTE FUNCTION public.note()",
            "DROP TRIGGER note ON engram.embeddings",
            "SELECT count(*) FROM public.log",
        ),
        (
            "CREATE RULE also AS ON INSERT TO engram.memories DO ALSO INSERT INTO public.log VALUES ('x')",
            "DROP RULE also ON engram.memories",
            "SELECT count(*) FROM public.log",
        ),
        (
            "ALTER TABLE engram.memories ADD COLUMN colour text DEFAULT 'red'",
            "ALTER TABLE engram.memories DROP COLUMN colour",
            "SELECT count(*) FROM engram.memories WHERE colour = 'red'",
        ),
        (
            "ALTER TABLE engram.memories ADD COLUMN size integer GENERATED ALWAYS AS (char_length(content)) STORED",
            "ALTER TABLE engram.memories DROP COLUMN size",
            "SELECT count(*) FROM engram.memories WHERE size = char_length(content)",
        ),
        (
            "ALTER TABLE engram.memories ALTER COLUMN summary SET DEFAULT 'none'",
            "ALTER TABLE engram.memories ALTER COLUMN summary DROP DEFAULT",
            "SELECT count(*) FROM engram.memories WHERE summary = 'none'",
        ),
        (
            "ALTER TABLE engram.memories DISABLE TRIGGER memories_after_insert",
            "ALTER TABLE engram.memories ENABLE TRIGGER memories_after_insert",
            "SELECT count(*) FROM engram.memories m WHERE NOT EXISTS (SELECT FROM engram.memory_state s WHERE s.memory_id = m.id)",
        ),
        (
            "ALTER TABLE engram.memories ADD CONSTRAINT short CHECK (char_length(content) < 5)",
            "ALTER TABLE engram.memories DROP CONSTRAINT short",
            "23514",
        ),
        (
            "ALTER TABLE engram.memories ADD CONSTRAINT known FOREIGN KEY (user_id) REFERENCES public.people",
            "ALTER TABLE engram.memories DROP CONSTRAINT known",
            "23503",
        ),
        (
            "ALTER TABLE engram.embeddings ADD CONSTRAINT known FOREIGN KEY (memory_id) REFERENCES public.people",
            "ALTER TABLE engram.embeddings DROP CONSTRAINT known",
            "23503",
        ),
        (
            "ALTER TABLE engram.memory_state ADD CONSTRAINT known FOREIGN KEY (workspace_id) REFERENCES public.people NOT VALID",
            "ALTER TABLE engram.memory_state DROP CONSTRAINT known",
            "23503",
        ),
        (
            "ALTER TABLE engram.memory_events DROP CONSTRAINT memory_events_action_check, ADD CONSTRAINT quiet CHECK (action <> 'added') NOT VALID",
            "ALTER TABLE engram.memory_events DROP CONSTRAINT quiet, ADD CONSTRAINT memory_events_action_check CHECK (action <> '')",
            "23514",
        ),
        (
            "ALTER TABLE engram.search_blocks ADD CONSTRAINT known FOREIGN KEY (workspace_id) REFERENCES public.people NOT VALID",
            "ALTER TABLE engram.search_blocks DROP CONSTRAINT known",
            "23503",
        ),
        (
            // As many checks as before, but another one.
            "ALTER TABLE engram.memory_state DROP CONSTRAINT memory_state_access_count_check, ADD CONSTRAINT often CHECK (access_count > 7) NOT VALID",
            "ALTER TABLE engram.memory_state DROP CONSTRAINT often, ADD CONSTRAINT memory_state_access_count_check CHECK (access_count > 0)",
            "23514",
        ),
        (
            "ALTER TABLE engram.memory_state ALTER COLUMN heat SET NOT NULL",
            "ALTER TABLE engram.memory_state ALTER COLUMN heat DROP NOT NULL",
            "23502",
        ),
        (
            "CREATE UNIQUE INDEX once ON engram.memories (workspace_id, (content <> ''))",
            "DROP INDEX engram.once",
            "23505",
        ),
        (
            // On a plain column, which the short way minds itself.
            "CREATE UNIQUE INDEX once ON engram.memories (workspace_id, version)",
            "DROP INDEX engram.once",
            "23505",
        ),
        (
            "CREATE POLICY quiet ON engram.memories AS RESTRICTIVE FOR INSERT WITH CHECK (content = 'no')",
            "DROP POLICY quiet ON engram.memories",
            "42501",
        ),
        (
            "CREATE POLICY quiet ON engram.embeddings AS RESTRICTIVE FOR ALL USING (false)",
            "DROP POLICY quiet ON engram.embeddings",
            "42501",
        ),
        (
            "ALTER POLICY memories_insert ON engram.memories TO postgres",
            "ALTER POLICY memories_insert ON engram.memories TO public",
            "42501",
        ),
        (
            "ALTER POLICY embeddings_insert ON engram.embeddings WITH CHECK (false)",
            "ALTER POLICY embeddings_insert ON engram.embeddings WITH CHECK (workspace_id = ANY ((SELECT engram.writable_workspaces())::uuid[]))",
            "42501",
        ),
        (
            "ALTER TABLE engram.memories ALTER COLUMN source SET NOT NULL",
            "ALTER TABLE engram.memories ALTER COLUMN source DROP NOT NULL",
            "23502",
        ),
        (
            "ALTER TABLE engram.embeddings ALTER COLUMN embedding TYPE extensions.vector(4)",
            "ALTER TABLE engram.embeddings ALTER COLUMN embedding TYPE extensions.vector",
            "22000",
        ),
        (
            "REVOKE INSERT ON engram.memories FROM app",
            "GRANT INSERT ON engram.memories TO app",
            "42501",
        ),
        (
            "REVOKE INSERT ON engram.embeddings FROM app",
            "GRANT INSERT ON engram.embeddings TO app",
            "42501",
        ),
    ];
    let mut n = 0;
    for (done, undone, shows) in cases {
        admin
            .batch_execute(
                "DELETE FROM engram.memories WHERE true; DELETE FROM engram.erasures WHERE true; DELETE FROM public.log WHERE true",
            )
            .unwrap();
        // One is there already, for what must be unique.
        let one = |n: i32| format!("SELECT engram.add('memory {n}', embedding => '[1,2,{n}]')");
        let many = |n: i32| {
            format!(
                "SELECT count(*) FROM engram.add_many('[{{\"content\": \"memory {n}\", \"embedding\": [1,2,{n}]}}]') WHERE status = 'added'"
            )
        };
        if shows == "23505" {
            ann.batch_execute(&one(n)).unwrap();
        }
        let before: i64 = admin
            .query_one("SELECT count(*) FROM engram.memories", &[])
            .unwrap()
            .get(0);
        admin.batch_execute(done).unwrap();
        n += 1;
        let added = ann.batch_execute(&one(n));
        n += 1;
        let together: i64 = ann.query_one(&many(n), &[]).unwrap().get(0);
        let count: i64 = admin
            .query_one(
                if shows.len() == 5 {
                    "SELECT count(*) FROM engram.memories"
                } else {
                    shows
                },
                &[],
            )
            .unwrap()
            .get(0);
        if shows.len() == 5 {
            let error = added.expect_err(done);
            assert_eq!(error.code().map(|c| c.code()), Some(shows), "{done}");
            assert_eq!((together, count), (0, before), "{done}");
        } else {
            added.unwrap_or_else(|e| panic!("{done}: {e:?}"));
            assert_eq!((together, count), (1, 2), "{done}");
        }
        admin.batch_execute(undone).unwrap();
        // And is as it was.
        n += 1;
        if shows.len() != 5 || undone.starts_with("DROP") {
            let item = json!([{"content": format!("memory {n}"), "embedding": [1, 2, n]}]);
            let again = short(&mut ann, &item);
            let dropped = undone.contains("DROP COLUMN");
            assert!(dropped || again == Some(1), "{undone}: {again:?}");
        }
    }
}

#[test]
fn every_index_gets_its_rows() {
    let db = Database::new();
    let (mut admin, mut ann) = (db.admin(), db.user("ann"));
    admin
        .batch_execute(
            "CREATE INDEX by_tag ON engram.memories USING gin (tags);
             CREATE INDEX by_source ON engram.memories (source) WHERE source IS NOT NULL",
        )
        .unwrap();
    let items: Vec<Value> = (0..200)
        .map(|n| {
            let mut item = json!({"content": format!("memory {n}"), "tags": [format!("t{n}")], "embedding": [1, 2, n]});
            if n % 10 == 0 {
                item["source"] = json!("s");
                item["expires_at"] = json!("2099-01-01");
            }
            item
        })
        .collect();
    assert_eq!(short(&mut ann, &Value::from(items)), Some(200));
    admin
        .batch_execute("VACUUM ANALYZE engram.memories, engram.embeddings")
        .unwrap();
    admin.batch_execute("SET enable_seqscan = off").unwrap();
    for (index, condition, wanted) in [
        (
            "memories_pkey",
            "id > '00000000-0000-0000-0000-000000000001' AND workspace_id = workspace_id",
            200,
        ),
        ("by_tag", "tags @> '{t7}'", 1),
        ("by_source", "source = 's'", 20),
        (
            "memories_expires_idx",
            "workspace_id = (SELECT workspace_id FROM engram.memories LIMIT 1) AND expires_at > now()",
            20,
        ),
        (
            "memories_standing_idx",
            "workspace_id = (SELECT workspace_id FROM engram.memories LIMIT 1) AND pinned AND type = 'procedural'",
            0,
        ),
        (
            "memories_content_idx",
            "content_hash = sha256('memory 7')",
            1,
        ),
    ] {
        let plan: Vec<String> = admin
            .query(
                &format!("EXPLAIN SELECT * FROM engram.memories WHERE {condition}"),
                &[],
            )
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        if index != "memories_pkey" {
            assert!(plan.concat().contains(index), "{plan:?}");
        }
        let count: i64 = admin
            .query_one(
                &format!("SELECT count(*) FROM engram.memories WHERE {condition}"),
                &[],
            )
            .unwrap()
            .get(0);
        assert_eq!(count, wanted, "{index}");
    }
    // Of every index as many entries as VACUUM has counted rows that it should have.
    let wrong: Vec<String> = admin
        .query(
            "SELECT c.relname::text || ' ' || c.reltuples FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
             WHERE i.indrelid IN ('engram.memories'::regclass, 'engram.embeddings'::regclass) AND i.indpred IS NULL
               AND c.relname <> 'by_tag' AND c.reltuples <> 200",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn it_belongs_to_its_transaction() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let found = |client: &mut Client, text: &str| -> i64 {
        client
            .query_one(
                "SELECT count(*) FROM engram.search($1, '[1,2,3]')",
                &[&text],
            )
            .unwrap()
            .get(0)
    };
    ann.batch_execute(
        "BEGIN; SELECT engram.add('kept walnut', embedding => '[1,2,3]'); SAVEPOINT s",
    )
    .unwrap();
    assert_eq!(found(&mut ann, "walnut"), 1);
    ann.batch_execute("SELECT engram.add('lost hazelnut', embedding => '[1,2,4]'); SELECT * FROM engram.add_many('[\"lost peanut\"]')")
        .unwrap();
    assert_eq!(found(&mut ann, "hazelnut peanut"), 3);
    ann.batch_execute("ROLLBACK TO s").unwrap();
    assert_eq!(found(&mut ann, "hazelnut peanut walnut"), 1);
    ann.batch_execute("COMMIT").unwrap();
    assert_eq!(found(&mut ann, "walnut"), 1);
    let count: i64 = db
        .admin()
        .query_one(
            "SELECT (SELECT count(*) FROM engram.memory_state) + (SELECT count(*) FROM engram.memory_events)
               + (SELECT count(*) FROM engram.embeddings) + (SELECT sum(entries) FROM engram.search_blocks)",
            &[],
        )
        .unwrap()
        .get(0);
    assert_eq!(count, 5);

    let refused = ann.batch_execute("BEGIN READ ONLY; SELECT engram.add('never')");
    assert_eq!(failure(refused).code, "25006");
    ann.batch_execute(
        "ROLLBACK; BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT engram.add('kept cashew'); COMMIT",
    )
    .unwrap();
    assert_eq!(found(&mut ann, "cashew"), 2);
    // Erased for good, whichever way it comes back.
    for call in [
        "SELECT engram.add('again', id => '018f3a2e-0000-7000-8000-0000000000aa')",
        "SELECT 1 / count(*) FROM engram.add_many('[{\"content\": \"again\", \"id\": \"018f3a2e-0000-7000-8000-0000000000aa\"}]') WHERE status = 'added'",
    ] {
        ann.batch_execute(&format!(
            "BEGIN; {call}; SELECT engram.erase('{{018f3a2e-0000-7000-8000-0000000000aa}}')"
        ))
        .unwrap();
        assert!(ann.batch_execute(call).is_err());
        ann.batch_execute("ROLLBACK").unwrap();
    }
}

#[test]
fn what_does_not_fit_into_a_page_is_found() {
    let db = Database::new();
    let (mut admin, mut ann) = (db.admin(), db.user("ann"));
    admin
        .batch_execute("SELECT engram.set_embedding_model('wide', 16000, make_default => true)")
        .unwrap();
    let words = |from: i32, to: i32| {
        format!(
            "(SELECT string_agg('wo' || translate(k::text, '0123456789', 'abcdefghij'), ' ') FROM generate_series({from}, {to}) k)"
        )
    };
    for (from, to) in [(10_000, 11_100), (20_000, 28_000)] {
        ann.batch_execute(&format!("SELECT engram.add({})", words(from, to)))
            .unwrap();
    }
    ann.batch_execute(&format!(
        "SELECT engram.add_many(jsonb_build_array({}, 'short'))",
        words(30_000, 35_000)
    ))
    .unwrap();
    let wide = |last: i32| format!("'[{}{last}]'", "0.5,".repeat(15_999));
    for n in 1..=3 {
        ann.batch_execute(&format!(
            "SELECT engram.add('wide {n}', embedding => {})",
            wide(n)
        ))
        .unwrap();
    }
    let mut count = |how: &str| -> i64 {
        admin.batch_execute(how).unwrap();
        let row = admin.query_one(
            "SELECT count(*) FROM engram.search_blocks WHERE workspace_id IN (SELECT workspace_id FROM engram.memories OFFSET 0)
               AND octet_length(block) > 0",
            &[],
        );
        row.unwrap().get(0)
    };
    let by_index = count("SET enable_seqscan = off; SET enable_bitmapscan = off");
    assert_eq!(
        by_index,
        count("RESET ALL; SET enable_indexscan = off; SET enable_bitmapscan = off")
    );
    for (word, wanted) in [("wobaaab", 1), ("wocbbbb", 1), ("wodcccc", 1), ("short", 1)] {
        let rows = ann
            .query("SELECT FROM engram.search($1)", &[&word])
            .unwrap();
        assert_eq!(rows.len(), wanted, "{word}");
    }
    let near = ann
        .query(
            &format!(
                "SELECT content FROM engram.search(query_embedding => {})",
                wide(3)
            ),
            &[],
        )
        .unwrap();
    assert_eq!(near.len(), 3);
    assert_eq!(near[0].get::<_, String>(0), "wide 3");
}

#[test]
fn a_batch_is_stored_in_its_order() {
    let id = "018f3a2e-0000-7000-8000-0000000000e1";
    let batches = [
        json!([{"content": "X", "embedding": [1, 0, 0], "session_id": "s1"},
               {"content": "X", "on_duplicate": "reject", "session_id": "s2"}]),
        json!([{"content": "P", "embedding": [0, 1, 0], "id": id}, {"content": "Q", "id": id}]),
        json!([{"content": "old tea", "on_duplicate": "reject"}, {"content": "old tea", "on_duplicate": "allow"}]),
        json!(["old twin", {"content": "old twin", "on_duplicate": "allow"},
               {"content": "old twin", "on_duplicate": "reject"}]),
        json!([{"content": "Y", "on_duplicate": "allow"}, {"content": "Y", "on_duplicate": "reject"}, "Y"]),
    ];
    let mut found = Vec::new();
    for careful in [false, true] {
        let db = Database::new();
        let (mut admin, mut ann) = (db.admin(), db.user("ann"));
        admin
            .batch_execute(
                "SELECT engram.set_embedding_model('m', 3); UPDATE engram.settings SET near_duplicate_threshold = 0.9;
                 CREATE FUNCTION public.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
            )
            .unwrap();
        ann.batch_execute(
            "SELECT engram.add(c, expires_at => now() + interval '5 ms') FROM unnest('{old tea,old twin}'::text[]) c; SELECT pg_sleep(0.01)",
        )
        .unwrap();
        if careful {
            admin
                .batch_execute("CREATE TRIGGER nothing BEFORE INSERT ON engram.memories FOR EACH ROW EXECUTE FUNCTION public.nothing()")
                .unwrap();
        }
        let mut said = Vec::new();
        for batch in &batches {
            let rows = ann
                .query("SELECT status FROM engram.add_many($1)", &[batch])
                .unwrap();
            said.push(rows.iter().map(|r| r.get(0)).collect::<Vec<String>>());
        }
        let rows = ann
            .query(
                "SELECT concat_ws(' ', content, session_id, access_count) FROM engram.list(include => '{expired}') ORDER BY 1",
                &[],
            )
            .unwrap();
        let kept: Vec<String> = rows.iter().map(|r| r.get(0)).collect();
        found.push((said, kept));
    }
    assert_eq!(found[0], found[1]);
    assert_eq!(found[0].0[0], ["added", "error"]);
}

/// Texts of words, numbers, addresses, tags and signs of many scripts, with and without space between them.
fn odd_texts(count: usize) -> Vec<String> {
    const PIECES: &[&str] = &[
        "tea",
        "Running",
        "THE",
        "the",
        "runs",
        "state-of-the-art",
        "x-y-",
        "-a",
        "a-",
        "--",
        "a--b",
        "1-2-3",
        "foo-2bar",
        "12-ab",
        "www.example.com",
        "example.com/path?x=1&y=2",
        "http://a.bc/d.html#e",
        "https://",
        "//x",
        "a//b",
        "ftp.x.org:21/z",
        "a.b.c",
        "foo@bar.com",
        "foo@bar.com/baz",
        "a@",
        "@a",
        "a_b@c-d.org",
        "-12.5e-3",
        "+7",
        "1,000",
        "3.14",
        "v1.2.3",
        "-1.2.3",
        "1e5",
        "1e",
        "007",
        "/usr/lib/x.so",
        "~/x",
        "~",
        "./a",
        "../b",
        ".hidden",
        "..",
        "...",
        "&amp;",
        "&#65;",
        "&#x41;",
        "&x",
        "x&",
        "a<b",
        "<b>",
        "</b>",
        "<3",
        "<script>",
        "<!-- c -->",
        "x_y",
        "_",
        "x86_64",
        "C++",
        "c#",
        "12:30",
        "2023-05-08",
        "U.S.A.",
        "e.g.,",
        "#tag",
        "$5",
        "50%",
        "a+b=c",
        "\\",
        "'",
        "don't",
        "`code`",
        "\"q\"",
        "(x)",
        "[8",
        "a/b",
        "a:b",
        "http:/x",
        "a;b",
        "café",
        "cafe",
        "CAFÉ",
        "cafe\u{301}",
        "\u{301}",
        "ça-va",
        "naïve's",
        "Straße",
        "東京都",
        "日本-語",
        "한국어",
        "ไทย",
        "हिन्दी",
        "مرحبا",
        "١٢٣",
        "\u{200b}",
        "\u{200d}x",
        "…",
        "—",
        "😀",
        "a😀b",
        "é1",
        "1é",
        "é.com",
        "x.é",
    ];
    const GAPS: &[&str] = &[
        " ", " ", " ", " ", " ", "", "", "  ", "\n", "\t", "\r\n", ", ", ". ", ".", "-", "/", ":",
        "\u{a0}", "\u{3000}", "\u{b}", "\u{c}", "\u{85}", " -", " ~", " .",
    ];
    let mut seed = 7u64;
    let mut below = |n: usize| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % n
    };
    let mut texts: Vec<String> = (0..count)
        .map(|_| {
            let mut text = String::new();
            for _ in 0..=below(12) {
                text.push_str(PIECES[below(PIECES.len())]);
                text.push_str(GAPS[below(GAPS.len())]);
            }
            text
        })
        .collect();
    // More positions than a tsvector has for a word, and more than it has.
    texts.push("run runs café cafe ".repeat(300));
    texts.push((0..9_000).map(|n| format!("w{} ", n % 700)).collect());
    texts.push(format!("{} {}", "x".repeat(2_100), "y".repeat(1_900)));
    texts
}

#[test]
fn words_are_those_of_to_tsvector() {
    let db = Database::new();
    let (mut admin, mut ann) = (db.admin(), db.user("ann"));
    let items: Vec<Value> = odd_texts(2_000)
        .iter()
        .map(
            |text| json!({"content": format!("{text}x"), "speaker": null, "on_duplicate": "allow"}),
        )
        .collect();
    // Twice: words are found, and then remembered. Of many users, for segments do not show their entries.
    for (nth, part) in items.chunks(100).enumerate() {
        let mut user = db.user(&format!("user {nth}"));
        for _ in 0..2 {
            let stored = short(&mut user, &Value::from(part));
            assert_eq!(stored, i32::try_from(part.len()).ok());
        }
    }
    let differ = |admin: &mut Client, config: &str| -> Vec<String> {
        let rows = admin
            .query(
                "WITH entries AS MATERIALIZED (SELECT e.* FROM engram.search_blocks b, engram_internal.block_entries(b.block) e WHERE b.model = '')
                 SELECT m.content FROM engram.memories m LEFT JOIN entries e ON e.id = m.id
                 WHERE e.entry IS DISTINCT FROM (SELECT d.entry FROM engram_internal.block_entries(engram_internal.document(m.id, m.version, 'plain',
                   m.session_id, coalesce(m.occurred_at, m.created_at), $1, m.content, m.speaker, m.occurred_at, m.summary)) d)",
                &[&config],
            )
            .unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    assert_eq!(
        differ(&mut admin, "pg_catalog.english"),
        Vec::<String>::new()
    );

    // A configuration that changes between two calls of one session.
    admin
        .batch_execute(
            "DELETE FROM engram.memories; CREATE TEXT SEARCH CONFIGURATION public.mine (COPY = pg_catalog.english);
             UPDATE engram.settings SET text_config = 'public.mine'",
        )
        .unwrap();
    let running = json!([{"content": "Running shoes", "on_duplicate": "allow"}]);
    assert_eq!(short(&mut ann, &running), Some(1));
    assert_eq!(differ(&mut admin, "pg_catalog.english").len(), 0);
    for (change, same_as) in [
        ("ALTER TEXT SEARCH CONFIGURATION public.mine ALTER MAPPING FOR asciiword WITH simple", "pg_catalog.simple"),
        ("CREATE TEXT SEARCH DICTIONARY public.stop (TEMPLATE = pg_catalog.simple, STOPWORDS = english);
          ALTER TEXT SEARCH CONFIGURATION public.mine ALTER MAPPING FOR asciiword WITH public.stop, english_stem", "pg_catalog.simple"),
        ("ALTER TEXT SEARCH DICTIONARY public.stop (ACCEPT = false)", "pg_catalog.english"),
    ] {
        admin.batch_execute("DELETE FROM engram.memories").unwrap();
        admin.batch_execute(change).unwrap();
        assert_eq!(short(&mut ann, &running), Some(1));
        assert_eq!(differ(&mut admin, "public.mine").len(), 0, "{change}");
        assert_eq!(differ(&mut admin, same_as).len(), 0, "{change}");
    }
}

#[test]
fn a_function_that_others_replace_decides() {
    let db = Database::new();
    let (mut admin, mut ann) = (db.admin(), db.user("ann"));
    let item = |text: &str| json!([text]);
    assert_eq!(short(&mut ann, &item("one")), Some(1));
    // Each in a session that knows how it was before.
    for (change, back) in [
        (
            "CREATE OR REPLACE FUNCTION engram.writable_workspaces() RETURNS uuid[] LANGUAGE sql STABLE AS $$SELECT '{}'::uuid[]$$",
            "SELECT engram.setup()",
        ),
        (
            "REVOKE EXECUTE ON FUNCTION engram.current_user_id() FROM public, app",
            "GRANT EXECUTE ON FUNCTION engram.current_user_id() TO public, app",
        ),
    ] {
        admin.batch_execute(change).unwrap();
        let refused = failure(ann.execute("SELECT engram.add('two')", &[]));
        assert_eq!(refused.code, "42501", "{change}");
        admin.batch_execute(back).unwrap();
        assert_eq!(short(&mut ann, &item(back)), Some(1));
    }
    // One that shows more, and says so as ours does.
    admin
        .batch_execute(
            "CREATE OR REPLACE FUNCTION engram.writable_workspaces() RETURNS uuid[] LANGUAGE plpgsql STABLE AS
             $$BEGIN RETURN ARRAY[engram.current_user_id(), '00000000-0000-0000-0000-000000000001']; END$$",
        )
        .unwrap();
    assert_eq!(short(&mut ann, &item("three")), Some(1));
}

#[test]
fn small_blocks_are_packed_by_who_adds() {
    let db = Database::new();
    let mut admin = db.admin();
    let (mut one, mut other) = (db.user("ann"), db.user("ann"));
    let add = |client: &mut Client, from: usize, count: usize| {
        for n in from..from + count {
            client
                .batch_execute(&format!(
                    "SELECT engram.add('thing {n}', embedding => '[1,{n},3]')"
                ))
                .unwrap();
        }
    };
    add(&mut one, 0, 150);
    // What a transaction that fails has packed is as it was before.
    one.batch_execute("BEGIN").unwrap();
    // More would lock the whole workspace.
    add(&mut one, 1_000, 40);
    add(&mut other, 2_000, 150);
    one.batch_execute("ROLLBACK").unwrap();
    assert_eq!(unsearchable(&mut admin), 0);
    // And while one packs, another that adds leaves it alone.
    one.batch_execute("BEGIN").unwrap();
    add(&mut one, 3_000, 40);
    other.batch_execute("BEGIN").unwrap();
    add(&mut other, 4_000, 20);
    one.batch_execute("COMMIT").unwrap();
    add(&mut other, 5_000, 40);
    other.batch_execute("COMMIT").unwrap();
    assert_eq!(unsearchable(&mut admin), 0);
    // About one in 24 packs, by chance: two thousand that all do not are not to
    // be feared.
    let small = |admin: &mut Client| -> i64 {
        admin
            .query_one(
                "SELECT coalesce(max(n), 0)
                 FROM (SELECT count(*) AS n FROM engram.search_blocks
                       WHERE level = 1 GROUP BY model) m",
                &[],
            )
            .unwrap()
            .get(0)
    };
    let mut tried = 0;
    while small(&mut admin) > 60 {
        assert!(tried < 2_000, "{} wait for a pack", small(&mut admin));
        add(&mut one, 10_000 + tried, 20);
        tried += 20;
    }
    assert_eq!(unsearchable(&mut admin), 0);
}

#[test]
fn a_model_stays_while_its_vectors_are_stored() {
    let db = Database::new();
    let (mut admin, mut ann) = (db.admin(), db.user("ann"));
    admin.batch_execute("SET lock_timeout = '200 ms'").unwrap();
    ann.batch_execute("BEGIN; SELECT engram.add('tea', embedding => '[1,2,3]')")
        .unwrap();
    let delete = "DELETE FROM engram.embedding_models WHERE is_default";
    assert_eq!(failure(admin.execute(delete, &[])).code, "55P03");
    // What does not touch its key need not wait.
    admin
        .execute(
            "UPDATE engram.embedding_models SET distance = 'l2' WHERE is_default",
            &[],
        )
        .unwrap();
    ann.batch_execute("SELECT engram.add('green tea', embedding => '[1,2,3]'); COMMIT")
        .unwrap();
    assert_eq!(failure(admin.execute(delete, &[])).code, "23503");
    assert_eq!(unsearchable(&mut admin), 0);
}
