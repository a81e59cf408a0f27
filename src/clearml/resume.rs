//! Finishes the work of earlier runs that the journal records, before anything new is begun.
//!
//! This module must not delete a task: a task that is still there is left to the next selection. Its files are only
//! removed after "there is no such task", whatever the journal says of it.

use std::collections::{HashMap, HashSet};

use super::cycle::BATCH;
use super::delete::{MODEL_IN_USE, TaskEnd, model_end, probe};
use super::error::CycleError;
use super::executor::Real;
use super::files::{DeletionContext, Remover};
use super::journal::{Ending, FileEnd, Kind, Record, Stage, TaskFile};
use super::ledger::Ledger;
use super::models::{FoundModel, find_models};
use super::parts::{Cycle, CycleParts, Executor};
use super::references::References;
use super::rows::Id;
use super::selected::SelectedTasks;
use super::settle::{self, Rest, settle, tell_model};
use crate::protocol::StopReason;

/// A deletion that was begun this long ago is not under way any more.
const FORGOTTEN_AFTER: i64 = 3600;

impl Cycle<'_> {
    /// Finishes the journal. Says why it ended early, if it did. Failed files are tried again; in a retry also those that
    /// nobody could delete, since the settings may be others now.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn resume(
        &self,
        real: &mut Real<'_>,
        remover: &mut dyn Remover,
        ledger: &mut Ledger,
        is_retry: bool,
    ) -> Result<Option<StopReason>, CycleError> {
        let is_tried = |stage: &Stage| *stage != Stage::Left || is_retry;
        let unfinished = real.journal.unfinished().into_iter();
        let open: Vec<(Id, Stage)> = unfinished.filter(|(_, stage)| is_tried(stage)).collect();
        if open.is_empty() {
            return Ok(None);
        }
        tracing::info!("{} tasks of an earlier run are finished first", open.len());
        // A task that is still there may not be deleted after all, so what it names stays.
        let none = SelectedTasks::default();
        let models = self.models_left(&open, real)?;
        let ids = models.keys().cloned().collect();
        let references = References::protecting(self.tools, &none, self.options, &ids)?;
        let mut context = DeletionContext::new(self.tools, self.options, references, none)?;
        if !models.is_empty() {
            self.delete_models(models, &mut context, real, ledger)?;
        }
        for batch in open.chunks(BATCH) {
            if let Some(late) = self.tools.ends()? {
                return Ok(Some(late));
            }
            self.resume_batch(batch, &context, real, remover, ledger, is_retry)?;
            self.observer.on_unlocked();
        }
        Ok(None)
    }

    fn resume_batch(
        &self,
        batch: &[(Id, Stage)],
        context: &DeletionContext<'_>,
        real: &mut Real<'_>,
        remover: &mut dyn Remover,
        ledger: &mut Ledger,
        is_retry: bool,
    ) -> Result<(), CycleError> {
        let gone = self.find_gone(batch, real)?;
        // Which models of them stay is not known any more, so no folder is removed as a whole.
        let mut rests = [false, true].map(|is_told| Rest { is_told, ..Rest::default() });
        for (task, stage) in batch.iter().filter(|(task, _)| gone.contains(task)) {
            let left = real.journal.files_of(*task).map_err(CycleError::Journal)?;
            let is_tried = |end: &FileEnd| match end.outcome {
                Ending::Failed => true,
                Ending::Left => is_retry,
                Ending::Removed | Ending::Gone | Ending::Kept | Ending::LeftToServer => false,
            };
            let is_model = |end: &mut FileEnd| end.kind == Kind::ModelRecord;
            let mut tried = left.tried;
            // Those that could not be deleted a moment ago. The file server was not told of their files.
            let models: Vec<FileEnd> = tried.extract_if(.., is_model).collect();
            let is_told = left.is_told && models.is_empty();
            let (again, known): (Vec<_>, Vec<_>) = tried.into_iter().partition(is_tried);
            let again = again.into_iter().map(|end| TaskFile { url: end.url, kind: end.kind });
            let mut files: Vec<TaskFile> = match stage {
                Stage::Failed | Stage::Left => again.collect(),
                Stage::Planned(_) | Stage::Deleted => left.files.into_iter().chain(again).collect(),
            };
            let known = known.into_iter().filter(|end| end.outcome == Ending::Left);
            // A task that was found to be gone only now: its models are left to the next run.
            let untried = files.extract_if(.., |file| file.kind == Kind::ModelRecord);
            let untried = untried.map(|model| model_end(model.url, Ending::Failed, "not tried"));
            let known = known.chain(untried).chain(models).collect();
            rests[usize::from(is_told)].known.insert(*task, known);
            rests[usize::from(is_told)].files.push((*task, files));
        }
        let files = rests.iter().flat_map(|rest| rest.files.iter().flat_map(|(_, files)| files));
        settle::check(self, remover, files)?;
        for rest in rests.into_iter().filter(|rest| !rest.files.is_empty()) {
            let (executor, remover, ledger) = (&mut *real, &mut *remover, &mut *ledger);
            let mut parts = CycleParts { executor, remover, ledger, later: Vec::new() };
            settle(self, context, &mut parts, rest)?;
        }
        Ok(())
    }

    /// The models that were to be deleted after those of these tasks that are gone, each with its task.
    fn models_left(
        &self,
        open: &[(Id, Stage)],
        real: &mut Real<'_>,
    ) -> Result<HashMap<String, Id>, CycleError> {
        let (mut models, mut tasks) = (HashMap::new(), Vec::new());
        for (task, stage) in open {
            let left = real.journal.files_of(*task).map_err(CycleError::Journal)?;
            let failed = left.tried.into_iter().filter(|end| end.outcome == Ending::Failed);
            let failed = failed.map(|end| TaskFile { url: end.url, kind: end.kind });
            let files = left.files.into_iter().chain(failed);
            let files = files.filter(|file| file.kind == Kind::ModelRecord);
            let before = models.len();
            models.extend(files.map(|model| (model.url, *task)));
            if models.len() > before {
                tasks.push((*task, *stage));
            }
        }
        let gone = self.find_gone(&tasks, real)?;
        models.retain(|_, task| gone.contains(task));
        Ok(models)
    }

    /// Deletes these models, unless something uses them by now, and writes down what became of them.
    fn delete_models(
        &self,
        mut models: HashMap<String, Id>,
        context: &mut DeletionContext<'_>,
        real: &mut Real<'_>,
        ledger: &mut Ledger,
    ) -> Result<(), CycleError> {
        let found = find_models(context, &models.keys().cloned().collect::<Vec<_>>())?;
        let (used, unused): (Vec<FoundModel>, Vec<FoundModel>) =
            found.into_iter().partition(|model| model.is_used);
        let urls: HashMap<String, String> =
            used.iter().chain(&unused).map(|it| (it.id.clone(), it.url.clone())).collect();
        let mut ends: Vec<FileEnd> =
            used.into_iter().map(|it| model_end(it.id, Ending::Kept, MODEL_IN_USE)).collect();
        let unused = unused.into_iter().map(|model| model.id).collect();
        ends.extend(real.delete_models(self.tools, unused, false)?);
        let missing = models.keys().filter(|id| !urls.contains_key(*id)).cloned();
        ends.extend(missing.map(|id| model_end(id, Ending::Gone, "")).collect::<Vec<_>>());
        let mut records = Vec::new();
        for end in ends {
            let Some(task) = models.remove(&end.url) else { continue };
            if let (Some(url), Ending::Kept | Ending::Failed) = (urls.get(&end.url), end.outcome) {
                context.references.keep(url);
            }
            tell_model(self, &mut ledger.files, &end);
            records.push(Record::Files { task, complete: false, outcomes: vec![end] });
        }
        real.journal.append(&records).map_err(CycleError::Journal)
    }

    /// Those of these tasks that are deleted. Each is asked for, also one that was deleted before: the server may have it
    /// again, from a backup, and then its files are in use.
    fn find_gone(
        &self,
        batch: &[(Id, Stage)],
        real: &mut Real<'_>,
    ) -> Result<HashSet<Id>, CycleError> {
        let ids: Vec<Id> = batch.iter().map(|(id, _)| *id).collect();
        let ends = probe(self.tools, &ids, "")?;
        let mut gone = HashSet::new();
        let (mut records, mut kept) = (Vec::new(), Vec::new());
        for (task, stage) in batch {
            match (ends.get(task), stage) {
                (Some(TaskEnd::Deleted(_)), stage) => {
                    gone.insert(*task);
                    if matches!(stage, Stage::Planned(_)) {
                        records.push(Record::Deleted { task: *task, more: Vec::new() });
                    }
                }
                (Some(TaskEnd::Unknown(error)), _) => return Err(error.into()),
                (Some(_), Stage::Planned(at))
                    if real.now.unix_secs().saturating_sub(*at) <= FORGOTTEN_AFTER => {}
                (Some(_), stage) => {
                    if !matches!(stage, Stage::Planned(_)) {
                        tracing::warn!(
                            "task {task} was deleted and is there again: its files stay"
                        );
                    }
                    kept.push(*task);
                }
                (None, _) => {}
            }
        }
        real.journal.append(&records).map_err(CycleError::Journal)?;
        real.kept(&kept)?;
        Ok(gone)
    }
}
