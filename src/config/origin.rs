//! Where values come from, and what is wrong with one.
//!
//! This module must not read or check anything.

use std::fmt;
use std::path::PathBuf;

use crate::units;

/// Where a value comes from, weakest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// The settings file.
    File {
        /// Its path.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The environment variable with this name.
    Env(String),
    /// This flag.
    Flag(String),
}

impl Origin {
    /// Whether it is a flag.
    pub const fn is_flag(&self) -> bool {
        matches!(self, Self::Flag(_))
    }

    /// Flag over environment over file over default.
    pub(super) const fn strength(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File { .. } => 1,
            Self::Env(_) => 2,
            Self::Flag(_) => 3,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "file {}, line {line}", units::shown(path)),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A setting as `sweeper config` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveSetting {
    /// Its key in the settings file; of a zone of the settings file, `zone.` and its name.
    pub key: String,
    /// Its value, with units and without passwords; empty: not set.
    pub value: String,
    /// Its items, if it is a list.
    pub items: Option<Vec<String>>,
    /// Where that comes from.
    pub origin: Origin,
}

/// A setting is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value cannot be used.
    #[error("{key} = {value:?} ({origin}): {why}")]
    Value {
        /// The key of the setting, or a variable of another program.
        key: String,
        /// The value, without passwords.
        value: String,
        /// Where it comes from.
        origin: Origin,
        /// What is wrong with it.
        why: String,
    },
    /// A variable has our prefix, but there is no such setting.
    #[error("environment {name}: there is no such setting; {hint}")]
    Variable {
        /// Its name.
        name: String,
        /// What is probably meant.
        hint: String,
    },
    /// The settings file cannot be used.
    #[error(
        "settings file {}{}: {why}",
        units::shown(path),
        line.map(|line| format!(", line {line}")).unwrap_or_default()
    )]
    File {
        /// Its path.
        path: PathBuf,
        /// The line, from 1, if it is about one.
        line: Option<usize>,
        /// What is wrong with it.
        why: String,
    },
    /// A setting is missing.
    #[error("{key} is not set: {why}")]
    Missing {
        /// Its key.
        key: &'static str,
        /// What to do.
        why: String,
    },
}
