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
    /// How many days from that one on are meant; only with a day.
    pub days: u8,
}

impl Named {
    /// So many days from one on.
    fn from(first: Date, days: u8) -> Self {
        Self {
            days,
            ..Self::on(Some(first.year), first.month, first.day)
        }
    }

    /// A day, of any year if that is not said.
    fn on(year: Option<i32>, month: u8, day: u8) -> Self {
        Self {
            day: Some(day),
            ..Self::whole(year, Some(month))
        }
    }

    /// A year, or a month.
    fn whole(year: Option<i32>, month: Option<u8>) -> Self {
        Self {
            year,
            month,
            day: None,
            days: 1,
        }
    }
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

const WEEKDAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

const NUMBERS: [&str; 12] = [
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve",
];

/// A number before a unit of time; "a few" is about three.
fn number(word: &str) -> Option<i64> {
    match word {
        "a" | "an" => Some(1),
        "couple" => Some(2),
        "few" => Some(3),
        _ => match NUMBERS.iter().position(|name| *name == word) {
            Some(at) => Some(at as i64 + 1),
            None => (word.len() <= 3)
                .then(|| word.parse::<u16>().ok())?
                .map(i64::from),
        },
    }
}

/// The words of a question.
struct Words<'t>(Vec<&'t str>);

impl Words<'_> {
    fn at(&self, i: usize) -> &str {
        self.0.get(i).copied().unwrap_or("")
    }

    /// The date that begins at word `i`, whenever that is asked, and how many words it has.
    fn absolute(&self, i: usize) -> Option<(Named, usize)> {
        let at = |i| self.at(i);
        let of = usize::from(at(i + 1) == "of");
        if let (Some(d), Some(m)) = (day(at(i)), month(at(i + 1 + of))) {
            let y = year(at(i + 2 + of));
            return Some((Named::on(y, m, d), 2 + of + usize::from(y.is_some())));
        }
        if let Some(m) = month(at(i)) {
            if let Some(d) = day(at(i + 1)) {
                let y = year(at(i + 2));
                return Some((Named::on(y, m, d), 2 + usize::from(y.is_some())));
            }
            if let Some(y) = year(at(i + 1 + of)) {
                return Some((Named::whole(Some(y), Some(m)), 2 + of));
            }
            let bare = i > 0 && BEFORE_MONTH.contains(&at(i - 1));
            return bare.then(|| (Named::whole(None, Some(m)), 1));
        }
        let y = year(at(i))?;
        let numeric = |k: usize, most: u8| {
            let number = (at(k).len() == 2).then(|| at(k).parse::<u8>().ok())?;
            number.filter(|n| (1..=most).contains(n))
        };
        Some(match (numeric(i + 1, 12), numeric(i + 2, 31)) {
            (Some(m), Some(d)) => (Named::on(Some(y), m, d), 3),
            _ => (Named::whole(Some(y), None), 1),
        })
    }

    /// The date that begins at word `i` as who asks on the day `today` means it, and how many words it has.
    fn relative(&self, i: usize, today: Date) -> Option<(Named, usize)> {
        let days = today.days();
        let from = |first, days| Some(Named::from(Date::from_days(first)?, days));
        let on = |day| from(day, 1);
        let week = |first| from(first, 7);
        // Day 0 was a Saturday.
        let weekday = (days + 5).rem_euclid(7);
        let monday = days - weekday;
        let month = |ago: i64| {
            let months = i64::from(today.year) * 12 + i64::from(today.month) - 1 - ago;
            let year = i32::try_from(months.div_euclid(12)).ok()?;
            let month = u8::try_from(months.rem_euclid(12) + 1).ok()?;
            Some(Named::whole(Some(year), Some(month)))
        };
        let year = |ago: i64| {
            let year = i32::try_from(i64::from(today.year) - ago).ok()?;
            Some(Named::whole(Some(year), None))
        };
        let [first, second, third] = [0, 1, 2].map(|k| self.at(i + k));
        Some(match (first, second) {
            ("day", "before") if third == "yesterday" => (on(days - 2)?, 3),
            ("yesterday", _) => (on(days - 1)?, 1),
            ("last", "night") => (on(days - 1)?, 2),
            ("today" | "tonight", _) => (on(days)?, 1),
            ("this", "morning" | "afternoon" | "evening") => (on(days)?, 2),
            ("past", "week") => (week(days - 6)?, 2),
            ("last" | "previous", "week") => (week(monday - 7)?, 2),
            ("this", "week") => (week(monday)?, 2),
            ("last", "weekend") => (from(monday - 2, 2)?, 2),
            ("this", "weekend") => (from(monday + 5, 2)?, 2),
            ("last" | "previous", "month") => (month(1)?, 2),
            ("this", "month") => (month(0)?, 2),
            ("last" | "previous", "year") => (year(1)?, 2),
            ("this", "year") => (year(0)?, 2),
            ("last", name) => {
                let wanted = WEEKDAYS.iter().position(|known| *known == name)? as i64;
                (on(days - 1 - (weekday - 1 - wanted).rem_euclid(7))?, 2)
            }
            _ => {
                let of = usize::from(second == "of");
                let (count, unit) = (number(first)?, self.at(i + 1 + of));
                if self.at(i + 2 + of) != "ago" {
                    return None;
                }
                let named = match unit.strip_suffix('s').unwrap_or(unit) {
                    "day" => on(days - count),
                    // Who counts weeks does not mean the day.
                    "week" => week(days - 7 * count - 3),
                    "month" => month(count),
                    "year" => year(count),
                    _ => None,
                };
                (named?, 3 + of)
            }
        })
    }
}

