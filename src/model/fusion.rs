//! Fusing lanes: scores, not ranks, brought to 0..1 over the union of candidates and added with
//! weights. (Rank fusion lost 5 to 11 points of nDCG@10 on chats.)
//!
//! Scores of words have a zero of their own, that of a document without any of them, and are shares of the best:
//! where all candidates hold the same words, what little they differ by stays little. Similarities have none: the
//! least of the candidates' is 0.

/// Shares of the best of scores that are 0 or more; 0 where none is above 0.
pub fn shares(scores: &[f64]) -> Vec<f64> {
    let best = scores.iter().copied().fold(0.0, f64::max);
    let share = |s: &f64| if best > 0.0 { s / best } else { 0.0 };
    scores.iter().map(share).collect()
}

/// Brings the scores of one lane over the union of candidates to 0..1: the best gets 1, the worst
/// 0, and where all are equal, all get 1.
pub fn min_max(scores: &[f64]) -> Vec<f64> {
    let (min, max) = scores
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), s| {
            (lo.min(*s), hi.max(*s))
        });
    let range = max - min;
    scores
        .iter()
        .map(|s| if range > 0.0 { (s - min) / range } else { 1.0 })
        .collect()
}

/// [`min_max`] where some have no score. Nothing is known of those: `fair`, they get the middle one of
/// the others' and are neither preferred nor held back; otherwise 0.
pub fn normalize(scores: &[Option<f64>], fair: bool) -> Vec<f64> {
    let present: Vec<f64> = scores.iter().flatten().copied().collect();
    let present = min_max(&present);
    let mut sorted = present.clone();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
    let missing = if fair { middle } else { 0.0 };
    let mut given = present.into_iter();
    scores
        .iter()
        .map(|s| s.and_then(|_| given.next()).unwrap_or(missing))
        .collect()
}

/// Weights of the word lane and the vector lane, adding up to 1. A lane that was not asked or found
/// nothing leaves all weight to the other.
pub fn weights(vector_weight: f64, words: bool, vectors: bool) -> (f64, f64) {
    match (words, vectors) {
        (true, true) => (1.0 - vector_weight, vector_weight),
        (true, false) => (1.0, 0.0),
        (false, true) => (0.0, 1.0),
        (false, false) => (0.0, 0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn extremes() {
        assert_eq!(min_max(&[2.0, 1.0, 3.0]), [0.5, 0.0, 1.0]);
        assert_eq!(min_max(&[2.0]), [1.0]);
        assert_eq!(min_max(&[-3.0, -3.0]), [1.0, 1.0]);
        assert!(min_max(&[]).is_empty());
    }

    #[test]
    fn what_hardly_differs_has_hardly_other_shares() {
        assert_eq!(shares(&[2.0, 4.0, 0.0]), [0.5, 1.0, 0.0]);
        assert_eq!(shares(&[0.0, 0.0]), [0.0, 0.0]);
    }

    #[test]
    fn what_is_unknown_stands_in_the_middle() {
        let scores = [Some(-1.0), None, Some(3.0), Some(1.0)];
        assert_eq!(normalize(&scores, true), [0.0, 0.5, 1.0, 0.5]);
        assert_eq!(normalize(&scores, false), [0.0, 0.0, 1.0, 0.5]);
        assert_eq!(normalize(&[None, None], true), [0.0, 0.0]);
    }

    proptest! {
        #[test]
        fn order_is_kept_and_scores_stay_in_range(scores in proptest::collection::vec(-1e6f64..1e6, 1..50)) {
            let out = min_max(&scores);
            for (i, a) in scores.iter().enumerate() {
                prop_assert!((0.0..=1.0).contains(&out[i]));
                for (j, b) in scores.iter().enumerate() {
                    if a > b { prop_assert!(out[i] >= out[j]); }
                }
            }
        }

        #[test]
        fn weights_add_up(w in 0f64..=1.0, words: bool, vectors: bool) {
            let (a, b) = weights(w, words, vectors);
            prop_assert!(((a + b) - f64::from(u8::from(words || vectors))).abs() < 1e-12);
        }
    }
}
