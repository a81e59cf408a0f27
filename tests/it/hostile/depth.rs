//! Trees deeper than the stack and the limit on open files allow, and very wide ones.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, fstat, futimens, mkdirat, mknodat,
    openat, utimensat,
};
use serde_json::Value;

use super::{
    OLD, assert_says_what_is_left, bounded, failures, in_removal, quarantines, sweeping, within,
};
use crate::start::Start;
use crate::world::{NOW_SECS, Run, World, assert_counts, can_be_root, set_age, zone};

const LEVELS: usize = 20_000;

fn dir(at: impl AsFd, name: impl rustix::path::Arg) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty()).unwrap()
}

fn times(age: i64) -> Timestamps {
    let at = Timespec { tv_sec: NOW_SECS - age, tv_nsec: 0 };
    Timestamps { last_access: at, last_modification: at }
}

fn put_file(at: BorrowedFd<'_>, name: &str, age: i64) {
    mknodat(at, name, FileType::RegularFile, Mode::from_raw_mode(0o600), 0).unwrap();
    utimensat(at, name, &times(age), AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// A directory in a directory in a directory.
struct Well {
    top: PathBuf,
    levels: usize,
}

impl Well {
    /// Digs it, all of it old. `furnish` is called with each directory and its level; the top has level 0.
    fn dig(top: PathBuf, levels: usize, furnish: impl Fn(BorrowedFd<'_>, usize)) -> Self {
        std::fs::create_dir(&top).unwrap();
        // Made before the digging, so that it is removed even if that fails.
        let well = Self { top, levels };
        let mut here = dir(CWD, &well.top);
        for level in 0..levels {
            furnish(here.as_fd(), level);
            mkdirat(&here, "d", Mode::from_raw_mode(0o755)).unwrap();
            let below = dir(&here, "d");
            futimens(&here, &times(OLD)).unwrap();
            here = below;
        }
        furnish(here.as_fd(), levels);
        futimens(&here, &times(OLD)).unwrap();
        well
    }

    /// The times of all directories from the top down.
    fn times(&self) -> Vec<[i64; 4]> {
        let down = |at: BorrowedFd<'_>| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(at, "d", flags, Mode::empty()).ok()
        };
        let mut all = Vec::with_capacity(self.levels + 1);
        let mut next = Some(dir(CWD, &self.top));
        while let Some(here) = next {
            let stat = fstat(&here).unwrap();
            let nanos = |nsec| i64::try_from(nsec).unwrap();
            let (atime, mtime) = (nanos(stat.st_atime_nsec), nanos(stat.st_mtime_nsec));
            all.push([stat.st_atime, atime, stat.st_mtime, mtime]);
            next = down(here.as_fd());
        }
        all
    }
}

impl Drop for Well {
    /// Also what a pass that was killed has left of it elsewhere in its directory: the removal of a temporary directory
    /// descends with the stack, which would end all tests.
    fn drop(&mut self) {
        let mut remove = Command::new("rm");
        let _ = remove.arg("-rf").arg(self.top.parent().unwrap()).ended();
    }
}

/// With 128 descriptors, half a megabyte of stack, and a quarter for each worker.
fn sweep_with_few_resources(world: &World, args: &[&str]) -> Run {
    let command = sweeping(world, args);
    let command = within("/usr/bin/env", &["RUST_MIN_STACK=262144"], &command);
    let limits = ["--nofile=128:128", "--stack=524288:524288"];
    Run::of(bounded(&within("/usr/bin/prlimit", &limits, &command)))
}

#[track_caller]
fn removed_and_freed(report: &Value) -> (Option<u64>, Option<u64>) {
    let tmp = zone(report, "tmp");
    (tmp["removed"].as_u64(), tmp["freed_bytes"].as_u64())
}

#[test]
fn a_dry_run_of_twenty_thousand_old_levels_agrees_with_their_removal() {
    let world = World::new();
    let well = Well::dig(world.path("tmp/well"), LEVELS, |at, level| {
        if level == LEVELS {
            put_file(at, "bottom", OLD);
        }
    });
    let before = well.times();
    assert_eq!(before.len(), LEVELS + 1);
    let dry_run = sweep_with_few_resources(&world, &["--dry-run"]).exits(0).json();
    assert_eq!(well.times(), before, "a dry run leaves no trace");
    let report = sweep_with_few_resources(&world, &[]).exits(0).json();
    assert_counts(&report, "tmp", &[("seen", 1), ("removed", 1), ("failed", 0)]);
    assert_eq!(removed_and_freed(&report), removed_and_freed(&dry_run));
    assert!(!world.has("tmp/well"));
}

#[test]
fn a_fresh_file_below_twenty_thousand_levels_keeps_them_all() {
    let world = World::new();
    let well = Well::dig(world.path("tmp/well"), LEVELS, |at, level| {
        if level == LEVELS {
            put_file(at, "bottom", 0);
        }
    });
    world.file("tmp/gone", OLD);
    let before = well.times();
    for args in [&["--dry-run"][..], &[]] {
        let report = sweep_with_few_resources(&world, args).exits(0).json();
        let counts = [("removed", 1), ("skipped", 1), ("skipped_by.used", 1), ("failed", 0)];
        assert_counts(&report, "tmp", &counts);
        assert_eq!(well.times(), before, "{args:?}");
    }
    assert!(!world.has("tmp/gone"));
}

/// Changes an attribute of a file below more levels than a path can name.
fn protect(at: BorrowedFd<'_>, how: &str) -> bool {
    let proc = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&at));
    let output =
        std::process::Command::new("chattr").arg(how).arg(format!("{proc}/stuck")).finish();
    output.is_ok_and(|output| output.status.success())
}

