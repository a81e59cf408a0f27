//! Where the entries of a zone are: patterns of paths.
//!
//! This module must not look at the file system.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::rules::names::QUARANTINE_SEPARATOR;

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

    /// The steps from a listed directory to an entry, by its name in a private directory there. A name that none of our
    /// entries has there is one step, so that it leads nowhere else.
    pub fn steps_of<'a>(&self, inner: &'a CStr) -> Vec<&'a OsStr> {
        let steps = || inner.to_bytes().split(|byte| *byte == QUARANTINE_SEPARATOR);
        let leads_elsewhere = |step: &[u8]| matches!(step, b"" | b"." | b"..");
        if !matches!(self.shape, Shape::Fixed(_)) || steps().any(leads_elsewhere) {
            return vec![OsStr::from_bytes(inner.to_bytes())];
        }
        steps().map(OsStr::from_bytes).collect()
    }

    /// The directory that such an entry was in, and its name there. `listed` is the path of the listed directory.
    pub fn original_of(&self, listed: &Path, inner: &CStr) -> (PathBuf, CString) {
        let mut steps = self.steps_of(inner);
        let name = steps.pop().and_then(|name| CString::new(name.as_bytes()).ok());
        // Not by `join`, which puts a slash behind the path if nothing follows.
        (listed.iter().chain(steps).collect(), name.unwrap_or_default())
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

    #[test]
    fn no_name_in_a_private_directory_leads_out_of_the_listed_directory() {
        let location = Location { roots: vec!["tasks".into()], shape: Shape::Fixed(&["tmp/x"]) };
        assert_eq!(location.steps_of(c"7%tmp%x"), ["7", "tmp", "x"]);
        assert_eq!(
            location.original_of(Path::new("tasks"), c"7%tmp%x"),
            ("tasks/7/tmp".into(), c"x".to_owned())
        );
        for odd in [c"..%..%x", c"7%..%x", c"7%%x", c"%x", c"7%.", c".."] {
            assert_eq!(location.steps_of(odd), [odd.to_str().unwrap()]);
        }
        let flat = Location { roots: vec!["tmp".into()], shape: Shape::Flat };
        assert_eq!(flat.steps_of(c"7%tmp%x"), ["7%tmp%x"]);
        let (dir, name) = flat.original_of(Path::new("tmp"), c"x");
        assert_eq!((dir.as_os_str(), &*name), (OsStr::new("tmp"), c"x"));
    }

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
}
