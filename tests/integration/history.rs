//! What memories were before: history, revert, and reading the past.

use postgres::Client;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cluster::{Database, failure, one};

const NOWHERE: Uuid = Uuid::from_u128(0x018f_0000_aaaa_7000_8000_0000_0000_ffff);

/// The first column of the only row.
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
    assert_eq!(
        rows[0]["changed"].to_string(),
        r#"["entities","expires_at"]"#
    );
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

#[test]
fn a_session_that_shows_fewer_digits_keeps_them_all() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let exact = 0.123_456_789_012_345_68_f64;
    ann.batch_execute("SET extra_float_digits = -10").unwrap();
    let id: Uuid = one(
        &mut ann,
        "SELECT engram.add('precise', importance => $1)",
        &[&exact],
    );
    let importance = "SELECT importance FROM engram.memories";
    ann.execute(
        "SELECT engram.update($1, content => 'precise indeed')",
        &[&id],
    )
    .unwrap();
    // Nothing is said to have changed that did not, however few digits the session shows.
    let changed: Vec<String> = one(
        &mut ann,
        "SELECT changed FROM engram.history($1) WHERE version = 2",
        &[&id],
    );
    assert_eq!(changed, ["content"]);
    ann.execute("SELECT engram.update($1, importance => 0.9)", &[&id])
        .unwrap();
    ann.execute("SELECT engram.revert($1, 2)", &[&id]).unwrap();
    assert_eq!(one::<f64>(&mut ann, importance, &[]), exact);
    // To go back to what is so already changes nothing.
    ann.execute("SELECT engram.revert($1, 4)", &[&id]).unwrap();
    assert_eq!(one::<f64>(&mut ann, importance, &[]), exact);
    // Nor does an import that does not speak of it.
    let line = json!([{"kind": "memory", "id": id.to_string(), "content": "precise again", "created_at": "2024-01-01T00:00:00Z"}]);
    let status: String = one(
        &mut ann,
        "SELECT status FROM engram.import($1, on_conflict => 'replace')",
        &[&line],
    );
    assert_eq!(status, "replaced");
    assert_eq!(one::<f64>(&mut ann, importance, &[]), exact);
}

// --- the past -----------------------------------------------------------------------------------

/// Small random numbers, the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// Everything that a reader can be shown of a workspace, `$T` standing for the arguments that name the moment.
const VIEWS: &[&str] = &[
    "SELECT jsonb_agg(to_jsonb(l) - 'layer') FROM engram.list(include => '{forgotten,superseded,expired}'$T) l",
    "SELECT jsonb_agg(to_jsonb(l) - 'layer') FROM engram.list('{\"OR\": [{\"tags\": \"t1\"}, {\"entities\": [\"Oslo\", \"rome\"]}, {\"importance\": {\"gt\": 0.6}}]}'$T) l",
    "SELECT jsonb_agg(l.id) FROM engram.list(skip => 2, match_count => 3$T) l",
    "SELECT jsonb_agg(jsonb_build_object('id', s.id, 'content', s.content, 'tags', s.tags, 'matched', s.matched, 'score', s.score) ORDER BY s.id) FROM engram.search('Which tea does Rome drink at dawn?', match_count => 30$S) s",
    "SELECT jsonb_agg(jsonb_build_object('id', s.id, 'score', s.score) ORDER BY s.id) FROM engram.search('tea -dawn', filter => '{\"NOT\": {\"tags\": \"t2\"}}', types => '{factual,opinion}'$S) s",
    "SELECT jsonb_agg(jsonb_build_object('id', s.id, 'score', s.score) ORDER BY s.id) FROM engram.search('\"green tea\"', include => '{superseded,expired}'$S) s",
    "SELECT jsonb_agg(s.id ORDER BY s.id) FROM engram.search(match_count => 50$S) s",
];

fn views(client: &mut Client, at: &str, as_of: bool) -> Vec<Option<Value>> {
    let moment = format!(", as_of => '{at}'");
    let present = format!(", at => '{at}'");
    VIEWS
        .iter()
        .map(|sql| {
            let sql = if as_of {
                sql.replace("$T", &moment).replace("$S", &moment)
            } else {
                sql.replace("$T", "").replace("$S", &present)
            };
            one(client, &sql, &[])
        })
        .collect()
}

