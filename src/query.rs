//! The search box: quotes make a phrase that must occur, a leading minus excludes a word or a
//! phrase, everything else is free text of which any word may match. `or` is therefore what
//! happens anyway, and as a word of its own it is dropped.

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

/// Characters of a query that are read.
pub const MAX_CHARS: usize = 20_000;

/// Takes a query apart. Never fails: an unclosed quote runs to the end, and what comes after
/// [`MAX_CHARS`] does not count.
pub fn parse(text: &str) -> Query {
    let text = match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => &text[..end],
        None => text,
    };
    let mut query = Query::default();
    let mut free: Vec<&str> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else {
            break;
        };
        // A minus excludes only when a word or a quote follows it directly.
        let negated = first == '-'
            && rest[1..]
                .chars()
                .next()
                .is_some_and(|c| c.is_alphanumeric() || c == '"');
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
            if quoted && query.required.len() < MAX_PHRASES && !part.trim().is_empty() {
                query.required.push(part.trim().to_owned());
            }
            if quoted || !part.eq_ignore_ascii_case("or") {
                free.push(part);
            }
        }
    }
    query.free = free.join(" ").trim().to_owned();
    query
}

/// All runs of up to [`MAX_NAME_WORDS`] words of `free` as entity keys, for looking up which
/// entities the query names. Only the first 100 words count.
pub fn names(free: &str) -> Vec<String> {
    let words: Vec<&str> = free.split_whitespace().take(100).collect();
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
        let q = parse(r#"where did "New York" or -"old car" -beach a-b - go"#);
        assert_eq!(q.free, "where did New York a-b - go");
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
