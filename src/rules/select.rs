//! Which of the expired entries are removed now: the step between the verdict and the lock.
//!
//! It must not do I/O or judge again. A pass removes all that has expired; other selections choose fewer,
//! and none can add an entry, since only [`super::verdict`] makes an [`Expired`].

use std::fmt;

use super::verdict::Expired;

/// Chooses from batches of expired entries. Shared by all workers of a pass.
pub trait Select: Sync + fmt::Debug {
    /// Moves the entries of `batch` that are not removed now to the returned list; the order stays.
    fn set_aside<D>(&self, batch: &mut Vec<Expired<D>>) -> Vec<Expired<D>>;
}

/// Removes every expired entry.
#[derive(Debug, Clone, Copy, Default)]
pub struct All;

impl Select for All {
    fn set_aside<D>(&self, _batch: &mut Vec<Expired<D>>) -> Vec<Expired<D>> {
        Vec::new()
    }
}
