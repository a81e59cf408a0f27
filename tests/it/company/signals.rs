//! SIGINT and SIGTERM: the current entry is finished and the report printed; a later second signal kills.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::process::Signal;

use super::{Other, count, export, has_tool, is_pending, log_beside, send, slowed};
use crate::start::Start;
use crate::wait::{AT_ONCE, wait_until};
use crate::world::{DAY, Run, World, assert_counts};

/// How many removals the log shows after the signal was handled: its thread sleeps then, for as long as a second signal
/// means the same. When that thread runs is up to the machine.
fn removals_after(log: &Path, signal: &str) -> usize {
    let text = std::fs::read_to_string(log).unwrap();
    let (_, after) = text.split_once(&format!("--- {signal} ")).expect("the signal in the log");
    let (_, after) = after.split_once("nanosleep(").expect("the sleep in the log");
    after.matches("unlinkat(").count()
}

/// A limit is a limit: what is left at the signal waits for the next pass.
#[test]
fn a_signal_does_not_end_the_limit_on_removals_a_second() {
    let world = World::in_dir(Path::new("/dev/shm"));
    for number in 0..5000 {
        world.file(format!("tmp/tree/{number}"), 20 * DAY);
    }
    world.age_dirs("tmp/tree", 20 * DAY);
    let files = || walkdir::WalkDir::new(world.path("tmp")).into_iter();
    let left = || files().flatten().filter(|entry| entry.file_type().is_file()).count();
    let args = ["run", "--zones", "tmp", "--format", "json", "--max-rate", "10/s"];
    let child = world.command(&args).stdout(Stdio::piped()).start().unwrap();
    wait_until("something is removed", || left() < 5000);
    send(&child, Signal::TERM);
    let run = Run::from(child.wait_with_output().unwrap());
    assert_eq!(run.exits(3).json()["stopped"], "signal");
    assert!(left() > 4000, "{}", left());
    world.run(&["run", "--zones", "tmp"]).exits(0);
    assert_eq!(count(world.path("tmp")), 0);
}

#[test]
fn a_signal_ends_the_pass_between_two_entries_with_the_report() {
    if !has_tool("strace", "a signal between two entries") {
        return;
    }
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        let world = World::in_dir(Path::new("/dev/shm"));
        for number in 0..2000 {
            export(&world, number, 2 * DAY);
        }
        let left = || count(world.path("cache/export"));
        let log = log_beside(&world);
        let command = world.command(&["run", "--format", "json", "--jobs", "1"]);
        let child = slowed(&command, Duration::from_millis(50), &log).start().unwrap();
        wait_until("something is removed", || left() < 2000);
        let start = Instant::now();
        send(&child, signal);
        let run = Run::from(child.wait_with_output().unwrap());
        let took = start.elapsed();
        let report = run.exits(3).json();
        assert_eq!(report["stopped"], "signal");
        assert!(took < AT_ONCE, "{took:?}");
        // The current one, and perhaps one for which the flag was read a moment before.
        let after = removals_after(&log, name);
        assert!(after <= 2, "{after} removals after the signal");
        let left = left() as u64;
        assert_eq!(report["totals"]["removed"].as_u64().unwrap() + left, 2000, "{report:#}");
        assert!(left > 0, "it was over before the signal");
        // The next pass removes the rest.
        let rest = world.run(&["run", "--format", "json"]);
        assert_counts(&rest.exits(0).json(), "export", &[("removed", left)]);
    }
}

#[test]
fn the_rest_of_a_tree_whose_removal_was_stopped_is_removed_by_the_next_pass() {
    if !has_tool("strace", "a signal in the middle of a tree") {
        return;
    }
    // Many directories, and one that is listed in several parts.
    for (dirs, files) in [(50, 60), (1, 3000)] {
        let world = World::in_dir(Path::new("/dev/shm"));
        for dir in 0..dirs {
            for file in 0..files {
                world.file(format!("tmp/tree/d{dir}/f{file}"), 20 * DAY);
            }
        }
        world.age_dirs("tmp", 20 * DAY);
        // Wherever the tree is: it is renamed before it is removed.
        let left = || {
            let entries = walkdir::WalkDir::new(world.path("tmp")).into_iter();
            let in_tree = |entry: &walkdir::DirEntry| {
                entry.path().components().any(|step| step.as_os_str() == "tree")
            };
            entries.flatten().filter(in_tree).count()
        };
        let all = left();
        let log = log_beside(&world);
        let command = world.command(&["run", "--format", "json", "--zones", "tmp", "--jobs", "1"]);
        let child = slowed(&command, Duration::from_millis(5), &log).start().unwrap();
        // Its name in `remove` does not change any more.
        let is_at_work = || {
            let entries = walkdir::WalkDir::new(world.path("tmp")).min_depth(3).max_depth(3);
            let trees = entries.into_iter().flatten();
            trees.into_iter().any(|entry| {
                entry.path().ends_with("remove/tree")
                    && walkdir::WalkDir::new(entry.path()).into_iter().flatten().count() < all
            })
        };
        wait_until("something is removed", is_at_work);
        let start = Instant::now();
        send(&child, Signal::TERM);
        let run = Run::from(child.wait_with_output().unwrap());
        let took = start.elapsed();
        let report = run.exits(3).json();
        assert!(took < AT_ONCE, "{took:?}");
        // A tree at work may be finished if that takes no longer than 0.3 s, which are 60 pauses.
        let after = removals_after(&log, "SIGTERM");
        assert!(after <= 70, "{after} removals after the signal");
        assert_counts(&report, "tmp", &[("removed", 0), ("failed", 1), ("seen", 1)]);
        let message = report["failures"][0]["message"].as_str().unwrap();
        assert!(message.contains("the next run completes the removal"), "{report:#}");
        let removed = format!("{} of its entries were removed", all - left());
        assert!(message.contains(&removed), "{removed}: {report:#}");
        assert!(left() > 1, "it was over before the signal");
        // The times of its directories are new, and the next pass removes it all the same.
        let rest = world.run(&["run", "--format", "json", "--zones", "tmp"]);
        assert_counts(&rest.exits(0).json(), "tmp", &[("removed", 1), ("seen", 1)]);
        assert_eq!(std::fs::read_dir(world.path("tmp")).unwrap().count(), 0);
    }
}

