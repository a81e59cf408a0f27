//! What one entry costs, in system calls and in allocations, compared with `fixtures/costs.toml`.
//!
//! No clock is read: each figure is the difference between a data root and one twice as large, divided by the
//! difference in entries. So the start of the program does not count, and a busy machine changes nothing. A
//! figure that is worse than its record is a regression, and a much better one is to be recorded.
#![allow(clippy::disallowed_methods, reason = "tests make and remove their own files")]
#![allow(clippy::unwrap_used, clippy::missing_docs_in_private_items)]

use std::alloc::System;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use filetime::FileTime;
use retention_sweeper::cvat::zones::{self, ExportTtls};
use retention_sweeper::dispose::Unlink;
use retention_sweeper::engine::{Limits, Live, Pass, PassControl, Workers};
use retention_sweeper::fs::lease::{self, InUseProbe};
use retention_sweeper::fs::{DataRoot, Forbidden};
use retention_sweeper::inspect::FileInspector;
use retention_sweeper::lock::Backend;
use retention_sweeper::protocol::{Directory, MemberLeases, Notes, Observer, Outcome, Tally};
use retention_sweeper::rules::select::All;
use retention_sweeper::rules::{Exclude, LastUse, Moment, Ttl, Zone, ZoneName};
use retention_sweeper::source::DirectorySource;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocations are counted for the whole process, so the tests take turns.
static TURN: Mutex<()> = Mutex::new(());

const NOW: i64 = 1_767_323_045;
const DAY: i64 = 86_400;
/// Twice as many names fill three buffers. Where looks are slow, the names of a fourth would be sorted
/// (`source/cold.rs`), which takes memory: how fast this machine is must not count.
const FILES: usize = 1000;
const TREES: usize = 5;
const DIRS_OF_A_TREE: usize = 10;
const FILES_OF_A_DIR: usize = 10;

/// What a data root is filled with.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Exports { age: i64 },
    Trees { age: i64 },
    Instances,
}

impl Kind {
    /// Entries of a data root of the usual size.
    const fn count(self) -> usize {
        match self {
            Self::Trees { .. } => TREES,
            Self::Exports { .. } | Self::Instances => FILES,
        }
    }

    /// Files and directories in them, by which the cost is divided.
    const fn entries(self, count: usize) -> usize {
        match self {
            Self::Trees { .. } => count * (1 + DIRS_OF_A_TREE * (1 + FILES_OF_A_DIR)),
            Self::Exports { .. } | Self::Instances => count,
        }
    }

    fn make(self, data: &Path, count: usize) {
        fs::create_dir_all(data.join("cache/export")).unwrap();
        for number in 0..count {
            match self {
                Self::Exports { age } => {
                    let stamp = "instance1736428000.123456";
                    let name = format!("cache/export/task-{number}-dataset-{stamp}-coco-10.zip");
                    put(&data.join(name), age);
                }
                Self::Trees { age } => {
                    let tree = data.join(format!("tmp/tree-{number}"));
                    for dir in (0..DIRS_OF_A_TREE).map(|dir| tree.join(dir.to_string())) {
                        fs::create_dir_all(&dir).unwrap();
                        (0..FILES_OF_A_DIR).for_each(|file| put(&dir.join(file.to_string()), age));
                        set_age(&dir, age);
                    }
                    set_age(&tree, age);
                }
                Self::Instances => {
                    fs::create_dir_all(data.join(format!("jobs/{number}"))).unwrap();
                }
            }
        }
    }
}

fn put(path: &Path, age: i64) {
    File::create(path).unwrap();
    set_age(path, age);
}

fn set_age(path: &Path, age: i64) {
    let time = FileTime::from_unix_time(NOW - age, 0);
    filetime::set_file_times(path, time, time).unwrap();
}

/// What an entry costs, from what a whole data root costs.
fn per_entry(kind: Kind, cost: impl Fn(&Path) -> usize) -> f64 {
    let of = |count: usize| {
        let scratch = tempfile::tempdir().unwrap();
        let data = scratch.path().join("data");
        kind.make(&data, count);
        wait_until_settled(scratch.path());
        i32::try_from(cost(&data)).unwrap()
    };
    let (once, twice) = (of(kind.count()), of(2 * kind.count()));
    f64::from(twice - once) / f64::from(u32::try_from(kind.entries(kind.count())).unwrap())
}

