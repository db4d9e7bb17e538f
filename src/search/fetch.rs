//! From candidates in order to hits: what is shown of them, and what its use, importance, contradictions
//! and likeness to others add to their scores.

use serde_json::{Value, json};
use uuid::Uuid;

use super::eligible::Eligible;
use super::hits::rows_of;
use super::ids::{IdMap, IdSet};
use super::past::{self, Past};
use super::rank::Ranked;
use super::{Conditions, Context, Hit, need, similar};
use crate::blocks::segment::Place;
use crate::error::Result;
use crate::heap::Placed;
use crate::model::heat::Weights;
use crate::scan::Table;

/// Rows that are fetched beyond `match_count`, so that use and importance can lift one of them.
const SPARE: usize = 5;

/// A hit whose score is being made.
pub(super) struct Scored {
    pub(super) hit: Hit,
    /// For `describe`.
    index: usize,
    used: f64,
    important: f64,
    /// 0 or less.
    contradicted: f64,
    /// What likeness to better ones takes off; 0 or less.
    pub(super) alike: f64,
}

/// Fetches rows as the caller, best first, until `match_count` are filled or nothing is left: rows
/// that a policy hides, and repetitions of a better one, are skipped and made up for. Use,
/// importance, contradictions and diversity then add their share. Also tells whether rows were missing so that
/// too few are left, whatever their scores.
pub(super) fn fetch(
    context: &Context,
    eligible: &Eligible<'_>,
    ranked: &Ranked<'_, '_>,
    request: &Conditions,
) -> Result<(Vec<Hit>, bool)> {
    let (mut hits, missing) = collect(context, eligible, ranked, request)?;
    if context.contradiction_weight > 0.0 {
        corrections(context, eligible, ranked, &mut hits)?;
    }
    let levels = used(context, &hits, ranked)?;
    let mut scored = scored(context, hits, &levels);
    settle(context, request, &mut scored)?;
    let short = missing && scored.len() < request.match_count;
    scored.retain(|s| request.min_score.is_none_or(|min| s.hit.score >= min));
    scored.sort_by(|a, b| {
        let (a, b) = (&a.hit, &b.hit);
        b.score.total_cmp(&a.score).then_with(|| b.id.cmp(&a.id))
    });
    scored.truncate(request.match_count);
    let hits = scored
        .into_iter()
        .map(|scored| scored.described(ranked, request.explain))
        .collect();
    Ok((hits, short))
}

