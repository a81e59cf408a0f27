//! Removes nothing, and says what would have been removed.
//!
//! This module must not change anything. It fails where the system says in advance that a removal would.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use super::failure::{failed_in_tree, failure};
use super::ledger::Ledger;
use super::recover::foresee;
use super::tree::walk_of;
use super::tree_remover::Stays;
use super::tree_rights;
use crate::control::Control;
use crate::fs::lease::InUseProbe;
use crate::fs::rights::DirRights;
use crate::protocol::{
    Directory, Disposer, Expired, Freed, Notes, Recovery, Rejected, Rejection, Removed, Verified,
};
use crate::rules::{Action, FileId, FileKind, Moment};

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
        let tree = walk_of(self.control, expired, expired.name());
        let outside = self.rights_in(expired.directory());
        let (freed, why) = tree_rights::foresee(&tree, top.as_fd(), expired.metadata().id, outside);
        let why = why.map(|why| match why {
            Stays::Failed(error) => failed_in_tree(expired, expired.name(), error),
            Stays::Skipped(why) => Rejection::Skipped(why),
            Stays::Unreached => Rejection::Unreached,
        });
        (freed, why)
    }
}

impl<C: Control> Disposer for DryRun<'_, C> {
    fn dispose(&self, verified: Verified, _now: Moment) -> Result<Removed, Rejected> {
        let expired = verified.expired();
        let why = match verified.object() {
            Some(top) if expired.metadata().kind == FileKind::Dir => {
                let (freed, why) = self.tree(expired, top);
                if let Some(mut why) = why {
                    if let Rejection::Failed(failure) = &mut why
                        && freed.is_some()
                    {
                        failure.add_hint("other entries of the tree would be removed");
                    }
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
        foresee(self.control, self.probe, directory, name, now, self.notes, recovery);
    }
}
