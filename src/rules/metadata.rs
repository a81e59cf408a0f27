//! What is known about a path at one moment: plain data.
//!
//! This module must not look at the file system; `fs` fills it in.

use std::iter::Sum;
use std::ops::{Add, AddAssign};

use super::age::Moment;

/// The type of a file, without following links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link, whatever it points at.
    Symlink,
    /// A FIFO, a socket, a device, or a type that this program does not know.
    Special,
}

impl FileKind {
    /// Its name in plans and in the audit log.
    pub const fn key(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Dir => "directory",
            Self::Symlink => "link",
            Self::Special => "special",
        }
    }
}

/// Who keeps the files of a file system. It decides what this kernel knows about them by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FileSystem {
    /// This kernel: what it says is true at that moment, for every process.
    #[default]
    Local,
    /// An NFS server.
    Nfs,
    /// An SMB server.
    Smb,
    /// A process of this machine, which may ask a server in turn.
    Fuse,
    /// Another kind of server.
    Other,
}

impl FileSystem {
    /// Whether others than this kernel can change files, so that it may be wrong about them.
    pub const fn is_served(self) -> bool {
        !matches!(self, Self::Local)
    }
}

/// The identity of a file, independent of its name: device and inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    /// Device number, major in the upper half.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
}

/// What one `statx` says about a path, reduced to what the rules and the report need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// The type of the file.
    pub kind: FileKind,
    /// The identity of the file.
    pub id: FileId,
    /// Whether this is a mount point, bind mounts included.
    pub is_mount_point: bool,
    /// The last read, as far as the mount records it.
    pub atime: Moment,
    /// The last write. For a directory: the last time a name in it was added or removed.
    pub mtime: Moment,
    /// The last change of any metadata. A rename moves it, and neither of the two above.
    pub ctime: Moment,
    /// The number of names (hard links).
    pub links: u64,
    /// The length of a file.
    pub size: Bytes,
    /// Allocated space, which can be less or more than the length.
    pub allocated: Bytes,
    /// For a directory that was walked: the newest last use of anything in it.
    pub newest_inside: Option<Moment>,
}

impl Metadata {
    /// Whether it is a file with other names (hard links): its space stays in use, and its ctime moves, when one of
    /// them is removed. The link count of a directory counts its subdirectories.
    pub fn has_other_names(&self) -> bool {
        self.kind != FileKind::Dir && self.links > 1
    }
}

/// An amount of disk space in bytes.
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
