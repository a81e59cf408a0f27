//! Whether a service sweeps at once, because a file system is too full.
//!
//! This module must not sweep. A pass that could not relieve the file system is not repeated soon, neither by itself
//! nor as part of other passes: a zone that another process has locked is tried again every second.

use std::cell::Cell;
use std::time::Duration;

use crate::cmd::pass::is_pressed;
use crate::config::Config;
use crate::fs::DataRoot;
use crate::protocol::{Relief, RunMode, Summary};
use crate::rules::ZoneName;

/// How long after a pass that did not relieve it the next one is made, unless one is due.
const PAUSE: Duration = Duration::from_secs(600);

/// When the next pass may be made, by the steady clock.
#[derive(Debug, Default)]
pub(super) struct Pressed(Cell<Duration>);

impl Pressed {
    /// The zones to sweep at `now`, whether they are due or not.
    pub(super) fn zones(&self, config: &Config, root: &DataRoot, now: Duration) -> Vec<ZoneName> {
        if now < self.0.get() {
            return Vec::new();
        }
        let zones = zones(config, root);
        if !zones.is_empty() {
            // Also after a pass that cannot start.
            self.0.set(now.saturating_add(PAUSE));
        }
        zones
    }

    /// A pass with this summary, which could relieve it, has ended at `now`.
    pub(super) fn on_pass(&self, summary: &Summary, mode: RunMode, now: Duration) {
        let is_relieved =
            !summary.relief.is_empty() && !summary.relief.iter().any(Relief::is_unrelieved);
        // After a dry run it is as full as before.
        let is_done = is_relieved && mode == RunMode::Real;
        self.0.set(if is_done { now } else { now.saturating_add(PAUSE) });
    }

    /// There are other settings now.
    pub(super) fn on_settings(&self) {
        self.0.take();
    }
}

/// Whether a pass over these zones could relieve a file system. Without one of the zones that may be used, it would remove
/// entries out of turn.
pub(super) fn can_relieve(config: &Config, swept: &[ZoneName]) -> bool {
    let Ok(Some(settings)) = &config.pressure else { return false };
    settings.zones.iter().all(|(zone, _)| swept.contains(&zone.name))
}

/// The zones that relieve a file system which is too full.
pub(super) fn zones(config: &Config, root: &DataRoot) -> Vec<ZoneName> {
    let Ok(Some(settings)) = &config.pressure else { return Vec::new() };
    if !is_pressed(settings, root) {
        return Vec::new();
    }
    settings.zones.iter().map(|(zone, _)| zone.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ReliefEnd;
    use crate::rules::{MinAge, Pressure};

    fn paused(until: u64, end: Option<ReliefEnd>, mode: RunMode) -> u64 {
        let pressed = Pressed(Cell::new(Duration::from_secs(until)));
        let min_age = MinAge::from_duration(Duration::ZERO);
        let pressure = Pressure { mark: None, relieve: None, keep_free: None };
        let relief = end.map(|end| Relief::new("/".into(), false, pressure, min_age, end));
        let relief = relief.into_iter().collect();
        let summary = Summary { zones: Vec::new(), stopped: None, relief };
        pressed.on_pass(&summary, mode, Duration::from_secs(1_000));
        pressed.0.get().as_secs()
    }

    #[test]
    fn only_a_relief_that_was_in_vain_is_followed_by_a_pause() {
        let real = RunMode::Real;
        assert_eq!(paused(0, Some(ReliefEnd::Relieved), real), 1_000);
        assert_eq!(paused(0, Some(ReliefEnd::NotNeeded), real), 1_000);
        assert_eq!(paused(0, Some(ReliefEnd::Stopped), real), 1_600);
        assert_eq!(paused(0, Some(ReliefEnd::NotNeeded), RunMode::DryRun), 1_600);
        // It was stopped before that.
        assert_eq!(paused(0, None, real), 1_600);
    }
}
