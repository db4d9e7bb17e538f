//! Blocks of documents: the words of memories as hashes, with what ranking needs to know of each.
//!
//! A forward index: every search reads all hashes of its workspace. Comparing takes a fraction of a
//! nanosecond a word, so that 5,000 memories cost a tenth of a millisecond however many of them
//! match, and other workspaces cost nothing.
//!
//! | bytes | what |
//! |---|---|
//! | 1, 1, 2, 4 | format, 0, documents n, words w |
//! | 16 n | ids |
//! | 8 n | [`Stamp`]s |
//! | 8 n | times, microseconds since 2000-01-01 UTC |
//! | 4 n | hash of the session, 0 for none |
//! | 4 n | hash of the speaker, 0 for none |
//! | 4 n | length: occurrences of lexemes; the highest bit tells a question |
//! | 4 n | end of the document's words, counted from the first document's |
//! | 4 w | word hashes |
//! | 4 w | letters of the word (24 bits) and how often it occurs (8 bits) |

use super::{Columns, Id, Stamp, array, u16_at, u32_at};

/// First byte.
pub const FORMAT: u8 = 1;
/// Bytes before the columns.
pub const HEADER: usize = 8;
/// Bytes of a document without words.
const FIXED: usize = 48;
/// The bit of a length that tells a question.
const QUESTION: u32 = 1 << 31;

/// One distinct word of a document or query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Word {
    /// 32 bits of [`hash`].
    pub hash: u32,
    /// [`letters`], a quarter of which is set at most for ordinary words. Part of the identity.
    pub letters: u32,
}

impl Word {
    /// From its text. Two words that differ agree in both numbers about once in 10^12 pairs.
    pub fn new(text: &[u8]) -> Self {
        Self {
            hash: hash(text),
            letters: letters(text),
        }
    }
}

