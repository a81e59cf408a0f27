//! What users and scripts see: commands, settings, refusals, reports and exit codes.

mod guards;
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
