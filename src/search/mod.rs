//! Search. [`search`] reads from top to bottom: resolve, parse, collect candidates, fuse, fetch.
//!
//! Candidates (ids and scores) come from what the workspace's blocks hold, whoever asks, always under
//! the one workspace that the caller was found to be allowed. Which of them are
//! [`Eligible`], and the rows in the end, is asked as the caller: the policies on the table decide.
//! Where a policy of the user's own hides part of a workspace, the statistics that scores are made of
//! come from the visible part alone.

mod checks;
mod corpus;
mod eligible;
mod fuzzy;
pub mod ids;
pub mod need;
mod past;
mod semantic;
mod similar;
mod words;

pub use past::check as check_as_of;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::rc::Rc;

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::spi::SpiHeapTupleData;
use pgrx::{FromDatum, pg_sys};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::api::shorten;
use crate::blocks::segment::Place;
use crate::error::{Error, Result};
use crate::graph::{Graph, Rules};
use crate::heap::Placed;
use crate::model::bm25;
use crate::model::heat::Weights;
use crate::model::similarity::Distance;
use crate::model::{dates, fusion, ranking};
use crate::privilege::AsOwner;
use crate::raw::RawJsonb;
use crate::scan::{Lookup, Row, Table, Tuple};
use crate::text::Date;
use crate::uses::{self, Call};
use crate::{identity, own, query, rows, spi};
pub use checks::gather;
use corpus::{Corpus, Entries, Sessions};
pub use eligible::compile as compile_filter;
use eligible::{Candidate, Eligible};
use ids::{IdMap, IdSet, NumberMap};
use past::Past;
use semantic::{MOST_DOUBTED, Semantic};
use words::Words;

/// What a caller asks for; `None` and empty mean the default.
pub struct Request {
    pub text: Option<String>,
    pub embedding: Option<Vec<f32>>,
    pub match_count: Option<i32>,
    pub filter: Option<Value>,
    pub types: Option<Vec<Option<String>>>,
    pub min_score: Option<f64>,
    pub explain: bool,
    pub include: Option<Vec<Option<String>>>,
    pub model: Option<String>,
    pub at: TimestampWithTimeZone,
    pub workspace: Option<pgrx::Uuid>,
    /// The moment whose recorded state is searched; `None` is the present.
    pub as_of: Option<TimestampWithTimeZone>,
    /// What likeness to a better one takes off a score, 0 to 1.
    pub diversity: f64,
}

/// What of a request decides about rows that have been found.
struct Conditions {
    match_count: usize,
    min_score: Option<f64>,
    explain: bool,
    diversity: f64,
}

/// One row of the result.
pub struct Hit {
    pub id: Uuid,
    pub content: String,
    pub kind: String,
    pub score: f64,
    pub importance: f64,
    pub tags: Vec<String>,
    pub metadata: RawJsonb,
    pub speaker: Option<String>,
    pub role: Option<String>,
    pub session_id: Option<String>,
    pub occurred_at: Option<TimestampWithTimeZone>,
    pub created_at: TimestampWithTimeZone,
    pub matched: Vec<String>,
    pub explain: Option<Value>,
    /// Memories that contradict it and still stand.
    contradicted_by: Vec<Uuid>,
    /// Memories that say the same and were left out.
    repeats: Vec<Uuid>,
}

/// Candidates up to which the likeliest cells hold enough.
const MOST_LIKELY: usize = 300;

/// Most rows that one search returns.
pub const MAX_MATCH_COUNT: i32 = 1000;

/// What every part of one search needs to know.
struct Context {
    workspace: Uuid,
    owner: pg_sys::Oid,
    match_count: usize,
    pool: usize,
    weights: ranking::Weights,
    activation_weight: f64,
    importance_weight: f64,
    /// d of base-level activation, where nothing else is asked.
    decay: f64,
    contradiction_weight: f64,
    /// Most that links add.
    link_weight: f64,
    link_rules: Rules,
    /// What being returned counts, for who notes it; `None` where that is not known.
    shown_gain: Option<f64>,
    /// Calls that wait to be folded.
    waiting: Vec<Call>,
    /// Cosine from which memories of the same words are one; 1 for never.
    duplicate_similarity: f64,
    /// What a word counts that is taken for another.
    fuzzy_weight: f64,
    /// Vectors from which on only those of the likeliest cells are compared.
    approximate_from: usize,
    bm25: bm25::Params,
    model: Option<Model>,
    at: TimestampWithTimeZone,
    text_config: String,
    /// Superseded memories may be results.
    superseded: bool,
    /// Expired memories may be results.
    expired: bool,
    /// A policy of the user's own may hide rows of the workspace.
    partly_hidden: bool,
    /// What was otherwise at the moment that is searched.
    past: Option<Past>,
}

struct Model {
    name: String,
    dims: i32,
    distance: Distance,
}

impl Model {
    /// The model that is named; else the default, unless the query has another length and just one model
    /// has that: while one model replaces another, callers of both are served.
    fn of(name: Option<&str>, dims: Option<usize>) -> Result<Option<Self>> {
        let table = Table::open(c"embedding_models")?;
        // Where a policy of the user's own decides, it is asked; so is who may not read all columns.
        let visible: Option<Vec<String>> = if rows::sees_models(&table) {
            None
        } else {
            let sql = "SELECT m.name FROM (SELECT * FROM engram.embedding_models) m";
            let names = spi::rows(sql, &[], |row| Ok(row.get::<String>(1)?))?;
            Some(names.into_iter().flatten().collect())
        };
        let [named, length, distance, default] = [
            table.column(c"name")?,
            table.column(c"dims")?,
            table.column(c"distance")?,
            table.column(c"is_default")?,
        ];
        let mut models: Vec<(Self, bool)> = Vec::new();
        table.each(None, i16::MAX, |row| {
            // SAFETY: the columns have these types; setup() made them. All is copied.
            let (model, is_default) = unsafe {
                let distance: String = row.get(distance).unwrap_or_default();
                let model = Self {
                    name: row.get(named).unwrap_or_default(),
                    dims: row.get(length).unwrap_or(0),
                    distance: Distance::parse(&distance).unwrap_or(Distance::Cosine),
                };
                (model, row.get(default).unwrap_or(false))
            };
            let seen = visible.as_ref().is_none_or(|v| v.contains(&model.name));
            if seen && name.is_none_or(|name| name == model.name) {
                models.push((model, is_default));
            }
            Ok(())
        })?;
        let fits = |model: &Self| dims.is_some() && usize::try_from(model.dims).ok() == dims;
        let fitting = models.iter().filter(|(model, _)| fits(model)).count();
        let default_fits = models
            .iter()
            .any(|(model, default)| *default && fits(model));
        let chosen = models.into_iter().find(|(model, default)| {
            name.is_some()
                || if fitting == 1 && !default_fits {
                    fits(model)
                } else {
                    *default
                }
        });
        Ok(chosen.map(|(model, _)| model))
    }
}

/// The settings of a workspace, and the defaults.
struct Settings {
    table: Table,
    own: Option<Tuple>,
    defaults: Tuple,
    /// The caller sees all of them.
    whole: bool,
}

