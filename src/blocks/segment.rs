//! Segments: up to [`MOST`] entries, sorted by id and arranged so that a search reads little of them.
//!
//! A block keeps its entries one after the other, and a search reads all of it. A segment is one row that
//! tells what is where, its [`Head`], and many rows that each hold a part of one kind: a column of all
//! entries, the occurrences of some words, or half of the bits of some vectors. It holds what the blocks
//! held that it was made of, bit for bit, and needs less room: a word is written once for all documents.
//!
//! Entries are never changed. One that a newer version replaces is marked in the head as dead; making a
//! segment of a segment leaves the dead out.
//!
//! All numbers are little-endian. The first bytes of a row:
//!
//! | bytes | head | part |
//! |---|---|---|
//! | 1 | [`HEAD`] | [`PART`] |
//! | 1 | 1 documents, 2 vectors | [`Kind`] |
//! | 2 | entries n | number of the part among those of its kind |
//! | 4 | tag: which segment | tag |
//!
//! A head goes on with 2 bytes of dimensions (0 for documents), 2 of 0, n bits of dead entries in bytes, and
//! sections of a byte that says what it is, 4 bytes of length and the content: the value of a column that
//! is the same for all, which then has no parts; the speakers; the first word of every part of words; the first
//! id of every part of ids; and, once the rows are stored, where the parts are ([`Place`]), so that no index has
//! to be asked.
//!
//! Parts of a column are slices of it. Those of [`Kind::Order`] are slices of: sessions k (4 bytes), k times
//! the session's hash (4) and where its documents end (4), then documents (2 each) by session, time and id. Those
//! of [`Kind::Values`] are slices of what [`super::values`] describes.
//!
//! | bytes of a part of words | what |
//! |---|---|
//! | 2, 2 | words k, large counts x |
//! | 4 k | hashes, sorted |
//! | 4 k | letters |
//! | 2 k | end of the word's occurrences in this part |
//! | 2 each | occurrences: document (12 bits), count (4 bits, 15 for a large one) |
//! | 6 x | large counts: occurrence, document, count, 2 bytes each |
//!
//! | bytes of a part of vectors | what |
//! |---|---|
//! | 4 | vectors k |
//! | 4 k, 4 k | scales and lengths (only with the high bits) |
//! | (d + 1) / 2 each | 4 bits of each code: of dimension i in the low half, of dimension i + (d + 1) / 2 in the high half of a byte |
//!
//! A code is 16 × its high bits − 128 + its low bits.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::documents::{self, Document, Word};
use super::{Block, Columns, Id, ROOM, Stamp, Unreadable, array, u16_at, u32_at, vectors};

/// First byte of a head.
pub const HEAD: u8 = 3;
/// First byte of a part.
pub const PART: u8 = 4;
/// The level of parts in the table.
pub const PARTS_LEVEL: i16 = 4;
/// Most entries of a segment: documents have numbers of 12 bits.
pub const MOST: usize = 4096;
/// Bytes before the content of a part.
pub const PART_HEADER: usize = 8;
/// Most bytes of a column in one part.
const SLICE: usize = (ROOM - PART_HEADER) / 16 * 16;

/// Most bytes that are written for entries without a vector: four segments of the longest that there are.
const MOST_ZEROS: usize = 1 << 28;

const DOCUMENTS: u8 = 1;
const VECTORS: u8 = 2;

/// What a part holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// Ids of 16 bytes, ascending.
    Ids = 1,
    /// [`Stamp`]s of 8 bytes.
    Stamps = 2,
    /// Microseconds since 2000-01-01 UTC, `i64`.
    Times = 3,
    /// Hashes of sessions, `u32`, 0 for none.
    Sessions = 4,
    /// Hashes of speakers, `u32`, 0 for none.
    Speakers = 5,
    /// Lengths as in blocks, `u32`.
    Lengths = 6,
    /// Documents by session.
    Order = 7,
    /// Words and where they occur.
    Words = 8,
    /// The upper halves of codes, scales and lengths of vectors.
    High = 9,
    /// The lower halves of codes.
    Low = 10,
    /// Where the rows of the entries are, [`Place`]s, in tables of memories or vectors.
    Rows = 11,
    /// Where the rows of their states are, [`Place`]s; of documents only.
    States = 12,
    /// What filters ask of them, see [`super::values`]; of documents only.
    Values = 13,
}

const KINDS: [Kind; 13] = [
    Kind::Ids,
    Kind::Stamps,
    Kind::Times,
    Kind::Sessions,
    Kind::Speakers,
    Kind::Lengths,
    Kind::Order,
    Kind::Words,
    Kind::High,
    Kind::Low,
    Kind::Rows,
    Kind::States,
    Kind::Values,
];

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        KINDS.get(usize::from(byte).checked_sub(1)?).copied()
    }

    /// The key of part `number` of this kind, before that of `number + 1`.
    pub fn key(self, number: usize) -> Id {
        let mut key = [0; 16];
        key[0] = self as u8;
        key[1..3].copy_from_slice(&(number.min(usize::from(u16::MAX)) as u16).to_be_bytes());
        key
    }

    /// Values of a column in one part.
    pub fn slice(self) -> usize {
        SLICE / self.width().max(1)
    }

    /// Bytes of a value; 0 where it is not a column.
    pub fn width(self) -> usize {
        match self {
            Self::Ids => 16,
            Self::Stamps | Self::Times => 8,
            Self::Sessions | Self::Speakers | Self::Lengths => 4,
            Self::Rows | Self::States => Place::BYTES,
            Self::Order | Self::Words | Self::High | Self::Low | Self::Values => 0,
        }
    }
}

/// Sections of a head that are not the value of a column.
const SPEAKERS: u8 = 32;
const DIRECTORY: u8 = 33;
const RANGE: u8 = 34;
const FENCES: u8 = 35;
const PLACES: u8 = 36;
/// More different speakers are not listed.
const LISTED: usize = 64;

/// Where a row is in its table: block and number in it. All 0 is nowhere. What was there may have gone
/// since, so whoever goes there has to look what is there now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Number of the block.
    pub block: u32,
    /// Number in the block, from 1.
    pub offset: u16,
}

impl Place {
    /// Of one place.
    pub const BYTES: usize = 6;

    /// As PostgreSQL sends a `tid`, big-endian.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&self.block.to_be_bytes());
        bytes[4..].copy_from_slice(&self.offset.to_be_bytes());
        bytes
    }

    /// The reverse; `None` for nowhere.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Option<Self> {
        let [a, b, c, d, e, f] = bytes;
        let place = Self {
            block: u32::from_be_bytes([a, b, c, d]),
            offset: u16::from_be_bytes([e, f]),
        };
        (place.offset > 0).then_some(place)
    }
}

/// One row to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Of which segment.
    pub tag: u32,
    /// `None` for the head.
    pub part: Option<(Kind, usize)>,
    /// Entries of the segment in its head, none in parts.
    pub entries: usize,
    /// The row.
    pub bytes: Vec<u8>,
}

impl Row {
    /// Its key among the rows of its level and segment.
    pub fn key(&self) -> Id {
        self.part.map_or([0; 16], |(kind, number)| kind.key(number))
    }
}

/// What is where in a segment. Owns its bytes, which are few.
#[derive(Clone, Debug)]
pub struct Head {
    /// Which segment.
    pub tag: u32,
    /// Entries, dead ones included.
    pub n: usize,
    /// Dimensions of vectors; `None` for documents.
    pub dims: Option<usize>,
    /// The smallest and the largest id.
    pub range: (Id, Id),
    dead: Vec<u8>,
    constants: Vec<(Kind, Vec<u8>)>,
    speakers: Option<Vec<u32>>,
    directory: Vec<u32>,
    /// The first id of every part of ids; empty when it is not known.
    fences: Vec<Id>,
    /// How many parts of each kind have a place.
    placed: [usize; KINDS.len()],
    /// The places of parts, by kind and number.
    places: Vec<u8>,
}

