//! Blocks of quantised vectors: 8 bits a dimension with a scale of its own for every vector.
//!
//! | bytes | what |
//! |---|---|
//! | 1, 1, 2, 2, 2 | format, 0, vectors n, dimensions d, 0 |
//! | 16 n | ids |
//! | 8 n | [`Stamp`]s |
//! | 4 n | scales, `f32`: value = code × scale |
//! | 4 n | Euclidean lengths of the vectors, `f32` |
//! | d n | codes, `i8`, −127 to 127 |

use super::{Columns, Id, Stamp, array, u16_at};

/// First byte.
pub const FORMAT: u8 = 2;
const HEADER: usize = 8;
const FIXED: usize = 32;

/// A block of one vector. Its error is at most half a scale in every dimension; the scale is the
/// largest absolute value divided by 127.
pub fn encode(id: Id, stamp: Stamp, vector: &[f32]) -> Vec<u8> {
    let (scale, norm, codes) = quantised(vector);
    alone(id, stamp, scale, norm, &codes)
}

/// Scale, length and codes of a vector.
pub fn quantised(vector: &[f32]) -> (f32, f32, Vec<u8>) {
    let largest = vector.iter().fold(0f32, |m, x| m.max(x.abs()));
    let scale = largest / 127.0;
    // The longest vectors are longer than a number of their own kind can say.
    let norm = (crate::model::similarity::norm(vector) as f32).min(f32::MAX);
    // The smallest numbers may have no scale: their quotient is no number, and their code 0.
    let code = |x: &f32| (round(x / scale) as i8).to_le_bytes()[0];
    (scale, norm, vector.iter().map(code).collect())
}

/// As [`f32::round`], for numbers between -127 and 127: half away from zero. Without SSE 4.1 that one is a call.
fn round(x: f32) -> f32 {
    let whole = (x as i32) as f32;
    let rest = x - whole;
    if rest >= 0.5 {
        whole + 1.0
    } else if rest <= -0.5 {
        whole - 1.0
    } else {
        whole
    }
}

/// A block of one vector that is quantised already.
pub(super) fn alone(id: Id, stamp: Stamp, scale: f32, norm: f32, codes: &[u8]) -> Vec<u8> {
    let dims = u16::try_from(codes.len()).expect("a vector has at most 16,000 dimensions");
    let mut out = Vec::with_capacity(HEADER + FIXED + codes.len());
    header(&mut out, 1, dims);
    out.extend(id);
    out.extend(stamp.0.to_le_bytes());
    out.extend(scale.to_le_bytes());
    out.extend(norm.to_le_bytes());
    out.extend_from_slice(codes);
    out
}

fn header(out: &mut Vec<u8>, n: usize, dims: u16) {
    out.extend([FORMAT, 0]);
    out.extend(
        u16::try_from(n)
            .expect("merging stops before")
            .to_le_bytes(),
    );
    out.extend(dims.to_le_bytes());
    out.extend([0, 0]);
}

/// A block, read where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Vectors<'a> {
    n: usize,
    /// Dimensions of every vector.
    pub dims: usize,
    /// Ids, 16 bytes each.
    pub ids: &'a [u8],
    /// [`Stamp`]s.
    pub stamps: &'a [u8],
    scales: &'a [u8],
    norms: &'a [u8],
    codes: &'a [u8],
}

impl<'a> Vectors<'a> {
    /// Reads a block; `None` when the bytes are not one.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() < HEADER || bytes[0] != FORMAT {
            return None;
        }
        let n = usize::from(u16_at(bytes, 2));
        let dims = usize::from(u16_at(bytes, 4));
        let mut columns = Columns(&bytes[HEADER..]);
        Some(Self {
            n,
            dims,
            ids: columns.next(16 * n)?,
            stamps: columns.next(8 * n)?,
            scales: columns.next(4 * n)?,
            norms: columns.next(4 * n)?,
            codes: columns.next(dims * n)?,
        })
    }

    /// How many vectors.
    pub fn len(&self) -> usize {
        self.n
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// Id of vector `i`.
    pub fn id(&self, i: usize) -> Id {
        array(self.ids, 16 * i)
    }

    /// Stamp of vector `i`.
    pub fn stamp(&self, i: usize) -> Stamp {
        Stamp(u64::from_le_bytes(array(self.stamps, 8 * i)))
    }

    /// Value of one code of vector `i`.
    pub fn scale(&self, i: usize) -> f32 {
        f32::from_le_bytes(array(self.scales, 4 * i))
    }

    /// Euclidean length of vector `i` before it was quantised.
    pub fn norm(&self, i: usize) -> f32 {
        f32::from_le_bytes(array(self.norms, 4 * i))
    }

    /// Codes of vector `i`, each an `i8`.
    pub fn codes(&self, i: usize) -> &'a [u8] {
        &self.codes[self.dims * i..self.dims * (i + 1)]
    }

    /// Codes of all vectors, one after another.
    pub fn all_codes(&self) -> &'a [u8] {
        self.codes
    }

    pub(super) fn bytes_of(&self) -> usize {
        FIXED + self.dims
    }
}

