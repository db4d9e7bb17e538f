//! Arranging the vectors of large workspaces in cells, see [`crate::blocks::cells`].

use pgrx::PgMemoryContexts;
use uuid::Uuid;

use crate::blocks::cells::{self, Guide, Listed, SMALL, What};
use crate::blocks::segment::{self, Half, Head, High, Kind, PARTS_LEVEL, Part, Place};
use crate::blocks::vectors;
use crate::error::{Error, Result};
use crate::heap::Heap;
use crate::ids;
use crate::model::groups::{self, Directions};
use crate::places::{owned, owned_for_insert};
use crate::scan::{Fresh, Key, Parts, Table};
use crate::store::BLOCKS;
use crate::write::{self, Value, Writer};

/// Vectors of a group, about, which are in memory at once; most groups; and vectors that these are found by, at most,
/// which together have so many numbers at most.
const GROUP: usize = 2048;
const GROUPS: usize = 256;
const SAMPLE: usize = 16_384;
const NUMBERS: usize = 1 << 23;

/// A vector: number of its segment among those that are read, and of its entry.
type Entry = (u16, u16);

/// Segments of a model of a workspace.
struct Source<'t> {
    parts: Parts<'t>,
    heads: Vec<Head>,
    dims: usize,
}

impl<'t> Source<'t> {
    /// `None` where there are none.
    fn of(table: &'t Table, workspace: Uuid, model: &str) -> Result<Option<Self>> {
        let mut heads = Vec::new();
        let key = [
            (c"workspace_id", Key::Uuid(workspace)),
            (c"model", Key::Text(model)),
        ];
        table.scan(&key, c"block", |row| {
            match row.first() {
                Some(&segment::HEAD) => {
                    heads.push(Head::parse(row).ok_or_else(Error::unreadable_block)?);
                }
                Some(&(segment::PART | cells::CELLS)) => return Ok(false),
                _ => {}
            }
            Ok(true)
        })?;
        heads.retain(|head| head.n > SMALL && head.dims.is_some_and(|dims| dims > 0));
        let Some(dims) = heads.last().and_then(|head| head.dims) else {
            return Ok(None);
        };
        // Until they are sealed anew there may be vectors of another length.
        heads.retain(|head| head.dims == Some(dims));
        heads.truncate(usize::from(u16::MAX));
        Ok(Some(Self {
            parts: Parts::new(table, workspace, model)?,
            heads,
            dims,
        }))
    }

    /// Calls `visit` with every living vector.
    fn each(&mut self, mut visit: impl FnMut(Entry, Half)) -> Result<()> {
        for (nth, head) in self.heads.iter().enumerate() {
            let from = Kind::High.key(0);
            self.parts.seek(PARTS_LEVEL, head.tag.cast_signed(), from);
            let mut at = 0;
            while at < head.n {
                let high = next(&mut self.parts, head, self.dims)?;
                for i in 0..high.n {
                    if at + i < head.n && head.alive(at + i) {
                        let half = high.half(i).ok_or_else(Error::unreadable_block)?;
                        visit((nth as u16, (at + i) as u16), half);
                    }
                }
                at += high.n;
            }
        }
        Ok(())
    }

    /// The vectors of `entries`, which ascend.
    fn some(&mut self, entries: &[Entry]) -> Result<Vec<Half>> {
        let room = segment::high_room(self.dims);
        let mut found = Vec::with_capacity(entries.len());
        let part = |entry: &Entry| (entry.0, usize::from(entry.1) / room);
        for together in entries.chunk_by(|a, b| part(a) == part(b)) {
            let (nth, number) = part(&together[0]);
            let head = &self.heads[usize::from(nth)];
            let from = Kind::High.key(number);
            self.parts.seek(PARTS_LEVEL, head.tag.cast_signed(), from);
            let high = next(&mut self.parts, head, self.dims)?;
            for (_, entry) in together {
                let half = high.half(usize::from(*entry) % room);
                found.push(half.ok_or_else(Error::unreadable_block)?);
            }
        }
        Ok(found)
    }

    fn total(&self) -> usize {
        self.heads.iter().map(|head| head.n).sum()
    }

    /// Looks at all vectors for the first time.
    fn survey(&mut self) -> Result<Survey> {
        let dims = self.dims;
        let every = self.total().div_ceil(SAMPLE.min(NUMBERS / dims)).max(1);
        let mut sample = Directions::new(dims);
        let (mut living, mut lengths) = (0, (f32::INFINITY, 0f32));
        self.each(|_, half| {
            if living % every == 0 {
                sample.push(segment::direction(&half, dims));
            }
            living += 1;
            lengths = (lengths.0.min(half.1), lengths.1.max(half.1));
        })?;
        Ok(Survey {
            sample,
            living,
            even: lengths.0 >= EVEN * lengths.1,
        })
    }

