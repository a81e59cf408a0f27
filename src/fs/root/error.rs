//! Why a directory cannot be a data root.
//!
//! This module must not look at a directory.

use std::io;
use std::path::{Path, PathBuf};

use crate::units;

/// Why a directory cannot be a data root.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// None of the candidates is one.
    #[error(
        "no data root found in {}{}; name it with --data DIR",
        tried.iter().map(|path| format!("{path:?}")).collect::<Vec<_>>().join(", "),
        near.as_ref().map(|near| format!(" ({near})")).unwrap_or_default()
    )]
    NoneFound {
        /// The candidates.
        tried: Vec<PathBuf>,
        /// Why the first one that has a mark is none, or else the first one that exists.
        near: Option<Box<RootError>>,
    },
    /// The directory cannot be opened.
    #[error("cannot open the data root {path:?}: {}{}", units::error(error), advice(error))]
    Unopened {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It, or a directory in it, cannot be examined.
    #[error(
        "cannot examine {path:?}, so it is not known whether this is the data root: {}; run sweeper as the \
         owner of the data, or name another data root with --data DIR",
        units::error(error)
    )]
    Unexamined {
        /// The path.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It contains too few of the directories that a data root has.
    #[error(
        "{path:?} is not a data root: it contains {} of {}{}", has(found), marks.join(", "),
        meant.as_ref().map(|meant| instead(path, meant)).unwrap_or_default()
    )]
    NoMark {
        /// The directory.
        path: PathBuf,
        /// What a data root has at least two of. The first one is enough if the user names the directory.
        marks: Vec<&'static str>,
        /// Which of them it has.
        found: Vec<&'static str>,
        /// A directory nearby that is one.
        meant: Option<PathBuf>,
    },
    /// Sweeping it would be a mistake.
    #[error("{path:?} is refused: {why}")]
    Refused {
        /// The directory.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// How many of several directories there are, in words.
fn has(found: &[&str]) -> String {
    match found {
        [] => "none".to_owned(),
        [one] => format!("only {one}, and a data root has two"),
        _ => found.join(" and "),
    }
}

/// The question whether another directory is meant, for people.
fn instead(path: &Path, meant: &Path) -> String {
    let mount = if meant == path.join("data") {
        " If it is mounted from a claim of Kubernetes, the mount lacks `subPath: data`"
    } else {
        ""
    };
    format!("; did you mean {meant:?}?{mount}")
}

impl RootError {
    /// Whether there is a directory that may become a data root: the application makes its directories when it
    /// starts, and in a new volume there are none yet.
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::NoMark { .. } | Self::NoneFound { near: Some(_), .. } => true,
            Self::NoneFound { near: None, .. }
            | Self::Unopened { .. }
            | Self::Unexamined { .. }
            | Self::Refused { .. } => false,
        }
    }
}

/// What to do if a data root cannot be opened.
fn advice(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::NotFound {
        "; check the path, and whether its volume is mounted"
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        "; the user that sweeper runs as must be able to enter it and all directories above it"
    } else {
        ""
    }
}
