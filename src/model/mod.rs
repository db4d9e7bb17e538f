//! Pure maths, no Postgres types, no state.
#![forbid(unsafe_code)]

pub mod activation;
pub mod bm25;
pub mod dates;
pub mod fusion;
pub mod ranking;
pub mod similarity;
