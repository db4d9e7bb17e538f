//! Adding a row to a table without a plan, an executor or a trigger.
//!
//! Where a row is all that a call writes, getting a statement ready costs more than the row. This takes
//! the short way that PostgreSQL takes for its own catalogs, and only where nothing could be missed
//! by it: no generated column, no index but the key, no trigger but the one that the caller knows.
//! Defaults and checks are not looked at: the caller gives every value, and none that a check refuses.

use std::ffi::CStr;

use pgrx::{IntoDatum, PgTupleDesc, pg_sys};
use uuid::Uuid;

use crate::scan::Table;

/// One value of a new row.
pub enum Value<'a> {
    Null,
    Uuid(Uuid),
    Uuids(&'a [Uuid]),
    Text(&'a str),
    Float8(f64),
    Int2(i16),
    /// Microseconds since the epoch of PostgreSQL.
    Time(i64),
}

/// What a table must look like.
pub struct Shape<const N: usize> {
    pub columns: [(&'static CStr, pg_sys::Oid); N],
    /// How many CHECK constraints the caller vouches for.
    pub checks: u16,
    /// The only trigger that there may be.
    pub trigger: &'static CStr,
}

impl Value<'_> {
    fn datum(&self) -> Option<pg_sys::Datum> {
        match self {
            Self::Null => None,
            Self::Uuid(id) => crate::spi::pg_uuid(*id).into_datum(),
            Self::Uuids(ids) => Some(uuid_array(ids)),
            Self::Text(text) => text.into_datum(),
            Self::Float8(number) => number.into_datum(),
            Self::Int2(number) => number.into_datum(),
            Self::Time(micros) => micros.into_datum(),
        }
    }
}

fn uuid_array(ids: &[Uuid]) -> pg_sys::Datum {
    let mut ids: Vec<pg_sys::Datum> = ids
        .iter()
        .map(|id| pg_sys::Datum::from(id.as_bytes().as_ptr()))
        .collect();
    // SAFETY: so many pointers to 16 bytes each, which live until the array is made of copies.
    unsafe {
        pg_sys::construct_array(
            ids.as_mut_ptr(),
            i32::try_from(ids.len()).unwrap_or(i32::MAX),
            pg_sys::UUIDOID,
            size_of::<Uuid>() as i32,
            false,
            pg_sys::TYPALIGN_CHAR as core::ffi::c_char,
        )
        .into()
    }
}

/// Whether a row may be added to the table this way.
pub fn may<const N: usize>(table: &Table, shape: &Shape<N>) -> bool {
    let relation = table.relation();
    // SAFETY: the relation is open; its cache entry stays as it is while no catalog is read or locked.
    unsafe {
        let class = &*(*relation).rd_rel;
        let attributes = PgTupleDesc::from_pg_unchecked((*relation).rd_att);
        if class.relam != pg_sys::HEAP_TABLE_AM_OID
            || class.relhasrules
            || class.relispartition
            || attributes.len() != N
        {
            return false;
        }
        for (attribute, (name, of)) in attributes.iter().zip(&shape.columns) {
            if attribute.atttypid != *of
                || attribute.attisdropped
                || attribute.attgenerated != 0
                || CStr::from_ptr(attribute.attname.data.as_ptr()) != *name
            {
                return false;
            }
        }
        let constraints = (*(*relation).rd_att).constr;
        if !constraints.is_null() && (*constraints).num_check > shape.checks {
            return false;
        }
        let triggers = (*relation).trigdesc;
        if !triggers.is_null()
            && ((*triggers).numtriggers != 1
                || CStr::from_ptr((*(*triggers).triggers).tgname) != shape.trigger)
        {
            return false;
        }
        let indexes = pg_sys::RelationGetIndexList(relation);
        let alone = !indexes.is_null() && (*indexes).length == 1;
        pg_sys::list_free(indexes);
        alone
    }
}

/// Adds a row; later statements of the transaction see it. [`may`] has said yes, the table is locked for writing,
/// and the values are of the columns' types.
pub fn row<const N: usize>(table: &Table, values: &[Value<'_>; N]) {
    let mut datums = [pg_sys::Datum::null(); N];
    let mut nulls = [true; N];
    for (nth, value) in values.iter().enumerate() {
        if let Some(datum) = value.datum() {
            datums[nth] = datum;
            nulls[nth] = false;
        }
    }
    let relation = table.relation();
    // SAFETY: as many values as the table has columns, of their types; the tuple is copied into the page.
    unsafe {
        let tuple = pg_sys::heap_form_tuple((*relation).rd_att, datums.as_ptr(), nulls.as_ptr());
        pg_sys::CatalogTupleInsert(relation, tuple);
        pg_sys::heap_freetuple(tuple);
        pg_sys::CommandCounterIncrement();
    }
}
