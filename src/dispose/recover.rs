//! Completes what a crash interrupted: the private directory of a process that is gone.
//!
//! It must not touch one whose process is still at work, which its lock says, nor one that belongs to another
//! user. A tree in `check` returns to its name and is judged like any other. A tree in `remove` was verified
//! and its removal had begun, so the rest of it is removed. If another process has something in it open or
//! locked, it stays for the next pass; if something was added or used, it returns to its name. So does whatever
//! is not a tree.

use std::ffi::{CStr, CString};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{FlockOperation, RawDir, flock};
use rustix::io::Errno;

use super::check::{Interrupted, Known, TreeCheck};
use super::quarantine::{Adopted, Detached, NotDetached, Quarantine, Returned, Stage};
use super::tree::Trees;
use super::tree_remover::{Stays, TreeRemover};
use crate::control::Control;
use crate::fs::PathError;
use crate::fs::error::{hint, is_gone};
use crate::fs::list::is_dot;
use crate::fs::open::{self, Across};
use crate::fs::stat;
use crate::fs::walk::{self, Break, WalkContext};
use crate::protocol::{Directory, Failure, Intent, MemberLeases, OutcomeKind, Recovered, Skipped};
use crate::rules::{Action, Bytes, LockKind, Metadata, Moment, Rule};
use crate::units;

/// The private directory of a process that is gone.
struct Found {
    quarantine: Arc<Quarantine>,
    interrupted: Interrupted,
    now: Moment,
}

/// A tree in `remove`, open.
struct Tree<'a> {
    name: &'a CStr,
    top: OwnedFd,
    metadata: Metadata,
    /// The path of `remove`.
    path: PathBuf,
}

