//! Everything that a workspace holds, as one search sees it: which memories there are, when and in
//! which session they happened, and where the words of the query occur.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::Context;
use super::ids::{IdMap, IdSet};
use crate::blocks::documents::{self, Documents, Word};
use crate::blocks::vectors::Vectors;
use crate::blocks::{Id, Stamp};
use crate::error::{Error, Result};
use crate::scan::{Key, Table};
use crate::simd;

/// Where a word of the query occurs.
#[derive(Clone, Copy, Debug)]
pub struct Match {
    /// Index of the document.
    pub document: u32,
    /// Index of the word.
    pub word: u32,
    /// How often.
    pub count: u32,
}

/// Memories by index, column by column.
#[derive(Default)]
pub struct Entries {
    ids: Vec<u8>,
    stamps: Vec<u8>,
    /// Entries that count; `None` when all do.
    alive: Option<Vec<bool>>,
}

impl Entries {
    fn with_capacity(n: usize) -> Self {
        Self {
            ids: Vec::with_capacity(16 * n),
            stamps: Vec::with_capacity(8 * n),
            alive: None,
        }
    }

    /// How many, those that do not count included.
    pub fn len(&self) -> usize {
        self.ids.len() / 16
    }

    /// Id of entry `i`.
    pub fn id(&self, i: usize) -> Uuid {
        Uuid::from_bytes(self.raw(i))
    }

    fn raw(&self, i: usize) -> Id {
        column(&self.ids, i)
    }

    fn stamp(&self, i: usize) -> Stamp {
        Stamp::from_bytes(column(&self.stamps, i))
    }

    fn extend(&mut self, ids: &[u8], stamps: &[u8]) {
        self.ids.extend_from_slice(ids);
        self.stamps.extend_from_slice(stamps);
    }

    /// Whether entry `i` counts.
    pub fn alive(&self, i: usize) -> bool {
        self.alive.as_ref().is_none_or(|alive| alive[i])
    }

    /// Marks what newer entries replace. Only entries that say so can replace others.
    fn settle(&mut self) {
        let mut newest: HashMap<Id, Stamp> = HashMap::new();
        for i in 0..self.len() {
            let stamp = self.stamp(i);
            if stamp.supersedes() {
                let known = newest.entry(self.raw(i)).or_insert(stamp);
                *known = (*known).max(stamp);
            }
        }
        if newest.is_empty() {
            return;
        }
        // An entry that is stored anew after all of them has a higher version and no mark.
        let alive = (0..self.len())
            .map(|i| {
                let stamp = self.stamp(i);
                !stamp.gone() && newest.get(&self.raw(i)).is_none_or(|n| stamp >= *n)
            })
            .collect();
        self.alive = Some(alive);
    }

    /// Lets these not count.
    pub fn discard(&mut self, gone: &IdSet) {
        let alive = (0..self.len())
            .map(|i| self.alive(i) && !gone.contains(&self.id(i)))
            .collect();
        self.alive = Some(alive);
    }

    /// Lets only these count.
    fn retain(&mut self, visible: &IdSet) {
        let alive = (0..self.len())
            .map(|i| self.alive(i) && visible.contains(&self.id(i)))
            .collect();
        self.alive = Some(alive);
    }

    /// Where each of `wanted` is, among those that count.
    pub fn find(&self, wanted: &[Uuid]) -> IdMap<usize> {
        // Few are wanted of many: two bytes of the id, random in a UUID, tell most apart.
        let mut seen = vec![0u64; 1024];
        let place = |id: &[u8]| {
            (
                usize::from(id[14]) << 2 | usize::from(id[15] >> 6),
                id[15] & 63,
            )
        };
        for id in wanted {
            let (word, bit) = place(id.as_bytes());
            seen[word] |= 1 << bit;
        }
        let wanted: IdSet = wanted.iter().copied().collect();
        let mut found = IdMap::with_capacity_and_hasher(wanted.len(), Default::default());
        for (i, id) in self.ids.chunks_exact(16).enumerate() {
            let (word, bit) = place(id);
            if seen[word] >> bit & 1 == 1 && self.alive(i) {
                let id = self.id(i);
                if wanted.contains(&id) {
                    found.insert(id, i);
                }
            }
        }
        found
    }
}

