//! One bit for each dimension of a vector: enough to say which of many vectors are worth comparing.
//!
//! Idea: RaBitQ, Gao & Long, SIGMOD 2024. A vector v of D dimensions is rotated by a fixed random
//! orthogonal map P, and of r = Pv only the signs s are kept, beside one number, ‖r‖² / ‖r‖₁. Then
//! ⟨s, Pq⟩ · ‖r‖² / ‖r‖₁ estimates ⟨v, q⟩: exactly for q = v, and without bias over the rotations for
//! what of q is at right angles to v, since a random direction leans to neither side. The error is
//! about .75 · ‖v‖ · ‖q‖ / √D: .04 for unit vectors of 384 dimensions, .02 for 1,536. On sentence
//! embeddings (384 dimensions, some thousand memories) .999 of the ten nearest are among the best 100
//! estimates.
//!
//! A query keeps 4 bits of every rotated dimension, odd numbers from −15 to 15. Such a number is the
//! sum of four signs times 1, 2, 4 and 8, so that a dot product with signs counts differing bits
//! only. That adds a sixth to the error at most.
//!
//! Sketches of n vectors together, D rounded up to whole words of 64:
//!
//! | bytes | what |
//! |---|---|
//! | D for each 8 vectors, the last ones padded | signs: the first word of each of the eight, then the second of each … |
//! | 4 n | factors, `f32` |
//!
//! All numbers are little-endian. What is stored depends on [`Rotation`]: a change needs a new format.

/// Vectors whose words lie side by side.
const LANES: usize = 8;
/// Bytes of [`LANES`] words.
const ROW: usize = 8 * LANES;
/// Bits of a query's dimension.
const PLANES: usize = 4;
/// Times that everything is mixed. One spreads a single dimension over half of the others at least,
/// the second over all, and the third evens out.
const ROUNDS: usize = 3;
/// Where the pseudo-random numbers of [`Rotation`] begin.
const SEED: u64 = 0x656e_6772_616d_0001;

/// Signs of a rotated vector in whole words of 64.
fn words(dims: usize) -> usize {
    dims.div_ceil(64).max(1)
}

/// A random rotation of vectors of one number of dimensions, always the same: in each round
/// dimensions change place and sign, and fast Walsh-Hadamard transforms mix the first and the last
/// of them, as many as the largest power of two allows.
pub struct Rotation {
    dims: usize,
    /// For every round and dimension: which one comes here, and with what sign.
    from: Vec<(u32, f32)>,
}

impl Rotation {
    /// For vectors of `dims` dimensions.
    pub fn new(dims: usize) -> Self {
        let padded = 64 * words(dims);
        let mut state = SEED;
        // SplitMix64.
        let mut next = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        let mut from = Vec::with_capacity(ROUNDS * padded);
        let mut order: Vec<u32> = (0u32..).take(padded).collect();
        for _ in 0..ROUNDS {
            for i in (1..padded).rev() {
                order.swap(i, (next() % (i as u64 + 1)) as usize);
            }
            for place in &order {
                from.push((*place, if next() >> 63 == 0 { 1.0 } else { -1.0 }));
            }
        }
        Self { dims, from }
    }

    /// Of how many dimensions the vectors are that this one rotates.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// Rotates a vector, whose length stays. Values further than `dims` count as 0, missing ones too.
    fn turn(&self, vector: impl Iterator<Item = f32>) -> Vec<f32> {
        let padded = 64 * words(self.dims);
        let mut now: Vec<f32> = vector.take(self.dims).collect();
        now.resize(padded, 0.0);
        let mut before = vec![0.0; padded];
        let power = 1 << padded.ilog2();
        for round in self.from.chunks_exact(padded) {
            std::mem::swap(&mut now, &mut before);
            for (to, (place, sign)) in now.iter_mut().zip(round) {
                *to = sign * before[*place as usize];
            }
            hadamard(&mut now[..power]);
            if power < padded {
                hadamard(&mut now[padded - power..]);
            }
        }
        now
    }
}

