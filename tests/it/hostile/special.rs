//! What is neither a file nor a directory, and what the system makes immutable.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, inotify, makedev, mknodat};

use super::{
    Island, OLD, assert_says_what_is_left, below, failures, in_removal, quarantines, sweep,
};
use crate::start::Start;
use crate::world::{DAY, Stat, World, assert_counts, can_be_root, export_name, fifo, set_age};

fn socket(path: &Path) {
    drop(UnixListener::bind(path).unwrap());
    set_age(path, OLD);
}

/// A device: `/dev/null`'s number, or that of a loop device.
fn device(path: &Path, kind: FileType) {
    let name = CString::new(path.as_os_str().as_bytes()).unwrap();
    let number = if kind == FileType::CharacterDevice { makedev(1, 3) } else { makedev(7, 0) };
    mknodat(CWD, &*name, kind, Mode::from_raw_mode(0o600), number).unwrap();
    set_age(path, OLD);
}

/// Counts how often some paths are opened.
struct Opens(OwnedFd);

impl Opens {
    fn of<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Self {
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        for path in paths {
            inotify::add_watch(&watch, path, inotify::WatchFlags::OPEN).unwrap();
        }
        Self(watch)
    }

    fn count(&self) -> usize {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.0, &mut buffer);
        let mut count = 0;
        while let Ok(event) = reader.next() {
            count += usize::from(event.events().contains(inotify::ReadFlags::OPEN));
        }
        count
    }
}

/// One of each kind in `dir`, old, with the names that `name` makes of numbers.
fn one_of_each(world: &World, dir: &str, name: fn(u32) -> String) -> Vec<PathBuf> {
    let path = |number| world.path(dir).join(name(number));
    let mut all = vec![path(1), path(2)];
    fifo(&all[0], OLD);
    socket(&all[1]);
    if can_be_root("device nodes") {
        device(&path(3), FileType::CharacterDevice);
        device(&path(4), FileType::BlockDevice);
        all.extend([path(3), path(4)]);
    }
    all
}

#[test]
fn fifos_sockets_and_devices_in_tmp_are_removed_and_never_opened() {
    let world = World::new();
    world.dir("tmp/tree/deep", OLD);
    let name = |number: u32| format!("n{number}");
    let mut all = one_of_each(&world, "tmp", name);
    all.extend(one_of_each(&world, "tmp/tree/deep", name));
    world.age_dirs("tmp/tree", OLD);
    let control = world.path("control");
    fifo(&control, OLD);
    let opens = Opens::of(all.iter().chain([&control]));
    let both_ends = std::fs::OpenOptions::new().read(true).write(true).open(&control).unwrap();
    assert_eq!(opens.count(), 1, "the watch does not see an open");
    for args in [&["--dry-run"][..], &[]] {
        let report = sweep(&world, args).exits(0).json();
        let top = all.len() as u64 / 2;
        assert_counts(&report, "tmp", &[("seen", top + 1), ("removed", top + 1)]);
    }
    drop(both_ends);
    assert_eq!(opens.count(), 0, "one was opened");
    assert_eq!(std::fs::read_dir(world.path("tmp")).unwrap().count(), 0);
}

#[test]
fn a_fresh_fifo_in_an_old_tree_keeps_the_tree() {
    let world = World::new();
    world.file("tmp/tree/old", OLD);
    fifo(&world.path("tmp/tree/pipe"), DAY);
    world.age_dirs("tmp/tree", OLD);
    let before = world.snapshot();
    let report = sweep(&world, &[]).exits(0).json();
    assert_counts(&report, "tmp", &[("skipped", 1), ("skipped_by.used", 1)]);
    assert_eq!(world.snapshot(), before);
}

