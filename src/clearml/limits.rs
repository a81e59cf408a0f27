//! How much may be deleted at once.
//!
//! This module must not delete anything: it refuses a cleanup that would delete too much.

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
    check_count(options, count, &format!("{count} tasks would be deleted"))?;
    if options.max_share.is_none() || count == 0 {
        return Ok(());
    }
    let query = json!({
        "system_tags": ["archived"], "search_hidden": true, "only_fields": ["id"],
    });
    let mut known: HashSet<Id> = HashSet::new();
    tools.all_pages("tasks.get_all", &query, PAGE, |page: &Tasks| {
        known.extend(page.tasks.iter().map(|row| row.id));
        Ok(())
    })?;
    let what = format!("{count} of {} archived tasks would be deleted", known.len());
    check_share(options, count, known.len(), &what)
}

/// Checks the number of folders that would be removed, out of all folders of tasks.
///
/// # Errors
/// There are too many.
pub(super) fn check_folders(options: &Options, count: usize, all: usize) -> Result<(), CycleError> {
    check_count(options, count, &format!("the folders of {count} tasks would be removed"))?;
    let what = format!("the folders of {count} of {all} tasks would be removed");
    check_share(options, count, all, &what)
}

fn check_count(options: &Options, count: usize, what: &str) -> Result<(), CycleError> {
    match options.max_tasks.filter(|most| count as u64 > *most) {
        Some(most) => Err(CycleError::Guard(format!("{what}, but --max-tasks allows only {most}"))),
        None => Ok(()),
    }
}

#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
fn check_share(options: &Options, count: usize, all: usize, what: &str) -> Result<(), CycleError> {
    let all = all.max(count);
    match options.max_share.filter(|most| count as u64 > most.of(all as u64)) {
        Some(most) => {
            let share = 100.0 * count as f64 / all as f64;
            Err(CycleError::Guard(format!(
                "{what}, which is {share:.1}%, but --max-share allows only {most}"
            )))
        }
        None => Ok(()),
    }
}
