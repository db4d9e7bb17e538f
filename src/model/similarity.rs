//! How alike two vectors are. Larger is more alike, whatever the distance.

/// A distance that an embedding model was trained for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// Angle: similarity is the cosine, −1..1.
    Cosine,
    /// Dot product: similarity is the product itself.
    InnerProduct,
    /// Euclid: similarity is 1 / (1 + distance), 0..1.
    L2,
}

impl Distance {
    /// From its name in `embedding_models.distance`.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "cosine" => Some(Self::Cosine),
            "inner_product" => Some(Self::InnerProduct),
            "l2" => Some(Self::L2),
            _ => None,
        }
    }
}

/// Euclidean length.
pub fn norm(v: &[f32]) -> f64 {
    dot(v, v).sqrt()
}

/// Similarity of `a` and `b`; `None` when their dimensions differ. A cosine with a zero vector is 0.
pub fn similarity(distance: Distance, a: &[f32], b: &[f32]) -> Option<f64> {
    if a.len() != b.len() {
        return None;
    }
    Some(match distance {
        Distance::Cosine => {
            let length = norm(a) * norm(b);
            if length > 0.0 {
                (dot(a, b) / length).clamp(-1.0, 1.0)
            } else {
                0.0
            }
        }
        Distance::InnerProduct => dot(a, b),
        Distance::L2 => {
            let squared: f64 = a.iter().zip(b).map(|(x, y)| f64::from(x - y).powi(2)).sum();
            1.0 / (1.0 + squared.sqrt())
        }
    })
}

/// Dot product. Eight partial sums, so that the compiler may use vector instructions.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f64 = a8
        .remainder()
        .iter()
        .zip(b8.remainder())
        .map(|(x, y)| f64::from(*x) * f64::from(*y))
        .sum();
    let mut sums = [0f64; 8];
    for (x, y) in a8.zip(b8) {
        for i in 0..8 {
            sums[i] += f64::from(x[i]) * f64::from(y[i]);
        }
    }
    sums.iter().sum::<f64>() + tail
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_values() {
        let s = |d, a: &[f32], b: &[f32]| similarity(d, a, b).unwrap();
        assert_eq!(s(Distance::Cosine, &[1.0, 0.0], &[0.0, 2.0]), 0.0);
        assert!((s(Distance::Cosine, &[1.0, 1.0], &[-2.0, -2.0]) + 1.0).abs() < 1e-12);
        assert_eq!(s(Distance::Cosine, &[0.0, 0.0], &[1.0, 2.0]), 0.0);
        assert_eq!(s(Distance::InnerProduct, &[1.0, 2.0], &[3.0, 4.0]), 11.0);
        assert_eq!(s(Distance::L2, &[0.0, 0.0], &[3.0, 4.0]), 1.0 / 6.0);
        assert_eq!(similarity(Distance::L2, &[1.0], &[1.0, 2.0]), None);
    }

    proptest! {
        #[test]
        fn a_vector_is_most_like_itself(v in proptest::collection::vec(-10f32..10.0, 1..40), w in proptest::collection::vec(-10f32..10.0, 40)) {
            let w = &w[..v.len()];
            prop_assume!(norm(&v) > 1e-3);
            for d in [Distance::Cosine, Distance::L2] {
                let own = similarity(d, &v, &v).unwrap();
                prop_assert!((own - 1.0).abs() < 1e-6);
                prop_assert!(similarity(d, &v, w).unwrap() <= own + 1e-6);
            }
        }
    }
}
