//! Removes a tree: takes it out of reach, checks it as a whole, and removes its members one by one.
//!
//! This module must not unlink by itself. Where a tree cannot be renamed (rights, a full disk,
//! a lower layer of overlay), it is removed where it is, and a note says so.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use super::check::{self, Dirs, Known};
use super::failure::{failed_in_tree, failure};
use super::ledger::Ledger;
use super::linked::LinkedNames;
use super::quarantine::{Detached, NotDetached, Quarantines, Returned, Stage};
use super::recoverable::Recoverable;
use super::server_clock::ServerClocks;
use super::tree_remover::{Stays, TreeRemover};
use super::written::Written;
use crate::control::Control;
use crate::fs::error::is_gone;
use crate::fs::file_system;
use crate::fs::lease::InUseProbe;
use crate::fs::stat::{self, Freshness};
use crate::fs::walk::WalkContext;
use crate::protocol::{
    Expired, Failure, MemberLeases, Notes, Rejected, Rejection, Removed, Skipped, Verified,
};
use crate::rules::zone::MOST_AHEAD;
use crate::rules::{Action, Bytes, FileKind, Metadata, Moment};
use crate::units;

/// Removes trees.
#[derive(Debug)]
pub(super) struct Trees<'a, C> {
    pub(super) control: &'a C,
    pub(super) notes: &'a Notes,
    pub(super) probe: InUseProbe,
    pub(super) ledger: Ledger,
    pub(super) quarantines: Quarantines,
    pub(super) written: Written<'a>,
    pub(super) clocks: ServerClocks,
    /// How many entries of interrupted removals are still looked at.
    pub(super) recoverable: Recoverable,
}