impl Settings {
    fn read(workspace: Uuid) -> Result<Self> {
        let table = Table::open(c"settings")?;
        // As for models.
        let visible: Option<IdSet> = if rows::sees_settings(&table) {
            None
        } else {
            let ids = spi::rows(
                "SELECT s.workspace_id FROM (SELECT * FROM engram.settings) s WHERE s.workspace_id = ANY ($1)",
                &[DatumWithOid::from(spi::pg_uuids(&[workspace, Uuid::nil()]))],
                spi::id,
            )?;
            Some(ids.into_iter().flatten().map(spi::uuid).collect())
        };
        let mut rows = Lookup::new(&table)?;
        let mut of = |workspace| {
            if visible.as_ref().is_some_and(|v| !v.contains(&workspace)) {
                return None;
            }
            rows.find([workspace])?;
            Some(Tuple::new(&table, rows.tuple()))
        };
        let own = of(workspace);
        let Some(defaults) = of(Uuid::nil()) else {
            return Err(Error::no_defaults());
        };
        drop(rows);
        Ok(Self {
            whole: visible.is_none(),
            table,
            own,
            defaults,
        })
    }

    /// The value of a column: the workspace's own, else the default.
    fn get<T: FromDatum>(&self, name: &CStr) -> Result<Option<T>> {
        let column = self.table.column(name)?;
        let mut rows = self.own.iter().chain([&self.defaults]);
        // SAFETY: callers name columns of the type; setup() made them.
        Ok(rows.find_map(|row| unsafe { row.row().get(column) }))
    }
}

/// What a search found, and what noting it needs to know.
pub struct Found {
    pub hits: Vec<Hit>,
    /// The workspace's `shown_gain`, where the caller sees all settings.
    pub shown_gain: Option<f64>,
}

/// Runs a search.
pub fn search(request: Request) -> Result<Vec<Hit>> {
    Ok(find(request)?.hits)
}

/// Runs a search whose results will be noted.
pub fn find(request: Request) -> Result<Found> {
    let match_count = match_count(request.match_count)?;
    if let Some(min) = request.min_score
        && !min.is_finite()
    {
        return Err(Error::invalid(
            format!("min_score is {min}"),
            "Give a number from 0 to 1, or leave it out.",
        ));
    }
    if !(0.0..=1.0).contains(&request.diversity) {
        return Err(Error::invalid(
            format!("diversity is {}", request.diversity),
            "Give a number from 0, which ranks by score alone, to 1.",
        ));
    }
    past::check(request.as_of)?;
    if request.at.is_infinity() || request.at.is_neg_infinity() {
        return Err(Error::invalid(
            "at is infinite",
            "Give a moment in time, or leave it out.",
        ));
    }
    let Some((mut context, blocks)) = Context::resolve(&request, match_count)? else {
        return Ok(Found {
            hits: Vec::new(),
            shown_gain: None,
        });
    };
    if let Some(as_of) = request.as_of {
        context.past = Some(Past::read(&context, as_of)?);
    }
    // Uses after `at` count as they do once they are folded.
    let until = context.past.as_ref().map_or(i64::MAX, |p| p.at());
    context.waiting = uses::waiting(context.workspace, until)?;
    let parsed = query::parse(request.text.as_deref().unwrap_or(""));
    let named = Named {
        names: query::names(&parsed.free),
        dates: dates::named(&parsed.free),
    };
    let analysed = words::analyse(&parsed, &context.text_config)?;
    let mut eligible = Eligible::new(&context, &request, &analysed)?;
    let nothing_asked = request.text.is_none() && request.embedding.is_none();
    let mut semantic = match request.embedding {
        Some(embedding) => Some(Semantic::new(&context, embedding)?),
        None => None,
    };
    let mut corpus = Corpus::read(&context, &blocks, &analysed.words())?;
    eligible.of(&corpus.entries);
    let taken = fuzzy::take(&context, &blocks, &parsed.free, &analysed, &mut corpus)?;
    let corpus = Rc::new(corpus);
    let words = if nothing_asked {
        None
    } else {
        if let Some(lane) = &mut semantic {
            // Conditions want all: those that pass may be anywhere.
            let likeliest = !eligible.asks()
                && !context.partly_hidden
                && context.past.is_none()
                && context.pool <= MOST_LIKELY
                && !analysed.restricts();
            lane.read(&blocks, likeliest)?;
            if let Some(past) = &context.past {
                lane.points.entries.discard(&past.rewritten);
            }
        }
        Some(Rc::new(Words::new(
            &context,
            &corpus,
            &named.names,
            &analysed,
            taken,
        )?))
    };
    let admitted = analysed.admitted(&corpus);
    let conditions = Conditions {
        match_count,
        min_score: request.min_score,
        explain: request.explain,
        diversity: request.diversity,
    };
    loop {
        let ranked = match &words {
            None => needed(&context, &corpus, &eligible)?,
            Some(words) => rank(
                &context,
                &corpus,
                &eligible,
                admitted.as_deref(),
                words.clone(),
                &mut semantic,
                &named,
            )?,
        };
        let (hits, short) = fetch(&context, &eligible, ranked, &conditions)?;
        // What is over may have taken the places of others: then it is asked for beforehand.
        if short && eligible.ask(&corpus.entries) {
            continue;
        }
        return Ok(Found {
            hits,
            shown_gain: context.shown_gain,
        });
    }
}

fn match_count(given: Option<i32>) -> Result<usize> {
    let count = given.unwrap_or(10);
    if !(1..=MAX_MATCH_COUNT).contains(&count) {
        return Err(Error::invalid(
            format!("match_count is {count}"),
            format!("Give a number from 1 to {MAX_MATCH_COUNT}."),
        ));
    }
    Ok(count.unsigned_abs() as usize)
}

/// The workspace that a call reads, by default the caller's own; `None` when the caller is nobody.
pub fn workspace_of(workspace: Option<pgrx::Uuid>) -> Result<Option<Uuid>> {
    // One's own workspace needs no further question.
    if let Some(mine) = identity::caller().id
        && workspace.is_none_or(|named| spi::uuid(named) == mine)
        && own::readable_is_own()
    {
        return Ok(Some(mine));
    }
    let found = spi::row(
        "SELECT engram_internal.resolve_workspace($1, false)",
        &[DatumWithOid::from(workspace)],
        spi::id,
    )?;
    Ok(found.flatten().map(spi::uuid))
}

