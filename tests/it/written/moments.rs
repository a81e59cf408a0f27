//! A write at every moment of a pass: the program is stopped after each of its system calls, one pass each.

use std::fs;
use std::path::{Path, PathBuf};

use super::{CONTENT, write};
use crate::paused::{Moment, Paused};
use crate::world::{DAY, Stat, World};

/// The calls that a pass can be stopped after. Between two of them nothing changes for another process.
const CALLS: [&str; 9] = [
    "openat",
    "openat2",
    "statx",
    "fcntl",
    "flock",
    "getdents64",
    "unlinkat",
    "renameat2",
    "close",
];

/// What became of the writes.
#[derive(Debug, Default)]
struct Writes {
    /// Those that succeeded.
    succeeded: usize,
    /// Those whose file is not there afterwards, by whether the writer had to wait for the sweeper.
    lost: Vec<(String, bool)>,
}

/// Writes to a file at every moment of a pass that may open `descriptors` files.
fn write_at_every_moment(descriptors: u32, make: impl Fn(&World) -> PathBuf) -> Writes {
    let mut writes = Writes::default();
    for calls in CALLS {
        for count in 1.. {
            let world = World::new();
            let path = make(&world);
            let ino = Stat::of(&path).ino;
            let moment = Moment::of(calls, count);
            let Ok(paused) = Paused::at(&world, &[], descriptors, &moment) else { break };
            let writing = std::thread::spawn({
                let path = path.clone();
                move || write(&path)
            });
            let mut waits = false;
            while !writing.is_finished() && !waits {
                waits = paused.keeps_waiting(ino);
                std::thread::yield_now();
            }
            let run = paused.finish();
            if !writing.join().unwrap() {
                continue;
            }
            writes.succeeded += 1;
            if fs::read(&path).is_ok_and(|content| content == CONTENT) {
                let outcomes = run.json()["totals"].clone();
                assert_eq!(outcomes["removed"], 0, "{calls} {count}: {}", run.stdout);
            } else {
                writes.lost.push((format!("after {count} {calls}"), waits));
            }
        }
    }
    writes
}

/// A tree with the file that is written, and others before and after it in every order of names.
fn tree(world: &World) -> PathBuf {
    for path in ["tmp/tree/a", "tmp/tree/sub/b", "tmp/tree/z"] {
        world.file(path, 20 * DAY);
    }
    let path = world.file("tmp/tree/sub/m", 20 * DAY);
    world.age_dirs("tmp", 20 * DAY);
    path
}

fn tree_survives(descriptors: u32) {
    let writes = write_at_every_moment(descriptors, tree);
    assert!(writes.lost.is_empty(), "{writes:?}");
    assert!(writes.succeeded > 100, "{writes:?}");
}

#[test]
fn a_write_at_any_moment_survives_in_a_tree() {
    tree_survives(4096);
}

#[test]
fn a_write_at_any_moment_survives_in_a_tree_without_leases() {
    tree_survives(64);
}

#[test]
fn a_write_at_any_moment_survives_in_a_file_of_a_temporary_directory() {
    let writes = write_at_every_moment(4096, |world| world.file(Path::new("tmp/file"), 20 * DAY));
    assert!(writes.lost.is_empty(), "{writes:?}");
    assert!(writes.succeeded > 100, "{writes:?}");
}