impl Head {
    /// Reads a head; `None` when the bytes are not one.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < 12 || bytes[0] != HEAD || !matches!(bytes[1], DOCUMENTS | VECTORS) {
            return None;
        }
        let n = usize::from(u16_at(bytes, 2));
        let dims = usize::from(u16_at(bytes, 8));
        let mut rest = Columns(&bytes[12..]);
        let dead = rest.next(n.div_ceil(8))?.to_vec();
        let mut head = Self {
            tag: u32_at(bytes, 4),
            n,
            dims: (bytes[1] == VECTORS).then_some(dims),
            range: ([0; 16], [0; 16]),
            dead,
            constants: Vec::new(),
            speakers: None,
            directory: Vec::new(),
            fences: Vec::new(),
            placed: [0; KINDS.len()],
            places: Vec::new(),
        };
        let mut ranged = false;
        while !rest.0.is_empty() {
            let section = rest.next(5)?;
            let content = rest.next(u32_at(section, 1) as usize)?;
            match section[0] {
                SPEAKERS => head.speakers = Some(numbers(content)),
                DIRECTORY => head.directory = numbers(content),
                RANGE if content.len() == 32 => {
                    head.range = (array(content, 0), array(content, 16));
                    ranged = true;
                }
                FENCES => head.fences = content.as_chunks::<16>().0.to_vec(),
                PLACES => head.put_places(content)?,
                // What a later version adds.
                unknown if unknown >= SPEAKERS => {}
                kind => {
                    let kind = Kind::of(kind)?;
                    // Ids always have parts: a head of a few bytes says nothing of thousands of entries.
                    if content.len() != kind.width() || kind == Kind::Ids {
                        return None;
                    }
                    head.constants.push((kind, content.to_vec()));
                }
            }
        }
        (n <= MOST && ranged).then_some(head)
    }

    fn encode(&self) -> Vec<u8> {
        let kind = if self.dims.is_some() {
            VECTORS
        } else {
            DOCUMENTS
        };
        let mut out = vec![HEAD, kind];
        out.extend((self.n as u16).to_le_bytes());
        out.extend(self.tag.to_le_bytes());
        out.extend((self.dims.unwrap_or(0) as u16).to_le_bytes());
        out.extend([0, 0]);
        out.extend(&self.dead);
        let mut section = |what: u8, content: &[u8]| {
            out.push(what);
            out.extend((content.len() as u32).to_le_bytes());
            out.extend(content);
        };
        section(RANGE, &[self.range.0, self.range.1].concat());
        for (kind, value) in &self.constants {
            section(*kind as u8, value);
        }
        if let Some(speakers) = &self.speakers {
            section(SPEAKERS, &bytes_of(speakers));
        }
        if self.dims.is_none() {
            section(DIRECTORY, &bytes_of(&self.directory));
        }
        section(FENCES, self.fences.as_flattened());
        if !self.places.is_empty() {
            let counts = [self.placed.len()].into_iter().chain(self.placed);
            let counts: Vec<u8> = counts.flat_map(|n| (n as u16).to_le_bytes()).collect();
            section(PLACES, &[&counts, self.places.as_slice()].concat());
        }
        out
    }

    /// Takes the content of a section of places: the number of kinds and how many parts of each there are, 2
    /// bytes each, and where they are.
    fn put_places(&mut self, content: &[u8]) -> Option<()> {
        let mut rest = Columns(content);
        let kinds = u16_at(rest.next(2)?, 0).into();
        let counts = rest.next(2 * kinds)?;
        for (nth, placed) in self.placed.iter_mut().enumerate().take(kinds) {
            *placed = usize::from(u16_at(counts, 2 * nth));
        }
        let all: usize = self.placed.iter().sum();
        self.places = rest.next(Place::BYTES * all)?.to_vec();
        rest.0.is_empty().then_some(())
    }

    /// Where a part is, as far as that is known.
    pub fn place(&self, kind: Kind, number: usize) -> Option<Place> {
        let nth = kind as usize - 1;
        if number >= self.placed[nth] {
            return None;
        }
        let at = self.placed[..nth].iter().sum::<usize>() + number;
        Place::from_bytes(array(&self.places, Place::BYTES * at))
    }

    /// Where the first part is, in bytes, if that is known.
    pub fn first_place(&self) -> Option<Vec<u8>> {
        Some(self.places.get(..Place::BYTES)?.to_vec())
    }

    /// How many parts of a kind have a place: all, or none.
    pub fn placed(&self, kind: Kind) -> usize {
        self.placed[kind as usize - 1]
    }

    /// The only part of ids that may hold one, if that is known.
    pub fn part_of(&self, id: &Id) -> Option<usize> {
        self.fences
            .partition_point(|first| first <= id)
            .checked_sub(1)
    }

    /// Whether entry `i` counts.
    pub fn alive(&self, i: usize) -> bool {
        self.dead[i / 8] >> (i % 8) & 1 == 0
    }

    /// How many entries do not count.
    pub fn dead(&self) -> usize {
        self.dead.iter().map(|b| b.count_ones() as usize).sum()
    }

    /// Whether an entry may have this id.
    pub fn may_hold(&self, id: &Id) -> bool {
        self.range.0 <= *id && *id <= self.range.1
    }

    /// The value that all entries have in a column; `None` when it has parts.
    pub fn constant(&self, kind: Kind) -> Option<&[u8]> {
        let found = self.constants.iter().find(|(k, _)| *k == kind)?;
        Some(&found.1)
    }

    /// How many parts a column has.
    pub fn parts(&self, kind: Kind) -> usize {
        match self.constant(kind) {
            Some(_) => 0,
            None if matches!(kind, Kind::Rows | Kind::States) => self.placed(kind),
            None => self.n.div_ceil(kind.slice()),
        }
    }

    /// The speakers of its documents, dead ones included; `None` when there are too many.
    pub fn speakers(&self) -> Option<&[u32]> {
        self.speakers.as_deref()
    }

    /// How many parts have words.
    pub fn word_parts(&self) -> usize {
        self.directory.len()
    }

    /// The parts that may have words of this hash: the first, and how many.
    pub fn words(&self, hash: u32) -> (usize, usize) {
        let from = self.directory.partition_point(|first| *first < hash);
        let to = self.directory.partition_point(|first| *first <= hash);
        let from = from.saturating_sub(1);
        (from, to.saturating_sub(from))
    }
}

/// A part, read where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// What it holds.
    pub kind: Kind,
    /// Its number among those of its kind.
    pub number: usize,
    /// Of which segment.
    pub tag: u32,
    /// What it holds.
    pub content: &'a [u8],
}

impl<'a> Part<'a> {
    /// Reads a part; `None` when the bytes are not one.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() < PART_HEADER || bytes[0] != PART {
            return None;
        }
        Some(Self {
            kind: Kind::of(bytes[1])?,
            number: usize::from(u16_at(bytes, 2)),
            tag: u32_at(bytes, 4),
            content: &bytes[PART_HEADER..],
        })
    }
}

/// A part of words.
pub struct Postings<'a> {
    hashes: &'a [u8],
    letters: &'a [u8],
    ends: &'a [u8],
    occurrences: &'a [u8],
    large: &'a [u8],
}

/// The count of an occurrence whose count is elsewhere.
const LARGE: u16 = 15;

impl<'a> Postings<'a> {
    /// Reads the content of a part.
    pub fn parse(content: &'a [u8]) -> Option<Self> {
        let mut rest = Columns(content);
        let counts = rest.next(4)?;
        let (k, x) = (usize::from(u16_at(counts, 0)), u16_at(counts, 2));
        let (hashes, letters, ends) = (rest.next(4 * k)?, rest.next(4 * k)?, rest.next(2 * k)?);
        let mut last = 0;
        for word in 0..k {
            let end = u16_at(ends, 2 * word);
            if end < last {
                return None;
            }
            last = end;
        }
        Some(Self {
            hashes,
            letters,
            ends,
            occurrences: rest.next(2 * usize::from(last))?,
            large: rest.next(6 * usize::from(x))?,
        })
    }

    fn len(&self) -> usize {
        self.hashes.len() / 4
    }

    fn word(&self, word: usize) -> Word {
        Word {
            hash: u32_at(self.hashes, 4 * word),
            letters: u32_at(self.letters, 4 * word),
        }
    }

