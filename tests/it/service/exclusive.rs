//! One sweeper at a time: which sweeper exits, which waits, which works all the same, and which is not
//! affected.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, flock};

use super::{Serving, export};
use crate::start::{Start, unlock};
use crate::wait::{AT_ONCE, wait_until};
use crate::world::{DAY, Run, World, assert_counts, can_be_root, export_name, zone};

/// The exclusive lock of a zone, as another sweeper on this machine would hold it.
pub(super) fn at_work(world: &World, root: &str) -> File {
    let dir = File::open(world.path(root)).unwrap();
    flock(&dir, FlockOperation::NonBlockingLockExclusive).unwrap();
    dir
}

#[test]
fn a_second_run_names_the_other_sweeper_and_leaves_its_zone_alone() {
    let world = World::new();
    export(&world, 1, 2 * DAY);
    world.file("tmp/old", 20 * DAY);
    let other = at_work(&world, "cache/export");
    let run = world.run(&["run", "--format", "json"]);
    let report = run.exits(4).json();
    assert_counts(&report, "export", &[("seen", 0), ("removed", 0)]);
    assert_counts(&report, "tmp", &[("removed", 1)]);
    let notes = zone(&report, "export")["notes"].to_string();
    let holder = format!("process {} (", std::process::id());
    // Some file systems have another device number in the kernel's list of locks.
    assert!(notes.contains(&holder) || notes.contains("not visible from here"), "{notes}");
    assert!(
        notes.contains("holds the lock on the directory (probably another sweeper)"),
        "{notes}"
    );
    // It does not affect other zones or dry runs.
    world.run(&["run", "--zones", "tmp"]).exits(0);
    world.run(&["run", "--dry-run"]).exits(0);
    world.run(&["run", "--lock", "none", "--dry-run"]).exits(0);
    unlock(other);
    world.run(&["run"]).exits(0);
    assert!(!world.path("cache/export").join(export_name(1)).exists());
}

#[test]
fn a_dry_run_says_that_a_run_would_not_sweep_now_and_takes_no_lock() {
    // A memory file system has the same device number everywhere.
    let world = World::in_dir(Path::new("/dev/shm"));
    world.file("tmp/old", 20 * DAY);
    let notes = |args: &[&str]| {
        let dry = [&["run", "--dry-run", "--format", "json"], args].concat();
        let report = world.run(&dry).exits(0).json();
        assert_counts(&report, "tmp", &[("seen", 1), ("removed", 1)]);
        zone(&report, "tmp")["notes"].to_string()
    };
    assert!(!notes(&[]).contains("a run now would"));
    let other = at_work(&world, "tmp");
    let holder = format!("process {} (", std::process::id());
    let alone = notes(&[]);
    assert!(alone.contains(&holder) && alone.contains("would leave this zone alone"), "{alone}");
    assert!(notes(&["--if-running", "wait"]).contains("would wait for this zone"));
    for free in [&["--if-running", "share"][..], &["--lock", "none"]] {
        assert!(!notes(free).contains("a run now would"), "{free:?}");
    }
    world.run(&["run", "--zones", "tmp"]).exits(4);
    // Shards share the lock with each other, and with no other run.
    flock(&other, FlockOperation::NonBlockingLockShared).unwrap();
    assert!(notes(&[]).contains(&holder));
    assert!(!notes(&["--shard", "0/1"]).contains("a run now would"));
}

#[test]
fn the_other_process_is_named_where_the_kernel_shows_it() {
    // A memory file system has the same device number everywhere.
    let world = World::in_dir(Path::new("/dev/shm"));
    let _other = at_work(&world, "tmp");
    let notes = world.run(&["run", "--zones", "tmp", "--format", "json"]).exits(4).json();
    let notes = zone(&notes, "tmp")["notes"].to_string();
    assert!(notes.contains(&format!("process {}", std::process::id())), "{notes}");
}

/// `exec 9<DIR; flock 9`, as in many scripts: the shell has the lock, and its number is that of `flock`.
#[test]
fn a_lock_that_an_ended_process_has_passed_on_is_described_as_such() {
    let world = World::in_dir(Path::new("/dev/shm"));
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec 9<\"$0\"; flock -x 9; echo; exec cat"]).arg(world.path("tmp"));
    let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).start().unwrap();
    shell.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let run = world.run(&["run", "--zones", "tmp"]);
    let said = &run.exits(4).stdout;
    assert!(said.contains("a process that process ") && said.contains(" started before"), "{said}");
    assert!(said.trim_end().ends_with("; left alone: tmp"), "{said}");
    drop(shell.stdin.take());
    assert!(shell.wait().unwrap().success());
}

