//! Everything that a workspace holds, as one search sees it: which memories there are, when and in
//! which session they happened, and where the words of the query occur.

use std::cell::{Cell, OnceCell, RefCell};
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgMemoryContexts};
use uuid::Uuid;

mod points;

pub use points::Points;

use super::Context;
use super::checks::{Checks, Known};
use super::eligible::Candidate;
use super::ids::{IdMap, IdSet, NumberMap};
use crate::blocks::cells;
use crate::blocks::documents::{self, Documents, Word};
use crate::blocks::segment::{self, Head, Kind, Part, Place, Postings};
use crate::blocks::values::{self, Directory, Said};
use crate::blocks::{Id, Stamp};
use crate::error::{Error, Result};
use crate::heap::Heap;
use crate::scan::{Key, Parts, Table};
use crate::simd;

/// Documents that hold a word of the query, ascending, and how often.
pub type Occurrences = Vec<(u32, u32)>;

/// A segment, whose columns are read when somebody asks for them.
struct Segment {
    head: Head,
    /// Index of its first entry.
    base: usize,
    columns: [OnceCell<Vec<u8>>; COLUMNS],
    /// Parts of those of which a few values are asked for.
    slices: [OnceCell<Vec<OnceCell<Vec<u8>>>>; COLUMNS],
}

/// Kinds of parts that are kept once they are read.
const COLUMNS: usize = 9;

/// Where what is read of a kind is kept.
fn nth(kind: Kind) -> usize {
    match kind {
        Kind::Rows => COLUMNS - 2,
        Kind::States => COLUMNS - 1,
        _ => kind as usize - 1,
    }
}

impl Segment {
    fn of(head: Head) -> Self {
        Self {
            head,
            base: 0,
            columns: Default::default(),
            slices: Default::default(),
        }
    }
}

/// Reads the parts of segments of one model: each where its head says it is, or else by the index.
struct Reader<'t> {
    parts: Parts<'t>,
    heap: Option<Heap<'t>>,
    workspace: Uuid,
    model: String,
    /// Of workspace, model and block.
    columns: [i16; 3],
}

/// What lies at a place, if that is a row of a model of a workspace; columns as [`Reader`] has them.
fn block_at<'h>(
    heap: &'h mut Heap<'_>,
    place: Place,
    [workspace, model, block]: [i16; 3],
    of: (Uuid, &str),
) -> Option<&'h [u8]> {
    let row = heap.get(place)?;
    // SAFETY: the columns have these types; setup() made them.
    unsafe {
        if (row.uuid(workspace)?, row.text(model)?) != of {
            return None;
        }
        row.bytes(block)
    }
}

impl<'t> Reader<'t> {
    fn new(blocks: &'t Table, workspace: Uuid, model: &str) -> Result<Self> {
        Ok(Self {
            parts: Parts::new(blocks, workspace, model)?,
            heap: Heap::new(blocks),
            workspace,
            model: model.to_owned(),
            columns: [
                blocks.column(c"workspace_id")?,
                blocks.column(c"model")?,
                blocks.column(c"block")?,
            ],
        })
    }

