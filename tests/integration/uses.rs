//! Uses of memories: what they add up to, in whatever order, however often, by whomever they come.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postgres::Client;
use uuid::Uuid;

use crate::cluster::{Cluster, Database, Failure, Installation, failure};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

// --- a world to use ------------------------------------------------------------------------------

/// A small generator of numbers (xorshift), so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

fn time(micros: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(micros.unsigned_abs())
}

fn micros(at: SystemTime) -> i64 {
    i64::try_from(at.duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

fn now(client: &mut Client) -> i64 {
    micros(client.query_one("SELECT now()", &[]).unwrap().get(0))
}

/// The workspace of whoever the session speaks for.
fn workspace(client: &mut Client) -> Uuid {
    let row = client.query_one("SELECT engram.current_user_id()", &[]);
    row.unwrap().get(0)
}

/// One memory, stored at a moment of the past by somebody who may.
#[derive(Clone)]
struct Memory {
    id: Uuid,
    created: i64,
    kind: &'static str,
    importance: f64,
    layer: &'static str,
    pinned: bool,
}

impl Memory {
    fn new(id: u128, created: i64, kind: &'static str, importance: f64) -> Self {
        Self {
            id: Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + id),
            created,
            kind,
            importance,
            layer: "working",
            pinned: false,
        }
    }

    fn store(&self, admin: &mut Client, workspace: Uuid) {
        admin
            .execute(
                "INSERT INTO engram.memories (workspace_id, user_id, id, content, created_at, type, importance, layer, pinned)
                 VALUES ($1, $1, $2, $3, $4, $5, $6, $7, $8)",
                &[
                    &workspace,
                    &self.id,
                    &format!("memory {}", self.id),
                    &time(self.created),
                    &self.kind,
                    &self.importance,
                    &self.layer,
                    &self.pinned,
                ],
            )
            .unwrap();
    }
}

/// Stores `n` facts and gives back their ids.
fn facts(client: &mut Client, n: i32) -> Vec<Uuid> {
    client
        .query(
            "SELECT engram.add('fact ' || i) FROM generate_series(1, $1) i",
            &[&n],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect()
}

fn touch(client: &mut Client, ids: &[Uuid]) -> i32 {
    let row = client.query_one("SELECT engram.touch($1)", &[&ids]);
    row.unwrap().get(0)
}

fn fold(client: &mut Client, at_most: i32) -> i32 {
    let me = workspace(client);
    let row = client.query_one("SELECT engram_internal.fold($1, $2)", &[&me, &at_most]);
    row.unwrap().get(0)
}

/// Folds whatever waits.
fn fold_all(client: &mut Client) {
    while fold(client, 1000) > 0 {}
    assert_eq!(count(client, "SELECT count(*) FROM engram.access_queue"), 0);
}

/// Nobody folds by chance in this workspace.
fn never_fold(admin: &mut Client, workspace: Uuid) {
    let sql = "INSERT INTO engram.settings (workspace_id, fold_threshold) VALUES ($1, 100000)";
    admin.execute(sql, &[&workspace]).unwrap();
}

fn count(client: &mut Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).unwrap().get(0)
}

/// A row of retention(), and activation().
#[derive(Clone, Debug, PartialEq)]
struct Kept {
    activation: f64,
    retrievability: f64,
    stability: f64,
    difficulty: f64,
    working: f64,
    core: f64,
    strength: f64,
    retention: f64,
    layer: String,
    uses: i64,
    last: i64,
}

fn kept(client: &mut Client, id: Uuid, at: i64) -> Kept {
    let row = client
        .query_one(
            "SELECT engram.activation($1, $2), r.* FROM engram.retention($1, $2) r",
            &[&id, &time(at)],
        )
        .unwrap();
    Kept {
        activation: row.get(0),
        retrievability: row.get("retrievability"),
        stability: row.get("stability"),
        difficulty: row.get("difficulty"),
        working: row.get("working_strength"),
        core: row.get("core_strength"),
        strength: row.get("strength"),
        retention: row.get("retention"),
        layer: row.get("layer"),
        uses: row.get("access_count"),
        last: micros(row.get("last_accessed_at")),
    }
}

#[track_caller]
fn assert_near(a: f64, b: f64, relative: f64, what: &str) {
    assert!(
        (a - b).abs() <= relative * a.abs().max(b.abs()).max(1e-6),
        "{what}: {a} and {b}"
    );
}

impl Kept {
    /// Equal but for the rounding of 24-bit counters and of sums in another order.
    #[track_caller]
    fn assert_same(&self, other: &Kept, what: &str) {
        for (name, a, b) in [
            ("activation", self.activation, other.activation),
            ("retrievability", self.retrievability, other.retrievability),
            ("stability", self.stability, other.stability),
            ("difficulty", self.difficulty, other.difficulty),
            ("working", self.working, other.working),
            ("core", self.core, other.core),
            ("strength", self.strength, other.strength),
            ("retention", self.retention, other.retention),
        ] {
            assert_near(a, b, 1e-6, &format!("{name} of {what}"));
        }
        assert_eq!(
            (&self.layer, self.uses, self.last),
            (&other.layer, other.uses, other.last),
            "{what}"
        );
    }
}

// --- what the models say, from all uses at once --------------------------------------------------

const W: [f64; 21] = [
    0.212, 1.2931, 2.3065, 8.2956, 6.4133, 0.8334, 3.0194, 0.001, 1.8722, 0.1666, 0.796, 1.4835,
    0.0614, 0.2629, 1.6483, 0.6014, 1.8729, 0.5425, 0.0912, 0.0658, 0.1542,
];
const MU1: f64 = 0.15;
const MU2: f64 = 0.005;
const ALPHA: f64 = 0.08;
const STRENGTH_GAIN: f64 = 0.15;
const HALF_LIFE: f64 = 30.0;
const PRUNE: f64 = 0.02;
const MEMBERS: usize = 6;

fn rate_of(kind: &str) -> f64 {
    match kind {
        "factual" => 0.03,
        "episodic" => 0.10,
        "opinion" => 0.05,
        "relational" | "causal" => 0.02,
        _ => 0.01,
    }
}

fn days(from: i64, to: i64) -> f64 {
    (to - from) as f64 / DAY as f64
}

/// (r1, r2) that `x` in r1 has become after some days; μ1 ≠ μ2.
fn two_store(x: f64, dt: f64, kind: &str, importance: f64) -> (f64, f64) {
    let (mu1, alpha) = (
        MU1 * rate_of(kind) / 0.1,
        ALPHA * (0.2 + importance * importance),
    );
    let r2 = alpha / (mu1 - MU2) * ((-MU2 * dt).exp() - (-mu1 * dt).exp());
    (x * (-mu1 * dt).exp(), x * r2)
}

fn retrievability(dt: f64, stability: f64) -> f64 {
    let factor = 0.9f64.powf(-1.0 / W[20]) - 1.0;
    (1.0 + factor * dt / stability).powf(-W[20])
}

fn first_difficulty(g: f64) -> f64 {
    W[4] - (W[5] * (g - 1.0)).exp() + 1.0
}

/// FSRS-6 as published.
fn review(s: f64, d: f64, dt: f64, rating: u8) -> (f64, f64) {
    let g = f64::from(rating);
    let r = retrievability(dt, s);
    let next = if dt < 1.0 {
        let factor = (W[17] * (g - 3.0 + W[18])).exp() * s.powf(-W[19]);
        s * if rating >= 2 { factor.max(1.0) } else { factor }
    } else if rating == 1 {
        let long =
            W[11] * d.powf(-W[12]) * ((s + 1.0).powf(W[13]) - 1.0) * (W[14] * (1.0 - r)).exp();
        long.min(s / (W[17] * W[18]).exp())
    } else {
        let ease = [0.0, 0.0, W[15], 1.0, W[16]][usize::from(rating)];
        s * (1.0
            + W[8].exp() * (11.0 - d) * s.powf(-W[9]) * ((W[10] * (1.0 - r)).exp() - 1.0) * ease)
    };
    let d = W[7] * first_difficulty(4.0) + (1.0 - W[7]) * (d - W[6] * (g - 3.0) * (10.0 - d) / 9.0);
    (next.max(0.001), d.clamp(1.0, 10.0))
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Touch(f64),
    Shown(f64),
    Reinforce(f64),
    Rate(u8),
}

#[derive(Clone, Debug)]
struct Call {
    at: i64,
    kind: Kind,
    /// Places in the list of memories.
    of: Vec<usize>,
    recall: Option<Uuid>,
}

impl Call {
    fn gain(&self) -> f64 {
        match self.kind {
            Kind::Touch(gain) | Kind::Shown(gain) | Kind::Reinforce(gain) => gain,
            Kind::Rate(rating) => f64::from(u8::from(rating >= 3)),
        }
    }

    fn rating(&self) -> Option<u8> {
        match self.kind {
            Kind::Touch(_) => Some(3),
            Kind::Shown(_) => None,
            Kind::Reinforce(value) if value < 0.0 => Some(1),
            Kind::Reinforce(value) => Some(if value < 0.5 { 3 } else { 4 }),
            Kind::Rate(rating) => Some(rating),
        }
    }

    /// Makes it; tells how many it credited.
    fn make(&self, client: &mut Client, memories: &[Memory]) -> i32 {
        let ids: Vec<Uuid> = self.of.iter().map(|i| memories[*i].id).collect();
        let at = time(self.at);
        let row = match self.kind {
            Kind::Touch(gain) => client.query_one(
                "SELECT engram.touch($1, gain => $2, at => $3, recall_id => $4)",
                &[&ids, &gain, &at, &self.recall],
            ),
            Kind::Shown(gain) => client.query_one(
                "SELECT engram.touch($1, 'shown', $2, $3, $4)",
                &[&ids, &gain, &at, &self.recall],
            ),
            Kind::Reinforce(value) => client.query_one(
                "SELECT engram.reinforce($1, $2, $3, $4)",
                &[&ids, &value, &at, &self.recall],
            ),
            Kind::Rate(rating) => client.query_one(
                "SELECT engram.rate($1, $2, $3, $4)::int",
                &[&ids[0], &i32::from(rating), &at, &self.recall],
            ),
        };
        row.unwrap().get(0)
    }
}

/// What is to be read of memory `i` at a moment after all calls. Nothing else happened to it.
fn expected(memories: &[Memory], i: usize, calls: &[Call], at: i64) -> Kept {
    let Memory {
        created,
        kind,
        importance,
        layer,
        ..
    } = memories[i].clone();
    let mut mine: Vec<&Call> = calls.iter().filter(|c| c.of.contains(&i)).collect();
    mine.sort_by(|a, b| {
        (a.at, a.rating())
            .cmp(&(b.at, b.rating()))
            .then(a.gain().total_cmp(&b.gain()))
    });
    let mut need = days(created, at).max(0.0) * 86_400.0;
    need = need.max(1.0).powf(-0.5);
    for call in &mine {
        need += call.gain().max(0.0) * (days(call.at, at) * 86_400.0).max(1.0).powf(-0.5);
    }
    let strengths = |at: i64| {
        let mut sum = two_store(1.0, days(created, at), kind, importance);
        for call in mine.iter().filter(|c| c.at <= at) {
            let (r1, r2) = two_store(
                STRENGTH_GAIN * call.gain(),
                days(call.at, at),
                kind,
                importance,
            );
            sum = (sum.0 + r1, sum.1 + r2);
        }
        sum
    };
    // Reviews in order of time. What was used before it was stored is no review.
    let (mut s, mut d, mut last) = (1.0 / rate_of(kind), first_difficulty(3.0), created);
    for call in mine.iter().filter(|c| c.at >= created) {
        if let Some(rating) = call.rating() {
            (s, d) = review(s, d, days(last, call.at), rating);
        }
        if call.gain() > 0.0 || call.rating().is_some() {
            last = call.at;
        }
    }
    // Layers, by looking often. Just before a use counts as well, because a use adds in a jump.
    let mut moments: Vec<i64> = (0..=(at - created) / (DAY / 50))
        .map(|n| created + n * (DAY / 50))
        .collect();
    moments.extend(
        mine.iter()
            .filter(|c| c.at > created)
            .flat_map(|c| [c.at - 1, c.at]),
    );
    moments.push(at);
    moments.sort_unstable();
    let mut now = layer;
    for moment in moments {
        let (r1, r2) = strengths(moment);
        let (r1, r2) = (r1.max(0.0), r2.max(0.0));
        now = match now {
            "core" if r1 + r2 >= 0.05 => "core",
            _ if r2 >= 0.25 => "core",
            "working" if r1 >= 0.15 || r2 >= 0.15 => "working",
            _ => "archive",
        };
    }
    let (working, core) = strengths(at);
    let idle = days(last, at);
    Kept {
        activation: need.ln(),
        retrievability: retrievability(idle, s),
        stability: s,
        difficulty: d,
        working: working.max(0.0),
        core: core.max(0.0),
        strength: 1.0 - (-(working.max(0.0) + core.max(0.0))).exp(),
        retention: (working.max(0.0) + core.max(0.0)).min(1.0) * (-idle / s).exp(),
        layer: now.to_owned(),
        uses: 1 + mine.iter().filter(|c| c.gain() > 0.0).count() as i64,
        last,
    }
}

/// Forward and backward mass at a moment, and the number of calls, by pair.
type Links = BTreeMap<(Uuid, Uuid), (f64, f64, i32)>;

fn expected_links(memories: &[Memory], calls: &[Call], at: i64) -> Links {
    links_by(memories, calls, at, |_| (MEMBERS, HALF_LIFE, PRUNE))
}

/// `rules`: members, half-life and prune at a moment.
fn links_by(
    memories: &[Memory],
    calls: &[Call],
    at: i64,
    rules: impl Fn(i64) -> (usize, f64, f64),
) -> Links {
    let mut sorted: Vec<&Call> = calls.iter().filter(|c| c.gain() > 0.0).collect();
    sorted.sort_by_key(|c| c.at);
    let mut links: BTreeMap<(Uuid, Uuid), (f64, f64, i32, i64)> = BTreeMap::new();
    for call in sorted {
        let (members, half_life, prune) = rules(call.at);
        let members = &call.of[..call.of.len().min(members)];
        for (n, first) in members.iter().enumerate() {
            for second in &members[n + 1..] {
                let (x, y) = (memories[*first].id, memories[*second].id);
                let gain = call.gain() / (members.len() - 1) as f64;
                let link = links
                    .entry((x.min(y), x.max(y)))
                    .or_insert((0.0, 0.0, 0, call.at));
                let kept = (-days(link.3, call.at) / half_life).exp2();
                *link = if (link.0 + link.1) * kept < prune {
                    (0.0, 0.0, 0, call.at)
                } else {
                    (link.0 * kept, link.1 * kept, link.2, call.at)
                };
                if x < y {
                    link.0 += gain;
                } else {
                    link.1 += gain;
                }
                link.2 += 1;
            }
        }
    }
    links
        .into_iter()
        .map(|(pair, (forward, backward, count, last))| {
            let kept = (-days(last, at) / HALF_LIFE).exp2();
            (pair, (forward * kept, backward * kept, count))
        })
        .collect()
}

fn links(client: &mut Client, at: i64) -> Links {
    client
        .query(
            "SELECT a, b, forward, backward, count, linked_at FROM engram.hebbian_links",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| {
            let kept = (-days(micros(row.get(5)), at) / HALF_LIFE).exp2();
            (
                (row.get(0), row.get(1)),
                (
                    row.get::<_, f64>(2) * kept,
                    row.get::<_, f64>(3) * kept,
                    row.get(4),
                ),
            )
        })
        .collect()
}

#[track_caller]
fn assert_links(got: &Links, wanted: &Links, what: &str) {
    assert!(
        got.keys().eq(wanted.keys()),
        "{what}: {got:?} and {wanted:?}"
    );
    for (pair, a) in got {
        let b = wanted[pair];
        assert_near(a.0, b.0, 1e-6, &format!("forward of {pair:?}, {what}"));
        assert_near(a.1, b.1, 1e-6, &format!("backward of {pair:?}, {what}"));
        assert_eq!(a.2, b.2, "calls of {pair:?}, {what}");
    }
}

/// A year of uses of some memories.
fn year(dice: &mut Dice, end: i64) -> (Vec<Memory>, Vec<Call>) {
    let kinds = [
        "factual",
        "episodic",
        "relational",
        "emotional",
        "opinion",
        "causal",
    ];
    let memories: Vec<Memory> = (0..10)
        .map(|i| {
            let created = end - 365 * DAY + dice.below(40) as i64 * DAY;
            let importance = dice.below(11) as f64 / 10.0;
            let mut memory = Memory::new(i as u128, created, kinds[i % kinds.len()], importance);
            memory.layer = ["working", "working", "core", "archive"][i % 4];
            memory
        })
        .collect();
    let mut calls: Vec<Call> = Vec::new();
    for n in 0..110 {
        let kind = match dice.below(10) {
            0 => Kind::Rate(1 + dice.below(4) as u8),
            1 => Kind::Reinforce(0.2 + dice.below(9) as f64 / 10.0),
            2 => Kind::Reinforce(-1.0 + dice.below(9) as f64 / 10.0),
            3 => Kind::Shown(0.1),
            4 => Kind::Touch(2.5),
            _ => Kind::Touch(1.0),
        };
        let mut of: Vec<usize> = (0..memories.len()).collect();
        dice.shuffle(&mut of);
        // The last is seldom used, so that it fades in between.
        of.retain(|i| *i < 9 || n % 10 == 0);
        of.truncate(match kind {
            Kind::Rate(_) => 1,
            _ => 1 + dice.below(8),
        });
        let since = of.iter().map(|i| memories[*i].created).max().unwrap();
        // In bursts and alone, and now and then at the very moment of another.
        let at = match (dice.below(4), calls.last()) {
            (0, Some(last)) if last.at - 1 > since && n % 7 == 0 => last.at,
            (0, Some(last)) if last.at > since => {
                (last.at + dice.below(3600) as i64 * SECOND).min(end)
            }
            _ => since + (dice.next() as i64 % (end - since)),
        };
        let recall = (n % 5 == 0).then(|| Uuid::from_u128(n as u128 + 1));
        calls.push(Call {
            at,
            kind,
            of,
            recall,
        });
    }
    // A use from before it was stored.
    calls.push(Call {
        at: memories[0].created - 20 * DAY,
        kind: Kind::Touch(1.0),
        of: vec![0, 1],
        recall: None,
    });
    calls.push(Call {
        at: memories[0].created - 3 * DAY,
        kind: Kind::Reinforce(-0.5),
        of: vec![0],
        recall: None,
    });
    (memories, calls)
}

#[test]
fn neither_the_order_of_uses_nor_that_of_folds_shows() {
    let db = Database::new();
    let mut admin = db.admin();
    let end = now(&mut admin);
    for seed in [1, 2] {
        let mut dice = Dice(0x9E37_79B9 * seed);
        let (memories, calls) = year(&mut dice, end);
        let after = end + 40 * DAY;
        let wanted: Vec<Kept> = (0..memories.len())
            .map(|i| expected(&memories, i, &calls, after))
            .collect();
        let wanted_links = expected_links(&memories, &calls, after);
        for run in 0..4 {
            let mut client = db.user(&format!("run {run} of {seed}"));
            let me = workspace(&mut client);
            for memory in &memories {
                memory.store(&mut admin, me);
            }
            // Repeats are of calls that can be recognised.
            let mut sent: Vec<&Call> = calls.iter().collect();
            sent.extend(calls.iter().filter(|c| c.recall.is_some()));
            match run {
                0 => sent.sort_by_key(|c| c.at),
                1 => sent.sort_by_key(|c| -c.at),
                _ => dice.shuffle(&mut sent),
            }
            let mut credited = 0;
            while !sent.is_empty() {
                let mut transaction =
                    sent.split_off(sent.len() - sent.len().min(1 + dice.below(6)));
                client.batch_execute("BEGIN").unwrap();
                while let Some(call) = transaction.pop() {
                    credited += i64::from(call.make(&mut client, &memories));
                }
                client.batch_execute("COMMIT").unwrap();
                if run != 1 && dice.below(3) == 0 {
                    let n = 1 + dice.below(12) as i32;
                    fold(&mut client, n);
                }
            }
            assert_eq!(
                credited,
                calls.iter().map(|c| c.of.len() as i64).sum::<i64>()
            );
            for step in ["waiting", "folded"] {
                if step == "folded" {
                    fold_all(&mut client);
                }
                for (i, memory) in memories.iter().enumerate() {
                    let what = format!(
                        "memory {i} ({} in {}), {step}, run {run} of {seed}",
                        memory.kind, memory.layer
                    );
                    let mut got = kept(&mut client, memory.id, after);
                    // Heat is a sum of exponentials and has its own bound.
                    assert!(
                        (got.activation - wanted[i].activation).abs() <= 0.0025,
                        "{what}: {got:?}"
                    );
                    got.activation = wanted[i].activation;
                    got.assert_same(&wanted[i], &what);
                }
            }
            assert_links(
                &links(&mut client, after),
                &wanted_links,
                &format!("run {run} of {seed}"),
            );
            assert_eq!(
                count(&mut client, "SELECT count(*) FROM engram.access_log"),
                credited
            );
        }
        // Bit for bit the same moments, and heat as near as its 24 bits allow, for every decay.
        let rows = admin
            .query(
                "SELECT max(l) - min(l) FROM engram.memory_state s,
                   LATERAL (SELECT engram.heat_level(s.heat, $1::timestamptz + lag * interval '1 second', d) AS l, lag, d
                            FROM (VALUES (1.0), (3600), (86400), (31536000)) AS a (lag), (VALUES (0.1::float8), (0.3), (0.5), (0.8)) AS b (d)) x
                 GROUP BY s.memory_id, lag, d",
                &[&time(end)],
            )
            .unwrap();
        assert!(rows.len() >= 160);
        for row in rows {
            let spread: f64 = row.get(0);
            assert!(spread <= 3e-6, "{spread}");
        }
        admin
            .batch_execute("TRUNCATE engram.memories CASCADE")
            .unwrap();
    }
}

#[test]
fn what_waits_is_read_as_if_it_were_folded() {
    let db = Database::new();
    let mut admin = db.admin();
    let mut ann = db.user("ann");
    let me = workspace(&mut ann);
    let end = now(&mut ann);
    let mut dice = Dice(77);
    let (memories, calls) = year(&mut dice, end);
    for memory in &memories {
        memory.store(&mut admin, me);
    }
    // What a memory depends on changes while uses of it wait, and between folds.
    for (n, call) in calls.iter().enumerate() {
        call.make(&mut ann, &memories);
        let id = memories[dice.below(memories.len())].id;
        match n {
            20 | 50 | 70 => ann
                .execute("SELECT engram.pin($1)", &[&id])
                .map(drop)
                .unwrap(),
            40 => fold_all(&mut ann),
            60 => ann
                .execute(
                    "SELECT engram.unpin(id) FROM engram.list(match_count => 100) WHERE pinned",
                    &[],
                )
                .map(drop)
                .unwrap(),
            65 => ann
                .execute("SELECT engram.update($1, importance => 0.9)", &[&id])
                .map(drop)
                .unwrap(),
            80 => ann
                .execute("SELECT engram.update($1, type => 'procedural')", &[&id])
                .map(drop)
                .unwrap(),
            _ => {}
        }
    }
    let read = |ann: &mut Client| -> Vec<Kept> {
        let moments = [
            end - 100 * DAY,
            end + SECOND,
            end + 30 * DAY,
            end + 3000 * DAY,
        ];
        let ids = memories.iter().map(|m| m.id);
        ids.flat_map(|id| moments.map(|at| (id, at)))
            .map(|(id, at)| kept(ann, id, at))
            .collect()
    };
    let waiting = count(&mut ann, "SELECT count(*) FROM engram.access_queue");
    assert!(waiting > 40, "{waiting}");
    let before = read(&mut ann);
    for part in [7, 20, 1000] {
        fold(&mut ann, part);
        for (n, (a, b)) in before.iter().zip(read(&mut ann)).enumerate() {
            a.assert_same(&b, &format!("reading {n} after a fold of {part}"));
        }
    }
    assert_eq!(
        count(&mut ann, "SELECT count(*) FROM engram.access_queue"),
        0
    );
    assert!(
        before.iter().any(|k| k.layer == "core") && before.iter().any(|k| k.layer == "archive")
    );
}

/// What is erased takes its own uses along, and nothing of those of others, whether somebody had folded them or not.
#[test]
fn what_is_erased_leaves_the_links_of_others_as_they_were() {
    let db = Database::new();
    let seen = ["folded", "waiting", "imported"].map(|name| {
        let mut one = db.user(name);
        never_fold(&mut db.admin(), workspace(&mut one));
        let ids = facts(&mut one, 8);
        let at = "2026-01-01T00:00:00Z";
        for used in [&ids[..4], &ids[..4], &ids[..8], &ids[2..4]] {
            one.execute(
                &format!("SELECT engram.touch($1, at => '{at}')"),
                &[&used],
            )
            .unwrap();
        }
        if name == "folded" {
            fold_all(&mut one);
        }
        one.execute("SELECT engram.erase($1)", &[&&ids[2..4]]).unwrap();
        let waiting = count(&mut one, "SELECT count(*) FROM engram.access_queue");
        assert_eq!(waiting, if name == "folded" { 0 } else { 3 }, "{name}");
        if name == "imported" {
            let lines: serde_json::Value = one
                .query_one("SELECT jsonb_agg(l) FROM engram.export() l", &[])
                .unwrap()
                .get(0);
            one = db.user("another");
            never_fold(&mut db.admin(), workspace(&mut one));
            let wrong = one
                .query(
                    "SELECT error FROM engram.import($1) WHERE error IS NOT NULL AND kind <> 'settings'",
                    &[&lines],
                )
                .unwrap();
            assert!(wrong.is_empty(), "{wrong:?}");
        }
        [false, true].map(|folded| {
            if folded {
                fold_all(&mut one);
            }
            let sql = format!(
                "SELECT array_position($1, m.id)::int, l.strength, array_position($1, l.other)::int, l.count
                 FROM engram.memories m CROSS JOIN engram.links(m.id, '{at}') l ORDER BY 1, 3"
            );
            let rows = one.query(&sql, &[&ids]).unwrap();
            let links = rows.iter().map(|row| {
                let strength = format!("{:.9}", row.get::<_, f64>(1));
                (row.get::<_, i32>(0), row.get::<_, i32>(2), strength, row.get::<_, i32>(3))
            });
            links.collect::<Vec<_>>()
        })
    });
    assert!(seen[0][0].len() > 2);
    for links in seen.iter().flatten() {
        assert_eq!(links, &seen[0][0]);
    }
}

/// Settings that uses count by.
#[derive(Clone, Copy, Debug)]
struct Rules {
    mu1: f64,
    mu2: f64,
    alpha: f64,
    promote: f64,
    demote: f64,
    archive: f64,
    gain: f64,
    /// decay_per_day of opinions, in place of that of the defaults.
    opinions: Option<f64>,
    members: usize,
    half_life: f64,
    prune: f64,
}

impl Rules {
    fn rate(&self, kind: &str) -> f64 {
        let own = self.opinions.filter(|_| kind == "opinion");
        own.unwrap_or_else(|| rate_of(kind))
    }

    /// What becomes of (r1, r2) in some days without use.
    fn fade(&self, r: (f64, f64), dt: f64, memory: &Memory) -> (f64, f64) {
        let mu1 = self.mu1 * self.rate(memory.kind) / 0.1;
        let alpha = self.alpha * (0.2 + memory.importance * memory.importance);
        let moved = ((-self.mu2 * dt).exp() - (-mu1 * dt).exp()) / (mu1 - self.mu2);
        (
            r.0 * (-mu1 * dt).exp(),
            r.1 * (-self.mu2 * dt).exp() + alpha * moved * r.0,
        )
    }

    fn layer(&self, layer: &'static str, r: (f64, f64)) -> &'static str {
        let (r1, r2) = (r.0.max(0.0), r.1.max(0.0));
        match layer {
            "core" if r1 + r2 >= self.demote => "core",
            _ if r2 >= self.promote => "core",
            "working" if r1 >= self.archive || r2 >= self.archive => "working",
            _ => "archive",
        }
    }
}

/// What is to be read of memory `i` at a moment after all calls, one call after the other, each by the rules of its time.
fn lived(
    memories: &[Memory],
    i: usize,
    calls: &[Call],
    at: i64,
    rules: impl Fn(i64) -> Rules,
    now: Rules,
) -> Kept {
    let memory = &memories[i];
    let mut mine: Vec<&Call> = calls.iter().filter(|c| c.of.contains(&i)).collect();
    mine.sort_by(|a, b| {
        (a.at, a.rating())
            .cmp(&(b.at, b.rating()))
            .then(a.gain().total_cmp(&b.gain()))
    });
    let (mut r, mut layer, mut moment) = ((1.0, 0.0), memory.layer, memory.created);
    let (mut s, mut d) = (1.0 / rules(moment).rate(memory.kind), first_difficulty(3.0));
    let (mut last, mut uses) = (moment, 1);
    let mut need = (days(moment, at) * 86_400.0).powf(-0.5);
    // Looking often.
    let wait = |rules: Rules, r: &mut (f64, f64), layer: &mut &'static str, from: i64, to: i64| {
        let begun = *r;
        *layer = rules.layer(layer, *r);
        for n in (from + DAY / 50..to)
            .step_by((DAY / 50) as usize)
            .chain([to])
        {
            *r = rules.fade(begun, days(from, n), memory);
            *layer = rules.layer(layer, *r);
        }
    };
    for call in mine {
        if call.at > moment {
            // Where the call before left it.
            layer = rules(moment).layer(layer, r);
            wait(rules(call.at), &mut r, &mut layer, moment, call.at);
            moment = call.at;
        }
        if let Some(rating) = call.rating() {
            (s, d) = review(s, d, days(last, call.at), rating);
        }
        r.0 += rules(call.at).gain * call.gain();
        if call.gain() > 0.0 || call.rating().is_some() {
            last = call.at;
        }
        uses += i64::from(call.gain() > 0.0);
        need += call.gain().max(0.0) * (days(call.at, at) * 86_400.0).powf(-0.5);
    }
    layer = rules(moment).layer(layer, r);
    wait(now, &mut r, &mut layer, moment, at);
    let (r1, r2) = (r.0.max(0.0), r.1.max(0.0));
    let idle = days(last, at);
    Kept {
        activation: need.ln(),
        retrievability: retrievability(idle, s),
        stability: s,
        difficulty: d,
        working: r1,
        core: r2,
        strength: 1.0 - (-(r1 + r2)).exp(),
        retention: (r1 + r2).min(1.0) * (-idle / s).exp(),
        layer: layer.to_owned(),
        uses,
        last,
    }
}

/// Settings change again and again, by every door, while uses come late and folds happen or do not: each use counts by
/// the settings of its time.
#[test]
fn each_use_counts_by_the_settings_of_its_time() {
    let db = Database::new();
    let mut admin = db.admin();
    let end = now(&mut admin);
    let mut dice = Dice(0x51_7CC1_B727);
    let (memories, mut calls) = year(&mut dice, end - SECOND);
    // Those from before it was stored know nothing of changes that came later either.
    calls.retain(|call| call.of.iter().all(|i| call.at > memories[*i].created));
    let start = memories.iter().map(|m| m.created).max().unwrap();
    let changes: Vec<i64> = (1..=7).map(|n| start + (end - start) / 8 * n).collect();
    let first = Rules {
        mu1: MU1,
        mu2: MU2,
        alpha: ALPHA,
        promote: 0.25,
        demote: 0.05,
        archive: 0.15,
        gain: STRENGTH_GAIN,
        opinions: None,
        members: MEMBERS,
        half_life: HALF_LIFE,
        prune: PRUNE,
    };
    // A sentence for each change, $1 being the workspace; what is said of all-zero is so for everybody.
    let nobody = Uuid::nil();
    type Door = (String, fn(&mut Rules));
    let doors: [Door; 7] = [
        (r#"SELECT engram.configure('{"mu1": 0.4, "strength_gain": 0.6, "link_members": 3}', $1)"#.to_owned(), |r| {
            (r.mu1, r.gain, r.members) = (0.4, 0.6, 3);
        }),
        ("UPDATE engram.settings SET promote = 0.12, demote = 0.1, archive = 0.12, link_half_life_days = 5 WHERE workspace_id = $1".to_owned(), |r| {
            (r.promote, r.demote, r.archive, r.half_life) = (0.12, 0.1, 0.12, 5.0);
        }),
        ("INSERT INTO engram.memory_type_settings VALUES ($1, 'opinion', 0.3, 0.2)".to_owned(), |r| r.opinions = Some(0.2)),
        (format!(r#"SELECT engram.configure('{{"mu2": 0.02, "alpha": 0.2, "link_prune": 0.1}}', '{nobody}') WHERE $1::uuid IS NOT NULL"#), |r| {
            (r.mu2, r.alpha, r.prune) = (0.02, 0.2, 0.1);
        }),
        (r#"SELECT count(*) FROM engram.import('[{"kind": "settings", "settings": {"mu1": 0.05, "strength_gain": 0.3}}]', 'engram', 'replace', workspace => $1)"#.to_owned(), |r| {
            (r.mu1, r.gain) = (0.05, 0.3);
        }),
        ("DELETE FROM engram.memory_type_settings WHERE workspace_id = $1".to_owned(), |r| r.opinions = None),
        // Back to the defaults, those of now.
        ("DELETE FROM engram.settings WHERE workspace_id = $1".to_owned(), |r| {
            (r.mu1, r.gain, r.members) = (MU1, STRENGTH_GAIN, MEMBERS);
            (r.promote, r.demote, r.archive, r.half_life) = (0.25, 0.05, 0.15, HALF_LIFE);
        }),
    ];
    let mut stages = vec![first];
    for (_, change) in &doors {
        let mut rules = *stages.last().unwrap();
        change(&mut rules);
        stages.push(rules);
    }
    let stage = |at: i64| changes.iter().filter(|until| **until < at).count();
    let rules = |at: i64| stages[stage(at)];
    let after = end + 40 * DAY;
    let wanted: Vec<Kept> = (0..memories.len())
        .map(|i| lived(&memories, i, &calls, after, rules, stages[7]))
        .collect();
    let wanted_links = links_by(&memories, &calls, after, |at| {
        let rules = rules(at);
        (rules.members, rules.half_life, rules.prune)
    });

    // Of everybody: calls by the stage in which they are told, the last of it first.
    let mut worlds: Vec<(Client, Uuid, Vec<Vec<&Call>>)> = Vec::new();
    for run in 0..4 {
        let mut client = db.user(&format!("run {run}"));
        let me = workspace(&mut client);
        for memory in &memories {
            memory.store(&mut admin, me);
        }
        let mut told: Vec<Vec<&Call>> = vec![Vec::new(); 8];
        for call in &calls {
            // Half of them late, any number of changes after they happened.
            let late = if run == 0 {
                0
            } else {
                dice.below(2) * dice.below(8)
            };
            told[(stage(call.at) + late).min(7)].push(call);
        }
        for told in &mut told {
            dice.shuffle(told);
        }
        worlds.push((client, me, told));
    }
    never_fold(&mut admin, worlds[2].1);
    // One of them is folded by statements.
    let statements = "CREATE TRIGGER own AFTER INSERT ON engram.hebbian_links FOR EACH STATEMENT EXECUTE FUNCTION public.nothing()";
    admin
        .batch_execute("CREATE FUNCTION public.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
        .unwrap();
    for nth in 0..8 {
        if nth == 4 {
            admin.batch_execute(statements).unwrap();
        }
        for (run, (client, _, told)) in worlds.iter_mut().enumerate() {
            while let Some(call) = told[nth].pop() {
                call.make(client, &memories);
                match run {
                    0 | 1 => drop(fold(client, 1000)),
                    3 if dice.below(4) == 0 => drop(fold(client, 1 + dice.below(9) as i32)),
                    _ => {}
                }
            }
        }
        let Some(until) = changes.get(nth) else { break };
        admin.batch_execute("BEGIN").unwrap();
        for (_, me, _) in &worlds {
            let call = doors[nth].0.as_str();
            admin.execute(call, &[me]).unwrap();
            // So was the change: everything that was told happened before it.
            admin
                .execute(
                    "UPDATE engram.settings_history SET until = $1 WHERE until >= now()",
                    &[&time(*until)],
                )
                .unwrap();
        }
        admin.batch_execute("COMMIT").unwrap();
    }
    for step in ["waiting", "folded"] {
        for (run, (client, _, _)) in worlds.iter_mut().enumerate() {
            if step == "folded" {
                fold_all(client);
            } else if run == 2 {
                let waiting = count(client, "SELECT count(*) FROM engram.access_queue");
                assert_eq!(waiting, calls.len() as i64);
            }
            for (i, memory) in memories.iter().enumerate() {
                let what = format!("memory {i} ({}), {step}, run {run}", memory.kind);
                let mut got = kept(client, memory.id, after);
                assert!(
                    (got.activation - wanted[i].activation).abs() <= 0.0025,
                    "{what}"
                );
                got.activation = wanted[i].activation;
                got.assert_same(&wanted[i], &what);
            }
            let told = |client: &mut Client| -> Vec<(Uuid, f64, i32)> {
                let sql =
                    "SELECT l.other, l.strength, l.count FROM engram.links($1, $2) l ORDER BY 1";
                let rows = client.query(sql, &[&memories[9].id, &time(after)]).unwrap();
                rows.iter()
                    .map(|row| (row.get(0), row.get(1), row.get(2)))
                    .collect()
            };
            if step == "waiting" {
                let before = told(client);
                fold_all(client);
                let folded = told(client);
                assert_eq!(before.len(), folded.len(), "run {run}");
                for (a, b) in before.iter().zip(&folded) {
                    assert_eq!((a.0, a.2), (b.0, b.2), "run {run}");
                    assert_near(a.1, b.1, 1e-6, "strength of a link");
                }
            } else {
                assert_links(&links(client, after), &wanted_links, &format!("run {run}"));
            }
        }
    }
}

