//! `open`, one component at a time, following no link.
//!
//! This module must not change anything that `stat` can show: directories are opened with `O_NOATIME` where that is
//! allowed, regular files are opened and never read, and nothing else is opened. Where another user can put a FIFO
//! under the name of a file meanwhile, the name is resolved first, and only a regular file is opened through that
//! handle.

use std::ffi::CStr;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{
    Access, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, accessat, fstat, openat, openat2,
};
use rustix::io::Errno;

/// An opened directory.
#[derive(Debug)]
pub struct OpenedDir {
    /// The directory.
    pub handle: OwnedFd,
    /// Reading it may move its atime: it belongs to another user and the process has no `CAP_FOWNER`.
    pub moves_atime: bool,
}

/// Whether a directory may be on another mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Across {
    /// Only the same mount.
    SameMount,
    /// Any mount: for the directories that a zone names.
    AnyMount,
}

/// Set when `openat2` (Linux 5.6) is missing or forbidden, as by older seccomp profiles.
static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

/// Opens the directory `name` in `dir` for listing: not through a link, and with [`Across::SameMount`] not
/// on another mount. Where the kernel cannot refuse that, the caller compares the mounts.
///
/// # Errors
/// What the system says; `EXDEV` for another mount.
pub fn dir(dir: impl AsFd, name: &CStr, across: Across) -> io::Result<OpenedDir> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |flags: OFlags| -> rustix::io::Result<OwnedFd> {
        if across == Across::SameMount && !NO_OPENAT2.load(Ordering::Relaxed) {
            let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
            match openat2(&dir, name, flags, Mode::empty(), resolve) {
                Err(Errno::NOSYS) => NO_OPENAT2.store(true, Ordering::Relaxed),
                // Either O_NOATIME was refused or openat2 is; the plain call tells which. AGAIN is a
                // concurrent rename.
                Err(Errno::PERM | Errno::AGAIN) => {}
                other => return other,
            }
        }
        openat(&dir, name, flags, Mode::empty())
    };
    let (opened, moves_atime) = match open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => (open(flags), true),
        other => (other, false),
    };
    Ok(OpenedDir { handle: opened?, moves_atime })
}

/// Opens the parent of an open directory.
///
/// # Errors
/// What the system says.
pub fn parent(child: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(&child, c"..", flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => Ok(openat(&child, c"..", flags, Mode::empty())?),
        other => Ok(other?),
    }
}

/// How a name is resolved without opening what it leads to.
const SEEN: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How files are opened. NONBLOCK because a lease of another process would make the open wait.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// Options to open what has a path that is not known to be that of a regular file: not through a link, and without
/// waiting for the other end of a FIFO. What it is, the caller has to look at then.
pub fn careful() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags(FILE.bits().cast_signed());
    options
}