/// The kernel lists the names of mounts as they are, and many users may mount something with FUSE.
#[test]
fn a_mount_whose_name_is_not_text_hides_no_other_mount() {
    if !can_be_root("a mount whose name is not text") {
        return;
    }
    let world = World::in_dir(Path::new("/dev/shm"));
    let _other = at_work(&world, "tmp");
    let odd = world.root.with_file_name(OsStr::from_bytes(b"odd-\xff"));
    std::fs::create_dir(&odd).unwrap();
    let inner = world.command(&["run", "--zones", "tmp", "--format", "json"]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount -t tmpfs none \"$0\" && exec \"$@\""]).arg(odd);
    command.arg(inner.get_program()).args(inner.get_args());
    let report = Run::of(command).exits(4).json();
    let notes = zone(&report, "tmp")["notes"].to_string();
    assert!(notes.contains(&format!("process {}", std::process::id())), "{notes}");
}

#[test]
fn a_run_that_waits_for_another_starts_after_it_and_ends_on_a_signal_or_deadline() {
    let world = World::new();
    world.file("tmp/old", 20 * DAY);
    let other = at_work(&world, "tmp");
    let mut waiting = Serving::start(world.command(&["run", "--if-running", "wait"]));
    waiting.says("waiting for it");
    assert!(world.has("tmp/old"));
    drop(other);
    let (run, _) = waiting.ends();
    assert!(run.exits(0).stdout.contains("removed 1 of 1"), "{}", run.stdout);

    world.file("tmp/old", 20 * DAY);
    let _other = at_work(&world, "tmp");
    let mut waiting = Serving::start(world.command(&["run", "--if-running", "wait"]));
    waiting.says("waiting for it");
    let (run, took) = waiting.stop();
    run.exits(3);
    assert!(took < AT_ONCE, "{took:?}");
    world.run(&["run", "--if-running", "wait", "--deadline", "1s"]).exits(3);
    assert!(world.has("tmp/old"));
}

#[test]
fn a_run_that_shares_the_work_does_not_wait() {
    let world = World::new();
    world.file("tmp/old", 20 * DAY);
    let other = at_work(&world, "tmp");
    let run = world.run(&["run", "--if-running", "share", "--format", "json"]);
    assert_counts(&run.exits(0).json(), "tmp", &[("removed", 1)]);
    flock(&other, FlockOperation::NonBlockingLockShared).unwrap();
    world.run(&["run", "--if-running", "share"]).exits(0);
    world.run(&["run"]).exits(4);
}

#[test]
fn locks_of_entries_and_the_exclusive_lock_do_not_conflict() {
    let world = World::new();
    world.file("tmp/tree/old", 20 * DAY);
    world.age_dirs("tmp", 20 * DAY);
    world.file("projects/1/export_cache/x", DAY);
    // An entry that is held is locked, and nothing else is.
    let mut hold = crate::world::sweeper(&["hold"]);
    hold.arg(world.path("tmp/tree")).args(["--", "/bin/sh", "-c", "echo ready >&2; read line"]);
    hold.stdin(Stdio::piped());
    let mut hold = Serving::start(hold);
    hold.says("ready");
    let report = world.run(&["run", "--lock-wait", "0", "--format", "json"]).exits(0).json();
    assert_counts(&report, "tmp", &[("skipped_by.locked", 1)]);
    // And entries can be held while a sweeper is at work.
    let _other = at_work(&world, "tmp");
    let file = world.file("tmp/file", 0);
    let mut command = crate::world::sweeper(&["hold"]);
    command.arg(&file).args(["--", "/bin/true"]);
    Run::of(command).exits(0);
    world.run(&["legacy"]).exits(0);
    let _other = at_work(&world, "projects");
    world.run(&["legacy"]).exits(4);
    drop(hold);
}

#[test]
fn a_data_root_has_one_service_and_the_next_one_waits() {
    let world = World::new();
    let mut first = Serving::on(&world, &[]);
    first.says("serving");
    let second = world.run(&["serve", "--if-running", "exit"]);
    assert!(second.exits(4).stderr.contains("already serves"), "{}", second.stderr);
    // Dry runs can run beside it.
    let mut dry_run = Serving::on(&world, &["--dry-run"]);
    dry_run.says("serving");
    dry_run.stop().0.exits(0);
    let mut second = Serving::on(&world, &["--every", "1s"]);
    second.says("waiting for it");
    // A pass by hand can run beside an idle service.
    world.file("tmp/old", 20 * DAY);
    world.run(&["run"]).exits(0);
    assert!(!world.has("tmp/old"));
    first.stop().0.exits(0);
    second.says("serving");
    export(&world, 1, 2 * DAY);
    let path = world.path("cache/export").join(export_name(1));
    wait_until("the second takes over", || !path.exists());
    let mut third = Serving::on(&world, &[]);
    third.says("waiting for it");
    let (run, took) = third.stop();
    run.exits(0);
    assert!(took < AT_ONCE, "{took:?}");
    second.stop_any_time();
}

#[test]
fn a_service_waits_for_a_pass_by_hand() {
    let world = World::new();
    let other = at_work(&world, "tmp");
    world.file("tmp/old", 20 * DAY);
    let mut service = Serving::on(&world, &["--at-start"]);
    service.says("waiting for it");
    drop(other);
    wait_until("the pass", || !world.has("tmp/old"));
    service.stop_any_time();
}
