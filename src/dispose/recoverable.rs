//! How many entries of interrupted removals are looked at in one pass.
//!
//! This module must not know what becomes of them.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The most in one pass. An interrupted pass leaves one for each of its workers.
pub(super) const MOST: usize = 10_000;

/// How many more may be in this pass, whose workers share it.
#[derive(Debug)]
pub(super) struct Recoverable(AtomicUsize);

impl Default for Recoverable {
    fn default() -> Self {
        Self(AtomicUsize::new(MOST))
    }
}

impl Recoverable {
    pub(super) fn left(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// So many were found. Workers that have asked at the same time may find more together than were left.
    pub(super) fn took(&self, count: usize) {
        let less = |left: usize| Some(left.saturating_sub(count));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_that_find_more_together_than_was_left_leave_nothing() {
        let recoverable = Recoverable::default();
        for left in [MOST - 6000, 0, 0] {
            recoverable.took(6000);
            assert_eq!(recoverable.left(), left);
        }
    }
}
