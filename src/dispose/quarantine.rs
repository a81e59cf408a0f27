//! Takes an entry out of reach before it is removed.
//!
//! This module must not remove anything but its own empty directories. A tree that stays where it is can be reached by
//! its path while it is removed: files are added, opened, or moved elsewhere together with the walk. The name
//! of a file can be given to another file after the last look at it. So an entry is renamed first, in one
//! atomic step on the same file system:
//!
//! ```text
//! <directory>/<name>  ->  <directory>/.sweeper-<id>/check/<name>  ->  .../remove/<name>
//! ```
//!
//! In `check` it is looked at again; what has changed returns to its own name. A file is then removed there,
//! and a tree in `remove`. `.sweeper-<id>` is private to this process: mode 0700, and locked by `flock`. After
//! a crash the next pass finds one whose lock is free ([`super::recover`]): what is in `check` returns to its
//! name, and the removal of a tree in `remove` is completed. `tests/model/detach.rs` says what each step is for.

mod adopt;
mod ended;
mod errors;
mod names;
mod owner;
mod rename;
mod served;

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FlockOperation, Mode, flock, mkdirat};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

pub(super) use self::adopt::Adopted;
pub(super) use self::errors::NotDetached;
use self::rename::{rename_back, rename_inside, revalidate};
use self::served::ServerLock;
use super::unlink::remove_empty_directory;
use crate::fs::file_system;
use crate::fs::open::{self, Across};
use crate::fs::stat;
use crate::protocol::Directory;
use crate::rules::{FileId, FileSystem, Moment, Zone};

/// The quarantines of a pass, by the directory that they are in. The one that was used last comes last.
#[derive(Debug)]
pub(super) struct Quarantines {
    open: Mutex<Vec<Arc<Quarantine>>>,
    /// How many are kept open. Each has three descriptors, and keeps those of its directory open.
    most: usize,
}

/// A private directory beside the entries that are removed.
#[derive(Debug)]
pub(super) struct Quarantine {
    /// The directory that it is in.
    parent: Arc<Directory>,
    /// Its name there.
    name: CString,
    /// The directory itself, locked.
    top: OwnedFd,
    /// On a server, where that lock is known to this machine only: the one that others see.
    server_lock: Option<ServerLock>,
    /// `None`: there is none, and none can be made.
    check: Option<OwnedFd>,
    pub(super) remove: OwnedFd,
    pub(super) remove_id: FileId,
    /// It stays as it is at the end.
    is_only_seen: bool,
}

/// An entry in quarantine.
#[derive(Debug)]
pub(super) struct Detached {
    pub(super) quarantine: Arc<Quarantine>,
    /// Its name there.
    pub(super) name: CString,
    pub(super) stage: Stage,
    /// Where it came from, and its name there.
    home: Arc<Directory>,
    original: CString,
}

/// Where in the quarantine an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Check,
    Remove,
}

/// The result of giving an entry its name back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Returned {
    /// It has its name again.
    Yes,
    /// The name was taken meanwhile; it is beside, under this name.
    Beside(CString),
}

impl Quarantines {
    /// Removes the private directories that are empty. Whether there were any.
    pub(super) fn release(&self) -> bool {
        let all = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        !all.is_empty()
    }

    /// None yet.
    pub(super) fn new() -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let most = (limit / 64).clamp(4, 16);
        Self { open: Mutex::default(), most: usize::try_from(most).unwrap_or(4) }
    }

    /// Takes the entry `name` in `directory` out of reach.
    pub(super) fn detach(
        &self,
        directory: &Arc<Directory>,
        name: &CStr,
    ) -> Result<Detached, NotDetached> {
        let listed = directory.listed.as_ref().unwrap_or(directory);
        let quarantine = self.of(listed)?;
        let inner = names::inner_name(directory, listed, name).map_err(NotDetached::Failed)?;
        let change = directory.change();
        let check = quarantine.handle(Stage::Check);
        rename_inside(&directory.handle, name, check, &inner).map_err(NotDetached::of)?;
        drop(change);
        if directory.storage.file_system.is_served() {
            revalidate(check, &inner);
        }
        let (home, original) = (Arc::clone(directory), name.to_owned());
        Ok(Detached { quarantine, name: inner, stage: Stage::Check, home, original })
    }

    /// The quarantine beside the entries of `directory`.
    pub(super) fn of(&self, directory: &Arc<Directory>) -> Result<Arc<Quarantine>, NotDetached> {
        let mut all = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.iter().position(|known| known.parent.id == directory.id);
        let found = match known {
            Some(index) => all.remove(index),
            None => Arc::new(Quarantine::create(directory)?),
        };
        if all.len() == self.most {
            all.remove(0);
        }
        all.push(Arc::clone(&found));
        Ok(found)
    }
}

