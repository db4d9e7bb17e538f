//! Which memories may be a result at all: alive, of the wanted types, passing the filter, with the
//! required phrases and without the excluded words. Asked inside the candidate stage, so that a
//! filter never empties a result that was cut before it, and as the caller, so that what a policy
//! hides takes no place among the candidates.

use std::cell::{OnceCell, RefCell};
use std::str::FromStr;

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::{JsonB, PgMemoryContexts};
use serde_json::Value;
use uuid::Uuid;

use super::checks::{Beside, Checks, Known, Mentions};
use super::corpus::Entries;
use super::ids::IdSet;
use super::words::Analysed;
use super::{Context, Request};
use crate::api::shorten;
use crate::blocks::segment::Place;
use crate::error::{Error, Result};
use crate::heap::Placed;
use crate::scan::{Row, Table};
use crate::uses::{LayerRules, Layers};
use crate::{filter, rows, spi};

/// The conditions of one search.
pub struct Eligible<'a> {
    context: &'a Context,
    /// Nothing is asked of a memory.
    free: bool,
    sql: String,
    /// Asks for all memories of the workspace at once, where that can pay.
    whole: Option<String>,
    /// Lanes that ask.
    lanes: usize,
    asked: RefCell<Asked>,
    memories: usize,
    params: Value,
    types: Option<Vec<String>>,
    phrases: Option<String>,
    /// The conditions, where a look at the row tells and the caller may see all rows.
    checks: Option<Checks>,
    /// What segments know of them, by document; empty where nobody has asked yet.
    known: Vec<Known>,
    /// What layers depend on, once they are asked for.
    rules: OnceCell<LayerRules>,
}

/// A memory, its document, and where its row may be.
#[derive(Clone, Copy)]
pub struct Candidate {
    pub id: Uuid,
    pub document: usize,
    pub place: Option<Place>,
}

/// What has been asked already.
#[derive(Default)]
struct Asked {
    asked: IdSet,
    passed: IdSet,
    /// `passed` are all that do.
    whole: bool,
}

/// Looking a memory up by its key costs so many times what reading it with all others does: by a statement, and
/// where its row lies.
const LOOKED_UP: f64 = 5.0;
const LOOKED_AT: f64 = 2.5;
/// Memories that one statement looks up; the first tells how many pass.
const FEWEST: usize = 64;
/// So many have to be known before it is said how many pass: the best are often alike in that.
const SAMPLE: f64 = 256.0;
const MOST: usize = 4_000;
/// Memories that are about the entities of a condition, each as often as it is, that are looked for beforehand.
const MOST_MENTIONS: usize = 4_000;

const TYPES: [&str; 7] = [
    "factual",
    "episodic",
    "relational",
    "emotional",
    "procedural",
    "opinion",
    "causal",
];

/// Reads a filter, times included, and compiles it.
pub fn compile(value: Option<&Value>) -> Result<filter::Compiled> {
    Ok(read(value)?.1)
}

fn read(value: Option<&Value>) -> Result<(filter::Node, filter::Compiled)> {
    let node = filter::parse(value.unwrap_or(&Value::Null))?;
    for time in filter::times(&node) {
        TimestampWithTimeZone::from_str(&time).map_err(|_| {
            Error::invalid(
                format!("filter: {:?} is not a timestamp", shorten(&time)),
                "Write it as 2026-01-31T09:00:00Z.",
            )
        })?;
    }
    let compiled = filter::compile(&node);
    if compiled.condition.contains("entity_aliases") {
        // For its error: the tables may be of an older version.
        Table::open(c"entity_aliases")?;
    }
    Ok((node, compiled))
}

/// The types that are asked for, all of which there must be.
fn types_of(request: &Request) -> Result<Option<Vec<String>>> {
    let known = |of: &Option<String>| match of {
        Some(t) if TYPES.contains(&t.as_str()) => Ok(t.clone()),
        other => Err(Error::invalid(
            format!(
                "unknown memory type {:?}",
                shorten(other.as_deref().unwrap_or("NULL"))
            ),
            format!("Known types: {}.", TYPES.join(", ")),
        )),
    };
    let types = request.types.as_ref();
    types
        .map(|types| types.iter().map(known).collect())
        .transpose()
}

