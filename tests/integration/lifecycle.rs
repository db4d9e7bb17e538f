//! What happens to the memories over the life of an installation: dumps, restores, DROP EXTENSION,
//! a second setup(), a new major version of the server. The rows, and everything that the user
//! built around them, come through to the byte.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use postgres::Client;

use crate::cluster::{Cluster, Database, Failure, Installation, failure, run, scratch, shared};

// --- what must survive -------------------------------------------------------------------------

/// Everything outside the system catalogs that is no member of an extension: one line per fact.
/// NOT NULL constraints are in the column lines, because only PostgreSQL 18 has them in
/// pg_constraint; likewise MAINTAIN, which 17 adds to what an owner holds.
const CATALOG: &str = r#"
WITH member AS (
  SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
), space AS (
  SELECT n.* FROM pg_namespace n
  WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_namespace'::regclass AND m.objid = n.oid)
), rel AS (
  SELECT c.*, format('%I.%I', s.nspname, c.relname) AS name
  FROM pg_class c JOIN space s ON s.oid = c.relnamespace
  WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_class'::regclass AND m.objid = c.oid)
), routine AS (
  SELECT p.*, format('%I.%I(%s)', s.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) AS name
  FROM pg_proc p JOIN space s ON s.oid = p.pronamespace
  WHERE p.prokind IN ('f', 'p')
    AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_proc'::regclass AND m.objid = p.oid)
), granted AS (
  SELECT 'schema ' || s.nspname AS name, s.nspowner AS owner, coalesce(s.nspacl, acldefault('n', s.nspowner)) AS acl FROM space s
  UNION ALL SELECT r.name, r.relowner, coalesce(r.relacl, acldefault('r', r.relowner)) FROM rel r WHERE r.relkind IN ('r', 'v', 'm', 'p')
  UNION ALL SELECT r.name || '.' || a.attname, r.relowner, a.attacl FROM rel r JOIN pg_attribute a ON a.attrelid = r.oid WHERE a.attacl IS NOT NULL
  UNION ALL SELECT f.name, f.proowner, coalesce(f.proacl, acldefault('f', f.proowner)) FROM routine f
)
SELECT format('owner | schema %s | %s', s.nspname, pg_get_userbyid(s.nspowner)) FROM space s
UNION ALL
SELECT format('owner | %s | %s', r.name, pg_get_userbyid(r.relowner)) FROM rel r
UNION ALL
SELECT format('owner | %s | %s', f.name, pg_get_userbyid(f.proowner)) FROM routine f
UNION ALL
SELECT format('relation | %s | %s rls=%s force=%s %s %s %s', r.name, r.relkind, r.relrowsecurity, r.relforcerowsecurity,
              r.reloptions, r.relpersistence, r.relreplident)
FROM rel r
UNION ALL
SELECT format('column | %s.%I | %s %s notnull=%s default=%s identity=%s generated=%s storage=%s', r.name, a.attname,
              row_number() OVER (PARTITION BY r.oid ORDER BY a.attnum), format_type(a.atttypid, a.atttypmod), a.attnotnull,
              pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attgenerated, a.attstorage)
FROM rel r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
UNION ALL
SELECT format('index | %s | %s valid=%s', i.schemaname || '.' || i.indexname, i.indexdef, x.indisvalid)
FROM pg_indexes i JOIN rel r ON r.name = format('%I.%I', i.schemaname, i.indexname) JOIN pg_index x ON x.indexrelid = r.oid
UNION ALL
SELECT format('policy | %s on %s | %s %s %s using (%s) check (%s)', p.policyname, r.name, p.permissive, p.cmd, p.roles, p.qual, p.with_check)
FROM pg_policies p JOIN rel r ON r.name = format('%I.%I', p.schemaname, p.tablename)
UNION ALL
SELECT format('trigger | %s on %s | %s enabled=%s', t.tgname, r.name, pg_get_triggerdef(t.oid), t.tgenabled)
FROM pg_trigger t JOIN rel r ON r.oid = t.tgrelid WHERE NOT t.tgisinternal
UNION ALL
SELECT format('constraint | %s on %s | %s valid=%s', c.conname, r.name, pg_get_constraintdef(c.oid), c.convalidated)
FROM pg_constraint c JOIN rel r ON r.oid = c.conrelid WHERE c.contype <> 'n'
UNION ALL
SELECT format('function | %s | %s', f.name, pg_get_functiondef(f.oid)) FROM routine f
UNION ALL
SELECT format('comment | %s %s | %s', o.type, o.identity, d.description)
FROM pg_description d, pg_identify_object(d.classoid, d.objoid, d.objsubid) o
WHERE d.objoid >= 16384 AND o.type <> 'extension'
  AND NOT EXISTS (SELECT FROM member m WHERE m.classid = d.classoid AND m.objid = d.objoid)
UNION ALL
SELECT format('grant | %s | %s to %s by %s%s', g.name, a.privilege_type,
              CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee) END, pg_get_userbyid(a.grantor),
              CASE WHEN a.is_grantable THEN ' with grant option' END)
FROM granted g, aclexplode(g.acl) a
WHERE NOT (a.privilege_type = 'MAINTAIN' AND a.grantee = g.owner)
"#;

/// Who may do what with the members of the extension.
const ACCESS: &str = r#"
WITH granted AS (
  SELECT CASE WHEN o.type = 'schema' THEN 'schema ' ELSE '' END || o.identity AS name,
         CASE WHEN o.type = 'schema' THEN coalesce(n.nspacl, acldefault('n', n.nspowner))
              ELSE coalesce(p.proacl, acldefault('f', p.proowner)) END AS acl
  FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'engram'
  CROSS JOIN pg_identify_object(d.classid, d.objid, d.objsubid) o
  LEFT JOIN pg_namespace n ON d.classid = 'pg_namespace'::regclass AND n.oid = d.objid
  LEFT JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
  WHERE d.deptype = 'e' AND o.type IN ('schema', 'function', 'procedure', 'aggregate')
)
SELECT format('grant | %s | %s to %s by %s%s', g.name, a.privilege_type,
              CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee) END, pg_get_userbyid(a.grantor),
              CASE WHEN a.is_grantable THEN ' with grant option' END)
FROM granted g, aclexplode(g.acl) a
"#;

/// The members themselves, as the install script or a chain of upgrades left them.
const MEMBERS: &str = r#"
WITH member AS (
  SELECT d.classid, d.objid, o.type, o.identity
  FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'engram'
  CROSS JOIN pg_identify_object(d.classid, d.objid, d.objsubid) o
  WHERE d.deptype = 'e'
)
SELECT format('member | %s %s | %s', m.type, m.identity, CASE WHEN p.prokind IN ('f', 'p') THEN pg_get_functiondef(p.oid)
              WHEN p.prokind = 'a' THEN (SELECT format('%s %s', to_jsonb(a), p.proparallel) FROM pg_aggregate a WHERE a.aggfnoid = p.oid) END)
FROM member m LEFT JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
UNION ALL
SELECT format('cost | %s | %s rows %s', m.identity, p.procost, p.prorows)
FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
UNION ALL
SELECT format('comment | %s %s | %s', m.type, m.identity, d.description)
FROM member m JOIN pg_description d ON d.classoid = m.classid AND d.objoid = m.objid
UNION ALL
SELECT format('initial privileges | %s | %s to %s', m.identity, a.privilege_type,
              CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee) END)
FROM member m JOIN pg_init_privs i ON i.classoid = m.classid AND i.objoid = m.objid, aclexplode(i.initprivs) a
"#;

/// Runs queries of one text column and puts the lines in order. Names come out qualified and
/// times in UTC, whatever the session was set to.
fn facts(client: &mut Client, queries: &[String]) -> String {
    let mut transaction = client.transaction().unwrap();
    transaction
        .batch_execute("SET LOCAL search_path = pg_catalog; SET LOCAL timezone = 'UTC'")
        .unwrap();
    let mut lines: Vec<String> = Vec::new();
    for query in queries {
        for row in transaction.query(query, &[]).unwrap() {
            lines.push(row.get::<_, String>(0).replace('\n', "\\n"));
        }
    }
    lines.sort();
    lines.join("\n")
}

/// What is the user's: all rows of all tables, and the definitions, owners, grants and comments of
/// everything that is no member of an extension. Works while the extension is dropped, too.
/// Connect as superuser, because row security hides rows from others.
pub fn store(client: &mut Client) -> String {
    rows_and_catalog(client, true)
}

/// The same; `decoded`: search_blocks by its entries, which takes functions of the extension.
fn rows_and_catalog(client: &mut Client, decoded: bool) -> String {
    let tables = client
        .query(
            "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
               AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')",
            &[],
        )
        .unwrap();
    let mut queries = vec![CATALOG.to_owned()];
    for table in tables {
        let table: String = table.get(0);
        // How entries lie in blocks is nobody's business, and loading rows may lay them anew.
        let rows = if decoded && table == "engram.search_blocks" {
            "(SELECT DISTINCT b.workspace_id, b.model, e.id, e.entry
              FROM (SELECT DISTINCT workspace_id, model FROM engram.search_blocks) b
              CROSS JOIN LATERAL engram_internal.held_entries(b.workspace_id, b.model) e
              WHERE e.state <> 'gone' AND NOT EXISTS (
                SELECT FROM engram_internal.held_entries(b.workspace_id, b.model) n
                WHERE n.id = e.id AND n.version > e.version))"
        } else {
            table.as_str()
        };
        queries.push(format!(
            "SELECT 'row | {table} | ' || row_to_json(t)::text FROM {rows} t"
        ));
    }
    facts(client, &queries)
}

