//! The counts of a pass, made of outcomes and of nothing else, and the exit code that they amount to.
//!
//! This module must not count anything but outcomes; the engine asserts that the counts balance.

use std::path::{Path, PathBuf};

use super::{Failure, Outcome, OutcomeKind, Relief, Skipped};
use crate::rules::{Action, Bytes, KeptReason, Moment, Shard, ZoneName};
use crate::units;

/// How many failures are listed; all are counted.
pub const LISTED_FAILURES: usize = 100;

/// The counts of a zone, or of a batch of entries.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Entries found, or whose look failed.
    pub seen: u64,
    /// Removed.
    pub removed: u64,
    /// Kept, by reason, in the order of [`KeptReason::ALL`].
    pub kept_by: [u64; KeptReason::ALL.len()],
    /// Skipped, by reason, in the order of [`Skipped::ALL`].
    pub skipped_by: [u64; Skipped::ALL.len()],
    /// Failed.
    pub failed: u64,
    /// Found and not taken further: the pass was stopped, or the entry was not selected. Not reported.
    pub unreached: u64,
    /// How many of those with an outcome other than "unreached" the pass had kept as fresh. Only a relief has any.
    pub was_fresh: u64,
    /// How many of them the pass had skipped because of something in them.
    pub was_used: u64,
    /// The space that was freed.
    pub freed: Bytes,
    /// The first failures.
    pub failures: Vec<ListedFailure>,
    /// The counts of a pass that a guard has stopped before it began, as they would have been.
    pub withheld: Option<Box<Self>>,
}

/// A failure as the report lists it.
#[derive(Debug, Clone)]
pub struct ListedFailure {
    /// The path.
    pub path: PathBuf,
    /// What was being done.
    pub action: Action,
    /// The error number, if the error was the system's.
    pub errno: Option<i32>,
    /// What the system said, and what can be done about it.
    pub message: String,
}

impl ListedFailure {
    /// The listed parts of a failure.
    pub fn new(failure: &Failure) -> Self {
        let message = match &failure.hint {
            Some(hint) => format!("{}; {hint}", units::error(&failure.error)),
            None => units::error(&failure.error),
        };
        let errno = failure.error.raw_os_error();
        Self { path: failure.path.clone(), action: failure.action, errno, message }
    }
}

impl Tally {
    /// Counts one outcome.
    pub fn count(&mut self, outcome: &Outcome<'_>) {
        match &outcome.kind {
            OutcomeKind::Removed => self.removed += 1,
            OutcomeKind::Kept(kept) => self.count_kept(kept.why),
            OutcomeKind::Skipped(why) => self.skipped_by[*why as usize] += 1,
            OutcomeKind::Failed(failure) => self.count_failure(failure),
        }
        self.freed += outcome.freed;
    }

    /// Counts one that is kept, which is all that an outcome of that kind counts.
    #[inline]
    pub fn count_kept(&mut self, why: KeptReason) {
        self.kept_by[why as usize] += 1;
    }

    /// Counts a failure, and lists the first ones.
    pub fn count_failure(&mut self, failure: &Failure) {
        self.failed += 1;
        if self.failures.len() < LISTED_FAILURES {
            self.failures.push(ListedFailure::new(failure));
        }
    }

    /// Adds other counts.
    pub fn add(&mut self, other: Self) {
        self.seen += other.seen;
        self.removed += other.removed;
        self.failed += other.failed;
        self.unreached += other.unreached;
        self.was_fresh += other.was_fresh;
        self.was_used += other.was_used;
        self.freed += other.freed;
        for (sum, part) in self.kept_by.iter_mut().zip(other.kept_by) {
            *sum += part;
        }
        for (sum, part) in self.skipped_by.iter_mut().zip(other.skipped_by) {
            *sum += part;
        }
        let room = LISTED_FAILURES.saturating_sub(self.failures.len());
        self.failures.extend(other.failures.into_iter().take(room));
    }

    /// Replaces the outcomes that entries had in the pass by those of the relief of their file system. Entries that
    /// came after the pass had none. Entries that were not reached keep the outcome that they had.
    pub fn take_over(&mut self, early: Self) {
        let reported = early.reported();
        let used = early.was_used.min(self.skipped_by[Skipped::Used as usize]);
        self.skipped_by[Skipped::Used as usize] -= used;
        let fresh = early.was_fresh.min(self.kept_by[KeptReason::Fresh as usize]);
        self.kept_by[KeptReason::Fresh as usize] -= fresh;
        let seen = reported.saturating_sub(used + fresh);
        self.add(Self { seen, unreached: 0, was_fresh: 0, was_used: 0, ..early });
    }

    /// Nothing was reached: the pass ended before it began.
    pub fn withhold(&mut self) {
        let counted = Box::new(std::mem::take(self));
        let seen = counted.seen;
        *self = Self { seen, unreached: seen, withheld: Some(counted), ..Self::default() };
    }

