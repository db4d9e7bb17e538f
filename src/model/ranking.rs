//! From the scores of the lanes to one ranking, over a pool of candidates.
//!
//! 1. A word score is multiplied by how much of the question it covers.
//! 2. *Context*: a memory takes a share of the raw scores of its neighbours in the session. The
//!    answer often stands one turn from the words of the question.
//! 3. Both lanes are brought to 0..1 over the pool and added with weights. A memory without a vector
//!    (not embedded yet, or not by this model) stands in the middle of that lane.
//! 4. *Lending*: a memory beside a better one is lifted part of the way to it, the less text lies between.
//! 5. Small bounded bonuses: the speaker that the question names, the date that it names, not being a
//!    short question itself, saying something at all.
//!
//! Temporal contiguity is what memory research finds too (Kahana 1996). Every constant was chosen in
//! the middle of a plateau; `./task bench quality` measures the whole.

use super::fusion;

/// Strengths of the parts. Each is 0 to 1, and 0 switches its part off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// Of the vector lane; the word lane has the rest.
    pub vector: f64,
    /// How much of a word score depends on coverage.
    pub coverage: f64,
    /// Share of the neighbours' raw scores.
    pub context: f64,
    /// Part of the gap to a better neighbour that is lent; see [`lent`].
    pub lend: f64,
    /// Bonus for the speaker named.
    pub speaker: f64,
    /// Bonus for the date named.
    pub date: f64,
    /// Malus of a short question.
    pub question: f64,
    /// Bonus for length, full from 20 lexemes, and for what nobody said.
    pub length: f64,
}

/// Steps over which neighbours lend.
pub const REACH: usize = 3;
/// Lexemes from which a memory is context enough for itself.
const SELF_CONTAINED: f64 = 40.0;
/// Lexemes from which a memory is long enough.
const SUBSTANTIAL: f64 = 20.0;

/// A memory of the pool.
#[derive(Clone, Debug, Default)]
pub struct Candidate {
    /// BM25, 0 without a match.
    pub words: f64,
    /// Share of the question's idf that matches, 0..1.
    pub coverage: f64,
    /// Similarity, if it has a vector.
    pub vector: Option<f64>,
    /// Length in lexemes.
    pub length: u32,
    /// It ends with a question mark.
    pub question: bool,
    /// Somebody said it. Of what is written, titles and notes say as much in few words as others in many.
    pub spoken: bool,
    /// The question names its speaker and no other.
    pub speaker: bool,
    /// How well its time fits the dates that the question names, 0..1.
    pub date: f64,
    /// The neighbours before and after it, nearest first; `None` where the session ends.
    pub near: [[Option<Near>; REACH]; 2],
}

/// A neighbour.
#[derive(Clone, Copy, Debug, Default)]
pub struct Near {
    /// Its index in the pool, if it is there.
    pub pooled: Option<usize>,
    /// Length in lexemes.
    pub length: u32,
    /// Word score times the coverage factor; of direct neighbours.
    pub words: f64,
    /// Similarity; of direct neighbours.
    pub vector: Option<f64>,
}

/// What a score is made of. The sum of the contributions is the score.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Parts {
    /// Word score with coverage and context.
    pub words: f64,
    /// The same over the pool, 0..1.
    pub words_normalized: f64,
    /// Similarity with context.
    pub vector: Option<f64>,
    /// The same over the pool, 0..1.
    pub vector_normalized: f64,
    /// Contributions.
    pub from_words: f64,
    /// Of the vector lane.
    pub from_vector: f64,
    /// Of better neighbours.
    pub from_neighbours: f64,
    /// For the speaker.
    pub from_speaker: f64,
    /// For the date.
    pub from_date: f64,
    /// For being a question, not positive.
    pub from_question: f64,
    /// For length.
    pub from_length: f64,
}

impl Parts {
    /// The sum of the contributions.
    pub fn score(&self) -> f64 {
        self.from_words
            + self.from_vector
            + self.from_neighbours
            + self.from_speaker
            + self.from_date
            + self.from_question
            + self.from_length
    }
}

