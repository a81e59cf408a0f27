//! Each law of the crate documentation has a test of its name.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

mod bounds;

use crate::world::{
    DAY, HOUR, MINUTE, NOW_SECS, Run, Stat, World, assert_counts, can_be_root, export_name, fifo,
    set_age, sweeper, zone,
};

/// A data root with files of all types, fresh and old. The same seed always gives the same files.
pub fn random_world(seed: u64) -> World {
    let world = World::new();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut pick = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let ages = [MINUTE, 23 * HOUR, DAY + 1, 13 * DAY, 15 * DAY, 400 * DAY];
    for number in 0..60 {
        let age = ages[usize::try_from(pick(6)).unwrap()];
        let content = vec![b'x'; usize::try_from(pick(3) * 5000).unwrap()];
        let name = match pick(5) {
            0 => format!("project-{number}-backup-instance1.5.zip"),
            1 => format!("events-{number}.csv"),
            2 => format!("unknown-{number}"),
            _ => export_name(number),
        };
        let path = world.file_of(Path::new("cache/export").join(name), age, &content);
        if pick(6) == 0 {
            // A second name of the same file, in another zone.
            std::fs::hard_link(&path, world.path(format!("tmp/linked-{number}"))).unwrap();
        }
    }
    for number in 0..30 {
        let age = ages[usize::try_from(pick(6)).unwrap()];
        let base = format!("tmp/entry-{number}");
        match pick(5) {
            0 => drop(world.file(&base, age)),
            1 => drop(world.link(&base, "/etc/hostname", age)),
            2 => fifo(&world.path(&base), age),
            _ => {
                for file in 0..pick(5) {
                    let content = vec![b'x'; usize::try_from(pick(2) * 9000).unwrap()];
                    let path = format!("{base}/a/b{}/f{file}", pick(3));
                    world.file_of(path, ages[usize::try_from(pick(6)).unwrap()], &content);
                }
                std::fs::create_dir_all(world.path(&base)).unwrap();
                world.age_dirs(&base, 400 * DAY);
                set_age(&world.path(&base), age);
            }
        }
    }
    world
}

#[test]
fn law_1_unknown_is_kept() {
    let world = World::new();
    let fixture = include_str!("../../fixtures/names/export.txt");
    let mut unknown = 0;
    for line in fixture.lines().filter(|line| line.ends_with("\tunrecognized")) {
        let name = line.split('\t').next().unwrap();
        if !name.is_empty() && !name.contains("\\x") {
            world.file(Path::new("cache/export").join(name), 900 * DAY);
            unknown += 1;
        }
    }
    for elsewhere in ["data/1/a", "assets/a", "cache/events/a.db", "keys/secret", "cache/000/a.val"]
    {
        world.file(elsewhere, 900 * DAY);
    }
    world.file(Path::new("cache/export").join(export_name(1)), 900 * DAY);
    world.age_dirs("", 900 * DAY);
    let before = world.snapshot();
    let report = world.run(&["run", "--zones", "export,tmp,instance-tmp", "--format", "json"]);
    assert_counts(
        &report.exits(0).json(),
        "export",
        &[("kept_by.unrecognized", unknown), ("removed", 1), ("seen", unknown + 1)],
    );
    world.run(&["legacy"]).exits(0);
    assert_eq!(world.snapshot().len(), before.len() - 1, "only the one known export was removed");
    assert!(unknown > 40);
}

/// Whether a name is that of a directory that a pass makes for itself: it is empty when it is removed.
fn is_private(dir: &str, name: &str) -> bool {
    name.starts_with(".sweeper-")
        || (matches!(name, "check" | "remove" | "began" | "tick") && dir.contains("/.sweeper-"))
}

/// The system calls of a run, in their order.
fn traced(world: &World, args: &[&str], calls: &str) -> Vec<String> {
    let log = world.root.parent().unwrap().join("strace.log");
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-s", "512", "-e", calls, "-o"]).arg(&log).arg("--");
    let inner = world.command(args);
    command.arg(inner.get_program()).args(inner.get_args());
    Run::of(command).exits(0);
    let text = String::from_utf8_lossy(&std::fs::read(log).unwrap()).into_owned();
    // Calls of other threads can split a line in two. With one job, only one thread matters.
    text.lines().map(|line| line.split_once(' ').unwrap().1.trim().to_owned()).collect()
}

