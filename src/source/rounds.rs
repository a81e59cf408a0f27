//! Reads a listing again when names were taken from the directory meanwhile.
//!
//! This module must not hand out a name twice. A local file system lists every name that stays, whatever is removed
//! during the listing. Some servers, and some file systems of FUSE, count positions instead: when a name is
//! removed, those behind it move up, and as many are left out. So a directory there is listed until nothing
//! was taken from it during a listing. The names that were handed out are remembered by their hashes.

use std::collections::HashSet;
use std::ffi::CStr;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::protocol::Storage;

/// How many names are remembered: they take up to 64 MB. A larger directory is listed once.
const MOST: usize = 4_000_000;

/// The listings of one directory.
#[derive(Debug)]
pub(super) struct Rounds {
    /// `None` where one listing is enough.
    served: Option<Served>,
}

#[derive(Debug)]
struct Served {
    hasher: RandomState,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    seen: HashSet<u64>,
    /// How often something was taken from the directory before this listing; `None` if that was going on.
    changes: Option<u64>,
}

/// What to do at the end of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AtEnd {
    /// It is complete.
    Done,
    /// It is read from the start again.
    Again,
    /// It may lack some names, and is too long to be read again.
    TooLong,
}

impl Rounds {
    pub(super) fn on(storage: &Storage) -> Self {
        let served = storage.file_system.is_served().then(|| Served {
            hasher: RandomState::new(),
            state: Mutex::new(State { seen: HashSet::new(), changes: storage.changes() }),
        });
        Self { served }
    }

    /// Whether one listing may not be enough.
    pub(super) const fn may_repeat(&self) -> bool {
        self.served.is_some()
    }

    /// Whether this name was not handed out before.
    pub(super) fn is_new(&self, name: &CStr) -> bool {
        self.served.as_ref().is_none_or(|served| served.is_new(name))
    }

    /// Whether the listing that has just ended is complete.
    pub(super) fn at_end(&self, storage: &Storage) -> AtEnd {
        let Some(served) = &self.served else { return AtEnd::Done };
        let mut state = served.state();
        let changes = storage.changes();
        if changes.is_some() && state.changes == changes {
            return AtEnd::Done;
        }
        state.changes = changes;
        if state.seen.len() >= MOST { AtEnd::TooLong } else { AtEnd::Again }
    }
}

/// The error of a listing that may lack some names.
pub(super) fn too_long() -> io::Error {
    io::Error::other("too many names to list again after removals: run sweeper again")
}

impl Served {
    #[inline(never)]
    fn is_new(&self, name: &CStr) -> bool {
        let hash = self.hasher.hash_one(name);
        let mut state = self.state();
        state.seen.len() >= MOST || state.seen.insert(hash)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Storage;
    use crate::rules::FileSystem;

    #[test]
    fn a_listing_is_read_again_until_nothing_changed_during_one_and_hands_out_each_name_once() {
        let storage = Storage::on(FileSystem::Smb);
        let rounds = Rounds::on(&storage);
        assert!(rounds.is_new(c"a") && rounds.is_new(c"b") && !rounds.is_new(c"a"));
        drop(storage.change());
        assert_eq!(rounds.at_end(&storage), AtEnd::Again);
        assert!(!rounds.is_new(c"b") && rounds.is_new(c"c"));
        // One that goes on at the end may shift the next listing, too.
        let change = storage.change();
        assert_eq!(rounds.at_end(&storage), AtEnd::Again);
        assert_eq!(rounds.at_end(&storage), AtEnd::Again);
        drop(change);
        assert_eq!(rounds.at_end(&storage), AtEnd::Again);
        assert_eq!(rounds.at_end(&storage), AtEnd::Done);
    }

    #[test]
    fn one_listing_of_a_local_directory_is_enough_and_nothing_is_remembered() {
        let storage = Storage::on(FileSystem::Local);
        let rounds = Rounds::on(&storage);
        drop(storage.change());
        assert!(rounds.is_new(c"a") && rounds.is_new(c"a"));
        assert_eq!(rounds.at_end(&storage), AtEnd::Done);
    }
}
