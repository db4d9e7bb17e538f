//! From the candidates of the lanes to one order of them.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::corpus::{Corpus, Entries, Sessions};
use super::eligible::Candidate;
use super::ids::{IdSet, NumberMap};
use super::lanes::{self, Nearest};
use super::links::associated;
use super::semantic::Semantic;
use super::words::{self, Words};
use super::{Named, Scope, need};
use crate::blocks::segment::Place;
use crate::error::Result;
use crate::model::{dates, fusion, ranking};
use crate::text::Date;

/// Words that matched and, if asked for, the parts of the score.
type Description = (Vec<String>, Option<Map<String, Value>>);

/// Candidates in order, with what explains them.
pub(super) struct Ranked<'s, 't> {
    /// Score and index, best first.
    pub(super) order: Vec<(f64, usize)>,
    by: By<'s, 't>,
}

/// By what candidates are ranked.
enum By<'s, 't> {
    Need(Needed),
    Lanes(Fused<'s, 't>),
}

impl Ranked<'_, '_> {
    /// The id of one by its index.
    pub(super) fn id(&self, i: usize) -> Uuid {
        match &self.by {
            By::Need(needed) => needed.levels[i].0,
            By::Lanes(fused) => fused.corpus.entries.id(fused.documents[i]),
        }
    }

    fn row(&self, i: usize) -> Option<Place> {
        match &self.by {
            By::Need(_) => None,
            By::Lanes(fused) => fused.corpus.entries.row(fused.documents[i]),
        }
    }

    /// Where its state may be.
    pub(super) fn state(&self, i: usize) -> Option<Place> {
        match &self.by {
            By::Need(_) => None,
            By::Lanes(fused) => fused.corpus.entries.state(fused.documents[i]),
        }
    }

    /// The ids of some, and where their rows may be.
    pub(super) fn rows(&self, some: &[&(f64, usize)]) -> Vec<(Uuid, Option<Place>)> {
        some.iter()
            .map(|(_, i)| (self.id(*i), self.row(*i)))
            .collect()
    }

    /// Describes one by its index; the flag asks for the parts of the score.
    pub(super) fn describe(&self, i: usize, explain: bool) -> Description {
        match &self.by {
            By::Need(needed) => (Vec::new(), explain.then(|| needed.explained(i))),
            By::Lanes(fused) => fused.describe(i, explain),
        }
    }
}

/// What explains memories that were not asked for by anything they say.
struct Needed {
    /// Memories and their base levels, best first.
    levels: Vec<(Uuid, f64)>,
    /// The levels, 0 to 1.
    scores: Vec<f64>,
}

impl Needed {
    fn explained(&self, i: usize) -> Map<String, Value> {
        let (level, score) = (self.levels[i].1, self.scores[i]);
        let lanes = json!({"need": {"score": level, "normalized": score, "weight": 1.0, "contribution": score}});
        Map::from_iter([("lanes".to_owned(), lanes)])
    }
}

/// The memories most needed now, whatever they say.
pub(super) fn needed<'s, 't>(scope: &Scope<'s, 't>) -> Result<Ranked<'s, 't>> {
    let entries = &scope.corpus.entries;
    let mut levels = need::levels(scope.context)?;
    let ids: Vec<Uuid> = levels.iter().map(|(id, _)| *id).collect();
    let places = entries.find(&ids);
    levels.retain(|(id, _)| places.contains_key(id));
    levels.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| b.0.cmp(&a.0)));
    let all: Vec<Candidate> = (levels.iter())
        .map(|(id, _)| entries.candidate(places[id]))
        .collect();
    let passed: IdSet = (scope.eligible.first(&all, scope.context.pool, 0)?)
        .into_iter()
        .collect();
    levels.retain(|(id, _)| passed.contains(id));
    let scores = fusion::min_max(&levels.iter().map(|(_, level)| *level).collect::<Vec<_>>());
    Ok(Ranked {
        order: scores.iter().copied().zip(0..).collect(),
        by: By::Need(Needed { levels, scores }),
    })
}

