//! Lists of paths: what may be in them, and that they give no right to anything.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use super::{ZONES, add, counts, left, random_root, removed, swept};
use crate::start::Start;
use crate::world::{DAY, Run, World};

/// A run over what `find` prints of the zones' directories, piped in.
fn swept_from_find(world: &World, dirs: &[&str], args: &[&str]) -> Run {
    let mut find = Command::new("find");
    find.args(dirs.iter().map(|dir| world.path(dir)).filter(|dir| dir.exists()));
    find.args(["-mindepth", "1", "-maxdepth", "1", "-print0"]);
    let mut find = find.stdout(Stdio::piped()).start().unwrap();
    let mut command =
        world.command(&[&["run", "--format", "jsonl", "-v", "--from0", "-"], args].concat());
    command.stdin(find.stdout.take().unwrap());
    let run = Run::of(command);
    assert!(find.wait().unwrap().success());
    run
}

/// A run over a list in a file.
pub(super) fn swept_from_list(world: &World, list: &[u8], args: &[&str]) -> Run {
    let path = world.root.parent().unwrap().join("list");
    std::fs::write(&path, list).unwrap();
    let mut command = world.command(&[&["run", "--format", "jsonl", "-v"], args].concat());
    Run::of({
        command.arg("--from0").arg(path);
        command
    })
}

#[test]
fn what_find_lists_is_swept_as_a_pass_would() {
    for seed in 1..=3 {
        let (single, listed, dealt) = (random_root(seed), random_root(seed), random_root(seed));
        let instances: Vec<String> = ["projects", "tasks", "jobs"]
            .iter()
            .flat_map(|kind| (0..12).map(move |id| format!("{kind}/{id}/tmp")))
            .collect();
        let mut dirs: Vec<&str> = instances.iter().map(String::as_str).collect();
        dirs.extend(["tmp", "cache/export"]);
        let whole = swept(&single, "run", &[]);
        let before = left(&listed);
        let dry = swept_from_find(&listed, &dirs, &[&ZONES[..], &["--dry-run"]].concat());
        assert_eq!(left(&listed), before);
        let run = swept_from_find(&listed, &dirs, &ZONES);
        assert_eq!(left(&listed), left(&single));
        assert_eq!(removed(&listed, &run), removed(&single, &whole));
        for run in [&dry, &run] {
            assert_eq!(counts(&run.exits(0).json()), counts(&whole.json()));
        }
        let mut sum = BTreeMap::new();
        for index in 0..3 {
            let shard = format!("{index}/3");
            let run = swept_from_find(&dealt, &dirs, &[&ZONES[..], &["--shard", &shard]].concat());
            add(&mut sum, &run.exits(0).json());
        }
        assert_eq!(left(&dealt), left(&single));
        // What the first two shards removed was gone when the third was listed.
        assert_eq!(sum["totals.removed"], counts(&whole.json())["totals.removed"]);
    }
}

