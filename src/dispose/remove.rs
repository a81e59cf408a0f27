//! The disposer that really removes.
//!
//! This module must not remove anything but the entry of a [`Verified`].

use std::ffi::CStr;
use std::sync::Arc;

use super::ledger::Ledger;
use super::quarantine::Quarantines;
use super::recoverable::Recoverable;
use super::server_clock::ServerClocks;
use super::tree::Trees;
use super::unlink::remove_empty_directory;
use super::written::Written;
use crate::control::Control;
use crate::fs::lease::InUseProbe;
use crate::protocol::{
    Directory, Disposer, Expired, Failure, Journal, Notes, Recovery, Rejected, Rejection, Removed,
    Skipped, Verified,
};
use crate::rules::{FileKind, Moment};

/// Removes entries from the file system.
#[derive(Debug)]
pub struct Unlink<'a, C> {
    trees: Trees<'a, C>,
}

impl<'a, C: Control> Unlink<'a, C> {
    /// Walks through trees end early when `control` says so, and are shared with idle workers.
    pub fn new(control: &'a C, notes: &'a Notes, probe: InUseProbe) -> Self {
        let (ledger, quarantines) = (Ledger::default(), Quarantines::new());
        let (written, clocks) = (Written::default(), ServerClocks::default());
        let recoverable = Recoverable::default();
        Self {
            trees: Trees {
                control,
                notes,
                probe,
                ledger,
                quarantines,
                written,
                clocks,
                recoverable,
            },
        }
    }

    /// Compares the clocks of file servers with this one, before anything is removed there.
    #[must_use]
    pub fn with_clock(mut self, now: fn() -> Moment) -> Self {
        self.trees.clocks = ServerClocks::compared_with(now);
        self
    }

    /// Writes down each removal in `journal`, if there is one, before it is made.
    #[must_use]
    pub fn written_in(mut self, journal: Option<&'a dyn Journal>) -> Self {
        self.trees.written.journal = journal;
        self
    }

    fn remove(&self, verified: Verified, now: Moment) -> Result<Removed, Rejected> {
        let expired = verified.expired();
        let Trees { clocks, quarantines, notes, .. } = &self.trees;
        let behind = match clocks.check(expired.directory(), quarantines, notes) {
            Ok(behind) => behind,
            Err(why) => return Err(verified.reject(Rejection::NoLock(why), None)),
        };
        // An hour matters for what is removed early: its least age is not much more.
        let is_early = expired.rule().early.is_some();
        let now = if is_early { now.minus(behind) } else { now };
        if is_early && !expired.rule().is_expired(expired.last_used(now), now) {
            return Err(verified.reject(Rejection::Skipped(Skipped::Used), None));
        }
        match expired.metadata().kind {
            FileKind::Dir => self.trees.remove(verified, now),
            FileKind::File | FileKind::Symlink | FileKind::Special => {
                if let Err(failure) = self.trees.written.check_file(expired) {
                    return Err(verified.reject(Rejection::NotWritten(failure), None));
                }
                self.trees.remove_single(verified, now)
            }
        }
    }
}

impl<C: Control> Disposer for Unlink<'_, C> {
    fn dispose(&self, verified: Verified, now: Moment) -> Result<Removed, Rejected> {
        let removed = self.remove(verified, now)?;
        self.trees.written.on_removed(&removed.expired);
        Ok(removed)
    }

    fn writes_first(&self) -> bool {
        self.trees.written.journal.is_some()
    }

    fn write_down(&self, files: &[Expired], now: Moment) -> Result<(), Failure> {
        self.trees.written.write_files(files, now)
    }

    fn on_rejected(&self, expired: &Expired, why: &Rejection) {
        self.trees.written.on_rejected(expired, why);
    }

    fn release(&self) {
        self.trees.quarantines.release();
    }

    fn prune(&self, directory: &Directory, name: &CStr) -> bool {
        // The system refuses a directory that is not empty. One of ours may be what is left in it.
        let remove = || remove_empty_directory(&directory.handle, name).is_ok();
        remove() || (self.trees.quarantines.release() && remove())
    }

    fn recover(
        &self,
        directory: &Arc<Directory>,
        name: &CStr,
        now: Moment,
        recovery: &mut Recovery<'_>,
    ) {
        self.trees.recover(directory, name, now, recovery);
    }
}

#[cfg(test)]
mod tests;
