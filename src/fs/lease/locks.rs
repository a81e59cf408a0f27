//! What `flock` says, and what the errors of questions about locks mean.
//!
//! This module must not wait for a lock.

use std::os::fd::AsFd;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::super::open;

/// Whether another process holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    Held,
    Free,
    Unsupported,
}

impl Lock {
    /// What an error of a question about a lock says: what the kernel could not say for the moment counts as a
    /// lock, and the next pass asks again.
    pub(super) const fn of(error: Errno) -> Self {
        match error {
            Errno::INVAL
            | Errno::NOSYS
            | Errno::OPNOTSUPP
            | Errno::NOLCK
            | Errno::BADF
            | Errno::ACCESS
            | Errno::PERM => Self::Unsupported,
            _ => Self::Held,
        }
    }
}

/// Whether the `flock` of an open directory or file is held through another handle. If not, it is held
/// through this handle from now on, unless the file system has no locks.
///
/// # Errors
/// The system does not tell.
pub fn is_locked(dir: impl AsFd) -> rustix::io::Result<bool> {
    let mut locked = flock(&dir, FlockOperation::NonBlockingLockExclusive);
    if locked == Err(Errno::INTR) {
        locked = flock(&dir, FlockOperation::NonBlockingLockExclusive);
    }
    match locked {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Whether the `flock` of a file is held through another handle. If not, it is held through this one from now on.
pub(super) fn by_flock(file: impl AsFd) -> Lock {
    // A lock that this handle holds already stays; a new one ends when the handle is closed.
    let exclusive = FlockOperation::NonBlockingLockExclusive;
    let mut locked = flock(&file, exclusive);
    if locked == Err(Errno::BADF)
        && let Ok(writable) = open::for_writing(&file)
    {
        // NFS asks for the right to write. Only when it is used another machine, to which the server has left
        // the locks of the file, gives them up.
        locked = flock(writable, exclusive);
    }
    match locked {
        Ok(()) => Lock::Free,
        Err(Errno::WOULDBLOCK) => Lock::Held,
        Err(error) => Lock::of(error),
    }
}
