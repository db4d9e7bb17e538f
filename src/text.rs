//! What is compared, indexed and keyed of a memory's text.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// True when `content` has no visible character.
pub fn is_blank(content: &str) -> bool {
    content.chars().all(|c| {
        c.is_whitespace()
            || c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
    })
}

/// Lower case, white space folded to single blanks and trimmed. Two contents with the same result
/// are the same memory to `on_duplicate`.
pub fn normalize_content(content: &str) -> String {
    let mut out = String::with_capacity(content.len());
    if content.is_ascii() {
        // The same for the letters that most texts have.
        let white = |c: char| matches!(c, ' ' | '\t'..='\r');
        for word in content.split(white).filter(|word| !word.is_empty()) {
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(word);
        }
        out.make_ascii_lowercase();
        return out;
    }
    for word in content.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        push_lowercase(&mut out, word);
    }
    out
}

/// Appends a word in lower case, letter by letter.
pub fn push_lowercase(out: &mut String, word: &str) {
    if word.is_ascii() {
        let from = out.len();
        out.push_str(word);
        out[from..].make_ascii_lowercase();
    } else {
        out.extend(word.chars().flat_map(char::to_lowercase));
    }
}

/// The key of an entity's name: [`normalize_content`] without punctuation at the ends. Signs that belong to a
/// name stay: plus and number signs behind it ("C++", "F#"), a single dot before it (".NET"). Empty when it has
/// no letter or digit.
pub fn entity_node(name: &str) -> String {
    let name = normalize_content(name);
    let core = name.trim_start_matches(|c: char| !c.is_alphanumeric());
    let start = name.len() - core.len();
    let core = core.trim_end_matches(|c: char| !c.is_alphanumeric());
    if core.is_empty() {
        return String::new();
    }
    let (before, after) = (&name[..start], &name[start + core.len()..]);
    let dot = usize::from(before.ends_with('.') && !before.ends_with(".."));
    let signs = after.bytes().take_while(|b| b"+#".contains(b)).count();
    name[start - dot..start + core.len() + signs].to_owned()
}

/// Who speaks: the speaker that is given, or the name before a colon that begins the content.
/// "Ann Lee: I like tea" is spoken by Ann Lee; "Note: buy tea" by Note, which no question names.
pub fn speaker<'a>(content: &'a str, speaker: Option<&'a str>) -> Option<&'a str> {
    if let Some(speaker) = speaker.filter(|s| !s.trim().is_empty()) {
        return Some(speaker);
    }
    let (name, _) = content.split_once(':')?;
    let words = name.split(' ');
    let capital = |w: &str| {
        w.chars().next().is_some_and(char::is_uppercase)
            && w.chars().all(|c| c.is_alphanumeric() || "'’.-".contains(c))
    };
    (name.len() <= 60 && words.clone().count() <= 3 && words.clone().all(capital)).then_some(name)
}

/// True when the text ends with a question mark.
pub fn is_question(content: &str) -> bool {
    content.trim_end().ends_with(['?', '？', '؟'])
}

/// A calendar date, already converted to UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// Year; negative before Christ.
    pub year: i32,
    /// 1..=12
    pub month: u8,
    /// 1..=31
    pub day: u8,
}

impl Date {
    /// Of a day.
    pub const MICROSECONDS: i64 = 86_400_000_000;

    /// From PostgreSQL's microseconds since 2000-01-01 00:00 UTC; `None` for the infinities.
    /// Gregorian calendar, by counting 400-year eras from 1 March of year 0.
    pub fn from_postgres(micros: i64) -> Option<Self> {
        if micros == i64::MAX || micros == i64::MIN {
            return None;
        }
        // Days since 0000-03-01: 2000-03-01 begins an era and comes 60 days after 2000-01-01.
        let days = micros.div_euclid(Self::MICROSECONDS) - 60 + 5 * 146_097;
        let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        Some(Self {
            year: i32::try_from(year).ok()?,
            month: u8::try_from(month).ok()?,
            day: u8::try_from(day).ok()?,
        })
    }
}

/// A lexeme without accents: combining marks of the Latin, Greek and Cyrillic scripts are dropped,
/// so that "café" and "cafe" are one word, and so are full-width and ordinary letters.
pub fn fold(lexeme: &str) -> Cow<'_, str> {
    if lexeme.is_ascii() {
        return Cow::Borrowed(lexeme);
    }
    Cow::Owned(
        lexeme
            .nfkd()
            // A database with locale C leaves capitals outside of ASCII as they are.
            .flat_map(char::to_lowercase)
            .filter(|c| !is_accent(*c))
            .nfc()
            .collect(),
    )
}