    /// Calls `visit` with every document that holds the word, ascending, and how often.
    fn each(&self, word: usize, mut visit: impl FnMut(u16, u32)) {
        let end = |word: usize| usize::from(u16_at(self.ends, 2 * word));
        let begin = word.checked_sub(1).map_or(0, end);
        for at in begin..end(word) {
            let occurrence = u16_at(self.occurrences, 2 * at);
            let (document, count) = (occurrence >> 4, occurrence & LARGE);
            visit(
                document,
                if count < LARGE {
                    count.into()
                } else {
                    self.large_count(at)
                },
            );
        }
    }

    fn large_count(&self, at: usize) -> u32 {
        let all = self.large.as_chunks::<6>().0;
        // In the order of occurrences.
        match all.binary_search_by_key(&at, |c| usize::from(u16_at(c, 0))) {
            Ok(found) => u32::from(u16_at(&all[found], 4)),
            Err(_) => LARGE.into(),
        }
    }

    /// Calls `visit` with every word whose letters are wanted, every document that holds it, ascending, and how
    /// often.
    pub fn each_word(&self, wanted: impl Fn(u32) -> bool, mut visit: impl FnMut(Word, u16, u32)) {
        for nth in 0..self.len() {
            let word = self.word(nth);
            if wanted(word.letters) {
                self.each(nth, |document, count| visit(word, document, count));
            }
        }
    }

    /// Calls `visit` with the documents that hold this word, ascending, and how often.
    pub fn find(&self, wanted: Word, visit: impl FnMut(u16, u32)) {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.word(middle) < wanted {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if low < self.len() && self.word(low) == wanted {
            self.each(low, visit);
        }
    }
}

/// A part of vectors with the upper halves of their codes.
#[derive(Clone, Copy)]
pub struct High<'a> {
    /// How many.
    pub n: usize,
    scales: &'a [u8],
    norms: &'a [u8],
    /// Halves of codes of all vectors, one after another.
    pub halves: &'a [u8],
}

impl<'a> High<'a> {
    /// Reads the content of a part.
    pub fn parse(content: &'a [u8], dims: usize) -> Option<Self> {
        let mut rest = Columns(content);
        let n = u32_at(rest.next(4)?, 0) as usize;
        Some(Self {
            n,
            scales: rest.next(n.checked_mul(4)?)?,
            norms: rest.next(4 * n)?,
            halves: rest.next(n.checked_mul(dims.div_ceil(2))?)?,
        })
    }

    /// Value of one code of vector `i`.
    pub fn scale(&self, i: usize) -> f32 {
        f32::from_le_bytes(array(self.scales, 4 * i))
    }

    /// Euclidean length of vector `i` before it was quantised.
    pub fn norm(&self, i: usize) -> f32 {
        f32::from_le_bytes(array(self.norms, 4 * i))
    }

    /// Vector `i` as it is stored; `None` where there is none.
    pub fn half(&self, i: usize) -> Option<Half> {
        let width = self.halves.len().checked_div(self.n)?;
        let halves = self.halves.get(width * i..width * (i + 1))?;
        Some((self.scale(i), self.norm(i), halves.to_vec()))
    }

    /// Vector `i` alone, read where it lies.
    pub fn only(&self, i: usize) -> Option<Self> {
        let width = self.halves.len().checked_div(self.n)?;
        Some(Self {
            n: 1,
            scales: self.scales.get(4 * i..4 * i + 4)?,
            norms: &self.norms[4 * i..4 * i + 4],
            halves: &self.halves[width * i..width * (i + 1)],
        })
    }
}

/// The direction in which a vector points, by its upper halves: its codes, in no unit.
pub fn direction((scale, _, halves): &Half, dims: usize) -> impl Iterator<Item = f32> {
    let some = f32::from(u8::from(*scale > 0.0));
    let half = dims.div_ceil(2);
    // What is missing of a code is 7.5 of 16 on average.
    (0..dims).map(move |d| {
        let byte = halves[if d < half { d } else { d - half }];
        let code = if d < half { byte & 15 } else { byte >> 4 };
        some * (16.0 * f32::from(code) - 120.5)
    })
}

/// The codes of which these are the halves, as vectors in blocks have them, appended to `out`.
pub fn whole(upper: &[u8], lower: &[u8], dims: usize, out: &mut Vec<u8>) {
    let width = dims.div_ceil(2).max(1);
    for (upper, lower) in upper.chunks_exact(width).zip(lower.chunks_exact(width)) {
        let code = |upper: u8, lower: u8| (upper << 4 | lower & 15).wrapping_sub(128);
        let both = upper.iter().zip(lower);
        out.extend(both.clone().map(|(u, l)| code(*u, *l)));
        out.extend((both.take(dims - width.min(dims))).map(|(u, l)| code(u >> 4, l >> 4)));
    }
}

/// The lower halves of codes of a part, one vector after another.
pub fn low(content: &[u8], dims: usize) -> Option<(usize, &[u8])> {
    let mut rest = Columns(content);
    let n = u32_at(rest.next(4)?, 0) as usize;
    Some((n, rest.next(n.checked_mul(dims.div_ceil(2))?)?))
}

/// A quantised vector.
#[derive(Clone, Debug, PartialEq)]
struct Point {
    id: Id,
    stamp: Stamp,
    scale: f32,
    norm: f32,
    codes: Vec<u8>,
}

/// Everything that rows of all kinds hold, the newest entry of each memory, by id.
enum Held {
    Documents(Vec<Document>),
    Points(Vec<Point>),
}

/// Rows of one segment.
#[derive(Default)]
struct Rows<'a> {
    head: Option<Head>,
    parts: BTreeMap<(Kind, usize), &'a [u8]>,
}

