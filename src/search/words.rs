//! The word lane: BM25 over the workspace's documents, plus the entities that the query names.

use std::collections::{HashMap, HashSet};

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Context;
use super::corpus::{Corpus, length_at};
use super::fuzzy::Taken;
use crate::blocks::documents::Word;
use crate::error::Result;
use crate::model::bm25;
use crate::model::concepts::{self, Concept, Postings, Reading};
use crate::model::ranking::{Weights, coverage_factor};
use crate::query::{Query, keep_ends};
use crate::scan::{Key, Table};
use crate::{spi, terms, text};

/// Most distinct lexemes of a query that count: half of them from its beginning, half from its end. Whole messages are
/// asked as they are, and what they ask stands at either.
const MAX_LEXEMES: usize = 64;

/// A query after the text configuration has seen it.
#[derive(Default)]
pub struct Analysed {
    /// Words that score, in the order of the query, each once.
    pub lexemes: Vec<String>,
    /// Which of them count by themselves; the others only as part of a concept.
    alone: Vec<bool>,
    /// Tokens that are several words, each as the ways to read it.
    concepts: Vec<Vec<Reading>>,
    /// What every result must satisfy, as the text of a tsquery.
    phrases: Vec<String>,
    /// Whether pairs of characters are among those, which only [`text::extra`] has.
    paired: bool,
    /// Lexemes that every result must hold.
    required: Vec<String>,
    /// Lexemes that no result may hold.
    excluded: Vec<String>,
}

/// Separates lexemes in what analysing a phrase gives; no lexeme contains it.
const SEPARATOR: char = '\u{1}';

/// Analyses the parts of a query. Stop words vanish here.
pub fn analyse(query: &Query, config: &str) -> Result<Analysed> {
    let mut analysed = Analysed::default();
    if !query.free.is_empty() {
        let config = crate::words::configuration(config);
        let mut seen = HashSet::new();
        // Not twice with and without its accents.
        let mut new = |l: &String| !l.is_empty() && seen.insert(text::fold(l).into_owned());
        let mut found = lexemes(config, &query.free);
        found.retain(&mut new);
        keep_ends(&mut found, MAX_LEXEMES);
        if let Some(extra) = text::extra_asked(&query.free) {
            // What nobody asks with its accents is not asked without them: "für", "été".
            let silent: Vec<String> = query
                .free
                .split(|c: char| !c.is_alphanumeric())
                .filter(|word| !word.is_ascii() && lexemes(config, word).is_empty())
                .map(|word| text::latin(word).into_owned())
                .collect();
            let asked: Vec<&str> = extra
                .split(' ')
                .filter(|word| !silent.iter().any(|s| s == word))
                .collect();
            let mut more = lexemes(config, &asked.join(" "));
            more.retain(new);
            keep_ends(&mut more, MAX_LEXEMES - found.len());
            found.extend(more);
        }
        analysed.lexemes = found;
        analysed.find_concepts(config, &query.free);
    }
    if query.required.is_empty() && query.excluded.is_empty() {
        return Ok(analysed);
    }
    analysed.bind(query, config)?;
    Ok(analysed)
}

/// The lexemes of a text in the order in which they come.
fn lexemes(config: pg_sys::Oid, text: &str) -> Vec<String> {
    let sent = crate::words::sent(config, text);
    let mut found: Vec<terms::Term<'_>> = terms::parse(&sent).collect();
    found.sort_by_key(|term| term.first);
    let text = |term: &terms::Term<'_>| String::from_utf8_lossy(term.lexeme).into_owned();
    found.iter().map(text).collect()
}

/// Lexemes with the same key are one word.
fn key(lexeme: &str) -> String {
    text::fold(lexeme).into_owned()
}

