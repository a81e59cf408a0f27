//! `sweeper hold`.

use std::mem::MaybeUninit;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::inotify;
use rustix::process::Signal;

use super::{Other, export, has_tool, outcome_of, send};
use crate::start::unlock;
use crate::world::{
    DAY, Run, World, as_user, assert_counts, can_be_root, fifo, sweeper, tool, zone,
};

#[test]
fn hold_protects_a_path_while_its_command_runs() {
    let world = World::new();
    let path = export(&world, 1, 2 * DAY);
    let mut command = sweeper(&["hold"]);
    command.arg(&path).args(["--", "/bin/sh", "-c", "echo ready $$; exec sleep 600"]);
    let mut other = Other::ready(command);
    assert_eq!(outcome_of(&world, &path, &[]), "locked");
    // A second holder waits, then says why it gives up and does not run its command.
    let mut second = sweeper(&["hold", "--lock-wait", "100ms"]);
    second.arg(&path).args(["--", "/bin/touch"]).arg(world.path("ran"));
    let run = Run::of(second);
    assert!(run.exits(4).stderr.contains("another process holds"), "{}", run.stderr);
    assert!(run.stderr.contains("the command was not run"), "{}", run.stderr);
    assert!(!world.has("ran"));
    // If the holder is killed, the command that still writes stays protected: it has inherited the lock.
    other.child.kill().unwrap();
    other.child.wait().unwrap();
    assert_eq!(outcome_of(&world, &path, &[]), "locked");
    let command = other.said.trim().rsplit(' ').next().unwrap();
    tool("kill", &[command.as_ref()]);
}

#[test]
fn hold_ends_as_its_command_does() {
    let world = World::new();
    let path = export(&world, 1, 2 * DAY);
    let hold = |path: &Path, command: &[&str]| {
        let mut hold = sweeper(&["hold"]);
        hold.arg(path).arg("--").args(command);
        Run::of(hold)
    };
    hold(&path, &["/bin/sh", "-c", "exit 7"]).exits(7);
    hold(&path, &["/bin/sh", "-c", "kill -TERM $$"]).exits(128 + 15);
    hold(&path, &["/no/such/command"]).exits(127);
    hold(&path, &["/etc/hostname"]).exits(126);
    let missing = hold(&world.path("cache/export/none.zip"), &["/bin/true"]);
    assert!(missing.exits(2).stderr.contains("must exist to be held"), "{}", missing.stderr);
    // A signal is passed on to the command.
    let mut command = sweeper(&["hold"]);
    command.arg(&path).args(["--", "/bin/sh", "-c"]);
    command.arg("trap 'exit 42' TERM; echo ready; while :; do sleep 0.05; done");
    let mut other = Other::ready(command);
    send(&other.child, Signal::TERM);
    assert_eq!(other.child.wait().unwrap().code(), Some(42));
}

#[test]
fn hold_leaves_signals_ignored_that_it_was_started_to_ignore() {
    let world = World::new();
    let path = export(&world, 1, 2 * DAY);
    for (ignored, mask) in [("HUP,INT", 0b11), ("HUP", 0b01), ("INT", 0b10), ("USR1", 0)] {
        let mut command = Command::new("env");
        // These tests may have been started with `nohup` themselves.
        command.args(["--default-signal=HUP,INT", &format!("--ignore-signal={ignored}")]);
        command.arg(env!("CARGO_BIN_EXE_sweeper")).arg("hold").arg(&path);
        command.args(["--", "grep", "SigIgn", "/proc/self/status"]).stdin(Stdio::null());
        let run = Run::of(command);
        let (_, shown) = run.exits(0).stdout.split_once(':').unwrap();
        let shown = u64::from_str_radix(shown.trim(), 16).unwrap();
        assert_eq!(shown & 0b11, mask, "{ignored}");
    }
}

#[test]
fn hold_says_when_it_protects_less_than_it_seems_to() {
    let world = World::new();
    let path = export(&world, 1, 2 * DAY);
    let entry = world.file("tmp/tree/file", DAY);
    let hold = |path: &Path, args: &[&str]| {
        let mut hold = sweeper(&[&["hold"], args].concat());
        hold.arg("--data").arg(&world.root).arg(path).args(["--", "/bin/true"]);
        Run::of(hold).exits(0).stderr.clone()
    };
    for path in [&*world.root, Path::new("/"), world.root.parent().unwrap()] {
        let said = hold(path, &[]);
        let why = format!("no sweep of the data root {:?} honors a lock on", world.root);
        assert!(said.contains(&why), "{path:?}: {said}");
    }
    assert!(hold(&path, &[]).contains("this lock stops sweepers, but not CVAT"));
    assert_eq!(hold(&path, &["--lock", "flock"]), "");
    for path in [entry.parent().unwrap(), &entry, &world.path("tmp")] {
        assert_eq!(hold(path, &[]), "", "{path:?}");
    }
    let mut nowhere = sweeper(&["hold"]);
    nowhere.arg(&path).args(["--", "/bin/true"]);
    let said = Run::of(nowhere).exits(0).stderr.clone();
    assert!(said.contains("it is not known whether a sweep honors a lock on"), "{said}");
}

