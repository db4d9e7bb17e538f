//! Creating the store (tables, policies, triggers) and bringing it up to date.
//!
//! The store is the user's, not the extension's: its objects are no members of the extension, so
//! that dumps contain them whole and DROP EXTENSION leaves them alone.

use pgrx::datum::DatumWithOid;
use pgrx::spi::Spi;
use pgrx::{pg_sys, spi as pgspi};
use serde_json::Value;

use crate::api::shorten;
use crate::error::{Error, Result};
use crate::privilege::AsOwner;
use crate::{locks, settings, spi, uses};

/// The SQL of the store, in load order. Every statement may run again.
const STORE: [&str; 6] = [
    include_str!("../sql/store/10_identity.sql"),
    include_str!("../sql/store/20_tables.sql"),
    include_str!("../sql/store/30_policies.sql"),
    include_str!("../sql/store/35_views.sql"),
    include_str!("../sql/store/40_triggers.sql"),
    include_str!("../sql/store/50_comments.sql"),
];

/// Tables of the store, and its views.
pub const TABLES: &[&str] = &[
    "memories",
    "memory_overview",
    "metrics",
    "memory_state",
    "access_queue",
    "access_log",
    "access_log_default",
    "memory_events",
    "memory_events_default",
    "recall_credits",
    "hebbian_links",
    "maintenance",
    "retention_policies",
    "messages",
    "messages_default",
    "message_archive",
    "entity_aliases",
    "search_blocks",
    "embedding_models",
    "embeddings",
    "embedding_claims",
    "graph_links",
    "erasures",
    "memory_type_settings",
    "settings",
    "settings_history",
];

/// What whoever stores and searches may do with them; policies narrow it to their rows. search_blocks is
/// for nobody but its owner, and so are the partitions of the log.
const GRANTS: &[(&str, &str)] = &[
    ("memories", "SELECT, INSERT, UPDATE, DELETE"),
    ("embeddings", "SELECT, INSERT, UPDATE, DELETE"),
    ("embedding_claims", "SELECT, INSERT, UPDATE, DELETE"),
    ("graph_links", "SELECT, INSERT, UPDATE, DELETE"),
    ("entity_aliases", "SELECT, INSERT, UPDATE, DELETE"),
    ("retention_policies", "SELECT, INSERT, UPDATE, DELETE"),
    ("memory_state", "SELECT, INSERT, UPDATE"),
    ("recall_credits", "SELECT, INSERT, UPDATE"),
    ("access_queue", "SELECT, INSERT"),
    ("access_log", "SELECT"),
    ("memory_events", "SELECT"),
    ("messages", "SELECT, INSERT, DELETE"),
    ("message_archive", "SELECT"),
    ("memory_overview", "SELECT"),
    ("hebbian_links", "SELECT"),
    ("maintenance", "SELECT"),
    ("erasures", "SELECT"),
    ("settings", "SELECT"),
    ("memory_type_settings", "SELECT"),
    ("settings_history", "SELECT"),
    ("embedding_models", "SELECT"),
];

/// Functions of the store that have no argument.
const FUNCTIONS: &[&str] = &[
    "current_user_id",
    "readable_workspaces",
    "writable_workspaces",
    "memories_before_write",
    "memories_after_insert",
    "memories_after_update",
    "memories_after_change",
    "memories_after_delete",
    "memories_broadcast",
    "metric_rows",
    "memories_after_truncate",
    "access_queue_after_insert",
    "embeddings_after_truncate",
    "embeddings_before_write",
    "embeddings_after_insert",
    "embeddings_after_update",
    "embeddings_after_delete",
    "embedding_models_after_delete",
    "restore_replaces",
    "restore_skips",
    "settings_before_change",
    "settings_after_change",
];

/// The function behind the view.
const OVERVIEW: &str = "engram.memory_overview_of(uuid, uuid)";

/// Roles of a Supabase database that get access when they exist. Nothing for `anon`.
const SUPABASE_ROLES: [&str; 2] = ["authenticated", "service_role"];

/// While it lives, objects that are created do not become members of the extension whose script
/// is running, and objects that are found need not be members of it.
struct OutsideExtension(bool);

