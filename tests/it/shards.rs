//! Several sweepers that share a data root: each entry belongs to one of them, and together they are one pass.

mod lists;
mod long_lists;
mod merged;
mod parts;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use serde_json::Value;

use crate::laws::random_world;
use crate::world::{DAY, Run, World};

/// Every zone of a pass.
const ZONES: [&str; 2] = ["--zones", "export,tmp,instance-tmp"];

/// A random data root that has instances and old caches too.
fn random_root(seed: u64) -> World {
    let world = random_world(seed);
    for name in [&b"tmp/\xff not\n\x1b text"[..], b"cache/export/\xfe", b"tmp/-rf", b"tmp/ "] {
        world.file(std::ffi::OsStr::from_bytes(name), 30 * DAY);
    }
    for id in 0..12_u64 {
        let kind = ["projects", "tasks", "jobs"][usize::try_from((id + seed) % 3).unwrap()];
        for number in 0..(id + seed) % 5 {
            let age = if (id + number) % 3 == 0 { DAY } else { 30 * DAY };
            world.file(format!("{kind}/{id}/tmp/scratch-{number}/a/b"), age);
            world.file(format!("{kind}/{id}/tmp/file-{number}"), age);
        }
        if id % 2 == 0 {
            world.file(format!("{kind}/{id}/export_cache/old.zip"), 90 * DAY);
            world.file(format!("{kind}/{id}/tmp/export_cache/old.zip"), 90 * DAY);
        }
        let dir = world.path(format!("{kind}/{id}"));
        if dir.exists() {
            world.age_dirs(dir, 90 * DAY);
        }
    }
    world
}

/// Removes the second names of files from a data root: two shards may have one each, and in which zone its
/// bytes are reported depends on their order.
fn unlink_second_names(world: &World) {
    for entry in std::fs::read_dir(world.path("tmp")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().as_bytes().starts_with(b"linked-") {
            std::fs::remove_file(path).unwrap();
        }
    }
}

/// The entries of all zones, found by plain listings.
fn entries(world: &World) -> BTreeSet<PathBuf> {
    let list = |dir: PathBuf| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let mut all: BTreeSet<PathBuf> = BTreeSet::new();
    all.extend(list(world.path("cache/export")));
    all.extend(list(world.path("tmp")));
    for kind in ["projects", "tasks", "jobs"] {
        for instance in list(world.path(kind)) {
            all.extend(list(instance.join("tmp")));
        }
    }
    all
}

/// A run that reports each outcome.
fn swept(world: &World, command: &str, more: &[&str]) -> Run {
    let zones: &[&str] = if command == "run" { &ZONES } else { &[] };
    let args = [&[command, "--format", "jsonl", "-v", "--jobs", "2"], zones, more].concat();
    let run = world.run(&args);
    run.exits(0);
    run
}

/// What a run removed, relative to the data root.
fn removed(world: &World, run: &Run) -> BTreeSet<PathBuf> {
    let removed = run.outcomes().into_iter().filter(|(_, (outcome, _))| outcome == "removed");
    removed.map(|(path, _)| path.strip_prefix(&world.root).unwrap().to_owned()).collect()
}

/// All that is left, relative to the data root.
fn left(world: &World) -> BTreeSet<PathBuf> {
    let all = world.snapshot().into_keys();
    all.map(|path| path.strip_prefix(&world.root).unwrap().to_owned()).collect()
}

/// The counts of a report, by zone and name. What a file with several names frees is reported in the zone of
/// the last one that is removed, so bytes are compared in total.
fn counts(report: &Value) -> BTreeMap<String, u64> {
    fn walk(path: String, value: &Value, all: &mut BTreeMap<String, u64>) {
        if let Some(number) = value.as_u64() {
            all.insert(path, number);
        } else if let Some(object) = value.as_object() {
            for (key, value) in object {
                walk(format!("{path}.{key}"), value, all);
            }
        }
    }
    let mut all = BTreeMap::new();
    for zone in report["zones"].as_array().unwrap() {
        walk(zone["zone"].as_str().unwrap().to_owned(), zone, &mut all);
    }
    all.retain(|key, _| !key.ends_with("freed_bytes"));
    walk("totals".to_owned(), &report["totals"], &mut all);
    all
}

fn add(all: &mut BTreeMap<String, u64>, report: &Value) {
    for (key, count) in counts(report) {
        *all.entry(key).or_default() += count;
    }
}
