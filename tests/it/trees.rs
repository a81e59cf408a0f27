//! The tree fixtures: text that says what there is and what becomes of it.
//!
//! One file drives the pass, its rehearsal, and the comparison of the two.

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
    /// Fate and reason, of what is judged.
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
        expected: expected.map(|(fate, reason)| (fate.to_owned(), reason.to_owned())),
    }
}

/// Builds the tree. Directories get their age last, the deepest first; those without a line of their
/// own are as old as the world.
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
            other => panic!("no kind {other:?}"),
        }
    }
    world.age_dirs("", 10_000 * 86_400);
    for entry in fixture.entries.iter().filter(|entry| entry.kind == "dir") {
        set_age(&world.path(&entry.path), entry.age);
    }
    world
}

/// Runs the fixture's command; what became of every path that was judged.
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
        .map(|(path, fate)| (path.strip_prefix(&world.root).unwrap().to_owned(), fate));
    (outcomes.collect(), run.json())
}

fn check(name: &str) {
    let fixture = read(name);
    let expected: BTreeMap<PathBuf, (String, String)> = fixture
        .entries
        .iter()
        .filter_map(|entry| Some((entry.path.clone(), entry.expected.clone()?)))
        .collect();

    // The rehearsal says the same, and changes nothing that stat can see.
    let world = build(&fixture);
    let before = world.snapshot();
    let (rehearsed, rehearsal) = outcomes(&fixture, &world, &["--dry-run"]);
    assert_eq!(rehearsed, expected, "{name}, rehearsal");
    assert_eq!(world.snapshot(), before, "{name}: the rehearsal changed something");

    let (found, report) = outcomes(&fixture, &world, &[]);
    assert_eq!(found, expected, "{name}");
    assert_eq!(report["totals"], rehearsal["totals"], "{name}: totals of pass and rehearsal");

    // And the disk says so too: exactly what was to go is gone.
    let after = world.snapshot();
    let gone: Vec<&Path> = expected
        .iter()
        .filter(|(_, (fate, _))| fate == "removed")
        .map(|(path, _)| path.as_path())
        .collect();
    for (path, stat) in before {
        let relative = path.strip_prefix(&world.root).unwrap();
        let is_gone = gone.iter().any(|gone| relative.starts_with(gone));
        match after.get(&path) {
            None => assert!(is_gone, "{name}: {relative:?} is gone"),
            Some(_) if is_gone => panic!("{name}: {relative:?} is still there"),
            // A directory that something was removed from has changed; all else is as it was.
            Some(now) => {
                let parent = gone.iter().any(|gone| gone.parent() == Some(relative));
                assert!(parent || *now == stat, "{name}: {relative:?} changed\n{stat:?}\n{now:?}");
            }
        }
    }

    let (again, _) = outcomes(&fixture, &world, &[]);
    assert!(again.values().all(|(fate, _)| fate != "removed"), "{name}: a second pass: {again:?}");
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
