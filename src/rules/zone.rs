//! A zone as data: where entries are, what an entry is, and which rule judges it.
//!
//! It must not know any application: CVAT's zones are values in `cvat`, and the settings file adds more.

use std::ffi::{CString, OsStr};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::age::{Moment, Ttl};
use super::metadata::{FileKind, Metadata};
use super::names::Names;

/// The name of a zone, as people and scripts use it. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZoneName(Arc<str>);

impl ZoneName {
    /// From text.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A set of directories whose entries are judged by one rule.
#[derive(Debug, Clone)]
pub struct Zone {
    /// Its name in reports, metrics and settings.
    pub name: ZoneName,
    /// Where its entries are.
    pub location: Location,
    /// What an entry is.
    pub entry: EntryKind,
    /// Which names are recognized.
    pub names: Names,
    /// Which time is the last use.
    pub last_use: LastUse,
    /// When entries expire, by the [`super::Class`] of their name. A class without a value is kept.
    pub ttls: Vec<Expiry>,
    /// Which locks are taken.
    pub lock: LockKind,
    /// What a name says, for people; `None` where there is nothing to say.
    pub describe_name: fn(&[u8]) -> Option<String>,
}

/// What an entry of a zone is. Everything else in the zone is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory with all that is in it.
    Tree,
    /// Either of them, a link, or a special file.
    Any,
}

/// How far ahead of the present a time may lie and still count. Clocks differ, but not by more than this: such
/// a time was set by hand, or by a machine with a wrong clock, and would protect an entry for years.
pub const MOST_AHEAD: Ttl = Ttl::from_secs(86_400);

/// Which time of an entry counts as its last use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastUse {
    /// The mtime; of a directory, the newest mtime in it.
    Mtime,
    /// The newest access: atimes of files and mtimes of directories, whose atimes any listing moves.
    Atime,
    /// The newest of both: atime and mtime of files, mtime of directories.
    Tree,
    /// The entry's own atime, whatever is in it.
    Entry,
}

impl LastUse {
    /// The last use as far as `metadata` says at `now`. For a directory that was not walked this is a lower
    /// bound: what is in it can only be newer.
    ///
    /// A time that lies too far in the future ([`MOST_AHEAD`]) does not count. If no other of the times that
    /// it looks at does, the newest of all that the entry has decides. The ctime cannot be set by hand: if it
    /// lies ahead too, the clocks differ, and every time counts.
    #[inline]
    pub fn read(self, metadata: &Metadata, now: Moment) -> Moment {
        let [one, other] = self.times(metadata);
        let own = if self.may_ignore_a_time(metadata, now) {
            let Metadata { atime, mtime, ctime, .. } = *metadata;
            let latest = latest_that_counts(metadata, now);
            let newest =
                |times: &[Moment]| times.iter().copied().filter(|time| *time <= latest).max();
            newest(&[one, other]).or_else(|| newest(&[atime, mtime, ctime])).unwrap_or(mtime)
        } else {
            one.max(other)
        };
        match metadata.newest_inside {
            Some(inside) if self != Self::Entry => own.max(inside),
            _ => own,
        }
    }

    /// Whether a time that it looks at lies so far in the future that it does not count.
    pub fn ignores_a_time(self, metadata: &Metadata, now: Moment) -> bool {
        self.may_ignore_a_time(metadata, now) && {
            let latest = latest_that_counts(metadata, now);
            self.times(metadata).iter().any(|time| *time > latest)
        }
    }

    /// Whether it has to be found out which times count. For nearly every entry all do.
    fn may_ignore_a_time(self, metadata: &Metadata, now: Moment) -> bool {
        let [one, other] = self.times(metadata);
        one.max(other) > now.plus(MOST_AHEAD)
    }

    /// The times that it looks at.
    fn times(self, metadata: &Metadata) -> [Moment; 2] {
        let Metadata { atime, mtime, .. } = *metadata;
        let is_dir = metadata.kind == FileKind::Dir;
        match self {
            Self::Entry => [atime; 2],
            Self::Atime if !is_dir => [atime; 2],
            Self::Tree if !is_dir => [atime, mtime],
            Self::Mtime | Self::Atime | Self::Tree => [mtime; 2],
        }
    }

    /// Whether an atime decides.
    pub const fn needs_atime(self) -> bool {
        matches!(self, Self::Atime | Self::Tree | Self::Entry)
    }
}

/// The latest time that counts.
fn latest_that_counts(metadata: &Metadata, now: Moment) -> Moment {
    let latest = now.plus(MOST_AHEAD);
    if metadata.ctime > latest {
        metadata.ctime.max(metadata.atime).max(metadata.mtime)
    } else {
        latest
    }
}

