//! `statx` and `open`, one component at a time, following nothing. Shared by the edges that touch the
//! file system, `volume`, `disk` and `lock`, which otherwise know nothing of each other.
//!
//! It must not change anything that `stat` can see: directories are opened with `O_NOATIME` where we
//! may, regular files are opened and never read, and nothing else is opened at all.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{
    Access, AtFlags, FileType, Mode, OFlags, ResolveFlags, Statx, StatxAttributes, StatxFlags,
    accessat, openat, openat2, statx,
};
use rustix::io::Errno;

use crate::condemn::{Failure, Place};
use crate::retention::{Bytes, Facts, FileId, Kind, Moment};

/// Whether a network file system may answer from its cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Whatever is known: right for a first look, which is followed by a second.
    Cached,
    /// As of now.
    Synced,
}

const WANTED: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::MNT_ID);

/// Looks at what is called `name` in `dir`; `mount` is the one that `dir` is on.
pub(crate) fn at(
    dir: impl AsFd,
    name: &CStr,
    mount: u64,
    freshness: Freshness,
) -> io::Result<Facts> {
    let mut flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    if freshness == Freshness::Cached {
        flags |= AtFlags::STATX_DONT_SYNC;
    }
    let seen = statx(dir, name, flags, WANTED)?;
    Ok(facts(&seen, mount))
}

/// Looks at an open directory. Crossing a mount is seen even where `statx` does not tell.
pub(crate) fn through(handle: impl AsFd, mount: u64) -> io::Result<Facts> {
    let seen = statx(&handle, c"", AtFlags::EMPTY_PATH, WANTED)?;
    let mut facts = facts(&seen, mount);
    if told_mount(&seen).is_none() {
        facts.mounted = mount_from_proc(handle)? != mount;
    }
    Ok(facts)
}

/// Looks at an open file.
pub(crate) fn of_open(handle: impl AsFd, mount: u64) -> io::Result<Facts> {
    let seen = statx(&handle, c"", AtFlags::EMPTY_PATH, WANTED)?;
    Ok(facts(&seen, mount))
}

/// What kind of thing is at `path`; `None` when it is certain that nothing is, and `Unknown` when that
/// cannot be said. The last component is not followed if it is a link; the ones before it must be
/// known to be none.
pub(crate) fn kind_at(dir: impl AsFd, path: &CStr) -> Option<FileType> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    match statx(dir, path, flags, StatxFlags::TYPE) {
        Ok(seen) => Some(FileType::from_raw_mode(seen.stx_mode.into())),
        Err(Errno::NOENT | Errno::NOTDIR) => None,
        Err(_) => Some(FileType::Unknown),
    }
}

/// Whether the path may lead somewhere: false only when it is certain that nothing is there. One
/// call for several components, none of them followed if it is a link or a mount; on a system
/// without `openat2` the answer is always "maybe".
pub(crate) fn may_reach(dir: impl AsFd, path: &CStr) -> bool {
    if NO_OPENAT2.load(Ordering::Relaxed) {
        return true;
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    !matches!(openat2(dir, path, flags, Mode::empty(), resolve), Err(Errno::NOENT | Errno::NOTDIR))
}

fn facts(seen: &Statx, mount: u64) -> Facts {
    let kind = match FileType::from_raw_mode(seen.stx_mode.into()) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Dir,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => Kind::Special,
    };
    let dev = |major: u32, minor: u32| (u64::from(major) << 32) | u64::from(minor);
    Facts {
        kind,
        id: FileId { dev: dev(seen.stx_dev_major, seen.stx_dev_minor), ino: seen.stx_ino },
        mounted: told_mount(seen).is_some_and(|id| id != mount)
            || seen.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        atime: Moment::from_unix(seen.stx_atime.tv_sec, seen.stx_atime.tv_nsec),
        mtime: Moment::from_unix(seen.stx_mtime.tv_sec, seen.stx_mtime.tv_nsec),
        ctime: Moment::from_unix(seen.stx_ctime.tv_sec, seen.stx_ctime.tv_nsec),
        links: seen.stx_nlink.into(),
        allocated: Bytes(seen.stx_blocks.saturating_mul(512)),
        newest_inside: None,
    }
}

/// The mount id, which Linux tells since 5.8. It differs between two bind mounts of one file system,
/// where device numbers do not.
fn told_mount(seen: &Statx) -> Option<u64> {
    (seen.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(seen.stx_mnt_id)
}

/// Which directory is open here, and the mount that it is on. Before Linux 5.8 `/proc` has to tell that.
pub(crate) fn id_and_mount(handle: impl AsFd) -> io::Result<(FileId, u64)> {
    let seen = statx(&handle, c"", AtFlags::EMPTY_PATH, WANTED)?;
    let mount = match told_mount(&seen) {
        Some(mount) => mount,
        None => mount_from_proc(handle)?,
    };
    Ok((facts(&seen, mount).id, mount))
}

fn mount_from_proc(handle: impl AsFd) -> io::Result<u64> {
    let number = handle.as_fd().as_raw_fd();
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
        .ok_or_else(|| io::Error::other("/proc does not tell the mount of a descriptor"))
}

/// An opened directory.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) handle: OwnedFd,
    /// Reading it may move its access time: it is not ours and we have no `CAP_FOWNER`. Nor could
    /// we put the time back, which takes the same right.
    pub(crate) leaves_trace: bool,
}

