//! Links between memories that are recalled together (Hebb 1949).
//!
//! A link holds two masses, one for each direction of use, that halve every half-life. They are pure
//! sums of decayed gains, so the order of events does not matter and links merge by adding. Read
//! through 1 − e^−x they are the soft-bounded rule Δw = η(1 − w).

use std::cmp::Ordering;

/// Default half-life of links: 30 days, in seconds.
pub const HALF_LIFE_S: f64 = 2_592_000.0;

/// A mass `dt_s` ≥ 0 seconds later: x·2^(−dt/half-life). Also what a late event of gain `x` adds now.
pub fn link_decay(x: f64, dt_s: f64, half_life_s: f64) -> f64 {
    x * (-dt_s / half_life_s).exp2()
}

/// Strength 0..1 of a link of total mass `x` ≥ 0: 1 − e^−x.
pub fn link_strength(x: f64) -> f64 {
    -(-x).exp_m1()
}

/// Direction of a link, −1..1, from its masses forward and backward: (xf − xb)/(xf + xb + 1). The 1
/// keeps it near 0 until there is evidence.
pub fn link_direction(xf: f64, xb: f64) -> f64 {
    (xf - xb) / (xf + xb + 1.0)
}

/// Association in nats, ≥ 0: max(0, ln((xij + κ) / (xi·xj/total + κ))), from the mass of the link, the
/// masses of its ends and that of all recalls (> 0). κ > 0 shrinks what rests on little evidence.
///
/// Positive pointwise mutual information (Levy & Goldberg 2014), which is ACT-R's associative strength
/// (Anderson & Lebiere 1998) without its drift to inhibition.
pub fn link_ppmi(xij: f64, xi: f64, xj: f64, total: f64, kappa: f64) -> f64 {
    ((xij + kappa) / (xi / total * xj + kappa)).ln().max(0.0)
}

/// Gain of each pair when `n` memories are recalled together: 1/(n − 1), so that each hands out a mass
/// of 1 however many there are; 0 when there is no pair.
pub fn pair_gain(n: usize) -> f64 {
    if n < 2 { 0.0 } else { 1.0 / (n - 1) as f64 }
}

/// The masses of a link as of the moment `at`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// Of calls that used the lower end first.
    pub forward: f64,
    /// Of calls that used the higher end first.
    pub backward: f64,
    /// The latest call, in microseconds.
    pub at: i64,
    /// Calls.
    pub count: i32,
}

impl Link {
    /// Total mass at a moment; half-life in microseconds, like moments.
    pub fn mass(&self, now: i64, half_life: f64) -> f64 {
        link_decay(
            self.forward + self.backward,
            now.saturating_sub(self.at).max(0) as f64,
            half_life,
        )
    }
}

/// The order of calls, moments and gains: of the same moment the one that counts most comes first. If it does not keep
/// the link above `prune` then none of them does, so that the others may come in any order.
pub fn order(a: (i64, f64), b: (i64, f64)) -> Ordering {
    (a.0.cmp(&b.0))
        .then_with(|| b.1.abs().total_cmp(&a.1.abs()))
        .then_with(|| a.1.total_cmp(&b.1))
}

