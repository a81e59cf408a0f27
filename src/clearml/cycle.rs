//! One cleanup: select, collect, write down, delete, remove files.
//!
//! This module must not choose between a real cleanup and a dry run: it is handed an [`Executor`] and a [`Remover`]
//! that make the difference. Tasks go in batches, so what is held in memory does not grow with their number.

use std::collections::{HashMap, HashSet};

use super::collect::{CollectedFiles, collect};
use super::delete::{DeletionMode, MODEL_IN_USE, TaskEnd, model_end, probe};
use super::error::{ApiError, CycleError};
use super::files::{DeletionContext, Remover};
use super::journal::{Ending, TaskFile};
use super::ledger::{End, Ledger, ZoneLedger};
use super::models::keep_drafts;
use super::needs::Needs;
use super::parts::{Cycle, CycleParts, Executor};
use super::plan::Plan;
use super::references::{References, existing};
use super::rows::{Id, TaskRow};
use super::select::{Conditions, MOST_TASKS, Selection, select, still_selected};
use super::selected::{Selected, SelectedTasks};
use super::settle::{self, Rest, settle, settle_later, tell_model};
use crate::protocol::{Skipped, StopReason};
use crate::rules::{KeptReason, Moment, Ttl};

/// How many tasks are deleted at once. The script that this replaces reads pages of this size.
pub const BATCH: usize = 100;

impl Cycle<'_> {
    /// Checks this machine's clock, and the settings against what the server has. To be called before anything is
    /// deleted, also from the journal.
    ///
    /// # Errors
    /// The clock or a setting is wrong, or the server cannot be used.
    pub fn conditions(&self) -> Result<Conditions, CycleError> {
        self.tools.check_clock()?;
        Conditions::new(self.tools, self.options, self.now)
    }

    /// Cleans up once. Says why it ended early, if it did.
    ///
    /// # Errors
    /// The server or the journal cannot be used, or a guard prevents it. The ledger has what was done until
    /// then.
    pub fn run(
        &self,
        conditions: &Conditions,
        executor: &mut dyn Executor,
        remover: &mut dyn Remover,
        ledger: &mut Ledger,
    ) -> Result<Option<StopReason>, CycleError> {
        let Selection { mut selected, needs, ends, is_cut } =
            select(self.tools, self.options, conditions)?;
        self.report(conditions, ends, is_cut, &mut ledger.tasks);
        super::limits::check(self.tools, self.options, selected.len())?;
        self.observer.on_unlocked();
        if selected.is_empty() {
            return Ok(None);
        }
        let tasks = SelectedTasks::new(selected.iter().map(|task| task.id));
        let references = References::protecting(self.tools, &tasks, self.options, &HashSet::new())?;
        let mut context = DeletionContext::new(self.tools, self.options, references, tasks)?;
        let mut parts = CycleParts { executor, remover, ledger, later: Vec::new() };
        let batches = needs.batches(&mut selected, BATCH);
        let stopped = self.batches(&batches, &needs, conditions, &mut context, &mut parts)?;
        if stopped.is_some() || parts.later.is_empty() {
            return Ok(stopped);
        }
        if let Some(late) = self.tools.late() {
            return Ok(Some(late));
        }
        settle_later(self, &context, &mut parts)?;
        Ok(None)
    }

    /// Tells which tasks a guard keeps.
    fn report(
        &self,
        conditions: &Conditions,
        ends: Vec<(Id, End, Moment)>,
        is_cut: bool,
        tasks: &mut ZoneLedger,
    ) {
        if is_cut {
            tasks.note(format!(
                "one cleanup deletes at most {MOST_TASKS} tasks: the next one deletes the rest"
            ));
        }
        let ttl = Some(Ttl::from_duration(self.options.threshold));
        for (id, end, changed) in ends {
            let age = Some(conditions.age(changed));
            tasks.add(&id.to_string(), &end, age, ttl, self.observer);
        }
    }

    fn batches(
        &self,
        batches: &[&[Selected]],
        needs: &Needs,
        conditions: &Conditions,
        context: &mut DeletionContext<'_>,
        parts: &mut CycleParts<'_>,
    ) -> Result<Option<StopReason>, CycleError> {
        for batch in batches {
            if let Some(late) = self.tools.ends()? {
                return Ok(Some(late));
            }
            Batch {
                cycle: self,
                conditions,
                needs,
                tasks: batch,
                ends: HashMap::new(),
                parts: &mut *parts,
            }
            .run(context)?;
            self.observer.on_unlocked();
        }
        Ok(None)
    }
}

