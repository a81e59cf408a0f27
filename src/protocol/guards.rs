//! Guards: how much a pass may remove at most, and by how much it would remove more.
//!
//! This module must not count anything itself: it is given the counts of a pass that has removed nothing. A pass that
//! would exceed a guard does not begin.

use std::fmt;

use super::{RunMode, StopReason, Summary, ZoneSummary};
use crate::rules::{Bytes, Share, ZoneName};
use crate::units::{entries, grouped};

/// The guards of a pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guards {
    /// How many entries may be removed, in all zones together.
    pub max_removals: Option<u64>,
    /// How much space may be freed, in all zones together.
    pub max_bytes: Option<Bytes>,
    /// Which share of the entries of a zone may be removed.
    pub shares: Vec<(ZoneName, MaxShare)>,
}

/// Which share of the entries of a zone may be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxShare {
    /// The share.
    pub share: Share,
    /// A zone with fewer entries is not guarded.
    pub from_entries: u64,
}

impl MaxShare {
    /// How many of `seen` entries may be removed.
    fn allows(self, seen: u64) -> u64 {
        if seen < self.from_entries { seen } else { self.share.of(seen) }
    }
}

/// A guard that a pass would exceed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excess {
    /// The guard.
    pub guard: StopReason,
    /// The zone to report it in.
    pub zone: ZoneName,
    /// What would be removed, and how much more that is than the guard allows.
    amount: String,
    /// It guards only the first pass of a service.
    is_for_first_pass: bool,
}

impl Excess {
    const fn new(guard: StopReason, zone: ZoneName, amount: String) -> Self {
        Self { guard, zone, amount, is_for_first_pass: false }
    }

    /// The note on it in the report of a pass that is stopped, or of a dry run.
    pub fn note(&self, mode: RunMode) -> String {
        match mode {
            RunMode::Real if self.is_for_first_pass => format!(
                "nothing was removed: this pass would {self}. The next pass does not have this limit: to keep \
                 the entries, stop the service or set max_share before that. --dry-run shows them"
            ),
            RunMode::Real => format!(
                "nothing was removed: this pass would {self}. --dry-run shows the entries; to let the \
                 pass run, raise the limit"
            ),
            RunMode::DryRun => {
                format!("a run would stop before it removed anything: it would {self}")
            }
        }
    }
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.amount)
    }
}

