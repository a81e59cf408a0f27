//! Relief on real file systems: down to the low mark, oldest first, and not an entry more.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use super::disk::{Disk, is_above, size};
use crate::world::{DAY, HOUR, MINUTE, can_be_root, export_name};

const MARKS: [&str; 4] = ["--pressure", "85%", "--relieve", "80%"];

/// A simple source of numbers that look random.
struct Random(u64);

impl Random {
    const fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// What a file is in a random volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    /// Locked by another process.
    Locked,
    /// Open in another process.
    Open,
    /// With a name that `--exclude` has.
    Excluded,
    /// With a name that is no export's.
    Unknown,
}

struct Entry {
    path: PathBuf,
    age: i64,
    kind: Kind,
    size: u64,
}

/// Which files are gone after a pass, in order: worked out from what is known of them, one by one.
fn oracle(entries: &[Entry], used: u64, all: u64) -> Vec<PathBuf> {
    let mut used = used;
    let mut gone = Vec::new();
    let mut sorted: Vec<&Entry> = entries.iter().collect();
    sorted.sort_by_key(|entry| -entry.age);
    for entry in &sorted {
        if entry.kind == Kind::Plain && entry.age > DAY {
            used -= entry.size;
            gone.push(entry.path.clone());
        }
    }
    if !is_above(used, all, 85) {
        return gone;
    }
    for entry in &sorted {
        let may_go = entry.kind == Kind::Plain && entry.age > HOUR && entry.age <= DAY;
        if may_go && is_above(used, all, 80) {
            used -= entry.size;
            gone.push(entry.path.clone());
        }
    }
    gone
}

/// A disk that is 95% full, with files of all kinds.
fn random_disk(mkfs: &str, megabytes: u64, seed: u64) -> (Disk, Vec<Entry>, Vec<File>) {
    let disk = Disk::new(mkfs, &["-q"], megabytes);
    let mut random = Random(seed);
    disk.fill(40 + random.below(35));
    let (mut entries, mut held) = (Vec::new(), Vec::new());
    for number in 0.. {
        let (used, all) = disk.bytes();
        if is_above(used, all, 94) {
            break;
        }
        let kind = match random.below(10) {
            0 => Kind::Locked,
            1 => Kind::Open,
            2 => Kind::Excluded,
            3 => Kind::Unknown,
            _ => Kind::Plain,
        };
        // No two have the same age, and a few have expired.
        let age = i64::try_from(random.below(1500)).unwrap() * MINUTE + number;
        let name = match kind {
            Kind::Unknown => format!("unknown-{number}"),
            Kind::Excluded => export_name(1_000_000 + u32::try_from(number).unwrap()),
            Kind::Plain | Kind::Locked | Kind::Open => export_name(u32::try_from(number).unwrap()),
        };
        let bytes = (random.below(8) + 1) * (megabytes << 11) + random.below(4096);
        let path = disk.file(Path::new("cache/export").join(name), age, bytes);
        if matches!(kind, Kind::Locked | Kind::Open) {
            let file = File::open(&path).unwrap();
            if kind == Kind::Locked {
                flock(&file, FlockOperation::LockExclusive).unwrap();
            }
            held.push(file);
        }
        let size = size(&path);
        entries.push(Entry { path, age, kind, size });
    }
    (disk, entries, held)
}

/// The paths in an audit log, in its order, without what was written down and stayed.
fn audited(log: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(log).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let (mut removed, mut stays) = (Vec::new(), Vec::new());
    for line in lines {
        let path = PathBuf::from(line["path"].as_str().unwrap());
        if line["event"] == "remove" { removed.push(path) } else { stays.push(path) }
    }
    removed.retain(|path| !stays.contains(path));
    removed
}

fn check(mkfs: &str, megabytes: u64, seed: u64, jobs: &str) {
    let (disk, entries, held) = random_disk(mkfs, megabytes, seed);
    let (used, all) = disk.bytes();
    let expected = oracle(&entries, used, all);
    assert!(expected.len() < entries.len() && !expected.is_empty());
    let log = disk.mount().join("audit");
    let common = ["--exclude", "task-1??????-*", "--lock-wait", "0", "--jobs", jobs];
    let dry = [&["run", "--format", "jsonl", "--dry-run"], &MARKS[..], &common[..]].concat();
    let dry = disk.world.run(&dry);
    let real = ["run", "--format", "jsonl", "--audit-log", log.to_str().unwrap()];
    let real = disk.world.run(&[&real[..], &MARKS[..], &common[..]].concat());
    let report = real.exits(0).json();
    assert_eq!(report["pressure"][0]["state"], "relieved", "{report:#}");
    assert_eq!(
        dry.exits(0).json()["totals"],
        report["totals"],
        "{mkfs} {seed}: a dry run says the same"
    );
    let gone: Vec<&Entry> = entries.iter().filter(|entry| !entry.path.exists()).collect();
    let mut paths: Vec<PathBuf> = gone.iter().map(|entry| entry.path.clone()).collect();
    let mut wanted = expected.clone();
    paths.sort();
    wanted.sort();
    assert_eq!(paths, wanted, "{mkfs} {seed}: {report:#}");
    let foreseen: Vec<PathBuf> = dry
        .outcomes()
        .into_iter()
        .filter(|(_, (outcome, _))| outcome == "would_remove")
        .map(|(path, _)| path)
        .collect();
    assert_eq!(foreseen, wanted, "{mkfs} {seed}");
    let early: Vec<PathBuf> = real
        .outcomes()
        .into_iter()
        .filter(|(_, (outcome, reason))| outcome == "removed" && reason == "pressure")
        .map(|(path, _)| path)
        .collect();
    let is_early =
        |path: &&PathBuf| entries.iter().any(|entry| entry.path == **path && entry.age <= DAY);
    let mut wanted_early: Vec<PathBuf> = expected.iter().filter(is_early).cloned().collect();
    let in_order: Vec<PathBuf> =
        audited(&log).into_iter().filter(|path| wanted_early.contains(path)).collect();
    assert_eq!(in_order, wanted_early, "{mkfs} {seed}: not the oldest first");
    // The last was needed: with it, there would be too much.
    let (used, all) = disk.bytes();
    let last = entries.iter().find(|entry| Some(&entry.path) == wanted_early.last()).unwrap();
    assert!(!is_above(used - size(&log), all, 80), "{used} of {all}");
    assert!(is_above(used + last.size, all, 80), "{used} of {all}");
    wanted_early.sort();
    assert_eq!(early, wanted_early);
    drop(held);
}

