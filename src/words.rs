//! The words of a text, as `to_tsvector()` finds them, remembered from text to text of a workspace.
//!
//! Finding the words of a memory was more than a third of what storing it cost: the parser goes through many
//! states for each character, and each word is stemmed anew. But most words of a text were in an earlier one.
//! So what `to_tsvector()` would find between two spaces is looked up here, and only what is not known yet is
//! given to PostgreSQL's own parser and dictionaries.
//!
//! That is the same for the whole text as for its parts, where
//! - the parser is PostgreSQL's default one. But in tags none of its tokens holds white space, and what it makes of a
//!   token depends on nothing before the white space in front of it. A text with `<` goes the long way;
//! - all dictionaries look at one token at a time, as all that come with PostgreSQL do but `thesaurus`;
//! - no word is so long, and the text neither, that PostgreSQL would refuse it or say something about it.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int};
use std::hash::{BuildHasher, Hasher, RandomState};

use pgrx::{FromDatum, IntoDatum, pg_guard, pg_sys};
use uuid::Uuid;

use crate::blocks::documents::Word;
use crate::{terms, text};

/// Longer texts go the long way.
const MAX_TEXT: usize = 50_000;
/// Parts, and texts that nothing is remembered of, that are longer go the long way: a word of 2,048 bytes is not
/// indexed.
const MAX_PART: usize = 2_000;
/// Longer parts are not remembered.
const MAX_KEPT: usize = 60;
/// Parts that are remembered: between so many and twice as many, about 100 bytes each.
const KEPT: usize = 8_000;
/// Configurations that are remembered.
const CONFIGURATIONS: usize = 4;

/// The highest position in a tsvector, and how many it has for one word.
const MAX_POSITION: u32 = 16_383;
const MAX_POSITIONS: u32 = 255;

/// One occurrence of a lexeme.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Occurrence {
    word: Word,
    /// Tells lexemes apart that are one word, which accents do not.
    lexeme: u64,
    /// From 1, in its part or in the text.
    position: u32,
}

/// What is between two spaces.
struct Part {
    found: Box<[Occurrence]>,
    /// Positions that it takes.
    positions: u32,
}

/// What is known of a configuration.
#[derive(Default)]
struct Known {
    /// Its parser and dictionaries are of the right kind.
    fits: bool,
    /// In turn the newer fills, and becomes the older; what is asked for comes back.
    newer: HashMap<Box<[u8]>, Part, Seed>,
    older: HashMap<Box<[u8]>, Part, Seed>,
}

/// Makes hashes of short texts that nobody can foresee, faster than the standard ones.
#[derive(Clone)]
struct Seed(u64);

struct Mixed(u64);

impl Default for Seed {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for Seed {
    type Hasher = Mixed;

    fn build_hasher(&self) -> Mixed {
        Mixed(self.0)
    }
}

impl Mixed {
    fn add(&mut self, word: u64) {
        // Both halves of the product, so that every bit reaches every other.
        let product = u128::from(self.0 ^ word) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product as u64) ^ (product >> 64) as u64 ^ self.0.rotate_left(23);
    }
}

impl Hasher for Mixed {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.add(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.add(u64::from_le_bytes(last));
    }

