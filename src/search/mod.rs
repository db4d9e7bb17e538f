//! Search. [`find`] reads from top to bottom: resolve, parse, read what the workspace holds (`corpus`, `semantic`,
//! `words`), collect candidates (`lanes`), fuse them (`rank`, `links`), fetch (`fetch`, `hits`, `similar`).
//!
//! Candidates (ids and scores) come from what the workspace's blocks hold, whoever asks, always under
//! the one workspace that the caller was found to be allowed. Which of them are
//! [`Eligible`], and the rows in the end, is asked as the caller: the policies on the table decide.
//! Where a policy of the user's own hides part of a workspace, the statistics that scores are made of
//! come from the visible part alone.

mod checks;
mod corpus;
mod eligible;
mod fetch;
mod fuzzy;
mod hits;
pub mod ids;
mod lanes;
mod links;
pub mod need;
mod past;
mod rank;
mod semantic;
mod settings;
mod similar;
mod words;

pub use checks::gather;
pub use eligible::compile as compile_filter;
pub use past::check as check_as_of;

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::pg_sys;
use pgrx::spi::SpiHeapTupleData;
use serde_json::Value;
use uuid::Uuid;

use crate::api::shorten;
use crate::error::{Error, Result};
use crate::graph::Rules;
use crate::model::{bm25, dates, ranking};
use crate::privilege::AsOwner;
use crate::raw::RawJsonb;
use crate::scan::Table;
use crate::text::Date;
use crate::uses::{self, Call};
use crate::{identity, own, query, rows, spi};
use corpus::Corpus;
use eligible::Eligible;
use fetch::fetch;
use ids::IdSet;
use past::Past;
use rank::{needed, rank};
use semantic::Semantic;
use settings::{Model, Settings};
use words::Words;

/// Candidates, and rows asked for, up to which the likeliest cells hold enough.
const MOST_LIKELY: usize = 300;
const MOST_LIKELY_ROWS: usize = 100;

/// Most rows that one search returns.
pub const MAX_MATCH_COUNT: i32 = 1000;

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

impl Conditions {
    /// Checks what is asked for, as far as the request alone tells.
    fn of(request: &Request) -> Result<Self> {
        let count = request.match_count.unwrap_or(10);
        if !(1..=MAX_MATCH_COUNT).contains(&count) {
            return Err(Error::invalid(
                format!("match_count is {count}"),
                format!("Give a number from 1 to {MAX_MATCH_COUNT}."),
            ));
        }
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
        Ok(Self {
            match_count: count.unsigned_abs() as usize,
            min_score: request.min_score,
            explain: request.explain,
            diversity: request.diversity,
        })
    }
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
    /// Similarity above which a vector finds its memory.
    min_similarity: f64,
    /// Least share of the words of a question that finds a memory.
    min_coverage: f64,
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
        let mut context = Self::of(request, match_count, workspace, &memories)?;
        if let (Some(name), None) = (&request.model, &context.model) {
            spi::row(
                "SELECT engram_internal.refuse_model($1)",
                &[DatumWithOid::from(name.as_str())],
                |_| Ok(()),
            )?;
        }
        context.include(request.include.as_deref().unwrap_or_default())?;
        if let Some(as_of) = request.as_of {
            context.past = Some(Past::read(&context, as_of)?);
        }
        // Uses after `at` count as they do once they are folded.
        let until = context.past.as_ref().map_or(i64::MAX, Past::at);
        context.waiting = uses::waiting(workspace, until)?;
        Ok(Some((context, blocks)))
    }

    /// As the settings of the workspace have it.
    fn of(
        request: &Request,
        match_count: usize,
        workspace: Uuid,
        memories: &Table,
    ) -> Result<Self> {
        let partly_hidden = rows::partly_hidden(memories);
        let settings = Settings::read(workspace)?;
        let number = |name, otherwise| Ok::<f64, Error>(settings.get(name)?.unwrap_or(otherwise));
        let candidates: Option<i32> = settings.get(c"candidates")?;
        let dims = request.embedding.as_ref().map(Vec::len);
        Ok(Self {
            workspace,
            owner: memories.owner(),
            match_count,
            pool: usize::try_from(candidates.unwrap_or(100))
                .unwrap_or(100)
                // No more than are needed: scores are relative to the pool, and should not depend on how many are asked for.
                .max(match_count * 2),
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
            min_similarity: number(c"min_similarity", 0.0).unwrap_or(0.0),
            min_coverage: number(c"min_coverage", 0.0).unwrap_or(0.0),
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
        })
    }

    /// Lets memories in these states be results.
    fn include(&mut self, states: &[Option<String>]) -> Result<()> {
        for state in states {
            match state.as_deref() {
                Some("superseded") => self.superseded = true,
                Some("expired") => self.expired = true,
                other => {
                    return Err(Error::invalid(
                        format!("include has {:?}", shorten(other.unwrap_or("NULL"))),
                        "search can include superseded and expired; engram.list() also includes forgotten.",
                    ));
                }
            }
        }
        Ok(())
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

/// What the candidates of one search are chosen from.
struct Scope<'s, 't> {
    context: &'s Context,
    corpus: &'s Corpus<'t>,
    eligible: &'s Eligible<'s>,
    /// Which documents hold the words that must and none that must not occur; `None` when all do.
    admitted: Option<&'s [bool]>,
}

impl Scope<'_, '_> {
    /// Whether a document may be a result, as far as the words of the query and its segment tell.
    #[inline]
    fn admits(&self, document: usize) -> bool {
        self.admitted.is_none_or(|admitted| admitted[document]) && self.eligible.may(document)
    }
}

/// What the question names.
struct Named {
    /// Runs of words that may be names of entities and speakers.
    names: Vec<String>,
    dates: Vec<dates::Named>,
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
    let conditions = Conditions::of(&request)?;
    let Some((context, blocks)) = Context::resolve(&request, conditions.match_count)? else {
        return Ok(Found {
            hits: Vec::new(),
            shown_gain: None,
        });
    };
    let parsed = query::parse(request.text.as_deref().unwrap_or(""));
    let today = Date::from_postgres(context.at.into());
    let named = Named {
        names: query::names(&parsed.free),
        dates: dates::named(&parsed.free, today),
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
    if let Some(lane) = &mut semantic {
        // Conditions want all: those that pass may be anywhere.
        let likeliest = !eligible.asks()
            && !context.partly_hidden
            && context.past.is_none()
            && context.pool <= MOST_LIKELY
            && context.match_count <= MOST_LIKELY_ROWS
            && !analysed.restricts();
        lane.read(&blocks, likeliest)?;
        if let Some(past) = &context.past {
            lane.points.entries.discard(&past.rewritten);
        }
    }
    let words = if nothing_asked {
        None
    } else {
        Some(Words::new(
            &context,
            &corpus,
            &named.names,
            &analysed,
            taken,
        )?)
    };
    let admitted = analysed.admitted(&corpus);
    loop {
        let scope = Scope {
            context: &context,
            corpus: &corpus,
            eligible: &eligible,
            admitted: admitted.as_deref(),
        };
        let ranked = match &words {
            None => needed(&scope)?,
            Some(words) => rank(&scope, words, semantic.as_mut(), &named)?,
        };
        let (hits, short) = fetch(&context, &eligible, &ranked, &conditions)?;
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