/// The documents of a workspace.
pub struct Corpus {
    /// Which memories.
    pub entries: Entries,
    times: Vec<u8>,
    sessions: Vec<u8>,
    speakers: Vec<u8>,
    lengths: Vec<u8>,
    /// Occurrences of the query's words in documents that count, by document.
    pub matches: Vec<Match>,
}

thread_local! {
    /// Documents and vectors of the last search: the next one makes room at once. A number, no data.
    static LAST: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// More than this is not reserved ahead.
const MOST_RESERVED: usize = 200_000;

impl Corpus {
    /// Reads the workspace and finds `words` in it.
    pub fn read(context: &Context, blocks: &Table, words: &[Word]) -> Result<Self> {
        let room = LAST.get().0.min(MOST_RESERVED);
        let mut corpus = Self {
            entries: Entries::with_capacity(room),
            times: Vec::with_capacity(8 * room),
            sessions: Vec::with_capacity(4 * room),
            speakers: Vec::with_capacity(4 * room),
            lengths: Vec::with_capacity(4 * room),
            matches: Vec::new(),
        };
        let hashes: Vec<u32> = words.iter().map(|w| w.hash).collect();
        let mut found = Vec::new();
        let mut take = |bytes: &[u8]| -> Result<()> {
            let block = Documents::parse(bytes).ok_or_else(Error::unreadable_block)?;
            let base = corpus.entries.len();
            corpus.entries.extend(block.ids, block.stamps);
            corpus.times.extend_from_slice(block.times);
            corpus.sessions.extend_from_slice(block.sessions);
            corpus.speakers.extend_from_slice(block.speakers);
            corpus.lengths.extend_from_slice(block.lengths);
            if hashes.is_empty() {
                return Ok(());
            }
            found.clear();
            simd::find(block.hashes, &hashes, &mut found);
            let mut document = 0;
            for (place, word) in &found {
                while *place as usize >= block.end(document) {
                    document += 1;
                }
                let (letters, count) = block.info(*place as usize);
                if letters == words[*word as usize].letters {
                    corpus.matches.push(Match {
                        document: (base + document) as u32,
                        word: *word,
                        count: count.max(1),
                    });
                }
            }
            Ok(())
        };
        blocks.scan(
            &[
                (c"workspace_id", Key::Uuid(context.workspace)),
                (c"model", Key::Text("")),
            ],
            c"block",
            &mut take,
        )?;
        for document in context.past.iter().flat_map(|past| &past.documents) {
            take(document)?;
        }
        LAST.set((corpus.entries.len(), LAST.get().1));
        corpus.entries.settle();
        if context.partly_hidden {
            let visible = context.visible()?;
            corpus.entries.retain(&visible);
        }
        if corpus.entries.alive.is_some() {
            let entries = &corpus.entries;
            corpus
                .matches
                .retain(|m| entries.alive(m.document as usize));
        }
        Ok(corpus)
    }

    /// How many documents count.
    pub fn count(&self) -> usize {
        match &self.entries.alive {
            Some(alive) => alive.iter().filter(|a| **a).count(),
            None => self.entries.len(),
        }
    }

    /// Length of document `i` in occurrences of lexemes, and whether it is a question.
    pub fn length(&self, i: usize) -> (u32, bool) {
        documents::length(u32::from_le_bytes(column(&self.lengths, i)))
    }

    /// Hash of the speaker of document `i`, 0 for none.
    pub fn speaker(&self, i: usize) -> u32 {
        u32::from_le_bytes(column(&self.speakers, i))
    }

    /// The one speaker of the workspace who is among `names`; `None` when there are several.
    pub fn speaker_named(&self, names: &[String]) -> Option<u32> {
        let names: HashSet<u32> = names.iter().map(|n| documents::name_hash(n)).collect();
        let mut named = None;
        let mut last = 0;
        for i in 0..self.entries.len() {
            let speaker = self.speaker(i);
            // The same few come again and again.
            if speaker == last || !names.contains(&speaker) || !self.entries.alive(i) {
                continue;
            }
            last = speaker;
            if named.is_some_and(|n| n != speaker) {
                return None;
            }
            named = Some(speaker);
        }
        named
    }

    /// Hash of the session of document `i`, 0 for none.
    pub fn session(&self, i: usize) -> u32 {
        u32::from_le_bytes(column(&self.sessions, i))
    }

    /// When document `i` happened, microseconds since 2000-01-01 UTC.
    pub fn time(&self, i: usize) -> i64 {
        i64::from_le_bytes(column(&self.times, i))
    }
}

/// The order of memories in their sessions: by time, then by id.
pub struct Sessions {
    /// (session, time, id, document), sorted.
    order: Vec<(u32, i64, u128, u32)>,
    /// (document, place in `order`), sorted.
    places: Vec<(u32, u32)>,
}

impl Sessions {
    /// The sessions of these documents.
    pub fn of(corpus: &Corpus, documents: &[usize]) -> Self {
        let wanted: HashSet<u32> = documents
            .iter()
            .map(|d| corpus.session(*d))
            .filter(|s| *s != 0)
            .collect();
        let mut order = Vec::new();
        if !wanted.is_empty() {
            let mut last = (0, false);
            for i in 0..corpus.entries.len() {
                let session = corpus.session(i);
                if session != last.0 {
                    last = (session, wanted.contains(&session));
                }
                if last.1 && corpus.entries.alive(i) {
                    let id = u128::from_be_bytes(corpus.entries.raw(i));
                    order.push((session, corpus.time(i), id, i as u32));
                }
            }
            // Stable, because what was stored in order is in order already.
            order.sort();
        }
        let mut places: Vec<(u32, u32)> =
            (0..).zip(&order).map(|(place, o)| (o.3, place)).collect();
        places.sort();
        Self { order, places }
    }

    /// The document `steps` after (or before) a document in its session.
    pub fn near(&self, document: usize, steps: isize) -> Option<usize> {
        let found = self
            .places
            .binary_search_by_key(&(document as u32), |p| p.0)
            .ok()?;
        let place = self.places[found].1 as usize;
        let other = self.order.get(place.checked_add_signed(steps)?)?;
        (other.0 == self.order[place].0).then_some(other.3 as usize)
    }
}

fn column<const N: usize>(bytes: &[u8], i: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[N * i..N * i + N]);
    out
}

