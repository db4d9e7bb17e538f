//! Storing memories the short way.
//!
//! A statement for each memory with its triggers, policies and foreign keys costs many times what its rows do.
//! Where the tables are as setup() made them, all that those would do is known: then the rows are written
//! straight away. Everything else is left to the statements of `engram_internal.store()`: tables that users
//! have changed, memories that are there already, and whatever is wrong with a memory, so that all errors
//! are raised there.

mod read;
mod table;

use std::borrow::Cow;
use std::collections::HashSet;

use pgrx::datum::DatumWithOid;
use pgrx::{FromDatum, IntoDatum, pg_sys};
use uuid::Uuid;

use crate::api::MAX_ITEMS;
use crate::blocks::{self, Merged, Stamp, State};
use crate::error::{Error, Result};
use crate::model::similarity;
use crate::partitions::Routes;
use crate::raw::RawJsonb;
use crate::scan::{Fresh, Key, Lookup, Table};
use crate::text::{self, Date};
use crate::write::{self, Value, Writer};
use crate::{identity, ids, locks, own, pack, rows, spi, sync, terms, words};
use table::{Layout, Shape, Type};

/// A memory to store: the arguments of `add()`, and what else an item of `add_many()` may say.
#[derive(Default)]
#[allow(missing_docs)]
pub struct New<'a> {
    pub content: Option<Cow<'a, str>>,
    pub kind: Option<Cow<'a, str>>,
    pub importance: Option<f64>,
    pub embedding: Option<Cow<'a, [f32]>>,
    pub tags: Option<Vec<Cow<'a, str>>>,
    /// A jsonb object.
    pub metadata: Option<pg_sys::Datum>,
    /// This and other moments in microseconds since the epoch of PostgreSQL.
    pub occurred_at: Option<i64>,
    pub agent_id: Option<Cow<'a, str>>,
    pub session_id: Option<Cow<'a, str>>,
    pub speaker: Option<Cow<'a, str>>,
    pub role: Option<Cow<'a, str>>,
    pub source: Option<Cow<'a, str>>,
    pub entities: Option<Vec<Cow<'a, str>>>,
    pub id: Option<Uuid>,
    pub expires_at: Option<i64>,
    pub on_duplicate: Option<Cow<'a, str>>,
    pub summary: Option<Cow<'a, str>>,
    pub valid_from: Option<i64>,
    pub valid_to: Option<i64>,
    pub pinned: Option<bool>,
    pub model: Option<Cow<'a, str>>,
}

const KINDS: [&str; 7] = [
    "factual",
    "episodic",
    "relational",
    "emotional",
    "procedural",
    "opinion",
    "causal",
];
const ROLES: [&str; 4] = ["user", "assistant", "system", "tool"];
/// Most characters of a tag or a name, and of a source, as `check_names()` has it.
const NAME: usize = 500;
const SOURCE: usize = 2000;
const STRATEGIES: [&str; 4] = ["merge", "skip", "reject", "allow"];

const UUID: Type = Type::Of(pg_sys::UUIDOID);
const TEXT: Type = Type::Of(pg_sys::TEXTOID);
const TIME: Type = Type::Of(pg_sys::TIMESTAMPTZOID);

const MEMORIES: Shape = Shape {
    columns: &[
        (c"workspace_id", UUID),
        (c"id", UUID),
        (c"user_id", UUID),
        (c"agent_id", TEXT),
        (c"session_id", TEXT),
        (c"speaker", TEXT),
        (c"role", TEXT),
        (c"content", TEXT),
        (c"type", TEXT),
        (c"importance", Type::Of(pg_sys::FLOAT8OID)),
        (c"layer", TEXT),
        (c"pinned", Type::Of(pg_sys::BOOLOID)),
        (c"tags", Type::Of(pg_sys::TEXTARRAYOID)),
        (c"metadata", Type::Of(pg_sys::JSONBOID)),
        (c"source", TEXT),
        (c"occurred_at", TIME),
        (c"expires_at", TIME),
        (c"version", Type::Of(pg_sys::INT4OID)),
        (c"created_at", TIME),
        (c"updated_at", TIME),
        (c"content_hash", Type::Of(pg_sys::BYTEAOID)),
        (c"summary", TEXT),
        (c"valid_from", TIME),
        (c"valid_to", TIME),
        // From here on NULL.
        (c"superseded_by", UUID),
        (c"contradicts", Type::Of(pg_sys::UUIDARRAYOID)),
        (c"contradicted_by", Type::Of(pg_sys::UUIDARRAYOID)),
        (c"deleted_at", TIME),
    ],
    nullable: &[
        c"agent_id",
        c"session_id",
        c"speaker",
        c"role",
        c"source",
        c"occurred_at",
        c"expires_at",
        c"summary",
        c"valid_from",
        c"valid_to",
        c"superseded_by",
        c"contradicts",
        c"contradicted_by",
        c"deleted_at",
    ],
    checks: &[
        c"memories_role_check",
        c"memories_content_check",
        c"memories_type_check",
        c"memories_importance_check",
        c"memories_layer_check",
        c"memories_metadata_check",
        c"memories_version_check",
        c"memories_valid_check",
    ],
    triggers: &[c"memories_before_write", c"memories_after_insert"],
    keys: &[],
    dated: None,
    never: Some(c"pinned"),
    policy: (
        c"memories_insert",
        "((workspace_id = ANY ((SELECT engram.writable_workspaces() AS writable_workspaces)::uuid[])) \
         AND (user_id = (SELECT engram.current_user_id() AS current_user_id)))",
    ),
};

