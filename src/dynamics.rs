//! The memory models as SQL functions: arguments checked, one call of [`crate::model`], nothing read.
//!
//! NULL for an argument with a default is the default; any other gives NULL. The declarations are in
//! `sql/extension/45_dynamics.sql`.

use std::cell::RefCell;
use std::ops::RangeBounds;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::api::shorten;
use crate::error::{Error, Result};
use crate::model::activation;
use crate::model::fsrs::{self, Memory, Rating};
use crate::model::heat::{self, Heat, HeatSum, Weights};
use crate::model::layers::{self, Layer, Thresholds};
use crate::model::need::{self, Betas, Evidence};
use crate::model::{links, spreading, trace};

/// What a function gives back: a value, NULL or an error.
type Answer<T> = std::result::Result<Option<T>, ErrorReport>;
type Rows<T> = std::result::Result<TableIterator<'static, T>, ErrorReport>;

/// Decay of base-level activation.
const D: f64 = 0.5;

// --- checking ------------------------------------------------------------------------------------

fn within(name: &str, value: f64, range: impl RangeBounds<f64>, hint: &str) -> Result<f64> {
    if range.contains(&value) {
        Ok(value)
    } else {
        Err(Error::invalid(format!("{name} is {value}"), hint))
    }
}

fn finite(name: &str, value: f64) -> Result<f64> {
    within(name, value, f64::MIN..=f64::MAX, "Give a finite number.")
}

fn not_negative(name: &str, value: f64) -> Result<f64> {
    within(
        name,
        value,
        0.0..=f64::MAX,
        "Give a finite number, 0 or more.",
    )
}

fn positive(name: &str, value: f64) -> Result<f64> {
    within(
        name,
        value,
        f64::MIN_POSITIVE..=f64::MAX,
        "Give a finite number above 0.",
    )
}

fn share(name: &str, value: f64) -> Result<f64> {
    within(name, value, 0.0..=1.0, "Give a number from 0 to 1.")
}

/// An activation or a score: what was never used has −∞.
fn nats(name: &str, value: f64) -> Result<f64> {
    within(
        name,
        value,
        f64::NEG_INFINITY..=f64::MAX,
        "Give a number of nats; -Infinity is for what was never used.",
    )
}

/// A decay exponent for the exact form.
fn decay(d: Option<f64>) -> Result<f64> {
    not_negative("d", d.unwrap_or(D))
}

/// A decay exponent for the forms that integrate.
fn decay_below_one(d: Option<f64>) -> Result<f64> {
    within(
        "d",
        d.unwrap_or(D),
        0.0..1.0,
        "Give a number from 0 to less than 1; base_level() takes any.",
    )
}

fn count(name: &str, n: i64) -> Result<u64> {
    u64::try_from(n).map_err(|_| {
        Error::invalid(
            format!("{name} is {n}"),
            "Give a number of uses, 0 or more.",
        )
    })
}

fn gain(gain: Option<f64>) -> Result<f64> {
    finite("gain", gain.unwrap_or(1.0))
}

fn moment(name: &str, at: TimestampWithTimeZone) -> Result<i64> {
    match i64::from(at) {
        i64::MAX | i64::MIN => Err(Error::invalid(
            format!("{name} is infinite"),
            "Give a moment, such as now().",
        )),
        at => Ok(at),
    }
}

/// The numbers of an array without NULLs.
fn numbers(name: &str, array: &Array<'_, f64>) -> Result<Vec<f64>> {
    array
        .iter()
        .map(|value| {
            value.ok_or_else(|| {
                Error::invalid(format!("{name} has a NULL in it"), "Give numbers only.")
            })
        })
        .collect()
}

fn ages(name: &str, array: &Array<'_, f64>) -> Result<Vec<f64>> {
    let ages = numbers(name, array)?;
    for age in &ages {
        within(
            &format!("an age in {name}"),
            *age,
            0.0..=f64::MAX,
            "Give ages in seconds, finite and 0 or more.",
        )?;
    }
    Ok(ages)
}

// --- base-level activation -------------------------------------------------------------------------

#[pg_extern(sql = false)]
fn base_level(ages_s: Option<Array<'_, f64>>, d: Option<f64>) -> Answer<f64> {
    let Some(ages_s) = ages_s else {
        return Ok(None);
    };
    let (ages, d) = (ages("ages_s", &ages_s)?, decay(d)?);
    Ok(Some(activation::base_level(&ages, d)))
}

