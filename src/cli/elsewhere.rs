//! Adds to an error what clap does not know: which commands have an option, and how a data root is named.
//!
//! It must not read arguments: they were refused already.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::config::settings::{self, Setting};

/// What other cleaners call a dry run.
const DRY_RUN_ELSEWHERE: [&str; 4] = ["-n", "-t", "--test", "--simulate"];

/// The commands that sweep or measure what is below a data root.
const WITH_A_ROOT: [&str; 4] = ["run", "serve", "legacy", "usage"];

/// What is probably meant by a word that belongs to no flag: it depends on the flag before it.
fn of_word(command: &str, word: &str, args: &[OsString]) -> Option<String> {
    let find = |flag: &str| settings::all().find(|setting| setting.flag() == flag);
    let is_flag = format!("--{word}");
    let at = args.iter().position(|arg| arg == word)?;
    let before =
        args[..at].iter().rev().find_map(|arg| arg.to_str().filter(|arg| arg.starts_with('-')));
    let name = before.map(|flag| flag.split('=').next().unwrap_or(flag));
    if word.starts_with('-') || !WITH_A_ROOT.contains(&command) {
        None
    } else if find(&is_flag).is_some_and(|setting| !setting.is_hidden()) {
        Some(format!("did you mean {is_flag}?"))
    } else {
        Some(match name.and_then(find) {
            Some(Setting { key: "exclude", .. }) => {
                format!("repeat the flag for each glob: --exclude {word}")
            }
            Some(setting) if setting.is_list() => {
                format!("the items of a list are separated by commas: {}=A,B", setting.flag())
            }
            Some(setting) if setting.is_switch() => format!("{} takes no value", setting.flag()),
            _ => "a data root is named with --data".to_owned(),
        })
    }
}

/// Adds a tip to the error about an argument that was refused, if there is one.
pub(super) fn explain(mut error: clap::Error, args: &[OsString]) -> clap::Error {
    let arg = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(arg)) if error.kind() == ErrorKind::UnknownArgument => arg,
        _ => return error,
    };
    let command = args.get(1).and_then(|arg| arg.to_str()).unwrap_or_default();
    let known = || settings::all().filter(|setting| setting.flag() == *arg && !setting.is_hidden());
    let commands: Vec<&str> =
        known().flat_map(|setting| setting.used_by).map(|used_by| used_by.command()).collect();
    let is_for_a_full_disk = known().any(|setting| setting.group == settings::WHEN_FULL);
    let tip = if is_for_a_full_disk && command == "plan" {
        format!(
            "which entries are removed before they expire depends on how full the disk is at that \
             moment, so a plan has no such entries; `sweeper run {arg} ... --dry-run` shows them"
        )
    } else if !commands.is_empty() {
        format!("'{arg}' is an option of {}", commands.join(", "))
    } else if DRY_RUN_ELSEWHERE.contains(&arg.as_str()) {
        "a run that removes nothing is --dry-run".to_owned()
    } else if let Some(tip) = of_word(command, arg, args) {
        tip
    } else {
        return error;
    };
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    error
}

/// Takes back the proposal of an option that is not in the help.
pub(super) fn without_hidden(mut error: clap::Error) -> clap::Error {
    if let Some(ContextValue::String(flag)) = error.get(ContextKind::SuggestedArg)
        && settings::all().any(|setting| setting.is_hidden() && setting.flag() == *flag)
    {
        error.remove(ContextKind::SuggestedArg);
    }
    error
}
