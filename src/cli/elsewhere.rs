//! Adds to an error what clap does not know: which commands have an option, and how a data root is named.
//!
//! This module must not read arguments: they were refused already.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::config::is_near;
use crate::config::settings::{self, Setting};

/// What other cleaners call a dry run.
const DRY_RUN_ELSEWHERE: [&str; 4] = ["-n", "-t", "--test", "--simulate"];

/// What other programs call a pass, and misspelt commands that are one.
const A_PASS: [&str; 10] =
    ["clean", "cleanup", "clear", "delete", "prune", "purge", "remove", "rm", "rn", "sweep"];

/// Commands of `sweeper clearml` alone.
const OF_CLEARML: [&str; 2] = ["orphans", "journal"];

/// What may be meant by the amount that is to be free.
const FREE: &str = "--free";

/// What was typed, and what is proposed instead.
const SUGGESTIONS: [(ContextKind, ContextKind); 3] = [
    (ContextKind::InvalidArg, ContextKind::SuggestedArg),
    (ContextKind::InvalidValue, ContextKind::SuggestedValue),
    (ContextKind::InvalidSubcommand, ContextKind::SuggestedSubcommand),
];

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
    if let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) {
        let Some(tip) = of_dash(word).or_else(|| of_command(word)) else { return error };
        error.remove(ContextKind::SuggestedSubcommand);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
        return error;
    }
    let arg = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(arg)) if error.kind() == ErrorKind::UnknownArgument => arg,
        _ => return error,
    };
    let command = args.get(1).and_then(|arg| arg.to_str()).unwrap_or_default();
    let known = || settings::all().filter(|setting| setting.flag() == *arg && !setting.is_hidden());
    let commands: Vec<&str> =
        known().flat_map(|setting| setting.used_by).map(|used_by| used_by.command()).collect();
    let is_for_a_full_disk = known().any(|setting| setting.group == settings::WHEN_FULL);
    let tip = if let Some(tip) = of_dash(arg) {
        tip
    } else if is_for_a_full_disk && command == "plan" {
        format!(
            "which entries are removed before they expire depends on how full the disk is at that \
             moment, so a plan has no such entries; `sweeper run {arg} ... --dry-run` shows them"
        )
    } else if !commands.is_empty() {
        format!("'{arg}' is an option of {}", commands.join(", "))
    } else if DRY_RUN_ELSEWHERE.contains(&arg.as_str()) {
        "a run that removes nothing is --dry-run".to_owned()
    } else if arg == FREE {
        "--keep-free SIZE".to_owned()
    } else if let Some(tip) = of_word(command, arg, args) {
        tip
    } else {
        return error;
    };
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    error
}

/// Takes back proposals of options that are not in the help, and of words that are only a little like the one that was
/// typed: each is a command or an option that does something else.
pub(super) fn with_near_alone(mut error: clap::Error) -> clap::Error {
    for (typed, suggested) in SUGGESTIONS {
        let Some(ContextValue::String(word)) = error.get(typed) else { continue };
        let all = match error.get(suggested) {
            Some(ContextValue::String(one)) => vec![one.clone()],
            Some(ContextValue::Strings(all)) => all.clone(),
            _ => continue,
        };
        let near: Vec<String> =
            all.iter().filter(|it| is_near(word, it) && !is_hidden(it)).cloned().collect();
        if near.is_empty() {
            error.remove(suggested);
            without_proposed_usage(&mut error);
        } else if near.len() < all.len() {
            error.insert(suggested, ContextValue::Strings(near));
        }
    }
    error
}

fn is_hidden(flag: &str) -> bool {
    settings::all().any(|setting| setting.is_hidden() && setting.flag() == flag)
}

/// The usage names the option that was proposed.
fn without_proposed_usage(error: &mut clap::Error) {
    let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) else { return };
    let usage = usage.to_string();
    if let Some((before, _)) = usage.split_once(" --") {
        let usage = format!("{before} [OPTIONS]");
        error.insert(ContextKind::Usage, ContextValue::StyledStr(usage.into()));
    }
}

/// What to type instead of a command that does not exist.
fn of_command(word: &str) -> Option<String> {
    if A_PASS.contains(&word) {
        let tip = "a pass is sweeper run; look first with sweeper run --dry-run";
        return Some(tip.to_owned());
    }
    OF_CLEARML.contains(&word).then(|| format!("sweeper clearml {word}"))
}

/// What to type instead of an argument that begins with another dash, as programs for text write it.
fn of_dash(word: &str) -> Option<String> {
    let rest = word.trim_start_matches(['\u{2012}', '\u{2013}', '\u{2014}', '\u{2212}']);
    if rest.len() == word.len() {
        return None;
    }
    let rest = rest.trim_start_matches('-');
    let hyphens = if rest.chars().nth(1).is_some() { "--" } else { "-" };
    Some(format!("this begins with a dash that is not a hyphen: {hyphens}{rest}"))
}
