//! Finishes the work of earlier runs that the journal records, before anything new is begun.
//!
//! This module must not delete a task: a task that is still there is left to the next selection. Its files are only
//! removed after "there is no such task".

use std::collections::HashSet;

use super::cycle::BATCH;
use super::delete::{TaskEnd, probe};
use super::error::CycleError;
use super::executor::Real;
use super::files::{DeletionContext, Remover};
use super::journal::{Ending, FileEnd, Record, Stage, TaskFile};
use super::ledger::Ledger;
use super::parts::{Cycle, CycleParts, Executor};
use super::references::References;
use super::rows::Id;
use super::selected::SelectedTasks;
use super::settle::{self, Rest, settle};
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
        let references = References::protecting(self.tools, &none, self.options)?;
        let context = DeletionContext::new(self.tools, self.options, references, none)?;
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
            let (again, known): (Vec<_>, Vec<_>) = left.tried.into_iter().partition(is_tried);
            let again = again.into_iter().map(|end| TaskFile { url: end.url, kind: end.kind });
            let files: Vec<TaskFile> = match stage {
                Stage::Failed | Stage::Left => again.collect(),
                Stage::Planned(_) | Stage::Deleted => left.files.into_iter().chain(again).collect(),
            };
            let known = known.into_iter().filter(|end| end.outcome == Ending::Left).collect();
            rests[usize::from(left.is_told)].known.insert(*task, known);
            rests[usize::from(left.is_told)].files.push((*task, files));
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

    /// Those of these tasks that are deleted.
    fn find_gone(
        &self,
        batch: &[(Id, Stage)],
        real: &mut Real<'_>,
    ) -> Result<HashSet<Id>, CycleError> {
        let is_planned = |stage: &Stage| matches!(stage, Stage::Planned(_));
        let uncertain: Vec<Id> =
            batch.iter().filter(|(_, stage)| is_planned(stage)).map(|(id, _)| *id).collect();
        let ends = probe(self.tools, &uncertain, "")?;
        let mut gone: HashSet<Id> =
            batch.iter().filter(|(_, stage)| !is_planned(stage)).map(|(id, _)| *id).collect();
        let (mut records, mut kept) = (Vec::new(), Vec::new());
        for (task, stage) in batch {
            match (ends.get(task), stage) {
                (Some(TaskEnd::Deleted(_)), _) => {
                    gone.insert(*task);
                    records.push(Record::Deleted { task: *task, more: Vec::new() });
                }
                (Some(TaskEnd::Unknown(error)), _) => return Err(error.into()),
                (Some(_), Stage::Planned(at))
                    if real.now.unix_secs().saturating_sub(*at) > FORGOTTEN_AFTER =>
                {
                    kept.push(*task);
                }
                _ => {}
            }
        }
        real.journal.append(&records).map_err(CycleError::Journal)?;
        real.kept(&kept)?;
        Ok(gone)
    }
}