/// Collects the candidates of the lanes and fuses them: best first, ties to the newer memory.
pub(super) fn rank<'s, 't>(
    scope: &Scope<'s, 't>,
    words: &'s Words,
    mut semantic: Option<&mut Semantic<'_>>,
    named: &Named,
) -> Result<Ranked<'s, 't>> {
    let weights = &scope.context.weights;
    let by_words = lanes::by_words(scope, words)?;
    let by_vector = match &mut semantic {
        Some(lane) => lanes::by_vector(scope, lane)?,
        None => Nearest::default(),
    };
    let (has_words, has_vectors) = (!by_words.is_empty(), !by_vector.documents.is_empty());
    let by_date = lanes::by_date(scope, &named.dates)?;
    let pool = Pool::of(scope, &by_words, &by_vector.documents, &by_date)?;
    let similarities = match &mut semantic {
        Some(lane) => Similarities::of(scope, pool.around(), lane, by_vector.vectors)?,
        None => Similarities::none(),
    };
    let likeliest = semantic.is_some_and(|lane| lane.points.partial());
    let evidence = Evidence {
        scope,
        words,
        similarities: &similarities,
        pool: &pool,
        speaker: scope.corpus.speaker_named(&named.names),
        dates: &named.dates,
    };
    let candidates = evidence.candidates();
    let parts = ranking::rank(weights, &candidates, has_words, has_vectors);
    let mut standing = Standing::new(&scope.corpus.entries, pool.documents, &parts);
    standing.add_links(scope)?;
    Ok(Ranked {
        order: standing.order,
        by: By::Lanes(Fused {
            corpus: scope.corpus,
            words,
            documents: standing.documents,
            candidates,
            parts,
            linked: standing.linked,
            weights: fusion::weights(weights.vector, has_words, has_vectors),
            likeliest,
        }),
    })
}

/// Candidates of each lane whose neighbours in the session become candidates as well.
const GROWN: usize = 20;

/// The candidates that are ranked.
struct Pool {
    /// Ascending.
    documents: Vec<usize>,
    /// Of what the lanes have found.
    sessions: Sessions,
}

impl Pool {
    /// What the lanes have found, and what stands beside the best of what says it.
    fn of(
        scope: &Scope<'_, '_>,
        by_words: &[usize],
        by_vector: &[usize],
        by_date: &[usize],
    ) -> Result<Self> {
        let found = by_words.iter().chain(by_vector).chain(by_date);
        let mut documents: Vec<usize> = found.copied().collect();
        let sessions = Sessions::of(scope.corpus, &documents);
        let beside: Vec<usize> = by_words
            .iter()
            .take(GROWN)
            .chain(by_vector.iter().take(GROWN))
            .flat_map(|document| sessions.beside(*document))
            .filter(|document| scope.admits(*document))
            .collect();
        if scope.eligible.asks() {
            let all: Vec<Candidate> = (beside.iter())
                .map(|d| scope.corpus.entries.candidate(*d))
                .collect();
            let passed: IdSet = (scope.eligible.first(&all, all.len(), 0)?)
                .into_iter()
                .collect();
            documents.extend(
                (beside.iter().zip(&all))
                    .filter(|(_, c)| passed.contains(&c.id))
                    .map(|(d, _)| *d),
            );
        } else {
            documents.extend(beside);
        }
        documents.sort_unstable();
        documents.dedup();
        Ok(Self {
            documents,
            sessions,
        })
    }

    /// The candidates and what stands beside them, ascending.
    fn around(&self) -> Vec<usize> {
        let mut around: Vec<usize> = self
            .documents
            .iter()
            .flat_map(|d| std::iter::once(*d).chain(self.sessions.beside(*d)))
            .collect();
        around.sort_unstable();
        around.dedup();
        around
    }
}

/// How like the query documents are.
struct Similarities {
    /// Ascending.
    documents: Vec<usize>,
    /// `None` where there is no vector.
    values: Vec<Option<f64>>,
}