    /// Groups of vectors that are alike, as their sample is.
    fn groups(&mut self, sample: Directions) -> Result<Vec<Vec<Entry>>> {
        let dims = self.dims;
        let k = (self.total() / GROUP).clamp(1, GROUPS);
        let centres = groups::centres(&sample, k, &mut pause);
        drop(sample);
        let known = centres.all();
        let mut groups: Vec<Vec<Entry>> = vec![Vec::new(); known.len()];
        let (mut dots, mut one) = (Vec::new(), Vec::new());
        self.each(|entry, half| {
            one.clear();
            one.extend(segment::direction(&half, dims));
            groups[groups::nearest(&known, &one, &mut dots)].push(entry);
        })?;
        Ok(groups)
    }
}

/// What a first look at all vectors tells.
struct Survey {
    /// Some of them.
    sample: Directions,
    /// How many there are.
    living: usize,
    /// All are about as long: what is alike by its angle is alike by its distance too.
    even: bool,
}

fn pause() {
    pgrx::check_for_interrupts!();
}

/// The next part of upper halves.
fn next<'p>(parts: &'p mut Parts<'_>, head: &Head, dims: usize) -> Result<High<'p>> {
    let part = parts.next().and_then(Part::parse);
    part.filter(|part| part.kind == Kind::High && part.tag == head.tag)
        .and_then(|part| High::parse(part.content, dims))
        .filter(|high| high.n > 0)
        .ok_or_else(Error::unreadable_block)
}

/// Writes the cells of a workspace's vectors of a model, where there are none. Returns how many vectors are in
/// them; 0 where nothing can be arranged, or where that would not help: vectors that are compared `by_angle` may be
/// of any length, others must be as long, and none may be too long for a few directions to fit into a page. Only for
/// the owner of the tables, who holds the packing lock.
pub fn arrange(workspace: Uuid, model: &str, by_angle: bool) -> Result<usize> {
    let table = owned_for_insert(c"search_blocks")?;
    let Some(rows) = Writer::open(&table, &BLOCKS) else {
        return Ok(0);
    };
    let _snapshot = Fresh::new();
    let Some(mut source) = Source::of(&table, workspace, model)? else {
        return Ok(0);
    };
    if !cells::worth(source.dims) {
        return Ok(0);
    }
    let Survey {
        sample,
        living,
        even,
    } = source.survey()?;
    if living == 0 || !(even || by_angle) {
        return Ok(0);
    }
    let groups = source.groups(sample)?;
    let mut cells = Cells {
        output: Output {
            rows,
            workspace,
            model,
            memory: PgMemoryContexts::new("engram cells"),
        },
        making: ids::next().as_u64_pair().1 as u32,
        dims: source.dims,
        places: Vec::new(),
        middles: Vec::new(),
    };
    // Vectors that are all alike are one group, however many.
    let most = (4 * GROUP)
        .min(NUMBERS / source.dims)
        .max(cells::cell_room(source.dims));
    for group in groups.iter().flat_map(|group| group.chunks(most)) {
        cells.add(group, &source.some(group)?);
    }
    cells.finish(&source, even);
    drop(source);
    write::done();
    Ok(living)
}

/// Where cells, and what leads to them, are written.
struct Output<'t> {
    rows: Writer<'t, 7>,
    workspace: Uuid,
    model: &'t str,
    /// What forming a row allocates does not outlive it.
    memory: PgMemoryContexts,
}

impl Output<'_> {
    /// Writes a row about so many vectors.
    fn write(&mut self, key: [u8; 16], entries: usize, row: &[u8]) -> Place {
        let values = [
            Value::Uuid(self.workspace),
            Value::Text(self.model),
            Value::Int2(cells::LEVEL),
            Value::Int4(0),
            Value::Uuid(Uuid::from_bytes(key)),
            Value::Int4(i32::try_from(entries).unwrap_or(i32::MAX)),
            Value::Bytes(row),
        ];
        let Self { rows, memory, .. } = self;
        // SAFETY: nothing that is allocated meanwhile is used afterwards.
        unsafe {
            let place = memory.switch_to(|_| rows.insert(&values));
            memory.reset();
            place
        }
    }
}

/// Cells that are being written.
struct Cells<'t> {
    output: Output<'t>,
    /// What tells these from others that were written before.
    making: u32,
    dims: usize,
    /// Where those are that are written, and what they are like.
    places: Vec<Option<Place>>,
    middles: Vec<Half>,
}

