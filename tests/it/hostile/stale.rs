//! A server that does not know the handle of a directory or of a file any more (`ESTALE`), though it is there:
//! nothing in that tree is removed.

use std::process::{Command, Stdio};

use super::OLD;
use crate::interrupted::has_strace;
use crate::world::{NOW, Run, World, assert_counts, set_age};

/// A tree that is kept for one fresh file, which is two levels down.
fn world() -> World {
    let world = World::new();
    for file in ["a", "sub/b", "sub/deep/c"] {
        world.file(format!("tmp/tree/{file}"), OLD);
    }
    world.file("tmp/tree/sub/deep/fresh", 0);
    world.age_dirs("tmp/tree", OLD);
    set_age(&world.path("tmp"), OLD);
    world
}

const FILES: [&str; 4] = ["a", "sub/b", "sub/deep/c", "sub/deep/fresh"];

/// A pass in which one call gets `ESTALE`, and whether there was such a call.
fn stale(world: &World, calls: &str, when: usize) -> (Run, bool) {
    let log = world.root.with_file_name("calls");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]).arg(&log).arg("-e").arg(format!("trace={calls}"));
    command.arg("-e").arg(format!("inject={calls}:error=ESTALE:when={when}"));
    command.arg(env!("CARGO_BIN_EXE_sweeper")).args(["run", "--zones", "tmp", "--jobs", "1"]);
    command.args(["--format", "json", "--now", NOW, "--data"]).arg(&world.root);
    let run = Run::of({
        command.stdin(Stdio::null());
        command
    });
    let log = std::fs::read_to_string(log).unwrap();
    (run, log.contains("INJECTED"))
}

/// Whichever listing, look or opening gets `ESTALE`: the fresh file is still there, so the whole tree is.
#[test]
fn a_tree_with_a_fresh_file_stays_whole_when_its_server_forgets_any_part_of_it() {
    if !has_strace() {
        return;
    }
    for calls in ["getdents64", "statx", "openat,openat2"] {
        let mut hits = 0;
        for when in 1.. {
            let world = world();
            let (run, was_hit) = stale(&world, calls, when);
            for file in FILES {
                let path = format!("tmp/tree/{file}");
                assert!(world.has(&path), "{calls} {when}: {file}\n{}{}", run.stdout, run.stderr);
            }
            if !was_hit {
                break;
            }
            hits += 1;
        }
        assert!(hits > 3, "{calls}: {hits}");
    }
}

/// A listing that fails is no empty directory, and the report says so.
#[test]
fn a_listing_that_the_server_refuses_is_a_failure() {
    if !has_strace() {
        return;
    }
    let mut failed = 0;
    for when in 1.. {
        let world = world();
        let (run, was_hit) = stale(&world, "getdents64", when);
        if !was_hit {
            assert_counts(&run.exits(0).json(), "tmp", &[("skipped_by.used", 1)]);
            break;
        }
        if run.code == Some(1) && run.stdout.contains("/tmp/tree") {
            assert!(run.stdout.contains("ESTALE"), "{}", run.stdout);
            failed += 1;
        }
    }
    assert!(failed >= 3, "the listings of three directories: {failed}");
}