/// The directory that a file is in, or is to be in.
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether a file can be made in a directory, as far as the rights and the mount say.
///
/// # Errors
/// Why not.
pub fn may_write(dir: &Path) -> io::Result<()> {
    match accessat(CWD, dir, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
        Err(error @ (Errno::ACCESS | Errno::PERM | Errno::ROFS)) => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Opens or resolves `name` in `dir`: not through a link, and not if it is a mount point, so that no file
/// system that is mounted there is asked.
fn on_mount(dir: impl AsFd, name: &CStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    if !NO_OPENAT2.load(Ordering::Relaxed) {
        let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        match openat2(&dir, name, flags, Mode::empty(), resolve) {
            Err(Errno::NOSYS) => NO_OPENAT2.store(true, Ordering::Relaxed),
            // Either it is refused or openat2 is; the plain call tells which.
            Err(Errno::PERM) => {}
            other => return other,
        }
    }
    openat(dir, name, flags, Mode::empty())
}

/// Whether no other user can put something else under a name in this directory, root aside. An ACL that allows
/// it shows in the bits of the group.
pub fn is_private(dir: impl AsFd) -> bool {
    static USER: LazyLock<u32> = LazyLock::new(|| rustix::process::geteuid().as_raw());
    fstat(dir).is_ok_and(|found| found.st_uid == *USER && found.st_mode & 0o022 == 0)
}

/// Opens a regular file to lock it, never to read it. Anything else is not opened, because that has effects of
/// its own: another process that waits at the other end of a FIFO continues, a tape is rewound.
///
/// # Errors
/// What the system says; `ELOOP` for a link, `ENXIO` for anything else that is not a regular file, `EXDEV` for a
/// mount point, `EOPNOTSUPP` without `/proc` in a directory that is not private ([`is_private`]).
pub fn file(dir: impl AsFd, name: &CStr, is_private: bool) -> rustix::io::Result<OwnedFd> {
    file_with(dir, name, is_private, OFlags::RDONLY)
}

/// The same with the right to write alone, which is never done: see [`for_writing`]. Most NFS servers delegate nothing
/// to a client that has not asked for the right to read, so the removal has nothing to give back.
///
/// # Errors
/// Those of [`file()`].
pub fn file_for_writing(
    dir: impl AsFd,
    name: &CStr,
    is_private: bool,
) -> rustix::io::Result<OwnedFd> {
    file_with(dir, name, is_private, OFlags::WRONLY)
}

fn file_with(
    dir: impl AsFd,
    name: &CStr,
    is_private: bool,
    access: OFlags,
) -> rustix::io::Result<OwnedFd> {
    if is_private {
        return on_mount(dir, name, FILE | access);
    }
    let seen = on_mount(dir, name, SEEN)?;
    let kind = kind(&seen)?;
    if kind == FileType::RegularFile {
        return reopen_with(&seen, access);
    }
    Err(if kind == FileType::Symlink { Errno::LOOP } else { Errno::NXIO })
}

/// Opens what a listing of `dir` says is a regular file. In a directory that is not private, the handle only
/// says what the name leads to, and [`reopen`] opens it.
///
/// # Errors
/// What the system says; `EXDEV` for a mount point.
pub fn listed(dir: impl AsFd, name: &CStr, is_private: bool) -> rustix::io::Result<OwnedFd> {
    on_mount(dir, name, if is_private { FILE } else { SEEN })
}

/// Opens the regular file that a handle leads to.
///
/// # Errors
/// What the system says; `EOPNOTSUPP` without `/proc`.
pub fn reopen(seen: impl AsFd) -> rustix::io::Result<OwnedFd> {
    reopen_with(seen, OFlags::RDONLY)
}

/// Opens an open regular file once more, for writing, which is never done: some file systems ask for that
/// right before they lock a file.
///
/// # Errors
/// What the system says.
pub fn for_writing(file: impl AsFd) -> rustix::io::Result<OwnedFd> {
    reopen_with(file, OFlags::RDWR)
}

fn reopen_with(seen: impl AsFd, access: OFlags) -> rustix::io::Result<OwnedFd> {
    let mut path = [0; 32];
    let number = seen.as_fd().as_raw_fd();
    // There is room for the longest number.
    let _ = write!(&mut path[..], "/proc/self/fd/{number}");
    let path = CStr::from_bytes_until_nul(&path).map_err(|_| Errno::NAMETOOLONG)?;
    match openat(CWD, path, FILE.difference(OFlags::NOFOLLOW) | access, Mode::empty()) {
        // The handle is open, so that does not say that the file is gone.
        Err(Errno::NOENT) if !has_proc() => Err(Errno::OPNOTSUPP),
        opened => opened,
    }
}

/// Whether `/proc` is mounted. Without it, a handle cannot be opened again.
pub fn has_proc() -> bool {
    accessat(CWD, c"/proc/self/fd", Access::EXISTS, AtFlags::empty()).is_ok()
}

/// Resolves a path to a directory, links followed, without opening the directory.
///
/// # Errors
/// What the system says.
pub fn seen_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?)
}

/// The same for anything.
///
/// # Errors
/// What the system says.
pub fn seen(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens the regular file or directory at `path`, links followed.
///
/// # Errors
/// What the system says; `InvalidInput` for anything else, which is not opened.
pub fn file_or_dir(path: &Path) -> io::Result<OwnedFd> {
    let seen = seen(path)?;
    if matches!(kind(&seen)?, FileType::RegularFile | FileType::Directory) {
        return Ok(reopen(&seen)?);
    }
    let why = "it is neither a regular file nor a directory";
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

fn kind(seen: impl AsFd) -> rustix::io::Result<FileType> {
    Ok(FileType::from_raw_mode(fstat(seen)?.st_mode))
}

/// Whether a path may exist: `false` only when it certainly does not. One call for several components,
/// through no link and no mount point; without `openat2` the answer is always `true`.
pub fn may_exist(dir: impl AsFd, path: &CStr) -> bool {
    if NO_OPENAT2.load(Ordering::Relaxed) {
        return true;
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    !matches!(openat2(dir, path, flags, Mode::empty(), resolve), Err(Errno::NOENT | Errno::NOTDIR))
}

/// Whether this process may remove names from an open directory, as far as the system says beforehand.
///
/// # Errors
/// It may not.
pub fn may_remove_from(dir: impl AsFd) -> rustix::io::Result<()> {
    accessat(dir, c".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn nothing_is_opened_through_a_link() {
        let scratch = tempfile::tempdir().unwrap();
        fs::write(scratch.path().join("file"), "x").unwrap();
        fs::create_dir(scratch.path().join("dir")).unwrap();
        for (target, link) in [("file", "link-to-file"), ("dir", "link-to-dir")] {
            std::os::unix::fs::symlink(target, scratch.path().join(link)).unwrap();
        }
        let top = File::open(scratch.path()).unwrap();
        assert!(
            file(&top, c"file", false).is_ok()
                && reopen(listed(&top, c"file", false).unwrap()).is_ok()
        );
        assert_eq!(file(&top, c"link-to-file", false).unwrap_err(), Errno::LOOP);
        let opened = dir(&top, c"dir", Across::SameMount).unwrap();
        assert!(dir(&top, c"link-to-dir", Across::SameMount).is_err());
        assert!(dir(&top, c"link-to-dir", Across::AnyMount).is_err());
        let (above, _) = super::super::stat::id_and_mount(parent(&opened.handle).unwrap()).unwrap();
        assert_eq!(above, super::super::stat::id_and_mount(&top).unwrap().0);
        assert!(may_exist(&top, c"dir") && !may_exist(&top, c"dir/none"));
        assert!(may_remove_from(&top).is_ok());
    }
}
