//! Base-level activation: how likely a memory is needed now, from how often and how lately it was
//! used (Anderson & Schooler 1991).

/// Age in seconds below which uses count as one second old.
pub const MIN_AGE: f64 = 1.0;

/// Petrov's (2006) approximation of B = ln Σ age^-d from the `recent` ages of the latest uses
/// (in any order), the number of uses `n` and the age of the oldest. Ages in seconds, result in
/// nats; −∞ without any use. Exact for n ≤ recent.len().
///
/// `d` is in 0..1. With k recent ages of n uses, the other n − k are spread evenly between the
/// k-th use and the oldest.
pub fn base_level_petrov(recent: &[f64], n: u64, oldest: f64, d: f64) -> f64 {
    let k = recent.len().min(usize::try_from(n).unwrap_or(usize::MAX));
    let recent = &recent[..k];
    let exact: f64 = recent.iter().map(|a| a.max(MIN_AGE).powf(-d)).sum();
    let rest = n - k as u64;
    if rest == 0 {
        return exact.ln();
    }
    let kth = recent.iter().copied().fold(MIN_AGE, f64::max);
    let oldest = oldest.max(kth);
    let mean = if oldest > kth {
        (oldest.powf(1.0 - d) - kth.powf(1.0 - d)) / ((1.0 - d) * (oldest - kth))
    } else {
        oldest.powf(-d)
    };
    (exact + rest as f64 * mean).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_histories() {
        let b = |recent: &[f64], n, oldest| base_level_petrov(recent, n, oldest, 0.5);
        assert!((b(&[3600.0], 1, 3600.0) - -4.094_345).abs() < 1e-6);
        assert_eq!(b(&[], 0, 10.0), f64::NEG_INFINITY);
        assert!(b(&[60.0], 5, 86_400.0) > b(&[60.0], 2, 86_400.0));
        assert!(b(&[60.0], 5, 86_400.0) > b(&[600.0], 5, 86_400.0));
    }

    #[test]
    fn oracle_vectors() {
        let file = include_str!("../../tests/vectors/base_level_petrov.json");
        let vectors: serde_json::Value = serde_json::from_str(file).unwrap();
        let tolerance = vectors["tolerance_abs"].as_f64().unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        let mut checked = 0;
        for case in cases {
            let recent: Vec<f64> = case["recent_ages_s"]
                .as_array()
                .unwrap()
                .iter()
                .map(|a| a.as_f64().unwrap())
                .collect();
            let got = base_level_petrov(
                &recent,
                case["n"].as_u64().unwrap(),
                case["age_created_s"].as_f64().unwrap(),
                case["d"].as_f64().unwrap(),
            );
            let wanted = case["B"].as_f64().unwrap();
            assert!((got - wanted).abs() <= tolerance, "{case}: {got}");
            checked += 1;
        }
        assert_eq!(Some(checked), vectors["n_cases"].as_u64());
    }
}
