//! A flag of another command: which commands have it.
//!
//! It must not read arguments: they were refused already.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::config::settings::{self, Setting, Use};

/// Says of a flag that was refused which commands have it, if any has.
pub(super) fn explain(error: clap::Error, command: Option<&str>) -> clap::Error {
    let flag = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(flag)) if error.kind() == ErrorKind::UnknownArgument => flag,
        _ => return error,
    };
    let name = flag.trim_start_matches('-');
    let is_named = |setting: &&Setting| setting.long() == name && !setting.is_hidden();
    let Some(setting) = settings::all().find(is_named) else { return error };
    let commands: Vec<&str> = setting.used_by.iter().map(|command| command.name()).collect();
    let (of, commands) = (command.unwrap_or("this command"), commands.join(", "));
    let mut text = format!("{flag} is not an option of {of}, but of: {commands}\n");
    if command == Some("plan") && setting.group == settings::WHEN_FULL {
        text = format!(
            "{flag} is not an option of plan: what goes before it expires depends on how full the disk is \
             when it goes, so a plan has no such entries; `sweeper run {flag} ... --dry-run` shows them\n"
        );
    }
    clap::Error::raw(ErrorKind::UnknownArgument, text)
}

impl Use {
    /// The command as it is typed, after the name of the program.
    const fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Plan => "plan",
            Self::Apply => "apply",
            Self::Serve => "serve",
            Self::Legacy => "legacy",
            Self::Usage => "usage",
            Self::Why => "why",
            Self::Hold => "hold",
            Self::Health => "health",
            Self::Merge => "merge",
            Self::ClearmlRun => "clearml run",
            Self::ClearmlServe => "clearml serve",
            Self::ClearmlOrphans => "clearml orphans",
            Self::ClearmlJournal => "clearml journal",
            Self::ClearmlWhy => "clearml why",
        }
    }
}