    fn write_usize(&mut self, n: usize) {
        self.add(n as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

thread_local! {
    static KNOWN: RefCell<HashMap<pg_sys::Oid, Known>> = RefCell::default();
    /// Counts changes of configurations and dictionaries.
    static CHANGES: Cell<u64> = const { Cell::new(0) };
    /// The changes that were known of when what is known was.
    static AS_OF: Cell<u64> = const { Cell::new(0) };
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    /// The workspace whose words are remembered: how fast a word is found tells nobody what others store.
    static OF: Cell<Option<Uuid>> = const { Cell::new(None) };
}

#[pg_guard]
extern "C-unwind" fn changed(_argument: pg_sys::Datum, _cache: c_int, _hash: u32) {
    CHANGES.set(CHANGES.get().wrapping_add(1));
}

fn watch() {
    if WATCHED.replace(true) {
        return;
    }
    use pg_sys::SysCacheIdentifier as Of;
    for cache in [
        Of::TSCONFIGMAP,
        Of::TSCONFIGOID,
        Of::TSDICTOID,
        Of::TSPARSEROID,
        Of::TSTEMPLATEOID,
    ] {
        // SAFETY: the function lives as long as the library, which is never unloaded.
        unsafe {
            pg_sys::CacheRegisterSyscacheCallback(
                cache as c_int,
                Some(changed),
                pg_sys::Datum::null(),
            );
        }
    }
}

/// The words of a text with how often each occurs, one after the other and in the order of [`Word`], as
/// [`terms::parse`] gives them for its tsvector; `None` where only PostgreSQL can tell. The second is false when
/// two lexemes are one word, so that their order in a tsvector could matter.
pub fn of(workspace: Uuid, config: pg_sys::Oid, text: &str) -> Option<(Vec<(Word, u32)>, bool)> {
    let odd = text.len() > MAX_TEXT || text.starts_with(['.', '~']) || text.contains('<');
    if odd || config == pg_sys::InvalidOid {
        return None;
    }
    watch();
    // Taken out meanwhile: PostgreSQL may tell of a change at any look-up.
    let mut all = KNOWN.take();
    let others = OF.replace(Some(workspace)) != Some(workspace);
    if AS_OF.replace(CHANGES.get()) != CHANGES.get() || others || all.len() > CONFIGURATIONS {
        all.clear();
    }
    let known = all.entry(config).or_insert_with(|| Known {
        // SAFETY: a look-up that raises an error where there is no such configuration.
        fits: unsafe { fits(config) },
        ..Known::default()
    });
    let found = known.fits.then(|| known.words(config, text)).flatten();
    KNOWN.replace(all);
    found
}

/// Whether a configuration has the default parser, and only dictionaries that look at one token at a time.
unsafe fn fits(config: pg_sys::Oid) -> bool {
    // SAFETY: PostgreSQL's own caches: valid until the next change, and lists as long as they say.
    unsafe {
        let entry = &*pg_sys::lookup_ts_config_cache(config);
        let parser = &*pg_sys::lookup_ts_parser_cache(entry.prsId);
        if parser.tokenOid != pg_sys::Oid::from(pg_sys::F_PRSD_NEXTTOKEN) {
            return false;
        }
        let lists = match usize::try_from(entry.lenmap) {
            Ok(count) if !entry.map.is_null() => std::slice::from_raw_parts(entry.map, count),
            _ => return false,
        };
        lists.iter().filter(|list| list.len > 0).all(|list| {
            let ids = std::slice::from_raw_parts(list.dictIds, list.len.unsigned_abs() as usize);
            ids.iter().all(|id| one_by_one(*id))
        })
    }
}

/// The text search configuration of a name; an error where there is none.
pub fn configuration(name: &str) -> pg_sys::Oid {
    let name = std::ffi::CString::new(name).unwrap_or_default();
    // SAFETY: an input function by a C string.
    unsafe {
        let found = pgrx::direct_function_call_as_datum(
            pg_sys::regconfigin,
            &[Some(pg_sys::Datum::from(name.as_ptr()))],
        );
        found.map_or(pg_sys::InvalidOid, |d| pg_sys::Oid::from(d.value() as u32))
    }
}

/// A text as PostgreSQL's parser is to read it: in tokens that it is soon done with, and without invisible characters. Where
/// the database's LC_CTYPE is C, it takes every character beyond ASCII for a letter, and a word with a quote or a dash
/// beside it for another word.
pub fn parsed(text: &str) -> Cow<'_, str> {
    thread_local! {
        static SIGNS_ARE_LETTERS: OnceCell<bool> = const { OnceCell::new() };
    }
    let text = text::parted(text);
    if text.is_ascii() {
        return text;
    }
    let letters = SIGNS_ARE_LETTERS.with(|known| {
        *known.get_or_init(|| {
            let simple = configuration("pg_catalog.simple");
            // SAFETY: a function of a configuration and a text, which gives a varlena.
            let terms = unsafe {
                pgrx::direct_function_call_as_datum(
                    pg_sys::to_tsvector_byid,
                    &[simple.into_datum(), "a\u{2014}b".into_datum()],
                )
                .and_then(|terms| <&[u8]>::from_datum(terms, false))
            };
            terms.is_some_and(|terms| terms::parse(&lexemes(terms)).count() == 1)
        })
    });
    match text {
        Cow::Borrowed(text) => text::spaced(text, letters),
        Cow::Owned(text) => text::spaced(&text, letters).into_owned().into(),
    }
}

/// The lexemes of a text in the format that [`terms::parse`] reads; nothing is remembered.
pub fn sent(config: pg_sys::Oid, text: &str) -> Vec<u8> {
    let text = &*parsed(text);
    // Only a long text may hold a word that PostgreSQL gives a notice of, or too many of them.
    // SAFETY: functions of a configuration and a text, which give a varlena; the second is found by its name, or raises.
    let terms = unsafe {
        let terms = if text.len() > MAX_PART {
            let name =
                pgrx::direct_function_call::<&CStr>(pg_sys::regconfigout, &[config.into_datum()]);
            let function = pgrx::direct_function_call_as_datum(
                pg_sys::regprocedurein,
                &[c"engram_internal.to_terms(text,text)".into_datum()],
            );
            match (
                name.and_then(|n| n.to_str().ok()?.into_datum()),
                function,
                text.into_datum(),
            ) {
                (Some(name), Some(function), Some(text)) => Some(pg_sys::OidFunctionCall2Coll(
                    pg_sys::Oid::from(function.value() as u32),
                    pg_sys::DEFAULT_COLLATION_OID,
                    name,
                    text,
                )),
                _ => None,
            }
        } else {
            pgrx::direct_function_call_as_datum(
                pg_sys::to_tsvector_byid,
                &[config.into_datum(), text.into_datum()],
            )
        };
        terms.and_then(|terms| <&[u8]>::from_datum(terms, false))
    };
    terms.map(lexemes).unwrap_or_default()
}

/// What is stored of a tsvector, behind its length word, as `tsvectorsend()` gives it to clients whose encoding is the
/// database's own: for others that would convert the lexemes, or refuse to.
pub fn lexemes(stored: &[u8]) -> Vec<u8> {
    const ENTRY: usize = size_of::<pg_sys::WordEntry>();
    let number = |at: usize| Some(u16::from_ne_bytes(*stored.get(at..)?.first_chunk()?));
    let entries = stored
        .first_chunk::<4>()
        .and_then(|size| usize::try_from(i32::from_ne_bytes(*size)).ok())
        .unwrap_or(0);
    let strings = 4 + ENTRY * entries;
    let mut out = Vec::with_capacity(stored.len());
    out.extend((entries as u32).to_be_bytes());
    let mut all = (0..entries).map(|nth| {
        let entry = stored.get(4 + ENTRY * nth..)?.get(..ENTRY)?;
        // SAFETY: the bytes are there, and any are a value of the type.
        let entry = unsafe { entry.as_ptr().cast::<pg_sys::WordEntry>().read_unaligned() };
        let (at, length) = (entry.pos() as usize, entry.len() as usize);
        out.extend(stored.get(strings + at..)?.get(..length)?);
        out.push(0);
        let behind = strings + (at + length).next_multiple_of(2);
        let positions = if entry.haspos() == 0 {
            0
        } else {
            number(behind)?
        };
        out.extend(positions.to_be_bytes());
        for position in 0..usize::from(positions) {
            out.extend(number(behind + 2 + 2 * position)?.to_be_bytes());
        }
        Some(())
    });
    // What is not a tsvector has no lexemes that anybody could find.
    if all.all(|sound| sound.is_some()) {
        out
    } else {
        vec![0; 4]
    }
}

/// Whether a dictionary is of a kind that looks at one token at a time.
fn one_by_one(dictionary: pg_sys::Oid) -> bool {
    use pg_sys::SysCacheIdentifier::{TSDICTOID, TSTEMPLATEOID};
    // The fifth column of each catalog. Nothing is loaded: a file that is missing is nobody's who does not need it.
    const TEMPLATE: i16 = 5;
    const FUNCTION: i16 = 5;
    let function = column(TSDICTOID, dictionary, TEMPLATE)
        .and_then(|template| column(TSTEMPLATEOID, template, FUNCTION));
    // Those that came with the server; that of snowball has no fixed number.
    let Some(function) = function.filter(|f| f.to_u32() < pg_sys::FirstNormalObjectId) else {
        return false;
    };
    let known = [
        c"dsnowball_lexize",
        c"dsimple_lexize",
        c"dispell_lexize",
        c"dsynonym_lexize",
    ];
    // SAFETY: a look-up that gives a fresh C string, or nothing.
    unsafe {
        let name = pg_sys::get_func_name(function);
        !name.is_null() && known.contains(&CStr::from_ptr(name))
    }
}

/// A column of type `oid` of the row of a catalog with this Oid.
fn column(
    cache: pg_sys::SysCacheIdentifier::Type,
    of: pg_sys::Oid,
    number: i16,
) -> Option<pg_sys::Oid> {
    // SAFETY: a look-up in a cache whose key is an Oid; the row is let go of when the value is copied.
    unsafe {
        let row = pg_sys::SearchSysCache1(cache as c_int, pg_sys::Datum::from(of));
        if row.is_null() {
            return None;
        }
        let mut null = false;
        let value = pg_sys::SysCacheGetAttr(cache as c_int, row, number, &raw mut null);
        pg_sys::ReleaseSysCache(row);
        (!null).then(|| pg_sys::Oid::from(value.value() as u32))
    }
}

impl Known {
    fn words(&mut self, config: pg_sys::Oid, text: &str) -> Option<(Vec<(Word, u32)>, bool)> {
        let mut found: Vec<Occurrence> = Vec::with_capacity(text.len() / 5);
        let mut position = 0;
        let mut parser = None;
        let white = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        for part in text.as_bytes().split(white).filter(|part| !part.is_empty()) {
            if part.len() > MAX_PART {
                return None;
            }
            if let Some(known) = self.newer.get(part) {
                known.add(&mut found, &mut position);
                continue;
            }
            let (key, parsed) = match self.older.remove_entry(part) {
                Some(known) => known,
                None => {
                    // SAFETY: the configuration exists.
                    let parser = parser.get_or_insert_with(|| unsafe { Parser::new(config) });
                    (part.into(), parser.part(part, self.newer.hasher()))
                }
            };
            parsed.add(&mut found, &mut position);
            if part.len() <= MAX_KEPT {
                if self.newer.len() >= KEPT {
                    let emptied = HashMap::with_hasher(self.newer.hasher().clone());
                    self.older = std::mem::replace(&mut self.newer, emptied);
                }
                self.newer.insert(key, parsed);
            }
        }
        found.sort_unstable();
        Some(count(&found))
    }
}

impl Part {
    fn add(&self, found: &mut Vec<Occurrence>, position: &mut u32) {
        found.extend(self.found.iter().map(|one| Occurrence {
            position: *position + one.position,
            ..*one
        }));
        *position += self.positions;
    }
}

/// How often each word occurs among occurrences that are sorted. As in a tsvector, two at one position are one,
/// and there is an end to both positions and how many there are.
fn count(found: &[Occurrence]) -> (Vec<(Word, u32)>, bool) {
    let mut words: Vec<(Word, u32)> = Vec::with_capacity(found.len());
    let mut single = true;
    for same in found.chunk_by(|a, b| (a.word, a.lexeme) == (b.word, b.lexeme)) {
        let (mut times, mut last) = (0, 0);
        for one in same {
            let position = one.position.min(MAX_POSITION);
            if times == 0 || (times < MAX_POSITIONS && last != MAX_POSITION && last != position) {
                times += 1;
                last = position;
            }
        }
        match words.last_mut() {
            Some((word, sum)) if *word == same[0].word => {
                *sum += times;
                single = false;
            }
            _ => words.push((same[0].word, times)),
        }
    }
    (words, single)
}

/// PostgreSQL's parser and dictionaries.
struct Parser {
    config: pg_sys::Oid,
    found: pg_sys::ParsedText,
    text: Vec<u8>,
}

impl Parser {
    /// # Safety
    /// Lives no longer than the current memory context.
    unsafe fn new(config: pg_sys::Oid) -> Self {
        const WORDS: usize = 16;
        // SAFETY: so many places, which PostgreSQL makes more where it needs them.
        let words = unsafe { pg_sys::palloc(WORDS * size_of::<pg_sys::ParsedWord>()) };
        Self {
            config,
            found: pg_sys::ParsedText {
                words: words.cast(),
                lenwords: WORDS as i32,
                curwords: 0,
                pos: 0,
            },
            text: Vec::new(),
        }
    }

    fn part(&mut self, part: &[u8], hasher: &Seed) -> Part {
        // What most parts are has one token, whatever the parser does to find it.
        let word = match part {
            [word @ .., b'.' | b',' | b';' | b'!' | b'?'] => word,
            word => word,
        };
        if !word.is_empty()
            && word.iter().all(u8::is_ascii_alphabetic)
            // SAFETY: the configuration exists.
            && let Some(found) = unsafe { self.word(word, hasher) }
        {
            return found;
        }
        self.text.clear();
        self.text.push(b' ');
        self.text.extend(part);
        self.text.push(b' ');
        self.found.curwords = 0;
        self.found.pos = 0;
        // SAFETY: so many bytes of text, and a list that grows; then as many words as it says, each of which has so
        // many bytes and belongs to us.
        unsafe {
            pg_sys::parsetext(
                self.config,
                &raw mut self.found,
                self.text.as_mut_ptr().cast::<c_char>(),
                self.text.len() as c_int,
            );
            let count = usize::try_from(self.found.curwords).unwrap_or(0);
            let words = std::slice::from_raw_parts(self.found.words, count);
            let found = words.iter().map(|word| {
                let lexeme = std::slice::from_raw_parts(word.word.cast::<u8>(), word.len.into());
                let one = Occurrence {
                    word: terms::word(lexeme),
                    lexeme: hasher.hash_one(lexeme),
                    position: word.pos.pos.into(),
                };
                pg_sys::pfree(word.word.cast());
                one
            });
            Part {
                found: found.collect(),
                positions: u32::try_from(self.found.pos).unwrap_or(0),
            }
        }
    }
}

impl Parser {
    /// What the dictionaries make of a token of ASCII letters; `None` where they do more than the usual.
    ///
    /// # Safety
    /// The configuration exists.
    unsafe fn word(&self, word: &[u8], hasher: &Seed) -> Option<Part> {
        /// The parser's number of such tokens.
        const ASCIIWORD: usize = 1;
        let length = i32::try_from(word.len()).ok()?;
        // SAFETY: PostgreSQL's own caches, each read before the next look-up; a dictionary's function takes its data, a
        // text with its length and a place for its state, and gives nothing or a list that ends with a null pointer.
        unsafe {
            let config = &*pg_sys::lookup_ts_config_cache(self.config);
            let mut dictionaries: &[pg_sys::Oid] = &[];
            if usize::try_from(config.lenmap).unwrap_or(0) > ASCIIWORD {
                let list = &*config.map.add(ASCIIWORD);
                if list.len > 0 {
                    let count = usize::try_from(list.len).unwrap_or(0);
                    dictionaries = std::slice::from_raw_parts(list.dictIds, count);
                }
            }
            for id in dictionaries.iter().copied() {
                let dictionary = pg_sys::lookup_ts_dictionary_cache(id);
                let mut state = pg_sys::DictSubState::default();
                let made = pg_sys::FunctionCall4Coll(
                    &raw mut (*dictionary).lexize,
                    pg_sys::InvalidOid,
                    pg_sys::Datum::from((*dictionary).dictData),
                    pg_sys::Datum::from(word.as_ptr()),
                    length.into(),
                    pg_sys::Datum::from(&raw mut state),
                );
                let made = made.cast_mut_ptr::<pg_sys::TSLexeme>();
                if state.getnext {
                    return None;
                }
                if made.is_null() {
                    continue;
                }
                let mut found = Vec::new();
                let mut next = made;
                while !(*next).lexeme.is_null() {
                    if u32::from((*next).flags) & (pg_sys::TSL_FILTER | pg_sys::TSL_ADDPOS) != 0 {
                        return None;
                    }
                    let lexeme = CStr::from_ptr((*next).lexeme).to_bytes();
                    found.push(Occurrence {
                        word: terms::word(lexeme),
                        lexeme: hasher.hash_one(lexeme),
                        position: 1,
                    });
                    pg_sys::pfree((*next).lexeme.cast());
                    next = next.add(1);
                }
                pg_sys::pfree(made.cast());
                return Some(Part {
                    found: found.into(),
                    positions: 1,
                });
            }
        }
        Some(Part {
            found: Box::default(),
            positions: 0,
        })
    }
}

impl Drop for Parser {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` or grown by PostgreSQL. After an error it goes with its memory context.
        unsafe {
            if !std::thread::panicking() {
                pg_sys::pfree(self.found.words.cast());
            }
        }
    }
}