#[pg_extern(sql = false)]
fn base_level_step(
    state: Option<f64>,
    accessed_at: Option<TimestampWithTimeZone>,
    now: Option<TimestampWithTimeZone>,
    d: Option<f64>,
) -> Answer<f64> {
    let (Some(state), Some(now)) = (state, now) else {
        return Ok(None);
    };
    let Some(accessed_at) = accessed_at else {
        return Ok(Some(state));
    };
    let age = moment("now", now)?.saturating_sub(moment("accessed_at", accessed_at)?);
    let odds = activation::odds_or_log(age as f64 * 1e-6, decay(d)?);
    Ok(Some(activation::add_odds(state, odds)))
}

#[pg_extern(sql = false)]
fn base_level_combine(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    Some(activation::add_odds(a?, b?))
}

#[pg_extern(sql = false)]
fn base_level_final(state: f64) -> f64 {
    activation::log_odds(state)
}

#[pg_extern(sql = false)]
fn base_level_optimized(n: Option<i64>, age_s: Option<f64>, d: Option<f64>) -> Answer<f64> {
    let (Some(n), Some(age_s)) = (n, age_s) else {
        return Ok(None);
    };
    Ok(Some(activation::base_level_optimized(
        count("n", n)?,
        not_negative("age_s", age_s)?,
        decay_below_one(d)?,
    )))
}

#[pg_extern(sql = false)]
fn base_level_petrov(
    recent_ages_s: Option<Array<'_, f64>>,
    n: Option<i64>,
    age_created_s: Option<f64>,
    d: Option<f64>,
) -> Answer<f64> {
    let (Some(recent_ages_s), Some(n), Some(age_created_s)) = (recent_ages_s, n, age_created_s)
    else {
        return Ok(None);
    };
    let (recent, n) = (ages("recent_ages_s", &recent_ages_s)?, count("n", n)?);
    if n < recent.len() as u64 {
        return Err(Error::invalid(
            format!("n is {n}, but recent_ages_s has {} uses", recent.len()),
            "n counts all uses, the recent ones too.",
        )
        .into());
    }
    Ok(Some(activation::base_level_petrov(
        &recent,
        n,
        not_negative("age_created_s", age_created_s)?,
        decay_below_one(d)?,
    )))
}

#[pg_extern(sql = false)]
fn retrieval_probability(a: Option<f64>, tau: Option<f64>, s: Option<f64>) -> Answer<f64> {
    let (Some(a), Some(tau)) = (a, tau) else {
        return Ok(None);
    };
    let s = positive("s", s.unwrap_or(0.4))?;
    Ok(Some(activation::retrieval_probability(
        nats("a", a)?,
        finite("tau", tau)?,
        s,
    )))
}

#[pg_extern(sql = false)]
fn retrieval_latency(a: Option<f64>, f: Option<f64>, lf: Option<f64>) -> Answer<f64> {
    let Some(a) = a else {
        return Ok(None);
    };
    let (f, lf) = (
        positive("f", f.unwrap_or(1.0))?,
        positive("lf", lf.unwrap_or(1.0))?,
    );
    Ok(Some(activation::retrieval_latency(nats("a", a)?, f, lf)))
}

#[pg_extern(sql = false)]
fn activation_01(a: Option<f64>, center: Option<f64>, scale: Option<f64>) -> Answer<f64> {
    let Some(a) = a else {
        return Ok(None);
    };
    Ok(Some(activation::activation_01(
        nats("a", a)?,
        finite("center", center.unwrap_or(-5.5))?,
        positive("scale", scale.unwrap_or(1.5))?,
    )))
}

// --- heat ------------------------------------------------------------------------------------------

fn read_heat(name: &str, bytes: &[u8]) -> Result<Heat> {
    Heat::decode(bytes).map_err(|why| {
        Error::invalid(
            format!("{name} is no heat: {why}"),
            "Only what heat_new(), heat_touch(), heat_merge() or heat_agg() gave can be used.",
        )
    })
}

fn read_sum(bytes: &[u8]) -> Result<HeatSum> {
    HeatSum::decode(bytes).ok_or_else(|| {
        Error::invalid(
            format!("a state of {} bytes is not one of heat_agg()", bytes.len()),
            "Use the aggregate.",
        )
    })
}

fn more_than_there_is(what: &str) -> Error {
    Error::invalid(
        format!("{what} takes away more uses than there are"),
        "A negative gain takes a use back: give the time and the gain that it was counted with.",
    )
}