impl Quarantine {
    fn create(parent: &Arc<Directory>) -> Result<Self, NotDetached> {
        for _ in 0..TRIES {
            let name = names::unique();
            mkdirat(&parent.handle, &name, Mode::RWXU).map_err(NotDetached::of)?;
            match Self::fill(parent, &name) {
                // Another sweeper has found it before it was locked, and has removed it.
                Err(NotDetached::Failed(error)) if is_taken(&error) => {}
                filled => {
                    return filled.inspect_err(|_| {
                        let _ = remove_empty_directory(&parent.handle, &name);
                    });
                }
            }
        }
        Err(NotDetached::Failed(Errno::AGAIN.into()))
    }

    /// Locks the new directory `name` and makes the stages in it.
    fn fill(parent: &Arc<Directory>, name: &CStr) -> Result<Self, NotDetached> {
        let top = open::dir(&parent.handle, name, Across::SameMount);
        let top = top.map_err(NotDetached::Failed)?.handle;
        if !owner::is_private(&top).map_err(|error| NotDetached::Failed(error.into()))? {
            // Who may write in `parent` has put another directory in its place: then another name is tried.
            return Err(NotDetached::Failed(Errno::NOENT.into()));
        }
        flock(&top, FlockOperation::NonBlockingLockExclusive).map_err(NotDetached::of_lock)?;
        let server_lock = if parent.storage.file_system.is_served() {
            // Another sweeper has it: then that removes the directory.
            Some(ServerLock::take(&top)?.ok_or(NotDetached::of_lock(Errno::WOULDBLOCK))?)
        } else {
            None
        };
        let (check, remove, remove_id) = match stages_in(&top) {
            Ok(stages) => stages,
            Err(error) => {
                if let Some(lock) = server_lock {
                    lock.release(&top);
                }
                tear_down(&parent.handle, name, top);
                return Err(error);
            }
        };
        let (parent, name) = (Arc::clone(parent), name.to_owned());
        let (check, is_only_seen) = (Some(check), false);
        Ok(Self { parent, name, top, server_lock, check, remove, remove_id, is_only_seen })
    }

    /// Where a stage is. Without `check` that is the directory itself, to which nothing may be renamed.
    pub(super) fn handle(&self, stage: Stage) -> &OwnedFd {
        match stage {
            Stage::Check => self.check.as_ref().unwrap_or(&self.top),
            Stage::Remove => &self.remove,
        }
    }

    /// The directory that it is in.
    pub(super) const fn parent(&self) -> &Arc<Directory> {
        &self.parent
    }

    /// The zone that its entries are in.
    pub(super) fn zone(&self) -> &Zone {
        &self.parent.zone
    }

    /// The mount that it is on.
    pub(super) fn mount(&self) -> u64 {
        self.parent.mount
    }

    /// The file system that it is on.
    pub(super) fn file_system(&self) -> FileSystem {
        self.parent.storage.file_system
    }

    /// The server's time when it was made; `None` on a local file system.
    pub(super) fn made(&self) -> io::Result<Option<Moment>> {
        self.server_lock.as_ref().map(ServerLock::made).transpose()
    }

    /// The path of an entry in a stage, as people see it.
    pub(super) fn path_of(&self, stage: Stage, name: &CStr) -> PathBuf {
        self.path(stage).join(std::ffi::OsStr::from_bytes(name.to_bytes()))
    }

    /// The path of a stage, as people see it.
    pub(super) fn path(&self, stage: Stage) -> PathBuf {
        let stage = if stage == Stage::Check { "check" } else { "remove" };
        self.parent.path_of(&self.name).join(stage)
    }
}

impl Drop for Quarantine {
    fn drop(&mut self) {
        if self.is_only_seen {
            return;
        }
        let _change = self.parent.change();
        if let Some(lock) = self.server_lock.take() {
            lock.release(&self.top);
            // An SMB server removes a directory only when no handle of it is open.
            self.check = None;
            close(&mut self.remove, &self.parent);
        }
        if let Ok(top) = self.parent.handle.try_clone() {
            tear_down(&self.parent.handle, &self.name, std::mem::replace(&mut self.top, top));
        }
    }
}

/// Closes a handle: one of `instead` takes its place.
fn close(handle: &mut OwnedFd, instead: &Directory) {
    if let Ok(other) = instead.handle.try_clone() {
        *handle = other;
    }
}