/// A word as who has no such letters writes it: [`fold`], and letters that are no others with an accent as
/// PostgreSQL's `unaccent` has them: "straße" is "strasse", "łódź" "lodz", "søren" "soren".
pub fn latin(word: &str) -> Cow<'_, str> {
    let folded = fold(word);
    if folded.is_ascii() {
        return folded;
    }
    let mut out = String::with_capacity(folded.len());
    for c in folded.chars() {
        match c {
            'ß' => out.push_str("ss"),
            'æ' => out.push_str("ae"),
            'œ' => out.push_str("oe"),
            'þ' => out.push_str("th"),
            'ø' => out.push('o'),
            'ł' => out.push('l'),
            'đ' | 'ð' => out.push('d'),
            'ħ' => out.push('h'),
            'ŧ' => out.push('t'),
            'ı' => out.push('i'),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// A picture among the characters. What changes another's colour or gender is none.
fn is_emoji(c: char) -> bool {
    matches!(c, '\u{231a}'..='\u{23ff}' | '\u{2600}'..='\u{27bf}' | '\u{2b05}'..='\u{2b55}' | '\u{1f000}'..='\u{1faff}')
        && !matches!(c, '\u{2640}' | '\u{2642}' | '\u{1f3fb}'..='\u{1f3ff}')
}

/// Two of these are a flag.
fn is_half_a_flag(c: char) -> bool {
    matches!(c, '\u{1f1e6}'..='\u{1f1ff}')
}

/// An emoji as a word that PostgreSQL's parser takes for one, which it takes none of them for. Stored, so never to be
/// changed.
fn emoji_word(c: char) -> String {
    format!("u{:x}", u32::from(c))
}

/// A lexeme as it is shown: an emoji as itself.
pub fn shown(lexeme: &str) -> Cow<'_, str> {
    let emoji = |hex| char::from_u32(u32::from_str_radix(hex, 16).ok()?).filter(|c| is_emoji(*c));
    let all = (lexeme.strip_prefix('u')).and_then(|all| all.split('u').map(emoji).collect());
    all.map_or(Cow::Borrowed(lexeme), Cow::Owned)
}

/// A sign that is put on the letter before it.
fn is_accent(c: char) -> bool {
    ('\u{300}'..='\u{36f}').contains(&c)
}

/// Written without spaces between words, or with particles attached to them.
fn unspaced(c: char) -> bool {
    matches!(c,
        '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' // Thai, Lao, Burmese, Khmer
        | '\u{3041}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' // Kana
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}' // Han
        | '\u{ac00}'..='\u{d7a3}') // Hangul
}

/// A sign that is not ASCII and never stands within a word.
fn sign(c: char) -> bool {
    !c.is_ascii() && !c.is_alphanumeric() && !is_combining_mark(c) && !invisible(c)
}

/// Soft hyphens, joiners and marks of direction, which stand within words.
fn invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
}

/// A text without invisible characters, which would make other words of those that they stand in or beside. One of
/// them is a blank of no width. With `signs`, blanks are in the place of signs that are not ASCII as well: quotes, dashes,
/// bullets, currencies, emoji.
pub fn spaced(text: &str, signs: bool) -> Cow<'_, str> {
    let blank = |c: char| c == '\u{200b}' || signs && sign(c);
    if text.is_ascii() || !text.contains(|c| invisible(c) || blank(c)) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if blank(c) {
            out.push(' ');
        } else if !invisible(c) {
            out.push(c);
        }
    }
    out.into()
}

/// Signs of one token, in [`parted`]. No name of anything has so many.
const MOST_SIGNS: usize = 32;

/// A text with blanks in tokens that have very many signs behind which PostgreSQL's parser reads on, for a host, a file or
/// an address, only to come back: what it does grows with the square of how many they are, to an hour for a token that
/// is as long as a memory may be. It ends words at these signs as well. So too behind what begins a comment that has no
/// end, which the parser does not take for one either once it has read everything.
pub fn parted(text: &str) -> Cow<'_, str> {
    let (mut signs, mut before, mut from) = (0, b' ', 0);
    let mut out = String::new();
    let closed = if text.contains("<!--") {
        text.rfind("-->").unwrap_or(0)
    } else {
        text.len()
    };
    for (at, c) in text.bytes().enumerate() {
        signs += match c {
            b'@' => 4,
            b'_' => 1,
            b'/' if matches!(before, b'.' | b'~') => 1,
            b'.' | b'~' if before == b'/' => 1,
            _ => 0,
        };
        if c == b'!' && before == b'<' && at > closed && text[at..].starts_with("!--") {
            out.push_str(&text[from..at]);
            out.push(' ');
            from = at;
        }
        before = c;
        if c.is_ascii_whitespace() {
            signs = 0;
        } else if signs >= MOST_SIGNS {
            // Behind a sign, which is one byte.
            out.push_str(&text[from..=at]);
            out.push(' ');
            (signs, from) = (0, at + 1);
        }
    }
    if from == 0 {
        return text.into();
    }
    out.push_str(&text[from..]);
    out.into()
}

