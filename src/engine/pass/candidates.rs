//! What may be removed early: the first entries of all zones, in the order of their removal.
//!
//! This module must not remove anything. A directory is as old as the newest thing in it, so it is walked, under its
//! lock. Memory is bounded, whatever the number of entries, and their directories are closed again: there can be
//! more of them than a process may have open.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::Pass;
use super::relief_plan::{ReliefPlan, ReliefRun, ReliefZone};
use super::zone_run::lock;
use crate::protocol::{
    Directory, Expired, Found, InTheWay, Inspector, Locks, Rejection, Skipped, Source,
};
use crate::rules::select::{First, Place, Select};
use crate::rules::verdict::{NotEarly, evaluate_early};
use crate::rules::{Amount, FileId, FileKind, Metadata, Moment};

/// How many entries are in memory at once. More are looked for when these are gone.
const MOST: usize = 32 * 1024;

/// How many directories are open at once.
const OPEN: usize = 64;

/// An entry that may be removed, while its directory is closed.
pub(super) struct Candidate {
    /// The number of its zone in the plan.
    pub(super) zone: usize,
    dir: Arc<Path>,
    id: FileId,
    mtime: Moment,
    /// What its removal frees, as far as its own metadata says: the content of a directory does not count.
    pub(super) size: Amount,
}

/// Entries that may be removed, in their order, and the directories of the last ones.
#[derive(Default)]
pub(super) struct Candidates {
    queue: VecDeque<(Place, Candidate)>,
    open: Vec<(usize, Arc<Directory>)>,
    /// Entries that are no longer as they were.
    pub(super) in_the_way: InTheWay,
}

impl Candidates {
    pub(super) fn refill(&mut self, entries: Vec<(Place, Candidate)>) {
        self.queue = entries.into();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    fn opened(&self, id: FileId) -> Option<&Arc<Directory>> {
        self.open.iter().map(|(_, open)| open).find(|open| open.id == id)
    }

    /// The entries of the next step. It ends with one whose size is not known.
    pub(super) fn next(&mut self, goal: Amount) -> Vec<(Place, Candidate)> {
        let (mut entries, mut sum) = (Vec::new(), Amount::default());
        while let Some(entry) = self.queue.pop_front() {
            let size = entry.1.size;
            sum = sum.plus(size);
            entries.push(entry);
            if size.is_zero() || sum.covers(goal) {
                break;
            }
        }
        entries
    }
}

/// What is found, by all workers.
struct Finding {
    first: First<Candidate>,
    in_the_way: InTheWay,
}

/// A zone, and its number in the plan.
#[derive(Clone, Copy)]
struct Zone<'a> {
    number: usize,
    relief: &'a ReliefZone,
}

/// What a worker writes into.
struct Finder<'f> {
    finding: &'f Mutex<Finding>,
    in_the_way: InTheWay,
    /// The path of the directory of the last entry: usually that of the next one, too.
    last: Option<(FileId, Arc<Path>)>,
}

impl Finder<'_> {
    fn candidate(&mut self, expired: &Expired, zone: usize) -> Candidate {
        let directory = expired.directory();
        let dir = match &self.last {
            Some((id, dir)) if *id == directory.id => Arc::clone(dir),
            Some(_) | None => {
                let dir: Arc<Path> = directory.dir.as_path().into();
                self.last = Some((directory.id, Arc::clone(&dir)));
                dir
            }
        };
        let &Metadata { id, mtime, .. } = expired.metadata();
        Candidate { zone, dir, id, mtime, size: predicted(expired.metadata()) }
    }
}

