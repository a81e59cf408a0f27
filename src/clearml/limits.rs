//! How much may be deleted at once.
//!
//! It must not delete anything: it refuses a cleanup that would delete too much.

use std::collections::HashSet;

use serde_json::json;

use super::error::CycleError;
use super::options::Options;
use super::rows::{Id, Tasks};
use super::tools::{PAGE, Tools};

/// Checks the number of tasks that would be deleted.
///
/// # Errors
/// There are too many, or the server cannot be used.
pub(super) fn check(tools: &Tools, options: &Options, count: usize) -> Result<(), CycleError> {
    if let Some(most) = options.max_tasks
        && count as u64 > most
    {
        return Err(CycleError::Guard(format!(
            "{count} tasks would be deleted, and --max-tasks allows {most}"
        )));
    }
    let Some(most) = options.max_share.filter(|_| count > 0) else { return Ok(()) };
    let query = json!({
        "system_tags": ["archived"], "search_hidden": true, "only_fields": ["id"],
    });
    let mut known: HashSet<Id> = HashSet::new();
    tools.all_pages("tasks.get_all", &query, PAGE, |page: &Tasks| {
        known.extend(page.tasks.iter().map(|row| row.id));
        Ok(())
    })?;
    let share = share(count, known.len().max(count));
    if share > most {
        return Err(CycleError::Guard(format!(
            "{count} of {} archived tasks would be deleted, which is {share:.1}%, and --max-share \
             allows {most}%",
            known.len()
        )));
    }
    Ok(())
}

/// Checks the number of folders that would be removed, out of all folders of tasks.
///
/// # Errors
/// There are too many.
pub(super) fn check_folders(options: &Options, count: usize, all: usize) -> Result<(), CycleError> {
    if let Some(most) = options.max_tasks.filter(|most| count as u64 > *most) {
        return Err(CycleError::Guard(format!(
            "the folders of {count} tasks would be removed, and --max-tasks allows {most}"
        )));
    }
    let share = share(count, all.max(1));
    if let Some(most) = options.max_share.filter(|most| share > *most) {
        return Err(CycleError::Guard(format!(
            "the folders of {count} of {all} tasks would be removed, which is {share:.1}%, and \
             --max-share allows {most}%"
        )));
    }
    Ok(())
}

/// A part in percent.
#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
fn share(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole as f64
}