/// Equal, but for scores, in which uses are rounded each time they are folded.
fn alike(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a, b) {
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(Some(a), Some(b)))
        }
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let same = |(key, value): (&String, &Value)| match (key.as_str(), value.as_f64()) {
                ("score", Some(score)) => (score - b["score"].as_f64().unwrap()).abs() < 0.005,
                _ => b.get(key) == Some(value),
            };
            a.len() == b.len() && a.iter().all(same)
        }
        _ => a == b,
    }
}

#[test]
fn the_past_is_what_was_shown_then() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let mut admin = db.admin();
    let mut dice = Dice(0x5eed_0001);
    let words = [
        "tea",
        "green tea",
        "Rome",
        "dawn",
        "Oslo",
        "coffee",
        "harbour",
        "dawn tea",
    ];
    let mut ids: Vec<Uuid> = Vec::new();
    let mut then: Vec<(String, Vec<Option<Value>>)> = Vec::new();
    for step in 0..160 {
        let word = words[dice.below(words.len())];
        let text = format!(
            "Ann {word} note {} {}",
            words[dice.below(words.len())],
            dice.below(9)
        );
        let id = ids
            .get(dice.below(ids.len().max(1)))
            .copied()
            .unwrap_or_default();
        let done = match dice.below(if step < 8 { 1 } else { 16 }) {
            0 => {
                let sql = "SELECT engram.add($1, tags => ARRAY['t' || $2::int], entities => ARRAY[$3], session_id => 's' || $2::int, on_duplicate => 'allow')";
                let n = dice.below(3) as i32;
                ids.push(one(&mut ann, sql, &[&text, &n, &word]));
                Ok(1)
            }
            1 => ann.execute("SELECT engram.update($1, $2)", &[&id, &text]),
            2 => ann.execute("SELECT engram.update($1, $2, tags => '{t2}', type => 'opinion', speaker => 'Rome')", &[&id, &text]),
            3 => ann.execute("SELECT engram.update($1, importance => $2)", &[&id, &(dice.below(10) as f64 / 10.0)]),
            4 => ann.execute("SELECT engram.forget($1)", &[&id]),
            5 => ann.execute("SELECT engram.restore($1)", &[&id]),
            6 => ann.execute("SELECT engram.supersede($1, $2)", &[&id, &ids[dice.below(ids.len())]]),
            7 => ann.execute("SELECT engram.unsupersede($1)", &[&id]),
            8 => ann.execute("UPDATE engram.memories SET expires_at = CASE WHEN expires_at IS NULL THEN now() + interval '1 h' * (random() - 0.5) END WHERE id = $1", &[&id]),
            9 => ann.execute("SELECT engram.add_entities($1, ARRAY[$2])", &[&id, &word]),
            10 => ann.execute("SELECT engram.remove_entities($1, ARRAY[$2])", &[&id, &word]),
            11 => ann.execute("SELECT engram.revert($1, 1)", &[&id]),
            12 => ann.execute("SELECT engram.contradict($1, $2)", &[&id, &ids[dice.below(ids.len())]]),
            13 => ann.execute("SELECT engram.pin($1)", &[&id]),
            14 => ann.execute("SELECT engram.consolidate()", &[]),
            _ => ann.execute("SELECT engram.touch(ARRAY[$1::uuid])", &[&id]),
        };
        // Of a forgotten one, or of itself, some things cannot be asked.
        if let Err(e) = done {
            assert!(
                ["PT404", "22023"].contains(&e.code().unwrap().code()),
                "{e:?}"
            );
        }
        if step % 6 == 5 {
            let now: String = one(&mut ann, "SELECT clock_timestamp()::text", &[]);
            let seen = views(&mut ann, &now, false);
            then.push((now, seen));
        }
    }
    // Packed or not, the past is the same.
    for reindexed in [false, true] {
        for (at, seen) in &then {
            for ((wanted, got), sql) in seen.iter().zip(views(&mut ann, at, true)).zip(VIEWS) {
                assert!(
                    alike(wanted.as_ref(), got.as_ref()),
                    "as of {at} ({reindexed}): {sql}\n{wanted:?}\n{got:?}"
                );
            }
        }
        admin.batch_execute("SELECT engram.reindex()").unwrap();
    }
    let (at, _) = &then[then.len() / 2];
    for id in &ids {
        let sql = format!(
            "SELECT coalesce((SELECT jsonb_agg(to_jsonb(l) - 'cursor_next') FROM engram.list('{{\"id\": \"{id}\"}}', include => '{{superseded,expired}}', as_of => '{at}') l)
               = (SELECT jsonb_agg(to_jsonb(g)) FROM engram.get('{id}', as_of => '{at}') g),
               NOT EXISTS (SELECT FROM engram.get('{id}', as_of => '{at}')))"
        );
        assert!(
            one::<bool>(&mut ann, &sql, &[]),
            "get and list agree: {sql}"
        );
    }
    // Pages of the past do not change while the present does.
    let page = |ann: &mut Client, cursor: Option<String>| -> (Vec<Uuid>, Option<String>) {
        let sql = format!(
            "SELECT id, cursor_next FROM engram.list(match_count => 4, cursor => $1, include => '{{forgotten,superseded,expired}}', as_of => '{at}')"
        );
        let rows = ann.query(&sql, &[&cursor]).unwrap();
        (
            rows.iter().map(|r| r.get(0)).collect(),
            rows.last().map(|r| r.get(1)),
        )
    };
    let (mut paged, mut cursor) = (Vec::new(), None);
    loop {
        let (ids, next) = page(&mut ann, cursor);
        if ids.is_empty() {
            break;
        }
        paged.extend(ids);
        cursor = next;
        add(&mut ann, &format!("a newer one {}", paged.len()));
    }
    let whole: Vec<Uuid> = one(
        &mut ann,
        &format!(
            "SELECT array_agg(id) FROM engram.list(match_count => 1000, include => '{{forgotten,superseded,expired}}', as_of => '{at}')"
        ),
        &[],
    );
    assert_eq!(paged, whole);
    // What is erased is gone from the past too.
    let erased = whole[0];
    ann.execute("SELECT engram.erase(ARRAY[$1::uuid])", &[&erased])
        .unwrap();
    for (at, _) in &then {
        for view in views(&mut ann, at, true).into_iter().flatten() {
            assert!(!view.to_string().contains(&erased.to_string()));
        }
    }
    assert!(
        ann.query(
            &format!("SELECT FROM engram.get($1, as_of => '{at}')"),
            &[&erased]
        )
        .unwrap()
        .is_empty()
    );
}

