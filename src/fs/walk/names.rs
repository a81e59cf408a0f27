//! The names that one buffer of a directory listing holds.
//!
//! This module must not do I/O.

use std::ffi::CStr;

/// As many names as a small directory has.
const ROOM: usize = 32;

/// Each name begins at a multiple of this, because a NUL is searched for in words.
const WORD: usize = size_of::<usize>();

/// Names in one directory, one after the other, each with its NUL.
#[derive(Debug, Default)]
pub(super) struct Names {
    bytes: Vec<u8>,
    /// Where each begins, and the inode number if the listing says that it is a regular file.
    starts: Vec<(usize, Option<u64>)>,
}

impl Names {
    /// Removes all, and makes room for as many as a small directory has.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.reserve(ROOM * 32);
        self.starts.clear();
        self.starts.reserve(ROOM);
    }

    pub(super) const fn count(&self) -> usize {
        self.starts.len()
    }

    pub(super) fn push(&mut self, name: &CStr, file: Option<u64>) {
        self.starts.push((self.bytes.len(), file));
        self.bytes.extend_from_slice(name.to_bytes_with_nul());
        let end = self.bytes.len().next_multiple_of(WORD);
        self.bytes.extend_from_slice(&[0; WORD]);
        self.bytes.truncate(end);
    }

    pub(super) fn get(&self, at: usize) -> Option<&CStr> {
        CStr::from_bytes_until_nul(&self.bytes[self.starts[at].0..]).ok()
    }

    /// The inode number, if the listing says that it is a regular file. It may be something else by now.
    pub(super) fn file(&self, at: usize) -> Option<u64> {
        self.starts[at].1
    }
}
