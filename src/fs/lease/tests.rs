//! The kernel itself answers.

use super::locks::Lock;
use super::room::{ROOM, affordable_within};
use super::*;
use crate::fs::stat;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Resource, getrlimit};

fn metadata(path: &Path) -> Metadata {
    let file = File::open(path).unwrap();
    stat::handle(&file, 0).unwrap()
}

#[test]
fn a_file_that_is_open_elsewhere_is_in_use_and_an_opener_breaks_the_lease() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("file");
    fs::write(&path, "x").unwrap();
    ignore_lease_breaks();
    let reader = File::open(&path).unwrap();
    let file = File::open(&path).unwrap();
    assert_eq!(probe(&file, FileSystem::Local, 1), InUse::Open);
    assert!(!is_kept(&file).unwrap(), "there is no lease");
    drop(reader);
    assert_eq!(probe(&file, FileSystem::Local, 1), InUse::Free);
    assert!(is_kept(&file).unwrap());
    let flags = libc::O_NONBLOCK;
    let opened = std::os::unix::fs::OpenOptionsExt::custom_flags(File::options().read(true), flags)
        .open(&path);
    assert_eq!(opened.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert!(!is_kept(&file).unwrap(), "the kernel has asked for it back");
}

#[test]
fn leases_leave_each_worker_the_descriptors_that_it_needs() {
    assert_eq!(affordable_within(1024, 2), 432);
    assert_eq!(affordable_within(1024, 64), 0);
    assert_eq!(affordable_within(128, 1), 0);
    assert_eq!(affordable_within(1 << 20, 64), 8192);
}

/// A file with two names, in a directory.
fn with_two_names() -> (tempfile::TempDir, File) {
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("one"), "x").unwrap();
    fs::hard_link(scratch.path().join("one"), scratch.path().join("other")).unwrap();
    ignore_lease_breaks();
    let dir = File::open(scratch.path()).unwrap();
    (scratch, dir)
}

/// Asks by the second name, in another thread, after that has begun and while `opened` is still open for as
/// long as the other thread can be seen to wait; then that is closed.
fn probed_beside<T>(scratch: &tempfile::TempDir, dir: &File, opened: T) -> InUse {
    let metadata = metadata(&scratch.path().join("other"));
    std::thread::scope(|scope| {
        let probing =
            scope.spawn(|| probe_at(dir, c"other", FileSystem::Local, &metadata).unwrap());
        for _ in 0..1000 {
            std::thread::yield_now();
        }
        drop(opened);
        probing.join().unwrap()
    })
}

#[test]
fn a_worker_that_has_another_name_of_a_file_open_is_waited_for_and_is_not_another_process() {
    for _ in 0..20 {
        let (scratch, dir) = with_two_names();
        let path = scratch.path().join("one");
        let opened = (File::open(&path).unwrap(), turn::before_links_are_known());
        assert_eq!(probed_beside(&scratch, &dir, opened), InUse::Free);
        let turn = Turn::of(metadata(&path).id);
        let opened = (File::open(&path).unwrap(), turn);
        assert_eq!(probed_beside(&scratch, &dir, opened), InUse::Free);
    }
}

#[test]
fn a_worker_that_has_open_what_had_another_name_a_moment_ago_is_waited_for() {
    for _ in 0..20 {
        let (scratch, dir) = with_two_names();
        let path = scratch.path().join("one");
        let turn = Turn::of(metadata(&path).id);
        let opened = (File::open(&path).unwrap(), turn);
        fs::write(scratch.path().join("new"), "y").unwrap();
        fs::rename(scratch.path().join("new"), &path).unwrap();
        assert_eq!(probed_beside(&scratch, &dir, opened), InUse::Free);
    }
}

#[test]
fn a_file_with_several_names_that_another_process_has_open_is_in_use() {
    let (scratch, dir) = with_two_names();
    let metadata = metadata(&scratch.path().join("one"));
    let other = File::open(scratch.path().join("one")).unwrap();
    assert_eq!(probe_at(&dir, c"other", FileSystem::Local, &metadata).unwrap(), InUse::Open);
    drop(other);
    assert_eq!(probe_at(&dir, c"other", FileSystem::Local, &metadata).unwrap(), InUse::Free);
}

