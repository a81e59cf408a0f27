//! Mounts inside of zones. What is mounted survives, and so does what it is mounted on.

use super::{Mounted, OLD, below, notes, sweep};
use crate::world::{Run, World, assert_counts, can_be_root};

/// An old tree with a directory to mount something on, and an old file that shows that the pass ran.
fn tree_with_a_mount_point() -> World {
    let world = World::new();
    world.file("tmp/gone", OLD);
    for path in ["tmp/old/a", "tmp/old/x/b", "tmp/old/x/mnt/under", "tmp/old/y/c"] {
        world.file(path, OLD);
    }
    world.age_dirs("tmp/old", OLD);
    world
}

/// The tree is skipped, untouched, in a dry run and in a pass; the file beside it is removed.
#[track_caller]
fn assert_tree_is_skipped(world: &World) {
    let before = below(world, "tmp/old");
    for args in [&["--dry-run"][..], &[]] {
        let report = sweep(world, args).exits(0).json();
        let counts = [("removed", 1), ("skipped", 1), ("skipped_by.mount_point", 1), ("failed", 0)];
        assert_counts(&report, "tmp", &counts);
        assert_eq!(below(world, "tmp/old"), before, "{args:?}");
    }
    assert!(!world.has("tmp/gone"));
}

#[test]
fn a_tree_with_another_file_system_in_it_is_skipped() {
    if !can_be_root("mounts") {
        return;
    }
    let world = tree_with_a_mount_point();
    let _mount = Mounted::tmpfs(&world.path("tmp/old/x/mnt"), "size=1m");
    world.file("tmp/old/x/mnt/inside", OLD);
    world.age_dirs("tmp/old", OLD);
    assert_tree_is_skipped(&world);
    assert!(world.has("tmp/old/x/mnt/inside"));
}

#[test]
fn a_tree_with_an_empty_file_system_in_it_is_skipped() {
    if !can_be_root("mounts") {
        return;
    }
    let world = tree_with_a_mount_point();
    let _mount = Mounted::tmpfs(&world.path("tmp/old/x/mnt"), "size=1m");
    world.age_dirs("tmp/old", OLD);
    assert_tree_is_skipped(&world);
}

#[test]
fn a_tree_with_a_bind_mount_of_the_same_file_system_in_it_is_skipped() {
    if !can_be_root("mounts") {
        return;
    }
    let world = tree_with_a_mount_point();
    let elsewhere = World::new();
    elsewhere.file("data/precious/photo", OLD);
    elsewhere.age_dirs("data", OLD);
    let canary = elsewhere.snapshot();
    let _mount = Mounted::bind(&elsewhere.path("data"), &world.path("tmp/old/x/mnt"));
    assert_tree_is_skipped(&world);
    assert_eq!(elsewhere.snapshot(), canary);
}

#[test]
fn a_bind_mount_of_the_data_root_in_itself_is_no_endless_loop() {
    if !can_be_root("mounts") {
        return;
    }
    let world = tree_with_a_mount_point();
    let _mount = Mounted::bind(&world.root, &world.path("tmp/old/x/mnt"));
    let report = sweep(&world, &[]).exits(0).json();
    assert_counts(&report, "tmp", &[("removed", 1), ("skipped_by.mount_point", 1), ("failed", 0)]);
    for path in ["tmp/old/a", "tmp/old/x/b", "tmp/old/x/mnt/tmp/old/y/c"] {
        assert!(world.has(path), "{path}");
    }
}

#[test]
fn a_tree_with_a_mounted_file_in_it_is_skipped() {
    if !can_be_root("mounts") {
        return;
    }
    let world = tree_with_a_mount_point();
    let elsewhere = World::new();
    let canary = elsewhere.file("photo", OLD);
    let _mount = Mounted::bind(&canary, &world.path("tmp/old/x/b"));
    assert_tree_is_skipped(&world);
    assert!(elsewhere.has("photo"));
}

#[test]
fn a_mount_that_is_an_entry_of_tmp_is_kept() {
    if !can_be_root("mounts") {
        return;
    }
    let world = World::new();
    world.file("tmp/gone", OLD);
    let elsewhere = World::new();
    let file = elsewhere.file("file", OLD);
    elsewhere.file("dir/inside", OLD);
    elsewhere.age_dirs("dir", OLD);
    let canary = elsewhere.snapshot();
    let _mounts = [
        Mounted::bind(&elsewhere.path("dir"), &world.dir("tmp/dir", OLD)),
        Mounted::bind(&file, &world.file("tmp/file", OLD)),
        Mounted::tmpfs(&world.dir("tmp/disk", OLD), "size=1m"),
    ];
    world.file("tmp/disk/inside", OLD);
    world.age_dirs("tmp/disk", OLD);
    for args in [&["--dry-run"][..], &[]] {
        let report = sweep(&world, args).exits(0).json();
        assert_counts(&report, "tmp", &[("removed", 1), ("kept", 3), ("kept_by.mount_point", 3)]);
    }
    assert_eq!(elsewhere.snapshot(), canary);
    assert!(world.has("tmp/disk/inside") && world.has("tmp/dir/inside") && world.has("tmp/file"));
    assert!(!world.has("tmp/gone"));
}