/// All that must survive: [`store`], and who may do what with the extension.
pub fn snapshot(client: &mut Client) -> String {
    let access = facts(client, &[ACCESS.to_owned()]);
    format!("{}\n{access}", store(client))
}

/// All members of the extension with their definitions, costs, privileges and comments: equal for
/// a fresh installation and one that was updated.
pub fn members(client: &mut Client) -> String {
    facts(client, &[MEMBERS.to_owned(), ACCESS.to_owned()])
}

/// Fails unless both snapshots are equal to the byte; shows only what differs.
#[track_caller]
pub fn assert_same(before: &str, after: &str) {
    if before == after {
        return;
    }
    let only_in = |one: &str, other: &str| {
        let other: std::collections::HashSet<&str> = other.lines().collect();
        let lines: Vec<String> = one
            .lines()
            .filter(|line| !other.contains(line))
            .map(|line| line.chars().take(300).collect())
            .collect();
        format!(
            "{} lines:\n{}",
            lines.len(),
            lines[..lines.len().min(30)].join("\n")
        )
    };
    panic!(
        "gone: {}\n\nnew: {}",
        only_in(before, after),
        only_in(after, before)
    );
}

/// The snapshot without owners and grants, for restores that leave them out.
fn without_owners(snapshot: &str) -> String {
    let lines: Vec<&str> = snapshot
        .lines()
        .filter(|line| !line.starts_with("owner |") && !line.starts_with("grant |"))
        .collect();
    lines.join("\n")
}

// --- databases full of it ----------------------------------------------------------------------

/// The roles of these tests. `keeper` owns the database and so the tables; nobody trusts
/// `squatter`.
fn create_roles(cluster: &Cluster) {
    let mut admin = cluster.connect("postgres", "postgres");
    for role in ["app", "outsider", "keeper", "reporter", "squatter"] {
        admin
            .batch_execute(&format!(
                "DO $$ BEGIN CREATE ROLE {role} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
            ))
            .unwrap();
    }
}

/// The shared server with our roles.
fn server() -> &'static Cluster {
    static ROLES: OnceLock<()> = OnceLock::new();
    ROLES.get_or_init(|| create_roles(shared()));
    shared()
}

/// A new database of the shared server, dropped with the value.
fn new_database(options: &str) -> Database {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "life_{}_{}",
        std::process::id(),
        COUNTER.fetch_add(1, Ordering::Relaxed)
    );
    server()
        .connect("postgres", "postgres")
        .batch_execute(&format!("CREATE DATABASE {name} {options}"))
        .unwrap();
    Database { name }
}

/// An empty database.
fn empty() -> Database {
    new_database("OWNER keeper")
}

/// Installs the extension as an administrator does, in a database of `keeper`.
fn install(cluster: &Cluster, database: &str) {
    let mut admin = cluster.connect(database, "postgres");
    admin
        .batch_execute(
            r#"CREATE SCHEMA extensions; GRANT USAGE ON SCHEMA extensions TO PUBLIC;
               CREATE EXTENSION vector SCHEMA extensions;
               CREATE EXTENSION engram CASCADE;
               SELECT engram.setup('{"grant_to": ["app", "reporter"]}');
               SELECT engram.set_embedding_model('tiny', 3)"#,
        )
        .unwrap();
}

const ANNS_TEA: &str = "018f3a2e-0000-7000-8000-000000000001";
const BOBS_BEES: &str = "018f3a2e-0000-7000-8000-00000000000b";
const ERASED: &str = "018f3a2e-0000-7000-8000-0000000000ee";
const SUPABASE_USER: &str = "3f2504e0-4f89-41d3-9a0c-0305e82c3301";

/// Connects as the ordinary role `app` in the name of a user.
fn user(cluster: &Cluster, database: &str, user: &str) -> Client {
    let mut client = cluster.connect(database, "app");
    client
        .execute("SELECT set_config('engram.user_id', $1, false)", &[&user])
        .unwrap();
    client
}

/// Stores memories of several users in every state that a memory can be in, and has the owner of
/// the tables change settings.
fn remember(cluster: &Cluster, database: &str, owner: &str) {
    let mut ann = user(cluster, database, "ann");
    ann.batch_execute(&format!(
        r#"SELECT engram.add('Ann likes green tea', id => '{ANNS_TEA}', type => 'opinion', importance => 0.1::float8 + 0.2::float8,
             embedding => '[0.1,0.2,0.3]', tags => ARRAY['a,b', 'q"uote', '{{brace}}', 'NULL', ''],
             metadata => '{{"quote": "it''s \"so\" \\ here", "deep": [1, {{"x": null}}]}}', occurred_at => '0044-03-15 12:00 BC',
             agent_id => 'agent', session_id => 's1', speaker => 'Ann', role => 'user', source => 'chat',
             entities => ARRAY['Green Tea', 'Kyōto']);
           SELECT engram.update('{ANNS_TEA}', summary => 'tea');
           SELECT engram.add('ann LIKES  green tea', tags => ARRAY['drinks']);
           SELECT engram.add(E'Grüße 東京 ☕\ttab "quotes" back\\slash\n\\.\nlast line', id => '018f3a2e-0000-7000-8000-000000000002');
           SELECT engram.add('Ann once had a boat', id => '018f3a2e-0000-7000-8000-000000000003', embedding => '[3,2,1]');
           SELECT engram.forget('018f3a2e-0000-7000-8000-000000000003');
           SELECT engram.add('Ann was born in May', id => '018f3a2e-0000-7000-8000-000000000004');
           SELECT engram.pin('018f3a2e-0000-7000-8000-000000000004');
           SELECT engram.add('Ann said something foolish', id => '{ERASED}', embedding => '[0,0,1]', entities => ARRAY['Ann']);
           SELECT engram.erase(ids => ARRAY['{ERASED}']::uuid[]);
           SELECT engram.add('Ann hides a diary', tags => ARRAY['secret']);
           SELECT engram.add('The meeting is over', expires_at => '2020-01-01');
           SELECT engram.add('Ann will live', expires_at => 'infinity');
           SELECT engram.touch(ARRAY['018f3a2e-0000-7000-8000-000000000002', '018f3a2e-0000-7000-8000-000000000004']::uuid[],
             recall_id => '018f3a2e-0000-7000-8000-0000000000aa');
           SELECT engram_internal.fold(engram.current_user_id(), 100);
           SELECT engram.rate('018f3a2e-0000-7000-8000-000000000002', 4);
           INSERT INTO engram.entity_aliases (workspace_id, alias, node, label) VALUES (engram.current_user_id(), 'sencha', 'green tea', 'Sencha');
           UPDATE engram.memories SET superseded_by = '{ANNS_TEA}' WHERE content LIKE 'The meeting%';
           SELECT * FROM engram.pending_embeddings(match_count => 1)"#
    ))
    .unwrap();
    ann.batch_execute(
        r#"SELECT * FROM engram.add_many('[{"content": "Ann moved to Oslo", "embedding": [1, 0, 0], "tags": ["move"]},
             {"content": "Oslo is cold", "entities": ["Oslo"], "metadata": {"n": 1e3}}, {"content": ""},
             {"content": "ANN MOVED TO OSLO"}]');
           SELECT engram.append_messages('[{"content": "Old \u00fc words\n\\.", "created_at": "2020-01-01", "metadata": {"n": null}},
             {"content": "Older words", "created_at": "2019-01-01", "speaker": "Ann"}, {"content": "New words"}]', 'talk');
           SELECT engram.append_messages('[{"content": "Said", "created_at": "2019-01-01"}, {"content": "Done", "created_at": "2019-01-02"}]', 'ended');
           SELECT engram.archive_messages(keep => 1);
           INSERT INTO engram.memories (content, layer, valid_from) VALUES ('Stored by a plain INSERT', 'core', '2024-02-29')"#,
    )
    .unwrap();
    user(cluster, database, "bob")
        .batch_execute(&format!(
            "SELECT engram.add('Bob keeps bees and drinks tea', id => '{BOBS_BEES}', embedding => '[0,1,0]', entities => ARRAY['Bees']);
             SELECT engram.add('Ann likes green tea')"
        ))
        .unwrap();
    // Somebody whose identity comes from a token.
    cluster
        .connect(database, "app")
        .batch_execute(&format!(
            r#"SELECT set_config('request.jwt.claims', '{{"sub": "{SUPABASE_USER}"}}', false);
               SELECT engram.add('Carol comes by token', embedding => '[0,0,1]')"#
        ))
        .unwrap();
    cluster
        .connect(database, owner)
        .batch_execute(
            "UPDATE engram.settings SET vector_weight = 0.25, bm25_pivot = 31.5;
             INSERT INTO engram.settings (workspace_id, candidates, link_prune)
               SELECT workspace_id, 50, 0.03 FROM engram.memories WHERE content = 'Ann moved to Oslo';
             UPDATE engram.memory_type_settings SET default_importance = 0.35 WHERE type = 'factual'",
        )
        .unwrap();
}

