//! The items of `add_many` read where they lie in their jsonb, without a copy as text.
//!
//! What [`crate::items`] reads in the end means the same here, but here nothing is told about an item that
//! cannot be read: then nothing is, and the long way is taken.

use std::borrow::Cow;
use std::ffi::c_int;

use pgrx::pg_sys::{self, JsonbIteratorToken as Token, jbvType as Kind};
use uuid::Uuid;

use super::New;
use crate::api;
use crate::raw::is_deep;

/// Calls `visit` with the key, if it is an object, and the value of each member of an array or object. False
/// when it is neither, or when `visit` says so.
///
/// # Safety
/// A container that lives as long as `'a`.
unsafe fn each<'a>(
    container: *mut pg_sys::JsonbContainer,
    mut visit: impl FnMut(&'a str, &mut pg_sys::JsonbValue) -> Option<()>,
) -> Option<()> {
    let mut value = pg_sys::JsonbValue::default();
    let mut key = "";
    // SAFETY: the caller's promise; an iterator frees itself at its end, or goes with the memory of the call.
    unsafe {
        let mut iterator = pg_sys::JsonbIteratorInit(container);
        pg_sys::JsonbIteratorNext(&raw mut iterator, &raw mut value, false);
        if value.type_ == Kind::jbvArray && value.val.array.rawScalar {
            return None;
        }
        loop {
            match pg_sys::JsonbIteratorNext(&raw mut iterator, &raw mut value, true) {
                Token::WJB_KEY => key = text(&value)?,
                Token::WJB_VALUE | Token::WJB_ELEM => visit(key, &mut value)?,
                Token::WJB_END_ARRAY | Token::WJB_END_OBJECT => {}
                Token::WJB_DONE => return Some(()),
                _ => return None,
            }
        }
    }
}

/// # Safety
/// What the value points at lives as long as `'a`.
unsafe fn text<'a>(value: &pg_sys::JsonbValue) -> Option<&'a str> {
    // SAFETY: the kind says which value it is; text in PostgreSQL is UTF-8 as checked by setup().
    unsafe {
        if value.type_ != Kind::jbvString {
            return None;
        }
        let string = value.val.string;
        let length = usize::try_from(string.len).ok()?;
        let bytes = std::slice::from_raw_parts(string.val.cast::<u8>(), length);
        std::str::from_utf8(bytes).ok()
    }
}

/// The container of an array or object.
unsafe fn inside(value: &pg_sys::JsonbValue) -> Option<*mut pg_sys::JsonbContainer> {
    if value.type_ != Kind::jbvBinary {
        return None;
    }
    // SAFETY: the kind says which value it is.
    Some(unsafe { value.val.binary.data })
}

unsafe fn is_object(container: *mut pg_sys::JsonbContainer) -> bool {
    // SAFETY: the caller gives a container.
    unsafe { (*container).header & pg_sys::JB_FOBJECT != 0 }
}

/// Reads all items, at most so many; `None` when that cannot be done here.
///
/// # Safety
/// A container that lives as long as `'a`.
pub unsafe fn items<'a>(
    container: *mut pg_sys::JsonbContainer,
    most: usize,
) -> Option<Vec<New<'a>>> {
    let mut items = Vec::new();
    // SAFETY: the caller's promise.
    unsafe {
        if is_object(container) {
            return None;
        }
        each(container, |_, value| {
            items.push(match value.type_ {
                Kind::jbvString => New {
                    content: Some(Cow::Borrowed(text(value)?)),
                    ..New::default()
                },
                _ => item(inside(value)?)?,
            });
            (items.len() <= most).then_some(())
        })?;
    }
    Some(items)
}

