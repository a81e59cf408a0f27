//! Completes what a crash interrupted: the private directory of a process that is gone.
//!
//! This module must not touch one whose process is still at work, which its lock says, nor one that belongs to another
//! user. A tree in `check` returns to its name and is judged like any other. A tree in `remove` was verified
//! and its removal had begun, so the rest of it is removed, if the rules and guards of this pass also allow it. If
//! another process has something in it open or locked, it stays for the next pass; if something was added or used,
//! it returns to its name. Anything that is not a tree returns to its name, too, and what is no entry of its zone is not
//! judged then.

mod foreign;
mod foresee;
mod rest;
mod tree;

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::io::Errno;

use self::foreign::note_foreign;
pub(super) use self::foresee::foresee;
use self::rest::{Found, Rest, failed, failure, judge};
use self::tree::{Tree, check_leftover, leftover, names, open_tree};
use super::check::{Known, TreeCheck};
use super::failure::at_path;
use super::linked::LinkedNames;
use super::quarantine::{Adopted, NotDetached, Quarantine, Stage};
use super::tree::{STOPPED, Trees, entries_removed};
use super::tree_remover::{Stays, TreeRemover};
use crate::control::Control;
use crate::fs::PathError;
use crate::fs::error::{hint, is_gone};
use crate::fs::file_system;
use crate::protocol::{Directory, Failure, Intent, OutcomeKind, Recovered, Recovery, Skipped};
use crate::rules::{Action, Bytes, Moment, Rule};
use crate::units;

const MANY: &str = "interrupted removals left more entries than one pass looks at: the next passes \
                    look at the rest";

