//! From every released version to this one: the catalog ends as a fresh install has it, and every
//! row, setting and addition of the user's is still there.

use postgres::Client;
use uuid::Uuid;

use crate::cluster::{Database, failure, shared};
use crate::lifecycle::{assert_same, members, snapshot};

/// Every released version: its install script, that script's SHA-256, and a dump of a database that
/// it made. A released script never changes: databases were made with it.
const RELEASED: &[(&str, &str, &str, &str)] = &[
    (
        "0.1.0",
        include_str!("../../sql/engram--0.1.0.sql"),
        "128114655ed8096f31cef29926e46d655ec253e7afae9df459229bf5008ef245",
        include_str!("../released/0.1.0.dump.sql"),
    ),
    (
        "0.1.1",
        include_str!("../../sql/engram--0.1.1.sql"),
        "12962cc7366f8cecb7559936b3e85a509672fa5678269bfa5e7720261ff65ab9",
        include_str!("../released/0.1.1.dump.sql"),
    ),
    (
        "0.2.0",
        include_str!("../../sql/engram--0.2.0.sql"),
        "2349c93de903b6ab54d449b0c6fd0d54f539d673ffb9e96ff18d128676f4b573",
        include_str!("../released/0.2.0.dump.sql"),
    ),
    (
        "0.3.0",
        include_str!("../../sql/engram--0.3.0.sql"),
        "1392176a65fbffccd4b4eb27aa64bdcfbf9486a08fe8b02789f9b2c9849b12e8",
        include_str!("../released/0.3.0.dump.sql"),
    ),
    (
        "0.4.0",
        include_str!("../../sql/engram--0.4.0.sql"),
        "8136e36fd90eef45b23461b1fa140620e54461635861ae0071b8cf150737743c",
        include_str!("../released/0.4.0.dump.sql"),
    ),
    (
        "0.5.0",
        include_str!("../../sql/engram--0.5.0.sql"),
        "0135092310c78ba776933439ec333055d4f5368feeb252cb25f3fd4cc58811fe",
        include_str!("../released/0.5.0.dump.sql"),
    ),
    (
        "0.6.0",
        include_str!("../../sql/engram--0.6.0.sql"),
        "57cafa7d9be885ff110dd71f07db322c7a2555f917a56f7775e4ca2cdcd07b7b",
        include_str!("../released/0.6.0.dump.sql"),
    ),
    (
        "0.7.0",
        include_str!("../../sql/engram--0.7.0.sql"),
        "3cd69df61e461e639041e20956e3217084ea27132965ab53c977ba48a4e525ca",
        include_str!("../released/0.7.0.dump.sql"),
    ),
    (
        "0.8.0",
        include_str!("../../sql/engram--0.8.0.sql"),
        "1f873d0053fbeee90068d45ef07463c3a0301aa91c9387958afa5b3ba562ebd0",
        include_str!("../released/0.8.0.dump.sql"),
    ),
    (
        "0.9.0",
        include_str!("../../sql/engram--0.9.0.sql"),
        "c3d75c8e2c628e0540ebaa0f35dd38021483b56136f1748eb7095805d425472b",
        include_str!("../released/0.9.0.dump.sql"),
    ),
    (
        "0.10.0",
        include_str!("../../sql/engram--0.10.0.sql"),
        "056b5211a7c5c0dabfb21f055003138865fba62f3a244475abd594e0de2693fb",
        include_str!("../released/0.10.0.dump.sql"),
    ),
    (
        "0.11.0",
        include_str!("../../sql/engram--0.11.0.sql"),
        "c670bc9cacea4c01ab6c9e0c1cd2ac812dd9d76635898e6b6ed4b00a3aff4233",
        include_str!("../released/0.11.0.dump.sql"),
    ),
    (
        "0.12.0",
        include_str!("../../sql/engram--0.12.0.sql"),
        "57df75a171d65cd87715879c7a27428804ee14c89c4be3c249015a8008a953c6",
        include_str!("../released/0.12.0.dump.sql"),
    ),
    (
        "0.13.0",
        include_str!("../../sql/engram--0.13.0.sql"),
        "28e002d3e74cc45534525a6d99d1e87338956e657970aa58afab93ef633981b0",
        include_str!("../released/0.13.0.dump.sql"),
    ),
    (
        "0.14.0",
        include_str!("../../sql/engram--0.14.0.sql"),
        "e9d67d08622491846b1a469d2cc7a168b857bbac21e6b1b2ab9123e4ab1ee17a",
        include_str!("../released/0.14.0.dump.sql"),
    ),
];

