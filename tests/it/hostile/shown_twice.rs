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
        ("cache/export", &inside, false, "cache/export\" of zone \"export\", by a link or a mount"),
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

/// The zone is refused, in a pass over it alone and in one over all zones, and nothing is removed.
#[track_caller]
fn assert_refused(world: &World, config: &str, words: &str) {
    let list = || {
        let all = walkdir::WalkDir::new(world.root.parent().unwrap());
        all.sort_by_file_name().into_iter().map(|it| it.unwrap().into_path()).collect::<Vec<_>>()
    };
    let before = list();
    for args in [&["--config", config][..], &["--config", config, "--zones", "scratch"]] {
        let run = sweep(world, args);
        assert!(run.exits(2).stderr.contains(words), "{args:?}: {}", run.stderr);
    }
    assert_eq!(list(), before, "{words}");
}

#[test]
fn a_zone_is_refused_that_contains_what_a_mount_or_a_link_shows_in_the_data_root() {
    if !can_be_root("mounts") {
        return;
    }
    let world = world();
    let beside = |name: &str| world.root.with_file_name(name);
    let vol = beside("vol");
    std::fs::create_dir_all(&vol).unwrap();
    let config = settings(&world, &vol, false);
    for (name, words) in [
        ("data", "what a mount shows at"),
        ("tmp", "what a mount shows at"),
        ("cache", "what a mount shows at"),
        ("data/5", "what a mount shows at"),
    ] {
        let (own, moved) = (world.path(name), vol.join("moved"));
        std::fs::rename(&own, &moved).unwrap();
        std::fs::create_dir(&own).unwrap();
        {
            let _mounted = Mounted::bind(&moved, &own);
            assert_refused(&world, &config, words);
        }
        std::fs::remove_dir(&own).unwrap();
        if name.starts_with("data") {
            std::os::unix::fs::symlink(&moved, &own).unwrap();
            let is_needed = name == "data";
            if is_needed {
                assert_refused(&world, &config, "which holds what CVAT needs");
                let deep = settings(&world, &moved.join("5"), false);
                assert_refused(&world, &deep, "which holds what CVAT needs");
                settings(&world, &vol, false);
            }
            std::fs::remove_file(&own).unwrap();
        }
        std::fs::rename(&moved, &own).unwrap();
    }
    // The whole data root, by the path that the command line names.
    let again = tempfile::tempdir().unwrap();
    let _mounted = Mounted::bind(&world.root, again.path());
    let front = World::at(again.path());
    let config = settings(&world, world.root.parent().unwrap(), false);
    let run = sweep(&front, &["--config", &config, "--zones", "scratch"]);
    let words = "it contains the data root, by a link or a mount";
    assert!(run.exits(2).stderr.contains(words), "{}", run.stderr);
    assert!(world.has("data/5/raw/media.zip"));
}

#[test]
fn a_link_or_a_mount_leads_no_zone_to_what_cvat_has_beside_its_data_root() {
    if !can_be_root("mounts") {
        return;
    }
    let world = world();
    let beside = |name: &str| world.root.with_file_name(name);
    for name in ["keys", "share"] {
        std::fs::create_dir_all(beside(name).join("old")).unwrap();
        let (link, mount) = (beside("a-link"), beside("a-mount"));
        std::os::unix::fs::symlink(beside(name), &link).unwrap();
        assert_refused(&world, &settings(&world, &link, false), "which holds what CVAT needs");
        std::fs::remove_file(link).unwrap();
        std::fs::create_dir_all(&mount).unwrap();
        let _mounted = Mounted::bind(&beside(name), &mount);
        assert_refused(&world, &settings(&world, &mount, false), "which holds what CVAT needs");
    }
}

