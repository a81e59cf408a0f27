//! Asks the kernel whether another process has a file open or locked.
//!
//! This module must not block, read, or leave anything behind. A write lease (`F_SETLEASE` with `F_WRLCK`, see
//! `fcntl(2)`) is granted only when no other open file description of the inode exists on this kernel, in
//! any container or namespace. A granted lease also means that no other process holds a lock, since a lock
//! needs an open file. While the lease is held, a process that opens the file waits until it ends (with
//! `O_NONBLOCK` it gets `EWOULDBLOCK`), and the holder can see that ([`is_undisturbed`]). It ends when the handle is
//! closed. Where leases are refused (files of other users without `CAP_LEASE`, NFS), or say nothing about those
//! who use the file in another way (FUSE, other machines), only locks can be asked about.
//!
//! - [`breaks`]: whether any lease was broken, without asking about each.
//! - `locks`: what `flock` says.
//! - `room`: how many files may be open at the same time.
//! - [`turn`]: workers of this process that meet at a file with several names.
//!
//! This is the one module with `unsafe`: neither std nor rustix has `F_SETLEASE`, `F_GETLEASE`,
//! `F_OFD_GETLK`, `close_range` or a way to ignore a signal, to see whether it is pending, or to take it without waiting.

pub mod breaks;
mod locks;
mod room;
pub mod turn;

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Once;

use rustix::io::Errno;

use super::{open, stat};
use crate::rules::{FileSystem, Metadata};
pub use locks::is_locked;
use locks::{Lock, by_flock};
pub use room::{affordable, make_room};
use turn::Turn;

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
/// on. To be called before the first [`probe`]. It acts once: whenever a signal is ignored, the kernel forgets one that
/// is pending.
#[expect(unsafe_code, reason = "signal(2) has no safe wrapper in std or rustix")]
pub fn ignore_lease_breaks() {
    static ONCE: Once = Once::new();
    // SAFETY: SIG_IGN is not a handler, so no code runs in signal context.
    ONCE.call_once(|| unsafe {
        libc::signal(libc::SIGIO, libc::SIG_IGN);
    });
}

/// Whether a SIGIO is pending, which all threads have to block; `None` if the system does not tell.
#[expect(unsafe_code, reason = "sigpending(2) has no safe wrapper in std or rustix")]
fn is_pending() -> Option<bool> {
    // SAFETY: a set of signals is a plain C struct of integers, for which all zeroes is a value; the system writes to it,
    // and only reads it afterwards.
    unsafe {
        let mut pending: libc::sigset_t = std::mem::zeroed();
        let is_told = libc::sigpending(&raw mut pending) == 0;
        is_told.then(|| libc::sigismember(&raw const pending, libc::SIGIO) == 1)
    }
}

/// Blocks SIGIO in this thread and in those that it starts. Whether that succeeded.
#[expect(unsafe_code, reason = "pthread_sigmask(3) has no safe wrapper in std or rustix")]
fn block() -> bool {
    let only = only_sigio();
    // SAFETY: the set is initialized, and null says that the former one is not to be written.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const only, std::ptr::null_mut()) == 0 }
}

/// Takes a SIGIO that is pending, if there is one.
#[expect(unsafe_code, reason = "sigtimedwait(2) has no safe wrapper in std or rustix")]
fn take_pending() {
    let (only, at_once) = (only_sigio(), libc::timespec { tv_sec: 0, tv_nsec: 0 });
    // SAFETY: both are initialized, and null says that nothing is to be written. It returns at once.
    unsafe {
        libc::sigtimedwait(&raw const only, std::ptr::null_mut(), &raw const at_once);
    }
}

#[expect(unsafe_code, reason = "sets of signals have no safe functions in libc")]
fn only_sigio() -> libc::sigset_t {
    // SAFETY: a set of signals is a plain C struct of integers, for which all zeroes is a value.
    unsafe {
        let mut only: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut only);
        libc::sigaddset(&raw mut only, libc::SIGIO);
        only
    }
}

