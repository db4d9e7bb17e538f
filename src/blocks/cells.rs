//! Cells: the vectors of a large workspace once more, those together that point the same way, so that a search
//! reads the likeliest cells and leaves the others alone.
//!
//! Cells hold the upper halves of codes that their segments hold, bit for bit, and whose entries these are. Segments
//! do not know of them: whatever is in a segment that the guide does not list is looked through whole, and without
//! a guide everything is. A segment that is listed stays as long as the guide, but for the dead that are marked in
//! its head.
//!
//! All numbers are little-endian. Every row begins with 12 bytes: [`CELLS`], [`What`], 2 of 0, the 4 bytes that all rows of one
//! making share, and the number of the row among those of its kind in 4. Then:
//!
//! | bytes of a guide | what |
//! |---|---|
//! | 2, 1, 1 | dimensions, 1 where all vectors are as long, 0 |
//! | 4, 4, 4 | cells, directories d, segments s |
//! | 40 s | tag, entries, first and last id |
//! | 6 d | where the directories are, [`Place`]s |
//!
//! | bytes of a directory | what |
//! |---|---|
//! | 4 | cells k |
//! | 6 k | where the cells are, [`Place`]s |
//! | the rest | their directions, as in a part of upper halves |
//!
//! | bytes of a cell | what |
//! |---|---|
//! | 4 | entries k |
//! | 4 k | segment by its number in the guide and entry in it, 2 bytes each |
//! | the rest | as in a part of upper halves |

use super::segment::{self, Half, Head, High, Place};
use super::{Columns, Id, ROOM, Unreadable, array, u16_at, u32_at};

/// First byte of a row.
pub const CELLS: u8 = 5;
/// The level of the rows in the table.
pub const LEVEL: i16 = 5;
/// Segments of at most so many entries may be joined with others, and are not listed.
pub const SMALL: usize = segment::MOST / 2;

const HEADER: usize = 12;
const LISTED: usize = 40;

/// What a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum What {
    /// What is listed and where the directories are.
    Guide = 1,
    /// Directions of cells and where these are.
    Directory = 2,
    /// Vectors.
    Cell = 3,
}

impl What {
    /// The key of row `number` of this kind.
    pub fn key(self, number: usize) -> Id {
        let mut key = [0; 16];
        key[0] = self as u8;
        key[1..5].copy_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
        key
    }

    fn row(self, making: u32, number: usize) -> Vec<u8> {
        let mut row = Vec::with_capacity(ROOM);
        row.extend([CELLS, self as u8, 0, 0]);
        row.extend(making.to_le_bytes());
        row.extend(u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
        row
    }

    /// The content of a row that is meant; `None` of any other.
    fn content(self, row: &[u8], making: Option<u32>, number: usize) -> Option<&[u8]> {
        if row.len() < HEADER || row[..2] != [CELLS, self as u8] {
            return None;
        }
        let meant = making.is_none_or(|making| making == u32_at(row, 4));
        (meant && u32_at(row, 8) as usize == number).then(|| &row[HEADER..])
    }
}

/// Cells that a search reads of so many, fullest first, that it finds about .985 of the ten nearest vectors and .97 of the
/// hundred nearest. Measured with sentences of the documentation of software (all-MiniLM-L6-v2, 384 dimensions, 38 to a
/// cell): .98 of ten took 46 % of the cells of 12,000, 36 % of 25,000, 28 % of 50,000, 21 % of 100,000.
pub fn likely(cells: usize) -> usize {
    let share = SHARE * (cells as f64 / SHARED).powf(-SLOPE);
    ((cells as f64 * share.min(1.0)).ceil() as usize).min(cells)
}

/// The share that is read of so many cells, and how it falls with more of them.
const SHARE: f64 = 0.25;
const SHARED: f64 = 2_600.0;
const SLOPE: f64 = 0.36;

/// Entries of a cell.
pub fn cell_room(dims: usize) -> usize {
    ((ROOM - HEADER - 8) / (12 + dims.div_ceil(2))).max(1)
}

/// Whether cells are worth while: with the longest vectors directories are nearly as large as what they lead to.
pub fn worth(dims: usize) -> bool {
    directory_room(dims) >= 4
}

/// Cells of a directory.
pub fn directory_room(dims: usize) -> usize {
    ((ROOM - HEADER - 8) / (14 + dims.div_ceil(2))).max(1)
}

/// A segment whose vectors are in cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Which.
    pub tag: u32,
    /// Entries, dead ones included.
    pub n: usize,
    /// The smallest and the largest id.
    pub range: (Id, Id),
}

