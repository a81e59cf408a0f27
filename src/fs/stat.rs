//! `statx`, one component at a time, following no link.
//!
//! This module must not change anything that `stat` can show.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{AtFlags, FileType, Statx, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;

use crate::rules::{Bytes, FileId, FileKind, Metadata, Moment};

/// Whether a network file system may answer from its cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It may: right for a first look, which is followed by a second.
    Cached,
    /// The answer must be current.
    Synced,
}

pub(super) const WANTED: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::MNT_ID);

const NOT_FOLLOWED: AtFlags = AtFlags::SYMLINK_NOFOLLOW.union(AtFlags::NO_AUTOMOUNT);

/// The metadata of `name` in `dir`; `mount` is the mount that `dir` is on.
///
/// # Errors
/// What the system says.
#[inline(always)]
pub fn at(dir: impl AsFd, name: &CStr, mount: u64, freshness: Freshness) -> io::Result<Metadata> {
    let flags = match freshness {
        Freshness::Cached => NOT_FOLLOWED | AtFlags::STATX_DONT_SYNC,
        // Without the flag a network file system answers from a cache that may be a minute old.
        Freshness::Synced => NOT_FOLLOWED | AtFlags::STATX_FORCE_SYNC,
    };
    Ok(metadata(&statx(dir, name, flags, WANTED)?, mount))
}

/// The current metadata of an open file or directory. A mount point is recognized even where `statx` does
/// not tell the mount.
///
/// # Errors
/// What the system says.
pub fn handle(handle: impl AsFd, mount: u64) -> io::Result<Metadata> {
    let seen = statx(&handle, c"", AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC, WANTED)?;
    let mut metadata = metadata(&seen, mount);
    if told_mount(&seen).is_none() && metadata.kind == FileKind::Dir {
        metadata.is_mount_point = mount_from_proc(handle)? != mount;
    }
    Ok(metadata)
}

