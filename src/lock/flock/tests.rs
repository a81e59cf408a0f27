//! Locks of real files.

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
        | Rejection::NoLock(_)) => panic!("{other:?}"),
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
fn a_worker_that_has_locked_what_had_another_name_a_moment_ago_is_waited_for() {
    for _ in 0..20 {
        let zone = zone();
        let path = zone.file("one");
        fs::hard_link(&path, zone.path("other")).unwrap();
        let claimed = locked(zone.expired(c"one")).unwrap();
        fs::rename(zone.file("new"), &path).unwrap();
        let last = zone.expired(c"other");
        std::thread::scope(|scope| {
            let claiming = scope.spawn(|| locked(last).map(drop).map_err(|end| end.why));
            for _ in 0..1000 {
                std::thread::yield_now();
            }
            drop(claimed);
            assert!(claiming.join().unwrap().is_ok());
        });
    }
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
