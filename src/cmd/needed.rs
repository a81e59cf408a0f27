//! Refuses a zone of the settings file in a data root of CVAT, where CVAT keeps what it cannot make again.
//!
//! This module must not let a directory pass that it could not compare: an error means no, unless this user cannot
//! reach the directory. The settings alone do not show this: with profile none the data root of CVAT is not named, and
//! an absolute path may lie in that of another CVAT.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::{Config, Profile};
use crate::cvat::zones::NEVER_TOUCHED;
use crate::cvat::{MARKS, MEDIA, is_data_root};
use crate::fs::RootError;
use crate::fs::error::is_missing;
use crate::fs::other_paths;
use crate::rules::Zone;

/// Looks at the directories of `zone` if the settings file says where they are: they are at `place`, if that is given.
/// The directories of other zones are CVAT's own.
///
/// # Errors
/// One of them is, contains or is in one that CVAT needs.
pub(super) fn refuse(
    config: &Config,
    root: &Path,
    zone: &Zone,
    place: Option<&Path>,
) -> Result<(), RootError> {
    if !config.zone_paths.iter().any(|(name, _)| *name == zone.name) {
        return Ok(());
    }
    let place = place.map(|place| vec![place.to_owned()]);
    let of_others = || config.all_zones.iter().filter(|other| other.name != zone.name);
    for path in place.unwrap_or_else(|| zone.location.roots.clone()) {
        let path = root.join(path);
        let unexamined = |error| RootError::Unexamined { path: path.clone(), error };
        let real = match path.canonicalize() {
            // There is nothing to sweep, or this user cannot reach it.
            Err(error) if is_missing(&error) || is_denied(&error) => continue,
            real => real.map_err(unexamined)?,
        };
        // A mount shows a directory at another path.
        let mut reals = other_paths::of(&real).map_err(unexamined)?;
        let others = reals.clone();
        reals.push(real);
        for real in &reals {
            if let Some((of, needed)) = needed_in(real).map_err(unexamined)? {
                let too =
                    if config.profile == Profile::None { ", also with profile none" } else { "" };
                let why = format!(
                    "{of:?} is a data root of CVAT, and {needed:?} in it holds what CVAT needs{too}"
                );
                return Err(RootError::Refused { path, why });
            }
        }
        let roots = of_others().flat_map(|it| it.location.roots.iter().map(|at| (&it.name, at)));
        for (name, inside) in roots.filter(|_| !others.is_empty()) {
            let there = match root.join(inside).canonicalize() {
                Err(error) if is_missing(&error) || is_denied(&error) => continue,
                there => there.map_err(unexamined)?,
            };
            if others.iter().any(|it| it.starts_with(&there) || there.starts_with(it)) {
                let why = format!("a mount shows a directory of zone {:?} there", name.as_str());
                return Err(RootError::Refused { path, why });
            }
        }
    }
    Ok(())
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

fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}
