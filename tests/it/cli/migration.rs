//! The names of CVAT's own command are the migration, and help and errors speak of that name.

use std::path::PathBuf;
use std::process::Command;

use crate::start::Start;
use crate::world::{DAY, Run, World};

const NAMES: [&str; 2] = ["exportcachecleanup", "cleanuplegacyexportcache"];

/// A link of this name to the program, beside the data root.
fn link(world: &World, name: &str) -> PathBuf {
    let link = world.root.parent().unwrap().join(name);
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_sweeper"), &link).unwrap();
    link
}

#[test]
fn the_names_of_cvats_command_are_the_migration() {
    let world = World::new();
    for name in NAMES {
        world.file("projects/1/export_cache/x", DAY);
        world.file("tasks/2/tmp/export_cache/x", DAY);
        let mut command = Command::new(link(&world, name));
        let run = command.env_clear().arg("--data").arg(&world.root).finish();
        let run = Run::from(run.unwrap());
        assert!(run.exits(0).stdout.contains("removed 2 of 2"), "{}", run.stdout);
        // Without a terminal: plain lines that say how far it is, and no crash.
        for collection in ["projects", "tasks"] {
            let start = format!("legacy {collection}: started\n");
            assert_eq!(run.stderr.matches(&start).count(), 1, "{}", run.stderr);
            let end = format!("legacy {collection}: 1 checked, 1 removed");
            assert_eq!(run.stderr.matches(&end).count(), 1, "{}", run.stderr);
        }
        assert!(run.stderr.ends_with('\n') && !run.stderr.contains('\r'));
        assert!(!world.has("projects/1/export_cache") && world.has("projects/1"));
        assert!(!world.has("tasks/2/tmp/export_cache") && world.has("tasks/2/tmp"));
    }
    world.file("projects/1/export_cache/x", DAY);
    let typed = world.run(&["exportcachecleanup", "--format", "json"]);
    assert_eq!(typed.exits(0).json()["command"], "legacy");
}

#[test]
fn help_and_errors_speak_of_the_name_that_was_called() {
    let world = World::new();
    let old = world.file("projects/1/export_cache/x", DAY);
    for name in NAMES {
        let link = link(&world, name);
        let called =
            |args: &[&str]| Run::from(Command::new(&link).env_clear().args(args).finish().unwrap());
        let usage = format!("Usage: {name} [OPTIONS]\n");
        let help = called(&["--help"]);
        assert!(help.exits(0).stdout.contains(&usage), "{}", help.stdout);
        assert!(help.stdout.contains("--older-than") && help.stdout.contains("Exit codes"));
        assert!(called(&["--version"]).exits(0).stdout.starts_with(&format!("{name} ")));
        for wrong in [&["--zones", "tmp"][..], &["--nonsense"], &["run"], &["--older-than"]] {
            let error = called(wrong);
            assert!(error.exits(2).stdout.is_empty(), "{wrong:?}");
            if wrong != ["--older-than"] {
                assert!(error.stderr.contains(&usage), "{wrong:?}: {}", error.stderr);
            }
            assert!(!error.stderr.contains("sweeper"), "{wrong:?}: {}", error.stderr);
        }
        for said in [&help.stdout, &called(&["-h"]).stdout] {
            for other in ["sweeper legacy", "sweeper [", "Usage: sweeper"] {
                assert!(!said.contains(other), "{other}: {said}");
            }
        }
        // An error of the settings.
        let error = called(&["--older-than", "14", "--data", world.root.to_str().unwrap()]);
        assert!(error.exits(2).stderr.contains("flag --older-than"), "{}", error.stderr);
        assert!(!error.stderr.contains("sweeper legacy"), "{}", error.stderr);
    }
    assert!(old.exists(), "nothing was removed");
}
