//! Which rows of `engram.memories` the caller may see, told without asking for each of them.
//!
//! Under row level security a statement evaluates the policies anew, which costs more than reading a
//! few memories by their key. As long as the only policy that decides is the one that setup() made, it says that
//! the workspace's rows are the caller's to see, all of them.

use std::cell::Cell;
use std::ffi::CStr;

use pgrx::{pg_guard, pg_sys};
use uuid::Uuid;

use crate::error::Result;
use crate::heap::Memories;
use crate::scan::{Fresh, Table};
use crate::{identity, own};

/// The policies that setup() makes, which say so.
#[derive(Clone, Copy)]
enum Policy {
    Memories,
    States,
    Settings,
    Types,
    PastSettings,
    Models,
}

impl Policy {
    fn name(self) -> &'static CStr {
        match self {
            Self::Memories => c"memories_select",
            Self::States => c"memory_state_select",
            Self::Settings => c"settings_select",
            Self::Types => c"memory_type_settings_select",
            Self::PastSettings => c"settings_history_select",
            Self::Models => c"embedding_models_select",
        }
    }

    /// The condition, as PostgreSQL writes it; white space does not count.
    fn condition(self) -> &'static str {
        match self {
            Self::Memories | Self::States => {
                "(workspace_id = ANY ((SELECT engram.readable_workspaces() AS readable_workspaces)::uuid[]))"
            }
            Self::Settings | Self::Types | Self::PastSettings => {
                "((workspace_id = '00000000-0000-0000-0000-000000000000'::uuid)
                  OR (workspace_id = ANY ((SELECT engram.readable_workspaces() AS readable_workspaces)::uuid[])))"
            }
            Self::Models => "true",
        }
    }
}

thread_local! {
    /// Whether the policies are only ours, once that is known, and of which table; by [`Policy`].
    static KNOWN: Cell<[Option<(pg_sys::Oid, bool)>; 6]> = const { Cell::new([None; 6]) };
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}

/// Anything about the table has changed, its policies perhaps.
#[pg_guard]
extern "C-unwind" fn forget(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    KNOWN.set(
        KNOWN
            .get()
            .map(|known| known.filter(|(of, _)| relation != *of && relation != pg_sys::InvalidOid)),
    );
}

/// Whether a policy of the user's own may hide memories of a workspace that the caller may read. Any doubt
/// is a yes. `memories` is that table.
pub fn partly_hidden(memories: &Table) -> bool {
    bound(memories) && !only_ours(memories, Policy::Memories)
}

/// Whether row security binds the current role.
fn bound(table: &Table) -> bool {
    // SAFETY: the relation is open; InvalidOid means the current user, and no error is raised.
    let asked =
        unsafe { pg_sys::check_enable_rls((*table.relation()).rd_id, pg_sys::InvalidOid, true) };
    asked == pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32
}

/// Whether the caller sees the settings of every workspace that the caller may read, and the defaults.
pub fn sees_settings(settings: &Table) -> bool {
    sees_all(settings, Policy::Settings)
}

/// As [`sees_settings`], of those by type.
pub fn sees_types(types: &Table) -> bool {
    sees_all(types, Policy::Types)
}

/// As [`sees_settings`], of those that were in force before.
pub fn sees_past_settings(history: &Table) -> bool {
    sees_all(history, Policy::PastSettings)
}

/// Whether the caller sees all embedding models.
pub fn sees_models(models: &Table) -> bool {
    sees_all(models, Policy::Models)
}

fn sees_all(table: &Table, policy: Policy) -> bool {
    // SAFETY: reads a setting; where it is off, a statement that a policy would cut is an error.
    let quiet = unsafe { pg_sys::row_security };
    quiet && table.may_read() && (!bound(table) || only_ours(table, policy))
}

fn only_ours(table: &Table, policy: Policy) -> bool {
    let relation = table.relation();
    // SAFETY: the relation is open.
    let id = unsafe { (*relation).rd_id };
    let note = |known| {
        let mut all = KNOWN.get();
        all[policy as usize] = known;
        KNOWN.set(all);
    };
    if let Some((of, known)) = KNOWN.get()[policy as usize]
        && of == id
    {
        return known;
    }
    if !WATCHED.replace(true) {
        // SAFETY: the function lives as long as the library, which is never unloaded.
        unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(forget), pg_sys::Datum::null()) };
    }
    // Set first: what changes while it is looked at takes it away again.
    note(Some((id, false)));
    // SAFETY: the relation is open and locked, so that its policies stay as they are; they are nodes and
    // C strings that the relation's cache entry owns.
    let ours = unsafe {
        only_policy(
            relation,
            pg_sys::ACL_SELECT_CHR,
            policy.name(),
            policy.condition(),
        )
    };
    if KNOWN.get()[policy as usize] == Some((id, false)) {
        note(Some((id, ours)));
    }
    ours
}

