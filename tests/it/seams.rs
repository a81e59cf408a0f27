//! The pass with one fake seam: files change between two steps, or locks are held by another process. The
//! other seams are real.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use retention_sweeper::control::Unlimited;
use retention_sweeper::cvat::zones::{self, ExportTtls};
use retention_sweeper::dispose::{DryRun, Unlink};
use retention_sweeper::engine::{Budget, Limits, Live, Pass, PassControl, Workers};
use retention_sweeper::fs::lease::InUseProbe;
use retention_sweeper::fs::{DataRoot, Forbidden};
use retention_sweeper::inspect::FileInspector;
use retention_sweeper::lock::Backend;
use retention_sweeper::protocol::{
    Claimed, Directory, Disposer, ExitCode, Expired, Guards, Inspector, Locks, Notes, Observer,
    Outcome, OutcomeKind, Rejected, Rejection, Removed, Skipped, StopReason, Summary, Tally,
    Verified,
};
use retention_sweeper::rules::select::All;
use retention_sweeper::rules::{Exclude, LastUse, Moment, Ttl, Zone, ZoneName};
use retention_sweeper::source::DirectorySource;

use crate::start::written;
use crate::world::{DAY, NOW_SECS, World, set_age};

static ONE: Workers = Workers::one();

/// Looks again, after something has happened under the lock.
struct After<'a, I, F> {
    inspector: &'a I,
    happens: F,
}

impl<I: Inspector, F: Fn() + Sync> Inspector for After<'_, I, F> {
    fn inspect(&self, claimed: Claimed, now: Moment) -> Result<Verified, Rejected> {
        (self.happens)();
        self.inspector.inspect(claimed, now)
    }
}

/// Removes, after something has happened since the second look.
struct Later<'a, D, F> {
    disposer: &'a D,
    happens: F,
}

impl<D: Disposer, F: Fn(&Verified) + Sync> Disposer for Later<'_, D, F> {
    fn dispose(&self, verified: Verified, now: Moment) -> Result<Removed, Rejected> {
        (self.happens)(&verified);
        self.disposer.dispose(verified, now)
    }
}

/// Records each outcome, and the bytes that it freed.
#[derive(Default)]
struct Recorder(Mutex<Vec<(String, u64)>>);

impl Observer for Recorder {
    fn on_zone(&self, _zone: &ZoneName) {}
    fn on_outcome(&self, outcome: &Outcome<'_>) {
        let what = match &outcome.kind {
            OutcomeKind::Removed => "removed".to_owned(),
            OutcomeKind::Kept(kept) => kept.why.key().to_owned(),
            OutcomeKind::Skipped(why) => why.key().to_owned(),
            OutcomeKind::Failed(failure) => failure.to_string(),
        };
        self.0.lock().unwrap().push((what, outcome.freed.0));
    }
    fn on_progress(&self, _root: &Directory, _names: u64, _counts: &Tally) {}
}

/// The zone of exports, with a TTL of a day.
fn export() -> Zone {
    let day = Ttl::from_secs(86_400);
    zones::export(&ExportTtls { project: day, task: day, job: day, events: day })
}

/// The zone of temporary entries, with a retention of 14 days.
pub fn tmp() -> Zone {
    zones::tmp(Ttl::from_secs(14 * 86_400), LastUse::Tree)
}

/// Runs a pass of one worker.
fn pass(
    world: &World,
    zone: Zone,
    limits: &Limits,
    locks: &impl Locks,
    inspector: &impl Inspector,
    disposer: &impl Disposer,
) -> (Vec<(String, u64)>, Summary) {
    let root = DataRoot::open(&world.root, &[], &Forbidden::default()).unwrap();
    let (control, notes) = (PassControl { limits, workers: &ONE }, Notes::default());
    let recorder = Recorder::default();
    let pass = Pass {
        live: &Live::default(),
        source: &DirectorySource {
            root: &root,
            control: &control,
            notes: &notes,
            shard: None,
            paths: None,
        },
        locks,
        inspector,
        disposer,
        select: &All,
        exclude: &Exclude::default(),
        data_root: root.path(),
        notes: &notes,
        is_planned: false,
        now: Moment::from_unix(NOW_SECS, 0),
        limits,
        workers: &ONE,
        lock_wait: Duration::ZERO,
    };
    // A program that another test starts would have a copy of each lock for a moment.
    let summary = written(|| pass.run(&[Arc::new(zone)], &recorder));
    (recorder.0.into_inner().unwrap(), summary)
}

/// Sweeps a zone with one entry while things happen: its outcome, and the bytes that were freed.
pub fn sweep_while(
    world: &World,
    zone: Zone,
    before_look: impl Fn() + Sync,
    before_removal: impl Fn(&Verified) + Sync,
) -> (String, u64) {
    sweep_within(world, zone, &Limits::default(), before_look, before_removal)
}

