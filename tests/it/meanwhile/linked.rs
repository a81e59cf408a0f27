//! Trees with hard links: the removal of one name of a file moves the ctime of all of them, so that it does not
//! tell what was added.

use std::fs::{File, hard_link};

use rustix::fs::{AtFlags, linkat};

use super::next_pass::is_reported_as_returned;
use super::{count, paused, quarantined, tree};
use crate::paused::{Moment, Paused};
use crate::world::{DAY, Run, World, assert_counts, sweeper};

/// A process that adds names faster than they are removed would keep the pass at work for as long as it likes.
#[test]
fn names_of_a_file_that_are_added_to_a_tree_while_it_is_removed_end_its_removal() {
    const ADDED: usize = 300;
    let world = World::new();
    let sub = tree(&world, 800).join("sub");
    let seed = world.file("elsewhere/seed", 20 * DAY);
    hard_link(&seed, sub.join("link")).unwrap();
    world.age_dirs("tmp", 20 * DAY);
    let (seed, open) = (File::open(seed.parent().unwrap()).unwrap(), File::open(&sub).unwrap());
    let pass = paused(&world, &[], 120);
    for number in 0..ADDED {
        linkat(&seed, "seed", &open, format!("added-{number}"), AtFlags::empty()).unwrap();
    }
    let report = pass.finish().exits(1).json();
    assert_counts(&report, "tmp", &[("removed", 0), ("failed", 1)]);
    let message = report["failures"][0]["message"].as_str().unwrap();
    assert!(message.contains("used"), "{message}");
    let names = sub.read_dir().unwrap().flatten();
    let left = names.filter(|name| name.file_name().to_str().unwrap().starts_with("added"));
    // The first of its names counts as the one that was there.
    assert!(left.count() >= ADDED - 1);
}

#[test]
fn a_removal_that_is_killed_before_the_first_of_several_names_went_is_completed() {
    let world = World::new();
    let sub = tree(&world, 30).join("sub");
    for number in 0..10 {
        hard_link(sub.join("file-0"), world.path(format!("tmp/tree/link-{number}"))).unwrap();
    }
    world.age_dirs("tmp", 20 * DAY);
    // The second rename says that the removal begins.
    let moment = Moment::of("renameat2", 2);
    drop(Paused::at(&world, &[], 4096, &moment).unwrap_or_else(|run| panic!("{}", run.stdout)));
    let report = world.run(&["run", "--format", "json"]).exits(0).json();
    assert_counts(&report, "tmp", &[("seen", 1), ("removed", 1)]);
    assert_eq!(count(&world.path("tmp")), 0);
}

/// Our removal of one name and the use of another process look the same afterwards, so that the rest stays.
#[test]
fn the_rest_of_a_removal_that_is_killed_between_names_of_a_file_is_returned_and_said_to_be_a_part()
{
    let world = World::new();
    let sub = tree(&world, 30).join("sub");
    for number in 0..40 {
        hard_link(sub.join("file-0"), sub.join(format!("link-{number}"))).unwrap();
    }
    world.age_dirs("tmp", 20 * DAY);
    drop(paused(&world, &[], 35));
    let rest = quarantined(&world).join("sub");
    let left = count(&rest);
    let names = (0..40).filter(|number| rest.join(format!("link-{number}")).exists()).count();
    assert!(names > 0 && names < 40, "some of its names are gone: {names} are left");
    let report = world.run(&["run", "--format", "json"]);
    is_reported_as_returned(&report, &world, "lost one of several names", "linked");
    assert_eq!(count(&world.path("tmp/tree/sub")), left, "nothing more is removed");
    // From then on it is a tree like any other, that was used when its removal was interrupted.
    let later = ["run", "--format", "json", "--now", "2099-01-01T00:00:00Z"];
    assert_counts(&Run::of(later_at(&world, &later)).exits(0).json(), "tmp", &[("removed", 1)]);
}

/// A command with a moment of its own.
fn later_at(world: &World, args: &[&str]) -> std::process::Command {
    let mut command = sweeper(args);
    command.arg("--data").arg(&world.root);
    command
}

/// The disk is too full for a private directory. The removal of one name of a file moves the ctime of the others.
#[test]
fn a_tree_with_several_names_of_a_file_is_removed_where_it_cannot_be_renamed() {
    for others in [false, true] {
        let world = World::new();
        tree(&world, 3);
        for number in 0..3 {
            let link = if others { "tmp/other/link" } else { "tmp/tree/links/link" };
            let link = world.path(format!("{link}-{number}"));
            std::fs::create_dir_all(link.parent().unwrap()).unwrap();
            hard_link(world.path(format!("tmp/tree/sub/file-{number}")), link).unwrap();
        }
        world.age_dirs("tmp", 20 * DAY);
        let moment = Moment { failure: Some(("mkdirat", "ENOSPC")), ..Moment::of("mkdirat", 1) };
        let paused = Paused::at(&world, &[], 4096, &moment);
        let paused = paused.unwrap_or_else(|run| panic!("{}", run.stdout));
        let trees = 1 + u64::from(others);
        let report = paused.finish().exits(0).json();
        assert_counts(&report, "tmp", &[("seen", trees), ("removed", trees)]);
        assert_eq!(count(&world.path("tmp")), 0);
    }
}
