//! How long a server process has been on a CPU.

use std::fs;
use std::time::{Duration, Instant};

use postgres::Client;

use crate::common::{Failure, Result};

/// The CPU time of the process behind one connection.
pub struct Clock {
    schedstat: String,
    stat: String,
}

impl Clock {
    pub fn of(client: &mut Client) -> Result<Self> {
        let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[])?.get(0);
        let clock = Self {
            schedstat: format!("/proc/{pid}/schedstat"),
            stat: format!("/proc/{pid}/stat"),
        };
        clock.read().map(|_| clock)
    }

    /// CPU time so far. The kernel adds it up when a process stops running, and a backend runs a
    /// little longer than its answer needs to reach us: wait for it to sleep.
    pub fn read(&self) -> Result<Duration> {
        let until = Instant::now() + Duration::from_millis(5);
        while !self.asleep() && Instant::now() < until {
            std::thread::yield_now();
        }
        let text = fs::read_to_string(&self.schedstat).unwrap_or_default();
        let nanoseconds = text.split_whitespace().next().and_then(|n| n.parse().ok());
        nanoseconds.map(Duration::from_nanos).ok_or_else(|| {
            Failure::new(
                "Cannot read the CPU time of the server's processes: this kernel has no /proc/PID/schedstat.",
            )
        })
    }

    fn asleep(&self) -> bool {
        let text = fs::read_to_string(&self.stat).unwrap_or_default();
        // The name before it is in parentheses and may hold spaces.
        text.rsplit_once(')')
            .is_some_and(|(_, rest)| rest.trim_start().starts_with('S'))
    }
}
