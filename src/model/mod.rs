//! Pure maths, no Postgres types, no state.
#![forbid(unsafe_code)]

pub mod activation;
pub mod bm25;
pub mod concepts;
pub mod course;
pub mod dates;
pub mod fsrs;
pub mod fusion;
pub mod groups;
pub mod heat;
pub mod layers;
pub mod links;
pub mod memory;
pub mod need;
pub mod ranking;
pub mod sampling;
pub mod similarity;
pub mod spreading;
pub mod trace;

/// Reading tests/vectors: values that independent implementations computed.
#[cfg(test)]
mod vectors {
    use serde_json::Value;

    /// A file of vectors.
    macro_rules! vectors {
        ($name:literal) => {
            serde_json::from_str::<serde_json::Value>(include_str!(concat!(
                "../../tests/vectors/",
                $name,
                ".json"
            )))
            .unwrap()
        };
    }
    pub(crate) use vectors;

    /// The cases under `key`; never none.
    pub fn cases<'a>(file: &'a Value, key: &str) -> &'a [Value] {
        let cases = file[key].as_array().unwrap();
        assert!(!cases.is_empty());
        if key == "cases" {
            assert_eq!(Some(cases.len() as u64), file["n_cases"].as_u64());
        }
        cases
    }

    pub fn number(case: &Value, key: &str) -> f64 {
        case[key]
            .as_f64()
            .unwrap_or_else(|| panic!("{key} in {case}"))
    }

    pub fn numbers(case: &Value, key: &str) -> Vec<f64> {
        let list = case[key].as_array().unwrap();
        list.iter().map(|v| v.as_f64().unwrap()).collect()
    }

    /// `got` is within `relative` of the number under `key`.
    #[track_caller]
    pub fn assert_close(got: f64, case: &Value, key: &str, relative: f64) {
        let wanted = number(case, key);
        assert!(
            (got - wanted).abs() <= relative * wanted.abs(),
            "{key}: got {got} for {case}"
        );
    }
}
