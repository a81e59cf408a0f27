//! The files of a tree that have several names, and how many of those are in the tree.
//!
//! This module must not look at the file system. Removing one name moves the ctime of the file, so the ctime shows no
//! other change. The number of names does: if there is one more than expected, it was added since.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::protocol::{Freed, Linked};
use crate::rules::FileId;

/// The names that an earlier look found, and which of them a walk through the tree is still to find.
#[derive(Debug)]
pub(super) struct LinkedNames(Vec<LinkedFile>);

/// One of them, in the order of their ids.
#[derive(Debug)]
struct LinkedFile {
    id: FileId,
    names: u64,
    left: AtomicU64,
}

/// None at all.
pub(super) static NONE: LinkedNames = LinkedNames(Vec::new());

impl LinkedNames {
    /// The names that an earlier look found.
    pub(super) fn of(freed: &Freed) -> Self {
        let of = |(file, names): (Linked, u64)| LinkedFile {
            id: file.id,
            names,
            left: AtomicU64::default(),
        };
        let found = Self(freed.files().map(of).collect());
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
        let linked = vec![name(3), name(1), name(3)];
        let names = LinkedNames::of(&Freed { linked, ..Freed::default() });
        for _ in 0..2 {
            let known: Vec<bool> = [3, 2, 3, 3, 1, 1].map(|ino| names.take(id(ino))).into();
            assert_eq!(known, [true, false, true, false, true, false]);
            names.begin();
        }
        assert!(!names.is_empty() && NONE.is_empty());
    }
}
