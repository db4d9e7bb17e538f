//! Words of the query that nothing holds: slips of the finger, and fragments of longer words.
//!
//! Blocks hold words as hashes, beside which letters each has. Those whose letters fit are candidates;
//! one memory of each is read, a bounded number of them, and the word in its text decides. It is
//! taken for the word of the query when it is one edit away (two from eight letters on) or begins with
//! it; else when it begins with a word one edit away, or holds it anywhere; else two words that stand beside each other
//! are, when they make it up together ("user_name" for "username"). All of it is only done when a word matches nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pgrx::datum::DatumWithOid;

use super::Context;
use super::corpus::Corpus;
use super::ids::NumberMap;
use super::words::Analysed;
use crate::blocks::documents::{self, Word};
use crate::error::Result;
use crate::scan::{Lookup, Table};
use crate::{spi, terms, text};

/// Words of one query for which others are taken, the first.
const MOST_WORDS: usize = 4;
/// Shortest such word, in letters.
const SHORTEST: usize = 4;
/// Longest such word: of more letters somebody's slip is no guess, and comparing them is slow.
const LONGEST: usize = 64;
/// Letters from which two edits are one slip.
const LONG: usize = 8;
/// Fewest letters of each of two words that make up one.
const PIECE: usize = 2;
/// Letters from which other endings are looked for.
const INFLECTED: usize = 6;
/// Candidates of one word whose memories are read.
const MOST_READ: usize = 48;
/// Most words that are taken for one.
const MOST_TAKEN: usize = 8;

/// Which words were taken for which.
#[derive(Default)]
pub struct Taken {
    /// Indexes of the query's words, sorted.
    words: Vec<u32>,
    /// "typed~found"
    labels: Vec<String>,
    /// (document, word) → label
    of: HashMap<(u32, u32), usize>,
}

impl Taken {
    /// Whether others were taken for this word of the query.
    pub fn holds(&self, word: usize) -> bool {
        self.words.contains(&(word as u32))
    }

    /// What stands in a document for a word of the query: "typed~found".
    pub fn label(&self, document: usize, word: usize) -> Option<&str> {
        let label = *self.of.get(&(document as u32, word as u32))?;
        Some(&self.labels[label])
    }
}

/// A word of the query that nothing holds.
struct Missing {
    /// Its index.
    word: u32,
    /// As it was typed, folded.
    typed: Vec<char>,
    letters: u32,
    /// Words of the workspace that it may be, with the documents that hold them and how often.
    candidates: HashMap<Word, Vec<(u32, u32)>>,
    pieces: Pieces,
}

/// Words that one may be made of, where it is two. Places are bits: after how many letters the second begins.
#[derive(Default)]
struct Pieces {
    /// The places of a word as the first and as the second of the two, by word.
    words: Vec<(Word, [u64; 2])>,
    /// Bits of the hashes of the words: most others have none of them.
    seen: u64,
    /// The places of what documents hold.
    held: NumberMap<[u64; 2]>,
}

impl Pieces {
    /// Those of a word of ASCII letters.
    fn of(context: &Context, typed: &str) -> Self {
        let config = crate::words::configuration(&context.text_config);
        // A stop word is no piece.
        let word = |piece: &str| {
            let (words, _) = crate::words::of(context.workspace, config, piece)?;
            match words[..] {
                [(word, _)] => Some(word),
                _ => None,
            }
        };
        let mut words: BTreeMap<Word, [u64; 2]> = BTreeMap::new();
        for at in PIECE..=typed.len().saturating_sub(PIECE) {
            let (head, tail) = typed.split_at(at);
            if let Some(head) = word(head)
                && let Some(tail) = word(tail)
            {
                words.entry(head).or_default()[0] |= 1 << at;
                words.entry(tail).or_default()[1] |= 1 << at;
            }
        }
        Self {
            seen: words.keys().fold(0, |seen, word| seen | bit(*word)),
            words: words.into_iter().collect(),
            held: NumberMap::default(),
        }
    }

