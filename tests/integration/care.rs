//! Years of data: logs in partitions that come and go while everybody works, what is forgotten for real,
//! one procedure that cares for it all, and what it says about itself.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, Config, NoTls, SimpleQueryMessage};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cluster::{Cluster, Database, Installation, failure, one, shared};

fn list(client: &mut Client, sql: &str) -> Vec<String> {
    client
        .query(sql, &[])
        .unwrap_or_else(|e| panic!("{sql}: {e:?}"))
        .iter()
        .map(|row| row.get::<_, Option<String>>(0).unwrap_or_default())
        .collect()
}

fn add(client: &mut Client, content: &str) -> Uuid {
    one(client, "SELECT engram.add($1)", &[&content])
}

/// Runs some phases of maintain().
fn maintain_some(client: &mut Client, phases: &str) {
    client
        .batch_execute(&format!("CALL engram.maintain('{phases}')"))
        .unwrap();
}

/// Runs maintain() and gives its report.
pub fn maintain(client: &mut Client) -> Value {
    for message in client.simple_query("CALL engram.maintain()").unwrap() {
        if let SimpleQueryMessage::Row(row) = message {
            return serde_json::from_str(row.get(0).unwrap()).unwrap();
        }
    }
    panic!("no report")
}

/// The codes of what health() warns of.
fn alerts(client: &mut Client) -> Vec<String> {
    list(
        client,
        "SELECT a ->> 'code' FROM jsonb_array_elements(engram.health() -> 'alerts') a WHERE a ->> 'level' <> 'info' ORDER BY 1",
    )
}

/// Names and bounds, oldest first.
fn partitions(client: &mut Client, parent: &str) -> Vec<String> {
    list(
        client,
        &format!(
            "SELECT concat_ws(' ', partition, lower_bound AT TIME ZONE 'UTC', upper_bound AT TIME ZONE 'UTC') FROM engram_internal.partition_bounds('{parent}')"
        ),
    )
}

// --- partitions ---------------------------------------------------------------------------------

#[test]
fn partitions_are_drawn_in_utc_without_gap_or_overlap_whatever_the_session() {
    let db = Database::new();
    let mut admin = db.admin();
    for (unit, moment, border) in [
        ("day", "2028-02-28 23:59:59.999999+00", "2028-02-29"),
        ("day", "2027-03-28 00:30+00", "2027-03-29"),
        ("week", "2026-12-31 12:00+00", "2027-01-04"),
        ("month", "2027-01-31 23:59+00", "2027-02-01"),
        ("month", "2028-02-29 00:00+00", "2028-03-01"),
        ("month", "2026-10-31 23:30-05", "2026-12-01"),
        ("quarter", "2026-11-30 00:00+00", "2027-01-01"),
        ("year", "2026-12-31 23:59:59+00", "2027-01-01"),
    ] {
        for zone in [
            "UTC",
            "America/New_York",
            "Pacific/Kiritimati",
            "Europe/Berlin",
        ] {
            admin
                .batch_execute(&format!("SET timezone = '{zone}'"))
                .unwrap();
            let found: String = one(
                &mut admin,
                "SELECT (engram_internal.interval_after($1, $2::text::timestamptz) AT TIME ZONE 'UTC')::text",
                &[&unit, &moment],
            );
            assert_eq!(
                found,
                format!("{border} 00:00:00"),
                "{unit} after {moment} in {zone}"
            );
        }
    }
    // However the unit changes on the way and whatever the session shows times in, each begins where
    // the one before ends.
    admin
        .batch_execute(
            "SET timezone = 'America/New_York'; SET datestyle = 'SQL, DMY';
             SELECT engram.create_partitions(now() + interval '5 months');
             SELECT engram.configure('{\"partition_interval\": \"week\"}', '00000000-0000-0000-0000-000000000000');
             SELECT engram.create_partitions(now() + interval '8 months');
             SET timezone = 'Asia/Kathmandu';
             SELECT engram.configure('{\"partition_interval\": \"quarter\"}', '00000000-0000-0000-0000-000000000000');
             SELECT engram.create_partitions(now() + interval '3 years')",
        )
        .unwrap();
    // All workspaces share the tables.
    let refused = failure(admin.simple_query(
        "SELECT engram.configure('{\"partition_interval\": \"day\"}', '018f3a2e-0000-7000-8000-00000000ffff')",
    ));
    assert_eq!(refused.code, "22023");
    assert!(refused.hint.contains("00000000-0000-0000"), "{refused:?}");
    for parent in ["access_log", "memory_events"] {
        let gaps: i64 = one(
            &mut admin,
            "SELECT count(*) FROM (SELECT b.lower_bound, lag(b.upper_bound) OVER (ORDER BY b.upper_bound) AS before
               FROM engram_internal.partition_bounds($1) b WHERE NOT b.is_default) x
             WHERE x.lower_bound <> coalesce(x.before, '-infinity')",
            &[&parent],
        );
        assert_eq!(gaps, 0, "{parent}");
        let n = partitions(&mut admin, parent).len();
        assert!((25..45).contains(&n), "{parent} has {n} partitions");
    }
    // Once more makes nothing.
    assert_eq!(
        one::<i64>(
            &mut admin,
            "SELECT count(*) FROM engram.create_partitions(now() + interval '3 years')",
            &[]
        ),
        0
    );
    // A range of time is looked for where it lies.
    let plan = list(
        &mut admin,
        "EXPLAIN (COSTS OFF) SELECT * FROM engram.memory_events WHERE at >= now() AND at < now() + interval '1 hour'",
    )
    .join("\n");
    assert!(plan.contains("Subplans Removed: "), "{plan}");
}

/// Uses of one memory, one for each moment, as they are after a fold.
fn log_uses(admin: &mut Client, workspace: Uuid, memory: Uuid, n: i32, until: &str) {
    admin
        .execute(
            &format!(
                "INSERT INTO engram.access_log (workspace_id, memory_id, accessed_at, id, kind, gain)
                 SELECT $1, $2, {until} - i * interval '1 second', gen_random_uuid(), 'used', 1 FROM generate_series(1, $3) i"
            ),
            &[&workspace, &memory, &n],
        )
        .unwrap();
}

#[test]
fn what_the_default_partition_caught_is_moved_and_nothing_is_lost() {
    // Few rows are moved, of many the whole table becomes the partition.
    for n in [50, 12_000] {
        let db = Database::new();
        let mut admin = db.admin();
        let fresh = partitions(&mut admin, "access_log");
        let (workspace, memory) = (Uuid::now_v7(), Uuid::now_v7());
        // As if maintenance had not run since the last partition ended.
        for partition in list(
            &mut admin,
            "SELECT partition FROM engram_internal.partition_bounds('access_log') WHERE NOT is_default",
        ) {
            admin
                .batch_execute(&format!("DROP TABLE {partition}"))
                .unwrap();
        }
        log_uses(&mut admin, workspace, memory, n, "now()");
        log_uses(
            &mut admin,
            workspace,
            memory,
            5,
            "now() - interval '2 years'",
        );
        // A clock that had jumped ahead.
        log_uses(
            &mut admin,
            workspace,
            memory,
            5,
            "now() + interval '9 years'",
        );
        let count = "SELECT count(*) || ' ' || count(DISTINCT id) || ' ' || min(accessed_at) || ' ' || max(accessed_at) FROM engram.access_log";
        let before: String = one(&mut admin, count, &[]);
        assert_eq!(
            alerts(&mut admin),
            [
                "default_partition_not_empty",
                "maintenance_overdue",
                "partitions_missing"
            ]
        );
        admin
            .batch_execute("SELECT engram.create_partitions()")
            .unwrap();
        assert_eq!(one::<String>(&mut admin, count, &[]), before, "{n}");
        if n == 50 {
            assert_eq!(partitions(&mut admin, "access_log"), fresh);
        }
        // What lies years ahead waits there, and is said.
        assert_eq!(
            one::<i64>(
                &mut admin,
                "SELECT count(*) FROM engram.access_log_default",
                &[]
            ),
            5
        );
        assert_eq!(alerts(&mut admin), ["maintenance_overdue"]);
        let mend = list(
            &mut admin,
            "SELECT substring(a ->> 'hint' FROM 'SELECT [^;]*') FROM jsonb_array_elements(engram.health() -> 'alerts') a
             WHERE a ->> 'code' = 'default_partition_not_empty' AND a ->> 'level' = 'info'",
        );
        admin.batch_execute(&mend.join(";")).unwrap();
        assert_eq!(
            one::<i64>(
                &mut admin,
                "SELECT count(*) FROM engram.access_log_default",
                &[]
            ),
            0
        );
        assert_eq!(one::<String>(&mut admin, count, &[]), before, "{n}");
        assert_eq!(alerts(&mut admin), ["maintenance_overdue"]);
        // Each has its key, its policy, and nobody's grants; the old names belong to the new default one.
        let odd: i64 = one(
            &mut admin,
            "SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = 'engram.access_log'::regclass
               AND NOT (c.relrowsecurity
                 AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = c.relname || '_select')
                 AND EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'p' AND k.conname = c.relname || '_pkey')
                 AND c.relacl IS NOT DISTINCT FROM (SELECT d.relacl FROM pg_class d WHERE d.oid = 'engram.access_log_default'::regclass)
                 AND obj_description(c.oid, 'pg_class') IS NOT NULL)",
            &[],
        );
        assert_eq!(odd, 0);
        let setup: String = one(&mut admin, "SELECT engram.setup()", &[]);
        assert_eq!(setup, "up to date");
        assert_eq!(
            one::<i64>(
                &mut admin,
                "SELECT count(*) FROM engram.create_partitions()",
                &[]
            ),
            0
        );
        // No more at once than the server has locks for.
        if n == 50 {
            admin
                .batch_execute("SELECT engram.configure('{\"partition_interval\": \"day\"}', '00000000-0000-0000-0000-000000000000')")
                .unwrap();
            let years =
                "SELECT count(*) FROM engram.create_partitions(now() + interval '30 years')";
            assert_eq!(one::<i64>(&mut admin, years, &[]), 450);
        }
        // One that somebody took out comes back when it is needed, and not before.
        let one_out = "SELECT partition FROM engram_internal.partition_bounds('access_log') WHERE lower_bound > now() LIMIT 1";
        let gone = list(&mut admin, one_out).remove(0);
        admin.batch_execute(&format!("DROP TABLE {gone}")).unwrap();
        let made = "SELECT partition FROM engram.create_partitions()";
        assert_eq!(list(&mut admin, made), [""; 0]);
        let day = format!("to_date(right('{gone}', 8), 'YYYYMMDD') + interval '5 days'");
        log_uses(&mut admin, workspace, memory, 3, &day);
        assert!(alerts(&mut admin).contains(&"default_partition_not_empty".to_owned()));
        assert_eq!(list(&mut admin, made), [gone]);
        assert_eq!(alerts(&mut admin), ["maintenance_overdue"]);
    }
}

