//! What a relief reports, and what holds for its removals as for all others: counts, guards, the audit log,
//! metrics, settings.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use super::disk::Disk;
use crate::company::count;
use crate::start::Start;
use crate::world::{DAY, HOUR, MINUTE, Run, assert_counts, can_be_root, export_name, is_present};

const MIB: u64 = 1 << 20;

/// 20 exports of 1 MiB that have not expired, one that has, and one that is too young.
fn disk() -> Disk {
    let disk = Disk::new("mkfs.ext4", &["-q"], 128);
    for number in 0..20 {
        disk.file(path(number), 2 * HOUR + i64::from(number) * MINUTE, MIB);
    }
    disk.file(path(100), 2 * DAY, MIB);
    disk.file(path(101), HOUR, MIB);
    disk
}

fn path(number: u32) -> PathBuf {
    Path::new("cache/export").join(export_name(number))
}

/// So many bytes more are to be available than are once the expired export is gone.
fn free(disk: &Disk, bytes: u64) -> String {
    let (used, all) = disk.bytes();
    format!("{}B", all - used + MIB + bytes)
}

fn exports(disk: &Disk) -> usize {
    count(disk.world.path("cache/export"))
}

#[test]
fn each_entry_has_one_outcome_and_the_report_is_what_the_schema_says() {
    if !can_be_root("a loop-mounted ext4") {
        return;
    }
    let disk = disk();
    let held = File::open(disk.world.path(path(19))).unwrap();
    flock(&held, FlockOperation::LockExclusive).unwrap();
    let free = free(&disk, 5 * MIB);
    let args = ["run", "--format", "jsonl", "-v", "--lock-wait", "0", "--keep-free", &free];
    let run = disk.world.run(&args);
    let report = run.exits(0).json();
    let counts = [("seen", 22), ("removed", 6), ("kept_by.fresh", 15), ("skipped_by.locked", 1)];
    assert_counts(&report, "export", &counts);
    assert_eq!(report["totals"]["freed_bytes"], 6 * MIB);
    assert_eq!(
        (&report["pressure"][0]["removed"], &report["pressure"][0]["state"]),
        (&5.into(), &"relieved".into())
    );
    let of = |number| run.outcomes()[&disk.world.path(path(number))].clone();
    let removed = |reason: &str| ("removed".to_owned(), reason.to_owned());
    assert_eq!((of(100), of(18)), (removed("expired"), removed("pressure")));
    assert_eq!(of(13), ("kept".to_owned(), "fresh".to_owned()));
    assert_eq!(of(19).1, "locked");
    let text = disk.world.run(&["run", "--keep-free", &disk.nearly_all(), "--lock-wait", "0"]);
    let said = &text.exits(1).stdout;
    for words in ["not relieved to ", "1 used within 1h", "1 locked", "sweeper usage"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let dry = disk.world.run(&[
        "run",
        "--dry-run",
        "--keep-free",
        &disk.nearly_all(),
        "--format",
        "json",
    ]);
    validate(&[&report, &dry.json()]);
}

/// Checks reports with the published schema, by a checker that is not ours.
fn validate(reports: &[&Value]) {
    let python = std::env::var_os("SWEEPER_TESTS_PYTHON").map(PathBuf::from);
    let checker = python.map(|python| python.with_file_name("check-jsonschema"));
    if !is_present(checker.is_some(), "check-jsonschema") {
        return;
    }
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema/report-1.schema.json");
    for report in reports {
        let object = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(object.path(), report.to_string()).unwrap();
        let mut command = Command::new(checker.as_ref().unwrap());
        command.arg("--schemafile").arg(&schema).arg(object.path());
        let output = command.finish().unwrap();
        assert!(output.status.success(), "{report:#}\n{}", String::from_utf8_lossy(&output.stdout));
    }
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(&schema).unwrap()).unwrap();
    let known = schema["$defs"]["relief"]["properties"].as_object().unwrap();
    for key in reports[0]["pressure"][0].as_object().unwrap().keys() {
        assert!(known.contains_key(key), "{key} is not in the schema");
    }
}