/// A phrase as the phrases that have to occur for it: where words are written without spaces, pairs of neighbouring
/// characters, as [`extra`] has them, one behind the other; and what is beside those.
pub fn parts_of_phrase(phrase: &str) -> Vec<String> {
    let (mut parts, mut rest) = (Vec::new(), String::with_capacity(phrase.len()));
    for token in phrase.split_inclusive(char::is_whitespace) {
        let chars: Vec<char> = token.chars().collect();
        let mixed = chars.iter().any(|c| c.is_alphanumeric() && !unspaced(*c));
        for run in chars.chunk_by(|a, b| unspaced(*a) == unspaced(*b)) {
            if unspaced(run[0]) && run.len() > 1 {
                let pairs: Vec<String> = run.windows(2).map(String::from_iter).collect();
                parts.push(pairs.join(" "));
                rest.push(' ');
            } else if unspaced(run[0]) && mixed {
                // Beside others it is found by itself only where it is alone among them.
                rest.push(' ');
            } else {
                rest.extend(run);
            }
        }
    }
    if parts.is_empty() || rest.contains(char::is_alphanumeric) {
        parts.push(rest);
    }
    parts
}

/// Words that a text search configuration does not find in `text`, separated by blanks; `None` when
/// there are none. Pairs of neighbouring characters where words are written without spaces, and what stands among
/// those ("iPhoneを", "2024年"), words without their
/// accents (which a stemmer takes for other words), the parts of identifiers (getUserName, api.v2/users, x86_64),
/// numbers that PostgreSQL's parser cuts or signs (1,000,000 and the end of 2019-2021), what numbers with dots begin
/// with (192.168 of 192.168.1.20), emoji, and dates in digits as the indexed text spells them.
pub fn extra(text: &str) -> Option<String> {
    more(text, true)
}

/// As [`extra`], of a query: who asks for 192.168.1.20 does not ask for whatever else begins with 192.168.
pub fn extra_asked(text: &str) -> Option<String> {
    more(text, false)
}

/// `beginnings`: also those of numbers with dots.
fn more(text: &str, beginnings: bool) -> Option<String> {
    let mut out = String::new();
    let mut push = |word: &str| {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    };
    for token in text.split(char::is_whitespace) {
        if is_plain(token.as_bytes()) {
            continue;
        }
        if token.is_ascii() {
            if let Some(date) = numeric_date(token) {
                push(&date);
            } else {
                parts_of_identifier(token, &mut push);
                if beginnings {
                    beginnings_of_numbers(token, &mut push);
                }
            }
        } else {
            for word in token.split(|c: char| !c.is_alphanumeric() && !is_accent(c)) {
                let folded = latin(word);
                if !word.is_ascii() && folded.bytes().all(|c| c.is_ascii_alphabetic()) {
                    push(&folded);
                }
            }
            if token.contains(unspaced) {
                let pieces = token.split(|c| unspaced(c) || sign(c) || invisible(c));
                for piece in pieces.filter(|piece| piece.contains(char::is_alphanumeric)) {
                    push(piece);
                    if let Some(parts) = piece.is_ascii().then(|| more(piece, beginnings)).flatten()
                    {
                        push(&parts);
                    }
                }
            }
            let chars: Vec<char> = token.chars().collect();
            let mut emoji = chars.iter().filter(|c| is_emoji(**c)).peekable();
            while let Some(c) = emoji.next() {
                let half = emoji.next_if(|next| is_half_a_flag(*c) && is_half_a_flag(**next));
                push(&(emoji_word(*c) + &half.map_or(String::new(), |c| emoji_word(*c))));
            }
            for run in chars.chunk_by(|a, b| unspaced(*a) && unspaced(*b)) {
                for pair in run.windows(2) {
                    push(&pair.iter().collect::<String>());
                }
                // A character among others would be lost in the word around it.
                if run.len() == 1 && chars.len() > 1 && unspaced(run[0]) {
                    push(&run[0].to_string());
                }
            }
        }
    }
    (!out.is_empty()).then_some(out)
}

/// The tokens of a text of which several words may be found though they are one thing to whoever writes them
/// (identifiers, compounds, numbers, words with accents), and what is left of the text without them. Brackets and
/// quotes part tokens, and so do commas that are not between digits. Where words are written without spaces, a token
/// is no one thing.
pub fn compounds(text: &str) -> (Vec<&str>, String) {
    let (mut found, mut rest) = (Vec::new(), String::with_capacity(text.len()));
    for token in text.split(char::is_whitespace) {
        // Of whom something is, is one word.
        let end = token.trim_end_matches(|c: char| !c.is_alphanumeric());
        let owner = end.strip_suffix("'s").or_else(|| end.strip_suffix("’s"));
        if is_plain(owner.unwrap_or(token).as_bytes()) {
            rest.extend([" ", token]);
            continue;
        }
        let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
        let parts = |(at, c): (usize, char)| match c {
            '(' | ')' | '[' | ']' | '{' | '}' | '<' | '>' | '"' | ';' | '|' => true,
            ',' => {
                !(digit(token[..at].chars().next_back()) && digit(token[at + 1..].chars().next()))
            }
            _ => sign(c),
        };
        let mut start = 0;
        let ends = token.char_indices().filter(|i| parts(*i));
        for (end, next) in ends
            .map(|(at, c)| (at, at + c.len_utf8()))
            .chain([(token.len(), token.len())])
        {
            let piece = &token[start..end];
            start = next;
            if is_plain(piece.as_bytes()) || piece.contains(unspaced) {
                rest.extend([" ", piece]);
            } else if piece.contains(char::is_alphanumeric) {
                found.push(piece);
            }
        }
    }
    (found, rest)
}

