//! `sweeper demo`: the main job with nothing to set up.
//!
//! It must not touch anything but the temporary directory that it makes: a small volume with a past,
//! swept by the same line that sweeps a real one, and explained entry by entry.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use filetime::FileTime;
use walkdir::WalkDir;

use crate::condemn::{Fate, Place};
use crate::disk::{InUseProbe, RealDisk};
use crate::lock::Backend;
use crate::report::{Mode, Occasion, text};
use crate::retention::{Exclude, ExportTtls, KeptBy, Moment, Policy, TmpAge, Ttl, Zone};
use crate::stop::Stop;
use crate::sweep::{Audience, Outcome, Pass, Tally};
use crate::units;
use crate::volume::{Forbidden, Volume};
use crate::workers::Workers;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// The sample: age in seconds, size in bytes, path.
const FILES: [(u64, usize, &str); 13] = [
    (30 * HOUR, 40_000, "cache/export/task-12-dataset-instance1736428000.123456-coco-10.zip"),
    (3 * DAY, 90_000, "cache/export/project-3-backup-instance1736428000.5.zip"),
    (2 * HOUR, 40_000, "cache/export/task-12-dataset-instance1736500000.25-coco-10.zip"),
    (40 * DAY, 9_000, "cache/export/job-7-annotations-instance1736428000.0-yolo-11.zip"),
    (40 * DAY, 9_000, "cache/export/events-0b9b1f2e-3c4d-4e5f-8a6b-7c8d9e0f1a2b.csv"),
    (90 * DAY, 5_000, "cache/export/notes from Ana.zip"),
    (20 * DAY, 60_000, "tmp/export-task-k2j4h5g6/result"),
    (20 * DAY, 9_000, "tmp/export-task-k2j4h5g6/subdir/images/000001.jpg"),
    (20 * DAY, 60_000, "tmp/tmpq8w7e6r5/annotations.json"),
    (HOUR, 9_000, "tmp/tmpq8w7e6r5/images/still/being/unpacked.jpg"),
    (16 * DAY, 9_000, "tmp/cvat_a1b2c3d4"),
    (400 * DAY, 80_000, "projects/3/export_cache/annotations_cvat-for-images-11.ZIP"),
    (400 * DAY, 4_000, "data/1/original/000001.jpg"),
];

/// Where the sample volume lies, until it is dropped.
#[derive(Debug)]
pub struct Sample(tempfile::TempDir);

/// Makes room for the sample.
///
/// # Errors
/// What the temporary directory says.
pub fn sample() -> io::Result<Sample> {
    tempfile::Builder::new().prefix("sweeper-demo-").tempdir().map(Sample)
}

/// Builds, shows, sweeps and explains.
///
/// # Errors
/// What the sample or `out` says.
pub fn demo(sample: &Sample, out: &mut impl Write, now: Moment) -> io::Result<()> {
    let Sample(sample) = sample;
    let root = sample.path();
    build(root, now)?;
    writeln!(out, "A sample volume in {}:\n", units::shown(root))?;
    show(out, root, now)?;

    // Two exports and a tree are in somebody's hands while the sweep runs.
    let job = root.join("cache/export/job-7-annotations-instance1736428000.0-yolo-11.zip");
    let downloading = File::open(&job)?;
    let events = root.join("cache/export/events-0b9b1f2e-3c4d-4e5f-8a6b-7c8d9e0f1a2b.csv");
    let locked = crate::lock::flock::wait_for(&events, Duration::ZERO)
        .map_err(|_| io::Error::other("the sample cannot be locked"))?;
    writeln!(out, "\nOne export is being downloaded and another is locked by its exporter.")?;
    writeln!(out, "\n$ sweeper run --data {0} && sweeper legacy --data {0}\n", units::shown(root))?;

    let stays = sweep(out, root, now)?;
    drop((downloading, locked));

    writeln!(out, "\nWhat is left:\n")?;
    show(out, root, now)?;
    writeln!(out, "\nWhy it stayed:\n")?;
    for (path, why) in stays {
        writeln!(out, "  {}\n      {why}", units::shown(&path))?;
    }
    writeln!(out, "  \"data/1/original/000001.jpg\"\n      in no zone: never looked at")?;
    writeln!(
        out,
        "\nThe sample is removed now. `sweeper run --dry-run --data DIR` rehearses yours."
    )
}

