//! What is to be relieved, and how.
//!
//! This module must not do anything: this is data.

use std::path::Path;
use std::sync::Arc;

use super::zone_run::ZoneRun;
use crate::engine::outcomes::Outcomes;
use crate::protocol::Volume;
use crate::rules::select::Order;
use crate::rules::{Amount, MinAge, Moment, Pressure, Zone};

/// What to relieve, and how.
#[derive(Debug)]
pub struct ReliefPlan<'a> {
    /// The zones whose entries may be removed.
    pub zones: &'a [ReliefZone],
    /// When it is too full, and how far it is to be relieved.
    pub pressure: Pressure,
    /// Only older entries are removed.
    pub min_age: MinAge,
    /// The file system.
    pub volume: &'a dyn Volume,
    /// A directory on it, for the report.
    pub path: &'a Path,
    /// What the pass has removed there before.
    pub freed: Amount,
    /// The outcomes of the pass.
    pub outcomes: &'a Outcomes,
}

/// A zone whose entries may be removed early.
#[derive(Debug, Clone)]
pub struct ReliefZone {
    /// The zone.
    pub zone: Arc<Zone>,
    /// Which of its entries is removed first.
    pub order: Order,
    /// The moment that its pass has judged at.
    pub swept: Moment,
}

/// A zone while it is relieved.
pub(super) struct ReliefRun<'a> {
    pub(super) zone: &'a ReliefZone,
    pub(super) run: ZoneRun<'a>,
}