impl<C: Control> Trees<'_, C> {
    /// Completes what an interrupted removal left in the private directory `name`.
    pub(super) fn recover(
        &self,
        directory: &Arc<Directory>,
        name: &CStr,
        now: Moment,
        recovery: &mut Recovery<'_>,
    ) {
        // First, because the comparison counts the time since our private directory was made.
        let clock = self.clocks.check(directory, &self.quarantines, self.notes);
        let found = match self.adopt(directory, name) {
            Ok(Adopted::Yes(quarantine, interrupted)) => {
                Found { quarantine: Arc::new(quarantine), interrupted, now }
            }
            Ok(Adopted::No) => return,
            Ok(Adopted::Foreign(why)) => {
                return note_foreign(self.notes, directory, name, "was", &why);
            }
            Err(error) if is_gone(&error) => return,
            Err(error) => {
                let hint = hint(&directory.handle, Some(name), Action::Open, &error);
                let failure = directory.failure(Action::Open, Some(name), error, hint);
                return (recovery.each)(failed(directory, name, &failure));
            }
        };
        for stage in [Stage::Check, Stage::Remove] {
            if stage == Stage::Check && !found.quarantine.has_check() {
                continue;
            }
            let most = self.recoverable.left();
            let names = match names(found.quarantine.handle(stage), most) {
                Ok(names) => names,
                Err(error) => {
                    let path = found.quarantine.path(stage);
                    let zone = &directory.zone.name;
                    let failure = Failure::new(zone, Action::List, path, error.into(), None);
                    (recovery.each)(failed(directory, name, &failure));
                    continue;
                }
            };
            if names.len() == most {
                self.notes.add(&directory.zone.name, MANY);
            }
            self.recoverable.took(names.len());
            for name in names {
                match (stage, &clock) {
                    (Stage::Check, _) => self.put_leftover_back(&found, stage, &name, recovery),
                    (Stage::Remove, Ok(_)) => self.complete(&found, &name, recovery),
                    // Its age cannot be judged.
                    (Stage::Remove, Err(why)) => (recovery.each)(Recovered::LeftAlone(why.clone())),
                }
            }
        }
        if found.quarantine.has_more() {
            let path = directory.path_of(name);
            let note = format!("{path:?} cannot be removed: another program made something in it");
            self.notes.add(&directory.zone.name, note);
        }
    }

    /// Takes over the private directory of a process that is gone.
    fn adopt(&self, directory: &Arc<Directory>, name: &CStr) -> io::Result<Adopted> {
        if file_system::has_owners(&directory.handle) {
            return Quarantine::adopt(directory, name, None);
        }
        let ours = self.quarantines.of(directory).map_err(NotDetached::into_error)?;
        Quarantine::adopt(directory, name, Some(&ours))
    }

    /// Completes the removal of one tree.
    fn complete(&self, found: &Found, name: &CStr, recovery: &mut Recovery<'_>) {
        if !found.quarantine.is_entry(name) {
            return self.put_leftover_back(found, Stage::Remove, name, recovery);
        }
        let tree = match open_tree(found, name) {
            Ok(tree) => tree,
            Err((action, error)) => return self.not_opened(found, name, action, error, recovery),
        };
        let rest = match Rest::of(found, name, &tree.metadata) {
            Ok(rest) => rest,
            Err(error) => {
                let failure = failure(found, Stage::Remove, name, Action::Open, error);
                return (recovery.each)(failed(found.quarantine.parent(), name, &failure));
            }
        };
        let metadata = found.interrupted.unmoved(&tree.metadata);
        match judge(found, &rest.inner, &rest.home, metadata, recovery) {
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
        let known = found.known(&tree, rule, self.probe);
        let mut check = TreeCheck::new(known);
        let stays = check_leftover(self.control, found, &tree, &mut check);
        let linked = LinkedNames::of(&check.freed);
        let mut remover = TreeRemover::new(Known { linked: &linked, ..known });
        let bytes = check.freed.bytes;
        let why = stays
            .or_else(|| self.remove_leftover(found, &tree, rule, bytes, &mut remover, recovery));
        let (gone, freed) = (remover.removed, self.ledger.charge(&remover.freed));
        let failure = match why {
            None => return (recovery.each)(rest.settled(OutcomeKind::Removed, freed)),
            Some(Stays::Skipped(Skipped::Used)) if gone == 0 => {
                drop(tree);
                return self.put_rest_back(found, rest, Skipped::Used.key(), recovery);
            }
            Some(Stays::Skipped(why)) if gone == 0 => {
                return (recovery.each)(rest.settled(OutcomeKind::Skipped(why), freed));
            }
            Some(Stays::Unreached) if gone == 0 => {
                return (recovery.each)(Recovered::Unreached);
            }
            Some(why) => left_in_part(found, tree.name, why, gone),
        };
        (recovery.each)(rest.settled(OutcomeKind::Failed(&failure), freed));
    }

    /// Removes what is left of a tree, which frees so many `bytes`, if the guards allow it and it can be written
    /// down. Why something stays, if so.
    fn remove_leftover(
        &self,
        found: &Found,
        tree: &Tree<'_>,
        rule: Rule,
        bytes: Bytes,
        remover: &mut TreeRemover<'_>,
        recovery: &Recovery<'_>,
    ) -> Option<Stays> {
        let zone = &found.quarantine.zone().name;
        if !(recovery.allow)(zone, bytes) {
            return Some(Stays::Unreached);
        }
        let why = self.write_leftover(found, tree, rule).or_else(|| {
            let left = leftover(self.control, found, tree);
            let why = remover.walk(&left, tree.top.as_fd());
            self.withdraw_leftover(found, tree.name, why.as_ref());
            why
        });
        // Some of it may be gone though the rest stays.
        if why.is_some() && remover.removed == 0 {
            (recovery.give_back)(zone, bytes);
        }
        why
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
}

/// The failure of a tree of which this run has removed some entries, or that failed before that.
fn left_in_part(found: &Found, name: &CStr, why: Stays, removed: u64) -> Failure {
    // The system has refused nothing, so there is no number.
    let fail = |why: String| {
        failure(found, Stage::Remove, name, Action::RemoveTree, io::Error::other(why))
    };
    match why {
        // A look at an open directory does not know its path.
        Stays::Failed(error) if error.path.as_os_str().is_empty() => {
            failure(found, Stage::Remove, name, error.action, error.error)
        }
        Stays::Failed(error) => at_path(&found.quarantine.zone().name, error),
        Stays::Unreached => fail(STOPPED.to_owned()),
        Stays::Skipped(why) => {
            let hint = format!("{}, and the rest is still there", entries_removed(removed));
            Failure { hint: Some(hint), ..fail(why.key().replace('_', " ")) }
        }
    }
}

/// The path that a tree in `remove` had.
fn original_path(found: &Found, inner: &CStr) -> PathBuf {
    let parent = found.quarantine.parent();
    let (dir, name) = found.quarantine.original(inner);
    let below = dir.strip_prefix(&parent.dir).unwrap_or(&dir);
    parent.path.join(below).join(OsStr::from_bytes(name.to_bytes()))
}
