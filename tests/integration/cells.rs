//! Vectors of large workspaces are arranged in cells, and a search without conditions reads the likeliest: it finds nearly
//! what one of all vectors finds, and whatever happens to memories and rows is found as without cells.

use std::collections::{BTreeMap, BTreeSet};

use postgres::Client;
use serde_json::Value;
use uuid::Uuid;

use crate::cluster::{Cluster, Database, Installation, one};

const DIMS: i32 = 800;
const MEMORIES: i32 = 6_000;

/// A vector near one of 40 directions, by numbers alone.
fn vector(nth: &str) -> String {
    format!(
        "(SELECT array_agg((hashint8(d * 40 + {nth} % 40) % 1000) / 1000.0 + 0.7 * (hashint8(d * 100003 + {nth}) % 1000) / 1000.0 ORDER BY d)
          FROM generate_series(1::bigint, {DIMS}) d)::real[]::extensions.vector"
    )
}

struct Large {
    admin: Client,
    ann: Client,
    workspace: Uuid,
}

impl Large {
    /// Vectors are of length 1, or of any.
    fn new(mut admin: Client, mut ann: Client, even: bool) -> Self {
        admin
            .batch_execute(&format!(
                "SELECT engram.set_embedding_model('large', {DIMS}, true)"
            ))
            .unwrap();
        let workspace = one(&mut ann, "SELECT user_id FROM engram.whoami()", &[]);
        let mut large = Self {
            admin,
            ann,
            workspace,
        };
        large.store(1, MEMORIES, even);
        large.maintain();
        large
    }

    /// Stores memories of these numbers, with vectors.
    fn store(&mut self, from: i32, to: i32, even: bool) {
        self.ann
            .batch_execute(&format!(
                "INSERT INTO engram.memories (content) SELECT 'note ' || n || ' of topic ' || n % 40 FROM generate_series({from}, {to}) n;
                 INSERT INTO engram.embeddings (workspace_id, memory_id, model, embedding)
                 SELECT m.workspace_id, m.id, 'large', {}({}) FROM engram.memories m,
                   LATERAL (SELECT split_part(m.content, ' ', 2)::bigint AS n) c
                 WHERE c.n BETWEEN {from} AND {to}",
                if even { "extensions.l2_normalize" } else { "" },
                vector("c.n")
            ))
            .unwrap();
    }

    fn maintain(&mut self) {
        self.admin.batch_execute("CALL engram.maintain()").unwrap();
    }

    /// From how many vectors on the likeliest are enough; `None` for never.
    fn approximate_from(&mut self, from: Option<i32>) {
        self.admin
            .execute(
                "UPDATE engram.settings SET approximate_from = $1 WHERE workspace_id = '00000000-0000-0000-0000-000000000000'",
                &[&from.unwrap_or(i32::MAX)],
            )
            .unwrap();
    }

    /// Has the vectors arranged.
    fn arrange(&mut self) {
        self.approximate_from(Some(1000));
        self.maintain();
    }

    fn measured_by(&mut self, distance: &str) {
        self.admin
            .execute(
                "UPDATE engram.embedding_models SET distance = $1 WHERE name = 'large'",
                &[&distance],
            )
            .unwrap();
    }

    /// How many vectors are in cells.
    fn arranged(&mut self) -> Option<i64> {
        one(
            &mut self.admin,
            "SELECT arranged FROM engram_internal.arrangement($1, 'large')",
            &[&self.workspace],
        )
    }

    /// Results of a search, with similarities, and whether they are of the likeliest.
    fn search(&mut self, nth: i32, more: &str) -> (Vec<(Uuid, f64)>, bool) {
        let sql = format!(
            "SELECT id, (explain -> 'lanes' -> 'vector' ->> 'similarity')::double precision,
                    coalesce((explain -> 'lanes' -> 'vector' ->> 'approximate')::boolean, false)
             FROM engram.search(query_embedding => {}, explain => true, {more})",
            vector(&format!("({nth})"))
        );
        let rows = self
            .ann
            .query(&sql, &[])
            .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        let likeliest: BTreeSet<bool> = rows.iter().map(|row| row.get(2)).collect();
        assert!(likeliest.len() < 2, "one search, one way");
        let hits = rows
            .iter()
            .map(|row| (row.get(0), row.get::<_, Option<f64>>(1).unwrap_or(f64::NAN)));
        (hits.collect(), likeliest.contains(&true))
    }