/// When an entry expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// At once, whatever its age.
    AtOnce,
    /// When it was last used longer ago than this.
    After(Ttl),
}

impl Expiry {
    /// The time to live, if there is one.
    pub const fn ttl(self) -> Option<Ttl> {
        match self {
            Self::AtOnce => None,
            Self::After(ttl) => Some(ttl),
        }
    }
}

/// Which locks are taken before an entry of the zone is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// None.
    Unlocked,
    /// `flock` on the entry.
    Flock,
    /// The lock of the application that writes the entries, then `flock`.
    Application,
}

/// Where the entries of a zone are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The directories that are listed: relative to the data root, or absolute.
    pub roots: Vec<PathBuf>,
    /// How entries lie below each root.
    pub shape: Shape,
}

/// How the entries of a zone lie below its roots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `<root>/*`
    Flat,
    /// `<root>/*/<dir>/*`
    InEach(&'static str),
    /// `<root>/<number>/<path>`, for each of these paths.
    Fixed(&'static [&'static str]),
}

/// The path of an entry: the directory that holds it and its name there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryPath {
    /// Relative to the data root, or absolute if the zone is.
    pub dir: PathBuf,
    /// The name.
    pub name: CString,
}

impl EntryPath {
    /// The whole path.
    pub fn path(&self) -> PathBuf {
        self.dir.join(OsStr::from_bytes(self.name.to_bytes()))
    }
}

/// One step of the pattern that all entries of a zone match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// This name.
    Name(&'a OsStr),
    /// Any name.
    Any,
    /// A number.
    Number,
}

impl Location {
    /// `<root>/*` for one root.
    pub fn flat(root: impl Into<PathBuf>) -> Self {
        Self { roots: vec![root.into()], shape: Shape::Flat }
    }

    /// The patterns of the paths of its entries, step by step.
    pub fn patterns(&self) -> Vec<Vec<Step<'_>>> {
        let mut patterns = Vec::new();
        for root in &self.roots {
            let root: Vec<Step<'_>> = root.iter().map(Step::Name).collect();
            let mut add = |rest: &[Step<'static>]| patterns.push([&root[..], rest].concat());
            match self.shape {
                Shape::Flat => add(&[Step::Any]),
                Shape::InEach(dir) => add(&[Step::Any, Step::Name(OsStr::new(dir)), Step::Any]),
                Shape::Fixed(paths) => {
                    for path in paths {
                        let rest = Path::new(path).iter().map(Step::Name);
                        add(&[Step::Number].into_iter().chain(rest).collect::<Vec<_>>());
                    }
                }
            }
        }
        patterns
    }

    /// The entry that `path` is or lies in; `None` when it is in no entry of this zone. `path` is relative
    /// to the data root, or absolute if the zone is.
    pub fn entry_of(&self, path: &Path) -> Option<EntryPath> {
        let steps: Vec<&OsStr> = path
            .components()
            .map(|component| match component {
                Component::Normal(name) => Some(name),
                Component::RootDir => Some(component.as_os_str()),
                Component::Prefix(_) | Component::CurDir | Component::ParentDir => None,
            })
            .collect::<Option<_>>()?;
        let matches = |pattern: &Vec<Step<'_>>| {
            pattern.len() <= steps.len()
                && pattern.iter().zip(&steps).all(|(step, name)| step.matches(name))
        };
        let pattern = self.patterns().into_iter().find(matches)?;
        let (name, dir) = steps[..pattern.len()].split_last()?;
        Some(EntryPath { dir: dir.iter().collect(), name: CString::new(name.as_bytes()).ok()? })
    }

    /// Whether entries of this zone lie below the directory `path`, and are not `path` itself.
    pub fn is_above(&self, path: &Path) -> bool {
        let is_above = |pattern: Vec<Step<'_>>| {
            path.iter().count() < pattern.len()
                && path.iter().zip(&pattern).all(|(name, step)| step.matches(name))
        };
        self.patterns().into_iter().any(is_above)
    }
}

