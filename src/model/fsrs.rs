//! FSRS-6, the spaced-repetition model of Ye, Su & Cao 2022 and its successors: when a memory is next
//! worth confirming. Times and stabilities are in days. And, to compare with other systems, the
//! older curves of forgetting.

/// Default parameters w0..w20 of FSRS-6.
pub const PARAMETERS: [f64; 21] = [
    0.212, 1.2931, 2.3065, 8.2956, 6.4133, 0.8334, 3.0194, 0.001, 1.8722, 0.1666, 0.796, 1.4835,
    0.0614, 0.2629, 1.6483, 0.6014, 1.8729, 0.5425, 0.0912, 0.0658, DECAY,
];

/// Default exponent of the forgetting curve, w20.
pub const DECAY: f64 = 0.1542;

/// Least stability in days.
pub const MIN_STABILITY: f64 = 0.001;

/// How a review went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rating {
    /// Not recalled, or refuted.
    Again = 1,
    /// Recalled with trouble, hardly relevant.
    Hard = 2,
    /// Recalled, used.
    Good = 3,
    /// Recalled at once, confirmed.
    Easy = 4,
}

impl Rating {
    /// From 1..4.
    pub fn from_number(number: i32) -> Option<Self> {
        match number {
            1 => Some(Self::Again),
            2 => Some(Self::Hard),
            3 => Some(Self::Good),
            4 => Some(Self::Easy),
            _ => None,
        }
    }
}

/// What FSRS knows of a memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    /// Days after which its retrievability is 0.9; ≥ [`MIN_STABILITY`].
    pub stability: f64,
    /// 1 (easy) to 10.
    pub difficulty: f64,
}

/// Probability 0..1 of recall `elapsed_days` ≥ 0 after the last review:
/// (1 + F·t/S)^−decay, F = 0.9^(−1/decay) − 1. It is 0.9 after `stability` > 0 days. decay > 0.
pub fn retrievability(elapsed_days: f64, stability: f64, decay: f64) -> f64 {
    (1.0 + factor(decay) * elapsed_days / stability).powf(-decay)
}

/// Days until retrievability has fallen to `retention` (0..1, without 0).
pub fn interval(stability: f64, retention: f64, decay: f64) -> f64 {
    stability / factor(decay) * (retention.powf(-1.0 / decay) - 1.0)
}

fn factor(decay: f64) -> f64 {
    0.9f64.powf(-1.0 / decay) - 1.0
}

/// The memory after a review `elapsed_days` after the one before, and its retrievability just before.
/// The first review (`before` is `None`) only makes it, whatever the time, and has none. Reviews
/// within a day follow the short-term formula. `w` are the parameters, w20 > 0.
///
/// Fractions of days count; py-fsrs, which these formulas agree with, counts whole days.
pub fn step(
    before: Option<Memory>,
    elapsed_days: f64,
    rating: Rating,
    w: &[f64; 21],
) -> (Memory, Option<f64>) {
    let g = f64::from(rating as u8);
    let Some(Memory {
        stability: s,
        difficulty: d,
    }) = before
    else {
        let first = Memory {
            stability: w[rating as usize - 1].max(MIN_STABILITY),
            difficulty: initial_difficulty(g, w).clamp(1.0, 10.0),
        };
        return (first, None);
    };
    let r = retrievability(elapsed_days, s, w[20]);
    let stability = if elapsed_days < 1.0 {
        let change = (w[17] * (g - 3.0 + w[18])).exp() * s.powf(-w[19]);
        // What was recalled is not forgotten sooner for it.
        s * if rating == Rating::Again {
            change
        } else {
            change.max(1.0)
        }
    } else if rating == Rating::Again {
        let long =
            w[11] * d.powf(-w[12]) * ((s + 1.0).powf(w[13]) - 1.0) * (w[14] * (1.0 - r)).exp();
        long.min(s * (-w[17] * w[18]).exp())
    } else {
        let ease = match rating {
            Rating::Hard => w[15],
            Rating::Easy => w[16],
            Rating::Good | Rating::Again => 1.0,
        };
        s * (1.0 + w[8].exp() * (11.0 - d) * s.powf(-w[9]) * (w[10] * (1.0 - r)).exp_m1() * ease)
    };
    let damped = d - w[6] * (g - 3.0) * (10.0 - d) / 9.0;
    let difficulty = w[7] * initial_difficulty(4.0, w) + (1.0 - w[7]) * damped;
    let after = Memory {
        stability: stability.max(MIN_STABILITY),
        difficulty: difficulty.clamp(1.0, 10.0),
    };
    (after, Some(r))
}

fn initial_difficulty(g: f64, w: &[f64; 21]) -> f64 {
    w[4] - (w[5] * (g - 1.0)).exp() + 1.0
}

