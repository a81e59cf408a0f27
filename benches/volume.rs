//! Builds synthetic CVAT data volumes for measuring, as fast as the file system takes them.
//!
//! ```text
//! volume flat DIR N [--expired PCT]
//!     N exports straight in DIR, empty, with the names that CVAT gives them.
//! volume trees DIR N [--expired PCT] [--files 100] [--dirs 4]
//!     N directories in DIR, each with that many files in that many directories.
//! volume instances DATA N [--with 10] [--expired PCT] [--files 3]
//!     DATA/{projects,tasks,jobs}/<id>/, N in all; that many in 100 have a tmp/export_cache.
//! volume one-tree DIR [--files N] [--dirs N]
//!     A single tree that has expired, with all of these in it.
//! ```
//!
//! What has expired was last used thirty days ago, everything else a minute ago. Atime and mtime are equal,
//! also those of directories. Whether an entry has expired depends on its number alone, so two volumes of
//! one size are equal. Prints one line: how many entries were made, and how many units have expired (files,
//! trees or caches).

use std::error::Error;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::SystemTime;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, futimens, mkdirat, mknodat, openat,
    utimensat,
};
use rustix::io::{Errno, Result};

const FILE_MODE: Mode = Mode::from_raw_mode(0o644);
const DIR_MODE: Mode = Mode::from_raw_mode(0o755);
const A_MINUTE: i64 = 60;
const THIRTY_DAYS: i64 = 30 * 86_400;

struct Builder {
    now: i64,
    /// How many of 100 units have expired.
    expired: u64,
    made: u64,
    units_expired: u64,
}

impl Builder {
    /// Whether unit `number` has expired. Also counts it.
    fn is_expired(&mut self, number: u64) -> bool {
        let is_expired = mix(number) % 100 < self.expired;
        self.units_expired += u64::from(is_expired);
        is_expired
    }

    fn times(&self, is_expired: bool) -> Timestamps {
        // Not all at the same nanosecond, which no real volume has.
        let nanos = i64::try_from(mix(self.made) % 1_000_000_000).unwrap_or_default();
        let age = if is_expired { THIRTY_DAYS } else { A_MINUTE };
        let time = Timespec { tv_sec: self.now - age, tv_nsec: nanos };
        Timestamps { last_access: time, last_modification: time }
    }

    fn file(&mut self, dir: &OwnedFd, name: &str, is_expired: bool) -> Result<()> {
        mknodat(dir, name, FileType::RegularFile, FILE_MODE, 0)?;
        utimensat(dir, name, &self.times(is_expired), AtFlags::SYMLINK_NOFOLLOW)?;
        self.made += 1;
        Ok(())
    }

    fn dir(&mut self, parent: &OwnedFd, name: &str) -> Result<OwnedFd> {
        mkdirat(parent, name, DIR_MODE)?;
        self.made += 1;
        open(parent, name)
    }

    fn flat(&mut self, dir: &OwnedFd, count: u64) -> Result<()> {
        for number in 0..count {
            let is_expired = self.is_expired(number);
            self.file(dir, &export_name(number), is_expired)?;
        }
        Ok(())
    }

    fn tree(&mut self, dir: &OwnedFd, number: u64, files: u64, dirs: u64, old: bool) -> Result<()> {
        // As from tempfile: a name says nothing about the order in which they were made.
        let owner = ["project", "task", "job"][usize::try_from(number % 3).unwrap_or_default()];
        let tree = self.dir(dir, &format!("export-{owner}-{:08x}", mix(number) >> 32))?;
        for part in 0..dirs {
            let inner = self.dir(&tree, &format!("part{part:04}"))?;
            for file in files * part / dirs..files * (part + 1) / dirs {
                self.file(&inner, &format!("image_{file:06}.jpg"), old)?;
            }
            futimens(&inner, &self.times(old))?;
        }
        futimens(&tree, &self.times(old))
    }

    fn trees(&mut self, dir: &OwnedFd, count: u64, files: u64, dirs: u64) -> Result<()> {
        for number in 0..count {
            let is_expired = self.is_expired(number);
            self.tree(dir, number, files, dirs, is_expired)?;
        }
        Ok(())
    }

