//! What has expired, what will, and which command removes it: compared with dry runs of these commands.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{area, measured, volume};
use crate::interrupted::{has_strace, tampered};
use crate::start::written;
use crate::world::{DAY, HOUR, Run, World, export_name, is_present, sweeper, zone};

/// What a dry run at another moment would free in each of its zones.
fn dry_run(world: &World, args: &[&str], now: &str) -> Value {
    let mut command = sweeper(args);
    command.args(["--dry-run", "--format", "json", "--now", now, "--data"]).arg(&world.root);
    Run::of(command).exits(0).json()
}

#[test]
fn what_has_expired_is_what_the_named_command_would_free() {
    for seed in 20..26 {
        let world = volume(seed);
        let usage = measured(&world, &[]);
        for (name, command) in [
            ("export", "run"),
            ("tmp", "run"),
            ("instance-tmp", "run --zones instance-tmp"),
            ("chunk-cache", "run --zones chunk-cache"),
            ("legacy", "legacy"),
        ] {
            let area = area(&usage, name);
            assert_eq!(area["removed_by"], format!("sweeper {command}"));
            let args: Vec<&str> = command.split(' ').collect();
            let report = dry_run(&world, &args, crate::world::NOW);
            let freed = &zone(&report, name)["freed_bytes"];
            assert_eq!(area["expired_bytes"], *freed, "{name}, seed {seed}");
        }
        for name in ["media", "assets", "events", "other"] {
            assert_eq!(area(&usage, name)["removed_by"], Value::Null, "{name}");
        }
    }
}

#[test]
fn the_forecast_is_what_a_run_at_that_time_would_free_besides() {
    let world = volume(30);
    let usage = measured(&world, &[]);
    // The moments that are as far from the present as the forecast looks.
    let moments = [
        ("2026-01-02T04:04:05Z", HOUR),
        ("2026-01-02T09:04:05Z", 6 * HOUR),
        ("2026-01-03T03:04:05Z", DAY),
        ("2026-01-05T03:04:05Z", 3 * DAY),
        ("2026-01-09T03:04:05Z", 7 * DAY),
        ("2026-01-16T03:04:05Z", 14 * DAY),
        ("2026-02-01T03:04:05Z", 30 * DAY),
    ];
    let freed =
        |now: &str| dry_run(&world, &["run"], now)["totals"]["freed_bytes"].as_u64().unwrap();
    let now = freed(crate::world::NOW);
    let forecast = usage["forecast"].as_array().unwrap();
    assert_eq!(forecast.len(), moments.len());
    for ((moment, within), expected) in moments.into_iter().zip(forecast) {
        assert_eq!(expected["within_s"], within);
        assert_eq!(expected["allocated_bytes"], freed(moment) - now, "{moment}");
    }
    assert!(forecast[6]["allocated_bytes"].as_u64() > Some(0), "{forecast:?}");
}

#[test]
fn settings_decide_as_in_a_run() {
    let world = World::new();
    world.file(format!("cache/export/{}", export_name(1)), 2 * HOUR);
    world.file(format!("cache/export/{}", export_name(2)), 3 * DAY);
    let expired = |args: &[&str]| area(&measured(&world, args), "export")["expired_bytes"].clone();
    assert_eq!(expired(&[]), 4096);
    assert_eq!(expired(&["--ttl", "1h"]), 8192);
    assert_eq!(expired(&["--ttl", "1h", "--exclude", "task-1-*"]), 4096);
    assert_eq!(expired(&["--ttl-task", "30d"]), 0);
    let usage = measured(&world, &["--exclude", "task-1-*"]);
    assert_eq!(usage["forecast"][2]["allocated_bytes"], 0, "what is excluded never expires");
}

