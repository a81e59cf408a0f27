//! What a pass is asked to do.
//!
//! This module must not do any of it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::planned::{PlanWriter, Planned};
use super::turns::WhenHeld;
use crate::config::{Config, Verbosity};
use crate::rules::{Zone, ZoneName};

/// What to sweep, and how to report it.
pub struct PassRequest<'a> {
    /// The command, for the report.
    pub command: &'static str,
    /// The settings.
    pub config: &'a Config,
    /// The zones.
    pub zones: &'a [Arc<Zone>],
    /// Those that a service sweeps for the first time.
    pub first: &'a [ZoneName],
    /// Whether it may remove entries before they expire, if the settings say so.
    pub relieves: bool,
    /// Where to write a plan, of a dry run that makes one.
    pub plan: Option<&'a PlanWriter>,
    /// What alone may be removed, of a pass that follows a plan.
    pub planned: Option<&'a Planned>,
    /// How much to say.
    pub verbosity: Verbosity,
    /// Set by a signal.
    pub signal: Arc<AtomicBool>,
    /// Raised by SIGHUP: the audit log was rotated.
    pub hangup: Arc<AtomicBool>,
    /// What to do with a zone that another sweeper has locked.
    pub when_held: WhenHeld,
}
