//! Others who are at work in the volume while it is swept.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use fs2::FileExt;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::Value;

use super::{Mounted, OLD, bounded, failures, sweep, sweeping};
use crate::start::{Start, written};
use crate::world::{Run, World, assert_counts, can_be_root, export_name, set_age};

/// Does one thing again and again while another is done.
fn while_racing<T>(racer: impl Fn() + Sync, main: impl FnOnce() -> T) -> T {
    /// Raised even when the main part panics, or the racer would go on forever.
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Relaxed) {
                racer();
            }
        });
        let _over = Over(&over);
        main()
    })
}

fn total(report: &Value, key: &str) -> u64 {
    report["totals"][key].as_u64().unwrap()
}

/// An old tree with the names that [`canary`] has. It may be swept while it is made.
fn try_tree(top: &Path) -> std::io::Result<()> {
    let sub = top.join("sub");
    if sub.join("secret").exists() && top.join("secret").exists() {
        return Ok(());
    }
    fs::create_dir_all(&sub)?;
    let files = ["a", "b", "secret"].map(|name| [top.join(name), sub.join(name)]);
    for path in files.as_flattened() {
        fs::write(path, b"abcd")?;
        age(path);
    }
    age(&sub);
    age(top);
    Ok(())
}

/// Ages what may be gone.
fn age(path: &Path) {
    let old = filetime::FileTime::from_unix_time(crate::world::NOW_SECS - OLD, 0);
    let _ = filetime::set_symlink_file_times(path, old, old);
}

/// What must survive: outside the root, old, and with the names that are removed inside.
fn canary() -> World {
    let world = World::new();
    try_tree(&world.path("precious")).unwrap();
    try_tree(&world.path("precious/tmp")).unwrap();
    try_tree(&world.path("precious/export_cache")).unwrap();
    world.age_dirs("precious", OLD);
    world
}

/// Puts a link to `target` where `path` is, for a moment.
fn swap(path: &Path, link: &Path, target: &Path, swaps: &AtomicU64) {
    let _ = symlink(target, link);
    age(link);
    let exchange = || renameat_with(CWD, path, CWD, link, RenameFlags::EXCHANGE);
    if exchange().is_ok() {
        swaps.fetch_add(1, Relaxed);
        age(path.parent().unwrap());
        for _ in 0..50 {
            thread::yield_now();
        }
        // The link may have been removed meanwhile, or what was put aside.
        if exchange().is_err() {
            let _ = fs::rename(link, path);
        }
        age(path.parent().unwrap());
    }
    if link.is_symlink() {
        let _ = fs::remove_file(link);
    }
}

#[test]
fn links_swapped_in_during_the_pass_lead_nowhere() {
    let world = World::new();
    let outside = canary();
    let precious = outside.path("precious");
    let before = outside.snapshot();
    let trees: Vec<PathBuf> = (0..6)
        .map(|number| world.path(format!("tmp/tree-{number}")))
        .chain((0..3).map(|number| world.path(format!("tasks/{number}/tmp/tree"))))
        .collect();
    let exports: Vec<PathBuf> =
        (0..6).map(|number| world.path("cache/export").join(export_name(number))).collect();
    let link = world.path("link");
    let swaps = AtomicU64::new(0);
    let racer = || {
        for tree in &trees {
            let _ = try_tree(tree);
            swap(tree, &link, &precious, &swaps);
            swap(&tree.join("sub"), &link, &precious.join("sub"), &swaps);
            if tree.starts_with(world.path("tasks")) {
                let tmp = tree.parent().unwrap();
                swap(tmp.parent().unwrap(), &link, &precious, &swaps);
                swap(tmp, &link, &precious, &swaps);
            }
        }
        for export in &exports {
            if !export.exists() {
                let _ = fs::write(export, b"abcd");
                age(export);
            }
            swap(export, &link, &precious.join("secret"), &swaps);
        }
    };
    let mut removed = 0;
    while_racing(racer, || {
        for _ in 0..150 {
            let run = sweep(&world, &["--zones", "export,tmp,instance-tmp", "--jobs", "4"]);
            assert!(matches!(run.code, Some(0 | 1)), "{:?}\n{}", run.code, run.stderr);
            let report = run.json();
            removed += total(&report, "removed");
            for path in failures(&report).keys() {
                assert!(path.starts_with(&world.root), "{path:?}");
            }
        }
    });
    assert_eq!(outside.snapshot(), before);
    let swaps = swaps.into_inner();
    assert!(removed > 100 && swaps > 200, "no race was run: {removed} removed, {swaps} swaps");
}