impl Listed {
    /// Of a segment.
    pub fn of(head: &Head) -> Self {
        Self {
            tag: head.tag,
            n: head.n,
            range: head.range,
        }
    }
}

/// What is in cells, and where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guide {
    /// What its rows share.
    pub making: u32,
    /// Of the vectors.
    pub dims: usize,
    /// All vectors are as long, so that the nearest by angle are the nearest by any distance.
    pub even: bool,
    /// How many cells.
    pub cells: usize,
    /// Segments whose living entries are all in cells.
    pub segments: Vec<Listed>,
    /// Where the directories are.
    pub directories: Vec<Option<Place>>,
}

impl Guide {
    /// The row.
    pub fn encode(&self) -> Vec<u8> {
        let mut row = What::Guide.row(self.making, 0);
        row.extend((self.dims as u16).to_le_bytes());
        row.extend([u8::from(self.even), 0]);
        for count in [self.cells, self.directories.len(), self.segments.len()] {
            row.extend((count as u32).to_le_bytes());
        }
        for segment in &self.segments {
            row.extend(segment.tag.to_le_bytes());
            row.extend((segment.n as u32).to_le_bytes());
            row.extend(segment.range.0);
            row.extend(segment.range.1);
        }
        row.extend(places(&self.directories));
        row
    }

    /// Reads the row; `None` when it is not one.
    pub fn parse(row: &[u8]) -> Option<Self> {
        let mut rest = Columns(What::Guide.content(row, None, 0)?);
        let first = rest.next(4)?;
        let (dims, even) = (usize::from(u16_at(first, 0)), first[2] == 1);
        let counts = rest.next(12)?;
        let [cells, directories, segments] = [0, 4, 8].map(|at| u32_at(counts, at) as usize);
        if cells > directories.checked_mul(directory_room(dims))? {
            return None;
        }
        let listed = rest.next(segments.checked_mul(LISTED)?)?;
        let listed = listed.as_chunks::<LISTED>().0.iter().map(|bytes| Listed {
            tag: u32_at(bytes, 0),
            n: u32_at(bytes, 4) as usize,
            range: (array(bytes, 8), array(bytes, 24)),
        });
        Some(Self {
            making: u32_at(row, 4),
            dims,
            even,
            cells,
            segments: listed.collect(),
            directories: places_of(rest.next(directories.checked_mul(Place::BYTES)?)?),
        })
    }
}

fn places(of: &[Option<Place>]) -> impl Iterator<Item = u8> {
    of.iter()
        .flat_map(|place| place.map_or([0; Place::BYTES], Place::to_bytes))
}

fn places_of(bytes: &[u8]) -> Vec<Option<Place>> {
    let each = bytes.as_chunks::<{ Place::BYTES }>().0.iter();
    each.map(|bytes| Place::from_bytes(*bytes)).collect()
}

/// A row of directions of cells.
pub fn directory(making: u32, number: usize, cells: &[Option<Place>], of: &[Half]) -> Vec<u8> {
    let mut row = What::Directory.row(making, number);
    row.extend((cells.len() as u32).to_le_bytes());
    row.extend(places(cells));
    row.extend(segment::high(of));
    row
}

/// Reads a row of directions.
pub fn directory_of(
    row: &[u8],
    making: u32,
    number: usize,
    dims: usize,
) -> Option<(Vec<Option<Place>>, High<'_>)> {
    let mut rest = Columns(What::Directory.content(row, Some(making), number)?);
    let k = u32_at(rest.next(4)?, 0) as usize;
    let places = places_of(rest.next(k.checked_mul(Place::BYTES)?)?);
    let directions = High::parse(rest.0, dims)?;
    (directions.n == k).then_some((places, directions))
}

