//! One directory on the path of a walk.
//!
//! This module must not read the directory itself.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{SeekFrom, seek};

use super::super::open::{self, Across};
use super::super::stat;
use super::visit::{EntryRef, Leaving};
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

/// The error of a directory that is not the one that was there before.
pub(super) fn another() -> io::Error {
    io::Error::other("another directory is there now")
}

impl Frame {
    pub(super) fn new(metadata: Metadata, handle: Option<Arc<OwnedFd>>, progress: u64) -> Self {
        Self { metadata, handle, subdirs: Vec::new(), cookie: 0, at_end: false, before: progress }
    }

    /// The same directory, for a part of the walk that begins below it.
    pub(super) fn above(&self) -> Self {
        Self::new(self.metadata, self.handle.clone(), self.before)
    }

    /// Begins to read it again; `at` is its own entry.
    ///
    /// # Errors
    /// What the system says, or that it is another directory by now.
    pub(super) fn restart(&mut self, at: &EntryRef<'_>, mount: u64) -> io::Result<()> {
        if let Some(handle) = &self.handle {
            seek(handle, SeekFrom::Start(0))?;
        } else {
            let handle = open::dir(at.dir, at.name, Across::SameMount)?.handle;
            if stat::handle(&handle, mount)?.id != self.metadata.id {
                return Err(another());
            }
            self.handle = Some(Arc::new(handle));
        }
        self.cookie = 0;
        self.at_end = false;
        Ok(())
    }

    pub(super) fn leaving(&self) -> Leaving<'_> {
        let Self { metadata, before, .. } = self;
        Leaving { metadata, before: *before }
    }
}
