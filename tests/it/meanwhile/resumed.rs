//! The removal of a tree was interrupted, and the next pass has other settings: its rules, its globs and its guards
//! decide about what is left.

use std::path::Path;
use std::process::Command;

use super::next_pass::is_reported_as_returned;
use super::{count, paused, quarantined, tree};
use crate::company::has_tool;
use crate::paused::{Moment, Paused};
use crate::world::{DAY, Run, World, assert_counts, can_be_root, tool, zone};

/// What a killed pass with these settings has left of a tree, and the number of files in that.
fn interrupted(world: &World, args: &[&str]) -> usize {
    tree(world, 800);
    drop(paused(world, args, 120));
    let left = count(&quarantined(world).join("sub"));
    assert!(left > 600, "{left}");
    left
}

/// Asserts that the tree has its name again, with all that was left of it.
#[track_caller]
fn is_returned(world: &World, left: usize) {
    assert_eq!(count(&world.path("tmp/tree/sub")), left);
    assert_eq!(count(&world.path("tmp")), 1, "the private directory is left");
}

#[test]
fn what_is_left_of_a_tree_that_is_excluded_now_is_not_removed() {
    for exclude in ["tree", "tmp/tree"] {
        let world = World::new();
        let left = interrupted(&world, &[]);
        let run = world.run(&["run", "--format", "json", "--exclude", exclude]);
        is_reported_as_returned(&run, &world, "excluded", exclude);
        is_returned(&world, left);
    }
}

#[test]
fn what_is_left_of_a_tree_that_has_not_expired_now_is_not_removed() {
    for age in ["entry", "tree"] {
        let world = World::new();
        let age = ["--tmp-age", age, "--retention"];
        let left = interrupted(&world, &[&age[..], &["1d"]].concat());
        let longer = ["run", "--format", "json", "--tmp-age", age[1], "--retention", "30d"];
        is_reported_as_returned(&world.run(&longer), &world, "fresh", age[1]);
        is_returned(&world, left);
    }
}

/// The removal moves the times of directories itself, so they do not make the rest fresh.
#[test]
fn what_is_left_of_an_expired_tree_is_removed_by_the_same_settings() {
    for age in ["entry", "tree"] {
        let world = World::new();
        let settings = ["--tmp-age", age, "--retention", "15d"];
        interrupted(&world, &settings);
        let run = world.run(&[&["run", "--format", "json"], &settings[..]].concat());
        let report = run.exits(0).json();
        assert_counts(&report, "tmp", &[("seen", 1), ("removed", 1)]);
        assert_eq!(count(&world.path("tmp")), 0);
    }
}

#[test]
fn a_dry_run_says_what_a_run_does_with_an_interrupted_removal_and_changes_nothing() {
    let cases: [(&[&str], i32); 3] =
        [(&[], 0), (&["--exclude", "tree"], 1), (&["--tmp-age", "entry", "--retention", "30d"], 1)];
    for (settings, code) in cases {
        let world = World::new();
        interrupted(&world, &[]);
        let before = world.snapshot();
        let with = |more: &[&str]| {
            let run = world.run(&[&["run", "--format", "json"], settings, more].concat());
            run.exits(code).json()
        };
        let foreseen = with(&["--dry-run"]);
        assert_eq!(world.snapshot(), before, "{settings:?}: the dry run has changed something");
        let done = with(&[]);
        for key in ["seen", "removed", "failed", "kept", "skipped", "freed_bytes"] {
            assert_eq!(zone(&foreseen, "tmp")[key], zone(&done, "tmp")[key], "{settings:?}: {key}");
        }
        assert_eq!(foreseen["failures"], done["failures"], "{settings:?}");
    }
}

#[test]
fn a_dry_run_frees_as_much_of_the_rest_of_a_tree_as_a_run_that_cannot_remove_all_of_it() {
    if !can_be_root("an immutable file") {
        return;
    }
    let world = World::new();
    tree(&world, 400);
    let stuck = ["sub/file-7", "sub/file-8"];
    let chattr = |flag: &str, path: &Path| tool("chattr", &[flag.as_ref(), path.as_os_str()]);
    for file in stuck {
        chattr("+i", &world.path("tmp/tree").join(file));
    }
    world.run(&["run"]).exits(1);
    let rest = quarantined(&world);
    chattr("-i", &rest.join(stuck[0]));
    let args = ["run", "--format", "json"];
    let foreseen = world.run(&[&args[..], &["--dry-run"]].concat());
    let done = world.run(&args);
    chattr("-i", &rest.join(stuck[1]));
    let (foreseen, done) = (foreseen.exits(1).json(), done.exits(1).json());
    for key in ["seen", "removed", "failed", "kept", "skipped", "freed_bytes"] {
        assert_eq!(zone(&foreseen, "tmp")[key], zone(&done, "tmp")[key], "{key}");
    }
    assert!(zone(&done, "tmp")["freed_bytes"].as_u64() > Some(0), "{done}");
}

