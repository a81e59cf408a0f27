//! The advisory lock on an entry, as `flock(1)` and exporters written in shell take it.
//!
//! A claim must not wait: an entry that another process has locked is rejected, and the engine tries it
//! again later. The entry is opened relative to its directory, locked, and then compared with the one
//! that was judged, because its name can be given to another file between the look and the lock. The lock
//! lasts as long as the handle, which is closed after the removal.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use fs2::FileExt;
use rustix::io::{Errno, FdFlags, fcntl_setfd};

use crate::fs::lease::turn::Turn;
use crate::fs::open::Across;
use crate::fs::{error, file_system, lease, open, stat};
use crate::protocol::{Claimed, Expired, Guard, Lease, Rejected, Rejection, Skipped};
use crate::rules::{Action, FileKind, FileSystem, LockKind, Zone};
use crate::units;

/// How long to wait before the lock of `sweeper hold` is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// Whether entries are locked with `flock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileLocks {
    /// In each zone that asks for it.
    Flock,
    /// In no zone (`--lock none`).
    Unlocked,
}

impl FileLocks {
    /// What applies to the entries of `zone`.
    pub(super) fn of(self, zone: &Zone) -> Self {
        match zone.lock {
            LockKind::Unlocked => Self::Unlocked,
            LockKind::Flock | LockKind::Application => self,
        }
    }
}

/// Opens an expired entry and locks it with `flock`, unless `files` says otherwise. `lease` is a lock
/// that is already held on it elsewhere. Of the workers that come by different names of one file, each waits
/// until the claim of the other has ended: their locks would exclude each other. If the other one has removed
/// its name, the file may have a single one by then.
pub(super) fn claim(
    expired: Expired,
    files: FileLocks,
    lease: Option<Box<dyn Lease>>,
) -> Result<Claimed, Rejected> {
    let metadata = expired.metadata();
    let is_file = metadata.kind == FileKind::File;
    let turn = (is_file && metadata.links > 1).then(|| Turn::of(metadata.id));
    let mut opened = open_and_lock(&expired, files);
    if is_file && turn.is_none() && matches!(opened, Err(Rejection::Skipped(Skipped::Locked))) {
        drop(Turn::of(metadata.id));
        opened = open_and_lock(&expired, files);
    }
    match opened {
        Ok((object, is_exclusive)) => {
            let guard = Guard::new(object, with_turn(lease, turn));
            Ok(Claimed::new(expired, guard.locked(files == FileLocks::Flock, is_exclusive)))
        }
        Err(why) => Err(Rejected::new(expired, why)),
    }
}

/// The turn of a file with several names, until the claim ends, and the lease beside it.
#[derive(Debug)]
struct InTurn {
    lease: Option<Box<dyn Lease>>,
    _turn: Turn,
}

impl Lease for InTurn {
    fn is_valid(&self) -> bool {
        self.lease.as_ref().is_none_or(|lease| lease.is_valid())
    }
}

fn with_turn(lease: Option<Box<dyn Lease>>, turn: Option<Turn>) -> Option<Box<dyn Lease>> {
    match turn {
        None => lease,
        Some(turn) => Some(Box::new(InTurn { lease, _turn: turn })),
    }
}

/// The open entry, and whether its lock excludes every lock of another machine.
fn open_and_lock(expired: &Expired, files: FileLocks) -> Result<(Option<File>, bool), Rejection> {
    let Some(mut object) = open_object(expired, files)? else { return Ok((None, false)) };
    let mut is_exclusive = false;
    if files == FileLocks::Flock {
        (object, is_exclusive) = lock(expired, object)?;
    }
    // Only now: a lock is worth something only on the file that was judged.
    if !is_same(expired, &object)? {
        return Err(Rejection::Skipped(Skipped::Replaced));
    }
    // Where this kernel keeps it, it says nothing about locks of ranges and those of other machines.
    let storage = &expired.directory().storage;
    let is_exclusive = is_exclusive
        && storage.file_system == FileSystem::Nfs
        && storage.keeps_locks(file_system::nfs_keeps_locks);
    Ok((Some(object), is_exclusive))
}

/// Opens an entry. `None` for one that is never opened: a link cannot be locked, and to open a FIFO, a
/// socket or a device has side effects.
fn open_object(expired: &Expired, files: FileLocks) -> Result<Option<File>, Rejection> {
    let dir = &expired.directory().handle;
    // There the lock needs it, and to open the file twice costs several calls of the server.
    let locks_on_nfs =
        files == FileLocks::Flock && expired.directory().storage.file_system == FileSystem::Nfs;
    let is_private = || expired.directory().storage.is_private(|| open::is_private(dir));
    let open_file = || open::file(dir, expired.name(), is_private());
    let opened = match expired.metadata().kind {
        FileKind::File if locks_on_nfs => {
            open::file_for_writing(dir, expired.name(), is_private()).or_else(|_| open_file())
        }
        FileKind::File => open_file(),
        FileKind::Dir => open::dir(dir, expired.name(), Across::SameMount)
            .map(|opened| opened.handle)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        FileKind::Symlink | FileKind::Special => return Ok(None),
    };
    match opened {
        Ok(handle) => Ok(Some(handle.into())),
        Err(Errno::NOENT | Errno::STALE) => Err(Rejection::Skipped(Skipped::Gone)),
        // The name now belongs to a link, to a socket, or to a file where a directory was.
        Err(Errno::LOOP | Errno::NXIO | Errno::NOTDIR) => {
            Err(Rejection::Skipped(Skipped::Replaced))
        }
        Err(Errno::XDEV) => Err(Rejection::Skipped(Skipped::MountPoint)),
        // Another process holds a kernel lease on it.
        Err(Errno::WOULDBLOCK) => Err(Rejection::Skipped(Skipped::InUse)),
        Err(error) => Err(failure(expired, Action::Open, error.into())),
    }
}