/// Whether a table has one policy for a command, of this name and condition and for everybody. White space
/// does not count.
///
/// # Safety
/// The relation is open and locked.
pub unsafe fn only_policy(
    relation: pg_sys::Relation,
    command: u8,
    name: &CStr,
    condition: &str,
) -> bool {
    // SAFETY: the policies are nodes, arrays and C strings that the relation's cache entry owns.
    unsafe {
        let description = (*relation).rd_rsdesc;
        if description.is_null() || (*description).policies.is_null() {
            return false;
        }
        let policies = &*(*description).policies;
        let mut ours = 0;
        for nth in 0..usize::try_from(policies.length).unwrap_or(0) {
            let policy = (*policies.elements.add(nth)).ptr_value;
            let policy = policy.cast::<pg_sys::RowSecurityPolicy>();
            let of = u8::try_from((*policy).polcmd).unwrap_or(b'*');
            if of != command && of != b'*' {
                continue;
            }
            let expression = if command == pg_sys::ACL_INSERT_CHR {
                (*policy).with_check_qual
            } else {
                (*policy).qual
            };
            if CStr::from_ptr((*policy).policy_name) != name
                || of != command
                || !(*policy).permissive
                || !for_everybody((*policy).roles)
                || expression.is_null()
            {
                return false;
            }
            let table = (*(*relation).rd_rel).relname.data.as_ptr();
            let context = pg_sys::deparse_context_for(table, (*relation).rd_id);
            let text = pg_sys::deparse_expression(expression.cast(), context, false, false);
            let letters = |text: &str| text.split_ascii_whitespace().collect::<String>();
            if letters(&CStr::from_ptr(text).to_string_lossy()) != letters(condition) {
                return false;
            }
            ours += 1;
        }
        ours == 1
    }
}

/// Whether a policy's list of roles says PUBLIC.
unsafe fn for_everybody(roles: *mut pg_sys::ArrayType) -> bool {
    // SAFETY: a plain array of Oids: its length and lower bound, then its elements.
    unsafe {
        if roles.is_null() || (*roles).ndim != 1 {
            return false;
        }
        let start = roles.add(1).cast::<i32>();
        *start == 1 && *start.add(2) == 0
    }
}

/// Whether the caller may see all memories of the workspace. False where that cannot be told from here.
pub fn all_visible(memories: &Table, workspace: Uuid) -> bool {
    all_visible_to(identity::caller().id, memories, workspace)
}

/// As [`all_visible`], for who is known to call.
fn all_visible_to(me: Option<Uuid>, memories: &Table, workspace: Uuid) -> bool {
    // SAFETY: reads a setting; where it is off, a statement that a policy would cut is an error.
    let quiet = unsafe { pg_sys::row_security };
    // A policy shows the caller's own workspace; one that is named may be visible for another reason.
    quiet
        && memories.may_read()
        && !partly_hidden(memories)
        && me == Some(workspace)
        && own::readable_is_own()
}

/// Whether the caller may see all memories of the workspace and the states of all. False where that cannot be told from
/// here. `states` is `memory_state`.
pub fn states_visible(memories: &Table, states: &Table, workspace: Uuid) -> bool {
    if !memories.may_read() || !states.may_read() {
        return false;
    }
    let (memories_bound, states_bound) = (bound(memories), bound(states));
    if !memories_bound && !states_bound {
        return true;
    }
    all_visible(memories, workspace) && (!states_bound || only_ours(states, Policy::States))
}

/// Those of the memories that are there and not forgotten, as the caller, who is `me`, sees them; `None` where that
/// cannot be told from here.
pub fn visible_to(me: Option<Uuid>, workspace: Uuid, ids: &[Uuid]) -> Result<Option<Vec<Uuid>>> {
    let memories = Table::open(c"memories")?;
    if !all_visible_to(me, &memories, workspace) {
        return Ok(None);
    }
    let deleted = memories.column(c"deleted_at")?;
    let _snapshot = Fresh::new();
    let mut rows = Memories::new(&memories, deleted)?;
    rows.approach(ids);
    let mut there = Vec::with_capacity(ids.len());
    for id in ids {
        let row = rows.find([workspace, *id])?;
        if row.is_some_and(|row| row.datum(deleted).is_none()) {
            there.push(*id);
        }
    }
    Ok(Some(there))
}
