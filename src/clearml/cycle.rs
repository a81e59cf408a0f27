//! One cleanup: select, collect, write down, delete, remove files.
//!
//! It must not choose between a real cleanup and a dry run: it is handed an [`Executor`] and a [`Remover`] that
//! make the difference. Tasks go in batches, so what is held in memory does not grow with their number.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Instant;

use super::collect::{Plan, collect};
use super::delete::{Manner, TaskEnd};
use super::error::{ApiError, CycleError};
use super::files::{Remover, Settled, Surroundings};
use super::journal::{Ending, FileEnd, TaskFile};
use super::ledger::{End, Ledger};
use super::options::{FilesMode, Options};
use super::references::References;
use super::rows::{Id, TaskRow};
use super::select::{Conditions, Selected, select, still_selected};
use super::tools::Tools;
use crate::protocol::{Observer, Skipped, StopReason};
use crate::rules::{KeptReason, Moment, Ttl};

/// How many tasks are deleted at once. The script that this replaces reads pages of this size.
pub const BATCH: usize = 100;

/// Carries out a cleanup, or only goes through it.
pub trait Executor {
    /// Writes down what is about to be deleted.
    ///
    /// # Errors
    /// It is not on disk: nothing may be deleted.
    fn begin(&mut self, plans: &[Plan]) -> Result<(), CycleError>;

    /// Deletes tasks.
    ///
    /// # Errors
    /// The run was told to stop, or the journal cannot be written.
    fn delete(
        &mut self,
        tools: &Tools,
        ids: &[Id],
        manner: Manner,
    ) -> Result<HashMap<Id, TaskEnd>, CycleError>;

    /// Deletes published models.
    ///
    /// # Errors
    /// The run was told to stop.
    fn delete_models(&mut self, tools: &Tools, ids: Vec<String>) -> Result<(), CycleError>;

    /// Writes down that these tasks are not deleted after all.
    ///
    /// # Errors
    /// The journal cannot be written.
    fn kept(&mut self, tasks: &[Id]) -> Result<(), CycleError>;

    /// Writes down what became of files.
    ///
    /// # Errors
    /// The journal cannot be written.
    fn settled(&mut self, ends: BTreeMap<Id, Vec<FileEnd>>) -> Result<(), CycleError>;

    /// Whether the models of a deleted task are still on the server.
    fn models_are_left(&self) -> bool;
}

/// What a cleanup is made of.
pub struct Cycle<'a> {
    /// The client.
    pub tools: &'a Tools,
    /// What the user asks for.
    pub options: &'a Options,
    /// The moment that everything is judged at.
    pub now: Moment,
    /// When to end early.
    pub deadline: Option<Instant>,
    /// Is told what happens.
    pub observer: &'a dyn Observer,
    /// Is told how many tasks are about to be deleted.
    pub on_batch: &'a dyn Fn(usize),
    /// Is told of the folder of a task.
    pub on_folder: &'a dyn Fn(&super::files::FolderEnd),
}

impl Cycle<'_> {
    /// Cleans up once. Says why it ended early, if it did.
    ///
    /// # Errors
    /// The server or the journal cannot be used, or a guard stands in the way. The ledger has what was done
    /// until then.
    pub fn run(
        &self,
        executor: &mut dyn Executor,
        remover: &mut dyn Remover,
        ledger: &mut Ledger,
    ) -> Result<Option<StopReason>, CycleError> {
        let conditions = Conditions::new(self.tools, self.options, self.now)?;
        let selected =
            select(self.tools, self.options, &conditions, &mut ledger.tasks, self.observer)?;
        self.observer.on_unlocked();
        if selected.is_empty() {
            return Ok(None);
        }
        let ids: HashSet<Id> = selected.iter().map(|task| task.id).collect();
        let references = if self.options.overrides.shared_files {
            References::default()
        } else {
            References::read(self.tools, &ids, self.options)?
        };
        let mut surroundings = Surroundings {
            tools: self.tools,
            options: self.options,
            references: &references,
            selected: &ids,
            doomed: HashSet::new(),
            version: self.tools.version()?,
        };
        for batch in selected.chunks(BATCH) {
            if self.tools.crew.is_stopped() {
                return Err(ApiError::Stopped.into());
            }
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(Some(StopReason::Deadline));
            }
            let batch = Batch { cycle: self, conditions: &conditions, tasks: batch };
            batch.run(&mut surroundings, executor, remover, ledger)?;
            self.observer.on_unlocked();
        }
        Ok(None)
    }
}

