//! What one worker has counted, and the sum over all of them.
//!
//! This module must not decide where something counts: the visitor does.

use std::collections::HashMap;
use std::path::PathBuf;

use super::links::LinkedFile;
use super::model::{AGE_RANGES, ByAge, Forecast, LISTED_MOUNTS};
use super::uploads::{Part, Remains};
use crate::fs::PathError;
use crate::protocol::{LISTED_FAILURES, ListedFailure};
use crate::rules::{Bytes, Label, Owner};
use crate::units;

/// How many owners are remembered at most.
const MOST_OWNERS: usize = 25_000;

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
#[expect(clippy::struct_excessive_bools, reason = "each becomes a note of its own")]
pub(super) struct Tally {
    pub(super) areas: Vec<AreaTally>,
    pub(super) kinds: HashMap<Kind, KindTally>,
    pub(super) owners: HashMap<Owner, (u64, Bytes)>,
    /// Some owners were forgotten.
    pub(super) has_more_owners: bool,
    /// What is left of uploads, by area.
    pub(super) given_up: Vec<(usize, Remains, Part)>,
    /// There are more of them than were counted.
    pub(super) has_more_uploads: bool,
    /// There are more files with several names than are remembered.
    pub(super) has_more_links: bool,
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
            self.owner(owner, files, allocated);
        }
    }

    /// Counts files of one owner. When there are too many owners, the half with the least space is forgotten.
    fn owner(&mut self, owner: Owner, files: u64, allocated: Bytes) {
        let sum = self.owners.entry(owner).or_default();
        sum.0 += files;
        sum.1 += allocated;
        if self.owners.len() <= MOST_OWNERS {
            return;
        }
        self.has_more_owners = true;
        let mut sizes: Vec<Bytes> = self.owners.values().map(|(_, size)| *size).collect();
        let (_, median, _) = sizes.select_nth_unstable(MOST_OWNERS / 2);
        let (median, mut equal) = (*median, MOST_OWNERS / 2);
        equal -= self.owners.values().filter(|(_, size)| *size > median).count().min(equal);
        self.owners.retain(|_, (_, size)| {
            let is_kept = *size > median || (*size == median && equal > 0);
            equal -= usize::from(is_kept && *size == median);
            is_kept
        });
    }

    /// Counts a file with several names.
    pub(super) fn linked(&mut self, file: &LinkedFile) {
        self.inode(file.area(), file.allocated);
        let area = &mut self.areas[file.area()];
        area.by_age[file.age_range()] += file.allocated;
        if file.is_expired() {
            area.expired += file.allocated;
        }
        if let Some(label) = &file.label {
            self.label(label, 1, file.allocated, file.age_range());
        }
    }

    /// Counts what could not be looked at.
    pub(super) fn failure(&mut self, error: PathError) {
        self.failed += 1;
        if self.failures.len() < LISTED_FAILURES {
            let PathError { action, path, error, hint } = error;
            let message = match hint {
                Some(hint) => format!("{}; {hint}", units::error(&error)),
                None => units::error(&error),
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
            self.owner(owner, files, allocated);
        }
        self.given_up.extend(other.given_up);
        self.has_more_uploads |= other.has_more_uploads;
        self.has_more_owners |= other.has_more_owners;
        self.has_more_links |= other.has_more_links;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_owners_are_remembered_however_many_there_are() {
        let mut tally = Tally::new(1);
        let most = MOST_OWNERS as u64;
        for id in 0..3 * most {
            // Half of them have the same size. The largest come in between.
            let size = if id % 1000 == 7 { 1 << 20 | id } else { 4096 * (id % 2) };
            tally.owner(Owner { kind: "task", id }, 1, Bytes(size));
            assert!(tally.owners.len() <= MOST_OWNERS);
        }
        let large = tally.owners.values().filter(|(_, size)| size.0 > 1 << 20).count() as u64;
        assert_eq!((large, tally.has_more_owners), (3 * most / 1000, true));
    }
}