impl<S: Source, L: Locks, I: Inspector, Q: Select> Pass<'_, S, L, I, Q> {
    /// The next entries to remove, where to look for more, and what stays.
    pub(super) fn candidates(
        &self,
        plan: &ReliefPlan<'_>,
        runs: &[ReliefRun<'_>],
        from: Option<Place>,
    ) -> (Vec<(Place, Candidate)>, Option<Place>, InTheWay) {
        let first = First::new(MOST, from);
        let finding = Mutex::new(Finding { first, in_the_way: InTheWay::default() });
        for (number, run) in runs.iter().enumerate() {
            if lock(&run.run.no_lock).is_some() || self.limits.is_stopped() {
                continue;
            }
            // A zone that cannot be opened was reported by the pass.
            if let Ok(Some(scan)) = self.source.open(&run.zone.zone) {
                let zone = Zone { number, relief: run.zone };
                self.workers.all(|| self.find(&scan, plan, zone, &finding));
            }
        }
        let finding = finding.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (entries, end) = finding.first.into_parts();
        (entries, end, finding.in_the_way)
    }

    /// What one worker does: looks at names until there are no more.
    fn find(
        &self,
        scan: &S::Scan,
        plan: &ReliefPlan<'_>,
        zone: Zone<'_>,
        finding: &Mutex<Finding>,
    ) {
        let (mut buffer, mut found) = (Vec::new(), Vec::new());
        let mut finder = Finder { finding, in_the_way: InTheWay::default(), last: None };
        loop {
            let in_the_way = &mut finder.in_the_way;
            // Behind a pointer: for a type of its own, the program would have another copy of the source.
            let mut each: &mut dyn FnMut(Found<'_>) = &mut |name| {
                let Found::Entry(entry) = name else { return };
                // A zone can reach into another file system, where nothing is to be gained for this one.
                if !plan.volume.holds(entry.directory) {
                    return;
                }
                let (min_age, swept) = (plan.min_age, zone.relief.swept);
                match evaluate_early(entry, self.exclude, min_age, swept, self.now) {
                    Ok(expired) if plan.outcomes.is_settled(&expired, swept) => {
                        in_the_way.left += 1;
                    }
                    // Its space stays in use when this name of it is gone.
                    Ok(expired) if expired.metadata().has_other_names() => in_the_way.linked += 1,
                    Ok(expired) => found.push(expired),
                    Err(why) => count(in_the_way, why),
                }
            };
            let scanned = self.source.next_batch(scan, &mut buffer, &mut each);
            for expired in found.drain(..) {
                self.offer(expired, zone, &mut finder);
            }
            lock(finding).in_the_way.add(std::mem::take(&mut finder.in_the_way));
            if !scanned.has_more || self.limits.is_stopped() {
                return;
            }
        }
    }

    /// Offers an entry for the places that there are.
    fn offer(&self, expired: Expired, zone: Zone<'_>, finder: &mut Finder<'_>) {
        let Zone { number, relief } = zone;
        let place =
            |expired: &Expired| Place::of(expired, relief.order, expired.directory().id, self.now);
        let at = place(&expired);
        if !lock(finder.finding).first.has_place(&at) {
            return;
        }
        if expired.metadata().kind != FileKind::Dir {
            let candidate = finder.candidate(&expired, number);
            return lock(finder.finding).first.offer(at, candidate);
        }
        let Some(expired) = self.walk(expired, &mut finder.in_the_way) else { return };
        if expired.is_early(relief.swept) {
            let candidate = finder.candidate(&expired, number);
            lock(finder.finding).first.offer(place(&expired), candidate);
        } else {
            finder.in_the_way.left += 1;
        }
    }

    /// Looks into a directory under its lock, and returns it with what is known then.
    fn walk(&self, expired: Expired, in_the_way: &mut InTheWay) -> Option<Expired> {
        let mut walked = None;
        let is_stopped = || self.limits.is_stopped();
        self.locks.claim(vec![expired], &is_stopped, &mut |claimed| match claimed
            .and_then(|claimed| self.inspector.inspect(claimed, self.now))
        {
            Ok(verified) if verified.freed().is_mostly_shared() => in_the_way.linked += 1,
            Ok(verified) => walked = Some(verified.release()),
            Err(rejected) => match rejected.why {
                Rejection::Skipped(Skipped::Used) => in_the_way.young += 1,
                Rejection::Skipped(why) => in_the_way.skipped_by[why as usize] += 1,
                Rejection::Failed(_) | Rejection::NotWritten(_) => in_the_way.failed += 1,
                Rejection::Unreached | Rejection::NoLock(_) => {}
            },
        });
        walked
    }

    /// The first of `entries`, judged again in their directories, which are opened for that: those of one zone
    /// that follow each other, `most` of them, and in no more directories than may be open.
    pub(super) fn reopened(
        &self,
        plan: &ReliefPlan<'_>,
        entries: &mut VecDeque<(Place, Candidate)>,
        candidates: &mut Candidates,
        most: usize,
    ) -> Vec<Expired> {
        let Some(zone) = entries.front().map(|(_, first)| first.zone) else { return Vec::new() };
        let mut group = Vec::new();
        candidates.open.retain(|(of, _)| *of == zone);
        while let Some((place, candidate)) = entries.front()
            && candidate.zone == zone
            && group.len() < most
        {
            if candidates.opened(place.directory()).is_none() && candidates.open.len() >= OPEN {
                candidates.open.clear();
                if !group.is_empty() {
                    break;
                }
            }
            group.extend(self.look_again(plan, place, candidate, candidates));
            entries.pop_front();
        }
        group
    }

    /// Looks at a candidate again. `None` if it is not as it was.
    fn look_again(
        &self,
        plan: &ReliefPlan<'_>,
        place: &Place,
        candidate: &Candidate,
        candidates: &mut Candidates,
    ) -> Option<Expired> {
        let ReliefZone { zone, swept, .. } = plan.zones.get(candidate.zone)?;
        let directory = if let Some(open) = candidates.opened(place.directory()) {
            Arc::clone(open)
        } else {
            let Ok(opened) = self.source.enter(zone, &candidate.dir) else {
                candidates.in_the_way.failed += 1;
                return None;
            };
            candidates.open.push((candidate.zone, Arc::clone(&opened)));
            opened
        };
        if directory.id != place.directory() || !plan.volume.holds(&directory) {
            return None;
        }
        let mut again = None;
        self.source.look(&directory, place.name(), &mut |found| {
            let Found::Entry(entry) = found else { return };
            let Metadata { id, mtime, .. } = entry.metadata;
            // An entry that was written since is no longer the oldest.
            if (id, mtime) == (candidate.id, candidate.mtime) {
                let (exclude, min_age) = (self.exclude, plan.min_age);
                again = evaluate_early(entry, exclude, min_age, *swept, self.now).ok();
            }
            candidates.in_the_way.young += u64::from(again.is_none());
        });
        again
    }
}

/// What the removal of an entry frees, as far as its own metadata says.
fn predicted(metadata: &Metadata) -> Amount {
    if metadata.kind == FileKind::Dir || metadata.has_other_names() {
        return Amount::default();
    }
    Amount { bytes: metadata.allocated.0, inodes: 1 }
}

fn count(in_the_way: &mut InTheWay, why: NotEarly) {
    match why {
        NotEarly::Young => in_the_way.young += 1,
        NotEarly::Left => in_the_way.left += 1,
        NotEarly::Kept(why) => in_the_way.kept_by[why as usize] += 1,
    }
}