/// Waits until the clock of the file system has moved on: a file whose ctime is that of this moment is looked at in
/// another way.
fn wait_until_settled(dir: &Path) {
    let now = || {
        let path = dir.join("clock");
        File::create(&path).unwrap();
        let seen = fs::metadata(path).unwrap();
        Duration::new(seen.ctime().unsigned_abs(), seen.ctime_nsec().try_into().unwrap())
    };
    let begin = now();
    while now() < begin + Duration::from_millis(50) {
        std::thread::yield_now();
    }
}

/// Compares figures with their records, with room for noise on both sides.
fn compare(section: &str, figures: &[(&str, f64)]) {
    let text = include_str!("../fixtures/costs.toml");
    let records: toml::Table = text.parse().unwrap();
    let section = records[section].as_table().unwrap();
    assert_eq!(section.len(), figures.len(), "each figure has a record");
    let mut wrong = Vec::new();
    for (name, figure) in figures {
        let record = section[*name].as_float().unwrap();
        if (figure - record).abs() > 0.02f64.max(record * 0.02) {
            wrong.push(format!("{name} = {figure:.3} # the record says {record}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "if this is intended, write into fixtures/costs.toml:\n{}",
        wrong.join("\n")
    );
}

/// Whose system calls are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Threads {
    /// The main thread: it is the one worker of `--jobs 1`. The others make a few calls each. How many depends on
    /// where the kernel places their memory, and the last ones may come too late to be made.
    Main,
    All,
}

/// How often each system call is made.
fn system_calls(data: &Path, args: &[&str], threads: Threads) -> BTreeMap<String, usize> {
    let counts = data.with_file_name("counts");
    let status = Command::new("strace")
        .args(["-f"].iter().filter(|_| threads == Threads::All))
        .args(["-c", "-o"])
        .arg(&counts)
        .arg(env!("CARGO_BIN_EXE_sweeper"))
        .args(args)
        // Measuring takes no lock.
        .args(["--lock", "flock"].iter().filter(|_| !args.contains(&"usage")))
        .args(["--now", "2026-01-02T03:04:05Z", "--data"])
        .arg(data)
        .env_clear()
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let counts = fs::read_to_string(counts).unwrap();
    let words = counts.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    // Share of the time, seconds, microseconds a call, calls, perhaps errors, name.
    let calls =
        words.filter_map(|words| Some((words.get(3)?.parse().ok()?, words.last()?.to_string())));
    calls.map(|(calls, name)| (name, calls)).collect()
}

/// Whether system calls can be counted here.
fn has_strace(what: &str) -> bool {
    let is_there = Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok();
    assert!(is_there || std::env::var_os("SWEEPER_TESTS_ALL").is_none(), "strace is missing");
    if !is_there {
        eprintln!("left out, needs strace: {what}");
    }
    is_there
}

#[test]
fn workers_are_started_when_there_is_work_for_several_and_an_empty_volume_costs_few_calls() {
    if !has_strace("system calls of a pass over an empty volume") {
        return;
    }
    let _turn = TURN.lock();
    let records: toml::Table = include_str!("../fixtures/costs.toml").parse().unwrap();
    let most = records["empty_volume"]["most_system_calls"].as_integer().unwrap();
    let counts = |kind: Kind, count, jobs, threads| {
        let scratch = tempfile::tempdir().unwrap();
        let data = scratch.path().join("data");
        kind.make(&data, count);
        fs::create_dir_all(data.join("tmp")).unwrap();
        system_calls(&data, &["run", "--jobs", jobs], threads)
    };
    let of = |calls: &BTreeMap<String, usize>, names: &[&str]| {
        names.iter().filter_map(|name| calls.get(*name)).sum::<usize>()
    };
    let started = |calls: &BTreeMap<String, usize>| of(calls, &["clone", "clone3"]);
    let fresh = Kind::Exports { age: 60 };
    let by_one = started(&counts(fresh, 0, "1", Threads::All));
    assert_eq!(by_one, 2, "one thread for signals and one that watches over the process");
    for jobs in ["1", "2", "16", "16", "16"] {
        let calls = counts(fresh, 0, jobs, Threads::Main);
        let count = calls["total"] - of(&calls, &["futex"]);
        assert!(i64::try_from(count).unwrap() <= most, "--jobs {jobs}: {count} of {calls:?}");
        let calls = counts(fresh, 0, jobs, Threads::All);
        assert_eq!(started(&calls), by_one, "--jobs {jobs}: a worker was started for nothing");
        assert_eq!(calls.get("sched_yield"), None, "--jobs {jobs}: it waits by asking again");
    }
    let counts = |kind, count, jobs| counts(kind, count, jobs, Threads::All);
    assert_eq!(started(&counts(fresh, 10, "16")), by_one, "workers for ten names");
    assert_eq!(started(&counts(Kind::Trees { age: 60 }, 5, "16")), by_one, "for fresh trees");
    assert_eq!(started(&counts(fresh, FILES, "16")), by_one + 16, "all for many names");
    let old = Kind::Trees { age: 30 * DAY };
    assert_eq!(started(&counts(old, 1, "16")), by_one + 16, "all for a tree to be removed");
}

#[test]
fn an_entry_costs_as_many_system_calls_as_recorded() {
    if !has_strace("system calls per entry") {
        return;
    }
    let _turn = TURN.lock();
    let cost = |kind, args: &[&str]| {
        let args = [args, &["--jobs", "1"]].concat();
        per_entry(kind, |data| system_calls(data, &args, Threads::Main)["total"])
    };
    let (fresh, old) = (60, 30 * DAY);
    compare(
        "system_calls",
        &[
            ("export_kept", cost(Kind::Exports { age: fresh }, &["run"])),
            ("export_removed", cost(Kind::Exports { age: old }, &["run"])),
            ("export_dry_run", cost(Kind::Exports { age: old }, &["run", "--dry-run"])),
            ("tree_kept", cost(Kind::Trees { age: fresh }, &["run"])),
            ("tree_removed", cost(Kind::Trees { age: old }, &["run"])),
            (
                "tree_removed_unprobed",
                cost(Kind::Trees { age: old }, &["run", "--in-use", "ignore"]),
            ),
            ("instance_without_cache", cost(Kind::Instances, &["legacy"])),
            ("export_measured", cost(Kind::Exports { age: old }, &["usage"])),
            ("tree_measured", cost(Kind::Trees { age: old }, &["usage"])),
        ],
    );
}

/// Does nothing with what it is told.
struct Silent;

impl Observer for Silent {
    fn on_zone(&self, _zone: &ZoneName) {}
    fn on_outcome(&self, _outcome: &Outcome<'_>) {}
    fn on_progress(&self, _root: &Directory, _names: u64, _counts: &Tally) {}
}

/// How often a pass allocates memory, or enlarges what it has.
fn allocations(data: &Path, zone: Zone) -> usize {
    let root = DataRoot::open(data, &[], &Forbidden::default()).unwrap();
    let (limits, workers) = (Limits::default(), Workers::one());
    let (control, notes) = (PassControl { limits: &limits, workers: &workers }, Notes::default());
    let (probe, zone) = (InUseProbe::On, [Arc::new(zone)]);
    MemberLeases::set_limit(lease::affordable(1));
    let region = Region::new(ALLOCATOR);
    let pass = Pass {
        live: &Live::default(),
        source: &DirectorySource {
            root: &root,
            control: &control,
            notes: &notes,
            shard: None,
            paths: None,
        },
        locks: &Backend::flock(),
        inspector: &FileInspector::new(&control, &notes, probe),
        disposer: &Unlink::new(&control, &notes, probe),
        select: &All,
        exclude: &Exclude::default(),
        data_root: root.path(),
        notes: &notes,
        is_planned: false,
        now: Moment::from_unix(NOW, 0),
        limits: &limits,
        workers: &workers,
        lock_wait: std::time::Duration::ZERO,
    };
    let summary = pass.run(&zone, &Silent);
    let change = region.change();
    assert_eq!(summary.zones[0].tally.failed, 0);
    change.allocations + change.reallocations
}

fn export() -> Zone {
    let day = Ttl::from_secs(86_400);
    zones::export(&ExportTtls { project: day, task: day, job: day, events: day })
}

fn tmp() -> Zone {
    zones::tmp(Ttl::from_secs(14 * 86_400), LastUse::Tree)
}

#[test]
fn an_entry_costs_as_many_allocations_as_recorded_and_none_if_it_is_fresh() {
    let _turn = TURN.lock();
    let cost = |kind, zone: fn() -> Zone| per_entry(kind, |data| allocations(data, zone()));
    let (fresh, old) = (60, 30 * DAY);
    let kept = cost(Kind::Exports { age: fresh }, export);
    assert!(kept == 0.0, "{kept} allocations for an export that is kept");
    let tree_kept = cost(Kind::Trees { age: fresh }, tmp);
    assert!(tree_kept == 0.0, "{tree_kept} allocations for each entry of a tree that is kept");
    compare(
        "allocations",
        &[
            ("export_removed", cost(Kind::Exports { age: old }, export)),
            ("tree_removed", cost(Kind::Trees { age: old }, tmp)),
            ("instance_without_cache", cost(Kind::Instances, || zones::legacy(None))),
        ],
    );
}
