//! `sweeper usage`, compared with `du`, `find` and dry runs.

mod expired;
pub mod page;
mod picture;
mod refused;
mod totals;
mod unreached;

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::start::{Start, written};
use crate::world::{DAY, HOUR, MINUTE, Run, World};

/// Pseudo-random numbers, the same in every run.
struct Random(u64);

impl Random {
    const fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

/// Ages on both sides of the usual limits.
const AGES: [i64; 9] =
    [MINUTE, 5 * HOUR, 23 * HOUR, 25 * HOUR, 3 * DAY, 13 * DAY, 15 * DAY, 40 * DAY, 400 * DAY];

/// A data root with something of everything. All hard links are within one area.
fn volume(seed: u64) -> World {
    let (world, mut random) = (World::new(), Random(seed));
    let kinds =
        ["dataset-instance1.5-coco-10", "annotations-instance1.5-coco-10", "backup-instance1.5"];
    for number in 0..60 {
        let (owner, kind) = (random.one_of(&["task", "project"]), random.one_of(&kinds));
        let name = format!("cache/export/{owner}-{}-{kind}.zip", random.below(20));
        if number % 20 == 7 {
            fill(&world, &format!("{name}.part"), &mut random);
        }
        fill(&world, &name, &mut random);
    }
    for dir in
        ["tmp", "tasks/7/tmp", "jobs/x/tmp", "tasks/7/export_cache", "cache/000", "data/1/raw"]
    {
        for number in 0..random.below(30) {
            let depth = random.below(4);
            let steps = (0..depth).map(|_| random.one_of(&["d0/", "d1/", "d2/"]));
            let path: String = steps.collect();
            fill(&world, &format!("{dir}/{path}f{number}"), &mut random);
        }
    }
    // Uploads that go on, and that were given up.
    for number in 0..random.below(20) {
        let name = format!("tmp/3_{number:08x}-6c1d-4f0a-9e4b-1234567890ab");
        fill(&world, &name, &mut random);
        if number % 3 != 0 {
            fill(&world, &format!("{name}.meta"), &mut random);
        }
    }
    for path in
        ["assets/a.png", "cache/events/x.db", "events.db", "jobs/7/manifest", "lost+found/x"]
    {
        fill(&world, path, &mut random);
    }
    world.link("tmp/link", "/etc", 20 * DAY);
    world.link("data/dangling", "nowhere", DAY);
    crate::world::fifo(&world.path("tmp/fifo"), 20 * DAY);
    for (from, to) in [("assets/a.png", "assets/b.png"), ("assets/a.png", "assets/deep-c.png")] {
        std::fs::hard_link(world.path(from), world.path(to)).unwrap();
    }
    for dir in ["tmp", "tasks", "jobs", "cache/000"] {
        world.dir(dir, 400 * DAY);
        world.age_dirs(dir, 400 * DAY);
    }
    world
}

/// A file of a random size and age; some are sparse.
fn fill(world: &World, path: &str, random: &mut Random) {
    let size = random.one_of(&[0, 1, 4096, 4097, 70_000]);
    let age = random.one_of(&AGES);
    let path = world.file_of(path, age, &vec![b'x'; size]);
    if random.below(8) == 0 {
        let open = || std::fs::OpenOptions::new().write(true).open(&path);
        written(|| open()?.set_len(10 << 20)).unwrap();
        crate::world::set_age(&path, age);
    }
}

/// The object that `usage --format json` prints.
fn measured(world: &World, args: &[&str]) -> Value {
    let args = [&["usage", "--format", "json"], args].concat();
    world.run(&args).exits(0).json()
}

/// An area of it.
fn area<'a>(usage: &'a Value, name: &str) -> &'a Value {
    let areas = usage["areas"].as_array().unwrap();
    areas.iter().find(|area| area["area"] == name).unwrap_or_else(|| panic!("{name}: {usage:#}"))
}

/// The first number that a tool prints.
fn number_of(program: &str, args: &[&OsStr]) -> u64 {
    let output = Command::new(program).args(args).finish().unwrap();
    let run = Run::from(output);
    let first = run.stdout.split_whitespace().next().unwrap_or_default();
    first.parse().unwrap_or_else(|_| panic!("{program}: {}{}", run.stdout, run.stderr))
}

/// What `du` says of a directory on one file system: its bytes and inodes.
fn du(path: &Path) -> (u64, u64) {
    let number =
        |option: &str| number_of("du", &[OsStr::new("-sx"), OsStr::new(option), path.as_os_str()]);
    (number("--block-size=1"), number("--inodes"))
}

/// The bytes and inodes of an area, or of the totals.
fn counts(of: &Value) -> (u64, u64) {
    (of["allocated_bytes"].as_u64().unwrap(), of["inodes"].as_u64().unwrap())
}