#[test]
fn guards_count_what_would_go_early() {
    if !can_be_root("a loop-mounted ext4") {
        return;
    }
    let disk = disk();
    let free = free(&disk, 5 * MIB);
    for (guard, words) in [
        (["--max-removals", "5"], "remove 6 entries in total, 1 more than --max-removals 5"),
        (["--max-bytes", "5MiB"], "free 6.0 MiB in total"),
        (["--max-share", "27%"], "remove 6 of 22 entries of this zone, 1 more"),
    ] {
        let args = [&["run", "--format", "json", "--keep-free", &free], &guard[..]].concat();
        let report = disk.world.run(&args).exits(3).json();
        assert!(report["zones"][0]["notes"].to_string().contains(words), "{words}: {report:#}");
        assert_eq!((exports(&disk), &report["pressure"][0]["removed"]), (22, &0.into()));
        let dry = disk.world.run(&[&args[..], &["--dry-run"]].concat()).exits(3).json();
        assert!(dry["zones"][0]["notes"].to_string().contains(words), "{words}: {dry:#}");
    }
    let args = ["run", "--format", "json", "--keep-free", &free, "--max-removals", "6"];
    let report = disk.world.run(&args).exits(0).json();
    assert_eq!((exports(&disk), &report["totals"]["removed"]), (16, &6.into()), "{report:#}");
}

#[test]
fn what_goes_early_is_written_down_first_with_the_reason() {
    if !can_be_root("a loop-mounted ext4") {
        return;
    }
    let disk = disk();
    let free = free(&disk, 5 * MIB);
    let outside = tempfile::tempdir().unwrap();
    let log = outside.path().join("audit");
    let args = ["run", "--keep-free", &free, "--audit-log", log.to_str().unwrap()];
    disk.world.run(&args).exits(0);
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let early = lines.iter().filter(|line| line["rule"]["pressure_min_age_s"] == 3600).count();
    assert_eq!((lines.len(), early), (6, 5), "{text}");
    assert!(lines.iter().all(|line| line["rule"]["ttl_s"] == DAY), "{text}");
}

#[test]
fn nothing_goes_early_that_cannot_be_written_down() {
    if !can_be_root("a loop-mounted ext4 without any space") {
        return;
    }
    let disk = Disk::new("mkfs.ext4", &["-q", "-m", "0"], 64);
    for number in 0..10 {
        disk.file(path(number), 2 * HOUR, MIB);
    }
    let (log, full) = (disk.mount().join("audit"), disk.mount().join("full"));
    let mut full = File::create(full).unwrap();
    while std::io::Write::write(&mut full, &[b'x'; 4096]).is_ok() {}
    let args =
        ["run", "--format", "json", "--pressure", "85%", "--audit-log", log.to_str().unwrap()];
    let report = disk.world.run(&args).exits(3).json();
    assert_eq!(report["stopped"], "audit_log", "{report:#}");
    assert_eq!(report["pressure"][0]["state"], "stopped", "{report:#}");
    assert_eq!(exports(&disk), 10);
}

#[test]
fn a_metric_says_that_a_disk_is_still_too_full() {
    if !can_be_root("a loop-mounted ext4") {
        return;
    }
    let disk = disk();
    let outside = tempfile::tempdir().unwrap();
    let file = outside.path().join("sweeper.prom");
    let run = |free: &str, code| {
        let args = ["run", "--keep-free", free, "--metrics-file", file.to_str().unwrap()];
        disk.world.run(&args).exits(code);
        let text = std::fs::read_to_string(&file).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix("sweeper_pressure_unrelieved "));
        assert!(text.contains("sweeper_volume_bytes{state=\"used\"}"), "{text}");
        value.unwrap().to_owned()
    };
    assert_eq!(run(&free(&disk, 2 * MIB), 0), "0");
    assert_eq!(run("1TiB", 1), "1");
    // A command that relieves nothing leaves it as it is.
    disk.world.run(&["legacy", "--metrics-file", file.to_str().unwrap()]).exits(0);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("sweeper_pressure_unrelieved 1\n"), "{text}");
}

