//! Which folders belong to no task.
//!
//! This module must not look at a disk or remove anything. A server that knows none of many tasks is the wrong one, and
//! a folder that a model, a live artifact or a dataset names stays. So does the folder of a project: if the project's path
//! is long, the name of its folder is cut and ends with the project's id.

use std::collections::HashSet;

use super::error::CycleError;
use super::options::Options;
use super::projects;
use super::references::{References, existing};
use super::rows::Id;
use super::selected::SelectedTasks;
use super::tools::Tools;

/// How many folders are asked for again at once, right before they are removed.
pub const BATCH: usize = 100;

/// What the server says about the tasks of folders.
#[derive(Debug, Default)]
pub struct Orphans {
    /// Their task is gone, and nothing names them.
    pub gone: HashSet<Id>,
    /// Their task is gone, and something names them, or they are a project's.
    pub named: HashSet<Id>,
    /// How many tasks are there.
    pub existing: usize,
}

/// Asks which of these tasks are gone.
///
/// # Errors
/// The server cannot be used, or it is the wrong one, or more would go than the user allows.
pub fn find(tools: &Tools, options: &Options, ids: &[Id]) -> Result<Orphans, CycleError> {
    tools.check_clock()?;
    let found = existing(tools, ids)?;
    if found.is_empty() && !ids.is_empty() {
        return Err(CycleError::Untrusted(format!(
            "the server knows none of the {} tasks that have folders here: is this the right server?",
            ids.len()
        )));
    }
    let gone: HashSet<Id> = ids.iter().copied().filter(|id| !found.contains(id)).collect();
    if gone.is_empty() {
        return Ok(Orphans { existing: found.len(), ..Orphans::default() });
    }
    let none = SelectedTasks::default();
    let references = References::read(tools, &none)?;
    let mut needed = super::datasets::named(tools)?;
    needed.extend(projects::existing(tools, ids)?);
    let is_named = |id: &Id| references.name_folder_of(*id, &none) || needed.contains(id);
    let (named, gone): (HashSet<Id>, HashSet<Id>) = gone.into_iter().partition(is_named);
    super::limits::check_folders(options, gone.len(), ids.len())?;
    Ok(Orphans { gone, named, existing: found.len() })
}

/// Those of these tasks that are gone still, and are no projects.
///
/// # Errors
/// The server cannot be used.
pub fn still_gone(tools: &Tools, ids: &[Id]) -> Result<HashSet<Id>, CycleError> {
    let mut found = existing(tools, ids)?;
    found.extend(projects::existing(tools, ids)?);
    Ok(ids.iter().copied().filter(|id| !found.contains(id)).collect())
}
