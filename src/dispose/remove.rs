//! The disposer that really removes.
//!
//! It must not remove anything but the entry of a [`Verified`].

use std::ffi::CStr;
use std::sync::Arc;

use rustix::io::Errno;

use super::failure::failure;
use super::ledger::Ledger;
use super::quarantine::Quarantines;
use super::tree::Trees;
use super::unlink::{remove_empty_directory, remove_file};
use crate::control::Control;
use crate::fs::lease::InUseProbe;
use crate::protocol::{
    Directory, Disposer, Notes, Recovered, Rejected, Rejection, Removed, Skipped, Verified,
};
use crate::rules::{Action, Bytes, FileKind, Moment};

/// Removes entries from the file system.
#[derive(Debug)]
pub struct Unlink<'a, C> {
    trees: Trees<'a, C>,
}

impl<'a, C: Control> Unlink<'a, C> {
    /// Walks through trees end early when `control` says so, and are shared with idle workers.
    pub fn new(control: &'a C, notes: &'a Notes, probe: InUseProbe) -> Self {
        let (ledger, quarantines) = (Ledger::default(), Quarantines::default());
        Self { trees: Trees { control, notes, probe, ledger, quarantines } }
    }
}

impl<C: Control> Disposer for Unlink<'_, C> {
    fn dispose(&self, verified: Verified, now: Moment) -> Result<Removed, Rejected> {
        let expired = verified.expired();
        if expired.metadata().kind == FileKind::Dir {
            return self.trees.remove(verified, now);
        }
        let why = match remove_file(&expired.directory().handle, expired.name()) {
            Ok(()) => {
                let freed = self.trees.ledger.charge(verified.freed());
                return Ok(verified.removed(freed));
            }
            Err(Errno::NOENT) => Rejection::Skipped(Skipped::Gone),
            // A directory has its name now.
            Err(Errno::ISDIR) => Rejection::Skipped(Skipped::Replaced),
            Err(error) => Rejection::Failed(failure(expired, Action::Unlink, error.into())),
        };
        Err(verified.reject(why, Bytes(0)))
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
        each: &mut dyn FnMut(Recovered<'_>),
    ) {
        self.trees.recover(directory, name, now, each);
    }
}

#[cfg(test)]
mod tests;