    /// Calls `visit` with parts of a segment, from `number` on, until it has been given `count`.
    fn each(
        &mut self,
        head: &Head,
        kind: Kind,
        number: usize,
        count: usize,
        mut visit: impl FnMut(&[u8]) -> Option<()>,
    ) -> Option<()> {
        let meant = |part: &Part<'_>, number| {
            (part.kind, part.number, part.tag) == (kind, number, head.tag)
        };
        let (mut number, end) = (number, number + count);
        while let Some(heap) = &mut self.heap
            && number < end
            && let Some(place) = head.place(kind, number)
        {
            // While one is looked at, the next comes.
            let next = if number + 1 < end {
                head.place(kind, number + 1)
            } else {
                None
            };
            heap.approach(next.into_iter(), 128);
            let found = block_at(heap, place, self.columns, (self.workspace, &self.model));
            match found.and_then(Part::parse) {
                Some(part) if meant(&part, number) => visit(part.content)?,
                // It is elsewhere by now.
                _ => break,
            }
            number += 1;
        }
        if number < end {
            let (cluster, from) = (head.tag.cast_signed(), kind.key(number));
            self.parts.seek(segment::PARTS_LEVEL, cluster, from);
        }
        for number in number..end {
            let part = Part::parse(self.parts.next()?)?;
            if !meant(&part, number) {
                return None;
            }
            visit(part.content)?;
        }
        Some(())
    }

    /// Prepares for a row.
    fn approach(&self, place: Option<Place>) {
        if let Some(heap) = &self.heap {
            heap.approach(place.into_iter(), 8192);
        }
    }

    /// Calls `visit` with a row of cells: the one at a place, and if that is not what it wants, the one with the key.
    fn of_cells<T>(
        &mut self,
        place: Option<Place>,
        key: Id,
        mut visit: impl FnMut(&[u8]) -> Option<T>,
    ) -> Option<T> {
        if let (Some(heap), Some(place)) = (&mut self.heap, place) {
            let found = block_at(heap, place, self.columns, (self.workspace, &self.model));
            if let Some(found) = found.and_then(&mut visit) {
                return Some(found);
            }
        }
        self.parts.seek(cells::LEVEL, 0, key);
        visit(self.parts.next()?)
    }

    /// Calls `visit` with all parts of a kind, however many there are.
    fn all(&mut self, head: &Head, kind: Kind, mut visit: impl FnMut(&[u8])) -> Option<()> {
        if head.placed(kind) > 0 {
            return self.each(head, kind, 0, head.placed(kind), |content| {
                visit(content);
                Some(())
            });
        }
        self.parts
            .seek(segment::PARTS_LEVEL, head.tag.cast_signed(), kind.key(0));
        while let Some(row) = self.parts.next() {
            let part = Part::parse(row)?;
            if part.kind != kind {
                break;
            }
            visit(part.content);
        }
        Some(())
    }
}

/// Memories by index: first those in blocks, then those in segments.
pub struct Entries<'t> {
    /// Of those in blocks, column by column.
    ids: Vec<u8>,
    stamps: Vec<u8>,
    segments: Vec<Segment>,
    total: usize,
    reader: Option<RefCell<Reader<'t>>>,
    /// Entries that count; `None` when all do.
    alive: Option<Vec<bool>>,
    /// Ids that were read one by one.
    known: RefCell<NumberMap<Id>>,
    /// Values that were read one by one.
    singles: Cell<usize>,
}

/// Of more entries, few of those in one part are asked for: each is read where it lies, and no part is kept, until
/// so many have been asked for.
const MANY: usize = 16_384;
const SINGLES: usize = 2_000;

/// What is wrong inside the table ends the search.
fn unreadable() -> ! {
    ErrorReport::from(Error::unreadable_block()).report(PgLogLevel::ERROR);
    unreachable!("an error does not return")
}

impl<'t> Entries<'t> {
    fn with_capacity(n: usize) -> Self {
        Self {
            ids: Vec::with_capacity(16 * n),
            stamps: Vec::with_capacity(8 * n),
            segments: Vec::new(),
            total: 0,
            reader: None,
            alive: None,
            known: RefCell::default(),
            singles: Cell::default(),
        }
    }

    /// Whether the next value is read by itself.
    fn single(&self) -> bool {
        let read = self.singles.get();
        let single = self.total > MANY && read < SINGLES;
        if single {
            self.singles.set(read + 1);
        }
        single
    }

