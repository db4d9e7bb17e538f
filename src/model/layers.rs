//! Layers: which memories are at hand (working), settled (core) or out of the way (archive).
//!
//! The traces of [`super::trace`] run on whatever the layer; a layer changes where they cross a
//! threshold: to core once r2 reaches `promote`, from core to archive once r1 + r2 falls below
//! `demote`, from working to archive once both r1 and r2 are below `archive`. All crossings within an
//! interval count, found in closed form, so it does not matter how often a job runs. A trace that uses
//! against the memory have brought below 0 runs on as it is, and counts as 0 here, as it does wherever
//! it is shown.

use super::trace::evolve;

/// Where a memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// New, not settled yet.
    Working,
    /// Consolidated.
    Core,
    /// Faded; a use may bring it back.
    Archive,
}

impl Layer {
    /// From its name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "working" => Some(Self::Working),
            "core" => Some(Self::Core),
            "archive" => Some(Self::Archive),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Working => "working",
            Self::Core => "core",
            Self::Archive => "archive",
        }
    }
}

/// Trace strengths at which layers change. [`Thresholds::valid`] says how they must relate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// r2 from which a memory belongs to core.
    pub promote: f64,
    /// r1 + r2 below which it leaves core.
    pub demote: f64,
    /// r1 and r2 below which it leaves working.
    pub archive: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            promote: 0.25,
            demote: 0.05,
            archive: 0.15,
        }
    }
}

impl Thresholds {
    /// promote ≥ demote > 0 and promote ≥ archive > 0, all finite; otherwise memories would flutter.
    pub fn valid(&self) -> bool {
        self.promote.is_finite()
            && self.demote > 0.0
            && self.archive > 0.0
            && self.promote >= self.demote
            && self.promote >= self.archive
    }
}

/// The layer after `dt_days` ≥ 0 from a time at which it was `layer` with traces (r1, r2), all of
/// one use-free interval. Rates ≥ 0 per day, as [`evolve`] has them. Traces may be below 0.
#[allow(clippy::too_many_arguments)]
pub fn tick(
    layer: Layer,
    r1: f64,
    r2: f64,
    dt_days: f64,
    alpha: f64,
    mu1: f64,
    mu2: f64,
    thresholds: &Thresholds,
) -> Layer {
    let at = |days: f64| evolve(r1, r2, days, alpha, mu1, mu2, 0.0);
    let (end1, end2) = at(dt_days);
    let sum = |r1: f64, r2: f64| r1.max(0.0) + r2.max(0.0);
    let end = sum(end1, end2);
    if layer == Layer::Core {
        // While r2 is below 0 the sum is r1, which falls. From then on, r1 + r2 rises once and then falls, or only falls;
        // with r1 below 0 the sum is r2, which falls. So it is least at an end, or where r2 comes out of debt.
        let mut least = sum(r1, r2).min(end);
        let days = debt(r1, r2, alpha, mu1, mu2);
        if days < dt_days {
            least = least.min(at(days).0);
        }
        if least >= thresholds.demote {
            return Layer::Core;
        }
    }
    let mut most2 = r2.max(end2);
    if let Some(days) = peak(r1, r2, alpha, mu1, mu2)
        && days < dt_days
    {
        most2 = most2.max(at(days).1);
    }
    if most2 >= thresholds.promote {
        return if end < thresholds.demote {
            Layer::Archive
        } else {
            Layer::Core
        };
    }
    match layer {
        Layer::Working => {
            // r1 falls below the threshold at this time and stays there; r2 is least then or at the end: with r1 below 0
            // it falls until it is below 0 as well.
            let below = ((r1 / thresholds.archive).ln() / mu1).max(0.0);
            if end1 < thresholds.archive && at(below).1.min(end2) < thresholds.archive {
                Layer::Archive
            } else {
                Layer::Working
            }
        }
        Layer::Core | Layer::Archive => Layer::Archive,
    }
}

/// Days after which r2 is at its maximum, if it rises at first.
fn peak(r1: f64, r2: f64, alpha: f64, mu1: f64, mu2: f64) -> Option<f64> {
    let rise = alpha * r1;
    // With r1 below 0 it rises to nothing at best.
    if rise <= (mu2 * r2).max(0.0) {
        return None;
    }
    let difference = mu1 - mu2;
    Some(if difference == 0.0 {
        1.0 / mu1 - r2 / rise
    } else {
        ((difference / mu2).ln_1p() - (r2 * difference / rise).ln_1p()) / difference
    })
}

