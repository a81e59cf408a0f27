//! Private directories that no interrupted run can have left so, though they look like those of this user.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::tampered;
use crate::company::has_tool;
use crate::world::{DAY, Run, World, assert_counts, zone};

const NAME: &str = ".sweeper-0123456789abcdef";

/// A private directory in `dir`, as a run makes one.
fn private(world: &World, dir: &str) {
    for stage in ["check", "remove"] {
        world.dir(format!("{dir}/{NAME}/{stage}"), 0);
    }
    let top = world.path(format!("{dir}/{NAME}"));
    fs::set_permissions(top, fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn what_is_no_entry_of_the_zone_gets_its_name_back_and_stays() {
    for stage in ["check", "remove"] {
        let world = World::new();
        private(&world, "tasks");
        world.file(format!("tasks/{NAME}/{stage}/7/data/frame.jpg"), 400 * DAY);
        world.age_dirs(format!("tasks/{NAME}/{stage}/7"), 400 * DAY);
        let run = |more: &[&str]| {
            let report = world.run(&[&["legacy", "--format", "json"], more].concat());
            let report = report.exits(0).json();
            assert_counts(&report, "legacy", &[("seen", 0), ("removed", 0)]);
            report
        };
        run(&["--dry-run"]);
        let report = run(&[]);
        let notes = zone(&report, "legacy")["notes"].to_string();
        assert!(notes.contains("tasks/7") && notes.contains("no entry of this zone"), "{notes}");
        assert!(world.has("tasks/7/data/frame.jpg"), "{stage}");
    }
}

#[test]
fn an_exclusion_protects_an_old_cache_that_was_interrupted_also_in_a_dry_run() {
    for stage in ["check", "remove"] {
        let world = World::new();
        let path = "tasks/7/tmp/export_cache";
        world.dir("tasks/7/tmp", 400 * DAY);
        private(&world, "tasks");
        let inner = format!("tasks/{NAME}/{stage}/7%tmp%export_cache");
        world.file(format!("{inner}/old.zip"), 400 * DAY);
        world.age_dirs(&inner, 400 * DAY);
        for mode in [&["--dry-run"][..], &[]] {
            let args = ["legacy", "--format", "json", "--exclude", path];
            let report = world.run(&[&args, mode].concat());
            let json = report.json();
            assert_counts(&json, "legacy", &[("seen", 1), ("removed", 0)]);
            let text = json.to_string();
            assert!(text.contains("excluded"), "{stage} {mode:?}: {text}");
            assert!(!text.contains("matched no entry"), "{stage} {mode:?}: {text}");
        }
        assert!(world.has(format!("{path}/old.zip")), "{stage}");
    }
}

#[test]
fn what_another_program_has_put_into_a_private_directory_is_noted() {
    let world = World::new();
    private(&world, "tmp");
    world.file(format!("tmp/{NAME}/data/big"), 400 * DAY);
    let report = world.run(&["run", "--zones", "tmp", "--format", "json"]).exits(0).json();
    let notes = zone(&report, "tmp")["notes"].to_string();
    assert!(
        notes.contains(NAME) && notes.contains("cannot be removed: another program"),
        "{notes}"
    );
    assert!(world.has(format!("tmp/{NAME}/data/big")));
}

#[test]
fn a_list_does_not_complete_what_was_interrupted() {
    if !has_tool("strace", "a list with an interrupted removal") {
        return;
    }
    let world = World::new();
    for number in 0..9 {
        world.file(format!("tmp/tree/{number}"), 40 * DAY);
    }
    world.age_dirs("tmp/tree", 40 * DAY);
    assert_eq!(tampered(&world, "unlinkat", "error=EIO:when=3").status.code(), Some(1));
    let names = super::tmp(&world);
    let list = world.root.with_file_name("list");
    let paths: Vec<String> = names.iter().map(|name| format!("tmp/{name}\0")).collect();
    fs::write(&list, paths.concat()).unwrap();
    let args = ["run", "--format", "json", "--from0", list.to_str().unwrap()];
    let run: Run = world.run(&args);
    let report = run.exits(0).json();
    assert_counts(&report, "tmp", &[("seen", 0), ("removed", 0)]);
    let notes = zone(&report, "tmp")["notes"].to_string();
    assert!(notes.contains("the list names a private directory"), "{notes}");
    assert_eq!(super::tmp(&world), names);
    let report = world.run(&["run", "--format", "json"]).exits(0).json();
    assert_counts(&report, "tmp", &[("seen", 1), ("removed", 1)]);
}
