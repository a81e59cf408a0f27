//! The relief of a file system: entries that have not expired go, one after the other, until it is no longer too
//! full.
//!
//! It must not remove anything by a way of its own: what it selects is claimed, looked at again and removed like
//! all else. It asks how full the file system is after each step, and ends when what was removed is not free. An
//! entry too many goes at most: a step ends with the entry that frees the last of what it is to free, by its size,
//! and with an entry whose size is not known.

use std::collections::VecDeque;
use std::sync::Arc;

use super::batch::Batch;
use super::zone_run::{ZoneRun, lock};
use super::{Pass, WhenLocked};
use crate::protocol::{
    Expired, InTheWay, Inspector, Locks, Observer, Relief, ReliefEnd, Source, Summary, Tally,
    Volume,
};
use crate::rules::pressure::{Arrival, Exceeded, Step, arrival};
use crate::rules::select::{Most, Order, Place, Select};
use crate::rules::{Amount, Bytes, FileKind, MinAge, Moment, Pressure, Space, Zone};

/// How many entries are in memory at once. More are looked for when these are gone.
pub(super) const MOST: Most = Most { entries: 32 * 1024, directories: 64 };

/// How many entries are claimed together.
const TOGETHER: usize = 1024;

/// What to relieve, and how.
#[derive(Debug)]
pub struct ReliefPlan<'a> {
    /// The zones whose entries may go.
    pub zones: &'a [ReliefZone],
    /// When it is too full, and how far it is to be relieved.
    pub pressure: Pressure,
    /// No entry goes that is not older.
    pub min_age: MinAge,
    /// The file system.
    pub volume: &'a dyn Volume,
    /// A directory on it, for the report.
    pub path: &'a std::path::Path,
    /// The device number of that directory. What is in directories of another one is left alone.
    pub device: u64,
    /// What the pass has removed there before.
    pub freed: Amount,
}

/// A zone whose entries may go early.
#[derive(Debug, Clone)]
pub struct ReliefZone {
    /// The zone.
    pub zone: Arc<Zone>,
    /// Which of its entries goes first.
    pub order: Order,
    /// The moment that its pass has judged at.
    pub swept: Moment,
}

/// A zone while it is relieved.
pub(super) struct ReliefRun<'a> {
    pub(super) zone: &'a ReliefZone,
    pub(super) run: ZoneRun<'a>,
    /// How many of its entries the pass had skipped because of what is in them.
    pub(super) used: u64,
}

/// What is known while entries go.
struct Course {
    /// What there was too little of.
    of: Exceeded,
    /// What the system said last.
    space: Space,
    /// What has not appeared yet of what was removed, and certainly will.
    owed: Amount,
    step: Step,
    removed: u64,
    freed: Bytes,
}

impl Course {
    fn new(space: Space, plan: &ReliefPlan<'_>) -> Self {
        let of = plan.pressure.exceeded_by(&space);
        let step = Step::first(plan.pressure.excess(&space, of));
        Self { of, space, owed: Amount::default(), step, removed: 0, freed: Bytes(0) }
    }

    /// What is still to be freed.
    fn excess(&self, plan: &ReliefPlan<'_>) -> Amount {
        plan.pressure.excess(&self.space.without(self.owed), self.of)
    }

    /// A step has freed `amount`, when `needed` was to be freed. Why it was the last, if it was.
    fn after(
        &mut self,
        plan: &ReliefPlan<'_>,
        amount: Amount,
        needed: Amount,
    ) -> std::io::Result<Option<ReliefEnd>> {
        let before = self.space;
        let has_arrived = |now: &Space| arrival(&before, now, amount, needed);
        self.space = plan.volume.space_after(amount, &has_arrived)?;
        let arrived = has_arrived(&self.space);
        let missing = missing(&before, &self.space, amount, needed);
        self.owed = if arrived == Arrival::Whole { missing } else { Amount::default() };
        let mut left = self.excess(plan);
        self.step = self.step.after(&before, &self.space, left);
        if left.is_zero() && !self.owed.is_zero() {
            // Others may have written as much meanwhile.
            let of = self.of;
            let has_ended = |now: &Space| {
                if plan.pressure.excess(now, of).is_zero() { Arrival::Whole } else { Arrival::Half }
            };
            self.space = plan.volume.space_after(self.owed, &has_ended)?;
            self.owed = Amount::default();
            left = self.excess(plan);
        }
        Ok(match arrived {
            _ if left.is_zero() => Some(ReliefEnd::Relieved),
            Arrival::Little => Some(ReliefEnd::NotFreed(missing)),
            Arrival::Half | Arrival::Whole => None,
        })
    }
}

