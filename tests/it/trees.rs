//! The tree fixtures: text that lists entries and the outcome of each.
//!
//! One file drives a pass, its dry run, and the comparison of the two.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use retention_sweeper::units;

use crate::world::{World, fifo, set_age};

/// A fixture: the arguments to run with, and the entries.
struct Fixture {
    args: Vec<String>,
    entries: Vec<Entry>,
}

struct Entry {
    age: i64,
    kind: String,
    path: PathBuf,
    /// Outcome and reason, for paths that are judged.
    expected: Option<(String, String)>,
}

fn read(name: &str) -> Fixture {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/trees").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let args = lines.next().unwrap().split(' ').map(str::to_owned).collect();
    let entries: Vec<Entry> = lines.map(entry).collect();
    assert!(entries.iter().any(|entry| entry.expected.is_some()), "{name} expects nothing");
    Fixture { args, entries }
}

fn entry(line: &str) -> Entry {
    let (what, expected) = match line.split_once(" -> ") {
        Some((what, expected)) => (what, Some(expected.split_once(' ').unwrap())),
        None => (line, None),
    };
    let [age, kind, path] = what.split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("{line:?} is not `age kind path`");
    };
    Entry {
        age: i64::try_from(units::duration(age).unwrap().as_secs()).unwrap(),
        kind: kind.to_owned(),
        path: PathBuf::from(path),
        expected: expected.map(|(outcome, reason)| (outcome.to_owned(), reason.to_owned())),
    }
}

/// Builds the tree. Directories get their age last, the deepest first. Those without a line of their own
/// are very old.
fn build(fixture: &Fixture) -> World {
    let world = World::new();
    for entry in &fixture.entries {
        let path = world.path(&entry.path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match entry.kind.as_str() {
            "file" => drop(world.file(&entry.path, entry.age)),
            "dir" => std::fs::create_dir_all(&path).unwrap(),
            "link" => drop(world.link(&entry.path, "/etc/hostname", entry.age)),
            "fifo" => fifo(&path, entry.age),
            other => panic!("no type {other:?}"),
        }
    }
    world.age_dirs("", 10_000 * 86_400);
    for entry in fixture.entries.iter().filter(|entry| entry.kind == "dir") {
        set_age(&world.path(&entry.path), entry.age);
    }
    world
}

/// Runs the fixture's command: the outcome of every path that was judged, and the report.
fn outcomes(
    fixture: &Fixture,
    world: &World,
    more: &[&str],
) -> (BTreeMap<PathBuf, (String, String)>, serde_json::Value) {
    let mut args: Vec<&str> = fixture.args.iter().map(String::as_str).collect();
    args.extend(["--format", "jsonl", "-v"]);
    args.extend(more);
    let run = world.run(&args);
    run.exits(0);
    let outcomes = run
        .outcomes()
        .into_iter()
        .map(|(path, outcome)| (path.strip_prefix(&world.root).unwrap().to_owned(), outcome));
    (outcomes.collect(), run.json())
}

fn check(name: &str) {
    let fixture = read(name);
    let expected: BTreeMap<PathBuf, (String, String)> = fixture
        .entries
        .iter()
        .filter_map(|entry| Some((entry.path.clone(), entry.expected.clone()?)))
        .collect();

    // The dry run says the same, and changes nothing that stat can see.
    let world = build(&fixture);
    let before = world.snapshot();
    let (foreseen, dry_run) = outcomes(&fixture, &world, &["--dry-run"]);
    let mut would_be = expected.clone();
    for (outcome, _) in would_be.values_mut().filter(|(outcome, _)| outcome == "removed") {
        "would_remove".clone_into(outcome);
    }
    assert_eq!(foreseen, would_be, "{name}, dry run");
    assert_eq!(world.snapshot(), before, "{name}: the dry run changed something");

    let (found, report) = outcomes(&fixture, &world, &[]);
    assert_eq!(found, expected, "{name}");
    assert_eq!(report["totals"], dry_run["totals"], "{name}: totals of pass and dry run");

    // And the disk agrees: exactly what should be removed is gone.
    let after = world.snapshot();
    let gone: Vec<&Path> = expected
        .iter()
        .filter(|(_, (outcome, _))| outcome == "removed")
        .map(|(path, _)| path.as_path())
        .collect();
    for (path, stat) in before {
        let relative = path.strip_prefix(&world.root).unwrap();
        let is_gone = gone.iter().any(|gone| relative.starts_with(gone));
        match after.get(&path) {
            None => assert!(is_gone, "{name}: {relative:?} is gone"),
            Some(_) if is_gone => panic!("{name}: {relative:?} is still there"),
            // A directory that something was removed from has changed, and the one that is listed: trees
            // are moved to a private directory in it before their removal. Nothing else has.
            Some(now) => {
                let listed = relative.components().count() == 1;
                let changes = |gone: &&Path| {
                    gone.parent() == Some(relative) || (listed && gone.starts_with(relative))
                };
                assert!(
                    gone.iter().any(changes) || *now == stat,
                    "{name}: {relative:?} changed\n{stat:?}\n{now:?}"
                );
            }
        }
    }

    let (again, _) = outcomes(&fixture, &world, &[]);
    let is_kept = |(outcome, _): &(String, String)| outcome != "removed";
    assert!(again.values().all(is_kept), "{name}: a second pass: {again:?}");
}

#[test]
fn the_default_zones() {
    check("default.tree");
}

#[test]
fn a_ttl_for_each_class_and_instance_tmp() {
    check("ttls.tree");
}

#[test]
fn cvats_own_rule_for_tmp() {
    check("entry.tree");
}

#[test]
fn the_migration_of_old_caches() {
    check("legacy.tree");
}

#[test]
fn the_migration_keeping_younger_ones() {
    check("legacy-older.tree");
}