impl Step<'_> {
    /// Whether a step of a path matches.
    pub fn matches(&self, name: &OsStr) -> bool {
        match self {
            Self::Name(own) => *own == name,
            Self::Any => true,
            Self::Number => !name.is_empty() && name.as_bytes().iter().all(u8::is_ascii_digit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(location: &Location, path: &str) -> Option<String> {
        let entry = location.entry_of(Path::new(path))?;
        Some(entry.path().to_str().unwrap().to_owned())
    }

    #[test]
    fn a_path_belongs_to_the_entry_that_is_judged() {
        let flat = Location::flat("cache/export");
        assert_eq!(at(&flat, "cache/export/a.zip").as_deref(), Some("cache/export/a.zip"));
        assert_eq!(at(&flat, "cache/export/x/deep").as_deref(), Some("cache/export/x"));
        for none in [
            "cache/export",
            "cache",
            "",
            "cache/events/a.db",
            "cache/export/../a",
            "/cache/export/a",
        ] {
            assert_eq!(at(&flat, none), None, "{none}");
        }
        let each =
            Location { roots: vec!["tasks".into(), "jobs".into()], shape: Shape::InEach("tmp") };
        assert_eq!(at(&each, "jobs/a/tmp/f/g").as_deref(), Some("jobs/a/tmp/f"));
        assert_eq!(at(&each, "jobs/a/tmp"), None);
        let fixed = Location {
            roots: vec!["tasks".into()],
            shape: Shape::Fixed(&["export_cache", "tmp/export_cache"]),
        };
        assert_eq!(at(&fixed, "tasks/7/export_cache/x").as_deref(), Some("tasks/7/export_cache"));
        assert_eq!(
            at(&fixed, "tasks/7/tmp/export_cache").as_deref(),
            Some("tasks/7/tmp/export_cache")
        );
        assert_eq!(at(&fixed, "tasks/x/export_cache"), None);
        let absolute = Location::flat("/mnt/scratch");
        assert_eq!(at(&absolute, "/mnt/scratch/a/b").as_deref(), Some("/mnt/scratch/a"));
        assert_eq!(at(&absolute, "mnt/scratch/a"), None);
    }

    #[test]
    fn a_directory_of_entries_is_above_them() {
        let each = Location { roots: vec!["tasks".into()], shape: Shape::InEach("tmp") };
        for (path, is_above) in [
            ("tasks", true),
            ("tasks/7", true),
            ("tasks/7/tmp", true),
            ("tasks/7/tmp/x", false),
            ("tasks/7/other", false),
            ("jobs", false),
        ] {
            assert_eq!(each.is_above(Path::new(path)), is_above, "{path}");
        }
        assert!(Location::flat("/mnt/scratch").is_above(Path::new("/mnt/scratch")));
    }

    #[test]
    fn each_way_to_read_the_last_use_takes_its_own_times() {
        let moment = |secs| Moment::from_unix(secs, 0);
        let mut metadata = Metadata {
            kind: FileKind::File,
            id: super::super::FileId { dev: 1, ino: 2 },
            is_mount_point: false,
            atime: moment(30),
            mtime: moment(20),
            ctime: moment(40),
            links: 1,
            size: super::super::Bytes(0),
            allocated: super::super::Bytes(0),
            newest_inside: None,
        };
        let read = |metadata: &Metadata| {
            [LastUse::Mtime, LastUse::Atime, LastUse::Tree, LastUse::Entry]
                .map(|which| which.read(metadata, moment(60)).unix_secs())
        };
        assert_eq!(read(&metadata), [20, 30, 30, 30]);
        metadata.mtime = moment(35);
        assert_eq!(read(&metadata), [35, 30, 35, 30]);
        metadata.kind = FileKind::Dir;
        assert_eq!(read(&metadata), [35, 35, 35, 30], "listing a directory moves its atime");
        metadata.newest_inside = Some(moment(50));
        assert_eq!(read(&metadata), [50, 50, 50, 30]);
        // A time that is more than a day ahead does not count: another one of the entry does.
        metadata.newest_inside = None;
        metadata.kind = FileKind::File;
        metadata.mtime = moment(60 + 86_400);
        assert_eq!(read(&metadata), [86_460, 30, 86_460, 30]);
        metadata.mtime = moment(60 + 86_401);
        assert_eq!(read(&metadata), [40, 30, 30, 30], "ctime, atime, atime, atime");
        metadata.atime = moment(i64::MAX);
        assert_eq!(read(&metadata), [40, 40, 40, 40], "nothing is left but the ctime");
        let ignores = |which: LastUse| which.ignores_a_time(&metadata, moment(60));
        assert!(ignores(LastUse::Mtime) && ignores(LastUse::Entry));
        // Only the system sets a ctime: if that is ahead too, the clocks differ, and all times count.
        metadata.atime = moment(30);
        metadata.ctime = moment(86_461);
        assert_eq!(read(&metadata), [86_461, 30, 86_461, 30]);
        assert!(!LastUse::Mtime.ignores_a_time(&metadata, moment(60)));
    }
}
