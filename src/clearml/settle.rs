//! Removes the files of deleted tasks, and records what happened to them.
//!
//! This module must not be called for a task that may still be there. A file that is named by another task to be
//! deleted waits until that task is deleted, since the server may keep it.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::error::CycleError;
use super::files::{DeletionContext, Remover, Settled};
use super::journal::{Ending, FileEnd, Kind, TaskFile};
use super::ledger::{End, ZoneLedger};
use super::options::FilesMode;
use super::parts::{Cycle, CycleParts, Later};
use super::rows::Id;
use super::urls::{Place, folders_in, place_of};
use crate::protocol::Skipped;

/// How many files wait at most; the next cleanup tries the others.
const MOST_WAITING: usize = 10_000;

/// What is left to do for deleted tasks.
#[derive(Default)]
pub(super) struct Rest {
    /// Their files.
    pub(super) files: Vec<(Id, Vec<TaskFile>)>,
    /// Whether the server was told to delete them, too.
    pub(super) is_told: bool,
    /// Tasks whose folder may be removed as a whole.
    pub(super) may_go_whole: HashSet<Id>,
    /// What became of others of their files before, and is not to be forgotten.
    pub(super) known: HashMap<Id, Vec<FileEnd>>,
}

/// Checks that these files are not all taken for gone, if some of them are on a file server.
///
/// # Errors
/// They would be.
pub(super) fn check<'f>(
    cycle: &Cycle<'_>,
    remover: &dyn Remover,
    mut files: impl Iterator<Item = &'f TaskFile>,
) -> Result<(), CycleError> {
    let known = &cycle.tools.client.server().files;
    let is_on_server =
        |file: &TaskFile| matches!(place_of(&file.url, known), Place::Fileserver(..));
    if files.any(is_on_server) { remover.check() } else { Ok(()) }
}

/// What became of the files of tasks.
type Ends = BTreeMap<Id, Vec<FileEnd>>;

/// Removes the files of deleted tasks, and writes down what became of them.
///
/// # Errors
/// The server or the journal cannot be used, or the run was told to stop.
pub(super) fn settle(
    cycle: &Cycle<'_>,
    context: &DeletionContext<'_>,
    parts: &mut CycleParts<'_>,
    rest: Rest,
) -> Result<(), CycleError> {
    let Rest { files, is_told, may_go_whole, mut known } = rest;
    let mut known_of = |task| (task, known.remove(&task).unwrap_or_default());
    let mut ends: Ends = files.iter().map(|(task, _)| known_of(*task)).collect();
    let flat =
        files.into_iter().flat_map(|(task, files)| files.into_iter().map(move |it| (task, it)));
    let (mut settled, later) = context.settle(parts.remover, flat.collect(), is_told, false)?;
    try_again_with_models(&mut settled, &ends);
    tell(cycle, parts, settled, &mut ends);
    let mut waiting: BTreeMap<Id, Vec<TaskFile>> = BTreeMap::new();
    let mut left = MOST_WAITING - parts.later.iter().map(|it| it.files.len()).sum::<usize>();
    for (task, file) in later {
        if left > 0 {
            waiting.entry(task).or_default().push(file);
            left -= 1;
        } else {
            let (TaskFile { url, kind }, why) = (file, "a task that is still there names it");
            let file = FileEnd { url, kind, outcome: Ending::Failed, why: why.to_owned() };
            tell(cycle, parts, vec![(task, file, End::Skipped(Skipped::InUse))], &mut ends);
        }
    }
    // A folder is removed as a whole if nothing in it stays, and nothing outside names it.
    let stays = |task: &Id, end: &FileEnd| match end.outcome {
        Ending::Removed | Ending::Gone => false,
        Ending::Kept => folders_in(&end.url).contains(task),
        Ending::Failed | Ending::Left | Ending::LeftToServer => true,
    };
    let is_whole = |task: &Id, ends: &[FileEnd]| {
        may_go_whole.contains(task)
            && !waiting.contains_key(task)
            && !context.references.name_folder_of(*task, &context.selected)
            && !ends.iter().any(|end| stays(task, end))
    };
    let whole = ends.iter().filter(|(task, ends)| is_whole(task, ends));
    let whole: Vec<Id> = whole.map(|(task, _)| *task).collect();
    if cycle.options.files == FilesMode::Mount && !whole.is_empty() {
        for folder in parts.remover.remove_folders(&whole)? {
            (cycle.on_folder)(&folder);
        }
    }
    let open = waiting.keys().copied().collect();
    for (task, files) in waiting {
        let ends = ends.get(&task).cloned().unwrap_or_default();
        parts.later.push(Later { task, files, ends, is_told });
    }
    parts.executor.settled(ends, &open)
}

/// Removes what waited: all tasks that are to be deleted are, and those that are not stay.
///
/// # Errors
/// As [`settle`].
pub(super) fn settle_later(
    cycle: &Cycle<'_>,
    context: &DeletionContext<'_>,
    parts: &mut CycleParts<'_>,
) -> Result<(), CycleError> {
    let (told, untold): (Vec<Later>, Vec<Later>) =
        std::mem::take(&mut parts.later).into_iter().partition(|later| later.is_told);
    for (later, is_told) in [(untold, false), (told, true)] {
        if later.is_empty() {
            continue;
        }
        let (mut ends, mut flat) = (Ends::new(), Vec::new());
        for Later { task, files, ends: known, .. } in later {
            ends.insert(task, known);
            flat.extend(files.into_iter().map(|file| (task, file)));
        }
        let (mut settled, _) = context.settle(parts.remover, flat, is_told, true)?;
        try_again_with_models(&mut settled, &ends);
        tell(cycle, parts, settled, &mut ends);
        parts.executor.settled(ends, &HashSet::new())?;
    }
    Ok(())
}

/// The file of a model stays if the model could not be deleted. Both are tried again.
fn try_again_with_models(settled: &mut [Settled], ends: &Ends) {
    let is_failed = |end: &FileEnd| end.kind == Kind::ModelRecord && end.outcome == Ending::Failed;
    for (task, file, end) in settled {
        let has_failed = ends.get(task).is_some_and(|ends| ends.iter().any(is_failed));
        if has_failed && file.outcome == Ending::Kept && file.kind != Kind::Event {
            file.outcome = Ending::Failed;
            *end = End::Skipped(Skipped::InUse);
        }
    }
}

/// Tells that a model could not be deleted. Only files are counted otherwise.
pub(super) fn tell_model(cycle: &Cycle<'_>, files: &mut ZoneLedger, model: &FileEnd) {
    if model.outcome == Ending::Failed {
        let (name, end) = (format!("model {}", model.url), End::Failed(model.why.clone()));
        files.add(&name, &end, None, None, cycle.observer);
    }
}

/// Tells what became of files.
fn tell(cycle: &Cycle<'_>, parts: &mut CycleParts<'_>, settled: Vec<Settled>, ends: &mut Ends) {
    for (task, file, end) in settled {
        parts.ledger.files.add(&file.url, &end, None, None, cycle.observer);
        ends.entry(task).or_default().push(file);
    }
}