/// A token of a query of which several words are looked for.
struct Token {
    /// All of them.
    words: Vec<String>,
    /// Ways to read it.
    readings: Vec<Vec<String>>,
    /// Other ways to write it. Only all words of one are it.
    spellings: Vec<Vec<String>>,
    /// A number with signs between its thousands: what is between them is no part.
    grouped: bool,
    /// An identifier, of which no part is a word by itself. What a hyphen, a slash or a dot joins is.
    name: bool,
}

impl Token {
    /// `None` when it is one word.
    fn of(config: pg_sys::Oid, token: &str) -> Option<Self> {
        let whole = lexemes(config, token);
        let parts = text::extra_asked(token).map_or_else(Vec::new, |extra| lexemes(config, &extra));
        let number = text::number(token);
        let words: Vec<String> = whole.iter().chain(&parts).cloned().collect();
        let several = words.iter().any(|word| key(word) != key(&words[0]));
        if number.is_none() && !several {
            return None;
        }
        // Without their accents only words that have some are told; those beside them are parts as much.
        let parts = if token.is_ascii() {
            parts
        } else {
            let beside = whole.iter().filter(|lexeme| lexeme.is_ascii()).cloned();
            beside.chain(parts).collect()
        };
        let grouped = number.as_ref().is_some_and(|number| number.grouped);
        let sources = if grouped {
            [Vec::new(), parts]
        } else {
            [whole, parts]
        };
        // What joins others ("foo-bar", a host) is a word by itself.
        let joins = |lexeme: &String| {
            let inner = lexeme.trim_matches(|c: char| !c.is_alphanumeric());
            inner.contains(|c: char| !c.is_alphanumeric())
        };
        let mut readings = Vec::new();
        for words in sources {
            let (joined, simple): (Vec<String>, _) = words.into_iter().partition(joins);
            readings.extend(joined.into_iter().map(|word| vec![word]));
            readings.push(simple);
        }
        let name = (token.trim_matches(|c: char| !c.is_alphanumeric()))
            .chars()
            .all(|c| c.is_alphanumeric() || c == '_');
        let spellings = number.map_or_else(Vec::new, |number| number.spellings);
        let spellings = spellings.iter().map(|spelling| lexemes(config, spelling));
        Some(Self {
            words,
            readings,
            spellings: spellings.collect(),
            grouped,
            name,
        })
    }
}

impl Analysed {
    /// Takes in what must and what must not occur.
    fn bind(&mut self, query: &Query, config: &str) -> Result<()> {
        let given: Vec<&String> = query.required.iter().chain(&query.excluded).collect();
        let all: Vec<Vec<String>> = (given.iter())
            .map(|phrase| text::parts_of_phrase(phrase))
            .collect();
        let phrases: Vec<String> = (all.iter().flatten())
            .map(|part| crate::words::parsed(part).into_owned())
            .collect();
        let mut found = spi::rows(
            include_str!("sql/phrases.sql"),
            &[DatumWithOid::from(config), DatumWithOid::from(phrases)],
            |row| {
                Ok((
                    row.get::<String>(1)?.unwrap_or_default(),
                    row.get::<String>(2)?.unwrap_or_default(),
                    row.get::<bool>(3)?.unwrap_or(false),
                ))
            },
        )?
        .into_iter();
        for (nth, parts) in all.iter().enumerate() {
            let required = nth < query.required.len();
            let mut phrases = Vec::new();
            for (phrase, lexemes, single) in found.by_ref().take(parts.len()) {
                if phrase.is_empty() {
                    continue; // Stop words only.
                }
                let lexemes = lexemes.split(SEPARATOR).map(str::to_owned);
                // One lexeme is decided by the scan alone.
                let alone = single && (required || parts.len() == 1);
                if required {
                    self.required.extend(lexemes);
                } else if alone {
                    self.excluded.extend(lexemes);
                }
                if !alone {
                    phrases.push(format!("( {phrase} )"));
                }
            }
            if phrases.is_empty() {
                continue;
            }
            let phrase = phrases.join(" & ");
            self.paired |= parts[0] != *given[nth];
            self.phrases.push(if required {
                phrase
            } else {
                format!("!( {phrase} )")
            });
        }
        Ok(())
    }

