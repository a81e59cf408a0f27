//! `sweeper demo`: the main job with nothing to set up.
//!
//! This module must not touch anything but the temporary directory that it makes: a small sample volume, swept by the
//! same pass as a real one, and explained entry by entry.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use filetime::FileTime;
use walkdir::WalkDir;

use super::canvas::canvas;
use super::why::{describe_kept, describe_skipped};
use super::{Refusal, printed};
use crate::config::ColorWhen;
use crate::cvat::zones::{self, ExportTtls};
use crate::dispose::Unlink;
use crate::engine::{Limits, Live, Pass, PassControl, Workers};
use crate::fs::lease::InUseProbe;
use crate::fs::{DataRoot, Forbidden};
use crate::inspect::FileInspector;
use crate::lock::{Backend, flock};
use crate::os::clock;
use crate::protocol::{
    Directory, ExitCode, Notes, Observer, Outcome, OutcomeKind, RunInfo, RunMode, Tally,
};
use crate::report::text;
use crate::rules::select::All;
use crate::rules::{Exclude, LastUse, Moment, Ttl, Zone, ZoneName};
use crate::source::DirectorySource;
use crate::units::{self, shown};

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// The files of the sample: age in seconds, size in bytes, path.
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

/// Builds a sample, shows it, sweeps it, and explains what stayed.
pub(super) fn demo(out: &mut impl Write) -> Result<ExitCode, Refusal> {
    let sample = tempfile::Builder::new().prefix("sweeper-demo-").tempdir();
    let sample = sample.map_err(|error| {
        let temporary = shown(&std::env::temp_dir());
        let error = units::error(&error);
        Refusal::Start(format!(
            "cannot make a directory for the sample in {temporary}: {error}; set TMPDIR to another directory"
        ))
    })?;
    let (root, now) = (sample.path(), clock::now());
    build(root, now).map_err(|error| {
        let error = units::error(&error);
        Refusal::Start(format!(
            "cannot write the sample in {}: {error}; set TMPDIR to a directory on another disk",
            shown(root)
        ))
    })?;
    Ok(printed(show_all(root, out, now), ExitCode::Done))
}

fn show_all(root: &Path, out: &mut impl Write, now: Moment) -> io::Result<()> {
    writeln!(out, "A sample data root in {}, with the age of each file:\n", shown(root))?;
    show(out, root, now)?;

    // Two exports are in use while the passes run.
    let job = root.join("cache/export/job-7-annotations-instance1736428000.0-yolo-11.zip");
    let downloading = File::open(&job)?;
    let events = root.join("cache/export/events-0b9b1f2e-3c4d-4e5f-8a6b-7c8d9e0f1a2b.csv");
    let locked = flock::wait_for(&events, Duration::ZERO)
        .map_err(|_| io::Error::other("the sample cannot be locked"))?;
    writeln!(out, "\nAnother process has one export open, as in a download, and one locked.")?;
    let mut stays = BTreeMap::new();
    for (command, zones) in commands() {
        writeln!(out, "\n$ sweeper {command} --data {}\n", shown(root))?;
        stays.extend(sweep(out, root, now, command, &zones)?);
    }
    drop((downloading, locked));

    writeln!(out, "\nWhat is left:\n")?;
    show(out, root, now)?;
    writeln!(out, "\nWhy it stayed:\n")?;
    for (path, why) in stays {
        writeln!(out, "  {}\n      {why}", shown(&path))?;
    }
    writeln!(out, "  \"data/1/original/000001.jpg\"\n      in no zone: never looked at")?;
    writeln!(
        out,
        "\nThe sample is being removed. Now try your own data: `sweeper run --dry-run --data DIR`"
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
    // Directories too, the deepest first.
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
        let metadata = entry.path().symlink_metadata()?;
        let written =
            Moment::from_unix(metadata.mtime(), u32::try_from(metadata.mtime_nsec()).unwrap_or(0));
        let age = units::coarse_secs(written.age_at(now).as_secs());
        let kind = if metadata.file_type().is_symlink() { "link" } else { "" };
        let path = entry.path().strip_prefix(root).unwrap_or(entry.path());
        writeln!(out, "  {age:>8}  {:<4}  {}", kind, shown(path))?;
    }
    Ok(())
}

/// The commands that are shown, and the zones that each sweeps.
fn commands() -> [(&'static str, Vec<Arc<Zone>>); 2] {
    let day = Ttl::from_secs(DAY);
    let ttls = ExportTtls { project: day, task: day, job: day, events: day };
    let of_run = [zones::export(&ttls), zones::tmp(Ttl::from_secs(14 * DAY), LastUse::Tree)];
    [("run", of_run.map(Arc::new).to_vec()), ("legacy", vec![Arc::new(zones::legacy(None))])]
}

/// One pass over zones of the sample; what stayed, and why.
fn sweep(
    out: &mut impl Write,
    root: &Path,
    now: Moment,
    command: &'static str,
    zones: &[Arc<Zone>],
) -> io::Result<BTreeMap<PathBuf, &'static str>> {
    let start = Instant::now();
    let data_root = DataRoot::open(root, &[], &Forbidden::default()).map_err(io::Error::other)?;
    let (limits, workers) = (Limits::default(), Workers::several(2, |_| {}));
    let (control, notes) = (PassControl { limits: &limits, workers: &workers }, Notes::default());
    let (root_path, probe) = (data_root.path(), InUseProbe::On);
    let pass = Pass {
        live: &Live::default(),
        source: &DirectorySource {
            root: &data_root,
            control: &control,
            notes: &notes,
            shard: None,
            paths: None,
        },
        locks: &Backend::flock(),
        inspector: &FileInspector::new(&control, &notes, probe),
        disposer: &Unlink::new(&control, &notes, probe),
        select: &All,
        exclude: &Exclude::default(),
        data_root: root_path,
        notes: &notes,
        is_planned: false,
        now,
        limits: &limits,
        workers: &workers,
        lock_wait: Duration::ZERO,
    };
    let stays = Stays { root, paths: Mutex::default() };
    let summary = pass.run(zones, &stays);
    let info = RunInfo { command, mode: RunMode::Real, now, data_root: root_path, shard: None };
    text::summary(out, canvas(ColorWhen::Never), &info, &summary, start.elapsed())?;
    Ok(stays.paths.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Remembers what stays.
struct Stays<'a> {
    root: &'a Path,
    paths: Mutex<BTreeMap<PathBuf, &'static str>>,
}

impl Observer for Stays<'_> {
    fn on_zone(&self, _zone: &ZoneName) {}

    fn on_outcome(&self, outcome: &Outcome<'_>) {
        let why = match &outcome.kind {
            OutcomeKind::Removed => return,
            OutcomeKind::Kept(kept) => describe_kept(kept.why),
            OutcomeKind::Skipped(why) => describe_skipped(*why),
            OutcomeKind::Failed(_) => "its removal failed",
        };
        let path = outcome.path();
        let path = path.strip_prefix(self.root).unwrap_or(&path).to_owned();
        self.paths.lock().unwrap_or_else(PoisonError::into_inner).insert(path, why);
    }

    fn on_progress(&self, _root: &Directory, _names: u64, _counts: &Tally) {}
}
