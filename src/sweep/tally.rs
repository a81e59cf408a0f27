//! The counts of a zone, made of outcomes and of nothing else.
//!
//! It must not be told of anything but outcomes; where it must balance, `sweep` asserts that it does.

use crate::condemn::{Failure, Fate, Spared};
use crate::retention::{Bytes, KeptBy};

use super::Outcome;

/// How many failures are listed; all are counted.
pub const LISTED_FAILURES: usize = 100;

/// What became of the entries of a zone, or of a handful of them.
#[derive(Debug, Default)]
pub struct Tally {
    /// Entries sighted, or tried to.
    pub seen: u64,
    /// Gone, by us.
    pub removed: u64,
    /// Kept at the first look, by reason, in the order of [`KeptBy::ALL`].
    pub kept_by: [u64; KeptBy::ALL.len()],
    /// Spared after it, in the order of [`Spared::ALL`].
    pub spared_by: [u64; Spared::ALL.len()],
    /// The system said no.
    pub failed: u64,
    /// Sighted when the pass was stopped, and not taken further: no part of the report.
    pub unreached: u64,
    /// What the disk got back.
    pub freed: Bytes,
    /// The first failures, as text.
    pub failures: Vec<ListedFailure>,
}

/// A failure as the report lists it.
#[derive(Debug)]
pub struct ListedFailure {
    /// To what.
    pub path: std::path::PathBuf,
    /// What we were doing.
    pub doing: std::borrow::Cow<'static, str>,
    /// The system's error number, if it was the system's.
    pub errno: Option<i32>,
    /// What it said, and what can be done about it.
    pub message: String,
}

impl ListedFailure {
    /// Of a failure, the parts that are listed.
    pub fn of(failure: &Failure) -> Self {
        let message = match &failure.hint {
            Some(hint) => format!("{}; {hint}", failure.error),
            None => failure.error.to_string(),
        };
        let errno = failure.error.raw_os_error();
        Self { path: failure.path.clone(), doing: failure.doing.into(), errno, message }
    }
}

impl Tally {
    /// Counts one outcome.
    pub fn count(&mut self, outcome: &Outcome<'_>) {
        match &outcome.fate {
            Fate::Removed => self.removed += 1,
            Fate::Kept(kept) => self.kept_by[kept.why as usize] += 1,
            Fate::Spared(why) => self.spared_by[*why as usize] += 1,
            Fate::Failed(failure) => self.count_failure(failure),
        }
        self.freed += outcome.freed;
    }

    /// Counts a failure, and lists the first ones.
    pub fn count_failure(&mut self, failure: &Failure) {
        self.failed += 1;
        if self.failures.len() < LISTED_FAILURES {
            self.failures.push(ListedFailure::of(failure));
        }
    }

    /// Adds another tally to this one.
    pub fn add(&mut self, other: Self) {
        self.seen += other.seen;
        self.removed += other.removed;
        self.failed += other.failed;
        self.unreached += other.unreached;
        self.freed += other.freed;
        for (sum, part) in self.kept_by.iter_mut().zip(other.kept_by) {
            *sum += part;
        }
        for (sum, part) in self.spared_by.iter_mut().zip(other.spared_by) {
            *sum += part;
        }
        let room = LISTED_FAILURES.saturating_sub(self.failures.len());
        self.failures.extend(other.failures.into_iter().take(room));
    }

    /// How many were kept.
    pub fn kept(&self) -> u64 {
        self.kept_by.iter().sum()
    }

    /// How many were spared.
    pub fn spared(&self) -> u64 {
        self.spared_by.iter().sum()
    }

    /// How many entries the report speaks of.
    pub fn reported(&self) -> u64 {
        self.removed + self.kept() + self.spared() + self.failed
    }

    /// Every entry seen has exactly one outcome, or was not reached before a stop.
    pub fn is_conserved(&self) -> bool {
        self.seen == self.reported() + self.unreached
    }
}
