//! What a private directory needs on a file system that a server keeps.
//!
//! This module must not be used on a local file system, where the kernel knows by itself who holds a lock, whose
//! a directory is, and what time it is.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FlockOperation, Mode, OFlags, RawDir, flock, openat};
use rustix::io::Errno;

use super::super::unlink::remove_file;
use super::errors::NotDetached;
use crate::fs::open::{self, Across};
use crate::fs::stat;
use crate::rules::Moment;

/// The name of the lock in a private directory. On NFS the lock of a directory is known to one machine only,
/// and that of a file to all.
pub(super) const LOCK: &CStr = c"lock";

/// The lock of a private directory, held until this is dropped.
#[derive(Debug)]
pub(super) struct ServerLock {
    handle: OwnedFd,
}

impl ServerLock {
    /// Takes the lock in the private directory `top`. `None`: a process on another machine holds it.
    pub(super) fn take(top: impl AsFd) -> Result<Option<Self>, NotDetached> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = |more| openat(&top, LOCK, flags | more, Mode::RUSR | Mode::WUSR);
        let (handle, is_new) = match open(OFlags::EXCL) {
            Err(Errno::EXIST) => (open(OFlags::empty()).map_err(NotDetached::of)?, false),
            opened => (opened.map_err(NotDetached::of)?, true),
        };
        let lock = Self { handle };
        match flock(&lock.handle, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(lock)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => {
                // The file of another process stays: that may have got its lock.
                if is_new {
                    lock.release(top);
                }
                Err(match error {
                    // A server without locks says this.
                    Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP => NotDetached::of(error),
                    _ => NotDetached::of_lock(error),
                })
            }
        }
    }

    /// Whether another process holds the lock in the private directory `top`, as far as is known.
    pub(super) fn is_held(top: impl AsFd) -> bool {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(handle) = openat(top, LOCK, flags, Mode::empty()) else { return false };
        flock(&handle, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK)
    }

    /// The server's time when the lock was made.
    pub(super) fn made(&self) -> io::Result<Moment> {
        Ok(stat::handle(&self.handle, 0)?.mtime)
    }

    /// Releases the lock and removes its file, which is closed before: NFS would keep it under another name.
    pub(super) fn release(self, top: impl AsFd) {
        drop(self.handle);
        let _ = remove_file(top, LOCK);
    }
}

/// The inode number that a name in `dir` has by its listing. On NFS that comes from the server, if the directory
/// was changed through this kernel just before. Where names are looked up the kernel answers by itself: after a
/// rename it believes that the file that it knew has the new name, although another machine may have given the
/// old name to another file.
pub(super) fn listed_inode(dir: impl AsFd, name: &CStr) -> io::Result<Option<u64>> {
    // Through `.`, so that the listing has a position of its own.
    let listed = open::dir(dir, c".", Across::SameMount)?.handle;
    let mut buffer = Vec::with_capacity(16 * 1024);
    let mut entries = RawDir::new(&listed, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if entry.file_name() == name {
            return Ok(Some(entry.ino()));
        }
    }
    Ok(None)
}
