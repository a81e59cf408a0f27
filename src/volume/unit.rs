//! Which unit of which zone a path belongs to, by the layout alone.
//!
//! It must not look at the disk: whether there is such a thing is for others to see.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::retention::Zone;

/// The unit of a zone that a path belongs to.
#[derive(Debug, PartialEq, Eq)]
pub struct Unit {
    /// The zone whose rule judges it.
    pub zone: Zone,
    /// The directory it is seen in, relative to the volume.
    pub dir: PathBuf,
    /// Its name there.
    pub name: CString,
}

impl Unit {
    /// The unit that a path relative to the volume belongs to.
    pub fn of(relative: &Path, zones: &[Zone]) -> Option<Self> {
        let steps: Vec<&OsStr> = relative
            .components()
            .map(|step| match step {
                Component::Normal(name) => Some(name),
                Component::Prefix(_)
                | Component::RootDir
                | Component::CurDir
                | Component::ParentDir => None,
            })
            .collect::<Option<_>>()?;
        let text: Vec<&str> = steps.iter().map(|step| step.to_str().unwrap_or_default()).collect();
        let unit = |zone, depth: usize| {
            let name = CString::new(steps.get(depth)?.as_bytes()).ok()?;
            Some(Self { zone, dir: steps[..depth].iter().collect(), name })
        };
        match text.as_slice() {
            ["cache", "export", _, ..] => unit(Zone::Export, 2),
            ["tmp", _, ..] => unit(Zone::Tmp, 1),
            ["projects" | "tasks" | "jobs", id, "export_cache", ..] if is_number(id) => {
                unit(Zone::Legacy, 2)
            }
            // In both; what a pass would be told to sweep goes first.
            ["projects" | "tasks" | "jobs", id, "tmp", "export_cache", ..]
                if is_number(id) && !zones.contains(&Zone::InstanceTmp) =>
            {
                unit(Zone::Legacy, 3)
            }
            ["projects" | "tasks" | "jobs", _, "tmp", _, ..] => unit(Zone::InstanceTmp, 3),
            _ => None,
        }
    }

    /// Its path, relative to the volume.
    pub fn path(&self) -> PathBuf {
        self.dir.join(OsStr::from_bytes(self.name.to_bytes()))
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_belongs_to_the_unit_that_is_judged() {
        let unit = |path: &str| {
            Unit::of(Path::new(path), &[Zone::Export, Zone::Tmp])
                .map(|unit| (unit.zone, unit.dir.join(unit.name.to_str().unwrap())))
        };
        let at = |zone, path: &str| Some((zone, PathBuf::from(path)));
        assert_eq!(unit("cache/export/a.zip"), at(Zone::Export, "cache/export/a.zip"));
        assert_eq!(unit("tmp/x/deep/in/it"), at(Zone::Tmp, "tmp/x"));
        assert_eq!(unit("tasks/7/tmp/f"), at(Zone::InstanceTmp, "tasks/7/tmp/f"));
        assert_eq!(
            unit("jobs/7/tmp/export_cache/f.ZIP"),
            at(Zone::Legacy, "jobs/7/tmp/export_cache")
        );
        assert_eq!(unit("projects/7/export_cache"), at(Zone::Legacy, "projects/7/export_cache"));
        for none in ["tmp", "cache/export", "cache/events/a.db", "data/1", "projects/7/x", ""] {
            assert_eq!(unit(none), None, "{none}");
        }
    }
}