const EMBEDDINGS: Shape = Shape {
    columns: &[
        (c"workspace_id", UUID),
        (c"memory_id", UUID),
        (c"model", TEXT),
        (c"embedding", Type::Vector),
        (c"created_at", TIME),
    ],
    nullable: &[],
    checks: &[],
    triggers: &[c"embeddings_before_write", c"embeddings_after_insert"],
    keys: &[c"embeddings_memory_fkey", c"embeddings_model_fkey"],
    dated: Some(c"created_at"),
    never: None,
    policy: (
        c"embeddings_insert",
        "(workspace_id = ANY ((SELECT engram.writable_workspaces() AS writable_workspaces)::uuid[]))",
    ),
};

/// `memory_events` and its partitions.
const EVENTS: write::Shape<10> = write::Shape {
    columns: [
        (c"workspace_id", pg_sys::UUIDOID),
        (c"xid", pg_sys::XID8OID),
        (c"id", pg_sys::UUIDOID),
        (c"at", pg_sys::TIMESTAMPTZOID),
        (c"memory_id", pg_sys::UUIDOID),
        (c"origin", pg_sys::INT8OID),
        (c"actor", pg_sys::UUIDOID),
        (c"action", pg_sys::TEXTOID),
        (c"version", pg_sys::INT4OID),
        (c"old", pg_sys::JSONBOID),
    ],
    nullable: &[c"actor", c"old"],
    checks: &[c"memory_events_action_check"],
    keys: &[],
    triggers: &[],
};

/// `embedding_claims`.
const CLAIMS: write::Shape<4> = write::Shape {
    columns: [
        (c"workspace_id", pg_sys::UUIDOID),
        (c"memory_id", pg_sys::UUIDOID),
        (c"model", pg_sys::TEXTOID),
        (c"claimed_until", pg_sys::TIMESTAMPTZOID),
    ],
    nullable: &[],
    checks: &[],
    // A store of 0.5 has the second, and no claims are written to it.
    keys: &[
        c"embedding_claims_memory_fkey",
        c"embedding_claims_model_fkey",
    ],
    triggers: &[],
};

/// `search_blocks`.
pub const BLOCKS: write::Shape<7> = write::Shape {
    columns: [
        (c"workspace_id", pg_sys::UUIDOID),
        (c"model", pg_sys::TEXTOID),
        (c"level", pg_sys::INT2OID),
        (c"cluster", pg_sys::INT4OID),
        (c"block_id", pg_sys::UUIDOID),
        (c"entries", pg_sys::INT4OID),
        (c"block", pg_sys::BYTEAOID),
    ],
    nullable: &[],
    checks: &[c"search_blocks_level_check"],
    keys: &[],
    triggers: &[c"search_blocks_restore"],
};

/// Memories that are written one after the other, so that what they need meanwhile is bounded.
const PART: usize = 1000;

/// Whether this session and transaction are of the usual kind.
fn usual() -> bool {
    // SAFETY: reads flags of this backend.
    unsafe {
        !pg_sys::XactReadOnly
            && !pg_sys::RecoveryInProgress()
            && !pg_sys::IsInParallelMode()
            // What others did since the snapshot was taken is to be seen.
            && pg_sys::XactIsoLevel <= pg_sys::XACT_READ_COMMITTED as i32
            // No dump is being loaded, and no change of another server applied.
            && pg_sys::check_function_bodies
            && pg_sys::SessionReplicationRole == pg_sys::SESSION_REPLICATION_ROLE_ORIGIN as i32
    }
}

/// Settings of a workspace, its own before the defaults.
struct Settings {
    longest: usize,
    near: bool,
    /// The text search configuration.
    config: pg_sys::Oid,
}

fn settings(workspace: Uuid) -> Result<Option<Settings>> {
    let table = Table::open(c"settings")?;
    let (mut longest, mut near, mut config) = (None, false, None);
    for key in [workspace, Uuid::nil()] {
        table.rows(
            &[(c"workspace_id", Key::Uuid(key))],
            [
                c"max_content_chars",
                c"near_duplicate_threshold",
                c"text_config",
            ],
            |[chars, threshold, name]| {
                // SAFETY: setup() gave the columns these types.
                unsafe {
                    longest = longest.or(chars.and_then(|d| i32::from_datum(d, false)));
                    near |= threshold.is_some();
                    if config.is_none() {
                        config = name.and_then(|d| String::from_datum(d, false));
                    }
                }
                Ok(())
            },
        )?;
    }
    let Some(longest) = longest.and_then(|n| usize::try_from(n).ok()) else {
        return Ok(None);
    };
    let name = config.unwrap_or_else(|| "pg_catalog.english".to_owned());
    Ok(Some(Settings {
        longest,
        near,
        config: words::configuration(&name),
    }))
}

