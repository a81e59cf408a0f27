//! The flags of commands, made from the table of settings.
//!
//! This module must not know a command.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches};

use super::texts;
use crate::config::settings::Use;
use crate::config::settings::{self, Setting, Takes};
use crate::config::{Flags, Verbosity};

/// The one flag with a value that is no setting.
const MAX_AGE_FLAG: &str = "--max-age";

/// What the definition of the command line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// To read arguments, and for the help.
    Help,
    /// For the manual page: options are not grouped, and their choices are part of the text.
    Manual,
}

/// The same arguments, with `--ttl -1d` written as `--ttl=-1d`: so a negative number is the value of the flag before
/// it, which is then refused by its name, and not an option that nobody knows.
pub(super) fn with_negative_values(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let (mut read, mut are_options): (Vec<OsString>, bool) = (Vec::new(), true);
    for arg in args {
        let is_number = matches!(arg.as_bytes(), [b'-', digit, ..] if digit.is_ascii_digit());
        match read.last_mut() {
            Some(flag) if is_number && are_options && takes_a_value(flag) => {
                flag.push("=");
                flag.push(arg);
            }
            _ => {
                are_options &= arg != "--";
                read.push(arg);
            }
        }
    }
    read
}

/// Whether it is the flag of a setting that has a value.
fn takes_a_value(flag: &OsStr) -> bool {
    let takes = |setting: &Setting| matches!(setting.takes, Takes::One(_) | Takes::Many(_));
    flag == MAX_AGE_FLAG
        || settings::all().any(|setting| takes(setting) && flag == &*setting.flag())
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
        .mut_arg("quiet", |quiet| {
            quiet.help("Print no report unless something fails; warnings stay")
        })
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
