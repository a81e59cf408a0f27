//! What a cleanup would do with one task, and why.
//!
//! This module must not judge by rules of its own, or delete anything.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use serde_json::json;

use super::collect::{CollectedFiles, collect};
use super::error::CycleError;
use super::files::{At, DeletionContext, Removal, Remover, Target};
use super::fileserver::NO_ROOT;
use super::journal::{Ending, FileEnd, TaskFile};
use super::ledger::{End, in_words};
use super::needs::{HAS_CHILD, with_published_child};
use super::options::Options;
use super::references::References;
use super::rows::{Id, TaskRow, Tasks};
use super::select::{Conditions, FIELDS, Selection, select};
use super::selected::SelectedTasks;
use super::tools::{PAGE, Tools};
use crate::rules::{Bytes, Moment};

/// What is known about a task.
#[derive(Debug)]
pub struct Explanation {
    /// The task, as it was asked for.
    pub task: String,
    /// Its status.
    pub status: Option<String>,
    /// When that changed.
    pub changed: Option<Moment>,
    /// Whether a cleanup would delete it.
    pub would_delete: bool,
    /// What would happen to it.
    pub verdict: String,
    /// Its files, each with why it would stay, if it would.
    pub files: Vec<(TaskFile, Option<String>)>,
}

/// Explains these tasks. Files of this machine can go below `local_roots`.
///
/// # Errors
/// The server cannot be used or trusted.
pub fn explain(
    tools: &Tools,
    options: &Options,
    conditions: &Conditions,
    local_roots: &[PathBuf],
    tasks: &[String],
) -> Result<Vec<Explanation>, CycleError> {
    let rows = rows(tools, tasks)?;
    let Selection { selected, ends, .. } = select(tools, options, conditions)?;
    let ends = ends.into_iter().map(|(id, end, _)| (id, end)).collect();
    let selected = SelectedTasks::new(selected.iter().map(|task| task.id));
    let (files, failed) = files(tools, options, local_roots, selected, &rows)?;
    let verdicts = Verdicts { conditions, rows, ends, failed, files };
    Ok(tasks.iter().map(|task| verdicts.explain(task)).collect())
}

/// The tasks that there are.
fn rows(tools: &Tools, tasks: &[String]) -> Result<HashMap<Id, TaskRow>, CycleError> {
    let ids: Vec<Id> = tasks.iter().filter_map(|task| Id::parse(task)).collect();
    let mut fields = FIELDS.to_vec();
    fields.extend(["last_update", "execution.artifacts", "models.output"]);
    let mut rows = HashMap::new();
    for part in ids.chunks(PAGE) {
        let query = json!({
            "id": part, "only_fields": fields, "search_hidden": true, "page": 0, "page_size": PAGE,
        });
        let answer: Tasks = tools.ask("tasks.get_all", query)?;
        rows.extend(answer.tasks.into_iter().map(|row| (row.id, row)));
    }
    Ok(rows)
}

/// What a cleanup would do with tasks.
struct Verdicts<'a> {
    conditions: &'a Conditions,
    rows: HashMap<Id, TaskRow>,
    /// Tasks that a guard keeps.
    ends: HashMap<Id, End>,
    /// Tasks that stay for another reason.
    failed: HashMap<Id, String>,
    /// The files of tasks that would be deleted.
    files: FilesOfTasks,
}

/// The files of tasks, each with why it would stay, if it would.
type FilesOfTasks = HashMap<Id, Vec<(TaskFile, Option<String>)>>;

impl Verdicts<'_> {
    fn explain(&self, task: &str) -> Explanation {
        let id = Id::parse(task);
        let row = id.and_then(|id| self.rows.get(&id));
        let files = row.and_then(|row| self.files.get(&row.id));
        let verdict = match (id, row, files) {
            (None, ..) => "never touched: a task id has 32 hexadecimal digits".to_owned(),
            (_, None, _) => "the server has no such task".to_owned(),
            (.., Some(_)) => "a cleanup would delete it".to_owned(),
            (_, Some(row), None) => format!("a cleanup would keep it: {}", self.why_kept(row)),
        };
        Explanation {
            task: task.to_owned(),
            status: row.and_then(|row| row.status.clone()),
            changed: row.and_then(|row| super::time::parse(row.status_changed.as_deref()?)),
            would_delete: files.is_some(),
            verdict,
            files: files.cloned().unwrap_or_default(),
        }
    }

    fn why_kept(&self, row: &TaskRow) -> String {
        let failed = self.failed.get(&row.id).cloned();
        let end = || self.ends.get(&row.id).map(in_words);
        failed.or_else(end).unwrap_or_else(|| self.conditions.why_not(row))
    }
}

/// The files of those of these tasks that are selected, by task; and those that stay, each with the reason.
fn files(
    tools: &Tools,
    options: &Options,
    local_roots: &[PathBuf],
    selected: SelectedTasks,
    rows: &HashMap<Id, TaskRow>,
) -> Result<(FilesOfTasks, HashMap<Id, String>), CycleError> {
    let mut rows = rows.clone();
    rows.retain(|id, _| selected.contains(*id));
    if rows.is_empty() {
        return Ok((HashMap::new(), HashMap::new()));
    }
    let references = References::protecting(tools, &selected, options, &HashSet::new())?;
    let mut context = DeletionContext::new(tools, options, references, selected)?;
    let CollectedFiles { plans, mut failed } = collect(&context, &rows)?;
    let tasks: Vec<Id> = plans.iter().map(|plan| plan.task).collect();
    let parents = if options.force { HashSet::new() } else { with_published_child(tools, &tasks)? };
    let mut found = HashMap::new();
    context.keep_models_of(&plans);
    for plan in plans {
        let task = plan.task;
        if let Some(why) = plan.refused.or_else(|| parents.contains(&task).then_some(HAS_CHILD)) {
            failed.insert(task, format!("the server refuses to delete it: {why}"));
            continue;
        }
        let is_told = context.tells_server(&plan)?;
        context.deleted_models = plan.own_models().collect();
        let files = plan.files.into_iter().map(|file| (task, file)).collect();
        // A file that waits for another task goes with it.
        let (settled, later) = context.settle(&mut Allowed(local_roots), files, is_told, false)?;
        let settled = settled.into_iter().map(|(_, end, _)| {
            let FileEnd { url, kind, outcome, why } = end;
            (TaskFile { url, kind }, (outcome != Ending::Removed).then_some(why))
        });
        let files = settled.chain(later.into_iter().map(|(_, file)| (file, None))).collect();
        found.insert(task, files);
    }
    Ok((found, failed))
}

/// Says which files may be removed, without a look at them. Those of this machine must be below one of these roots.
struct Allowed<'a>(&'a [PathBuf]);

impl Remover for Allowed<'_> {
    fn remove(
        &mut self,
        _tools: &Tools,
        targets: Vec<Target>,
        _kept: &HashSet<String>,
    ) -> Result<Vec<(Target, Removal)>, CycleError> {
        let judged = targets.into_iter().map(|target| {
            let is_allowed = match &target.at {
                At::Local(path) => self.0.iter().any(|root| path.starts_with(root)),
                At::Fileserver(..) => true,
            };
            let removal = if is_allowed {
                Removal::Removed(Bytes(0))
            } else {
                Removal::Left(NO_ROOT.to_owned())
            };
            (target, removal)
        });
        Ok(judged.collect())
    }
}
