//! What search scans: whatever happens to memories and vectors, the packed blocks say the same as
//! the tables; and what ranking makes of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cluster::{Cluster, Database, Installation, failure};
use crate::search::REFERENCE;

/// SplitMix64: the same numbers every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 up to and without `n`.
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// True `percent` times of a hundred.
    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Up to `n` of `from`, each once.
    fn some(&mut self, from: &[Uuid], n: usize) -> Vec<Uuid> {
        let n = 1 + self.below(n);
        let ids: BTreeSet<Uuid> = (0..n).map(|_| self.pick(from)).collect();
        ids.into_iter().collect()
    }

    /// Never all zeros.
    fn vector(&mut self, dims: usize) -> String {
        let numbers: Vec<String> = (0..dims)
            .map(|_| format!("{:.4}", self.below(2000) as f64 / 1000.0 - 0.9995))
            .collect();
        format!("[{}]", numbers.join(","))
    }

    /// Words, the first of the list more often than the last, and one that nobody else has.
    fn content(&mut self) -> String {
        let most = if self.chance(5) { 120 } else { 20 };
        let length = 3 + self.below(most);
        let mut words: Vec<String> = (0..length)
            .map(|_| {
                let i = self.below(WORDS.len()).min(self.below(WORDS.len()));
                WORDS[i].to_owned()
            })
            .collect();
        words.push(format!("unique{}", self.next()));
        words.join(" ")
    }
}

const WORDS: [&str; 32] = [
    "tea",
    "green",
    "car",
    "york",
    "paint",
    "sunrise",
    "dogs",
    "running",
    "yesterday",
    "piano",
    "school",
    "meeting",
    "bread",
    "river",
    "night",
    "garden",
    "window",
    "letters",
    "brother",
    "swimming",
    "mountain",
    "camera",
    "station",
    "winter",
    "doctor",
    "blanket",
    "orange",
    "engine",
    "market",
    "violin",
    "harbour",
    "zebra",
];

/// Every weight that changes the order of pure BM25 and cosine.
const PURE: &str = "UPDATE engram.settings SET coverage_weight = 0, context_weight = 0, lend_weight = 0,
  speaker_weight = 0, date_weight = 0, question_weight = 0, length_weight = 0, activation_weight = 0,
  importance_weight = 0 WHERE workspace_id = '00000000-0000-0000-0000-000000000000'";

/// Counts of what is wrong with the blocks: memories and vectors that are missing or should not be
/// there; those that search would see twice; rows that lie about their number of entries; entries
/// that replace others, outside of level 0.
const WRONG: &str = "
WITH entries AS MATERIALIZED (
  SELECT b.workspace_id, b.model, e.level, e.id, e.version, e.state
  FROM (SELECT DISTINCT workspace_id, model FROM engram.search_blocks) b
  CROSS JOIN LATERAL engram_internal.held_entries(b.workspace_id, b.model) e
), newest AS (
  SELECT DISTINCT ON (workspace_id, model, id) * FROM entries ORDER BY workspace_id, model, id, version DESC
), truth AS (
  SELECT workspace_id, '' AS model, id FROM engram.memories WHERE deleted_at IS NULL
  UNION ALL SELECT workspace_id, model, memory_id FROM engram.embeddings
), latest AS (
  SELECT workspace_id, model, id, max(version) AS version FROM entries WHERE state <> 'plain' GROUP BY 1, 2, 3
)
SELECT
  (SELECT count(*) FROM truth t FULL JOIN (SELECT * FROM newest WHERE state <> 'gone') n USING (workspace_id, model, id)
   WHERE t.workspace_id IS NULL OR n.level IS NULL),
  (SELECT count(*) FROM (SELECT FROM entries e LEFT JOIN latest l USING (workspace_id, model, id)
     WHERE e.state <> 'gone' AND (l.version IS NULL OR e.version >= l.version)
     GROUP BY workspace_id, model, id HAVING count(*) > 1) twice),
  (SELECT count(*) FROM engram.search_blocks b
   WHERE b.entries <> CASE b.level WHEN 3 THEN get_byte(b.block, 2) + 256 * get_byte(b.block, 3)
                                   ELSE (SELECT count(*) FROM engram_internal.block_entries(b.block)) END),
  (SELECT count(*) FROM entries WHERE state <> 'plain' AND level <> 0)";

/// The blocks say what the tables say, and reindex() finds nothing to repair.
fn consistent(admin: &mut Client, when: &str) {
    let row = admin.query_one(WRONG, &[]).unwrap();
    let wrong: Vec<i64> = (0..4).map(|i| row.get(i)).collect();
    assert_eq!(
        wrong, [0; 4],
        "{when}: missing or left over, twice, miscounted, misplaced"
    );
    let repaired: i64 = admin
        .query_one("SELECT engram.reindex()", &[])
        .unwrap()
        .get(0);
    assert_eq!(repaired, 0, "{when}: entries that were wrong");
}

fn pack(admin: &mut Client, workspace: Uuid, model: &str, replacing: bool) {
    admin
        .query(
            "SELECT engram_internal.pack($1, $2, $3, 0)",
            &[&workspace, &model, &replacing],
        )
        .unwrap();
}

/// Makes blocks of all segments.
fn unseal(admin: &mut Client) {
    admin
        .batch_execute(
            "WITH old AS (DELETE FROM engram.search_blocks WHERE level > 2 RETURNING workspace_id, model, cluster, block)
             INSERT INTO engram.search_blocks (workspace_id, model, level, block_id, entries, block)
             SELECT s.workspace_id, s.model, CASE WHEN b.is_full THEN 2 ELSE 1 END, engram_internal.uuid_v7(), b.entries, b.block
             FROM (SELECT o.workspace_id, o.model, array_agg(e.entry ORDER BY e.id) AS entries
                   FROM (SELECT workspace_id, model, cluster, array_agg(block) AS blocks FROM old GROUP BY 1, 2, 3) o,
                        engram_internal.segment_entries(o.blocks) e
                   GROUP BY 1, 2) s, engram_internal.merge_blocks(s.entries, false) b",
        )
        .unwrap();
}

/// Segments far smaller than those of real life.
fn seal(admin: &mut Client, workspace: Uuid, model: &str) {
    admin
        .query(
            "SELECT engram_internal.seal($1, $2, 8, 120)",
            &[&workspace, &model],
        )
        .unwrap();
}

fn pack_all(admin: &mut Client, workspace: Uuid) {
    for model in ["", "tiny"] {
        pack(admin, workspace, model, true);
        pack(admin, workspace, model, false);
        seal(admin, workspace, model);
    }
}

fn workspace(client: &mut Client) -> Uuid {
    client
        .query_one("SELECT engram.current_user_id()", &[])
        .unwrap()
        .get(0)
}

fn add(client: &mut Client, call: &str) -> Uuid {
    client
        .query_one(&format!("SELECT engram.add({call})"), &[])
        .unwrap_or_else(|e| panic!("{call}: {e:?}"))
        .get(0)
}

/// Contents found, best first.
fn found(client: &mut Client, call: &str) -> Vec<String> {
    client
        .query(&format!("SELECT content FROM engram.search({call})"), &[])
        .unwrap_or_else(|e| panic!("{call}: {e:?}"))
        .iter()
        .map(|row| row.get(0))
        .collect()
}

/// Contents found, best first, with the parts of their scores.
fn explained(client: &mut Client, call: &str) -> Vec<(String, Value)> {
    client
        .query(
            &format!("SELECT content, explain FROM engram.search({call}, explain => true)"),
            &[],
        )
        .unwrap_or_else(|e| panic!("{call}: {e:?}"))
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect()
}

const DIMS: usize = 24;

/// One change by an ordinary role, within whatever transaction it has open.
fn change(random: &mut Random, client: &mut Client) {
    let rows = client
        .query(
            "SELECT id, deleted_at IS NOT NULL FROM engram.memories ORDER BY id",
            &[],
        )
        .unwrap();
    let all: Vec<Uuid> = rows.iter().map(|r| r.get(0)).collect();
    let (forgotten, alive): (Vec<_>, Vec<_>) = rows.iter().partition(|r| r.get::<_, bool>(1));
    let alive: Vec<Uuid> = alive.iter().map(|r| r.get(0)).collect();
    let forgotten: Vec<Uuid> = forgotten.iter().map(|r| r.get(0)).collect();
    let vector = random.vector(DIMS);
    let session = if random.chance(30) {
        format!(", session_id => 's{}'", random.below(5))
    } else {
        String::new()
    };
    let sql = match random.below(100) {
        _ if alive.len() < 5 => format!(
            "SELECT engram.add('{}', embedding => '{vector}')",
            random.content()
        ),
        0..25 => {
            let embedding = if random.chance(50) {
                format!(", embedding => '{vector}'")
            } else {
                String::new()
            };
            format!(
                "SELECT engram.add('{}'{embedding}{session})",
                random.content()
            )
        }
        25..32 => {
            let items: Vec<Value> = (0..1 + random.below(60))
                .map(|_| {
                    let mut item = json!({"content": random.content()});
                    if random.chance(70) {
                        item["embedding"] = serde_json::from_str(&random.vector(DIMS)).unwrap();
                    }
                    item
                })
                .collect();
            format!(
                "SELECT count(*) FROM engram.add_many('{}') WHERE status = 'added'",
                Value::from(items)
            )
        }
        32..45 => format!(
            "SELECT engram.update('{}', content => '{}')",
            random.pick(&alive),
            random.content()
        ),
        45..50 => format!(
            "SELECT engram.update('{}', content => '{}', embedding => '{vector}')",
            random.pick(&alive),
            random.content()
        ),
        50..67 => format!(
            "SELECT engram.set_embedding('{}', '{vector}')",
            random.pick(&alive)
        ),
        67..75 => format!("SELECT engram.forget('{}')", random.pick(&alive)),
        75..81 if !forgotten.is_empty() => {
            format!("SELECT engram.restore('{}')", random.pick(&forgotten))
        }
        75..81 => format!(
            "SELECT engram.update('{}', session_id => 's9')",
            random.pick(&alive)
        ),
        81..89 => format!(
            "SELECT engram.erase(ARRAY{:?}::uuid[])",
            texts(&random.some(&all, 5))
        )
        .replace('"', "'"),
        89..95 => format!(
            "DELETE FROM engram.embeddings WHERE memory_id = ANY (ARRAY{:?}::uuid[])",
            texts(&random.some(&all, 6))
        )
        .replace('"', "'"),
        _ => format!(
            "UPDATE engram.embeddings SET embedding = '{vector}' WHERE memory_id = ANY (ARRAY{:?}::uuid[])",
            texts(&random.some(&all, 6))
        )
        .replace('"', "'"),
    };
    client
        .batch_execute(&sql)
        .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
}

fn texts(ids: &[Uuid]) -> Vec<String> {
    ids.iter().map(Uuid::to_string).collect()
}

