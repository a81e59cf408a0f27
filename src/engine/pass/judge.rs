//! The verdict of the rules on an entry, and what the user should know about it.
//!
//! This module must not decide anything: the rules do.

use crate::protocol::{Entry, Expired, Notes};
use crate::rules::verdict::evaluate;
use crate::rules::{Exclude, Kept, Moment};

/// Applies the rules, and notes a time that does not count.
pub(super) fn judge(
    entry: &Entry<'_>,
    exclude: &Exclude,
    now: Moment,
    notes: &Notes,
) -> Result<Expired, Kept> {
    let verdict = evaluate(entry, exclude, now);
    note_wrong_time(&verdict, entry, now, notes);
    verdict
}

/// Notes that a time of an entry does not count, if so. A verdict is large, and each entry has one: it is not moved.
#[inline]
pub(super) fn note_wrong_time(
    verdict: &Result<Expired, Kept>,
    entry: &Entry<'_>,
    now: Moment,
    notes: &Notes,
) {
    let rule = match verdict {
        Ok(expired) => Some(expired.rule()),
        Err(kept) => kept.rule,
    };
    let rule = rule.filter(|rule| rule.expiry.ttl().is_some());
    if rule.is_some_and(|rule| rule.last_use.ignores_a_time(&entry.metadata, now)) {
        notes.add(&entry.zone.name, Notes::WRONG_TIMES);
    }
}
