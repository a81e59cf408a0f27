//! The relief of the file systems that a pass was over, as the settings say.
//!
//! It must not choose an entry: the engine does. Zones can be on several file systems, and each is relieved by what
//! is on it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::super::Refusal;
use super::execute::{Parts, Work};
use super::turns::{Turns, WhenHeld};
use crate::config::PressureSettings;
use crate::engine::{Limits, ReliefPlan, ReliefZone};
use crate::fs::{DataRoot, stat};
use crate::lock::exclusive::ExclusiveLock;
use crate::protocol::{Journal, Notes, Observer, Relief, ReliefEnd, Summary, Volume};
use crate::rules::pressure::Arrival;
use crate::rules::{Amount, Moment, Space, Zone, ZoneName};
use crate::source;

/// How a relief is made.
#[derive(Clone, Copy)]
pub(super) enum Way<'a> {
    /// It is only counted.
    Count,
    /// As a dry run.
    DryRun,
    /// Entries go, and each is written down first if there is a journal.
    Remove(Option<&'a dyn Journal>),
}

/// When each zone was swept, by the clock that judged it.
pub(super) type Swept = Vec<(ZoneName, Moment)>;

/// A file system with zones on it.
struct Mounted {
    path: PathBuf,
    handle: OwnedFd,
    device: u64,
    zones: Vec<ZoneName>,
}

impl Parts<'_> {
    /// Relieves each file system after a pass with this summary, if that is asked for and the pass came to its
    /// end.
    pub(super) fn relieve(
        &mut self,
        way: Way<'_>,
        limits: &Limits,
        swept: &Swept,
        mut summary: Summary,
        observer: &dyn Observer,
    ) -> Result<Summary, Refusal> {
        let Some(settings) = self.pressure.clone() else { return Ok(summary) };
        if summary.stopped.is_some() {
            return Ok(summary);
        }
        let zones = usable(&settings, swept, &summary);
        let left_alone = left_alone(&settings, &summary);
        if zones.is_empty() && left_alone.is_empty() {
            // None of them is in this pass.
            return Ok(summary);
        }
        let names: Vec<Arc<Zone>> = summary
            .zones
            .iter()
            .filter_map(|zone| self.request.zones.iter().find(|it| it.name == zone.zone).cloned())
            .collect();
        let mounted = mounted(self.root, &names).map_err(|error| {
            Refusal::Start(format!("the file system is not known: {}", crate::units::error(&error)))
        })?;
        self.locks.exclusive = match way {
            Way::Remove(_) => self.exclusive(&zones),
            Way::Count | Way::DryRun => ExclusiveLock::none(),
        };
        for (at, mounted) in mounted.into_iter().enumerate() {
            let is_on_it = |name: &ZoneName| mounted.zones.contains(name);
            let zones: Vec<ReliefZone> =
                zones.iter().filter(|zone| is_on_it(&zone.zone.name)).cloned().collect();
            let left: Vec<(ZoneName, String)> =
                left_alone.iter().filter(|(name, _)| is_on_it(name)).cloned().collect();
            if at > 0 && zones.is_empty() && left.is_empty() {
                continue;
            }
            summary = self.relieve_one(way, limits, mounted, &zones, summary, observer);
            if let Some(Relief { end: ReliefEnd::NothingLeft(way), .. }) = summary.relief.last_mut()
            {
                way.zones.extend(left);
            }
        }
        self.locks.exclusive = ExclusiveLock::none();
        Ok(summary)
    }

    /// Relieves one file system by these zones.
    fn relieve_one(
        &self,
        way: Way<'_>,
        limits: &Limits,
        mounted: Mounted,
        zones: &[ReliefZone],
        summary: Summary,
        observer: &dyn Observer,
    ) -> Summary {
        let Mounted { path, handle, device, zones: on_it } = mounted;
        let Some(PressureSettings { pressure, min_age, .. }) = self.pressure else {
            return summary;
        };
        let freed = removed_from(&on_it, &summary);
        let asked: Box<dyn Volume + '_> = match way {
            Way::Remove(_) => Box::new(Asked { handle, limits }),
            Way::Count | Way::DryRun => Box::new(Foreseen { handle, freed: Mutex::default() }),
        };
        let plan =
            ReliefPlan { zones, pressure, min_age, volume: &*asked, path: &path, device, freed };
        let work = Work::Relieve(&plan, summary);
        match way {
            Way::Count => self.count(work, limits, None),
            Way::DryRun => self.dry_run(work, limits, None, observer),
            Way::Remove(journal) => self.remove(work, limits, None, journal, observer),
        }
    }

    /// The lock that keeps other sweepers out of these zones. One that is locked by another sweeper is left alone.
    fn exclusive(&self, zones: &[ReliefZone]) -> ExclusiveLock {
        let zones: Vec<Arc<Zone>> = zones.iter().map(|zone| Arc::clone(&zone.zone)).collect();
        let when_held = match self.request.when_held {
            WhenHeld::Share => WhenHeld::Share,
            WhenHeld::LeaveAlone | WhenHeld::Wait | WhenHeld::Postpone => WhenHeld::LeaveAlone,
        };
        let mut turns = Turns::new(self.request.config, self.root, &zones, when_held, true);
        turns.next(&|| true).map_or_else(ExclusiveLock::none, |turn| turn.lock)
    }
}

