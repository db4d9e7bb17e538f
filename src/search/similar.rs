//! Results that resemble each other: repetitions, of which only the best is returned, and diversity.
//!
//! Vectors alone cannot tell a repetition from another fact. Among the turns of five long chats, with
//! sentence embeddings, paraphrases by one speaker have cosines of .88 to .97, thanks by two people
//! .94, and "talk to you later" and "talk to you soon" .97; a changed weekday or number moves a cosine
//! by less than a changed phrase. So the words decide, and the vectors have to agree.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::fetch::Scored;
use super::ids::IdMap;
use super::{Context, Hit, semantic};
use crate::blocks::documents;
use crate::blocks::segment::Place;
use crate::error::Result;
use crate::model::similarity::{Distance, norm, similarity};
use crate::simd;
use crate::text::{self, Date};

/// Most results beyond `match_count` among which diversity chooses, and most places that it fills.
pub const MOST: usize = 200;

/// Vectors of memories; `None` where there is none.
#[derive(Default)]
struct Vectors(IdMap<Option<Vec<f32>>>);

impl Vectors {
    /// Looks up those that are not known yet.
    fn read(&mut self, context: &Context, ids: impl Iterator<Item = Uuid>) -> Result<()> {
        let unknown: Vec<(Uuid, Option<Place>)> = ids
            .filter(|id| !self.0.contains_key(id))
            .map(|id| (id, None))
            .collect();
        self.0.extend(unknown.iter().map(|(id, _)| (*id, None)));
        let Some(model) = context.model.as_ref().filter(|_| !unknown.is_empty()) else {
            return Ok(());
        };
        // A vector of another text says nothing about the one of then.
        let past = context.past.as_ref();
        semantic::stored(context, model, &unknown, |nth, vector| {
            let id = unknown[nth].0;
            if !past.is_some_and(|past| past.rewritten.contains(&id)) {
                self.0.insert(id, Some(vector));
            }
        })
    }

    fn get(&self, id: Uuid) -> Option<&[f32]> {
        self.0.get(&id)?.as_deref()
    }

    /// Cosine of the vectors of two memories; `None` when one has none.
    fn cosine(&mut self, context: &Context, a: Uuid, b: Uuid) -> Result<Option<f64>> {
        self.read(context, [a, b].into_iter())?;
        Ok((self.get(a).zip(self.get(b))).and_then(|(a, b)| similarity(Distance::Cosine, a, b)))
    }
}

/// The same direction with length 1; nothing has none.
fn unit(vector: &[f32]) -> Vec<f32> {
    let length = norm(vector);
    let length = if length > 0.0 { length } else { 1.0 };
    let scaled = vector.iter().map(|x| (f64::from(*x) / length) as f32);
    scaled.collect()
}

/// What the results so far say.
pub struct Said<'a> {
    context: &'a Context,
    /// Hits by [`key`], in their order.
    alike: HashMap<u64, Vec<(usize, Text)>>,
    vectors: Vectors,
    /// The workspace's texts are English.
    english: bool,
}

/// What of a content is compared with that of another, made once there is another.
#[derive(Default)]
struct Text {
    /// Up to case and white space.
    content: OnceCell<String>,
    gist: OnceCell<String>,
}

impl Text {
    fn content(&self, hit: &Hit) -> &str {
        self.content
            .get_or_init(|| text::normalize_content(&hit.content))
    }

    fn gist(&self, hit: &Hit, english: bool) -> &str {
        self.gist.get_or_init(|| gist(&hit.content, english))
    }
}

impl<'a> Said<'a> {
    pub fn new(context: &'a Context) -> Self {
        Self {
            context,
            alike: HashMap::new(),
            vectors: Vectors::default(),
            english: context.text_config.ends_with("english"),
        }
    }