#[test]
fn only_what_was_done_counts_as_maintained() {
    let db = Database::new();
    let (mut admin, mut other) = (db.admin(), db.admin());
    let overdue = |admin: &mut Client| alerts(admin).contains(&"maintenance_overdue".to_owned());
    maintain_some(&mut admin, "{fold,pack}");
    assert!(overdue(&mut admin));
    // Somebody else is at it all the time, until the report is to be written.
    other
        .batch_execute("BEGIN; SELECT FROM engram.maintenance FOR UPDATE")
        .unwrap();
    let report = thread::scope(|scope| {
        let run = scope.spawn(|| maintain(&mut admin));
        let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')";
        while !one::<bool>(&mut other, waits, &[]) {
            // Activity is shown as of the transaction's first look.
            other
                .batch_execute("SELECT pg_stat_clear_snapshot()")
                .unwrap();
            thread::sleep(Duration::from_millis(20));
        }
        other.batch_execute("COMMIT").unwrap();
        run.join().unwrap()
    });
    assert_eq!(report["fold"]["busy"], true, "{report}");
    assert!(overdue(&mut admin));
    // The rest, in two runs; then one phase of long ago.
    maintain_some(&mut admin, "{partitions,consolidate,retention,purge}");
    assert!(overdue(&mut admin));
    maintain_some(&mut admin, "{messages,drop_partitions}");
    assert!(!overdue(&mut admin));
    admin
        .batch_execute(
            "UPDATE engram.maintenance SET report = jsonb_set(report, '{ends,purge}', to_jsonb(now() - interval '2 days'))
             WHERE report IS NOT NULL",
        )
        .unwrap();
    maintain_some(&mut admin, "{fold}");
    assert!(overdue(&mut admin));
    maintain(&mut admin);
    assert!(!overdue(&mut admin));
    // What failed stays reported until that phase itself has come to its end.
    admin
        .batch_execute(
            "UPDATE engram.maintenance SET report = jsonb_set(report, '{phases,purge}', '{\"error\": \"not today\"}')
             WHERE report IS NOT NULL",
        )
        .unwrap();
    maintain_some(&mut admin, "{fold}");
    assert_eq!(alerts(&mut admin), ["maintenance_failed"]);
    maintain_some(&mut admin, "{purge}");
    assert_eq!(alerts(&mut admin), [""; 0]);
}

/// A user whose memories were used, forgotten, changed and linked over two years.
fn lived(db: &Database) -> Client {
    let mut ann = db.user("ann");
    let ids: Vec<Uuid> = (0..12)
        .map(|i| {
            add(
                &mut ann,
                &format!("Ann's note number {i} about gardens and rain"),
            )
        })
        .collect();
    let mut admin = db.admin();
    admin
        .batch_execute(
            "UPDATE engram.memories SET created_at = now() - interval '3 years' WHERE false",
        )
        .unwrap();
    for days in [700, 500, 360, 200, 90, 60, 31, 8, 1] {
        for group in ids.chunks(3) {
            let at = format!(
                "SELECT engram.touch($1, at => now() - interval '{days} days' + interval '3 seconds')"
            );
            ann.execute(&at, &[&group]).unwrap();
        }
    }
    ann.execute("SELECT engram.rate($1, 4)", &[&ids[1]])
        .unwrap();
    ann.execute(
        "SELECT engram.update($1, content => 'Changed about gardens')",
        &[&ids[2]],
    )
    .unwrap();
    ann.execute("SELECT engram.forget($1)", &[&ids[3]]).unwrap();
    ann.batch_execute("SELECT * FROM engram.consolidate()")
        .unwrap();
    ann
}

/// Everything that a user can see of how memories stand.
fn standing(client: &mut Client) -> Value {
    let mut all = BTreeMap::new();
    for (name, sql) in [
        (
            "state",
            "SELECT m.id, engram.activation(m.id, $1::text::timestamptz) AS activation, s.working_strength, s.core_strength, s.stability, s.difficulty, s.layer, s.access_count
             FROM engram.list(match_count => 100) m JOIN engram.memory_state s ON s.memory_id = m.id ORDER BY m.id",
        ),
        (
            "retention",
            "SELECT m.id, r.* FROM engram.list(match_count => 100) m, engram.retention(m.id, $1::text::timestamptz) r ORDER BY m.id",
        ),
        (
            "search",
            "SELECT * FROM engram.search('gardens rain changed', at => $1::text::timestamptz, match_count => 50)",
        ),
        (
            "links",
            "SELECT m.id, l.* FROM engram.list(match_count => 100) m, engram.links(m.id, $1::text::timestamptz) l ORDER BY 1, 2",
        ),
    ] {
        let at = "2027-01-01";
        let rows: Vec<Value> = client
            .query(&format!("SELECT to_jsonb(r) FROM ({sql}) r"), &[&at])
            .unwrap_or_else(|e| panic!("{sql}: {e:?}"))
            .iter()
            .map(|row| row.get(0))
            .collect();
        assert!(!rows.is_empty(), "{name}");
        all.insert(name.to_owned(), Value::Array(rows));
    }
    json!(all)
}

#[test]
fn dropping_every_old_partition_changes_no_number() {
    let db = Database::new();
    let mut ann = lived(&db);
    let mut admin = db.admin();
    let before = standing(&mut ann);
    let old: i64 = one(
        &mut admin,
        "SELECT count(*) FROM engram.access_log_old",
        &[],
    );
    assert!(old > 50);
    // A change of two months ago.
    admin
        .batch_execute(
            "INSERT INTO engram.memory_events (workspace_id, xid, id, at, memory_id, origin, action, version)
             SELECT workspace_id, xid, gen_random_uuid(), at - interval '60 days', memory_id, origin, 'updated', 1 FROM engram.memory_events LIMIT 1",
        )
        .unwrap();
    let planned = list(
        &mut admin,
        "SELECT partition FROM engram.drop_partitions('0 days', dry_run => true)",
    );
    assert_eq!(
        one::<i64>(
            &mut admin,
            "SELECT count(*) FROM engram.access_log_old",
            &[]
        ),
        old
    );
    let dropped = list(
        &mut admin,
        "SELECT partition FROM engram.drop_partitions('0 days')",
    );
    assert_eq!(dropped, planned);
    assert!(
        dropped.contains(&"engram.access_log_old".to_owned()),
        "{dropped:?}"
    );
    assert_eq!(standing(&mut ann), before);
    // A use of that time that comes to light now is counted and has a place to go.
    let id: Uuid = one(
        &mut ann,
        "SELECT id FROM engram.list(match_count => 1)",
        &[],
    );
    ann.execute(
        "SELECT engram.touch(ARRAY[$1::uuid], at => now() - interval '400 days')",
        &[&id],
    )
    .unwrap();
    let used: i64 = one(
        &mut admin,
        "SELECT access_count FROM engram.memory_state WHERE memory_id = $1",
        &[&id],
    );
    ann.batch_execute("SELECT * FROM engram.consolidate()")
        .unwrap();
    assert_eq!(
        one::<i64>(
            &mut admin,
            "SELECT access_count FROM engram.memory_state WHERE memory_id = $1",
            &[&id]
        ),
        used + 1
    );
    assert_eq!(
        one::<i64>(
            &mut admin,
            "SELECT count(*) FROM engram.access_log_old",
            &[]
        ),
        1
    );
    assert_eq!(alerts(&mut admin), ["maintenance_overdue"]);
    // What was before is not known any more, and nobody is told something else.
    let failed = failure(ann.query(
        "SELECT * FROM engram.search('gardens', as_of => now() - interval '2 months')",
        &[],
    ));
    assert_eq!(failed.code, "22023");
    assert!(failed.hint.contains("were dropped"), "{}", failed.hint);
    assert_eq!(
        failure(ann.query(
            "SELECT * FROM engram.list(as_of => now() - interval '2 months')",
            &[]
        ))
        .code,
        "22023"
    );
    // The settings decide when nothing is said.
    assert_eq!(
        list(&mut admin, "SELECT partition FROM engram.drop_partitions()"),
        [""; 0]
    );
    admin
        .batch_execute("SELECT engram.configure('{\"access_log_days\": 1}', '00000000-0000-0000-0000-000000000000')")
        .unwrap();
    assert_eq!(
        list(&mut admin, "SELECT partition FROM engram.drop_partitions()"),
        ["engram.access_log_old"]
    );
}

