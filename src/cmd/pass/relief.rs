//! Relieves the file systems that a pass has swept, as the settings say.
//!
//! This module must not choose an entry: the engine does. Zones can be on several file systems, and each is relieved by
//! removing entries that are on it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::execute::{Parts, Work};
use super::mounted::{AllMounted, Asked, Foreseen, Mounted, Unknown, mounted};
use super::turns::{Turns, WhenHeld};
use crate::config::PressureSettings;
use crate::engine::{Limits, Outcomes, ReliefPlan, ReliefZone};
use crate::lock::exclusive::ExclusiveLock;
use crate::protocol::{Journal, Observer, Relief, ReliefEnd, Summary, Volume};
use crate::rules::{Amount, Moment, Zone, ZoneName};

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

impl Parts<'_> {
    /// Relieves each file system after a pass with this summary, if that is asked for and the pass was complete.
    pub(super) fn relieve(
        &mut self,
        way: Way<'_>,
        limits: &Limits,
        swept: &Swept,
        mut summary: Summary,
        (outcomes, observer): (&Outcomes, &dyn Observer),
    ) -> Summary {
        let Some(settings) = self.pressure.clone() else { return summary };
        if summary.stopped.is_some() {
            return summary;
        }
        let zones = usable(&settings, swept, &summary);
        let left_alone = left_alone(&settings, &summary);
        if zones.is_empty() && left_alone.is_empty() {
            // None of them is in this pass.
            return summary;
        }
        let names: Vec<Arc<Zone>> = summary
            .zones
            .iter()
            .filter_map(|zone| self.request.zones.iter().find(|it| it.name == zone.zone).cloned())
            .collect();
        let AllMounted { known, unknown } = mounted(self.root, &names);
        // What was removed must be reported whatever the system says now.
        let is_wanted = |it: &Unknown| {
            it.zone.as_ref().is_none_or(|name| zones.iter().any(|zone| zone.zone.name == *name))
        };
        let unknown = unknown.into_iter().filter(is_wanted);
        summary.relief.extend(unknown.map(|it| unknown_relief(&settings, it.path, &it.error)));
        self.locks.exclusive = match way {
            Way::Remove(_) => self.exclusive(&zones),
            Way::Count | Way::DryRun => ExclusiveLock::none(),
        };
        for (at, mounted) in known.iter().enumerate() {
            let is_on_it = |name: &ZoneName| mounted.zones.contains(name);
            let zones: Vec<ReliefZone> =
                zones.iter().filter(|zone| is_on_it(&zone.zone.name)).cloned().collect();
            let left: Vec<(ZoneName, String)> =
                left_alone.iter().filter(|(name, _)| is_on_it(name)).cloned().collect();
            if at > 0 && zones.is_empty() && left.is_empty() {
                continue;
            }
            let freed = mounted.freed(&known, outcomes);
            summary = self.relieve_one(
                way,
                limits,
                (mounted, freed),
                &zones,
                summary,
                (outcomes, observer),
            );
            if let Some(Relief { end: ReliefEnd::NothingLeft(way), .. }) = summary.relief.last_mut()
            {
                way.zones.extend(left);
            }
        }
        self.locks.exclusive = ExclusiveLock::none();
        summary
    }

    /// Relieves one file system by these zones.
    fn relieve_one(
        &self,
        way: Way<'_>,
        limits: &Limits,
        (mounted, freed): (&Mounted, Amount),
        zones: &[ReliefZone],
        summary: Summary,
        (outcomes, observer): (&Outcomes, &dyn Observer),
    ) -> Summary {
        let Some(PressureSettings { pressure, min_age, .. }) = self.pressure else {
            return summary;
        };
        let asked: Box<dyn Volume + '_> = match way {
            Way::Remove(_) => Box::new(Asked { mounted, limits }),
            Way::Count | Way::DryRun => Box::new(Foreseen::new(mounted)),
        };
        let (volume, path) = (&*asked, &*mounted.path);
        let plan = ReliefPlan { zones, pressure, min_age, volume, path, freed, outcomes };
        let work = Work::Relieve(&plan, summary);
        match way {
            Way::Count => self.count(work, limits, None, observer),
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

/// The relief of a file system that cannot be asked how full it is.
fn unknown_relief(settings: &PressureSettings, path: PathBuf, error: &io::Error) -> Relief {
    let end = ReliefEnd::Unknown(crate::units::error(error));
    Relief::new(path, false, settings.pressure, settings.min_age, end)
}
