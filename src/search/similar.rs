//! Results that resemble each other: repetitions, of which only the best is returned, and diversity.
//!
//! Vectors alone cannot tell a repetition from another fact. Among the turns of five long chats, with
//! sentence embeddings, paraphrases by one speaker have cosines of .88 to .97, thanks by two people
//! .94, and "talk to you later" and "talk to you soon" .97; a changed weekday or number moves a cosine
//! by less than a changed phrase. So the words decide, and the vectors have to agree.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::ids::IdMap;
use super::{Context, Hit, Scored, semantic};
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
    /// Contents up to case and white space, and which hit has them.
    contents: HashMap<String, usize>,
    /// [`gist`]s of hits.
    gists: HashMap<String, Vec<usize>>,
    vectors: Vectors,
    /// The workspace's texts are English.
    english: bool,
}

impl<'a> Said<'a> {
    pub fn new(context: &'a Context) -> Self {
        Self {
            context,
            contents: HashMap::new(),
            gists: HashMap::new(),
            vectors: Vectors::default(),
            english: context.text_config.ends_with("english"),
        }
    }

    /// Which of `hits` says what `hit` says. If none does, `hit` is remembered as the next of them.
    pub fn before(&mut self, hits: &[(Hit, usize)], hit: &Hit) -> Result<Option<usize>> {
        let disputed = |at: usize| {
            let other = &hits[at].0;
            hit.contradicted_by.contains(&other.id) || other.contradicted_by.contains(&hit.id)
        };
        let content = text::normalize_content(&hit.content);
        if let Some(first) = self.contents.get(&content)
            && !disputed(*first)
        {
            return Ok(Some(*first));
        }
        let threshold = self.context.duplicate_similarity;
        if threshold < 1.0 {
            let gist = gist(&hit.content, self.english);
            // Of nothing but emphasis and signs nothing is left to be compared.
            let mut unheard = Vec::new();
            let alike = if gist.chars().any(char::is_alphanumeric) {
                self.gists.entry(gist).or_default()
            } else {
                &mut unheard
            };
            for at in alike.iter().copied() {
                let other = &hits[at].0;
                if !disputed(at)
                    && same_source(hit, other)
                    && (self.vectors)
                        .cosine(self.context, hit.id, other.id)?
                        .is_some_and(|cosine| cosine >= threshold)
                {
                    return Ok(Some(at));
                }
            }
            alike.push(hits.len());
        }
        self.contents.entry(content).or_insert(hits.len());
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
        lower.clear();
        if token.is_ascii() {
            text::push_lowercase(&mut lower, token);
        } else {
            // Elsewhere an accent may make another word: "año", "ano".
            let folded = if english {
                text::fold(token)
            } else {
                token.into()
            };
            lower.push_str(&folded.to_lowercase().replace('’', "'"));
        }
        let word = bare(&lower);
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