/// Who changes settings and who folds by them come one after the other, whichever is first, and neither waits for the
/// other's transaction to end: a use counts by what was in force when it happened.
#[test]
fn settings_change_between_folds() {
    let db = Database::new();
    let (mut admin, mut watch) = (db.admin(), db.admin());
    let gains = |gain: f64| format!("SELECT engram.configure('{{\"strength_gain\": {gain}}}')");
    let of_all = |gain: f64| {
        format!(
            "SELECT engram.configure('{{\"strength_gain\": {gain}}}', '{}')",
            Uuid::nil()
        )
    };
    let direct = |gain: f64| format!("UPDATE engram.settings SET strength_gain = {gain}");
    for (name, own, gain, change) in [
        ("no row of its own", false, 5.0, gains(5.0)),
        ("a row of its own", true, 5.0, gains(5.0)),
        ("the defaults", false, 5.0, of_all(5.0)),
        ("by hand", true, 3.0, direct(3.0)),
    ] {
        admin.batch_execute(&direct(STRENGTH_GAIN)).unwrap();
        let (mut one, mut other) = (db.user(name), db.user(name));
        let me = workspace(&mut one);
        if own {
            never_fold(&mut admin, me);
        }
        let ids = facts(&mut one, 1);
        let change = |client: &mut Client| client.batch_execute(&change).unwrap();
        let changer = |db: &Database| {
            if name.ends_with("own") {
                db.user(name)
            } else {
                db.admin()
            }
        };
        touch(&mut one, &ids);
        // While it is being changed nobody folds, and nobody waits.
        let mut busy = changer(&db);
        busy.batch_execute("BEGIN").unwrap();
        change(&mut busy);
        touch(&mut other, &ids);
        assert_eq!(fold(&mut other, 10), 0, "{name}");
        busy.batch_execute("COMMIT").unwrap();
        touch(&mut one, &ids);
        assert_eq!(fold(&mut other, 10), 3, "{name}");
        let strength = |client: &mut Client| kept(client, ids[0], 0).working;
        let mut wanted = 1.0 + STRENGTH_GAIN + 2.0 * gain;
        assert_near(strength(&mut one), wanted, 1e-4, name);

        // Who has folded keeps nobody from changing it, however long the transaction goes on: what it counted, and what
        // happened meanwhile, is of before, whether or not it is committed.
        for end in ["COMMIT", "ROLLBACK"] {
            touch(&mut one, &ids);
            one.batch_execute("BEGIN").unwrap();
            assert_eq!(fold(&mut one, 10), 1, "{name}");
            touch(&mut other, &ids);
            let mut busy = changer(&db);
            busy.batch_execute("SET lock_timeout = '10 s'").unwrap();
            let (before, after) = match end {
                "COMMIT" => (gain, STRENGTH_GAIN),
                _ => (STRENGTH_GAIN, gain),
            };
            match name {
                "by hand" => busy.batch_execute(&direct(after)),
                "the defaults" => busy.batch_execute(&of_all(after)),
                _ => busy.batch_execute(&gains(after)),
            }
            .unwrap();
            one.batch_execute(end).unwrap();
            touch(&mut other, &ids);
            fold_all(&mut other);
            wanted += 2.0 * before + after;
            assert_near(strength(&mut one), wanted, 1e-4, name);
        }
    }

    admin.batch_execute(&direct(STRENGTH_GAIN)).unwrap();
    // No lock of the server's is left, of which there are not as many as workspaces.
    let mut one = db.user("left");
    let ids = facts(&mut one, 1);
    touch(&mut one, &ids);
    fold_all(&mut one);
    touch(&mut one, &ids);
    one.batch_execute("BEGIN").unwrap();
    assert_eq!(fold(&mut one, 10), 1);
    let left = "SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND pid = pg_backend_pid()";
    assert_eq!(count(&mut one, left), 0);
    one.batch_execute("COMMIT").unwrap();

    // Different doors at the same time wait for each other's rows, and for nothing else.
    let imported = r#"SELECT count(*) FROM engram.import('[{"kind": "settings", "settings": {"mu1": 0.3}}]', 'engram', 'replace')"#;
    let mut busy = db.user("left");
    busy.batch_execute(&gains(1.0)).unwrap();
    busy.batch_execute("BEGIN").unwrap();
    busy.batch_execute(&gains(2.0)).unwrap();
    let pid: i32 = one
        .query_one("SELECT pg_backend_pid()", &[])
        .unwrap()
        .get(0);
    thread::scope(|scope| {
        let work = scope.spawn(|| one.batch_execute(imported));
        let waits = "SELECT cardinality(pg_blocking_pids($1)) > 0";
        while !watch.query_one(waits, &[&pid]).unwrap().get::<_, bool>(0) {
            assert!(!work.is_finished(), "it did not wait");
        }
        busy.batch_execute(&gains(3.0)).unwrap();
        let types = "INSERT INTO engram.memory_type_settings VALUES ($1, 'opinion', 0.3, 0.2)";
        let me = workspace(&mut busy);
        admin
            .batch_execute("SET statement_timeout = '30 s'")
            .unwrap();
        admin.execute(types, &[&me]).unwrap();
        busy.batch_execute("COMMIT").unwrap();
        work.join().unwrap().unwrap();
    });

    // A transaction with an older snapshot changes them as well.
    let mut one = db.user("older");
    let ids = facts(&mut one, 1);
    touch(&mut one, &ids);
    one.batch_execute(&format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ; {}; COMMIT",
        gains(7.0)
    ))
    .unwrap();
    touch(&mut one, &ids);
    fold_all(&mut one);
    let working = kept(&mut one, ids[0], 0).working;
    assert_near(working, 8.0 + STRENGTH_GAIN, 1e-4, "an older snapshot");

    // What changes nothing that uses count by, or nothing that anybody has used, is no change.
    let kept_rows = "SELECT count(*) FROM engram.settings_history WHERE workspace_id = engram.current_user_id()";
    assert_eq!(count(&mut one, kept_rows), 1);
    one.batch_execute(&format!(
        "{}; SELECT engram.configure('{{\"importance_weight\": 0.2}}')",
        gains(7.0)
    ))
    .unwrap();
    assert_eq!(count(&mut one, kept_rows), 1);
    let mut new = db.user("new");
    new.batch_execute("SELECT engram.apply_preset('researcher')")
        .unwrap();
    assert_eq!(count(&mut new, kept_rows), 0);
    // Also where an older snapshot would not tell, and without a look at what others have.
    let mut newer = db.user("newer");
    let change = |gain: f64, level: &str, client: &mut Client| {
        let change = gains(gain);
        let read = "SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relid = 'engram.memories'::regclass";
        client
            .batch_execute(&format!("BEGIN ISOLATION LEVEL {level}; {change}"))
            .unwrap();
        assert_eq!(count(client, read), 0);
        client.batch_execute("COMMIT").unwrap();
    };
    for n in 1..10 {
        change(f64::from(n), "READ COMMITTED", &mut newer);
    }
    change(7.0, "SERIALIZABLE", &mut newer);
    assert_eq!(count(&mut newer, kept_rows), 0);
    newer
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        .unwrap();
    facts(&mut db.user("newer"), 1);
    newer.batch_execute(&gains(8.0)).unwrap();
    newer.batch_execute("COMMIT").unwrap();
    assert_eq!(count(&mut newer, kept_rows), 1);
    // Nor would any snapshot tell of what somebody is storing, and has used, just now.
    let (mut first, mut other) = (db.user("first"), db.user("first"));
    first.batch_execute("BEGIN").unwrap();
    let ids = facts(&mut first, 1);
    touch(&mut first, &ids);
    other.batch_execute(&gains(5.0)).unwrap();
    first.batch_execute("COMMIT").unwrap();
    touch(&mut first, &ids);
    let working = kept(&mut first, ids[0], 0).working;
    assert_near(working, 6.0 + STRENGTH_GAIN, 1e-4, "a first memory");
    // All that one transaction changes is one change.
    facts(&mut new, 1);
    new.batch_execute("BEGIN; SELECT engram.apply_preset('chatbot'); SELECT engram.configure('{\"mu1\": 0.3}'); COMMIT")
        .unwrap();
    assert_eq!(count(&mut new, kept_rows), 1);
}

