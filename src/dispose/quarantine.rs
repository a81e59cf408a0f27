//! Takes a tree out of reach before it is removed.
//!
//! It must not remove anything but its own empty directories. A tree that stays where it is can be reached by
//! its path while it is removed: files are added, opened, or moved elsewhere together with the walk. So it is
//! renamed first, in one atomic step on the same file system:
//!
//! ```text
//! <directory>/<name>  ->  <directory>/.sweeper-<id>/check/<name>  ->  .../remove/<name>
//! ```
//!
//! In `check` it is looked at again; what has changed returns to its own name. In `remove` it is removed.
//! `.sweeper-<id>` is private to this process: mode 0700, and locked by `flock`. After a crash the next pass
//! finds one whose lock is free ([`super::recover`]): a tree in `check` returns to its name, and the removal
//! of a tree in `remove` is completed.

use std::ffi::{CStr, CString};
use std::fmt::Write;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FlockOperation, Mode, RenameFlags, flock, mkdirat, renameat, renameat_with};
use rustix::io::Errno;

use super::check::Interrupted;
use super::unlink::remove_empty_directory;
use crate::fs::open::{self, Across};
use crate::fs::stat;
use crate::protocol::Directory;
use crate::rules::names::QUARANTINE;
use crate::rules::{FileId, KeptReason, Metadata, Rule, Shape, Zone};

/// How many are kept open at once. Each has three descriptors.
const KEPT: usize = 16;

/// The quarantines of a pass, by the directory that they are in.
#[derive(Debug, Default)]
pub(super) struct Quarantines(Mutex<Vec<Arc<Quarantine>>>);

/// A private directory beside the entries that are removed.
#[derive(Debug)]
pub(super) struct Quarantine {
    /// The directory that it is in.
    parent: Arc<Directory>,
    /// Its name there.
    name: CString,
    /// The directory itself, locked.
    top: OwnedFd,
    check: OwnedFd,
    pub(super) remove: OwnedFd,
    pub(super) remove_id: FileId,
}

/// A tree in quarantine.
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

/// Stands for `/` in the name of an entry that does not lie in the listed directory itself. Such entries are
/// `<number>/<path>` ([`crate::rules::Shape::Fixed`]), which does not contain it.
const SEPARATOR: u8 = b'%';

/// Where in the quarantine a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Check,
    Remove,
}

/// What a return to the own name came to.
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
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        !all.is_empty()
    }

    /// Takes the tree `name` in `directory` out of reach.
    pub(super) fn detach(&self, directory: &Arc<Directory>, name: &CStr) -> io::Result<Detached> {
        let listed = directory.listed.as_ref().unwrap_or(directory);
        let quarantine = self.of(listed)?;
        let inner = name_in_quarantine(directory, listed, name)?;
        rename_new(&directory.handle, name, &quarantine.check, &inner)?;
        let (home, original) = (Arc::clone(directory), name.to_owned());
        Ok(Detached { quarantine, name: inner, stage: Stage::Check, home, original })
    }

    /// The quarantine beside the entries of `directory`.
    fn of(&self, directory: &Arc<Directory>) -> io::Result<Arc<Quarantine>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.iter().find(|known| known.parent.id == directory.id) {
            return Ok(Arc::clone(known));
        }
        let new = Arc::new(Quarantine::create(directory)?);
        if all.len() == KEPT {
            all.remove(0);
        }
        all.push(Arc::clone(&new));
        Ok(new)
    }
}

impl Quarantine {
    fn create(parent: &Arc<Directory>) -> io::Result<Self> {
        let name = unique_name();
        let private = Mode::RWXU;
        mkdirat(&parent.handle, &name, private)?;
        let make = || -> io::Result<Self> {
            let top = open::dir(&parent.handle, &name, Across::SameMount)?.handle;
            // A pass that finds it before it is locked sees that it is empty.
            flock(&top, FlockOperation::NonBlockingLockExclusive)?;
            mkdirat(&top, CHECK, private)?;
            mkdirat(&top, REMOVE, private)?;
            let check = open::dir(&top, CHECK, Across::SameMount)?.handle;
            let remove = open::dir(&top, REMOVE, Across::SameMount)?.handle;
            let (remove_id, _) = stat::id_and_mount(&remove)?;
            let (parent, name) = (Arc::clone(parent), name.clone());
            Ok(Self { parent, name, top, check, remove, remove_id })
        };
        make().inspect_err(|_| {
            let _ = remove_empty_directory(&parent.handle, &name);
        })
    }

