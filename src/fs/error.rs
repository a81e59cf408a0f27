//! An error at a path, and what the user can do about it.
//!
//! This module must not know which zone the path is in.

use std::ffi::CStr;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Mode, Statx, statx};
use rustix::io::Errno;

use super::rights::{DirRights, Obstacle, has_access_list, is_mounted_read_only};
use super::stat::WANTED;
use super::{file_system, open};
use crate::rules::{Action, FileSystem};

/// An operation on a path that failed.
#[derive(Debug)]
pub struct PathError {
    /// The operation.
    pub action: Action,
    /// The path, as people see it.
    pub path: PathBuf,
    /// What the system said.
    pub error: io::Error,
    /// What the user can do about it, where that is known.
    pub hint: Option<String>,
}

/// What to do on a mount that numbers owners anew.
const UNMAPPED: &str = "this mount does not map its owner, or the user that sweeper runs as: run \
                        sweeper where the file system is mounted without a mapping of owners";

/// The user whom the kernel shows for owners that have no number here.
const NOBODY: u32 = 65534;

/// What to do where no handle can be opened again.
const NO_PROC: &str = "other users may write to its directory, so it is opened through /proc, which \
                       is not mounted here: mount it";

/// Whether an error says that there is nothing any more: no such name, or a file that another machine has
/// removed from the server.
pub fn is_gone(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::STALE))
}

/// Whether an error says that a path leads nowhere.
pub fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// What the user can do about an error at `name` in `dir`, or at the directory itself.
pub fn hint(
    dir: impl AsFd,
    name: Option<&CStr>,
    action: Action,
    error: &io::Error,
) -> Option<String> {
    let errno = Errno::from_io_error(error)?;
    if errno == Errno::ROFS {
        let what = if is_mounted_read_only(dir) {
            "the file system is mounted read-only"
        } else {
            "it is in a read-only snapshot or subvolume"
        };
        return Some(what.to_owned());
    }
    if errno == Errno::OVERFLOW {
        return Some(UNMAPPED.to_owned());
    }
    if errno == Errno::OPNOTSUPP && action == Action::Open && !open::has_proc() {
        return Some(NO_PROC.to_owned());
    }
    if errno != Errno::ACCESS && errno != Errno::PERM {
        return None;
    }
    // An open needs rights on the object itself, a removal on its directory.
    let is_open = action == Action::Open && name.is_some();
    let reason = if is_open { None } else { reason(&dir, name) };
    let (owner, advice) = owner(&dir, name.filter(|_| is_open))?;
    Some(match reason.or(advice) {
        Some(more) => format!("{owner}; {more}"),
        None => owner,
    })
}

/// Who runs this, and whose the object is; and who could do it, if that is another user.
fn owner(dir: impl AsFd, name: Option<&CStr>) -> Option<(String, Option<String>)> {
    let (seen, whose) = match name {
        Some(name) => {
            let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
            (statx(&dir, name, flags, WANTED).ok()?, "it")
        }
        None => (statx(&dir, c"", AtFlags::EMPTY_PATH, WANTED).ok()?, "its directory"),
    };
    let us = rustix::process::geteuid().as_raw();
    let owner = format!(
        "sweeper runs as uid {us}; {whose} belongs to uid {} gid {} with mode {:04o}",
        seen.stx_uid,
        seen.stx_gid,
        seen.stx_mode & 0o7777
    );
    Some((owner, advice(us, &seen, dir)))
}

/// As whom this should run instead, if the mode is in the way.
fn advice(us: u32, seen: &Statx, dir: impl AsFd) -> Option<String> {
    let (uid, mode) = (seen.stx_uid, Mode::from_raw_mode(seen.stx_mode.into()));
    if us == 0 {
        let squash = "NFS servers usually map root to nobody (root_squash): run sweeper as uid";
        return (file_system::of(dir) == FileSystem::Nfs).then(|| format!("{squash} {uid}"));
    }
    // Where all may write, something else is in the way. Nobody owns what has no owner here.
    if us == uid || uid == NOBODY || mode.contains(Mode::WOTH) {
        return None;
    }
    let who = if uid == 0 { "root".to_owned() } else { format!("uid {uid}") };
    let in_group = mode.contains(Mode::WGRP).then(|| format!(" or in group {}", seen.stx_gid));
    Some(format!("run sweeper as {who}{}", in_group.unwrap_or_default()))
}

/// Why this name may not be removed from a directory, where owner and mode do not tell.
fn reason(dir: impl AsFd, name: Option<&CStr>) -> Option<String> {
    let obstacle = DirRights::of(&dir).obstacle(&dir, name?)?;
    Some(match obstacle {
        Obstacle::Directory(_) if has_access_list(dir) => {
            "the directory has an access control list: run getfacl to see it".to_owned()
        }
        Obstacle::Directory(_) => return None,
        Obstacle::ImmutableDirectory => {
            "the directory is immutable: chattr -i on it allows removals".to_owned()
        }
        Obstacle::AppendOnlyDirectory => {
            "the directory is append-only: chattr -a on it allows removals".to_owned()
        }
        Obstacle::Sticky => {
            "the directory is sticky: run sweeper as the owner of the entry or of the \
                             directory, or as root"
                .to_owned()
        }
        Obstacle::Immutable => "it is immutable: chattr -i on it allows its removal".to_owned(),
        Obstacle::AppendOnly => "it is append-only: chattr -a on it allows its removal".to_owned(),
        Obstacle::Unmapped => UNMAPPED.to_owned(),
    })
}
