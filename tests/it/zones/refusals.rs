//! Zones that are refused, with the line of the settings file that is wrong. Nothing is removed then.

use std::fs;
use std::os::unix::fs::symlink;

use super::Zones;
use crate::world::{DAY, World};

impl Zones {
    /// Runs a pass with these settings, which are refused because of line `line`.
    #[track_caller]
    fn assert_refused(&self, settings: &str, line: usize, words: &str) {
        fs::write(&self.settings, settings).unwrap();
        for command in ["run", "config", "why"] {
            let args: &[&str] = if command == "why" { &["why", "/data/x"] } else { &[command] };
            if command == "config" && words.starts_with("directory: ") {
                // Which directories there are is not known before they are opened.
                continue;
            }
            let run = self.run(args);
            let place = format!("settings file {:?}, line {line}: ", self.settings);
            let words = words.trim_start_matches("directory: ");
            assert!(run.stderr.contains(&place), "{command}: {place}{words}: {}", run.stderr);
            assert!(run.stderr.contains(words), "{command}: {words}: {}", run.stderr);
            run.exits(2);
        }
        assert_eq!(self.old().len(), 3, "{words}");
    }

    /// The settings with `old` replaced by `new`, and the line of `new`.
    #[track_caller]
    fn changed(&self, old: &str, new: &str) -> (String, usize) {
        let good = fs::read_to_string(&self.settings).unwrap();
        let at = good.find(old).unwrap_or_else(|| panic!("{old}"));
        let line = good[..at].matches('\n').count() + 1 + new.matches('\n').count();
        (good.replacen(old, new, 1), line)
    }
}

#[test]
fn what_is_wrong_is_refused_with_its_line() {
    let zones = Zones::new("profile = 'none'");
    let good = fs::read_to_string(&zones.settings).unwrap();
    for (old, new, words) in [
        ("path = 'exports'", "path = '../exports'", "a path has no .."),
        ("path = 'exports'", "path = 'a/../exports'", "a path has no .."),
        ("path = 'exports'", "path = '/'", "the root of the file system"),
        ("path = 'exports'", "path = '/etc'", "directory: it is a system directory"),
        ("path = 'exports'", "path = '/var'", "directory: it is a system directory"),
        ("ttl = '7d'", "ttl = '7'", "write 7h for hours, 7d for days"),
        ("used = 'mtime'", "used = 'ctime'", "write mtime, tree, atime or entry"),
        ("used = 'mtime'", "lock = 'redis'", "write flock or none"),
        ("names = ['project-", "names = ['.*', 'project-", "matches every name"),
        ("names = ['project-", "names = ['[^/]+', 'project-", "matches every name"),
        ("entry = 'file'", "entry = 'file'\nlok = 'flock'", "did you mean lock?"),
        ("name = 'render-cache'", "name = 'label-exports'", "already a zone with this name"),
    ] {
        let (settings, line) = zones.changed(old, new);
        zones.assert_refused(&settings, line, words);
        fs::write(&zones.settings, &good).unwrap();
    }
    // What is missing has no line of its own, so it is that of the table.
    for (line, words) in [
        ("names = [", "names is missing"),
        ("ttl = '7d'", "ttl is missing"),
        ("entry = 'file'", "entry is missing"),
    ] {
        let lines = good.lines().filter(|other| !other.starts_with(line));
        let settings = lines.collect::<Vec<_>>().join("\n");
        let table = good.lines().position(|line| line == "[[zone]]").unwrap() + 1;
        zones.assert_refused(&settings, table, words);
    }
}

