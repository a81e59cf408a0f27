//! Changes between the second look at a tree and its removal, which are made in between by the same process.

use std::fs;
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use retention_sweeper::engine::Limits;
use retention_sweeper::protocol::Verified;
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, fstat, openat, utimensat,
};

use crate::seams::{sweep_while, sweep_within, tmp};
use crate::world::{DAY, Stat, World, set_age};

/// A data root with an expired tree: `tmp/tree` with five files and two directories, one in the other, with
/// five each.
fn world() -> World {
    let world = World::new();
    for dir in ["", "sub/", "sub/deeper/"] {
        for file in 0..5 {
            world.file(format!("tmp/tree/{dir}{file}"), 20 * DAY);
        }
    }
    age(&world);
    world
}

/// Makes all directories old. What changes from now on has a newer ctime: the clock of the file system is
/// coarse, so this waits for its next tick.
fn age(world: &World) {
    world.age_dirs("tmp", 20 * DAY);
    let ctime = |path: &Path| {
        let metadata = path.metadata().unwrap();
        (metadata.ctime(), metadata.ctime_nsec())
    };
    let (tree, tick) = (world.path("tmp"), world.path("tick"));
    loop {
        fs::write(&tick, "x").unwrap();
        if ctime(&tick) > ctime(&tree) {
            break;
        }
        std::thread::yield_now();
    }
}

/// Sweeps `tmp` while this happens after the second look: the outcome of the one tree in it.
fn sweep(world: &World, happens: impl Fn(&Verified) + Sync) -> String {
    sweep_while(world, tmp(), || {}, happens).0
}

/// The outcome of the tree when this happens. The survivors must be there afterwards.
fn when(happens: impl Fn(&World) + Sync, survivors: &[&str]) -> String {
    let world = world();
    let outcome = sweep(&world, |_| happens(&world));
    for path in survivors {
        assert!(world.has(path), "{path} is gone: {outcome}");
    }
    outcome
}

#[test]
fn a_tree_that_does_not_change_is_removed_and_its_space_is_counted() {
    let world = world();
    let blocks = |path: &Path| Stat::of(path).allocated();
    let freed: u64 = walkdir::WalkDir::new(world.path("tmp/tree"))
        .into_iter()
        .map(|entry| blocks(entry.unwrap().path()))
        .sum();
    assert_eq!(sweep_while(&world, tmp(), || {}, |_| {}), ("removed".to_owned(), freed));
    assert!(!world.has("tmp/tree") && world.has("tmp"));
}

#[test]
fn a_tree_of_any_shape_is_removed() {
    let many_files = World::new();
    (0..600).for_each(|file| drop(many_files.file(format!("tmp/tree/{file}"), 20 * DAY)));
    let many_dirs = World::new();
    (0..12).for_each(|dir| drop(many_dirs.file(format!("tmp/tree/{dir}/file"), 20 * DAY)));
    let linked = World::new();
    let file = linked.file("tmp/tree/one", 20 * DAY);
    fs::hard_link(&file, linked.path("tmp/tree/other")).unwrap();
    for world in [many_files, many_dirs, linked] {
        age(&world);
        assert_eq!(sweep(&world, |_| {}), "removed");
        assert!(!world.has("tmp/tree"));
    }
}

#[test]
fn what_is_added_is_not_removed() {
    for path in ["tmp/tree/new", "tmp/tree/sub/new", "tmp/tree/sub/deeper/new"] {
        for age in [0, 20 * DAY] {
            let outcome = when(|world| drop(world.file(path, age)), &[path, "tmp/tree/0"]);
            assert_eq!(outcome, "used", "{path} of age {age}");
        }
    }
}

#[test]
fn what_replaces_something_is_not_removed() {
    let replaced = |world: &World| {
        let new = world.file("tmp.new", 20 * DAY);
        fs::rename(new, world.path("tmp/tree/sub/3")).unwrap();
    };
    assert_eq!(when(replaced, &["tmp/tree/sub/3"]), "used");
    let other_dir = |world: &World| {
        fs::rename(world.path("tmp/tree/sub"), world.path("was-sub")).unwrap();
        world.file("tmp/tree/sub/3", 20 * DAY);
        world.file("tmp/tree/sub/deeper/1", 20 * DAY);
        world.age_dirs("tmp/tree", 20 * DAY);
    };
    let survivors = ["tmp/tree/sub/3", "tmp/tree/sub/deeper/1", "was-sub/3", "was-sub/deeper/1"];
    assert_eq!(when(other_dir, &survivors), "used");
    let other_tree = |world: &World| {
        fs::rename(world.path("tmp/tree"), world.path("was-tree")).unwrap();
        world.file("tmp/tree/sub/3", 20 * DAY);
        world.age_dirs("tmp/tree", 20 * DAY);
    };
    let survivors = ["tmp/tree/sub/3", "was-tree/0", "was-tree/sub/deeper/4"];
    assert_eq!(when(other_tree, &survivors), "replaced");
}

