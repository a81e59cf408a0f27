//! Renames into and out of a private directory.
//!
//! It must not replace anything.

use std::ffi::CStr;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, RenameFlags, linkat, renameat, renameat_with};
use rustix::io::Errno;

use super::super::unlink::remove_file;
use crate::fs::stat;

/// A rename that replaces nothing. Where the file system does not support that (NFS), a file gets its new name
/// as a second one, which never replaces anything; for a directory, which can only replace an empty one, the
/// target is looked at first.
pub(super) fn rename_new(
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
pub(super) fn look_up(dir: impl AsFd, name: &CStr) {
    let _ = renameat_with(&dir, name, &dir, name, RenameFlags::NOREPLACE);
}