#[test]
fn zones_that_overlap_are_refused() {
    let zones = Zones::new("");
    let (good, scratch) = (fs::read_to_string(&zones.settings).unwrap(), &zones.scratch);
    let inside = scratch.join("old/sub");
    let in_root = zones.world.path("exports");
    for (old, new, words) in [
        ("'exports'", "'tmp'".to_owned(), "of zone \"tmp\""),
        ("'exports'", "'tmp/mine'".to_owned(), "of zone \"tmp\""),
        ("'exports'", "'cache/export/mine'".to_owned(), "of zone \"export\""),
        ("'exports'", "'cache'".to_owned(), "it overlaps"),
        ("'exports'", "'tasks/7'".to_owned(), "it overlaps"),
        ("'exports'", "'data'".to_owned(), "which holds what CVAT needs"),
        ("'exports'", format!("'{}'", in_root.display()), "below the data root"),
    ] {
        let (settings, line) = zones.changed(old, &new);
        zones.assert_refused(&settings, line, words);
        fs::write(&zones.settings, &good).unwrap();
    }
    // One zone in a tree of another: the second of the two is named.
    let (settings, _) = zones.changed("'exports'", &format!("'{}'", inside.display()));
    let (_, line) = zones.changed(&format!("'{}'", scratch.display()), "");
    zones.assert_refused(&settings, line, "of zone \"label-exports\"");
}

#[test]
fn what_a_cvat_needs_is_not_swept_with_any_profile() {
    let zones = Zones::new("profile = 'none'");
    let good = fs::read_to_string(&zones.settings).unwrap();
    let media = zones.world.file("data/12/video.mp4", 400 * DAY);
    zones.world.file("projects/7/x", 400 * DAY);
    zones.world.file("cache/events/x", 400 * DAY);
    zones.world.file("logs/x", 400 * DAY);
    for path in ["data", "data/12", "projects/7", "cache", "logs"] {
        let (settings, line) = zones.changed("'exports'", &format!("'{path}'"));
        let words = "in it holds what CVAT needs, also with profile none";
        zones.assert_refused(&settings, line, words);
        fs::write(&zones.settings, &good).unwrap();
    }
    // The data root of another CVAT, with either profile.
    let other = World::new();
    let far = other.file("data/12/video.mp4", 400 * DAY);
    for profile in ["profile = 'none'", ""] {
        let zones = Zones::new(profile);
        let path = far.parent().unwrap().display();
        let (settings, line) = zones.changed("'exports'", &format!("'{path}'"));
        let words = format!("{:?} is a data root of CVAT, and \"data\" in it", other.root);
        zones.assert_refused(&settings, line, &words);
    }
    assert!(media.exists() && far.exists());
}

#[test]
fn a_link_does_not_lead_a_zone_where_it_may_not_be() {
    let zones = Zones::new("profile = 'none'");
    let good = fs::read_to_string(&zones.settings).unwrap();
    let link = zones.world.root.parent().unwrap().join("link");
    for (target, words) in [
        (zones.world.path("exports"), "directory: it is below the data root"),
        (zones.world.root.clone(), "directory: it is below the data root"),
        (zones.world.root.parent().unwrap().to_owned(), "directory: it contains the data root"),
        ("/usr".into(), "directory: it is a system directory"),
        (zones.scratch.clone(), "of zone \"render-cache\", by a link or a mount"),
        (zones.scratch.join("old"), "of zone \"render-cache\", by a link or a mount"),
    ] {
        symlink(&target, &link).unwrap();
        let (settings, first) = zones.changed("'exports'", &format!("'{}'", link.display()));
        zones.assert_refused(&settings, first, words);
        fs::write(&zones.settings, &good).unwrap();
        fs::remove_file(&link).unwrap();
    }
    // Below the data root no link is followed.
    zones.world.link("other", zones.world.root.with_file_name("elsewhere"), 0);
    let (settings, _) = zones.changed("'exports'", "'other'");
    fs::write(&zones.settings, settings).unwrap();
    let run = zones.run(&["run"]);
    assert!(run.exits(1).stdout.contains("links are not followed"), "{}", run.stdout);
    assert!(zones.world.has("exports/project-1-at-noon.zip"));
}
