//! Renames into and out of a private directory.
//!
//! This module must not replace anything.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, RenameFlags, linkat, renameat, renameat_with};
use rustix::io::Errno;

use super::super::unlink::remove_file;
use crate::fs::stat;

/// Serializes the renames below: only this process gives names in its private directories.
static ENTERING: Mutex<()> = Mutex::new(());

/// A rename to a name in a private directory, where only this process gives names. It replaces nothing: where the
/// file system cannot promise that (NFS), the name is looked at first. There it takes along whatever has the old
/// name, as a rename does everywhere, so that the caller can see what has arrived. A second link would be one to
/// the file that this kernel knew by the name, and the removal of the old name could hit another file.
pub(super) fn rename_inside(
    from: impl AsFd,
    name: &CStr,
    to: impl AsFd,
    new: &CStr,
) -> rustix::io::Result<()> {
    match renameat_with(&from, name, &to, new, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => {
            let _alone = ENTERING.lock().unwrap_or_else(PoisonError::into_inner);
            if stat::type_at(&to, new).is_some() {
                return Err(Errno::EXIST);
            }
            renameat(&from, name, &to, new)
        }
        renamed => renamed,
    }
}

/// A rename from a private directory to a name that another process may take at any time. It replaces nothing.
/// Where the file system cannot promise that (NFS), a file gets its new name as a second one, which never
/// replaces anything; for a directory, which can only replace an empty one, the target is looked at first.
pub(super) fn rename_back(
    from: impl AsFd,
    name: &CStr,
    to: impl AsFd,
    new: &CStr,
) -> rustix::io::Result<()> {
    match renameat_with(&from, name, &to, new, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => {
            match linkat(&from, name, &to, new, AtFlags::empty()) {
                Ok(()) => return remove_file(from, name),
                Err(Errno::EXIST) => return Err(Errno::EXIST),
                // A directory, or a file system without such names.
                Err(_) => {}
            }
            if stat::exists(&to, new) {
                return Err(Errno::EXIST);
            }
            renameat(&from, name, &to, new)
        }
        renamed => renamed,
    }
}

/// Makes the kernel ask which file a name leads to. FUSE trusts for a while what it knows about names, and
/// believes after a rename that the file that it knew has the new name. A rename of a name onto itself that
/// must not replace anything never succeeds, and before that the kernel looks the target up.
pub(super) fn revalidate(dir: impl AsFd, name: &CStr) {
    let _ = renameat_with(&dir, name, &dir, name, RenameFlags::NOREPLACE);
}