    /// Reads the blocks of a model of the workspace, each of which `take` is given together with this, and
    /// the heads of its segments.
    fn read(
        &mut self,
        context: &Context,
        blocks: &'t Table,
        model: &str,
        mut take: impl FnMut(&mut Self, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut segments = Vec::new();
        blocks.scan(
            &[
                (c"workspace_id", Key::Uuid(context.workspace)),
                (c"model", Key::Text(model)),
            ],
            c"block",
            |bytes| {
                match bytes.first() {
                    Some(&segment::HEAD) => {
                        let head = Head::parse(bytes).ok_or_else(Error::unreadable_block)?;
                        segments.push(Segment::of(head));
                    }
                    // Heads come before all parts.
                    Some(&(segment::PART | cells::CELLS)) => return Ok(false),
                    _ => take(self, bytes)?,
                }
                Ok(true)
            },
        )?;
        if !segments.is_empty() {
            self.reader = Some(RefCell::new(Reader::new(blocks, context.workspace, model)?));
            self.segments = segments;
        }
        Ok(())
    }

    /// How many, those that do not count included.
    pub fn len(&self) -> usize {
        self.total
    }

    /// How many of them are in blocks.
    fn loose(&self) -> usize {
        self.ids.len() / 16
    }

    /// Id of entry `i`.
    pub fn id(&self, i: usize) -> Uuid {
        Uuid::from_bytes(self.raw(i))
    }

    /// Entry `i`, which is a document, and where its row may be.
    pub fn candidate(&self, i: usize) -> Candidate {
        Candidate {
            id: self.id(i),
            document: i,
            place: self.row(i),
        }
    }

    /// What segments know of conditions on their entries, by entry.
    pub fn known(&self, checks: &Checks) -> Vec<Known> {
        let mut known = vec![Known::Unknown; self.loose()];
        known.reserve(self.len() - known.len());
        for segment in &self.segments {
            pgrx::check_for_interrupts!();
            match Values::of(self, segment) {
                Some(mut values) => match checks.known(&mut values) {
                    Said::Each(these) => known.extend(these),
                    Said::Same(one) => known.resize(known.len() + segment.head.n, one),
                },
                None => known.resize(known.len() + segment.head.n, Known::Unknown),
            }
        }
        known
    }

    fn raw(&self, i: usize) -> Id {
        let read = || self.value(Kind::Ids, &self.ids, i);
        if i < self.loose() || self.total <= MANY || self.singles.get() >= SINGLES {
            return read();
        }
        let known = self.known.borrow().get(&i).copied();
        known.unwrap_or_else(|| {
            let id = read();
            self.known.borrow_mut().insert(i, id);
            id
        })
    }

    fn stamp(&self, i: usize) -> Stamp {
        Stamp::from_bytes(self.value(Kind::Stamps, &self.stamps, i))
    }

    fn segment(&self, i: usize) -> &Segment {
        let after = self.segments.partition_point(|s| s.base <= i);
        &self.segments[after - 1]
    }

    /// Value `i` of a column, which for entries in blocks is `loose`.
    fn value<const N: usize>(&self, kind: Kind, loose: &[u8], i: usize) -> [u8; N] {
        if i < self.loose() {
            return column(loose, i);
        }
        let segment = self.segment(i);
        match segment.head.constant(kind) {
            Some(value) => column(value, 0),
            None => {
                let i = i - segment.base;
                if let Some(whole) = segment.columns[nth(kind)].get() {
                    return column(whole, i);
                }
                let slice = kind.slice();
                let (number, at) = (i / slice, i % slice);
                if !self.single() {
                    return column(self.slice(segment, kind, number), at);
                }
                let mut value = None;
                self.each_part(segment, kind, number, 1, |content| {
                    value = Some(column(content.get(N * at..N * at + N)?, 0));
                    Some(())
                });
                value.unwrap_or_else(|| unreadable())
            }
        }
    }

    /// Where the row of entry `i` was when its segment was made, if that is known.
    pub fn row(&self, i: usize) -> Option<Place> {
        self.place_of(Kind::Rows, i)
    }

    /// Where the state of entry `i` was when its segment was made, if that is known.
    pub fn state(&self, i: usize) -> Option<Place> {
        self.place_of(Kind::States, i)
    }

    fn place_of(&self, kind: Kind, i: usize) -> Option<Place> {
        if i < self.loose() || self.segment(i).head.placed(kind) == 0 {
            return None;
        }
        Place::from_bytes(self.value(kind, &[], i))
    }

    /// Calls `visit` with parts of a segment, from `number` on, until it has been given `count`.
    fn each_part(
        &self,
        segment: &Segment,
        kind: Kind,
        number: usize,
        count: usize,
        visit: impl FnMut(&[u8]) -> Option<()>,
    ) -> Option<()> {
        let mut reader = self.reader.as_ref()?.borrow_mut();
        reader.each(&segment.head, kind, number, count, visit)
    }

    /// One part of a column of a segment that has parts.
    fn slice<'a>(&self, segment: &'a Segment, kind: Kind, number: usize) -> &'a [u8] {
        let all = segment.slices[nth(kind)].get_or_init(|| {
            let parts = segment.head.parts(kind);
            std::iter::repeat_with(OnceCell::new).take(parts).collect()
        });
        let Some(cell) = all.get(number) else {
            unreadable();
        };
        cell.get_or_init(|| {
            let slice = kind.slice();
            let size = kind.width() * slice.min(segment.head.n - slice * number);
            let mut bytes = Vec::with_capacity(size);
            let read = self.each_part(segment, kind, number, 1, |content| {
                bytes.extend_from_slice(content);
                Some(())
            });
            if read.is_none() || bytes.len() != size {
                unreadable();
            }
            bytes
        })
    }

    /// A column of a segment that has parts.
    fn column<'a>(&self, segment: &'a Segment, kind: Kind) -> &'a [u8] {
        segment.columns[nth(kind)].get_or_init(|| {
            let size = kind.width() * segment.head.n;
            let mut bytes = Vec::with_capacity(size);
            let count = segment.head.parts(kind);
            let read = self.each_part(segment, kind, 0, count, |content| {
                bytes.extend_from_slice(content);
                Some(())
            });
            if read.is_none() || bytes.len() != size {
                unreadable();
            }
            bytes
        })
    }

    /// The documents of a segment by session; empty when none has one.
    fn order<'a>(&self, segment: &'a Segment) -> &'a [u8] {
        segment.columns[nth(Kind::Order)].get_or_init(|| {
            let mut bytes = Vec::new();
            let Some(reader) = &self.reader else {
                unreadable();
            };
            let read = reader
                .borrow_mut()
                .all(&segment.head, Kind::Order, |content| {
                    bytes.extend_from_slice(content);
                });
            if read.is_none() {
                unreadable();
            }
            bytes
        })
    }

    fn extend(&mut self, ids: &[u8], stamps: &[u8]) {
        self.ids.extend_from_slice(ids);
        self.stamps.extend_from_slice(stamps);
    }

    /// Which of two entries has the smaller id, mostly without reading it.
    pub fn compare(&self, a: usize, b: usize) -> Ordering {
        let loose = self.loose();
        if a >= loose && b >= loose {
            let (x, y) = (self.segment(a), self.segment(b));
            if x.base == y.base {
                return a.cmp(&b);
            }
            let (x, y) = (x.head.range, y.head.range);
            if x.1 < y.0 {
                return Ordering::Less;
            }
            if y.1 < x.0 {
                return Ordering::Greater;
            }
        }
        self.raw(a).cmp(&self.raw(b))
    }

    /// Whether entry `i` counts.
    pub fn alive(&self, i: usize) -> bool {
        self.alive.as_ref().is_none_or(|alive| alive[i])
    }

    /// Once everything is read: numbers the entries of segments and marks what newer entries replace. Only
    /// entries that say so can replace others, and only in blocks there are such.
    fn settle(&mut self) {
        let loose = self.loose();
        self.total = loose;
        for segment in &mut self.segments {
            segment.base = self.total;
            self.total += segment.head.n;
        }
        let mut newest: HashMap<Id, Stamp> = HashMap::new();
        for i in 0..loose {
            let stamp = self.stamp(i);
            if stamp.supersedes() {
                let known = newest.entry(self.raw(i)).or_insert(stamp);
                *known = (*known).max(stamp);
            }
        }
        if newest.is_empty() && self.segments.iter().all(|s| s.head.dead() == 0) {
            return;
        }
        let mut alive = vec![true; self.total];
        // An entry that is stored anew after all of them has a higher version and no mark.
        if !newest.is_empty() {
            for (i, alive) in alive[..loose].iter_mut().enumerate() {
                let stamp = self.stamp(i);
                *alive = !stamp.gone() && newest.get(&self.raw(i)).is_none_or(|n| stamp >= *n);
            }
        }
        for segment in &self.segments {
            if segment.head.dead() > 0 {
                for i in 0..segment.head.n {
                    alive[segment.base + i] = segment.head.alive(i);
                }
            }
            for (id, stamp) in newest.iter().filter(|(id, _)| segment.head.may_hold(id)) {
                if let Some(i) = self.place(segment, id)
                    && self.stamp(i) < *stamp
                {
                    alive[i] = false;
                }
            }
        }
        self.alive = Some(alive);
    }

    /// Where an id is in a segment.
    fn place(&self, segment: &Segment, id: &Id) -> Option<usize> {
        let slice = |number| self.slice(segment, Kind::Ids, number).as_chunks::<16>().0;
        let number = match segment.head.part_of(id) {
            Some(number) => number,
            // A segment of an older version does not tell: the last that does not begin behind it.
            None => {
                let (mut low, mut high) = (0, segment.head.parts(Kind::Ids));
                while low < high {
                    let middle = low.midpoint(high);
                    if slice(middle).first().is_some_and(|first| first <= id) {
                        low = middle + 1;
                    } else {
                        high = middle;
                    }
                }
                low.checked_sub(1)?
            }
        };
        let at = if !self.single() {
            slice(number).binary_search(id)
        } else {
            let mut at = None;
            self.each_part(segment, Kind::Ids, number, 1, |content| {
                at = Some(content.as_chunks::<16>().0.binary_search(id));
                Some(())
            });
            at.unwrap_or_else(|| unreadable())
        };
        let at = at.ok()?;
        Some(segment.base + number * Kind::Ids.slice() + at)
    }

    /// Lets these not count.
    pub fn discard(&mut self, gone: &IdSet) {
        let gone: Vec<Uuid> = gone.iter().copied().collect();
        let places = self.find(&gone);
        let alive = self.alive.get_or_insert_with(|| vec![true; self.total]);
        for place in places.into_values() {
            alive[place] = false;
        }
    }

    /// Lets only these count.
    fn retain(&mut self, visible: &IdSet) {
        for segment in &self.segments {
            self.column(segment, Kind::Ids);
        }
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
        for segment in &self.segments {
            let likely = wanted
                .iter()
                .filter(|id| segment.head.may_hold(id.as_bytes()));
            for id in likely {
                if let Some(i) = self.place(segment, id.as_bytes())
                    && self.alive(i)
                {
                    found.insert(*id, i);
                }
            }
        }
        found
    }
}

