//! Whether the service works: what the health page shows and the watchdog checks.
//!
//! This module must not decide when to run, and it must not look at the data root: it is told what happens.

use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::schedule::Rule;
use super::scheduler::Scheduler;
use crate::rules::{Moment, Ttl, ZoneName};
use crate::units;

/// How long after its moment a pass may end before it counts as missed.
const GRACE: Duration = Duration::from_secs(600);

/// The longest time between two checks of the scheduler, and so the longest time for which a change of
/// the wall clock goes unnoticed.
pub const TICK: Duration = Duration::from_secs(20);

/// What is known about the service.
#[derive(Debug)]
pub struct Health(Mutex<State>);

#[derive(Debug)]
struct State {
    zones: Vec<ZoneHealth>,
    grace: Duration,
    /// A pass is being made, or the service waits for another one.
    is_busy: bool,
    last_check: Instant,
    /// Why the service cannot make a pass at all.
    blocked: Option<String>,
}

/// What is known about one zone.
#[derive(Debug)]
struct ZoneHealth {
    zone: ZoneName,
    rule: Rule,
    /// When the first pass is due.
    first: Moment,
    last: Option<LastPass>,
    waiting: Option<Waiting>,
}

#[derive(Debug, Clone)]
struct LastPass {
    end: Moment,
    problem: Option<String>,
}

/// A pass that is due and cannot start.
#[derive(Debug, Clone)]
struct Waiting {
    since: Moment,
    why: String,
}

impl Health {
    /// The health of a service that is about to start.
    pub fn new(scheduler: &Scheduler) -> Self {
        let health = Self(Mutex::new(State {
            zones: Vec::new(),
            grace: GRACE,
            is_busy: false,
            last_check: Instant::now(),
            blocked: None,
        }));
        health.on_schedule(scheduler);
        health
    }

    /// The schedule is as `scheduler` has it now. What is known about zones that stay is kept.
    pub fn on_schedule(&self, scheduler: &Scheduler) {
        let mut state = self.state();
        let old = std::mem::take(&mut state.zones);
        state.zones = scheduler
            .upcoming()
            .map(|(zone, rule, start)| {
                let known = old.iter().find(|known| known.zone == *zone);
                let last = known.and_then(|known| known.last.clone());
                let waiting = known.and_then(|known| known.waiting.clone());
                let unchanged = known.filter(|known| known.rule == *rule);
                let first = unchanged.map_or(start, |known| known.first);
                ZoneHealth { zone: zone.clone(), rule: rule.clone(), first, last, waiting }
            })
            .collect();
        state.grace = GRACE.saturating_add(scheduler.jitter());
    }

    /// The service cannot make a pass, and why; `None`: now it can. Until then it has a problem.
    pub fn on_block(&self, why: Option<&str>) {
        self.state().blocked = why.map(str::to_owned);
    }

