//! Search. [`search`] reads from top to bottom: resolve, parse, collect candidates, fuse, fetch.
//!
//! Candidates (ids and scores) come from [`Lane`]s and are read with the rights of the store's
//! owner, always under the one workspace that the caller was found to be allowed. Which of them are
//! [`Eligible`], and the rows in the end, is asked as the caller: the policies on the table decide.
//! Where a policy of the user's own hides part of a workspace, the statistics that scores are made of
//! come from the visible part alone.

mod eligible;
mod need;
mod semantic;
mod words;

use std::collections::{HashMap, HashSet};

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::pg_sys;
use pgrx::spi::SpiHeapTupleData;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::model::bm25;
use crate::model::fusion;
use crate::model::similarity::Distance;
use crate::privilege::AsOwner;
use crate::raw::RawJsonb;
use crate::{query, spi};
use eligible::Eligible;
pub use eligible::compile as compile_filter;

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
}

/// Most rows that one search returns.
pub const MAX_MATCH_COUNT: i32 = 1000;

/// One source of candidates. A lane is made for one search in one workspace.
trait Lane {
    /// Name in `explain`.
    fn name(&self) -> &'static str;
    /// Its best eligible memories, best first, at most `pool`.
    fn candidates(&mut self, eligible: &Eligible<'_>, pool: usize) -> Result<Vec<Uuid>>;
    /// Its scores of any memories; one without evidence is absent.
    fn scores(&self, ids: &[Uuid]) -> Result<HashMap<Uuid, f64>>;
    /// Words of the query that `id` was found by.
    fn matched(&self, _id: Uuid) -> Vec<String> {
        Vec::new()
    }
    /// The parts that make up its score of `id`.
    fn parts(&self, _id: Uuid) -> Value {
        Value::Null
    }
}

/// What every part of one search needs to know.
struct Context {
    workspace: Uuid,
    owner: pg_sys::Oid,
    pool: usize,
    vector_weight: f64,
    bm25: bm25::Params,
    model: Option<Model>,
    at: TimestampWithTimeZone,
    /// A policy of the user's own may hide rows of the workspace.
    partly_hidden: bool,
}

struct Model {
    name: String,
    dims: i32,
    distance: Distance,
    distance_name: String,
}

/// Runs a search.
pub fn search(request: Request) -> Result<Vec<Hit>> {
    let match_count = match_count(request.match_count)?;
    if let Some(min) = request.min_score
        && !min.is_finite()
    {
        return Err(Error::invalid(
            format!("min_score is {min}"),
            "Give a number from 0 to 1, or leave it out.",
        ));
    }
    if request.at.is_infinity() || request.at.is_neg_infinity() {
        return Err(Error::invalid(
            "at is infinite",
            "Give a moment in time, or leave it out.",
        ));
    }
    let Some(context) = Context::resolve(&request, match_count)? else {
        return Ok(Vec::new());
    };
    let parsed = query::parse(request.text.as_deref().unwrap_or(""));
    let analysed = words::analyse(&parsed)?;
    let eligible = Eligible::new(
        &context,
        request.filter.as_ref(),
        request.types.as_deref(),
        request.include.as_deref(),
        &analysed,
    )?;

    let mut words_lane = words::Words::new(&context, &parsed, &analysed)?;
    let mut semantic_lane = match request.embedding {
        Some(embedding) => Some(semantic::Semantic::new(&context, embedding)?),
        None => None,
    };
    let ranked = if request.text.is_none() && semantic_lane.is_none() {
        let mut need = need::Need::new(&context);
        rank(
            &context,
            &eligible,
            [Some(&mut need as &mut dyn Lane), None],
        )?
    } else {
        let semantic = semantic_lane.as_mut().map(|lane| lane as &mut dyn Lane);
        rank(&context, &eligible, [Some(&mut words_lane), semantic])?
    };
    let ranked = ranked
        .into_iter()
        .filter(|r| request.min_score.is_none_or(|min| r.score >= min))
        .collect();
    fetch(&context, ranked, match_count, request.explain)
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

impl Context {
    /// `None` when the caller is nobody: then nothing is there to be found.
    fn resolve(request: &Request, match_count: usize) -> Result<Option<Self>> {
        let workspace = spi::row(
            "SELECT engram_internal.resolve_workspace($1, false)",
            &[DatumWithOid::from(request.workspace)],
            spi::id,
        )?;
        let Some(workspace) = workspace.flatten().map(spi::uuid) else {
            return Ok(None);
        };
        let context = spi::row(
            include_str!("sql/context.sql"),
            &[
                DatumWithOid::from(spi::pg_uuid(workspace)),
                DatumWithOid::from(request.model.as_deref()),
            ],
            |row| {
                let model = match row.get::<String>(6)? {
                    Some(name) => {
                        let distance_name = row.get::<String>(8)?.unwrap_or_default();
                        Some(Model {
                            name,
                            dims: row.get::<i32>(7)?.unwrap_or(0),
                            distance: Distance::parse(&distance_name).unwrap_or(Distance::Cosine),
                            distance_name,
                        })
                    }
                    None => None,
                };
                Ok(Self {
                    workspace,
                    owner: row.get::<pg_sys::Oid>(1)?.unwrap_or(pg_sys::InvalidOid),
                    pool: usize::try_from(row.get::<i32>(2)?.unwrap_or(100))
                        .unwrap_or(100)
                        .max(match_count * 2),
                    vector_weight: row.get::<f64>(3)?.unwrap_or(0.5),
                    bm25: bm25::Params {
                        k1: row.get::<f64>(4)?.unwrap_or(1.2),
                        pivot: row.get::<f64>(5)?.unwrap_or(30.0),
                    },
                    model,
                    at: request.at,
                    partly_hidden: row.get::<bool>(9)?.unwrap_or(true),
                })
            },
        )?;
        let Some(context) = context else {
            return Err(Error::NotReady {
                message: "engram.settings has no row of defaults".to_owned(),
                hint: "Put it back with: SELECT engram.setup();".to_owned(),
            });
        };
        if let (Some(name), None) = (&request.model, &context.model) {
            spi::row(
                "SELECT engram_internal.refuse_model($1)",
                &[DatumWithOid::from(name.as_str())],
                |_| Ok(()),
            )?;
        }
        Ok(Some(context))
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

    /// Those of `ids` that the caller may see.
    fn visible(&self, ids: &[Uuid]) -> Result<HashSet<Uuid>> {
        let rows = spi::rows(
            include_str!("sql/visible.sql"),
            &[
                DatumWithOid::from(spi::pg_uuid(self.workspace)),
                DatumWithOid::from(spi::pg_uuids(ids)),
            ],
            spi::id,
        )?;
        Ok(spi::id_set(rows))
    }
}

/// A candidate with its fused score.
struct Ranked {
    id: Uuid,
    score: f64,
    matched: Vec<String>,
    explain: Value,
}

/// Collects the candidates of the lanes and fuses them: best first, ties to the newer memory.
fn rank(
    context: &Context,
    eligible: &Eligible<'_>,
    lanes: [Option<&mut dyn Lane>; 2],
) -> Result<Vec<Ranked>> {
    let [first, second] = lanes;
    let mut lanes: Vec<&mut dyn Lane> = first.into_iter().chain(second).collect();
    let mut union: Vec<Uuid> = Vec::new();
    let mut found = Vec::new();
    for lane in &mut lanes {
        let ids = lane.candidates(eligible, context.pool)?;
        found.push(!ids.is_empty());
        union.extend(ids);
    }
    union.sort_unstable();
    union.dedup();
    let (w0, w1) = fusion::weights(
        context.vector_weight,
        found[0],
        found.get(1).copied().unwrap_or(false),
    );
    // Every candidate is scored by every lane, not only by the one that brought it.
    let mut fused: HashMap<Uuid, (f64, Map<String, Value>)> =
        union.iter().map(|id| (*id, (0.0, Map::new()))).collect();
    for (lane, weight) in lanes.iter().zip([w0, w1]) {
        if weight == 0.0 {
            continue;
        }
        let raw = lane.scores(&union)?;
        let scores: Vec<f64> = union
            .iter()
            .map(|id| raw.get(id).copied())
            .collect::<Option<Vec<_>>>()
            .unwrap_or_else(|| {
                // Without evidence a candidate is as good as the worst one that has some.
                let worst = raw.values().copied().fold(f64::INFINITY, f64::min).min(0.0);
                union
                    .iter()
                    .map(|id| raw.get(id).copied().unwrap_or(worst))
                    .collect()
            });
        for (id, normalized) in union.iter().zip(fusion::min_max(&scores)) {
            let (total, explain) = fused.entry(*id).or_default();
            *total += weight * normalized;
            explain.insert(
                lane.name().to_owned(),
                json!({
                    "score": raw.get(id),
                    "normalized": normalized,
                    "weight": weight,
                    "contribution": weight * normalized,
                    "parts": lane.parts(*id),
                }),
            );
        }
    }
    let mut ranked: Vec<Ranked> = fused
        .into_iter()
        .map(|(id, (score, lanes_explained))| Ranked {
            id,
            score,
            matched: lanes.iter().flat_map(|lane| lane.matched(id)).collect(),
            explain: json!({"score": score, "lanes": lanes_explained}),
        })
        .collect();
    ranked.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| b.id.cmp(&a.id)));
    Ok(ranked)
}

/// Fetches rows as the caller, in order, until `match_count` are filled or nothing is left: rows
/// that a policy hides are skipped and made up for.
fn fetch(
    context: &Context,
    ranked: Vec<Ranked>,
    match_count: usize,
    explain: bool,
) -> Result<Vec<Hit>> {
    let mut hits: Vec<Hit> = Vec::with_capacity(match_count);
    let mut rest = ranked.into_iter();
    while hits.len() < match_count {
        let batch: Vec<Ranked> = rest.by_ref().take(match_count.max(20)).collect();
        if batch.is_empty() {
            break;
        }
        let ids: Vec<Uuid> = batch.iter().map(|r| r.id).collect();
        let mut rows: HashMap<Uuid, Hit> = spi::rows(
            include_str!("sql/fetch.sql"),
            &[
                DatumWithOid::from(spi::pg_uuid(context.workspace)),
                DatumWithOid::from(spi::pg_uuids(&ids)),
            ],
            |row| {
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
                    },
                ))
            },
        )?
        .into_iter()
        .collect();
        for found in batch {
            if hits.len() == match_count {
                break;
            }
            if let Some(mut hit) = rows.remove(&found.id) {
                hit.score = found.score;
                hit.matched = found.matched;
                hit.explain = explain.then_some(found.explain);
                hits.push(hit);
            }
        }
    }
    Ok(hits)
}

/// The first `pool` of `ranked` that are eligible, best first.
fn take_eligible(
    eligible: &Eligible<'_>,
    ranked: &[(Uuid, f64)],
    pool: usize,
) -> Result<Vec<Uuid>> {
    let mut out = Vec::with_capacity(pool.min(ranked.len()));
    for chunk in ranked.chunks(pool.max(200)) {
        let ids: Vec<Uuid> = chunk.iter().map(|(id, _)| *id).collect();
        let passed = eligible.among(&ids)?;
        out.extend(ids.into_iter().filter(|id| passed.contains(id)));
        if out.len() >= pool {
            out.truncate(pool);
            break;
        }
    }
    Ok(out)
}