impl<C: Control> Trees<'_, C> {
    /// Completes what an interrupted removal left in the private directory `name`.
    pub(super) fn recover(
        &self,
        directory: &Arc<Directory>,
        name: &CStr,
        now: Moment,
        each: &mut dyn FnMut(Recovered<'_>),
    ) {
        let found = match self.adopt(directory, name) {
            Ok(Adopted::Yes(quarantine, interrupted)) => {
                Found { quarantine: Arc::new(quarantine), interrupted, now }
            }
            Ok(Adopted::No) => return,
            Ok(Adopted::Foreign(why)) => {
                let path = directory.path_of(name);
                let note = format!("{path:?} was left alone: {why}");
                return self.notes.add(&directory.zone.name, note);
            }
            Err(error) if is_gone(&error) => return,
            Err(error) => {
                let hint = hint(&directory.handle, Some(name), Action::Open, &error);
                let path = directory.path_of(name);
                let failure = Failure::new(&directory.zone.name, Action::Open, path, error, hint);
                return each(settled(name, OutcomeKind::Failed(&failure), Bytes(0)));
            }
        };
        for stage in [Stage::Check, Stage::Remove] {
            let names = match names(found.quarantine.handle(stage)) {
                Ok(names) => names,
                Err(error) => {
                    let path = found.quarantine.path(stage);
                    let zone = &directory.zone.name;
                    let failure = Failure::new(zone, Action::List, path, error.into(), None);
                    each(settled(name, OutcomeKind::Failed(&failure), Bytes(0)));
                    continue;
                }
            };
            for name in names {
                match stage {
                    Stage::Check => self.put_leftover_back(&found, Stage::Check, &name, each),
                    Stage::Remove => self.complete(&found, &name, each),
                }
            }
        }
    }

    /// Takes over the private directory of a process that is gone.
    fn adopt(&self, directory: &Arc<Directory>, name: &CStr) -> io::Result<Adopted> {
        if !directory.storage.file_system.is_served() {
            return Quarantine::adopt(directory, name, None);
        }
        let ours = self.quarantines.of(directory).map_err(NotDetached::into_error)?;
        Quarantine::adopt(directory, name, Some(&ours))
    }

    /// Returns a tree whose removal must not be completed.
    fn put_leftover_back(
        &self,
        found: &Found,
        stage: Stage,
        name: &CStr,
        each: &mut dyn FnMut(Recovered<'_>),
    ) {
        let zone = &found.quarantine.zone().name;
        let put_back = || -> io::Result<_> {
            let mut detached = found.quarantine.leftover(stage, name)?;
            detached.withdraw()?;
            Ok((detached.put_back()?, detached))
        };
        match put_back() {
            Ok((Returned::Yes, detached)) => {
                let (directory, name) = detached.into_home();
                each(Recovered::Returned(directory, name));
            }
            Ok((Returned::Beside(beside), _)) => self.notes.add(
                zone,
                format!("an interrupted removal left an entry, which is now {beside:?}"),
            ),
            // Another process has removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let failure = failure(found, stage, name, Action::Rename, error);
                each(settled(name, OutcomeKind::Failed(&failure), Bytes(0)));
            }
        }
    }

    /// Completes the removal of one tree.
    fn complete(&self, found: &Found, name: &CStr, each: &mut dyn FnMut(Recovered<'_>)) {
        let tree = match open_tree(found, name) {
            Ok(tree) => tree,
            Err((action, error)) => return self.not_opened(found, name, action, error, each),
        };
        // What is not recognized any more is kept.
        let Ok(rule) = found.quarantine.rule_of(name, &tree.metadata) else {
            return self.put_leftover_back(found, Stage::Remove, name, each);
        };
        self.complete_tree(found, tree, rule, each);
    }

    /// Completes the removal of one tree, if it may be.
    fn complete_tree(
        &self,
        found: &Found,
        tree: Tree<'_>,
        rule: Rule,
        each: &mut dyn FnMut(Recovered<'_>),
    ) {
        let name = tree.name;
        let fail = |action, error: io::Error| failure(found, Stage::Remove, name, action, error);
        let mut members = MemberLeases::default();
        members.leave_out();
        let known = Known {
            id: tree.metadata.id,
            mount: found.quarantine.mount(),
            file_system: found.quarantine.file_system(),
            rule,
            now: found.now,
            probe: self.probe,
            members: &members,
            newest: None,
            linked: &[],
            interrupted: Some(found.interrupted),
            dirs: None,
        };
        let mut remover = TreeRemover::new(known);
        let why = self.check_leftover(found, &tree, known).or_else(|| {
            if let Some(stays) = self.write_leftover(found, &tree, rule) {
                return Some(stays);
            }
            let walked =
                walk::walk(&self.leftover(found, &tree), &tree.top, known.id, &mut remover);
            let why = remover.result(walked);
            self.withdraw_leftover(found, name, why.as_ref());
            why
        });
        let freed = self.ledger.charge(&remover.freed);
        let failure = match why {
            None => return each(settled(name, OutcomeKind::Removed, freed)),
            Some(Stays::Skipped(Skipped::Used)) if remover.removed == 0 => {
                drop(tree);
                return self.put_leftover_back(found, Stage::Remove, name, each);
            }
            Some(Stays::Skipped(why)) if remover.removed == 0 => {
                return each(settled(name, OutcomeKind::Skipped(why), freed));
            }
            Some(Stays::Skipped(why)) => Failure {
                hint: Some(format!(
                    "{}; {} of its entries were removed, and the rest is still there",
                    why.key().replace('_', " "),
                    remover.removed
                )),
                ..fail(Action::RemoveTree, Errno::BUSY.into())
            },
            Some(Stays::Failed(PathError { action, path, error, hint })) => {
                Failure::new(&found.quarantine.zone().name, action, path, error, hint)
            }
            Some(Stays::Unreached) => fail(Action::RemoveTree, Errno::INTR.into()),
        };
        each(settled(name, OutcomeKind::Failed(&failure), freed));
    }

    /// Writes down the removal of what is left of a tree. Why it stays, if that is not possible.
    fn write_leftover(&self, found: &Found, tree: &Tree<'_>, rule: Rule) -> Option<Stays> {
        let journal = self.written.journal?;
        let zone = &found.quarantine.zone().name;
        let path = original_path(found, tree.name);
        let (metadata, size, now) = (&tree.metadata, tree.metadata.allocated, found.now);
        let failure = journal.write(&[Intent { zone, path, metadata, rule, size, now }]).err()?;
        let Failure { action, path, error, hint, .. } = failure;
        Some(Stays::Failed(PathError { action, path, error, hint }))
    }

    /// Writes down that what is left of a tree stays, if it does.
    fn withdraw_leftover(&self, found: &Found, name: &CStr, why: Option<&Stays>) {
        let (Some(journal), Some(why)) = (self.written.journal, why) else { return };
        let reason = match why {
            Stays::Failed(error) => units::error(&error.error),
            Stays::Skipped(why) => why.key().to_owned(),
            Stays::Unreached => "the pass was stopped".to_owned(),
        };
        let zone = &found.quarantine.zone().name;
        journal.withdraw(zone, &original_path(found, name), &reason);
    }

    /// What becomes of an entry in `remove` that could not be opened as a tree.
    fn not_opened(
        &self,
        found: &Found,
        name: &CStr,
        action: Action,
        error: Errno,
        each: &mut dyn FnMut(Recovered<'_>),
    ) {
        match (action, error) {
            // Only trees are renamed to here, so it is not one of ours.
            (Action::Open, Errno::NOTDIR | Errno::LOOP) => {
                self.put_leftover_back(found, Stage::Remove, name, each);
            }
            (Action::Open, Errno::NOENT) => {}
            (Action::Lock, Errno::WOULDBLOCK) => {
                each(settled(name, OutcomeKind::Skipped(Skipped::Locked), Bytes(0)));
            }
            _ => {
                let failure = failure(found, Stage::Remove, name, action, error.into());
                each(settled(name, OutcomeKind::Failed(&failure), Bytes(0)));
            }
        }
    }

    /// Looks at what is left of a tree as a whole. Why it must not be removed, if so.
    fn check_leftover(&self, found: &Found, tree: &Tree<'_>, known: Known<'_>) -> Option<Stays> {
        let mut check = TreeCheck::new(known);
        let walked = walk::walk(&self.leftover(found, tree), &tree.top, known.id, &mut check);
        match walked {
            ControlFlow::Continue(()) => None,
            // What cannot be looked at now may be what the removal failed at before.
            ControlFlow::Break(Break::Failed(error)) => Some(Stays::Failed(error)),
            ControlFlow::Break(Break::Stopped | Break::Elsewhere | Break::Enough) => {
                Some(check.skipped.map_or(Stays::Unreached, Stays::Skipped))
            }
        }
    }

    /// The walk through what is left of a tree.
    fn leftover<'t>(&'t self, found: &'t Found, tree: &'t Tree<'_>) -> WalkContext<'t, C> {
        WalkContext {
            control: self.control,
            parent: found.quarantine.remove.as_fd(),
            parent_id: found.quarantine.remove_id,
            path: &tree.path,
            name: tree.name,
            mount: found.quarantine.mount(),
            file_system: found.quarantine.file_system(),
        }
    }
}

/// The path that a tree in `remove` had.
fn original_path(found: &Found, name: &CStr) -> PathBuf {
    match found.quarantine.leftover(Stage::Remove, name).map(Detached::into_home) {
        Ok((directory, name)) => directory.path_of(&name),
        Err(_) => found.quarantine.path_of(Stage::Remove, name),
    }
}

/// Opens a tree in `remove`, and locks it as its removal had.
fn open_tree<'a>(found: &Found, name: &'a CStr) -> Result<Tree<'a>, (Action, Errno)> {
    let Found { quarantine, .. } = found;
    let errno = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let top = open::dir(&quarantine.remove, name, Across::SameMount)
        .map_err(|error| (Action::Open, errno(error)))?
        .handle;
    if quarantine.zone().lock != LockKind::Unlocked {
        flock(&top, FlockOperation::NonBlockingLockExclusive).map_err(|e| (Action::Lock, e))?;
    }
    let metadata = stat::handle(&top, quarantine.mount());
    let metadata = metadata.map_err(|error| (Action::Stat, errno(error)))?;
    Ok(Tree { name, top, metadata, path: quarantine.path(Stage::Remove) })
}

/// The failure of an operation on an entry in a stage.
fn failure(found: &Found, stage: Stage, name: &CStr, action: Action, error: io::Error) -> Failure {
    let quarantine = &found.quarantine;
    let hint = hint(quarantine.handle(stage), Some(name), action, &error);
    Failure::new(&quarantine.zone().name, action, quarantine.path_of(stage, name), error, hint)
}

const fn settled<'a>(name: &'a CStr, kind: OutcomeKind<'a>, freed: Bytes) -> Recovered<'a> {
    Recovered::Settled(name, kind, freed)
}

/// The names in an open directory.
fn names(dir: impl AsFd) -> rustix::io::Result<Vec<CString>> {
    let mut buffer = Vec::with_capacity(16 * 1024);
    let mut listing = RawDir::new(dir, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = listing.next() {
        let entry = entry?;
        if !is_dot(entry.file_name()) {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}
