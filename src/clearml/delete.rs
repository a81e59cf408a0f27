//! Deletes tasks on the server, and finds out what happened when it does not say.
//!
//! This module must not be called before the journal is on disk. An answer that cannot be used proves nothing: each
//! task is then asked for, and only "there is no such task" means that it is deleted.

use std::collections::HashMap;
use std::sync::Arc;

use serde::de::IgnoredAny;
use serde_json::json;

use super::client::{Client, Tries};
use super::error::{ApiError, refused};
use super::journal::{Ending, FileEnd, Kind, TaskFile};
use super::rows::{Deleted, DeletedUrls, Deletion, Id, NotDeleted};
use super::token::ApiVersion;
use super::tools::Tools;

/// "Invalid task id": the only proof that a task is gone.
pub(super) const NO_SUCH_TASK: (u16, u32) = (400, 101);

/// Since this version a server deletes several tasks at once, and leaves their draft models if it is told to.
pub(super) const DELETE_MANY: ApiVersion = ApiVersion(2, 13);

/// Why a task stays that has a draft model of another one.
pub(super) const DELETES_DRAFTS: &str =
    "this old server deletes the draft models of a task, also those of other tasks";

/// What happened to a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskEnd {
    /// It is deleted. The server knew of these files.
    Deleted(Vec<TaskFile>),
    /// The server keeps it, by its rules.
    Refused(String),
    /// It belongs to everyone.
    Public,
    /// It is still there.
    Failed(String),
    /// Nobody knows. The journal keeps it.
    Unknown(ApiError),
}

/// How the server deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeletionMode {
    /// What it would refuse, too.
    pub force: bool,
    /// It also deletes the files, some time later.
    pub external: bool,
    /// It does not delete draft models.
    pub keeps_drafts: bool,
}

/// Deletes these tasks.
///
/// # Errors
/// The run was told to stop. The journal has what was begun.
pub fn delete_many(
    tools: &Tools,
    ids: &[Id],
    mode: DeletionMode,
) -> Result<HashMap<Id, TaskEnd>, ApiError> {
    let body = json!({
        "ids": ids, "force": mode.force, "return_file_urls": true,
        "delete_output_models": !mode.keeps_drafts, "delete_external_artifacts": mode.external,
    });
    let answer: Result<Deletion, _> = tools.ask_with("tasks.delete_many", body, Tries::Once);
    match answer {
        Ok(Deletion { succeeded, failed }) => {
            let mut ends = HashMap::new();
            for task in succeeded.into_iter().filter(|task| task.is_done != Some(false)) {
                ends.insert(task.id, TaskEnd::Deleted(files_of(task, mode)));
            }
            for task in failed {
                ends.insert(task.id, of_failure(task));
            }
            ends.retain(|id, _| ids.contains(id));
            let untold: Vec<Id> = ids.iter().copied().filter(|id| !ends.contains_key(id)).collect();
            let silent = "the server does not say what it did with it".to_owned();
            ends.extend(probe(tools, &untold, &silent)?);
            Ok(ends)
        }
        Err(ApiError::Stopped) => Err(ApiError::Stopped),
        // Servers before 1.0 have no such endpoint.
        Err(ApiError::Refused { code: 404, .. }) => one_by_one(tools, ids, mode),
        Err(ApiError::Refused { code, subcode, message, .. }) if code < 500 => {
            let why = refused(code, subcode, &message);
            Ok(ids.iter().map(|id| (*id, of_codes(code, subcode, why.clone()))).collect())
        }
        Err(error) => probe(tools, ids, &error.to_string()),
    }
}

/// The files that the server tells of, which are also those of the draft models that it keeps.
fn files_of(task: Deleted, mode: DeletionMode) -> Vec<TaskFile> {
    let DeletedUrls { models, artifacts, events } = task.urls.unwrap_or_default();
    let models = models.filter(|_| !mode.keeps_drafts);
    let of = |urls: Option<Vec<String>>, kind| {
        let urls = urls.unwrap_or_default().into_iter().filter(|url| !url.is_empty());
        urls.map(move |url| TaskFile { url, kind })
    };
    of(artifacts, Kind::Artifact)
        .chain(of(models, Kind::Model))
        .chain(of(events, Kind::Event))
        .collect()
}

fn of_failure(task: NotDeleted) -> TaskEnd {
    let error = task.error.unwrap_or_default();
    let code = error.codes.first().and_then(|code| u16::try_from(*code).ok()).unwrap_or(0);
    let subcode = error.codes.get(1).copied().unwrap_or(0);
    of_codes(code, subcode, refused(code, subcode, &error.msg.unwrap_or_default()))
}