/// An application that sets everything whenever somebody comes leaves thousands of changes behind: what asks for many
/// memories reads them once, and each of them is another number only where it makes a difference.
#[test]
fn settings_that_changed_thousands_of_times() {
    let db = Database::new();
    let mut admin = db.admin();
    let mut ann = db.user("ann");
    let me = workspace(&mut ann);
    let ids = facts(&mut ann, 20);
    touch(&mut ann, &ids[..6]);
    admin
        .execute(
            "INSERT INTO engram.settings_history (workspace_id, type, until, xid, mu1)
             SELECT $1, '', now() - interval '1 hour' - g * interval '1 s', '0', 0.1 + g % 2 * 0.1 FROM generate_series(1, 10001) g",
            &[&me],
        )
        .unwrap();
    ann.batch_execute("SET statement_timeout = '8 s'").unwrap();
    assert_eq!(
        count(&mut ann, "SELECT count(layer) FROM engram.memory_overview"),
        20
    );
    fold_all(&mut ann);
    let numbers = |client: &mut Client| -> i32 {
        let sql = "SELECT cardinality(engram_internal.dynamics_over_time($1))";
        client.query_one(sql, &[&me]).unwrap().get(0)
    };
    assert_eq!(numbers(&mut ann), 15 + 19 * 10_001);
    // All of them go where the memories go.
    let lines: serde_json::Value = ann
        .query_one("SELECT jsonb_agg(e) FROM engram.export() e", &[])
        .unwrap()
        .get(0);
    let mut carl = db.user("carl");
    let there = carl
        .query(
            "SELECT status, error FROM engram.import($1, 'engram') WHERE kind = 'settings'",
            &[&lines],
        )
        .unwrap();
    assert_eq!(there[0].get::<_, Option<String>>(1), None);
    let kept = "SELECT count(*) FROM engram.settings_history WHERE workspace_id = engram.current_user_id()";
    assert_eq!(count(&mut carl, kept), 10_001);
    // A line may say that there were none.
    let none = r#"SELECT status FROM engram.import('[{"kind": "settings", "settings": {}, "past": null}]', 'engram', 'replace')"#;
    let status: String = carl.query_one(none, &[]).unwrap().get(0);
    assert_eq!(status, "unchanged");
    // The defaults may change as often, which is nothing to who has settings of their own.
    admin
        .batch_execute(
            "INSERT INTO engram.settings_history (workspace_id, type, until, xid, mu1)
             SELECT '00000000-0000-0000-0000-000000000000', '', now() - interval '1 hour' - g * interval '1 s', '0', 0.1 + g % 2 * 0.1
             FROM generate_series(1, 100) g;
             DELETE FROM engram.settings_history WHERE workspace_id <> '00000000-0000-0000-0000-000000000000'",
        )
        .unwrap();
    assert_eq!(numbers(&mut ann), 15 + 19 * 100);
    admin
        .execute(
            "INSERT INTO engram.settings (workspace_id, mu1) VALUES ($1, 0.3)",
            &[&me],
        )
        .unwrap();
    // Until now it had none.
    assert_eq!(numbers(&mut ann), 15 + 19 * 101);
    admin
        .execute(
            "DELETE FROM engram.settings_history WHERE workspace_id = $1",
            &[&me],
        )
        .unwrap();
    assert_eq!(numbers(&mut ann), 15);

    // What was read for one is read anew for another, and after what was done has been undone.
    let mut bob = db.user("bob");
    facts(&mut bob, 1);
    let bobs = workspace(&mut bob);
    let other = "SELECT 0.0625 = ANY (engram_internal.dynamics_over_time($1))";
    let sees = |client: &mut Client, wanted: bool| {
        assert_eq!(
            client.query_one(other, &[&bobs]).unwrap().get::<_, bool>(0),
            wanted
        );
    };
    for alpha in [0.0625, 0.07] {
        bob.batch_execute(&format!(
            "SELECT engram.configure('{{\"alpha\": {alpha}}}')"
        ))
        .unwrap();
    }
    bob.batch_execute("BEGIN").unwrap();
    sees(&mut bob, true);
    bob.batch_execute("SELECT set_config('engram.user_id', 'ann', true)")
        .unwrap();
    sees(&mut bob, false);
    bob.batch_execute("SELECT set_config('engram.user_id', 'bob', true)")
        .unwrap();
    sees(&mut bob, true);
    bob.batch_execute("ROLLBACK").unwrap();
    bob.batch_execute("BEGIN; SAVEPOINT a; SELECT engram.configure('{\"alpha\": 0.09}')")
        .unwrap();
    let now = "SELECT 0.09 = ANY (engram_internal.dynamics_over_time($1))";
    assert!(bob.query_one(now, &[&bobs]).unwrap().get::<_, bool>(0));
    bob.batch_execute("ROLLBACK TO a").unwrap();
    assert!(!bob.query_one(now, &[&bobs]).unwrap().get::<_, bool>(0));
    sees(&mut bob, true);
    bob.batch_execute("COMMIT").unwrap();
}

