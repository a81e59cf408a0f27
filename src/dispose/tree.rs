//! Removes a tree: takes it out of reach, checks it as a whole, and removes its members one by one.
//!
//! It must not unlink by itself. Where a tree cannot be renamed (rights, a full disk,
//! a lower layer of overlay), it is removed where it is, and a note says so.

use std::ffi::CStr;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::io::Errno;

use super::check::{Known, TreeCheck};
use super::failure::{failed_in_tree, failure};
use super::ledger::Ledger;
use super::quarantine::{Detached, Quarantines, Returned, Stage};
use super::tree_remover::{Stays, TreeRemover};
use super::written::Written;
use crate::control::Control;
use crate::fs::lease::InUseProbe;
use crate::fs::stat::{self, Freshness};
use crate::fs::walk::{self, Break, WalkContext};
use crate::protocol::{Expired, Failure, Notes, Rejected, Rejection, Removed, Skipped, Verified};
use crate::rules::{Action, Bytes, Moment};

/// Removes trees.
#[derive(Debug)]
pub(super) struct Trees<'a, C> {
    pub(super) control: &'a C,
    pub(super) notes: &'a Notes,
    pub(super) probe: InUseProbe,
    pub(super) ledger: Ledger,
    pub(super) quarantines: Quarantines,
    pub(super) written: Written<'a>,
}

impl<C: Control> Trees<'_, C> {
    pub(super) fn remove(&self, mut verified: Verified, now: Moment) -> Result<Removed, Rejected> {
        let mut members = verified.take_members();
        members.sort();
        let expired = verified.expired();
        let known = Known {
            id: expired.metadata().id,
            mount: expired.directory().mount,
            rule: expired.rule(),
            now,
            probe: self.probe,
            members: &members,
            newest: verified.changed(),
            has_links: !verified.freed().linked.is_empty(),
            interrupted: None,
        };
        let Some(top) = verified.object() else {
            let error = io::Error::other("the directory is not open");
            let why = Rejection::Failed(failure(expired, Action::Open, error));
            return Err(verified.reject(why, Bytes(0)));
        };
        if let Err(failure) = self.written.write_tree(expired, verified.freed().size()) {
            return Err(verified.reject(Rejection::NotWritten(failure), Bytes(0)));
        }
        let directory = Arc::clone(expired.directory());
        let (freed, why) = match self.quarantines.detach(&directory, expired.name()) {
            Ok(detached) => self.remove_detached(expired, known, top, detached),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (Bytes(0), Some(Rejection::Skipped(Skipped::Gone)))
            }
            Err(error) => {
                self.notes.add(
                    &directory.zone.name,
                    format!(
                        "trees could not be renamed before their removal ({error}): they were removed \
                         in place, where another process can still reach them"
                    ),
                );
                self.remove_in_place(expired, known, top)
            }
        };
        match why {
            None => Ok(verified.removed(freed)),
            Some(why) => Err(verified.reject(why, freed)),
        }
    }

    /// Checks and removes a tree that is out of reach. Why it is not gone, if it is not.
    fn remove_detached(
        &self,
        expired: &Expired,
        known: Known<'_>,
        top: &std::fs::File,
        mut detached: Detached,
    ) -> (Bytes, Option<Rejection>) {
        if let Some(why) = self.check(expired, known, top, &detached) {
            return (Bytes(0), Some(self.put_back(expired, &mut detached, why)));
        }
        if let Err(error) = detached.approve() {
            let why = Rejection::Failed(failure(expired, Action::Rename, error));
            return (Bytes(0), Some(self.put_back(expired, &mut detached, why)));
        }
        let mut remover = TreeRemover::new(known);
        let quarantine = Arc::clone(&detached.quarantine);
        let tree = WalkContext {
            parent: quarantine.remove.as_fd(),
            parent_id: quarantine.remove_id,
            ..self.context(expired, &detached.name)
        };
        let walked = walk::walk(&tree, top, known.id, &mut remover);
        let why = remover.result(walked).map(|why| {
            let why = rejection(expired, &detached.name, why);
            if is_gone(&why, quarantine.remove.as_fd(), &detached.name) {
                return why;
            }
            if remover.removed == 0 {
                return self.put_back(expired, &mut detached, why);
            }
            if matches!(why, Rejection::Skipped(_)) {
                // Another process has written or opened something: the rest is not ours to complete.
                let hint = format!("{} of its entries were removed", remover.removed);
                let why = in_part(expired, why, &hint);
                return self.put_back(expired, &mut detached, why);
            }
            let rest = quarantine.path_of(Stage::Remove, &detached.name);
            let hint = format!(
                "{} of its entries were removed; the rest is in {rest:?}, and the next run completes \
                 the removal",
                remover.removed
            );
            in_part(expired, why, &hint)
        });
        (self.ledger.charge(&remover.freed), why)
    }

    /// Looks at the tree as a whole. Why it must not be removed, if so.
    fn check(
        &self,
        expired: &Expired,
        known: Known<'_>,
        top: &std::fs::File,
        detached: &Detached,
    ) -> Option<Rejection> {
        let check = detached.quarantine.handle(Stage::Check);
        let found = stat::at(check, &detached.name, known.mount, Freshness::Synced);
        match found {
            Ok(metadata) if metadata.id == known.id => {}
            Ok(_) => return Some(Rejection::Skipped(Skipped::Replaced)),
            Err(error) => return Some(Rejection::Failed(failure(expired, Action::Stat, error))),
        }
        let mut visitor = TreeCheck::new(known);
        if visitor.is_opened() {
            return Some(Rejection::Skipped(Skipped::InUse));
        }
        let tree = WalkContext { parent: check.as_fd(), ..self.context(expired, &detached.name) };
        match walk::walk(&tree, top, known.id, &mut visitor) {
            ControlFlow::Continue(()) => None,
            ControlFlow::Break(Break::Failed(error)) => {
                Some(failed_in_tree(expired, &detached.name, error))
            }
            ControlFlow::Break(Break::Stopped | Break::Elsewhere | Break::Enough) => {
                Some(visitor.skipped.map_or(Rejection::Unreached, Rejection::Skipped))
            }
        }
    }

    /// Gives a tree its name again; the rejection, with the reason if that is not possible.
    fn put_back(&self, expired: &Expired, detached: &mut Detached, why: Rejection) -> Rejection {
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
                let mut failure = failure(expired, Action::Rename, error);
                failure.hint =
                    Some(format!("it is in {at:?}; the next run returns it to its name"));
                Rejection::Failed(failure)
            }
        }
    }

    /// Removes a tree that cannot be renamed.
    fn remove_in_place(
        &self,
        expired: &Expired,
        known: Known<'_>,
        top: &std::fs::File,
    ) -> (Bytes, Option<Rejection>) {
        let mut remover = TreeRemover::new(known);
        let tree = self.context(expired, expired.name());
        let walked = walk::walk(&tree, top, known.id, &mut remover);
        let why = remover.result(walked).map(|why| {
            let why = rejection(expired, expired.name(), why);
            let is_gone = is_gone(&why, expired.directory().handle.as_fd(), expired.name());
            if remover.removed == 0 || is_gone {
                return why;
            }
            in_part(expired, why, &format!("{} of its entries were removed", remover.removed))
        });
        (self.ledger.charge(&remover.freed), why)
    }

    /// The walk through a tree that is called `name` at the moment.
    fn context<'t>(&'t self, expired: &'t Expired, name: &'t CStr) -> WalkContext<'t, C> {
        let directory = expired.directory();
        WalkContext {
            control: self.control,
            parent: directory.handle.as_fd(),
            parent_id: directory.id,
            path: &directory.path,
            name,
            mount: directory.mount,
        }
    }
}