#[test]
fn the_past_is_shown_of_what_may_be_seen_now() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let hidden = add(&mut ann, "a harmless zebra");
    let open = add(&mut ann, "an open zebra");
    let then: String = one(&mut ann, "SELECT clock_timestamp()::text", &[]);
    ann.execute("SELECT engram.update($1, 'a secret horse')", &[&hidden])
        .unwrap();
    ann.execute("SELECT engram.update($1, 'an open horse')", &[&open])
        .unwrap();
    db.admin()
        .batch_execute("CREATE POLICY hush ON engram.memories AS RESTRICTIVE FOR SELECT USING (content NOT LIKE '%secret%')")
        .unwrap();
    for sql in [
        "SELECT id FROM engram.search('zebra', as_of => $1::text::timestamptz)",
        "SELECT id FROM engram.search(as_of => $1::text::timestamptz)",
        "SELECT id FROM engram.list(as_of => $1::text::timestamptz)",
        "SELECT g.id FROM unnest(ARRAY[$2::uuid, $3]) u, engram.get(u, as_of => $1::text::timestamptz) g",
    ] {
        let rows = if sql.contains("$3") {
            ann.query(sql, &[&then, &hidden, &open])
        } else {
            ann.query(sql, &[&then])
        };
        let ids: Vec<Uuid> = rows.unwrap().iter().map(|r| r.get(0)).collect();
        assert_eq!(ids, [open], "{sql}");
    }
    // No score tells of the hidden one either: alone in sight, a memory scores as if it were alone.
    let score = "SELECT s.score FROM engram.search('zebra open', as_of => $1::text::timestamptz) s";
    let with: f64 = one(&mut ann, score, &[&then]);
    ann.batch_execute("SET request.jwt.claims = ''").unwrap();
    let mut bob = db.user("bob");
    add(&mut bob, "an open zebra");
    let alone: f64 = one(
        &mut bob,
        "SELECT s.score FROM engram.search('zebra open') s",
        &[],
    );
    assert!((with - alone).abs() < 1e-9, "{with} {alone}");
}