/// 64-bit FNV-1a, finished with the mixer of SplitMix64, folded to 32 bits. Stored, so never to be
/// changed without a new format.
pub fn hash(text: &[u8]) -> u32 {
    let mut h: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in text {
        h = (h ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    h = (h ^ (h >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h = (h ^ (h >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let folded = h ^ (h >> 31);
    (folded ^ (folded >> 32)) as u32
}

/// Which letters a word has, 24 bits: words that differ by a slip of the finger differ in few.
/// Stored, so never to be changed without a new format.
pub fn letters(text: &[u8]) -> u32 {
    text.iter().fold(0, |bits, byte| {
        bits | match byte {
            b'a'..=b'v' => 1 << (byte - b'a'),
            b'w'..=b'z' => 1 << 22,
            _ => 1 << 23,
        }
    })
}

/// A document to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Which memory.
    pub id: Id,
    /// Which version of it.
    pub stamp: Stamp,
    /// When it happened, microseconds since 2000-01-01 UTC.
    pub time: i64,
    /// Hash of its session, 0 for none.
    pub session: u32,
    /// Hash of its speaker, 0 for none.
    pub speaker: u32,
    /// Occurrences of lexemes.
    pub length: u32,
    /// It ends with a question mark.
    pub question: bool,
    /// Distinct words and how often each occurs.
    pub words: Vec<(Word, u32)>,
}

impl Document {
    /// A block of this document alone.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + FIXED + 8 * self.words.len());
        header(&mut out, 1, self.words.len());
        out.extend(self.id);
        out.extend(self.stamp.0.to_le_bytes());
        out.extend(self.time.to_le_bytes());
        out.extend(self.session.to_le_bytes());
        out.extend(self.speaker.to_le_bytes());
        out.extend(stored_length(self.length, self.question).to_le_bytes());
        out.extend(count(self.words.len()).to_le_bytes());
        for (word, _) in &self.words {
            out.extend(word.hash.to_le_bytes());
        }
        for (word, tf) in &self.words {
            out.extend((word.letters << 8 | (*tf).min(255)).to_le_bytes());
        }
        out
    }
}

/// What the column of lengths holds.
pub(super) fn stored_length(length: u32, question: bool) -> u32 {
    length.min(QUESTION - 1) | if question { QUESTION } else { 0 }
}

/// Length, and whether it is a question, from the column of lengths.
pub fn length(stored: u32) -> (u32, bool) {
    (stored & !QUESTION, stored & QUESTION != 0)
}

/// The hash of a session's or speaker's name: never 0.
pub fn name_hash(name: &str) -> u32 {
    hash(name.as_bytes()).max(1)
}

fn count(n: usize) -> u32 {
    u32::try_from(n).expect("a document has at most a million words")
}

fn header(out: &mut Vec<u8>, documents: usize, words: usize) {
    out.extend([FORMAT, 0]);
    out.extend(
        u16::try_from(documents)
            .expect("merging stops before")
            .to_le_bytes(),
    );
    out.extend(count(words).to_le_bytes());
}

/// A block, read where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Documents<'a> {
    n: usize,
    /// The columns, by their bytes.
    pub ids: &'a [u8],
    /// [`Stamp`]s.
    pub stamps: &'a [u8],
    /// Microseconds since 2000-01-01 UTC, `i64`.
    pub times: &'a [u8],
    /// `u32`
    pub sessions: &'a [u8],
    /// `u32`
    pub speakers: &'a [u8],
    /// `u32`, see [`length`].
    pub lengths: &'a [u8],
    ends: &'a [u8],
    /// `u32` of every word.
    pub hashes: &'a [u8],
    infos: &'a [u8],
}

impl<'a> Documents<'a> {
    /// Reads a block; `None` when the bytes are not one.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() < HEADER || bytes[0] != FORMAT {
            return None;
        }
        let n = usize::from(u16_at(bytes, 2));
        let words = u32_at(bytes, 4) as usize;
        let mut columns = Columns(&bytes[HEADER..]);
        let block = Self {
            n,
            ids: columns.next(16 * n)?,
            stamps: columns.next(8 * n)?,
            times: columns.next(8 * n)?,
            sessions: columns.next(4 * n)?,
            speakers: columns.next(4 * n)?,
            lengths: columns.next(4 * n)?,
            ends: columns.next(4 * n)?,
            hashes: columns.next(words.checked_mul(4)?)?,
            infos: columns.next(words.checked_mul(4)?)?,
        };
        let mut last = 0;
        for i in 0..n {
            let end = block.end(i);
            if end < last {
                return None;
            }
            last = end;
        }
        (last == words).then_some(block)
    }

    /// How many documents.
    pub fn len(&self) -> usize {
        self.n
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// Id of document `i`.
    pub fn id(&self, i: usize) -> Id {
        array(self.ids, 16 * i)
    }

    /// Stamp of document `i`.
    pub fn stamp(&self, i: usize) -> Stamp {
        Stamp(u64::from_le_bytes(array(self.stamps, 8 * i)))
    }

    /// Where the words of document `i` end; they begin where those of the one before end.
    pub fn end(&self, i: usize) -> usize {
        u32_at(self.ends, 4 * i) as usize
    }

    fn begin(&self, i: usize) -> usize {
        i.checked_sub(1).map_or(0, |before| self.end(before))
    }

    /// Hash of word `w`.
    pub fn hash(&self, w: usize) -> u32 {
        u32_at(self.hashes, 4 * w)
    }

    /// Letters and number of occurrences of word `w`.
    pub fn info(&self, w: usize) -> (u32, u32) {
        let info = u32_at(self.infos, 4 * w);
        (info >> 8, info & 0xff)
    }

    /// Document `i`, copied out.
    pub(super) fn get(&self, i: usize) -> Document {
        let (length, question) = length(u32_at(self.lengths, 4 * i));
        Document {
            id: self.id(i),
            stamp: self.stamp(i),
            time: i64::from_le_bytes(array(self.times, 8 * i)),
            session: u32_at(self.sessions, 4 * i),
            speaker: u32_at(self.speakers, 4 * i),
            length,
            question,
            words: (self.begin(i)..self.end(i))
                .map(|w| {
                    let (letters, tf) = self.info(w);
                    let hash = u32_at(self.hashes, 4 * w);
                    (Word { hash, letters }, tf)
                })
                .collect(),
        }
    }

    pub(super) fn bytes_of(&self, i: usize) -> usize {
        FIXED + 8 * (self.end(i) - self.begin(i))
    }
}

/// A block of these documents with these stamps.
pub(super) fn copy(places: &[(&Documents<'_>, usize, Stamp)]) -> Vec<u8> {
    let words: usize = places.iter().map(|(d, i, _)| d.end(*i) - d.begin(*i)).sum();
    let mut out = Vec::with_capacity(HEADER + FIXED * places.len() + 8 * words);
    header(&mut out, places.len(), words);
    for (d, i, _) in places {
        out.extend(d.id(*i));
    }
    for (_, _, stamp) in places {
        out.extend(stamp.0.to_le_bytes());
    }
    for (d, i, _) in places {
        out.extend(&d.times[8 * i..8 * i + 8]);
    }
    for (d, i, _) in places {
        out.extend(&d.sessions[4 * i..4 * i + 4]);
    }
    for (d, i, _) in places {
        out.extend(&d.speakers[4 * i..4 * i + 4]);
    }
    for (d, i, _) in places {
        out.extend(&d.lengths[4 * i..4 * i + 4]);
    }
    let mut end = 0;
    for (d, i, _) in places {
        end += d.end(*i) - d.begin(*i);
        out.extend(count(end).to_le_bytes());
    }
    for (d, i, _) in places {
        out.extend(&d.hashes[4 * d.begin(*i)..4 * d.end(*i)]);
    }
    for (d, i, _) in places {
        out.extend(&d.infos[4 * d.begin(*i)..4 * d.end(*i)]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::{Block, Merged, State, merge};
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn document() -> impl Strategy<Value = Document> {
        (
            0u8..12,
            1u64..6,
            prop_oneof![Just(State::Plain), Just(State::Replaces), Just(State::Gone)],
            any::<i64>(),
            any::<u32>(),
            proptest::collection::btree_map("[a-zé0-9]{1,8}", 1u32..300, 0..40),
        )
            .prop_map(|(id, version, state, time, session, words)| Document {
                id: [id; 16],
                stamp: Stamp::new(version, state),
                time,
                session,
                speaker: session ^ 1,
                length: words.values().sum(),
                question: session % 2 == 0,
                words: words
                    .iter()
                    .map(|(w, tf)| (Word::new(w.as_bytes()), *tf))
                    .collect(),
            })
    }

    fn read(block: &[u8]) -> Vec<Document> {
        let d = Documents::parse(block).unwrap();
        (0..d.len()).map(|i| d.get(i)).collect()
    }

    proptest! {
        #[test]
        fn merging_keeps_the_newest_of_each_and_nothing_else(
            documents in proptest::collection::vec(document(), 0..40), room in 100usize..2000, resolve: bool,
        ) {
            let blocks: Vec<Vec<u8>> = documents.iter().map(Document::encode).collect();
            let merged = merge(&blocks.iter().map(Vec::as_slice).collect::<Vec<_>>(), room, resolve).unwrap();
            let mut wanted: BTreeMap<Id, Stamp> = BTreeMap::new();
            for d in &documents {
                let known = wanted.entry(d.id).or_insert(d.stamp);
                *known = (*known).max(d.stamp);
            }
            if resolve {
                wanted.retain(|_, stamp| !stamp.gone());
                wanted.values_mut().for_each(|stamp| *stamp = Stamp::ONLY);
            }
            let got: Vec<Document> = merged.iter().flat_map(|m| read(&m.bytes)).collect();
            prop_assert_eq!(got.iter().map(|d| (d.id, d.stamp)).collect::<BTreeMap<_, _>>(), wanted);
            for d in &got {
                prop_assert!(documents.iter().any(|o| o.id == d.id && o.time == d.time && o.session == d.session
                    && o.length == d.length && o.speaker == d.speaker && o.question == d.question && o.words.iter().map(|(w, tf)| (*w, (*tf).min(255))).eq(d.words.iter().copied())));
            }
            for m in &merged {
                prop_assert!(m.bytes.len() <= room || m.entries == 1);
                prop_assert_eq!(m.entries, read(&m.bytes).len());
            }
            // Merging again changes nothing.
            let again = merge(&merged.iter().map(|m| m.bytes.as_slice()).collect::<Vec<_>>(), room, resolve).unwrap();
            let bytes = |m: &[Merged]| m.iter().map(|m| m.bytes.clone()).collect::<Vec<_>>();
            prop_assert_eq!(bytes(&again), bytes(&merged));
        }

        #[test]
        fn garbage_is_no_block(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(first) = bytes.first_mut() { *first = FORMAT; }
            if let Some(Block::Documents(d)) = Block::parse(&bytes) {
                for w in 0..d.hashes.len() / 4 { d.info(w); }
                let _ = merge(&[&bytes], 1000, true);
            }
        }

        #[test]
        fn a_slip_of_the_finger_changes_few_letters(word in "[a-z]{3,12}", at in 0usize..12, letter in b'a'..=b'z') {
            let mut wrong = word.clone().into_bytes();
            let at = at % wrong.len();
            wrong[at] = letter;
            prop_assert!((letters(word.as_bytes()) ^ letters(&wrong)).count_ones() <= 2);
        }
    }

    #[test]
    fn the_stored_numbers_never_change() {
        assert_eq!(
            Word::new(b"tea"),
            Word {
                hash: 3_168_119_722,
                letters: 524_305
            }
        );
        assert_eq!(letters("aé9z".as_bytes()), 1 | 1 << 22 | 1 << 23);
    }
}
