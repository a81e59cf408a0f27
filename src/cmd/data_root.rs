//! Opens the data root, and the directories elsewhere that zones name, as the settings say.
//!
//! This module must not look at an entry.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Refusal, needed};
use crate::config::{self, Config, Origin};
use crate::cvat;
use crate::fs::{DataRoot, Forbidden, RootError};
use crate::rules::{Zone, ZoneName};

/// Opens the data root, and the directories outside of it that `zones` name.
///
/// # Errors
/// One of them cannot be used.
pub(super) fn open_root(config: &Config, zones: &[Arc<Zone>]) -> Result<DataRoot, Refusal> {
    let forbidden = forbidden(config);
    let mut root = match config.data.clone()? {
        config::DataRoot::Named(path) => DataRoot::open(&path, config.marks, &forbidden),
        config::DataRoot::AnyOf(paths) => DataRoot::find(&paths, config.marks, &forbidden),
    }
    .map_err(|why| refused_root(config, why))?;
    warn_of_base(config, root.path());
    for zone in zones {
        let roots = zone.location.roots.iter().filter(|root| root.is_absolute());
        let outside: Vec<PathBuf> = roots.cloned().collect();
        root = root
            .with_outside(&outside, &forbidden)
            .map_err(|why| refused_zone(config, &zone.name, why))?;
        if let (Some(place), [inside]) = (config.place_of(&zone.name), &*zone.location.roots) {
            root = root
                .with_place(inside, place, &forbidden)
                .map_err(|why| refused_zone(config, &zone.name, why))?;
        }
        refuse_needed(config, root.path(), zone)?;
    }
    Ok(root)
}

/// Warns if CVAT's variable names a place that is not the data root that was found.
fn warn_of_base(config: &Config, found: &Path) {
    let variable = cvat::variables::BASE_DIR;
    let of_variable = Origin::Env(variable.to_owned());
    let is_set = config.setting("data").is_some_and(|row| row.origin == of_variable);
    let Ok(config::DataRoot::AnyOf(paths)) = &config.data else { return };
    let (Some(first), true) = (paths.first(), is_set) else { return };
    if absolute(first).components().eq(found.components()) {
        return;
    }
    let base = first.parent().unwrap_or(first);
    let is = if first.is_dir() { "is not a data root" } else { "does not exist" };
    let used = paths.iter().find(|path| absolute(path).components().eq(found.components()));
    let used = used.map_or(found, PathBuf::as_path);
    tracing::warn!(
        "{variable} = {base:?}: {first:?} {is}, so {used:?} is used; name the data root with --data"
    );
}

/// What is never swept.
pub(super) fn forbidden(config: &Config) -> Forbidden {
    Forbidden {
        homes: config.homes.clone(),
        program: config.program.clone(),
        unknown: config.unknown.clone(),
    }
}

/// Refuses the data root that is named, and the directory of a zone elsewhere, if it is one that is never swept. One
/// that is not there passes.
///
/// # Errors
/// The first that is refused.
pub(super) fn refuse_forbidden(config: &Config) -> Result<(), Refusal> {
    let forbidden = forbidden(config);
    let check = |path: &Path| match DataRoot::open(path, &[], &forbidden) {
        Err(error @ RootError::Refused { .. }) => Err(error),
        _ => Ok(()),
    };
    if let Ok(config::DataRoot::Named(path)) = &config.data {
        check(path).map_err(|why| refused_root(config, why))?;
    }
    for zone in &config.all_zones {
        let roots = zone.location.roots.iter().map(PathBuf::as_path);
        let outside = roots.filter(|root| root.is_absolute()).chain(config.place_of(&zone.name));
        for path in outside {
            check(path).map_err(|why| refused_zone(config, &zone.name, why))?;
        }
        if let Ok(config::DataRoot::Named(path)) = &config.data {
            refuse_needed(config, path, zone)?;
        }
    }
    Ok(())
}

/// Refuses a zone where a CVAT keeps what it needs.
fn refuse_needed(config: &Config, root: &Path, zone: &Zone) -> Result<(), Refusal> {
    let checked = needed::refuse(config, root, zone);
    checked.map_err(|why| refused_zone(config, &zone.name, why))
}

/// A path as an absolute one; as it is if the working directory is gone.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Why the data root cannot be used, and where it is named.
pub(super) fn refused_root(config: &Config, why: RootError) -> Refusal {
    let is_named = matches!(config.data, Ok(config::DataRoot::Named(_)));
    let row = config.setting("data").filter(|_| is_named);
    let at = row.map(|row| row.origin.clone()).filter(|at| !at.is_flag());
    Refusal::Root { at, why }
}

fn refused_zone(config: &Config, name: &ZoneName, why: RootError) -> Refusal {
    let at = config.zone_paths.iter().find(|(zone, _)| zone == name).map(|(_, at)| at.clone());
    Refusal::Zone { at, name: name.to_string(), why }
}
