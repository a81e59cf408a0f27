//! Each law of the house plan has a test of its name.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::world::{
    DAY, HOUR, MINUTE, NOW_SECS, Run, Stat, World, assert_counts, can_be_root, export_name, fifo,
    set_age, set_times, sweeper, zone,
};

/// A volume of all kinds of things, fresh and old, from a small generator: the same for a seed.
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
            // A second name of the same file, in the other zone.
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
    assert_eq!(world.snapshot().len(), before.len() - 1, "only the one known export is gone");
    assert!(unknown > 40);
}

/// The system calls of a run, in the order they were made.
fn traced(world: &World, args: &[&str], calls: &str) -> Vec<String> {
    let log = world.root.parent().unwrap().join("strace.log");
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-s", "512", "-e", calls, "-o"]).arg(&log).arg("--");
    let inner = world.command(args);
    command.arg(inner.get_program()).args(inner.get_args());
    Run::of(command).exits(0);
    let text = String::from_utf8_lossy(&std::fs::read(log).unwrap()).into_owned();
    // Calls of other threads can split a line in two; with one job there is one that matters.
    text.lines().map(|line| line.split_once(' ').unwrap().1.trim().to_owned()).collect()
}

#[test]
fn law_2_never_without_the_lock_and_never_without_looking_again_under_it() {
    let world = World::new();
    for number in 0..20 {
        world.file(Path::new("cache/export").join(export_name(number)), 2 * DAY);
        world.file(format!("tmp/tree-{number}/file"), 20 * DAY);
    }
    world.age_dirs("tmp", 20 * DAY);
    let calls =
        traced(&world, &["run", "--jobs", "1"], "trace=flock,statx,unlinkat,close,openat,openat2");
    let mut checked = 0;
    for (at, call) in calls.iter().enumerate() {
        let Some(args) = call.strip_prefix("unlinkat(") else { continue };
        let name = args.split('"').nth(1).unwrap();
        let zone_entry = args.contains("/cache/export>") || args.contains("/tmp>");
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
        let given_back = calls[locked..at]
            .iter()
            .any(|call| call.starts_with(&format!("close({handle}<")) && call.contains(name));
        assert!(!given_back, "the lock of {name} did not outlive the removal");
        checked += 1;
    }
    assert_eq!(checked, 40, "{calls:#?}");
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
                    count("removed") + count("kept") + count("spared") + count("failed"),
                    "{zone:#}"
                );
                for (sum, parts) in [("kept", "kept_by"), ("spared", "spared_by")] {
                    if let Some(parts) = zone[parts].as_object() {
                        let parts: u64 = parts.values().map(|part| part.as_u64().unwrap()).sum();
                        assert_eq!(parts, count(sum), "{zone:#}");
                    }
                }
                lines = count("seen");
            }
            assert_eq!(run.outcomes().len() as u64, lines, "one line for each");
            if report["stopped"].is_null() {
                assert_eq!(lines, there as u64, "every entry was seen");
            } else {
                assert_eq!(report["totals"]["removed"], 5);
                run.exits(3);
            }
        }
    }
}

#[test]
fn law_4_a_rehearsal_is_the_same_line() {
    for seed in 10..18 {
        let world = random_world(seed);
        let before = world.snapshot();
        let rehearsal = world.run(&["run", "--dry-run", "--format", "jsonl", "-v"]);
        assert_eq!(world.snapshot(), before, "the rehearsal changed something");
        let pass = world.run(&["run", "--format", "jsonl", "-v"]);
        assert_eq!(rehearsal.json()["totals"], pass.json()["totals"], "seed {seed}");
        assert_eq!(rehearsal.outcomes(), pass.outcomes(), "seed {seed}");
        assert_eq!(rehearsal.json()["rehearsal"], true);
        assert_eq!(pass.json()["rehearsal"], false);
    }
}

#[test]
fn law_4_a_rehearsal_makes_no_call_that_removes() {
    let world = random_world(99);
    world.file("projects/1/export_cache/x", 900 * DAY);
    let watched = "trace=unlink,unlinkat,rmdir,rename,renameat,renameat2,truncate,ftruncate,utimensat,futimesat,fchmod,fchmodat,fchown,fchownat,mkdirat,linkat,symlinkat,fallocate,pwrite64";
    for command in ["run", "legacy"] {
        let calls = traced(&world, &[command, "--dry-run"], watched);
        let made: Vec<&String> = calls.iter().filter(|call| call.contains('(')).collect();
        assert!(made.is_empty(), "{made:#?}");
    }
    // The same watch sees the removals of a real pass.
    let calls = traced(&world, &["run"], watched);
    assert!(calls.iter().any(|call| call.starts_with("unlinkat(")), "the watch is blind");
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
    // Without --now it is the present, and a file of just now is fresh under any rule.
    let just_now = filetime::FileTime::now();
    filetime::set_file_times(&at_now, just_now, just_now).unwrap();
    let mut command =
        sweeper(&["run", "--ttl", "1s", "--zones", "export", "--format", "json", "-v"]);
    command.arg("--data").arg(&world.root).env("SWEEPER_EXCLUDE", "task-2-*");
    Run::of(command).exits(0);
    assert!(at_now.exists());
}

