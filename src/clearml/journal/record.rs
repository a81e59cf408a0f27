//! The lines of the journal.
//!
//! This module must not read or write them.

use serde::{Deserialize, Serialize};

use crate::clearml::rows::Id;

/// What a file is of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An artifact that the task has made.
    Artifact,
    /// A model that the task has made.
    Model,
    /// A debug sample, or an image of a plot.
    Event,
    /// Not a file, but a model that is deleted after the task. Its id takes the place of an address.
    ModelRecord,
}

/// A file of a task.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TaskFile {
    /// Its address.
    pub url: String,
    /// What it is.
    pub kind: Kind,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It is deleted.
    Removed,
    /// It was gone already.
    Gone,
    /// It stays, because something else names it.
    Kept,
    /// It stays for now, and is tried again.
    Failed,
    /// Nobody deletes it.
    Left,
    /// The server deletes it.
    LeftToServer,
}

/// A file and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEnd {
    /// Its address.
    pub url: String,
    /// What it is.
    pub kind: Kind,
    /// What became of it.
    pub outcome: Ending,
    /// Why, where that is not plain.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Record {
    /// The server that everything here is about.
    Server {
        /// Its address.
        api: String,
        /// The company on it.
        company: String,
    },
    /// A task is about to be deleted; these are its files.
    Plan {
        /// The task.
        task: Id,
        /// When this was written, in Unix seconds.
        at: i64,
        /// Whether the server is told to delete its files, too.
        #[serde(default, skip_serializing_if = "is_false")]
        told: bool,
        /// Its files.
        files: Vec<TaskFile>,
    },
    /// The server has deleted it; it knew of these files, too.
    Deleted {
        /// The task.
        task: Id,
        /// Files that were not planned.
        more: Vec<TaskFile>,
    },
    /// It was not deleted after all.
    Kept {
        /// The task.
        task: Id,
    },
    /// What became of files of a deleted task.
    Files {
        /// The task.
        task: Id,
        /// Whether these were all.
        complete: bool,
        /// Each of them.
        outcomes: Vec<FileEnd>,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over like this")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// What is left of a task.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Left {
    /// Files that were not tried.
    pub files: Vec<TaskFile>,
    /// Files that were, and what became of them.
    pub tried: Vec<FileEnd>,
    /// Whether the server was told to delete them, too.
    pub is_told: bool,
}

impl Record {
    /// The task that it is about.
    pub(super) const fn task(&self) -> Option<Id> {
        match self {
            Self::Server { .. } => None,
            Self::Plan { task, .. }
            | Self::Deleted { task, .. }
            | Self::Kept { task }
            | Self::Files { task, .. } => Some(*task),
        }
    }
}
