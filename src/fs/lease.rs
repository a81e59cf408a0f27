//! Asks the kernel whether another process has a file open or locked.
//!
//! It must not block, read, or leave anything behind. A write lease (`F_SETLEASE` with `F_WRLCK`, see
//! `fcntl(2)`) is granted only when no other open file description of the inode exists on this kernel, in
//! any container or namespace. A granted lease also means that no other process holds a lock, since a lock
//! needs an open file. While the lease is held, a process that opens the file waits until it ends (with
//! `O_NONBLOCK` it gets `EWOULDBLOCK`), and the holder can see that ([`is_kept`]). It ends when the handle is
//! closed. Where leases are refused (files of other users without `CAP_LEASE`, NFS, FUSE), only locks can be
//! asked about.
//!
//! This is the one module with `unsafe`: neither std nor rustix has `F_SETLEASE`, `F_GETLEASE`,
//! `F_OFD_GETLK` or a way to ignore a signal.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock, fstatfs};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Resource, getrlimit};

use super::open;

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
/// on. To be called once before the first [`probe`].
#[expect(unsafe_code, reason = "signal(2) has no safe wrapper in std or rustix")]
pub fn ignore_lease_breaks() {
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

/// Asks about an open regular file that has `links` names. When the answer is [`InUse::Free`] and the file
/// has no other name, the lease is held until the handle is closed.
pub fn probe(file: impl AsFd, links: u64) -> InUse {
    let _turn = (links > 1).then(turn);
    // A claim excludes the other workers.
    probe_in_turn(file.as_fd(), links, |_| false)
}

/// `is_claimed`: whether another handle has the `flock` of the file.
fn probe_in_turn(
    file: BorrowedFd<'_>,
    links: u64,
    is_claimed: impl Fn(BorrowedFd<'_>) -> bool,
) -> InUse {
    match take(file) {
        Answer::Granted => {
            if links > 1 {
                // Another worker of this process may come by another of its names.
                let _ = set_lease(file, libc::F_UNLCK);
            }
            InUse::Free
        }
        // NFS and SMB refuse every lease with this error.
        Answer::Refused if is_remote(file) => unless_locked(file),
        Answer::Refused if links > 1 => {
            // Another worker of this process may hold a claim on another of its names, or be about to end it.
            for _ in 0..5 {
                if is_claimed(file) {
                    return InUse::Locked;
                }
                std::thread::sleep(Duration::from_millis(1));
                if take(file) == Answer::Granted {
                    return InUse::Free;
                }
            }
            open_or_locked(file)
        }
        Answer::Refused => open_or_locked(file),
        Answer::Unsupported => unless_locked(file),
    }
}

/// Files with several names are asked about one at a time, while no worker has one open without knowing that:
/// through two names at once, two workers of this process would take each other for another process.
static LINKED: RwLock<()> = RwLock::new(());

fn turn() -> RwLockWriteGuard<'static, ()> {
    LINKED.write().unwrap_or_else(PoisonError::into_inner)
}

/// To be held while a file is open of which it is not yet known whether it has several names, or that has
/// several and is not locked yet.
pub fn before_links_are_known() -> RwLockReadGuard<'static, ()> {
    LINKED.read().unwrap_or_else(PoisonError::into_inner)
}

/// Asks about the regular file `name` in `dir`, which has `links` names, and holds no lease.
///
/// # Errors
/// It cannot be opened, for a reason that tells nothing.
pub fn probe_at(dir: impl AsFd, name: &CStr, links: u64) -> rustix::io::Result<InUse> {
    let _turn = (links > 1).then(turn);
    match open::file(dir, name) {
        Ok(handle) => Ok(probe_in_turn(handle.as_fd(), links, |file| is_locked(file))),
        // Gone, or something else by now: the removal looks at it again.
        Err(Errno::NOENT | Errno::STALE | Errno::LOOP | Errno::NXIO) => Ok(InUse::Free),
        // A lease of another process, or a program that is being written or run.
        Err(Errno::WOULDBLOCK | Errno::TXTBSY) => Ok(InUse::Open),
        Err(Errno::ACCESS | Errno::PERM) => Ok(InUse::Unknown),
        Err(error) => Err(error),
    }
}

/// Whether the lease that [`probe`] took on this handle is still undisturbed: no other process has opened
/// the file since.
pub fn is_kept(file: impl AsFd) -> bool {
    get_lease(file) == Ok(libc::F_WRLCK)
}

/// The same for a file on a server, which grants no lease that means anything: whether another process holds a
/// lock on it, or [`InUse::Unknown`].
pub fn probe_on_server(file: impl AsFd) -> InUse {
    unless_locked(file)
}

