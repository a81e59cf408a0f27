//! When a pass must end before its end: a signal, a deadline, a number of removals. And how fast it may
//! go on until then.
//!
//! It must not end anything itself: the line and the tree walks ask it between two entries.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a wait for the rate goes on without asking whether the pass is stopped.
const NAP: Duration = Duration::from_millis(50);

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
    rate: Option<Rate>,
}

/// How many removals may be made in a second.
#[derive(Debug)]
struct Rate {
    a_second: NonZeroU32,
    /// When the next one may be made.
    next: Mutex<Instant>,
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
            rate: None,
        }
    }

    /// The same with a rate that removals are kept to, if there is one.
    #[must_use]
    pub fn at_most(mut self, a_second: Option<NonZeroU32>) -> Self {
        let next = || Mutex::new(Instant::now());
        self.rate = a_second.map(|a_second| Rate { a_second, next: next() });
        self
    }

    /// How many removals may be prepared together, so that their locks are not held for long: a tenth
    /// of a second's worth.
    pub fn at_once(&self) -> usize {
        let tenth = |rate: &Rate| usize::try_from(rate.a_second.get() / 10).unwrap_or(usize::MAX);
        self.rate.as_ref().map_or(usize::MAX, |rate| tenth(rate).max(1))
    }

    /// Waits until `count` more removals are within the rate, or somebody waits for the end.
    pub fn pace(&self, count: usize) {
        let Some(rate) = &self.rate else { return };
        let now = Instant::now();
        let at = {
            let mut next = rate.next.lock().unwrap_or_else(PoisonError::into_inner);
            let at = now.max(*next);
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            *next = at + Duration::from_secs(1) / rate.a_second.get() * count;
            at
        };
        while !self.is_urgent() {
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(NAP));
        }
    }

    /// The flag that a signal handler sets.
    pub fn signal_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.signal)
    }

    /// Starts the clock of a deadline. The thread it takes ends with this.
    ///
    /// # Errors
    /// What keeps that thread from starting.
    pub fn after(&self, limit: Duration) -> Result<(), String> {
        let flag = Arc::clone(&self.deadline);
        let (clock, ended) = mpsc::channel();
        let wait = move || {
            if ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                flag.store(true, Ordering::Relaxed);
            }
        };
        let thread = std::thread::Builder::new().spawn(wait);
        thread.map_err(|error| format!("the clock of the deadline: {error}"))?;
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock);
        Ok(())
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
