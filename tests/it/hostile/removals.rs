//! Other processes at work in a tree while it is removed.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;

use fs2::FileExt;

use super::races::{age, canary, total, try_tree};
use super::{
    OLD, bounded, failures, in_removal, message_of, quarantines, sweep, sweeping, try_in_removal,
};
use crate::paused::{Moment, Paused};
use crate::start::{Start, written};
use crate::world::{Run, Stat, World, assert_counts, set_age};

/// How many files a tree has whose removal is interrupted, and how fast they are removed at most where that
/// takes place at the same time as something else.
const BIG: usize = 8000;
const SLOWLY: [&str; 2] = ["--max-rate", "4000/s"];

/// After how many removals a pass is stopped.
const SOME: usize = 120;

/// Starts a sweep, waits until it has begun to remove `tmp/tree`, and says where that is.
fn start_removal(world: &World, args: &[&str]) -> (Child, PathBuf) {
    let before = fs::metadata(world.path("tmp/tree")).unwrap().mtime();
    let mut command = bounded(&sweeping(world, args));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).start().unwrap();
    loop {
        // The first removal in it changes its mtime.
        if let Some(tree) = try_in_removal(world, "tree")
            && fs::metadata(&tree).is_ok_and(|metadata| metadata.mtime() != before)
        {
            return (child, tree);
        }
        assert!(child.try_wait().unwrap().is_none(), "no race was run");
        thread::yield_now();
    }
}

/// Old files in `dir`, which is old, too.
fn many_files(dir: &Path) {
    for number in 0..BIG {
        let path = dir.join(number.to_string());
        written(|| File::create(&path).map(drop)).unwrap();
        age(&path);
    }
    set_age(dir, OLD);
}

/// Starts a sweep that stops in the middle of the removal of `tmp/tree`, and says where that is.
fn stopped(world: &World) -> (Paused, PathBuf) {
    let moment = Moment::of("unlinkat", SOME);
    let pass = Paused::at(world, &[], 4096, &moment)
        .unwrap_or_else(|run| panic!("it ended before:\n{}\n{}", run.stdout, run.stderr));
    (pass, in_removal(world, "tree"))
}

/// Sweeps a big tree, and does something in the middle of its removal with the path where it is then.
fn while_a_big_tree_is_removed<T>(world: &World, meanwhile: impl FnOnce(&Path) -> T) -> (T, Run) {
    many_files(&world.dir("tmp/tree", OLD));
    let (pass, tree) = stopped(world);
    let done = meanwhile(&tree);
    (done, pass.finish())
}

/// Asserts that the next pass removes the rest.
#[track_caller]
fn assert_completed(world: &World) {
    let report = sweep(world, &[]).exits(0).json();
    assert_counts(&report, "tmp", &[("seen", 1), ("removed", 1), ("failed", 0)]);
    assert_eq!(fs::read_dir(world.path("tmp")).unwrap().count(), 0);
}

#[test]
fn the_lock_of_a_tree_is_held_until_it_is_removed() {
    let world = World::new();
    let (locked, run) = while_a_big_tree_is_removed(&world, |tree| {
        let top = File::open(tree).unwrap();
        FileExt::try_lock_exclusive(&top).map_err(|error| error.kind())
    });
    assert_eq!(locked, Err(ErrorKind::WouldBlock));
    assert_eq!(total(&run.exits(0).json(), "removed"), 1);
    assert!(!world.has("tmp/tree") && quarantines(&world).is_empty());
}

/// A big tree with many small ones in it.
fn tree_of_trees(world: &World) {
    for number in 0..500 {
        try_tree(&world.path(format!("tmp/tree/part-{number}"))).unwrap();
    }
    many_files(&world.path("tmp/tree"));
}

