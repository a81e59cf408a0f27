//! Moments, ages and times to live, with saturating arithmetic.
//!
//! This module must not read a clock: each [`Moment`] is an argument. All three types count nanoseconds in an
//! `i64`, which covers 292 years in each direction. Values outside are clamped so that an entry is kept
//! when in doubt: a file from the year 2500 lies in the future, and no age exceeds an infinite [`Ttl`].

use std::num::NonZeroU32;
use std::time::Duration;

const NANOS_PER_SEC: i64 = 1_000_000_000;

/// The clock of a server may differ from ours by this many seconds before there is a note.
pub const CLOCK_NOTED: u64 = 60;

/// With a difference of this many seconds ages mean nothing.
pub const CLOCK_REFUSED: u64 = 3600;

/// A point in time: nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(i64);

impl Moment {
    /// No moment is later.
    pub const LAST: Self = Self(i64::MAX);

    /// From seconds and nanoseconds since the Unix epoch, as file systems give them.
    pub const fn from_unix(secs: i64, nanos: u32) -> Self {
        Self(secs.saturating_mul(NANOS_PER_SEC).saturating_add(nanos as i64))
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn unix_secs(self) -> i64 {
        self.0.div_euclid(NANOS_PER_SEC)
    }

    /// The nanoseconds past [`Self::unix_secs`].
    #[expect(clippy::cast_possible_truncation, reason = "0 to 999,999,999")]
    pub const fn subsec_nanos(self) -> u32 {
        self.0.rem_euclid(NANOS_PER_SEC) as u32
    }

    /// The age at `now` of an entry last used at this moment; negative when it lies in the future.
    pub const fn age_at(self, now: Self) -> Age {
        Age(now.0.saturating_sub(self.0))
    }

    /// The last moment at which an entry last used at this one is still fresh.
    #[must_use]
    pub const fn plus(self, ttl: Ttl) -> Self {
        Self(self.0.saturating_add(ttl.0))
    }

    /// The moment `ttl` before this one.
    #[must_use]
    pub const fn minus(self, ttl: Ttl) -> Self {
        Self(self.0.saturating_sub(ttl.0))
    }
}

/// The time since the last use; negative when that lies in the future.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age(i64);

impl Age {
    /// Whole seconds, rounded towards zero.
    pub const fn as_secs(self) -> i64 {
        self.0 / NANOS_PER_SEC
    }
}

/// How long an entry may stay unused before it expires. Never negative, so an entry that was used at
/// `now` or later is fresh under every rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ttl(i64);

impl Ttl {
    /// A time to live of whole seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self::from_duration(Duration::from_secs(secs))
    }

    /// A time to live from a duration; more than 292 years is infinite.
    #[expect(clippy::cast_possible_truncation, reason = "compared with i64::MAX first")]
    pub const fn from_duration(duration: Duration) -> Self {
        let nanos = duration.as_nanos();
        Self(if nanos > i64::MAX as u128 { i64::MAX } else { nanos as i64 })
    }

    /// As a duration.
    pub const fn as_duration(self) -> Duration {
        Duration::from_nanos(self.0.unsigned_abs())
    }

    /// Whole seconds.
    pub const fn as_secs(self) -> i64 {
        self.0 / NANOS_PER_SEC
    }

    /// Whether an entry of this `age` has expired. An equal age has not: CVAT deletes only when
    /// `now > mtime + ttl` (CVAT v2.73.0, export cache cleanup).
    pub const fn is_exceeded_by(self, age: Age) -> bool {
        self.0 < age.0
    }
}

/// How old an entry must be to be removed before it expires: whole seconds, in few bytes, since each entry carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinAge(NonZeroU32);

impl MinAge {
    /// From a duration: a part of a second counts as a whole one, and more than 136 years as those.
    pub fn from_duration(duration: Duration) -> Self {
        let secs = duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0));
        let secs = u32::try_from(secs).unwrap_or(u32::MAX);
        Self(NonZeroU32::MIN.saturating_add(secs))
    }

    /// As the time to live that an entry has under pressure.
    pub const fn ttl(self) -> Ttl {
        Ttl::from_secs(self.0.get() as u64 - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::from_unix(1_767_323_045, 500);

    fn age(secs: i64) -> Age {
        Moment::from_unix(1_767_323_045 - secs, 500).age_at(NOW)
    }

    #[test]
    fn an_age_equal_to_the_ttl_is_fresh_and_one_nanosecond_more_is_not() {
        let ttl = Ttl::from_secs(10);
        for (age, expired) in
            [(age(-1), false), (age(0), false), (age(9), false), (age(10), false), (age(11), true)]
        {
            assert_eq!(ttl.is_exceeded_by(age), expired, "{age:?}");
        }
        let a_nanosecond_past = Moment::from_unix(1_767_323_035, 499).age_at(NOW);
        assert!(ttl.is_exceeded_by(a_nanosecond_past));
    }

    #[test]
    fn a_ttl_of_zero_still_keeps_what_was_used_now_or_later() {
        let none = Ttl::from_secs(0);
        assert!(!none.is_exceeded_by(age(0)));
        assert!(!none.is_exceeded_by(age(-3600)));
        assert!(none.is_exceeded_by(age(1)));
    }

    #[test]
    fn the_ends_of_time_are_clamped_towards_keeping() {
        let forever = Ttl::from_secs(u64::MAX);
        let oldest = Moment::from_unix(i64::MIN, 0);
        let newest = Moment::from_unix(i64::MAX, 999_999_999);
        assert!(!forever.is_exceeded_by(oldest.age_at(newest)));
        assert!(!Ttl::from_secs(0).is_exceeded_by(newest.age_at(NOW)));
        assert!(Ttl::from_secs(86_400).is_exceeded_by(oldest.age_at(NOW)));
        assert_eq!(newest.plus(forever), newest);
    }

    #[test]
    fn a_least_age_is_rounded_up_and_never_wraps() {
        for (duration, secs) in [
            (Duration::ZERO, 0),
            (Duration::from_nanos(1), 1),
            (Duration::from_secs(3600), 3600),
            (Duration::MAX, i64::from(u32::MAX) - 1),
        ] {
            assert_eq!(MinAge::from_duration(duration).ttl().as_secs(), secs);
        }
    }

    #[test]
    fn a_moment_splits_into_whole_seconds_and_the_rest_on_both_sides_of_the_epoch() {
        for (secs, nanos) in [(0, 0), (1, 999_999_999), (-1, 1), (-86_400, 500)] {
            let moment = Moment::from_unix(secs, nanos);
            assert_eq!((moment.unix_secs(), moment.subsec_nanos()), (secs, nanos));
        }
    }
}