impl Cells<'_> {
    /// Writes the cells of a group.
    fn add(&mut self, group: &[Entry], halves: &[Half]) {
        let (dims, room) = (self.dims, cells::cell_room(self.dims));
        let mut all = Directions::new(dims);
        halves
            .iter()
            .for_each(|half| all.push(segment::direction(half, dims)));
        let order = groups::arranged(&all, room, &mut pause);
        for members in order.chunks(room) {
            pause();
            let (scale, norm, codes) = vectors::quantised(&groups::centre(&all, members));
            self.middles
                .push((scale, norm, segment::halves(&codes, dims, true)));
            let mut members = members.to_vec();
            members.sort_unstable();
            let these: Vec<Entry> = members.iter().map(|i| group[*i as usize]).collect();
            let halves: Vec<Half> = (members.iter())
                .map(|i| halves[*i as usize].clone())
                .collect();
            let number = self.places.len();
            let row = cells::cell(self.making, number, &these, &halves);
            let place = self.output.write(What::Cell.key(number), 0, &row);
            self.places.push(Some(place));
        }
    }

    /// Writes where the cells are, in directories, and where these are.
    fn finish(mut self, source: &Source<'_>, even: bool) {
        let room = cells::directory_room(self.dims);
        let together = self.places.chunks(room).zip(self.middles.chunks(room));
        let mut directories = Vec::new();
        for (number, (places, middles)) in together.enumerate() {
            let row = cells::directory(self.making, number, places, middles);
            directories.push(Some(self.output.write(
                What::Directory.key(number),
                0,
                &row,
            )));
        }
        let guide = Guide {
            making: self.making,
            dims: self.dims,
            even,
            cells: self.places.len(),
            segments: source.heads.iter().map(Listed::of).collect(),
            directories,
        };
        self.output
            .write(What::Guide.key(0), source.total(), &guide.encode());
    }
}

/// Cells that are looked at to tell whether all are there, and how many of them may be elsewhere: those of which a vector
/// was erased are, and are found by their key, but `VACUUM FULL` and a restore move all.
const SAMPLED: usize = 8;
const ELSEWHERE: usize = 4;

/// The shortest vector over the longest, from which on all are taken to be as long.
const EVEN: f32 = 0.99;

/// Whether the cells of a model of a workspace are there, and most of them where their guide says, as far as a sample tells.
/// Only for the owner of the tables.
pub fn known(workspace: Uuid, model: &str) -> Result<bool> {
    let table = owned(c"search_blocks")?;
    let _snapshot = Fresh::new();
    let mut parts = Parts::new(&table, workspace, model)?;
    let mut by_key = |what: What, number: usize| {
        parts.seek(cells::LEVEL, 0, what.key(number));
        parts.next().map(<[u8]>::to_vec)
    };
    let Some(guide) = by_key(What::Guide, 0).and_then(|row| Guide::parse(&row)) else {
        return Ok(false);
    };
    let Some(mut heap) = Heap::new(&table) else {
        return Ok(false);
    };
    let block = table.column(c"block")?;
    let mut at_place = |place: Option<Place>| {
        let row = heap.get(place?)?;
        // SAFETY: the column is `bytea`.
        unsafe { row.bytes(block) }.map(<[u8]>::to_vec)
    };
    let Guide { making, dims, .. } = guide;
    let room = cells::directory_room(dims);
    let mut elsewhere = 0;
    for _ in 0..SAMPLED {
        let cell = ids::next().as_u64_pair().1 as usize % guide.cells.max(1);
        let number = cell / room;
        let places_of =
            |row: &[u8]| cells::directory_of(row, making, number, dims).map(|(places, _)| places);
        let mut directory = at_place(guide.directories.get(number).copied().flatten())
            .and_then(|row| places_of(&row));
        if directory.is_none() {
            elsewhere += 1;
            directory = by_key(What::Directory, number).and_then(|row| places_of(&row));
        }
        let Some(places) = directory else {
            return Ok(false);
        };
        let is_it = |row: &Vec<u8>| cells::cell_of(row, making, cell, dims).is_some();
        if !at_place(places.get(cell % room).copied().flatten()).is_some_and(|row| is_it(&row)) {
            elsewhere += 1;
            if !by_key(What::Cell, cell).is_some_and(|row| is_it(&row)) {
                return Ok(false);
            }
        }
    }
    Ok(guide.cells > 0 && elsewhere <= ELSEWHERE)
}
