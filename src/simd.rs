//! The inner loops of search and of activation. They are written once, as plain arithmetic, and compiled
//! for several instruction sets, which all give the same bits; the widest that the machine has is chosen at
//! run time.

use crate::blocks::segment::High;
use crate::blocks::vectors::Vectors;
use crate::model::heat::{self, Heat, Weights};

/// Compiles `$name` for several instruction sets and calls the best one.
macro_rules! multiversion {
    ($(#[$doc:meta])* pub fn $name:ident($($arg:ident: $type:ty),*) $body:block) => {
        $(#[$doc])*
        pub fn $name($($arg: $type),*) {
            #[inline(always)]
            fn portable($($arg: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,bmi2,popcnt,lzcnt")]
                fn avx512($($arg: $type),*) { portable($($arg),*) }
                #[target_feature(enable = "avx2,bmi2,popcnt,lzcnt")]
                fn avx2($($arg: $type),*) { portable($($arg),*) }

                if is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl") && is_x86_feature_detected!("bmi2")
                    && is_x86_feature_detected!("lzcnt") && is_x86_feature_detected!("popcnt") {
                    // SAFETY: the processor has just been asked for every feature.
                    return unsafe { avx512($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi2")
                    && is_x86_feature_detected!("lzcnt") && is_x86_feature_detected!("popcnt") {
                    // SAFETY: as above.
                    return unsafe { avx2($($arg),*) };
                }
            }
            // NEON is part of the baseline on aarch64.
            portable($($arg),*)
        }
    };
}

multiversion! {
    /// What [`Heat::level`] is the logarithm of, for each heat.
    pub fn odds(heats: &[Heat], now: i64, weights: &Weights, odds: &mut [f64]) {
        heat::odds_of(heats, now, weights, odds);
    }
}

multiversion! {
    /// Dot products of a vector with others as long as it.
    pub fn dots(of: &[f32], others: &[&[f32]], out: &mut [f32]) {
        const LANES: usize = 16;
        let (of, of_rest) = of.as_chunks::<LANES>();
        for (other, out) in others.iter().zip(out) {
            let (other, other_rest) = other.as_chunks::<LANES>();
            let mut sums = [0f32; LANES];
            for (a, b) in of.iter().zip(other) {
                for i in 0..LANES {
                    sums[i] += a[i] * b[i];
                }
            }
            let rest: f32 = of_rest.iter().zip(other_rest).map(|(a, b)| a * b).sum();
            *out = sums.iter().sum::<f32>() + rest;
        }
    }
}

/// A query vector in whole numbers: value ≈ code × scale.
#[derive(Clone, Debug)]
pub struct Query {
    codes: Vec<i16>,
    scale: f64,
    /// Euclidean length of the vector.
    pub norm: f64,
}

impl Query {
    /// As many bits for each dimension as cannot overflow 32 bits in a dot product with 8-bit codes.
    pub fn new(vector: &[f32]) -> Self {
        let most = (f64::from(i32::MAX) / (127.0 * vector.len().max(1) as f64))
            .min(32_767.0)
            .floor();
        let largest = vector.iter().fold(0f64, |m, x| m.max(f64::from(x.abs())));
        let scale = largest / most;
        Self {
            codes: vector
                .iter()
                .map(|x| (f64::from(*x) / scale).round() as i16)
                .collect(),
            scale,
            norm: crate::model::similarity::norm(vector),
        }
    }

    /// Approximate dot products with all vectors of a block, appended to `out`. Those with a block of
    /// other dimensions are 0.
    pub fn dots(&self, block: &Vectors<'_>, raw: &mut Vec<i32>, out: &mut Vec<f32>) {
        raw.clear();
        raw.resize(block.len(), 0);
        if block.dims == self.codes.len() {
            products(&self.codes, block.all_codes(), raw);
        }
        let scale = self.scale as f32;
        out.extend(
            raw.iter()
                .enumerate()
                .map(|(i, dot)| *dot as f32 * scale * block.scale(i)),
        );
    }

    /// Distances of the query to vectors as their codes say, `scale` of each, appended to `out`: those are off by how far
    /// the codes are from the vectors, whatever the lengths of vectors and query.
    pub fn distances(
        &self,
        codes: &[u8],
        scale: impl Fn(usize) -> f32,
        raw: &mut Vec<i32>,
        out: &mut Vec<f32>,
    ) {
        let n = codes.len() / self.codes.len().max(1);
        raw.clear();
        raw.resize(2 * n, 0);
        let (dots, squares) = raw.split_at_mut(n);
        products(&self.codes, codes, dots);
        own_products(self.codes.len(), codes, squares);
        let own: f64 = self.codes.iter().map(|c| f64::from(*c).powi(2)).sum();
        out.extend(
            dots.iter()
                .zip(squares)
                .enumerate()
                .map(|(i, (dot, own_dot))| {
                    let scale = f64::from(scale(i));
                    let crossed = 2.0 * self.scale * scale * f64::from(*dot);
                    let squared = own * self.scale * self.scale - crossed
                        + scale * scale * f64::from(*own_dot);
                    squared.max(0.0).sqrt() as f32
                }),
        );
    }

    /// Dimensions of the vectors that it can be compared with.
    pub fn dims(&self) -> usize {
        self.codes.len()
    }

    /// As [`HalfQuery::error`], of whole codes: what is missing of the query is nothing beside that of these.
    pub fn error(&self, scale: f32) -> f32 {
        (self.norm * f64::from(scale) / 12f64.sqrt()) as f32
    }
}

/// A query for vectors of which only the upper halves of the codes are read.
#[derive(Clone, Debug)]
pub struct HalfQuery {
    /// Numbers of the dimensions in the low halves of bytes, and of those in the high ones, up to a multiple
    /// of [`LANE`].
    lower: Vec<i8>,
    upper: Vec<i8>,
    dims: usize,
    sum: f64,
    scale: f64,
}

/// Bytes that are compared at once, where the machine can.
const LANE: usize = 64;

impl Query {
    /// The same query for halves of codes, in 8 bits: what that loses is little beside the other halves.
    pub fn halved(&self) -> HalfQuery {
        let half = self.codes.len().div_ceil(2);
        let largest = self.codes.iter().fold(0, |m, c| m.max(c.unsigned_abs()));
        let step = f64::from(largest.max(1)) / 127.0;
        let codes = self
            .codes
            .iter()
            .map(|c| (f64::from(*c) / step).round() as i8);
        let mut lower: Vec<i8> = codes.collect();
        let sum = lower.iter().map(|c| f64::from(*c)).sum();
        let mut upper = lower.split_off(half);
        for codes in [&mut lower, &mut upper] {
            codes.resize(half.next_multiple_of(LANE), 0);
        }
        HalfQuery {
            lower,
            upper,
            dims: self.codes.len(),
            sum,
            scale: self.scale * step,
        }
    }
}

/// What a code whose upper half is 0 is on average: −128 and half of 0 to 15.
const LEAST: f64 = -120.5;

impl HalfQuery {
    /// Dimensions of the vectors that it can be compared with.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// Approximate dot products with all vectors of a part, appended to `out`.
    pub fn dots(&self, part: &High<'_>, raw: &mut Vec<i32>, out: &mut Vec<f32>) {
        raw.clear();
        raw.resize(part.n, 0);
        halves(
            &self.lower,
            &self.upper,
            self.dims.div_ceil(2),
            part.halves,
            raw,
        );
        let least = LEAST * self.sum;
        out.extend(raw.iter().enumerate().map(|(i, dot)| {
            ((16.0 * f64::from(*dot) + least) * self.scale * f64::from(part.scale(i))) as f32
        }));
    }

    /// By how much a dot product of a query with a vector of this length and scale is off, a standard
    /// deviation: what is missing of a code is spread evenly over 16 values, of the query's over one.
    pub fn error(&self, norm: f64, (length, scale): (f32, f32)) -> f32 {
        let stored = norm * 16.0 * f64::from(scale);
        let asked = f64::from(length) * self.scale;
        ((stored * stored + asked * asked) / 12.0).sqrt() as f32
    }
}

/// Dot products of a query with vectors of 4 bits that lie two to a byte in `codes`, `width` bytes each, one for
/// each place of `out`: `lower` are the query's numbers for the low halves of the bytes.
pub fn halves(lower: &[i8], upper: &[i8], width: usize, codes: &[u8], out: &mut [i32]) {
    let padded = width.next_multiple_of(LANE);
    if width == 0 || lower.len() != padded || upper.len() != padded {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512f")
    {
        // SAFETY: the processor has just been asked for every feature.
        return unsafe { halves_at_once(lower, upper, width, codes, out) };
    }
    halves_one_by_one(&lower[..width], &upper[..width], codes, out);
}

/// As [`halves`], which has looked at the lengths: the compiler does not find the instruction that multiplies
/// and adds four bytes by itself.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn halves_at_once(lower: &[i8], upper: &[i8], width: usize, codes: &[u8], out: &mut [i32]) {
    use std::arch::x86_64::{
        _mm512_add_epi32, _mm512_and_si512, _mm512_dpbusd_epi32, _mm512_loadu_epi8,
        _mm512_maskz_loadu_epi8, _mm512_reduce_add_epi32, _mm512_set1_epi8, _mm512_setzero_si512,
        _mm512_srli_epi16,
    };
    let low = _mm512_set1_epi8(15);
    let rest = width % LANE;
    for (dot, vector) in out.iter_mut().zip(codes.chunks_exact(width)) {
        let mut sums = [_mm512_setzero_si512(); 2];
        for at in (0..width).step_by(LANE) {
            // SAFETY: the query has whole lanes; of a vector's last one only what it has is read, and what is
            // not is 0.
            let (bytes, lower, upper) = unsafe {
                let from = vector.as_ptr().add(at).cast();
                let bytes = if at + LANE <= width {
                    _mm512_loadu_epi8(from)
                } else {
                    _mm512_maskz_loadu_epi8((1 << rest) - 1, from)
                };
                let query = |codes: &[i8]| _mm512_loadu_epi8(codes.as_ptr().add(at));
                (bytes, query(lower), query(upper))
            };
            sums[0] = _mm512_dpbusd_epi32(sums[0], _mm512_and_si512(bytes, low), lower);
            let high = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), low);
            sums[1] = _mm512_dpbusd_epi32(sums[1], high, upper);
        }
        *dot = _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1]));
    }
}

multiversion! {
    /// As [`halves`], of a query without the rest of its last lane.
    pub fn halves_one_by_one(lower: &[i8], upper: &[i8], codes: &[u8], out: &mut [i32]) {
        for (dot, vector) in out.iter_mut().zip(codes.chunks_exact(lower.len().max(1))) {
            *dot = lower.iter().zip(upper).zip(vector)
                .map(|((l, u), c)| i32::from(*l) * i32::from(*c & 15) + i32::from(*u) * i32::from(*c >> 4)).sum();
        }
    }
}

multiversion! {
    /// Dot products of `query` with the vectors of 8-bit codes that lie one after another in
    /// `codes`, one for each place of `out`.
    pub fn products(query: &[i16], codes: &[u8], out: &mut [i32]) {
        for (dot, vector) in out.iter_mut().zip(codes.chunks_exact(query.len().max(1))) {
            *dot = query.iter().zip(vector).map(|(q, c)| i32::from(*q) * i32::from(c.cast_signed())).sum();
        }
    }
}

multiversion! {
    /// Dot products with themselves of vectors of as many 8-bit codes, as [`products`] has them.
    pub fn own_products(dims: usize, codes: &[u8], out: &mut [i32]) {
        for (dot, vector) in out.iter_mut().zip(codes.chunks_exact(dims.max(1))) {
            *dot = vector.iter().map(|c| i32::from(c.cast_signed()) * i32::from(c.cast_signed())).sum();
        }
    }
}

/// Places of the 32-bit hashes in `hashes` (little-endian) that are among `wanted`, with the index of
/// the wanted one, in order of place.
///
/// A table of 8,192 bits, one of which each wanted hash sets, tells nearly all others apart: it stays
/// in the first cache, and costs the same for two words and for sixty. Comparing with vector
/// instructions was slower from two words on.
pub fn find(hashes: &[u8], wanted: &[u32], found: &mut Vec<(u32, u32)>) {
    let place = |hash: u32| ((hash >> 25) as usize, hash >> 19 & 63);
    let mut table = [0u64; 128];
    for hash in wanted {
        let (word, bit) = place(*hash);
        table[word] |= 1 << bit;
    }
    for (at, bytes) in (0u32..).zip(hashes.as_chunks::<4>().0) {
        let hash = u32::from_le_bytes(*bytes);
        let (word, bit) = place(hash);
        if table[word] >> bit & 1 == 1 {
            found.extend(
                (0u32..)
                    .zip(wanted)
                    .filter(|(_, w)| **w == hash)
                    .map(|(k, _)| (at, k)),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::{Stamp, State, segment, vectors};
    use crate::model::similarity::norm;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn products_are_exact(dims in 1usize..200, n in 0usize..8, seed: u64) {
            let mut x = seed;
            let mut next = || { x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1); (x >> 33) as i32 };
            let query: Vec<i16> = (0..dims).map(|_| next() as i16).collect();
            let codes: Vec<u8> = (0..dims * n).map(|_| next() as u8).collect();
            let mut out = vec![0; n];
            products(&query, &codes, &mut out);
            for (i, dot) in out.iter().enumerate() {
                let wanted: i64 = (0..dims).map(|d| i64::from(query[d]) * i64::from(codes[i * dims + d].cast_signed())).sum();
                prop_assert_eq!(i64::from(*dot), wanted);
            }
        }

        #[test]
        fn halves_are_exact(width in 1usize..200, n in 0usize..8, seed: u64) {
            let mut x = seed;
            let mut next = || { x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1); (x >> 33) as i32 };
            let mut query = || {
                let mut codes: Vec<i8> = (0..width).map(|_| (next() as i8).max(-127)).collect();
                codes.resize(width.next_multiple_of(LANE), 0);
                codes
            };
            let (lower, upper) = (query(), query());
            let codes: Vec<u8> = (0..width * n).map(|_| next() as u8).collect();
            let (mut out, mut one_by_one) = (vec![0; n], vec![0; n]);
            halves(&lower, &upper, width, &codes, &mut out);
            halves_one_by_one(&lower[..width], &upper[..width], &codes, &mut one_by_one);
            prop_assert_eq!(&out, &one_by_one);
            for (i, dot) in out.iter().enumerate() {
                let wanted: i32 = (0..width).map(|d| {
                    let code = codes[i * width + d];
                    i32::from(lower[d]) * i32::from(code & 15) + i32::from(upper[d]) * i32::from(code >> 4)
                }).sum();
                prop_assert_eq!(*dot, wanted);
            }
        }

        #[test]
        fn every_wanted_hash_is_found(hashes in proptest::collection::vec(0u32..50, 0..120), wanted in proptest::collection::vec(0u32..60, 0..20)) {
            let bytes: Vec<u8> = hashes.iter().flat_map(|h| h.to_le_bytes()).collect();
            let mut found = Vec::new();
            find(&bytes, &wanted, &mut found);
            let reference: Vec<(u32, u32)> = hashes.iter().enumerate().flat_map(|(i, h)| {
                wanted.iter().enumerate().filter(move |(_, w)| *w == h).map(move |(k, _)| (i as u32, k as u32))
            }).collect();
            prop_assert_eq!(found, reference);
        }

        #[test]
        fn approximate_dots_are_near(v in proptest::collection::vec(-1f32..1.0, 64), q in proptest::collection::vec(-1f32..1.0, 64)) {
            let block = vectors::encode([0; 16], Stamp::new(1, State::Plain), &v);
            let (mut raw, mut out) = (Vec::new(), Vec::new());
            Query::new(&q).dots(&Vectors::parse(&block).unwrap(), &mut raw, &mut out);
            let exact: f64 = v.iter().zip(&q).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            // Half a scale in every dimension at the worst.
            let bound = norm(&q) * 8.0 / 127.0 * 0.51 + 1e-3;
            prop_assert!((f64::from(out[0]) - exact).abs() <= bound);
        }

        #[test]
        fn distances_are_as_near_far_from_the_origin(v in proptest::collection::vec(-1f32..1.0, 64), q in proptest::collection::vec(-1f32..1.0, 64), far in 0f32..50.0) {
            let [v, q] = [v, q].map(|v| v.into_iter().map(|x| x + far).collect::<Vec<_>>());
            let block = vectors::encode([0; 16], Stamp::new(1, State::Plain), &v);
            let block = Vectors::parse(&block).unwrap();
            let (mut raw, mut out) = (Vec::new(), Vec::new());
            Query::new(&q).distances(block.all_codes(), |i| block.scale(i), &mut raw, &mut out);
            let exact = v.iter().zip(&q).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
            // Half a scale in every dimension at the worst, whatever the lengths.
            let bound = 8.0 * f64::from(block.scale(0)) * 0.51 + 1e-2;
            prop_assert!((f64::from(out[0]) - exact).abs() <= bound, "{} {exact}", out[0]);
        }
    }

    proptest! {
        #[test]
        fn half_codes_are_near_and_say_how_near(dims in 1usize..100, seed: u64) {
            let mut x = seed;
            let mut next = || { x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1); (x >> 40) as f32 / 8e6 - 1.0 };
            let vectors: Vec<Vec<f32>> = (0..50).map(|_| (0..dims).map(|_| next()).collect()).collect();
            let query: Vec<f32> = (0..dims).map(|_| next()).collect();
            let blocks: Vec<Vec<u8>> = (0u128..).zip(&vectors)
                .map(|(i, v)| vectors::encode(i.to_be_bytes(), Stamp::new(1, State::Plain), v)).collect();
            let rows = segment::seal(&blocks.iter().map(Vec::as_slice).collect::<Vec<_>>(), 1).unwrap();
            let coded = Query::new(&query).halved();
            let (mut raw, mut out, mut errors) = (Vec::new(), Vec::new(), Vec::new());
            for row in &rows {
                if let Some(part) = segment::Part::parse(&row.bytes) && part.kind == segment::Kind::High {
                    let high = High::parse(part.content, dims).unwrap();
                    coded.dots(&high, &mut raw, &mut out);
                    errors.extend((0..high.n).map(|i| coded.error(norm(&query), (high.norm(i), high.scale(i)))));
                }
            }
            for (v, (dot, error)) in vectors.iter().zip(out.iter().zip(&errors)) {
                let exact: f64 = v.iter().zip(&query).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                prop_assert!((f64::from(*dot) - exact).abs() < 6.0 * f64::from(*error) + 1e-3, "{dot} {exact} {error}");
            }
        }
    }

    #[test]
    fn the_largest_vectors_do_not_overflow() {
        for dims in [1, 384, 16_000] {
            let v = vec![1f32; dims];
            let block = vectors::encode([0; 16], Stamp::new(1, State::Plain), &v);
            let (mut raw, mut out) = (Vec::new(), Vec::new());
            Query::new(&v).dots(&Vectors::parse(&block).unwrap(), &mut raw, &mut out);
            assert!(
                (out[0] / dims as f32 - 1.0).abs() < 1e-3,
                "{dims}: {}",
                out[0]
            );
        }
    }
}
