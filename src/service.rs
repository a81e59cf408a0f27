//! `sweeper serve`: runs passes on a schedule until it is told to stop.
//!
//! This module must not judge, lock or remove anything: a pass is a closure, and so is reading the settings. One
//! thread checks the [`scheduler`] and runs what is due, so passes never overlap. It wakes at least every
//! [`health::TICK`], because the clock may be set and the machine may sleep.
//!
//! - [`schedule`]: when one zone is due.
//! - [`scheduler`]: which zones are due now.
//! - [`health`]: whether the service works.
//! - [`metrics`]: what it has done.
//! - [`background`]: does slow work, but not during a pass.
//! - [`http`]: shows all of these.
//! - [`notify`]: tells systemd.
//! - [`health_check`]: asks a service for its health.

pub mod background;
pub mod health;
pub mod health_check;
pub mod http;
pub mod metrics;
pub mod notify;
pub mod schedule;
pub mod scheduler;

use std::fmt::Write;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use crate::protocol::{ExitCode, StopReason, Summary, ZoneSummary};
use crate::rules::{Moment, ZoneName};
use health::Health;
use http::Page;
use metrics::Metrics;
use notify::Notify;
use schedule::LocalTime;
use scheduler::{Next, Reading, Schedule, Scheduler};

/// The path of the metrics.
const METRICS_PAGE: &str = "/metrics";

/// The pages that show how full the file system is.
pub const MEASURED: &[&str] = &[METRICS_PAGE];

/// What a signal asks of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// End.
    Stop,
    /// Read the settings again.
    Reload,
}

/// How a pass ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassEnd {
    /// Its exit code.
    pub code: ExitCode,
    /// When it ended.
    pub at: Moment,
    /// Each zone with its problem, if it had one.
    pub zones: Vec<(ZoneName, Option<String>)>,
    /// Zones that could not be swept because another sweeper has locked them, each with the reason.
    pub postponed: Vec<(ZoneName, String)>,
    /// Whether a signal stopped it.
    pub is_stopped: bool,
}

impl PassEnd {
    /// The end of a pass with this summary, which left out some zones.
    pub fn new(
        summary: &Summary,
        code: ExitCode,
        at: Moment,
        postponed: Vec<(ZoneName, String)>,
    ) -> Self {
        let zone = |zone: &ZoneSummary| (zone.zone.clone(), zone.problem(summary.stopped));
        let zones = summary.zones.iter().map(zone).collect();
        let is_stopped = summary.stopped == Some(StopReason::Signal);
        Self { code, at, zones, postponed, is_stopped }
    }

    /// The end of two passes, one after the other.
    #[must_use]
    pub fn and(self, later: Self) -> Self {
        Self {
            code: self.code.max(later.code),
            at: later.at,
            zones: self.zones.into_iter().chain(later.zones).collect(),
            postponed: self.postponed.into_iter().chain(later.postponed).collect(),
            is_stopped: self.is_stopped || later.is_stopped,
        }
    }

    /// The end of a pass over `zones` that could not start.
    pub fn not_started(zones: &[ZoneName], why: &str, at: Moment) -> Self {
        let problem =
            |zone: &ZoneName| (zone.clone(), Some(format!("the pass did not start: {why}")));
        let zones = zones.iter().map(problem).collect();
        Self { code: ExitCode::Usage, at, zones, postponed: Vec::new(), is_stopped: false }
    }
}

/// A service that is ready to run.
pub struct Service<'a> {
    /// Which zones are due when.
    pub scheduler: Scheduler,
    /// How it writes times.
    pub time: LocalTime,
    /// What it is asked to do. It ends when no sender is left.
    pub calls: &'a Receiver<Call>,
    /// Is told what the service does.
    pub health: &'a Health,
    /// Tells systemd.
    pub notify: &'a Notify,
    /// Zones that are due and cannot be swept, each with the reason.
    pub waiting: Vec<(ZoneName, String)>,
    /// Zones that are swept now, whether they are due or not: their file system is too full.
    pub pressed: &'a dyn Fn(Reading) -> Vec<ZoneName>,
}

impl std::fmt::Debug for Service<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("scheduler", &self.scheduler).finish_non_exhaustive()
    }
}