/// What asks which memories pass.
struct Statements {
    /// Of some.
    sql: String,
    /// Of all in the workspace at once, where that can pay.
    whole: Option<String>,
}

impl Statements {
    fn of(context: &Context, compiled: &filter::Compiled, analysed: &Analysed) -> Self {
        let phrases = analysed.constraint().is_some();
        // Names every parameter once, so that each has a type whatever the conditions are.
        let mut conditions = String::from(
            "m.deleted_at IS NULL \
             AND ($4::text[] IS NULL OR m.type = ANY ($4)) \
             AND ($5 OR m.superseded_by IS NULL) \
             AND ($6 OR m.expires_at IS NULL OR m.expires_at > $3) \
             AND ($7::jsonb, $8::text) IS NOT NULL IS NOT NULL AND ",
        );
        conditions.push_str(&compiled.condition.replace("$1", "$7"));
        if phrases {
            const TEXT: &str =
                "engram_internal.indexed_text(m.content, m.speaker, m.occurred_at, m.summary)";
            let mut terms = format!("engram_internal.to_terms($9, {TEXT})");
            if analysed.paired() {
                terms.push_str(&format!(
                    " OPERATOR(pg_catalog.||) coalesce(engram_internal.to_terms($9, engram_internal.extra_text({TEXT})), '')"
                ));
            }
            conditions.push_str(&format!(
                " AND ({terms}) OPERATOR(pg_catalog.@@) $8::pg_catalog.tsquery"
            ));
        } else {
            conditions.push_str(" AND ($9::text) IS NOT NULL IS NOT NULL");
        }
        let from = match context.past {
            None => "engram.memories m WHERE m.workspace_id = $1 AND m.id = u.id AND ",
            Some(_) => "engram_internal.memories_as_of($1, $10, ARRAY[u.id]) m WHERE ",
        };
        Self {
            sql: format!(
                "SELECT u.id FROM pg_catalog.unnest($2) AS u (id) CROSS JOIN LATERAL ( \
                 SELECT 1 FROM {from}{conditions} OFFSET 0) passed"
            ),
            // Phrases are dear to look for: where the words are is known.
            whole: (context.past.is_none() && !phrases).then(|| {
                format!(
                    "SELECT m.id FROM engram.memories m WHERE m.workspace_id = $1 AND {conditions} \
                     AND ($2::pg_catalog.uuid[]) IS NOT NULL IS NOT NULL"
                )
            }),
        }
    }
}

/// Memories of a workspace that are about entities with these names or aliases, with the numbers of the names; as the
/// caller. `None` where they are many: then most candidates pass, and few have to be asked.
fn mentioning(workspace: Uuid, names: &[&str]) -> Result<Option<Mentions>> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let found = spi::rows(
        include_str!("sql/mentioning.sql"),
        &[
            DatumWithOid::from(spi::pg_uuid(workspace)),
            DatumWithOid::from(names),
            DatumWithOid::from(MOST_MENTIONS as i64 + 1),
        ],
        |row| {
            let id = row.get::<pgrx::Uuid>(1)?.map(spi::uuid);
            let nth = row.get::<i64>(2)?.and_then(|nth| usize::try_from(nth).ok());
            Ok(id.zip(nth))
        },
    )?;
    Ok((found.len() <= MOST_MENTIONS).then(|| found.into_iter().flatten().collect()))
}

