//! What was found in an entry.
//!
//! This module must not judge: it only adds up.

use std::collections::HashMap;

use crate::rules::{Bytes, FileId, Moment};

/// What was found in an entry.
#[derive(Default)]
pub(super) struct Sum {
    pub(super) files: u64,
    pub(super) allocated: Bytes,
    /// The part of it that is in files with several names that are not remembered: nobody knows where the others are.
    pub(super) shared: Bytes,
    /// The part of it that is in directories.
    pub(super) dirs: Bytes,
    pub(super) newest: Option<Moment>,
    /// Something in it keeps it: a use that is too new, a mount point, or something that cannot be looked at.
    pub(super) is_protected: bool,
    /// The files with several names that are remembered, and how many of their names are in it.
    pub(super) linked: HashMap<FileId, u32>,
    /// What its files hold, where their names say so and the entry holds several things.
    pub(super) contents: Vec<(&'static str, u64, Bytes)>,
}

impl Sum {
    /// Counts files by what they hold.
    pub(super) fn content(&mut self, content: &'static str, files: u64, allocated: Bytes) {
        match self.contents.iter_mut().find(|(known, ..)| *known == content) {
            Some((_, sum, bytes)) => {
                *sum += files;
                *bytes += allocated;
            }
            None => self.contents.push((content, files, allocated)),
        }
    }

    /// Names of a file that has several.
    pub(super) fn name_of(&mut self, id: FileId, names: u32) {
        let sum = self.linked.entry(id).or_default();
        *sum = sum.saturating_add(names);
    }

    /// What its removal certainly frees, besides files that are remembered.
    pub(super) const fn freed(&self) -> Bytes {
        Bytes(self.allocated.0.saturating_sub(self.shared.0))
    }

    /// Adds what another part of the walk has found in the same tree.
    pub(super) fn add(&mut self, other: Self) {
        self.files += other.files;
        self.allocated += other.allocated;
        self.shared += other.shared;
        self.dirs += other.dirs;
        self.newest = self.newest.max(other.newest);
        self.is_protected |= other.is_protected;
        for (id, names) in other.linked {
            self.name_of(id, names);
        }
        for (content, files, allocated) in other.contents {
            self.content(content, files, allocated);
        }
    }
}