impl Context {
    /// `None` when the caller is nobody: then nothing is there to be found.
    fn resolve(request: &Request, match_count: usize) -> Result<Option<(Self, Table)>> {
        let Some(workspace) = workspace_of(request.workspace)? else {
            return Ok(None);
        };
        // First of all, for their error: a store of an older version lacks more than these.
        let blocks = Table::open(c"search_blocks")?;
        Table::open(c"hebbian_links")?;
        let memories = Table::open(c"memories")?;
        let partly_hidden = rows::partly_hidden(&memories);
        let settings = Settings::read(workspace)?;
        let number = |name, otherwise| Ok::<f64, Error>(settings.get(name)?.unwrap_or(otherwise));
        let candidates: Option<i32> = settings.get(c"candidates")?;
        let dims = request.embedding.as_ref().map(Vec::len);
        let mut context = Self {
            workspace,
            owner: memories.owner(),
            match_count,
            pool: usize::try_from(candidates.unwrap_or(100))
                .unwrap_or(100)
                .max(match_count * 3),
            weights: ranking::Weights {
                vector: number(c"vector_weight", 0.5)?,
                coverage: number(c"coverage_weight", 0.5)?,
                context: number(c"context_weight", 0.2)?,
                lend: number(c"lend_weight", 0.4)?,
                speaker: number(c"speaker_weight", 0.1)?,
                date: number(c"date_weight", 0.2)?,
                question: number(c"question_weight", 0.1)?,
                length: number(c"length_weight", 0.1)?,
            },
            activation_weight: number(c"activation_weight", 0.1)?,
            importance_weight: number(c"importance_weight", 0.05)?,
            decay: number(c"decay", 0.5)?,
            contradiction_weight: number(c"contradiction_weight", 0.3)?,
            link_weight: number(c"link_weight", 0.2)?,
            link_rules: Rules::new(
                settings.get(c"link_threshold")?,
                settings.get(c"link_prune")?,
                settings.get(c"link_limit")?,
                settings.get(c"link_half_life_days")?,
                settings.get(c"link_members")?,
            ),
            shown_gain: if settings.whole {
                settings.get(c"shown_gain")?
            } else {
                None
            },
            // Until setup() brings the store of an older version up to date, what is new is off.
            duplicate_similarity: number(c"duplicate_similarity", 1.0).unwrap_or(1.0),
            fuzzy_weight: number(c"fuzzy_weight", 0.0).unwrap_or(0.0),
            approximate_from: settings
                .get(c"approximate_from")
                .ok()
                .flatten()
                .and_then(|from: i32| usize::try_from(from).ok())
                .unwrap_or(usize::MAX),
            bm25: bm25::Params {
                k1: number(c"bm25_k1", 1.2)?,
                pivot: number(c"bm25_pivot", 30.0)?,
            },
            model: Model::of(request.model.as_deref(), dims)?,
            at: request.at,
            superseded: false,
            expired: false,
            text_config: settings
                .get(c"text_config")?
                .unwrap_or_else(|| "pg_catalog.english".to_owned()),
            partly_hidden,
            waiting: Vec::new(),
            past: None,
        };
        if let (Some(name), None) = (&request.model, &context.model) {
            spi::row(
                "SELECT engram_internal.refuse_model($1)",
                &[DatumWithOid::from(name.as_str())],
                |_| Ok(()),
            )?;
        }
        for state in request.include.as_deref().unwrap_or_default() {
            match state.as_deref() {
                Some("superseded") => context.superseded = true,
                Some("expired") => context.expired = true,
                other => {
                    return Err(Error::invalid(
                        format!("include has {:?}", shorten(other.unwrap_or("NULL"))),
                        "search can include superseded and expired; engram.list() also includes forgotten.",
                    ));
                }
            }
        }
        Ok(Some((context, blocks)))
    }

    /// Runs a query of the candidate stage, with the rights of the store's owner.
    fn as_owner<T>(
        &self,
        sql: &str,
        args: &[DatumWithOid<'_>],
        map: impl FnMut(&SpiHeapTupleData<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let _owner = AsOwner::new(self.owner);
        spi::rows(sql, args, map)
    }

    /// All memories that the caller may see.
    fn visible(&self) -> Result<IdSet> {
        let rows = spi::rows(
            include_str!("sql/visible.sql"),
            &[DatumWithOid::from(spi::pg_uuid(self.workspace))],
            spi::id,
        )?;
        Ok(rows.into_iter().flatten().map(spi::uuid).collect())
    }
}

/// What the question names.
struct Named {
    /// Runs of words that may be names of entities and speakers.
    names: Vec<String>,
    dates: Vec<dates::Named>,
}

/// Words that matched and, if asked for, the parts of the score.
type Description = (Vec<String>, Option<Map<String, Value>>);

/// Candidates in order, with what explains them.
struct Ranked<'a> {
    /// Score and index, best first.
    order: Vec<(f64, usize)>,
    /// The id of one by its index.
    id: Box<dyn Fn(usize) -> Uuid + 'a>,
    /// Where its row and its state may be.
    places: Box<dyn Fn(usize) -> [Option<Place>; 2] + 'a>,
    /// Describes one by its index; the flag asks for the parts of the score.
    describe: Box<dyn Fn(usize, bool) -> Description + 'a>,
}

/// The memories most needed now, whatever they say.
fn needed(
    context: &Context,
    corpus: &Corpus<'_>,
    eligible: &Eligible<'_>,
) -> Result<Ranked<'static>> {
    let mut levels = need::levels(context)?;
    let ids: Vec<Uuid> = levels.iter().map(|(id, _)| *id).collect();
    let places = corpus.entries.find(&ids);
    levels.retain(|(id, _)| places.contains_key(id));
    levels.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| b.0.cmp(&a.0)));
    let all: Vec<Candidate> = (levels.iter())
        .map(|(id, _)| corpus.entries.candidate(places[id]))
        .collect();
    let passed: IdSet = eligible.first(&all, context.pool, 0)?.into_iter().collect();
    levels.retain(|(id, _)| passed.contains(id));
    let ids: Vec<Uuid> = levels.iter().map(|(id, _)| *id).collect();
    let scores = fusion::min_max(&levels.iter().map(|(_, level)| *level).collect::<Vec<_>>());
    let order = scores.iter().copied().zip(0..).collect();
    Ok(Ranked {
        order,
        id: Box::new(move |i| ids[i]),
        places: Box::new(|_| [None; 2]),
        describe: Box::new(move |i, explain| {
            let lanes = || json!({"need": {"score": levels[i].1, "normalized": scores[i], "weight": 1.0, "contribution": scores[i]}});
            let parts = explain.then(|| Map::from_iter([("lanes".to_owned(), lanes())]));
            (Vec::new(), parts)
        }),
    })
}

