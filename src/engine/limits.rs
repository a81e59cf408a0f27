//! When a pass ends early: a signal, a deadline, a number of removals. And how fast it may remove.
//!
//! It must not end anything itself: the pass, its sources and its tree walks ask.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::protocol::StopReason;
use crate::units;

/// How long a wait for the rate lasts before it asks again whether the pass is stopped.
const NAP: Duration = Duration::from_millis(100);

/// The limits of one pass. Shared by everything that takes part in it.
#[derive(Debug)]
pub struct Limits {
    /// Set from a signal handler, so it is a flag of its own.
    signal: Arc<AtomicBool>,
    deadline: Arc<AtomicBool>,
    /// Keeps the thread of the deadline alive.
    timer: Mutex<Option<Sender<()>>>,
    is_exhausted: AtomicBool,
    removals_left: AtomicU64,
    rate: Option<RateLimiter>,
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(Arc::default(), u64::MAX, None)
    }
}

impl Limits {
    /// Of a pass that ends when `signal` is set, removes at most `max_removals` entries, and at most `rate`
    /// files per second.
    pub fn new(signal: Arc<AtomicBool>, max_removals: u64, rate: Option<NonZeroU32>) -> Self {
        Self {
            signal,
            deadline: Arc::default(),
            timer: Mutex::default(),
            is_exhausted: AtomicBool::new(false),
            removals_left: AtomicU64::new(max_removals),
            rate: rate.map(RateLimiter::new),
        }
    }

    /// Starts the clock of a deadline. Its thread ends with this value.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn set_deadline(&self, limit: Duration) -> Result<(), String> {
        let flag = Arc::clone(&self.deadline);
        let (timer, ended) = mpsc::channel();
        let wait = move || {
            if ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                flag.store(true, Ordering::Relaxed);
            }
        };
        let thread = std::thread::Builder::new().spawn(wait);
        thread.map_err(|error| {
            format!("cannot start the clock of the deadline: {}", units::error(&error))
        })?;
        *self.timer.lock().unwrap_or_else(PoisonError::into_inner) = Some(timer);
        Ok(())
    }

    /// The flag that a signal handler sets.
    pub fn signal_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.signal)
    }

    /// The flags that are raised when the pass is to end soon, see [`Self::is_urgent`].
    pub fn urgent_flags(&self) -> Vec<Arc<AtomicBool>> {
        vec![Arc::clone(&self.signal), Arc::clone(&self.deadline)]
    }

    /// Why the pass ends now, if it does.
    pub fn reason(&self) -> Option<StopReason> {
        if self.signal.load(Ordering::Relaxed) {
            Some(StopReason::Signal)
        } else if self.deadline.load(Ordering::Relaxed) {
            Some(StopReason::Deadline)
        } else if self.is_exhausted.load(Ordering::Relaxed) {
            Some(StopReason::MaxRemovals)
        } else {
            None
        }
    }

    /// Whether the pass ends now.
    pub fn is_stopped(&self) -> bool {
        self.reason().is_some()
    }

    /// Whether the pass is to end soon: for a signal or the deadline, not for a number that was reached.
    pub fn is_urgent(&self) -> bool {
        matches!(self.reason(), Some(StopReason::Signal | StopReason::Deadline))
    }

    /// Takes one removal from the number that is allowed; `false`, and the pass is stopped, when none is left.
    pub fn allow_removal(&self) -> bool {
        let took = self
            .removals_left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if took.is_err() {
            self.is_exhausted.store(true, Ordering::Relaxed);
        }
        took.is_ok()
    }

    /// Gives one back: the removal was not made.
    pub fn return_removal(&self) {
        self.removals_left.fetch_add(1, Ordering::Relaxed);
    }

    /// How many removals may be prepared together, so that their locks are not held for long.
    pub fn batch_size(&self) -> usize {
        self.rate.as_ref().map_or(usize::MAX, RateLimiter::batch_size)
    }

    /// Waits until `count` more removals are within the rate, or until the pass is to end soon.
    pub fn pace(&self, count: usize) {
        if let Some(rate) = &self.rate {
            rate.wait(count, || self.is_urgent());
        }
    }
}

/// Spreads removals evenly over time.
#[derive(Debug)]
struct RateLimiter {
    per_second: NonZeroU32,
    /// When the next removal may be made.
    next: Mutex<Instant>,
}

impl RateLimiter {
    fn new(per_second: NonZeroU32) -> Self {
        Self { per_second, next: Mutex::new(Instant::now()) }
    }

    /// The removals of a tenth of a second.
    fn batch_size(&self) -> usize {
        usize::try_from(self.per_second.get() / 10).unwrap_or(usize::MAX).max(1)
    }

    /// Reserves `count` removals at `now`; the moment from which on they may be made.
    fn reserve(&self, count: usize, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let at = now.max(*next);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        *next = at + Duration::from_secs(1) / self.per_second.get() * count;
        at
    }

    fn wait(&self, count: usize, is_urgent: impl Fn() -> bool) {
        let at = self.reserve(count, Instant::now());
        while !is_urgent() {
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(NAP));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_as_many_removals_are_allowed_as_were_given() {
        let limits = Limits::new(Arc::default(), 2, None);
        assert!(limits.allow_removal());
        limits.return_removal();
        assert!(limits.allow_removal() && limits.allow_removal());
        assert_eq!(limits.reason(), None);
        assert!(!limits.allow_removal());
        assert_eq!(limits.reason(), Some(StopReason::MaxRemovals));
        assert!(limits.is_stopped() && !limits.is_urgent());
    }

    #[test]
    fn a_signal_goes_before_all_other_reasons() {
        let limits = Limits::new(Arc::default(), 0, None);
        assert!(!limits.allow_removal());
        limits.signal_flag().store(true, Ordering::Relaxed);
        assert_eq!(limits.reason(), Some(StopReason::Signal));
        assert!(limits.is_urgent());
    }

    #[test]
    fn a_deadline_ends_the_pass() {
        let limits = Limits::default();
        limits.set_deadline(Duration::ZERO).unwrap();
        while limits.reason().is_none() {
            std::thread::yield_now();
        }
        assert_eq!(limits.reason(), Some(StopReason::Deadline));
    }

    #[test]
    fn removals_are_spread_evenly() {
        let rate = RateLimiter::new(NonZeroU32::new(10).unwrap());
        let start = Instant::now();
        let first = rate.reserve(1, start);
        assert_eq!(rate.reserve(3, start) - first, Duration::from_millis(100));
        assert_eq!(rate.reserve(1, start) - first, Duration::from_millis(400));
        // Time that was not used is not saved up.
        let later = start + Duration::from_secs(60);
        assert_eq!(rate.reserve(1, later), later);
        assert_eq!(rate.batch_size(), 1);
    }

    #[test]
    fn a_wait_ends_at_once_when_the_pass_is_told_to_end() {
        let rate = RateLimiter::new(NonZeroU32::new(1).unwrap());
        rate.reserve(1_000_000, Instant::now());
        rate.wait(1, || true);
    }
}
