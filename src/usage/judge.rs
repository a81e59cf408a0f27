//! Whether an entry has expired, and when it will, by the rule of its zone.
//!
//! This module must not make rules of its own: [`evaluate`] decides, as in a pass. Locks and open files are not asked
//! about, so a pass may skip some of what has expired.

use std::ffi::CStr;
use std::path::Path;

use super::model::HORIZONS_S;
use crate::rules::verdict::evaluate;
use crate::rules::{Age, Entry, Exclude, KeptReason, Metadata, Moment, Rule, Ttl, Zone};

/// What a verdict depends on besides the entry.
pub(super) struct Question<'a> {
    pub(super) zone: &'a Zone,
    pub(super) exclude: &'a Exclude,
    pub(super) now: Moment,
}

/// What the rules say about an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The time since its last use, if a rule asks for it.
    pub(super) age: Option<Age>,
    pub(super) is_expired: bool,
    /// Whether it expires within each of [`HORIZONS_S`], and has not yet.
    pub(super) expires_within: [bool; HORIZONS_S.len()],
}

impl Verdict {
    /// The same entry, if something in it keeps it. When it expires is still known from its age.
    pub(super) const fn protected(self) -> Self {
        Self { is_expired: false, ..self }
    }
}

impl Question<'_> {
    /// Judges the entry `name` in `dir`.
    pub(super) fn judge(&self, dir: &Path, name: &CStr, metadata: &Metadata) -> Verdict {
        let Self { zone, exclude, now } = *self;
        let entry = Entry { zone, directory: &(), dir, name, metadata: *metadata };
        match evaluate(&entry, exclude, now) {
            Ok(expired) => Verdict {
                age: Some(expired.age()),
                is_expired: true,
                expires_within: [false; HORIZONS_S.len()],
            },
            Err(kept) => {
                let rule = kept.rule.filter(|_| kept.why == KeptReason::Fresh);
                // What is excluded stays, whatever its age.
                let rule = rule.filter(|_| !exclude.covers(dir, name));
                let expires_within = rule.map(|rule| expires_within(rule, metadata, now));
                let expires_within = expires_within.unwrap_or_default();
                Verdict { age: kept.age, is_expired: false, expires_within }
            }
        }
    }
}

/// Whether a fresh entry will have expired after each of [`HORIZONS_S`], if it is not used until then.
fn expires_within(rule: Rule, metadata: &Metadata, now: Moment) -> [bool; HORIZONS_S.len()] {
    let used = rule.last_use.read(metadata, now);
    HORIZONS_S.map(|secs| rule.is_expired(used, now.plus(Ttl::from_secs(secs))))
}
