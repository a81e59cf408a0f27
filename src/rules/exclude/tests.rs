//! Tests of exclusions.

use super::super::names::{Names, Patterns};
use super::super::verdict::tests;
use super::super::zone::{Expiry, LastUse, Location, Shape};
use super::*;

fn zone_at(location: Location, entry: EntryKind, names: Names) -> Zone {
    Zone { location, ..tests::zone(entry, names, LastUse::Mtime, Expiry::AtOnce) }
}

/// Files, anything, anything in directories of tasks, and trees beside the directory of the first.
fn zones() -> [Zone; 4] {
    let tasks = Location { roots: vec!["tasks".into()], shape: Shape::InEach("tmp") };
    let patterns = |pattern| Names::Patterns(Patterns::new(&[pattern]).unwrap());
    [
        zone_at(Location::flat("cache/export"), EntryKind::File, patterns(".*[.]zip")),
        zone_at(Location::flat("tmp"), EntryKind::Any, Names::Any),
        zone_at(tasks, EntryKind::Any, Names::Any),
        zone_at(Location::flat("cache"), EntryKind::Tree, patterns("[0-9]{3}")),
    ]
}

fn exclude(globs: &[&str]) -> Result<Exclude, String> {
    let globs: Vec<String> = globs.iter().map(|glob| (*glob).to_owned()).collect();
    Exclude::new(&globs, &zones().iter().collect::<Vec<_>>())
}

#[test]
fn a_glob_without_a_slash_is_matched_against_the_name_and_others_against_the_path() {
    let exclude = exclude(&["*.zip", "./tmp/keep-*/", "tmp/keep/**", "tasks/*/tmp/x"]).unwrap();
    for (dir, name, covered) in [
        ("cache/export", c"a.zip", true),
        ("cache/export", c"a.csv", false),
        ("tmp", c"keep-1", true),
        ("tmp", c"keep", true),
        ("tmp", c"kept", false),
        ("tasks/7/tmp", c"x", true),
        ("jobs/7/tmp", c"x", false),
    ] {
        assert_eq!(exclude.covers(Path::new(dir), name), covered, "{dir}/{name:?}");
    }
}

#[test]
fn globs_that_matched_nothing_are_known() {
    let globs = ["*.zip", "tmp", "tmp//keep/./**", "tasks/*/tmp/x"];
    let watched = exclude(&globs).unwrap().watched();
    assert!(watched.unmatched().eq(globs));
    let [export, tmp, tasks, _] = &zones();
    watched.observe(tmp, Path::new("tmp"), c"keep");
    watched.observe(export, Path::new("cache/export"), c"a.zip");
    watched.observe(export, Path::new("cache/export"), c"b.zip");
    watched.observe(tasks, Path::new("jobs/7/tmp"), c"x");
    assert!(watched.unmatched().eq(["tmp", "tasks/*/tmp/x"]));
    assert!(watched.watched().unmatched().eq(globs), "each pass begins anew");
    assert_eq!(exclude(&globs).unwrap().unmatched().count(), 0, "it is not asked");
}

#[test]
fn a_glob_that_can_match_no_entry_is_refused() {
    for glob in
        ["", "cache/exports/*", "data/1", "events/x", "/tmp/x", "tasks/1/x/y", ".", "tmp/../tmp/x"]
    {
        assert!(exclude(&[glob]).is_err(), "{glob:?}");
    }
    let error = exclude(&["tmp/keep/file"]).unwrap_err();
    assert!(error.contains("exclude \"tmp/keep\""), "{error}");
    let error = exclude(&["tmp//keep/file"]).unwrap_err();
    assert!(error.contains("exclude \"tmp/keep\""), "{error}");
    for glob in
        ["**/x", "t?p/x", "x/", "./x", "{tmp,x}", "*/*/x", "tmp/**", "tasks/**/x", "{tmp,cache}/x"]
    {
        assert!(exclude(&[glob]).is_ok(), "{glob}");
    }
    assert!(exclude(&["[a"]).is_err());
}

#[test]
fn a_directory_of_entries_is_refused_and_one_that_a_glob_matches_is_no_match() {
    for (glob, why, all) in [
        ("cache/export", "the directory of zone z", "cache/export/**"),
        (".//cache/./export/", "the directory of zone z", "cache/export/**"),
        ("tasks/7", "a directory of zone z", "tasks/7/**"),
        ("tasks/7/tmp/", "a directory of zone z", "tasks/7/tmp/**"),
        ("tmp/", "the directory of zone z", "tmp/**"),
        ("./tmp", "the directory of zone z", "tmp/**"),
        ("{tmp,cache}/", "a directory of zone z", "{tmp,cache}/**"),
        ("export/", "a directory of zone z", "cache/export/**"),
    ] {
        let error = exclude(&[glob]).unwrap_err();
        assert_eq!(error, format!("it is {why}, and not an entry: exclude {all:?}"), "{glob}");
        assert!(exclude(&[all]).is_ok(), "{glob}");
    }
    assert!(exclude(&["cache/x"]).is_err(), "no zone has such an entry");
    let globs = ["cache/000", "cache/*", "cache/export/notes"];
    let watched = exclude(&globs).unwrap().watched();
    let [export, .., trees] = &zones();
    watched.observe(trees, Path::new("cache"), c"export");
    assert!(watched.unmatched().eq(globs), "it is beside the trees");
    watched.observe(trees, Path::new("cache"), c"001");
    watched.observe(export, Path::new("cache/export"), c"notes");
    assert!(watched.unmatched().eq(["cache/000"]));
}

#[test]
fn a_glob_bears_on_the_zones_whose_entries_it_can_match_or_lie_below_it() {
    let bears = |glob: &str| {
        zones().map(|zone| {
            let Bearing { can_match, is_above } = bearing(glob, &zone);
            (can_match, is_above)
        })
    };
    let (not, matches, above) = ((false, false), (true, false), (false, true));
    for (glob, expected) in [
        ("tmp", [not, (true, true), (true, true), not]),
        ("{tmp,x}", [matches, (true, true), (true, true), matches]),
        ("export", [above, matches, matches, not]),
        ("*", [matches; 4]),
        ("**/tmp", [matches, (true, true), (true, true), matches]),
        ("**/x", [matches; 4]),
        ("**/*", [matches; 4]),
        ("tmp/**", [not, matches, not, not]),
        ("*.zip", [matches; 4]),
        ("cache/e*", [above, not, not, matches]),
        ("cache/export/**", [matches, not, not, not]),
        ("cache/000", [not, not, not, matches]),
        ("tasks/*/tmp", [not, not, above, not]),
    ] {
        assert_eq!(bears(glob), expected, "{glob}");
    }
}

#[test]
fn a_refused_glob_is_told_each_directory_once() {
    let each = |dir| Location {
        roots: vec!["projects".into(), "tasks".into()],
        shape: Shape::InEach(dir),
    };
    let locations = [each("tmp"), each("old"), Location::flat("tmp")];
    let zones = locations.map(|location| zone_at(location, EntryKind::Any, Names::Any));
    let zones: Vec<&Zone> = zones.iter().collect();
    let error = Exclude::new(&["a/b".to_owned()], &zones).unwrap_err();
    assert!(error.ends_with("begins with one of projects, tasks, tmp"), "{error}");
}