    /// Finds out which of the words are one thing to whoever asks: a name and its parts, a number and how else it is
    /// written. Words of other spellings are added.
    fn find_concepts(&mut self, config: pg_sys::Oid, free: &str) {
        self.alone = vec![true; self.lexemes.len()];
        let (mut tokens, mut rest) = text::compounds(free);
        let mut seen = HashSet::new();
        tokens.retain(|token| seen.insert(*token));
        keep_ends(&mut tokens, MAX_LEXEMES);
        let mut tokens: Vec<Token> = (tokens.into_iter())
            .filter_map(|token| {
                let several = Token::of(config, token);
                if several.is_none() {
                    rest.extend([" ", token]);
                }
                several
            })
            .collect();
        if tokens.is_empty() {
            return;
        }
        // What is no part of a number may be one of another token.
        tokens.sort_by_key(|token| token.grouped);
        let mut places: HashMap<String, usize> =
            self.lexemes.iter().map(|l| key(l)).zip(0..).collect();
        // A word that is asked for by itself is not part of a name as well, and one of two names is part of the first.
        let mut taken: HashSet<usize> = (lexemes(config, &rest).iter())
            .filter_map(|l| places.get(&key(l)).copied())
            .collect();
        for token in tokens {
            let free = |l: &String| places.get(&key(l)).filter(|w| !taken.contains(w)).copied();
            let mut own: Vec<usize> = token.words.iter().filter_map(free).collect();
            if own.is_empty() {
                continue;
            }
            let mut readings: Vec<Reading> = (token.readings.iter())
                .map(|words| {
                    let words = words.iter().filter_map(free).collect();
                    if token.name {
                        Reading::of_name(words)
                    } else {
                        Reading::any(words)
                    }
                })
                .collect();
            for words in token.spellings {
                let new = words.iter().filter(|l| !places.contains_key(&key(l)));
                if self.lexemes.len() + new.count() > MAX_LEXEMES {
                    continue;
                }
                let mut place = |l: String| {
                    *places.entry(key(&l)).or_insert_with(|| {
                        self.lexemes.push(l);
                        self.alone.push(false);
                        self.lexemes.len() - 1
                    })
                };
                readings.push(Reading::all(words.into_iter().map(&mut place).collect()));
            }
            readings.retain(|reading| !reading.words.is_empty());
            if readings.is_empty() {
                continue;
            }
            // Another spelling may be asked for as well, as one word.
            own.extend((readings.iter().filter(|r| r.words.len() == 1)).map(|r| r.words[0]));
            taken.extend(&own);
            let several = |word: &usize| *word != own[0];
            if own.iter().any(several) || readings.iter().any(|r| r.words.iter().any(several)) {
                for word in own {
                    self.alone[word] = false;
                }
                self.concepts.push(readings);
            }
        }
    }

    /// Whether this is only part of something that is there in other words.
    pub fn spared(&self, word: usize, found: &[bool]) -> bool {
        let there = |reading: &Reading| reading.words.iter().all(|word| found[*word]);
        !self.alone[word]
            && (self.concepts.iter())
                .filter(|concept| concept.iter().any(|r| r.words.contains(&word)))
                .all(|concept| concept.iter().any(there))
    }

    /// What every result must satisfy beyond [`Self::words`], as the text of a tsquery.
    pub fn constraint(&self) -> Option<String> {
        (!self.phrases.is_empty()).then(|| self.phrases.join(" & "))
    }

    /// Whether that is asked of what [`text::extra`] finds too.
    pub fn paired(&self) -> bool {
        self.paired
    }

    /// All words to look for: those that score, then those that must, then those that must not
    /// occur.
    pub fn words(&self) -> Vec<Word> {
        self.lexemes
            .iter()
            .chain(&self.required)
            .chain(&self.excluded)
            .map(|l| terms::word(l.as_bytes()))
            .collect()
    }

