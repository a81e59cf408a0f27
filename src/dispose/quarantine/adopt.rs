//! The quarantine of a process that is gone.
//!
//! It must not take over one whose process is still at work, nor a directory that another user could have made.

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, flock, fstat, mkdirat, statat};
use rustix::io::Errno;

use super::super::check::Interrupted;
use super::{BEGAN, CHECK, Detached, Quarantine, REMOVE, Stage, names};
use crate::fs::open::{self, Across};
use crate::fs::stat::{self, Freshness};
use crate::protocol::Directory;
use crate::rules::Moment;

/// What is under the name of a private directory.
#[derive(Debug)]
pub(in super::super) enum Adopted {
    /// The directory of a process that is gone, and when that process was at work.
    Yes(Quarantine, Interrupted),
    /// Its process is at work, or it is gone by now.
    No,
    /// It is not one that a process of this user has made. Why.
    Foreign(String),
}

impl Quarantine {
    /// Takes over one that another process left behind.
    pub(in super::super) fn adopt(parent: &Arc<Directory>, name: &CStr) -> io::Result<Adopted> {
        let found = match statat(&parent.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(Adopted::No),
            found => found?,
        };
        if let Some(why) = not_ours(&found) {
            return Ok(Adopted::Foreign(why));
        }
        let top = open::dir(&parent.handle, name, Across::SameMount)?.handle;
        // Once more: another directory may have the name by now.
        if let Some(why) = not_ours(&fstat(&top)?) {
            return Ok(Adopted::Foreign(why));
        }
        match flock(&top, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(Adopted::No),
            locked => locked?,
        }
        let changed = || Ok::<_, io::Error>(stat::handle(&top, parent.mount)?.mtime);
        let ended = changed()?;
        let ((check, has_ended), (remove, _)) = (stage(&top, CHECK)?, stage(&top, REMOVE)?);
        // A process that ends removes `check`; one that is killed does not.
        let idle = if has_ended { Some((ended, changed()?)) } else { None };
        let interrupted = Interrupted { began: began(&top, parent.mount), idle };
        let (remove_id, _) = stat::id_and_mount(&remove)?;
        let (parent, name) = (Arc::clone(parent), name.to_owned());
        let found = Self { parent, name, top, check, remove, remove_id };
        Ok(Adopted::Yes(found, interrupted))
    }

    /// An entry that another process left in a stage, by its name there, on its way back to its own name. If
    /// the directory that it came from is gone, it comes to lie beside the quarantine.
    pub(in super::super) fn leftover(
        self: &Arc<Self>,
        stage: Stage,
        inner: &CStr,
    ) -> io::Result<Detached> {
        let mut steps = names::steps(&self.parent.zone, inner)?;
        let last = steps.pop().unwrap_or_default();
        let (mut home, mut original) = (Arc::clone(&self.parent), last);
        for step in steps {
            match self.step_into(&home, &step) {
                Ok(next) => home = Arc::new(next),
                Err(error) if is_gone(&error) => {
                    (home, original) = (Arc::clone(&self.parent), inner.to_owned());
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        let (quarantine, name) = (Arc::clone(self), inner.to_owned());
        Ok(Detached { quarantine, name, stage, home, original })
    }

    /// A directory on the way to where an entry came from.
    fn step_into(&self, home: &Directory, step: &CStr) -> io::Result<Directory> {
        let handle = open::dir(&home.handle, step, Across::SameMount)?.handle;
        let (id, mount) = stat::id_and_mount(&handle)?;
        let path = home.path_of(step);
        let dir = home.dir.join(std::ffi::OsStr::from_bytes(step.to_bytes()));
        let (zone, listed) = (Arc::clone(&home.zone), Some(Arc::clone(&self.parent)));
        Ok(Directory { zone, path, dir, handle, id, mount, listed })
    }
}

/// Why this cannot be a private directory of this user, if so.
fn not_ours(found: &rustix::fs::Stat) -> Option<String> {
    if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
        return Some("it is not a directory".to_owned());
    }
    if found.st_uid != rustix::process::geteuid().as_raw() {
        return Some(format!("it belongs to uid {}", found.st_uid));
    }
    (found.st_mode & 0o777 != 0o700).then(|| "other users may enter it".to_owned())
}

/// Opens a stage, and whether it was missing.
fn stage(top: &OwnedFd, name: &CStr) -> io::Result<(OwnedFd, bool)> {
    let is_new = match mkdirat(top, name, Mode::RWXU) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => return Err(error.into()),
    };
    Ok((open::dir(top, name, Across::SameMount)?.handle, is_new))
}

/// When a quarantine was made.
fn began(top: &OwnedFd, mount: u64) -> Option<Moment> {
    let by_mtime = || stat::at(top, BEGAN, mount, Freshness::Synced).ok().map(|began| began.mtime);
    stat::birth(top).or_else(by_mtime)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}
