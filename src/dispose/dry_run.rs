//! Removes nothing, and says what would have been removed.
//!
//! This module must not change anything. It fails where the system says in advance that a removal would: in a tree it
//! looks at the rights of every directory and member.

use std::ffi::CStr;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use super::failure::{failed_in_tree, failure};
use super::kept::Kept;
use super::ledger::Ledger;
use super::recover::foresee;
use super::tree::walk_of;
use crate::control::Control;
use crate::fs::PathError;
use crate::fs::lease::InUseProbe;
use crate::fs::rights::DirRights;
use crate::fs::walk::{self, Break, EntryRef, Flow, Leaving, Next, Visit};
use crate::protocol::{
    Directory, Disposer, Expired, Freed, Notes, Recovery, Rejected, Rejection, Removed, Verified,
};
use crate::rules::{Action, FileId, FileKind, Metadata, Moment};

/// The disposer of a dry run.
#[derive(Debug)]
pub struct DryRun<'a, C> {
    control: &'a C,
    ledger: Ledger,
    probe: InUseProbe,
    notes: Option<&'a Notes>,
    /// The rights in the directory of the last entry: usually that of the next one, too.
    last: Mutex<Option<(FileId, DirRights)>>,
}

impl<'a, C: Control> DryRun<'a, C> {
    /// Walks through trees end early when `control` says so, and are shared with idle workers.
    pub fn new(control: &'a C, probe: InUseProbe) -> Self {
        Self { control, ledger: Ledger::default(), probe, notes: None, last: Mutex::default() }
    }

    /// Notes in what a removal may differ.
    #[must_use]
    pub const fn noting(mut self, notes: &'a Notes) -> Self {
        self.notes = Some(notes);
        self
    }

    fn rights_in(&self, directory: &Directory) -> DirRights {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match *last {
            Some((id, rights)) if id == directory.id => rights,
            Some(_) | None => {
                let rights = DirRights::of(&directory.handle);
                *last = Some((directory.id, rights));
                rights
            }
        }
    }

    /// What prevents the removal of an entry that is not a tree.
    fn forbidden(&self, expired: &Expired) -> Option<Rejection> {
        let directory = expired.directory();
        let rights = self.rights_in(directory);
        let obstacle = rights.obstacle(&directory.handle, expired.name())?;
        let error = obstacle.errno().into();
        Some(Rejection::Failed(failure(expired, Action::Unlink, error)))
    }

    /// What the removal of a tree would free, and what prevents its completion.
    fn tree(&self, expired: &Expired, top: &std::fs::File) -> (Option<Freed>, Option<Rejection>) {
        let mut look = TreeRights::new(self.rights_in(expired.directory()));
        let tree = walk_of(self.control, expired, expired.name());
        let walked = walk::walk(&tree, top, expired.metadata().id, &mut look);
        let failed = |error| failed_in_tree(expired, expired.name(), error);
        let why = match walked {
            ControlFlow::Continue(()) => look.kept.take_first().map(failed),
            ControlFlow::Break(Break::Failed(error)) => Some(failed(error)),
            ControlFlow::Break(Break::Stopped) => Some(Rejection::Unreached),
            // Something in it has changed since it was looked at, which a real pass would find too.
            ControlFlow::Break(Break::Enough | Break::Elsewhere) => None,
        };
        (look.freed, why)
    }
}

impl<C: Control> Disposer for DryRun<'_, C> {
    fn dispose(&self, verified: Verified, _now: Moment) -> Result<Removed, Rejected> {
        let expired = verified.expired();
        let why = match verified.object() {
            Some(top) if expired.metadata().kind == FileKind::Dir => {
                let (freed, why) = self.tree(expired, top);
                if let Some(why) = why {
                    let freed = freed.map(|freed| self.ledger.charge(&freed));
                    return Err(verified.reject(why, freed));
                }
                None
            }
            _ => self.forbidden(expired),
        };
        if let Some(why) = why {
            return Err(verified.reject(why, None));
        }
        let (zone, storage) = (&expired.directory().zone, &expired.directory().storage);
        if let Some(notes) = self.notes.filter(|_| storage.file_system.is_served()) {
            notes.add(&zone.name, Notes::CLOCK_NOT_COMPARED);
        }
        let freed = self.ledger.charge(verified.freed());
        Ok(verified.removed(freed))
    }

    fn recover(
        &self,
        directory: &Arc<Directory>,
        name: &CStr,
        now: Moment,
        recovery: &mut Recovery<'_>,
    ) {
        foresee(self.control, self.probe, directory, name, now, recovery);
    }
}

/// Finds what could not be removed in a tree, as `tree_remover` would.
struct TreeRights {
    /// The rights in the directory that holds the tree, and in those on the way to where the walk is.
    above: Vec<DirRights>,
    /// What would be freed, if anything would be removed.
    freed: Option<Freed>,
    kept: Kept,
}

impl TreeRights {
    fn new(outside: DirRights) -> Self {
        Self { above: vec![outside], freed: None, kept: Kept::default() }
    }

    /// Counts a member, as freed or as a failure.
    fn count(&mut self, at: &EntryRef<'_>, metadata: &Metadata, action: Action) {
        let depth = at.depth();
        let rights = match self.above.get(depth) {
            Some(rights) => *rights,
            None => DirRights::of(at.dir),
        };
        match rights.obstacle(at.dir, at.name) {
            None => self.freed.get_or_insert_default().add(metadata),
            Some(obstacle) => self.kept.keep(at, at.error(action, obstacle.errno())),
        }
    }
}

impl Visit for TreeRights {
    fn fork(&self) -> Self {
        Self { above: self.above.clone(), freed: None, kept: Kept::default() }
    }

    fn join(&mut self, other: Self) {
        if let Some(freed) = other.freed {
            self.freed.get_or_insert_default().append(freed);
        }
        self.kept.join(other.kept);
    }

    fn enter(&mut self, dir: &OwnedFd, _: &Metadata, depth: usize, _: bool) -> Flow {
        self.above.truncate(depth + 1);
        self.above.push(DirRights::of(dir));
        ControlFlow::Continue(())
    }

    fn file(&mut self, at: &EntryRef<'_>, metadata: &Metadata, _: Option<OwnedFd>) -> Flow {
        self.count(at, metadata, Action::Unlink);
        ControlFlow::Continue(())
    }

    fn leave(&mut self, at: &EntryRef<'_>, dir: &Leaving<'_>) -> ControlFlow<Break, Next> {
        if !self.kept.is_in(at.depth()) {
            self.count(at, dir.metadata, Action::Rmdir);
        }
        ControlFlow::Continue(Next::Up)
    }

    fn mount_point(&mut self, _at: &EntryRef<'_>) -> Flow {
        ControlFlow::Break(Break::Enough)
    }

    fn lost(&mut self) -> Flow {
        ControlFlow::Break(Break::Enough)
    }

    fn failed(&mut self, at: &EntryRef<'_>, error: PathError) -> Flow {
        self.kept.keep(at, error);
        ControlFlow::Continue(())
    }
}