impl<S: Source, L: Locks, I: Inspector, Q: Select> Pass<'_, S, L, I, Q> {
    /// Relieves a file system after a pass over `plan.zones`, and adds what that did to the summary of the pass.
    pub fn relieve(
        &self,
        plan: &ReliefPlan<'_>,
        mut summary: Summary,
        observer: &dyn Observer,
    ) -> Summary {
        let mut runs: Vec<ReliefRun<'_>> = plan
            .zones
            .iter()
            .map(|zone| {
                let run = ZoneRun::new(&zone.zone, self.live.begin(&zone.zone.name));
                ReliefRun { zone, run, used: 0 }
            })
            .collect();
        let mut relief = Relief {
            path: plan.path.to_owned(),
            pressure: plan.pressure,
            min_age: plan.min_age,
            before: None,
            after: None,
            removed: 0,
            freed: Bytes(0),
            end: ReliefEnd::NotNeeded,
        };
        let settled = |space: &Space| {
            if plan.pressure.is_exceeded_by(space) { Arrival::Half } else { Arrival::Whole }
        };
        match plan.volume.space_after(plan.freed, &settled) {
            Err(error) => relief.end = unknown(&error),
            Ok(space) => {
                (relief.before, relief.after) = (Some(space), Some(space));
                if plan.pressure.is_too_much_for(&space) {
                    relief.end = ReliefEnd::TooMuch(Bytes(space.usable()));
                } else if plan.pressure.is_exceeded_by(&space) {
                    let mut course = Course::new(space, plan);
                    relief.end = self.remove_early(plan, &mut runs, &mut course, observer);
                    relief.after = Some(course.space);
                    (relief.removed, relief.freed) = (course.removed, course.freed);
                }
            }
        }
        for run in runs {
            self.take_over(run, &mut summary);
        }
        summary.relief.push(relief);
        summary.stopped = self.limits.reason();
        summary
    }

    /// Adds what happened in a zone to what the pass did there.
    fn take_over(&self, run: ReliefRun<'_>, summary: &mut Summary) {
        let used = run.used;
        let (zone, tally, no_lock) = run.run.into_parts();
        assert!(tally.is_conserved(), "an entry of {} has no outcome: {tally:?}", zone.name);
        let Some(swept) = summary.zones.iter_mut().find(|swept| swept.zone == zone.name) else {
            return;
        };
        swept.tally.take_over(tally, used);
        swept.no_lock = swept.no_lock.take().or(no_lock);
        assert!(swept.tally.is_conserved(), "an entry of {} has two outcomes", zone.name);
        for note in self.notes.of(&zone.name) {
            if !swept.notes.contains(&note) {
                swept.notes.push(note);
            }
        }
    }

    /// Removes entries until the low mark is met, or there is a reason to end.
    fn remove_early(
        &self,
        plan: &ReliefPlan<'_>,
        runs: &mut [ReliefRun<'_>],
        course: &mut Course,
        observer: &dyn Observer,
    ) -> ReliefEnd {
        let mut refused = InTheWay::default();
        for run in runs.iter() {
            if let Err(why) = self.locks.ready(run.run.zone) {
                refused.zones.push((run.run.zone.name.clone(), why.clone()));
                *lock(&run.run.no_lock) = Some(why);
            }
        }
        let mut from: Option<Place> = None;
        loop {
            let (candidates, end, mut in_the_way) = self.candidates(plan, runs, from.take());
            let mut candidates: VecDeque<Expired> = candidates.into();
            while !candidates.is_empty() {
                if let Some(end) = self.take_step(plan, runs, course, &mut candidates, observer) {
                    return end;
                }
            }
            match end {
                _ if self.limits.is_stopped() => return ReliefEnd::Stopped,
                Some(end) => from = Some(end),
                None => {
                    in_the_way.add(refused);
                    in_the_way.add(stayed(runs));
                    return ReliefEnd::NothingLeft(in_the_way);
                }
            }
        }
    }

    /// Takes one step. Why it was the last, if it was.
    fn take_step(
        &self,
        plan: &ReliefPlan<'_>,
        runs: &mut [ReliefRun<'_>],
        course: &mut Course,
        candidates: &mut VecDeque<Expired>,
        observer: &dyn Observer,
    ) -> Option<ReliefEnd> {
        let excess = course.excess(plan);
        let entries = next(candidates, course.step.goal(excess));
        let is_shared = entries.last().is_some_and(|last| predicted(last).is_zero());
        let Tally { removed, freed, .. } = self.settle_early(entries, runs, observer);
        course.removed += removed;
        course.freed += freed;
        self.disposer.release();
        let is_open = is_shared && removed > 0;
        let amount = Amount { bytes: freed.0, inodes: removed - u64::from(is_open) };
        if removed > 0 || freed > Bytes(0) {
            match course.after(plan, amount, excess) {
                Err(error) => return Some(unknown(&error)),
                Ok(end @ Some(_)) if !self.limits.is_urgent() => return end,
                Ok(_) => {}
            }
        }
        self.limits.is_stopped().then_some(ReliefEnd::Stopped)
    }

    /// Takes entries to their end, in their order: those of a zone that follow each other are claimed together.
    fn settle_early(
        &self,
        mut entries: Vec<Expired>,
        runs: &mut [ReliefRun<'_>],
        observer: &dyn Observer,
    ) -> Tally {
        let mut sum = Tally::default();
        let together = TOGETHER.min(self.limits.batch_size());
        while let Some(first) = entries.first() {
            let zone = first.directory().zone.name.clone();
            let is_other = |entry: &Expired| entry.directory().zone.name != zone;
            let count = entries.iter().position(is_other).unwrap_or(entries.len()).min(together);
            let rest = entries.split_off(count);
            let group = std::mem::replace(&mut entries, rest);
            let Some(run) = runs.iter_mut().find(|run| run.zone.zone.name == zone) else {
                continue;
            };
            if lock(&run.run.no_lock).is_some() {
                continue;
            }
            let swept = run.zone.swept;
            let is_used = |entry: &&Expired| entry.is_kept_by_its_content(swept);
            let used = group.iter().filter(is_used).count() as u64;
            let mut batch = Batch::new(&run.run.total, observer);
            batch.tally.seen = group.len() as u64;
            self.settle_together(group, &run.run, &mut batch, WhenLocked::Skip);
            batch.unlocked();
            run.used += used.min(batch.tally.reported());
            let Tally { removed, freed, .. } = batch.tally;
            sum.add(Tally { removed, freed, ..Tally::default() });
            batch.close();
        }
        sum
    }
}

/// The entries of the next step. It ends with one whose size is not known.
fn next(candidates: &mut VecDeque<Expired>, goal: Amount) -> Vec<Expired> {
    let (mut entries, mut sum) = (Vec::new(), Amount::default());
    while let Some(entry) = candidates.pop_front() {
        let size = predicted(&entry);
        sum = sum.plus(size);
        entries.push(entry);
        if size.is_zero() || sum.covers(goal) {
            break;
        }
    }
    entries
}

/// What the removal of an entry frees, as far as its own metadata says: nothing of what is in a directory, and
/// nothing while a file has another name.
fn predicted(entry: &Expired) -> Amount {
    let metadata = entry.metadata();
    if metadata.kind == FileKind::Dir || metadata.links > 1 {
        return Amount::default();
    }
    Amount { bytes: metadata.allocated.0, inodes: 1 }
}

/// What has not appeared of `freed`, of the kinds that are needed.
fn missing(before: &Space, now: &Space, freed: Amount, needed: Amount) -> Amount {
    let of = |before: u64, now: u64, freed: u64, needed: u64| {
        if needed == 0 { 0 } else { freed.saturating_sub(before.saturating_sub(now)) }
    };
    Amount {
        bytes: of(before.bytes_used, now.bytes_used, freed.bytes, needed.bytes),
        inodes: of(before.inodes_used, now.inodes_used, freed.inodes, needed.inodes),
    }
}

fn unknown(error: &std::io::Error) -> ReliefEnd {
    ReliefEnd::Unknown(crate::units::error(error))
}

/// What was to go and stayed.
fn stayed(runs: &[ReliefRun<'_>]) -> InTheWay {
    let mut all = InTheWay::default();
    for run in runs {
        let Tally { skipped_by, failed, .. } = *lock(&run.run.total);
        all.add(InTheWay { skipped_by, failed, ..InTheWay::default() });
    }
    all
}
