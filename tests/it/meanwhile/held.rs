//! A process works in a directory of a tree, and locks it while the tree is being removed.

use std::fs::File;
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock};

use super::{count, paused, quarantined};
use crate::world::{DAY, World, assert_counts};

const FILES: usize = 100;

/// As `sweeper hold .` does. It is granted, so the files stay.
#[test]
fn a_directory_that_is_locked_during_the_removal_of_its_tree_keeps_its_files() {
    for removals in [1, 20, FILES + 20] {
        let world = World::new();
        for dir in ["a", "b", "c/d"] {
            for number in 0..FILES {
                world.file(format!("tmp/tree/{dir}/file-{number}"), 20 * DAY);
            }
        }
        world.age_dirs("tmp", 20 * DAY);
        let pass = paused(&world, &[], removals);
        let dirs = ["a", "b", "c/d"].map(|dir| quarantined(&world).join(dir));
        let whole: Vec<&PathBuf> = dirs.iter().filter(|dir| count(dir) == FILES).collect();
        let dir = File::open(whole[0]).unwrap();
        flock(&dir, FlockOperation::NonBlockingLockShared).unwrap();
        let report = pass.finish().exits(1).json();
        assert_counts(&report, "tmp", &[("removed", 0), ("failed", 1)]);
        let message = report["failures"][0]["message"].as_str().unwrap();
        assert!(message.contains("locked"), "{message}");
        let held =
            PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&dir)));
        assert_eq!(count(&held), FILES, "after {removals}");
        assert!(world.has("tmp/tree"), "after {removals}");
    }
}
