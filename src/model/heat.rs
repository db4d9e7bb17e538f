//! Heat: all uses of a memory in 80 bytes, from which its base-level activation is read for any decay.
//!
//! B = ln Σ g·age^-d is a sum of power laws, and a power law is a sum of exponentials: sampling
//! t^-d = Γ(d)⁻¹ ∫ λ^(d−1) e^(−λt) dλ at λ_m = 1.5·4^-m per second (Beylkin & Monzón 2005, 2010) leaves
//! 16 counters that fade exponentially, c_m = Σ g·e^(−λ_m·age). They do not depend on d, take uses in
//! any order and merge by adding, and B = ln Σ w_m(d)·c_m. Decayed sums of a stream are those of
//! Cohen & Strauss 2003.
//!
//! For ages from 1 s to 5 years and whatever pattern, B is off by at most ε(d) + 1e-4 nats with
//! ε = 0.0012, 0.0024, 0.0056 for d = 0.3, 0.5, 0.8; between the multiples of 0.05 by up to 0.009, and
//! below 0.2 by more, so that only 0.1, 0.15 and 0.2 should be used there. Older uses count too little:
//! by 0.03 nats at 10 years, by 0.2 at 20 (d = 0.5).
//!
//! Counters are stored with 24 bits. Rounded to the nearest, what a counter loses between two touches would
//! be rounded away each time where that is less than half a digit, and errors would add up. So a touch rounds
//! up as often as the part of a digit says, by a hash of what is rounded: equal touches give equal bytes
//! everywhere, and n of them are off by about √n·5e-8, far less than the 1e-4 above. Beside a gain
//! that is ten million times as large a use is less than a digit, and lost when the large one is taken back.

use std::f64::consts::LN_2;

use crate::simd;

/// Number of counters.
pub const COUNTERS: usize = 16;

/// The counter that fades in a month (τ = 32.4 days): the mass of a memory among its links.
pub const MASS: usize = 11;

/// Least decay exponent.
pub const MIN_D: f64 = 0.1;

/// Greatest decay exponent.
pub const MAX_D: f64 = 0.95;

/// Bytes of an encoded heat.
pub const BYTES: usize = 80;

const VERSION: u8 = 1;
const MICROS: f64 = 1e-6;
const SECOND: i64 = 1_000_000;

/// λ of the slowest counter.
const SLOWEST: f64 = rate(COUNTERS - 1);

/// λ_m in 1/s.
const fn rate(m: usize) -> f64 {
    1.5 / (1u64 << (2 * m)) as f64
}

/// Uses of a memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heat {
    /// The moment as of which the counters hold, that of the latest use: microseconds since
    /// 2000-01-01, as PostgreSQL counts.
    pub at: i64,
    /// Number of uses.
    pub uses: u32,
    /// c_m, the fastest first; finite and not negative.
    pub counters: [f32; COUNTERS],
}

impl Heat {
    /// One use at `at` of weight `gain` ≥ 0; none when `gain` is 0.
    pub fn new(at: i64, gain: f64) -> Self {
        HeatSum::new(at, gain).nearest()
    }

    /// Counts a use at `at`, which may be earlier than the latest. `gain` 0 counts nothing and lets the
    /// heat fade up to `at`; a negative one takes a use back that was counted then, see
    /// [`Heat::holds`]. Counters saturate. For many in a row [`HeatSum`] is better, which rounds once.
    pub fn touch(&mut self, at: i64, gain: f64) {
        let mut sum = HeatSum::from(&*self);
        sum.touch(at, gain);
        *self = sum.dithered();
    }

    /// Whether [`Heat::touch`] would not take away more than there is, as far as the counters tell: a use
    /// that was counted at another moment shows, unless there are too many others beside it.
    pub fn holds(&self, at: i64, gain: f64) -> bool {
        let mut before = HeatSum::from(self);
        before.touch(at, 0.0);
        let mut after = before;
        after.touch(at, gain);
        // A slower counter has kept more of every use. Older versions have rounded uses one by one, always to the same
        // side at worst.
        let slack = before.largest() * (1e-5 + 1e-7 * f64::from(self.uses));
        let falls = |sum: &HeatSum, m: usize| sum.counters[m] - sum.counters[m + 1];
        after.heat(gain.abs()).is_some()
            && (0..COUNTERS - 1).all(|m| falls(&after, m) <= falls(&before, m).max(0.0) + slack)
    }

    /// Adds the uses of another memory.
    pub fn merge(&mut self, other: &Heat) {
        let mut sum = HeatSum::from(&*self);
        sum.merge(&HeatSum::from(other));
        *self = sum.dithered();
    }

    /// Base-level activation in nats at `now` (as [`Heat::at`]), with the decay exponent `d` in
    /// 0.1..=0.95 (beyond, the nearest); −∞ without any use. Nothing is read less than a second after
    /// the latest use: that is when `now` is taken to be then.
    pub fn level(&self, now: i64, d: f64) -> f64 {
        self.level_with(now, &Weights::new(d))
    }

    /// [`Heat::level`] with weights that serve many calls.
    pub fn level_with(&self, now: i64, weights: &Weights) -> f64 {
        let mut odds = [0.0];
        simd::odds(std::slice::from_ref(self), now, weights, &mut odds);
        self.level_of(odds[0], now, weights)
    }

    /// [`Heat::level`] of many, added to `levels`.
    pub fn levels(heats: &[Heat], now: i64, weights: &Weights, levels: &mut Vec<f64>) {
        let start = levels.len();
        levels.resize(start + heats.len(), 0.0);
        simd::odds(heats, now, weights, &mut levels[start..]);
        for (level, heat) in levels[start..].iter_mut().zip(heats) {
            *level = heat.level_of(*level, now, weights);
        }
    }