/// What a segment holds for filters.
pub struct Values<'a, 't> {
    entries: &'a Entries<'t>,
    segment: &'a Segment,
    /// Those that have been read.
    parts: Vec<Option<Vec<u8>>>,
    directory: Directory,
}

impl<'a, 't> Values<'a, 't> {
    /// `None` where a segment has nothing of the kind, or nothing that can be read: then rows tell.
    fn of(entries: &'a Entries<'t>, segment: &'a Segment) -> Option<Self> {
        let parts = segment.head.placed(Kind::Values);
        if parts == 0 {
            return None;
        }
        let mut values = Self {
            entries,
            segment,
            parts: vec![None; parts],
            directory: Directory::default(),
        };
        let length = Directory::length(&values.read(0..values::FRONT)?)?;
        values.directory = Directory::parse(&values.read(0..length)?)?;
        (values.directory.n == segment.head.n).then_some(values)
    }

    /// Whether a key of metadata that has no column is nowhere.
    pub fn all_keys(&self) -> bool {
        self.directory.all_keys
    }

    /// What `test` says of the value of a column of each entry; `None` where it is not known. What it allocates does
    /// not outlive the call.
    pub fn each(
        &mut self,
        name: &str,
        of: pgrx::pg_sys::Oid,
        mut test: impl FnMut(Option<&[u8]>) -> Known,
    ) -> Option<Said<Known>> {
        // For the tests alone: a scan that reads parts keeps what it allocates for as long as it is open.
        let mut memory = PgMemoryContexts::new("engram filter");
        if name == "id" {
            let ids = self.entries.column(self.segment, Kind::Ids);
            let ids = ids.as_chunks::<16>().0.iter();
            // SAFETY: what is kept is not PostgreSQL's.
            let each = unsafe { memory.switch_to(|_| ids.map(|id| test(Some(id))).collect()) };
            return Some(Said::Each(each));
        }
        let found = self.directory.column(name)?;
        if found.of != of.to_u32() {
            return None;
        }
        let mut column = values::Column::new(found, self.read(found.front())?)?;
        column.put(self.read(column.rest())?);
        // SAFETY: as above.
        unsafe { memory.switch_to(|_| column.each(test)) }
    }

