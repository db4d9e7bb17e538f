//! Which turns of a conversation are worth extracting facts from.
//!
//! An extractor is a model that costs money. Early turns of a conversation say little, so they are sampled
//! thinly; the rate rises with the number of turns. The die is a hash of the turn's id: the same turn gets
//! the same answer wherever and however often it is asked.

/// Rates 0..1, `base` at most `full`, which is reached at `mature` turns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Rate of the first turn.
    pub base: f64,
    /// Rate from `mature` turns on.
    pub full: f64,
    /// Turns until then; 0: from the first.
    pub mature: u32,
}

impl Sampling {
    /// Probability that a turn is taken when the conversation has so many turns: in a straight line from
    /// `base` to `full`.
    pub fn rate(&self, turns: u32) -> f64 {
        if turns >= self.mature {
            return self.full;
        }
        let part = f64::from(turns) / f64::from(self.mature);
        (self.base + (self.full - self.base) * part).clamp(self.base, self.full)
    }

    /// Whether the turn is taken. One that is taken at some rate is taken at every higher one.
    pub fn takes(&self, id: u128, turns: u32) -> bool {
        die(id) < self.rate(turns)
    }
}

/// A number in 0..1 of an id; ids that differ in any bit have unrelated ones.
pub fn die(id: u128) -> f64 {
    let (high, low) = ((id >> 64) as u64, id as u64);
    let hash = mixed(mixed(high).wrapping_add(low));
    // 53 bits are what a double holds.
    (hash >> 11) as f64 / (1u64 << 53) as f64
}

/// A step of the generator SplitMix64 (Steele, Lea, Flood 2014).
const fn mixed(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Ids as they are made one after the other: time in front, a counter, little that is random.
    fn id(n: u64) -> u128 {
        (u128::from(1_700_000_000_000 + n / 7) << 80) | (7 << 76) | u128::from(n)
    }

    proptest! {
        #[test]
        fn of_many_ids_the_rate_are_taken(base in 0f64..=1.0, more in 0f64..=1.0, mature in 0u32..100, turns in 0u32..120, start in 0u64..1 << 40) {
            let sampling = Sampling { base, full: base + (1.0 - base) * more, mature };
            let n = 20_000;
            let taken = (start..start + n).filter(|i| sampling.takes(id(*i), turns)).count() as f64;
            let p = sampling.rate(turns);
            // Five standard deviations: by chance once in two million tries.
            let bound = 5.0 * (n as f64 * p * (1.0 - p)).sqrt() + 1.0;
            prop_assert!((taken - n as f64 * p).abs() <= bound, "{taken} of {n} at {p}");
        }

        #[test]
        fn a_higher_rate_never_leaves_one_out(id in any::<u128>(), base in 0f64..=1.0, full in 0f64..=1.0, more in 0f64..=1.0,
                                              mature in 0u32..100, turns in 0u32..120, later in 0u32..50) {
            let (base, full) = (base.min(full), base.max(full));
            let sampling = Sampling { base, full, mature };
            let raised = Sampling { base: base + (full - base) * more, full: full + (1.0 - full) * more, mature };
            let sooner = Sampling { mature: mature.saturating_sub(later), ..sampling };
            if sampling.takes(id, turns) {
                prop_assert!(sampling.takes(id, turns + later));
                prop_assert!(raised.takes(id, turns));
                prop_assert!(sooner.takes(id, turns));
            }
        }

        #[test]
        fn rates_stay_in_bounds(base in 0f64..=1.0, more in 0f64..=1.0, mature in any::<u32>(), turns in any::<u32>()) {
            let full = base + (1.0 - base) * more;
            let rate = Sampling { base, full, mature }.rate(turns);
            prop_assert!((base..=full).contains(&rate), "{rate}");
        }
    }

    #[test]
    fn the_ends() {
        let sampling = Sampling {
            base: 0.0,
            full: 1.0,
            mature: 10,
        };
        assert!((0..1000).all(|n| sampling.takes(id(n), 10) && !sampling.takes(id(n), 0)));
        assert_eq!(sampling.rate(5), 0.5);
        // Written down once: another hash would change what is extracted.
        assert_eq!(die(0x018f_3a2e_0000_7000_8000_0000_0000_0000), DIE);
        assert!((0.0..1.0).contains(&die(0)) && (0.0..1.0).contains(&die(u128::MAX)));
    }

    const DIE: f64 = 0.048_370_638_283_913_97;
}
