//! Other processes at work in the data root while it is swept.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use fs2::FileExt;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::Value;

use super::{Mounted, OLD, failures, sweep};
use crate::world::{World, can_be_root, export_name, set_age};

/// Repeats one thing while another is done.
fn while_racing<T>(racer: impl Fn() + Sync, main: impl FnOnce() -> T) -> T {
    /// Set even when the main part panics, or the racer would never end.
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

/// The longest race, in rounds: far more than any machine needs.
const MOST_ROUNDS: usize = 20_000;

/// Repeats `round` at least `least` times, and until the race has really been run: how soon that is depends
/// on the machine.
fn until_raced(least: usize, mut round: impl FnMut(), has_raced: impl Fn() -> bool) {
    for done in 1.. {
        round();
        if done >= least && has_raced() {
            return;
        }
        assert!(done < MOST_ROUNDS, "no race was run");
    }
}

pub fn total(report: &Value, key: &str) -> u64 {
    report["totals"][key].as_u64().unwrap()
}

/// An old tree with the names that [`canary`] has. It may be swept while it is made.
pub fn try_tree(top: &Path) -> std::io::Result<()> {
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

/// Ages a path that may be gone.
pub fn age(path: &Path) {
    let old = filetime::FileTime::from_unix_time(crate::world::NOW_SECS - OLD, 0);
    let _ = filetime::set_symlink_file_times(path, old, old);
}

/// What must survive: outside of the data root, old, and with the names that are removed inside.
pub fn canary() -> World {
    let world = World::new();
    try_tree(&world.path("precious")).unwrap();
    try_tree(&world.path("precious/tmp")).unwrap();
    try_tree(&world.path("precious/export_cache")).unwrap();
    world.age_dirs("precious", OLD);
    world
}

/// Puts a link to `target` in the place of `path`, for a moment.
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
        // Either of the two may have been removed meanwhile.
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
    let removed = AtomicU64::new(0);
    let round = || {
        let run = sweep(&world, &["--zones", "export,tmp,instance-tmp", "--jobs", "4"]);
        assert!(matches!(run.code, Some(0 | 1)), "{:?}\n{}", run.code, run.stderr);
        let report = run.json();
        removed.fetch_add(total(&report, "removed"), Relaxed);
        for path in failures(&report).keys() {
            assert!(path.starts_with(&world.root), "{path:?}");
        }
    };
    let has_raced = || removed.load(Relaxed) > 100 && swaps.load(Relaxed) > 200;
    while_racing(racer, || until_raced(150, round, has_raced));
    assert_eq!(outside.snapshot(), before);
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
    let removed = AtomicU64::new(0);
    let round = || {
        let run = sweep(&world, &["--jobs", "4"]);
        assert!(matches!(run.code, Some(0 | 1)), "{:?}\n{}", run.code, run.stderr);
        removed.fetch_add(total(&run.json(), "removed"), Relaxed);
    };
    let has_raced = || removed.load(Relaxed) > 20 && mounts.load(Relaxed) > 20;
    while_racing(racer, || until_raced(40, round, has_raced));
    assert_eq!(outside.snapshot(), before);
}

#[test]
fn what_vanishes_while_it_is_swept_is_no_failure() {
    let (removed, entries) = (AtomicU64::new(0), AtomicU64::new(0));
    let round = || {
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
        removed.fetch_add(total(&report, "removed"), Relaxed);
        entries.fetch_add(paths.len() as u64, Relaxed);
        rival();
        assert!(paths.iter().all(|path| path.symlink_metadata().is_err()));
    };
    until_raced(6, round, || (1..entries.load(Relaxed)).contains(&removed.load(Relaxed)));
}

/// Publishes content under a name as a careful exporter does: with the lock of the file that has the name,
/// and by renaming. Returns whether a file had the name.
fn publish(path: &Path, partial: &Path) -> bool {
    fs::write(partial, b"new content").unwrap();
    set_age(partial, 0);
    let held = loop {
        let Ok(file) = File::open(path) else { break None };
        FileExt::lock_exclusive(&file).unwrap();
        // It may have been removed during the wait.
        if path.metadata().is_ok_and(|metadata| metadata.ino() == file.metadata().unwrap().ino()) {
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
    let (replaced, lost) = (AtomicU64::new(0), AtomicU64::new(0));
    let racer = || {
        for export in &exports {
            replaced.fetch_add(u64::from(publish(export, &partial)), Relaxed);
            thread::yield_now();
            lost.fetch_add(u64::from(!export.exists()), Relaxed);
            // As if a day had passed.
            age(export);
        }
    };
    let removed = AtomicU64::new(0);
    let round = || {
        let report = sweep(&world, &["--jobs", "4", "--lock-wait", "100ms"]).exits(0).json();
        removed.fetch_add(total(&report, "removed"), Relaxed);
    };
    let has_raced = || removed.load(Relaxed) > 50 && replaced.load(Relaxed) > 50;
    while_racing(racer, || until_raced(150, round, has_raced));
    assert_eq!(lost.into_inner(), 0, "fresh exports are lost");
}
