//! The parts of a cleanup, and who carries them out.
//!
//! This module must not do anything: `cycle` does, and `settle`.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::delete::{DeletionMode, TaskEnd};
use super::error::CycleError;
use super::files::Remover;
use super::journal::{FileEnd, TaskFile};
use super::ledger::Ledger;
use super::options::Options;
use super::plan::Plan;
use super::rows::Id;
use super::tools::Tools;
use crate::protocol::Observer;
use crate::rules::Moment;

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
        mode: DeletionMode,
    ) -> Result<HashMap<Id, TaskEnd>, CycleError>;

    /// Deletes models whose tasks are deleted, and says what became of each; `external`: the server deletes their
    /// files, too.
    ///
    /// # Errors
    /// The run was told to stop.
    fn delete_models(
        &mut self,
        tools: &Tools,
        ids: Vec<String>,
        external: bool,
    ) -> Result<Vec<FileEnd>, CycleError>;

    /// Writes down that these tasks are not deleted after all.
    ///
    /// # Errors
    /// The journal cannot be written.
    fn kept(&mut self, tasks: &[Id]) -> Result<(), CycleError>;

    /// Writes down what became of files. `open` are the tasks with further ones.
    ///
    /// # Errors
    /// The journal cannot be written.
    fn settled(
        &mut self,
        ends: BTreeMap<Id, Vec<FileEnd>>,
        open: &HashSet<Id>,
    ) -> Result<(), CycleError>;

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
    /// Is told what happens.
    pub observer: &'a dyn Observer,
    /// Is told how many tasks are about to be deleted.
    pub on_batch: &'a dyn Fn(usize),
    /// Is told of the folder of a task.
    pub on_folder: &'a dyn Fn(&super::files::FolderEnd),
}

/// Those who carry out a cleanup and count it.
pub(super) struct CycleParts<'a> {
    pub(super) executor: &'a mut dyn Executor,
    pub(super) remover: &'a mut dyn Remover,
    pub(super) ledger: &'a mut Ledger,
    /// What waits for other tasks to be deleted.
    pub(super) later: Vec<Later>,
}

/// A deleted task with files that are also named by a task that is still waiting to be deleted.
pub(super) struct Later {
    pub(super) task: Id,
    pub(super) files: Vec<TaskFile>,
    pub(super) ends: Vec<FileEnd>,
    pub(super) is_told: bool,
}