/// Locks an open entry. The handle that the lock is held through, and whether it is an exclusive one.
fn lock(expired: &Expired, object: File) -> Result<(File, bool), Rejection> {
    let exclusive = lock_exclusively(object).map(|object| (object, true));
    let locked = exclusive.or_else(|(object, error)| {
        // The handle cannot be opened for writing. A shared lock is refused as long as another process holds
        // an exclusive one, and the question finds those that are shared.
        match Errno::from_io_error(&error) {
            Some(Errno::BADF) if lease::is_range_locked(&object) => Err(Errno::WOULDBLOCK.into()),
            Some(Errno::BADF) => FileExt::try_lock_shared(&object).map(|()| (object, false)),
            _ => Err(error),
        }
    });
    match locked {
        Ok(locked) => Ok(locked),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(Rejection::Skipped(Skipped::Locked))
        }
        Err(error) if error::is_gone(&error) => Err(Rejection::Skipped(Skipped::Gone)),
        Err(error) if is_unsupported(&error) => {
            let (path, why) = (&expired.directory().path, units::error(&error));
            // Without the locks of directories, `--lock none` does not help either.
            let is_down = Errno::from_io_error(&error) == Some(Errno::NOLCK);
            let advice = if is_down {
                "on NFS, start the lock service on both machines, or mount with local_lock=all if no other machine uses the volume"
            } else {
                "--lock none sweeps it without locks"
            };
            Err(Rejection::NoLock(format!(
                "locks do not work on the file system of {path:?} ({why}); {advice}"
            )))
        }
        Err(error) => Err(failure(expired, Action::Lock, error)),
    }
}

/// Takes the exclusive lock without waiting. On NFS that needs a handle that is open for writing, so such a
/// one is opened there, as `flock(1)` does. The error comes with the handle as it was: `EBADF` if it cannot
/// be opened for writing.
fn lock_exclusively(object: File) -> Result<File, (File, io::Error)> {
    // By its full name, because `File` has a method of the same name.
    match FileExt::try_lock_exclusive(&object) {
        Ok(()) => Ok(object),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::BADF) => {
            let Ok(writable) = open::for_writing(&object).map(File::from) else {
                return Err((object, error));
            };
            match FileExt::try_lock_exclusive(&writable) {
                Ok(()) => Ok(writable),
                Err(error) => Err((object, error)),
            }
        }
        Err(error) => Err((object, error)),
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    let unsupported = [Errno::NOLCK, Errno::OPNOTSUPP, Errno::NOSYS, Errno::BADF];
    Errno::from_io_error(error).is_some_and(|errno| unsupported.contains(&errno))
}

/// Whether the opened file is the one that was judged.
fn is_same(expired: &Expired, object: &File) -> Result<bool, Rejection> {
    match stat::id_and_mount(object) {
        Ok((id, _)) => Ok(id == expired.metadata().id),
        Err(error) if error::is_gone(&error) => Err(Rejection::Skipped(Skipped::Gone)),
        Err(error) => Err(failure(expired, Action::Stat, error)),
    }
}

fn failure(expired: &Expired, action: Action, error: io::Error) -> Rejection {
    let (directory, name) = (expired.directory(), expired.name());
    let hint = error::hint(&directory.handle, Some(name), action, &error);
    Rejection::Failed(directory.failure(action, Some(name), error, hint))
}

/// Why `sweeper hold` has no lock.
#[derive(Debug)]
pub enum NotHeld {
    /// The path does not exist or cannot be opened.
    OpenFailed(io::Error),
    /// Another process holds the lock.
    Locked,
    /// The system refuses the lock.
    LockFailed(io::Error),
}

/// Takes the lock of the file or directory at `path` for `sweeper hold`, and tries for at most `wait`.
/// Commands that are started meanwhile inherit the handle; the lock ends with the last of them.
///
/// # Errors
/// Why it is not held.
pub fn wait_for(path: &Path, wait: Duration) -> Result<File, NotHeld> {
    let start = Instant::now();
    loop {
        let object = File::from(open::file_or_dir(path).map_err(NotHeld::OpenFailed)?);
        match lock_exclusively(object) {
            // A sweeper may have removed the file meanwhile; then its name leads elsewhere.
            Ok(object) if has_name(&object, path)? => {
                fcntl_setfd(&object, FdFlags::empty())
                    .map_err(|error| NotHeld::LockFailed(error.into()))?;
                return Ok(object);
            }
            Ok(_) => {}
            Err((_, error)) if error.kind() == io::ErrorKind::WouldBlock => {
                if start.elapsed() >= wait {
                    return Err(NotHeld::Locked);
                }
                std::thread::sleep(RETRY_INTERVAL.min(wait));
            }
            Err((_, error)) if Errno::from_io_error(&error) == Some(Errno::BADF) => {
                return Err(NotHeld::LockFailed(io::Error::other(
                    "a file on a server can only be locked by a user who may write to it",
                )));
            }
            Err((_, error)) => return Err(NotHeld::LockFailed(error)),
        }
    }
}

/// Whether `path` leads to this open file.
fn has_name(object: &File, path: &Path) -> Result<bool, NotHeld> {
    let named = std::fs::metadata(path).map_err(NotHeld::OpenFailed)?;
    let held = object.metadata().map_err(NotHeld::LockFailed)?;
    Ok((named.dev(), named.ino()) == (held.dev(), held.ino()))
}

#[cfg(test)]
mod tests;
