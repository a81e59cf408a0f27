//! When a pass must end before its end: a signal, a deadline, a number of removals.
//!
//! It must not end anything itself: the line and the tree walks ask it between two entries.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Why a pass ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// SIGINT or SIGTERM.
    Signal,
    /// `--deadline` passed.
    Deadline,
    /// `--max-removals` were made.
    MaxRemovals,
}

impl Stopped {
    /// The reason's name in the report.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Signal => "signal",
            Self::Deadline => "deadline",
            Self::MaxRemovals => "max_removals",
        }
    }
}

/// Shared by everything that takes part in a pass.
#[derive(Debug)]
pub struct Stop {
    /// Set from a signal handler, so a flag of its own.
    signal: Arc<AtomicBool>,
    deadline: Arc<AtomicBool>,
    /// Keeps the deadline's clock going.
    clock: Mutex<Option<Sender<()>>>,
    exhausted: AtomicBool,
    removals_left: AtomicU64,
}

impl Default for Stop {
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

impl Stop {
    /// For a pass that may remove at most `max_removals` entries.
    pub fn new(max_removals: u64) -> Self {
        Self::on(Arc::default(), max_removals)
    }

    /// The same, ended by a signal flag that outlives the pass.
    pub fn on(signal: Arc<AtomicBool>, max_removals: u64) -> Self {
        Self {
            signal,
            deadline: Arc::default(),
            clock: Mutex::default(),
            exhausted: AtomicBool::new(false),
            removals_left: AtomicU64::new(max_removals),
        }
    }

    /// The flag that a signal handler sets.
    pub fn signal_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.signal)
    }

    /// Starts the clock of a deadline. The thread it takes ends with this.
    pub fn after(&self, limit: Duration) {
        let flag = Arc::clone(&self.deadline);
        let (clock, ended) = mpsc::channel();
        std::thread::spawn(move || {
            if ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                flag.store(true, Ordering::Relaxed);
            }
        });
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock);
    }

    /// Whether to end now, and why.
    pub fn reason(&self) -> Option<Stopped> {
        if self.signal.load(Ordering::Relaxed) {
            Some(Stopped::Signal)
        } else if self.deadline.load(Ordering::Relaxed) {
            Some(Stopped::Deadline)
        } else if self.exhausted.load(Ordering::Relaxed) {
            Some(Stopped::MaxRemovals)
        } else {
            None
        }
    }

    /// Whether to end now.
    pub fn is_raised(&self) -> bool {
        self.reason().is_some()
    }

    /// Whether somebody waits for the end: a signal or the deadline, not a number that was reached.
    pub fn is_urgent(&self) -> bool {
        matches!(self.reason(), Some(Stopped::Signal | Stopped::Deadline))
    }

    /// Takes one removal from the allowance; false, and the pass is stopped, when none is left.
    pub fn allow_removal(&self) -> bool {
        let took = self
            .removals_left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if took.is_err() {
            self.exhausted.store(true, Ordering::Relaxed);
        }
        took.is_ok()
    }

    /// Gives one back: the removal did not come about.
    pub fn return_removal(&self) {
        self.removals_left.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_as_many_removals_are_allowed_as_were_given() {
        let stop = Stop::new(2);
        assert!(stop.allow_removal());
        stop.return_removal();
        assert!(stop.allow_removal() && stop.allow_removal());
        assert_eq!(stop.reason(), None);
        assert!(!stop.allow_removal());
        assert_eq!(stop.reason(), Some(Stopped::MaxRemovals));
    }

    #[test]
    fn a_signal_goes_before_all_other_reasons() {
        let stop = Stop::new(0);
        assert!(!stop.allow_removal());
        stop.signal_flag().store(true, Ordering::Relaxed);
        assert_eq!(stop.reason(), Some(Stopped::Signal));
    }
}
