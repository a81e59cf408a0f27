//! One sweeper at a time: a lock on the directories that a pass lists, and one on the data root for a
//! service.
//!
//! This module must not be relied on to protect entries: each removal has its own lock, and two passes at the same
//! time lose nothing. This lock only keeps them from doing the same work twice. It is a `flock` on the open
//! directory, so there is no lock file that a pass could sweep or a crash could leave behind. None of
//! these directories is an entry, so this lock does not conflict with the locks of entries or with
//! `sweeper hold`. On NFS, only sweepers on the same machine see the lock of a directory.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::fs::{mounts, stat};
use crate::rules::ZoneName;

/// Whether other sweepers may work at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// None may.
    Alone,
    /// Those that share too may: the shards of the same work.
    WithOthers,
    /// All may.
    WithAll,
}

/// The locks that keep other sweepers out, held until this is dropped.
#[derive(Debug, Default)]
pub struct ExclusiveLock {
    held: Vec<OwnedFd>,
    refused: BTreeMap<ZoneName, String>,
}

impl ExclusiveLock {
    /// No lock. A dry run takes none, so that it can run beside a pass.
    pub fn none() -> Self {
        Self::default()
    }

    /// For a pass: locks the open directory of each root, without waiting. When another sweeper holds one,
    /// its zone is refused.
    pub fn of_pass(roots: Vec<(ZoneName, OwnedFd)>, sharing: Sharing) -> Self {
        let mut lock = Self::none();
        for (zone, handle) in roots {
            if lock.refused.contains_key(&zone) {
                continue;
            }
            match take(handle, sharing) {
                Ok(handle) => lock.held.extend(handle),
                Err(holder) => {
                    lock.refused.insert(zone, in_the_way(&holder));
                }
            }
        }
        lock
    }

    /// For a service: locks the open data root as long as the service runs, without waiting. A pass that is
    /// started by hand does not take this lock.
    ///
    /// # Errors
    /// Who holds it: another service.
    pub fn of_service(handle: OwnedFd, sharing: Sharing) -> Result<Self, String> {
        let held = take(handle, sharing)?;
        Ok(Self { held: held.into_iter().collect(), refused: BTreeMap::new() })
    }

    /// Why a zone cannot be swept now, if it cannot.
    pub fn refusal(&self, zone: &ZoneName) -> Option<&str> {
        self.refused.get(zone).map(String::as_str)
    }
}

/// Why zones could not be locked now, as far as the system shows it, without an attempt.
pub fn foresee(roots: Vec<(ZoneName, OwnedFd)>, sharing: Sharing) -> BTreeMap<ZoneName, String> {
    let mut refused = BTreeMap::new();
    for (zone, handle) in roots {
        if let Some(pid) = holder_of(&handle, sharing) {
            let why = in_the_way(&named(pid));
            refused.entry(zone).or_insert(why);
        }
    }
    refused
}

fn in_the_way(holder: &str) -> String {
    format!("{holder} holds the lock on the directory (probably another sweeper)")
}

/// Locks an open directory, without waiting. `None`: go on without the lock, because the file system does not
/// support it or the work is shared with all. The error says who holds it.
fn take(handle: OwnedFd, sharing: Sharing) -> Result<Option<OwnedFd>, String> {
    let operation = match sharing {
        Sharing::Alone => FlockOperation::NonBlockingLockExclusive,
        Sharing::WithOthers | Sharing::WithAll => FlockOperation::NonBlockingLockShared,
    };
    match flock(&handle, operation) {
        Ok(()) => Ok(Some(handle)),
        Err(Errno::WOULDBLOCK) if sharing != Sharing::WithAll => Err(holder(&handle)),
        Err(_) => Ok(None),
    }
}

/// How often the kernel's list of locks is read before a lock counts as one that it does not show.
const READINGS: usize = 4;

/// Who holds the lock of a directory. Any process that can open the directory can lock it, so this need not be
/// a sweeper. `/proc` does not show processes in other containers or on other machines.
fn holder(handle: impl AsFd) -> String {
    holder_of(handle, Sharing::Alone)
        .map_or_else(|| "a process that is not visible from here".to_owned(), named)
}

/// Who holds the `flock` of a file or a directory, if the system shows it.
pub fn named_holder_of(handle: impl AsFd) -> Option<String> {
    holder_of(handle, Sharing::Alone).map(named)
}

/// The process that keeps the lock of a directory from being taken.
fn holder_of(handle: impl AsFd, sharing: Sharing) -> Option<u32> {
    let (id, mount) = stat::id_and_mount(handle).ok()?;
    // What `stat` says is another number on Btrfs.
    let (major, minor) = mounts::with_id(&mounts::read(), mount)?.device;
    let file = format!("{major:02x}:{minor:02x}:{}", id.ino);
    // A lock can be missing from a list that is read while others come and go.
    (0..READINGS).find_map(|_| pid_in(&read("/proc/locks"), &file, sharing))
}

