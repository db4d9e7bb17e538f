//! The life of one memory: what its uses do to heat, strengths, layer, stability and difficulty.
//!
//! A state is true of one moment, the latest use it knows; every reader computes from there, so no job
//! has to rewrite it. Heat and the two strengths are linear in the uses and do not care in which order
//! these come. Layer, stability and difficulty depend on the order, so a late use of a memory is
//! followed by a replay of its log ([`State::replay`]). A replay begins at the last change of what the
//! memory depends on ([`Base`]), because nobody knows what was before. A use older than that still
//! counts in heat, strengths and number, but no longer as a review.
//!
//! Settings are known as they were at any time ([`Course`]): a use, and the time between it and the one before,
//! count by those that were in force when it happened.

use std::sync::LazyLock;

use super::course::Course;
use super::fsrs::{self, Rating};
use super::heat::Heat;
use super::layers::{self, Layer, Thresholds};
use super::trace;

/// Microseconds of a day.
const DAY: f64 = 86_400e6;
/// `decay_per_day` of the type whose working store declines with μ1 itself (episodic).
const REFERENCE_RATE: f64 = 0.1;
/// Names of the types, in the order of [`Params::rates`].
pub const TYPES: [&str; 7] = [
    "factual",
    "episodic",
    "relational",
    "emotional",
    "procedural",
    "opinion",
    "causal",
];

/// Settings of a workspace. Rates are per day.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Params {
    /// d of base-level activation.
    pub decay: f64,
    /// Decline of the working store of an episodic memory.
    pub mu1: f64,
    /// Decline of the core store.
    pub mu2: f64,
    /// Transfer between them, before importance.
    pub alpha: f64,
    /// Where layers change.
    pub thresholds: Thresholds,
    /// What one use adds to the working strength.
    pub strength_gain: f64,
    /// `decay_per_day` of each of [`TYPES`].
    pub rates: [f64; 7],
}

impl Params {
    /// Numbers of [`Params`] in a row: decay, mu1, mu2, alpha, promote, demote, archive, strength_gain,
    /// then the rates.
    pub const LEN: usize = 15;
    /// Numbers of what was in force until a change: its moment, [`Params`], and how links were made then.
    const PAST: usize = 1 + Self::LEN + 3;

    /// Reads [`Self::LEN`] numbers.
    pub fn from_slice(values: &[f64]) -> Option<Self> {
        let v: &[f64; Self::LEN] = values.try_into().ok()?;
        let (demote, archive) = (v[5], v[6]);
        Some(Self {
            decay: v[0],
            mu1: v[1],
            mu2: v[2],
            alpha: v[3],
            thresholds: Thresholds {
                // A workspace may set one of them and inherit the others.
                promote: v[4].max(demote).max(archive),
                demote,
                archive,
            },
            strength_gain: v[7],
            rates: v[8..].try_into().ok()?,
        })
    }
}

/// What uses count by, over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How memories live.
    pub params: Course<Params>,
    /// How they are linked.
    pub links: Course<Linking>,
}

impl Settings {
    /// Reads [`Params::LEN`] numbers, and then for each change, in the order of time, what was in force until then:
    /// its moment in microseconds, as many numbers, and the three of [`Linking`]. Those of now stand beside it.
    pub fn from_slice(values: &[f64], linking: Linking) -> Option<Self> {
        let (now, past) = values.split_at_checked(Params::LEN)?;
        let mut settings = Self {
            params: Course::new(Params::from_slice(now)?),
            links: Course::new(linking),
        };
        let past = past.chunks(Params::PAST);
        for change in past {
            let change: &[f64; Params::PAST] = change.try_into().ok()?;
            // Whole microseconds, of which a float tells apart those of nearly three centuries.
            let until = change[0] as i64;
            let (params, links) = change[1..].split_at(Params::LEN);
            settings.params.until(until, Params::from_slice(params)?);
            let linking = Linking {
                members: links[0].max(0.0) as usize,
                half_life_days: links[1],
                prune: links[2],
            };
            settings.links.until(until, linking);
        }
        Some(settings)
    }
}

/// How memories of a call are linked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Linking {
    /// Members of a call that are linked with each other.
    pub members: usize,
    /// Half-life of a link.
    pub half_life_days: f64,
    /// Mass below which a link is gone.
    pub prune: f64,
}

