//! Errors as a caller sees them: SQLSTATE, message with the value at fault, hint.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::spi::SpiError;
use pgrx::{PgSqlErrorCode, function_name};
use thiserror::Error;

use crate::filter;

/// What can go wrong in the Rust half of engram. Errors that PostgreSQL raises (in queries run
/// through SPI) pass by unchanged and never become one of these.
#[derive(Debug, Error)]
pub enum Error {
    /// A value that the caller passed. SQLSTATE 22023.
    #[error("{message}")]
    Invalid {
        /// What is wrong, with the value.
        message: String,
        /// What to do instead.
        hint: String,
    },
    /// Vectors of different lengths. SQLSTATE 22000, as pgvector raises it.
    #[error("{message}")]
    Dimensions {
        /// Both numbers.
        message: String,
        /// What to do instead.
        hint: String,
    },
    /// Something must be done first. SQLSTATE 55000.
    #[error("{message}")]
    NotReady {
        /// What is missing.
        message: String,
        /// How to provide it.
        hint: String,
    },
    /// The caller may not do this. SQLSTATE 42501.
    #[error("{message}")]
    Forbidden {
        /// What was refused.
        message: String,
        /// Who may.
        hint: String,
    },
    /// Something that commits was called inside a transaction block. SQLSTATE 25001.
    #[error("{message}")]
    InTransaction {
        /// What was called.
        message: String,
        /// How to call it.
        hint: String,
    },
    /// A transaction that cannot write. SQLSTATE 25006.
    #[error("{message}")]
    ReadOnly {
        /// What was called.
        message: String,
        /// How to call it.
        hint: String,
    },
    /// A query of ours failed in the binding layer. SQLSTATE XX000.
    #[error("internal query failed: {0}")]
    Spi(#[from] SpiError),
}

/// Result of the domain modules.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An [`Error::Invalid`].
    pub fn invalid(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Invalid {
            message: message.into(),
            hint: hint.into(),
        }
    }
}

impl Error {
    /// For bytes in search_blocks that are no block of this version.
    pub fn unreadable_block() -> Self {
        Self::NotReady {
            message: "engram.search_blocks holds a block that this version cannot read".to_owned(),
            hint: "Have the owner of the tables run: SELECT engram.reindex();".to_owned(),
        }
    }

    /// For a function that writes, called in a transaction that cannot.
    pub fn read_only(name: &str) -> Self {
        Self::ReadOnly {
            message: format!("cannot execute {name} in a read-only transaction"),
            hint: "It writes. Through PostgREST call it with POST, not GET; on a standby, call it on the primary.".to_owned(),
        }
    }

    /// For settings without those that hold where a workspace has none of its own.
    pub fn no_defaults() -> Self {
        Self::NotReady {
            message: "engram.settings has no row of defaults".to_owned(),
            hint: "Put it back with: SELECT engram.setup();".to_owned(),
        }
    }
}

impl From<Error> for ErrorReport {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        let (code, hint) = match error {
            Error::Invalid { hint, .. } => {
                (PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, Some(hint))
            }
            Error::Dimensions { hint, .. } => (PgSqlErrorCode::ERRCODE_DATA_EXCEPTION, Some(hint)),
            Error::NotReady { hint, .. } => (
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                Some(hint),
            ),
            Error::Forbidden { hint, .. } => {
                (PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, Some(hint))
            }
            Error::InTransaction { hint, .. } => {
                (PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION, Some(hint))
            }
            Error::ReadOnly { hint, .. } => (
                PgSqlErrorCode::ERRCODE_READ_ONLY_SQL_TRANSACTION,
                Some(hint),
            ),
            Error::Spi(_) => (PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, None),
        };
        let report = ErrorReport::new(code, message, function_name!());
        match hint {
            Some(hint) => report.set_hint(hint),
            None => report,
        }
    }
}

impl From<filter::FilterError> for Error {
    fn from(error: filter::FilterError) -> Self {
        Error::invalid(error.message, error.hint)
    }
}