/// Whoever has written into it, and is not done.
#[test]
fn events_that_are_being_written_are_not_dropped_unseen() {
    let db = Database::new();
    let mut ann = lived(&db);
    let mut admin = db.admin();
    // An owner who does not see what others do in pg_stat_activity.
    admin
        .batch_execute(
            "DO $$ BEGIN CREATE ROLE warden; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
             SELECT engram.setup('{\"owner\": \"warden\", \"grant_to\": [\"service_role\"]}')",
        )
        .unwrap();
    let mut app = db.admin();
    let event = "INSERT INTO engram.memory_events (workspace_id, xid, id, at, memory_id, origin, action, version)
                 SELECT workspace_id, pg_current_xact_id(), gen_random_uuid(), at - interval '60 days', memory_id, origin, 'updated', 1
                 FROM engram.memory_events LIMIT 1";
    admin.batch_execute(event).unwrap();
    app.batch_execute("BEGIN").unwrap();
    app.batch_execute(event).unwrap();
    let xid: String = one(&mut app, "SELECT pg_current_xact_id()::text", &[]);
    let mut service = db.admin();
    service
        .batch_execute("SET SESSION AUTHORIZATION service_role")
        .unwrap();
    let drop = "SELECT partition FROM engram.drop_partitions('1 day', 'memory_events') ORDER BY 1";
    let failed = failure(service.query(drop, &[]));
    assert_eq!(failed.code, "55P03", "{failed:?}");
    app.batch_execute("COMMIT").unwrap();
    // An older snapshot would not see what was written last.
    service
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT")
        .unwrap();
    let failed = failure(service.query(drop, &[]));
    assert!(
        failed.code == "55000" && !failed.hint.is_empty(),
        "{failed:?}"
    );
    service.batch_execute("ROLLBACK").unwrap();
    // Who has written elsewhere does not wait long, and holds nobody up.
    assert!(!list(&mut service, drop).is_empty());
    let known: bool = one(
        &mut admin,
        "SELECT events_dropped_xid >= $1::text::xid8 FROM engram.maintenance WHERE workspace_id = '00000000-0000-0000-0000-000000000000'",
        &[&xid],
    );
    assert!(known);
    add(&mut ann, "later");
}

#[test]
fn partitions_come_whatever_names_and_texts_look_like() {
    let db = Database::new();
    let mut admin = db.admin();
    // How names are written, and what a backslash means.
    admin
        .batch_execute("SET quote_all_identifiers = on; SET standard_conforming_strings = off; SET escape_string_warning = off")
        .unwrap();
    let made = list(
        &mut admin,
        "SELECT partition FROM engram.create_partitions(now() + interval '5 months')",
    );
    assert!(made.len() >= 9, "{made:?}");
    let dropped = "SELECT count(*) FROM engram.drop_partitions('0 days')";
    assert_eq!(one::<i64>(&mut admin, dropped, &[]), 0);
    admin.batch_execute("RESET ALL").unwrap();
    assert!(partitions(&mut admin, "access_log").len() > 5);
    let default: String = one(
        &mut admin,
        "SELECT partition FROM engram_internal.partition_bounds('messages') WHERE is_default",
        &[],
    );
    assert_eq!(default, "engram.messages_default");
}

#[test]
fn old_partitions_are_archived_where_the_user_says() {
    let db = Database::new();
    let _ann = lived(&db);
    let mut admin = db.admin();
    let rows: i64 = one(
        &mut admin,
        "SELECT count(*) FROM engram.access_log_old",
        &[],
    );
    for (call, code, hint) in [
        (
            "SELECT engram.detach_partitions('0 days', into_schema => 'attic')",
            "3F000",
            "CREATE SCHEMA attic",
        ),
        (
            "SELECT engram.detach_partitions('0 days', into_table => 'public.attic')",
            "22023",
            "parent",
        ),
        (
            "SELECT engram.detach_partitions('0 days', 'access_log', into_table => 'public.attic')",
            "42P01",
            "CREATE TABLE public.attic (LIKE engram.access_log)",
        ),
        (
            "SELECT engram.detach_partitions('0 days', 'memories')",
            "22023",
            "access_log, memory_events",
        ),
        ("SELECT engram.detach_partitions(NULL)", "22023", "interval"),
        (
            "SELECT engram.drop_partitions('-1 day')",
            "22023",
            "0 or more",
        ),
        (
            "SELECT engram.create_partitions('infinity')",
            "22023",
            "50 years",
        ),
    ] {
        let failed = failure(admin.simple_query(call));
        assert_eq!(failed.code, code, "{call}");
        assert!(failed.hint.contains(hint), "{call}: {}", failed.hint);
    }
    admin.batch_execute("CREATE SCHEMA attic").unwrap();
    let moved = list(
        &mut admin,
        "SELECT moved_to FROM engram.detach_partitions('0 days', 'access_log', into_schema => 'attic')",
    );
    assert_eq!(moved.len(), 1);
    let kept: i64 = one(
        &mut admin,
        &format!("SELECT count(*) FROM {}", moved[0]),
        &[],
    );
    assert_eq!(kept, rows);
    let left: i64 = one(
        &mut admin,
        "SELECT count(*) FROM engram.access_log WHERE accessed_at < now() - interval '40 days'",
        &[],
    );
    assert_eq!(left, 0);
    // Its rows are still no stranger's.
    admin
        .batch_execute(&format!(
            "GRANT USAGE ON SCHEMA attic TO app; GRANT SELECT ON {} TO app",
            moved[0]
        ))
        .unwrap();
    let mut bob = db.user("bob");
    assert_eq!(
        one::<i64>(&mut bob, &format!("SELECT count(*) FROM {}", moved[0]), &[]),
        0
    );
    // Once more: what came to light meanwhile.
    log_uses(
        &mut admin,
        Uuid::now_v7(),
        Uuid::now_v7(),
        3,
        "now() - interval '80 days'",
    );
    let again = list(
        &mut admin,
        "SELECT moved_to FROM engram.detach_partitions('0 days', 'access_log', into_schema => 'attic')",
    );
    assert_eq!(again, [format!("{}_2", moved[0])]);
    // Into a table.
    log_uses(
        &mut admin,
        Uuid::now_v7(),
        Uuid::now_v7(),
        7,
        "now() - interval '70 days'",
    );
    admin
        .batch_execute("CREATE TABLE public.attic (LIKE engram.access_log)")
        .unwrap();
    let moved = list(
        &mut admin,
        "SELECT moved_to FROM engram.detach_partitions('0 days', 'access_log', into_table => 'public.attic')",
    );
    assert_eq!(moved, ["public.attic"]);
    assert_eq!(
        one::<i64>(&mut admin, "SELECT count(*) FROM public.attic", &[]),
        7
    );
}

/// A device: what it has, and where it goes on.
#[derive(Default)]
struct Device {
    copy: BTreeMap<Uuid, (i32, String)>,
    cursor: Option<String>,
}

impl Device {
    /// Asks until there is nothing more.
    fn catch_up(&mut self, me: &mut Client, page: i32) {
        loop {
            let rows = me
                .query(
                    "SELECT id, op, version, memory ->> 'content', cursor_next FROM engram.changes($1, $2)",
                    &[&self.cursor, &page],
                )
                .unwrap_or_else(|e| panic!("{e:?}"));
            let mut end = false;
            for row in rows {
                match row.get(1) {
                    "upsert" => {
                        self.copy.insert(row.get(0), (row.get(2), row.get(3)));
                    }
                    "delete" => {
                        self.copy.remove(&row.get(0));
                    }
                    _ => end = true,
                }
                self.cursor = row.get(4);
            }
            if end {
                return;
            }
        }
    }
}

/// How long the test below goes on; longer by ENGRAM_SOAK_SECONDS.
fn soak() -> Duration {
    let seconds = std::env::var("ENGRAM_SOAK_SECONDS").ok();
    Duration::from_secs(seconds.and_then(|s| s.parse().ok()).unwrap_or(6))
}

/// What a writer did.
#[derive(Default)]
struct Done {
    uses: i64,
    changes: i64,
    erased: i64,
}