#[test]
fn zones_of_the_settings_file_are_measured_with_and_without_a_profile() {
    let world = World::new();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("old.log"), [b'x'; 9000]).unwrap();
    crate::world::set_age(&outside.path().join("old.log"), 10 * DAY);
    world.file("labels/label-1.zip", 10 * DAY);
    world.file("labels/label-2.zip", HOUR);
    world.file("labels/other", 10 * DAY);
    let zones = format!(
        "[[zone]]\nname = \"labels\"\npath = \"labels\"\nentry = \"file\"\nnames = ['label-\\d+\\.zip']\n\
         used = \"mtime\"\nttl = \"7d\"\n\
         [[zone]]\nname = \"logs-of-another\"\npath = {:?}\nentry = \"file\"\nnames = ['.*\\.log']\n\
         used = \"mtime\"\nttl = \"7d\"\n",
        outside.path()
    );
    let file = outside.path().with_extension("toml");
    std::fs::write(&file, zones).unwrap();
    for profile in ["cvat", "none"] {
        let usage = measured(&world, &["--profile", profile, "--config", file.to_str().unwrap()]);
        let labels = area(&usage, "labels");
        assert_eq!((&labels["entries"], &labels["expired_bytes"]), (&3.into(), &4096.into()));
        assert_eq!(labels["removed_by"], "sweeper run");
        let logs = area(&usage, "logs-of-another");
        assert_eq!((&logs["in_data_root"], &logs["entries"]), (&false.into(), &1.into()));
        assert_eq!(super::counts(logs), super::du(outside.path()));
        assert_eq!(super::counts(&usage["totals"]), super::du(&world.root), "{profile}");
        let has_media = usage["areas"].as_array().unwrap().iter().any(|it| it["area"] == "media");
        assert_eq!(has_media, profile == "cvat");
    }
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_zone_whose_directory_is_elsewhere_is_measured_there() {
    let world = World::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let (scratch, settings) = (elsewhere.path().join("tmp"), elsewhere.path().join("s.toml"));
    std::fs::create_dir(&scratch).unwrap();
    for (name, age) in [("old", 20 * DAY), ("keep-old", 20 * DAY), ("fresh", HOUR)] {
        written(|| std::fs::write(scratch.join(name), [b'x'; 9000])).unwrap();
        crate::world::set_age(&scratch.join(name), age);
    }
    // What is still below the data root is in no zone.
    world.file("tmp/old", 20 * DAY);
    std::fs::write(&settings, format!("[zones.tmp]\npath = {scratch:?}\n")).unwrap();
    let args = ["--config", settings.to_str().unwrap(), "--exclude", "tmp/keep-*"];
    let usage = measured(&world, &args);
    let tmp = area(&usage, "tmp");
    assert_eq!((&tmp["path"], &tmp["in_data_root"]), (&scratch.to_str().into(), &false.into()));
    assert_eq!((&tmp["entries"], super::counts(tmp)), (&3.into(), super::du(&scratch)));
    let report = dry_run(&world, &[&["run"], &args[..]].concat(), crate::world::NOW);
    assert_eq!(tmp["expired_bytes"], zone(&report, "tmp")["freed_bytes"]);
    assert!(tmp["expired_bytes"].as_u64() > Some(0));
    assert_eq!(super::counts(&usage["totals"]), super::du(&world.root));
}

#[test]
fn what_a_pass_keeps_for_other_reasons_than_its_age_has_not_expired() {
    let world = World::new();
    let old = 20 * DAY;
    // Files that were removed while they were open, by name and in a tree.
    world.file("tmp/.nfs0123456789abcdef01234567", old);
    world.file("tmp/tree/.fuse_hidden0123456789abcdef", old);
    world.file("tmp/tree/other", old);
    // What a pass that was killed has left behind.
    world.file("tmp/.sweeper-0123456789abcdef/file", old);
    world.file("tmp/lost+found/file", old);
    world.file("tmp/gone", old);
    world.age_dirs("tmp", old);
    let usage = measured(&world, &[]);
    let report = dry_run(&world, &["run"], crate::world::NOW);
    let (tmp, swept) = (area(&usage, "tmp"), zone(&report, "tmp"));
    assert_eq!((&swept["removed"], &swept["skipped"]), (&1.into(), &2.into()), "{report:#}");
    assert_eq!(tmp["expired_bytes"], swept["freed_bytes"]);
    assert_eq!(super::counts(tmp), super::du(&world.path("tmp")));
}

