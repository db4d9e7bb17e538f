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
use crate::search::semantic::Measure;
use crate::simd::{HalfQuery, Query};

/// In place of the similarity of a vector that was not compared.
const UNKNOWN: f32 = f32::NEG_INFINITY;

/// The vectors of a workspace, compared with one query.
pub struct Points<'t> {
    /// Which memories.
    pub entries: Entries<'t>,
    /// How alike each is to the query, approximately.
    pub similarities: Vec<f32>,
    /// By how much similarities may be off, about a standard deviation.
    pub error: f32,
    /// What those are compared with that were left out; `None` when none was.
    rest: Option<Compared>,
}

/// What vectors in segments are compared with.
struct Compared {
    query: HalfQuery,
    /// Length of the query.
    length: f64,
    measure: Measure,
    raw: Vec<i32>,
    /// Sum of how far off the first vector of every part is that is not zeros, and of how many parts.
    errors: (f64, u32),
}

impl Compared {
    /// Appends the similarities of all vectors of a part.
    fn each(&mut self, part: &High<'_>, out: &mut Vec<f32>) {
        let base = out.len();
        self.query.dots(part, &mut self.raw, out);
        // What was erased is zeros.
        let first = (0..part.n).find(|i| part.scale(*i) > 0.0);
        for (i, dot) in out[base..].iter_mut().enumerate() {
            if first == Some(i) {
                let of = (part.norm(i), part.scale(i));
                let off = *dot + self.query.error(self.length, of);
                let off = self.measure.of(off, part.norm(i)) - self.measure.of(*dot, part.norm(i));
                self.errors.0 += f64::from(off.abs());
                self.errors.1 += 1;
            }
            *dot = self.measure.of(*dot, part.norm(i));
        }
    }

    fn error(&self) -> f32 {
        (self.errors.0 / f64::from(self.errors.1.max(1))) as f32
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
            error: 0.0,
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
        let mut raw = Vec::new();
        entries.read(context, blocks, model, |entries, bytes| {
            let block = Vectors::parse(bytes).ok_or_else(Error::unreadable_block)?;
            let base = similarities.len();
            entries.extend(block.ids, block.stamps);
            query.dots(&block, &mut raw, &mut similarities);
            for (i, dot) in similarities[base..].iter_mut().enumerate() {
                *dot = measure.of(*dot, block.norm(i));
            }
            Ok(())
        })?;
        LAST.set((LAST.get().0, entries.loose()));
        entries.settle();
        let mut compared = Compared {
            query: query.halved(),
            length: query.norm,
            measure,
            raw,
            errors: (0.0, 0),
        };
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
            error: compared.error(),
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
            self.error = rest.error();
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
