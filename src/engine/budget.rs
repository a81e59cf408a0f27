//! How much a pass may still remove, by its guards.
//!
//! This module must not decide whether a pass begins: that was decided by a count. What is taken here only ends a pass
//! that finds more than was counted, because entries have expired or come meanwhile.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::protocol::{Guards, StopReason, Summary};
use crate::rules::{Bytes, ZoneName};

/// What is left of each guard.
#[derive(Debug)]
pub struct Budget {
    removals: Left,
    bytes: Left,
    /// For each zone whose share is guarded.
    zones: Vec<(ZoneName, Left)>,
    /// The guard of which nothing was left.
    exhausted: OnceLock<StopReason>,
}

/// An amount that shrinks and never falls below zero.
#[derive(Debug)]
struct Left(AtomicU64);

impl Left {
    const fn new(amount: u64) -> Self {
        Self(AtomicU64::new(amount))
    }

    fn take(&self, amount: u64) -> bool {
        let left = |left: u64| left.checked_sub(amount);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).is_ok()
    }

    fn give_back(&self, amount: u64) {
        let more = |left: u64| Some(left.saturating_add(amount));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }
}

impl Budget {
    /// What `guards` allow in zones that were seen to have as many entries as `counted` says.
    pub fn new(guards: &Guards, counted: &Summary) -> Self {
        let zones = counted.zones.iter().filter_map(|zone| {
            let allowed = guards.allowed_in(&zone.zone, zone.tally.reported())?;
            Some((zone.zone.clone(), Left::new(allowed)))
        });
        Self {
            removals: Left::new(guards.max_removals.unwrap_or(u64::MAX)),
            bytes: Left::new(guards.max_bytes.map_or(u64::MAX, |bytes| bytes.0)),
            zones: zones.collect(),
            exhausted: OnceLock::new(),
        }
    }

    /// Takes one removal in `zone` that frees `bytes`; `false` when that is more than is left.
    pub fn take(&self, zone: &ZoneName, bytes: Bytes) -> bool {
        if self.exhausted.get().is_some() {
            return false;
        }
        let of_zone = self.of_zone(zone);
        let guard = if !self.removals.take(1) {
            StopReason::MaxRemovals
        } else if !of_zone.is_none_or(|left| left.take(1)) {
            self.removals.give_back(1);
            StopReason::MaxShare
        } else if !self.bytes.take(bytes.0) {
            self.removals.give_back(1);
            of_zone.inspect(|left| left.give_back(1));
            StopReason::MaxBytes
        } else {
            return true;
        };
        self.exhausted.get_or_init(|| guard);
        false
    }

    /// Gives back what a removal has taken that was not made.
    pub fn give_back(&self, zone: &ZoneName, bytes: Bytes) {
        self.removals.give_back(1);
        self.bytes.give_back(bytes.0);
        if let Some(left) = self.of_zone(zone) {
            left.give_back(1);
        }
    }

    /// The guard of which nothing was left, if there is one.
    pub fn exhausted(&self) -> Option<StopReason> {
        self.exhausted.get().copied()
    }

    fn of_zone(&self, zone: &ZoneName) -> Option<&Left> {
        self.zones.iter().find(|(name, _)| name == zone).map(|(_, left)| left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{MaxShare, Tally, ZoneSummary};
    use crate::rules::Share;

    fn zone(name: &str, seen: u64) -> ZoneSummary {
        let tally = Tally { seen, failed: seen, ..Tally::default() };
        let (zone, path) = (ZoneName::new(name), "/data".into());
        ZoneSummary { zone, path, tally, notes: Vec::new(), no_lock: None }
    }

    #[test]
    fn each_guard_ends_the_pass_where_nothing_of_it_is_left() {
        let counted =
            Summary { zones: vec![zone("a", 4), zone("b", 4)], stopped: None, relief: Vec::new() };
        let (a, b) = (ZoneName::new("a"), ZoneName::new("b"));
        let half = MaxShare { share: Share::percent(50), from_entries: 0 };
        for (guards, reason) in [
            (Guards { max_removals: Some(2), ..Guards::default() }, StopReason::MaxRemovals),
            (Guards { max_bytes: Some(Bytes(25)), ..Guards::default() }, StopReason::MaxBytes),
            (Guards { shares: vec![(a.clone(), half)], ..Guards::default() }, StopReason::MaxShare),
        ] {
            let budget = Budget::new(&guards, &counted);
            assert!(budget.take(&a, Bytes(10)));
            budget.give_back(&a, Bytes(10));
            assert!(budget.take(&a, Bytes(10)) && budget.take(&a, Bytes(10)));
            assert_eq!(budget.exhausted(), None);
            assert!(!budget.take(&a, Bytes(10)), "{reason:?}");
            assert_eq!(budget.exhausted(), Some(reason));
            assert!(!budget.take(&b, Bytes(0)), "it has ended for every zone");
        }
    }
}