/// Some tasks of a cleanup.
struct Batch<'a> {
    cycle: &'a Cycle<'a>,
    conditions: &'a Conditions,
    tasks: &'a [Selected],
}

impl Batch<'_> {
    fn run(
        &self,
        surroundings: &mut Surroundings<'_>,
        executor: &mut dyn Executor,
        remover: &mut dyn Remover,
        ledger: &mut Ledger,
    ) -> Result<(), CycleError> {
        let Cycle { tools, options, .. } = *self.cycle;
        let mut ends: HashMap<Id, End> = HashMap::new();
        let ids: Vec<Id> = self.tasks.iter().map(|task| task.id).collect();
        let rows = self.still_selected(
            &ids,
            &["last_update", "execution.artifacts", "models.output"],
            &mut ends,
        )?;
        let mut plans = collect(tools, options, &rows)?;
        drop(rows);
        (self.cycle.on_batch)(plans.len());
        surroundings.doomed = if executor.models_are_left() {
            let models =
                plans.iter().flat_map(|plan| plan.models.iter().chain(&plan.published_models));
            models.cloned().collect()
        } else {
            HashSet::new()
        };
        for plan in &mut plans {
            plan.is_told = surroundings.tells_server(plan.task, &plan.files)?;
        }
        executor.begin(&plans)?;
        let planned: Vec<Id> = plans.iter().map(|plan| plan.task).collect();
        let now = self.still_selected(&planned, &["last_update"], &mut ends)?;
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for plan in &plans {
            match now.get(&plan.task) {
                None => continue,
                Some(row) if row.last_update != plan.last_update => {
                    ends.insert(plan.task, End::Skipped(Skipped::Used));
                    continue;
                }
                Some(_) => {}
            }
            let group = if plan.is_told { &mut with } else { &mut without };
            group.push(plan.task);
        }
        let skipped: Vec<Id> = planned.iter().copied().filter(|id| ends.contains_key(id)).collect();
        executor.kept(&skipped)?;
        let mut files: HashMap<Id, Vec<TaskFile>> = HashMap::new();
        let (mut published, mut whole) = (Vec::new(), HashSet::new());
        for plan in plans {
            if !plan.keeps_models {
                whole.insert(plan.task);
            }
            files.insert(plan.task, plan.files);
            published.push((plan.task, plan.published_models));
        }
        let mut unknown = None;
        for (ids, external) in [(without, false), (with, true)] {
            if ids.is_empty() {
                continue;
            }
            let manner = Manner { force: options.force, external };
            let mut deleted = Vec::new();
            for (id, end) in executor.delete(tools, &ids, manner)? {
                if let TaskEnd::Unknown(error) = &end {
                    unknown = Some(error.clone());
                }
                if let TaskEnd::Deleted(more) = &end {
                    let files = files.entry(id).or_default();
                    let new =
                        more.iter().filter(|more| files.iter().all(|old| old.url != more.url));
                    let new: Vec<TaskFile> = new.cloned().collect();
                    files.extend(new);
                    deleted.push(id);
                }
                ends.insert(id, in_report(end));
            }
            let models = published.iter().filter(|(task, _)| deleted.contains(task));
            let models: Vec<String> = models.flat_map(|(_, models)| models).cloned().collect();
            if !models.is_empty() {
                executor.delete_models(tools, models)?;
            }
            self.report(&mut ends, ledger);
            let of_deleted = deleted.iter().map(|id| (*id, files.remove(id).unwrap_or_default()));
            let of_deleted: Vec<(Id, Vec<TaskFile>)> = of_deleted.collect();
            settle(
                self.cycle,
                surroundings,
                executor,
                remover,
                ledger,
                of_deleted,
                external,
                &whole,
            )?;
        }
        self.report(&mut ends, ledger);
        unknown.map_or(Ok(()), |error| Err(error.into()))
    }

    /// The rows of these tasks as they are now. What is not selected any more is skipped.
    fn still_selected(
        &self,
        ids: &[Id],
        fields: &[&str],
        ends: &mut HashMap<Id, End>,
    ) -> Result<HashMap<Id, TaskRow>, CycleError> {
        let Cycle { tools, options, .. } = *self.cycle;
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = still_selected(tools, options, self.conditions, ids, fields)?;
        for id in ids.iter().filter(|id| !rows.contains_key(id)) {
            ends.insert(*id, End::Skipped(Skipped::Used));
        }
        Ok(rows)
    }

    /// Tells what happened to tasks.
    fn report(&self, ends: &mut HashMap<Id, End>, ledger: &mut Ledger) {
        let ttl = Some(Ttl::from_duration(self.cycle.options.threshold));
        for task in self.tasks {
            let Some(end) = ends.remove(&task.id) else { continue };
            let age = Some(self.conditions.age(task.changed));
            ledger.tasks.add(&task.id.to_string(), &end, age, ttl, self.cycle.observer);
            if let End::Kept(KeptReason::Refused) = &end {
                ledger.tasks.note("the server keeps some tasks by its rules; see the warnings");
            }
        }
    }
}

