//! The relief of a file system that is too full: how full it may be, and what the relief achieved.
//!
//! This module must not ask the system itself.

use std::fmt::Debug;
use std::io;
use std::path::PathBuf;

use super::{Directory, Skipped};
use crate::rules::pressure::Arrival;
use crate::rules::{Amount, Bytes, KeptReason, MinAge, Pressure, Space, ZoneName};

/// A file system that is to be relieved.
pub trait Volume: Sync + Debug {
    /// How full it is now.
    ///
    /// # Errors
    /// What the system says.
    fn space(&self) -> io::Result<Space>;

    /// How full it is when the space of the removed entries, `freed`, has appeared according to `arrival`; or how
    /// full it is when that takes too long.
    ///
    /// # Errors
    /// What the system says.
    fn space_after(&self, freed: Amount, arrival: &dyn Fn(&Space) -> Arrival) -> io::Result<Space>;

    /// How full it really is, if [`Self::space_after`] is a forecast.
    fn now(&self) -> Option<Space> {
        None
    }

    /// Whether a directory is on it.
    fn holds(&self, directory: &Directory) -> bool;

    /// Whether it is a directory with a quota of its own, and not a whole file system.
    fn is_quota(&self) -> bool {
        false
    }
}

/// The relief of one file system.
#[derive(Debug, Clone)]
pub struct Relief {
    /// A directory on it.
    pub path: PathBuf,
    /// Whether it is that directory alone, which has a quota of its own.
    pub is_quota: bool,
    /// When it is to be relieved, and how far.
    pub pressure: Pressure,
    /// No entry went that was not older.
    pub min_age: MinAge,
    /// How full it was before the ordinary pass, if that has removed nothing and `before` is a forecast.
    pub now: Option<Space>,
    /// How full it was after the ordinary pass; `None` if that is not known.
    pub before: Option<Space>,
    /// How full it was at the end.
    pub after: Option<Space>,
    /// How many entries went before they expired.
    pub removed: u64,
    /// What their removal freed, by their sizes.
    pub freed: Bytes,
    /// How it ended.
    pub end: ReliefEnd,
}

/// How a relief ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReliefEnd {
    /// It was not above the mark.
    NotNeeded,
    /// The low mark is met.
    Relieved,
    /// Everything that may be removed is gone, and this is in the way.
    NothingLeft(InTheWay),
    /// The space of the removed entries did not become free in time. This much is missing.
    NotFreed(Amount),
    /// More is to be kept free than there can be.
    TooMuch(Bytes),
    /// The pass was stopped.
    Stopped,
    /// The system does not say how full it is.
    Unknown(String),
}

impl ReliefEnd {
    /// The name of the end in reports.
    pub const fn key(&self) -> &'static str {
        match self {
            Self::NotNeeded => "not_needed",
            Self::Relieved => "relieved",
            Self::NothingLeft(_) => "nothing_left",
            Self::NotFreed(_) => "not_freed",
            Self::TooMuch(_) => "too_much",
            Self::Stopped => "stopped",
            Self::Unknown(_) => "unknown",
        }
    }
}

impl Relief {
    /// One that has ended like this before it was known how full the file system is.
    pub const fn new(
        path: PathBuf,
        is_quota: bool,
        pressure: Pressure,
        min_age: MinAge,
        end: ReliefEnd,
    ) -> Self {
        let (now, before, after, removed, freed) = (None, None, None, 0, Bytes(0));
        Self { path, is_quota, pressure, min_age, now, before, after, removed, freed, end }
    }

    /// Nothing was removed: the pass ended before it began.
    pub fn withhold(&mut self) {
        let now = self.now.take();
        // Without the removals before it, it may be needed all the same.
        if self.end != ReliefEnd::NotNeeded
            || now.is_some_and(|now| self.pressure.is_exceeded_by(&now))
        {
            self.end = ReliefEnd::Stopped;
        }
        self.before = now.or(self.before);
        (self.after, self.removed, self.freed) = (self.before, 0, Bytes(0));
    }

    /// Whether it was needed, and did not reach the low mark.
    pub const fn is_unrelieved(&self) -> bool {
        !matches!(self.end, ReliefEnd::NotNeeded | ReliefEnd::Relieved)
    }
}

/// What stayed although more space is needed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InTheWay {
    /// Entries that were used too recently.
    pub young: u64,
    /// Entries that have expired, and that the pass could not remove.
    pub left: u64,
    /// Files that have another name, so that nothing is free when this one is gone.
    pub linked: u64,
    /// Entries that the rules or the user keep, in the order of [`KeptReason::ALL`].
    pub kept_by: [u64; KeptReason::ALL.len()],
    /// Entries that could go and that something prevents right now, in the order of [`Skipped::ALL`].
    pub skipped_by: [u64; Skipped::ALL.len()],
    /// Entries that could not be removed.
    pub failed: u64,
    /// Zones that were left alone, each with the reason.
    pub zones: Vec<(ZoneName, String)>,
}

impl InTheWay {
    /// Adds other counts.
    pub fn add(&mut self, other: Self) {
        self.young += other.young;
        self.left += other.left;
        self.linked += other.linked;
        self.failed += other.failed;
        for (sum, part) in self.kept_by.iter_mut().zip(other.kept_by) {
            *sum += part;
        }
        for (sum, part) in self.skipped_by.iter_mut().zip(other.skipped_by) {
            *sum += part;
        }
        self.zones.extend(other.zones);
    }
}
