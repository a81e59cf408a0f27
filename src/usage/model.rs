//! What takes up space in a data root, as plain data.
//!
//! This module must not look at files: [`super::measure`] fills it in, and `report` prints it.

use std::path::PathBuf;

use super::uploads::Remains;
use crate::fs::Space;
use crate::protocol::{ListedFailure, StopReason};
use crate::rules::{Age, Bytes, Moment, Owner};

/// The ages by which space is counted: each one is the upper end of a range that begins at the one before.
/// The last range has no end.
pub const AGES_S: [i64; 9] = [
    3600,
    6 * 3600,
    86_400,
    3 * 86_400,
    7 * 86_400,
    14 * 86_400,
    30 * 86_400,
    90 * 86_400,
    365 * 86_400,
];

/// How many ranges of ages there are.
pub const AGE_RANGES: usize = AGES_S.len() + 1;

/// How far the forecast looks ahead, in seconds.
pub const HORIZONS_S: [u64; 7] =
    [3600, 6 * 3600, 86_400, 3 * 86_400, 7 * 86_400, 14 * 86_400, 30 * 86_400];

/// How many owners of each kind are listed.
pub const LISTED_OWNERS: usize = 10;

/// How many mount points are listed; all are counted.
pub const LISTED_MOUNTS: usize = 10;

/// Space by age, in the ranges of [`AGES_S`].
pub type ByAge = [Bytes; AGE_RANGES];

/// What expires within each of [`HORIZONS_S`]. What has expired already does not count.
pub type Forecast = [Bytes; HORIZONS_S.len()];

/// The range of ages that `age` is in. A time in the future counts as new.
pub fn age_range(age: Age) -> usize {
    AGES_S.iter().position(|end| age.as_secs() < *end).unwrap_or(AGES_S.len())
}

/// What takes up space in a data root.
#[derive(Debug)]
pub struct Usage {
    /// The data root.
    pub data_root: PathBuf,
    /// The moment at which everything was judged.
    pub now: Moment,
    /// How full its file system is, if that is known.
    pub space: Option<Space>,
    /// Its zones and other areas. The last one is everything else.
    pub areas: Vec<AreaUsage>,
    /// All that is below the data root, itself included.
    pub totals: Totals,
    /// What expires in the zones that `sweeper run` sweeps.
    pub forecast: Forecast,
    /// The space of everything below the data root by age.
    pub by_age: ByAge,
    /// What the names of exports say.
    pub kinds: Vec<KindUsage>,
    /// What has the most space in exports, some of each kind, the largest first.
    pub owners: Vec<OwnerUsage>,
    /// What the application can no longer reach.
    pub unreached: Vec<UnreachedUsage>,
    /// How many directories and files could not be looked at. Their content does not count.
    pub failed: u64,
    /// The first of them.
    pub failures: Vec<ListedFailure>,
    /// How many mount points were not entered.
    pub mount_points: u64,
    /// The first of them.
    pub mounts: Vec<PathBuf>,
    /// What the user should know besides.
    pub notes: Vec<String>,
    /// Why it ended early, if it did.
    pub stopped: Option<StopReason>,
}

impl Usage {
    /// The note on more owners than are remembered.
    pub(super) const MORE_OWNERS: &str = "too many projects, tasks and jobs have exports to remember all of them: the sizes of those listed may be too low";

    /// The note on more uploads than are remembered.
    pub(super) const MORE_UPLOADS: &str = "not all uploads were examined, because there are too many: more may be stalled than are shown";

    /// The note on more files with several names than are remembered.
    pub(super) const MORE_LINKS: &str = "more than 100,000 files have several names (hard links): the space of those beyond 100,000 is an estimate";
}

/// Inodes and the space that they take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Files, directories and all else, each counted once.
    pub inodes: u64,
    /// Their allocated space.
    pub allocated: Bytes,
}

/// A zone, or another area of a data root.
#[derive(Debug)]
pub struct AreaUsage {
    /// Its name.
    pub name: String,
    /// What is in it, in a few words; empty for a zone.
    pub about: &'static str,
    /// Where it lies, as people see it. Stars and braces stand for several directories.
    pub path: PathBuf,
    /// Whether it lies outside the data root, so that it is no part of the totals.
    pub is_outside: bool,
    /// Entries of a zone; elsewhere all that is no directory.
    pub entries: u64,
    /// Its inodes and their space.
    pub totals: Totals,
    /// The space of what has expired, which its removal would free.
    pub expired: Bytes,
    /// What expires when.
    pub forecast: Forecast,
    /// Its space by age.
    pub by_age: ByAge,
    /// What removes its expired entries.
    pub removed_by: RemovedBy,
}

/// What removes the expired entries of an area.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemovedBy {
    /// Nothing: this program never touches it.
    Never,
    /// This command, because it sweeps all such zones.
    Run(String),
    /// This command, which asks for this zone.
    OnRequest(String),
}

impl RemovedBy {
    /// The command, if there is one.
    pub fn command(&self) -> Option<&str> {
        match self {
            Self::Never => None,
            Self::Run(command) | Self::OnRequest(command) => Some(command),
        }
    }
}

/// What one kind of export takes.
#[derive(Debug)]
pub struct KindUsage {
    /// The kind of what it belongs to, if that is known.
    pub owner: Option<&'static str>,
    /// What it holds, if that is known.
    pub content: Option<&'static str>,
    /// The number of files.
    pub files: u64,
    /// Their space.
    pub allocated: Bytes,
    /// The same by age.
    pub by_age: ByAge,
}

/// What the exports of one project, task or job take.
#[derive(Debug)]
pub struct OwnerUsage {
    /// The project, task or job.
    pub owner: Owner,
    /// The number of files.
    pub files: u64,
    /// Their space.
    pub allocated: Bytes,
}

/// Why the application reaches something no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreached {
    /// Only old versions of it use this zone.
    OutOfUse,
    /// It is left of uploads that were given up.
    Upload(Remains),
}

/// What the application can no longer reach in one area, for one reason.
#[derive(Debug)]
pub struct UnreachedUsage {
    /// Why.
    pub why: Unreached,
    /// The name of the area.
    pub area: String,
    /// Entries of a zone; elsewhere files.
    pub entries: u64,
    /// Their space.
    pub allocated: Bytes,
    /// The space of what has expired.
    pub expired: Bytes,
    /// What removes it when it has expired.
    pub removed_by: RemovedBy,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_in_the_range_that_ends_after_it() {
        let now = Moment::from_unix(1_000_000_000, 0);
        let range = |age: i64| age_range(Moment::from_unix(1_000_000_000 - age, 0).age_at(now));
        assert_eq!([range(-86_400), range(0), range(3599)], [0, 0, 0]);
        assert_eq!([range(3600), range(86_399), range(86_400)], [1, 2, 3]);
        assert_eq!([range(365 * 86_400 - 1), range(365 * 86_400)], [8, 9]);
        assert!(AGES_S.is_sorted() && HORIZONS_S.is_sorted());
    }
}