    /// Which of `hits` says what `hit` says. If none does, `hit` is remembered as the next of them.
    pub fn before(&mut self, hits: &[(Hit, usize)], hit: &Hit) -> Result<Option<usize>> {
        let (context, english) = (self.context, self.english);
        let alike = self.alike.entry(key(&hit.content, english)).or_default();
        let text = Text::default();
        let undisputed = alike
            .iter()
            .map(|(at, said)| (*at, &hits[*at].0, said))
            .filter(|(_, other, _)| {
                !hit.contradicted_by.contains(&other.id) && !other.contradicted_by.contains(&hit.id)
            });
        for (at, other, said) in undisputed.clone() {
            if text.content(hit) == said.content(other) && same_source(hit, other) {
                return Ok(Some(at));
            }
        }
        let threshold = context.duplicate_similarity;
        for (at, other, said) in undisputed.filter(|_| threshold < 1.0) {
            let gist = text.gist(hit, english);
            // Of nothing but emphasis and signs nothing is left to be compared.
            if gist == said.gist(other, english)
                && gist.chars().any(char::is_alphanumeric)
                && same_source(hit, other)
                && (self.vectors)
                    .cosine(context, hit.id, other.id)?
                    .is_some_and(|cosine| cosine >= threshold)
            {
                return Ok(Some(at));
            }
        }
        alike.push((hits.len(), text));
        Ok(None)
    }
}

/// Said by the same person, and not known to be of different days.
fn same_source(a: &Hit, b: &Hit) -> bool {
    let speaker =
        |hit: &Hit| text::speaker(&hit.content, hit.speaker.as_deref()).map(text::entity_node);
    let day = |hit: &Hit| {
        hit.occurred_at
            .and_then(|at| Date::from_postgres(at.into()))
    };
    speaker(a) == speaker(b) && a.role == b.role && day(a).zip(day(b)).is_none_or(|(a, b)| a == b)
}

/// Words that say nothing of their own in English.
const EMPHASIS: [&str; 9] = [
    "a", "an", "the", "really", "very", "so", "actually", "please", "oh",
];

/// The words of a text in their order, without case, punctuation after words, and, in English, accents, articles
/// and emphasis. Order counts ("Ann paid Bob"), and so do all other small words ("to" and "from",
/// "I" and "she"), signs (-5, C++), and whether it is asked.
fn gist(content: &str, english: bool) -> String {
    let mut gist = Gist {
        words: String::with_capacity(content.len() + 8),
        held: None,
        english,
    };
    let mut begins = true;
    let mut lower = String::new();
    for (nth, token) in content.split_whitespace().enumerate() {
        // "Plan A" is no plan.
        let name = token.trim_end_matches(END) == "A" && !begins;
        begins = token.ends_with(['.', '!', '?', ':', ';']);
        if name {
            gist.push("A");
            continue;
        }
        let word = lowered(token, english, &mut lower);
        // A dash that begins an item of a list.
        if nth == 0 && matches!(word, "-" | "–" | "—" | "*") {
            continue;
        }
        match contraction(word).filter(|_| english) {
            Some((first, second)) => {
                gist.push(first);
                gist.push(second);
            }
            None => gist.push(word),
        }
    }
    if text::is_question(content) {
        gist.push("?");
    }
    gist.words
}

/// A word in lower case, without what [`bare`] takes off it.
fn lowered<'l>(token: &str, english: bool, lower: &'l mut String) -> &'l str {
    lower.clear();
    if token.is_ascii() {
        text::push_lowercase(lower, token);
    } else {
        // Elsewhere an accent may make another word: "año", "ano".
        let folded = if english {
            text::fold(token)
        } else {
            token.into()
        };
        lower.push_str(&folded.to_lowercase().replace('’', "'"));
    }
    bare(lower)
}

