//! Which zone or area a path is in, found step by step from the data root down.
//!
//! This module must not look at files or times. A directory remembers which patterns may still match below it, so each
//! name costs a comparison with these alone, and nothing below an entry costs any.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use crate::rules::names::is_quarantine;
use crate::rules::zone::Step;
use crate::rules::{Area, EntryKind, Zone};

/// The zones and areas of a directory that is walked as a whole.
pub(super) struct Places<'a> {
    zones: &'a [Arc<Zone>],
    patterns: Vec<Pattern<'a>>,
    /// The number of the area of everything else.
    rest: usize,
}

/// The paths of the entries of a zone, or of the directory in which an area begins.
struct Pattern<'a> {
    steps: Vec<Step<'a>>,
    area: usize,
    is_entry: bool,
}

/// What a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// An entry of the zone with this number.
    Entry(usize),
    /// Something in this area that is judged by no rule.
    Plain(usize),
}

impl Found {
    /// The number of the area that it is in.
    pub(super) const fn area(self) -> usize {
        match self {
            Self::Entry(area) | Self::Plain(area) => area,
        }
    }
}

/// Where a directory is.
#[derive(Debug, Clone)]
pub(super) struct Here {
    /// The patterns that may match below it.
    live: Vec<usize>,
    /// The area that it is in.
    pub(super) area: usize,
    depth: usize,
    inside: Inside,
}

/// Whether a directory is a private one of a pass, or is in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    No,
    /// It is one itself.
    Private,
    /// It has entries in it that are to be looked at again.
    Check,
    /// It has entries in it whose removal has begun.
    Remove,
}

impl Here {
    /// Whether anything below it may be an entry or the beginning of an area.
    pub(super) const fn is_live(&self) -> bool {
        !self.live.is_empty()
    }

    /// Whether what is in it has its paths without the name of this directory.
    pub(super) const fn is_private(&self) -> bool {
        !matches!(self.inside, Inside::No)
    }

    /// Whether it has trees in it whose removal has begun.
    pub(super) const fn has_rests(&self) -> bool {
        matches!(self.inside, Inside::Remove)
    }
}

impl<'a> Places<'a> {
    /// The places below the data root, or below the directory `outside` that a zone names and that
    /// `is_elsewhere`. Areas are numbered: the zones come first, then `areas`, then everything else.
    pub(super) fn new(
        zones: &'a [Arc<Zone>],
        areas: &'static [Area],
        outside: Option<&'a Path>,
        is_elsewhere: impl Fn(&Path) -> bool,
    ) -> Self {
        let base: Vec<&OsStr> = outside.into_iter().flat_map(Path::iter).collect();
        let mut patterns = Vec::new();
        for (area, zone) in zones.iter().enumerate() {
            let is_here = |root: &std::path::PathBuf| match outside {
                None => !is_elsewhere(root),
                Some(outside) => root == outside,
            };
            if !zone.location.roots.iter().all(is_here) {
                continue;
            }
            for steps in zone.location.patterns() {
                let steps = steps[base.len().min(steps.len())..].to_vec();
                if let [root @ .., Step::Any] = &steps[..] {
                    patterns.push(Pattern { steps: root.to_vec(), area, is_entry: false });
                }
                patterns.push(Pattern { steps, area, is_entry: true });
            }
        }
        if outside.is_none() {
            for (at, area) in areas.iter().enumerate() {
                for path in area.paths {
                    let steps = Path::new(path).iter().map(Step::Name).collect();
                    patterns.push(Pattern { steps, area: zones.len() + at, is_entry: false });
                }
            }
        }
        let mut places = Self { zones, patterns, rest: zones.len() + areas.len() };
        places.share_roots();
        places
    }

