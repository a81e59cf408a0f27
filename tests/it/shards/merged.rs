//! `sweeper merge`: the sum of the reports is the report of one pass.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use super::{ZONES, counts, random_root, unlink_second_names};
use crate::paused::{Moment, Paused};
use crate::world::{DAY, Run, World, export_name, sweeper};

/// The reports of the shards of a pass, in files.
struct Reports(tempfile::TempDir);

impl Reports {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn keep(&self, name: &str, report: &str) -> &Self {
        std::fs::write(self.0.path().join(name), report).unwrap();
        self
    }

    fn merge(&self, names: &[&str], more: &[&str]) -> Run {
        let mut command = sweeper(&[&["merge"], more].concat());
        command.args(names.iter().map(|name| self.0.path().join(name)));
        Run::of(command)
    }
}

/// A report without the time that the pass took, and with its failures in a fixed order.
fn comparable(mut report: Value) -> Value {
    report.as_object_mut().unwrap().remove("elapsed_s");
    let failures = report["failures"].as_array_mut().unwrap();
    failures.sort_by_key(ToString::to_string);
    report
}

#[test]
fn the_sum_of_the_reports_is_the_report_of_one() {
    let broken = |seed| {
        let world = random_root(seed);
        unlink_second_names(&world);
        world.file("jobs/900/tmp/file", 30 * DAY);
        let name = std::ffi::OsStr::from_bytes(b"jobs/900/tmp/not \xff\x1b text");
        world.file(name, 30 * DAY);
        world
    };
    for (seed, count) in [(1, 3), (2, 8), (3, 1)] {
        let single = broken(seed);
        let reports = Reports::new();
        let zones = [&["run", "--format", "json"], &ZONES[..]].concat();
        let dry = single.run(&[&zones[..], &["--dry-run"]].concat());
        let mut names = Vec::new();
        for index in 0..count {
            let (shard, name) = (format!("{index}/{count}"), format!("dry-{index}"));
            let run = single.run(&[&zones[..], &["--dry-run", "--shard", &shard]].concat());
            reports.keep(&name, &run.stdout);
            names.push(name);
        }
        names.reverse();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let merged = reports.merge(&names, &["--format", "json"]);
        assert_eq!(comparable(merged.exits(0).json()), comparable(dry.json()));
        let text = reports.merge(&names, &[]);
        let table = |text: &str| text.split("; done in ").next().unwrap().to_owned();
        let plain = single.run(&[&["run", "--dry-run"], &ZONES[..]].concat());
        assert_eq!(table(&text.stdout), table(&plain.stdout));
    }
}

#[test]
fn all_reports_of_a_stream_are_read() {
    let world = World::new();
    for number in 0..20 {
        world.file(Path::new("cache/export").join(export_name(number)), 2 * DAY);
    }
    let reports = Reports::new();
    let whole = world.run(&["run", "--dry-run", "--format", "json"]).exits(0).json();
    let of_shard = |format: &str, index: u32| {
        let shard = format!("{index}/3");
        world
            .run(&["run", "--dry-run", "--format", format, "--shard", &shard])
            .exits(0)
            .stdout
            .clone()
    };
    let lines: String = (0..3).map(|index| of_shard("jsonl", index)).collect();
    let compact: String = (0..3).map(|index| of_shard("json", index)).collect();
    // On a terminal, a report takes several lines.
    let pretty = compact.lines().map(|line| {
        let report: Value = serde_json::from_str(line).unwrap();
        serde_json::to_string_pretty(&report).unwrap() + "\n"
    });
    let pretty: String = pretty.collect();
    for (name, text) in [("lines", &lines), ("compact", &compact), ("pretty", &pretty)] {
        reports.keep(name, text);
        let mut command = sweeper(&["merge", "-", "--format", "json"]);
        command.stdin(std::fs::File::open(reports.0.path().join(name)).unwrap());
        let merged = Run::of(command).exits(0).json();
        assert_eq!(comparable(merged), comparable(whole.clone()), "{name}");
        let merged = reports.merge(&[name], &["--format", "json"]).exits(0).json();
        assert_eq!(merged["totals"], whole["totals"], "{name}");
    }
    // One that was cut off is not left out in silence.
    reports.keep("cut", &compact[..compact.len() - 20]);
    assert!(reports.merge(&["cut"], &[]).exits(2).stderr.contains("not a report"));
    reports.keep("twice", &format!("{compact}{}", of_shard("json", 1)));
    let twice = reports.merge(&["twice"], &[]);
    assert!(
        twice.exits(2).stderr.contains("another complete report of shard 1/3"),
        "{}",
        twice.stderr
    );
}

