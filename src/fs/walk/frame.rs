//! One directory on the path of a walk.
//!
//! It must not open or read the directory itself.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::visit::Leaving;
use crate::rules::Metadata;

/// A directory on the way from the top of the tree to where the walk is.
pub(super) struct Frame {
    pub(super) metadata: Metadata,
    /// `None` while it is closed, deep in a tree.
    pub(super) handle: Option<Arc<OwnedFd>>,
    /// Subdirectories of the last buffer that are still to be walked.
    pub(super) subdirs: Vec<CString>,
    /// Where the next buffer begins.
    pub(super) cookie: u64,
    pub(super) at_end: bool,
    /// The visitor's progress when this reading of it began.
    pub(super) before: u64,
}

impl Frame {
    pub(super) fn new(metadata: Metadata, handle: Option<Arc<OwnedFd>>, progress: u64) -> Self {
        Self { metadata, handle, subdirs: Vec::new(), cookie: 0, at_end: false, before: progress }
    }

    /// The same directory, for a part of the walk that begins below it.
    pub(super) fn above(&self) -> Self {
        Self::new(self.metadata, self.handle.clone(), self.before)
    }

    pub(super) fn leaving<'a>(&'a self, handle: &'a OwnedFd) -> Leaving<'a> {
        let Self { metadata, before, .. } = self;
        Leaving { handle: handle.as_fd(), metadata, before: *before }
    }
}
