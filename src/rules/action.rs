//! What was being done to a path when an error occurred.
//!
//! This module must not describe the error, which the system does.

use std::fmt;

/// An operation on a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// `open` of a file or a directory.
    Open,
    /// Reading the names in a directory.
    List,
    /// `statx`.
    Stat,
    /// Taking the lock.
    Lock,
    /// `unlink`.
    Unlink,
    /// `rmdir`.
    Rmdir,
    /// `rename`.
    Rename,
    /// Removing a tree, of which a part is gone.
    RemoveTree,
    /// Going back to the parent directory in a deep tree.
    OpenParent,
    /// Reading the list of paths (`--from0`).
    ReadList,
    /// Writing down what is removed (`--audit-log`).
    WriteAuditLog,
    /// Deleting through a server.
    Delete,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 12] = [
        Self::Open,
        Self::List,
        Self::Stat,
        Self::Lock,
        Self::Unlink,
        Self::Rmdir,
        Self::Rename,
        Self::RemoveTree,
        Self::OpenParent,
        Self::ReadList,
        Self::WriteAuditLog,
        Self::Delete,
    ];

    /// Its name in reports.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::List => "list",
            Self::Stat => "stat",
            Self::Lock => "lock",
            Self::Unlink => "unlink",
            Self::Rmdir => "rmdir",
            Self::Rename => "rename",
            Self::RemoveTree => "remove_tree",
            Self::OpenParent => "open_parent",
            Self::ReadList => "read_list",
            Self::WriteAuditLog => "write_audit_log",
            Self::Delete => "delete",
        }
    }

    /// Whether it changes something. A dry run does not try such an action, and foresees its failure.
    pub const fn changes(self) -> bool {
        match self {
            Self::Unlink
            | Self::Rmdir
            | Self::Rename
            | Self::RemoveTree
            | Self::WriteAuditLog
            | Self::Delete => true,
            Self::Open
            | Self::List
            | Self::Stat
            | Self::Lock
            | Self::OpenParent
            | Self::ReadList => false,
        }
    }

    /// The action with this name in reports.
    pub fn from_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.key() == key)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::RemoveTree => "remove all of",
            Self::OpenParent => "open the parent of",
            Self::ReadList => "use from the list",
            Self::WriteAuditLog => "write the audit log",
            Self::Open
            | Self::List
            | Self::Stat
            | Self::Lock
            | Self::Unlink
            | Self::Rmdir
            | Self::Rename
            | Self::Delete => self.key(),
        })
    }
}
