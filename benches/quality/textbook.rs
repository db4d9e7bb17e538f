//! Rankings computed here, from the server's own tsvectors: textbook BM25 and fusions with cosine.

use std::collections::{BTreeSet, HashMap};

use postgres::Client;

use crate::common::Result;

const K1: f64 = 1.2;
const B: f64 = 0.75;
/// Best memories of each lane that are fused, and the constant of rank fusion.
const POOL: usize = 100;
const RRF_K: f64 = 60.0;

/// The words and vectors of one workspace.
#[derive(Default)]
pub struct Workspace {
    postings: HashMap<String, Vec<(i64, f64)>>,
    lengths: HashMap<i64, f64>,
    vectors: Vec<(i64, Vec<f32>)>,
}

pub type Ranking = Vec<(i64, f64)>;

impl Workspace {
    pub fn load(admin: &mut Client, user: &str, vectors: Vec<(i64, Vec<f32>)>) -> Result<Self> {
        let mut workspace = Self {
            lengths: vectors.iter().map(|(id, _)| (*id, 0.0)).collect(),
            vectors,
            ..Self::default()
        };
        let rows = admin.query(
            "SELECT d.id, w.lexeme, cardinality(w.positions)::float8
             FROM docs d, unnest(d.fts) w WHERE d.user_id = $1::text::uuid",
            &[&user],
        )?;
        for row in rows {
            let (id, lexeme, frequency): (i64, String, f64) = (row.get(0), row.get(1), row.get(2));
            workspace
                .postings
                .entry(lexeme)
                .or_default()
                .push((id, frequency));
            *workspace.lengths.entry(id).or_default() += frequency;
        }
        Ok(workspace)
    }

    /// All memories with one of the lexemes, best first.
    pub fn bm25(&self, lexemes: &BTreeSet<String>) -> Ranking {
        let n = self.lengths.len() as f64;
        let mean = self.lengths.values().sum::<f64>() / n;
        let mut scores: HashMap<i64, f64> = HashMap::new();
        for postings in lexemes
            .iter()
            .filter_map(|lexeme| self.postings.get(lexeme))
        {
            let df = postings.len() as f64;
            let idf = (1.0 + (n - df + 0.5) / (df + 0.5)).ln();
            for (id, tf) in postings {
                let norm = 1.0 - B + B * self.lengths[id] / mean;
                *scores.entry(*id).or_default() += idf * tf * (K1 + 1.0) / (tf + K1 * norm);
            }
        }
        sorted(scores.into_iter().collect())
    }

    /// All memories, by cosine: the vectors have unit length.
    pub fn cosine(&self, query: &[f32]) -> Ranking {
        let product = |v: &[f32]| v.iter().zip(query).map(|(a, b)| f64::from(a * b)).sum();
        sorted(
            self.vectors
                .iter()
                .map(|(id, v)| (*id, product(v)))
                .collect(),
        )
    }
}

/// 1 / (k + rank), added up.
pub fn reciprocal_ranks(lanes: &[&Ranking]) -> Ranking {
    let mut scores: HashMap<i64, f64> = HashMap::new();
    for lane in lanes {
        for (rank, (id, _)) in lane.iter().take(POOL).enumerate() {
            *scores.entry(*id).or_default() += 1.0 / (RRF_K + rank as f64 + 1.0);
        }
    }
    sorted(scores.into_iter().collect())
}

/// The scores of each lane over the union of candidates brought to 0..1, averaged.
pub fn mean_of_scores(lanes: &[&Ranking]) -> Ranking {
    let union: BTreeSet<i64> = lanes
        .iter()
        .flat_map(|l| l.iter().take(POOL))
        .map(|(id, _)| *id)
        .collect();
    let mut scores: HashMap<i64, f64> = HashMap::new();
    for lane in lanes.iter().filter(|lane| !lane.is_empty()) {
        let points: HashMap<i64, f64> = lane.iter().copied().collect();
        let of = |id: &i64| points.get(id).copied().unwrap_or(0.0);
        let (low, high) = union
            .iter()
            .map(of)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), s| {
                (l.min(s), h.max(s))
            });
        for id in &union {
            *scores.entry(*id).or_default() += (of(id) - low) / (high - low).max(f64::MIN_POSITIVE);
        }
    }
    sorted(scores.into_iter().collect())
}

/// Best first; equal ones in the order of their ids.
fn sorted(mut ranking: Ranking) -> Ranking {
    ranking.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    ranking
}