/// The best `pool` of what a lane has found (score, place), best first, eligible all. Of equals the
/// newer memory comes first. `more` were found that are not among them.
fn best(
    eligible: &Eligible<'_>,
    entries: &Entries<'_>,
    candidate: &dyn Fn(u32) -> Candidate,
    mut found: Vec<(f64, u32)>,
    pool: usize,
    more: usize,
) -> Result<Vec<u32>> {
    let order = |a: &(f64, u32), b: &(f64, u32)| {
        b.0.total_cmp(&a.0)
            .then_with(|| entries.compare(b.1 as usize, a.1 as usize))
    };
    // What comes after twice the pool is looked at only when conditions have eaten what came before.
    let wanted = if eligible.asks() { pool * 2 } else { pool };
    let mut head: Vec<(f64, u32)> = Vec::with_capacity(pool * 8);
    let mut least = f64::NEG_INFINITY;
    for f in &found {
        if f.0 < least {
            continue;
        }
        head.push(*f);
        if head.len() >= pool * 8 {
            head.select_nth_unstable_by(wanted, order);
            head.truncate(wanted);
            least = head.iter().map(|f| f.0).fold(f64::INFINITY, f64::min);
        }
    }
    if head.len() > wanted {
        head.select_nth_unstable_by(wanted, order);
        head.truncate(wanted);
    }
    head.sort_unstable_by(order);
    let passed = |part: &[(f64, u32)], wanted: usize, more: usize| -> Result<Vec<u32>> {
        if !eligible.asks() {
            return Ok(part.iter().take(wanted).map(|f| f.1).collect());
        }
        let all: Vec<Candidate> = part.iter().map(|f| candidate(f.1)).collect();
        let chosen: IdSet = eligible.first(&all, wanted, more)?.into_iter().collect();
        Ok(part
            .iter()
            .zip(&all)
            .filter(|(_, c)| chosen.contains(&c.id))
            .map(|(f, _)| f.1)
            .collect())
    };
    let mut looked = head.len();
    let mut out = passed(&head, pool, found.len() - looked + more)?;
    if out.len() < pool && looked < found.len() {
        // Those that have been looked at go to the front.
        found.select_nth_unstable_by(looked, order);
    }
    // What comes next, three times as much as before each time.
    while out.len() < pool && looked < found.len() {
        pgrx::check_for_interrupts!();
        let rest = &mut found[looked..];
        let count = rest.len().min(2 * looked.max(1));
        if count < rest.len() {
            rest.select_nth_unstable_by(count, order);
        }
        let left = rest.len() - count;
        let next = &mut rest[..count];
        next.sort_unstable_by(order);
        out.extend(passed(next, pool - out.len(), left + more)?);
        looked += count;
    }
    Ok(out)
}

/// Candidates of each lane whose neighbours in the session become candidates as well.
const GROWN: usize = 20;

/// Collects the candidates of the lanes and fuses them: best first, ties to the newer memory.
fn rank<'a>(
    context: &Context,
    corpus: &Rc<Corpus<'a>>,
    eligible: &Eligible<'_>,
    admitted: Option<&[bool]>,
    words: Rc<Words>,
    semantic: &mut Option<Semantic<'_>>,
    named: &Named,
) -> Result<Ranked<'a>> {
    let admitted = |document: usize| admitted.is_none_or(|a| a[document]) && eligible.may(document);
    let found = words
        .scores
        .iter()
        .filter(|s| admitted(s.document as usize))
        .map(|s| (s.covered(&context.weights), s.document))
        .collect();
    let document = |d: u32| corpus.entries.candidate(d as usize);
    let by_words: Vec<usize> = best(eligible, &corpus.entries, &document, found, context.pool, 0)?
        .into_iter()
        .map(|d| d as usize)
        .collect();
    let (by_vector, mut vectors) = match semantic {
        Some(lane) => {
            if eligible.asks() {
                lane.points.complete()?;
            }
            let found = nearest(context, corpus, eligible, &admitted, lane)?;
            // Many in the likeliest cells are forgotten, say.
            if lane.points.partial() && found.0.len() < context.pool {
                lane.points.complete()?;
                nearest(context, corpus, eligible, &admitted, lane)?
            } else {
                found
            }
        }
        None => Default::default(),
    };
    let mut pool: Vec<usize> = by_words.iter().chain(&by_vector).copied().collect();
    let sessions = Sessions::of(corpus, &pool);
    let beside: Vec<usize> = by_words
        .iter()
        .take(GROWN)
        .chain(by_vector.iter().take(GROWN))
        .flat_map(|document| [sessions.near(*document, -1), sessions.near(*document, 1)])
        .flatten()
        .filter(|document| admitted(*document))
        .collect();
    if eligible.asks() {
        let all: Vec<Candidate> = (beside.iter())
            .map(|d| corpus.entries.candidate(*d))
            .collect();
        let passed: IdSet = eligible.first(&all, all.len(), 0)?.into_iter().collect();
        pool.extend(
            (beside.iter().zip(&all))
                .filter(|(_, c)| passed.contains(&c.id))
                .map(|(d, _)| *d),
        );
    } else {
        pool.extend(beside);
    }
    pool.sort_unstable();
    pool.dedup();

    // Every candidate is scored by every lane, and so are its neighbours.
    let mut around: Vec<usize> = pool
        .iter()
        .flat_map(|d| [Some(*d), sessions.near(*d, -1), sessions.near(*d, 1)])
        .flatten()
        .collect();
    around.sort_unstable();
    around.dedup();
    let similarities: Vec<Option<f64>> = match semantic {
        None => vec![None; around.len()],
        Some(lane) => {
            let rest: Vec<(usize, Uuid)> = around
                .iter()
                .filter(|d| !vectors.contains_key(d))
                .map(|d| (*d, corpus.entries.id(*d)))
                .collect();
            let ids: Vec<Uuid> = rest.iter().map(|(_, id)| *id).collect();
            let places = lane.points.entries.find(&ids);
            vectors.extend(
                rest.iter()
                    .filter_map(|(d, id)| Some((*d, *places.get(id)?))),
            );
            lane.points.know(
                around
                    .iter()
                    .filter_map(|document| vectors.get(document).copied()),
            )?;
            around
                .iter()
                .map(|d| Some(lane.similarity(*vectors.get(d)?)))
                .collect()
        }
    };
    let similarity = |document: &usize| similarities[around.binary_search(document).ok()?];
    let speaker = corpus.speaker_named(&named.names);
    let near = |document: usize, steps: isize| {
        let other = sessions.near(document, steps)?;
        let direct = steps.abs() == 1;
        Some(ranking::Near {
            pooled: pool.binary_search(&other).ok(),
            length: corpus.length(other).0,
            words: if direct {
                words
                    .score(other)
                    .map_or(0.0, |s| s.covered(&context.weights))
            } else {
                0.0
            },
            vector: if direct { similarity(&other) } else { None },
        })
    };
    let candidates: Vec<ranking::Candidate> = pool
        .iter()
        .map(|d| {
            let (length, question) = corpus.length(*d);
            let scored = words.score(*d);
            let said_by = corpus.speaker(*d);
            ranking::Candidate {
                words: scored.map_or(0.0, |s| s.score),
                coverage: scored.map_or(0.0, |s| s.coverage),
                vector: similarity(d),
                length,
                question,
                spoken: said_by != 0,
                speaker: speaker.is_some_and(|s| s == said_by),
                date: if named.dates.is_empty() {
                    0.0
                } else {
                    Date::from_postgres(corpus.time(*d))
                        .map_or(0.0, |date| dates::fit(&named.dates, date))
                },
                near: [-1, 1].map(|side| [1, 2, 3].map(|step| near(*d, side * step))),
            }
        })
        .collect();
    let (has_words, has_vectors) = (!by_words.is_empty(), !by_vector.is_empty());
    let parts = ranking::rank(&context.weights, &candidates, has_words, has_vectors);
    let mut documents = pool;
    let mut order: Vec<(f64, usize)> = parts.iter().map(ranking::Parts::score).zip(0..).collect();
    let sort = |order: &mut Vec<(f64, usize)>, documents: &[usize]| {
        order.sort_by(|a, b| {
            let older = || corpus.entries.compare(documents[b.1], documents[a.1]);
            b.0.total_cmp(&a.0).then_with(older)
        });
    };
    sort(&mut order, &documents);
    let mut linked = vec![0.0; documents.len()];
    let links = associated(context, corpus, &order, &documents)?;
    if !links.is_empty() {
        let ids: Vec<Uuid> = links.keys().copied().collect();
        let places = corpus.entries.find(&ids);
        let mut others: Vec<Candidate> = Vec::new();
        for (id, place) in &places {
            match documents.binary_search(place) {
                Ok(known) => linked[known] = links[id],
                Err(_) if admitted(*place) => others.push(corpus.entries.candidate(*place)),
                Err(_) => {}
            }
        }
        for (score, i) in &mut order {
            *score += linked[*i];
        }
        for id in eligible.first(&others, others.len(), 0)? {
            order.push((links[&id], documents.len()));
            documents.push(places[&id]);
            linked.push(links[&id]);
        }
        sort(&mut order, &documents);
    }
    let weights = fusion::weights(context.weights.vector, has_words, has_vectors);
    let likeliest = (semantic.as_ref()).is_some_and(|lane| lane.points.partial());
    let corpus = corpus.clone();
    let documents = Rc::new(documents);
    let ids = (corpus.clone(), documents.clone());
    let places = ids.clone();
    Ok(Ranked {
        order,
        id: Box::new(move |i| ids.0.entries.id(ids.1[i])),
        places: Box::new(move |i| {
            let (entries, document) = (&places.0.entries, places.1[i]);
            [entries.row(document), entries.state(document)]
        }),
        describe: Box::new(move |i, explain| {
            let found = words.parts(&corpus, documents[i]);
            let parts = explain.then(|| {
                let mut parts = match candidates.get(i) {
                    Some(candidate) => explained(candidate, &parts[i], weights, &found, likeliest),
                    None => Map::new(),
                };
                if linked[i] > 0.0 {
                    parts.insert("links".to_owned(), Value::from(linked[i]));
                }
                parts
            });
            (words::names_of(&found), parts)
        }),
    })
}

