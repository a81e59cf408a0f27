//! The page of a service at `/`: what takes up space, and what the last passes did.
//!
//! This module must not measure while a pass is running, nor more often than once a minute, however often the page is
//! requested. Nor must it keep a client waiting: the page shows what was measured last.

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cmd::pass::{open_root, quotas};
use crate::cmd::usage::{quota_notes, removed_by, subject};
use crate::config::Config;
use crate::engine::{Limits, PassControl, Workers};
use crate::os::{clock, priority};
use crate::protocol::Summary;
use crate::report::usage::page::{self, Live, PassLine};
use crate::rules::{Bytes, Moment, Zone, ZoneName};
use crate::service::background::Background;
use crate::service::health::Health;
use crate::service::http::Page;
use crate::units;
use crate::usage::Measurement;

/// Between two measurements.
const PAUSE: Duration = Duration::from_secs(60);

/// After how many seconds a browser loads the page again; sooner while something is being measured.
const RELOAD_S: u64 = 60;
const RELOAD_SOON_S: u64 = 5;

/// How many zones of passes are remembered.
const PASSES: usize = 50;

/// What the page shows.
pub(super) struct Overview {
    measured: Arc<Background<Measured>>,
    config: Arc<Mutex<Arc<Config>>>,
    passes: Mutex<VecDeque<PassLine>>,
}

/// A measurement.
struct Measured {
    at: Moment,
    took: Duration,
    /// The part of the page about it, or why there is none.
    part: Result<String, String>,
}

impl Overview {
    /// The page of a service with these settings.
    ///
    /// # Errors
    /// The system refused a thread, for people.
    pub(super) fn start(config: &Arc<Config>) -> Result<Self, String> {
        let config = Arc::new(Mutex::new(Arc::clone(config)));
        let current = Arc::clone(&config);
        let measured = Background::start(PAUSE, move |stop| {
            let config = Arc::clone(&current.lock().unwrap_or_else(PoisonError::into_inner));
            measure(&config, stop)
        })?;
        Ok(Self { measured, config, passes: Mutex::default() })
    }

    /// The settings have changed.
    pub(super) fn on_settings(&self, config: &Arc<Config>) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(config);
    }

    /// Makes a pass; nothing is measured meanwhile.
    pub(super) fn during<T>(&self, pass: impl FnOnce() -> T) -> T {
        self.measured.pause();
        let result = pass();
        self.measured.resume();
        result
    }

    /// A pass has ended.
    pub(super) fn on_pass(
        &self,
        summary: &Summary,
        durations: &[(ZoneName, Duration)],
        end: Moment,
    ) {
        let lines = summary.zones.iter().map(|zone| {
            let took = durations.iter().find(|(name, _)| *name == zone.zone);
            PassLine {
                end,
                zone: zone.zone.to_string(),
                took: took.map(|(_, took)| *took),
                seen: zone.tally.reported(),
                removed: zone.tally.removed,
                kept: zone.tally.kept(),
                skipped: zone.tally.skipped(),
                failed: zone.tally.failed,
                freed: zone.tally.freed,
                problem: zone.problem(summary.stopped),
            }
        });
        self.remember(lines.collect());
    }

    /// A pass over `zones` could not start.
    pub(super) fn on_no_pass(&self, zones: &[ZoneName], why: &str) {
        let lines = zones.iter().map(|zone| PassLine {
            end: clock::now(),
            zone: zone.to_string(),
            took: None,
            seen: 0,
            removed: 0,
            kept: 0,
            skipped: 0,
            failed: 0,
            freed: Bytes(0),
            problem: Some(format!("the pass did not start: {why}")),
        });
        self.remember(lines.collect());
    }

    fn remember(&self, lines: Vec<PassLine>) {
        let mut passes = self.passes.lock().unwrap_or_else(PoisonError::into_inner);
        lines.into_iter().rev().for_each(|line| passes.push_front(line));
        passes.truncate(PASSES);
    }

    /// The page.
    pub(super) fn page(&self, health: &Health) -> Page {
        let measured = self.measured.latest();
        let passes: Vec<PassLine> = {
            let passes = self.passes.lock().unwrap_or_else(PoisonError::into_inner);
            passes.iter().cloned().collect()
        };
        let is_dry_run = self.config.lock().unwrap_or_else(PoisonError::into_inner).dry_run;
        let health = health.report(clock::now());
        let (about, part, reload_s) = match measured.as_deref() {
            None => (
                if self.measured.is_paused() {
                    "What takes up space is only measured while no pass is running.".to_owned()
                } else {
                    "What takes up space is being measured.".to_owned()
                },
                None,
                RELOAD_SOON_S,
            ),
            Some(Measured { at, part: Err(why), .. }) => (
                format!(
                    "What takes up space could not be measured at {}: {why}",
                    units::rfc3339(*at)
                ),
                None,
                RELOAD_S,
            ),
            Some(Measured { at, took, part: Ok(part) }) => (
                format!(
                    "Measured at {} in {}. This is repeated at most once a minute, and never during a pass.",
                    units::rfc3339(*at),
                    units::coarse(*took)
                ),
                Some(part.as_str()),
                RELOAD_S,
            ),
        };
        let text = page::live(
            part,
            &Live {
                health: health.as_deref().map_err(String::as_str),
                measurement: &about,
                is_dry_run,
                passes: &passes,
                reload_s,
            },
        );
        Page::html(text, page::POLICY)
    }
}

/// Measures the data root with one worker of low priority. `None` if it was stopped.
fn measure(config: &Config, stop: &Arc<AtomicBool>) -> Option<Measured> {
    // The system may refuse: then it takes the usual priority.
    let _ = priority::lower();
    let (at, start) = (clock::now(), Instant::now());
    let limits = Limits::new(Arc::clone(stop), None);
    let found = open_root(config, &config.all_zones).map_err(|refusal| refusal.to_string());
    let found = found.and_then(|root| {
        let removed_by = |zone: &Zone| removed_by(config, zone);
        let subject = subject(config, &root, &removed_by);
        let measurement = Measurement::new(&subject, &|_, _| ());
        let workers = Workers::one();
        let control = PassControl { limits: &limits, workers: &workers };
        let tops = measurement.tops().map_err(|error| error.to_string())?;
        for top in &tops {
            measurement.walk(top, &control);
        }
        let mut usage = measurement.into_usage(limits.reason());
        usage.notes.extend(quota_notes(&quotas(&root, &config.all_zones)));
        Ok(usage)
    });
    if limits.is_stopped() {
        return None;
    }
    let part = found.map(|usage| page::part(&usage));
    Some(Measured { at, took: start.elapsed(), part })
}