    fn instances(&mut self, data: &OwnedFd, count: u64, with: u64, files: u64) -> Result<()> {
        let kinds = ["projects", "tasks", "jobs"];
        for (kind, first) in kinds.iter().zip(0..) {
            let dir = self.dir(data, kind)?;
            for number in (first..count).step_by(kinds.len()) {
                let instance = self.dir(&dir, &(number / 3 + 1).to_string())?;
                // Independent of the age.
                if mix(!number) % 100 < with {
                    self.old_cache(&instance, number, files)?;
                }
            }
        }
        Ok(())
    }

    fn old_cache(&mut self, instance: &OwnedFd, number: u64, files: u64) -> Result<()> {
        let tmp = self.dir(instance, "tmp")?;
        let cache = self.dir(&tmp, "export_cache")?;
        let is_expired = self.is_expired(number);
        for file in 0..files {
            let name = format!("dataset-instance{}.{file:06}-coco-10.ZIP", 1_700_000_000 + number);
            self.file(&cache, &name, is_expired)?;
        }
        futimens(&cache, &self.times(is_expired))
    }
}

/// Exports of every kind. CVAT backs up projects and tasks, never jobs.
fn export_name(number: u64) -> String {
    let pick = |words: [&'static str; 3]| words[usize::try_from(number % 3).unwrap_or_default()];
    let stamp =
        format!("{}.{:06}", 1_700_000_000 + number % 40_000_000, 123_456 + number % 800_000);
    match number % 16 {
        15 => format!("events-{number:08x}-1111-4222-8333-444444444444.csv"),
        3 => format!("project-{number}-backup-instance{stamp}.zip"),
        9 => format!("task-{number}-backup-instance{stamp}-lightweight.zip"),
        rest => {
            let what = if rest % 2 == 0 { "annotations" } else { "dataset" };
            let owner = pick(["task", "project", "job"]);
            let tag = pick(["coco-1-0", "cvat-for-images-1-1", "ultralytics-_yolo-_detection-10"]);
            format!("{owner}-{number}-{what}-instance{stamp}-{tag}.zip")
        }
    }
}

/// A number that looks random and is always the same (the finalizer of `SplitMix64`).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn open(parent: &OwnedFd, name: &str) -> Result<OwnedFd> {
    openat(parent, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn open_root(path: &Path) -> std::result::Result<OwnedFd, Box<dyn Error>> {
    std::fs::create_dir_all(path)?;
    Ok(openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// The value after an option, or `without` if it is not given.
fn number<T: FromStr>(arguments: &[String], option: &str, without: T) -> Result<T> {
    match arguments.iter().position(|argument| argument == option) {
        Some(at) => arguments.get(at + 1).and_then(|value| value.parse().ok()).ok_or(Errno::INVAL),
        None => Ok(without),
    }
}

#[expect(clippy::disallowed_methods, reason = "an instrument, with a clock of its own")]
fn now() -> std::result::Result<i64, Box<dyn Error>> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs().try_into()?)
}

fn build(arguments: &[String]) -> std::result::Result<Option<Builder>, Box<dyn Error>> {
    let [mode, dir, options @ ..] = arguments else { return Ok(None) };
    let count = options.first().and_then(|count| count.parse().ok());
    let expired = number(options, "--expired", 50)?;
    let mut builder = Builder { now: now()?, expired, made: 0, units_expired: 0 };
    let dir = open_root(Path::new(dir))?;
    match (mode.as_str(), count) {
        ("flat", Some(count)) => builder.flat(&dir, count)?,
        ("trees", Some(count)) => {
            let (files, dirs) = (number(options, "--files", 100)?, number(options, "--dirs", 4)?);
            builder.trees(&dir, count, files, dirs)?;
        }
        ("instances", Some(count)) => {
            let (with, files) = (number(options, "--with", 10)?, number(options, "--files", 3)?);
            builder.instances(&dir, count, with, files)?;
        }
        ("one-tree", _) => {
            let files = number(options, "--files", 100_000)?;
            builder.tree(&dir, 0, files, number(options, "--dirs", 100)?, true)?;
            builder.units_expired = 1;
        }
        _ => return Ok(None),
    }
    Ok(Some(builder))
}

fn main() -> std::result::Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(built) = build(&arguments)? else {
        eprintln!(
            "usage: volume flat|trees|instances|one-tree DIR [N] [options]; see benches/volume.rs"
        );
        return Ok(ExitCode::from(2));
    };
    println!("made {}, expired {}", built.made, built.units_expired);
    Ok(ExitCode::SUCCESS)
}