/// Fast Walsh-Hadamard transform of a power of two of values, scaled so that lengths stay.
fn hadamard(values: &mut [f32]) {
    let mut half = 1;
    while half < values.len() {
        for pair in values.chunks_exact_mut(2 * half) {
            let (left, right) = pair.split_at_mut(half);
            for (a, b) in left.iter_mut().zip(right) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    let scale = 1.0 / (values.len() as f32).sqrt();
    for value in values {
        *value *= scale;
    }
}

/// What is kept of one vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Sketch {
    /// Signs after rotation: a bit is set where the value is not below 0.
    signs: Vec<u64>,
    /// ‖r‖² / ‖r‖₁ of the rotated vector; 0 for a zero vector.
    factor: f32,
}

impl Sketch {
    /// Of a vector.
    pub fn new(rotation: &Rotation, vector: &[f32]) -> Self {
        let largest = vector.iter().fold(0f32, |m, x| m.max(x.abs()));
        Self::scaled(
            rotation,
            vector.iter().map(|x| x / largest),
            f64::from(largest),
        )
    }

    /// Of a vector of 8-bit codes, each an `i8`: value = code × scale, as blocks of vectors hold it.
    pub fn of_codes(rotation: &Rotation, codes: &[u8], scale: f32) -> Self {
        let values = codes.iter().map(|code| f32::from(code.cast_signed()));
        Self::scaled(rotation, values, f64::from(scale))
    }

    /// `values` are at most some hundred, so that no sum of them overflows.
    fn scaled(rotation: &Rotation, values: impl Iterator<Item = f32>, scale: f64) -> Self {
        if scale == 0.0 {
            return Self {
                signs: vec![0; words(rotation.dims)],
                factor: 0.0,
            };
        }
        let turned = rotation.turn(values);
        let (squares, sum) = turned
            .iter()
            .map(|x| f64::from(*x))
            .fold((0.0, 0.0), |(squares, sum), x| {
                (squares + x * x, sum + x.abs())
            });
        let signs = turned
            .as_chunks::<64>()
            .0
            .iter()
            .map(|values| bits(values, |x| x >= 0.0))
            .collect();
        let factor = if sum > 0.0 {
            squares / sum * scale
        } else {
            0.0
        };
        Self {
            signs,
            factor: factor.min(f64::from(f32::MAX)) as f32,
        }
    }
}

/// A bit for each value that is `set`, the first one the lowest.
fn bits<T: Copy>(values: &[T; 64], set: impl Fn(T) -> bool) -> u64 {
    (0u32..)
        .zip(values)
        .fold(0, |bits, (i, x)| bits | u64::from(set(*x)) << i)
}

/// How many bytes the sketches of `n` vectors take together.
pub fn packed_bytes(dims: usize, n: usize) -> usize {
    n.div_ceil(LANES) * ROW * words(dims) + 4 * n
}

/// Sketches of vectors of equal dimensions as they are stored.
pub fn pack(dims: usize, sketches: &[Sketch]) -> Vec<u8> {
    let mut out = Vec::with_capacity(packed_bytes(dims, sketches.len()));
    for group in sketches.chunks(LANES) {
        for word in 0..words(dims) {
            for lane in 0..LANES {
                let signs = group.get(lane).map_or(0, |sketch| sketch.signs[word]);
                out.extend(signs.to_le_bytes());
            }
        }
    }
    for sketch in sketches {
        out.extend(sketch.factor.to_le_bytes());
    }
    out
}

/// Packed sketches, read where they lie.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    dims: usize,
    signs: &'a [u8],
    factors: &'a [[u8; 4]],
}

impl<'a> Packed<'a> {
    /// The sketches of `n` vectors, the first [`packed_bytes`] of `bytes`; `None` when there are
    /// fewer.
    pub fn new(dims: usize, n: usize, bytes: &'a [u8]) -> Option<Self> {
        let bytes = bytes.get(..packed_bytes(dims, n))?;
        let (signs, factors) = bytes.split_at(bytes.len() - 4 * n);
        Some(Self {
            dims,
            signs,
            factors: factors.as_chunks().0,
        })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.factors.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.factors.is_empty()
    }
}

/// A query vector in [`PLANES`] bits a dimension.
pub struct Query {
    dims: usize,
    planes: Vec<[u64; PLANES]>,
    /// What a difference of one stands for. The longest vectors need the range of `f64`.
    step: f64,
}