/// Whether another process has removed all that was left of a tree.
fn is_gone(why: &Rejection, dir: BorrowedFd<'_>, name: &CStr) -> bool {
    matches!(why, Rejection::Skipped(Skipped::Gone)) && stat::type_at(dir, name).is_none()
}

/// A part of the tree is gone and the rest stays: always a failure, whatever the reason.
fn in_part(expired: &Expired, why: Rejection, hint: &str) -> Rejection {
    let (reason, error) = match why {
        Rejection::Failed(failure) | Rejection::NotWritten(failure) => {
            return Rejection::Failed(Failure {
                hint: Some(
                    failure.hint.map_or_else(|| hint.to_owned(), |own| format!("{own}; {hint}")),
                ),
                ..failure
            });
        }
        Rejection::Skipped(why) => (why.key().replace('_', " "), Errno::BUSY),
        Rejection::Unreached => ("the run was stopped".to_owned(), Errno::INTR),
        Rejection::NoLock(why) => (why, Errno::NOLCK),
    };
    let mut failure = failure(expired, Action::RemoveTree, error.into());
    failure.hint = Some(format!("{reason}; {hint}"));
    Rejection::Failed(failure)
}

fn rejection(expired: &Expired, name: &CStr, why: Stays) -> Rejection {
    match why {
        Stays::Failed(error) => failed_in_tree(expired, name, error),
        Stays::Skipped(why) => Rejection::Skipped(why),
        Stays::Unreached => Rejection::Unreached,
    }
}