struct Model {
    name: String,
    dims: usize,
    cosine: bool,
}

/// The default model of embeddings, and where it is.
fn default_model(models: &Table) -> Result<Option<(Model, pg_sys::ItemPointerData)>> {
    let name = models.column(c"name")?;
    let dims = models.column(c"dims")?;
    let distance = models.column(c"distance")?;
    let is_default = models.column(c"is_default")?;
    let last = name.max(dims).max(distance).max(is_default);
    let mut found = None;
    models.each(None, last, |row| {
        // SAFETY: setup() gave the columns these types.
        unsafe {
            if row.get::<bool>(is_default) == Some(true)
                && let Some(name) = row.get::<String>(name)
            {
                let model = Model {
                    name,
                    dims: usize::try_from(row.get::<i32>(dims).unwrap_or(0)).unwrap_or(0),
                    cosine: row.text(distance) == Some("cosine"),
                };
                found = Some((model, row.at));
            }
        }
        Ok(())
    })?;
    Ok(found)
}

/// The importance of memories of a type that say none, by `memory_type_settings`.
fn default_importance(table: &Table, workspace: Uuid, kind: &str) -> Result<f64> {
    for key in [workspace, Uuid::nil()] {
        let mut found = None;
        table.rows(
            &[
                (c"workspace_id", Key::Uuid(key)),
                (c"type", Key::Collated(kind)),
            ],
            [c"default_importance"],
            |[value]| {
                // SAFETY: setup() gave the column this type.
                found = value.and_then(|d| unsafe { f64::from_datum(d, false) });
                Ok(())
            },
        )?;
        if let Some(found) = found {
            return Ok(found);
        }
    }
    Ok(0.5)
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    // SAFETY: a function of one bytea that gives one.
    unsafe {
        pgrx::direct_function_call(pg_sys::sha256_bytea, &[bytes.into_datum()])
            .expect("a hash is not NULL")
    }
}

/// Whose memories these will be, and who may say so.
struct Caller {
    id: Option<Uuid>,
    workspace: Uuid,
    user: Uuid,
    /// By policies.
    bound: bool,
}

fn caller(memories: &Table, workspace: Option<Uuid>) -> Result<Option<Caller>> {
    let me = identity::caller().id;
    // SAFETY: the relation is open; InvalidOid means the current user, and no error is raised.
    let bound = unsafe {
        pg_sys::check_enable_rls((*memories.relation()).rd_id, pg_sys::InvalidOid, true)
            == pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32
    };
    // That of the defaults takes no memories; the trigger says so.
    let Some(workspace) = workspace.or(me).filter(|workspace| !workspace.is_nil()) else {
        return Ok(None);
    };
    if bound {
        if me != Some(workspace) {
            return Ok(None);
        }
        // What the policy asks. Whether there are others is asked when the table is locked for writing.
        if !own::writable_is_own() {
            let writable = spi::row(
                "SELECT $1 = ANY (engram.writable_workspaces())",
                &[DatumWithOid::from(spi::pg_uuid(workspace))],
                |row| Ok(row.get::<bool>(1)?),
            )?;
            if writable.flatten() != Some(true) {
                return Ok(None);
            }
        }
    }
    Ok(Some(Caller {
        id: me,
        workspace,
        user: me.unwrap_or(workspace),
        bound,
    }))
}

/// Whether the current role may name what is in the schema of the tables.
fn may_use(memories: &Table) -> bool {
    // SAFETY: the relation is open; a look-up by its schema.
    unsafe {
        let schema = (*(*memories.relation()).rd_rel).relnamespace;
        #[cfg(feature = "pg15")]
        let found =
            pg_sys::pg_namespace_aclcheck(schema, pg_sys::GetUserId(), pg_sys::ACL_USAGE.into());
        #[cfg(not(feature = "pg15"))]
        let found = pg_sys::object_aclcheck(
            pg_sys::NamespaceRelationId,
            schema,
            pg_sys::GetUserId(),
            pg_sys::ACL_USAGE.into(),
        );
        found == pg_sys::AclResult::ACLCHECK_OK
    }
}

/// A memory that nothing is wrong with.
struct Ready<'n, 'a> {
    new: &'n New<'a>,
    content: &'n str,
    kind: &'n str,
    hash: &'n [u8],
    id: Uuid,
}

