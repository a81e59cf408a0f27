//! Removals of real files and trees, with a change between the second look and the removal.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::Duration;

use super::*;
use crate::control::{Control, Unlimited};
use crate::dispose::DryRun;
use crate::fs::lease::turn::Turn;
use crate::inspect::FileInspector;
use crate::inspect::tests::Setup;
use crate::protocol::{Claimed, Guard, Inspector, Lease, Recovered, Recovery, Rejection, Skipped};
use crate::rules::{Bytes, LastUse, LockKind, MinAge};

fn dispose(setup: &Setup, verified: Verified) -> Result<Removed, Rejected> {
    let notes = Notes::default();
    Unlink::new(&Unlimited, &notes, InUseProbe::On).dispose(verified, setup.now)
}

/// A verified tree of `files` files in one subdirectory. Whatever is changed from now on has a newer ctime.
fn verified(setup: &Setup, files: usize) -> Verified {
    fs::create_dir_all(setup.path("tree/sub")).unwrap();
    for file in 0..files {
        fs::write(setup.path(format!("tree/sub/{file:04}")), "x").unwrap();
    }
    let verified = setup.inspect(setup.claim(c"tree")).unwrap();
    wait_until_later(setup, verified.changed().unwrap());
    verified
}

/// Waits until the clock of the file system, which is coarse, has passed a moment. What it says then.
fn wait_until_later(setup: &Setup, than: Moment) -> Moment {
    let tick = setup.path("tick");
    let ctime = || {
        fs::write(&tick, "x").unwrap();
        ctime_of(&tick)
    };
    let mut now = ctime();
    while now <= than {
        std::thread::yield_now();
        now = ctime();
    }
    // The test may count what is in the directory.
    fs::rename(&tick, setup.aside.path().join("tick")).unwrap();
    now
}

fn ctime_of(path: &Path) -> Moment {
    let seen = fs::metadata(path).unwrap();
    Moment::from_unix(seen.ctime(), u32::try_from(seen.ctime_nsec()).unwrap())
}

/// As by a worker that removes another name of the file while the tree is looked at.
#[test]
fn a_file_that_was_changed_during_the_look_and_not_after_it_does_not_keep_its_tree() {
    static BEGAN: OnceLock<Moment> = OnceLock::new();
    let setup = Setup::new(LastUse::Tree);
    fs::create_dir_all(setup.path("tree/sub")).unwrap();
    let file = setup.path("tree/sub/file");
    fs::write(&file, "x").unwrap();
    let touch = || fs::set_permissions(&file, fs::metadata(&file).unwrap().permissions()).unwrap();
    let began = *BEGAN.get_or_init(|| wait_until_later(&setup, ctime_of(&file)));
    wait_until_later(&setup, began);
    touch();
    let notes = Notes::default();
    let inspector = FileInspector::new(&Unlimited, &notes, InUseProbe::On);
    let inspector = inspector.with_clock(|| *BEGAN.get().unwrap());
    let look = || inspector.inspect(setup.claim(c"tree"), setup.now).unwrap();
    let verified = look();
    assert!(verified.changed() < Some(ctime_of(&file)));
    wait_until_later(&setup, ctime_of(&file));
    touch();
    let why = dispose(&setup, verified).unwrap_err().why;
    assert!(matches!(why, Rejection::Failed(_) | Rejection::Skipped(Skipped::Used)), "{why:?}");
    assert!(file.exists());
    assert!(dispose(&setup, look()).is_ok());
}

#[test]
fn a_file_and_a_tree_are_removed_and_their_space_is_counted() {
    let setup = Setup::new(LastUse::Tree);
    fs::write(setup.path("file"), "x".repeat(10_000)).unwrap();
    let removed = dispose(&setup, setup.inspect(setup.claim(c"file")).unwrap()).unwrap();
    assert!(removed.freed >= Bytes(4096), "{:?}", removed.freed);
    assert!(dispose(&setup, verified(&setup, 100)).unwrap().freed > Bytes(0));
    assert_eq!(fs::read_dir(setup.scratch.path()).unwrap().count(), 0);
}

