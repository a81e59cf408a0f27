//! What another process does at every moment of a pass, and whether the pass ends there or goes on: it opens,
//! writes, moves files in and out, moves whole entries out and gives their names to new ones.
//!
//! What it has made or moved is there after that pass and the next one, and no private directory is left.
//! There are thousands of combinations, so a sample of them is tried, the same one each time;
//! `SWEEPER_TESTS_FAULTS=all` tries all.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{CWD, Mode, OFlags, openat, renameat};

use super::CONTENT;
use crate::paused::{Moment, Paused};
use crate::wait::wait_until;
use crate::world::{DAY, Stat, World};

/// The calls that a pass is stopped after. All others change nothing that another process could see.
const CALLS: [&str; 7] =
    ["statx", "openat2", "flock", "getdents64", "mkdirat", "renameat2", "unlinkat"];

/// A data root, and what a process has open in it from before the pass.
struct Scene {
    world: World,
    sub: File,
}

impl Scene {
    fn new() -> Self {
        let world = World::new();
        for path in
            ["tmp/file", "tmp/tree/a", "tmp/tree/sub/b", "tmp/tree/sub/deep/c", "tmp/tree/sub/z"]
        {
            world.file(path, 20 * DAY);
        }
        world.file_of("tmp/tree/sub/m", 20 * DAY, b"moved");
        world.file_of("elsewhere/old", 20 * DAY, b"an old file");
        world.file_of("elsewhere/dir/old", 20 * DAY, b"an old file");
        world.age_dirs("elsewhere", 20 * DAY);
        world.age_dirs("tmp", 20 * DAY);
        let sub = File::open(world.path("tmp/tree/sub")).unwrap();
        Self { world, sub }
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.world.path(path)
    }
}

