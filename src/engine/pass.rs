//! The pass: Source → evaluate → select → claim → look again → dispose.
//!
//! This module must not touch a file or a lock itself, and whether anything is really removed is up to the disposer.
//! Every entry that was found yields exactly one outcome; totals are counted from outcomes.
//!
//! Workers take batches of names from the same directory, so one huge directory keeps all of them busy.
//! Expired trees are queued for idle workers, one by one, and the walk through a big tree forks. Locked
//! entries are tried again when everything else is done.

mod batch;
mod candidates;
mod course;
mod journal;
mod judge;
mod recover;
mod relief_plan;
mod relieve;
mod settle;
mod turns;
mod zone_run;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::live::{Live, zone_path};
use super::workers::Counted;
use super::{Limits, Workers};
use crate::protocol::{
    Directory, Disposer, Expired, Found, Inspector, Locks, Notes, Observer, OutcomeKind, Rejected,
    Rejection, Skipped, Source, Summary, ZoneSummary,
};
use crate::rules::names::is_removed_in_use;
use crate::rules::select::Select;
use crate::rules::verdict::evaluate;
use crate::rules::{Bytes, Exclude, FileKind, Moment, Shape, Zone};
use batch::{Batch, ExpiredBatch};
use judge::note_wrong_time;
pub use relief_plan::{ReliefPlan, ReliefZone};
use zone_run::{ZoneRun, lock};

/// How many locked entries are tried again at the end, and how many directories they may be in. Beyond that
/// they are skipped at once: a volume with so many locks is being worked on.
const MAX_LOCKED: usize = 10_000;
const LOCKED_DIRECTORIES: usize = 64;

/// How many trees may be queued at once.
const MAX_QUEUED: usize = 128;

/// How many names of a zone are read before other threads help, and the buffer for their listing: so small that
/// the trees among them fit into the queue, and that little time is lost where each look waits for a server.
const ALONE_NAMES: u64 = 16;
const ALONE_BUFFER: usize = 1024;

/// Between two tries at locked entries.
const LOCKED_PAUSE: Duration = Duration::from_millis(50);

/// One run over some zones at one `now`.
pub struct Pass<'a, S, L, I, Q> {
    /// Where entries come from.
    pub source: &'a S,
    /// The locks.
    pub locks: &'a L,
    /// Who looks again.
    pub inspector: &'a I,
    /// Who removes.
    pub disposer: &'a dyn Disposer,
    /// Which of the expired entries are removed now.
    pub select: &'a Q,
    /// What the user asked to keep.
    pub exclude: &'a Exclude,
    /// The data root, for the paths in the report.
    pub data_root: &'a Path,
    /// What the user should know about a zone.
    pub notes: &'a Notes,
    /// All that is found had expired before: it is in a plan. What the rules keep now has changed since then.
    pub is_planned: bool,
    /// The moment at which everything is judged.
    pub now: Moment,
    /// When to end early.
    pub limits: &'a Limits,
    /// The threads.
    pub workers: &'a Workers,
    /// Where its counts can be seen meanwhile.
    pub live: &'a Live,
    /// How long in all to try locked entries again.
    pub lock_wait: Duration,
}

/// What one batch of names has shown.
struct Read {
    has_more: bool,
    names: u64,
}

/// What to do with locked entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WhenLocked {
    /// Try them again later.
    Retry,
    /// Skip them.
    Skip,
}

