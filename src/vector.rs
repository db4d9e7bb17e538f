//! Reading pgvector's `vector` as it comes from PostgreSQL.

use std::ptr::NonNull;

use pgrx::callconv::{Arg, ArgAbi};
use pgrx::nullable::Nullable;
use pgrx::{FromDatum, pg_sys};

/// A `vector` argument, copied out of its datum.
#[derive(Clone, Debug, PartialEq)]
pub struct Vector(pub Vec<f32>);

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
        // packed form) gives a 4-byte length word and an aligned body; `dims` floats follow it.
        unsafe {
            let raw = datum.cast_mut_ptr::<pg_sys::varlena>();
            let plain = NonNull::new(pg_sys::pg_detoast_datum(raw))?;
            let header = plain.cast::<Header>().as_ref();
            let dims = usize::try_from(header.dims).unwrap_or(0);
            let numbers = plain.cast::<Header>().add(1).cast::<f32>().as_ptr();
            let out = std::slice::from_raw_parts(numbers, dims).to_vec();
            if plain.as_ptr() != raw {
                pg_sys::pfree(plain.as_ptr().cast());
            }
            Some(Self(out))
        }
    }
}

// SAFETY: unboxing goes through FromDatum, which copies.
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
