//! Settings (`engram.*`). They decide who a caller is, so the ones that pin the answer can be
//! changed by privileged roles only.

use std::ffi::{CStr, CString, c_char, c_void};

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use pgrx::{pg_guard, pg_sys};

/// Where the caller's identity may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum IdentitySource {
    /// Nobody chose: as `auto`. Not for setting: given from outside it is taken for tampering.
    #[name = c"default"]
    #[hidden = true]
    Default,
    /// Claims when they are present, else the setting `engram.user_id`.
    #[name = c"auto"]
    Auto,
    /// Only `request.jwt.claims`.
    #[name = c"jwt"]
    Jwt,
    /// Only `engram.user_id`, which then takes a privilege to set.
    #[name = c"setting"]
    Setting,
    /// The name of the login role.
    #[name = c"role"]
    Role,
    /// Nobody is anybody.
    #[name = c"none"]
    None,
}

static IDENTITY_SOURCE: GucSetting<IdentitySource> =
    GucSetting::<IdentitySource>::new(IdentitySource::Default);
static USER_ID: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static AUTO_SETUP: GucSetting<bool> = GucSetting::<bool>::new(true);
static WORKER_DATABASES: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static WORKER_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(600);

/// True while `_PG_init` runs: values that were set before the library was loaded are being
/// checked, and whose code caused the load says nothing about who set them.
static LOADING: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// The pinned (or not) source of identity.
pub fn identity_source() -> IdentitySource {
    IDENTITY_SOURCE.get()
}

/// `engram.user_id`, if set and not empty.
pub fn user_id() -> Option<String> {
    USER_ID
        .get()
        .map(|v| v.to_string_lossy().into_owned())
        .filter(|v| !v.is_empty())
}

/// Whether `engram.user_id` was set by the owner's own hand (configuration files, the command line, `ALTER DATABASE`) or by
/// a role that may set what is trusted. Asked when it is read: it may have been set before
/// `engram.identity_source = setting` came to hold.
pub fn user_id_is_trusted() -> bool {
    // SAFETY: names are NUL-terminated constants; the entry of a setting lives as long as the process; a value is only
    // read within a transaction, which the look-ups need.
    unsafe {
        let entry = entry(c"engram.user_id");
        if entry.is_null() {
            return false;
        }
        let role = match (*entry).source {
            source if source <= pg_sys::GucSource::PGC_S_DATABASE => return true,
            // Everybody can keep a value for the own role.
            pg_sys::GucSource::PGC_S_USER | pg_sys::GucSource::PGC_S_DATABASE_USER => {
                pg_sys::GetSessionUserId()
            }
            _ => (*entry).srole,
        };
        may_set_user_id(role)
    }
}

/// PostgreSQL's entry of a setting, or NULL.
///
/// # Safety
/// After the settings were defined.
unsafe fn entry(name: &CStr) -> *mut pg_sys::config_generic {
    // SAFETY: a NUL-terminated name; nothing is created, and nothing raised for what is missing.
    #[cfg(not(feature = "pg15"))]
    unsafe {
        pg_sys::find_option(name.as_ptr(), false, true, pgrx::PgLogLevel::ERROR as i32)
    }
    // SAFETY: an array of as many pointers to entries.
    #[cfg(feature = "pg15")]
    unsafe {
        let count = usize::try_from(pg_sys::GetNumConfigOptions()).unwrap_or(0);
        let entries = std::slice::from_raw_parts(pg_sys::get_guc_variables(), count);
        let found = entries.iter().find(|e| CStr::from_ptr((***e).name) == name);
        found.copied().unwrap_or(std::ptr::null_mut())
    }
}

/// Whether a role may set `engram.user_id` where it is trusted.
///
/// # Safety
/// In a transaction.
unsafe fn may_set_user_id(role: pg_sys::Oid) -> bool {
    // SAFETY: the caller's promise, and a NUL-terminated name.
    unsafe {
        pg_sys::pg_parameter_aclcheck(
            c"engram.user_id".as_ptr(),
            role,
            pg_sys::ACL_SET as pg_sys::AclMode,
        ) == pg_sys::AclResult::ACLCHECK_OK
    }
}

/// Whether `CREATE EXTENSION` creates the tables.
pub fn auto_setup() -> bool {
    AUTO_SETUP.get()
}

