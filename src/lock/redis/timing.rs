//! The clock of leases, and whether the work is to end soon.
//!
//! This module must not read a clock by itself: the clock is given, so that a test can set it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What long waits and leases depend on.
#[derive(Debug, Clone)]
pub struct Timing {
    /// A clock that is never set and that counts while the machine sleeps, as the server's does.
    pub steady: fn() -> Duration,
    /// Raised when the work is to end soon: no answer of the server is waited for much longer then.
    pub stop: Vec<Arc<AtomicBool>>,
}

impl Timing {
    /// By a clock, and never stopped.
    pub const fn new(steady: fn() -> Duration) -> Self {
        Self { steady, stop: Vec::new() }
    }

    /// Whether the work is to end soon.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.iter().any(|flag| flag.load(Ordering::Relaxed))
    }

    /// The time of the steady clock.
    pub(super) fn now(&self) -> Duration {
        (self.steady)()
    }
}
