//! A token of a query that is several words, as one concept.
//!
//! "getUserName" is itself, and it is "get", "user" and "name"; 1250.50 is also written 1,250.50, which PostgreSQL's
//! parser takes for two numbers. Counted as words of their own, these would outweigh the other words of a question. So
//! a concept has *readings*, each a list of words, and a document has what the best of them gives: never their sum.
//!
//! What a reading of several words tells is how few documents hold all of them. Its words share that, in the
//! proportion of their idf, where they would be worth more one by one: idf adds up for words that are independent of
//! each other (Robertson 2004, "Understanding inverse document frequency"), which parts of a name are not. That is so
//! where some document holds the concept as one word. What the parser always cuts, such as "foo_bar", nobody has as
//! one: then its parts are all that there is of it, and count like other words of the question, which are no more
//! independent of each other.
//!
//! A part of a name that is nothing without the others is less evidence than the same word by itself: who asks for
//! EnumArray asks neither for enums nor for arrays. So some of the words of such a reading count by how much of it they are.

use super::bm25::{self, Params};

/// A word's documents, ascending, and how often each holds it.
pub type Postings<'a> = &'a [(u32, u32)];

/// One way to read a concept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Indexes of words of the query, each once.
    pub words: Vec<usize>,
    /// Only all of them together are it. Else some are a part of it.
    pub all: bool,
    /// They are parts of a name, which is nothing without the others.
    pub name: bool,
}

impl Reading {
    /// Each of the words is a part of it.
    pub fn any(words: Vec<usize>) -> Self {
        Self::of(words, false)
    }

    /// Each of the words is a part of a name.
    pub fn of_name(words: Vec<usize>) -> Self {
        Self {
            name: true,
            ..Self::any(words)
        }
    }

    /// Only all of the words are it.
    pub fn all(words: Vec<usize>) -> Self {
        Self::of(words, true)
    }

    fn of(mut words: Vec<usize>, all: bool) -> Self {
        words.sort_unstable();
        words.dedup();
        Self {
            all: all && words.len() > 1,
            name: false,
            words,
        }
    }
}

/// A concept among the documents of a workspace.
#[derive(Clone, Debug)]
pub struct Concept {
    /// Indexes of the words that its readings consist of, ascending.
    pub words: Vec<usize>,
    readings: Vec<Weighted>,
    /// What a document is worth that matches it best, in idf.
    pub weight: f64,
    /// How much less that is than a word is worth that no document holds, where every reading has such words; else 0.
    pub unknown: f64,
}

/// A reading some of whose words there are.
#[derive(Clone, Debug)]
struct Weighted {
    /// Places in [`Concept::words`], and the share in idf of each.
    shares: Vec<(usize, f64)>,
    /// What the shares add up to.
    sum: f64,
    all: bool,
    name: bool,
}

impl Concept {
    /// `occurrences` and `idf` are by word of the query, `n` counts the documents.
    pub fn new(readings: &[Reading], occurrences: &[Vec<(u32, u32)>], idf: &[f64], n: u64) -> Self {
        let mut words: Vec<usize> = readings.iter().flat_map(|r| r.words.clone()).collect();
        words.sort_unstable();
        words.dedup();
        // Words that no document holds tell nothing, unless all are wanted.
        let known = |word: &usize| !occurrences[*word].is_empty();
        let one_word =
            (readings.iter()).any(|reading| reading.words.len() == 1 && known(&reading.words[0]));
        let mut complete = (readings.iter()).any(|r| !r.all && r.words.iter().all(known));
        let mut readings: Vec<Weighted> = readings
            .iter()
            .filter(|reading| !reading.all || reading.words.iter().all(known))
            .map(|reading| Weighted {
                shares: (reading.words.iter().filter(|word| known(word)))
                    .filter_map(|word| Some((words.binary_search(word).ok()?, idf[*word])))
                    .collect(),
                sum: 0.0,
                all: reading.all,
                name: reading.name,
            })
            .filter(|reading| !reading.shares.is_empty())
            .collect();
        let mut whole = vec![0u64; readings.len()];
        let postings: Vec<Postings<'_>> = words.iter().map(|w| &occurrences[*w][..]).collect();
        let capped = |reading: &Weighted| reading.shares.len() > 1 && (one_word || reading.all);
        if readings.iter().any(capped) {
            each(&postings, |_, counts| {
                for (whole, reading) in whole.iter_mut().zip(&readings) {
                    *whole += u64::from(reading.holds_all(counts));
                }
            });
        }
        let mut weight = 0f64;
        for (reading, whole) in readings.iter_mut().zip(whole) {
            let sum: f64 = reading.shares.iter().map(|(_, idf)| idf).sum();
            let most = if capped(reading) {
                bm25::idf(n, whole)
            } else {
                sum
            };
            if sum > most {
                for (_, share) in &mut reading.shares {
                    *share *= most / sum;
                }
            }
            reading.sum = sum.min(most);
            if !reading.all || whole > 0 {
                weight = weight.max(reading.sum);
                complete |= reading.all;
            }
        }
        Self {
            words,
            readings,
            weight,
            unknown: if complete {
                0.0
            } else {
                (bm25::idf(n, 0) - weight).max(0.0)
            },
        }
    }

