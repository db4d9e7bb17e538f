//! The vectors of a workspace, compared with one query: all of them, or those of the likeliest cells.

use std::collections::{HashMap, HashSet};

use super::{Entries, LAST, MOST_RESERVED, Segment};
use crate::blocks::cells::{self, Guide, Listed, What};
use crate::blocks::segment::{self, High, Kind, Place};
use crate::blocks::vectors::Vectors;
use crate::error::{Error, Result};
use crate::model::similarity::Distance;
use crate::scan::Table;
use crate::search::Context;
use crate::search::semantic::{Errors, Measure};
use crate::simd::{HalfQuery, Query};

/// In place of the similarity of a vector that was not compared.
const UNKNOWN: f32 = f32::NEG_INFINITY;

/// The vectors of a workspace, compared with one query.
pub struct Points<'t> {
    /// Which memories.
    pub entries: Entries<'t>,
    /// How alike each is to the query, approximately.
    pub similarities: Vec<f32>,
    /// By how much similarities may be off.
    pub errors: Errors,
    /// What those are compared with that were left out; `None` when none was.
    rest: Option<Compared>,
}

/// What vectors in segments are compared with.
struct Compared {
    query: HalfQuery,
    /// Of the same, for whole codes.
    exact: Query,
    measure: Measure,
    raw: Vec<i32>,
    /// How far off similarities are, of the first vectors of blocks, and of one in [`EVERY`] of parts.
    whole: Mean,
    halves: Mean,
}

const EVERY: usize = 64;

/// Sum, and of how many.
#[derive(Clone, Copy, Default)]
struct Mean(f64, u32);

impl Mean {
    fn add(&mut self, of: f32) {
        self.0 += f64::from(of);
        self.1 += 1;
    }

    fn get(self) -> f32 {
        (self.0 / f64::from(self.1.max(1))) as f32
    }
}

impl Compared {
    fn new(query: Query, measure: Measure) -> Self {
        Self {
            query: query.halved(),
            exact: query,
            measure,
            raw: Vec::new(),
            whole: Mean::default(),
            halves: Mean::default(),
        }
    }

    /// Appends the similarities of all vectors of a block.
    fn block(&mut self, block: &Vectors<'_>, out: &mut Vec<f32>) {
        if self.measure.distance == Distance::L2 {
            let of = |i| (block.scale(i), block.norm(i));
            if block.dims == self.exact.dims() {
                self.distances(block.all_codes(), of, out);
            } else {
                out.resize(out.len() + block.len(), 0.0);
            }
            return;
        }
        let base = out.len();
        self.exact.dots(block, &mut self.raw, out);
        for (i, dot) in out[base..].iter_mut().enumerate() {
            *dot = self.measure.of(*dot, block.norm(i));
        }
        if let Some(first) = (0..block.len()).find(|i| block.scale(*i) > 0.0) {
            let off = self.exact.error(block.scale(first));
            self.whole.add(self.measure.off(off, block.norm(first)));
        }
    }

    /// Appends the similarities by distance of vectors of these codes, and of scales and lengths.
    fn distances(&mut self, codes: &[u8], of: impl Fn(usize) -> (f32, f32), out: &mut Vec<f32>) {
        let base = out.len();
        self.exact.distances(codes, |i| of(i).0, &mut self.raw, out);
        for distance in &mut out[base..] {
            *distance = Measure::near((*distance).into()) as f32;
        }
        let lengths = (0..out.len() - base).map(of);
        if let Some((scale, norm)) = lengths.into_iter().find(|(_, norm)| *norm > 0.0) {
            self.whole.add(scale / norm / 12f32.sqrt());
        }
    }

    /// Appends the similarities of all vectors of a part.
    fn each(&mut self, part: &High<'_>, out: &mut Vec<f32>) {
        let base = out.len();
        self.query.dots(part, &mut self.raw, out);
        for (i, dot) in out[base..].iter_mut().enumerate() {
            *dot = self.measure.of(*dot, part.norm(i));
        }
        for from in (0..part.n).step_by(EVERY) {
            // What was erased is zeros.
            let some = (from..part.n.min(from + EVERY)).find(|i| part.scale(*i) > 0.0);
            let Some(some) = some else { continue };
            let of = (part.norm(some), part.scale(some));
            let off = self.query.error(self.exact.norm, of);
            self.halves.add(self.measure.off(off, of.0));
        }
    }

    fn errors(&self) -> Errors {
        Errors {
            whole: self.whole.get(),
            halves: self.halves.get(),
        }
    }
}

/// What is in cells.
struct Arranged {
    guide: Guide,
    /// By number in the guide, the index of the first entry of the segment, and how many it has.
    segments: Vec<Option<(usize, usize)>>,
}

impl<'t> Points<'t> {
    /// None.
    pub fn none() -> Self {
        Self {
            entries: Entries::with_capacity(0),
            similarities: Vec::new(),
            errors: Errors::default(),
            rest: None,
        }
    }

