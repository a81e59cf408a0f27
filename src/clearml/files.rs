//! What happens to the files of deleted tasks.
//!
//! This module must not remove a file itself: a [`Remover`] does, through a file server or from a mounted directory. A
//! file to which something else refers stays, and a file that nothing can delete is reported.

use std::collections::HashSet;
use std::path::PathBuf;

use super::error::CycleError;
use super::journal::{Ending, FileEnd, Kind, TaskFile};
use super::ledger::End;
use super::options::{FilesMode, Options, Stores};
use super::plan::Plan;
use super::references::{Candidate, References, Shared};
use super::rows::Id;
use super::selected::SelectedTasks;
use super::token::ApiVersion;
use super::tools::Tools;
use super::urls::{Place, is_in_folder, place_of};
use crate::protocol::Skipped;
use crate::rules::{Bytes, KeptReason};

/// A file to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The task that it belongs to.
    pub task: Id,
    /// The file.
    pub file: TaskFile,
    /// Where it is.
    pub at: At,
    /// Whether something that stays may lie below it, should it be a directory.
    pub is_alone: bool,
}

/// Where a file is that can be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// On this file server, at this path below its root.
    Fileserver(usize, Vec<u8>),
    /// On this machine.
    Local(PathBuf),
}

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// It is removed, or would be.
    Removed(Bytes),
    /// It was gone already.
    Gone,
    /// The rules say that it stays.
    Kept(KeptReason),
    /// Something prevents it for now.
    Skipped(Skipped),
    /// It failed.
    Failed(String),
    /// Nobody may remove it.
    Left(String),
}

/// Removes files, or in a dry run finds out what would be removed.
pub trait Remover {
    /// Checks that files of file servers are not all taken for gone. To be called before a task with such files is
    /// deleted, and before those of a deleted one are removed.
    ///
    /// # Errors
    /// They would be.
    fn check(&self) -> Result<(), CycleError> {
        Ok(())
    }

    /// Removes these files, and says for each what became of it, in the same order. `kept` are addresses of
    /// the same tasks that must stay.
    ///
    /// # Errors
    /// The run was told to stop. What is removed by then is found gone the next time.
    fn remove(
        &mut self,
        tools: &Tools,
        targets: Vec<Target>,
        kept: &HashSet<String>,
    ) -> Result<Vec<(Target, Removal)>, CycleError>;

    /// Removes the folders of these tasks, with all that is in them.
    ///
    /// # Errors
    /// The run was told to stop.
    fn remove_folders(&mut self, _tasks: &[Id]) -> Result<Vec<FolderEnd>, CycleError> {
        Ok(Vec::new())
    }
}

/// What became of the folder of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderEnd {
    /// The task.
    pub task: Id,
    /// The folder.
    pub path: PathBuf,
    /// What became of it.
    pub removal: Removal,
}

/// What is known besides the files themselves.
#[derive(Debug)]
pub struct DeletionContext<'a> {
    /// The client.
    pub tools: &'a Tools,
    /// What the user asks for.
    pub options: &'a Options,
    /// What tasks and models name.
    pub references: References,
    /// Tasks that are deleted or will be.
    pub selected: SelectedTasks,
    /// Models that still exist and will not, in a dry run.
    pub deleted_models: HashSet<String>,
    /// The version of the server's API.
    pub version: ApiVersion,
}

/// A file with what became of it: for the journal, and for the report.
pub type Settled = (Id, FileEnd, End);

/// A file of a task.
pub type OfTask = (Id, TaskFile);

/// Why a file stays.
const NAMED: &str = "something that is kept refers to it";
const OF_OTHERS: &str = "it is not in the folder of the task, so other tasks may show it";

/// Since this version the server deletes files in object stores, if it is told to.
pub const STORES: ApiVersion = ApiVersion(2, 23);

impl<'a> DeletionContext<'a> {
    /// Of files whose tasks are `selected`, when no model is about to be deleted.
    ///
    /// # Errors
    /// The server cannot be used.
    pub fn new(
        tools: &'a Tools,
        options: &'a Options,
        references: References,
        selected: SelectedTasks,
    ) -> Result<Self, CycleError> {
        let (deleted_models, version) = (HashSet::new(), tools.version()?);
        Ok(Self { tools, options, references, selected, deleted_models, version })
    }

    /// Protects models that stay, and their files.
    pub fn keep_models_of(&mut self, plans: &[Plan]) {
        let kept = plans.iter().flat_map(|plan| &plan.kept_models);
        kept.for_each(|model| self.references.keep_model(&model.id, &model.url));
    }