#[pg_extern(sql = false)]
fn heat_new(t: Option<TimestampWithTimeZone>, gain: Option<f64>) -> Answer<Vec<u8>> {
    let Some(t) = t else {
        return Ok(None);
    };
    let (at, gain) = (moment("t", t)?, not_negative("gain", gain.unwrap_or(1.0))?);
    Ok(Some(Heat::new(at, gain).encode().to_vec()))
}

#[pg_extern(sql = false)]
fn heat_touch(
    heat: Option<&[u8]>,
    t: Option<TimestampWithTimeZone>,
    gain: Option<f64>,
) -> Answer<Vec<u8>> {
    let (Some(heat), Some(t)) = (heat, t) else {
        return Ok(None);
    };
    let (mut heat, at, gain) = (read_heat("heat", heat)?, moment("t", t)?, self::gain(gain)?);
    if gain < 0.0 && !heat.holds(at, gain) {
        return Err(more_than_there_is(&format!("gain {gain}")).into());
    }
    heat.touch(at, gain);
    Ok(Some(heat.encode().to_vec()))
}

#[pg_extern(sql = false)]
fn heat_merge(a: &[u8], b: &[u8]) -> std::result::Result<Vec<u8>, ErrorReport> {
    let mut heat = read_heat("a", a)?;
    heat.merge(&read_heat("b", b)?);
    Ok(heat.encode().to_vec())
}

#[pg_extern(sql = false)]
fn heat_level(
    heat: Option<&[u8]>,
    now: Option<TimestampWithTimeZone>,
    d: Option<f64>,
) -> Answer<f64> {
    let (Some(heat), Some(now)) = (heat, now) else {
        return Ok(None);
    };
    let d = within(
        "d",
        d.unwrap_or(D),
        heat::MIN_D..=heat::MAX_D,
        "Give a number from 0.1 to 0.95.",
    )?;
    let heat = read_heat("heat", heat)?;
    let now = moment("now", now)?;
    // Queries ask for many memories with one d.
    Ok(Some(WEIGHTS.with_borrow_mut(|(of, weights)| {
        if *of != d {
            (*of, *weights) = (d, Weights::new(d));
        }
        heat.level_with(now, weights)
    })))
}

thread_local! {
    /// The d that [`heat_level`] was last asked for, and its weights.
    static WEIGHTS: RefCell<(f64, Weights)> = RefCell::new((D, Weights::new(D)));
}

#[pg_extern(sql = false)]
fn heat_mass(
    heat: &[u8],
    m: i32,
    now: TimestampWithTimeZone,
) -> std::result::Result<f64, ErrorReport> {
    let m = usize::try_from(m)
        .ok()
        .filter(|m| *m < heat::COUNTERS)
        .ok_or_else(|| Error::invalid(format!("m is {m}"), "Counters are numbered 0 to 15."))?;
    Ok(read_heat("heat", heat)?.mass(m, moment("now", now)?))
}

#[pg_extern(sql = false)]
fn heat_count(heat: &[u8]) -> std::result::Result<i64, ErrorReport> {
    Ok(read_heat("heat", heat)?.uses.into())
}

#[pg_extern(sql = false)]
fn heat_step(
    state: Option<&[u8]>,
    accessed_at: Option<TimestampWithTimeZone>,
    gain: Option<f64>,
) -> Answer<Vec<u8>> {
    let state = state.map(read_sum).transpose()?;
    let Some(accessed_at) = accessed_at else {
        return Ok(state.map(|sum| sum.encode().to_vec()));
    };
    let (at, gain) = (moment("accessed_at", accessed_at)?, self::gain(gain)?);
    let sum = match state {
        Some(mut sum) => {
            sum.touch(at, gain);
            sum
        }
        None => HeatSum::new(at, gain),
    };
    Ok(Some(sum.encode().to_vec()))
}

#[pg_extern(sql = false)]
fn heat_merge_step(state: Option<&[u8]>, heat: Option<&[u8]>) -> Answer<Vec<u8>> {
    let heat = heat.map(|heat| read_heat("heat", heat)).transpose()?;
    merged(
        state.map(read_sum).transpose()?,
        heat.as_ref().map(HeatSum::from),
    )
}

#[pg_extern(sql = false)]
fn heat_combine(a: Option<&[u8]>, b: Option<&[u8]>) -> Answer<Vec<u8>> {
    merged(a.map(read_sum).transpose()?, b.map(read_sum).transpose()?)
}