    /// Those of the memories whose vectors are in cells, and whose ids have neighbours in their part and are not in the head.
    fn inside(&mut self, hits: &[(Uuid, f64)]) -> Vec<Uuid> {
        let sql = "SELECT u FROM unnest($1::uuid[]) WITH ORDINALITY AS t (u, nth) WHERE EXISTS (
            SELECT FROM engram.search_blocks h JOIN engram.search_blocks b USING (workspace_id, model, cluster)
            WHERE h.model = 'large' AND h.level = 3 AND h.entries > 2048 AND b.level = 4
              AND position(uuid_send(u) IN b.block) BETWEEN 1 AND length(b.block) - 16
              AND position(uuid_send(u) IN h.block) = 0) ORDER BY nth";
        let hits: Vec<Uuid> = hits.iter().map(|(id, _)| *id).collect();
        let rows = self.admin.query(sql, &[&hits]).unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// The same search of all vectors.
    fn exactly(&mut self, nth: i32, more: &str) -> Vec<(Uuid, f64)> {
        self.approximate_from(None);
        let (hits, likeliest) = self.search(nth, more);
        assert!(!likeliest);
        self.approximate_from(Some(1000));
        hits
    }
}

fn ids(hits: &[(Uuid, f64)]) -> BTreeSet<Uuid> {
    hits.iter().map(|(id, _)| *id).collect()
}

/// Queries that no memory has the vector of, but for the last.
const QUERIES: [i32; 8] = [70_001, 70_014, 80_003, 81_019, 90_030, 91_112, 99_999, 77];