#[test]
fn a_list_gives_no_right_to_what_a_pass_would_not_touch() {
    let world = World::new();
    let outside = world.root.parent().unwrap().join("outside/tmp/x");
    std::fs::create_dir_all(outside.parent().unwrap()).unwrap();
    std::fs::write(&outside, "old").unwrap();
    crate::world::set_age(&outside, 400 * DAY);
    let fresh = world.file("tmp/tree/deep/fresh", 0);
    world.file("tmp/tree/deep/old", 400 * DAY);
    world.file("tmp/gone/deep/old", 400 * DAY);
    world.link("tmp/link", outside.parent().unwrap(), 0);
    world.file("assets/old", 400 * DAY);
    world.file("tasks/1/tmp/old", 400 * DAY);
    world.file("tasks/1/export_cache/old.zip", 400 * DAY);
    world.file("cache/export/unknown", 400 * DAY);
    world.file("cache/events/old.csv", 400 * DAY);
    world.file("tmp/kept/old", 400 * DAY);
    world.link("jobs/1", world.path("tasks/1"), 400 * DAY);
    world.age_dirs("", 400 * DAY);
    let root = world.root.to_str().unwrap().to_owned();
    let before = world.snapshot();
    let (out, up) = (outside.to_str().unwrap().to_owned(), format!("{root}/tmp/../tmp/gone"));
    let inside = fresh.to_str().unwrap().to_owned();
    let refused = [
        out.as_str(),
        "/etc/passwd",
        "/",
        "",
        ".",
        "tmp",
        "cache/export",
        "../outside/tmp/x",
        "tmp/../../outside/tmp/x",
        &up,
        &inside,
        "tmp/tree/deep/old",
        "tmp/link/x",
        "assets/old",
        "cache/events/old.csv",
        "tasks/1/tmp/old",
        "tasks/1/export_cache",
        "tmp/gone\ntmp/tree\n",
    ];
    let run = swept_from_list(&world, refused.join("\0").as_bytes(), &[]);
    run.exits(1);
    assert_eq!(run.json()["totals"]["failed"], refused.len());
    assert_eq!(world.snapshot(), before);
    for why in [
        "not below the data root",
        "list \\\"tmp/tree\\\" instead",
        "instance-tmp is not swept",
        "-print0",
    ] {
        assert!(run.stdout.contains(why), "{why}: {}", run.stdout);
    }
    // Through a link in place of an instance.
    let run = swept_from_list(&world, b"jobs/1/tmp/old\0", &ZONES);
    assert!(run.exits(1).stdout.contains("ENOTDIR"), "{}", run.stdout);
    assert_eq!(world.snapshot(), before);
}

#[test]
fn an_entry_may_be_written_in_many_ways_and_is_found_once() {
    let world = World::new();
    world.file("tmp/tree/fresh", 0);
    world.file("tmp/gone/deep/old", 400 * DAY);
    world.file("tmp/kept/old", 400 * DAY);
    world.file("cache/export/unknown", 400 * DAY);
    world.link("tmp/link", "/etc", 0);
    world.age_dirs("", 400 * DAY);
    let root = world.root.to_str().unwrap().to_owned();
    let list = format!(
        "tmp/tree\0./tmp/gone\0{root}/tmp/gone/\0tmp//gone\0tmp/kept\0cache/export/unknown\0\
         {root}/tmp/vanished\0tmp/link"
    );
    let run = swept_from_list(&world, list.as_bytes(), &["--exclude", "kept"]);
    let outcomes = run.exits(0).outcomes();
    let reason = |path: &str| outcomes[&world.path(path)].1.as_str();
    assert_eq!(outcomes.len(), 6, "{outcomes:?}");
    assert_eq!(run.json()["totals"]["seen"], 6, "twice in a list is once");
    assert_eq!(reason("tmp/gone"), "expired");
    assert_eq!(reason("tmp/tree"), "used");
    assert_eq!(reason("tmp/kept"), "excluded");
    assert_eq!(reason("tmp/link"), "fresh");
    assert_eq!(reason("tmp/vanished"), "gone");
    assert_eq!(reason("cache/export/unknown"), "unrecognized");
    assert!(!world.has("tmp/gone") && world.has("tmp/tree/fresh"));
    let missing = world.run(&["run", "--from0", "/nowhere/list"]);
    assert!(missing.exits(2).stderr.contains("/nowhere/list"));
}

#[test]
fn the_migration_takes_lists_too() {
    let (single, listed) = (random_root(2), random_root(2));
    let whole = swept(&single, "legacy", &[]);
    let mut list = Vec::new();
    for entry in walkdir::WalkDir::new(&listed.root) {
        let path = entry.unwrap().into_path();
        if path.file_name().unwrap() == "export_cache" {
            list.extend_from_slice(path.strip_prefix(&listed.root).unwrap().as_os_str().as_bytes());
            list.push(0);
        }
    }
    let path = listed.path("../list");
    std::fs::write(&path, list).unwrap();
    let run = swept(&listed, "legacy", &["--from0", path.to_str().unwrap()]);
    assert_eq!(removed(&listed, &run), removed(&single, &whole));
    assert_eq!(counts(&run.json()), counts(&whole.json()));
    assert_eq!(left(&listed), left(&single));
}