fn named(pid: u32) -> String {
    let name = read(&format!("/proc/{pid}/comm"));
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if name.is_empty() && number.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH)) {
        // The lock belongs to the open file, which others can inherit.
        return format!("a process that process {pid} started before it ended");
    }
    format!("process {pid} ({:?})", name.trim_end())
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The process that holds the `flock` of a file in the way of one with this `sharing`, in the format of `/proc/locks`
/// (proc(5)): `1: FLOCK  ADVISORY  WRITE 4711 08:01:131074 0 EOF`.
fn pid_in(locks: &str, file: &str, sharing: Sharing) -> Option<u32> {
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["FLOCK", _, kind, pid, held, ..] = words.get(1..)? else { return None };
        let is_in_the_way = match sharing {
            Sharing::Alone => true,
            Sharing::WithOthers => *kind == "WRITE",
            Sharing::WithAll => false,
        };
        let pid = pid.parse().ok().filter(|pid| *pid > 0)?;
        (*held == file && is_in_the_way).then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::super::testing::{assert_becomes_free, try_lock};
    use super::*;

    /// A data root with the roots of a few zones.
    struct DataRoot(TempDir);

    impl DataRoot {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            for dir in ["a", "b", "c"] {
                std::fs::create_dir(root.path().join(dir)).unwrap();
            }
            Self(root)
        }

        fn path(&self, dir: &str) -> PathBuf {
            self.0.path().join(dir)
        }

        fn open(&self, dir: &str) -> OwnedFd {
            File::open(self.path(dir)).unwrap().into()
        }

        /// Zone and directory of each root.
        fn lock(&self, roots: &[(&str, &str)], sharing: Sharing) -> ExclusiveLock {
            let root = |(zone, dir): &(&str, &str)| (ZoneName::new(zone), self.open(dir));
            ExclusiveLock::of_pass(roots.iter().map(root).collect(), sharing)
        }

        fn pass(&self, roots: &[(&str, &str)]) -> ExclusiveLock {
            self.lock(roots, Sharing::Alone)
        }
    }

    fn refusal<'l>(lock: &'l ExclusiveLock, zone: &str) -> Option<&'l str> {
        lock.refusal(&ZoneName::new(zone))
    }

    #[test]
    fn the_zones_of_another_sweeper_are_left_alone_and_no_others() {
        let root = DataRoot::new();
        let first = root.pass(&[("x", "a")]);
        assert_eq!(refusal(&first, "x"), None);
        let second = root.pass(&[("x", "a"), ("y", "b")]);
        let why = refusal(&second, "x").unwrap();
        assert!(
            why.ends_with(" holds the lock on the directory (probably another sweeper)"),
            "{why}"
        );
        assert_eq!(refusal(&second, "y"), None);
        assert!(refusal(&root.pass(&[("y", "b")]), "y").is_some());
        drop((first, second));
        assert_becomes_free(|| refusal(&root.pass(&[("x", "a")]), "x").is_none());
    }

    #[test]
    fn one_root_that_is_held_refuses_the_whole_zone() {
        let root = DataRoot::new();
        let _other = root.pass(&[("x", "b")]);
        let lock = root.pass(&[("x", "a"), ("x", "b"), ("x", "c")]);
        assert!(refusal(&lock, "x").is_some());
        assert!(try_lock(&root.path("c")).is_ok(), "it is not tried any more");
    }

    #[test]
    fn those_that_share_with_all_work_beside_everyone() {
        let root = DataRoot::new();
        let first = root.pass(&[("x", "a")]);
        let second = root.lock(&[("x", "a")], Sharing::WithAll);
        assert_eq!(refusal(&second, "x"), None);
        drop(first);
        assert_becomes_free(|| {
            let third = root.lock(&[("x", "a")], Sharing::WithAll);
            let fourth = root.lock(&[("x", "a")], Sharing::WithAll);
            third.held.len() == 1 && fourth.held.len() == 1
        });
    }

    #[test]
    fn shards_share_with_each_other_and_keep_others_out() {
        let root = DataRoot::new();
        let shard = || root.lock(&[("x", "a")], Sharing::WithOthers);
        let (first, second) = (shard(), shard());
        assert_eq!((refusal(&first, "x"), refusal(&second, "x")), (None, None));
        let mut alone = root.pass(&[("x", "a")]);
        assert!(refusal(&alone, "x").is_some());
        drop((first, second));
        assert_becomes_free(|| {
            alone = root.pass(&[("x", "a")]);
            refusal(&alone, "x").is_none()
        });
        assert!(refusal(&shard(), "x").is_some());
    }

    #[test]
    fn a_second_service_is_told_who_has_the_data_root_and_a_pass_does_not_meet_it() {
        let root = DataRoot::new();
        let service = || ExclusiveLock::of_service(root.open("."), Sharing::Alone);
        let first = service().unwrap();
        let error = service().unwrap_err();
        assert!(error.contains("process"), "{error}");
        assert_eq!(refusal(&root.pass(&[("x", "a")]), "x"), None);
        drop(first);
        assert_becomes_free(|| service().is_ok());
    }

    #[test]
    fn the_kernels_list_names_the_holder_and_not_those_that_wait() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 08:01:7 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 0 08:01:8 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 4711 08:01:9 0 EOF\n\
                     3: -> FLOCK  ADVISORY  WRITE 12 08:01:10 0 EOF\n\
                     4: FLOCK  ADVISORY  READ 4712 08:01:11 0 EOF\nnonsense\n";
        let pid_in = |file, sharing| super::pid_in(locks, file, sharing);
        assert_eq!(pid_in("08:01:9", Sharing::Alone), Some(4711));
        for file in ["08:01:7", "08:01:8", "08:01:10", "08:01:1"] {
            assert_eq!(pid_in(file, Sharing::Alone), None, "{file}");
        }
        for (sharing, alone, shared) in [
            (Sharing::Alone, Some(4711), Some(4712)),
            (Sharing::WithOthers, Some(4711), None),
            (Sharing::WithAll, None, None),
        ] {
            let found = ["08:01:9", "08:01:11"].map(|file| pid_in(file, sharing));
            assert_eq!(found, [alone, shared], "{sharing:?}");
        }
    }
}