/// Hits from which activation spreads over links.
const SEEDS: usize = 5;
/// Difference of scores that makes one hit e times as likely a start as another.
const SEED_SCALE: f64 = 0.1;
/// Memories, the strongest, from which it goes on for a second hop, and what that counts.
const GOING_ON: usize = 16;
const SECOND_HOP: f64 = 0.5;

/// What links to the best hits add to scores, 0 to `link_weight`: memories that were used together with
/// them, or that somebody linked to them, one hop or two away, by how probable a random walk from the hits
/// comes there. The more links a memory has, the less each of them tells. Memories that no lane has found
/// join the candidates.
fn associated(
    context: &Context,
    corpus: &Corpus<'_>,
    order: &[(f64, usize)],
    documents: &[usize],
) -> Result<IdMap<f64>> {
    let Some((best, _)) = order.first() else {
        return Ok(IdMap::default());
    };
    // Which links there were at a moment that is past is not known.
    if context.link_weight == 0.0 || context.past.is_some() {
        return Ok(IdMap::default());
    }
    // For what statements are asked: where a call came late, or an index is not as setup() makes it.
    let _owner = AsOwner::new(context.owner);
    let (rules, waiting) = (context.link_rules, &context.waiting);
    let mut graph = Graph::open_direct(context.workspace, rules, context.at, waiting)?;
    if graph.is_empty() {
        return Ok(IdMap::default());
    }
    let mut seeds: Vec<(Uuid, f64)> = order
        .iter()
        .take(SEEDS)
        .map(|(score, i)| {
            let id = corpus.entries.id(documents[*i]);
            (id, ((score - best) / SEED_SCALE).exp())
        })
        .collect();
    let total: f64 = seeds.iter().map(|(_, weight)| weight).sum();
    for (_, weight) in &mut seeds {
        *weight /= total;
    }
    let mut reached = walk(&mut graph, corpus, &seeds)?;
    let mut onward: Vec<(Uuid, f64)> = reached
        .iter()
        .map(|(id, share)| (*id, *share))
        .filter(|(id, _)| !seeds.iter().any(|(seed, _)| seed == id))
        .collect();
    onward.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    onward.truncate(GOING_ON);
    // Not back to where it began.
    for (id, share) in walk(&mut graph, corpus, &onward)? {
        if !seeds.iter().any(|(seed, _)| *seed == id) {
            *reached.entry(id).or_default() += SECOND_HOP * share;
        }
    }
    Ok(reached
        .into_iter()
        .map(|(id, share)| (id, context.link_weight * share.min(1.0)))
        .collect())
}

/// Where one step of a random walk leads from memories with these shares. What is forgotten, or hidden from
/// the caller, is not in the corpus, and no step leads there.
fn walk(
    graph: &mut Graph,
    corpus: &Corpus<'_>,
    from: &[(Uuid, f64)],
) -> Result<BTreeMap<Uuid, f64>> {
    let mut reached: BTreeMap<Uuid, f64> = BTreeMap::new();
    let ids: Vec<Uuid> = from.iter().map(|(id, _)| *id).collect();
    let links = graph.neighbours(&ids)?;
    let ends: BTreeSet<Uuid> = links.values().flatten().map(|(to, _)| *to).collect();
    let ends: Vec<Uuid> = ends.into_iter().collect();
    let there = corpus.entries.find(&ends);
    for (id, share) in from {
        let to = links.get(id).map_or(&[][..], Vec::as_slice);
        let alive = || to.iter().filter(|(to, _)| there.contains_key(to));
        let sum: f64 = alive().map(|(_, weight)| weight).sum();
        for (to, weight) in alive() {
            *reached.entry(*to).or_default() += share * weight / sum;
        }
    }
    Ok(reached)
}

/// The parts of a score by name. Contributions of 0 are left out.
fn explained(
    candidate: &ranking::Candidate,
    parts: &ranking::Parts,
    weights: (f64, f64),
    words: &[(&str, f64)],
    likeliest: bool,
) -> Map<String, Value> {
    let mut lanes = Map::new();
    if weights.0 > 0.0 {
        lanes.insert(
            "words".to_owned(),
            json!({
                "score": parts.words,
                "bm25": candidate.words,
                "coverage": candidate.coverage,
                "parts": words::parts_object(words),
                "normalized": parts.words_normalized,
                "weight": weights.0,
                "contribution": parts.from_words,
            }),
        );
    }
    if weights.1 > 0.0 {
        let mut lane = json!({
            "score": parts.vector,
            "similarity": candidate.vector,
            "normalized": parts.vector_normalized,
            "weight": weights.1,
            "contribution": parts.from_vector,
        });
        if likeliest {
            lane["approximate"] = Value::from(true);
        }
        lanes.insert("vector".to_owned(), lane);
    }
    let mut out = Map::new();
    out.insert("lanes".to_owned(), Value::Object(lanes));
    for (name, contribution) in [
        ("neighbours", parts.from_neighbours),
        ("speaker", parts.from_speaker),
        ("date", parts.from_date),
        ("question", parts.from_question),
        ("length", parts.from_length),
    ] {
        if contribution != 0.0 {
            out.insert(name.to_owned(), Value::from(contribution));
        }
    }
    out
}

