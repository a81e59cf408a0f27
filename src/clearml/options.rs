//! What the user asks for, typed.
//!
//! This module must not read a setting: `config` makes this.

use std::time::Duration;

use crate::rules::Share;

/// How files are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilesMode {
    /// Through the file server.
    Http,
    /// From its directory, which is mounted here.
    Mount,
    /// By ClearML's server alone.
    Server,
}

/// Who deletes files in S3, GCS and Azure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stores {
    /// The server's own queue, if the server has one.
    Server,
    /// Nobody.
    Nobody,
}

/// Which protected things are deleted anyway.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Overrides {
    /// Published tasks.
    pub published_tasks: bool,
    /// Published models of tasks that are deleted.
    pub published_models: bool,
    /// Running and queued tasks.
    pub running: bool,
    /// Dataset versions on which others are based.
    pub dataset_parents: bool,
    /// Files that something else names.
    pub shared_files: bool,
}

/// The statuses of tasks that a cleanup knows. A task with another one stays.
pub const STATUSES: [&str; 9] = [
    "created",
    "queued",
    "in_progress",
    "stopped",
    "publishing",
    "published",
    "closed",
    "failed",
    "completed",
];

/// Which tasks to select, besides those that are archived and old enough.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filters {
    /// Projects, by id or name, with their subprojects.
    pub projects: Vec<String>,
    /// Tags, all of which a task has.
    pub tags: Vec<String>,
    /// Types of tasks.
    pub types: Vec<String>,
    /// Ids of users.
    pub users: Vec<String>,
    /// A regular expression of names, as the server reads it.
    pub name: Option<String>,
    /// Statuses.
    pub statuses: Vec<String>,
    /// Also hidden tasks.
    pub hidden: bool,
}

/// What a cleanup does.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// A task is deleted when its status has not changed for this long.
    pub threshold: Duration,
    /// Whether the server is told to delete tasks that it would refuse to delete.
    pub force: bool,
    /// Which tasks.
    pub filters: Filters,
    /// How many of the newest to keep in each project.
    pub keep_last: u64,
    /// What no guard protects.
    pub overrides: Overrides,
    /// Delete nothing if more tasks than this would go.
    pub max_tasks: Option<u64>,
    /// Delete nothing if more than this part of all archived tasks would go.
    pub max_share: Option<Share>,
    /// How files are deleted.
    pub files: FilesMode,
    /// Who deletes files in object stores.
    pub stores: Stores,
}
