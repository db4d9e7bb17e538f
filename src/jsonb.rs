//! jsonb compared where it lies, as PostgreSQL's own operators compare it.

use std::ffi::CString;

use pgrx::{IntoDatum, direct_function_call, pg_sys};
use serde_json::Value;

/// What `jsonb_typeof` tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
}

/// A plain jsonb, aligned, which something else owns.
#[derive(Clone, Copy)]
pub struct Json<'a>(*mut pg_sys::Jsonb, std::marker::PhantomData<&'a ()>);

/// A jsonb with its memory.
pub struct Owned(Box<[u64]>);

impl Owned {
    /// A copy of the bytes of a plain jsonb; `None` when its length word says something else.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < size_of::<pg_sys::Jsonb>() {
            return None;
        }
        let mut words = vec![0u64; bytes.len().div_ceil(8)].into_boxed_slice();
        let start = words.as_mut_ptr().cast::<u8>();
        // SAFETY: there is room for so many bytes, and for the length word, which is read.
        let length = unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len());
            let stored = start.cast::<pg_sys::varlena>();
            pgrx::varatt_is_4b_u(stored).then(|| pgrx::varsize_any(stored))
        };
        (length == Some(bytes.len())).then_some(Self(words))
    }

    /// As PostgreSQL reads it.
    pub fn read(value: &Value) -> Option<Self> {
        let text = CString::new(value.to_string()).ok()?;
        // SAFETY: the input function of jsonb is given a C string; its result is copied.
        unsafe {
            let stored: pg_sys::Datum =
                direct_function_call(pg_sys::jsonb_in, &[Some(text.as_ptr().into())])?;
            Json::of(stored).map(|json| json.copy())
        }
    }

    pub fn json(&self) -> Json<'_> {
        Json(self.0.as_ptr().cast_mut().cast(), std::marker::PhantomData)
    }
}

impl<'a> Json<'a> {
    /// Of a datum of the type jsonb; what was compressed or stored elsewhere is read into the memory context.
    ///
    /// # Safety
    /// It is one, and lives for as long as is said, as the memory context does.
    pub unsafe fn of(datum: pg_sys::Datum) -> Option<Self> {
        // SAFETY: the caller's promise; detoasting gives a varlena with a length word of 4 bytes, aligned.
        let plain = unsafe { pg_sys::pg_detoast_datum(datum.cast_mut_ptr()) };
        (!plain.is_null()).then(|| Self(plain.cast(), std::marker::PhantomData))
    }

