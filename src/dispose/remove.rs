//! The disposer that really removes.
//!
//! It must not remove anything but the entry of a [`Verified`].

use std::ffi::CStr;
use std::sync::Arc;

use super::ledger::Ledger;
use super::quarantine::Quarantines;
use super::tree::Trees;
use crate::control::Control;
use crate::fs::lease::InUseProbe;
use crate::protocol::{Directory, Disposer, Notes, Recovered, Rejected, Removed, Verified};
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
        Self { trees: Trees { control, notes, probe, ledger, quarantines } }
    }
}

impl<C: Control> Disposer for Unlink<'_, C> {
    fn dispose(&self, verified: Verified, now: Moment) -> Result<Removed, Rejected> {
        match verified.expired().metadata().kind {
            FileKind::Dir => self.trees.remove(verified, now),
            FileKind::File | FileKind::Symlink | FileKind::Special => {
                self.trees.remove_single(verified, now)
            }
        }
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