#[test]
fn mounts_that_come_and_go_during_the_pass_are_not_entered() {
    if !can_be_root("mounts") {
        return;
    }
    let world = World::new();
    let outside = canary();
    let precious = outside.path("precious");
    let before = outside.snapshot();
    let trees: Vec<PathBuf> =
        (0..10).map(|number| world.path(format!("tmp/tree-{number}"))).collect();
    let mounts = AtomicU64::new(0);
    let racer = || {
        for tree in &trees {
            let _ = try_tree(tree);
            if Mounted::try_bind(&precious, &tree.join("sub")).is_some() {
                mounts.fetch_add(1, Relaxed);
            }
        }
    };
    let mut removed = 0;
    while_racing(racer, || {
        for _ in 0..40 {
            let run = sweep(&world, &["--jobs", "4"]);
            assert!(matches!(run.code, Some(0 | 1)), "{:?}\n{}", run.code, run.stderr);
            removed += total(&run.json(), "removed");
        }
    });
    assert_eq!(outside.snapshot(), before);
    let mounts = mounts.into_inner();
    assert!(removed > 20 && mounts > 20, "no race was run: {removed} removed, {mounts} mounts");
}

#[test]
fn what_vanishes_while_it_is_swept_is_no_failure() {
    let (mut removed, mut entries) = (0, 0);
    for _ in 0..6 {
        let world = World::new();
        let mut paths: Vec<PathBuf> = Vec::new();
        for number in 0..100 {
            let tree = world.path(format!("tmp/tree-{number}"));
            try_tree(&tree).unwrap();
            paths.push(tree);
            paths.push(world.file(format!("tmp/file-{number}"), OLD));
            paths.push(world.file(format!("cache/export/{}", export_name(number)), OLD));
        }
        // Deeper than the number of directories that a walk keeps open.
        for number in 0..10 {
            let tree = world.path(format!("tmp/deep-{number}"));
            try_tree(&tree.join(["d"; 60].join("/"))).unwrap();
            world.age_dirs(&tree, OLD);
            paths.push(tree);
        }
        let rival = || {
            for path in &paths {
                let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
            }
        };
        let report = while_racing(rival, || sweep(&world, &["--jobs", "4"]).exits(0).json());
        assert_eq!(total(&report, "failed"), 0, "{report:#}");
        removed += total(&report, "removed");
        entries += paths.len() as u64;
        rival();
        assert!(paths.iter().all(|path| path.symlink_metadata().is_err()));
    }
    assert!(0 < removed && removed < entries, "no race was run: {removed} of {entries}");
}

/// How many files make a removal take long enough to come in between.
const BIG: usize = 8000;

/// Sweeps a tree that takes a while to remove, and does something as soon as the removal has begun.
fn while_a_big_tree_goes<T>(world: &World, meanwhile: impl FnOnce(&Path) -> T) -> (T, Run) {
    let tree = world.dir("tmp/tree", OLD);
    for number in 0..BIG {
        let path = tree.join(number.to_string());
        written(|| File::create(&path).map(drop)).unwrap();
        age(&path);
    }
    set_age(&tree, OLD);
    let before = fs::metadata(&tree).unwrap().mtime();
    let mut command = bounded(&sweeping(world, &[]));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).start().unwrap();
    // The first removal in it moves its time.
    while fs::metadata(&tree).is_ok_and(|facts| facts.mtime() == before) {
        thread::yield_now();
    }
    let done = meanwhile(&tree);
    (done, Run::from(child.wait_with_output().unwrap()))
}

#[test]
fn the_lock_of_a_tree_is_held_until_it_is_gone() {
    let world = World::new();
    let (locked, run) = while_a_big_tree_goes(&world, |tree| {
        let top = File::open(tree).expect("no race was run");
        FileExt::try_lock_exclusive(&top).map_err(|error| error.kind())
    });
    assert_eq!(locked, Err(ErrorKind::WouldBlock));
    assert_eq!(total(&run.exits(0).json(), "removed"), 1);
    assert!(!world.has("tmp/tree"));
}

#[test]
fn somebody_who_removes_the_same_tree_at_once_is_no_failure() {
    let world = World::new();
    let parts: Vec<PathBuf> =
        (0..500).map(|it| world.path(format!("tmp/tree/part-{it}"))).collect();
    for part in &parts {
        try_tree(part).unwrap();
    }
    let (rival, run) = while_a_big_tree_goes(&world, |tree| fs::remove_dir_all(tree));
    rival.unwrap();
    let report = run.exits(0).json();
    assert_counts(&report, "tmp", &[("seen", 1), ("kept", 0), ("failed", 0)]);
    assert!(!world.has("tmp/tree"));
}

/// A tree that was moved away during its removal: what is left of it stays, and that is a failure.
#[track_caller]
fn assert_given_up(world: &World, run: &Run) {
    let report = run.exits(1).json();
    assert_counts(&report, "tmp", &[("removed", 0), ("failed", 1)]);
    assert!(failures(&report).contains_key(&world.path("tmp/tree")), "{report:#}");
    let left = fs::read_dir(world.path("aside")).unwrap().count();
    assert!(0 < left && left < BIG, "{left}");
}

