//! Tells long-running work whether to stop, how fast to continue, and whether a worker is idle.
//!
//! This module must not do anything itself: `engine` implements it, and sources and tree walks ask.

/// The control of a pass. Shared by everything that takes part in it. The defaults are those of one worker.
pub trait Control: Sync {
    /// Whether the pass ends now, for any reason.
    fn is_stopped(&self) -> bool;

    /// Whether a signal or a deadline ends it, so that someone is waiting for the end.
    fn is_urgent(&self) -> bool;

    /// Waits until `count` more removals are within the rate. `false`: the pass was told to end before that.
    fn pace(&self, _count: usize) -> bool {
        true
    }

    /// Whether there is more than one worker.
    fn has_several_workers(&self) -> bool {
        false
    }

    /// Whether a worker has nothing to do right now.
    fn has_idle_worker(&self) -> bool {
        false
    }

    /// Runs both halves of a task, in parallel if a worker is free.
    fn join<L: Send, R: Send>(
        &self,
        left: impl FnOnce() -> L + Send,
        right: impl FnOnce() -> R + Send,
    ) -> (L, R) {
        (left(), right())
    }
}

/// One worker that is never told to stop.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unlimited;

impl Control for Unlimited {
    fn is_stopped(&self) -> bool {
        false
    }

    fn is_urgent(&self) -> bool {
        false
    }
}
