//! Walks over a data root, and over the zones outside of it, and makes a [`Usage`] of what was counted.
//!
//! This module must not start threads: the caller gives each directory of [`Measurement::tops`] to
//! [`Measurement::walk`], in any order and at the same time if it likes. Memory grows with the depth of the
//! tree, the number of owners of exports, and the number of files that have several names.

use std::collections::HashMap;
use std::ffi::CString;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use super::links::Links;
use super::model::{
    AreaUsage, Forecast, KindUsage, LISTED_OWNERS, OwnerUsage, RemovedBy, Totals, Unreached,
    UnreachedUsage, Usage,
};
use super::places::Places;
use super::shared::{Progress, Shared};
use super::tally::{Tally, add_each, total_by_age};
use super::uploads::Uploads;
use super::visitor::Visitor;
use crate::control::Control;
use crate::fs::walk::{self, Break, WalkContext};
use crate::fs::{DataRoot, RootError, Space, file_system};
use crate::protocol::{Notes, StopReason};
use crate::rules::{Area, Exclude, FileId, Labels, Moment, Shape, Zone};

/// What is measured, and by which rules.
pub struct Subject<'a> {
    /// The data root, with the directories outside of it that zones name.
    pub root: &'a DataRoot,
    /// Every zone, in the order in which a path is looked up.
    pub zones: &'a [Arc<Zone>],
    /// The other areas.
    pub areas: &'static [Area],
    /// What names say about entries.
    pub labels: Labels,
    /// What the user asked to keep.
    pub exclude: &'a Exclude,
    /// The moment to judge at.
    pub now: Moment,
    /// The command that removes what has expired in a zone.
    pub removed_by: &'a (dyn Fn(&Zone) -> RemovedBy + Sync),
}

/// A measurement, while it is made.
pub struct Measurement<'a> {
    subject: &'a Subject<'a>,
    inodes: AtomicU64,
    bytes: AtomicU64,
    tell: &'a (dyn Fn(u64, u64) + Sync),
    sum: Mutex<Tally>,
}

/// A directory that is walked with all that is below it.
pub struct Top<'a> {
    /// Its path as rules know it, outside the data root or in place of a directory there; `None` for the data root
    /// itself.
    outside: Option<&'a Path>,
    /// Where it is.
    path: PathBuf,
    handle: OwnedFd,
    id: FileId,
    mount: u64,
}

/// The directories of zones below the data root that are or lie behind links, which are not followed: one note for each
/// link. Only a zone with one directory can have another place, and zones behind the same link would overlap there.
fn links(subject: &Subject<'_>) -> Vec<String> {
    let Subject { root, zones, .. } = subject;
    let mut links: Vec<(PathBuf, Vec<&Zone>)> = Vec::new();
    for zone in *zones {
        let roots = zone.location.roots.iter();
        for at in roots.filter(|at| at.is_relative() && root.place_of(at).is_none()) {
            let steps = at.ancestors().filter(|step| !step.as_os_str().is_empty());
            for path in steps.map(|step| root.path().join(step)).filter(|path| path.is_symlink()) {
                match links.iter_mut().find(|(link, _)| *link == path) {
                    Some((_, zones)) => zones.push(zone),
                    None => links.push((path, vec![zone])),
                }
            }
        }
    }
    let note = |(path, zones): (PathBuf, Vec<&Zone>)| {
        let advice = match &zones[..] {
            [zone] if zone.location.roots.len() == 1 && zone.location.shape == Shape::Flat => {
                format!("; name the real directory as the path of zone {}", zone.name)
            }
            _ => String::new(),
        };
        format!(
            "{path:?} is a link, and links are not followed: what it leads to is not counted{advice}"
        )
    };
    links.into_iter().map(note).collect()
}

/// The name of the area of everything else.
const REST: &str = "other";

impl<'a> Measurement<'a> {
    /// Measures `subject`. The numbers of inodes and bytes so far are given to `tell` now and then.
    pub fn new(subject: &'a Subject<'a>, tell: &'a (dyn Fn(u64, u64) + Sync)) -> Self {
        let sum = Mutex::new(Tally::new(subject.zones.len() + subject.areas.len() + 1));
        Self { subject, inodes: AtomicU64::new(0), bytes: AtomicU64::new(0), tell, sum }
    }

