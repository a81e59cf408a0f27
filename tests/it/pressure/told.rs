//! What the other commands say about pressure: `why` tells what may go early, and a plan has no such entries.

use std::path::Path;

use crate::world::{DAY, HOUR, MINUTE, Run, World, export_name};

fn why(world: &World, path: &str, settings: &[(&str, &str)]) -> String {
    let path = world.path(path);
    let mut command = world.command(&["why", path.to_str().unwrap()]);
    command.envs(settings.iter().copied());
    Run::of(command).exits(0).stdout.clone()
}

#[test]
fn why_says_what_may_go_before_it_expires_and_when() {
    let world = World::new();
    let export = |number| format!("cache/export/{}", export_name(number));
    for (number, age) in [(0, 2 * HOUR), (1, 10 * MINUTE), (2, 2 * HOUR), (3, 2 * HOUR)] {
        world.file(export(number), age);
    }
    std::fs::hard_link(world.path(export(2)), world.path("other-name")).unwrap();
    world.file("tmp/tree/file", 3 * DAY);
    world.age_dirs("tmp", 3 * DAY);
    let mark = ("SWEEPER_PRESSURE", "85%");
    assert!(!why(&world, &export(0), &[]).contains("early"), "no setting asks for that");
    let full = "more than 85% of the disk is in use";
    let said = why(&world, &export(0), &[mark]);
    assert!(
        said.contains(&format!("early     may be removed before that when {full}\n")),
        "{said}"
    );
    let said = why(&world, &export(0), &[mark, ("SWEEPER_KEEP_FREE", "5GiB")]);
    assert!(said.contains(&format!("{full} or less than 5.0 GiB is free\n")), "{said}");
    let said = why(&world, &export(1), &[mark]);
    let from = "may be removed before that, from 2026-01-02T03:54:05";
    assert!(said.contains(from) && said.contains(full), "{said}");
    let said = why(&world, &export(2), &[mark]);
    assert!(said.contains("early     stays when") && said.contains("another name"), "{said}");
    let said = why(&world, "tmp/tree", &[mark]);
    assert!(said.contains("zone tmp is not in --pressure-zones"), "{said}");
    let said = why(&world, "tmp/tree", &[mark, ("SWEEPER_PRESSURE_ZONES", "tmp")]);
    assert!(said.contains(&format!("{full}, if nothing in it was used since\n")), "{said}");
    let said = why(&world, &export(3), &[mark, ("SWEEPER_EXCLUDE", &export_name(3))]);
    assert!(said.contains("early     stays when"), "{said}");
}

#[test]
fn a_plan_says_which_settings_it_does_not_use() {
    let world = World::new();
    let (fresh, old) = (export_name(0), export_name(1));
    let at = |name: &str| Path::new("cache/export").join(name);
    world.file(at(&fresh), 2 * HOUR);
    world.file(at(&old), 2 * DAY);
    let outside = tempfile::tempdir().unwrap();
    let (plan, file) = (outside.path().join("plan"), outside.path().join("sweeper.toml"));
    std::fs::write(&file, "keep_free = \"1TiB\"\nmax_removals = 0\n").unwrap();
    let (plan, file) = (plan.to_str().unwrap(), file.to_str().unwrap());
    let mut command = world.command(&["plan", "-o", plan, "--config", file]);
    command.env("SWEEPER_PRESSURE", "1%");
    let said = Run::of(command).exits(0).stderr.clone();
    for words in [
        "pressure = 1% (environment SWEEPER_PRESSURE)",
        "keep_free = 1TiB (file ",
        "does not apply here: a plan has no entries that are removed before they expire",
        "max_removals = 0 (file ",
        "`sweeper apply` honors max_removals and max_bytes",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let text = std::fs::read_to_string(plan).unwrap();
    assert!(text.contains(&old) && !text.contains(&fresh), "{text}");
    let said = world.run(&["plan", "-o", plan]).exits(0).stderr.clone();
    assert!(!said.contains("WARN"), "no setting, no warning: {said}");
    let mut apply = world.command(&["apply", plan]);
    apply.env("SWEEPER_KEEP_FREE", "1TiB");
    let said = Run::of(apply).exits(0).stderr.clone();
    assert!(
        said.contains("keep_free = 1TiB (environment SWEEPER_KEEP_FREE) does not apply here"),
        "{said}"
    );
    assert!(world.has(at(&fresh)) && !world.has(at(&old)));
    let refused = world.run(&["plan", "-o", plan, "--keep-free", "1TiB"]);
    assert!(refused.exits(2).stderr.contains("a plan has no such entries"), "{}", refused.stderr);
}
