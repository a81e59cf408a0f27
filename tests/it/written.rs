//! What is written to a tree while a pass looks at it and removes it: a write that succeeds is never lost, and
//! the tree stays.
//!
//! Here a watcher writes as soon as the sweeper has opened files. [`moments`] writes at every moment in turn,
//! [`interleaved`] does everything else at every moment, and [`changes`] makes other changes.

mod changes;
mod interleaved;
mod moments;

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::inotify;
use rustix::io::Errno;

use crate::start::Start;
use crate::world::{DAY, Run, World};

/// The directories of a tree.
const DIRS: [&str; 3] = ["tmp/tree", "tmp/tree/sub", "tmp/tree/sub/deeper"];

/// A data root with an expired tree of `files` files.
fn tree_of(files: usize) -> World {
    // In memory: some file systems take most of a millisecond to create a file.
    let world = World::in_dir(Path::new("/dev/shm"));
    for file in 0..files {
        world.file(path_of(file), 20 * DAY);
    }
    world.age_dirs("tmp", 20 * DAY);
    world
}

fn path_of(file: usize) -> String {
    format!("{}/{file}", DIRS[file % DIRS.len()])
}

/// Random numbers, the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % limit
    }
}

/// Writes to one file of a tree as soon as the sweeper has opened some.
struct Watcher {
    events: rustix::fd::OwnedFd,
    /// After so many files were opened.
    opened: usize,
    /// After so many turns of an empty loop.
    delay: usize,
    /// The file.
    path: PathBuf,
}

const CONTENT: &[u8] = b"abcd, and more";

impl Watcher {
    fn new(world: &World, files: usize, random: &mut Random) -> Self {
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        let events = inotify::init(flags).unwrap();
        for dir in DIRS.iter().filter(|dir| world.has(dir)) {
            inotify::add_watch(&events, world.path(dir), inotify::WatchFlags::OPEN).unwrap();
        }
        let opened = if random.below(2) == 0 { files } else { 1 + random.below(files) };
        let delay = if random.below(2) == 0 { 0 } else { random.below(20_000) };
        Self { events, opened, delay, path: world.path(path_of(random.below(files))) }
    }

    /// Waits and writes. `None` where there was no file any more; or else what helps to explain a loss: whether the file
    /// had its name when it was open, and how often its writer had waited meanwhile, as for the end of a lease, and how
    /// often it had to let others run.
    fn run(self, is_over: &AtomicBool) -> Option<String> {
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut events = inotify::Reader::new(&self.events, &mut buffer);
        let mut left = self.opened;
        while left > 0 {
            match events.next() {
                Ok(event) if event.events().contains(inotify::ReadFlags::ISDIR) => {}
                Ok(_) => left -= 1,
                Err(Errno::AGAIN) if is_over.load(Ordering::Acquire) => return None,
                Err(Errno::AGAIN) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
        for _ in 0..self.delay {
            std::hint::spin_loop();
        }
        let before = switches();
        let file = opened(&self.path)?;
        let (is_named, after) = (self.path.exists(), switches());
        append(file);
        let [waits, turns_lost] = [0, 1].map(|at| after[at] - before[at]);
        Some(format!("named: {is_named}, waits: {waits}, turns lost: {turns_lost}"))
    }
}

/// How often this thread has waited, and how often it had to let others run.
fn switches() -> [u64; 2] {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"].map(|key| {
        let count = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        count.trim().parse().unwrap()
    })
}

/// The file, if it was there to be opened.
fn opened(path: &Path) -> Option<File> {
    match File::options().append(true).open(path) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => panic!("{error}"),
    }
}

fn append(mut file: File) {
    file.write_all(&CONTENT[4..]).unwrap();
    file.sync_all().unwrap();
}

/// Appends to a file. Whether it was there to be opened.
fn write(path: &Path) -> bool {
    opened(path).map(append).is_some()
}

/// What became of the writes in some passes.
#[derive(Debug, Default)]
struct Tally {
    /// Those that succeeded.
    writes: usize,
    /// What was wrong after some of them.
    lost: Vec<String>,
}

impl Tally {
    fn add_pass(&mut self, files: usize, random: &mut Random) {
        let world = tree_of(files);
        let watcher = Watcher::new(&world, files, random);
        let (path, about) = (watcher.path.clone(), format!("{} {}", watcher.opened, watcher.delay));
        let is_over = AtomicBool::new(false);
        let (written, run) = std::thread::scope(|scope| {
            let watching = scope.spawn(|| watcher.run(&is_over));
            let mut command = world.command(&["run", "--jobs", "2", "--format", "jsonl"]);
            let run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).finish().unwrap();
            is_over.store(true, Ordering::Release);
            (watching.join().unwrap(), Run::from(run))
        });
        let Some(written) = written else { return };
        self.writes += 1;
        let (outcome, reason) = run.outcomes().remove(&world.path("tmp/tree")).unwrap();
        let is_there = fs::read(&path).is_ok_and(|content| content == CONTENT);
        if !is_there || !["skipped", "failed"].contains(&&*outcome) {
            let end = format!("there: {is_there}, {outcome} {reason}");
            self.lost.push(format!("{end}, {written} ({about})"));
        }
    }
}

/// At least so many passes, each with a tree of its own, and at least so many writes before the removal.
const PASSES: usize = 200;
const WRITES: usize = 10;

fn writes_survive(files: usize) {
    let (mut tally, mut random) = (Tally::default(), Random(files as u64 + 1));
    for pass in 1.. {
        tally.add_pass(files, &mut random);
        if pass >= PASSES && tally.writes >= WRITES {
            break;
        }
        assert!(pass < 50 * PASSES, "{} writes in {pass} passes", tally.writes);
    }
    assert!(tally.lost.is_empty(), "of {} writes: {:#?}", tally.writes, tally.lost);
}

#[test]
fn a_write_to_a_tree_of_1_file_survives() {
    writes_survive(1);
}

#[test]
fn a_write_to_a_tree_of_100_files_survives() {
    writes_survive(100);
}

#[test]
fn a_write_to_a_tree_of_250_files_survives() {
    writes_survive(250);
}

#[test]
fn a_write_to_a_tree_of_600_files_survives() {
    writes_survive(600);
}