fn ready<'n, 'a>(
    new: &'n New<'a>,
    hash: Option<&'n [u8]>,
    settings: &Settings,
    model: Option<&Model>,
) -> Option<Ready<'n, 'a>> {
    let known = |value: &Option<Cow<'_, str>>, names: &[&str]| {
        value.as_deref().is_none_or(|value| names.contains(&value))
    };
    let within = |text: &str, most| text.len() <= most || text.chars().count() <= most;
    let short = |value: &Option<Cow<'_, str>>, most| {
        value.as_deref().is_none_or(|value| within(value, most))
    };
    let content = new.content.as_deref()?;
    let sound = known(&new.kind, &KINDS)
        && known(&new.role, &ROLES)
        && known(&new.on_duplicate, &STRATEGIES)
        && new.importance.is_none_or(|n| (0.0..=1.0).contains(&n))
        && !text::is_blank(content)
        && within(content, settings.longest)
        && short(&new.agent_id, NAME)
        && short(&new.session_id, NAME)
        && short(&new.speaker, NAME)
        && short(&new.source, SOURCE)
        && new.pinned != Some(true)
        && !matches!((new.valid_from, new.valid_to), (Some(from), Some(to)) if from > to)
        && (new.model.is_none() || new.model.as_deref() == model.map(|model| model.name.as_str()))
        && new.tags.iter().flatten().all(|tag| within(tag, NAME));
    if !sound {
        return None;
    }
    if let Some(vector) = new.embedding.as_deref() {
        let model = model?;
        if vector.len() != model.dims
            || settings.near
            || (model.cosine && similarity::norm(vector) == 0.0)
        {
            return None;
        }
    }
    Some(Ready {
        new,
        content,
        kind: new.kind.as_deref().unwrap_or("factual"),
        hash: hash?,
        id: new.id.unwrap_or_else(ids::next),
    })
}

/// The tables beside `memories`, and how they are written to.
struct Beside {
    embeddings: Option<(Table, std::rc::Rc<Layout>)>,
    /// `embedding_claims`, where some have no vector.
    claims: Option<Table>,
    states: Table,
    events: Table,
    /// The moment of its events.
    at: i64,
    blocks: Table,
    /// `memory_type_settings`, open before anything is written, so that nothing can be missing later.
    types: Table,
}

impl Beside {
    fn open(with_embeddings: bool, without: bool, bound: &Caller) -> Result<Option<Self>> {
        let embeddings = if with_embeddings {
            let table = Table::open_for_insert(c"embeddings")?;
            let Some(layout) = table::layout(&table, &EMBEDDINGS) else {
                return Ok(None);
            };
            // SAFETY: as in `caller`.
            let free = unsafe {
                pg_sys::check_enable_rls((*table.relation()).rd_id, pg_sys::InvalidOid, true)
                    != pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32
            };
            if !table.may_insert()
                || !(free || layout.only_ours && bound.id == Some(bound.workspace))
            {
                return Ok(None);
            }
            Some((table, layout))
        } else {
            None
        };
        // SAFETY: reads the clock.
        let at = unsafe { pg_sys::GetCurrentTimestamp() };
        let Some(part) = Routes::open(c"memory_events").and_then(|routes| routes.find(at)) else {
            return Ok(None);
        };
        Ok(Some(Self {
            embeddings,
            claims: if without {
                Some(Table::open_for_insert(c"embedding_claims")?)
            } else {
                None
            },
            states: Table::open_for_insert(c"memory_state")?,
            events: Table::open_part(part)?,
            at,
            blocks: Table::open_for_insert(c"search_blocks")?,
            types: Table::open(c"memory_type_settings")?,
        }))
    }
}