/// Days after which r2 < 0 has been made good by what r1 > 0 feeds it; infinitely many, or NaN, if that is never.
fn debt(r1: f64, r2: f64, alpha: f64, mu1: f64, mu2: f64) -> f64 {
    if r1 <= 0.0 || r2 >= 0.0 {
        return f64::INFINITY;
    }
    let (difference, owed) = (mu1 - mu2, -r2 / (alpha * r1));
    if difference == 0.0 {
        owed
    } else {
        -(-difference * owed).ln_1p() / difference
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::vectors::{assert_close, cases, number, vectors};
    use proptest::prelude::*;

    #[test]
    fn oracle() {
        let file = vectors!("layers");
        for case in cases(&file, "cases") {
            let [r1, r2, dt, alpha, mu1, mu2] =
                ["r1", "r2", "dt_days", "alpha", "mu1", "mu2"].map(|key| number(case, key));
            let [promote, demote, archive] =
                ["promote", "demote", "archive"].map(|key| number(case, key));
            let thresholds = Thresholds {
                promote,
                demote,
                archive,
            };
            assert!(thresholds.valid());
            let layer = Layer::parse(case["layer"].as_str().unwrap()).unwrap();
            let got = tick(layer, r1, r2, dt, alpha, mu1, mu2, &thresholds);
            assert_eq!(Some(got.name()), case["layer_out"].as_str(), "{case}");
            let (r1, r2) = evolve(r1, r2, dt, alpha, mu1, mu2, 0.0);
            assert_close(r1, case, "r1_out", 1e-8);
            assert_close(r2, case, "r2_out", 1e-8);
        }
    }

    /// What was settled before many uses counted against it stays core while what is left of it lasts, whoever looks when.
    #[test]
    fn a_memory_in_debt_does_not_come_back_by_itself() {
        let t = &Thresholds::default();
        let tick = |layer, r: (f64, f64), dt| tick(layer, r.0, r.1, dt, 0.0448, 0.15, 0.005, t);
        let settled = (-0.55, 0.302);
        let at = |dt| evolve(settled.0, settled.1, dt, 0.0448, 0.15, 0.005, 0.0);
        for layer in [Layer::Working, Layer::Core, Layer::Archive] {
            assert_eq!(tick(layer, settled, 12.0), Layer::Core);
            assert_eq!(tick(layer, at(9.0), 3.0), tick(layer, at(9.0), 0.0));
        }
        assert!(at(9.0).1 < t.promote);
        assert_eq!(tick(Layer::Archive, at(9.0), 300.0), Layer::Archive);
        // Below `demote` between its ends: r1 alone while r2 is in debt, both together afterwards.
        let dips = |layer, dt| super::tick(layer, 0.06, -0.05, dt, 0.3, 0.1, 0.0005, t);
        assert_eq!(
            [dips(Layer::Core, 0.1), dips(Layer::Core, 10.0)],
            [Layer::Core, Layer::Archive]
        );
    }

    #[test]
    fn thresholds_that_flutter() {
        let with = |promote, demote, archive| {
            Thresholds {
                promote,
                demote,
                archive,
            }
            .valid()
        };
        assert!(Thresholds::default().valid() && with(0.1, 0.1, 0.1));
        assert!(!with(0.1, 0.2, 0.1) && !with(0.1, 0.1, 0.2) && !with(0.1, 0.0, 0.1));
        assert!(
            !with(f64::NAN, 0.1, 0.1)
                && !with(0.1, f64::NAN, 0.1)
                && !with(f64::INFINITY, 0.1, 0.1)
        );
    }

    fn any_layer() -> impl Strategy<Value = Layer> {
        prop_oneof![
            Just(Layer::Working),
            Just(Layer::Core),
            Just(Layer::Archive)
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn however_often_the_job_runs(
            layer in any_layer(), r in (0f64..1.5, 0f64..0.6), dt in 0f64..600.0,
            rates in (0f64..0.2, 0.01f64..0.3, 0.0005f64..0.3),
        ) {
            let ((r1, r2), (alpha, mu1, mu2)) = (r, rates);
            let t = &Thresholds::default();
            let once = tick(layer, r1, r2, dt, alpha, mu1, mu2, t);
            prop_assert_eq!(tick(once, r1, r2, dt, alpha, mu1, mu2, t), once, "idempotent");
            for steps in [1, 2, 7, 50] {
                let step = dt / f64::from(steps);
                // With the traces rewritten each time, and with the layer alone.
                let (mut rewritten, mut traces, mut lazy) = (layer, r, layer);
                for i in 1..=steps {
                    rewritten = tick(rewritten, traces.0, traces.1, step, alpha, mu1, mu2, t);
                    traces = evolve(traces.0, traces.1, step, alpha, mu1, mu2, 0.0);
                    lazy = tick(lazy, r1, r2, step * f64::from(i), alpha, mu1, mu2, t);
                }
                prop_assert_eq!(rewritten, once);
                prop_assert_eq!(lazy, once);
            }
        }

        /// The peak is where r2 is greatest, also where the rates are nearly or quite equal.
        #[test]
        fn the_peak_is_the_peak(
            r in (0.01f64..1.5, 0f64..0.6), alpha in 0.001f64..0.2, mu2 in 0.001f64..0.3,
            difference in prop_oneof![Just(0.0), -1e-9f64..1e-9, -0.0009f64..0.3],
        ) {
            let mu1 = mu2 + difference;
            let r2_at = |days: f64| evolve(r.0, r.1, days, alpha, mu1, mu2, 0.0).1;
            if let Some(days) = peak(r.0, r.1, alpha, mu1, mu2) {
                prop_assert!(days > 0.0);
                for other in [0.5, 0.9, 0.999, 1.001, 1.1, 2.0] {
                    prop_assert!(r2_at(days) >= r2_at(days * other) - 1e-12);
                }
            } else {
                prop_assert!(r2_at(1e-3) <= r.1 + 1e-12);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        /// For traces below 0 too, which uses that counted against the memory leave: as often as one likes, and as one
        /// who looks all the time sees it.
        #[test]
        fn debts_are_lived_through_as_they_are(
            layer in any_layer(), r in (-30f64..3.0, -30f64..3.0), dt in 0f64..60.0,
            near in prop_oneof![Just(false), Just(true)],
            rates in (0f64..0.3, 0.01f64..0.3, 0.0005f64..0.3),
        ) {
            let r = if near { (r.0 / 10.0, r.1.abs() / 10.0) } else { r };
            let ((r1, r2), (alpha, mu1, mu2)) = (r, rates);
            let t = &Thresholds::default();
            let once = tick(layer, r1, r2, dt, alpha, mu1, mu2, t);
            for steps in [1, 2, 7, 50] {
                let step = dt / f64::from(steps);
                let (mut rewritten, mut traces, mut lazy) = (layer, r, layer);
                for i in 1..=steps {
                    rewritten = tick(rewritten, traces.0, traces.1, step, alpha, mu1, mu2, t);
                    traces = evolve(traces.0, traces.1, step, alpha, mu1, mu2, 0.0);
                    lazy = tick(lazy, r1, r2, step * f64::from(i), alpha, mu1, mu2, t);
                }
                prop_assert_eq!(rewritten, once, "in {} steps", steps);
                prop_assert_eq!(lazy, once, "in {} steps, the traces as they were", steps);
            }
            // Where all who look with somewhat other thresholds agree, what happens between two looks decides nothing.
            let looks = 5000;
            let seen: Vec<Layer> = (0..8).map(|n| {
                let off = |bit: u32| if n >> bit & 1 == 0 { 1.0 } else { -1.0 } * 0.02;
                let (promote, demote, archive) = (t.promote + off(0), t.demote + off(1), t.archive + off(2));
                let (mut now, mut traces) = (layer, r);
                for look in 0..=looks {
                    if look > 0 {
                        traces = evolve(traces.0, traces.1, dt / f64::from(looks), alpha, mu1, mu2, 0.0);
                    }
                    let (r1, r2) = (traces.0.max(0.0), traces.1.max(0.0));
                    now = match now {
                        Layer::Core if r1 + r2 >= demote => Layer::Core,
                        _ if r2 >= promote => Layer::Core,
                        Layer::Working if r1 >= archive || r2 >= archive => Layer::Working,
                        _ => Layer::Archive,
                    };
                }
                now
            }).collect();
            if seen.iter().all(|s| *s == seen[0]) {
                prop_assert_eq!(once, seen[0], "as seen all the time");
            }
        }
    }
}
