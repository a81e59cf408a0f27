//! The tasks that a cleanup is about to delete, in few bytes.
//!
//! This module must not hold a name or an address: there may be many of them.

use super::rows::Id;
use crate::rules::Moment;

/// A task that was selected.
#[derive(Debug, Clone, Copy)]
pub struct Selected {
    /// The task.
    pub id: Id,
    /// When its status changed last.
    pub changed: Moment,
    pub(super) is_dataset: bool,
    pub(super) is_pipeline: bool,
    pub(super) project: u64,
    /// The task that it was made for, such as the pipeline of a step.
    pub(super) parent: Option<Id>,
}

/// All of them, and which of them are deleted by now. Until then a task counts as one that may stay.
#[derive(Debug, Default)]
pub struct SelectedTasks {
    /// In order.
    ids: Vec<Id>,
    is_gone: Vec<bool>,
}

impl SelectedTasks {
    /// With these tasks, none of which is deleted yet.
    pub fn new(ids: impl IntoIterator<Item = Id>) -> Self {
        let mut ids: Vec<Id> = ids.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        Self { is_gone: vec![false; ids.len()], ids }
    }

    /// Whether this task was selected.
    pub fn contains(&self, id: Id) -> bool {
        self.ids.binary_search(&id).is_ok()
    }

    /// Whether this task was selected and is not deleted yet.
    pub fn is_pending(&self, id: Id) -> bool {
        self.ids.binary_search(&id).is_ok_and(|at| !self.is_gone[at])
    }

    /// This task is deleted.
    pub fn gone(&mut self, id: Id) {
        if let Ok(at) = self.ids.binary_search(&id) {
            self.is_gone[at] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_pending_until_it_is_deleted() {
        let id = |digit: &str| Id::parse(&digit.repeat(32)).unwrap();
        let mut tasks = SelectedTasks::new([id("b"), id("a"), id("b")]);
        assert!(tasks.contains(id("a")) && tasks.is_pending(id("b")));
        tasks.gone(id("b"));
        tasks.gone(id("c"));
        assert!(tasks.contains(id("b")) && !tasks.is_pending(id("b")));
        assert!(!tasks.contains(id("c")) && tasks.is_pending(id("a")));
    }
}
