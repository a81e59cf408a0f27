//! What a cleanup would do with one task, and why.
//!
//! It must not judge by rules of its own, or delete anything.

use std::collections::HashMap;

use serde_json::json;

use super::collect::{CollectedFiles, Plan, collect};
use super::error::CycleError;
use super::files::{DeletionContext, NAMED, OF_OTHERS};
use super::journal::TaskFile;
use super::options::Options;
use super::references::References;
use super::rows::{Id, TaskRow, Tasks};
use super::select::{Conditions, FIELDS, Verdict};
use super::selected::SelectedTasks;
use super::tools::{PAGE, Tools};
use crate::rules::Moment;

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

/// Explains these tasks.
///
/// # Errors
/// The server cannot be used or trusted.
pub fn explain(
    tools: &Tools,
    options: &Options,
    conditions: &Conditions,
    tasks: &[String],
) -> Result<Vec<Explanation>, CycleError> {
    let ids: Vec<Id> = tasks.iter().filter_map(|task| Id::parse(task)).collect();
    let mut fields = FIELDS.to_vec();
    fields.extend(["last_update", "execution.artifacts", "models.output"]);
    let mut rows: HashMap<Id, TaskRow> = HashMap::new();
    for part in ids.chunks(PAGE) {
        let query = json!({
            "id": part, "only_fields": fields, "search_hidden": true, "page": 0, "page_size": PAGE,
        });
        let answer: Tasks = tools.ask("tasks.get_all", query)?;
        rows.extend(answer.tasks.into_iter().map(|row| (row.id, row)));
    }
    tasks.iter().map(|task| explain_one(tools, options, conditions, task, &rows)).collect()
}

fn explain_one(
    tools: &Tools,
    options: &Options,
    conditions: &Conditions,
    task: &str,
    rows: &HashMap<Id, TaskRow>,
) -> Result<Explanation, CycleError> {
    let stays = |row: Option<&TaskRow>, verdict: String| Explanation {
        task: task.to_owned(),
        status: row.and_then(|row| row.status.clone()),
        changed: row.and_then(|row| super::time::parse(row.status_changed.as_deref()?)),
        would_delete: false,
        verdict,
        files: Vec::new(),
    };
    let Some(id) = Id::parse(task) else {
        let why = "never touched: a task id has 32 hexadecimal digits";
        return Ok(stays(None, why.to_owned()));
    };
    let Some(row) = rows.get(&id) else {
        return Ok(stays(None, "the server has no such task".to_owned()));
    };
    let kept = |why: &str| Ok(stays(Some(row), format!("a cleanup would keep it: {why}")));
    let selected = match conditions.judge(row, options) {
        Err(CycleError::Untrusted(_)) => {
            return kept(&conditions.why_not(row));
        }
        Err(error) => return Err(error),
        Ok(Verdict::Ends(end, _)) => {
            return kept(&super::ledger::in_words(&end));
        }
        Ok(Verdict::Selected(selected)) => selected,
    };
    if selected.is_dataset && !options.overrides.dataset_parents {
        let mut is_needed = false;
        super::datasets::each_need(tools, |_, needed| is_needed |= needed.contains(&id))?;
        if is_needed {
            return kept("another version of the dataset is based on it");
        }
    }
    let CollectedFiles { plans, mut failed } =
        collect(tools, options, &HashMap::from([(id, row.clone())]))?;
    if let Some(why) = failed.remove(&id) {
        return kept(&why);
    }
    Ok(Explanation {
        would_delete: true,
        files: files(tools, options, id, plans)?,
        ..stays(Some(row), "a cleanup would delete it".to_owned())
    })
}

/// The files of a task, and which of them would stay.
fn files(
    tools: &Tools,
    options: &Options,
    id: Id,
    plans: Vec<Plan>,
) -> Result<Vec<(TaskFile, Option<String>)>, CycleError> {
    let references = References::read(tools, &SelectedTasks::new([id]))?;
    let mut context = DeletionContext::new(tools, options, references, SelectedTasks::new([id]))?;
    let mut found = Vec::new();
    for plan in plans {
        context.deleted_models =
            plan.models.iter().chain(&plan.published_models).cloned().collect();
        plan.kept_models.iter().for_each(|url| context.references.keep(url));
        let shared = context.shared(plan.files.iter().map(|it| (id, it.url.as_str())))?;
        found.extend(plan.files.into_iter().map(|file| {
            let why = if context.may_be_of_others(id, &file) {
                Some(OF_OTHERS.to_owned())
            } else {
                shared.contains(&file.url).then(|| NAMED.to_owned())
            };
            (file, why)
        }));
    }
    Ok(found)
}