#[test]
fn the_likeliest_cells_hold_nearly_all_that_is_near() {
    let db = Database::new();
    let mut large = Large::new(db.admin(), db.user("ann"), true);
    assert_eq!(large.arranged(), None, "too few for the default");
    assert!(!large.search(1, "match_count => 10").1);
    large.arrange();
    let arranged = large.arranged().unwrap();
    assert!(arranged > 2048, "{arranged} in cells");

    let text = "query_text => 'note of topic 17', match_count => 10";
    let mut held = 0;
    for nth in QUERIES {
        for more in ["match_count => 10", text] {
            let (found, likeliest) = large.search(nth, more);
            assert!(likeliest, "{nth}, {more}");
            let exact = large.exactly(nth, more);
            assert_eq!(found.len(), 10);
            held += ids(&found).intersection(&ids(&exact)).count();
            // What is found is as alike as it is, and each once.
            assert_eq!(ids(&found).len(), 10);
            for (id, similarity) in &found {
                if let Some((_, known)) = exact.iter().find(|(other, _)| other == id) {
                    assert!((similarity - known).abs() < 1e-6, "{similarity}, {known}");
                }
            }
        }
    }
    assert!(held >= 156, "{held} of 160");

    // Of vectors that are as long, the nearest are the same by any distance.
    for distance in ["l2", "inner_product", "cosine"] {
        large.measured_by(distance);
        let (found, likeliest) = large.search(81_019, "match_count => 10");
        assert!(likeliest, "{distance}");
        let exact = large.exactly(81_019, "match_count => 10");
        assert!(
            ids(&found).intersection(&ids(&exact)).count() >= 9,
            "{distance}"
        );
    }

    // Fewer pages are read, though the workspace is small for this.
    let sql = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM engram.search(query_embedding => (SELECT v FROM q))";
    large
        .ann
        .batch_execute(&format!(
            "CREATE TEMP TABLE q AS SELECT {} AS v",
            vector("(70_001)")
        ))
        .unwrap();
    let pages = |ann: &mut Client| {
        ann.query(sql, &[]).unwrap();
        let plan: Value = one(ann, sql, &[]);
        plan[0]["Plan"]["Shared Hit Blocks"].as_i64().unwrap()
    };
    let few = pages(&mut large.ann);
    large.approximate_from(None);
    let all = pages(&mut large.ann);
    large.approximate_from(Some(1000));
    assert!(few + 40 < all, "{few} pages, {all} of all vectors");

    // So it is where few vectors are as alike as the workspace asks for: they are in the likeliest cells.
    let (near, _) = large.search(70_001, "match_count => 40");
    let strict = serde_json::json!({ "min_similarity": near[30].1 });
    large
        .ann
        .execute("SELECT engram.configure($1)", &[&strict])
        .unwrap();
    let (found, likeliest) = large.search(70_001, "match_count => 100");
    assert!(likeliest, "{} vectors", found.len());
    assert_eq!(ids(&found), ids(&near[..30]));
    large
        .ann
        .batch_execute("SELECT engram.configure('{\"min_similarity\": null}')")
        .unwrap();

    // Where something is asked of memories, those that pass may be anywhere: nothing is left out.
    let negated = "query_text => 'note -17', match_count => 10";
    for more in [
        "filter => '{\"content\": {\"icontains\": \"topic 33\"}}'",
        "types => ARRAY['factual']",
        "match_count => 101",
        "as_of => now()",
        negated,
    ] {
        let (found, likeliest) = large.search(70_014, more);
        assert!(!likeliest, "{more}");
        assert_eq!(found, large.exactly(70_014, more), "{more}");
    }

    // What is stored now is found at once, and what is no longer there is not, here and before it is packed.
    let newest = format!(
        "SELECT engram.add('the newest of all', embedding => {})",
        vector("(70_001)")
    );
    large.ann.batch_execute("BEGIN").unwrap();
    let newest: Uuid = one(&mut large.ann, &newest, &[]);
    assert_eq!(large.search(70_001, "match_count => 1").0[0].0, newest);
    large.ann.batch_execute("ROLLBACK").unwrap();
    let (found, _) = large.search(70_001, "match_count => 3");
    assert!(!ids(&found).contains(&newest));
    let [(first, _), (second, _), (third, _)] = found[..] else {
        panic!("{found:?}");
    };
    large
        .ann
        .batch_execute(&format!(
            "SELECT engram.forget('{first}');
             SELECT engram.set_embedding('{second}', {}, model => 'large');
             SELECT engram.erase(ARRAY['{third}'::uuid])",
            vector("(3)")
        ))
        .unwrap();
    for packed in [false, true] {
        let (found, _) = large.search(70_001, "match_count => 20");
        for gone in [first, second, third] {
            assert!(!ids(&found).contains(&gone), "packed: {packed}");
        }
        assert_eq!(
            ids(&found),
            ids(&large.exactly(70_001, "match_count => 20"))
        );
        assert_eq!(
            large.search(3, "match_count => 40").0,
            large.exactly(3, "match_count => 40")
        );
        large.maintain();
    }

    // Many that are forgotten take no place.
    let (near, _) = large.search(70_030, "match_count => 100");
    large
        .ann
        .query(
            "SELECT engram.forget(id) FROM unnest($1::uuid[]) AS t (id)",
            &[&near.iter().map(|(id, _)| *id).collect::<Vec<_>>()],
        )
        .unwrap();
    let (found, _) = large.search(70_030, "match_count => 10");
    assert_eq!(found.len(), 10);
    assert!(ids(&found).is_disjoint(&ids(&near)));

    // Nobody else's search reads them.
    let mut bob = db.user("bob");
    let sql = format!(
        "SELECT count(*) FROM engram.search(query_embedding => {})",
        vector("(70_001)")
    );
    assert_eq!(one::<i64>(&mut bob, &sql, &[]), 0);
}

#[test]
fn a_long_result_holds_nearly_all_that_is_near() {
    let db = Database::new();
    let (mut ann, mut admin) = (db.user("ann"), db.admin());
    admin
        .batch_execute("SELECT engram.set_embedding_model('small', 64, true)")
        .unwrap();
    // Many are about as near as the fiftieth, and half of a vector tells little of 64 numbers.
    let vector = |nth: &str| {
        format!(
            "(SELECT array_agg((hashint8(d * 30 + {nth} % 30) % 1000) / 1000.0 + 0.5 * (hashint8(d * 100003 + {nth}) % 1000) / 1000.0 ORDER BY d)
              FROM generate_series(1::bigint, 64) d)::real[]::extensions.vector"
        )
    };
    ann.batch_execute(&format!(
        "INSERT INTO engram.memories (content) SELECT 'note ' || n FROM generate_series(1, 8000) n;
         INSERT INTO engram.embeddings (workspace_id, memory_id, model, embedding)
         SELECT m.workspace_id, m.id, 'small', {} FROM engram.memories m,
           LATERAL (SELECT split_part(m.content, ' ', 2)::bigint AS n) c",
        vector("c.n")
    ))
    .unwrap();
    admin.batch_execute("CALL engram.maintain()").unwrap();
    let mut held = 0;
    for nth in 90_001..90_021 {
        let query = vector(&format!("({nth})"));
        let near = format!(
            "SELECT count(*) FROM engram.search(query_embedding => {query}, match_count => 50)
             WHERE id IN (SELECT memory_id FROM engram.embeddings ORDER BY embedding OPERATOR(extensions.<=>) {query} LIMIT 50)"
        );
        held += one::<i64>(&mut ann, &near, &[]);
    }
    assert!(held >= 996, "{held} of 1000");
}

