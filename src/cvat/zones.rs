//! CVAT's zones as values, and the places in a data root that are never touched.
//!
//! This module must not read settings: times to live are arguments.
//!
//! | Zone | Entries | Names | Last use | Expires |
//! |---|---|---|---|---|
//! | `export` | files in `cache/export` | those of CVAT's exports | mtime | after the TTL of its class |
//! | `tmp` | everything in `tmp` | any | as set | after the retention |
//! | `instance-tmp` | everything in `{projects,tasks,jobs}/*/tmp` | any | as set | after the retention |
//! | `chunk-cache` | directories `cache/<3 digits>` | those of `diskcache` | newest mtime in the tree | after the retention |
//! | `legacy` | directories `{projects,tasks,jobs}/<id>/[tmp/]export_cache` | any | newest in the tree | at once, or after an age |
//!
//! The last use of an export is its mtime because CVAT sets it when a cached export is requested again
//! (`os.utime`, since 2.24.0).
//!
//! CVAT 1.2 to 2.6.1 kept chunks of images in `cache`, in a `FanoutCache` of the Python package `diskcache`: one
//! directory `000`, `001`, ... for each shard. Later versions keep them in Redis or Kvrocks, and remove no old
//! files. An earlier version that is still running has each shard's `cache.db` open.

use super::names::{self, Class};
use crate::rules::{
    EntryKind, Expiry, LastUse, Location, LockKind, Names, Shape, Ttl, Zone, ZoneName,
};

/// The name of the zone of exports.
pub const EXPORT: &str = "export";
/// The name of the zone of common temporary entries.
pub const TMP: &str = "tmp";
/// The name of the zone of temporary entries of projects, tasks and jobs.
pub const INSTANCE_TMP: &str = "instance-tmp";
/// The name of the zone of chunks of images of CVAT before 2.6.2.
pub const CHUNK_CACHE: &str = "chunk-cache";
/// The name of the zone of export caches of CVAT before 2.26.
pub const LEGACY: &str = "legacy";

/// The settings that only some of the zones use, and these zones.
pub const SETTINGS_OF_ZONES: [(&str, &[&str]); 10] = [
    ("ttl", &[EXPORT]),
    ("ttl_project", &[EXPORT]),
    ("ttl_task", &[EXPORT]),
    ("ttl_job", &[EXPORT]),
    ("ttl_events", &[EXPORT]),
    ("redis", &[EXPORT]),
    ("cvat_data", &[EXPORT]),
    ("lock_ttl", &[EXPORT]),
    ("retention", &[TMP, INSTANCE_TMP, CHUNK_CACHE]),
    ("tmp_age", &[TMP, INSTANCE_TMP]),
];

/// The directories that hold one directory for each project, task or job.
const INSTANCES: [&str; 3] = ["projects", "tasks", "jobs"];

/// Parts of a data root that hold what CVAT cannot make again, relative to the data root. Nothing in them
/// is ever an entry. Of the directories of projects, tasks and jobs only the zones above are swept.
pub const NEVER_TOUCHED: [&str; 14] = [
    "data",
    "assets",
    "storages",
    "models",
    "cache/events",
    "events.db",
    "logstash.db",
    "keys",
    "logs",
    "share",
    "static",
    "projects",
    "tasks",
    "jobs",
];

/// Directories beside the data root that are never touched.
pub const NEVER_TOUCHED_BESIDE: [&str; 4] = ["keys", "logs", "share", "static"];

/// How long each class of export may stay unused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportTtls {
    /// Exports of projects.
    pub project: Ttl,
    /// Exports of tasks.
    pub task: Ttl,
    /// Exports of jobs.
    pub job: Ttl,
    /// Tables of audit events.
    pub events: Ttl,
}

/// The settings that the zones depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ZoneSettings {
    /// How long exports may stay unused.
    pub ttls: ExportTtls,
    /// How long temporary entries may stay unused.
    pub retention: Ttl,
    /// Which time of a temporary entry is its last use.
    pub last_use: LastUse,
    /// How long old export caches may stay unused; `None` asks for no age.
    pub older_than: Option<Ttl>,
}

/// When a zone is swept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sweep {
    /// By every run, unless other zones are asked for.
    ByDefault,
    /// By a run that asks for it.
    OnRequest,
    /// By a command of its own (`sweeper legacy`).
    OwnCommand,
}

/// Every zone of CVAT, in the order in which they are swept.
pub fn all(settings: &ZoneSettings) -> Vec<(Zone, Sweep)> {
    let ZoneSettings { ttls, retention, last_use, older_than } = settings;
    vec![
        (export(ttls), Sweep::ByDefault),
        (tmp(*retention, *last_use), Sweep::ByDefault),
        (instance_tmp(*retention, *last_use), Sweep::OnRequest),
        (chunk_cache(*retention), Sweep::OnRequest),
        (legacy(*older_than), Sweep::OwnCommand),
    ]
}