    /// How many were kept.
    pub fn kept(&self) -> u64 {
        self.kept_by.iter().sum()
    }

    /// How many were skipped.
    pub fn skipped(&self) -> u64 {
        self.skipped_by.iter().sum()
    }

    /// How many entries have an outcome.
    pub fn reported(&self) -> u64 {
        self.removed + self.kept() + self.skipped() + self.failed
    }

    /// Whether every entry seen has exactly one outcome, or was not reached.
    pub fn is_conserved(&self) -> bool {
        self.seen == self.reported() + self.unreached
    }
}

/// What a pass did in one zone.
#[derive(Debug)]
pub struct ZoneSummary {
    /// The zone.
    pub zone: ZoneName,
    /// The directory that it lies in, as people see it.
    pub path: PathBuf,
    /// Its counts.
    pub tally: Tally,
    /// What the user should know besides them.
    pub notes: Vec<String>,
    /// Why the zone was left alone, if its locks could not be taken.
    pub no_lock: Option<String>,
}

impl ZoneSummary {
    /// Why the zone was not swept completely and without failures, if it was not.
    pub fn problem(&self, stopped: Option<StopReason>) -> Option<String> {
        if let Some(why) = &self.no_lock {
            Some(format!("the zone was left alone: {why}"))
        } else if let Some(why) = stopped {
            Some(format!("the pass was stopped before its end: {}", why.key()))
        } else if self.tally.failed > 0 {
            Some(format!("{} failed", units::entries(self.tally.failed)))
        } else {
            None
        }
    }
}

/// What a pass did.
#[derive(Debug)]
pub struct Summary {
    /// Each zone, in the order in which they were swept.
    pub zones: Vec<ZoneSummary>,
    /// Why the pass was stopped before its end, if it was.
    pub stopped: Option<StopReason>,
    /// The relief of each file system, if that was asked for.
    pub relief: Vec<Relief>,
}

impl Summary {
    /// A count over all zones.
    pub fn sum(&self, count: impl Fn(&Tally) -> u64) -> u64 {
        self.zones.iter().map(|zone| count(&zone.tally)).sum()
    }

    /// A zone in which an entry has no outcome, or two.
    pub fn not_conserved(&self) -> Option<&ZoneSummary> {
        self.zones.iter().find(|zone| !zone.tally.is_conserved())
    }
}

/// Why a pass was stopped before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// SIGINT or SIGTERM.
    Signal,
    /// `--deadline`.
    Deadline,
    /// `--max-removals`.
    MaxRemovals,
    /// `--max-bytes`.
    MaxBytes,
    /// `--max-share`.
    MaxShare,
    /// The audit log cannot be written.
    AuditLog,
    /// More would have been removed than the user allows, so nothing was.
    TooMany,
}

impl StopReason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Signal,
        Self::Deadline,
        Self::MaxRemovals,
        Self::MaxBytes,
        Self::MaxShare,
        Self::AuditLog,
        Self::TooMany,
    ];

    /// The name of the reason in reports.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Signal => "signal",
            Self::Deadline => "deadline",
            Self::MaxRemovals => "max_removals",
            Self::MaxBytes => "max_bytes",
            Self::MaxShare => "max_share",
            Self::AuditLog => "audit_log",
            Self::TooMany => "too_many",
        }
    }
}

/// Whether removals are real.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunMode {
    /// They are.
    Real,
    /// They are only reported.
    DryRun,
}

/// What a report says about a pass besides its counts.
#[derive(Debug, Clone, Copy)]
pub struct RunInfo<'a> {
    /// The name of the command.
    pub command: &'static str,
    /// Whether removals were real.
    pub mode: RunMode,
    /// The moment at which everything was judged.
    pub now: Moment,
    /// The data root.
    pub data_root: &'a Path,
    /// The shard, if the pass was one of several.
    pub shard: Option<Shard>,
}

/// How a command ended. The highest code applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExitCode {
    /// It completed, and nothing failed.
    Done = 0,
    /// It completed, and some entries failed, or a file system is still too full.
    SomeFailed = 1,
    /// Usage, settings or data root are wrong; nothing was done.
    Usage = 2,
    /// It was stopped before its end.
    Stopped = 3,
    /// A lock backend could not be used, or another sweeper is at work: a zone was left alone.
    NoLock = 4,
}

impl ExitCode {
    /// The number.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// What a pass amounts to.
    pub fn of(summary: &Summary) -> Self {
        let mut code = Self::Done;
        if summary.zones.iter().any(|zone| zone.tally.failed > 0) {
            code = code.max(Self::SomeFailed);
        }
        if summary.relief.iter().any(Relief::is_unrelieved) {
            code = code.max(Self::SomeFailed);
        }
        if summary.stopped.is_some() {
            code = code.max(Self::Stopped);
        }
        if summary.zones.iter().any(|zone| zone.no_lock.is_some()) {
            code = code.max(Self::NoLock);
        }
        code
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.number())
    }
}