    /// Runs `wait`, which waits for another service or for the data root. Meanwhile this service counts as alive.
    pub fn while_waiting<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.state().is_busy = true;
        let waited = wait();
        let mut state = self.state();
        state.is_busy = false;
        state.last_check = Instant::now();
        for zone in &mut state.zones {
            zone.waiting = None;
        }
        waited
    }

    /// No zone can be swept at the moment `at`, and why.
    pub fn on_wait_for_all(&self, at: Moment, why: &str) {
        for zone in &mut self.state().zones {
            zone.wait(at, why);
        }
    }

    /// A zone is due and cannot be swept at the moment `at`, and why.
    pub fn on_wait(&self, at: Moment, zone: &ZoneName, why: &str) {
        for known in self.state().zones.iter_mut().filter(|known| known.zone == *zone) {
            known.wait(at, why);
        }
    }

    /// The scheduler is being checked.
    pub fn on_check(&self) {
        self.state().last_check = Instant::now();
    }

    /// A pass starts.
    pub fn on_pass_start(&self) {
        self.state().is_busy = true;
    }

    /// A pass has ended, with the problem of each zone that had one.
    pub fn on_pass_end(&self, end: Moment, zones: &[(ZoneName, Option<String>)]) {
        let mut state = self.state();
        state.is_busy = false;
        state.last_check = Instant::now();
        for (zone, problem) in zones {
            if let Some(known) = state.zones.iter_mut().find(|known| known.zone == *zone) {
                known.last = Some(LastPass { end, problem: problem.clone() });
                known.waiting = None;
            }
        }
    }

    /// Whether the service checks its scheduler as often as it should. It does not during a pass; then it
    /// counts as alive, because a restart would not help a system call that hangs.
    pub fn is_alive(&self) -> bool {
        let state = self.state();
        state.is_busy || state.last_check.elapsed() < TICK * 3
    }

    /// A line for each zone.
    ///
    /// # Errors
    /// The same text, when a zone has a problem.
    pub fn report(&self, now: Moment) -> Result<String, String> {
        let state = self.state();
        if let Some(why) = &state.blocked {
            return Err(format!("{why}\n"));
        }
        let mut is_good = true;
        let mut text = String::new();
        for zone in &state.zones {
            let line = zone.line(now, state.grace, state.is_busy);
            is_good &= line.is_ok();
            let (Ok(line) | Err(line)) = line;
            let _ = writeln!(text, "{}: {line}", zone.zone);
        }
        if is_good { Ok(text) } else { Err(text) }
    }

    /// Whether each zone is healthy.
    pub fn zones(&self, now: Moment) -> Vec<(ZoneName, bool)> {
        let state = self.state();
        let is_good = |zone: &ZoneHealth| {
            state.blocked.is_none() && zone.line(now, state.grace, state.is_busy).is_ok()
        };
        state.zones.iter().map(|zone| (zone.zone.clone(), is_good(zone))).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ZoneHealth {
    fn wait(&mut self, at: Moment, why: &str) {
        let since = self.waiting.as_ref().map_or(at, |waiting| waiting.since);
        self.waiting = Some(Waiting { since, why: why.to_owned() });
    }

    /// A zone may wait until it is due again.
    fn line(&self, now: Moment, grace: Duration, is_busy: bool) -> Result<String, String> {
        let Some(Waiting { since, why }) = &self.waiting else {
            return self.line_of_passes(now, grace, is_busy);
        };
        let waiting = format!("a pass has been due since {}: {why}", units::rfc3339(*since));
        let (last, is_good) = match &self.last {
            None => ("no pass yet".to_owned(), true),
            Some(LastPass { end, problem }) => {
                let how =
                    problem.as_ref().map_or(" without problems".to_owned(), |it| format!(": {it}"));
                (format!("last pass ended at {}{how}", units::rfc3339(*end)), problem.is_none())
            }
        };
        let line = format!("{last}; {waiting}");
        if is_good && now < self.rule.after(*since) { Ok(line) } else { Err(line) }
    }

    fn line_of_passes(
        &self,
        now: Moment,
        grace: Duration,
        is_busy: bool,
    ) -> Result<String, String> {
        let is_late = |due: Moment| due.plus(Ttl::from_duration(grace)) < now;
        let shown = units::rfc3339;
        match &self.last {
            // The first pass may take a whole period. One that takes longer may never end.
            None if is_late(if is_busy { self.rule.after(self.first) } else { self.first }) => {
                Err(format!("no pass yet; the first was due at {}", shown(self.first)))
            }
            None => Ok(format!("no pass yet; the first is due at {}", shown(self.first))),
            Some(LastPass { end, problem: Some(problem) }) => {
                Err(format!("last pass ended at {}: {problem}", shown(*end)))
            }
            Some(LastPass { end, .. }) if is_late(self.rule.after(self.rule.after(*end))) => {
                Err(format!("last pass ended at {}; two have been due since then", shown(*end)))
            }
            Some(LastPass { end, .. }) => {
                Ok(format!("last pass ended at {} without problems", shown(*end)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::scheduler::{First, Reading, Schedule};

    fn at(text: &str) -> Moment {
        units::moment(&format!("2026-01-01T{text}Z")).unwrap()
    }

    fn zone(name: &str, hours: u64) -> (ZoneName, Rule) {
        (ZoneName::new(name), Rule::every(Duration::from_secs(hours * 3600)).unwrap())
    }

    fn start() -> Reading {
        Reading { wall: at("00:30:00"), steady: Duration::ZERO }
    }

    fn scheduler() -> Scheduler {
        let zones = vec![zone("export", 1), zone("tmp", 12)];
        let schedule = Schedule { zones, jitter: Duration::ZERO };
        Scheduler::new(schedule, 0, start(), First::WhenDue)
    }

    #[test]
    fn health_names_each_zone_and_its_problem() {
        let health = Health::new(&scheduler());
        let report = |now: &str| health.report(at(now));
        let end = |when: &str, problem: Option<&str>| {
            let zones = [(ZoneName::new("export"), problem.map(str::to_owned))];
            health.on_pass_end(at(when), &zones);
        };
        let text = report("01:05:00").unwrap();
        assert!(text.contains("export: no pass yet; the first is due at 2026-01-01T01:00:00Z\n"));
        assert!(report("01:11:00").unwrap_err().contains("the first was due at 2026-01-01T01:00"));
        health.on_pass_start();
        assert!(report("01:11:00").is_ok(), "it is being made");
        assert!(report("02:10:00").is_ok(), "a whole period and the grace");
        assert!(report("02:10:01").unwrap_err().contains("the first was due at 2026-01-01T01:00"));
        end("01:12:00", None);
        let text = report("01:13:00").unwrap();
        assert!(text.contains("last pass ended at 2026-01-01T01:12:00Z without problems"));
        assert!(report("03:10:00").is_ok(), "two periods and the grace");
        let text = report("03:10:01").unwrap_err();
        assert!(text.contains("export: last pass ended at 2026-01-01T01:12:00Z; two"), "{text}");
        assert!(text.contains("tmp: no pass yet"), "{text}");
        end("03:12:00", Some("3 entries failed"));
        let text = report("03:13:00").unwrap_err();
        assert!(text.contains("last pass ended at 2026-01-01T03:12:00Z: 3 entries failed"));
        assert!(report("00:00:00").is_err(), "a clock that is set back solves no problem");
        assert!(health.is_alive());
    }

    #[test]
    fn a_new_schedule_keeps_what_is_known_about_zones_that_stay() {
        let mut scheduler = scheduler();
        let health = Health::new(&scheduler);
        health.on_pass_end(at("01:01:00"), &[(ZoneName::new("export"), None)]);
        let zones = vec![zone("export", 2), zone("own", 1)];
        scheduler.reschedule(Schedule { zones, jitter: Duration::from_secs(60) }, start());
        health.on_schedule(&scheduler);
        let text = health.report(at("01:02:00")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("export: last pass ended at"), "{text}");
        assert!(lines[1].starts_with("own: no pass yet"), "{text}");
        assert_eq!(lines.len(), 2, "tmp is gone: {text}");
    }

    #[test]
    fn a_zone_that_cannot_start_within_its_period_is_unhealthy_and_no_other_is() {
        let health = Health::new(&scheduler());
        let export = ZoneName::new("export");
        health.on_pass_end(at("01:01:00"), &[(ZoneName::new("tmp"), None)]);
        health.on_wait(at("01:00:01"), &export, "process 7 has locked it");
        health.on_wait(at("01:30:00"), &export, "process 8 has locked it");
        let text = health.report(at("01:59:59")).unwrap();
        let line = "export: no pass yet; a pass has been due since 2026-01-01T01:00:01Z: \
                    process 8 has locked it\n";
        assert!(text.starts_with(line), "{text}");
        let text = health.report(at("02:00:00")).unwrap_err();
        assert!(text.starts_with(line), "{text}");
        assert!(text.contains("tmp: last pass ended at 2026-01-01T01:01:00Z without problems"));
        // A wait does not hide a problem, and a good pass ends both.
        health.on_pass_end(at("02:01:00"), &[(export.clone(), Some("1 entry failed".to_owned()))]);
        health.on_wait(at("03:00:00"), &export, "process 9 has locked it");
        let text = health.report(at("03:00:01")).unwrap_err();
        assert!(text.contains("1 entry failed; a pass has been due since"), "{text}");
        health.on_pass_end(at("03:01:00"), &[(export, None)]);
        let text = health.report(at("03:02:00")).unwrap();
        assert!(!text.contains("process"), "{text}");
    }

    #[test]
    fn a_service_that_can_make_no_pass_at_all_is_unhealthy_at_once() {
        let health = Health::new(&scheduler());
        health.on_block(Some("no data root"));
        assert_eq!(health.report(at("00:31:00")), Err("no data root\n".to_owned()));
        health.on_block(None);
        assert!(health.report(at("00:31:00")).is_ok());
    }

    #[test]
    fn waiting_for_another_service_counts_as_alive_and_is_unhealthy_after_a_period() {
        let health = Health::new(&scheduler());
        health.while_waiting(|| {
            assert!(health.state().is_busy && health.is_alive());
            health.on_wait_for_all(at("00:30:00"), "process 7 serves it");
            assert!(health.report(at("00:59:00")).unwrap().contains("process 7 serves it"));
            assert!(health.report(at("01:00:00")).unwrap_err().contains("process 7 serves it"));
        });
        assert!(!health.state().is_busy);
        assert!(!health.report(at("00:59:00")).unwrap().contains("process"));
    }
}
