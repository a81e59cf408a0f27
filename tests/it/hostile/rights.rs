//! Sweeping as somebody who may not do everything: what is refused fails, and it alone.

use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown};

use super::{OLD, USER, below, failures, message_of, notes, sweep_as_user};
use crate::world::{Stat, World, assert_counts, can_be_root, export_name};

fn chmod(world: &World, path: &str, mode: u32) {
    fs::set_permissions(world.path(path), PermissionsExt::from_mode(mode)).unwrap();
}

/// Two trees and two files that are old, all of [`USER`].
fn users_world() -> World {
    let world = World::new();
    for path in ["tmp/tree/a", "tmp/tree/part/b", "tmp/tree/z", "tmp/plain/inside", "tmp/file"] {
        world.file(path, OLD);
    }
    world.file(format!("cache/export/{}", export_name(1)), OLD);
    world.chown(USER);
    for tree in ["tmp/tree", "tmp/plain"] {
        world.age_dirs(tree, OLD);
    }
    world
}

/// What is refused costs its tree; everything else goes.
#[track_caller]
fn assert_all_went_but_the_tree(world: &World, failed: &str, errno: &str) {
    let report = sweep_as_user(world, &[]).exits(1).json();
    assert_counts(&report, "tmp", &[("seen", 3), ("removed", 2), ("failed", 1)]);
    assert_counts(&report, "export", &[("removed", 1), ("failed", 0)]);
    assert_eq!(failures(&report), [(world.path(failed), errno.to_owned())].into());
    assert!(!world.has("tmp/plain") && !world.has("tmp/file"));
    assert!(!world.has(format!("cache/export/{}", export_name(1))));
}

#[test]
fn a_directory_that_cannot_be_seen_into_leaves_its_tree_untouched() {
    if !can_be_root("other users") {
        return;
    }
    for (mode, failed) in
        [(0o000, "tmp/tree/part"), (0o300, "tmp/tree/part"), (0o600, "tmp/tree/part/b")]
    {
        let world = users_world();
        chmod(&world, "tmp/tree/part", mode);
        let before = below(&world, "tmp/tree");
        assert_all_went_but_the_tree(&world, failed, "EACCES");
        assert_eq!(below(&world, "tmp/tree"), before, "{mode:o}");
    }
}

#[test]
fn a_tree_that_cannot_be_opened_at_its_top_is_left_untouched() {
    if !can_be_root("other users") {
        return;
    }
    let world = users_world();
    chmod(&world, "tmp/tree", 0o000);
    let before = below(&world, "tmp/tree");
    assert_all_went_but_the_tree(&world, "tmp/tree", "EACCES");
    assert_eq!(below(&world, "tmp/tree"), before);
}

#[test]
fn what_a_directory_without_write_permission_keeps_of_a_tree_stays_as_old_as_it_was() {
    if !can_be_root("other users") {
        return;
    }
    let world = users_world();
    chmod(&world, "tmp/tree/part", 0o500);
    let before = below(&world, "tmp/tree");
    assert_all_went_but_the_tree(&world, "tmp/tree/part/b", "EACCES");
    let after = below(&world, "tmp/tree");
    let left = ["tmp/tree", "tmp/tree/part", "tmp/tree/part/b"].map(|path| world.path(path));
    assert!(after.keys().eq(left.iter()), "{after:#?}");
    for (path, stat) in &after {
        let was = &before[path];
        assert_eq!((stat.atime, stat.mtime), (was.atime, was.mtime), "{path:?}");
    }
    chmod(&world, "tmp/tree/part", 0o700);
    let report = sweep_as_user(&world, &[]).exits(0).json();
    assert_counts(&report, "tmp", &[("seen", 1), ("removed", 1)]);
}

#[test]
fn a_file_of_ours_that_we_may_not_open_cannot_be_locked_and_stays() {
    if !can_be_root("other users") {
        return;
    }
    let world = users_world();
    let export = format!("cache/export/{}", export_name(2));
    for path in [&*export, "tmp/shut"] {
        let path = world.file(path, OLD);
        lchown(path, Some(USER), Some(USER)).unwrap();
    }
    chmod(&world, &export, 0o000);
    chmod(&world, "tmp/shut", 0o000);
    let before = [&*export, "tmp/shut"].map(|path| Stat::of(&world.path(path)));
    let report = sweep_as_user(&world, &[]).exits(1).json();
    assert_counts(&report, "export", &[("removed", 1), ("failed", 1)]);
    assert_counts(&report, "tmp", &[("removed", 3), ("failed", 1)]);
    let failed = [&*export, "tmp/shut"].map(|path| (world.path(path), "EACCES".to_owned()));
    assert_eq!(failures(&report), failed.into());
    assert_eq!([&*export, "tmp/shut"].map(|path| Stat::of(&world.path(path))), before);
}

#[test]
fn a_file_in_a_tree_that_we_may_not_open_goes_by_its_age_and_that_is_said_once() {
    if !can_be_root("other users") {
        return;
    }
    let world = users_world();
    chmod(&world, "tmp/tree/a", 0o000);
    chmod(&world, "tmp/tree/z", 0o000);
    let report = sweep_as_user(&world, &[]).exits(0).json();
    assert_counts(&report, "tmp", &[("removed", 3), ("failed", 0)]);
    let told = notes(&report, "tmp");
    assert_eq!(told.iter().filter(|note| note.contains("open")).count(), 1, "{told:?}");
    assert!(!world.has("tmp/tree"));
}

