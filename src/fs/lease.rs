//! Asks the kernel whether another process has a file open or locked.
//!
//! It must not block, read, or leave anything behind. A write lease (`F_SETLEASE` with `F_WRLCK`, see
//! `fcntl(2)`) is granted only when no other open file description of the inode exists on this kernel, in
//! any container or namespace. A granted lease also means that no other process holds a lock, since a lock
//! needs an open file. While the lease is held, a process that opens the file waits until it ends (with
//! `O_NONBLOCK` it gets `EWOULDBLOCK`), and the holder can see that ([`is_kept`]). It ends when the handle is
//! closed. Where leases are refused (files of other users without `CAP_LEASE`, NFS), or say nothing about those
//! who use the file in another way (FUSE, other machines), only locks can be asked about.
//!
//! - [`turn`]: workers of this process that meet at a file with several names.
//!
//! This is the one module with `unsafe`: neither std nor rustix has `F_SETLEASE`, `F_GETLEASE`,
//! `F_OFD_GETLK` or a way to ignore a signal.

pub mod turn;

use std::cell::Cell;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, flock, fstatfs};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Resource, getrlimit};

use super::open;
use crate::rules::Metadata;
use turn::Turn;

/// How many descriptors [`make_room`] makes room for.
const ROOM: i32 = 8192;

/// Whether files that another process has open are skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InUseProbe {
    /// Ask the kernel, and skip them.
    On,
    /// Do not ask: age and locks decide.
    Off,
}

/// The kernel's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InUse {
    /// No other process has it open.
    Free,
    /// Another process has it open.
    Open,
    /// Another process has it open and holds a lock on it.
    Locked,
    /// The system does not tell.
    Unknown,
}

/// Ignores SIGIO, whose default action ends the process when another one opens a file that a lease is held
/// on. To be called before the first [`probe`] of a pass: what was known about file systems is asked again.
#[expect(unsafe_code, reason = "signal(2) has no safe wrapper in std or rustix")]
pub fn ignore_lease_breaks() {
    PASS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: SIG_IGN is not a handler, so no code runs in signal context.
    unsafe {
        libc::signal(libc::SIGIO, libc::SIG_IGN);
    }
}

/// How many files may be kept open under leases at the same time, while `workers` walk through trees: half
/// of what the limit on open files leaves to them, and no more than a few trees need.
pub fn affordable(workers: usize) -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    affordable_within(limit, workers)
}

fn affordable_within(limit: usize, workers: usize) -> usize {
    /// What a walk through a deep tree keeps open.
    const EACH: usize = 16;
    /// The directories of zones, locks, the report, and what was inherited.
    const OTHERS: usize = 128;
    (limit.saturating_sub(OTHERS).saturating_sub(workers.saturating_mul(EACH)) / 2).min(8192)
}

/// Asks about an open regular file, on the device `dev`, that has `links` names. When the answer is
/// [`InUse::Free`] and the file has no other name, the lease is held until the handle is closed. If it has
/// other names, the caller has its [`Turn`].
pub fn probe(file: impl AsFd, dev: u64, links: u64) -> InUse {
    let file = file.as_fd();
    let meaning = meaning_on(file, dev);
    let mut answer = take(file);
    if answer == Answer::Refused && links > 1 && meaning != Meaning::Nothing {
        // Another worker may have it open by another of its names, without having looked at it yet.
        let _alone = turn::without_transients();
        answer = take(file);
    }
    match (answer, meaning) {
        (Answer::Granted, Meaning::All) => {
            if links > 1 {
                // A worker that comes by another of its names must not break it.
                give_back(file);
            }
            InUse::Free
        }
        (Answer::Granted, Meaning::Refusal | Meaning::Nothing) => {
            give_back(file);
            unless_locked(file)
        }
        (Answer::Refused, Meaning::All | Meaning::Refusal) => open_or_locked(file),
        (Answer::Refused, Meaning::Nothing) | (Answer::Unsupported, _) => unless_locked(file),
    }
}

/// Asks about the regular file `name` in `dir`, and holds no lease.
///
/// # Errors
/// It cannot be opened, for a reason that tells nothing.
pub fn probe_at(dir: impl AsFd, name: &CStr, metadata: &Metadata) -> rustix::io::Result<InUse> {
    let _turn = (metadata.links > 1).then(|| Turn::of(metadata.id));
    match open::file(dir, name) {
        Ok(handle) => Ok(probe(&handle, metadata.id.dev, metadata.links)),
        // Gone, or something else by now: the removal looks at it again.
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => Ok(InUse::Free),
        // A lease of another process, or a program that is being written or run.
        Err(Errno::WOULDBLOCK | Errno::TXTBSY) => Ok(InUse::Open),
        Err(Errno::ACCESS | Errno::PERM) => Ok(InUse::Unknown),
        Err(error) => Err(error),
    }
}

/// Whether the lease that [`probe`] took on this handle is still undisturbed: no other process has opened
/// the file since.
///
/// # Errors
/// The system does not tell.
pub fn is_kept(file: impl AsFd) -> io::Result<bool> {
    Ok(get_lease(file)? == libc::F_WRLCK)
}

/// Makes room for the descriptors of many leases. To be called before threads are started: whenever the kernel
/// doubles the table of descriptors of a process with several threads, it waits for all processors
/// (`expand_files` in its `fs/file.c`).
pub fn make_room(any: impl AsFd) {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let last = i32::try_from(limit.saturating_sub(1)).unwrap_or(i32::MAX).min(ROOM);
    // The table stays as large when this is closed. If it is refused, the table grows later.
    let _ = fcntl_dupfd_cloexec(any, last);
}

