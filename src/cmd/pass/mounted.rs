//! The file systems that zones are on, and how full each is.
//!
//! It must not choose an entry. One file system can have several device numbers, as btrfs has one for each
//! subvolume; and a directory with a quota of its own can be full while the rest of its file system is not.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::PressureSettings;
use crate::engine::{Limits, Outcomes};
use crate::fs::{DataRoot, file_system, reserve};
use crate::protocol::{Directory, Failure, Notes, Volume};
use crate::rules::pressure::Arrival;
use crate::rules::{Amount, Space, Zone, ZoneName};
use crate::source;

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
        Self { path, zones: Vec::new(), handle, devices: vec![device], shared, quota: None }
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

    /// What a directory on the same file system is to it. Where the system does not say, they are the same.
    fn relation(&self, directory: &OwnedFd) -> Relation {
        let ask = || Some((self.space().ok()?, Space::at(directory).ok()?, self.space().ok()?));
        ask().map_or(Relation::Same, |(before, here, after)| relation(&[before, after], here))
    }

    fn holds(&self, directory: &Directory) -> bool {
        self.devices.contains(&directory.id.dev)
            || (self.shared.is_some() && self.shared == file_system::shared(&directory.handle))
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
        let mut relation = Relation::Same;
        let of_whole = |it: &&mut Mounted| {
            it.quota.is_none() && it.is_of(device, shared) && {
                relation = it.relation(&directory.handle);
                relation != Relation::Outside
            }
        };
        let Some(whole) = self.known.iter_mut().find(of_whole) else {
            let mut mounted = Mounted::new(directory.path, directory.handle, device);
            mounted.add(&zone.name, device);
            return self.known.push(mounted);
        };
        whole.add(&zone.name, device);
        let Relation::Quota(quota) = relation else { return };
        let is_same = |it: &&mut Mounted| it.quota == Some(quota) && it.is_of(device, shared);
        if let Some(known) = self.known.iter_mut().find(is_same) {
            return known.add(&zone.name, device);
        }
        let mounted = Mounted::new(directory.path, directory.handle, device);
        let mut mounted = Mounted { quota: Some(quota), ..mounted };
        mounted.add(&zone.name, device);
        self.known.push(mounted);
    }
}

/// What a directory is to another one on the same file system. Where a quota for a project is set on a directory,
/// the system says how full that is, in place of the whole file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    /// Both are as full.
    Same,
    /// It has a quota of its own, and is so full.
    Quota(Space),
    /// The other one has a quota of its own, in which this one does not count.
    Outside,
}

/// `whole` is as full as that was before and after: on some file systems sizes change while others write, and so
/// does the number of inodes.
fn relation(whole: &[Space], here: Space) -> Relation {
    let are_all = |is: &dyn Fn(&Space) -> bool| whole.iter().all(is);
    let limit = |space: &Space| if space.inodes == 0 { u64::MAX } else { space.inodes };
    if are_all(&|whole| here.bytes < whole.bytes || limit(&here) < limit(whole)) {
        Relation::Quota(here)
    } else if are_all(&|whole| here.bytes > whole.bytes || limit(&here) > limit(whole)) {
        Relation::Outside
    } else {
        Relation::Same
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
            let reserved = reserve::missing(&self.mounted.handle, &space);
            *known.space.insert((space, reserved))
        };
        known.sum = known.sum.plus(freed);
        Ok(space.without_but(known.sum, reserved))
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

    /// As `statvfs` answers for a directory of a project with a quota (xfs, ext4), and for the root above it.
    #[test]
    fn a_directory_with_less_space_than_its_file_system_has_a_quota() {
        let space = |bytes, bytes_used| Space {
            bytes,
            bytes_used,
            bytes_available: bytes - bytes_used,
            inodes: 100,
            inodes_used: 1,
        };
        let (whole, part) = (space(1 << 30, 1 << 20), space(40 << 20, 39 << 20));
        assert_eq!(relation(&[whole; 2], part), Relation::Quota(part));
        assert_eq!(relation(&[part; 2], whole), Relation::Outside);
        // Something was written between the answers.
        assert_eq!(relation(&[whole; 2], space(1 << 30, 2 << 20)), Relation::Same);
        assert_eq!(relation(&[whole, space(1 << 20, 0)], space(1 << 21, 0)), Relation::Same);
    }

    /// The same for a limit of inodes alone, and on a file system whose number of inodes shrinks as others write.
    #[test]
    fn a_directory_with_fewer_inodes_than_its_file_system_has_a_quota() {
        let space = |inodes| Space {
            bytes: 1 << 30,
            bytes_used: 0,
            bytes_available: 1 << 30,
            inodes,
            inodes_used: 9,
        };
        let quota = Relation::Quota(space(10));
        for (before, after, here, expected) in [
            (100, 100, 10, quota),
            (0, 0, 10, quota),
            (100, 80, 90, Relation::Same),
            (10, 10, 100, Relation::Outside),
            (10, 10, 0, Relation::Outside),
            (0, 0, 0, Relation::Same),
        ] {
            let found = relation(&[space(before), space(after)], space(here));
            assert_eq!(found, expected, "{before} {after} {here}");
        }
    }
}
