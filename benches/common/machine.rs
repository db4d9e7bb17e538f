//! What the machine is.

use std::fs;

/// CPU model and number of cores.
pub fn describe() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find(|line| line.starts_with("model name") || line.starts_with("Model"))
        .and_then(|line| line.split_once(':'))
        .map_or("unknown CPU", |(_, model)| model.trim());
    let best = ["avx512_vnni", "avx512f", "avx2", "asimd"]
        .into_iter()
        .find(|flag| info.split_whitespace().any(|word| word == *flag));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{model} ({}), {cores} cores",
        best.unwrap_or("no SIMD flag")
    )
}
