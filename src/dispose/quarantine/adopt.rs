//! The quarantine of a process that is gone.
//!
//! This module must not take over one whose process is still at work, nor a directory that another user could have
//! made.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, Mode, RawDir, flock, mkdirat};
use rustix::io::Errno;

use super::super::check::Interrupted;
use super::ended;
use super::errors::NotDetached;
use super::served::{self, ServerLock};
use super::{BEGAN, CHECK, Detached, Quarantine, REMOVE, Stage, owner};
use crate::fs::file_system;
use crate::fs::list::is_dot;
use crate::fs::open::{self, Across};
use crate::fs::stat::{self, Freshness};
use crate::protocol::{Directory, Storage};
use crate::rules::{Moment, Shape};

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
    /// Takes over one that another process left behind. Where directories may not have the owner and the rights that
    /// they were made with, it belongs to this user if it looks like `ours`.
    pub(in super::super) fn adopt(
        parent: &Arc<Directory>,
        name: &CStr,
        ours: Option<&Self>,
    ) -> io::Result<Adopted> {
        let like = ours.map(|ours| owner::of(&ours.top)).transpose()?;
        let like = like.as_ref();
        match owner::at(&parent.handle, name) {
            Err(Errno::NOENT) => return Ok(Adopted::No),
            found => {
                if let Some(why) = owner::foreign(&found?, like) {
                    return Ok(Adopted::Foreign(why));
                }
            }
        }
        let top = match open::dir(&parent.handle, name, Across::SameMount) {
            Err(error) if leads_elsewhere(&error) => {
                return Ok(Adopted::Foreign("it is a mount point".to_owned()));
            }
            opened => opened?.handle,
        };
        // Once more: another directory may have the name by now.
        if let Some(why) = owner::foreign(&owner::of(&top)?, like) {
            return Ok(Adopted::Foreign(why));
        }
        match flock(&top, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(Adopted::No),
            locked => locked?,
        }
        let ended = ended::changed(&top)?;
        let server_lock = if parent.storage.file_system.is_served() {
            match ServerLock::take(&top).map_err(NotDetached::into_error)? {
                None => return Ok(Adopted::No),
                taken => taken,
            }
        } else {
            None
        };
        let (check, remove) = match stages(&top) {
            Err(error) if leads_elsewhere(&error) => {
                return Ok(Adopted::Foreign("another program made something in it".to_owned()));
            }
            stages => stages?,
        };
        let has_ended = check.as_ref().is_none_or(|(_, is_new)| *is_new);
        let check = check.map(|(check, _)| check);
        // A process that ends removes `check`; one that is killed does not.
        let idle = if has_ended { Some((ended, ended::changed(&top)?)) } else { None };
        // What this process removes is later, too.
        let idle = idle.filter(|(_, to)| ended::is_past(&top, *to));
        let interrupted = Interrupted { began: began(&top, parent.mount), idle };
        let (remove_id, _) = stat::id_and_mount(&remove)?;
        let (parent, name) = (Arc::clone(parent), name.to_owned());
        let is_only_seen = false;
        let found = Self { parent, name, top, server_lock, check, remove, remove_id, is_only_seen };
        Ok(Adopted::Yes(found, interrupted))
    }

    /// Looks at one that another process left behind and changes nothing, with the stages that it has.
    pub(in super::super) fn look_at(
        parent: &Arc<Directory>,
        name: &CStr,
    ) -> io::Result<(Adopted, [bool; 2])> {
        let no_stages = [false; 2];
        let is_served = parent.storage.file_system.is_served();
        // Before it is opened, which this user may not do with that of another.
        if !is_served
            && file_system::has_owners(&parent.handle)
            && let Some(why) = owner::foreign(&owner::at(&parent.handle, name)?, None)
        {
            return Ok((Adopted::Foreign(why), no_stages));
        }
        let top = open::dir(&parent.handle, name, Across::SameMount)?.handle;
        // A server says anything about owners, and without owners all directories look like the one they are in.
        let found = owner::of(&top)?;
        let is_like_home = || -> io::Result<bool> {
            let home = owner::of(&parent.handle)?;
            Ok(!file_system::has_owners(&top) && owner::foreign(&found, Some(&home)).is_none())
        };
        if !is_served
            && let Some(why) = owner::foreign(&found, None)
            && !is_like_home()?
        {
            return Ok((Adopted::Foreign(why), no_stages));
        }
        match flock(&top, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok((Adopted::No, no_stages)),
            locked => locked?,
        }
        if is_served && ServerLock::is_held(&top) {
            return Ok((Adopted::No, no_stages));
        }
        let (check, remove) = (existing_stage(&top, CHECK)?, existing_stage(&top, REMOVE)?);
        let stages = [check.is_some(), remove.is_some()];
        let ended = stat::handle(&top, parent.mount)?.mtime;
        // A process that ends removes `check`; one that is killed does not.
        let idle = (!stages[0]).then_some((ended, Moment::LAST));
        let interrupted = Interrupted { began: began(&top, parent.mount), idle };
        let remove = remove.map_or_else(|| top.try_clone(), Ok)?;
        let (remove_id, _) = stat::id_and_mount(&remove)?;
        let (parent, name, server_lock) = (Arc::clone(parent), name.to_owned(), None);
        let is_only_seen = true;
        let found = Self { parent, name, top, server_lock, check, remove, remove_id, is_only_seen };
        Ok((Adopted::Yes(found, interrupted), stages))
    }

    /// `check`, as if its entries had their own names again.
    pub(in super::super) fn as_home(self: &Arc<Self>) -> io::Result<Directory> {
        let parent = &self.parent;
        let handle = self.handle(Stage::Check).try_clone()?;
        let (id, mount) = stat::id_and_mount(&handle)?;
        let (zone, path, dir) = (Arc::clone(&parent.zone), parent.path.clone(), parent.dir.clone());
        let (listed, storage) = (Some(Arc::clone(parent)), Storage::on(parent.storage.file_system));
        Ok(Directory { zone, path, dir, handle, id, mount, listed, storage })
    }

    /// Whether it has `check`.
    pub(in super::super) const fn has_check(&self) -> bool {
        self.check.is_some()
    }

    /// Whether there is more in it than a pass makes there.
    pub(in super::super) fn has_more(&self) -> bool {
        let ours = [CHECK, REMOVE, BEGAN, ended::TICK, served::LOCK];
        let mut buffer = Vec::with_capacity(1024);
        let mut listing = RawDir::new(&self.top, buffer.spare_capacity_mut());
        while let Some(Ok(entry)) = listing.next() {
            if !is_dot(entry.file_name()) && !ours.contains(&entry.file_name()) {
                return true;
            }
        }
        false
    }

    /// Whether an entry of the zone has this name in a stage. A pass puts no other there.
    pub(in super::super) fn is_entry(&self, inner: &CStr) -> bool {
        let (dir, name) = self.original(inner);
        self.can_be(&dir, &name)
    }

    /// Whether an entry of the zone can have this name in this directory.
    pub(in super::super) fn can_be(&self, dir: &Path, name: &CStr) -> bool {
        let location = &self.parent.zone.location;
        let path = dir.join(OsStr::from_bytes(name.to_bytes()));
        // Elsewhere every name in a listed directory is that of an entry.
        !matches!(location.shape, Shape::Fixed(_))
            || location.entry_of(&path).is_some_and(|entry| entry.path() == path)
    }

    /// The directory and the name that an entry had, by its name in a stage, whether that directory is still there or
    /// not. Relative to the data root, or absolute if the zone is.
    pub(in super::super) fn original(&self, inner: &CStr) -> (PathBuf, CString) {
        self.parent.zone.location.original_of(&self.parent.dir, inner)
    }

    /// An entry that another process left in a stage, by its name there, on its way back to its own name. If
    /// the directory that it came from is gone, it is moved beside the quarantine.
    pub(in super::super) fn leftover(
        self: &Arc<Self>,
        stage: Stage,
        inner: &CStr,
    ) -> io::Result<Detached> {
        let mut steps = self.parent.zone.location.steps_of(inner);
        let last = CString::new(steps.pop().unwrap_or_default().as_bytes())?;
        let (mut home, mut original) = (Arc::clone(&self.parent), last);
        for step in steps {
            match self.step_into(&home, &CString::new(step.as_bytes())?) {
                Ok(next) => home = Arc::new(next),
                Err(error) if is_no_directory(&error) => {
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
        let dir = home.dir.join(OsStr::from_bytes(step.to_bytes()));
        let (zone, listed) = (Arc::clone(&home.zone), Some(Arc::clone(&self.parent)));
        let storage = Storage::on(home.storage.file_system);
        Ok(Directory { zone, path, dir, handle, id, mount, listed, storage })
    }
}

/// Opens a stage, and whether it was missing.
fn stage(top: &OwnedFd, name: &CStr) -> io::Result<(OwnedFd, bool)> {
    let is_new = match mkdirat(top, name, Mode::RWXU) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => {
            // A server may only say that it is full, though the directory is there.
            let found = if is_full(error) { existing_stage(top, name)? } else { None };
            return found.map(|found| (found, false)).ok_or_else(|| error.into());
        }
    };
    Ok((open::dir(top, name, Across::SameMount)?.handle, is_new))
}

/// Opens both stages: `check`, if it can be there, with whether it was missing, and `remove`.
fn stages(top: &OwnedFd) -> io::Result<(Option<(OwnedFd, bool)>, OwnedFd)> {
    // On a full disk, what is in `remove` can be removed all the same.
    let check = match stage(top, CHECK) {
        Err(error) if Errno::from_io_error(&error).is_some_and(is_full) => None,
        check => Some(check?),
    };
    Ok((check, stage(top, REMOVE)?.0))
}

/// Whether nothing can be made any more on this file system.
const fn is_full(error: Errno) -> bool {
    matches!(error, Errno::NOSPC | Errno::DQUOT)
}

/// Opens a stage, if there is one.
fn existing_stage(top: &OwnedFd, name: &CStr) -> io::Result<Option<OwnedFd>> {
    match open::dir(top, name, Across::SameMount) {
        Ok(opened) => Ok(Some(opened.handle)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// When a quarantine was made, by the same clock as that of the mtimes which it is compared with.
fn began(top: &OwnedFd, mount: u64) -> Option<Moment> {
    let by_mtime = stat::at(top, BEGAN, mount, Freshness::Synced).ok().map(|began| began.mtime);
    by_mtime.or_else(|| stat::birth(top))
}

/// Whether an error says that a name is that of a mount point, a link or a file, and of no directory of ours.
fn leads_elsewhere(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::XDEV | Errno::LOOP | Errno::NOTDIR))
}

/// Whether an error says that there is no directory any more: the name is gone, or leads to something else.
fn is_no_directory(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOENT | Errno::STALE | Errno::NOTDIR | Errno::LOOP)
    )
}
