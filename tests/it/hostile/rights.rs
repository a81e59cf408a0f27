//! Sweeping with few permissions: what the system refuses fails, and nothing else does.

use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::PathBuf;

use serde_json::Value;

use super::{
    OLD, USER, assert_says_what_is_left, below, failures, in_removal, message_of, notes,
    quarantines, sweep_as_user,
};
use crate::world::{Stat, World, assert_counts, can_be_root, export_name};

fn chmod(world: &World, path: &str, mode: u32) {
    fs::set_permissions(world.path(path), PermissionsExt::from_mode(mode)).unwrap();
}

/// Two trees and two files, all of them old and owned by [`USER`].
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

/// The tree fails; everything else is removed.
#[track_caller]
fn assert_only_the_tree_fails(world: &World, failed: &str, errno: &str) -> Value {
    let report = sweep_as_user(world, &[]).exits(1).json();
    assert_counts(&report, "tmp", &[("seen", 3), ("removed", 2), ("failed", 1)]);
    assert_counts(&report, "export", &[("removed", 1), ("failed", 0)]);
    assert_eq!(failures(&report), [(world.path(failed), errno.to_owned())].into());
    assert!(!world.has("tmp/plain") && !world.has("tmp/file"));
    assert!(!world.has(format!("cache/export/{}", export_name(1))));
    report
}

#[test]
fn a_tree_with_a_directory_that_cannot_be_read_is_left_untouched() {
    if !can_be_root("other users") {
        return;
    }
    for (mode, failed) in
        [(0o000, "tmp/tree/part"), (0o300, "tmp/tree/part"), (0o600, "tmp/tree/part/b")]
    {
        let world = users_world();
        chmod(&world, "tmp/tree/part", mode);
        let before = below(&world, "tmp/tree");
        assert_only_the_tree_fails(&world, failed, "EACCES");
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
    assert_only_the_tree_fails(&world, "tmp/tree", "EACCES");
    assert_eq!(below(&world, "tmp/tree"), before);
}

#[test]
fn what_a_read_only_directory_keeps_of_a_tree_is_removed_by_the_next_pass() {
    if !can_be_root("other users") {
        return;
    }
    let world = users_world();
    chmod(&world, "tmp/tree/part", 0o500);
    let before = below(&world, "tmp/tree/part");
    let report = assert_only_the_tree_fails(&world, "tmp/tree/part/b", "EACCES");
    let rest = in_removal(&world, "tree");
    assert_says_what_is_left(&report, &world.path("tmp/tree/part/b"), 2, &rest);
    let part = rest.join("part");
    let left = [&rest, &part, &part.join("b")].map(PathBuf::clone);
    assert_eq!(below(&world, rest.to_str().unwrap()).into_keys().collect::<Vec<_>>(), left);
    // Another pass that may not remove it either says so again. Nothing has changed in the directory.
    let report = sweep_as_user(&world, &[]).exits(1).json();
    assert_counts(&report, "tmp", &[("removed", 0), ("failed", 1)]);
    assert_eq!(failures(&report), [(part.join("b"), "EACCES".to_owned())].into());
    assert_eq!(in_removal(&world, "tree"), rest);
    for (path, was) in before {
        let now = Stat::of(&rest.join(path.strip_prefix(world.path("tmp/tree")).unwrap()));
        assert_eq!(now, was, "{path:?}");
    }
    fs::set_permissions(part, PermissionsExt::from_mode(0o700)).unwrap();
    let report = sweep_as_user(&world, &[]).exits(0).json();
    assert_counts(&report, "tmp", &[("seen", 1), ("removed", 1), ("failed", 0)]);
    assert_eq!(fs::read_dir(world.path("tmp")).unwrap().count(), 0);
}

#[test]
fn a_tree_of_which_nothing_may_be_removed_has_its_own_name_again() {
    if !can_be_root("other users") {
        return;
    }
    let world = users_world();
    for path in ["tmp/tree/a", "tmp/tree/z"] {
        fs::remove_file(world.path(path)).unwrap();
    }
    world.age_dirs("tmp/tree", OLD);
    chmod(&world, "tmp/tree/part", 0o500);
    let before = below(&world, "tmp/tree");
    assert_only_the_tree_fails(&world, "tmp/tree/part/b", "EACCES");
    assert_eq!(below(&world, "tmp/tree"), before, "it is as old as it was");
    assert_eq!(quarantines(&world), [] as [PathBuf; 0]);
    chmod(&world, "tmp/tree/part", 0o700);
    let report = sweep_as_user(&world, &[]).exits(0).json();
    assert_counts(&report, "tmp", &[("seen", 1), ("removed", 1)]);
    assert_eq!(fs::read_dir(world.path("tmp")).unwrap().count(), 0);
}

#[test]
fn a_file_that_may_not_be_opened_cannot_be_locked_and_stays() {
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
fn age_decides_about_a_file_in_a_tree_that_may_not_be_opened_and_one_note_says_so() {
    if !can_be_root("other users") {
        return;
    }
    let world = users_world();
    chmod(&world, "tmp/tree/a", 0o000);
    chmod(&world, "tmp/tree/z", 0o000);
    let report = sweep_as_user(&world, &[]).exits(0).json();
    assert_counts(&report, "tmp", &[("removed", 3), ("failed", 0)]);
    let noted = notes(&report, "tmp");
    assert_eq!(noted.iter().filter(|note| note.contains("open")).count(), 1, "{noted:?}");
    assert!(!world.has("tmp/tree"));
}

#[test]
fn age_decides_where_the_system_does_not_tell_whether_a_file_is_open_and_one_note_says_so() {
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
        let noted = notes(&report, zone);
        assert_eq!(
            noted.iter().filter(|note| note.contains("files are open")).count(),
            1,
            "{noted:?}"
        );
    }
    assert!(roots.iter().chain(&trees).all(|path| !path.exists()) && fresh.exists());
}

#[test]
fn a_locked_file_of_another_user_is_skipped_even_where_the_system_does_not_tell_whether_it_is_open()
{
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
    assert_counts(&report, "export", &[("removed", 1), ("skipped_by.locked", 1), ("failed", 0)]);
    assert_counts(&report, "tmp", &[("removed", 2), ("skipped_by.locked", 1), ("failed", 0)]);
    assert!(path.exists() && world.has("tmp/tree/part/b") && world.has("tmp/tree/a"));
}

/// Everything in a directory with this owner and mode fails, with an error that says so.
#[track_caller]
fn assert_everything_fails(uid: u32, mode: u32, errno: &str) {
    let world = users_world();
    for dir in ["tmp", "cache/export"] {
        lchown(world.path(dir), Some(uid), Some(uid)).unwrap();
        chmod(&world, dir, mode);
        for entry in fs::read_dir(world.path(dir)).unwrap() {
            // Sticky directories protect the files of other users.
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
    let noted = notes(&report, "tmp");
    assert_eq!(
        noted.iter().filter(|note| note.contains("may have moved their atimes")).count(),
        1,
        "{noted:?}"
    );
}

#[test]
fn in_a_directory_that_is_not_writable_everything_fails_with_a_hint() {
    if can_be_root("other users") {
        assert_everything_fails(USER, 0o555, "EACCES");
        assert_everything_fails(0, 0o755, "EACCES");
    }
}

#[test]
fn in_a_sticky_directory_files_of_other_users_fail_with_a_hint() {
    if can_be_root("other users") {
        assert_everything_fails(0, 0o1777, "EPERM");
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