fn merged(a: Option<HeatSum>, b: Option<HeatSum>) -> Answer<Vec<u8>> {
    let sum = match (a, b) {
        (Some(mut a), Some(b)) => {
            a.merge(&b);
            Some(a)
        }
        (a, b) => a.or(b),
    };
    Ok(sum.map(|sum| sum.encode().to_vec()))
}

#[pg_extern(sql = false)]
fn heat_final(state: &[u8]) -> std::result::Result<Vec<u8>, ErrorReport> {
    let heat = read_sum(state)?
        .heat(0.0)
        .ok_or_else(|| more_than_there_is("the sum of all gains"))?;
    Ok(heat.encode().to_vec())
}

// --- consolidation ---------------------------------------------------------------------------------

/// The arguments that evolution and layers share, checked.
fn traces(r1: f64, r2: f64, dt_days: f64, rates: [f64; 3]) -> Result<()> {
    not_negative("r1", r1)?;
    not_negative("r2", r2)?;
    not_negative("dt_days", dt_days)?;
    for (name, rate) in ["alpha", "mu1", "mu2"].into_iter().zip(rates) {
        not_negative(name, rate)?;
    }
    Ok(())
}

#[pg_extern(sql = false)]
fn trace_evolve(
    r1: Option<f64>,
    r2: Option<f64>,
    dt_days: Option<f64>,
    alpha: Option<f64>,
    mu1: Option<f64>,
    mu2: Option<f64>,
    input: Option<f64>,
) -> Rows<(name!(r1, Option<f64>), name!(r2, Option<f64>))> {
    let (Some(r1), Some(r2), Some(dt), Some(alpha), Some(mu1), Some(mu2)) =
        (r1, r2, dt_days, alpha, mu1, mu2)
    else {
        return Ok(TableIterator::once((None, None)));
    };
    traces(r1, r2, dt, [alpha, mu1, mu2])?;
    let input = not_negative("input", input.unwrap_or(0.0))?;
    let (r1, r2) = trace::evolve(r1, r2, dt, alpha, mu1, mu2, input);
    Ok(TableIterator::once((Some(r1), Some(r2))))
}

#[pg_extern(sql = false)]
fn trace_strength(r1: f64, r2: f64) -> std::result::Result<f64, ErrorReport> {
    Ok(trace::strength(
        not_negative("r1", r1)?,
        not_negative("r2", r2)?,
    ))
}

#[pg_extern(sql = false)]
fn consolidation_alpha(importance: Option<f64>, alpha: Option<f64>) -> Answer<f64> {
    let Some(importance) = importance else {
        return Ok(None);
    };
    Ok(Some(trace::alpha(
        share("importance", importance)?,
        not_negative("alpha", alpha.unwrap_or(0.08))?,
    )))
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn layer_tick(
    layer: Option<&str>,
    r1: Option<f64>,
    r2: Option<f64>,
    dt_days: Option<f64>,
    alpha: Option<f64>,
    mu1: Option<f64>,
    mu2: Option<f64>,
    promote: Option<f64>,
    demote: Option<f64>,
    archive: Option<f64>,
) -> Answer<&'static str> {
    let (Some(layer), Some(r1), Some(r2), Some(dt), Some(alpha), Some(mu1), Some(mu2)) =
        (layer, r1, r2, dt_days, alpha, mu1, mu2)
    else {
        return Ok(None);
    };
    let layer = Layer::parse(layer).ok_or_else(|| {
        Error::invalid(
            format!("unknown layer {:?}", shorten(layer)),
            "Known: working, core, archive.",
        )
    })?;
    traces(r1, r2, dt, [alpha, mu1, mu2])?;
    let usual = Thresholds::default();
    let thresholds = Thresholds {
        promote: promote.unwrap_or(usual.promote),
        demote: demote.unwrap_or(usual.demote),
        archive: archive.unwrap_or(usual.archive),
    };
    if !thresholds.valid() {
        let Thresholds {
            promote,
            demote,
            archive,
        } = thresholds;
        return Err(Error::invalid(
            format!("promote is {promote}, demote {demote}, archive {archive}"),
            "All must be above 0, and promote not below the others, or memories would come and go.",
        )
        .into());
    }
    let layer = layers::tick(layer, r1, r2, dt, alpha, mu1, mu2, &thresholds);
    Ok(Some(layer.name()))
}

// --- forgetting ------------------------------------------------------------------------------------

