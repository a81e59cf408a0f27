//! Whether a directory or a name that the system cannot reach was removed.
//!
//! This module must not take a server's word for it: one that does not know a handle any more (`ESTALE`) may still have
//! the directory. What is not known to be removed is a failure, so that the tree stays.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use super::super::stat;
use super::parts::WalkContext;

/// Whether `error`, which an open directory gave, comes from its removal. `entry` is its own entry, if the
/// directory above it is open.
pub(super) fn is_removed<C>(
    tree: &WalkContext<'_, C>,
    dir: impl AsFd,
    entry: Option<(BorrowedFd<'_>, &CStr)>,
    error: Errno,
) -> bool {
    match error {
        // The kernel itself says so, without asking a server.
        Errno::NOENT if !tree.file_system.is_served() => true,
        Errno::NOENT | Errno::STALE => {
            stat::handle(&dir, tree.mount).is_ok_and(|found| found.links == 0)
                || entry.is_some_and(|(above, name)| has_no_name(above, name, error))
        }
        _ => false,
    }
}

/// Whether `error`, which a name gave, means that there is none any more.
pub(super) fn has_no_name(dir: impl AsFd, name: &CStr, error: Errno) -> bool {
    match error {
        Errno::NOENT => true,
        Errno::STALE => !stat::exists(dir, name),
        _ => false,
    }
}
