//! What the next pass does with the rest of a tree whose removal ended early: it loses nothing that was added,
//! and removes nothing that is in use.

use std::fs::File;

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, flock, openat, renameat, unlinkat};

use super::{count, paused, quarantined, tree};
use crate::world::{DAY, World, assert_counts};

/// What a process does that has had a directory of the tree open since before its removal: it adds a file,
/// and moves in one that is as old as the tree.
fn add_through(sub: &File, world: &World) {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    let new = openat(sub, "new", flags, Mode::from_raw_mode(0o600)).unwrap();
    rustix::io::write(&new, b"just now").unwrap();
    let thesis = world.file("elsewhere/thesis", 20 * DAY);
    renameat(CWD, thesis, sub, "thesis").unwrap();
}

/// After the pass that was disturbed, the next one loses none of what was added, and what it leaves has the
/// name of the tree again.
fn is_kept_by_the_next_pass(world: &World, about: &str) {
    let run = world.run(&["run", "--format", "json"]);
    assert_counts(&run.exits(0).json(), "tmp", &[("seen", 1), ("skipped_by.used", 1)]);
    let sub = world.path("tmp/tree/sub");
    assert_eq!(std::fs::read(sub.join("new")).unwrap(), b"just now", "{about}");
    assert!(sub.join("thesis").exists(), "{about}");
    assert_eq!(count(&world.path("tmp")), 1, "{about}: the private directory is left");
}

#[test]
fn what_is_added_through_an_open_directory_survives_this_pass_and_the_next() {
    // The removal ends as a failure, or the process is killed.
    for is_killed in [false, true] {
        for removals in [1, 120, 798] {
            let world = World::new();
            let sub = File::open(tree(&world, 800).join("sub")).unwrap();
            let pass = paused(&world, &[], removals);
            add_through(&sub, &world);
            let about = format!("killed: {is_killed}, after {removals}");
            if is_killed {
                drop(pass);
            } else {
                let report = pass.finish().exits(1).json();
                assert_counts(&report, "tmp", &[("removed", 0), ("failed", 1)]);
            }
            is_kept_by_the_next_pass(&world, &about);
        }
    }
}

#[test]
fn the_rest_of_a_tree_is_not_removed_while_it_is_locked_or_open() {
    let world = World::new();
    tree(&world, 800);
    drop(paused(&world, &[], 120));
    let rest = quarantined(&world);
    let left = count(&rest.join("sub"));
    let run = || world.run(&["run", "--format", "json"]).exits(0).json();
    let holder = File::open(&rest).unwrap();
    flock(&holder, FlockOperation::LockShared).unwrap();
    assert_counts(&run(), "tmp", &[("seen", 1), ("skipped_by.locked", 1)]);
    drop(holder);
    let last = std::fs::read_dir(rest.join("sub")).unwrap().last().unwrap().unwrap().path();
    let reader = File::open(last).unwrap();
    assert_counts(&run(), "tmp", &[("seen", 1), ("skipped_by.in_use", 1)]);
    assert_eq!(count(&rest.join("sub")), left, "a part of it was removed");
    drop(reader);
    assert_counts(&run(), "tmp", &[("seen", 1), ("removed", 1)]);
    assert_eq!(count(&world.path("tmp")), 0);
}

#[test]
fn a_tree_that_another_process_removes_at_the_same_time_is_removed() {
    for removals in [1, 5, 120, 600] {
        let world = World::new();
        let path = tree(&world, 800);
        for number in 0..20 {
            world.file(format!("tmp/tree/sub/deep-{number}/file"), 20 * DAY);
            world.file(format!("tmp/tree/other/deep-{number}/file"), 20 * DAY);
        }
        world.age_dirs("tmp", 20 * DAY);
        let open = |path: &str| File::open(world.path("tmp/tree").join(path)).unwrap();
        let (sub, other) = (open("sub"), open("other"));
        let deep: Vec<File> = (0..20).map(|number| open(&format!("other/deep-{number}"))).collect();
        let pass = paused(&world, &[], removals);
        for (number, dir) in deep.iter().enumerate() {
            let _ = unlinkat(dir, "file", AtFlags::empty());
            if number % 2 == 0 {
                let _ = unlinkat(&other, format!("deep-{number}"), AtFlags::REMOVEDIR);
            }
        }
        for number in 0..400 {
            let _ = unlinkat(&sub, format!("file-{number}"), AtFlags::empty());
        }
        let report = pass.finish().exits(0).json();
        assert_counts(&report, "tmp", &[("removed", 1), ("failed", 0)]);
        assert!(!path.exists() && count(&world.path("tmp")) == 0, "after {removals}");
    }
}
