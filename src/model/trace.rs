//! The two-store model of consolidation: a fast trace r1 that fades and feeds a slow one, r2.
//!
//! r1' = −μ1·r1, r2' = α·r1 − μ2·r2 + input; probability of recall 1 − e^−(r1+r2). Rates are per day,
//! intervals in days. The Memory Chain Model of Chessa & Murre 2007 and Murre, Chessa & Meeter 2013,
//! in closed form: it does not matter in how many steps an interval is gone through.

/// (r1, r2) after `dt_days` ≥ 0. `alpha`, `mu1`, `mu2` ≥ 0 per day; `input` is what is added to r2 per
/// day (replay).
pub fn evolve(
    r1: f64,
    r2: f64,
    dt_days: f64,
    alpha: f64,
    mu1: f64,
    mu2: f64,
    input: f64,
) -> (f64, f64) {
    // Symmetric in the rates, so that nothing overflows whichever is the faster; and what is small first, so that
    // nothing does on the way to a result that is.
    let transferred =
        r1 * (alpha * ((-mu1.min(mu2) * dt_days).exp() * sum_of_decay((mu1 - mu2).abs(), dt_days)));
    (
        r1 * (-mu1 * dt_days).exp(),
        r2 * (-mu2 * dt_days).exp() + transferred + input * sum_of_decay(mu2, dt_days),
    )
}

/// What a use of `gain`, `dt_days` ago, adds to (r1, r2) now: traces add up, so a use that comes to
/// light late is added as if it had been there.
pub fn response(gain: f64, dt_days: f64, alpha: f64, mu1: f64, mu2: f64) -> (f64, f64) {
    evolve(gain, 0.0, dt_days, alpha, mu1, mu2, 0.0)
}

/// Probability of recall, 0..1: 1 − e^−(r1+r2) (Murre, Chessa & Meeter 2013).
pub fn strength(r1: f64, r2: f64) -> f64 {
    -(-(r1 + r2)).exp_m1()
}

/// Rate of consolidation per day of a memory of this importance (0..1): base · (0.2 + importance²).
/// What matters consolidates six times as fast as what does not.
pub fn alpha(importance: f64, base: f64) -> f64 {
    base * (0.2 + importance * importance)
}

/// (1 − e^−rate·t) / rate, the integral of e^−rate·x over 0..t; t where the rate is 0. Both ≥ 0.
fn sum_of_decay(rate: f64, t: f64) -> f64 {
    let x = rate * t;
    if x > 1.0 {
        -(-x).exp_m1() / rate
    } else if x > 0.0 {
        t * (-(-x).exp_m1() / x)
    } else {
        t
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::vectors::{assert_close, cases, number, vectors};
    use proptest::prelude::*;

    #[test]
    fn oracle() {
        let file = vectors!("two_store");
        let tolerance = number(&file, "tolerance_rel");
        for case in cases(&file, "cases") {
            let [r1, r2, dt, alpha, mu1, mu2, input] =
                ["r1", "r2", "dt_days", "alpha", "mu1", "mu2", "input"]
                    .map(|key| number(case, key));
            let (r1, r2) = evolve(r1, r2, dt, alpha, mu1, mu2, input);
            assert_close(r1, case, "r1_out", tolerance);
            assert_close(r2, case, "r2_out", tolerance);
            assert_close(strength(r1, r2), case, "p", tolerance);
        }
    }

    /// However often a job looks at the traces, and also if all uses come to light at the end.
    #[test]
    fn schedule_oracle() {
        let file = vectors!("two_store");
        for case in cases(&file, "partition_invariance") {
            let [r1, r2, alpha, mu1, mu2, end] =
                ["r1", "r2", "alpha", "mu1", "mu2", "dt_days"].map(|key| number(case, key));
            let uses: Vec<(f64, f64)> = case["accesses"]
                .as_array()
                .unwrap()
                .iter()
                .map(|use_| (use_[0].as_f64().unwrap(), use_[1].as_f64().unwrap()))
                .collect();
            for step in case["steps_days"].as_array().unwrap() {
                let step = step.as_f64().unwrap();
                let (mut now, mut traces, mut pending) = (0.0, (r1, r2), uses.as_slice());
                while now < end {
                    let tick = (now + step).min(end);
                    while let [(at, gain), rest @ ..] = pending
                        && *at <= tick
                    {
                        traces = evolve(traces.0, traces.1, at - now, alpha, mu1, mu2, 0.0);
                        traces.0 += gain;
                        (now, pending) = (*at, rest);
                    }
                    traces = evolve(traces.0, traces.1, tick - now, alpha, mu1, mu2, 0.0);
                    now = tick;
                }
                assert_close(traces.0, case, "r1_out", 1e-8);
                assert_close(traces.1, case, "r2_out", 1e-8);
            }
            let mut traces = evolve(r1, r2, end, alpha, mu1, mu2, 0.0);
            for (at, gain) in uses {
                let late = response(gain, end - at, alpha, mu1, mu2);
                traces = (traces.0 + late.0, traces.1 + late.1);
            }
            assert_close(traces.0, case, "r1_out", 1e-8);
            assert_close(traces.1, case, "r2_out", 1e-8);
        }
    }

    #[test]
    fn equal_and_extreme_rates() {
        let (_, equal) = evolve(1.0, 0.0, 10.0, 0.1, 0.2, 0.2, 0.0);
        let (_, near) = evolve(1.0, 0.0, 10.0, 0.1, 0.2 + 1e-9, 0.2, 0.0);
        assert!((equal - (-2f64).exp()).abs() < 1e-15 && (equal - near).abs() < 1e-8);
        // In balance, after longer than any exponential can tell.
        let (r1, r2) = evolve(1.0, 0.5, 1e9, 0.1, 0.0, 1e3, 0.0);
        assert!(r1 == 1.0 && (r2 - 1e-4).abs() < 1e-15);
        assert_eq!(evolve(1.0, 0.5, 0.0, 0.1, 0.2, 0.3, 0.4), (1.0, 0.5));
        // Where a part of the product is more than a number can be.
        assert_eq!(evolve(1.0, 0.0, 1e305, 1e10, 0.15, 0.005, 0.0), (0.0, 0.0));
        assert_eq!(evolve(0.0, 0.0, 1e305, 0.1, 0.15, 0.5, 1e10).1, 2e10);
        assert_eq!(evolve(1.0, 0.0, 1e200, 1.0, 1e300, 0.0, 0.0).1, 1e-300);
        assert_eq!(evolve(1.0, 0.0, 1e-10, 1.0, 1e-320, 0.0, 0.0).1, 1e-10);
        assert_eq!(alpha(1.0, 0.08), 0.08 * 1.2);
    }

    proptest! {
        #[test]
        fn two_steps_are_one(
            r in (0f64..3.0, 0f64..3.0), dt in (0f64..400.0, 0f64..400.0),
            rates in (0f64..0.3, 0f64..0.5, 0f64..0.5), input in 0f64..0.01,
        ) {
            let (alpha, mu1, mu2) = rates;
            let step = |r: (f64, f64), dt| evolve(r.0, r.1, dt, alpha, mu1, mu2, input);
            let (once, twice) = (step(r, dt.0 + dt.1), step(step(r, dt.0), dt.1));
            prop_assert!((once.0 - twice.0).abs() <= 1e-12 && (once.1 - twice.1).abs() <= 1e-11 * (1.0 + once.1));
            prop_assert!((0.0..=1.0).contains(&strength(once.0, once.1)));
        }
    }
}