    /// Seconds since the latest use, at least 1.
    fn lag(&self, now: i64) -> f64 {
        seconds(self.at, now.max(self.at.saturating_add(SECOND)))
    }

    fn level_of(&self, odds: f64, now: i64, weights: &Weights) -> f64 {
        let (last, lag) = (COUNTERS - 1, self.lag(now));
        if SLOWEST * lag > 30.0 {
            // After 650 years all but the slowest counter are nothing beside it.
            return (weights.0[last] * f64::from(self.counters[last])).ln() - SLOWEST * lag;
        }
        odds.max(0.0).ln()
    }

    /// Counter `m` < [`COUNTERS`] at `now`, or as of the latest use if that is later: the gains of all
    /// uses, each faded by e^(−λ_m·age). Its time constant is ⅔·4^m s.
    pub fn mass(&self, m: usize, now: i64) -> f64 {
        let lag = seconds(self.at, now).max(0.0);
        f64::from(self.counters[m]) * (-rate(m) * lag).exp()
    }

    /// Version 1 of the format, little endian: the byte 1, three of 0, `at` (8), `uses` (4), the
    /// counters (4 each).
    pub fn encode(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[0] = VERSION;
        bytes[4..12].copy_from_slice(&self.at.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.uses.to_le_bytes());
        for (to, counter) in bytes[16..].chunks_exact_mut(4).zip(&self.counters) {
            to.copy_from_slice(&counter.to_le_bytes());
        }
        bytes
    }

    /// Reads what [`Heat::encode`] wrote.
    ///
    /// # Errors
    /// For anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let bytes: &[u8; BYTES] = bytes
            .try_into()
            .map_err(|_| Unreadable::Length(bytes.len()))?;
        if bytes[..4] != [VERSION, 0, 0, 0] {
            return Err(Unreadable::Format([bytes[0], bytes[1], bytes[2], bytes[3]]));
        }
        let (at, rest) = bytes[4..].split_first_chunk().unwrap_or((&[0; 8], &[]));
        let (uses, rest) = rest.split_first_chunk().unwrap_or((&[0; 4], &[]));
        let mut counters = [0.0; COUNTERS];
        for (counter, from) in counters.iter_mut().zip(rest.as_chunks().0) {
            *counter = f32::from_le_bytes(*from);
        }
        let at = i64::from_le_bytes(*at);
        if at == i64::MIN || at == i64::MAX {
            return Err(Unreadable::Infinite);
        }
        let wrong = |c: &f32| !(*c >= 0.0 && *c <= f32::MAX);
        // All at once, which is several at a time; which one it is matters to nobody else.
        if counters.iter().fold(false, |any, c| any | wrong(c)) {
            let m = counters.iter().position(wrong).unwrap_or(0);
            return Err(Unreadable::Counter(m, counters[m]));
        }
        Ok(Self {
            at,
            uses: u32::from_le_bytes(*uses),
            counters,
        })
    }
}

/// Why bytes are no heat.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Unreadable {
    /// Their number.
    #[error("it has {0} bytes, not {BYTES}")]
    Length(usize),
    /// Format version and reserved bytes.
    #[error("its format is {0:?}, not [{VERSION}, 0, 0, 0]")]
    Format([u8; 4]),
    /// The time is not a moment.
    #[error("its time is infinite")]
    Infinite,
    /// A counter and its value.
    #[error("counter {0} is {1}")]
    Counter(usize, f32),
}

/// A heat being added up, with more digits, so that the order of what is added does not show.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeatSum {
    at: i64,
    uses: i64,
    counters: [f64; COUNTERS],
}

impl From<&Heat> for HeatSum {
    fn from(heat: &Heat) -> Self {
        Self {
            at: heat.at,
            uses: heat.uses.into(),
            counters: heat.counters.map(f64::from),
        }
    }
}

impl HeatSum {
    /// Bytes of an encoded sum.
    pub const BYTES: usize = 16 + 8 * COUNTERS;

    /// The sum of one use.
    pub fn new(at: i64, gain: f64) -> Self {
        Self {
            at,
            uses: uses(gain),
            counters: [gain; COUNTERS],
        }
    }

    /// As [`Heat::touch`], but while it is a sum it may be less than nothing.
    pub fn touch(&mut self, at: i64, gain: f64) {
        self.uses = self.uses.saturating_add(uses(gain));
        if at >= self.at {
            let kept = kept(seconds(self.at, at));
            for (counter, kept) in self.counters.iter_mut().zip(kept) {
                *counter = *counter * kept + gain;
            }
            self.at = at;
        } else {
            let kept = kept(seconds(at, self.at));
            for (counter, kept) in self.counters.iter_mut().zip(kept) {
                *counter += gain * kept;
            }
        }
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &HeatSum) {
        let (later, earlier) = if self.at >= other.at {
            (*self, other)
        } else {
            (*other, &*self)
        };
        let kept = kept(seconds(earlier.at, later.at));
        *self = Self {
            at: later.at,
            uses: later.uses.saturating_add(earlier.uses),
            counters: std::array::from_fn(|m| later.counters[m] + earlier.counters[m] * kept[m]),
        };
    }

    /// The heat, unless more was taken away than there was. `largest` is the largest gain that was
    /// taken back: so much the greater are rounding errors.
    pub fn heat(&self, largest: f64) -> Option<Heat> {
        let slack = 1e-6 * self.largest().max(largest).max(1.0);
        let enough = self.uses >= 0 && self.counters.iter().all(|c| *c >= -slack);
        enough.then(|| self.nearest())
    }