#[test]
fn what_is_moved_out_is_not_followed() {
    let moved = |world: &World| {
        fs::rename(world.path("tmp/tree/sub/deeper"), world.path("deeper")).unwrap();
        set_age(&world.path("tmp/tree/sub"), 20 * DAY);
    };
    assert_eq!(when(moved, &["deeper/0", "deeper/4", "tmp/tree/0"]), "used");
}

#[test]
fn what_is_used_is_not_removed() {
    let used = |world: &World| set_age(&world.path("tmp/tree/sub/deeper/2"), 0);
    let outcome = when(used, &["tmp/tree/sub/deeper/2"]);
    assert!(outcome == "used" || outcome.contains("used; "), "{outcome}");
}

#[test]
fn what_is_used_while_a_removal_waits_for_its_rate_is_not_removed() {
    let world = World::new();
    let files: Vec<_> =
        (0..20).map(|file| world.file(format!("tmp/tree/{file}"), 20 * DAY)).collect();
    age(&world);
    let one_a_second = Limits::new(Arc::default(), NonZeroU32::new(1));
    // The tree is out of reach by then, so this needs handles from before. They open no file.
    let (outcome, _) = std::thread::scope(|scope| {
        let use_the_rest = |_: &Verified| {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let handle = |path| openat(CWD, path, flags, Mode::empty()).unwrap();
            let handles: Vec<_> = files.iter().map(handle).collect();
            scope.spawn(move || {
                let is_removed = |handle: &OwnedFd| fstat(handle).unwrap().st_nlink == 0;
                while !handles.iter().any(is_removed) {
                    std::thread::yield_now();
                }
                for handle in &handles {
                    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
                    utimensat(CWD, path, &NOW, AtFlags::empty()).unwrap();
                }
            });
        };
        sweep_within(&world, tmp(), &one_a_second, || {}, use_the_rest)
    });
    assert!(outcome.contains("remove all of") && outcome.contains("used; "), "{outcome}");
    let left = fs::read_dir(world.path("tmp/tree")).unwrap().count();
    assert!(left > 10, "{left} are left: {outcome}");
}

/// The outcome of a file when this happens to it after the second look, and what is left under its name.
fn of_file_when(happens: impl Fn(&World, &Path) + Sync) -> (String, Option<Vec<u8>>) {
    let world = World::new();
    let path = world.file("tmp/file", 20 * DAY);
    age(&world);
    let (outcome, _) = sweep_while(&world, tmp(), || {}, |_| happens(&world, &path));
    assert!(fs::read_dir(world.path("tmp")).unwrap().count() <= 1, "{outcome}");
    (outcome, fs::read(&path).ok())
}

#[test]
fn a_file_that_changes_after_the_second_look_is_not_removed() {
    let with = |outcome: &str, content: &[u8]| (outcome.to_owned(), Some(content.to_owned()));
    assert_eq!(of_file_when(|_, _| {}), ("removed".to_owned(), None));
    // As old as the first.
    let replaced = |world: &World, path: &Path| {
        fs::rename(world.file_of("new", 20 * DAY, b"new"), path).unwrap();
    };
    assert_eq!(of_file_when(replaced), with("replaced", b"new"));
    assert_eq!(of_file_when(|_, path| set_age(path, 0)), with("used", b"abcd"));
    assert_eq!(of_file_when(|_, path| set_age(path, 21 * DAY)), with("used", b"abcd"));
    let by_a_dir = |world: &World, path: &Path| {
        fs::rename(path, world.path("moved")).unwrap();
        fs::create_dir(path).unwrap();
    };
    assert_eq!(of_file_when(by_a_dir), ("replaced".to_owned(), None));
    let moved = |world: &World, path: &Path| fs::rename(path, world.path("moved")).unwrap();
    assert_eq!(of_file_when(moved), ("gone".to_owned(), None));
}

/// Both times are the present.
const NOW: Timestamps = {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    Timestamps { last_access: now, last_modification: now }
};
