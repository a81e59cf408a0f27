//! The advisory lock on the object itself, as `flock(1)` and the exporters in shell take it.
//!
//! It must not wait: a lock that is held is reported as busy, and the line comes back to it. The
//! object is opened relative to its directory, locked, and then compared with what was sighted: a
//! name can be given to another file between the look and the lock, and the lock is only worth
//! something on the file that was judged. The lock ends with the handle, after the removal.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use fs2::FileExt;
use rustix::io::Errno;

use crate::condemn::{Claim, Guard, Off, Reprieve, Spared, Stale};
use crate::look::{self, Across};
use crate::retention::Kind;

/// Locks a stale entry.
pub(super) fn claim(stale: Stale) -> Result<Claim, Reprieve> {
    let Some(object) = open(&stale) else { return Ok(super::without_lock(stale)) };
    match object.and_then(|object| lock(&stale, object)) {
        Ok(object) => Ok(Claim::new(stale, Guard::of(object))),
        Err(why) => Err(Reprieve::of(stale, why)),
    }
}

/// Opens a stale entry without locking it, for those who asked for no locks.
pub(super) fn open_unlocked(stale: Stale) -> Result<Claim, Reprieve> {
    let Some(object) = open(&stale) else { return Ok(super::without_lock(stale)) };
    match object {
        Ok(object) => Ok(Claim::new(stale, Guard::of(object))),
        Err(why) => Err(Reprieve::of(stale, why)),
    }
}

/// Opens the object; nothing for what is never opened.
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
    match FileExt::try_lock_exclusive(&object) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(Off::Spared(Spared::Busy));
        }
        Err(error) => {
            return Err(match Errno::from_io_error(&error) {
                Some(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::BADF) => {
                    Off::NoLock(format!(
                        "the file system of {:?} does not lock files ({error}); --lock none \
                         sweeps it without",
                        place.path
                    ))
                }
                _ => Off::Failed(look::failure(
                    place,
                    &place.handle,
                    "lock",
                    Some(stale.name()),
                    error,
                )),
            });
        }
    }
    match object.metadata() {
        Ok(locked) if locked.ino() == stale.facts().id.ino => Ok(object),
        Ok(_) => Err(Off::Spared(Spared::Replaced)),
        Err(error) => Err(Off::Failed(look::failure(
            place,
            &place.handle,
            "look at",
            Some(stale.name()),
            error,
        ))),
    }
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
        let object = File::open(path).map_err(NotHeld::NotThere)?;
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
