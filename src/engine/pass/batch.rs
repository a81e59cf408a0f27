//! Batches: expired entries that are claimed together, and outcomes that are counted together.
//!
//! This module must not decide what happens to an entry.

use std::ffi::CStr;
use std::sync::{Arc, Mutex, PoisonError};

use super::turns::{Looks, Turns};
use crate::engine::outcomes::Before;
use crate::protocol::{Directory, Entry, Expired, Observer, Outcome, OutcomeKind, Skipped, Tally};
use crate::rules::{Bytes, Kept};

/// How many entries are claimed together: enough that a round trip to a lock server costs little, few enough
/// that the locks outlive the batch.
const MOST: usize = 1024;

/// How many directories the entries of a batch may be in: each of them is open.
const MOST_DIRECTORIES: usize = 16;

/// Expired entries, and how many directories they are in.
#[derive(Debug, Default)]
pub(super) struct ExpiredBatch {
    entries: Vec<Expired>,
    directories: usize,
}

impl ExpiredBatch {
    pub(super) fn push(&mut self, expired: Expired) {
        let is_new = |last: &Expired| !Arc::ptr_eq(last.directory(), expired.directory());
        if self.entries.last().is_none_or(is_new) {
            self.directories += 1;
        }
        self.entries.push(expired);
    }

    pub(super) const fn count(&self) -> usize {
        self.entries.len()
    }

    pub(super) const fn is_full(&self) -> bool {
        !self.has_room(MOST, MOST_DIRECTORIES)
    }

    pub(super) const fn has_room(&self, entries: usize, directories: usize) -> bool {
        self.entries.len() < entries && self.directories < directories
    }

    pub(super) fn take(&mut self) -> Vec<Expired> {
        self.directories = 0;
        std::mem::take(&mut self.entries)
    }
}

/// The outcomes of one batch of names. Kept entries are counted without a lock.
pub(super) struct Batch<'a> {
    total: &'a Mutex<Tally>,
    observer: &'a dyn Observer,
    wants_kept: bool,
    /// The outcome in the pass of an entry that has another outcome now.
    pub(super) before: Option<&'a dyn Fn(&Expired) -> Before>,
    pub(super) tally: Tally,
    pub(super) looks: Looks<'a>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(
        total: &'a Mutex<Tally>,
        turns: &'a Turns,
        observer: &'a dyn Observer,
    ) -> Self {
        let (wants_kept, tally) = (observer.wants_kept(), Tally::default());
        Self { total, observer, wants_kept, before: None, tally, looks: Looks::new(turns) }
    }

    fn told(&mut self, outcome: &Outcome<'_>, before: Before) {
        self.tally.count(outcome);
        if !matches!(outcome.kind, OutcomeKind::Kept(_)) {
            // At once: the process may have to end while another entry of the batch is at work.
            let mut total = self.total.lock().unwrap_or_else(PoisonError::into_inner);
            total.count(outcome);
            total.was_fresh += u64::from(before == Before::Fresh);
            total.was_used += u64::from(before == Before::Used);
        }
        self.observer.on_outcome(outcome);
    }

    /// The outcome of an entry that the rules keep.
    pub(super) fn kept(&mut self, entry: &Entry<'_>, kept: Kept) {
        if !self.wants_kept {
            return self.tally.count_kept(kept.why);
        }
        self.judged(entry, OutcomeKind::Kept(kept), kept);
    }

    /// The outcome of an entry that had expired, and that the rules keep now.
    #[cold]
    pub(super) fn changed(&mut self, entry: &Entry<'_>, kept: Kept) {
        self.judged(entry, OutcomeKind::Skipped(Skipped::since(kept.why)), kept);
    }

    fn judged(&mut self, entry: &Entry<'_>, kind: OutcomeKind<'_>, kept: Kept) {
        let outcome = Outcome {
            zone: &entry.zone.name,
            dir: &entry.directory.path,
            device: entry.directory.id.dev,
            name: Some(entry.name),
            kind,
            age: kept.age,
            ttl: kept.rule.and_then(|rule| rule.expiry.ttl()),
            freed: Bytes(0),
            is_early: false,
        };
        self.told(&outcome, Before::Nothing);
    }

    /// The outcome of an expired entry.
    pub(super) fn of(&mut self, expired: &Expired, kind: OutcomeKind<'_>, freed: Bytes) {
        let outcome = Outcome {
            zone: &expired.directory().zone.name,
            dir: &expired.directory().path,
            device: expired.directory().id.dev,
            name: Some(expired.name()),
            kind,
            age: Some(expired.age()),
            ttl: expired.rule().expiry.ttl(),
            freed,
            is_early: expired.rule().early.is_some(),
        };
        let before = self.before.map_or(Before::Nothing, |before| before(expired));
        self.told(&outcome, before);
    }

    /// The outcome of a name that was never judged.
    pub(super) fn bare(
        &mut self,
        directory: &Directory,
        name: Option<&CStr>,
        kind: OutcomeKind<'_>,
        freed: Bytes,
    ) {
        let (zone, dir) = (&directory.zone.name, directory.path.as_path());
        let (device, age, ttl, is_early) = (directory.id.dev, None, None, false);
        let outcome = Outcome { zone, dir, device, name, kind, age, ttl, freed, is_early };
        self.told(&outcome, Before::Nothing);
    }

    /// No lock is held now.
    pub(super) fn unlocked(&self) {
        self.observer.on_unlocked();
    }

    /// Adds the rest of the counts to those of the zone.
    pub(super) fn close(self) {
        let Tally { seen, kept_by, unreached, .. } = self.tally;
        let rest = Tally { seen, kept_by, unreached, ..Tally::default() };
        self.total.lock().unwrap_or_else(PoisonError::into_inner).add(rest);
    }
}