/// How a directory may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Across {
    /// Only on the same mount.
    SameMount,
    /// On whatever is mounted there: for the places that the layout itself names.
    AnyMount,
}

/// Set when `openat2` (Linux 5.6) is missing or forbidden, as by older seccomp profiles.
static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

/// Opens the directory called `name` in `dir` for listing: not through a link, and with
/// [`Across::SameMount`] not into a mount. With a kernel that cannot refuse to cross one, the
/// caller's comparison of mounts is what remains.
pub(crate) fn open_dir(dir: impl AsFd, name: &CStr, across: Across) -> io::Result<Opened> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |flags: OFlags| -> rustix::io::Result<OwnedFd> {
        if across == Across::SameMount && !NO_OPENAT2.load(Ordering::Relaxed) {
            let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
            match openat2(&dir, name, flags, Mode::empty(), resolve) {
                Err(Errno::NOSYS) => NO_OPENAT2.store(true, Ordering::Relaxed),
                // O_NOATIME was refused, or all of openat2; the plain call tells which. AGAIN is a
                // rename racing with us.
                Err(Errno::PERM | Errno::AGAIN) => {}
                other => return other,
            }
        }
        openat(&dir, name, flags, Mode::empty())
    };
    let (opened, leaves_trace) = match open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => (open(flags), true),
        other => (other, false),
    };
    Ok(Opened { handle: opened?, leaves_trace })
}

/// Opens the parent of an open directory.
pub(crate) fn open_parent(child: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(&child, c"..", flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => Ok(openat(&child, c"..", flags, Mode::empty())?),
        other => Ok(other?),
    }
}

/// How files are opened. NONBLOCK and NOCTTY for the case that a FIFO or a terminal has taken the name by
/// now.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// Opens a regular file to ask about it, never to read it.
pub(crate) fn open_file(dir: impl AsFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    openat(dir, name, FILE, Mode::empty())
}

/// Opens what a listing says is a regular file, before it is looked at: not through a link, and not if
/// something else is mounted on it. `None` says nothing but that it has to be looked at by its name.
pub(crate) fn open_listed_file(dir: impl AsFd, name: &CStr) -> Option<OwnedFd> {
    if NO_OPENAT2.load(Ordering::Relaxed) {
        return None;
    }
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    openat2(dir, name, FILE, Mode::empty(), resolve).ok()
}

/// Whether names in an open directory may be removed by us, as far as the system says beforehand.
pub(crate) fn may_change(dir: impl AsFd) -> rustix::io::Result<()> {
    accessat(dir, c".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
}

/// The failure of `doing` something to what is called `name` in `place`, or to the place itself; `dir`
/// is the directory whose rights decide.
pub(crate) fn failure(
    place: &Place,
    dir: impl AsFd,
    doing: &'static str,
    name: Option<&CStr>,
    error: impl Into<io::Error>,
) -> Failure {
    let error = error.into();
    let path = name.map_or_else(|| place.path.clone(), |name| place.path_of(name));
    Failure { zone: place.zone, doing, path, hint: hint(dir, name, doing, &error), error }
}

/// What the user can do about an error at a name in `dir`.
fn hint(dir: impl AsFd, name: Option<&CStr>, doing: &str, error: &io::Error) -> Option<String> {
    let errno = Errno::from_io_error(error)?;
    if errno == Errno::ROFS {
        return Some("the file system is mounted read-only".to_owned());
    }
    if errno != Errno::ACCESS && errno != Errno::PERM {
        return None;
    }
    // Opening asks the object's own rights, removing its directory's.
    let (seen, whose) = match name {
        Some(name) if doing.starts_with("open") => {
            let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
            (statx(dir, name, flags, WANTED).ok()?, "it")
        }
        _ => (statx(dir, c"", AtFlags::EMPTY_PATH, WANTED).ok()?, "its directory"),
    };
    let us = rustix::process::geteuid().as_raw();
    Some(format!(
        "we run as uid {us}; {whose} belongs to uid {} gid {} with mode {:04o}",
        seen.stx_uid,
        seen.stx_gid,
        seen.stx_mode & 0o7777
    ))
}

/// Which file a path leads to, links followed: for comparing with directories that are refused.
pub(crate) fn follow(path: &CStr) -> io::Result<FileId> {
    let seen = statx(rustix::fs::CWD, path, AtFlags::NO_AUTOMOUNT, WANTED)?;
    Ok(facts(&seen, 0).id)
}
