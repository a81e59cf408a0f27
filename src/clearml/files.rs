//! What becomes of the files of deleted tasks.
//!
//! It must not remove a file itself: a [`Remover`] does, through a file server or from a mounted directory. A
//! file that something else names stays, and one that nobody can delete is said so.

use std::collections::HashSet;
use std::path::PathBuf;

use super::error::CycleError;
use super::journal::{Ending, FileEnd, TaskFile};
use super::ledger::End;
use super::options::{FilesMode, Options, Stores};
use super::references::{References, Suspect};
use super::rows::Id;
use super::token::ApiVersion;
use super::tools::Tools;
use super::urls::{Place, place_of};
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
pub struct Surroundings<'a> {
    /// The client.
    pub tools: &'a Tools,
    /// What the user asks for.
    pub options: &'a Options,
    /// What other tasks name.
    pub references: &'a References,
    /// Tasks that are deleted or will be.
    pub selected: &'a HashSet<Id>,
    /// Models that still exist and will not, in a dry run.
    pub doomed: HashSet<String>,
    /// The version of the server's API.
    pub version: ApiVersion,
}

/// A file with what became of it: for the journal, and for the report.
pub type Settled = (Id, FileEnd, End);

/// Since this version the server deletes files in object stores, if it is told to.
pub const STORES: ApiVersion = ApiVersion(2, 23);

impl<'a> Surroundings<'a> {
    /// Of files whose tasks are `selected`, when no model is about to be deleted.
    ///
    /// # Errors
    /// The server cannot be used.
    pub fn new(
        tools: &'a Tools,
        options: &'a Options,
        references: &'a References,
        selected: &'a HashSet<Id>,
    ) -> Result<Self, CycleError> {
        let (doomed, version) = (HashSet::new(), tools.version()?);
        Ok(Self { tools, options, references, selected, doomed, version })
    }

    /// Removes files of deleted tasks. `is_told` says whether the server was told to delete them, too.
    ///
    /// # Errors
    /// The server cannot be used or trusted, or the run was told to stop.
    pub fn settle(
        &self,
        remover: &mut dyn Remover,
        files: Vec<(Id, TaskFile)>,
        is_told: bool,
    ) -> Result<Vec<Settled>, CycleError> {
        let (mut settled, mut targets) = (Vec::new(), Vec::new());
        for (task, file) in files {
            let place = place_of(&file.url, &self.tools.client.server().files);
            match place {
                Place::Fileserver(..) if self.options.files == FilesMode::Server => {
                    settled.push(to_server(task, file, is_told));
                }
                Place::Fileserver(number, path) => {
                    targets.push(Target { task, file, at: At::Fileserver(number, path) });
                }
                Place::Local(path) => targets.push(Target { task, file, at: At::Local(path) }),
                Place::Store => settled.push(to_server(task, file, is_told)),
                Place::Elsewhere(why) => {
                    settled.push(end(task, file, Removal::Left(why.to_owned())));
                }
            }
        }
        let shared = self.shared(targets.iter().map(|it| (it.task, it.file.url.as_str())))?;
        for target in targets.extract_if(.., |target| shared.contains(&target.file.url)) {
            let why = "something that is kept refers to it".to_owned();
            let Target { task, file: TaskFile { url, kind }, .. } = target;
            let file = FileEnd { url, kind, outcome: Ending::Kept, why };
            settled.push((task, file, End::Kept(KeptReason::Referenced)));
        }
        for (target, removal) in remover.remove(self.tools, targets, &shared)? {
            settled.push(end(target.task, target.file, removal));
        }
        Ok(settled)
    }

    /// Those of these files that something else names.
    ///
    /// # Errors
    /// The server cannot be used or trusted.
    pub fn shared<'u>(
        &self,
        files: impl Iterator<Item = (Id, &'u str)>,
    ) -> Result<HashSet<String>, CycleError> {
        if self.options.overrides.shared_files {
            return Ok(HashSet::new());
        }
        let suspects: Vec<Suspect> =
            files.map(|(task, url)| Suspect { url: url.to_owned(), task }).collect();
        self.references.shared(self.tools, &suspects, &self.doomed, self.selected)
    }

    /// Whether the server should be told to delete files of a task with these files.
    ///
    /// # Errors
    /// The server cannot be used or trusted.
    pub fn tells_server(&self, task: Id, files: &[TaskFile]) -> Result<bool, CycleError> {
        if self.options.files == FilesMode::Server {
            return Ok(true);
        }
        let known = &self.tools.client.server().files;
        let is_in_store = |file: &TaskFile| place_of(&file.url, known) == Place::Store;
        let can = self.options.stores == Stores::Server && self.version >= STORES;
        if !can || !files.iter().any(is_in_store) {
            return Ok(false);
        }
        // The server knows no guard: it would delete a file that something else names.
        Ok(self.shared(files.iter().map(|file| (task, file.url.as_str())))?.is_empty())
    }
}

fn to_server(task: Id, file: TaskFile, is_told: bool) -> Settled {
    let TaskFile { url, kind } = file;
    if is_told {
        let why = "the server's own queue deletes it, or not: no request shows that".to_owned();
        let end = FileEnd { url, kind, outcome: Ending::LeftToServer, why };
        return (task, end, End::Kept(KeptReason::LeftToServer));
    }
    let why =
        "nobody deletes it: it is in an object store, and the server was not told to".to_owned();
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
