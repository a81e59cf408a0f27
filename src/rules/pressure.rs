//! When a file system is so full that entries are removed before they expire, and how many.
//!
//! This module must not ask how full it is: that is an argument. What is removed may be free later or never, because a
//! process holds it open or a snapshot has it. So it goes in steps: the first is small, and each next one only
//! follows when the space of the last has appeared.

use super::metadata::Bytes;
use super::share::Share;
use super::space::{Amount, Space};

/// The first step is this part of the space that is to be freed.
const FIRST_PART: u64 = 32;

/// No step aims at less: other processes write meanwhile, and what they write hides what little was freed.
pub const LEAST: Amount = Amount { bytes: 8 << 20, inodes: 64 };

/// When a file system is to be relieved, and how far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Above this share in use, of bytes or of inodes.
    pub mark: Option<Share>,
    /// Until no more than this share is in use.
    pub relieve: Option<Share>,
    /// When fewer bytes are available than this, and until as many are.
    pub keep_free: Option<Bytes>,
}

/// What a file system has too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// Bytes.
    pub bytes: bool,
    /// Inodes.
    pub inodes: bool,
}

/// Whether the space of the removed entries has appeared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arrival {
    /// Less than half of it.
    Little,
    /// At least half of it.
    Half,
    /// All, or nearly.
    Whole,
}

impl Pressure {
    /// What a file system is above the mark of.
    pub fn exceeded_by(&self, space: &Space) -> Exceeded {
        let Amount { bytes, inodes } = self.mark.map(|mark| above(mark, space)).unwrap_or_default();
        Exceeded { bytes: bytes > 0 || self.lacks(space) > 0, inodes: inodes > 0 }
    }

    /// Whether a file system is above the mark.
    pub fn is_exceeded_by(&self, space: &Space) -> bool {
        let Exceeded { bytes, inodes } = self.exceeded_by(space);
        bytes || inodes
    }

    /// How much is to be freed of bytes and inodes, if they were above their mark, until they are no longer above the
    /// low mark.
    pub fn excess(&self, space: &Space, of: Exceeded) -> Amount {
        let low = self.relieve.or(self.mark);
        let Amount { bytes, inodes } = low.map(|low| above(low, space)).unwrap_or_default();
        Amount {
            bytes: if of.bytes { bytes.max(self.lacks(space)) } else { 0 },
            inodes: if of.inodes { inodes } else { 0 },
        }
    }

    /// Whether more is to be kept free than a file system has. Nothing that is removed can reach that.
    pub fn is_too_much_for(&self, space: &Space) -> bool {
        self.keep_free.is_some_and(|free| free.0 >= space.usable())
    }

    /// How many bytes fewer are available than are to be kept free.
    fn lacks(&self, space: &Space) -> u64 {
        self.keep_free.map_or(0, |free| free.0.saturating_sub(space.bytes_available))
    }
}

/// How much more is in use than a share.
fn above(share: Share, space: &Space) -> Amount {
    Amount {
        bytes: space.bytes_used.saturating_sub(share.of(space.usable())),
        // Where there is no limit, there is no share of it.
        inodes: if space.inodes == 0 {
            0
        } else {
            space.inodes_used.saturating_sub(share.of(space.inodes))
        },
    }
}

/// How much the next step may free.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    most: Amount,
    is_single: bool,
}

impl Step {
    /// The first one, of those that free `excess`.
    pub fn first(excess: Amount) -> Self {
        let bytes = excess.bytes.div_ceil(FIRST_PART).max(LEAST.bytes);
        let inodes = excess.inodes.div_ceil(FIRST_PART).max(LEAST.inodes);
        Self { most: Amount { bytes, inodes }, is_single: false }
    }

    /// What this one may free, when `excess` is left.
    pub fn goal(&self, excess: Amount) -> Amount {
        if self.is_single {
            excess.min(Amount { bytes: 1, inodes: 1 })
        } else {
            excess.min(self.most)
        }
    }

    /// The next one. Some file systems make inodes from free space, so that what there can be of them grows
    /// with each removal: there an entry goes at a time, and none too many.
    #[must_use]
    pub fn after(self, before: &Space, now: &Space, excess: Amount) -> Self {
        let is_single = excess.inodes > 0 && before.inodes != now.inodes;
        Self { most: self.most.plus(self.most), is_single }
    }
}