#[test]
fn a_failure_at_the_bottom_leaves_every_level_to_the_next_pass() {
    if !can_be_root("immutable files") {
        return;
    }
    let world = World::new();
    let levels = 3000;
    let mut well = Well::dig(world.path("tmp/well"), levels, |at, level| {
        put_file(at, "beside", OLD);
        if level == levels {
            put_file(at, "stuck", OLD);
        }
    });
    let mut bottom = dir(CWD, &well.top);
    for _ in 0..levels {
        bottom = dir(&bottom, "d");
    }
    if !protect(bottom.as_fd(), "+i") {
        eprintln!("left out: the temporary directory has no immutable files");
        return;
    }
    // Another pass that cannot remove it either says so again.
    let runs = [(); 2].map(|()| sweep_with_few_resources(&world, &[]));
    let unprotected = protect(bottom.as_fd(), "-i");
    let top = std::mem::replace(&mut well.top, in_removal(&world, "well"));
    for (number, (run, top)) in runs.iter().zip([&top, &well.top]).enumerate() {
        let report = run.exits(1).json();
        assert_counts(&report, "tmp", &[("failed", 1), ("removed", 0)]);
        let failed = failures(&report);
        let (path, errno) = failed.first_key_value().unwrap();
        assert!(path.starts_with(top), "{top:?}");
        let depth = top.components().count() + levels + 1;
        assert_eq!((path.components().count(), &**errno), (depth, "EPERM"));
        if number == 0 {
            // The file beside each directory.
            assert_says_what_is_left(&report, path, levels + 1, &well.top);
        }
    }
    assert_eq!(well.times().len(), levels + 1, "what is left");
    assert!(
        openat(&bottom, "beside", OFlags::PATH, Mode::empty()).is_err(),
        "what could be removed"
    );
    assert!(unprotected && openat(&bottom, "stuck", OFlags::PATH, Mode::empty()).is_ok());
    let report = sweep_with_few_resources(&world, &[]).exits(0).json();
    assert_counts(&report, "tmp", &[("seen", 1), ("removed", 1), ("failed", 0)]);
    assert!(quarantines(&world).is_empty() && !world.has("tmp/well"));
}