/// One who stores, uses, changes, forgets and erases, and a copy that is brought up to date now and then.
fn work(db: &Database, n: usize, stop: &AtomicBool) -> Done {
    let mut me = db.user(&format!("user{n}"));
    let mut ids: Vec<Uuid> = (0..4)
        .map(|i| add(&mut me, &format!("note {i} of {n}")))
        .collect();
    let (mut done, mut device) = (Done::default(), Device::default());
    let mut i = 0_usize;
    while !stop.load(Ordering::Relaxed) {
        i += 1;
        let days = [0, 45, 400][i % 3];
        me.execute(
            &format!("SELECT engram.touch($1, at => now() - interval '{days} days')"),
            &[&ids],
        )
        .unwrap();
        done.uses += 4;
        if i.is_multiple_of(5) {
            me.execute(
                "SELECT engram.update($1, content => $2)",
                &[&ids[1 + i % 3], &format!("note changed {i} of {n}")],
            )
            .unwrap();
            done.changes += 1;
        }
        if i.is_multiple_of(7) {
            let what = if i.is_multiple_of(2) {
                "forget"
            } else {
                "restore"
            };
            me.execute(&format!("SELECT engram.{what}($1)"), &[&ids[0]])
                .unwrap();
        }
        if i.is_multiple_of(11) {
            // Its uses and its history go with it.
            let gone = ids.remove(1);
            let of = |table: &str| {
                format!("SELECT count(*) FROM engram.{table} x WHERE x.memory_id = $1")
            };
            let mut transaction = me.transaction().unwrap();
            let removed: Value = transaction
                .query_one(
                    "SELECT removed FROM engram.erase(ARRAY[$1::uuid])",
                    &[&gone],
                )
                .unwrap()
                .get(0);
            assert_eq!(removed["state"], 1);
            let logged: i64 = transaction
                .query_one(&of("access_log"), &[&gone])
                .unwrap()
                .get(0);
            assert_eq!(logged, 0);
            transaction.commit().unwrap();
            done.erased += 1;
            ids.push(add(&mut me, &format!("note {i} instead of {n}")));
        }
        if i.is_multiple_of(13) {
            device.catch_up(&mut me, 1 + i32::try_from(i % 4).unwrap());
        }
    }
    device.catch_up(&mut me, 100);
    let server: BTreeMap<Uuid, (i32, String)> = me
        .query(
            "SELECT id, version, content FROM engram.list(match_count => 100)",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| (row.get(0), (row.get(1), row.get(2))))
        .collect();
    assert_eq!(device.copy, server, "the copy of user {n}");
    done
}

/// One who cares for the store, and makes partitions of ever later months.
fn care(db: &Database, stop: &AtomicBool) {
    let mut admin = db.admin();
    let mut months = 3;
    while !stop.load(Ordering::Relaxed) {
        let report = maintain(&mut admin);
        for (phase, counts) in report.as_object().unwrap() {
            assert_eq!(counts.get("error"), None, "{phase}");
        }
        months = (months + 1).min(500);
        let made = admin.simple_query(&format!(
            "SELECT engram.create_partitions(now() + interval '{months} months')"
        ));
        if let Err(error) = made {
            assert_eq!(error.code().unwrap().code(), "55P03", "{error:?}");
        }
    }
}

#[test]
fn the_owner_fills_no_table_whose_triggers_are_another_role_s() {
    let db = Database::new();
    let _ann = lived(&db);
    let mut admin = db.admin();
    admin
        .batch_execute(
            "SELECT engram.setup('{\"grant_to\": [\"service_role\"]}');
             CREATE SCHEMA attic AUTHORIZATION service_role;
             CREATE TABLE public.ran (by text); GRANT INSERT ON public.ran TO PUBLIC",
        )
        .unwrap();
    let mut service = db.admin();
    service
        .batch_execute("SET SESSION AUTHORIZATION service_role")
        .unwrap();
    service
        .batch_execute(
            "CREATE TABLE attic.uses (LIKE engram.access_log);
             CREATE FUNCTION attic.trap() RETURNS trigger LANGUAGE plpgsql
               AS 'BEGIN INSERT INTO public.ran SELECT current_user; RETURN NULL; END';
             CREATE TRIGGER trap BEFORE INSERT ON attic.uses FOR EACH STATEMENT EXECUTE FUNCTION attic.trap()",
        )
        .unwrap();
    let before = partitions(&mut admin, "access_log");
    let into = "SELECT moved_to FROM engram.detach_partitions('0 days', 'access_log', into_table => 'attic.uses')";
    let failed = failure(service.query(into, &[]));
    assert_eq!(failed.code, "42501");
    assert!(
        failed
            .hint
            .contains("ALTER TABLE attic.uses OWNER TO postgres"),
        "{}",
        failed.hint
    );
    assert_eq!(list(&mut admin, "SELECT by FROM public.ran"), [""; 0]);
    assert_eq!(partitions(&mut admin, "access_log"), before);
    admin
        .batch_execute("DROP TRIGGER trap ON attic.uses; ALTER TABLE attic.uses OWNER TO postgres")
        .unwrap();
    assert_eq!(list(&mut service, into), ["attic.uses"]);
}

#[test]
fn everybody_works_while_partitions_come_and_two_maintain_and_nothing_is_lost() {
    let db = Database::new();
    let stop = AtomicBool::new(false);
    let done = thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|n| {
                let (db, stop) = (&db, &stop);
                scope.spawn(move || work(db, n, stop))
            })
            .collect();
        let carers: Vec<_> = (0..2)
            .map(|_| {
                let (db, stop) = (&db, &stop);
                scope.spawn(move || care(db, stop))
            })
            .collect();
        let begun = Instant::now();
        while begun.elapsed() < soak()
            && !writers.iter().any(|w| w.is_finished())
            && !carers.iter().any(|c| c.is_finished())
        {
            thread::sleep(Duration::from_millis(50));
        }
        stop.store(true, Ordering::Relaxed);
        for carer in carers {
            carer.join().unwrap();
        }
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .fold(Done::default(), |a, b| Done {
                uses: a.uses + b.uses,
                changes: a.changes + b.changes,
                erased: a.erased + b.erased,
            })
    });
    let mut admin = db.admin();
    let report = maintain(&mut admin);
    assert!(
        report
            .as_object()
            .unwrap()
            .values()
            .all(|c| c.get("error").is_none()),
        "{report}"
    );
    assert!(
        done.uses > 50 && done.changes > 3,
        "{} {}",
        done.uses,
        done.changes
    );
    if std::env::var("ENGRAM_SOAK_SECONDS").is_ok() {
        // Past the capture of the test's output: these figures are what a long run is for.
        writeln!(
            std::io::stderr(),
            "{} uses, {} changes, {} erased",
            done.uses,
            done.changes,
            done.erased
        )
        .unwrap();
    }
    // Every use of what is there is in the log and in its state, the first being its storing.
    let (logged, counted): (i64, i64) = {
        let row = admin
            .query_one(
                "SELECT (SELECT count(*) FROM engram.access_log), (SELECT sum(s.access_count - 1)::bigint FROM engram.memory_state s)",
                &[],
            )
            .unwrap();
        (row.get(0), row.get(1))
    };
    assert_eq!(logged, counted);
    assert!(logged <= done.uses);
    // Nothing of what was erased is left but the fact.
    let left: i64 = one(
        &mut admin,
        "SELECT count(*) FROM engram.erasures e WHERE EXISTS (SELECT FROM engram.access_log l WHERE l.memory_id = e.id)
            OR (SELECT count(*) FROM engram.memory_events v WHERE v.memory_id = e.id) <> 1",
        &[],
    );
    assert_eq!(left, 0);
    assert_eq!(
        one::<i64>(&mut admin, "SELECT count(*) FROM engram.erasures", &[]),
        done.erased
    );
    // The history of what is there has no gap.
    let gaps: i64 = one(
        &mut admin,
        "SELECT count(*) FROM engram.memories m
         WHERE (SELECT array_agg(v.version ORDER BY v.version) FROM engram.memory_events v WHERE v.memory_id = m.id)
           IS DISTINCT FROM (SELECT array_agg(i) FROM generate_series(1, m.version) i)",
        &[],
    );
    assert_eq!(gaps, 0);
    assert_eq!(
        one::<i64>(
            &mut admin,
            "SELECT count(*) FROM engram.access_log_default",
            &[]
        ),
        0
    );
    // Nothing vacuums here.
    let wrong: Vec<String> = alerts(&mut admin)
        .into_iter()
        .filter(|code| code != "dead_rows")
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

// --- forgetting for real ------------------------------------------------------------------------

