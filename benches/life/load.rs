//! Databases of memories that have been used, filled without triggers.

use std::time::{Duration, SystemTime};

use postgres::types::{Json, Type};
use postgres::{Client, binary_copy::BinaryCopyInWriter};
use serde_json::json;
use uuid::Uuid;

use super::generator::{Generator, Random};
use crate::common::server::{ROLE, Server, install_engram};
use crate::common::{Result, say};

/// Memories that are used together. Calls take theirs from one group.
const GROUP: usize = 50;
/// Members of a call.
pub const MEMBERS: usize = 5;
/// Memories are up to so old.
const DAYS: u64 = 200;
const TYPES: [&str; 7] = [
    "factual",
    "episodic",
    "relational",
    "emotional",
    "procedural",
    "opinion",
    "causal",
];

/// An empty database with engram and the schema `plain`.
pub fn create(server: &Server, name: &str) -> Result<Client> {
    let mut postgres = server.admin("postgres")?;
    postgres.batch_execute(&format!("DROP DATABASE IF EXISTS {name}"))?;
    postgres.batch_execute(&format!("CREATE DATABASE {name}"))?;
    let mut admin = server.admin(name)?;
    install_engram(&mut admin, 8)?;
    admin.batch_execute(&include_str!("plain.sql").replace("@role@", ROLE))?;
    Ok(admin)
}

pub fn drop(server: &Server, name: &str) -> Result<()> {
    let mut postgres = server.admin("postgres")?;
    postgres.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))?;
    Ok(())
}

/// Workspaces `first..`, one of each size, memories interleaved as they would arrive. Each memory has
/// been used `uses` times, storing it included.
pub fn fill(
    admin: &mut Client,
    generator: &Generator,
    first: usize,
    sizes: &[usize],
    uses: usize,
) -> Result<()> {
    let total: usize = sizes.iter().sum();
    say(format!("{total} memories in {} workspaces", sizes.len()));
    admin.batch_execute("SET session_replication_role = replica")?;
    let now = SystemTime::now();
    let sink = admin.copy_in(
        "COPY engram.memories (workspace_id, id, user_id, content, type, importance, layer, pinned, tags, metadata, \
         version, created_at, updated_at, content_hash) FROM STDIN (FORMAT binary)",
    )?;
    let types = [
        Type::UUID,
        Type::UUID,
        Type::UUID,
        Type::TEXT,
        Type::TEXT,
        Type::FLOAT8,
        Type::TEXT,
        Type::BOOL,
        Type::TEXT_ARRAY,
        Type::JSONB,
        Type::INT4,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
        Type::BYTEA,
    ];
    let mut writer = BinaryCopyInWriter::new(sink, &types);
    let longest = sizes.iter().copied().max().unwrap_or(0);
    let rounds = longest.div_ceil(GROUP);
    for round in 0..rounds {
        for (nth, size) in sizes.iter().enumerate() {
            let workspace = first + nth;
            let user = generator.user(workspace);
            for n in size * round / rounds..size * (round + 1) / rounds {
                let mut random = Random::new(&[generator.seed, 8, workspace as u64, n as u64]);
                // Older ones come first, as they did.
                let age = Duration::from_secs(DAYS * 86_400 * (size - n) as u64 / *size as u64)
                    + Duration::from_millis(random.below(60_000) as u64);
                let created = now - age;
                let millis = created
                    .duration_since(SystemTime::UNIX_EPOCH)
                    .unwrap_or_default()
                    .as_millis() as u64;
                let mut bytes = [0u8; 10];
                bytes.fill_with(|| random.below(256) as u8);
                let id = uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid();
                let mut hash = id.as_bytes().to_vec();
                hash.extend_from_slice(id.as_bytes());
                writer.write(&[
                    &user,
                    &id,
                    &user,
                    &generator.row(workspace, n).content,
                    &TYPES[random.below(TYPES.len())],
                    &(random.below(1001) as f64 / 1000.0),
                    &"working",
                    &false,
                    &Vec::<String>::new(),
                    &Json(json!({})),
                    &1i32,
                    &created,
                    &created,
                    &hash,
                ])?;
            }
        }
    }
    writer.finish()?;
    // Uses at times that the id decides, the first at the creation.
    let users: Vec<Uuid> = (0..sizes.len())
        .map(|n| generator.user(first + n))
        .collect();
    admin.execute(
        "INSERT INTO engram.memory_state (workspace_id, memory_id, access_count, last_accessed_at, heat, working_strength,
           core_strength, layer, stability, difficulty)
         SELECT m.workspace_id, m.id, s.access_count, s.last_accessed_at, s.heat, s.working_strength, s.core_strength, s.layer,
                s.stability, s.difficulty
         FROM (SELECT engram_internal.dynamics('00000000-0000-0000-0000-000000000000') AS params OFFSET 0) p
         CROSS JOIN engram.memories m
         CROSS JOIN LATERAL (
           SELECT array_agg(gen_random_uuid()) AS calls, array_agg(m.created_at + ($1::timestamptz - m.created_at) * f) AS times,
                  array_agg(1.0::double precision) AS gains, array_agg(3::smallint) AS ratings
           FROM generate_series(2, $2::integer) k, LATERAL (VALUES ((hashtextextended(m.id::text, k) & 65535) / 65536.0)) v (f)) u
         CROSS JOIN LATERAL engram_internal.state_at(p.params, m.type, m.importance, m.pinned, false, m.created_at, m.layer, 1,
           m.created_at, NULL, NULL, NULL, NULL, NULL, NULL, NULL, u.calls, u.times, u.gains, u.ratings, NULL, NULL, false) s
         WHERE m.workspace_id = ANY ($3)",
        &[&now, &(uses as i32), &users],
    )?;
    admin.execute(
        "INSERT INTO plain.access_log
         SELECT m.workspace_id, m.id, m.created_at + ($1::timestamptz - m.created_at) * v.f
         FROM engram.memories m CROSS JOIN generate_series(1, $2::integer) k
         CROSS JOIN LATERAL (VALUES (CASE k WHEN 1 THEN 0 ELSE (hashtextextended(m.id::text, k) & 65535) / 65536.0 END)) v (f)
         WHERE m.workspace_id = ANY ($3)
         ORDER BY 3",
        &[&now, &(uses as i32), &users],
    )?;
    admin.batch_execute("RESET session_replication_role")?;
    Ok(())
}

