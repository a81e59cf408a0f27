//! The parts of the server's answers that are read.
//!
//! This module must not hold a field that nothing needs: answers may be large.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::hash::hash;
use super::tools::Page;

/// The id of a task or a model: 32 hexadecimal digits, held as 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u128);

impl Id {
    /// From text.
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex =
            text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_hex.then(|| u128::from_str_radix(text, 16).ok().map(Self)).flatten()
    }

    /// The id at the end of the name of a task's folder, `<name>.<id>`.
    pub fn of_folder(name: &[u8]) -> Option<Self> {
        let at = name.len().checked_sub(33)?;
        let (start, id) = name.split_at(at + 1);
        (start.ends_with(b".")).then(|| std::str::from_utf8(id).ok().and_then(Self::parse))?
    }

    /// A number for it.
    pub(super) fn number(self) -> u64 {
        hash(self.0.to_le_bytes())
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text)
            .ok_or_else(|| serde::de::Error::custom("an id has 32 hexadecimal digits"))
    }
}

/// The answer of `tasks.get_all`.
#[derive(Debug, Deserialize)]
pub(super) struct Tasks {
    pub(super) tasks: Vec<TaskRow>,
}

impl Page for Tasks {
    fn ids(&self) -> Vec<u64> {
        self.tasks.iter().map(|row| row.id.number()).collect()
    }
}

/// A task, as far as it was asked for.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct TaskRow {
    pub(super) id: Id,
    pub(super) status: Option<String>,
    pub(super) status_changed: Option<String>,
    pub(super) last_update: Option<String>,
    pub(super) system_tags: Option<Vec<String>>,
    pub(super) tags: Option<Vec<String>>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) user: Option<String>,
    pub(super) project: Option<String>,
    pub(super) parent: Option<String>,
    pub(super) execution: Option<Execution>,
    pub(super) models: Option<TaskModels>,
}

impl TaskRow {
    pub(super) fn has_system_tag(&self, tag: &str) -> bool {
        self.system_tags.iter().flatten().any(|own| own == tag)
    }

    pub(super) fn artifacts(&self) -> impl Iterator<Item = &Artifact> {
        self.execution.iter().flat_map(|it| it.artifacts.iter().flatten())
    }

    /// The models that it lists as its output.
    pub(super) fn output_models(&self) -> impl Iterator<Item = &str> {
        let models = self.models.iter().flat_map(|models| models.output.iter().flatten());
        models.filter_map(|model| model.model.as_deref())
    }
}

/// The part of a task with its artifacts.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Execution {
    pub(super) artifacts: Option<Vec<Artifact>>,
}

/// An artifact.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Artifact {
    pub(super) mode: Option<String>,
    pub(super) uri: Option<String>,
}

/// The models of a task.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct TaskModels {
    pub(super) input: Option<Vec<TaskModel>>,
    pub(super) output: Option<Vec<TaskModel>>,
}

/// One of them.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct TaskModel {
    pub(super) model: Option<String>,
}

/// The answer of `models.get_all`.
#[derive(Debug, Deserialize)]
pub(super) struct Models {
    #[serde(rename = "models")]
    pub(super) rows: Vec<ModelRow>,
}

impl Page for Models {
    fn ids(&self) -> Vec<u64> {
        self.rows.iter().map(|row| hash(&row.id)).collect()
    }
}

/// A model.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ModelRow {
    pub(super) id: String,
    pub(super) uri: Option<String>,
    pub(super) task: Option<String>,
    pub(super) ready: Option<bool>,
}

/// The answer of `events.get_task_events`.
#[derive(Debug, Deserialize)]
pub(super) struct Events {
    #[serde(rename = "events")]
    pub(super) rows: Vec<EventRow>,
    pub(super) total: Option<u64>,
    pub(super) scroll_id: Option<String>,
}

/// A debug sample or a plot.
#[derive(Debug, Deserialize)]
pub(super) struct EventRow {
    pub(super) url: Option<String>,
    pub(super) source_urls: Option<Vec<String>>,
    pub(super) plot_str: Option<String>,
}

/// The answer of `tasks.delete_many`.
#[derive(Debug, Deserialize)]
pub(super) struct Deletion {
    #[serde(default)]
    pub(super) succeeded: Vec<Deleted>,
    #[serde(default)]
    pub(super) failed: Vec<NotDeleted>,
}

/// A task that is deleted.
#[derive(Debug, Deserialize)]
pub(super) struct Deleted {
    pub(super) id: Id,
    #[serde(rename = "deleted")]
    pub(super) is_done: Option<bool>,
    pub(super) urls: Option<DeletedUrls>,
}

/// Files that the server knows of.
#[derive(Debug, Default, Deserialize)]
pub(super) struct DeletedUrls {
    #[serde(rename = "model_urls")]
    pub(super) models: Option<Vec<String>>,
    #[serde(rename = "artifact_urls")]
    pub(super) artifacts: Option<Vec<String>>,
    #[serde(rename = "event_urls")]
    pub(super) events: Option<Vec<String>>,
}

/// A task that is not deleted.
#[derive(Debug, Deserialize)]
pub(super) struct NotDeleted {
    pub(super) id: Id,
    pub(super) error: Option<NotDeletedError>,
}

/// Why.
#[derive(Debug, Default, Deserialize)]
pub(super) struct NotDeletedError {
    #[serde(default)]
    pub(super) codes: Vec<u32>,
    pub(super) msg: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_32_hexadecimal_digits() {
        let text = "0123456789abcdef0123456789abcdef";
        assert_eq!(Id::parse(text).unwrap().to_string(), text);
        assert_eq!(Id::of_folder(format!("my task.{text}").as_bytes()), Id::parse(text));
        assert_eq!(Id::of_folder(format!(".{text}").as_bytes()), Id::parse(text));
        for name in [text, "a.0123", "", "x0123456789abcdef0123456789abcdef"] {
            assert_eq!(Id::of_folder(name.as_bytes()), None, "{name}");
        }
        let upper = text.to_uppercase();
        for wrong in [&upper, "", "__DELETED__0123", "+123456789abcdef0123456789abcdef"] {
            assert_eq!(Id::parse(wrong), None, "{wrong}");
        }
    }
}