/// A number that texts with the same [`gist`], and the same content up to case and white space, have in common: hardly
/// any two of other words have, and it costs far less. The sum of [`weight`] over the lines of the gist.
fn key(content: &str, english: bool) -> u64 {
    let white = |b: &u8| matches!(b, b' ' | b'\t'..=b'\r');
    let mut lower = String::new();
    let mut sum = 0_u64;
    for token in content.as_bytes().split(white) {
        if token.iter().all(|b| b.is_ascii() && *b != b'\'') {
            sum = sum.wrapping_add(weight(token.iter().copied()));
            continue;
        }
        // Cut at ASCII, a text stays one.
        for token in std::str::from_utf8(token)
            .unwrap_or_default()
            .split_whitespace()
        {
            let word = lowered(token, english, &mut lower);
            let (first, second) = contraction(word).filter(|_| english).unwrap_or((word, ""));
            for word in [first, second] {
                let letters = word.chars().filter(|c| c.is_alphanumeric());
                let mut bytes = [0; 4];
                sum = sum.wrapping_add(weight(letters.flat_map(|c| {
                    let length = c.encode_utf8(&mut bytes).len();
                    bytes.into_iter().take(length)
                })));
            }
        }
    }
    sum
}

/// What a word adds to a [`key`], by its letters and digits; nothing where a [`gist`] may leave it out.
fn weight(word: impl Iterator<Item = u8>) -> u64 {
    let of = word
        .filter(|b| b.is_ascii_alphanumeric() || !b.is_ascii())
        .fold(FNV, |hash, b| fnv(hash, b.to_ascii_lowercase()));
    if of == FNV || EMPHASIS_HASHES.contains(&of) {
        0
    } else if of == CANNOT {
        CAN.wrapping_add(NOT)
    } else {
        of
    }
}

/// FNV-1a of nothing.
const FNV: u64 = 0xcbf2_9ce4_8422_2325;
const CANNOT: u64 = hash("cannot");
const CAN: u64 = hash("can");
const NOT: u64 = hash("not");
const EMPHASIS_HASHES: [u64; EMPHASIS.len()] = {
    let mut hashes = [0; EMPHASIS.len()];
    let mut nth = 0;
    while nth < hashes.len() {
        hashes[nth] = hash(EMPHASIS[nth]);
        nth += 1;
    }
    hashes
};

const fn fnv(hash: u64, byte: u8) -> u64 {
    (hash ^ byte as u64).wrapping_mul(0x0100_0000_01b3)
}

const fn hash(word: &str) -> u64 {
    let (mut of, mut nth) = (FNV, 0);
    while nth < word.len() {
        of = fnv(of, word.as_bytes()[nth]);
        nth += 1;
    }
    of
}

/// What an English contraction stands for.
fn contraction(word: &str) -> Option<(&str, &str)> {
    match word.strip_suffix("n't") {
        Some("ca") => return Some(("can", "not")),
        Some("wo") => return Some(("will", "not")),
        Some(verb) => return Some((verb, "not")),
        None if word == "cannot" => return Some(("can", "not")),
        None => {}
    }
    [
        ("'m", "am"),
        ("'re", "are"),
        ("'ve", "have"),
        ("'ll", "will"),
    ]
    .iter()
    .find_map(|(end, full)| Some((word.strip_suffix(end)?, *full)))
}

/// Words that are being collected, a line each.
struct Gist {
    words: String,
    /// The last word, which counts only if the next says how many.
    held: Option<&'static str>,
    english: bool,
}

impl Gist {
    fn push(&mut self, word: &str) {
        // "A few" are more than "few".
        if let Some(held) = self.held.take()
            && matches!(word, "few" | "little")
        {
            self.line(held);
        }
        if self.english {
            self.held = EMPHASIS.iter().find(|e| **e == word).copied();
        }
        if self.held.is_none() {
            self.line(word);
        }
    }

    fn line(&mut self, word: &str) {
        self.words.push_str(word);
        self.words.push('\n');
    }
}

/// Punctuation that ends a word.
const END: [char; 11] = ['.', ',', ';', ':', '!', '?', '…', '。', '、', '！', '？'];
const QUOTES: [char; 5] = ['"', '\'', '“', '”', '‘'];