/// Another process cannot remove it by the name that it had.
#[track_caller]
fn assert_cannot_be_removed_by_name(world: &World) {
    let removed = fs::remove_dir_all(world.path("tmp/tree"));
    assert_eq!(removed.unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn another_process_that_removes_the_same_tree_is_no_failure() {
    let world = World::new();
    tree_of_trees(&world);
    let (pass, tree) = stopped(&world);
    assert_cannot_be_removed_by_name(&world);
    fs::remove_dir_all(tree).unwrap();
    let report = pass.finish().exits(0).json();
    let counts = [("seen", 1), ("removed", 0), ("kept", 0), ("skipped_by.gone", 1), ("failed", 0)];
    assert_counts(&report, "tmp", &counts);
    assert!(!world.has("tmp/tree") && quarantines(&world).is_empty());
}

#[test]
fn two_processes_that_remove_the_same_tree_at_the_same_time_do_not_disturb_each_other() {
    let world = World::new();
    tree_of_trees(&world);
    let (child, tree) = start_removal(&world, &SLOWLY);
    assert_cannot_be_removed_by_name(&world);
    let rival = fs::remove_dir_all(tree);
    let run = Run::from(child.wait_with_output().unwrap());
    rival.unwrap();
    let report = run.json();
    assert_counts(&report, "tmp", &[("seen", 1), ("kept", 0)]);
    // A directory that the other one is about to remove has changed, and what changes it is not known: the
    // pass may end there and say so. Nothing else is a failure.
    for (path, errno) in failures(&report) {
        assert_eq!((&path, &*errno), (&world.path("tmp/tree"), ""), "nothing was busy");
        let message = message_of(&report, &path);
        assert!(message.contains(": used; "), "{message}");
    }
    assert_counts(&sweep(&world, &[]).exits(0).json(), "tmp", &[("failed", 0)]);
    let left: Vec<_> = walkdir::WalkDir::new(world.path("tmp")).into_iter().flatten().collect();
    assert_eq!(left.len(), 1, "{report:#} {left:#?}");
}

/// Asserts that what another process moves away during its removal, by the name that it had, is not there
/// to be moved.
#[track_caller]
fn assert_out_of_reach(world: &World) {
    let moved = fs::rename(world.path("tmp/tree"), world.path("aside"));
    assert_eq!(moved.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!world.has("aside"));
}

/// What takes the name of a tree during its removal is not touched, and the tree is removed.
#[track_caller]
fn assert_survives(put: impl Fn(&Path)) {
    let world = World::new();
    let path = world.path("tmp/tree");
    let (before, run) = while_a_big_tree_is_removed(&world, |_| {
        assert_out_of_reach(&world);
        put(&path);
        Stat::of(&path)
    });
    assert_counts(&run.exits(0).json(), "tmp", &[("seen", 1), ("removed", 1), ("failed", 0)]);
    assert_eq!(Stat::of(&path), before);
    assert!(quarantines(&world).is_empty());
}

/// A tree that was moved away during its removal, from where it is then: what is left of it stays, and that
/// is a failure. What takes its name there stays as well.
#[track_caller]
fn assert_abandoned(put: impl Fn(&Path)) -> World {
    let world = World::new();
    let aside = world.path("aside");
    let ((path, before), run) = while_a_big_tree_is_removed(&world, |tree| {
        fs::rename(tree, &aside).unwrap();
        put(tree);
        (tree.to_owned(), Stat::of(tree))
    });
    let report = run.exits(1).json();
    assert_counts(&report, "tmp", &[("removed", 0), ("failed", 1)]);
    assert!(failures(&report).contains_key(&world.path("tmp/tree")), "{report:#}");
    assert_eq!(Stat::of(&path), before);
    assert!(!world.has("tmp/tree"));
    let left = fs::read_dir(&aside).unwrap().count();
    assert!(0 < left && left < BIG, "{left}");
    // It is no part of the data any more, so the next pass does not look for it.
    sweep(&world, &[]);
    assert_eq!(fs::read_dir(&aside).unwrap().count(), left);
    world
}

#[test]
fn a_tree_being_removed_cannot_be_moved_away_and_what_takes_its_name_survives() {
    assert_survives(|path| fs::create_dir(path).unwrap());
    assert_survives(|path| {
        fs::create_dir(path).unwrap();
        fs::write(path.join("new"), "new").unwrap();
    });
}

#[test]
fn a_tree_that_is_moved_out_of_quarantine_is_left_and_what_takes_its_name_there_survives() {
    let world = assert_abandoned(|path| fs::create_dir(path).unwrap());
    assert!(quarantines(&world).is_empty(), "the next pass");
}

#[test]
fn a_link_that_takes_the_name_of_a_tree_being_removed_survives() {
    let outside = canary();
    let before = outside.snapshot();
    assert_survives(|path| symlink(outside.path("precious"), path).unwrap());
    assert_eq!(outside.snapshot(), before);
    // In quarantine, too.
    assert_abandoned(|path| symlink(outside.path("precious"), path).unwrap());
    assert_eq!(outside.snapshot(), before);
}

/// Moves an old file into a directory of a tree that is being removed: not by the name that it had, and then
/// to where it is.
#[track_caller]
fn move_into(world: &World, tree: &Path, dir: &str) {
    let file = world.file("elsewhere", OLD);
    let by_name = fs::rename(&file, world.path("tmp/tree").join(dir).join("moved"));
    assert_eq!(by_name.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(file.exists());
    fs::rename(&file, tree.join(dir).join("moved")).unwrap();
}

/// The moved file is in the tree, which has its own name again, and the report says that a part of the tree
/// is gone.
#[track_caller]
fn assert_moved_file_survives(world: &World, run: &Run, moved: &str) {
    let is_there = world.path("tmp/tree").join(moved).exists();
    assert!(is_there, "the moved file is gone; the report:\n{}", run.stdout);
    assert!(quarantines(world).is_empty());
    let report = run.exits(1).json();
    assert_counts(&report, "tmp", &[("seen", 1), ("removed", 0), ("failed", 1)]);
    let (failed, _) = failures(&report).pop_first().unwrap();
    assert!(failed.starts_with(world.path("tmp/tree")), "{failed:?}");
    let message = message_of(&report, &failed);
    assert!(message.contains("of its entries were removed"), "{message}");
}

#[test]
fn an_old_file_that_is_moved_into_the_directory_being_emptied_survives() {
    let world = World::new();
    let ((), run) = while_a_big_tree_is_removed(&world, |tree| {
        move_into(&world, tree, "");
    });
    assert_moved_file_survives(&world, &run, "moved");
}

#[test]
fn an_old_file_that_is_moved_into_a_tree_during_its_removal_survives() {
    let world = World::new();
    for name in ["a", "b"] {
        many_files(&world.dir(format!("tmp/tree/{name}"), OLD));
    }
    world.age_dirs("tmp/tree", OLD);
    let (pass, tree) = stopped(&world);
    // The removal begins with one of the two. The file is moved into the other one, whose mtime shows that;
    // the times of the file do not.
    let is_whole = |name: &&str| fs::read_dir(tree.join(name)).unwrap().count() == BIG;
    let other = ["a", "b"].into_iter().find(is_whole).unwrap();
    move_into(&world, &tree, other);
    assert_moved_file_survives(&world, &pass.finish(), &format!("{other}/moved"));
}

#[test]
fn a_removal_that_waits_for_its_rate_makes_no_other_process_wait() {
    let world = World::new();
    let tree = world.dir("tmp/tree", OLD);
    for number in 0..40 {
        world.file(tree.join(number.to_string()), OLD);
    }
    set_age(&tree, OLD);
    let (child, rest) = start_removal(&world, &["--max-rate", "2/s"]);
    // A file that a lease is held on cannot be opened without a wait.
    let mut without_wait = File::options();
    without_wait.read(true).custom_flags(libc::O_NONBLOCK);
    let open = |name: fs::DirEntry| {
        let file = without_wait.open(name.path()).ok()?;
        Some((name.path(), file))
    };
    // One of the next: they are removed in this order.
    let (path, file) = fs::read_dir(&rest)
        .unwrap()
        .flatten()
        .find_map(open)
        .expect("all files have leases or are gone");
    let report = Run::from(child.wait_with_output().unwrap()).exits(1).json();
    let path = tree.join(path.file_name().unwrap());
    assert!(path.exists(), "an open file was removed, or did not return to its name");
    assert_eq!(failures(&report), [(tree.clone(), String::new())].into());
    assert!(quarantines(&world).is_empty());
    // When the rest has expired, a pass leaves it while the file is open, and removes it then.
    set_age(&tree, OLD);
    let report = sweep(&world, &[]).json();
    assert_counts(&report, "tmp", &[("removed", 0), ("skipped_by.in_use", 1)]);
    assert!(path.exists(), "an open file was removed");
    drop(file);
    assert_completed(&world);
}

/// Who may write in `tmp` and watches it can rename a directory as soon as it is made.
#[test]
fn what_takes_the_place_of_a_new_private_directory_is_not_used() {
    let world = World::new();
    world.file("tmp/tree/file", OLD);
    world.age_dirs("tmp", OLD);
    let moment = Moment::of("mkdirat", 1);
    let pass =
        Paused::at(&world, &[], 4096, &moment).unwrap_or_else(|run| panic!("{}", run.stdout));
    let made = fs::read_dir(world.path("tmp")).unwrap().map(|entry| entry.unwrap().path());
    let made = made.into_iter().find(|path| !path.ends_with("tree")).unwrap();
    fs::rename(&made, world.path("elsewhere")).unwrap();
    fs::create_dir(&made).unwrap();
    let before = Stat::of(&made);
    assert_counts(&pass.finish().exits(0).json(), "tmp", &[("removed", 1)]);
    assert_eq!(Stat::of(&made), before);
}