    fn hold(&mut self, word: Word, document: u32) {
        if self.seen & bit(word) != 0
            && let Ok(at) = self.words.binary_search_by_key(&word, |(word, _)| *word)
        {
            let held = self.held.entry(document as usize).or_default();
            for (held, places) in held.iter_mut().zip(self.words[at].1) {
                *held |= places;
            }
        }
    }

    /// Documents that hold both words, wherever.
    fn both(&self) -> impl Iterator<Item = u32> {
        let both = (self.held.iter()).filter(|(_, [heads, tails])| heads & tails != 0);
        both.map(|(document, _)| *document as u32)
    }
}

/// One of 64 bits for a word.
fn bit(word: Word) -> u64 {
    1 << (word.hash & 63)
}

/// Finds words for those of the query that match nothing, and adds their matches to the corpus.
pub fn take(
    context: &Context,
    blocks: &Table,
    free: &str,
    analysed: &Analysed,
    corpus: &mut Corpus<'_>,
) -> Result<Taken> {
    let found: Vec<bool> = corpus.occurrences[..analysed.lexemes.len()]
        .iter()
        .map(|occurrences| !occurrences.is_empty())
        .collect();
    let wanted: Vec<bool> = (found.iter().enumerate())
        .map(|(word, there)| !there && !analysed.spared(word, &found))
        .collect();
    if context.fuzzy_weight == 0.0 || !wanted.contains(&true) {
        return Ok(Taken::default());
    }
    let typed: Vec<String> = free
        .split(|c: char| !c.is_alphanumeric())
        .map(|token| text::fold(token).to_lowercase())
        .collect();
    let mut missing: Vec<Missing> = (0u32..)
        .zip(&analysed.lexemes)
        .zip(wanted)
        .filter(|(_, wanted)| *wanted)
        .filter_map(|((word, lexeme), _)| Missing::new(word, lexeme, &typed))
        .take(MOST_WORDS)
        .collect();
    for missing in &mut missing {
        let typed: String = missing.typed.iter().collect();
        missing.pieces = Pieces::of(context, &typed);
    }
    if missing.is_empty() {
        return Ok(Taken::default());
    }
    scan(context, blocks, corpus, &mut missing)?;
    let wanted: BTreeSet<u32> = (missing.iter().flat_map(Missing::likely))
        .map(|(_, document)| document)
        .collect();
    let mut texts = BTreeMap::new();
    read(context, corpus, wanted, &mut |document, parts| {
        texts.insert(document, tokens(parts));
    })?;
    let mut taken = Taken::default();
    for missing in &missing {
        missing.choose(context, &texts, corpus, &mut taken)?;
        if !taken.holds(missing.word as usize) {
            missing.join(context, corpus, &mut taken)?;
        }
    }
    Ok(taken)
}

/// Whether a word of these letters may be meant by one that has letters and may have been edited so often. An
/// edit changes two bits at most.
fn may_be((letters, edits): (u32, u32), other: u32) -> bool {
    // One or two letters are in very many words.
    (letters ^ other).count_ones() <= 2 * edits || letters.count_ones() > 2 && letters & !other == 0
}

impl Missing {
    /// `None` for what is no word of Latin letters (a number that differs is another number), and for very long ones.
    fn new(word: u32, lexeme: &str, typed: &[String]) -> Option<Self> {
        let lexeme = text::fold(lexeme).to_lowercase();
        // The word that it is the stem of: stems differ from words at the end.
        let common = |token: &&String| {
            let pairs = token.bytes().zip(lexeme.bytes());
            pairs.take_while(|(a, b)| a == b).count()
        };
        let surface = typed
            .iter()
            .filter(|token| common(token) + 2 >= lexeme.len().max(SHORTEST))
            .max_by_key(|token| (common(token), std::cmp::Reverse(token.len())))
            .unwrap_or(&lexeme);
        let plain = surface.bytes().all(|b| b.is_ascii_lowercase());
        (plain && (SHORTEST..=LONGEST).contains(&surface.len())).then(|| Self {
            word,
            typed: surface.chars().collect(),
            letters: documents::letters(lexeme.as_bytes()),
            candidates: HashMap::new(),
            pieces: Pieces::default(),
        })
    }