    /// Reads the vectors of one model and compares them; if that is wanted and they are in cells, the likeliest.
    pub fn read(
        context: &Context,
        blocks: &'t Table,
        model: &str,
        query: Query,
        measure: Measure,
        likeliest: bool,
    ) -> Result<Self> {
        let room = LAST.get().1.min(MOST_RESERVED);
        let mut entries = Entries::with_capacity(room);
        let mut similarities: Vec<f32> = Vec::with_capacity(room);
        let mut compared = Compared::new(query, measure);
        entries.read(context, blocks, model, |entries, bytes| {
            let block = Vectors::parse(bytes).ok_or_else(Error::unreadable_block)?;
            entries.extend(block.ids, block.stamps);
            compared.block(&block, &mut similarities);
            Ok(())
        })?;
        LAST.set((LAST.get().0, entries.loose()));
        entries.settle();
        similarities.reserve(entries.len() - similarities.len());
        let arranged = if likeliest && entries.len() >= context.approximate_from {
            arranged(&entries, &compared)
        } else {
            None
        };
        let listed: HashSet<usize> = (arranged.iter())
            .flat_map(|arranged| arranged.segments.iter().flatten())
            .map(|(base, _)| *base)
            .collect();
        for segment in &entries.segments {
            if listed.contains(&segment.base) {
                similarities.resize(segment.base + segment.head.n, UNKNOWN);
            } else {
                whole(&entries, segment, &mut compared, &mut similarities)?;
            }
        }
        let read = arranged.map(|a| likely(&entries, &a, &mut compared, &mut similarities));
        let mut points = Self {
            errors: compared.errors(),
            rest: (read.is_some_and(|all| all != Some(true))).then_some(compared),
            entries,
            similarities,
        };
        // Cells that are not where they should be.
        if read == Some(None) {
            points.complete()?;
        }
        Ok(points)
    }

    /// Whether vectors were left out.
    pub fn partial(&self) -> bool {
        self.rest.is_some()
    }

    /// Whether a vector was compared.
    pub fn knows(&self, i: usize) -> bool {
        self.similarities[i] != UNKNOWN
    }

    /// Compares those of these vectors that were left out.
    pub fn know(&mut self, wanted: impl IntoIterator<Item = usize>) -> Result<()> {
        let Some(rest) = &mut self.rest else {
            return Ok(());
        };
        let similarities = &mut self.similarities;
        let mut unknown: Vec<usize> = wanted.into_iter().collect();
        // The longest vectors may be infinitely unlike the query, in blocks too.
        let loose = self.entries.loose();
        unknown.retain(|i| *i >= loose && similarities[*i] == UNKNOWN);
        unknown.sort_unstable();
        unknown.dedup();
        let dims = rest.query.dims();
        let room = segment::high_room(dims);
        let part = |i: usize| {
            let segment = self.entries.segment(i);
            (segment.base, (i - segment.base) / room)
        };
        let mut one = Vec::with_capacity(1);
        for together in unknown.chunk_by(|a, b| part(*a) == part(*b)) {
            let segment = self.entries.segment(together[0]);
            let (_, number) = part(together[0]);
            self.entries
                .each_part(segment, Kind::High, number, 1, |content| {
                    let high = High::parse(content, dims)?;
                    for i in together {
                        one.clear();
                        rest.each(&high.only((i - segment.base) % room)?, &mut one);
                        similarities[*i] = one[0];
                    }
                    Some(())
                })
                .ok_or_else(Error::unreadable_block)?;
        }
        Ok(())
    }

    /// Compares all that were left out.
    pub fn complete(&mut self) -> Result<()> {
        self.know(0..self.similarities.len())?;
        // Of all that were compared, not of those before something was amiss.
        if let Some(rest) = self.rest.take() {
            self.errors = rest.errors();
        }
        Ok(())
    }
}

/// Compares all vectors of a segment, after those before it.
fn whole(
    entries: &Entries<'_>,
    segment: &Segment,
    compared: &mut Compared,
    similarities: &mut Vec<f32>,
) -> Result<()> {
    let dims = segment.head.dims.ok_or_else(Error::unreadable_block)?;
    let end = segment.base + segment.head.n;
    // The model was given another number of dimensions: nothing is like the query.
    if dims != compared.query.dims() {
        similarities.resize(end, 0.0);
        return Ok(());
    }
    if compared.measure.distance == Distance::L2 {
        return distances(entries, segment, compared, similarities);
    }
    let mut number = 0;
    while similarities.len() < end {
        let count = segment::parts_of_vectors(dims, end - similarities.len());
        entries
            .each_part(segment, Kind::High, number, count, |content| {
                let part = High::parse(content, dims)?;
                compared.each(&part, similarities);
                (part.n > 0).then_some(())
            })
            .ok_or_else(Error::unreadable_block)?;
        number += count;
    }
    if similarities.len() != end {
        return Err(Error::unreadable_block());
    }
    Ok(())
}