/// A guard counts the rest of an interrupted removal like any entry.
#[test]
fn a_guard_that_the_rest_of_an_interrupted_removal_exceeds_lets_nothing_go() {
    let world = World::new();
    let left = interrupted(&world, &[]);
    world.file("tmp/other", 20 * DAY);
    let rest = quarantined(&world);
    let run = |most: &str| world.run(&["run", "--format", "json", "--max-removals", most]);
    run("1").exits(3);
    assert_eq!(count(&rest.join("sub")), left);
    assert!(world.has("tmp/other"));
    run("2").exits(0);
    assert_eq!(count(&world.path("tmp")), 0);
}

/// What was out of reach and still whole when the pass was killed is foreseen as the entry that it was.
#[test]
fn a_dry_run_counts_a_tree_that_was_killed_before_its_removal_began() {
    let world = World::new();
    tree(&world, 3);
    let moment = Moment::of("renameat2", 1);
    drop(Paused::at(&world, &[], 4096, &moment).unwrap_or_else(|run| panic!("{}", run.stdout)));
    let before = world.snapshot();
    let report = world.run(&["run", "--format", "json", "--dry-run"]).exits(0).json();
    assert_counts(&report, "tmp", &[("seen", 1), ("removed", 1)]);
    assert_eq!(world.snapshot(), before);
    let report = world.run(&["run", "--format", "json"]).exits(0).json();
    assert_counts(&report, "tmp", &[("seen", 1), ("removed", 1)]);
}

/// A server may say that it is full before it says that a directory is there.
#[test]
fn what_is_still_whole_gets_its_name_back_where_no_directory_can_be_made() {
    if !has_tool("strace", "a server that is full") {
        return;
    }
    let world = World::new();
    tree(&world, 3);
    let moment = Moment::of("renameat2", 1);
    drop(Paused::at(&world, &[], 4096, &moment).unwrap_or_else(|run| panic!("{}", run.stdout)));
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "inject=mkdirat:error=EDQUOT"]);
    let run = world.command(&["run", "--format", "json"]);
    command.arg(run.get_program()).args(run.get_args());
    let report = Run::of(command).exits(0).json();
    assert_counts(&report, "tmp", &[("seen", 1), ("removed", 1)]);
    assert_eq!(count(&world.path("tmp")), 0);
}

/// What is out of reach has no path that a plan could have.
#[test]
fn a_plan_says_that_it_does_not_complete_an_interrupted_removal() {
    let world = World::new();
    tree(&world, 3);
    let plan = world.path("../plan");
    let plan = || {
        let args = ["plan", "-o", plan.to_str().unwrap(), "--format", "json"];
        let report = world.run(&args).exits(0).json();
        (zone(&report, "tmp")["removed"].clone(), zone(&report, "tmp")["notes"].to_string())
    };
    // While another sweeper is at work, nothing is interrupted.
    let moment = Moment::of("renameat2", 1);
    let other = Paused::at(&world, &["--if-running", "share"], 4096, &moment);
    let other = other.unwrap_or_else(|run| panic!("{}", run.stdout));
    let (removed, notes) = plan();
    assert!(removed == 0 && !notes.contains(".sweeper-"), "{notes}");
    drop(other);
    let (removed, notes) = plan();
    assert!(
        removed == 0 && notes.contains("interrupted") && notes.contains("/.sweeper-"),
        "{notes}"
    );
    let report = world.run(&["run", "--format", "json"]).exits(0).json();
    assert_counts(&report, "tmp", &[("seen", 1), ("removed", 1)]);
    world.file("tmp/.sweeper-0123456789abcdef", 0);
    let (_, notes) = plan();
    assert!(!notes.contains("interrupted"), "that is no private directory: {notes}");
}

#[test]
fn why_says_what_a_run_does_with_an_interrupted_removal() {
    for (settings, verdict) in [(&[][..], "would_remove"), (&["--exclude", "tree"], "failed")] {
        let world = World::new();
        interrupted(&world, &[]);
        let rest = quarantined(&world);
        let before = world.snapshot();
        let ask = |path: &std::path::Path| {
            let path = path.to_str().unwrap();
            let run = world.run(&[&["why", "--format", "json"], settings, &[path]].concat());
            run.json()["paths"][0].clone()
        };
        for path in [rest.clone(), rest.join("sub")] {
            assert_eq!(ask(&path)["verdict"], verdict, "{settings:?} {path:?}: {}", ask(&path));
        }
        assert_eq!(ask(rest.parent().unwrap().parent().unwrap())["verdict"], "never_touched");
        assert_eq!(world.snapshot(), before);
        let report = world.run(&[&["run", "--format", "json"], settings].concat()).json();
        let removed = u64::from(verdict == "would_remove");
        assert_counts(&report, "tmp", &[("removed", removed), ("failed", 1 - removed)]);
    }
}