/// Search gives what brute force over the tables gives.
fn searched_as_by_brute_force(random: &mut Random, client: &mut Client, when: &str) {
    for _ in 0..3 {
        let query = random.vector(DIMS);
        let ids: Vec<Uuid> = client
            .query(
                &format!("SELECT id FROM engram.search(NULL, '{query}', 10)"),
                &[],
            )
            .unwrap()
            .iter()
            .map(|r| r.get(0))
            .collect();
        let exact: Vec<(Uuid, f64)> = client
            .query(
                &format!(
                    "SELECT m.id, 1 - (e.embedding OPERATOR(public.<=>) '{query}') FROM engram.embeddings e
                     JOIN engram.memories m ON m.workspace_id = e.workspace_id AND m.id = e.memory_id
                     WHERE m.deleted_at IS NULL ORDER BY 2 DESC"
                ),
                &[],
            )
            .unwrap()
            .iter()
            .map(|r| (r.get(0), r.get(1)))
            .collect();
        assert!(exact.len() > 20, "{when}: too few vectors to tell");
        let by_id: HashMap<Uuid, f64> = exact.iter().copied().collect();
        // What points away from the query is no evidence.
        let wanted: Vec<f64> = exact
            .iter()
            .map(|(_, s)| *s)
            .filter(|s| *s > 1e-6)
            .take(10)
            .collect();
        assert!(ids.len() >= wanted.len(), "{when}");
        let distinct = ids.iter().collect::<BTreeSet<_>>().len();
        assert_eq!(distinct, ids.len(), "{when}");
        // Similarities, not ids: of two that are equal either may be first.
        for (id, best) in ids.iter().zip(&wanted) {
            let got = by_id.get(id);
            assert!(
                got.is_some_and(|s| (s - best).abs() < 1e-6),
                "{when}: {id} is {got:?} like the query, wanted {best}"
            );
        }
    }
    for _ in 0..3 {
        let query: Vec<&str> = (0..1 + random.below(4))
            .map(|_| random.pick(&WORDS))
            .collect();
        let query = query.join(" ");
        let wanted: HashMap<Uuid, f64> = client
            .query(REFERENCE, &[&query])
            .unwrap()
            .iter()
            .map(|r| (r.get(0), r.get(1)))
            .collect();
        let rows: Vec<(Uuid, f64)> = client
            .query(
                "SELECT id, (explain->'lanes'->'words'->>'bm25')::float8
                 FROM engram.search($1, match_count => 1000, explain => true)",
                &[&query],
            )
            .unwrap()
            .iter()
            .map(|r| (r.get(0), r.get(1)))
            .collect();
        // Neighbours in the session come along without a match of their own.
        let got: HashMap<Uuid, f64> = rows.iter().copied().filter(|(_, s)| *s > 0.0).collect();
        assert_eq!(got.len(), wanted.len().min(1000), "{when}: {query}");
        let mut best: Vec<f64> = wanted.values().copied().collect();
        best.sort_by(|a, b| b.total_cmp(a));
        for ((_, score), best) in rows.iter().zip(&best) {
            assert!((score - best).abs() < 1e-9, "{when}: {query}: ranked");
        }
        for (id, score) in &got {
            let wanted = wanted.get(id);
            assert!(
                wanted.is_some_and(|w| (score - w).abs() < 1e-9),
                "{when}: {query}: {id} has {score}, not {wanted:?}"
            );
        }
    }
}

#[test]
fn search_equals_brute_force_whatever_happens() {
    let cluster = Cluster::start(Installation::current(), "blocks");
    cluster.create_database("c");
    let connect = |user: &str| {
        let mut client = cluster.connect("c", "app");
        client
            .execute("SELECT set_config('engram.user_id', $1, false)", &[&user])
            .unwrap();
        // What packs by chance packs by the same chance every run.
        client.execute("SELECT setseed(0.25)", &[]).unwrap();
        client
    };
    let mut admin = cluster.connect("c", "postgres");
    admin
        .batch_execute(&format!(
            "CREATE ROLE app LOGIN; CREATE EXTENSION engram CASCADE; SELECT engram.setup('{{\"grant_to\": [\"app\"]}}');
             SELECT engram.set_embedding_model('tiny', {DIMS}); {PURE}"
        ))
        .unwrap();
    const USERS: [&str; 3] = ["ann", "bob", "eve"];
    let mut clients: Vec<Client> = USERS.iter().map(|u| connect(u)).collect();
    let workspaces: Vec<Uuid> = clients.iter_mut().map(workspace).collect();
    let mut random = Random(2024);
    let mut changes = 0;
    let mut crashed = false;
    for checkpoint in 1..=7 {
        while changes < checkpoint * 350 {
            let n = random.below(USERS.len());
            let client = &mut clients[n];
            match random.below(10) {
                0..4 => {
                    change(&mut random, client);
                    changes += 1;
                }
                4..8 => {
                    let isolation = random.pick(&[
                        "READ COMMITTED",
                        "READ COMMITTED",
                        "REPEATABLE READ",
                        "SERIALIZABLE",
                    ]);
                    client
                        .batch_execute(&format!("BEGIN ISOLATION LEVEL {isolation}"))
                        .unwrap();
                    for _ in 0..1 + random.below(4) {
                        change(&mut random, client);
                        changes += 1;
                        if random.chance(30) {
                            client.batch_execute("SAVEPOINT s").unwrap();
                            for _ in 0..1 + random.below(3) {
                                change(&mut random, client);
                                changes += 1;
                            }
                            let end =
                                random.pick(&["ROLLBACK TO SAVEPOINT s", "RELEASE SAVEPOINT s"]);
                            client.batch_execute(end).unwrap();
                        }
                    }
                    let end = random.pick(&["COMMIT", "COMMIT", "COMMIT", "ROLLBACK"]);
                    client.batch_execute(end).unwrap();
                }
                8 => {
                    admin.batch_execute("BEGIN").unwrap();
                    for _ in 0..1 + random.below(4) {
                        let model = random.pick(&["", "tiny"]);
                        match random.below(4) {
                            0 => seal(&mut admin, workspaces[n], model),
                            kind => pack(&mut admin, workspaces[n], model, kind > 1),
                        }
                    }
                    let end = random.pick(&["COMMIT", "COMMIT", "ROLLBACK"]);
                    admin.batch_execute(end).unwrap();
                }
                _ if random.chance(20) => {
                    admin
                        .batch_execute(
                            "VACUUM engram.search_blocks, engram.memories, engram.embeddings",
                        )
                        .unwrap();
                }
                _ => {}
            }
        }
        if checkpoint == 4 {
            // Work of everybody that nobody has been told is done, packing included; then the end.
            for client in &mut clients {
                client.batch_execute("BEGIN").unwrap();
                for _ in 0..10 {
                    change(&mut random, client);
                }
            }
            admin.batch_execute("CHECKPOINT; BEGIN").unwrap();
            for workspace in &workspaces {
                pack_all(&mut admin, *workspace);
            }
            for client in &mut clients[1..] {
                change(&mut random, client);
            }
            cluster.kill();
            cluster.up();
            admin = cluster.connect("c", "postgres");
            clients = USERS.iter().map(|u| connect(u)).collect();
            crashed = true;
        }
        let when = format!("seed 2024, {changes} changes, crashed: {crashed}");
        consistent(&mut admin, &when);
        for client in &mut clients {
            searched_as_by_brute_force(&mut random, client, &when);
        }
    }
    // Packing leaves nothing that waits, and of what was erased not a byte.
    for workspace in &workspaces {
        pack_all(&mut admin, *workspace);
    }
    consistent(&mut admin, "packed");
    let row = admin
        .query_one(
            "SELECT count(*) FILTER (WHERE level = 0), count(*) FILTER (WHERE level = 3),
               (SELECT count(*) FROM engram.search_blocks b
                WHERE level <> 3 AND engram_internal.block_holds(b.block, ARRAY(SELECT x.id FROM engram.erasures x))),
               count(*) FILTER (WHERE level = 3 AND model = '')
             FROM engram.search_blocks",
            &[],
        )
        .unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(2)), (0, 0));
    assert!(
        row.get::<_, i64>(1) > 8 && row.get::<_, i64>(3) > 3,
        "enough for segments"
    );
    for client in &mut clients {
        searched_as_by_brute_force(&mut random, client, "packed");
    }
}

/// Everything that searches of words find, with its score, and the order of what searches of vectors find.
fn told(client: &mut Client, random: &mut Random) -> (Vec<String>, Vec<String>) {
    let words = [
        "'tea'",
        "'green tea in the garden', match_count => 100",
        "'piano -zebra'",
        "'\"green tea\" school'",
        "'Alice meeting', explain => true",
        "'bread', filter => '{\"session_id\": \"s3\"}'",
    ];
    let scored = words
        .iter()
        .flat_map(|call| {
            let sql = format!(
                "SELECT s.id::text || ' ' || s.score::text || coalesce(s.explain::text, '') FROM engram.search({call}) s"
            );
            let rows = client.query(&sql, &[]).unwrap();
            assert!(!rows.is_empty(), "{call}");
            rows.iter().map(|r| r.get::<_, String>(0)).collect::<Vec<_>>()
        })
        .collect();
    let near = (0..5)
        .flat_map(|_| {
            let vector = random.vector(DIMS);
            let sql = format!(
                "SELECT s.id::text FROM engram.search(NULL, '{vector}', match_count => 8) s"
            );
            let rows = client.query(&sql, &[]).unwrap();
            rows.iter()
                .map(|r| r.get::<_, String>(0))
                .collect::<Vec<_>>()
        })
        .collect();
    (scored, near)
}

/// Both found the same words with the same scores; and vectors, whose neighbours in a session lend them
/// what is only nearly known, all but one of eight.
fn same(one: &(Vec<String>, Vec<String>), other: &(Vec<String>, Vec<String>), when: &str) {
    assert_eq!(one.0.len(), other.0.len(), "{when}");
    for (nth, (one, other)) in one.0.iter().zip(&other.0).enumerate() {
        assert_eq!(one, other, "{when}: row {nth}");
    }
    for (one, other) in one.1.chunks(8).zip(other.1.chunks(8)) {
        let both = one.iter().filter(|id| other.contains(id)).count();
        assert!(both >= 7, "{when}: {one:?} {other:?}");
    }
}