/// The end of a task as the report tells it.
fn in_report(end: TaskEnd) -> End {
    match end {
        TaskEnd::Deleted(_) => End::Removed(crate::rules::Bytes(0)),
        TaskEnd::Refused(why) => {
            tracing::warn!("a task is kept, because the server refuses to delete it: {why}");
            End::Kept(KeptReason::Refused)
        }
        TaskEnd::Public => End::Kept(KeptReason::NotOurs),
        TaskEnd::Failed(why) => End::Failed(why),
        TaskEnd::Unknown(error) => {
            End::Failed(format!("it is not known whether it is deleted: {error}"))
        }
    }
}

/// Removes the files of deleted tasks, and writes down what became of them.
///
/// # Errors
/// The server or the journal cannot be used, or the run was told to stop.
pub(super) fn settle(
    cycle: &Cycle<'_>,
    surroundings: &Surroundings<'_>,
    executor: &mut dyn Executor,
    remover: &mut dyn Remover,
    ledger: &mut Ledger,
    files: Vec<(Id, Vec<TaskFile>)>,
    is_told: bool,
    may_go_whole: &HashSet<Id>,
) -> Result<(), CycleError> {
    let tasks: Vec<Id> = files.iter().map(|(task, _)| *task).collect();
    let flat =
        files.into_iter().flat_map(|(task, files)| files.into_iter().map(move |it| (task, it)));
    let settled: Vec<Settled> = surroundings.settle(remover, flat.collect(), is_told)?;
    let mut by_task: BTreeMap<Id, Vec<FileEnd>> =
        tasks.iter().map(|task| (*task, Vec::new())).collect();
    for (task, file, end) in settled {
        ledger.files.add(&file.url, &end, None, None, cycle.observer);
        by_task.entry(task).or_default().push(file);
    }
    // A folder goes as a whole if nothing in it stays, and nothing outside names it.
    let stays = |end: &FileEnd| !matches!(end.outcome, Ending::Removed | Ending::Gone);
    let whole: Vec<Id> = by_task
        .iter()
        .filter(|(task, ends)| {
            may_go_whole.contains(task)
                && !surroundings.references.name_folder_of(**task)
                && !ends.iter().any(stays)
        })
        .map(|(task, _)| *task)
        .collect();
    if cycle.options.files == FilesMode::Mount && !whole.is_empty() {
        for folder in remover.remove_folders(&whole)? {
            (cycle.on_folder)(&folder);
        }
    }
    executor.settled(by_task)
}