/// A directory of `files` files and `dirs` directories with a file in each.
fn wide(top: &Path, files: usize, dirs: usize) {
    std::fs::create_dir(top).unwrap();
    let top = dir(CWD, top);
    for number in 0..files {
        put_file(top.as_fd(), &format!("file-{number}"), OLD);
    }
    for number in 0..dirs {
        let name = format!("dir-{number}");
        mkdirat(&top, &*name, Mode::from_raw_mode(0o755)).unwrap();
        put_file(dir(&top, &*name).as_fd(), "inside", OLD);
        utimensat(&top, &*name, &times(OLD), AtFlags::empty()).unwrap();
    }
    futimens(&top, &times(OLD)).unwrap();
}

#[test]
fn a_dry_run_of_a_very_wide_tree_agrees_with_its_removal() {
    let world = World::new();
    wide(&world.path("tmp/wide"), 50_000, 5000);
    let dry_run = sweep_with_few_resources(&world, &["--dry-run"]).exits(0).json();
    assert!(world.has("tmp/wide/file-49999") && world.has("tmp/wide/dir-4999/inside"));
    let report = sweep_with_few_resources(&world, &[]).exits(0).json();
    assert_counts(&report, "tmp", &[("seen", 1), ("removed", 1), ("failed", 0)]);
    assert_eq!(removed_and_freed(&report), removed_and_freed(&dry_run));
    assert!(!world.has("tmp/wide"));
}

#[test]
fn one_fresh_file_among_very_many_keeps_the_tree() {
    let world = World::new();
    wide(&world.path("tmp/wide"), 5000, 500);
    set_age(&world.path("tmp/wide/dir-321/inside"), 0);
    let before = world.snapshot();
    let report = sweep_with_few_resources(&world, &[]).exits(0).json();
    assert_counts(&report, "tmp", &[("removed", 0), ("skipped_by.used", 1), ("failed", 0)]);
    assert_eq!(world.snapshot(), before);
}

#[test]
fn locked_entries_of_very_many_instances_do_not_use_up_the_descriptors() {
    let world = World::new();
    let held: Vec<std::fs::File> = (0..300)
        .map(|id| {
            world.file(format!("tasks/{id}/tmp/gone"), OLD);
            let file =
                std::fs::File::open(world.file(format!("tasks/{id}/tmp/held"), OLD)).unwrap();
            fs2::FileExt::lock_exclusive(&file).unwrap();
            file
        })
        .collect();
    let args = ["--zones", "instance-tmp", "--lock-wait", "0s"];
    let report = sweep_with_few_resources(&world, &args).json();
    drop(held);
    let counts = [("removed", 300), ("skipped", 300), ("failed", 0)];
    assert_counts(&report, "instance-tmp", &counts);
    for id in 0..300 {
        assert!(
            world.has(format!("tasks/{id}/tmp/held")) && !world.has(format!("tasks/{id}/tmp/gone"))
        );
    }
}

#[test]
fn many_workers_in_deep_trees_do_not_use_up_the_descriptors() {
    let world = World::new();
    let levels = 60;
    let wells: Vec<Well> = (0..72)
        .map(|number| {
            Well::dig(world.path(format!("tmp/well-{number}")), levels, |at, level| {
                // Work at the bottom, so that many workers are there at the same time.
                for file in (0..100).take_while(|_| level == levels) {
                    put_file(at, &file.to_string(), OLD);
                }
            })
        })
        .collect();
    let limits = ["--nofile=1024:1024"];
    let command = sweeping(&world, &["--jobs", "64"]);
    let report = Run::of(bounded(&within("/usr/bin/prlimit", &limits, &command))).json();
    assert_counts(&report, "tmp", &[("seen", 72), ("removed", 72), ("failed", 0)]);
    assert!(wells.iter().all(|well| !well.top.exists()));
}
