//! The advisory lock on an entry, as `flock(1)` and exporters written in shell take it.
//!
//! A claim must not wait: an entry that another process has locked is rejected, and the engine tries it
//! again later. The entry is opened relative to its directory, locked, and then compared with the one
//! that was judged, because its name can be given to another file between the look and the lock. The lock
//! lasts as long as the handle, which is closed after the removal.

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use fs2::FileExt;
use rustix::fs::OFlags;
use rustix::io::{Errno, FdFlags, fcntl_setfd};

use crate::fs::open::Across;
use crate::fs::{error, lease, open, stat};
use crate::protocol::{Claimed, Expired, Failure, Guard, Lease, Rejected, Rejection, Skipped};
use crate::rules::{Action, FileKind, LockKind, Zone};

/// How long to wait before the lock of `sweeper hold` is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// Whether entries are locked with `flock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileLocks {
    /// In each zone that asks for it.
    Flock,
    /// In no zone (`--lock none`).
    Unlocked,
}

impl FileLocks {
    /// What applies to the entries of `zone`.
    pub(super) fn of(self, zone: &Zone) -> Self {
        match zone.lock {
            LockKind::Unlocked => Self::Unlocked,
            LockKind::Flock | LockKind::Application => self,
        }
    }
}

/// Opens an expired entry and locks it with `flock`, unless `files` says otherwise. `lease` is a lock
/// that is already held on it elsewhere.
pub(super) fn claim(
    expired: Expired,
    files: FileLocks,
    lease: Option<Box<dyn Lease>>,
) -> Result<Claimed, Rejected> {
    match open_and_lock(&expired, files) {
        Ok(object) => Ok(Claimed::new(expired, Guard::new(object, lease))),
        Err(why) => Err(Rejected::new(expired, why)),
    }
}

fn open_and_lock(expired: &Expired, files: FileLocks) -> Result<Option<File>, Rejection> {
    let metadata = expired.metadata();
    let is_linked = metadata.kind == FileKind::File && metadata.links > 1;
    let _unlocked = is_linked.then(lease::before_links_are_known);
    let Some(object) = open_object(expired)? else { return Ok(None) };
    if files == FileLocks::Flock {
        lock(expired, &object)?;
    }
    // Only now: a lock is worth something only on the file that was judged.
    if !is_same(expired, &object)? {
        return Err(Rejection::Skipped(Skipped::Replaced));
    }
    Ok(Some(object))
}

/// Opens an entry. `None` for one that is never opened: a link cannot be locked, and to open a FIFO, a
/// socket or a device has side effects.
fn open_object(expired: &Expired) -> Result<Option<File>, Rejection> {
    let dir = &expired.directory().handle;
    let opened = match expired.metadata().kind {
        FileKind::File => open::file(dir, expired.name()),
        FileKind::Dir => open::dir(dir, expired.name(), Across::SameMount)
            .map(|opened| opened.handle)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        FileKind::Symlink | FileKind::Special => return Ok(None),
    };
    match opened {
        Ok(handle) => Ok(Some(handle.into())),
        Err(Errno::NOENT) => Err(Rejection::Skipped(Skipped::Gone)),
        // The name now belongs to a link, to a socket, or to a file where a directory was.
        Err(Errno::LOOP | Errno::NXIO | Errno::NOTDIR) => {
            Err(Rejection::Skipped(Skipped::Replaced))
        }
        Err(Errno::XDEV) => Err(Rejection::Skipped(Skipped::MountPoint)),
        // Another process holds a kernel lease on it.
        Err(Errno::WOULDBLOCK) => Err(Rejection::Skipped(Skipped::InUse)),
        Err(error) => Err(failure(expired, Action::Open, error.into())),
    }
}

fn lock(expired: &Expired, object: &File) -> Result<(), Rejection> {
    // By its full name, because `File` has a method of the same name.
    let locked = FileExt::try_lock_exclusive(object).or_else(|error| {
        // On NFS the exclusive lock needs a handle that is open for writing. A shared lock is refused in
        // the same cases, as long as the other process holds an exclusive one.
        match Errno::from_io_error(&error) {
            Some(Errno::BADF) => FileExt::try_lock_shared(object),
            _ => Err(error),
        }
    });
    match locked {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(Rejection::Skipped(Skipped::Locked))
        }
        Err(error) if is_unsupported(&error) => Err(Rejection::NoLock(format!(
            "the file system of {:?} does not support locks ({error}); --lock none sweeps it without \
             locks",
            expired.directory().path
        ))),
        Err(error) => Err(failure(expired, Action::Lock, error)),
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    let unsupported = [Errno::NOLCK, Errno::OPNOTSUPP, Errno::NOSYS, Errno::BADF];
    Errno::from_io_error(error).is_some_and(|errno| unsupported.contains(&errno))
}

