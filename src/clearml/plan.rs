//! What is deleted with a task.
//!
//! This module must not ask a server, or judge what stays.

use super::journal::{Kind, TaskFile};
use super::rows::{Id, TaskRow};

/// A task that is about to be deleted.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The task.
    pub task: Id,
    /// When it was changed last, as the server writes it.
    pub last_update: Option<String>,
    /// Its files.
    pub files: Vec<TaskFile>,
    /// Its draft models, which the server deletes with it.
    pub models: Vec<PlannedModel>,
    /// The addresses of those that tasks of the same batch use, each with such a task. If it stays, so does the model.
    pub used_models: Vec<(String, Id)>,
    /// The addresses of those that tasks of the same batch list as their output. The same holds for them.
    pub listed_models: Vec<(String, Id)>,
    /// Its models that nothing else uses and that the server does not delete with it. They are deleted after it.
    pub later_models: Vec<PlannedModel>,
    /// Its models that stay.
    pub kept_models: Vec<PlannedModel>,
    /// Whether the server must not delete draft models with it: it would delete one that stays.
    pub keeps_drafts: bool,
    /// Whether another task may lose a draft model with it. Unless the server must delete its files, it keeps the drafts.
    pub shares_drafts: bool,
    /// Why the server will refuse to delete it, if its models tell that it will.
    pub refused: Option<&'static str>,
    /// Whether the server is told to delete its files, too.
    pub is_told: bool,
}

/// A model of a task.
#[derive(Debug, Clone)]
pub struct PlannedModel {
    /// The model.
    pub id: String,
    /// The address of its file, if it has one.
    pub url: String,
}

impl Plan {
    /// The models that are deleted with it, or after it.
    pub(super) fn own_models(&self) -> impl Iterator<Item = String> {
        self.models.iter().chain(&self.later_models).map(|model| model.id.clone())
    }

    /// The addresses of its models that stay if one of these tasks of the same batch does.
    pub(super) fn users(&self) -> impl Iterator<Item = &(String, Id)> {
        self.used_models.iter().chain(&self.listed_models)
    }

    /// A task with its artifacts.
    pub(super) fn of(row: &TaskRow) -> Self {
        let is_output = |mode: &Option<String>| mode.as_deref() == Some("output");
        let outputs = row.artifacts().filter(|artifact| is_output(&artifact.mode));
        let urls =
            outputs.filter_map(|artifact| artifact.uri.clone()).filter(|url| !url.is_empty());
        let files = urls.map(|url| TaskFile { url, kind: Kind::Artifact }).collect();
        Self { last_update: row.last_update.clone(), files, ..Self::new(row.id) }
    }

    /// A task without anything.
    pub(super) const fn new(task: Id) -> Self {
        Self {
            task,
            last_update: None,
            files: Vec::new(),
            models: Vec::new(),
            used_models: Vec::new(),
            listed_models: Vec::new(),
            later_models: Vec::new(),
            kept_models: Vec::new(),
            keeps_drafts: false,
            shares_drafts: false,
            refused: None,
            is_told: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_output_artifacts_belong_to_a_task() {
        let id = "0".repeat(32);
        let row: TaskRow = serde_json::from_value(json!({"id": id, "execution": {"artifacts": [
            {"mode": "output", "uri": "a"}, {"mode": "input", "uri": "b"}, {"uri": "c"},
            {"mode": "output"}, {"mode": "output", "uri": ""},
        ]}}))
        .unwrap();
        let urls: Vec<String> = Plan::of(&row).files.into_iter().map(|file| file.url).collect();
        assert_eq!(urls, ["a"]);
    }
}
