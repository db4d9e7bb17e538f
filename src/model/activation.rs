//! Base-level activation: how likely a memory is needed now, from how often and how lately it was
//! used (Anderson & Schooler 1991), and what retrieval makes of an activation (Anderson et al. 2004).
//!
//! Ages are in seconds, activations in nats, d is the decay exponent. Another unit of time would add
//! a constant to all activations: thresholds hold for seconds only.

/// Age in seconds below which uses count as one second old.
pub const MIN_AGE: f64 = 1.0;

/// B = ln Σ age^-d over the `ages` of all uses (Anderson & Lebiere 1998); −∞ without any. d ≥ 0.
pub fn base_level(ages: &[f64], d: f64) -> f64 {
    let sum: f64 = ages.iter().map(|age| odds(*age, d)).sum();
    if sum >= LEAST || ages.is_empty() {
        return sum.ln();
    }
    // Less than a number can be, or nearly: beside the latest.
    let latest = ages.iter().copied().fold(f64::INFINITY, f64::min);
    let latest = latest.max(MIN_AGE);
    let sum: f64 = ages.iter().map(|age| odds(age / latest, d)).sum();
    sum.ln() - d * latest.ln()
}

/// Sums of age^-d below it lose digits, and in the end are 0: then their logarithms are added up.
const LEAST: f64 = 1e-260;

/// A sum of age^-d, use by use, in one number: the sum or, where that is less than [`LEAST`], its logarithm, which
/// is below 0.
pub fn add_odds(a: f64, b: f64) -> f64 {
    if a < 0.0 && b < 0.0 {
        let sum = a.max(b) + (-(a - b).abs()).exp().ln_1p();
        return if sum < LEAST.ln() { sum } else { sum.exp() };
    }
    if a == 0.0 || b == 0.0 {
        return a + b;
    }
    let odds = |x: f64| if x < 0.0 { x.exp() } else { x };
    odds(a) + odds(b)
}

/// What [`add_odds`] adds for one use of this age.
pub fn odds_or_log(age: f64, d: f64) -> f64 {
    let odds = odds(age, d);
    if odds >= LEAST {
        odds
    } else {
        // −∞ would be nothing at all, and so it is.
        (-d * age.max(MIN_AGE).ln()).max(f64::MIN)
    }
}

/// B of what [`add_odds`] gave.
pub fn log_odds(sum: f64) -> f64 {
    if sum < 0.0 { sum } else { sum.ln() }
}

/// What one use of this age adds to e^B: age^-d.
pub fn odds(age: f64, d: f64) -> f64 {
    age.max(MIN_AGE).powf(-d)
}

/// B from the number of uses `n` and the age of the first, as if they were evenly spread:
/// ln(n / (1 − d)) − d ln age (Anderson & Lebiere 1998). d is in 0..1, without 1; −∞ without uses.
///
/// It knows nothing of recency and may be off by several nats; for comparison with other systems.
pub fn base_level_optimized(n: u64, oldest: f64, d: f64) -> f64 {
    (n as f64 / (1.0 - d)).ln() - d * oldest.max(MIN_AGE).ln()
}

/// Petrov's (2006) approximation of B = ln Σ age^-d from the `recent` ages of the latest uses
/// (in any order), the number of uses `n` and the age of the oldest. Ages in seconds, result in
/// nats; −∞ without any use. Exact for n ≤ recent.len().
///
/// `d` is in 0..1. With k recent ages of n uses, the other n − k are spread evenly between the
/// k-th use and the oldest.
pub fn base_level_petrov(recent: &[f64], n: u64, oldest: f64, d: f64) -> f64 {
    let k = recent.len().min(usize::try_from(n).unwrap_or(usize::MAX));
    let recent = &recent[..k];
    let exact: f64 = recent.iter().map(|age| odds(*age, d)).sum();
    let rest = n - k as u64;
    if rest == 0 {
        return exact.ln();
    }
    let kth = recent.iter().copied().fold(MIN_AGE, f64::max);
    let oldest = oldest.max(kth);
    let mean = if oldest > kth {
        // (oldest^(1-d) - kth^(1-d)) / ((1-d) (oldest - kth)), which keeps its digits where they are nearly the same.
        let more = (oldest - kth) / kth;
        kth.powf(-d) * ((1.0 - d) * more.ln_1p()).exp_m1() / ((1.0 - d) * more)
    } else {
        oldest.powf(-d)
    };
    (exact + rest as f64 * mean).ln()
}

