//! What users and scripts see: commands, settings, refusals, reports and exit codes.

mod advice;
mod every_source;
mod guards;
mod messages;
mod migration;
mod newcomer;
mod places;
mod report;
mod roots;
mod settings;
mod settings_file;
mod times;
mod usage;
mod why;
mod width;

use crate::world::{Run, sweeper};

/// The program with these arguments alone.
fn run(args: &[&str]) -> Run {
    Run::of(sweeper(args))
}

#[test]
fn help_is_also_a_command() {
    for (command, flag) in
        [(&["help"][..], &["--help"][..]), (&["help", "run"], &["run", "--help"])]
    {
        let (command, flag) = (run(command), run(flag));
        assert_eq!(command.exits(0).stdout, flag.exits(0).stdout);
    }
    assert!(!run(&["man"]).exits(0).stdout.contains("sweeper help"), "it is no command of its own");
}

#[test]
fn what_is_for_data_roots_says_what_to_do_for_a_clearml_server() {
    for command in ["plan", "apply", "usage"] {
        let run = run(&["clearml", command, "x"]);
        assert!(run.exits(2).stderr.contains("`sweeper clearml run --dry-run"), "{}", run.stderr);
    }
    for zone in ["clearml-tasks", "clearml-files", "clearml-orphans"] {
        for command in [&["run"][..], &["plan", "--output", "p"]] {
            let run = run(&[command, &["--zones", zone]].concat());
            assert!(run.exits(2).stderr.contains("`sweeper clearml run`"), "{}", run.stderr);
        }
    }
}