impl<'a> Rows<'a> {
    /// Parts alone.
    fn of(parts: &[&'a [u8]]) -> Result<Self, Unreadable> {
        let mut rows = Self::default();
        for bytes in parts {
            let part = Part::parse(bytes).ok_or(Unreadable)?;
            rows.parts.insert((part.kind, part.number), part.content);
        }
        Ok(rows)
    }

    fn column<const N: usize>(&self, head: &Head, kind: Kind) -> Option<Vec<[u8; N]>> {
        if let Some(value) = head.constant(kind) {
            return Some(vec![array(value, 0); head.n]);
        }
        let mut bytes = Vec::with_capacity(N * head.n);
        for number in 0..head.parts(kind) {
            bytes.extend_from_slice(self.parts.get(&(kind, number))?);
        }
        (bytes.len() == N * head.n).then(|| bytes.as_chunks::<N>().0.to_vec())
    }

    fn contents(&self, kind: Kind) -> impl Iterator<Item = &[u8]> {
        self.parts
            .range((kind, 0)..=(kind, usize::MAX))
            .map(|(_, content)| *content)
    }

    fn documents(&self, head: &Head, out: &mut Vec<Document>) -> Option<()> {
        let ids = self.column::<16>(head, Kind::Ids)?;
        let stamps = self.column::<8>(head, Kind::Stamps)?;
        let times = self.column::<8>(head, Kind::Times)?;
        let sessions = self.column::<4>(head, Kind::Sessions)?;
        let speakers = self.column::<4>(head, Kind::Speakers)?;
        let lengths = self.column::<4>(head, Kind::Lengths)?;
        let mut words: Vec<Vec<(Word, u32)>> = vec![Vec::new(); head.n];
        if self.contents(Kind::Words).count() != head.directory.len() {
            return None;
        }
        for content in self.contents(Kind::Words) {
            let postings = Postings::parse(content)?;
            for word in 0..postings.len() {
                let mut wrong = false;
                postings.each(word, |document, count| {
                    match words.get_mut(usize::from(document)) {
                        Some(words) => words.push((postings.word(word), count)),
                        None => wrong = true,
                    }
                });
                if wrong {
                    return None;
                }
            }
        }
        for (i, words) in words
            .into_iter()
            .enumerate()
            .filter(|(i, _)| head.alive(*i))
        {
            let (length, question) = documents::length(u32::from_le_bytes(lengths[i]));
            out.push(Document {
                id: ids[i],
                stamp: Stamp::from_bytes(stamps[i]),
                time: i64::from_le_bytes(times[i]),
                session: u32::from_le_bytes(sessions[i]),
                speaker: u32::from_le_bytes(speakers[i]),
                length,
                question,
                words,
            });
        }
        Some(())
    }

    fn points(&self, head: &Head, dims: usize, out: &mut Vec<Point>) -> Option<()> {
        let ids = self.column::<16>(head, Kind::Ids)?;
        let stamps = self.column::<8>(head, Kind::Stamps)?;
        let half = dims.div_ceil(2);
        let mut lows: Vec<&[u8]> = Vec::with_capacity(head.n);
        for content in self.contents(Kind::Low) {
            let (n, halves) = low(content, dims)?;
            // Vectors of no dimension take no bytes, however many they are said to be.
            if n > head.n - lows.len() {
                return None;
            }
            lows.extend((0..n).map(|i| &halves[half * i..half * (i + 1)]));
        }
        let mut i = 0;
        for content in self.contents(Kind::High) {
            let high = High::parse(content, dims)?;
            for nth in 0..high.n {
                let (upper, lower) = (&high.halves[half * nth..half * (nth + 1)], *lows.get(i)?);
                if i < head.n && head.alive(i) {
                    let code = |d: usize| {
                        let (at, shift) = (d % half, 4 * (d / half));
                        let (upper, lower) = (upper[at] >> shift & 15, lower[at] >> shift & 15);
                        (upper << 4 | lower).wrapping_sub(128)
                    };
                    out.push(Point {
                        id: ids[i],
                        stamp: Stamp::from_bytes(stamps[i]),
                        scale: high.scale(nth),
                        norm: high.norm(nth),
                        codes: (0..dims).map(code).collect(),
                    });
                }
                i += 1;
            }
        }
        (i == head.n && lows.len() == i).then_some(())
    }
}

fn read(rows: &[&[u8]]) -> Result<Held, Unreadable> {
    let mut documents = Vec::new();
    let mut points = Vec::new();
    let mut segments: BTreeMap<u32, Rows<'_>> = BTreeMap::new();
    for bytes in rows {
        match bytes.first() {
            Some(&HEAD) => {
                let head = Head::parse(bytes).ok_or(Unreadable)?;
                let tag = head.tag;
                segments.entry(tag).or_default().head = Some(head);
            }
            Some(&PART) => {
                let part = Part::parse(bytes).ok_or(Unreadable)?;
                let parts = &mut segments.entry(part.tag).or_default().parts;
                parts.insert((part.kind, part.number), part.content);
            }
            _ => match Block::parse(bytes).ok_or(Unreadable)? {
                Block::Documents(block) => documents.extend((0..block.len()).map(|i| block.get(i))),
                Block::Vectors(block) => points.extend((0..block.len()).map(|i| Point {
                    id: block.id(i),
                    stamp: block.stamp(i),
                    scale: block.scale(i),
                    norm: block.norm(i),
                    codes: block.codes(i).to_vec(),
                })),
            },
        }
    }
    for rows in segments.values() {
        let head = rows.head.as_ref().ok_or(Unreadable)?;
        match head.dims {
            None => rows.documents(head, &mut documents),
            Some(dims) => rows.points(head, dims, &mut points),
        }
        .ok_or(Unreadable)?;
    }
    match (documents.is_empty(), points.is_empty()) {
        (_, true) => {
            documents.sort_by(|a, b| a.id.cmp(&b.id).then(b.stamp.cmp(&a.stamp)));
            documents.dedup_by_key(|d| d.id);
            Ok(Held::Documents(documents))
        }
        (true, false) => {
            points.sort_by(|a, b| a.id.cmp(&b.id).then(b.stamp.cmp(&a.stamp)));
            points.dedup_by_key(|p| p.id);
            Ok(Held::Points(points))
        }
        (false, false) => Err(Unreadable),
    }
}

/// Makes segments of everything that counts in these rows, which may be blocks and whole segments in any
/// order: the newest entry of each memory. The segments get `tag` and the numbers after it.
pub fn seal(rows: &[&[u8]], tag: u32) -> Result<Vec<Row>, Unreadable> {
    let mut out = Vec::new();
    match read(rows)? {
        Held::Documents(all) => {
            for (these, tag) in all.chunks(MOST).zip(tag..) {
                seal_documents(these, tag, &mut out);
            }
        }
        Held::Points(all) => {
            let empty = all.iter().filter(|p| p.codes.is_empty()).count();
            if empty * dims_of(&all) > MOST_ZEROS {
                return Err(Unreadable);
            }
            for (these, tag) in all.chunks(MOST).zip(tag..) {
                seal_points(these, tag, &mut out)?;
            }
        }
    }
    Ok(out)
}

/// Id, stamp and a block of its own for every entry that counts in these rows, as [`super::split`] gives them.
pub fn entries(rows: &[&[u8]]) -> Result<Vec<(Id, Stamp, Vec<u8>)>, Unreadable> {
    Ok(match read(rows)? {
        Held::Documents(all) => all
            .into_iter()
            .map(|d| {
                let (id, stamp) = (d.id, d.stamp);
                let alone = Document {
                    stamp: Stamp::ONLY,
                    ..d
                };
                (id, stamp, alone.encode())
            })
            .collect(),
        Held::Points(all) => all
            .iter()
            .map(|p| {
                let block = vectors::alone(p.id, Stamp::ONLY, p.scale, p.norm, &p.codes);
                (p.id, p.stamp, block)
            })
            .collect(),
    })
}

/// Whether these bytes call themselves a row of a segment.
pub fn is_row(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(&(HEAD | PART)))
}

/// A head in which the entries are dead that are older than one of `newer`, with the ids of all of them
/// that the segment holds, dead or not. `parts` are its parts of ids and stamps.
pub fn bury(
    head: &[u8],
    parts: &[&[u8]],
    newer: &[(Id, Stamp)],
) -> Result<(Vec<u8>, Vec<Id>), Unreadable> {
    let mut head = Head::parse(head).ok_or(Unreadable)?;
    let rows = Rows::of(parts)?;
    let ids = rows.column::<16>(&head, Kind::Ids).ok_or(Unreadable)?;
    let stamps = rows.column::<8>(&head, Kind::Stamps).ok_or(Unreadable)?;
    let mut held = Vec::new();
    for (id, newer) in newer {
        if let Ok(i) = ids.binary_search(id) {
            held.push(*id);
            if Stamp::from_bytes(stamps[i]) < *newer {
                head.dead[i / 8] |= 1 << (i % 8);
            }
        }
    }
    Ok((head.encode(), held))
}

/// The dead entries of a segment that are of these memories, ascending, if there are any and [`blanked`] can take all of
/// them out of it: the first id of a part and the last of all are in the head as well, and others may have no room
/// between their neighbours. `parts` are its parts of ids.
pub fn dead_of(
    head: &[u8],
    parts: &[&[u8]],
    memories: &[Id],
) -> Result<Option<Vec<usize>>, Unreadable> {
    let head = Head::parse(head).ok_or(Unreadable)?;
    let mut ids = ids_of_head(&head, parts)?;
    let mut entries: Vec<usize> = (memories.iter())
        .filter_map(|id| ids.binary_search(id).ok())
        .filter(|i| !head.alive(*i))
        .collect();
    entries.sort_unstable();
    entries.dedup();
    let slice = Kind::Ids.slice();
    let possible = !entries.is_empty()
        && (ids.chunks_mut(slice).enumerate()).all(|(number, part)| {
            let first = number * slice;
            let mut these = entries.iter().filter(|i| **i / slice == number);
            these.all(|i| nobodys(part, i - first).is_some())
        });
    Ok(possible.then_some(entries))
}

/// Fewer ids between two are no room: by chance one could be chosen that was somebody's.
const ROOMY: u128 = 1 << 32;