/// The access-time trap: under relatime a plain listing of a directory makes it look used.
#[test]
fn law_6_our_look_is_not_use() {
    let world = World::new();
    for number in 0..50 {
        world.file(format!("tmp/tree-{number}/sub/file"), 20 * DAY);
        world.file(format!("tmp/fresh-inside-{number}/sub/file"), HOUR);
    }
    world.file("projects/1/tmp/tree/file", 20 * DAY);
    world.file("tasks/1/export_cache/file", 20 * DAY);
    world.age_dirs("", 20 * DAY);
    // Where reading a directory leaves no trace, this test would prove nothing.
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

    // A real pass leaves the times of what it spares.
    let spared = Stat::of(&world.path("tmp/fresh-inside-7/sub"));
    let run = world.run(&["run", "--format", "json", "--max-removals", "25"]);
    assert_eq!(run.json()["totals"]["removed"], 25);
    assert_eq!(Stat::of(&world.path("tmp/fresh-inside-7/sub")), spared);

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
    // A directory of root's: O_NOATIME is refused, and that is said once.
    std::os::unix::fs::chown(world.path("tmp/ours/sub"), Some(0), Some(0)).unwrap();
    let report = world.run_as(1000, &["run", "--dry-run", "--format", "json"]);
    let notes = zone(&report.json(), "tmp")["notes"].to_string();
    assert!(notes.contains("access times"), "{notes}");
}

#[test]
fn law_7_nothing_outside_the_root() {
    let world = World::new();
    let outside = world.root.parent().unwrap().join("outside");
    std::fs::create_dir_all(outside.join("export")).unwrap();
    std::fs::create_dir_all(outside.join("export_cache")).unwrap();
    for name in [export_name(1), "plain".to_owned()] {
        for dir in ["export", "export_cache", ""] {
            let path = outside.join(dir).join(&name);
            std::fs::write(&path, "canary").unwrap();
            set_age(&path, 900 * DAY);
        }
    }
    let canaries = || {
        let all =
            walkdir::WalkDir::new(&outside).into_iter().map(|entry| entry.unwrap().into_path());
        all.filter(|path| path.is_file()).map(|path| (Stat::of(&path), path)).collect::<Vec<_>>()
    };
    let before = canaries();
    for link in ["tmp/link", "tmp/tree/link", "projects/1", "tasks/2/tmp", "jobs/3/export_cache"] {
        world.link(link, &outside, 900 * DAY);
    }
    world.link(Path::new("cache/export").join(export_name(7)), outside.join("plain"), 900 * DAY);
    world.age_dirs("tmp", 900 * DAY);
    // Every removal names one component in an open directory of the volume, and nothing is opened by
    // a path below the root.
    let calls = traced(
        &world,
        &["run", "--zones", "export,tmp,instance-tmp", "--jobs", "1"],
        "trace=unlinkat,openat,openat2,open,unlink,rmdir",
    );
    let root = world.root.to_str().unwrap();
    let mut removals = 0;
    for call in &calls {
        let name = call.split('"').nth(1).unwrap_or_default();
        if call.starts_with("unlinkat(") {
            assert!(!name.contains('/') && call.contains(&format!("<{root}")), "{call}");
            removals += 1;
        } else if call.starts_with("open") && name != root {
            assert!(!name.starts_with(root), "{call}");
        }
    }
    assert_eq!(removals, 3, "the link in tmp, and the tree with a link: {calls:#?}");
    world.run(&["legacy"]).exits(0);
    assert_eq!(canaries(), before);

    // A zone that is itself a link is not followed, and that is a failure to be seen to.
    std::fs::remove_dir(world.path("tmp")).unwrap();
    world.link("tmp", &outside, 900 * DAY);
    let report = world.run(&["run", "--format", "json"]);
    assert_counts(&report.exits(1).json(), "tmp", &[("failed", 1), ("seen", 1)]);
    assert_eq!(canaries(), before);
}

