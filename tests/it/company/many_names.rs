//! Files with several names: the workers of one pass do not take each other for other processes, and an entry
//! that really is in use is not waited for.

use std::path::Path;
use std::process::Command;

use super::{count, export, has_tool, outcome_of};
use crate::wait::wait_until;
use crate::world::{DAY, Run, World, assert_counts, export_name, set_age};

/// Gives a file this many names in all, spread over exports and temporary files.
fn with_names(world: &World, names: u32) {
    let first = export(world, 0, 20 * DAY);
    for number in 1..names {
        let dir = if number % 2 == 0 { "cache/export" } else { "tmp" };
        std::fs::hard_link(&first, world.path(dir).join(export_name(number))).unwrap();
    }
    set_age(&first, 20 * DAY);
}

#[test]
fn every_one_of_20001_names_of_a_file_goes_and_a_dry_run_says_so() {
    let world = World::in_dir(Path::new("/dev/shm"));
    with_names(&world, 20_001);
    // What the workers cannot settle at once is not tried again.
    let args = ["run", "--format", "json", "--jobs", "8", "--lock-wait", "0"];
    for extra in [&["--dry-run"][..], &[]] {
        let run = world.run(&[&args[..], extra].concat());
        let report = run.exits(0).json();
        assert_counts(&report, "export", &[("removed", 10_001), ("skipped", 0)]);
        assert_counts(&report, "tmp", &[("removed", 10_000), ("skipped", 0)]);
    }
    assert_eq!((count(world.path("cache/export")), count(world.path("tmp"))), (0, 0));
}

#[test]
fn trees_and_files_that_share_files_go_together() {
    let world = World::in_dir(Path::new("/dev/shm"));
    for number in 0..500 {
        let path = world.file(format!("tmp/one/file-{number}"), 20 * DAY);
        for other in ["tmp/two", "tmp/three", "tmp/four"] {
            std::fs::create_dir_all(world.path(other)).unwrap();
            std::fs::hard_link(&path, world.path(format!("{other}/file-{number}"))).unwrap();
        }
        std::fs::hard_link(&path, world.path(format!("tmp/alone-{number}"))).unwrap();
        set_age(&path, 20 * DAY);
    }
    world.age_dirs("tmp", 20 * DAY);
    let args = ["run", "--format", "json", "--jobs", "8", "--lock-wait", "0"];
    for extra in [&["--dry-run"][..], &[]] {
        let run = world.run(&[&args[..], extra].concat());
        assert_counts(&run.exits(0).json(), "tmp", &[("removed", 504), ("skipped", 0)]);
    }
    assert_eq!(count(world.path("tmp")), 0);
}

/// A thread that only waits gets a table of descriptors of its own. As long as the kernel makes it, the copy keeps open what
/// other threads have closed, and a lease on that is refused.
#[test]
fn no_file_is_asked_about_before_the_threads_that_only_wait_have_tables_of_their_own() {
    if !has_tool("strace", "a pass whose threads begin slowly") {
        return;
    }
    let world = World::in_dir(Path::new("/dev/shm"));
    with_names(&world, 20);
    let log = world.root.parent().unwrap().join("calls");
    let inner = world.command(&["run", "--format", "json", "--jobs", "2"]);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=close_range,fcntl"]);
    command.args(["-e", "inject=close_range:delay_enter=300ms", "-o"]).arg(&log);
    command.arg(inner.get_program()).args(inner.get_args());
    Run::of(command).exits(0);
    let log = std::fs::read_to_string(log).unwrap();
    let made =
        log.lines().enumerate().filter(|(_, call)| call.contains("close_range")).last().unwrap().0;
    let asked = log.lines().position(|call| call.contains("F_SETLEASE")).unwrap();
    assert!(made < asked, "{log}");
}

#[test]
fn a_file_with_many_names_that_is_in_use_is_not_waited_for() {
    if !has_tool("strace", "a pass over many names of a file in use") {
        return;
    }
    let world = World::in_dir(Path::new("/dev/shm"));
    with_names(&world, 200);
    let path = world.path("cache/export").join(export_name(0));
    let open = std::fs::File::open(&path).unwrap();
    let log = world.root.parent().unwrap().join("sleeps");
    let inner = world.command(&["run", "--format", "json", "--jobs", "2"]);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=nanosleep,clock_nanosleep", "-o"]).arg(&log);
    command.arg(inner.get_program()).args(inner.get_args());
    let run = Run::of(command);
    assert_counts(&run.exits(0).json(), "export", &[("removed", 0), ("skipped_by.in_use", 100)]);
    let slept = std::fs::read_to_string(&log).unwrap().matches("nanosleep(").count();
    assert_eq!(slept, 0, "sleeps");
    drop(open);
    wait_until("it is removed", || outcome_of(&world, &path, &[]) == "removed");
}
