//! Zones of the settings file, end to end.

mod around;
mod refusals;

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::world::{DAY, Run, World, assert_counts, set_age, zone};

/// A data root with a zone of files below it and a zone of trees elsewhere.
struct Zones {
    world: World,
    settings: PathBuf,
    /// Where the zone of trees is.
    scratch: PathBuf,
}

/// The files in the first zone that have expired, and those that it keeps.
const OLD: [&str; 2] = ["exports/project-1-at-noon.zip", "exports/project-22-at-.json"];
const KEPT: [&str; 5] = [
    "exports/project-3-at-noon.zip",
    "exports/project-x-at-noon.zip",
    "exports/project-1-at-noon.zip.part",
    "exports/my-project-1-at-noon.zip",
    "exports/notes",
];

impl Zones {
    fn new(top: &str) -> Self {
        let world = World::new();
        for path in OLD.iter().chain(&KEPT) {
            world.file(path, 8 * DAY);
        }
        // Recognized, but used six days ago.
        world.file(KEPT[0], 6 * DAY);
        // What CVAT's zones would remove.
        world.file("tmp/old", 400 * DAY);
        let scratch = world.root.parent().unwrap().join("scratch");
        for (tree, age) in [("old", 31 * DAY), ("fresh", 31 * DAY)] {
            world.file(scratch.join(tree).join("sub/file"), age);
        }
        world.age_dirs(&scratch, 31 * DAY);
        set_age(&scratch.join("fresh/sub/file"), DAY);
        let settings = world.root.parent().unwrap().join("sweeper.toml");
        let text = format!(
            r"{top}
[[zone]]
name = 'label-exports'
path = 'exports'
entry = 'file'
names = ['project-\d+-at-.*\.(zip|json)']
used = 'mtime'
ttl = '7d'

[[zone]]
name = 'render-cache'
path = '{}'
entry = 'tree'
used = 'tree'
ttl = '30d'
",
            scratch.display()
        );
        fs::write(&settings, text).unwrap();
        Self { world, settings, scratch }
    }

    fn run(&self, args: &[&str]) -> Run {
        let mut command = self.world.command(args);
        command.arg("--config").arg(&self.settings);
        Run::of(command)
    }

    fn report(&self, args: &[&str]) -> Value {
        let mut all = vec!["run", "--format", "json"];
        all.extend(args);
        self.run(&all).exits(0).json()
    }

    /// The expired entries that are still there.
    fn old(&self) -> Vec<&'static str> {
        let mut all: Vec<_> = OLD.into_iter().filter(|path| self.world.has(path)).collect();
        all.extend(self.scratch.join("old").exists().then_some("scratch/old"));
        all
    }

    #[track_caller]
    fn assert_kept(&self) {
        for path in KEPT {
            assert!(self.world.has(path), "{path}");
        }
        assert!(self.scratch.join("fresh/sub/file").exists());
    }
}

#[test]
fn zones_of_the_settings_file_are_swept_without_cvat() {
    let zones = Zones::new("profile = 'none'");
    let dry = zones.report(&["--dry-run"]);
    assert_eq!(zones.old().len(), 3);
    let report = zones.report(&[]);
    for report in [&dry, &report] {
        assert_counts(report, "label-exports", &[("removed", 2), ("kept_by.fresh", 1)]);
        assert_counts(report, "label-exports", &[("kept_by.unrecognized", 4)]);
        assert_counts(report, "render-cache", &[("removed", 1), ("kept_by.fresh", 0)]);
        assert_counts(report, "render-cache", &[("skipped_by.used", 1)]);
        assert_eq!(report["zones"].as_array().unwrap().len(), 2);
    }
    assert!(zones.old().is_empty(), "{:?}", zones.old());
    zones.assert_kept();
    assert!(zones.world.has("tmp/old"), "a zone of CVAT was swept");
}

#[test]
fn zones_of_the_settings_file_are_swept_beside_those_of_cvat() {
    let zones = Zones::new("");
    let report = zones.report(&["--lock", "flock"]);
    assert_counts(&report, "label-exports", &[("removed", 2)]);
    assert_counts(&report, "tmp", &[("removed", 1)]);
    assert_eq!(zone(&report, "export")["removed"], 0);
    zones.assert_kept();

    let zones = Zones::new("");
    zones.report(&["--lock", "flock", "--zones", "render-cache"]);
    assert_eq!(zones.old(), OLD);
    assert!(zones.world.has("tmp/old"));
}

#[test]
fn exclusions_shards_lists_and_why_work_with_zones_of_the_settings_file() {
    let zones = Zones::new("profile = 'none'");
    zones.report(&["--exclude", "project-1-*", "--exclude", "old"]);
    assert_eq!(zones.old(), [OLD[0], "scratch/old"]);

    let zones = Zones::new("profile = 'none'");
    let mut removed = 0;
    for shard in ["0/3", "1/3", "2/3"] {
        removed += zones.report(&["--shard", shard])["totals"]["removed"].as_u64().unwrap();
    }
    assert_eq!((removed, zones.old().len()), (3, 0));
    zones.assert_kept();

    let zones = Zones::new("profile = 'none'");
    let list = zones.world.root.parent().unwrap().join("list");
    fs::write(&list, format!("{}\0exports/notes\0", OLD[1])).unwrap();
    zones.report(&["--from0", list.to_str().unwrap()]);
    assert_eq!(zones.old(), [OLD[0], "scratch/old"]);
    zones.assert_kept();

    let path = zones.world.path(OLD[0]);
    let why = zones.run(&["why", path.to_str().unwrap()]);
    assert!(why.exits(0).stdout.contains("label-exports"), "{}", why.stdout);
    let tree = zones.scratch.join("old");
    let why = zones.run(&["why", tree.to_str().unwrap()]);
    assert!(why.exits(0).stdout.contains("render-cache"), "{}", why.stdout);
    assert_eq!(zones.old(), [OLD[0], "scratch/old"]);
}