/// The databases that a background worker maintains.
pub fn worker_databases() -> Vec<String> {
    let list = WORKER_DATABASES.get();
    let list = list.map(|v| v.to_string_lossy().into_owned());
    let mut names: Vec<String> = Vec::new();
    for name in list.unwrap_or_default().split(',').map(str::trim) {
        if !name.is_empty() && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// Seconds between two runs of a worker.
pub fn worker_interval() -> u64 {
    u64::try_from(WORKER_INTERVAL.get()).unwrap_or(600)
}

/// A setting of somebody else (`request.jwt.claims`), if set and not empty. Settings return to
/// the empty string, not to NULL, after the transaction that set them.
pub fn foreign(name: &CStr) -> Option<String> {
    // SAFETY: `name` is NUL-terminated; a missing setting gives NULL because missing_ok is true;
    // the value is copied before anything else can change it.
    unsafe {
        let value = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        if value.is_null() {
            return None;
        }
        let value = CStr::from_ptr(value).to_string_lossy().into_owned();
        (!value.is_empty()).then_some(value)
    }
}

/// Defines all settings and reserves the prefix, so that a typo in a name is an error.
pub fn register() {
    LOADING.store(true, std::sync::atomic::Ordering::Relaxed);
    // Whether it was given at all: an empty value may lie over one that was given before.
    // SAFETY: a NUL-terminated name; a missing setting gives NULL because missing_ok is true.
    let set_before = unsafe {
        !pg_sys::GetConfigOption(c"engram.identity_source".as_ptr(), true, false).is_null()
    };
    // First, because the check of engram.user_id depends on it.
    GucRegistry::define_enum_guc(
        c"engram.identity_source",
        c"Where engram takes the caller's identity from.",
        c"default and auto: request.jwt.claims when present, else engram.user_id; jwt, setting, role: only that; none: nobody. Superusers set it, usually with ALTER DATABASE.",
        &IDENTITY_SOURCE,
        GucContext::Suset,
        GucFlags::default(),
    );
    if set_before && IDENTITY_SOURCE.get() == IdentitySource::Default {
        // An option of the connection took the place of what the database or the configuration
        // pinned, before anybody could tell that the role may not do that, and was refused only
        // now. What was pinned is not known any more, so this session is nobody.
        // SAFETY: names and values are NUL-terminated constants; PGC_S_OVERRIDE makes it the value
        // that RESET returns to, in parallel workers too.
        unsafe {
            pg_sys::SetConfigOption(
                c"engram.identity_source".as_ptr(),
                c"none".as_ptr(),
                pg_sys::GucContext::PGC_SUSET,
                pg_sys::GucSource::PGC_S_OVERRIDE,
            );
        }
    }
    // SAFETY: the hook has the signature that PostgreSQL calls, never unwinds past its guard, and
    // allocates nothing that PostgreSQL would free.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            c"engram.user_id",
            c"The caller's user id where no token carries it.",
            c"Set it with SET LOCAL inside the transaction. Under engram.identity_source = setting it takes a superuser or GRANT SET ON PARAMETER.",
            &USER_ID,
            GucContext::Userset,
            GucFlags::default(),
            Some(check_user_id),
            None,
            None,
        );
    }
    GucRegistry::define_bool_guc(
        c"engram.auto_setup",
        c"Whether CREATE EXTENSION engram creates the tables.",
        c"Turn it off before CREATE EXTENSION in a database into which a dump will be loaded.",
        &AUTO_SETUP,
        GucContext::Userset,
        GucFlags::default(),
    );
    // Read when the server starts; a backend that loads the library later only shows what it is.
    // SAFETY: a plain flag of the process.
    let preloading = unsafe { pg_sys::process_shared_preload_libraries_in_progress };
    GucRegistry::define_string_guc(
        c"engram.worker_databases",
        c"Databases that a background worker maintains, separated by commas.",
        c"Takes the library in shared_preload_libraries and a restart.",
        &WORKER_DATABASES,
        if preloading {
            GucContext::Postmaster
        } else {
            GucContext::Sighup
        },
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"engram.worker_interval",
        c"Seconds between two runs of maintain() by a background worker.",
        c"See engram.worker_databases.",
        &WORKER_INTERVAL,
        1,
        86_400,
        GucContext::Sighup,
        GucFlags::default(),
    );
    // SAFETY: a NUL-terminated constant, called after all settings of the prefix are defined.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"engram".as_ptr()) };
    LOADING.store(false, std::sync::atomic::Ordering::Relaxed);
}

/// Under `identity_source = setting` the value is trusted, so it takes a privilege to set it, and who lacks it
/// is told so here: the privilege of the role in whose name the statement runs, or, for values older than the
/// library, of the role that the session acts as outside any function. What was set before it came to hold,
/// [`user_id_is_trusted`] leaves unheard.
#[pg_guard]
extern "C-unwind" fn check_user_id(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    source: pg_sys::GucSource::Type,
) -> bool {
    // Configuration files, the command line and ALTER DATABASE are the owner's own hand.
    if IDENTITY_SOURCE.get() != IdentitySource::Setting
        || source <= pg_sys::GucSource::PGC_S_DATABASE
    {
        return true;
    }
    // SAFETY: PostgreSQL passes a valid pointer to the proposed value, which may be NULL; the
    // functions called are plain look-ups and need the transaction that is checked for first.
    unsafe {
        if (*value).is_null() || **value == 0 || pg_sys::InitializingParallelWorker {
            return true;
        }
        if !pg_sys::IsTransactionState() {
            return false;
        }
        let role = if LOADING.load(std::sync::atomic::Ordering::Relaxed) {
            pg_sys::GetOuterUserId()
        } else {
            pg_sys::GetUserId()
        };
        let allowed = may_set_user_id(role);
        if !allowed {
            pg_sys::GUC_check_errcode(pgrx::PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE as i32);
            pg_sys::GUC_check_errmsg_string =
                pg_sys::pstrdup(c"permission denied to set parameter \"engram.user_id\"".as_ptr());
            pg_sys::GUC_check_errhint_string = pg_sys::pstrdup(
                c"This database trusts the setting (engram.identity_source = setting). Ask for: GRANT SET ON PARAMETER engram.user_id TO <role>.".as_ptr(),
            );
        }
        allowed
    }
}