/// A number as it may be written.
#[derive(Debug, PartialEq, Eq)]
pub struct Number {
    /// All its spellings, where it has decimals.
    pub spellings: Vec<String>,
    /// There are signs between its thousands, so that it is no list of numbers.
    pub grouped: bool,
}

/// A number of at least four digits that has decimals ("1250.50", "1,250.50", and the German way "1250,50",
/// "1.250,50") or commas between its thousands ("1,250"). `None` for other tokens, such as lists ("1,2,3"), and for
/// what is a word as it is ("1250", which [`extra`] finds in "1,250").
pub fn number(token: &str) -> Option<Number> {
    let token = token.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|c| c.is_ascii_digit());
    // The digits before the decimals; between thousands there may be this sign.
    let whole = |s: &str, sign: char| -> Option<String> {
        let mut groups = s.split(sign);
        let first = groups.next().filter(|g| digits(g))?;
        let rest: Vec<&str> = groups.collect();
        let grouped = first.len() <= 3 && rest.iter().all(|g| g.len() == 3 && digits(g));
        let number = [first, &rest.concat()].concat();
        ((rest.is_empty() || grouped) && number.len() > 3).then_some(number)
    };
    let thousands = |number: &str, sign: char| {
        let mut out = String::with_capacity(number.len() * 4 / 3);
        for (nth, digit) in number.chars().enumerate() {
            if nth > 0 && (number.len() - nth).is_multiple_of(3) {
                out.push(sign);
            }
            out.push(digit);
        }
        out
    };
    for (point, comma) in [('.', ','), (',', '.')] {
        if let Some((before, decimals)) = token.rsplit_once(point)
            && digits(decimals)
            && let Some(number) = whole(before, comma)
            // "1250,500" may as well be two numbers, and "1,250,500" is one.
            && !(point == ',' && decimals.len() == 3)
        {
            return Some(Number {
                spellings: vec![
                    format!("{number}.{decimals}"),
                    format!("{}.{decimals}", thousands(&number, ',')),
                    format!("{number},{decimals}"),
                    format!("{},{decimals}", thousands(&number, '.')),
                ],
                grouped: before.contains(comma),
            });
        }
    }
    (token.contains(',') && whole(token, ',').is_some()).then(|| Number {
        spellings: Vec::new(),
        grouped: true,
    })
}

/// Whether a token is a word of small letters, or the first a capital one, perhaps between signs: it has no parts and
/// is no date.
fn is_plain(token: &[u8]) -> bool {
    let letter = u8::is_ascii_alphanumeric;
    let Some(first) = token.iter().position(letter) else {
        return token.is_ascii();
    };
    let rest = &token[first + 1..];
    let end = rest
        .iter()
        .position(|c| !c.is_ascii_lowercase())
        .unwrap_or(rest.len());
    let sign = |c: &u8| c.is_ascii() && !letter(c);
    token[first].is_ascii_alphabetic() && token[..first].is_ascii() && rest[end..].iter().all(sign)
}

/// "2023-05-08" or "2023/05/08", alone or before a "T", as "8 May 2023", and so "14/03/1988", "14.03.1988" and "03/14/1988".
/// Where either of two numbers may be the month, as in "3/5/2024", all three as they are.
fn numeric_date(token: &str) -> Option<String> {
    let token = token.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let day = token.split_once('T').map_or(token, |(day, _)| day);
    let mut numbers = day.split(['-', '/', '.']);
    let parts = [numbers.next()?, numbers.next()?, numbers.next()?];
    let digits = |part: &str| part.len() <= 4 && part.bytes().all(|c| c.is_ascii_digit());
    if numbers.next().is_some() || !parts.iter().all(|part| digits(part)) {
        return None;
    }
    let [a, b, c]: [u16; 3] = [
        parts[0].parse().ok()?,
        parts[1].parse().ok()?,
        parts[2].parse().ok()?,
    ];
    let spelt = |date: u16, month: u16, year: u16| {
        let name = MONTHS.get(usize::from(month).wrapping_sub(1))?;
        (1..=31)
            .contains(&date)
            .then(|| format!("{date} {name} {year}"))
    };
    match parts.map(str::len) {
        [4, 1..=2, 1..=2] => spelt(c, b, a),
        [1..=2, 1..=2, 4] if a > 12 || a == b => spelt(a, b, c),
        [1..=2, 1..=2, 4] if b > 12 => spelt(b, a, c),
        [1..=2, 1..=2, 4] if a > 0 && b > 0 => Some(format!("{a} {b} {c}")),
        _ => None,
    }
}