/// Whether the opened file is the one that was judged.
fn is_same(expired: &Expired, object: &File) -> Result<bool, Rejection> {
    match stat::handle(object, expired.directory().mount) {
        Ok(found) => Ok(found.id == expired.metadata().id),
        Err(error) => Err(failure(expired, Action::Stat, error)),
    }
}

fn failure(expired: &Expired, action: Action, error: io::Error) -> Rejection {
    let (directory, name) = (expired.directory(), expired.name());
    let hint = error::hint(&directory.handle, Some(name), action, &error);
    let (zone, path) = (directory.zone.name.clone(), directory.path_of(name));
    Rejection::Failed(Failure { zone, action, path, error, hint })
}

/// Why `sweeper hold` has no lock.
#[derive(Debug)]
pub enum NotHeld {
    /// The path does not exist or cannot be opened.
    OpenFailed(io::Error),
    /// Another process holds the lock.
    Locked,
    /// The system refuses the lock.
    LockFailed(io::Error),
}

/// Takes the lock of the file or directory at `path` for `sweeper hold`, and tries for at most `wait`.
/// Commands that are started meanwhile inherit the handle; the lock ends with the last of them.
///
/// # Errors
/// Why it is not held.
pub fn wait_for(path: &Path, wait: Duration) -> Result<File, NotHeld> {
    let start = Instant::now();
    // NONBLOCK, so that the open of a FIFO does not wait for a writer.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    loop {
        let object = File::options()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path)
            .map_err(NotHeld::OpenFailed)?;
        match FileExt::try_lock_exclusive(&object) {
            // A sweeper may have removed the file meanwhile; then its name leads elsewhere.
            Ok(()) if has_name(&object, path)? => {
                fcntl_setfd(&object, FdFlags::empty())
                    .map_err(|error| NotHeld::LockFailed(error.into()))?;
                return Ok(object);
            }
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if start.elapsed() >= wait {
                    return Err(NotHeld::Locked);
                }
                std::thread::sleep(RETRY_INTERVAL.min(wait));
            }
            Err(error) => return Err(NotHeld::LockFailed(error)),
        }
    }
}