    /// What a document with this norm that holds each of `words` so often gets for it: its part of the score, and how
    /// much of [`Self::weight`] it covers.
    pub fn of(&self, counts: &[u32], params: Params, norm: f64) -> (f64, f64) {
        let (mut score, mut covered) = (0f64, 0f64);
        for reading in self.readings.iter().filter(|r| r.applies(counts)) {
            let (mut sum, mut shares) = (0.0, 0.0);
            for (place, share) in reading.held(counts) {
                sum += bm25::weight(params, share, counts[place], norm);
                shares += share;
            }
            score = score.max(sum * reading.certainty(counts));
            covered = covered.max(shares);
        }
        (score, covered)
    }

    /// What the score of [`Self::of`] consists of: words of the reading that gives most, by their index in the query.
    pub fn parts(&self, counts: &[u32], params: Params, norm: f64) -> Vec<(usize, f64)> {
        let mut best = (0.0, Vec::new());
        for reading in self.readings.iter().filter(|r| r.applies(counts)) {
            let certainty = reading.certainty(counts);
            let parts: Vec<(usize, f64)> = (reading.held(counts))
                .map(|(place, share)| {
                    let part = bm25::weight(params, share, counts[place], norm);
                    (self.words[place], part * certainty)
                })
                .collect();
            let sum: f64 = parts.iter().map(|(_, part)| part).sum();
            if sum > best.0 {
                best = (sum, parts);
            }
        }
        best.1
    }
}

impl Weighted {
    fn holds_all(&self, counts: &[u32]) -> bool {
        self.shares.iter().all(|(place, _)| counts[*place] > 0)
    }

    fn applies(&self, counts: &[u32]) -> bool {
        !self.all || self.holds_all(counts)
    }

    /// How much of the name the words are that a document holds, 0..1; 1 where words count by themselves.
    fn certainty(&self, counts: &[u32]) -> f64 {
        if !self.name || self.holds_all(counts) {
            return 1.0;
        }
        let held: f64 = self.held(counts).map(|(_, share)| share).sum();
        held / self.sum
    }

    fn held<'a>(&'a self, counts: &'a [u32]) -> impl Iterator<Item = (usize, f64)> + 'a {
        let shares = self.shares.iter().copied();
        shares.filter(|(place, _)| counts[*place] > 0)
    }
}