#[test]
fn uses_count_as_of_the_moment() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let early = add(&mut ann, "tea at dawn");
    let late = add(&mut ann, "tea at dusk");
    let touch = |ann: &mut Client, id: Uuid| {
        for _ in 0..9 {
            ann.execute("SELECT engram.touch(ARRAY[$1::uuid])", &[&id])
                .unwrap();
        }
    };
    touch(&mut ann, early);
    let then: String = one(&mut ann, "SELECT clock_timestamp()::text", &[]);
    touch(&mut ann, late);
    touch(&mut ann, late);
    // Waiting or folded, in memory_state or only in the log.
    for fold in [false, true] {
        if fold {
            ann.execute(
                "SELECT engram_internal.fold(engram.current_user_id(), 1000)",
                &[],
            )
            .unwrap();
        }
        for query in ["", "'tea', "] {
            let first = |ann: &mut Client, at: &str| -> Uuid {
                one(
                    ann,
                    &format!("SELECT id FROM engram.search({query}match_count => 1{at})"),
                    &[],
                )
            };
            assert_eq!(first(&mut ann, ""), late, "{query} {fold}");
            assert_eq!(
                first(&mut ann, &format!(", as_of => '{then}'")),
                early,
                "{query} {fold}"
            );
        }
        let counts: Vec<i64> = one(
            &mut ann,
            &format!(
                "SELECT array_agg(access_count ORDER BY created_at) FROM engram.list(as_of => '{then}')"
            ),
            &[],
        );
        assert_eq!(counts, [10, 1]);
    }
}

#[test]
fn vectors_of_other_texts_do_not_speak_for_the_past() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let kept: Uuid = one(
        &mut ann,
        "SELECT engram.add('kept', embedding => '[1,0,0]')",
        &[],
    );
    let changed: Uuid = one(
        &mut ann,
        "SELECT engram.add('tea in the morning', embedding => '[0,1,0]')",
        &[],
    );
    let gone: Uuid = one(
        &mut ann,
        "SELECT engram.add('forgotten', embedding => '[1,1,0]')",
        &[],
    );
    let then: String = one(&mut ann, "SELECT clock_timestamp()::text", &[]);
    ann.execute(
        "SELECT engram.update($1, 'kept', importance => 0.9)",
        &[&kept],
    )
    .unwrap();
    ann.execute(
        "SELECT engram.update($1, 'coffee', embedding => '[1,0,0]')",
        &[&changed],
    )
    .unwrap();
    ann.execute("SELECT engram.forget($1)", &[&gone]).unwrap();
    let mut found = |sql: &str| -> Vec<Uuid> {
        let sql = sql.replace("$T", &format!("as_of => '{then}'"));
        ann.query(&sql, &[])
            .unwrap()
            .iter()
            .map(|r| r.get(0))
            .collect()
    };
    assert_eq!(
        found("SELECT id FROM engram.search(query_embedding => '[1,0,0]', $T)"),
        [kept, gone]
    );
    assert_eq!(
        found("SELECT id FROM engram.search('tea', '[1,0,0]', $T)"),
        [changed, kept, gone]
    );
    assert_eq!(
        found("SELECT id FROM engram.search('coffee', $T)"),
        Vec::<Uuid>::new()
    );
    assert_eq!(
        found("SELECT id FROM engram.search(query_embedding => '[1,0,0]')").len(),
        2
    );
}