    /// Takes two words for it that make it up and stand beside each other.
    fn join(&self, context: &Context, corpus: &mut Corpus<'_>, taken: &mut Taken) -> Result<()> {
        let mut wanted: Vec<u32> = self.pieces.both().collect();
        // Any is as likely as any other.
        wanted.sort_unstable_by_key(|document| std::cmp::Reverse(*document));
        wanted.truncate(MOST_READ);
        let typed: String = self.typed.iter().collect();
        let mut found: BTreeMap<u32, String> = BTreeMap::new();
        let wanted = wanted.into_iter().collect();
        read(context, corpus, wanted, &mut |document, parts| {
            if let Some(two) = parts.iter().find_map(|part| beside(&typed, part)) {
                found.insert(document, format!("{typed}~{two}"));
            }
        })?;
        if !found.is_empty() {
            taken.words.push(self.word);
        }
        corpus.occurrences[self.word as usize] = found.keys().map(|d| (*d, 1)).collect();
        for (document, label) in found {
            taken.of.insert((document, self.word), taken.labels.len());
            taken.labels.push(label);
        }
        Ok(())
    }

    fn edits(&self) -> u32 {
        if self.typed.len() >= LONG { 2 } else { 1 }
    }

    /// Those of the candidates that are read, with a document of each: the likest letters first, then
    /// what many memories say.
    fn likely(&self) -> Vec<(Word, u32)> {
        let mut order: Vec<(u32, usize, Word, u32)> = self
            .candidates
            .iter()
            .map(|(word, places)| {
                let differ = (self.letters ^ word.letters).count_ones();
                (differ, usize::MAX - places.len(), *word, places[0].0)
            })
            .collect();
        order.sort_unstable();
        order.truncate(MOST_READ);
        order
            .into_iter()
            .map(|(_, _, word, document)| (word, document))
            .collect()
    }

    /// Takes the nearest words of the texts, and adds their matches.
    fn choose(
        &self,
        context: &Context,
        texts: &BTreeMap<u32, BTreeSet<String>>,
        corpus: &mut Corpus<'_>,
        taken: &mut Taken,
    ) -> Result<()> {
        let letters = |word: &str| documents::letters(text::latin(word).as_bytes());
        let typed = letters(&self.typed.iter().collect::<String>());
        let mut near: BTreeSet<(u8, &String)> = BTreeSet::new();
        for (_, document) in self.likely() {
            pgrx::check_for_interrupts!();
            let words = texts.get(&document).into_iter().flatten();
            // An edit takes away one letter at most, and all else keeps them.
            near.extend(
                words
                    .filter(|word| (typed & !letters(word)).count_ones() <= self.edits())
                    .filter_map(|word| Some((distance(&self.typed, word)?, word))),
            );
        }
        let Some((nearest, _)) = near.first() else {
            return Ok(());
        };
        let words: Vec<String> = near
            .iter()
            .take_while(|(distance, _)| distance == nearest)
            .take(MOST_READ)
            .map(|(_, word)| (*word).clone())
            .collect();
        let mut lexemes: Vec<(usize, String, Word)> = spi::rows(
            include_str!("sql/lexemes.sql"),
            &[
                DatumWithOid::from(context.text_config.as_str()),
                DatumWithOid::from(words),
            ],
            |row| {
                let word = row.get::<String>(1)?.unwrap_or_default();
                let lexeme = row.get::<String>(2)?.unwrap_or_default();
                Ok((word, terms::word(lexeme.as_bytes())))
            },
        )?
        .into_iter()
        .filter_map(|(word, key)| Some((self.candidates.get(&key)?.len(), word, key)))
        .collect();
        // What most memories say first; each lexeme once.
        lexemes.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| (a.2, &a.1).cmp(&(b.2, &b.1))));
        lexemes.dedup_by_key(|(_, _, key)| *key);
        lexemes.truncate(MOST_TAKEN);
        let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
        for (_, word, key) in &lexemes {
            let typed: String = self.typed.iter().collect();
            taken.labels.push(format!("{typed}~{word}"));
            for (document, count) in &self.candidates[key] {
                *counts.entry(*document).or_default() += count;
                let label = taken.labels.len() - 1;
                taken.of.entry((*document, self.word)).or_insert(label);
            }
        }
        if !counts.is_empty() {
            taken.words.push(self.word);
        }
        // By document, as those of other words.
        corpus.occurrences[self.word as usize] = counts.into_iter().collect();
        Ok(())
    }
}

