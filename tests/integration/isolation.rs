//! Tenants do not see, change, count, guess or link each other's memories, by any door.
//!
//! The first half tries every function and table of the catalog as every kind of caller and needs
//! a row for each; the second half has one test per side door: errors, plans, operators, search
//! paths, settings, pooled connections, standbys, triggers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, Config, NoTls, SimpleQueryMessage};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cluster::{Cluster, Database, Installation, failure, one, shared};

// --- the victim and what may never be seen of it ------------------------------------------------

/// Whose memories everybody else is after.
const VICTIM: &str = "0a11ce00-0000-4000-8000-00000000000a";
/// Another user.
const OTHER: &str = "0b0b0000-0000-4000-8000-00000000000b";
/// A memory of the victim whose id and content strangers have guessed.
const GUESSED: &str = "018f0000-aaaa-7000-8000-000000000001";
/// A memory of the victim that nobody else knows of.
const SECRET: &str = "018f0000-aaaa-7000-8000-000000000002";
/// An id that is nowhere.
const NOWHERE: &str = "018f0000-aaaa-7000-8000-00000000ffff";

/// What a stranger never sends and so can only have got from the victim: a word that is in every
/// text, the secret id, and a number from the victim's settings.
const MARKERS: [&str; 3] = ["canary", SECRET, "4242424"];

/// Gives the store to a role that is no superuser: nothing that is tested here may rest on the
/// owner being allowed everything.
fn ordinary_owner(db: &Database) {
    db.admin()
        .batch_execute(
            "DO $$ BEGIN CREATE ROLE warden; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
             SELECT engram.setup('{\"owner\": \"warden\"}')",
        )
        .unwrap();
}