impl<C: Control> Trees<'_, C> {
    pub(super) fn remove(&self, mut verified: Verified, now: Moment) -> Result<Removed, Rejected> {
        let mut members = verified.take_members();
        members.sort();
        if self.written.journal.is_some() {
            // A process that opens a file under a lease waits for us, and we are about to wait for a disk. Each file is
            // asked about anew afterwards.
            members = MemberLeases::of_none();
        }
        let linked = LinkedNames::of(verified.freed());
        let expired = verified.expired();
        let known = Known {
            id: expired.metadata().id,
            mount: expired.directory().mount,
            file_system: expired.directory().storage.file_system,
            rule: expired.rule(),
            now,
            probe: self.probe,
            members: &members,
            newest: verified.changed(),
            ahead: verified.ahead(),
            latest: self.clocks.now().map_or(Moment::LAST, |now| now.plus(MOST_AHEAD)),
            linked: &linked,
            interrupted: None,
            dirs: None,
        };
        let Some(top) = verified.object() else {
            let error = io::Error::other("the directory is not open");
            let why = Rejection::Failed(failure(expired, Action::Open, error));
            return Err(verified.reject(why, None));
        };
        if let Err(failure) = self.written.write_tree(expired, verified.freed().size(), now) {
            return Err(verified.reject(Rejection::NotWritten(failure), None));
        }
        let directory = Arc::clone(expired.directory());
        let (freed, why) = match self.quarantines.detach(&directory, expired.name()) {
            Ok(detached) => self.remove_detached(expired, known, top, detached),
            Err(NotDetached::Refused(error)) => self.remove_in_place(expired, known, top, &error),
            Err(NotDetached::Failed(error)) => (None, Some(not_detached(expired, error))),
        };
        match why {
            None => Ok(verified.removed(freed.unwrap_or_default())),
            Some(why) => Err(verified.reject(why, freed)),
        }
    }

    /// Says that an entry was removed where it is, and why.
    pub(super) fn note_in_place(&self, expired: &Expired, error: &io::Error) {
        self.notes.add(
            &expired.directory().zone.name,
            format!(
                "entries could not be renamed before their removal ({}): they were removed in place, \
                 where another process can still reach them",
                units::error(error)
            ),
        );
    }

    /// Checks and removes a tree that is out of reach. Why it is not gone, if it is not.
    fn remove_detached(
        &self,
        expired: &Expired,
        known: Known<'_>,
        top: &std::fs::File,
        mut detached: Detached,
    ) -> (Option<Bytes>, Option<Rejection>) {
        let dirs = match self.check(expired, known, top, &detached) {
            Ok(dirs) => dirs,
            Err(Rejection::Skipped(Skipped::Gone)) => {
                return (None, Some(Rejection::Skipped(Skipped::Gone)));
            }
            Err(why) => return (None, Some(self.put_back(expired, &mut detached, why))),
        };
        if let Err(error) = detached.approve() {
            let why = Rejection::Failed(failure(expired, Action::Rename, error));
            return (None, Some(self.put_back(expired, &mut detached, why)));
        }
        // Elsewhere it is not certain that what is moved into a directory has a newer ctime.
        let is_local = !expired.directory().storage.file_system.is_served();
        let dirs = (is_local && file_system::rename_moves_ctime(top)).then_some(&dirs);
        let mut remover = TreeRemover::new(Known { dirs, ..known });
        let why = self.remove_members(expired, top, &mut remover, &detached);
        let why = why.map(|why| self.settle_rest(expired, why, remover.removed, &mut detached));
        (self.freed_by(&remover), why)
    }

    /// The space that was freed, if anything was removed.
    fn freed_by(&self, remover: &TreeRemover<'_>) -> Option<Bytes> {
        (remover.removed > 0).then(|| self.ledger.charge(&remover.freed))
    }

    /// Removes all that is in a tree, and its top. Why something is left, if so.
    fn remove_members(
        &self,
        expired: &Expired,
        top: &std::fs::File,
        remover: &mut TreeRemover<'_>,
        detached: &Detached,
    ) -> Option<Rejection> {
        let quarantine = &detached.quarantine;
        let tree = WalkContext {
            parent: quarantine.remove.as_fd(),
            parent_id: quarantine.remove_id,
            ..self.context(expired, &detached.name)
        };
        let left = remover.until_gone(&tree, top)?;
        Some(rejection(expired, &detached.name, left))
    }

    /// What becomes of a tree that is not gone, of which `removed` entries are.
    fn settle_rest(
        &self,
        expired: &Expired,
        why: Rejection,
        removed: u64,
        detached: &mut Detached,
    ) -> Rejection {
        let quarantine = Arc::clone(&detached.quarantine);
        if has_vanished(&why, quarantine.remove.as_fd(), &detached.name) {
            return why;
        }
        if removed == 0 {
            return self.put_back(expired, detached, why);
        }
        let removed = entries_removed(removed);
        if matches!(why, Rejection::Skipped(_)) {
            // Another process has written or opened something: the rest is not ours to complete.
            return self.put_back(expired, detached, in_part(expired, why, &removed));
        }
        let rest = quarantine.path_of(Stage::Remove, &detached.name);
        let next = if needs_root(&why) {
            ": delete that as root; a run as root leaves it alone, because another user has begun its removal"
        } else {
            ", and the next run completes the removal"
        };
        in_part(expired, why, &format!("{removed}; the rest is in {rest:?}{next}"))
    }

    /// Looks at a tree that is out of reach as a whole: its directories, or why it must not be removed.
    fn check(
        &self,
        expired: &Expired,
        known: Known<'_>,
        top: &std::fs::File,
        detached: &Detached,
    ) -> Result<Dirs, Rejection> {
        arrived(expired, detached)?;
        let check = detached.quarantine.handle(Stage::Check);
        let tree = WalkContext { parent: check.as_fd(), ..self.context(expired, &detached.name) };
        check::whole(expired, known, top, &tree)
    }

    /// Gives an entry its name again; the rejection, with the reason if that is not possible.
    pub(super) fn put_back(
        &self,
        expired: &Expired,
        detached: &mut Detached,
        why: Rejection,
    ) -> Rejection {
        let zone = &expired.directory().zone.name;
        match detached.withdraw().and_then(|()| detached.put_back()) {
            Ok(Returned::Yes) => why,
            Ok(Returned::Beside(name)) => {
                let (old, new) = (expired.directory().path_of(expired.name()), name);
                self.notes.add(
                    zone,
                    format!(
                        "{old:?} was not removed, and its name was taken meanwhile: it is now {new:?} \
                         in the same directory"
                    ),
                );
                why
            }
            Err(error) => {
                let at = detached.quarantine.path_of(detached.stage, &detached.name);
                let next = match detached.stage {
                    Stage::Check => "moves it back to its place",
                    Stage::Remove => "completes its removal, or moves it back if it was used",
                };
                let hint = format!(
                    "it cannot be moved back ({}): it is in {at:?}, and the next run {next}",
                    units::error(&error)
                );
                in_part(expired, why, &hint)
            }
        }
    }

    /// Removes a tree that cannot be renamed.
    fn remove_in_place(
        &self,
        expired: &Expired,
        known: Known<'_>,
        top: &std::fs::File,
        refused: &io::Error,
    ) -> (Option<Bytes>, Option<Rejection>) {
        // What is left of it would have to expire again.
        if self.control.is_urgent() {
            return (None, Some(Rejection::Unreached));
        }
        let tree = self.context(expired, expired.name());
        if let Err(why) = check::whole(expired, known, top, &tree) {
            return (None, Some(why));
        }
        let _change = expired.directory().change();
        let mut remover = TreeRemover::new(known);
        let left = remover.walk(&tree, top.as_fd());
        if remover.removed > 0 {
            self.note_in_place(expired, refused);
        }
        let why = left.map(|why| {
            let why = rejection(expired, expired.name(), why);
            let is_gone = has_vanished(&why, expired.directory().handle.as_fd(), expired.name());
            if remover.removed == 0 || is_gone {
                return why;
            }
            // Unlike in quarantine, no later pass can tell our removals from use by another process.
            let hint = format!(
                "{}, so its directories count as used now: the rest is removed when it has expired again",
                entries_removed(remover.removed)
            );
            in_part(expired, why, &hint)
        });
        (self.freed_by(&remover), why)
    }

    fn context<'t>(&'t self, expired: &'t Expired, name: &'t CStr) -> WalkContext<'t, C> {
        walk_of(self.control, expired, name)
    }
}

