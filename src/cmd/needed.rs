//! Refuses a zone of the settings file in a data root of CVAT, where CVAT keeps what it cannot make again.
//!
//! This module must not let a directory pass that it could not compare: an error means no, unless this user cannot
//! reach the directory. The settings alone do not show this: with profile none the data root of CVAT is not named, and
//! an absolute path may lie in that of another CVAT.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::{Config, Profile};
use crate::cvat::zones::{NEVER_TOUCHED, NEVER_TOUCHED_BESIDE};
use crate::cvat::{MARKS, MEDIA, is_data_root};
use crate::fs::RootError;
use crate::fs::error::is_missing;
use crate::fs::places::{self, Mounts, Place};
use crate::rules::Zone;
use crate::units;

/// Looks at the directories of `zone` if the settings file says where they are. The directories of other zones are
/// CVAT's own.
///
/// # Errors
/// One of them is, contains or is in one that may not be swept with it.
pub(super) fn refuse(config: &Config, root: &Path, zone: &Zone) -> Result<(), RootError> {
    if !config.zone_paths.iter().any(|(name, _)| *name == zone.name) {
        return Ok(());
    }
    let root = std::path::absolute(root)
        .map_err(|error| RootError::Unexamined { path: root.to_owned(), error })?;
    let mounts = Mounts::read();
    let place = config.place_of(&zone.name).map(|place| vec![place.to_owned()]);
    for path in place.unwrap_or_else(|| zone.location.roots.clone()) {
        let path = root.join(path);
        let mounts = match &mounts {
            Ok(mounts) => mounts,
            Err(error) => {
                let (list, error) = (places::LIST, units::error(error));
                let why = format!(
                    "a mount may show it elsewhere, and {list:?} cannot be read ({error}): mount /proc"
                );
                return Err(RootError::Refused { path, why });
            }
        };
        match (Around { config, root: &root, zone, mounts }).why_not(&path) {
            Ok(None) => {}
            Ok(Some(why)) => return Err(RootError::Refused { path, why }),
            Err(error) => return Err(RootError::Unexamined { path, error }),
        }
    }
    Ok(())
}

/// What a zone of the settings file is compared with.
struct Around<'a> {
    config: &'a Config,
    root: &'a Path,
    zone: &'a Zone,
    mounts: &'a Mounts,
}

/// A directory of the zone.
struct Directory<'a> {
    /// As it is written, but absolute.
    path: &'a Path,
    /// Without links.
    real: PathBuf,
    /// Where that is on its file system. A pass crosses no mount below it.
    at: Place,
}