// --- once and only once --------------------------------------------------------------------------

#[test]
fn a_memory_is_credited_once_for_a_recall() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let ids = facts(&mut ann, 6);
    let recall: Uuid = ann
        .query_one("SELECT DISTINCT recall_id FROM engram.recall('fact')", &[])
        .unwrap()
        .get(0);
    let mut credit = |ids: &[Uuid], recall: Uuid| -> i32 {
        let row = ann.query_one("SELECT engram.touch($1, recall_id => $2)", &[&ids, &recall]);
        row.unwrap().get(0)
    };
    assert_eq!(credit(&ids[..2], recall), 2);
    assert_eq!(credit(&ids[..2], recall), 0);
    assert_eq!(credit(&ids[1..4], recall), 2);
    assert_eq!(credit(&[ids[4], ids[4], ids[4]], recall), 1);
    assert_eq!(credit(&ids[..2], Uuid::now_v7()), 2, "another recall");
    // Feedback and ratings are credits of other kinds, each once as well.
    for (sql, wanted) in [
        ("SELECT engram.reinforce($1, recall_id => $2)", 6),
        ("SELECT engram.reinforce($1, -1, recall_id => $2)", 0),
        (
            "SELECT engram.rate(($1::uuid[])[6], 4, recall_id => $2)::int",
            1,
        ),
        (
            "SELECT engram.rate(($1::uuid[])[1], 4, recall_id => $2)::int",
            1,
        ),
        (
            "SELECT engram.rate(($1::uuid[])[1], 1, recall_id => $2)::int",
            0,
        ),
    ] {
        let got: i32 = ann.query_one(sql, &[&ids, &recall]).unwrap().get(0);
        assert_eq!(got, wanted, "{sql}");
    }
    // What was shown is credited too, whether before it is used or after.
    let answers = [Uuid::now_v7(), Uuid::now_v7()];
    for (kind, recall, wanted) in [
        ("shown", 0, 1),
        ("shown", 0, 0),
        ("used", 0, 1),
        ("used", 1, 1),
        ("shown", 1, 1),
        ("shown", 1, 0),
        ("used", 0, 0),
        ("used", 1, 0),
    ] {
        let got: i32 = ann
            .query_one(
                "SELECT engram.touch(ARRAY[$1::uuid], $2, recall_id => $3)",
                &[&ids[5], &kind, &answers[recall]],
            )
            .unwrap()
            .get(0);
        assert_eq!(got, wanted, "{kind} for answer {recall}");
    }
    // However the list was written by hand.
    let by_hand = Uuid::now_v7();
    ann.execute(
        "INSERT INTO engram.recall_credits (workspace_id, recall_id, memory_ids) VALUES (engram.current_user_id(), $1, ARRAY[$2::uuid[], $3])",
        &[&by_hand, &&ids[..1], &&ids[2..3]],
    )
    .unwrap();
    for wanted in [4, 0] {
        let got: i32 = ann
            .query_one(
                "SELECT engram.touch($1, recall_id => $2)",
                &[&&ids[..], &by_hand],
            )
            .unwrap()
            .get(0);
        assert_eq!(got, wanted);
    }
    // As older versions wrote it, which told no kinds apart: the one list stood for all of them.
    for wanted in [4, 0] {
        let got: i32 = ann
            .query_one(
                "SELECT engram.reinforce($1, 0.2, recall_id => $2)",
                &[&&ids[..], &by_hand],
            )
            .unwrap()
            .get(0);
        assert_eq!(got, wanted);
    }
    // Without one, every call counts.
    assert_eq!(touch(&mut ann, &ids[..1]) + touch(&mut ann, &ids[..1]), 2);
    let at = now(&mut ann);
    let uses: Vec<i64> = ids.iter().map(|id| kept(&mut ann, *id, at).uses).collect();
    assert_eq!(uses, [7, 6, 3, 5, 5, 7]);

    // Eight at once, each with an overlapping part, in an order of its own.
    let shared = Uuid::now_v7();
    let granted: i32 = cluster_of(8, |n| {
        let mut ann = db.user("ann");
        let mut mine: Vec<Uuid> = (0..4).map(|i| ids[(n + i) % 6]).collect();
        if n % 2 == 0 {
            mine.reverse();
        }
        let row = ann.query_one(
            "SELECT engram.touch($1, recall_id => $2)",
            &[&mine, &shared],
        );
        row.unwrap().get::<_, i32>(0)
    })
    .into_iter()
    .sum();
    assert_eq!(granted, 6);
    fold_all(&mut ann);
    let uses: Vec<i64> = ids.iter().map(|id| kept(&mut ann, *id, at).uses).collect();
    assert_eq!(uses, [8, 7, 4, 6, 6, 8]);

    // Six at once, two for each kind: one of them counts.
    let shared = Uuid::now_v7();
    let granted: i32 = cluster_of(6, |n| {
        let mut ann = db.user("ann");
        let sql = [
            "SELECT engram.touch(ARRAY[$1::uuid], recall_id => $2)",
            "SELECT engram.reinforce(ARRAY[$1::uuid], -1, recall_id => $2)",
            "SELECT engram.rate($1, 2, recall_id => $2)::int",
        ][n % 3];
        let row = ann.query_one(sql, &[&ids[0], &shared]);
        row.unwrap().get::<_, i32>(0)
    })
    .into_iter()
    .sum();
    assert_eq!(granted, 3);
    let held = "SELECT count(*) FROM engram.recall_credits WHERE $1 = ANY (memory_ids || reinforced_ids || rated_ids)";
    let before: i64 = ann.query_one(held, &[&ids[0]]).unwrap().get(0);
    assert_eq!(before, 5);
    ann.execute("SELECT engram.erase($1)", &[&&ids[..1]])
        .unwrap();
    let after: i64 = ann.query_one(held, &[&ids[0]]).unwrap().get(0);
    assert_eq!(after, 0, "what is erased leaves all lists");
}

#[test]
fn a_recall_is_credited_once_however_late() {
    let db = Database::new();
    let (mut admin, mut ann) = (db.admin(), db.user("ann"));
    let ids = facts(&mut ann, 1);
    let recall = Uuid::now_v7();
    let mut credited = |days: i32, consolidate: bool| -> i32 {
        let age = "UPDATE engram.recall_credits SET created_at = now() - make_interval(days => $1)";
        admin.execute(age, &[&days]).unwrap();
        if consolidate {
            ann.batch_execute("SELECT engram.consolidate()").unwrap();
        }
        let touch = "SELECT engram.touch($1, recall_id => $2)";
        ann.query_one(touch, &[&ids, &recall]).unwrap().get(0)
    };
    assert_eq!(credited(0, false), 1);
    for consolidate in [false, true] {
        assert_eq!(credited(1000, consolidate), 0, "{consolidate}");
    }
    // What the log does not know any more is not known here.
    let keep = |days: f64| {
        db.admin()
            .execute("UPDATE engram.settings SET access_log_days = $1", &[&days])
            .unwrap();
    };
    keep(1.0);
    assert_eq!(credited(89, true), 0);
    keep(200.0);
    assert_eq!(credited(199, true), 0);
    assert_eq!(credited(201, true), 1);
}

/// An answer is given, and later the user says what it was worth: under the one recall, in any order, each call twice.
#[test]
fn use_feedback_and_rating_of_a_recall_come_in_any_order() {
    let db = Database::new();
    let mut admin = db.admin();
    let mut ann = db.user("ann");
    let me = workspace(&mut ann);
    let end = now(&mut ann);
    let created = end - 40 * DAY;
    let calls = [
        (
            "SELECT engram.touch(ARRAY[$1::uuid], at => $2, recall_id => $3)",
            end - 20 * DAY,
        ),
        (
            "SELECT engram.reinforce(ARRAY[$1::uuid], -1, $2, $3)",
            end - 10 * DAY,
        ),
        ("SELECT engram.rate($1, 4, $2, $3)::int", end - 5 * DAY),
    ];
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    let mut seen: Vec<Kept> = Vec::new();
    for (n, order) in orders.into_iter().enumerate() {
        let memory = Memory::new(900 + n as u128, created, "episodic", 0.6);
        memory.store(&mut admin, me);
        let recall = Uuid::now_v7();
        for (nth, which) in order.into_iter().enumerate() {
            let (sql, at) = calls[which];
            for wanted in [1, 0] {
                let got: i32 = ann
                    .query_one(sql, &[&memory.id, &time(at), &recall])
                    .unwrap()
                    .get(0);
                assert_eq!(got, wanted, "{order:?}: {sql}");
            }
            if n % 2 == nth % 2 {
                fold_all(&mut ann);
            }
        }
        fold_all(&mut ann);
        seen.push(kept(&mut ann, memory.id, end));
    }
    assert_eq!(seen[0].uses, 3, "stored, used and confirmed");
    for (order, other) in orders.iter().zip(&seen) {
        seen[0].assert_same(other, &format!("{order:?}"));
    }
}

