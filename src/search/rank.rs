//! From the candidates of the lanes to one order of them.

use std::rc::Rc;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::corpus::{Corpus, Sessions};
use super::eligible::{Candidate, Eligible};
use super::ids::IdSet;
use super::lanes::{best, nearest};
use super::links::associated;
use super::semantic::Semantic;
use super::words::{self, Words};
use super::{Context, Named, need};
use crate::blocks::segment::Place;
use crate::error::Result;
use crate::model::{dates, fusion, ranking};
use crate::text::Date;

/// Words that matched and, if asked for, the parts of the score.
type Description = (Vec<String>, Option<Map<String, Value>>);

/// Candidates in order, with what explains them.
pub(super) struct Ranked<'a> {
    /// Score and index, best first.
    pub(super) order: Vec<(f64, usize)>,
    /// The id of one by its index.
    pub(super) id: Box<dyn Fn(usize) -> Uuid + 'a>,
    /// Where its row and its state may be.
    pub(super) places: Box<dyn Fn(usize) -> [Option<Place>; 2] + 'a>,
    /// Describes one by its index; the flag asks for the parts of the score.
    pub(super) describe: Box<dyn Fn(usize, bool) -> Description + 'a>,
}

/// The memories most needed now, whatever they say.
pub(super) fn needed(
    context: &Context,
    corpus: &Corpus<'_>,
    eligible: &Eligible<'_>,
) -> Result<Ranked<'static>> {
    let mut levels = need::levels(context)?;
    let ids: Vec<Uuid> = levels.iter().map(|(id, _)| *id).collect();
    let places = corpus.entries.find(&ids);
    levels.retain(|(id, _)| places.contains_key(id));
    levels.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| b.0.cmp(&a.0)));
    let all: Vec<Candidate> = (levels.iter())
        .map(|(id, _)| corpus.entries.candidate(places[id]))
        .collect();
    let passed: IdSet = eligible.first(&all, context.pool, 0)?.into_iter().collect();
    levels.retain(|(id, _)| passed.contains(id));
    let ids: Vec<Uuid> = levels.iter().map(|(id, _)| *id).collect();
    let scores = fusion::min_max(&levels.iter().map(|(_, level)| *level).collect::<Vec<_>>());
    let order = scores.iter().copied().zip(0..).collect();
    Ok(Ranked {
        order,
        id: Box::new(move |i| ids[i]),
        places: Box::new(|_| [None; 2]),
        describe: Box::new(move |i, explain| {
            let lanes = || json!({"need": {"score": levels[i].1, "normalized": scores[i], "weight": 1.0, "contribution": scores[i]}});
            let parts = explain.then(|| Map::from_iter([("lanes".to_owned(), lanes())]));
            (Vec::new(), parts)
        }),
    })
}

/// Candidates of each lane whose neighbours in the session become candidates as well.
const GROWN: usize = 20;

