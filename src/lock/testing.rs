//! A zone in a temporary directory, for the tests of this module.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use crate::fs::stat::{self, Freshness};
use crate::protocol::{Directory, Entry, Expired, Storage};
use crate::rules::verdict::evaluate;
use crate::rules::{
    EntryKind, Exclude, Expiry, LastUse, Location, LockKind, Moment, Names, Zone, ZoneName,
};

/// A zone whose entries are all expired.
pub(super) struct TestZone {
    root: TempDir,
    directory: Arc<Directory>,
}

impl TestZone {
    pub(super) fn new(lock: LockKind) -> Self {
        let root = tempfile::tempdir().unwrap();
        let handle = OwnedFd::from(File::open(root.path()).unwrap());
        let mount = mount_of(&handle);
        let zone = Zone {
            name: ZoneName::new("z"),
            location: Location::flat("z"),
            entry: EntryKind::Any,
            names: Names::Any,
            last_use: LastUse::Mtime,
            ttls: vec![Expiry::AtOnce],
            lock,
            describe_name: |_| None,
        };
        let directory = Arc::new(Directory {
            zone: Arc::new(zone),
            path: root.path().to_owned(),
            dir: "z".into(),
            id: stat::handle(&handle, mount).unwrap().id,
            handle,
            mount,
            listed: None,
            storage: Storage::default(),
        });
        Self { root, directory }
    }

    pub(super) fn zone(&self) -> Arc<Zone> {
        Arc::clone(&self.directory.zone)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Opens the directory once more.
    pub(super) fn open(&self) -> OwnedFd {
        File::open(self.root.path()).unwrap().into()
    }

    /// Makes a file.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, name).unwrap();
        path
    }

    /// Locks a file or a directory as another process would: through a handle of its own.
    pub(super) fn hold(&self, name: &str) -> File {
        try_lock(&self.path(name)).unwrap()
    }

    /// The entry with this name.
    pub(super) fn expired(&self, name: &CStr) -> Expired {
        let Directory { zone, dir, handle, mount, .. } = &*self.directory;
        let metadata = stat::at(handle, name, *mount, Freshness::Synced).unwrap();
        let entry = Entry { zone, directory: &self.directory, dir, name, metadata };
        evaluate(&entry, &Exclude::default(), Moment::from_unix(0, 0)).unwrap()
    }
}

/// Takes an exclusive lock without waiting.
pub(super) fn try_lock(path: &Path) -> rustix::io::Result<File> {
    let file = File::open(path).unwrap();
    flock(&file, FlockOperation::NonBlockingLockExclusive).map(|()| file)
}

/// Asserts that a lock which was released becomes free. A process that another test starts has a copy of
/// every handle until it runs its program, so it may take a moment.
#[track_caller]
pub(super) fn assert_becomes_free(mut is_free: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_free() {
        assert!(start.elapsed() < Duration::from_secs(60), "it is still locked");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn mount_of(handle: impl AsFd) -> u64 {
    let number = handle.as_fd().as_raw_fd();
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("mnt_id:")).unwrap();
    line.trim().parse().unwrap()
}