/// Where leases are not supported, only locks can be asked about.
fn unless_locked(file: impl AsFd) -> InUse {
    match lock(file) {
        Lock::Held => InUse::Locked,
        Lock::Free | Lock::Unsupported => InUse::Unknown,
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

/// What a lease says on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// A lease that is granted: no other process has the file open. One that is refused: another has.
    All,
    /// One that is refused says that another process on this machine has it open. One that is granted says
    /// nothing about those who use the file in another way: other machines, or what is behind FUSE.
    Refusal,
    /// Every lease is refused.
    Nothing,
}

/// Counts the passes, whose knowledge of file systems is their own.
static PASS: AtomicU64 = AtomicU64::new(0);

/// What a lease says on the file system of an open file, which has this device number.
fn meaning_on(file: BorrowedFd<'_>, dev: u64) -> Meaning {
    thread_local! {
        static LAST: Cell<Option<(u64, u64, Meaning)>> = const { Cell::new(None) };
    }
    let pass = PASS.load(Ordering::Relaxed);
    match LAST.get() {
        Some((known, of, meaning)) if (known, of) == (pass, dev) => meaning,
        _ => {
            let meaning = fstatfs(file).map_or(Meaning::Refusal, |found| meaning_of(found.f_type));
            LAST.set(Some((pass, dev, meaning)));
            meaning
        }
    }
}

/// By the magic numbers of `statfs(2)`. On a file system that is not known to be local, a lease proves nothing.
fn meaning_of(magic: i64) -> Meaning {
    /// ext2 to ext4, xfs, btrfs, tmpfs, overlayfs, f2fs, zfs, bcachefs, jfs, reiserfs, nilfs, ramfs, FAT, exFAT,
    /// ntfs3, udf, squashfs, erofs, ecryptfs.
    const LOCAL: [i64; 19] = [
        0xef53,
        0x5846_5342,
        0x9123_683e,
        0x0102_1994,
        0x794c_7630,
        0xf2f5_2010,
        0x2fc1_2fc1,
        0xca45_1a4e,
        0x3153_464a,
        0x5265_4973,
        0x3434,
        0x8584_58f6,
        0x4d44,
        0x2011_bab0,
        0x7366_746e,
        0x1501_3346,
        0x7371_7368,
        0xe0f5_e1e2,
        0xf15f,
    ];
    /// NFS and SMB refuse every lease, or every one that would mean something.
    const REFUSING: [i64; 4] = [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42];
    let magic = magic & 0xffff_ffff;
    if LOCAL.contains(&magic) {
        Meaning::All
    } else if REFUSING.contains(&magic) {
        Meaning::Nothing
    } else {
        Meaning::Refusal
    }
}

/// Another process has it open; is it also locked? `flock` is not tried, since it would take the lock for a
/// moment while the other process has the file open.
fn open_or_locked(file: impl AsFd) -> InUse {
    if record_lock(file) == Lock::Held { InUse::Locked } else { InUse::Open }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Granted,
    Refused,
    Unsupported,
}

fn take(file: impl AsFd) -> Answer {
    match set_lease(file, libc::F_WRLCK) {
        Ok(()) => Answer::Granted,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Answer::Refused,
        Err(_) => Answer::Unsupported,
    }
}

/// Gives back a lease, if there is one on this handle.
fn give_back(file: impl AsFd) {
    let _ = set_lease(file, libc::F_UNLCK);
}

#[expect(unsafe_code, reason = "F_SETLEASE has no safe wrapper in std or rustix")]
fn set_lease(file: impl AsFd, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and the argument is a number.
    let result = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_SETLEASE, kind) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[expect(unsafe_code, reason = "F_GETLEASE has no safe wrapper in std or rustix")]
fn get_lease(file: impl AsFd) -> io::Result<libc::c_int> {
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and there is no argument.
    let result = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_GETLEASE) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lock {
    Held,
    Free,
    Unsupported,
}

/// `flock` and `fcntl` locks do not see each other on a local file system, so both are asked.
fn lock(file: impl AsFd) -> Lock {
    match record_lock(&file) {
        Lock::Free => {}
        known @ (Lock::Held | Lock::Unsupported) => return known,
    }
    // A lock that this handle holds already stays; a new one ends when the handle is closed.
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Lock::Free,
        Err(Errno::WOULDBLOCK) => Lock::Held,
        Err(_) => Lock::Unsupported,
    }
}

#[expect(unsafe_code, reason = "F_OFD_GETLK has no safe wrapper in std or rustix")]
fn record_lock(file: impl AsFd) -> Lock {
    // A lock over the whole file, asked for on behalf of this open file description.
    // SAFETY: `flock` is a plain C struct of integers, for which all zeroes is a value.
    let mut wanted: libc::flock = unsafe { std::mem::zeroed() };
    wanted.l_type = i16::try_from(libc::F_WRLCK).unwrap_or_default();
    wanted.l_whence = i16::try_from(libc::SEEK_SET).unwrap_or_default();
    // SAFETY: the descriptor is open, and the pointer is to a live struct of the type that F_OFD_GETLK
    // reads and writes.
    let result = unsafe {
        libc::fcntl(file.as_fd().as_raw_fd(), libc::F_OFD_GETLK, std::ptr::from_mut(&mut wanted))
    };
    if result == -1 {
        Lock::Unsupported
    } else if libc::c_int::from(wanted.l_type) == libc::F_UNLCK {
        Lock::Free
    } else {
        Lock::Held
    }
}

#[cfg(test)]
mod tests;