/// The vectors of a workspace, compared with one query.
#[derive(Default)]
pub struct Points {
    /// Which memories.
    pub entries: Entries,
    /// How alike each is to the query, approximately.
    pub similarities: Vec<f32>,
}

impl Points {
    /// Reads the vectors of one model and compares them. `similarity` makes one number of the dot
    /// product and the length of the stored vector.
    pub fn read(
        context: &Context,
        blocks: &Table,
        model: &str,
        query: &simd::Query,
        similarity: &dyn Fn(f32, f32) -> f32,
    ) -> Result<Self> {
        let room = LAST.get().1.min(MOST_RESERVED);
        let mut points = Self {
            entries: Entries::with_capacity(room),
            similarities: Vec::with_capacity(room),
        };
        let mut raw = Vec::new();
        blocks.scan(
            &[
                (c"workspace_id", Key::Uuid(context.workspace)),
                (c"model", Key::Text(model)),
            ],
            c"block",
            |bytes| {
                let block = Vectors::parse(bytes).ok_or_else(Error::unreadable_block)?;
                let base = points.similarities.len();
                points.entries.extend(block.ids, block.stamps);
                query.dots(&block, &mut raw, &mut points.similarities);
                for (i, dot) in points.similarities[base..].iter_mut().enumerate() {
                    *dot = similarity(*dot, block.norm(i));
                }
                Ok(())
            },
        )?;
        LAST.set((LAST.get().0, points.entries.len()));
        points.entries.settle();
        Ok(points)
    }
}