/// The factor on a word score for covering this share of the question.
pub fn coverage_factor(weights: &Weights, coverage: f64) -> f64 {
    1.0 - weights.coverage + weights.coverage * coverage
}

/// 1 for an empty memory, 0 for one of `full` lexemes or more.
fn shortness(length: u32, full: f64) -> f64 {
    (1.0 - f64::from(length) / full).max(0.0)
}

/// The share of a gap that is lent over this distance, in lexemes between the middles of two memories: all of it
/// between short turns, half of it over 104, nothing from 184 on. What a long message says next to another is
/// seldom said of it.
fn lent(distance: f64) -> f64 {
    (1.15 - distance / 160.0).clamp(0.0, 1.0)
}

/// Scores a pool. A lane that was not asked (`words`, `vectors`) or found nothing leaves all weight to
/// the other.
pub fn rank(weights: &Weights, pool: &[Candidate], words: bool, vectors: bool) -> Vec<Parts> {
    let (word_weight, vector_weight) = fusion::weights(weights.vector, words, vectors);
    let mut parts: Vec<Parts> = pool
        .iter()
        .map(|c| {
            let [before, after] = [c.near[0][0], c.near[1][0]];
            let direct = [before, after].into_iter().flatten();
            let best = direct.clone().map(|n| n.words).fold(0.0, f64::max);
            let share = weights.context * shortness(c.length, SELF_CONTAINED);
            let near: Vec<f64> = direct.filter_map(|n| n.vector).collect();
            Parts {
                words: c.words * coverage_factor(weights, c.coverage) + weights.context * best,
                vector: c.vector.map(|own| {
                    (own + share * near.iter().sum::<f64>()) / (1.0 + share * near.len() as f64)
                }),
                ..Parts::default()
            }
        })
        .collect();
    let by_words: Vec<f64> = parts.iter().map(|p| p.words).collect();
    let by_vector: Vec<Option<f64>> = parts.iter().map(|p| p.vector).collect();
    let normalized = fusion::shares(&by_words)
        .into_iter()
        .zip(fusion::normalize(&by_vector, words));
    for (p, (words, vector)) in parts.iter_mut().zip(normalized) {
        p.words_normalized = words;
        p.vector_normalized = vector;
        p.from_words = word_weight * words;
        p.from_vector = vector_weight * vector;
    }
    let fused: Vec<f64> = parts.iter().map(|p| p.from_words + p.from_vector).collect();
    for ((c, p), own) in pool.iter().zip(&mut parts).zip(&fused) {
        p.from_neighbours = 0.0;
        for side in &c.near {
            let mut passed = 0.5 * f64::from(c.length);
            for near in side.iter().map_while(Option::as_ref) {
                let half = 0.5 * f64::from(near.length);
                if let Some(other) = near.pooled {
                    let gap = fused[other] - own;
                    p.from_neighbours =
                        (p.from_neighbours).max(weights.lend * lent(passed + half) * gap);
                }
                passed += 2.0 * half;
            }
        }
        p.from_speaker = if c.speaker { weights.speaker } else { 0.0 };
        p.from_date = weights.date * c.date;
        if c.question {
            p.from_question = -weights.question * shortness(c.length, SELF_CONTAINED);
        }
        let enough = if c.spoken {
            1.0 - shortness(c.length, SUBSTANTIAL)
        } else {
            1.0
        };
        p.from_length = weights.length * enough;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WEIGHTS: Weights = Weights {
        vector: 0.5,
        coverage: 0.5,
        context: 0.2,
        lend: 0.4,
        speaker: 0.1,
        date: 0.2,
        question: 0.1,
        length: 0.1,
    };

    fn candidate() -> impl Strategy<Value = Candidate> {
        (
            0f64..20.0,
            0f64..=1.0,
            proptest::option::of(-1f64..1.0),
            0u32..100,
            any::<bool>(),
            any::<bool>(),
            0f64..=1.0,
        )
            .prop_map(
                |(words, coverage, vector, length, question, speaker, date)| Candidate {
                    words,
                    coverage,
                    vector,
                    length,
                    question,
                    spoken: true,
                    speaker,
                    date,
                    near: Default::default(),
                },
            )
    }

    /// The candidates as one session, in order.
    fn session(mut pool: Vec<Candidate>) -> Vec<Candidate> {
        let near = |pool: &[Candidate], i: Option<usize>| {
            let c = pool.get(i?)?;
            Some(Near {
                pooled: i,
                length: c.length,
                words: c.words * coverage_factor(&WEIGHTS, c.coverage),
                vector: c.vector,
            })
        };
        for i in 0..pool.len() {
            for step in 0..REACH {
                pool[i].near[0][step] = near(&pool, i.checked_sub(step + 1));
                pool[i].near[1][step] = near(&pool, Some(i + step + 1));
            }
        }
        pool
    }

    #[test]
    fn what_lies_between_lends_less() {
        // The second of a session is the answer; how much of it the others get.
        let lent = |lengths: [u32; 3]| {
            let pool = session(
                [0.0, 10.0, 0.0]
                    .into_iter()
                    .zip(lengths)
                    .map(|(words, length)| Candidate {
                        words,
                        coverage: 1.0,
                        length,
                        ..Candidate::default()
                    })
                    .collect(),
            );
            let weights = Weights {
                context: 0.0,
                ..WEIGHTS
            };
            let parts = rank(&weights, &pool, true, false);
            [0, 1, 2].map(|i| parts[i].from_neighbours)
        };
        assert_eq!(lent([20, 20, 20]), [0.4, 0.0, 0.4]);
        let [short, _, long] = lent([20, 100, 300]);
        assert!((short - 0.4 * (1.15 - 60.0 / 160.0)).abs() < 1e-12 && long == 0.0);
    }

    #[test]
    fn only_what_is_said_is_too_short() {
        let bonus = |spoken, length| {
            let one = Candidate {
                spoken,
                length,
                ..Candidate::default()
            };
            rank(&WEIGHTS, &[one], true, false)[0].from_length
        };
        assert_eq!(
            [bonus(true, 5), bonus(true, 20), bonus(false, 5)],
            [0.025, 0.1, 0.1]
        );
    }

    proptest! {
        #[test]
        fn scores_are_bounded_and_neighbours_only_lift_part_of_the_way(pool in proptest::collection::vec(candidate(), 1..30), words: bool, vectors: bool) {
            let alone = rank(&WEIGHTS, &pool, words, vectors);
            let pool = session(pool);
            let parts = rank(&WEIGHTS, &pool, words, vectors);
            let best = parts.iter().map(|p| p.from_words + p.from_vector).fold(0.0, f64::max);
            for p in &parts {
                prop_assert!(p.score() >= -0.1 - 1e-9 && p.score() <= 1.4 + 1e-9);
                prop_assert!(p.from_neighbours >= 0.0);
                prop_assert!(p.from_words + p.from_vector + p.from_neighbours <= best + 1e-9);
            }
            prop_assert!(alone.iter().all(|p| p.from_neighbours == 0.0));
        }

        #[test]
        fn without_weights_it_is_plain_fusion(pool in proptest::collection::vec(candidate(), 1..30)) {
            let plain = Weights { coverage: 0.0, context: 0.0, lend: 0.0, speaker: 0.0, date: 0.0, question: 0.0, length: 0.0, ..WEIGHTS };
            let pool = session(pool);
            let words = fusion::shares(&pool.iter().map(|c| c.words).collect::<Vec<_>>());
            let vectors = fusion::normalize(&pool.iter().map(|c| c.vector).collect::<Vec<_>>(), true);
            for (i, p) in rank(&plain, &pool, true, true).iter().enumerate() {
                prop_assert!((p.score() - (words[i] + vectors[i]) / 2.0).abs() < 1e-12);
            }
        }
    }
}