#[test]
fn law_8_one_bad_entry_costs_one_entry() {
    if !can_be_root("law 8: an entry that cannot be removed") {
        return;
    }
    let world = World::new();
    for number in 0..5 {
        world.file(format!("tmp/tree-{number}/sub/file"), 20 * DAY);
        world.file(Path::new("cache/export").join(export_name(number)), 20 * DAY);
    }
    world.age_dirs("tmp", 20 * DAY);
    world.chown(1000);
    world.age_dirs("tmp", 20 * DAY);
    // A directory that uid 1000 may not enter.
    let bad = world.path("tmp/tree-2/sub");
    std::os::unix::fs::chown(&bad, Some(0), Some(0)).unwrap();
    std::fs::set_permissions(&bad, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let report = world.run_as(1000, &["run", "--format", "json"]);
    let json = report.exits(1).json();
    assert_counts(&json, "tmp", &[("removed", 4), ("failed", 1)]);
    assert_counts(&json, "export", &[("removed", 5), ("failed", 0)]);
    let failure = &json["failures"][0];
    assert_eq!(failure["errno"], "EACCES");
    assert_eq!(failure["doing"], "open");
    assert_eq!(failure["path"], bad.to_str().unwrap());
    assert!(failure["message"].as_str().unwrap().contains("uid 1000"), "{failure}");
    assert!(world.has("tmp/tree-2/sub/file"));
}

/// Peak resident memory of a run, in KiB, as `/usr/bin/time -v` has it.
fn peak_memory(world: &World, args: &[&str]) -> u64 {
    let mut command = Command::new("/usr/bin/time");
    let inner = world.command(args);
    command.arg("-v").arg(inner.get_program()).args(inner.get_args());
    let run = Run::of(command);
    run.exits(0);
    let line = run.stderr.lines().find(|line| line.contains("Maximum resident set size")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn law_9_memory_does_not_grow_with_entries() {
    // In memory, where a million files are made in seconds.
    let world = World::in_dir(Path::new("/dev/shm"));
    let dir = std::fs::File::open(world.path("cache/export")).unwrap();
    let make = |from: u32, to: u32| {
        use rustix::fs::{Mode, OFlags, openat};
        for number in from..to {
            let name = export_name(number);
            let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
            openat(&dir, name.as_str(), flags, Mode::from_raw_mode(0o600)).unwrap();
        }
    };
    make(0, 10_000);
    // All were made after NOW, so all are fresh; by the year 2100 all have expired.
    let small = peak_memory(&world, &["run", "--zones", "export"]);
    make(10_000, 1_000_000);
    let scan = peak_memory(&world, &["run", "--zones", "export"]);
    let mut rehearsal = sweeper(&["run", "--zones", "export", "--dry-run", "--format", "json"]);
    rehearsal.arg("--data").arg(&world.root).args(["--now", "2100-01-01T00:00:00Z"]);
    let mut command = Command::new("/usr/bin/time");
    command.arg("-v").arg(rehearsal.get_program()).args(rehearsal.get_args());
    let run = Run::of(command);
    assert_counts(&run.exits(0).json(), "export", &[("removed", 1_000_000)]);
    let line = run.stderr.lines().find(|line| line.contains("Maximum resident")).unwrap();
    let all_stale: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
    for peak in [scan, all_stale] {
        assert!(peak < 32 * 1024, "{peak} KiB");
        assert!(peak < small + 4 * 1024, "{small} KiB at 10,000 files, {peak} KiB at 1,000,000");
    }
}

#[test]
fn law_10_names_are_bytes_and_what_is_printed_is_escaped() {
    use std::os::unix::ffi::OsStrExt;
    let world = World::new();
    let names: [&[u8]; 6] = [
        b"\xff\xfe not text",
        b"new\nline: removed etc",
        b"\x1b]0;owned\x07\x1b[31m",
        b"-rf",
        "\u{9b}31m\u{202e}gpj".as_bytes(),
        b"\"quote\\",
    ];
    for name in names {
        for dir in ["tmp", "cache/export"] {
            let path = world.path(dir).join(std::ffi::OsStr::from_bytes(name));
            std::fs::write(&path, "x").unwrap();
            set_times(&path, 20 * DAY, 20 * DAY);
        }
    }
    let count = names.len() as u64;
    let mut paths = BTreeSet::new();
    for format in ["text", "json", "jsonl"] {
        let run = world.run(&["run", "-v", "--dry-run", "--format", format]);
        run.exits(0);
        for out in [&run.stdout, &run.stderr] {
            assert!(
                out.chars().all(|c| c == '\n' || !(c.is_control() || c == '\u{202e}')),
                "{format}: {out:?}"
            );
        }
        paths.extend(run.outcomes().into_keys());
    }
    for name in names {
        let path = world.path("tmp").join(std::ffi::OsStr::from_bytes(name));
        assert!(paths.contains(&path), "jsonl gives {path:?} back: {paths:?}");
    }
    let report = world.run(&["run", "--format", "json"]);
    assert_counts(&report.exits(0).json(), "tmp", &[("removed", count)]);
    assert_counts(&report.json(), "export", &[("kept_by.unrecognized", count)]);
}