/// What a memory's dynamics depend on, beside its uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Traits {
    /// Index into [`TYPES`].
    pub kind: usize,
    /// 0 to 1.
    pub importance: f64,
    /// Nothing fades and nothing moves.
    pub pinned: bool,
    /// Superseded or contradicted: nothing consolidates.
    pub inert: bool,
}

impl Traits {
    fn mu1(&self, params: &Params) -> f64 {
        params.mu1 * params.rates[self.kind] / REFERENCE_RATE
    }

    fn alpha(&self, params: &Params) -> f64 {
        if self.inert {
            0.0
        } else {
            trace::alpha(self.importance, params.alpha)
        }
    }
}

/// One use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    /// Microseconds since the epoch of PostgreSQL.
    pub at: i64,
    /// How much it counts: 1 is one use, below 0 takes credit back from the strengths.
    pub gain: f64,
    /// How it went.
    pub rating: Option<Rating>,
}

impl Event {
    /// Orders uses of one memory; equal ones are equal in every effect.
    pub fn order(&self, other: &Self) -> std::cmp::Ordering {
        self.at
            .cmp(&other.at)
            .then(
                self.rating
                    .map(|r| r as u8)
                    .cmp(&other.rating.map(|r| r as u8)),
            )
            .then(self.gain.total_cmp(&other.gain))
    }

    /// Whether it is a use or a review, after which forgetting begins anew.
    fn counts(&self) -> bool {
        self.gain > 0.0 || self.rating.is_some()
    }
}

/// What is known of a memory at the moment `heat.at`.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Need, by frequency and recency. `heat.at` dates all of this, hence ratings that count nothing let it fade too.
    /// It is rounded use by use, or how many were folded at once would show.
    pub heat: Heat,
    /// r1 of the two-store model. Below 0 after uses against the memory: a debt, without which the order of uses
    /// would show. It is shown as 0, and so is that of r2.
    pub working: f64,
    /// r2.
    pub core: f64,
    /// Layer.
    pub layer: Layer,
    /// FSRS stability in days.
    pub stability: f64,
    /// FSRS difficulty, 1 to 10.
    pub difficulty: f64,
    /// Uses; storing it is the first.
    pub uses: i64,
    /// The latest use or rating.
    pub last_used: i64,
    /// How much of the time since then it was pinned, in microseconds.
    pub rested: i64,
}

/// Where a replay begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Base {
    /// The moment.
    pub at: i64,
    /// r1.
    pub working: f64,
    /// r2.
    pub core: f64,
    /// Layer.
    pub layer: Layer,
    /// FSRS stability in days.
    pub stability: f64,
    /// FSRS difficulty.
    pub difficulty: f64,
    /// Uses until then.
    pub uses: i64,
    /// The latest of them.
    pub last_used: i64,
    /// Pinned since then, in microseconds.
    pub rested: i64,
}

impl Base {
    /// Takes in a use from before.
    pub fn take_in(&mut self, event: &Event, traits: &Traits, params: &Params) {
        let (working, core) = response(event, self.at, traits, params);
        self.working += working;
        self.core += core;
        if event.gain > 0.0 {
            self.uses = self.uses.saturating_add(1);
        }
        if event.counts() && event.at >= self.last_used {
            self.last_used = event.at;
            self.rested = self.rested.min(self.at.saturating_sub(event.at));
        }
    }
}

/// What a use adds to (r1, r2) at a later moment.
fn response(event: &Event, at: i64, traits: &Traits, params: &Params) -> (f64, f64) {
    let credit = event.gain * params.strength_gain;
    if traits.pinned {
        return (credit, 0.0);
    }
    trace::response(
        credit,
        at.saturating_sub(event.at) as f64 / DAY,
        traits.alpha(params),
        traits.mu1(params),
        params.mu2,
    )
}

/// FSRS difficulty of what has just been learnt.
pub fn first_difficulty() -> f64 {
    static FIRST: LazyLock<f64> = LazyLock::new(|| {
        let (memory, _) = fsrs::step(None, 0.0, Rating::Good, &fsrs::PARAMETERS);
        memory.difficulty
    });
    *FIRST
}

impl State {
    /// A memory that was stored and not used since.
    pub fn new(created_at: i64, layer: Layer, traits: &Traits, params: &Params) -> Self {
        Self {
            heat: Heat::new(created_at, 1.0),
            working: 1.0,
            core: 0.0,
            layer,
            stability: Self::first_stability(traits, params),
            difficulty: first_difficulty(),
            uses: 1,
            last_used: created_at,
            rested: 0,
        }
    }