/// The zones that may relieve, as far as they were swept.
fn usable(settings: &PressureSettings, swept: &Swept, summary: &Summary) -> Vec<ReliefZone> {
    let is_swept = |name: &ZoneName| {
        summary.zones.iter().any(|zone| zone.zone == *name && zone.no_lock.is_none())
    };
    let zones = settings.zones.iter().filter(|(zone, _)| is_swept(&zone.name));
    zones
        .filter_map(|(zone, order)| {
            let (_, swept) = swept.iter().find(|(name, _)| *name == zone.name)?;
            Some(ReliefZone { zone: Arc::clone(zone), order: *order, swept: *swept })
        })
        .collect()
}

/// The zones that may relieve and that the pass has left alone, each with the reason.
fn left_alone(settings: &PressureSettings, summary: &Summary) -> Vec<(ZoneName, String)> {
    let of_relief = |name: &ZoneName| settings.zones.iter().any(|(zone, _)| zone.name == *name);
    let zones = summary.zones.iter().filter(|zone| of_relief(&zone.zone));
    zones.filter_map(|zone| Some((zone.zone.clone(), zone.no_lock.clone()?))).collect()
}

/// The file systems that the zones are on; that of the data root is the first.
fn mounted(root: &DataRoot, zones: &[Arc<Zone>]) -> io::Result<Vec<Mounted>> {
    let (handle, path) = (root.reopen()?, root.path().to_owned());
    let mut all = vec![Mounted { path, handle, device: root.id().dev, zones: Vec::new() }];
    for zone in zones {
        for path in &zone.location.roots {
            let Ok(directory) = source::open_root(root, zone, path, &Notes::default()) else {
                continue;
            };
            let (id, _) = stat::id_and_mount(&directory.handle)?;
            let name = zone.name.clone();
            if let Some(known) = all.iter_mut().find(|known| known.device == id.dev) {
                known.zones.push(name);
            } else {
                let (path, handle) = (directory.path, directory.handle);
                all.push(Mounted { path, handle, device: id.dev, zones: vec![name] });
            }
            // Another root of the same zone on another file system would be asked for its entries twice.
            break;
        }
    }
    Ok(all)
}

/// Whether a file system is above its mark that has zones on it which may relieve it.
pub(in crate::cmd) fn is_pressed(settings: &PressureSettings, root: &DataRoot) -> bool {
    let zones: Vec<Arc<Zone>> = settings.zones.iter().map(|(zone, _)| Arc::clone(zone)).collect();
    let is_full = |mounted: &Mounted| {
        Space::at(&mounted.handle).is_ok_and(|space| settings.pressure.is_exceeded_by(&space))
    };
    mounted(root, &zones).is_ok_and(|all| all.iter().any(|it| !it.zones.is_empty() && is_full(it)))
}

/// What a pass has removed from these zones.
fn removed_from(zones: &[ZoneName], summary: &Summary) -> Amount {
    let on_it = summary.zones.iter().filter(|zone| zones.contains(&zone.zone));
    on_it.fold(Amount::default(), |sum, zone| {
        sum.plus(Amount { bytes: zone.tally.freed.0, inodes: zone.tally.removed })
    })
}

/// A file system that is asked.
#[derive(Debug)]
struct Asked<'a> {
    handle: OwnedFd,
    limits: &'a Limits,
}

impl Volume for Asked<'_> {
    fn space_after(&self, freed: Amount, arrival: &dyn Fn(&Space) -> Arrival) -> io::Result<Space> {
        let is_stopped = || self.limits.is_urgent();
        if !freed.is_zero() {
            return Space::settled(&self.handle, arrival, &is_stopped);
        }
        let space = Space::at(&self.handle)?;
        if arrival(&space) == Arrival::Whole {
            return Ok(space);
        }
        // What comes later is compared with this.
        Space::committed(&self.handle, &is_stopped)
    }
}

/// A file system from which nothing is removed: as full as it would be.
#[derive(Debug)]
struct Foreseen {
    handle: OwnedFd,
    freed: Mutex<(Option<Space>, Amount)>,
}

impl Volume for Foreseen {
    fn space_after(&self, freed: Amount, _: &dyn Fn(&Space) -> Arrival) -> io::Result<Space> {
        let mut known = self.freed.lock().unwrap_or_else(PoisonError::into_inner);
        let (space, sum) = &mut *known;
        // Asked once: what others write meanwhile must not change the plan.
        let space = match space {
            Some(space) => *space,
            None => *space.insert(Space::at(&self.handle)?),
        };
        *sum = sum.plus(freed);
        Ok(space.without(*sum))
    }
}