/// Documents of the best vectors, and the entries of vectors of these and more documents.
fn nearest(
    context: &Context,
    corpus: &Corpus<'_>,
    eligible: &Eligible<'_>,
    admitted: &dyn Fn(usize) -> bool,
    lane: &mut Semantic<'_>,
) -> Result<(Vec<usize>, NumberMap<usize>)> {
    let points = &lane.points;
    let similarity = |i: u32| points.similarities[i as usize];
    // Conditions take some away, and a few vectors are of memories that are not there to be found.
    let spare = if eligible.asks() {
        context.pool
    } else {
        context.pool / 8
    };
    let mut pool = context.pool;
    let mut wanted = pool + spare;
    if let Some(possible) = eligible.possible() {
        // How many of the best have to be looked at, if those that pass are as many everywhere. Where they
        // are fewer themselves, these are looked at instead.
        let share = points.similarities.len() as f64 / possible.max(1) as f64;
        let expected = (wanted as f64 * share).min(points.similarities.len() as f64);
        wanted = wanted.max(expected as usize);
        if possible <= wanted {
            return nearest_of(context, corpus, eligible, admitted, lane);
        }
    }
    let nothing = lane.nearly_nothing();
    loop {
        // The best so many; what is below the worst of them is passed over.
        let mut order: Vec<u32> = Vec::new();
        let mut least = f32::NEG_INFINITY;
        let mut all = true;
        let cut = |order: &mut Vec<u32>| {
            order.select_nth_unstable_by(wanted, |a, b| {
                similarity(*b)
                    .total_cmp(&similarity(*a))
                    .then_with(|| points.entries.compare(*b as usize, *a as usize))
            });
            order.truncate(wanted);
            order
                .iter()
                .map(|i| similarity(*i))
                .fold(f32::INFINITY, f32::min)
        };
        for (i, found) in points.similarities.iter().enumerate() {
            if *found < least || !points.knows(i) || *found <= nothing || !points.entries.alive(i) {
                continue;
            }
            order.push(i as u32);
            if order.len() >= wanted.saturating_mul(4) {
                least = cut(&mut order);
                all = false;
            }
        }
        if order.len() > wanted {
            cut(&mut order);
            all = false;
        }
        // A memory may have a vector and not be there to be found: forgotten, or hidden.
        let ids: Vec<Uuid> = order
            .iter()
            .map(|i| points.entries.id(*i as usize))
            .collect();
        let places = corpus.entries.find(&ids);
        let vectors: NumberMap<usize> = (order.iter().zip(&ids))
            .filter_map(|(i, id)| Some((*places.get(id)?, *i as usize)))
            .collect();
        let found = order
            .iter()
            .zip(&ids)
            .filter(|(_, id)| places.get(id).is_some_and(|document| admitted(*document)))
            .map(|(i, _)| (f64::from(points.similarities[*i as usize]), *i))
            .collect();
        let more = if all {
            0
        } else {
            points.similarities.len() - order.len()
        };
        let candidate = |i: u32| {
            corpus
                .entries
                .candidate(places[&points.entries.id(i as usize)])
        };
        let enough = best(eligible, &points.entries, &candidate, found, pool, more)?;
        if all || enough.len() >= pool {
            let mut ranked: Vec<usize> = enough.into_iter().map(|i| i as usize).collect();
            if pool == context.pool && ranked.len() == pool && lane.ends_too_early(&ranked) {
                pool += MOST_DOUBTED;
                wanted += MOST_DOUBTED;
                continue;
            }
            lane.rerank(&mut ranked)?;
            ranked.truncate(context.pool);
            let ids = ranked.iter().map(|i| lane.points.entries.id(*i));
            let documents = ids.filter_map(|id| places.get(&id).copied());
            return Ok((documents.collect(), vectors));
        }
        wanted = wanted.saturating_mul(8);
    }
}

/// As [`nearest`], of the documents that may pass, which are few.
fn nearest_of(
    context: &Context,
    corpus: &Corpus<'_>,
    eligible: &Eligible<'_>,
    admitted: &dyn Fn(usize) -> bool,
    lane: &mut Semantic<'_>,
) -> Result<(Vec<usize>, NumberMap<usize>)> {
    let points = &lane.points;
    let documents = (0..corpus.entries.len()).filter(|i| corpus.entries.alive(*i) && admitted(*i));
    let documents: Vec<(usize, Uuid)> = documents.map(|i| (i, corpus.entries.id(i))).collect();
    let ids: Vec<Uuid> = documents.iter().map(|(_, id)| *id).collect();
    let places = points.entries.find(&ids);
    let mut vectors: NumberMap<usize> = NumberMap::default();
    let mut of: NumberMap<usize> = NumberMap::default();
    let mut found: Vec<(f64, u32)> = Vec::new();
    let nothing = lane.nearly_nothing();
    for (document, id) in &documents {
        let Some(point) = places.get(id) else {
            continue;
        };
        let similarity = points.similarities[*point];
        if similarity > nothing {
            vectors.insert(*document, *point);
            of.insert(*point, *document);
            found.push((similarity.into(), *point as u32));
        }
    }
    let candidate = |i: u32| corpus.entries.candidate(of[&(i as usize)]);
    let first = |found, pool| -> Result<Vec<usize>> {
        let best = best(eligible, &points.entries, &candidate, found, pool, 0)?;
        Ok(best.into_iter().map(|i| i as usize).collect())
    };
    let mut ranked = first(found.clone(), context.pool)?;
    if ranked.len() == context.pool && lane.ends_too_early(&ranked) {
        ranked = first(found, context.pool + MOST_DOUBTED)?;
    }
    lane.rerank(&mut ranked)?;
    ranked.truncate(context.pool);
    let documents = ranked.iter().map(|i| of[i]).collect();
    Ok((documents, vectors))
}

/// Rows that are fetched beyond `match_count`, so that use and importance can lift one of them.
const SPARE: usize = 5;

/// A hit whose score is being made.
struct Scored {
    hit: Hit,
    /// For `describe`.
    index: usize,
    used: f64,
    important: f64,
    /// 0 or less.
    contradicted: f64,
    /// What likeness to better ones takes off; 0 or less.
    alike: f64,
}

/// Adds what corrects a result and was found far behind it, for it comes before it; and so on.
fn corrections(
    context: &Context,
    eligible: &Eligible<'_>,
    ranked: &Ranked<'_>,
    hits: &mut Vec<(Hit, usize)>,
) -> Result<()> {
    loop {
        let missing: IdSet = (hits.iter().flat_map(|(hit, _)| &hit.contradicted_by))
            .filter(|id| !hits.iter().any(|(hit, _)| hit.id == **id))
            .copied()
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let found: Vec<&(f64, usize)> = (ranked.order.iter())
            .filter(|(_, i)| missing.contains(&(ranked.id)(*i)))
            .collect();
        let places: Vec<(Uuid, Option<Place>)> = (found.iter())
            .map(|(_, i)| ((ranked.id)(*i), (ranked.places)(*i)[0]))
            .collect();
        let mut rows = rows_of(context, eligible, &places)?;
        let before = hits.len();
        for ((score, index), (id, _)) in found.into_iter().zip(&places) {
            if let Some(mut hit) = rows.remove(id) {
                hit.score = *score;
                hits.push((hit, *index));
            }
        }
        if hits.len() == before {
            return Ok(());
        }
    }
}