#[test]
fn a_dry_run_removes_nothing_and_frees_as_much() {
    let setup = Setup::new(LastUse::Tree);
    let would = DryRun::new(&Unlimited, InUseProbe::On)
        .dispose(verified(&setup, 10), setup.now)
        .unwrap()
        .freed;
    assert!(setup.path("tree/sub/0009").exists());
    assert_eq!(dispose(&setup, verified(&setup, 10)).unwrap().freed, would);
}

/// A claim of a file with several names has its turn.
#[derive(Debug)]
struct WithTurn(Turn);

impl Lease for WithTurn {
    fn is_valid(&self) -> bool {
        let Self(_turn) = self;
        true
    }
}

/// The last question whether it is in use must not wait for that turn.
#[test]
fn a_file_that_has_lost_its_other_name_since_it_was_claimed_is_in_use_if_it_is_open() {
    let setup = Setup::under(LastUse::Mtime, LockKind::Flock);
    fs::write(setup.path("file"), "x").unwrap();
    fs::hard_link(setup.path("file"), setup.path("other")).unwrap();
    let (object, expired) = (File::open(setup.path("file")).unwrap(), setup.expired(c"file"));
    let turn = WithTurn(Turn::of(expired.metadata().id));
    let claimed = Claimed::new(expired, Guard::new(Some(object), Some(Box::new(turn))));
    fs::write(setup.path("new"), "y").unwrap();
    fs::rename(setup.path("new"), setup.path("other")).unwrap();
    let verified = setup.inspect(claimed).unwrap();
    let _reader = File::open(setup.path("file")).unwrap();
    let (done, result) = std::sync::mpsc::channel();
    let removing = move || {
        let end = dispose(&setup, verified).map(drop).map_err(|end| end.why);
        done.send(end).unwrap();
    };
    std::thread::Builder::new().spawn(removing).unwrap();
    let end = result.recv_timeout(Duration::from_secs(60)).expect("it waits for itself");
    assert!(matches!(end, Err(Rejection::Skipped(Skipped::InUse))), "{end:?}");
}

/// A lock of the application that has run out.
#[derive(Debug)]
struct RunOut;

impl Lease for RunOut {
    fn is_valid(&self) -> bool {
        false
    }
}

#[test]
fn a_file_whose_lock_has_run_out_before_its_removal_is_locked() {
    let setup = Setup::under(LastUse::Tree, LockKind::Application);
    fs::write(setup.path("file"), "x").unwrap();
    let object = File::open(setup.path("file")).unwrap();
    let guard = Guard::new(Some(object), Some(Box::new(RunOut)));
    let claimed = Claimed::new(setup.expired(c"file"), guard);
    let rejected = dispose(&setup, setup.inspect(claimed).unwrap()).unwrap_err();
    assert!(matches!(rejected.why, Rejection::Skipped(Skipped::Locked)), "{rejected:?}");
    assert!(setup.path("file").exists());
}

/// What is done to a tree after the second look, and the file that must be left.
type Change = (&'static str, fn(&Path), &'static str);

#[test]
fn what_is_changed_after_the_second_look_survives() {
    let changes: [Change; 5] = [
        ("written", |tree| fs::write(tree.join("sub/0000"), "new").unwrap(), "sub/0000"),
        ("added", |tree| fs::write(tree.join("sub/new"), "new").unwrap(), "sub/new"),
        ("replaced", replace, "sub/0000"),
        ("added beside", |tree| fs::write(tree.join("new"), "new").unwrap(), "new"),
        ("added below", add_below, "sub/deep/new"),
    ];
    for (what, change, left) in changes {
        for files in [1, 100, 250, 600] {
            let setup = Setup::new(LastUse::Tree);
            let verified = verified(&setup, files);
            // A write waits for the lease that the second look holds, so it needs a thread of its own.
            let tree = setup.path("tree");
            let leased = fs::metadata(tree.join("sub/0000")).unwrap().ino();
            let changing = in_a_thread({
                let tree = tree.clone();
                move || change(&tree)
            });
            while !changing.is_finished() && !is_lease_breaking(leased) {
                std::thread::yield_now();
            }
            let rejected = dispose(&setup, verified);
            assert!(rejected.is_err(), "{what}, {files} files: {rejected:?}");
            changing.join().unwrap();
            assert!(tree.join(left).exists(), "{what}, {files} files");
        }
    }
}

