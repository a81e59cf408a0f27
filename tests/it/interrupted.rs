//! A pass that is killed at any call loses nothing, and the next pass completes its work.
//!
//! Trees are taken out of reach before they are removed, so a crash in between must neither lose a tree nor
//! leave one out of reach.

mod completed;
mod crafted;
mod steps;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::company::has_tool;
use crate::paused::{Moment, Paused};
use crate::start::{Start, written};
use crate::world::{DAY, NOW, World, assert_counts, can_be_root, tool, zone};

fn world() -> World {
    let world = World::new();
    for tree in ["old-1", "old-2"] {
        for file in ["a", "sub/b", "sub/c", "sub/deep/d"] {
            world.file(format!("tmp/{tree}/{file}"), 40 * DAY);
        }
    }
    world.file("tmp/fresh/file", 0);
    world.file("tmp/half-fresh/old", 40 * DAY);
    world.file("tmp/half-fresh/new", 0);
    for tree in ["old-1", "old-2", "half-fresh"] {
        world.age_dirs(format!("tmp/{tree}"), 40 * DAY);
    }
    world
}

/// Runs a pass under strace, which tampers with the calls `call` as `what` says.
pub fn tampered(world: &World, call: &str, what: &str) -> std::process::Output {
    tampered_with(world, &["run"], call, what)
}

/// The same for another command.
fn tampered_with(world: &World, args: &[&str], call: &str, what: &str) -> std::process::Output {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e"]).arg(format!("inject={call}:{what}"));
    command.arg(env!("CARGO_BIN_EXE_sweeper")).args(args).args(["--jobs", "1"]);
    command.args(["--format", "json", "--now", NOW, "--data"]).arg(&world.root);
    command.stdin(Stdio::null()).finish().unwrap()
}

pub fn has_strace() -> bool {
    has_tool("strace", "interrupted removals")
}

