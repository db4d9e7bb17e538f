//! What memories were before: history, revert, and reading the past.

use postgres::Client;
use postgres::types::ToSql;
use serde_json::Value;
use uuid::Uuid;

use crate::cluster::{Database, failure};

const NOWHERE: Uuid = Uuid::from_u128(0x018f_0000_aaaa_7000_8000_0000_0000_ffff);

/// The first column of the only row.
fn one<T>(client: &mut Client, sql: &str, args: &[&(dyn ToSql + Sync)]) -> T
where
    T: for<'a> postgres::types::FromSql<'a>,
{
    client
        .query_one(sql, args)
        .unwrap_or_else(|e| panic!("{sql}: {e:?}"))
        .get(0)
}

fn add(client: &mut Client, content: &str) -> Uuid {
    one(client, "SELECT engram.add($1)", &[&content])
}

/// The history of a memory, newest first, as JSON rows.
fn history(client: &mut Client, id: Uuid) -> Vec<Value> {
    let sql = "SELECT to_jsonb(h) FROM engram.history($1) WITH ORDINALITY h ORDER BY h.ordinality";
    let rows = client.query(sql, &[&id]).unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

fn column<'a>(rows: &'a [Value], name: &str) -> Vec<&'a Value> {
    rows.iter().map(|row| &row[name]).collect()
}

// --- history ------------------------------------------------------------------------------------