    /// An entry that another process left in a stage, by its name there, on its way back to its own name.
    pub(super) fn leftover(self: &Arc<Self>, stage: Stage, inner: &CStr) -> io::Result<Detached> {
        let mut home = Arc::clone(&self.parent);
        let is_fixed = matches!(self.parent.zone.location.shape, Shape::Fixed(_));
        let mut steps: Vec<&[u8]> = vec![inner.to_bytes()];
        if is_fixed {
            steps = inner.to_bytes().split(|byte| *byte == SEPARATOR).collect();
        }
        let original = CString::new(steps.pop().unwrap_or_default())?;
        for step in steps {
            let step = CString::new(step)?;
            let handle = open::dir(&home.handle, &step, Across::SameMount)?.handle;
            let (id, mount) = stat::id_and_mount(&handle)?;
            let path = home.path_of(&step);
            let dir = home.dir.join(std::ffi::OsStr::from_bytes(step.to_bytes()));
            let (zone, listed) = (Arc::clone(&home.zone), Some(Arc::clone(&self.parent)));
            home = Arc::new(Directory { zone, path, dir, handle, id, mount, listed });
        }
        let (quarantine, name) = (Arc::clone(self), inner.to_owned());
        Ok(Detached { quarantine, name, stage, home, original })
    }

    /// One that another process left behind, if its lock is free and it belongs to this user; and when that
    /// process was at work.
    pub(super) fn adopt(
        parent: &Arc<Directory>,
        name: &CStr,
    ) -> io::Result<Option<(Self, Interrupted)>> {
        let top = open::dir(&parent.handle, name, Across::SameMount)?.handle;
        let seen = rustix::fs::fstat(&top)?;
        let is_private = seen.st_mode & 0o777 == 0o700;
        if !is_private || seen.st_uid != rustix::process::geteuid().as_raw() {
            return Ok(None);
        }
        match flock(&top, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(None),
            locked => locked?,
        }
        let changed = || Ok::<_, io::Error>(stat::handle(&top, parent.mount)?.mtime);
        let ended = changed()?;
        let inner = |stage: &CStr| {
            let is_new = match mkdirat(&top, stage, Mode::RWXU) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(error) => return Err(io::Error::from(error)),
            };
            Ok((open::dir(&top, stage, Across::SameMount)?.handle, is_new))
        };
        let ((check, has_ended), (remove, _)) = (inner(CHECK)?, inner(REMOVE)?);
        // A process that ends removes `check`; one that is killed does not.
        let idle = if has_ended { Some((ended, changed()?)) } else { None };
        let interrupted = Interrupted { began: stat::birth(&top), idle };
        let (remove_id, _) = stat::id_and_mount(&remove)?;
        let (parent, name) = (Arc::clone(parent), name.to_owned());
        let found = Self { parent, name, top, check, remove, remove_id };
        Ok(Some((found, interrupted)))
    }

    pub(super) const fn handle(&self, stage: Stage) -> &OwnedFd {
        match stage {
            Stage::Check => &self.check,
            Stage::Remove => &self.remove,
        }
    }

    /// The rule for an entry that another process left, by its name in a stage.
    pub(super) fn rule_of(&self, inner: &CStr, metadata: &Metadata) -> Result<Rule, KeptReason> {
        let mut name = inner.to_bytes();
        if matches!(self.parent.zone.location.shape, Shape::Fixed(_)) {
            name = name.rsplit(|byte| *byte == SEPARATOR).next().unwrap_or(name);
        }
        Rule::of(&self.parent.zone, &CString::new(name).unwrap_or_default(), metadata)
    }

    /// The zone that its entries are in.
    pub(super) fn zone(&self) -> &Zone {
        &self.parent.zone
    }

    /// The mount that it is on.
    pub(super) fn mount(&self) -> u64 {
        self.parent.mount
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
        // What is not empty stays for the next pass.
        for stage in [CHECK, REMOVE] {
            let _ = remove_empty_directory(&self.top, stage);
        }
        let _ = remove_empty_directory(&self.parent.handle, &self.name);
    }
}