/// Fetches rows as the caller, best first, until `match_count` are filled or nothing is left: rows
/// that a policy hides, and repetitions of a better one, are skipped and made up for. Use,
/// importance, contradictions and diversity then add their share. Also tells whether rows were missing so that
/// too few are left, whatever their scores.
fn fetch(
    context: &Context,
    eligible: &Eligible<'_>,
    ranked: Ranked<'_>,
    request: &Conditions,
) -> Result<(Vec<Hit>, bool)> {
    let mut missing = false;
    let spare = if request.diversity > 0.0 {
        (2 * request.match_count).clamp(SPARE, similar::MOST)
    } else {
        request.match_count.min(SPARE)
    };
    let wanted = request.match_count + spare;
    let mut hits: Vec<(Hit, usize)> = Vec::with_capacity(wanted);
    // Contradicted ones may fall behind what comes after them.
    let mut undisputed = 0;
    let mut said = similar::Said::new(context);
    let disputes = context.contradiction_weight > 0.0;
    let mut rest = ranked.order.iter();
    while undisputed < wanted {
        let batch: Vec<&(f64, usize)> = rest.by_ref().take(wanted).collect();
        if batch.is_empty() {
            break;
        }
        let places: Vec<(Uuid, Option<Place>)> = batch
            .iter()
            .map(|(_, i)| ((ranked.id)(*i), (ranked.places)(*i)[0]))
            .collect();
        let mut rows = rows_of(context, eligible, &places)?;
        for ((score, index), (id, _)) in batch.into_iter().zip(&places) {
            let Some(mut hit) = rows.remove(id) else {
                missing = true;
                continue;
            };
            if undisputed < wanted {
                if let Some(first) = said.before(&hits, &hit)? {
                    hits[first].0.repeats.push(hit.id);
                    continue;
                }
                hit.score = *score;
                undisputed += usize::from(!disputes || hit.contradicted_by.is_empty());
                hits.push((hit, *index));
            }
        }
    }
    if disputes {
        corrections(context, eligible, &ranked, &mut hits)?;
    }
    let levels = used(context, &hits, &ranked)?;
    let mut sorted: Vec<f64> = levels.values().copied().collect();
    sorted.sort_by(f64::total_cmp);
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
    let mut scored: Vec<Scored> = hits
        .into_iter()
        .map(|(mut hit, index)| {
            let used = levels.get(&hit.id).map_or(0.0, |level| {
                context.activation_weight / (1.0 + (median - level).exp())
            });
            let important = context.importance_weight * (hit.importance - 0.5);
            hit.score += used + important;
            Scored {
                hit,
                index,
                used,
                important,
                contradicted: 0.0,
                alike: 0.0,
            }
        })
        .collect();
    if disputes {
        contradict(context.contradiction_weight, &mut scored);
    }
    if request.diversity > 0.0 {
        // Those that are contradicted lose again below, and others come into their places.
        let disputed = disputes && scored.iter().any(|s| !s.hit.contradicted_by.is_empty());
        let places = if disputed {
            usize::MAX
        } else {
            request.match_count
        };
        similar::spread(context, request.diversity, places, &mut scored)?;
        if disputes {
            contradict(0.0, &mut scored);
        }
    }
    let short = missing && scored.len() < request.match_count;
    scored.retain(|s| request.min_score.is_none_or(|min| s.hit.score >= min));
    scored.sort_by(|a, b| {
        let (a, b) = (&a.hit, &b.hit);
        b.score.total_cmp(&a.score).then_with(|| b.id.cmp(&a.id))
    });
    scored.truncate(request.match_count);
    let hits = scored
        .into_iter()
        .map(|scored| {
            let mut hit = scored.hit;
            let (matched, parts) = (ranked.describe)(scored.index, request.explain);
            hit.matched = matched;
            if let Some(mut parts) = parts {
                for (name, contribution) in [
                    ("activation", scored.used),
                    ("importance", scored.important),
                    ("contradicted", scored.contradicted),
                    ("diversity", scored.alike),
                ] {
                    if contribution != 0.0 {
                        parts.insert(name.to_owned(), Value::from(contribution));
                    }
                }
                if !hit.repeats.is_empty() {
                    let ids = hit.repeats.iter().map(Uuid::to_string).collect::<Vec<_>>();
                    parts.insert("repeats".to_owned(), json!(ids));
                }
                parts.insert("score".to_owned(), Value::from(hit.score));
                hit.explain = Some(Value::Object(parts));
            }
            hit
        })
        .collect();
    Ok((hits, short))
}

/// By how much a correction is above what it contradicts.
const CORRECTION: f64 = 1e-6;

/// A contradicted hit loses `weight`. Where that leaves it before all hits that contradict it, the best of these comes
/// right before it: who reads from the top meets a correction first. Two that contradict each other lose the same.
fn contradict(weight: f64, hits: &mut [Scored]) {
    let disputed: Vec<usize> = (0..hits.len())
        .filter(|i| !hits[*i].hit.contradicted_by.is_empty())
        .collect();
    for i in &disputed {
        hits[*i].contradicted -= weight;
        hits[*i].hit.score -= weight;
    }
    // What contradicts may be contradicted itself: as many rounds as the longest such chain, and an
    // end where they go in a circle.
    for _ in &disputed {
        let mut settled = true;
        for i in &disputed {
            let hit = &hits[*i].hit;
            let best = (0..hits.len())
                .filter(|other| {
                    let other = &hits[*other].hit;
                    hit.contradicted_by.contains(&other.id)
                        && !other.contradicted_by.contains(&hit.id)
                })
                .max_by(|a, b| hits[*a].hit.score.total_cmp(&hits[*b].hit.score));
            let score = hit.score;
            if let Some(best) = best
                && score >= hits[best].hit.score
            {
                let above = score + CORRECTION;
                hits[best].contradicted += above - hits[best].hit.score;
                hits[best].hit.score = above;
                settled = false;
            }
        }
        if settled {
            break;
        }
    }
}