/// Collects the candidates of the lanes and fuses them: best first, ties to the newer memory.
pub(super) fn rank<'a>(
    context: &Context,
    corpus: &Rc<Corpus<'a>>,
    eligible: &Eligible<'_>,
    admitted: Option<&[bool]>,
    words: Rc<Words>,
    semantic: &mut Option<Semantic<'_>>,
    named: &Named,
) -> Result<Ranked<'a>> {
    let admitted = |document: usize| admitted.is_none_or(|a| a[document]) && eligible.may(document);
    let found = words
        .scores
        .iter()
        .filter(|s| admitted(s.document as usize))
        .map(|s| (s.covered(&context.weights), s.document))
        .collect();
    let document = |d: u32| corpus.entries.candidate(d as usize);
    let by_words: Vec<usize> = best(eligible, &corpus.entries, &document, found, context.pool, 0)?
        .into_iter()
        .map(|d| d as usize)
        .collect();
    let (by_vector, mut vectors) = match semantic {
        Some(lane) => {
            if eligible.asks() {
                lane.points.complete()?;
            }
            let found = nearest(context, corpus, eligible, &admitted, lane)?;
            // Many in the likeliest cells are forgotten, say.
            if lane.points.partial() && found.0.len() < context.pool {
                lane.points.complete()?;
                nearest(context, corpus, eligible, &admitted, lane)?
            } else {
                found
            }
        }
        None => Default::default(),
    };
    let mut pool: Vec<usize> = by_words.iter().chain(&by_vector).copied().collect();
    let sessions = Sessions::of(corpus, &pool);
    let beside: Vec<usize> = by_words
        .iter()
        .take(GROWN)
        .chain(by_vector.iter().take(GROWN))
        .flat_map(|document| [sessions.near(*document, -1), sessions.near(*document, 1)])
        .flatten()
        .filter(|document| admitted(*document))
        .collect();
    if eligible.asks() {
        let all: Vec<Candidate> = (beside.iter())
            .map(|d| corpus.entries.candidate(*d))
            .collect();
        let passed: IdSet = eligible.first(&all, all.len(), 0)?.into_iter().collect();
        pool.extend(
            (beside.iter().zip(&all))
                .filter(|(_, c)| passed.contains(&c.id))
                .map(|(d, _)| *d),
        );
    } else {
        pool.extend(beside);
    }
    pool.sort_unstable();
    pool.dedup();

    // Every candidate is scored by every lane, and so are its neighbours.
    let mut around: Vec<usize> = pool
        .iter()
        .flat_map(|d| [Some(*d), sessions.near(*d, -1), sessions.near(*d, 1)])
        .flatten()
        .collect();
    around.sort_unstable();
    around.dedup();
    let similarities: Vec<Option<f64>> = match semantic {
        None => vec![None; around.len()],
        Some(lane) => {
            let rest: Vec<(usize, Uuid)> = around
                .iter()
                .filter(|d| !vectors.contains_key(d))
                .map(|d| (*d, corpus.entries.id(*d)))
                .collect();
            let ids: Vec<Uuid> = rest.iter().map(|(_, id)| *id).collect();
            let places = lane.points.entries.find(&ids);
            vectors.extend(
                rest.iter()
                    .filter_map(|(d, id)| Some((*d, *places.get(id)?))),
            );
            lane.points.know(
                around
                    .iter()
                    .filter_map(|document| vectors.get(document).copied()),
            )?;
            around
                .iter()
                .map(|d| Some(lane.similarity(*vectors.get(d)?)))
                .collect()
        }
    };
    let similarity = |document: &usize| similarities[around.binary_search(document).ok()?];
    let speaker = corpus.speaker_named(&named.names);
    let near = |document: usize, steps: isize| {
        let other = sessions.near(document, steps)?;
        let direct = steps.abs() == 1;
        Some(ranking::Near {
            pooled: pool.binary_search(&other).ok(),
            length: corpus.length(other).0,
            words: if direct {
                words
                    .score(other)
                    .map_or(0.0, |s| s.covered(&context.weights))
            } else {
                0.0
            },
            vector: if direct { similarity(&other) } else { None },
        })
    };
    let candidates: Vec<ranking::Candidate> = pool
        .iter()
        .map(|d| {
            let (length, question) = corpus.length(*d);
            let scored = words.score(*d);
            let said_by = corpus.speaker(*d);
            ranking::Candidate {
                words: scored.map_or(0.0, |s| s.score),
                coverage: scored.map_or(0.0, |s| s.coverage),
                vector: similarity(d),
                length,
                question,
                spoken: said_by != 0,
                speaker: speaker.is_some_and(|s| s == said_by),
                date: if named.dates.is_empty() {
                    0.0
                } else {
                    Date::from_postgres(corpus.time(*d))
                        .map_or(0.0, |date| dates::fit(&named.dates, date))
                },
                near: [-1, 1].map(|side| [1, 2, 3].map(|step| near(*d, side * step))),
            }
        })
        .collect();
    let (has_words, has_vectors) = (!by_words.is_empty(), !by_vector.is_empty());
    let parts = ranking::rank(&context.weights, &candidates, has_words, has_vectors);
    let mut documents = pool;
    let mut order: Vec<(f64, usize)> = parts.iter().map(ranking::Parts::score).zip(0..).collect();
    let sort = |order: &mut Vec<(f64, usize)>, documents: &[usize]| {
        order.sort_by(|a, b| {
            let older = || corpus.entries.compare(documents[b.1], documents[a.1]);
            b.0.total_cmp(&a.0).then_with(older)
        });
    };
    sort(&mut order, &documents);
    let mut linked = vec![0.0; documents.len()];
    let links = associated(context, corpus, &order, &documents)?;
    if !links.is_empty() {
        let ids: Vec<Uuid> = links.keys().copied().collect();
        let places = corpus.entries.find(&ids);
        let mut others: Vec<Candidate> = Vec::new();
        for (id, place) in &places {
            match documents.binary_search(place) {
                Ok(known) => linked[known] = links[id],
                Err(_) if admitted(*place) => others.push(corpus.entries.candidate(*place)),
                Err(_) => {}
            }
        }
        for (score, i) in &mut order {
            *score += linked[*i];
        }
        for id in eligible.first(&others, others.len(), 0)? {
            order.push((links[&id], documents.len()));
            documents.push(places[&id]);
            linked.push(links[&id]);
        }
        sort(&mut order, &documents);
    }
    let weights = fusion::weights(context.weights.vector, has_words, has_vectors);
    let likeliest = (semantic.as_ref()).is_some_and(|lane| lane.points.partial());
    let corpus = corpus.clone();
    let documents = Rc::new(documents);
    let ids = (corpus.clone(), documents.clone());
    let places = ids.clone();
    Ok(Ranked {
        order,
        id: Box::new(move |i| ids.0.entries.id(ids.1[i])),
        places: Box::new(move |i| {
            let (entries, document) = (&places.0.entries, places.1[i]);
            [entries.row(document), entries.state(document)]
        }),
        describe: Box::new(move |i, explain| {
            let found = words.parts(&corpus, documents[i]);
            let parts = explain.then(|| {
                let mut parts = match candidates.get(i) {
                    Some(candidate) => explained(candidate, &parts[i], weights, &found, likeliest),
                    None => Map::new(),
                };
                if linked[i] > 0.0 {
                    parts.insert("links".to_owned(), Value::from(linked[i]));
                }
                parts
            });
            (words::names_of(&found), parts)
        }),
    })
}

