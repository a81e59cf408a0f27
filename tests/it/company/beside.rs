//! Other sweepers, CVAT's cleaner, exporters and readers of the report at the same time.

use std::io::Read;
use std::process::{Command, Stdio};

use super::{Other, count, export, outcome_of};
use crate::start::Start;
use crate::world::{DAY, Run, World, assert_counts, set_age};

#[test]
fn three_sweepers_at_once_share_the_work_and_none_fails() {
    let world = World::new();
    for number in 0..3000 {
        export(&world, number, 2 * DAY);
    }
    for number in 0..150 {
        for file in 0..10 {
            world.file(format!("tmp/tree-{number}/sub/file-{file}"), 20 * DAY);
        }
    }
    world.age_dirs("tmp", 20 * DAY);
    let start = || {
        let mut command = world.command(&["run", "--format", "json", "--lock-wait", "1s"]);
        command.args(["--if-running", "share"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).start().unwrap()
    };
    let all = [start(), start(), start()];
    let runs = all.map(|child| Run::from(child.wait_with_output().unwrap()));
    let mut removed = 0;
    for run in &runs {
        let report = run.exits(0).json();
        let totals = &report["totals"];
        assert_eq!(totals["failed"], 0, "{report:#}");
        removed += totals["removed"].as_u64().unwrap();
    }
    world.run(&["run"]).exits(0);
    for dir in ["cache/export", "tmp"] {
        let left: Vec<_> = std::fs::read_dir(world.path(dir)).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
    // Each entry was removed at most once. What one of them skipped because another was working on it,
    // the last pass removed.
    assert!(removed <= 3150, "{removed}");
}

#[test]
fn cvats_own_cleaner_at_the_same_time_causes_no_failure() {
    let world = World::new();
    for number in 0..3000 {
        export(&world, number, 2 * DAY);
    }
    for number in 0..100 {
        world.file(format!("tmp/tree-{number}/sub/file"), 20 * DAY);
    }
    world.age_dirs("tmp", 20 * DAY);
    // Its loop without the lock, which flock does not see anyway: unlink and rmtree.
    let script = "import os, shutil, sys\nroot = sys.argv[1]\nprint('ready', flush=True)\n\
        for e in os.scandir(root + '/cache/export'):\n    try: os.unlink(e.path)\n    except OSError: pass\n\
        for e in os.scandir(root + '/tmp'): shutil.rmtree(e.path, ignore_errors=True)\n";
    let mut command = Command::new("python3");
    command.arg("-c").arg(script).arg(&world.root);
    let other = Other::ready(command);
    let report = world.run(&["run", "--format", "json"]);
    let report = report.exits(0).json();
    assert_eq!(report["totals"]["failed"], 0, "{report:#}");
    drop(other);
}

#[test]
fn an_export_that_is_requested_again_is_kept() {
    let world = World::new();
    let path = export(&world, 1, 2 * DAY);
    // CVAT sets the times of a cached export to now when it is requested again.
    set_age(&path, 0);
    let report = world.run(&["run", "--format", "json"]);
    assert_counts(&report.exits(0).json(), "export", &[("kept_by.fresh", 1)]);
    // Only mtime counts: a read does not.
    crate::world::set_times(&path, 0, 2 * DAY);
    assert_eq!(outcome_of(&world, &path, &[]), "removed");
}

#[test]
fn a_reader_of_the_report_that_closes_its_pipe_does_not_stop_the_pass() {
    let world = World::new();
    for number in 0..200 {
        export(&world, number, 2 * DAY);
    }
    let mut command = world.command(&["run", "--format", "jsonl"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).start().unwrap();
    let mut first = [0];
    let mut out = child.stdout.take().unwrap();
    assert_eq!(out.read(&mut first).unwrap(), 1);
    drop(out);
    assert!(child.wait().unwrap().success());
    assert_eq!(count(world.path("cache/export")), 0);
}