    /// S0 in days: a memory of a type that fades quickly is trusted for less long.
    pub fn first_stability(traits: &Traits, params: &Params) -> f64 {
        1.0 / params.rates[traits.kind]
    }

    /// The moment it is true of.
    pub fn at(&self) -> i64 {
        self.heat.at
    }

    fn days_to(&self, at: i64) -> f64 {
        (at.saturating_sub(self.at()) as f64 / DAY).max(0.0)
    }

    /// Days without use until a later moment, those under a pin left out.
    pub fn idle_days(&self, at: i64, traits: &Traits) -> f64 {
        let until = if traits.pinned { self.at() } else { at };
        let idle = until
            .saturating_sub(self.last_used)
            .saturating_sub(self.rested);
        (idle as f64 / DAY).max(0.0)
    }

    /// The layer at a later moment, if nothing happens in between.
    pub fn layer_at(&self, at: i64, traits: &Traits, params: &Params) -> Layer {
        if traits.pinned {
            return Layer::Core;
        }
        layers::tick(
            self.layer,
            self.working,
            self.core,
            self.days_to(at),
            traits.alpha(params),
            traits.mu1(params),
            params.mu2,
            &params.thresholds,
        )
    }

    /// The strengths (r1, r2) at a later moment, if nothing happens in between.
    pub fn strengths_at(&self, at: i64, traits: &Traits, params: &Params) -> (f64, f64) {
        if traits.pinned {
            return (self.working, self.core);
        }
        trace::evolve(
            self.working,
            self.core,
            self.days_to(at),
            traits.alpha(params),
            traits.mu1(params),
            params.mu2,
            0.0,
        )
    }

    /// Brings the state to a later moment. Splitting the way changes nothing.
    pub fn advance(&mut self, at: i64, traits: &Traits, params: &Params) {
        if at > self.at() {
            self.evolve(at, traits, params);
            self.heat.touch(at, 0.0);
        }
    }

    /// All of [`Self::advance`] but the heat, which is rounded at each touch.
    fn evolve(&mut self, at: i64, traits: &Traits, params: &Params) {
        self.layer = self.layer_at(at, traits, params);
        (self.working, self.core) = self.strengths_at(at, traits, params);
        if traits.pinned {
            self.rested = self.rested.saturating_add(at.saturating_sub(self.at()));
        }
    }

    /// Moves it into the layer that the settings of its moment have for it. Who sees it later may see it by others.
    pub fn settle(&mut self, traits: &Traits, course: &Course<Params>) {
        self.layer = self.layer_at(self.at(), traits, course.at(self.at()));
    }

    /// Adds one use. True when it came late, so that layer, stability and difficulty wait for a replay.
    pub fn apply(&mut self, event: &Event, traits: &Traits, course: &Course<Params>) -> bool {
        let params = course.at(event.at);
        let late = event.at < self.at();
        if !late && course.changed(self.at(), event.at) {
            self.settle(traits, course);
        }
        if !late {
            if event.at > self.at() {
                self.evolve(event.at, traits, params);
            }
            self.review(event);
        }
        let now = self.at().max(event.at);
        let (working, core) = response(event, now, traits, params);
        self.working += working;
        self.core += core;
        if event.counts() && event.at >= self.last_used {
            self.last_used = event.at;
            self.rested = self.rested.min(now.saturating_sub(event.at));
        }
        self.count(event);
        late
    }

    /// Counts a use in heat and number only.
    pub fn count(&mut self, event: &Event) {
        self.heat.touch(event.at, event.gain.max(0.0));
        if event.gain > 0.0 {
            self.uses = self.uses.saturating_add(1);
        }
    }

    fn review(&mut self, event: &Event) {
        if let Some(rating) = event.rating {
            // Time under a pin is in rested until the moment of the use.
            let idle = event
                .at
                .saturating_sub(self.last_used)
                .saturating_sub(self.rested);
            let days = (idle as f64 / DAY).max(0.0);
            let before = fsrs::Memory {
                stability: self.stability.max(fsrs::MIN_STABILITY),
                difficulty: self.difficulty.clamp(1.0, 10.0),
            };
            let (after, _) = fsrs::step(Some(before), days, rating, &fsrs::PARAMETERS);
            self.stability = after.stability;
            self.difficulty = after.difficulty;
        }
    }