#[test]
fn what_an_interrupted_run_has_left_is_counted_and_judged_as_by_the_next_run() {
    if !has_strace() {
        return;
    }
    for (call, when) in
        [("renameat2", 2), ("renameat2", 3), ("unlinkat", 1), ("unlinkat", 20), ("unlinkat", 60)]
    {
        let world = World::new();
        for tree in ["a", "b", "c"] {
            for file in 0..20 {
                world.file(format!("tmp/{tree}/sub/{file}"), 20 * DAY);
                world.file(format!("tmp/{tree}/{file}"), 20 * DAY);
            }
        }
        world.file("tmp/fresh/file", DAY);
        world.age_dirs("tmp", 20 * DAY);
        tampered(&world, call, &format!("signal=KILL:when={when}"));
        for args in [&[][..], &["--tmp-age", "entry"], &["--exclude", "tmp/a"], &["--exclude", "c"]]
        {
            let usage = measured(&world, args);
            let (tmp, about) = (area(&usage, "tmp"), format!("{call} {when} {args:?}"));
            // What is in part removed and excluded is a failure.
            let report = world.run(&[&["run", "--dry-run", "--format", "json"], args].concat());
            let report = report.json();
            let swept = zone(&report, "tmp");
            assert_eq!(tmp["entries"], swept["seen"], "{about}: {report:#}");
            assert_eq!(tmp["expired_bytes"], swept["freed_bytes"], "{about}: {report:#}");
        }
        // `du` moves the atimes of directories.
        let measured = measured(&world, &[]);
        assert_eq!(super::counts(area(&measured, "tmp")), super::du(&world.path("tmp")), "{when}");
        let left = std::fs::read_dir(world.path("tmp")).unwrap().flatten();
        let mut names = left.map(|entry| entry.file_name().into_string().unwrap());
        assert!(names.any(|name| name.starts_with(".sweeper-")), "{call} {when}");
    }
}

#[test]
fn the_object_is_what_the_published_schema_says() {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema/usage-1.schema.json");
    let python = std::env::var_os("SWEEPER_TESTS_PYTHON").map(PathBuf::from);
    let checker = python.map(|python| python.with_file_name("check-jsonschema"));
    let checker = checker.filter(|checker| checker.exists());
    if !is_present(checker.is_some(), "check-jsonschema") {
        return;
    }
    let world = volume(60);
    let object = tempfile::NamedTempFile::new().unwrap();
    let check = |text: &str| {
        std::fs::write(object.path(), text).unwrap();
        let mut command = Command::new(checker.as_ref().unwrap());
        command.arg("--schemafile").arg(&schema).arg(object.path());
        Run::of(command)
    };
    let text = world.run(&["usage", "--format", "json"]).exits(0).stdout.clone();
    check(&text).exits(0);
    // Every key is described.
    let described: Value =
        serde_json::from_str(&std::fs::read_to_string(&schema).unwrap()).unwrap();
    let usage: Value = serde_json::from_str(&text).unwrap();
    for (object, schema) in [
        (&usage, &described),
        (&usage["areas"][0], &described["$defs"]["area"]),
        (&usage["kinds"][0], &described["$defs"]["kind"]),
        (&usage["owners"][0], &described["$defs"]["owner"]),
        (&usage["unreachable"][0], &described["$defs"]["unreachable"]),
        (&usage["ages"][0], &described["$defs"]["range"]),
        (&usage["volume"], &described["$defs"]["volume"]),
    ] {
        for key in object.as_object().unwrap().keys() {
            assert!(schema["properties"].get(key).is_some(), "{key}");
        }
    }
    check(&text.replace("\"allocated_bytes\"", "\"bytes\"")).exits(1);
}