    /// The directories to walk.
    ///
    /// # Errors
    /// One of them cannot be opened.
    pub fn tops(&self) -> Result<Vec<Top<'a>>, RootError> {
        let Subject { root, zones, .. } = *self.subject;
        let path = root.path().to_owned();
        let unopened = |path: &Path| {
            let path = path.to_owned();
            |error| RootError::Unopened { path, error }
        };
        let handle = root.reopen().map_err(unopened(&path))?;
        let mut tops =
            vec![Top { outside: None, path, handle, id: root.id(), mount: root.mount() }];
        let roots = zones.iter().flat_map(|zone| &zone.location.roots);
        for inside in roots {
            let path = root.place_of(inside).unwrap_or(inside);
            let Some(outside) = root.outside(path) else { continue };
            let handle = outside.handle.try_clone().map_err(unopened(path))?;
            let (id, mount) = (outside.id, outside.mount);
            tops.push(Top { outside: Some(inside), path: path.to_owned(), handle, id, mount });
        }
        Ok(tops)
    }

    /// Walks over all that is below one of [`Self::tops`].
    pub fn walk<C: Control>(&self, top: &Top<'_>, control: &C) {
        let Subject { root, zones, areas, labels, exclude, now, .. } = self.subject;
        let base = top.outside.unwrap_or(Path::new(""));
        let shared = Shared {
            places: Places::new(zones, areas, top.outside, is_elsewhere(root)),
            zones,
            labels,
            exclude,
            now: *now,
            mount: top.mount,
            base: base.into(),
            links: Links::default(),
            uploads: Uploads::default(),
            progress: Progress { inodes: &self.inodes, bytes: &self.bytes, tell: self.tell },
        };
        let mut visitor = Visitor::new(&shared, zones.len() + areas.len() + 1);
        // The path is that of the top, so nothing is put before its name.
        let name = CString::new(top.path.as_os_str().as_bytes()).unwrap_or_default();
        let tree = WalkContext {
            control,
            parent: top.handle.as_fd(),
            parent_id: top.id,
            path: Path::new(""),
            name: &name,
            mount: top.mount,
            file_system: file_system::of(&top.handle),
        };
        let flow = walk::walk(&tree, top.handle.as_fd(), top.id, &mut visitor);
        let mut tally = visitor.tally;
        if let ControlFlow::Break(Break::Failed(error)) = flow {
            tally.failure(error);
        }
        let (linked, has_more) = shared.links.into_files();
        linked.for_each(|file| tally.linked(&file));
        tally.has_more_links |= has_more;
        let (given_up, has_more) = shared.uploads.given_up(*now, |area| area < zones.len());
        tally.given_up.extend(given_up);
        tally.has_more_uploads |= has_more;
        self.sum.lock().unwrap_or_else(PoisonError::into_inner).add(tally);
    }

    /// The result. `stopped` says why the walks ended early, if they did.
    pub fn into_usage(self, stopped: Option<StopReason>) -> Usage {
        let Subject { root, now, .. } = *self.subject;
        let tally = self.sum.into_inner().unwrap_or_else(PoisonError::into_inner);
        let areas = areas(self.subject, &tally);
        let below = || areas.iter().filter(|area| !area.is_outside);
        let totals = below().fold(Totals::default(), |sum, area| Totals {
            inodes: sum.inodes + area.totals.inodes,
            allocated: sum.allocated + area.totals.allocated,
        });
        let mut forecast = Forecast::default();
        let of_runs = areas.iter().filter(|area| matches!(area.removed_by, RemovedBy::Run(_)));
        of_runs.for_each(|area| add_each(&mut forecast, area.forecast));
        let mut notes = links(self.subject);
        if tally.moves_atime {
            notes.push(Notes::MOVES_ATIME.to_owned());
        }
        if tally.has_more_owners {
            notes.push(Usage::MORE_OWNERS.to_owned());
        }
        if tally.has_more_uploads {
            notes.push(Usage::MORE_UPLOADS.to_owned());
        }
        if tally.has_more_links {
            notes.push(Usage::MORE_LINKS.to_owned());
        }
        Usage {
            data_root: root.path().to_owned(),
            now,
            space: Space::of(root.path()).ok(),
            by_age: total_by_age(below().map(|area| &area.by_age)),
            totals,
            forecast,
            kinds: kinds(&tally),
            owners: owners(&tally),
            unreached: unreached(self.subject, &tally, &areas),
            areas,
            failed: tally.failed,
            failures: tally.failures,
            mount_points: tally.mount_points,
            mounts: tally.mounts,
            notes,
            stopped,
        }
    }
}

/// Whether the directory that a zone names is not below the data root.
fn is_elsewhere(root: &DataRoot) -> impl Fn(&Path) -> bool {
    |path| path.is_absolute() || root.place_of(path).is_some()
}

