//! Which zones there are, and which of them to sweep.
//!
//! This module must not make rules of its own: the profile's zones come from `cvat`, the others from the settings
//! file.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::closest::{closest, hint};
use super::file::{FileSettings, Place, fail};
use super::origin::{ConfigError, EffectiveSetting, Origin};
use super::overlap::Places;
use super::user_zones::{UserZone, directory};
use super::values::Values;
use super::words::Profile;
use crate::clearml::ledger;
use crate::cvat;
use crate::cvat::zones::{self, ExportTtls, Sweep, ZoneSettings};
use crate::rules::{Exclude, LastUse, Shape, Ttl, Zone, ZoneName};

/// The zones of a command.
#[derive(Debug)]
pub(super) struct Zones {
    /// Those to sweep, in their order.
    pub(super) swept: Vec<Arc<Zone>>,
    /// The old export caches.
    pub(super) legacy: Option<Arc<Zone>>,
    /// Those that can be swept on request.
    pub(super) known: Vec<Arc<Zone>>,
    /// Where the path of each of those of the settings file is written.
    pub(super) paths: Vec<(ZoneName, Origin)>,
    /// Those of the settings file, as they are shown.
    pub(super) shown: Vec<EffectiveSetting>,
    /// Where zones of the profile are, if not below the data root.
    pub(super) places: Vec<(ZoneName, PathBuf)>,
}