impl<S: Source, L: Locks, I: Inspector, Q: Select> Pass<'_, S, L, I, Q> {
    /// Sweeps `zones` one after the other.
    pub fn run(&self, zones: &[Arc<Zone>], observer: &dyn Observer) -> Summary {
        let runs: Vec<ZoneRun<'_>> = zones.iter().map(|zone| self.begin(zone, observer)).collect();
        while self.source.next_round() {
            for run in &runs {
                self.sweep(run, observer);
            }
        }
        self.retry_locked(&runs, observer);
        let zones = runs.into_iter().map(|run| self.sum_up(run)).collect();
        Summary { zones, stopped: self.limits.reason(), relief: Vec::new() }
    }

    fn begin<'z>(&self, zone: &'z Arc<Zone>, observer: &dyn Observer) -> ZoneRun<'z> {
        let run = ZoneRun::new(zone, self.live.begin(&zone.name));
        observer.on_zone(&zone.name);
        if let Err(why) = self.locks.ready(zone) {
            *lock(&run.no_lock) = Some(why);
        }
        self.sweep(&run, observer);
        run
    }

    /// Sweeps what one reading of a zone gives.
    fn sweep(&self, run: &ZoneRun<'_>, observer: &dyn Observer) {
        if lock(&run.no_lock).is_some() {
            return;
        }
        match self.source.open(run.zone) {
            Ok(Some(scan)) => {
                // Only there a batch of names has as few trees.
                let is_flat = matches!(run.zone.location.shape, Shape::Flat);
                let may_be_alone = self.workers.are_several() && is_flat;
                if !may_be_alone || self.work_alone(&scan, run, observer) {
                    self.workers.all(|| self.work(&scan, run, observer));
                }
            }
            Ok(None) => {}
            // The data root itself is gone: one entry that failed.
            Err(failure) => {
                let mut total = lock(&run.total);
                total.seen += 1;
                total.count_failure(&failure);
            }
        }
    }

    /// Reads the first names in the caller's thread: where there are few, no tree has expired and no removal was
    /// interrupted, other threads would only wait for each other. Whether there is work for them.
    fn work_alone(&self, scan: &S::Scan, run: &ZoneRun<'_>, observer: &dyn Observer) -> bool {
        let mut buffer = Vec::with_capacity(ALONE_BUFFER);
        let mut names = 0;
        loop {
            let read = self.read(scan, &mut buffer, run, observer);
            names += read.names;
            if !lock(&run.trees).is_empty() || !lock(&run.leftovers).is_empty() {
                return true;
            }
            if !read.has_more || names >= ALONE_NAMES {
                return read.has_more;
            }
        }
    }

    /// What one worker does until there is nothing left to do: what interrupted removals have left, or else queued
    /// trees, or else more names.
    fn work(&self, scan: &S::Scan, run: &ZoneRun<'_>, observer: &dyn Observer) {
        let mut buffer = Vec::new();
        let mut has_more = true;
        loop {
            let ticket = self.workers.ticket();
            let working = Counted::one_more(&run.working, self.workers);
            let leftover = lock(&run.leftovers).pop();
            let tree = if leftover.is_some() { None } else { lock(&run.trees).pop_front() };
            let had_work = leftover.is_some() || tree.is_some() || has_more;
            if let Some((directory, name)) = leftover {
                self.settle_apart(&directory, run, observer, |batch| {
                    self.recover(&directory, &name, run, batch)
                });
            } else if let Some(tree) = tree {
                let directory = Arc::clone(tree.directory());
                self.settle_apart(&directory, run, observer, |batch| {
                    batch.tally.seen = 1;
                    vec![tree]
                });
            } else if has_more {
                has_more = self.read(scan, &mut buffer, run, observer).has_more;
            }
            let others = working.end();
            if had_work {
                continue;
            }
            if others == 0 {
                // Those that wait see that there will be no more.
                self.workers.notify();
                return;
            }
            self.workers.wait(ticket);
        }
    }

    /// One batch of names: judged, and the expired entries settled or, if they are trees, queued.
    fn read(
        &self,
        scan: &S::Scan,
        buffer: &mut Vec<u8>,
        run: &ZoneRun<'_>,
        observer: &dyn Observer,
    ) -> Read {
        let mut batch = Batch::new(&run.total, &run.turns, observer);
        let mut expired = ExpiredBatch::default();
        batch.looks.resume();
        let scanned = self.source.next_batch(scan, buffer, &mut |found| match found {
            Found::Leftover(directory, name) => {
                lock(&run.leftovers).push((Arc::clone(directory), name.to_owned()));
                self.workers.notify();
            }
            Found::Entry(entry) if run.is_returned(entry) => {}
            Found::Entry(_) | Found::Gone(..) | Found::Failed(..) => {
                self.judge(found, run, &mut batch, &mut expired);
            }
        });
        batch.looks.pause();
        run.turns.adapt(scanned.is_cold);
        self.settle(expired.take(), run, &mut batch, WhenLocked::Retry);
        batch.unlocked();
        if let Some(root) = scanned.root {
            observer.on_progress(root, scanned.names, &batch.tally);
        }
        batch.close();
        let has_more =
            scanned.has_more && !self.limits.is_stopped() && lock(&run.no_lock).is_none();
        Read { has_more, names: scanned.names }
    }

    /// The verdict on what was found.
    #[inline(always)]
    fn judge(
        &self,
        found: Found<'_>,
        run: &ZoneRun<'_>,
        batch: &mut Batch<'_>,
        expired: &mut ExpiredBatch,
    ) {
        batch.tally.seen += 1;
        match found {
            Found::Entry(entry) => {
                let verdict = evaluate(entry, self.exclude, self.now);
                note_wrong_time(&verdict, entry, self.now, self.notes);
                match verdict {
                    Ok(found) => self.expired(found, run, batch, expired),
                    Err(kept) if self.is_planned => batch.changed(entry, kept),
                    Err(kept) => batch.kept(entry, kept),
                }
            }
            Found::Gone(_, name) if is_removed_in_use(name.to_bytes()) => batch.tally.seen -= 1,
            Found::Gone(directory, name) => {
                let kind = OutcomeKind::Skipped(Skipped::Gone);
                batch.bare(directory, Some(name), kind, Bytes(0));
            }
            Found::Failed(directory, name, failure) => {
                batch.bare(directory, name, OutcomeKind::Failed(&failure), Bytes(0));
            }
            // Not an entry.
            Found::Leftover(..) => batch.tally.seen -= 1,
        }
    }

    /// Keeps an expired file for the next batch, and settles or queues a tree.
    #[inline(never)]
    fn expired(
        &self,
        found: Expired,
        run: &ZoneRun<'_>,
        batch: &mut Batch<'_>,
        expired: &mut ExpiredBatch,
    ) {
        if found.metadata().kind == FileKind::Dir {
            match self.queue(found, run) {
                // Counted where it is settled.
                None => batch.tally.seen -= 1,
                Some(tree) => self.settle(vec![tree], run, batch, WhenLocked::Retry),
            }
            return;
        }
        expired.push(found);
        if expired.is_full() {
            self.settle(expired.take(), run, batch, WhenLocked::Retry);
        }
    }

    /// Queues a tree for an idle worker, unless there is only one worker or too many trees wait already.
    fn queue(&self, tree: Expired, run: &ZoneRun<'_>) -> Option<Expired> {
        let mut trees = lock(&run.trees);
        if !self.workers.are_several() || trees.len() >= MAX_QUEUED {
            return Some(tree);
        }
        trees.push_back(tree);
        drop(trees);
        self.workers.notify();
        None
    }

    /// Takes entries of a directory to their end that do not come from a batch of names.
    fn settle_apart(
        &self,
        directory: &Directory,
        run: &ZoneRun<'_>,
        observer: &dyn Observer,
        entries: impl FnOnce(&mut Batch<'_>) -> Vec<Expired>,
    ) {
        let mut batch = Batch::new(&run.total, &run.turns, observer);
        let expired = entries(&mut batch);
        self.settle(expired, run, &mut batch, WhenLocked::Retry);
        batch.unlocked();
        observer.on_progress(directory, 0, &batch.tally);
        batch.close();
    }

    fn rejected(
        rejected: Rejected,
        run: &ZoneRun<'_>,
        batch: &mut Batch<'_>,
        when_locked: WhenLocked,
    ) {
        let Rejected { expired, why, freed } = rejected;
        let freed = freed.unwrap_or_default();
        match why {
            Rejection::Skipped(Skipped::Locked) if when_locked == WhenLocked::Retry => {
                let mut locked = lock(&run.locked);
                if locked.has_room(MAX_LOCKED, LOCKED_DIRECTORIES) {
                    locked.push(expired);
                    // Counted where it is tried again.
                    batch.tally.seen -= 1;
                } else {
                    drop(locked);
                    batch.of(&expired, OutcomeKind::Skipped(Skipped::Locked), freed);
                }
            }
            // On NFS, the rest of a file that this pass has removed a moment ago: no entry.
            Rejection::Skipped(Skipped::Gone) if is_removed_in_use(expired.name().to_bytes()) => {
                batch.tally.seen -= 1;
            }
            Rejection::Skipped(why) => batch.of(&expired, OutcomeKind::Skipped(why), freed),
            Rejection::Failed(failure) | Rejection::NotWritten(failure) => {
                batch.of(&expired, OutcomeKind::Failed(&failure), freed);
            }
            Rejection::Unreached => batch.tally.unreached += 1,
            Rejection::NoLock(why) => {
                batch.tally.unreached += 1;
                lock(&run.no_lock).get_or_insert(why);
            }
        }
    }

    /// Tries locked entries again, round by round, until the time for that is over.
    fn retry_locked(&self, runs: &[ZoneRun<'_>], observer: &dyn Observer) {
        let start = Instant::now();
        loop {
            let is_last = start.elapsed() >= self.lock_wait || self.limits.is_stopped();
            let when_locked = if is_last { WhenLocked::Skip } else { WhenLocked::Retry };
            let mut waiting = 0;
            for run in runs {
                let locked = lock(&run.locked).take();
                let mut batch = Batch::new(&run.total, &run.turns, observer);
                batch.tally.seen = locked.len() as u64;
                self.settle_locked(locked, run, &mut batch, when_locked);
                batch.close();
                waiting += lock(&run.locked).count();
            }
            if waiting == 0 {
                return;
            }
            std::thread::sleep(LOCKED_PAUSE.min(self.lock_wait));
        }
    }

    fn sum_up(&self, run: ZoneRun<'_>) -> ZoneSummary {
        let (zone, tally, no_lock) = run.into_parts();
        let mut notes = self.notes.of(&zone.name);
        notes.extend(self.locks.notes(zone));
        if let Some(why) = &no_lock {
            notes.push(format!("left alone, because its lock cannot be taken: {why}"));
        }
        let path = zone_path(self.data_root, zone);
        ZoneSummary { zone: zone.name.clone(), path, tally, notes, no_lock }
    }
}

#[cfg(test)]
mod tests;