    /// Whether there are words that must or must not occur.
    pub fn restricts(&self) -> bool {
        !(self.required.is_empty() && self.excluded.is_empty())
    }

    /// Which documents hold all words that must and none that must not occur; `None` when all do.
    pub fn admitted(&self, corpus: &Corpus<'_>) -> Option<Vec<bool>> {
        if !self.restricts() {
            return None;
        }
        let scoring = self.lexemes.len();
        let mut held = vec![0usize; corpus.entries.len()];
        let mut barred = vec![false; corpus.entries.len()];
        for (word, occurrences) in corpus.occurrences.iter().enumerate().skip(scoring) {
            for (document, _) in occurrences {
                if word >= scoring + self.required.len() {
                    barred[*document as usize] = true;
                } else {
                    held[*document as usize] += 1;
                }
            }
        }
        Some(
            held.into_iter()
                .zip(barred)
                .map(|(held, barred)| held == self.required.len() && !barred)
                .collect(),
        )
    }
}

/// A document that matches.
#[derive(Clone, Copy)]
pub struct Scored {
    /// Index of the document.
    pub document: u32,
    /// BM25.
    pub score: f64,
    /// Which share of the query's idf it matches, 0..1.
    pub coverage: f64,
}

impl Scored {
    /// BM25 with the factor of coverage.
    pub fn covered(&self, weights: &Weights) -> f64 {
        self.score * coverage_factor(weights, self.coverage)
    }
}

/// Occurrences that are not scored yet.
struct Left<'c> {
    /// By word; none of words that count only as part of a concept.
    words: Vec<Postings<'c>>,
    /// By concept, those of each of its words.
    concepts: Vec<Vec<Postings<'c>>>,
}

impl<'c> Left<'c> {
    fn of(lane: &Words, occurrences: &'c [Vec<(u32, u32)>]) -> Self {
        Self {
            words: (occurrences.iter().zip(&lane.alone))
                .map(|(occurrences, alone)| if *alone { occurrences.as_slice() } else { &[] })
                .collect(),
            concepts: (lane.concepts.iter())
                .map(|concept| concept.words.iter().map(|w| &occurrences[*w][..]).collect())
                .collect(),
        }
    }

    fn any_before(&self, end: u32) -> bool {
        let mut all = self.words.iter().chain(self.concepts.iter().flatten());
        all.any(|o| o.first().is_some_and(|o| o.0 < end))
    }
}

/// Takes the occurrences in documents before `end` off those that are left.
fn before<'c>(rest: &mut Postings<'c>, end: u32) -> Postings<'c> {
    let (these, after) = rest.split_at(rest.partition_point(|o| o.0 < end));
    *rest = after;
    these
}

/// Adds up what the documents of one stretch get.
struct Tally<'s> {
    /// BM25 and the idf that is matched, by place in the stretch; nothing of a document that matches nothing.
    sums: &'s mut [(f64, f64)],
    /// Places of those that match, each once.
    touched: &'s mut Vec<u32>,
}

impl<'s> Tally<'s> {
    fn add(&mut self, place: usize, score: f64, idf: f64) {
        let (sum, covered) = &mut self.sums[place];
        if *covered == 0.0 && idf > 0.0 {
            self.touched.push(place as u32);
        }
        *sum += score;
        *covered += idf;
    }

    /// Those that match, in order: (place, BM25, idf). Nothing is left for the next stretch.
    fn drain(self) -> impl Iterator<Item = (u32, f64, f64)> + 's {
        let Self { sums, touched } = self;
        if touched.len() > sums.len() / 16 {
            // So many are found in order faster than they are sorted.
            touched.clear();
            touched.extend(
                (0u32..)
                    .zip(&*sums)
                    .filter(|(_, sum)| sum.1 != 0.0)
                    .map(|(place, _)| place),
            );
        } else {
            // Those of one word are in order already.
            touched.sort();
        }
        touched
            .drain(..)
            .map(|place| {
                let (score, covered) = std::mem::take(&mut sums[place as usize]);
                (place, score, covered)
            })
            .filter(|(_, score, _)| *score > 0.0)
    }
}

