//! Packed blocks: what search scans instead of rows.
//!
//! The cost of a scan in PostgreSQL is per tuple, hardly per byte, so many memories share one
//! tuple: about twenty vectors, or thirty documents, to a page. A new memory is a block of one;
//! [`merge`] makes full blocks of small ones. Blocks belong to one workspace each.
//!
//! Entries are never changed in place. A newer version of a memory is a new entry that says that
//! it [replaces](State::Replaces) older ones, or that the memory is [gone](State::Gone); readers let
//! the newest version win, and merging with `resolve` removes the others.
//!
//! What has been there for a while moves on into [segments](segment), of which a search reads only what it
//! asks for. Of the vectors of large workspaces there is a second copy, arranged in [cells], of which a search reads
//! only the likeliest.
//!
//! All numbers are little-endian. The first byte of a block is its format.

pub mod cells;
pub mod documents;
pub mod segment;
pub mod values;
pub mod vectors;

use std::collections::HashMap;

/// Identity of a memory.
pub type Id = [u8; 16];

/// Bytes of a block that still fit into one page beside the key columns.
pub const ROOM: usize = 7_950;

/// What an entry says about older entries of the same memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There are none.
    Plain,
    /// They no longer count.
    Replaces,
    /// They no longer count, and neither does this one: the memory is not to be found.
    Gone,
}

impl State {
    fn bits(self) -> u64 {
        match self {
            Self::Plain => 0,
            Self::Replaces => 1,
            Self::Gone => 3,
        }
    }
}

/// Version and state of an entry in one number that sorts by version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(u64);

impl Stamp {
    /// The version counts up to 2^62.
    pub fn new(version: u64, state: State) -> Self {
        Self(version << 2 | state.bits())
    }

    /// As it is stored.
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_le_bytes(bytes))
    }

    /// Which version of the memory the entry was made of.
    pub fn version(self) -> u64 {
        self.0 >> 2
    }

    /// True when older entries of the memory may exist.
    pub fn supersedes(self) -> bool {
        self.0 & 1 != 0
    }

    /// True when the memory is not to be found.
    pub fn gone(self) -> bool {
        self.0 & 2 != 0
    }

    /// Of an entry that is the only one of its memory: any later version wins.
    const ONLY: Self = Self(0);
}

/// A block that has a format, read.
pub enum Block<'a> {
    /// Words of memories.
    Documents(documents::Documents<'a>),
    /// Vectors of memories.
    Vectors(vectors::Vectors<'a>),
}

impl<'a> Block<'a> {
    /// Reads a block; `None` when the bytes are not one.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        match *bytes.first()? {
            documents::FORMAT => documents::Documents::parse(bytes).map(Self::Documents),
            vectors::FORMAT => vectors::Vectors::parse(bytes).map(Self::Vectors),
            _ => None,
        }
    }

    /// Id and stamp of every entry.
    pub fn entries(&self) -> Vec<(Id, Stamp)> {
        match self {
            Self::Documents(d) => (0..d.len()).map(|i| (d.id(i), d.stamp(i))).collect(),
            Self::Vectors(v) => (0..v.len()).map(|i| (v.id(i), v.stamp(i))).collect(),
        }
    }

    fn bytes_of(&self, i: usize) -> usize {
        match self {
            Self::Documents(d) => d.bytes_of(i),
            Self::Vectors(v) => v.bytes_of(),
        }
    }
}

/// One merged block.
#[derive(Debug, PartialEq, Eq)]
pub struct Merged {
    /// Entries in it.
    pub entries: usize,
    /// No further entry of that size would have fitted.
    pub full: bool,
    /// The block.
    pub bytes: Vec<u8>,
}

/// The blocks cannot be merged: bytes that are no block, or blocks of different formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// Packs the entries of `blocks` into as few blocks as fit `room` bytes each, in their order. Of
/// several entries of one memory the newest stays. With `resolve` the caller promises that no
/// other block holds an entry of these memories that replace others: then entries that are gone
/// vanish and of the rest any later version wins.
pub fn merge(blocks: &[&[u8]], room: usize, resolve: bool) -> Result<Vec<Merged>, Unreadable> {
    let blocks: Vec<Block<'_>> = blocks
        .iter()
        .map(|bytes| Block::parse(bytes).ok_or(Unreadable))
        .collect::<Result<_, _>>()?;
    let mut newest: HashMap<Id, Stamp> = HashMap::new();
    for (id, stamp) in blocks.iter().flat_map(Block::entries) {
        let known = newest.entry(id).or_insert(stamp);
        *known = (*known).max(stamp);
    }
    let mut places: Vec<(usize, usize, Stamp)> = Vec::new();
    for (b, block) in blocks.iter().enumerate() {
        for (i, (id, stamp)) in block.entries().into_iter().enumerate() {
            // Each memory once, even if the same entry came twice.
            if newest.get(&id) != Some(&stamp) || (resolve && stamp.gone()) {
                continue;
            }
            newest.remove(&id);
            places.push((b, i, if resolve { Stamp::ONLY } else { stamp }));
        }
    }
    let mut out = Vec::new();
    let mut rest = &places[..];
    while !rest.is_empty() {
        let (mut used, mut fitting, mut most) = (documents::HEADER, 0, 0);
        for (b, i, _) in rest.iter().take(u16::MAX.into()) {
            let bytes = blocks[*b].bytes_of(*i);
            most = most.max(bytes);
            used = match blocks[*b] {
                Block::Documents(_) => used + bytes,
                // Those without a vector take as much as the others.
                Block::Vectors(_) => documents::HEADER + (fitting + 1) * most,
            };
            if used > room {
                break;
            }
            fitting += 1;
        }
        let fitting = fitting.max(1);
        let (these, more) = rest.split_at(fitting.min(rest.len()));
        out.push(Merged {
            entries: these.len(),
            full: !more.is_empty() || used > room * 3 / 4,
            bytes: encode(&blocks, these)?,
        });
        rest = more;
    }
    Ok(out)
}

/// Id, stamp and a block of its own for every entry of a block. Equal content gives equal bytes,
/// whatever its stamp.
pub fn split(bytes: &[u8]) -> Result<Vec<(Id, Stamp, Vec<u8>)>, Unreadable> {
    let blocks = [Block::parse(bytes).ok_or(Unreadable)?];
    blocks[0]
        .entries()
        .into_iter()
        .enumerate()
        .map(|(i, (id, stamp))| Ok((id, stamp, encode(&blocks, &[(0, i, Stamp::ONLY)])?)))
        .collect()
}

fn encode(blocks: &[Block<'_>], places: &[(usize, usize, Stamp)]) -> Result<Vec<u8>, Unreadable> {
    let mut texts = Vec::new();
    let mut points = Vec::new();
    for (b, i, stamp) in places {
        match &blocks[*b] {
            Block::Documents(d) => texts.push((d, *i, *stamp)),
            Block::Vectors(v) => points.push((v, *i, *stamp)),
        }
    }
    match (texts.is_empty(), points.is_empty()) {
        (false, true) => Ok(documents::copy(&texts)),
        (true, false) => vectors::copy(&points).ok_or(Unreadable),
        _ => Err(Unreadable),
    }
}

/// Takes the columns of a block one after another.
struct Columns<'a>(&'a [u8]);

impl<'a> Columns<'a> {
    /// The next `length` bytes; `None` when there are fewer.
    fn next(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }
}

/// Reads `N` bytes at `at`.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}
