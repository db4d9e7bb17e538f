//! Maps keyed by memory or by number. Ids are random where it matters, so their own bits are hash enough.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use uuid::Uuid;

/// Takes the last eight bytes that it is given.
#[derive(Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last_chunk::<8>() {
            // The multiplication brings the bits to the top, where the map looks first.
            self.0 = u64::from_le_bytes(*last).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A map from memories.
pub type IdMap<V> = HashMap<Uuid, V, BuildHasherDefault<IdHasher>>;
/// A map from numbers of documents or vectors.
pub type NumberMap<V> = HashMap<usize, V, BuildHasherDefault<IdHasher>>;
/// A set of memories.
pub type IdSet = HashSet<Uuid, BuildHasherDefault<IdHasher>>;
