//! New ids.
//!
//! UUIDs of version 7, each after all before it from the same process. Their random bits are asked of the system for
//! many at once: a system call for each would cost more than the rest of it.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use pgrx::pg_sys;
use uuid::Uuid;

struct Source {
    /// Milliseconds since 1970 and 4096ths of one, of the last id.
    last: u64,
    random: [u8; 512],
    used: usize,
    /// Of which process this is.
    process: u32,
}

thread_local! {
    static SOURCE: RefCell<Source> = const {
        RefCell::new(Source { last: 0, random: [0; 512], used: 512, process: 0 })
    };
}

/// The next id.
pub fn next() -> Uuid {
    SOURCE.with_borrow_mut(|source| {
        // Who was forked must not go on with what its parent has.
        let process = std::process::id();
        if source.process != process || source.used + 8 > source.random.len() {
            // SAFETY: so many bytes are filled.
            let filled = unsafe {
                pg_sys::pg_strong_random(source.random.as_mut_ptr().cast(), source.random.len())
            };
            if !filled {
                return Uuid::now_v7();
            }
            (source.process, source.used) = (process, 0);
        }
        let mut random = [0; 8];
        random.copy_from_slice(&source.random[source.used..source.used + 8]);
        source.used += 8;
        let random = u64::from_be_bytes(random);
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let parts = u64::from(since.subsec_nanos() % 1_000_000) * 4096 / 1_000_000;
        let now = (since.as_millis() as u64) << 12 | parts;
        source.last = now.max(source.last + 1);
        let time = u128::from(source.last >> 12) << 80 | u128::from(source.last & 0xfff) << 64;
        let fixed = 7 << 76 | 2 << 62;
        Uuid::from_u128(time | fixed | u128::from(random >> 2))
    })
}
