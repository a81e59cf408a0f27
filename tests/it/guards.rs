//! Guards: a pass that would remove too much removes nothing, and says by how much.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::paused::{Moment, Paused};
use crate::start::Start;
use crate::world::{DAY, HOUR, Run, Stat, World, assert_counts, export_name, zone};

/// `old` exports and one temporary tree that have expired, and two entries that have not.
fn world(old: u32) -> World {
    let world = World::new();
    for number in 0..old {
        world.file(Path::new("cache/export").join(export_name(number)), 2 * DAY);
    }
    world.file(Path::new("cache/export").join(export_name(1_000_000)), HOUR);
    world.file_of("tmp/tree/sub/file", 20 * DAY, &vec![b'x'; 20_000]);
    world.file("tmp/fresh-inside/sub/file", HOUR);
    world.age_dirs("tmp", 20 * DAY);
    world
}

/// All notes of a report.
fn notes(report: &Value) -> String {
    let zones = report["zones"].as_array().unwrap();
    zones.iter().map(|zone| zone["notes"].to_string()).collect()
}

/// The space of everything that a pass removes from [`world`].
fn space(world: &World, old: u32) -> u64 {
    let exports = (0..old).map(|number| Path::new("cache/export").join(export_name(number)));
    let tree = ["tmp/tree", "tmp/tree/sub", "tmp/tree/sub/file"].map(Into::into);
    exports.chain(tree).map(|path| Stat::of(&world.path(path)).allocated()).sum()
}

#[test]
fn a_pass_that_would_exceed_a_guard_removes_nothing_and_says_by_how_much() {
    let world = world(9);
    let bytes = space(&world, 9);
    let before = world.snapshot();
    for (guard, limit, words) in [
        (
            "max_removals",
            "9".to_owned(),
            "remove 10 entries in total, 1 more than --max-removals 9",
        ),
        ("max_removals", "0".to_owned(), "10 more than --max-removals 0"),
        ("max_bytes", format!("{}B", bytes - 1), " in total, 1 B more than --max-bytes "),
        ("max_share", "89.9%".to_owned(), "9 of 10 entries of this zone, 1 more than"),
        ("max_share", "49%".to_owned(), "remove 1 of 2 entries of this zone, 1 more than"),
    ] {
        let flag = format!("--{}", guard.replace('_', "-"));
        for jobs in ["1", "4"] {
            let args = ["run", "--format", "json", "--jobs", jobs, &flag, &limit];
            let report = world.run(&args).exits(3).json();
            assert_eq!(report["stopped"], guard, "{report:#}");
            assert!(notes(&report).contains(words), "{words}: {report:#}");
            assert!(notes(&report).contains("nothing was removed"), "{report:#}");
            assert_counts(&report, "export", &[("seen", 0), ("removed", 0)]);
            assert_eq!(world.snapshot(), before, "{guard} {limit}");
        }
        // A dry run says the same beforehand, and shows what it is about.
        let args = ["run", "--format", "json", "--dry-run", &flag, &limit];
        let report = world.run(&args).exits(3).json();
        assert_eq!(report["stopped"], guard, "{report:#}");
        assert!(notes(&report).contains(words), "{words}: {report:#}");
        assert!(notes(&report).contains("a run would stop before it removed anything"));
        assert_counts(&report, "export", &[("removed", 9), ("kept", 1)]);
        let text = world.run(&["run", "--dry-run", &flag, &limit]).exits(3).stdout.clone();
        assert!(text.contains("a run would be stopped by a guard"), "{text}");
    }
    // In text the table has what would have been removed, and the last line says that nothing was.
    let text = world.run(&["run", "--max-removals", "9"]).exits(3).stdout.clone();
    let dry = world.run(&["run", "--dry-run"]).exits(0).stdout.clone();
    let table = |text: &str| text.lines().take(3).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(table(&text), table(&dry), "{text}");
    let last = text.lines().last().unwrap();
    let words = "nothing was removed, because a guard stopped this pass: it would remove 10 of 12 \
                 entries and free";
    assert!(last.contains(words), "{last}");
}

#[test]
fn a_pass_that_meets_its_guards_exactly_removes_everything() {
    let world = world(9);
    let bytes = format!("{}B", space(&world, 9));
    let guards = ["--max-removals", "10", "--max-bytes", &bytes, "--max-share", "90%"];
    let dry = world.run(&[&["run", "--format", "json", "--dry-run"], &guards[..]].concat());
    assert_counts(&dry.exits(0).json(), "export", &[("removed", 9)]);
    let run = world.run(&[&["run", "--format", "json"], &guards[..]].concat());
    let report = run.exits(0).json();
    assert_eq!(report["stopped"], Value::Null);
    assert_counts(&report, "export", &[("removed", 9), ("kept", 1), ("seen", 10)]);
    // A tree that has expired by its own times and holds something fresh does not count.
    assert_counts(&report, "tmp", &[("removed", 1), ("skipped_by.used", 1)]);
    assert_eq!(notes(&dry.json()), notes(&report), "no note is given twice");
}

