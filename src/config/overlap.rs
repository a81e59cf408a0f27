//! Refuses zones of the settings file that overlap another zone, or a place that is never touched.
//!
//! This module must not look at the file system, so it knows nothing of links: what is opened is checked again.
//!
//! The directory of each zone begins the paths of all its entries. So entries of two zones can contain one
//! another only if the directory of one zone is, or lies in, the directory of the other. A zone of trees
//! leaves room beside them for directories whose names it does not recognize.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::file::fail;
use super::origin::ConfigError;
use super::user_zones::UserZone;
use super::words::Profile;
use crate::cvat::zones::{NEVER_TOUCHED, NEVER_TOUCHED_BESIDE};
use crate::rules::{EntryKind, Shape, Zone};

/// What zones may not overlap.
pub(super) struct Places<'a> {
    /// The settings file.
    pub(super) file: &'a Path,
    /// Whether CVAT's places are among them.
    pub(super) profile: Profile,
    /// Where the data root may be, as absolute paths.
    pub(super) data_roots: &'a [PathBuf],
    /// The zones of the profile.
    pub(super) profile_zones: &'a [Zone],
}

impl Places<'_> {
    /// Checks all zones of the settings file.
    ///
    /// # Errors
    /// The first that overlaps, with the line of its path.
    pub(super) fn check(&self, zones: &[UserZone]) -> Result<(), ConfigError> {
        for (at, zone) in zones.iter().enumerate() {
            let reason = self
                .why_not_near_data_root(&zone.path)
                .or_else(|| self.why_not_touched(&zone.path))
                .or_else(|| self.overlapped(&zone.path, &zones[..at]));
            if let Some(why) = reason {
                let why =
                    format!("zone {:?}: path = {:?}: {why}", zone.zone.name.as_str(), zone.path);
                return Err(fail(self.file, Some(zone.path_line), why));
            }
        }
        Ok(())
    }

    /// An absolute path is for directories outside the data root.
    fn why_not_near_data_root(&self, path: &Path) -> Option<String> {
        if !path.is_absolute() {
            return None;
        }
        self.data_roots.iter().find_map(|root| match path.strip_prefix(root) {
            Ok(rest) if !rest.as_os_str().is_empty() => {
                Some(format!("this is below the data root {root:?}: write {rest:?}"))
            }
            _ => root.starts_with(path).then(|| format!("it contains the data root {root:?}")),
        })
    }

    fn why_not_touched(&self, path: &Path) -> Option<String> {
        if self.profile == Profile::None {
            return None;
        }
        let below = NEVER_TOUCHED.map(PathBuf::from).into_iter();
        let beside = self.data_roots.iter().filter_map(|root| root.parent());
        let beside = beside.flat_map(|parent| NEVER_TOUCHED_BESIDE.map(|name| parent.join(name)));
        let place = below.chain(beside).find(|place| self.meet(path, place))?;
        Some(format!("it overlaps {place:?}, which holds what CVAT needs"))
    }

    fn overlapped(&self, path: &Path, earlier: &[UserZone]) -> Option<String> {
        let zones = self.profile_zones.iter().chain(earlier.iter().map(|zone| &zone.zone));
        let mut roots =
            zones.flat_map(|zone| zone.location.roots.iter().map(move |root| (zone, root)));
        let (zone, root) =
            roots.find(|(zone, root)| self.meet(path, root) && !is_beside(path, root, zone))?;
        Some(format!("it overlaps {root:?} of zone {:?}", zone.name.as_str()))
    }

    /// Whether one path is the other or lies in it.
    fn meet(&self, one: &Path, other: &Path) -> bool {
        let nested = |one: &Path, other: &Path| one.starts_with(other) || other.starts_with(one);
        match (one.is_absolute(), other.is_absolute()) {
            (true, false) => self.data_roots.iter().any(|root| nested(one, &root.join(other))),
            (false, true) => self.data_roots.iter().any(|root| nested(&root.join(one), other)),
            (true, true) | (false, false) => nested(one, other),
        }
    }
}

/// Whether `path` is, or lies in, a directory in `root` that is none of the trees of that zone.
fn is_beside(path: &Path, root: &Path, zone: &Zone) -> bool {
    let below = path.strip_prefix(root).ok().and_then(|rest| rest.components().next());
    zone.entry == EntryKind::Tree
        && zone.location.shape == Shape::Flat
        && below.is_some_and(|name| zone.names.class_of(name.as_os_str().as_bytes()).is_none())
}