fn parts_of_identifier(token: &str, push: &mut impl FnMut(&str)) {
    let token = token.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let kind = |c: u8| match c {
        b'a'..=b'z' => 0,
        b'A'..=b'Z' => 1,
        b'0'..=b'9' => 2,
        _ => 3,
    };
    if !token.bytes().any(|c| c.is_ascii_alphabetic()) {
        numbers(token, push);
        return;
    }
    let bytes = token.as_bytes();
    let mut starts = vec![0];
    for i in 1..bytes.len() {
        let (a, b) = (kind(bytes[i - 1]), kind(bytes[i]));
        // "HTTPServer" is HTTP and Server; "UUIDs" are several.
        let plural =
            bytes.get(i + 1) == Some(&b's') && bytes.get(i + 2).is_none_or(|c| kind(*c) != 0);
        let acronym_ends =
            a == 1 && b == 1 && !plural && bytes.get(i + 1).is_some_and(|c| kind(*c) == 0);
        if (a != b && !(a == 1 && b == 0)) || (acronym_ends && i > 1) {
            starts.push(i);
        }
    }
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    let parts: Vec<&str> = starts
        .iter()
        .zip(ends)
        .map(|(a, b)| &token[*a..b])
        .filter(|p| p.bytes().all(|c| c.is_ascii_alphanumeric()))
        .collect();
    if parts.len() > 1 {
        for part in parts {
            push(part);
        }
    }
    // "v1.2.3" is version 1.2.3 too.
    for run in token.split(|c: char| !c.is_ascii_digit() && c != '.') {
        let run = run.trim_matches('.');
        if run.contains('.') && run.len() < token.len() {
            push(run);
        }
    }
}

/// Of addresses and versions (192.168.1.20, v1.2.3) the networks and the lines that they belong to: what they begin
/// with, up to any dot but the first.
fn beginnings_of_numbers(token: &str, push: &mut impl FnMut(&str)) {
    for run in token.split(|c: char| !c.is_ascii_digit() && c != '.') {
        let run = run.trim_matches('.');
        // Nobody counts on in a longer one, such as a table of contents.
        if run.contains("..") || run.len() > 40 {
            continue;
        }
        for (end, _) in run.match_indices('.').skip(1) {
            push(&run[..end]);
        }
    }
}

/// Of a token without letters: what the parser takes for a negative number ("2019-2021") as it is, and one number
/// in place of several ("1,000,000"). Others, such as 3.14, are whole as they are.
fn numbers(token: &str, push: &mut impl FnMut(&str)) {
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|c| c.is_ascii_digit());
    for (nth, part) in token.split('-').enumerate() {
        if nth > 0 && digits(part) {
            push(part);
        }
        let mut groups = part.split(',');
        let first = groups.next().unwrap_or("");
        let rest: Vec<&str> = groups.collect();
        if let Some((last, middle)) = rest.split_last() {
            let last = last.split('.').next().unwrap_or("");
            if first.len() <= 3
                && digits(first)
                && middle
                    .iter()
                    .chain([&last])
                    .all(|g| g.len() == 3 && digits(g))
            {
                push(&[first, &middle.concat(), last].concat());
            }
        }
    }
}

impl Date {
    /// The inverse of [`Self::days`]; `None` where the year is beyond 32 bits.
    pub fn from_days(days: i64) -> Option<Self> {
        Self::from_postgres(days.checked_mul(Self::MICROSECONDS)?)
    }

