//! BM25 with two length norms, one for what is written and one for what somebody said.
//!
//! score(d) = Σ over the query's distinct lexemes of idf · tf / (tf + k1 · norm(d)),
//! idf = ln(1 + (N − df + ½) / (df + ½)).
//!
//! The probabilistic term weight is Robertson & Spärck Jones 1976, the saturation and the norm of what is written,
//! 1 − b + b · len / reference with b = ¾, Robertson & Zaragoza 2009. Its reference is not the mean length but lies
//! halfway, by logarithms, between that and `pivot`: a few very long documents draw a mean away from what the others
//! are, and of few documents it says little.
//!
//! What somebody said in a conversation is not better an answer for being short ("Thanks!"), so its norm,
//! max(1, len / pivot), never rewards brevity: what is shorter than `pivot` counts as of `pivot` lexemes.

/// Constants of the formula.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Params {
    /// Saturation of term frequency, ≥ 0.
    pub k1: f64,
    /// Length in lexemes up to which the length of what was said does not count, > 0.
    pub pivot: f64,
}

/// How much of the norm of what is written its length decides: the usual constant.
const B: f64 = 0.75;

/// Norms of the lengths of documents.
#[derive(Clone, Copy, Debug)]
pub struct Norms {
    pivot: f64,
    reference: f64,
}

impl Norms {
    /// `mean`: of the lengths of all documents, in lexemes; less than 1 counts as 1.
    pub fn new(params: Params, mean: f64) -> Self {
        Self {
            pivot: params.pivot,
            reference: (params.pivot * mean.max(1.0)).sqrt(),
        }
    }

    /// The norm of a document of so many lexemes, > 0.
    pub fn of(&self, length: u32, said: bool) -> f64 {
        let length = f64::from(length);
        if said {
            (length / self.pivot).max(1.0)
        } else {
            1.0 - B + B * length / self.reference
        }
    }
}

/// Inverse document frequency of a lexeme that `df` of `n` documents hold; in nats, > 0 for df ≤ n.
pub fn idf(n: u64, df: u64) -> f64 {
    let (n, df) = (n.max(df) as f64, df as f64);
    (1.0 + (n - df + 0.5) / (df + 0.5)).ln()
}

/// The part of one lexeme: idf times saturated frequency. `norm`: of the document, see [`Norms`].
pub fn weight(params: Params, idf: f64, tf: u32, norm: f64) -> f64 {
    let tf = f64::from(tf);
    idf * tf / (tf + params.k1 * norm)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The formula again, word by word over plain token lists, as a reference.
    fn reference(params: Params, query: &[String], docs: &[Vec<String>], said: bool) -> Vec<f64> {
        let n = docs.len() as f64;
        let mean = docs.iter().map(Vec::len).sum::<usize>() as f64 / n;
        docs.iter()
            .map(|doc| {
                let mut total = 0.0;
                for term in query {
                    let df = docs.iter().filter(|d| d.contains(term)).count() as f64;
                    let tf = doc.iter().filter(|w| *w == term).count() as f64;
                    if tf > 0.0 {
                        let len = doc.len() as f64;
                        let norm = match said {
                            true if len > params.pivot => len / params.pivot,
                            true => 1.0,
                            false => {
                                let log = (params.pivot.ln() + mean.max(1.0).ln()) / 2.0;
                                0.25 + 0.75 * (len.ln() - log).exp()
                            }
                        };
                        total +=
                            ((n - df + 0.5) / (df + 0.5)).ln_1p() * (tf / (tf + params.k1 * norm));
                    }
                }
                total
            })
            .collect()
    }

    const PARAMS: Params = Params {
        k1: 1.2,
        pivot: 30.0,
    };

    proptest! {
        #[test]
        fn equals_the_formula(
            docs in proptest::collection::vec(proptest::collection::vec("[a-f]", 0..60), 1..25),
            query in proptest::collection::btree_set("[a-h]", 1..6),
            said: bool,
        ) {
            let query: Vec<String> = query.into_iter().collect();
            let n = docs.len() as u64;
            let norms = Norms::new(PARAMS, docs.iter().map(Vec::len).sum::<usize>() as f64 / n as f64);
            let tf = |doc: &[String], q: &String| doc.iter().filter(|w| *w == q).count() as u32;
            let df = |q: &String| docs.iter().filter(|d| d.contains(q)).count() as u64;
            for (id, wanted) in reference(PARAMS, &query, &docs, said).into_iter().enumerate() {
                let doc = &docs[id];
                let norm = norms.of(doc.len() as u32, said);
                let got: f64 = query.iter().map(|q| weight(PARAMS, idf(n, df(q)), tf(doc, q), norm)).sum();
                prop_assert!((got - wanted).abs() <= 1e-9 * (1.0 + wanted.abs()), "{id}: {got} {wanted}");
            }
        }

        #[test]
        fn length_is_held_down_and_brevity_rewarded_in_what_is_written(
            tf in 1u32..5, short in 1u32..30, long in 31u32..500, mean in 0.0f64..2000.0,
        ) {
            let norms = Norms::new(PARAMS, mean);
            let w = |len, said| weight(PARAMS, 1.0, tf, norms.of(len, said));
            prop_assert_eq!(w(short, true), w(30, true));
            prop_assert!(w(long, true) < w(30, true));
            prop_assert!(w(long, false) < w(30, false) && w(30, false) < w(short, false));
        }
    }

    #[test]
    fn rare_words_weigh_more() {
        assert!(idf(100, 1) > idf(100, 50) && idf(100, 100) > 0.0);
    }
}
