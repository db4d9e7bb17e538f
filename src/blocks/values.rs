//! What filters ask of the memories of a segment, column by column, so that no row has to be looked at.
//!
//! Of each column every value is written once, and each entry has the number of its value, 0 for NULL. The keys
//! of metadata are columns of their own. A column whose values are too many or too long is left out: then rows
//! tell. What is written is true as long as the entry counts: a change of any of these columns replaces the entry.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | where the directory ends |
//! | 2, 2 | entries n, columns k |
//! | 1 | 1 when all keys of metadata are columns |
//! | k times: 2, name; 4; 1; 2; 4 | name, its length first; type; bytes w of a number; values v; where it begins |
//!
//! A column has w n bytes of numbers (none where all are the same), 4 v bytes of where values end, and the values.

use std::collections::HashMap;

use super::{Columns, u16_at, u32_at};

/// Bytes of values that a column may have, for each entry.
const MOST_OF_COLUMN: usize = 64;
/// The same of all keys of metadata together.
const MOST_OF_METADATA: usize = 128;
/// Keys of metadata that are columns.
const MOST_KEYS: usize = 64;

/// The name of the column of a key of metadata, which no column of a table has.
pub fn of_key(key: &str) -> String {
    format!(".{key}")
}

/// A column in the making.
#[derive(Default)]
struct Building {
    numbers: Vec<u16>,
    known: HashMap<Vec<u8>, u16>,
    values: Vec<Vec<u8>>,
    bytes: usize,
}

impl Building {
    /// What has more than `most` bytes of values is left out in the end, and not gathered.
    fn put(&mut self, entry: usize, value: &[u8], most: usize) {
        if self.bytes > most {
            return;
        }
        if value.len() > most {
            *self = Self {
                bytes: usize::MAX,
                ..Self::default()
            };
            return;
        }
        let number = match self.known.get(value) {
            Some(number) => *number,
            None => {
                self.bytes += value.len() + 4;
                self.values.push(value.to_vec());
                // A segment has fewer entries than 2^16.
                let number = self.values.len() as u16;
                self.known.insert(value.to_vec(), number);
                number
            }
        };
        self.numbers.resize(entry, 0);
        self.numbers.push(number);
    }

    fn encode(&self, n: usize) -> (u8, Vec<u8>) {
        let number = |entry: usize| self.numbers.get(entry).copied().unwrap_or(0);
        let mut out = Vec::new();
        let width = match self.values.len() {
            0 => 0,
            1 if (0..n).all(|entry| number(entry) == 1) => 0,
            1..=255 => 1,
            _ => 2,
        };
        for entry in 0..n {
            out.extend(&number(entry).to_le_bytes()[..width]);
        }
        let mut end = 0;
        for value in &self.values {
            end += value.len() as u32;
            out.extend(end.to_le_bytes());
        }
        out.extend(self.values.iter().flatten());
        (width as u8, out)
    }
}

/// Gathers the values of the entries of a segment.
pub struct Builder {
    n: usize,
    columns: Vec<(String, u32, Building)>,
    keys: HashMap<String, Building>,
    /// Keys of metadata that were too many.
    all_keys: bool,
    of: u32,
}

impl Builder {
    /// For so many entries, with columns of these names and types. Values of metadata have the last type.
    pub fn new(n: usize, columns: &[(&str, u32)], of_metadata: u32) -> Self {
        let column = |(name, of): &(&str, u32)| ((*name).to_owned(), *of, Building::default());
        Self {
            n,
            columns: columns.iter().map(column).collect(),
            keys: HashMap::new(),
            all_keys: true,
            of: of_metadata,
        }
    }

    /// The value of the column `nth` that an entry has. Entries come in their order.
    pub fn put(&mut self, nth: usize, entry: usize, value: &[u8]) {
        let most = MOST_OF_COLUMN * self.n;
        self.columns[nth].2.put(entry, value, most);
    }

    /// What an entry has under a key of its metadata.
    pub fn put_key(&mut self, key: &str, entry: usize, value: &[u8]) {
        let most = MOST_OF_COLUMN * self.n;
        if let Some(known) = self.keys.get_mut(key) {
            known.put(entry, value, most);
        } else if self.keys.len() < MOST_KEYS {
            self.keys
                .entry(key.to_owned())
                .or_default()
                .put(entry, value, most);
        } else {
            self.all_keys = false;
        }
    }