fn in_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    std::thread::Builder::new().spawn(work).unwrap()
}

fn replace(tree: &Path) {
    fs::write(tree.join("../other"), "other").unwrap();
    fs::rename(tree.join("../other"), tree.join("sub/0000")).unwrap();
}

fn add_below(tree: &Path) {
    fs::create_dir(tree.join("sub/deep")).unwrap();
    fs::write(tree.join("sub/deep/new"), "new").unwrap();
}

/// Whether a process waits for our lease on the file with this inode number to end, by a line such as
/// `1: LEASE  BREAKING  READ 4711 08:01:1234 0 EOF`. Another process can have one on another file system.
fn is_lease_breaking(ino: u64) -> bool {
    let (locks, file) = (fs::read_to_string("/proc/locks").unwrap(), format!(":{ino} "));
    let ours = format!(" {} ", std::process::id());
    let is_it = |line: &str| line.contains(&ours) && line.contains(&file);
    locks.lines().any(|line| line.contains("BREAKING") && is_it(line))
}

#[test]
fn a_file_that_is_opened_after_the_second_look_survives() {
    for files in [1, 100, 600] {
        let setup = Setup::new(LastUse::Tree);
        let verified = verified(&setup, files);
        let path = setup.path("tree/sub/0000");
        let leased = fs::metadata(&path).unwrap().ino();
        let reader = in_a_thread(move || File::open(path).unwrap());
        while !reader.is_finished() && !is_lease_breaking(leased) {
            std::thread::yield_now();
        }
        let rejected = dispose(&setup, verified).unwrap_err();
        assert!(
            matches!(rejected.why, Rejection::Skipped(Skipped::InUse) | Rejection::Failed(_)),
            "{files}: {rejected:?}"
        );
        assert!(setup.path("tree/sub/0000").exists(), "{files} files");
        drop(reader.join().unwrap());
    }
}

/// The times of files are the server's. If its clock is behind, they look older than they are.
#[test]
fn the_clock_of_a_server_does_not_shorten_the_least_age_under_pressure() {
    /// Half an hour ahead of the clock that the files are made by.
    fn ahead() -> Moment {
        let made = tempfile::tempfile().unwrap().metadata().unwrap();
        Moment::from_unix(made.mtime() + 1800, 0)
    }
    // Made now, and judged an hour later: it looks 60 minutes old, and is 30.
    for (minutes, is_removed) in [(40, false), (25, true)] {
        for name in [c"file", c"tree"] {
            let mut setup = Setup::new(LastUse::Mtime);
            fs::write(setup.path("file"), "x").unwrap();
            fs::create_dir(setup.path("tree")).unwrap();
            fs::write(setup.path("tree/member"), "x").unwrap();
            let least = MinAge::from_duration(Duration::from_secs(60 * minutes));
            let expired = setup.early_on_server(name, least);
            let path = setup.path(name.to_str().unwrap());
            let guard = Guard::new(File::open(&path).ok(), None);
            let notes = Notes::default();
            let inspector = FileInspector::new(&Unlimited, &notes, InUseProbe::Off);
            let verified = inspector.inspect(Claimed::new(expired, guard), setup.now).unwrap();
            let unlink = Unlink::new(&Unlimited, &notes, InUseProbe::Off).with_clock(ahead);
            let result = unlink.dispose(verified, setup.now);
            assert_eq!(!path.exists(), is_removed, "{name:?} {minutes}: {result:?}");
            if let Err(rejected) = result {
                assert!(matches!(rejected.why, Rejection::Skipped(Skipped::Used)), "{rejected:?}");
            }
        }
    }
}

/// A run leaves a zone alone when the clock of its server is far off. A dry run cannot know that, and does not differ
/// in silence.
#[test]
fn a_dry_run_on_a_server_says_that_it_does_not_compare_the_clock() {
    for is_served in [true, false] {
        let mut setup = Setup::new(LastUse::Mtime);
        fs::write(setup.path("file"), "x").unwrap();
        let least = MinAge::from_duration(Duration::from_secs(1));
        let expired =
            if is_served { setup.early_on_server(c"file", least) } else { setup.expired(c"file") };
        let guard = Guard::new(File::open(setup.path("file")).ok(), None);
        let notes = Notes::default();
        let inspector = FileInspector::new(&Unlimited, &notes, InUseProbe::Off);
        let verified = inspector.inspect(Claimed::new(expired, guard), setup.now).unwrap();
        let zone = verified.expired().directory().zone.name.clone();
        let dry_run = DryRun::new(&Unlimited, InUseProbe::Off).noting(&notes);
        dry_run.dispose(verified, setup.now).unwrap();
        let is_told = notes.of(&zone).iter().any(|note| note == Notes::CLOCK_NOT_COMPARED);
        assert_eq!(is_told, is_served);
    }
}

