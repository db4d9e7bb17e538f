//! Locks on what a text names, until the end of the transaction.
//!
//! Advisory locks would be anybody's: every role may take those of any number, and so keep others from
//! storing. These are locks of the kind that the server takes on database objects, which SQL cannot name,
//! on an object that does not exist.

use std::cell::Cell;

use pgrx::pg_sys;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::identity;
use crate::scan::Table;

/// Single locks that one transaction takes before it closes workspaces. The server has room
/// for 64 locks per connection by default, shared by all.
const MAX_SINGLE: u32 = 64;

/// What SQL before 0.11 has among its keys where it means the whole workspace.
const WHOLE: &str = "1";

/// What is locked where settings count and where they change.
const SETTINGS: &str = "settings";

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

/// What a lock is for. On a workspace they exclude each other as the modes of the server's locks do; on a key,
/// or on work, there is only [`Mode::Alone`].
///
/// Who stores has single locks on the keys, and is present. Past its share of them a transaction closes the
/// workspace: nobody enters it, so nobody has further single locks, until it ends. What is locked already it
/// asks for by name, and gives back at once, as nobody can take that behind it. Hence
///
/// - who closes waits for nobody who is present, but for who has the very same key, or has closed too;
/// - who is refused waits with no more than it had from calls before, see [`hold`].
///
/// So of two transactions that have no key of a workspace in common only one ever waits for the other. Two that
/// have may still come to wait for each other if both store more after it, as with any unique key. Closing is not
/// being alone: who wants that waits for all who are present, and of two who are and both want it, neither can be
/// the first.
#[derive(Clone, Copy)]
enum Mode {
    /// Has stored something, until the end.
    Present,
    /// Has asked what names mean, until the end.
    Names,
    /// Takes single locks, for a moment.
    Enter,
    /// Stores without single locks, until the end.
    Close,
    /// Says what names mean, until the end.
    Declare,
    /// Nobody else does any of this.
    Alone,
    /// Counts uses by settings. With [`Mode::Changes`] on a name of its own.
    Counts,
    /// Changes settings, until the end. Any number may, as of the same row there is only one: who waits here waits for
    /// who counts, who waits for nobody.
    Changes,
}

impl Mode {
    fn of_server(self) -> i32 {
        let mode = match self {
            Self::Present => pg_sys::AccessShareLock,
            Self::Names => pg_sys::RowShareLock,
            Self::Enter => pg_sys::RowExclusiveLock,
            Self::Close => pg_sys::ShareRowExclusiveLock,
            Self::Declare => pg_sys::ExclusiveLock,
            Self::Alone => pg_sys::AccessExclusiveLock,
            Self::Counts => pg_sys::ShareLock,
            Self::Changes => pg_sys::RowExclusiveLock,
        };
        mode as i32
    }
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

    /// The schema of our functions stands where the server writes a catalog, so no object of its own has this tag.
    fn tag(self) -> pg_sys::LOCKTAG {
        // SAFETY: a plain look-up and a plain value of the session.
        unsafe {
            pg_sys::LOCKTAG {
                locktag_field1: pg_sys::MyDatabaseId.to_u32(),
                locktag_field2: pg_sys::get_namespace_oid(c"engram_internal".as_ptr(), false)
                    .to_u32(),
                locktag_field3: self.0,
                locktag_field4: self.1,
                locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
                locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
            }
        }
    }

    /// Takes the lock; false where somebody has it and `wait` does not allow to wait for them.
    fn lock(self, mode: Mode, wait: bool) -> bool {
        let tag = self.tag();
        // SAFETY: the tag is copied.
        unsafe {
            // On a standby nothing is stored: the error says so, better than that of the lock.
            pg_sys::PreventCommandDuringRecovery(c"a change of memories".as_ptr());
            pg_sys::LockAcquire(&raw const tag, mode.of_server(), false, !wait)
                != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
        }
    }

    /// Whether this transaction has the lock.
    fn held(self, mode: Mode) -> bool {
        let tag = self.tag();
        // SAFETY: reads what the backend knows of its own locks.
        unsafe {
            #[cfg(any(feature = "pg15", feature = "pg16"))]
            return pg_sys::LockHeldByMe(&raw const tag, mode.of_server());
            #[cfg(any(feature = "pg17", feature = "pg18"))]
            return pg_sys::LockHeldByMe(&raw const tag, mode.of_server(), false);
        }
    }

    /// Gives back what this call took; what calls before took stays.
    fn unlock(self, mode: Mode) {
        let tag = self.tag();
        // SAFETY: the tag is copied.
        unsafe { pg_sys::LockRelease(&raw const tag, mode.of_server(), false) };
    }
}

/// Locks keys of a workspace singly, or closes it and sees that nobody has one of them. Where that takes waiting that
/// is not allowed, nothing is locked, and it gives what somebody else has.
fn try_hold(workspace: Name, keys: &[Name], single: bool, wait: bool) -> Option<Name> {
    let door = if single { Mode::Enter } else { Mode::Close };
    if !workspace.lock(door, wait) {
        return Some(workspace);
    }
    let mut refused = None;
    let mut held = 0;
    if single && !workspace.lock(Mode::Present, wait) {
        refused = Some(workspace);
    } else {
        for key in keys {
            pgrx::check_for_interrupts!();
            if !key.lock(Mode::Alone, false) {
                refused = Some(*key);
                break;
            }
            held += 1;
            if !single {
                key.unlock(Mode::Alone);
            }
        }
        if refused.is_some() && single {
            for key in &keys[..held] {
                key.unlock(Mode::Alone);
            }
            workspace.unlock(Mode::Present);
        }
    }
    if single || refused.is_some() {
        workspace.unlock(door);
    }
    refused
}