/// The same, within limits.
pub fn sweep_within(
    world: &World,
    zone: Zone,
    limits: &Limits,
    before_look: impl Fn() + Sync,
    before_removal: impl Fn(&Verified) + Sync,
) -> (String, u64) {
    let (control, notes) = (PassControl { limits, workers: &ONE }, Notes::default());
    let inspector = &FileInspector::new(&control, &notes, InUseProbe::On);
    let disposer = &Unlink::new(&control, &notes, InUseProbe::On);
    let inspector = After { inspector, happens: before_look };
    let disposer = Later { disposer, happens: before_removal };
    let (mut outcomes, _) = pass(world, zone, limits, &Backend::flock(), &inspector, &disposer);
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    outcomes.remove(0)
}

/// A data root with one expired export.
fn world() -> (World, PathBuf) {
    let world = World::new();
    let path = world.file("cache/export/task-1-backup-instance1.5.zip", 2 * DAY);
    (world, path)
}

/// The outcome of the export when this happens before the second look, and whether it is still there.
fn outcome_when(happens: impl Fn(&Path) + Sync) -> (String, bool) {
    let (world, path) = world();
    let (outcome, _) = sweep_while(&world, export(), || happens(&path), |_| {});
    (outcome, path.symlink_metadata().is_ok())
}

#[test]
fn what_changes_between_the_two_looks_is_skipped() {
    let with = |outcome: &str, stays| (outcome.to_owned(), stays);
    assert_eq!(outcome_when(|_| {}), with("removed", false));
    assert_eq!(outcome_when(|path| set_age(path, 0)), with("used", true));
    assert_eq!(outcome_when(|path| fs::remove_file(path).unwrap()), with("gone", false));
    let published_again = |path: &Path| {
        let new = path.with_extension("new");
        fs::write(&new, "new").unwrap();
        // As old as the first, as `shutil.move` across file systems leaves it: still another file.
        set_age(&new, 2 * DAY);
        fs::rename(new, path).unwrap();
    };
    assert_eq!(outcome_when(published_again), with("replaced", true));
    let linked = |path: &Path| {
        fs::rename(path, path.with_extension("moved")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", path).unwrap();
    };
    assert_eq!(outcome_when(linked), with("replaced", true));
}

/// Locks that cannot be taken.
struct Refused(fn(Expired) -> Rejected);

impl Locks for Refused {
    fn ready(&self, _zone: &Zone) -> Result<(), String> {
        Ok(())
    }
    fn claim(
        &self,
        batch: Vec<Expired>,
        _is_stopped: &dyn Fn() -> bool,
        each: &mut dyn FnMut(Result<Claimed, Rejected>),
    ) {
        for expired in batch {
            each(Err((self.0)(expired)));
        }
    }
    fn notes(&self, _zone: &Zone) -> Vec<String> {
        Vec::new()
    }
}

/// Sweeps the zone of exports with real removals.
fn sweep(world: &World, limits: &Limits, locks: &impl Locks) -> (Vec<(String, u64)>, Summary) {
    let (control, notes) = (PassControl { limits, workers: &ONE }, Notes::default());
    let inspector = FileInspector::new(&control, &notes, InUseProbe::On);
    let disposer = Unlink::new(&control, &notes, InUseProbe::On);
    pass(world, export(), limits, locks, &inspector, &disposer)
}

#[test]
fn what_is_not_locked_by_us_is_not_removed() {
    let (world, path) = world();
    let limits = Limits::default();
    let held = Refused(|expired| Rejected::new(expired, Rejection::Skipped(Skipped::Locked)));
    let (outcomes, summary) = sweep(&world, &limits, &held);
    assert_eq!(outcomes, [("locked".to_owned(), 0)]);
    assert_eq!(summary.zones[0].tally.skipped(), 1);
    let none =
        Refused(|expired| Rejected::new(expired, Rejection::NoLock("unreachable".to_owned())));
    let (outcomes, summary) = sweep(&world, &limits, &none);
    assert!(outcomes.is_empty(), "{outcomes:?}");
    assert_eq!(summary.zones[0].no_lock.as_deref(), Some("unreachable"));
    assert_eq!(ExitCode::of(&summary), ExitCode::NoLock);
    assert!(path.exists());
}

#[test]
fn a_stopped_pass_removes_nothing_more() {
    let (world, path) = world();
    let limits = Limits::default();
    let none = Guards { max_removals: Some(0), ..Guards::default() };
    let counted = Summary { zones: Vec::new(), stopped: None, relief: Vec::new() };
    limits.set_budget(Budget::new(&none, &counted));
    for _ in 0..2 {
        let (outcomes, summary) = sweep(&world, &limits, &Backend::flock());
        assert!(outcomes.is_empty(), "{outcomes:?}");
        assert_eq!(summary.stopped, Some(StopReason::MaxRemovals));
    }
    let (control, notes) = (PassControl { limits: &limits, workers: &ONE }, Notes::default());
    let inspector = FileInspector::new(&control, &notes, InUseProbe::On);
    let (locks, dry_run) = (Backend::flock(), DryRun::new(&Unlimited, InUseProbe::On));
    let (outcomes, _) = pass(&world, export(), &limits, &locks, &inspector, &dry_run);
    assert!(outcomes.is_empty() && path.exists());
}