/// The lane, with all matches scored.
pub struct Words {
    lexemes: Vec<String>,
    /// As [`Analysed`] has it.
    alone: Vec<bool>,
    concepts: Vec<Concept>,
    idf: Vec<f64>,
    params: bm25::Params,
    norms: bm25::Norms,
    /// What a document is worth that matches all that some memory holds.
    total_idf: f64,
    /// Which share of what all words of the query weigh those do that some memory holds, 0..1.
    known: f64,
    /// Parts of entities by document: (index of the name, part).
    named: HashMap<usize, Vec<(usize, f64)>>,
    /// Words that were taken for others.
    taken: Taken,
    /// All that match, by document.
    pub scores: Vec<Scored>,
}

impl Words {
    /// Scores the matches and adds the memories that mention what the query names.
    pub fn new(
        context: &Context,
        corpus: &Corpus<'_>,
        names: &[String],
        analysed: &Analysed,
        taken: Taken,
    ) -> Result<Self> {
        let n = corpus.count() as u64;
        let mut lane = Self::weighed(context, corpus, n, analysed, taken);
        lane.add_matches(corpus);
        lane.add_entities(mentions(context, names)?, corpus, n);
        Ok(lane)
    }

    /// The words of the query with what they weigh among `n` documents, none of which is scored yet.
    fn weighed(
        context: &Context,
        corpus: &Corpus<'_>,
        n: u64,
        analysed: &Analysed,
        taken: Taken,
    ) -> Self {
        let occurrences = &corpus.occurrences[..analysed.lexemes.len()];
        let df: Vec<u64> = occurrences.iter().map(|o| o.len() as u64).collect();
        let idf: Vec<f64> = (0..)
            .zip(&df)
            .map(|(word, df)| {
                let sure = if taken.holds(word) {
                    context.fuzzy_weight
                } else {
                    1.0
                };
                sure * bm25::idf(n, *df)
            })
            .collect();
        let concepts: Vec<Concept> = (analysed.concepts.iter())
            .map(|readings| Concept::new(readings, occurrences, &idf, n))
            .collect();
        let total_idf: f64 = (idf.iter().zip(&df).zip(&analysed.alone))
            .filter(|((_, df), alone)| **df > 0 && **alone)
            .map(|((idf, _), _)| *idf)
            .chain(concepts.iter().map(|concept| concept.weight))
            .sum();
        // What nobody has written would have been evidence.
        let unknown = (df.iter().zip(&analysed.alone)).filter(|(df, alone)| **df == 0 && **alone);
        let all_idf = total_idf
            + unknown.count() as f64 * bm25::idf(n, 0)
            + concepts.iter().map(|c| c.unknown).sum::<f64>();
        let mean_length = if df.iter().any(|df| *df > 0) {
            corpus.mean_length()
        } else {
            0.0
        };
        Self {
            lexemes: (analysed.lexemes.iter())
                .map(|lexeme| text::shown(lexeme).into_owned())
                .collect(),
            alone: analysed.alone.clone(),
            concepts,
            idf,
            params: context.bm25,
            norms: bm25::Norms::new(context.bm25, mean_length),
            total_idf,
            known: if all_idf > 0.0 {
                total_idf / all_idf
            } else {
                0.0
            },
            named: HashMap::new(),
            taken,
            scores: Vec::new(),
        }
    }