/// All dates that `text` names: "8 May 2023", "May 8th", "May 2023", "in May", "2023", "2023-05-08", and, where it is known
/// on which day it is asked, "yesterday", "last week", "two months ago", "last Tuesday". English. Weeks begin on Monday.
pub fn named(text: &str, today: Option<Date>) -> Vec<Named> {
    let text = text.to_lowercase();
    let words = Words(
        text.split(|c: char| !c.is_alphanumeric())
            .filter(|w| !w.is_empty())
            .take(1000)
            .collect(),
    );
    let mut out = Vec::new();
    let mut i = 0;
    while i < words.0.len() {
        let relative = today.and_then(|today| words.relative(i, today));
        let found = relative.or_else(|| words.absolute(i));
        out.extend(found.map(|(named, _)| named));
        i += found.map_or(1, |(_, used)| used);
    }
    out
}

/// How well the day `at` fits the best of `dates`, 0 to 1. The days named, or any day of the month
/// named, fit fully; half fit days around it (people tell afterwards what happened), the first ten
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
                let (after, more) = (at.days() - there.days(), i64::from(named.days) - 1);
                if (0..=more).contains(&after) {
                    1.0
                } else if (-2..=10 + more).contains(&after) {
                    0.5
                } else {
                    0.0
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
            named(text, None)
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
        let may_8 = named("8 May 2023", None);
        assert_eq!(
            [
                fit(&may_8, d(2023, 5, 8)),
                fit(&may_8, d(2023, 5, 18)),
                fit(&may_8, d(2023, 5, 19)),
                fit(&may_8, d(2023, 5, 5))
            ],
            [1.0, 0.5, 0.0, 0.0]
        );
        let december = named("December 2022", None);
        assert_eq!(
            [
                fit(&december, d(2022, 12, 31)),
                fit(&december, d(2023, 1, 10)),
                fit(&december, d(2022, 1, 1))
            ],
            [1.0, 0.5, 0.0]
        );
        assert_eq!(
            [
                fit(&named("2022", None), d(2022, 7, 1)),
                fit(&[], d(2022, 7, 1))
            ],
            [0.5, 0.0]
        );
    }

    #[test]
    fn what_is_said_of_today_is_counted_from_it() {
        // A Wednesday.
        let today = d(2024, 3, 13);
        let n = |text: &str| -> Vec<(i32, u8, u8, u8)> {
            named(text, Some(today))
                .iter()
                .map(|n| {
                    (
                        n.year.unwrap(),
                        n.month.unwrap_or(0),
                        n.day.unwrap_or(0),
                        n.days,
                    )
                })
                .collect()
        };
        for (text, expected) in [
            ("What did we do yesterday?", (2024, 3, 12, 1)),
            ("the day before yesterday", (2024, 3, 11, 1)),
            ("Who called last night?", (2024, 3, 12, 1)),
            ("today", (2024, 3, 13, 1)),
            ("this morning", (2024, 3, 13, 1)),
            ("last Wednesday", (2024, 3, 6, 1)),
            ("last Tuesday", (2024, 3, 12, 1)),
            ("last Thursday", (2024, 3, 7, 1)),
            ("the plan of last week", (2024, 3, 4, 7)),
            ("this week's plan", (2024, 3, 11, 7)),
            ("the past week", (2024, 3, 7, 7)),
            ("last weekend", (2024, 3, 9, 2)),
            ("this weekend", (2024, 3, 16, 2)),
            ("last month", (2024, 2, 0, 1)),
            ("three months ago", (2023, 12, 0, 1)),
            ("last year", (2023, 0, 0, 1)),
            ("20 years ago", (2004, 0, 0, 1)),
            ("13 days ago", (2024, 2, 29, 1)),
            ("a couple of weeks ago", (2024, 2, 25, 7)),
            ("eleven months ago", (2023, 4, 0, 1)),
            ("a week ago", (2024, 3, 3, 7)),
        ] {
            assert_eq!(n(text), [expected], "{text}");
        }
        assert_eq!(
            named("last May", Some(today)),
            named("last May", None),
            "a month needs no day to count from"
        );
        for text in [
            "the last one",
            "a year of it",
            "ago",
            "two of them ago",
            "9999 days ago",
            "this",
        ] {
            assert_eq!(n(text), [], "{text}");
        }
        assert_eq!(named("yesterday, last week", None), []);
        let week = named("last week", Some(today));
        let fits = |days: [u8; 5]| days.map(|day| fit(&week, d(2024, 3, day)));
        assert_eq!(fits([1, 2, 4, 10, 11]), [0.0, 0.5, 1.0, 1.0, 0.5]);
        assert_eq!(fit(&week, d(2024, 3, 21)), 0.0);
    }

    proptest! {
        #[test]
        fn any_text_has_dates_or_none(text in "\\PC{0,80}", y in -5000i32..5000, m in 1u8..13, day in 1u8..29) {
            let f = fit(&named(&text, Some(d(m.into(), m, day))), d(y, m, day));
            prop_assert!((0.0..=1.0).contains(&f));
        }
    }
}