/// Probability 0..1 that a memory of activation `a` is retrieved: 1 / (1 + e^((τ − a)/s)), with the
/// threshold `tau` in nats and the noise `s` > 0.
pub fn retrieval_probability(a: f64, tau: f64, s: f64) -> f64 {
    logistic((a - tau) / s)
}

/// Seconds that a retrieval takes: `lf` · e^(−f·a), `f` being ACT-R's latency exponent and `lf` its
/// latency factor in seconds. A failed one takes as long as one at the threshold.
pub fn retrieval_latency(a: f64, f: f64, lf: f64) -> f64 {
    lf * (-f * a).exp()
}

/// An activation as a number from 0 to 1 for display: the logistic function around `center`.
pub fn activation_01(a: f64, center: f64, scale: f64) -> f64 {
    logistic((a - center) / scale)
}

/// Shares of the memories in a blended retrieval: softmax of a/temperature (Lebiere 1999). The sum is
/// 1; temperature > 0.
pub fn blending_shares(activations: &[f64], temperature: f64) -> Vec<f64> {
    let best = activations
        .iter()
        .copied()
        .fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = activations
        .iter()
        .map(|a| ((a - best) / temperature).exp())
        .collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|w| w / sum).collect()
}

/// 1 / (1 + e^−x).
pub fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::vectors::{assert_close, cases, number, numbers, vectors};
    use proptest::prelude::*;
    use serde_json::Value;

    #[track_caller]
    fn assert_near(got: f64, case: &Value, file: &Value) {
        let tolerance = number(file, "tolerance_abs");
        assert!(
            (got - number(case, "B")).abs() <= tolerance,
            "{case}: {got}"
        );
    }

    #[test]
    fn simple_histories() {
        let b = |recent: &[f64], n, oldest| base_level_petrov(recent, n, oldest, 0.5);
        assert!((b(&[3600.0], 1, 3600.0) - -4.094_345).abs() < 1e-6);
        assert_eq!(b(&[], 0, 10.0), f64::NEG_INFINITY);
        assert!(b(&[60.0], 5, 86_400.0) > b(&[60.0], 2, 86_400.0));
        assert!(b(&[60.0], 5, 86_400.0) > b(&[600.0], 5, 86_400.0));
        // As exact where the oldest is hardly older than the last that is known.
        for (kth, n, oldest, d, level) in [
            (31_557_600.0, 2, 31_557_600.001, 0.8, -13.120_712_823_8),
            (86_400.0, 100, 86_400.01, 0.5, -1.078_201_320_3),
        ] {
            assert!((base_level_petrov(&[kth], n, oldest, d) - level).abs() < 1e-9);
        }
        assert_eq!(base_level(&[], 0.5), f64::NEG_INFINITY);
        assert_eq!(base_level_optimized(0, 10.0, 0.5), f64::NEG_INFINITY);
        assert_eq!(base_level(&[0.0, 0.5, 1.0], 0.5), 3f64.ln());
        // Where the sum is less than a number can be.
        let far = base_level(&[157_788_000.0], 40.0);
        assert!((far + 40.0 * 157_788_000f64.ln()).abs() < 1e-9, "{far}");
        let two = base_level(&[157_788_000.0, 157_788_000.0], 40.0);
        assert!((two - far - 2f64.ln()).abs() < 1e-9, "{two}");
        assert_eq!(base_level(&[1e8, 1e300], 1e300), -1e300 * 1e8f64.ln());
        assert_eq!(base_level(&[1e300], 1e308), f64::NEG_INFINITY);
        assert!(base_level(&[1.0, 1e300], 1e308).abs() < 1e-9);
    }

    #[test]
    fn exact_oracle() {
        let file = vectors!("base_level_exact");
        for case in cases(&file, "cases") {
            let now = number(case, "now");
            let ages: Vec<f64> = numbers(case, "t").iter().map(|t| now - t).collect();
            assert_near(base_level(&ages, number(case, "d")), case, &file);
        }
        for case in cases(&file, "big_cases") {
            let now = number(case, "now");
            let ages: Vec<f64> = (0..case["n"].as_u64().unwrap())
                .map(|i| now - i as f64 * number(case, "step_s"))
                .collect();
            assert_near(base_level(&ages, number(case, "d")), case, &file);
        }
    }

    #[test]
    fn optimized_oracle() {
        let file = vectors!("base_level_optimized");
        for case in cases(&file, "cases") {
            let n = case["n"].as_u64().unwrap();
            let got = base_level_optimized(n, number(case, "age_s"), number(case, "d"));
            assert_near(got, case, &file);
        }
    }

    #[test]
    fn petrov_oracle() {
        let file = vectors!("base_level_petrov");
        for case in cases(&file, "cases") {
            let got = base_level_petrov(
                &numbers(case, "recent_ages_s"),
                case["n"].as_u64().unwrap(),
                number(case, "age_created_s"),
                number(case, "d"),
            );
            assert_near(got, case, &file);
        }
    }

    #[test]
    fn retrieval_oracle() {
        let file = vectors!("retrieval");
        let tolerance = number(&file, "tolerance_rel");
        for case in cases(&file, "cases") {
            let [a, tau, s] = ["A", "tau", "s"].map(|key| number(case, key));
            let [lf, f] = ["F", "f"].map(|key| number(case, key));
            assert_close(retrieval_probability(a, tau, s), case, "P", tolerance);
            assert_close(retrieval_latency(a, f, lf), case, "latency_s", tolerance);
            let failed = retrieval_latency(tau, f, lf);
            assert_close(failed, case, "latency_fail_s", tolerance);
        }
    }

    #[test]
    fn blending_oracle() {
        let file = vectors!("retrieval");
        let tolerance = number(&file, "tolerance_rel");
        for case in cases(&file, "blending") {
            let chunks = cases(case, "chunks");
            let activations: Vec<f64> = chunks
                .iter()
                .map(|chunk| {
                    let age = number(case, "now") - number(chunk, "t");
                    let b = base_level(&[age], number(case, "d"));
                    // Partial matching: a penalty times how unlike the probe it is.
                    b + case["mismatch_penalty"].as_f64().map_or(0.0, |penalty| {
                        let unlike = (number(chunk, "x") - number(case, "probe_x")).abs() / 10.0;
                        -penalty * unlike
                    })
                })
                .collect();
            let shares = blending_shares(&activations, number(case, "temperature"));
            let mut blended = 0.0;
            for ((chunk, a), share) in chunks.iter().zip(&activations).zip(shares) {
                assert_close(*a, chunk, "activation", tolerance);
                assert_close(share, chunk, "probability", tolerance);
                blended += share * number(chunk, "value");
            }
            assert_close(blended, case, "blended", tolerance);
        }
    }

    #[test]
    fn display() {
        assert_eq!(activation_01(-5.5, -5.5, 1.5), 0.5);
        assert_eq!(activation_01(f64::NEG_INFINITY, -5.5, 1.5), 0.0);
        let hour = activation_01(base_level(&[3600.0], 0.5), -5.5, 1.5);
        assert!((hour - 0.719).abs() < 5e-4, "{hour}");
    }

    proptest! {
        /// Seconds instead of another unit add d·ln(unit) to every activation.
        #[test]
        fn another_unit_shifts_all_alike(ages in proptest::collection::vec(60f64..1e8, 1..20), d in 0.1f64..0.95) {
            let days: Vec<f64> = ages.iter().map(|age| age * 86_400.0).collect();
            let shift = base_level(&ages, d) - base_level(&days, d);
            prop_assert!((shift - d * 86_400f64.ln()).abs() < 1e-9);
        }
    }
}