    fn read(&mut self, range: std::ops::Range<usize>) -> Option<Vec<u8>> {
        let size = Kind::Values.slice();
        if range.end > size * self.parts.len() {
            return None;
        }
        let mut bytes = Vec::with_capacity(range.len());
        let mut at = range.start;
        while at < range.end {
            let number = at / size;
            let part = self.parts.get_mut(number)?;
            if part.is_none() {
                let mut read = Vec::new();
                let take = |content: &[u8]| {
                    read.extend_from_slice(content);
                    Some(())
                };
                self.entries
                    .each_part(self.segment, Kind::Values, number, 1, take)?;
                *part = Some(read);
            }
            let end = range.end.min(size * (number + 1));
            let slice = part
                .as_ref()?
                .get(at - size * number..end - size * number)?;
            bytes.extend_from_slice(slice);
            at = end;
        }
        Some(bytes)
    }
}

/// The documents of a workspace.
pub struct Corpus<'t> {
    /// Which memories.
    pub entries: Entries<'t>,
    /// Columns of those in blocks.
    times: Vec<u8>,
    sessions: Vec<u8>,
    speakers: Vec<u8>,
    lengths: Vec<u8>,
    /// Where the query's words occur, by word, in documents that count.
    pub occurrences: Vec<Occurrences>,
}