#[test]
fn a_zone_with_a_place_elsewhere_is_overlapped_by_no_other_also_in_a_pass_over_that_one() {
    if !can_be_root("mounts") {
        return;
    }
    let world = world();
    let place = world.root.with_file_name("place");
    std::fs::create_dir_all(place.join("old")).unwrap();
    let link = world.root.with_file_name("a-link");
    std::os::unix::fs::symlink(&place, &link).unwrap();
    let with_place = |zone: &Path| {
        let config = settings(&world, zone, false);
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, format!("[zones.tmp]\npath = {place:?}\n{text}")).unwrap();
        config
    };
    let words = "of zone \"tmp\", by a link or a mount";
    let run = sweep(&world, &["--config", &with_place(&link), "--zones", "scratch"]);
    assert!(run.exits(2).stderr.contains(words), "{}", run.stderr);
    let mounted = Mounted::bind(&place, &world.dir("again", OLD));
    let run = sweep(&world, &["--config", &with_place(Path::new("again")), "--zones", "scratch"]);
    assert!(run.exits(2).stderr.contains(words), "{}", run.stderr);
    drop(mounted);
    // Where the zone would be without the setting, and in a tree of its own place.
    for (from, at, zone) in [
        (world.dir("scratch", OLD), world.path("tmp"), "scratch"),
        (place.clone(), world.dir("tmp/sub", OLD), ""),
    ] {
        let mounted = Mounted::bind(&from, &at);
        let config = if zone.is_empty() {
            settings(&world, &place, true)
        } else {
            with_place(Path::new(zone))
        };
        let run = sweep(&world, &["--config", &config]);
        assert!(run.exits(2).stderr.contains("a mount"), "{at:?}: {}", run.stderr);
        drop(mounted);
    }
    // Its own place may be shown where it would be without the setting.
    let _own = Mounted::bind(&place, &world.path("tmp"));
    let config = settings(&world, &place, true);
    sweep(&world, &["--config", &config]).exits(0);
}

/// A directory of a zone may be a mount, as in a container.
#[test]
fn a_zone_on_a_mount_of_its_own_is_swept_also_beside_the_trees_of_another() {
    if !can_be_root("mounts") {
        return;
    }
    let (world, volume) = (world(), tempfile::tempdir().unwrap());
    let _mounted = Mounted::bind(volume.path(), &world.dir("cache/label", OLD));
    world.file("cache/label/old/file", OLD);
    world.age_dirs("cache/label/old", OLD);
    let config = settings(&world, Path::new("cache/label"), false);
    sweep(&world, &["--config", &config, "--zones", "scratch"]).exits(0);
    assert!(!world.has("cache/label/old"));
}

#[test]
fn a_zone_is_swept_in_a_directory_that_became_the_root_without_being_a_mount() {
    if !can_be_root("chroot") {
        return;
    }
    let world = world();
    let jail = world.root.parent().unwrap();
    std::fs::create_dir(jail.join("proc")).unwrap();
    let program = jail.join("sweeper");
    let Some(binary) = std::env::var_os("SWEEPER_TESTS_STATIC") else {
        assert!(
            std::env::var_os("SWEEPER_TESTS_ALL").is_none(),
            "what deploy/build-static has built"
        );
        return eprintln!("left out, needs SWEEPER_TESTS_STATIC: a root that is not a mount");
    };
    std::fs::copy(binary, &program).unwrap();
    let config = settings(&world, Path::new("label-exports"), false);
    std::fs::rename(&config, jail.join("s.toml")).unwrap();
    world.file("label-exports/old/file", OLD);
    world.age_dirs("label-exports/old", OLD);
    let mut command = std::process::Command::new("unshare");
    let script = "mount -t proc proc \"$0/proc\" && exec chroot \"$0\" /sweeper run --lock flock --zones scratch \
                  --config /s.toml --data /data";
    command.args(["--mount", "sh", "-c", script]).arg(jail);
    crate::world::Run::of(command).exits(0);
    assert!(!world.has("label-exports/old"));
}

#[test]
fn without_the_list_of_mounts_a_zone_of_ones_own_is_refused() {
    if !can_be_root("mounts") {
        return;
    }
    let (world, at) = (world(), tempfile::tempdir().unwrap());
    let config = settings(&world, at.path(), false);
    let inner = world.command(&["run", "--dry-run", "--lock", "flock", "--config", &config]);
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount -t tmpfs none /proc && exec \"$0\" \"$@\""]);
    command.arg(inner.get_program()).args(inner.get_args());
    let run = crate::world::Run::of(command);
    assert!(run.exits(2).stderr.contains("mount /proc"), "{}", run.stderr);
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