/// Adds a call: its gain, below 0 when the higher end was used first. Calls may come in any order; true
/// when the link may have begun elsewhere than it seems, and wants another look at all of them in [`order`]. A link
/// whose mass has fallen below `prune` is gone, whether or not somebody has deleted it, and begins anew.
pub fn add(link: &mut Option<Link>, at: i64, gain: f64, half_life: f64, prune: f64) -> bool {
    let together = link.as_ref().is_some_and(|old| old.at == at);
    let Some(old) = link
        .as_mut()
        .filter(|old| at < old.at || old.mass(at, half_life) >= prune)
    else {
        *link = Some(Link {
            forward: gain.max(0.0),
            backward: (-gain).max(0.0),
            at,
            count: 1,
        });
        return together;
    };
    let late = at < old.at;
    let kept = link_decay(1.0, at.saturating_sub(old.at).max(0) as f64, half_life);
    let gain = link_decay(gain, old.at.saturating_sub(at).max(0) as f64, half_life);
    old.forward = old.forward * kept + gain.max(0.0);
    old.backward = old.backward * kept + (-gain).max(0.0);
    old.at = old.at.max(at);
    old.count = old.count.saturating_add(1);
    late
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::vectors::{assert_close, cases, number, vectors};

    #[test]
    fn oracle() {
        let file = vectors!("hebbian");
        let tolerance = number(&file, "tolerance_rel");
        for case in cases(&file, "cases") {
            let (half_life, now) = (number(case, "half_life_s"), number(case, "now"));
            // As a row is kept: a mass as of the latest event seen, and late events.
            let (mut masses, mut as_of) = ([0.0, 0.0], f64::NEG_INFINITY);
            for event in cases(case, "events_unordered") {
                let (at, gain) = (event[0].as_f64().unwrap(), event[1].as_f64().unwrap());
                let side = usize::from(event[2] == "bwd");
                if at > as_of {
                    masses = masses.map(|x| link_decay(x, at - as_of, half_life));
                    as_of = at;
                }
                masses[side] += link_decay(gain, as_of - at, half_life);
            }
            let [xf, xb] = masses.map(|x| link_decay(x, now - as_of, half_life));
            assert_close(xf, case, "x_fwd", tolerance);
            assert_close(xb, case, "x_bwd", tolerance);
            assert_close(xf + xb, case, "x", tolerance);
            assert_close(link_strength(xf + xb), case, "strength", tolerance);
            assert_close(link_direction(xf, xb), case, "direction", tolerance);
        }
        for case in cases(&file, "soft_bound") {
            let eta = number(case, "eta");
            let x = -number(case, "n") * (1.0 - eta).ln();
            assert_close(x, case, "x", tolerance);
            assert_close(link_strength(x), case, "w_iterated", tolerance);
        }
        for case in cases(&file, "ppmi") {
            let [xij, xi, xj, total, kappa] =
                ["x_ij", "x_i", "x_j", "X", "kappa"].map(|key| number(case, key));
            assert_close(
                link_ppmi(xij, xi, xj, total, kappa),
                case,
                "S_ij",
                tolerance,
            );
        }
    }

    const HALF_LIFE: f64 = 100.0;
    const PRUNE: f64 = 0.1;

    fn replayed(calls: &[(i64, f64)]) -> Option<Link> {
        let mut calls = calls.to_vec();
        calls.sort_by(|a, b| order(*a, *b));
        let mut link = None;
        for (at, gain) in calls {
            add(&mut link, at, gain, HALF_LIFE, PRUNE);
        }
        link
    }

    proptest! {
        /// Whoever looks again when a call says so has the link that all calls in order make.
        #[test]
        fn calls_may_come_in_any_order(
            calls in prop::collection::vec((0..8_i64, prop::sample::select(vec![0.01, 0.06, 0.1, 0.5, 1.0, -0.01, -0.09, -1.0])), 1..9)
        ) {
            // Far enough apart for a link to fade, or not.
            let calls: Vec<(i64, f64)> = calls.into_iter().map(|(at, gain)| (at * at * 20, gain)).collect();
            let mut link = None;
            for (nth, (at, gain)) in calls.iter().enumerate() {
                if add(&mut link, *at, *gain, HALF_LIFE, PRUNE) {
                    link = replayed(&calls[..=nth]);
                }
                let (kept, whole) = (link.unwrap(), replayed(&calls[..=nth]).unwrap());
                prop_assert_eq!((kept.at, kept.count), (whole.at, whole.count));
                prop_assert!((kept.forward - whole.forward).abs() < 1e-12, "{:?}", (kept, whole));
                prop_assert!((kept.backward - whole.backward).abs() < 1e-12, "{:?}", (kept, whole));
            }
        }
    }

    #[test]
    fn a_recall_hands_out_one_each() {
        assert_eq!([0, 1, 2, 5].map(pair_gain), [0.0, 0.0, 1.0, 0.25]);
    }
}
