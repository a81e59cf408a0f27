//! A share of a whole, in percent.
//!
//! This module must not lose an entry by rounding: what a share allows is rounded down.

use std::fmt;

/// A share: a number of hundredths of a percent, from 0 to 10,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u16);

impl Share {
    /// From whole percent; more than 100 is 100.
    pub const fn percent(percent: u16) -> Self {
        Self(if percent > 100 { 10_000 } else { percent * 100 })
    }

    /// From hundredths of a percent; `None` for more than the whole.
    pub const fn from_hundredths(hundredths: u16) -> Option<Self> {
        if hundredths > 10_000 { None } else { Some(Self(hundredths)) }
    }

    /// This share of `whole`, rounded down.
    pub fn of(self, whole: u64) -> u64 {
        let part = u128::from(whole) * u128::from(self.0) / 10_000;
        u64::try_from(part).unwrap_or(whole)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 100, self.0 % 100);
        match rest {
            0 => write!(f, "{whole}%"),
            tenths if tenths % 10 == 0 => write!(f, "{whole}.{}%", tenths / 10),
            hundredths => write!(f, "{whole}.{hundredths:02}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_down() {
        let half = Share::percent(50);
        assert_eq!([0, 1, 2, 3, 4].map(|whole| half.of(whole)), [0, 0, 1, 1, 2]);
        assert_eq!(Share::percent(0).of(100), 0);
        assert_eq!(Share::percent(100).of(u64::MAX), u64::MAX);
        assert_eq!(Share::percent(200), Share::percent(100));
    }

    #[test]
    fn a_share_is_shown_with_the_decimals_that_it_has() {
        for (hundredths, text) in
            [(5000, "50%"), (9950, "99.5%"), (9905, "99.05%"), (10_000, "100%")]
        {
            assert_eq!(Share::from_hundredths(hundredths).unwrap().to_string(), text);
        }
        assert_eq!(Share::from_hundredths(10_001), None);
    }
}