#[test]
fn where_the_system_does_not_tell_who_has_it_open_age_decides_and_that_is_said_once() {
    if !can_be_root("other users") {
        return;
    }
    let world = users_world();
    let roots =
        [1, 2].map(|number| world.file(format!("cache/export/{}", export_name(number)), OLD));
    let trees = ["tmp/tree/a", "tmp/tree/part/b", "tmp/file"].map(|path| world.path(path));
    let fresh = world.file(format!("cache/export/{}", export_name(3)), 0);
    for path in roots.iter().chain(&trees).chain([&fresh]) {
        lchown(path, Some(0), Some(0)).unwrap();
    }
    let report = sweep_as_user(&world, &[]).exits(0).json();
    assert_counts(&report, "export", &[("removed", 2), ("kept_by.fresh", 1), ("failed", 0)]);
    assert_counts(&report, "tmp", &[("removed", 3), ("failed", 0)]);
    for zone in ["export", "tmp"] {
        let told = notes(&report, zone);
        assert_eq!(told.iter().filter(|note| note.contains("open")).count(), 1, "{told:?}");
    }
    assert!(roots.iter().chain(&trees).all(|path| !path.exists()) && fresh.exists());
}

#[test]
fn another_users_file_that_is_locked_is_spared_even_where_opens_are_not_told() {
    if !can_be_root("other users") {
        return;
    }
    let world = users_world();
    let path = world.file(format!("cache/export/{}", export_name(2)), OLD);
    let held = fs::File::open(&path).unwrap();
    fs2::FileExt::lock_exclusive(&held).unwrap();
    let inside = fs::File::open(world.path("tmp/tree/part/b")).unwrap();
    lchown(world.path("tmp/tree/part/b"), Some(0), Some(0)).unwrap();
    fs2::FileExt::lock_exclusive(&inside).unwrap();
    let report = sweep_as_user(&world, &["--lock-wait", "0s"]).exits(0).json();
    assert_counts(&report, "export", &[("removed", 1), ("spared_by.busy", 1), ("failed", 0)]);
    assert_counts(&report, "tmp", &[("removed", 2), ("spared_by.busy", 1), ("failed", 0)]);
    assert!(path.exists() && world.has("tmp/tree/part/b") && world.has("tmp/tree/a"));
}

/// Everything in a directory with these rights fails, with an error that says whose it is.
#[track_caller]
fn assert_nothing_may_go(uid: u32, mode: u32, errno: &str) {
    let world = users_world();
    for dir in ["tmp", "cache/export"] {
        lchown(world.path(dir), Some(uid), Some(uid)).unwrap();
        chmod(&world, dir, mode);
        for entry in fs::read_dir(world.path(dir)).unwrap() {
            // Sticky directories protect what belongs to others.
            lchown(entry.unwrap().path(), Some(0), Some(0)).unwrap();
        }
    }
    chmod(&world, "tmp/tree", 0o777);
    let report = sweep_as_user(&world, &[]).exits(1).json();
    assert_counts(&report, "tmp", &[("seen", 3), ("removed", 0), ("failed", 3)]);
    assert_counts(&report, "export", &[("removed", 0), ("failed", 1)]);
    let export = world.path("cache/export").join(export_name(1));
    for path in [&world.path("tmp/file"), &export] {
        assert_eq!(failures(&report)[path], errno);
        let message = message_of(&report, path);
        for part in ["uid 1000", &format!("uid {uid} "), &format!("{mode:04o}")] {
            assert!(message.contains(part), "{message}");
        }
        assert!(path.exists());
    }
    assert!(world.has("tmp/plain/inside"));
    let told = notes(&report, "tmp");
    assert_eq!(told.iter().filter(|note| note.contains("access times")).count(), 1, "{told:?}");
}

#[test]
fn in_a_directory_that_we_may_not_write_everything_fails_with_a_hint() {
    if can_be_root("other users") {
        assert_nothing_may_go(USER, 0o555, "EACCES");
        assert_nothing_may_go(0, 0o755, "EACCES");
    }
}

#[test]
fn in_a_sticky_directory_what_belongs_to_others_fails_with_a_hint() {
    if can_be_root("other users") {
        assert_nothing_may_go(0, 0o1777, "EPERM");
    }
}

#[test]
fn a_zone_that_cannot_be_listed_fails_and_the_other_is_swept() {
    if !can_be_root("other users") {
        return;
    }
    for mode in [0o000, 0o300] {
        let world = users_world();
        chmod(&world, "tmp", mode);
        let before = below(&world, "tmp");
        let report = sweep_as_user(&world, &[]).exits(1).json();
        assert_counts(&report, "tmp", &[("failed", 1), ("removed", 0)]);
        assert_counts(&report, "export", &[("removed", 1), ("failed", 0)]);
        assert_eq!(failures(&report), [(world.path("tmp"), "EACCES".to_owned())].into());
        assert_eq!(below(&world, "tmp"), before);
    }
}

#[test]
fn an_instance_that_cannot_be_entered_fails_alone() {
    if !can_be_root("other users") {
        return;
    }
    let world = World::new();
    for path in ["tasks/1/tmp/gone", "tasks/2/tmp/shut", "jobs/3/tmp/gone"] {
        world.file(path, OLD);
    }
    world.chown(USER);
    chmod(&world, "tasks/2/tmp", 0o000);
    let report = sweep_as_user(&world, &["--zones", "instance-tmp"]).exits(1).json();
    assert_counts(&report, "instance-tmp", &[("removed", 2), ("failed", 1)]);
    assert_eq!(failures(&report).into_values().collect::<Vec<_>>(), ["EACCES"]);
    assert!(world.has("tasks/2/tmp/shut"));
    assert!(!world.has("tasks/1/tmp/gone") && !world.has("jobs/3/tmp/gone"));
}
