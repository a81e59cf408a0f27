//! What was seen of one path at one moment: plain data.
//!
//! It must not look at anything itself; `disk` fills it in.

use std::ffi::CStr;
use std::iter::Sum;
use std::ops::{Add, AddAssign};
use std::path::Path;

use super::age::Moment;

/// A root with one rule set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Zone {
    /// `cache/export/*`: finished exports, judged by name and mtime.
    Export,
    /// `tmp/*`: whatever was left there, judged by last use.
    Tmp,
    /// `{projects,tasks,jobs}/*/tmp/*`: the same, per instance.
    InstanceTmp,
    /// The export caches of CVAT before 2.26, one directory per instance.
    Legacy,
}

impl Zone {
    /// Every zone, in the order a pass takes them.
    pub const ALL: [Self; 4] = [Self::Export, Self::Tmp, Self::InstanceTmp, Self::Legacy];

    /// The name people and scripts use for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Export => "export",
            Self::Tmp => "tmp",
            Self::InstanceTmp => "instance-tmp",
            Self::Legacy => "legacy",
        }
    }
}

/// What kind of thing a path names, links not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link, whatever it points at.
    Symlink,
    /// A FIFO, a socket, a device, or a kind this program does not know.
    Special,
}

/// Which file it is, whatever its name: device and inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Device number, major in the upper half.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
}

/// What one `statx` told, reduced to what the rules and the report need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// What kind of thing it is.
    pub kind: Kind,
    /// Which file it is.
    pub id: FileId,
    /// Whether another file system, or another part of this one, is mounted here.
    pub mounted: bool,
    /// Last read, as far as the mount records it.
    pub atime: Moment,
    /// Last written; for a directory, last time a name in it came or went.
    pub mtime: Moment,
    /// Last change of anything about it, its name included: moving a file does not touch the two above.
    pub ctime: Moment,
    /// Names that this inode has.
    pub links: u64,
    /// What it occupies on the disk: allocated blocks, not its length.
    pub allocated: Bytes,
    /// For a directory that was walked: the newest use of anything in it.
    pub newest_inside: Option<Moment>,
}

/// A path seen in a place of type `P`, which the core never looks into.
#[derive(Debug, Clone, Copy)]
pub struct Sighting<'a, P> {
    /// The zone whose rule applies.
    pub zone: Zone,
    /// The directory it was seen in, as the edges know it.
    pub place: &'a P,
    /// The same directory, relative to the volume.
    pub dir: &'a Path,
    /// Its name in there: any bytes.
    pub name: &'a CStr,
    /// What was seen.
    pub facts: Facts,
}

/// A number of bytes on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Bytes(pub u64);

impl Add for Bytes {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Bytes {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), Add::add)
    }
}
