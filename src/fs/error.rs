//! An error at a path, and what the user can do about it.
//!
//! It must not know which zone the path is in.

use std::ffi::CStr;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::fs::{AtFlags, statx};
use rustix::io::Errno;

use super::file_system;
use super::stat::WANTED;
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

/// Whether an error says that there is nothing any more: no such name, or a file that another machine has
/// removed from the server.
pub fn is_gone(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::STALE))
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
        return Some("the file system is mounted read-only".to_owned());
    }
    if errno != Errno::ACCESS && errno != Errno::PERM {
        return None;
    }
    // An open needs rights on the object itself, a removal on its directory.
    let (seen, whose) = match name {
        Some(name) if action == Action::Open => {
            let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
            (statx(&dir, name, flags, WANTED).ok()?, "it")
        }
        _ => (statx(&dir, c"", AtFlags::EMPTY_PATH, WANTED).ok()?, "its directory"),
    };
    let us = rustix::process::geteuid().as_raw();
    let squash = if us == 0 && file_system::of(dir) == FileSystem::Nfs {
        format!(
            "; NFS servers usually map root to nobody (root_squash): run sweeper as uid {}",
            seen.stx_uid
        )
    } else {
        String::new()
    };
    Some(format!(
        "sweeper runs as uid {us}; {whose} belongs to uid {} gid {} with mode {:04o}{squash}",
        seen.stx_uid,
        seen.stx_gid,
        seen.stx_mode & 0o7777
    ))
}
