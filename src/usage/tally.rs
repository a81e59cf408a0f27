//! What one worker has counted, and the sum over all of them.
//!
//! It must not decide where something counts: the visitor does.

use std::collections::HashMap;
use std::path::PathBuf;

use super::links::LinkedFile;
use super::model::{AGE_RANGES, ByAge, Forecast, LISTED_MOUNTS};
use crate::fs::PathError;
use crate::protocol::{LISTED_FAILURES, ListedFailure};
use crate::rules::{Bytes, Label, Owner};

/// The counts of an area.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AreaTally {
    pub(super) entries: u64,
    pub(super) inodes: u64,
    pub(super) allocated: Bytes,
    pub(super) expired: Bytes,
    pub(super) forecast: Forecast,
    pub(super) by_age: ByAge,
}

/// The counts of exports of one kind.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct KindTally {
    pub(super) files: u64,
    pub(super) allocated: Bytes,
    pub(super) by_age: ByAge,
}

/// A kind of what exports belong to, and what they hold.
pub(super) type Kind = (Option<&'static str>, Option<&'static str>);

/// Everything that is counted. Its size depends on the number of areas and of owners, not of files.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) areas: Vec<AreaTally>,
    pub(super) kinds: HashMap<Kind, KindTally>,
    pub(super) owners: HashMap<Owner, (u64, Bytes)>,
    pub(super) failed: u64,
    pub(super) failures: Vec<ListedFailure>,
    pub(super) mount_points: u64,
    pub(super) mounts: Vec<PathBuf>,
    /// A directory was read whose atime may have moved.
    pub(super) moves_atime: bool,
}

impl Tally {
    pub(super) fn new(areas: usize) -> Self {
        Self { areas: vec![AreaTally::default(); areas], ..Self::default() }
    }

    /// Counts an inode in an area.
    pub(super) fn inode(&mut self, area: usize, allocated: Bytes) {
        let area = &mut self.areas[area];
        area.inodes += 1;
        area.allocated += allocated;
    }

    /// Counts files of exports.
    pub(super) fn label(&mut self, label: &Label, files: u64, allocated: Bytes, range: usize) {
        let kind = (label.owner.map(|owner| owner.kind), label.content);
        let kind = self.kinds.entry(kind).or_default();
        kind.files += files;
        kind.allocated += allocated;
        kind.by_age[range] += allocated;
        if let Some(owner) = label.owner {
            let owner = self.owners.entry(owner).or_default();
            owner.0 += files;
            owner.1 += allocated;
        }
    }

    /// Counts a file with several names.
    pub(super) fn linked(&mut self, file: &LinkedFile) {
        self.inode(file.area, file.allocated);
        let area = &mut self.areas[file.area];
        area.by_age[file.age_range] += file.allocated;
        if file.is_expired() {
            area.expired += file.allocated;
        }
        if let Some(label) = &file.label {
            self.label(label, 1, file.allocated, file.age_range);
        }
    }

    /// Counts what could not be looked at.
    pub(super) fn failure(&mut self, error: PathError) {
        self.failed += 1;
        if self.failures.len() < LISTED_FAILURES {
            let PathError { action, path, error, hint } = error;
            let message = match hint {
                Some(hint) => format!("{error}; {hint}"),
                None => error.to_string(),
            };
            let errno = error.raw_os_error();
            self.failures.push(ListedFailure { path, action, errno, message });
        }
    }

    /// Counts a mount point.
    pub(super) fn mount_point(&mut self, path: impl FnOnce() -> PathBuf) {
        self.mount_points += 1;
        if self.mounts.len() < LISTED_MOUNTS {
            self.mounts.push(path());
        }
    }

    /// Adds the counts of another worker.
    pub(super) fn add(&mut self, other: Self) {
        for (sum, part) in self.areas.iter_mut().zip(other.areas) {
            sum.entries += part.entries;
            sum.inodes += part.inodes;
            sum.allocated += part.allocated;
            sum.expired += part.expired;
            add_each(&mut sum.forecast, part.forecast);
            add_each(&mut sum.by_age, part.by_age);
        }
        for (kind, part) in other.kinds {
            let sum = self.kinds.entry(kind).or_default();
            sum.files += part.files;
            sum.allocated += part.allocated;
            add_each(&mut sum.by_age, part.by_age);
        }
        for (owner, (files, allocated)) in other.owners {
            let sum = self.owners.entry(owner).or_default();
            sum.0 += files;
            sum.1 += allocated;
        }
        self.failed += other.failed;
        let room = LISTED_FAILURES.saturating_sub(self.failures.len());
        self.failures.extend(other.failures.into_iter().take(room));
        self.mount_points += other.mount_points;
        let room = LISTED_MOUNTS.saturating_sub(self.mounts.len());
        self.mounts.extend(other.mounts.into_iter().take(room));
        self.moves_atime |= other.moves_atime;
    }
}

/// Adds numbers one by one.
pub(super) fn add_each<const N: usize>(sums: &mut [Bytes; N], parts: [Bytes; N]) {
    for (sum, part) in sums.iter_mut().zip(parts) {
        *sum += part;
    }
}

/// Space by age, summed over areas.
pub(super) fn total_by_age<'a>(parts: impl Iterator<Item = &'a ByAge>) -> ByAge {
    let mut sum = [Bytes(0); AGE_RANGES];
    parts.for_each(|part| add_each(&mut sum, *part));
    sum
}
