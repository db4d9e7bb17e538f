//! Whether what the policies ask is still what setup() made, so that its answer is known without asking.
//!
//! `engram.readable_workspaces()` and `engram.writable_workspaces()` are functions of the store. Others may replace them,
//! to share workspaces for example, and then they decide. As long as they are ours they name the caller's own workspace
//! and no other, which takes a function call to learn that costs more than a row.

use std::cell::Cell;
use std::ffi::{CStr, c_int};

use pgrx::{FromDatum, IntoDatum, pg_guard, pg_sys};

/// The functions' sources, as setup() runs them.
const SOURCE: &str = include_str!("../sql/store/10_identity.sql");

const CALLER: &str = "engram_internal.caller_id()";
const USER: &str = "engram.current_user_id()";
const READABLE: &str = "engram.readable_workspaces()";
const WRITABLE: &str = "engram.writable_workspaces()";

#[derive(Clone, Copy)]
struct Known {
    /// Of the functions below, whether they say what setup() made them say.
    readable: bool,
    writable: bool,
    /// [`USER`], [`READABLE`], [`WRITABLE`].
    functions: [pg_sys::Oid; 3],
}

thread_local! {
    static KNOWN: Cell<Option<Known>> = const { Cell::new(None) };
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}

#[pg_guard]
extern "C-unwind" fn forget(_argument: pg_sys::Datum, _cache: c_int, _hash: u32) {
    KNOWN.set(None);
}

/// Whether the caller may call `engram.writable_workspaces()` and it says what setup() made it say: the workspace
/// whose id is the caller's, if there is one.
pub fn writable_is_own() -> bool {
    let known = KNOWN.get().unwrap_or_else(look);
    let [user, _, writable] = known.functions;
    known.writable && may_call(user) && may_call(writable)
}

/// As [`writable_is_own`], of `engram.readable_workspaces()`.
pub fn readable_is_own() -> bool {
    let known = KNOWN.get().unwrap_or_else(look);
    let [user, readable, _] = known.functions;
    known.readable && may_call(user) && may_call(readable)
}

fn look() -> Known {
    use pg_sys::SysCacheIdentifier::{NAMESPACEOID, PROCOID};
    if !WATCHED.replace(true) {
        for cache in [PROCOID, NAMESPACEOID] {
            // SAFETY: the function lives as long as the library, which is never unloaded.
            unsafe {
                pg_sys::CacheRegisterSyscacheCallback(
                    cache as c_int,
                    Some(forget),
                    pg_sys::Datum::null(),
                );
            }
        }
    }
    // Set first: what changes while it is looked at takes it away again.
    let none = Known {
        readable: false,
        writable: false,
        functions: [pg_sys::InvalidOid; 3],
    };
    KNOWN.set(Some(none));
    let found = (|| {
        let functions = [USER, READABLE, WRITABLE].map(function);
        let [Some(user), Some(readable), Some(writable)] = functions else {
            return None;
        };
        let caller = function(CALLER)?;
        let ours = is(user, Some(body(USER)?)) && is(caller, None);
        Some(Known {
            readable: ours && is(readable, Some(body(READABLE)?)),
            writable: ours && is(writable, Some(body(WRITABLE)?)),
            functions: [user, readable, writable],
        })
    })();
    let found = found.unwrap_or(none);
    if KNOWN.get().is_some() {
        KNOWN.set(Some(found));
    }
    found
}

/// The body of a function in our own source.
fn body(name: &str) -> Option<&'static str> {
    let (_, rest) = SOURCE.split_once(&format!("FUNCTION {name} RETURNS "))?;
    let (_, rest) = rest.split_once("AS $$")?;
    rest.split_once("$$;").map(|(body, _)| body)
}

/// The function of this name and without arguments.
fn function(name: &str) -> Option<pg_sys::Oid> {
    // SAFETY: a function of one text, which gives NULL where there is none of that name.
    unsafe {
        let found =
            pgrx::direct_function_call_as_datum(pg_sys::to_regprocedure, &[name.into_datum()])?;
        Some(pg_sys::Oid::from(found.value() as u32))
    }
}

/// Whether a function is as setup() makes those of this body, or, without one, the library's own `caller_id`.
fn is(function: pg_sys::Oid, body: Option<&str>) -> bool {
    use pg_sys::SysCacheIdentifier::PROCOID;
    // SAFETY: a look-up in a cache whose key is an Oid; columns of their types, which are copied before the row is let
    // go of.
    unsafe {
        let row = pg_sys::SearchSysCache1(PROCOID as c_int, pg_sys::Datum::from(function));
        if row.is_null() {
            return false;
        }
        let column = |number: u32| {
            let mut null = false;
            let value =
                pg_sys::SysCacheGetAttr(PROCOID as c_int, row, number as i16, &raw mut null);
            (!null).then_some(value)
        };
        let source = column(pg_sys::Anum_pg_proc_prosrc).and_then(|d| String::from_datum(d, false));
        let config = column(pg_sys::Anum_pg_proc_proconfig)
            .and_then(|d| Vec::<String>::from_datum(d, false));
        let definer = column(pg_sys::Anum_pg_proc_prosecdef).is_none_or(|d| d.value() != 0);
        let language = column(pg_sys::Anum_pg_proc_prolang).map(|d| d.value() as u32);
        pg_sys::ReleaseSysCache(row);
        let language = language.and_then(|id| {
            let name = pg_sys::get_language_name(pg_sys::Oid::from(id), true);
            (!name.is_null()).then(|| CStr::from_ptr(name))
        });
        !definer
            && match body {
                Some(body) => {
                    source.as_deref() == Some(body)
                        && language == Some(c"plpgsql")
                        && config.is_some_and(|c| c == ["search_path=pg_catalog, pg_temp"])
                }
                None => {
                    source.as_deref() == Some("caller_id_wrapper")
                        && language == Some(c"c")
                        && config.is_none()
                }
            }
    }
}

fn may_call(function: pg_sys::Oid) -> bool {
    // SAFETY: a look-up by an Oid.
    unsafe {
        #[cfg(feature = "pg15")]
        let found =
            pg_sys::pg_proc_aclcheck(function, pg_sys::GetUserId(), pg_sys::ACL_EXECUTE.into());
        #[cfg(not(feature = "pg15"))]
        let found = pg_sys::object_aclcheck(
            pg_sys::ProcedureRelationId,
            function,
            pg_sys::GetUserId(),
            pg_sys::ACL_EXECUTE.into(),
        );
        found == pg_sys::AclResult::ACLCHECK_OK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_found_in_the_source() {
        for name in [USER, READABLE, WRITABLE] {
            let body = body(name).unwrap();
            assert!(body.starts_with('\n') && body.ends_with("END\n"), "{name}");
        }
        assert!(!body(WRITABLE).unwrap().contains("FUNCTION"));
    }
}