/// Makes id `i` of a part one that is nobody's, somewhere between its neighbours. `None` where it has but one, or where
/// there is no room. The same each time, and neither it nor its neighbours tell what it was.
fn nobodys(ids: &mut [Id], i: usize) -> Option<()> {
    let number = |i: usize| ids.get(i).map(|id| u128::from_be_bytes(*id));
    let (before, old, after) = (number(i.checked_sub(1)?)?, number(i)?, number(i + 1)?);
    let room = after.checked_sub(before)?.checked_sub(1)?;
    let half = |nth: u8| {
        let mut hasher = DefaultHasher::new();
        (nth, old).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    let id = before + 1 + (half(0) << 64 | half(1)).checked_rem(room)?;
    if room < ROOMY || id == old {
        return None;
    }
    ids[i] = id.to_be_bytes();
    Some(())
}

/// A part of a segment of vectors without what it holds of `entries`, which [`dead_of`] gave: vectors are zeros, and ids
/// nobody's. `None` of one that holds nothing of them, or no more than when they were written and where.
pub fn blanked(head: &[u8], row: &[u8], entries: &[usize]) -> Result<Option<Vec<u8>>, Unreadable> {
    let head = Head::parse(head).ok_or(Unreadable)?;
    let part = Part::parse(row).ok_or(Unreadable)?;
    let (Some(dims), true) = (head.dims, part.tag == head.tag) else {
        return Err(Unreadable);
    };
    let room = match part.kind {
        Kind::Ids => part.kind.slice(),
        Kind::High => high_room(dims),
        Kind::Low => low_room(dims),
        _ => return Ok(None),
    };
    let first = part.number * room;
    let from = entries.partition_point(|entry| *entry < first);
    let to = entries.partition_point(|entry| *entry < first + room);
    if from == to {
        return Ok(None);
    }
    let mut row = row.to_vec();
    let content = &mut row[PART_HEADER..];
    for entry in &entries[from..to] {
        match part.kind {
            Kind::Ids => nobodys(content.as_chunks_mut::<16>().0, entry - first),
            kind => blank(content, entry - first, kind == Kind::High, dims),
        }
        .ok_or(Unreadable)?;
    }
    Ok(Some(row))
}

/// Makes vector `i` of a part of upper (or lower) halves zeros; `None` where there is none.
pub fn blank(content: &mut [u8], i: usize, upper: bool, dims: usize) -> Option<()> {
    let n = u32_at(content.get(..4)?, 0) as usize;
    if i >= n {
        return None;
    }
    let width = dims.div_ceil(2);
    let mut at = 4;
    // Scales, lengths, halves.
    let columns: &[usize] = if upper { &[4, 4, width] } else { &[width] };
    for column in columns {
        content
            .get_mut(at + column * i..at + column * (i + 1))?
            .fill(0);
        at += column * n;
    }
    Some(())
}

/// Whether a row of a segment names any of the memories, `ids` sorted: parts of ids do, and a head says
/// whether they may be in the segment.
pub fn holds(bytes: &[u8], ids: &[Id]) -> Option<bool> {
    if bytes.first() == Some(&HEAD) {
        let head = Head::parse(bytes)?;
        let next = ids.partition_point(|id| *id < head.range.0);
        return Some(ids.get(next).is_some_and(|id| head.may_hold(id)));
    }
    let part = Part::parse(bytes)?;
    let mut named = part.content.as_chunks::<16>().0.iter();
    Some(part.kind == Kind::Ids && named.any(|id| ids.binary_search(id).is_ok()))
}

fn numbers(bytes: &[u8]) -> Vec<u32> {
    let (whole, _) = bytes.as_chunks::<4>();
    whole.iter().map(|b| u32::from_le_bytes(*b)).collect()
}

fn bytes_of(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
}

fn part(tag: u32, kind: Kind, number: usize, content: &[u8]) -> Row {
    let mut bytes = vec![PART, kind as u8];
    bytes.extend((number as u16).to_le_bytes());
    bytes.extend(tag.to_le_bytes());
    bytes.extend_from_slice(content);
    Row {
        tag,
        part: Some((kind, number)),
        entries: 0,
        bytes,
    }
}

/// Parts that tell where the rows of the entries are, in their order, [`Place::BYTES`] bytes each, and those of
/// the states of memories, which may be none.
pub fn rows_at(head: &[u8], rows: &[u8], states: &[u8]) -> Result<Vec<Row>, Unreadable> {
    let head = Head::parse(head).ok_or(Unreadable)?;
    let mut parts = Vec::new();
    for (kind, places) in [(Kind::Rows, rows), (Kind::States, states)] {
        if places.len() != Place::BYTES * head.n && !places.is_empty() {
            return Err(Unreadable);
        }
        let slices = places.chunks(kind.slice() * Place::BYTES).enumerate();
        parts.extend(slices.map(|(number, slice)| part(head.tag, kind, number, slice)));
    }
    Ok(parts)
}

/// Parts with what filters ask of the entries.
pub fn values_of(head: &[u8], values: &[u8]) -> Result<Vec<Row>, Unreadable> {
    let head = Head::parse(head).ok_or(Unreadable)?;
    let slices = values.chunks(Kind::Values.slice()).enumerate();
    Ok(slices
        .map(|(number, slice)| part(head.tag, Kind::Values, number, slice))
        .collect())
}

/// The ids of a segment, of its parts of ids, which may come in any order.
pub fn ids_of(head: &[u8], parts: &[&[u8]]) -> Result<Vec<Id>, Unreadable> {
    ids_of_head(&Head::parse(head).ok_or(Unreadable)?, parts)
}

fn ids_of_head(head: &Head, parts: &[&[u8]]) -> Result<Vec<Id>, Unreadable> {
    let rows = Rows::of(parts)?;
    rows.column(head, Kind::Ids).ok_or(Unreadable)
}

/// The head with the places of its parts: their keys, ascending, and [`Place::BYTES`] bytes for each.
pub fn parts_at(head: &[u8], keys: &[Id], places: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let mut head = Head::parse(head).ok_or(Unreadable)?;
    if places.len() != Place::BYTES * keys.len() {
        return Err(Unreadable);
    }
    let mut placed = [0; KINDS.len()];
    let mut last = None;
    for key in keys {
        let kind = Kind::of(key[0]).ok_or(Unreadable)?;
        let count = &mut placed[kind as usize - 1];
        // Without gaps and in order.
        if *key != kind.key(*count) || last > Some(kind) {
            return Err(Unreadable);
        }
        *count += 1;
        last = Some(kind);
    }
    head.placed = placed;
    head.places = places.to_vec();
    Ok(head.encode())
}

/// Puts the rows of one segment together.
struct Writer<'a> {
    head: Head,
    rows: &'a mut Vec<Row>,
    at: usize,
}

impl<'a> Writer<'a> {
    fn new(
        n: usize,
        tag: u32,
        dims: Option<usize>,
        range: (Id, Id),
        rows: &'a mut Vec<Row>,
    ) -> Self {
        let at = rows.len();
        rows.push(Row {
            tag,
            part: None,
            entries: n,
            bytes: Vec::new(),
        });
        Self {
            head: Head {
                tag,
                n,
                dims,
                range,
                dead: vec![0; n.div_ceil(8)],
                constants: Vec::new(),
                speakers: None,
                directory: Vec::new(),
                fences: Vec::new(),
                placed: [0; KINDS.len()],
                places: Vec::new(),
            },
            rows,
            at,
        }
    }

    fn part(&mut self, kind: Kind, number: usize, content: &[u8]) {
        self.rows.push(part(self.head.tag, kind, number, content));
    }

    fn column<const N: usize>(&mut self, kind: Kind, values: impl Iterator<Item = [u8; N]>) {
        let values: Vec<[u8; N]> = values.collect();
        if values.iter().all(|v| *v == values[0]) {
            self.head.constants.push((kind, values[0].to_vec()));
        } else {
            self.slices(kind, values.as_flattened());
        }
    }

    fn ids(&mut self, ids: impl Iterator<Item = Id>) {
        let ids: Vec<Id> = ids.collect();
        let firsts = ids.chunks(Kind::Ids.slice()).map(|part| part[0]);
        self.head.fences = firsts.collect();
        // They have parts even if there is one of them only.
        self.slices(Kind::Ids, ids.as_flattened());
    }

    fn slices(&mut self, kind: Kind, bytes: &[u8]) {
        let size = kind.slice() * kind.width();
        let size = if size > 0 { size } else { SLICE };
        for (number, slice) in bytes.chunks(size).enumerate() {
            self.part(kind, number, slice);
        }
    }

    fn finish(self) {
        self.rows[self.at].bytes = self.head.encode();
    }
}

