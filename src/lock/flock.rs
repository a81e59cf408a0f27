//! The advisory lock on the object itself, as `flock(1)` and the exporters in shell take it.
//!
//! It must not wait: a lock that is held is reported as busy, and the line comes back to it. The
//! object is opened relative to its directory, locked, and then compared with what was sighted: a
//! name can be given to another file between the look and the lock, and the lock is only worth
//! something on the file that was judged. The lock ends with the handle, after the removal.

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use fs2::FileExt;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::FileLocks;
use crate::condemn::{Claim, Guard, Lasting, Off, Reprieve, Spared, Stale};
use crate::look::{self, Across};
use crate::retention::Kind;

/// Opens a stale entry and locks it, unless no locks were asked for, with a lease beside it.
pub(super) fn claim(
    stale: Stale,
    files: FileLocks,
    lease: Option<Box<dyn Lasting>>,
) -> Result<Claim, Reprieve> {
    let object = open(&stale).transpose().and_then(|object| match object {
        Some(object) if files == FileLocks::Flock => lock(&stale, object).map(Some),
        object => Ok(object),
    });
    let object = object.and_then(|object| match &object {
        Some(handle) if !is_same(&stale, handle)? => Err(Off::Spared(Spared::Replaced)),
        _ => Ok(object),
    });
    match object {
        Ok(object) => Ok(Claim::new(stale, Guard::of(object, lease))),
        Err(why) => Err(Reprieve::of(stale, why)),
    }
}

/// Whether what was opened is what was sighted.
fn is_same(stale: &Stale, object: &File) -> Result<bool, Off> {
    let place = stale.place();
    let found = look::through(object, place.mount).map_err(|error| {
        let name = Some(stale.name());
        Off::Failed(look::failure(place, &place.handle, "look at", name, error))
    })?;
    Ok(found.id == stale.facts().id)
}

/// Opens the object; nothing for what is never opened: nobody can hold a lock on a link, and opening a
/// FIFO, a socket or a device does something.
fn open(stale: &Stale) -> Option<Result<File, Off>> {
    let place = stale.place();
    let opened = match stale.facts().kind {
        Kind::File => look::open_file(&place.handle, stale.name()),
        Kind::Dir => look::open_dir(&place.handle, stale.name(), Across::SameMount)
            .map(|opened| opened.handle)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        Kind::Symlink | Kind::Special => return None,
    };
    Some(opened.map(File::from).map_err(|error| match error {
        Errno::NOENT => Off::Spared(Spared::Gone),
        // A link, a socket or a file where a directory was.
        Errno::LOOP | Errno::NXIO | Errno::NOTDIR => Off::Spared(Spared::Replaced),
        Errno::XDEV => Off::Spared(Spared::Mounted),
        // Somebody holds a lease on it.
        Errno::WOULDBLOCK => Off::Spared(Spared::InUse),
        error => Off::Failed(look::failure(
            place,
            &place.handle,
            "open for its lock",
            Some(stale.name()),
            error,
        )),
    }))
}

fn lock(stale: &Stale, object: File) -> Result<File, Off> {
    let place = stale.place();
    // By its full name: std's own lock methods would shadow it.
    let locked = FileExt::try_lock_exclusive(&object).or_else(|error| {
        // On NFS the exclusive lock needs a handle for writing; the shared one is refused just as well
        // while an exporter holds its own.
        match Errno::from_io_error(&error) {
            Some(Errno::BADF) => FileExt::try_lock_shared(&object),
            _ => Err(error),
        }
    });
    match locked {
        Ok(()) => Ok(object),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Off::Spared(Spared::Busy)),
        Err(error) if is_unsupported(&error) => Err(Off::NoLock(format!(
            "the file system of {:?} does not lock files ({error}); --lock none sweeps it without",
            place.path
        ))),
        Err(error) => {
            let name = Some(stale.name());
            Err(Off::Failed(look::failure(place, &place.handle, "lock", name, error)))
        }
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    let unsupported = [Errno::NOLCK, Errno::OPNOTSUPP, Errno::NOSYS, Errno::BADF];
    Errno::from_io_error(error).is_some_and(|errno| unsupported.contains(&errno))
}

/// Why a path is not held.
#[derive(Debug)]
pub enum NotHeld {
    /// There is nothing at that path to lock, or it may not be opened.
    NotThere(io::Error),
    /// Somebody else holds it.
    Busy,
    /// The file system does not lock.
    Failed(io::Error),
}

/// Takes the lock of the object at `path`, for `sweeper hold`, trying for at most `wait`. The handle
/// is inherited by commands that are run meanwhile, and the lock ends with the last of them.
///
/// # Errors
/// It is not held.
pub fn wait_for(path: &Path, wait: Duration) -> Result<File, NotHeld> {
    let start = Instant::now();
    loop {
        // Not to wait for the other end of a FIFO.
        let object = File::options()
            .read(true)
            .custom_flags(
                OFlags::NONBLOCK.bits().cast_signed() | OFlags::NOCTTY.bits().cast_signed(),
            )
            .open(path)
            .map_err(NotHeld::NotThere)?;
        match FileExt::try_lock_exclusive(&object) {
            Ok(()) => {
                // A sweep may have removed what we waited for: its name then leads elsewhere.
                let here = std::fs::metadata(path).map_err(NotHeld::NotThere)?;
                let held = object.metadata().map_err(NotHeld::Failed)?;
                if (here.dev(), here.ino()) == (held.dev(), held.ino()) {
                    rustix::io::fcntl_setfd(&object, rustix::io::FdFlags::empty())
                        .map_err(|error| NotHeld::Failed(error.into()))?;
                    return Ok(object);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if start.elapsed() >= wait {
                    return Err(NotHeld::Busy);
                }
                std::thread::sleep(Duration::from_millis(20).min(wait));
            }
            Err(error) => return Err(NotHeld::Failed(error)),
        }
    }
}