/// A row of vectors.
pub fn cell(making: u32, number: usize, entries: &[(u16, u16)], of: &[Half]) -> Vec<u8> {
    let mut row = What::Cell.row(making, number);
    row.extend((entries.len() as u32).to_le_bytes());
    for (segment, entry) in entries {
        row.extend(segment.to_le_bytes());
        row.extend(entry.to_le_bytes());
    }
    row.extend(segment::high(of));
    row
}

/// Reads a row of vectors: whose they are, 4 bytes each, and what they are.
pub fn cell_of(
    row: &[u8],
    making: u32,
    number: usize,
    dims: usize,
) -> Option<(&[[u8; 4]], High<'_>)> {
    let mut rest = Columns(What::Cell.content(row, Some(making), number)?);
    let k = u32_at(rest.next(4)?, 0) as usize;
    let entries = rest.next(k.checked_mul(4)?)?.as_chunks::<4>().0;
    let vectors = High::parse(rest.0, dims)?;
    (vectors.n == k).then_some((entries, vectors))
}

/// The number in the guide of the segment with this head, if it is listed.
pub fn number_of(guide: &[u8], head: &[u8]) -> Result<Option<usize>, Unreadable> {
    let listed = Listed::of(&Head::parse(head).ok_or(Unreadable)?);
    let guide = Guide::parse(guide).ok_or(Unreadable)?;
    Ok(guide.segments.iter().position(|s| *s == listed))
}

/// A row of vectors in which those of `entries`, which ascend, of segment `number` are zeros, and how many are left
/// that are not. `None` of one that holds none of them.
pub fn blanked(
    row: &[u8],
    number: usize,
    entries: &[usize],
) -> Result<Option<(Vec<u8>, usize)>, Unreadable> {
    let content = row
        .get(HEADER..)
        .filter(|_| row[..2] == [CELLS, What::Cell as u8]);
    let mut rest = Columns(content.ok_or(Unreadable)?);
    let k = u32_at(rest.next(4).ok_or(Unreadable)?, 0) as usize;
    let named = k.checked_mul(4).and_then(|bytes| rest.next(bytes));
    let named = named.ok_or(Unreadable)?.as_chunks::<4>().0.iter();
    let named: Vec<usize> = (named.enumerate())
        .filter(|(_, of)| {
            let (segment, entry) = entry(**of);
            segment == number && entries.binary_search(&entry).is_ok()
        })
        .map(|(i, _)| i)
        .collect();
    if named.is_empty() {
        return Ok(None);
    }
    // Of each vector there are 8 bytes beside its halves, and 4 before all.
    let width = (rest.0.len().saturating_sub(4) / k).checked_sub(8);
    let dims = 2 * width.ok_or(Unreadable)?;
    let vectors = row.len() - rest.0.len();
    let mut row = row.to_vec();
    for i in named {
        segment::blank(&mut row[vectors..], i, true, dims).ok_or(Unreadable)?;
    }
    let high = High::parse(&row[vectors..], dims).ok_or(Unreadable)?;
    let left = (0..high.n).filter(|i| high.scale(*i) > 0.0).count();
    Ok(Some((row, left)))
}