impl Guards {
    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.max_removals.is_none() && self.max_bytes.is_none() && self.shares.is_empty()
    }

    /// How many entries may be removed from a zone that was seen to have `seen`, if that is limited.
    pub fn allowed_in(&self, zone: &ZoneName, seen: u64) -> Option<u64> {
        let (_, share) = self.shares.iter().find(|(name, _)| name == zone)?;
        Some(share.allows(seen))
    }

    /// The guards that a pass with these counts would exceed.
    pub fn exceeded_by(&self, counted: &Summary) -> Vec<Excess> {
        let removals = counted.sum(|tally| tally.removed);
        let bytes = Bytes(counted.sum(|tally| tally.freed.0));
        let mut all = Vec::new();
        // Reported in the zone that contributes the most.
        let largest = |count: fn(&ZoneSummary) -> u64| {
            let zone = counted.zones.iter().max_by_key(|zone| count(zone));
            zone.map(|zone| zone.zone.clone())
        };
        if let (Some(most), Some(zone)) = (self.max_removals, largest(|zone| zone.tally.removed))
            && removals > most
        {
            let amount = format!(
                "remove {} in total, {} more than --max-removals {} allows",
                entries(removals),
                grouped(removals - most),
                grouped(most)
            );
            all.push(Excess::new(StopReason::MaxRemovals, zone, amount));
        }
        if let (Some(most), Some(zone)) = (self.max_bytes, largest(|zone| zone.tally.freed.0))
            && bytes > most
        {
            let more = Bytes(bytes.0 - most.0);
            let amount = format!(
                "free {bytes} in total, {more} more than --max-bytes {} allows",
                most.to_string().replace(' ', "")
            );
            all.push(Excess::new(StopReason::MaxBytes, zone, amount));
        }
        all.extend(counted.zones.iter().filter_map(|zone| self.excess_in(zone)));
        all
    }

    fn excess_in(&self, zone: &ZoneSummary) -> Option<Excess> {
        let (_, limit) = self.shares.iter().find(|(name, _)| *name == zone.zone)?;
        let (removed, seen) = (zone.tally.removed, zone.tally.reported());
        let allowed = limit.allows(seen);
        let more = removed.checked_sub(allowed).filter(|more| *more > 0)?;
        let mut amount = format!(
            "remove {} of {} of this zone, {} more than --max-share {} allows",
            grouped(removed),
            entries(seen),
            grouped(more),
            limit.share
        );
        let is_for_first_pass = limit.from_entries > 0;
        if is_for_first_pass {
            amount.push_str(" (the default for the first pass of a service over a zone)");
        }
        let excess = Excess::new(StopReason::MaxShare, zone.zone.clone(), amount);
        Some(Excess { is_for_first_pass, ..excess })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Tally;

    fn counted(zones: &[(&str, u64, u64, u64)]) -> Summary {
        let zone = |&(name, seen, removed, freed): &(&str, u64, u64, u64)| ZoneSummary {
            zone: ZoneName::new(name),
            path: "/data".into(),
            tally: Tally {
                seen,
                removed,
                failed: seen - removed,
                freed: Bytes(freed),
                ..Tally::default()
            },
            notes: Vec::new(),
            no_lock: None,
        };
        Summary { zones: zones.iter().map(zone).collect(), stopped: None, relief: Vec::new() }
    }

    fn share(zone: &str, percent: u16, from_entries: u64) -> (ZoneName, MaxShare) {
        (ZoneName::new(zone), MaxShare { share: Share::percent(percent), from_entries })
    }

    #[test]
    fn as_much_as_is_allowed_is_not_too_much() {
        let guards = Guards {
            max_removals: Some(6),
            max_bytes: Some(Bytes(60)),
            shares: vec![share("a", 50, 0), share("b", 50, 0)],
        };
        assert_eq!(guards.exceeded_by(&counted(&[("a", 10, 5, 50), ("b", 2, 1, 10)])), []);
        assert_eq!(guards.exceeded_by(&counted(&[("a", 0, 0, 0), ("b", 0, 0, 0)])), []);
    }

    #[test]
    fn each_guard_says_by_how_much_it_would_be_exceeded() {
        let guards = Guards {
            max_removals: Some(6),
            max_bytes: Some(Bytes(2048)),
            shares: vec![share("b", 50, 0)],
        };
        let found = guards.exceeded_by(&counted(&[("a", 10, 5, 1024), ("b", 3, 2, 4096)]));
        let notes: Vec<(&str, &str, String)> = found
            .iter()
            .map(|excess| (excess.guard.key(), excess.zone.as_str(), excess.to_string()))
            .collect();
        assert_eq!(
            notes,
            [
                (
                    "max_removals",
                    "a",
                    "remove 7 entries in total, 1 more than --max-removals 6 allows".to_owned()
                ),
                (
                    "max_bytes",
                    "b",
                    "free 5.0 KiB in total, 3.0 KiB more than --max-bytes 2.0KiB allows".to_owned()
                ),
                (
                    "max_share",
                    "b",
                    "remove 2 of 3 entries of this zone, 1 more than --max-share 50% allows"
                        .to_owned()
                ),
            ]
        );
    }

    #[test]
    fn numbers_are_written_as_in_the_rest_of_the_report() {
        let guards = Guards { max_removals: Some(1000), ..Guards::default() };
        let guards = Guards { shares: vec![share("a", 10, 0)], ..guards };
        let said = |seen| {
            let found = guards.exceeded_by(&counted(&[("a", seen, seen, 0)]));
            found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        let many = said(4000);
        assert!(many.contains("remove 4,000 of 4,000 entries of this zone, 3,600 more"), "{many}");
        assert!(
            many.contains("4,000 entries in total, 3,000 more than --max-removals 1,000"),
            "{many}"
        );
        assert!(said(1).contains("remove 1 of 1 entry of this zone, 1 more"), "{}", said(1));
    }

    #[test]
    fn a_zone_with_few_entries_is_not_guarded_where_that_is_said() {
        let guards = Guards { shares: vec![share("a", 90, 10)], ..Guards::default() };
        assert_eq!(guards.exceeded_by(&counted(&[("a", 9, 9, 0)])), []);
        assert_eq!(guards.exceeded_by(&counted(&[("a", 10, 10, 0)])).len(), 1);
        assert_eq!(guards.allowed_in(&ZoneName::new("a"), 9), Some(9));
        assert_eq!(guards.allowed_in(&ZoneName::new("a"), 10), Some(9));
        assert_eq!(guards.allowed_in(&ZoneName::new("b"), 10), None);
    }
}
