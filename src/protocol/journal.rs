//! What is written down before an entry is removed.
//!
//! This module must not remove anything. The disposer asks for the line, and removes an entry only after the line is
//! on disk.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use super::{Expired, Failure};
use crate::rules::{Bytes, Metadata, Moment, Rule, ZoneName};

/// An entry that is about to be removed.
#[derive(Debug)]
pub struct Intent<'a> {
    /// The zone.
    pub zone: &'a ZoneName,
    /// The path, as people see it.
    pub path: PathBuf,
    /// What the last look has seen.
    pub metadata: &'a Metadata,
    /// The rule that it has outlived.
    pub rule: Rule,
    /// The space of everything in it.
    pub size: Bytes,
    /// The moment that it was judged at.
    pub now: Moment,
}

impl<'a> Intent<'a> {
    /// To remove this entry, which was judged at `now` and whose content takes up `size`.
    pub fn new(expired: &'a Expired, size: Bytes, now: Moment) -> Self {
        let directory = expired.directory();
        Self {
            zone: &directory.zone.name,
            path: directory.path_of(expired.name()),
            metadata: expired.metadata(),
            rule: expired.rule(),
            size,
            now,
        }
    }
}

/// Where removals are written down before they are made.
pub trait Journal: Sync + Debug {
    /// Writes a line for each entry, and returns when all of them are on disk.
    ///
    /// # Errors
    /// They may not be: none of these entries may be removed.
    fn write(&self, intents: &[Intent<'_>]) -> Result<(), Failure>;

    /// Writes that an entry stays after all, although there is a line for it.
    fn withdraw(&self, zone: &ZoneName, path: &Path, reason: &str);
}