/// The zones, the other areas, and everything else.
fn areas(subject: &Subject<'_>, tally: &Tally) -> Vec<AreaUsage> {
    let Subject { root, zones, areas, removed_by, .. } = *subject;
    let is_elsewhere = is_elsewhere(root);
    let places = Places::new(zones, areas, None, &is_elsewhere);
    let usage = |number: usize, name: &str, path: PathBuf| {
        let counts = tally.areas[number];
        AreaUsage {
            name: name.to_owned(),
            about: "",
            path,
            is_outside: false,
            entries: counts.entries,
            totals: Totals { inodes: counts.inodes, allocated: counts.allocated },
            expired: counts.expired,
            forecast: counts.forecast,
            by_age: counts.by_age,
            removed_by: RemovedBy::Never,
        }
    };
    let of_zones = zones.iter().enumerate().map(|(at, zone)| {
        let is_outside = zone.location.roots.iter().all(|root| is_elsewhere(root));
        let is_shared = !is_outside && zone.location.shape == Shape::Flat && !places.has_root(at);
        let place = zone.location.roots.iter().find_map(|inside| root.place_of(inside));
        let path = match place {
            Some(place) => place.to_owned(),
            None => root.path().join(pattern_of(zone, is_shared)),
        };
        let usage = usage(at, zone.name.as_str(), path);
        AreaUsage { is_outside, removed_by: removed_by(zone), ..usage }
    });
    let others = areas.iter().enumerate().map(|(at, area)| {
        let path = root.path().join(braces(area.paths));
        AreaUsage { about: area.about, ..usage(zones.len() + at, area.name, path) }
    });
    let rest = usage(zones.len() + areas.len(), REST, root.path().to_owned());
    let rest = AreaUsage { about: "everything else", ..rest };
    of_zones.chain(others).chain([rest]).collect()
}

/// Where the entries of a zone lie, as a pattern.
fn pattern_of(zone: &Zone, is_shared: bool) -> String {
    let roots: Vec<String> =
        zone.location.roots.iter().map(|root| root.to_string_lossy().into_owned()).collect();
    let roots = braces(&roots);
    match zone.location.shape {
        Shape::Flat if is_shared => format!("{roots}/*"),
        Shape::Flat => roots,
        Shape::InEach(dir) => format!("{roots}/*/{dir}"),
        Shape::Fixed(paths) => format!("{roots}/*/{}", braces(paths)),
    }
}

/// Several texts as one, in the way of a shell.
fn braces<S: AsRef<str>>(texts: &[S]) -> String {
    match texts {
        [text] => text.as_ref().to_owned(),
        _ => format!("{{{}}}", texts.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(",")),
    }
}

/// What the application can no longer reach: zones that are out of use, then what is left of uploads.
fn unreached(subject: &Subject<'_>, tally: &Tally, areas: &[AreaUsage]) -> Vec<UnreachedUsage> {
    let is_out_of_use = |area: &&AreaUsage| subject.labels.out_of_use.contains(&&*area.name);
    let of_zones = areas.iter().filter(is_out_of_use).filter(|area| area.entries > 0);
    let of_zones = of_zones.map(|area| UnreachedUsage {
        why: Unreached::OutOfUse,
        area: area.name.clone(),
        entries: area.entries,
        allocated: area.totals.allocated,
        expired: area.expired,
        removed_by: area.removed_by.clone(),
    });
    let of_uploads = tally.given_up.iter().map(|(area, remains, part)| UnreachedUsage {
        why: Unreached::Upload(*remains),
        area: areas[*area].name.clone(),
        entries: part.files,
        allocated: part.allocated,
        expired: part.expired,
        removed_by: areas[*area].removed_by.clone(),
    });
    of_zones.chain(of_uploads).collect()
}

/// The kinds of exports, in a fixed order.
fn kinds(tally: &Tally) -> Vec<KindUsage> {
    let mut kinds: Vec<_> = tally.kinds.iter().collect();
    kinds.sort_by_key(|(kind, _)| **kind);
    let usage = |((owner, content), counts): (&super::tally::Kind, &super::tally::KindTally)| {
        let (files, allocated, by_age) = (counts.files, counts.allocated, counts.by_age);
        KindUsage { owner: *owner, content: *content, files, allocated, by_age }
    };
    kinds.into_iter().map(usage).collect()
}

/// The owners of the most space, the largest first.
fn owners(tally: &Tally) -> Vec<OwnerUsage> {
    let mut owners: Vec<OwnerUsage> = tally
        .owners
        .iter()
        .map(|(owner, (files, allocated))| OwnerUsage {
            owner: *owner,
            files: *files,
            allocated: *allocated,
        })
        .collect();
    owners.sort_by_key(|usage| (std::cmp::Reverse(usage.allocated), usage.owner));
    let mut listed: HashMap<&str, usize> = HashMap::new();
    owners.retain(|usage| {
        let count = listed.entry(usage.owner.kind).or_default();
        *count += 1;
        *count <= LISTED_OWNERS
    });
    owners
}