/// The best of the candidates whose rows the caller may see, some more than are asked for, with their indices; and
/// whether rows were missing.
fn collect(
    context: &Context,
    eligible: &Eligible<'_>,
    ranked: &Ranked<'_, '_>,
    request: &Conditions,
) -> Result<(Vec<(Hit, usize)>, bool)> {
    let spare = if request.diversity > 0.0 {
        (2 * request.match_count).clamp(SPARE, similar::MOST)
    } else {
        request.match_count.min(SPARE)
    };
    let wanted = request.match_count + spare;
    let disputes = context.contradiction_weight > 0.0;
    let mut hits: Vec<(Hit, usize)> = Vec::with_capacity(wanted);
    let mut missing = false;
    // Contradicted ones may fall behind what comes after them.
    let mut undisputed = 0;
    let mut said = similar::Said::new(context);
    let mut rest = ranked.order.iter();
    while undisputed < wanted {
        let batch: Vec<&(f64, usize)> = rest.by_ref().take(wanted).collect();
        if batch.is_empty() {
            break;
        }
        let places = ranked.rows(&batch);
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
    Ok((hits, missing))
}

/// Adds what corrects a result and was found far behind it, for it comes before it; and so on.
fn corrections(
    context: &Context,
    eligible: &Eligible<'_>,
    ranked: &Ranked<'_, '_>,
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
            .filter(|(_, i)| missing.contains(&ranked.id(*i)))
            .collect();
        let places = ranked.rows(&found);
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

/// Adds what use and importance add.
fn scored(context: &Context, hits: Vec<(Hit, usize)>, levels: &IdMap<f64>) -> Vec<Scored> {
    let mut sorted: Vec<f64> = levels.values().copied().collect();
    sorted.sort_by(f64::total_cmp);
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
    hits.into_iter()
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
        .collect()
}

/// Takes off what contradictions and likeness to better ones take off.
fn settle(context: &Context, request: &Conditions, scored: &mut [Scored]) -> Result<()> {
    let disputes = context.contradiction_weight > 0.0;
    if disputes {
        contradict(context.contradiction_weight, scored);
    }
    if request.diversity > 0.0 {
        // Those that are contradicted lose again below, and others come into their places.
        let disputed = disputes && scored.iter().any(|s| !s.hit.contradicted_by.is_empty());
        let places = if disputed {
            usize::MAX
        } else {
            request.match_count
        };
        similar::spread(context, request.diversity, places, scored)?;
        if disputes {
            contradict(0.0, scored);
        }
    }
    Ok(())
}

impl Scored {
    /// The hit with what explains it.
    fn described(self, ranked: &Ranked<'_, '_>, explain: bool) -> Hit {
        let mut hit = self.hit;
        let (matched, parts) = ranked.describe(self.index, explain);
        hit.matched = matched;
        let Some(mut parts) = parts else {
            return hit;
        };
        for (name, contribution) in [
            ("activation", self.used),
            ("importance", self.important),
            ("contradicted", self.contradicted),
            ("diversity", self.alike),
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
        hit
    }
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

/// Decay of the prior: slower than the ½ of the theory, which fits memories that are needed for longer.
const PRIOR_DECAY: f64 = 0.3;

/// Base level of those that were used since they were stored.
fn used(context: &Context, hits: &[(Hit, usize)], ranked: &Ranked<'_, '_>) -> Result<IdMap<f64>> {
    if hits.is_empty() || context.activation_weight == 0.0 {
        return Ok(IdMap::default());
    }
    let ids: IdSet = hits.iter().map(|(hit, _)| hit.id).collect();
    let mut uses = need::by_memory(&context.waiting, |id| ids.contains(id));
    let weights = Weights::new(PRIOR_DECAY);
    let at = i64::from(context.at);
    let until = context.past.as_ref().map_or(i64::MAX, Past::at);
    let mut levels: IdMap<f64> = IdMap::default();
    // Used after the moment that is searched.
    let mut later: Vec<Uuid> = Vec::new();
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
    let places: Vec<Option<Place>> = hits.iter().map(|(_, i)| ranked.state(*i)).collect();
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
        if count <= 1 && !counts(&more) {
            continue;
        }
        let heat = need::heat_of(heat, count, last)?;
        if last.max(heat.at) > until {
            later.push(id);
            continue;
        }
        levels.insert(id, need::with(heat, more).level_with(at, &weights));
    }
    if !later.is_empty() {
        used_by_then(context, &later, &weights, &mut levels)?;
    }
    Ok(levels)
}

/// Adds the base levels of memories that were used later as well, as they were at the moment that is searched.
fn used_by_then(
    context: &Context,
    later: &[Uuid],
    weights: &Weights,
    levels: &mut IdMap<f64>,
) -> Result<()> {
    let at = i64::from(context.at);
    let ids: IdSet = later.iter().copied().collect();
    let mut uses = need::by_memory(&context.waiting, |id| ids.contains(id));
    for (id, (count, heat)) in past::replayed(context, later)? {
        let more = uses.remove(&id);
        if count > 1 || counts(&more) {
            levels.insert(id, need::with(heat, more).level_with(at, weights));
        }
    }
    Ok(())
}

/// Whether any of the uses that wait counts.
fn counts(waiting: &Option<Vec<(i64, f64)>>) -> bool {
    waiting.iter().flatten().any(|(_, gain)| *gain > 0.0)
}
