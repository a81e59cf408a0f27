//! What the second look finds in real files and trees.

use std::ffi::CStr;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::Path;

use super::*;
use crate::control::Unlimited;
use crate::protocol::{Guard, Storage};
use crate::rules::verdict::{evaluate, evaluate_early};
use crate::rules::{
    Bytes, EntryKind, Exclude, Expiry, FileSystem, LastUse, Location, LockKind, MinAge, Names, Ttl,
    Zone, ZoneName,
};

/// A directory with one entry that has expired at `now`.
pub(crate) struct Setup {
    pub(crate) scratch: tempfile::TempDir,
    /// Another directory, for what must not be among the entries.
    pub(crate) aside: tempfile::TempDir,
    pub(crate) now: Moment,
    directory: Arc<Directory>,
}

impl Setup {
    pub(crate) fn new(last_use: LastUse) -> Self {
        Self::under(last_use, LockKind::Flock)
    }

    pub(crate) fn under(last_use: LastUse, lock: LockKind) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let handle = OwnedFd::from(File::open(scratch.path()).unwrap());
        let (id, mount) = stat::id_and_mount(&handle).unwrap();
        let zone = Arc::new(Zone {
            name: ZoneName::new("z"),
            location: Location::flat("z"),
            entry: EntryKind::Any,
            names: Names::Any,
            last_use,
            ttls: vec![Expiry::After(Ttl::from_secs(100))],
            lock,
            describe_name: |_| None,
        });
        let (path, dir) = (scratch.path().to_owned(), "z".into());
        let storage = Storage::default();
        let listed = None;
        let directory = Arc::new(Directory { zone, path, dir, handle, id, mount, listed, storage });
        // Everything that is made now has expired an hour later.
        let seen = stat::handle(&directory.handle, mount).unwrap();
        let now = Moment::from_unix(seen.ctime.unix_secs() + 3600, 0);
        Self { scratch, aside: tempfile::tempdir().unwrap(), now, directory }
    }

    pub(crate) fn path(&self, path: impl AsRef<Path>) -> std::path::PathBuf {
        self.scratch.path().join(path)
    }

    /// The entry, as the first look sees it.
    pub(crate) fn expired(&self, name: &CStr) -> Expired {
        let directory = &self.directory;
        let metadata =
            stat::at(&directory.handle, name, directory.mount, Freshness::Synced).unwrap();
        let entry = crate::protocol::Entry {
            zone: &directory.zone,
            directory,
            dir: &directory.dir,
            name,
            metadata,
        };
        evaluate(&entry, &Exclude::default(), self.now).unwrap()
    }

    /// The same on the files of a server, and judged as under pressure.
    pub(crate) fn early_on_server(&mut self, name: &CStr, min_age: MinAge) -> Expired {
        let directory = Arc::get_mut(&mut self.directory).unwrap();
        directory.storage = Storage::on(FileSystem::Nfs);
        let expired = self.expired(name);
        let directory = &self.directory;
        let (zone, dir, metadata) = (&*directory.zone, &*directory.dir, *expired.metadata());
        let entry = crate::protocol::Entry { zone, directory, dir, name, metadata };
        // When its zone was swept, it had not expired.
        let swept = Moment::from_unix(0, 0);
        evaluate_early(&entry, &Exclude::default(), min_age, swept, self.now).unwrap()
    }

    /// The same with its object opened.
    pub(crate) fn claim(&self, name: &CStr) -> Claimed {
        let object = File::open(self.directory.path_of(name)).ok();
        Claimed::new(self.expired(name), Guard::new(object, None))
    }

    pub(crate) fn inspect(&self, claimed: Claimed) -> Result<Verified, Rejected> {
        let notes = Notes::default();
        FileInspector::new(&Unlimited, &notes, InUseProbe::On).inspect(claimed, self.now)
    }
}

fn skipped(result: Result<Verified, Rejected>) -> Skipped {
    match result.unwrap_err().why {
        Rejection::Skipped(why) => why,
        other @ (Rejection::Failed(_)
        | Rejection::NotWritten(_)
        | Rejection::Unreached
        | Rejection::NoLock(_)) => {
            panic!("{other:?}")
        }
    }
}

#[test]
fn what_changed_since_the_first_look_is_skipped() {
    let setup = Setup::new(LastUse::Mtime);
    let path = setup.path("file");
    let fresh = |path: &Path| {
        let later = filetime::FileTime::from_unix_time(setup.now.unix_secs(), 0);
        filetime::set_file_mtime(path, later).unwrap();
    };
    let claim = || {
        fs::write(&path, "x").unwrap();
        setup.claim(c"file")
    };
    assert!(setup.inspect(claim()).is_ok());
    let claimed = claim();
    fresh(&path);
    assert_eq!(skipped(setup.inspect(claimed)), Skipped::Used);
    let claimed = claim();
    fs::rename(&path, setup.path("other")).unwrap();
    assert_eq!(skipped(setup.inspect(claimed)), Skipped::Gone);
    let claimed = claim();
    fs::rename(setup.path("other"), &path).unwrap();
    assert_eq!(skipped(setup.inspect(claimed)), Skipped::Replaced);
    let claimed = claim();
    let reader = File::open(&path).unwrap();
    assert_eq!(skipped(setup.inspect(claimed)), Skipped::InUse);
    drop(reader);
}

#[test]
fn a_tree_is_judged_by_the_newest_use_in_it() {
    let setup = Setup::new(LastUse::Tree);
    let deep = setup.path("tree/a/b");
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), "four").unwrap();
    let verified = setup.inspect(setup.claim(c"tree")).unwrap();
    assert!(verified.freed().bytes > Bytes(0) && verified.changed().is_some());
    // Its leases would keep the next line waiting.
    drop(verified);
    let later = filetime::FileTime::from_unix_time(setup.now.unix_secs() - 5, 0);
    filetime::set_file_mtime(deep.join("file"), later).unwrap();
    let rejected = setup.inspect(setup.claim(c"tree")).unwrap_err();
    assert!(matches!(rejected.why, Rejection::Skipped(Skipped::Used)));
}

#[test]
fn a_tree_with_an_open_file_or_a_locked_directory_is_skipped() {
    let setup = Setup::new(LastUse::Tree);
    fs::create_dir_all(setup.path("tree/a")).unwrap();
    fs::write(setup.path("tree/a/file"), "x").unwrap();
    let writer = File::options().write(true).open(setup.path("tree/a/file")).unwrap();
    assert_eq!(skipped(setup.inspect(setup.claim(c"tree"))), Skipped::InUse);
    drop(writer);
    let held = File::open(setup.path("tree/a")).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert_eq!(skipped(setup.inspect(setup.claim(c"tree"))), Skipped::Locked);
    drop(held);
    assert!(setup.inspect(setup.claim(c"tree")).is_ok());
}

/// The newest change in a tree is what a later addition is compared with.
#[test]
fn a_change_that_lies_ahead_of_the_clock_does_not_hide_a_later_one() {
    const CLOCK: Moment = Moment::from_unix(1_000_000_000, 5);
    let setup = Setup::new(LastUse::Tree);
    fs::create_dir_all(setup.path("tree/a")).unwrap();
    fs::write(setup.path("tree/a/file"), "four").unwrap();
    let notes = Notes::default();
    let inspector = FileInspector::new(&Unlimited, &notes, InUseProbe::On).with_clock(|| CLOCK);
    let verified = inspector.inspect(setup.claim(c"tree"), setup.now).unwrap();
    let changed = verified.changed().unwrap();
    assert!(changed < CLOCK, "a change at the clock is later: {changed:?}");
}
