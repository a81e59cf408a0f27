//! What the next pass does with the rest of a tree whose removal ended early: it loses nothing that was added,
//! and removes nothing that is in use.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;

use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, flock, mkdirat, openat, renameat, unlinkat,
};

use super::{count, paused, quarantined, tree};
use crate::paused::{Moment, Paused};
use crate::start::unlock;
use crate::wait::wait_until;
use crate::world::{DAY, Run, World, assert_counts, can_be_root, tool, zone};

/// What a process does that has had a directory of the tree open since before its removal: it adds a file,
/// and moves in one that is as old as the tree.
fn add_through(sub: &File, world: &World) {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    let new = openat(sub, "new", flags, Mode::from_raw_mode(0o600)).unwrap();
    rustix::io::write(&new, b"just now").unwrap();
    let thesis = world.file("elsewhere/thesis", 20 * DAY);
    renameat(CWD, thesis, sub, "thesis").unwrap();
}

/// Asserts that a pass says that a part of the tree is gone, which has its name again, and why.
#[track_caller]
pub(super) fn is_reported_as_returned(run: &Run, world: &World, why: &str, about: &str) {
    let report = run.exits(1).json();
    assert_counts(&report, "tmp", &[("seen", 1), ("removed", 0), ("failed", 1)]);
    let failure = &report["failures"][0];
    assert_eq!(failure["path"].as_str(), world.path("tmp/tree").to_str(), "{about}");
    let message = failure["message"].as_str().unwrap();
    for part in [why, "some of its entries", "removed by an interrupted run"] {
        assert!(message.contains(part), "{about}: {part}: {message}");
    }
}

/// After the pass that was disturbed, the next one loses none of what was added, and what it leaves has the
/// name of the tree again.
fn is_kept_by_the_next_pass(world: &World, is_killed: bool, about: &str) {
    let run = world.run(&["run", "--format", "json"]);
    if is_killed {
        is_reported_as_returned(&run, world, "used", about);
    } else {
        assert_counts(&run.exits(0).json(), "tmp", &[("seen", 1), ("skipped_by.used", 1)]);
    }
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
            is_kept_by_the_next_pass(&world, is_killed, &about);
        }
    }
}

/// Nothing but the times of its directory tells that it came.
#[test]
fn an_old_file_that_is_moved_into_a_tree_during_its_removal_survives_the_next_pass_too() {
    let world = World::new();
    let sub = File::open(tree(&world, 800).join("sub")).unwrap();
    let thesis = world.file("elsewhere/thesis", 20 * DAY);
    let pass = paused(&world, &[], 120);
    renameat(CWD, thesis, &sub, "thesis").unwrap();
    let report = pass.finish().exits(1).json();
    assert_counts(&report, "tmp", &[("removed", 0), ("failed", 1)]);
    let report = world.run(&["run", "--format", "json"]).exits(0).json();
    assert_counts(&report, "tmp", &[("seen", 1), ("skipped_by.used", 1)]);
    assert!(world.has("tmp/tree/sub/thesis"));
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
    unlock(holder);
    let last = std::fs::read_dir(rest.join("sub")).unwrap().last().unwrap().unwrap().path();
    let reader = File::open(last).unwrap();
    assert_counts(&run(), "tmp", &[("seen", 1), ("skipped_by.in_use", 1)]);
    assert_eq!(count(&rest.join("sub")), left, "a part of it was removed");
    drop(reader);
    wait_until("the rest is removed", || zone(&run(), "tmp")["removed"] == 1);
    assert_eq!(count(&world.path("tmp")), 0);
}

/// What a process that has a directory of the tree open can do there without a file of its own that is new.
fn in_rest(about: &str, change: impl Fn(&World, &File), survivor: &str) {
    for is_killed in [true, false] {
        let world = World::new();
        let dir = tree(&world, 800).join("sub");
        let old = world.file("elsewhere/album/photo", 20 * DAY);
        world.age_dirs("elsewhere", 20 * DAY);
        let sub = File::open(dir).unwrap();
        // Where the process is killed, nothing is known about when it ended. Otherwise an immutable file keeps
        // the rest, and the change is made while no sweeper is at work.
        if is_killed {
            let pass = paused(&world, &[], 120);
            change(&world, &sub);
            drop(pass);
        } else {
            if !can_be_root("an immutable file") {
                return;
            }
            let stuck = world.path("tmp/tree/sub/file-399");
            tool("chattr", &["+i".as_ref(), stuck.as_ref()]);
            world.run(&["run"]).exits(1);
            tool("chattr", &["-i".as_ref(), quarantined(&world).join("sub/file-399").as_ref()]);
            change(&world, &sub);
        }
        let run = world.run(&["run", "--format", "json"]);
        let about = format!("{about}, killed: {is_killed}");
        is_reported_as_returned(&run, &world, "used", &about);
        assert!(world.has(format!("tmp/tree/sub/{survivor}")), "{about}");
        assert_eq!(count(&world.path("tmp")), 1, "{about}: the private directory is left");
        drop(old);
    }
}

