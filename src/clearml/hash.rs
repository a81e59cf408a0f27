//! Hashes of texts, so that many of them take little memory.
//!
//! This module must not be used where certainty is needed: two texts may have the same hash.

use std::hash::{DefaultHasher, Hasher};

/// A number for a text, the same in one process.
pub(super) fn hash(bytes: impl AsRef<[u8]>) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes.as_ref());
    hasher.finish()
}