/// Uses against a memory leave a debt, which is kept, shown as 0, and lived through the same whoever looks when.
#[test]
fn strengths_in_debt_are_shown_as_none_and_no_use_without_effect_shows() {
    let db = Database::new();
    let mut admin = db.admin();
    let mut ann = db.user("ann");
    let me = workspace(&mut ann);
    let micros_of = |client: &mut Client, text: &str| -> i64 {
        micros(
            client
                .query_one("SELECT $1::text::timestamptz", &[&text])
                .unwrap()
                .get(0),
        )
    };
    let created = micros_of(&mut ann, "2026-01-01 00:00Z");
    let memories: Vec<Memory> = (0..2)
        .map(|n| Memory::new(800 + n, created, "episodic", 0.6))
        .collect();
    let call = |kind: Kind, at: i64, of: &[usize]| Call {
        at,
        kind,
        of: of.to_vec(),
        recall: None,
    };
    let mut calls = vec![call(Kind::Touch(1.0), created + 5 * DAY, &[0, 1])];
    calls.extend((0..4).map(|_| call(Kind::Reinforce(-1.0), created + 20 * DAY, &[0, 1])));
    // It changes nothing to speak of.
    calls.push(call(Kind::Touch(1e-9), created + 29 * DAY, &[1]));
    for memory in &memories {
        memory.store(&mut admin, me);
    }
    for call in &calls {
        call.make(&mut ann, &memories);
    }
    let mut layers = Vec::new();
    for day in [20, 21, 25, 29, 30, 32, 40, 60, 400] {
        let at = created + day * DAY;
        let [a, b] = [0, 1].map(|n| {
            kept(
                &mut ann,
                memories[n].id,
                at.max(created + 29 * DAY * n as i64),
            )
        });
        if day >= 29 {
            for (n, kept) in [&a, &b].into_iter().enumerate() {
                let wanted = expected(&memories, n, &calls, at);
                assert_eq!(kept.layer, wanted.layer, "memory {n} on day {day}");
                assert_near(kept.core, wanted.core, 1e-6, "core strength");
                assert_eq!(kept.working, 0.0);
            }
            assert_eq!(a.layer, b.layer, "on day {day}");
        }
        layers.push(a.layer.clone());
        // What is shown can be gone on from.
        let row = ann
            .query_one(
                "SELECT engram.layer_tick(r.layer, r.working_strength, r.core_strength, 0, 0.0448, 0.15, 0.005), r.layer,
                        r.strength, engram.trace_strength(r.working_strength, r.core_strength), e.r2
                 FROM engram.retention($1, $2) r
                 CROSS JOIN engram.trace_evolve(r.working_strength, r.core_strength, 1, 0.0448, 0.15, 0.005) e",
                &[&memories[0].id, &time(at)],
            )
            .unwrap();
        assert_eq!(row.get::<_, String>(0), row.get::<_, String>(1));
        assert_eq!(row.get::<_, f64>(2), row.get::<_, f64>(3));
        assert!(row.get::<_, f64>(4) >= 0.0);
    }
    // Core while what had settled lasts, then archive for good, though r2 was above the threshold once.
    assert_eq!(
        (layers[0].as_str(), layers[layers.len() - 1].as_str()),
        ("core", "archive")
    );
    assert!(
        layers.is_sorted_by_key(|layer| layer == "archive"),
        "{layers:?}"
    );
    // What is stored knows of the debt, and later uses make up for it.
    fold_all(&mut ann);
    let row = admin
        .query_one(
            "SELECT s.working_strength, o.working_strength, o.core_strength FROM engram.memory_state s
             JOIN engram.memory_overview o ON o.id = s.memory_id WHERE s.memory_id = $1",
            &[&memories[0].id],
        )
        .unwrap();
    assert!(row.get::<_, f64>(0) < -0.4);
    assert!(row.get::<_, f64>(1) == 0.0 && row.get::<_, f64>(2) >= 0.0);
    let e = failure(ann.execute(
        "SELECT * FROM engram.retention($1, 'infinity')",
        &[&memories[0].id],
    ));
    assert!(
        e.code == "22023" && e.message == "at is infinite" && !e.hint.is_empty(),
        "{e:?}"
    );
}