#[test]
fn retention_policies_take_what_they_say_and_never_what_is_pinned() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let mut bob = db.user("bob");
    let mut admin = db.admin();
    add(&mut bob, "Bob's old opinion");
    for i in 0..6 {
        let sql = format!(
            "SELECT engram.add('opinion {i}', type => 'opinion', importance => {})",
            f64::from(i) / 10.0
        );
        ann.batch_execute(&sql).unwrap();
    }
    for i in 0..4 {
        add(&mut ann, &format!("fact {i}"));
    }
    // Opinions are 1 to 6 days old, facts 100.
    admin
        .batch_execute(
            "SET session_replication_role = replica;
             UPDATE engram.memories SET created_at = now() - interval '1 day' * (1 + right(content, 1)::int) WHERE type = 'opinion';
             UPDATE engram.memories SET created_at = now() - interval '100 days' WHERE type = 'factual';
             RESET session_replication_role;",
        )
        .unwrap();
    ann.batch_execute(
        "SELECT engram.pin(id) FROM engram.list('{\"content\": \"opinion 5\"}');
         SELECT engram.set_retention('opinions', max_count => 3, types => '{opinion}', max_importance => 0.45);
         SELECT engram.set_retention('old', max_age => '30 days', action => 'erase');
         SELECT engram.set_retention('useless', max_age => '1 day');
         SELECT engram.drop_retention('useless')",
    )
    .unwrap();
    let contents = |client: &mut Client| {
        list(
            client,
            "SELECT content FROM engram.list(match_count => 100) ORDER BY content",
        )
    };
    let before = contents(&mut ann);
    let planned = list(
        &mut ann,
        "SELECT concat_ws(' ', policy, action, memories) FROM engram.apply_retention(dry_run => true)",
    );
    assert_eq!(planned, ["old erase 4", "opinions forget 2"]);
    assert_eq!(contents(&mut ann), before);
    // Of the opinions of at most 0.45 (0 to 4) the newest three stay; 5 is more important, and pinned.
    assert_eq!(maintain(&mut admin)["retention"]["erased"], 4);
    assert_eq!(
        contents(&mut ann),
        ["opinion 0", "opinion 1", "opinion 2", "opinion 5"]
    );
    assert_eq!(contents(&mut bob), ["Bob's old opinion"]);
    // Forgotten comes back, erased does not.
    let back: i64 = one(
        &mut ann,
        "SELECT count(*) FROM engram.list(include => '{forgotten}') m WHERE m.deleted_at IS NOT NULL AND engram.restore(m.id)",
        &[],
    );
    assert_eq!(back, 2);
    // A moment ahead would take more.
    let later = list(
        &mut ann,
        "SELECT concat_ws(' ', policy, memories) FROM engram.apply_retention(true, now() + interval '1 year')",
    );
    assert_eq!(later, ["old 5", "opinions 2"]);
    // What is forgotten goes before what is not.
    let mut eve = db.user("eve");
    for content in ["a", "b", "c", "d"] {
        add(&mut eve, content);
    }
    eve.batch_execute(
        "SELECT engram.forget(id) FROM engram.list() WHERE content IN ('c', 'd');
         SELECT engram.set_retention('two', max_count => 2, action => 'erase')",
    )
    .unwrap();
    assert_eq!(
        one::<i64>(
            &mut eve,
            "SELECT memories FROM engram.apply_retention()",
            &[]
        ),
        2
    );
    assert_eq!(contents(&mut eve), ["a", "b"]);
    for (call, hint) in [
        ("SELECT engram.set_retention('x')", "max_age"),
        (
            "SELECT engram.set_retention('', '1 day')",
            "Name the policy",
        ),
        ("SELECT engram.set_retention('x', '-1 day')", "0 or more"),
        (
            "SELECT engram.set_retention('x', '1 day', types => '{rumour}')",
            "factual",
        ),
        (
            "SELECT engram.set_retention('x', '1 day', action => 'burn')",
            "erase",
        ),
        (
            "SELECT engram.set_retention('x', '1 day', max_importance => 7)",
            "from 0",
        ),
        (
            "SELECT engram.set_retention('x', '1 day', max_importance => 'NaN')",
            "from 0",
        ),
        (
            "SELECT engram.set_retention('x', '1 day', types => ARRAY['factual', NULL])",
            "factual",
        ),
    ] {
        let failed = failure(ann.simple_query(call));
        assert_eq!(failed.code, "22023", "{call}");
        assert!(failed.hint.contains(hint), "{call}: {}", failed.hint);
    }
}

#[test]
fn a_dry_run_writes_nothing_and_waits_for_nobody() {
    let db = Database::new();
    let mut ann = db.user("ann");
    ann.batch_execute(
        "SELECT engram.forget(engram.add('old'));
         SELECT engram.set_retention('few', max_count => 0);
         SELECT engram.append_messages('[{\"content\": \"said\"}]', 's')",
    )
    .unwrap();
    ann.batch_execute("BEGIN READ ONLY").unwrap();
    for (call, n) in [
        ("SELECT count(*) FROM engram.purge('0', dry_run => true)", 1),
        (
            "SELECT memories FROM engram.apply_retention(dry_run => true)",
            0,
        ),
        (
            "SELECT count(*) FROM engram.erase(filter => '{\"created_at\": {\"exists\": true}}', dry_run => true)",
            1,
        ),
        (
            "SELECT archived FROM engram.archive_messages('0', 0, dry_run => true)",
            1,
        ),
        (
            "SELECT messages FROM engram.erase_messages('s', dry_run => true)",
            1,
        ),
    ] {
        assert_eq!(one::<i64>(&mut ann, call, &[]), n, "{call}");
    }
    ann.batch_execute("ROLLBACK").unwrap();
    let mut admin = db.admin();
    admin.batch_execute("BEGIN READ ONLY").unwrap();
    for call in [
        "SELECT count(*) FROM engram.drop_partitions('10 years', dry_run => true)",
        "SELECT count(*) FROM engram.detach_partitions('10 years', 'access_log', into_schema => 'extensions', dry_run => true)",
        "SELECT archived FROM engram.archive_messages('10 years', dry_run => true)",
    ] {
        assert_eq!(one::<i64>(&mut admin, call, &[]), 0, "{call}");
    }
}

#[test]
fn what_is_forgotten_or_expired_for_long_is_purged() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let mut admin = db.admin();
    for content in ["kept", "forgotten", "expired"] {
        add(&mut ann, content);
    }
    ann.batch_execute(
        "SELECT engram.forget(id) FROM engram.list('{\"content\": \"forgotten\"}');
         SELECT engram.update(id, expires_at => now() + interval '1 millisecond') FROM engram.list('{\"content\": \"expired\"}');
         SELECT pg_sleep(0.01)",
    )
    .unwrap();
    let all = "SELECT content FROM engram.memories ORDER BY content";
    assert_eq!(list(&mut ann, "SELECT reason FROM engram.purge()"), [""; 0]);
    maintain(&mut admin);
    assert_eq!(list(&mut ann, all).len(), 3, "nothing is purged by itself");
    assert_eq!(
        list(
            &mut ann,
            "SELECT reason FROM engram.purge('30 days', true, now() + interval '31 days') ORDER BY 1"
        ),
        ["expired", "forgotten"]
    );
    ann.batch_execute("SELECT engram.configure('{\"purge_after_days\": 0}')")
        .unwrap();
    let report = maintain(&mut admin);
    assert_eq!(report["purge"]["expired"], 1, "{report}");
    assert_eq!(report["purge"]["forgotten"], 1, "{report}");
    assert_eq!(list(&mut ann, all), ["kept"]);
}

#[test]
fn erasing_leaves_no_trace_but_the_tombstone_and_gives_a_receipt() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let id: Uuid = one(
        &mut ann,
        "SELECT engram.add('The quizzaciously secret canary', embedding => '[1,2,3]', entities => '{Quizzaciously}')",
        &[],
    );
    let other = add(&mut ann, "something else");
    ann.execute("SELECT engram.update($1, content => 'The quizzaciously changed canary', embedding => '[3,2,1]')", &[&id]).unwrap();
    ann.execute("SELECT engram.link($1, $2, 'because')", &[&other, &id])
        .unwrap();
    let recall = Uuid::now_v7();
    for _ in 0..3 {
        ann.execute(
            "SELECT engram.touch($1, recall_id => $2)",
            &[&vec![id, other], &recall],
        )
        .unwrap();
    }
    ann.execute("SELECT engram.touch($1)", &[&vec![id, other]])
        .unwrap();
    ann.batch_execute("SELECT * FROM engram.consolidate()")
        .unwrap();
    ann.execute("SELECT engram.touch($1)", &[&vec![id, other]])
        .unwrap();
    let dry: Value = one(
        &mut ann,
        "SELECT removed FROM engram.erase(ARRAY[$1::uuid], dry_run => true)",
        &[&id],
    );
    let row = ann
        .query_one(
            "SELECT removed, erased_at IS NOT NULL FROM engram.erase(ARRAY[$1::uuid])",
            &[&id],
        )
        .unwrap();
    let removed: Value = row.get(0);
    assert_eq!(removed, dry);
    assert_eq!(
        removed,
        json!({"embeddings": 1, "state": 1, "links": 1, "typed_links": 2, "uses": 3, "events": 2})
    );
    assert!(row.get::<_, bool>(1));
    // Every row of every table, its bytes included.
    let mut admin = db.admin();
    let mut found = Vec::new();
    for table in list(
        &mut admin,
        "SELECT c.oid::regclass::text FROM pg_class c WHERE c.relnamespace = 'engram'::regnamespace AND c.relkind = 'r' ORDER BY 1",
    ) {
        let hits: i64 = one(
            &mut admin,
            &format!(
                "SELECT count(*) FROM {table} t WHERE lower(t::text) LIKE '%quizzaciously%' OR t::text LIKE '%' || $1::text || '%'
                   OR t::text LIKE '%' || encode(uuid_send($1::text::uuid), 'hex') || '%'"
            ),
            &[&id.to_string()],
        );
        if hits > 0 {
            found.push(format!("{table} {hits}"));
        }
    }
    let month: String = one(
        &mut admin,
        "SELECT 'engram.memory_events_p' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMM') || '01 1'",
        &[],
    );
    assert_eq!(found, ["engram.erasures 1".to_owned(), month]);
    let again = failure(ann.query("SELECT engram.add('back', id => $1)", &[&id]));
    assert_eq!(again.code, "23505");
}