/// What a user builds around the store, done by the owner of the tables.
fn build_around(cluster: &Cluster, database: &str) {
    cluster
        .connect(database, "keeper")
        .batch_execute(
            "ALTER TABLE engram.memories ADD COLUMN mood text DEFAULT 'calm', ADD COLUMN opening text;
             COMMENT ON COLUMN engram.memories.mood IS 'Ours';
             CREATE FUNCTION public.fill_opening() RETURNS trigger LANGUAGE plpgsql AS $$
               BEGIN NEW.opening := split_part(NEW.content, ' ', 1); RETURN NEW; END $$;
             CREATE TRIGGER a_opening BEFORE INSERT OR UPDATE ON engram.memories FOR EACH ROW EXECUTE FUNCTION public.fill_opening();
             UPDATE engram.memories SET mood = CASE WHEN content ~ 'tea' THEN 'happy' ELSE 'calm' END, opening = 'by the trigger';
             CREATE INDEX memories_mood ON engram.memories (workspace_id, mood) WHERE mood <> 'calm';
             CREATE INDEX embeddings_tiny ON engram.embeddings
               USING hnsw ((embedding::extensions.vector(3)) extensions.vector_cosine_ops) WHERE model = 'tiny';
             CREATE POLICY my_own ON engram.memories FOR SELECT TO reporter USING (user_id = (SELECT engram.current_user_id()));
             CREATE POLICY no_secrets ON engram.memories AS RESTRICTIVE FOR SELECT USING (NOT tags @> '{secret}');
             ALTER POLICY memories_delete ON engram.memories USING (NOT pinned AND workspace_id = ANY ((SELECT engram.writable_workspaces())::uuid[]));
             CREATE TABLE public.favourites (workspace_id uuid, memory_id uuid, note text,
               FOREIGN KEY (workspace_id, memory_id) REFERENCES engram.memories ON DELETE CASCADE);
             INSERT INTO public.favourites SELECT workspace_id, id, 'the best' FROM engram.memories WHERE pinned;
             CREATE VIEW public.moods WITH (security_invoker = true) AS SELECT mood, count(*) FROM engram.memories GROUP BY mood;
             GRANT SELECT ON engram.search_blocks, public.favourites TO reporter;
             GRANT SELECT (id, mood) ON engram.memories TO outsider;
             REVOKE DELETE ON engram.memories FROM reporter;
             GRANT USAGE ON SCHEMA engram TO outsider",
        )
        .unwrap();
}

/// A database of `keeper` with memories and everything around them.
fn populated() -> Database {
    static TEMPLATE: OnceLock<Database> = OnceLock::new();
    let template = TEMPLATE.get_or_init(|| {
        let database = empty();
        install(server(), &database.name);
        remember(server(), &database.name, "keeper");
        build_around(server(), &database.name);
        database
    });
    new_database(&format!("TEMPLATE {} OWNER keeper", template.name))
}

/// What users see after a restore, an upgrade or a second installation: their own memories and
/// nobody else's, by words, by vector and by name, and a store that takes new ones.
fn works(cluster: &Cluster, database: &str) {
    let mut ann = user(cluster, database, "ann");
    let contents = |client: &mut Client, query: &str| -> Vec<String> {
        let rows = client.query(query, &[]).unwrap();
        rows.iter().map(|row| row.get("content")).collect()
    };
    let tea = contents(&mut ann, "SELECT content FROM engram.search('tea')");
    assert_eq!(tea, ["Ann likes green tea"]);
    let near = contents(
        &mut ann,
        "SELECT content FROM engram.search(query_embedding => '[1,0,0]')",
    );
    assert_eq!(near, ["Ann moved to Oslo", "Ann likes green tea"]);
    let named = contents(
        &mut ann,
        "SELECT content FROM engram.list('{\"entities\": [\"Oslo\"]}')",
    );
    assert_eq!(named, ["Oslo is cold"]);
    assert!(contents(&mut ann, "SELECT content FROM engram.search('bees')").is_empty());
    assert!(
        contents(
            &mut ann,
            "SELECT content FROM engram.memories WHERE content ~ 'Bob|Carol'"
        )
        .is_empty()
    );
    let row = ann
        .query_one(
            "SELECT access_count, version, summary FROM engram.get($1::text::uuid)",
            &[&ANNS_TEA],
        )
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), 2, "storing it and saying it again");
    assert_eq!(row.get::<_, Option<String>>(2).as_deref(), Some("tea"));

    let mut bob = user(cluster, database, "bob");
    let bees = contents(&mut bob, "SELECT content FROM engram.search('bees')");
    assert_eq!(bees, ["Bob keeps bees and drinks tea"]);
    let e = failure(bob.query("SELECT engram.forget($1::text::uuid)", &[&ANNS_TEA]));
    assert_eq!(e.code, "PT404");

    // An erased memory stays erased, and new ones are found at once.
    let e = failure(ann.query(
        "SELECT engram.add('again', id => $1::text::uuid)",
        &[&ERASED],
    ));
    assert_eq!(e.code, "23505");
    ann.execute(
        "SELECT engram.add('Ann plays the violoncello', embedding => '[-1,0,0]', entities => ARRAY['Pablo'])",
        &[],
    )
    .unwrap();
    let new = contents(&mut ann, "SELECT content FROM engram.search('violoncello')");
    assert_eq!(new, ["Ann plays the violoncello"]);

    // Without an identity there is nothing, and who was granted nothing is refused.
    let mut nobody = cluster.connect(database, "app");
    assert!(contents(&mut nobody, "SELECT content FROM engram.search('tea')").is_empty());
    assert!(contents(&mut nobody, "SELECT content FROM engram.memories").is_empty());
    let mut outsider = cluster.connect(database, "outsider");
    assert_eq!(
        failure(outsider.query("SELECT * FROM engram.search('tea')", &[])).code,
        "42501"
    );
    assert_eq!(
        failure(outsider.query("SELECT content FROM engram.memories", &[])).code,
        "42501"
    );
}

/// [`works`], and the user's own policy and trigger still have their say.
fn works_with_additions(cluster: &Cluster, database: &str) {
    works(cluster, database);
    let mut ann = user(cluster, database, "ann");
    assert!(
        ann.query("SELECT id FROM engram.search('diary')", &[])
            .unwrap()
            .is_empty()
    );
    let opening: String = ann
        .query_one(
            "SELECT opening FROM engram.memories WHERE content ~ 'violoncello'",
            &[],
        )
        .unwrap()
        .get(0);
    assert_eq!(opening, "Ann");
    ann.execute("DELETE FROM engram.memories WHERE pinned", &[])
        .unwrap();
    let pinned: i64 = ann
        .query_one("SELECT count(*) FROM engram.memories WHERE pinned", &[])
        .unwrap()
        .get(0);
    assert_eq!(pinned, 1, "the changed policy forbids it");
}

fn snapshot_of(database: &Database) -> String {
    snapshot(&mut database.admin())
}

// --- dump and restore --------------------------------------------------------------------------

/// Runs pg_dump on a database.
fn dump(database: &str, role: &str, options: &[&str]) -> PathBuf {
    let file = scratch("dump").join("dump");
    run(server()
        .client("pg_dump", role)
        .args(options)
        .arg("-f")
        .arg(&file)
        .args(["-d", database]));
    file
}

/// Loads a plain dump with psql, stopping at the first error.
fn load(database: &Database, file: &Path) {
    let text = fs::read_to_string(file).unwrap();
    server()
        .psql(&database.name, "postgres", &text)
        .unwrap_or_else(|e| panic!("{e}"));
}

fn pg_restore(database: &Database, options: &[&str], file: &Path) -> Output {
    run(server()
        .client("pg_restore", "postgres")
        .args(["--exit-on-error", "-d", &database.name])
        .args(options)
        .arg(file))
}

/// A populated database from which everybody may dump, and its snapshot. Nobody changes it.
fn source() -> &'static (Database, String) {
    static SOURCE: OnceLock<(Database, String)> = OnceLock::new();
    SOURCE.get_or_init(|| {
        let database = populated();
        let snapshot = snapshot_of(&database);
        // Else equal snapshots would prove little.
        for needle in [
            "row | engram.memories | ",
            "back\\\\slash",
            "row | engram.erasures",
            "row | engram.embedding_claims",
            "0.30000000000000004",
            "\"access_count\":2",
            "index | engram.memories_mood",
            "policy | no_secrets",
            "trigger | a_opening",
            "column | engram.memories.mood",
            "comment | table column engram.memories.mood",
            "grant | engram.search_blocks | SELECT to reporter",
            "function | public.fill_opening",
            "grant | engram.search(",
            "owner | engram.memories | keeper",
            "relation | engram.memories | r rls=t",
            "constraint | memory_state_memory_fkey",
            "row | engram.access_log_p",
            "row | engram.memory_events_p",
            "row | engram.access_queue |",
            "row | engram.hebbian_links |",
            "row | engram.recall_credits |",
            "row | engram.messages_",
            "row | engram.message_archive |",
        ] {
            assert!(snapshot.contains(needle), "{needle} is not in the snapshot");
        }
        (database, snapshot)
    })
}

#[test]
fn a_plain_dump_restores_everything() {
    let (source, before) = source();
    let target = empty();
    load(&target, &dump(&source.name, "postgres", &[]));
    assert_same(before, &snapshot_of(&target));
    works_with_additions(server(), &target.name);
}

#[test]
fn an_archive_restores_everything() {
    let (source, before) = source();
    let target = empty();
    pg_restore(&target, &[], &dump(&source.name, "postgres", &["-Fc"]));
    assert_same(before, &snapshot_of(&target));
    works_with_additions(server(), &target.name);
}

#[test]
fn a_dump_that_respects_row_security_restores_everything() {
    let (source, before) = source();
    // Such a dump does not turn row_security off, the clearest sign that a dump is being loaded.
    let plain = dump(&source.name, "postgres", &["--enable-row-security"]);
    assert!(
        fs::read_to_string(&plain)
            .unwrap()
            .contains("SET row_security = on;")
    );
    let target = empty();
    load(&target, &plain);
    assert_same(before, &snapshot_of(&target));

    let target = empty();
    let archive = dump(&source.name, "postgres", &["-Fc", "--enable-row-security"]);
    pg_restore(&target, &["--enable-row-security", "--jobs=2"], &archive);
    assert_same(before, &snapshot_of(&target));
    works_with_additions(server(), &target.name);
}

