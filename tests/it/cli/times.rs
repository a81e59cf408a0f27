//! Times that cannot be trusted: far in the future, or not recorded by the mount.

use std::path::Path;
use std::process::Command;

use filetime::FileTime;

use crate::start::Start;
use crate::world::{DAY, HOUR, Run, World, assert_counts, export_name, set_times, sweeper, zone};

/// Seconds since 1970.
fn real_now() -> i64 {
    FileTime::now().unix_seconds()
}

/// A run that is judged as if it were `after` seconds later than now.
fn run_after(world: &World, after: i64, args: &[&str]) -> Run {
    let mut date = Command::new("date");
    date.args(["-u", "+%Y-%m-%dT%H:%M:%SZ", "-d", &format!("@{}", real_now() + after)]);
    let date = Run::from(date.finish().unwrap());
    let mut command = sweeper(args);
    command.args(["--now", date.exits(0).stdout.trim(), "--data"]).arg(&world.root);
    Run::of(command)
}

/// Both times of a file, as seconds from now.
fn touch(path: &Path, atime: i64, mtime: i64) {
    let at = |offset: i64| FileTime::from_unix_time(real_now() + offset, 0);
    filetime::set_symlink_file_times(path, at(atime), at(mtime)).unwrap();
}

#[test]
fn a_time_far_in_the_future_does_not_protect_forever_and_a_near_one_does() {
    let world = World::new();
    let years = 70 * 365 * DAY;
    let export = world.file(Path::new("cache/export").join(export_name(1)), 0);
    let near = world.file(Path::new("cache/export").join(export_name(2)), 0);
    let temporary = world.file("tmp/file", 0);
    let inside = world.file("tmp/tree/sub/file", 0);
    for path in [&export, &temporary, &inside] {
        touch(path, years, years);
    }
    // The clock of another machine may be a few hours ahead of ours.
    touch(&near, 40 * DAY, 30 * DAY + 23 * HOUR);
    // Its ctime says when it was given its times, and that is not long ago.
    let report = run_after(&world, HOUR, &["run", "--format", "json"]).exits(0).json();
    assert_eq!(report["totals"]["removed"], 0);
    let report = run_after(&world, 30 * DAY, &["run", "--format", "json"]).exits(0).json();
    assert_counts(&report, "export", &[("removed", 1), ("kept_by.fresh", 1)]);
    assert_counts(&report, "tmp", &[("removed", 2)]);
    for name in ["export", "tmp"] {
        let notes = zone(&report, name)["notes"].to_string();
        let said = "are more than 24 h in the future and do not count";
        assert_eq!(notes.matches(said).count(), 1, "{notes}");
    }
    assert!(near.exists() && !export.exists() && !world.has("tmp/tree"));
}

#[test]
fn where_no_age_is_asked_for_no_time_matters() {
    let world = World::new();
    world.file("tasks/1/export_cache/x.zip", -70 * 365 * DAY);
    world.age_dirs("tasks/1/export_cache", -70 * 365 * DAY);
    let report = world.run(&["legacy", "--format", "json"]).exits(0).json();
    assert_counts(&report, "legacy", &[("removed", 1)]);
    assert_eq!(zone(&report, "legacy")["notes"].to_string(), "[]");
    assert!(!world.has("tasks/1/export_cache"));
}

#[test]
fn the_last_write_alone_counts_where_backups_read() {
    let world = World::new();
    // Written long ago, and read by a backup an hour ago.
    set_times(&world.file("tmp/tree/file", 0), HOUR, 20 * DAY);
    let file = world.file("tmp/file", 0);
    world.age_dirs("tmp", 20 * DAY);
    set_times(&file, HOUR, 20 * DAY);
    set_times(&world.path("tmp/tree"), HOUR, 20 * DAY);
    let dry = |args: &[&str]| {
        let args = [&["run", "--dry-run", "--format", "json"], args].concat();
        let report = world.run(&args).exits(0).json();
        zone(&report, "tmp")["removed"].as_u64().unwrap()
    };
    assert_eq!((dry(&[]), dry(&["--tmp-age", "write"])), (0, 2));
    set_times(&world.path("tmp/tree/file"), 20 * DAY, HOUR);
    assert_eq!(dry(&["--tmp-age", "write"]), 1);
}

#[test]
fn a_limit_under_a_day_on_relatime_is_noted() {
    let world = World::new();
    let mut findmnt = Command::new("findmnt");
    findmnt.args(["-no", "OPTIONS", "-T"]).arg(&world.root);
    let options = Run::from(findmnt.finish().unwrap()).exits(0).stdout.clone();
    let is_relatime = options.trim().split(',').any(|option| option == "relatime");
    assert!(is_relatime, "this test needs the default of Linux: {options}");
    for (args, zone_of, noted) in [
        (&["run"][..], "tmp", 0),
        (&["run", "--retention", "24h"], "tmp", 0),
        (&["run", "--retention", "23h"], "tmp", 1),
        (&["run", "--retention", "23h", "--tmp-age", "entry"], "tmp", 1),
        (&["run", "--retention", "23h", "--tmp-age", "write"], "tmp", 0),
        (&["run", "--ttl", "1h"], "export", 0),
    ] {
        let args = [args, &["--dry-run", "--format", "json"]].concat();
        let report = world.run(&args).exits(0).json();
        let notes = zone(&report, zone_of)["notes"].to_string();
        assert_eq!(notes.matches("relatime").count(), noted, "{args:?}: {notes}");
    }
}

#[test]
fn a_link_is_judged_by_its_own_time_and_the_help_says_that_cvat_is_different() {
    let world = World::new();
    let target = world.root.parent().unwrap().join("target");
    std::fs::write(&target, "x").unwrap();
    world.link("tmp/link", &target, 20 * DAY);
    let args = ["run", "--tmp-age", "entry", "--format", "json"];
    // What CVAT's rule reads follows the link; ours does not.
    let script = "import os, sys; print(int(os.stat(sys.argv[1]).st_atime))";
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(world.path("tmp/link"));
    let of_target: i64 = Run::from(python.finish().unwrap()).stdout.trim().parse().unwrap();
    assert!(of_target > crate::world::NOW_SECS - 14 * DAY, "CVAT would keep it");
    // Python has read the link.
    crate::world::set_age(&world.path("tmp/link"), 20 * DAY);
    assert_counts(&world.run(&args).exits(0).json(), "tmp", &[("removed", 1)]);
    assert!(target.exists());
    let help = super::run(&["run", "--help"]);
    let words: Vec<&str> = help.stdout.split_whitespace().collect();
    assert!(words.join(" ").contains("for a link, CVAT uses that of its target"));
}
