//! What users and scripts see: commands, settings, refusals, reports and exit codes.

mod guards;
mod migration;
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