#[test]
fn a_lease_proves_that_a_file_is_free_on_a_local_file_system_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("file");
    fs::write(&path, "x").unwrap();
    ignore_lease_breaks();
    let asked = |file_system| {
        let file = File::open(&path).unwrap();
        (probe(&file, file_system, 1), is_kept(&file).unwrap())
    };
    let elsewhere = [FileSystem::Nfs, FileSystem::Smb, FileSystem::Fuse, FileSystem::Other];
    assert_eq!(asked(FileSystem::Local), (InUse::Free, true));
    for file_system in elsewhere {
        assert_eq!(asked(file_system), (InUse::Unknown, false), "{file_system:?}");
    }
    let other = File::open(&path).unwrap();
    for file_system in elsewhere {
        // A server of files refuses every lease; elsewhere it is another process of this machine.
        let refuses_all = matches!(file_system, FileSystem::Nfs | FileSystem::Smb);
        let answer = if refuses_all { InUse::Unknown } else { InUse::Open };
        assert_eq!(asked(file_system), (answer, false), "{file_system:?}");
    }
    flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
    assert_eq!(asked(FileSystem::Nfs), (InUse::Locked, false));
}

#[test]
fn a_locked_directory_is_recognized() {
    let scratch = tempfile::tempdir().unwrap();
    let (ours, theirs) = (File::open(scratch.path()).unwrap(), File::open(scratch.path()).unwrap());
    flock(&theirs, FlockOperation::NonBlockingLockExclusive).unwrap();
    assert_eq!(is_locked(&ours), Ok(true));
    drop(theirs);
    assert_eq!(is_locked(&ours), Ok(false));
    // Where the system does not tell, that is no answer: an `O_PATH` handle takes no lock.
    let path =
        rustix::fs::open(scratch.path(), rustix::fs::OFlags::PATH, rustix::fs::Mode::empty());
    assert_eq!(is_locked(path.unwrap()), Err(Errno::BADF));
}

#[test]
fn there_is_room_for_many_descriptors() {
    make_room(File::open("/").unwrap());
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
    let size: u64 = size.trim().parse().unwrap();
    assert!(size >= limit.min(ROOM.unsigned_abs().into()), "{size} of {limit}");
}

#[test]
fn where_another_thread_may_take_the_signal_of_a_break_every_lease_is_asked_about() {
    breaks::watch();
    breaks::forget();
    assert!(!breaks::were_none(), "the threads of the test do not block it");
}

/// The turn of a file may come long after the look at it.
#[test]
fn what_has_the_name_or_was_used_since_the_look_counts_as_open() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 4] = [
        ("replaced", |path| {
            fs::write(path.with_extension("new"), "y").unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        }),
        ("replaced by a link", |path| {
            std::os::unix::fs::symlink("one", path.with_extension("new")).unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        }),
        ("written", |path| {
            let file = File::options().write(true).open(path).unwrap();
            let later = file.metadata().unwrap().modified().unwrap() + Duration::from_secs(1);
            file.set_times(fs::FileTimes::new().set_modified(later)).unwrap();
        }),
        ("linked", |path| fs::hard_link(path, path.with_extension("link")).unwrap()),
    ];
    for (what, change) in changes {
        let (scratch, dir) = with_two_names();
        let metadata = metadata(&scratch.path().join("other"));
        let ask = || probe_at(&dir, c"other", FileSystem::Local, &metadata).unwrap();
        assert_eq!(ask(), InUse::Free);
        change(&scratch.path().join("other"));
        let answer = if what == "linked" { InUse::Free } else { InUse::Open };
        assert_eq!(ask(), answer, "{what}");
    }
}

#[test]
fn a_question_about_locks_that_fails_for_the_moment_counts_as_a_lock() {
    for error in [Errno::TIMEDOUT, Errno::STALE, Errno::INTR, Errno::NOMEM, Errno::IO] {
        assert_eq!(Lock::of(error), Lock::Held, "{error}");
    }
    for error in [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::NOLCK] {
        assert_eq!(Lock::of(error), Lock::Unsupported, "{error}");
    }
}
