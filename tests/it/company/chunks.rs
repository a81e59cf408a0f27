//! The chunk cache of CVAT before 2.6.2, made by the package that CVAT used for it.

use std::fs;
use std::process::Command;

use super::Other;
use crate::exporter::server::interpreter;
use crate::start::Start;
use crate::world::{DAY, World, assert_counts, is_present, set_age, zone};

/// Opens a cache of four shards as CVAT 1.2 to 2.6.1 did, and fills it.
const FILL: &str = "
import diskcache, signal, sys
cache = diskcache.FanoutCache(sys.argv[1], shards=4, size_limit=2**40)
for chunk in range(60):
    cache.set(f'task_7_{chunk}_compressed', b'x' * 60_000, tag='chunk')
print('ready', flush=True)
";

/// A data root with an old chunk cache; `None` where the package is missing.
fn cached() -> Option<World> {
    let mut import = Command::new(interpreter());
    let found = import.args(["-c", "import diskcache"]).finish();
    is_present(found.is_ok_and(|output| output.status.success()), "the Python package diskcache")
        .then(|| {
            let world = World::new();
            let mut fill = Command::new(interpreter());
            fill.args(["-c", FILL]).arg(world.path("cache"));
            assert!(fill.finish().unwrap().status.success());
            for path in ["cache/0000/f", "cache/00/f", "cache/00a/f", "cache/events/x.db"] {
                world.file(path, 400 * DAY);
            }
            world.file("cache/004", 400 * DAY);
            for entry in walkdir::WalkDir::new(world.path("cache")).contents_first(true) {
                set_age(entry.unwrap().path(), 400 * DAY);
            }
            world.file("cache/export/task-1-backup-instance1.5.zip", 400 * DAY);
            Some(world)
        })
        .flatten()
}

#[test]
fn the_chunk_cache_of_earlier_versions_is_removed_on_request() {
    let Some(world) = cached() else { return };
    world.run(&["run", "--lock", "flock", "--zones", "tmp", "--format", "json"]).exits(0);
    assert!(world.has("cache/000/cache.db"), "it was not asked for");
    let values = walkdir::WalkDir::new(world.path("cache/000")).into_iter().count();
    assert!(values > 10, "{values} files");
    // Written to yesterday.
    let fresh = walkdir::WalkDir::new(world.path("cache/001")).into_iter();
    let fresh = fresh.map(Result::unwrap).find(|entry| entry.path().ends_with("cache.db"));
    set_age(fresh.unwrap().path(), DAY);
    let args = ["run", "--zones", "chunk-cache", "--format", "json"];
    let report = world.run(&args).exits(0).json();
    assert_counts(&report, "chunk-cache", &[("removed", 3), ("skipped_by.used", 1)]);
    // `00`, `00a`, `0000`, `events` and `export` are not shards, and `004` is a file.
    assert_counts(&report, "chunk-cache", &[("kept_by.unrecognized", 6), ("failed", 0)]);
    let mut left: Vec<_> = fs::read_dir(world.path("cache")).unwrap().collect();
    assert_eq!(left.len(), 7, "{left:?}");
    left.retain(|entry| entry.as_ref().unwrap().file_name() == "001");
    assert_eq!(left.len(), 1);
    assert!(world.has("cache/events/x.db"));
    assert!(world.has("cache/export/task-1-backup-instance1.5.zip"));
    assert_eq!(zone(&report, "chunk-cache")["seen"], 10);
}

#[test]
fn a_chunk_cache_that_an_earlier_version_has_open_is_kept() {
    let Some(world) = cached() else { return };
    let mut open = Command::new(interpreter());
    let script = format!("{FILL}signal.pause()").replace("range(60)", "range(0)");
    let script = script.replace("print(", "[shard._sql for shard in cache._shards]\nprint(");
    open.args(["-c", &script]).arg(world.path("cache"));
    let _running = Other::ready(open);
    for entry in walkdir::WalkDir::new(world.path("cache")).contents_first(true) {
        set_age(entry.unwrap().path(), 400 * DAY);
    }
    let args = ["run", "--zones", "chunk-cache", "--format", "json"];
    let report = world.run(&args).exits(0).json();
    // SQLite holds locks on the files that it has open.
    assert_counts(&report, "chunk-cache", &[("removed", 0), ("skipped_by.locked", 4)]);
}
