//! What every part of a scan needs.
//!
//! This module must not know where names come from.

use std::ffi::CStr;
use std::path::Path;

use crate::control::Control;
use crate::protocol::{Directory, Failure, Found, Notes};
use crate::rules::Shard;

/// What a scan needs to know.
pub(super) struct ScanContext<'a, C> {
    pub(super) control: &'a C,
    pub(super) notes: &'a Notes,
    pub(super) shard: Option<Shard>,
}

impl<C> Clone for ScanContext<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for ScanContext<'_, C> {}

impl<C: Control> ScanContext<'_, C> {
    /// Whether the entry `name` in `dir`, relative to the data root, belongs to this shard.
    pub(super) fn owns(&self, dir: &Path, name: &CStr) -> bool {
        self.shard.is_none_or(|shard| shard.owns(dir, name))
    }

    /// Reports that a directory cannot be read. Every shard meets it and only one counts it, so that their
    /// reports add up to the report of a single sweeper.
    pub(super) fn report_failure(
        &self,
        directory: &Directory,
        name: Option<&CStr>,
        failure: Failure,
        each: &mut (impl FnMut(Found<'_>) + ?Sized),
    ) {
        if self.owns(&directory.dir, name.unwrap_or(c"")) {
            each(Found::Failed(directory, name, failure));
        } else {
            self.notes.add(
                &directory.zone.name,
                "not all directories could be read, and entries of this shard in them were left alone; \
                 the report of another shard names and counts these directories",
            );
        }
    }
}