#[test]
fn sealed_or_not_the_same_is_found_and_nothing_of_what_was_erased_stays() {
    let db = Database::new();
    let (mut ann, mut admin) = (db.user("ann"), db.admin());
    let ws = workspace(&mut ann);
    admin
        .batch_execute(&format!(
            "SELECT engram.set_embedding_model('wide', {DIMS}, make_default => true); {}",
            PURE.replace("lend_weight = 0", "lend_weight = 0.4")
                .replace("context_weight = 0", "context_weight = 0.2")
                .replace("speaker_weight = 0", "speaker_weight = 0.1"),
        ))
        .unwrap();
    let mut random = Random(7);
    let items: Vec<Value> = (0..700)
        .map(|i| {
            let vector: Value = serde_json::from_str(&random.vector(DIMS)).unwrap();
            let speaker = if i % 3 == 0 { "Alice" } else { "Bob" };
            let day = 1 + i % 28;
            let mut item = json!({"content": format!("{} green tea{}", random.content(), i % 40), "embedding": vector,
                "speaker": speaker, "occurred_at": format!("2026-01-{day:02}")});
            if i % 4 > 0 {
                item["session_id"] = json!(format!("s{}", i % 11));
            }
            if i % 10 == 0 {
                item["content"] = json!(format!("{} green tea school meeting bread", random.content()));
            }
            item
        })
        .collect();
    for part in items.chunks(100) {
        ann.execute("SELECT engram.add_many($1)", &[&Value::from(part)])
            .unwrap();
    }
    let ids: Vec<Uuid> = ann
        .query("SELECT id FROM engram.memories ORDER BY id", &[])
        .unwrap()
        .iter()
        .map(|r| r.get(0))
        .collect();
    let model = "wide";
    let change = |ann: &mut Client, random: &mut Random, from: usize| {
        for id in &ids[from..from + 20] {
            ann.batch_execute(&format!(
                "SELECT engram.update('{id}', content => '{} tea', embedding => '{}')",
                random.content(),
                random.vector(DIMS)
            ))
            .unwrap();
        }
        for id in &ids[from + 20..from + 40] {
            ann.batch_execute(&format!("SELECT engram.forget('{id}')"))
                .unwrap();
        }
        // Another text, and no vector for it any more.
        for id in &ids[from + 40..from + 45] {
            ann.batch_execute(&format!(
                "SELECT engram.update('{id}', content => 'tea in {id}')"
            ))
            .unwrap();
        }
    };
    let heads = |admin: &mut Client| -> i64 {
        admin
            .query_one(
                "SELECT count(*) FROM engram.search_blocks WHERE level = 3",
                &[],
            )
            .unwrap()
            .get(0)
    };
    change(&mut ann, &mut random, 0);
    let moment: String = ann
        .query_one("SELECT clock_timestamp()::text", &[])
        .unwrap()
        .get(0);
    let past = |ann: &mut Client| {
        let call = format!("'green tea school', match_count => 50, as_of => '{moment}'");
        explained(ann, &call)
    };
    unseal(&mut admin);
    assert_eq!(heads(&mut admin), 0);
    let before = told(&mut ann, &mut Random(1));
    let then = past(&mut ann);
    for model in ["", model] {
        for replacing in [true, false] {
            pack(&mut admin, ws, model, replacing);
        }
        for _ in 0..4 {
            seal(&mut admin, ws, model);
        }
    }
    let sealed = heads(&mut admin);
    assert!(sealed > 4, "{sealed} segments");
    same(&told(&mut ann, &mut Random(1)), &before, "sealed");
    assert_eq!(past(&mut ann), then);
    consistent(&mut admin, "sealed");

    // Where rows are, segments only remember: they move, and others come to their places.
    let wrong = "SELECT count(*) FROM engram.search_blocks h
                 WHERE h.level = 3 AND NOT engram_internal.knows_places(h.workspace_id, h.model, h.cluster, h.block)";
    let wrong = |admin: &mut Client| admin.query_one(wrong, &[]).unwrap().get::<_, i64>(0);
    assert_eq!(wrong(&mut admin), 0);
    for table in ["memories", "embeddings", "memory_state", "search_blocks"] {
        admin
            .batch_execute(&format!("VACUUM FULL engram.{table}"))
            .unwrap();
    }
    same(&told(&mut ann, &mut Random(1)), &before, "moved");
    // Every row has one version now, so that the index leads where it is.
    let elsewhere = "
        SELECT count(*) FROM engram.search_blocks h
        CROSS JOIN LATERAL engram_internal.entry_places(h.workspace_id, h.model, h.cluster) p
        CROSS JOIN LATERAL (SELECT row_number() OVER (ORDER BY p.block_id, g) - 1 AS nth,
                                   encode(substring(p.block FROM 9 + 16 * g FOR 16), 'hex')::uuid AS id
                            FROM engram.search_blocks p, generate_series(0, (length(p.block) - 8) / 16 - 1) g
                            WHERE (p.workspace_id, p.model, p.level, p.cluster) = (h.workspace_id, h.model, 4, h.cluster)
                              AND p.block_id < '02000000-0000-0000-0000-000000000000') e
        LEFT JOIN engram.memories m ON h.model = '' AND m.workspace_id = h.workspace_id AND m.id = e.id
        LEFT JOIN engram.memory_state s ON s.workspace_id = m.workspace_id AND s.memory_id = m.id
        LEFT JOIN engram.embeddings v ON v.workspace_id = h.workspace_id AND v.memory_id = e.id AND v.model = h.model
        WHERE h.level = 3 AND (
          substring(p.places FROM (6 * e.nth + 1)::integer FOR 6) IS DISTINCT FROM coalesce(tidsend(m.ctid), tidsend(v.ctid), '\\x000000000000')
          OR h.model = '' AND substring(p.states FROM (6 * e.nth + 1)::integer FOR 6) IS DISTINCT FROM coalesce(tidsend(s.ctid), '\\x000000000000'))";
    let elsewhere: i64 = admin.query_one(elsewhere, &[]).unwrap().get(0);
    assert_eq!(elsewhere, 0, "places of entries");
    admin
        .batch_execute(
            "UPDATE engram.search_blocks SET block = substring(block FOR 8) || (
               SELECT string_agg(substring(block FROM 9 + 6 * g FOR 6), '' ORDER BY g DESC)
               FROM generate_series(0, (length(block) - 8) / 6 - 1) g)
             WHERE level = 4 AND block_id BETWEEN '0b000000-0000-0000-0000-000000000000' AND '0d000000-0000-0000-0000-000000000000';
             UPDATE engram.search_blocks h SET block = engram_internal.segment_head(h.block, p.keys, p.places)
             FROM (SELECT x.model, x.cluster, array_agg(x.block_id ORDER BY x.block_id) AS keys,
                          string_agg(tidsend(x.ctid), '' ORDER BY x.block_id DESC) AS places
                   FROM engram.search_blocks x WHERE x.level = 4 GROUP BY x.model, x.cluster) p
             WHERE h.level = 3 AND h.model = p.model AND h.cluster = p.cluster",
        )
        .unwrap();
    assert_eq!(wrong(&mut admin), sealed, "each is elsewhere");
    same(&told(&mut ann, &mut Random(1)), &before, "scrambled");
    admin.batch_execute("SELECT engram.reindex()").unwrap();
    assert_eq!(wrong(&mut admin), 0, "put right");
    same(&told(&mut ann, &mut Random(1)), &before, "put right");
    // Rows that have been updated in their page are where the index says, not where their last version is; and
    // rows that move by themselves are noticed.
    let pages = |ann: &mut Client| {
        let sql = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM engram.search('tea', match_count => 300)";
        ann.query(sql, &[]).unwrap();
        let plan: Value = ann.query_one(sql, &[]).unwrap().get(0);
        plan[0]["Plan"]["Shared Hit Blocks"].as_i64().unwrap()
    };
    let few = pages(&mut ann);
    admin
        .batch_execute(
            "SET session_replication_role = replica;
             UPDATE engram.memory_state SET access_count = access_count WHERE get_byte(uuid_send(memory_id), 15) < 99;
             UPDATE engram.memories SET pinned = pinned WHERE get_byte(uuid_send(id), 15) < 99;
             RESET session_replication_role",
        )
        .unwrap();
    for table in ["memories", "embeddings", "memory_state"] {
        admin
            .batch_execute(&format!("VACUUM FULL engram.{table}"))
            .unwrap();
    }
    admin
        .batch_execute("UPDATE engram.memory_state SET access_count = access_count")
        .unwrap();
    let many = pages(&mut ann);
    let placed: Vec<i32> = ["", model]
        .map(|model| {
            // A few segments at a time.
            let mut all = 0;
            for _ in 0..100 {
                let few: i32 = admin
                    .query_one("SELECT engram_internal.place($1, $2)", &[&ws, &model])
                    .unwrap()
                    .get(0);
                all += few;
                if few == 0 {
                    break;
                }
            }
            all
        })
        .to_vec();
    assert!(placed[0] > 0, "{placed:?}");
    let again = pages(&mut ann);
    assert!(
        again < many / 2 && again < few * 2,
        "{few} pages, {many} after rows moved, {again} once that is known"
    );
    same(&told(&mut ann, &mut Random(1)), &before, "moved and found");

    // Newer versions win whether they are packed or not.
    change(&mut ann, &mut random, 100);
    let fresh = told(&mut ann, &mut Random(2));
    for model in ["", model] {
        pack(&mut admin, ws, model, true);
    }
    same(&told(&mut ann, &mut Random(2)), &fresh, "packed");
    assert_eq!(past(&mut ann), then);
    // What was forgotten, and the vectors of old texts, go as well when the memory is erased.
    let erased: Vec<Uuid> = ids[100..160].to_vec();
    ann.execute("SELECT engram.erase($1)", &[&erased]).unwrap();
    let left: i64 = admin
        .query_one(
            "SELECT count(*) FROM engram.search_blocks WHERE level <> 3 AND engram_internal.block_holds(block, $1)",
            &[&erased],
        )
        .unwrap()
        .get(0);
    assert_eq!(left, 0, "of what was erased not a byte");
    consistent(&mut admin, "erased");
    let last = told(&mut ann, &mut Random(3));
    assert!(heads(&mut admin) > 2);
    admin
        .batch_execute("DELETE FROM engram.search_blocks; SELECT engram.reindex()")
        .unwrap();
    unseal(&mut admin);
    assert_eq!(heads(&mut admin), 0);
    same(&told(&mut ann, &mut Random(3)), &last, "made anew");

    // A policy that hides half of a workspace hides it from the statistics, sealed or not.
    admin
        .batch_execute("CREATE POLICY half ON engram.memories AS RESTRICTIVE FOR SELECT USING (speaker = 'Alice')")
        .unwrap();
    let loose = told(&mut ann, &mut Random(4));
    for model in ["", model] {
        seal(&mut admin, ws, model);
    }
    assert!(heads(&mut admin) > 1);
    same(&told(&mut ann, &mut Random(4)), &loose, "half hidden");
}

#[test]
fn a_large_workspace_is_sealed_by_those_who_store_in_it() {
    let db = Database::new();
    let (mut ann, mut admin) = (db.user("ann"), db.admin());
    for part in 0..6 {
        ann.execute(
            "SELECT engram.add_many(jsonb_agg(jsonb_build_object('content', 'tea number ' || i)))
             FROM generate_series($1::int * 1000, $1::int * 1000 + 999) i",
            &[&part],
        )
        .unwrap();
    }
    let row = admin
        .query_one(
            "SELECT coalesce(sum(entries) FILTER (WHERE level = 3), 0)::bigint, coalesce(sum(entries) FILTER (WHERE level < 3), 0)::bigint,
               coalesce(max(entries) FILTER (WHERE level = 3), 0) FROM engram.search_blocks",
            &[],
        )
        .unwrap();
    let (sealed, loose, largest): (i64, i64, i32) = (row.get(0), row.get(1), row.get(2));
    assert_eq!(sealed + loose, 6000);
    assert!(
        sealed > 4000 && largest > 1000 && largest <= 4096,
        "{sealed} {largest}"
    );
    assert_eq!(found(&mut ann, "'4711'"), ["tea number 4711"]);
    // Maintenance does what is left.
    admin.batch_execute("CALL engram.maintain()").unwrap();
    consistent(&mut admin, "maintained");
    let loose: i64 = admin
        .query_one(
            "SELECT sum(entries) FROM engram.search_blocks WHERE level < 3",
            &[],
        )
        .unwrap()
        .get(0);
    assert!(loose < 1500, "{loose}");
}