impl Detached {
    /// Marks it for removal: from now on a crash leads to its removal, not to its return.
    pub(super) fn approve(&mut self) -> io::Result<()> {
        let check = self.quarantine.handle(Stage::Check);
        rename_inside(check, &self.name, &self.quarantine.remove, &self.name)?;
        self.stage = Stage::Remove;
        Ok(())
    }

    /// Takes the approval back: from now on a crash leads to its return.
    pub(super) fn withdraw(&mut self) -> io::Result<()> {
        if self.stage == Stage::Remove {
            let Some(check) = &self.quarantine.check else { return Err(Errno::NOSPC.into()) };
            rename_inside(&self.quarantine.remove, &self.name, check, &self.name)?;
            self.stage = Stage::Check;
        }
        Ok(())
    }

    /// Whether the file that arrived in the quarantine may be this one, as far as only its server can say.
    pub(super) fn may_be(&self, id: FileId) -> io::Result<bool> {
        if self.quarantine.file_system() != FileSystem::Nfs {
            return Ok(true);
        }
        let dir = self.quarantine.handle(self.stage);
        Ok(served::listed_inode(dir, &self.name)? == Some(id.ino))
    }

    /// The directory that it came from, and its name there.
    pub(super) fn home(&self) -> (&Arc<Directory>, &CStr) {
        (&self.home, &self.original)
    }

    /// Its directory and its name there, owned.
    pub(super) fn into_home(self) -> (Arc<Directory>, CString) {
        (self.home, self.original)
    }

    /// Gives it its own name again, or one beside it if that was taken meanwhile.
    pub(super) fn put_back(&self) -> io::Result<Returned> {
        self.put_back_as(|_| ())
    }

    /// The same. Tells `announce` each name before it is tried.
    pub(super) fn put_back_as(&self, mut announce: impl FnMut(&CStr)) -> io::Result<Returned> {
        let from = self.quarantine.handle(self.stage);
        let to = &self.home.handle;
        let _change = self.home.change();
        announce(&self.original);
        match rename_back(from, &self.name, to, &self.original) {
            Ok(()) => return Ok(Returned::Yes),
            Err(Errno::EXIST | Errno::NOTEMPTY) => {}
            Err(error) => return Err(error.into()),
        }
        for again in 0..TRIES {
            let beside = names::beside(&self.original, &self.quarantine.name, again)?;
            announce(&beside);
            match rename_back(from, &self.name, to, &beside) {
                Err(Errno::EXIST | Errno::NOTEMPTY) => {}
                renamed => return Ok(renamed.map(|()| Returned::Beside(beside))?),
            }
        }
        Err(Errno::EXIST.into())
    }
}

const CHECK: &CStr = c"check";
const REMOVE: &CStr = c"remove";

/// Its mtime says when the quarantine was made, where the file system may not tell that of `.sweeper-<id>`, or count its
/// moments in smaller steps than mtimes (FAT).
const BEGAN: &CStr = c"began";

/// How many names are tried before it counts as a failure that all of them are taken.
const TRIES: u32 = 8;

fn is_taken(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::WOULDBLOCK | Errno::NOENT))
}

/// Makes and opens the stages in a new quarantine: `check`, and `remove` with its identity.
fn stages_in(top: &OwnedFd) -> Result<(OwnedFd, OwnedFd, FileId), NotDetached> {
    if stat::birth(top).is_none() || !file_system::has_owners(top) {
        mkdirat(top, BEGAN, Mode::RWXU).map_err(NotDetached::of)?;
    }
    for stage in [CHECK, REMOVE] {
        mkdirat(top, stage, Mode::RWXU).map_err(NotDetached::of)?;
    }
    let open = || -> io::Result<_> {
        let check = open::dir(top, CHECK, Across::SameMount)?.handle;
        let remove = open::dir(top, REMOVE, Across::SameMount)?.handle;
        let (remove_id, _) = stat::id_and_mount(&remove)?;
        Ok((check, remove, remove_id))
    };
    open().map_err(NotDetached::Failed)
}

/// Removes the quarantine `name`, which is open as `top`. What is not empty stays for the next pass.
fn tear_down(parent: impl AsFd, name: &CStr, top: OwnedFd) {
    let remove = |stage| matches!(remove_empty_directory(&top, stage), Ok(()) | Err(Errno::NOENT));
    if !remove(REMOVE) {
        return ended::say(&top, CHECK);
    }
    if remove(CHECK) {
        let _ = remove_empty_directory(&top, BEGAN);
        ended::clear(&top);
        drop(top);
        let _ = remove_empty_directory(&parent, name);
    }
}

#[cfg(test)]
mod tests;
