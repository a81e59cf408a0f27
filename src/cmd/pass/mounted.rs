//! The file systems that zones are on, and how full each is.
//!
//! This module must not choose an entry. One file system can have several device numbers, as btrfs has one for each
//! subvolume; and a directory with a quota of its own can be full while the rest of its file system is not.

mod relation;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::PressureSettings;
use crate::engine::{Limits, Outcomes};
use crate::fs::{DataRoot, file_system, reserve};
use crate::protocol::{Directory, Failure, Notes, Volume};
use crate::rules::pressure::Arrival;
use crate::rules::{Amount, Space, Zone, ZoneName};
use crate::source;
use relation::{Relation, has_quota, relation_of};

/// A file system with zones on it, or what a quota makes of a directory on one.
#[derive(Debug)]
pub(super) struct Mounted {
    pub(super) path: PathBuf,
    pub(super) zones: Vec<ZoneName>,
    handle: OwnedFd,
    /// Its device numbers, as far as they are known.
    devices: Vec<u64>,
    /// What its device numbers have in common, if it can have several.
    shared: Option<file_system::Shared>,
    /// A zone has a quota of its own: as full as that looked. Of another zone it says nothing.
    quota: Option<Space>,
    /// The directories of zones that have this quota.
    within: Vec<PathBuf>,
    /// It is not a quota of a zone, and yet the system shows a quota for it.
    has_quota: bool,
    /// Directories below it that have quotas of their own, in place of that one.
    apart: Vec<PathBuf>,
}

/// The file systems of a pass, and directories whose file system is not known.
#[derive(Debug, Default)]
pub(super) struct AllMounted {
    pub(super) known: Vec<Mounted>,
    pub(super) unknown: Vec<Unknown>,
}

/// A directory whose file system is not known.
#[derive(Debug)]
pub(super) struct Unknown {
    /// The zone that it is of; the data root is of all.
    pub(super) zone: Option<ZoneName>,
    pub(super) path: PathBuf,
    pub(super) error: io::Error,
}

impl Mounted {
    fn new(path: PathBuf, handle: OwnedFd, device: u64) -> Self {
        let shared = file_system::shared(&handle);
        let (zones, devices) = (Vec::new(), vec![device]);
        let (within, apart) = (Vec::new(), Vec::new());
        let has_quota = has_quota(&handle);
        Self { path, zones, handle, devices, shared, quota: None, within, has_quota, apart }
    }

    fn is_of(&self, device: u64, shared: Option<file_system::Shared>) -> bool {
        self.devices.contains(&device) || (shared.is_some() && self.shared == shared)
    }

    fn add(&mut self, zone: &ZoneName, device: u64) {
        if !self.devices.contains(&device) {
            self.devices.push(device);
        }
        if !self.zones.contains(zone) {
            self.zones.push(zone.clone());
        }
    }

    fn space(&self) -> io::Result<Space> {
        Space::at(&self.handle)
    }

    fn holds(&self, directory: &Directory) -> bool {
        let is_on_it = self.devices.contains(&directory.id.dev)
            || (self.shared.is_some() && self.shared == file_system::shared(&directory.handle));
        is_on_it && self.has_path(&directory.path)
    }

    /// Whether a path on it counts in it.
    fn has_path(&self, path: &Path) -> bool {
        (self.quota.is_none() || self.within.iter().any(|within| path.starts_with(within)))
            && !self.apart.iter().any(|apart| path.starts_with(apart))
    }

    /// Whether it is the quota of a directory, too. Two quotas can look equal, as when both are full: only where one
    /// of the directories is in the other is that one and the same.
    fn has_same_quota(&self, quota: Option<Space>, path: &Path) -> bool {
        let is_nested = |it: &PathBuf| it.starts_with(path) || path.starts_with(it);
        quota.is_some() && self.quota == quota && self.within.iter().any(is_nested)
    }

    /// How much of what becomes free only root can use first: none of a quota, but so much of a whole file system as
    /// is `missing` of its reserve.
    fn reserved(&self, missing: &dyn Fn() -> u64) -> u64 {
        if self.quota.is_some() || self.has_quota { 0 } else { missing() }
    }

