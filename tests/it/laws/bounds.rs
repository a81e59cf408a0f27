//! The laws on where a pass ends: at the root, at a bad entry, at a bound, and at a name of any bytes.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use super::{is_private, traced};
use crate::world::*;

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
    // Every removal names one component in an open directory below the root, and nothing is opened by a
    // path below the root.
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
            let dir = call.split(['<', '>']).nth(1).unwrap();
            removals += usize::from(!is_private(dir, name));
        } else if call.starts_with("open") && name != root {
            assert!(!name.starts_with(root), "{call}");
        }
    }
    assert_eq!(removals, 3, "the link in tmp, the tree and the link in it: {calls:#?}");
    world.run(&["legacy"]).exits(0);
    assert_eq!(canaries(), before);

    // A zone that is itself a link is not followed: a failure that needs attention.
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
    assert_eq!(failure["action"], "open");
    assert_eq!(failure["path"], bad.to_str().unwrap());
    assert!(failure["message"].as_str().unwrap().contains("uid 1000"), "{failure}");
    assert!(world.has("tmp/tree-2/sub/file"));
}

/// The peak resident memory of a run in KiB, by `/usr/bin/time -v`.
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
    // On a file system in memory, where a million files are made in seconds.
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
    // All were made after NOW, so all are fresh. By the year 2100 all have expired.
    let small = peak_memory(&world, &["run", "--zones", "export"]);
    make(10_000, 1_000_000);
    let scan = peak_memory(&world, &["run", "--zones", "export"]);
    let mut dry_run = sweeper(&["run", "--zones", "export", "--dry-run", "--format", "json"]);
    dry_run.arg("--data").arg(&world.root).args(["--now", "2100-01-01T00:00:00Z"]);
    let mut command = Command::new("/usr/bin/time");
    command.arg("-v").arg(dry_run.get_program()).args(dry_run.get_args());
    let run = Run::of(command);
    assert_counts(&run.exits(0).json(), "export", &[("removed", 1_000_000)]);
    let line = run.stderr.lines().find(|line| line.contains("Maximum resident")).unwrap();
    let all_expired: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
    for peak in [scan, all_expired] {
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
