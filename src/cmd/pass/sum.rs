//! What the turns of a pass did, added up.
//!
//! This module must not count by itself: the numbers come from the summaries of the turns.

use std::sync::Arc;
use std::time::Duration;

use crate::protocol::Summary;
use crate::rules::{Zone, ZoneName};

/// What the turns of a pass did.
pub(super) struct Sum {
    pub(super) summary: Summary,
    pub(super) durations: Vec<(ZoneName, Duration)>,
}

impl Default for Sum {
    fn default() -> Self {
        let summary = Summary { zones: Vec::new(), stopped: None, relief: Vec::new() };
        Self { summary, durations: Vec::new() }
    }
}

impl Sum {
    pub(super) fn add(&mut self, turn: Summary, durations: Vec<(ZoneName, Duration)>) {
        self.summary.zones.extend(turn.zones);
        self.summary.stopped = turn.stopped;
        self.summary.relief.extend(turn.relief);
        self.durations.extend(durations);
    }

    /// The summary, to be given back with more in it.
    pub(super) fn take_summary(&mut self) -> Summary {
        std::mem::replace(&mut self.summary, Self::default().summary)
    }

    /// Zones that had to wait are reported in their place.
    pub(super) fn in_order_of(mut self, zones: &[Arc<Zone>]) -> Self {
        let place = |name: &ZoneName| zones.iter().position(|zone| zone.name == *name);
        self.summary.zones.sort_by_key(|zone| place(&zone.zone));
        self
    }
}
