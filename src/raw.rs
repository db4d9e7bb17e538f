//! jsonb as PostgreSQL holds it: passed through to the digit, and read only where its content matters.

use std::ffi::CStr;

use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::nullable::Nullable;
use pgrx::{FromDatum, IntoDatum, pg_sys};
use serde_json::Value;

use crate::error::{Error, Result};

/// How deep metadata may be nested: what is around it, in an export and elsewhere, is to be read with it.
pub const DEEPEST: usize = 100;

/// How deep a whole text of JSON may be nested to be read.
pub const READABLE: usize = 127;

/// What is told where metadata is nested deeper.
pub fn too_deep() -> String {
    format!("metadata is nested deeper than {DEEPEST} levels")
}

/// A text of JSON as serde sees it. PostgreSQL allows deeper nesting than serde reads.
pub fn read(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|e| {
        Error::invalid(
            format!("the JSON cannot be read: {e}"),
            format!("It may be nested at most {READABLE} levels deep."),
        )
    })
}

/// Whether arrays and objects are nested deeper than metadata may be.
///
/// # Safety
/// A container that lives, of so many bytes.
pub unsafe fn is_deep(container: *mut pg_sys::JsonbContainer, bytes: usize) -> bool {
    use pg_sys::JsonbIteratorToken as Token;
    // Each level takes its header and the word of what is inside.
    if bytes <= 2 * size_of::<u32>() * DEEPEST {
        return false;
    }
    let mut value = pg_sys::JsonbValue::default();
    let mut depth = 0;
    // SAFETY: the caller's promise; an iterator frees itself at its end, or goes with the memory of the call.
    unsafe {
        let mut iterator = pg_sys::JsonbIteratorInit(container);
        loop {
            match pg_sys::JsonbIteratorNext(&raw mut iterator, &raw mut value, false) {
                Token::WJB_BEGIN_ARRAY | Token::WJB_BEGIN_OBJECT => depth += 1,
                Token::WJB_END_ARRAY | Token::WJB_END_OBJECT => depth -= 1,
                Token::WJB_DONE => return false,
                _ => {}
            }
            if depth > DEEPEST {
                return true;
            }
        }
    }
}

/// The same of a value that was read.
pub fn is_deep_value(value: &Value) -> bool {
    fn within(value: &Value, levels: usize) -> bool {
        match value {
            Value::Array(values) => levels > 0 && values.iter().all(|v| within(v, levels - 1)),
            Value::Object(map) => levels > 0 && map.values().all(|v| within(v, levels - 1)),
            _ => true,
        }
    }
    !within(value, DEEPEST)
}

/// A jsonb value, copied out of its datum, length word included.
pub struct RawJsonb(Vec<u8>);

impl RawJsonb {
    /// The value as serde sees it.
    pub fn parse(&self) -> Result<Value> {
        read(&self.text())
    }

    /// As PostgreSQL writes it.
    pub fn text(&self) -> String {
        // SAFETY: the bytes are a plain jsonb; its container follows the 4-byte length word and is
        // aligned because the copy is. The text is copied before the next allocation.
        unsafe {
            let copy = self.datum().cast_mut_ptr::<u8>();
            let container = copy.add(size_of::<i32>()).cast::<pg_sys::JsonbContainer>();
            let length = i32::try_from(self.0.len()).unwrap_or(i32::MAX);
            let text = pg_sys::JsonbToCString(std::ptr::null_mut(), container, length);
            let out = CStr::from_ptr(text).to_string_lossy().into_owned();
            pg_sys::pfree(text.cast());
            pg_sys::pfree(copy.cast());
            out
        }
    }

    /// A copy of the value as PostgreSQL reads it, good until the end of the call.
    pub fn container(&self) -> *mut pg_sys::JsonbContainer {
        // SAFETY: the container follows the length word.
        unsafe {
            let copy = self.datum().cast_mut_ptr::<u8>();
            copy.add(size_of::<i32>()).cast()
        }
    }

    /// The value if it is an object that is not nested too deep for metadata, as PostgreSQL has it.
    pub fn object(&self) -> Option<pg_sys::Datum> {
        let head = self.0.get(4..8)?.first_chunk::<4>()?;
        // SAFETY: the container is what follows the length word.
        let fits = u32::from_ne_bytes(*head) & pg_sys::JB_FOBJECT != 0
            && !unsafe { is_deep(self.container(), self.0.len()) };
        fits.then(|| self.datum())
    }

    fn datum(&self) -> pg_sys::Datum {
        // SAFETY: palloc gives aligned memory of that size, which is then filled.
        unsafe {
            let copy = pg_sys::palloc(self.0.len()).cast::<u8>();
            std::ptr::copy_nonoverlapping(self.0.as_ptr(), copy, self.0.len());
            pg_sys::Datum::from(copy)
        }
    }
}

impl FromDatum for RawJsonb {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _typoid: pg_sys::Oid,
    ) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: the SQL declaration says that the value is jsonb; detoasting gives a varlena with
        // a 4-byte length word, which counts itself.
        unsafe {
            let raw = datum.cast_mut_ptr::<pg_sys::varlena>();
            let plain = pg_sys::pg_detoast_datum(raw);
            let length = pgrx::varsize_any(plain);
            let bytes = std::slice::from_raw_parts(plain.cast::<u8>(), length).to_vec();
            if plain != raw {
                pg_sys::pfree(plain.cast());
            }
            Some(Self(bytes))
        }
    }
}

impl IntoDatum for RawJsonb {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(self.datum())
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::JSONBOID
    }
}

// SAFETY: unboxing goes through FromDatum, which copies.
unsafe impl<'fcx> ArgAbi<'fcx> for RawJsonb {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the caller promises a datum of the declared type that is not NULL.
        unsafe { arg.unbox_arg_using_from_datum() }.expect("the function is STRICT or takes Option")
    }

    unsafe fn unbox_nullable_arg(arg: Arg<'_, 'fcx>) -> Nullable<Self> {
        // SAFETY: the caller promises a datum of the declared type.
        unsafe { arg.unbox_arg_using_from_datum() }.into()
    }
}

// SAFETY: hands over a fresh copy of a plain jsonb.
unsafe impl BoxRet for RawJsonb {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        // SAFETY: a jsonb datum for a column that is declared jsonb.
        unsafe { fcinfo.return_raw_datum(self.datum()) }
    }
}

/// A `text[]`; `None` when it is not a plain list or holds a NULL.
pub struct Words(pub Option<Vec<String>>);

impl FromDatum for Words {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        of: pg_sys::Oid,
    ) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: the SQL declaration says that the value is text[].
        unsafe {
            let plain = pg_sys::pg_detoast_datum(datum.cast_mut_ptr());
            let flat = (*plain.cast::<pg_sys::ArrayType>()).ndim <= 1;
            let words = flat
                .then(|| Vec::<Option<String>>::from_polymorphic_datum(plain.into(), false, of))
                .flatten();
            Some(Self(words.and_then(|words| words.into_iter().collect())))
        }
    }
}

// SAFETY: unboxing goes through FromDatum, which copies.
unsafe impl<'fcx> ArgAbi<'fcx> for Words {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the caller promises a datum of the declared type that is not NULL.
        unsafe { arg.unbox_arg_using_from_datum() }.expect("the function is STRICT or takes Option")
    }

    unsafe fn unbox_nullable_arg(arg: Arg<'_, 'fcx>) -> Nullable<Self> {
        // SAFETY: the caller promises a datum of the declared type.
        unsafe { arg.unbox_arg_using_from_datum() }.into()
    }
}