    /// Scores the documents that hold words of the query.
    fn add_matches(&mut self, corpus: &Corpus<'_>) {
        let occurrences = &corpus.occurrences[..self.lexemes.len()];
        let longest = occurrences.iter().map(Vec::len).max().unwrap_or(0);
        self.scores = Vec::with_capacity(longest * 2);
        let mut left = Left::of(self, occurrences);
        let mut sums: Vec<(f64, f64)> = Vec::new();
        let mut touched: Vec<u32> = Vec::new();
        // Documents that lie together, so that sums and lengths stay in the cache.
        for stretch in corpus.stretches() {
            let range = stretch.range();
            if !left.any_before(range.end) {
                continue;
            }
            let (lengths, turns) = (stretch.lengths(), stretch.turns());
            let norm = |place: usize| self.norms.of(length_at(lengths, place), turns.at(place));
            if sums.len() < range.len() {
                sums.resize(range.len(), (0.0, 0.0));
            }
            let mut tally = Tally {
                sums: &mut sums[..range.len()],
                touched: &mut touched,
            };
            for (rest, idf) in left.words.iter_mut().zip(&self.idf) {
                for (document, count) in before(rest, range.end) {
                    let place = (document - range.start) as usize;
                    let more = bm25::weight(self.params, *idf, *count, norm(place));
                    tally.add(place, more, *idf);
                }
            }
            for (rest, concept) in left.concepts.iter_mut().zip(&self.concepts) {
                let these: Vec<Postings<'_>> = rest
                    .iter_mut()
                    .map(|rest| before(rest, range.end))
                    .collect();
                concepts::each(&these, |document, counts| {
                    let place = (document - range.start) as usize;
                    let (more, share) = concept.of(counts, self.params, norm(place));
                    tally.add(place, more, share);
                });
            }
            let matches = tally.drain();
            self.scores
                .extend(matches.map(|(place, score, covered)| Scored {
                    document: range.start + place,
                    score,
                    coverage: (covered / self.total_idf).min(1.0),
                }));
        }
    }

    /// A memory that mentions an entity named in the query, by an alias or not, scores as if the name stood once more in
    /// a short text: it is about what others only speak of.
    fn add_entities(&mut self, mentions: Vec<(String, Uuid)>, corpus: &Corpus<'_>, n: u64) {
        if mentions.is_empty() {
            return;
        }
        let ids: Vec<Uuid> = mentions.iter().map(|(_, memory)| *memory).collect();
        let places = corpus.entries.find(&ids);
        let matched = self.scores.len();
        let mut by_node: HashMap<String, Vec<usize>> = HashMap::new();
        for (node, memory) in mentions {
            if let Some(document) = places.get(&memory) {
                by_node.entry(node).or_default().push(*document);
            }
        }
        let mut by_node: Vec<_> = by_node.into_iter().collect();
        by_node.sort_unstable();
        for (node, documents) in by_node {
            let idf = bm25::idf(n, documents.len() as u64);
            let part = bm25::weight(self.params, idf, 1, 1.0);
            let at = self.lexemes.len();
            self.lexemes.push(node);
            for document in documents {
                self.named.entry(document).or_default().push((at, part));
            }
        }
        for (document, parts) in &self.named {
            let sum: f64 = parts.iter().map(|(_, part)| part).sum();
            match self.scores[..matched].binary_search_by_key(&(*document as u32), |s| s.document) {
                Ok(place) => self.scores[place].score += sum,
                Err(_) => self.scores.push(Scored {
                    document: *document as u32,
                    score: sum,
                    coverage: 0.0,
                }),
            }
        }
        self.scores.sort_unstable_by_key(|s| s.document);
    }

    /// The share of the query that so much of its known words is.
    pub fn of_question(&self, coverage: f64) -> f64 {
        coverage * self.known
    }

    /// Whether a match is at least this share of the query, 0..1, or mentions what that names.
    pub fn evident(&self, scored: &Scored, least: f64) -> bool {
        // All of it may be rounded to a little less.
        self.of_question(scored.coverage) >= least - 1e-9
            || self.named.contains_key(&(scored.document as usize))
    }