impl Zones {
    pub(super) fn resolve(
        values: &mut Values<'_>,
        file: &FileSettings,
        data_roots: &[PathBuf],
    ) -> Result<Self, ConfigError> {
        let of_profile = zones_of_profile(values)?;
        let (own_command, of_runs): (Vec<_>, Vec<_>) =
            of_profile.into_iter().partition(|(_, sweep)| *sweep == Sweep::OwnCommand);
        let legacy = own_command.into_iter().next().map(|(zone, _)| zone);
        let on_request = of_runs.iter().filter(|(_, sweep)| *sweep == Sweep::OnRequest);
        let on_request: Vec<ZoneName> = on_request.map(|(zone, _)| zone.name.clone()).collect();
        let profile_zones: Vec<Zone> = of_runs.into_iter().map(|(zone, _)| zone).collect();
        let user_zones = user_zones(values, file, data_roots, &profile_zones, legacy.as_ref())?;
        let (mut shown, mut paths, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for zone in &user_zones {
            shown.push(zone.shown.clone());
            paths.push((zone.zone.name.clone(), zone.path_origin()));
        }
        for (name, path, origin) in placed(values, file, &profile_zones)? {
            let (key, value) = (format!("zones.{name}"), path.to_string_lossy().into_owned());
            shown.push(EffectiveSetting { key, value, items: None, origin: origin.clone() });
            paths.push((name.clone(), origin));
            places.push((name, path));
        }
        let of_user = user_zones.into_iter().map(|zone| zone.zone);
        let known: Vec<Arc<Zone>> =
            profile_zones.into_iter().chain(of_user).map(Arc::new).collect();
        let swept = select(values, &known, &on_request)?;
        let names = swept.iter().map(|zone| zone.name.to_string()).collect();
        values.show_list("zones", names, values.origin("zones"));
        Ok(Self { swept, legacy: legacy.map(Arc::new), known, paths, shown, places })
    }

    /// Every zone, in the order in which a path is looked up: those to sweep come first, and the old
    /// export caches before temporary entries that are not swept, since some of them lie among these.
    pub(super) fn all(&self) -> Vec<Arc<Zone>> {
        let is_swept = |zone: &&Arc<Zone>| self.swept.iter().any(|swept| swept.name == zone.name);
        let rest = self.known.iter().filter(|zone| !is_swept(zone));
        self.swept.iter().chain(&self.legacy).chain(rest).cloned().collect()
    }

    /// The zone that `word` means among those that can be swept.
    ///
    /// # Errors
    /// There is none, with the closest.
    pub(super) fn find(
        values: &Values<'_>,
        known: &[Arc<Zone>],
        word: &str,
    ) -> Result<Arc<Zone>, String> {
        let is_cvat = values.profile == Profile::Cvat;
        let name = if is_cvat { cvat::zone_of_job(word) } else { word };
        if let Some(zone) = known.iter().find(|zone| zone.name.as_str() == name) {
            return Ok(Arc::clone(zone));
        }
        if is_cvat && name == zones::LEGACY {
            return Err("old export caches are removed only by `sweeper legacy`".to_owned());
        }
        if [ledger::TASKS, ledger::FILES, ledger::ORPHANS].contains(&word) {
            let why =
                format!("{word:?} is not below a data root: `sweeper clearml run` cleans it up");
            return Err(why);
        }
        let names: Vec<&str> = known.iter().map(|zone| zone.name.as_str()).collect();
        let hint = hint(name, names.iter().copied(), ".");
        let all = names.join(", ");
        if word.is_empty() {
            return Err(format!("a name is missing in the list. There are: {all}"));
        }
        Err(format!("there is no zone {word:?}{hint} There are: {all}"))
    }
}

/// The zones of the profile, and when each is swept.
fn zones_of_profile(values: &mut Values<'_>) -> Result<Vec<(Zone, Sweep)>, ConfigError> {
    // Also without CVAT, so that a wrong value is refused.
    let ttls = ExportTtls {
        project: values.ttl_of_class("ttl_project")?,
        task: values.ttl_of_class("ttl_task")?,
        job: values.ttl_of_class("ttl_job")?,
        events: values.ttl_of_class("ttl_events")?,
    };
    let retention = values.ttl("retention")?;
    let last_use = match values.choice("tmp_age")? {
        "entry" => LastUse::Entry,
        "write" => LastUse::Mtime,
        _ => LastUse::Tree,
    };
    let older_than = values.optional_duration("older_than")?.map(Ttl::from_duration);
    Ok(match values.profile {
        Profile::None => Vec::new(),
        Profile::Cvat => zones::all(&ZoneSettings { ttls, retention, last_use, older_than }),
    })
}

/// The zones of the profile whose directory is elsewhere: which, where, and the line that says so.
fn placed(
    values: &Values<'_>,
    file: &FileSettings,
    zones: &[Zone],
) -> Result<Vec<(ZoneName, PathBuf, Origin)>, ConfigError> {
    let Some(path) = values.raw.file.as_ref().map(|file| &file.path) else { return Ok(Vec::new()) };
    let read = |place: &Place| {
        let Place { zone: name, line, path: text } = place;
        let wrong = |why: String| fail(path, Some(*line), format!("zones.{name}: {why}"));
        let Some(zone) = zones.iter().find(|zone| zone.name.as_str() == name) else {
            let closest = closest(name, zones.iter().map(|zone| zone.name.as_str()));
            let hint = closest.map(|it| format!("; did you mean zones.{it}?")).unwrap_or_default();
            let why = "there is no such zone with a place of its own; a [[zone]] has its own path";
            return Err(wrong(format!("{why}{hint}")));
        };
        if zone.location.roots.len() != 1 || zone.location.shape != Shape::Flat {
            return Err(wrong("this zone has several directories, below the data root".to_owned()));
        }
        let directory = directory(text).map_err(|why| wrong(format!("path = {text:?}: {why}")))?;
        if !directory.is_absolute() {
            return Err(wrong(format!("path = {text:?}: write an absolute path")));
        }
        Ok((zone.name.clone(), directory, Origin::File { path: path.clone(), line: *line }))
    };
    file.places.iter().map(read).collect()
}

/// The zones of the settings file.
fn user_zones(
    values: &Values<'_>,
    file: &FileSettings,
    data_roots: &[PathBuf],
    profile_zones: &[Zone],
    legacy: Option<&Zone>,
) -> Result<Vec<UserZone>, ConfigError> {
    let Some(path) = values.raw.file.as_ref().map(|file| &file.path) else { return Ok(Vec::new()) };
    let mut zones: Vec<UserZone> = Vec::new();
    for table in &file.zones {
        let zone = UserZone::read(path, table)?;
        let name = &zone.zone.name;
        let others = profile_zones.iter().chain(legacy).chain(zones.iter().map(|zone| &zone.zone));
        let is_job =
            values.profile == Profile::Cvat && cvat::zone_of_job(name.as_str()) != name.as_str();
        if is_job || others.into_iter().any(|other| other.name == *name) {
            let why = format!("zone {:?}: there is already a zone with this name", name.as_str());
            return Err(fail(path, Some(zone.name_line), why));
        }
        zones.push(zone);
    }
    let (file, profile) = (path, values.profile);
    Places { file, profile, data_roots, profile_zones }.check(&zones)?;
    Ok(zones)
}

/// The zones to sweep: those that were asked for, or else all but those that are swept on request.
fn select(
    values: &Values<'_>,
    known: &[Arc<Zone>],
    on_request: &[ZoneName],
) -> Result<Vec<Arc<Zone>>, ConfigError> {
    if known.is_empty() {
        let why = "there are no zones: add a [[zone]] to the settings file";
        return Err(values.wrong("profile", why));
    }
    if values.origin("zones") == Origin::Default {
        let is_default = |zone: &&Arc<Zone>| !on_request.contains(&zone.name);
        return Ok(known.iter().filter(is_default).cloned().collect());
    }
    let mut asked: Vec<Arc<Zone>> = Vec::new();
    for word in values.texts("zones") {
        let wrong = |why| values.wrong_text("zones", word, why);
        let zone = Zones::find(values, known, word).map_err(wrong)?;
        if asked.iter().any(|other| other.name == zone.name) {
            return Err(wrong(format!("zone {:?} is given twice", zone.name.as_str())));
        }
        asked.push(zone);
    }
    if asked.is_empty() {
        return Err(values.wrong("zones", "no zone is given"));
    }
    let is_asked = |zone: &&Arc<Zone>| asked.iter().any(|other| other.name == zone.name);
    Ok(known.iter().filter(is_asked).cloned().collect())
}

/// What the user asked to keep. A glob with a path must fit an entry of some zone, swept or not.
pub(super) fn exclude(values: &Values<'_>, all: &[Arc<Zone>]) -> Result<Exclude, ConfigError> {
    let zones: Vec<&Zone> = all.iter().map(|zone| &**zone).collect();
    let globs = values.texts("exclude");
    Exclude::new(globs, &zones).map_err(|why| {
        // The first glob that is wrong by itself.
        let is_wrong = |glob: &&String| Exclude::new(std::slice::from_ref(*glob), &zones).is_err();
        let glob = globs.iter().find(is_wrong).map_or("", String::as_str);
        values.wrong_text("exclude", glob, why)
    })
}

/// A path as an absolute one, as far as its text says.
pub(super) fn absolute(directory: &Path, path: &Path) -> PathBuf {
    let mut absolute = PathBuf::new();
    for component in directory.join(path).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                absolute.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => {
                absolute.push(component);
            }
        }
    }
    absolute
}