/// Base level of those that were used since they were stored.
fn used(context: &Context, hits: &[(Hit, usize)], ranked: &Ranked<'_>) -> Result<IdMap<f64>> {
    if hits.is_empty() || context.activation_weight == 0.0 {
        return Ok(IdMap::default());
    }
    let ids: IdSet = hits.iter().map(|(hit, _)| hit.id).collect();
    let mut uses = need::by_memory(&context.waiting, |id| ids.contains(id));
    let weights = Weights::new(PRIOR_DECAY);
    let at = i64::from(context.at);
    let until = context.past.as_ref().map_or(i64::MAX, Past::at);
    let mut later: Vec<Uuid> = Vec::new();
    let mut levels: IdMap<f64> = IdMap::default();
    // The workspace has been checked; these are numbers of rows that the caller sees.
    let states = Table::open(c"memory_state")?;
    let [count, last, heat] = [
        states.column(c"access_count")?,
        states.column(c"last_accessed_at")?,
        states.column(c"heat")?,
    ];
    let key = [
        states.column(c"workspace_id")?,
        states.column(c"memory_id")?,
    ];
    let mut rows = Placed::new(&states, key, i16::MAX)?;
    let places: Vec<Option<Place>> = hits.iter().map(|(_, i)| (ranked.places)(*i)[1]).collect();
    rows.approach(places.iter().copied(), 192);
    for ((hit, _), place) in hits.iter().zip(places) {
        let id = hit.id;
        let Some(row) = rows.find([context.workspace, id], place, |_| true) else {
            continue;
        };
        // SAFETY: the columns have these types; setup() made them.
        let (count, last, heat) = unsafe {
            (
                row.get(count).unwrap_or(1),
                row.get(last).unwrap_or(0),
                row.bytes(heat),
            )
        };
        let more = uses.remove(&id);
        let waits = more.iter().flatten().any(|(_, gain)| *gain > 0.0);
        if count <= 1 && !waits {
            continue;
        }
        let heat = need::heat_of(heat, count, last)?;
        if last.max(heat.at) > until {
            later.push(id);
            continue;
        }
        levels.insert(id, need::with(heat, more).level_with(at, &weights));
    }
    if later.is_empty() {
        return Ok(levels);
    }
    let ids: IdSet = later.iter().copied().collect();
    let mut uses = need::by_memory(&context.waiting, |id| ids.contains(id));
    for (id, (count, heat)) in past::replayed(context, &later)? {
        let more = uses.remove(&id);
        if count > 1 || more.iter().flatten().any(|(_, gain)| *gain > 0.0) {
            levels.insert(id, need::with(heat, more).level_with(at, &weights));
        }
    }
    Ok(levels)
}

/// Decay of the prior: slower than the ½ of the theory, which fits memories that are needed for longer.
const PRIOR_DECAY: f64 = 0.3;

/// The rows of these memories that the caller may see, without scores.
fn rows_of(
    context: &Context,
    eligible: &Eligible<'_>,
    wanted: &[(Uuid, Option<Place>)],
) -> Result<IdMap<Hit>> {
    let memories = Table::open(c"memories")?;
    if context.past.is_none() && rows::all_visible(&memories, context.workspace) {
        return rows_directly(context, eligible, &memories, wanted);
    }
    let ids: Vec<Uuid> = wanted.iter().map(|(id, _)| *id).collect();
    rows_as_caller(context, &ids)
}

/// What `sql/fetch.sql` gives, of a workspace all of whose rows the caller may see.
fn rows_directly(
    context: &Context,
    eligible: &Eligible<'_>,
    memories: &Table,
    wanted: &[(Uuid, Option<Place>)],
) -> Result<IdMap<Hit>> {
    let column = |name| memories.column(name);
    let [content, kind, importance, tags, metadata] = [
        column(c"content")?,
        column(c"type")?,
        column(c"importance")?,
        column(c"tags")?,
        column(c"metadata")?,
    ];
    let [speaker, role, session, occurred, created] = [
        column(c"speaker")?,
        column(c"role")?,
        column(c"session_id")?,
        column(c"occurred_at")?,
        column(c"created_at")?,
    ];
    let [deleted, superseded, expires, contradicted] = [
        column(c"deleted_at")?,
        column(c"superseded_by")?,
        column(c"expires_at")?,
        column(c"contradicted_by")?,
    ];
    let at = i64::from(context.at);
    // Deleted, superseded, expired
    let over = |row: &Row<'_>| {
        // SAFETY: the column is a timestamp.
        let expires = unsafe { row.get::<i64>(expires) };
        (
            row.datum(deleted).is_some(),
            row.datum(superseded).is_some(),
            expires.is_some_and(|expires| expires <= at),
        )
    };
    let mut found = IdMap::default();
    let key = [column(c"workspace_id")?, column(c"id")?];
    let mut rows = Placed::new(memories, key, i16::MAX)?;
    rows.approach(wanted.iter().map(|(_, place)| *place), 384);
    for (id, place) in wanted {
        let Some(row) = rows.find([context.workspace, *id], *place, |_| true) else {
            continue;
        };
        let (deleted, superseded, expired) = over(&row);
        if deleted
            || superseded && !context.superseded
            || expired && !context.expired
            || !eligible.holds(&row)
        {
            continue;
        }
        // SAFETY: the columns have these types; setup() made them. All is copied.
        let hit = unsafe {
            Hit {
                id: *id,
                content: row.get(content).unwrap_or_default(),
                kind: row.get(kind).unwrap_or_default(),
                score: 0.0,
                importance: row.get(importance).unwrap_or_default(),
                tags: row
                    .get::<Vec<Option<String>>>(tags)
                    .unwrap_or_default()
                    .into_iter()
                    .flatten()
                    .collect(),
                metadata: row.get(metadata).expect("NOT NULL"),
                speaker: row.get(speaker),
                role: row.get(role),
                session_id: row.get(session),
                occurred_at: row.get(occurred),
                created_at: row.get(created).expect("NOT NULL"),
                matched: Vec::new(),
                explain: None,
                contradicted_by: row.uuids(contradicted),
                repeats: Vec::new(),
            }
        };
        found.insert(*id, hit);
        // Whoever was shown a memory may use it.
        if let Some(place) = place {
            crate::heap::note_memory(memories, id, *place);
        }
    }
    // Only what still stands contradicts.
    let mut stands = |id: &Uuid| {
        let row = rows.find([context.workspace, *id], None, |_| true);
        row.is_some_and(|row| over(&row) == (false, false, false))
    };
    for hit in found.values_mut() {
        hit.contradicted_by.retain(&mut stands);
    }
    Ok(found)
}

/// As [`rows_of`], asked of the policies on the table.
fn rows_as_caller(context: &Context, ids: &[Uuid]) -> Result<IdMap<Hit>> {
    let mut args = vec![
        DatumWithOid::from(spi::pg_uuid(context.workspace)),
        DatumWithOid::from(spi::pg_uuids(ids)),
        DatumWithOid::from(context.at),
        DatumWithOid::from(context.superseded),
        DatumWithOid::from(context.expired),
    ];
    let sql = match &context.past {
        None => include_str!("sql/fetch.sql"),
        Some(past) => {
            args.push(DatumWithOid::from(past.as_of));
            include_str!("sql/fetch_past.sql")
        }
    };
    let rows = spi::rows(sql, &args, |row| {
        let id = spi::uuid(row.get::<pgrx::Uuid>(1)?.expect("NOT NULL"));
        Ok((
            id,
            Hit {
                id,
                content: row.get(2)?.unwrap_or_default(),
                kind: row.get(3)?.unwrap_or_default(),
                score: 0.0,
                importance: row.get(4)?.unwrap_or_default(),
                tags: row
                    .get::<Vec<Option<String>>>(5)?
                    .unwrap_or_default()
                    .into_iter()
                    .flatten()
                    .collect(),
                metadata: row.get::<RawJsonb>(6)?.expect("NOT NULL"),
                speaker: row.get(7)?,
                role: row.get(8)?,
                session_id: row.get(9)?,
                occurred_at: row.get(10)?,
                created_at: row.get(11)?.expect("NOT NULL"),
                matched: Vec::new(),
                explain: None,
                contradicted_by: row
                    .get::<Vec<Option<pgrx::Uuid>>>(12)?
                    .into_iter()
                    .flatten()
                    .flatten()
                    .map(spi::uuid)
                    .collect(),
                repeats: Vec::new(),
            },
        ))
    })?;
    Ok(rows.into_iter().collect())
}
