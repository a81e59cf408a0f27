//! Whether a service sweeps at once, because a file system is too full.
//!
//! It must not sweep. A pass that could not relieve it is not repeated soon.

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

    /// A pass with this summary has ended at `now`.
    pub(super) fn on_pass(&self, summary: &Summary, mode: RunMode, now: Duration) {
        let is_relieved =
            !summary.relief.is_empty() && !summary.relief.iter().any(Relief::is_unrelieved);
        // After a dry run it is as full as before.
        let is_done = is_relieved && mode == RunMode::Real;
        self.0.set(if is_done { now } else { now.saturating_add(PAUSE) });
    }
}

/// The zones that relieve a file system which is too full.
pub(super) fn zones(config: &Config, root: &DataRoot) -> Vec<ZoneName> {
    let Ok(Some(settings)) = &config.pressure else { return Vec::new() };
    if !is_pressed(settings, root) {
        return Vec::new();
    }
    settings.zones.iter().map(|(zone, _)| zone.name.clone()).collect()
}