/// Asks about an open regular file that has `links` names. If it has several, the caller has its [`Turn`].
///
/// On a local file system, [`InUse::Free`] means that a lease was granted. It is held until the handle is closed
/// if the file has only one name.
///
/// On other file systems a granted lease says nothing about other machines, or about what is behind FUSE. A
/// refused one means that another process on this machine has the file open, except on NFS and SMB, which also
/// refuse leases for other reasons. No lease is held there: on SMB our own removal would wait for its end.
pub fn probe(file: impl AsFd, file_system: FileSystem, links: u64) -> InUse {
    let file = file.as_fd();
    if file_system == FileSystem::Nfs {
        return unless_locked(file);
    }
    let mut answer = take(file);
    if answer == Answer::Refused && links > 1 {
        // Another worker may have it open by another of its names, without having looked at it yet.
        let _alone = turn::without_transients();
        answer = take(file);
    }
    if answer == Answer::Granted && (links > 1 || file_system.is_served()) {
        // A worker that comes by another of its names must not break it.
        give_back(file);
    }
    match (answer, file_system) {
        (Answer::Granted, FileSystem::Local) => InUse::Free,
        // There our own `flock` looks like the lock of another process.
        (Answer::Granted, FileSystem::Smb) => InUse::Unknown,
        (Answer::Refused, FileSystem::Smb) | (Answer::Granted | Answer::Unsupported, _) => {
            unless_locked(file)
        }
        // It counts as open: a file that is not known to be free stays.
        (Answer::Refused | Answer::Unclear, _) => open_or_locked(file),
    }
}

/// The same, of a worker that has the [`Turn`] of the file only if that has several names. If it has one and is in use,
/// another worker may have removed a second name a moment ago, and still have the file open: it is waited for.
pub fn probe_after_others(file: impl AsFd, file_system: FileSystem, metadata: &Metadata) -> InUse {
    let answer = probe(&file, file_system, metadata.links);
    if metadata.links > 1 || !matches!(answer, InUse::Open | InUse::Locked) {
        return answer;
    }
    drop(Turn::of(metadata.id));
    probe(&file, file_system, metadata.links)
}

/// Asks about the regular file `name` in `dir`, which a look has found with this metadata, and holds no lease. If another
/// file has the name by now, or this one was used since, that counts as open: the turn may have come much later than the
/// look.
///
/// # Errors
/// It cannot be opened or looked at, for a reason that tells nothing.
pub fn probe_at(
    dir: impl AsFd,
    name: &CStr,
    file_system: FileSystem,
    metadata: &Metadata,
) -> rustix::io::Result<InUse> {
    let _turn = (metadata.links > 1).then(|| Turn::of(metadata.id));
    match open::file(&dir, name, open::is_private(&dir)) {
        Ok(handle) => {
            let answer = probe_after_others(&handle, file_system, metadata);
            let is_asked = matches!(answer, InUse::Free | InUse::Unknown);
            if is_asked && !is_as_found(&handle, metadata)? {
                return Ok(InUse::Open);
            }
            Ok(answer)
        }
        // It is gone.
        Err(Errno::NOENT) => Ok(InUse::Free),
        Err(Errno::STALE) if !stat::exists(&dir, name) => Ok(InUse::Free),
        // Something else has its name, or a lease of another process, or a program that is being written or run.
        Err(Errno::LOOP | Errno::NXIO | Errno::WOULDBLOCK | Errno::TXTBSY) => Ok(InUse::Open),
        Err(Errno::ACCESS | Errno::PERM) => Ok(InUse::Unknown),
        Err(error) => Err(error),
    }
}

/// Whether this is the file that a look has found, not read and not written since.
fn is_as_found(file: impl AsFd, before: &Metadata) -> rustix::io::Result<bool> {
    let now =
        stat::handle(file, 0).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let of = |metadata: &Metadata| (metadata.id, metadata.mtime, metadata.atime);
    Ok(of(&now) == of(before))
}

/// Whether no other process has opened the file since [`probe`] took the lease on this handle, or is about to.
/// `were_none`: no lease was broken ([`breaks::were_none`]), so this one need not be asked about.
///
/// The lease is asked for again, too. A process that opens the file counts before it breaks the lease, and may have to
/// wait in between: while another one reads `/proc/locks`, or for the answer of a virus scanner (`do_dentry_open` in the
/// kernel's `fs/open.c`). Until then nothing else tells of it. That alone is not enough: a new lease is granted if the
/// process that has broken the old one has gone again.
///
/// # Errors
/// The kernel cannot say.
pub fn is_undisturbed(file: impl AsFd, were_none: bool) -> io::Result<bool> {
    Ok((were_none || is_kept(&file)?) && is_still_free(file)?)
}

