//! The control of a pass, for sources and tree walks.
//!
//! This module must not hold state of its own.

use super::{Limits, Workers};
use crate::control::Control;

/// Limits and workers, as long work sees them.
#[derive(Debug, Clone, Copy)]
pub struct PassControl<'a> {
    /// When the pass ends early, and how fast it may go.
    pub limits: &'a Limits,
    /// Its threads.
    pub workers: &'a Workers,
}

impl Control for PassControl<'_> {
    fn is_stopped(&self) -> bool {
        self.limits.is_stopped()
    }

    fn is_urgent(&self) -> bool {
        self.limits.is_urgent()
    }

    fn pace(&self, count: usize) -> bool {
        self.limits.pace(count)
    }

    fn has_several_workers(&self) -> bool {
        self.workers.are_several()
    }

    fn has_idle_worker(&self) -> bool {
        self.workers.are_idle()
    }

    fn join<L: Send, R: Send>(
        &self,
        left: impl FnOnce() -> L + Send,
        right: impl FnOnce() -> R + Send,
    ) -> (L, R) {
        self.workers.join(left, right)
    }
}