    /// Days since 2000-01-01.
    pub fn days(self) -> i64 {
        let (month, year) = (i64::from(self.month), i64::from(self.year));
        let (year, month) = if month > 2 {
            (year, month - 3)
        } else {
            (year - 1, month + 9)
        };
        let of_era = year.rem_euclid(400);
        let of_year = (153 * month + 2) / 5 + i64::from(self.day) - 1;
        year.div_euclid(400) * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year + 60
            - 5 * 146_097
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Bytes of composed text that are indexed. PostgreSQL limits a tsvector to 1 MB of lexemes and
/// positions; a text of this size stays below it whatever its words are.
pub const MAX_INDEXED_BYTES: usize = 200_000;

/// `[8 May 2023] Speaker: content`. A speaker who already leads the content is not repeated.
fn led(content: &str, speaker: Option<&str>, date: Option<Date>) -> String {
    let mut out = String::with_capacity(content.len() + 40);
    if let Some(Date { year, month, day }) = date
        && let Some(name) = MONTHS.get(usize::from(month).wrapping_sub(1))
    {
        out.push_str(&format!("[{day} {name} {year}] "));
    }
    if let Some(speaker) = speaker.filter(|s| !s.is_empty()) {
        let led = content
            .strip_prefix(speaker)
            .is_some_and(|rest| rest.starts_with(':'));
        if !led {
            out.push_str(speaker);
            out.push_str(": ");
        }
    }
    out.push_str(content);
    out
}

/// A memory as one line of a prompt: `- [8 May 2023] Speaker: content`. Line breaks become blanks, so
/// that no content can look like several memories.
pub fn prompt_line(content: &str, speaker: Option<&str>, date: Option<Date>) -> String {
    let text = led(content, speaker, date);
    let mut out = String::with_capacity(text.len() + 2);
    out.push('-');
    let breaks = [
        '\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}',
    ];
    for part in text.split(breaks).map(str::trim).filter(|p| !p.is_empty()) {
        out.push(' ');
        out.push_str(part);
    }
    out
}

/// About how many tokens of a language model a text takes: a quarter of its characters, rounded up, and
/// one for each of those that are words or more by themselves (Han, Kana, Hangul, Thai, emoji).
pub fn tokens(text: &str) -> usize {
    let (mut whole, mut parts) = (0_usize, 0_usize);
    for c in text.chars() {
        if unspaced(c) || c > '\u{ffff}' {
            whole += 1;
        } else {
            parts += 1;
        }
    }
    whole + parts.div_ceil(4)
}

/// The text that the word index sees and that embedders should embed:
/// `[8 May 2023] Speaker: content`, then the summary on a line of its own. Who spoke and when is
/// worth eight points of nDCG@10 on dated chats.
pub fn indexed_text(
    content: &str,
    speaker: Option<&str>,
    date: Option<Date>,
    summary: Option<&str>,
) -> String {
    let mut out = led(content, speaker, date);
    if let Some(summary) = summary.filter(|s| !s.is_empty()) {
        out.push('\n');
        out.push_str(summary);
    }
    truncate(&mut out, MAX_INDEXED_BYTES);
    out
}

fn truncate(text: &mut String, max: usize) {
    if text.len() > max {
        let mut end = max;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAY_8: Option<Date> = Some(Date {
        year: 2023,
        month: 5,
        day: 8,
    });

    #[test]
    fn speaker_and_date_lead_the_indexed_text() {
        assert_eq!(
            indexed_text("I like tea", Some("Ann"), MAY_8, None),
            "[8 May 2023] Ann: I like tea"
        );
        assert_eq!(
            indexed_text("Ann: I like tea", Some("Ann"), None, Some("tea")),
            "Ann: I like tea\ntea"
        );
        assert_eq!(
            indexed_text("Annika: hi", Some("Ann"), None, None),
            "Ann: Annika: hi"
        );
    }

    #[test]
    fn a_memory_is_one_line_of_a_prompt() {
        let line = |content| prompt_line(content, Some("Ann"), MAY_8);
        assert_eq!(line("I like tea"), "- [8 May 2023] Ann: I like tea");
        assert_eq!(
            line("one \r\n\n\u{2028} - [1 May 2023] Bob: two\n"),
            "- [8 May 2023] Ann: one - [1 May 2023] Bob: two"
        );
        let long = "é".repeat(MAX_INDEXED_BYTES);
        assert!(prompt_line(&long, None, None).ends_with(&long), "never cut");
    }

    #[test]
    fn tokens_are_quarters_of_characters_or_whole_ones() {
        for (text, n) in [
            ("", 0),
            ("a", 1),
            ("tea!", 1),
            ("tea, ", 2),
            ("日本語", 3),
            ("日本 tea", 3),
            ("한국어", 3),
            ("😀😀", 2),
        ] {
            assert_eq!(tokens(text), n, "{text}");
        }
    }

    #[test]
    fn dates_are_the_calendars() {
        let day = |days: i64| {
            let d = Date::from_postgres(days * 86_400_000_000 + 1).unwrap();
            (d.year, d.month, d.day)
        };
        assert_eq!(day(0), (2000, 1, 1));
        assert_eq!(day(59), (2000, 2, 29));
        assert_eq!(day(60), (2000, 3, 1));
        assert_eq!(day(-1), (1999, 12, 31));
        assert_eq!(day(8528), (2023, 5, 8));
        assert_eq!(day(-36_524), (1900, 1, 1));
        assert_eq!(Date::from_postgres(i64::MAX), None);
        for days in (-800_000..800_000).step_by(97) {
            assert_eq!(
                Date::from_postgres(days * 86_400_000_000).unwrap().days(),
                days
            );
        }
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let long = "é".repeat(MAX_INDEXED_BYTES);
        let cut = indexed_text(&long, Some("x"), None, None);
        assert!(cut.len() <= MAX_INDEXED_BYTES && cut.len() >= MAX_INDEXED_BYTES - 1);
    }

    #[test]
    fn speakers_are_given_or_lead() {
        assert_eq!(speaker("I like tea", Some("Ann")), Some("Ann"));
        assert_eq!(speaker("Ann Lee: I like tea", None), Some("Ann Lee"));
        assert_eq!(speaker("Ann Lee: I like tea", Some(" ")), Some("Ann Lee"));
        assert_eq!(speaker("at 10:30", None), None);
        assert_eq!(speaker("https://example.org", None), None);
        assert_eq!(speaker("Éva: szia", None), Some("Éva"));
    }

    #[test]
    fn accents_do_not_count() {
        for (a, b) in [
            ("café", "cafe"),
            ("Übung", "ubung"),
            ("cafÉ", "cafe"),
            ("ａｂｃ", "abc"),
            ("ёлка", "елка"),
            ("が", "が"),
            ("한국", "한국"),
        ] {
            assert_eq!(fold(a), b);
        }
    }

    #[test]
    fn what_no_configuration_finds_is_spelt_out() {
        let e = |text| extra(text).unwrap_or_default();
        assert_eq!(
            e("Ann likes tea, doesn't she? 3.14 1,000 HTTP (ok)."),
            "doesn t 1000"
        );
        assert_eq!(
            e("In 2019-2021 v1.2.3 cost $1,234,567.80, see 12-14 and 555-1234; 1,2 1,00 1.2.3"),
            "2021 v 1 2 3 1.2.3 1.2 1234567 14 1234 1.2"
        );
        assert_eq!(e("call getUserName()"), "get User Name");
        assert_eq!(e("parseHTTPResponse x86_64"), "parse HTTP Response x 86 64");
        assert_eq!(extra("APIs with UUIDs"), None);
        assert_eq!(e("UUIDsOnly HTTPSet"), "UUIDs Only HTTP Set");
        assert_eq!(e("src/api/v2.rs"), "src api v 2 rs");
        assert_eq!(
            e("on 2023-05-08, at 2023-05-08T10:00:00Z"),
            "8 May 2023 8 May 2023"
        );
        assert_eq!(e("2023-13-08"), "13 08");
        assert_eq!(
            e("14/03/1988, 14.3.1988 (3-14-1988) 05.05.2024"),
            "14 March 1988 14 March 1988 14 March 1988 5 May 2024"
        );
        assert_eq!(
            e("on 3/5/2024 at 10.0.2024 or 1.2.3 or 40/50/2024"),
            "3 5 2024 10.0 1.2"
        );
        assert_eq!(e("at 192.168.1.20:80, 3.14..."), "192.168 192.168.1");
        assert_eq!(extra_asked("192.168.1.20"), None);
        assert_eq!(e("Łódź, Straße, Søren"), "lodz strasse soren");
        assert_eq!(e("Launch🚀 ❤️👍🏽"), "u1f680 u2764 u1f44d");
        assert_eq!(e("🇩🇪🇩🇰!🇩"), "u1f1e9u1f1ea u1f1e9u1f1f0 u1f1e9");
        assert_eq!(
            ["🚀", "🇩🇪"].map(|c| shown(&e(c)).into_owned()),
            ["🚀", "🇩🇪"]
        );
        assert_eq!(
            ["u", "u2", "upper", "u2019"].map(shown),
            ["u", "u2", "upper", "u2019"]
        );
        assert_eq!(e("Her résumé, l'été, cafe\u{301}s"), "resume ete cafes");
        assert_eq!(e("東京都へ行く"), "東京 京都 都へ へ行 行く");
        assert_eq!(e("我爱tea"), "tea 我爱");
        assert_eq!(e("A列"), "A 列");
        assert_eq!(
            e("2024年に「getUserNameを」"),
            "2024 getUserName get User Name 年に を"
        );
        assert_eq!(extra("plain words only"), None);
    }

    #[test]
    fn signs_leave_nothing_behind() {
        let words = |text: &str| {
            spaced(text, true)
                .split(' ')
                .filter(|w| !w.is_empty())
                .count()
        };
        assert_eq!(words("❤️ 👩‍💻 “so\u{ad}ft”—tea 🏳️‍🌈"), 2);
        assert_eq!(
            spaced("so\u{ad}ft \u{200f}\u{5e9}\u{200e}", true),
            "soft \u{5e9}"
        );
        assert_eq!(spaced("one\u{200b}two—", false), "one two—");
    }

    #[test]
    fn tokens_of_very_many_signs_are_parted() {
        for sign in ["_", "@", "/.", "~/"] {
            let token = format!("a{sign}").repeat(1000);
            let parted = parted(&token);
            assert!(
                parted
                    .split(' ')
                    .all(|t| t.matches(sign).count() <= MOST_SIGNS)
            );
            assert_eq!(parted.replace(' ', ""), token);
        }
        assert_eq!(
            parted("<!-- a --> <!--b <!-- é"),
            "<!-- a --> < !--b < !-- é"
        );
        for text in [
            "a_b ".repeat(1000),
            "<!-- a <!-- b -->".to_owned(),
            format!("é{}", "a-b/".repeat(1000)),
            "_".repeat(31),
        ] {
            assert!(matches!(parted(&text), Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn a_phrase_of_characters_is_one_of_pairs() {
        for (phrase, parts) in [
            ("New York", &["New York"][..]),
            ("猫", &["猫"]),
            ("東京", &["東京"]),
            ("は東京で", &["は東 東京 京で"]),
            ("東京、京都", &["東京", "京都"]),
            ("iPhoneを 買う", &["買う", "iPhone   "]),
        ] {
            assert_eq!(parts_of_phrase(phrase), parts, "{phrase}");
        }
    }

    #[test]
    fn tokens_of_several_words_are_told_from_words() {
        let (found, rest) = compounds(
            "How does (getUserName,is_it) differ from résumé-v1, 1,250.50 or 日本語? x;a_b 🚀",
        );
        assert_eq!(
            found,
            ["getUserName", "is_it", "résumé-v1", "1,250.50", "a_b"]
        );
        assert_eq!(
            rest.split_whitespace().collect::<Vec<_>>(),
            ["How", "does", "differ", "from", "or", "日本語?", "x"]
        );
        assert_eq!(
            compounds("plain words, only (here), Ann's (Bob’s)!").0,
            Vec::<&str>::new()
        );
    }

    #[test]
    fn a_number_is_one_however_its_thousands_are_parted() {
        let spelt = |token| number(token).map(|n| (n.spellings.join(" "), n.grouped));
        let all = "1250.50 1,250.50 1250,50 1.250,50".to_owned();
        for (token, grouped) in [
            ("1250.50", false),
            ("$1,250.50,", true),
            ("1250,50", false),
            ("1.250,50", true),
        ] {
            assert_eq!(spelt(token), Some((all.clone(), grouped)), "{token}");
        }
        assert_eq!(spelt("1,250,000"), Some((String::new(), true)));
        assert_eq!(
            spelt("1234567.8").unwrap().0,
            "1234567.8 1,234,567.8 1234567,8 1.234.567,8"
        );
        for other in [
            "1250",
            "3.14",
            "3,14",
            "1,2,3",
            "1,25",
            "12,50",
            "1,2500",
            "1250,500",
            "1,2,3.50",
            "1.2.3",
            "192.168.1.20",
            ",",
            "1,",
            "a,b",
        ] {
            assert_eq!(spelt(other), None, "{other}");
        }
    }

    #[test]
    fn blank_means_nothing_to_see() {
        for blank in ["", " ", "\t\n", "\u{200b}\u{feff}", "\u{3000}"] {
            assert!(is_blank(blank), "{blank:?}");
        }
        assert!(!is_blank("."));
    }

    #[test]
    fn signs_that_belong_to_a_name_stay() {
        for (name, node) in [
            ("C++", "c++"),
            ("(C#)?", "c#"),
            ("“F#!”", "f#"),
            ("Ann +", "ann"),
            (".NET", ".net"),
            ("...net.", "net"),
            ("#bees", "bees"),
            ("A+B", "a+b"),
            ("+#.", ""),
        ] {
            assert_eq!(entity_node(name), node);
        }
    }

    proptest! {
        #[test]
        fn plain_words_have_no_parts(s in "[a-zA-Z0-9.,'/_-]{0,8}") {
            if is_plain(s.as_bytes()) {
                let mut parts = 0;
                parts_of_identifier(&s, &mut |_| parts += 1);
                prop_assert_eq!((numeric_date(&s), parts), (None, 0));
            }
        }

        #[test]
        fn ascii_is_normalised_as_any_text(s in "[ -~\t\n\r\x0b\x0c\x1c-\x1f\x7f]{0,40}") {
            let longer = normalize_content(&format!("{s} é"));
            let with = format!("{} é", normalize_content(&s));
            prop_assert_eq!(with.trim_start(), longer.as_str());
        }

        #[test]
        fn anything_has_extras_or_none(s in "\\PC{0,60}") {
            let _ = (extra(&s), extra_asked(&s), compounds(&s), number(&s), shown(&s));
            let folded = fold(&s).into_owned();
            prop_assert_eq!(fold(&folded), folded.as_str());
        }

        #[test]
        fn normalising_twice_changes_nothing(s in "\\PC{0,40}") {
            let once = normalize_content(&s);
            prop_assert_eq!(normalize_content(&once), once);
        }

        #[test]
        fn white_space_and_case_do_not_count(words in proptest::collection::vec("[a-zA-Z]{1,8}", 1..6)) {
            let a = words.join(" ");
            let b = format!("  {}\n", words.join(" \t ").to_uppercase());
            prop_assert_eq!(normalize_content(&a), normalize_content(&b));
            prop_assert_eq!(entity_node(&a), entity_node(&format!("\"{b}\"!")));
        }
    }
}