    fn largest(&self) -> f64 {
        self.counters.iter().copied().fold(0.0, f64::max)
    }

    /// The heat, with nothing in place of less than nothing; for what is added to again, over and over. Of what
    /// came from a heat and was not touched since, that heat.
    pub fn dithered(&self) -> Heat {
        // Digits of f64 that f32 has not.
        const MORE: u32 = f64::MANTISSA_DIGITS - f32::MANTISSA_DIGITS;
        const MASK: u64 = (1 << MORE) - 1;
        // Not of the counters themselves, whose last digits are those of whoever computed them.
        let seed = mixed(self.at as u64 ^ mixed(self.uses as u64));
        self.rounded(|m, counter| {
            let bits = counter.to_bits();
            let noise = mixed(seed ^ (bits & !MASK) ^ m as u64) & MASK;
            // What is added carries into the digits that stay as often as those that go say.
            f64::from_bits((bits + noise) & !MASK) as f32
        })
    }

    /// The heat, with nothing in place of less than nothing, each counter as near as can be.
    fn nearest(&self) -> Heat {
        self.rounded(|_, counter| counter as f32)
    }

    fn rounded(&self, round: impl Fn(usize, f64) -> f32) -> Heat {
        // What remains of uses that were all taken back is rounding error.
        let all_gone = self.uses <= 0 && self.counters.iter().all(|c| *c < 1e-6);
        Heat {
            at: self.at,
            uses: u32::try_from(self.uses.max(0)).unwrap_or(u32::MAX),
            // Too little to matter is dropped before it gets slow to compute with.
            counters: std::array::from_fn(|m| {
                let counter = self.counters[m];
                if all_gone || counter < 1e-30 {
                    0.0
                } else {
                    round(m, counter.min(f32::MAX.into()))
                }
            }),
        }
    }

    /// `at`, `uses`, counters, little endian.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.at.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.uses.to_le_bytes());
        for (to, counter) in bytes[16..].chunks_exact_mut(8).zip(&self.counters) {
            to.copy_from_slice(&counter.to_le_bytes());
        }
        bytes
    }

    /// Reads what [`HeatSum::encode`] wrote; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let (at, rest) = bytes.split_first_chunk()?;
        let (uses, rest) = rest.split_first_chunk()?;
        let mut counters = [0.0; COUNTERS];
        for (counter, from) in counters.iter_mut().zip(rest.as_chunks().0) {
            *counter = f64::from_le_bytes(*from);
        }
        counters.iter().all(|c| c.is_finite()).then_some(Self {
            at: i64::from_le_bytes(*at),
            uses: i64::from_le_bytes(*uses),
            counters,
        })
    }
}

fn uses(gain: f64) -> i64 {
    i64::from(gain > 0.0) - i64::from(gain < 0.0)
}

/// A hash (the last steps of SplitMix64, Steele, Lea & Flood 2014).
fn mixed(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

fn seconds(from: i64, to: i64) -> f64 {
    to.saturating_sub(from) as f64 * MICROS
}

/// What `lag` ≥ 0 seconds leave of each counter, e^(−λ_m·lag).
///
/// Each is the fourth power of the next. Four exponentials and the powers between them are as fast as
/// one and thirty multiplications in a row, and lose no digits. What is below 1e-16 is 0, since
/// denormal numbers are slow. The exponential is our own, which is the same on all machines.
fn kept(lag: f64) -> [f64; COUNTERS] {
    let mut kept = [0.0; COUNTERS];
    for (block, to) in kept.as_chunks_mut::<4>().0.iter_mut().enumerate().rev() {
        let exponent = rate(4 * block + 3) * lag;
        if exponent > 37.0 && block < 3 {
            break;
        }
        let mut e = faded(-exponent);
        to[3] = e;
        for to in to[..3].iter_mut().rev() {
            if e < 1e-4 {
                break;
            }
            e *= e;
            e *= e;
            *to = e;
        }
    }
    kept
}

/// Σ w_m·c_m·e^(−λ_m·lag) of each heat; see [`simd::odds`].
#[inline(always)]
pub fn odds_of(heats: &[Heat], now: i64, weights: &Weights, odds: &mut [f64]) {
    for (heat, odds) in heats.iter().zip(odds) {
        let lag = heat.lag(now);
        // Plain loops: closures would not be compiled for the processor.
        let mut shares = [0.0; COUNTERS];
        for m in 0..COUNTERS {
            shares[m] = faded(-RATES[m] * lag) * (weights.0[m] * f64::from(heat.counters[m]));
        }
        // In an order that does not depend on the processor.
        for half in [8, 4, 2, 1] {
            for m in 0..half {
                shares[m] += shares[m + half];
            }
        }
        *odds = shares[0];
    }
}

/// λ_m in 1/s.
const RATES: [f64; COUNTERS] = {
    let mut rates = [0.0; COUNTERS];
    let mut m = 0;
    while m < COUNTERS {
        rates[m] = rate(m);
        m += 1;
    }
    rates
};

/// e^x for x ≤ 0, 0 below e^−37, which is nothing beside the slowest counter; relative error below 1e-14.
/// Straight on, so that many are computed at once: x = k·ln 2 + r, and e^r by its power series.
#[inline(always)]
fn faded(x: f64) -> f64 {
    /// Adding it rounds to a whole number, which is then in the lowest bits.
    const WHOLE: f64 = 6_755_399_441_055_744.0;
    /// ln 2 as a sum; the first part has few enough digits to be multiplied without error.
    const LN_2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
    const LN_2_LOW: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);
    let near = x.max(-40.0);
    let shifted = near * std::f64::consts::LOG2_E + WHOLE;
    let k = shifted - WHOLE;
    let r = (near - k * LN_2_HIGH) - k * LN_2_LOW;
    // Pairs of terms, and pairs of pairs: one after the other, each would wait for the one before.
    let c = &INVERSE_FACTORIALS;
    let (r2, r4) = (r * r, r * r * (r * r));
    let low = (c[0] + c[1] * r) + (c[2] + c[3] * r) * r2;
    let middle = (c[4] + c[5] * r) + (c[6] + c[7] * r) * r2;
    let high = (c[8] + c[9] * r) + (c[10] + c[11] * r) * r2;
    let sum = low + (middle + high * r4) * r4;
    let power = f64::from_bits((shifted.to_bits() << 52).wrapping_add(1023 << 52));
    if x < -37.0 { 0.0 } else { sum * power }
}

