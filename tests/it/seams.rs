//! The line with a fake on one side: a disk on which the world moves between two steps, locks that are
//! held by somebody else. The other side is real.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use retention_sweeper::condemn::{
    Claim, Condemned, Disk, Failure, Fate, Locks, Off, Place, Removed, Reprieve, Seen, Spared,
    Stale, Step,
};
use retention_sweeper::disk::{InUseProbe, RealDisk, Rehearsal, Scan};
use retention_sweeper::exit::ExitCode;
use retention_sweeper::lock::Backend;
use retention_sweeper::retention::{Exclude, ExportTtls, Moment, Policy, TmpAge, Ttl, Zone};
use retention_sweeper::stop::{Stop, Stopped};
use retention_sweeper::sweep::{Audience, Outcome, Pass, Summary, Tally};
use retention_sweeper::volume::{Forbidden, Volume};
use retention_sweeper::workers::Workers;

use crate::world::{DAY, NOW_SECS, World, set_age};

static ONE: Workers = Workers::one();

/// A real disk, on which something happens after the lock was taken and before the second look, and
/// something else between that look and the removal.
struct Moving<'v, L, R> {
    disk: RealDisk<'v>,
    before_look: L,
    before_removal: R,
}

impl<L: Fn() + Sync, R: Fn(&Condemned) + Sync> Disk for Moving<'_, L, R> {
    type Scan = Scan;
    fn open_zone(&self, zone: Zone) -> Result<Option<Scan>, Failure> {
        self.disk.open_zone(zone)
    }
    fn sight<'s>(
        &self,
        scan: &'s Scan,
        buffer: &mut Vec<u8>,
        each: &mut impl FnMut(Seen<'_>),
    ) -> Step<'s> {
        self.disk.sight(scan, buffer, each)
    }
    fn look_again(&self, claim: Claim, now: Moment) -> Result<Condemned, Reprieve> {
        (self.before_look)();
        self.disk.look_again(claim, now)
    }
    fn remove(&self, condemned: Condemned, now: Moment) -> Result<Removed, Reprieve> {
        (self.before_removal)(&condemned);
        self.disk.remove(condemned, now)
    }
    fn notes(&self, zone: Zone) -> Vec<String> {
        self.disk.notes(zone)
    }
}

/// Hears nothing but fates, and what each gave back.
#[derive(Default)]
struct Heard(Mutex<Vec<(String, u64)>>);

impl Audience for Heard {
    fn begins(&self, _zone: Zone) {}
    fn tell(&self, outcome: &Outcome<'_>) {
        let fate = match &outcome.fate {
            Fate::Removed => "removed".to_owned(),
            Fate::Kept(kept) => kept.why.key().to_owned(),
            Fate::Spared(why) => why.key().to_owned(),
            Fate::Failed(failure) => failure.to_string(),
        };
        self.0.lock().unwrap().push((fate, outcome.freed.0));
    }
    fn so_far(&self, _root: &Place, _names: u64, _handful: &Tally) {}
}

fn pass(
    zone: Zone,
    disk: &impl Disk,
    locks: &impl Locks,
    stop: &Stop,
) -> (Vec<(String, u64)>, Summary) {
    let policy = Policy {
        export: ExportTtls::all(Ttl::from_secs(86_400)),
        retention: Ttl::from_secs(14 * 86_400),
        tmp_age: TmpAge::Tree,
        older_than: None,
        exclude: Exclude::default(),
    };
    let (now, lock_wait) = (Moment::from_unix(NOW_SECS, 0), Duration::ZERO);
    let (policy, workers, heard) = (&policy, &ONE, Heard::default());
    let summary =
        Pass { disk, locks, policy, now, stop, workers, lock_wait }.sweep(&[zone], &heard);
    (heard.0.into_inner().unwrap(), summary)
}

/// Sweeps a zone while the world moves; what was said of the one entry in it, and what that gave back.
pub fn sweep_while(
    world: &World,
    zone: Zone,
    before_look: impl Fn() + Sync,
    before_removal: impl Fn(&Condemned) + Sync,
) -> (String, u64) {
    sweep_until(world, zone, &Stop::default(), before_look, before_removal)
}