fn seal_documents(all: &[Document], tag: u32, out: &mut Vec<Row>) {
    let (Some(first), Some(last)) = (all.first(), all.last()) else {
        return;
    };
    let mut writer = Writer::new(all.len(), tag, None, (first.id, last.id), out);
    writer.ids(all.iter().map(|d| d.id));
    writer.column(Kind::Stamps, all.iter().map(|d| d.stamp.0.to_le_bytes()));
    writer.column(Kind::Times, all.iter().map(|d| d.time.to_le_bytes()));
    writer.column(Kind::Sessions, all.iter().map(|d| d.session.to_le_bytes()));
    writer.column(Kind::Speakers, all.iter().map(|d| d.speaker.to_le_bytes()));
    writer.column(
        Kind::Lengths,
        all.iter()
            .map(|d| documents::stored_length(d.length, d.question).to_le_bytes()),
    );
    let mut speakers: Vec<u32> = all.iter().map(|d| d.speaker).collect();
    speakers.sort_unstable();
    speakers.dedup();
    writer.head.speakers = (speakers.len() <= LISTED).then_some(speakers);
    if writer.head.constant(Kind::Sessions) != Some(&[0; 4]) {
        let order = order(all);
        writer.slices(Kind::Order, &order);
    }
    words(all, &mut writer);
    writer.finish();
}

fn order(all: &[Document]) -> Vec<u8> {
    let mut order: Vec<usize> = (0..all.len()).filter(|i| all[*i].session != 0).collect();
    order.sort_by_key(|i| (all[*i].session, all[*i].time, *i));
    let mut sessions: Vec<(u32, u32)> = Vec::new();
    for (end, i) in (1u32..).zip(&order) {
        match sessions.last_mut() {
            Some(last) if last.0 == all[*i].session => last.1 = end,
            _ => sessions.push((all[*i].session, end)),
        }
    }
    let mut out = (sessions.len() as u32).to_le_bytes().to_vec();
    out.extend(
        sessions
            .iter()
            .flat_map(|(session, end)| [session.to_le_bytes(), end.to_le_bytes()].concat()),
    );
    out.extend(order.iter().flat_map(|i| (*i as u16).to_le_bytes()));
    out
}

/// The documents of a session, by time and id, in the bytes of [`Kind::Order`].
pub fn of_session(order: &[u8], session: u32) -> Option<Vec<u16>> {
    let mut rest = Columns(order);
    let k = u32_at(rest.next(4)?, 0) as usize;
    let sessions = rest.next(k.checked_mul(8)?)?.as_chunks::<8>().0;
    let Ok(found) = sessions.binary_search_by_key(&session, |s| u32_at(s, 0)) else {
        return Some(Vec::new());
    };
    let end = |place: usize| u32_at(&sessions[place], 4) as usize;
    let begin = found.checked_sub(1).map_or(0, end);
    let these = rest.0.as_chunks::<2>().0.get(begin..end(found))?;
    Some(these.iter().map(|b| u16::from_le_bytes(*b)).collect())
}

/// One part of words in the making.
#[derive(Default)]
struct Open {
    words: Vec<(Word, usize)>,
    occurrences: Vec<u16>,
    large: Vec<[u16; 3]>,
}

impl Open {
    const WORD: usize = 10;

    fn bytes(&self) -> usize {
        PART_HEADER
            + 4
            + Self::WORD * self.words.len()
            + 2 * self.occurrences.len()
            + 6 * self.large.len()
    }

    fn close(&mut self, writer: &mut Writer<'_>) {
        let Some((first, _)) = self.words.first() else {
            return;
        };
        let number = writer.head.directory.len();
        writer.head.directory.push(first.hash);
        let mut out = Vec::with_capacity(ROOM);
        out.extend((self.words.len() as u16).to_le_bytes());
        out.extend((self.large.len() as u16).to_le_bytes());
        for (word, _) in &self.words {
            out.extend(word.hash.to_le_bytes());
        }
        for (word, _) in &self.words {
            out.extend(word.letters.to_le_bytes());
        }
        for (_, end) in &self.words {
            out.extend((*end as u16).to_le_bytes());
        }
        for occurrence in &self.occurrences {
            out.extend(occurrence.to_le_bytes());
        }
        for large in self.large.as_flattened() {
            out.extend(large.to_le_bytes());
        }
        writer.part(Kind::Words, number, &out);
        *self = Self::default();
    }
}

fn words(all: &[Document], writer: &mut Writer<'_>) {
    let mut occurrences: Vec<(Word, u16, u32)> = (0u16..)
        .zip(all)
        .flat_map(|(i, d)| d.words.iter().map(move |(word, tf)| (*word, i, *tf)))
        .collect();
    occurrences.sort_unstable();
    let mut open = Open::default();
    for these in occurrences.chunk_by(|a, b| a.0 == b.0) {
        // A word that is common goes on in the next part, where it stands first.
        let mut begun = false;
        for (word, document, count) in these {
            // As blocks keep it.
            let count = (*count).min(255) as u16;
            let more = 2 + if count < LARGE { 0 } else { 6 } + if begun { 0 } else { Open::WORD };
            if open.bytes() + more > ROOM {
                open.close(writer);
                begun = false;
            }
            if !begun {
                open.words.push((*word, open.occurrences.len()));
                begun = true;
            }
            if count >= LARGE {
                open.large
                    .push([open.occurrences.len() as u16, *document, count]);
            }
            open.occurrences.push(document << 4 | count.min(LARGE));
            open.words.last_mut().expect("just begun").1 = open.occurrences.len();
        }
    }
    open.close(writer);
}

/// Scale, length and half of the codes of a vector.
pub type Half = (f32, f32, Vec<u8>);

/// The upper or the lower halves of codes, of which those that are missing are 0.
pub fn halves(codes: &[u8], dims: usize, upper: bool) -> Vec<u8> {
    let half = dims.div_ceil(2);
    let code = |d: usize| {
        let code = codes.get(d).copied().unwrap_or(0).wrapping_add(128);
        if upper { code >> 4 } else { code & 15 }
    };
    (0..half)
        .map(|d| {
            let second = if d + half < dims {
                code(d + half) << 4
            } else {
                0
            };
            code(d) | second
        })
        .collect()
}

/// What [`High::parse`] reads.
pub fn high(vectors: &[Half]) -> Vec<u8> {
    let mut content = (vectors.len() as u32).to_le_bytes().to_vec();
    content.extend(vectors.iter().flat_map(|(scale, ..)| scale.to_le_bytes()));
    content.extend(vectors.iter().flat_map(|(_, norm, _)| norm.to_le_bytes()));
    content.extend(vectors.iter().flat_map(|(.., halves)| halves));
    content
}

/// Vectors of one part of upper halves.
pub fn high_room(dims: usize) -> usize {
    ((ROOM - PART_HEADER - 4) / (8 + dims.div_ceil(2))).max(1)
}

/// Vectors of one part of lower halves.
fn low_room(dims: usize) -> usize {
    ((ROOM - PART_HEADER - 4) / dims.div_ceil(2).max(1)).max(1)
}

/// Parts of upper halves that so many vectors take.
pub fn parts_of_vectors(dims: usize, n: usize) -> usize {
    n.div_ceil(high_room(dims))
}

/// The dimensions of vectors, some of which may have none.
fn dims_of(points: &[Point]) -> usize {
    points.iter().map(|p| p.codes.len()).max().unwrap_or(0)
}

