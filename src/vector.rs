//! Reading pgvector's `vector` as it comes from PostgreSQL.

use std::ops::Deref;
use std::ptr::NonNull;

use pgrx::callconv::{Arg, ArgAbi};
use pgrx::nullable::Nullable;
use pgrx::{FromDatum, pg_sys};

/// A `vector` argument: borrowed from its datum, or a detoasted copy that is freed with it.
pub struct Vector {
    header: NonNull<Header>,
    owned: bool,
}

impl Deref for Vector {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `header` points at a plain `vector` for as long as self lives: the datum outlives
        // the call that it is an argument of, or we own the copy. `dims` floats follow the header.
        unsafe {
            let dims = usize::try_from(self.header.as_ref().dims).unwrap_or(0);
            std::slice::from_raw_parts(self.header.add(1).cast::<f32>().as_ptr(), dims)
        }
    }
}

impl Drop for Vector {
    fn drop(&mut self) {
        if self.owned {
            // SAFETY: allocated by pg_detoast_datum and not freed before.
            unsafe { pg_sys::pfree(self.header.as_ptr().cast()) }
        }
    }
}

/// The numbers of a stored `vector`, from its bytes after the length word; `None` when they are not one.
pub fn numbers(bytes: &[u8]) -> Option<Vec<f32>> {
    let (dims, rest) = bytes.split_first_chunk::<2>()?;
    let dims = usize::try_from(i16::from_ne_bytes(*dims)).ok()?;
    let numbers = rest.get(2..)?.as_chunks::<4>().0;
    (numbers.len() == dims).then(|| numbers.iter().map(|n| f32::from_ne_bytes(*n)).collect())
}

/// A `vector` of these numbers, as pgvector has it. At most 16,000.
pub fn datum(numbers: &[f32]) -> pg_sys::Datum {
    let size = size_of::<Header>() + size_of_val(numbers);
    // SAFETY: so many bytes are allocated, aligned for the header and the numbers after it.
    unsafe {
        let header = pg_sys::palloc0(size).cast::<Header>();
        pgrx::set_varsize_4b(header.cast(), i32::try_from(size).unwrap_or(0));
        (*header).dims = i16::try_from(numbers.len()).unwrap_or(0);
        std::ptr::copy_nonoverlapping(numbers.as_ptr(), header.add(1).cast(), numbers.len());
        header.into()
    }
}

/// pgvector's in-memory form: length word, dimensions, unused, then the numbers.
#[repr(C)]
struct Header {
    varlena: i32,
    dims: i16,
    unused: i16,
}

impl FromDatum for Vector {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _typoid: pg_sys::Oid,
    ) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: the SQL declaration says that the argument is a `vector`. Detoasting (not the
        // packed form) gives a 4-byte length word and an aligned body.
        unsafe {
            let raw = datum.cast_mut_ptr::<pg_sys::varlena>();
            let plain = NonNull::new(pg_sys::pg_detoast_datum(raw))?;
            Some(Self {
                header: plain.cast(),
                owned: plain.as_ptr() != raw,
            })
        }
    }
}

// SAFETY: unboxing goes through FromDatum; the argument lives as long as the call.
unsafe impl<'fcx> ArgAbi<'fcx> for Vector {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the caller promises a datum of the declared type that is not NULL.
        unsafe { arg.unbox_arg_using_from_datum() }.expect("the function is STRICT or takes Option")
    }

    unsafe fn unbox_nullable_arg(arg: Arg<'_, 'fcx>) -> Nullable<Self> {
        // SAFETY: the caller promises a datum of the declared type.
        unsafe { arg.unbox_arg_using_from_datum() }.into()
    }
}
