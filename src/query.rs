//! The search box: quotes make a phrase that must occur, a leading minus excludes a word or a
//! phrase, everything else is free text of which any word may match. `or` is therefore what
//! happens anyway, and as a word of its own it is dropped.
//!
//! Questions come here as people wrote them, too: in a sentence quotes set off a title or what somebody said, a minus
//! begins a flag (`perl -MCPAN`) or a list, and what answers it need not hold that to the letter.

use crate::text;

/// A query taken apart. Nothing in it is analysed yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Free text, phrases included: every word here scores.
    pub free: String,
    /// Phrases that must occur.
    pub required: Vec<String>,
    /// Words and phrases that must not occur.
    pub excluded: Vec<String>,
}

/// Most phrases, and most exclusions, that one query may have; more are treated as free text or dropped.
pub const MAX_PHRASES: usize = 64;
/// Longest name of an entity, in words, that is looked for in a query.
pub const MAX_NAME_WORDS: usize = 4;

/// Characters of a query that are read: half of them from its beginning, half from its end.
pub const MAX_CHARS: usize = 20_000;
/// Free words beside a phrase from which a query is a sentence.
const SENTENCE: usize = 5;

/// Takes a query apart. Never fails: an unclosed quote runs to the end, and what is in the middle of more than
/// [`MAX_CHARS`] does not count.
pub fn parse(text: &str) -> Query {
    let both;
    let text = match text.char_indices().nth(MAX_CHARS) {
        None => text,
        Some(_) => {
            both = ends(text);
            &both
        }
    };
    let (query, sentence) = take_apart(text, true);
    if sentence {
        take_apart(text, false).0
    } else {
        query
    }
}

/// The parts of a text, and whether it is a sentence, in which nothing binds. `binding`: whether quotes and minus are
/// heeded; where not, all is free text.
fn take_apart(text: &str, binding: bool) -> (Query, bool) {
    let mut words = 0;
    // A question that is quoted as a whole.
    let mut asked = false;
    let mut query = Query::default();
    let mut free: Vec<&str> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else {
            break;
        };
        let negated = binding && first == '-' && excludes(&rest[1..]);
        let body = if negated { &rest[1..] } else { rest };
        let (part, quoted, after) = if let Some(inner) = body.strip_prefix('"') {
            let end = inner.find('"').unwrap_or(inner.len());
            (&inner[..end], true, inner.get(end + 1..).unwrap_or(""))
        } else {
            let end = body.find(|c: char| c.is_whitespace()).unwrap_or(body.len());
            (&body[..end], false, &body[end..])
        };
        rest = after;
        if negated {
            if query.excluded.len() < MAX_PHRASES && !part.trim().is_empty() {
                query.excluded.push(part.trim().to_owned());
            }
        } else {
            if binding && quoted && query.required.len() < MAX_PHRASES && !part.trim().is_empty() {
                query.required.push(part.trim().to_owned());
            }
            asked |=
                quoted && text::is_question(part) && part.split_whitespace().count() >= SENTENCE;
            if quoted || !part.eq_ignore_ascii_case("or") {
                words += usize::from(!quoted && part.contains(char::is_alphanumeric));
                free.push(part);
            }
        }
    }
    let sentence = words >= SENTENCE || words > 0 && text::is_question(text) || asked;
    query.free = free.join(" ").trim().to_owned();
    (query, sentence)
}

/// The first and the last characters of a text that has more than [`MAX_CHARS`].
fn ends(text: &str) -> String {
    let mut places = text.char_indices().map(|(at, _)| at);
    let head = places.nth(MAX_CHARS / 2).unwrap_or(text.len());
    let tail = places.nth_back(MAX_CHARS / 2 - 1).unwrap_or(head);
    format!("{} {}", &text[..head], &text[tail..])
}

/// Takes out of the middle what is more than `most`.
pub fn keep_ends<T>(words: &mut Vec<T>, most: usize) {
    if words.len() > most {
        words.drain(most / 2..words.len() - (most - most / 2));
    }
}

/// Whether a minus before this excludes: only when a word or a quote follows it directly. One letter or digit is
/// what questions hold that were not written for a search box: a flag (`-f`), a number (`-5`).
fn excludes(rest: &str) -> bool {
    let mut chars = rest.chars();
    match chars.next() {
        Some('"') => true,
        Some(c) if c.is_ascii_alphanumeric() => chars.next().is_some_and(char::is_alphanumeric),
        Some(c) => c.is_alphanumeric(),
        None => false,
    }
}