fn is_kept(file: impl AsFd) -> io::Result<bool> {
    Ok(get_lease(file)? == libc::F_WRLCK)
}

fn is_still_free(file: impl AsFd) -> io::Result<bool> {
    match take(&file) {
        Answer::Granted => Ok(true),
        Answer::Refused => Ok(false),
        Answer::Unsupported | Answer::Unclear => set_lease(file, libc::F_WRLCK).map(|()| true),
    }
}

/// Gives a thread that only waits a table of descriptors of its own, with nothing in it but the standard streams. As long
/// as threads share a table, each call on a descriptor costs all of them more (`fdget` in the kernel's `fs/file.c`).
/// To be called by a new thread, which uses no other descriptor from then on. If it is refused, the table stays shared.
///
/// No file may be asked about before this returns: until then the copy keeps files open that another thread has closed, so
/// they look as if another process had them open.
#[expect(unsafe_code, reason = "close_range(2) has no safe wrapper in std or rustix")]
pub fn forget_descriptors() {
    const UNSHARE: libc::c_uint = 1 << 1;
    const FIRST: libc::c_uint = 3;
    // SAFETY: the arguments are numbers. The flag makes the kernel copy the table first, or refuse: what is closed is
    // closed in the copy, and the descriptors of the threads that share the old table stay open.
    unsafe {
        libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, UNSHARE);
    }
}

/// Where leases are not supported, only locks can be asked about.
fn unless_locked(file: impl AsFd) -> InUse {
    match lock(file) {
        Lock::Held => InUse::Locked,
        Lock::Free | Lock::Unsupported => InUse::Unknown,
    }
}

/// Whether any lock on a part of the file is held elsewhere, shared ones included. On NFS, every lock is one.
pub fn is_range_locked(file: impl AsFd) -> bool {
    record_lock(file) == Lock::Held
}

/// Whether a file is in use on which an exclusive `flock` of its NFS server is held through this handle. Only locks can
/// tell there, and that one tells about all but locks of ranges: a kernel that the server has given a write delegation
/// keeps both kinds itself, and does not compare them.
pub fn under_exclusive_lock(file: impl AsFd) -> InUse {
    // The server has just given a lock, so it has locks: that it cannot say for the moment counts as one.
    if record_lock(file) == Lock::Free { InUse::Unknown } else { InUse::Locked }
}

/// Another process has it open; is it also locked? `flock` is not tried, since it would take the lock for a
/// moment while the other process has the file open.
fn open_or_locked(file: impl AsFd) -> InUse {
    if record_lock(file) == Lock::Held { InUse::Locked } else { InUse::Open }
}

/// `flock` and `fcntl` locks do not see each other on a local file system, so both are asked.
fn lock(file: impl AsFd) -> Lock {
    if record_lock(&file) == Lock::Held { Lock::Held } else { by_flock(file) }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Granted,
    Refused,
    Unsupported,
    /// Neither, and not for good: the kernel could not say.
    Unclear,
}

/// Asks for a lease, once more if the kernel could not say.
fn take(file: impl AsFd) -> Answer {
    let answer = try_take(&file);
    if answer == Answer::Unclear { try_take(&file) } else { answer }
}

fn try_take(file: impl AsFd) -> Answer {
    let Err(error) = set_lease(file, libc::F_WRLCK) else { return Answer::Granted };
    match Errno::from_io_error(&error) {
        Some(Errno::WOULDBLOCK) => Answer::Refused,
        Some(
            Errno::INVAL
            | Errno::OPNOTSUPP
            | Errno::NOSYS
            | Errno::NOTTY
            | Errno::ACCESS
            | Errno::PERM,
        ) => Answer::Unsupported,
        _ => Answer::Unclear,
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
        Lock::of(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
    } else if libc::c_int::from(wanted.l_type) == libc::F_UNLCK {
        Lock::Free
    } else {
        Lock::Held
    }
}

#[cfg(test)]
mod tests;