/// A block of these vectors with these stamps; `None` when their dimensions differ. Vectors of no
/// dimension, of entries that are gone, get the others' number.
pub(super) fn copy(places: &[(&Vectors<'_>, usize, Stamp)]) -> Option<Vec<u8>> {
    let dims = places.iter().map(|(v, _, _)| v.dims).max()?;
    if places.iter().any(|(v, _, _)| v.dims != dims && v.dims != 0) {
        return None;
    }
    let mut out = Vec::with_capacity(HEADER + (FIXED + dims) * places.len());
    header(&mut out, places.len(), u16::try_from(dims).ok()?);
    for (v, i, _) in places {
        out.extend(v.id(*i));
    }
    for (_, _, stamp) in places {
        out.extend(stamp.0.to_le_bytes());
    }
    for (v, i, _) in places {
        out.extend(v.scale(*i).to_le_bytes());
    }
    for (v, i, _) in places {
        out.extend(v.norm(*i).to_le_bytes());
    }
    for (v, i, _) in places {
        out.extend(v.codes(*i));
        out.resize(out.len() + dims - v.dims, 0);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::super::{State, Unreadable, merge};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn codes_are_half_a_scale_off_at_most(v in proptest::collection::vec(-1e3f32..1e3, 1..100)) {
            let block = encode([1; 16], Stamp::new(1, State::Plain), &v);
            let read = Vectors::parse(&block).unwrap();
            let scale = read.scale(0);
            for (x, code) in v.iter().zip(read.codes(0)) {
                let back = f32::from(code.cast_signed()) * scale;
                prop_assert!((x - back).abs() <= scale * 0.5001, "{x} {back} {scale}");
            }
        }

        #[test]
        fn merging_copies_vectors_whole(n in 1usize..60, dims in 1usize..40) {
            let blocks: Vec<Vec<u8>> = (0..n).map(|i| encode([i as u8; 16], Stamp::new(7, State::Plain),
                &(0..dims).map(|d| (d * i) as f32 - 3.0).collect::<Vec<_>>())).collect();
            let merged = merge(&blocks.iter().map(Vec::as_slice).collect::<Vec<_>>(), 900, false).unwrap();
            let mut seen = 0;
            for m in &merged {
                let v = Vectors::parse(&m.bytes).unwrap();
                for i in 0..v.len() {
                    let one = Vectors::parse(&blocks[usize::from(v.id(i)[0])]).unwrap();
                    prop_assert_eq!((v.codes(i), v.scale(i), v.norm(i), v.stamp(i)), (one.codes(0), one.scale(0), one.norm(0), one.stamp(0)));
                    seen += 1;
                }
            }
            prop_assert_eq!(seen, n);
        }
    }

    #[test]
    fn entries_without_a_vector_take_the_room_of_one() {
        let blocks: Vec<Vec<u8>> = (0u8..200)
            .map(|n| {
                let vector = [1.0; 1000];
                let dims = if n == 100 { vector.len() } else { 0 };
                encode([n; 16], Stamp::new(1, State::Gone), &vector[..dims])
            })
            .collect();
        let blocks: Vec<&[u8]> = blocks.iter().map(Vec::as_slice).collect();
        let merged = merge(&blocks, 7950, false).unwrap();
        assert!(merged.iter().all(|m| m.bytes.len() <= 7950));
        assert_eq!(merged.iter().map(|m| m.entries).sum::<usize>(), 200);
        assert!(merged.len() <= 3, "{}", merged.len());
    }

    #[test]
    fn extremes_have_codes() {
        for v in [
            vec![0.0; 3],
            vec![f32::MIN_POSITIVE / 4.0, 0.0],
            vec![f32::MAX, f32::MIN],
        ] {
            let block = encode([0; 16], Stamp::new(1, State::Plain), &v);
            assert_eq!(Vectors::parse(&block).unwrap().codes(0).len(), v.len());
        }
        let (a, b) = (
            encode([0; 16], Stamp::new(1, State::Plain), &[1.0]),
            encode([1; 16], Stamp::new(1, State::Plain), &[1.0, 2.0]),
        );
        assert_eq!(merge(&[&a, &b], 1000, false), Err(Unreadable));
    }
}