#[test]
fn what_expires_after_the_count_ends_the_pass_at_the_guard() {
    for (guard, limit, of_tmp) in [("max_removals", "3", 1), ("max_share", "70%", 2)] {
        let world = world(2);
        world.file("tmp/file", HOUR);
        let args = [&*format!("--{}", guard.replace('_', "-")), limit];
        // After the first removal, so the pass was counted and has begun with the exports.
        let paused = Paused::at(&world, &args, 4096, &Moment::of("unlinkat", 1));
        let paused = paused.unwrap_or_else(|run| panic!("it ended: {}{}", run.stdout, run.stderr));
        for number in 0..20 {
            world.file(format!("tmp/late-{number}"), 20 * DAY);
        }
        let report = paused.finish().exits(3).json();
        assert_eq!(report["stopped"], guard, "{report:#}");
        assert_counts(&report, "export", &[("removed", 2)]);
        assert_counts(&report, "tmp", &[("removed", of_tmp)]);
        assert!(notes(&report).contains("more has expired than when the pass began"), "{report:#}");
        let entries = std::fs::read_dir(world.path("tmp")).unwrap();
        assert_eq!(entries.count() as u64, 23 - of_tmp, "no more than were counted may go");
    }
}

#[test]
fn a_signal_during_the_count_ends_the_pass() {
    // So many that the count goes on until the signal has arrived.
    let world = world(9000);
    // Two zones are locked for this sweeper, and then entries by the count.
    let args = ["--max-removals", "10000"];
    let paused = Paused::at(&world, &args, 4096, &Moment::of("flock", 4));
    let paused = paused.unwrap_or_else(|run| panic!("it ended: {}{}", run.stdout, run.stderr));
    paused.send(rustix::process::Signal::TERM);
    let report = paused.finish().exits(3).json();
    assert_eq!(report["stopped"], "signal");
    assert_eq!(report["totals"]["removed"], 0);
    assert!(world.path("cache/export").join(export_name(0)).exists());
}

#[test]
fn a_list_from_a_pipe_is_guarded_like_one_from_a_file() {
    let world = world(9);
    let run = |limit: &str| {
        let mut find = Command::new("find");
        find.arg(world.path("cache/export")).args(["-type", "f", "-print0"]);
        let mut find = find.stdout(Stdio::piped()).start().unwrap();
        let args = ["run", "--format", "json", "--from0", "-", "--max-removals", limit];
        let mut command = world.command(&args);
        command.stdin(find.stdout.take().unwrap());
        let run = Run::of(command);
        assert!(find.wait().unwrap().success());
        run
    };
    let report = run("8").exits(3).json();
    assert!(notes(&report).contains("1 more than --max-removals 8"), "{report:#}");
    let report = run("9").exits(0).json();
    assert_eq!(zone(&report, "export")["removed"], 9);
    let refused = world.run(&["run", "--from0", "-", "--max-share", "50%"]);
    assert!(refused.exits(2).stderr.contains("max_removals"), "{}", refused.stderr);
}

/// With a guard, a list is read twice. What the first reading could not read, the second does not make up for.
#[test]
fn a_list_that_cannot_be_read_or_copied_to_its_end_is_not_taken_for_complete() {
    let world = World::new();
    let (old, listed) = (world.file("tmp/job1", 100 * DAY), world.file("tmp/job10", 100 * DAY));
    let list = world.path("list");
    let fails = |run: &Run, why: &str| {
        let report = run.exits(1).json();
        let failures = report["failures"].to_string();
        assert!(
            failures.contains("could not be read to the end") && failures.contains(why),
            "{report:#}"
        );
        assert!(old.exists() && listed.exists(), "{report:#}");
    };
    let args = ["run", "--format", "json", "--max-removals", "100", "--from0"];
    let unreadable = world.run(&[&args[..], &["."]].concat());
    fails(&unreadable, "Is a directory");
    // The copy ends in the middle of a path: as a full disk would cut it, and right after the path of another entry.
    std::fs::write(&list, "tmp/job10\0").unwrap();
    let whole = world.command(&[&args[..], &[list.to_str().unwrap()]].concat());
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; exec prlimit --fsize=8 \"$@\"", "sh"]);
    limited.arg(whole.get_program()).args(whole.get_args()).stdin(Stdio::null());
    fails(&Run::of(limited), "its copy in ");
    let run = Run::of(whole);
    assert_eq!(zone(&run.exits(0).json(), "tmp")["removed"], 1);
    assert!(old.exists() && !listed.exists());
}