impl Service<'_> {
    /// Runs passes until told to stop. Returns [`ExitCode::Done`], or the code of the pass that a signal
    /// stopped.
    ///
    /// `clock` reads both clocks, `pass` makes a pass over the zones that are due, and `reload` reads the
    /// settings again or says why they cannot be used.
    pub fn run(
        mut self,
        clock: impl Fn() -> Reading,
        mut pass: impl FnMut(&[ZoneName]) -> PassEnd,
        mut reload: impl FnMut() -> Result<Schedule, String>,
    ) -> ExitCode {
        let outlook = self.outlook();
        self.notify.ready(&outlook);
        tracing::info!("serving; {outlook}");
        loop {
            self.health.on_check();
            let now = clock();
            let due = match self.scheduler.check(now) {
                Next::Wait(wait) => match (self.pressed)(now) {
                    none if none.is_empty() => Next::Wait(wait),
                    zones => Next::Due(zones),
                },
                due @ Next::Due(_) => due,
            };
            let wait = match due {
                Next::Wait(wait) => wait.min(health::TICK),
                Next::Due(zones) => {
                    let end = self.sweep(&zones, &mut pass);
                    if end.is_stopped {
                        return self.stop(end.code);
                    }
                    for (zone, _) in &end.postponed {
                        self.scheduler.retry(zone, clock());
                    }
                    Duration::ZERO
                }
            };
            match self.calls.recv_timeout(wait) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Call::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    return self.stop(ExitCode::Done);
                }
                Ok(Call::Reload) => {
                    self.notify.reloading();
                    self.apply(reload(), clock());
                }
            }
        }
    }

    fn sweep(
        &mut self,
        zones: &[ZoneName],
        pass: &mut impl FnMut(&[ZoneName]) -> PassEnd,
    ) -> PassEnd {
        // Trying again is no news.
        let is_waiting = |zone: &ZoneName| self.waiting.iter().any(|(known, _)| known == zone);
        if !zones.iter().all(is_waiting) {
            let names: Vec<&str> = zones.iter().map(ZoneName::as_str).collect();
            self.notify.status(&format!("sweeping {}", names.join(", ")));
        }
        self.health.on_pass_start();
        let end = pass(zones);
        self.health.on_pass_end(end.at, &end.zones);
        let is_changed = self.wait_for(&end);
        if !end.is_stopped && (is_changed || !end.zones.is_empty()) {
            self.notify.status(&self.outlook());
        }
        end
    }

    /// Remembers which zones cannot be swept. Whether that has changed.
    fn wait_for(&mut self, end: &PassEnd) -> bool {
        for (zone, why) in &end.postponed {
            self.health.on_wait(end.at, zone, why);
        }
        let is_new = |(zone, why): &&(ZoneName, String)| {
            !self.waiting.iter().any(|(known, old)| known == zone && old == why)
        };
        let mut is_changed = false;
        for (zone, why) in end.postponed.iter().filter(is_new) {
            tracing::warn!("zone {zone}: {why}: waiting for it");
            is_changed = true;
        }
        let is_tried = |zone: &ZoneName| {
            let postponed = end.postponed.iter().map(|(zone, _)| zone);
            end.zones.iter().map(|(zone, _)| zone).chain(postponed).any(|tried| tried == zone)
        };
        self.waiting.retain(|(zone, _)| !is_tried(zone));
        self.waiting.extend(end.postponed.iter().cloned());
        is_changed
    }

    /// Follows a new schedule, or keeps the old one if the new settings cannot be used.
    fn apply(&mut self, reloaded: Result<Schedule, String>, at: Reading) {
        let status = match reloaded {
            Ok(schedule) => {
                self.scheduler.reschedule(schedule, at);
                self.waiting
                    .retain(|(zone, _)| self.scheduler.upcoming().any(|(known, ..)| known == zone));
                self.health.on_schedule(&self.scheduler);
                let status = format!("settings reloaded; {}", self.outlook());
                tracing::info!("{status}");
                status
            }
            Err(why) => {
                tracing::error!("settings not reloaded, so the old ones stay in effect: {why}");
                format!("settings not reloaded ({why}); {}", self.outlook())
            }
        };
        self.notify.ready(&status);
    }

    fn stop(&self, code: ExitCode) -> ExitCode {
        self.notify.stopping();
        tracing::info!("stopping");
        code
    }

    /// What comes next, for people.
    fn outlook(&self) -> String {
        let upcoming: Vec<String> = self
            .scheduler
            .upcoming()
            .map(|(zone, _, start)| format!("{zone} at {}", self.time.shown(start)))
            .collect();
        if upcoming.is_empty() {
            return "no pass is scheduled".to_owned();
        }
        let mut outlook = format!("next pass: {}", upcoming.join(", "));
        for (zone, why) in &self.waiting {
            let _ = write!(outlook, "; {zone} waits: {why}");
        }
        outlook
    }
}

/// The page at `path` at the moment `now`, if there is one.
pub fn page(path: &str, metrics: &Metrics, health: &Health, now: Moment) -> Option<Page> {
    match path {
        METRICS_PAGE => {
            metrics.set_health(&health.zones(now));
            let text = metrics.text();
            Some(Page { content_type: metrics::CONTENT_TYPE, ..Page::plain(200, text) })
        }
        "/healthz" => {
            let (status, text) = match health.report(now) {
                Ok(text) => (200, text),
                Err(text) => (503, text),
            };
            Some(Page { name: Some(health_check::PAGE_NAME), ..Page::plain(status, text) })
        }
        _ => None,
    }
}

/// Logs a line about the service, from outside of it, at the level `INFO` and with its target: it is shown
/// unless logging is quiet.
pub fn log(line: &str) {
    tracing::info!("{line}");
}

#[cfg(test)]
mod tests;
