//! How far this backend has looked for memories that have no vector.
//!
//! Nearly all that waits is noted where it is stored; what nobody noted is found by looking at all memories, which is
//! not to be done anew at every call. What was looked at is remembered here: in a setting every client of the connection
//! could change it, and in a table those who embed side by side would wait for each other. It saves work and decides
//! nothing else: whoever comes to another backend looks at all of it once more.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;
use pgrx::{PgSubXactCallbackEvent, PgXactCallbackEvent, Uuid, pg_sys};

use crate::api::Report;
use crate::error::Error;
use crate::{locks, uses};

/// More models are not remembered: they were dropped, most of them.
const MOST: usize = 100;

/// What is known of a model.
#[derive(Clone, Copy)]
struct Sweep {
    /// When the model was made: another may come to have its name.
    made: TimestampWithTimeZone,
    /// All was looked at, and need not be again before then.
    until: Option<TimestampWithTimeZone>,
    /// The last memory that was looked at, and its workspace.
    last: Option<(Uuid, Uuid)>,
}

thread_local! {
    static KNOWN: RefCell<HashMap<String, Sweep>> = RefCell::default();
    /// The transaction at whose abort that is forgotten.
    static WATCHED: Cell<pg_sys::LocalTransactionId> = const { Cell::new(0) };
}

/// What is rolled back was not handed out.
fn forget_at_abort() {
    if WATCHED.replace(locks::current()) == locks::current() {
        return;
    }
    let forget = || KNOWN.with_borrow_mut(HashMap::clear);
    pgrx::register_xact_callback(PgXactCallbackEvent::Abort, forget);
    pgrx::register_subxact_callback(PgSubXactCallbackEvent::AbortSub, move |_, _| forget());
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn sweep(
    model: &str,
    made: TimestampWithTimeZone,
) -> Report<
    TableIterator<
        'static,
        (
            name!(until, Option<TimestampWithTimeZone>),
            name!(workspace_id, Option<Uuid>),
            name!(id, Option<Uuid>),
        ),
    >,
> {
    let known = KNOWN.with_borrow(|known| known.get(model).copied());
    // Its ids are those of all workspaces.
    let known = match known.filter(|known| known.made == made) {
        Some(known) if uses::trusted()? => Some(known),
        _ => None,
    };
    Ok(TableIterator::new(known.into_iter().map(|known| {
        let (workspace, id) = known.last.unzip();
        (known.until, workspace, id)
    })))
}

#[pg_extern(sql = false)]
fn note_sweep(
    model: Option<&str>,
    made: Option<TimestampWithTimeZone>,
    until: Option<TimestampWithTimeZone>,
    workspace_id: Option<Uuid>,
    id: Option<Uuid>,
) -> Report<()> {
    if !uses::trusted()? {
        return Err(Error::Forbidden {
            message: "only who serves all workspaces has looked at all of them".to_owned(),
            hint: "Call engram.pending_embeddings().".to_owned(),
        }
        .into());
    }
    if let (Some(model), Some(made)) = (model, made) {
        forget_at_abort();
        let last = workspace_id.zip(id);
        KNOWN.with_borrow_mut(|known| {
            if known.len() >= MOST {
                known.clear();
            }
            known.insert(model.to_owned(), Sweep { made, until, last });
        });
    }
    Ok(())
}