/// Where there are many, ids and places are read one by one.
#[test]
fn the_nearest_of_many_are_those_of_a_plain_query() {
    let db = Database::new();
    let (mut ann, mut admin) = (db.user("ann"), db.admin());
    admin
        .batch_execute("SELECT engram.set_embedding_model('small', 24, make_default => true)")
        .unwrap();
    for part in 0..17 {
        ann.execute(
            "SELECT engram.add_many(jsonb_agg(jsonb_build_object('content', 'cup ' || i, 'embedding',
               (SELECT jsonb_agg(sin(i * (0.37 + 0.11 * d) + d)) FROM generate_series(1, 24) d))))
             FROM generate_series($1::int * 1000, $1::int * 1000 + 999) i",
            &[&part],
        )
        .unwrap();
    }
    admin.batch_execute("CALL engram.maintain()").unwrap();
    ann.execute(
        "SELECT engram.erase(array_agg(id)) FROM engram.list(match_count => 50)",
        &[],
    )
    .unwrap();
    for nth in 0..3u8 {
        let query = &format!(
            "{:?}",
            (1..=24)
                .map(|d| f32::sin(f32::from(nth) + 1.7 * d as f32))
                .collect::<Vec<_>>()
        );
        let nearest: Vec<Uuid> = ids(
            &mut admin,
            "SELECT memory_id FROM engram.embeddings ORDER BY embedding OPERATOR(extensions.<=>) $1::text::extensions.vector LIMIT 20",
            query,
        );
        let found = ids(
            &mut ann,
            "SELECT id FROM engram.search(query_embedding => $1::text::extensions.vector, match_count => 20)",
            query,
        );
        let missing = nearest.iter().filter(|id| !found.contains(id)).count();
        assert_eq!(missing, 0, "{query}");
        let cup = 4000 * (usize::from(nth) + 1) + 7;
        let row = ann
            .query_one(
                "SELECT content FROM engram.search($1, query_embedding => $2::text::extensions.vector, match_count => 1)",
                &[&format!("cup {cup}"), query],
            )
            .unwrap();
        assert_eq!(row.get::<_, String>(0), format!("cup {cup}"));
    }
}

fn ids(client: &mut Client, sql: &str, query: &str) -> Vec<Uuid> {
    let rows = client.query(sql, &[&query]).unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[test]
fn packers_adders_and_erasers_at_once_lose_and_duplicate_nothing() {
    let db = Database::new();
    let ws = workspace(&mut db.user("ann"));
    db.user("ann")
        .execute(
            "SELECT engram.add_many(jsonb_agg(jsonb_build_object('content', 'tea start' || i, 'embedding',
               jsonb_build_array(sin(i), cos(i), 0.3)))) FROM generate_series(1, 150) i",
            &[],
        )
        .unwrap();
    let barrier = Barrier::new(6);
    let worked: Vec<BTreeMap<&str, usize>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..6u64)
            .map(|n| {
                let (db, barrier) = (&db, &barrier);
                scope.spawn(move || {
                    let mut random = Random(n);
                    let mut client = if n < 5 { db.user("ann") } else { db.admin() };
                    let mut worked: BTreeMap<&str, usize> = BTreeMap::new();
                    barrier.wait();
                    let begun = Instant::now();
                    while begun.elapsed() < Duration::from_secs(3) {
                        if n == 5 {
                            let model = random.pick(&["", "tiny"]);
                            let replacing = random.chance(60);
                            if random.chance(20) {
                                seal(&mut client, ws, model);
                            }
                            let result = client.query(
                                "SELECT engram_internal.pack($1, $2, $3, 0)",
                                &[&ws, &model, &replacing],
                            );
                            result.unwrap_or_else(|e| panic!("pack: {e:?}"));
                            *worked.entry("pack").or_default() += 1;
                            continue;
                        }
                        let ids: Vec<Uuid> = client
                            .query("SELECT id FROM engram.memories ORDER BY id", &[])
                            .unwrap()
                            .iter()
                            .map(|r| r.get(0))
                            .collect();
                        let id = random.pick(&ids);
                        let vector = random.vector(3);
                        let text = format!("tea {}", random.content());
                        let what = random.below(10);
                        let (name, sql) = match (n, what) {
                            (0, 0..2) => (
                                "add_many",
                                format!("SELECT engram.add_many('[{{\"content\": \"{text}\"}}, {{\"content\": \"{text} too\", \"embedding\": {vector}}}]')"),
                            ),
                            (0, _) | (_, 0) => ("add", format!("SELECT engram.add('{text}', embedding => '{vector}')")),
                            (1, 1..4) => ("forget", format!("SELECT engram.forget('{id}')")),
                            (1, 4..7) => ("restore", format!("SELECT engram.restore('{id}')")),
                            (2 | 3, 1..5) => ("update", format!("SELECT engram.update('{id}', content => '{text}')")),
                            (2, 5..7) => ("delete", format!("DELETE FROM engram.embeddings WHERE memory_id = '{id}'")),
                            (4, 1..4) => (
                                "erase",
                                format!("SELECT engram.erase(ARRAY{:?}::uuid[])", texts(&random.some(&ids, 4))).replace('"', "'"),
                            ),
                            (4, _) => ("update", format!("SELECT engram.update('{id}', content => '{text}', embedding => '{vector}')")),
                            _ => ("set_embedding", format!("SELECT engram.set_embedding('{id}', '{vector}')")),
                        };
                        match client.batch_execute(&sql) {
                            Ok(()) => *worked.entry(name).or_default() += 1,
                            // Forgotten or erased by another one meanwhile.
                            Err(e) => assert_eq!(e.as_db_error().unwrap().code().code(), "PT404", "{sql}: {e:?}"),
                        }
                    }
                    worked
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let mut total: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, n) in worked.iter().flatten() {
        *total.entry(name).or_default() += n;
    }
    for name in [
        "add",
        "add_many",
        "update",
        "set_embedding",
        "forget",
        "restore",
        "delete",
        "erase",
        "pack",
    ] {
        assert!(total.get(name).is_some_and(|n| *n > 3), "{name}: {total:?}");
    }
    let mut admin = db.admin();
    consistent(&mut admin, &format!("{total:?}"));
    let mut ann = db.user("ann");
    for packed in [false, true] {
        let wanted: BTreeMap<Uuid, String> = ann
            .query(
                "SELECT id, content FROM engram.memories WHERE deleted_at IS NULL",
                &[],
            )
            .unwrap()
            .iter()
            .map(|r| (r.get(0), r.get(1)))
            .collect();
        assert!(wanted.len() < 1000, "more than one search returns");
        let got: Vec<Uuid> = ann
            .query(
                "SELECT id FROM engram.search('tea', match_count => 1000)",
                &[],
            )
            .unwrap()
            .iter()
            .map(|r| r.get(0))
            .collect();
        assert_eq!(got.len(), wanted.len(), "packed: {packed}");
        assert_eq!(
            got.iter().collect::<BTreeSet<_>>(),
            wanted.keys().collect::<BTreeSet<_>>()
        );
        for (id, content) in &wanted {
            let unique = content.split(' ').find(|w| w.starts_with("unique"));
            let Some(unique) = unique else { continue };
            let rows = ann
                .query(
                    "SELECT id FROM engram.search($1) WHERE content LIKE '%' || $1 || '%'",
                    &[&unique],
                )
                .unwrap();
            assert!(
                rows.iter().filter(|r| r.get::<_, Uuid>(0) == *id).count() == 1,
                "{content}"
            );
        }
        pack_all(&mut admin, ws);
        consistent(&mut admin, "packed");
    }
}

#[test]
fn writers_never_wait_for_packers() {
    let db = Database::new();
    let (mut packer, mut admin) = (db.admin(), db.admin());
    let mut ann = db.user("ann");
    let ws = workspace(&mut ann);
    ann.batch_execute("SET lock_timeout = '200ms'").unwrap();
    for (round, end) in ["COMMIT", "ROLLBACK", "COMMIT"].iter().enumerate() {
        let ids: Vec<Uuid> = (0..12)
            .map(|i| {
                add(
                    &mut ann,
                    &format!("'tea round{round} number{i}', embedding => '[1,{i},{round}]'"),
                )
            })
            .collect();
        // Something to pack of every kind.
        ann.batch_execute(&format!(
            "SELECT engram.update('{}', content => 'tea round{round} changed');
             SELECT engram.set_embedding('{}', '[0,1,0]'); SELECT engram.forget('{}')",
            ids[0], ids[1], ids[2]
        ))
        .unwrap();
        packer.batch_execute("BEGIN").unwrap();
        pack_all(&mut packer, ws);
        let held: bool = admin
            .query_one(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE classid = 'engram_internal'::regnamespace AND granted
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))",
                &[],
            )
            .unwrap()
            .get(0);
        assert!(held, "the packing lock is what this is about");
        for _ in 0..2 {
            // In a transaction and each by itself; of packed memories and of waiting ones.
            let content = format!("tea round{round} {}", Uuid::now_v7());
            ann.batch_execute(&format!(
                "BEGIN; SELECT engram.add('{content}', embedding => '[0,0,1]');
                 SELECT engram.update('{}', content => '{content} again', embedding => '[0,1,1]');
                 SELECT engram.set_embedding('{}', '[1,1,1]'); COMMIT",
                ids[0], ids[1]
            ))
            .unwrap();
            ann.batch_execute(&format!(
                "SELECT engram.set_embedding('{}', '[1,1,2]')",
                ids[3]
            ))
            .unwrap();
            ann.batch_execute(&format!(
                "SELECT engram.update('{}', content => '{content} four')",
                ids[4]
            ))
            .unwrap();
            ann.batch_execute(&format!(
                "DELETE FROM engram.embeddings WHERE memory_id IN ('{}', '{}')",
                ids[1], ids[5]
            ))
            .unwrap();
        }
        ann.batch_execute(&format!(
            "SELECT engram.restore('{}'); SELECT engram.erase(ARRAY['{}', '{}', '{}']::uuid[]);
             SELECT engram.add_many('[{{\"content\": \"tea bulk{round}\", \"embedding\": [3,2,1]}}, {{\"content\": \"tea more{round}\"}}]')",
            ids[2], ids[0], ids[6], ids[7]
        ))
        .unwrap();
        let alive: i64 = ann
            .query_one("SELECT count(*) FROM engram.memories", &[])
            .unwrap()
            .get(0);
        assert_eq!(
            found(&mut ann, "'tea', match_count => 1000").len() as i64,
            alive,
            "while packed"
        );
        packer.batch_execute(end).unwrap();
        assert_eq!(
            found(&mut ann, "'tea', match_count => 1000").len() as i64,
            alive,
            "after {end}"
        );
        consistent(&mut admin, end);
        pack_all(&mut admin, ws);
        consistent(&mut admin, &format!("packed after {end}"));
    }
}

