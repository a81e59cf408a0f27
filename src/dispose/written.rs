//! Which removals are written down: no others are made.
//!
//! This module must not remove anything, and without a journal it does nothing. The lines of files are written for a
//! whole batch, before their locks are taken, and the line of a tree immediately before it is taken out of
//! reach. An entry that was written down and stays after all gets a second line.

use std::collections::HashSet;
use std::ffi::CString;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::protocol::{Expired, Failure, Intent, Journal, Rejection};
use crate::rules::{Action, Bytes, FileId, Moment};

/// The name of an entry in a directory, and what it is.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    directory: FileId,
    name: CString,
    id: FileId,
}

impl Key {
    fn of(expired: &Expired) -> Self {
        let (directory, name) = (expired.directory().id, expired.name().to_owned());
        Self { directory, name, id: expired.metadata().id }
    }
}

/// What is written down and neither removed nor known to stay.
#[derive(Debug, Default)]
pub(super) struct Written<'a> {
    pub(super) journal: Option<&'a dyn Journal>,
    pending: Mutex<HashSet<Key>>,
}

impl Written<'_> {
    /// Writes down the removal of files.
    pub(super) fn write_files(&self, files: &[Expired], now: Moment) -> Result<(), Failure> {
        let Some(journal) = self.journal else { return Ok(()) };
        let intent = |file| Intent::new(file, Expired::metadata(file).allocated, now);
        let intents: Vec<Intent<'_>> = files.iter().map(intent).collect();
        journal.write(&intents)?;
        self.pending().extend(files.iter().map(Key::of));
        Ok(())
    }

    /// Writes down the removal of a tree whose content takes up `size`.
    pub(super) fn write_tree(
        &self,
        tree: &Expired,
        size: Bytes,
        now: Moment,
    ) -> Result<(), Failure> {
        let Some(journal) = self.journal else { return Ok(()) };
        journal.write(&[Intent::new(tree, size, now)])?;
        self.pending().insert(Key::of(tree));
        Ok(())
    }

    /// A file is about to be removed.
    ///
    /// # Errors
    /// There is no line for it, so it must not be.
    pub(super) fn check_file(&self, file: &Expired) -> Result<(), Failure> {
        if self.journal.is_none() || self.pending().contains(&Key::of(file)) {
            return Ok(());
        }
        let error = io::Error::other("it is not in the audit log");
        Err(file.directory().failure(Action::Unlink, Some(file.name()), error, None))
    }

    /// An entry was removed.
    pub(super) fn on_removed(&self, expired: &Expired) {
        if self.journal.is_some() {
            self.pending().remove(&Key::of(expired));
        }
    }

    /// An entry stays.
    pub(super) fn on_rejected(&self, expired: &Expired, why: &Rejection) {
        if let Some(journal) = self.journal
            && self.pending().remove(&Key::of(expired))
        {
            let directory = expired.directory();
            let path = directory.path_of(expired.name());
            journal.withdraw(&directory.zone.name, &path, &reason(why));
        }
    }

    fn pending(&self) -> MutexGuard<'_, HashSet<Key>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why an entry stays, as the second line says it.
fn reason(why: &Rejection) -> String {
    match why {
        Rejection::Skipped(why) => why.key().to_owned(),
        Rejection::Failed(failure) | Rejection::NotWritten(failure) => failure.to_string(),
        Rejection::Unreached => "the pass was stopped".to_owned(),
        Rejection::NoLock(why) => why.clone(),
    }
}
