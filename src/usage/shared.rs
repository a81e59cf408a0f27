//! What all parts of a walk share: the rules, the files with several names, and the progress.
//!
//! This module must not count anything that only one part has seen.

use std::ffi::CStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::judge::{Question, Verdict};
use super::links::Links;
use super::places::Places;
use super::uploads::Uploads;
use crate::rules::{Exclude, Label, Labels, Metadata, Moment, Zone};

/// What all parts of a walk share.
pub(super) struct Shared<'a> {
    pub(super) places: Places<'a>,
    pub(super) zones: &'a [Arc<Zone>],
    pub(super) labels: &'a Labels,
    pub(super) exclude: &'a Exclude,
    pub(super) now: Moment,
    pub(super) mount: u64,
    /// The path of the top directory as rules know it: empty for the data root.
    pub(super) base: Arc<Path>,
    pub(super) links: Links,
    pub(super) uploads: Uploads,
    pub(super) progress: Progress<'a>,
}

impl Shared<'_> {
    /// What the name of an entry says.
    pub(super) fn label(&self, area: usize, above: &Path, name: &[u8]) -> Option<Label> {
        const DEEPEST: usize = 4;
        let mut steps: [&[u8]; DEEPEST] = [b""; DEEPEST];
        let mut count = 0;
        for (slot, step) in steps.iter_mut().zip(above) {
            *slot = step.as_bytes();
            count += 1;
        }
        (self.labels.entry)(self.zones[area].name.as_str(), &steps[..count], name)
    }

    /// What the rules say about an entry.
    pub(super) fn judge(
        &self,
        area: usize,
        dir: &Path,
        name: &CStr,
        metadata: &Metadata,
    ) -> Verdict {
        let Self { zones, exclude, now, .. } = *self;
        Question { zone: &zones[area], exclude, now }.judge(dir, name, metadata)
    }
}

/// How much was counted so far, and who is told.
#[derive(Clone, Copy)]
pub(super) struct Progress<'a> {
    pub(super) inodes: &'a AtomicU64,
    pub(super) bytes: &'a AtomicU64,
    pub(super) tell: &'a (dyn Fn(u64, u64) + Sync),
}

impl Progress<'_> {
    /// Counts more.
    pub(super) fn add(&self, inodes: u64, bytes: u64) {
        let inodes = self.inodes.fetch_add(inodes, Ordering::Relaxed) + inodes;
        (self.tell)(inodes, self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes);
    }
}