/// Whether the space of what was removed has appeared, of the kinds that `needed` has.
pub fn arrival(before: &Space, now: &Space, freed: Amount, needed: Amount) -> Arrival {
    let of = |before: u64, now: u64, freed: u64| {
        let gained = u128::from(before.saturating_sub(now));
        let freed = u128::from(freed);
        if gained * 16 >= freed * 15 {
            Arrival::Whole
        } else if gained * 2 >= freed {
            Arrival::Half
        } else {
            Arrival::Little
        }
    };
    let mut least = Arrival::Whole;
    if needed.bytes > 0 {
        least = least.min(of(before.bytes_used, now.bytes_used, freed.bytes));
    }
    if needed.inodes > 0 {
        least = least.min(of(before.inodes_used, now.inodes_used, freed.inodes));
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Exceeded = Exceeded { bytes: true, inodes: true };

    fn space(bytes_used: u64, bytes_available: u64, inodes_used: u64) -> Space {
        Space { bytes: 1000, bytes_used, bytes_available, inodes: 100, inodes_used }
    }

    fn shares(mark: u16, relieve: u16) -> Pressure {
        let (mark, relieve) = (Some(Share::percent(mark)), Some(Share::percent(relieve)));
        Pressure { mark, relieve, keep_free: None }
    }

    #[test]
    fn a_mark_is_exceeded_by_more_than_it_and_relief_ends_at_the_low_mark() {
        let pressure = shares(85, 80);
        for (space, is_above, bytes, inodes) in [
            (space(850, 150, 85), false, 0, 0),
            (space(851, 149, 0), true, 51, 0),
            // Only what is above its mark is relieved.
            (space(851, 149, 85), true, 51, 0),
            (space(820, 180, 86), true, 0, 6),
            (space(0, 1000, 86), true, 0, 6),
            // What is reserved for root is not usable.
            (space(800, 100, 0), true, 80, 0),
            (space(1000, 0, 100), true, 200, 20),
        ] {
            assert_eq!(pressure.is_exceeded_by(&space), is_above, "{space:?}");
            let excess = pressure.excess(&space, pressure.exceeded_by(&space));
            assert_eq!(excess, Amount { bytes, inodes }, "{space:?}");
        }
        let unlimited = Space { inodes: 0, ..space(0, 1000, 50) };
        assert!(!pressure.is_exceeded_by(&unlimited));
        let without_low_mark = Pressure { relieve: None, ..pressure };
        assert_eq!(without_low_mark.excess(&space(851, 149, 0), ALL).bytes, 1);
    }

    #[test]
    fn bytes_are_kept_free_with_a_mark_or_without() {
        let alone = Pressure { keep_free: Some(Bytes(200)), ..Pressure::default() };
        assert!(!alone.is_exceeded_by(&space(800, 200, 100)));
        assert!(alone.is_exceeded_by(&space(801, 199, 0)));
        assert_eq!(alone.excess(&space(900, 100, 0), ALL), Amount { bytes: 100, inodes: 0 });
        let both = Pressure { keep_free: Some(Bytes(200)), ..shares(85, 84) };
        assert_eq!(both.excess(&space(900, 100, 0), ALL).bytes, 100, "the greater of both");
    }

    #[test]
    fn steps_begin_small_double_and_never_aim_beyond_what_is_left() {
        let gib = |gib: u64| Amount { bytes: gib << 30, inodes: 0 };
        let step = Step::first(gib(32));
        assert_eq!(step.goal(gib(32)), gib(1));
        let now = space(0, 0, 0);
        let step = step.after(&now, &now, gib(31));
        assert_eq!((step.goal(gib(31)), step.goal(gib(1))), (gib(2), gib(1)));
        assert_eq!(
            Step::first(Amount { bytes: 1000, inodes: 7 })
                .goal(Amount { bytes: 9, inodes: 7 })
                .bytes,
            9
        );
    }

    #[test]
    fn an_entry_goes_at_a_time_where_the_number_of_inodes_grows() {
        let needed = Amount { bytes: 0, inodes: 50 };
        let before = space(0, 0, 90);
        let step = Step::first(needed).after(&before, &Space { inodes: 200, ..before }, needed);
        assert_eq!(step.goal(needed), Amount { bytes: 0, inodes: 1 });
    }

    #[test]
    fn space_has_appeared_when_the_kind_that_is_needed_has() {
        let before = space(900, 100, 90);
        let freed = Amount { bytes: 100, inodes: 10 };
        let arrived =
            |used, inodes, needed| arrival(&before, &space(used, 0, inodes), freed, needed);
        let bytes = Amount { bytes: 1, inodes: 0 };
        let both = Amount { bytes: 1, inodes: 1 };
        assert_eq!(arrived(800, 90, bytes), Arrival::Whole);
        assert_eq!(arrived(850, 90, bytes), Arrival::Half);
        assert_eq!(arrived(851, 80, bytes), Arrival::Little);
        assert_eq!(arrived(950, 80, bytes), Arrival::Little, "another process wrote more");
        assert_eq!(arrived(800, 90, both), Arrival::Little);
        assert_eq!(arrived(800, 80, both), Arrival::Whole);
        let nothing = arrival(&before, &before, Amount::default(), both);
        assert_eq!(nothing, Arrival::Whole, "nothing was to appear");
    }
}
