//! Reading a document's lexemes and keying them for the index.
//!
//! The format is that of `tsvectorsend`: a 32-bit count of lexemes, then for each its bytes, a NUL,
//! a 16-bit count of positions and that many 16-bit positions, everything in network order.

use std::collections::BTreeMap;

use crate::blocks::documents::{self, Document, Word};
use crate::blocks::{Id, Stamp};
use crate::text;

/// One lexeme of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term<'a> {
    /// The lexeme's bytes, UTF-8 in a UTF-8 database.
    pub lexeme: &'a [u8],
    /// How often it occurs; at least 1.
    pub count: u32,
    /// Where it occurs first, from 1; 0 when that is not known.
    pub first: u16,
}

/// Iterates over the lexemes of a document; stops early when the bytes are not a tsvector.
pub fn parse(sent: &[u8]) -> impl Iterator<Item = Term<'_>> {
    let (left, mut rest) = match sent.split_first_chunk::<4>() {
        Some((count, rest)) => (u32::from_be_bytes(*count), rest),
        None => (0, sent),
    };
    (0..left).map_while(move |_| {
        let end = rest.iter().position(|b| *b == 0)?;
        let (lexeme, after) = rest.split_at(end);
        let (positions, after) = after.get(1..)?.split_first_chunk::<2>()?;
        let positions = u16::from_be_bytes(*positions);
        // The two highest bits are its weight.
        let first = after.first_chunk::<2>().filter(|_| positions > 0);
        rest = after.get(usize::from(positions) * 2..)?;
        Some(Term {
            lexeme,
            count: u32::from(positions.max(1)),
            first: first.map_or(0, |first| u16::from_be_bytes(*first) & 0x3fff),
        })
    })
}

/// Number of lexeme occurrences in a document.
pub fn count(sent: &[u8]) -> i32 {
    let total: u64 = parse(sent).map(|t| u64::from(t.count)).sum();
    i32::try_from(total).unwrap_or(i32::MAX)
}

/// The words of what `tsvectorsend` gives with how often each occurs, in their order. Accents do not count.
pub fn words(sent: &[u8]) -> Vec<(Word, u32)> {
    let mut words: BTreeMap<Word, u32> = BTreeMap::new();
    for term in parse(sent) {
        *words.entry(word(term.lexeme)).or_default() += term.count;
    }
    words.into_iter().collect()
}

/// As [`words`], but of lexemes that are one word the first one alone.
pub fn first_words(sent: &[u8]) -> Vec<(Word, u32)> {
    let mut words: BTreeMap<Word, u32> = BTreeMap::new();
    for term in parse(sent) {
        words.entry(word(term.lexeme)).or_insert(term.count);
    }
    words.into_iter().collect()
}

/// A memory as search scans it, its speaker and question mark read from the text. `words` and `extra` are in the
/// order of their words; those of `extra` are found but do not make the document longer, nor a word of `words` count
/// more.
#[allow(clippy::too_many_arguments)]
pub fn document(
    id: Id,
    stamp: Stamp,
    session: Option<&str>,
    time: i64,
    content: &str,
    speaker: Option<&str>,
    mut words: Vec<(Word, u32)>,
    extra: &[(Word, u32)],
) -> Document {
    let length = words
        .iter()
        .fold(0u32, |sum, (_, times)| sum.saturating_add(*times));
    let own = words.len();
    for (word, times) in extra {
        if words[..own]
            .binary_search_by_key(word, |(w, _)| *w)
            .is_err()
        {
            words.push((*word, *times));
        }
    }
    words.sort_unstable_by_key(|(word, _)| *word);
    Document {
        id,
        stamp,
        time,
        session: session
            .filter(|s| !s.trim().is_empty())
            .map_or(0, documents::name_hash),
        speaker: text::speaker(content, speaker)
            .map_or(0, |name| documents::name_hash(&text::entity_node(name))),
        length,
        question: text::is_question(content),
        words,
    }
}

/// A lexeme as a word of a document or query.
pub fn word(lexeme: &[u8]) -> Word {
    match std::str::from_utf8(lexeme) {
        Ok(text) => Word::new(text::fold(text).as_bytes()),
        Err(_) => Word::new(lexeme),
    }
}

/// The index key of a lexeme in a workspace: 64-bit FNV-1a over both, finished with the mixer of
/// SplitMix64. Versions before 0.2 store it in indexes and dumps, so never to be changed. Two lexemes may share a key;
/// whoever looks up by key must compare the lexemes.
pub fn key(workspace: &[u8; 16], lexeme: &[u8]) -> i64 {
    let mut h: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in workspace.iter().chain(lexeme) {
        h = (h ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    h = (h ^ (h >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h = (h ^ (h >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (h ^ (h >> 31)).cast_signed()
}

/// The keys of all lexemes of a document.
pub fn keys(workspace: &[u8; 16], sent: &[u8]) -> Vec<i64> {
    parse(sent).map(|t| key(workspace, t.lexeme)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn send(terms: &[(String, u16)]) -> Vec<u8> {
        let mut out = u32::try_from(terms.len()).unwrap().to_be_bytes().to_vec();
        for (lexeme, positions) in terms {
            out.extend(lexeme.as_bytes());
            out.push(0);
            out.extend(positions.to_be_bytes());
            for p in 0..*positions {
                out.extend((p + 1).to_be_bytes());
            }
        }
        out
    }

    #[test]
    fn keys_never_change() {
        assert_eq!(key(&[7; 16], b"tea"), -6_267_550_541_429_464_536);
        assert_ne!(key(&[7; 16], b"tea"), key(&[8; 16], b"tea"));
    }

    proptest! {
        #[test]
        fn what_was_sent_is_read(terms in proptest::collection::vec(("[a-zé]{1,9}", 0u16..5), 0..20)) {
            let sent = send(&terms);
            let read: Vec<_> = parse(&sent)
                .map(|t| (String::from_utf8(t.lexeme.to_vec()).unwrap(), t.count)).collect();
            let wanted: Vec<_> = terms.iter().map(|(l, n)| (l.clone(), u32::from((*n).max(1)))).collect();
            prop_assert_eq!(read, wanted);
        }

        #[test]
        fn garbage_is_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = count(&bytes);
        }
    }
}
