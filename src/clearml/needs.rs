//! Which tasks need which others: a dataset version needs those that it is based on, and a pipeline its steps.
//!
//! This module must not delete anything. It says in which order tasks are deleted, so that none is deleted before a
//! task that needs it, and which ones stay.

use std::collections::{HashMap, HashSet};

use serde_json::json;

use super::datasets;
use super::error::CycleError;
use super::options::Options;
use super::rows::{Id, Tasks};
use super::selected::{Selected, SelectedTasks};
use super::tools::{PAGE, Tools};

/// Which selected tasks need which others of them.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// What a task needs.
    of: HashMap<Id, Vec<Id>>,
    /// Which tasks need it.
    by: HashMap<Id, Vec<Id>>,
}

impl Needs {
    /// Reads what they need, and which of them stay: a task stays if a task that needs it is not selected, or stays
    /// itself.
    ///
    /// # Errors
    /// The server cannot be used or trusted.
    pub(super) fn read(
        tools: &Tools,
        options: &Options,
        selected: &[Selected],
    ) -> Result<(Self, HashSet<Id>), CycleError> {
        let goes: HashSet<Id> = selected.iter().map(|task| task.id).collect();
        let (mut needs, mut stay) = (Self::default(), HashSet::new());
        let mut take = |task: Id, needed: Vec<Id>| {
            for id in needed.into_iter().filter(|id| *id != task && goes.contains(id)) {
                if goes.contains(&task) {
                    needs.add(task, id);
                } else {
                    stay.insert(id);
                }
            }
        };
        if !options.overrides.dataset_parents && selected.iter().any(|task| task.is_dataset) {
            datasets::each_need(tools, &mut take)?;
        }
        // A run of a pipeline that is made from another run has this one as its parent, and is no step of it.
        let steps = selected.iter().filter(|task| !task.is_pipeline);
        let steps = steps.filter_map(|task| Some((task.parent?, task.id)));
        let steps: Vec<(Id, Id)> = steps.collect();
        let pipelines = pipelines(tools, steps.iter().map(|(parent, _)| *parent).collect())?;
        for (pipeline, step) in steps.into_iter().filter(|(parent, _)| pipelines.contains(parent)) {
            take(pipeline, vec![step]);
        }
        // What stays keeps what it needs itself.
        let mut queue: Vec<Id> = stay.iter().copied().collect();
        while let Some(id) = queue.pop() {
            let needed = needs.of.get(&id).into_iter().flatten();
            queue.extend(needed.copied().filter(|id| stay.insert(*id)));
        }
        Ok((needs, stay))
    }

    /// Notes that a task needs another one.
    pub(super) fn add(&mut self, task: Id, needed: Id) {
        self.of.entry(task).or_default().push(needed);
        self.by.entry(needed).or_default().push(task);
    }

    /// Sorts tasks into batches of at most `size`, to be deleted one after the other: a task is in a later batch than
    /// those that need it. Only tasks that need each other may be in the same one.
    pub(super) fn batches<'s>(
        &self,
        selected: &'s mut [Selected],
        size: usize,
    ) -> Vec<&'s [Selected]> {
        let depths = self.depths();
        let depth = |task: &Selected| depths.get(&task.id).copied().unwrap_or(0);
        // If the cleanup ends early, few tasks are gone without those that they need.
        selected.sort_by_key(|task| (depth(task), self.of.contains_key(&task.id)));
        let levels = selected.chunk_by(|one, next| depth(one) == depth(next));
        levels.flat_map(|level| level.chunks(size)).collect()
    }

    /// How many tasks need a needed one, counted along the longest way. It is the largest number for tasks that need
    /// each other.
    pub(super) fn depths(&self) -> HashMap<Id, usize> {
        let mut open: HashMap<Id, usize> = self.by.iter().map(|(id, by)| (*id, by.len())).collect();
        let mut depths = HashMap::new();
        let mut queue: Vec<Id> =
            self.of.keys().filter(|id| !open.contains_key(id)).copied().collect();
        while let Some(id) = queue.pop() {
            let next = depths.get(&id).map_or(1, |depth| depth + 1);
            for needed in self.of.get(&id).into_iter().flatten() {
                let depth = depths.entry(*needed).or_insert(next);
                *depth = next.max(*depth);
                let Some(count) = open.get_mut(needed) else { continue };
                *count -= 1;
                if *count == 0 {
                    open.remove(needed);
                    queue.push(*needed);
                }
            }
        }
        depths.extend(open.into_keys().map(|id| (id, usize::MAX)));
        depths
    }

    /// Those tasks of a batch that another task needs which was to be deleted before them and is still there.
    pub(super) fn needed_still(&self, batch: &[Selected], selected: &SelectedTasks) -> HashSet<Id> {
        let batch: HashSet<Id> = batch.iter().map(|task| task.id).collect();
        let is_there = |id: &Id| selected.is_pending(*id) && !batch.contains(id);
        let is_needed = |id: &&Id| self.by.get(id).is_some_and(|by| by.iter().any(is_there));
        batch.iter().filter(is_needed).copied().collect()
    }
}