#[test]
fn moments_that_cannot_be_known_are_refused() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let id = add(&mut ann, "tea");
    for call in [
        "get($1, as_of => $2::text::timestamptz)",
        "list(jsonb_build_object('id', $1::uuid), as_of => $2::text::timestamptz)",
        "search($1::uuid::text, as_of => $2::text::timestamptz)",
    ] {
        let sql = format!("SELECT FROM engram.{call}");
        for at in ["2999-01-01", "infinity"] {
            let e = failure(ann.query(&sql, &[&id, &at]));
            assert_eq!(e.code, "22023", "{call}: {e:?}");
            assert!(e.message.contains("in the future"), "{e:?}");
        }
        assert!(
            ann.query(&sql, &[&id, &"1999-01-01"]).unwrap().is_empty(),
            "{call}"
        );
    }
    // Of memories older than the history it is known when they came, and that they are as they are.
    let before: String = one(
        &mut ann,
        "SELECT (created_at - interval '1 s')::text FROM engram.get($1)",
        &[&id],
    );
    let after: String = one(&mut ann, "SELECT clock_timestamp()::text", &[]);
    db.admin()
        .batch_execute("DELETE FROM engram.memory_events")
        .unwrap();
    for (at, there) in [(before, 0), (after, 1)] {
        for sql in [
            "SELECT FROM engram.list(as_of => $1::text::timestamptz)",
            "SELECT FROM engram.search('tea', as_of => $1::text::timestamptz)",
        ] {
            assert_eq!(ann.query(sql, &[&at]).unwrap().len(), there, "{sql}");
        }
    }
}

#[test]
fn nobody_stores_without_an_event_by_passing_for_a_dump() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let events = "SELECT count(*) FROM engram.memory_events WHERE action = 'added'";
    ann.batch_execute(
        "SET check_function_bodies = off;
         INSERT INTO engram.memories (content) VALUES ('by hand');
         SELECT engram.add('by call');
         SELECT engram.add_many('[\"of many\", \"of many more\"]');
         -- As restores have it; who is bound by policies cannot write then.
         SET check_function_bodies = on",
    )
    .unwrap();
    let count: i64 = ann.query_one(events, &[]).unwrap().get(0);
    assert_eq!(count, 4);
    // One who owns the tables, who may lend their rights to nobody by a function.
    db.admin()
        .batch_execute(
            "CREATE FUNCTION public.lend() RETURNS void LANGUAGE sql SECURITY DEFINER SET check_function_bodies = off
               AS $$INSERT INTO engram.memories (workspace_id, content) VALUES (engram.current_user_id(), 'lent')$$",
        )
        .unwrap();
    ann.batch_execute("SELECT public.lend()").unwrap();
    let count: i64 = ann.query_one(events, &[]).unwrap().get(0);
    assert_eq!(count, 5);
    // The owner loads a dump, which brings its own.
    db.admin()
        .batch_execute(
            "SET check_function_bodies = off; INSERT INTO engram.memories (workspace_id, content) VALUES (gen_random_uuid(), 'dumped')",
        )
        .unwrap();
    let count: i64 = db.admin().query_one(events, &[]).unwrap().get(0);
    assert_eq!(count, 5);
}

#[test]
fn what_has_changed_is_the_same_in_every_time_zone() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let id: Uuid = one(
        &mut ann,
        "SELECT engram.add('tea', occurred_at => '2025-01-01Z', expires_at => '2999-01-01Z')",
        &[],
    );
    for (zone, importance) in [("UTC", 0.9), ("Asia/Tokyo", 0.4), ("America/Lima", 0.5)] {
        ann.batch_execute(&format!(
            "SET timezone = '{zone}'; SELECT engram.update('{id}', importance => {importance})"
        ))
        .unwrap();
    }
    ann.batch_execute(&format!(
        "SELECT engram.update('{id}', expires_at => '2999-01-02Z')"
    ))
    .unwrap();
    for zone in ["UTC", "Asia/Tokyo"] {
        ann.batch_execute(&format!("SET timezone = '{zone}'"))
            .unwrap();
        let changed: Vec<Option<Vec<String>>> = ann
            .query(
                "SELECT changed FROM engram.history($1) ORDER BY version",
                &[&id],
            )
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        let one = |name: &str| Some(vec![name.to_owned()]);
        let wanted = [
            None,
            one("importance"),
            one("importance"),
            one("importance"),
            one("expires_at"),
        ];
        assert_eq!(changed, wanted, "{zone}");
    }
}
