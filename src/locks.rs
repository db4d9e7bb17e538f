//! How many advisory locks the running transaction has taken.

use std::cell::Cell;

use pgrx::pg_sys;

/// Single locks that one transaction takes before it locks whole workspaces. The server has room
/// for 64 locks per connection by default, shared by all.
const MAX_SINGLE: u32 = 64;

thread_local! {
    static TAKEN: Cell<(pg_sys::LocalTransactionId, u32)> = const { Cell::new((0, 0)) };
}

/// Counts one more; false when the transaction has had its share.
pub fn take() -> bool {
    let transaction = current();
    let (of, n) = TAKEN.get();
    let n = if of == transaction { n + 1 } else { 1 };
    TAKEN.set((transaction, n));
    n <= MAX_SINGLE
}

fn current() -> pg_sys::LocalTransactionId {
    // SAFETY: inside a function call there is a transaction and a PGPROC, and both outlive it.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        return (*pg_sys::MyProc).lxid;
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        return (*pg_sys::MyProc).vxid.lxid;
    }
}