/// A packer reads what waits, and deletes the blocks that hold it. What is committed in between must
/// be seen by both or by neither.
#[test]
fn what_is_committed_while_a_packer_works_is_not_half_packed() {
    for (first, second) in [
        (
            "SELECT engram.update('{A}', content => 'tea changed')",
            "SELECT engram.erase(ARRAY['{A}', '{B}']::uuid[])",
        ),
        (
            "SELECT engram.set_embedding('{A}', '[0,1,0]')",
            "DELETE FROM engram.embeddings WHERE memory_id IN ('{A}', '{B}')",
        ),
        (
            "SELECT engram.set_embedding('{A}', '[0,1,0]')",
            "UPDATE engram.embeddings SET embedding = '[0,0,1]' WHERE memory_id IN ('{A}', '{B}')",
        ),
    ] {
        let db = Database::new();
        let (mut admin, mut locker, mut packer) = (db.admin(), db.admin(), db.admin());
        let mut ann = db.user("ann");
        let ws = workspace(&mut ann);
        let a = add(&mut ann, "'tea one', embedding => '[1,0,0]'");
        let b = add(&mut ann, "'tea two', embedding => '[1,0.1,0]'");
        // At this level nobody packs by chance.
        let with_ids = |sql: &str| {
            let sql = sql
                .replace("{A}", &a.to_string())
                .replace("{B}", &b.to_string());
            format!("BEGIN ISOLATION LEVEL REPEATABLE READ; {sql}")
        };
        ann.batch_execute(&with_ids(first)).unwrap();
        ann.batch_execute("COMMIT").unwrap();
        ann.batch_execute(&with_ids(second)).unwrap();
        // The packer reads what waits, then queues for the right to write behind the locker, who
        // queues behind Ann.
        let waiting = |admin: &mut Client, n: i64| {
            let begun = Instant::now();
            loop {
                let now: i64 = admin
                    .query_one(
                        "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'engram.search_blocks'::regclass
                           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
                        &[],
                    )
                    .unwrap()
                    .get(0);
                if now == n {
                    return;
                }
                assert!(
                    begun.elapsed() < Duration::from_secs(20),
                    "{now} of {n} wait"
                );
                thread::sleep(Duration::from_millis(5));
            }
        };
        let model = if first.contains("update") { "" } else { "tiny" };
        thread::scope(|scope| {
            let locker = scope.spawn(move || {
                locker.batch_execute("BEGIN; LOCK TABLE engram.search_blocks IN SHARE MODE; COMMIT")
            });
            waiting(&mut admin, 1);
            let packing = scope.spawn(move || pack(&mut packer, ws, model, true));
            waiting(&mut admin, 2);
            ann.batch_execute("COMMIT").unwrap();
            locker.join().unwrap().unwrap();
            packing.join().unwrap();
        });
        consistent(&mut admin, second);
        pack_all(&mut admin, ws);
        consistent(&mut admin, second);
    }
}

/// (id, content, score) of every search in `calls`.
fn views(client: &mut Client, calls: &[&str]) -> Vec<Vec<(Uuid, String, f64)>> {
    calls
        .iter()
        .map(|call| {
            client
                .query(
                    &format!("SELECT id, content, score FROM engram.search({call})"),
                    &[],
                )
                .unwrap()
                .iter()
                .map(|r| (r.get(0), r.get(1), r.get(2)))
                .collect()
        })
        .collect()
}

#[test]
fn a_snapshot_keeps_its_view_while_blocks_are_packed() {
    let db = Database::new();
    let mut admin = db.admin();
    let mut ann = db.user("ann");
    let ws = workspace(&mut ann);
    let calls = [
        "'tea', match_count => 100",
        "NULL, '[1,0.5,0.2]', 100",
        "'tea piano', '[0,1,0]', 100",
    ];
    let mut random = Random(7);
    for i in 0..60 {
        let text = random.content();
        add(
            &mut ann,
            &format!("'tea {i} {text}', embedding => '{}'", random.vector(3)),
        );
    }
    pack_all(&mut admin, ws);
    /// What one search gave.
    type Rows = Vec<(Uuid, String, f64)>;
    let mut readers: Vec<(Client, Vec<Rows>)> = Vec::new();
    for round in 0..4 {
        for isolation in ["REPEATABLE READ", "SERIALIZABLE, READ ONLY"] {
            let mut reader = db.user("ann");
            reader
                .batch_execute(&format!("BEGIN ISOLATION LEVEL {isolation}"))
                .unwrap();
            let view = views(&mut reader, &calls);
            assert!(view.iter().all(|rows| rows.len() > 15), "{round}");
            readers.push((reader, view));
        }
        for step in 0..8 {
            let ids: Vec<Uuid> = ann
                .query("SELECT id FROM engram.memories ORDER BY id", &[])
                .unwrap()
                .iter()
                .map(|r| r.get(0))
                .collect();
            let vector = random.vector(3);
            let sql = match step % 4 {
                0 => format!(
                    "SELECT engram.add('tea new {}', embedding => '{vector}')",
                    random.content()
                ),
                1 => format!(
                    "SELECT engram.update('{}', content => 'tea other {}', embedding => '{vector}')",
                    random.pick(&ids),
                    random.content()
                ),
                2 => format!(
                    "SELECT engram.set_embedding('{}', '{vector}')",
                    random.pick(&ids)
                ),
                _ => format!(
                    "SELECT engram.erase(ARRAY['{}']::uuid[])",
                    random.pick(&ids)
                ),
            };
            ann.batch_execute(&sql).unwrap();
            if step % 3 == 2 {
                pack_all(&mut admin, ws);
            }
        }
        admin.batch_execute("VACUUM engram.search_blocks").unwrap();
        for (reader, view) in &mut readers {
            assert_eq!(&views(reader, &calls), view, "round {round}");
        }
    }
    for (reader, _) in &mut readers {
        reader.batch_execute("COMMIT").unwrap();
        assert_eq!(views(reader, &calls), views(&mut ann, &calls));
    }
    // What such transactions write is found, by themselves and afterwards.
    for (n, (isolation, sax, xylo)) in [
        ("REPEATABLE READ", "saxophone", "xylophone"),
        ("SERIALIZABLE", "trombone", "glockenspiel"),
    ]
    .into_iter()
    .enumerate()
    {
        let victim: Uuid = ann
            .query_one("SELECT id FROM engram.memories LIMIT 1", &[])
            .unwrap()
            .get(0);
        ann.batch_execute(&format!(
            "BEGIN ISOLATION LEVEL {isolation}; SELECT engram.add('{xylo} tea', embedding => '[-1,-0.2,{n}]');
             SELECT engram.update('{victim}', content => '{sax}', embedding => '[-1,-0.4,{n}]')"
        ))
        .unwrap();
        for ended in [false, true] {
            assert_eq!(
                found(&mut ann, &format!("'{xylo}'")),
                [format!("{xylo} tea")]
            );
            assert_eq!(found(&mut ann, &format!("'{sax}'")), [sax.to_string()]);
            // Length counts as well, so that the nearest need not be the first.
            let near: String = ann
                .query_one(
                    &format!(
                        "SELECT content FROM engram.search(NULL, '[-1,-0.2,{n}]', 100, explain => true)
                         ORDER BY (explain->'lanes'->'vector'->>'similarity')::float8 DESC LIMIT 1"
                    ),
                    &[],
                )
                .unwrap()
                .get(0);
            assert_eq!(near, format!("{xylo} tea"));
            if !ended {
                ann.batch_execute("COMMIT").unwrap();
                pack_all(&mut admin, ws);
            }
        }
        ann.batch_execute(&format!(
            "BEGIN ISOLATION LEVEL {isolation}; SELECT engram.erase(ARRAY['{victim}']::uuid[]); COMMIT"
        ))
        .unwrap();
        assert!(found(&mut ann, &format!("'{sax}'")).is_empty());
    }
    consistent(&mut admin, "in the end");
}

/// Commits `other` as soon as another session waits for it.
fn commit_when_waited_for(admin: &mut Client, other: &mut Client) {
    let begun = Instant::now();
    loop {
        let waits: bool = admin
            .query_one(
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')",
                &[],
            )
            .unwrap()
            .get(0);
        if waits {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "nobody waits");
        thread::sleep(Duration::from_millis(5));
    }
    other.batch_execute("COMMIT").unwrap();
}

/// A transaction that does not see that others have deleted a vector stores a new one.
#[test]
fn a_vector_stored_while_others_delete_it_is_found() {
    for isolation in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        for waiting in [false, true] {
            let db = Database::new();
            let mut admin = db.admin();
            let (mut ann, mut other) = (db.user("ann"), db.user("ann"));
            let ws = workspace(&mut ann);
            let id = add(&mut ann, "'tea', embedding => '[1,0,0]'");
            ann.batch_execute(&format!("SELECT engram.set_embedding('{id}', '[1,0.1,0]')"))
                .unwrap();
            ann.batch_execute(&format!(
                "BEGIN ISOLATION LEVEL {isolation}; SELECT count(*) FROM engram.memories"
            ))
            .unwrap();
            other
                .batch_execute("BEGIN; DELETE FROM engram.embeddings")
                .unwrap();
            let stored = if waiting {
                thread::scope(|scope| {
                    let ann = &mut ann;
                    let storing = scope.spawn(move || {
                        ann.batch_execute(&format!(
                            "SELECT engram.set_embedding('{id}', '[0,1,0]'); COMMIT"
                        ))
                    });
                    commit_when_waited_for(&mut admin, &mut other);
                    storing.join().unwrap()
                })
            } else {
                other.batch_execute("COMMIT").unwrap();
                ann.batch_execute(&format!(
                    "SELECT engram.set_embedding('{id}', '[0,1,0]'); COMMIT"
                ))
            };
            // Either it is told to try again, or it is stored and found.
            let when = format!("{isolation}, waiting: {waiting}");
            let near = match stored {
                Ok(()) => vec!["tea"],
                Err(e) => {
                    assert_eq!(e.as_db_error().unwrap().code().code(), "40001", "{when}");
                    assert_ne!(isolation, "READ COMMITTED", "{when}");
                    ann.batch_execute("ROLLBACK").unwrap();
                    vec![]
                }
            };
            assert_eq!(found(&mut other, "NULL, '[0,1,0]'"), near, "{when}");
            consistent(&mut admin, &when);
            // Later changes still win.
            for (query, sql) in [
                (
                    "[0,0,1]",
                    format!("SELECT engram.set_embedding('{id}', '[0,0,1]')"),
                ),
                (
                    "[1,0,0]",
                    format!(
                        "DELETE FROM engram.embeddings; SELECT engram.set_embedding('{id}', '[1,0,0]')"
                    ),
                ),
            ] {
                other.batch_execute(&sql).unwrap();
                assert_eq!(
                    found(&mut ann, &format!("NULL, '{query}', 1")),
                    ["tea"],
                    "{when}"
                );
                consistent(&mut admin, &when);
            }
            pack_all(&mut admin, ws);
            assert_eq!(found(&mut ann, "NULL, '[1,0,0]'"), ["tea"], "{when}");
            assert!(found(&mut ann, "NULL, '[0,1,0]'").is_empty(), "{when}");
            consistent(&mut admin, &when);
        }
    }
}