/// e^(−t/S), the forgetting curve of the two-component model of Woźniak, Gorzelańczyk & Murakowski
/// 1995, which is often called by Ebbinghaus's name. t ≥ 0 and S > 0 in days.
pub fn exp_retrievability(t_days: f64, s_days: f64) -> f64 {
    (-t_days / s_days).exp()
}

/// (1 + βt)^−ψ, the power law of Wickelgren 1974 with λ = 1.
pub fn wickelgren(t: f64, beta: f64, psi: f64) -> f64 {
    (1.0 + beta * t).powf(-psi)
}

/// Decay per day of a memory type, for [`stability_upstream`].
pub fn decay_per_day(kind: &str) -> Option<f64> {
    match kind {
        "factual" => Some(0.03),
        "episodic" => Some(0.1),
        "relational" | "causal" => Some(0.02),
        "emotional" | "procedural" => Some(0.01),
        "opinion" => Some(0.05),
        _ => None,
    }
}

/// Stability in days as engramai has it, for comparison: (1/decay)·(1 + ½ ln(1 + n))·(½ + importance)
/// ·(1 + 0.2·consolidations). It depends on how often a job ran, so nothing here is built on it.
pub fn stability_upstream(decay: f64, n: u64, importance: f64, consolidations: u32) -> f64 {
    (1.0 + 0.5 * (n as f64).ln_1p()) * (0.5 + importance) * (1.0 + 0.2 * f64::from(consolidations))
        / decay
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::vectors::{assert_close, cases, number, numbers, vectors};
    use proptest::prelude::*;

    #[test]
    fn oracle() {
        let file = vectors!("fsrs6");
        let tolerance = number(&file, "tolerance_rel");
        assert_eq!(numbers(&file, "parameters"), PARAMETERS);
        for case in cases(&file, "cases") {
            let mut memory = None;
            for review in cases(case, "steps") {
                let rating = Rating::from_number(number(review, "rating") as i32).unwrap();
                let elapsed = review["elapsed_days"].as_f64().unwrap_or(0.0);
                let (after, r) = step(memory, elapsed, rating, &PARAMETERS);
                assert_close(after.stability, review, "stability", tolerance);
                assert_close(after.difficulty, review, "difficulty", tolerance);
                assert_eq!(r.is_none(), review["R_before"].is_null());
                if let Some(r) = r {
                    assert_close(r, review, "R_before", tolerance);
                }
                memory = Some(after);
            }
        }
        for case in cases(&file, "retrievability") {
            let r = retrievability(
                number(case, "elapsed_days"),
                number(case, "stability"),
                DECAY,
            );
            assert_close(r, case, "R", tolerance);
        }
        for case in cases(&file, "intervals") {
            let days = interval(
                number(case, "stability"),
                number(case, "desired_retention"),
                DECAY,
            );
            assert_close(days, case, "interval_days_unrounded", tolerance);
        }
    }

    #[test]
    fn older_curves_oracle() {
        let file = vectors!("retrieval");
        let tolerance = number(&file, "tolerance_rel");
        for case in cases(&file, "forgetting") {
            let t = number(case, "t_days");
            // The file has 15 digits of t, which e^-365 makes much of.
            let tolerance = tolerance * (1.0 + t);
            assert_close(
                exp_retrievability(t, number(case, "S_days")),
                case,
                "R_exp",
                tolerance,
            );
            assert_close(
                wickelgren(t, 1.0, 0.5),
                case,
                "R_wickelgren_beta1_psi05",
                tolerance,
            );
        }
        for case in cases(&file, "upstream_stability") {
            let decay = decay_per_day(case["type"].as_str().unwrap()).unwrap();
            let n = case["n_accesses"].as_u64().unwrap();
            let got = stability_upstream(
                decay,
                n,
                number(case, "importance"),
                number(case, "consolidation_count") as u32,
            );
            assert_close(got, case, "S_days", tolerance);
        }
        assert_eq!(decay_per_day("other"), None);
    }

    proptest! {
        #[test]
        fn reviews_keep_memories_in_range(
            s in 0.001f64..1e5, d in 1f64..=10.0, days in 0f64..5000.0, rating in 1i32..=4,
        ) {
            let before = Memory { stability: s, difficulty: d };
            let (after, r) = step(Some(before), days, Rating::from_number(rating).unwrap(), &PARAMETERS);
            prop_assert!(after.stability >= MIN_STABILITY && after.stability.is_finite());
            prop_assert!((1.0..=10.0).contains(&after.difficulty));
            prop_assert!((0.0..=1.0).contains(&r.unwrap()));
            if rating == 1 { prop_assert!(after.stability <= s.max(1.0)) } else { prop_assert!(after.stability >= s) }
            let back = interval(s, r.unwrap(), DECAY);
            prop_assert!((back - days).abs() <= 1e-6 * (1.0 + days), "{} days came back as {}", days, back);
        }
    }
}