#[test]
fn on_a_full_ext4_exactly_the_oldest_exports_go_that_a_simple_count_finds() {
    if !can_be_root("a loop-mounted ext4") {
        return;
    }
    check("mkfs.ext4", 1024, 1, "1");
    for seed in 2..6 {
        check("mkfs.ext4", 128, seed, if seed % 2 == 0 { "1" } else { "4" });
    }
}

#[test]
fn on_a_full_xfs_exactly_the_oldest_exports_go_that_a_simple_count_finds() {
    if !can_be_root("a loop-mounted xfs") {
        return;
    }
    check("mkfs.xfs", 1024, 11, "4");
}

/// More than are kept in memory.
const FILES: u32 = 40_000;

#[test]
fn more_entries_go_than_are_kept_in_memory() {
    if !can_be_root("a loop-mounted ext4 with many files") {
        return;
    }
    let disk = Disk::new("mkfs.ext4", &["-q", "-N", "45000"], 64);
    for number in 0..FILES {
        // Not in the order of their names.
        let age = 2 * HOUR + i64::from(number * 7919 % FILES);
        disk.file(Path::new("cache/export").join(export_name(number)), age, 0);
    }
    let (used, all) = disk.inodes();
    let mut keep = 0;
    while !is_above(used - u64::from(FILES) + keep, all, 10) {
        keep += 1;
    }
    let args = ["run", "--format", "json", "--pressure", "50%", "--relieve", "10%"];
    let report = disk.world.run(&args).exits(0).json();
    let left: Vec<u32> = (0..FILES)
        .filter(|number| disk.world.path("cache/export").join(export_name(*number)).exists())
        .map(|number| number * 7919 % FILES)
        .collect();
    assert_eq!(left.len() as u64 + 1, keep, "{report:#}");
    assert!(u64::from(FILES) - left.len() as u64 > 32 * 1024, "all fit into memory");
    let youngest = u32::try_from(left.len()).unwrap();
    assert!(left.iter().all(|age| *age < youngest), "the oldest are gone");
}

/// A disk without inodes, rather than without space.
fn check_inodes(mkfs: &str, args: &[&str], megabytes: u64) {
    let disk = Disk::new(mkfs, args, megabytes);
    let mut number = 0;
    loop {
        let (used, all) = disk.inodes();
        if is_above(used, all, 94) {
            break;
        }
        // From 25 minutes to some hours: the first ones are too young.
        let age = 25 * MINUTE + i64::from(number);
        disk.file(Path::new("cache/export").join(export_name(number)), age, 0);
        number += 1;
    }
    let (used, all) = disk.inodes();
    let young = number.min(u32::try_from(35 * MINUTE).unwrap() + 1);
    let mut count = 0;
    while is_above(used - u64::from(count), all, 80) {
        count += 1;
    }
    assert!(young + count < number, "{number} files");
    let run = disk.world.run(&[&["run", "--format", "json"], &MARKS[..]].concat());
    let report = run.exits(0).json();
    let left = |from: u32, to: u32| {
        let path = |number| disk.world.path("cache/export").join(export_name(number));
        (from..to).filter(|number| path(*number).exists()).count()
    };
    assert_eq!(left(number - count, number), 0, "the oldest are gone: {report:#}");
    assert_eq!(left(0, number - count) as u64, u64::from(number - count), "and no others");
    let (used, all) = disk.inodes();
    assert!(!is_above(used, all, 80) && is_above(used + 1, all, 80), "{used} of {all}");
}

#[test]
fn without_inodes_as_many_of_the_oldest_exports_go_as_have_to() {
    if !can_be_root("loop-mounted file systems without inodes") {
        return;
    }
    check_inodes("mkfs.ext4", &["-q", "-N", "6000"], 64);
    check_inodes("mkfs.xfs", &["-q", "-i", "maxpct=1"], 320);
}
