//! Who is calling.
//!
//! An identity provider names a *subject*. A subject that is a UUID is the user id, so that
//! Supabase's `auth.uid()` and engram agree; any other (Auth0, Clerk, a role name) maps to a
//! UUIDv5, always the same for the same subject.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use serde_json::Value;
use uuid::Uuid;

use crate::error::Result;
use crate::settings::{self, IdentitySource};
use crate::spi;

/// Namespace of the UUIDv5 of subjects that are no UUID. Never change it: ids are stored.
const SUBJECT_NAMESPACE: Uuid = Uuid::from_u128(0x6b2d_0c3e_5f7a_4c1b_9d24_e1a6_3f50_87cd);

/// The caller as far as the session tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The user id; `None` when nobody is identified.
    pub id: Option<Uuid>,
    /// `jwt`, `setting` or `role`; `None` when no source speaks.
    pub source: Option<&'static str>,
    /// The subject before mapping.
    pub subject: Option<String>,
    /// Why there is no id.
    pub problem: Option<String>,
}

impl Caller {
    fn of(source: &'static str, subject: String) -> Self {
        let mut caller = Self {
            source: Some(source),
            ..Self::default()
        };
        match user_id(&subject) {
            Some(id) => caller.id = Some(id),
            None => caller.problem = Some(format!("the subject of {source} is the nil UUID")),
        }
        caller.subject = Some(subject);
        caller
    }

    fn nobody(source: Option<&'static str>, problem: &str) -> Self {
        Self {
            source,
            problem: Some(problem.to_owned()),
            ..Self::default()
        }
    }
}

/// Maps a subject to a user id. The nil UUID is nobody: it is the key of the default settings.
pub fn user_id(subject: &str) -> Option<Uuid> {
    // Only the hyphenated form is a UUID to us; the parser would also take braces and URNs.
    let id = match Uuid::try_parse(subject) {
        Ok(id) if subject.len() == 36 => id,
        _ => Uuid::new_v5(&SUBJECT_NAMESPACE, subject.as_bytes()),
    };
    (!id.is_nil()).then_some(id)
}

/// Whether the caller may write the workspace, as an error if not.
pub fn require_writer(workspace: Uuid) -> Result<()> {
    spi::row(
        "SELECT CASE WHEN NOT engram_internal.may_write($1) THEN engram_internal.refuse_workspace($1) END",
        &[DatumWithOid::from(spi::pg_uuid(workspace))],
        |_| Ok(()),
    )?;
    Ok(())
}

/// The caller of the running statement.
pub fn caller() -> Caller {
    match settings::identity_source() {
        IdentitySource::Jwt => {
            from_claims().unwrap_or_else(|| Caller::nobody(None, "request.jwt.claims is not set"))
        }
        IdentitySource::Setting => match settings::user_id() {
            Some(_) if !settings::user_id_is_trusted() => Caller::nobody(
                Some("setting"),
                "engram.user_id was set by a role that may not set it where it is trusted",
            ),
            _ => from_setting(),
        },
        IdentitySource::Role => Caller::of("role", login_role()),
        // Claims that are there decide alone: behind a pooler a left-over engram.user_id must
        // never give an anonymous request somebody's identity.
        IdentitySource::None => Caller::nobody(
            None,
            "engram.identity_source is none, or this connection tried to set it without the right to",
        ),
        IdentitySource::Default | IdentitySource::Auto => {
            from_claims().unwrap_or_else(from_setting)
        }
    }
}

fn from_setting() -> Caller {
    match settings::user_id() {
        Some(subject) => Caller::of("setting", subject),
        None => Caller::nobody(None, "neither request.jwt.claims nor engram.user_id is set"),
    }
}

/// `None` when no claims are set at all.
fn from_claims() -> Option<Caller> {
    claims_subject(
        settings::foreign(c"request.jwt.claim.sub"),
        settings::foreign(c"request.jwt.claims"),
    )
}

fn claims_subject(legacy: Option<String>, claims: Option<String>) -> Option<Caller> {
    if let Some(subject) = legacy {
        return Some(Caller::of("jwt", subject));
    }
    let claims = claims?;
    Some(match serde_json::from_str::<Value>(&claims) {
        Err(_) => Caller::nobody(Some("jwt"), "request.jwt.claims is not valid JSON"),
        Ok(claims) => match claims.get("sub") {
            // No text of PostgreSQL can hold one, so it could not be told of.
            Some(Value::String(subject)) if subject.contains('\0') => Caller::nobody(
                Some("jwt"),
                "sub in request.jwt.claims holds a NUL character",
            ),
            Some(Value::String(subject)) if !subject.is_empty() => {
                Caller::of("jwt", subject.clone())
            }
            None | Some(Value::Null) => {
                Caller::nobody(Some("jwt"), "request.jwt.claims has no sub")
            }
            Some(_) => Caller::nobody(
                Some("jwt"),
                "sub in request.jwt.claims is not a non-empty string",
            ),
        },
    })
}

fn login_role() -> String {
    // SAFETY: the session user always exists; the name is copied out of the syscache result.
    unsafe {
        let name = pg_sys::GetUserNameFromId(pg_sys::GetSessionUserId(), false);
        std::ffi::CStr::from_ptr(name)
            .to_string_lossy()
            .into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(json: &str) -> Caller {
        claims_subject(None, Some(json.to_owned())).unwrap()
    }

    #[test]
    fn a_uuid_subject_is_the_user_id() {
        let id = "3F2504E0-4F89-41D3-9A0C-0305E82C3301";
        let caller = claims(&format!(r#"{{"sub":"{id}","role":"authenticated"}}"#));
        assert_eq!(caller.id, Some(Uuid::parse_str(id).unwrap()));
        assert_eq!(caller.source, Some("jwt"));
    }

    #[test]
    fn other_subjects_map_to_a_stable_uuid() {
        // Written down once: a changed mapping would orphan everybody's memories.
        let expected = "ae71861d-e6ff-5bd8-96ac-cb1319b5afe8";
        let id = user_id("auth0|5f7c8ec7c33c6c004bbafe82").unwrap();
        assert_eq!(id.get_version_num(), 5);
        assert_eq!(id, user_id("auth0|5f7c8ec7c33c6c004bbafe82").unwrap());
        assert_ne!(id, user_id("auth0|5f7c8ec7c33c6c004bbafe83").unwrap());
        assert_eq!(id.to_string(), expected);
        // Other spellings of a UUID are subjects of their own.
        let plain = "3f2504e04f8941d39a0c0305e82c3301";
        assert_ne!(user_id(plain), Some(Uuid::parse_str(plain).unwrap()));
    }

    #[test]
    fn nobody_is_nobody() {
        assert_eq!(user_id("00000000-0000-0000-0000-000000000000"), None);
        for json in [
            "",
            "{",
            "[]",
            "null",
            "{}",
            r#"{"sub":null}"#,
            r#"{"sub":""}"#,
            r#"{"sub":7}"#,
            r#"{"sub":"a\u0000b"}"#,
        ] {
            let caller = claims(json);
            assert_eq!(caller.id, None, "{json}");
            assert!(caller.problem.is_some(), "{json}");
        }
        assert_eq!(claims_subject(None, None), None);
    }

    #[test]
    fn the_legacy_setting_comes_first_as_in_auth_uid() {
        let caller = claims_subject(Some("alice".into()), Some(r#"{"sub":"bob"}"#.into())).unwrap();
        assert_eq!(caller.id, user_id("alice"));
    }
}