/// Runs `work` in so many threads.
fn cluster_of<T: Send>(threads: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let barrier = std::sync::Barrier::new(threads);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|n| {
                let (barrier, work) = (&barrier, &work);
                scope.spawn(move || {
                    barrier.wait();
                    work(n)
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

/// A workspace that folds as soon as two calls wait.
fn eager(db: &Database, client: &mut Client) {
    let me = workspace(client);
    db.admin()
        .execute(
            "INSERT INTO engram.settings (workspace_id, fold_threshold) VALUES ($1, 2)",
            &[&me],
        )
        .unwrap();
}

/// Says that it is over, also when a test fails before.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn sessions_that_use_and_change_the_same_memories_lose_nothing() {
    const STAY: usize = 12;
    let db = Database::new();
    let mut ann = db.user("ann");
    eager(&db, &mut ann);
    let ids = facts(&mut ann, 24);
    let (stay, doomed) = ids.split_at(STAY);
    let uses: Vec<AtomicU64> = (0..STAY).map(|_| AtomicU64::new(0)).collect();
    let merged: Vec<AtomicU64> = (0..STAY).map(|_| AtomicU64::new(0)).collect();
    let done = &AtomicBool::new(false);
    let folded = &AtomicU64::new(0);
    thread::scope(|scope| {
        let folder = scope.spawn(|| {
            let mut ann = db.user("ann");
            let mut dice = Dice(5);
            while !done.load(Ordering::Relaxed) {
                let n = fold(&mut ann, 1 + dice.below(20) as i32);
                folded.fetch_add(n as u64, Ordering::Relaxed);
            }
        });
        let end = End(done);
        cluster_of(8, |n| {
            let mut ann = db.user("ann");
            ann.batch_execute("SET lock_timeout = '60s'").unwrap();
            let mut dice = Dice(1000 + n as u64);
            for round in 0..150 {
                let mut some: Vec<usize> = (0..STAY).collect();
                dice.shuffle(&mut some);
                some.truncate(1 + dice.below(5));
                let mut used: Vec<Uuid> = some.iter().map(|i| stay[*i]).collect();
                let one = some[0];
                let mut counted = 1;
                match dice.below(8) {
                    0 => {
                        let sql = if round % 2 == 0 {
                            "SELECT engram.pin($1)"
                        } else {
                            "SELECT engram.unpin($1)"
                        };
                        ann.execute(sql, &[&stay[one]]).unwrap();
                        continue;
                    }
                    1 => {
                        let importance = dice.below(100) as f64 / 100.0;
                        ann.execute(
                            "SELECT engram.update($1, importance => $2)",
                            &[&stay[one], &importance],
                        )
                        .unwrap();
                        continue;
                    }
                    2 => {
                        ann.execute("SELECT engram.add($1)", &[&format!("Fact {}", one + 1)])
                            .unwrap();
                        merged[one].fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    3 => {
                        // With those that others erase, in a transaction of several uses and one change.
                        used.push(doomed[dice.below(doomed.len())]);
                        let mut transaction = ann.transaction().unwrap();
                        transaction
                            .execute("SELECT engram.touch($1)", &[&used])
                            .unwrap();
                        transaction
                            .execute("SELECT engram.pin($1)", &[&stay[one]])
                            .unwrap();
                        transaction
                            .execute("SELECT engram.touch($1)", &[&used])
                            .unwrap();
                        transaction.commit().unwrap();
                        counted = 2;
                    }
                    4 if round % 10 == 3 => {
                        let id = doomed[dice.below(doomed.len())];
                        ann.execute("SELECT engram.erase(ARRAY[$1::uuid])", &[&id])
                            .unwrap();
                        continue;
                    }
                    5 => {
                        let mut transaction = ann.transaction().unwrap();
                        transaction
                            .execute("SELECT engram.touch($1)", &[&used])
                            .unwrap();
                        transaction.rollback().unwrap();
                        continue;
                    }
                    6 => {
                        ann.query("SELECT engram.recall('fact', match_count => 5)", &[])
                            .unwrap();
                        let got = ann
                            .query_one("SELECT engram.reinforce($1, 0.7)", &[&used])
                            .unwrap();
                        assert_eq!(got.get::<_, i32>(0), used.len() as i32);
                    }
                    _ => assert_eq!(touch(&mut ann, &used), used.len() as i32),
                }
                for i in some {
                    uses[i].fetch_add(counted, Ordering::Relaxed);
                }
            }
        });
        drop(end);
        folder.join().unwrap();
    });
    assert!(folded.load(Ordering::Relaxed) > 0);
    fold_all(&mut ann);
    let at = now(&mut ann);
    for (i, id) in stay.iter().enumerate() {
        let (used, merged) = (
            uses[i].load(Ordering::Relaxed),
            merged[i].load(Ordering::Relaxed),
        );
        let logged: i64 = ann
            .query_one("SELECT count(*) FROM engram.access_log WHERE memory_id = $1 AND kind IN ('used', 'reinforced')", &[id])
            .unwrap()
            .get(0);
        assert_eq!(logged as u64, used, "memory {i}");
        assert_eq!(
            kept(&mut ann, *id, at).uses as u64,
            1 + used + merged,
            "memory {i}"
        );
    }
    // What was erased has left nothing.
    let mut admin = db.admin();
    assert!(count(&mut admin, "SELECT count(*) FROM engram.erasures") > 0);
    for table in ["access_log l", "memory_state l"] {
        let left = count(
            &mut admin,
            &format!(
                "SELECT count(*) FROM engram.{table} WHERE NOT EXISTS (SELECT FROM engram.memories m WHERE m.id = l.memory_id)"
            ),
        );
        assert_eq!(left, 0, "{table}");
    }
    let left = count(
        &mut admin,
        "SELECT count(*) FROM engram.hebbian_links l WHERE NOT EXISTS (SELECT FROM engram.memories m WHERE m.id = l.a)
           OR NOT EXISTS (SELECT FROM engram.memories m WHERE m.id = l.b)",
    );
    assert_eq!(left, 0);
    let deadlocks = count(
        &mut admin,
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()",
    );
    assert_eq!(deadlocks, 0);
}

#[test]
fn what_users_add_to_the_queue_counts() {
    let db = Database::new();
    let (mut admin, mut ann) = (db.admin(), db.user("ann"));
    let ids = facts(&mut ann, 2);
    admin
        .batch_execute("CREATE TABLE public.people (id uuid PRIMARY KEY)")
        .unwrap();
    for (done, undone, code) in [
        (
            "ADD CONSTRAINT known FOREIGN KEY (user_id) REFERENCES public.people NOT VALID",
            "DROP CONSTRAINT known",
            "23503",
        ),
        (
            "DROP CONSTRAINT access_queue_rating_check, ADD CONSTRAINT recalled CHECK (recall_id IS NOT NULL) NOT VALID",
            "DROP CONSTRAINT recalled, ADD CONSTRAINT access_queue_rating_check CHECK (rating BETWEEN 1 AND 4)",
            "23514",
        ),
        (
            "ALTER COLUMN recall_id SET NOT NULL",
            "ALTER COLUMN recall_id DROP NOT NULL",
            "23502",
        ),
    ] {
        admin
            .batch_execute(&format!(
                "TRUNCATE engram.access_queue; ALTER TABLE engram.access_queue {done}"
            ))
            .unwrap();
        let refused = ann.execute("SELECT engram.touch($1)", &[&ids]);
        let refused = refused
            .err()
            .and_then(|e| Some(e.code()?.code().to_owned()));
        assert_eq!(refused.as_deref(), Some(code), "{done}");
        admin
            .batch_execute(&format!("ALTER TABLE engram.access_queue {undone}"))
            .unwrap();
        ann.execute("SELECT engram.touch($1)", &[&ids]).unwrap();
    }
}

#[test]
fn pins_survive_the_folds_that_run_beside_them() {
    let db = Database::new();
    let mut ann = db.user("ann");
    eager(&db, &mut ann);
    let ids = facts(&mut ann, 400);
    cluster_of(8, |n| {
        let mut ann = db.user("ann");
        for (i, id) in ids.iter().enumerate() {
            if i % 8 == n {
                let pinned: bool = ann
                    .query_one("SELECT engram.pin($1)", &[id])
                    .unwrap()
                    .get(0);
                assert!(pinned);
            } else if i % 8 == (n + 1) % 8 {
                touch(&mut ann, &[*id, ids[(i * 7) % 400], ids[(i * 11) % 400]]);
            }
        }
    });
    let pinned =
        "SELECT count(*) FROM engram.memories m JOIN engram.memory_state s ON s.memory_id = m.id
                  WHERE m.pinned AND m.layer = 'core' AND s.layer = 'core'";
    assert_eq!(count(&mut ann, pinned), 400);
    fold_all(&mut ann);
    assert_eq!(count(&mut ann, pinned), 400);
    let uses = count(
        &mut ann,
        "SELECT sum(access_count)::bigint FROM engram.memory_state",
    );
    let logged = count(&mut ann, "SELECT count(*) FROM engram.access_log");
    assert_eq!(uses, 400 + logged);
}

#[test]
fn a_transaction_that_only_used_memories_holds_nobody_up() {
    let db = Database::new();
    let mut ann = db.user("ann");
    eager(&db, &mut ann);
    let ids = facts(&mut ann, 3);
    let mut other = db.user("ann");
    other.batch_execute("SET lock_timeout = '5s'").unwrap();
    // The workspace was never folded, and then it was.
    for _ in 0..2 {
        ann.batch_execute("BEGIN").unwrap();
        for _ in 0..100 {
            touch(&mut ann, &ids);
        }
        for id in &ids {
            other.execute("SELECT engram.pin($1)", &[id]).unwrap();
            other.execute("SELECT engram.unpin($1)", &[id]).unwrap();
        }
        for _ in 0..100 {
            touch(&mut other, &ids);
        }
        ann.batch_execute("COMMIT").unwrap();
    }
    // Nor does one that changed a memory hold up those that were used with it.
    ann.execute("SELECT engram.touch($1)", &[&ids]).unwrap();
    ann.batch_execute("BEGIN").unwrap();
    ann.execute("SELECT engram.pin($1)", &[&ids[0]]).unwrap();
    other.execute("SELECT engram.pin($1)", &[&ids[1]]).unwrap();
    ann.execute("SELECT engram.pin($1)", &[&ids[2]]).unwrap();
    ann.batch_execute("COMMIT").unwrap();
    fold_all(&mut ann);
    let at = now(&mut ann);
    for id in ids {
        assert_eq!(kept(&mut ann, id, at).uses, 402);
    }
}

#[test]
fn what_is_rolled_back_was_never_used() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let ids = facts(&mut ann, 2);
    let recall = Uuid::now_v7();
    ann.batch_execute("BEGIN").unwrap();
    assert_eq!(touch(&mut ann, &ids), 2);
    ann.batch_execute("ROLLBACK").unwrap();
    for table in [
        "access_queue",
        "access_log",
        "recall_credits",
        "hebbian_links",
    ] {
        assert_eq!(
            count(&mut ann, &format!("SELECT count(*) FROM engram.{table}")),
            0,
            "{table}"
        );
    }
    ann.batch_execute("BEGIN").unwrap();
    touch(&mut ann, &ids[..1]);
    ann.batch_execute("SAVEPOINT s").unwrap();
    ann.execute("SELECT engram.touch($1, recall_id => $2)", &[&ids, &recall])
        .unwrap();
    ann.batch_execute("ROLLBACK TO s").unwrap();
    let again: i32 = ann
        .query_one(
            "SELECT engram.touch($1, recall_id => $2)",
            &[&&ids[1..], &recall],
        )
        .unwrap()
        .get(0);
    assert_eq!(again, 1, "the credit was rolled back as well");
    ann.batch_execute("COMMIT").unwrap();
    fold_all(&mut ann);
    let at = now(&mut ann);
    assert_eq!(
        (
            kept(&mut ann, ids[0], at).uses,
            kept(&mut ann, ids[1], at).uses
        ),
        (2, 2)
    );
    assert_eq!(
        count(&mut ann, "SELECT count(*) FROM engram.hebbian_links"),
        0
    );
}

#[test]
fn a_crash_loses_no_use_that_was_acknowledged() {
    let cluster = Cluster::start(Installation::current(), "uses");
    cluster.create_database("c");
    cluster
        .connect("c", "postgres")
        .batch_execute(
            "CREATE ROLE app LOGIN; CREATE EXTENSION engram CASCADE; SELECT engram.setup('{\"grant_to\": [\"app\"]}');
             UPDATE engram.settings SET fold_threshold = 5",
        )
        .unwrap();
    let connect = || {
        let mut client = cluster.connect("c", "app");
        client.batch_execute("SET engram.user_id = 'ann'").unwrap();
        client
    };
    let ids = facts(&mut connect(), 5);
    let total = AtomicU64::new(0);
    let acknowledged: u64 = thread::scope(|scope| {
        let sessions: Vec<_> = (0..4)
            .map(|n| {
                let (ids, total) = (&ids, &total);
                let mut client = connect();
                scope.spawn(move || {
                    let mut mine = 0;
                    while client
                        .execute("SELECT engram.touch($1)", &[&&ids[..=n]])
                        .is_ok()
                    {
                        mine += n as u64 + 1;
                        total.fetch_add(1, Ordering::Relaxed);
                    }
                    mine
                })
            })
            .collect();
        while total.load(Ordering::Relaxed) < 400 {
            thread::sleep(Duration::from_millis(5));
        }
        cluster.kill();
        sessions.into_iter().map(|s| s.join().unwrap()).sum()
    });
    cluster.up();
    let mut ann = connect();
    let logged = count(&mut ann, "SELECT count(*) FROM engram.access_log");
    assert!(logged > 0, "some had been folded");
    fold_all(&mut ann);
    let logged = count(&mut ann, "SELECT count(*) FROM engram.access_log") as u64;
    let uses = count(
        &mut ann,
        "SELECT sum(access_count)::bigint FROM engram.memory_state",
    ) as u64;
    assert_eq!(uses, 5 + logged);
    // Those in flight may or may not have made it.
    assert!(
        (acknowledged..=acknowledged + 10).contains(&logged),
        "{logged} of {acknowledged}"
    );
}

// --- pins and other changes ----------------------------------------------------------------------

#[test]
fn a_pinned_memory_does_not_fade_and_does_not_make_up_for_it() {
    let db = Database::new();
    let mut admin = db.admin();
    let mut ann = db.user("ann");
    let me = workspace(&mut ann);
    let end = now(&mut ann);
    // Pinned for 400 days, and used in the middle of them.
    let mut always = Memory::new(1, end - 400 * DAY, "episodic", 0.4);
    always.pinned = true;
    // Pinned now, after 20 days of which 12 without use.
    let fresh = Memory::new(2, end - 20 * DAY, "episodic", 0.4);
    for memory in [&always, &fresh] {
        memory.store(&mut admin, me);
        let at = memory.created + 8 * DAY;
        ann.execute(
            "SELECT engram.touch($1, at => $2)",
            &[&vec![memory.id], &time(at)],
        )
        .unwrap();
    }
    let before = kept(&mut ann, fresh.id, end);
    ann.execute("SELECT engram.pin($1)", &[&fresh.id]).unwrap();
    for folded in [false, true] {
        if folded {
            fold_all(&mut ann);
        }
        for at in [end, end + 500 * DAY] {
            let got = kept(&mut ann, always.id, at);
            assert_eq!(
                (got.working, got.core, got.layer.as_str()),
                (1.0 + STRENGTH_GAIN, 0.0, "core")
            );
            assert_eq!(
                (got.retention, got.retrievability),
                (1.0, 1.0),
                "at {at}, folded: {folded}"
            );
            let mut got = kept(&mut ann, fresh.id, at.max(end + DAY));
            assert_eq!(got.layer, "core");
            got.layer.clone_from(&before.layer);
            got.activation = before.activation;
            // The moment of the pin is some milliseconds after the first reading.
            for (a, b) in [
                (got.working, before.working),
                (got.core, before.core),
                (got.retention, before.retention),
                (got.retrievability, before.retrievability),
            ] {
                assert_near(a, b, 1e-4, &format!("{got:?} and {before:?}"));
            }
        }
    }
    for memory in [&always, &fresh] {
        ann.execute("SELECT engram.unpin($1)", &[&memory.id])
            .unwrap();
        let at: SystemTime = ann
            .query_one("SELECT updated_at FROM engram.get($1)", &[&memory.id])
            .unwrap()
            .get(0);
        let at = micros(at);
        let [on_the_day, later] = [at, at + 10 * DAY].map(|at| kept(&mut ann, memory.id, at));
        assert_eq!(on_the_day.layer, "core");
        let (r1, r2) = two_store(on_the_day.working, 10.0, "episodic", 0.4);
        let (_, one) = two_store(1.0, 10.0, "episodic", 0.4);
        assert_near(later.working, r1, 1e-9, "r1");
        assert_near(
            later.core,
            on_the_day.core * (-MU2 * 10.0).exp() + r2,
            1e-9,
            "r2",
        );
        assert!(one > 0.0);
        let idle = if memory.id == always.id { 0.0 } else { 12.0 };
        assert_near(
            on_the_day.retrievability,
            retrievability(idle, on_the_day.stability),
            1e-4,
            "at the end of the pin",
        );
        assert_near(
            later.retrievability,
            retrievability(idle + 10.0, later.stability),
            1e-4,
            "later",
        );
        assert_near(
            later.retention,
            (later.working + later.core).min(1.0) * (-(idle + 10.0) / later.stability).exp(),
            1e-4,
            "retention",
        );
        // A review counts the days as well.
        ann.execute("SELECT engram.touch($1)", &[&vec![memory.id]])
            .unwrap();
        let (s, d) = review(on_the_day.stability, on_the_day.difficulty, idle, 3);
        for _ in 0..2 {
            let reviewed = kept(&mut ann, memory.id, at + DAY);
            assert_near(reviewed.stability, s, 1e-4, "stability");
            assert_near(reviewed.difficulty, d, 1e-4, "difficulty");
            fold_all(&mut ann);
        }
    }
}

#[test]
fn the_past_is_lived_by_the_old_values() {
    let db = Database::new();
    let mut admin = db.admin();
    let mut ann = db.user("ann");
    let me = workspace(&mut ann);
    let end = now(&mut ann);
    for (n, folded) in [(1, false), (10, true)] {
        let memory = Memory::new(n, end - 100 * DAY, "episodic", 0.1);
        memory.store(&mut admin, me);
        let used = end - 60 * DAY;
        ann.execute(
            "SELECT engram.touch($1, at => $2)",
            &[&vec![memory.id], &time(used)],
        )
        .unwrap();
        if folded {
            fold_all(&mut ann);
        }
        let before = kept(&mut ann, memory.id, end);
        assert_eq!(before.layer, "archive");
        ann.execute(
            "SELECT engram.update($1, type => 'factual', importance => 1)",
            &[&memory.id],
        )
        .unwrap();
        let changed: SystemTime = ann
            .query_one("SELECT updated_at FROM engram.get($1)", &[&memory.id])
            .unwrap()
            .get(0);
        let changed = micros(changed);
        let old = |dt: f64, x: f64| two_store(x, dt, "episodic", 0.1);
        let (a, b) = (
            old(days(memory.created, changed), 1.0),
            old(days(used, changed), STRENGTH_GAIN),
        );
        let (r1, r2) = (a.0 + b.0, a.1 + b.1);
        for again in ["waiting", "folded"] {
            let later = kept(&mut ann, memory.id, changed + 30 * DAY);
            let (now1, now2) = two_store(r1, 30.0, "factual", 1.0);
            assert_near(later.working, now1, 1e-9, again);
            assert_near(later.core, r2 * (-MU2 * 30.0).exp() + now2, 1e-9, again);
            assert_near(later.stability, before.stability, 1e-9, again);
            assert_eq!(later.uses, 2);
            fold_all(&mut ann);
        }
        // What came to light late, from before the change and from after it, in either order.
        let mut late = [changed - 10 * DAY, changed - 30 * DAY, changed];
        if folded {
            late.reverse();
        }
        for at in late {
            ann.execute(
                "SELECT engram.touch($1, at => $2)",
                &[&vec![memory.id], &time(at)],
            )
            .unwrap();
            if folded {
                fold_all(&mut ann);
            }
        }
        let got = kept(&mut ann, memory.id, changed + DAY);
        fold_all(&mut ann);
        got.assert_same(&kept(&mut ann, memory.id, changed + DAY), "folded");
        assert_eq!(got.uses, 5);
        let (s, _) = review(before.stability, before.difficulty, 10.0, 3);
        assert_near(
            got.stability,
            s,
            1e-6,
            "a late use from before the change is no review but ends a rest",
        );
    }
    // Changes in the transaction of the use, on either side of it.
    let id = facts(&mut ann, 1)[0];
    ann.batch_execute("BEGIN").unwrap();
    touch(&mut ann, &[id]);
    ann.execute("SELECT engram.pin($1)", &[&id]).unwrap();
    touch(&mut ann, &[id]);
    ann.execute("SELECT engram.unpin($1)", &[&id]).unwrap();
    ann.batch_execute("COMMIT").unwrap();
    let at = now(&mut ann);
    let before = kept(&mut ann, id, at);
    assert_eq!(before.uses, 3);
    fold_all(&mut ann);
    before.assert_same(
        &kept(&mut ann, id, at),
        "used and changed in one transaction",
    );
    assert_near(before.working, 1.0 + 2.0 * STRENGTH_GAIN, 1e-4, "working");
}

#[test]
fn a_fold_is_the_same_with_statements_and_without() {
    let db = Database::new();
    let mut admin = db.admin();
    let mut ann = db.user("ann");
    let me = workspace(&mut ann);
    let ids = facts(&mut ann, 12);
    let mut dice = Dice(11);
    let mut use_some = |ann: &mut Client, most: usize| {
        for n in 0..40 {
            let mut some = ids.clone();
            dice.shuffle(&mut some);
            some.truncate(1 + dice.below(most));
            // Some are late, some at the same time.
            let ago = if n % 3 == 0 {
                dice.below(5000) as i32
            } else {
                0
            };
            ann.execute(
                "SELECT engram.touch($1, at => now() - $2 * interval '1 second', recall_id => $3)",
                &[&some, &f64::from(ago), &Uuid::now_v7()],
            )
            .unwrap();
            ann.execute("SELECT engram.reinforce($1, -0.3)", &[&&some[..1]])
                .unwrap();
        }
    };
    admin
        .batch_execute(
            "CREATE FUNCTION public.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        )
        .unwrap();
    let all = "SELECT ARRAY[
        (SELECT string_agg(s::text, ';' ORDER BY s.memory_id) FROM engram.memory_state s),
        (SELECT string_agg(l::text, ';' ORDER BY l.id, l.memory_id) FROM engram.access_log l),
        (SELECT string_agg(h::text, ';' ORDER BY h.a, h.b) FROM engram.hebbian_links h),
        (SELECT string_agg(q::text, ';' ORDER BY q.id) FROM engram.access_queue q)]";
    let folded = |admin: &mut Client| -> (i32, Vec<Option<String>>) {
        let n = admin
            .query_one("SELECT engram_internal.fold($1, 70)", &[&me])
            .unwrap()
            .get(0);
        (n, admin.query_one(all, &[]).unwrap().get(0))
    };
    for round in 0..3 {
        use_some(&mut ann, 9);
        // A use of what is gone meanwhile, and of what the log has already.
        if round > 0 {
            admin
                .execute(
                    "INSERT INTO engram.access_queue
                     SELECT l.workspace_id, l.id, l.accessed_at, l.user_id, l.kind, l.gain, l.rating, l.recall_id, ARRAY[l.memory_id, gen_random_uuid()]
                     FROM engram.access_log l ORDER BY l.id LIMIT 1",
                    &[],
                )
                .unwrap();
        }
        let mut results = Vec::new();
        for table in [
            "",
            "hebbian_links",
            "memory_state",
            "access_log",
            "access_queue",
        ] {
            admin.batch_execute("BEGIN").unwrap();
            if !table.is_empty() {
                admin
                    .batch_execute(&format!(
                        "CREATE TRIGGER own AFTER INSERT OR UPDATE OR DELETE ON engram.{table} FOR EACH STATEMENT EXECUTE FUNCTION public.nothing()"
                    ))
                    .unwrap();
            }
            results.push((table, folded(&mut admin)));
            admin.batch_execute("ROLLBACK").unwrap();
        }
        let (_, fast) = &results[0];
        assert_eq!(fast.0, 70);
        for (table, slow) in &results[1..] {
            assert_eq!(fast, slow, "{table}, round {round}");
        }
        fold_all(&mut ann);
    }
}

#[test]
fn what_a_policy_hides_is_not_used() {
    let db = Database::new();
    let mut admin = db.admin();
    let mut ann = db.user("ann");
    let ids = facts(&mut ann, 3);
    for _ in 0..2 {
        assert_eq!(touch(&mut ann, &ids), 3);
        admin
            .batch_execute(
                "CREATE POLICY own ON engram.memories AS RESTRICTIVE FOR SELECT TO app USING (content <> 'fact 2')",
            )
            .unwrap();
        assert_eq!(touch(&mut ann, &ids), 2);
        admin
            .batch_execute("DROP POLICY own ON engram.memories; ALTER POLICY memories_select ON engram.memories USING (content <> 'fact 1' AND workspace_id = ANY ((SELECT engram.readable_workspaces())::uuid[]))")
            .unwrap();
        assert_eq!(touch(&mut ann, &ids), 2);
        admin
            .batch_execute("ALTER POLICY memories_select ON engram.memories USING (workspace_id = ANY ((SELECT engram.readable_workspaces())::uuid[]))")
            .unwrap();
    }
}

// --- how it is written ---------------------------------------------------------------------------

#[test]
fn folds_change_states_in_place() {
    const MEMORIES: i32 = 2000;
    // Alone: what other databases of a server look at keeps old rows, and their room, from being used again.
    let cluster = Cluster::start(Installation::current(), "inplace");
    let mut admin = cluster.connect("postgres", "postgres");
    admin
        .batch_execute(
            "CREATE ROLE app LOGIN; SET client_min_messages = warning; CREATE EXTENSION engram CASCADE; SELECT engram.setup('{\"grant_to\": [\"app\"]}')",
        )
        .unwrap();
    let mut ann = cluster.connect("postgres", "app");
    ann.batch_execute("SET engram.user_id = 'ann'").unwrap();
    let ids: Vec<Uuid> = ann
        .query(
            "SELECT id FROM engram.add_many((SELECT jsonb_agg(jsonb_build_object('content', 'm' || i)) FROM generate_series(1, $1) i))",
            &[&MEMORIES],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    let changes = |ann: &mut Client| -> (i64, i64) {
        ann.batch_execute("SELECT pg_stat_force_next_flush()")
            .unwrap();
        let row = ann
            .query_one(
                "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relid = 'engram.memory_state'::regclass",
                &[],
            )
            .unwrap();
        (row.get(0), row.get(1))
    };
    let mut dice = Dice(3);
    // A row grows by its first use and may move then: from the second round on it stays.
    let mut grown = (0, 0);
    for round in 0..10 {
        let mut order = ids.clone();
        dice.shuffle(&mut order);
        ann.batch_execute("BEGIN").unwrap();
        for part in order.chunks(5) {
            touch(&mut ann, part);
        }
        ann.batch_execute("COMMIT").unwrap();
        while fold(&mut ann, 128) > 0 {}
        if round % 3 == 0 {
            admin.batch_execute("VACUUM engram.memory_state").unwrap();
        }
        if round == 1 {
            grown = changes(&mut ann);
        }
    }
    fold_all(&mut ann);
    // What all workspaces have in common nobody writes to, not even a lock.
    let locked = "SELECT count(*) FROM engram.settings WHERE xmax <> '0'";
    assert_eq!(count(&mut admin, locked), 0);
    let (changed, in_place) = changes(&mut ann);
    assert!(changed >= 10 * i64::from(MEMORIES), "{changed}");
    assert!(
        changed - in_place <= i64::from(MEMORIES),
        "{in_place} of {changed}"
    );
    let (changed, in_place) = (changed - grown.0, in_place - grown.1);
    assert!(
        in_place as f64 >= 0.99 * changed as f64,
        "{in_place} of {changed}"
    );
}

// --- strangers -----------------------------------------------------------------------------------

#[test]
fn nobody_uses_the_memories_of_others() {
    let db = Database::new();
    let (mut ann, mut bob) = (db.user("ann"), db.user("bob"));
    let (me, other) = (workspace(&mut ann), workspace(&mut bob));
    let theirs = facts(&mut bob, 3);
    let mine = facts(&mut ann, 2);
    touch(&mut bob, &theirs);
    let at = now(&mut bob);
    let before: Vec<Kept> = theirs.iter().map(|id| kept(&mut bob, *id, at)).collect();

    assert_eq!(touch(&mut ann, &theirs), 0);
    let got: i32 = ann
        .query_one("SELECT engram.reinforce($1, -1)", &[&theirs])
        .unwrap()
        .get(0);
    assert_eq!(got, 0);
    assert_eq!(
        failure(ann.query("SELECT engram.rate($1, 1)", &[&theirs[0]])).code,
        "PT404"
    );
    assert_eq!(touch(&mut ann, &[theirs[0], mine[0]]), 1);
    for sql in [
        "SELECT engram.touch($1, workspace => $2)",
        "SELECT engram.reinforce($1, workspace => $2)",
        "SELECT engram.rate(($1::uuid[])[1], 3, workspace => $2)",
        "SELECT engram.recall('fact', workspace => $2), $1::uuid[]",
        "SELECT engram.activation(($1::uuid[])[1], workspace => $2)",
        "SELECT engram.retention(($1::uuid[])[1], workspace => $2)",
        "SELECT engram_internal.fold($2, 10), $1::uuid[]",
        "SELECT engram_internal.rebase($2, ($1::uuid[])[1], 'archive')",
        "INSERT INTO engram.access_queue (workspace_id, id, accessed_at, user_id, kind, gain, memory_ids)
         VALUES ($2, gen_random_uuid(), now(), engram.current_user_id(), 'used', 100, $1)",
        "INSERT INTO engram.access_queue (workspace_id, id, accessed_at, user_id, kind, gain, memory_ids)
         VALUES ($2, gen_random_uuid(), now(), $2, 'used', 100, $1)",
        "INSERT INTO engram.recall_credits (workspace_id, recall_id, memory_ids) VALUES ($2, gen_random_uuid(), $1)",
        // Own workspace, in somebody else's name.
        "INSERT INTO engram.access_queue (workspace_id, id, accessed_at, user_id, kind, gain, memory_ids)
         VALUES (engram.current_user_id(), gen_random_uuid(), now(), $2, 'used', 100, $1)",
        // What only the owner of the tables does.
        "SELECT engram_internal.fold_queue($2, 10), $1::uuid[]",
        "SELECT engram_internal.fold_queue(engram.current_user_id(), 10), $1::uuid[], $2::uuid",
        "SELECT engram_internal.rebase_state($2, ($1::uuid[])[1], 'archive')",
        "SELECT engram_internal.rebase_state(engram.current_user_id(), ($1::uuid[])[1], 'archive'), $2::uuid",
        "DELETE FROM engram.access_queue WHERE workspace_id = $2 OR id = ANY ($1)",
        "UPDATE engram.access_queue SET gain = 0 WHERE workspace_id = $2 OR id = ANY ($1)",
        "DELETE FROM engram.access_log WHERE workspace_id = $2 OR id = ANY ($1)",
        "INSERT INTO engram.hebbian_links SELECT $2, ($1::uuid[])[1], ($1::uuid[])[2], 1, 1, now(), 1",
    ] {
        let error = failure(ann.query(sql, &[&theirs, &other]));
        assert_eq!(error.code, "42501", "{sql}: {error:?}");
    }
    let none: Option<f64> = ann
        .query_one("SELECT engram.activation($1)", &[&theirs[0]])
        .unwrap()
        .get(0);
    assert_eq!(none, None);
    assert!(
        ann.query("SELECT * FROM engram.retention($1)", &[&theirs[0]])
            .unwrap()
            .is_empty()
    );
    for table in [
        "access_queue",
        "access_log",
        "recall_credits",
        "hebbian_links",
        "maintenance",
    ] {
        let seen: i64 = ann
            .query_one(
                &format!("SELECT count(*) FROM engram.{table} WHERE workspace_id <> $1"),
                &[&me],
            )
            .unwrap()
            .get(0);
        assert_eq!(seen, 0, "{table}");
    }

    // Whatever she writes into her own queue, it is hers alone.
    let many: Vec<Uuid> = (0..1000)
        .map(|i| if i == 500 { mine[1] } else { Uuid::now_v7() })
        .collect();
    for (ids, gain, at, rating) in [
        (theirs.clone(), 100.0, "now()", "4"),
        (
            vec![theirs[0], mine[0], theirs[1], mine[1]],
            100.0,
            "now()",
            "NULL",
        ),
        (vec![mine[0], mine[0], mine[1]], -1.0, "now()", "NULL"),
        (mine.clone(), 100.0, "now() + interval '1 year'", "1"),
        (mine.clone(), 100.0, "timestamptz '290000-01-01'", "1"),
        (mine.clone(), 1.0, "now() - interval '900 years'", "1"),
        (mine.clone(), 1.0, "timestamptz '4713-01-01 BC'", "4"),
        (many, 1e-300, "now()", "2"),
        (vec![], 1.0, "now()", "3"),
    ] {
        ann.execute(
            &format!(
                "INSERT INTO engram.access_queue (workspace_id, id, accessed_at, user_id, kind, gain, rating, memory_ids)
                 VALUES (engram.current_user_id(), gen_random_uuid(), {at}, engram.current_user_id(), 'stored', $2, {rating}, $1)"
            ),
            &[&ids, &gain],
        )
        .unwrap();
    }
    for bad in [
        "'-infinity', 1",
        "'infinity', 1",
        "now(), 'NaN'",
        "now(), 101",
        "now(), -1.5",
        "NULL, 1",
    ] {
        let error = failure(ann.query(
            &format!(
                "INSERT INTO engram.access_queue (workspace_id, id, user_id, kind, memory_ids, accessed_at, gain)
                 VALUES (engram.current_user_id(), gen_random_uuid(), engram.current_user_id(), 'used', $1, {bad})"
            ),
            &[&mine],
        ));
        assert!(
            error.code == "23514" || error.code == "23502",
            "{bad}: {error:?}"
        );
    }
    let far = now(&mut ann) + 400 * DAY;
    let reads = kept(&mut ann, mine[0], far);
    fold(&mut ann, 1000);
    reads.assert_same(&kept(&mut ann, mine[0], far), "forged uses, folded");
    assert!(
        reads.activation.is_finite() && (1.0..=10.0).contains(&reads.difficulty),
        "{reads:?}"
    );
    ann.execute("SELECT engram.pin($1)", &[&mine[0]]).unwrap();
    assert_eq!(touch(&mut ann, &mine), 2);
    fold(&mut ann, 1000);
    assert_eq!(
        count(&mut ann, "SELECT count(*) FROM engram.access_queue"),
        2,
        "those of the future wait"
    );
    let foreign: i64 = db
        .admin()
        .query_one(
            "SELECT (SELECT count(*) FROM engram.access_log l WHERE l.workspace_id = $1 AND NOT l.memory_id = ANY ($2))
                  + (SELECT count(*) FROM engram.hebbian_links h WHERE h.workspace_id = $1 AND NOT (h.a = ANY ($2) AND h.b = ANY ($2)))",
            &[&me, &mine],
        )
        .unwrap()
        .get(0);
    assert_eq!(foreign, 0);
    fold_all(&mut bob);
    for (id, before) in theirs.iter().zip(&before) {
        before.assert_same(&kept(&mut bob, *id, at), "of bob");
    }
}

// --- where nothing can be written ----------------------------------------------------------------

/// What reads, reads; what writes says that it cannot.
fn assert_reads_only(client: &mut Client, id: Uuid) {
    let row = client
        .query_one(
            "SELECT engram.activation($1), r.access_count FROM engram.retention($1) r",
            &[&id],
        )
        .unwrap();
    assert!(row.get::<_, Option<f64>>(0).is_some());
    assert_eq!(row.get::<_, i64>(1), 3, "what waits is counted");
    let rows = client
        .query("SELECT id, recall_id FROM engram.recall('fact')", &[])
        .unwrap();
    assert!(!rows.is_empty());
    assert!(
        rows.iter()
            .all(|row| row.get::<_, Option<Uuid>>(1).is_none())
    );
    let assigned: Option<String> = client
        .query_one("SELECT pg_current_xact_id_if_assigned()::text", &[])
        .unwrap()
        .get(0);
    assert_eq!(assigned, None);
    for sql in [
        "SELECT engram.touch(ARRAY[$1::uuid])",
        "SELECT engram.touch(ARRAY[$1::uuid], recall_id => gen_random_uuid())",
        "SELECT engram.reinforce(ARRAY[$1::uuid])",
        "SELECT engram.rate($1, 3)",
        "SELECT engram.pin($1)",
    ] {
        client.batch_execute("SAVEPOINT s").ok();
        assert_eq!(failure(client.query(sql, &[&id])).code, "25006", "{sql}");
        client.batch_execute("ROLLBACK TO s").ok();
    }
}

#[test]
fn where_nothing_can_be_written_uses_are_read() {
    let primary = Cluster::start(Installation::current(), "used");
    primary
        .connect("postgres", "postgres")
        .batch_execute(
            "CREATE ROLE app LOGIN; CREATE EXTENSION engram CASCADE; SELECT engram.setup('{\"grant_to\": [\"app\"]}')",
        )
        .unwrap();
    let connect = |cluster: &Cluster| {
        let mut client = cluster.connect("postgres", "app");
        client.batch_execute("SET engram.user_id = 'ann'").unwrap();
        client
    };
    let mut ann = connect(&primary);
    let ids = facts(&mut ann, 2);
    touch(&mut ann, &ids);
    fold_all(&mut ann);
    touch(&mut ann, &ids);
    // One that is older than what is folded.
    ann.execute(
        "SELECT engram.reinforce($1, -0.5, at => now() - interval '1 hour')",
        &[&ids],
    )
    .unwrap();
    ann.batch_execute("BEGIN READ ONLY").unwrap();
    assert_reads_only(&mut ann, ids[0]);
    ann.batch_execute("ROLLBACK").unwrap();

    let standby = primary.standby("standby");
    let mut reader = connect(&standby);
    assert_eq!(
        count(&mut reader, "SELECT pg_is_in_recovery()::int::bigint"),
        1
    );
    assert_reads_only(&mut reader, ids[0]);
}

// --- stores of older versions --------------------------------------------------------------------

#[test]
fn a_state_that_an_older_version_left_reads_sensibly_and_can_be_used() {
    let db = Database::new();
    let mut admin = db.admin();
    let mut ann = db.user("ann");
    let me = workspace(&mut ann);
    let end = now(&mut ann);
    let memory = Memory::new(1, end - 100 * DAY, "factual", 0.3);
    memory.store(&mut admin, me);
    let last = end - 10 * DAY;
    admin
        .execute(
            "UPDATE engram.memory_state SET access_count = 9, last_accessed_at = $1, heat = NULL,
               working_strength = NULL, core_strength = NULL, layer = NULL, stability = NULL, difficulty = NULL, base = NULL",
            &[&time(last)],
        )
        .unwrap();
    let got = kept(&mut ann, memory.id, end);
    assert_eq!((got.uses, got.last), (9, last));
    // Nine uses from 100 to 10 days ago, whenever they were.
    let seconds = |days: f64| days * 86_400.0;
    let bounds = [100.0, 10.0].map(|d| (9.0 * seconds(d).powf(-0.5)).ln());
    assert!((bounds[0]..bounds[1]).contains(&got.activation), "{got:?}");
    assert!(
        got.working > 0.0 && got.working <= 1.0 && got.stability > 0.0 && got.retention > 0.0,
        "{got:?}"
    );
    // Used today, ten days before, and before what is known.
    for at in [end, end - 5 * DAY, end - 50 * DAY] {
        ann.execute(
            "SELECT engram.touch($1, at => $2)",
            &[&vec![memory.id], &time(at)],
        )
        .unwrap();
    }
    let waiting = kept(&mut ann, memory.id, end + DAY);
    assert_eq!((waiting.uses, waiting.last), (12, end));
    assert!(waiting.activation > got.activation && waiting.stability > got.stability);
    fold(&mut ann, 1);
    fold_all(&mut ann);
    waiting.assert_same(
        &kept(&mut ann, memory.id, end + DAY),
        "folded one after the other",
    );
    // The row itself may be missing.
    admin
        .execute("DELETE FROM engram.memory_state", &[])
        .unwrap();
    assert_eq!(kept(&mut ann, memory.id, end).uses, 1);
    touch(&mut ann, &[memory.id]);
    assert_eq!(kept(&mut ann, memory.id, end).uses, 2);
    fold_all(&mut ann);
    assert_eq!(kept(&mut ann, memory.id, end).uses, 2);
    // What no version can read is told of, with what helps, to who looks and to who folds.
    admin
        .batch_execute(
            "UPDATE engram.memory_state SET base = ('{\"at\":' || repeat('[', 300) || repeat(']', 300) || '}')::jsonb",
        )
        .unwrap();
    ann.execute("SELECT engram.touch($1)", &[&vec![memory.id]])
        .unwrap();
    for sql in [
        format!("SELECT * FROM engram.retention('{}')", memory.id),
        "SELECT engram_internal.fold(engram.current_user_id(), 100)".to_owned(),
    ] {
        let e = failure(ann.execute(&sql, &[]));
        assert!(
            e.code == "55000" && e.message.contains("base") && !e.hint.is_empty(),
            "{sql}: {e:?}"
        );
    }
}

// --- errors --------------------------------------------------------------------------------------

#[test]
fn what_cannot_be_meant_is_refused_with_a_hint() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let id = facts(&mut ann, 1)[0];
    let mut check = |sql: &str, code: &str, message: &str, hint: &str| {
        let Failure {
            code: got,
            message: text,
            hint: help,
            ..
        } = failure(ann.query(&sql.replace("ID", &format!("'{id}'::uuid")), &[]));
        assert_eq!(got, code, "{sql}: {text}");
        assert!(text.contains(message), "{sql}: {text}");
        assert!(help.contains(hint), "{sql}: {help}");
    };
    check(
        "SELECT engram.touch(ARRAY[ID], 'seen')",
        "22023",
        "\"seen\"",
        "used",
    );
    check(
        "SELECT engram.touch(ARRAY[ID], 'rated')",
        "22023",
        "\"rated\"",
        "rate()",
    );
    for gain in ["-0.1", "100.5", "'NaN'", "'Infinity'"] {
        check(
            &format!("SELECT engram.touch(ARRAY[ID], gain => {gain})"),
            "22023",
            "gain is",
            "0 to 100",
        );
    }
    for call in [
        "touch(ARRAY[ID], at => AT)",
        "reinforce(ARRAY[ID], at => AT)",
        "rate(ID, 3, at => AT)",
    ] {
        let call = format!("SELECT engram.{call}");
        check(
            &call.replace("AT", "now() + interval '1 minute'"),
            "22023",
            "in the future",
            "Leave it out",
        );
        check(
            &call.replace("AT", "'infinity'"),
            "22023",
            "infinite",
            "moment",
        );
        check(
            &call.replace("AT", "'-infinity'"),
            "22023",
            "infinite",
            "moment",
        );
    }
    check(
        "SELECT engram.touch(ARRAY[ID, NULL])",
        "22023",
        "NULL",
        "search()",
    );
    check(
        "SELECT engram.touch(array_fill(ID, ARRAY[1001]))",
        "22023",
        "1001",
        "answer",
    );
    for value in ["-1.1", "1.01", "'NaN'"] {
        check(
            &format!("SELECT engram.reinforce(ARRAY[ID], {value})"),
            "22023",
            "value is",
            "-1",
        );
    }
    for rating in ["0", "5", "-1", "NULL"] {
        check(
            &format!("SELECT engram.rate(ID, {rating})"),
            "22023",
            &format!("rating is {rating}"),
            "again",
        );
    }
    check(
        "SELECT engram.rate(NULL, 3)",
        "22023",
        "id is NULL",
        "add()",
    );
    check(
        "SELECT engram.rate(gen_random_uuid(), 3)",
        "PT404",
        "not in this workspace",
        "list()",
    );
    check(
        "SELECT engram.recall('fact', match_count => 0)",
        "22023",
        "match_count",
        "",
    );
    check(
        "SELECT * FROM engram.consolidate(at => 'infinity')",
        "22023",
        "infinite",
        "moment",
    );
    for at in ["4714-11-24 BC", "4714-12-23 BC", "4401-12-31 BC"] {
        check(
            &format!("SELECT * FROM engram.consolidate(at => '{at}')"),
            "22023",
            "BC",
            "moment",
        );
    }
    check(
        "SELECT engram.touch(ARRAY[ID], workspace => gen_random_uuid())",
        "42501",
        "not one of yours",
        "Leave workspace out",
    );
    // As early as it may be, with the longest that can be set.
    ann.batch_execute(
        "SELECT engram.configure('{\"forgetting\": true, \"forget_after_days\": 100000}');
         SET timezone = 'UTC'; SELECT engram.consolidate(at => '4400-01-01 BC')",
    )
    .unwrap();
    // None of it was noted, and neither are calls that credit nobody.
    for sql in [
        "SELECT engram.touch('{}')",
        "SELECT engram.touch(NULL)",
        "SELECT engram.touch(ARRAY[gen_random_uuid()], recall_id => gen_random_uuid())",
        "SELECT engram.reinforce('{}')",
    ] {
        assert_eq!(
            ann.query_one(sql, &[]).unwrap().get::<_, i32>(0),
            0,
            "{sql}"
        );
    }
    ann.execute("SELECT engram.forget($1)", &[&id]).unwrap();
    assert_eq!(touch(&mut ann, &[id]), 0, "forgotten");
    assert_eq!(
        failure(ann.query("SELECT engram.rate($1, 3)", &[&id])).code,
        "PT404"
    );
    for table in ["access_queue", "recall_credits"] {
        assert_eq!(
            count(&mut ann, &format!("SELECT count(*) FROM engram.{table}")),
            0,
            "{table}"
        );
    }
    // Nobody in particular.
    let mut nobody = db.connect("app");
    for sql in [
        "SELECT engram.touch(ARRAY[$1::uuid])",
        "SELECT engram.rate($1, 3)",
    ] {
        let error = failure(nobody.query(sql, &[&id]));
        assert_eq!(error.code, "42501", "{sql}");
        assert!(
            error.hint.contains("engram.user_id"),
            "{sql}: {}",
            error.hint
        );
    }
    let error = failure(
        db.admin()
            .query("SELECT engram.touch(ARRAY[$1::uuid])", &[&id]),
    );
    assert_eq!(error.code, "22023");
    assert!(error.hint.contains("workspace"), "{}", error.hint);
}

/// A session remembers where states are; rows move, and others take their places.
#[test]
fn activations_follow_rows_that_move() {
    let db = Database::new();
    let (mut admin, mut ann) = (db.admin(), db.user("ann"));
    let ids = facts(&mut ann, 120);
    for some in ids.chunks(6) {
        touch(&mut ann, some);
    }
    fold(&mut ann, 1000);
    let agree = |ann: &mut Client, after: &str| {
        for asked in [&ids[..], &ids[..50], &ids[30..]] {
            let rows = ann
                .query(
                    "SELECT u.id, engram.activation(u.id), (SELECT a.activation FROM engram.activations($1::uuid[]) a WHERE a.id = u.id),
                            (SELECT count(*) FROM engram.activations($1::uuid[])), engram.activation(u.id) IS NOT NULL
                     FROM unnest($1::uuid[]) u (id)",
                    &[&asked],
                )
                .unwrap();
            let there = rows.iter().filter(|row| row.get::<_, bool>(4)).count() as i64;
            assert!(there > 20, "{after}");
            for row in rows {
                let (id, one): (Uuid, Option<f64>) = (row.get(0), row.get(1));
                let many: Option<f64> = row.get(2);
                assert_eq!(many.is_some(), one.is_some(), "{id} after {after}");
                let off = many.unwrap_or(0.0) - one.unwrap_or(0.0);
                assert!(off.abs() < 1e-9, "{id} after {after}: {many:?}, {one:?}");
                assert_eq!(row.get::<_, i64>(3), there, "after {after}");
            }
        }
    };
    agree(&mut ann, "the first fold");
    // Every row three times: more than fits into the pages. Each with a count of its own, so that no row passes for another.
    let again = "UPDATE engram.memory_state SET access_count = access_count + 1, heat = NULL,
                 last_accessed_at = last_accessed_at - access_count * interval '1 minute' - ascii(memory_id::text) * interval '1 s'";
    for after in [
        again,
        "VACUUM engram.memory_state",
        again,
        again,
        "VACUUM engram.memory_state",
        "CREATE TABLE public.kept AS SELECT * FROM engram.memory_state",
        "DELETE FROM engram.memory_state WHERE memory_id::text < (SELECT memory_id::text FROM public.kept ORDER BY 1 OFFSET 70 LIMIT 1)",
        "VACUUM engram.memory_state",
        // Where others were.
        "INSERT INTO engram.memory_state SELECT k.* FROM public.kept k WHERE NOT EXISTS (SELECT FROM engram.memory_state s WHERE s.memory_id = k.memory_id)
         ORDER BY k.memory_id DESC",
        "VACUUM engram.memory_state",
        "CLUSTER engram.memory_state USING memory_state_pkey",
        "DELETE FROM engram.memory_state",
        "VACUUM engram.memory_state",
        "INSERT INTO engram.memory_state SELECT k.* FROM public.kept k ORDER BY md5(k.memory_id::text)",
    ] {
        admin.batch_execute(after).unwrap();
        agree(&mut ann, after);
    }
    // Which rows there are is a matter of the snapshot, not of the page.
    let mut old = ann
        .build_transaction()
        .isolation_level(postgres::IsolationLevel::RepeatableRead)
        .start()
        .unwrap();
    let sum =
        "SELECT sum(a.activation), count(*) FROM engram.activations($1::uuid[], at => now()) a";
    let read = |client: &mut postgres::Transaction<'_>| -> (f64, i64) {
        let row = client.query_one(sum, &[&ids]).unwrap();
        (row.get(0), row.get(1))
    };
    let before = read(&mut old);
    admin.batch_execute(again).unwrap();
    for sql in [
        "DELETE FROM engram.memory_state",
        "VACUUM engram.memory_state",
    ] {
        admin.batch_execute(sql).unwrap();
    }
    assert_eq!(read(&mut old), before);
    old.commit().unwrap();
}

/// As above, of the memories themselves: a touch looks for them where they were.
#[test]
fn touches_follow_rows_that_move() {
    let db = Database::new();
    let (mut admin, mut ann, mut bob) = (db.admin(), db.user("ann"), db.user("bob"));
    let ids = facts(&mut ann, 60);
    let (mut there, mut away) = (ids.clone(), Vec::new());
    let again = "UPDATE engram.memories SET metadata = metadata || jsonb_build_object(repeat('x', 200), random())";
    for round in 0..6 {
        for _ in 0..2 {
            assert_eq!(touch(&mut ann, &ids), there.len() as i32, "{round}");
            assert_eq!(touch(&mut ann, &away), 0, "{round}");
            assert_eq!(touch(&mut bob, &ids), 0, "{round}");
        }
        // One is forgotten, some go, others take their places, and the rest moves.
        ann.execute("SELECT engram.forget($1)", &[&there[0]])
            .unwrap();
        let gone: Vec<Uuid> = there.drain(1..6).collect();
        admin
            .execute("DELETE FROM engram.memories WHERE id = ANY ($1)", &[&gone])
            .unwrap();
        away.push(there.remove(0));
        away.extend(gone);
        let sql = ["VACUUM engram.memories", again];
        admin.batch_execute(sql[round % 2]).unwrap();
        for client in [&mut ann, &mut bob] {
            let sql = "SELECT engram.add($1 || md5(i::text)) FROM generate_series(1, 6) i";
            client.query(sql, &[&format!("round {round}: ")]).unwrap();
        }
        if round == 4 {
            admin
                .batch_execute("CLUSTER engram.memories USING memories_pkey")
                .unwrap();
        }
    }
}

#[test]
fn activations_are_those_of_each() {
    let db = Database::new();
    let (mut admin, mut ann, mut bob) = (db.admin(), db.user("ann"), db.user("bob"));
    let (ids, theirs) = (facts(&mut ann, 40), facts(&mut bob, 2));
    let me = workspace(&mut ann);
    // Never used, used and folded, used and waiting, forgotten, of a version that kept no heat, without a state.
    for some in ids[..30].chunks(3) {
        touch(&mut ann, some);
    }
    fold(&mut ann, 1000);
    touch(&mut ann, &ids[10..20]);
    ann.execute("SELECT engram.forget($1)", &[&ids[12]])
        .unwrap();
    admin
        .execute(
            "UPDATE engram.memory_state SET heat = NULL, access_count = 7 WHERE memory_id = $1",
            &[&ids[13]],
        )
        .unwrap();
    admin
        .execute(
            "DELETE FROM engram.memory_state WHERE memory_id = ANY ($1)",
            &[&&ids[14..16]],
        )
        .unwrap();
    let mut asked = ids[5..35].to_vec();
    asked.extend_from_slice(&ids[5..8]);
    asked.extend([theirs[0], Uuid::nil()]);
    for at in [
        "NULL",
        "now() + interval '3 days'",
        "now() - interval '1 year'",
    ] {
        for (given, of) in [
            ("$1".to_owned(), &ids[5..35]),
            (
                format!(
                    "CASE WHEN $1 = '{{}}'::uuid[] THEN '{{}}'::uuid[] END, workspace => '{me}'"
                ),
                &ids[..],
            ),
        ] {
            let sql = format!(
                "SELECT a.id, a.activation, engram.activation(a.id, {at}) FROM engram.activations({given}, at => {at}) a ORDER BY a.id"
            );
            let rows = ann.query(&sql, &[&asked]).unwrap();
            let mut wanted = of.to_vec();
            // Without a state a memory is known only to who asks for it.
            if !given.starts_with("$1") {
                wanted.retain(|id| !ids[14..16].contains(id));
            }
            wanted.sort_unstable();
            let found: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
            assert_eq!(found, wanted, "{sql}");
            for row in rows {
                let (many, one): (f64, f64) = (row.get(1), row.get(2));
                assert!((many - one).abs() < 1e-9, "{sql}: {many}, {one}");
            }
        }
    }
    let count = |client: &mut Client, call: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM engram.activations({call})");
        client.query_one(&sql, &[]).unwrap().get(0)
    };
    assert_eq!(count(&mut ann, "'{}'"), 0);
    assert_eq!(count(&mut bob, &format!("ARRAY['{}']::uuid[]", ids[0])), 0);
    assert_eq!(count(&mut bob, ""), 2);
    let e = failure(ann.query("SELECT engram.activations(at => 'infinity')", &[]));
    assert_eq!(e.code, "22023", "{e:?}");
    // What a policy of the user's own hides, of either table, has no activation.
    for table in ["memories", "memory_state"] {
        let key = if table == "memories" {
            "id"
        } else {
            "memory_id"
        };
        admin
            .batch_execute(&format!(
                "CREATE POLICY quiet ON engram.{table} AS RESTRICTIVE FOR SELECT USING ({key} <> '{}')",
                ids[1]
            ))
            .unwrap();
        let hidden = format!("ARRAY['{}', '{}']::uuid[]", ids[0], ids[1]);
        let expected: Option<f64> = ann
            .query_one("SELECT engram.activation($1)", &[&ids[1]])
            .unwrap()
            .get(0);
        assert_eq!(
            count(&mut ann, &hidden),
            1 + i64::from(expected.is_some()),
            "{table}"
        );
        admin
            .batch_execute(&format!("DROP POLICY quiet ON engram.{table}"))
            .unwrap();
    }
    assert_eq!(count(&mut ann, ""), 38);
}