/// Collects the candidates from all documents that count.
fn scan(
    context: &Context,
    blocks: &Table,
    corpus: &Corpus<'_>,
    missing: &mut [Missing],
) -> Result<()> {
    let wanted: Vec<(u32, u32)> = missing.iter().map(|m| (m.letters, m.edits())).collect();
    let pieces: Vec<u32> = (missing.iter())
        .flat_map(|m| m.pieces.words.iter().map(|(word, _)| word.letters))
        .collect();
    let of_pieces = pieces.iter().fold(0, |all, letters| all | letters);
    let likely = |letters: u32| {
        wanted.iter().any(|of| may_be(*of, letters))
            || letters & !of_pieces == 0 && pieces.contains(&letters)
    };
    corpus.each_word(context, blocks, &likely, &mut |word, document, count| {
        for missing in missing.iter_mut() {
            missing.pieces.hold(word, document);
            if may_be((missing.letters, missing.edits()), word.letters) {
                let places = missing.candidates.entry(word).or_default();
                places.push((document, count));
            }
        }
    })
}

/// Calls `visit` with the texts of documents, of which the candidates have no others than the caller may see.
fn read(
    context: &Context,
    corpus: &Corpus<'_>,
    wanted: BTreeSet<u32>,
    visit: &mut dyn FnMut(u32, &[&str]),
) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    if context.past.is_some() {
        let places: HashMap<uuid::Uuid, u32> = wanted
            .iter()
            .map(|document| (corpus.entries.id(*document as usize), *document))
            .collect();
        let ids: Vec<uuid::Uuid> = places.keys().copied().collect();
        let past = context.past.as_ref().map(|past| past.as_of);
        spi::rows(
            include_str!("sql/texts_past.sql"),
            &[
                DatumWithOid::from(spi::pg_uuid(context.workspace)),
                DatumWithOid::from(spi::pg_uuids(&ids)),
                DatumWithOid::from(past),
            ],
            |row| {
                let id = spi::uuid(row.get::<pgrx::Uuid>(1)?.expect("NOT NULL"));
                let text = row.get::<String>(2)?.unwrap_or_default();
                if let Some(document) = places.get(&id) {
                    visit(*document, &[&text]);
                }
                Ok(())
            },
        )?;
        return Ok(());
    }
    let memories = Table::open(c"memories")?;
    let columns = [c"content", c"speaker", c"summary"].map(|name| memories.column(name));
    let [content, speaker, summary] = columns;
    let columns = [content?, speaker?, summary?];
    let mut rows = Lookup::new(&memories)?;
    for document in wanted {
        pgrx::check_for_interrupts!();
        let id = corpus.entries.id(document as usize);
        if let Some(row) = rows.find([context.workspace, id]) {
            // SAFETY: all three columns are text.
            let parts = columns.map(|column| unsafe { row.text(column) }.unwrap_or(""));
            visit(document, &parts);
        }
    }
    Ok(())
}

/// Two words of a text that are `typed` together, as they stand there: with one sign or blank between them.
fn beside(typed: &str, text: &str) -> Option<String> {
    let mut last: Option<(usize, String)> = None;
    let mut start = 0;
    for word in text.split(|c: char| !c.is_alphanumeric()) {
        let end = start + word.len();
        // Empty words are between two signs, and begin anew.
        let folded = text::latin(word).to_lowercase();
        if let Some((from, before)) = &last
            && !before.is_empty()
            && typed.strip_prefix(before.as_str()) == Some(folded.as_str())
            && !folded.is_empty()
        {
            return Some(text[*from..end].to_lowercase());
        }
        last = Some((start, folded));
        start = end + text[end..].chars().next().map_or(0, char::len_utf8);
    }
    None
}