/// All runs of up to [`MAX_NAME_WORDS`] words of `free` as entity keys, for looking up which
/// entities the query names. Only the first and the last 100 words count.
pub fn names(free: &str) -> Vec<String> {
    let mut words: Vec<&str> = free.split_whitespace().collect();
    keep_ends(&mut words, 200);
    let mut out: Vec<String> = Vec::new();
    for start in 0..words.len() {
        for len in 1..=MAX_NAME_WORDS.min(words.len() - start) {
            let joined = words[start..start + len].join(" ");
            let node = text::entity_node(&joined);
            // "Caroline's" names Caroline.
            let owner = node
                .strip_suffix("'s")
                .or_else(|| node.strip_suffix("’s"))
                .map(str::to_owned);
            out.extend(
                [Some(node), owner]
                    .into_iter()
                    .flatten()
                    .filter(|n| !n.is_empty()),
            );
        }
    }
    out.sort_unstable();
    out.dedup();
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quotes_require_and_minus_excludes() {
        let q = parse(r#"trip "New York" or -"old car" -beach a-b - go"#);
        assert_eq!(q.free, "trip New York a-b - go");
        assert_eq!(q.required, ["New York"]);
        assert_eq!(q.excluded, ["old car", "beach"]);
    }

    #[test]
    fn odd_input_is_still_a_query() {
        assert_eq!(parse(""), Query::default());
        assert_eq!(parse(r#""""#).required, Vec::<String>::new());
        assert_eq!(
            parse(r#"say "unclosed phrase"#).required,
            ["unclosed phrase"]
        );
        assert_eq!(parse(r#"-"#).free, "-");
        assert_eq!(parse(r#"5-3"#).free, "5-3");
    }

    #[test]
    fn quotes_in_a_sentence_require_nothing() {
        for (query, required) in [
            (r#""New York""#, 1),
            (r#""New York"?"#, 1),
            (r#"where "New York""#, 1),
            (r#"long trip to "New York" -Boston"#, 1),
            (r#"who wrote "War and Peace"?"#, 0),
            (r#"Ann told me that "War and Peace" is long"#, 0),
        ] {
            assert_eq!(parse(query).required.len(), required, "{query}");
        }
        assert_eq!(
            parse(r#"Who wrote "War and Peace"?"#).free,
            "Who wrote War and Peace ?"
        );
    }

    #[test]
    fn a_minus_in_a_sentence_excludes_nothing() {
        for (query, excluded) in [
            ("new york -boston", 1),
            ("perl -MCPAN", 1),
            ("how do I install a module with perl -MCPAN as root?", 0),
            ("how to use rm -rf?", 0),
            ("To install a module run perl -MCPAN -e shell as root", 0),
        ] {
            assert_eq!(parse(query).excluded.len(), excluded, "{query}");
        }
        assert_eq!(parse("how to use rm -rf?").free, "how to use rm -rf?");
        assert_eq!(parse(r#""How do I run perl as root?""#).required.len(), 0);
    }

    #[test]
    fn of_a_long_query_both_ends_count() {
        let long = format!("begin {}end of \"it\"", "é ".repeat(MAX_CHARS));
        let q = parse(&long);
        assert!(q.free.starts_with("begin é") && q.free.ends_with("end of it"));
        assert!(q.free.chars().count() <= MAX_CHARS + 1);
        let names = names(&format!("Ann {}Ben", "x ".repeat(500)));
        assert!(names.contains(&"ann".to_owned()) && names.contains(&"ben".to_owned()));
    }

    #[test]
    fn one_letter_or_digit_is_a_flag_or_a_number() {
        let q = parse(r#"tar -x? at -5 -"x" -猫 -ox"#);
        assert_eq!(q.free, "tar -x? at -5");
        assert_eq!(q.excluded, ["x", "猫", "ox"]);
    }

    #[test]
    fn names_are_runs_of_words() {
        let n = names("Where did Caroline's sister go?");
        assert!(n.contains(&"caroline".to_owned()) && n.contains(&"go".to_owned()));
        assert!(n.contains(&"caroline's sister".to_owned()));
    }

    proptest! {
        #[test]
        fn parsing_never_fails_and_loses_no_plain_word(words in proptest::collection::vec("[a-z]{3,8}", 0..12)) {
            let q = parse(&words.join(" "));
            prop_assert_eq!(q.free, words.join(" "));
            prop_assert!(q.required.is_empty() && q.excluded.is_empty());
        }

        #[test]
        fn any_text_parses(s in "\\PC{0,80}") {
            let q = parse(&s);
            prop_assert!(q.required.len() <= MAX_PHRASES && q.excluded.len() <= MAX_PHRASES);
            let _ = names(&q.free);
        }
    }
}
