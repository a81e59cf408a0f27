//! Asks the kernel whether somebody has a file open or locked.
//!
//! It must not block, read, or leave anything behind. A write lease (`F_SETLEASE` with `F_WRLCK`, see
//! `fcntl(2)`) is granted only when no other open file description of the inode exists on this
//! kernel, in any container or namespace. It ends with our handle, which is closed as soon as the file
//! is removed or let be; giving it back by a call of its own would be the ninth of nine calls for a file
//! that goes, and one of four in the survey of a tree. Whoever opens the file in those microseconds waits
//! that long, or with `O_NONBLOCK` gets `EWOULDBLOCK`. A granted lease also means
//! that nobody holds a lock, for a lock needs an open file. Where leases are refused (another user's
//! file without `CAP_LEASE`, NFS, FUSE), locks are all that can be asked about.
//!
//! This is the one module with `unsafe`: neither std nor rustix has `F_SETLEASE`, `F_OFD_GETLK` or a
//! way to ignore a signal.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock, fstatfs};
use rustix::io::Errno;

/// The kernel's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InUse {
    /// Nobody but us has it open.
    Free,
    /// Somebody has it open.
    Open,
    /// Somebody has it open and holds a lock on it.
    Locked,
    /// The system does not tell.
    Unknown,
}

/// Ignores SIGIO, whose default action would end us when somebody opens a file that we hold a lease
/// on. To be called once before the first [`probe`].
#[expect(unsafe_code, reason = "signal(2) has no safe wrapper in std or rustix")]
pub fn ignore_lease_breaks() {
    // SAFETY: SIG_IGN is no handler, so no code of ours runs in signal context.
    unsafe {
        libc::signal(libc::SIGIO, libc::SIG_IGN);
    }
}

/// Asks about an open regular file that has `links` names.
pub fn probe(file: &File, links: u64) -> InUse {
    match lease(file) {
        Lease::Granted => {
            if links > 1 {
                // Not to be in the way of another worker of ours that comes by another of its names.
                let _ = set_lease(file, libc::F_UNLCK);
            }
            InUse::Free
        }
        // NFS and SMB refuse every lease in these words.
        Lease::Refused if is_remote(file) => unless_locked(file),
        Lease::Refused if links > 1 => {
            // Another worker of ours may have it open through another of its names, for microseconds, or
            // for as long as it does not get to run.
            let granted = (0..5).any(|_| {
                std::thread::sleep(Duration::from_millis(1));
                lease(file) == Lease::Granted
            });
            if granted { InUse::Free } else { held(file) }
        }
        Lease::Refused => held(file),
        Lease::NotToBeHad => unless_locked(file),
    }
}

/// Where leases are not to be had, locks are all that can be asked about.
fn unless_locked(file: &File) -> InUse {
    match lock(file) {
        Lock::Held => InUse::Locked,
        Lock::Free | Lock::NotToBeHad => InUse::Unknown,
    }
}

/// Whether anybody else holds the `flock` of an open directory. If not we do, until it is closed.
pub fn is_held(dir: impl AsFd) -> bool {
    flock(dir, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK)
}

/// Whether a file lies on a server, by the magic numbers of `statfs(2)`.
fn is_remote(file: &File) -> bool {
    const NFS: i64 = 0x6969;
    const SMB: [i64; 3] = [0x517b, 0xff53_4d42, 0xfe53_4d42];
    let Ok(found) = fstatfs(file) else { return false };
    let magic = found.f_type & 0xffff_ffff;
    magic == NFS || SMB.contains(&magic)
}

/// Somebody has it open; is it also locked? Not asked by `flock`, which would take a lock for a moment
/// under the eyes of whoever has the file open.
fn held(file: &File) -> InUse {
    if record_lock(file) == Lock::Held { InUse::Locked } else { InUse::Open }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lease {
    Granted,
    Refused,
    NotToBeHad,
}

fn lease(file: &File) -> Lease {
    match set_lease(file, libc::F_WRLCK) {
        Ok(()) => Lease::Granted,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Lease::Refused,
        Err(_) => Lease::NotToBeHad,
    }
}

#[expect(unsafe_code, reason = "F_SETLEASE has no safe wrapper in std or rustix")]
fn set_lease(file: &File, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and the argument is a number.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lock {
    Held,
    Free,
    NotToBeHad,
}

/// `flock` and `fcntl` locks do not see each other on a local file system, so both are asked.
fn lock(file: &File) -> Lock {
    match record_lock(file) {
        Lock::Free => {}
        known @ (Lock::Held | Lock::NotToBeHad) => return known,
    }
    // On a lock of ours this is a no-op; one that we did not have goes when the file is closed.
    match flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Lock::Free,
        Err(Errno::WOULDBLOCK) => Lock::Held,
        Err(_) => Lock::NotToBeHad,
    }
}

#[expect(unsafe_code, reason = "F_OFD_GETLK has no safe wrapper in std or rustix")]
fn record_lock(file: &File) -> Lock {
    // A lock over the whole file, asked for on behalf of this open file description.
    // SAFETY: `flock` is a plain C struct of integers, for which all zeroes is a value.
    let mut wanted: libc::flock = unsafe { std::mem::zeroed() };
    wanted.l_type = i16::try_from(libc::F_WRLCK).unwrap_or_default();
    wanted.l_whence = i16::try_from(libc::SEEK_SET).unwrap_or_default();
    // SAFETY: the descriptor is open, and the pointer is to a live struct of the type that
    // F_OFD_GETLK reads and writes.
    let result = unsafe {
        libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, std::ptr::from_mut(&mut wanted))
    };
    if result == -1 {
        Lock::NotToBeHad
    } else if libc::c_int::from(wanted.l_type) == libc::F_UNLCK {
        Lock::Free
    } else {
        Lock::Held
    }
}
