//! Completes what a crash interrupted: the private directory of a process that is gone.
//!
//! It must not touch one whose process is still at work, which its lock says, nor one that belongs to another
//! user. A tree in `check` returns to its name and is judged like any other. A tree in `remove` was verified
//! and its removal had begun, so the rest of it is removed. If another process has something in it open or
//! locked, it stays for the next pass; if something was added or used, it returns to its name.

use std::ffi::{CStr, CString};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{FlockOperation, RawDir, flock};
use rustix::io::Errno;

use super::check::{Interrupted, Known, TreeCheck};
use super::quarantine::{Detached, Quarantine, Returned, Stage};
use super::tree::Trees;
use super::tree_remover::{Stays, TreeRemover};
use crate::control::Control;
use crate::fs::PathError;
use crate::fs::error::hint;
use crate::fs::list::is_dot;
use crate::fs::open::{self, Across};
use crate::fs::stat;
use crate::fs::walk::{self, Break, WalkContext};
use crate::protocol::{Directory, Failure, Intent, MemberLeases, OutcomeKind, Recovered, Skipped};
use crate::rules::{Action, Bytes, LockKind, Metadata, Moment, Rule};

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
        let found = match Quarantine::adopt(directory, name) {
            Ok(Some((quarantine, interrupted))) => {
                Found { quarantine: Arc::new(quarantine), interrupted, now }
            }
            // Another pass is at work, or it is not one of ours.
            Ok(None) => return,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound) => return,
            Err(error) => {
                let hint = hint(&directory.handle, Some(name), Action::Open, &error);
                let path = directory.path_of(name);
                let failure = Failure::new(&directory.zone.name, Action::Open, path, error, hint);
                return each(settled(name, OutcomeKind::Failed(&failure), Bytes(0)));
            }
        };
        for name in names(found.quarantine.handle(Stage::Check)) {
            self.put_leftover_back(&found, Stage::Check, &name, each);
        }
        for name in names(found.quarantine.handle(Stage::Remove)) {
            self.complete(&found, &name, each);
        }
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
        let put_back = || {
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
            Err(error) => {
                let failure = failure(found, stage, name, Action::Rename, error);
                each(settled(name, OutcomeKind::Failed(&failure), Bytes(0)));
            }
        }
    }

    /// Completes the removal of one tree.
    fn complete(&self, found: &Found, name: &CStr, each: &mut dyn FnMut(Recovered<'_>)) {
        let fail = |action, error: io::Error| failure(found, Stage::Remove, name, action, error);
        let tree = match open_tree(found, name) {
            Ok(tree) => tree,
            Err((Action::Lock, Errno::WOULDBLOCK)) => {
                let kind = OutcomeKind::Skipped(Skipped::Locked);
                return each(settled(name, kind, Bytes(0)));
            }
            Err((action, error)) => {
                let failure = fail(action, error.into());
                return each(settled(name, OutcomeKind::Failed(&failure), Bytes(0)));
            }
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
            rule,
            now: found.now,
            probe: self.probe,
            members: &members,
            newest: None,
            has_links: false,
            interrupted: Some(found.interrupted),
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
        let (metadata, size) = (&tree.metadata, tree.metadata.allocated);
        let failure = journal.write(&[Intent { zone, path, metadata, rule, size }]).err()?;
        let Failure { action, path, error, hint, .. } = failure;
        Some(Stays::Failed(PathError { action, path, error, hint }))
    }

    /// Writes down that what is left of a tree stays, if it does.
    fn withdraw_leftover(&self, found: &Found, name: &CStr, why: Option<&Stays>) {
        let (Some(journal), Some(why)) = (self.written.journal, why) else { return };
        let reason = match why {
            Stays::Failed(error) => error.error.to_string(),
            Stays::Skipped(why) => why.key().to_owned(),
            Stays::Unreached => "the pass was stopped".to_owned(),
        };
        let zone = &found.quarantine.zone().name;
        journal.withdraw(zone, &original_path(found, name), &reason);
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

/// The names in an open directory; those that could be read.
fn names(dir: impl AsFd) -> Vec<CString> {
    let mut buffer = Vec::with_capacity(16 * 1024);
    let mut listing = RawDir::new(dir, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(Ok(entry)) = listing.next() {
        if !is_dot(entry.file_name()) {
            names.push(entry.file_name().to_owned());
        }
    }
    names
}