// --- maintain() ---------------------------------------------------------------------------------

#[test]
fn a_phase_that_fails_is_reported_and_keeps_no_other_from_running() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let mut admin = db.admin();
    let mut bob = db.user("bob");
    for user in [&mut ann, &mut bob] {
        let id = add(user, "to be purged");
        user.execute("SELECT engram.forget($1)", &[&id]).unwrap();
        user.batch_execute(
            "SELECT engram.configure('{\"purge_after_days\": 0}'); SELECT engram.add('too much');
             SELECT engram.set_retention('no opinions', types => '{opinion}', max_count => 0, action => 'erase');
             SELECT engram.add('an opinion', type => 'opinion')",
        )
        .unwrap();
    }
    let anns: Uuid = one(&mut ann, "SELECT user_id FROM engram.whoami()", &[]);
    ann.execute("SELECT engram.touch(ARRAY[engram.add('used')])", &[])
        .unwrap();
    admin
        .batch_execute(&format!(
            "CREATE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''not today''; END';
             CREATE TRIGGER no BEFORE DELETE ON engram.memories FOR EACH ROW WHEN (OLD.workspace_id = '{anns}') EXECUTE FUNCTION public.no()"
        ))
        .unwrap();
    let report = maintain(&mut admin);
    // Of whoever cannot be cared for; the others are.
    let error = format!("workspace {anns}: not today");
    assert_eq!(report["purge"]["error"], error, "{report}");
    assert_eq!(report["purge"]["forgotten"], 1, "{report}");
    assert_eq!(report["retention"]["error"], error, "{report}");
    assert_eq!(report["retention"]["erased"], 1, "{report}");
    assert_eq!(report["fold"]["folded"], 1, "{report}");
    assert!(report["drop_partitions"]["dropped"].is_number(), "{report}");
    assert_eq!(alerts(&mut admin), ["maintenance_failed"; 2]);
    admin
        .batch_execute("DROP TRIGGER no ON engram.memories")
        .unwrap();
    let report = maintain(&mut admin);
    assert_eq!(report["purge"]["forgotten"], 1, "{report}");
    assert_eq!(report["retention"]["erased"], 1, "{report}");
    assert!(alerts(&mut admin).is_empty());
    let failed = failure(admin.simple_query("CALL engram.maintain('{dance}')"));
    assert_eq!(failed.code, "22023");
    assert!(failed.hint.contains("consolidate"), "{}", failed.hint);
    assert_eq!(
        failure(ann.simple_query("CALL engram.maintain()")).code,
        "42501"
    );
}

#[test]
fn what_one_user_does_keeps_nobody_else_from_being_cared_for() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let mut bob = db.user("bob");
    let mut admin = db.admin();
    ann.batch_execute(
        "SELECT engram.touch(ARRAY[engram.add('mine')]);
         SELECT engram.set_retention('an eternity', max_age => '170000000 years');
         UPDATE engram.memory_state SET base = '{\"x\": 1}'",
    )
    .unwrap();
    bob.batch_execute(
        "SELECT engram.touch(ARRAY[engram.add('used')]);
         SELECT engram.set_retention('nothing stays', max_count => 0)",
    )
    .unwrap();
    // Nor does a table that has lost a part.
    admin
        .batch_execute("ALTER TABLE engram.messages DETACH PARTITION engram.messages_default")
        .unwrap();
    let report = maintain(&mut admin);
    let error = report["consolidate"]["error"].as_str().unwrap_or_default();
    assert!(
        error.contains("workspace") && error.contains("base"),
        "{report}"
    );
    let error = report["fold"]["error"].as_str().unwrap_or_default();
    assert!(error.contains("workspace"), "{report}");
    assert_eq!(report["fold"]["folded"], 1, "{report}");
    assert_eq!(report["retention"]["forgotten"], 1, "{report}");
    assert!(
        report["partitions"]["error"]
            .as_str()
            .is_some_and(|e| e.contains("default partition")),
        "{report}"
    );
    let mend = list(
        &mut admin,
        "SELECT substring(a ->> 'hint' FROM 'ALTER TABLE.*') FROM jsonb_array_elements(engram.health() -> 'alerts') a
         WHERE a ->> 'code' = 'default_partition_missing'",
    );
    admin.batch_execute(&mend.join("")).unwrap();
    ann.batch_execute("UPDATE engram.memory_state SET base = NULL")
        .unwrap();
    // What nobody is old enough for takes nothing, and is no error.
    for call in [
        "SELECT count(*) FROM engram.apply_retention() WHERE memories > 0",
        "SELECT count(*) FROM engram.purge('170000000 years')",
        "SELECT archived FROM engram.archive_messages('170000000 years')",
    ] {
        assert_eq!(one::<i64>(&mut ann, call, &[]), 0, "{call}");
    }
    assert_eq!(
        list(
            &mut admin,
            "SELECT partition FROM engram.drop_partitions('170000000 years')"
        ),
        [""; 0]
    );
    // Turns of a far future wait where they are, and nobody is warned of them.
    ann.batch_execute("SELECT engram.append_messages('[{\"content\": \"later\", \"created_at\": \"2200-01-01\"}]', 's')")
        .unwrap();
    let report = maintain(&mut admin);
    for (phase, did) in report.as_object().unwrap() {
        assert!(did.get("error").is_none(), "{phase}: {report}");
    }
    assert!(alerts(&mut admin).is_empty(), "{:?}", alerts(&mut admin));
}

#[test]
fn what_cannot_be_consolidated_keeps_no_other_workspace_from_it() {
    let db = Database::new();
    let mut admin = db.admin();
    let warnings = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&warnings);
    let mut listener = Config::new()
        .host_path(&shared().directory)
        .user("postgres")
        .dbname(&db.name)
        .notice_callback(move |notice| sink.lock().unwrap().push(notice))
        .connect(NoTls)
        .unwrap();
    let mut workspaces = Vec::new();
    let mut users: Vec<Client> = ["ann", "bob", "cid"]
        .iter()
        .map(|name| {
            let mut user = db.user(name);
            user.batch_execute("SELECT engram.touch(ARRAY[engram.add('used')])")
                .unwrap();
            workspaces.push((
                one::<Uuid>(&mut user, "SELECT engram.current_user_id()", &[]),
                user,
            ));
            workspaces.sort_by_key(|w| w.0);
            db.user(name)
        })
        .collect();
    // Neither the first nor the last.
    let broken = workspaces[1].0;
    admin
        .execute(
            "UPDATE engram.memory_state SET base = '{\"x\": 1}' WHERE workspace_id = $1",
            &[&broken],
        )
        .unwrap();
    let told = |warnings: &Mutex<Vec<postgres::error::DbError>>| {
        let warnings = std::mem::take(&mut *warnings.lock().unwrap());
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let warning = &warnings[0];
        assert!(
            warning.severity() == "WARNING"
                && warning.message().contains(&broken.to_string())
                && warning.message().contains("base")
                && warning.hint().is_some_and(|h| !h.is_empty()),
            "{warning:?}"
        );
    };
    for (call, folded) in [
        ("SELECT folded FROM engram.consolidate(dry_run => true)", 2),
        ("SELECT folded FROM engram.consolidate(batch_size => 1)", 2),
        ("SELECT folded FROM engram.consolidate()", 0),
    ] {
        assert_eq!(one::<i64>(&mut listener, call, &[]), folded, "{call}");
        told(&warnings);
    }
    assert_eq!(
        list(
            &mut admin,
            "SELECT workspace_id::text FROM engram.access_queue"
        ),
        [broken.to_string()]
    );
    for user in &mut users {
        user.batch_execute("SELECT engram.touch(ARRAY(SELECT id FROM engram.memories))")
            .unwrap();
    }
    listener
        .batch_execute("CALL engram.consolidate_in_batches()")
        .unwrap();
    told(&warnings);
    assert_eq!(
        list(
            &mut admin,
            "SELECT DISTINCT workspace_id::text FROM engram.access_queue"
        ),
        [broken.to_string()]
    );
    // By itself it fails, whoever asks. The server tells of an error before it has let go of what the call held, and
    // what is held is left out: each is waited for.
    let fails = |client: &mut Client, call: &str| {
        let error = failure(client.simple_query(call));
        client.simple_query("SELECT").unwrap();
        assert!(error.message.contains("base"), "{call}: {error:?}");
    };
    let (_, owner) = workspaces.iter_mut().find(|w| w.0 == broken).unwrap();
    fails(
        &mut admin,
        &format!("SELECT * FROM engram.consolidate('{broken}')"),
    );
    fails(owner, "SELECT * FROM engram.consolidate()");
    fails(owner, "CALL engram.consolidate_in_batches()");
    // What is wrong with the call is no matter of one workspace.
    for call in [
        "CALL engram.consolidate_in_batches(0)",
        "CALL engram.consolidate_in_batches(at => '4714-11-24 BC')",
        "SELECT * FROM engram.consolidate(batch_size => 0)",
    ] {
        let failed = failure(listener.simple_query(call));
        assert_eq!(failed.code, "22023", "{call}: {failed:?}");
    }
    let failed =
        failure(listener.simple_query("BEGIN READ ONLY; SELECT * FROM engram.consolidate()"));
    assert_eq!(failed.code, "25006", "{failed:?}");
    assert!(warnings.lock().unwrap().is_empty());
}