impl Similarities {
    /// Nothing is compared.
    fn none() -> Self {
        Self {
            documents: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Of these documents, ascending, some of whose vectors have been found already.
    fn of(
        scope: &Scope<'_, '_>,
        documents: Vec<usize>,
        lane: &mut Semantic<'_>,
        mut vectors: NumberMap<usize>,
    ) -> Result<Self> {
        let rest: Vec<(usize, Uuid)> = documents
            .iter()
            .filter(|d| !vectors.contains_key(d))
            .map(|d| (*d, scope.corpus.entries.id(*d)))
            .collect();
        let ids: Vec<Uuid> = rest.iter().map(|(_, id)| *id).collect();
        let places = lane.points.entries.find(&ids);
        vectors.extend(
            rest.iter()
                .filter_map(|(d, id)| Some((*d, *places.get(id)?))),
        );
        lane.points.know(
            documents
                .iter()
                .filter_map(|document| vectors.get(document).copied()),
        )?;
        let values = documents
            .iter()
            .map(|d| Some(lane.similarity(*vectors.get(d)?)))
            .collect();
        Ok(Self { documents, values })
    }

    fn get(&self, document: usize) -> Option<f64> {
        self.values[self.documents.binary_search(&document).ok()?]
    }
}

/// What candidates are ranked by: every candidate is scored by every lane, and so are its neighbours.
struct Evidence<'e, 's, 't> {
    scope: &'e Scope<'s, 't>,
    words: &'e Words,
    similarities: &'e Similarities,
    pool: &'e Pool,
    /// Whom the question names.
    speaker: Option<u32>,
    /// When it asks for.
    dates: &'e [dates::Named],
}

impl Evidence<'_, '_, '_> {
    /// All candidates, in the order of the pool.
    fn candidates(&self) -> Vec<ranking::Candidate> {
        let documents = self.pool.documents.iter();
        documents.map(|d| self.candidate(*d)).collect()
    }

    fn candidate(&self, document: usize) -> ranking::Candidate {
        let corpus = self.scope.corpus;
        let (length, question) = corpus.length(document);
        let scored = self.words.score(document);
        let said_by = corpus.speaker(document);
        ranking::Candidate {
            words: scored.map_or(0.0, |s| s.score),
            coverage: scored.map_or(0.0, |s| s.coverage),
            vector: self.similarities.get(document),
            length,
            question,
            spoken: corpus.said(document),
            speaker: self.speaker.is_some_and(|s| s == said_by),
            date: if self.dates.is_empty() {
                0.0
            } else {
                Date::from_postgres(corpus.time(document))
                    .map_or(0.0, |date| dates::fit(self.dates, date))
            },
            near: [-1, 1].map(|side| [1, 2, 3].map(|step| self.near(document, side * step))),
        }
    }

    /// What stands so many steps after (or before) a candidate in its session.
    fn near(&self, document: usize, steps: isize) -> Option<ranking::Near> {
        let other = self.pool.sessions.near(document, steps)?;
        let direct = steps.abs() == 1;
        let weights = &self.scope.context.weights;
        Some(ranking::Near {
            pooled: self.pool.documents.binary_search(&other).ok(),
            length: self.scope.corpus.length(other).0,
            words: if direct {
                (self.words.score(other)).map_or(0.0, |s| s.covered(weights))
            } else {
                0.0
            },
            vector: if direct {
                self.similarities.get(other)
            } else {
                None
            },
        })
    }
}

/// How candidates stand, and after them what only links have found.
struct Standing<'s, 't> {
    entries: &'s Entries<'t>,
    documents: Vec<usize>,
    /// What links add, by index.
    linked: Vec<f64>,
    /// Score and index, best first.
    order: Vec<(f64, usize)>,
}

