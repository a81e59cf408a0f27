//! A directory that a bind mount shows at a second path: what may not be swept at the first may not be swept there.

use std::path::Path;

use super::{Mounted, OLD, sweep};
use crate::world::{World, can_be_root};

/// A volume with the media of a task, an export, and something for zone `tmp`, all old.
fn world() -> World {
    let world = World::new();
    let export = format!("cache/export/{}", crate::world::export_name(1));
    for path in ["data/5/raw/media.zip", export.as_str(), "tmp/old/file", "label-exports/x"] {
        world.file(path, OLD);
    }
    for dir in ["data/5", "tmp/old", "label-exports"] {
        world.age_dirs(dir, OLD);
    }
    world
}

/// A settings file with a zone of trees at this path, or with this path for zone `tmp`.
fn settings(world: &World, path: &Path, is_tmp: bool) -> String {
    let text = if is_tmp {
        format!("[zones.tmp]\npath = {path:?}\n")
    } else {
        format!(
            "[[zone]]\nname = 'scratch'\npath = {path:?}\nentry = 'tree'\nused = 'tree'\nttl = '3d'\nlock = 'flock'\n"
        )
    };
    let file = world.root.with_file_name("settings.toml");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn a_zone_is_refused_where_a_mount_shows_what_may_not_be_swept() {
    if !can_be_root("mounts") {
        return;
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let (outside, inside) = (elsewhere.path().to_owned(), Path::new("again").to_owned());
    for (shown, zone, is_tmp, words) in [
        ("data", &outside, false, "which is below the data root"),
        ("data/5", &outside, false, "which is below the data root"),
        ("data", &outside, true, "which is below the data root"),
        ("cache/export", &outside, false, "which is below the data root"),
        ("..", &outside, false, "it contains the data root"),
        ("data", &inside, false, "in it holds what CVAT needs"),
        ("data/5", &inside, false, "in it holds what CVAT needs"),
        ("cache/export", &inside, false, "a mount shows a directory of zone \"export\" there"),
    ] {
        let world = world();
        let at = if zone.is_absolute() { zone.clone() } else { world.dir(zone, OLD) };
        let mounted = Mounted::bind(&world.path(shown), &at);
        let before = world.snapshot();
        let config = settings(&world, zone, is_tmp);
        let run = sweep(&world, &["--config", &config]);
        assert!(run.exits(2).stderr.contains(words), "{shown} {zone:?}: {}", run.stderr);
        assert_eq!(world.snapshot(), before, "{shown} {zone:?}");
        drop(mounted);
    }
}

#[test]
fn a_zone_where_a_mount_shows_another_directory_is_swept() {
    if !can_be_root("mounts") {
        return;
    }
    let (scratch, at) = (World::new(), tempfile::tempdir().unwrap());
    scratch.file("tree/file", OLD);
    scratch.age_dirs("tree", OLD);
    let _mounted = Mounted::bind(&scratch.path("tree"), at.path());
    let world = world();
    let config = settings(&world, at.path(), false);
    sweep(&world, &["--config", &config]).exits(0);
    assert!(!world.has("tmp/old") && world.has("data/5/raw/media.zip"));
}