/// Calls `visit` with each document that any of these words occur in, ascending, and how often each of them does.
pub fn each(words: &[Postings<'_>], mut visit: impl FnMut(u32, &[u32])) {
    let mut rest: Vec<Postings<'_>> = words.to_vec();
    let mut counts = vec![0; words.len()];
    while let Some(next) = rest.iter().filter_map(|p| Some(p.first()?.0)).min() {
        for (count, rest) in counts.iter_mut().zip(&mut rest) {
            *count = match rest.split_first() {
                Some(((document, count), after)) if *document == next => {
                    *rest = after;
                    *count
                }
                _ => 0,
            };
        }
        visit(next, &counts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PARAMS: Params = Params {
        k1: 1.2,
        pivot: 30.0,
    };

    fn postings(documents: &[u32]) -> Vec<(u32, u32)> {
        documents.iter().map(|d| (*d, 1)).collect()
    }

    fn idfs(n: u64, occurrences: &[Vec<(u32, u32)>]) -> Vec<f64> {
        let df = occurrences.iter().map(|o| o.len() as u64);
        df.map(|df| bm25::idf(n, df)).collect()
    }

    #[test]
    fn a_name_is_worth_no_more_than_the_rarity_of_its_parts_together() {
        // The name, and two parts that stand in its documents and in one more each.
        let found = [
            postings(&[1, 2]),
            postings(&[1, 2, 3]),
            postings(&[1, 2, 4]),
        ];
        let idf = idfs(100, &found);
        let readings = [Reading::any(vec![0]), Reading::any(vec![1, 2])];
        let concept = Concept::new(&readings, &found, &idf, 100);
        assert!((concept.weight - idf[0]).abs() < 1e-12);
        let covered = |counts: [u32; 3]| concept.of(&counts, PARAMS, 1.0).1 / concept.weight;
        assert!((covered([1, 1, 1]) - 1.0).abs() < 1e-12);
        assert!((covered([0, 1, 1]) - 1.0).abs() < 1e-12);
        assert!((covered([0, 1, 0]) - 0.5).abs() < 1e-12);
        assert_eq!(concept.of(&[0, 0, 0], PARAMS, 1.0), (0.0, 0.0));
        // Parts that nothing holds together are worth no more than the rarest word.
        let apart = [postings(&[5]), postings(&[3]), postings(&[4])];
        let concept = Concept::new(&readings, &apart, &idfs(100, &apart), 100);
        assert!((concept.weight - bm25::idf(100, 0)).abs() < 1e-12);
    }

    #[test]
    fn what_nobody_has_as_one_word_counts_as_its_words() {
        let found = [postings(&[]), postings(&[1, 3]), postings(&[1, 4, 5])];
        let idf = idfs(100, &found);
        for readings in [
            &[Reading::any(vec![0]), Reading::any(vec![1, 2])][..],
            &[Reading::any(vec![1, 2])],
        ] {
            let concept = Concept::new(readings, &found, &idf, 100);
            assert!((concept.weight - idf[1] - idf[2]).abs() < 1e-12);
        }
    }

    #[test]
    fn a_part_of_a_name_is_less_than_a_word() {
        let found = [postings(&[1, 2]), postings(&[1, 3])];
        let idf = idfs(100, &found);
        let of = |reading, counts: [u32; 2]| {
            let concept = Concept::new(&[reading], &found, &idf, 100);
            let (score, covered) = concept.of(&counts, PARAMS, 1.0);
            let parts: f64 = (concept.parts(&counts, PARAMS, 1.0).iter().map(|p| p.1)).sum();
            assert!((parts - score).abs() < 1e-12);
            (score, covered / concept.weight)
        };
        let (name, words) = (Reading::of_name(vec![0, 1]), Reading::any(vec![0, 1]));
        assert_eq!(of(name.clone(), [1, 1]), of(words.clone(), [1, 1]));
        let ((part, covered), (word, of_words)) = (of(name, [1, 0]), of(words, [1, 0]));
        assert!((part - 0.5 * word).abs() < 1e-12);
        assert_eq!((covered, of_words), (0.5, 0.5));
    }

    #[test]
    fn what_nobody_has_written_lacks_unless_it_is_there_in_other_words() {
        let readings = [Reading::any(vec![0]), Reading::any(vec![1, 2])];
        let of = |found: [&[u32]; 3]| {
            let found = found.map(postings);
            Concept::new(&readings, &found, &idfs(100, &found), 100)
        };
        assert_eq!(of([&[], &[1, 2], &[2]]).unknown, 0.0);
        assert_eq!(of([&[1], &[], &[]]).unknown, 0.0);
        for found in [[&[][..], &[1, 2], &[]], [&[], &[], &[]]] {
            let concept = of(found);
            assert!((concept.weight + concept.unknown - bm25::idf(100, 0)).abs() < 1e-12);
            assert!(concept.unknown > 0.0);
        }
    }

    #[test]
    fn some_readings_want_all_their_words() {
        let found = [
            postings(&[]),
            postings(&[1, 2, 3]),
            postings(&[2]),
            postings(&[]),
        ];
        let readings = [
            Reading::any(vec![0]),
            Reading::all(vec![1, 2]),
            Reading::all(vec![1, 3]),
        ];
        let concept = Concept::new(&readings, &found, &idfs(9, &found), 9);
        assert_eq!(concept.of(&[0, 1, 0, 0], PARAMS, 1.0), (0.0, 0.0));
        let (score, covered) = concept.of(&[0, 1, 1, 0], PARAMS, 1.0);
        assert!(score > 0.0 && (covered - concept.weight).abs() < 1e-12);
        let parts = concept.parts(&[0, 1, 1, 0], PARAMS, 1.0);
        assert_eq!(parts.iter().map(|p| p.0).collect::<Vec<_>>(), [1, 2]);
    }

    proptest! {
        #[test]
        fn a_match_is_bounded_and_explained(
            sets in proptest::collection::vec(proptest::collection::btree_set(0u32..20, 0..12), 1..6),
            chosen in proptest::collection::vec((proptest::collection::vec(0usize..6, 1..4), any::<bool>()), 1..4),
            norm in 0.3f64..4.0,
            name: bool,
        ) {
            let found: Vec<Vec<(u32, u32)>> = sets.iter()
                .map(|set| set.iter().map(|d| (*d, 1 + d % 3)).collect()).collect();
            let readings: Vec<Reading> = chosen.iter()
                .map(|(words, all)| {
                    let words = words.iter().map(|w| w % found.len()).collect();
                    if *all { Reading::all(words) } else if name { Reading::of_name(words) } else { Reading::any(words) }
                })
                .collect();
            let concept = Concept::new(&readings, &found, &idfs(20, &found), 20);
            let lists: Vec<Postings<'_>> = concept.words.iter().map(|w| &found[*w][..]).collect();
            let mut seen = Vec::new();
            each(&lists, |document, counts| {
                let (score, covered) = concept.of(counts, PARAMS, norm);
                assert!(score <= concept.weight + 1e-9 && covered <= concept.weight + 1e-9);
                let parts = concept.parts(counts, PARAMS, norm);
                assert!((parts.iter().map(|p| p.1).sum::<f64>() - score).abs() < 1e-12);
                seen.push(document);
            });
            let mut wanted: Vec<u32> = concept.words.iter().flat_map(|w| found[*w].iter().map(|o| o.0)).collect();
            wanted.sort_unstable();
            wanted.dedup();
            prop_assert_eq!(seen, wanted);
        }
    }
}