/// A transaction that does not see a tombstone does not bring back what was erased.
#[test]
fn an_erased_id_stays_erased_whoever_does_not_see_it() {
    for isolation in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        for call in [
            "SELECT engram.add('tea again', id => '{ID}')",
            "INSERT INTO engram.memories (id, content) VALUES ('{ID}', 'tea again')",
        ] {
            for waiting in [false, true] {
                let db = Database::new();
                let mut admin = db.admin();
                let (mut ann, mut other) = (db.user("ann"), db.user("ann"));
                ann.batch_execute(&format!(
                    "BEGIN ISOLATION LEVEL {isolation}; SELECT count(*) FROM engram.memories"
                ))
                .unwrap();
                let id = add(&mut other, "'tea'");
                other
                    .batch_execute(&format!("BEGIN; SELECT engram.erase(ARRAY['{id}'::uuid])"))
                    .unwrap();
                let call = format!("{}; COMMIT", call.replace("{ID}", &id.to_string()));
                let stored = if waiting {
                    thread::scope(|scope| {
                        let (ann, call) = (&mut ann, &call);
                        let storing = scope.spawn(move || ann.batch_execute(call));
                        commit_when_waited_for(&mut admin, &mut other);
                        storing.join().unwrap()
                    })
                } else {
                    other.batch_execute("COMMIT").unwrap();
                    ann.batch_execute(&call)
                };
                let when = format!("{isolation}, waiting: {waiting}: {call}");
                assert!(stored.is_err(), "{when}: stored in spite of the tombstone");
                let e = failure(stored);
                assert!(
                    ["23505", "40001"].contains(&e.code.as_str()),
                    "{when}: {e:?}"
                );
                consistent(&mut admin, &when);
                // The tombstone is still there, and other ids can be stored.
                ann.batch_execute("ROLLBACK").unwrap();
                failure(ann.batch_execute(&call));
                ann.batch_execute("ROLLBACK").unwrap();
                ann.batch_execute(&format!(
                    "BEGIN ISOLATION LEVEL {isolation}; SELECT engram.add('tea too', id => '{}'); COMMIT",
                    Uuid::now_v7()
                ))
                .unwrap();
                assert_eq!(found(&mut other, "'tea'"), ["tea too"], "{when}");
                let tombstones: i64 = admin
                    .query_one("SELECT count(*) FROM engram.erasures", &[])
                    .unwrap()
                    .get(0);
                assert_eq!(tombstones, 1, "{when}");
            }
        }
    }
}

#[test]
fn tables_that_are_emptied_take_their_blocks_along() {
    let db = Database::new();
    let mut admin = db.admin();
    let mut ann = db.user("ann");
    let fill = "SELECT engram.add_many(jsonb_agg(jsonb_build_object('content', 'tea ' || i, 'embedding', '[1,0,0]'::jsonb)))
                FROM generate_series(1, 300) i";
    ann.batch_execute(fill).unwrap();
    admin.batch_execute("TRUNCATE engram.embeddings").unwrap();
    assert!(found(&mut ann, "NULL, '[1,0,0]', 300").is_empty());
    assert_eq!(found(&mut ann, "'tea', '[1,0,0]', 300").len(), 300);
    consistent(&mut admin, "without embeddings");
    ann.batch_execute("SELECT engram.set_embedding(id, '[0,1,0]') FROM engram.memories")
        .unwrap();
    assert_eq!(found(&mut ann, "NULL, '[0,1,0]', 1000").len(), 300);
    consistent(&mut admin, "embedded again");
    admin
        .batch_execute("TRUNCATE engram.memories CASCADE")
        .unwrap();
    assert!(found(&mut ann, "'tea', '[0,1,0]'").is_empty());
    consistent(&mut admin, "without memories");
    ann.batch_execute(fill).unwrap();
    assert_eq!(found(&mut ann, "'tea', '[1,0,0]', 1000").len(), 300);
    consistent(&mut admin, "filled again");
}

/// However many memories are over, they take no place among the candidates of what is asked.
#[test]
fn what_is_over_crowds_nothing_out() {
    let db = Database::new();
    let mut admin = db.admin();
    let mut ann = db.user("ann");
    let wanted = "some tea, and a long story about the weather and the garden";
    add(&mut ann, &format!("'{wanted}', embedding => '[0.1,1,0]'"));
    ann.batch_execute(
        "SELECT engram.add_many(jsonb_agg(jsonb_build_object('content', 'tea tea tea ' || i, 'embedding', '[1,0,0]'::jsonb)))
         FROM generate_series(1, 300) i",
    )
    .unwrap();
    for over in [
        "expires_at = now() - interval '1 hour'",
        "expires_at = NULL, superseded_by = (SELECT id FROM engram.memories WHERE content LIKE 'some tea%')",
        "superseded_by = NULL, deleted_at = now()",
    ] {
        admin
            .batch_execute(&format!(
                "UPDATE engram.memories SET {over} WHERE content LIKE 'tea tea%'"
            ))
            .unwrap();
        for call in [
            "'tea'",
            "NULL, '[1,0,0]'",
            "'tea', '[1,0,0]'",
            "",
            "'tea', min_score => 0",
            "'tea', filter => '{\"type\": \"factual\"}'",
        ] {
            assert_eq!(found(&mut ann, call), [wanted], "{over}: {call}");
        }
    }
}

/// The contribution `part` of a score, 0 when it is not named.
fn part(explained: &[(String, Value)], content: &str, name: &str) -> f64 {
    let (_, parts) = explained
        .iter()
        .find(|(c, _)| c == content)
        .unwrap_or_else(|| panic!("{content} is not among {explained:?}"));
    parts[name].as_f64().unwrap_or(0.0)
}

fn place(explained: &[(String, Value)], content: &str) -> usize {
    explained
        .iter()
        .position(|(c, _)| c == content)
        .unwrap_or_else(|| panic!("{content} is not among {explained:?}"))
}

/// What happened on the day or in the month that a question names is found without a word of it.
#[test]
fn what_happened_on_the_day_that_is_named_is_found() {
    let db = Database::new();
    let mut admin = db.admin();
    let mut ann = db.user("ann");
    let mut bob = db.user("bob");
    let ws = workspace(&mut ann);
    for (day, what) in [
        ("2024-03-11", "lentil soup with Carl"),
        ("2024-03-12 23:30", "the roof was mended"),
        ("2024-03-12 08:00", "a letter from Dora"),
        ("2024-03-20", "the bees swarmed"),
        ("2023-03-12", "a flat tyre"),
    ] {
        let tags = if what.contains("Dora") {
            ", tags => ARRAY['post']"
        } else {
            ""
        };
        add(
            &mut ann,
            &format!("'{what}', occurred_at => '{day}+00'{tags}"),
        );
    }
    add(&mut bob, "'a secret of bob', occurred_at => '2024-03-12'");
    let at = ", at => '2024-03-13 10:00+00'";
    let day = ["a letter from Dora", "the roof was mended"];
    for _ in 0..2 {
        for (asked, expected) in [
            ("'So what happened yesterday?'", &day[..]),
            ("'So what happened last month?'", &[]),
            ("'So what happened last year?'", &[]),
            (
                "'So what happened yesterday?', filter => '{\"tags\": [\"post\"]}'",
                &day[..1],
            ),
            (
                "'So what happened yesterday?', types => ARRAY['opinion']",
                &[],
            ),
            ("'\"flat tyre\" yesterday'", &["a flat tyre"][..]),
        ] {
            let call = format!("{asked}{at}");
            let mut got = found(&mut ann, &call);
            got.sort();
            assert_eq!(got, expected, "{call}");
        }
        let mut first = found(&mut ann, "'So what happened on 12 March 2024?'");
        first.truncate(2);
        first.sort();
        assert_eq!(first, day);
        for (content, explain) in explained(&mut ann, &format!("'So what happened yesterday?'{at}"))
        {
            let part = |name: &str| explain[name].as_f64().unwrap_or(0.0);
            let sum = ["date", "length", "importance", "activation", "neighbours"]
                .map(part)
                .iter()
                .sum::<f64>();
            assert!(
                (sum - part("score")).abs() < 1e-9 && part("date") == 0.2,
                "{content}: {explain}"
            );
        }
        pack_all(&mut admin, ws);
    }
    // What a policy of one's own hides is not found by its day either.
    admin
        .batch_execute(
            "CREATE POLICY hidden ON engram.memories AS RESTRICTIVE FOR SELECT USING (content <> 'the roof was mended')",
        )
        .unwrap();
    assert_eq!(
        found(&mut ann, &format!("'So what happened yesterday?'{at}")),
        day[..1]
    );
    // Where it is said how much evidence a result needs, a date is none.
    admin
        .execute(
            "INSERT INTO engram.settings (workspace_id, min_coverage) VALUES ($1, 0.1)",
            &[&ws],
        )
        .unwrap();
    assert_eq!(
        found(&mut ann, &format!("'So what happened yesterday?'{at}")),
        [""; 0]
    );
}