/// Stores those that are new beyond doubt and gives the id of each, `None` for those that are to be stored
/// with care; `None` when none of them can be stored here. Nothing is written then.
pub fn store(workspace: Option<Uuid>, news: &[New<'_>]) -> Result<Option<Vec<Option<Uuid>>>> {
    if !usual() {
        return Ok(None);
    }
    match try_store(workspace, news) {
        // A store that is not there yet, older or mended by hand: the statements tell. All tables are
        // opened before the first row is written.
        Err(Error::NotReady { .. }) => Ok(None),
        other => other,
    }
}

fn try_store(workspace: Option<Uuid>, news: &[New<'_>]) -> Result<Option<Vec<Option<Uuid>>>> {
    let read = Table::open(c"memories")?;
    if !may_use(&read) || !read.may_insert() || !read.may_read() {
        return Ok(None);
    }
    let Some(caller) = caller(&read, workspace)? else {
        return Ok(None);
    };
    let hashes: Vec<Option<Vec<u8>>> = (news.iter())
        .map(|new| {
            let content = new.content.as_deref()?;
            Some(sha256(text::normalize_content(content).as_bytes()))
        })
        .collect();
    let single = lock(&caller, news, &hashes);

    let memories = Table::open_for_insert(c"memories")?;
    let Some(layout) = table::layout(&memories, &MEMORIES) else {
        return Ok(None);
    };
    if caller.bound && !(layout.only_ours && rows::all_visible(&memories, caller.workspace)) {
        return Ok(None);
    }
    let embedded = news.iter().any(|new| new.embedding.is_some());
    let without = news.iter().any(|new| new.embedding.is_none());
    let Some(beside) = Beside::open(embedded, without, &caller)? else {
        return Ok(None);
    };
    let Some(mut writers) = Writers::open(&beside) else {
        return Ok(None);
    };
    let before = Fresh::new();
    let Some(settings) = settings(caller.workspace)? else {
        return Ok(None);
    };
    let Some(models) = Models::read(&beside, embedded, without)? else {
        return Ok(None);
    };
    drop(before);
    let sound: Vec<Option<Ready<'_, '_>>> = (news.iter().zip(&hashes))
        .map(|(new, hash)| ready(new, hash.as_deref(), &settings, models.of.as_ref()))
        .collect();

    // What others have stored until they let go of the locks is seen from here.
    let snapshot = Fresh::new();
    let Some(fresh) = fresh(&memories, caller.workspace, news, &hashes, sound)? else {
        return Ok(None);
    };
    drop(snapshot);
    let ids: Vec<Option<Uuid>> = fresh.iter().map(|f| f.as_ref().map(|f| f.id)).collect();
    let stored: Vec<Ready<'_, '_>> = fresh.into_iter().flatten().collect();
    let write = Write {
        caller: &caller,
        beside: &beside,
        config: settings.config,
        models: &models,
    };
    for part in stored.chunks(PART) {
        write.part(&memories, &layout, &mut writers, part)?;
    }
    drop(writers);
    write::done();
    after(&caller, models.of.as_ref(), &beside.blocks, &stored)?;
    if single {
        let keys =
            |one: &Ready<'_, '_>| u32::from(distinct(one.new)) + u32::from(one.new.id.is_some());
        locks::add(stored.iter().map(keys).sum());
    }
    Ok(Some(ids))
}

/// Whether it must not be stored beside another memory of the same content.
fn distinct(new: &New<'_>) -> bool {
    new.on_duplicate.as_deref() != Some("allow")
}

/// Locks what all of them are found by, those that need care too: locks that came one by one later could come in
/// another's way. Whether the keys are locked one by one.
///
/// First of all: who waits here holds nothing else that somebody could want. What is stored is counted in the end: an
/// error gives the locks back, and who goes on with care counts them.
fn lock(caller: &Caller, news: &[New<'_>], hashes: &[Option<Vec<u8>>]) -> bool {
    let mut keys: Vec<String> = Vec::with_capacity(news.len());
    for (new, hash) in news.iter().zip(hashes) {
        keys.extend(hash.as_deref().filter(|_| distinct(new)).map(key));
        keys.extend(new.id.map(|id| id.to_string()));
    }
    let named = |new: &New<'_>| new.entities.as_ref().is_some_and(|names| !names.is_empty());
    if news.iter().any(named) {
        locks::hold_names(caller.workspace);
    }
    locks::hold(caller.workspace, keys.iter().map(String::as_str)) > 0
}

/// The models of embeddings that rows tell of.
struct Models {
    /// That of the embeddings.
    of: Option<Model>,
    /// That which those without one wait for.
    waited_for: Option<String>,
}

impl Models {
    /// `None` where the model has changed meanwhile.
    fn read(beside: &Beside, embedded: bool, without: bool) -> Result<Option<Self>> {
        let (mut of, mut waited_for) = (None, None);
        // SAFETY: the relation is open; the list is of the cache.
        let keyed = beside.claims.as_ref().is_some_and(|table| unsafe {
            let keys = pg_sys::RelationGetFKeyList(table.relation());
            !keys.is_null() && (*keys).length > 1
        });
        // A store of 0.5 has a key to the model as well, and looks for what waits by itself.
        if without && !keyed {
            // The model need not stay: who drops it, or the purge, takes the claim with it.
            let default = default_model(&Table::open(c"embedding_models")?)?;
            waited_for = default.map(|found| found.0.name);
        }
        if embedded {
            let models = Table::open_to_lock(c"embedding_models")?;
            if let Some((default, at)) = default_model(&models)? {
                // It stays until the transaction ends, as a foreign key would have it.
                if !write::hold(&models, at) {
                    return Ok(None);
                }
                of = Some(default);
            }
        }
        Ok(Some(Self { of, waited_for }))
    }
}

/// The writers of the tables beside `memories` whose rows have one shape.
struct Writers<'b> {
    states: Writer<'b, 11>,
    events: Writer<'b, 10>,
    claims: Option<Writer<'b, 4>>,
    blocks: Writer<'b, 7>,
}

impl<'b> Writers<'b> {
    fn open(beside: &'b Beside) -> Option<Self> {
        Some(Self {
            states: Writer::open(&beside.states, &crate::uses::STATE)?,
            events: Writer::open(&beside.events, &EVENTS)?,
            blocks: Writer::open(&beside.blocks, &BLOCKS)?,
            claims: match &beside.claims {
                Some(table) => Some(Writer::open(table, &CLAIMS)?),
                None => None,
            },
        })
    }
}

/// A hash as a key to lock.
fn key(hash: &[u8]) -> String {
    let digit = |of: u8| char::from_digit(of.into(), 16).unwrap_or('0');
    let both = |byte: &u8| [digit(byte >> 4), digit(byte & 15)];
    hash.iter().flat_map(both).collect()
}

/// Takes out those that are there already, and those that come after another one of the same content or id that
/// is stored with care: they must find that.
fn fresh<'n, 'a>(
    memories: &Table,
    workspace: Uuid,
    news: &[New<'_>],
    hashes: &[Option<Vec<u8>>],
    sound: Vec<Option<Ready<'n, 'a>>>,
) -> Result<Option<Vec<Option<Ready<'n, 'a>>>>> {
    let Some(mut by_content) =
        memories.by_hash(c"memories_content_idx", [c"content_hash", c"workspace_id"])
    else {
        return Ok(None);
    };
    // Only an id that the caller chose can be there already.
    let given = news.iter().any(|new| new.id.is_some());
    let erasures = if given {
        Some(Table::open(c"erasures")?)
    } else {
        None
    };
    let mut places = match &erasures {
        Some(erasures) => Some((Lookup::upto(memories, 2)?, Lookup::upto(erasures, 2)?)),
        None => None,
    };
    let mut known = |id: Uuid| {
        places.as_mut().is_some_and(|(by_id, erased)| {
            by_id.find([workspace, id]).is_some() || erased.find([workspace, id]).is_some()
        })
    };
    // Of those before: stored here, and stored with care.
    let (mut seen, mut seen_ids): (HashSet<&[u8]>, HashSet<Uuid>) = Default::default();
    let (mut later, mut later_ids): (HashSet<&[u8]>, HashSet<Uuid>) = Default::default();
    let mut out = Vec::with_capacity(sound.len());
    for ((one, new), hash) in sound.into_iter().zip(news).zip(hashes) {
        pgrx::check_for_interrupts!();
        let one = one.filter(|one| {
            let content = !later.contains(one.hash)
                && (!distinct(one.new)
                    || !seen.contains(one.hash) && !by_content.any(one.hash, workspace));
            content
                && one.new.id.is_none_or(|id| {
                    !seen_ids.contains(&id) && !later_ids.contains(&id) && !known(id)
                })
        });
        let (contents, ids) = if one.is_some() {
            (&mut seen, &mut seen_ids)
        } else {
            (&mut later, &mut later_ids)
        };
        contents.extend(hash.as_deref());
        ids.extend(new.id);
        out.push(one);
    }
    Ok(Some(out))
}

struct Write<'w> {
    caller: &'w Caller,
    beside: &'w Beside,
    config: pg_sys::Oid,
    models: &'w Models,
}

impl Write<'_> {
    /// Memories, and what each has in the other tables.
    fn part(
        &self,
        memories: &Table,
        layout: &Layout,
        writers: &mut Writers<'_>,
        stored: &[Ready<'_, '_>],
    ) -> Result<()> {
        self.memories(memories, layout, stored)?;
        self.states(&mut writers.states, stored);
        self.events(&mut writers.events, self.beside.at, stored);
        if let (Some(claims), Some(model)) = (&mut writers.claims, &self.models.waited_for) {
            self.claims(claims, model, stored);
        }
        let documents = self.documents(stored)?;
        let vectors = match &self.beside.embeddings {
            Some((table, layout)) => self.embeddings(table, layout, stored),
            None => Vec::new(),
        };
        self.blocks(&mut writers.blocks, documents, vectors);
        Ok(())
    }

    fn memories(&self, table: &Table, layout: &Layout, stored: &[Ready<'_, '_>]) -> Result<()> {
        let now = now();
        let text = |value: Option<&str>| value.and_then(IntoDatum::into_datum);
        let factual = text(Some("factual"));
        let working = text(Some("working"));
        let mut importances: Vec<(&str, f64)> = Vec::new();
        let mut rows = Vec::with_capacity(stored.len());
        for one in stored {
            let new = one.new;
            let importance = match new.importance {
                Some(given) => given,
                None => match importances.iter().find(|(kind, _)| *kind == one.kind) {
                    Some((_, known)) => *known,
                    None => {
                        let snapshot = Fresh::new();
                        let found = default_importance(
                            &self.beside.types,
                            self.caller.workspace,
                            one.kind,
                        )?;
                        drop(snapshot);
                        importances.push((one.kind, found));
                        found
                    }
                },
            };
            let created = now.into_datum();
            let kind = if one.kind == "factual" {
                factual
            } else {
                text(Some(one.kind))
            };
            rows.push(vec![
                uuid(&self.caller.workspace),
                uuid(&one.id),
                uuid(&self.caller.user),
                text(new.agent_id.as_deref()),
                text(new.session_id.as_deref()),
                text(new.speaker.as_deref()),
                text(new.role.as_deref()),
                text(Some(one.content)),
                kind,
                importance.into_datum(),
                working,
                false.into_datum(),
                Some(texts(new.tags.as_deref().unwrap_or_default())),
                Some(new.metadata.unwrap_or_else(no_metadata)),
                text(new.source.as_deref()),
                new.occurred_at.and_then(IntoDatum::into_datum),
                new.expires_at.and_then(IntoDatum::into_datum),
                1i32.into_datum(),
                created,
                created,
                one.hash.into_datum(),
                text(new.summary.as_deref()),
                new.valid_from.and_then(IntoDatum::into_datum),
                new.valid_to.and_then(IntoDatum::into_datum),
            ]);
        }
        layout.insert(table, &rows);
        Ok(())
    }

    fn states(&self, states: &mut Writer<'_, 11>, stored: &[Ready<'_, '_>]) {
        let now = now();
        states.insert_all(stored.iter().map(|one| {
            let mut row = [const { Value::Null }; 11];
            row[0] = Value::Uuid(self.caller.workspace);
            row[1] = Value::Uuid(one.id);
            row[2] = Value::Int8(1);
            row[3] = Value::Time(now);
            row[7] = Value::Text("working");
            row
        }));
    }

    fn events(&self, events: &mut Writer<'_, 10>, at: i64, stored: &[Ready<'_, '_>]) {
        // SAFETY: gives the transaction its id.
        let xid = unsafe { pg_sys::GetTopFullTransactionId().value };
        let origin = sync::origin();
        let actor = || self.caller.id.map_or(Value::Null, Value::Uuid);
        events.insert_all(stored.iter().map(|one| {
            [
                Value::Uuid(self.caller.workspace),
                Value::Int8(xid.cast_signed()),
                Value::Uuid(ids::next()),
                Value::Time(at),
                Value::Uuid(one.id),
                Value::Int8(origin),
                actor(),
                Value::Text("added"),
                Value::Int4(1),
                Value::Null,
            ]
        }));
    }

    /// What has no vector waits for one.
    fn claims(&self, claims: &mut Writer<'_, 4>, model: &str, stored: &[Ready<'_, '_>]) {
        let without = stored.iter().filter(|one| one.new.embedding.is_none());
        claims.insert_all(without.map(|one| {
            [
                Value::Uuid(self.caller.workspace),
                Value::Uuid(one.id),
                Value::Text(model),
                // -infinity
                Value::Time(i64::MIN),
            ]
        }));
    }

    /// What search scans of their words.
    fn documents(&self, stored: &[Ready<'_, '_>]) -> Result<Vec<Vec<u8>>> {
        let now = now();
        let mut documents: Vec<Vec<u8>> = Vec::with_capacity(stored.len());
        for one in stored {
            pgrx::check_for_interrupts!();
            let new = one.new;
            let date = new.occurred_at.and_then(Date::from_postgres);
            let speaker = new.speaker.as_deref();
            let indexed = text::indexed_text(one.content, speaker, date, new.summary.as_deref());
            let parsed = words::parsed(&indexed);
            let found = match words::of(self.caller.workspace, self.config, &parsed) {
                Some((found, _)) => found,
                None => terms::words(&words::sent(self.config, &parsed)),
            };
            let extra = match text::extra(&indexed) {
                Some(extra) => {
                    let parsed = words::parsed(&extra);
                    match words::of(self.caller.workspace, self.config, &parsed) {
                        Some((found, true)) => found,
                        _ => terms::first_words(&words::sent(self.config, &parsed)),
                    }
                }
                None => Vec::new(),
            };
            let document = terms::document(
                one.id.into_bytes(),
                Stamp::new(1, State::Plain),
                new.session_id.as_deref(),
                new.occurred_at.unwrap_or(now),
                one.content,
                speaker,
                found,
                &extra,
            );
            documents.push(document.encode());
        }
        Ok(documents)
    }

    /// Adds the vectors and gives their entries.
    fn embeddings(&self, table: &Table, layout: &Layout, stored: &[Ready<'_, '_>]) -> Vec<Vec<u8>> {
        let Some(model) = &self.models.of else {
            return Vec::new();
        };
        let name = model.name.as_str().into_datum();
        let created = now().into_datum();
        let mut rows = Vec::with_capacity(stored.len());
        let mut entries = Vec::with_capacity(stored.len());
        for one in stored {
            if let Some(vector) = one.new.embedding.as_deref() {
                rows.push(vec![
                    uuid(&self.caller.workspace),
                    uuid(&one.id),
                    name,
                    Some(crate::vector::datum(vector)),
                    created,
                ]);
                entries.push(blocks::vectors::encode(
                    one.id.into_bytes(),
                    Stamp::new(1, State::Plain),
                    vector,
                ));
            }
        }
        if !rows.is_empty() {
            layout.insert(table, &rows);
        }
        entries
    }

    /// Adds documents and vectors to what search scans.
    fn blocks(&self, rows: &mut Writer<'_, 7>, documents: Vec<Vec<u8>>, vectors: Vec<Vec<u8>>) {
        let merge = |mut entries: Vec<Vec<u8>>| match entries.as_slice() {
            [] => Vec::new(),
            // One small entry is a block.
            [one] if one.len() < blocks::ROOM / 2 => vec![Merged {
                entries: 1,
                full: false,
                bytes: entries.swap_remove(0),
            }],
            _ => {
                let parts: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
                blocks::merge(&parts, blocks::ROOM, false).expect("entries of one kind")
            }
        };
        let (documents, vectors) = (merge(documents), merge(vectors));
        let model = (self.models.of.as_ref()).map_or("", |model| model.name.as_str());
        let all = documents
            .iter()
            .map(|m| ("", m))
            .chain(vectors.iter().map(|m| (model, m)));
        let workspace = self.caller.workspace;
        rows.insert_all(all.map(|(model, m)| {
            [
                Value::Uuid(workspace),
                Value::Text(model),
                Value::Int2(if m.full { 2 } else { 1 }),
                Value::Int4(0),
                Value::Uuid(ids::next()),
                Value::Int4(i32::try_from(m.entries).unwrap_or(i32::MAX)),
                Value::Bytes(&m.bytes),
            ]
        }));
    }
}

/// What is done with statements once the rows are there: entities, as the caller, and packing.
fn after(
    caller: &Caller,
    model: Option<&Model>,
    blocks: &Table,
    stored: &[Ready<'_, '_>],
) -> Result<()> {
    let workspace = || DatumWithOid::from(spi::pg_uuid(caller.workspace));
    for one in stored {
        if let Some(names) = &one.new.entities {
            let names: Vec<String> = names.iter().map(|name| name.clone().into_owned()).collect();
            spi::changed(
                "SELECT engram_internal.link_entities($1, $2, $3)",
                &[
                    workspace(),
                    DatumWithOid::from(spi::pg_uuid(one.id)),
                    DatumWithOid::from(names),
                ],
                |_| Ok(()),
            )?;
        }
    }
    let embedded = stored.iter().filter(|one| one.new.embedding.is_some());
    let of = [
        ("", stored.len()),
        (model.map_or("", |m| m.name.as_str()), embedded.count()),
    ];
    for (model, added) in of {
        pack::sometimes(blocks, caller.workspace, model, added)?;
    }
    Ok(())
}

/// The start of the transaction.
fn now() -> i64 {
    // SAFETY: reads a value of this backend.
    unsafe { pg_sys::GetCurrentTransactionStartTimestamp() }
}

/// By reference: whoever forms the row copies it.
fn uuid(id: &Uuid) -> Option<pg_sys::Datum> {
    Some(pg_sys::Datum::from(id.as_bytes().as_ptr()))
}

fn texts(words: &[Cow<'_, str>]) -> pg_sys::Datum {
    let mut words: Vec<pg_sys::Datum> = words
        .iter()
        .filter_map(|word| word.as_ref().into_datum())
        .collect();
    // SAFETY: so many texts, which are copied.
    unsafe {
        pg_sys::construct_array(
            words.as_mut_ptr(),
            i32::try_from(words.len()).unwrap_or(i32::MAX),
            pg_sys::TEXTOID,
            -1,
            false,
            pg_sys::TYPALIGN_INT as core::ffi::c_char,
        )
        .into()
    }
}

/// An empty jsonb object.
fn no_metadata() -> pg_sys::Datum {
    // SAFETY: so many bytes are allocated: a length word and the header of a container without members.
    unsafe {
        let object = pg_sys::palloc0(8).cast::<pg_sys::varlena>();
        pgrx::set_varsize_4b(object, 8);
        *object.cast::<u32>().add(1) = pg_sys::JB_FOBJECT;
        object.into()
    }
}

/// Stores the items of `add_many` that are new beyond doubt: their number, positions and ids. `None` when none can
/// be stored here.
#[allow(clippy::type_complexity)]
pub fn store_items(
    items: &RawJsonb,
    workspace: Option<Uuid>,
) -> Result<Option<(i32, Vec<i32>, Vec<Uuid>)>> {
    if !usual() {
        return Ok(None);
    }
    let container = items.container();
    // SAFETY: the container lives until the end of the call.
    let Some(news) = (unsafe { read::items(container, MAX_ITEMS) }) else {
        return Ok(None);
    };
    let Some(ids) = store(workspace, &news)? else {
        return Ok(None);
    };
    let (positions, ids) = (1..)
        .zip(ids)
        .filter_map(|(position, id)| Some((position, id?)))
        .unzip();
    Ok(Some((
        i32::try_from(news.len()).unwrap_or(i32::MAX),
        positions,
        ids,
    )))
}