fn build(root: &Path, now: Moment) -> io::Result<()> {
    for (age, size, path) in FILES {
        let path = root.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, vec![b'x'; size])?;
        set_age(&path, age, now)?;
    }
    std::os::unix::fs::symlink("/etc/hostname", root.join("tmp/link-left-behind"))?;
    set_age(&root.join("tmp/link-left-behind"), 50 * DAY, now)?;
    // Directories were last changed when what is in them came; the deepest first.
    for entry in WalkDir::new(root).contents_first(true).into_iter().flatten() {
        if entry.file_type().is_dir() {
            set_age(entry.path(), 20 * DAY, now)?;
        }
    }
    Ok(())
}

fn set_age(path: &Path, age: u64, now: Moment) -> io::Result<()> {
    let then = now.minus(Ttl::from_secs(age));
    let time = FileTime::from_unix_time(then.unix_secs(), then.subsec_nanos());
    filetime::set_symlink_file_times(path, time, time)
}

fn show(out: &mut impl Write, root: &Path, now: Moment) -> io::Result<()> {
    for entry in WalkDir::new(root).min_depth(1).sort_by_file_name() {
        let entry = entry.map_err(io::Error::from)?;
        if entry.file_type().is_dir() {
            continue;
        }
        let facts = entry.path().symlink_metadata()?;
        let written =
            Moment::from_unix(facts.mtime(), u32::try_from(facts.mtime_nsec()).unwrap_or(0));
        let age = units::coarse_secs(written.age_at(now).as_secs());
        let kind = if facts.file_type().is_symlink() { "link" } else { "" };
        let path = entry.path().strip_prefix(root).unwrap_or(entry.path());
        writeln!(out, "  {age:>8} {:>4} {}", kind, units::shown(path))?;
    }
    Ok(())
}

/// One pass over all zones of the sample; what stayed, and why.
fn sweep(
    out: &mut impl Write,
    root: &Path,
    now: Moment,
) -> io::Result<BTreeMap<PathBuf, &'static str>> {
    let start = Instant::now();
    let volume = Volume::open(root, &Forbidden::default()).map_err(io::Error::other)?;
    let policy = Policy {
        export: ExportTtls::all(Ttl::from_secs(DAY)),
        retention: Ttl::from_secs(14 * DAY),
        tmp_age: TmpAge::Tree,
        older_than: None,
        exclude: Exclude::default(),
    };
    let stop = Stop::default();
    let workers = Workers::start(2).map_err(io::Error::other)?;
    let disk = RealDisk::new(&volume, InUseProbe::On, &stop, &workers);
    let pass = Pass {
        disk: &disk,
        locks: &Backend::flock(),
        policy: &policy,
        now,
        stop: &stop,
        workers: &workers,
        lock_wait: Duration::ZERO,
    };
    let stays = Stays { root, paths: Mutex::default() };
    let summary = pass.sweep(&[Zone::Export, Zone::Tmp, Zone::Legacy], &stays);
    let occasion = Occasion { command: "demo", mode: Mode::Real, now, volume: root, shard: None };
    text::summary(out, &occasion, &summary, start.elapsed())?;
    Ok(stays.paths.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Remembers what stays.
struct Stays<'a> {
    root: &'a Path,
    paths: Mutex<BTreeMap<PathBuf, &'static str>>,
}

impl Audience for Stays<'_> {
    fn begins(&self, _zone: Zone) {}

    fn tell(&self, outcome: &Outcome<'_>) {
        let why = match &outcome.fate {
            Fate::Removed => return,
            Fate::Kept(kept) if kept.why == KeptBy::Fresh => "kept: used recently enough",
            Fate::Kept(kept) => crate::why::describe_kept(kept.why),
            Fate::Spared(why) => crate::why::describe_spared(*why),
            Fate::Failed(_) => "failed",
        };
        let name = outcome.name.map(CStr::to_bytes).unwrap_or_default();
        let path = outcome.place.path.join(std::ffi::OsStr::from_bytes(name));
        let path = path.strip_prefix(self.root).unwrap_or(&path).to_owned();
        self.paths.lock().unwrap_or_else(PoisonError::into_inner).insert(path, why);
    }

    fn so_far(&self, _root: &Place, _names: u64, _handful: &Tally) {}
}