/// A word without punctuation after it and quotes around it. What else there is may count: "!done", "_reset",
/// "C*", "(500)"; and what is nothing but signs: ":)".
fn bare(word: &str) -> &str {
    let bare = word
        .trim_end_matches(|c| END.contains(&c) || QUOTES.contains(&c))
        .trim_start_matches(|c| QUOTES.contains(&c) || "¡¿".contains(c));
    if bare.chars().any(char::is_alphanumeric) {
        bare
    } else {
        word
    }
}

/// Hashes of the words of a text that may say something, sorted.
fn words(content: &str) -> Vec<u32> {
    let lower = content.to_lowercase();
    let mut hashes: Vec<u32> = lower
        .split(|c: char| !c.is_alphanumeric())
        // Short words are mostly small ones, unless they are numbers or of other scripts.
        .filter(|w| w.len() > 3 || w.bytes().any(|b| b.is_ascii_digit()))
        .chain(
            text::extra(&lower)
                .iter()
                .flat_map(|extra| extra.split(' ')),
        )
        .map(|word| documents::hash(text::fold(word).as_bytes()))
        .collect();
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}

/// Cosine of two sets of words, 0 to 1.
fn in_common(a: &[u32], b: &[u32]) -> f64 {
    let b_set: HashSet<&u32> = b.iter().collect();
    let common = a.iter().filter(|w| b_set.contains(w)).count();
    if common == 0 {
        return 0.0;
    }
    common as f64 / (a.len() as f64 * b.len() as f64).sqrt()
}