/// Whether `path` leads to this open file.
fn has_name(object: &File, path: &Path) -> Result<bool, NotHeld> {
    let named = std::fs::metadata(path).map_err(NotHeld::OpenFailed)?;
    let held = object.metadata().map_err(NotHeld::LockFailed)?;
    Ok((named.dev(), named.ino()) == (held.dev(), held.ino()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use rustix::io::fcntl_getfd;

    use super::super::testing::{TestZone, assert_becomes_free, try_lock};
    use super::*;
    use crate::rules::Moment;

    fn zone() -> TestZone {
        TestZone::new(LockKind::Flock)
    }

    fn locked(expired: Expired) -> Result<Claimed, Rejected> {
        claim(expired, FileLocks::Flock, None)
    }

    #[track_caller]
    fn assert_skipped(end: Result<Claimed, Rejected>, why: Skipped) {
        match end.unwrap_err().why {
            Rejection::Skipped(skipped) => assert_eq!(skipped, why),
            other @ (Rejection::Failed(_)
            | Rejection::NotWritten(_)
            | Rejection::Unreached
            | Rejection::NoLock(_)) => {
                panic!("{other:?}")
            }
        }
    }

    fn mkfifo(path: &Path) {
        mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    }

    #[test]
    fn an_entry_that_another_process_has_locked_is_skipped() {
        let zone = zone();
        zone.file("file");
        fs::create_dir(zone.path("dir")).unwrap();
        for (name, cname) in [("file", c"file"), ("dir", c"dir")] {
            let held = zone.hold(name);
            assert_skipped(locked(zone.expired(cname)), Skipped::Locked);
            drop(held);
            assert_becomes_free(|| locked(zone.expired(cname)).is_ok());
        }
        let shared = File::open(zone.path("file")).unwrap();
        FileExt::lock_shared(&shared).unwrap();
        assert_skipped(locked(zone.expired(c"file")), Skipped::Locked);
    }

    #[test]
    fn a_claim_holds_the_lock_until_it_is_dropped() {
        let zone = zone();
        let path = zone.file("file");
        let claimed = locked(zone.expired(c"file")).unwrap();
        assert_eq!(try_lock(&path).unwrap_err(), Errno::WOULDBLOCK);
        drop(claimed);
        assert_becomes_free(|| try_lock(&path).is_ok());
    }

    #[test]
    fn without_locks_none_is_taken_and_none_is_in_the_way() {
        let zone = zone();
        let path = zone.file("file");
        let claimed = claim(zone.expired(c"file"), FileLocks::Unlocked, None).unwrap();
        let held = try_lock(&path).unwrap();
        claim(zone.expired(c"file"), FileLocks::Unlocked, None).unwrap();
        drop((claimed, held));
        // What was judged is compared all the same.
        let expired = zone.expired(c"file");
        zone.file("new");
        fs::rename(zone.path("new"), &path).unwrap();
        assert_skipped(claim(expired, FileLocks::Unlocked, None), Skipped::Replaced);
    }

    #[test]
    fn a_name_that_leads_elsewhere_now_is_replaced() {
        type Make = fn(&Path);
        let makers: [Make; 5] = [
            |path| fs::write(path, "").unwrap(),
            |path| symlink("target", path).unwrap(),
            mkfifo,
            |path| drop(UnixListener::bind(path).unwrap()),
            |path| fs::create_dir(path).unwrap(),
        ];
        for make in makers {
            let zone = zone();
            zone.file("target");
            zone.file("file");
            fs::create_dir(zone.path("dir")).unwrap();
            for (name, cname) in [("file", c"file"), ("dir", c"dir")] {
                let expired = zone.expired(cname);
                // It must exist, or its inode number could be used again.
                fs::rename(zone.path(name), zone.path(&format!("old {name}"))).unwrap();
                make(&zone.path(name));
                assert_skipped(locked(expired), Skipped::Replaced);
            }
        }
    }

    #[test]
    fn an_entry_that_another_process_removed_is_gone() {
        let zone = zone();
        let path = zone.file("file");
        let expired = zone.expired(c"file");
        fs::rename(path, zone.path("moved")).unwrap();
        assert_skipped(locked(expired), Skipped::Gone);
    }

    #[test]
    fn links_and_special_files_are_never_opened() {
        let zone = zone();
        zone.file("target");
        symlink("target", zone.path("link")).unwrap();
        mkfifo(&zone.path("fifo"));
        for name in [c"link", c"fifo"] {
            let claimed = locked(zone.expired(name)).unwrap();
            let metadata = *claimed.expired().metadata();
            let rechecked = claimed.recheck(metadata, Moment::from_unix(0, 0)).unwrap();
            assert!(rechecked.object().is_none(), "{name:?}");
        }
        zone.file("file");
        let claimed = locked(zone.expired(c"file")).unwrap();
        let metadata = *claimed.expired().metadata();
        assert!(claimed.recheck(metadata, Moment::from_unix(0, 0)).unwrap().object().is_some());
    }

    #[test]
    fn a_lock_to_hold_is_inherited_by_commands_and_excludes_a_claim() {
        let zone = zone();
        let path = zone.file("file");
        let missing = wait_for(&zone.path("missing"), Duration::ZERO);
        assert!(matches!(missing, Err(NotHeld::OpenFailed(_))), "{missing:?}");
        let held = wait_for(&path, Duration::ZERO).unwrap();
        assert!(!fcntl_getfd(&held).unwrap().contains(FdFlags::CLOEXEC));
        assert_skipped(locked(zone.expired(c"file")), Skipped::Locked);
        let second = wait_for(&path, Duration::from_millis(1));
        assert!(matches!(second, Err(NotHeld::Locked)), "{second:?}");
    }

    #[test]
    fn a_lock_that_is_waited_for_is_of_the_file_that_has_the_name_now() {
        let zone = zone();
        let path = zone.file("file");
        let held = zone.hold("file");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| wait_for(&path, Duration::from_secs(60)).unwrap());
            zone.file("new");
            fs::rename(&path, zone.path("old")).unwrap();
            fs::rename(zone.path("new"), &path).unwrap();
            drop(held);
            let locked = waiting.join().unwrap();
            let ino = |metadata: fs::Metadata| metadata.ino();
            assert_eq!(ino(locked.metadata().unwrap()), ino(fs::metadata(&path).unwrap()));
        });
    }
}
