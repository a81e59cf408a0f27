//! A zone of CVAT whose directory is elsewhere: the settings file names the real place.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::world::{DAY, HOUR, Run, World, assert_counts, export_name, set_age, zone};

/// A data root with `tmp` on another disk, as a link.
fn linked() -> (World, PathBuf) {
    let world = World::new();
    let scratch = world.root.parent().unwrap().join("scratch/tmp");
    fs::create_dir_all(&scratch).unwrap();
    fs::remove_dir(world.path("tmp")).unwrap();
    symlink(&scratch, world.path("tmp")).unwrap();
    for (name, age) in [("old", 20 * DAY), ("keep-old", 20 * DAY), ("fresh", HOUR)] {
        let path = scratch.join(name);
        crate::start::written(|| fs::write(&path, "abcd")).unwrap();
        set_age(&path, age);
    }
    (world, scratch)
}

fn with_settings(world: &World, text: &str, args: &[&str]) -> Run {
    let path = world.root.parent().unwrap().join("settings.toml");
    fs::write(&path, text).unwrap();
    let mut command = world.command(args);
    command.arg("--config").arg(path);
    Run::of(command)
}

#[test]
fn a_zone_that_is_a_link_fails_and_the_error_says_what_to_do() {
    let (world, scratch) = linked();
    let report = world.run(&["run", "--format", "json"]).exits(1).json();
    let said = report["failures"][0]["message"].to_string();
    assert!(said.contains("links are not followed"), "{said}");
    assert!(said.contains("absolute path as the zone's path in the settings file"), "{said}");
    assert!(scratch.join("old").exists());
}

#[test]
fn the_real_place_is_swept_under_the_name_of_the_zone() {
    let (world, scratch) = linked();
    let text = format!("[zones]\nsweep = ['tmp']\n[zones.tmp]\npath = {scratch:?}\n");
    let args = ["--exclude", "tmp/keep-*", "--format", "jsonl"];
    let dry = with_settings(&world, &text, &[&["run", "--dry-run"], &args[..]].concat());
    assert_counts(&dry.exits(0).json(), "tmp", &[("removed", 1)]);
    // A list may name either path.
    let list = world.root.parent().unwrap().join("list");
    fs::write(&list, format!("{}\0tmp/fresh\0", scratch.join("old").display())).unwrap();
    let from0 = ["run", "--dry-run", "--format", "json", "--from0", list.to_str().unwrap()];
    let listed = with_settings(&world, &text, &from0);
    assert_counts(&listed.exits(0).json(), "tmp", &[("removed", 1), ("kept", 1), ("seen", 2)]);
    for path in [world.path("tmp/old"), scratch.join("old")] {
        let why = with_settings(&world, &text, &["why", path.to_str().unwrap()]);
        assert!(why.exits(0).stdout.contains("zone      tmp"), "{}", why.stdout);
        assert!(why.stdout.contains("would remove it"), "{}", why.stdout);
    }
    let run = with_settings(&world, &text, &[&["run"], &args[..]].concat());
    let report = run.exits(0).json();
    assert_counts(&report, "tmp", &[("removed", 1), ("kept_by.excluded", 1), ("seen", 3)]);
    assert_eq!(zone(&report, "tmp")["path"], scratch.to_str().unwrap());
    assert!(run.outcomes().contains_key(&scratch.join("old")), "{}", run.stdout);
    assert!(!scratch.join("old").exists() && scratch.join("keep-old").exists());
    let shown = with_settings(&world, &text, &["config", "--format", "json"]);
    assert_eq!(shown.json()["zones.tmp"]["value"], scratch.to_str().unwrap());
    assert_eq!(shown.json()["zones"]["value"], "tmp");
}

#[test]
fn an_absolute_path_in_the_settings_file_that_is_not_there_is_a_failure_of_its_zone() {
    let world = World::new();
    let export = world.file(Path::new("cache/export").join(export_name(1)), 2 * DAY);
    world.file("tmp/old", 20 * DAY);
    let own = "[[zone]]\nname = 'tmp-2'\nentry = 'tree'\nttl = '1d'\npath = ";
    for (zone, head) in [("tmp", "[zones.tmp]\npath = "), ("tmp-2", own)] {
        let text = format!("{head}'/no/such/place'\n");
        for args in [&["run", "--dry-run"][..], &["run"]] {
            let args = [args, &["--format", "json"]].concat();
            let report = with_settings(&world, &text, &args).exits(1).json();
            assert_counts(&report, zone, &[("seen", 1), ("failed", 1)]);
            assert_eq!(report["failures"][0]["path"], "/no/such/place");
            let message = report["failures"][0]["message"].as_str().unwrap();
            assert!(message.contains("check the path in the settings file"), "{message}");
        }
        let run = with_settings(&world, &text, &["run", "-q"]);
        assert!(run.exits(1).stdout.contains("/no/such/place"), "{}", run.stdout);
        assert_eq!(world.has("tmp/old"), zone == "tmp", "no other directory takes its place");
    }
    assert!(!export.exists(), "the other zones are swept");
    // Below the data root, it may not have been created yet.
    let text = format!("{own}'later'\n");
    let report = with_settings(&world, &text, &["run", "--format", "json"]).exits(0).json();
    assert!(zone(&report, "tmp-2")["notes"].to_string().contains("does not exist"));
}

#[test]
fn a_wrong_place_is_refused_with_its_line() {
    let (world, scratch) = linked();
    let inside = world.dir("inside", 0);
    let above = world.root.parent().unwrap().to_owned();
    for (zone, path, words) in [
        ("tmp", "scratch/tmp".to_owned(), "write an absolute path"),
        ("tmp", "/mnt/../etc".to_owned(), "a path has no .."),
        ("tmp", "/etc".to_owned(), "it is a system directory"),
        ("tmp", inside.display().to_string(), "it is below the data root"),
        ("tmp", above.display().to_string(), "it contains the data root"),
        ("temp", scratch.display().to_string(), "did you mean zones.tmp?"),
        ("instance-tmp", scratch.display().to_string(), "several directories"),
    ] {
        let text = format!("jobs = 1\n[zones.{zone}]\npath = '{path}'\n");
        let run = with_settings(&world, &text, &["run"]);
        let said = &run.exits(2).stderr;
        assert!(said.contains(words) && said.contains("line 3"), "{words}: {said}");
    }
    assert!(scratch.join("old").exists());
}
