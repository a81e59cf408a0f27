//! When a pass ends early: a signal, a deadline, a guard, an audit log that cannot be written. And how fast
//! it may remove.
//!
//! This module must not end anything itself: the pass, its sources and its tree walks ask.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::Budget;
use crate::protocol::StopReason;
use crate::rules::{Bytes, ZoneName};

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
    /// When the deadline is, where there is no thread for it.
    until: OnceLock<Instant>,
    /// What the guards have left; none until they were checked.
    budget: OnceLock<Budget>,
    /// Set when the audit log cannot be written.
    has_no_audit_log: AtomicBool,
    rate: Option<RateLimiter>,
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(Arc::default(), None)
    }
}

impl Limits {
    /// Of a pass that ends when `signal` is set, and removes at most `rate` files per second.
    pub fn new(signal: Arc<AtomicBool>, rate: Option<NonZeroU32>) -> Self {
        Self {
            signal,
            deadline: Arc::default(),
            timer: Mutex::default(),
            until: OnceLock::new(),
            budget: OnceLock::new(),
            has_no_audit_log: AtomicBool::new(false),
            rate: rate.map(RateLimiter::new),
        }
    }

    /// Limits that end at the same signal and the same deadline, for a count before the pass: without
    /// guards and without a rate.
    #[must_use]
    pub fn for_count(&self) -> Self {
        let (signal, deadline) = (Arc::clone(&self.signal), Arc::clone(&self.deadline));
        Self { deadline, until: self.until.clone(), ..Self::new(signal, None) }
    }

    /// Sets what the guards allow. To be called once, before the pass.
    pub fn set_budget(&self, budget: Budget) {
        let _ = self.budget.set(budget);
    }