#[test]
fn what_is_not_a_file_among_the_exports_is_kept_and_never_opened() {
    let world = World::new();
    let elsewhere = World::new();
    let canary = elsewhere.file("file", OLD);
    world.file("cache/export".to_owned() + "/" + &export_name(9), OLD);
    let special = one_of_each(&world, "cache/export", export_name);
    world.file(format!("cache/export/{}/inside", export_name(5)), OLD);
    world.age_dirs(format!("cache/export/{}", export_name(5)), OLD);
    world.link(format!("cache/export/{}", export_name(6)), &canary, OLD);
    world.link(format!("cache/export/{}", export_name(7)), "nowhere", OLD);
    let (before, outside) = (world.snapshot(), elsewhere.snapshot());
    let opens = Opens::of(&special);
    let report = sweep(&world, &[]).exits(0).json();
    let kept = special.len() as u64 + 3;
    let counts = [("removed", 1), ("kept", kept), ("kept_by.not_a_file", kept), ("failed", 0)];
    assert_counts(&report, "export", &counts);
    assert_eq!(opens.count(), 0, "one was opened");
    let mut after = world.snapshot();
    let mut before = before;
    // The removal of the one expired file changed the times of its directory.
    for all in [&mut before, &mut after] {
        all.retain(|path, _| !path.ends_with("cache/export") && !path.ends_with(export_name(9)));
    }
    assert_eq!(after, before);
    assert_eq!(elsewhere.snapshot(), outside);
}

#[test]
fn links_in_tmp_are_removed_as_links() {
    let world = World::new();
    let elsewhere = World::new();
    elsewhere.file("dir/file", OLD);
    elsewhere.age_dirs("dir", OLD);
    world.link("tmp/to-dir", elsewhere.path("dir"), OLD);
    world.link("tmp/tree/to-dir", elsewhere.path("dir"), OLD);
    world.link("tmp/tree/to-file", elsewhere.path("dir/file"), OLD);
    world.link("tmp/tree/to-itself", "to-itself", OLD);
    world.link("tmp/tree/up", "..", OLD);
    world.link("tmp/fresh", elsewhere.path("dir"), DAY);
    world.age_dirs("tmp/tree", OLD);
    let outside = elsewhere.snapshot();
    let report = sweep(&world, &[]).exits(0).json();
    assert_counts(&report, "tmp", &[("seen", 3), ("removed", 2), ("kept_by.fresh", 1)]);
    assert!(!world.has("tmp/to-dir") && !world.has("tmp/tree") && world.has("tmp/fresh"));
    assert_eq!(elsewhere.snapshot(), outside);
}

/// A path that is immutable until this is dropped.
struct Immutable(PathBuf);

impl Immutable {
    fn chattr(path: &Path, how: &str) -> bool {
        let output = Command::new("chattr").arg(how).arg(path).finish();
        output.is_ok_and(|output| output.status.success())
    }

    fn new(path: PathBuf) -> Self {
        assert!(Self::chattr(&path, "+i"), "chattr +i {path:?}");
        Self(path)
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        Self::chattr(&self.0, "-i");
    }
}

/// Runs `test` on a file system that has immutable files.
fn where_files_can_be_immutable(test: impl FnOnce(&World)) {
    if !can_be_root("immutable files") {
        return;
    }
    let world = World::new();
    let probe = world.file("probe", 0);
    if Immutable::chattr(&probe, "+i") {
        assert!(Immutable::chattr(&probe, "-i"));
        test(&world);
    } else {
        test(&Island::ext4().world);
    }
}

#[test]
fn an_immutable_export_fails_alone() {
    where_files_can_be_immutable(|world| {
        let stuck = world.file(format!("cache/export/{}", export_name(1)), OLD);
        let plain = world.file(format!("cache/export/{}", export_name(2)), OLD);
        let _protected = Immutable::new(stuck.clone());
        let before = Stat::of(&stuck);
        let report = sweep(world, &[]).exits(1).json();
        assert_counts(&report, "export", &[("removed", 1), ("failed", 1)]);
        assert_eq!(failures(&report), [(stuck.clone(), "EPERM".to_owned())].into());
        assert_eq!(Stat::of(&stuck), before);
        assert!(!plain.exists());
    });
}

