//! Workers of this process that reach the same file by different names: one of them at a time.
//!
//! This module must not know what a worker does with a file. A worker that has a file open looks like another process
//! to a worker that opens the file by another name. So a worker that knows that a file has several names takes its turn
//! first ([`Turn`]), and where names are opened before that is known, the others wait for a moment ([`Transient`]). A
//! worker that finds a file with a single name in use waits for its turn, too: another one may have removed a second
//! name a moment ago, and still have the file open.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::rules::FileId;

/// The files whose turn is taken.
static TAKEN: Mutex<BTreeSet<FileId>> = Mutex::new(BTreeSet::new());
static RETURNED: Condvar = Condvar::new();

/// The right of one worker to have a file with several names open. It must not be waited for by a worker that
/// has one already, of this file or another.
#[derive(Debug)]
pub struct Turn(FileId);

impl Turn {
    /// Waits until no other worker has it.
    pub fn of(file: FileId) -> Self {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        while !taken.insert(file) {
            taken = RETURNED.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        Self(file)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        TAKEN.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
        RETURNED.notify_all();
    }
}

/// Held for reading by workers that have a file open of which they do not know whether it has several names.
static TRANSIENT: RwLock<()> = RwLock::new(());

/// A worker has a file open without its [`Turn`], for a moment. It must not wait for anything meanwhile.
pub type Transient = RwLockReadGuard<'static, ()>;

/// To be held while a file is open of which it is not yet known whether it has several names.
pub fn before_links_are_known() -> Transient {
    TRANSIENT.read().unwrap_or_else(PoisonError::into_inner)
}

/// While this is held, no worker has a file open without its turn.
pub(super) fn without_transients() -> RwLockWriteGuard<'static, ()> {
    TRANSIENT.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn one_worker_at_a_time_has_the_turn_of_a_file_and_others_go_on_with_other_files() {
        let file = |ino| FileId { dev: u64::MAX, ino };
        let (inside, most) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let turn = Turn::of(file(1));
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(turn);
                    }
                });
            }
            let _other = Turn::of(file(2));
        });
        assert_eq!(most.into_inner(), 1);
    }
}
