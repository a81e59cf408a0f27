//! What cannot be removed from a tree: a directory that holds something of it stays too.
//!
//! This module must not do I/O.

use crate::fs::PathError;
use crate::fs::walk::EntryRef;

/// What a walk from the leaves up could not remove.
#[derive(Default)]
pub(super) struct Kept {
    /// How many levels from the top hold something of it.
    levels: usize,
    first_failure: Option<PathError>,
}

impl Kept {
    /// This entry stays, and every directory above it.
    pub(super) fn keep(&mut self, at: &EntryRef<'_>, error: PathError) {
        self.levels = self.levels.max(at.depth());
        self.first_failure.get_or_insert(error);
    }

    /// Takes over what another part of the walk could not remove.
    pub(super) fn join(&mut self, other: Self) {
        self.levels = self.levels.max(other.levels);
        self.first_failure = self.first_failure.take().or(other.first_failure);
    }

    /// Whether the directory that is left now, at this level, holds something that stays.
    pub(super) fn is_in(&mut self, level: usize) -> bool {
        let is_in = level < self.levels;
        if is_in {
            self.levels = level;
        }
        is_in
    }

    /// The first thing that stays, and why.
    pub(super) fn take_first(&mut self) -> Option<PathError> {
        self.first_failure.take()
    }
}