/// As [`whole`], by whole codes: how far vectors are from each other, halves tell too little of where all are far from the
/// origin.
fn distances(
    entries: &Entries<'_>,
    segment: &Segment,
    compared: &mut Compared,
    similarities: &mut Vec<f32>,
) -> Result<()> {
    let dims = compared.query.dims();
    let (width, end) = (dims.div_ceil(2), segment.base + segment.head.n);
    let (mut lower, mut codes) = (Vec::new(), Vec::new());
    // Of which `taken` have been compared.
    let (mut parts, mut taken) = (0, 0);
    for number in 0..segment::parts_of_vectors(dims, segment.head.n) {
        // Parts of lower halves hold more.
        let wanted = segment::high_room(dims).min(end - similarities.len());
        lower.drain(..width * taken);
        while lower.len() < width * wanted {
            let read = entries.each_part(segment, Kind::Low, parts, 1, |content| {
                let (n, halves) = segment::low(content, dims)?;
                lower.extend_from_slice(halves);
                (n > 0).then_some(())
            });
            read.ok_or_else(Error::unreadable_block)?;
            parts += 1;
        }
        taken = wanted;
        let read = entries.each_part(segment, Kind::High, number, 1, |content| {
            let part = High::parse(content, dims)?;
            codes.clear();
            segment::whole(part.halves, &lower, dims, &mut codes);
            let of = |i| (part.scale(i), part.norm(i));
            compared.distances(&codes, of, similarities);
            (part.n == wanted).then_some(())
        });
        read.ok_or_else(Error::unreadable_block)?;
    }
    Ok(())
}

/// What of the vectors is in cells, if that helps.
fn arranged(entries: &Entries<'_>, compared: &Compared) -> Option<Arranged> {
    let mut reader = entries.reader.as_ref()?.borrow_mut();
    let guide = reader.of_cells(None, What::Guide.key(0), Guide::parse)?;
    if guide.dims != compared.query.dims()
        || !guide.even && compared.measure.distance != Distance::Cosine
    {
        return None;
    }
    let there: HashMap<u32, &Segment> = (entries.segments.iter())
        .map(|segment| (segment.head.tag, segment))
        .collect();
    let segments = guide.segments.iter().map(|listed| {
        let segment = there.get(&listed.tag)?;
        (Listed::of(&segment.head) == *listed).then_some((segment.base, segment.head.n))
    });
    let segments: Vec<_> = segments.collect();
    let some = segments.iter().any(Option::is_some);
    some.then_some(Arranged { guide, segments })
}

/// Compares the vectors of the likeliest cells, and tells whether that is all of them. `None` when something is not
/// as the guide says.
fn likely(
    entries: &Entries<'_>,
    arranged: &Arranged,
    compared: &mut Compared,
    similarities: &mut [f32],
) -> Option<bool> {
    let mut reader = entries.reader.as_ref()?.borrow_mut();
    let Guide { making, dims, .. } = arranged.guide;
    let mut found: Vec<(f32, usize, Option<Place>)> = Vec::with_capacity(arranged.guide.cells);
    let mut dots = Vec::new();
    for (number, place) in arranged.guide.directories.iter().enumerate() {
        reader.of_cells(*place, What::Directory.key(number), |row| {
            let (places, directions) = cells::directory_of(row, making, number, dims)?;
            dots.clear();
            compared
                .query
                .dots(&directions, &mut compared.raw, &mut dots);
            let from = found.len();
            found.extend(
                (dots.iter().zip(places).enumerate()).map(|(nth, (dot, p))| (*dot, from + nth, p)),
            );
            Some(())
        })?;
    }
    if found.len() != arranged.guide.cells || found.is_empty() {
        return None;
    }
    let count = cells::likely(found.len());
    let all = count == found.len();
    found.select_nth_unstable_by(count - 1, |a, b| b.0.total_cmp(&a.0));
    found.truncate(count);
    // In the order of the table.
    found.sort_unstable_by_key(|(_, number, _)| *number);
    let heap_of = |nth: usize| found.get(nth).and_then(|(.., place)| *place);
    for (nth, (_, number, place)) in found.iter().enumerate() {
        // While one is compared, the next come.
        reader.approach(heap_of(nth + 1));
        reader.of_cells(*place, What::Cell.key(*number), |row| {
            let (of, vectors) = cells::cell_of(row, making, *number, dims)?;
            dots.clear();
            compared.each(&vectors, &mut dots);
            for (of, similarity) in of.iter().zip(&dots) {
                let (segment, entry) = cells::entry(*of);
                // Not of a segment that is another by now.
                if let Some((base, n)) = arranged.segments.get(segment).copied().flatten()
                    && entry < n
                {
                    similarities[base + entry] = *similarity;
                }
            }
            Some(())
        })?;
    }
    Some(all)
}
