//! A task that a cleanup is about to delete, in few bytes.
//!
//! It must not hold a name or an address: there may be many of them.

use super::rows::Id;
use crate::rules::Moment;

/// A task that was selected.
#[derive(Debug, Clone, Copy)]
pub struct Selected {
    /// The task.
    pub id: Id,
    /// When its status changed last.
    pub changed: Moment,
    pub(super) is_dataset: bool,
    pub(super) is_pipeline: bool,
    pub(super) project: u64,
}

/// A number for a text, the same in one process.
pub(super) fn hash(bytes: impl AsRef<[u8]>) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes.as_ref());
    hasher.finish()
}