fn tmp(world: &World) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(world.path("tmp"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_pass_that_is_killed_at_any_call_is_completed_by_the_next() {
    if !has_strace() {
        return;
    }
    let mut killed = 0;
    for call in ["mkdirat", "renameat2", "unlinkat", "flock"] {
        for when in 1.. {
            let world = world();
            let output = tampered(&world, call, &format!("signal=KILL:when={when}"));
            let was_killed = output.status.code().is_none() || output.status.code() == Some(137);
            killed += usize::from(was_killed);
            assert!(
                world.has("tmp/fresh/file") && world.has("tmp/half-fresh/new"),
                "{call} {when}"
            );
            let run = world.run(&["run"]);
            assert_eq!(run.code, Some(0), "{call} {when}: {}", run.stdout);
            assert_eq!(tmp(&world), ["fresh", "half-fresh"], "{call} {when}");
            assert!(world.has("tmp/half-fresh/old"), "{call} {when}");
            if !was_killed {
                break;
            }
        }
    }
    assert!(killed > 20, "{killed} passes were killed");
}

/// A tree so deep that not all directories on the way down stay open: they are reached again through `..`.
fn deep_world() -> World {
    let world = World::new();
    let mut dir = "tmp/old".to_owned();
    for level in 0..14 {
        world.file(format!("{dir}/file-{level}"), 40 * DAY);
        dir.push_str("/sub");
    }
    world.age_dirs("tmp/old", 40 * DAY);
    world.file("tmp/fresh/file", 0);
    world
}

/// The numbers of the first and the last call among those of `openat` that opens `..`.
fn ways_up() -> (usize, usize) {
    let world = deep_world();
    let log = world.root.parent().unwrap().join("openat.log");
    let mut command = Command::new("strace");
    command.args(["-qq", "-e", "trace=openat", "-o"]).arg(&log);
    command.arg(env!("CARGO_BIN_EXE_sweeper")).args(["run", "--jobs", "1", "--now", NOW, "--data"]);
    assert!(command.arg(&world.root).stdin(Stdio::null()).finish().unwrap().status.success());
    let calls = fs::read_to_string(log).unwrap();
    let up = || calls.lines().enumerate().filter(|(_, call)| call.contains("\"..\""));
    (up().next().unwrap().0 + 1, up().last().unwrap().0 + 1)
}

#[test]
fn a_removal_that_does_not_find_its_way_up_again_is_completed_by_the_next_pass() {
    if !has_strace() {
        return;
    }
    let (first, last) = ways_up();
    let mut halves = 0;
    for when in first..=last {
        let world = deep_world();
        let output = tampered(&world, "openat", &format!("error=EIO:when={when}"));
        assert_eq!(output.status.code(), Some(1), "{when}: {output:?}");
        halves += usize::from(!world.has("tmp/old"));
        let run = world.run(&["run"]);
        assert_eq!(run.code, Some(0), "{when}: {}", run.stdout);
        assert_eq!(tmp(&world), ["fresh"], "{when}");
        assert!(world.has("tmp/fresh/file"), "{when}");
    }
    assert!(halves > 2, "in {halves} of {first} to {last} a part of the tree was removed");
}

#[test]
fn a_tree_whose_directories_cannot_be_locked_any_more_is_not_removed_in_place() {
    if !has_strace() {
        return;
    }
    for errno in ["EACCES", "EPERM", "ENOSPC", "EROFS", "ENOLCK", "EIO"] {
        for when in 1.. {
            let world = world();
            let output = tampered(&world, "flock", &format!("error={errno}:when={when}+"));
            let report = String::from_utf8_lossy(&output.stdout);
            assert!(!report.contains("removed in place"), "{errno} {when}: {report}");
            if output.status.success() {
                assert!(when > 4, "{errno}: only {when}");
                break;
            }
            let run = world.run(&["run"]);
            assert_eq!(run.code, Some(0), "{errno} {when}: {}", run.stdout);
            assert_eq!(tmp(&world), ["fresh", "half-fresh"], "{errno} {when}: {output:?}");
        }
    }
}

#[test]
fn a_tree_that_cannot_be_renamed_is_removed_in_place_with_a_note() {
    if !has_strace() {
        return;
    }
    for (call, errno) in [
        ("mkdirat", "ENOSPC"),
        ("mkdirat", "EACCES"),
        ("renameat2", "EXDEV"),
        ("renameat2", "EACCES"),
    ] {
        let world = world();
        let output = tampered(&world, call, &format!("error={errno}"));
        assert!(output.status.success(), "{call} {errno}: {output:?}");
        let report = String::from_utf8(output.stdout).unwrap();
        assert!(report.contains("removed in place"), "{call} {errno}: {report}");
        assert_eq!(tmp(&world), ["fresh", "half-fresh"], "{call} {errno}");
    }
}

/// What another process does with a file.
type Change = fn(&Path);

/// A disk without room for another directory, where each attempt to make one may take a while.
#[test]
fn a_file_that_cannot_be_renamed_is_looked_at_again_before_it_is_removed_in_place() {
    if !has_strace() {
        return;
    }
    let opens: Change = |file| {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::open(file, flags, Mode::empty());
        assert_eq!(opened.unwrap_err(), Errno::WOULDBLOCK, "it is under a lease");
    };
    let replaces: Change = |file| {
        let new = file.with_extension("new");
        written(|| fs::write(&new, "new")).unwrap();
        fs::rename(new, file).unwrap();
    };
    let cases: [(Change, &str); 2] = [(opens, "in_use"), (replaces, "replaced")];
    for (change, reason) in cases {
        let world = World::new();
        let file = world.file("tmp/file", 20 * DAY);
        let failure = Some(("mkdirat", "ENOSPC"));
        let moment = Moment { failure, ..Moment::of("mkdirat", 1) };
        let Ok(pass) = Paused::at(&world, &[], 1024, &moment) else { panic!("it was not renamed") };
        change(&file);
        let report = pass.finish().exits(0).json();
        let skipped = format!("skipped_by.{reason}");
        assert_counts(&report, "tmp", &[("removed", 0), (&skipped, 1)]);
        assert!(file.exists(), "{reason}");
    }
}

#[test]
fn a_tree_of_which_nothing_could_be_removed_is_not_said_to_be_removed_in_place() {
    if !can_be_root("an immutable directory") {
        return;
    }
    let world = World::new();
    for file in ["a", "b"] {
        world.file(format!("tmp/tree/{file}"), 40 * DAY);
    }
    world.age_dirs("tmp/tree", 40 * DAY);
    let tree = world.path("tmp/tree");
    tool("chattr", &["+i".as_ref(), tree.as_ref()]);
    let run = world.run(&["run", "--format", "json"]);
    tool("chattr", &["-i".as_ref(), tree.as_ref()]);
    assert_counts(&run.exits(1).json(), "tmp", &[("removed", 0), ("failed", 1)]);
    assert!(!run.stdout.contains("in place"), "{}", run.stdout);
    assert!(world.has("tmp/tree/a") && world.has("tmp/tree/b"));
}

#[test]
fn a_tree_whose_rename_fails_for_now_is_not_removed_in_place() {
    if !has_strace() {
        return;
    }
    for call in ["mkdirat", "renameat2"] {
        for errno in ["EIO", "EINTR", "EMFILE", "ENOMEM", "EBUSY", "ESTALE"] {
            let world = world();
            let output = tampered(&world, call, &format!("error={errno}"));
            assert_eq!(output.status.code(), Some(1), "{call} {errno}: {output:?}");
            assert!(
                world.has("tmp/old-1/sub/deep/d") && world.has("tmp/old-2/a"),
                "{call} {errno}"
            );
            world.run(&["run"]).exits(0);
            assert_eq!(tmp(&world), ["fresh", "half-fresh"], "{call} {errno}");
        }
    }
}

#[test]
fn a_tree_that_is_said_to_be_gone_and_is_there_is_a_failure_that_the_next_pass_completes() {
    if !has_strace() {
        return;
    }
    for when in [1, 2, 4, 7] {
        let world = world();
        let output = tampered(&world, "unlinkat", &format!("error=ESTALE:when={when}+"));
        assert_eq!(output.status.code(), Some(1), "{when}: {output:?}");
        let report = String::from_utf8(output.stdout).unwrap();
        assert!(report.contains("says that it is gone, but still lists it"), "{when}: {report}");
        world.run(&["run"]).exits(0);
        assert_eq!(tmp(&world), ["fresh", "half-fresh"], "{when}");
    }
}

#[test]
fn a_removal_that_fails_at_any_call_is_reported_and_loses_nothing_fresh() {
    if !has_strace() {
        return;
    }
    for (call, errno) in [
        ("unlinkat", "EIO"),
        ("unlinkat", "EBUSY"),
        ("renameat2", "EIO"),
        ("statx", "EIO"),
        ("openat2", "EMFILE"),
    ] {
        for when in [1, 2, 3, 5, 8, 13, 21, 34] {
            let world = world();
            let output = tampered(&world, call, &format!("error={errno}:when={when}"));
            let code = output.status.code();
            assert!(matches!(code, Some(0..=4)), "{call} {errno} {when}: {output:?}");
            assert!(
                world.has("tmp/fresh/file") && world.has("tmp/half-fresh/new"),
                "{call} {when}"
            );
            let run = world.run(&["run"]);
            assert_eq!(run.code, Some(0), "{call} {errno} {when}: {}", run.stdout);
            assert_eq!(tmp(&world), ["fresh", "half-fresh"], "{call} {errno} {when}");
        }
    }
}

#[test]
fn what_another_user_has_begun_to_remove_is_left_alone_with_advice() {
    if !can_be_root("a tree with a directory of another user") {
        return;
    }
    let world = World::new();
    for file in ["sub/a", "b"] {
        world.file(format!("tmp/tree/{file}"), 40 * DAY);
    }
    world.age_dirs("tmp/tree", 40 * DAY);
    world.chown(1000);
    std::os::unix::fs::chown(world.path("tmp/tree/sub"), Some(0), Some(0)).unwrap();
    let report = world.run_as(1000, &["run", "--format", "json"]).exits(1).json();
    let message = report["failures"][0]["message"].as_str().unwrap();
    assert!(message.contains("1 of its entries was removed; the rest is in"), "{message}");
    assert!(message.contains("delete that as root"), "{message}");
    let [private] = &tmp(&world)[..] else { panic!("{:?}", tmp(&world)) };
    // Its own dry run and its next run agree.
    for args in [&["run", "--dry-run"][..], &["run"]] {
        let report = world.run_as(1000, &[args, &["--format", "json"]].concat()).exits(1).json();
        assert_counts(&report, "tmp", &[("removed", 0), ("failed", 1)]);
    }
    for (args, would) in [(&["run", "--dry-run"][..], "would be"), (&["run"], "was")] {
        let report = world.run(&[args, &["--format", "json"]].concat()).exits(0).json();
        let notes = zone(&report, "tmp")["notes"].to_string();
        let said = format!("{would} left alone: it belongs to uid 1000; run sweeper as that user");
        assert!(notes.contains(&said), "{notes}");
    }
    let path = world.path(format!("tmp/{private}/remove/tree"));
    let why = world.run(&["why", path.to_str().unwrap()]).exits(0).stdout.clone();
    assert!(why.contains("would be left alone: it belongs to uid 1000"), "{why}");
}
