//! Dates that a question names, and how well a moment fits them.

use crate::text::Date;

/// A date as a question has it: what is not said is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// Year.
    pub year: Option<i32>,
    /// Month, 1..=12.
    pub month: Option<u8>,
    /// Day of the month; only with a month.
    pub day: Option<u8>,
}

/// Words before a bare month that make it a date: "may" and "march" are words too.
const BEFORE_MONTH: [&str; 12] = [
    "in", "during", "of", "since", "until", "by", "on", "last", "this", "early", "late", "mid",
];

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

fn month(word: &str) -> Option<u8> {
    let full = |name: &str| {
        word == name
            || (word.len() == 3 && name.starts_with(word))
            || (word == "sept" && name == "september")
    };
    let at = MONTHS.iter().position(|name| full(name))?;
    u8::try_from(at + 1).ok()
}

fn day(word: &str) -> Option<u8> {
    let digits = ["st", "nd", "rd", "th"]
        .iter()
        .find_map(|suffix| word.strip_suffix(suffix))
        .unwrap_or(word);
    (1..=2)
        .contains(&digits.len())
        .then(|| digits.parse().ok())?
        .filter(|d| (1..=31).contains(d))
}

fn year(word: &str) -> Option<i32> {
    let plausible = word.len() == 4 && (word.starts_with("19") || word.starts_with("20"));
    plausible.then(|| word.parse().ok())?
}

/// All dates that `text` names: "8 May 2023", "May 8th", "May 2023", "in May", "2023", "2023-05-08".
/// English.
pub fn named(text: &str) -> Vec<Named> {
    let text = text.to_lowercase();
    let words: Vec<&str> = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|w| !w.is_empty())
        .take(1000)
        .collect();
    let at = |i: usize| words.get(i).copied().unwrap_or("");
    let mut out = Vec::new();
    let mut i = 0;
    while i < words.len() {
        let of = usize::from(at(i + 1) == "of");
        let (found, used) = if let (Some(d), Some(m)) = (day(at(i)), month(at(i + 1 + of))) {
            let y = year(at(i + 2 + of));
            (
                Some((y, Some(m), Some(d))),
                2 + of + usize::from(y.is_some()),
            )
        } else if let Some(m) = month(at(i)) {
            if let Some(d) = day(at(i + 1)) {
                let y = year(at(i + 2));
                (Some((y, Some(m), Some(d))), 2 + usize::from(y.is_some()))
            } else if let Some(y) = year(at(i + 1 + of)) {
                (Some((Some(y), Some(m), None)), 2 + of)
            } else if i > 0 && BEFORE_MONTH.contains(&at(i - 1)) {
                (Some((None, Some(m), None)), 1)
            } else {
                (None, 1)
            }
        } else if let Some(y) = year(at(i)) {
            let numeric = |k: usize, most: u8| {
                at(k)
                    .parse::<u8>()
                    .ok()
                    .filter(|n| at(k).len() == 2 && (1..=most).contains(n))
            };
            match (numeric(i + 1, 12), numeric(i + 2, 31)) {
                (Some(m), Some(d)) => (Some((Some(y), Some(m), Some(d))), 3),
                _ => (Some((Some(y), None, None)), 1),
            }
        } else {
            (None, 1)
        };
        if let Some((year, month, day)) = found {
            out.push(Named { year, month, day });
        }
        i += used;
    }
    out
}

/// How well the day `at` fits the best of `dates`, 0 to 1. The day named, or any day of the month
/// named, fits fully; half fit days around it (people tell afterwards what happened), the first ten
/// days of the next month, and any day of a year.
pub fn fit(dates: &[Named], at: Date) -> f64 {
    dates
        .iter()
        .map(|named| match (named.month, named.day) {
            (Some(month), Some(day)) => {
                let there = Date {
                    year: named.year.unwrap_or(at.year),
                    month,
                    day,
                };
                match at.days() - there.days() {
                    0 => 1.0,
                    -2..=10 => 0.5,
                    _ => 0.0,
                }
            }
            (Some(month), None) => {
                let same_year = |year: i32| named.year.is_none_or(|y| y == year);
                let (next, year_of_next) = if month == 12 {
                    (1, at.year - 1)
                } else {
                    (month + 1, at.year)
                };
                if at.month == month && same_year(at.year) {
                    1.0
                } else if at.month == next && at.day <= 10 && same_year(year_of_next) {
                    0.5
                } else {
                    0.0
                }
            }
            _ => {
                if named.year == Some(at.year) {
                    0.5
                } else {
                    0.0
                }
            }
        })
        .fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn d(year: i32, month: u8, day: u8) -> Date {
        Date { year, month, day }
    }

    #[test]
    fn dates_are_read_as_people_write_them() {
        let n = |text: &str| -> Vec<(i32, u8, u8)> {
            named(text)
                .iter()
                .map(|n| {
                    (
                        n.year.unwrap_or(0),
                        n.month.unwrap_or(0),
                        n.day.unwrap_or(0),
                    )
                })
                .collect()
        };
        assert_eq!(n("What did Ann do on 8 May 2023?"), [(2023, 5, 8)]);
        assert_eq!(
            n("the 3rd of june, May 8th, 2022 and Sept 1"),
            [(0, 6, 3), (2022, 5, 8), (0, 9, 1)]
        );
        assert_eq!(
            n("in May or October of 2021, since 1999"),
            [(0, 5, 0), (2021, 10, 0), (1999, 0, 0)]
        );
        assert_eq!(n("It may march on; room 2500, 45 may be"), [(0, 0, 0); 0]);
        assert_eq!(n("2023-05-08 and 2023-5"), [(2023, 5, 8), (2023, 0, 0)]);
    }

    #[test]
    fn near_days_fit_half() {
        let may_8 = named("8 May 2023");
        assert_eq!(
            [
                fit(&may_8, d(2023, 5, 8)),
                fit(&may_8, d(2023, 5, 18)),
                fit(&may_8, d(2023, 5, 19)),
                fit(&may_8, d(2023, 5, 5))
            ],
            [1.0, 0.5, 0.0, 0.0]
        );
        let december = named("December 2022");
        assert_eq!(
            [
                fit(&december, d(2022, 12, 31)),
                fit(&december, d(2023, 1, 10)),
                fit(&december, d(2022, 1, 1))
            ],
            [1.0, 0.5, 0.0]
        );
        assert_eq!(
            [fit(&named("2022"), d(2022, 7, 1)), fit(&[], d(2022, 7, 1))],
            [0.5, 0.0]
        );
    }

    proptest! {
        #[test]
        fn any_text_has_dates_or_none(text in "\\PC{0,80}", y in -5000i32..5000, m in 1u8..13, day in 1u8..29) {
            let f = fit(&named(&text), d(y, m, day));
            prop_assert!((0.0..=1.0).contains(&f));
        }
    }
}
