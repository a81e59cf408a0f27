//! Whether a directory has a quota of its own, and in which others its files count.
//!
//! This module must not assume that a quota can be asked for: it compares how full the system says that directories
//! are. A file counts in the quota of one project only, and in the whole file system.

use std::io;
use std::os::fd::OwnedFd;

use crate::fs::{file_system, open, stat};
use crate::rules::Space;

/// What a directory is to another one on the same file system. Where a quota for a project is set on a directory,
/// the system says how full that is, in place of the whole file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    /// Both are as full.
    Same,
    /// It has a quota of its own, and is so full.
    Quota(Space),
    /// The other one has a quota of its own, in which this one does not count.
    Outside,
}

/// `whole` is as full as that was before and after: on some file systems sizes change while others write, and so
/// does the number of inodes.
pub(super) fn relation(whole: &[Space], here: Space) -> Relation {
    let are_all = |is: &dyn Fn(&Space) -> bool| whole.iter().all(is);
    let limit = |space: &Space| if space.inodes == 0 { u64::MAX } else { space.inodes };
    if are_all(&|whole| here.bytes < whole.bytes || limit(&here) < limit(whole)) {
        Relation::Quota(here)
    } else if are_all(&|whole| here.bytes > whole.bytes || limit(&here) > limit(whole)) {
        Relation::Outside
    } else {
        Relation::Same
    }
}

impl Relation {
    /// Whether its files count in the other directory, which may have a quota and may contain it.
    pub(super) const fn counts(self, other_has_quota: bool, is_inside: bool) -> bool {
        match self {
            Self::Same => !other_has_quota || is_inside,
            Self::Quota(_) => !other_has_quota,
            Self::Outside => false,
        }
    }
}

/// What a directory is to another one on the same file system. Where the system does not say, they are the same.
pub(super) fn relation_of(whole: &OwnedFd, directory: &OwnedFd) -> Relation {
    let ask =
        || -> io::Result<_> { Ok((Space::at(whole)?, Space::at(directory)?, Space::at(whole)?)) };
    ask().map_or(Relation::Same, |(before, here, after)| relation(&[before, after], here))
}

/// Whether a directory has a quota: one above it on the same file system has more space. Where none can be asked, as
/// in a container, it is enough that the directory is of a project.
pub(super) fn has_quota(directory: &OwnedFd) -> bool {
    let above = above(directory);
    let is_less = |above| matches!(relation_of(above, directory), Relation::Quota(_));
    above.iter().any(is_less) || (above.is_empty() && file_system::is_of_project(directory))
}

/// The directories above an open one on the same file system, the nearest first.
fn above(directory: &OwnedFd) -> Vec<OwnedFd> {
    let mut found: Vec<OwnedFd> = Vec::new();
    let id = |handle: &OwnedFd| stat::id_and_mount(handle).ok().map(|(id, _)| id);
    let Some(mut last) = id(directory) else { return found };
    while let Ok(parent) = open::parent(found.last().unwrap_or(directory))
        && let Some(id) = id(&parent)
        && id.dev == last.dev
        && id != last
    {
        last = id;
        found.push(parent);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::space::tests::space;

    /// As `statvfs` answers for a directory of a project with a quota (xfs, ext4), and for the root above it.
    #[test]
    fn a_directory_with_less_space_than_its_file_system_has_a_quota() {
        let space = |bytes, bytes_used| Space {
            bytes,
            bytes_used,
            bytes_available: bytes - bytes_used,
            inodes: 100,
            inodes_used: 1,
        };
        let (whole, part) = (space(1 << 30, 1 << 20), space(40 << 20, 39 << 20));
        assert_eq!(relation(&[whole; 2], part), Relation::Quota(part));
        assert_eq!(relation(&[part; 2], whole), Relation::Outside);
        // Something was written between the answers.
        assert_eq!(relation(&[whole; 2], space(1 << 30, 2 << 20)), Relation::Same);
        assert_eq!(relation(&[whole, space(1 << 20, 0)], space(1 << 21, 0)), Relation::Same);
    }

    /// The same for a limit of inodes alone, and on a file system whose number of inodes shrinks as others write.
    #[test]
    fn a_directory_with_fewer_inodes_than_its_file_system_has_a_quota() {
        let space = |inodes| Space {
            bytes: 1 << 30,
            bytes_used: 0,
            bytes_available: 1 << 30,
            inodes,
            inodes_used: 9,
        };
        let quota = Relation::Quota(space(10));
        for (before, after, here, expected) in [
            (100, 100, 10, quota),
            (0, 0, 10, quota),
            (100, 80, 90, Relation::Same),
            (10, 10, 100, Relation::Outside),
            (10, 10, 0, Relation::Outside),
            (0, 0, 0, Relation::Same),
        ] {
            let found = relation(&[space(before), space(after)], space(here));
            assert_eq!(found, expected, "{before} {after} {here}");
        }
    }

    /// With quotas for two projects a file counts in that of its own, and not in that of a directory above.
    #[test]
    fn a_zone_with_a_quota_counts_in_a_whole_file_system_and_not_in_another_quota() {
        let quota = Relation::Quota(space(20 << 20, 20 << 20));
        for (relation, other_has_quota, is_inside, expected) in [
            (quota, false, true, true),
            (quota, true, true, false),
            (quota, true, false, false),
            (Relation::Same, false, false, true),
            (Relation::Same, true, true, true),
            // Another quota that looks equal.
            (Relation::Same, true, false, false),
            (Relation::Outside, false, true, false),
            (Relation::Outside, true, true, false),
        ] {
            let found = relation.counts(other_has_quota, is_inside);
            assert_eq!(found, expected, "{relation:?} {other_has_quota} {is_inside}");
        }
    }

    #[test]
    fn directories_above_one_are_looked_at_as_far_as_its_file_system_goes() {
        let temporary = tempfile::tempdir_in("/dev/shm").unwrap();
        let below = temporary.path().join("a/b");
        std::fs::create_dir_all(&below).unwrap();
        let below = std::fs::File::open(below).unwrap().into();
        // `a`, the temporary directory and the mount.
        assert_eq!(above(&below).len(), 3);
        assert!(!has_quota(&below));
    }
}
