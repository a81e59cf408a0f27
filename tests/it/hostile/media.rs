//! File systems that accept no writes: read-only, or full to the last byte.

use std::fs;
use std::io::{ErrorKind, Write};

use super::{Island, OLD, failures, message_of, sweep};
use crate::interrupted::{has_strace, tampered};
use crate::world::{Run, World, assert_counts, can_be_root, export_name, sweeper, zone};

fn exports_and_trees(world: &World, size: usize) {
    let content = vec![b'x'; size];
    for number in 1..=4 {
        world.file_of(format!("cache/export/{}", export_name(number)), OLD, &content);
        world.file_of(format!("tmp/tree/{number}/inside"), OLD, &content);
        world.file_of(format!("tmp/file-{number}"), OLD, &content);
    }
    world.age_dirs("tmp/tree", OLD);
}

fn assert_all_fail_unchanged(island: &Island) {
    let world = &island.world;
    exports_and_trees(world, 10);
    world.file("tmp/fresh", 0);
    island.mount.read_only();
    let before = world.snapshot();
    let report = sweep(world, &[]).exits(1).json();
    assert_counts(&report, "export", &[("seen", 4), ("failed", 4), ("freed_bytes", 0)]);
    assert_counts(&report, "tmp", &[("seen", 6), ("failed", 5), ("kept_by.fresh", 1)]);
    let failed = failures(&report);
    assert_eq!(failed.len(), 9);
    assert!(failed.values().all(|errno| errno == "EROFS"), "{failed:#?}");
    let message = message_of(&report, &world.path("tmp/file-1"));
    assert!(message.contains("mounted read-only"), "{message}");
    assert_eq!(world.snapshot(), before);
}

#[test]
fn on_a_read_only_file_system_everything_fails_and_nothing_changes() {
    if can_be_root("mounts") {
        assert_all_fail_unchanged(&Island::tmpfs("size=1m"));
        assert_all_fail_unchanged(&Island::ext4());
    }
}

/// Writes until the disk is full, in ever smaller pieces.
fn fill(world: &World) {
    let mut file = fs::File::create(world.path("ballast")).unwrap();
    for size in [1 << 16, 1 << 12, 1] {
        let piece = vec![b'b'; size];
        while file.write_all(&piece).is_ok() {}
    }
    // Then uses up all inodes.
    let mut number = 0;
    let refusal = loop {
        number += 1;
        if let Err(error) = fs::File::create(world.path(format!("name-{number}"))) {
            break error;
        }
        assert!(number < 100_000, "endless");
    };
    assert_eq!(refusal.kind(), ErrorKind::StorageFull);
}

/// The free bytes. Not all of them can be used: ext4 reserves some.
fn free(world: &World) -> u64 {
    let vfs = rustix::fs::statvfs(&world.root).unwrap();
    vfs.f_bfree * vfs.f_frsize
}

fn assert_a_full_file_system_is_swept(island: &Island) {
    let world = &island.world;
    exports_and_trees(world, 200_000);
    fill(world);
    island.sync();
    assert_eq!(rustix::fs::statvfs(&world.root).unwrap().f_bavail, 0);
    let before = free(world);
    let report = sweep(world, &[]).exits(0).json();
    assert_counts(&report, "export", &[("seen", 4), ("removed", 4), ("failed", 0)]);
    assert_counts(&report, "tmp", &[("seen", 5), ("removed", 5), ("failed", 0)]);
    island.sync();
    let freed: u64 =
        ["export", "tmp"].iter().map(|it| zone(&report, it)["freed_bytes"].as_u64().unwrap()).sum();
    assert!(freed >= 12 * 200_000, "{freed}");
    assert_eq!(free(world) - before, freed);
    assert!(world.has("ballast") && !world.has("tmp/tree") && !world.has("tmp/file-4"));
    fs::write(world.path("room"), vec![0; 1 << 20]).unwrap();
}

#[test]
fn a_full_file_system_is_swept_and_the_space_is_free_again() {
    if can_be_root("mounts") {
        assert_a_full_file_system_is_swept(&Island::tmpfs("size=4m,nr_inodes=300"));
        assert_a_full_file_system_is_swept(&Island::ext4());
    }
}

/// Nothing can be made there any more: no block and no inode is left.
fn assert_the_rest_of_a_tree_is_removed_from_a_full_file_system(island: &Island) {
    let world = &island.world;
    for number in 0..20 {
        world.file(format!("tmp/tree/{number}"), OLD);
    }
    world.age_dirs("tmp/tree", OLD);
    let ended = tampered(world, "unlinkat", "error=EIO:when=9");
    assert_eq!(ended.status.code(), Some(1));
    fill(world);
    assert!(fs::create_dir(world.path("projects/full")).is_err());
    let report = sweep(world, &["--zones", "tmp"]).exits(0).json();
    assert_counts(&report, "tmp", &[("seen", 1), ("removed", 1), ("failed", 0)]);
    assert_eq!(fs::read_dir(world.path("tmp")).unwrap().count(), 0);
}

#[test]
fn what_an_interrupted_removal_has_left_is_removed_from_a_full_file_system() {
    if can_be_root("mounts") && has_strace() {
        let tmpfs = Island::tmpfs("size=4m,nr_inodes=100");
        assert_the_rest_of_a_tree_is_removed_from_a_full_file_system(&tmpfs);
        assert_the_rest_of_a_tree_is_removed_from_a_full_file_system(&Island::ext4());
    }
}

#[test]
fn a_demo_on_a_full_disk_says_which_one_is_full() {
    if !can_be_root("mounts") {
        return;
    }
    let island = Island::tmpfs("size=64k");
    let mut command = sweeper(&["demo"]);
    command.env("TMPDIR", &island.mount.0);
    let run = Run::of(command);
    let said = &run.exits(2).stderr;
    assert!(said.contains("cannot write the sample in") && said.contains("TMPDIR"), "{said}");
}
