//! A zone that another process has locked: it waits for its own lock, and no other zone does.

use std::path::Path;

use super::exclusive::at_work;
use super::metrics::{address, get};
use super::{Serving, export};
use crate::wait::wait_until;
use crate::world::{DAY, World, assert_counts, export_name};

/// A memory file system has the same device number everywhere, so the kernel shows who has locked a directory.
fn world() -> World {
    World::in_dir(Path::new("/dev/shm"))
}

fn ours() -> String {
    format!("process {} (", std::process::id())
}

#[test]
fn a_lock_on_one_zone_stops_no_other_zone_and_health_names_its_holder() {
    let world = world();
    let held = at_work(&world, "tmp");
    export(&world, 1, 2 * DAY);
    world.file("tmp/old", 20 * DAY);
    let mut service = Serving::on(&world, &["--every", "1s", "--at-start", "--listen", "0"]);
    let address = address(&mut service);
    for number in 1..4 {
        export(&world, number, 2 * DAY);
        let path = world.path("cache/export").join(export_name(number));
        wait_until("exports are swept all the same", || !path.exists());
    }
    wait_until("unhealthy after a period", || get(&address, "GET /healthz").0 == 503);
    let (_, text) = get(&address, "GET /healthz");
    let line = |zone: &str| {
        let line = text.lines().find(|line| line.starts_with(&format!("{zone}: ")));
        line.unwrap_or_else(|| panic!("{text}")).to_owned()
    };
    assert!(line("tmp").contains("no pass yet; a pass has been due since "), "{text}");
    assert!(line("tmp").contains(&ours()), "{text}");
    assert!(line("export").ends_with("without problems"), "{text}");
    assert!(world.has("tmp/old"));
    drop(held);
    wait_until("the zone has its turn", || !world.has("tmp/old"));
    wait_until("healthy again", || get(&address, "GET /healthz").0 == 200);
    let run = service.stop_any_time();
    assert_eq!(run.stderr.matches("waiting for it").count(), 1, "it is said once: {}", run.stderr);
}

#[test]
fn a_zone_that_waits_is_healthy_until_it_is_due_again() {
    let world = world();
    let _held = at_work(&world, "tmp");
    let schedule = ["--schedule", "tmp=0 0 1 1 *", "--schedule", "export=0 0 1 1 *"];
    let args = [&["--at-start", "--listen", "0"][..], &schedule].concat();
    let mut service = Serving::on(&world, &args);
    let address = address(&mut service);
    assert!(service.says("waiting for it").contains(&ours()), "{}", service.said);
    wait_until("health knows", || get(&address, "GET /healthz").1.contains(&ours()));
    assert_eq!(get(&address, "GET /healthz").0, 200);
    service.stop_any_time();
}

#[test]
fn a_run_that_waits_sweeps_its_other_zones_first() {
    let world = world();
    let held = at_work(&world, "cache/export");
    export(&world, 1, 2 * DAY);
    world.file("tmp/old", 20 * DAY);
    let args = ["run", "--if-running", "wait", "--format", "json"];
    let mut waiting = Serving::start(world.command(&args));
    waiting.says("waiting for it");
    wait_until("the other zone is swept", || !world.has("tmp/old"));
    assert!(world.path("cache/export").join(export_name(1)).exists());
    drop(held);
    let (run, _) = waiting.ends();
    let report = run.exits(0).json();
    assert_counts(&report, "export", &[("seen", 1), ("removed", 1)]);
    assert_counts(&report, "tmp", &[("seen", 1), ("removed", 1)]);
    let zones = report["zones"].as_array().unwrap();
    assert_eq!((&zones[0]["zone"], &zones[1]["zone"]), (&"export".into(), &"tmp".into()));
}

#[test]
fn what_is_used_while_a_run_waits_counts_as_used() {
    let world = world();
    let held = at_work(&world, "tmp");
    world.file("tmp/old", 20 * DAY);
    world.file("tmp/used", 20 * DAY);
    // At the real time, two days ahead of the moment that other tests judge at.
    let mut command = crate::world::sweeper(&["run", "--if-running", "wait", "--data"]);
    command.arg(&world.root);
    let mut waiting = Serving::start(command);
    waiting.says("waiting for it");
    std::fs::write(world.path("tmp/used"), "again").unwrap();
    drop(held);
    waiting.ends().0.exits(0);
    assert!(!world.has("tmp/old") && world.has("tmp/used"));
}

#[test]
fn a_run_that_is_stopped_while_it_waits_reports_what_it_did() {
    let world = world();
    let _held = at_work(&world, "tmp");
    export(&world, 1, 2 * DAY);
    world.file("tmp/old", 20 * DAY);
    let args = ["run", "--if-running", "wait", "--format", "json"];
    let mut waiting = Serving::start(world.command(&args));
    waiting.says("waiting for it");
    let path = world.path("cache/export").join(export_name(1));
    wait_until("the other zone is swept", || !path.exists());
    let (run, _) = waiting.stop();
    let report = run.exits(3).json();
    assert_eq!(report["stopped"], "signal");
    assert_counts(&report, "export", &[("removed", 1)]);
    assert_counts(&report, "tmp", &[("removed", 0)]);
    assert!(world.has("tmp/old"));
}

#[test]
fn a_service_that_stands_by_says_so_until_it_is_stopped() {
    let world = world();
    let _held = at_work(&world, ".");
    let schedule = ["--schedule", "tmp=0 0 1 1 *", "--every", "1s"];
    let mut service = Serving::on(&world, &[&["--listen", "0"][..], &schedule].concat());
    let address = address(&mut service);
    assert!(service.says("waiting for it").contains(&ours()), "{}", service.said);
    let page = || get(&address, "GET /healthz");
    wait_until("unhealthy after a period", || page().0 == 503);
    let (_, text) = page();
    assert_eq!(text.matches("standing by: process").count(), 2, "{text}");
    assert!(text.contains(&ours()), "{text}");
    let (run, _) = service.stop();
    let stderr = &run.exits(0).stderr;
    assert!(stderr.contains("stopped while standing by"), "{stderr}");
    assert!(!stderr.contains("serving;"), "{stderr}");
}