/// Locks a directory as soon as it can, and remembers what is in it then.
struct LocksLater {
    dir: File,
    files: OnceLock<usize>,
}

/// How many files are in an open directory, wherever it is by now.
fn files_in(dir: &File) -> usize {
    let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_type().unwrap());
    entries.filter(fs::FileType::is_file).count()
}

impl Control for LocksLater {
    fn is_stopped(&self) -> bool {
        false
    }

    fn is_urgent(&self) -> bool {
        false
    }

    fn pace(&self, _count: usize) -> bool {
        if self.files.get().is_none() && fs2::FileExt::try_lock_exclusive(&self.dir).is_ok() {
            self.files.set(files_in(&self.dir)).unwrap();
        }
        true
    }
}

#[test]
fn a_directory_that_is_locked_while_the_removal_is_below_it_keeps_its_files() {
    let setup = Setup::new(LastUse::Tree);
    // One that is closed while the walk is below it.
    let dir = setup.path("tree").join(["d"; 8].join("/"));
    for below in ["x", "y", "z"] {
        fs::create_dir_all(dir.join(below)).unwrap();
        fs::write(dir.join(below).join("file"), "x").unwrap();
    }
    for number in 0..400 {
        fs::write(dir.join(format!("file-with-a-long-name-{number}")), "x").unwrap();
    }
    let control = LocksLater { dir: File::open(&dir).unwrap(), files: OnceLock::new() };
    let verified = setup.inspect(setup.claim(c"tree")).unwrap();
    let notes = Notes::default();
    let result = Unlink::new(&control, &notes, InUseProbe::On).dispose(verified, setup.now);
    let locked_with = *control.files.get().expect("it was locked meanwhile");
    let why = result.unwrap_err().why;
    assert!(matches!(why, Rejection::Failed(_)), "it was removed in part: {why:?}");
    assert!(locked_with > 0);
    assert_eq!(files_in(&control.dir), locked_with);
}

/// Other workers may find an entry by its name as soon as it has it again.
#[test]
fn the_return_of_an_entry_is_told_before_it_has_its_name_again() {
    let setup = Setup::new(LastUse::Tree);
    fs::create_dir(setup.path("tree")).unwrap();
    let directory = std::sync::Arc::clone(setup.expired(c"tree").directory());
    let notes = Notes::default();
    let left = Unlink::new(&Unlimited, &notes, InUseProbe::On);
    drop(left.trees.quarantines.detach(&directory, c"tree").unwrap());
    drop(left);
    assert!(!setup.path("tree").exists());
    let private = fs::read_dir(setup.scratch.path()).unwrap().next().unwrap().unwrap().file_name();
    let private = std::ffi::CString::new(private.into_encoded_bytes()).unwrap();
    let (told, mut returned) = (std::cell::Cell::new(0), 0);
    let mut each = |recovered: Recovered<'_>| {
        assert!(matches!(recovered, Recovered::Returned(..)), "{recovered:?}");
        returned += 1;
    };
    let mut recovery = Recovery {
        judge: &|_| panic!("nothing was to be removed"),
        allow: &|_, _| true,
        give_back: &|_, _| {},
        returns: &|_, name, _| {
            assert_eq!(name, c"tree");
            assert!(!setup.path("tree").exists(), "it is told before");
            told.set(told.get() + 1);
        },
        stays: &|_, _, _| panic!("it returns"),
        each: &mut each,
    };
    let disposer = Unlink::new(&Unlimited, &notes, InUseProbe::On);
    disposer.recover(&directory, &private, setup.now, &mut recovery);
    assert_eq!((told.get(), returned), (1, 1));
    assert!(setup.path("tree").exists());
}
