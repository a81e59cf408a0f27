//! The counts of a pass while it is at work, for a report that cannot wait for its end.
//!
//! This module must not count anything itself. An outcome other than "kept" is in it as soon as it is known; kept
//! entries come in batches.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::protocol::{StopReason, Summary, Tally, ZoneSummary};
use crate::rules::{Zone, ZoneName};

/// The counts of the zones that were begun.
#[derive(Debug, Default)]
pub struct Live(Mutex<Vec<(ZoneName, Arc<Mutex<Tally>>)>>);

impl Live {
    /// The counts of a zone that begins now.
    pub(super) fn begin(&self, zone: &ZoneName) -> Arc<Mutex<Tally>> {
        let counts = Arc::<Mutex<Tally>>::default();
        let mut zones = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        zones.push((zone.clone(), Arc::clone(&counts)));
        counts
    }

    /// The outcomes so far in `zones`, with `note` in the zone that was begun last. Entries without an outcome
    /// are not counted.
    pub fn summary(
        &self,
        data_root: &Path,
        zones: &[Arc<Zone>],
        stopped: Option<StopReason>,
        note: &str,
    ) -> Summary {
        let begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = begun.last().map(|(name, _)| name).or(zones.first().map(|zone| &zone.name));
        let summary = |zone: &Arc<Zone>| {
            let of_zone = begun.iter().filter(|(name, _)| *name == zone.name);
            let mut counts = of_zone.map(|(_, counts)| {
                let mut tally = counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
                tally.seen = tally.reported() + tally.unreached;
                tally
            });
            let mut tally = counts.next().unwrap_or_default();
            // Counts that were begun later are those of the relief of its file system.
            counts.for_each(|early| tally.take_over(early));
            let notes = if last == Some(&zone.name) { vec![note.to_owned()] } else { Vec::new() };
            let (name, path) = (zone.name.clone(), zone_path(data_root, zone));
            ZoneSummary { zone: name, path, tally, notes, no_lock: None }
        };
        Summary { zones: zones.iter().map(summary).collect(), stopped, relief: Vec::new() }
    }
}

/// The directory that a zone lies in, as people see it.
pub(super) fn zone_path(data_root: &Path, zone: &Zone) -> PathBuf {
    match zone.location.roots.as_slice() {
        [root] => data_root.join(root),
        _ => data_root.to_owned(),
    }
}