/// The export cache.
pub fn export(ttls: &ExportTtls) -> Zone {
    let ttl_of = |class| match class {
        Class::Project => ttls.project,
        Class::Task => ttls.task,
        Class::Job => ttls.job,
        Class::Events => ttls.events,
    };
    Zone {
        name: ZoneName::new(EXPORT),
        location: Location::flat("cache/export"),
        entry: EntryKind::File,
        names: Names::Parsed(names::class_of),
        last_use: LastUse::Mtime,
        ttls: Class::ALL.map(|class| Expiry::After(ttl_of(class))).to_vec(),
        lock: LockKind::Application,
        describe_name: names::describe,
    }
}

/// The common directory of temporary entries.
pub fn tmp(retention: Ttl, last_use: LastUse) -> Zone {
    temporary(TMP, Location::flat("tmp"), retention, last_use)
}

/// The directories of temporary entries of projects, tasks and jobs.
pub fn instance_tmp(retention: Ttl, last_use: LastUse) -> Zone {
    let location = Location { roots: instances(), shape: Shape::InEach("tmp") };
    temporary(INSTANCE_TMP, location, retention, last_use)
}

fn temporary(name: &str, location: Location, retention: Ttl, last_use: LastUse) -> Zone {
    Zone {
        name: ZoneName::new(name),
        location,
        entry: EntryKind::Any,
        names: Names::Any,
        last_use,
        ttls: vec![Expiry::After(retention)],
        lock: LockKind::Flock,
        describe_name: |_| None,
    }
}

/// The chunks of images that CVAT before 2.6.2 kept below the data root.
pub fn chunk_cache(retention: Ttl) -> Zone {
    Zone {
        name: ZoneName::new(CHUNK_CACHE),
        location: Location::flat("cache"),
        entry: EntryKind::Tree,
        names: Names::Parsed(names::class_of_shard),
        last_use: LastUse::Mtime,
        ttls: vec![Expiry::After(retention)],
        lock: LockKind::Flock,
        describe_name: names::describe_shard,
    }
}

/// The export caches that CVAT before 2.26 kept in the directory of each project, task and job. Without
/// `older_than` they expire at once.
pub fn legacy(older_than: Option<Ttl>) -> Zone {
    Zone {
        name: ZoneName::new(LEGACY),
        location: Location {
            roots: instances(),
            shape: Shape::Fixed(&["export_cache", "tmp/export_cache"]),
        },
        entry: EntryKind::Tree,
        names: Names::Any,
        last_use: LastUse::Tree,
        ttls: vec![older_than.map_or(Expiry::AtOnce, Expiry::After)],
        lock: LockKind::Flock,
        describe_name: names::describe_legacy,
    }
}

fn instances() -> Vec<std::path::PathBuf> {
    INSTANCES.iter().map(Into::into).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn each_class_of_export_has_its_own_ttl() {
        let secs = Ttl::from_secs;
        let zone =
            export(&ExportTtls { project: secs(1), task: secs(2), job: secs(3), events: secs(4) });
        for (name, ttl) in [
            ("project-1-backup-instance1.5.zip", 1),
            ("task-1-dataset-instance1.5-coco-10.zip", 2),
            ("job-1-annotations-instance1.5-coco-10.zip", 3),
            ("events-0b9b1f2e.csv", 4),
        ] {
            let class = zone.names.class_of(name.as_bytes()).unwrap();
            assert_eq!(zone.ttls[class.0], Expiry::After(secs(ttl)), "{name}");
        }
        assert_eq!(zone.names.class_of(b"task-1.zip"), None);
    }

    #[test]
    fn each_path_is_in_its_zone_and_what_is_never_touched_in_none() {
        let ttls = {
            let day = Ttl::from_secs(86_400);
            ExportTtls { project: day, task: day, job: day, events: day }
        };
        let any = Ttl::from_secs(1);
        let zones = [
            export(&ttls),
            tmp(any, LastUse::Tree),
            instance_tmp(any, LastUse::Tree),
            legacy(None),
        ];
        let zone_of = |path: &str| {
            let zone = zones.iter().find(|zone| zone.location.entry_of(Path::new(path)).is_some());
            zone.map(|zone| zone.name.as_str())
        };
        for (path, zone) in [
            ("cache/export/a.zip", Some(EXPORT)),
            ("tmp/x/deep/in/it", Some(TMP)),
            ("tasks/7/tmp/f", Some(INSTANCE_TMP)),
            ("jobs/a/tmp/f", Some(INSTANCE_TMP)),
            ("jobs/7/export_cache/f.ZIP", Some(LEGACY)),
            ("jobs/x/export_cache", None),
            ("tasks/7/manifest.jsonl", None),
            ("cache/000/x.val", None),
        ] {
            assert_eq!(zone_of(path), zone, "{path}");
        }
        for path in NEVER_TOUCHED {
            assert_eq!(zone_of(path), None, "{path}");
            assert_eq!(zone_of(&format!("{path}/7")), None, "{path}");
        }
        assert!(zones[3].location.entry_of(Path::new("tasks/7/tmp/export_cache")).is_some());
    }

    #[test]
    fn old_caches_expire_at_once_unless_an_age_is_given() {
        assert_eq!(legacy(None).ttls, [Expiry::AtOnce]);
        let week = Ttl::from_secs(604_800);
        assert_eq!(legacy(Some(week)).ttls, [Expiry::After(week)]);
    }
}