/// Counters and indexes of the tables that are kept by hand, and the same log for engram.
pub fn by_hand(admin: &mut Client) -> Result<()> {
    admin.batch_execute(
        "SET session_replication_role = replica;
         INSERT INTO plain.counters SELECT s.workspace_id, s.memory_id, s.access_count, s.last_accessed_at FROM engram.memory_state s;
         CREATE INDEX ON plain.access_log (memory_id, accessed_at);
         CREATE INDEX ON plain.access_log (user_id);
         INSERT INTO engram.access_log (workspace_id, memory_id, accessed_at, id, user_id, kind, gain, rating)
         SELECT l.user_id, l.memory_id, l.accessed_at, gen_random_uuid(), l.user_id, 'used', 1, 3 FROM plain.access_log l;
         RESET session_replication_role",
    )?;
    Ok(())
}

/// What autovacuum, which is off, would have done by now.
pub fn settle(admin: &mut Client) -> Result<()> {
    admin.batch_execute("VACUUM (ANALYZE)")?;
    admin.batch_execute("CHECKPOINT")?;
    Ok(())
}

/// The memories of one workspace, and the calls that use them.
pub struct Calls {
    pub user: Uuid,
    pub ids: Vec<Uuid>,
    seed: u64,
}

impl Calls {
    pub fn of(admin: &mut Client, generator: &Generator, workspace: usize) -> Result<Self> {
        let user = generator.user(workspace);
        let rows = admin.query(
            "SELECT m.id FROM engram.memories m WHERE m.workspace_id = $1 ORDER BY m.id",
            &[&user],
        )?;
        Ok(Self {
            user,
            ids: rows.iter().map(|row| row.get(0)).collect(),
            seed: generator.seed,
        })
    }

    /// Call `n` of a series: members of one group, some groups and some members more often than others,
    /// in the order of an answer.
    pub fn call(&self, series: u64, n: usize) -> Vec<Uuid> {
        let mut random = Random::new(&[self.seed, 9, series, n as u64]);
        let group = GROUP.min(self.ids.len());
        let groups = self.ids.len() / group;
        let from = group * skewed(&mut random, groups);
        let mut members: Vec<usize> = Vec::with_capacity(MEMBERS);
        while members.len() < MEMBERS {
            let member = from + skewed(&mut random, group);
            if !members.contains(&member) {
                members.push(member);
            }
        }
        members.into_iter().map(|n| self.ids[n]).collect()
    }
}

/// Below `n`, small numbers more often.
fn skewed(random: &mut Random, n: usize) -> usize {
    let limit = random.below(n) + 1;
    random.below(limit)
}