/// What is done. It returns the content that must not be lost, if it succeeded, and what it holds open.
type Act = fn(&Scene) -> Option<(&'static [u8], Option<File>)>;

const NEW: &[u8] = b"just now";
const OLD: &[u8] = b"an old file";

fn kept<E>(result: Result<(), E>, content: &'static [u8]) -> Option<(&'static [u8], Option<File>)> {
    result.ok().map(|()| (content, None))
}

fn appended(path: &Path) -> Option<(&'static [u8], Option<File>)> {
    super::write(path).then_some((CONTENT, None))
}

const ACTS: [(&str, Act); 13] = [
    ("writes to a file of a tree", |scene| {
        let path = scene.path("tmp/tree/sub/b");
        appended(&path)
    }),
    ("writes to a file", |scene| appended(&scene.path("tmp/file"))),
    ("opens a file of a tree", |scene| {
        File::open(scene.path("tmp/tree/sub/m")).ok().map(|file| (&b"moved"[..], Some(file)))
    }),
    ("opens a file", |scene| {
        File::open(scene.path("tmp/file")).ok().map(|file| (&b"abcd"[..], Some(file)))
    }),
    ("moves a file into a tree", |scene| {
        kept(fs::rename(scene.path("elsewhere/old"), scene.path("tmp/tree/sub/in")), OLD)
    }),
    ("moves a directory into a tree", |scene| {
        kept(fs::rename(scene.path("elsewhere/dir"), scene.path("tmp/tree/sub/in")), OLD)
    }),
    ("moves a file into an open directory", |scene| {
        kept(renameat(CWD, scene.path("elsewhere/old"), &scene.sub, "in"), OLD)
    }),
    ("moves a directory into an open directory", |scene| {
        kept(renameat(CWD, scene.path("elsewhere/dir"), &scene.sub, "in"), OLD)
    }),
    ("makes a file in an open directory", |scene| {
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(&scene.sub, "new", flags, Mode::from_raw_mode(0o600)).ok()?;
        rustix::io::write(&file, NEW).unwrap();
        Some((NEW, None))
    }),
    ("moves a file out of a tree", |scene| {
        kept(renameat(&scene.sub, "m", CWD, scene.path("elsewhere/m")), b"moved")
    }),
    ("moves a tree elsewhere", |scene| {
        kept(fs::rename(scene.path("tmp/tree"), scene.path("elsewhere/tree")), b"moved")
    }),
    ("makes a tree of a name that is free", |scene| {
        kept(fs::create_dir(scene.path("tmp/tree")), NEW)
            .inspect(|_| fs::write(scene.path("tmp/tree/new"), NEW).unwrap())
    }),
    ("gives the name of a file to another", |scene| {
        kept(fs::rename(scene.path("elsewhere/old"), scene.path("tmp/file")), OLD)
    }),
];

/// Whether a file with this content is there, outside of private directories.
fn has(world: &World, content: &[u8]) -> bool {
    walkdir::WalkDir::new(&world.root).into_iter().flatten().any(|entry| {
        let path = entry.path();
        !path.to_str().unwrap().contains(".sweeper-")
            && entry.file_type().is_file()
            && fs::read(path).is_ok_and(|found| found == content)
    })
}

/// Tries one act at one moment. `None` when the pass ended before, or else whether the act succeeded.
fn try_at(name: &str, act: Act, moment: &Moment<'_>, is_killed: bool) -> Option<bool> {
    let scene = Arc::new(Scene::new());
    let inos = ["tmp/file", "tmp/tree/sub/b", "tmp/tree/sub/m"]
        .map(|path| Stat::of(&scene.path(path)).ino);
    let pass = Paused::at(&scene.world, &[], 4096, moment).ok()?;
    let acting = std::thread::spawn({
        let scene = Arc::clone(&scene);
        move || act(&scene)
    });
    while !acting.is_finished() && !inos.iter().any(|ino| pass.keeps_waiting(*ino)) {
        std::thread::yield_now();
    }
    let about = format!("it {name} after {} {}, killed: {is_killed}", moment.count, moment.calls);
    let mut run = None;
    if is_killed {
        drop(pass);
    } else {
        run = Some(pass.finish());
    }
    let done = acting.join().unwrap();
    let Some((content, open)) = done else { return Some(false) };
    if let Some(file) = &open {
        assert!(file.metadata().unwrap().nlink() > 0, "{about}: it was removed while it was open");
    }
    if let Some(run) = run {
        let is_kept = open.is_some() || has(&scene.world, content);
        assert!(is_kept, "{about}:\n{}\n{}", run.stdout, run.stderr);
    }
    let next = scene.world.run(&["run", "--format", "json"]);
    let printed = format!("{about}, then:\n{}\n{}", next.stdout, next.stderr);
    // A part of the tree may be gone, which its owner has to know.
    let says_so = is_killed && next.code == Some(1) && printed.contains("by an interrupted run");
    assert!(next.code == Some(0) || says_so, "{printed}");
    assert!(has(&scene.world, content), "lost: {printed}");
    drop(open);
    // What was kept open may have kept the rest of its tree where it was.
    wait_until(&format!("no private directory is left: {printed}"), || {
        scene.world.run(&["run"]).exits(0);
        let names = fs::read_dir(scene.path("tmp")).unwrap().flatten();
        let mut names = names.map(|entry| entry.file_name().into_string().unwrap());
        names.all(|name| !name.starts_with(".sweeper-"))
    });
    Some(true)
}

/// One of so many moments is tried.
const STEP: usize = 6;

/// Tries every act after every call of these, some of them by each of two threads.
fn try_all(is_killed: bool) {
    let (next, succeeded) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let some: Vec<_> = CALLS.iter().flat_map(|calls| ACTS.map(|act| (*calls, act))).collect();
    // Each act begins at another moment, so that all moments are among them.
    let is_all = std::env::var("SWEEPER_TESTS_FAULTS").is_ok_and(|which| which == "all");
    let step = if is_all { 1 } else { STEP };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some((calls, (name, act))) = some.get(at) else { break };
                    for count in (1 + at % step..).step_by(step) {
                        let moment = Moment::of(calls, count);
                        let Some(done) = try_at(name, *act, &moment, is_killed) else { break };
                        succeeded.fetch_add(usize::from(done), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let succeeded = succeeded.into_inner();
    assert!(succeeded > 60, "{succeeded} acts succeeded");
}

#[test]
fn what_others_do_at_any_moment_of_a_pass_is_not_lost() {
    try_all(false);
}

#[test]
fn what_others_do_before_a_pass_is_killed_at_any_moment_is_not_lost() {
    try_all(true);
}