#[test]
fn neighbours_speakers_and_dates_decide() {
    let db = Database::new();
    let mut admin = db.admin();
    let mut ann = db.user("ann");
    let mut bob = db.user("bob");
    let ws = workspace(&mut ann);
    let (asked, answer, unrelated) = (
        "what is the name of your new puppy",
        "he is called Biscuit",
        "we bought new shoes for the children at the market today",
    );
    for (content, more) in [
        ("good morning", ", session_id => 's1'"),
        (asked, ", session_id => 's1', tags => ARRAY['keep']"),
        (answer, ", session_id => 's1'"),
        (unrelated, ", session_id => 's2', tags => ARRAY['keep']"),
        ("new curtains in the kitchen", ""),
        ("new paint on the door", ""),
        ("the train was late", ", session_id => 's3'"),
    ] {
        add(&mut ann, &format!("'{content}'{more}"));
    }
    let question = "'the name of the new puppy'";
    let before = explained(&mut ann, question);
    assert_eq!(before[0].0, asked);
    assert!(
        place(&before, answer) < place(&before, unrelated),
        "{before:?}"
    );
    assert!(part(&before, answer, "neighbours") > 0.0);
    assert_eq!(part(&before, unrelated, "neighbours"), 0.0);
    assert!(
        before.iter().all(|(c, _)| c != "the train was late"),
        "of another session"
    );

    // A filter holds for neighbours too.
    for filter in [
        "filter => '{\"tags\": [\"keep\"]}'",
        "filter => '{\"content\": {\"contains\": \"new\"}}'",
    ] {
        let contents = found(&mut ann, &format!("{question}, {filter}"));
        assert_eq!(contents[0], asked);
        assert!(!contents.iter().any(|c| c == answer), "{filter}");
    }
    assert_eq!(
        found(&mut ann, &format!("{question}, types => ARRAY['opinion']")),
        [""; 0]
    );
    assert!(
        !found(&mut ann, "'\"new puppy\" name'").contains(&answer.to_owned()),
        "a phrase binds neighbours"
    );

    // Sessions of the same name in other workspaces are others.
    add(
        &mut bob,
        "'the name of the new puppy is a secret of bob', session_id => 's1'",
    );
    for _ in 0..3 {
        add(
            &mut bob,
            &format!("'noise {}', session_id => 's1'", Uuid::now_v7()),
        );
    }
    assert_eq!(explained(&mut ann, question), before);
    pack_all(&mut admin, ws);
    assert_eq!(
        explained(&mut ann, question),
        before,
        "however it is packed"
    );

    // Forgetting what stands between makes neighbours; erased turns lend nothing.
    let id: Uuid = ann
        .query_one(
            "SELECT id FROM engram.memories WHERE content = $1",
            &[&asked],
        )
        .unwrap()
        .get(0);
    ann.execute("SELECT engram.forget($1)", &[&id]).unwrap();
    let without = explained(&mut ann, question);
    assert!(without.iter().all(|(c, _)| c != answer), "{without:?}");
    ann.execute("SELECT engram.restore($1)", &[&id]).unwrap();

    // Speakers: the one whom the question names, but not one of two.
    add(&mut ann, "'I like to swim in lakes', speaker => 'Melanie'");
    add(
        &mut ann,
        "'I like to swim in rivers', speaker => 'Caroline'",
    );
    let one = explained(&mut ann, "'Where does Melanie like to swim?'");
    assert_eq!(one[0].0, "I like to swim in lakes");
    assert!((part(&one, "I like to swim in lakes", "speaker") - 0.1).abs() < 1e-12);
    assert_eq!(part(&one, "I like to swim in rivers", "speaker"), 0.0);
    let two = explained(&mut ann, "'Where do Melanie and Caroline like to swim?'");
    assert!(
        two.iter().all(|(_, parts)| parts.get("speaker").is_none()),
        "{two:?}"
    );

    // Dates: when it happened, not when it was stored.
    for (day, what) in [
        ("2023-05-10", "a trip to the coast"),
        ("2023-06-05", "a trip to the hills"),
        ("2023-08-10", "a trip to the woods"),
        ("2022-05-10", "a trip to the caves"),
    ] {
        add(
            &mut ann,
            &format!("'{what}', occurred_at => '{day} 12:00+00'"),
        );
    }
    add(&mut ann, "'a trip to the dunes'");
    let dated = explained(&mut ann, "'Which trip did we make in May 2023?'");
    assert_eq!(dated[0].0, "a trip to the coast", "{dated:?}");
    for (what, wanted) in [
        ("a trip to the coast", 0.2),
        ("a trip to the hills", 0.1),
        ("a trip to the woods", 0.0),
        ("a trip to the caves", 0.0),
        ("a trip to the dunes", 0.0),
    ] {
        assert!(
            (part(&dated, what, "date") - wanted).abs() < 1e-12,
            "{what}"
        );
    }
    let undated = explained(&mut ann, "'Which trip did we make?'");
    assert!(undated.iter().all(|(_, parts)| parts.get("date").is_none()));
    // What is said of the day on which it is asked counts from the moment that is asked for.
    for (call, meant, wanted) in [
        (
            "last month?', at => '2023-06-20'",
            "a trip to the coast",
            0.2,
        ),
        (
            "two weeks ago?', at => '2023-06-20'",
            "a trip to the hills",
            0.2,
        ),
        (
            "yesterday?', at => '2023-08-11 09:00+00'",
            "a trip to the woods",
            0.2,
        ),
        (
            "last year?', at => '2023-08-11'",
            "a trip to the caves",
            0.1,
        ),
        ("today?'", "a trip to the dunes", 0.2),
    ] {
        let dated = explained(&mut ann, &format!("'Which trip did we make {call}"));
        for (content, _) in dated.iter().filter(|(c, _)| c.starts_with("a trip")) {
            let date = part(&dated, content, "date");
            let right = if content == meant {
                (date - wanted).abs() < 1e-12
            } else {
                date < wanted
            };
            assert!(right, "{call}: {dated:?}");
        }
    }
    // A day that is corrected counts.
    ann.execute(
        "SELECT engram.update(id, occurred_at => '2023-05-31 23:59:59+00') FROM engram.memories WHERE content = 'a trip to the woods'",
        &[],
    )
    .unwrap();
    let corrected = explained(&mut ann, "'Which trip did we make in May 2023?'");
    assert!((part(&corrected, "a trip to the woods", "date") - 0.2).abs() < 1e-12);

    // The same content twice is shown once.
    for _ in 0..3 {
        add(
            &mut ann,
            "'Violin lesson on Monday', on_duplicate => 'allow', embedding => '[1,0,0]'",
        );
    }
    add(
        &mut ann,
        "'violin  lesson on MONDAY', on_duplicate => 'allow', embedding => '[1,0,0]'",
    );
    for call in [
        "'violin'",
        "'violin', match_count => 3",
        "NULL, '[1,0,0]'",
        "'violin', '[1,0,0]'",
    ] {
        let contents = found(&mut ann, call);
        let shown = contents
            .iter()
            .filter(|c| c.to_lowercase().contains("violin"))
            .count();
        assert_eq!(shown, 1, "{call}: {contents:?}");
    }

    // Every part has a switch, in the workspace alone.
    add(&mut ann, "'Is the puppy well?', importance => 0.9");
    add(&mut ann, "'Is the puppy well?'");
    admin
        .execute(
            "INSERT INTO engram.settings (workspace_id) VALUES ($1)",
            &[&ws],
        )
        .unwrap();
    for (weight, name, question) in [
        (
            "speaker_weight",
            "speaker",
            "'Where does Melanie like to swim?'",
        ),
        (
            "date_weight",
            "date",
            "'Which trip did we make in May 2023?'",
        ),
        ("question_weight", "question", "'puppy'"),
        ("length_weight", "length", "'puppy'"),
        ("activation_weight", "activation", "'puppy'"),
        ("importance_weight", "importance", "'puppy'"),
        ("lend_weight", "neighbours", question),
    ] {
        let has =
            |rows: &[(String, Value)]| rows.iter().any(|(_, parts)| parts.get(name).is_some());
        let on = explained(&mut ann, question);
        assert!(has(&on), "{name}: {on:?}");
        admin
            .execute(
                &format!("UPDATE engram.settings SET {weight} = 0 WHERE workspace_id = $1"),
                &[&ws],
            )
            .unwrap();
        let off = explained(&mut ann, question);
        assert!(!off.is_empty() && !has(&off), "{weight}: {off:?}");
        if weight == "lend_weight" {
            // The neighbour's words still count for something, until that is switched off as well.
            admin
                .execute(
                    "UPDATE engram.settings SET context_weight = 0 WHERE workspace_id = $1",
                    &[&ws],
                )
                .unwrap();
            let alone = explained(&mut ann, question);
            assert!(
                place(&alone, answer) > place(&alone, unrelated),
                "{alone:?}"
            );
        }
        admin
            .execute(
                &format!("UPDATE engram.settings SET {weight} = NULL WHERE workspace_id = $1"),
                &[&ws],
            )
            .unwrap();
    }
    assert!(
        explained(&mut bob, question)
            .iter()
            .any(|(_, parts)| parts.get("neighbours").is_some()),
        "bob's settings are his own"
    );
    consistent(&mut admin, "in the end");
}

/// The encoding of a client changes what it sends and is sent, not what is stored of a word or looked for.
#[test]
fn clients_of_another_encoding_store_and_find_the_same_words() {
    let db = Database::new();
    let (mut ann, mut admin) = (db.user("ann"), db.admin());
    ann.batch_execute("SET client_encoding = 'LATIN1'").unwrap();
    // The tag lets words be found the long way; the second text is not even possible in the client's encoding.
    let id: Uuid = ann
        .query_one(
            r"SELECT engram.add(U&'M\00FCller <b> wohnt in K\00F6ln') FROM engram.add(U&'\65E5\672C\8A9E getName')",
            &[],
        )
        .unwrap()
        .get(0);
    let found = |client: &mut Client, query: &str| -> bool {
        let sql = format!("SELECT id FROM engram.search({query}, match_count => 1)");
        let rows = client.query(&sql, &[]).unwrap();
        rows.iter().any(|row| row.get::<_, Uuid>(0) == id)
    };
    let queries = [
        r"U&'M\00FCller'",
        r#"U&'"M\00FCller wohnt"'"#,
        r"U&'K\00F6ln'",
        r"U&'K\00F6lm'",
    ];
    for query in queries {
        assert!(found(&mut ann, query), "{query}");
        assert!(found(&mut db.user("ann"), query), "{query}");
    }
    ann.execute(
        r"SELECT engram.update($1, content => U&'G\00FCnther wohnt in Z\00FCrich')",
        &[&id],
    )
    .unwrap();
    assert!(found(&mut ann, r"U&'Z\00FCrich'"));
    assert!(found(&mut db.user("ann"), r"U&'G\00FCnther'"));
    let wrong: i64 = admin
        .query_one("SELECT engram.reindex()", &[])
        .unwrap()
        .get(0);
    assert_eq!(wrong, 0);
    // For a client of the database's own encoding it is what PostgreSQL sends.
    let other: i64 = admin
        .query_one(
            r"SELECT count(*) FROM (VALUES (''::tsvector), ('a'), ('a:1A,2 bcd:7C efghij'), (strip('x:1 yy:2')),
                 (to_tsvector('english', repeat('tea and 日本語 milk3 ', 400))), (to_tsvector('simple', (SELECT string_agg('w' || i, ' ') FROM generate_series(1, 3000) i)))) v (t)
              WHERE engram_internal.lexemes(t) IS DISTINCT FROM tsvectorsend(t)",
            &[],
        )
        .unwrap()
        .get(0);
    assert_eq!(other, 0);
}