/// Some tasks of a cleanup.
struct Batch<'a, 'h> {
    cycle: &'a Cycle<'a>,
    conditions: &'a Conditions,
    needs: &'a Needs,
    tasks: &'a [Selected],
    /// What happened to tasks and was not told yet.
    ends: HashMap<Id, End>,
    parts: &'a mut CycleParts<'h>,
}

impl Batch<'_, '_> {
    fn run(&mut self, context: &mut DeletionContext<'_>) -> Result<(), CycleError> {
        let needed = self.needs.needed_still(self.tasks, &context.selected);
        let ids = self.tasks.iter().map(|task| task.id).filter(|id| !needed.contains(id));
        let ids: Vec<Id> = ids.collect();
        let stays = |id| (id, End::Kept(KeptReason::Referenced));
        self.ends.extend(needed.into_iter().map(stays));
        let fields = ["last_update", "execution.artifacts", "models.output"];
        let rows = self.still_selected(&ids, &fields)?;
        self.tell_unselected(ids.iter().filter(|id| !rows.contains_key(id)).copied().collect())?;
        if rows.is_empty() {
            self.report();
            return Ok(());
        }
        let CollectedFiles { mut plans, mut failed } = collect(context, &rows)?;
        for id in rows.keys().filter(|id| plans.iter().all(|plan| plan.task != **id)) {
            let end = failed.remove(id).map_or(End::Skipped(Skipped::Gone), End::Failed);
            self.ends.insert(*id, end);
        }
        drop(rows);
        (self.cycle.on_batch)(plans.len());
        context.keep_models_of(&plans);
        for plan in &mut plans {
            plan.is_told = context.tells_server(plan)?;
            if plan.shares_drafts && !plan.keeps_drafts && !plan.is_told {
                keep_drafts(plan, context.version);
            }
        }
        context.deleted_models = if self.parts.executor.models_are_left() {
            plans.iter().flat_map(Plan::own_models).collect()
        } else {
            HashSet::new()
        };
        let files = plans.iter().flat_map(|plan| &plan.files);
        settle::check(self.cycle, self.parts.remover, files)?;
        self.parts.executor.begin(&plans)?;
        let plans = self.without_changed(plans)?;
        let mut unknown = None;
        let force = self.cycle.options.force;
        for (external, keeps_drafts) in [(false, false), (true, false), (false, true)] {
            let is_so =
                |plan: &&Plan| (plan.is_told, plan.keeps_drafts) == (external, keeps_drafts);
            let part: Vec<&Plan> = plans.iter().filter(is_so).collect();
            if !part.is_empty() {
                let mode = DeletionMode { force, external, keeps_drafts };
                let error = self.delete(&part, mode, context)?;
                unknown = unknown.or(error);
            }
        }
        self.report();
        unknown.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Looks at the tasks once more, right before they are deleted. What has changed is skipped.
    fn without_changed(&mut self, plans: Vec<Plan>) -> Result<Vec<Plan>, CycleError> {
        let planned: Vec<Id> = plans.iter().map(|plan| plan.task).collect();
        let now = self.still_selected(&planned, &["last_update"])?;
        let is_same = |plan: &Plan| {
            now.get(&plan.task).is_some_and(|row| row.last_update == plan.last_update)
        };
        let (same, changed): (Vec<Plan>, Vec<Plan>) = plans.into_iter().partition(is_same);
        let changed: Vec<Id> = changed.into_iter().map(|plan| plan.task).collect();
        self.ends.extend(changed.iter().map(|id| (*id, End::Skipped(Skipped::Used))));
        let mut there = Vec::new();
        for (task, end) in probe(self.cycle.tools, &changed, "")? {
            match end {
                TaskEnd::Failed(_) | TaskEnd::Refused(_) | TaskEnd::Public => there.push(task),
                // Its files stay in the journal: the next run removes them.
                TaskEnd::Deleted(_) => {
                    self.ends.insert(task, End::Skipped(Skipped::Gone));
                }
                TaskEnd::Unknown(_) => {}
            }
        }
        self.parts.executor.kept(&there)?;
        Ok(same)
    }

    /// Deletes tasks and then their files. Gives the error that leaves a task's end unknown.
    fn delete(
        &mut self,
        plans: &[&Plan],
        mode: DeletionMode,
        context: &mut DeletionContext<'_>,
    ) -> Result<Option<ApiError>, CycleError> {
        let tools = self.cycle.tools;
        let ids: Vec<Id> = plans.iter().map(|plan| plan.task).collect();
        let (mut unknown, mut rest) = (None, Rest { is_told: mode.external, ..Rest::default() });
        let mut ends = self.parts.executor.delete(tools, &ids, mode)?;
        for plan in plans {
            let Some(end) = ends.remove(&plan.task) else { continue };
            if let TaskEnd::Unknown(error) = &end {
                unknown = Some(error.clone());
            }
            if let TaskEnd::Deleted(more) = &end {
                context.selected.gone(plan.task);
                let mut files = plan.files.clone();
                let known: HashSet<&String> = plan.files.iter().map(|file| &file.url).collect();
                let is_new = |more: &&TaskFile| !known.contains(&more.url);
                files.extend(more.iter().filter(is_new).cloned());
                rest.files.push((plan.task, files));
                if plan.kept_models.is_empty() {
                    rest.may_go_whole.insert(plan.task);
                }
            }
            self.ends.insert(plan.task, in_report(end));
        }
        for (url, user) in plans.iter().flat_map(|plan| plan.users()) {
            if context.selected.is_pending(*user) {
                context.references.keep(url);
            }
        }
        self.delete_later_models(plans, &mut rest, context)?;
        self.report();
        settle(self.cycle, context, self.parts, rest)?;
        Ok(unknown)
    }

    /// Deletes the models that go after their tasks. The files of those that stay do so, too.
    fn delete_later_models(
        &mut self,
        plans: &[&Plan],
        rest: &mut Rest,
        context: &mut DeletionContext<'_>,
    ) -> Result<(), CycleError> {
        let (mut models, mut of, mut ends) = (Vec::new(), HashMap::new(), Vec::new());
        for plan in plans.iter().filter(|plan| !context.selected.is_pending(plan.task)) {
            let stay = plan.users().filter(|(_, user)| context.selected.is_pending(*user));
            let stay: HashSet<&String> = stay.map(|(url, _)| url).collect();
            for model in &plan.later_models {
                of.insert(model.id.clone(), (plan.task, &model.url));
                if stay.contains(&model.url) {
                    ends.push(model_end(model.id.clone(), Ending::Kept, MODEL_IN_USE));
                } else {
                    models.push(model.id.clone());
                }
            }
        }
        if !models.is_empty() {
            let executor = &mut self.parts.executor;
            ends.extend(executor.delete_models(self.cycle.tools, models, rest.is_told)?);
        }
        for end in ends {
            let Some((task, url)) = of.get(&end.url) else { continue };
            if !matches!(end.outcome, Ending::Removed | Ending::Gone) {
                context.references.keep(url);
            }
            tell_model(self.cycle, &mut self.parts.ledger.files, &end);
            rest.known.entry(*task).or_default().push(end);
        }
        Ok(())
    }

    /// Skips tasks that are not selected any more.
    fn tell_unselected(&mut self, ids: Vec<Id>) -> Result<(), CycleError> {
        let there = existing(self.cycle.tools, &ids)?;
        let why = |id| if there.contains(&id) { Skipped::Used } else { Skipped::Gone };
        self.ends.extend(ids.into_iter().map(|id| (id, End::Skipped(why(id)))));
        Ok(())
    }

    /// The rows of these tasks as they are now, without those that are not selected any more.
    fn still_selected(
        &self,
        ids: &[Id],
        fields: &[&str],
    ) -> Result<HashMap<Id, TaskRow>, CycleError> {
        let Cycle { tools, options, .. } = *self.cycle;
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        still_selected(tools, options, self.conditions, ids, fields)
    }

    /// Tells what happened to tasks.
    fn report(&mut self) {
        let ttl = Some(Ttl::from_duration(self.cycle.options.threshold));
        let tasks = &mut self.parts.ledger.tasks;
        for task in self.tasks {
            let Some(end) = self.ends.remove(&task.id) else { continue };
            let age = Some(self.conditions.age(task.changed));
            tasks.add(&task.id.to_string(), &end, age, ttl, self.cycle.observer);
            if let End::Kept(KeptReason::Refused) = &end {
                tasks.note("the server refuses to delete some tasks; see the warnings");
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
            End::Failed(format!("it is not known whether it was deleted: {error}"))
        }
    }
}