/// 1/n!
const INVERSE_FACTORIALS: [f64; 12] = {
    let mut all = [1.0; 12];
    let mut n = 1;
    while n < 12 {
        all[n] = all[n - 1] / n as f64;
        n += 1;
    }
    all
};

/// w_m of one d: x_m·ln 4·λ_m^d / Γ(d).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights([f64; COUNTERS]);

impl Weights {
    /// For a `d` in 0.1..=0.95; beyond, for the nearest.
    pub fn new(d: f64) -> Self {
        let d = d.clamp(MIN_D, MAX_D);
        let place = (d - MIN_D) / STEP_D;
        let row = (place as usize).min(CORRECTIONS.len() - 2);
        let part = place - row as f64;
        let (low, high) = (&CORRECTIONS[row], &CORRECTIONS[row + 1]);
        let mut weight = 2.0 * LN_2 * reciprocal_gamma(d) * rate(0).powf(d);
        let next = (-2.0 * LN_2 * d).exp();
        Self(std::array::from_fn(|m| {
            let w = weight * (low[m] + part * (high[m] - low[m]));
            weight *= next;
            w
        }))
    }
}

/// 1/Γ(x) for x in 0..1, by its power series (Abramowitz & Stegun 6.1.34).
fn reciprocal_gamma(x: f64) -> f64 {
    const SERIES: [f64; 20] = [
        1.0,
        0.577_215_664_901_532_9,
        -0.655_878_071_520_253_9,
        -0.042_002_635_034_095_24,
        0.166_538_611_382_291_5,
        -0.042_197_734_555_544_34,
        -0.009_621_971_527_876_973,
        0.007_218_943_246_663_1,
        -0.001_165_167_591_859_065,
        -0.000_215_241_674_114_950_97,
        0.000_128_050_282_388_116_2,
        -2.013_485_478_078_824e-5,
        -1.250_493_482_142_670_7e-6,
        1.133_027_231_981_696e-6,
        -2.056_338_416_977_607e-7,
        6.116_095_104_481_416e-9,
        5.002_007_644_469_223e-9,
        -1.181_274_570_487_02e-9,
        1.043_426_711_691_100_5e-10,
        7.782_263_439_905_071e-12,
    ];
    x * SERIES.iter().rev().fold(0.0, |sum, c| sum * x + c)
}

/// Between the rows of [`CORRECTIONS`].
const STEP_D: f64 = 0.05;

