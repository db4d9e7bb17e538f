//! The variants that search the baselines' table.

use crate::common::baselines::{EXACT, ITERATIVE};

/// A way to search `docs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baseline {
    /// Supabase's published function, under row security.
    Published,
    /// The same with ORDER BY and LIMIT where indexes can serve them, under row security.
    Repaired,
    /// The repaired one with an explicit tenant instead of row security.
    Filtered,
    /// The same without a vector index.
    Exact,
}

impl Baseline {
    pub const ALL: [Self; 4] = [Self::Published, Self::Repaired, Self::Filtered, Self::Exact];

    /// The letter on the command line.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Published => "p",
            Self::Repaired => "r",
            Self::Filtered => "h",
            Self::Exact => "e",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Self::Published => "(p) published hybrid_search, RLS",
            Self::Repaired => "(r) repaired, RLS, HNSW iterative",
            Self::Filtered => "(h) tenant filter, HNSW iterative",
            Self::Exact => "(e) tenant filter, exact",
        }
    }

    /// The SQL function that is called.
    pub fn function(self) -> &'static str {
        match self {
            Self::Published => "hybrid_search",
            Self::Repaired => "repaired",
            Self::Filtered | Self::Exact => "filtered",
        }
    }

    /// Whether the caller is the ordinary role; otherwise the tenant is an argument.
    pub fn under_policy(self) -> bool {
        matches!(self, Self::Published | Self::Repaired)
    }

    /// Settings of the connection.
    pub fn settings(self) -> &'static str {
        match self {
            Self::Published => "",
            Self::Repaired | Self::Filtered => ITERATIVE,
            Self::Exact => EXACT,
        }
    }
}
