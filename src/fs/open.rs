//! `open`, one component at a time, following no link.
//!
//! It must not change anything that `stat` can show: directories are opened with `O_NOATIME` where that is
//! allowed, regular files are opened and never read, and nothing else is opened.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, ResolveFlags, accessat, openat, openat2};
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

/// How files are opened. NONBLOCK and NOCTTY in case a FIFO or a terminal has taken the name.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// Opens a regular file to lock it, never to read it.
///
/// # Errors
/// What the system says.
pub fn file(dir: impl AsFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    openat(dir, name, FILE, Mode::empty())
}

/// The same with the right to write, which is never done: see [`for_writing`].
///
/// # Errors
/// What the system says.
pub fn file_for_writing(dir: impl AsFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    openat(dir, name, FILE | OFlags::RDWR, Mode::empty())
}

/// Opens an open regular file once more, for writing, which is never done: some file systems ask for that
/// right before they lock a file.
///
/// # Errors
/// What the system says.
pub fn for_writing(file: impl AsFd) -> rustix::io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty())
}

/// Opens what a listing says is a regular file: not through a link, and not if it is a mount point.
/// `None` only means that it has to be looked at by its name.
pub fn listed_file(dir: impl AsFd, name: &CStr) -> Option<OwnedFd> {
    if NO_OPENAT2.load(Ordering::Relaxed) {
        return None;
    }
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    openat2(dir, name, FILE, Mode::empty(), resolve).ok()
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
        assert!(file(&top, c"file").is_ok() && listed_file(&top, c"file").is_some());
        assert_eq!(file(&top, c"link-to-file").unwrap_err(), Errno::LOOP);
        assert!(listed_file(&top, c"link-to-file").is_none());
        let opened = dir(&top, c"dir", Across::SameMount).unwrap();
        assert!(dir(&top, c"link-to-dir", Across::SameMount).is_err());
        assert!(dir(&top, c"link-to-dir", Across::AnyMount).is_err());
        let (above, _) = super::super::stat::id_and_mount(parent(&opened.handle).unwrap()).unwrap();
        assert_eq!(above, super::super::stat::id_and_mount(&top).unwrap().0);
        assert!(may_exist(&top, c"dir") && !may_exist(&top, c"dir/none"));
        assert!(may_remove_from(&top).is_ok());
    }
}
