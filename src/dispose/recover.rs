//! Completes what a crash interrupted: the private directory of a process that is gone.
//!
//! It must not touch one whose process is still at work, which its lock says, nor one that belongs to another
//! user. A tree in `check` returns to its name and is judged like any other. A tree in `remove` was verified
//! and its removal had begun, so the rest of it is removed, if the rules and guards of this pass say so, too. If
//! another process has something in it open or
//! locked, it stays for the next pass; if something was added or used, it returns to its name. So does whatever
//! is not a tree.

mod rest;

use std::ffi::{CStr, CString};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{FlockOperation, RawDir, flock};
use rustix::io::Errno;

use self::rest::{Found, Rest, failed, failure};
use super::check::{Known, TreeCheck};
use super::quarantine::{Adopted, Detached, NotDetached, Quarantine, Stage};
use super::tree::Trees;
use super::tree_remover::{Stays, TreeRemover};
use crate::control::Control;
use crate::fs::PathError;
use crate::fs::error::{hint, is_gone};
use crate::fs::lease::InUseProbe;
use crate::fs::list::is_dot;
use crate::fs::open::{self, Across};
use crate::fs::stat;
use crate::fs::walk::{self, Break, WalkContext};
use crate::protocol::{
    Directory, Failure, Intent, MemberLeases, OutcomeKind, Recovered, Recovery, Skipped,
};
use crate::rules::{Action, Bytes, LockKind, Metadata, Moment, Rule};
use crate::units;

/// A tree in `remove`, open.
struct Tree<'a> {
    name: &'a CStr,
    top: OwnedFd,
    metadata: Metadata,
    /// The path of `remove`.
    path: PathBuf,
}

impl Found {
    /// What is known about a tree in `remove`.
    fn known<'a>(
        &self,
        tree: &Tree<'_>,
        rule: Rule,
        probe: InUseProbe,
        members: &'a MemberLeases,
    ) -> Known<'a> {
        Known {
            id: tree.metadata.id,
            mount: self.quarantine.mount(),
            file_system: self.quarantine.file_system(),
            rule,
            now: self.now,
            probe,
            members,
            newest: None,
            linked: &[],
            interrupted: Some(self.interrupted),
            dirs: None,
        }
    }
}

impl<C: Control> Trees<'_, C> {
    /// Completes what an interrupted removal left in the private directory `name`.
    pub(super) fn recover(
        &self,
        directory: &Arc<Directory>,
        name: &CStr,
        now: Moment,
        recovery: &mut Recovery<'_>,
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
                return (recovery.each)(failed(directory, name, &failure));
            }
        };
        for stage in [Stage::Check, Stage::Remove] {
            let names = match names(found.quarantine.handle(stage)) {
                Ok(names) => names,
                Err(error) => {
                    let path = found.quarantine.path(stage);
                    let zone = &directory.zone.name;
                    let failure = Failure::new(zone, Action::List, path, error.into(), None);
                    (recovery.each)(failed(directory, name, &failure));
                    continue;
                }
            };
            for name in names {
                match stage {
                    Stage::Check => self.put_leftover_back(&found, Stage::Check, &name, recovery),
                    Stage::Remove => self.complete(&found, &name, recovery),
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

    /// Completes the removal of one tree.
    fn complete(&self, found: &Found, name: &CStr, recovery: &mut Recovery<'_>) {
        let tree = match open_tree(found, name) {
            Ok(tree) => tree,
            Err((action, error)) => return self.not_opened(found, name, action, error, recovery),
        };
        let (home, original) = match found.quarantine.leftover(Stage::Remove, name) {
            Ok(detached) => detached.into_home(),
            Err(error) => {
                let failure = failure(found, Stage::Remove, name, Action::Open, error);
                return (recovery.each)(failed(found.quarantine.parent(), name, &failure));
            }
        };
        let is_emptied = found.interrupted.has_emptied(&tree.metadata);
        let rest = Rest { inner: name.to_owned(), home, original, is_emptied };
        match (recovery.judge)(&rest.entry(found.interrupted.unmoved(&tree.metadata))) {
            Ok(expired) => self.complete_tree(found, tree, &rest, expired.rule(), recovery),
            Err(kept) => {
                drop(tree);
                self.put_rest_back(found, &rest, kept.why.key(), recovery);
            }
        }
    }

    /// Completes the removal of one tree, if it may be.
    fn complete_tree(
        &self,
        found: &Found,
        tree: Tree<'_>,
        rest: &Rest,
        rule: Rule,
        recovery: &mut Recovery<'_>,
    ) {
        let name = tree.name;
        let fail = |action, error: io::Error| failure(found, Stage::Remove, name, action, error);
        let mut members = MemberLeases::default();
        members.leave_out();
        let known = found.known(&tree, rule, self.probe, &members);
        let zone = &rest.home.zone.name;
        let mut remover = TreeRemover::new(known);
        let mut check = TreeCheck::new(known);
        let why = self.check_leftover(found, &tree, &mut check).or_else(|| {
            if !(recovery.allow)(zone, check.freed.bytes) {
                return Some(Stays::Unreached);
            }
            let why = self.write_leftover(found, &tree, rule).or_else(|| {
                let walked =
                    walk::walk(&self.leftover(found, &tree), &tree.top, known.id, &mut remover);
                let why = remover.result(walked);
                self.withdraw_leftover(found, name, why.as_ref());
                why
            });
            if why.is_some() {
                (recovery.give_back)(zone, check.freed.bytes);
            }
            why
        });
        let freed = self.ledger.charge(&remover.freed);
        let failure = match why {
            None => return (recovery.each)(rest.settled(OutcomeKind::Removed, freed)),
            Some(Stays::Skipped(Skipped::Used)) if remover.removed == 0 => {
                drop(tree);
                return self.put_rest_back(found, rest, Skipped::Used.key(), recovery);
            }
            Some(Stays::Skipped(why)) if remover.removed == 0 => {
                return (recovery.each)(rest.settled(OutcomeKind::Skipped(why), freed));
            }
            Some(Stays::Unreached) if remover.removed == 0 => {
                return (recovery.each)(Recovered::Unreached);
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
                Failure::new(zone, action, path, error, hint)
            }
            Some(Stays::Unreached) => fail(Action::RemoveTree, Errno::INTR.into()),
        };
        (recovery.each)(rest.settled(OutcomeKind::Failed(&failure), freed));
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
        recovery: &mut Recovery<'_>,
    ) {
        match (action, error) {
            // Only trees are renamed to here, so it is not one of ours.
            (Action::Open, Errno::NOTDIR | Errno::LOOP) => {
                self.put_leftover_back(found, Stage::Remove, name, recovery);
            }
            (Action::Open, Errno::NOENT) => {}
            (Action::Lock, Errno::WOULDBLOCK) => {
                let kind = OutcomeKind::Skipped(Skipped::Locked);
                let home = found.quarantine.parent();
                (recovery.each)(Recovered::Settled(home, name, kind, Bytes(0)));
            }
            _ => {
                let failure = failure(found, Stage::Remove, name, action, error.into());
                (recovery.each)(failed(found.quarantine.parent(), name, &failure));
            }
        }
    }

    /// Looks at what is left of a tree as a whole. Why it must not be removed, if so.
    fn check_leftover(
        &self,
        found: &Found,
        tree: &Tree<'_>,
        check: &mut TreeCheck<'_>,
    ) -> Option<Stays> {
        let id = tree.metadata.id;
        match walk::walk(&self.leftover(found, tree), &tree.top, id, check) {
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