    /// Starts the clock of a deadline. Its thread ends with this value. Where the system refuses the thread, the
    /// clock is read when the pass asks whether to end, which is not in the middle of a call that does not return.
    pub fn set_deadline(&self, limit: Duration) {
        let flag = Arc::clone(&self.deadline);
        let (timer, ended) = mpsc::channel();
        let wait = move || {
            if ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                flag.store(true, Ordering::Relaxed);
            }
        };
        if std::thread::Builder::new().spawn(wait).is_ok() {
            *self.timer.lock().unwrap_or_else(PoisonError::into_inner) = Some(timer);
        } else {
            self.set_deadline_without_thread(limit);
        }
    }

    fn set_deadline_without_thread(&self, limit: Duration) {
        if let Some(until) = Instant::now().checked_add(limit) {
            let _ = self.until.set(until);
        }
    }

    /// Whether the time of the pass is over.
    fn is_late(&self) -> bool {
        if self.until.get().is_some_and(|until| Instant::now() >= *until) {
            // For those that only see the flag.
            self.deadline.store(true, Ordering::Relaxed);
        }
        self.deadline.load(Ordering::Relaxed)
    }

    /// The flag that a signal handler sets.
    pub fn signal_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.signal)
    }

    /// The flags that are raised when the pass is to end soon, see [`Self::is_urgent`]: for a signal, and for the
    /// deadline.
    pub fn urgent_flags(&self) -> [Arc<AtomicBool>; 2] {
        [Arc::clone(&self.signal), Arc::clone(&self.deadline)]
    }

    /// Why the pass ends now, if it does.
    pub fn reason(&self) -> Option<StopReason> {
        if self.signal.load(Ordering::Relaxed) {
            Some(StopReason::Signal)
        } else if self.is_late() {
            Some(StopReason::Deadline)
        } else if self.has_no_audit_log.load(Ordering::Relaxed) {
            Some(StopReason::AuditLog)
        } else {
            self.budget.get().and_then(Budget::exhausted)
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

    /// Takes one removal in `zone` that frees `bytes` from what the guards allow; `false`, and the pass is
    /// stopped, when that is more than is left.
    pub fn allow_removal(&self, zone: &ZoneName, bytes: Bytes) -> bool {
        self.budget.get().is_none_or(|budget| budget.take(zone, bytes))
    }

    /// Gives one back: the removal was not made.
    pub fn return_removal(&self, zone: &ZoneName, bytes: Bytes) {
        if let Some(budget) = self.budget.get() {
            budget.give_back(zone, bytes);
        }
    }

    /// Ends the pass: what it removes cannot be written down.
    pub fn on_audit_log_lost(&self) {
        self.has_no_audit_log.store(true, Ordering::Relaxed);
    }

    /// How many removals may be prepared together, so that their locks are not held for long.
    pub fn batch_size(&self) -> usize {
        self.rate.as_ref().map_or(usize::MAX, RateLimiter::batch_size)
    }

    /// Waits until `count` more removals are within the rate. `false`: the pass is to end soon, before that.
    pub fn pace(&self, count: usize) -> bool {
        self.rate.as_ref().is_none_or(|rate| rate.wait(count, || self.is_urgent()))
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

    fn wait(&self, count: usize, is_urgent: impl Fn() -> bool) -> bool {
        let at = self.reserve(count, Instant::now());
        loop {
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            if is_urgent() {
                return false;
            }
            std::thread::sleep(left.min(NAP));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::protocol::{Guards, Summary};

    /// At most so many removals, and `rate` files per second.
    pub(in crate::engine) fn of_removals(most: u64, rate: Option<NonZeroU32>) -> Limits {
        let guards = Guards { max_removals: Some(most), ..Guards::default() };
        let counted = Summary { zones: Vec::new(), stopped: None, relief: Vec::new() };
        let limits = Limits::new(Arc::default(), rate);
        limits.set_budget(Budget::new(&guards, &counted));
        limits
    }

    fn take(limits: &Limits) -> bool {
        limits.allow_removal(&ZoneName::new("z"), Bytes(0))
    }

    #[test]
    fn exactly_as_many_removals_are_allowed_as_were_given() {
        let limits = of_removals(2, None);
        assert!(take(&limits));
        limits.return_removal(&ZoneName::new("z"), Bytes(0));
        assert!(take(&limits) && take(&limits));
        assert_eq!(limits.reason(), None);
        assert!(!take(&limits));
        assert_eq!(limits.reason(), Some(StopReason::MaxRemovals));
        assert!(limits.is_stopped() && !limits.is_urgent());
    }

    #[test]
    fn a_signal_goes_before_all_other_reasons() {
        let limits = of_removals(0, None);
        assert!(!take(&limits));
        limits.on_audit_log_lost();
        limits.signal_flag().store(true, Ordering::Relaxed);
        assert_eq!(limits.reason(), Some(StopReason::Signal));
        assert!(limits.is_urgent());
    }

    #[test]
    fn a_count_ends_at_the_same_signal_and_is_not_guarded() {
        let limits = of_removals(0, NonZeroU32::new(1));
        let count = limits.for_count();
        assert!(!take(&limits) && take(&count) && !count.is_stopped());
        assert_eq!(count.batch_size(), usize::MAX);
        limits.signal_flag().store(true, Ordering::Relaxed);
        assert!(count.is_stopped());
    }

    #[test]
    fn a_deadline_ends_the_pass() {
        let limits = Limits::default();
        limits.set_deadline(Duration::ZERO);
        while limits.reason().is_none() {
            std::thread::yield_now();
        }
        assert_eq!(limits.reason(), Some(StopReason::Deadline));
    }

    #[test]
    fn a_deadline_without_a_thread_ends_the_pass_and_its_count() {
        let limits = Limits::default();
        limits.set_deadline_without_thread(Duration::from_secs(3600));
        assert!(!limits.is_stopped() && !limits.for_count().is_stopped());
        let limits = Limits::default();
        limits.set_deadline_without_thread(Duration::ZERO);
        let [_, deadline] = limits.urgent_flags();
        assert!(!deadline.load(Ordering::Relaxed) && limits.for_count().is_stopped());
        assert_eq!(limits.reason(), Some(StopReason::Deadline));
        assert!(deadline.load(Ordering::Relaxed), "who holds the flag sees it too");
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
        assert!(!rate.wait(1, || true));
    }
}