    /// What is known of a document, if it matches.
    pub fn score(&self, document: usize) -> Option<&Scored> {
        let place = self
            .scores
            .binary_search_by_key(&(document as u32), |s| s.document)
            .ok()?;
        Some(&self.scores[place])
    }

    /// The parts that make up the score of a document: (word or name, part).
    pub fn parts(&self, corpus: &Corpus<'_>, document: usize) -> Vec<(&str, f64)> {
        let at = document as u32;
        let count = |word: usize| {
            let occurrences = &corpus.occurrences[word];
            let place = occurrences.binary_search_by_key(&at, |o| o.0).ok()?;
            Some(occurrences[place].1)
        };
        let norm = || {
            let (length, _) = corpus.length(document);
            self.norms.of(length, corpus.said(document))
        };
        let mut found: Vec<(usize, f64)> = (0..self.idf.len())
            .filter(|word| self.alone[*word])
            .filter_map(|word| {
                let idf = self.idf[word];
                Some((word, bm25::weight(self.params, idf, count(word)?, norm())))
            })
            .collect();
        for concept in &self.concepts {
            let counts: Vec<u32> = (concept.words.iter())
                .map(|word| count(*word).unwrap_or(0))
                .collect();
            found.extend(concept.parts(&counts, self.params, norm()));
        }
        // In the order of the query.
        found.sort_by_key(|(word, _)| *word);
        found
            .iter()
            .chain(self.named.get(&document).into_iter().flatten())
            .map(|(word, part)| {
                let lexeme = self.lexemes[*word].as_str();
                (self.taken.label(document, *word).unwrap_or(lexeme), *part)
            })
            .collect()
    }
}

/// Memories that mention entities with these names or aliases, each with the node of the entity.
fn mentions(context: &Context, names: &[String]) -> Result<Vec<(String, Uuid)>> {
    let workspace = [(c"workspace_id", Key::Uuid(context.workspace))];
    if names.is_empty()
        || context.past.is_none() && !Table::open(c"graph_links")?.any(&workspace)?
    {
        return Ok(Vec::new());
    }
    let mut names = names.to_vec();
    // Tables of an older version have no aliases.
    if Table::open(c"entity_aliases").is_ok_and(|table| table.any(&workspace).unwrap_or(false)) {
        names.extend(
            context
                .as_owner(
                    include_str!("sql/aliases.sql"),
                    &[
                        DatumWithOid::from(spi::pg_uuid(context.workspace)),
                        DatumWithOid::from(names.clone()),
                    ],
                    |row| Ok(row.get::<String>(1)?),
                )?
                .into_iter()
                .flatten(),
        );
        names.sort_unstable();
        names.dedup();
    }
    let mut links = context.as_owner(
        include_str!("sql/entities.sql"),
        &[
            DatumWithOid::from(spi::pg_uuid(context.workspace)),
            DatumWithOid::from(names.clone()),
        ],
        |row| {
            Ok((
                row.get::<String>(1)?.unwrap_or_default(),
                spi::uuid(row.get::<pgrx::Uuid>(2)?.expect("NOT NULL")),
            ))
        },
    )?;
    if let Some(past) = &context.past {
        past.mentions(&mut links, &names);
    }
    Ok(links)
}

/// Words of the query that parts belong to, each once: a lexeme can be an entity's name as well.
pub fn names_of(parts: &[(&str, f64)]) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for (word, _) in parts {
        if !words.iter().any(|w| w == word) {
            words.push((*word).to_owned());
        }
    }
    words
}

/// Parts as an object; those of a name that is a lexeme too add up.
pub fn parts_object(parts: &[(&str, f64)]) -> Value {
    let mut object = Map::new();
    for (word, part) in parts {
        let sum = object.get(*word).and_then(Value::as_f64).unwrap_or(0.0);
        object.insert((*word).to_owned(), Value::from(sum + part));
    }
    Value::Object(object)
}