impl<'a> Eligible<'a> {
    /// Checks the conditions and prepares their SQL.
    pub fn new(context: &'a Context, request: &Request, analysed: &Analysed) -> Result<Self> {
        let (node, mut compiled) = read(request.filter.as_ref())?;
        if context.past.is_some() {
            compiled = compiled.past();
        }
        let types = types_of(request)?;
        let phrases = analysed.constraint();
        let free =
            types.is_none() && compiled.condition == filter::NO_CONDITION && phrases.is_none();
        let Statements { sql, whole } = Statements::of(context, &compiled, analysed);
        let memories = Table::open(c"memories")?;
        let checks = if context.past.is_none()
            && phrases.is_none()
            && rows::all_visible(&memories, context.workspace)
        {
            let now = (!context.expired).then(|| context.at.into());
            let beside = Beside {
                layers: &|| {
                    let states = Table::open(c"memory_state")?;
                    Ok(rows::states_visible(&memories, &states, context.workspace))
                },
                mentioning: &|names| mentioning(context.workspace, names),
            };
            let superseded = context.superseded;
            Checks::new(&node, types.as_deref(), &memories, &beside, superseded, now)?
        } else {
            None
        };
        Ok(Self {
            context,
            free,
            checks,
            sql,
            whole,
            lanes: 1 + usize::from(request.text.is_some() && request.embedding.is_some()),
            asked: RefCell::default(),
            memories: usize::MAX,
            known: Vec::new(),
            rules: OnceCell::new(),
            params: Value::Array(compiled.params),
            types,
            phrases,
        })
    }

    /// Whether candidates are looked up.
    pub fn asks(&self) -> bool {
        !self.free
    }

    /// Whether a row that a hit is made of still passes, as far as it tells.
    pub fn holds(&self, row: &Row<'_>) -> bool {
        // Layers were asked when the row was found.
        let passes = |checks: &Checks| checks.passes(row, None) != Some(false);
        self.free || self.checks.as_ref().is_none_or(passes)
    }

    /// From now on every candidate is looked up. True when it was not before.
    pub fn ask(&mut self, entries: &Entries<'_>) -> bool {
        let asked = std::mem::take(&mut self.free);
        self.of(entries);
        asked
    }

    /// The documents that are asked about.
    pub fn of(&mut self, entries: &Entries<'_>) {
        self.memories = entries.len();
        if let (false, Some(checks)) = (self.free, &self.checks) {
            self.known = entries.known(checks);
        }
    }

    /// Whether a document may pass, as far as its segment knows.
    pub fn may(&self, document: usize) -> bool {
        self.known.get(document) != Some(&Known::No)
    }

    /// How many documents may pass, at most; `None` where nothing is known of them.
    pub fn possible(&self) -> Option<usize> {
        let possible = self.known.iter().filter(|known| **known != Known::No);
        (!self.known.is_empty()).then(|| possible.count())
    }

    /// The first `wanted` of the candidates that may be a result. Where too few are, the caller has `more` to ask for.
    ///
    /// Without any condition all may, until [`Self::ask`]: those that are superseded or expired, which
    /// are few, drop out when the rows are fetched.
    pub fn first(&self, all: &[Candidate], wanted: usize, more: usize) -> Result<Vec<Uuid>> {
        if self.free {
            return Ok(all.iter().take(wanted).map(|c| c.id).collect());
        }
        let mut asked = self.asked.borrow_mut();
        let mut out = Vec::with_capacity(wanted.min(all.len()));
        let (mut rest, mut size) = (all, FEWEST);
        // To have the layers of all told by a statement is dearer than any number of looks.
        let layers = self.checks.as_ref().is_some_and(Checks::layers);
        let dear = if self.checks.as_ref().is_some_and(Checks::whole) {
            LOOKED_AT
        } else {
            LOOKED_UP
        };
        while out.len() < wanted && !rest.is_empty() {
            let (chunk, others) = rest.split_at(size.min(rest.len()));
            rest = others;
            self.look_up(&mut asked, chunk)?;
            let ids = chunk.iter().map(|c| &c.id);
            out.extend(ids.filter(|id| asked.passed.contains(id)));
            // How many more have to be asked, if as many pass as until now.
            let seen = (all.len() - rest.len()) as f64;
            let missing = wanted.saturating_sub(out.len()) as f64;
            let expected =
                (missing * seen / out.len().max(1) as f64).min((rest.len() + more) as f64);
            if !asked.whole
                && !layers
                && seen >= SAMPLE
                && expected * self.lanes as f64 > self.memories as f64 / dear
                && let Some(sql) = &self.whole
            {
                asked.passed = self.run(sql, &[])?;
                asked.whole = true;
            }
            size = (expected * 1.25).min(4.0 * seen) as usize;
            size = size.clamp(FEWEST, MOST);
        }
        out.truncate(wanted);
        Ok(out)
    }