    /// What is stored.
    pub fn encode(self) -> Vec<u8> {
        let (n, mut all_keys) = (self.n, self.all_keys);
        let mut columns = self.columns;
        columns.retain(|(.., c)| c.bytes <= MOST_OF_COLUMN * n);
        let mut keys: Vec<(String, Building)> = self.keys.into_iter().collect();
        keys.sort_by(|a, b| (a.1.bytes, &a.0).cmp(&(b.1.bytes, &b.0)));
        let mut room = MOST_OF_METADATA * n;
        for (key, column) in keys {
            if column.bytes > room || column.bytes > MOST_OF_COLUMN * n || key.len() > 1000 {
                all_keys = false;
                continue;
            }
            room -= column.bytes;
            columns.push((of_key(&key), self.of, column));
        }
        let mut encoded: Vec<(String, u32, usize, u8, Vec<u8>)> = columns
            .into_iter()
            .map(|(name, of, column)| {
                let (width, bytes) = column.encode(n);
                (name, of, column.values.len(), width, bytes)
            })
            .collect();
        // The short ones are read together with the directory.
        encoded.sort_by(|a, b| (a.4.len(), &a.0).cmp(&(b.4.len(), &b.0)));
        let directory = 9 + encoded.iter().map(|c| 13 + c.0.len()).sum::<usize>();
        let mut out = (directory as u32).to_le_bytes().to_vec();
        out.extend((n as u16).to_le_bytes());
        out.extend((encoded.len() as u16).to_le_bytes());
        out.push(all_keys.into());
        let mut begin = directory;
        for (name, of, values, width, bytes) in &encoded {
            out.extend((name.len() as u16).to_le_bytes());
            out.extend(name.as_bytes());
            out.extend(of.to_le_bytes());
            out.push(*width);
            out.extend((*values as u16).to_le_bytes());
            out.extend((begin as u32).to_le_bytes());
            begin += bytes.len();
        }
        for (.., bytes) in &encoded {
            out.extend(bytes);
        }
        out
    }
}

/// Bytes at the front that say how long the directory is.
pub const FRONT: usize = 4;

/// Where the columns of a segment are.
#[derive(Default)]
pub struct Directory {
    /// Entries.
    pub n: usize,
    /// Whether a key of metadata that is no column is nowhere.
    pub all_keys: bool,
    columns: HashMap<String, Where>,
}

/// Where a column is.
#[derive(Clone, Copy)]
pub struct Where {
    /// Its type.
    pub of: u32,
    width: usize,
    values: usize,
    begin: usize,
    n: usize,
}

impl Where {
    /// The numbers and the ends of values.
    pub fn front(&self) -> std::ops::Range<usize> {
        self.begin..self.begin + self.width * self.n + 4 * self.values
    }
}

impl Directory {
    /// How many bytes it has, of the first of them.
    pub fn length(front: &[u8]) -> Option<usize> {
        Some(u32_at(front.get(..FRONT)?, 0) as usize)
    }

    /// Reads it; `None` when the bytes are not one.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = Columns(bytes);
        rest.next(FRONT)?;
        let n = usize::from(u16_at(rest.next(2)?, 0));
        let count = u16_at(rest.next(2)?, 0);
        let all_keys = rest.next(1)?[0] == 1;
        let mut columns = HashMap::with_capacity(count.into());
        for _ in 0..count {
            let length = u16_at(rest.next(2)?, 0);
            let name = std::str::from_utf8(rest.next(length.into())?).ok()?;
            let of = u32_at(rest.next(4)?, 0);
            let width = usize::from(rest.next(1)?[0]);
            let values = usize::from(u16_at(rest.next(2)?, 0));
            let begin = u32_at(rest.next(4)?, 0) as usize;
            let found = Where {
                of,
                width,
                values,
                begin,
                n,
            };
            columns.insert(name.to_owned(), found);
        }
        rest.0.is_empty().then_some(Self {
            n,
            all_keys,
            columns,
        })
    }

    /// Where a column is, if there is one of that name.
    pub fn column(&self, name: &str) -> Option<Where> {
        self.columns.get(name).copied()
    }
}

/// What is said of entries.
#[derive(Debug, PartialEq, Eq)]
pub enum Said<T> {
    /// The same of all.
    Same(T),
    /// Of each.
    Each(Vec<T>),
}

/// A column, read.
pub struct Column {
    of: Where,
    front: Vec<u8>,
    bytes: Vec<u8>,
}

impl Column {
    /// Of the bytes of [`Where::front`], with the values still to come.
    pub fn new(of: Where, front: Vec<u8>) -> Option<Self> {
        (front.len() == of.front().len()).then_some(Self {
            of,
            front,
            bytes: Vec::new(),
        })
    }

    fn end(&self, value: usize) -> usize {
        u32_at(&self.front, self.of.width * self.of.n + 4 * value) as usize
    }

    /// Where the values are.
    pub fn rest(&self) -> std::ops::Range<usize> {
        let begin = self.of.front().end;
        let length = self
            .of
            .values
            .checked_sub(1)
            .map_or(0, |last| self.end(last));
        begin..begin + length
    }

    /// Takes the values.
    pub fn put(&mut self, bytes: Vec<u8>) {
        self.bytes = bytes;
    }