impl Detached {
    /// Marks it for removal: from now on a crash leads to its removal, not to its return.
    pub(super) fn approve(&mut self) -> io::Result<()> {
        rename_new(&self.quarantine.check, &self.name, &self.quarantine.remove, &self.name)?;
        self.stage = Stage::Remove;
        Ok(())
    }

    /// Takes the approval back: from now on a crash leads to its return.
    pub(super) fn withdraw(&mut self) -> io::Result<()> {
        if self.stage == Stage::Remove {
            rename_new(&self.quarantine.remove, &self.name, &self.quarantine.check, &self.name)?;
            self.stage = Stage::Check;
        }
        Ok(())
    }

    /// The directory that it came from, and its name there.
    pub(super) fn into_home(self) -> (Arc<Directory>, CString) {
        (self.home, self.original)
    }

    /// Gives it its own name again, or one beside it if that was taken meanwhile.
    pub(super) fn put_back(&self) -> io::Result<Returned> {
        let from = self.quarantine.handle(self.stage);
        let to = &self.home.handle;
        match rename_new(from, &self.name, to, &self.original) {
            Ok(()) => return Ok(Returned::Yes),
            Err(Errno::EXIST | Errno::NOTEMPTY) => {}
            Err(error) => return Err(error.into()),
        }
        let id = &self.quarantine.name.to_bytes()[QUARANTINE.len()..];
        let mut beside = self.original.to_bytes().to_vec();
        beside.truncate(255 - b".kept-".len() - id.len());
        beside.extend_from_slice(b".kept-");
        beside.extend_from_slice(id);
        let beside = CString::new(beside)?;
        rename_new(from, &self.name, to, &beside)?;
        Ok(Returned::Beside(beside))
    }
}

const CHECK: &CStr = c"check";
const REMOVE: &CStr = c"remove";

/// A rename that replaces nothing. Where the file system does not support that (NFS), the target is looked at
/// first.
fn rename_new(from: impl AsFd, name: &CStr, to: impl AsFd, new: &CStr) -> rustix::io::Result<()> {
    match renameat_with(&from, name, &to, new, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => {
            if stat::type_at(&to, new).is_some() {
                return Err(Errno::EXIST);
            }
            renameat(&from, name, &to, new)
        }
        renamed => renamed,
    }
}

/// The name of an entry in the quarantine of `listed`.
fn name_in_quarantine(
    directory: &Directory,
    listed: &Directory,
    name: &CStr,
) -> io::Result<CString> {
    let below = directory.dir.strip_prefix(&listed.dir).unwrap_or(Path::new(""));
    let mut inner = Vec::new();
    for step in below {
        inner.extend_from_slice(step.as_bytes());
        inner.push(SEPARATOR);
    }
    inner.extend_from_slice(name.to_bytes());
    Ok(CString::new(inner)?)
}

/// `.sweeper-` and 64 random bits.
fn unique_name() -> CString {
    let mut bits = [0_u8; 8];
    // Without a source of randomness the process and a counter must do: `mkdir` refuses a name that exists.
    if rustix::rand::getrandom(&mut bits, rustix::rand::GetRandomFlags::NONBLOCK).is_err() {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        bits[..4].copy_from_slice(&std::process::id().to_ne_bytes());
        bits[4..].copy_from_slice(&next.to_ne_bytes());
    }
    let mut name = String::from_utf8_lossy(QUARANTINE).into_owned();
    for byte in bits {
        let _ = write!(name, "{byte:02x}");
    }
    CString::new(name).unwrap_or_default()
}

#[cfg(test)]
mod tests;
