//! How long a pass waits for locked entries, and what ends it early.

use std::process::Command;
use std::time::{Duration, Instant};

use super::{Other, count, export};
use crate::start::Start;
use crate::wait::{LIMIT, wait_until};
use crate::world::{DAY, Run, World, assert_counts};

const LOCK: &str = "f = open(path); fcntl.flock(f, fcntl.LOCK_EX)";

#[test]
fn a_locked_entry_is_removed_when_it_becomes_free_within_lock_wait() {
    let world = World::new();
    let path = export(&world, 1, 2 * DAY);
    for number in 2..50 {
        export(&world, number, 2 * DAY);
    }
    let other = Other::python(LOCK, &path);
    let mut command: Command = world.command(&["run", "--format", "json", "--lock-wait", "10m"]);
    let child = command.stdout(std::process::Stdio::piped()).start().unwrap();
    wait_until("all that is free is removed", || count(world.path("cache/export")) == 1);
    assert!(path.exists());
    drop(other);
    let run = Run::from(child.wait_with_output().unwrap());
    let counts = [("removed", 49), ("skipped", 0)];
    assert_counts(&run.exits(0).json(), "export", &counts);
}

#[test]
fn a_pass_waits_for_locked_entries_no_longer_than_lock_wait() {
    let world = World::new();
    let path = export(&world, 1, 2 * DAY);
    let other = Other::python(LOCK, &path);
    let start = Instant::now();
    let report = world.run(&["run", "--format", "json", "--lock-wait", "300ms"]);
    let took = start.elapsed();
    assert_counts(&report.exits(0).json(), "export", &[("removed", 0), ("skipped_by.locked", 1)]);
    assert!(took >= Duration::from_millis(300) && took < LIMIT, "{took:?}");
    drop(other);
}

/// A wait would take time and tell nothing.
#[test]
fn a_dry_run_does_not_wait_for_what_is_locked() {
    let world = World::new();
    let path = export(&world, 1, 2 * DAY);
    let other = Other::python(LOCK, &path);
    let inner = world.command(&["run", "--dry-run", "--format", "json", "--lock-wait", "10m"]);
    let mut command = Command::new("timeout");
    command.arg("100").arg(inner.get_program()).args(inner.get_args()).env_clear();
    let run = Run::from(command.finish().unwrap());
    let counts = [("removed", 0), ("skipped_by.locked", 1)];
    assert_counts(&run.exits(0).json(), "export", &counts);
    drop(other);
}

#[test]
fn a_deadline_ends_the_wait_for_what_is_locked() {
    let world = World::new();
    let path = export(&world, 99, 2 * DAY);
    let other = Other::python(LOCK, &path);
    let start = Instant::now();
    let run = world.run(&["run", "--format", "json", "--deadline", "500ms", "--lock-wait", "10m"]);
    assert!(start.elapsed() < LIMIT);
    assert_eq!(run.exits(3).json()["stopped"], "deadline");
    drop(other);
}