#[test]
fn every_change_by_every_door_is_a_version_with_what_it_changed() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let id: Uuid = one(
        &mut ann,
        "SELECT engram.add('Ann lives in Rome', tags => '{home}', metadata => '{\"sure\": 1}', entities => '{Rome}', speaker => 'Ann')",
        &[],
    );
    let other = add(&mut ann, "Ann lives in Pisa");
    for sql in [
        "SELECT engram.update($1, content => 'Ann lives in Oslo', importance => 0.1, entities => '{Oslo,Norway}')",
        "SELECT engram.pin($1)",
        "UPDATE engram.memories SET metadata = '{\"sure\": 0.30000000000000004}', expires_at = 'infinity' WHERE id = $1",
        "SELECT engram.add_entities($1, '{Ann}')",
        "SELECT engram.remove_entities($1, '{Oslo,Norway}')",
        "SELECT engram.unpin($1)",
        "SELECT engram.forget($1)",
        "SELECT engram.restore($1)",
        // Neither says anything new.
        "SELECT engram.restore($1)",
        "SELECT engram.add_entities($1, '{ann}')",
        "SELECT engram.touch(ARRAY[$1]::uuid[])",
    ] {
        ann.query(sql, &[&id]).unwrap();
    }
    ann.execute("SELECT engram.supersede($1, $2)", &[&id, &other])
        .unwrap();
    ann.execute("SELECT engram.unsupersede($1)", &[&id])
        .unwrap();
    let rows = history(&mut ann, id);
    let all = |name: &str| serde_json::to_string(&column(&rows, name)).unwrap();
    assert_eq!(all("version"), "[11,10,9,8,7,6,5,4,3,2,1]");
    assert_eq!(
        all("action"),
        r#"["unsuperseded","superseded","restored","forgotten","unpinned","updated","updated","updated","pinned","updated","added"]"#
    );
    assert_eq!(
        all("changed"),
        r#"[["superseded_by"],["superseded_by"],["deleted_at"],["deleted_at"],["pinned"],["entities"],["entities"],["expires_at","metadata"],["pinned"],["content","entities","importance"],null]"#
    );
    assert_eq!(rows[10]["content"], "Ann lives in Rome");
    assert_eq!(rows[9]["content"], "Ann lives in Oslo");
    assert_eq!(rows[10]["entities"].to_string(), r#"["Rome"]"#);
    assert_eq!(rows[7]["entities"].to_string(), r#"["Norway","Oslo"]"#);
    assert_eq!(
        rows[6]["entities"].to_string(),
        r#"["Ann","Norway","Oslo"]"#
    );
    assert_eq!(rows[5]["entities"].to_string(), r#"["Ann"]"#);
    assert_eq!(
        rows[5]["metadata"].to_string(),
        r#"{"sure":0.30000000000000004}"#
    );
    assert_eq!(rows[5]["expires_at"], "infinity");
    assert_eq!(rows[10]["tags"].to_string(), r#"["home"]"#);
    assert_eq!(rows[1]["superseded_by"], other.to_string());
    let me: Uuid = one(&mut ann, "SELECT engram.current_user_id()", &[]);
    assert!(column(&rows, "actor").iter().all(|a| **a == me.to_string()));
    let ordered: bool = one(
        &mut ann,
        "SELECT bool_and(b.at >= a.at) FROM engram.history($1) a, engram.history($1) b WHERE b.version > a.version",
        &[&id],
    );
    assert!(ordered);
    // The same text said again brings entities: that is a version as well.
    let again: Uuid = one(
        &mut ann,
        "SELECT engram.add('ann LIVES in oslo', entities => '{Fjord}')",
        &[],
    );
    assert_eq!(again, id);
    let rows = history(&mut ann, id);
    assert_eq!(rows[0]["changed"].to_string(), r#"["entities","expires_at"]"#);
    assert_eq!(rows[0]["entities"].to_string(), r#"["Ann","Fjord"]"#);
    assert_eq!(rows[1]["entities"].to_string(), r#"["Ann"]"#);
    // Nobody else's business.
    assert!(history(&mut db.user("bob"), id).is_empty());
    assert!(history(&mut ann, NOWHERE).is_empty());
    // Of what is erased the fact is left.
    ann.execute("SELECT engram.erase(ARRAY[$1::uuid])", &[&id])
        .unwrap();
    let rows = history(&mut ann, id);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["action"], "erased");
    assert_eq!(rows[0]["content"], Value::Null);
    assert_eq!(rows[0]["version"], 13);
    let left: i64 = one(
        &mut db.admin(),
        "SELECT count(*) FROM engram.memory_events e WHERE e::text ~* 'rome|oslo|fjord'",
        &[],
    );
    assert_eq!(left, 0, "nothing of the content is left");
}

#[test]
fn history_shows_what_is_known_where_events_are_missing() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let id = add(&mut ann, "one");
    for content in ["two", "three", "four"] {
        ann.execute("SELECT engram.update($1, $2)", &[&id, &content])
            .unwrap();
    }
    let mut admin = db.admin();
    admin
        .execute(
            "DELETE FROM engram.memory_events WHERE version IN (2, 3)",
            &[],
        )
        .unwrap();
    let rows = history(&mut ann, id);
    assert_eq!(
        serde_json::to_string(&column(&rows, "content")).unwrap(),
        r#"["four","three"]"#
    );
    assert_eq!(
        serde_json::to_string(&column(&rows, "action")).unwrap(),
        r#"["updated",null]"#
    );
    admin
        .batch_execute("DELETE FROM engram.memory_events")
        .unwrap();
    let rows = history(&mut ann, id);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["content"], "four");
    assert_eq!(rows[0]["version"], 4);
    assert_ne!(rows[0]["at"], Value::Null);
    let new = add(&mut ann, "new");
    admin
        .batch_execute("DELETE FROM engram.memory_events")
        .unwrap();
    assert_eq!(history(&mut ann, new)[0]["action"], "added");
}

#[test]
fn both_tables_policies_have_their_say_about_the_past() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let hidden = add(&mut ann, "a harmless note");
    let shown = add(&mut ann, "a secret note");
    ann.execute("SELECT engram.update($1, 'a secret plan')", &[&hidden])
        .unwrap();
    ann.execute("SELECT engram.update($1, 'an open plan')", &[&shown])
        .unwrap();
    let mut admin = db.admin();
    admin
        .batch_execute(
            "CREATE POLICY hush ON engram.memories AS RESTRICTIVE FOR SELECT USING (content NOT LIKE '%secret%')",
        )
        .unwrap();
    // What the present row may not show, no version shows, not even a harmless one.
    assert!(history(&mut ann, hidden).is_empty());
    assert_eq!(history(&mut ann, shown).len(), 2);
    admin
        .batch_execute(
            "CREATE POLICY hush ON engram.memory_events AS RESTRICTIVE FOR SELECT USING (old IS NULL OR old ->> 'content' NOT LIKE '%secret%')",
        )
        .unwrap();
    let rows = history(&mut ann, shown);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["content"], "an open plan");
    let e = failure(ann.execute("SELECT engram.revert($1, 1)", &[&shown]));
    assert_eq!(e.code, "22023", "{e:?}");
    let e = failure(ann.execute("SELECT engram.revert($1, 1)", &[&hidden]));
    assert_eq!(e.code, "PT404", "{e:?}");
}

// --- revert -------------------------------------------------------------------------------------

#[test]
fn revert_makes_a_new_version_of_an_old_one() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let id: Uuid = one(
        &mut ann,
        "SELECT engram.add('Ann lives in Rome', 'episodic', 0.7, '[1,2,3]', '{home}', '{\"a\": {\"b\": [1]}}', '2024-02-03 04:05:06.789012+00',
           'agent', 'session', 'Ann', 'user', 'mail', '{Rome,Italy}', expires_at => '2100-01-01')",
        &[],
    );
    let state = "SELECT to_jsonb(g) - '{version,updated_at,layer,access_count,last_accessed_at}'::text[] FROM engram.get($1) g";
    let before: Value = one(&mut ann, state, &[&id]);
    ann.execute(
        "SELECT engram.update($1, 'Ann lives in Oslo', 'a summary', 'factual', 0.1, '{north}', '{}', '2025-01-01', 'other', 'other',
           'Bob', 'tool', 'web', '{Oslo}', valid_from => '2025-01-01', valid_to => '2026-01-01', expires_at => '2200-01-01')",
        &[&id],
    )
    .unwrap();
    ann.execute("SELECT engram.pin($1)", &[&id]).unwrap();
    let reverted: i32 = one(&mut ann, "SELECT engram.revert($1, 1, 3)", &[&id]);
    assert_eq!(reverted, 4);
    let after: Value = one(&mut ann, state, &[&id]);
    assert_eq!(after, before);
    let versions: i64 = one(&mut ann, "SELECT count(*) FROM engram.history($1)", &[&id]);
    assert_eq!(versions, 4);
    // Searched by its words again, and handed out to be embedded again.
    let found: Uuid = one(&mut ann, "SELECT id FROM engram.search('Rome')", &[]);
    assert_eq!(found, id);
    let pending: i64 = one(
        &mut ann,
        "SELECT count(*) FROM engram.pending_embeddings()",
        &[],
    );
    assert_eq!(pending, 1);
    // What is so already makes no version: by number, and by content.
    for version in [4, 1] {
        let same: i32 = one(&mut ann, "SELECT engram.revert($1, $2)", &[&id, &version]);
        assert_eq!(same, 4);
    }
    // Entities alone.
    ann.execute("SELECT engram.add_entities($1, '{Tiber}')", &[&id])
        .unwrap();
    let reverted: i32 = one(&mut ann, "SELECT engram.revert($1, 4)", &[&id]);
    assert_eq!(reverted, 6);
    let after: Value = one(&mut ann, state, &[&id]);
    assert_eq!(after, before);

    let e = failure(ann.execute("SELECT engram.revert($1, 9)", &[&id]));
    assert_eq!(
        (e.code.as_str(), e.message),
        (
            "22023",
            format!("version 9 of memory \"{id}\" is not known")
        )
    );
    assert!(e.hint.contains("Known: 1, 2, 3, 4, 5, 6."), "{}", e.hint);
    let e = failure(ann.execute("SELECT engram.revert($1, NULL)", &[&id]));
    assert_eq!(e.code, "22023");
    let e = failure(ann.execute("SELECT engram.revert($1, 1, 5)", &[&id]));
    assert_eq!(e.code, "PT409");
    let e = failure(ann.execute("SELECT engram.revert($1, 1)", &[&NOWHERE]));
    assert_eq!(e.code, "PT404");
    let e = failure(
        db.user("bob")
            .execute("SELECT engram.revert($1, 1)", &[&id]),
    );
    assert_eq!(e.code, "PT404");
    ann.execute("SELECT engram.forget($1)", &[&id]).unwrap();
    let e = failure(ann.execute("SELECT engram.revert($1, 1)", &[&id]));
    assert_eq!(e.code, "PT404", "a forgotten one is restored first");
}