/// The parts of a score by name. Contributions of 0 are left out.
fn explained(
    candidate: &ranking::Candidate,
    parts: &ranking::Parts,
    weights: (f64, f64),
    words: &[(&str, f64)],
    likeliest: bool,
) -> Map<String, Value> {
    let mut lanes = Map::new();
    if weights.0 > 0.0 {
        lanes.insert(
            "words".to_owned(),
            json!({
                "score": parts.words,
                "bm25": candidate.words,
                "coverage": candidate.coverage,
                "parts": words::parts_object(words),
                "normalized": parts.words_normalized,
                "weight": weights.0,
                "contribution": parts.from_words,
            }),
        );
    }
    if weights.1 > 0.0 {
        let mut lane = json!({
            "score": parts.vector,
            "similarity": candidate.vector,
            "normalized": parts.vector_normalized,
            "weight": weights.1,
            "contribution": parts.from_vector,
        });
        if likeliest {
            lane["approximate"] = Value::from(true);
        }
        lanes.insert("vector".to_owned(), lane);
    }
    let mut out = Map::new();
    out.insert("lanes".to_owned(), Value::Object(lanes));
    for (name, contribution) in [
        ("neighbours", parts.from_neighbours),
        ("speaker", parts.from_speaker),
        ("date", parts.from_date),
        ("question", parts.from_question),
        ("length", parts.from_length),
    ] {
        if contribution != 0.0 {
            out.insert(name.to_owned(), Value::from(contribution));
        }
    }
    out
}