/// The walk through a tree that is called `name` at the moment.
pub(super) fn walk_of<'t, C>(
    control: &'t C,
    expired: &'t Expired,
    name: &'t CStr,
) -> WalkContext<'t, C> {
    let directory = expired.directory();
    WalkContext {
        control,
        parent: directory.handle.as_fd(),
        parent_id: directory.id,
        path: &directory.path,
        name,
        mount: directory.mount,
        file_system: directory.storage.file_system,
    }
}

/// The entry as it has arrived out of reach.
///
/// # Errors
/// It is gone or another one, or cannot be looked at.
pub(super) fn arrived(expired: &Expired, detached: &Detached) -> Result<Metadata, Rejection> {
    let check = detached.quarantine.handle(Stage::Check);
    let found = look(expired, check, &detached.name)?;
    match detached.may_be(found.id) {
        Ok(true) => Ok(found),
        Ok(false) => Err(Rejection::Skipped(Skipped::Replaced)),
        Err(error) => Err(Rejection::Failed(failure(expired, Action::List, error))),
    }
}

/// The entry as it is now, under `name` in `dir`.
///
/// # Errors
/// It is gone or another one, or cannot be looked at.
pub(super) fn look(expired: &Expired, dir: &OwnedFd, name: &CStr) -> Result<Metadata, Rejection> {
    let (before, mount) = (expired.metadata(), expired.directory().mount);
    let found = match stat::at(dir, name, mount, Freshness::Synced) {
        Ok(found) => found,
        Err(error) if is_gone(&error) && !stat::exists(dir, name) => {
            return Err(Rejection::Skipped(Skipped::Gone));
        }
        Err(error) => return Err(Rejection::Failed(failure(expired, Action::Stat, error))),
    };
    if found.is_mount_point {
        return Err(Rejection::Skipped(Skipped::MountPoint));
    }
    if (found.id, found.kind) != (before.id, before.kind) {
        return Err(Rejection::Skipped(Skipped::Replaced));
    }
    Ok(found)
}

/// Why an entry stays that could not be taken out of reach.
pub(super) fn not_detached(expired: &Expired, error: io::Error) -> Rejection {
    let directory = expired.directory();
    let is_mount_point = || {
        let found = stat::at(&directory.handle, expired.name(), directory.mount, Freshness::Cached);
        found.is_ok_and(|found| found.is_mount_point)
    };
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT) => Rejection::Skipped(Skipped::Gone),
        // What the server does not know any more: the entry, or its directory?
        Some(Errno::STALE) if !stat::exists(&directory.handle, expired.name()) => {
            Rejection::Skipped(Skipped::Gone)
        }
        Some(Errno::BUSY) if is_mount_point() => Rejection::Skipped(Skipped::MountPoint),
        _ => Rejection::Failed(failure(expired, Action::Rename, error)),
    }
}

/// Whether another process has removed all that was left of a tree.
fn has_vanished(why: &Rejection, dir: BorrowedFd<'_>, name: &CStr) -> bool {
    matches!(why, Rejection::Skipped(Skipped::Gone)) && !stat::exists(dir, name)
}

/// Whether this user has no right to remove something, and root may have it.
fn needs_root(why: &Rejection) -> bool {
    let Rejection::Failed(Failure { error, .. }) = why else { return false };
    let is_refused = matches!(Errno::from_io_error(error), Some(Errno::ACCESS | Errno::PERM));
    is_refused && !rustix::process::geteuid().is_root()
}

/// How many entries of a tree are gone, for people.
pub(super) fn entries_removed(count: u64) -> String {
    let were = if count == 1 { "was" } else { "were" };
    format!("{count} of its entries {were} removed")
}

/// Why the rest of a tree stays when a signal or a limit ends the pass.
pub(super) const STOPPED: &str = "the run was stopped";

/// A part of an entry is gone, or it is not in its place: always a failure, whatever the reason.
fn in_part(expired: &Expired, why: Rejection, hint: &str) -> Rejection {
    // The system has refused nothing, so there is no number.
    let reason = match why {
        Rejection::Failed(mut failure) | Rejection::NotWritten(mut failure) => {
            failure.add_hint(hint);
            return Rejection::Failed(failure);
        }
        Rejection::Skipped(why) => why.key().replace('_', " "),
        Rejection::Unreached => STOPPED.to_owned(),
        Rejection::NoLock(why) => why,
    };
    let is_tree = expired.metadata().kind == FileKind::Dir;
    let action = if is_tree { Action::RemoveTree } else { Action::Unlink };
    let mut failure = failure(expired, action, io::Error::other(reason));
    failure.hint = Some(hint.to_owned());
    Rejection::Failed(failure)
}

fn rejection(expired: &Expired, name: &CStr, why: Stays) -> Rejection {
    match why {
        Stays::Failed(error) => failed_in_tree(expired, name, error),
        Stays::Skipped(why) => Rejection::Skipped(why),
        Stays::Unreached => Rejection::Unreached,
    }
}
