//! The removal of a tree was interrupted, and the next pass has other settings: its rules, its globs and its guards
//! decide about what is left.

use super::next_pass::is_reported_as_returned;
use super::{count, paused, quarantined, tree};
use crate::world::{World, assert_counts};

/// What a killed pass with these settings has left of a tree, and the number of files in that.
fn interrupted(world: &World, args: &[&str]) -> usize {
    tree(world, 800);
    drop(paused(world, args, 120));
    let left = count(&quarantined(world).join("sub"));
    assert!(left > 600, "{left}");
    left
}

/// Asserts that the tree has its name again, with all that was left of it.
#[track_caller]
fn is_returned(world: &World, left: usize) {
    assert_eq!(count(&world.path("tmp/tree/sub")), left);
    assert_eq!(count(&world.path("tmp")), 1, "the private directory is left");
}

#[test]
fn what_is_left_of_a_tree_that_is_excluded_now_is_not_removed() {
    for exclude in ["tree", "tmp/tree"] {
        let world = World::new();
        let left = interrupted(&world, &[]);
        let run = world.run(&["run", "--format", "json", "--exclude", exclude]);
        is_reported_as_returned(&run, &world, "excluded", exclude);
        is_returned(&world, left);
    }
}

#[test]
fn what_is_left_of_a_tree_that_has_not_expired_now_is_not_removed() {
    for age in ["entry", "tree"] {
        let world = World::new();
        let age = ["--tmp-age", age, "--retention"];
        let left = interrupted(&world, &[&age[..], &["1d"]].concat());
        let longer = ["run", "--format", "json", "--tmp-age", age[1], "--retention", "30d"];
        is_reported_as_returned(&world.run(&longer), &world, "fresh", age[1]);
        is_returned(&world, left);
    }
}

/// The removal moves the times of directories itself, so they do not make the rest fresh.
#[test]
fn what_is_left_of_an_expired_tree_is_removed_by_the_same_settings() {
    for age in ["entry", "tree"] {
        let world = World::new();
        let settings = ["--tmp-age", age, "--retention", "15d"];
        interrupted(&world, &settings);
        let run = world.run(&[&["run", "--format", "json"], &settings[..]].concat());
        let report = run.exits(0).json();
        assert_counts(&report, "tmp", &[("seen", 1), ("removed", 1)]);
        assert_eq!(count(&world.path("tmp")), 0);
    }
}