fn stability_days(value: f64) -> Result<f64> {
    within(
        "stability",
        value,
        f64::MIN_POSITIVE..=f64::MAX,
        "Give a number of days above 0, or NULL before the first review.",
    )
}

#[pg_extern(sql = false)]
fn fsrs_retrievability(
    elapsed_days: Option<f64>,
    stability: Option<f64>,
    decay: Option<f64>,
) -> Answer<f64> {
    let (Some(elapsed), Some(stability)) = (elapsed_days, stability) else {
        return Ok(None);
    };
    Ok(Some(fsrs::retrievability(
        not_negative("elapsed_days", elapsed)?,
        stability_days(stability)?,
        fsrs_decay("decay", decay.unwrap_or(fsrs::DECAY))?,
    )))
}

/// FSRS's own trainer keeps it within 0.1 to 0.8.
fn fsrs_decay(name: &str, value: f64) -> Result<f64> {
    within(
        name,
        value,
        0.01..=10.0,
        "Give a number from 0.01 to 10; the default of FSRS-6 is 0.1542.",
    )
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn fsrs_step(
    stability: Option<f64>,
    difficulty: Option<f64>,
    elapsed_days: Option<f64>,
    rating: Option<i32>,
    w: Option<Array<'_, f64>>,
) -> Rows<(
    name!(stability, Option<f64>),
    name!(difficulty, Option<f64>),
    name!(r, Option<f64>),
)> {
    let unknown = || Ok(TableIterator::once((None, None, None)));
    let Some(rating) = rating else {
        return unknown();
    };
    let rating = Rating::from_number(rating).ok_or_else(|| {
        Error::invalid(
            format!("rating is {rating}"),
            "1 again (rejected), 2 hard (hardly relevant), 3 good (used), 4 easy (confirmed).",
        )
    })?;
    let w = w.map_or(Ok(fsrs::PARAMETERS), |w| parameters(&w))?;
    let (before, elapsed) = match (stability, difficulty, elapsed_days) {
        (None, _, _) => (None, 0.0),
        (Some(stability), Some(difficulty), Some(elapsed)) => {
            let memory = Memory {
                stability: stability_days(stability)?,
                difficulty: within(
                    "difficulty",
                    difficulty,
                    1.0..=10.0,
                    "Give a number from 1 to 10.",
                )?,
            };
            (Some(memory), not_negative("elapsed_days", elapsed)?)
        }
        _ => return unknown(),
    };
    let (after, r) = fsrs::step(before, elapsed, rating, &w);
    if !after.stability.is_finite() || !after.difficulty.is_finite() {
        return Err(Error::invalid(
            "these numbers lead to no finite stability and difficulty",
            "Leave w out, or give parameters that FSRS's optimizer found.",
        )
        .into());
    }
    Ok(TableIterator::once((
        Some(after.stability),
        Some(after.difficulty),
        r,
    )))
}

fn parameters(w: &Array<'_, f64>) -> Result<[f64; 21]> {
    let w: [f64; 21] = numbers("w", w)?.try_into().map_err(|w: Vec<f64>| {
        Error::invalid(
            format!("w has {} numbers", w.len()),
            "FSRS-6 has 21 parameters.",
        )
    })?;
    for value in w {
        finite("a number in w", value)?;
    }
    fsrs_decay("the last number of w", w[20])?;
    Ok(w)
}

#[pg_extern(sql = false)]
fn fsrs_interval(stability: Option<f64>, retention: Option<f64>) -> Answer<f64> {
    let Some(stability) = stability else {
        return Ok(None);
    };
    let retention = within(
        "retention",
        retention.unwrap_or(0.9),
        f64::MIN_POSITIVE..=1.0,
        "Give a number above 0 and up to 1.",
    )?;
    Ok(Some(fsrs::interval(
        stability_days(stability)?,
        retention,
        fsrs::DECAY,
    )))
}

#[pg_extern(sql = false)]
fn exp_retrievability(t_days: f64, s_days: f64) -> std::result::Result<f64, ErrorReport> {
    Ok(fsrs::exp_retrievability(
        not_negative("t_days", t_days)?,
        positive("s_days", s_days)?,
    ))
}

#[pg_extern(sql = false)]
fn stability_upstream(
    r#type: &str,
    n: i64,
    importance: f64,
    consolidation_count: i32,
) -> std::result::Result<f64, ErrorReport> {
    let decay = fsrs::decay_per_day(r#type).ok_or_else(|| {
        Error::invalid(
            format!("unknown type {:?}", shorten(r#type)),
            "Known: factual, episodic, relational, emotional, procedural, opinion, causal.",
        )
    })?;
    let consolidations = u32::try_from(consolidation_count).map_err(|_| {
        Error::invalid(
            format!("consolidation_count is {consolidation_count}"),
            "Give 0 or more.",
        )
    })?;
    Ok(fsrs::stability_upstream(
        decay,
        count("n", n)?,
        share("importance", importance)?,
        consolidations,
    ))
}

// --- links and spreading ---------------------------------------------------------------------------

#[pg_extern(sql = false)]
fn link_decay(x: Option<f64>, dt_s: Option<f64>, half_life_s: Option<f64>) -> Answer<f64> {
    let (Some(x), Some(dt_s)) = (x, dt_s) else {
        return Ok(None);
    };
    Ok(Some(links::link_decay(
        not_negative("x", x)?,
        not_negative("dt_s", dt_s)?,
        positive("half_life_s", half_life_s.unwrap_or(links::HALF_LIFE_S))?,
    )))
}

#[pg_extern(sql = false)]
fn link_strength(x: f64) -> std::result::Result<f64, ErrorReport> {
    Ok(links::link_strength(not_negative("x", x)?))
}

#[pg_extern(sql = false)]
fn link_direction(xf: f64, xb: f64) -> std::result::Result<f64, ErrorReport> {
    Ok(links::link_direction(
        not_negative("xf", xf)?,
        not_negative("xb", xb)?,
    ))
}

#[pg_extern(sql = false)]
fn link_ppmi(
    xij: Option<f64>,
    xi: Option<f64>,
    xj: Option<f64>,
    total: Option<f64>,
    kappa: Option<f64>,
) -> Answer<f64> {
    let (Some(xij), Some(xi), Some(xj), Some(total)) = (xij, xi, xj, total) else {
        return Ok(None);
    };
    Ok(Some(links::link_ppmi(
        not_negative("xij", xij)?,
        not_negative("xi", xi)?,
        not_negative("xj", xj)?,
        positive("total", total)?,
        positive("kappa", kappa.unwrap_or(1.0))?,
    )))
}

#[pg_extern(sql = false)]
fn spread_fan(s: f64, fan: f64) -> std::result::Result<f64, ErrorReport> {
    let fan = within(
        "fan",
        fan,
        1.0..=f64::MAX,
        "Give 1 or more: the source itself counts.",
    )?;
    Ok(spreading::spread_fan(finite("s", s)?, fan))
}

// --- need ------------------------------------------------------------------------------------------

#[pg_extern(sql = false)]
fn need_score(
    base_level: Option<f64>,
    text_llr: Option<f64>,
    cos_centered: Option<f64>,
    lift: Option<f64>,
    importance: Option<f64>,
    contradicted: Option<bool>,
    betas: Option<Array<'_, f64>>,
) -> Answer<f64> {
    let (Some(base_level), Some(text), Some(cos), Some(lift), Some(importance), Some(contradicted)) = (
        base_level,
        text_llr,
        cos_centered,
        lift,
        importance,
        contradicted,
    ) else {
        return Ok(None);
    };
    let betas = match betas {
        None => Betas::default(),
        Some(betas) => {
            let betas: [f64; 6] = numbers("betas", &betas)?
                .try_into()
                .map_err(|betas: Vec<f64>| {
                    Error::invalid(
                        format!("betas has {} numbers", betas.len()),
                        "Give six: of base_level, text_llr, cos_centered, lift and importance, and what a contradiction costs.",
                    )
                })?;
            for beta in betas {
                not_negative("a number in betas", beta)?;
            }
            betas.into()
        }
    };
    let evidence = Evidence {
        base_level: nats("base_level", base_level)?,
        text_llr: finite("text_llr", text)?,
        cos_centered: finite("cos_centered", cos)?,
        lift: finite("lift", lift)?,
        importance: share("importance", importance)?,
        contradicted,
    };
    Ok(Some(need::need_score(&evidence, &betas)))
}

#[pg_extern(sql = false)]
fn need_probability(score: Option<f64>, b0: Option<f64>) -> Answer<f64> {
    let Some(score) = score else {
        return Ok(None);
    };
    Ok(Some(need::need_probability(
        nats("score", score)?,
        finite("b0", b0.unwrap_or(0.0))?,
    )))
}