#[test]
fn data_can_follow_the_schema() {
    let (source, before) = source();
    let target = empty();
    load(&target, &dump(&source.name, "postgres", &["--schema-only"]));
    // Now the triggers are there already when the rows arrive.
    load(&target, &dump(&source.name, "postgres", &["--data-only"]));
    assert_same(before, &snapshot_of(&target));
    works_with_additions(server(), &target.name);
}

#[test]
fn data_goes_into_a_fresh_installation() {
    let source = empty();
    install(server(), &source.name);
    remember(server(), &source.name, "keeper");
    let before = snapshot_of(&source);

    let target = empty();
    install(server(), &target.name);
    target
        .admin()
        .batch_execute("DELETE FROM engram.embedding_models")
        .unwrap();
    // The rows that setup() made give way to those of the dump.
    load(&target, &dump(&source.name, "postgres", &["--data-only"]));
    assert_same(&before, &snapshot_of(&target));
    works(server(), &target.name);
}

#[test]
fn content_longer_than_the_default_limit_goes_into_a_fresh_installation() {
    let source = empty();
    install(server(), &source.name);
    source
        .connect("keeper")
        .batch_execute("UPDATE engram.settings SET max_content_chars = 300000")
        .unwrap();
    user(server(), &source.name, "ann")
        .batch_execute("SELECT engram.add(repeat('long ', 50000))")
        .unwrap();
    let target = empty();
    install(server(), &target.name);
    target
        .admin()
        .batch_execute("DELETE FROM engram.embedding_models")
        .unwrap();
    load(&target, &dump(&source.name, "postgres", &["--data-only"]));
    assert_same(&snapshot_of(&source), &snapshot_of(&target));
}

#[test]
fn the_owner_of_the_tables_dumps_every_row() {
    let (source, before) = source();
    // Row security is not forced on the owner, or this dump would fail or be empty.
    let file = dump(&source.name, "keeper", &["-Fc"]);
    let target = empty();
    pg_restore(&target, &[], &file);
    assert_same(before, &snapshot_of(&target));
    works_with_additions(server(), &target.name);
}

#[test]
fn a_restore_may_change_name_and_owner() {
    let (source, before) = source();
    let target = new_database("OWNER reporter");
    let file = dump(&source.name, "postgres", &["-Fc"]);
    pg_restore(&target, &["--no-owner", "--jobs=2"], &file);
    assert_same(
        &without_owners(before),
        &without_owners(&snapshot_of(&target)),
    );
    works_with_additions(server(), &target.name);
}

#[test]
fn an_archive_replaces_a_store_that_is_there() {
    let (source, before) = source();
    let target = populated();
    target
        .admin()
        .batch_execute("DELETE FROM engram.memories WHERE content ~ 'tea'; UPDATE engram.settings SET candidates = 7")
        .unwrap();
    let file = dump(&source.name, "postgres", &["-Fc"]);
    pg_restore(&target, &["--clean", "--if-exists"], &file);
    assert_same(before, &snapshot_of(&target));
    works_with_additions(server(), &target.name);
}

/// A database in which an administrator made the extension only, so that a dump can bring the
/// tables.
fn prepared() -> Database {
    let database = empty();
    database
        .admin()
        .batch_execute(
            "CREATE SCHEMA extensions; GRANT USAGE ON SCHEMA extensions TO PUBLIC; CREATE EXTENSION vector SCHEMA extensions;
             SET engram.auto_setup = off; CREATE EXTENSION engram CASCADE",
        )
        .unwrap();
    database
}

#[test]
fn a_prepared_database_has_no_tables_until_a_dump_brings_them() {
    let (source, before) = source();
    let target = prepared();
    let relations: i64 = target
        .admin()
        .query_one(
            "SELECT count(*) FROM pg_class WHERE relnamespace IN ('engram'::regnamespace, 'engram_internal'::regnamespace)",
            &[],
        )
        .unwrap()
        .get(0);
    assert_eq!(relations, 0);
    // The schemas are there already, and a dump has no IF NOT EXISTS for them: those two
    // statements fail, nothing else does.
    let out = server()
        .client("psql", "postgres")
        .args(["-X", "-q", "-d", &target.name, "-f"])
        .arg(dump(&source.name, "postgres", &[]))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&out.stderr).into_owned();
    let errors: Vec<&str> = errors
        .lines()
        .filter_map(|line| line.split_once("ERROR:  "))
        .map(|(_, error)| error)
        .collect();
    assert_eq!(
        errors,
        [
            "schema \"engram\" already exists",
            "schema \"extensions\" already exists"
        ]
    );
    assert_same(before, &snapshot_of(&target));
    works_with_additions(server(), &target.name);
}

/// On a managed service: the provider makes the extension, the customer is no superuser.
#[test]
fn the_owner_of_a_prepared_database_loads_a_dump() {
    let (source, before) = source();
    let target = prepared();
    target
        .admin()
        .batch_execute("ALTER SCHEMA engram OWNER TO keeper")
        .unwrap();
    let file = dump(&source.name, "keeper", &["-Fc"]);
    // The owner may not create the schemas again, nor comment on or grant what the provider owns.
    server()
        .client("pg_restore", "keeper")
        .args(["-d", &target.name])
        .arg(file)
        .output()
        .unwrap();
    // setup() grants the functions to those who had access to the store.
    target
        .admin()
        .execute("SELECT engram.setup()", &[])
        .unwrap();
    assert_same(before, &snapshot_of(&target));
    works_with_additions(server(), &target.name);
}

