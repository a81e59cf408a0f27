//! One sweeper at a time: who is told, who waits, who goes all the same, and whom it does not concern.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::{Serving, export, wait_until};
use crate::world::{DAY, Run, World, assert_counts, export_name, zone};

/// The guard of a zone, as another sweeper on this machine would have it.
fn at_work(world: &World, root: &str) -> File {
    let dir = File::open(world.path(root)).unwrap();
    flock(&dir, FlockOperation::NonBlockingLockExclusive).unwrap();
    dir
}

#[test]
fn a_second_run_says_who_is_at_work_and_leaves_that_zone_alone() {
    let world = World::new();
    export(&world, 1, 2 * DAY);
    world.file("tmp/old", 20 * DAY);
    let other = at_work(&world, "cache/export");
    let run = world.run(&["run", "--format", "json"]);
    let report = run.exits(4).json();
    assert_counts(&report, "export", &[("seen", 0), ("removed", 0)]);
    assert_counts(&report, "tmp", &[("removed", 1)]);
    let notes = zone(&report, "export")["notes"].to_string();
    let who = format!("another sweeper (process {}, ", std::process::id());
    // On file systems whose device number is another in the kernel's list, it is not known.
    assert!(notes.contains(&who) || notes.contains("not visible from here"), "{notes}");
    assert!(notes.contains("is at work there"), "{notes}");
    // Another zone is none of its business, nor is a rehearsal of anybody's.
    world.run(&["run", "--zones", "tmp"]).exits(0);
    world.run(&["run", "--dry-run"]).exits(0);
    world.run(&["run", "--lock", "none", "--dry-run"]).exits(0);
    drop(other);
    world.run(&["run"]).exits(0);
    assert!(!world.path("cache/export").join(export_name(1)).exists());
}

#[test]
fn the_holder_is_named_where_the_kernel_shows_it() {
    // A memory file system has the same device number everywhere.
    let world = World::in_dir(Path::new("/dev/shm"));
    let _other = at_work(&world, "tmp");
    let notes = world.run(&["run", "--zones", "tmp", "--format", "json"]).exits(4).json();
    let notes = zone(&notes, "tmp")["notes"].to_string();
    assert!(notes.contains(&format!("process {}", std::process::id())), "{notes}");
}

#[test]
fn who_is_told_to_wait_waits_and_ends_when_told() {
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
    assert!(took < Duration::from_secs(1), "{took:?}");
    world.run(&["run", "--if-running", "wait", "--deadline", "1s"]).exits(3);
    assert!(world.has("tmp/old"));
}

#[test]
fn who_shares_the_work_is_not_kept_from_it() {
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
fn locks_of_entries_and_the_guard_do_not_meet() {
    let world = World::new();
    world.file("tmp/tree/old", 20 * DAY);
    world.age_dirs("tmp", 20 * DAY);
    world.file("projects/1/export_cache/x", DAY);
    // What is held inside a zone is busy, and nothing else is.
    let mut hold = crate::world::sweeper(&["hold"]);
    hold.arg(world.path("tmp/tree")).args(["--", "/bin/sh", "-c", "echo ready >&2; read line"]);
    hold.stdin(Stdio::piped());
    let mut hold = Serving::start(hold);
    hold.says("ready");
    let report = world.run(&["run", "--lock-wait", "0", "--format", "json"]).exits(0).json();
    assert_counts(&report, "tmp", &[("spared_by.busy", 1)]);
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
fn one_service_a_volume_and_the_next_stands_by() {
    let world = World::new();
    let mut first = Serving::on(&world, &[]);
    first.says("serving");
    let second = world.run(&["serve", "--if-running", "exit"]);
    assert!(second.exits(4).stderr.contains("serves"), "{}", second.stderr);
    // Rehearsals go beside it.
    let mut rehearsing = Serving::on(&world, &["--dry-run"]);
    rehearsing.says("serving");
    rehearsing.stop().0.exits(0);
    let mut second = Serving::on(&world, &["--every", "1s"]);
    second.says("waiting for it");
    // A pass by hand beside an idle service is nobody's trouble.
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
    assert!(took < Duration::from_secs(1), "{took:?}");
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