/// A database as the released version left it, with this version's library.
fn released(version: &str) -> Database {
    let db = Database::empty();
    let (_, _, _, dump) = RELEASED.iter().find(|r| r.0 == version).unwrap();
    let restored = dump.replace(
        "CREATE EXTENSION IF NOT EXISTS engram WITH SCHEMA engram;",
        &format!("CREATE EXTENSION engram WITH SCHEMA engram VERSION '{version}';"),
    );
    assert_ne!(restored, *dump, "the dump creates the extension");
    shared()
        .psql(&db.name, "postgres", &restored)
        .unwrap_or_else(|e| panic!("{e}"));
    db
}

fn text(client: &mut Client, sql: &str) -> String {
    client
        .query(sql, &[])
        .unwrap_or_else(|e| panic!("{sql}: {e:?}"))
        .iter()
        .map(|row| row.get::<_, Option<String>>(0).unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

/// The tables of the user's rows, each with its columns; the partitions of one together. What search scans is made from them and
/// may be made anew.
fn columns(client: &mut Client) -> Vec<(String, Vec<String>)> {
    client
        .query(
            "SELECT c.relname::text, array_agg(a.attname::text)
             FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
             WHERE c.relnamespace = 'engram'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
               AND c.relname NOT IN ('memory_terms', 'search_blocks')
             GROUP BY c.relname ORDER BY c.relname",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect()
}

/// All rows of these columns.
fn rows(client: &mut Client, columns: &[(String, Vec<String>)]) -> String {
    let mut lines = Vec::new();
    for (table, names) in columns {
        let sql = format!(
            "SELECT '{table} ' || (SELECT jsonb_object_agg(c, to_jsonb(t) -> c) FROM unnest($1::text[]) c)::text
             FROM engram.{table} t ORDER BY 1"
        );
        for row in client.query(&sql, &[names]).unwrap() {
            lines.push(row.get::<_, String>(0));
        }
    }
    lines.join("\n")
}

/// Whether the version's search reads the blocks that this one reads.
fn has_blocks(version: &str) -> bool {
    !version.starts_with("0.1.")
}

/// Tables that this version's search reads as they are are searched; of others it says what to do.
fn searches_or_says(client: &mut Client, version: &str, hint: &str) {
    let search = "SELECT content FROM engram.search('green tea', match_count => 1)";
    if version.starts_with("0.1.") || version.starts_with("0.2.") {
        let failed = failure(client.query(search, &[]));
        assert_eq!(failed.code, "55000");
        assert!(failed.hint.contains(hint), "{}", failed.hint);
    } else {
        assert_eq!(text(client, search), "Ann likes green tea");
    }
}

/// A catalog in which the order of the columns does not count: what a version adds comes after what
/// users have added.
fn unordered(snapshot: &str) -> String {
    let mut lines: Vec<String> = snapshot
        .lines()
        .map(|line| match line.split(" | ").collect::<Vec<_>>()[..] {
            ["column", name, of] => {
                let of = of.split_once(' ').map_or(of, |(_, rest)| rest);
                format!("column | {name} | {of}")
            }
            _ => line.to_owned(),
        })
        .collect();
    lines.sort();
    lines.join("\n")
}

/// What the dumps of versions with blocks have beside the rest: a superseded and a changed memory, a
/// second embedding model, and a workspace of another language.
fn finds_what_blocks_hold(db: &Database) {
    let (mut ann, mut bob) = (db.user("ann"), db.user("bob"));
    for (search, found) in [
        ("'Oslo'", ""),
        ("'Oslo', include => '{superseded}'", "Ann lives in Oslo"),
        ("'Mondays'", ""),
        ("'Sundays'", "Ann runs on Sundays"),
        ("NULL, '[0.8,0,0.6]'", "Ann runs on Sundays"),
        ("NULL, '[1,0,0,0]'", "Ann likes green tea"),
        ("'permit'", ""),
        ("'red car'", ""),
    ] {
        let sql = format!("SELECT content FROM engram.search({search}, match_count => 1)");
        assert_eq!(text(&mut ann, &sql), found, "{search}");
    }
    assert_eq!(
        text(&mut bob, "SELECT content FROM engram.search('Katze')"),
        "Die Katzen schlafen auf dem Dach"
    );
}

/// `version`: which made the rows.
fn works(db: &Database, version: &str) {
    if has_blocks(version) {
        finds_what_blocks_hold(db);
    }
    let mut ann = db.user("ann");
    assert_eq!(
        text(
            &mut ann,
            "SELECT content FROM engram.search('green tea', match_count => 1)"
        ),
        "Ann likes green tea"
    );
    assert_eq!(
        text(
            &mut ann,
            "SELECT content FROM engram.search(NULL, '[0,1,0]', match_count => 1)"
        ),
        "The cat is called Miso"
    );
    assert_eq!(
        text(&mut ann, "SELECT content FROM engram.search('himself')"),
        "",
        "Bob's is Bob's"
    );
    let id: Uuid = ann
        .query_one(
            "SELECT engram.add('stored after it', embedding => '[0,0,1]')",
            &[],
        )
        .unwrap()
        .get(0);
    assert_eq!(
        text(&mut ann, "SELECT content FROM engram.search('stored')"),
        "stored after it"
    );
    assert_eq!(
        text(
            &mut ann,
            "SELECT status FROM engram.add_many('[{\"content\": \"Stored AFTER it\"}]')"
        ),
        "merged"
    );
    ann.execute(
        "SELECT engram.update($1, content => 'changed after it')",
        &[&id],
    )
    .unwrap();
    assert_eq!(
        text(
            &mut ann,
            "SELECT id::text FROM engram.erase(filter => '{\"content\": \"changed after it\"}')"
        ),
        id.to_string()
    );
}

#[test]
fn released_scripts_never_change() {
    let mut admin = shared().connect("postgres", "postgres");
    for (version, script, hash, _) in RELEASED {
        let now: String = admin
            .query_one(
                "SELECT encode(sha256(convert_to($1, 'UTF8')), 'hex')",
                &[script],
            )
            .unwrap()
            .get(0);
        assert_eq!(now, *hash, "engram--{version}.sql");
    }
}

#[test]
fn a_released_version_stores_with_the_new_library_and_searches_or_says_what_to_do() {
    for (version, ..) in RELEASED {
        let db = released(version);
        let mut ann = db.user("ann");
        searches_or_says(&mut ann, version, "ALTER EXTENSION engram UPDATE");
        ann.batch_execute(
            "SELECT engram.add('kept between', embedding => '[0,0,1]');
             SELECT * FROM engram.add_many('[{\"content\": \"and this\"}]');
             SELECT engram.update(id, content => content || '!') FROM engram.list(match_count => 1);
             SELECT engram.forget(id) FROM engram.list(match_count => 1);
             SELECT engram.add(repeat('as a < b, so is the long text ', 100));
             SELECT engram.search(repeat('long ', 500)) FROM generate_series(1, 1)
             WHERE (SELECT extversion FROM pg_extension WHERE extname = 'engram') >= '0.5.0'",
        )
        .unwrap();
        // Until 0.9 recalls told no kinds of credit apart; what they knew then they know later, and new ones do.
        let (credits, kinds): (bool, bool) = ann
            .query_one(
                "SELECT count(*) > 0, coalesce(bool_or(attname = 'reinforced_ids'), false)
                 FROM pg_attribute WHERE attrelid = to_regclass('engram.recall_credits')",
                &[],
            )
            .map(|row| (row.get(0), row.get(1)))
            .unwrap();
        let (old, new) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let credit = |ann: &mut Client, recall: Uuid| -> Vec<i32> {
            ["touch(i)", "touch(i)", "reinforce(i)", "reinforce(i)"]
                .map(|call| {
                    let call = call.replace("i)", "ARRAY[id], recall_id => $1)");
                    let sql = format!("SELECT engram.{call} FROM engram.list(match_count => 1)");
                    ann.query_one(&sql, &[&recall]).unwrap().get(0)
                })
                .to_vec()
        };
        if credits {
            let credited = [1, 0, i32::from(kinds), 0];
            assert_eq!(credit(&mut ann, old), credited, "{version}");
        }
        db.admin()
            .batch_execute("ALTER EXTENSION engram UPDATE")
            .unwrap();
        if credits {
            assert_eq!(credit(&mut ann, old), [0; 4], "{version}");
        }
        assert_eq!(credit(&mut ann, new), [1, 0, 1, 0], "{version}");
        assert_eq!(
            text(&mut ann, "SELECT content FROM engram.search('kept')"),
            "kept between"
        );
        works(&db, version);
    }
}

#[test]
fn a_superuser_updates_tables_of_somebody_else() {
    for (version, ..) in RELEASED {
        let db = released(version);
        let mut admin = db.admin();
        admin
            .batch_execute(
                "DO $$
                 DECLARE
                   thing text;
                 BEGIN
                   BEGIN CREATE ROLE heir; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END;
                   EXECUTE 'ALTER SCHEMA engram OWNER TO heir';
                   FOR thing IN
                     SELECT 'TABLE ' || oid::regclass FROM pg_class WHERE relnamespace = 'engram'::regnamespace AND relkind IN ('r', 'p', 'v')
                     UNION ALL
                     SELECT 'ROUTINE ' || p.oid::regprocedure FROM pg_proc p WHERE pronamespace = 'engram'::regnamespace
                       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
                   LOOP
                     EXECUTE format('ALTER %s OWNER TO heir', thing);
                   END LOOP;
                 END $$",
            )
            .unwrap();
        admin
            .batch_execute("ALTER EXTENSION engram UPDATE")
            .unwrap_or_else(|e| panic!("{version}: {e:?}"));
        let others = "SELECT count(*)::text FROM pg_class WHERE relnamespace = 'engram'::regnamespace AND relowner <> 'heir'::regrole";
        assert_eq!(text(&mut admin, others), "0", "{version}");
        let mut ann = db.user("ann");
        ann.batch_execute("SELECT engram.add('kept between', embedding => '[0,0,1]')")
            .unwrap();
        assert_eq!(
            text(&mut ann, "SELECT content FROM engram.search('kept')"),
            "kept between"
        );
        works(&db, version);
    }
}

#[test]
fn a_dump_of_a_released_version_is_loaded_into_this_one() {
    for (version, _, _, dump) in RELEASED {
        let db = Database::empty();
        // Rights on functions that have got an argument since cannot be restored: setup() gives them again.
        let grown = ["get(", "list(", "search("].map(|name| format!("ON FUNCTION engram.{name}"));
        let kept: Vec<&str> = dump
            .lines()
            .filter(|line| !grown.iter().any(|name| line.contains(name)))
            .collect();
        shared()
            .psql(&db.name, "postgres", &kept.join("\n"))
            .unwrap_or_else(|e| panic!("{version}: {e}"));
        let mut ann = db.user("ann");
        ann.batch_execute("SELECT engram.add('kept between', embedding => '[0,0,1]')")
            .unwrap();
        let mut admin = db.admin();
        admin.batch_execute("SET engram.user_id = 'ann'").unwrap();
        searches_or_says(&mut admin, version, "SELECT engram.setup()");
        db.admin().batch_execute("SELECT engram.setup()").unwrap();
        assert_eq!(
            text(&mut ann, "SELECT content FROM engram.search('kept')"),
            "kept between"
        );
        works(&db, version);
        // Versions before 0.9 took an emoji for a letter where LC_CTYPE is C, and one memory has one.
        let mended = text(&mut db.admin(), "SELECT engram.reindex()::text");
        assert!(["0", "1"].contains(&mended.as_str()), "{version}: {mended}");
        assert_eq!(text(&mut db.admin(), "SELECT engram.reindex()::text"), "0");
    }
}

#[test]
fn reindex_mends_blocks_that_cannot_be_read_and_entries_that_are_there_twice() {
    let db = Database::new();
    let (mut ann, mut admin) = (db.user("ann"), db.admin());
    ann.batch_execute(
        "SELECT engram.add('green tea', embedding => '[1,0,0]'); SELECT engram.add('black tea')",
    )
    .unwrap();
    for (harm, wrong) in [
        (
            "UPDATE engram.search_blocks SET block = '\\x09' WHERE model = ''",
            "1",
        ),
        (
            "UPDATE engram.search_blocks SET block = substr(block, 1, 30) WHERE model = 'tiny'",
            "1",
        ),
        (
            "INSERT INTO engram.search_blocks SELECT workspace_id, model, level, cluster, gen_random_uuid(), entries, block FROM engram.search_blocks WHERE model = 'tiny'",
            "1",
        ),
        ("DELETE FROM engram.search_blocks", "3"),
    ] {
        admin.batch_execute(harm).unwrap();
        // Storing goes on meanwhile, and erasing.
        ann.batch_execute(
            "SELECT engram.erase(ARRAY[engram.add('gone soon', embedding => '[0,1,0]')])",
        )
        .unwrap();
        if harm.contains("SET block") {
            let failed = failure(ann.query("SELECT * FROM engram.search('tea', '[1,0,0]')", &[]));
            assert!(
                failed.hint.contains("SELECT engram.reindex()"),
                "{harm}: {}",
                failed.hint
            );
        }
        assert_eq!(
            text(&mut admin, "SELECT engram.reindex()::text"),
            wrong,
            "{harm}"
        );
        assert_eq!(
            text(&mut admin, "SELECT engram.reindex()::text"),
            "0",
            "{harm}"
        );
        assert_eq!(
            text(
                &mut ann,
                "SELECT count(*)::text FROM engram.search('tea', '[1,0,0]')"
            ),
            "2"
        );
    }
}

#[test]
fn an_upgrade_keeps_every_row_and_ends_like_a_fresh_install() {
    for (version, ..) in RELEASED {
        upgrades(version);
    }
}

fn upgrades(version: &str) {
    let db = released(version);
    let mut admin = db.admin();
    let columns = columns(&mut admin);
    let before = rows(&mut admin, &columns);
    assert!(before.contains("漢字") && before.contains("\"users_own\": \"kept\""));
    admin
        .batch_execute("ALTER EXTENSION engram UPDATE")
        .unwrap();
    assert_eq!(rows(&mut admin, &columns), before);
    works(&db, version);

    // The same population on a fresh install of this version gives the same catalog.
    let fresh = Database::empty();
    fresh
        .admin()
        .batch_execute(
            "CREATE EXTENSION engram CASCADE; SELECT engram.setup('{\"grant_to\": [\"app\"]}');
             REVOKE ALL ON ALL TABLES IN SCHEMA engram FROM authenticated, service_role;
             REVOKE ALL ON SCHEMA engram FROM authenticated, service_role;
             CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
             CREATE TRIGGER users_own AFTER UPDATE ON engram.memories FOR EACH ROW EXECUTE FUNCTION public.note();
             CREATE INDEX users_own ON engram.memories (workspace_id, source);
             CREATE POLICY users_own ON engram.memories AS RESTRICTIVE FOR DELETE USING (NOT pinned);
             ALTER TABLE engram.memories ADD COLUMN users_own text DEFAULT 'kept';
             TRUNCATE engram.settings, engram.memory_type_settings",
        )
        .unwrap();
    let mut other = fresh.admin();
    // Released before these roles were there, so an upgrade gives them access as a first setup does.
    for client in [&mut admin, &mut other] {
        client
            .batch_execute(
                "DROP OWNED BY authenticated, service_role;
                 DELETE FROM engram.erasures; DELETE FROM engram.memories; DELETE FROM engram.erasures;
                 TRUNCATE engram.settings, engram.memory_type_settings, engram.embedding_models, engram.memory_events,
                   engram.entity_aliases, engram.maintenance, engram.messages, engram.retention_policies CASCADE",
            )
            .unwrap();
    }
    assert_same(&members(&mut admin), &members(&mut other));
    assert_same(
        &unordered(&snapshot(&mut admin)),
        &unordered(&snapshot(&mut other)),
    );
}

#[test]
fn a_view_of_the_users_does_not_stand_in_the_way_of_an_upgrade() {
    for (version, ..) in RELEASED {
        let db = released(version);
        let mut admin = db.admin();
        let mut ann = db.user("ann");
        admin
            .batch_execute(
                "CREATE VIEW public.found WITH (security_invoker = true) AS SELECT content FROM engram.search('green tea', match_count => 1);
                 GRANT SELECT ON public.found TO app",
            )
            .unwrap();
        admin
            .batch_execute("ALTER EXTENSION engram UPDATE")
            .unwrap_or_else(|e| panic!("{version}: {e:?}"));
        assert_eq!(
            text(&mut ann, "SELECT content FROM public.found"),
            "Ann likes green tea",
            "{version}"
        );
        works(&db, version);
    }
}

#[test]
fn every_way_from_version_to_version_can_be_walked() {
    let mut admin = shared().connect("postgres", "postgres");
    let paths = admin
        .query(
            "SELECT source, target FROM pg_extension_update_paths('engram') WHERE path IS NOT NULL ORDER BY 1, 2",
            &[],
        )
        .unwrap();
    assert!(!paths.is_empty());
    for row in paths {
        let (source, target): (String, String) = (row.get(0), row.get(1));
        let db = released(&source);
        db.admin()
            .batch_execute(&format!("ALTER EXTENSION engram UPDATE TO '{target}'"))
            .unwrap_or_else(|e| panic!("{source} to {target}: {e:?}"));
        if target != env!("CARGO_PKG_VERSION") {
            // On the way the tables wait for the last step.
            db.admin()
                .batch_execute("ALTER EXTENSION engram UPDATE")
                .unwrap();
        }
        works(&db, &source);
    }
}

#[test]
fn reindex_mends_what_search_reads_and_is_for_the_owner() {
    let db = Database::new();
    let mut ann = db.user("ann");
    ann.batch_execute("SELECT engram.add('green tea'); SELECT engram.add('forgotten coffee'); SELECT engram.add('left alone')").unwrap();
    let mut admin = db.admin();
    let count =
        |client: &mut Client, sql: &str| -> i64 { client.query_one(sql, &[]).unwrap().get(0) };
    assert_eq!(
        count(&mut admin, "SELECT engram.reindex()"),
        0,
        "nothing to mend, nothing written"
    );
    // As a load with triggers disabled leaves it.
    admin
        .batch_execute(
            "SET session_replication_role = replica;
             UPDATE engram.memories SET content = 'black tea' WHERE content = 'green tea';
             UPDATE engram.memories SET deleted_at = now() WHERE content = 'forgotten coffee';
             RESET session_replication_role",
        )
        .unwrap();
    assert_eq!(
        count(&mut ann, "SELECT count(*) FROM engram.search('black')"),
        0
    );
    let code = ann.query("SELECT engram.reindex()", &[]).unwrap_err();
    assert_eq!(code.as_db_error().unwrap().code().code(), "42501");
    assert_eq!(
        count(&mut admin, "SELECT engram.reindex(gen_random_uuid())"),
        0,
        "another workspace"
    );
    assert_eq!(count(&mut admin, "SELECT engram.reindex()"), 2);
    assert_eq!(
        count(&mut ann, "SELECT count(*) FROM engram.search('black')"),
        1
    );
    assert_eq!(
        count(&mut ann, "SELECT count(*) FROM engram.search('green')"),
        0
    );
}