#[test]
fn quiet_conversations_are_archived_when_the_settings_say_so() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let mut admin = db.admin();
    ann.batch_execute(
        "SELECT count(*) FROM engram.append_messages((SELECT jsonb_agg(jsonb_build_object('role', 'user', 'content', 'turn ' || i,
           'created_at', now() - interval '40 days' + i * interval '1 minute')) FROM generate_series(1, 60) i), 'chat')",
    )
    .unwrap();
    let hot = "SELECT count(*) FROM engram.messages";
    assert_eq!(maintain(&mut admin)["messages"]["archived"], 0);
    admin
        .batch_execute("SELECT engram.configure('{\"archive_messages_days\": 30}', '00000000-0000-0000-0000-000000000000')")
        .unwrap();
    assert_eq!(maintain(&mut admin)["messages"]["archived"], 10);
    assert_eq!(one::<i64>(&mut ann, hot, &[]), 50);
    assert_eq!(
        one::<i64>(&mut ann, "SELECT engram.restore_messages('chat')", &[]),
        10
    );
    assert_eq!(one::<i64>(&mut ann, hot, &[]), 60);
}

#[test]
fn maintenance_that_is_cancelled_goes_on_where_it_was() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let mut admin = db.admin();
    ann.batch_execute(
        "SELECT count(*) FROM engram.add_many((SELECT jsonb_agg(jsonb_build_object('content', 'note ' || i)) FROM generate_series(1, 2500) i));
         UPDATE engram.memories SET deleted_at = now();
         SELECT engram.configure('{\"purge_after_days\": 0}')",
    )
    .unwrap();
    // The second batch takes long.
    admin
        .batch_execute(
            "CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS
               'BEGIN IF (SELECT count(*) FROM engram.memories) <= 1500 THEN PERFORM pg_sleep(30); END IF; RETURN OLD; END';
             CREATE TRIGGER slow BEFORE DELETE ON engram.memories FOR EACH ROW EXECUTE FUNCTION public.slow();
             SET statement_timeout = '20s'",
        )
        .unwrap();
    let begun = Instant::now();
    let mut canceller = db.admin();
    thread::scope(|scope| {
        let cancelled =
            scope.spawn(|| failure(admin.simple_query("CALL engram.maintain('{purge}')")));
        while one::<i64>(&mut canceller, "SELECT count(*) FROM engram.memories", &[]) > 1500 {
            assert!(begun.elapsed() < Duration::from_secs(60));
            thread::sleep(Duration::from_millis(20));
        }
        canceller
            .batch_execute("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CALL engram.maintain%' AND datname = current_database() AND pid <> pg_backend_pid()")
            .unwrap();
        assert_eq!(cancelled.join().unwrap().code, "57014");
    });
    assert_eq!(
        one::<i64>(&mut canceller, "SELECT count(*) FROM engram.memories", &[]),
        1500,
        "what was done stays done"
    );
    canceller
        .batch_execute("DROP TRIGGER slow ON engram.memories")
        .unwrap();
    assert_eq!(maintain(&mut canceller)["purge"]["forgotten"], 1500);
}

#[test]
fn pg_cron_is_given_the_job_where_it_is_there() {
    let db = Database::new();
    let mut admin = db.admin();
    let failed = failure(admin.query("SELECT engram.schedule_maintenance()", &[]));
    assert_eq!(failed.code, "55000");
    assert!(failed.hint.contains("pg_cron"), "{}", failed.hint);
    // Its interface, as its documentation has it.
    admin
        .batch_execute(
            "CREATE SCHEMA cron;
             CREATE TABLE cron.job (jobid bigserial, jobname text, schedule text, command text, username text DEFAULT current_user, UNIQUE (jobname, username));
             CREATE FUNCTION cron.schedule(job_name text, schedule text, command text) RETURNS bigint LANGUAGE sql AS
               'INSERT INTO cron.job (jobname, schedule, command) VALUES ($1, $2, $3)
                ON CONFLICT (jobname, username) DO UPDATE SET schedule = EXCLUDED.schedule, command = EXCLUDED.command RETURNING jobid';
             CREATE FUNCTION cron.unschedule(job_name text) RETURNS boolean LANGUAGE sql AS
               'DELETE FROM cron.job WHERE jobname = $1 RETURNING true'",
        )
        .unwrap();
    let job: i64 = one(&mut admin, "SELECT engram.schedule_maintenance()", &[]);
    assert_eq!(
        one::<i64>(
            &mut admin,
            "SELECT engram.schedule_maintenance('0 3 * * *')",
            &[]
        ),
        job
    );
    assert_eq!(
        list(
            &mut admin,
            "SELECT concat_ws(' | ', schedule, command) FROM cron.job"
        ),
        ["0 3 * * * | CALL engram.maintain()"]
    );
    // What it was given runs as it stands.
    let command = list(&mut admin, "SELECT command FROM cron.job").remove(0);
    admin.batch_execute(&command).unwrap();
    for there in [true, false] {
        assert_eq!(
            one::<bool>(&mut admin, "SELECT engram.unschedule_maintenance()", &[]),
            there
        );
    }
}

#[test]
fn maintenance_is_done_whatever_isolation_sessions_begin_with() {
    let db = Database::new();
    let mut ann = db.user("ann");
    for level in ["serializable", "repeatable read"] {
        let id = add(&mut ann, &format!("kept under {level}"));
        for _ in 0..3 {
            ann.execute("SELECT engram.touch(ARRAY[$1]::uuid[])", &[&id])
                .unwrap();
        }
        let mut admin = db.admin();
        admin
            .batch_execute(&format!("SET default_transaction_isolation = '{level}'"))
            .unwrap();
        let waiting = "SELECT count(*) FROM engram.access_queue";
        assert_eq!(one::<i64>(&mut admin, waiting, &[]), 3);
        admin.batch_execute("CALL engram.maintain()").unwrap();
        assert_eq!(one::<i64>(&mut admin, waiting, &[]), 0, "{level}");
        ann.execute("SELECT engram.touch(ARRAY[$1]::uuid[])", &[&id])
            .unwrap();
        admin
            .batch_execute("CALL engram.consolidate_in_batches()")
            .unwrap();
        assert_eq!(one::<i64>(&mut admin, waiting, &[]), 0, "{level}");
        assert_eq!(
            one::<String>(&mut admin, "SHOW transaction_isolation", &[]),
            level
        );
    }
}

#[test]
fn a_worker_maintains_the_databases_that_it_is_told() {
    let cluster = Cluster::create(Installation::current(), "worker");
    cluster.configure("shared_preload_libraries = 'engram'\nengram.worker_databases = 'postgres, elsewhere'\nengram.worker_interval = 1\n");
    cluster.up();
    let mut admin = cluster.connect("postgres", "postgres");
    admin
        .batch_execute(
            "CREATE ROLE app LOGIN; SET client_min_messages = warning; CREATE EXTENSION engram CASCADE;
             SELECT engram.setup('{\"grant_to\": [\"app\"]}');
             BEGIN; SET LOCAL ROLE app; SET LOCAL engram.user_id = 'ann';
             SELECT engram.touch(ARRAY[engram.add('used')]); COMMIT",
        )
        .unwrap();
    let begun = Instant::now();
    let folded = "SELECT count(*) FROM engram.access_log WHERE kind = 'used'";
    while one::<i64>(&mut admin, folded, &[]) == 0
        || one::<i64>(
            &mut admin,
            "SELECT count(*) FROM engram.maintenance WHERE maintained_at IS NOT NULL",
            &[],
        ) == 0
    {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{:?}",
            list(
                &mut admin,
                "SELECT concat_ws(' ', backend_type, datname, query) FROM pg_stat_activity"
            )
        );
        thread::sleep(Duration::from_millis(50));
    }
    assert!(alerts(&mut admin).is_empty(), "{:?}", alerts(&mut admin));
    // It does not hold a shutdown up.
    drop(admin);
    cluster.down("fast");
    cluster.up();
}

// --- health -------------------------------------------------------------------------------------