/// Number of the segment in the guide, and entry.
pub fn entry(bytes: [u8; 4]) -> (usize, usize) {
    (
        usize::from(u16_at(&bytes, 0)),
        usize::from(u16_at(&bytes, 2)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place() -> impl Strategy<Value = Option<Place>> {
        proptest::option::of(
            (any::<u32>(), 1u16..).prop_map(|(block, offset)| Place { block, offset }),
        )
    }

    proptest! {
        #[test]
        fn rows_hold_what_they_were_made_of(
            making: u32,
            dims in 1usize..40,
            listed in proptest::collection::vec((any::<u32>(), 0usize..5000, any::<Id>(), any::<Id>()), 0..9),
            places in proptest::collection::vec(place(), 0..30),
            seed: u8,
        ) {
            let guide = Guide {
                making,
                dims,
                even: dims % 2 == 0,
                cells: places.len(),
                segments: listed.into_iter().map(|(tag, n, a, b)| Listed { tag, n, range: (a, b) }).collect(),
                directories: places.clone(),
            };
            prop_assert_eq!(Guide::parse(&guide.encode()), Some(guide));
            let of: Vec<Half> = (0..places.len())
                .map(|i| (i as f32, 2.0, vec![seed.wrapping_add(i as u8); dims.div_ceil(2)]))
                .collect();
            let row = directory(making, 3, &places, &of);
            let (read, directions) = directory_of(&row, making, 3, dims).unwrap();
            prop_assert_eq!(read, places.clone());
            prop_assert!((0..of.len()).all(|i| directions.half(i).as_ref() == Some(&of[i])));
            prop_assert!(directory_of(&row, making.wrapping_add(1), 3, dims).is_none());
            prop_assert!(directory_of(&row, making, 4, dims).is_none());
            let entries: Vec<(u16, u16)> = (0..of.len()).map(|i| (i as u16, u16::from(seed))).collect();
            let row = cell(making, 9, &entries, &of);
            let (read, vectors) = cell_of(&row, making, 9, dims).unwrap();
            prop_assert!(read.iter().map(|e| entry(*e)).eq(entries.iter().map(|e| (usize::from(e.0), usize::from(e.1)))));
            prop_assert!((0..of.len()).all(|i| vectors.half(i).as_ref() == Some(&of[i])));
            // What is blanked is gone, and nothing else is.
            let gone = [1, 3, 4, 29];
            let here: Vec<usize> = gone.into_iter().filter(|i| *i < of.len() && entries[*i].0 as usize == *i).collect();
            for i in &here {
                let (blank, left) = blanked(&row, *i, &[usize::from(seed)]).unwrap().unwrap();
                let living = of.iter().enumerate().filter(|(nth, half)| nth != i && half.0 > 0.0).count();
                prop_assert_eq!(left, living);
                let (named, vectors) = cell_of(&blank, making, 9, dims).unwrap();
                prop_assert_eq!(named, read);
                for (nth, half) in of.iter().enumerate() {
                    let zeros = (0.0, 0.0, vec![0; dims.div_ceil(2)]);
                    prop_assert_eq!(vectors.half(nth), Some(if nth == *i { zeros } else { half.clone() }));
                }
            }
            prop_assert!(blanked(&row, 7, &[usize::from(seed) + 1]).unwrap().is_none());
        }

        #[test]
        fn no_guide_leads_to_more_cells_than_it_has_room_for(cells in 0usize..2000, directories in 0usize..9, dims in 1usize..4000) {
            let guide = Guide { making: 1, dims, even: false, cells, segments: Vec::new(), directories: vec![None; directories] };
            let room = directories * directory_room(dims);
            prop_assert_eq!(Guide::parse(&guide.encode()).is_some(), cells <= room);
        }

        #[test]
        fn garbage_is_no_row(mut row in proptest::collection::vec(any::<u8>(), 12..200), what in 1u8..4, dims in 1usize..9) {
            row[0] = CELLS;
            row[1] = what;
            let making = u32_at(&row, 4);
            let number = u32_at(&row, 8) as usize;
            Guide::parse(&row);
            directory_of(&row, making, number, dims);
            cell_of(&row, making, number, dims);
            let _ = blanked(&row, number, &[0, 1, 2]);
        }
    }

    #[test]
    fn full_rows_are_one_page() {
        for dims in [1, 2, 383, 384, 768, 1536, 3072] {
            let half = (1.0, 1.0, vec![0; usize::div_ceil(dims, 2)]);
            let k = cell_room(dims);
            assert!(cell(1, 1, &vec![(0, 0); k], &vec![half.clone(); k]).len() <= ROOM);
            let k = directory_room(dims);
            assert!(directory(1, 1, &vec![None; k], &vec![half.clone(); k]).len() <= ROOM);
        }
    }

    #[test]
    fn the_share_that_is_read_falls_with_size() {
        assert_eq!(likely(0), 0);
        assert_eq!(likely(1), 1);
        let share = |cells: usize| likely(cells) as f64 / cells as f64;
        for cells in [500, 2_564, 25_641, 256_410] {
            assert!(likely(cells) <= cells && share(cells) >= share(10 * cells));
        }
    }
}