/// Gives back the lease that [`probe`] took on this handle.
pub fn give_back(file: impl AsFd) {
    // There may be none.
    let _ = set_lease(file, libc::F_UNLCK);
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

/// Whether the `flock` of an open directory or file is held through another handle. If not, it is held through this handle
/// from now on.
pub fn is_locked(dir: impl AsFd) -> bool {
    flock(dir, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK)
}

/// Whether any lock on a part of the file is held elsewhere, shared ones included. On NFS, every lock is one.
pub fn is_range_locked(file: impl AsFd) -> bool {
    record_lock(file) == Lock::Held
}

/// Whether a file is on a server, by the magic numbers of `statfs(2)`.
fn is_remote(file: impl AsFd) -> bool {
    const NFS: i64 = 0x6969;
    const SMB: [i64; 3] = [0x517b, 0xff53_4d42, 0xfe53_4d42];
    let Ok(found) = fstatfs(file) else { return false };
    let magic = found.f_type & 0xffff_ffff;
    magic == NFS || SMB.contains(&magic)
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

#[expect(unsafe_code, reason = "F_SETLEASE has no safe wrapper in std or rustix")]
fn set_lease(file: impl AsFd, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and the argument is a number.
    let result = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_SETLEASE, kind) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[expect(unsafe_code, reason = "F_GETLEASE has no safe wrapper in std or rustix")]
fn get_lease(file: impl AsFd) -> Result<libc::c_int, ()> {
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and there is no argument.
    let result = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_GETLEASE) };
    if result == -1 { Err(()) } else { Ok(result) }
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
mod tests {
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn a_file_that_is_open_elsewhere_is_in_use_and_an_opener_breaks_the_lease() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("file");
        fs::write(&path, "x").unwrap();
        ignore_lease_breaks();
        let reader = File::open(&path).unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!(probe(&file, 1), InUse::Open);
        assert!(!is_kept(&file), "there is no lease");
        drop(reader);
        assert_eq!(probe(&file, 1), InUse::Free);
        assert!(is_kept(&file));
        let flags = libc::O_NONBLOCK;
        let opened =
            std::os::unix::fs::OpenOptionsExt::custom_flags(File::options().read(true), flags)
                .open(&path);
        assert_eq!(opened.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(!is_kept(&file), "the kernel has asked for it back");
    }

    #[test]
    fn leases_leave_each_worker_the_descriptors_that_it_needs() {
        assert_eq!(affordable_within(1024, 2), 432);
        assert_eq!(affordable_within(1024, 64), 0);
        assert_eq!(affordable_within(128, 1), 0);
        assert_eq!(affordable_within(1 << 20, 64), 8192);
    }

    #[test]
    fn a_worker_that_opens_another_name_of_a_file_is_not_another_process() {
        let scratch = tempfile::tempdir().unwrap();
        let (one, other) = (scratch.path().join("one"), scratch.path().join("other"));
        fs::write(&one, "x").unwrap();
        fs::hard_link(&one, other).unwrap();
        ignore_lease_breaks();
        let dir = File::open(scratch.path()).unwrap();
        let unknown = before_links_are_known();
        let opened = File::open(one).unwrap();
        std::thread::scope(|scope| {
            let probing = scope.spawn(|| probe_at(&dir, c"other", 2).unwrap());
            // The longer it is open, the more certainly a probe that does not wait for its turn meets it.
            std::thread::sleep(Duration::from_millis(50));
            drop(opened);
            drop(unknown);
            assert_eq!(probing.join().unwrap(), InUse::Free);
        });
    }

    #[test]
    fn a_file_that_is_claimed_by_another_name_is_locked_and_one_that_is_open_is_not() {
        let scratch = tempfile::tempdir().unwrap();
        let (one, other) = (scratch.path().join("one"), scratch.path().join("other"));
        fs::write(&one, "x").unwrap();
        fs::hard_link(&one, other).unwrap();
        ignore_lease_breaks();
        let dir = File::open(scratch.path()).unwrap();
        let claim = File::open(one).unwrap();
        assert_eq!(probe_at(&dir, c"other", 2).unwrap(), InUse::Open);
        flock(&claim, FlockOperation::NonBlockingLockExclusive).unwrap();
        assert_eq!(probe_at(&dir, c"other", 2).unwrap(), InUse::Locked);
        drop(claim);
        assert_eq!(probe_at(&dir, c"other", 2).unwrap(), InUse::Free);
    }

    #[test]
    fn a_locked_directory_is_recognized() {
        let scratch = tempfile::tempdir().unwrap();
        let (ours, theirs) =
            (File::open(scratch.path()).unwrap(), File::open(scratch.path()).unwrap());
        flock(&theirs, FlockOperation::NonBlockingLockExclusive).unwrap();
        assert!(is_locked(&ours));
        drop(theirs);
        assert!(!is_locked(&ours));
    }
    #[test]
    fn there_is_room_for_many_descriptors() {
        make_room(File::open("/").unwrap());
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        let size: u64 = size.trim().parse().unwrap();
        assert!(size >= limit.min(ROOM.unsigned_abs().into()), "{size} of {limit}");
    }
}