#[test]
fn cells_follow_what_is_erased_and_are_never_missed() {
    let db = Database::new();
    let mut large = Large::new(db.admin(), db.user("ann"), false);
    large.arrange();
    let rows = "SELECT count(*) FROM engram.search_blocks WHERE level = 5";
    let all = one::<i64>(&mut large.admin, rows, &[]);
    assert!(all > 200, "{all} rows");
    let expected: Vec<_> = QUERIES
        .map(|nth| large.search(nth, "match_count => 20").0)
        .into();
    let same = |large: &mut Large, likeliest: bool, why: &str| {
        for (nth, expected) in QUERIES.iter().zip(&expected) {
            let (found, how) = large.search(*nth, "match_count => 20");
            assert_eq!(how, likeliest, "{why}");
            if likeliest {
                assert_eq!(found, *expected, "{why}");
            } else {
                assert!(
                    ids(&found).intersection(&ids(expected)).count() >= 18,
                    "{why}"
                );
            }
        }
    };

    // Nothing is done again, and what is elsewhere is found by its key, until it is arranged anew.
    large.maintain();
    assert_eq!(one::<i64>(&mut large.admin, rows, &[]), all);
    let known = "SELECT engram_internal.knows_cells($1, 'large')";
    let workspace = large.workspace;
    assert!(one::<bool>(&mut large.admin, known, &[&workspace]));
    large
        .admin
        .batch_execute("DELETE FROM engram.search_blocks WHERE level < 3")
        .unwrap();
    large
        .admin
        .batch_execute("VACUUM FULL engram.search_blocks")
        .unwrap();
    assert!(!one::<bool>(&mut large.admin, known, &[&workspace]));
    large
        .admin
        .batch_execute("SELECT engram.reindex()")
        .unwrap();
    assert!(one::<bool>(&mut large.admin, known, &[&workspace]));
    same(&mut large, true, "made anew");
    large
        .admin
        .batch_execute("VACUUM FULL engram.search_blocks")
        .unwrap();
    assert!(!one::<bool>(&mut large.admin, known, &[&workspace]));
    same(&mut large, true, "elsewhere");
    let arrange = "SELECT engram_internal.arrange($1, 'large')";
    let arranged = large.arranged().unwrap();
    assert_eq!(
        one::<i64>(&mut large.admin, arrange, &[&workspace]),
        arranged
    );
    assert!(one::<bool>(&mut large.admin, known, &[&workspace]));
    same(&mut large, true, "arranged anew");

    // Lengths differ, so that angles do not tell who is near.
    for distance in ["l2", "inner_product", "cosine"] {
        large.measured_by(distance);
        let (_, likeliest) = large.search(81_019, "match_count => 10");
        assert_eq!(likeliest, distance == "cosine");
    }

    // Rows that are not what they should be: everything is compared.
    for damage in [
        "UPDATE engram.search_blocks SET block = overlay(block PLACING '\\xffffffff' FROM 17) WHERE level = 5 AND get_byte(uuid_send(block_id), 0) = 1",
        "DELETE FROM engram.search_blocks WHERE level = 5 AND block_id BETWEEN '02000000-0000-0000-0000-000000000000' AND '03000000-0000-0000-0000-000000000000'",
        "UPDATE engram.search_blocks SET block = '\\x0503' WHERE level = 5 AND get_byte(uuid_send(block_id), 0) = 3",
        "UPDATE engram.search_blocks SET block = 'nonsense' WHERE level = 5 AND get_byte(uuid_send(block_id), 0) = 1",
        // Made of segments that are no longer there.
        "UPDATE engram.search_blocks SET block = overlay(block PLACING '\\x000000000000' FROM 29) WHERE level = 5 AND get_byte(uuid_send(block_id), 0) = 1",
    ] {
        large.admin.batch_execute(damage).unwrap();
        let (exact, found) = (
            large.exactly(70_001, "match_count => 20"),
            large.search(70_001, "match_count => 20"),
        );
        assert_eq!(found.0, exact, "{damage}");
        large
            .admin
            .batch_execute("SELECT engram.reindex()")
            .unwrap();
        same(&mut large, true, damage);
    }

    // A few that are missing are noticed in the end.
    large
        .admin
        .batch_execute("DELETE FROM engram.search_blocks WHERE level = 5 AND get_byte(uuid_send(block_id), 4) % 4 = 1 AND get_byte(uuid_send(block_id), 0) = 3")
        .unwrap();
    let mut noticed = false;
    for _ in 0..50 {
        noticed |= one::<i64>(&mut large.admin, arrange, &[&workspace]) > 0;
    }
    assert!(noticed);
    same(&mut large, true, "some were missing");

    // Of what was erased nothing stays, not in cells either: zeros are there instead, and nothing else changes.
    let victim = large.inside(&expected[7])[0];
    let arranged = large.arranged().unwrap();
    let vectors =
        "SELECT level, cluster, block_id, block FROM engram.search_blocks WHERE model = 'large' AND
      (level = 5 OR level = 4 AND get_byte(uuid_send(block_id), 0) IN (9, 10))";
    type Rows = BTreeMap<(i16, i32, Uuid), Vec<u8>>;
    let held = |admin: &mut Client| -> Rows {
        let rows = admin.query(vectors, &[]).unwrap();
        let rows = rows.iter();
        rows.map(|row| ((row.get(0), row.get(1), row.get(2)), row.get(3)))
            .collect()
    };
    let erase = |large: &mut Large, ids: &[Uuid]| {
        large
            .ann
            .execute("SELECT engram.erase($1)", &[&ids])
            .unwrap();
        large
            .admin
            .execute(
                "SELECT engram_internal.pack($1, m, true, 1) FROM unnest(ARRAY['', 'large']) m",
                &[&workspace],
            )
            .unwrap();
    };
    let before = held(&mut large.admin);
    erase(&mut large, &[victim]);
    let after = held(&mut large.admin);
    assert!(before.keys().eq(after.keys()));
    let mut changed = Vec::new();
    for (key, old) in &before {
        let new = &after[key];
        let other: Vec<usize> = (0..old.len()).filter(|i| old[*i] != new[*i]).collect();
        if let (Some(first), Some(last)) = (other.first(), other.last()) {
            assert!(other.iter().all(|i| new[*i] == 0), "{key:?}");
            let halves = (DIMS / 2) as usize;
            assert!(other.len() > halves * 3 / 4, "{key:?}: {}", other.len());
            assert!(new[last + 1 - halves..=*last].iter().all(|byte| *byte == 0));
            assert!(*first >= 12 && old.len() == new.len());
            changed.push((key.0, key.2.as_bytes()[0]));
        }
    }
    assert_eq!(changed, [(4, 9), (4, 10), (5, 3)]);
    assert_eq!(large.arranged(), Some(arranged));
    assert!(one::<bool>(&mut large.admin, known, &[&workspace]));
    let (found, likeliest) = large.search(77, "match_count => 20");
    assert!(likeliest && !ids(&found).contains(&victim));
    let rest = ids(&expected[7]).len() - 1;
    assert_eq!(ids(&found).intersection(&ids(&expected[7])).count(), rest);
    large.maintain();
    assert_eq!(held(&mut large.admin), after, "nothing is done again");

    // The direction of a cell does not tell of the few that are left, and what cannot be read may hold anything.
    let topic: Vec<Uuid> = one(
        &mut large.admin,
        "SELECT array_agg(id) FROM engram.memories WHERE content LIKE '% of topic 37'",
        &[],
    );
    let near = large.search(70_014, "match_count => 20").0;
    let near = large.inside(&near);
    let damage = "UPDATE engram.search_blocks SET block = 'nonsense' WHERE level = 5 AND block_id =
      (SELECT max(block_id::text)::uuid FROM engram.search_blocks WHERE level = 5 AND get_byte(uuid_send(block_id), 0) = $1)";
    for (what, gone) in [(0, &topic[..]), (1, &near[..1]), (3, &near[1..2])] {
        large.admin.execute(damage, &[&what]).unwrap();
        erase(&mut large, gone);
        assert_eq!(one::<i64>(&mut large.admin, rows, &[]), 0, "{what}");
        large.maintain();
        assert!(large.arranged().is_some());
        for nth in [77, 70_014] {
            let (found, likeliest) = large.search(nth, "match_count => 20");
            assert!(likeliest && gone.iter().all(|id| !ids(&found).contains(id)));
        }
    }

    // A fifth that is in no cell is enough to arrange anew, and a setting takes them away.
    large.store(7_001, 11_500, false);
    large.maintain();
    let sealed: i64 = one(
        &mut large.admin,
        "SELECT sealed FROM engram_internal.arrangement($1, 'large')",
        &[&workspace],
    );
    assert!(sealed > arranged, "{sealed}");
    assert_eq!(large.arranged(), Some(sealed));
    large.approximate_from(None);
    assert_eq!(one::<i64>(&mut large.admin, arrange, &[&workspace]), 0);
    assert_eq!(large.arranged(), None);

    // Whoever takes the vectors away meanwhile takes what was made of them away too.
    large.approximate_from(Some(1000));
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    for taken in [
        "SELECT engram.set_embedding_model('next', 3, true); SELECT engram.drop_embedding_model('large')",
        "TRUNCATE engram.embeddings",
    ] {
        let mut other = db.admin();
        other
            .batch_execute("BEGIN; DELETE FROM engram.search_blocks WHERE level = 5")
            .unwrap();
        assert!(one::<i64>(&mut other, arrange, &[&workspace]) > 2048);
        let mut admin = db.admin();
        let waiting = std::thread::spawn(move || admin.batch_execute(taken));
        let started = std::time::Instant::now();
        while one::<i64>(&mut large.admin, busy, &[]) == 0 {
            assert!(
                started.elapsed().as_secs() < 30 && !waiting.is_finished(),
                "{taken}"
            );
        }
        other.batch_execute("COMMIT").unwrap();
        waiting.join().unwrap().unwrap();
        assert_eq!(one::<i64>(&mut large.admin, rows, &[]), 0, "{taken}");
        // Once more, with what came instead.
        large
            .admin
            .batch_execute("SELECT engram.set_embedding_model('large', 800, true)")
            .unwrap();
        large.store(20_001, 24_500, false);
        large.maintain();
        assert!(large.arranged().is_some(), "{taken}");
    }
    large
        .admin
        .batch_execute("DELETE FROM engram.search_blocks WHERE level = 3 AND model = 'large'")
        .unwrap();
    large.maintain();
    assert_eq!(one::<i64>(&mut large.admin, rows, &[]), 0, "of nothing");
    large
        .admin
        .batch_execute("SELECT engram.reindex()")
        .unwrap();

    // A store of an older version has no such setting.
    large
        .admin
        .batch_execute("ALTER TABLE engram.settings DROP COLUMN approximate_from")
        .unwrap();
    assert_eq!(one::<i64>(&mut large.admin, arrange, &[&workspace]), 0);
    assert!(!large.search(70_001, "match_count => 10").1);
}

