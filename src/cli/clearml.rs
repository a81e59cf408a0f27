//! The command line of `sweeper clearml`.
//!
//! This module must not check values: it defines the commands, and says which one was typed.

use std::ffi::OsString;

use clap::{Arg, ArgMatches, Command as Definition};

use super::options::{Look, sweep, with_settings};
use super::texts;
use crate::config::settings::Use;

/// The name of the script that this replaces.
pub(super) const SCRIPT: &str = "cleanup_service";

/// The key of the setting that it has under its name.
pub(super) const COMPAT: &str = "clearml_compat_output";

/// What to do with ClearML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clearml {
    /// One cleanup.
    Run,
    /// Cleanups until told to stop.
    Serve,
    /// Remove folders whose task is gone.
    Orphans,
    /// Show or finish what failed.
    Journal(JournalAction),
    /// What a cleanup would do with each of these tasks.
    Why(Vec<String>),
}

/// What to do with the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalAction {
    /// List what is in it.
    List,
    /// Try again what failed.
    Retry,
    /// Forget files that nothing deletes.
    Forget,
}

/// Says what to do in place of a command that is for data roots and not for a server.
pub(super) fn of_data_roots(args: &[OsString]) -> Option<clap::Error> {
    let [_, first, command, ..] = args else { return None };
    let instead = match (first.to_str()?, command.to_str()?) {
        ("clearml", "plan" | "apply") => {
            "there are no plan files for a ClearML server: `sweeper clearml run --dry-run --format \
             jsonl` lists what a run would delete, and each run checks all of it again"
        }
        ("clearml", "usage") => {
            "usage is measured below a data root: `sweeper clearml run --dry-run` counts the tasks, \
             files and bytes of a ClearML server that a run would delete"
        }
        _ => return None,
    };
    Some(clap::Error::raw(clap::error::ErrorKind::InvalidSubcommand, format!("{instead}\n")))
}

/// All commands of `sweeper clearml`.
pub(super) fn command(look: Look) -> Definition {
    let settings = |name, about, of| with_settings(name, about, look, move |it| it.applies_to(of));
    let action = Arg::new("action")
        .value_name("ACTION")
        .value_parser(["list", "retry", "forget"])
        .default_value("list")
        .hide_possible_values(look == Look::Manual)
        .help("List what is unfinished, finish it, or forget files that nothing deletes");
    Definition::new("clearml")
        .about(texts::CLEARML)
        .subcommand_required(true)
        .subcommand_value_name("COMMAND")
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .subcommand(
            sweep("run", texts::CLEARML_RUN, Use::ClearmlRun, look)
                .after_help(texts::clearml(texts::CLEARML_CODES)),
        )
        .subcommand(serve("serve", look).visible_alias(SCRIPT))
        .subcommand(
            sweep("orphans", texts::CLEARML_ORPHANS, Use::ClearmlOrphans, look)
                .after_help(texts::clearml(texts::CLEARML_CODES)),
        )
        .subcommand(
            settings("journal", texts::CLEARML_JOURNAL, Use::ClearmlJournal)
                .arg(action)
                .after_help(texts::clearml(texts::CLEARML_ANSWERS)),
        )
        .subcommand(
            settings("why", texts::CLEARML_WHY, Use::ClearmlWhy)
                .arg(
                    Arg::new("task")
                        .value_name("TASK_ID")
                        .num_args(1..)
                        .required(true)
                        .help("The tasks to explain"),
                )
                .after_help(texts::clearml(texts::CLEARML_ANSWERS)),
        )
}

fn serve(name: &'static str, look: Look) -> Definition {
    sweep(name, texts::CLEARML_SERVE, Use::ClearmlServe, look)
        .after_help(texts::clearml(texts::CLEARML_CODES))
}

/// The command line under the name of the script.
pub(super) fn script(look: Look) -> Definition {
    serve(SCRIPT, look).bin_name(SCRIPT).version(env!("CARGO_PKG_VERSION"))
}

/// Which command was typed, and its arguments.
pub(super) fn read(matches: &ArgMatches) -> (Clearml, &ArgMatches) {
    let (name, matches) = matches.subcommand().unwrap_or(("", matches));
    let command = match name {
        "serve" => Clearml::Serve,
        "orphans" => Clearml::Orphans,
        "journal" => {
            Clearml::Journal(match matches.get_one::<String>("action").map(String::as_str) {
                Some("retry") => JournalAction::Retry,
                Some("forget") => JournalAction::Forget,
                _ => JournalAction::List,
            })
        }
        "why" => Clearml::Why(
            matches.get_many::<String>("task").into_iter().flatten().cloned().collect(),
        ),
        _ => Clearml::Run,
    };
    (command, matches)
}
