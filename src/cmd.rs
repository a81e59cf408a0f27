//! The commands, one file each. Each builds what it needs from the settings and runs it.
//!
//! This module must not judge, lock or remove anything itself. The choice between a pass and a dry run is made in
//! [`pass`], and nowhere else.

mod apply;
mod canvas;
mod clearml;
mod config;
mod data_root;
mod demo;
mod dispatch;
mod exclusions;
mod health;
mod hold;
mod merge;
mod needed;
mod new_file;
pub mod pass;
mod path_list;
mod plan;
mod run;
mod run_metrics;
mod runtime;
mod serve;
mod unused;
mod usage;
mod why;

use std::io;

use crate::config::{Config, ConfigError, Origin, RawSettings};
use crate::fs::RootError;
use crate::protocol::ExitCode;
use crate::units;
pub use dispatch::main;

/// Why a command cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data root cannot be used.
    #[error("{}{why}", at.as_ref().map(|at| format!("data ({at}): ")).unwrap_or_default())]
    Root {
        /// Where its path is written, if not on the command line.
        at: Option<Origin>,
        /// What is wrong with it.
        why: RootError,
    },
    /// The directory of a zone cannot be used.
    #[error("{}zone {name:?}: {}", before(at.as_ref()), without_data_root(why))]
    Zone {
        /// Where its path is written.
        at: Option<Origin>,
        /// The name of the zone.
        name: String,
        /// What is wrong with its directory.
        why: RootError,
    },
    /// Something else. The message stands by itself: it says what cannot be done, or what to ask for instead.
    #[error("{}", units::without_numbers(.0))]
    Start(String),
    /// A plan cannot be followed.
    #[error("the plan {path:?} is refused: {why}")]
    Plan {
        /// The plan.
        path: std::path::PathBuf,
        /// Why.
        why: String,
    },
    /// Reports cannot be added.
    #[error("cannot merge these reports: {0}")]
    Merge(String),
}

/// The beginning of a message about what is written there.
fn before(at: Option<&Origin>) -> String {
    at.map(|at| format!("settings {at}: ")).unwrap_or_default()
}

/// The message of an error with a directory that is no data root.
fn without_data_root(why: &RootError) -> String {
    match why {
        RootError::Unopened { path, error } => {
            format!("cannot open {path:?}: {}", units::error(error))
        }
        RootError::Unexamined { path, error } => {
            format!("cannot examine {path:?}: {}", units::error(error))
        }
        RootError::NoneFound { .. } | RootError::NoMark { .. } | RootError::Refused { .. } => {
            why.to_string()
        }
    }
}

/// The settings, after their warnings were logged.
fn settings(raw: &RawSettings) -> Result<Config, ConfigError> {
    let config = Config::resolve(raw)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    Ok(config)
}

/// The exit code of a command after it has printed its result. A closed pipe is no error: its reader has
/// seen enough.
fn printed(result: io::Result<()>, code: ExitCode) -> ExitCode {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            tracing::error!("cannot write to stdout: {}", units::error(&error));
            code.max(ExitCode::SomeFailed)
        }
        _ => code,
    }
}
