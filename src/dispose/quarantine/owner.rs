//! Who owns a private directory.
//!
//! This module must not open or change anything.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, statx};

use crate::fs::file_system;

/// The type, owner and rights of a name in a directory.
pub(super) fn at(dir: impl AsFd, name: &CStr) -> rustix::io::Result<Statx> {
    look(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// Those of an open directory.
pub(super) fn of(top: impl AsFd) -> rustix::io::Result<Statx> {
    look(top, c"", AtFlags::EMPTY_PATH)
}

/// As they are now, wherever the file is kept.
fn look(dir: impl AsFd, name: &CStr, flags: AtFlags) -> rustix::io::Result<Statx> {
    let wanted = StatxFlags::TYPE | StatxFlags::MODE | StatxFlags::UID;
    statx(dir, name, flags | AtFlags::STATX_FORCE_SYNC, wanted)
}

/// Why this cannot be a private directory of this user, if so. A server, or a file system without owners such as FAT,
/// may give all files to one user, so that a private directory is not mode 0700 and ours there; but all of ours look
/// the same, as `like` does.
pub(super) fn foreign(found: &Statx, like: Option<&Statx>) -> Option<String> {
    let is_dir = |mode: u16| FileType::from_raw_mode(mode.into()) == FileType::Directory;
    if !is_dir(found.stx_mode) {
        return Some("it is not a directory".to_owned());
    }
    let (uid, mode) = match like {
        Some(like) => (like.stx_uid, like.stx_mode),
        None => (rustix::process::geteuid().as_raw(), 0o700),
    };
    if found.stx_uid != uid {
        let uid = found.stx_uid;
        return Some(format!("it belongs to uid {uid}; run sweeper as that user"));
    }
    let is_private = found.stx_mode & 0o777 == mode & 0o777;
    (!is_private).then(|| "other users may enter it".to_owned())
}

/// Whether a directory that was just made is really one of this user, which no other may enter.
pub(super) fn is_private(top: &OwnedFd) -> rustix::io::Result<bool> {
    // What others say about owners cannot be compared.
    Ok(!file_system::has_owners(top) || foreign(&of(top)?, None).is_none())
}
