//! Builds what removals from mounted directories need.
//!
//! This module must not remove anything itself.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::place::Seams;
use crate::clearml::error::CycleError;
use crate::cmd::pass::probe;
use crate::config::Config;
use crate::dispose::{DryRun, Unlink};
use crate::engine::{Limits, PassControl, Workers};
use crate::inspect::FileInspector;
use crate::lock::Backend;
use crate::protocol::{Notes, StopReason};
use crate::rules::Moment;

/// Does something with what removals from mounted directories need. Here it is decided whether they are real. They
/// leave their notes in `notes`.
pub(super) fn with_seams(
    config: &Config,
    deadline: Option<Instant>,
    stop: &Arc<AtomicBool>,
    now: Moment,
    notes: &Notes,
    work: impl FnOnce(Seams<'_>) -> Result<Option<StopReason>, CycleError>,
) -> Result<Option<StopReason>, CycleError> {
    let limits = Limits::new(Arc::clone(stop), None);
    if let Some(deadline) = deadline {
        limits.set_deadline(deadline.saturating_duration_since(Instant::now()));
    }
    let (workers, locks) = (Workers::one(), Backend::flock());
    let control = &PassControl { limits: &limits, workers: &workers };
    let (locks, probe) = (&locks, probe(config.in_use));
    let inspector = &FileInspector::new(control, notes, probe);
    if config.dry_run {
        let disposer = &DryRun::new(control, probe);
        work(Seams { control, notes, disposer, inspector, locks, now })
    } else {
        let disposer = &Unlink::new(control, notes, probe);
        work(Seams { control, notes, disposer, inspector, locks, now })
    }
}
