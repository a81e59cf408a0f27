//! The flags of commands, made from the table of settings.
//!
//! It must not know a command.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches};

use super::texts;
use crate::config::settings::Use;
use crate::config::settings::{self, Setting, Takes};
use crate::config::{Flags, Verbosity};

/// What the definition of the command line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// To read arguments, and for the help.
    Help,
    /// For the manual page: options are not grouped, and their choices are part of the text.
    Manual,
}

/// The settings that were given as flags.
pub(super) fn flags(matches: &ArgMatches) -> Flags {
    let mut flags = Flags::new();
    for setting in settings::all() {
        if setting.is_switch() {
            if let Ok(Some(true)) = matches.try_get_one::<bool>(setting.key) {
                flags.insert(setting.key, vec![String::new()]);
            }
        } else if let Ok(Some(texts)) = matches.try_get_many::<String>(setting.key) {
            flags.insert(setting.key, texts.cloned().collect());
        }
    }
    flags
}

/// How much to print.
pub(super) fn verbosity(matches: &ArgMatches) -> Verbosity {
    let is_set = |id| matches!(matches.try_get_one::<bool>(id), Ok(Some(true)));
    if is_set("quiet") {
        Verbosity::Quiet
    } else if is_set("verbose") {
        Verbosity::Verbose
    } else {
        Verbosity::Normal
    }
}

/// A command that sweeps.
pub(super) fn sweep(
    name: &'static str,
    about: &'static str,
    command: Use,
    look: Look,
) -> clap::Command {
    let verbose = Arg::new("verbose")
        .short('v')
        .long("verbose")
        .action(ArgAction::SetTrue)
        .conflicts_with("quiet")
        .help("Print what happens to every entry, including those that are kept");
    with_settings(name, about, look, |setting| setting.applies_to(command))
        .arg(verbose)
        .mut_arg("quiet", |quiet| quiet.help("Print nothing unless something fails"))
}

/// A command with the flags of some settings.
pub(super) fn with_settings(
    name: &'static str,
    about: &'static str,
    look: Look,
    has: impl Fn(&Setting) -> bool,
) -> clap::Command {
    let sweeps =
        ["run", "serve", "plan", "apply", "orphans"].contains(&name) || about == texts::LEGACY;
    let flags = settings::all().filter(|setting| has(setting));
    let flags = flags.map(|setting| flag(setting, sweeps, look));
    let quiet = Arg::new("quiet")
        .short('q')
        .long("quiet")
        .action(ArgAction::SetTrue)
        .help("Do not print warnings");
    clap::Command::new(name).about(about).args(flags).arg(quiet)
}

fn flag(setting: &'static Setting, sweeps: bool, look: Look) -> Arg {
    // Only a sweep has entries to print as they happen.
    let choices = setting.choices.iter().filter(|choice| sweeps || **choice != "jsonl");
    let choices: Vec<&str> = choices.copied().collect();
    let mut help = setting.help.to_owned();
    if look == Look::Manual && !choices.is_empty() {
        help = format!("{help} [one of: {}]", choices.join(", "));
    }
    if let Some(default) = setting.default {
        help = format!("{help} [default: {default}]");
    }
    let arg = Arg::new(setting.key).long(setting.long()).hide(setting.is_hidden()).help(help);
    let arg = arg.aliases(other_names(setting));
    let arg = if look == Look::Help { arg.help_heading(setting.group) } else { arg };
    let arg = match setting.takes {
        Takes::Nothing => return arg.action(ArgAction::SetTrue),
        Takes::One(name) => arg.value_name(name).action(ArgAction::Set),
        Takes::Many(name) => arg.value_name(name).action(ArgAction::Append),
        Takes::OnOff => arg
            .value_name("BOOL")
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
    };
    if choices.is_empty() {
        return arg;
    }
    arg.value_parser(PossibleValuesParser::new(choices)).hide_possible_values(look == Look::Manual)
}

/// The names that the parameters of the script have on its own, and in the web interface.
fn other_names(setting: &Setting) -> Vec<String> {
    const PARAMETERS: [&str; 5] = [
        "delete_threshold_days",
        "archived_age_cleanup_in_days",
        "cleanup_period_in_days",
        "force_delete",
        "run_as_service",
    ];
    let name = setting.key_in_table().filter(|name| PARAMETERS.contains(name));
    name.map(|name| vec![name.to_owned(), format!("General/{name}")]).unwrap_or_default()
}