    /// Its bytes, length word included.
    pub fn bytes(self) -> &'a [u8] {
        // SAFETY: a plain varlena says how long it is.
        unsafe {
            std::slice::from_raw_parts(self.0.cast(), pgrx::varsize_any(self.0.cast_const().cast()))
        }
    }

    fn copy(self) -> Owned {
        Owned::of(self.bytes()).expect("plain")
    }

    fn root(self) -> *mut pg_sys::JsonbContainer {
        // SAFETY: the container follows the length word.
        unsafe { &raw mut (*self.0).root }
    }

    fn header(self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.root()).header }
    }

    /// The value itself where it is neither array nor object.
    fn scalar(self) -> Option<pg_sys::JsonbValue> {
        if self.header() & pg_sys::JB_FSCALAR == 0 {
            return None;
        }
        let mut value = pg_sys::JsonbValue::default();
        // SAFETY: a container and a place for the value, which points into it.
        unsafe { pg_sys::JsonbExtractScalar(self.root(), &raw mut value) }.then_some(value)
    }

    pub fn kind(self) -> Type {
        let header = self.header();
        match self.scalar().map(|value| value.type_) {
            Some(pg_sys::jbvType::jbvString) => Type::String,
            Some(pg_sys::jbvType::jbvNumeric) => Type::Number,
            Some(pg_sys::jbvType::jbvBool) => Type::Boolean,
            Some(_) => Type::Null,
            None if header & pg_sys::JB_FOBJECT != 0 => Type::Object,
            None => Type::Array,
        }
    }

    /// The text of a string.
    pub fn text(self) -> Option<&'a str> {
        let value = self.scalar()?;
        if value.type_ != pg_sys::jbvType::jbvString {
            return None;
        }
        // SAFETY: of a string that member is set; it points into the value.
        let bytes = unsafe {
            let string = value.val.string;
            let length = usize::try_from(string.len).ok()?;
            std::slice::from_raw_parts(string.val.cast::<u8>(), length)
        };
        std::str::from_utf8(bytes).ok()
    }

    /// As `=` and `<` compare.
    pub fn compare(self, other: Json<'_>) -> std::cmp::Ordering {
        // SAFETY: two containers.
        unsafe { pg_sys::compareJsonbContainers(self.root(), other.root()) }.cmp(&0)
    }

    pub fn equals(self, other: Json<'_>) -> bool {
        self.compare(other).is_eq()
    }

    /// Whether it contains another, both being arrays or both objects, as `@>` says.
    pub fn contains(self, other: Json<'_>) -> bool {
        // SAFETY: two containers; the iterators are made in the memory context.
        unsafe {
            let mut own = pg_sys::JsonbIteratorInit(self.root());
            let mut others = pg_sys::JsonbIteratorInit(other.root());
            pg_sys::JsonbDeepContains(&raw mut own, &raw mut others)
        }
    }

    /// What `#>` finds. The result is made in the memory context, in which it has to be used.
    pub fn at(self, path: &[String]) -> Option<Json<'a>> {
        if path.is_empty() {
            return Some(self);
        }
        let mut keys: Vec<pg_sys::Datum> = path
            .iter()
            .map(|key| key.as_str().into_datum().expect("a text is not NULL"))
            .collect();
        let mut nothing = false;
        // SAFETY: a plain jsonb and texts, as many as is said.
        unsafe {
            let count = i32::try_from(keys.len()).ok()?;
            let found = pg_sys::jsonb_get_element(
                self.0,
                keys.as_mut_ptr(),
                count,
                &raw mut nothing,
                false,
            );
            if nothing { None } else { Json::of(found) }
        }
    }

    /// Calls `visit` with every element of an array, or every key and value of an object, until it says that it
    /// has seen enough. Values are made in the memory context.
    pub fn any(self, mut visit: impl FnMut(Option<&str>, Json<'_>) -> bool) -> bool {
        if self.header() & pg_sys::JB_FSCALAR != 0 {
            return false;
        }
        let mut value = pg_sys::JsonbValue::default();
        let mut key: Option<String> = None;
        // SAFETY: the iterator is made in the memory context, and what it hands out points into the value.
        unsafe {
            let mut all = pg_sys::JsonbIteratorInit(self.root());
            loop {
                // Arrays and objects inside of it come whole.
                match pg_sys::JsonbIteratorNext(&raw mut all, &raw mut value, true) {
                    pg_sys::JsonbIteratorToken::WJB_DONE => return false,
                    pg_sys::JsonbIteratorToken::WJB_KEY => {
                        let string = value.val.string;
                        let length = usize::try_from(string.len).unwrap_or(0);
                        let bytes = std::slice::from_raw_parts(string.val.cast::<u8>(), length);
                        key = Some(String::from_utf8_lossy(bytes).into_owned());
                    }
                    pg_sys::JsonbIteratorToken::WJB_VALUE
                    | pg_sys::JsonbIteratorToken::WJB_ELEM => {
                        let plain = pg_sys::JsonbValueToJsonb(&raw mut value);
                        if visit(key.as_deref(), Json(plain, std::marker::PhantomData)) {
                            return true;
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

/// What `lower()` makes of a text in the database's collation.
pub fn lower(text: &str) -> Option<String> {
    // SAFETY: the function by its fixed id takes a text and gives one.
    unsafe {
        let found = pg_sys::OidFunctionCall1Coll(
            pg_sys::Oid::from(pg_sys::F_LOWER_TEXT),
            pg_sys::DEFAULT_COLLATION_OID,
            text.into_datum()?,
        );
        pgrx::FromDatum::from_datum(found, false)
    }
}
