//! The relief of a file system: entries that have not expired are removed, one after the other, until it is no
//! longer too full.
//!
//! This module must not remove anything in a way of its own: the entries that it selects are claimed, looked at again
//! and removed like any other. It asks how full the file system is after each step, and ends when the space of the
//! removed entries is not free. At most one entry too many is removed: a step ends with the entry that frees the last
//! of what it is to free, by its size, and with an entry whose size is not known.

use std::collections::VecDeque;

use super::batch::Batch;
use super::candidates::{Candidate, Candidates};
use super::course::Course;
use super::relief_plan::{ReliefPlan, ReliefRun};
use super::zone_run::{ZoneRun, lock};
use super::{Pass, WhenLocked};
use crate::protocol::{
    Expired, InTheWay, Inspector, Locks, Observer, Relief, ReliefEnd, Source, Summary, Tally,
};
use crate::rules::pressure::Arrival;
use crate::rules::select::{Place, Select};
use crate::rules::{Amount, Bytes, Space};

/// How many entries are claimed together.
const TOGETHER: usize = 1024;

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
                ReliefRun { zone, run }
            })
            .collect();
        let (path, is_quota) = (plan.path.to_owned(), plan.volume.is_quota());
        let end = ReliefEnd::NotNeeded;
        let mut relief = Relief::new(path, is_quota, plan.pressure, plan.min_age, end);
        let settled = |space: &Space| {
            if plan.pressure.is_exceeded_by(space) { Arrival::Half } else { Arrival::Whole }
        };
        match plan.volume.space_after(plan.freed, &settled) {
            Err(error) => relief.end = unknown(&error),
            Ok(space) => {
                relief.now = plan.volume.now();
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
        let (zone, tally, no_lock) = run.run.into_parts();
        let Some(swept) = summary.zones.iter_mut().find(|swept| swept.zone == zone.name) else {
            return;
        };
        swept.tally.take_over(tally);
        swept.no_lock = swept.no_lock.take().or(no_lock);
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
        let mut candidates = Candidates::default();
        loop {
            let (found, end, mut in_the_way) = self.candidates(plan, runs, from.take());
            candidates.refill(found);
            while !candidates.is_empty() {
                match self.take_step(plan, runs, course, &mut candidates, observer) {
                    Ok(Some(end)) => return end,
                    Ok(None) => {}
                    Err(error) => return unknown(&error),
                }
            }
            match end {
                _ if self.limits.is_stopped() => return ReliefEnd::Stopped,
                Some(end) => from = Some(end),
                None => {
                    in_the_way.add(refused);
                    in_the_way.add(candidates.in_the_way);
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
        candidates: &mut Candidates,
        observer: &dyn Observer,
    ) -> std::io::Result<Option<ReliefEnd>> {
        course.begin_step(plan)?;
        let excess = course.excess(plan);
        let goal = course.step.goal(excess);
        let (mut amount, mut gone) = (Amount::default(), 0);
        while !candidates.is_empty() && !self.limits.is_stopped() {
            let entries = candidates.next(goal.minus(amount));
            let is_unsized = entries.last().is_some_and(|(_, last)| last.size.is_zero());
            let Tally { removed, freed, .. } =
                self.settle_early(plan, entries, candidates, runs, observer);
            gone += removed;
            course.freed += freed;
            let inodes = removed - u64::from(is_unsized && removed > 0);
            amount = amount.plus(Amount { bytes: freed.0, inodes });
            // How many inodes were in a directory, only the file system knows.
            if amount.covers(goal) || (is_unsized && goal.inodes > 0 && removed > 0) {
                break;
            }
        }
        self.disposer.release();
        course.removed += gone;
        if !amount.is_zero() || gone > 0 {
            match course.after(plan, amount, excess)? {
                end @ Some(_) if !self.limits.is_urgent() => return Ok(end),
                _ => {}
            }
        }
        Ok(self.limits.is_stopped().then_some(ReliefEnd::Stopped))
    }

    /// Takes entries to their end, in their order: those of a zone that follow each other are claimed together.
    fn settle_early(
        &self,
        plan: &ReliefPlan<'_>,
        entries: Vec<(Place, Candidate)>,
        candidates: &mut Candidates,
        runs: &mut [ReliefRun<'_>],
        observer: &dyn Observer,
    ) -> Tally {
        let mut sum = Tally::default();
        let together = TOGETHER.min(self.limits.batch_size());
        let mut entries: VecDeque<_> = entries.into();
        while let Some(run) = entries.front().and_then(|(_, first)| runs.get_mut(first.zone)) {
            let group: Vec<Expired> = self.reopened(plan, &mut entries, candidates, together);
            if lock(&run.run.no_lock).is_some() {
                continue;
            }
            let swept = run.zone.swept;
            let before = |entry: &Expired| plan.outcomes.before(entry, swept);
            let mut batch = Batch::new(&run.run.total, &run.run.turns, observer);
            batch.before = Some(&before);
            batch.tally.seen = group.len() as u64;
            self.settle_together(group, &run.run, &mut batch, WhenLocked::Skip);
            batch.unlocked();
            let Tally { removed, freed, .. } = batch.tally;
            sum.add(Tally { removed, freed, ..Tally::default() });
            batch.close();
        }
        sum
    }
}

fn unknown(error: &std::io::Error) -> ReliefEnd {
    ReliefEnd::Unknown(crate::units::error(error))
}

/// Entries that were to be removed and stayed.
fn stayed(runs: &[ReliefRun<'_>]) -> InTheWay {
    let mut all = InTheWay::default();
    for run in runs {
        let Tally { skipped_by, failed, .. } = *lock(&run.run.total);
        all.add(InTheWay { skipped_by, failed, ..InTheWay::default() });
    }
    all
}