#[test]
fn what_an_immutable_file_keeps_of_a_tree_is_removed_by_the_next_pass() {
    where_files_can_be_immutable(|world| {
        for path in ["a/b/stuck", "a/b/gone", "a/gone", "a/c/gone", "d/e/gone", "gone"] {
            world.file(format!("tmp/tree/{path}"), OLD);
        }
        world.age_dirs("tmp/tree", OLD);
        let stuck = world.path("tmp/tree/a/b/stuck");
        let mut protected = Immutable::new(stuck.clone());
        let before = Stat::of(&stuck);
        let report = sweep(world, &[]).exits(1).json();
        assert_counts(&report, "tmp", &[("seen", 1), ("removed", 0), ("failed", 1)]);
        assert_eq!(failures(&report), [(stuck.clone(), "EPERM".to_owned())].into());
        let rest = in_removal(world, "tree");
        protected.0 = rest.join("a/b/stuck");
        // Five files, and the directories `a/c`, `d` and `d/e`.
        assert_says_what_is_left(&report, &stuck, 8, &rest);
        let left: Vec<_> = ["", "a", "a/b", "a/b/stuck"].map(|it| rest.join(it)).into();
        let after = || below(world, rest.to_str().unwrap()).into_keys().collect::<Vec<_>>();
        assert_eq!(after(), left, "what is left");
        // Another pass that cannot remove it either says so again.
        let report = sweep(world, &[]).exits(1).json();
        assert_counts(&report, "tmp", &[("removed", 0), ("failed", 1)]);
        assert_eq!(failures(&report), [(protected.0.clone(), "EPERM".to_owned())].into());
        assert_eq!((after(), Stat::of(&protected.0)), (left, before));
        drop(protected);
        let report = sweep(world, &[]).exits(0).json();
        assert_counts(&report, "tmp", &[("seen", 1), ("removed", 1), ("failed", 0)]);
        assert_eq!(std::fs::read_dir(world.path("tmp")).unwrap().count(), 0);
    });
}

#[test]
fn an_immutable_directory_fails_its_tree_and_nothing_else() {
    where_files_can_be_immutable(|world| {
        world.file("tmp/gone", OLD);
        world.file("tmp/tree/stuck/a", OLD);
        world.file("tmp/tree/stuck/b", OLD);
        world.file("tmp/tree/gone", OLD);
        world.age_dirs("tmp/tree", OLD);
        let mut protected = Immutable::new(world.path("tmp/tree/stuck"));
        let before = below(world, "tmp/tree/stuck");
        let report = sweep(world, &[]).exits(1).json();
        assert_counts(&report, "tmp", &[("removed", 1), ("failed", 1)]);
        let failed = failures(&report);
        assert_eq!(failed.values().collect::<Vec<_>>(), ["EPERM"]);
        let rest = in_removal(world, "tree");
        protected.0 = rest.join("stuck");
        assert_says_what_is_left(&report, failed.first_key_value().unwrap().0, 1, &rest);
        let after = below(world, rest.to_str().unwrap());
        assert_eq!(after.len(), before.len() + 1, "the tree itself, and what is stuck: {after:#?}");
        for (path, was) in before {
            let path = rest.join(path.strip_prefix(world.path("tmp/tree")).unwrap());
            assert_eq!(after[&path], was, "{path:?}");
        }
        assert!(!world.has("tmp/gone"));
        drop(protected);
        let report = sweep(world, &[]).exits(0).json();
        assert_counts(&report, "tmp", &[("seen", 1), ("removed", 1), ("failed", 0)]);
        assert_eq!(std::fs::read_dir(world.path("tmp")).unwrap().count(), 0);
    });
}

#[test]
fn a_tree_in_which_everything_is_immutable_has_its_own_name_again() {
    where_files_can_be_immutable(|world| {
        world.file("tmp/gone", OLD);
        world.file("tmp/tree/stuck/a", OLD);
        world.age_dirs("tmp/tree", OLD);
        let protected = Immutable::new(world.path("tmp/tree/stuck"));
        let before = below(world, "tmp/tree");
        let report = sweep(world, &[]).exits(1).json();
        assert_counts(&report, "tmp", &[("removed", 1), ("failed", 1)]);
        assert_eq!(failures(&report).into_values().collect::<Vec<_>>(), ["EPERM"]);
        assert_eq!(below(world, "tmp/tree"), before, "it is as old as it was");
        assert_eq!(quarantines(world), [] as [PathBuf; 0]);
        drop(protected);
        let report = sweep(world, &[]).exits(0).json();
        assert_counts(&report, "tmp", &[("removed", 1), ("failed", 0)]);
        assert_eq!(std::fs::read_dir(world.path("tmp")).unwrap().count(), 0);
    });
}
