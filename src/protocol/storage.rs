//! What must be known about the file system that a directory is on.
//!
//! This module must not ask the system: `source` fills it in.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::rules::FileSystem;

/// The file system of a directory, who can change the directory, and which names are being taken from it.
#[derive(Debug, Default)]
pub struct Storage {
    /// Who keeps its files.
    pub file_system: FileSystem,
    is_private: OnceLock<bool>,
    keeps_locks: OnceLock<bool>,
    begun: AtomicU64,
    ended: AtomicU64,
}

/// A name is being taken from a directory, or given to it, as long as this exists.
#[derive(Debug)]
pub struct Change<'a>(&'a Storage);

impl Storage {
    /// Of a directory on this file system, from which nothing was taken yet.
    pub fn on(file_system: FileSystem) -> Self {
        Self { file_system, ..Self::default() }
    }

    /// Whether no other user can change the directory, root aside; `ask` finds it out, once in a pass.
    pub fn is_private(&self, ask: impl FnOnce() -> bool) -> bool {
        *self.is_private.get_or_init(ask)
    }

    /// Whether its server has every lock on its files; `ask` finds it out, once in a pass.
    pub fn keeps_locks(&self, ask: impl FnOnce() -> bool) -> bool {
        *self.keeps_locks.get_or_init(ask)
    }

    /// Says that a name is being taken from the directory: a listing that is read meanwhile may shift.
    pub fn change(&self) -> Change<'_> {
        self.begun.fetch_add(1, Ordering::AcqRel);
        Change(self)
    }

    /// How many changes there were; `None` while there is one.
    pub fn changes(&self) -> Option<u64> {
        let ended = self.ended.load(Ordering::Acquire);
        (self.begun.load(Ordering::Acquire) == ended).then_some(ended)
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_while_it_lasts_and_afterwards() {
        let storage = Storage::on(FileSystem::Nfs);
        let before = storage.changes();
        let change = storage.change();
        assert_eq!((before, storage.changes()), (Some(0), None));
        drop(change);
        assert_eq!(storage.changes(), Some(1));
    }
}