#[test]
fn without_tables_every_function_says_how_to_create_them() {
    let database = prepared();
    database
        .admin()
        .batch_execute("GRANT USAGE ON SCHEMA engram TO app; GRANT EXECUTE ON ALL ROUTINES IN SCHEMA engram TO app")
        .unwrap();
    let id = ANNS_TEA;
    let mut calls = [
        ("activation", format!("SELECT engram.activation('{id}')")),
        ("activations", "SELECT engram.activations()".to_owned()),
        ("add", "SELECT engram.add('x')".to_owned()),
        ("add_alias", "SELECT engram.add_alias('x', 'y')".to_owned()),
        (
            "add_entities",
            format!("SELECT engram.add_entities('{id}', '{{x}}')"),
        ),
        (
            "add_many",
            "SELECT * FROM engram.add_many('[{\"content\": \"x\"}]')".to_owned(),
        ),
        (
            "apply_retention",
            "SELECT * FROM engram.apply_retention()".to_owned(),
        ),
        (
            "create_partitions",
            "SELECT * FROM engram.create_partitions()".to_owned(),
        ),
        (
            "detach_partitions",
            "SELECT * FROM engram.detach_partitions('1 year')".to_owned(),
        ),
        (
            "disable_realtime",
            "SELECT engram.disable_realtime()".to_owned(),
        ),
        (
            "drop_partitions",
            "SELECT * FROM engram.drop_partitions()".to_owned(),
        ),
        (
            "drop_retention",
            "SELECT engram.drop_retention('x')".to_owned(),
        ),
        (
            "enable_realtime",
            "SELECT engram.enable_realtime()".to_owned(),
        ),
        ("health", "SELECT engram.health()".to_owned()),
        ("maintain", "CALL engram.maintain()".to_owned()),
        ("purge", "SELECT * FROM engram.purge()".to_owned()),
        (
            "schedule_maintenance",
            "SELECT engram.schedule_maintenance()".to_owned(),
        ),
        (
            "set_retention",
            "SELECT engram.set_retention('x', '1 day')".to_owned(),
        ),
        (
            "unschedule_maintenance",
            "SELECT engram.unschedule_maintenance()".to_owned(),
        ),
        ("conflicts", "SELECT * FROM engram.conflicts()".to_owned()),
        ("context", "SELECT engram.context()".to_owned()),
        (
            "contradict",
            format!("SELECT engram.contradict('{id}', '{id}')"),
        ),
        (
            "apply_preset",
            "SELECT engram.apply_preset('default')".to_owned(),
        ),
        ("configuration", "SELECT engram.configuration()".to_owned()),
        ("configure", "SELECT engram.configure('{}')".to_owned()),
        (
            "consolidate",
            "SELECT * FROM engram.consolidate()".to_owned(),
        ),
        (
            "consolidate_in_batches",
            "CALL engram.consolidate_in_batches()".to_owned(),
        ),
        (
            "drop_embedding_model",
            "SELECT engram.drop_embedding_model('m')".to_owned(),
        ),
        (
            "embedding_progress",
            "SELECT * FROM engram.embedding_progress()".to_owned(),
        ),
        ("entities", "SELECT * FROM engram.entities()".to_owned()),
        (
            "erase",
            format!("SELECT * FROM engram.erase(ids => ARRAY['{id}']::uuid[])"),
        ),
        ("forget", format!("SELECT engram.forget('{id}')")),
        ("get", format!("SELECT * FROM engram.get('{id}')")),
        ("changes", "SELECT * FROM engram.changes()".to_owned()),
        ("history", format!("SELECT * FROM engram.history('{id}')")),
        ("revert", format!("SELECT engram.revert('{id}', 1)")),
        ("latest", format!("SELECT engram.latest('{id}')")),
        ("link", format!("SELECT engram.link('{id}', '{id}')")),
        ("links", format!("SELECT * FROM engram.links('{id}')")),
        ("list", "SELECT * FROM engram.list()".to_owned()),
        ("path", format!("SELECT * FROM engram.path('{id}', '{id}')")),
        (
            "pending_embeddings",
            "SELECT * FROM engram.pending_embeddings()".to_owned(),
        ),
        ("pin", format!("SELECT engram.pin('{id}')")),
        ("rate", format!("SELECT engram.rate('{id}', 3)")),
        ("recall", "SELECT * FROM engram.recall('x')".to_owned()),
        ("reindex", "SELECT engram.reindex()".to_owned()),
        (
            "reinforce",
            format!("SELECT engram.reinforce(ARRAY['{id}']::uuid[])"),
        ),
        ("resolve", format!("SELECT engram.resolve('{id}', '{id}')")),
        ("related", format!("SELECT * FROM engram.related('{id}')")),
        ("remove_alias", "SELECT engram.remove_alias('x')".to_owned()),
        (
            "remove_entities",
            format!("SELECT engram.remove_entities('{id}', '{{x}}')"),
        ),
        ("restore", format!("SELECT engram.restore('{id}')")),
        (
            "retention",
            format!("SELECT * FROM engram.retention('{id}')"),
        ),
        ("search", "SELECT * FROM engram.search('x')".to_owned()),
        (
            "set_embedding",
            format!("SELECT engram.set_embedding('{id}', '[1,0,0]')"),
        ),
        (
            "set_embedding_model",
            "SELECT engram.set_embedding_model('m', 3)".to_owned(),
        ),
        (
            "spread",
            format!("SELECT * FROM engram.spread(NULL, ARRAY['{id}']::uuid[])"),
        ),
        ("stats", "SELECT * FROM engram.stats()".to_owned()),
        (
            "touch",
            format!("SELECT engram.touch(ARRAY['{id}']::uuid[])"),
        ),
        (
            "supersede",
            format!("SELECT engram.supersede('{id}', '{id}')"),
        ),
        (
            "superseded",
            format!("SELECT * FROM engram.superseded('{id}')"),
        ),
        (
            "uncontradict",
            format!("SELECT engram.uncontradict('{id}', '{id}')"),
        ),
        ("unlink", format!("SELECT engram.unlink('{id}', '{id}')")),
        ("unpin", format!("SELECT engram.unpin('{id}')")),
        ("unsupersede", format!("SELECT engram.unsupersede('{id}')")),
        (
            "update",
            format!("SELECT engram.update('{id}', content => 'x')"),
        ),
        ("whoami", "SELECT * FROM engram.whoami()".to_owned()),
        (
            "append_messages",
            "SELECT * FROM engram.append_messages('[]', 's')".to_owned(),
        ),
        (
            "archive_messages",
            "SELECT * FROM engram.archive_messages()".to_owned(),
        ),
        (
            "conversations",
            "SELECT * FROM engram.conversations()".to_owned(),
        ),
        (
            "erase_messages",
            "SELECT * FROM engram.erase_messages('s')".to_owned(),
        ),
        ("export", "SELECT engram.export()".to_owned()),
        ("import", "SELECT * FROM engram.import('[]')".to_owned()),
        ("messages", "SELECT * FROM engram.messages('s')".to_owned()),
        (
            "restore_messages",
            "SELECT engram.restore_messages('s')".to_owned(),
        ),
    ];
    calls.sort();
    let functions: Vec<String> = database
        .admin()
        .query("SELECT DISTINCT proname::text FROM pg_proc WHERE pronamespace = 'engram'::regnamespace AND provolatile <> 'i' ORDER BY 1", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .filter(|name| name != "setup" && name != "version")
        .collect();
    let called: Vec<&str> = calls.iter().map(|call| call.0).collect();
    assert_eq!(
        functions, called,
        "all but setup(), version() and pure functions need the tables"
    );
    let mut wrong = Vec::new();
    for role in ["postgres", "app"] {
        let mut client = database.connect(role);
        client.batch_execute("SET engram.user_id = 'ann'").unwrap();
        client.query("SELECT * FROM engram.version()", &[]).unwrap();
        for (name, call) in &calls {
            let e = failure(client.batch_execute(call));
            if e.code != "55000" || !e.hint.contains("engram.setup()") {
                wrong.push(format!("{name} as {role}: {e:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let done: String = database
        .admin()
        .query_one("SELECT engram.setup()", &[])
        .unwrap()
        .get(0);
    assert_eq!(done, "created");
}

// --- setup() -----------------------------------------------------------------------------------

#[test]
fn a_second_setup_changes_nothing() {
    let database = populated();
    // What an administrator took away, or made private, stays so.
    database
        .connect("keeper")
        .batch_execute(
            "CREATE FUNCTION engram.private() RETURNS int LANGUAGE sql AS 'SELECT 1';
             REVOKE EXECUTE ON FUNCTION engram.private() FROM PUBLIC;
             REVOKE EXECUTE ON FUNCTION engram.erase(uuid[], jsonb, boolean, uuid) FROM reporter",
        )
        .unwrap();
    database
        .admin()
        .batch_execute(
            "REVOKE EXECUTE ON FUNCTION engram.erase(uuid[], jsonb, boolean, uuid) FROM reporter, authenticated;
             REVOKE DELETE ON engram.memories FROM authenticated;
             REVOKE ALL ON ALL TABLES IN SCHEMA engram FROM service_role;
             REVOKE USAGE ON SCHEMA engram FROM service_role",
        )
        .unwrap();
    let before = (snapshot_of(&database), members(&mut database.admin()));
    for role in ["postgres", "keeper"] {
        let mut client = database.connect(role);
        let done: String = client
            .query_one("SELECT engram.setup()", &[])
            .unwrap()
            .get(0);
        assert_eq!(done, "up to date");
        assert_same(&before.0, &snapshot_of(&database));
        assert_same(&before.1, &members(&mut database.admin()));
    }
}

#[test]
fn setups_at_the_same_time_wait_for_each_other() {
    let database = empty();
    database
        .admin()
        .batch_execute("SET engram.auto_setup = off; CREATE EXTENSION engram CASCADE")
        .unwrap();
    // As when several servers of an application start.
    let results: Vec<Result<String, String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let row = database.admin().query_one("SELECT engram.setup()", &[]);
                    row.map(|row| row.get(0)).map_err(|e| format!("{e:?}"))
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let count = |what: &str| results.iter().filter(|r| r.as_deref() == Ok(what)).count();
    assert_eq!(
        (count("created"), count("up to date")),
        (1, 3),
        "{results:?}"
    );
}

#[test]
fn setup_puts_back_what_is_missing() {
    let database = populated();
    let before = snapshot_of(&database);
    database
        .connect("keeper")
        .batch_execute(
            "DROP INDEX engram.memories_content_idx; DROP TABLE engram.embedding_claims;
             DROP TRIGGER memories_after_insert ON engram.memories; ALTER TABLE engram.graph_links DISABLE ROW LEVEL SECURITY;
             DROP POLICY graph_links_select ON engram.graph_links;
             DELETE FROM engram.memory_type_settings WHERE type = 'causal'",
        )
        .unwrap();
    database
        .connect("keeper")
        .execute("SELECT engram.setup()", &[])
        .unwrap();
    let after = snapshot_of(&database);
    let kept = |snapshot: &str| -> String {
        // Whoever dropped a table dropped its rows and grants, and a setting that was gone for a while was.
        let lines: Vec<&str> = snapshot
            .lines()
            .filter(|line| {
                !line.starts_with("row | engram.embedding_claims")
                    && !line.starts_with("grant | engram.embedding_claims")
                    && !line.starts_with("row | engram.settings_history")
            })
            .collect();
        lines.join("\n")
    };
    assert_same(&kept(&before), &kept(&after));
}

#[test]
fn setup_is_for_the_owner_and_checks_its_options() {
    let database = Database::new();
    let setup = |role: &str, options: &str| -> Failure {
        failure(
            database
                .connect(role)
                .query("SELECT engram.setup($1::text::jsonb)", &[&options]),
        )
    };
    // Neither somebody without any access nor a client, whatever they ask for.
    for role in ["squatter", "app"] {
        for options in [
            "null",
            "{\"owner\": \"squatter\"}",
            "{\"grant_to\": [\"squatter\"]}",
        ] {
            assert_eq!(setup(role, options).code, "42501", "{role} {options}");
        }
    }
    let e = setup("app", "null");
    assert!(e.hint.contains("owner"), "{e:?}");

    let before = snapshot(&mut database.admin());
    for (options, word) in [
        ("{\"grant\": [\"app\"]}", "grant_to"),
        ("{\"grant_to\": \"app\"}", "[\"app\"]"),
        ("{\"grant_to\": [1]}", "[\"app\"]"),
        (
            "{\"grant_to\": [\"app\", \"no such role\"]}",
            "CREATE ROLE \"no such role\"",
        ),
        (
            "{\"owner\": \"no such role\"}",
            "CREATE ROLE \"no such role\"",
        ),
        ("{\"owner\": 1}", "role"),
        ("[\"app\"]", "grant_to"),
    ] {
        let e = setup("postgres", options);
        assert_eq!(e.code, "22023", "{options}: {e:?}");
        assert!(e.hint.contains(word), "{options}: {e:?}");
    }
    assert_same(&before, &snapshot(&mut database.admin()));
}

#[test]
fn the_owner_of_the_tables_grants_access() {
    let database = empty();
    database
        .admin()
        .batch_execute(
            "CREATE EXTENSION engram CASCADE; SELECT engram.setup('{\"owner\": \"reporter\"}')",
        )
        .unwrap();
    database
        .connect("reporter")
        .batch_execute("SELECT engram.setup('{\"grant_to\": [\"app\"]}'); SELECT engram.set_embedding_model('tiny', 3)")
        .unwrap();
    remember(server(), &database.name, "reporter");
    works(server(), &database.name);
}

/// A schema or table that somebody prepared under our names must not become the store: its
/// triggers or defaults would see every memory.
#[test]
fn prepared_schemas_and_tables_of_others_are_refused() {
    let traps = [
        "CREATE SCHEMA engram AUTHORIZATION squatter",
        "CREATE SCHEMA engram; GRANT CREATE, USAGE ON SCHEMA engram TO squatter; SET ROLE squatter;
         CREATE TABLE engram.memories (workspace_id uuid, id uuid, content text)",
        "CREATE SCHEMA engram; GRANT CREATE, USAGE ON SCHEMA engram TO squatter; SET ROLE squatter;
         CREATE VIEW engram.settings AS SELECT 1 AS candidates",
        "CREATE SCHEMA engram; GRANT CREATE, USAGE ON SCHEMA engram TO squatter; SET ROLE squatter;
         CREATE FUNCTION engram.readable_workspaces() RETURNS uuid[] LANGUAGE sql SECURITY DEFINER AS 'SELECT NULL::uuid[]'",
    ];
    for trap in traps {
        let database = empty();
        database.admin().batch_execute(trap).unwrap();
        let mut admin = database.admin();
        let before = facts(&mut admin, &[CATALOG.to_owned()]);
        let e = failure(admin.batch_execute("CREATE EXTENSION engram CASCADE"));
        assert_eq!(e.code, "42501", "{trap}: {e:?}");
        assert!(e.message.contains("squatter"), "{e:?}");
        // The way out must be one that is there while the extension is not.
        assert!(e.hint.contains("engram.auto_setup"), "{trap}: {e:?}");
        assert_same(&before, &facts(&mut admin, &[CATALOG.to_owned()]));
        let left: i64 = admin
            .query_one(
                "SELECT count(*) FROM pg_extension WHERE extname IN ('engram', 'vector')",
                &[],
            )
            .unwrap()
            .get(0);
        assert_eq!(left, 0);
    }
}

/// The library reads vectors as they lie in memory: a type of somebody else under that name would
/// have it read beyond its end.
#[test]
fn a_false_vector_type_is_refused() {
    let database = empty();
    let mut admin = database.admin();
    admin
        .batch_execute(
            "CREATE SCHEMA engram; GRANT CREATE, USAGE ON SCHEMA engram TO squatter; SET ROLE squatter;
             CREATE DOMAIN engram.vector AS text; RESET ROLE",
        )
        .unwrap();
    let e = failure(admin.batch_execute("CREATE EXTENSION engram CASCADE"));
    assert_eq!(e.code, "42501", "{e:?}");
    // pgvector itself may live there.
    admin
        .batch_execute(
            "DROP TYPE engram.vector; CREATE EXTENSION vector SCHEMA engram; CREATE EXTENSION engram",
        )
        .unwrap();
}

// --- DROP EXTENSION ----------------------------------------------------------------------------

/// While the extension is away nobody reads a memory and nothing is written half.
fn refuses_everybody(database: &Database) {
    let mut wrong = Vec::new();
    let mut expect = |role: &str, code: &str, statement: &str| {
        let mut client = database.connect(role);
        client.batch_execute("SET engram.user_id = 'ann'").unwrap();
        match client.simple_query(statement) {
            Ok(_) => wrong.push(format!("{role}: {statement}: no error")),
            Err(error) => {
                let e = failure::<()>(Err(error));
                if e.code != code
                    || (code == "55000" && !e.hint.contains("CREATE EXTENSION engram"))
                {
                    wrong.push(format!("{role}: {statement}: {e:?}"));
                }
            }
        }
    };
    for role in ["app", "reporter"] {
        for table in [
            "memories",
            "memory_state",
            "embeddings",
            "embedding_claims",
            "graph_links",
            "erasures",
            "settings",
        ] {
            expect(role, "55000", &format!("SELECT * FROM engram.{table}"));
        }
        expect(role, "55000", "UPDATE engram.memories SET content = 'x'");
        expect(
            role,
            "55000",
            "INSERT INTO engram.memories (content) VALUES ('x')",
        );
        expect(
            role,
            "55000",
            "UPDATE engram.memory_state SET access_count = 9",
        );
        expect(role, "55000", "DELETE FROM engram.embeddings");
    }
    expect("app", "42501", "SELECT * FROM engram.search_blocks");
    expect("app", "55000", "DELETE FROM engram.memories");
    expect("outsider", "55000", "SELECT id, mood FROM engram.memories");
    let row = format!(
        "SELECT workspace_id, id, 'tiny', '[1,0,0]' FROM engram.memories WHERE id = '{ANNS_TEA}'"
    );
    expect(
        "app",
        "55000",
        &format!("INSERT INTO engram.embeddings (workspace_id, memory_id, model, embedding) {row}"),
    );
    // Not even roles that row security does not bind, because the triggers cannot do their part.
    for role in ["keeper", "postgres"] {
        expect(
            role,
            "55000",
            "INSERT INTO engram.memories (workspace_id, content) SELECT workspace_id, 'x' FROM engram.memories LIMIT 1",
        );
        expect(role, "55000", "UPDATE engram.memories SET content = 'x'");
        expect(role, "55000", "DELETE FROM engram.memories");
        expect(
            role,
            "55000",
            &format!(
                "INSERT INTO engram.embeddings (workspace_id, memory_id, model, embedding) {row}"
            ),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_store_outlives_the_extension() {
    for drop in ["DROP EXTENSION engram", "DROP EXTENSION engram CASCADE"] {
        let database = populated();
        let mut admin = database.admin();
        let (before, kept) = (snapshot(&mut admin), rows_and_catalog(&mut admin, false));
        let installed = members(&mut admin);
        // Connection pools keep sessions through all of it.
        let mut ann = user(server(), &database.name, "ann");
        let search = "SELECT content FROM engram.search('tea', '[1,0,0]')";
        let found = ann.query(search, &[]).unwrap().len();
        admin.batch_execute(drop).unwrap();
        assert_eq!(
            failure(ann.query("SELECT * FROM engram.memories", &[])).code,
            "55000"
        );
        assert_same(&kept, &rows_and_catalog(&mut admin, false));
        refuses_everybody(&database);
        assert_same(&kept, &rows_and_catalog(&mut admin, false));
        admin
            .batch_execute("CREATE EXTENSION engram CASCADE")
            .unwrap();
        // Roles that had access have it again, and nobody else; changed settings stay changed.
        assert_same(&before, &snapshot(&mut admin));
        assert_same(&installed, &members(&mut admin));
        assert_eq!(ann.query(search, &[]).unwrap().len(), found);
        works_with_additions(server(), &database.name);
        let mut reporter = database.connect("reporter");
        reporter
            .batch_execute("SET engram.user_id = 'ann'; SELECT engram.add('Ann reports')")
            .unwrap();
        assert_eq!(
            reporter
                .query("SELECT content FROM engram.search('reports')", &[])
                .unwrap()
                .len(),
            1
        );
    }
}

#[test]
fn without_vector_the_vectors_are_lost_and_nothing_else() {
    let database = Database::new();
    remember(server(), &database.name, "postgres");
    let mut admin = database.admin();
    let others = |admin: &mut Client| -> Vec<String> {
        let lines = store(admin);
        lines
            .lines()
            .filter(|line| {
                // What had a vector waits for another.
                let lost = ["embeddings", "embedding_claims"]
                    .iter()
                    .any(|table| line.starts_with(&format!("row | engram.{table} |")));
                let scanned = line.starts_with("row | engram.search_blocks |")
                    && line.contains(r#""model":"tiny""#);
                line.starts_with("row |") && !lost && !scanned
            })
            .map(str::to_owned)
            .collect()
    };
    let before = others(&mut admin);
    admin
        .batch_execute("DROP EXTENSION vector CASCADE; CREATE EXTENSION engram CASCADE")
        .unwrap();
    assert_eq!(before, others(&mut admin));
    let mut ann = user(server(), &database.name, "ann");
    assert_eq!(
        ann.query("SELECT id FROM engram.search('tea')", &[])
            .unwrap()
            .len(),
        1
    );
    // All of them wait to be embedded again.
    let pending = ann
        .query_one(
            "SELECT memories, pending_embeddings FROM engram.stats()",
            &[],
        )
        .unwrap();
    assert_eq!(pending.get::<_, i64>(0), pending.get::<_, i64>(1));
    ann.execute(
        "SELECT engram.set_embedding($1::text::uuid, '[1,0,0]')",
        &[&ANNS_TEA],
    )
    .unwrap();
    assert_eq!(
        ann.query(
            "SELECT id FROM engram.search(query_embedding => '[1,0,0]')",
            &[]
        )
        .unwrap()
        .len(),
        1
    );
}

#[test]
fn a_store_without_its_extension_is_dumped_and_comes_back() {
    let database = populated();
    let before = snapshot_of(&database);
    database
        .admin()
        .batch_execute("DROP EXTENSION engram")
        .unwrap();
    let target = empty();
    load(&target, &dump(&database.name, "keeper", &[]));
    target
        .admin()
        .batch_execute("CREATE EXTENSION engram CASCADE")
        .unwrap();
    assert_same(&before, &snapshot_of(&target));
    works_with_additions(server(), &target.name);
}

#[test]
fn a_second_installation_dumps_like_the_first() {
    let database = populated();
    let before = snapshot_of(&database);
    database
        .admin()
        .batch_execute("DROP EXTENSION engram; CREATE EXTENSION engram")
        .unwrap();
    // Privileges that the install script sets on what it does not own would be missing here.
    let target = empty();
    load(&target, &dump(&database.name, "postgres", &[]));
    assert_same(&before, &snapshot_of(&target));
    works_with_additions(server(), &target.name);
}

#[test]
fn a_second_installation_leaves_the_users_functions_alone() {
    let database = populated();
    let mut admin = database.admin();
    admin
        .batch_execute("CREATE FUNCTION engram.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        .unwrap();
    let before = snapshot(&mut admin);
    admin
        .batch_execute("DROP EXTENSION engram; CREATE EXTENSION engram")
        .unwrap();
    assert_same(&before, &snapshot(&mut admin));
    // Even when the tables are to be brought up to date later.
    admin
        .batch_execute("DROP EXTENSION engram; SET engram.auto_setup = off; CREATE EXTENSION engram; SELECT engram.setup()")
        .unwrap();
    assert_same(&before, &snapshot(&mut admin));
}

/// Whoever may use the schema, to look up names for example, had no access by that.
#[test]
fn a_second_installation_gives_nobody_new_access() {
    let database = Database::new();
    let mut admin = database.admin();
    admin
        .batch_execute("GRANT USAGE ON SCHEMA engram TO anon")
        .unwrap();
    let before = snapshot(&mut admin);
    admin
        .batch_execute("DROP EXTENSION engram; CREATE EXTENSION engram")
        .unwrap();
    assert_same(&before, &snapshot(&mut admin));
}

#[test]
fn a_store_of_another_owner_takes_the_extension_back() {
    let database = empty();
    let mut admin = database.admin();
    admin
        .batch_execute(
            r#"SET engram.auto_setup = off; CREATE EXTENSION engram CASCADE;
               SELECT engram.setup('{"owner": "reporter", "grant_to": ["app"]}'); RESET engram.auto_setup"#,
        )
        .unwrap();
    let before = snapshot(&mut admin);
    // Nobody knows any more that an administrator chose this owner, so it takes to be said again.
    admin.batch_execute("DROP EXTENSION engram").unwrap();
    let e = failure(admin.batch_execute("CREATE EXTENSION engram"));
    assert_eq!(e.code, "42501");
    assert!(e.hint.contains("engram.auto_setup"), "{e:?}");
    admin
        .batch_execute(
            r#"SET engram.auto_setup = off; CREATE EXTENSION engram; SELECT engram.setup('{"owner": "reporter"}')"#,
        )
        .unwrap();
    assert_same(&before, &snapshot(&mut admin));
}

// --- who gets access ---------------------------------------------------------------------------

/// Rows of one text column.
fn names(client: &mut Client, query: &str) -> Vec<String> {
    let rows = client.query(query, &[]).unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[test]
fn supabase_roles_get_access_by_themselves() {
    // Nobody was named to setup() here.
    let database = empty();
    let mut admin = database.admin();
    admin
        .batch_execute(
            "CREATE EXTENSION engram CASCADE; SELECT engram.set_embedding_model('tiny', 3)",
        )
        .unwrap();
    let public: Vec<String> = names(
        &mut admin,
        "SELECT p.oid::regprocedure::text FROM pg_proc p
         WHERE p.pronamespace = 'engram'::regnamespace AND has_function_privilege('authenticated', p.oid, 'EXECUTE')
           AND EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')",
    );
    let members = names(
        &mut admin,
        "SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'engram'::regnamespace
           AND EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')",
    );
    assert_eq!(
        public, members,
        "the functions of the API, which check their callers"
    );
    let tables = |role: &str, privilege: &str, admin: &mut Client| {
        names(
            admin,
            &format!(
                "SELECT relname::text FROM pg_class WHERE relnamespace = 'engram'::regnamespace AND relkind = 'r'
                   AND has_table_privilege('{role}', oid, '{privilege}') ORDER BY 1"
            ),
        )
    };
    let written = [
        "embedding_claims",
        "embeddings",
        "entity_aliases",
        "graph_links",
        "memories",
        "retention_policies",
    ];
    assert_eq!(tables("authenticated", "DELETE", &mut admin), written);
    let mut read = written.to_vec();
    read.extend([
        "access_queue",
        "embedding_models",
        "erasures",
        "hebbian_links",
        "maintenance",
        "memory_state",
        "memory_type_settings",
        "message_archive",
        "recall_credits",
        "settings",
        "settings_history",
    ]);
    read.sort_unstable();
    assert_eq!(tables("authenticated", "SELECT", &mut admin), read);
    assert_eq!(
        tables("authenticated", "TRUNCATE, REFERENCES, TRIGGER", &mut admin),
        [""; 0]
    );
    assert_eq!(
        tables("service_role", "DELETE", &mut admin),
        [
            "embedding_claims",
            "embedding_models",
            "embeddings",
            "entity_aliases",
            "graph_links",
            "memories",
            "memory_type_settings",
            "retention_policies",
            "settings"
        ]
    );
    let nothing = names(
        &mut admin,
        "SELECT 'schema' WHERE has_schema_privilege('anon', 'engram', 'USAGE, CREATE')
         UNION ALL SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'engram'::regnamespace AND relkind = 'r'
           AND (has_table_privilege('anon', oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
                OR has_any_column_privilege('anon', oid, 'SELECT, INSERT, UPDATE, REFERENCES'))
         UNION ALL SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'engram'::regnamespace
           AND proname NOT IN ('current_user_id', 'readable_workspaces', 'writable_workspaces')
           AND has_function_privilege('anon', oid, 'EXECUTE')",
    );
    assert_eq!(nothing, [""; 0], "anon");

    // As PostgREST does it.
    let request = |role: &str, claims: &str, statement: &str| {
        let mut client = database.connect("authenticator");
        client
            .batch_execute(&format!("BEGIN; SET LOCAL ROLE {role}; SELECT set_config('request.jwt.claims', '{claims}', true)"))
            .unwrap();
        let rows = client.query(statement, &[])?;
        client.batch_execute("COMMIT").map(|()| rows.len())
    };
    let carol = format!("{{\"sub\": \"{SUPABASE_USER}\", \"role\": \"authenticated\"}}");
    let dave = "{\"sub\": \"dave\"}";
    let search = "SELECT * FROM engram.search('violins')";
    assert_eq!(
        request(
            "authenticated",
            &carol,
            "SELECT engram.add('Carol builds violins', embedding => '[1,0,0]')"
        )
        .unwrap(),
        1
    );
    assert_eq!(request("authenticated", &carol, search).unwrap(), 1);
    assert_eq!(request("authenticated", dave, search).unwrap(), 0);
    assert_eq!(failure(request("anon", "{}", search)).code, "42501");
    assert_eq!(
        failure(request("anon", &carol, "SELECT * FROM engram.memories")).code,
        "42501"
    );
    let model = "SELECT engram.set_embedding_model('other', 3)";
    assert_eq!(
        failure(request("authenticated", &carol, model)).code,
        "42501"
    );
    assert_eq!(
        failure(request("authenticated", &carol, "SELECT engram.setup()")).code,
        "42501"
    );
    assert_eq!(request("service_role", "{}", model).unwrap(), 1);
    let named = format!("SELECT * FROM engram.search('violins', workspace => '{SUPABASE_USER}')");
    assert_eq!(request("service_role", "{}", &named).unwrap(), 1);
    assert_eq!(
        failure(request("authenticated", dave, &named)).code,
        "42501"
    );
    assert_eq!(
        request("service_role", "{}", "SELECT * FROM engram.memories").unwrap(),
        1
    );
}

#[test]
fn vector_may_live_in_a_closed_schema() {
    let database = empty();
    let mut admin = database.admin();
    admin
        .batch_execute(
            r#"CREATE SCHEMA "Vec tors"; CREATE EXTENSION vector SCHEMA "Vec tors"; CREATE EXTENSION engram CASCADE;
               SELECT engram.setup('{"grant_to": ["app"]}'); SELECT engram.set_embedding_model('tiny', 3)"#,
        )
        .unwrap();
    remember(server(), &database.name, "keeper");
    works(server(), &database.name);
}

// --- what an installation consists of ----------------------------------------------------------

#[test]
fn whose_fault_an_error_is_is_said_once() {
    let db = Database::new();
    let mut admin = db.admin();
    let said: Vec<String> = admin
        .query(
            "SELECT proname::text FROM pg_proc WHERE pronamespace IN ('engram'::regnamespace, 'engram_internal'::regnamespace)
               AND prosrc ~* 'state +!?~' ORDER BY 1",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(said, Vec::<String>::new());
    for (state, fault) in [
        ("40P01", "moment"),
        ("25006", "moment"),
        ("55P03", "moment"),
        ("55006", "moment"),
        ("57014", "moment"),
        ("53200", "server"),
        ("58030", "server"),
        ("XX001", "damage"),
        ("42501", "code"),
        ("55000", "data"),
        ("22023", "data"),
    ] {
        let told: String = admin
            .query_one("SELECT engram_internal.fault($1)", &[&state])
            .unwrap()
            .get(0);
        assert_eq!(told, fault, "{state}");
    }
}

#[test]
fn the_catalog_keeps_the_promises() {
    let database = Database::new();
    let mut admin = database.admin();
    let mut holds = |promise: &str, violations: &str| {
        assert_eq!(
            names(&mut admin, violations),
            [""; 0],
            "violates: {promise}"
        );
    };
    holds(
        "only functions and the schema of the helpers belong to the extension",
        "SELECT o.type || ' ' || o.identity FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'engram',
           pg_identify_object(d.classid, d.objid, d.objsubid) o
         WHERE d.deptype = 'e' AND NOT (o.type IN ('function', 'aggregate', 'procedure') OR o.identity = 'engram_internal')
         UNION ALL
         SELECT f.proname || ' is a member and serves a trigger' FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
         JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.deptype = 'e'
         JOIN pg_class c ON c.oid = t.tgrelid AND c.relnamespace = 'engram'::regnamespace
         UNION ALL
         SELECT o.identity || ' of the store depends on a member' FROM pg_depend d
         JOIN pg_depend m ON m.deptype = 'e' AND m.classid = d.refclassid AND m.objid = d.refobjid
         JOIN pg_extension e ON e.oid = m.refobjid AND e.extname = 'engram', pg_identify_object(d.classid, d.objid, d.objsubid) o
         WHERE d.deptype IN ('n', 'a') AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.deptype = 'e' AND x.classid = d.classid AND x.objid = d.objid)",
    );
    holds(
        "everything has a comment",
        "WITH space AS (SELECT oid FROM pg_namespace WHERE nspname IN ('engram', 'engram_internal')), thing AS (
           SELECT 'pg_namespace'::regclass AS class, oid, 0 AS sub FROM space
           UNION ALL SELECT 'pg_proc'::regclass, p.oid, 0 FROM pg_proc p JOIN space s ON s.oid = p.pronamespace
           UNION ALL SELECT 'pg_class'::regclass, c.oid, 0 FROM pg_class c JOIN space s ON s.oid = c.relnamespace
             WHERE c.relkind <> 'i' OR NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = c.oid AND k.contype IN ('p', 'u', 'x'))
           UNION ALL SELECT 'pg_class'::regclass, c.oid, a.attnum FROM pg_class c JOIN space s ON s.oid = c.relnamespace
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped WHERE c.relkind IN ('r', 'v', 'p') AND NOT c.relispartition
           UNION ALL SELECT 'pg_policy'::regclass, p.oid, 0 FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN space s ON s.oid = c.relnamespace
           UNION ALL SELECT 'pg_trigger'::regclass, t.oid, 0 FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN space s ON s.oid = c.relnamespace
             WHERE NOT t.tgisinternal)
         SELECT pg_describe_object(t.class, t.oid, t.sub) FROM thing t
         WHERE NOT EXISTS (SELECT FROM pg_description d WHERE d.classoid = t.class AND d.objoid = t.oid AND d.objsubid = t.sub AND d.description <> '')",
    );
    holds(
        "functions pin search_path, but for computations in C that touch no catalog",
        "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
         WHERE p.pronamespace IN ('engram'::regnamespace, 'engram_internal'::regnamespace)
           AND NOT EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c = 'search_path=pg_catalog, pg_temp')
           -- A procedure that commits cannot; it runs as its caller and qualifies every name.
           AND p.prokind NOT IN ('a', 'p')
           AND NOT (l.lanname = 'c'
                    AND (p.provolatile = 'i' OR p.pronamespace = 'engram_internal'::regnamespace AND p.proname IN ('caller', 'caller_id', 'uuid_v7', 'store_origin', 'compile_filter', 'compile_past_filter', 'read_items')))",
    );
    holds(
        "what dumps set does not reach tables whose triggers serve their loading",
        // Those that C writes are written without these triggers; loading a dump runs memories_after_insert(), which
        // asks for the setting, and the state of a memory that is new replaces none.
        "SELECT p.oid::regprocedure::text FROM pg_proc p
         WHERE p.pronamespace IN ('engram'::regnamespace, 'engram_internal'::regnamespace) AND p.prokind IN ('f', 'p')
           AND pg_get_functiondef(p.oid) ~* ('(insert|merge|copy)\\s+(into\\s+)?engram\\.('
             || (SELECT string_agg(c.relname, '|') FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
                 JOIN pg_proc f ON f.oid = t.tgfoid AND f.proname IN ('restore_replaces', 'restore_skips')) || ')\\M')
           AND NOT EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c = 'check_function_bodies=on')
           AND p.oid <> 'engram.memories_after_insert()'::regprocedure",
    );
    holds(
        "nobody but their owner may call functions that run with the owner's rights",
        "SELECT r.rolname || ': ' || p.oid::regprocedure FROM pg_proc p, pg_roles r
         WHERE p.pronamespace IN ('engram'::regnamespace, 'engram_internal'::regnamespace) AND p.prosecdef
           AND r.rolname IN ('app', 'anon', 'authenticated', 'service_role', 'outsider') AND has_function_privilege(r.oid, p.oid, 'EXECUTE')",
    );
    holds(
        "PUBLIC may call what policies ask, and nothing else of the API",
        "SELECT p.oid::regprocedure::text FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
         WHERE p.pronamespace = 'engram'::regnamespace AND a.grantee = 0
           AND p.proname NOT IN ('current_user_id', 'readable_workspaces', 'writable_workspaces')",
    );
    holds(
        "row security is on and not forced on the owner, whose dumps need every row",
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'engram'::regnamespace AND relkind IN ('r', 'p')
           AND (NOT relrowsecurity OR relforcerowsecurity)",
    );
    holds(
        "keys begin with the workspace",
        "SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = 'engram'::regnamespace
           -- What is partitioned has its keys in its partitions.
           AND c.relkind = 'r' AND c.relname <> 'embedding_models'
           AND NOT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
                           WHERE i.indrelid = c.oid AND i.indisprimary AND a.attname = 'workspace_id')",
    );
    holds(
        "every foreign key has an index that begins with its columns",
        "SELECT k.conname::text FROM pg_constraint k WHERE k.contype = 'f' AND k.connamespace = 'engram'::regnamespace
           AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = k.conrelid
               AND (i.indpred IS NULL OR pg_get_expr(i.indpred, i.indrelid) = '(target_id IS NOT NULL)')
             AND (SELECT array_agg(x ORDER BY x) FROM unnest((i.indkey::int2[])[0:cardinality(k.conkey) - 1]) x)
               = (SELECT array_agg(x ORDER BY x) FROM unnest(k.conkey) x))",
    );
    // The queries above saw something.
    let counts = admin
        .query_one(
            "SELECT (SELECT count(*) FROM pg_proc WHERE pronamespace = 'engram'::regnamespace),
                    (SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND connamespace = 'engram'::regnamespace),
                    (SELECT count(*) FROM pg_proc WHERE pronamespace = 'engram'::regnamespace AND prosecdef)",
            &[],
        )
        .unwrap();
    for column in 0..3 {
        assert!(counts.get::<_, i64>(column) > 2, "{column}");
    }
}

// --- a new major version -----------------------------------------------------------------------

#[test]
fn pg_upgrade_keeps_everything() {
    // Once, however many majors are tested.
    if Installation::current().major != 18 {
        return;
    }
    let old = Cluster::start(Installation::of(16), "old");
    create_roles(&old);
    old.connect("postgres", "postgres")
        .batch_execute("CREATE DATABASE memory OWNER keeper")
        .unwrap();
    // Without the roles of Supabase, for once.
    install(&old, "memory");
    remember(&old, "memory", "keeper");
    build_around(&old, "memory");
    let mut admin = old.connect("memory", "postgres");
    let (before, installed) = (snapshot(&mut admin), members(&mut admin));
    drop(admin);
    old.down("fast");

    let new = Cluster::create(Installation::of(18), "new");
    // initdb of 18 turns checksums on, that of 16 does not, and pg_upgrade wants them alike.
    run(new
        .installation
        .command("pg_checksums")
        .arg("--disable")
        .arg("-D")
        .arg(new.data()));
    run(new
        .installation
        .command("pg_upgrade")
        .args(["-U", "postgres", "-b"])
        .arg(old.installation.prefix.join("bin"))
        .arg("-B")
        .arg(new.installation.prefix.join("bin"))
        .arg("-d")
        .arg(old.data())
        .arg("-D")
        .arg(new.data())
        .current_dir(scratch("upgrade")));
    new.up();
    let mut admin = new.connect("memory", "postgres");
    assert_same(&before, &snapshot(&mut admin));
    assert_same(&installed, &members(&mut admin));
    works_with_additions(&new, "memory");
}

/// While the extension is away, somebody with CREATE on the database could offer functions in its
/// name: they must not say who is calling, nor run with the rights of the tables' owner.
#[test]
fn nobody_answers_in_the_name_of_an_extension_that_is_away() {
    let database = Database::new();
    let mut ann = database.user("ann");
    ann.execute("SELECT engram.add('a secret')", &[]).unwrap();
    let name = &database.name;
    database
        .admin()
        .batch_execute(&format!(
            "DROP EXTENSION engram; GRANT CREATE ON DATABASE {name} TO app"
        ))
        .unwrap();
    let mut app = database.connect("app");
    app.batch_execute(
        "CREATE SCHEMA engram_internal; GRANT USAGE ON SCHEMA engram_internal TO PUBLIC;
         CREATE FUNCTION engram_internal.caller_id() RETURNS uuid LANGUAGE sql AS 'SELECT md5(''x'')::uuid'",
    )
    .unwrap();
    for sql in [
        "SELECT engram.current_user_id()",
        "SELECT * FROM engram.memories",
        "INSERT INTO engram.memories (content) VALUES ('mine')",
    ] {
        assert_eq!(failure(app.simple_query(sql)).code, "55000", "{sql}");
    }
}

#[test]
fn a_database_of_another_encoding_is_refused() {
    let database = empty();
    let name = format!("{}_latin", database.name);
    let mut admin = server().connect("postgres", "postgres");
    admin
        .batch_execute(&format!(
            "CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'"
        ))
        .unwrap();
    let e = failure(
        server()
            .connect(&name, "postgres")
            .batch_execute("CREATE EXTENSION engram CASCADE"),
    );
    admin
        .batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)"))
        .unwrap();
    assert_eq!(e.code, "55000");
    assert!(
        e.message.contains("LATIN1") && e.hint.contains("UTF8"),
        "{e:?}"
    );
}
