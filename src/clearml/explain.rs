//! What a cleanup would do with one task, and why.
//!
//! It must not judge by rules of its own, or delete anything.

use std::collections::{HashMap, HashSet};

use serde_json::json;

use super::collect::collect;
use super::error::CycleError;
use super::files::Surroundings;
use super::journal::TaskFile;
use super::options::Options;
use super::references::References;
use super::rows::{Id, TaskRow, Tasks};
use super::select::{Conditions, FIELDS, Verdict};
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
    let mut answer = Explanation {
        task: task.to_owned(),
        status: None,
        changed: None,
        would_delete: false,
        verdict: String::new(),
        files: Vec::new(),
    };
    let Some(id) = Id::parse(task) else {
        answer.verdict = "never touched: an id of a task has 32 hexadecimal digits".to_owned();
        return Ok(answer);
    };
    let Some(row) = rows.get(&id) else {
        answer.verdict = "the server has no such task".to_owned();
        return Ok(answer);
    };
    answer.status.clone_from(&row.status);
    answer.changed = row.status_changed.as_deref().and_then(super::time::parse);
    let selected = match conditions.judge(row, options) {
        Err(CycleError::Untrusted(_)) => {
            answer.verdict = format!("a cleanup would keep it: {}", conditions.why_not(row));
            return Ok(answer);
        }
        Err(error) => return Err(error),
        Ok(Verdict::Ends(end, _)) => {
            answer.verdict = format!("a cleanup would keep it: {}", super::ledger::in_words(&end));
            return Ok(answer);
        }
        Ok(Verdict::Selected(selected)) => selected,
    };
    let needed = super::datasets::needed(tools, &[selected])?;
    if needed.contains(&id) && !options.overrides.dataset_parents {
        answer.verdict =
            "a cleanup would keep it: another version of the dataset is made from it".to_owned();
        return Ok(answer);
    }
    answer.would_delete = true;
    answer.verdict = "a cleanup would delete it".to_owned();
    answer.files = files(tools, options, id, row)?;
    Ok(answer)
}

/// The files of a task, and which of them would stay.
fn files(
    tools: &Tools,
    options: &Options,
    id: Id,
    row: &TaskRow,
) -> Result<Vec<(TaskFile, Option<String>)>, CycleError> {
    let plans = collect(tools, options, &HashMap::from([(id, row.clone())]))?;
    let selected = HashSet::from([id]);
    let references = References::read(tools, &selected, options)?;
    let mut found = Vec::new();
    for plan in plans {
        let surroundings = Surroundings {
            tools,
            options,
            references: &references,
            selected: &selected,
            doomed: plan.models.iter().chain(&plan.published_models).cloned().collect(),
            version: tools.version()?,
        };
        let shared = surroundings.shared(plan.files.iter().map(|it| (id, it.url.as_str())))?;
        found.extend(plan.files.into_iter().map(|file| {
            let is_shared = shared.contains(&file.url);
            (file, is_shared.then(|| "something that stays names it".to_owned()))
        }));
    }
    Ok(found)
}