#[test]
fn a_file_mounted_over_an_expired_export_keeps_both() {
    if !can_be_root("mounts") {
        return;
    }
    let world = World::new();
    let export = world.file("cache/export/task-1-backup-instance1.0.zip", OLD);
    let elsewhere = World::new();
    let canary = elsewhere.file_of("file", OLD, b"from elsewhere");
    let mount = Mounted::bind(&canary, &export);
    let report = sweep(&world, &[]).exits(0).json();
    assert_counts(&report, "export", &[("kept", 1), ("kept_by.mount_point", 1), ("failed", 0)]);
    drop(mount);
    assert_eq!(std::fs::read(&export).unwrap(), b"abcd");
    assert_eq!(std::fs::read(&canary).unwrap(), b"from elsewhere");
    let report = sweep(&world, &[]).exits(0).json();
    assert_counts(&report, "export", &[("removed", 1)]);
    assert!(elsewhere.has("file") && !export.exists());
}

#[test]
fn instances_that_are_or_hold_mounts_are_not_entered() {
    if !can_be_root("mounts") {
        return;
    }
    let world = World::new();
    world.file("tasks/7/tmp/gone", OLD);
    let _mounts = [
        Mounted::tmpfs(&world.dir("tasks/8/tmp", OLD), "size=1m"),
        Mounted::tmpfs(&world.dir("tasks/9", OLD), "size=1m"),
    ];
    for path in ["tasks/8/tmp/inside", "tasks/9/tmp/inside"] {
        world.file(path, OLD);
    }
    let report = sweep(&world, &["--zones", "instance-tmp"]).exits(0).json();
    assert_counts(&report, "instance-tmp", &[("seen", 1), ("removed", 1), ("failed", 0)]);
    let noted = notes(&report, "instance-tmp");
    assert_eq!(noted.iter().filter(|note| note.contains("mount")).count(), 1, "{noted:?}");
    assert!(world.has("tasks/8/tmp/inside") && world.has("tasks/9/tmp/inside"));
    assert!(!world.has("tasks/7/tmp/gone"));
}

#[test]
fn legacy_leaves_a_cache_that_is_or_holds_a_mount_point() {
    if !can_be_root("mounts") {
        return;
    }
    let world = World::new();
    world.file("tasks/1/export_cache/gone", OLD);
    let _mounts = [
        Mounted::tmpfs(&world.dir("tasks/2/export_cache", OLD), "size=1m"),
        Mounted::tmpfs(&world.dir("tasks/3/tmp/export_cache/deep", OLD), "size=1m"),
    ];
    for path in ["tasks/2/export_cache/inside", "tasks/3/tmp/export_cache/deep/inside"] {
        world.file(path, OLD);
    }
    world.age_dirs("tasks", OLD);
    let report = Run::of(world.command(&["legacy", "--format", "json"])).exits(0).json();
    let counts =
        [("removed", 1), ("kept_by.mount_point", 1), ("skipped_by.mount_point", 1), ("failed", 0)];
    assert_counts(&report, "legacy", &counts);
    assert!(world.has("tasks/2/export_cache/inside"));
    assert!(world.has("tasks/3/tmp/export_cache/deep/inside"));
    assert!(!world.has("tasks/1/export_cache"));
}

#[test]
fn a_zone_on_a_file_system_of_its_own_is_swept_and_a_note_says_so() {
    if !can_be_root("mounts") {
        return;
    }
    let world = World::new();
    let _mount = Mounted::tmpfs(&world.path("tmp"), "size=1m");
    world.file("tmp/gone/inside", OLD);
    world.age_dirs("tmp/gone", OLD);
    let report = sweep(&world, &[]).exits(0).json();
    assert_counts(&report, "tmp", &[("removed", 1), ("failed", 0)]);
    assert!(notes(&report, "tmp").contains(&"it is on a mount of its own"), "{report:#}");
    assert!(!world.has("tmp/gone"));
}
