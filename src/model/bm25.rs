//! BM25 with a one-sided length norm.
//!
//! score(d) = Σ over the query's distinct lexemes of idf · tf / (tf + k1 · max(1, len / pivot)),
//! idf = ln(1 + (N − df + ½) / (df + ½)).
//!
//! The probabilistic term weight is Robertson & Spärck Jones 1976, the saturation Robertson &
//! Zaragoza 2009. The norm never rewards brevity: a document shorter than `pivot` counts as one of
//! `pivot` lexemes, since "Thanks!" is no better an answer for being short.

/// Constants of the formula.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Params {
    /// Saturation of term frequency, ≥ 0.
    pub k1: f64,
    /// Length in lexemes up to which length does not count, > 0.
    pub pivot: f64,
}

/// Inverse document frequency of a lexeme that `df` of `n` documents hold; in nats, > 0 for df ≤ n.
pub fn idf(n: u64, df: u64) -> f64 {
    let (n, df) = (n.max(df) as f64, df as f64);
    (1.0 + (n - df + 0.5) / (df + 0.5)).ln()
}

/// The part of one lexeme: idf times saturated frequency.
pub fn weight(params: Params, idf: f64, tf: u32, length: u32) -> f64 {
    let tf = f64::from(tf);
    idf * tf / (tf + params.k1 * (f64::from(length) / params.pivot).max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The formula again, word by word over plain token lists, as a reference.
    fn reference(params: Params, query: &[String], docs: &[Vec<String>]) -> Vec<f64> {
        let n = docs.len() as f64;
        docs.iter()
            .map(|doc| {
                let mut total = 0.0;
                for term in query {
                    let df = docs.iter().filter(|d| d.contains(term)).count() as f64;
                    let tf = doc.iter().filter(|w| *w == term).count() as f64;
                    if tf > 0.0 {
                        let norm = if doc.len() as f64 / params.pivot > 1.0 {
                            doc.len() as f64 / params.pivot
                        } else {
                            1.0
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
        ) {
            let query: Vec<String> = query.into_iter().collect();
            let n = docs.len() as u64;
            let tf = |doc: &[String], q: &String| doc.iter().filter(|w| *w == q).count() as u32;
            let df = |q: &String| docs.iter().filter(|d| d.contains(q)).count() as u64;
            for (id, wanted) in reference(PARAMS, &query, &docs).into_iter().enumerate() {
                let doc = &docs[id];
                let got: f64 = query.iter().map(|q| weight(PARAMS, idf(n, df(q)), tf(doc, q), doc.len() as u32)).sum();
                prop_assert!((got - wanted).abs() <= 1e-9 * (1.0 + wanted.abs()), "{id}: {got} {wanted}");
            }
        }

        #[test]
        fn brevity_is_not_rewarded_and_length_is_held_down(tf in 1u32..5, short in 1u32..30, long in 31u32..500) {
            let w = |len| weight(PARAMS, 1.0, tf, len);
            prop_assert_eq!(w(short), w(30));
            prop_assert!(w(long) < w(30));
        }
    }

    #[test]
    fn rare_words_weigh_more() {
        assert!(idf(100, 1) > idf(100, 50) && idf(100, 100) > 0.0);
    }
}
