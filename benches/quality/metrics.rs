//! How good a ranking is, with binary relevance.

/// Cuts at which recall is taken.
pub const CUTS: [usize; 4] = [1, 5, 10, 20];

/// Sums over questions.
#[derive(Clone, Copy, Default)]
pub struct Scores {
    pub questions: usize,
    recall: [f64; CUTS.len()],
    mrr: f64,
    ndcg: f64,
}

impl Scores {
    /// Takes the ranking for one question into account.
    pub fn add(&mut self, ranking: &[i64], relevant: &[i64]) {
        let hit = |id: &i64| relevant.contains(id);
        self.questions += 1;
        for (recall, cut) in self.recall.iter_mut().zip(CUTS) {
            let found = ranking
                .iter()
                .take(cut)
                .filter(|id| relevant.contains(id))
                .count();
            *recall += found as f64 / relevant.len() as f64;
        }
        if let Some(first) = ranking.iter().position(hit) {
            self.mrr += 1.0 / (first + 1) as f64;
        }
        let gain = |place: usize| 1.0 / (place as f64 + 2.0).log2();
        let won: f64 = ranking
            .iter()
            .take(10)
            .enumerate()
            .filter(|(_, id)| hit(id))
            .map(|(n, _)| gain(n))
            .sum();
        let most: f64 = (0..relevant.len().min(10)).map(gain).sum();
        self.ndcg += won / most;
    }

    /// Takes the questions of another category into account.
    pub fn merge(&mut self, other: &Self) {
        self.questions += other.questions;
        self.mrr += other.mrr;
        self.ndcg += other.ndcg;
        for (sum, recall) in self.recall.iter_mut().zip(other.recall) {
            *sum += recall;
        }
    }

    /// nDCG@10 in points.
    pub fn ndcg(&self) -> f64 {
        100.0 * self.ndcg / self.questions.max(1) as f64
    }

    /// MRR in points.
    pub fn mrr(&self) -> f64 {
        100.0 * self.mrr / self.questions.max(1) as f64
    }

    /// Recall at each cut, in points.
    pub fn recall(&self) -> [f64; CUTS.len()] {
        self.recall
            .map(|r| 100.0 * r / self.questions.max(1) as f64)
    }
}
