//! The course of a relief: how much is still to be freed, and whether what was removed is free.
//!
//! This module must not remove anything. Other processes write meanwhile, and a small entry frees less than they write.
//! So what was removed is compared with what is free over a whole step, not over an entry, and a small step may fail a
//! few times.

use std::cell::Cell;
use std::io;

use super::relief_plan::ReliefPlan;
use crate::protocol::ReliefEnd;
use crate::rules::pressure::{Arrival, Exceeded, LEAST, Step, arrival};
use crate::rules::{Amount, Bytes, Space};

/// After so many small steps in a row whose space has not appeared, the relief ends. What other processes write
/// can hide what one of them has freed, but hardly all.
const SMALL_STEPS: u32 = 3;

/// The state of a relief while entries are removed.
pub(super) struct Course {
    /// What there was too little of.
    of: Exceeded,
    /// What the system said last.
    pub(super) space: Space,
    /// Space of removed entries that has not appeared yet, and certainly will.
    owed: Amount,
    pub(super) step: Step,
    /// How many small steps in a row have freed nothing that appeared.
    misses: u32,
    pub(super) removed: u64,
    pub(super) freed: Bytes,
}

impl Course {
    pub(super) fn new(space: Space, plan: &ReliefPlan<'_>) -> Self {
        let of = plan.pressure.exceeded_by(&space);
        let step = Step::first(plan.pressure.excess(&space, of));
        let (owed, freed) = (Amount::default(), Bytes(0));
        Self { of, space, owed, step, misses: 0, removed: 0, freed }
    }

    /// Asks how full it is, immediately before a step: finding what may be removed takes time, and others write
    /// meanwhile.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn begin_step(&mut self, plan: &ReliefPlan<'_>) -> io::Result<()> {
        if self.owed.is_zero() {
            self.space = plan.volume.space()?;
        }
        Ok(())
    }

    /// What is still to be freed.
    pub(super) fn excess(&self, plan: &ReliefPlan<'_>) -> Amount {
        plan.pressure.excess(&self.space.without(self.owed), self.of)
    }

    /// A step has freed `amount`, when `needed` was to be freed. Why it was the last, if it was.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn after(
        &mut self,
        plan: &ReliefPlan<'_>,
        amount: Amount,
        needed: Amount,
    ) -> io::Result<Option<ReliefEnd>> {
        let (before, of) = (self.space, self.of);
        // Space that was free once was freed, even if others have filled it by now: they had the whole wait for that.
        let most = Cell::new(Arrival::Little);
        let has_arrived = |now: &Space| {
            let is_met = plan.pressure.excess(now, of).is_zero();
            let arrived =
                if is_met { Arrival::Whole } else { arrival(&before, now, amount, needed) };
            most.set(most.get().max(arrived));
            most.get()
        };
        self.space = plan.volume.space_after(amount, &has_arrived)?;
        let arrived = has_arrived(&self.space);
        let missing = missing(&before, &self.space, amount, needed);
        self.owed = if arrived == Arrival::Whole { missing } else { Amount::default() };
        let mut left = self.excess(plan);
        self.step = self.step.after(&before, &self.space, left);
        if left.is_zero() && !self.owed.is_zero() {
            // Others may have written as much meanwhile.
            let has_ended = |now: &Space| {
                if plan.pressure.excess(now, of).is_zero() { Arrival::Whole } else { Arrival::Half }
            };
            self.space = plan.volume.space_after(self.owed, &has_ended)?;
            self.owed = Amount::default();
            left = self.excess(plan);
        }
        self.misses = if arrived == Arrival::Little { self.misses + 1 } else { 0 };
        let is_small = amount.bytes < LEAST.bytes && amount.inodes < LEAST.inodes;
        Ok(match arrived {
            _ if left.is_zero() => Some(ReliefEnd::Relieved),
            Arrival::Little if is_small && self.misses < SMALL_STEPS => None,
            Arrival::Little => Some(ReliefEnd::NotFreed(missing)),
            Arrival::Half | Arrival::Whole => None,
        })
    }
}

/// The part of `freed` that has not appeared, of the kinds that are needed.
fn missing(before: &Space, now: &Space, freed: Amount, needed: Amount) -> Amount {
    let of = |before: u64, now: u64, freed: u64, needed: u64| {
        if needed == 0 { 0 } else { freed.saturating_sub(before.saturating_sub(now)) }
    };
    Amount {
        bytes: of(before.bytes_used, now.bytes_used, freed.bytes, needed.bytes),
        inodes: of(before.inodes_used, now.inodes_used, freed.inodes, needed.inodes),
    }
}
