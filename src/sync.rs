//! Delta synchronisation: where a device stands, and whether this server can lead it on from there.
//!
//! A cursor names a set of transactions, as a snapshot does: those whose changes the device has. What it
//! lacks are the events of transactions outside that set and inside the one that is current, in whatever
//! order they commit: nobody is waited for and nothing is passed over. Nothing in a cursor is trusted; it
//! says which events to leave out, never whose.

use std::fmt;

use pgrx::pg_sys;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::scan::{Key, Table};

/// A number for this table of events in this database of this cluster; 0 when there is no table. Rows that
/// a dump brought into another place carry another number: their transaction ids mean nothing there.
pub fn origin() -> i64 {
    // SAFETY: look-ups in the backend's caches by constant names, and two plain values of this backend.
    let (cluster, database, table) = unsafe {
        let schema = pg_sys::get_namespace_oid(c"engram".as_ptr(), true);
        let table = pg_sys::get_relname_relid(c"memory_events".as_ptr(), schema);
        (pg_sys::GetSystemIdentifier(), pg_sys::MyDatabaseId, table)
    };
    if table == pg_sys::InvalidOid {
        return 0;
    }
    let places = (u64::from(database.to_u32()) << 32) | u64::from(table.to_u32());
    i64::from_ne_bytes(mixed(cluster ^ mixed(places)).to_ne_bytes())
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit of the input reaches every bit of the result.
const fn mixed(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

// --- snapshots ----------------------------------------------------------------------------------

/// Which transactions are seen: all below `xmin`, none from `xmax` on, and between them all but `running`,
/// which is sorted. Printed and read as PostgreSQL's `pg_snapshot`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    xmin: u64,
    xmax: u64,
    running: Vec<u64>,
}

/// More running transactions than this are not listed: then nothing above the oldest of them counts as seen.
const MOST_RUNNING: usize = 2000;

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (i, xid) in self.running.iter().enumerate() {
            write!(f, "{}{xid}", if i > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

/// Digits only, and no more than fit.
fn number(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

impl Snapshot {
    fn new(xmin: u64, xmax: u64, mut running: Vec<u64>) -> Self {
        running.retain(|xid| *xid < xmax);
        running.sort_unstable();
        running.dedup();
        let xmin = running.first().map_or(xmin, |first| xmin.min(*first));
        if running.len() > MOST_RUNNING {
            return Self {
                xmin,
                xmax: xmin,
                running: Vec::new(),
            };
        }
        Self {
            xmin,
            xmax,
            running,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (xmin, xmax) = (number(parts.next()?)?, number(parts.next()?)?);
        let list = parts.next()?;
        // PostgreSQL knows no transaction whose lower half is 0.
        let real = |xid: u64| xid as u32 != 0;
        if parts.next().is_some() || !real(xmin) || !real(xmax) || xmin > xmax {
            return None;
        }
        let running: Vec<u64> = match list {
            "" => Vec::new(),
            list => list.split(',').map(number).collect::<Option<_>>()?,
        };
        let inside = running.iter().all(|xid| (xmin..xmax).contains(xid));
        let sorted = running.windows(2).all(|pair| pair[0] < pair[1]);
        (inside && sorted && running.len() <= MOST_RUNNING).then_some(Self {
            xmin,
            xmax,
            running,
        })
    }

    /// Whether all that `other` sees is seen.
    fn includes(&self, other: &Self) -> bool {
        self.xmax >= other.xmax
            && self
                .running
                .iter()
                .all(|xid| *xid >= other.xmax || other.running.binary_search(xid).is_ok())
    }

    /// Whether a transaction up to `last` that is not seen here has ended since. One that still runs has
    /// written nothing that could be dropped meanwhile: dropping waits for whoever has.
    fn misses(&self, last: u64, current: &Self) -> bool {
        let ended = |xid: &u64| *xid < current.xmax && current.running.binary_search(xid).is_err();
        self.xmax <= last || self.running.iter().any(|xid| *xid <= last && ended(xid))
    }

    /// That of the running statement, without what this transaction itself has done.
    fn current() -> Self {
        // SAFETY: a statement that runs has an active snapshot, whose arrays have these lengths; the rest
        // are plain values of the server.
        unsafe {
            let snapshot = &*pg_sys::GetActiveSnapshot();
            let next = pg_sys::ReadNextFullTransactionId().value;
            // Ids in a snapshot are the lower halves of numbers that lie before the next one.
            let whole = |xid: pg_sys::TransactionId| {
                next - u64::from((next as u32).wrapping_sub(xid.into_inner()))
            };
            // On a standby all that run, parts of transactions included, are listed as such parts.
            let (list, count) = if snapshot.takenDuringRecovery {
                (snapshot.subxip, snapshot.subxcnt.max(0) as usize)
            } else {
                (snapshot.xip, snapshot.xcnt as usize)
            };
            let mut running: Vec<u64> = match count {
                0 => Vec::new(),
                _ => std::slice::from_raw_parts(list, count)
                    .iter()
                    .map(|xid| whole(*xid))
                    .collect(),
            };
            let own = pg_sys::GetTopFullTransactionIdIfAny().value;
            if own != 0 {
                running.push(own);
            }
            Self::new(whole(snapshot.xmin), whole(snapshot.xmax), running)
        }
    }
}

// --- cursors ------------------------------------------------------------------------------------

/// Where a device stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cursor {
    origin: i64,
    /// Timeline of the server that gave it, and a position in its log after everything that `seen` and
    /// `upto` see.
    timeline: u32,
    lsn: u64,
    /// What the device has; nothing in its first round.
    seen: Option<Snapshot>,
    /// What it has at the end of the round that it is in.
    upto: Option<Snapshot>,
    /// The last that was sent in that round: (transaction, event), in the first round a memory.
    last: (Option<u64>, Option<Uuid>),
}

/// First character of a cursor: its format.
const FORMAT: &str = "1";

fn optional(value: Option<&impl ToString>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

impl Cursor {
    /// All but the last two parts.
    fn head(&self) -> String {
        format!(
            "{FORMAT}.{:016x}.{}.{}.{}.{}.",
            self.origin,
            self.timeline,
            self.lsn,
            optional(self.seen.as_ref()),
            optional(self.upto.as_ref())
        )
    }

    fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('.').collect();
        let [FORMAT, origin, timeline, lsn, seen, upto, xid, id] = parts[..] else {
            return None;
        };
        // `None` for what is not there, nothing at all for what cannot be read.
        fn maybe<T>(text: &str, read: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
            match text {
                "" => Some(None),
                text => read(text).map(Some),
            }
        }
        let hex = origin.len() == 16 && origin.bytes().all(|b| b.is_ascii_hexdigit());
        let cursor = Self {
            origin: if hex {
                i64::from_ne_bytes(u64::from_str_radix(origin, 16).ok()?.to_ne_bytes())
            } else {
                return None;
            },
            timeline: number(timeline)?.try_into().ok()?,
            lsn: number(lsn)?,
            seen: maybe(seen, Snapshot::parse)?,
            upto: maybe(upto, Snapshot::parse)?,
            last: (
                maybe(xid, number)?,
                maybe(id, |id| {
                    (id.len() == 36).then(|| Uuid::try_parse(id).ok()).flatten()
                })?,
            ),
        };
        let sensible = matches!(
            (&cursor.seen, &cursor.upto, &cursor.last),
            (Some(_), None, (None, None))
                | (Some(_), Some(_), (Some(_), Some(_)))
                | (None, Some(_), (None, Some(_)))
        );
        sensible.then_some(cursor)
    }
}

// --- the server ---------------------------------------------------------------------------------

/// An entry of a server's history of timelines, as `access/timeline.h` has it.
#[repr(C)]
struct TimelineEntry {
    timeline: pg_sys::TimeLineID,
    begin: pg_sys::XLogRecPtr,
    /// Where the next one branched off.
    end: pg_sys::XLogRecPtr,
}

unsafe extern "C-unwind" {
    fn readTimeLineHistory(target: pg_sys::TimeLineID) -> *mut pg_sys::List;
}

/// The end of what is written to the log.
struct Log {
    timeline: u32,
    lsn: u64,
    standby: bool,
}

impl Log {
    /// Of now; to be asked after the snapshot was taken.
    fn end() -> Self {
        // SAFETY: plain values of the server; the functions are for servers in and out of recovery.
        unsafe {
            if pg_sys::RecoveryInProgress() {
                let mut timeline = 0;
                let lsn = pg_sys::GetXLogReplayRecPtr(&raw mut timeline);
                return Self {
                    timeline,
                    lsn,
                    standby: true,
                };
            }
            // Where the next record begins may lie behind the header of a new page; the last one ended before.
            let page = u64::from(pg_sys::XLOG_BLCKSZ);
            let next = pg_sys::GetXLogInsertRecPtr();
            let header = if next % u64::from(pg_sys::wal_segment_size.unsigned_abs()) < page {
                size_of::<pg_sys::XLogLongPageHeaderData>()
            } else {
                size_of::<pg_sys::XLogPageHeaderData>()
            };
            let lsn = if next % page == header as u64 {
                next - header as u64
            } else {
                next
            };
            Self {
                timeline: pg_sys::GetWALInsertionTimeLine(),
                lsn,
                standby: false,
            }
        }
    }

    /// Whether a position of a timeline is part of what this server has, or will have once it has caught up.
    fn holds(&self, timeline: u32, lsn: u64) -> bool {
        if timeline == self.timeline {
            return self.standby || lsn <= self.lsn;
        }
        // SAFETY: the server's own function, whose errors become panics at the boundary; it gives a list of
        // entries in the current memory context, which outlives this call.
        unsafe {
            let history = pg_sys::ffi::pg_guard_ffi_boundary(|| readTimeLineHistory(self.timeline));
            let Some(list) = history.as_ref() else {
                return false;
            };
            (0..list.length.unsigned_abs() as usize).any(|i| {
                let entry = &*(*list.elements.add(i)).ptr_value.cast::<TimelineEntry>();
                entry.timeline == timeline && lsn <= entry.end
            })
        }
    }
}

/// Waits until everything that is visible now outlives a crash: with `synchronous_commit` off it may not, and
/// a device must not have seen what never was.
pub fn flush_log() {
    let end = Log::end();
    if !end.standby {
        // SAFETY: a position up to which the log has been inserted, on a server that writes it.
        unsafe { pg_sys::XLogFlush(end.lsn) };
    }
}

/// The highest transaction of events that were dropped from the history, 0 for none. One that is yet to come
/// was brought by a dump from a server where transactions counted otherwise, and means nothing here.
fn dropped() -> Result<u64> {
    let mut highest = 0;
    // One number about the whole store, which no policy shows to ordinary callers.
    Table::open(c"maintenance")?.rows(
        &[(c"workspace_id", Key::Uuid(Uuid::nil()))],
        [c"events_dropped_xid"],
        |[xid]| {
            highest = xid.map_or(0, |datum| datum.value() as u64);
            Ok(())
        },
    )?;
    // SAFETY: a plain value of the server.
    let next = unsafe { pg_sys::ReadNextFullTransactionId().value };
    Ok(if highest < next { highest } else { 0 })
}

/// Until when events were dropped from the history, in microseconds since the epoch of PostgreSQL; what was
/// before is not known.
pub fn history_begins() -> Result<Option<i64>> {
    let mut until = None;
    Table::open(c"maintenance")?.rows(
        &[(c"workspace_id", Key::Uuid(Uuid::nil()))],
        [c"events_dropped_until"],
        |[at]| {
            until = at.map(|datum| datum.value() as i64);
            Ok(())
        },
    )?;
    Ok(until)
}

/// A cursor is renewed after so many transactions, even if the disk has to be waited for.
const KEPT: u64 = 10_000;

/// What one call of `changes()` is to send.
#[derive(Debug, Default)]
pub struct Point {
    /// Why the cursor leads nowhere; then the rest means nothing.
    pub lost: Option<&'static str>,
    /// The server has all that the cursor speaks of.
    pub ready: bool,
    /// Nothing has been committed since the cursor was given.
    pub still: bool,
    /// If there is nothing to send, the cursor that was given is as good as the next one.
    pub keep: bool,
    /// The log has been written as far as the new cursor says.
    pub durable: bool,
    /// Events of these are left out; `None` in the first round.
    pub seen: Option<String>,
    /// Events of these are sent.
    pub upto: Option<String>,
    /// All events that are sent come after this.
    pub after_xid: Option<String>,
    pub after_id: Option<Uuid>,
    /// What a cursor within this round begins with, and the one after it.
    pub head: String,
    pub next: String,
}

/// What there is to say of a cursor where nothing can be sent: that it leads nowhere, or, by what is not ready, that the
/// server does not have all that it speaks of yet.
fn refusal(cursor: &Cursor, current: &Snapshot, log: &Log) -> Result<Option<Point>> {
    let lost = |why| {
        Ok(Some(Point {
            lost: Some(why),
            ..Point::default()
        }))
    };
    if cursor.origin != origin() {
        return lost(
            "it is of another database, or of this one before it was restored or upgraded",
        );
    }
    // A standby that is yet to follow the new primary has not even the number of its timeline.
    if log.standby && cursor.timeline > log.timeline {
        return Ok(Some(Point::default()));
    }
    if !log.holds(cursor.timeline, cursor.lsn) {
        return lost("it is ahead of this server, which has lost what came last");
    }
    let base = cursor.seen.as_ref().or(cursor.upto.as_ref());
    let dropped = dropped()?;
    if base.is_some_and(|base| base.misses(dropped, current)) {
        return lost("it is older than the changes that are kept");
    }
    let known = [&cursor.seen, &cursor.upto];
    if !known.into_iter().flatten().all(|s| current.includes(s)) {
        // SAFETY: a plain value of the transaction.
        let old = unsafe { pg_sys::XactIsoLevel } >= pg_sys::XACT_REPEATABLE_READ as i32;
        if log.standby || old {
            return Ok(Some(Point::default()));
        }
        return lost("it is ahead of this server");
    }
    Ok(None)
}

/// Reads a cursor and finds out what is to be sent.
pub fn point(since: Option<&str>) -> Result<Point> {
    let current = Snapshot::current();
    let log = Log::end();
    let given = match since {
        None => None,
        Some(text) => Some(Cursor::parse(text).ok_or_else(|| {
            let shown: String = text.chars().take(60).collect();
            Error::invalid(
                format!("since is {shown:?}, which is not a cursor that engram.changes() returned"),
                "Pass cursor_next of the last row that you have, unchanged; leave since out to begin anew.",
            )
        })?),
    };
    if let Some(cursor) = &given
        && let Some(refusal) = refusal(cursor, &current, &log)?
    {
        return Ok(refusal);
    }
    let fresh = given.as_ref().is_none_or(|cursor| cursor.upto.is_none());
    // SAFETY: asks for a position only.
    let durable = log.standby || unsafe { pg_sys::GetFlushRecPtr(std::ptr::null_mut()) } >= log.lsn;
    let before = given.as_ref().and_then(|cursor| cursor.seen.as_ref());
    let still = fresh && before == Some(&current);
    let overdue = !fresh || before.is_none_or(|seen| current.xmax > seen.xmax + KEPT);
    let round = match given {
        Some(cursor) if !fresh => cursor,
        given => Cursor {
            origin: origin(),
            timeline: log.timeline,
            lsn: log.lsn,
            seen: given.and_then(|cursor| cursor.seen),
            upto: Some(current),
            last: (None, None),
        },
    };
    let next = Cursor {
        seen: round.upto.clone(),
        upto: None,
        ..round.clone()
    };
    let first = round.seen.as_ref().map(|seen| seen.xmin);
    Ok(Point {
        lost: None,
        ready: true,
        still,
        keep: still || !overdue && !durable,
        durable: durable || !fresh,
        seen: round.seen.as_ref().map(ToString::to_string),
        upto: round.upto.as_ref().map(ToString::to_string),
        after_xid: round.last.0.or(first).map(|xid| xid.to_string()),
        after_id: round.last.1,
        head: round.head(),
        next: format!("{}.", next.head()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn snapshot() -> impl Strategy<Value = Snapshot> {
        (
            1u64..60,
            0u64..20,
            proptest::collection::vec(0u64..80, 0..6),
        )
            .prop_map(|(xmin, more, running)| {
                let running = running.into_iter().filter(|x| *x >= xmin).collect();
                Snapshot::new(xmin, xmin + more, running)
            })
    }

    fn sees(s: &Snapshot, xid: u64) -> bool {
        xid < s.xmin || xid < s.xmax && !s.running.contains(&xid)
    }

    proptest! {
        #[test]
        fn a_snapshot_is_read_as_it_was_printed(s in snapshot()) {
            prop_assert_eq!(Snapshot::parse(&s.to_string()), Some(s));
        }

        #[test]
        fn to_include_is_to_see_all_of_it(a in snapshot(), b in snapshot()) {
            let all = (0..100).all(|xid| !sees(&b, xid) || sees(&a, xid));
            // A snapshot may end with what runs, so that it says less than it could: never the other way.
            prop_assert!(!a.includes(&b) || all);
            prop_assert!(a.includes(&a));
        }

        #[test]
        fn a_cursor_is_read_as_it_was_printed(
            origin: i64, timeline: u32, lsn: u64, seen in snapshot(), upto in snapshot(), xid: u64, id: [u8; 16], kind in 0..3,
        ) {
            let id = Uuid::from_bytes(id);
            let (seen, upto, last) = match kind {
                0 => (Some(seen), None, (None, None)),
                1 => (Some(seen), Some(upto), (Some(xid), Some(id))),
                _ => (None, Some(upto), (None, Some(id))),
            };
            let cursor = Cursor { origin, timeline, lsn, seen, upto, last };
            let text = format!("{}{}.{}", cursor.head(), optional(cursor.last.0.as_ref()), optional(cursor.last.1.as_ref()));
            prop_assert_eq!(Cursor::parse(&text), Some(cursor));
            // Cut off anywhere it is another or none, and no panic.
            for end in 0..text.len() {
                let _ = Cursor::parse(&text[..end]);
            }
        }

        #[test]
        fn garbage_is_no_cursor(text in "\\PC{0,80}|1(\\.[0-9a-f:,]{0,20}){7}") {
            if let Some(cursor) = Cursor::parse(&text) {
                prop_assert!(cursor.seen.is_some() || cursor.upto.is_some());
            }
        }
    }

    #[test]
    fn many_that_run_end_the_snapshot_at_the_oldest() {
        let s = Snapshot::new(7, 9000, (7..9000).step_by(2).collect());
        assert_eq!(s.to_string(), "7:7:");
    }
}
