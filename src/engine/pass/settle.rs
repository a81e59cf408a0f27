//! Expired entries, together: claimed, looked at again, and removed.
//!
//! This module must not touch a file or a lock itself.

use super::batch::Batch;
use super::turns::Work;
use super::zone_run::ZoneRun;
use super::{Pass, WhenLocked};
use crate::protocol::{
    Claimed, Expired, Inspector, Locks, OutcomeKind, Rejected, Rejection, Removed, Skipped, Source,
};
use crate::rules::FileKind;
use crate::rules::select::Select;

impl<S: Source, L: Locks, I: Inspector, Q: Select> Pass<'_, S, L, I, Q> {
    /// Settles expired entries, no faster than the rate allows.
    pub(super) fn settle(
        &self,
        mut expired: Vec<Expired>,
        run: &ZoneRun<'_>,
        batch: &mut Batch<'_>,
        when_locked: WhenLocked,
    ) {
        let not_now = self.select.set_aside(&mut expired);
        batch.tally.unreached += not_now.len() as u64;
        let most = self.limits.batch_size();
        while expired.len() > most {
            let rest = expired.split_off(most);
            self.settle_together(expired, run, batch, when_locked);
            expired = rest;
        }
        self.settle_together(expired, run, batch, when_locked);
    }

    /// Settles entries that were locked when they were tried before.
    pub(super) fn settle_locked(
        &self,
        locked: Vec<Expired>,
        run: &ZoneRun<'_>,
        batch: &mut Batch<'_>,
        when_locked: WhenLocked,
    ) {
        if !self.limits.is_stopped() {
            return self.settle(locked, run, batch, when_locked);
        }
        for expired in locked {
            let why = Rejection::Skipped(Skipped::Locked);
            self.reject(Rejected::new(expired, why), run, batch, WhenLocked::Skip);
        }
    }

    /// Claims expired entries together and takes each claim to its end.
    pub(super) fn settle_together(
        &self,
        expired: Vec<Expired>,
        run: &ZoneRun<'_>,
        batch: &mut Batch<'_>,
        when_locked: WhenLocked,
    ) {
        let was_looking = batch.looks.pause();
        self.settle_claims(expired, run, batch, when_locked);
        if was_looking {
            batch.looks.resume();
        }
    }

    #[inline(never)]
    fn settle_claims(
        &self,
        expired: Vec<Expired>,
        run: &ZoneRun<'_>,
        batch: &mut Batch<'_>,
        when_locked: WhenLocked,
    ) {
        let expired = self.write_down(expired, run, batch, when_locked);
        if expired.is_empty() {
            return;
        }
        // Before the locks are taken. Trees are paced file by file.
        let is_tree = |expired: &&Expired| expired.metadata().kind == FileKind::Dir;
        let files = expired.len() - expired.iter().filter(is_tree).count();
        let is_stopped = || self.limits.is_stopped();
        if !is_stopped() {
            self.limits.pace(files);
        }
        let turn = (files > 0).then(|| run.turns.take(Work::Remove));
        self.locks.claim(expired, &is_stopped, &mut |claimed| match claimed
            .and_then(|claimed| self.finish(claimed))
        {
            Ok(removed) => {
                batch.of(&removed.expired, OutcomeKind::Removed, removed.freed);
            }
            Err(rejected) => self.reject(rejected, run, batch, when_locked),
        });
        drop(turn);
        batch.unlocked();
    }

    /// The second half of the pipeline: look again, then remove.
    fn finish(&self, claimed: Claimed) -> Result<Removed, Rejected> {
        let verified = self.inspector.inspect(claimed, self.now)?;
        let (zone, frees) =
            (verified.expired().directory().zone.name.clone(), verified.freed().bytes);
        if !self.limits.allow_removal(&zone, frees) {
            return Err(verified.reject(Rejection::Unreached, None));
        }
        // Last before the removal. An entry whose lock has run out is tried again.
        let disposed = if verified.is_valid() {
            self.disposer.dispose(verified, self.now)
        } else {
            Err(verified.reject(Rejection::Skipped(Skipped::Locked), None))
        };
        // Some of a tree may be gone though the rest of it stays.
        disposed.inspect_err(|rejected| {
            if rejected.freed.is_none() {
                self.limits.return_removal(&zone, frees);
            }
        })
    }
}
