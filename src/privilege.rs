//! Acting as the owner of the store for a moment.
//!
//! Search reads its candidates (ids and scores, nothing else) as the owner of the tables, because
//! the operators of text and vector search are not leakproof and would lose their indexes under
//! row level security. The caller and the workspace are checked before, and every row that is
//! shown is fetched afterwards as the caller.

use pgrx::pg_sys;

/// While it lives, statements run as the owner of the store. Errors end it too: PostgreSQL resets
/// the user when it aborts the (sub)transaction.
pub struct AsOwner {
    user: pg_sys::Oid,
    context: i32,
    /// What settings return to, where those that are made meanwhile must not stay.
    settings: Option<i32>,
}

impl AsOwner {
    /// Switches to `owner`, as a foreign key check does: `SET ROLE` is refused meanwhile and
    /// FORCE ROW LEVEL SECURITY does not apply.
    pub fn new(owner: pg_sys::Oid) -> Self {
        let mut user = pg_sys::InvalidOid;
        let mut context = 0;
        // SAFETY: both pointers are to live locals; `owner` is the owner of an existing table.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&raw mut user, &raw mut context);
            pg_sys::SetUserIdAndSecContext(
                owner,
                context
                    | (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_NOFORCE_RLS) as i32,
            );
        }
        Self {
            user,
            context,
            settings: None,
        }
    }

    /// As [`AsOwner::new`], for work that a superuser does on the tables of somebody else, whose triggers, policies and
    /// defaults are code that runs meanwhile: it can leave nothing behind that would run as the superuser afterwards (a
    /// cursor or a deferred trigger, both of which run when the transaction ends, a statement that is prepared, a setting).
    pub fn confined(owner: pg_sys::Oid) -> Self {
        let mut guard = Self::new(owner);
        // SAFETY: roles are looked up; a level of settings is begun, which ends with the guard, or with the (sub)transaction
        // that an error ends.
        unsafe {
            if pg_sys::superuser_arg(guard.user) && !pg_sys::superuser_arg(owner) {
                let mut user = owner;
                let mut context = 0;
                pg_sys::GetUserIdAndSecContext(&raw mut user, &raw mut context);
                pg_sys::SetUserIdAndSecContext(
                    owner,
                    context | pg_sys::SECURITY_RESTRICTED_OPERATION as i32,
                );
                guard.settings = Some(pg_sys::NewGUCNestLevel());
            }
        }
        guard
    }
}

impl Drop for AsOwner {
    fn drop(&mut self) {
        if let Some(level) = self.settings {
            // SAFETY: the level was begun by this guard; what has been begun within it goes too.
            unsafe { pg_sys::AtEOXact_GUC(false, level) }
        }
        // SAFETY: the values were read from PostgreSQL when the guard was made.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) }
    }
}
