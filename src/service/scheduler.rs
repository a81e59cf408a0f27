//! Decides which zones are due now, and how long until the next one: the pure core of the service.
//!
//! This module must not read a clock, wait or run anything. Each question comes with the readings of two clocks:
//! the wall clock, which schedules are written in and which may jump, and a steady clock, which counts
//! while the machine sleeps. If several moments were missed, during sleep or a long pass, one pass makes
//! up for all of them. A zone that could not be swept because another sweeper has locked it is tried again
//! soon, and the other zones keep their times. When the wall clock is set back, the last pass is not repeated, and
//! the next one does not wait until the clock has caught up.

use std::time::Duration;

use super::schedule::Rule;
use crate::rules::{Moment, Ttl, ZoneName, shard};

/// How soon a zone that could not be swept is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// What both clocks say.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// The wall clock.
    pub wall: Moment,
    /// The steady clock: the time since any fixed moment. It never goes back.
    pub steady: Duration,
}

/// When to sweep which zone.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// The rule of each zone.
    pub zones: Vec<(ZoneName, Rule)>,
    /// The longest random delay of a pass, so that many machines do not start at once.
    pub jitter: Duration,
}

/// When the first passes are made after the service has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// At once.
    AtStart,
    /// When they are due.
    WhenDue,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Sweep these zones now.
    Due(Vec<ZoneName>),
    /// Wait, and ask again after this time at the latest.
    Wait(Duration),
}

/// Knows when each zone is due.
#[derive(Debug)]
pub struct Scheduler {
    zones: Vec<Upcoming>,
    delay: Delay,
    /// The last reading of the wall clock.
    last_wall: Moment,
}

/// The random delay of passes.
#[derive(Debug, Clone, Copy)]
struct Delay {
    /// The longest.
    jitter: Duration,
    /// Makes the delays of this machine different from those of others.
    seed: u64,
}

/// The next pass over a zone.
#[derive(Debug)]
struct Upcoming {
    zone: ZoneName,
    rule: Rule,
    /// When it is due by the rule.
    due: Moment,
    /// When it starts: `due` and the delay.
    start: Moment,
    /// When the last one started, by the steady clock.
    last_start: Option<Duration>,
    /// If the last one could not start: when it is tried again, by the steady clock.
    retry: Option<Duration>,
}

impl Scheduler {
    /// A scheduler that starts at `at`.
    pub fn new(schedule: Schedule, seed: u64, at: Reading, first: First) -> Self {
        let delay = Delay { jitter: schedule.jitter, seed };
        let upcoming = |(zone, rule): (ZoneName, Rule)| match first {
            First::AtStart => {
                Upcoming { zone, rule, due: at.wall, start: at.wall, last_start: None, retry: None }
            }
            First::WhenDue => Upcoming::after(zone, rule, at.wall, delay),
        };
        let zones = schedule.zones.into_iter().map(upcoming).collect();
        Self { zones, delay, last_wall: at.wall }
    }

    /// What to do now. A zone that is due counts as started.
    pub fn check(&mut self, at: Reading) -> Next {
        if at.wall < self.last_wall {
            for upcoming in &mut self.zones {
                upcoming.on_clock_set_back(at, self.delay);
            }
        }
        self.last_wall = at.wall;
        let mut due = Vec::new();
        for upcoming in self.zones.iter_mut().filter(|upcoming| upcoming.wait(at).is_zero()) {
            if upcoming.start <= at.wall {
                upcoming.move_after(at.wall, self.delay);
            }
            upcoming.last_start = Some(at.steady);
            upcoming.retry = None;
            due.push(upcoming.zone.clone());
        }
        if !due.is_empty() {
            return Next::Due(due);
        }
        let wait = self.zones.iter().map(|upcoming| upcoming.wait(at)).min();
        Next::Wait(wait.unwrap_or(Duration::MAX))
    }

    /// A zone that was due could not be swept: it is due again soon.
    pub fn retry(&mut self, zone: &ZoneName, at: Reading) {
        for upcoming in self.zones.iter_mut().filter(|upcoming| upcoming.zone == *zone) {
            upcoming.retry = Some(at.steady.saturating_add(RETRY_INTERVAL));
        }
    }