/// x_m for d = 0.10, 0.15 .. 0.95: what makes the sum fit best from 1 s to 5 years, in relative terms.
/// Nearly 1, but at the slow end, where the last counters stand for all that are not there.
#[rustfmt::skip]
const CORRECTIONS: [[f64; COUNTERS]; 18] = [
    [1.002437124, 1.00121517, 0.9991589601, 1.000637426, 0.9993238574, 1.000984661, 0.9983110922, 1.00307389, 0.9942892876, 1.010755145, 0.9791130525, 1.044796213, 0.8706702761, 1.657043355, -3.045826457, 11.6499111],
    [1.00226989, 1.001234074, 0.999202769, 1.000526575, 0.9995399396, 1.000581241, 0.9990577709, 1.001692417, 0.9968509069, 1.005962636, 0.9883575286, 1.025047769, 0.9276060869, 1.372781088, -1.402466897, 7.816915477],
    [1.002107697, 1.00126991, 0.9992117766, 1.000481228, 0.9996342081, 1.000402902, 0.9993889584, 1.001077664, 0.9979940652, 1.003817402, 0.992507452, 1.016148869, 0.953491162, 1.240570951, -0.6118642134, 5.913749723],
    [1.001972506, 1.001304903, 0.9992110705, 1.000458708, 0.9996833606, 1.000309386, 0.9995622806, 1.000755341, 0.998594371, 1.00268806, 0.994697058, 1.011436193, 0.9673391203, 1.167914656, -0.1595710274, 4.782481754],
    [0.998656388, 1.000353093, 0.9996633304, 1.000545087, 0.9990044013, 1.001808668, 0.9969845798, 1.004365462, 0.9942499535, 1.00638928, 0.9932175563, 1.008737905, 0.9813995381, 1.10799945, 0.1553204935, 4.014764447],
    [0.9990602713, 1.000243324, 0.9997691752, 1.000375179, 0.9993078265, 1.00126026, 0.9978944335, 1.002977789, 0.9961524671, 1.004301593, 0.9954942795, 1.005813687, 0.9875810841, 1.0762976, 0.3592210506, 3.476311597],
    [1.000119279, 1.000003455, 0.9999830821, 1.000029816, 0.9999375667, 1.000118475, 0.9997651251, 1.000448814, 0.9991647231, 1.00145362, 0.9976549476, 1.003549375, 0.9914951891, 1.055367125, 0.5026420216, 3.077207306],
    [1.001662111, 0.9999337161, 1.000007727, 1.000002941, 0.9999798559, 1.000039953, 0.9999140341, 1.000166004, 0.9996718939, 1.000619993, 0.998862001, 1.002110787, 0.9940594325, 1.04094339, 0.6073413036, 2.770308742],
    [1.002331972, 0.9999076951, 1.000015417, 0.9999948681, 0.9999912373, 1.00001824, 0.9999547136, 1.000086341, 0.9998221664, 1.00034443, 0.999323125, 1.001393462, 0.9957417573, 1.030812303, 0.6855366648, 2.528025703],
    [1.003072954, 0.999881207, 1.000021591, 0.9999898128, 0.9999964662, 1.00000836, 0.9999722288, 1.00005116, 0.9998890653, 1.000216307, 0.9995559408, 1.000961196, 0.9969072248, 1.023454952, 0.7454484585, 2.33216628],
    [1.004490414, 0.9998251196, 1.000033745, 0.9999828949, 1.000000894, 1.000001858, 0.9999820788, 1.000031145, 0.9999267368, 1.000141914, 0.9996973448, 1.000674978, 0.997730657, 1.018029708, 0.7920759636, 2.171057122],
    [1.005504753, 0.9997786192, 1.000043705, 0.9999772754, 1.000003814, 0.9999975588, 0.9999878112, 1.000018869, 0.9999494309, 1.00009563, 0.9997877992, 1.00048104, 0.9983193008, 1.013963428, 0.8289309351, 2.036462966],
    [1.00736761, 0.9998411169, 1.000025295, 0.9999846391, 1.00000014, 0.999997296, 0.9999897322, 1.000011965, 0.999962447, 1.000067511, 0.9998439616, 1.000352739, 0.9987404109, 1.010867275, 0.8585028089, 1.922430698],
    [1.00864242, 0.9998829977, 1.000012795, 0.9999892981, 0.9999975914, 0.9999967255, 0.9999911734, 1.000006375, 0.9999726048, 1.000044936, 0.9998888289, 1.000251276, 0.9990656543, 1.00844233, 0.8826295481, 1.824510969],
    [1.012522764, 0.9973779372, 1.000466536, 0.9997808086, 1.000088529, 0.9999520876, 1.000012407, 0.9999926336, 0.9999841179, 1.000026337, 0.9999225992, 1.000174484, 0.9993160331, 1.00651354, 0.9026095848, 1.739361559],
    [1.01497698, 0.9958622228, 1.001111165, 0.9993744491, 1.000273951, 0.999858642, 1.000054665, 0.9999700725, 0.9999976268, 1.000010615, 0.9999474823, 1.000116923, 0.9995149049, 1.004915219, 0.9196232914, 1.663977374],
    [1.018042894, 0.9926203595, 1.005305829, 0.9962662367, 1.002696578, 0.9984945273, 1.000655145, 0.9996779313, 1.000130855, 0.9999406574, 0.9999937247, 1.000055781, 0.999689188, 1.003542726, 0.9344453935, 1.596148231],
    [1.021055939, 0.9897841664, 1.008779225, 0.9925309501, 1.007680192, 0.9949833406, 1.002829135, 0.9984717382, 1.000647623, 0.9996888625, 1.00011786, 0.9999603644, 0.9998685917, 1.002276516, 0.9479089288, 1.533532402],
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::activation;
    use crate::model::vectors::{cases, number, numbers, vectors};
    use proptest::prelude::*;
    use serde_json::Value;

    const YEAR: f64 = 365.25 * 86_400.0;

    fn micros(seconds: f64) -> i64 {
        (seconds * 1e6).round() as i64
    }

    /// Uses (seconds, gain), one after the other.
    fn heat(uses: impl IntoIterator<Item = (f64, f64)>) -> Heat {
        let mut uses = uses.into_iter();
        let (at, gain) = uses.next().unwrap();
        let mut heat = Heat::new(micros(at), gain);
        uses.for_each(|(at, gain)| heat.touch(micros(at), gain));
        heat
    }

    #[track_caller]
    fn assert_counters(heat: &Heat, case: &Value) {
        assert_eq!(heat.at, micros(number(case, "t_ref")));
        for (got, wanted) in heat.counters.iter().zip(numbers(case, "c")) {
            assert!(
                (f64::from(*got) - wanted).abs() <= 1e-6 * wanted,
                "{}: {:?}",
                case["id"],
                heat
            );
        }
    }

    #[test]
    fn weights_oracle() {
        let file = vectors!("base_level_soe");
        for row in cases(&file, "weights") {
            let Weights(weights) = Weights::new(number(row, "d"));
            for (got, wanted) in weights.iter().zip(numbers(row, "w")) {
                assert!((got - wanted).abs() <= 1e-9 * wanted.abs(), "{row}: {got}");
            }
        }
    }

    #[test]
    fn oracle() {
        let file = vectors!("base_level_soe");
        let bound = |d: f64| {
            let rows = cases(&file, "weights");
            let row = rows.iter().find(|row| number(row, "d") == d).unwrap();
            number(row, "max_rel_err") + 1e-4
        };
        for case in cases(&file, "cases") {
            let t = numbers(case, "t");
            let heat = heat(t.iter().map(|t| (*t, 1.0)));
            assert_counters(&heat, case);
            assert_eq!(heat.uses as usize, t.len());
            for read in cases(case, "reads") {
                let now = heat.at + micros(number(read, "lag_s"));
                let d = number(read, "d");
                let b = heat.level(now, d);
                assert!((b - number(read, "B_soe")).abs() <= 1e-5, "{read}: {b}");
                assert!(
                    (b - number(read, "B_exact")).abs() <= bound(d),
                    "{read}: {b}"
                );
            }
        }
        for case in cases(&file, "order_independence") {
            let uses: Vec<(f64, f64)> = numbers(case, "t")
                .into_iter()
                .zip(numbers(case, "gain"))
                .collect();
            assert_counters(&heat(uses.iter().copied()), case);
            let (first, second) = uses.split_at(case["merge_split"].as_u64().unwrap() as usize);
            let mut merged = heat(first.iter().copied());
            merged.merge(&heat(second.iter().copied()));
            assert_counters(&merged, case);
            assert_eq!(merged.uses as usize, uses.len());
            let b = merged.level(merged.at + micros(3600.0), 0.5);
            assert!(
                (b - number(case, "B_exact_d05_lag1h")).abs() <= bound(0.5),
                "{b}"
            );
        }
    }

    /// Between the tabulated d the error is what the file says, as seen on single uses of all ages.
    #[test]
    fn interpolation_oracle() {
        let file = vectors!("base_level_soe");
        for row in cases(&file, "interpolation_error") {
            let d = number(row, "d");
            let weights = Weights::new(d);
            let mut most = 0f64;
            for i in 0..2000 {
                let age = (5.0 * YEAR).powf(f64::from(i) / 1999.0);
                let b = Heat::new(0, 1.0).level_with(micros(age), &weights);
                most = most.max(((b + d * age.ln()).exp() - 1.0).abs());
            }
            let wanted = number(row, "max_rel_err");
            assert!(
                (0.9 * wanted..=1.01 * wanted).contains(&most),
                "{row}: {most}"
            );
        }
    }

    #[test]
    fn empty_early_and_far() {
        let empty = Heat::new(5, 0.0);
        assert_eq!(
            (empty.uses, empty.level(1 << 40, 0.5)),
            (0, f64::NEG_INFINITY)
        );
        let heat = Heat::new(0, 1.0);
        let at_once = heat.level(-SECOND, 0.5);
        assert_eq!(at_once, heat.level(SECOND, 0.5), "a second old at least");
        assert!(at_once.abs() < 0.003);
        // It goes on falling however late it is.
        let centuries =
            [1e3, 1e5, 1.3e5, 1.4e5, 2e5, 2.9e5].map(|y| heat.level(micros(y * YEAR), 0.5));
        assert!(
            centuries.is_sorted_by(|a, b| a > b && b.is_finite()),
            "{centuries:?}"
        );
        let mut far = Heat::new(i64::MIN + 1, 1.0);
        far.touch(i64::MAX - 1, 1.0);
        assert_eq!((far.uses, far.counters), (2, [1.0; COUNTERS]));
        assert!(far.level(i64::MAX, 0.5).is_finite());
    }

    #[test]
    fn masses_fade_by_their_time_constant() {
        let heat = Heat::new(0, 2.0);
        let month = 1.0 / rate(MASS);
        assert!((month / 86_400.0 - 32.4).abs() < 0.05);
        assert!((heat.mass(MASS, micros(month)) - 2.0 / std::f64::consts::E).abs() < 1e-9);
        assert_eq!(heat.mass(MASS, -SECOND), 2.0);
    }

    #[test]
    fn a_hundred_thousand_uses_drift_little() {
        let mut heat = Heat::new(0, 1.0);
        let mut sum = HeatSum::new(0, 1.0);
        for i in 1..100_000 {
            heat.touch(i * 60 * SECOND, 1.0);
            sum.touch(i * 60 * SECOND, 1.0);
        }
        let exact = sum.nearest();
        for lag in [SECOND, 86_400 * SECOND] {
            let drift = heat.level(heat.at + lag, 0.5) - exact.level(heat.at + lag, 0.5);
            assert!(drift.abs() < 2e-5, "{drift}");
        }
        assert_eq!(heat.uses, 100_000);
    }

    /// Uses of equal gain at equal distances, touch by touch, against the exact form until the heat is 5 years old.
    #[test]
    fn many_touches_stay_within_the_bound() {
        for (n, step, gain, lag, ds) in [
            (30_000, 20.9067, 1.0, 7.643e7, [0.3, 0.5, 0.8]),
            (100_000, 20.9067, 1.0, 7.643e7, [0.3, 0.5, 0.8]),
            (10_000, 20.9067, 1.0, 8.449e7, [0.3, 0.5, 0.8]),
            (100_000, 1.30667, 1.0, 2.035e7, [0.3, 0.5, 0.8]),
            (3_000, 5.226667, 1e-6, 3e6, [0.3, 0.5, 0.8]),
        ] {
            let times: Vec<i64> = (0..n).map(|i| micros(f64::from(i) * step)).collect();
            let mut heat = Heat::new(times[0], gain);
            times[1..].iter().for_each(|at| heat.touch(*at, gain));
            assert_eq!(heat.uses, n as u32);
            for lag in [1.0, 3600.0, lag / 16.0, lag / 4.0, lag] {
                let now = heat.at + micros(lag);
                for (d, error) in ds.into_iter().zip([0.00116, 0.00237, 0.00555]) {
                    let odds: f64 = times
                        .iter()
                        .map(|at| gain * activation::odds(seconds(*at, now), d))
                        .sum();
                    let off = heat.level(now, d) - odds.ln();
                    assert!(
                        off.abs() <= error + 1e-4,
                        "{n} touches of {gain}, {step} s apart, read {lag} s later, d {d}: {off}"
                    );
                }
            }
        }
    }

    #[test]
    fn rounding_is_the_same_everywhere_and_exact_where_it_can_be() {
        let mut heat = Heat::new(0, 1.0);
        for i in 1..1000 {
            heat.touch(i * 20_906_700, 1.0 / 3.0);
        }
        let all = heat.counters.iter().fold(0u32, |all, counter| {
            all.rotate_left(5).wrapping_mul(31) ^ counter.to_bits()
        });
        assert_eq!(all, 1_766_843_563, "{heat:?}");
        // At one moment, too, a use that is less than a digit counts in the long run.
        let mut heat = Heat::new(0, 16_777_216.0);
        (0..10_000).for_each(|_| heat.touch(0, 1.0));
        let added = heat.mass(15, 0) - 16_777_216.0;
        assert!((9_000.0..11_000.0).contains(&added), "{added}");
        let mut heat = Heat::new(0, 0.1);
        let before = heat;
        heat.touch(-SECOND, 0.0);
        heat.touch(0, 0.0);
        assert_eq!(heat, before);
    }

    #[test]
    fn faded_is_the_exponential() {
        for n in 0..370_000 {
            let x = f64::from(n) * -1e-4;
            let off = faded(x) / x.exp() - 1.0;
            assert!(off.abs() < 1e-14, "{x}: {off}");
        }
        assert_eq!([faded(0.0), faded(-37.1), faded(-1e300)], [1.0, 0.0, 0.0]);
    }

    #[test]
    fn levels_are_those_of_each() {
        let weights = Weights::new(0.45);
        let heats: Vec<Heat> = (0..1000)
            .map(|n| {
                heat([
                    (0.0, 1.0),
                    (f64::from(n * n * 31), 0.5),
                    (f64::from(n), 1e-3),
                ])
            })
            .chain([Heat::new(0, 0.0), Heat::new(i64::MIN + 1, 1.0)])
            .collect();
        for now in [0, SECOND, 40_000_000 * SECOND, i64::MAX - 1] {
            let mut levels = vec![7.0];
            Heat::levels(&heats, now, &weights, &mut levels);
            assert_eq!(levels.len(), heats.len() + 1);
            for (level, heat) in levels[1..].iter().zip(&heats) {
                let one = heat.level_with(now, &weights);
                assert_eq!(level.to_bits(), one.to_bits(), "{heat:?} at {now}");
                let lag = seconds(heat.at, now.max(heat.at.saturating_add(SECOND)));
                let sum: f64 = (0..COUNTERS)
                    .map(|m| weights.0[m] * f64::from(heat.counters[m]) * (-rate(m) * lag).exp())
                    .sum();
                if sum > 1e-250 {
                    assert!((one - sum.ln()).abs() < 1e-9, "{heat:?} at {now}: {one}");
                } else {
                    assert!(one < -500.0, "{heat:?} at {now}: {one}");
                }
            }
        }
    }

    #[test]
    fn counters_saturate() {
        let mut heat = Heat::new(0, f64::MAX);
        heat.touch(0, f64::MAX);
        assert_eq!(heat.counters, [f32::MAX; COUNTERS]);
        heat.uses = u32::MAX;
        heat.touch(0, 1.0);
        assert_eq!(heat.uses, u32::MAX);
        assert!(heat.level(SECOND, 0.5).is_finite());
    }

    #[test]
    fn uses_are_taken_back() {
        let mut heat = heat([(0.0, 1.0), (1e6, 0.5), (2e6, 1.0)]);
        assert!(heat.holds(micros(1e6), -0.5) && !heat.holds(micros(1e6), -5.0));
        for (at, gain) in [(1e6, -0.5), (2e6, -1.0), (0.0, -1.0)] {
            assert!(heat.holds(micros(at), gain));
            heat.touch(micros(at), gain);
        }
        assert_eq!(heat, Heat::new(micros(2e6), 0.0));
        assert!(!heat.holds(0, -0.1), "no use is left");
        // Nothing was used then, though slower counters hold as much.
        let one = Heat::new(0, 1.0);
        assert!(one.holds(0, -1.0));
        for at in [-1e9, -1000.0, -1.0, 1.0, 1000.0] {
            assert!(!one.holds(micros(at), -1.0), "{at}");
        }
        let two = self::heat([(0.0, 1.0), (2000.0, 1.0)]);
        assert!(!two.holds(micros(1000.0), -1.0) && two.holds(0, -1.0));
        heat.touch(0, -1.0);
        assert_eq!(heat, Heat::new(micros(2e6), 0.0), "not less than nothing");
    }

    #[test]
    fn bytes() {
        let heat = heat([(0.5, 1.0), (-3.0, 0.25)]);
        let bytes = heat.encode();
        assert_eq!(
            bytes[..16],
            [1, 0, 0, 0, 0x20, 0xa1, 7, 0, 0, 0, 0, 0, 2, 0, 0, 0]
        );
        assert_eq!(bytes[76..], heat.counters[15].to_le_bytes());
        assert_eq!(Heat::decode(&bytes), Ok(heat));
        let broken = |at: usize, with: &[u8]| {
            let mut bytes = bytes;
            bytes[at..at + with.len()].copy_from_slice(with);
            Heat::decode(&bytes).unwrap_err()
        };
        assert_eq!(Heat::decode(&bytes[1..]), Err(Unreadable::Length(79)));
        assert_eq!(broken(0, &[2]), Unreadable::Format([2, 0, 0, 0]));
        assert_eq!(broken(3, &[9]), Unreadable::Format([1, 0, 0, 9]));
        assert_eq!(broken(4, &i64::MAX.to_le_bytes()), Unreadable::Infinite);
        assert_eq!(
            broken(20, &(-1f32).to_le_bytes()),
            Unreadable::Counter(1, -1.0)
        );
        let nan = broken(76, &f32::NAN.to_le_bytes()).to_string();
        assert_eq!(nan, "counter 15 is NaN");
        let sum = HeatSum::new(7, 0.5);
        assert_eq!(HeatSum::decode(&sum.encode()), Some(sum));
        assert_eq!(HeatSum::decode(&bytes), None);
    }

    /// Uses (age in seconds, gain) from 1 s to 5 years ago, evenly on a log scale or in a burst.
    fn histories() -> impl Strategy<Value = Vec<(f64, f64)>> {
        let age = || (0f64..=1.0).prop_map(|x| (5.0 * YEAR).powf(x));
        let gain = || prop_oneof![Just(1.0), 0.05f64..2.0];
        prop_oneof![
            proptest::collection::vec((age(), gain()), 1..40),
            (age(), proptest::collection::vec((1f64..1.5, gain()), 1..40)).prop_map(
                |(age, uses)| {
                    let burst = |(x, gain): (f64, f64)| ((age * x).min(5.0 * YEAR), gain);
                    uses.into_iter().map(burst).collect()
                }
            ),
        ]
    }

    fn of(history: &[(f64, f64)]) -> Heat {
        heat(history.iter().map(|(age, gain)| (-age, *gain)))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn within_the_bound_of_the_exact_form(history in histories()) {
            for (d, error) in [(0.3, 0.00116), (0.5, 0.00237), (0.8, 0.00555)] {
                let odds: f64 = history.iter().map(|(age, gain)| gain * activation::odds(*age, d)).sum();
                let b = of(&history).level(0, d);
                prop_assert!((b - odds.ln()).abs() <= error + 1e-4, "d {}: {} for {}", d, b, odds.ln());
            }
        }

        /// Where a counter fades by about half of its last digit from touch to touch, or adds little more than that.
        #[test]
        fn touches_do_not_drift(
            m in 6usize..16, digits in 0.1f64..8.0, gain in prop_oneof![Just(1.0), 1e-6f64..2.0],
            n in 500i64..3000,
        ) {
            let step = micros(digits * 2f64.powi(-24) / rate(m)).max(1);
            let mut heat = Heat::new(0, gain);
            let mut sum = HeatSum::new(0, gain);
            for i in 1..n {
                heat.touch(i * step, gain);
                sum.touch(i * step, gain);
            }
            for (m, (got, exact)) in heat.counters.iter().zip(sum.counters).enumerate() {
                let off = f64::from(*got) / exact - 1.0;
                prop_assert!(off.abs() <= 4.0 * 6e-8 * (n as f64).sqrt(), "counter {}: {}", m, off);
            }
        }

        #[test]
        fn order_and_parts_do_not_show(history in histories(), key in any::<u64>(), split in 0usize..40) {
            let sorted = of(&history);
            let mut shuffled = history.clone();
            shuffled.sort_by_key(|(age, _)| age.to_bits().wrapping_mul(key | 1));
            let split = split.min(history.len() - 1).max(1);
            let mut merged = of(&shuffled[..split]);
            if split < history.len() {
                merged.merge(&of(&shuffled[split..]));
            }
            for other in [of(&shuffled), merged] {
                prop_assert_eq!((sorted.at, sorted.uses), (other.at, other.uses));
                for (a, b) in sorted.counters.iter().zip(other.counters) {
                    prop_assert!((a - b).abs() <= 4e-6 * a.max(1e-9), "{:?} {:?}", sorted, other);
                }
            }
            // With the digits of a sum it does not show at all.
            let sum = |uses: &[(f64, f64)]| {
                let mut sum: Option<HeatSum> = None;
                for (age, gain) in uses {
                    match &mut sum {
                        None => sum = Some(HeatSum::new(micros(-age), *gain)),
                        Some(sum) => sum.touch(micros(-age), *gain),
                    }
                }
                sum.unwrap()
            };
            let mut parts = sum(&shuffled[..split]);
            if split < history.len() {
                parts.merge(&sum(&shuffled[split..]));
            }
            let (whole, parts) = (sum(&history).heat(0.0).unwrap(), parts.heat(0.0).unwrap());
            for (a, b) in whole.counters.iter().zip(parts.counters) {
                prop_assert!((a - b).abs() <= 1.3e-7 * a, "{:?} {:?}", whole, parts);
            }
        }

        #[test]
        fn it_falls_with_time_and_rises_with_gain(
            history in histories(), d in 0.3f64..=0.95, later in (1e-3f64..1.0).prop_map(|x| (20.0 * YEAR).powf(x)),
            more in 0.01f64..3.0,
        ) {
            let heat = of(&history);
            let now = heat.at + SECOND;
            let b = heat.level(now, d);
            prop_assert!(heat.level(now + micros(later), d) < b);
            let mut warmer = heat;
            warmer.touch(heat.at, more);
            prop_assert!(warmer.level(now, d) > b);
            prop_assert!(warmer.uses == heat.uses + 1);
        }
    }
}