#[test]
fn law_2_never_without_the_lock_and_never_without_looking_again_under_it() {
    let world = World::new();
    for number in 0..20 {
        world.file(Path::new("cache/export").join(export_name(number)), 2 * DAY);
        world.file(format!("tmp/tree-{number}/file"), 20 * DAY);
        world.file(format!("tmp/file-{number}"), 20 * DAY);
    }
    world.age_dirs("tmp", 20 * DAY);
    let calls =
        traced(&world, &["run", "--jobs", "1"], "trace=flock,statx,unlinkat,close,openat,openat2");
    let (mut checked, mut last_removal) = (0, 0);
    for (at, call) in calls.iter().enumerate() {
        let Some(args) = call.strip_prefix("unlinkat(") else { continue };
        let (dir, name) = (args.split(['<', '>']).nth(1).unwrap(), args.split('"').nth(1).unwrap());
        if is_private(dir, name) {
            continue;
        }
        // An entry or a member of a tree: it was looked at after the removal before this one.
        let looks = |call: &&String| {
            call.starts_with("statx(") && call.contains(&format!("<{dir}>, \"{name}\""))
        };
        let is_seen = calls[last_removal..at].iter().any(|call| looks(&call));
        assert!(is_seen, "{dir}/{name} was not looked at immediately before its removal");
        last_removal = at;
        // An entry without a lock of the application is removed from the private directory that it was renamed
        // into.
        let zone_entry =
            args.contains("/cache/export>") || dir.ends_with("/remove") || dir.ends_with("/check");
        if !zone_entry {
            continue;
        }
        let before = &calls[..at];
        let locked = before
            .iter()
            .rposition(|call| {
                call.starts_with("flock(")
                    && call.contains(&format!("/{name}>"))
                    && call.contains("LOCK_EX|LOCK_NB) = 0")
            })
            .unwrap_or_else(|| panic!("{name} was removed without its lock"));
        let seen_again = before[locked..]
            .iter()
            .any(|call| call.starts_with("statx(") && call.contains(&format!("\"{name}\"")));
        assert!(seen_again, "{name} was not looked at again under its lock");
        let handle = calls[locked].split(['(', '<']).nth(1).unwrap();
        let is_released = calls[locked..at]
            .iter()
            .any(|call| call.starts_with(&format!("close({handle}<")) && call.contains(name));
        assert!(!is_released, "the lock of {name} was released before its removal");
        checked += 1;
    }
    assert_eq!(checked, 60, "{calls:#?}");
}

#[test]
fn law_3_conservation() {
    for seed in 1..=8 {
        for extra in [&[][..], &["--max-removals", "5"], &["--dry-run"], &["--jobs", "1"]] {
            let world = random_world(seed);
            let entries = [
                std::fs::read_dir(world.path("cache/export")),
                std::fs::read_dir(world.path("tmp")),
            ];
            let there: usize = entries.into_iter().map(|dir| dir.unwrap().count()).sum();
            let args = [&["run", "--format", "jsonl", "-v"], extra].concat();
            let run = world.run(&args);
            let report = run.json();
            let mut lines = 0;
            for zone in report["zones"].as_array().unwrap().iter().chain([&report["totals"]]) {
                let count = |key: &str| zone[key].as_u64().unwrap();
                assert_eq!(
                    count("seen"),
                    count("removed") + count("kept") + count("skipped") + count("failed"),
                    "{zone:#}"
                );
                for (sum, parts) in [("kept", "kept_by"), ("skipped", "skipped_by")] {
                    if let Some(parts) = zone[parts].as_object() {
                        let parts: u64 = parts.values().map(|part| part.as_u64().unwrap()).sum();
                        assert_eq!(parts, count(sum), "{zone:#}");
                    }
                }
                lines = count("seen");
            }
            assert_eq!(run.outcomes().len() as u64, lines, "one line for each entry");
            if report["stopped"].is_null() {
                assert_eq!(lines, there as u64, "every entry was seen");
            } else {
                assert_eq!(report["stopped"], "max_removals", "a guard: nothing was removed");
                assert_eq!(report["totals"]["removed"], 0);
                run.exits(3);
            }
        }
    }
}

#[test]
fn law_4_a_dry_run_is_the_same_line() {
    for seed in 10..18 {
        let world = random_world(seed);
        let before = world.snapshot();
        let dry_run = world.run(&["run", "--dry-run", "--format", "jsonl", "-v"]);
        assert_eq!(world.snapshot(), before, "the dry run changed something");
        let pass = world.run(&["run", "--format", "jsonl", "-v"]);
        assert_eq!(dry_run.json()["totals"], pass.json()["totals"], "seed {seed}");
        let would_be = |(path, (outcome, reason)): (_, (String, _))| {
            assert_ne!(outcome, "removed", "{path:?}: nothing is removed in a dry run");
            let outcome = if outcome == "would_remove" { "removed".to_owned() } else { outcome };
            (path, (outcome, reason))
        };
        let foreseen: BTreeMap<PathBuf, _> = dry_run.outcomes().into_iter().map(would_be).collect();
        assert_eq!(foreseen, pass.outcomes(), "seed {seed}");
        assert_eq!(dry_run.json()["dry_run"], true);
        assert_eq!(pass.json()["dry_run"], false);
    }
}

#[test]
fn law_4_a_dry_run_makes_no_call_that_changes_anything() {
    let world = random_world(99);
    world.file("projects/1/export_cache/x", 900 * DAY);
    let watched = "trace=unlink,unlinkat,rmdir,rename,renameat,renameat2,truncate,ftruncate,utimensat,futimesat,fchmod,fchmodat,fchown,fchownat,mkdirat,linkat,symlinkat,fallocate,pwrite64";
    for command in ["run", "legacy"] {
        let calls = traced(&world, &[command, "--dry-run"], watched);
        // `???`: a thread ended with the process before strace could see which call it began.
        let is_call = |call: &&String| call.contains('(') && !call.starts_with("???(");
        let made: Vec<&String> = calls.iter().filter(is_call).collect();
        assert!(made.is_empty(), "{made:#?}");
    }
    // The same trace shows the removals of a real pass.
    let calls = traced(&world, &["run"], watched);
    assert!(
        calls.iter().any(|call| call.starts_with("unlinkat(")),
        "the trace does not show removals"
    );
}