/// Whether `path` leads to a directory, links followed.
///
/// # Errors
/// The system does not say.
pub fn is_dir(dir: impl AsFd, path: &CStr) -> io::Result<bool> {
    match statx(dir, path, AtFlags::NO_AUTOMOUNT, StatxFlags::TYPE) {
        Ok(seen) => Ok(FileType::from_raw_mode(seen.stx_mode.into()) == FileType::Directory),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The type of the file at `path`: `None` when it certainly does not exist, and `Unknown` when the system does
/// not say. The last component is not followed if it is a link; the ones before it must not be links.
pub fn type_at(dir: impl AsFd, path: &CStr) -> Option<FileType> {
    let flags = NOT_FOLLOWED | AtFlags::STATX_DONT_SYNC;
    match statx(dir, path, flags, StatxFlags::TYPE) {
        Ok(seen) => Some(FileType::from_raw_mode(seen.stx_mode.into())),
        Err(Errno::NOENT | Errno::NOTDIR) => None,
        Err(_) => Some(FileType::Unknown),
    }
}

/// Asks the server for an open directory. If another machine has changed the directory, NFS looks up the
/// names in it again from then on; until then it believes that they lead to the same files as before.
///
/// # Errors
/// What the system says.
pub fn sync(dir: impl AsFd) -> io::Result<()> {
    statx(dir, c"", AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC, WANTED)?;
    Ok(())
}

/// Whether there may be anything at `name` in `dir` at this moment.
pub fn exists(dir: impl AsFd, name: &CStr) -> bool {
    // A name that another machine has made is not known here before the directory is.
    let _ = sync(&dir);
    let flags = NOT_FOLLOWED | AtFlags::STATX_FORCE_SYNC;
    !matches!(statx(dir, name, flags, StatxFlags::TYPE), Err(Errno::NOENT | Errno::NOTDIR))
}

/// The identity of an open file or directory and the mount that it is on. Neither ever changes, so no server is asked.
/// Before Linux 5.8 only `/proc` knows the mount.
///
/// # Errors
/// What the system says.
pub fn id_and_mount(handle: impl AsFd) -> io::Result<(FileId, u64)> {
    let seen = statx(&handle, c"", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, WANTED)?;
    let mount = match told_mount(&seen) {
        Some(mount) => mount,
        None => mount_from_proc(handle)?,
    };
    Ok((metadata(&seen, mount).id, mount))
}

/// When an open file or directory was made, where the file system tells.
pub fn birth(handle: impl AsFd) -> Option<Moment> {
    let seen = statx(&handle, c"", AtFlags::EMPTY_PATH, StatxFlags::BTIME).ok()?;
    let is_known = seen.stx_mask & StatxFlags::BTIME.bits() != 0;
    is_known.then(|| Moment::from_unix(seen.stx_btime.tv_sec, seen.stx_btime.tv_nsec))
}

/// The identity of the file that a path leads to, links followed.
///
/// # Errors
/// What the system says.
pub fn follow(path: &CStr) -> io::Result<FileId> {
    let seen = statx(rustix::fs::CWD, path, AtFlags::NO_AUTOMOUNT, WANTED)?;
    Ok(metadata(&seen, 0).id)
}

fn metadata(seen: &Statx, mount: u64) -> Metadata {
    let kind = match FileType::from_raw_mode(seen.stx_mode.into()) {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Dir,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => FileKind::Special,
    };
    let dev = |major: u32, minor: u32| (u64::from(major) << 32) | u64::from(minor);
    Metadata {
        kind,
        id: FileId { dev: dev(seen.stx_dev_major, seen.stx_dev_minor), ino: seen.stx_ino },
        is_mount_point: told_mount(seen).is_some_and(|id| id != mount)
            || seen.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        atime: Moment::from_unix(seen.stx_atime.tv_sec, seen.stx_atime.tv_nsec),
        mtime: Moment::from_unix(seen.stx_mtime.tv_sec, seen.stx_mtime.tv_nsec),
        ctime: Moment::from_unix(seen.stx_ctime.tv_sec, seen.stx_ctime.tv_nsec),
        links: seen.stx_nlink.into(),
        size: Bytes(seen.stx_size),
        allocated: Bytes(seen.stx_blocks.saturating_mul(512)),
        newest_inside: None,
    }
}

/// The mount id, which Linux tells since 5.8. Unlike the device number it differs between two bind mounts
/// of one file system.
fn told_mount(seen: &Statx) -> Option<u64> {
    (seen.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(seen.stx_mnt_id)
}

fn mount_from_proc(handle: impl AsFd) -> io::Result<u64> {
    let number = handle.as_fd().as_raw_fd();
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
        .ok_or_else(|| io::Error::other("/proc does not tell the mount of a descriptor"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn a_look_tells_the_type_and_follows_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        fs::write(scratch.path().join("file"), "x").unwrap();
        std::os::unix::fs::symlink("file", scratch.path().join("link")).unwrap();
        fs::create_dir(scratch.path().join("dir")).unwrap();
        let dir = File::open(scratch.path()).unwrap();
        let (id, mount) = id_and_mount(&dir).unwrap();
        let look = |name| at(&dir, name, mount, Freshness::Synced).unwrap();
        assert_eq!(look(c"file").kind, FileKind::File);
        assert_eq!(look(c"link").kind, FileKind::Symlink);
        assert_eq!((look(c"dir").kind, look(c"dir").is_mount_point), (FileKind::Dir, false));
        assert_eq!(handle(&dir, mount).unwrap().id, id);
        assert!(at(&dir, c"none", mount, Freshness::Cached).is_err());
        assert_eq!(type_at(&dir, c"none"), None);
        assert_eq!(type_at(&dir, c"link"), Some(FileType::Symlink));
        assert!(
            look(c"file").is_mount_point
                == at(&dir, c"file", mount + 1, Freshness::Synced)
                    .map(|m| !m.is_mount_point)
                    .unwrap()
        );
    }

    #[test]
    fn proc_knows_the_mount_that_statx_tells() {
        let dir = File::open("/").unwrap();
        let (_, mount) = id_and_mount(&dir).unwrap();
        assert_eq!(mount_from_proc(&dir).unwrap(), mount);
    }
}
