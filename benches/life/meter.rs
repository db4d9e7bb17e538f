//! What calls cost: CPU of the server's process, WAL, and which updates stayed on their page.

use std::time::{Duration, Instant};

use postgres::Client;

use super::clock::Clock;
use crate::common::Result;

/// A connection whose process is measured.
pub struct Session {
    pub client: Client,
    clock: Clock,
    /// Reads the position in the WAL, without costing the session anything.
    log: Client,
}

/// What some calls took.
#[derive(Default)]
pub struct Costs {
    cpu: Vec<f64>,
    wall: Vec<f64>,
    wal: Vec<f64>,
}

impl Session {
    pub fn new(mut client: Client, log: Client) -> Result<Self> {
        Ok(Self {
            clock: Clock::of(&mut client)?,
            client,
            log,
        })
    }

    /// Runs `work` and takes note of it.
    pub fn measure<T>(
        &mut self,
        costs: &mut Costs,
        work: impl FnOnce(&mut Client) -> Result<T>,
    ) -> Result<T> {
        let wal = position(&mut self.log)?;
        let cpu = self.clock.read()?;
        let started = Instant::now();
        let out = work(&mut self.client)?;
        let wall = started.elapsed();
        let cpu = self.clock.read()? - cpu;
        costs.push(cpu, wall, position(&mut self.log)? - wal);
        Ok(out)
    }
}

/// Bytes of WAL that the server has written so far.
fn position(client: &mut Client) -> Result<i64> {
    let row = client.query_one("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint", &[])?;
    Ok(row.get(0))
}

impl Costs {
    fn push(&mut self, cpu: Duration, wall: Duration, wal: i64) {
        self.cpu.push(cpu.as_secs_f64() * 1e3);
        self.wall.push(wall.as_secs_f64() * 1e3);
        self.wal.push(wal as f64);
    }

    pub fn append(&mut self, other: Self) {
        self.cpu.extend(other.cpu);
        self.wall.extend(other.wall);
        self.wal.extend(other.wal);
    }

    /// Milliseconds.
    pub fn cpu(&self) -> f64 {
        median(&self.cpu)
    }

    pub fn mean_cpu(&self) -> f64 {
        mean(&self.cpu)
    }

    /// Milliseconds.
    pub fn wall(&self) -> f64 {
        median(&self.wall)
    }

    /// Bytes.
    pub fn wal(&self) -> f64 {
        median(&self.wal)
    }

    pub fn mean_wal(&self) -> f64 {
        mean(&self.wal)
    }

    /// From the costs of so many calls at a time to those of one.
    pub fn divide(&mut self, calls: usize) {
        for value in [&mut self.cpu, &mut self.wall, &mut self.wal]
            .into_iter()
            .flatten()
        {
            *value /= calls as f64;
        }
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Updates of a table since the last reset, and how many of them stayed on their page without an
/// entry in any index.
#[derive(Clone, Copy, Default)]
pub struct Updates {
    pub all: i64,
    pub hot: i64,
}

impl Updates {
    /// The writers must have ended or have flushed their statistics.
    pub fn of(admin: &mut Client, table: &str) -> Result<Self> {
        admin.batch_execute("SELECT pg_stat_force_next_flush()")?;
        let row = admin.query_one(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_all_tables WHERE relid = $1::text::regclass",
            &[&table],
        )?;
        Ok(Self {
            all: row.get(0),
            hot: row.get(1),
        })
    }

    pub fn since(self, before: Self) -> Self {
        Self {
            all: self.all - before.all,
            hot: self.hot - before.hot,
        }
    }

    /// As text: `–` where nothing was updated.
    pub fn share(self) -> String {
        match self.all {
            0 => "–".to_owned(),
            all => format!("{:.3}", self.hot as f64 / all as f64),
        }
    }
}

/// Sends what the session's process has counted, for [`Updates::of`].
pub fn flush(client: &mut Client) -> Result<()> {
    client.batch_execute("SELECT pg_stat_force_next_flush()")?;
    Ok(())
}