#[test]
fn a_tree_that_is_moved_away_during_its_removal_is_let_go_and_its_new_namesake_survives() {
    let world = World::new();
    let ((), run) = while_a_big_tree_goes(&world, |tree| {
        fs::rename(tree, world.path("aside")).expect("no race was run");
        fs::create_dir(tree).unwrap();
    });
    assert!(world.has("tmp/tree"), "the new directory is gone; the report:\n{}", run.stdout);
    assert_given_up(&world, &run);
}

#[test]
fn a_link_that_takes_the_name_of_a_tree_being_removed_survives() {
    let world = World::new();
    let outside = canary();
    let before = outside.snapshot();
    let ((), run) = while_a_big_tree_goes(&world, |tree| {
        fs::rename(tree, world.path("aside")).expect("no race was run");
        symlink(outside.path("precious"), tree).unwrap();
    });
    assert!(world.has("tmp/tree"), "the link is gone; the report:\n{}", run.stdout);
    assert_given_up(&world, &run);
    assert_eq!(outside.snapshot(), before);
}

#[test]
fn an_old_file_that_is_moved_into_the_directory_being_emptied_survives() {
    let world = World::new();
    let moved = world.file("elsewhere", OLD);
    let ((), run) = while_a_big_tree_goes(&world, |tree| {
        fs::rename(&moved, tree.join("moved")).expect("no race was run");
    });
    assert!(world.has("tmp/tree/moved"), "the moved file is gone; the report:\n{}", run.stdout);
    assert_counts(&run.json(), "tmp", &[("seen", 1), ("removed", 0)]);
}

#[test]
fn an_old_file_that_is_moved_into_a_tree_during_its_removal_survives() {
    let world = World::new();
    let parts = ["a", "b"].map(|name| world.dir(format!("tmp/tree/{name}"), OLD));
    for path in parts.iter().flat_map(|part| (0..BIG).map(|it| part.join(it.to_string()))) {
        written(|| File::create(&path).map(drop)).unwrap();
        age(&path);
    }
    world.age_dirs("tmp/tree", OLD);
    let moved = world.file("elsewhere", OLD);
    let before = fs::metadata(&parts[0]).unwrap().mtime();
    let mut command = bounded(&sweeping(&world, &[]));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).start().unwrap();
    // One of the two goes first; the file comes into the other, whose time says so: the file's does not.
    let other = loop {
        let begun = parts
            .iter()
            .position(|part| fs::metadata(part).map_or(true, |facts| facts.mtime() != before));
        if let Some(begun) = begun {
            break &parts[1 - begun];
        }
        thread::yield_now();
    };
    fs::rename(moved, other.join("moved")).expect("no race was run");
    let run = Run::from(child.wait_with_output().unwrap());
    assert!(other.join("moved").exists(), "the moved file is gone; the report:\n{}", run.stdout);
    assert_counts(&run.json(), "tmp", &[("seen", 1), ("removed", 0)]);
}

/// Publishes content under a name as a careful exporter does: with the lock of what has the name,
/// and by renaming. Says whether something had the name.
fn publish(path: &Path, partial: &Path) -> bool {
    fs::write(partial, b"new content").unwrap();
    set_age(partial, 0);
    let held = loop {
        let Ok(file) = File::open(path) else { break None };
        FileExt::lock_exclusive(&file).unwrap();
        // What we waited for may have been removed while we did.
        if path.metadata().is_ok_and(|facts| facts.ino() == file.metadata().unwrap().ino()) {
            break Some(file);
        }
    };
    fs::rename(partial, path).unwrap();
    held.is_some()
}

#[test]
fn an_exporter_that_takes_the_lock_never_loses_what_it_publishes() {
    let world = World::new();
    let exports: Vec<PathBuf> =
        (0..6).map(|number| world.path("cache/export").join(export_name(number))).collect();
    let partial = world.path("partial");
    let (published, replaced, lost) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let racer = || {
        for export in &exports {
            replaced.fetch_add(u64::from(publish(export, &partial)), Relaxed);
            published.fetch_add(1, Relaxed);
            thread::yield_now();
            lost.fetch_add(u64::from(!export.exists()), Relaxed);
            // A day goes by.
            age(export);
        }
    };
    let mut removed = 0;
    while_racing(racer, || {
        for _ in 0..150 {
            let report = sweep(&world, &["--jobs", "4", "--lock-wait", "100ms"]).exits(0).json();
            removed += total(&report, "removed");
        }
    });
    assert_eq!(lost.into_inner(), 0, "fresh exports are lost");
    let (published, replaced) = (published.into_inner(), replaced.into_inner());
    assert!(
        removed > 50 && replaced > 50,
        "no race was run: {removed} removed, {replaced} of {published} replaced"
    );
}