    /// What `test` says of the value of each entry, which is asked once for each value, NULL among them, and not
    /// at all for those that no entry can have; `None` when the bytes are not a column.
    pub fn each<T: Copy>(&self, mut test: impl FnMut(Option<&[u8]>) -> T) -> Option<Said<T>> {
        let (n, width) = (self.of.n, self.of.width);
        if width > 2 {
            return None;
        }
        let mut begin = 0;
        let mut values = Vec::with_capacity(self.of.values);
        for value in 0..self.of.values {
            let end = self.end(value);
            values.push(self.bytes.get(begin..end)?);
            begin = end;
        }
        if width == 0 {
            return Some(Said::Same(test(values.first().copied())));
        }
        let mut said = vec![test(None)];
        said.extend(values.into_iter().map(|value| test(Some(value))));
        let numbers = &self.front[..width * n];
        if width == 1 {
            let most = numbers.iter().max().copied().unwrap_or(0);
            if usize::from(most) >= said.len() {
                return None;
            }
            let each = numbers.iter().map(|b| said[usize::from(*b)]);
            return Some(Said::Each(each.collect()));
        }
        let numbers = numbers.as_chunks::<2>().0.iter();
        let each = numbers.map(|b| said.get(usize::from(u16::from_le_bytes(*b))).copied());
        each.collect::<Option<_>>().map(Said::Each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(stored: &[u8], name: &str) -> Option<Vec<Option<Vec<u8>>>> {
        let length = Directory::length(stored).unwrap();
        let directory = Directory::parse(&stored[..length]).unwrap();
        let of = directory.column(name)?;
        let mut column = Column::new(of, stored[of.front()].to_vec()).unwrap();
        column.put(stored[column.rest()].to_vec());
        let mut asked = Vec::new();
        let said = column
            .each(|value| {
                asked.push(value.map(<[u8]>::to_vec));
                (asked.len() - 1) as u8
            })
            .unwrap();
        let said = match said {
            Said::Same(one) => vec![one; of.n],
            Said::Each(all) => all,
        };
        Some(
            said.iter()
                .map(|nth| asked[usize::from(*nth)].clone())
                .collect(),
        )
    }

    #[test]
    fn what_is_put_in_comes_out() {
        let n = 700;
        let columns = [
            ("none", 1),
            ("same", 2),
            ("few", 3),
            ("some", 4),
            ("long", 5),
        ];
        let mut builder = Builder::new(n, &columns, 6);
        let few = |i: usize| Some(vec![b'a'; i % 3]).filter(|v| !v.is_empty());
        let some =
            |i: usize| Some((i as u32 / 3).to_le_bytes().to_vec()).filter(|_| !i.is_multiple_of(7));
        for i in 0..n {
            builder.put(1, i, b"x");
            if let Some(value) = few(i) {
                builder.put(2, i, &value);
            }
            if let Some(value) = some(i) {
                builder.put(3, i, &value);
                builder.put_key("k.k", i, &value);
            }
            builder.put(4, i, format!("{i:0100}").as_bytes());
            if i > 600 {
                builder.put_key("", i, b"");
            }
        }
        let stored = builder.encode();
        assert_eq!(read(&stored, "none").unwrap(), vec![None; n]);
        assert_eq!(read(&stored, "same").unwrap(), vec![Some(b"x".to_vec()); n]);
        assert_eq!(
            read(&stored, "few").unwrap(),
            (0..n).map(few).collect::<Vec<_>>()
        );
        let length = Directory::length(&stored).unwrap();
        let directory = Directory::parse(&stored[..length]).unwrap();
        assert!(directory.all_keys);
        assert_eq!(directory.column(".k.k").unwrap().of, 6);
        let mut asked = 0;
        let of = directory.column("some").unwrap();
        let mut column = Column::new(of, stored[of.front()].to_vec()).unwrap();
        column.put(stored[column.rest()].to_vec());
        let said = column.each(|value| {
            asked += 1;
            value.map_or(9, |v| v[0] % 5)
        });
        let expected: Vec<u8> = (0..n).map(|i| some(i).map_or(9, |v| v[0] % 5)).collect();
        assert_eq!(said, Some(Said::Each(expected)));
        assert!(asked < 240, "once for each value");
        assert_eq!(read(&stored, ".").unwrap()[600], None);
        assert_eq!(read(&stored, ".").unwrap()[601], Some(Vec::new()));
        assert!(read(&stored, "long").is_none(), "rows tell");
        assert!(Directory::parse(&stored[..length - 1]).is_none());
        column.put(Vec::new());
        assert!(column.each(|_| 0).is_none());
    }

    #[test]
    fn keys_that_are_too_many_or_too_long_are_left_out() {
        let keys = |builder: Builder| {
            let stored = builder.encode();
            let directory =
                Directory::parse(&stored[..Directory::length(&stored).unwrap()]).unwrap();
            (directory.columns.len(), directory.all_keys)
        };
        let mut many = Builder::new(100, &[], 0);
        let mut long = Builder::new(100, &[], 0);
        for i in 0..100 {
            many.put_key(&format!("k{i}"), i, b"x");
            long.put_key("long", i, format!("{i:0100}").as_bytes());
            long.put_key("short", i, b"x");
            for key in 0..4 {
                long.put_key(&format!("k{key}"), i, format!("{i:050}").as_bytes());
            }
        }
        assert_eq!(keys(many), (MOST_KEYS, false));
        assert_eq!(
            keys(long),
            (3, false),
            "two of 54 bytes an entry and the short one"
        );
    }
}
