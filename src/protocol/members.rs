//! Kernel leases on the files of a tree, held from the look into the tree until its removal.
//!
//! This module must not take a lease itself. While one is held, another process that opens the file breaks it, and
//! the holder can see that; so a file that was free when the tree was looked at needs no second open before
//! it is removed. Each takes a descriptor, so all trees together hold a bounded number. Files beyond that
//! are probed again.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::rules::FileId;

/// How many more may be held.
static LEFT: AtomicUsize = AtomicUsize::new(256);

/// Leases on files, each held through a handle.
#[derive(Debug, Default)]
pub struct MemberLeases {
    files: Vec<(FileId, OwnedFd)>,
    is_sorted: bool,
    /// Some file of the tree is not among them.
    is_partial: bool,
}

impl MemberLeases {
    /// Of a tree in which no file is under a lease.
    pub const fn of_none() -> Self {
        Self { files: Vec::new(), is_sorted: true, is_partial: true }
    }

    /// Sets how many may be held at the same time by this process. To be called before the first pass.
    pub fn set_limit(limit: usize) {
        LEFT.store(limit, Ordering::Relaxed);
    }

    /// Adds a file that a lease is held on, unless too many are held already. The thread that has taken the lease must
    /// live at least as long as these: the kernel tells nobody else when another process breaks it.
    pub fn push(&mut self, id: FileId, handle: OwnedFd) {
        let left =
            LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left.is_ok() {
            self.files.push((id, handle));
            self.is_sorted = false;
        } else {
            self.is_partial = true;
        }
    }

    /// Says that no lease is held on some file of the tree.
    pub const fn leave_out(&mut self) {
        self.is_partial = true;
    }

    /// Whether a lease is held on every file of the tree.
    pub const fn is_complete(&self) -> bool {
        !self.is_partial
    }

    /// The handles of all files.
    pub fn handles(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.files.iter().map(|(_, handle)| handle.as_fd())
    }

    /// Adds those of another part of the tree.
    pub fn append(&mut self, mut other: Self) {
        self.files.append(&mut other.files);
        self.is_sorted = false;
        self.is_partial |= other.is_partial;
    }

    /// Prepares them for [`Self::get`].
    pub fn sort(&mut self) {
        self.files.sort_unstable_by_key(|(id, _)| *id);
        self.is_sorted = true;
    }

    /// The handle of a file, if a lease on it is held.
    pub fn get(&self, id: FileId) -> Option<BorrowedFd<'_>> {
        debug_assert!(self.is_sorted || self.files.is_empty());
        let at = self.files.binary_search_by_key(&id, |(id, _)| *id);
        at.ok().map(|at| self.files[at].1.as_fd())
    }
}

impl Drop for MemberLeases {
    fn drop(&mut self) {
        LEFT.fetch_add(self.files.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_file_is_found_by_its_identity() {
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let mut leases = MemberLeases::default();
        for ino in [5, 1, 3] {
            leases.push(FileId { dev: 1, ino }, null());
        }
        leases.sort();
        assert!(leases.get(FileId { dev: 1, ino: 3 }).is_some());
        assert!(leases.get(FileId { dev: 2, ino: 3 }).is_none());
    }
}