/// The same by a pass that `stop` ends or slows down.
pub fn sweep_until(
    world: &World,
    zone: Zone,
    stop: &Stop,
    before_look: impl Fn() + Sync,
    before_removal: impl Fn(&Condemned) + Sync,
) -> (String, u64) {
    let volume = Volume::open(&world.root, &Forbidden::default()).unwrap();
    let disk = RealDisk::new(&volume, InUseProbe::On, stop, &ONE);
    let moving = Moving { disk, before_look, before_removal };
    let (mut fates, _) = pass(zone, &moving, &Backend::flock(), stop);
    assert_eq!(fates.len(), 1, "{fates:?}");
    fates.remove(0)
}

/// A volume with one expired export.
fn world() -> (World, PathBuf) {
    let world = World::new();
    let path = world.file("cache/export/task-1-backup-instance1.5.zip", 2 * DAY);
    (world, path)
}

fn fate_when(moves: impl Fn(&Path) + Sync) -> (String, bool) {
    let (world, path) = world();
    let (fate, _) = sweep_while(&world, Zone::Export, || moves(&path), |_| {});
    (fate, path.symlink_metadata().is_ok())
}

#[test]
fn what_changes_between_the_two_looks_is_spared() {
    let with = |fate: &str, stays| (fate.to_owned(), stays);
    assert_eq!(fate_when(|_| {}), with("removed", false));
    assert_eq!(fate_when(|path| set_age(path, 0)), with("used", true));
    assert_eq!(fate_when(|path| fs::remove_file(path).unwrap()), with("gone", false));
    let republished = |path: &Path| {
        let new = path.with_extension("new");
        fs::write(&new, "new").unwrap();
        // As old as the first, as `shutil.move` across file systems leaves it: still another file.
        set_age(&new, 2 * DAY);
        fs::rename(new, path).unwrap();
    };
    assert_eq!(fate_when(republished), with("replaced", true));
    let linked = |path: &Path| {
        fs::rename(path, path.with_extension("moved")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", path).unwrap();
    };
    assert_eq!(fate_when(linked), with("replaced", true));
}

/// Locks that somebody else holds, or that cannot be had at all.
struct Held(fn(Stale) -> Reprieve);

impl Locks for Held {
    fn ready(&self, _zone: Zone) -> Result<(), String> {
        Ok(())
    }
    fn claim(&self, batch: Vec<Stale>, each: &mut dyn FnMut(Result<Claim, Reprieve>)) {
        for stale in batch {
            each(Err((self.0)(stale)));
        }
    }
    fn notes(&self, _zone: Zone) -> Vec<String> {
        Vec::new()
    }
}

#[test]
fn what_is_not_locked_by_us_is_not_removed() {
    let (world, path) = world();
    let volume = Volume::open(&world.root, &Forbidden::default()).unwrap();
    let stop = Stop::default();
    let disk = RealDisk::new(&volume, InUseProbe::On, &stop, &ONE);
    let busy = Held(|stale| Reprieve::of(stale, Off::Spared(Spared::Busy)));
    let (fates, summary) = pass(Zone::Export, &disk, &busy, &stop);
    assert_eq!(fates, [("busy".to_owned(), 0)]);
    assert_eq!(summary.zones[0].tally.spared(), 1);
    let none = Held(|stale| Reprieve::of(stale, Off::NoLock("unreachable".to_owned())));
    let (fates, summary) = pass(Zone::Export, &disk, &none, &stop);
    assert!(fates.is_empty(), "{fates:?}");
    assert_eq!(summary.zones[0].no_lock.as_deref(), Some("unreachable"));
    assert_eq!(ExitCode::of(&summary), ExitCode::NoLock);
    assert!(path.exists());
}

#[test]
fn a_stopped_pass_removes_nothing_more() {
    let (world, path) = world();
    let volume = Volume::open(&world.root, &Forbidden::default()).unwrap();
    let stop = Stop::new(0);
    let disk = RealDisk::new(&volume, InUseProbe::On, &stop, &ONE);
    for _ in 0..2 {
        let (fates, summary) = pass(Zone::Export, &disk, &Backend::flock(), &stop);
        assert!(fates.is_empty(), "{fates:?}");
        assert_eq!(summary.stopped, Some(Stopped::MaxRemovals));
    }
    let (fates, _) = pass(Zone::Export, &Rehearsal::of(disk), &Backend::flock(), &stop);
    assert!(fates.is_empty() && path.exists());
}
