//! Numbers for texts, so that many of them take little memory.
//!
//! It must not be used for what has to be certain: two texts may have one number.

use std::hash::{DefaultHasher, Hasher};

/// A number for a text, the same in one process.
pub(super) fn hash(bytes: impl AsRef<[u8]>) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes.as_ref());
    hasher.finish()
}
