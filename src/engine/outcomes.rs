//! The outcomes of a pass, as far as the relief after it needs them: an entry has one outcome.
//!
//! This module must not decide anything. Its memory is bounded: it remembers nothing about most entries, and beyond a
//! limit it may claim an outcome for an entry that had none.

use std::collections::HashSet;
use std::ffi::CStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::protocol::{Directory, Expired, Observer, Outcome, OutcomeKind, Skipped, Tally};
use crate::rules::{Amount, KeptReason, Moment, ZoneName};

/// How many entries are remembered.
const MOST: usize = 100_000;

/// The outcomes of entries.
#[derive(Debug)]
pub struct Outcomes {
    most: usize,
    /// Nothing is removed: what would be removed early is still there for the next relief.
    is_dry: bool,
    known: Mutex<Known>,
    /// There were more entries that may be removed early than are remembered.
    are_too_many: AtomicBool,
}

/// The outcome in the pass of an entry that may still be removed early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// It was not there, or had another outcome.
    Nothing,
    /// It was kept as fresh.
    Fresh,
    /// It was skipped because of something in it.
    Used,
}

#[derive(Debug, Default)]
struct Known {
    /// The entries that stayed, each as a hash of its zone, its directory and its name.
    stayed: HashSet<u64>,
    /// There were more of them than are remembered.
    is_incomplete: bool,
    /// The entries that may still be removed early.
    may_go: HashSet<u64>,
    /// What was removed of each zone, by the device that it was on.
    freed: Vec<(ZoneName, u64, Amount)>,
}

impl Default for Outcomes {
    fn default() -> Self {
        let (known, are_too_many) = (Mutex::default(), AtomicBool::new(false));
        Self { most: MOST, is_dry: false, known, are_too_many }
    }
}

impl Outcomes {
    /// Of a pass that removes nothing if it `is_dry`.
    pub fn new(is_dry: bool) -> Self {
        Self { is_dry, ..Self::default() }
    }

    /// Whether an entry has an outcome that it keeps. An entry that the pass, at `swept`, has kept as fresh, or
    /// skipped because of something in it, may still be removed early.
    pub fn is_settled(&self, expired: &Expired, swept: Moment) -> bool {
        let directory = expired.directory();
        let known = self.known();
        if known.stayed.is_empty() {
            return false;
        }
        known.stayed.contains(&key(&directory.zone.name, &directory.path, expired.name()))
            || (known.is_incomplete && expired.is_kept_by_its_content(swept))
    }

    /// The outcome in the pass, at `swept`, of an entry that is removed early; to be asked once. If the pass has seen
    /// more entries than are remembered, an entry that was changed since, as by a rename into the zone, counts as one
    /// that was not there.
    pub fn before(&self, expired: &Expired, swept: Moment) -> Before {
        let directory = expired.directory();
        let key = key(&directory.zone.name, &directory.path, expired.name());
        // When it has gone, one that comes again by this name is another entry.
        let was_there = self.known().may_go.remove(&key)
            || (self.are_too_many.load(Ordering::Relaxed) && expired.metadata().ctime < swept);
        if !was_there {
            Before::Nothing
        } else if expired.is_kept_by_its_content(swept) {
            Before::Used
        } else {
            Before::Fresh
        }
    }

    /// What was removed of these zones on the devices that are `wanted`.
    pub fn freed_from(&self, zones: &[ZoneName], wanted: &dyn Fn(u64) -> bool) -> Amount {
        let known = self.known();
        let there =
            known.freed.iter().filter(|(zone, dev, _)| zones.contains(zone) && wanted(*dev));
        there.fold(Amount::default(), |sum, (_, _, amount)| sum.plus(*amount))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, outcome: &Outcome<'_>) {
        let is_removed = matches!(outcome.kind, OutcomeKind::Removed);
        if is_removed || outcome.freed.0 > 0 {
            let amount = Amount { bytes: outcome.freed.0, inodes: u64::from(is_removed) };
            let mut known = self.known();
            let of = |(zone, dev, _): &&mut (ZoneName, u64, Amount)| {
                zone == outcome.zone && *dev == outcome.device
            };
            match known.freed.iter_mut().find(of) {
                Some((.., sum)) => *sum = sum.plus(amount),
                None => known.freed.push((outcome.zone.clone(), outcome.device, amount)),
            }
        }
        let Some(name) = outcome.name else { return };
        if may_go(outcome) && !self.are_too_many.load(Ordering::Relaxed) {
            let key = key(outcome.zone, outcome.dir, name);
            let mut known = self.known();
            if known.may_go.len() < self.most {
                known.may_go.insert(key);
            } else {
                self.are_too_many.store(true, Ordering::Relaxed);
            }
        }
        if self.stays(outcome) {
            let mut known = self.known();
            if known.stayed.len() < self.most {
                known.stayed.insert(key(outcome.zone, outcome.dir, name));
            } else {
                known.is_incomplete = true;
            }
        }
    }

