//! Pure maths, no Postgres types, no state.
#![forbid(unsafe_code)]

pub mod activation;
pub mod bm25;
pub mod fusion;
pub mod similarity;
