//! Guards, plans and the audit log where zones are swept one after the other, because another sweeper has
//! locked one of them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::exclusive::at_work;
use super::{Serving, export, reports};
use crate::wait::wait_until;
use crate::world::{DAY, Run, World, assert_counts, export_name, zone};

/// One entry in each zone that has expired.
fn world() -> World {
    let world = World::new();
    export(&world, 1, 2 * DAY);
    world.file("tmp/old", 20 * DAY);
    world
}

fn path(world: &World, number: u32) -> PathBuf {
    world.path("cache/export").join(export_name(number))
}

fn beside(world: &World, name: &str) -> PathBuf {
    world.root.parent().unwrap().join(name)
}

/// A run that waits for the exports, and what it says until then.
fn waiting(world: &World, args: &[&str]) -> (File, Serving) {
    let held = at_work(world, "cache/export");
    let args = [&["run", "--if-running", "wait", "--format", "json"], args].concat();
    let mut waiting = Serving::start(world.command(&args));
    waiting.says("waiting for it");
    (held, waiting)
}

fn lines(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_zone_that_waits_is_counted_before_any_other_is_swept() {
    let world = world();
    let _held = at_work(&world, "cache/export");
    let before = world.snapshot();
    for guard in [["--max-removals", "1"], ["--max-share", "99%"]] {
        // Without the guard it would wait for the exports until the deadline.
        let wait = ["run", "--if-running", "wait", "--deadline", "60s", "--format", "json"];
        let args = [&wait, &guard[..]].concat();
        let report = world.run(&args).exits(3).json();
        assert_eq!(report["totals"]["removed"], 0);
        let notes = zone(&report, "export")["notes"].to_string();
        assert!(notes.contains("nothing was removed"), "{report:#}");
        assert_eq!(world.snapshot(), before, "{guard:?}");
    }
}

#[test]
fn guards_hold_for_all_turns_of_a_pass_together() {
    let world = world();
    let (held, waiting) = waiting(&world, &["--max-removals", "2"]);
    wait_until("the other zone is swept", || !world.has("tmp/old"));
    // More than was counted when the pass began.
    for number in 2..5 {
        export(&world, number, 2 * DAY);
    }
    drop(held);
    let report = waiting.ends().0.exits(3).json();
    assert_eq!(report["stopped"], "max_removals");
    assert_counts(&report, "export", &[("removed", 1)]);
    assert_counts(&report, "tmp", &[("removed", 1)]);
    assert_eq!(fs::read_dir(world.path("cache/export")).unwrap().count(), 3);
    let notes = report["zones"].to_string();
    assert!(notes.contains("more has expired than when the pass began"), "{report:#}");
}

#[test]
fn all_turns_of_a_pass_write_to_one_audit_log() {
    let world = world();
    let log = beside(&world, "audit.log");
    let (held, waiting) = waiting(&world, &["--audit-log", log.to_str().unwrap()]);
    wait_until("the other zone is swept", || !world.has("tmp/old"));
    drop(held);
    waiting.ends().0.exits(0);
    let lines = lines(&log);
    let paths: Vec<&str> = lines.iter().map(|line| line["path"].as_str().unwrap()).collect();
    assert_eq!(paths, [world.path("tmp/old"), path(&world, 1)].map(PathBuf::into_os_string));
    assert_eq!(lines[0]["run"], lines[1]["run"]);
}

#[test]
fn a_zone_that_is_left_alone_does_not_count() {
    let world = world();
    let _held = at_work(&world, "cache/export");
    let report = world.run(&["run", "--format", "json", "--max-removals", "1"]).exits(4).json();
    assert_eq!(report["stopped"], Value::Null);
    assert_counts(&report, "tmp", &[("removed", 1)]);
    assert!(path(&world, 1).exists());
}

#[test]
fn a_plan_is_applied_in_one_turn() {
    let world = world();
    let plan = beside(&world, "plan");
    let plan = plan.to_str().unwrap();
    world.run(&["plan", "-o", plan]).exits(0);
    let held = at_work(&world, "cache/export");
    // Without a wait: what is in the other zone.
    Run::exits(&world.run(&["apply", plan]), 4);
    assert!(path(&world, 1).exists() && !world.has("tmp/old"));
    world.file("tmp/another", 20 * DAY);
    world.run(&["plan", "-o", plan]).exits(0);
    let args = ["apply", plan, "--if-running", "wait", "--format", "json"];
    let mut waiting = Serving::start(world.command(&args));
    waiting.says("waiting for it");
    drop(held);
    let report = waiting.ends().0.exits(0).json();
    assert_counts(&report, "export", &[("removed", 1)]);
    assert_counts(&report, "tmp", &[("removed", 1)]);
}

#[test]
fn a_zone_that_was_locked_is_still_to_have_its_guarded_first_pass() {
    let world = World::new();
    for number in 0..10 {
        export(&world, number, 2 * DAY);
    }
    world.file("tmp/old", 20 * DAY);
    let held = at_work(&world, "cache/export");
    let args = ["--every", "1s", "--at-start", "--format", "jsonl"];
    let mut service = Serving::on(&world, &args);
    service.says("waiting for it");
    wait_until("the other zone is swept", || !world.has("tmp/old"));
    drop(held);
    wait_until("the exports are swept", || !path(&world, 0).exists());
    let reports = reports(&service.stop_any_time());
    let mut passes = reports.iter().filter(|report| {
        let zones = report["zones"].as_array().unwrap();
        zones.iter().any(|zone| zone["zone"] == "export")
    });
    let first = passes.next().unwrap();
    assert_eq!((&first["stopped"], &first["exit"]), (&"max_share".into(), &3.into()), "{first:#}");
    assert_eq!(zone(first, "export")["removed"], 0);
    assert!(passes.any(|pass| zone(pass, "export")["removed"] == 10));
}