unsafe fn item<'a>(container: *mut pg_sys::JsonbContainer) -> Option<New<'a>> {
    let mut new = New::default();
    // SAFETY: the caller's promise.
    unsafe {
        if !is_object(container) {
            return None;
        }
        each(container, |key, value| {
            if value.type_ == Kind::jbvNull {
                return Some(());
            }
            let text = |value| text(value).map(Cow::Borrowed);
            match key {
                "content" => new.content = Some(text(value)?),
                "type" => new.kind = Some(text(value)?),
                "importance" if value.type_ == Kind::jbvNumeric => {
                    new.importance = Some(number(value)?);
                }
                "embedding" => new.embedding = Some(Cow::Owned(vector(value)?)),
                "tags" => new.tags = Some(texts(value)?),
                "metadata" => new.metadata = Some(object(value)?),
                "occurred_at" => {
                    let at = api::time("", Some(self::text(value)?)).ok()??;
                    new.occurred_at = Some(at.into());
                }
                "agent_id" => new.agent_id = Some(text(value)?),
                "session_id" => new.session_id = Some(text(value)?),
                "speaker" => new.speaker = Some(text(value)?),
                "role" => new.role = Some(text(value)?),
                "source" => new.source = Some(text(value)?),
                "entities" => new.entities = Some(texts(value)?),
                "id" => new.id = Some(Uuid::try_parse(self::text(value)?).ok()?),
                "expires_at" => {
                    let at = api::time("", Some(self::text(value)?)).ok()??;
                    new.expires_at = Some(at.into());
                }
                "on_duplicate" => new.on_duplicate = Some(text(value)?),
                "summary" => new.summary = Some(text(value)?),
                "valid_from" => {
                    let at = api::time("", Some(self::text(value)?)).ok()??;
                    new.valid_from = Some(at.into());
                }
                "valid_to" => {
                    let at = api::time("", Some(self::text(value)?)).ok()??;
                    new.valid_to = Some(at.into());
                }
                "pinned" if value.type_ == Kind::jbvBool => new.pinned = Some(value.val.boolean),
                "model" => new.model = Some(text(value)?),
                _ => return None,
            }
            Some(())
        })?;
    }
    Some(new)
}

unsafe fn texts<'a>(value: &pg_sys::JsonbValue) -> Option<Vec<Cow<'a, str>>> {
    let mut found = Vec::new();
    // SAFETY: the caller's promise.
    unsafe {
        let container = inside(value)?;
        if is_object(container) {
            return None;
        }
        each(container, |_, value| {
            found.push(Cow::Borrowed(text(value)?));
            Some(())
        })?;
    }
    Some(found)
}

/// A jsonb of its own for an object that metadata can be.
unsafe fn object(value: &mut pg_sys::JsonbValue) -> Option<pg_sys::Datum> {
    // SAFETY: a value that lives.
    unsafe {
        let container = inside(value)?;
        let bytes = usize::try_from(value.val.binary.len).ok()?;
        let fits = is_object(container) && !is_deep(container, bytes);
        fits.then(|| pg_sys::Datum::from(pg_sys::JsonbValueToJsonb(value)))
    }
}

/// An array of numbers, or its text as pgvector writes it.
unsafe fn vector(value: &pg_sys::JsonbValue) -> Option<Vec<f32>> {
    // SAFETY: the caller's promise.
    let numbers = unsafe {
        if value.type_ == Kind::jbvString {
            vector_text(text(value)?)?
        } else {
            let container = inside(value)?;
            if is_object(container) {
                return None;
            }
            let mut found = Vec::new();
            each(container, |_, value| {
                found.push(number(value)? as f32);
                Some(())
            })?;
            found
        }
    };
    (!numbers.is_empty() && numbers.iter().all(|x| x.is_finite())).then_some(numbers)
}

/// JSON numbers between brackets.
fn vector_text(text: &str) -> Option<Vec<f32>> {
    let inner = text
        .trim_matches(' ')
        .strip_prefix('[')?
        .strip_suffix(']')?;
    let mut numbers = Vec::with_capacity(inner.len() / 8);
    for part in inner.split(',') {
        numbers.push(number_text(part.trim_matches(' '))? as f32);
    }
    Some(numbers)
}

/// A JSON number.
fn number_text(part: &str) -> Option<f64> {
    let bytes = part.as_bytes();
    let negative = bytes.first() == Some(&b'-');
    let digits = &bytes[usize::from(negative)..];
    // Digits without the point, and how many come after it.
    let (mut mantissa, mut read, mut after) = (0u64, 0, None);
    for byte in digits {
        match byte {
            b'0'..=b'9' if read < 18 => mantissa = mantissa * 10 + u64::from(byte - b'0'),
            b'.' if after.is_none() && read > 0 => {
                after = Some(0);
                continue;
            }
            _ => return other_number(part, digits),
        }
        read += 1;
        after = after.map(|n: usize| n + 1);
    }
    // Numbers such as 01 and 1. are none in JSON.
    let whole = read - after.unwrap_or(0);
    if read == 0 || after == Some(0) || whole > 1 && digits[0] == b'0' {
        return None;
    }
    // Both are exact as doubles, so that the quotient is the nearest one.
    if mantissa >= 1 << 53 {
        return other_number(part, digits);
    }
    let size = mantissa as f64 / POWERS[after.unwrap_or(0)];
    Some(if negative { -size } else { size })
}

/// Powers of ten.
const POWERS: [f64; 19] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18,
];

/// One that is long or has an exponent.
fn other_number(part: &str, digits: &[u8]) -> Option<f64> {
    // What Rust reads and JSON does not.
    let plain = match digits {
        [b'0', b'0'..=b'9', ..] | [.., b'.'] => false,
        _ if digits.windows(2).any(|two| matches!(two, b".e" | b".E")) => false,
        [b'0'..=b'9', ..] => digits
            .iter()
            .all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'-' | b'+')),
        _ => false,
    };
    if plain { part.parse().ok() } else { None }
}