#[test]
fn a_text_search_configuration_that_was_dropped_is_told() {
    let db = Database::new();
    let mut admin = db.admin();
    let mut ann = db.user("ann");
    let ws = workspace(&mut ann);
    admin
        .batch_execute(
            "CREATE SCHEMA own;
             GRANT USAGE ON SCHEMA own TO PUBLIC;
             CREATE TEXT SEARCH CONFIGURATION own.\"Mine\" (COPY = pg_catalog.english)",
        )
        .unwrap();
    let configure = |admin: &mut Client, config: &str| {
        let changes = json!({ "text_config": config });
        admin
            .execute("SELECT engram.configure($1, $2)", &[&changes, &ws])
            .unwrap();
    };
    configure(&mut admin, "own.\"Mine\"");
    let id = add(&mut ann, "'a memory to be forgotten'");
    let alerts = |admin: &mut Client| -> Vec<String> {
        let health: Value = admin
            .query_one("SELECT engram.health()", &[])
            .unwrap()
            .get(0);
        (health["alerts"].as_array().unwrap().iter())
            .filter(|alert| alert["code"] == "text_config_missing")
            .map(|alert| alert["hint"].as_str().unwrap().to_owned())
            .collect()
    };
    assert!(alerts(&mut admin).is_empty());
    admin
        .batch_execute("DROP TEXT SEARCH CONFIGURATION own.\"Mine\"")
        .unwrap();
    assert!(
        failure(ann.execute("SELECT engram.add('more')", &[]))
            .message
            .contains("Mine")
    );
    // What is wrong is told, not a setting that is right.
    let wrong = failure(ann.execute(r#"SELECT engram.configure('{"decay": 0.4}')"#, &[]));
    assert!(
        wrong.message.contains("Mine") && !wrong.message.contains("0.4"),
        "{wrong:?}"
    );
    assert!(wrong.hint.contains(&ws.to_string()), "{wrong:?}");
    let told = alerts(&mut admin);
    assert_eq!(told.len(), 1);
    assert!(told[0].contains(&ws.to_string()));
    // What is to be forgotten is, whatever its words are.
    let forgotten: bool = ann
        .query_one("SELECT engram.forget($1)", &[&id])
        .unwrap()
        .get(0);
    assert!(forgotten);
    configure(&mut admin, "pg_catalog.english");
    assert!(alerts(&mut admin).is_empty());
    admin.execute("SELECT engram.reindex($1)", &[&ws]).unwrap();
    ann.execute(r#"SELECT engram.configure('{"decay": 0.4}')"#, &[])
        .unwrap();
    assert!(found(&mut ann, "'memory'").is_empty());
    ann.execute("SELECT engram.restore($1)", &[&id]).unwrap();
    assert_eq!(found(&mut ann, "'memory'").len(), 1);
}

#[test]
fn identifiers_accents_and_scripts_without_spaces_are_found() {
    let db = Database::new();
    let mut admin = db.admin();
    // Only what the words themselves say.
    admin
        .batch_execute("UPDATE engram.settings SET fuzzy_weight = 0")
        .unwrap();
    let mut ann = db.user("ann");
    let ws = workspace(&mut ann);
    let contents = [
        "call getUserName before rendering",
        "parse_http_request fails",
        "un café au lait",
        "the cafe by the sea",
        "東京都へ行く",
        "서울에서 만나요",
        "invoice of 2023-05-08 was paid",
        "Häuser am See",
        "resumed the talk",
    ];
    for content in contents {
        add(&mut ann, &format!("'{content}'"));
    }
    let finds = |ann: &mut Client, query: &str| -> BTreeSet<String> {
        found(ann, &format!("'{query}'")).into_iter().collect()
    };
    let set =
        |wanted: &[&str]| -> BTreeSet<String> { wanted.iter().map(|w| (*w).to_owned()).collect() };
    for packed in [false, true] {
        for (query, wanted) in [
            ("user name", &[contents[0]][..]),
            ("getUserName", &[contents[0]]),
            ("http", &[contents[1]]),
            ("parse_http_request", &[contents[1]]),
            ("café", &[contents[2], contents[3]]),
            ("cafe", &[contents[2], contents[3]]),
            ("CAFÉ", &[contents[2], contents[3]]),
            ("cafe\u{301}", &[contents[2], contents[3]]),
            ("東京", &[contents[4]]),
            ("京都", &[contents[4]]),
            ("大阪", &[]),
            ("서울", &[contents[5]]),
            ("8 May 2023", &[contents[6]]),
            ("2023-05-08", &[contents[6]]),
            ("invoice May", &[contents[6]]),
            ("9 June 2022", &[]),
            ("Haus", &[]),
        ] {
            assert_eq!(
                finds(&mut ann, query),
                set(wanted),
                "{query}, packed: {packed}"
            );
        }
        // Required and excluded words follow the same rules.
        assert_eq!(finds(&mut ann, "cafe -lait"), set(&[contents[3]]));
        pack_all(&mut admin, ws);
    }

    // Another language, for one workspace.
    for (config, query, wanted) in [
        ("pg_catalog.german", "Haus", &[contents[7]][..]),
        ("pg_catalog.german", "Hauses", &[contents[7]]),
        ("pg_catalog.simple", "Haus", &[]),
        ("pg_catalog.simple", "haüser", &[contents[7]]),
        ("pg_catalog.simple", "the", &[contents[3], contents[8]]),
        ("pg_catalog.simple", "resume", &[]),
        ("pg_catalog.english", "resume", &[contents[8]]),
        ("pg_catalog.english", "the", &[]),
    ] {
        admin
            .execute(
                "INSERT INTO engram.settings (workspace_id, text_config) VALUES ($1, $2)
                 ON CONFLICT (workspace_id) DO UPDATE SET text_config = excluded.text_config",
                &[&ws, &config],
            )
            .unwrap();
        admin.execute("SELECT engram.reindex($1)", &[&ws]).unwrap();
        assert_eq!(finds(&mut ann, query), set(wanted), "{config}: {query}");
        consistent(&mut admin, config);
        // What is stored and changed from now on follows.
        if config.ends_with("german") && query == "Haus" {
            let id = add(&mut ann, "'Bäume im Garten'");
            assert_eq!(finds(&mut ann, "Baum"), set(&["Bäume im Garten"]));
            ann.execute(
                "SELECT engram.update($1, content => 'Hunde im Garten')",
                &[&id],
            )
            .unwrap();
            assert_eq!(finds(&mut ann, "Hund"), set(&["Hunde im Garten"]));
            ann.execute("SELECT engram.erase(ARRAY[$1::uuid])", &[&id])
                .unwrap();
            let mut bob = db.user("bob");
            add(&mut bob, "'Häuser'");
            assert!(found(&mut bob, "'Haus'").is_empty(), "bob's is English");
            bob.execute(
                "SELECT engram.erase(filter => '{\"created_at\": {\"exists\": true}}')",
                &[],
            )
            .unwrap();
        }
    }
    for config in ["pg_catalog.klingon", "no such thing", ""] {
        let e = failure(admin.execute("UPDATE engram.settings SET text_config = $1", &[&config]));
        assert!(
            ["42704", "42602", "23514"].contains(&e.code.as_str()),
            "{config}: {e:?}"
        );
    }
    // A number is taken for the oid of one, whether there is one or not.
    for config in ["1970", "0", "-", "pg_catalog.klingon"] {
        let e = failure(admin.execute(
            "SELECT engram.configure(jsonb_build_object('text_config', $1::text), $2)",
            &[&config, &ws],
        ));
        assert!(
            e.code == "22023" && e.message.contains(config) && e.hint.contains("\\dF"),
            "{config}: {e:?}"
        );
    }
    let config: String = admin
        .query_one(
            "SELECT text_config FROM engram.settings WHERE workspace_id = $1",
            &[&ws],
        )
        .unwrap()
        .get(0);
    assert_eq!(config, "pg_catalog.english");
}

/// Ids in what search scans of a workspace, dead or alive, of memories that are not there.
fn erased_left(admin: &mut Client, ws: Uuid, gone: &[Uuid]) -> usize {
    let rows = admin
        .query(
            "SELECT u FROM unnest($2::uuid[]) u WHERE EXISTS (
               SELECT FROM engram.search_blocks b WHERE b.workspace_id = $1 AND position(uuid_send(u) IN b.block) > 0)",
            &[&ws, &gone],
        )
        .unwrap();
    rows.len()
}

#[test]
fn what_is_erased_where_nothing_packs_goes_with_reindex_or_maintain() {
    for (sealed, by) in [
        (false, "SELECT engram.reindex()"),
        (true, "SELECT engram.reindex()"),
        (true, "CALL engram.maintain()"),
    ] {
        let db = Database::new();
        let (mut admin, mut ann) = (db.admin(), db.user("ann"));
        let ws = workspace(&mut ann);
        let n = if sealed { 1100 } else { 5 };
        ann.execute(
            "SELECT engram.add_many((SELECT jsonb_agg(jsonb_build_object('content', 'number ' || i, 'embedding', jsonb_build_array(i, 1, 1)))
             FROM generate_series(1, $1) i))",
            &[&n],
        )
        .unwrap();
        pack_all(&mut admin, ws);
        let gone: Vec<Uuid> = ann
            .query("SELECT id FROM engram.memories ORDER BY id LIMIT 2", &[])
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        // A vector of an earlier text is dead already.
        ann.execute("SELECT engram.update($1, 'number again')", &[&gone[0]])
            .unwrap();
        pack_all(&mut admin, ws);
        let mut old = ann
            .build_transaction()
            .isolation_level(postgres::IsolationLevel::RepeatableRead)
            .start()
            .unwrap();
        old.execute("SELECT engram.erase($1)", &[&gone]).unwrap();
        old.commit().unwrap();
        assert_eq!(erased_left(&mut admin, ws, &gone), 2, "{by}");
        let changed = admin.simple_query(by).unwrap();
        assert_eq!(
            erased_left(&mut admin, ws, &gone),
            0,
            "{sealed} {by}: {changed:?}"
        );
        consistent(&mut admin, by);
        let wrong: i64 = admin
            .query_one("SELECT engram.reindex()", &[])
            .unwrap()
            .get(0);
        assert_eq!(wrong, 0);
    }
}

#[test]
fn health_tells_what_waits_and_what_cannot_be_read() {
    let db = Database::new();
    let (mut admin, mut ann) = (db.admin(), db.user("ann"));
    let ws = workspace(&mut ann);
    let a = add(&mut ann, "'tea one'");
    add(&mut ann, "'tea two'");
    pack_all(&mut admin, ws);
    let alerts = |admin: &mut Client| -> Vec<String> {
        admin
            .query(
                "SELECT a ->> 'code' FROM jsonb_array_elements(engram.health() -> 'alerts') a WHERE a ->> 'code' IN ('erased_waiting', 'unreadable') ORDER BY 1",
                &[],
            )
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect()
    };
    ann.batch_execute(&format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT engram.erase(ARRAY['{a}']::uuid[]); COMMIT"
    ))
    .unwrap();
    assert!(alerts(&mut admin).is_empty());
    // It has waited for two days, and what it waits to be taken out of cannot be read.
    admin
        .batch_execute(
            "UPDATE engram.search_blocks SET block_id = overlay(block_id::text PLACING '018f3a2e' FROM 1)::uuid WHERE level = 0;
             UPDATE engram.search_blocks SET block = substr(block, 1, 20) WHERE level > 0",
        )
        .unwrap();
    assert_eq!(alerts(&mut admin), ["erased_waiting"]);
    admin.batch_execute("CALL engram.maintain()").unwrap();
    assert_eq!(alerts(&mut admin), ["erased_waiting", "unreadable"]);
    for sql in ["SELECT engram.reindex()", "CALL engram.maintain()"] {
        admin.batch_execute(sql).unwrap();
    }
    assert!(alerts(&mut admin).is_empty());
    assert_eq!(erased_left(&mut admin, ws, &[a]), 0);
    consistent(&mut admin, "reindex");
}