    /// A zone of trees does not have its directory to itself if other places are in it.
    fn share_roots(&mut self) {
        let is_shared = |pattern: &Pattern<'_>| {
            let zone = self.zones.get(pattern.area);
            zone.is_some_and(|zone| zone.entry == EntryKind::Tree)
                && self.patterns.iter().any(|other| {
                    other.area != pattern.area
                        && other.steps.len() > pattern.steps.len()
                        && other.steps.starts_with(&pattern.steps)
                })
        };
        let shared: Vec<bool> =
            self.patterns.iter().map(|pattern| !pattern.is_entry && is_shared(pattern)).collect();
        let mut shared = shared.into_iter();
        self.patterns.retain(|_| !shared.next().unwrap_or(false));
    }

    /// Whether a directory is a zone's own, with all that is in it.
    pub(super) fn has_root(&self, area: usize) -> bool {
        self.patterns.iter().any(|pattern| pattern.area == area && !pattern.is_entry)
    }

    /// The top directory.
    pub(super) fn top(&self) -> Here {
        let whole = self.patterns.iter().filter(|pattern| pattern.steps.is_empty());
        let area = whole.map(|pattern| pattern.area).min().unwrap_or(self.rest);
        let live = (0..self.patterns.len()).filter(|at| !self.patterns[*at].steps.is_empty());
        Here { live: live.collect(), area, depth: 0, inside: Inside::No }
    }

    /// What `name` in a directory is.
    pub(super) fn find(&self, here: &Here, name: &[u8]) -> Found {
        let (mut entry, mut area) = (None, here.area);
        for pattern in here.live.iter().map(|at| &self.patterns[*at]) {
            let is_whole = pattern.steps.len() == here.depth + 1;
            if !is_whole
                || here.inside == Inside::Private
                || is_quarantine(name)
                || !pattern.steps[here.depth].matches(OsStr::from_bytes(name))
            {
                continue;
            }
            if !pattern.is_entry {
                area = area.min(pattern.area);
            } else if self.is_entry(pattern.area, name) {
                entry = Some(entry.map_or(pattern.area, |other: usize| other.min(pattern.area)));
            }
        }
        entry.map_or(Found::Plain(area), Found::Entry)
    }

    /// A zone of trees leaves the directories alone that it does not recognize.
    fn is_entry(&self, area: usize, name: &[u8]) -> bool {
        let zone = &self.zones[area];
        zone.entry != EntryKind::Tree || zone.names.class_of(name).is_some()
    }

    /// Where the directory `name` is, which was found in `here`.
    pub(super) fn below(&self, here: &Here, name: &[u8], found: Found) -> Here {
        let is_live = |at: &usize| {
            let steps = &self.patterns[*at].steps;
            steps.len() > here.depth + 1 && steps[here.depth].matches(OsStr::from_bytes(name))
        };
        let is_entry_here = |at: &usize| {
            let Pattern { steps, is_entry, .. } = &self.patterns[*at];
            *is_entry && steps.len() == here.depth + 1 && steps.ends_with(&[Step::Any])
        };
        let inside = match (here.inside, name) {
            (Inside::No, name) if is_quarantine(name) => Inside::Private,
            (Inside::Private, b"check") => Inside::Check,
            (Inside::Private, b"remove") => Inside::Remove,
            _ => Inside::No,
        };
        let live = here.live.iter().copied();
        let live = match (found, here.inside, inside) {
            (Found::Entry(_), ..) => Vec::new(),
            // An interrupted pass leaves entries there, under their own names.
            (_, Inside::No, Inside::Private) => live.filter(is_entry_here).collect(),
            (_, Inside::Private, Inside::Check | Inside::Remove) => live.collect(),
            (_, Inside::No, _) => live.filter(is_live).collect(),
            // Everything else in a private directory is no entry.
            _ => Vec::new(),
        };
        let depth = here.depth + usize::from(inside == Inside::No);
        Here { live, area: found.area(), depth, inside }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::names::Patterns;
    use crate::rules::{LastUse, Location, LockKind, Names, Shape, ZoneName};

    fn zone(name: &str, location: Location, entry: EntryKind, names: Names) -> Arc<Zone> {
        Arc::new(Zone {
            name: ZoneName::new(name),
            location,
            entry,
            names,
            last_use: LastUse::Tree,
            ttls: Vec::new(),
            lock: LockKind::Flock,
            describe_name: |_| None,
        })
    }

    fn numbered() -> Names {
        Names::Patterns(Patterns::new(&["[0-9]{3}"]).unwrap())
    }

    /// What the last step of a path is.
    fn find(places: &Places<'_>, path: &str) -> Found {
        let mut here = places.top();
        let mut found = Found::Plain(here.area);
        for name in path.split('/').filter(|name| !name.is_empty()) {
            found = match found {
                Found::Entry(_) => return found,
                Found::Plain(_) => places.find(&here, name.as_bytes()),
            };
            here = places.below(&here, name.as_bytes(), found);
        }
        found
    }

    const AREAS: [Area; 2] = [
        Area { name: "media", about: "", paths: &["data"] },
        Area { name: "log", about: "", paths: &["cache/log", "log.db"] },
    ];

    #[test]
    fn each_path_is_in_the_first_zone_that_has_it_or_in_an_area() {
        let each = |shape| Location { roots: vec!["tasks".into(), "jobs".into()], shape };
        let old = Shape::Fixed(&["old", "tmp/old"]);
        let zones = [
            zone("files", Location::flat("cache/files"), EntryKind::File, numbered()),
            zone("old", each(old), EntryKind::Tree, Names::Any),
            zone("tmp", each(Shape::InEach("tmp")), EntryKind::Any, Names::Any),
            zone("shards", Location::flat("cache"), EntryKind::Tree, numbered()),
            zone("outside", Location::flat("/mnt/x"), EntryKind::Any, Names::Any),
        ];
        let places = Places::new(&zones, &AREAS, None, Path::is_absolute);
        for (path, found) in [
            ("", Found::Plain(7)),
            ("cache", Found::Plain(7)),
            ("cache/files", Found::Plain(0)),
            ("cache/files/123", Found::Entry(0)),
            ("cache/files/other", Found::Entry(0)),
            ("cache/000", Found::Entry(3)),
            ("cache/000/x/y", Found::Entry(3)),
            ("cache/other", Found::Plain(7)),
            ("cache/log/deep", Found::Plain(6)),
            ("log.db", Found::Plain(6)),
            ("data/tmp/old", Found::Plain(5)),
            ("tasks/7", Found::Plain(7)),
            ("tasks/7/file", Found::Plain(7)),
            ("tasks/7/old", Found::Entry(1)),
            ("tasks/x/old", Found::Plain(7)),
            ("jobs/7/tmp", Found::Plain(2)),
            ("jobs/7/tmp/.sweeper-0123456789abcdef/a", Found::Plain(2)),
            ("jobs/7/tmp/.sweeper-0123456789abcdef/began/a", Found::Plain(2)),
            ("jobs/7/tmp/.sweeper-0123456789abcdef/remove", Found::Plain(2)),
            ("jobs/7/tmp/.sweeper-0123456789abcdef/remove/a/b", Found::Entry(2)),
            ("jobs/7/tmp/.sweeper-0123456789abcdef/check/a", Found::Entry(2)),
            ("jobs/.sweeper-0123456789abcdef/remove/7/tmp/a", Found::Plain(7)),
            ("cache/.sweeper-0123456789abcdef/remove/000", Found::Entry(3)),
            ("cache/.sweeper-0123456789abcdef/remove/other", Found::Plain(7)),
            ("jobs/.sweeper-0123456789abcdef/tmp/a", Found::Plain(7)),
            ("jobs/7/tmp/a/old", Found::Entry(2)),
            ("jobs/7/tmp/old/a", Found::Entry(1)),
            ("mnt/x/y", Found::Plain(7)),
        ] {
            assert_eq!(find(&places, path), found, "{path}");
        }
        let outside = Places::new(&zones, &AREAS, Some(Path::new("/mnt/x")), Path::is_absolute);
        assert_eq!(find(&outside, ""), Found::Plain(4));
        assert_eq!(find(&outside, "y/z"), Found::Entry(4));
        assert_eq!(find(&outside, "data"), Found::Entry(4));
        // The directory of the first zone is elsewhere: what is in its place is in no zone.
        let is_elsewhere = |path: &Path| path.is_absolute() || path == Path::new("cache/files");
        let places = Places::new(&zones, &AREAS, None, is_elsewhere);
        assert_eq!(find(&places, "cache/files/123"), Found::Plain(7));
        let elsewhere = Places::new(&zones, &AREAS, Some(Path::new("cache/files")), is_elsewhere);
        assert_eq!(find(&elsewhere, "123"), Found::Entry(0));
    }

    #[test]
    fn a_directory_that_a_zone_of_trees_has_to_itself_is_its_own() {
        let zones = [zone("trees", Location::flat("scratch"), EntryKind::Tree, numbered())];
        let places = Places::new(&zones, &[], None, Path::is_absolute);
        assert_eq!(find(&places, "scratch"), Found::Plain(0));
        assert_eq!(find(&places, "scratch/other"), Found::Plain(0));
        assert_eq!(find(&places, "scratch/123/x"), Found::Entry(0));
    }
}