#[test]
fn pressure_is_set_by_a_flag_a_variable_or_the_file_and_only_where_it_applies() {
    if !can_be_root("a loop-mounted ext4") {
        return;
    }
    let disk = disk();
    let settings = tempfile::NamedTempFile::new().unwrap();
    let free = disk.nearly_all();
    let text = format!("keep_free = \"{free}\"\nmin_age = \"2h 15m\"\n");
    std::fs::write(settings.path(), text).unwrap();
    let with = |args: &[&str], variable: Option<(&str, &str)>| {
        let mut command = disk.world.command(args);
        command.envs(variable);
        Run::of(command)
    };
    let config = ["--config", settings.path().to_str().unwrap()];
    // Other commands know the settings of the file and do nothing of the kind.
    let outside = tempfile::tempdir().unwrap();
    let plan = outside.path().join("plan");
    for command in [&["plan", "-o", plan.to_str().unwrap()][..], &["legacy"], &["usage"]] {
        with(&[command, &config].concat(), None).exits(0);
    }
    assert_eq!(exports(&disk), 22);
    with(&[&["run"], &config[..]].concat(), None).exits(1);
    assert_eq!(exports(&disk), 22 - 1 - 4, "19 to 16 are older than 2 h 15 min");
    let variable = ("SWEEPER_MIN_AGE", "130m");
    with(&["run", "--keep-free", &disk.nearly_all()], Some(variable)).exits(1);
    assert_eq!(exports(&disk), 22 - 1 - 9);
    with(&["run"], Some(("SWEEPER_PRESSURE", "0.1%"))).exits(1);
    assert_eq!(exports(&disk), 1, "only the young one is left");
    for args in [
        &["run", "--relieve", "80%"][..],
        &["run", "--pressure", "85"],
        &["run", "--pressure", "85%", "--from0", "-"],
        &["serve", "--pressure", "85%", "--relieve", "86%"],
        &["plan", "-o", "/dev/null", "--pressure", "85%"],
    ] {
        with(args, None).exits(2);
    }
}

#[test]
fn a_dry_run_says_how_full_the_disk_is_now_and_how_full_it_would_be() {
    if !can_be_root("a loop-mounted file system") {
        return;
    }
    let disk = Disk::new("mkfs.ext4", &["-q"], 64);
    // It has expired, and is enough.
    disk.file(path(1), 2 * DAY, 40 << 20);
    let run = disk.world.run(&["run", "--dry-run", "--pressure", "50%"]);
    let text = &run.exits(0).stdout;
    let line = text.lines().find(|line| line.contains("not needed")).unwrap();
    let shares: Vec<f64> =
        line.split('%').filter_map(|part| part.rsplit([' ', '(']).next()?.parse().ok()).collect();
    assert!(
        line.contains("in use now, and ") && line.ends_with("in use after this pass"),
        "{text}"
    );
    assert!(shares[0] > 50.0 && shares[2] < 50.0, "{text}");
}

#[test]
fn only_the_disk_that_is_too_full_is_relieved() {
    if !can_be_root("two loop-mounted file systems") {
        return;
    }
    // The exports are on a disk of their own; another zone is on the disk of the data root.
    let (data, cache) = (Disk::new("mkfs.ext4", &["-q"], 64), disk());
    let at = data.world.path("cache/export");
    let from = cache.world.path("cache/export");
    crate::world::tool("mount", &["--bind".as_ref(), from.as_os_str(), at.as_os_str()]);
    let (used, all) = cache.bytes();
    let percent = format!("{}%", used * 100 / all - 4);
    assert!(used * 100 / all > 10 && data.bytes().0 * 100 / data.bytes().1 < 10);
    let run =
        data.world.run(&["run", "--format", "json", "--pressure", &percent, "--relieve", &percent]);
    crate::world::tool("umount", &[at.as_os_str()]);
    let report = run.exits(0).json();
    let states: Vec<&str> = report["pressure"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["not_needed", "relieved"], "{report:#}");
    let (used, all) = cache.bytes();
    assert!(used * 100 <= all * percent.trim_end_matches('%').parse::<u64>().unwrap());
}

#[test]
fn a_zone_that_is_left_alone_is_named_as_in_the_way() {
    if !can_be_root("a loop-mounted ext4") {
        return;
    }
    let disk = disk();
    let zone = File::open(disk.world.path("cache/export")).unwrap();
    flock(&zone, FlockOperation::LockExclusive).unwrap();
    let run = disk.world.run(&["run", "--format", "json", "--keep-free", &disk.nearly_all()]);
    let report = run.exits(4).json();
    let why = &report["pressure"][0]["in_the_way"]["zones"]["export"];
    assert!(
        why.as_str().is_some_and(|why| why.contains("holds the lock on the directory")),
        "{report:#}"
    );
    assert_eq!(exports(&disk), 22);
}