/// Why the server refuses to delete a task without force.
pub(super) const HAS_CHILD: &str = "a task that was made from it is published (--force-delete)";

/// Those of these tasks that have a published child. Without force, the server refuses to delete them.
pub(super) fn with_published_child(tools: &Tools, tasks: &[Id]) -> Result<HashSet<Id>, CycleError> {
    let mut parents = HashSet::new();
    for part in tasks.chunks(PAGE) {
        let query = json!({
            "parent": part, "status": ["published"], "only_fields": ["id", "parent"],
            "search_hidden": true,
        });
        tools.all_pages("tasks.get_all", &query, PAGE, |page: &Tasks| {
            let rows = page.tasks.iter();
            parents.extend(rows.filter_map(|row| Id::parse(row.parent.as_deref()?)));
            Ok(())
        })?;
    }
    Ok(parents)
}

/// The pipelines among these tasks.
fn pipelines(tools: &Tools, tasks: HashSet<Id>) -> Result<HashSet<Id>, CycleError> {
    let mut pipelines = HashSet::new();
    let fields = ["id", "system_tags"];
    let body = move |part: &[Id]| json!({"id": part, "only_fields": fields, "search_hidden": true});
    tools.ask_until_none("tasks.get_all", tasks.into_iter().collect(), body, |_, it: Tasks| {
        let is_pipeline = it.tasks.iter().filter(|row| row.has_system_tag("pipeline"));
        pipelines.extend(is_pipeline.map(|row| row.id));
        it.tasks.into_iter().map(|row| row.id).collect()
    })?;
    Ok(pipelines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Moment;

    fn id(digit: char) -> Id {
        Id::parse(&digit.to_string().repeat(32)).unwrap()
    }

    fn task(digit: char) -> Selected {
        let changed = Moment::from_unix(0, 0);
        let (id, parent) = (id(digit), None);
        Selected { id, changed, is_dataset: false, is_pipeline: false, project: 0, parent }
    }

    fn needs(pairs: &[(char, char)]) -> Needs {
        let mut needs = Needs::default();
        for (task, needed) in pairs {
            needs.add(id(*task), id(*needed));
        }
        needs
    }

    fn batches(needs: &Needs, tasks: &str, size: usize) -> Vec<String> {
        let mut tasks: Vec<Selected> = tasks.chars().map(task).collect();
        let digit = |task: &Selected| task.id.to_string().chars().next().unwrap();
        let batches = needs.batches(&mut tasks, size).into_iter();
        batches.map(|batch| batch.iter().map(digit).collect()).collect()
    }

    #[test]
    fn a_task_is_in_a_later_batch_than_all_that_need_it() {
        let chain = needs(&[('c', 'b'), ('b', 'a'), ('c', 'a'), ('d', 'a')]);
        assert_eq!(batches(&chain, "abcdef", 9), ["efcd", "b", "a"]);
        assert_eq!(batches(&chain, "abcdef", 3), ["efc", "d", "b", "a"]);
        assert_eq!(batches(&Needs::default(), "abc", 2), ["ab", "c"]);
        // Those that need each other are in one batch, after all others.
        let ring = needs(&[('a', 'b'), ('b', 'a'), ('c', 'a')]);
        assert_eq!(batches(&ring, "abcd", 9), ["dc", "ab"]);
    }

    #[test]
    fn a_task_is_needed_until_those_that_need_it_are_gone() {
        let needs = needs(&[('c', 'b'), ('d', 'b')]);
        let mut selected = SelectedTasks::new(['a', 'b', 'c', 'd'].map(id));
        let needed =
            |selected: &SelectedTasks| needs.needed_still(&[task('a'), task('b')], selected);
        selected.gone(id('c'));
        assert_eq!(needed(&selected), HashSet::from([id('b')]));
        selected.gone(id('d'));
        assert!(needed(&selected).is_empty());
    }
}
