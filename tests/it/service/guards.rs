//! Guards and the audit log of a service.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::{Serving, export, reports, serve};
use crate::wait::wait_until;
use crate::world::{DAY, Run, World, export_name, zone};

fn path(world: &World, number: u32) -> PathBuf {
    world.path("cache/export").join(export_name(number))
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().count() == 0
}

#[test]
fn the_first_pass_over_a_zone_removes_at_most_nine_of_ten_unless_told_otherwise() {
    for args in [&[][..], &["--max-share", "100%"]] {
        let world = World::new();
        for number in 0..10 {
            export(&world, number, 2 * DAY);
        }
        let all = ["--every", "1s", "--at-start", "--format", "jsonl"];
        let mut service = Serving::on(&world, &[&all[..], args].concat());
        service.says("serving");
        wait_until("a pass that removes", || is_empty(&world.path("cache/export")));
        let reports = reports(&service.stop_any_time());
        let first = zone(&reports[0], "export");
        if args.is_empty() {
            assert_eq!(
                (&reports[0]["stopped"], &reports[0]["exit"]),
                (&"max_share".into(), &3.into())
            );
            assert_eq!(first["removed"], 0);
            let notes = first["notes"].to_string();
            assert!(notes.contains("remove 10 of 10 entries of this zone, 1 more than"), "{notes}");
            assert!(notes.contains("the default for the first pass of a service"), "{notes}");
            assert!(notes.contains("The next pass does not have this limit"), "{notes}");
            // The operator had the time until the next pass.
            assert_eq!(zone(&reports[1], "export")["removed"], 10);
        } else {
            assert_eq!(first["removed"], 10);
        }
    }
}

#[test]
fn each_pass_of_a_service_writes_to_the_log_that_has_the_name_at_that_moment() {
    let world = World::new();
    export(&world, 1, 2 * DAY);
    let log = world.root.parent().unwrap().join("audit.log");
    let args = ["--every", "1s", "--at-start", "--audit-log", log.to_str().unwrap()];
    let mut service = Serving::on(&world, &args);
    service.says("serving");
    wait_until("the first pass", || !path(&world, 1).exists());
    let old = log.with_extension("1");
    fs::rename(&log, &old).unwrap();
    service.signal(Signal::HUP);
    service.says("settings reloaded");
    export(&world, 2, 2 * DAY);
    wait_until("the next pass", || !path(&world, 2).exists());
    service.stop_any_time();
    for (log, number) in [(&old, 1), (&log, 2)] {
        let text = fs::read_to_string(log).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(&export_name(number)), "{text}");
    }
    let refused = Run::of(serve(&world, &["--audit-log", "/dev/full"]));
    assert!(refused.exits(2).stderr.contains("not a regular file"), "{}", refused.stderr);
}

#[test]
fn a_service_that_begins_to_remove_has_the_guard_of_a_first_pass_and_is_the_only_one() {
    let world = World::new();
    for number in 0..10 {
        export(&world, number, 2 * DAY);
    }
    let file = world.file_of("settings.toml", 0, b"dry_run = true\n");
    let args = ["--config", file.to_str().unwrap(), "--every", "1s", "--at-start"];
    let args = [&args[..], &["--format", "jsonl"]].concat();
    let mut service = Serving::on(&world, &args);
    service.says("serving");
    while !service.prints().contains("\"dry_run\":true") {}
    let mut other = Serving::on(&world, &["--every", "1h"]);
    other.says("serving");
    fs::write(&file, "dry_run = false\n").unwrap();
    service.signal(Signal::HUP);
    let refused = service.says("settings not reloaded");
    assert!(refused.contains("already serves"), "{refused}");
    other.stop_any_time();
    service.signal(Signal::HUP);
    service.says("settings reloaded");
    wait_until("a pass that removes", || is_empty(&world.path("cache/export")));
    // There and back again: it is not in its own way.
    for dry_run in [true, false] {
        fs::write(&file, format!("dry_run = {dry_run}\n")).unwrap();
        service.signal(Signal::HUP);
        service.says("settings reloaded");
    }
    let reports = reports(&service.stop_any_time());
    let dry = reports.iter().take_while(|report| report["dry_run"] == true).count();
    let (first, next) = (&reports[dry], &reports[dry + 1]);
    assert_eq!((&first["stopped"], &first["exit"]), (&"max_share".into(), &3.into()));
    assert_eq!(zone(first, "export")["removed"], 0);
    assert_eq!(zone(next, "export")["removed"], 10);
}