    /// Follows another schedule from now on. A zone whose rule is the same keeps the moment that it is
    /// due at.
    pub fn reschedule(&mut self, schedule: Schedule, at: Reading) {
        self.delay.jitter = schedule.jitter;
        let mut old = std::mem::take(&mut self.zones);
        for (zone, rule) in schedule.zones {
            let known = old.iter().position(|known| known.zone == zone);
            let known = known.map(|known| old.swap_remove(known));
            let retry = known.as_ref().and_then(|known| known.retry);
            self.zones.push(match known {
                Some(known) if known.rule == rule => known,
                _ => Upcoming { retry, ..Upcoming::after(zone, rule, at.wall, self.delay) },
            });
        }
    }

    /// The longest random delay of a pass.
    pub const fn jitter(&self) -> Duration {
        self.delay.jitter
    }

    /// Each zone, its rule, and when its next pass starts.
    pub fn upcoming(&self) -> impl Iterator<Item = (&ZoneName, &Rule, Moment)> {
        self.zones.iter().map(|upcoming| (&upcoming.zone, &upcoming.rule, upcoming.start))
    }
}

impl Delay {
    /// When a pass that is due at `due` starts. Zones that are due together start together, and a delay
    /// never reaches the next moment that is due.
    fn add_to(self, due: Moment, rule: &Rule) -> Moment {
        if self.jitter.is_zero() {
            return due;
        }
        let until_next = span(due, rule.after(due)).saturating_sub(Duration::from_secs(1));
        let most = self.jitter.min(until_next).as_millis();
        let most = u64::try_from(most).unwrap_or(u64::MAX).max(1);
        let delay = random(self.seed ^ due.unix_secs().unsigned_abs()) % most;
        due.plus(Ttl::from_duration(Duration::from_millis(delay)))
    }
}

impl Upcoming {
    /// The first pass over a zone after `at`.
    fn after(zone: ZoneName, rule: Rule, at: Moment, delay: Delay) -> Self {
        let mut upcoming = Self { zone, rule, due: at, start: at, last_start: None, retry: None };
        upcoming.move_after(at, delay);
        upcoming
    }

    /// Moves on to the first moment after `at` that is due.
    fn move_after(&mut self, at: Moment, delay: Delay) {
        self.due = self.rule.after(at);
        self.start = delay.add_to(self.due, &self.rule);
    }

    /// How long until it starts.
    fn wait(&self, at: Reading) -> Duration {
        let wait = span(at.wall, self.start);
        self.retry.map_or(wait, |retry| wait.min(retry.saturating_sub(at.steady)))
    }

    /// A pass whose moment has come stays due. Otherwise the next moment by the new time counts. If that
    /// comes less than half a period after the last pass, then it is the moment that the last pass was
    /// made for, and the one after it counts. The pause is never longer than that.
    fn on_clock_set_back(&mut self, at: Reading, delay: Delay) {
        if self.due <= at.wall {
            return;
        }
        self.move_after(at.wall, delay);
        let (Some(last_start), Some(before)) = (self.last_start, self.rule.before(self.due)) else {
            return;
        };
        let period = span(before, self.due);
        let since_last = at.steady.saturating_sub(last_start);
        let apart = span(at.wall, self.due).saturating_add(since_last);
        if apart.saturating_mul(2) < period {
            self.move_after(self.due, delay);
        }
    }
}

/// The time from one moment to a later one; zero if it is not later.
fn span(from: Moment, to: Moment) -> Duration {
    let nanos =
        |at: Moment| i128::from(at.unix_secs()) * 1_000_000_000 + i128::from(at.subsec_nanos());
    let too_long = if from < to { u64::MAX } else { 0 };
    Duration::from_nanos(u64::try_from(nanos(to) - nanos(from)).unwrap_or(too_long))
}

/// A number that looks random: one step of `SplitMix64`.
const fn random(number: u64) -> u64 {
    shard::mixed(number.wrapping_add(0x9E37_79B9_7F4A_7C15))
}

#[cfg(test)]
mod tests;
