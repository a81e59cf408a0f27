//! CVAT's own lock, with a real Redis server and real pottery clients in processes of their own.

mod clock;
mod fail_closed;
mod fake;
mod hold;
mod locks;
mod login;
mod mid_pass;
mod odd_keys;
mod odd_servers;
mod output;
mod paths;
mod protocol;
pub mod server;
mod settings;
mod soak;
mod waits;

use std::path::{Path, PathBuf};

use crate::world::{DAY, Run, World, assert_counts, export_name, zone};
use server::Redis;

fn export(world: &World, number: u32) -> PathBuf {
    world.file(Path::new("cache/export").join(export_name(number)), 2 * DAY)
}

/// A data root with five expired exports, and something expired beside them.
fn with_five_exports() -> World {
    let world = World::new();
    for number in 0..5 {
        export(&world, number);
    }
    world.file("tmp/old", 20 * DAY);
    world
}

/// Asserts that the exports were left alone for a reason, that `tmp` was swept, and the exit code.
#[track_caller]
fn assert_left_alone(run: &Run, world: &World, reason: &str) {
    let report = run.exits(4).json();
    assert_eq!(report["exit"], 4);
    let notes = zone(&report, "export")["notes"].to_string();
    assert!(notes.contains(reason), "{reason}: {notes}");
    assert_counts(&report, "export", &[("removed", 0)]);
    assert_counts(&report, "tmp", &[("removed", 1)]);
    assert!(!world.has("tmp/old"));
}

/// The key of CVAT's lock of a path.
fn key(path: &Path) -> String {
    format!("redlock:export_lock:{}", path.display())
}

/// Runs a pass that takes CVAT's locks for paths as we see them, which is how the exporters of the tests see
/// them too.
fn run(redis: &Redis, world: &World, args: &[&str]) -> Run {
    world.run(&[&with_locks(redis, world).each_ref().map(String::as_str)[..], args].concat())
}

/// The arguments of such a pass.
fn with_locks(redis: &Redis, world: &World) -> [String; 7] {
    let root = world.root.to_str().unwrap();
    ["run", "--format", "json", "--redis", &redis.url(), "--cvat-data", root].map(str::to_owned)
}