impl Around<'_> {
    /// Why the zone may not be at this path, if so.
    fn why_not(&self, path: &Path) -> io::Result<Option<String>> {
        // There is nothing to sweep, or this user cannot reach it.
        let Some(real) = without_links(path)? else { return Ok(None) };
        let Some(at) = self.mounts.place_of(&real)? else { return Ok(None) };
        let swept = Directory { path, real, at };
        let Some(root) = without_links(self.root)? else { return Ok(None) };
        let checks =
            [Self::with_data_root, Self::with_any_cvat, Self::with_needed, Self::with_other_zones];
        for check in checks {
            if let Some(why) = check(self, &swept, &root)? {
                return Ok(Some(why));
            }
        }
        Ok(None)
    }

    /// A path below the data root is relative, and none leads to the data root or above it.
    fn with_data_root(&self, swept: &Directory<'_>, root: &Path) -> io::Result<Option<String>> {
        // What takes the place of a directory below the data root may be that very directory.
        let placed = self.config.place_of(&self.zone.name).is_some();
        let own: Vec<PathBuf> =
            self.zone.location.roots.iter().map(|inside| root.join(inside)).collect();
        let is_own = |shown: &Path| placed && own.iter().any(|own| shown == own);
        let is_below = swept.real.starts_with(root);
        for (shown, there) in self.mounts.within(root)? {
            let is_root = shown == root;
            if is_own(&shown) || (is_below && !is_root) {
                continue;
            }
            if swept.at.has(&there) {
                let what = if is_root {
                    "it contains the data root, by a link or a mount".to_owned()
                } else {
                    format!("it contains what a mount shows at {shown:?}, below the data root")
                };
                return Ok(Some(what));
            }
            let below = there.path_to(&swept.at).filter(|_| !is_below).map(|rest| shown.join(rest));
            if let Some(below) = below.filter(|below| !is_own(below)) {
                let why = format!("a mount shows it at {below:?}, which is below the data root");
                return Ok(Some(why));
            }
        }
        Ok(None)
    }

    /// Nothing that CVAT needs is in it, whatever link or mount leads there.
    fn with_needed(&self, swept: &Directory<'_>, root: &Path) -> io::Result<Option<String>> {
        let is_cvat = self.config.profile == Profile::Cvat;
        let mut needed = Vec::new();
        if is_cvat || is_data_root(&marks_of(root)?) {
            needed.extend(NEVER_TOUCHED.map(|name| self.root.join(name)));
        }
        if let Some(parent) = self.root.parent().filter(|_| is_cvat) {
            // A link there leads to a share, which may be on a server that does not answer.
            let beside = NEVER_TOUCHED_BESIDE.map(|name| parent.join(name));
            needed.extend(beside.into_iter().filter(|path| !path.is_symlink()));
        }
        for path in needed {
            let Some(there) = without_links(&path)? else { continue };
            let parts = self.mounts.within(&there)?;
            if parts.iter().any(|(_, part)| part.overlaps(&swept.at)) {
                let why = format!("it overlaps {path:?}, which holds what CVAT needs");
                return Ok(Some(why));
            }
        }
        Ok(None)
    }

    /// No entry belongs to two zones, also if only one of them is swept now. What the paths alone say was judged with
    /// the settings.
    fn with_other_zones(&self, swept: &Directory<'_>, _: &Path) -> io::Result<Option<String>> {
        for other in self.config.all_zones.iter().filter(|other| other.name != self.zone.name) {
            let place = self.config.place_of(&other.name);
            let roots = other.location.roots.iter().map(PathBuf::as_path);
            for path in place.into_iter().chain(roots) {
                let path = self.root.join(path);
                let Some(there) = without_links(&path)? else { continue };
                let written = between(swept.path, &path);
                let is_judged = written.is_some() && written == between(&swept.real, &there);
                let parts = self.mounts.within(&there)?;
                let overlaps = |(shown, at): &(PathBuf, Place)| {
                    // A mount on a directory of the zone itself is no second path.
                    let is_same = *shown == there || shown.starts_with(&swept.real);
                    at.overlaps(&swept.at) && !(is_judged && is_same)
                };
                if parts.iter().any(overlaps) {
                    let name = other.name.as_str();
                    let why =
                        format!("it overlaps {path:?} of zone {name:?}, by a link or a mount");
                    return Ok(Some(why));
                }
            }
        }
        Ok(None)
    }

    /// It may lie in the data root of another CVAT, or in one that the settings do not name as such.
    fn with_any_cvat(&self, swept: &Directory<'_>, _: &Path) -> io::Result<Option<String>> {
        let mut paths = self.mounts.other_paths(&swept.real)?;
        paths.push(swept.real.clone());
        for path in &paths {
            if let Some((of, needed)) = needed_in(path)? {
                let too = match self.config.profile {
                    Profile::None => ", also with profile none",
                    Profile::Cvat => "",
                };
                return Ok(Some(format!(
                    "{of:?} is a data root of CVAT, and {needed:?} in it holds what CVAT needs{too}"
                )));
            }
        }
        Ok(None)
    }
}

/// A path without links; `None` if nothing is there, this user cannot reach it, or its server is gone: then nothing can be
/// removed there.
fn without_links(path: &Path) -> io::Result<Option<PathBuf>> {
    match path.canonicalize() {
        Err(error) if is_missing(&error) || is_denied(&error) || is_unreachable(&error) => Ok(None),
        real => real.map(Some),
    }
}

/// How one path leads from the other, if one is the other or lies in it.
fn between<'a>(one: &'a Path, other: &'a Path) -> Option<&'a Path> {
    one.strip_prefix(other).or_else(|_| other.strip_prefix(one)).ok()
}

/// The data root of CVAT that `path` is or lies in, and what there must not be swept, if `path` overlaps that.
fn needed_in(path: &Path) -> io::Result<Option<(PathBuf, &'static str)>> {
    for above in path.ancestors() {
        let Ok(inside) = path.strip_prefix(above) else { continue };
        let overlaps =
            |needed: &&str| inside.starts_with(needed) || Path::new(needed).starts_with(inside);
        let Some(needed) = NEVER_TOUCHED.into_iter().find(overlaps) else { continue };
        if is_data_root(&marks_of(above)?) {
            return Ok(Some((above.to_owned(), needed)));
        }
    }
    Ok(None)
}

/// Which marks of a data root a directory has.
fn marks_of(directory: &Path) -> io::Result<Vec<&'static str>> {
    let mut found = Vec::new();
    for mark in MARKS.into_iter().chain([MEDIA]) {
        match directory.join(mark).metadata() {
            Ok(it) if it.is_dir() => found.push(mark),
            Ok(_) => {}
            Err(error) if is_missing(&error) => {}
            // It may be there, in a directory that this user may not enter.
            Err(error) if is_denied(&error) && mark.contains('/') => found.push(mark),
            // This user may not enter the directory itself, and so removes nothing in it.
            Err(error) if is_denied(&error) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn is_unreachable(error: &io::Error) -> bool {
    use io::ErrorKind::{HostUnreachable, NotConnected, StaleNetworkFileHandle, TimedOut};
    let kinds = [HostUnreachable, NotConnected, StaleNetworkFileHandle, TimedOut];
    kinds.contains(&error.kind())
}

fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}