    /// Whether nothing more may happen to the entry in this pass.
    const fn stays(&self, outcome: &Outcome<'_>) -> bool {
        match &outcome.kind {
            // A name that is gone can come again, as another entry.
            OutcomeKind::Removed => self.is_dry && outcome.is_early,
            OutcomeKind::Skipped(Skipped::Gone) => false,
            OutcomeKind::Skipped(Skipped::Used) => outcome.is_early,
            OutcomeKind::Skipped(_) | OutcomeKind::Failed(_) => true,
            OutcomeKind::Kept(kept) => matches!(kept.why, KeptReason::MountPoint),
        }
    }
}

/// Whether a relief may give the entry another outcome.
const fn may_go(outcome: &Outcome<'_>) -> bool {
    match &outcome.kind {
        OutcomeKind::Kept(kept) => matches!(kept.why, KeptReason::Fresh),
        OutcomeKind::Skipped(Skipped::Used) => !outcome.is_early,
        OutcomeKind::Skipped(_) | OutcomeKind::Failed(_) | OutcomeKind::Removed => false,
    }
}

fn key(zone: &ZoneName, dir: &Path, name: &CStr) -> u64 {
    let mut hasher = DefaultHasher::new();
    (zone.as_str(), dir.as_os_str(), name).hash(&mut hasher);
    hasher.finish()
}

/// Passes everything on to another observer, and remembers it if that is asked for.
#[derive(Debug)]
pub struct Remembering<'a, O> {
    /// Where it is remembered; `None` if no relief follows.
    pub outcomes: Option<&'a Outcomes>,
    /// Who else is told.
    pub observer: &'a O,
}

impl<O: Observer> Observer for Remembering<'_, O> {
    fn on_zone(&self, zone: &ZoneName) {
        self.observer.on_zone(zone);
    }

    fn on_outcome(&self, outcome: &Outcome<'_>) {
        if let Some(outcomes) = self.outcomes {
            outcomes.remember(outcome);
        }
        if self.observer.wants_kept() || !matches!(outcome.kind, OutcomeKind::Kept(_)) {
            self.observer.on_outcome(outcome);
        }
    }

    fn wants_kept(&self) -> bool {
        self.outcomes.is_some() || self.observer.wants_kept()
    }

    fn on_unlocked(&self) {
        self.observer.on_unlocked();
    }

    fn on_progress(&self, root: &Directory, names: u64, counts: &Tally) {
        self.observer.on_progress(root, names, counts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{Bytes, Kept};

    fn kept(why: KeptReason) -> OutcomeKind<'static> {
        OutcomeKind::Kept(Kept { why, age: None, rule: None })
    }

    #[test]
    fn entries_that_may_go_are_remembered_up_to_a_limit() {
        let zone = ZoneName::new("z");
        let outcomes = Outcomes { most: 2, ..Outcomes::default() };
        let is_full = || outcomes.are_too_many.load(Ordering::Relaxed);
        for (name, is_last) in [(c"a", false), (c"b", false), (c"c", true)] {
            outcomes.remember(&Outcome {
                zone: &zone,
                dir: Path::new("/data/z"),
                device: 1,
                name: Some(name),
                kind: kept(KeptReason::Fresh),
                age: None,
                ttl: None,
                freed: Bytes(0),
                is_early: false,
            });
            assert_eq!((outcomes.known().may_go.len() < 3, is_full()), (true, is_last));
        }
    }

    #[test]
    fn what_stays_is_remembered_up_to_a_limit_that_is_known() {
        let zone = ZoneName::new("z");
        let outcomes = Outcomes { most: 2, ..Outcomes::default() };
        let told = |name, kind, is_early| {
            let (dir, device) = (Path::new("/data/z"), 1);
            let (age, ttl, freed) = (None, None, Bytes(7));
            let name = Some(name);
            let zone = &zone;
            outcomes.remember(&Outcome {
                zone,
                dir,
                device,
                name,
                kind,
                age,
                ttl,
                freed,
                is_early,
            });
        };
        let count = || {
            let known = outcomes.known();
            (known.stayed.len(), known.is_incomplete)
        };
        // These may have another outcome, or come again as other entries.
        told(c"a", kept(KeptReason::Fresh), false);
        told(c"b", OutcomeKind::Skipped(Skipped::Used), false);
        told(c"c", OutcomeKind::Skipped(Skipped::Gone), false);
        told(c"d", OutcomeKind::Removed, false);
        assert_eq!(count(), (0, false));
        told(c"e", OutcomeKind::Skipped(Skipped::Locked), false);
        told(c"e", OutcomeKind::Skipped(Skipped::Locked), false);
        told(c"b", OutcomeKind::Skipped(Skipped::Used), true);
        assert_eq!(count(), (2, false));
        told(c"f", kept(KeptReason::MountPoint), false);
        assert_eq!(count(), (2, true));
        let freed = outcomes.freed_from(std::slice::from_ref(&zone), &|device| device == 1);
        assert_eq!(freed, Amount { bytes: 8 * 7, inodes: 1 });
        assert!(outcomes.freed_from(std::slice::from_ref(&zone), &|device| device == 2).is_zero());
    }
}