#[test]
fn health_sees_what_is_wrong_and_monitors_may_look() {
    let db = Database::new();
    let mut admin = db.admin();
    maintain(&mut admin);
    let status = "SELECT engram.health() ->> 'status'";
    assert_eq!(one::<String>(&mut admin, status, &[]), "ok");
    for (harm, code, level, mend) in [
        (
            "ALTER TABLE engram.memories DISABLE ROW LEVEL SECURITY",
            "row_security_off",
            "critical",
            "ALTER TABLE engram.memories ENABLE ROW LEVEL SECURITY",
        ),
        (
            "GRANT SELECT ON engram.settings TO PUBLIC",
            "open_to_all",
            "warning",
            "REVOKE ALL ON engram.settings FROM PUBLIC",
        ),
        (
            "SELECT engram.configure('{\"size_limit_bytes\": 1000}', '00000000-0000-0000-0000-000000000000')",
            "database_size",
            "critical",
            "SELECT engram.configure('{\"size_limit_bytes\": null}', '00000000-0000-0000-0000-000000000000')",
        ),
        (
            "UPDATE engram.settings SET size_limit_bytes = pg_database_size(current_database()) / 0.8 WHERE workspace_id = '00000000-0000-0000-0000-000000000000'",
            "database_size",
            "warning",
            "UPDATE engram.settings SET size_limit_bytes = NULL",
        ),
        (
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'engram.memories_created_idx'::regclass",
            "index_invalid",
            "warning",
            "UPDATE pg_index SET indisvalid = true WHERE indexrelid = 'engram.memories_created_idx'::regclass",
        ),
        (
            "UPDATE engram.maintenance SET maintained_at = now() - interval '2 days'",
            "maintenance_overdue",
            "warning",
            "UPDATE engram.maintenance SET maintained_at = now() - interval '8 days'",
        ),
        (
            "SELECT 1",
            "maintenance_overdue",
            "critical",
            "UPDATE engram.maintenance SET maintained_at = now()",
        ),
        (
            "ALTER TABLE engram.access_log DETACH PARTITION engram.access_log_default",
            "default_partition_missing",
            "critical",
            "ALTER TABLE engram.access_log ATTACH PARTITION engram.access_log_default DEFAULT",
        ),
        (
            "INSERT INTO engram.search_blocks SELECT gen_random_uuid(), '', 1, 0, gen_random_uuid(), 1, '' FROM generate_series(1, 10);
             UPDATE engram.search_blocks SET workspace_id = (SELECT workspace_id FROM engram.search_blocks LIMIT 1);
             INSERT INTO engram.search_blocks SELECT (SELECT workspace_id FROM engram.search_blocks LIMIT 1), '', 1, 0, gen_random_uuid(), 1, '' FROM generate_series(1, 600)",
            "unpacked",
            "warning",
            "DELETE FROM engram.search_blocks",
        ),
    ] {
        admin.batch_execute(harm).unwrap();
        assert_eq!(alerts(&mut admin), [code], "{harm}");
        assert_eq!(one::<String>(&mut admin, status, &[]), level, "{harm}");
        let without: i64 = one(
            &mut admin,
            "SELECT count(*) FROM jsonb_array_elements(engram.health() -> 'alerts') a WHERE coalesce(a ->> 'hint', '') = '' OR coalesce(a ->> 'message', '') = ''",
            &[],
        );
        assert_eq!(without, 0);
        admin.batch_execute(mend).unwrap();
    }
    assert_eq!(one::<String>(&mut admin, status, &[]), "ok");

    admin
        .batch_execute(
            "DO $$ BEGIN CREATE ROLE exporter LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
             GRANT pg_monitor TO exporter; GRANT USAGE ON SCHEMA engram TO exporter; GRANT SELECT ON engram.metrics TO exporter;
             GRANT EXECUTE ON FUNCTION engram.metric_rows(), engram.health() TO exporter",
        )
        .unwrap();
    let mut exporter = db.connect("exporter");
    assert_eq!(one::<String>(&mut exporter, status, &[]), "ok");
    let metrics = list(
        &mut exporter,
        "SELECT DISTINCT metric FROM engram.metrics ORDER BY 1",
    );
    assert_eq!(
        metrics,
        [
            "alerts",
            "database_bytes",
            "partitions_ahead",
            "seconds_since_maintenance",
            "table_bytes",
            "table_dead_rows",
            "table_rows",
            "uses_waiting"
        ]
    );
    assert_eq!(
        failure(exporter.query("SELECT * FROM engram.memories", &[])).code,
        "42501"
    );
}

// --- realtime -----------------------------------------------------------------------------------

#[test]
fn realtime_hears_of_changes_and_of_nothing_else() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let mut admin = db.admin();
    for (mode, hint) in [("changes", "CREATE PUBLICATION"), ("broadcast", "Realtime")] {
        let failed = failure(admin.query("SELECT engram.enable_realtime($1)", &[&mode]));
        assert_eq!(failed.code, "55000");
        assert!(failed.hint.contains(hint), "{}", failed.hint);
    }
    admin
        .batch_execute(
            "CREATE PUBLICATION supabase_realtime; CREATE SCHEMA realtime;
             CREATE TABLE realtime.messages (topic text, event text, payload jsonb, private boolean, extension text DEFAULT 'broadcast', n serial);
             CREATE FUNCTION realtime.topic() RETURNS text LANGUAGE sql AS 'SELECT current_setting(''realtime.topic'', true)';
             CREATE FUNCTION realtime.send(payload jsonb, event text, topic text, private boolean DEFAULT true) RETURNS void LANGUAGE sql
               AS 'INSERT INTO realtime.messages VALUES ($3, $2, $1, $4)'",
        )
        .unwrap();
    for mode in ["changes", "broadcast"] {
        for outcome in ["enabled", "unchanged"] {
            assert_eq!(
                one::<String>(&mut admin, "SELECT engram.enable_realtime($1)", &[&mode]),
                outcome
            );
        }
    }
    assert_eq!(
        list(
            &mut admin,
            "SELECT tablename::text FROM pg_publication_tables WHERE pubname = 'supabase_realtime'"
        ),
        ["memories"]
    );
    let id = add(&mut ann, "heard");
    let me: Uuid = one(&mut ann, "SELECT engram.current_user_id()", &[]);
    ann.execute("SELECT engram.update($1, summary => 'heard too')", &[&id])
        .unwrap();
    // Uses, layers and vectors are nobody's news.
    ann.execute("SELECT engram.touch(ARRAY[$1::uuid])", &[&id])
        .unwrap();
    ann.execute("SELECT engram.set_embedding($1, '[1,2,3]')", &[&id])
        .unwrap();
    ann.batch_execute("SELECT * FROM engram.consolidate(at => now() + interval '200 days')")
        .unwrap();
    let layer: String = one(
        &mut admin,
        "SELECT layer FROM engram.memories WHERE id = $1",
        &[&id],
    );
    assert_ne!(layer, "working", "it has moved");
    ann.execute("SELECT engram.forget($1)", &[&id]).unwrap();
    ann.execute("SELECT engram.restore($1)", &[&id]).unwrap();
    ann.execute("SELECT * FROM engram.erase(ARRAY[$1::uuid])", &[&id])
        .unwrap();
    let heard = list(
        &mut admin,
        "SELECT concat_ws(' ', topic, event, private, payload ->> 'op', payload -> 'ids') FROM realtime.messages ORDER BY n",
    );
    let message = |op: &str| format!("engram:{me} memories t {op} [\"{id}\"]");
    assert_eq!(
        heard,
        ["INSERT", "UPDATE", "DELETE", "INSERT", "DELETE"].map(message)
    );
    // Who may join: only whose topic it is.
    admin
        .batch_execute("ALTER TABLE realtime.messages ENABLE ROW LEVEL SECURITY; GRANT USAGE ON SCHEMA realtime TO app; GRANT SELECT ON realtime.messages TO app")
        .unwrap();
    let mut bob = db.user("bob");
    for (client, seen) in [(&mut ann, 5), (&mut bob, 0)] {
        client
            .batch_execute(&format!("SET realtime.topic = 'engram:{me}'"))
            .unwrap();
        assert_eq!(
            one::<i64>(client, "SELECT count(*) FROM realtime.messages", &[]),
            seen
        );
    }
    for mode in ["changes", "broadcast"] {
        for outcome in [true, false] {
            assert_eq!(
                one::<bool>(&mut admin, "SELECT engram.disable_realtime($1)", &[&mode]),
                outcome
            );
        }
    }
    add(&mut ann, "not heard");
    assert_eq!(
        one::<i64>(&mut admin, "SELECT count(*) FROM realtime.messages", &[]),
        5
    );
}

#[test]
fn another_owner_of_the_tables_is_no_end_of_the_work() {
    let db = Database::new();
    let mut admin = db.admin();
    admin
        .batch_execute(
            "DO $$ BEGIN CREATE ROLE heir; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
             SELECT engram.setup('{\"owner\": \"heir\"}')",
        )
        .unwrap();
    // As REASSIGN OWNED leaves it: the tables are the heir's, the rights on functions are not.
    admin
        .batch_execute("REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA engram FROM heir")
        .unwrap();
    let mut ann = db.user("ann");
    ann.batch_execute("INSERT INTO engram.memories (content, layer) VALUES ('tea', 'core'); SELECT engram.consolidate()")
        .unwrap();
    admin.batch_execute("CALL engram.maintain()").unwrap();
    assert_eq!(alerts(&mut admin), ["owner_without_rights"]);
    admin
        .batch_execute("SELECT engram.setup('{\"owner\": \"heir\"}'); ALTER TABLE engram.memories DISABLE TRIGGER memories_after_insert")
        .unwrap();
    assert_eq!(alerts(&mut admin), ["triggers_off"]);
    admin
        .batch_execute("ALTER TABLE engram.memories ENABLE TRIGGER USER")
        .unwrap();
    assert_eq!(alerts(&mut admin), [""; 0]);
}