/// Stores what the victim has: rows in every table that has workspaces.
fn victim(db: &Database) {
    ordinary_owner(db);
    let sql = fill(
        "INSERT INTO engram.memories (workspace_id, id, user_id, content) VALUES
           ('{ws}', '{id}', '{ws}', 'Plain zebra note');
         INSERT INTO engram.memories (workspace_id, id, user_id, content, summary, agent_id, session_id, speaker,
             source, tags, metadata, type, importance, occurred_at) VALUES
           ('{ws}', '{secret}', '{ws}', 'The zebra canary sings at dawn', 'canary summary', 'canary agent',
            'canary session', 'canary speaker', 'canary source', '{canary,tag}', '{\"canary\": {\"deep\": \"canary\"}}',
            'emotional', 0.77, '2020-02-02'),
           ('{ws}', '018f0000-aaaa-7000-8000-000000000003', '{ws}', 'A forgotten canary', NULL, NULL, NULL, NULL,
            NULL, NULL, NULL, NULL, NULL, NULL),
           ('{ws}', '018f0000-aaaa-7000-8000-000000000004', '{ws}', 'An erased canary', NULL, NULL, NULL, NULL,
            NULL, NULL, NULL, NULL, NULL, NULL);
         DELETE FROM engram.memories WHERE id = '018f0000-aaaa-7000-8000-000000000004';
         UPDATE engram.memories SET deleted_at = now() WHERE id = '018f0000-aaaa-7000-8000-000000000003';
         UPDATE engram.memories SET contradicts = '{{id}}' WHERE id = '{secret}';
         INSERT INTO engram.embedding_models VALUES ('spare', 3);
         INSERT INTO engram.embeddings VALUES ('{ws}', '{secret}', 'tiny', '[1,2,3]');
         INSERT INTO engram.embedding_claims VALUES ('{ws}', '{secret}', 'tiny', '2100-01-01');
         INSERT INTO engram.graph_links VALUES ('{ws}', '{secret}', 'mentions', 'canary', 'Canary');
         INSERT INTO engram.entity_aliases VALUES ('{ws}', 'canary bird', 'canary', 'Canary bird');
         INSERT INTO engram.access_queue (workspace_id, id, accessed_at, user_id, kind, gain, memory_ids) VALUES
           ('{ws}', '{secret}', '2024-01-01', '{ws}', 'used', 1, '{{id},{secret}}');
         INSERT INTO engram.access_log (workspace_id, memory_id, accessed_at, id, kind, gain) VALUES ('{ws}', '{secret}', '2024-01-01', '{secret}', 'shown', 0);
         INSERT INTO engram.recall_credits VALUES ('{ws}', '{secret}', '{{secret}}');
         INSERT INTO engram.hebbian_links VALUES ('{ws}', least('{id}'::uuid, '{secret}'), greatest('{id}'::uuid, '{secret}'), 1, 1, '2024-01-01', 9);
         INSERT INTO engram.maintenance VALUES ('{ws}');
         INSERT INTO engram.retention_policies (workspace_id, name, max_age) VALUES ('{ws}', 'canary policy', '100 years');
         INSERT INTO engram.messages (workspace_id, session_id, created_at, id, user_id, role, speaker, content, metadata) VALUES
           ('{ws}', 'session', '2024-01-01', '{id}', '{ws}', 'user', 'canary', 'canary', '{\"canary\": 1}');
         INSERT INTO engram.message_archive (workspace_id, session_id, first_at, id, last_at, turns, ids, messages) VALUES
           ('{ws}', 'session', '2023-01-01', '{secret}', '2023-01-01', 1, '{018f0000-aaaa-7000-8000-000000000005}',
            '[{\"user_id\": \"{ws}\", \"role\": \"user\", \"content\": \"archived canary\", \"created_at\": \"2023-01-01\"}]');
         INSERT INTO engram.settings (workspace_id, max_content_chars) VALUES ('{ws}', 4242424);
         INSERT INTO engram.memory_type_settings VALUES ('{ws}', 'opinion', 0.4242424, 0.5);
         INSERT INTO engram.settings_history (workspace_id, type, until, xid, alpha) VALUES ('{ws}', '', '2024-01-01', '0', 0.4242424);
         CREATE FUNCTION public.fingerprint() RETURNS text LANGUAGE plpgsql AS $$
         -- Everything of the victim, row headers included: a lock or an empty update shows too.
         DECLARE t regclass; part text; whole text := '';
         BEGIN
           FOR t IN SELECT c.oid FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'workspace_id'
                    WHERE c.relnamespace = 'engram'::regnamespace AND c.relkind IN ('r', 'p') ORDER BY c.relname LOOP
             EXECUTE format('SELECT string_agg(concat_ws('' '', ctid, xmin, xmax, x), E''\\n'' ORDER BY ctid)
                             FROM %s x WHERE workspace_id = ''{ws}''', t) INTO part;
             whole := whole || t || E'\\n' || coalesce(part, '') || E'\\n';
           END LOOP;
           RETURN whole;
         END $$;",
    );
    db.admin().batch_execute(&sql).unwrap();
}

/// Puts the ids into a statement.
fn fill(sql: &str) -> String {
    sql.replace("{ws}", VICTIM)
        .replace("{id}", GUESSED)
        .replace("{secret}", SECRET)
        .replace("{other}", OTHER)
}

fn assert_nothing_of_the_victim(text: &str, what: &str) {
    let lower = text.to_lowercase();
    for marker in MARKERS {
        assert!(!lower.contains(marker), "{what} shows {marker:?}:\n{text}");
    }
}

// --- connections --------------------------------------------------------------------------------

/// A connection that keeps the notices and warnings it is sent.
struct Session {
    client: Client,
    notices: Arc<Mutex<Vec<String>>>,
}

impl Deref for Session {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl Session {
    fn open(db: &Database, role: &str) -> Self {
        Self::with_options(db, role, "")
    }

    /// Connects with command-line options for the server, as PGOPTIONS does.
    fn with_options(db: &Database, role: &str, options: &str) -> Self {
        let notices = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&notices);
        let client = Config::new()
            .host_path(&shared().directory)
            .user(role)
            .dbname(&db.name)
            .options(options)
            .notice_callback(move |notice| sink.lock().unwrap().push(format!("{notice:?}")))
            .connect(NoTls)
            .unwrap();
        Self { client, notices }
    }

    fn notices(&self) -> Vec<String> {
        std::mem::take(&mut self.notices.lock().unwrap())
    }

    /// The first column of the first row, as text; NULL is empty.
    fn text(&mut self, sql: &str) -> String {
        rows(&mut self.client, sql)
            .first()
            .map(|row| row[0].clone())
            .unwrap_or_default()
    }

    fn sql(&mut self, sql: &str) {
        self.batch_execute(sql)
            .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }

    fn code(&mut self, sql: &str) -> String {
        failure(self.simple_query(sql)).code
    }

    /// Begins a transaction as PostgREST does.
    fn begin(&mut self, role: &str, claims: &str) {
        self.sql(&format!(
            "BEGIN; SET LOCAL ROLE {role}; SELECT set_config('request.jwt.claims', $${claims}$$, true)"
        ));
    }
}

/// The rows of a statement as text; NULL is empty.
fn rows(client: &mut Client, sql: &str) -> Vec<Vec<String>> {
    let messages = client
        .simple_query(sql)
        .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let mut out = Vec::new();
    for message in messages {
        if let SimpleQueryMessage::Row(row) = message {
            out.push(
                (0..row.len())
                    .map(|i| row.get(i).unwrap_or_default().to_owned())
                    .collect(),
            );
        }
    }
    out
}

fn token(sub: &str) -> String {
    format!(r#"{{"role":"authenticated","sub":"{sub}"}}"#)
}

// --- the matrix: callers ------------------------------------------------------------------------

/// What a caller is to the victim; the index of the outcome in a row of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// A role that was granted nothing.
    Closed,
    /// A role with access, but no identity.
    Nobody,
    /// Somebody else.
    Stranger,
    /// The victim's own self: shows that the door works.
    Victim,
    /// A role that bypasses row security.
    Service,
}
use Standing::{Closed, Nobody, Service, Stranger, Victim};
const STANDINGS: [Standing; 5] = [Closed, Nobody, Stranger, Victim, Service];

struct Caller {
    standing: Standing,
    login: &'static str,
    name: &'static str,
    /// What was before on the same connection.
    before: &'static str,
    /// What its transaction begins with.
    begin: &'static str,
}

/// Standing, login role and name of each caller; what it does before and at the start of its
/// transaction.
const CALLERS: &str = r#"
closed authenticator: anon
    begin: SET LOCAL ROLE anon; SELECT set_config('request.jwt.claims', '{"role":"anon"}', true)
closed outsider: a role without a grant that claims to be the victim
    begin: SELECT set_config('request.jwt.claims', '{"role":"authenticated","sub":"{ws}"}', true)
nobody authenticator: a token without sub
    begin: SET LOCAL ROLE authenticated; SELECT set_config('request.jwt.claims', '{"role":"authenticated"}', true)
nobody authenticator: no claims at all
    begin: SET LOCAL ROLE authenticated
nobody authenticator: empty claims
    begin: SET LOCAL ROLE authenticated; SELECT set_config('request.jwt.claims', '', true)
nobody authenticator: claims that are not JSON
    begin: SET LOCAL ROLE authenticated; SELECT set_config('request.jwt.claims', 'sub={ws}', true)
nobody authenticator: a sub that is no string
    begin: SET LOCAL ROLE authenticated; SELECT set_config('request.jwt.claims', '{"sub":["{ws}"]}', true)
nobody authenticator: the nil UUID
    begin: SET LOCAL ROLE authenticated; SELECT set_config('request.jwt.claims', '{"sub":"00000000-0000-0000-0000-000000000000"}', true)
nobody authenticator: nobody, after a transaction of the victim
    before: BEGIN; SET LOCAL ROLE authenticated; SELECT set_config('request.jwt.claims', '{"sub":"{ws}"}', true), set_config('engram.user_id', '{ws}', true); SELECT count(*) FROM engram.memories; COMMIT
    begin: SET LOCAL ROLE authenticated
nobody authenticator: an anonymous token beside a left-over engram.user_id of the victim
    before: SET engram.user_id = '{ws}'
    begin: SET LOCAL ROLE authenticated; SELECT set_config('request.jwt.claims', '{"role":"authenticated"}', true)
nobody app: an application that set nobody
    begin: SET LOCAL engram.user_id = ''
stranger authenticator: another user
    begin: SET LOCAL ROLE authenticated; SELECT set_config('request.jwt.claims', '{"sub":"{other}"}', true)
stranger authenticator: another user, beside a left-over engram.user_id of the victim
    before: SET engram.user_id = '{ws}'
    begin: SET LOCAL ROLE authenticated; SELECT set_config('request.jwt.claims', '{"sub":"{other}"}', true)
stranger authenticator: a subject that is no UUID
    begin: SET LOCAL ROLE authenticated; SELECT set_config('request.jwt.claims', '{"sub":"auth0|123"}', true)
stranger app: another user of an application
    begin: SET LOCAL engram.user_id = '{other}'
victim authenticator: the victim by token
    begin: SET LOCAL ROLE authenticated; SELECT set_config('request.jwt.claims', '{"sub":"{ws}"}', true)
victim app: the victim by setting
    begin: SET LOCAL engram.user_id = '{ws}'
service authenticator: service_role
    begin: SET LOCAL ROLE service_role; SELECT set_config('request.jwt.claims', '{"role":"service_role"}', true)
"#;

fn callers() -> Vec<Caller> {
    let mut callers: Vec<Caller> = Vec::new();
    for line in CALLERS.lines().filter(|line| !line.is_empty()) {
        let (key, value) = line.split_once(": ").expect("key: value");
        match (key.trim(), callers.last_mut()) {
            ("before", Some(caller)) => caller.before = value,
            ("begin", Some(caller)) => caller.begin = value,
            (key, _) => {
                let (standing, login) = key.split_once(' ').expect("standing and login role");
                let standing = STANDINGS
                    .into_iter()
                    .find(|s| format!("{s:?}").to_lowercase() == standing);
                callers.push(Caller {
                    standing: standing.expect("a standing"),
                    login,
                    name: value,
                    before: "",
                    begin: "",
                });
            }
        }
    }
    callers
}

// --- the matrix: doors --------------------------------------------------------------------------

/// What must come out of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// So many rows seen or changed.
    Rows(usize),
    /// An error with this SQLSTATE.
    Error(&'static str),
}

const NO: Expect = Expect::Error("42501");

/// A statement, what must come out for each [`Standing`], and a row to copy in, if it does that.
struct Try {
    sql: String,
    expected: [Expect; 5],
    input: String,
}

/// Every function of the two schemas, by name and arguments; under it what is tried, with the
/// outcome for a caller that is closed, nobody, a stranger, the victim, a service: a number of rows
/// or a SQLSTATE; `no` is 42501. 22023 is for a trusted caller that names nobody's workspace.
const FUNCTIONS: &str = r#"
# The public ones. Each is tried with the caller's own workspace and with the victim's.
engram.add(content, type, importance, embedding, tags, metadata, occurred_at, agent_id, session_id, speaker, role, source, entities, id, expires_at, on_duplicate, workspace)
    no    no    1     1     22023 SELECT engram.add('new')
    no    no    no    1     1     SELECT engram.add('new', workspace => '{ws}')
    no    no    no    23505 23505 SELECT engram.add('new', id => '{id}', workspace => '{ws}')
# The same content and the same id in one's own workspace find nothing of the victim's.
    no    no    0     1     22023 SELECT a FROM engram.add('Plain zebra note') a WHERE a = '{id}'
    no    no    1     23505 22023 SELECT engram.add('Plain zebra note', on_duplicate => 'reject')
    no    no    1     23505 22023 SELECT engram.add('other', id => '{id}')
    no    no    1     1     22023 SELECT engram.add('near', embedding => '[1,2,3]', entities => '{zebra}')
engram.add_many(items, workspace)
    no    no    1     1     22023 SELECT * FROM engram.add_many('[{"content": "new"}]')
    no    no    no    1     1     SELECT * FROM engram.add_many('[{"content": "new"}]', '{ws}')
    no    no    0     1     22023 SELECT * FROM engram.add_many('[{"content": "other", "id": "{id}"}]') WHERE status = 'error'
    no    no    1     0     22023 SELECT * FROM engram.add_many('[{"content": "Plain zebra note"}]') WHERE status = 'added'
engram.get(id, workspace, as_of)
    no    0     0     1     22023 SELECT * FROM engram.get('{id}', as_of => now())
    no    no    no    1     1     SELECT * FROM engram.get('{id}', '{ws}', now())
    no    0     0     1     22023 SELECT * FROM engram.get('{id}')
    no    no    no    1     1     SELECT * FROM engram.get('{id}', '{ws}')
engram.list(filter, match_count, skip, cursor, include, workspace, as_of)
    no    0     0     2     22023 SELECT * FROM engram.list(as_of => now())
    no    no    no    2     2     SELECT * FROM engram.list(workspace => '{ws}', as_of => now())
    no    0     0     1     22023 SELECT * FROM engram.list('{"tags": "tag", "layer": "working"}', as_of => now())
    no    0     0     2     22023 SELECT * FROM engram.list()
    no    0     0     3     22023 SELECT * FROM engram.list(include => '{forgotten,superseded,expired}')
    no    no    no    2     2     SELECT * FROM engram.list(workspace => '{ws}')
    no    0     0     2     22023 SELECT * FROM engram.list('{"user_id": "{ws}"}')
    no    0     0     2     22023 SELECT * FROM engram.list('{"OR": [{"id": "{id}"}, {"NOT": {"id": "{id}"}}]}')
engram.search(query_text, query_embedding, match_count, filter, types, min_score, explain, include, model, at, workspace, as_of, diversity)
    no    0     0     1     22023 SELECT * FROM engram.search('sings', '[1,2,3]', explain => true, diversity => 1)
    no    0     0     2     22023 SELECT * FROM engram.search('zebra', as_of => now())
    no    0     0     2     22023 SELECT * FROM engram.search('zebar')
    no    no    no    2     2     SELECT * FROM engram.search('zebar', workspace => '{ws}')
    no    0     0     1     22023 SELECT * FROM engram.search('sings', '[1,2,3]', explain => true, as_of => now())
    no    0     0     2     22023 SELECT * FROM engram.search(filter => '{"NOT": {"tags": "x"}}', as_of => now())
    no    no    no    2     2     SELECT * FROM engram.search('zebra', workspace => '{ws}', as_of => now())
    no    0     0     2     22023 SELECT * FROM engram.search('zebra')
    no    no    no    2     2     SELECT * FROM engram.search('zebra', workspace => '{ws}')
    no    0     0     1     22023 SELECT * FROM engram.search('sings', '[1,2,3]', explain => true)
    no    0     0     1     22023 SELECT * FROM engram.search(query_embedding => '[1,2,3]', explain => true)
    no    0     0     2     22023 SELECT * FROM engram.search()
    no    no    no    2     2     SELECT * FROM engram.search(include => '{superseded,expired}', workspace => '{ws}')
    no    0     0     2     22023 SELECT * FROM engram.search('zebra', filter => '{"user_id": "{ws}"}')
engram.changes(since, match_count, workspace)
# Nobody has nothing but the end; everybody else has it too.
    no    1     1     3     22023 SELECT * FROM engram.changes()
    no    0     0     2     22023 SELECT * FROM engram.changes() WHERE op <> 'end'
    no    no    no    3     3     SELECT * FROM engram.changes(workspace => '{ws}')
engram.history(id, workspace)
    no    0     0     1     22023 SELECT * FROM engram.history('{id}')
    no    0     0     2     22023 SELECT * FROM engram.history('{secret}')
    no    0     0     1     22023 SELECT * FROM engram.history('018f0000-aaaa-7000-8000-000000000004')
    no    no    no    2     2     SELECT * FROM engram.history('{secret}', '{ws}')
engram.revert(id, version, expected_version, workspace)
    no    no    PT404 1     22023 SELECT engram.revert('{id}', 1)
    no    no    PT404 PT409 22023 SELECT engram.revert('{id}', 1, 9)
    no    no    no    1     1     SELECT engram.revert('{id}', 1, workspace => '{ws}')
engram.stats(workspace)
    no    0     0     1     22023 SELECT * FROM engram.stats() s WHERE memories + forgotten + pending_embeddings + content_chars > 0 OR oldest IS NOT NULL OR by_type <> '{}' OR embeddings <> '{}'
    no    no    no    1     1     SELECT * FROM engram.stats('{ws}')
engram.update(id, content, summary, type, importance, tags, metadata, occurred_at, agent_id, session_id, speaker, role, source, entities, embedding, valid_from, valid_to, expires_at, clear, expected_version, workspace)
    no    no    PT404 1     22023 SELECT engram.update('{id}', 'taken over')
    no    no    no    1     1     SELECT engram.update('{id}', 'taken over', workspace => '{ws}')
    no    no    PT404 1     22023 SELECT engram.update('{id}', entities => '{me}', embedding => '[3,2,1]', expected_version => 1)
engram.forget(id, workspace)
    no    no    PT404 1     22023 SELECT engram.forget('{id}')
    no    no    no    1     1     SELECT engram.forget('{id}', '{ws}')
engram.restore(id, workspace)
    no    no    PT404 1     22023 SELECT engram.restore('{id}')
    no    no    no    1     1     SELECT engram.restore('{id}', '{ws}')
engram.activation(id, at, workspace)
    no    0     0     1     22023 SELECT a FROM engram.activation('{id}') a WHERE a IS NOT NULL
    no    no    no    1     1     SELECT engram.activation('{id}', workspace => '{ws}')
engram.activations(ids, at, workspace)
    no    0     0     1     22023 SELECT * FROM engram.activations(ARRAY['{id}']::uuid[])
    no    no    no    1     1     SELECT * FROM engram.activations(ARRAY['{id}']::uuid[], workspace => '{ws}')
    no    no    no    1     1     SELECT * FROM engram.activations(workspace => '{ws}') a WHERE a.id = '{id}'
engram.retention(id, at, workspace)
    no    0     0     1     22023 SELECT * FROM engram.retention('{id}')
    no    no    no    1     1     SELECT * FROM engram.retention('{id}', workspace => '{ws}')
engram.memory_overview_of(workspace, id)
    no    0     0     1     1     SELECT * FROM engram.memory_overview_of('{ws}', '{id}')
    no    0     0     2     2     SELECT * FROM engram.memory_overview WHERE workspace_id = '{ws}'
engram.touch(ids, kind, gain, at, recall_id, workspace)
    no    no    0     1     22023 SELECT t FROM engram.touch(ARRAY['{id}']::uuid[]) t WHERE t > 0
    no    no    0     0     22023 SELECT t FROM engram.touch(ARRAY['{secret}']::uuid[], recall_id => '{secret}') t WHERE t > 0
    no    no    no    1     1     SELECT engram.touch(ARRAY['{id}']::uuid[], workspace => '{ws}')
engram.reinforce(ids, value, at, recall_id, workspace)
    no    no    0     1     22023 SELECT t FROM engram.reinforce(ARRAY['{id}']::uuid[], -1) t WHERE t > 0
    no    no    no    1     1     SELECT engram.reinforce(ARRAY['{id}']::uuid[], workspace => '{ws}')
engram.rate(id, rating, at, recall_id, workspace)
    no    no    PT404 1     22023 SELECT engram.rate('{id}', 1)
    no    no    no    1     1     SELECT engram.rate('{id}', 1, workspace => '{ws}')
engram.recall(query_text, query_embedding, match_count, filter, types, min_score, explain, include, model, at, workspace)
    no    0     0     1     22023 SELECT * FROM engram.recall('plain')
    no    no    no    1     1     SELECT * FROM engram.recall('plain', workspace => '{ws}')
engram.consolidate(workspace, at, dry_run, batch_size)
    no    no    1     1     1     SELECT * FROM engram.consolidate()
    no    no    no    1     1     SELECT * FROM engram.consolidate('{ws}')
engram.consolidate_in_batches(batch_size, at)
    no    25001 25001 25001 25001 CALL engram.consolidate_in_batches()
engram.configuration(workspace)
    no    0     0     1     22023 SELECT * FROM engram.configuration() c WHERE c ->> 'max_content_chars' = '4242424'
    no    no    no    1     1     SELECT engram.configuration('{ws}')
engram.configure(changes, workspace)
    no    no    1     1     22023 SELECT engram.configure('{"decay": 0.4}')
    no    no    no    no    1     SELECT engram.configure('{"max_content_chars": 4}', '{ws}')
    no    no    no    1     1     SELECT engram.configure('{"decay": 0.4}', '{ws}')
    no    no    no    no    1     SELECT engram.configure('{"decay": 0.4}', '00000000-0000-0000-0000-000000000000')
engram.apply_preset(name, workspace)
    no    no    1     1     22023 SELECT engram.apply_preset('chatbot')
    no    no    no    1     1     SELECT engram.apply_preset('chatbot', '{ws}')
engram.pin(id, workspace)
    no    no    PT404 1     22023 SELECT engram.pin('{id}')
    no    no    no    1     1     SELECT engram.pin('{id}', '{ws}')
engram.unpin(id, workspace)
    no    no    PT404 1     22023 SELECT engram.unpin('{id}')
    no    no    no    1     1     SELECT engram.unpin('{id}', '{ws}')
engram.supersede(old, new, content, type, importance, embedding, tags, metadata, occurred_at, agent_id, session_id, speaker, role, source, entities, expires_at, workspace)
    no    no    PT404 1     22023 SELECT engram.supersede('{id}', '{secret}')
    no    no    PT404 1     22023 SELECT engram.supersede('{id}', content => 'taken over')
    no    no    no    1     1     SELECT engram.supersede('{id}', '{secret}', workspace => '{ws}')
    no    no    no    1     1     SELECT engram.supersede('{id}', content => 'taken over', workspace => '{ws}')
engram.unsupersede(id, workspace)
    no    no    PT404 1     22023 SELECT engram.unsupersede('{id}')
    no    no    no    1     1     SELECT engram.unsupersede('{id}', '{ws}')
engram.latest(id, workspace)
    no    PT404 PT404 1     22023 SELECT engram.latest('{id}')
    no    no    no    1     1     SELECT engram.latest('{id}', '{ws}')
engram.superseded(id, workspace)
    no    PT404 PT404 1     22023 SELECT * FROM engram.superseded('{id}')
    no    no    no    1     1     SELECT * FROM engram.superseded('{id}', '{ws}')
engram.contradict(a, b, workspace)
    no    no    PT404 1     22023 SELECT engram.contradict('{id}', '{secret}')
    no    no    no    1     1     SELECT engram.contradict('{id}', '{secret}', '{ws}')
engram.uncontradict(a, b, workspace)
    no    no    PT404 1     22023 SELECT engram.uncontradict('{id}', '{secret}')
    no    no    no    1     1     SELECT engram.uncontradict('{id}', '{secret}', '{ws}')
engram.conflicts(match_count, skip, workspace)
    no    0     0     1     22023 SELECT * FROM engram.conflicts()
    no    no    no    1     1     SELECT * FROM engram.conflicts(workspace => '{ws}')
engram.resolve(keep, drop, workspace)
    no    no    PT404 1     22023 SELECT engram.resolve('{secret}', '{id}')
    no    no    no    1     1     SELECT engram.resolve('{secret}', '{id}', '{ws}')
engram.context(query_text, query_embedding, max_tokens, filter, match_count, types, at, workspace)
    no    0     0     1     22023 SELECT c FROM engram.context('zebra') c WHERE c->>'tokens' <> '0'
    no    0     0     1     22023 SELECT c FROM engram.context() c WHERE c->>'tokens' <> '0'
    no    no    no    1     1     SELECT c FROM engram.context('zebra', workspace => '{ws}') c WHERE c->>'tokens' <> '0'
engram.erase(ids, filter, dry_run, workspace)
    no    no    0     1     22023 SELECT * FROM engram.erase('{{id}}')
    no    no    no    1     1     SELECT * FROM engram.erase('{{id}}', workspace => '{ws}')
    no    no    0     3     22023 SELECT * FROM engram.erase(filter => '{"created_at": {"exists": true}}')
    no    no    0     3     22023 SELECT * FROM engram.erase(filter => '{"created_at": {"exists": true}}', dry_run => true)
    no    no    no    3     3     SELECT * FROM engram.erase(filter => '{"NOT": {"content": ""}}', workspace => '{ws}')
engram.append_messages(items, session_id, workspace)
    no    no    1     1     22023 SELECT * FROM engram.append_messages('[{"content": "new"}]', 'mine')
    no    no    no    1     1     SELECT * FROM engram.append_messages('[{"content": "new"}]', 'session', '{ws}')
# The id of a turn of the victim is as good as any for everybody else.
    no    no    1     1     22023 SELECT * FROM engram.append_messages('[{"content": "new", "id": "{id}"}]', 'mine') WHERE status IN ('added', 'unchanged')
    no    no    1     1     22023 SELECT * FROM engram.append_messages('[{"content": "new", "id": "018f0000-aaaa-7000-8000-000000000005"}]', 'mine') WHERE status IN ('added', 'unchanged')
engram.messages(session_id, match_count, cursor, include_archived, workspace)
    no    0     0     1     22023 SELECT * FROM engram.messages('session')
    no    0     0     2     22023 SELECT * FROM engram.messages('session', include_archived => true)
    no    no    no    2     2     SELECT * FROM engram.messages('session', include_archived => true, workspace => '{ws}')
engram.conversations(match_count, cursor, workspace)
    no    0     0     1     22023 SELECT * FROM engram.conversations() WHERE session_id = 'session'
    no    no    no    1     1     SELECT * FROM engram.conversations(workspace => '{ws}')
engram.archive_messages(inactive_for, keep, dry_run, batch_size, workspace)
    no    no    0     1     1     SELECT * FROM engram.archive_messages(keep => 0) WHERE archived > 0
    no    no    0     1     1     SELECT * FROM engram.archive_messages(keep => 0, dry_run => true) WHERE archived > 0
    no    no    no    1     1     SELECT * FROM engram.archive_messages(keep => 0, workspace => '{ws}') WHERE archived > 0
engram.restore_messages(session_id, workspace)
    no    no    0     1     22023 SELECT r FROM engram.restore_messages('session') r WHERE r > 0
    no    no    no    1     1     SELECT r FROM engram.restore_messages('session', '{ws}') r WHERE r > 0
engram.erase_messages(session_id, ids, dry_run, workspace)
    no    no    0     1     22023 SELECT * FROM engram.erase_messages('session') WHERE messages + archived > 0
    no    no    0     1     22023 SELECT * FROM engram.erase_messages('session', '{{id}}', dry_run => true) WHERE messages + archived > 0
    no    no    0     1     22023 SELECT * FROM engram.erase_messages('session', '{{id}}') WHERE messages + archived > 0
    no    no    no    1     1     SELECT * FROM engram.erase_messages('session', workspace => '{ws}') WHERE messages + archived > 0
engram.export(workspace, include, match_count, cursor)
    no    0     0     3     22023 SELECT l FROM engram.export() l WHERE l ->> 'kind' = 'memory' AND l ->> 'user_id' = '{ws}'
    no    0     0     6     22023 SELECT l FROM engram.export() l WHERE l::text LIKE '%can' || 'ary%'
    no    no    no    15    15    SELECT engram.export('{ws}')
    no    0     0     2     22023 SELECT l FROM engram.export(include => '{messages}', cursor => '10:["{id}"]') l WHERE l ->> 'session_id' = 'session'
engram.import(data, format, on_conflict, dry_run, workspace)
    no    no    1     0     22023 SELECT * FROM engram.import('{"kind": "memory", "id": "{id}", "content": "new"}') WHERE status IN ('added', 'unchanged')
    no    no    1     1     22023 SELECT * FROM engram.import('{"kind": "memory", "id": "{id}", "content": "taken over"}', on_conflict => 'replace')
    no    no    1     0     22023 SELECT * FROM engram.import('{"kind": "memory", "id": "018f0000-aaaa-7000-8000-000000000004", "content": "new"}') WHERE status IN ('added', 'unchanged')
    no    no    1     1     22023 SELECT * FROM engram.import('{"kind": "memory", "id": "{id}", "content": "new", "workspace_id": "{ws}"}') WHERE status = 'error'
    no    no    1     0     22023 SELECT status FROM engram.import('{"kind": "link", "source": "{id}", "target": "{secret}", "relation": "x"}') WHERE status = 'error'
    no    no    1     1     22023 SELECT * FROM engram.import('{"kind": "message", "session_id": "theirs", "id": "{id}", "created_at": "2024-01-01", "role": "user", "content": "x"}') WHERE status IN ('added', 'unchanged')
    no    no    no    1     1     SELECT * FROM engram.import('{"kind": "memory", "id": "{id}", "content": "new"}', workspace => '{ws}')
engram.link(source, target, relation, weight, workspace)
    no    no    PT404 1     22023 SELECT engram.link('{id}', '{secret}')
    no    no    no    1     1     SELECT engram.link('{id}', '{secret}', workspace => '{ws}')
engram.unlink(source, target, relation, workspace)
    no    no    1     1     22023 SELECT engram.unlink('{id}', '{secret}')
    no    no    no    1     1     SELECT engram.unlink('{id}', '{secret}', workspace => '{ws}')
engram.add_entities(id, names, workspace)
    no    no    PT404 1     22023 SELECT engram.add_entities('{id}', '{me}')
    no    no    no    1     1     SELECT engram.add_entities('{id}', '{me}', '{ws}')
engram.remove_entities(id, names, workspace)
    no    no    PT404 1     22023 SELECT engram.remove_entities('{id}', '{me}')
    no    no    no    1     1     SELECT engram.remove_entities('{id}', '{me}', '{ws}')
engram.add_alias(entity, alias, workspace)
    no    no    1     1     22023 SELECT engram.add_alias('zebra', 'horse')
    no    no    no    1     1     SELECT engram.add_alias('zebra', 'horse', '{ws}')
engram.remove_alias(alias, workspace)
    no    no    1     1     22023 SELECT engram.remove_alias('horse')
    no    no    no    1     1     SELECT engram.remove_alias('horse', '{ws}')
engram.entities(query, match_count, workspace)
    no    0     0     1     22023 SELECT * FROM engram.entities()
    no    no    no    1     1     SELECT * FROM engram.entities(workspace => '{ws}')
engram.related(id, entity, relation, hops, match_count, at, workspace)
    no    0     PT404 0     22023 SELECT * FROM engram.related('{id}')
    no    no    no    0     0     SELECT * FROM engram.related('{id}', workspace => '{ws}')
    no    0     0     1     22023 SELECT * FROM engram.related(entity => 'can' || 'ary')
    no    no    no    1     1     SELECT * FROM engram.related(entity => 'can' || 'ary', workspace => '{ws}')
engram.path(source, target, max_hops, workspace)
    no    0     PT404 1     22023 SELECT * FROM engram.path('{id}', '{id}')
    no    no    no    1     1     SELECT * FROM engram.path('{id}', '{id}', workspace => '{ws}')
engram.links(id, at, workspace)
    no    0     PT404 0     22023 SELECT * FROM engram.links('{id}')
    no    no    no    0     0     SELECT * FROM engram.links('{id}', workspace => '{ws}')
engram.spread(workspace, seeds, weights, alpha, max_hops, eps, max_edges, at)
    no    0     0     1     22023 SELECT * FROM engram.spread(null, '{{id}}')
    no    no    no    1     1     SELECT * FROM engram.spread('{ws}', '{{id}}')
engram.set_embedding(id, embedding, model, expected_version, workspace)
    no    no    PT404 1     22023 SELECT engram.set_embedding('{id}', '[3,2,1]')
    no    no    no    1     1     SELECT engram.set_embedding('{id}', '[3,2,1]', workspace => '{ws}')
engram.pending_embeddings(model, match_count, lease_seconds, workspace)
# A worker that bypasses row security gets the work of all workspaces.
    no    no    0     1     1     SELECT * FROM engram.pending_embeddings()
    no    no    no    1     1     SELECT * FROM engram.pending_embeddings(workspace => '{ws}')
engram.set_embedding_model(name, dims, make_default, distance)
    no    no    no    no    1     SELECT engram.set_embedding_model('mine', 3, true)
engram.drop_embedding_model(name)
    no    no    no    no    1     SELECT engram.drop_embedding_model('spare')
engram.embedding_progress(workspace)
    no    0     0     1     1     SELECT * FROM engram.embedding_progress() WHERE embedded > 0
    no    no    no    1     1     SELECT * FROM engram.embedding_progress('{ws}') WHERE embedded > 0
engram.setup(options)
    no    no    no    no    no    SELECT engram.setup('{"grant_to": ["anon"]}')
engram.reindex(workspace)
    no    no    no    no    no    SELECT engram.reindex()
    no    no    no    no    no    SELECT engram.reindex('{ws}')
engram.whoami()
    no    0     0     1     0     SELECT * FROM engram.whoami() w WHERE w.user_id = '{ws}' OR w.subject = '{ws}' OR '{ws}' = ANY (w.readable || w.writable)
engram.version()
    no    1     1     1     1     SELECT * FROM engram.version()
# What the policies ask.
engram.current_user_id()
    no    0     0     1     0     SELECT u FROM engram.current_user_id() u WHERE u = '{ws}'
engram.readable_workspaces()
    no    0     0     1     0     SELECT w FROM unnest(engram.readable_workspaces()) w WHERE w = '{ws}'
engram.writable_workspaces()
    no    0     0     1     0     SELECT w FROM unnest(engram.writable_workspaces()) w WHERE w = '{ws}'
# The memory models, which read nothing.
engram.base_level(ages_s, d)
    no    1     1     1     1     SELECT engram.base_level('{60}')
engram.base_level_agg(accessed_at, now, d)
    no    1     1     1     1     SELECT engram.base_level_agg('2026-01-01', '2026-01-02', 0.5)
engram.base_level_optimized(n, age_s, d)
    no    1     1     1     1     SELECT engram.base_level_optimized(1, 60)
engram.base_level_petrov(recent_ages_s, n, age_created_s, d)
    no    1     1     1     1     SELECT engram.base_level_petrov('{60}', 1, 60)
engram.retrieval_probability(a, tau, s)
    no    1     1     1     1     SELECT engram.retrieval_probability(-2, -8)
engram.retrieval_latency(a, f, lf)
    no    1     1     1     1     SELECT engram.retrieval_latency(-2)
engram.activation_01(a, center, scale)
    no    1     1     1     1     SELECT engram.activation_01(-2)
engram.heat_new(t, gain)
    no    1     1     1     1     SELECT engram.heat_new('2026-01-01')
engram.heat_touch(heat, t, gain)
    no    1     1     1     1     SELECT engram.heat_touch(engram.heat_new('2026-01-01'), '2026-01-02')
engram.heat_merge(a, b)
    no    1     1     1     1     SELECT engram.heat_merge(h, h) FROM engram.heat_new('2026-01-01') h
engram.heat_level(heat, now, d)
    no    1     1     1     1     SELECT engram.heat_level(engram.heat_new('2026-01-01'), '2026-01-02')
engram.heat_mass(heat, m, now)
    no    1     1     1     1     SELECT engram.heat_mass(engram.heat_new('2026-01-01'), 11, '2026-01-02')
engram.heat_count(heat)
    no    1     1     1     1     SELECT engram.heat_count(engram.heat_new('2026-01-01'))
engram.heat_agg(accessed_at, gain)
    no    1     1     1     1     SELECT engram.heat_agg('2026-01-01', 1)
engram.heat_merge_agg(heat)
    no    1     1     1     1     SELECT engram.heat_merge_agg(h) FROM engram.heat_new('2026-01-01') h
engram.trace_evolve(r1, r2, dt_days, alpha, mu1, mu2, input)
    no    1     1     1     1     SELECT * FROM engram.trace_evolve(1, 0, 1, 0.1, 0.15, 0.005)
engram.trace_strength(r1, r2)
    no    1     1     1     1     SELECT engram.trace_strength(1, 0)
engram.consolidation_alpha(importance, alpha)
    no    1     1     1     1     SELECT engram.consolidation_alpha(0.5)
engram.layer_tick(layer, r1, r2, dt_days, alpha, mu1, mu2, promote, demote, archive)
    no    1     1     1     1     SELECT engram.layer_tick('core', 1, 0, 1, 0.1, 0.15, 0.005)
engram.fsrs_retrievability(elapsed_days, stability, decay)
    no    1     1     1     1     SELECT engram.fsrs_retrievability(1, 1)
engram.fsrs_step(stability, difficulty, elapsed_days, rating, w)
    no    1     1     1     1     SELECT * FROM engram.fsrs_step(null, null, null, 3)
engram.fsrs_interval(stability, retention)
    no    1     1     1     1     SELECT engram.fsrs_interval(1)
engram.exp_retrievability(t_days, s_days)
    no    1     1     1     1     SELECT engram.exp_retrievability(1, 1)
engram.stability_upstream(type, n, importance, consolidation_count)
    no    1     1     1     1     SELECT engram.stability_upstream('factual', 1, 0.5, 0)
engram.link_decay(x, dt_s, half_life_s)
    no    1     1     1     1     SELECT engram.link_decay(1, 60)
engram.link_strength(x)
    no    1     1     1     1     SELECT engram.link_strength(1)
engram.link_direction(xf, xb)
    no    1     1     1     1     SELECT engram.link_direction(1, 2)
engram.link_ppmi(xij, xi, xj, total, kappa)
    no    1     1     1     1     SELECT engram.link_ppmi(1, 2, 2, 10)
engram.spread_fan(s, fan)
    no    1     1     1     1     SELECT engram.spread_fan(1.5, 2)
engram.need_score(base_level, text_llr, cos_centered, lift, importance, contradicted, betas)
    no    1     1     1     1     SELECT engram.need_score(-2, 3, 0.1, 0, 0.5, false)
engram.need_probability(score, b0)
    no    1     1     1     1     SELECT engram.need_probability(1)
engram.should_extract(message_id, content, turns, min_chars, min_turns, base_rate, full_rate, mature_turns, role)
    no    1     1     1     1     SELECT engram.should_extract('{id}', 'x', 1)
# Trigger functions: see also definer_triggers_serve_their_own_table_only.
engram.memories_before_write()
    no    no    no    no    no    SELECT engram.memories_before_write()
engram.memories_after_insert()
    no    no    no    no    no    SELECT engram.memories_after_insert()
engram.memories_after_change()
    no    no    no    no    no    SELECT engram.memories_after_change()
engram.memories_after_update()
    no    no    no    no    no    SELECT engram.memories_after_update()
engram.memories_after_delete()
    no    no    no    no    no    SELECT engram.memories_after_delete()
engram.embeddings_before_write()
    no    no    no    no    no    SELECT engram.embeddings_before_write()
engram.memories_after_truncate()
    no    no    no    no    no    SELECT engram.memories_after_truncate()
engram.embeddings_after_truncate()
    no    no    no    no    no    SELECT engram.embeddings_after_truncate()
engram.embeddings_after_insert()
    no    no    no    no    no    SELECT engram.embeddings_after_insert()
engram.embeddings_after_update()
    no    no    no    no    no    SELECT engram.embeddings_after_update()
engram.embeddings_after_delete()
    no    no    no    no    no    SELECT engram.embeddings_after_delete()
engram.restore_skips()
    no    no    no    no    no    SELECT engram.restore_skips()
engram.embedding_models_after_delete()
    no    no    no    no    no    SELECT engram.embedding_models_after_delete()
engram.access_queue_after_insert()
    no    no    no    no    no    SELECT engram.access_queue_after_insert()
engram.settings_before_change()
    no    no    no    no    no    SELECT engram.settings_before_change()
engram.settings_after_change()
    no    no    no    no    no    SELECT engram.settings_after_change()
engram.restore_replaces()
    no    no    no    no    no    SELECT engram.restore_replaces()
engram.memories_after_change()
    no    no    no    no    no    SELECT engram.memories_after_change()
engram.memories_broadcast()
    no    no    no    no    no    SELECT engram.memories_broadcast()
# Of all users at once: for roles that bypass row security.
engram.create_partitions(until)
    no    no    no    no    0     SELECT * FROM engram.create_partitions()
engram.drop_partitions(older_than, parent, dry_run)
    no    no    no    no    0     SELECT * FROM engram.drop_partitions()
    no    no    no    no    1     SELECT * FROM engram.drop_partitions('0 days', 'access_log', true)
engram.detach_partitions(older_than, parent, into_schema, into_table, dry_run)
    no    no    no    no    1     SELECT * FROM engram.detach_partitions('0 days', 'access_log', dry_run => true)
engram.maintain(phases, report)
    no    no    no    no    25001 CALL engram.maintain()
engram.health()
    no    no    no    no    1     SELECT engram.health()
engram.metric_rows()
    no    no    no    no    1     SELECT count(*) FROM engram.metric_rows()
    no    no    no    no    1     SELECT count(*) FROM engram.metrics
engram.schedule_maintenance(schedule)
    no    no    no    no    55000 SELECT engram.schedule_maintenance()
engram.unschedule_maintenance()
    no    no    no    no    0     SELECT u FROM engram.unschedule_maintenance() u WHERE u
engram.enable_realtime(mode)
    no    no    no    no    22023 SELECT engram.enable_realtime('none')
engram.disable_realtime(mode)
    no    no    no    no    0     SELECT d FROM engram.disable_realtime() d WHERE d
engram.set_retention(name, max_age, max_count, types, max_importance, action, workspace)
    no    no    no    1     1     SELECT engram.set_retention('x', '1 day', workspace => '{ws}')
    no    no    1     1     22023 SELECT engram.set_retention('mine', '1 day')
engram.drop_retention(name, workspace)
    no    no    no    1     1     SELECT d FROM engram.drop_retention('canary' || ' policy', '{ws}') d WHERE d
engram.apply_retention(dry_run, at, workspace)
    no    no    no    1     1     SELECT * FROM engram.apply_retention(true, workspace => '{ws}')
engram.purge(older_than, dry_run, at, workspace)
    no    no    no    1     1     SELECT * FROM engram.purge('0 days', true, workspace => '{ws}')
    no    no    0     1     22023 SELECT * FROM engram.purge('0 days', true)
engram_internal.administer(task, args)
    no    no    no    no    1     SELECT engram_internal.administer('create_partitions', '{}')
    no    no    no    no    1     SELECT engram_internal.administer('maintain', '{"phase": "purge"}')
engram_internal.observe(task, args)
    no    no    no    no    1     SELECT engram_internal.observe('metrics', '{}')
engram_internal.maintain_step(phase, after, so_far)
    no    no    no    no    1     SELECT engram_internal.maintain_step('purge', null, null)
engram_internal.outside_transaction(name)
    25001 25001 25001 25001 25001 SELECT engram_internal.outside_transaction('x')
engram_internal.require_administrator()
    no    no    no    no    1     SELECT engram_internal.require_administrator()
# What those do as the owner of the tables is for nobody else.
engram_internal.partitions_task(task, args)
    no    no    no    no    no    SELECT engram_internal.partitions_task('create_partitions', '{}')
engram_internal.maintain_task(task, args)
    no    no    no    no    no    SELECT engram_internal.maintain_task('maintain', '{"phase": "purge"}')
engram_internal.forget_faded(workspace, at, dry_run, at_most, in_turns)
    no    no    no    no    no    SELECT * FROM engram_internal.forget_faded('{ws}', now(), false, 10, false)
engram_internal.prune_links(workspace, at)
    no    no    no    no    no    SELECT engram_internal.prune_links('{ws}', now())
engram_internal.require_maintainer()
    no    no    no    no    no    SELECT engram_internal.require_maintainer()
engram_internal.maintain_finish(report)
    no    no    no    no    no    SELECT engram_internal.maintain_finish('{}')
engram_internal.maintain_partitions(phase, last)
    no    no    no    no    no    SELECT engram_internal.maintain_partitions('partitions', null)
engram_internal.maintain_fold(last)
    no    no    no    no    no    SELECT engram_internal.maintain_fold(null)
engram_internal.maintain_consolidate(last)
    no    no    no    no    no    SELECT engram_internal.maintain_consolidate(null)
engram_internal.maintain_retention(last)
    no    no    no    no    no    SELECT engram_internal.maintain_retention(null)
engram_internal.maintain_purge(last)
    no    no    no    no    no    SELECT engram_internal.maintain_purge(null)
engram_internal.maintain_pack(last)
    no    no    no    no    no    SELECT engram_internal.maintain_pack(null)
engram_internal.maintain_arrange(last)
    no    no    no    no    no    SELECT engram_internal.maintain_arrange(null)
engram_internal.maintain_messages()
    no    no    no    no    no    SELECT engram_internal.maintain_messages()
engram_internal.health_task(task, args)
    no    no    no    no    no    SELECT engram_internal.health_task('health', '{}')
engram_internal.alerts()
    no    no    no    no    no    SELECT engram_internal.alerts()
engram_internal.create_partitions_as_owner(parent, key, until)
    no    no    no    no    no    SELECT engram_internal.create_partitions_as_owner('access_log', 'accessed_at', null)
engram_internal.release_partitions_as_owner(parent, key, before, schema_, table_, dry_run)
    no    no    no    no    no    SELECT engram_internal.release_partitions_as_owner('access_log', 'accessed_at', now(), null, null, true)
engram_internal.make_partition(parent, suffix, model)
    no    no    no    no    no    SELECT engram_internal.make_partition('access_log', 'x', 'access_log_default')
engram_internal.attach_partition(parent, name, lower_bound, upper_bound)
    no    no    no    no    no    SELECT engram_internal.attach_partition('access_log', 'memories', '-infinity', now())
engram_internal.fill_partition(parent, key, suffix, since, until)
    no    no    no    no    no    SELECT engram_internal.fill_partition('access_log', 'accessed_at', 'x', now(), now())
engram_internal.rename_partition(old, new)
    no    no    no    no    no    SELECT engram_internal.rename_partition('access_log_default', 'x')
engram_internal.apply_retention(workspace, at, dry_run, batch_size)
    no    0     0     1     1     SELECT * FROM engram_internal.apply_retention('{ws}', null, true, null)
engram_internal.purge(workspace, older_than, at, dry_run, batch_size)
    no    0     0     1     1     SELECT * FROM engram_internal.purge('{ws}', '0 days', null, true, null)
engram_internal.traces(workspace, id)
    no    0     0     1     1     SELECT t FROM engram_internal.traces('{ws}', '{id}') t WHERE t ->> 'state' <> '0'
engram_internal.partition_bounds(parent)
    no    1     1     1     1     SELECT count(*) FROM engram_internal.partition_bounds('access_log')
engram_internal.partition_setting(name)
    no    1     1     1     1     SELECT engram_internal.partition_setting('partition_interval')
engram_internal.sizes()
    1     1     1     1     1     SELECT engram_internal.sizes()
engram_internal.store_tables()
    1     1     1     1     1     SELECT count(*) FROM engram_internal.store_tables()
engram_internal.store_table_names()
    1     1     1     1     1     SELECT engram_internal.store_table_names()
engram_internal.partitioned()
    1     1     1     1     1     SELECT count(*) FROM engram_internal.partitioned()
engram_internal.phases()
    1     1     1     1     1     SELECT engram_internal.phases()
engram_internal.maintain_result(counts, done, after)
    1     1     1     1     1     SELECT engram_internal.maintain_result('{}', true, null)
engram_internal.interval_after(unit, moment)
    1     1     1     1     1     SELECT engram_internal.interval_after('month', now())
engram_internal.hold_folds(workspace)
    no    no    no    no    no    SELECT engram_internal.hold_folds('{ws}')
engram_internal.try_lock_settings(workspace)
    no    no    no    no    no    SELECT engram_internal.try_lock_settings('{ws}')
engram_internal.give_back_settings(workspace)
    no    no    no    no    no    SELECT engram_internal.give_back_settings('{ws}')
engram_internal.any_memories(workspace)
    no    no    no    no    no    SELECT engram_internal.any_memories('{other}')
engram_internal.keep_settings(old, new)
    no    no    no    no    no    SELECT engram_internal.keep_settings('{"workspace_id": "{ws}", "mu1": 1}', null)
engram_internal.require_owner(doing, help)
    no    no    no    no    no    SELECT engram_internal.require_owner('x', 'x')
engram_internal.workspaces_after(workspace)
    no    1     1     1     1     SELECT count(*) FROM engram_internal.workspaces_after('00000000-0000-0000-0000-000000000000')
engram_internal.counted(counts, what, more)
    1     1     1     1     1     SELECT engram_internal.counted('{}', 'x', 1)
engram_internal.failed(workspace, state, message)
    1     1     1     1     1     SELECT engram_internal.failed('{ws}', '22023', 'x')
engram_internal.check_at(at)
    1     1     1     1     1     SELECT engram_internal.check_at(now())
engram_internal.check_age(older_than)
    1     1     1     1     1     SELECT engram_internal.check_age('1 day')
engram_internal.earlier(moment, age)
    1     1     1     1     1     SELECT engram_internal.earlier(now(), '1 day')
engram_internal.store_origin()
    1     1     1     1     1     SELECT engram_internal.store_origin()
# The helpers, which everybody with SQL can call. Those that touch memories do so as the caller.
engram_internal.said_again(workspace, id, recall_id)
    no    no    no    1     1     SELECT engram_internal.said_again('{ws}', '{id}', '{other}')
engram_internal.store(workspace, content, type, importance, embedding, tags, metadata, occurred_at, agent_id, session_id, speaker, role, source, entities, expires_at, on_duplicate, id, summary, valid_from, valid_to, pinned, model)
    no    no    no    1     1     SELECT * FROM engram_internal.store('{ws}', 'new', null, null, null, null, null, null, null, null, null, null, null, null, null, null, null)
# Neither the victim's content nor its id is recognised on the way to the refusal.
    no    no    no    1     1     SELECT * FROM engram_internal.store('{ws}', 'Plain zebra note', null, 1, '{1,2,3}', '{t}', null, null, null, null, null, null, null, '{me}', null, 'merge', null)
    no    no    no    1     1     SELECT * FROM engram_internal.store('{ws}', 'Plain zebra note', null, null, null, null, null, null, null, null, null, null, null, null, null, null, '{id}')
# The short way stores nothing for those who may not, and leaves the refusal to the long one.
engram_internal.store_new(content, type, importance, embedding, tags, metadata, occurred_at, agent_id, session_id, speaker, role, source, entities, id, expires_at, on_duplicate, workspace)
    0     0     1     1     0     SELECT s FROM engram_internal.store_new('new', null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null) s WHERE s IS NOT NULL
    0     0     0     1     1     SELECT s FROM engram_internal.store_new('new', null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, '{ws}') s WHERE s IS NOT NULL
# The same content and the same id in one's own workspace find nothing of the victim's.
    0     0     1     0     0     SELECT s FROM engram_internal.store_new('Plain zebra note', null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null) s WHERE s IS NOT NULL
engram_internal.store_items(items, workspace)
    0     0     1     1     0     SELECT * FROM engram_internal.store_items('[{"content": "new", "embedding": [1,2,3], "entities": ["zebra"]}]', null) WHERE ids <> '{}'
    0     0     0     1     1     SELECT * FROM engram_internal.store_items('["new"]', '{ws}') WHERE ids <> '{}'
engram_internal.change(workspace, id, what)
    no    no    PT404 1     22023 SELECT engram_internal.change(null, '{id}', 'forget')
    no    no    no    1     1     SELECT engram_internal.change('{ws}', '{id}', 'forget')
engram_internal.lock_memories(workspace, ids, others, forgotten)
    no    no    PT404 1     22023 SELECT engram_internal.lock_memories(null, '{{id}}', '{{secret}}', true)
    no    no    no    1     1     SELECT engram_internal.lock_memories('{ws}', '{{id}}', '{{secret}}', true)
    no    no    1     1     22023 SELECT engram_internal.lock_memories(null, '{}', '{{id}}', true)
engram_internal.set_successor(workspace, old, new)
    no    no    PT404 1     22023 SELECT engram_internal.set_successor(null, '{id}', '{secret}')
    no    no    no    1     1     SELECT engram_internal.set_successor('{ws}', '{id}', '{secret}')
engram_internal.successors(workspace, id)
    no    0     0     1     1     SELECT s FROM engram_internal.successors('{ws}', '{id}') s WHERE s <> '{}'
engram_internal.check_successor(workspace, id, successor)
    no    no    no    22023 22023 SELECT engram_internal.check_successor('{ws}', '{id}', '{other}')
    22023 22023 22023 22023 22023 SELECT engram_internal.check_successor('{ws}', '{id}', '{id}')
engram_internal.check_contradictions(workspace, id, named, ids)
    no    22023 22023 1     1     SELECT engram_internal.check_contradictions('{ws}', '{other}', 'contradicts', '{{id}}')
engram_internal.superseded(wanted, workspace)
    no    PT404 PT404 1     22023 SELECT * FROM engram_internal.superseded('{id}', null)
    no    no    no    1     1     SELECT * FROM engram_internal.superseded('{id}', '{ws}')
engram_internal.get(wanted, workspace, as_of)
    no    0     0     1     22023 SELECT * FROM engram_internal.get('{id}', null, null)
    no    no    no    1     1     SELECT * FROM engram_internal.get('{id}', '{ws}', now())
engram_internal.link_entities(workspace, memory, names)
    no    no    no    1     1     SELECT engram_internal.link_entities('{ws}', '{id}', '{me}')
engram_internal.links_anew(workspace, memory, names)
    no    no    no    1     1     SELECT l FROM engram_internal.links_anew('{ws}', '{id}', '{me}') l WHERE l
engram_internal.check_as_of(as_of)
    1     1     1     1     1     SELECT engram_internal.check_as_of(now())
engram_internal.memories_as_of(workspace, as_of, ids)
    no    0     0     1     1     SELECT * FROM engram_internal.memories_as_of('{ws}', now(), '{{secret}}')
engram_internal.older(workspace, before, before_id, at_most)
    no    0     0     1     1     SELECT o FROM engram_internal.older('{ws}', 'infinity', '{id}', 9) o WHERE ids <> '{}'
engram_internal.state_as_of(workspace, as_of, ids)
    no    0     0     1     1     SELECT * FROM engram_internal.state_as_of('{ws}', now(), '{{secret}}')
engram_internal.sync_point(since)
    1     1     1     1     1     SELECT * FROM engram_internal.sync_point(null)
engram_internal.flush_log()
    1     1     1     1     1     SELECT engram_internal.flush_log()
engram_internal.versions(workspace, id)
    no    0     0     2     2     SELECT * FROM engram_internal.versions('{ws}', '{secret}')
engram_internal.linkable(workspace, id)
    no    PT404 PT404 1     1     SELECT engram_internal.linkable('{ws}', '{id}')
engram_internal.known_memory(workspace, id, required)
    no    0     PT404 1     22023 SELECT * FROM engram_internal.known_memory(null, '{id}', true)
    no    no    no    1     1     SELECT * FROM engram_internal.known_memory('{ws}', '{id}', true)
engram_internal.entity_key(workspace, name)
    no    1     1     1     1     SELECT engram_internal.entity_key('{ws}', 'x')
engram_internal.related(workspace, id, entity, relation, hops, match_count, at)
    no    0     0     1     22023 SELECT * FROM engram_internal.related(null, null, 'can' || 'ary', null, null, null, null)
    no    no    no    1     1     SELECT * FROM engram_internal.related('{ws}', null, 'can' || 'ary', null, null, null, null)
engram_internal.path(workspace, source, target, max_hops)
    no    0     0     1     22023 SELECT * FROM engram_internal.path(null, '{id}', '{id}', null)
    no    no    no    1     1     SELECT * FROM engram_internal.path('{ws}', '{id}', '{id}', null)
engram_internal.links(workspace, id, at)
    no    0     0     0     22023 SELECT * FROM engram_internal.links(null, '{id}', null)
    no    no    no    0     0     SELECT * FROM engram_internal.links('{ws}', '{id}', null)
engram_internal.resolve_workspace(workspace, for_write)
    no    no    no    1     1     SELECT engram_internal.resolve_workspace('{ws}', false)
    no    no    no    1     1     SELECT engram_internal.resolve_workspace('{ws}', true)
engram_internal.model_of(dims)
    no    1     1     1     1     SELECT engram_internal.model_of(3)
engram_internal.may_write(workspace)
    no    0     0     1     1     SELECT w FROM engram_internal.may_write('{ws}') w WHERE w
engram_internal.trusted()
    no    0     0     0     1     SELECT t FROM engram_internal.trusted() t WHERE t
engram_internal.check_embedding(embedding, model)
    no    1     1     1     1     SELECT engram_internal.check_embedding('[1,2,3]', 'tiny')
engram_internal.metadata_object(metadata)
    1     1     1     1     1     SELECT engram_internal.metadata_object('{"a": 1}')
engram_internal.lock_keys(workspace, keys)
    no    no    no    1     1     SELECT engram_internal.lock_keys('{ws}', '{a,b}')
engram_internal.lock_names(workspace)
    no    no    no    1     1     SELECT engram_internal.lock_names('{ws}')
engram_internal.may_lock_key()
    1     1     1     1     1     SELECT engram_internal.may_lock_key()
engram_internal.lock_workspace(workspace)
    no    no    no    1     1     SELECT engram_internal.lock_workspace('{ws}')
engram_internal.try_lock_work(workspace, work)
    no    no    no    1     1     SELECT engram_internal.try_lock_work('{ws}', 'pack')
engram_internal.require_store()
    no    1     1     1     1     SELECT engram_internal.require_store()
engram_internal.auto_setup()
    no    no    no    no    no    SELECT engram_internal.auto_setup()
engram_internal.refuse_workspace(workspace)
    no    no    no    no    no    SELECT engram_internal.refuse_workspace('{ws}')
engram_internal.refuse_unidentified(trusted)
    no    no    no    no    no    SELECT engram_internal.refuse_unidentified(false)
engram_internal.refuse_model(model)
    no    22023 22023 22023 22023 SELECT engram_internal.refuse_model('none')
engram_internal.refuse_memory(id)
    PT404 PT404 PT404 PT404 PT404 SELECT engram_internal.refuse_memory('{id}')
engram_internal.refuse_superseded(id, successor)
    PT409 PT409 PT409 PT409 PT409 SELECT engram_internal.refuse_superseded('{id}', '{id}')
engram_internal.text_config(workspace)
    no    1     1     1     1     SELECT engram_internal.text_config('{ws}')
# What search scans changes by triggers alone, with the rights of the owner of the tables.
engram_internal.index_documents(workspace, documents, state)
    no    no    no    no    no    SELECT engram_internal.index_documents('{ws}', ARRAY[engram_internal.document_entry('{id}', 9, 'gone', null, null, null, null, null, null)], 'replaces')
engram_internal.index_vectors(workspace, model, ids, embeddings, state)
    no    no    no    no    no    SELECT engram_internal.index_vectors('{ws}', 'tiny', ARRAY['{id}'::uuid], null, 'gone')
engram_internal.seal(workspace, model, at_least, most)
    no    no    no    no    no    SELECT engram_internal.seal('{ws}', '', 0, 10)
engram_internal.entry_places(workspace, model, cluster)
    no    no    no    no    no    SELECT * FROM engram_internal.entry_places('{ws}', '', 1)
engram_internal.arrange(workspace, model)
    no    no    no    no    no    SELECT engram_internal.arrange('{ws}', 'm')
engram_internal.arrange_vectors(workspace, model, by_angle)
    no    no    no    no    no    SELECT engram_internal.arrange_vectors('{ws}', 'm', true)
engram_internal.arrangeable()
    no    no    no    no    no    SELECT * FROM engram_internal.arrangeable()
engram_internal.arrangement(workspace, model)
    no    no    no    no    no    SELECT sealed FROM engram_internal.arrangement('{ws}', 'm')
engram_internal.blank(workspace, model, cluster, head, entries)
    no    no    no    no    no    SELECT engram_internal.blank('{ws}', 'm', 1, '', '{}')
engram_internal.knows_cells(workspace, model)
    no    no    no    no    no    SELECT engram_internal.knows_cells('{ws}', 'm')
engram_internal.sweep(model, made)
    0     0     0     0     0     SELECT * FROM engram_internal.sweep('tiny', '2026-01-01')
engram_internal.note_sweep(model, made, until, workspace_id, id)
    no    no    no    no    1     SELECT engram_internal.note_sweep('nowhere', '2026-01-01', null, null, null)
engram_internal.knows_places(workspace, model, cluster, head)
    no    no    no    no    no    SELECT engram_internal.knows_places('{ws}', '', 1, '')
engram_internal.segment_values(workspace, head, ids)
    no    no    no    no    no    SELECT v.* FROM engram_internal.seal_blocks(ARRAY[engram_internal.document_entry('{id}', 9, 'plain', null, null, null, null, null, null)], 1) s, engram_internal.seal_blocks(ARRAY[engram_internal.document_entry('{id}', 9, 'plain', null, null, null, null, null, null)], 1) p, LATERAL engram_internal.segment_values('{ws}', s.block, ARRAY[p.block]) v WHERE s.level = 3 AND get_byte(p.block, 1) = 1 AND p.level = 4
engram_internal.place(workspace, model)
    no    no    no    no    no    SELECT engram_internal.place('{ws}', '')
engram_internal.bury(workspace, model, ids, versions)
    no    no    no    no    no    SELECT engram_internal.bury('{ws}', '', ARRAY['{id}'::uuid], '{9}')
engram_internal.pack(workspace, model, replacing, at_least)
    no    no    no    no    no    SELECT engram_internal.pack('{ws}', '', true, 0)
engram_internal.pack_sometimes(workspace, model, added, state)
    no    no    no    no    no    SELECT engram_internal.pack_sometimes('{ws}', '', 1000, 'plain')
engram_internal.fold_queue(workspace, at_most)
    no    no    no    no    no    SELECT engram_internal.fold_queue('{ws}', 10)
engram_internal.fold_calls(workspace, at_most, params, members, half_life_days, prune)
    0     0     0     0     0     SELECT * FROM engram_internal.fold_calls('{ws}', 10, array_fill(0.5::float8, ARRAY[15]), 6, 30, 0.02)
engram_internal.rebase_state(workspace, id, new_layer)
    no    no    no    no    no    SELECT engram_internal.rebase_state('{ws}', '{id}', 'core')
engram_internal.moves(workspace, at, at_most, in_turns, anew)
    no    no    no    no    no    SELECT * FROM engram_internal.moves('{ws}', now(), 10, true, false)
engram_internal.consolidate_as_owner(workspace, at, dry_run, batch_size, in_turns, anew)
    no    no    no    no    no    SELECT * FROM engram_internal.consolidate_as_owner('{ws}', null, false, null)
engram_internal.change_settings(workspace, changes, preset)
    no    no    no    no    1     SELECT engram_internal.change_settings('{ws}', '{"decay": 0.9}', null)
engram_internal.archive_messages_as_owner(workspace, inactive_for, keep, dry_run, batch_size)
    no    no    no    no    no    SELECT * FROM engram_internal.archive_messages_as_owner('{ws}', '0', 0, true, 1)
engram_internal.restore_messages_as_owner(workspace, session_id)
    no    no    no    no    no    SELECT engram_internal.restore_messages_as_owner('{ws}', 'session')
engram_internal.erase_archived(workspace, session_id, ids)
    no    no    no    no    no    SELECT engram_internal.erase_archived('{ws}', 'session', null)
engram_internal.import_as_owner(workspace, trusted, on_conflict, dry_run, lines)
    no    no    no    no    no    SELECT * FROM engram_internal.import_as_owner('{ws}', true, 'skip', false, '{}')
engram_internal.lock_import(workspace, lines)
    no    no    no    1     1     SELECT engram_internal.lock_import('{ws}', '{}')
engram_internal.lock_imported(workspace, replaces, lines)
    1     1     1     1     1     SELECT engram_internal.lock_imported('{ws}', false, '{}')
engram_internal.import_log(workspace, lines)
    no    no    no    no    no    SELECT engram_internal.import_log('{ws}', '{}')
engram_internal.import_attached(workspace, lines)
    no    no    no    0     0     SELECT * FROM engram_internal.import_attached('{ws}', ARRAY['{"id": "{id}", "entities": [{"name": "x"}]}'::jsonb])
engram_internal.import_states(workspace, lines)
    no    1     1     1     1     SELECT engram_internal.import_states('{ws}', ARRAY['{"id": "{id}", "state": {"access_count": 9, "last_accessed_at": "2024-01-01"}}'::jsonb])
engram_internal.import_memory(workspace, on_conflict, line, status, error)
    no    no    no    no    no    SELECT engram_internal.import_memory('{ws}', 'replace', '{"id": "{id}", "content": "new", "state": {"access_count": 9, "last_accessed_at": "2024-01-01"}}', null, null)
engram_internal.import_memories(workspace, trusted, on_conflict, kind, items)
    no    no    no    no    no    SELECT * FROM engram_internal.import_memories('{ws}', true, 'skip', 'memory', '[{"p": 1, "l": {"id": "018f0000-aaaa-7000-8000-000000000009", "content": "new"}}]')
    no    no    no    no    no    SELECT * FROM engram_internal.import_memories('{ws}', true, 'skip', 'erasure', '[{"p": 1, "l": {"id": "018f0000-aaaa-7000-8000-000000000009", "erased_at": "2024-01-01"}}]')
engram_internal.import_links(workspace, trusted, on_conflict, kind, items)
    no    0     0     1     1     SELECT * FROM engram_internal.import_links('{ws}', true, 'skip', 'link', '[{"p": 1, "l": {"source": "{id}", "target": "{secret}", "relation": "x"}}]') WHERE status = 'added'
    no    0     0     no    no    SELECT * FROM engram_internal.import_links('{ws}', true, 'replace', 'pair', '[{"p": 1, "l": {"a": "{id}", "b": "{secret}"}}]') WHERE status <> 'error'
engram_internal.import_settings(workspace, trusted, on_conflict, kind, items)
    no    no    no    no    no    SELECT * FROM engram_internal.import_settings('{ws}', true, 'replace', 'settings', '[{"p": 1, "l": {"settings": {"decay": 0.3}}}]')
engram_internal.import_messages(workspace, trusted, on_conflict, kind, items)
    no    no    no    1     1     SELECT * FROM engram_internal.import_messages('{ws}', true, 'skip', 'message', '[{"p": 1, "l": {"session_id": "session", "id": "{id}", "user_id": "{ws}", "created_at": "2024-01-01", "role": "user", "content": "x"}}]')
    no    no    no    no    no    SELECT * FROM engram_internal.import_messages('{ws}', true, 'skip', 'archive', '[{"p": 1, "l": {"session_id": "session", "id": "{id}", "ids": ["{id}"], "turns": [{"user_id": "{ws}", "created_at": "2024-01-01", "role": "user", "content": "x"}]}}]')
# These act as the owner, after they have asked who calls.
engram_internal.erase_archived_messages(workspace, session_id, ids)
    no    no    no    1     1     SELECT engram_internal.erase_archived_messages('{ws}', 'session', null)
    no    no    0     1     22023 SELECT e FROM engram_internal.erase_archived_messages(null, 'session', null) e WHERE e > 0
engram_internal.fold(workspace, at_most)
    no    no    no    1     1     SELECT engram_internal.fold('{ws}', 10)
engram_internal.rebase(workspace, id, new_layer)
    no    no    no    1     1     SELECT engram_internal.rebase('{ws}', '{id}', 'core')
engram_internal.consolidate_batch(workspace, at, batch_size, anew)
    no    no    no    1     1     SELECT * FROM engram_internal.consolidate_batch('{ws}', null, 10, true)
engram_internal.levels(ids, at, workspace)
    no    no    no    1     1     SELECT * FROM engram_internal.levels(ARRAY['{id}']::uuid[], null, '{ws}')
engram_internal.consolidated_workspaces()
    no    no    0     1     1     SELECT w FROM engram_internal.consolidated_workspaces() w WHERE w = '{ws}'
# As the caller.
engram_internal.rate(id, rating, at, recall_id, workspace)
    no    no    0     1     22023 SELECT r FROM engram_internal.rate('{id}', 3, null, null, null) r WHERE r
    no    no    no    1     1     SELECT engram_internal.rate('{id}', 3, null, null, '{ws}')
engram_internal.messages(conversation, match_count, cursor, include_archived, workspace)
    no    0     0     2     22023 SELECT * FROM engram_internal.messages('session', null, null, true, null)
    no    no    no    2     2     SELECT * FROM engram_internal.messages('session', null, null, true, '{ws}')
engram_internal.try_lock_key(workspace, key)
    no    no    no    1     1     SELECT engram_internal.try_lock_key('{ws}', 'x')
engram_internal.export_start(workspace, include, match_count, cursor)
    no    1     1     1     22023 SELECT engram_internal.export_start(null, null, null, null)
    no    no    no    1     1     SELECT engram_internal.export_start('{ws}', null, null, null)
engram_internal.export_lines(workspace, include, match_count, part, key)
    no    0     0     3     3     SELECT engram_internal.export_lines('{ws}', '{memories}', null, 0, '[]')
    no    0     0     2     2     SELECT engram_internal.export_lines('{ws}', '{messages}', null, 0, '[]')
engram_internal.pairs(ids)
    1     1     1     1     1     SELECT count(*) FROM engram_internal.pairs(ARRAY['{id}', '{other}']::uuid[])
engram_internal.dynamics(workspace)
    no    1     1     1     1     SELECT engram_internal.dynamics('{other}')
engram_internal.dynamics_over_time(workspace)
    no    1     1     1     1     SELECT engram_internal.dynamics_over_time('{other}')
    no    0     0     1     1     SELECT d FROM engram_internal.dynamics_over_time('{ws}') d WHERE 0.4242424 = ANY (d)
engram_internal.past_settings(workspace)
    no    0     0     1     1     SELECT s FROM engram_internal.past_settings('{ws}') s WHERE s IS NOT NULL
engram_internal.effective_settings(workspace)
    no    0     0     1     1     SELECT * FROM engram_internal.effective_settings('{ws}') s WHERE s ->> 'max_content_chars' = '4242424'
engram_internal.pending(workspace, ids)
    no    0     0     2     2     SELECT * FROM engram_internal.pending('{ws}', ARRAY['{id}', '{secret}']::uuid[])
engram_internal.present(workspace, at, ids, settle)
    no    0     0     1     1     SELECT * FROM engram_internal.present('{ws}', now(), ARRAY['{id}'::uuid])
engram_internal.layers(workspace)
    no    0     0     1     1     SELECT * FROM engram_internal.layers('{ws}') WHERE memory_id = '{id}'
engram_internal.layer_now(workspace, id)
    no    0     0     1     1     SELECT l FROM engram_internal.layer_now('{ws}', '{id}') l WHERE l IS NOT NULL
engram_internal.first_base(created_at, layer)
    1     1     1     1     1     SELECT engram_internal.first_base(now(), 'core')
engram_internal.layer_at(params, type, importance, pinned, inert, created_at, memory_layer, heat, working_strength, core_strength, layer, at)
    1     1     1     1     1     SELECT engram_internal.layer_at(array_fill(0.2::float8, ARRAY[15]), 'factual', 0.5, false, false, now(), 'working', null, null, null, null, now())
engram_internal.link_over_time(forward, backward, linked_at, count, times, gains, params, half_life_days, prune)
    1     1     1     1     1     SELECT * FROM engram_internal.link_over_time(null, null, null, null, ARRAY[now()], '{1}', array_fill(0.2::float8, ARRAY[15]), 30, 0.02)
engram_internal.link_members_at(params, members, at)
    1     1     1     1     1     SELECT engram_internal.link_members_at(array_fill(0.2::float8, ARRAY[15]), 6, now())
engram_internal.state_at(params, type, importance, pinned, inert, created_at, memory_layer, access_count, last_accessed_at, heat, working_strength, core_strength, layer, stability, difficulty, base, calls, times, gains, ratings, known, at, settle)
    1     1     1     1     1     SELECT * FROM engram_internal.state_at(array_fill(0.2::float8, ARRAY[15]), 'factual', 0.5, false, false, now(), 'working', 1, now(), null, null, null, null, null, null, null, null, null, null, null, null, now(), false)
engram_internal.held_entries(workspace, model)
    no    no    no    no    no    SELECT * FROM engram_internal.held_entries('{ws}', '')
engram_internal.fresh_entries(workspace, model)
    no    0     0     2     2     SELECT * FROM engram_internal.fresh_entries('{ws}', '')
    no    0     0     1     1     SELECT * FROM engram_internal.fresh_entries('{ws}', 'tiny')
engram_internal.reindex(workspace, model)
    no    no    no    no    no    SELECT engram_internal.reindex('{ws}', '')
# Who calls, from the settings of the caller's own session, whatever its grants.
engram_internal.caller_id()
    1     1     1     1     1     SELECT engram_internal.caller_id()
engram_internal.caller()
    1     1     1     1     1     SELECT * FROM engram_internal.caller()
# Pure: nothing goes in but the arguments.
engram_internal.parse_messages(items, session_id)
    1     1     1     1     1     SELECT * FROM engram_internal.parse_messages('[{"content": "x"}]', 's')
engram_internal.to_micros(at)
    1     1     1     1     1     SELECT engram_internal.to_micros('2026-01-01')
engram_internal.from_micros(micros)
    1     1     1     1     1     SELECT engram_internal.from_micros(1)
engram_internal.archived_turn(user_id, role, speaker, content, metadata, created_at)
    1     1     1     1     1     SELECT engram_internal.archived_turn('{id}', 'user', null, 'x', '{}', now())
engram_internal.archived_turns(ids, messages)
    1     1     1     1     1     SELECT * FROM engram_internal.archived_turns('{{id}}', '[{"content": "x"}]')
engram_internal.uuid_v7()
    1     1     1     1     1     SELECT engram_internal.uuid_v7()
engram_internal.store_origin()
    1     1     1     1     1     SELECT engram_internal.store_origin()
engram_internal.is_blank(content)
    1     1     1     1     1     SELECT engram_internal.is_blank('x')
engram_internal.normalize_content(content)
    1     1     1     1     1     SELECT engram_internal.normalize_content('x')
engram_internal.indexed_text(content, speaker, occurred_at, summary)
    1     1     1     1     1     SELECT engram_internal.indexed_text('x', null, null, null)
engram_internal.prompt_line(content, speaker, occurred_at)
    1     1     1     1     1     SELECT engram_internal.prompt_line('x', null, null)
engram_internal.tokens(content)
    1     1     1     1     1     SELECT engram_internal.tokens('x')
engram_internal.extra_text(indexed)
    1     1     1     1     1     SELECT engram_internal.extra_text('getName')
engram_internal.left_out(workspace, state, message, help)
    1     1     1     1     1     SELECT engram_internal.left_out(null, '22023', 'x', null)
engram_internal.parsed_text(indexed)
    1     1     1     1     1     SELECT engram_internal.parsed_text('a — b')
engram_internal.to_terms(config, indexed)
    1     1     1     1     1     SELECT engram_internal.to_terms('english', 'x')
engram_internal.to_terms(indexed)
    1     1     1     1     1     SELECT engram_internal.to_terms('x')
engram_internal.lexemes(terms)
    1     1     1     1     1     SELECT engram_internal.lexemes('x')
engram_internal.term_count(terms)
    1     1     1     1     1     SELECT engram_internal.term_count(tsvectorsend('x'))
engram_internal.term_keys(workspace, terms)
    1     1     1     1     1     SELECT engram_internal.term_keys('{ws}', tsvectorsend('x'))
engram_internal.document_entry(id, version, state, session_id, at, content, speaker, terms, extra)
    1     1     1     1     1     SELECT engram_internal.document_entry('{id}', 1, 'plain', null, null, null, null, null, null)
engram_internal.document(id, version, state, session_id, at, config, content, speaker, occurred_at, summary)
    1     1     1     1     1     SELECT engram_internal.document('{id}', 1, 'plain', null, null, 'english', 'x', null, null, null)
engram_internal.vector_entry(id, version, state, embedding)
    1     1     1     1     1     SELECT engram_internal.vector_entry('{id}', 1, 'plain', '[1]')
engram_internal.merge_blocks(blocks, resolve)
    1     1     1     1     1     SELECT * FROM engram_internal.merge_blocks(ARRAY[engram_internal.vector_entry('{id}', 1, 'plain', '[1]')], true)
engram_internal.seal_blocks(blocks, tag)
    4     4     4     4     4     SELECT * FROM engram_internal.seal_blocks(ARRAY[engram_internal.vector_entry('{id}', 1, 'plain', '[1]')], 1)
engram_internal.segment_entries(blocks)
    1     1     1     1     1     SELECT * FROM engram_internal.segment_entries(ARRAY[engram_internal.vector_entry('{id}', 1, 'plain', '[1]')])
engram_internal.segment_rows(head, rows, states)
    1     1     1     1     1     SELECT r.* FROM engram_internal.seal_blocks(ARRAY[engram_internal.vector_entry('{id}', 1, 'plain', '[1]')], 1) s, LATERAL engram_internal.segment_rows(s.block, '\x000000000001', '') r WHERE s.level = 3
engram_internal.segment_head(head, parts, places)
    1     1     1     1     1     SELECT engram_internal.segment_head(s.block, '{01000000-0000-0000-0000-000000000000}', '\x000000000001') FROM engram_internal.seal_blocks(ARRAY[engram_internal.vector_entry('{id}', 1, 'plain', '[1]')], 1) s WHERE s.level = 3
engram_internal.bury_entries(old, parts, ids, versions)
    1     1     1     1     1     SELECT b.* FROM engram_internal.seal_blocks(ARRAY[engram_internal.vector_entry('{id}', 1, 'plain', '[1]')], 1) s, engram_internal.seal_blocks(ARRAY[engram_internal.vector_entry('{id}', 1, 'plain', '[1]')], 1) p, LATERAL engram_internal.bury_entries(s.block, ARRAY[p.block], ARRAY['{id}'::uuid], '{2}') b WHERE s.level = 3 AND p.level = 4 AND get_byte(p.block, 1) = 1
engram_internal.dead_entries(head, parts, ids)
    1     1     1     1     1     SELECT engram_internal.dead_entries(s.block, ARRAY[p.block], ARRAY['{id}'::uuid]) FROM engram_internal.seal_blocks(ARRAY[engram_internal.vector_entry('{id}', 1, 'plain', '[1]')], 1) s, engram_internal.seal_blocks(ARRAY[engram_internal.vector_entry('{id}', 1, 'plain', '[1]')], 1) p WHERE s.level = 3 AND p.level = 4 AND get_byte(p.block, 1) = 1
engram_internal.blank_part(block, head, entries)
    1     1     1     1     1     SELECT engram_internal.blank_part(p.block, s.block, '{0,NULL}') FROM engram_internal.seal_blocks(ARRAY[engram_internal.vector_entry('{id}', 1, 'plain', '[1]')], 1) s, engram_internal.seal_blocks(ARRAY[engram_internal.vector_entry('{id}', 1, 'plain', '[1]')], 1) p WHERE s.level = 3 AND p.level = 4 AND get_byte(p.block, 1) = 9
engram_internal.cells_number(guide, head)
    1     1     1     1     1     SELECT engram_internal.cells_number('', '')
engram_internal.blank_cell(cell, number, entries)
    1     1     1     1     1     SELECT * FROM engram_internal.blank_cell('', 0, '{0,NULL}')
engram_internal.block_entries(block)
    1     1     1     1     1     SELECT * FROM engram_internal.block_entries(engram_internal.vector_entry('{id}', 1, 'plain', '[1]'))
engram_internal.block_holds(block, ids)
    1     1     1     1     1     SELECT engram_internal.block_holds(engram_internal.vector_entry('{id}', 1, 'plain', '[1]'), ARRAY['{id}'::uuid])
engram_internal.vector_dims(embedding)
    1     1     1     1     1     SELECT engram_internal.vector_dims('[1]')
engram_internal.vector_norm(embedding)
    1     1     1     1     1     SELECT engram_internal.vector_norm('[1]')
engram_internal.similarity(embedding, query, distance)
    1     1     1     1     1     SELECT engram_internal.similarity('[1]', '{1}', 'cosine')
engram_internal.compile_filter(filter)
    1     1     1     1     1     SELECT * FROM engram_internal.compile_filter('{"type": "factual"}')
engram_internal.compile_past_filter(filter)
    1     1     1     1     1     SELECT * FROM engram_internal.compile_past_filter('{"type": "factual"}')
engram_internal.read_items(items)
    1     1     1     1     1     SELECT * FROM engram_internal.read_items('[{"content": "x"}]')
engram_internal.writes(dry_run)
    1     1     1     1     1     SELECT engram_internal.writes(true)
engram_internal.fault(state)
    1     1     1     1     1     SELECT engram_internal.fault('40001')
engram_internal.retry_whole(state)
    1     1     1     1     1     SELECT engram_internal.retry_whole('40001')
engram_internal.first_heat(t, gain)
    1     1     1     1     1     SELECT engram_internal.first_heat('2026-01-01', 1)
engram_internal.faded(x, dt_s, half_life_s)
    1     1     1     1     1     SELECT engram_internal.faded(1, 1, 1)
engram_internal.versions()
    1     1     1     1     1     SELECT * FROM engram_internal.versions()
engram_internal.entity_node(name)
    1     1     1     1     1     SELECT engram_internal.entity_node('x')
engram_internal.check_memory(type, layer, role, importance, tags)
    1     1     1     1     1     SELECT engram_internal.check_memory('factual', null, null, null, null)
engram_internal.check_retention(name, max_age, max_count, types, max_importance, action)
    1     1     1     1     1     SELECT engram_internal.check_retention('x', '1 day', null, null, null, null)
engram_internal.require_writable()
    1     1     1     1     1     SELECT engram_internal.require_writable()
engram_internal.check_names(agent_id, session_id, speaker, source, tags)
    1     1     1     1     1     SELECT engram_internal.check_names('x', null, null, null, '{x}')
engram_internal.base_level_step(state, accessed_at, now, d)
    1     1     1     1     1     SELECT engram_internal.base_level_step(0, '2026-01-01', '2026-01-02', 0.5)
engram_internal.base_level_combine(a, b)
    1     1     1     1     1     SELECT engram_internal.base_level_combine(1, 2)
engram_internal.base_level_final(state)
    1     1     1     1     1     SELECT engram_internal.base_level_final(1)
engram_internal.heat_step(state, accessed_at, gain)
    1     1     1     1     1     SELECT engram_internal.heat_step(null, '2026-01-01', 1)
engram_internal.heat_merge_step(state, heat)
    no    1     1     1     1     SELECT engram_internal.heat_merge_step(null, engram.heat_new('2026-01-01'))
engram_internal.heat_combine(a, b)
    1     1     1     1     1     SELECT engram_internal.heat_combine(null, null)
engram_internal.heat_final(state)
    1     1     1     1     1     SELECT engram_internal.heat_final(engram_internal.heat_step(null, '2026-01-01', 1))
engram_internal.library_version()
    1     1     1     1     1     SELECT engram_internal.library_version()
"#;

/// The names in [`FUNCTIONS`] and all their tries.
fn functions() -> (BTreeSet<String>, Vec<Try>) {
    let (mut names, mut tries) = (BTreeSet::new(), Vec::new());
    for line in FUNCTIONS
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if !line.starts_with(' ') {
            names.insert(line.to_owned());
            continue;
        }
        let mut rest = line;
        let expected = STANDINGS.map(|_| {
            let (word, after) = rest
                .trim_start()
                .split_once(' ')
                .expect("five outcomes and a statement");
            rest = after;
            match word.parse() {
                Ok(rows) if word.len() < 5 => Expect::Rows(rows),
                _ if word == "no" => NO,
                _ => Expect::Error(word),
            }
        });
        tries.push(Try {
            sql: rest.trim_start().to_owned(),
            expected,
            input: String::new(),
        });
    }
    (names, tries)
}

/// Every table: how many rows the victim has, what a role that was granted access may do (Select,
/// Insert, Update, Delete), and what one that bypasses row security may; then something in the
/// victim's workspace that the primary key refuses, so that only the victim may get as far as
/// being told, and a change.
const TABLES: &str = "
memories 3 SIUD SIUD
    insert: (workspace_id, id, content) VALUES ('{ws}', '{id}', 'planted')
    update: content = 'tampered'
memory_state 3 SIU SIU
    insert: (workspace_id, memory_id, last_accessed_at) VALUES ('{ws}', '{id}', now())
    update: access_count = access_count + 1
search_blocks 2 - -
    insert: (workspace_id, model, level, block_id, entries, block) VALUES ('{ws}', '', 1, '{id}', 1, 'x'), ('{ws}', '', 1, '{id}', 1, 'x')
    update: entries = 1
embeddings 1 SIUD SIUD
    insert: (workspace_id, memory_id, model, embedding) VALUES ('{ws}', '{id}', 'tiny', '[3,2,1]'), ('{ws}', '{id}', 'tiny', '[3,2,1]')
    update: embedding = '[3,2,1]'
embedding_claims 3 SIUD SIUD
    insert: (workspace_id, memory_id, model, claimed_until) VALUES ('{ws}', '{id}', 'tiny', now()), ('{ws}', '{id}', 'tiny', now())
    update: claimed_until = now()
graph_links 1 SIUD SIUD
    insert: (workspace_id, memory_id, relation, node, label) VALUES ('{ws}', '{id}', 'r', 'x', 'x'), ('{ws}', '{id}', 'r', 'x', 'x')
    update: label = 'tampered'
access_queue 1 SI SI
    insert: (workspace_id, id, accessed_at, user_id, kind, gain, memory_ids) VALUES ('{ws}', '{id}', now(), '{ws}', 'used', 1, '{}'), ('{ws}', '{id}', now(), '{ws}', 'used', 1, '{}')
    update: gain = 0
access_log 1 S S
    insert: (workspace_id, memory_id, accessed_at, id, kind, gain) VALUES ('{ws}', '{id}', now(), '{id}', 'used', 1)
    update: gain = 0
access_log_default 0 - -
    insert: (workspace_id, memory_id, accessed_at, id, kind, gain) VALUES ('{ws}', '{id}', now(), '{id}', 'used', 1)
    update: gain = 0
memory_events 6 S S
    insert: (workspace_id, xid, id, at, memory_id, origin, action, version) VALUES ('{ws}', '1', '{id}', now(), '{id}', 0, 'added', 1)
    update: version = 9
memory_events_default 0 - -
    insert: (workspace_id, xid, id, at, memory_id, origin, action, version) VALUES ('{ws}', '1', '{id}', now(), '{id}', 0, 'added', 1)
    update: version = 9
recall_credits 1 SIU SIU
    insert: (workspace_id, recall_id, memory_ids) VALUES ('{ws}', '{id}', '{}'), ('{ws}', '{id}', '{}')
    update: memory_ids = '{}'
messages 1 SID SID
    insert: (workspace_id, session_id, created_at, id, user_id, role, content) VALUES ('{ws}', 's', '2024-01-01', '{id}', '{ws}', 'user', 'x'), ('{ws}', 's', '2024-01-01', '{id}', '{ws}', 'user', 'x')
    update: content = 'tampered'
messages_default 0 - -
    insert: (workspace_id, session_id, created_at, id, user_id, role, content) VALUES ('{ws}', 's', '2024-01-01', '{id}', '{ws}', 'user', 'x')
    update: content = 'tampered'
message_archive 1 S S
    insert: (workspace_id, session_id, first_at, id, last_at, turns, ids, messages) VALUES ('{ws}', 's', now(), '{id}', now(), 1, '{{id}}', '[]')
    update: turns = 2
hebbian_links 1 S S
    insert: (workspace_id, a, b, forward, backward, linked_at, count) VALUES ('{ws}', '{id}', '{secret}', 1, 1, now(), 1)
    update: forward = 9
maintenance 1 S S
    insert: (workspace_id) VALUES ('{ws}')
    update: folded_at = now()
retention_policies 1 SIUD SIUD
    insert: (workspace_id, name, max_age) VALUES ('{ws}', 'x', '1 day'), ('{ws}', 'x', '1 day')
    update: max_age = '1 day'
entity_aliases 1 SIUD SIUD
    insert: (workspace_id, alias, node, label) VALUES ('{ws}', 'x', 'y', 'X'), ('{ws}', 'x', 'y', 'X')
    update: label = 'tampered'
erasures 1 S S
    insert: (workspace_id, id) VALUES ('{ws}', '{id}')
    update: erased_at = now()
settings 1 S SIUD
    insert: (workspace_id, max_content_chars) VALUES ('{ws}', 1)
    update: max_content_chars = 1
memory_type_settings 1 S SIUD
    insert: (workspace_id, type, default_importance, decay_per_day) VALUES ('{ws}', 'opinion', 0, 1)
    update: default_importance = 0
settings_history 2 S S
    insert: (workspace_id, type, until, xid) VALUES ('{ws}', '', now(), '0')
    update: mu1 = 1
embedding_models 1 S SIUD
    insert: (name, dims) VALUES ('tiny', 3)
    update: is_default = false
";

struct Table {
    name: &'static str,
    rows: usize,
    client: &'static str,
    service: &'static str,
    insert: &'static str,
    update: &'static str,
}

fn tables() -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    for line in TABLES.lines().filter(|line| !line.is_empty()) {
        match (line.trim_start().split_once(": "), tables.last_mut()) {
            (Some(("insert", sql)), Some(table)) => table.insert = sql,
            (Some(("update", sql)), Some(table)) => table.update = sql,
            _ => {
                let words: Vec<_> = line.split(' ').collect();
                let [name, rows, client, service] = words[..] else {
                    panic!("{line}")
                };
                let rows = rows.parse().expect("a number of rows");
                tables.push(Table {
                    name,
                    rows,
                    client,
                    service,
                    insert: "",
                    update: "",
                });
            }
        }
    }
    tables
}

impl Table {
    /// Which models there are is known to all; everything else is somebody's.
    fn open(&self) -> bool {
        self.name == "embedding_models"
    }

    /// Which rows are the victim's.
    fn theirs(&self) -> &'static str {
        if self.open() {
            "name = 'spare'"
        } else {
            "workspace_id = '{ws}'"
        }
    }

    /// The tries on this table. What is copied in is a row of the victim that is there already.
    fn tries(&self, existing: &str) -> Vec<Try> {
        let Self {
            name,
            insert,
            update,
            ..
        } = self;
        let theirs = self.theirs();
        let exists = Expect::Error("23505");
        let none = Expect::Rows(0);
        let own = Expect::Rows(self.rows);
        let seen = if self.open() { own } else { none };
        let all = |needs: &str, nobody: Expect, owner: Expect, service: Expect| {
            let granted = |grants: &str, then: Expect| {
                if needs.chars().all(|verb| grants.contains(verb)) && needs != "T" {
                    then
                } else {
                    NO
                }
            };
            [
                NO,
                granted(self.client, nobody),
                granted(self.client, nobody),
                granted(self.client, owner),
                granted(self.service, service),
            ]
        };
        [
            (
                format!("SELECT * FROM engram.{name} WHERE {theirs}"),
                all("S", seen, own, own),
            ),
            (
                format!("SELECT * FROM engram.{name} WHERE {theirs} FOR UPDATE"),
                all("SU", none, own, own),
            ),
            (
                format!("INSERT INTO engram.{name} {insert}"),
                all("I", NO, exists, exists),
            ),
            (
                format!("UPDATE engram.{name} SET {update} WHERE {theirs}"),
                all("SU", none, own, own),
            ),
            (
                format!("DELETE FROM engram.{name} WHERE {theirs}"),
                all("SD", none, own, own),
            ),
            (
                format!("TRUNCATE engram.{name} CASCADE"),
                all("T", NO, NO, NO),
            ),
            (
                // Partitioned tables are copied by query.
                if matches!(*name, "access_log" | "memory_events" | "messages") {
                    format!("COPY (SELECT * FROM engram.{name}) TO STDOUT")
                } else {
                    format!("COPY engram.{name} TO STDOUT")
                },
                all("S", seen, own, own),
            ),
            (
                format!("COPY engram.{name} FROM STDIN"),
                all("I", Expect::Error("0A000"), Expect::Error("0A000"), exists),
            ),
        ]
        .into_iter()
        .map(|(sql, expected)| Try {
            sql,
            expected,
            input: existing.to_owned(),
        })
        .collect()
    }
}

// --- the matrix ---------------------------------------------------------------------------------

/// Runs one statement and tells what came of it, and everything that the caller was shown.
fn attempt(session: &mut Session, sql: &str, copy_in: &str) -> (Expect, String) {
    let mut shown = String::new();
    let result = if sql.ends_with(" FROM STDIN") {
        session.client.copy_in(sql).and_then(|mut sink| {
            sink.write_all(copy_in.as_bytes())
                .expect("the server takes data");
            sink.finish().map(|rows| rows as usize)
        })
    } else if sql.ends_with(" TO STDOUT") {
        session.client.copy_out(sql).map(|mut source| {
            source
                .read_to_string(&mut shown)
                .expect("the server sends text");
            shown
                .lines()
                .filter(|line| line.contains(VICTIM) || line.starts_with("spare\t"))
                .count()
        })
    } else {
        session.client.simple_query(sql).map(|messages| {
            let mut rows = 0;
            for message in messages {
                match message {
                    SimpleQueryMessage::Row(row) => {
                        for i in 0..row.len() {
                            let _ = writeln!(shown, "{}", row.get(i).unwrap_or_default());
                        }
                    }
                    SimpleQueryMessage::CommandComplete(count) => rows = count as usize,
                    _ => {}
                }
            }
            rows
        })
    };
    let outcome = match result {
        Ok(rows) => Expect::Rows(rows),
        Err(error) => {
            let db = error
                .as_db_error()
                .unwrap_or_else(|| panic!("{sql}: {error}"));
            let _ = writeln!(shown, "{db:?}");
            // The code outlives the error as one of those that the matrix knows.
            let code = [
                "42501", "22023", "PT404", "PT409", "23505", "0A000", "2D000", "25001", "55000",
            ]
            .into_iter()
            .find(|c| *c == db.code().code());
            Expect::Error(code.unwrap_or_else(|| panic!("{sql}: unexpected {db:?}")))
        }
    };
    for notice in session.notices() {
        let _ = writeln!(shown, "{notice}");
    }
    (outcome, shown)
}

#[test]
fn every_caller_gets_out_of_every_door_what_is_due_and_leaves_no_trace() {
    let db = Database::new();
    victim(&db);
    let mut admin = Session::open(&db, "postgres");
    let mut callers: Vec<(Caller, Session)> = callers()
        .into_iter()
        .map(|caller| {
            let session = Session::open(&db, caller.login);
            (caller, session)
        })
        .collect();
    let (_, mut tries) = functions();
    for table in tables() {
        let mut existing = String::new();
        let copy = format!(
            "COPY (SELECT * FROM engram.{} WHERE {} LIMIT 1) TO STDOUT",
            table.name,
            table.theirs()
        );
        admin
            .copy_out(&fill(&copy))
            .unwrap()
            .read_to_string(&mut existing)
            .unwrap();
        tries.extend(table.tries(&existing));
    }

    let mut wrong = String::new();
    for Try {
        sql,
        expected,
        input,
    } in &tries
    {
        let sql = fill(sql);
        let mut before = admin.text("SELECT public.fingerprint()");
        for (caller, session) in &mut callers {
            if !caller.before.is_empty() {
                session.sql(&fill(caller.before));
            }
            session.sql(&fill(&format!("BEGIN; {}", caller.begin)));
            let (outcome, shown) = attempt(session, &sql, input);
            if session.is_closed()
                || matches!(outcome, Expect::Error(_)) && sql.ends_with(" FROM STDIN")
            {
                // The client library loses count of the messages when COPY FROM is refused.
                *session = Session::open(&db, caller.login);
            }
            let due = expected[caller.standing as usize];
            if outcome != due {
                let _ = writeln!(
                    wrong,
                    "{}: {sql}\n  gave {outcome:?}, due {due:?}: {shown}",
                    caller.name
                );
            }
            if matches!(caller.standing, Closed | Nobody | Stranger) {
                // What strangers manage to write is for good, so that the superuser sees it.
                session.sql("COMMIT");
                assert_nothing_of_the_victim(&shown, &format!("{} with {sql}", caller.name));
                let after = admin.text("SELECT public.fingerprint()");
                assert_eq!(
                    before, after,
                    "{} changed the victim with {sql}",
                    caller.name
                );
                before = after;
                if caller.standing == Stranger {
                    admin.sql(&fill(
                        "DELETE FROM engram.memories WHERE workspace_id <> '{ws}'; DELETE FROM engram.erasures WHERE workspace_id <> '{ws}'; DELETE FROM engram.memory_events WHERE workspace_id <> '{ws}'; DELETE FROM engram.settings WHERE workspace_id NOT IN ('{ws}', '00000000-0000-0000-0000-000000000000')",
                    ));
                }
            } else {
                session.sql("ROLLBACK");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn no_function_and_no_table_is_without_a_row_in_the_matrix() {
    let db = Database::new();
    let mut admin = Session::open(&db, "postgres");
    let mut found = |sql: &str| -> BTreeSet<String> {
        rows(&mut admin.client, sql)
            .into_iter()
            .map(|mut row| row.remove(0))
            .collect()
    };
    let same = |what: &str, there: BTreeSet<String>, known: BTreeSet<String>| {
        let missing: Vec<_> = there.difference(&known).collect();
        let gone: Vec<_> = known.difference(&there).collect();
        assert!(
            missing.is_empty(),
            "{what} without a row in the matrix of isolation.rs: {missing:#?}"
        );
        assert!(
            gone.is_empty(),
            "rows in the matrix of isolation.rs for {what} that are not there: {gone:#?}"
        );
    };
    same(
        "functions",
        found(
            "SELECT format('%s.%s(%s)', p.pronamespace::regnamespace, p.proname,
                    array_to_string(coalesce((p.proargnames)[1:p.pronargs], '{}'), ', '))
             FROM pg_proc p WHERE p.pronamespace IN ('engram'::regnamespace, 'engram_internal'::regnamespace)",
        ),
        functions().0,
    );
    same(
        "tables",
        found(
            // One partition of each table stands for all, which differ in their bounds alone.
            "SELECT relname FROM pg_class WHERE relnamespace = 'engram'::regnamespace AND relkind IN ('r', 'p', 'f', 'm')
               AND NOT (relispartition AND relname ~ '_(old|p[0-9]{8})$' AND relacl IS NOT DISTINCT FROM
                 (SELECT d.relacl FROM pg_class d WHERE d.relname = regexp_replace(pg_class.relname, '_(old|p[0-9]{8})$', '_default')))",
        ),
        tables().iter().map(|table| table.name.to_owned()).collect(),
    );
    // Of any other kind there is nothing: no sequence that counts everybody's rows, no view that
    // reads as its owner, no table without row security, no stray object of the extension.
    same(
        "other objects",
        found(
            "SELECT format('%s %s', relkind, oid::regclass) FROM pg_class
             WHERE relnamespace = 'engram'::regnamespace AND relkind NOT IN ('r', 'p', 'i', 'I', 'v')
                OR relnamespace = 'engram_internal'::regnamespace
                OR relnamespace = 'engram'::regnamespace AND relkind = 'v'
                   AND NOT coalesce(reloptions && '{security_invoker=true,security_invoker=on}', false)
                OR relnamespace = 'engram'::regnamespace AND relkind IN ('r', 'p')
                   AND NOT (relrowsecurity AND EXISTS (SELECT FROM pg_policy WHERE polrelid = pg_class.oid))
             UNION ALL
             SELECT pg_describe_object(d.classid, d.objid, 0) FROM pg_depend d
             JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass AND e.extname = 'engram'
             LEFT JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
             WHERE d.deptype = 'e' AND coalesce(p.pronamespace::regnamespace::text, '') NOT IN ('engram', 'engram_internal')
               AND NOT (d.classid = 'pg_namespace'::regclass AND d.objid = 'engram_internal'::regnamespace)",
        ),
        BTreeSet::new(),
    );
    // What runs with its owner's rights is known by name, and pins its search path like the rest.
    same(
        "SECURITY DEFINER functions",
        found(
            "SELECT p.oid::regprocedure::text FROM pg_proc p
             WHERE p.pronamespace IN ('engram'::regnamespace, 'engram_internal'::regnamespace) AND p.prosecdef",
        ),
        [
            "engram.memories_after_insert()",
            "engram.memories_after_update()",
            "engram.memories_after_change()",
            "engram.memories_after_delete()",
            "engram.memories_after_truncate()",
            "engram.embeddings_after_truncate()",
            "engram.embeddings_after_insert()",
            "engram.embeddings_after_update()",
            "engram.embeddings_after_delete()",
            "engram.embedding_models_after_delete()",
            "engram.access_queue_after_insert()",
            "engram.memories_after_change()",
            "engram.memories_broadcast()",
            "engram.settings_before_change()",
            "engram.settings_after_change()",
        ]
            .map(str::to_owned)
            .into(),
    );
    same(
        "functions that look up names in the caller's search path",
        found(
            "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
             WHERE p.pronamespace IN ('engram'::regnamespace, 'engram_internal'::regnamespace)
               AND p.prokind NOT IN ('a', 'p') AND (l.lanname <> 'c' OR p.proname = 'search' OR p.proname = 'setup')
               AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false)",
        ),
        BTreeSet::new(),
    );
}

// --- side doors ---------------------------------------------------------------------------------

/// A stranger on an ordinary role of an application, with a schema of its own to play in.
fn stranger(db: &Database) -> Session {
    db.admin()
        .batch_execute("CREATE SCHEMA playground AUTHORIZATION app")
        .unwrap();
    let mut session = Session::open(db, "app");
    session.sql(&format!("SET engram.user_id = '{OTHER}'"));
    session
}

/// Everything that an error tells, with the caller's own guess taken out.
fn told(session: &mut Session, sql: &str, guess: &str) -> String {
    let Err(error) = session.simple_query(sql) else {
        panic!("should have failed: {sql}")
    };
    let db = error
        .as_db_error()
        .unwrap_or_else(|| panic!("{sql}: {error}"));
    format!("{db:?}").replace(guess, "<guess>")
}

#[test]
fn a_guess_is_answered_the_same_whether_it_is_right_or_wrong() {
    let db = Database::new();
    victim(&db);
    let mut admin = Session::open(&db, "postgres");
    admin.sql(&fill(
        "INSERT INTO engram.embeddings VALUES ('{ws}', '{id}', 'tiny', '[1,2,3]');
         INSERT INTO engram.embedding_claims VALUES ('{ws}', '{id}', 'tiny', '2100-01-01');
         INSERT INTO engram.graph_links VALUES ('{ws}', '{id}', 'mentions', 'zebra', 'Zebra')",
    ));
    let mut stranger = stranger(&db);
    let before = admin.text("SELECT public.fingerprint()");
    // {guess} is a memory of the victim or an id that is nowhere. In the victim's workspace every
    // answer is a refusal; in one's own the id is simply not there.
    let refused = [
        "INSERT INTO engram.memories (workspace_id, id, content) VALUES ('{ws}', '{guess}', 'Plain zebra note')",
        "INSERT INTO engram.memories (workspace_id, id, content) VALUES ('{ws}', '{guess}', 'x') ON CONFLICT DO NOTHING RETURNING id",
        "INSERT INTO engram.memories (workspace_id, id, content) VALUES ('{ws}', '{guess}', 'x')
         ON CONFLICT (workspace_id, id) DO UPDATE SET content = 'mine' RETURNING content",
        "INSERT INTO engram.memories (workspace_id, id, user_id, content) VALUES ('{other}', '{guess}', '{ws}', 'in the name of another')",
        "MERGE INTO engram.memories m USING (SELECT '{guess}'::uuid AS id) x ON m.workspace_id = '{ws}' AND m.id = x.id
         WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (workspace_id, id, content) VALUES ('{ws}', x.id, 'x')",
        "INSERT INTO engram.memory_state (workspace_id, memory_id, last_accessed_at) VALUES ('{ws}', '{guess}', now())",
        "INSERT INTO engram.memory_state (workspace_id, memory_id, last_accessed_at) VALUES ('{ws}', '{guess}', now())
         ON CONFLICT (workspace_id, memory_id) DO UPDATE SET access_count = 9",
        "INSERT INTO engram.embeddings (workspace_id, memory_id, model, embedding) VALUES ('{ws}', '{guess}', 'tiny', '[1,1,1]')",
        "INSERT INTO engram.embeddings (workspace_id, memory_id, model, embedding) VALUES ('{ws}', '{guess}', 'tiny', '[1,1,1]')
         ON CONFLICT (workspace_id, memory_id, model) DO NOTHING",
        "INSERT INTO engram.embedding_claims VALUES ('{ws}', '{guess}', 'tiny', now())",
        "INSERT INTO engram.embedding_claims VALUES ('{ws}', '{guess}', 'tiny', now()) ON CONFLICT DO NOTHING",
        "INSERT INTO engram.graph_links VALUES ('{ws}', '{guess}', 'mentions', 'zebra', 'me')",
        "INSERT INTO engram.graph_links VALUES ('{ws}', '{guess}', 'mentions', 'zebra', 'me')
         ON CONFLICT (workspace_id, memory_id, relation, node) DO UPDATE SET label = 'me'",
        "SELECT engram.add('x', id => '{guess}', workspace => '{ws}')",
        "SELECT engram.get('{guess}', '{ws}')",
        "SELECT engram.update('{guess}', 'x', workspace => '{ws}')",
        "SELECT engram.erase(ARRAY['{guess}']::uuid[], dry_run => true, workspace => '{ws}')",
        "SELECT engram.set_embedding('{guess}', '[1,1]', 'no such model', 7, '{ws}')",
        "SELECT * FROM engram_internal.store('{ws}', 'Plain zebra note', null, null, null, null, null, null, null, null, null, null, null, null, null, null, '{guess}')",
        "SELECT engram_internal.link_entities('{ws}', '{guess}', '{zebra}')",
    ];
    let absent = [
        (
            "23503",
            "INSERT INTO engram.memory_state (workspace_id, memory_id, last_accessed_at) VALUES ('{other}', '{guess}', now())",
        ),
        (
            "23503",
            "INSERT INTO engram.embeddings (workspace_id, memory_id, model, embedding) VALUES ('{other}', '{guess}', 'tiny', '[1,1,1]')",
        ),
        (
            "23503",
            "INSERT INTO engram.embedding_claims VALUES ('{other}', '{guess}', 'tiny', now())",
        ),
        (
            "23503",
            "INSERT INTO engram.graph_links VALUES ('{other}', '{guess}', 'mentions', 'zebra', 'me')",
        ),
        ("PT404", "SELECT engram.update('{guess}', 'x')"),
        ("PT404", "SELECT engram.forget('{guess}')"),
        ("PT404", "SELECT engram.restore('{guess}')"),
        ("PT404", "SELECT engram.pin('{guess}')"),
        (
            "PT404",
            "SELECT engram.supersede('{guess}', content => 'x')",
        ),
        ("PT404", "SELECT engram.latest('{guess}')"),
        ("PT404", "SELECT engram.set_embedding('{guess}', '[1,2,3]')"),
    ];
    // check_function_bodies = off arms the triggers that serve the loading of a dump.
    let armed = refused.iter().map(|sql| ("off", "42501", *sql));
    let plain = refused.iter().map(|sql| ("on", "42501", *sql));
    for (bodies, code, sql) in armed
        .chain(plain)
        .chain(absent.iter().map(|(code, sql)| ("on", *code, *sql)))
    {
        stranger.sql(&format!("SET check_function_bodies = {bodies}"));
        let answers = [GUESSED, NOWHERE].map(|guess| {
            let answer = told(&mut stranger, &fill(sql).replace("{guess}", guess), guess);
            assert!(
                answer.contains(&format!("code: SqlState(E{code})"))
                    || answer.contains(&format!("\"{code}\"")),
                "{sql}: {answer}"
            );
            assert_nothing_of_the_victim(&answer, sql);
            answer
        });
        assert_eq!(answers[0], answers[1], "{sql}");
    }
    // What changes nothing says nothing: no count differs.
    for sql in [
        "UPDATE engram.memories SET content = 'x' WHERE id = '{guess}'",
        "DELETE FROM engram.memories WHERE workspace_id = '{ws}' AND id = '{guess}'",
        "DELETE FROM engram.embeddings WHERE memory_id = '{guess}'",
        "UPDATE engram.graph_links SET workspace_id = '{other}' WHERE memory_id = '{guess}'",
        "SELECT FROM engram.memories WHERE id = '{guess}' FOR UPDATE",
        "SELECT FROM engram.get('{guess}')",
        "SELECT FROM engram.erase(ARRAY['{guess}']::uuid[])",
        r#"SELECT FROM engram.list('{"id": "{guess}"}')"#,
        r#"SELECT FROM engram.search('zebra', filter => '{"id": {"in": ["{guess}"]}}')"#,
    ] {
        for guess in [GUESSED, NOWHERE] {
            let (outcome, shown) = attempt(&mut stranger, &fill(sql).replace("{guess}", guess), "");
            assert_eq!((outcome, shown.as_str()), (Expect::Rows(0), ""), "{sql}");
        }
    }
    assert_eq!(before, admin.text("SELECT public.fingerprint()"));
}

#[test]
fn rows_of_ones_own_cannot_be_moved_into_a_foreign_workspace() {
    let db = Database::new();
    victim(&db);
    let mut admin = Session::open(&db, "postgres");
    let mut stranger = stranger(&db);
    stranger.sql("SELECT engram.add('mine', embedding => '[1,1,1]', entities => '{me}'); SELECT engram.add('pending'); SELECT engram.pending_embeddings()");
    let before = admin.text("SELECT public.fingerprint()");
    for (code, sql) in [
        ("22023", "UPDATE engram.memories SET workspace_id = '{ws}'"),
        ("22023", "UPDATE engram.memories SET user_id = '{ws}'"),
        (
            "42501",
            "UPDATE engram.memory_state SET workspace_id = '{ws}', memory_id = '{id}'",
        ),
        (
            "42501",
            "UPDATE engram.embeddings SET workspace_id = '{ws}', memory_id = '{id}'",
        ),
        (
            "42501",
            "UPDATE engram.embedding_claims SET workspace_id = '{ws}', memory_id = '{id}'",
        ),
        (
            "42501",
            "UPDATE engram.graph_links SET workspace_id = '{ws}', memory_id = '{id}'",
        ),
    ] {
        assert_eq!(stranger.code(&fill(sql)), code, "{sql}");
    }
    assert_eq!(before, admin.text("SELECT public.fingerprint()"));
}

#[test]
fn ids_of_others_are_free_in_ones_own_workspace() {
    let db = Database::new();
    victim(&db);
    let mut stranger = stranger(&db);
    // In use, forgotten and erased by the victim; and nowhere.
    for (i, id) in [
        GUESSED,
        "018f0000-aaaa-7000-8000-000000000003",
        "018f0000-aaaa-7000-8000-000000000004",
        NOWHERE,
    ]
    .iter()
    .enumerate()
    {
        let stored = match i % 2 {
            0 => stranger.text(&format!("SELECT engram.add('mine {i}', id => '{id}')")),
            _ => stranger.text(&format!(
                "INSERT INTO engram.memories (id, content) VALUES ('{id}', 'mine {i}') RETURNING id"
            )),
        };
        assert_eq!(&stored, id);
        assert_eq!(
            stranger.text(&format!("SELECT content FROM engram.get('{id}')")),
            format!("mine {i}")
        );
    }
    // Pointing at a foreign memory is refused as pointing at an id that is nowhere is.
    for target in ["{secret}", "{other}"] {
        let point = format!(
            "UPDATE engram.memories SET contradicts = ARRAY['{target}']::uuid[] WHERE content = 'mine 0'"
        );
        let e = failure(stranger.client.batch_execute(&fill(&point)));
        assert_eq!(e.code, "22023", "{e:?}");
        assert!(
            e.message.ends_with("which is not in this workspace"),
            "{e:?}"
        );
    }
    assert_eq!(stranger.text("SELECT count(*) FROM engram.memories"), "4");
    // And the victim's own is still the victim's.
    stranger.sql(&fill(
        "SELECT engram.update('{id}', 'changed'); SELECT engram.erase(ARRAY['{id}']::uuid[])",
    ));
    let mut owner = Session::open(&db, "app");
    owner.sql(&format!("SET engram.user_id = '{VICTIM}'"));
    assert_eq!(
        owner.text(&fill("SELECT content FROM engram.get('{id}')")),
        "Plain zebra note"
    );
}

#[test]
fn functions_and_operators_of_a_stranger_are_shown_own_rows_only() {
    let db = Database::new();
    victim(&db);
    db.admin().batch_execute(&fill(
        "INSERT INTO engram.memories (workspace_id, user_id, content) SELECT '{ws}', '{ws}', 'canary' FROM generate_series(1, 20); ANALYZE",
    )).unwrap();
    let mut stranger = stranger(&db);
    stranger.sql(
        "SELECT engram.add('mine', metadata => '{\"k\": 1}', entities => '{me}', embedding => '[1,1,1]');
         CREATE FUNCTION playground.leak(anyelement) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS
           $$ BEGIN RAISE NOTICE 'leaked <%>', $1; RETURN true; END $$;
         CREATE FUNCTION playground.leak2(text, text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS
           $$ BEGIN RAISE NOTICE 'leaked <%>', $1; RETURN true; END $$;
         CREATE OPERATOR playground.<<< (FUNCTION = playground.leak2, LEFTARG = text, RIGHTARG = text);
         -- The planner tries operators with such estimators on the statistics of the table.
         CREATE OPERATOR playground.=== (FUNCTION = playground.leak2, LEFTARG = text, RIGHTARG = text, RESTRICT = eqsel, JOIN = eqjoinsel);
         CREATE OPERATOR playground.<<= (FUNCTION = playground.leak2, LEFTARG = text, RIGHTARG = text, RESTRICT = scalarlesel);
         SET client_min_messages = notice",
    );
    stranger.notices();
    let mut seen = 0;
    for sql in [
        "SELECT count(*) FROM engram.memories WHERE playground.leak(content)",
        "SELECT count(*) FROM engram.memories m WHERE playground.leak(m) OR id IS NULL",
        "SELECT count(*) FROM engram.memories WHERE content OPERATOR(playground.<<<) 'x'",
        "SELECT count(*) FROM engram.memories WHERE content OPERATOR(playground.===) 'x'",
        "SELECT count(*) FROM engram.memories WHERE content OPERATOR(playground.<<=) 'x'",
        "SELECT count(*) FROM engram.memories a, engram.memories b WHERE a.content OPERATOR(playground.===) b.content",
        "SELECT count(*) FROM engram.graph_links WHERE node OPERATOR(playground.===) 'x'",
        "SELECT count(*) FROM engram.memories WHERE playground.leak(id) AND workspace_id = '{ws}'",
        "SELECT count(*) FROM engram.memories WHERE CASE WHEN playground.leak(metadata) THEN true END",
        "SELECT count(*) FROM engram.memory_state WHERE playground.leak(memory_id)",
        "SELECT count(*) FROM engram.embeddings WHERE playground.leak(embedding::text)",
        "SELECT count(*) FROM engram.graph_links WHERE playground.leak(label)",
        "SELECT count(*) FROM engram.settings WHERE playground.leak(max_content_chars)",
        "SELECT count(*) FROM engram.erasures WHERE playground.leak(id)",
        "SELECT count(*) FROM engram.memories m JOIN engram.graph_links g ON g.memory_id = m.id AND playground.leak(g.label || m.content)",
        "SELECT count(*) FROM (VALUES ('{ws}'::uuid)) v (w) LEFT JOIN engram.memories m ON m.workspace_id = v.w AND playground.leak(m.content)",
        "UPDATE engram.memories SET pinned = true WHERE playground.leak(content)",
        "DELETE FROM engram.graph_links WHERE playground.leak(label)",
    ] {
        let (outcome, shown) = attempt(&mut stranger, &fill(sql), "");
        assert!(matches!(outcome, Expect::Rows(_)), "{sql}: {shown}");
        assert_nothing_of_the_victim(&shown, sql);
        assert!(
            !shown.contains(GUESSED) && !shown.contains("zebra"),
            "{sql}: {shown}"
        );
        seen += shown.matches("leaked <").count();
    }
    assert!(
        seen > 5,
        "the functions were called on the stranger's own rows"
    );
    assert_eq!(
        stranger.code("ALTER FUNCTION playground.leak2(text, text) LEAKPROOF"),
        "42501"
    );
}

#[test]
fn plans_show_a_stranger_neither_rows_nor_content_of_others() {
    let db = Database::new();
    victim(&db);
    db.admin().batch_execute("ANALYZE").unwrap();
    let mut stranger = stranger(&db);
    stranger.sql("SELECT engram.add('mine', embedding => '[1,1,1]', entities => '{me}')");
    // Estimates and rows removed by a filter are PostgreSQL's own: they are made from the
    // statistics of the whole table, for everybody who may use EXPLAIN on it. What a plan of ours
    // must keep is that no value of others is in it and that no row of theirs comes out of it.
    for (rows, sql) in [
        (
            0,
            "SELECT * FROM engram.memories WHERE workspace_id = '{ws}'",
        ),
        (1, "SELECT * FROM engram.memories WHERE content <> ''"),
        (
            0,
            "SELECT * FROM engram.memory_state WHERE workspace_id = '{ws}'",
        ),
        (
            0,
            "SELECT * FROM engram.embeddings WHERE workspace_id = '{ws}' ORDER BY embedding OPERATOR(extensions.<=>) '[1,2,3]'",
        ),
        (1, "SELECT * FROM engram.graph_links WHERE node > ''"),
        (
            0,
            "DELETE FROM engram.memories WHERE workspace_id = '{ws}' RETURNING *",
        ),
        (0, "SELECT * FROM engram.search('zebra', explain => true)"),
        (
            1,
            "SELECT * FROM engram.search('zebra', '[1,2,3]', explain => true)",
        ),
        (1, "SELECT * FROM engram.list()"),
        (0, "SELECT * FROM engram.get('{id}')"),
        (1, "SELECT * FROM engram.stats()"),
    ] {
        let explain = fill(&format!("EXPLAIN (ANALYZE, VERBOSE, FORMAT JSON) {sql}"));
        let shown = stranger.text(&explain);
        assert_nothing_of_the_victim(&shown, sql);
        let plan: Value = serde_json::from_str(&shown).unwrap();
        let came_out = plan[0]["Plan"]["Actual Rows"].as_f64();
        assert_eq!(came_out, Some(f64::from(rows)), "{sql}: {shown}");
    }
    // The statistics themselves are closed while row security applies.
    assert_eq!(stranger.text("SELECT count(*) FROM pg_stats WHERE schemaname = 'engram' AND tablename <> 'embedding_models'"), "0");
}

#[test]
fn plans_made_for_one_user_serve_the_next_one_with_own_rows() {
    let db = Database::new();
    let mut session = Session::open(&db, "authenticator");
    for user in ["ann", "bob"] {
        session.begin("authenticated", &token(user));
        session.sql(&format!(
            "SELECT engram.add('{user} has a zebra', embedding => '[1,2,3]'); COMMIT"
        ));
    }
    for mode in ["force_generic_plan", "force_custom_plan"] {
        session.begin("authenticated", &token("ann"));
        session.sql(&format!(
            "SET plan_cache_mode = {mode};
             CREATE FUNCTION pg_temp.cached() RETURNS text LANGUAGE plpgsql STABLE AS
               $$ BEGIN RETURN (SELECT string_agg(content, ',') FROM engram.memories); END $$;
             GRANT EXECUTE ON FUNCTION pg_temp.cached() TO PUBLIC;
             PREPARE direct AS SELECT string_agg(content, ',') FROM engram.memories WHERE importance >= 0;
             PREPARE mine(uuid) AS SELECT string_agg(content, ',') FROM engram.memories WHERE workspace_id = $1;
             PREPARE search(text) AS SELECT string_agg(content, ',') FROM engram.search($1);
             PREPARE near AS SELECT string_agg(content, ',') FROM engram.search(query_embedding => '[1,2,3]');
             PREPARE list AS SELECT string_agg(content, ',') FROM engram.list();
             PREPARE stats AS SELECT memories || ' of ' || content_chars FROM engram.stats(); COMMIT"
        ));
        for _ in 0..7 {
            for user in ["ann", "bob"] {
                session.begin("authenticated", &token(user));
                let own = format!("{user} has a zebra");
                let me = session.text("SELECT engram.current_user_id()");
                for call in [
                    "EXECUTE direct",
                    "EXECUTE search('zebra')",
                    "EXECUTE near",
                    "EXECUTE list",
                    "SELECT pg_temp.cached()",
                ] {
                    assert_eq!(session.text(call), own, "{mode}: {call}");
                }
                assert_eq!(session.text(&format!("EXECUTE mine('{me}')")), own);
                assert_eq!(session.text("EXECUTE stats"), "1 of 15");
                session.sql("COMMIT");
            }
            // Nobody, and a role that sees everything, in between.
            session.begin("authenticated", "");
            assert_eq!(session.text("EXECUTE direct"), "");
            assert_eq!(session.text("SELECT pg_temp.cached()"), "");
            session.sql("COMMIT");
            session.begin("service_role", r#"{"role":"service_role"}"#);
            assert_eq!(session.text("EXECUTE direct").matches("zebra").count(), 2);
            session.sql("COMMIT");
        }
        session.sql("DISCARD ALL");
    }
}

#[test]
fn what_is_done_as_the_owner_takes_the_rights_of_the_caller() {
    let db = Database::new();
    let mut admin = db.admin();
    admin
        .batch_execute(
            "DO $$ BEGIN CREATE ROLE reader LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
             GRANT USAGE ON SCHEMA engram TO reader; GRANT SELECT ON engram.memories TO reader;
             GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA engram TO reader",
        )
        .unwrap();
    let mut victim = db.user("victim");
    let id: Uuid = one(&mut victim, "SELECT engram.add('an apple')", &[]);
    victim
        .batch_execute(
            r#"SELECT * FROM engram.append_messages('[{"role": "user", "content": "q", "created_at": "2024-01-01"}]', 's');
               SELECT * FROM engram.archive_messages('1 day', keep => 0)"#,
        )
        .unwrap();
    let mut reader = Session::open(&db, "reader");
    reader.sql("SET engram.user_id = 'victim'");
    assert_eq!(reader.text("SELECT count(*) FROM engram.memories"), "1");
    for call in [
        "SELECT engram_internal.erase_archived_messages(NULL, NULL, NULL)".to_owned(),
        "SELECT engram.restore_messages('s')".to_owned(),
        "SELECT * FROM engram.archive_messages('1 day')".to_owned(),
        "SELECT * FROM engram_internal.consolidate_batch(NULL, now() + interval '10 years', 1000, true)".to_owned(),
        "SELECT * FROM engram.consolidate(at => now() + interval '10 years')".to_owned(),
        format!("SELECT engram_internal.rebase((SELECT user_id FROM engram_internal.caller()), '{id}', 'core')"),
        "SELECT engram_internal.fold((SELECT user_id FROM engram_internal.caller()), 10)".to_owned(),
        "SELECT engram.configure('{\"decay\": 0.4}')".to_owned(),
        r#"SELECT * FROM engram.import('[{"kind": "memory", "content": "mine"}]')"#.to_owned(),
    ] {
        let error = failure(reader.simple_query(&call));
        assert_eq!(error.code, "42501", "{call}: {error:?}");
    }
    let left: (i64, String) = {
        let row = admin
            .query_one(
                "SELECT (SELECT count(*) FROM engram.message_archive), layer FROM engram.memories",
                &[],
            )
            .unwrap();
        (row.get(0), row.get(1))
    };
    assert_eq!(left, (1, "working".to_owned()));
    // Who may add and no more replaces nothing.
    admin
        .batch_execute("GRANT INSERT ON engram.memories TO reader")
        .unwrap();
    let line =
        |content: &str| format!(r#"[{{"kind": "memory", "id": "{id}", "content": "{content}"}}]"#);
    let replaced = format!(
        "SELECT status FROM engram.import('{}', on_conflict => 'replace')",
        line("replaced")
    );
    assert_eq!(reader.code(&replaced), "42501");
    let skipped = format!("SELECT status FROM engram.import('{}')", line("skipped"));
    assert_eq!(reader.text(&skipped), "skipped");
}

/// Anybody may have the setting that dumps have.
#[test]
fn settings_outlive_a_caller_who_passes_for_a_dump() {
    let db = Database::new();
    let mut admin = db.admin();
    let mut ann = db.user("ann");
    let id: Uuid = one(&mut ann, "SELECT engram.add('an apple')", &[]);
    let me: Uuid = one(&mut ann, "SELECT engram.current_user_id()", &[]);
    admin
        .execute(
            "SELECT engram.configure('{\"max_content_chars\": 4242, \"decay\": 0.4}', $1)",
            &[&me],
        )
        .unwrap();
    ann.batch_execute(
        "INSERT INTO engram.memories (content) VALUES ('a pear'); SET check_function_bodies = off",
    )
    .unwrap();
    let state = "SELECT access_count FROM engram.memory_state WHERE memory_id = $1";
    ann.execute("SELECT engram.touch(ARRAY[$1::uuid])", &[&id])
        .unwrap();
    for call in [
        "SELECT engram.configure('{\"mu1\": 0.2}')",
        "SELECT engram.apply_preset('researcher')",
        r#"SELECT * FROM engram.import('[{"kind": "settings", "settings": {"mu2": 0.004}}]', on_conflict => 'replace')"#,
        "SELECT * FROM engram.consolidate()",
        "SELECT engram.add('a plum')",
    ] {
        ann.batch_execute(call).unwrap();
        let kept: i32 = one(
            &mut admin,
            "SELECT max_content_chars FROM engram.settings WHERE workspace_id = $1",
            &[&me],
        );
        assert_eq!(kept, 4242, "{call}");
    }
    assert_eq!(one::<Option<i64>>(&mut admin, state, &[&id]), Some(2));
}

/// What an argument says of its size costs the caller alone.
#[test]
fn no_argument_takes_the_server_down() {
    let db = Database::new();
    let mut stranger = stranger(&db);
    let backend = stranger.text("SELECT pg_backend_pid()");
    stranger.sql("SET statement_timeout = '2s'");
    let low = "set_byte(set_byte(set_byte(set_byte(s.block, 8, 255), 9, 255), 10, 255), 11, 255)";
    for (sql, code) in [
        (
            "SELECT count(*) FROM engram_internal.pairs(array_fill(gen_random_uuid(), ARRAY[200000]))".to_owned(),
            "57014",
        ),
        (
            format!(
                "SELECT count(*) FROM (SELECT array_agg(CASE WHEN s.level = 4 AND get_byte(s.block, 1) = 10 THEN {low} ELSE s.block END) AS rows
                   FROM engram_internal.seal_blocks(ARRAY[engram_internal.vector_entry('{OTHER}', 1, 'gone', NULL)], 1) s) x,
                   engram_internal.segment_entries(x.rows) e"
            ),
            "55000",
        ),
    ] {
        assert_eq!(stranger.code(&sql), code, "{sql}");
    }
    // As many uses that wait as a base knows of.
    stranger.sql("SET statement_timeout = '60s'");
    let known = stranger.text(&format!(
        "WITH u AS (SELECT array_agg(gen_random_uuid()) AS ids FROM generate_series(1, 50000))
         SELECT s.access_count FROM u, engram_internal.state_at(engram_internal.dynamics('{OTHER}'), 'factual', 0.5, false, false,
           '2026-01-01', 'working', 1, NULL, NULL, 1, 0, 'working', 1, 5,
           jsonb_build_object('at', 0, 'working', 1, 'core', 0, 'layer', 'working', 'uses', 1, 'last_used', 0, 'seen', to_jsonb(u.ids)),
           ARRAY(SELECT gen_random_uuid() FROM generate_series(1, 50000)),
           array_fill('2026-01-02'::timestamptz, ARRAY[50000]), array_fill(1::float8, ARRAY[50000]), array_fill(3::smallint, ARRAY[50000]),
           0, NULL, true) s"
    ));
    assert_eq!(known, "1");
    assert_eq!(stranger.text("SELECT pg_backend_pid()"), backend);
}

#[test]
fn import_compares_and_replaces_what_policies_let_the_caller_see() {
    let db = Database::new();
    let mut admin = db.admin();
    let mut ann = db.user("ann");
    let id: Uuid = one(
        &mut ann,
        "SELECT engram.add('the PIN is 4711', tags => '{secret}')",
        &[],
    );
    let plain: Uuid = one(&mut ann, "SELECT engram.add('tea')", &[]);
    let status = |ann: &mut Client, id: Uuid, content: &str, how: &str| -> (String, String) {
        let line = json!([{"kind": "memory", "id": id.to_string(), "content": content, "tags": ["secret"]}]);
        let row = ann
            .query_one(
                &format!("SELECT status, coalesce(error, '') FROM engram.import($1, {how})"),
                &[&line],
            )
            .unwrap();
        (row.get(0), row.get(1))
    };
    for policy in [
        "CREATE POLICY hide ON engram.memories AS RESTRICTIVE FOR ALL USING (NOT 'secret' = ANY (tags)) WITH CHECK (true)",
        "CREATE POLICY hide ON engram.memories AS RESTRICTIVE FOR UPDATE USING (NOT 'secret' = ANY (tags)) WITH CHECK (true)",
    ] {
        admin.batch_execute(policy).unwrap();
        let seen: i64 = one(&mut ann, "SELECT count(*) FROM engram.memories", &[]);
        let hidden = seen == 1;
        for how in [
            "dry_run => true",
            "on_conflict => 'reject', dry_run => true",
        ] {
            // The same answer whether the content is guessed or not.
            for content in ["the PIN is 4710", "the PIN is 4711"] {
                if hidden {
                    let (status, error) = status(&mut ann, id, content, how);
                    assert_eq!(status, "error", "{how}, {content}");
                    assert!(error.contains("policy"), "{error}");
                }
            }
        }
        let (refused, error) = status(&mut ann, id, "mine now", "on_conflict => 'replace'");
        assert_eq!(refused, "error");
        assert!(error.contains("policy"), "{error}");
        let (replaced, _) = status(
            &mut ann,
            plain,
            &format!("green tea {seen}"),
            "on_conflict => 'replace'",
        );
        assert_eq!(replaced, "replaced");
        let (added, _) = status(
            &mut ann,
            Uuid::new_v4(),
            &format!("new {seen}"),
            "dry_run => true",
        );
        assert_eq!(added, "added");
        admin
            .batch_execute("DROP POLICY hide ON engram.memories; UPDATE engram.memories SET tags = '{}' WHERE content LIKE 'green%'")
            .unwrap();
    }
    let kept: (String, i32) = {
        let row = admin
            .query_one(
                "SELECT content, version FROM engram.memories WHERE id = $1",
                &[&id],
            )
            .unwrap();
        (row.get(0), row.get(1))
    };
    assert_eq!(kept, ("the PIN is 4711".to_owned(), 1));
}

#[test]
fn who_loses_the_own_workspace_loses_it_by_every_door() {
    let db = Database::new();
    let mut admin = db.admin();
    let mut ann = db.user("ann");
    let id: Uuid = one(&mut ann, "SELECT engram.add('apple pie')", &[]);
    let nobodys = |function: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION engram.{function}() RETURNS uuid[] LANGUAGE sql STABLE PARALLEL SAFE
             SET search_path = pg_catalog, pg_temp AS $$SELECT '{{}}'::uuid[]$$"
        )
    };
    admin
        .batch_execute(&nobodys("writable_workspaces"))
        .unwrap();
    assert_eq!(
        one::<i64>(&mut ann, "SELECT count(*) FROM engram.search('apple')", &[]),
        1
    );
    for call in [
        format!("SELECT engram.touch('{{{id}}}')"),
        format!("SELECT engram.rate('{id}', 3)"),
        format!("SELECT engram.reinforce('{{{id}}}')"),
        format!("SELECT engram.update('{id}', importance => 0.9)"),
        "SELECT engram.add('more')".to_owned(),
        r#"SELECT * FROM engram.import('[{"kind": "memory", "content": "i"}]')"#.to_owned(),
        "SELECT engram.configure('{\"decay\": 0.4}')".to_owned(),
        "SELECT * FROM engram.consolidate()".to_owned(),
        r#"SELECT * FROM engram.append_messages('[{"role": "user", "content": "q"}]', 's')"#
            .to_owned(),
    ] {
        let error = failure(ann.simple_query(&call));
        assert!(
            ["42501", "22023"].contains(&error.code.as_str()),
            "{call}: {error:?}"
        );
        assert!(!error.hint.is_empty(), "{call}: {error:?}");
    }
    admin
        .batch_execute(&nobodys("readable_workspaces"))
        .unwrap();
    for call in [
        "SELECT count(*) FROM engram.memories".to_owned(),
        "SELECT count(*) FROM engram.search('apple')".to_owned(),
        "SELECT count(*) FROM engram.search()".to_owned(),
        "SELECT count(*) FROM engram.context('apple') c WHERE c::text LIKE '%pie%'".to_owned(),
        "SELECT count(*) FROM engram.list()".to_owned(),
        "SELECT count(*) FROM engram.activations()".to_owned(),
        format!("SELECT count(*) FROM engram.related('{id}')"),
        format!("SELECT count(engram.activation('{id}'))"),
        format!("SELECT count(*) FROM engram.get('{id}')"),
    ] {
        let found = ann.simple_query(&call);
        let Ok(found) = found else { continue };
        let counts = found.iter().filter_map(|m| match m {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        assert_eq!(counts.collect::<Vec<_>>(), ["0"], "{call}");
    }
}

/// A call with named arguments as JSON, in the statement that PostgREST makes of it from the catalog.
fn rpc(session: &mut Session, user: &str, function: &str, body: &str) -> Value {
    let asked = format!(
        "SELECT string_agg(quote_ident(k), ', '),
                string_agg(quote_ident(k) || ' ' || format_type(t, NULL), ', '),
                string_agg(format('%1$I := pgrst_body.%1$I', k), ', '), bool_and(p.proretset)
         FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace CROSS JOIN json_object_keys($${body}$$) k
         JOIN LATERAL unnest(p.proargnames[:p.pronargs], p.proargtypes::oid[]) AS a (name, t) ON a.name = k
         WHERE n.nspname = 'engram' AND p.proname = '{function}'"
    );
    session.sql("RESET ROLE");
    let [names, types, arguments, set] = &rows(&mut session.client, &asked)[0][..] else {
        panic!("four columns");
    };
    let call = format!("engram.{function}({arguments})");
    let (call, result) = if set == "t" {
        (call, "json_agg(r)".to_owned())
    } else {
        (
            format!("(SELECT {call} AS scalar)"),
            "json_agg(r.scalar) -> 0".to_owned(),
        )
    };
    session.begin("authenticated", &token(user));
    session.sql("SET LOCAL search_path = engram, public, extensions");
    let text = session.text(&format!(
        "WITH pgrst_source AS (
           SELECT pgrst_call.* FROM (SELECT $${body}$$::json AS json_data) pgrst_payload,
           LATERAL (SELECT {names} FROM json_to_record(pgrst_payload.json_data) AS _({types}) LIMIT 1) pgrst_body,
           LATERAL {call} pgrst_call)
         SELECT coalesce({result}, '[]') FROM pgrst_source r"
    ));
    session.sql("COMMIT");
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{function}: {text}: {e}"))
}

#[test]
fn every_argument_gets_through_postgrest() {
    let db = Database::new();
    db.admin()
        .batch_execute("SELECT engram.set_embedding_model('tiny', 3, true)")
        .unwrap();
    let mut session = Session::open(&db, "authenticator");
    let mut call =
        |function: &str, body: Value| rpc(&mut session, VICTIM, function, &body.to_string());
    let id = call(
        "add",
        json!({"content": "Ann likes green tea", "embedding": [1, 0.5, 0], "tags": ["drink", "to \"keep\""],
               "metadata": {"deep": {"n": 1}}, "occurred_at": "2026-01-02T03:04:05Z", "importance": 0.75,
               "entities": ["Ann"], "session_id": "s1"}),
    );
    let other = call(
        "add",
        json!({"content": "Ann likes black tea", "embedding": "[0,1,0]", "type": null}),
    );
    let stored = call(
        "add_many",
        json!({"items": [{"content": "Bob drinks coffee", "embedding": [0, 0, 1]}]}),
    );
    assert_eq!(stored[0]["status"], "added");
    let found = call(
        "search",
        json!({"query_text": "tea", "query_embedding": [1, 0, 0], "match_count": 5, "types": ["factual"],
               "filter": {"tags": {"contains": ["drink"]}, "metadata.deep.n": {"gte": 1}}, "explain": true}),
    );
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
    let hit = &found[0];
    assert_eq!(
        (&hit["id"], &hit["tags"], &hit["metadata"]),
        (
            &id,
            &json!(["drink", "to \"keep\""]),
            &json!({"deep": {"n": 1}})
        )
    );
    assert_eq!(hit["occurred_at"], "2026-01-02T03:04:05+00:00");
    assert!(hit["explain"]["lanes"]["vector"].is_object(), "{hit}");
    let recalled = call("recall", json!({"query_text": "tea"}));
    assert_eq!(recalled.as_array().map(Vec::len), Some(2));
    let used = json!({"ids": [id, other], "recall_id": recalled[0]["recall_id"]});
    assert_eq!(call("touch", used.clone()), 2);
    assert_eq!(call("touch", used), 0, "the same credit");
    assert_eq!(
        call(
            "update",
            json!({"id": id, "tags": [], "clear": ["session_id"], "expected_version": 1})
        ),
        2
    );
    let listed = call(
        "list",
        json!({"filter": {"content": {"icontains": "GREEN"}}}),
    );
    assert_eq!(
        (&listed[0]["tags"], &listed[0]["session_id"]),
        (&json!([]), &Value::Null)
    );
    let turns = json!({"session_id": "chat", "items": [{"role": "user", "content": "hello"}]});
    assert_eq!(call("append_messages", turns)[0]["status"], "added");
    let context = call("context", json!({"query_text": "tea", "max_tokens": 100}));
    assert!(context.to_string().contains("black tea"), "{context}");
    assert_eq!(call("erase", json!({"ids": [id]}))[0]["id"], id);
    // Somebody else, on the same connection.
    let theirs = rpc(&mut session, OTHER, "search", r#"{"query_text": "tea"}"#);
    assert_eq!(theirs, json!([]));
}

#[test]
fn clients_of_a_transaction_pooler_see_their_own_only() {
    let db = Database::new();
    let mut pooled = Session::open(&db, "app");
    for round in 0..3 {
        for user in ["ann", "bob"] {
            pooled.sql(&format!("BEGIN; SET LOCAL engram.user_id = '{user}'; SELECT engram.add('{user} in round {round}'); COMMIT"));
            // What the other client finds before it says who it is: nothing.
            assert_eq!(pooled.text("SELECT count(*) FROM engram.memories"), "0");
            assert_eq!(pooled.text("SELECT user_id FROM engram.whoami()"), "");
            assert_eq!(pooled.code("SELECT engram.add('whose is this?')"), "42501");
        }
        // A client that fails or gives up takes its identity with it too.
        pooled.sql("BEGIN; SET LOCAL engram.user_id = 'ann'");
        assert_eq!(pooled.code("SELECT 1 / 0"), "22012");
        pooled.sql("ROLLBACK");
        pooled.sql("BEGIN; SAVEPOINT s; SET LOCAL engram.user_id = 'ann'; ROLLBACK TO s");
        assert_eq!(
            pooled.text("SELECT count(*) FROM engram.search('round')"),
            "0"
        );
        pooled.sql("COMMIT");
        for user in ["ann", "bob"] {
            pooled.sql(&format!("BEGIN; SET LOCAL engram.user_id = '{user}'"));
            let found = rows(
                &mut pooled.client,
                "SELECT content FROM engram.search('round', match_count => 100)",
            );
            assert_eq!(found.len(), round + 1);
            assert!(
                found.iter().all(|row| row[0].starts_with(user)),
                "{found:?}"
            );
            pooled.sql("COMMIT");
        }
    }
}

#[test]
fn keys_and_values_of_filters_are_never_sql() {
    let db = Database::new();
    victim(&db);
    let mut admin = Session::open(&db, "postgres");
    let before = admin.text("SELECT public.fingerprint()");
    let mut stranger = stranger(&db);
    stranger.sql("SELECT engram.add('bystander')");
    let nasty = [
        "' OR true --",
        "x' OR '1'='1",
        "\") OR true; DROP TABLE engram.memories; --",
        "$1",
        "$$ OR true $$",
        "{}') OR m.workspace_id IS NOT NULL OR ('1",
        "\\' OR true --",
        "a\\\"b",
        "m.content",
        "*/ OR true /*",
        "{ws}",
        "%s",
        "%I",
        "\u{2019} OR true",
        "metadata.x' || (SELECT content FROM engram.memories LIMIT 1) || '",
        "E'\\\\x27'",
    ];
    for text in nasty {
        let text = fill(text);
        // Stored as content, metadata, tag, session and entity, and found by exactly that.
        let metadata = serde_json::json!({ text.clone(): text.clone() });
        stranger
            .query_one(
                "SELECT engram.add($1, metadata => $2, tags => ARRAY[$1], session_id => $1, entities => ARRAY[$1 || 'e'])",
                &[&text, &metadata],
            )
            .unwrap();
        // A dot in a key leads into nested objects, of which there are none here.
        let by_key = usize::from(!text.contains('.'));
        for (hits, filter) in [
            (
                1,
                serde_json::json!({ "metadata": {"eq": {text.clone(): text.clone()}} }),
            ),
            (
                1,
                serde_json::json!({ "metadata": {"contains": {text.clone(): text.clone()}} }),
            ),
            (
                by_key,
                serde_json::json!({ text.clone(): {"eq": text.clone()} }),
            ),
            (
                by_key,
                serde_json::json!({ format!("metadata.{text}"): {"icontains": text.clone()} }),
            ),
            (1, serde_json::json!({ "tags": [text.clone()] })),
            (1, serde_json::json!({ "session_id": text.clone() })),
            (
                1,
                serde_json::json!({ "content": {"contains": text.clone()} }),
            ),
            (
                1,
                serde_json::json!({ "entities": {"contains": format!("{text}e")} }),
            ),
            (
                1,
                serde_json::json!({ "NOT": [{ "session_id": {"ne": text.clone()} }] }),
            ),
        ] {
            for sql in [
                "SELECT content FROM engram.list($1, 1000)",
                "SELECT content FROM engram.search(filter => $1, match_count => 1000)",
                "SELECT (SELECT content FROM engram.get(e.id)) FROM engram.erase(filter => $1, dry_run => true) e",
            ] {
                let found = stranger
                    .query(sql, &[&filter])
                    .unwrap_or_else(|e| panic!("{filter}: {e:?}"));
                let found: Vec<String> = found.iter().map(|row| row.get(0)).collect();
                assert_eq!(
                    found.iter().filter(|content| **content == text).count(),
                    hits,
                    "{filter}: {found:?}"
                );
                assert!(
                    !found.contains(&"bystander".to_owned()),
                    "{filter} finds {found:?}"
                );
            }
        }
        // As an operator, a field of the search box, a type, a model or a cursor they are refused
        // or match nothing but own rows.
        let operator = serde_json::json!({ "content": { text.clone(): 1 } });
        assert_eq!(
            failure(stranger.query("SELECT engram.list($1)", &[&operator])).code,
            "22023"
        );
        for sql in [
            "SELECT content FROM engram.search($1, match_count => 1000)",
            "SELECT content FROM engram.search('\"' || $1 || '\" -' || $1)",
            "SELECT content FROM engram.search(types => ARRAY[$1])",
            "SELECT content FROM engram.search('zebra', model => $1)",
            "SELECT content FROM engram.list(cursor => $1)",
            "SELECT content FROM engram.list(include => ARRAY[$1])",
            "SELECT engram.add('x', type => $1)::text",
            "SELECT engram.add('x', on_duplicate => $1)::text",
        ] {
            match stranger.query(sql, &[&text]) {
                Ok(found) => found
                    .iter()
                    .for_each(|row| assert_nothing_of_the_victim(row.get(0), sql)),
                Err(error) => {
                    let refused = failure(Err::<(), _>(error));
                    assert_eq!(refused.code, "22023", "{sql}: {refused:?}");
                    assert_nothing_of_the_victim(&format!("{refused:?}"), sql);
                }
            }
        }
    }
    assert_eq!(before, admin.text("SELECT public.fingerprint()"));
}

#[test]
fn policies_and_grants_on_settings_and_models_count_for_search() {
    let db = Database::new();
    let (mut ann, mut admin) = (db.user("ann"), db.admin());
    ann.batch_execute("SELECT engram.add('zebra in the garden', embedding => '[1,0,0]')")
        .unwrap();
    let words = "SELECT content FROM engram.search('zebra')";
    let model = "SELECT content FROM engram.search('zebra', '[1,0,0]')";
    let mut tried = |change: &str, sql: &str, code: &str, back: &str| {
        assert_eq!(ann.query(sql, &[]).unwrap().len(), 1, "before {change}");
        admin.batch_execute(change).unwrap();
        assert_eq!(failure(ann.query(sql, &[])).code, code, "{change}");
        admin.batch_execute(back).unwrap();
        assert_eq!(ann.query(sql, &[]).unwrap().len(), 1, "after {change}");
    };
    tried(
        "CREATE POLICY mine ON engram.settings AS RESTRICTIVE FOR SELECT USING (false)",
        words,
        "55000",
        "DROP POLICY mine ON engram.settings",
    );
    tried(
        "CREATE POLICY mine ON engram.embedding_models AS RESTRICTIVE FOR SELECT USING (false)",
        model,
        "55000",
        "DROP POLICY mine ON engram.embedding_models",
    );
    tried(
        "REVOKE SELECT ON engram.settings FROM app; GRANT SELECT (workspace_id) ON engram.settings TO app",
        words,
        "42501",
        "REVOKE ALL ON engram.settings FROM app; GRANT SELECT ON engram.settings TO app",
    );
}

#[test]
fn row_security_switched_off_is_an_error_and_no_way_in() {
    let db = Database::new();
    victim(&db);
    let mut stranger = stranger(&db);
    stranger.sql("SELECT engram.add('mine'); SET row_security = off");
    for sql in [
        "SELECT * FROM engram.memories",
        "SELECT * FROM engram.memory_state",
        "COPY engram.memories TO STDOUT",
        "UPDATE engram.memories SET content = 'x'",
        "DELETE FROM engram.embeddings",
        "INSERT INTO engram.graph_links VALUES ('{ws}', '{id}', 'mentions', 'x', 'x')",
        "SELECT * FROM engram.search('zebra')",
        "SELECT * FROM engram.search('zebra', workspace => '{ws}')",
        "SELECT * FROM engram.get('{id}')",
        "SELECT * FROM engram.list()",
        "SELECT * FROM engram.stats('{ws}')",
        "SELECT engram.add('x', workspace => '{ws}')",
    ] {
        let sql = fill(sql);
        let (outcome, shown) = attempt(&mut stranger, &sql, "");
        assert_eq!(outcome, NO, "{sql}: {shown}");
        assert_nothing_of_the_victim(&shown, &sql);
    }
    assert_eq!(stranger.text("SELECT engram_internal.trusted()"), "f");
}

#[test]
fn parallel_workers_serve_the_same_caller() {
    let db = Database::new();
    victim(&db);
    let mut stranger = stranger(&db);
    stranger.sql(
        "SELECT engram.add('mine');
         SET debug_parallel_query = on; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0",
    );
    let plan = rows(
        &mut stranger.client,
        "EXPLAIN SELECT content FROM engram.memories",
    )
    .concat()
    .join("\n");
    assert!(plan.contains("Gather"), "{plan}");
    let find = "SELECT string_agg(content, ',') FROM engram.memories";
    let who = "SELECT u FROM engram_internal.caller_id() u";
    assert_eq!(stranger.text(find), "mine");
    assert_eq!(stranger.text(who), OTHER);
    stranger.sql("BEGIN; SELECT set_config('request.jwt.claims', '{\"role\":\"anon\"}', true)");
    assert_eq!(stranger.text(find), "");
    assert_eq!(stranger.text(who), "");
    stranger.sql("COMMIT");
}

// --- the privileged stage of search -------------------------------------------------------------

#[test]
fn names_of_a_stranger_are_never_looked_up() {
    let db = Database::new();
    victim(&db);
    let mut admin = Session::open(&db, "postgres");
    let before = admin.text("SELECT public.fingerprint()");
    let mut stranger = stranger(&db);
    // The names of the transition tables that triggers with the owner's rights read.
    stranger.sql(&fill(
        "CREATE TEMP TABLE added AS SELECT '{ws}'::uuid AS workspace_id, '{id}'::uuid AS id, now() AS created_at,
             'planted'::text AS content, null::text AS speaker, null::text AS summary, null::timestamptz AS occurred_at, null::timestamptz AS deleted_at;
         CREATE TEMP TABLE removed AS SELECT * FROM added",
    ));
    // A schema that has every function, operator, table and type that could be meant, first on the
    // path; temporary ones too. Whatever is called says so.
    stranger.sql(
        r#"SET check_function_bodies = off;
        DO $do$
        DECLARE
          f record;
          body text := $$ LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''hijacked''; END'$$;
        BEGIN
          FOR f IN SELECT oid, proname, pg_get_function_identity_arguments(oid) AS args, pg_get_function_result(oid) AS result
                   FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f'
                     AND prorettype NOT IN ('internal'::regtype, 'cstring'::regtype, 'trigger'::regtype)
                     AND NOT proargtypes::oid[] && ARRAY['internal'::regtype, 'cstring'::regtype]::oid[] LOOP
            BEGIN
              EXECUTE format('CREATE FUNCTION playground.%I(%s) RETURNS %s', f.proname, f.args, f.result) || body;
            EXCEPTION WHEN OTHERS THEN NULL;
            END;
          END LOOP;
          FOR f IN SELECT oid, oprname, oprleft::regtype AS l, oprright::regtype AS r, oprresult::regtype AS result
                   FROM pg_operator WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprleft <> 0 LOOP
            BEGIN
              EXECUTE format('CREATE FUNCTION playground.op%s(%s, %s) RETURNS %s', f.oid, f.l, f.r, f.result) || body;
              EXECUTE format('CREATE OPERATOR playground.%s (FUNCTION = playground.op%s, LEFTARG = %s, RIGHTARG = %s)',
                             f.oprname, f.oid, f.l, f.r);
            EXCEPTION WHEN OTHERS THEN NULL;
            END;
          END LOOP;
        END $do$;
        DO $$
        DECLARE t text;
        BEGIN
          FOREACH t IN ARRAY ARRAY['memories', 'memory_state', 'search_blocks', 'embeddings', 'embedding_models',
              'embedding_claims', 'graph_links', 'erasures', 'settings', 'memory_type_settings', 'pg_class', 'pg_proc'] LOOP
            EXECUTE format('CREATE TABLE playground.%I (hijacked int CHECK (hijacked < 0))', t);
            EXECUTE format('CREATE TEMP TABLE %I (hijacked int CHECK (hijacked < 0))', t);
          END LOOP;
          FOREACH t IN ARRAY ARRAY['uuid', 'text', 'jsonb', 'timestamptz', 'int4', 'int8', 'bool', 'float8', 'bytea', 'vector',
              'regclass', 'regconfig', 'tsvector', 'tsquery', '_uuid', '_text'] LOOP
            EXECUTE format('CREATE DOMAIN playground.%I AS pg_catalog.int4 CHECK (value < 0)', t);
            EXECUTE format('CREATE DOMAIN pg_temp.%I AS pg_catalog.int4 CHECK (value < 0)', t);
          END LOOP;
        END $$"#,
    );
    let shadows =
        "SELECT count(*) > 2000 FROM pg_proc WHERE pronamespace = 'playground'::regnamespace";
    assert_eq!(admin.text(shadows), "t");
    stranger.sql("SET search_path = playground, pg_temp, pg_catalog");
    assert!(
        stranger.simple_query("SELECT lower('x')").is_err()
            && stranger.simple_query("SELECT 1 = 1").is_err()
    );
    let mine = "018f0000-bbbb-7000-8000-000000000001";
    for (rows, sql) in [
        (
            1,
            "SELECT engram.add('mine is a zebra', 'episodic', 0.5, '[1,2,3]', '{a}', '{\"k\": [1]}', '2020-01-01', speaker => 'Me', entities => '{Me}', id => '{mine}')",
        ),
        (
            1,
            "SELECT engram.add('Mine  is a ZEBRA', importance => 0.6, tags => '{b}')",
        ),
        (
            2,
            r#"SELECT * FROM engram.add_many('[{"content": "two", "tags": ["x"]}, {"content": "mine is a zebra"}]')"#,
        ),
        (1, "SELECT * FROM engram.get('{mine}')"),
        (
            1,
            r#"SELECT * FROM engram.list('{"content": {"icontains": "ZEBRA"}, "tags": ["a"], "k": {"contains": 1}, "importance": {"gte": 0.5}, "entities": {"contains": "me"}, "created_at": {"gt": "2020-01-01"}}')"#,
        ),
        (
            1,
            r#"SELECT * FROM engram.search('zebra "is a zebra" -lion Me', '[1,2,3]', filter => '{"k": {"exists": true}, "OR": [{"type": "episodic"}, {"pinned": true}]}', types => '{episodic}', explain => true)"#,
        ),
        (2, "SELECT * FROM engram.search()"),
        (
            1,
            "SELECT engram.update('{mine}', 'mine is a zebra still', summary => 's', clear => '{source}', expected_version => 2)",
        ),
        (1, "SELECT engram.set_embedding('{mine}', '[3,2,1]')"),
        (1, "SELECT * FROM engram.pending_embeddings()"),
        (1, "SELECT * FROM engram.stats()"),
        (1, "SELECT engram.forget('{mine}')"),
        (1, "SELECT engram.restore('{mine}')"),
        (1, "SELECT engram.pin('{mine}')"),
        (1, "SELECT engram.unpin('{mine}')"),
        (1, "SELECT * FROM engram.whoami() w"),
        (1, "SELECT * FROM engram.version()"),
        (
            1,
            "INSERT INTO engram.memories (content, metadata) VALUES ('direct', '{\"a\": 1}')",
        ),
        (3, "SELECT * FROM engram.memories"),
        (
            2,
            r#"SELECT * FROM engram.erase(filter => '{"content": {"contains": "r"}}')"#,
        ),
    ] {
        let (outcome, shown) = attempt(&mut stranger, &sql.replace("{mine}", mine), "");
        assert!(!shown.contains("hijacked"), "{sql}: {shown}");
        assert_eq!(outcome, Expect::Rows(rows), "{sql}: {shown}");
    }
    assert_eq!(before, admin.text("SELECT public.fingerprint()"));
}

/// A workspace in which a policy of the owner hides most of what matches best.
fn strict(db: &Database) -> Session {
    ordinary_owner(db);
    let mut ann = Session::open(db, "app");
    ann.sql(
        "SET engram.user_id = 'ann';
         SELECT engram.add_many((SELECT jsonb_agg(jsonb_build_object('content', 'zebra lion ' || i, 'agent_id', 'hidden', 'embedding', '[1,0,0]'::jsonb,
             'tags', jsonb_build_array('t'), 'metadata', jsonb_build_object('hidden', i))) FROM generate_series(1, 250) i));
         UPDATE engram.memory_state SET access_count = 99;
         SELECT engram.add_many((SELECT jsonb_agg(jsonb_build_object('content', 'one zebra among ' || i || ' quite different animals in the zoo',
             'embedding', jsonb_build_array(0.6, 0.8, 0.1 + i / 100.0), 'tags', jsonb_build_array('t'), 'speaker', 'Ann')) FROM generate_series(1, 14) i))",
    );
    let mut admin = Session::open(db, "postgres");
    admin.sql(
        "SET ROLE warden;
         CREATE POLICY not_hidden ON engram.memories AS RESTRICTIVE FOR SELECT USING (agent_id IS DISTINCT FROM 'hidden')",
    );
    assert_eq!(ann.text("SELECT count(*) FROM engram.memories"), "14");
    ann
}

const STRICT_SEARCHES: [&str; 7] = [
    "query_text => 'zebra'",
    "query_text => 'zebra lion'",
    "query_embedding => '[1,0,0]'",
    "query_text => 'zebra', query_embedding => '[1,0,0]'",
    "query_text => 'zebra lion', query_embedding => '[1,0,0]', filter => '{\"tags\": [\"t\"]}'",
    "query_text => '\"zebra\" -giraffe'",
    "include => '{expired}'",
];

#[test]
fn search_fills_up_from_what_a_stricter_policy_allows() {
    let db = Database::new();
    let mut ann = strict(&db);
    for search in STRICT_SEARCHES {
        let found = rows(
            &mut ann.client,
            &format!(
                "SELECT content, matched, explain FROM engram.search({search}, explain => true)"
            ),
        );
        assert_eq!(found.len(), 10, "{search}: {found:?}");
        assert!(
            found.iter().all(|row| row[0].starts_with("one zebra")),
            "{search}: {found:?}"
        );
    }
    // Of vectors, too, those of what is seen.
    assert_eq!(
        ann.text("SELECT memories || ' ' || embeddings FROM engram.stats()"),
        format!(
            "14 {{\"{}\": 14}}",
            ann.text("SELECT name FROM engram.embedding_models WHERE is_default")
        )
    );
    assert_eq!(
        ann.text("SELECT count(*) FROM engram.list(match_count => 1000)"),
        "14"
    );
    assert_eq!(
        ann.text("SELECT count(*) FROM engram.search('lion hidden')"),
        "0"
    );
}

#[test]
fn scores_say_nothing_of_what_a_stricter_policy_hides() {
    let db = Database::new();
    let mut ann = strict(&db);
    let mut look = || {
        STRICT_SEARCHES.map(|search| {
            let sql = "SELECT content, score, matched, explain FROM engram.search({}, explain => true, at => '2100-01-01') ORDER BY score DESC, content";
            rows(&mut ann.client, &sql.replace("{}", search))
        })
    };
    let with = look();
    db.admin()
        .batch_execute("DELETE FROM engram.memories WHERE agent_id = 'hidden'")
        .unwrap();
    let without = look();
    let telling: Vec<_> = (0..STRICT_SEARCHES.len())
        .filter(|i| with[*i] != without[*i])
        .map(|i| (STRICT_SEARCHES[i], with[i].first(), without[i].first()))
        .collect();
    assert!(
        telling.is_empty(),
        "these differ with what is hidden:\n{telling:#?}"
    );
}

#[test]
fn policies_of_users_are_asked_as_the_caller() {
    let db = Database::new();
    ordinary_owner(&db);
    let mut ann = stranger(&db);
    ann.sql("SELECT engram.add('zebra', embedding => '[1,2,3]', entities => '{Zebra}')");
    db.admin()
        .batch_execute(
            "CREATE FUNCTION public.ask() RETURNS boolean LANGUAGE plpgsql AS $$
             BEGIN
               RAISE NOTICE 'asked as <%> with <%> and <%>', current_user, session_user, row_security_active('engram.memories');
               RETURN true;
             END $$;
             SET ROLE warden; CREATE POLICY ask ON engram.memories AS RESTRICTIVE USING (public.ask())",
        )
        .unwrap();
    for sql in [
        "SELECT * FROM engram.search('zebra', '[1,2,3]')",
        "SELECT * FROM engram.search(query_embedding => '[1,2,3]')",
        "SELECT * FROM engram.search()",
        "SELECT * FROM engram.list()",
        "SELECT engram.pin(id) FROM engram.memories",
        "SELECT engram.update(id, 'zebra again') FROM engram.memories",
        "SELECT engram.add('another')",
        "SELECT * FROM engram.erase(filter => '{\"content\": \"another\"}')",
    ] {
        ann.notices();
        let (outcome, shown) = attempt(&mut ann, sql, "");
        assert_eq!(outcome, Expect::Rows(1), "{sql}: {shown}");
        assert!(
            shown.contains("asked as <app> with <app> and <t>"),
            "{sql}: {shown}"
        );
        assert_eq!(
            shown.matches("asked as").count(),
            shown.matches("asked as <app> with <app> and <t>").count(),
            "{sql}: {shown}"
        );
    }
}

#[test]
fn search_works_for_an_ordinary_owner_under_forced_row_security() {
    let db = Database::new();
    victim(&db);
    let mut owner = Session::open(&db, "app");
    owner.sql(&fill("SET engram.user_id = '{ws}'"));
    db.admin().batch_execute(
        "DO $$ DECLARE t regclass; BEGIN
           FOR t IN SELECT oid FROM pg_class WHERE relnamespace = 'engram'::regnamespace AND relkind = 'r' LOOP
             EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', t);
           END LOOP;
         END $$",
    ).unwrap();
    assert_eq!(
        owner.text("SELECT count(*) FROM engram.search('zebra')"),
        "2"
    );
    assert_eq!(
        owner.text("SELECT count(*) FROM engram.search('zebra', '[1,2,3]')"),
        "2"
    );
    let mut stranger = stranger(&db);
    assert_eq!(
        stranger.text("SELECT count(*) FROM engram.search('zebra', '[1,2,3]')"),
        "0"
    );
}

#[test]
fn an_error_in_the_privileged_stage_leaves_the_caller_who_it_was() {
    let db = Database::new();
    victim(&db);
    let mut ann = stranger(&db);
    ann.sql("SELECT engram.add('mine is a zebra', embedding => '[1,1,1]')");
    // Only the privileged stage reads memory_state: a search that waits for this lock is in it.
    let mut admin = Session::open(&db, "postgres");
    admin.sql("BEGIN; LOCK TABLE engram.memory_state");
    ann.sql(
        "CREATE FUNCTION playground.caught(statement text) RETURNS text LANGUAGE plpgsql AS $$
         BEGIN
           EXECUTE statement;
           RETURN 'nothing';
         EXCEPTION WHEN OTHERS OR query_canceled THEN
           RETURN concat_ws(' ', SQLSTATE, current_user, row_security_active('engram.memories'), (SELECT count(*) FROM engram.memories));
         END $$",
    );
    let failing = [
        (
            "55P03",
            "SELECT set_config('lock_timeout', '20ms', true), (SELECT count(*) FROM engram.search('zebra'))",
        ),
        ("57014", "SELECT count(*) FROM engram.search('zebra')"),
        ("22000", "SELECT count(*) FROM engram.search('', '[1,2]')"),
        ("22000", "SELECT count(*) FROM engram.search('', '[0,0,0]')"),
        (
            "22023",
            "SELECT count(*) FROM engram.search('zebra', filter => '{\"type\": {\"like\": 1}}')",
        ),
        (
            "22023",
            "SELECT count(*) FROM engram.search('zebra', types => '{nonsense}')",
        ),
        (
            "22023",
            "SELECT count(*) FROM engram.search('zebra', model => 'none')",
        ),
    ];
    let same = |session: &mut Session, what: &str| {
        let state = "SELECT concat_ws(' ', current_user, session_user, row_security_active('engram.memories'), (SELECT count(*) FROM engram.memories))";
        assert_eq!(session.text(state), "app app t 1", "{what}");
        // SET ROLE is refused while somebody else's rights are in use.
        session.sql("SET ROLE app; RESET ROLE");
    };
    for (code, sql) in failing {
        let timeout = if code == "57014" {
            "SET statement_timeout = '50ms'"
        } else {
            "SET statement_timeout = 0"
        };
        ann.sql(timeout);
        assert_eq!(ann.code(sql), code, "{sql}");
        same(&mut ann, sql);
        ann.sql("BEGIN; SAVEPOINT before");
        assert_eq!(ann.code(sql), code);
        ann.sql("ROLLBACK TO before");
        same(&mut ann, sql);
        ann.sql("COMMIT");
        same(&mut ann, sql);
        let caught = format!("SELECT playground.caught($statement${sql}$statement$)");
        assert_eq!(ann.text(&caught), format!("{code} app t 1"), "{sql}");
        same(&mut ann, sql);
    }
    ann.sql("RESET statement_timeout");
    admin.sql("ROLLBACK");
    assert_eq!(
        ann.text("SELECT content FROM engram.search('zebra')"),
        "mine is a zebra"
    );
}

// --- triggers and other people's objects --------------------------------------------------------

#[test]
fn definer_triggers_serve_their_own_table_only() {
    let db = Database::new();
    victim(&db);
    let mut admin = Session::open(&db, "postgres");
    let before = admin.text("SELECT public.fingerprint()");
    let mut stranger = stranger(&db);
    let bait = |schema: &str| {
        fill(&format!(
            "CREATE TABLE {schema}.bait AS SELECT '{{ws}}'::uuid AS workspace_id, '{{id}}'::uuid AS id, '{{id}}'::uuid AS memory_id,
                 'tiny'::text AS model, '[1,2,3]'::extensions.vector AS embedding, 'planted'::text AS content, null::text AS speaker,
                 null::text AS summary, null::timestamptz AS occurred_at, now() AS created_at, null::timestamptz AS deleted_at"
        ))
    };
    stranger.sql(&bait("playground"));
    for (event, function) in [
        (
            "BEFORE INSERT OR UPDATE ON {} FOR EACH ROW",
            "memories_before_write",
        ),
        (
            "AFTER INSERT ON {} REFERENCING NEW TABLE AS added FOR EACH STATEMENT",
            "memories_after_insert",
        ),
        ("AFTER UPDATE ON {} FOR EACH ROW", "memories_after_update"),
        ("AFTER UPDATE ON {} FOR EACH ROW", "memories_after_change"),
        (
            "AFTER DELETE ON {} REFERENCING OLD TABLE AS removed FOR EACH STATEMENT",
            "memories_after_delete",
        ),
        (
            "BEFORE INSERT OR UPDATE ON {} FOR EACH ROW",
            "embeddings_before_write",
        ),
        (
            "AFTER TRUNCATE ON {} FOR EACH STATEMENT",
            "memories_after_truncate",
        ),
        (
            "AFTER TRUNCATE ON {} FOR EACH STATEMENT",
            "embeddings_after_truncate",
        ),
        (
            "AFTER INSERT ON {} REFERENCING NEW TABLE AS added FOR EACH STATEMENT",
            "embeddings_after_insert",
        ),
        (
            "AFTER UPDATE ON {} REFERENCING OLD TABLE AS removed NEW TABLE AS added FOR EACH STATEMENT",
            "embeddings_after_update",
        ),
        (
            "AFTER DELETE ON {} REFERENCING OLD TABLE AS removed FOR EACH STATEMENT",
            "embeddings_after_delete",
        ),
        (
            "AFTER DELETE ON {} REFERENCING OLD TABLE AS removed FOR EACH STATEMENT",
            "embedding_models_after_delete",
        ),
        ("BEFORE INSERT ON {} FOR EACH ROW", "settings_before_change"),
        ("AFTER INSERT ON {} FOR EACH ROW", "settings_after_change"),
        (
            "AFTER INSERT ON {} FOR EACH ROW",
            "access_queue_after_insert",
        ),
        ("AFTER UPDATE ON {} FOR EACH ROW", "memories_after_change"),
        (
            "AFTER DELETE ON {} REFERENCING OLD TABLE AS removed FOR EACH STATEMENT",
            "memories_broadcast",
        ),
        ("BEFORE INSERT ON {} FOR EACH ROW", "restore_replaces"),
        ("BEFORE INSERT ON {} FOR EACH ROW", "restore_skips"),
    ] {
        let create = format!("CREATE TRIGGER bait {event} EXECUTE FUNCTION engram.{function}()");
        assert_eq!(
            stranger.code(&create.replace("{}", "playground.bait")),
            "42501",
            "{function}"
        );
        if function.starts_with("restore_") || function.contains("_before_") {
            continue;
        }
        // Even where a superuser was talked into it, the trigger does not act with its owner's rights.
        admin.sql(&format!(
            "{}; GRANT ALL ON public.bait TO app; {}",
            bait("public"),
            create.replace("{}", "public.bait")
        ));
        let mut codes = Vec::new();
        for sql in [
            "INSERT INTO public.bait SELECT * FROM playground.bait",
            "UPDATE public.bait SET content = 'changed'",
            "DELETE FROM public.bait",
            "TRUNCATE public.bait",
        ] {
            let done = stranger.simple_query(sql).err();
            codes.extend(done.map(|e| e.code().unwrap().code().to_owned()));
        }
        assert_eq!(codes, ["42501"], "{function}");
        admin.sql("DROP TABLE public.bait");
    }
    assert_eq!(before, admin.text("SELECT public.fingerprint()"));
}

#[test]
fn ordinary_roles_cannot_attach_anything_to_the_store() {
    let db = Database::new();
    victim(&db);
    let mut stranger = stranger(&db);
    stranger.sql(
        "CREATE FUNCTION playground.spy() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE FUNCTION playground.spy(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1; END'",
    );
    for sql in [
        "CREATE TRIGGER spy AFTER INSERT ON engram.memories FOR EACH ROW EXECUTE FUNCTION playground.spy()",
        "CREATE POLICY spy ON engram.memories USING (true)",
        "ALTER POLICY memories_select ON engram.memories USING (true)",
        "DROP POLICY memories_select ON engram.memories",
        "ALTER TABLE engram.memories DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE engram.memories ADD COLUMN spy int",
        "ALTER TABLE engram.memories DISABLE TRIGGER memories_before_write",
        "ALTER TABLE engram.memories OWNER TO app",
        "CREATE INDEX ON engram.memories (playground.spy(content))",
        "CREATE STATISTICS playground.spy ON content, summary FROM engram.memories",
        "CREATE RULE spy AS ON INSERT TO engram.memories DO ALSO NOTHING",
        "CREATE TABLE playground.heir () INHERITS (engram.memories)",
        "CREATE TABLE playground.probe (w uuid, i uuid, FOREIGN KEY (w, i) REFERENCES engram.memories (workspace_id, id))",
        "CREATE PUBLICATION spy FOR TABLE engram.memories",
        "CREATE FUNCTION engram.spy() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TABLE engram.spy ()",
        "CREATE FUNCTION engram_internal.spy() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE OR REPLACE FUNCTION engram.readable_workspaces() RETURNS uuid[] LANGUAGE sql AS 'SELECT array[null::uuid]'",
        "ALTER FUNCTION engram.current_user_id() SECURITY DEFINER",
        "ALTER EXTENSION engram UPDATE",
        "DROP EXTENSION engram CASCADE",
        "GRANT SELECT ON engram.search_blocks TO app",
        "SET session_replication_role = replica",
    ] {
        assert_eq!(stranger.code(sql), "42501", "{sql}");
    }
    // A view of one's own shows the rows of whoever looks through it, and not of its maker.
    stranger.sql("CREATE VIEW playground.window AS SELECT * FROM engram.memories; GRANT SELECT ON playground.window TO PUBLIC; GRANT USAGE ON SCHEMA playground TO PUBLIC; SELECT engram.add('mine')");
    assert_eq!(
        stranger.text("SELECT string_agg(content, ',') FROM playground.window"),
        "mine"
    );
    let mut other = Session::open(&db, "authenticator");
    other.begin("authenticated", &token("somebody else"));
    assert_eq!(other.text("SELECT count(*) FROM playground.window"), "0");
}

// --- identity -----------------------------------------------------------------------------------

/// The user id of a subject that is no UUID.
fn mapped(subject: &str) -> String {
    const NAMESPACE: Uuid = Uuid::from_u128(0x6b2d_0c3e_5f7a_4c1b_9d24_e1a6_3f50_87cd);
    Uuid::new_v5(&NAMESPACE, subject.as_bytes()).to_string()
}

/// user id, source, subject and role of the caller; and the first words of the problem, if any.
fn whoami(session: &mut Session) -> [String; 5] {
    let row = rows(
        &mut session.client,
        "SELECT user_id, source, subject, role, problem, readable, writable FROM engram.whoami()",
    )
    .remove(0);
    // Without an id there is a problem and no workspace; with one the workspace is one's own.
    let workspaces = format!("{{{}}}", row[0]);
    assert_eq!((&row[5], &row[6]), (&workspaces, &workspaces), "{row:?}");
    assert_eq!(row[0].is_empty(), !row[4].is_empty(), "{row:?}");
    [0, 1, 2, 3, 4].map(|i| row[i].clone())
}

/// Pins the source of identity for everybody who connects from now on.
fn pin(db: &Database, source: &str) {
    db.admin()
        .batch_execute(&format!(
            "ALTER DATABASE {} SET engram.identity_source = '{source}'",
            db.name
        ))
        .unwrap();
}

#[test]
fn whoami_tells_who_calls_and_what_is_missing() {
    let db = Database::new();
    // Legacy claim, claims and setting, - for none; then user id, source, subject and problem.
    let cases = r#"
-       | -                         | -         | -       | -       | -         | neither request.jwt.claims nor engram.user_id is set
-       | {"sub":"{ws}","role":"x"} | -         | {ws}    | jwt     | {ws}      | -
-       | {"sub":"auth0|123"}       | -         | {auth0} | jwt     | auth0|123 | -
-       | -                         | {other}   | {other} | setting | {other}   | -
-       | -                         | auth0|123 | {auth0} | setting | auth0|123 | -
# The older way to pass a subject comes first, as in auth.uid().
{other} | {"sub":"{ws}"}            | auth0|123 | {other} | jwt     | {other}   | -
{other} | -                         | {ws}      | {other} | jwt     | {other}   | -
{nil}   | {"sub":"{ws}"}            | {ws}      | -       | jwt     | {nil}     | the subject of jwt is the nil UUID
# Claims that are there decide alone, however wrong they are.
-       | {"sub":"{other}"}         | {ws}      | {other} | jwt     | {other}   | -
-       | {"role":"anon"}           | {ws}      | -       | jwt     | -         | request.jwt.claims has no sub
-       | {"sub":null}              | {ws}      | -       | jwt     | -         | request.jwt.claims has no sub
-       | {"sub":""}                | {ws}      | -       | jwt     | -         | sub in request.jwt.claims is not a non-empty string
-       | {"sub":7}                 | {ws}      | -       | jwt     | -         | sub in request.jwt.claims is not a non-empty string
-       | {"sub":["{ws}"]}          | {ws}      | -       | jwt     | -         | sub in request.jwt.claims is not a non-empty string
-       | {"sub":"a\u0000b"}        | {ws}      | -       | jwt     | -         | sub in request.jwt.claims holds a NUL character
-       | ["{ws}"]                  | {ws}      | -       | jwt     | -         | request.jwt.claims has no sub
-       | "{ws}"                    | {ws}      | -       | jwt     | -         | request.jwt.claims has no sub
-       | {"sub":"{ws}"             | {ws}      | -       | jwt     | -         | request.jwt.claims is not valid JSON
-       | {"user":{"sub":"{ws}"}}   | -         | -       | jwt     | -         | request.jwt.claims has no sub
-       | {blank}                   | {ws}      | -       | jwt     | -         | request.jwt.claims is not valid JSON
-       | {"sub":"{nil}"}           | {ws}      | -       | jwt     | {nil}     | the subject of jwt is the nil UUID
-       | -                         | {nil}     | -       | setting | {nil}     | the subject of setting is the nil UUID
"#;
    let auth0 = mapped("auth0|123");
    let fill = |cell: &str| match cell.trim() {
        "-" => String::new(),
        cell => fill(cell)
            .replace("{auth0}", &auth0)
            .replace("{blank}", " ")
            .replace("{nil}", &Uuid::nil().to_string()),
    };
    let mut session = Session::open(&db, "authenticator");
    for case in cases
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let cells: Vec<String> = case.split(" | ").map(fill).collect();
        let [legacy, claims, setting, id, source, subject, problem] = &cells[..] else {
            panic!("{case}")
        };
        for role in ["authenticated", "service_role"] {
            session.begin(role, claims);
            session.sql(&format!(
                "SELECT set_config('request.jwt.claim.sub', '{legacy}', true), set_config('engram.user_id', '{setting}', true)"
            ));
            assert_eq!(
                whoami(&mut session),
                [id.as_str(), source, subject, role, problem],
                "{case}"
            );
            assert_eq!(
                session.text("SELECT bypasses_rls FROM engram.whoami()"),
                if role == "service_role" { "t" } else { "f" }
            );
            session.sql("COMMIT");
        }
        // Settings are '' and not NULL after the transaction that set them, and that is nobody.
        session.begin("authenticated", "");
        assert_eq!(
            session.text("SELECT current_setting('request.jwt.claim.sub')"),
            ""
        );
        assert_eq!(whoami(&mut session)[0], "");
        session.sql("COMMIT");
    }
    // Spellings of a UUID that are not the usual one are subjects of their own and nobody else's.
    for subject in [
        format!(" {VICTIM}"),
        format!("{{{VICTIM}}}"),
        VICTIM.replace('-', ""),
        format!("urn:uuid:{VICTIM}"),
        format!("{VICTIM}\\n"),
    ] {
        session.begin("authenticated", &token(&subject));
        assert_eq!(
            whoami(&mut session)[0],
            mapped(&subject.replace("\\n", "\n")),
            "{subject}"
        );
        session.sql("COMMIT");
    }
    // Claims that are set in a transaction end with it, rolled back or not.
    for end in ["COMMIT", "ROLLBACK"] {
        session.begin("authenticated", &token(VICTIM));
        assert_eq!(whoami(&mut session)[0], VICTIM);
        session.sql(end);
        session.sql("BEGIN; SET LOCAL ROLE authenticated");
        assert_eq!(whoami(&mut session)[0], "");
        session.sql("COMMIT");
    }
}

#[test]
fn an_identity_source_that_is_pinned_to_tokens_ignores_the_setting() {
    let db = Database::new();
    pin(&db, "jwt");
    for options in ["".to_owned(), format!("-c engram.user_id={VICTIM}")] {
        let mut session = Session::with_options(&db, "app", &options);
        session.sql(&format!("SET engram.user_id = '{VICTIM}'"));
        assert_eq!(
            whoami(&mut session),
            ["", "", "", "app", "request.jwt.claims is not set"]
        );
        session
            .sql("BEGIN; SELECT set_config('request.jwt.claims', '{\"sub\":\"auth0|123\"}', true)");
        assert_eq!(
            whoami(&mut session)[..3],
            [mapped("auth0|123"), "jwt".into(), "auth0|123".into()]
        );
        session.sql("COMMIT");
        assert_eq!(session.code("SELECT engram.add('whose?')"), "42501");
    }
}

#[test]
fn an_identity_source_that_is_pinned_to_the_login_role_cannot_be_talked_out_of_it() {
    let db = Database::new();
    pin(&db, "role");
    let claims = token(VICTIM);
    let me = [
        mapped("app"),
        "role".into(),
        "app".into(),
        "app".into(),
        String::new(),
    ];
    // What the caller sets: before the library is loaded, as options of the connection, later.
    for options in [
        String::new(),
        format!("-c engram.user_id={VICTIM} -c request.jwt.claim.sub={VICTIM}"),
        "-c engram.identity_source=auto".to_owned(),
        format!("-c engram.identity_source=setting -c engram.user_id={VICTIM}"),
        format!("-c engram.identity_source=jwt -c request.jwt.claim.sub={VICTIM}"),
        "-c engram.identity_source=nonsense".to_owned(),
        "-c engram.identity_source=".to_owned(),
    ] {
        for early in [
            String::new(),
            format!("SET engram.user_id = '{VICTIM}'; SET request.jwt.claims = '{claims}'"),
            format!("SET engram.identity_source = 'auto'; SET engram.user_id = '{VICTIM}'"),
            format!(
                "SET engram.identity_source = 'setting'; SET engram.user_id = '{VICTIM}'; RESET engram.identity_source"
            ),
            "SET engram.identity_source = ''".to_owned(),
            "SET engram.identity_source = 'auto'; BEGIN; SET LOCAL engram.identity_source = ''"
                .to_owned(),
        ] {
            let what = format!("{options} {early}");
            let mut session = Session::with_options(&db, "app", &options);
            session.sql(&early);
            let who = whoami(&mut session);
            // Where somebody meddled with the pin, being nobody is as good an answer.
            let meddled = what.contains("identity_source");
            assert!(who == me || meddled && who[0].is_empty(), "{what}: {who:?}");
            session.sql(&format!(
                "COMMIT; SET engram.user_id = '{VICTIM}'; SET request.jwt.claims = '{claims}'"
            ));
            assert_eq!(whoami(&mut session), who, "{what}");
            session.sql("RESET ALL");
            let who = whoami(&mut session);
            assert!(who == me || meddled && who[0].is_empty(), "{what}: {who:?}");
        }
    }
    // Under SET ROLE it is still the one who logged in.
    let mut session = Session::open(&db, "authenticator");
    session.begin("authenticated", &claims);
    assert_eq!(
        whoami(&mut session),
        [
            mapped("authenticator"),
            "role".into(),
            "authenticator".into(),
            "authenticated".into(),
            String::new()
        ]
    );
}

/// A login role with the grants of `app` and a name of its own, for what is kept per role.
fn login_role(db: &Database, name: &str) {
    db.admin()
        .batch_execute(&format!(
            "DROP ROLE IF EXISTS {name}; CREATE ROLE {name} LOGIN IN ROLE app"
        ))
        .unwrap();
}

#[test]
fn an_identity_source_that_is_pinned_to_the_setting_takes_a_privilege_to_set() {
    let db = Database::new();
    let mut admin = Session::open(&db, "postgres");
    login_role(&db, "gateway");
    login_role(&db, "customer");
    login_role(&db, "pretender");
    // While the setting is anybody's, anybody can keep it for the own role.
    let mut early = Session::open(&db, "pretender");
    early.sql(&format!(
        "SELECT engram.version(); ALTER ROLE pretender SET engram.user_id = '{VICTIM}'"
    ));
    pin(&db, "setting");

    let set = format!("SET engram.user_id = '{VICTIM}'");
    // Every way to set it before the library is loaded, and the same afterwards.
    for (role, options, before) in [
        ("customer", String::new(), set.clone()),
        (
            "customer",
            String::new(),
            format!("BEGIN; SET LOCAL engram.user_id = '{VICTIM}'"),
        ),
        (
            "customer",
            String::new(),
            format!("SELECT set_config('engram.user_id', '{VICTIM}', false)"),
        ),
        (
            "customer",
            format!("-c engram.user_id={VICTIM}"),
            String::new(),
        ),
        (
            "customer",
            format!("-c engram.user_id={VICTIM} -c engram.identity_source=auto"),
            String::new(),
        ),
        (
            "customer",
            format!("-c engram.user_id={VICTIM}"),
            "SET engram.identity_source = 'auto'".into(),
        ),
        (
            "customer",
            format!("-c engram.user_id={VICTIM}"),
            "SET engram.user_id = ''".into(),
        ),
        (
            "customer",
            String::new(),
            format!("{set}; BEGIN; SET LOCAL engram.user_id = ''"),
        ),
        (
            "customer",
            String::new(),
            format!("{set}; BEGIN; SAVEPOINT s; SET LOCAL engram.user_id = 'x'"),
        ),
        (
            "customer",
            String::new(),
            format!("SET request.jwt.claims = '{}'", token(VICTIM)),
        ),
        ("pretender", String::new(), String::new()),
    ] {
        let what = format!("{role} {options} {before}");
        let mut session = Session::with_options(&db, role, &options);
        session.sql(&before);
        assert_eq!(whoami(&mut session)[0], "", "{what}");
        let warnings = session.notices().concat();
        assert!(
            warnings.contains("permission denied to set parameter") || what.contains("jwt"),
            "{what}: {warnings}"
        );
        session.sql("COMMIT");
        assert_eq!(whoami(&mut session)[0], "", "{what}");
        assert_eq!(
            session.code("SELECT engram.add('whose?')"),
            "42501",
            "{what}"
        );
        session.sql("RESET engram.user_id");
        assert_eq!(whoami(&mut session)[0], "", "{what}");
        assert_eq!(
            session.text("SELECT count(*) FROM engram.memories"),
            "0",
            "{what}"
        );
        for later in [
            set.clone(),
            format!("SELECT set_config('engram.user_id', '{VICTIM}', true)"),
            format!("ALTER ROLE {role} SET engram.user_id = '{VICTIM}'"),
            format!(
                "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql SET engram.user_id = '{VICTIM}' AS 'SELECT 1'; SELECT pg_temp.f()"
            ),
        ] {
            // Where the pin itself was meddled with, the setting may be free to set, but is not heard.
            if !what.contains("identity_source") {
                assert_eq!(session.code(&later), "42501", "{what}, then {later}");
            } else {
                let _ = session.simple_query(&later);
            }
            assert_eq!(whoami(&mut session)[0], "", "{what}, then {later}");
        }
    }

    // With the privilege it works: early, late, and only for the one who has it.
    admin.sql("GRANT SET ON PARAMETER engram.user_id TO gateway");
    let mut gateway = Session::open(&db, "gateway");
    gateway.sql(&set);
    assert_eq!(whoami(&mut gateway)[..3], [VICTIM, "setting", VICTIM]);
    gateway.sql(&format!(
        "BEGIN; SET LOCAL engram.user_id = '{OTHER}'; SELECT engram.add('of the other')"
    ));
    assert_eq!(whoami(&mut gateway)[0], OTHER);
    gateway.sql("COMMIT");
    assert_eq!(whoami(&mut gateway)[0], VICTIM);
    gateway.sql("SET ROLE app");
    assert_eq!(
        gateway.code(&format!("SET engram.user_id = '{OTHER}'")),
        "42501"
    );
    gateway.sql("RESET ROLE; SET debug_parallel_query = on");
    assert_eq!(
        gateway.text("SELECT u FROM engram_internal.caller_id() u"),
        VICTIM
    );
    admin.sql("REVOKE SET ON PARAMETER engram.user_id FROM gateway; DROP ROLE gateway, customer, pretender");
}

#[test]
fn what_was_set_before_the_setting_was_trusted_is_not_heard() {
    // Where the server preloads the library, options of the connection are applied before those of the database.
    let cluster = Cluster::create(Installation::current(), "pinned");
    cluster.configure("shared_preload_libraries = 'engram'\n");
    cluster.up();
    let mut admin = cluster.connect("postgres", "postgres");
    admin
        .batch_execute(
            "CREATE ROLE app LOGIN; CREATE ROLE trusting LOGIN IN ROLE app; CREATE ROLE gateway LOGIN IN ROLE app;
             SET client_min_messages = warning; CREATE EXTENSION engram CASCADE;
             SELECT engram.setup('{\"grant_to\": [\"app\"]}');
             GRANT SET ON PARAMETER engram.user_id TO gateway;
             ALTER ROLE trusting SET engram.identity_source = 'setting';
             CREATE FUNCTION public.asks() RETURNS uuid LANGUAGE sql SECURITY DEFINER SET engram.identity_source = 'setting'
             AS 'SELECT engram.current_user_id()';
             GRANT EXECUTE ON FUNCTION public.asks() TO PUBLIC",
        )
        .unwrap();
    let connect = |role: &str, options: &str| {
        let mut config = Config::new();
        config.host_path(&cluster.directory).user(role);
        config.dbname("postgres").options(options);
        config.connect(NoTls).unwrap()
    };
    let asked = |client: &mut Client, sql: &str| -> String {
        let row = client.query_one(sql, &[]).unwrap();
        row.get::<_, Option<Uuid>>(0)
            .map_or(String::new(), |id| id.to_string())
    };
    let given = format!("-c engram.user_id={VICTIM}");
    let me = "SELECT engram.current_user_id()";
    // Anybody's as long as nobody pins it, but not to who trusts it.
    let mut open = connect("app", &given);
    assert_eq!(asked(&mut open, me), VICTIM);
    assert_eq!(asked(&mut open, "SELECT public.asks()"), "");
    // Kept for the own role while that was free.
    open.batch_execute(&format!("ALTER ROLE app SET engram.user_id = '{VICTIM}'"))
        .unwrap();
    assert_eq!(asked(&mut connect("trusting", &given), me), "");
    admin
        .batch_execute("ALTER DATABASE postgres SET engram.identity_source = 'setting'")
        .unwrap();
    for (role, options) in [("app", ""), ("app", &*given), ("trusting", &*given)] {
        let mut client = connect(role, options);
        assert_eq!(asked(&mut client, me), "", "{role} {options}");
        assert!(client.batch_execute("SELECT engram.add('whose?')").is_err());
        client
            .batch_execute("BEGIN; SAVEPOINT s; ROLLBACK TO s; RESET engram.user_id; SET debug_parallel_query = on")
            .unwrap();
        assert_eq!(asked(&mut client, me), "", "{role} {options}");
    }
    // Who may set it is heard, however early.
    let mut gateway = connect("gateway", &given);
    assert_eq!(asked(&mut gateway, me), VICTIM);
    gateway
        .batch_execute("SET debug_parallel_query = on; SET ROLE app")
        .unwrap();
    assert_eq!(
        asked(&mut gateway, "SELECT u FROM engram_internal.caller_id() u"),
        VICTIM
    );
    admin
        .batch_execute("REVOKE SET ON PARAMETER engram.user_id FROM gateway")
        .unwrap();
    assert_eq!(asked(&mut gateway, me), "");
    // And what the owner of the database wrote down.
    admin
        .batch_execute(&format!(
            "ALTER ROLE app RESET engram.user_id; ALTER DATABASE postgres SET engram.user_id = '{VICTIM}'"
        ))
        .unwrap();
    assert_eq!(asked(&mut connect("app", ""), me), VICTIM);
}

#[test]
fn who_owns_the_tables_does_not_become_a_superuser_by_what_one_does_there() {
    let cluster = Cluster::create(Installation::current(), "owned");
    cluster.up();
    cluster
        .connect("postgres", "postgres")
        .batch_execute("CREATE ROLE landlord LOGIN; CREATE ROLE app LOGIN")
        .unwrap();
    for database in ["owned", "before"] {
        cluster
            .connect("postgres", "postgres")
            .batch_execute(&format!("CREATE DATABASE {database} OWNER landlord"))
            .unwrap();
    }
    let prepared = "CREATE SCHEMA evil AUTHORIZATION landlord; GRANT USAGE ON SCHEMA evil TO PUBLIC; SET ROLE landlord;
         CREATE FUNCTION evil.rise() RETURNS int LANGUAGE plpgsql AS $$
         BEGIN EXECUTE 'ALTER ROLE landlord SUPERUSER'; RETURN 1; EXCEPTION WHEN OTHERS THEN RETURN 0; END $$;
         CREATE FUNCTION evil.eq(name, name) RETURNS boolean LANGUAGE plpgsql AS $$
         BEGIN PERFORM evil.rise(); RETURN $1::pg_catalog.text OPERATOR(pg_catalog.=) $2::pg_catalog.text; END $$;
         CREATE OPERATOR evil.= (FUNCTION = evil.eq, LEFTARG = name, RIGHTARG = name);
         CREATE TABLE evil.late (x int);
         CREATE FUNCTION evil.rising() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM evil.rise(); RETURN NULL; END';
         CREATE CONSTRAINT TRIGGER late AFTER INSERT ON evil.late DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW EXECUTE FUNCTION evil.rising();
         CREATE TABLE evil.seen (what text);
         GRANT ALL ON evil.seen TO PUBLIC;
         CREATE FUNCTION evil.trap() RETURNS trigger LANGUAGE plpgsql AS $$
         DECLARE
           try text;
         BEGIN
           INSERT INTO evil.seen VALUES (current_user || ' on ' || TG_TABLE_NAME);
           PERFORM evil.rise();
           PERFORM pg_catalog.set_config('search_path', 'evil, pg_catalog', false);
           FOREACH try IN ARRAY ARRAY['DECLARE c CURSOR WITH HOLD FOR SELECT evil.rise()', 'PREPARE p AS SELECT evil.rise()',
             'INSERT INTO evil.late VALUES (1)', 'RESET SESSION AUTHORIZATION', 'RESET ROLE', 'CREATE TEMP TABLE pg_class (x int)'] LOOP
             BEGIN
               EXECUTE try;
               PERFORM evil.rise();
             EXCEPTION WHEN OTHERS THEN
               NULL;
             END;
           END LOOP;
           RETURN NULL;
         END $$; RESET ROLE;";
    let trap = |table: &str| {
        format!(
            "CREATE TRIGGER trap AFTER INSERT OR UPDATE ON engram.{table} FOR EACH STATEMENT EXECUTE FUNCTION evil.trap()"
        )
    };
    for database in ["owned", "before"] {
        cluster
            .connect(database, "postgres")
            .batch_execute(prepared)
            .unwrap();
        let mut landlord = cluster.connect(database, "landlord");
        let mut admin = cluster.connect(database, "postgres");
        let install = "SET client_min_messages = warning; CREATE EXTENSION engram CASCADE";
        if database == "before" {
            // What waits under a name of ours is no better.
            landlord
                .batch_execute(&format!(
                    "CREATE SCHEMA engram; CREATE TABLE engram.settings (workspace_id uuid PRIMARY KEY
                       DEFAULT '00000000-0000-0000-0000-000000000000', max_content_chars int, vector_weight float8, bm25_k1 float8,
                       bm25_pivot float8, candidates int); {}",
                    trap("settings")
                ))
                .unwrap();
            // It may fail, or go well.
            let _ = admin.batch_execute(install);
        } else {
            admin.batch_execute(install).unwrap();
            for table in ["settings", "maintenance", "access_log", "memory_state"] {
                landlord.batch_execute(&trap(table)).unwrap();
            }
            landlord
                .batch_execute("ALTER DATABASE owned SET search_path = evil, pg_catalog")
                .unwrap();
            admin
                .batch_execute("SELECT engram.setup('{\"grant_to\": [\"app\"]}')")
                .unwrap();
            cluster
                .connect(database, "app")
                .batch_execute(
                    "SET search_path = public; SET engram.user_id = 'ann';
                     SELECT engram.touch(ARRAY[engram.add('used')])",
                )
                .unwrap();
            admin.batch_execute("CALL engram.maintain()").unwrap();
            drop((admin, landlord));
            cluster.down("fast");
            cluster.configure("shared_preload_libraries = 'engram'\nengram.worker_databases = 'owned'\nengram.worker_interval = 1\n");
            cluster.up();
            landlord = cluster.connect(database, "landlord");
            admin = cluster.connect(database, "postgres");
            // And twice by the worker.
            for _ in 0..2 {
                landlord
                    .batch_execute("UPDATE engram.maintenance SET maintained_at = NULL")
                    .unwrap();
                let begun = Instant::now();
                let done =
                    "SELECT count(*) FROM engram.maintenance WHERE maintained_at IS NOT NULL";
                while one::<i64>(&mut landlord, done, &[]) == 0 {
                    assert!(begun.elapsed() < Duration::from_secs(60));
                    thread::sleep(Duration::from_millis(50));
                }
            }
            let seen: Vec<String> = admin
                .query("SELECT DISTINCT what FROM evil.seen ORDER BY 1", &[])
                .unwrap()
                .iter()
                .map(|row| row.get(0))
                .collect();
            for wanted in ["landlord on maintenance", "landlord on settings"] {
                assert!(seen.iter().any(|s| s == wanted), "{seen:?}");
            }
        }
        assert!(
            !one::<bool>(
                &mut admin,
                "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) 'landlord'",
                &[]
            ),
            "{database}"
        );
    }
}

#[test]
fn ordinary_roles_cannot_choose_the_identity_source() {
    let db = Database::new();
    pin(&db, "jwt");
    let mut session = Session::open(&db, "app");
    session.sql("SELECT engram.version()");
    for sql in [
        "SET engram.identity_source = 'setting'",
        "SET LOCAL engram.identity_source = 'auto'",
        "SELECT set_config('engram.identity_source', 'auto', false)",
        "ALTER ROLE app SET engram.identity_source = 'auto'",
        "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql SET engram.identity_source = 'auto' AS 'SELECT 1'; SELECT pg_temp.f()",
    ] {
        assert_eq!(session.code(sql), "42501", "{sql}");
    }
    assert_eq!(session.text("SHOW engram.identity_source"), "jwt");
    // Before the library is loaded the server takes any value, which is refused when it is.
    for early in [
        "SET engram.identity_source = 'auto'",
        "BEGIN; SET LOCAL engram.identity_source = 'setting'",
    ] {
        let mut session = Session::open(&db, "app");
        session.sql(&format!("{early}; SET engram.user_id = '{VICTIM}'"));
        assert_eq!(whoami(&mut session)[0], "");
        let warnings = session.notices().concat();
        assert!(
            warnings.contains("permission denied to set parameter \\\"engram.identity_source\\\""),
            "{warnings}"
        );
        session.sql("COMMIT");
        assert_eq!(whoami(&mut session)[0], "");
    }
    // And for one's own role it is refused at once.
    assert_eq!(
        Session::open(&db, "app").code("ALTER ROLE app SET engram.identity_source = 'auto'"),
        "42501"
    );
    // A superuser may.
    let mut admin = Session::open(&db, "postgres");
    admin.sql(&format!(
        "SET engram.identity_source = 'setting'; SET engram.user_id = '{VICTIM}'"
    ));
    assert_eq!(whoami(&mut admin)[..2], [VICTIM, "setting"]);
}

#[test]
fn a_misspelt_setting_is_an_error() {
    let db = Database::new();
    let mut session = Session::open(&db, "app");
    session.sql(&format!("SET engram.usr_id = '{VICTIM}'"));
    session.sql("SELECT engram.version()");
    let warnings = session.notices().concat();
    assert!(warnings.contains("engram.usr_id"), "{warnings}");
    for sql in [
        "SET engram.usr_id = 'x'",
        "SELECT set_config('engram.userid', 'x', true)",
        "SET engram.user_id.sub = 'x'",
    ] {
        let refused = failure(session.simple_query(sql));
        assert_eq!(
            (refused.code.as_str(), refused.detail.as_str()),
            ("42602", "\"engram\" is a reserved prefix."),
            "{sql}"
        );
    }
    assert_eq!(session.code("SET engram.auto_setup = 'perhaps'"), "22023");
}

// --- reading without writing --------------------------------------------------------------------

/// What must work where nothing can be written, and the number of rows that the victim gets.
const READS: &[(usize, &str)] = &[
    (2, "SELECT * FROM engram.search('zebra')"),
    (
        2,
        "SELECT * FROM engram.search('zebra', '[1,2,3]', filter => '{\"user_id\": \"{ws}\"}', explain => true)",
    ),
    (
        1,
        "SELECT * FROM engram.search(query_embedding => '[1,2,3]')",
    ),
    (2, "SELECT * FROM engram.search()"),
    (1, "SELECT * FROM engram.get('{id}')"),
    (1, "SELECT * FROM engram.get('{id}', as_of => now())"),
    (
        3,
        "SELECT * FROM engram.list(include => '{forgotten}', as_of => now())",
    ),
    (
        2,
        "SELECT * FROM engram.search('zebra', '[1,2,3]', filter => '{\"user_id\": \"{ws}\"}', as_of => now())",
    ),
    (2, "SELECT * FROM engram.search(as_of => now())"),
    (2, "SELECT * FROM engram.history('{secret}')"),
    (3, "SELECT * FROM engram.changes()"),
    (3, "SELECT * FROM engram.list(include => '{forgotten}')"),
    (1, "SELECT * FROM engram.stats() WHERE memories = 2"),
    (1, "SELECT * FROM engram.whoami() WHERE user_id = '{ws}'"),
    (1, "SELECT * FROM engram.version()"),
];

fn assert_reads_only(session: &mut Session) {
    for &(expected, sql) in READS {
        assert_eq!(
            attempt(session, &fill(sql), "").0,
            Expect::Rows(expected),
            "{sql}"
        );
    }
}

#[test]
fn reading_works_in_a_read_only_transaction_and_takes_no_transaction_id() {
    let db = Database::new();
    victim(&db);
    let mut session = Session::open(&db, "authenticator");
    session.begin("authenticated", &token(VICTIM));
    session.sql("SET TRANSACTION READ ONLY");
    assert_reads_only(&mut session);
    assert_eq!(session.text("SELECT pg_current_xact_id_if_assigned()"), "");
    assert_eq!(session.code("SELECT engram.add('new')"), "25006");
    session.sql("ROLLBACK");
}

#[test]
fn reading_works_on_a_standby() {
    let primary = Cluster::start(Installation::current(), "primary");
    primary
        .connect("postgres", "postgres")
        .batch_execute(
            "CREATE ROLE app LOGIN; CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions; CREATE EXTENSION engram;
             SELECT engram.setup('{\"grant_to\": [\"app\"]}'), engram.set_embedding_model('tiny', 3);
             SET ROLE app; SET engram.user_id = 'ann'; SELECT engram.add('a zebra', embedding => '[1,2,3]');
             SET engram.user_id = 'bob'; SELECT engram.add('another zebra')",
        )
        .unwrap();
    let standby = primary.standby("standby");
    let mut ann = standby.user("ann");
    assert_eq!(rows(&mut ann, "SELECT pg_is_in_recovery()")[0][0], "t");
    for sql in [
        "SELECT content FROM engram.search('zebra')",
        "SELECT content FROM engram.search('zebra', '[1,2,3]')",
        "SELECT content FROM engram.search()",
        "SELECT content FROM engram.list()",
        "SELECT content FROM engram.list(as_of => now())",
        "SELECT content FROM engram.search('zebra', as_of => now())",
        "SELECT h.content FROM engram.memories m, engram.history(m.id) h",
        "SELECT memory ->> 'content' FROM engram.changes() WHERE op <> 'end'",
        "SELECT g.content FROM engram.memories m, engram.get(m.id) g",
        "SELECT 'a zebra' FROM engram.stats() WHERE memories = 1",
        "SELECT 'a zebra' FROM engram.whoami() WHERE subject = 'ann'",
        "SELECT 'a zebra' FROM engram.version()",
    ] {
        assert_eq!(rows(&mut ann, sql), [["a zebra"]], "{sql}");
    }
    let mut admin = standby.connect("postgres", "postgres");
    assert_eq!(
        rows(&mut admin, "SELECT engram.health() ->> 'status'")[0][0],
        "warning"
    );
    assert!(rows(&mut admin, "CALL engram.maintain()")[0][0].contains("standby"));
    for sql in [
        "SELECT engram.add('new')",
        "SELECT engram.pin(id) FROM engram.list()",
        "DELETE FROM engram.memories",
        "SELECT engram.consolidate(dry_run => true)",
        "SELECT engram.archive_messages(dry_run => true)",
        "SELECT engram.configure('{}')",
    ] {
        assert_eq!(failure(ann.simple_query(sql)).code, "25006", "{sql}");
    }
    for sql in [
        "SELECT engram.create_partitions()",
        "SELECT engram.drop_partitions(dry_run => true)",
        "SELECT engram.setup()",
        "CALL engram.consolidate_in_batches()",
    ] {
        let refused = failure(admin.simple_query(sql));
        assert!(
            refused.code == "25006" && refused.hint.contains("primary"),
            "{sql}: {refused:?}"
        );
    }
}

// --- indexes ------------------------------------------------------------------------------------

const WORKSPACES: u32 = 12;
const PER_WORKSPACE: u32 = 1000;

/// Many workspaces of the same size: what a search of one of them must not read.
fn crowd(db: &Database) {
    let mut admin = Session::open(db, "postgres");
    admin.sql(&format!(
        "INSERT INTO engram.memories (workspace_id, user_id, content, tags, metadata)
         SELECT w, w, concat_ws(' ', 'zebra', 'word' || i % 50, 'place' || i % 7, 'only' || i), ARRAY['t' || i % 3], jsonb_build_object('i', i)
         FROM generate_series(1, {WORKSPACES}) n, generate_series(1, {PER_WORKSPACE}) i, LATERAL (SELECT lpad(n::text, 32, '0')::uuid AS w) x;
         SET session_replication_role = replica;
         INSERT INTO engram.embeddings SELECT workspace_id, id, 'tiny', ARRAY[1, random(), random()]::real[]::extensions.vector FROM engram.memories;
         INSERT INTO engram.graph_links SELECT workspace_id, id, 'mentions', 'place' || (metadata->>'i')::int % 7, 'Place' FROM engram.memories"
    ));
    admin.sql("RESET session_replication_role; SELECT engram.reindex()");
    admin.sql("VACUUM ANALYZE");
}

const CROWDED: [&str; 5] = [
    "memories",
    "search_blocks",
    "memory_state",
    "embeddings",
    "graph_links",
];

/// The nodes of a plan: type, table and index of each.
fn nodes(plan: &Value, out: &mut Vec<[String; 3]>) {
    let text = |key: &str| plan[key].as_str().unwrap_or_default().to_owned();
    out.push([text("Node Type"), text("Relation Name"), text("Index Name")]);
    for child in plan["Plans"].as_array().into_iter().flatten() {
        nodes(child, out);
    }
}

#[test]
fn a_memory_is_found_by_its_key_whatever_statistics_say() {
    let db = Database::new();
    let me = "00000000-0000-0000-0000-000000000001";
    let mut admin = Session::open(&db, "postgres");
    // A large workspace among many small ones, stored one after the other.
    admin.sql(
        "SET session_replication_role = replica;
         INSERT INTO engram.memories (workspace_id, id, user_id, content, type, importance, layer, pinned, tags, metadata, version,
           created_at, updated_at, content_hash)
         SELECT w, gen_random_uuid(), w, 'tea ' || i, 'factual', 0.5, 'working', false, '{}', '{}', 1, t, t, sha256(convert_to('tea ' || i, 'UTF8'))
         FROM generate_series(1, 40000) i,
           LATERAL (SELECT lpad((CASE WHEN i % 2 = 0 THEN 1 ELSE 1 + i % 4000 END)::text, 32, '0')::uuid AS w, now() - i * interval '1 minute' AS t) x;
         RESET session_replication_role; ANALYZE engram.memories",
    );
    let id = admin.text(&format!(
        "SELECT id FROM engram.memories WHERE workspace_id = '{me}' ORDER BY id LIMIT 1"
    ));
    let mut session = Session::open(&db, "app");
    session.sql(&format!("SET request.jwt.claims = '{}'", token(me)));
    for mode in ["force_custom_plan", "force_generic_plan"] {
        session.sql(&format!(
            "SET plan_cache_mode = {mode}; DEALLOCATE ALL;
             PREPARE statement(uuid, uuid) AS SELECT content FROM engram.memories m WHERE m.workspace_id = $1 AND m.id = $2"
        ));
        let plan = session.text(&format!(
            "EXPLAIN (FORMAT JSON) EXECUTE statement('{me}', '{id}')"
        ));
        assert!(plan.contains("memories_pkey"), "{mode}: {plan}");
    }
    // Nothing reads more than a few rows, whichever function asks.
    let read = "SELECT pg_stat_get_xact_tuples_fetched('engram.memories'::regclass)";
    for call in [
        format!("get('{id}')"),
        format!("history('{id}')"),
        format!("contradict('{id}', o.id)"),
        format!("uncontradict('{id}', o.id)"),
        format!("supersede('{id}', o.id)"),
        format!("latest('{id}')"),
    ] {
        let other = session.text(&format!(
            "SELECT id FROM engram.memories WHERE workspace_id = '{me}' ORDER BY created_at DESC LIMIT 1"
        ));
        session.sql("BEGIN");
        let before: i64 = session.text(read).parse().unwrap();
        session.sql(&format!(
            "SELECT engram.{}",
            call.replace("o.id", &format!("'{other}'"))
        ));
        let after: i64 = session.text(read).parse().unwrap();
        session.sql("COMMIT");
        assert!(after - before < 100, "{call}: {} rows", after - before);
    }
}

#[test]
fn the_statements_of_search_read_by_index() {
    let db = Database::new();
    crowd(&db);
    let me = "00000000-0000-0000-0000-000000000007";
    let mut admin = Session::open(&db, "postgres");
    let some = admin.text(&format!(
        "SELECT array_agg(id) FROM (SELECT id FROM engram.memories WHERE workspace_id = '{me}' LIMIT 20) m"
    ));
    // With pages that all see, an index that holds all that is asked looks best of all.
    admin.sql("VACUUM ANALYZE engram.graph_links");
    // The file, its parameters with values, who runs it, the index that it must use.
    for (sql, types, values, role, index) in [
        (
            include_str!("../../src/search/sql/entities.sql"),
            "uuid, text[]",
            "'{place3}'".into(),
            "postgres",
            "graph_links_",
        ),
        (
            include_str!("../../src/search/sql/fetch.sql"),
            "uuid, uuid[], timestamptz, boolean, boolean",
            format!("'{some}', now(), false, false"),
            "app",
            "memories_pkey",
        ),
        (
            include_str!("../../src/search/sql/mentioning.sql"),
            "uuid, text[], bigint",
            "'{place3}', 10".into(),
            "app",
            "graph_links_entity_idx",
        ),
    ] {
        for mode in ["force_custom_plan", "force_generic_plan"] {
            let mut session = Session::open(&db, role);
            if role == "app" {
                session.sql(&format!("SET request.jwt.claims = '{}'", token(me)));
            }
            session.sql(&format!(
                "SET plan_cache_mode = {mode}; PREPARE statement({types}) AS {sql}"
            ));
            let arguments = if values.is_empty() {
                format!("'{me}'")
            } else {
                format!("'{me}', {values}")
            };
            let plan = session.text(&format!(
                "EXPLAIN (FORMAT JSON) EXECUTE statement({arguments})"
            ));
            let mut found = Vec::new();
            nodes(
                &serde_json::from_str::<Value>(&plan).unwrap()[0]["Plan"],
                &mut found,
            );
            assert!(!found.iter().any(|node| node[0].contains("Seq Scan") && CROWDED.contains(&node[1].as_str())), "{mode}:\n{sql}\n{plan}");
            assert!(
                found.iter().any(|node| node[2].starts_with(index)),
                "{mode} without {index}:\n{sql}\n{plan}"
            );
        }
    }
    // A stranger's look into a foreign workspace is over at the index: nothing is read and then
    // thrown away, so not even EXPLAIN ANALYZE counts what is there.
    let mut stranger = Session::open(&db, "app");
    stranger.sql(&format!("SET request.jwt.claims = '{}'", token(OTHER)));
    for table in CROWDED
        .into_iter()
        .filter(|table| *table != "search_blocks")
    {
        let plan = rows(
            &mut stranger.client,
            &format!("EXPLAIN (ANALYZE) SELECT * FROM engram.{table} WHERE workspace_id = '{me}'"),
        );
        let plan = plan.concat().join("\n");
        assert!(!plan.contains("Removed"), "{table}: {plan}");
    }
}

#[test]
fn an_ordinary_role_searches_by_index_from_end_to_end() {
    let db = Database::new();
    crowd(&db);
    let mut admin = Session::open(&db, "postgres");
    let mut scans = || -> BTreeMap<String, (u64, u64)> {
        rows(&mut admin.client, "SELECT relname, seq_scan, coalesce(idx_scan, 0) FROM pg_stat_user_tables WHERE schemaname = 'engram'")
            .into_iter()
            .map(|row| (row[0].clone(), (row[1].parse().unwrap(), row[2].parse().unwrap())))
            .collect()
    };
    let mut session = Session::open(&db, "app");
    session.sql(&format!(
        "SET request.jwt.claims = '{}'",
        token("00000000-0000-0000-0000-000000000007")
    ));
    let id = session.text("SELECT id FROM engram.list(match_count => 1)");
    // Where rows of memories are, segments tell.
    for (sql, hits, by_index) in [
        ("SELECT * FROM engram.search('word7')", 10, "search_blocks"),
        (
            "SELECT * FROM engram.search('only12 word7 Place3')",
            10,
            "search_blocks graph_links",
        ),
        (
            "SELECT * FROM engram.search(query_embedding => '[1,0,0]')",
            10,
            "search_blocks embeddings",
        ),
        (
            "SELECT * FROM engram.search('zebra', '[1,0,0]', match_count => 50)",
            50,
            "search_blocks embeddings",
        ),
        (
            "SELECT * FROM engram.search('zebra', filter => '{\"i\": {\"lte\": 12}, \"tags\": [\"t1\"]}')",
            4,
            "search_blocks",
        ),
        (
            "SELECT * FROM engram.search('zebra \"word7 place0\" -only7', filter => '{\"entities\": [\"place0\"]}')",
            2,
            "search_blocks memories",
        ),
        ("SELECT * FROM engram.search()", 10, "memory_state memories"),
        (
            "SELECT * FROM engram.list('{\"tags\": [\"t1\"]}')",
            50,
            "memories memory_state",
        ),
        (
            "SELECT * FROM engram.list(match_count => 1000)",
            1000,
            "memories memory_state graph_links",
        ),
        ("SELECT * FROM engram.get('{}')", 1, "memories memory_state"),
        ("SELECT * FROM engram.stats()", 1, "memories embeddings"),
    ] {
        let before = scans();
        assert_eq!(
            rows(&mut session.client, &sql.replace("{}", &id)).len(),
            hits,
            "{sql}"
        );
        session.sql("SELECT pg_stat_force_next_flush()");
        let after = scans();
        for table in CROWDED {
            assert_eq!(before[table].0, after[table].0, "{sql} read all of {table}");
            assert!(
                !by_index.contains(table) || after[table].1 > before[table].1,
                "{sql} did not use an index of {table}"
            );
        }
    }
}
