//! The state of one zone while it is swept, shared by the workers.
//!
//! This module must not decide anything.

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::batch::ExpiredBatch;
use super::turns::Turns;
use crate::protocol::{Directory, Entry, Expired, Tally};
use crate::rules::{FileId, Zone};

/// A zone while it is swept.
pub(super) struct ZoneRun<'a> {
    pub(super) zone: &'a Arc<Zone>,
    pub(super) total: Arc<Mutex<Tally>>,
    /// What interrupted removals have left: their private directories, each with the directory that it is in. They are
    /// handled before trees and before more names are listed, so there are never many.
    pub(super) leftovers: Mutex<Vec<(Arc<Directory>, CString)>>,
    /// Trees that wait for a worker.
    pub(super) trees: Mutex<VecDeque<Expired>>,
    /// Workers that are at work, and may find more trees or offer half of one.
    pub(super) working: AtomicUsize,
    pub(super) locked: Mutex<ExpiredBatch>,
    pub(super) turns: Turns,
    pub(super) no_lock: Mutex<Option<String>>,
    /// Entries that an interrupted removal had left and that get their names again. The worker that returns them
    /// judges them, so the listing does not: the directory, the name, and the file, because the name may be that of
    /// another one.
    returned: Mutex<Vec<(FileId, CString, FileId)>>,
    has_returned: AtomicBool,
}

impl<'a> ZoneRun<'a> {
    pub(super) fn new(zone: &'a Arc<Zone>, total: Arc<Mutex<Tally>>) -> Self {
        Self {
            zone,
            total,
            leftovers: Mutex::default(),
            trees: Mutex::default(),
            working: AtomicUsize::new(0),
            locked: Mutex::default(),
            turns: Turns::default(),
            no_lock: Mutex::default(),
            returned: Mutex::default(),
            has_returned: AtomicBool::new(false),
        }
    }

    /// The zone, its counts, and why it was left alone, if it was.
    pub(super) fn into_parts(self) -> (&'a Arc<Zone>, Tally, Option<String>) {
        let Self { zone, total, no_lock, .. } = self;
        let tally = lock(&total).clone();
        (zone, tally, no_lock.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Remembers an entry that is about to have its name again.
    pub(super) fn remember_returned(&self, directory: FileId, name: &CStr, id: FileId) {
        lock(&self.returned).push((directory, name.to_owned(), id));
        self.has_returned.store(true, Ordering::Release);
    }

    /// Forgets an entry that has not got its name again. Another one may have got the same name before it.
    pub(super) fn forget_returned(&self, directory: FileId, name: &CStr, id: FileId) {
        let it = (directory, name.to_owned(), id);
        lock(&self.returned).retain(|known| *known != it);
    }

    /// Whether the entry has its name again, and another worker judges it.
    pub(super) fn is_returned(&self, entry: &Entry<'_>) -> bool {
        let it = (entry.directory.id, entry.name, entry.metadata.id);
        self.has_returned.load(Ordering::Acquire)
            && lock(&self.returned).iter().any(|(of, name, id)| (*of, &**name, *id) == it)
    }
}

/// A worker that panicked has not left half a count behind: each is added as a whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