impl Query {
    /// `vector` has the dimensions of `rotation`.
    pub fn new(rotation: &Rotation, vector: &[f32]) -> Self {
        let longest = vector.iter().fold(0f32, |m, x| m.max(x.abs()));
        let mut turned = vec![0.0; 64 * words(rotation.dims)];
        if longest > 0.0 {
            turned = rotation.turn(vector.iter().map(|x| x / longest));
        }
        let largest = turned.iter().fold(0f32, |m, x| m.max(x.abs()));
        // Levels −15, −13 … 15, of which the outermost reaches half a level beyond itself.
        let step = largest / 16.0;
        let planes = turned
            .as_chunks::<64>()
            .0
            .iter()
            .map(|values| {
                let levels = values.map(|x| ((x / step + 16.0) / 2.0).clamp(0.0, 15.0) as u8);
                std::array::from_fn(|plane| bits(&levels, |level| level >> plane & 1 == 1))
            })
            .collect();
        Self {
            dims: rotation.dims,
            planes,
            step: f64::from(step) * f64::from(longest),
        }
    }

    /// Estimated dot products with all vectors of `packed`, appended to `out`. Those with vectors of
    /// other dimensions are 0. `raw` is room to work in.
    pub fn estimates(&self, packed: &Packed<'_>, raw: &mut Vec<i32>, out: &mut Vec<f32>) {
        raw.clear();
        raw.resize(packed.len().next_multiple_of(LANES), 0);
        if packed.dims == self.dims {
            products(&self.planes, packed.signs, raw);
        }
        out.extend(raw.iter().zip(packed.factors).map(|(raw, factor)| {
            let factor = f64::from(f32::from_le_bytes(*factor));
            (f64::from(*raw) * self.step * factor) as f32
        }));
    }
}