    /// What a pass has removed on it. `all` are the file systems of the pass.
    pub(super) fn freed(&self, all: &[Self], outcomes: &Outcomes) -> Amount {
        // A subvolume below a zone is on the file system of that zone.
        let is_known = |device: u64| all.iter().any(|one| one.devices.contains(&device));
        let is_here = |device| self.devices.contains(&device) || !is_known(device);
        outcomes.freed_from(&self.zones, &is_here)
    }
}

/// The file systems that the zones are on; that of the data root is the first.
pub(super) fn mounted(root: &DataRoot, zones: &[Arc<Zone>]) -> AllMounted {
    let mut all = AllMounted::default();
    match root.reopen() {
        Ok(handle) => all.known.push(Mounted::new(root.path().to_owned(), handle, root.id().dev)),
        Err(error) => {
            all.unknown.push(Unknown { zone: None, path: root.path().to_owned(), error });
        }
    }
    for zone in zones {
        for path in &zone.location.roots {
            match source::open_root(root, zone, path, &Notes::default()) {
                Ok(directory) => all.add(zone, directory),
                Err(failure) if failure.error.kind() == io::ErrorKind::NotFound => {}
                Err(Failure { path, error, .. }) => {
                    all.unknown.push(Unknown { zone: Some(zone.name.clone()), path, error });
                }
            }
        }
    }
    all
}

impl AllMounted {
    fn add(&mut self, zone: &Zone, directory: Directory) {
        let device = directory.id.dev;
        let shared = file_system::shared(&directory.handle);
        let (quota, counts) = self.add_to_whole(zone, &directory, shared);
        if quota.is_none() && counts {
            return;
        }
        let is_same = |it: &&mut Mounted| {
            it.is_of(device, shared) && it.has_same_quota(quota, &directory.path)
        };
        if let Some(known) = self.known.iter_mut().find(is_same) {
            known.within.push(directory.path);
            return known.add(&zone.name, device);
        }
        let within = quota.map(|_| directory.path.clone()).into_iter().collect();
        let mounted = Mounted::new(directory.path, directory.handle, device);
        let mut mounted = Mounted { quota, within, ..mounted };
        mounted.add(&zone.name, device);
        self.known.push(mounted);
    }

    /// Adds a directory to the file system, or the quota of the data root, that its files count in, if that is
    /// known: the quota of the directory itself, and whether it is.
    fn add_to_whole(
        &mut self,
        zone: &Zone,
        directory: &Directory,
        shared: Option<file_system::Shared>,
    ) -> (Option<Space>, bool) {
        let (mut quota, device) = (None, directory.id.dev);
        let wholes = self.known.iter_mut().filter(|it| it.quota.is_none());
        for whole in wholes.filter(|it| it.is_of(device, shared)) {
            let relation = relation_of(&whole.handle, &directory.handle);
            if let Relation::Quota(space) = relation {
                quota = Some(space);
            }
            if relation.counts(whole.has_quota, directory.path.starts_with(&whole.path)) {
                whole.add(&zone.name, device);
                return (quota, true);
            }
            whole.apart.push(directory.path.clone());
        }
        (quota, false)
    }
}

/// The directories of zones that have quotas of their own, and how full each is.
pub(in crate::cmd) fn quotas(root: &DataRoot, zones: &[Arc<Zone>]) -> Vec<(PathBuf, Space)> {
    let all = mounted(root, zones).known;
    all.into_iter().filter_map(|it| Some((it.path, it.quota?))).collect()
}

/// Whether a file system is above its mark that has zones on it which may relieve it.
pub(in crate::cmd) fn is_pressed(settings: &PressureSettings, root: &DataRoot) -> bool {
    let zones: Vec<Arc<Zone>> = settings.zones.iter().map(|(zone, _)| Arc::clone(zone)).collect();
    let is_full =
        |it: &Mounted| it.space().is_ok_and(|space| settings.pressure.is_exceeded_by(&space));
    mounted(root, &zones).known.iter().any(|it| !it.zones.is_empty() && is_full(it))
}

/// A file system that is asked.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) mounted: &'a Mounted,
    pub(super) limits: &'a Limits,
}