impl<'s, 't> Standing<'s, 't> {
    fn new(entries: &'s Entries<'t>, documents: Vec<usize>, parts: &[ranking::Parts]) -> Self {
        let mut standing = Self {
            entries,
            linked: vec![0.0; documents.len()],
            documents,
            order: parts.iter().map(ranking::Parts::score).zip(0..).collect(),
        };
        standing.sort();
        standing
    }

    fn sort(&mut self) {
        let (entries, documents) = (self.entries, &self.documents);
        self.order.sort_by(|a, b| {
            let older = || entries.compare(documents[b.1], documents[a.1]);
            b.0.total_cmp(&a.0).then_with(older)
        });
    }

    /// Adds what links to the best add, to candidates and to others, which join them.
    fn add_links(&mut self, scope: &Scope<'_, '_>) -> Result<()> {
        let links = associated(scope, &self.order, &self.documents)?;
        if links.is_empty() {
            return Ok(());
        }
        let ids: Vec<Uuid> = links.keys().copied().collect();
        let places = self.entries.find(&ids);
        let mut others: Vec<Candidate> = Vec::new();
        for (id, place) in &places {
            match self.documents.binary_search(place) {
                Ok(known) => self.linked[known] = links[id],
                Err(_) if scope.admits(*place) => others.push(self.entries.candidate(*place)),
                Err(_) => {}
            }
        }
        for (score, i) in &mut self.order {
            *score += self.linked[*i];
        }
        for id in scope.eligible.first(&others, others.len(), 0)? {
            self.order.push((links[&id], self.documents.len()));
            self.documents.push(places[&id]);
            self.linked.push(links[&id]);
        }
        self.sort();
        Ok(())
    }
}

/// What explains candidates of the lanes, by index. What only links have found comes after all others.
struct Fused<'s, 't> {
    corpus: &'s Corpus<'t>,
    words: &'s Words,
    documents: Vec<usize>,
    candidates: Vec<ranking::Candidate>,
    parts: Vec<ranking::Parts>,
    linked: Vec<f64>,
    /// Of the word lane and the vector lane.
    weights: (f64, f64),
    /// Only vectors of the likeliest cells were compared.
    likeliest: bool,
}

impl Fused<'_, '_> {
    fn describe(&self, i: usize, explain: bool) -> Description {
        let found = self.words.parts(self.corpus, self.documents[i]);
        let parts = explain.then(|| self.explained(i, &found));
        (words::names_of(&found), parts)
    }

    /// The parts of a score by name. Contributions of 0 are left out.
    fn explained(&self, i: usize, words: &[(&str, f64)]) -> Map<String, Value> {
        let mut out = Map::new();
        if let (Some(candidate), Some(parts)) = (self.candidates.get(i), self.parts.get(i)) {
            let lanes = self.lanes(candidate, parts, words);
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
        }
        if self.linked[i] > 0.0 {
            out.insert("links".to_owned(), Value::from(self.linked[i]));
        }
        out
    }

    /// What each lane that counts has given.
    fn lanes(
        &self,
        candidate: &ranking::Candidate,
        parts: &ranking::Parts,
        words: &[(&str, f64)],
    ) -> Map<String, Value> {
        let (word_weight, vector_weight) = self.weights;
        let mut lanes = Map::new();
        if word_weight > 0.0 {
            lanes.insert(
                "words".to_owned(),
                json!({
                    "score": parts.words,
                    "bm25": candidate.words,
                    "coverage": candidate.coverage,
                    "of_question": self.words.of_question(candidate.coverage),
                    "parts": words::parts_object(words),
                    "normalized": parts.words_normalized,
                    "weight": word_weight,
                    "contribution": parts.from_words,
                }),
            );
        }
        if vector_weight > 0.0 {
            let mut lane = json!({
                "score": parts.vector,
                "similarity": candidate.vector,
                "normalized": parts.vector_normalized,
                "weight": vector_weight,
                "contribution": parts.from_vector,
            });
            if self.likeliest {
                lane["approximate"] = Value::from(true);
            }
            lanes.insert("vector".to_owned(), lane);
        }
        lanes
    }
}