/// The sum over dimensions of sign times level, one for each place of `out`, [`LANES`] places a
/// group. Whole numbers, so that all paths give the same bits.
fn products(planes: &[[u64; PLANES]], signs: &[u8], out: &mut [i32]) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vpopcntdq") {
            // SAFETY: the processor has just been asked for both features.
            return unsafe { avx512(planes, signs, out) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: as above.
            return unsafe { avx2(planes, signs, out) };
        }
    }
    // NEON, which counts bits, is part of the baseline on aarch64.
    portable(planes, signs, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vpopcntdq")]
fn avx512(planes: &[[u64; PLANES]], signs: &[u8], out: &mut [i32]) {
    portable(planes, signs, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(planes: &[[u64; PLANES]], signs: &[u8], out: &mut [i32]) {
    portable(planes, signs, out);
}

#[inline(always)]
fn portable(planes: &[[u64; PLANES]], signs: &[u8], out: &mut [i32]) {
    let full = (64 * planes.len() * 15) as i32;
    let (rows, _) = signs.as_chunks::<ROW>();
    let (groups, _) = out.as_chunks_mut::<LANES>();
    for (out, rows) in groups
        .iter_mut()
        .zip(rows.chunks_exact(planes.len().max(1)))
    {
        let mut differ = [[0u64; LANES]; PLANES];
        for (row, planes) in rows.iter().zip(planes) {
            let (row, _) = row.as_chunks::<8>();
            for (differ, plane) in differ.iter_mut().zip(planes) {
                for (differ, word) in differ.iter_mut().zip(row) {
                    *differ += u64::from((u64::from_le_bytes(*word) ^ plane).count_ones());
                }
            }
        }
        for (lane, out) in out.iter_mut().enumerate() {
            let differ: u64 = (0u32..).zip(&differ).map(|(j, d)| d[lane] << j).sum();
            *out = full - 2 * differ as i32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::{Stamp, State, vectors};
    use crate::model::similarity::norm;
    use proptest::prelude::*;

    /// About normally distributed numbers, the same in every run.
    struct Normal(u64);

    impl Normal {
        fn next(&mut self) -> f32 {
            let mut sum = 0.0;
            for _ in 0..4 {
                self.0 = self
                    .0
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                sum += (self.0 >> 40) as f32 / (1u32 << 24) as f32 - 0.5;
            }
            sum * 3f32.sqrt()
        }

        fn vector(&mut self, dims: usize) -> Vec<f32> {
            (0..dims).map(|_| self.next()).collect()
        }

        /// Near `centre`: `spread` is the share of its length that is added at random.
        fn near(&mut self, centre: &[f32], spread: f32) -> Vec<f32> {
            let v: Vec<f32> = centre.iter().map(|c| c + spread * self.next()).collect();
            let length = norm(&v) as f32;
            v.iter().map(|x| x / length).collect()
        }
    }

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum()
    }

    fn estimates(dims: usize, query: &[f32], vectors: &[Vec<f32>]) -> Vec<f32> {
        let rotation = Rotation::new(dims);
        let sketches: Vec<Sketch> = vectors.iter().map(|v| Sketch::new(&rotation, v)).collect();
        let packed = pack(dims, &sketches);
        assert_eq!(packed.len(), packed_bytes(dims, vectors.len()));
        let mut out = Vec::new();
        let packed = Packed::new(dims, vectors.len(), &packed).unwrap();
        Query::new(&rotation, query).estimates(&packed, &mut Vec::new(), &mut out);
        out
    }

    proptest! {
        #[test]
        fn all_paths_agree_with_counting_one_by_one(words in 1usize..8, groups in 0usize..4, seed: u64) {
            let mut x = seed;
            let mut next = || {
                x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                x ^ x >> 29
            };
            let planes: Vec<[u64; PLANES]> = (0..words).map(|_| std::array::from_fn(|_| next())).collect();
            let signs: Vec<u64> = (0..words * groups * LANES).map(|_| next()).collect();
            let bytes: Vec<u8> = signs.iter().flat_map(|w| w.to_le_bytes()).collect();
            let wanted: Vec<i32> = (0..groups * LANES).map(|i| {
                let mut sum = 0;
                for d in 0..64 * words {
                    let word = signs[(i / LANES * words + d / 64) * LANES + i % LANES];
                    let sign = if word >> (d % 64) & 1 == 1 { 1 } else { -1 };
                    let level: i32 = (0..PLANES).map(|p| ((planes[d / 64][p] >> (d % 64) & 1) as i32) << p).sum();
                    sum += sign * (2 * level - 15);
                }
                sum
            }).collect();
            let mut out = vec![0; wanted.len()];
            portable(&planes, &bytes, &mut out);
            prop_assert_eq!(&out, &wanted);
            out.fill(0);
            products(&planes, &bytes, &mut out);
            prop_assert_eq!(&out, &wanted);
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") {
                out.fill(0);
                // SAFETY: the processor has just been asked.
                unsafe { avx2(&planes, &bytes, &mut out) };
                prop_assert_eq!(&out, &wanted);
            }
        }

        #[test]
        fn rotating_keeps_lengths_and_angles(dims in 1usize..700, seed: u64) {
            let mut normal = Normal(seed);
            let (a, b) = (normal.vector(dims), normal.vector(dims));
            let rotation = Rotation::new(dims);
            let (ra, rb) = (rotation.turn(a.iter().copied()), rotation.turn(b.iter().copied()));
            let lengths = norm(&a) * norm(&b);
            prop_assert!((norm(&ra) - norm(&a)).abs() <= 1e-4 * norm(&a));
            prop_assert!((dot(&ra, &rb) - dot(&a, &b)).abs() <= 1e-4 * lengths);
        }

        #[test]
        fn estimates_are_near(dims in 1usize..500, n in 0usize..20, sparse: bool, seed: u64) {
            let mut normal = Normal(seed);
            let mut vectors: Vec<Vec<f32>> = (0..n).map(|_| normal.vector(dims)).collect();
            if sparse {
                // All weight on one dimension is what mixing has to spread.
                for (i, v) in vectors.iter_mut().enumerate() {
                    v.fill(0.0);
                    v[(i * 37) % dims] = -2.0;
                }
            }
            let query = normal.vector(dims);
            let found = estimates(dims, &query, &vectors);
            prop_assert_eq!(found.len(), n);
            for (v, found) in vectors.iter().zip(found) {
                let error = (f64::from(found) - dot(v, &query)).abs();
                // Five standard deviations.
                let bound = 5.0 * 0.78 * norm(v) * norm(&query) / ((64 * words(dims)) as f64).sqrt();
                prop_assert!(error <= bound, "{error} {bound}");
            }
        }

        #[test]
        fn codes_give_what_their_vectors_give(dims in 1usize..300, seed: u64) {
            let mut normal = Normal(seed);
            let (v, query) = (normal.vector(dims), normal.vector(dims));
            let block = vectors::encode([0; 16], Stamp::new(1, State::Plain), &v);
            let block = vectors::Vectors::parse(&block).unwrap();
            let rotation = Rotation::new(dims);
            let sketch = Sketch::of_codes(&rotation, block.codes(0), block.scale(0));
            let back: Vec<f32> = block.codes(0).iter().map(|c| f32::from(c.cast_signed()) * block.scale(0)).collect();
            let packed = pack(dims, &[sketch]);
            let mut out = Vec::new();
            Query::new(&rotation, &query)
                .estimates(&Packed::new(dims, 1, &packed).unwrap(), &mut Vec::new(), &mut out);
            let other = f64::from(estimates(dims, &query, &[back])[0]);
            // A dimension next to 0 may round to the other side.
            prop_assert!((f64::from(out[0]) - other).abs() <= 0.05 * norm(&v) * norm(&query));
        }
    }

    /// How many of the best ten are among the `kept` best estimates, on average of some queries.
    fn recall(n: usize, kept: usize, clusters: usize) -> f64 {
        let dims = 384;
        let mut normal = Normal(n as u64);
        let centres: Vec<Vec<f32>> = (0..clusters).map(|_| normal.vector(dims)).collect();
        let vectors: Vec<Vec<f32>> = (0..n)
            .map(|i| normal.near(&centres[i % clusters], 1.0))
            .collect();
        let rotation = Rotation::new(dims);
        let sketches: Vec<Sketch> = vectors.iter().map(|v| Sketch::new(&rotation, v)).collect();
        let packed = pack(dims, &sketches);
        let packed = Packed::new(dims, n, &packed).unwrap();
        let queries = 20;
        let mut found = 0;
        for q in 0..queries {
            let query = normal.near(&vectors[q * 97], 0.04);
            let mut exact: Vec<(f64, usize)> =
                vectors.iter().map(|v| dot(v, &query)).zip(0..).collect();
            exact.sort_by(|a, b| b.0.total_cmp(&a.0));
            let mut out = Vec::new();
            Query::new(&rotation, &query).estimates(&packed, &mut Vec::new(), &mut out);
            let mut order: Vec<usize> = (0..n).collect();
            order.sort_by(|a, b| out[*b].total_cmp(&out[*a]));
            let kept = &order[..kept];
            found += exact[..10].iter().filter(|(_, i)| kept.contains(i)).count();
        }
        found as f64 / (10 * queries) as f64
    }

    #[test]
    fn the_best_are_among_the_best_estimates() {
        let clusters = 40;
        let small = recall(5_000, 200, clusters);
        assert!(small >= 0.99, "{small}");
        let (n, kept) = if cfg!(debug_assertions) {
            (20_000, 500)
        } else {
            (100_000, 1_000)
        };
        let large = recall(n, kept, n / 125);
        assert!(large >= 0.98, "{large}");
    }

    /// The estimate is right on average over queries, and as exact as the theory says.
    #[test]
    fn errors_have_no_bias() {
        let dims = 384;
        let mut normal = Normal(5);
        let mut errors = Vec::new();
        for _ in 0..60 {
            let query = normal.near(&vec![0.0; dims], 1.0);
            let vectors: Vec<Vec<f32>> = (0..30).map(|_| normal.near(&query, 0.05)).collect();
            let found = estimates(dims, &query, &vectors);
            let found = found.iter().zip(&vectors);
            errors.extend(found.map(|(found, v)| f64::from(*found) - dot(v, &query)));
        }
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        let deviation = (errors.iter().map(|e| e * e).sum::<f64>() / errors.len() as f64).sqrt();
        assert!(mean.abs() < 0.005, "{mean}");
        assert!(deviation < 0.04, "{deviation}");
    }

    #[test]
    fn extremes_have_sketches() {
        for dims in [1, 2, 63, 64, 65, 16_000] {
            for value in [0.0, 1e-45, 1e-10, 1.0, 1e15] {
                let v = vec![value; dims];
                let found = f64::from(estimates(dims, &v, std::slice::from_ref(&v))[0]);
                let exact = f64::from(value).powi(2) * dims as f64;
                assert!(
                    (found - exact).abs() <= 0.2 * exact.max(1e-37),
                    "{dims} {value}: {found} {exact}"
                );
            }
            let v = vec![f32::MAX; dims];
            assert!(!estimates(dims, &v, std::slice::from_ref(&v))[0].is_nan());
        }
        let rotation = Rotation::new(3);
        assert_eq!(rotation.dims(), 3);
        let packed = pack(3, &[Sketch::new(&rotation, &[1.0, 2.0, 3.0])]);
        assert!(Packed::new(3, 1, &packed[1..]).is_none());
        let packed = Packed::new(3, 1, &packed).unwrap();
        assert!(!packed.is_empty());
        let mut out = Vec::new();
        Query::new(&Rotation::new(65), &[1.0; 65]).estimates(&packed, &mut Vec::new(), &mut out);
        assert_eq!(out, [0.0], "of other dimensions");
    }
}