/// The number that a JSON number says.
unsafe fn number(value: &pg_sys::JsonbValue) -> Option<f64> {
    if value.type_ != Kind::jbvNumeric {
        return None;
    }
    // SAFETY: the kind says which value it is: a numeric with a length word of 4 bytes.
    unsafe {
        let numeric = value.val.numeric;
        let size = pgrx::varsize_4b(numeric.cast());
        let bytes = std::slice::from_raw_parts(numeric.cast::<u8>(), size);
        decimal(bytes.get(4..)?)
    }
}

/// A numeric as it is stored, after its length word: digits to the base 10,000 after a header of one or two
/// words. `None` for what is no number, or very long.
fn decimal(bytes: &[u8]) -> Option<f64> {
    let mut words = bytes
        .as_chunks::<2>()
        .0
        .iter()
        .map(|pair| u16::from_ne_bytes(*pair));
    let head = words.next()?;
    let (negative, weight) = match head & 0xC000 {
        0xC000 => return None,
        0x8000 => {
            let weight = c_int::from(head & 0x3F);
            let below = c_int::from(head & 0x40);
            (head & 0x2000 != 0, weight - below)
        }
        sign => (sign == 0x4000, c_int::from(words.next()?.cast_signed())),
    };
    let mut mantissa = 0u128;
    let mut digits = 0;
    for digit in words {
        // More digits than 28 say nothing further to a double.
        if digits < 8 {
            mantissa = mantissa * 10_000 + u128::from(digit);
            digits += 1;
        }
    }
    let exponent = 4 * (weight + 1 - digits);
    let exact = u64::try_from(mantissa).ok().filter(|m| *m < 1 << 53);
    let size = match exact {
        // Both are exact as doubles, so that the quotient is the nearest one.
        Some(m) if (-22..=0).contains(&exponent) => m as f64 / 10f64.powi(-exponent),
        Some(m) if (0..=22).contains(&exponent) => m as f64 * 10f64.powi(exponent),
        _ => format!("{mantissa}e{exponent}").parse().ok()?,
    };
    Some(if negative { -size } else { size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_in_text_are_json() {
        assert_eq!(
            vector_text("[1,-0.5,2e-3, 0]"),
            Some(vec![1.0, -0.5, 0.002, 0.0])
        );
        for number in [
            "0.1",
            "-0",
            "123456789.123456789",
            "0.000000000000000001",
            "9007199254740993",
            "0.30000000000000004",
            "1234567890123456789012",
            "-12.5e-3",
            "10",
            "0.05",
        ] {
            let exact: f64 = number.parse().unwrap();
            let read = number_text(number).unwrap();
            assert_eq!(read.to_bits(), exact.to_bits(), "{number}");
        }
        for odd in [
            "[-]", "[-01]", "[1..2]", "[1.2.3]", "[-.5]", "[00]", "[ ]", "[1 2]", "[]", "[01]",
            "[1.]", "[.5]", "[+1]", "[nan]", "[inf]", "1", "[1,]", "[0x1]", "[1e]", "[1.e5]",
        ] {
            assert_eq!(vector_text(odd), None, "{odd}");
        }
    }

    #[test]
    fn numerics_are_read_to_the_last_bit() {
        let numeric = |head: &[u16], digits: &[u16]| {
            let words = head.iter().chain(digits);
            words.flat_map(|w| w.to_ne_bytes()).collect::<Vec<u8>>()
        };
        // 12345.678: short, weight 1, and the same in the long form.
        assert_eq!(
            decimal(&numeric(&[0x8001], &[1, 2345, 6780])),
            Some(12345.678)
        );
        assert_eq!(
            decimal(&numeric(&[3, 1], &[1, 2345, 6780])),
            Some(12345.678)
        );
        assert_eq!(
            decimal(&numeric(&[0x4003, 1], &[1, 2345, 6780])),
            Some(-12345.678)
        );
        // -0.00012: weight -1 is 0x7F in seven bits of two's complement.
        assert_eq!(decimal(&numeric(&[0xA07F], &[1, 2000])), Some(-0.00012));
        assert_eq!(decimal(&numeric(&[0x8000], &[])), Some(0.0));
        // 0.1234567890123456789: more digits than a double holds.
        let long = numeric(&[0x807F], &[1234, 5678, 9012, 3456, 7890]);
        assert_eq!(decimal(&long), Some(0.123_456_789_012_345_68));
        assert_eq!(decimal(&numeric(&[0xC000], &[])), None);
    }
}