impl OutsideExtension {
    fn new() -> Self {
        // SAFETY: a plain global of the backend, which has one thread. CREATE EXTENSION sets it
        // back to false itself, on success and on error.
        unsafe {
            let was = pg_sys::creating_extension;
            pg_sys::creating_extension = false;
            Self(was)
        }
    }
}

impl Drop for OutsideExtension {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { pg_sys::creating_extension = self.0 }
    }
}

#[derive(Debug, Default)]
struct Options {
    owner: Option<String>,
    grant_to: Vec<String>,
}

impl Options {
    fn parse(options: Option<Value>) -> Result<Self> {
        let mut parsed = Self::default();
        let map = match options {
            None | Some(Value::Null) => return Ok(parsed),
            Some(Value::Object(map)) => map,
            Some(other) => {
                return Err(Error::invalid(
                    format!("options must be an object, not {other}"),
                    r#"For example '{"grant_to": ["app"]}'."#,
                ));
            }
        };
        for (key, value) in map {
            match (key.as_str(), &value) {
                (_, Value::Null) if matches!(key.as_str(), "owner" | "grant_to") => {}
                ("owner", Value::String(role)) => parsed.owner = Some(role.clone()),
                ("grant_to", Value::Array(roles)) if roles.iter().all(Value::is_string) => {
                    parsed.grant_to = roles
                        .iter()
                        .filter_map(Value::as_str)
                        .map(str::to_owned)
                        .collect();
                }
                ("owner", _) => {
                    return Err(Error::invalid(
                        format!("option owner is {}", shorten(&value.to_string())),
                        "Give the name of one role.",
                    ));
                }
                ("grant_to", _) => {
                    return Err(Error::invalid(
                        format!("option grant_to is {}", shorten(&value.to_string())),
                        r#"Give an array of role names, for example ["app"]."#,
                    ));
                }
                _ => {
                    return Err(Error::invalid(
                        format!("unknown option {:?}", shorten(&key)),
                        "Options are owner and grant_to.",
                    ));
                }
            }
        }
        Ok(parsed)
    }
}

/// The last step of the install script: [`setup`], unless a dump is being restored, which brings
/// the tables itself, or the setting says no.
pub fn auto_setup() -> Result<()> {
    if !settings::auto_setup() || restoring()? {
        return Ok(());
    }
    setup(None).map(|_| ())
}

/// Whether this session replays a dump. pg_dump begins every script with `SET row_security = off`
/// (`on` when asked to respect policies) and `SET xmloption = content`; the second is its own alone.
fn restoring() -> Result<bool> {
    let found = spi::row(
        "SELECT pg_catalog.bool_or(name = 'row_security' AND setting = 'off') \
             OR pg_catalog.bool_and(source = 'session') \
         FROM pg_catalog.pg_settings WHERE name IN ('row_security', 'xmloption')",
        &[],
        |row| Ok(row.get::<bool>(1)?),
    )?;
    Ok(found.flatten().unwrap_or(false))
}

/// Creates what is missing, gives it to its owner and grants access. Returns what it did.
pub fn setup(options: Option<Value>) -> Result<&'static str> {
    let options = Options::parse(options)?;
    // Two sessions that create the same objects at once would trip over each other.
    locks::setup();
    check_encoding()?;
    // The tables are made for the functions of this version. In the middle of an update over several
    // versions the last step does it.
    if !current()? {
        return Ok("waits for ALTER EXTENSION engram UPDATE");
    }
    let vector = vector_type()?;
    let before = Store::read()?;
    before.check_caller(options.owner.as_deref())?;
    if let Some(owner) = &options.owner {
        bypasses_row_security(owner)?;
    }
    {
        let _outside = OutsideExtension::new();
        // A first setup by a superuser hands the tables over; later ones leave the owner alone.
        let owner = match (&options.owner, before.exists) {
            (Some(owner), _) => Some(owner.clone()),
            (None, false) if before.superuser => Some(before.database_owner.clone()),
            _ => None,
        };
        {
            let _owner = match owner.as_ref().or(before.owner.as_ref()) {
                // What is there may have triggers, and whoever owns it then runs them.
                Some(owner) if before.superuser && before.prepared => {
                    hand_over(owner)?;
                    equip(owner)?;
                    Some(AsOwner::confined(role(owner)?))
                }
                _ => None,
            };
            for sql in STORE {
                run(&sql.replace("@vector@", &vector))?;
            }
        }
        if let Some(owner) = owner {
            hand_over(&owner)?;
        }
        grant(&before, &options)?;
        if before.exists && !before.tables.iter().any(|t| t == "search_blocks") {
            // Tables of an older version: what search scans is made of what is stored.
            let _owner = AsOwner::confined(uses::owner()?);
            run("SELECT engram.reindex()")?;
        }
        make_partitions()?;
        run("NOTIFY pgrst, 'reload schema'")?;
    }
    Ok(if before.exists {
        "up to date"
    } else {
        "created"
    })
}

