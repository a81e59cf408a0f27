//! Files that are not in memory: they are looked at in the order of their inodes, in batches that are bounded.
//!
//! Each look is delayed, so that the program takes it for one at a file that is not in memory, whatever the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use crate::interrupted::has_strace;
use crate::world::{DAY, Run, World, assert_counts, export_name};

const FILES: u32 = 6000;

/// How many of these names the first three buffers of a listing hold at most: they are read before it is known that the
/// files are not in memory.
const FIRST: usize = 3 * 64 * 1024 / 72;

/// A data root with many exports. One in three has expired.
fn world() -> World {
    let world = World::new();
    for number in 0..FILES {
        let age = if number % 3 == 0 { 2 * DAY } else { 60 };
        world.file(Path::new("cache/export").join(export_name(number)), age);
    }
    world
}

/// The names in the directory of exports.
fn names(world: &World) -> BTreeSet<OsString> {
    fs::read_dir(world.path("cache/export")).unwrap().map(|it| it.unwrap().file_name()).collect()
}

/// A run under strace, and the names in the order in which it looked at them first.
fn looked_at(world: &World, jobs: &str, more: &[&str]) -> (Run, Vec<OsString>) {
    let args = ["run", "--zones", "export", "--lock", "flock", "--format", "json", "--jobs", jobs];
    let inner = world.command(&[&args, more].concat());
    let log = world.root.parent().unwrap().join("calls.log");
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-s", "300", "-e", "trace=statx"]);
    traced.args(["-e", "inject=statx:delay_enter=20us", "-o"]).arg(&log);
    traced.arg(inner.get_program()).args(inner.get_args());
    let run = Run::of(traced);
    let calls = fs::read_to_string(log).unwrap();
    // First looks may be answered from a cache, later ones not.
    let first = calls.lines().filter(|call| call.contains("AT_STATX_DONT_SYNC"));
    let quoted = first.filter_map(|call| call.split('"').nth(1).map(OsString::from));
    let exports: BTreeSet<OsString> = (0..FILES).map(|number| export_name(number).into()).collect();
    let mut seen = BTreeSet::new();
    let is_first = |name: &OsString| exports.contains(name) && seen.insert(name.clone());
    (run, quoted.filter(is_first).collect())
}

#[test]
fn files_that_are_not_in_memory_are_looked_at_in_the_order_of_their_inodes() {
    if !has_strace() {
        return;
    }
    let world = world();
    let inodes: BTreeMap<OsString, u64> = fs::read_dir(world.path("cache/export"))
        .unwrap()
        .map(|it| it.unwrap())
        .map(|it| (it.file_name(), it.metadata().unwrap().ino()))
        .collect();
    let (run, looked) = looked_at(&world, "1", &["--dry-run"]);
    let expired = u64::from(FILES / 3);
    let counts = [("removed", expired), ("kept_by.fresh", 2 * expired)];
    assert_counts(&run.exits(0).json(), "export", &counts);
    assert_eq!(looked.len(), inodes.len(), "each name is looked at");
    let order: Vec<u64> = looked.iter().map(|name| inodes[name]).collect();
    let sorted = ascent(&order);
    assert!(
        order.len() - sorted <= FIRST.min(order.len() / 2),
        "only {sorted} in order at the end"
    );
}

/// How many at the end are in order.
fn ascent(order: &[u64]) -> usize {
    1 + order.windows(2).rev().take_while(|pair| pair[0] < pair[1]).count()
}

#[test]
fn workers_that_take_turns_remove_what_has_expired_and_nothing_else() {
    if !has_strace() {
        return;
    }
    for jobs in ["2", "5"] {
        let world = world();
        let expired: BTreeSet<OsString> =
            (0..FILES).step_by(3).map(|number| export_name(number).into()).collect();
        let before = names(&world);
        let (run, _) = looked_at(&world, jobs, &[]);
        let all = u64::from(FILES);
        let counts = [("removed", all / 3), ("kept_by.fresh", all / 3 * 2), ("seen", all)];
        assert_counts(&run.exits(0).json(), "export", &counts);
        assert_eq!(names(&world), &before - &expired, "--jobs {jobs}");
    }
}