/// The different words of texts, folded, with the parts of identifiers.
fn tokens(texts: &[&str]) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for text in texts {
        let extra = text::extra(text).unwrap_or_default();
        for part in [*text, &extra] {
            for word in part.split(|c: char| !c.is_alphanumeric()) {
                if word.chars().count() >= SHORTEST {
                    words.insert(text::fold(word).to_lowercase());
                }
            }
        }
    }
    words
}

/// How far a word is from what was typed, 1 or 2; `None` when it is another word. The first letter is
/// hardly ever wrong, unless it changed places with the second.
fn distance(typed: &[char], word: &str) -> Option<u8> {
    // Stored before such letters were indexed the other way too: "straße" for "strasse".
    if !word.is_ascii() && text::latin(word).chars().eq(typed.iter().copied()) {
        return Some(1);
    }
    let word: Vec<char> = word.chars().collect();
    if word.len() > typed.len() && word.starts_with(typed) {
        return Some(1);
    }
    let first = typed.first() == word.first()
        || typed.first() == word.get(1) && typed.get(1) == word.first();
    let most = if typed.len() >= LONG { 2 } else { 1 };
    if first
        && typed.len().abs_diff(word.len()) <= most
        && let edits @ 1..=2 = edits(typed, &word)
        && edits <= most
    {
        return u8::try_from(edits).ok();
    }
    // The text may have another form of it: "questioned" for "qeustion".
    let ends = typed.len() - 1..=typed.len() + 1;
    if first
        && typed.len() >= INFLECTED
        && (typed.len() + 1..=typed.len() + 3).contains(&word.len())
        && ends
            .filter_map(|end| word.get(..end))
            .any(|stem| edits(typed, stem) == 1)
    {
        return Some(2);
    }
    let inside = word.windows(typed.len()).any(|part| part == typed);
    (inside && word.len() > typed.len()).then_some(2)
}

/// Damerau-Levenshtein distance where no part is edited twice: letters left out, added, changed, or
/// two neighbours swapped.
fn edits(a: &[char], b: &[char]) -> usize {
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let changed = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (rows[i - 1][j] + 1)
                .min(rows[i][j - 1] + 1)
                .min(rows[i - 1][j - 1] + changed);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn very_long_words_are_no_slips() {
        for (letters, taken) in [(3, false), (4, true), (64, true), (65, false)] {
            let word = "e".repeat(letters);
            let typed = [word.clone()];
            assert_eq!(Missing::new(0, &word, &typed).is_some(), taken, "{letters}");
        }
    }

    #[test]
    fn two_words_are_one_where_they_stand_beside_each_other() {
        for (typed, text, wanted) in [
            ("foobar", "call(foo_bar_baz)", Some("foo_bar")),
            ("username", "The User name, please", Some("user name")),
            ("uberblick", "ü Über-Blick", Some("über-blick")),
            ("foobar", "foo, bar", None),
            ("foobar", "foo b ar foobar bar foo", None),
            ("foobar", "", None),
        ] {
            assert_eq!(beside(typed, text).as_deref(), wanted, "{typed} {text}");
        }
    }

    #[test]
    fn slips_and_fragments_are_near_and_other_words_are_not() {
        let distance = |typed: &str, word: &str| distance(&typed.chars().collect::<Vec<_>>(), word);
        for (typed, word, wanted) in [
            ("quesion", "question", Some(1)),
            ("qeustion", "question", Some(1)),
            ("uqestion", "question", Some(1)),
            ("tiramsu", "tiramisu", Some(1)),
            ("tiarmisu", "tiramisu", Some(1)),
            ("tiramissuu", "tiramisu", Some(2)),
            ("pythn", "python", Some(1)),
            ("postgr", "postgresql", Some(1)),
            ("username", "getusername", Some(2)),
            ("qeustion", "questioned", Some(2)),
            ("house", "mouse", None),
            ("sale", "sell", None),
            ("monday", "sunday", None),
            ("marble", "table", None),
            ("word", "word", None),
            ("strasse", "straße", Some(1)),
            ("aeroskobing", "ærøskøbing", Some(1)),
        ] {
            assert_eq!(distance(typed, word), wanted, "{typed} {word}");
        }
    }
}