fn seal_points(all: &[Point], tag: u32, out: &mut Vec<Row>) -> Result<(), Unreadable> {
    let (Some(first), Some(last)) = (all.first(), all.last()) else {
        return Ok(());
    };
    let dims = dims_of(all);
    if all
        .iter()
        .any(|p| p.codes.len() != dims && !p.codes.is_empty())
    {
        return Err(Unreadable);
    }
    let mut writer = Writer::new(all.len(), tag, Some(dims), (first.id, last.id), out);
    writer.ids(all.iter().map(|p| p.id));
    writer.column(Kind::Stamps, all.iter().map(|p| p.stamp.0.to_le_bytes()));
    for (number, these) in all.chunks(high_room(dims)).enumerate() {
        let halves = |p: &Point| halves(&p.codes, dims, true);
        let these: Vec<Half> = these.iter().map(|p| (p.scale, p.norm, halves(p))).collect();
        writer.part(Kind::High, number, &high(&these));
    }
    for (number, these) in all.chunks(low_room(dims)).enumerate() {
        let mut content = (these.len() as u32).to_le_bytes().to_vec();
        content.extend(these.iter().flat_map(|p| halves(&p.codes, dims, false)));
        writer.part(Kind::Low, number, &content);
    }
    writer.finish();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{State, split};
    use super::*;
    use proptest::prelude::*;

    fn document() -> impl Strategy<Value = Document> {
        (
            any::<u16>(),
            any::<i64>(),
            0u32..4,
            proptest::collection::btree_map("[a-f]{1,2}", 1u32..300, 0..30),
        )
            .prop_map(|(id, time, session, words)| Document {
                id: u128::from(id % 100).to_be_bytes(),
                stamp: Stamp::ONLY,
                time,
                session,
                speaker: session ^ 1,
                length: words.values().sum(),
                question: session % 2 == 0,
                words: {
                    let mut words: Vec<(Word, u32)> = words
                        .iter()
                        .map(|(w, tf)| (Word::new(w.as_bytes()), *tf))
                        .collect();
                    words.sort_unstable();
                    words
                },
            })
    }

    #[test]
    fn few_bytes_do_not_say_that_there_is_much() {
        let gone = |n: u32| {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&n.to_be_bytes());
            vectors::encode(id, Stamp::new(1, State::Gone), &[])
        };
        // Vectors of no dimension take no bytes.
        let one = gone(1);
        let rows = seal(&[&one], 1).unwrap();
        assert!(entries(&rows_of(&rows)).is_ok());
        let mut rows: Vec<Vec<u8>> = rows.into_iter().map(|row| row.bytes).collect();
        let low = rows
            .iter_mut()
            .find(|row| row[..2] == [PART, Kind::Low as u8]);
        low.unwrap()[PART_HEADER..][..4].fill(255);
        let rows: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
        assert_eq!(entries(&rows), Err(Unreadable));

        // A head alone has no entries.
        let mut head = rows[0].to_vec();
        assert!(Head::parse(&head).is_some());
        head.extend([Kind::Ids as u8, 16, 0, 0, 0]);
        head.extend([7; 16]);
        assert!(Head::parse(&head).is_none());

        // Zeros for entries without a vector, as long as the only one.
        let mut blocks: Vec<Vec<u8>> = (1..70_000).map(gone).collect();
        blocks.push(vectors::encode(
            [0; 16],
            Stamp::new(1, State::Plain),
            &[1.0; 4096],
        ));
        let all: Vec<&[u8]> = blocks.iter().map(Vec::as_slice).collect();
        assert_eq!(seal(&all, 1), Err(Unreadable));
        assert!(seal(&all[69_000..], 1).is_ok());
    }

    #[test]
    fn parts_have_as_many_values_as_functions_of_older_versions_know() {
        assert_eq!((Kind::Ids.slice(), Kind::Rows.slice()), (496, 1322));
        assert_eq!(Kind::States.slice(), Kind::Rows.slice());
    }

    /// Scale, length and both halves of vector `i`.
    fn vectors_of(parts: &[&[u8]], dims: usize, i: usize) -> Half {
        let part = |kind: Kind, room: usize| {
            let parts = parts.iter().filter_map(|row| Part::parse(row));
            let mut these = parts.filter(|part| part.kind == kind && part.number == i / room);
            these.next().unwrap().content
        };
        let high = High::parse(part(Kind::High, high_room(dims)), dims).unwrap();
        let (scale, norm, mut halves) = high.half(i % high_room(dims)).unwrap();
        let (_, low) = low(part(Kind::Low, low_room(dims)), dims).unwrap();
        let width = dims.div_ceil(2);
        halves.extend(&low[i % low_room(dims) * width..][..width]);
        (scale, norm, halves)
    }

    fn rows_of(rows: &[Row]) -> Vec<&[u8]> {
        rows.iter().map(|r| r.bytes.as_slice()).collect()
    }

    /// What the blocks say, the newest of each.
    fn truth(blocks: &[Vec<u8>]) -> BTreeMap<Id, (Stamp, Vec<u8>)> {
        let mut truth: BTreeMap<Id, (Stamp, Vec<u8>)> = BTreeMap::new();
        for (id, stamp, entry) in blocks.iter().flat_map(|b| split(b).unwrap()) {
            let known = truth.entry(id).or_insert((stamp, entry.clone()));
            if known.0 < stamp {
                *known = (stamp, entry);
            }
        }
        truth
    }

    fn held(rows: &[&[u8]]) -> BTreeMap<Id, (Stamp, Vec<u8>)> {
        let all = entries(rows).unwrap();
        all.into_iter().map(|(id, s, e)| (id, (s, e))).collect()
    }

    /// The parts of a kind.
    fn parts(rows: &[Row], kind: Kind) -> Vec<&[u8]> {
        rows.iter()
            .filter(|r| r.part.is_some_and(|p| p.0 == kind))
            .map(|r| r.bytes.as_slice())
            .collect()
    }

    proptest! {
        #[test]
        fn halves_make_the_whole(dims in 1usize..50, n in 0usize..5, seed: u8) {
            let codes: Vec<Vec<u8>> = (0..n).map(|i| (0..dims)
                .map(|d| ((i * 31 + d * 7 + usize::from(seed)) % 255) as u8 ^ 128).collect()).collect();
            let of = |upper| codes.iter().flat_map(|codes| halves(codes, dims, upper)).collect::<Vec<u8>>();
            let mut out = Vec::new();
            whole(&of(true), &of(false), dims, &mut out);
            prop_assert_eq!(out, codes.concat());
        }
    }

    proptest! {
        #[test]
        fn a_segment_holds_what_its_blocks_held(documents in proptest::collection::vec(document(), 1..120), at in 0usize..120) {
            let mut documents = documents;
            // No two versions of a memory are the same.
            for (version, d) in (1..).zip(&mut documents) { d.stamp = Stamp::new(version, State::Plain); }
            let blocks: Vec<Vec<u8>> = documents.iter().map(Document::encode).collect();
            let wanted = truth(&blocks);
            // Made of blocks and of another segment.
            let (some, others) = blocks.split_at(at.min(blocks.len()));
            let first = seal(&some.iter().map(Vec::as_slice).collect::<Vec<_>>(), 7).unwrap();
            let mut both = rows_of(&first);
            both.extend(others.iter().map(Vec::as_slice));
            let sealed = seal(&both, 8).unwrap();
            prop_assert!(sealed.iter().all(|r| r.tag == 8 && r.bytes.len() <= ROOM));
            prop_assert_eq!(held(&rows_of(&sealed)), wanted.clone());

            // Every word is found where it occurs.
            let head = Head::parse(&sealed[0].bytes).unwrap();
            let ids: Vec<Id> = wanted.keys().copied().collect();
            let mut newest: BTreeMap<Id, &Document> = BTreeMap::new();
            for d in &documents {
                let known = newest.entry(d.id).or_insert(d);
                if known.stamp < d.stamp { *known = d; }
            }
            for word in ["a", "b", "ab", "fe", "zz"].map(|w| Word::new(w.as_bytes())) {
                let (from, n) = head.words(word.hash);
                let mut found = Vec::new();
                for row in &sealed {
                    let Some(part) = Part::parse(&row.bytes) else { continue };
                    if part.kind == Kind::Words && (from..from + n).contains(&part.number) {
                        Postings::parse(part.content).unwrap().find(word, |d, c| found.push((d, c)));
                    }
                }
                let there: Vec<(u16, u32)> = ids.iter().enumerate()
                    .filter_map(|(i, id)| newest[id].words.iter().find(|w| w.0 == word).map(|w| (i as u16, w.1.min(255))))
                    .collect();
                prop_assert_eq!(found, there);
            }

            // And every session.
            let order: Vec<u8> = parts(&sealed, Kind::Order).iter().flat_map(|b| &b[PART_HEADER..]).copied().collect();
            for session in 1..4 {
                let mut there: Vec<(i64, u16)> = ids.iter().enumerate().filter(|(_, id)| newest[*id].session == session)
                    .map(|(i, id)| (newest[id].time, i as u16)).collect();
                there.sort_unstable();
                let found = if order.is_empty() { Vec::new() } else { of_session(&order, session).unwrap() };
                prop_assert_eq!(found, there.iter().map(|t| t.1).collect::<Vec<_>>());
            }

            // What is buried is gone.
            let mut newer: Vec<(Id, Stamp)> = ids.iter().step_by(3).map(|id| (*id, Stamp::new(60, State::Replaces))).collect();
            newer.push(([9; 16], Stamp::new(60, State::Gone)));
            let keys = [parts(&sealed, Kind::Ids), parts(&sealed, Kind::Stamps)].concat();
            let (head, named) = bury(&sealed[0].bytes, &keys, &newer).unwrap();
            prop_assert_eq!(named, ids.iter().step_by(3).copied().collect::<Vec<_>>());
            let mut rest = rows_of(&sealed);
            rest[0] = &head;
            let mut wanted = wanted;
            for (id, stamp) in &newer {
                if wanted.get(id).is_some_and(|w| w.0 < *stamp) { wanted.remove(id); }
            }
            prop_assert_eq!(held(&rest), wanted.clone());
            prop_assert_eq!(Head::parse(&head).unwrap().dead(), ids.len() - wanted.len());
            prop_assert_eq!(held(&rows_of(&seal(&rest, 9).unwrap())), wanted);
        }

        #[test]
        fn vectors_are_kept_bit_for_bit(dims in 1usize..40, n in 1usize..300, seed: u64) {
            let mut x = seed;
            let mut next = || { x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1); (x >> 40) as f32 / 1e6 - 8.0 };
            let blocks: Vec<Vec<u8>> = (0..n).map(|i| vectors::encode(((i * 7 % 251) as u128).to_be_bytes(), Stamp::new(1 + i as u64 % 3, State::Plain),
                &(0..dims).map(|_| next()).collect::<Vec<_>>())).collect();
            let sealed = seal(&blocks.iter().map(Vec::as_slice).collect::<Vec<_>>(), 1).unwrap();
            // Of two with the same stamp either may stay.
            let stamps = |held: &BTreeMap<Id, (Stamp, Vec<u8>)>| held.iter().map(|(id, h)| (*id, h.0)).collect::<Vec<_>>();
            let held = held(&rows_of(&sealed));
            prop_assert_eq!(stamps(&held), stamps(&truth(&blocks)));
            let all: Vec<Vec<u8>> = blocks.iter().flat_map(|b| split(b).unwrap()).map(|e| e.2).collect();
            for (_, entry) in held.values() {
                prop_assert!(all.contains(entry));
            }
            prop_assert!(sealed.iter().all(|r| r.bytes.len() <= ROOM));
        }

        #[test]
        fn what_is_blanked_is_gone_and_nothing_else(dims in 16usize..40, n in 3usize..1100, gap in 0u32..70, which in proptest::collection::vec(any::<usize>(), 1..6), near: bool, seed: u64) {
            let mut x = seed;
            let mut next = || { x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1); (x >> 40) as f32 / 1e6 - 8.0 };
            // Ids may follow each other, or have room.
            let id = |i: usize| ((i as u128) << gap).wrapping_add(7).to_be_bytes();
            let codes: Vec<Vec<u8>> = (0..n).map(|i| vectors::encode(id(i), Stamp::ONLY, &(0..dims).map(|_| next()).collect::<Vec<_>>())).collect();
            let sealed = seal(&codes.iter().map(Vec::as_slice).collect::<Vec<_>>(), 1).unwrap();
            let mut rows: Vec<Vec<u8>> = sealed.iter().filter(|r| r.part.is_some()).map(|r| r.bytes.clone()).collect();
            let mut head = sealed.iter().find(|r| r.part.is_none()).unwrap().bytes.clone();
            let mut which: Vec<usize> = which.into_iter().map(|i| i % n).collect();
            if near {
                which = (0..which.len()).map(|nth| (which[0] + nth) % n).collect();
            }
            let halves = which.iter().map(|i| vectors_of(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>(), dims, *i).2).collect::<Vec<_>>();
            let mut gone: Vec<Id> = Vec::new();
            // One after the other, or all at once.
            for these in which.chunks(if seed % 2 == 0 { 1 } else { 9 }) {
                let parts: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
                let ids: Vec<Id> = these.iter().map(|i| id(*i)).filter(|id| !gone.contains(id)).collect();
                prop_assert_eq!(dead_of(&head, &parts, &ids).unwrap(), None);
                let newer: Vec<_> = ids.iter().map(|id| (*id, Stamp::new(9, State::Gone))).collect();
                let (dead_head, _) = bury(&head, &parts, &newer).unwrap();
                let slice = Kind::Ids.slice();
                let inside = these.iter().all(|i| i % slice > 0 && i % slice + 1 < slice && i + 1 < n);
                let Some(dead) = dead_of(&dead_head, &parts, &ids).unwrap() else {
                    prop_assert!(!inside || gap < 40 || ids.is_empty());
                    break;
                };
                prop_assert!(inside);
                rows = parts.iter().map(|p| blanked(&dead_head, p, &dead).unwrap().unwrap_or_else(|| p.to_vec())).collect();
                head = dead_head;
                gone.extend(ids);
            }
            let mut all: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
            for (i, halves) in which.iter().zip(halves) {
                if gone.contains(&id(*i)) {
                    let (scale, norm, zeros) = vectors_of(&all, dims, *i);
                    prop_assert_eq!((scale, norm), (0.0, 0.0));
                    prop_assert!(zeros.iter().all(|half| *half == 0) && halves.iter().any(|half| *half != 0));
                    let ids = |row: &[u8]| Part::parse(row).filter(|part| part.kind == Kind::Ids).map_or(0, |part| part.content.as_chunks::<16>().0.iter().filter(|other| **other == id(*i)).count());
                    prop_assert_eq!(all.iter().map(|row| ids(row)).sum::<usize>(), 0);
                }
            }
            all.push(&head);
            let rest: BTreeMap<_, _> = truth(&codes).into_iter().filter(|(id, _)| !gone.contains(id)).collect();
            prop_assert_eq!(held(&all), rest);
        }

        #[test]
        fn garbage_is_no_segment(mut bytes in proptest::collection::vec(any::<u8>(), 8..200), kind in 0u8..12) {
            for first in [HEAD, PART] {
                bytes[0] = first;
                bytes[1] = kind;
                let _ = seal(&[&bytes], 1);
                let _ = holds(&bytes, &[[0; 16]]);
                let _ = bury(&bytes, &[&bytes], &[([0; 16], Stamp::ONLY)]);
                let _ = dead_of(&bytes, &[&bytes], &[[0; 16]]);
                let _ = blanked(&bytes, &bytes, &[1, 2]);
            }
            let _ = of_session(&bytes, 1);
            if let Some(postings) = Postings::parse(&bytes) {
                for word in 0..postings.len() { postings.each(word, |_, _| ()); }
            }
        }
    }

    #[test]
    fn the_largest_segment_has_parts_of_one_page() {
        let word = Word::new(b"tea");
        let documents: Vec<Document> = (0..5000u32)
            .map(|i| Document {
                id: u128::from(i).to_be_bytes(),
                stamp: Stamp::ONLY,
                time: i.into(),
                session: 1,
                speaker: i,
                length: 1,
                question: false,
                words: vec![(word, 1 + i % 20), (Word::new(&i.to_le_bytes()), 1)],
            })
            .collect();
        let blocks: Vec<Vec<u8>> = documents.iter().map(Document::encode).collect();
        let blocks: Vec<&[u8]> = blocks.iter().map(Vec::as_slice).collect();
        let sealed = seal(&blocks, 3).unwrap();
        let heads: Vec<&Row> = sealed.iter().filter(|r| r.part.is_none()).collect();
        assert_eq!(
            heads.iter().map(|h| (h.tag, h.entries)).collect::<Vec<_>>(),
            [(3, MOST), (4, 5000 - MOST)]
        );
        assert!(sealed.iter().all(|r| r.bytes.len() <= ROOM));
        let mut keys: Vec<(u32, bool, Id)> = sealed
            .iter()
            .map(|r| (r.tag, r.part.is_some(), r.key()))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), sealed.len());
        let mut found = 0;
        for row in &sealed {
            if let Some(part) = Part::parse(&row.bytes)
                && part.kind == Kind::Words
            {
                Postings::parse(part.content)
                    .unwrap()
                    .find(word, |_, _| found += 1);
            }
        }
        assert_eq!(found, 5000);
        assert_eq!(held(&rows_of(&sealed)).len(), 5000);
    }
}