fn run(sql: &str) -> Result<()> {
    Spi::connect_mut(|client| client.update(sql, None, &[]).map(|_| ()))?;
    Ok(())
}

fn ident(name: &str) -> String {
    pgspi::quote_identifier(name)
}

/// Whether the extension's SQL is of the same version as the library.
fn current() -> Result<bool> {
    let version = spi::row(
        "SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'engram'",
        &[],
        |row| Ok(row.get::<String>(1)?),
    )?;
    Ok(version.flatten().as_deref() == Some(env!("CARGO_PKG_VERSION")))
}

/// The library reads text as UTF-8.
fn check_encoding() -> Result<()> {
    let encoding = spi::row(
        "SELECT pg_catalog.current_setting('server_encoding')",
        &[],
        |row| Ok(row.get::<String>(1)?),
    )?
    .flatten()
    .unwrap_or_default();
    if encoding == "UTF8" {
        return Ok(());
    }
    Err(Error::NotReady {
        message: format!("the database is encoded in {encoding}"),
        hint: "engram needs a database made with ENCODING 'UTF8'.".to_owned(),
    })
}

/// pgvector's type with its schema, quoted.
fn vector_type() -> Result<String> {
    spi::row(
        "SELECT pg_catalog.format('%I.vector', n.nspname) FROM pg_catalog.pg_extension e \
         JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'",
        &[],
        |row| Ok(row.get::<String>(1)?),
    )?
    .flatten()
    .ok_or_else(|| Error::NotReady {
        message: "the extension vector is not installed".to_owned(),
        hint: "Run: CREATE EXTENSION vector;".to_owned(),
    })
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// What is there before.
struct Store {
    exists: bool,
    /// Its tables.
    tables: Vec<String>,
    /// Whether anything is there that has one of our names.
    prepared: bool,
    /// Whose `memories` is.
    owner: Option<String>,
    superuser: bool,
    database_owner: String,
    caller: String,
    /// An owner of the schema or of a table whom the caller has no reason to trust.
    stranger: Option<String>,
    /// Whether the caller may act as the owner of every table.
    owns: bool,
}

impl Store {
    fn read() -> Result<Self> {
        let found = spi::row(
            "WITH named AS (\
               SELECT c.relowner AS owner FROM pg_catalog.pg_class c \
               WHERE c.relnamespace = pg_catalog.to_regnamespace('engram') AND c.relname = ANY ($1) \
               UNION SELECT p.proowner FROM pg_catalog.pg_proc p \
               WHERE p.pronamespace = pg_catalog.to_regnamespace('engram') AND p.proname = ANY ($2)), \
             things AS (\
               SELECT n.nspowner AS owner FROM pg_catalog.pg_namespace n WHERE n.nspname = 'engram' \
               UNION SELECT n.owner FROM named n), \
             db AS (SELECT datdba FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) \
             SELECT pg_catalog.to_regclass('engram.memories') IS NOT NULL, \
                    ARRAY(SELECT c.relname::text FROM pg_catalog.pg_class c \
                      WHERE c.relnamespace = pg_catalog.to_regnamespace('engram') AND c.relname = ANY ($1)), \
                    r.rolsuper, pg_catalog.pg_get_userbyid(db.datdba)::text, r.rolname::text, \
                    (SELECT pg_catalog.min(o.rolname::text) FROM things t JOIN pg_catalog.pg_roles o ON o.oid = t.owner \
                     WHERE NOT o.rolsuper AND o.oid <> db.datdba AND o.oid <> r.oid), \
                    (SELECT coalesce(pg_catalog.bool_and(pg_catalog.pg_has_role(t.owner, 'USAGE')), true) FROM things t), \
                    (SELECT pg_catalog.count(*) > 0 FROM named), \
                    (SELECT pg_catalog.pg_get_userbyid(c.relowner)::text FROM pg_catalog.pg_class c \
                     WHERE c.oid = pg_catalog.to_regclass('engram.memories')) \
             FROM pg_catalog.pg_roles r, db WHERE r.rolname = current_user",
            &[
                DatumWithOid::from(owned(TABLES)),
                DatumWithOid::from(owned(FUNCTIONS)),
            ],
            |row| {
                Ok(Self {
                    exists: row.get(1)?.unwrap_or(false),
                    tables: row
                        .get::<Vec<Option<String>>>(2)?
                        .unwrap_or_default()
                        .into_iter()
                        .flatten()
                        .collect(),
                    superuser: row.get(3)?.unwrap_or(false),
                    database_owner: row.get(4)?.unwrap_or_default(),
                    caller: row.get(5)?.unwrap_or_default(),
                    stranger: row.get(6)?,
                    owns: row.get(7)?.unwrap_or(false),
                    prepared: row.get(8)?.unwrap_or(false),
                    owner: row.get(9)?,
                })
            },
        )?;
        Ok(found.expect("the current user is a role"))
    }

    fn check_caller(&self, named: Option<&str>) -> Result<()> {
        if !self.owns {
            return Err(Error::Forbidden {
                message: format!("role \"{}\" does not own the tables of engram", self.caller),
                hint: "Run setup() as a superuser or as the owner of the schema engram.".to_owned(),
            });
        }
        // Tables that somebody prepared under our names could carry triggers that read every
        // memory. Whoever runs setup() says so if that role is meant to own them.
        if let Some(stranger) = self.stranger.as_deref().filter(|s| named != Some(*s)) {
            return Err(Error::Forbidden {
                message: format!(
                    "schema engram holds objects of role \"{stranger}\", which is neither a superuser nor the owner of the database"
                ),
                hint: format!(
                    "If you trust that role, say so: SET engram.auto_setup = off; CREATE EXTENSION engram CASCADE; SELECT engram.setup('{{\"owner\": \"{stranger}\"}}'); otherwise drop or rename the schema.",
                ),
            });
        }
        Ok(())
    }
}

/// The functions of the store, of the names $1 and of the signature $2, and who owns them.
const STORE_FUNCTIONS: &str = "SELECT p.oid::pg_catalog.regprocedure::text AS name, p.proowner AS owner \
    FROM pg_catalog.pg_proc p \
    WHERE p.pronamespace = 'engram'::pg_catalog.regnamespace AND p.proname = ANY ($1) AND p.pronargs = 0 \
       OR p.oid = pg_catalog.to_regprocedure($2)";

/// Gives the schema and what is there of the store to a role, where they are another's. Nobody's code runs with it.
fn hand_over(owner: &str) -> Result<()> {
    let things = spi::rows(
        &format!(
            "WITH things AS (\
           SELECT 'SCHEMA engram' AS thing, n.nspowner AS owner FROM pg_catalog.pg_namespace n WHERE n.nspname = 'engram' \
           UNION ALL SELECT 'TABLE ' || c.oid::pg_catalog.regclass::text, c.relowner FROM pg_catalog.pg_class c \
           WHERE c.relnamespace = 'engram'::pg_catalog.regnamespace AND c.relname = ANY ($3) AND c.relkind IN ('r', 'p', 'v') \
           UNION SELECT 'TABLE ' || c.oid::pg_catalog.regclass::text, c.relowner FROM pg_catalog.pg_inherits i \
           JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid JOIN pg_catalog.pg_class p ON p.oid = i.inhparent \
           WHERE p.relkind = 'p' AND p.relnamespace = 'engram'::pg_catalog.regnamespace AND p.relname = ANY ($3) \
           UNION SELECT 'FUNCTION ' || f.name, f.owner FROM ({STORE_FUNCTIONS}) f) \
         SELECT t.thing FROM things t JOIN pg_catalog.pg_roles r ON r.rolname = $4 AND r.oid <> t.owner \
         ORDER BY t.thing LIKE 'SCHEMA %' DESC, t.thing LIKE 'TABLE %' DESC, t.thing"
        ),
        &[
            DatumWithOid::from(owned(FUNCTIONS)),
            DatumWithOid::from(OVERVIEW),
            DatumWithOid::from(owned(TABLES)),
            DatumWithOid::from(owner),
        ],
        |row| Ok(row.get::<String>(1)?),
    )?;
    for thing in things.into_iter().flatten() {
        run(&format!("ALTER {thing} OWNER TO {}", ident(owner)))?;
    }
    Ok(())
}

/// The partitions of the logs that are missing, as the owner of the tables. One that is in use waits for
/// the next time.
fn make_partitions() -> Result<()> {
    let _owner = AsOwner::confined(uses::owner()?);
    run("DO $$ BEGIN \
           PERFORM engram_internal.partitions_task('create_partitions', '{}'); \
         EXCEPTION WHEN lock_not_available THEN \
           RAISE WARNING '%', SQLERRM USING HINT = 'Run: SELECT engram.create_partitions();'; \
         END $$")
}

/// The functions of the extension in schema engram, ready to be named in SQL.
fn extension_functions(more: &str) -> Result<Vec<String>> {
    Ok(spi::rows(
        &format!(
            "SELECT p.oid::pg_catalog.regprocedure::text FROM pg_catalog.pg_proc p \
             JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass \
               AND d.objid = p.oid AND d.deptype = 'e' \
             JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND e.extname = 'engram' \
             WHERE p.pronamespace = pg_catalog.to_regnamespace('engram') {more} ORDER BY 1"
        ),
        &[],
        |row| Ok(row.get::<String>(1)?),
    )?
    .into_iter()
    .flatten()
    .collect())
}

/// Lets the owner of the tables use what the extension's owner installed, and pass it on.
fn equip(owner: &str) -> Result<()> {
    let own = spi::rows(
        &format!("SELECT f.name FROM ({STORE_FUNCTIONS}) f ORDER BY f.name"),
        &[
            DatumWithOid::from(owned(FUNCTIONS)),
            DatumWithOid::from(OVERVIEW),
        ],
        |row| Ok(row.get::<String>(1)?),
    )?;
    let to = ident(owner);
    for function in extension_functions("")? {
        run(&format!(
            "GRANT EXECUTE ON ROUTINE {function} TO {to} WITH GRANT OPTION"
        ))?;
    }
    for function in own.into_iter().flatten() {
        run(&format!("GRANT EXECUTE ON FUNCTION {function} TO {to}"))?;
    }
    open_vector(owner)
}

fn grant(before: &Store, options: &Options) -> Result<()> {
    for &function in FUNCTIONS {
        let public = matches!(
            function,
            "current_user_id" | "readable_workspaces" | "writable_workspaces"
        );
        run(&if public {
            format!("GRANT EXECUTE ON FUNCTION engram.{function}() TO PUBLIC")
        } else {
            format!("REVOKE EXECUTE ON FUNCTION engram.{function}() FROM PUBLIC")
        })?;
    }
    run(&format!(
        "REVOKE EXECUTE ON FUNCTION {OVERVIEW} FROM PUBLIC"
    ))?;
    if before.superuser {
        let owner = spi::row(
            "SELECT pg_catalog.pg_get_userbyid(relowner)::text FROM pg_catalog.pg_class \
             WHERE oid = 'engram.memories'::pg_catalog.regclass",
            &[],
            |row| Ok(row.get::<String>(1)?),
        )?
        .flatten()
        .unwrap_or_default();
        equip(&owner)?;
    }
    for role in &options.grant_to {
        grant_access(role)?;
    }
    // Roles that had access keep it: to everything when the extension was dropped and created
    // again, else to functions that are new and that nobody was granted yet. What an
    // administrator took away stays away.
    let known = spi::rows(
        "SELECT DISTINCT r.rolname::text FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a \
         JOIN pg_catalog.pg_roles r ON r.oid = a.grantee \
         WHERE c.oid = 'engram.memories'::pg_catalog.regclass AND a.privilege_type = 'INSERT' \
           AND a.grantee <> c.relowner AND pg_catalog.has_schema_privilege(r.oid, 'engram', 'USAGE') ORDER BY 1",
        &[],
        |row| Ok(row.get::<String>(1)?),
    )?;
    let new = extension_functions(
        "AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(p.proacl) a, pg_catalog.pg_class c \
           WHERE c.oid = 'engram.memories'::pg_catalog.regclass AND a.grantee NOT IN (p.proowner, c.relowner))",
    )?;
    // The same for tables that the store did not have.
    let added = GRANTS
        .iter()
        .filter(|(table, _)| !before.tables.iter().any(|t| t == table));
    for role in known.into_iter().flatten() {
        for function in &new {
            run(&format!(
                "GRANT EXECUTE ON ROUTINE {function} TO {}",
                ident(&role)
            ))?;
        }
        for (table, rights) in added.clone() {
            grant_table(table, rights, &ident(&role))?;
        }
    }
    // With the tables and never again: what an administrator takes away stays away.
    for role in SUPABASE_ROLES.iter().filter(|_| !before.exists) {
        let there = spi::row(
            "SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolname = $1",
            &[DatumWithOid::from(*role)],
            |row| Ok(row.get::<String>(1)?),
        )?;
        if there.is_some() {
            grant_access(role)?;
        }
    }
    Ok(())
}

fn grant_table(table: &str, rights: &str, to: &str) -> Result<()> {
    run(&format!("GRANT {rights} ON engram.{table} TO {to}"))?;
    if table == "memory_overview" {
        run(&format!("GRANT EXECUTE ON FUNCTION {OVERVIEW} TO {to}"))?;
    }
    Ok(())
}

fn role(name: &str) -> Result<pg_sys::Oid> {
    let found = spi::row(
        "SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1",
        &[DatumWithOid::from(name)],
        |row| Ok(row.get::<pg_sys::Oid>(1)?),
    )?;
    found.flatten().ok_or_else(|| no_role(name))
}

/// Whether the role bypasses row security; an error when there is no such role.
fn bypasses_row_security(role: &str) -> Result<bool> {
    spi::row(
        "SELECT rolbypassrls OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = $1",
        &[DatumWithOid::from(role)],
        |row| Ok(row.get::<bool>(1)?),
    )?
    .flatten()
    .ok_or_else(|| no_role(role))
}

fn no_role(name: &str) -> Error {
    Error::invalid(
        format!("role \"{name}\" does not exist"),
        format!("Create it first: CREATE ROLE {} LOGIN;", ident(name)),
    )
}

/// Lets a role store and search in the workspaces of whoever it identifies as; a role that
/// bypasses row security also manages models and settings.
fn grant_access(role: &str) -> Result<()> {
    let bypasses = bypasses_row_security(role)?;
    let to = ident(role);
    run(&format!("GRANT USAGE ON SCHEMA engram TO {to}"))?;
    for &(table, rights) in GRANTS {
        grant_table(table, rights, &to)?;
    }
    for function in extension_functions("")? {
        run(&format!("GRANT EXECUTE ON ROUTINE {function} TO {to}"))?;
    }
    if bypasses {
        run(&format!(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON engram.embedding_models, engram.settings, engram.memory_type_settings TO {to}"
        ))?;
        run(&format!("GRANT SELECT ON engram.metrics TO {to}"))?;
        run(&format!(
            "GRANT EXECUTE ON FUNCTION engram.metric_rows() TO {to}"
        ))?;
    }
    open_vector(role)
}

/// A call is looked up by the types of its arguments, and vector's schema may be closed.
fn open_vector(role: &str) -> Result<()> {
    spi::row(
        "SELECT n.nspname::text FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace \
         WHERE e.extname = 'vector' AND NOT pg_catalog.has_schema_privilege($1, n.oid, 'USAGE')",
        &[DatumWithOid::from(role)],
        |row| Ok(row.get::<String>(1)?),
    )?
    .flatten()
    .map_or(Ok(()), |schema| {
        run(&format!("GRANT USAGE ON SCHEMA {} TO {}", ident(&schema), ident(role)))
    })
}