/// A standby reads the cells that the server has made, and nothing of what was erased there.
#[test]
fn cells_are_read_on_a_standby() {
    let primary = Cluster::start(Installation::current(), "cells");
    let mut admin = primary.connect("postgres", "postgres");
    admin
        .batch_execute(
            "CREATE ROLE app LOGIN; CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions; CREATE EXTENSION engram;
             SELECT engram.setup('{\"grant_to\": [\"app\"]}')",
        )
        .unwrap();
    let mut large = Large::new(admin, primary.user("ann"), true);
    let standby = primary.standby("cells-standby");
    large.arrange();
    let expected = QUERIES.map(|nth| large.search(nth, "match_count => 20"));

    standby.catch_up(&primary);
    let writer = std::mem::replace(&mut large.ann, standby.user("ann"));
    let found = QUERIES.map(|nth| large.search(nth, "match_count => 20"));
    assert_eq!(found, expected);
    assert!(found.iter().all(|(_, likeliest)| *likeliest));

    let reader = std::mem::replace(&mut large.ann, writer);
    let gone = large.inside(&expected[0].0)[0];
    large
        .ann
        .execute("SELECT engram.erase(ARRAY[$1::uuid])", &[&gone])
        .unwrap();
    standby.catch_up(&primary);
    large.ann = reader;
    let (found, likeliest) = large.search(QUERIES[0], "match_count => 20");
    assert!(likeliest && !ids(&found).contains(&gone));
}
