//! The files of a tree that have several names, and how many of those are in the tree.
//!
//! It must not look at the file system. A removal of one name moves the ctime of the file, so that it tells of
//! no change. How many names there were does: one more than that was added since.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::protocol::Linked;
use crate::rules::FileId;

/// The names that an earlier look found, and which of them a walk through the tree is still to find.
#[derive(Debug)]
pub(super) struct LinkedNames(Vec<LinkedFile>);

#[derive(Debug)]
struct LinkedFile {
    id: FileId,
    names: u32,
    left: AtomicU32,
}

/// None at all.
pub(super) static NONE: LinkedNames = LinkedNames(Vec::new());

impl LinkedNames {
    /// The names in `found`, which has a file once for each of its names.
    pub(super) fn of(found: &[Linked]) -> Self {
        let mut ids: Vec<FileId> = found.iter().map(|linked| linked.id).collect();
        ids.sort_unstable();
        let mut files: Vec<LinkedFile> = Vec::new();
        for id in ids {
            match files.last_mut() {
                Some(last) if last.id == id => last.names += 1,
                _ => files.push(LinkedFile { id, names: 1, left: AtomicU32::default() }),
            }
        }
        let found = Self(files);
        found.begin();
        found
    }

    /// A walk through the tree begins.
    pub(super) fn begin(&self) {
        for file in &self.0 {
            file.left.store(file.names, Ordering::Relaxed);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Counts a name of this file as found again. Whether it can be one of those that were there.
    pub(super) fn take(&self, id: FileId) -> bool {
        self.0.binary_search_by_key(&id, |file| file.id).is_ok_and(|at| {
            let left = &self.0[at].left;
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Bytes;

    #[test]
    fn as_many_names_of_a_file_are_known_as_were_found() {
        let id = |ino| FileId { dev: 1, ino };
        let name = |ino| Linked { id: id(ino), links: 9, allocated: Bytes(0) };
        let names = LinkedNames::of(&[name(3), name(1), name(3)]);
        for _ in 0..2 {
            let known: Vec<bool> = [3, 2, 3, 3, 1, 1].map(|ino| names.take(id(ino))).into();
            assert_eq!(known, [true, false, true, false, true, false]);
            names.begin();
        }
        assert!(!names.is_empty() && NONE.is_empty());
    }
}