#[test]
fn a_signal_or_a_closed_terminal_ends_the_wait_for_locked_entries() {
    for signal in [Signal::TERM, Signal::HUP] {
        let world = World::new();
        let path = export(&world, 1, 2 * DAY);
        // Swept after the exports.
        let free = world.file("tmp/old", 20 * DAY);
        let other = Other::python("f = open(path); fcntl.flock(f, fcntl.LOCK_EX)", &path);
        let run = world.command(&["run", "--format", "json", "--lock-wait", "10m"]);
        // These tests may have been started with `nohup` themselves.
        let mut command = Command::new("env");
        command.arg("--default-signal=HUP").arg(run.get_program()).args(run.get_args());
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).start().unwrap();
        wait_until("the other one is removed", || !free.exists());
        let start = Instant::now();
        send(&child, signal);
        let run = Run::from(child.wait_with_output().unwrap());
        assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
        let report = run.exits(3).json();
        assert_eq!(report["stopped"], "signal");
        assert_counts(&report, "export", &[("seen", 1), ("skipped_by.locked", 1)]);
        drop(other);
    }
}

#[test]
fn a_run_that_was_started_with_nohup_goes_on_when_the_terminal_is_closed() {
    let world = World::new();
    let path = export(&world, 1, 2 * DAY);
    let free = world.file("tmp/old", 20 * DAY);
    let other = Other::python("f = open(path); fcntl.flock(f, fcntl.LOCK_EX)", &path);
    let run = world.command(&["run", "--format", "json", "--lock-wait", "10m"]);
    let mut command = Command::new("nohup");
    command.arg(run.get_program()).args(run.get_args()).stdin(Stdio::null());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).start().unwrap();
    wait_until("the other one is removed", || !free.exists());
    send(&child, Signal::HUP);
    drop(other);
    let report = Run::from(child.wait_with_output().unwrap()).exits(0).json();
    assert_counts(&report, "export", &[("seen", 1), ("removed", 1)]);
}

#[test]
fn a_signal_that_is_sent_twice_at_once_is_one_signal() {
    let world = World::new();
    for number in 0..200 {
        export(&world, number, 2 * DAY);
    }
    let left = || count(world.path("cache/export"));
    let mut command = world.command(&["run", "--format", "json", "--max-rate", "20/s"]);
    let child = command.stdout(Stdio::piped()).start().unwrap();
    wait_until("something is removed", || left() < 200);
    // Both arrive when it continues, however long it takes to send them.
    for signal in [Signal::STOP, Signal::TERM, Signal::INT, Signal::CONT] {
        send(&child, signal);
    }
    let run = Run::from(child.wait_with_output().unwrap());
    let report = run.exits(3).json();
    assert_eq!(report["totals"]["removed"].as_u64().unwrap() + left() as u64, 200, "{report:#}");
}

/// A pipe that is never read: what prints its report there cannot end by itself.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    rustix::fs::fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(&writer, OFlags::empty()).unwrap();
    (reader, writer)
}

#[test]
fn a_signal_ends_a_process_whose_report_is_not_read() {
    let unreachable = ["--redis", "redis://127.0.0.1:1", "--cvat-data", "/home/django/data"];
    // The end of the report, a line about each entry, and the report of a pass that has left a zone alone.
    for (args, code) in [
        (&["--format", "json"][..], 3),
        (&["--format", "jsonl"], 3),
        (&[&["--format", "json"][..], &unreachable].concat(), 4),
    ] {
        let world = World::new();
        // More than a buffer holds.
        for number in 0..500 {
            export(&world, number, 2 * DAY);
        }
        let path = world.file("tmp/file", 30 * DAY);
        let (reader, writer) = full_pipe();
        let mut command = world.command(&[&["run"], args].concat());
        let mut child = command.stdout(writer).start().unwrap();
        let exports = world.path("cache/export");
        wait_until("the pass has begun", || !path.exists() || count(&exports) < 500);
        send(&child, Signal::TERM);
        wait_until("it ends by itself", || child.try_wait().unwrap().is_some());
        assert_eq!(child.wait().unwrap().code(), Some(code), "{args:?}");
        drop(reader);
    }
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let world = World::new();
    let path = export(&world, 1, 2 * DAY);
    let (reader, writer) = full_pipe();
    let mut command = world.command(&["run", "--format", "json"]);
    let mut child = command.stdout(writer).start().unwrap();
    wait_until("the pass has begun", || !path.exists());
    send(&child, Signal::TERM);
    wait_until("the first signal arrives", || !is_pending(child.id(), Signal::TERM));
    assert!(child.try_wait().unwrap().is_none(), "the first one asks it to end");
    // One that comes at once is the same signal.
    wait_until("a later one ends it", || {
        send(&child, Signal::TERM);
        child.try_wait().unwrap().is_some()
    });
    assert_eq!(child.wait().unwrap().signal(), Some(15));
    drop(reader);
}