/// Nobody else stores what has one of these keys in the workspace. Waits for who has. Does not ask whether the
/// caller may, and does not count: gives how many single locks are to be counted with [`add`].
pub fn hold<'k>(workspace: Uuid, keys: impl Iterator<Item = &'k str>) -> u32 {
    let mut names: Vec<Name> = keys.map(|key| Name::of_key(workspace, key)).collect();
    // Always in the same order: of those who want the same ones, one gets all.
    names.sort_unstable();
    names.dedup();
    let single = room(names.len());
    let counted = if single {
        u32::try_from(names.len()).unwrap_or(u32::MAX)
    } else {
        0
    };
    // For what this transaction has already it does not enter the workspace again: who says what names mean keeps
    // others out, and may be waiting for the very key.
    names.retain(|key| !key.held(Mode::Alone));
    if names.is_empty() {
        return counted;
    }
    let whole = Name::of(workspace);
    // Who waits for a key, or for the workspace, holds no key: they are all taken at once, and the one that was waited
    // for is only kept while nothing else has to be.
    let mut kept: Option<Name> = None;
    loop {
        let busy = try_hold(whole, &names, single, kept.is_none());
        if let Some(kept) = kept.take() {
            kept.unlock(Mode::Alone);
        }
        let Some(busy) = busy else { break };
        if busy != whole {
            busy.lock(Mode::Alone, true);
            kept = Some(busy);
        }
    }
    counted
}

/// Nobody says what names mean in the workspace. Waits for who does. Does not ask whether the caller may. To be taken
/// before keys, as who says it may want one of them.
pub fn hold_names(workspace: Uuid) {
    Name::of(workspace).lock(Mode::Names, true);
}

/// As [`hold`], for a caller who may write the workspace; without keys as [`hold_names`].
pub fn keys(workspace: Uuid, keys: &[&str]) -> Result<()> {
    if keys.contains(&WHOLE) {
        return self::workspace(workspace);
    }
    identity::require_writer(workspace)?;
    if keys.is_empty() {
        hold_names(workspace);
    }
    add(hold(workspace, keys.iter().copied()));
    Ok(())
}

/// The lock that [`keys`] takes for one key, if it is free.
pub fn try_key(workspace: Uuid, key: &str) -> Result<bool> {
    identity::require_writer(workspace)?;
    let single = may_take();
    let key = Name::of_key(workspace, key);
    let free = try_hold(Name::of(workspace), &[key], single, false).is_none();
    if free && single {
        add(1);
    }
    Ok(free)
}

/// Whether the transaction has a single lock left.
pub fn may_take() -> bool {
    room(1)
}

/// Nobody else asks or says what names mean in the workspace. Waits for who did.
pub fn names(workspace: Uuid) -> Result<()> {
    identity::require_writer(workspace)?;
    Name::of(workspace).lock(Mode::Declare, true);
    Ok(())
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

/// What uses of the workspace count by stays as it is, its own settings and the defaults, until [`give_back_settings`];
/// false where somebody is changing it. Any number may hold this, and none of them has to write for it.
pub fn try_settings(workspace: Uuid) -> Result<bool> {
    require_owner()?;
    let [common, own] = settings_of(workspace);
    if !common.lock(Mode::Counts, false) {
        return Ok(false);
    }
    let free = own.lock(Mode::Counts, false);
    if !free {
        common.unlock(Mode::Counts);
    }
    Ok(free)
}

/// What [`try_settings`] took in the same transaction, or part of one, is anybody's again. All that was counted happened
/// before now, so that who changes settings from now on changes nothing of it, even before it is committed.
pub fn give_back_settings(workspace: Uuid) -> Result<()> {
    require_owner()?;
    for name in settings_of(workspace) {
        if name.held(Mode::Counts) {
            name.unlock(Mode::Counts);
        }
    }
    Ok(())
}

/// Nobody counts uses by the settings of the workspace, or by any if it is that of the defaults, until the end of the
/// transaction. Waits for who does.
pub fn settings(workspace: Uuid) -> Result<()> {
    require_owner()?;
    Name::new(workspace, SETTINGS).lock(Mode::Changes, true);
    Ok(())
}

fn settings_of(workspace: Uuid) -> [Name; 2] {
    [Uuid::nil(), workspace].map(|of| Name::new(of, SETTINGS))
}

/// These are for functions that act as the owner of the tables: anybody else could keep all from folding.
fn require_owner() -> Result<()> {
    if Table::open(c"access_queue")?.owned() {
        return Ok(());
    }
    Err(Error::Forbidden {
        message: "only the owner of the tables of engram may lock what uses count by".to_owned(),
        hint: "It happens by itself where settings change, and where uses are folded.".to_owned(),
    })
}

/// Nobody else makes the tables. Waits for who does.
pub fn setup() {
    Name::new(Uuid::nil(), "setup").lock(Mode::Alone, true);
}