#[test]
fn law_5_now_is_a_value_read_once() {
    let world = World::new();
    let at_now = world.file(Path::new("cache/export").join(export_name(1)), 0);
    world.file(Path::new("cache/export").join(export_name(2)), -HOUR);
    world.file(Path::new("cache/export").join(export_name(3)), 1);
    world.file("tmp/at-now", 0);
    world.file("tmp/future", -900 * DAY);
    let report = world.run(&["run", "--ttl", "0", "--retention", "0", "--format", "json"]);
    assert_counts(&report.exits(0).json(), "export", &[("removed", 1), ("kept_by.fresh", 2)]);
    assert_counts(&report.json(), "tmp", &[("removed", 0), ("kept_by.fresh", 2)]);
    assert_eq!(report.json()["now"], crate::world::NOW);
    // Without --now it is the present, and a file that was written just now is fresh under any rule.
    let just_now = filetime::FileTime::now();
    filetime::set_file_times(&at_now, just_now, just_now).unwrap();
    let mut command =
        sweeper(&["run", "--ttl", "1s", "--zones", "export", "--format", "json", "-v"]);
    command.arg("--data").arg(&world.root).env("SWEEPER_EXCLUDE", "task-2-*");
    Run::of(command).exits(0);
    assert!(at_now.exists());
}

/// With relatime, listing a directory without care changes its access time, so it looks used.
#[test]
fn law_6_looking_is_not_use() {
    let world = World::new();
    for number in 0..50 {
        world.file(format!("tmp/tree-{number}/sub/file"), 20 * DAY);
        world.file(format!("tmp/fresh-inside-{number}/sub/file"), HOUR);
    }
    world.file("projects/1/tmp/tree/file", 20 * DAY);
    world.file("tasks/1/export_cache/file", 20 * DAY);
    world.age_dirs("", 20 * DAY);
    // Where reading a directory does not change its access time, this test would prove nothing.
    let control = world.dir("elsewhere", 20 * DAY);
    assert_eq!(std::fs::read_dir(&control).unwrap().count(), 0);
    assert_ne!(control.metadata().unwrap().atime(), NOW_SECS - 20 * DAY, "no relatime here");

    let before = world.snapshot();
    for scan in [
        &["run", "--dry-run", "--zones", "export,tmp,instance-tmp"][..],
        &["run", "--dry-run", "--tmp-age", "entry"],
        &["legacy", "--dry-run"],
    ] {
        world.run(scan).exits(0);
    }
    let mut why = sweeper(&["why", "--now", crate::world::NOW, "--data"]);
    why.arg(&world.root).arg(world.path("tmp/tree-1")).arg(world.path("tasks/1/export_cache"));
    Run::of(why).exits(0);
    assert_eq!(world.snapshot(), before);

    // A real pass does not change the times of what it skips.
    let skipped = Stat::of(&world.path("tmp/fresh-inside-7/sub"));
    let half = ["--exclude", "tree-[34]?", "--exclude", "tree-2[5-9]"];
    let run = world.run(&[&["run", "--format", "json"][..], &half].concat());
    assert_eq!(run.json()["totals"]["removed"], 25);
    assert_eq!(Stat::of(&world.path("tmp/fresh-inside-7/sub")), skipped);

    // After all of that, CVAT's own rule still finds every one of them.
    let report = world.run(&["run", "--tmp-age", "entry", "--retention", "3d", "--format", "json"]);
    assert_counts(&report.exits(0).json(), "tmp", &[("removed", 75), ("seen", 75)]);
}

#[test]
fn law_6_holds_for_another_user_or_the_report_says_that_it_does_not() {
    if !can_be_root("law 6 as uid 1000") {
        return;
    }
    let world = World::new();
    world.file("tmp/ours/sub/file", 20 * DAY);
    world.age_dirs("tmp", 20 * DAY);
    world.chown(1000);
    world.age_dirs("tmp", 20 * DAY);
    let before = world.snapshot();
    let report = world.run_as(1000, &["run", "--dry-run", "--format", "json"]);
    assert_counts(&report.exits(0).json(), "tmp", &[("removed", 1)]);
    assert_eq!(zone(&report.json(), "tmp")["notes"], Value::Array(vec![]));
    assert_eq!(world.snapshot(), before);
    // O_NOATIME is refused on a directory of another user. A note says so.
    std::os::unix::fs::chown(world.path("tmp/ours/sub"), Some(0), Some(0)).unwrap();
    let report = world.run_as(1000, &["run", "--dry-run", "--format", "json"]);
    let notes = zone(&report.json(), "tmp")["notes"].to_string();
    assert!(notes.contains("moved their atimes"), "{notes}");
}