thread_local! {
    /// Documents and vectors in blocks of the last search: the next one makes room at once. A number, no data.
    static LAST: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// More than this is not reserved ahead.
const MOST_RESERVED: usize = 200_000;

impl<'t> Corpus<'t> {
    /// Reads the workspace and finds `words` in it.
    pub fn read(context: &Context, blocks: &'t Table, words: &[Word]) -> Result<Self> {
        let room = LAST.get().0.min(MOST_RESERVED);
        let mut corpus = Self {
            entries: Entries::with_capacity(room),
            times: Vec::with_capacity(8 * room),
            sessions: Vec::with_capacity(4 * room),
            speakers: Vec::with_capacity(4 * room),
            lengths: Vec::with_capacity(4 * room),
            occurrences: vec![Vec::new(); words.len()],
        };
        let hashes: Vec<u32> = words.iter().map(|w| w.hash).collect();
        let mut found = Vec::new();
        let mut take = |entries: &mut Entries<'t>, bytes: &[u8]| -> Result<()> {
            let block = Documents::parse(bytes).ok_or_else(Error::unreadable_block)?;
            let base = entries.loose();
            entries.extend(block.ids, block.stamps);
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
                let word = *word as usize;
                if letters == words[word].letters {
                    corpus.occurrences[word].push(((base + document) as u32, count.max(1)));
                }
            }
            Ok(())
        };
        let entries = &mut corpus.entries;
        entries.read(context, blocks, "", &mut take)?;
        for document in context.past.iter().flat_map(|past| &past.documents) {
            take(entries, document)?;
        }
        LAST.set((entries.loose(), LAST.get().1));
        entries.settle();
        if context.partly_hidden {
            let visible = context.visible()?;
            entries.retain(&visible);
        }
        for segment in &entries.segments {
            for (word, occurrences) in words.iter().zip(&mut corpus.occurrences) {
                let (from, count) = segment.head.words(word.hash);
                let base = segment.base as u32;
                // Numbers out of range or order must not reach the columns.
                let mut next = base;
                let end = base + segment.head.n as u32;
                let mut sound = true;
                entries
                    .each_part(segment, Kind::Words, from, count, |content| {
                        Postings::parse(content)?.find(*word, |document, count| {
                            let document = base + u32::from(document);
                            sound &= (next..end).contains(&document);
                            next = document + 1;
                            occurrences.push((document, count));
                        });
                        sound.then_some(())
                    })
                    .ok_or_else(Error::unreadable_block)?;
            }
        }
        if let Some(alive) = &entries.alive {
            for occurrences in &mut corpus.occurrences {
                occurrences.retain(|(document, _)| alive[*document as usize]);
            }
        }
        Ok(corpus)
    }

    /// Calls `visit` with every word that may be wanted, by its letters, of every document that counts, the
    /// document and how often. Each word's documents ascend.
    pub fn each_word(
        &self,
        context: &Context,
        blocks: &Table,
        wanted: &dyn Fn(u32) -> bool,
        visit: &mut dyn FnMut(Word, u32, u32),
    ) -> Result<()> {
        let entries = &self.entries;
        let mut document = 0u32;
        let mut take = |bytes: &[u8]| -> Result<bool> {
            if matches!(
                bytes.first(),
                Some(&(segment::HEAD | segment::PART | cells::CELLS))
            ) {
                return Ok(false);
            }
            let block = Documents::parse(bytes).ok_or_else(Error::unreadable_block)?;
            let mut place = 0;
            for i in 0..block.len() {
                for at in place..block.end(i) {
                    let (letters, count) = block.info(at);
                    if wanted(letters) && entries.alive(document as usize) {
                        let hash = block.hash(at);
                        visit(Word { hash, letters }, document, count.max(1));
                    }
                }
                place = block.end(i);
                document += 1;
            }
            Ok(true)
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
        for segment in &entries.segments {
            let base = segment.base as u32;
            let count = segment.head.word_parts();
            entries
                .each_part(segment, Kind::Words, 0, count, |content| {
                    let mut sound = true;
                    Postings::parse(content)?.each_word(wanted, |word, document, count| {
                        if usize::from(document) >= segment.head.n {
                            sound = false;
                            return;
                        }
                        let document = base + u32::from(document);
                        if entries.alive(document as usize) {
                            visit(word, document, count);
                        }
                    });
                    sound.then_some(())
                })
                .ok_or_else(Error::unreadable_block)?;
        }
        Ok(())
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
        let stored = self.entries.value(Kind::Lengths, &self.lengths, i);
        documents::length(u32::from_le_bytes(stored))
    }

    /// The mean of the lengths of all documents that count; 0 of none.
    pub fn mean_length(&self) -> f64 {
        let (mut sum, mut count) = (0u64, 0u64);
        for stretch in self.stretches() {
            let (lengths, range) = (stretch.lengths(), stretch.range());
            for place in 0..range.len() {
                if self.entries.alive(range.start as usize + place) {
                    sum += u64::from(length_at(lengths, place));
                    count += 1;
                }
            }
        }
        sum as f64 / count.max(1) as f64
    }

    /// Documents that lie together, one stretch after the other.
    pub fn stretches(&self) -> impl Iterator<Item = Stretch<'_, 't>> {
        let segments = self.entries.segments.iter().map(Some);
        std::iter::once(None)
            .chain(segments)
            .map(|segment| Stretch {
                corpus: self,
                segment,
            })
    }

    /// Whether document `i` is a turn of a conversation: what somebody said in a session. A label alone makes none:
    /// "Note: buy tea".
    pub fn said(&self, i: usize) -> bool {
        self.speaker(i) != 0 && self.session(i) != 0
    }

    /// Hash of the speaker of document `i`, 0 for none.
    pub fn speaker(&self, i: usize) -> u32 {
        u32::from_le_bytes(self.entries.value(Kind::Speakers, &self.speakers, i))
    }

    /// The one speaker of the workspace who is among `names`; `None` when there are several.
    pub fn speaker_named(&self, names: &[String]) -> Option<u32> {
        if names.is_empty() {
            return None;
        }
        let names: HashSet<u32> = names.iter().map(|n| documents::name_hash(n)).collect();
        let mut named = None;
        let mut last = 0;
        let segments = self.entries.segments.iter().filter(|s| {
            let known = s.head.speakers();
            known.is_none_or(|known| known.iter().any(|k| names.contains(k)))
        });
        // All of a segment: read together.
        let documents = segments.flat_map(|s| {
            if s.head.constant(Kind::Speakers).is_none() {
                self.entries.column(s, Kind::Speakers);
            }
            s.base..s.base + s.head.n
        });
        for i in (0..self.entries.loose()).chain(documents) {
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
        u32::from_le_bytes(self.entries.value(Kind::Sessions, &self.sessions, i))
    }

    /// When document `i` happened, microseconds since 2000-01-01 UTC.
    pub fn time(&self, i: usize) -> i64 {
        i64::from_le_bytes(self.entries.value(Kind::Times, &self.times, i))
    }
}

/// Documents that lie together: those in blocks, or those of a segment. Columns are read when they are asked for.
pub struct Stretch<'a, 't> {
    corpus: &'a Corpus<'t>,
    segment: Option<&'a Segment>,
}

impl<'a> Stretch<'a, '_> {
    /// Which documents these are.
    pub fn range(&self) -> std::ops::Range<u32> {
        match self.segment {
            None => 0..self.corpus.entries.loose() as u32,
            Some(s) => s.base as u32..(s.base + s.head.n) as u32,
        }
    }

    /// Their lengths as [`documents::length`] reads them, or one that all have.
    pub fn lengths(&self) -> &'a [[u8; 4]] {
        self.column(Kind::Lengths, &self.corpus.lengths)
    }

    /// When document number `place` of them happened; see [`Corpus::time`].
    pub fn times(&self) -> impl Fn(usize) -> i64 + use<'a> {
        let times = self.column(Kind::Times, &self.corpus.times);
        move |place| i64::from_le_bytes(value_at(times, place))
    }

    /// Which of them are turns of conversations.
    pub fn turns(&self) -> Turns<'a> {
        let speakers = self.column(Kind::Speakers, &self.corpus.speakers);
        let sessions = match speakers {
            [[0, 0, 0, 0]] => speakers,
            _ => self.column(Kind::Sessions, &self.corpus.sessions),
        };
        Turns { speakers, sessions }
    }

    fn column<const N: usize>(&self, kind: Kind, loose: &'a [u8]) -> &'a [[u8; N]] {
        let bytes = match self.segment {
            None => loose,
            Some(segment) => match segment.head.constant(kind) {
                Some(value) => value,
                None => self.corpus.entries.column(segment, kind),
            },
        };
        bytes.as_chunks().0
    }
}