#[test]
fn a_tree_that_is_held_is_in_use_also_where_no_locks_are_taken() {
    let world = World::new();
    world.file("tmp/tree/file", 20 * DAY);
    world.age_dirs("tmp/tree", 20 * DAY);
    let held = std::fs::File::open(world.path("tmp/tree")).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let args = ["run", "--zones", "tmp", "--format", "json", "--lock", "none", "--lock-wait", "0"];
    let report = world.run(&args).exits(0).json();
    assert_counts(&report, "tmp", &[("removed", 0), ("skipped_by.locked", 1)]);
    let notes = zone(&report, "tmp")["notes"].to_string();
    assert!(notes.contains("except to see whether an entry is in use"), "{notes}");
    unlock(held);
    assert_counts(&world.run(&args).exits(0).json(), "tmp", &[("removed", 1)]);
}

#[test]
fn a_tree_stays_if_the_system_does_not_say_whether_it_is_held() {
    if !has_tool("strace", "an error of the question about a lock") {
        return;
    }
    let world = World::new();
    world.file("tmp/tree/file", 20 * DAY);
    world.age_dirs("tmp/tree", 20 * DAY);
    let inner = world.command(&["run", "--zones", "tmp", "--format", "json", "--lock", "none"]);
    let mut command = std::process::Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "inject=flock:error=EIO:when=1+"]);
    command.arg(inner.get_program()).args(inner.get_args());
    let report = Run::of(command).exits(0).json();
    assert_counts(&report, "tmp", &[("removed", 0), ("skipped_by.locked", 1)]);
    assert!(world.has("tmp/tree/file"));
}

#[test]
fn hold_of_a_link_says_that_the_link_is_not_protected() {
    let world = World::new();
    let target = world.dir("elsewhere/target", 0);
    world.link("tmp/link", target, 20 * DAY);
    let mut hold = sweeper(&["hold", "--data"]);
    hold.arg(&world.root).arg(world.path("tmp/link")).args(["--", "/bin/true"]);
    let run = Run::of(hold);
    assert!(run.exits(0).stderr.contains("is a link: the lock is on what it leads to"));
}

#[test]
fn hold_with_a_data_root_that_is_none_does_not_run_its_command() {
    let world = World::new();
    let (path, ran) = (export(&world, 1, 2 * DAY), world.path("ran"));
    let mut hold = sweeper(&["hold", "--data", "/nonexistent"]);
    hold.arg(path).args(["--", "/bin/touch"]).arg(&ran);
    let run = Run::of(hold);
    assert!(run.exits(2).stderr.contains("/nonexistent"), "{}", run.stderr);
    assert!(!ran.exists());
}

#[test]
fn hold_of_what_may_not_be_opened_does_not_say_that_it_is_missing() {
    if !can_be_root("a file of another user") {
        return;
    }
    let world = World::new();
    let path = export(&world, 1, 2 * DAY);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o000)).unwrap();
    let mut hold = sweeper(&["hold"]);
    hold.arg(&path).args(["--", "/bin/true"]);
    let run = Run::of(as_user(1000, &hold));
    assert!(
        run.exits(2).stderr.contains("Permission denied; run this as a user"),
        "{}",
        run.stderr
    );
    assert!(!run.stderr.contains("must exist"), "{}", run.stderr);
}

/// A FIFO or a device is not even opened: a process that waits at the other end of a FIFO would continue.
#[test]
fn hold_refuses_what_is_neither_a_file_nor_a_directory() {
    let world = World::new();
    let (path, ran) = (world.path("tmp/fifo"), world.path("ran"));
    fifo(&path, 0);
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&watch, &path, inotify::WatchFlags::OPEN).unwrap();
    for path in [&*path, Path::new("/dev/null")] {
        let mut hold = sweeper(&["hold"]);
        hold.arg(path).args(["--", "/bin/touch"]).arg(&ran);
        let run = Run::of(hold);
        assert!(run.exits(2).stderr.contains("neither a regular file nor a directory"), "{path:?}");
    }
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let mut reader = inotify::Reader::new(&watch, &mut buffer);
    assert!(reader.next().is_err(), "the FIFO was opened");
    assert!(!ran.exists());
}
