//! Which commands use a setting.
//!
//! This module must not name a setting.

use super::Use;

pub(super) const FORMATS: &[Use] = &[
    Use::Run,
    Use::Plan,
    Use::Apply,
    Use::Serve,
    Use::Legacy,
    Use::Why,
    Use::Usage,
    Use::Merge,
    Use::ClearmlRun,
    Use::ClearmlServe,
    Use::ClearmlOrphans,
    Use::ClearmlJournal,
    Use::ClearmlWhy,
];
/// They print a report or a picture.
pub(super) const PRINTS: &[Use] = &[
    Use::Run,
    Use::Plan,
    Use::Apply,
    Use::Serve,
    Use::Legacy,
    Use::Usage,
    Use::Merge,
    Use::ClearmlRun,
    Use::ClearmlServe,
    Use::ClearmlOrphans,
];
pub(super) const PASSES: &[Use] = &[Use::Run, Use::Serve];
pub(super) const SERVE: &[Use] = &[Use::Serve];
pub(super) const ONCE: &[Use] = &[Use::Run, Use::Plan, Use::Legacy];
pub(super) const SHARES: &[Use] = &[Use::Run, Use::Serve, Use::Legacy];
pub(super) const MEASURED: &[Use] =
    &[Use::Run, Use::Apply, Use::Legacy, Use::ClearmlRun, Use::ClearmlOrphans, Use::Health];
pub(super) const ANY: &[Use] = &[
    Use::Run,
    Use::Plan,
    Use::Apply,
    Use::Serve,
    Use::Legacy,
    Use::Why,
    Use::Hold,
    Use::Usage,
    Use::ClearmlRun,
    Use::ClearmlServe,
    Use::ClearmlOrphans,
    Use::ClearmlJournal,
    Use::ClearmlWhy,
];
pub(super) const DRY: &[Use] = &[
    Use::Run,
    Use::Apply,
    Use::Serve,
    Use::Legacy,
    Use::ClearmlRun,
    Use::ClearmlServe,
    Use::ClearmlOrphans,
];
pub(super) const ENDS: &[Use] = &[
    Use::Usage,
    Use::Run,
    Use::Plan,
    Use::Apply,
    Use::Serve,
    Use::Legacy,
    Use::ClearmlRun,
    Use::ClearmlServe,
    Use::ClearmlOrphans,
    Use::ClearmlJournal,
];
pub(super) const SWEEPS: &[Use] = &[Use::Run, Use::Apply, Use::Serve, Use::Legacy];
pub(super) const WRITTEN: &[Use] = &[
    Use::Run,
    Use::Apply,
    Use::Serve,
    Use::Legacy,
    Use::ClearmlRun,
    Use::ClearmlServe,
    Use::ClearmlOrphans,
    Use::ClearmlJournal,
];
pub(super) const SCANS: &[Use] = &[Use::Run, Use::Plan, Use::Apply, Use::Serve, Use::Legacy];
pub(super) const ZONES: &[Use] = &[Use::Run, Use::Plan, Use::Apply, Use::Serve, Use::Why];
pub(super) const JUDGES: &[Use] =
    &[Use::Run, Use::Plan, Use::Apply, Use::Serve, Use::Legacy, Use::Why];
pub(super) const RULES: &[Use] =
    &[Use::Run, Use::Plan, Use::Apply, Use::Serve, Use::Why, Use::Usage];
pub(super) const KEEPS: &[Use] =
    &[Use::Run, Use::Plan, Use::Apply, Use::Serve, Use::Legacy, Use::Why, Use::Usage];
pub(super) const WALKS: &[Use] =
    &[Use::Run, Use::Plan, Use::Apply, Use::Serve, Use::Legacy, Use::Usage];
pub(super) const LOCKED: &[Use] =
    &[Use::Run, Use::Plan, Use::Apply, Use::Serve, Use::Legacy, Use::Why, Use::Hold];
pub(super) const PATHS: &[Use] =
    &[Use::Run, Use::Plan, Use::Apply, Use::Serve, Use::Legacy, Use::Why, Use::Hold, Use::Usage];
pub(super) const REDIS: &[Use] =
    &[Use::Run, Use::Plan, Use::Apply, Use::Serve, Use::Why, Use::Hold];
pub(super) const WAITS: &[Use] = &[Use::Run, Use::Apply, Use::Serve, Use::Legacy, Use::Hold];