#[test]
fn failures_are_added_too_and_the_highest_exit_code_applies() {
    let world = World::new();
    for number in 0..20 {
        world.file(Path::new("cache/export").join(export_name(number)), 2 * DAY);
    }
    let mut list = String::new();
    for number in 0..150 {
        use std::fmt::Write;
        write!(list, "nowhere/{number}\0").unwrap();
    }
    let path = world.path("../list");
    std::fs::write(&path, list).unwrap();
    let list = path.to_str().unwrap();
    let args = ["run", "--format", "jsonl", "--from0", list];
    let single = world.run(&args);
    let reports = Reports::new();
    for index in 0..3 {
        let shard = format!("{index}/3");
        reports.keep(
            &index.to_string(),
            &world.run(&[&args[..], &["--shard", &shard]].concat()).stdout,
        );
    }
    let merged = reports.merge(&["0", "1", "2"], &["--format", "json"]);
    let (merged, single) = (merged.exits(1).json(), single.exits(1).json());
    assert_eq!(counts(&merged), counts(&single));
    assert_eq!(merged["totals"]["failed"], 150);
    assert_eq!(merged["failures"].as_array().unwrap().len(), 100);
}

#[test]
fn a_shard_that_was_stopped_and_run_again_counts_each_entry_once() {
    let world = World::new();
    for number in 0..60 {
        world.file(Path::new("cache/export").join(export_name(number)), 2 * DAY);
        world.file(format!("cache/export/unknown-{number}"), 2 * DAY);
    }
    let args = ["run", "--format", "json", "--shard"];
    let reports = Reports::new();
    // A signal arrives while a removal is made: that one is finished. The rest would take half a minute: a thread
    // of its own receives the signal, at its own time.
    let moment = Moment::of("unlinkat", 1);
    let slowly = ["--shard", "0/2", "--max-rate", "1/s"];
    let paused = Paused::at(&world, &slowly, 4096, &moment);
    let paused = paused.unwrap_or_else(|run| panic!("it ended: {}{}", run.stdout, run.stderr));
    paused.send(Signal::TERM);
    let stopped = paused.finish();
    assert_ne!(stopped.exits(3).json()["totals"]["removed"], 0);
    reports.keep("stopped", &stopped.stdout);
    reports.keep("other", &world.run(&[&args[..], &["1/2"]].concat()).exits(0).stdout);
    let early = reports.merge(&["stopped", "other"], &["--format", "json"]);
    assert_eq!(early.exits(3).json()["stopped"], "signal");
    reports.keep("again", &world.run(&[&args[..], &["0/2"]].concat()).exits(0).stdout);
    let merged = reports.merge(&["stopped", "other", "again"], &["--format", "json"]);
    let merged = merged.exits(0).json();
    assert_eq!(merged["stopped"], Value::Null);
    assert_eq!(merged["totals"]["seen"], 120);
    assert_eq!(merged["totals"]["removed"], 60);
    assert_eq!(merged["totals"]["kept"], 60);
    let some = reports.merge(&["again"], &[]);
    assert!(
        some.exits(3).stdout.contains("no report of shard 1 of 2: the counts are incomplete"),
        "{}",
        some.stdout
    );
}

#[test]
fn reports_that_are_not_parts_of_one_pass_are_not_added() {
    let world = World::new();
    let other = World::new();
    world.file("tasks/1/export_cache/old.zip", 2 * DAY);
    let run =
        |world: &World, args: &[&str]| world.run(&[args, &["--format", "json"]].concat()).stdout;
    let reports = Reports::new();
    let report = run(&world, &["run", "--shard", "0/2"]);
    reports
        .keep("0", &report)
        .keep("same", &report)
        .keep("root", &run(&other, &["run", "--shard", "1/2"]))
        .keep("dry", &run(&world, &["run", "--dry-run", "--shard", "1/2"]))
        .keep("legacy", &run(&world, &["legacy", "--shard", "1/2"]))
        .keep("zones", &run(&world, &["run", "--zones", "tmp", "--shard", "1/2"]))
        .keep("whole", &run(&world, &["run"]))
        .keep("third", &run(&world, &["run", "--shard", "1/3"]))
        .keep("schema", &report.replace("\"schema\":1", "\"schema\":2"))
        .keep("sum", &report.replacen("\"seen\":0", "\"seen\":7", 1))
        .keep("text", &world.run(&["run"]).stdout)
        .keep("empty", "");
    for (second, why) in [
        ("same", "there is another complete report of shard 0/2"),
        ("root", "data_root: "),
        ("dry", "dry_run: "),
        ("legacy", "command: "),
        ("zones", "zones: "),
        ("whole", "number of shards: "),
        ("third", "number of shards: "),
        ("schema", "schema 2"),
        ("sum", "do not add up"),
        ("text", "not a report"),
        ("empty", "not a report"),
        ("absent", "No such file"),
    ] {
        let merged = reports.merge(&["0", second], &[]);
        assert!(
            merged.exits(2).stderr.contains("cannot merge these reports: "),
            "{}",
            merged.stderr
        );
        assert!(merged.stderr.contains(why), "{second}: {}", merged.stderr);
        assert!(merged.stdout.is_empty());
    }
}
