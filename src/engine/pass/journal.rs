//! Removals of files that are written down first, a whole batch at a time.
//!
//! This module must not remove anything. A line must be on disk before its file is removed, and must not be written for
//! a file that stays; and no lock may be held while waiting for a disk. So the files of a batch are claimed and looked
//! at, released, and written down together. Then each goes through the usual pipeline, with another look.

use super::batch::Batch;
use super::zone_run::ZoneRun;
use super::{Pass, WhenLocked};
use crate::protocol::{Expired, Inspector, Locks, OutcomeKind, Rejected, Rejection, Source};
use crate::rules::select::Select;
use crate::rules::{Action, Bytes, FileKind};

impl<S: Source, L: Locks, I: Inspector, Q: Select> Pass<'_, S, L, I, Q> {
    /// Writes down the files of a batch that would be removed now, and returns them, with the trees, which are
    /// written down one by one when they are removed. All others have their outcome.
    pub(super) fn write_down(
        &self,
        expired: Vec<Expired>,
        run: &ZoneRun<'_>,
        batch: &mut Batch<'_>,
        when_locked: WhenLocked,
    ) -> Vec<Expired> {
        if !self.disposer.writes_first() {
            return expired;
        }
        let (mut trees, files): (Vec<Expired>, Vec<Expired>) =
            expired.into_iter().partition(|entry| entry.metadata().kind == FileKind::Dir);
        let mut written = Vec::with_capacity(files.len());
        let is_stopped = || self.limits.is_stopped();
        self.locks.claim(files, &is_stopped, &mut |claimed| match claimed
            .and_then(|claimed| self.inspector.inspect(claimed, self.now))
        {
            Ok(verified) => written.push(verified.release()),
            Err(rejected) => self.reject(rejected, run, batch, when_locked),
        });
        if !written.is_empty()
            && let Err(failure) = self.disposer.write_down(&written, self.now)
        {
            self.limits.on_audit_log_lost();
            batch.tally.unreached += written.len() as u64 - 1;
            batch.of(&written[0], OutcomeKind::Failed(&failure), Bytes(0));
            written.clear();
        }
        trees.append(&mut written);
        trees
    }

    /// Ends the pass if a removal that was to be completed could not be written down.
    pub(super) fn note_lost_log(&self, kind: &OutcomeKind<'_>) {
        if matches!(kind, OutcomeKind::Failed(failure) if failure.action == Action::WriteAuditLog) {
            self.limits.on_audit_log_lost();
        }
    }

    /// An entry stays: the disposer is told, and it gets its outcome.
    pub(super) fn reject(
        &self,
        rejected: Rejected,
        run: &ZoneRun<'_>,
        batch: &mut Batch<'_>,
        when_locked: WhenLocked,
    ) {
        self.disposer.on_rejected(&rejected.expired, &rejected.why);
        if matches!(rejected.why, Rejection::NotWritten(_)) {
            self.limits.on_audit_log_lost();
        }
        Self::rejected(rejected, run, batch, when_locked);
    }
}
