//! `sweeper clearml`: the commands that clean up a ClearML server.
//!
//! This module must not delete anything itself: it connects what is in [`crate::clearml`] with the settings, the report
//! and the mounted directories.

mod audit;
mod connect;
mod ended;
mod explain;
mod journal;
mod mount;
mod orphans;
mod pass;
mod place;
mod seams;
pub(super) mod serve;

use std::io::Write;

use super::{Refusal, settings, unused};
use crate::cli::{Clearml, JournalAction};
use crate::config::settings::Use;
use crate::config::{RawSettings, Verbosity};
use crate::protocol::ExitCode;

/// Runs one of the commands.
pub(super) fn clearml(
    command: &Clearml,
    raw: &RawSettings,
    verbosity: Verbosity,
    out: &mut (impl Write + Send),
) -> Result<ExitCode, Refusal> {
    let config = settings(raw)?;
    let options = config.clearml.clone()?;
    let is_service = match command {
        Clearml::Run => options.run_as_service.unwrap_or(false),
        Clearml::Serve => options.run_as_service.unwrap_or(true),
        Clearml::Orphans | Clearml::Journal(_) | Clearml::Why(_) => false,
    };
    match command {
        Clearml::Run | Clearml::Serve if is_service => {
            unused::warn(&config, Use::ClearmlServe);
            serve::serve(raw, verbosity)
        }
        Clearml::Run | Clearml::Serve => {
            unused::warn(&config, Use::ClearmlRun);
            serve::once(&config, &options, verbosity)
        }
        Clearml::Orphans => {
            unused::warn(&config, Use::ClearmlOrphans);
            orphans::orphans(&config, &options, verbosity)
        }
        Clearml::Journal(action) => {
            if *action == JournalAction::Retry {
                unused::warn(&config, Use::ClearmlJournal);
            }
            journal::journal(&config, &options, *action, verbosity, out)
        }
        Clearml::Why(tasks) => explain::why(&config, &options, tasks, out),
    }
}