/// Which documents of a stretch are turns of conversations; columns of one value have that of all.
pub struct Turns<'a> {
    speakers: &'a [[u8; 4]],
    sessions: &'a [[u8; 4]],
}

impl Turns<'_> {
    /// Document number `place` of the stretch; see [`Corpus::said`].
    pub fn at(&self, place: usize) -> bool {
        value_at(self.speakers, place) != [0; 4] && value_at(self.sessions, place) != [0; 4]
    }
}

/// The value of document number `place` of a stretch; a column of one value has that of all.
fn value_at<const N: usize>(column: &[[u8; N]], place: usize) -> [u8; N] {
    *column.get(place).unwrap_or(&column[0])
}

/// The length of document number `place` of a stretch, in occurrences of lexemes; see [`Stretch::lengths`].
pub fn length_at(lengths: &[[u8; 4]], place: usize) -> u32 {
    documents::length(u32::from_le_bytes(value_at(lengths, place))).0
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
    pub fn of(corpus: &Corpus<'_>, documents: &[usize]) -> Self {
        let wanted: HashSet<u32> = documents
            .iter()
            .map(|d| corpus.session(*d))
            .filter(|s| *s != 0)
            .collect();
        let mut order = Vec::new();
        if !wanted.is_empty() {
            let mut last = (0, false);
            let mut put = |session: u32, i: usize| {
                if corpus.entries.alive(i) {
                    let id = u128::from_be_bytes(corpus.entries.raw(i));
                    order.push((session, corpus.time(i), id, i as u32));
                }
            };
            for i in 0..corpus.entries.loose() {
                let session = corpus.session(i);
                if session != last.0 {
                    last = (session, wanted.contains(&session));
                }
                if last.1 {
                    put(session, i);
                }
            }
            for segment in &corpus.entries.segments {
                if segment.head.constant(Kind::Sessions) == Some(&[0; 4]) {
                    continue;
                }
                let sorted = corpus.entries.order(segment);
                for session in &wanted {
                    let found = segment::of_session(sorted, *session);
                    for i in found.unwrap_or_else(|| unreadable()) {
                        if usize::from(i) >= segment.head.n {
                            unreadable();
                        }
                        put(*session, segment.base + usize::from(i));
                    }
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

    /// The documents right before and right after a document in its session.
    pub fn beside(&self, document: usize) -> impl Iterator<Item = usize> {
        [-1, 1]
            .into_iter()
            .filter_map(move |steps| self.near(document, steps))
    }
}

fn column<const N: usize>(bytes: &[u8], i: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[N * i..N * i + N]);
    out
}