fn of_codes(code: u16, subcode: u32, why: String) -> TaskEnd {
    match (code, subcode) {
        NO_SUCH_TASK => TaskEnd::Deleted(Vec::new()),
        (400, 123) => TaskEnd::Refused(why),
        (403, 21) => TaskEnd::Public,
        _ => TaskEnd::Failed(why),
    }
}

/// Deletes tasks on a server that deletes one at a time.
fn one_by_one(
    tools: &Tools,
    ids: &[Id],
    mode: DeletionMode,
) -> Result<HashMap<Id, TaskEnd>, ApiError> {
    if mode.keeps_drafts {
        let refused = |id: &Id| (*id, TaskEnd::Refused(DELETES_DRAFTS.to_owned()));
        return Ok(ids.iter().map(refused).collect());
    }
    let client = Arc::clone(&tools.client);
    let mut ends = HashMap::new();
    let mut uncertain = Vec::new();
    let delete = move |id: Id| {
        let body = json!({
            "task": id, "force": mode.force, "delete_external_artifacts": mode.external,
        });
        (id, client.call::<IgnoredAny>("tasks.delete", &body, Tries::Once).map(drop))
    };
    tools.pool.each(ids.to_vec(), delete, |(id, answer)| match answer {
        Ok(()) => {
            ends.insert(id, TaskEnd::Deleted(Vec::new()));
        }
        Err(ApiError::Refused { code, subcode, message, .. }) if code < 500 => {
            ends.insert(id, of_codes(code, subcode, refused(code, subcode, &message)));
        }
        Err(error) => uncertain.push((id, error.to_string())),
    })?;
    for (id, why) in uncertain {
        ends.extend(probe(tools, &[id], &why)?);
    }
    Ok(ends)
}

/// Asks for each of these tasks. `why` says why that is not known.
///
/// # Errors
/// The run was told to stop.
pub fn probe(tools: &Tools, ids: &[Id], why: &str) -> Result<HashMap<Id, TaskEnd>, ApiError> {
    let client = Arc::clone(&tools.client);
    let why = why.to_owned();
    let mut ends = HashMap::new();
    tools.pool.each(
        ids.to_vec(),
        move |id| (id, exists(&client, id)),
        |(id, exists)| {
            let end = match exists {
                Ok(true) => TaskEnd::Failed(why.clone()),
                Ok(false) => TaskEnd::Deleted(Vec::new()),
                Err(error) => TaskEnd::Unknown(error),
            };
            ends.insert(id, end);
        },
    )?;
    Ok(ends)
}

/// Whether the server has this task.
fn exists(client: &Client, id: Id) -> Result<bool, ApiError> {
    let body = json!({"task": id, "only_fields": ["id"]});
    let answer = client.call::<IgnoredAny>("tasks.get_by_id", &body, Tries::Several);
    match answer {
        Ok(_) => Ok(true),
        Err(error) if error.is(NO_SUCH_TASK.0, NO_SUCH_TASK.1) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Deletes models after their tasks, and says what became of each.
///
/// # Errors
/// The run was told to stop.
pub(super) fn delete_models(
    tools: &Tools,
    ids: Vec<String>,
    external: bool,
) -> Result<Vec<FileEnd>, ApiError> {
    let client = Arc::clone(&tools.client);
    let delete = move |id: String| {
        // Without force, the server keeps a model that a task has as its input by now.
        let body = json!({"model": id, "force": false, "delete_external_artifacts": external});
        (id, client.call::<IgnoredAny>("models.delete", &body, Tries::Once).map(drop))
    };
    let mut ends = Vec::new();
    tools.pool.each(ids, delete, |(id, answer)| {
        let end = match answer {
            Ok(()) => model_end(id, Ending::Removed, ""),
            Err(error) if error.is(400, 201) => model_end(id, Ending::Gone, ""),
            Err(error) if error.is(400, 205) => model_end(id, Ending::Kept, MODEL_IN_USE),
            Err(error) => model_end(id, Ending::Failed, &error.to_string()),
        };
        ends.push(end);
    })?;
    Ok(ends)
}

/// Why a model stays.
pub(super) const MODEL_IN_USE: &str = "a task uses the model";

/// What became of a model.
pub(super) fn model_end(id: String, outcome: Ending, why: &str) -> FileEnd {
    FileEnd { url: id, kind: Kind::ModelRecord, outcome, why: why.to_owned() }
}
