//! An operation that the system refused.
//!
//! This module must not be used for an entry that is skipped: a failure needs the user's attention.

use std::io;
use std::path::PathBuf;

use crate::rules::{Action, ZoneName};
use crate::units;

/// An operation that failed: what was being done, to which path, and what the system said.
#[derive(Debug, thiserror::Error)]
#[error("{action} {path:?}: {}{}", units::error(error), hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
pub struct Failure {
    /// The zone.
    pub zone: ZoneName,
    /// What was being done.
    pub action: Action,
    /// The path, as people see it.
    pub path: PathBuf,
    /// What the system said.
    pub error: io::Error,
    /// What the user can do about it, where that is known.
    pub hint: Option<String>,
}

impl Failure {
    /// From its parts.
    pub fn new(
        zone: &ZoneName,
        action: Action,
        path: PathBuf,
        error: io::Error,
        hint: Option<String>,
    ) -> Self {
        Self { zone: zone.clone(), action, path, error, hint }
    }

    /// Says more after the hint that there is.
    pub fn add_hint(&mut self, more: &str) {
        let hint = self.hint.take();
        self.hint = Some(hint.map_or_else(|| more.to_owned(), |hint| format!("{hint}; {more}")));
    }
}
