//! Which time of an entry is its last use.
//!
//! This module must not decide whether an entry has expired.

use crate::rules::age::{Moment, Ttl};
use crate::rules::metadata::{FileKind, Metadata};

/// How far ahead of the present a time may lie and still count. Clocks differ, but not by more than this: such
/// a time was set by hand, or by a machine with a wrong clock, and would protect an entry for years.
pub const MOST_AHEAD: Ttl = Ttl::from_secs(86_400);

/// Which time of an entry counts as its last use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastUse {
    /// The mtime; of a directory, the newest mtime in it.
    Mtime,
    /// The newest access: atimes of files and mtimes of directories, whose atimes any listing moves.
    Atime,
    /// The newest of both: atime and mtime of files, mtime of directories.
    Tree,
    /// The entry's own atime, whatever is in it.
    Entry,
}

impl LastUse {
    /// The last use as far as `metadata` says at `now`. For a directory that was not walked this is a lower
    /// bound: its content can only be newer.
    ///
    /// A time that lies too far in the future ([`MOST_AHEAD`]) does not count. If all times that it looks at lie too
    /// far in the future, the newest of the entry's other times decides. The ctime cannot be set by hand: if it lies
    /// ahead too, the clocks differ, and every time counts.
    #[inline]
    pub fn read(self, metadata: &Metadata, now: Moment) -> Moment {
        let [one, other] = self.times(metadata);
        let own = if self.may_ignore_a_time(metadata, now) {
            let Metadata { atime, mtime, ctime, .. } = *metadata;
            let latest = latest_that_counts(metadata, now);
            let newest =
                |times: &[Moment]| times.iter().copied().filter(|time| *time <= latest).max();
            newest(&[one, other]).or_else(|| newest(&[atime, mtime, ctime])).unwrap_or(mtime)
        } else {
            one.max(other)
        };
        match metadata.newest_inside {
            Some(inside) if self != Self::Entry => own.max(inside),
            _ => own,
        }
    }

    /// Whether a time that it looks at lies so far in the future that it does not count.
    pub fn ignores_a_time(self, metadata: &Metadata, now: Moment) -> bool {
        self.may_ignore_a_time(metadata, now) && {
            let latest = latest_that_counts(metadata, now);
            self.times(metadata).iter().any(|time| *time > latest)
        }
    }

    /// Whether it has to be found out which times count. For nearly every entry all do.
    fn may_ignore_a_time(self, metadata: &Metadata, now: Moment) -> bool {
        let [one, other] = self.times(metadata);
        one.max(other) > now.plus(MOST_AHEAD)
    }

    /// The times that it looks at.
    fn times(self, metadata: &Metadata) -> [Moment; 2] {
        let Metadata { atime, mtime, .. } = *metadata;
        let is_dir = metadata.kind == FileKind::Dir;
        match self {
            Self::Entry => [atime; 2],
            Self::Atime if !is_dir => [atime; 2],
            Self::Tree if !is_dir => [atime, mtime],
            Self::Mtime | Self::Atime | Self::Tree => [mtime; 2],
        }
    }

    /// Whether an atime decides.
    pub const fn needs_atime(self) -> bool {
        matches!(self, Self::Atime | Self::Tree | Self::Entry)
    }
}

/// The latest time that counts.
fn latest_that_counts(metadata: &Metadata, now: Moment) -> Moment {
    let latest = now.plus(MOST_AHEAD);
    if metadata.ctime > latest {
        metadata.ctime.max(metadata.atime).max(metadata.mtime)
    } else {
        latest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{Bytes, FileId};

    #[test]
    fn each_way_to_read_the_last_use_takes_its_own_times() {
        let moment = |secs| Moment::from_unix(secs, 0);
        let mut metadata = Metadata {
            kind: FileKind::File,
            id: FileId { dev: 1, ino: 2 },
            is_mount_point: false,
            atime: moment(30),
            mtime: moment(20),
            ctime: moment(40),
            links: 1,
            size: Bytes(0),
            allocated: Bytes(0),
            newest_inside: None,
        };
        let read = |metadata: &Metadata| {
            [LastUse::Mtime, LastUse::Atime, LastUse::Tree, LastUse::Entry]
                .map(|which| which.read(metadata, moment(60)).unix_secs())
        };
        assert_eq!(read(&metadata), [20, 30, 30, 30]);
        metadata.mtime = moment(35);
        assert_eq!(read(&metadata), [35, 30, 35, 30]);
        metadata.kind = FileKind::Dir;
        assert_eq!(read(&metadata), [35, 35, 35, 30], "listing a directory moves its atime");
        metadata.newest_inside = Some(moment(50));
        assert_eq!(read(&metadata), [50, 50, 50, 30]);
        // A time that is more than a day ahead does not count: another one of the entry does.
        metadata.newest_inside = None;
        metadata.kind = FileKind::File;
        metadata.mtime = moment(60 + 86_400);
        assert_eq!(read(&metadata), [86_460, 30, 86_460, 30]);
        metadata.mtime = moment(60 + 86_401);
        assert_eq!(read(&metadata), [40, 30, 30, 30], "ctime, atime, atime, atime");
        metadata.atime = moment(i64::MAX);
        assert_eq!(read(&metadata), [40, 40, 40, 40], "nothing is left but the ctime");
        let ignores = |which: LastUse| which.ignores_a_time(&metadata, moment(60));
        assert!(ignores(LastUse::Mtime) && ignores(LastUse::Entry));
        // Only the system sets a ctime: if that is ahead too, the clocks differ, and all times count.
        metadata.atime = moment(30);
        metadata.ctime = moment(86_461);
        assert_eq!(read(&metadata), [86_461, 30, 86_461, 30]);
        assert!(!LastUse::Mtime.ignores_a_time(&metadata, moment(60)));
    }
}
