//! How likely a memory is needed now, as a sum of log-odds.
//!
//! By Bayes the odds of need given history and context are the odds given history, which base-level
//! activation estimates, times a likelihood ratio for every cue (Anderson 1990; Anderson & Milson
//! 1989). Everything is in nats, so it adds.

use super::activation::logistic;

/// Most that one cue may say for or against, in nats.
pub const CLIP: f64 = 6.0;

/// Slopes of the terms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Betas {
    /// Of base-level activation; .5 fits usage on LoCoMo.
    pub base_level: f64,
    /// Of the words; .6 fits on LoCoMo.
    pub text: f64,
    /// Per unit of cosine.
    pub cosine: f64,
    /// Of the lift by spreading activation.
    pub lift: f64,
    /// Of importance 0..1.
    pub importance: f64,
    /// Subtracted when contradicted.
    pub contradicted: f64,
}

impl Default for Betas {
    fn default() -> Self {
        Self {
            base_level: 0.5,
            text: 0.6,
            cosine: 15.0,
            lift: 1.0,
            importance: 2.0,
            contradicted: 3.0,
        }
    }
}

impl From<[f64; 6]> for Betas {
    /// In the order of the fields.
    fn from([base_level, text, cosine, lift, importance, contradicted]: [f64; 6]) -> Self {
        Self {
            base_level,
            text,
            cosine,
            lift,
            importance,
            contradicted,
        }
    }
}

/// What is known of a memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// Base-level activation in nats; −∞ when it was never used.
    pub base_level: f64,
    /// Log-likelihood ratio of its words, such as a BM25 score.
    pub text_llr: f64,
    /// Cosine minus the mean of the candidates.
    pub cos_centered: f64,
    /// [`super::spreading`]'s lift, in nats.
    pub lift: f64,
    /// 0..1.
    pub importance: f64,
    /// Whether another memory contradicts it.
    pub contradicted: bool,
}

/// Log-odds of need, up to a constant: β_B·B + β_t·T + β_v·cos + β_g·G + β_I·importance − κ if
/// contradicted. The terms of words, cosine and lift are clipped to ±[`CLIP`].
///
/// A memory that a lane did not find has the least value that any candidate has there, not 0.
pub fn need_score(evidence: &Evidence, betas: &Betas) -> f64 {
    let clip = |term: f64| term.clamp(-CLIP, CLIP);
    // Where it does not count, not even −∞ does.
    let base_level = if betas.base_level == 0.0 {
        0.0
    } else {
        betas.base_level * evidence.base_level
    };
    base_level
        + clip(betas.text * evidence.text_llr)
        + clip(betas.cosine * evidence.cos_centered)
        + clip(betas.lift * evidence.lift)
        + betas.importance * evidence.importance
        - if evidence.contradicted {
            betas.contradicted
        } else {
            0.0
        }
}

/// Probability 0..1 of need: the logistic function of score + `b0`, a constant to be fitted to labels
/// (Platt 1999).
pub fn need_probability(score: f64, b0: f64) -> f64 {
    logistic(score + b0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: Evidence = Evidence {
        base_level: -4.0,
        text_llr: 5.0,
        cos_centered: 0.1,
        lift: 0.5,
        importance: 0.5,
        contradicted: false,
    };

    #[test]
    fn known_values() {
        let betas = Betas::default();
        let near = |evidence: Evidence, wanted: f64| {
            let got = need_score(&evidence, &betas);
            assert!((got - wanted).abs() < 1e-12, "{evidence:?}: {got}");
        };
        near(PLAIN, -2.0 + 3.0 + 1.5 + 0.5 + 1.0);
        near(
            Evidence {
                contradicted: true,
                ..PLAIN
            },
            1.0,
        );
        near(
            Evidence {
                text_llr: 1e9,
                cos_centered: -9.0,
                ..PLAIN
            },
            -2.0 + 6.0 - 6.0 + 0.5 + 1.0,
        );
        let unused = need_score(
            &Evidence {
                base_level: f64::NEG_INFINITY,
                ..PLAIN
            },
            &betas,
        );
        assert_eq!(unused, f64::NEG_INFINITY);
        assert_eq!(need_probability(unused, 0.0), 0.0);
        let by_context = Betas {
            base_level: 0.0,
            ..betas
        };
        let never = Evidence {
            base_level: f64::NEG_INFINITY,
            ..PLAIN
        };
        assert_eq!(need_score(&never, &by_context), 6.0);
        assert_eq!(need_probability(2.0, -2.0), 0.5);
        assert_eq!(Betas::from([0.5, 0.6, 15.0, 1.0, 2.0, 3.0]), betas);
    }

    proptest! {
        /// No context outweighs more than its clip, and more evidence is never worse.
        #[test]
        fn context_is_bounded_and_monotone(text in -50f64..50.0, more in 0f64..50.0) {
            let betas = Betas::default();
            let score = |text_llr| need_score(&Evidence { text_llr, ..PLAIN }, &betas);
            prop_assert!(score(text + more) >= score(text));
            prop_assert!(score(text + more) - score(text) <= 2.0 * CLIP + 1e-12);
        }
    }
}