impl Volume for Asked<'_> {
    fn space(&self) -> io::Result<Space> {
        self.mounted.space()
    }

    fn space_after(&self, freed: Amount, arrival: &dyn Fn(&Space) -> Arrival) -> io::Result<Space> {
        let is_stopped = || self.limits.is_urgent();
        if !freed.is_zero() {
            return Space::settled(&self.mounted.handle, arrival, &is_stopped);
        }
        let space = self.mounted.space()?;
        if arrival(&space) == Arrival::Whole {
            return Ok(space);
        }
        // What comes later is compared with this.
        Space::committed(&self.mounted.handle, &is_stopped)
    }

    fn holds(&self, directory: &Directory) -> bool {
        self.mounted.holds(directory)
    }

    fn is_quota(&self) -> bool {
        self.mounted.quota.is_some()
    }
}

/// A file system from which nothing is removed: as full as it would be.
#[derive(Debug)]
pub(super) struct Foreseen<'a> {
    mounted: &'a Mounted,
    freed: Mutex<Freed>,
}

/// What would be free.
#[derive(Debug, Default)]
struct Freed {
    /// How full it was. Asked once: what others write meanwhile must not change the plan.
    space: Option<(Space, u64)>,
    sum: Amount,
}

impl<'a> Foreseen<'a> {
    pub(super) fn new(mounted: &'a Mounted) -> Self {
        Self { mounted, freed: Mutex::default() }
    }
}

impl Volume for Foreseen<'_> {
    fn space(&self) -> io::Result<Space> {
        self.space_after(Amount::default(), &|_| Arrival::Whole)
    }

    fn space_after(&self, freed: Amount, _: &dyn Fn(&Space) -> Arrival) -> io::Result<Space> {
        let mut known = self.freed.lock().unwrap_or_else(PoisonError::into_inner);
        let (space, reserved) = if let Some(known) = known.space {
            known
        } else {
            let space = self.mounted.space()?;
            let missing = || reserve::missing(&self.mounted.handle, &space);
            let reserved = self.mounted.reserved(&missing);
            *known.space.insert((space, reserved))
        };
        known.sum = known.sum.plus(freed);
        Ok(space.without_but(known.sum, reserved))
    }

    fn now(&self) -> Option<Space> {
        let known = self.freed.lock().unwrap_or_else(PoisonError::into_inner);
        known.space.map(|(space, _)| space)
    }

    fn holds(&self, directory: &Directory) -> bool {
        self.mounted.holds(directory)
    }

    fn is_quota(&self) -> bool {
        self.mounted.quota.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::space::tests::space;

    fn mounted() -> Mounted {
        let path = std::env::temp_dir();
        let handle = std::fs::File::open(&path).unwrap().into();
        let mounted = Mounted::new(path, handle, 1);
        Mounted { has_quota: false, ..mounted }
    }

    const FULL: Space = space(100, 100);

    #[test]
    fn two_quotas_that_look_equal_are_two_unless_one_directory_is_in_the_other() {
        let quota = Some(FULL);
        let one = Mounted { quota, within: vec!["/data/cache/export".into()], ..mounted() };
        let empty = Some(Space { bytes_used: 0, ..FULL });
        for (quota, path, expected) in [
            (quota, "/data/cache/export/a", true),
            (quota, "/data/cache", true),
            (quota, "/data/cache/export", true),
            (quota, "/data/cache/export-2", false),
            (quota, "/data/tmp", false),
            (empty, "/data/cache", false),
            (None, "/data/cache", false),
        ] {
            assert_eq!(one.has_same_quota(quota, Path::new(path)), expected, "{path}");
        }
    }

    /// A zone can have two directories, one of which has a quota.
    #[test]
    fn what_is_in_another_directory_of_a_zone_does_not_count_in_a_quota() {
        let (quota, rest) = (Path::new("/data/a/x"), Path::new("/data/b"));
        let of_zone = Mounted { quota: Some(FULL), within: vec!["/data/a".into()], ..mounted() };
        assert!(of_zone.has_path(quota) && !of_zone.has_path(rest));
        let of_root = Mounted { has_quota: true, apart: vec!["/data/a".into()], ..mounted() };
        assert!(!of_root.has_path(quota) && of_root.has_path(rest));
        assert!(mounted().has_path(quota) && mounted().has_path(rest));
    }

    #[test]
    fn a_quota_that_is_full_has_no_reserve_for_root() {
        let of_zone = Mounted { quota: Some(FULL), ..mounted() };
        let of_root = Mounted { has_quota: true, ..mounted() };
        let reserved = [mounted(), of_zone, of_root].map(|it| it.reserved(&|| 7));
        assert_eq!(reserved, [7, 0, 0]);
    }
}