#[test]
fn a_new_empty_directory_in_the_rest_of_a_tree_stays() {
    let make = |_: &World, sub: &File| mkdirat(sub, "new", Mode::from_raw_mode(0o755)).unwrap();
    in_rest("a new directory", make, "new");
}

#[test]
fn an_old_directory_that_is_moved_into_the_rest_of_a_tree_stays_with_all_that_is_in_it() {
    let album = |world: &World, sub: &File| {
        renameat(CWD, world.path("elsewhere/album"), sub, "album").unwrap();
    };
    in_rest("a moved directory", album, "album/photo");
}

#[test]
fn an_old_file_that_is_moved_into_the_rest_of_a_tree_stays() {
    let photo = |world: &World, sub: &File| {
        renameat(CWD, world.path("elsewhere/album/photo"), sub, "photo").unwrap();
    };
    in_rest("a moved file", photo, "photo");
}

#[test]
fn what_is_not_a_tree_among_interrupted_removals_gets_its_name_back() {
    let world = World::new();
    tree(&world, 400);
    drop(paused(&world, &[], 120));
    let remove = quarantined(&world).parent().unwrap().to_owned();
    std::os::unix::fs::symlink("nowhere", remove.join("link")).unwrap();
    std::fs::write(remove.join("file"), "just now").unwrap();
    world.run(&["run"]).exits(0);
    let mut left: Vec<_> = std::fs::read_dir(world.path("tmp")).unwrap().flatten().collect();
    left.sort_by_key(std::fs::DirEntry::file_name);
    let left: Vec<_> = left.iter().map(std::fs::DirEntry::file_name).collect();
    assert_eq!(left, ["file", "link"], "the tree is gone, and so is the private directory");
}

#[test]
fn what_only_has_the_name_of_a_private_directory_is_left_alone_with_a_note() {
    let world = World::new();
    let name = |number: u8| world.path(format!("tmp/.sweeper-000000000000000{number}"));
    std::os::unix::fs::symlink("nowhere", name(1)).unwrap();
    std::fs::write(name(2), "x").unwrap();
    std::fs::create_dir_all(name(3).join("remove/tree")).unwrap();
    for (number, stage) in [(4, "check"), (5, "remove")] {
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::create_dir(name(number)).unwrap();
        std::fs::set_permissions(name(number), private).unwrap();
        let away = world.dir(format!("elsewhere/{stage}"), 20 * DAY);
        world.file(format!("elsewhere/{stage}/file"), 20 * DAY);
        std::os::unix::fs::symlink(away, name(number).join(stage)).unwrap();
    }
    let report = world.run(&["run", "--format", "json"]).exits(0).json();
    let notes = crate::world::zone(&report, "tmp")["notes"].to_string();
    let not_a_dir = "not a directory";
    for (number, why) in [
        (1, not_a_dir),
        (2, not_a_dir),
        (3, "other users"),
        (4, "another program"),
        (5, "another program"),
    ] {
        assert!(name(number).symlink_metadata().is_ok() && notes.contains(why), "{notes}");
    }
    assert!(world.has("elsewhere/check/file") && world.has("elsewhere/remove/file"));
}

/// Who makes very many of them would leave no room for other notes, nor memory.
#[test]
fn very_many_names_of_private_directories_and_entries_in_them_take_little_room() {
    const ENTRIES: usize = 10_100;
    let world = World::new();
    for number in 0..300 {
        world.dir(format!("tmp/.sweeper-{number:016}"), 0);
    }
    let check = world.path("tmp/.sweeper-aaaaaaaaaaaaaaaa/check");
    std::fs::create_dir_all(&check).unwrap();
    let private = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(check.parent().unwrap(), private).unwrap();
    for number in 0..ENTRIES {
        world.link(check.join(number.to_string()), "nowhere", 0);
    }
    let returned = |number: usize| world.path("tmp").join(number.to_string());
    let mut passes = 0;
    while check.exists() && passes < 5 {
        let report = world.run(&["run", "--zones", "tmp", "--format", "json"]).exits(0).json();
        let notes = crate::world::zone(&report, "tmp")["notes"].as_array().unwrap().clone();
        assert!(notes.len() <= 3, "{notes:?}");
        passes += 1;
    }
    let is_back = |number: &usize| returned(*number).symlink_metadata().is_ok();
    assert_eq!(((0..ENTRIES).filter(is_back).count(), passes), (ENTRIES, 2));
}

#[test]
fn a_tree_whose_directory_was_removed_after_a_crash_is_not_stuck() {
    let world = World::new();
    world.file("tasks/7/export_cache/old", 20 * DAY);
    world.age_dirs("tasks", 20 * DAY);
    let moment = Moment::of("renameat2", 1);
    let legacy = Paused::of("legacy", &world, &[], 4096, &moment);
    drop(legacy.unwrap_or_else(|run| panic!("{}", run.stdout)));
    std::fs::remove_dir(world.path("tasks/7")).unwrap();
    world.run(&["legacy"]).exits(0);
    assert_eq!(count(&world.path("tasks")), 0);
}

/// As CVAT's own cleaner does, and `rm -rf`: they work in directories that they have opened before.
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