    /// Removes files of deleted tasks. `is_told` says whether the server was told to delete them, too. Those that a
    /// task names which is to be deleted itself, and is not yet, come back as they are, to be asked for later; or, if
    /// `is_last`, such a task stays.
    ///
    /// # Errors
    /// The server cannot be used or trusted, or the run was told to stop.
    pub fn settle(
        &self,
        remover: &mut dyn Remover,
        files: Vec<OfTask>,
        is_told: bool,
        is_last: bool,
    ) -> Result<(Vec<Settled>, Vec<OfTask>), CycleError> {
        let (mut settled, mut targets, mut later) = (Vec::new(), Vec::new(), Vec::new());
        let mut of_server = Vec::new();
        for (task, file) in files {
            let is_alone = self.references.name_folder_of(task, &self.selected);
            let place = place_of(&file.url, &self.tools.client.server().files);
            if self.may_be_of_others(task, &file) {
                settled.push(kept(task, file, OF_OTHERS));
                continue;
            }
            if let Place::Elsewhere(why) = place {
                settled.push(end(task, file, Removal::Left(why.to_owned())));
                continue;
            }
            let at = match place {
                Place::Fileserver(number, path) if self.options.files != FilesMode::Server => {
                    At::Fileserver(number, path)
                }
                Place::Local(path) => At::Local(path),
                Place::Fileserver(..) | Place::Store | Place::Elsewhere(_) => {
                    of_server.push((task, file));
                    continue;
                }
            };
            targets.push(Target { task, file, at, is_alone });
        }
        let all = targets.iter().map(|it| (it.task, &it.file));
        let all = all.chain(of_server.iter().map(|(task, file)| (*task, file)));
        let all = all.map(|(task, file)| (task, file.url.as_str()));
        let shared = self.shared(all, &self.deleted_models)?;
        let is_shared = |file: &TaskFile| shared.contains(&file.url);
        let named = targets.extract_if(.., |it| is_shared(&it.file)).map(|it| (it.task, it.file));
        let named: Vec<OfTask> =
            named.chain(of_server.extract_if(.., |(_, file)| is_shared(file))).collect();
        for (task, file) in named {
            if !is_last && !shared.kept.contains(&file.url) {
                later.push((task, file));
                continue;
            }
            settled.push(kept(task, file, NAMED));
        }
        settled.extend(of_server.into_iter().map(|(task, file)| to_server(task, file, is_told)));
        let named = shared.kept.union(&shared.later).cloned().collect();
        for (target, removal) in remover.remove(self.tools, targets, &named)? {
            settled.push(end(target.task, target.file, removal));
        }
        Ok((settled, later))
    }

    /// Those of these files that something else names: not one of these models, which go with their tasks.
    fn shared<'u>(
        &self,
        files: impl Iterator<Item = (Id, &'u str)>,
        deleted_models: &HashSet<String>,
    ) -> Result<Shared, CycleError> {
        if self.options.overrides.shared_files {
            return Ok(Shared::default());
        }
        let candidates: Vec<Candidate> =
            files.map(|(task, url)| Candidate { url: url.to_owned(), task }).collect();
        self.references.shared(self.tools, &candidates, deleted_models, &self.selected)
    }

    /// Whether the server should be told to delete the files of this task.
    ///
    /// # Errors
    /// The server cannot be used or trusted.
    pub fn tells_server(&self, plan: &Plan) -> Result<bool, CycleError> {
        let Plan { task, ref files, ref used_models, .. } = *plan;
        let known = &self.tools.client.server().files;
        let is_in_store = |file: &TaskFile| place_of(&file.url, known) == Place::Store;
        let can = self.options.stores == Stores::Server && self.version >= STORES;
        let wants = can && files.iter().any(is_in_store);
        // It would also delete the files of the draft models that it does not delete itself.
        if plan.keeps_drafts || !wants && self.options.files != FilesMode::Server {
            return Ok(false);
        }
        // The server knows no guard: it would delete a file that something else names. Some versions delete the
        // directory of a file on a file server, with everything in it.
        let models = plan.own_models().collect();
        let shared = self.shared(files.iter().map(|file| (task, file.url.as_str())), &models)?;
        let is_named =
            !used_models.is_empty() || self.references.name_folder_of(task, &self.selected);
        let takes_others = |file: &TaskFile| match place_of(&file.url, known) {
            Place::Fileserver(..) | Place::Elsewhere(_) => {
                is_named || !is_in_folder(&file.url, task)
            }
            Place::Store | Place::Local(_) => false,
        };
        let stays = |file: &TaskFile| {
            shared.contains(&file.url) || self.may_be_of_others(task, file) || takes_others(file)
        };
        Ok(!files.iter().any(stays))
    }

    /// Whether other tasks may show this image, too. The server does not say which tasks show an image, so only those
    /// in the folder of a task are its own.
    pub fn may_be_of_others(&self, task: Id, file: &TaskFile) -> bool {
        !self.options.overrides.shared_files
            && file.kind == Kind::Event
            && !is_in_folder(&file.url, task)
    }
}

fn kept(task: Id, file: TaskFile, why: &str) -> Settled {
    let TaskFile { url, kind } = file;
    let file = FileEnd { url, kind, outcome: Ending::Kept, why: why.to_owned() };
    (task, file, End::Kept(KeptReason::Referenced))
}

fn to_server(task: Id, file: TaskFile, is_told: bool) -> Settled {
    let TaskFile { url, kind } = file;
    if is_told {
        let why =
            "the server's own queue may delete it; no request shows whether it does".to_owned();
        let end = FileEnd { url, kind, outcome: Ending::LeftToServer, why };
        return (task, end, End::Kept(KeptReason::LeftToServer));
    }
    let why = "nothing deletes it: the server was not told to".to_owned();
    end(task, TaskFile { url, kind }, Removal::Left(why))
}

fn end(task: Id, file: TaskFile, removal: Removal) -> Settled {
    let TaskFile { url, kind } = file;
    let (outcome, why, end) = match removal {
        Removal::Removed(bytes) => (Ending::Removed, String::new(), End::Removed(bytes)),
        Removal::Gone => (Ending::Gone, String::new(), End::Skipped(Skipped::Gone)),
        Removal::Skipped(Skipped::Gone) => {
            (Ending::Gone, String::new(), End::Skipped(Skipped::Gone))
        }
        Removal::Skipped(why) => (Ending::Failed, why.key().to_owned(), End::Skipped(why)),
        Removal::Kept(why) => (Ending::Left, why.key().to_owned(), End::Kept(why)),
        Removal::Failed(why) => (Ending::Failed, why.clone(), End::Failed(why)),
        Removal::Left(why) => (Ending::Left, why.clone(), End::Failed(why)),
    };
    (task, FileEnd { url, kind, outcome, why }, end)
}