/// Takes `diversity` times its likeness to the most similar of those before it off every score:
/// maximal marginal relevance (Carbonell & Goldstein 1998), in which every place goes to what then
/// has most. Scores in that order never rise. The first `places`, at most [`MOST`], are filled that way; what is left
/// has no more than the last of them.
pub fn spread(context: &Context, diversity: f64, places: usize, hits: &mut [Scored]) -> Result<()> {
    let mut vectors = Vectors::default();
    vectors.read(context, hits.iter().map(|s| s.hit.id))?;
    let units: Vec<Option<Vec<f32>>> = hits
        .iter()
        .map(|s| vectors.get(s.hit.id).map(unit))
        .collect();
    let vectors: Vec<Option<&[f32]>> = units.iter().map(Option::as_deref).collect();
    // Words are compared where there are no vectors.
    let mut texts: Vec<Option<Vec<u32>>> = vec![None; hits.len()];
    let mut nearest = vec![0f64; hits.len()];
    let mut left: Vec<usize> = (0..hits.len()).collect();
    let (mut others, mut others_of): (Vec<&[f32]>, Vec<usize>) = (Vec::new(), Vec::new());
    let mut cosines: Vec<f32> = Vec::new();
    for _ in 0..places.min(MOST) {
        pgrx::check_for_interrupts!();
        let value = |i: usize| hits[i].hit.score - diversity * nearest[i];
        let best = left.iter().copied().max_by(|a, b| {
            value(*a)
                .total_cmp(&value(*b))
                .then_with(|| hits[*a].hit.id.cmp(&hits[*b].hit.id))
        });
        let Some(best) = best else { break };
        left.retain(|i| *i != best);
        others.clear();
        others_of.clear();
        for i in &left {
            match vectors[*i].filter(|v| vectors[best].is_some_and(|b| b.len() == v.len())) {
                Some(vector) => {
                    others.push(vector);
                    others_of.push(*i);
                }
                None => {
                    for of in [*i, best] {
                        texts[of].get_or_insert_with(|| words(&hits[of].hit.content));
                    }
                    if let (Some(a), Some(b)) = (&texts[*i], &texts[best]) {
                        nearest[*i] = nearest[*i].max(in_common(a, b));
                    }
                }
            }
        }
        if let Some(of) = vectors[best] {
            cosines.clear();
            cosines.resize(others.len(), 0.0);
            simd::dots(of, &others, &mut cosines);
            for (i, cosine) in others_of.iter().zip(&cosines) {
                nearest[*i] = nearest[*i].max(f64::from(*cosine).clamp(-1.0, 1.0));
            }
        }
    }
    for (scored, nearest) in hits.iter_mut().zip(nearest) {
        scored.alike = -diversity * nearest;
        scored.hit.score += scored.alike;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_says_the_same_has_the_same_gist() {
        let same = |a: &str, b: &str| gist(a, true) == gist(b, true);
        for (a, b) in [
            (
                "I'm really fond of the old café!",
                "i am fond of the old cafe",
            ),
            ("She can't swim.", "She cannot swim"),
            ("- Buy milk, please", "buy the \"milk\""),
            ("We don’t know", "We do not know"),
        ] {
            assert!(
                same(a, b),
                "{a} / {b}: {:?} {:?}",
                gist(a, true),
                gist(b, true)
            );
        }
        for (a, b) in [
            ("The meeting is on Monday", "The meeting is on Tuesday"),
            ("He owes me 5 euros", "He owes me 15 euros"),
            ("Ann paid Bob", "Bob paid Ann"),
            ("I called her", "She called me"),
            ("The key is under the mat", "The key is on the mat"),
            ("He likes tea", "He does not like tea"),
            ("She moved from Rome", "She moved to Rome"),
            ("I have few friends", "I have a few friends"),
            ("You like tea?", "You like tea."),
            ("It was -5 degrees", "It was 5 degrees"),
            ("It weighs .5 kg", "It weighs 5 kg"),
            ("Learns C++", "Learns C"),
            ("results :)", "results :("),
            ("if !done", "if done"),
            ("call _reset()", "call reset()"),
            ("edit .env", "edit env"),
            ("C* is used", "C is used"),
            ("~5 km", "5 km"),
            ("5 - 3", "5 3"),
            ("Vitamin A helps", "Vitamin helps"),
            ("It is too hot", "It is hot"),
            ("I just left", "I left"),
            ("👍", "👎"),
        ] {
            assert!(!same(a, b), "{a} / {b}");
        }
        // An English article is a German verb's pronoun.
        assert_ne!(gist("so ist es", false), gist("ist es", false));
        assert_ne!(gist("tengo un año", false), gist("tengo un ano", false));
    }

    proptest! {
        #[test]
        fn what_says_the_same_has_the_same_key(
            tokens in prop::collection::vec(
                prop_oneof![
                    "[a-zA-Z0-9'’.,!?()é☕İß¡\"-]{0,6}",
                    prop::sample::select(vec!["cannot", "(cannot)", "Can't", "won’t", "I'm", "a", "Plan A", "A.", "the", "'the'", "few", "-", "—", "really,", "café", "are", "re've", "n't"]).prop_map(str::to_owned),
                ],
                0..8,
            ),
            blank in prop::sample::select(vec![" ", "  ", "\t", "\u{a0}", "\u{3000}", "\n"]),
        ) {
            let text = tokens.join(blank);
            for english in [true, false] {
                let lines = gist(&text, english);
                let sum = lines.lines().map(|line| key(line, english)).fold(0, u64::wrapping_add);
                prop_assert_eq!(key(&text, english), sum, "{:?}: {:?}", text, lines);
                prop_assert_eq!(key(&text, english), key(&text::normalize_content(&text), english));
            }
        }
    }

    #[test]
    fn words_in_common() {
        let likeness = |a: &str, b: &str| in_common(&words(a), &words(b));
        assert!((likeness("Green tea tastes good", "green TASTES good") - 1.0).abs() < 1e-9);
        assert_eq!(likeness("Green tea", "black coffee"), 0.0);
        assert_eq!(likeness("", "black coffee"), 0.0);
        assert!(likeness("我喜欢绿茶", "绿茶很好") > 0.0);
        assert!(likeness("room 12 upstairs", "room 13 upstairs") < 1.0);
    }
}