    fn look_up(&self, known: &mut Asked, candidates: &[Candidate]) -> Result<()> {
        if known.whole {
            return Ok(());
        }
        let mut new: Vec<Candidate> = Vec::new();
        for candidate in candidates {
            match self.known.get(candidate.document) {
                Some(Known::No) => {}
                Some(Known::Yes) => {
                    known.passed.insert(candidate.id);
                }
                _ if known.asked.insert(candidate.id) => new.push(*candidate),
                _ => {}
            }
        }
        let ids: Vec<Uuid> = match &self.checks {
            Some(checks) => {
                // Those that lie together one after the other.
                new.sort_unstable_by_key(|c| c.place.map(|p| (p.block, p.offset)));
                self.look_at(known, checks, &new)?
            }
            None => new.into_iter().map(|c| c.id).collect(),
        };
        if !ids.is_empty() {
            known.passed.extend(self.run(&self.sql, &ids)?);
        }
        Ok(())
    }

    /// Looks at the rows of candidates; gives back those of which a statement has to be asked.
    fn look_at(
        &self,
        known: &mut Asked,
        checks: &Checks,
        candidates: &[Candidate],
    ) -> Result<Vec<Uuid>> {
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let memories = Table::open(c"memories")?;
        let key = [memories.column(c"workspace_id")?, memories.column(c"id")?];
        let mut rows = Placed::new(&memories, key, i16::MAX)?;
        let mut memory = PgMemoryContexts::new("engram filter");
        let mut states = None;
        if checks.layers() {
            if self.rules.get().is_none() {
                // Nobody else can have set them meanwhile.
                let _ = self.rules.set(LayerRules::read(self.context.workspace)?);
            }
            states = Some(Table::open(c"memory_state")?);
        }
        let layers = states.as_ref().zip(self.rules.get());
        let layers = layers.map(|(states, rules)| Layers::new(&memories, states, rules));
        let mut layers = layers.transpose()?;
        let mut rest = Vec::new();
        let mut look = |id: Uuid, row: &Row<'_>| {
            // Long values take memory until they have been looked at.
            let mut asked = |layer| {
                // SAFETY: nothing that is made meanwhile is kept.
                unsafe {
                    memory.reset();
                    memory.switch_to(|_| checks.passes(row, layer))
                }
            };
            let mut passes = asked(None);
            // Only where nothing else decides. What cannot be read, the statement says.
            if passes.is_none()
                && let Some(layers) = &mut layers
                && let Ok(Some(layer)) = layers.of(row)
            {
                passes = asked(Some(layer));
            }
            match passes {
                Some(true) => {
                    known.passed.insert(id);
                }
                Some(false) => {}
                None => rest.push(id),
            }
        };
        let mut nowhere = Vec::new();
        for candidate in candidates {
            if candidate.place.is_none() {
                nowhere.push(candidate.id);
                continue;
            }
            let key = [self.context.workspace, candidate.id];
            if let Some(row) = rows.find(key, candidate.place, |_| true) {
                look(candidate.id, &row);
            }
        }
        rows.each(self.context.workspace, &nowhere, |row| {
            // SAFETY: the column is a uuid; the lookup has checked it.
            if let Some(id) = unsafe { row.uuid(key[1]) } {
                look(id, row);
            }
        });
        Ok(rest)
    }

    fn run(&self, sql: &str, ids: &[Uuid]) -> Result<IdSet> {
        let mut args = vec![
            DatumWithOid::from(spi::pg_uuid(self.context.workspace)),
            DatumWithOid::from(spi::pg_uuids(ids)),
            DatumWithOid::from(self.context.at),
            DatumWithOid::from(self.types.clone()),
            DatumWithOid::from(self.context.superseded),
            DatumWithOid::from(self.context.expired),
            DatumWithOid::from(JsonB(self.params.clone())),
            DatumWithOid::from(self.phrases.as_deref()),
            DatumWithOid::from(self.context.text_config.as_str()),
        ];
        if let Some(past) = &self.context.past {
            args.push(DatumWithOid::from(past.as_of));
        }
        let rows = spi::rows(sql, &args, spi::id)?;
        Ok(rows.into_iter().flatten().map(spi::uuid).collect())
    }
}
