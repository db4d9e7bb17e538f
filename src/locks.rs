//! Locks on what a text names, until the end of the transaction.
//!
//! Advisory locks would be anybody's: every role may take those of any number, and so keep others from
//! storing. These are locks of the kind that the server takes on database objects, which SQL cannot name,
//! on an object that does not exist.

use std::cell::Cell;

use pgrx::pg_sys;
use uuid::Uuid;

use crate::error::Result;
use crate::identity;

/// Single locks that one transaction takes before it locks whole workspaces. The server has room
/// for 64 locks per connection by default, shared by all.
const MAX_SINGLE: u32 = 64;

thread_local! {
    static TAKEN: Cell<(pg_sys::LocalTransactionId, u32)> = const { Cell::new((0, 0)) };
}

/// Counts one more; false when the transaction has had its share.
pub fn take() -> bool {
    add(1);
    room(0)
}

/// Whether so many more are within the transaction's share.
fn room(n: usize) -> bool {
    let (of, taken) = TAKEN.get();
    let taken = if of == current() { taken } else { 0 };
    taken as usize + n <= MAX_SINGLE as usize
}

/// Counts some that were taken.
pub fn add(n: u32) {
    let transaction = current();
    let (of, taken) = TAKEN.get();
    let taken = if of == transaction { taken } else { 0 };
    TAKEN.set((transaction, taken.saturating_add(n)));
}

/// The transaction that runs, among those of this backend.
pub fn current() -> pg_sys::LocalTransactionId {
    // SAFETY: inside a function call there is a transaction and a PGPROC, and both outlive it.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        return (*pg_sys::MyProc).lxid;
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        return (*pg_sys::MyProc).vxid.lxid;
    }
}

/// Who else may hold the same lock.
#[derive(Clone, Copy)]
enum Mode {
    /// Whoever shares it too.
    Shared,
    /// Nobody.
    Alone,
}

/// What a lock is on: 48 bits of a hash. Two names that agree in them only make somebody wait.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Name(u32, u16);

impl Name {
    fn new(workspace: Uuid, purpose: &str) -> Self {
        let hash = Uuid::new_v5(&workspace, purpose.as_bytes());
        let [a, b, c, d, e, f, ..] = *hash.as_bytes();
        Self(u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, f]))
    }

    /// A whole workspace.
    fn of(workspace: Uuid) -> Self {
        Self::new(workspace, "workspace")
    }

    fn of_key(workspace: Uuid, key: &str) -> Self {
        Self::new(workspace, &format!("key {key}"))
    }

    /// Takes the lock; false where somebody has it and `wait` does not allow to wait for them.
    fn lock(self, mode: Mode, wait: bool) -> bool {
        let mode = match mode {
            Mode::Shared => pg_sys::ShareLock,
            Mode::Alone => pg_sys::ExclusiveLock,
        };
        // SAFETY: a plain look-up and plain values of the session; the tag is copied. The schema of our
        // functions stands where the server writes a catalog, so no object of its own has this tag.
        unsafe {
            // On a standby nothing is stored: the error says so, better than that of the lock.
            pg_sys::PreventCommandDuringRecovery(c"a change of memories".as_ptr());
            let tag = pg_sys::LOCKTAG {
                locktag_field1: pg_sys::MyDatabaseId.to_u32(),
                locktag_field2: pg_sys::get_namespace_oid(c"engram_internal".as_ptr(), false)
                    .to_u32(),
                locktag_field3: self.0,
                locktag_field4: self.1,
                locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
                locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
            };
            pg_sys::LockAcquire(&raw const tag, mode as i32, false, !wait)
                != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
        }
    }
}

/// Nobody else stores what has one of these keys in the workspace. Waits for who has. Does not ask whether the
/// caller may, and does not count: gives how many single locks are to be counted with [`add`].
pub fn hold<'k>(workspace: Uuid, keys: impl Iterator<Item = &'k str>) -> u32 {
    let mut names: Vec<Name> = keys.map(|key| Name::of_key(workspace, key)).collect();
    // Always in the same order: who waits for one of them holds none that comes later.
    names.sort_unstable();
    names.dedup();
    // Many single locks would fill the table of locks that all sessions share: a batch, or a
    // transaction that has taken many, locks the whole workspace instead.
    if !names.is_empty() && !room(names.len()) {
        Name::of(workspace).lock(Mode::Alone, true);
        return 0;
    }
    Name::of(workspace).lock(Mode::Shared, true);
    for name in &names {
        name.lock(Mode::Alone, true);
    }
    u32::try_from(names.len()).unwrap_or(u32::MAX)
}

/// As [`hold`], for a caller who may write the workspace.
pub fn keys<'k>(workspace: Uuid, keys: impl Iterator<Item = &'k str>) -> Result<()> {
    identity::require_writer(workspace)?;
    add(hold(workspace, keys));
    Ok(())
}

/// The lock that [`keys`] takes for one key, if it is free.
pub fn try_key(workspace: Uuid, key: &str) -> Result<bool> {
    identity::require_writer(workspace)?;
    Ok(Name::of(workspace).lock(Mode::Shared, false)
        && Name::of_key(workspace, key).lock(Mode::Alone, false))
}

/// Nobody else stores anything in the workspace that [`keys`] locks for. Waits for who does.
pub fn workspace(workspace: Uuid) -> Result<()> {
    identity::require_writer(workspace)?;
    Name::of(workspace).lock(Mode::Alone, true);
    Ok(())
}

/// Nobody else does this kind of work in the workspace; false where somebody does.
pub fn try_work(workspace: Uuid, work: &str) -> Result<bool> {
    identity::require_writer(workspace)?;
    Ok(Name::new(workspace, &format!("work {work}")).lock(Mode::Alone, false))
}

/// As [`try_work`], without asking whether the caller may.
pub fn try_own_work(workspace: Uuid, work: &str) -> bool {
    Name::new(workspace, &format!("work {work}")).lock(Mode::Alone, false)
}

/// Nobody else makes the tables. Waits for who does.
pub fn setup() {
    Name::new(Uuid::nil(), "setup").lock(Mode::Alone, true);
}