    /// Takes layer, stability and difficulty from a run through all uses since `base` (in any order),
    /// which must be complete. The rest is as exact without, but for strengths where settings have changed meanwhile.
    pub fn replay(
        &mut self,
        base: &Base,
        events: &mut [Event],
        traits: &Traits,
        course: &Course<Params>,
    ) {
        events.sort_by(Event::order);
        let mut run = Self {
            heat: Heat::new(base.at, 0.0),
            working: base.working,
            core: base.core,
            layer: base.layer,
            stability: base.stability,
            difficulty: base.difficulty,
            uses: base.uses,
            last_used: base.last_used,
            rested: base.rested,
        };
        for event in events.iter() {
            run.apply(event, traits, course);
        }
        run.advance(self.at(), traits, course.at(self.at()));
        if course.changed(base.at, self.at()) {
            (self.working, self.core) = (run.working, run.core);
        }
        self.layer = run.layer;
        self.stability = run.stability;
        self.difficulty = run.difficulty;
        self.rested = run.rested;
    }

    /// The state as a point to replay from.
    pub fn base(&self) -> Base {
        Base {
            at: self.at(),
            working: self.working,
            core: self.core,
            layer: self.layer,
            stability: self.stability,
            difficulty: self.difficulty,
            uses: self.uses,
            last_used: self.last_used,
            rested: self.rested,
        }
    }

    /// How much is left of a memory, 0 to 1: its strength, at most 1, times what e^(−t/S) leaves of it
    /// after t days without use. What forgetting asks.
    pub fn retention_at(&self, at: i64, traits: &Traits, params: &Params) -> f64 {
        let (working, core) = self.strengths_at(at.max(self.at()), traits, params);
        let days = self.idle_days(at, traits);
        (working.max(0.0) + core.max(0.0)).min(1.0) * fsrs::exp_retrievability(days, self.stability)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn params(values: (f64, f64, f64, f64)) -> Params {
        let (mu1, mu2, gain, archive) = values;
        let mut of = [0.5, mu1, mu2, 0.2, 0.25, 0.05, archive, gain].to_vec();
        of.extend([0.03, 0.1, 0.02, 0.01, 0.01, 0.05, 0.02]);
        Params::from_slice(&of).unwrap()
    }

    proptest! {
        /// Uses that come in any order, replayed, are as if each had come at its time, by the settings of then.
        #[test]
        fn a_replay_counts_each_use_by_the_settings_of_its_time(
            uses in prop::collection::vec((1i64..400, -1f64..3.0, 0i64..5), 1..12),
            changes in prop::collection::vec((1i64..400, (0.01f64..0.5, 0.001f64..0.05, 0f64..2.0, 0.01f64..0.25)), 0..4),
            turn in 0usize..12,
        ) {
            let mut changes = changes;
            changes.sort_by_key(|(at, _)| *at);
            let mut course = Course::new(params((0.15, 0.005, 0.15, 0.15)));
            for (at, values) in changes {
                course.until(at * DAY as i64, params(values));
            }
            let traits = Traits { kind: 1, importance: 0.5, pinned: false, inert: false };
            let mut events: Vec<Event> = uses.into_iter().map(|(at, gain, rating)| Event {
                at: at * DAY as i64,
                gain,
                rating: Rating::from_number(rating as i32),
            }).collect();
            let first = State::new(0, Layer::Working, &traits, course.at(0));

            let mut wanted = first.clone();
            events.sort_by(Event::order);
            for event in &events {
                wanted.apply(event, &traits, &course);
            }
            wanted.settle(&traits, &course);

            let mut got = first.clone();
            let turn = turn % events.len();
            events.rotate_left(turn);
            for event in &events {
                got.apply(event, &traits, &course);
            }
            got.replay(&first.base(), &mut events, &traits, &course);
            got.settle(&traits, &course);
            prop_assert_eq!(got.layer, wanted.layer);
            for (a, b) in [
                (got.working, wanted.working),
                (got.core, wanted.core),
                (got.stability, wanted.stability),
                (got.difficulty, wanted.difficulty),
            ] {
                prop_assert!((a - b).abs() <= 1e-9 * b.abs().max(1.0), "{} and {}", a, b);
            }
        }
    }
}
