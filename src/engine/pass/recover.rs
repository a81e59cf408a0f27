//! What interrupted removals have left.
//!
//! This module must not remove anything itself: the disposer completes a removal, and this counts the result.

use std::ffi::CStr;
use std::sync::Arc;

use super::Pass;
use super::batch::{Batch, ExpiredBatch};
use super::judge::judge;
use super::zone_run::{ZoneRun, lock};
use crate::protocol::{
    Directory, Expired, Found, Inspector, Locks, OutcomeKind, Recovered, Recovery, Source,
};
use crate::rules::Bytes;
use crate::rules::select::Select;

impl<S: Source, L: Locks, I: Inspector, Q: Select> Pass<'_, S, L, I, Q> {
    /// Completes an interrupted removal. An entry that has its name again is judged like any other, now: the listing
    /// may have passed it. Those that have expired.
    pub(super) fn recover(
        &self,
        directory: &Arc<Directory>,
        name: &CStr,
        run: &ZoneRun<'_>,
        batch: &mut Batch<'_>,
    ) -> Vec<Expired> {
        let (mut returned, mut in_part) = (Vec::new(), Vec::new());
        let mut each = |recovered: Recovered<'_>| match recovered {
            Recovered::Returned(directory, name) => returned.push((directory, name)),
            Recovered::ReturnedInPart(directory, name, failure) => {
                in_part.push((directory, name, failure));
            }
            Recovered::Settled(directory, name, kind, freed) => {
                self.note_lost_log(&kind);
                batch.tally.seen += 1;
                batch.bare(directory, Some(name), kind, freed);
            }
            Recovered::Unreached => {
                batch.tally.seen += 1;
                batch.tally.unreached += 1;
            }
            Recovered::LeftAlone(why) => {
                batch.tally.seen += 1;
                batch.tally.unreached += 1;
                lock(&run.no_lock).get_or_insert(why);
            }
        };
        let mut recovery = Recovery {
            judge: &|entry| judge(entry, self.exclude, self.now, self.notes),
            allow: &|zone, bytes| {
                !self.limits.is_stopped() && self.limits.allow_removal(zone, bytes)
            },
            give_back: &|zone, bytes| self.limits.return_removal(zone, bytes),
            returns: &|directory, name, id| run.remember_returned(directory.id, name, id),
            stays: &|directory, name, id| run.forget_returned(directory.id, name, id),
            each: &mut each,
        };
        self.disposer.recover(directory, name, self.now, &mut recovery);
        for (directory, name, failure) in in_part {
            batch.tally.seen += 1;
            batch.bare(&directory, Some(&name), OutcomeKind::Failed(&failure), Bytes(0));
        }
        let mut expired = ExpiredBatch::default();
        for (directory, name) in returned {
            let mut judge = |found: Found<'_>| self.judge(found, run, batch, &mut expired);
            self.source.look(&directory, &name, &mut judge);
        }
        expired.take()
    }
}
