//! Looks again at a claimed entry, under its lock, and at what is in it.
//!
//! This module must not decide what has expired, and must not change anything: file contents are never read, and what
//! stays has the times that it had.

mod survey;

use std::ffi::CStr;
use std::io;
use std::sync::Arc;

use crate::control::Control;
use crate::fs::error::{hint, is_gone};
use crate::fs::lease::{self, InUse, InUseProbe};
use crate::fs::open::{self, Across};
use crate::fs::stat::{self, Freshness};
use crate::fs::walk::Break;
use crate::protocol::{
    Claimed, Content, Directory, Expired, Failure, Inspector, Notes, Rechecked, Rejected,
    Rejection, Skipped, Verified,
};
use crate::rules::names::is_removed_in_use;
use crate::rules::{Action, FileKind, Metadata, Moment};
use survey::Survey;
pub use survey::Witness;

/// Looks at entries on a real file system.
#[derive(Debug)]
pub struct FileInspector<'a, C> {
    control: &'a C,
    notes: &'a Notes,
    probe: InUseProbe,
    clock: Option<fn() -> Moment>,
}

/// Whether a file is in use, and whether a lease on it is held now.
struct Asked {
    in_use: InUse,
    is_leased: bool,
}

impl<'a, C: Control> FileInspector<'a, C> {
    /// Walks through trees end early when `control` says so, and are shared with idle workers.
    pub fn new(control: &'a C, notes: &'a Notes, probe: InUseProbe) -> Self {
        if probe == InUseProbe::On {
            lease::ignore_lease_breaks();
        }
        Self { control, notes, probe, clock: None }
    }

    /// Compares the times of changes in a tree with a clock: one that lies ahead of it was not made by a change.
    #[must_use]
    pub const fn with_clock(mut self, now: fn() -> Moment) -> Self {
        self.clock = Some(now);
        self
    }

    /// What keeps a tree that was skipped because of `why`, for an explanation: the whole tree is looked at, without
    /// its lock. `None` if it cannot be.
    pub fn witness(&self, expired: &Expired, why: Skipped, now: Moment) -> Option<Witness> {
        let directory = expired.directory();
        if expired.metadata().kind != FileKind::Dir {
            return None;
        }
        let top = open::dir(&directory.handle, expired.name(), Across::SameMount).ok()?;
        let (top, witness) = (top.handle.into(), Some(Witness::default()));
        let is_asked = matches!(why, Skipped::InUse | Skipped::Locked);
        let probe = if is_asked { self.probe } else { InUseProbe::Off };
        let survey = Survey::of(expired, &top, (now, Moment::LAST), probe, witness, self.control);
        survey.ok()?.witness
    }

    /// What the content of the entry says: the newest use, what its removal frees, and whether it must stay.
    fn content(
        &self,
        rechecked: &Rechecked,
        Asked { in_use, is_leased }: Asked,
        now: Moment,
    ) -> Result<Content, Rejection> {
        let expired = rechecked.expired();
        let metadata = expired.metadata();
        match (metadata.kind, rechecked.object()) {
            (FileKind::Dir, Some(_)) if in_use == InUse::Locked => {
                Ok(Content { skipped: Some(Skipped::Locked), ..Content::default() })
            }
            (FileKind::Dir, Some(top)) => self.tree(expired, top, now),
            (FileKind::File, Some(_)) => {
                let mut content = Content { is_leased, ..Content::default() };
                content.freed.add(metadata);
                content.skipped = match in_use {
                    InUse::Free => None,
                    InUse::Open => Some(Skipped::InUse),
                    InUse::Locked => Some(Skipped::Locked),
                    InUse::Unknown => {
                        self.notes.add(&expired.directory().zone.name, Notes::IN_USE_UNKNOWN);
                        None
                    }
                };
                Ok(content)
            }
            // Never opened, so there is nothing to ask.
            (FileKind::Symlink | FileKind::Special, _) => {
                let mut content = Content::default();
                content.freed.add(metadata);
                Ok(content)
            }
            (FileKind::Dir | FileKind::File, None) => {
                let error = io::Error::other("it was not opened for its lock");
                Err(Rejection::Failed(failure(expired, Action::Open, error)))
            }
        }
    }

    /// Whether another process has a claimed file open. If not, and if it has no other name, a lease on it is
    /// held from now on. Of a tree that is claimed without a lock, whether another process has locked it: that may be one
    /// that works in it. An error counts as a lock: the next pass asks again.
    fn in_use(&self, claimed: &Claimed) -> Asked {
        let metadata = claimed.expired().metadata();
        match claimed.object() {
            Some(file) if self.probe == InUseProbe::On && metadata.kind == FileKind::File => {
                if claimed.is_exclusive() {
                    let in_use = lease::under_exclusive_lock(file);
                    return Asked { in_use, is_leased: false };
                }
                let file_system = claimed.expired().directory().storage.file_system;
                let in_use = lease::probe_after_others(file, file_system, metadata);
                Asked { in_use, is_leased: in_use == InUse::Free && metadata.links == 1 }
            }
            Some(top)
                if self.probe == InUseProbe::On
                    && metadata.kind == FileKind::Dir
                    && !claimed.is_locked()
                    && !matches!(lease::is_locked(top), Ok(false)) =>
            {
                Asked { in_use: InUse::Locked, is_leased: false }
            }
            _ => Asked { in_use: InUse::Free, is_leased: false },
        }
    }

    fn tree(
        &self,
        expired: &Expired,
        top: &std::fs::File,
        now: Moment,
    ) -> Result<Content, Rejection> {
        let zone = &expired.directory().zone.name;
        // The times on a server are those of its own clock.
        let is_served = expired.directory().storage.file_system.is_served();
        let clock = self.clock.filter(|_| !is_served);
        let began = clock.map_or(Moment::LAST, |clock| clock());
        let survey = Survey::of(expired, top, (now, began), self.probe, None, self.control);
        let survey = survey.map_err(|ended| match ended {
            // Another machine has removed it meanwhile.
            Break::Failed(error) if is_gone(&error.error) && !is_there(expired) => {
                Rejection::Skipped(Skipped::Gone)
            }
            Break::Failed(error) => Rejection::Failed(Failure::new(
                zone,
                error.action,
                error.path,
                error.error,
                error.hint,
            )),
            Break::Stopped | Break::Enough | Break::Elsewhere => Rejection::Unreached,
        })?;
        if survey.in_use_unknown {
            self.notes.add(zone, Notes::IN_USE_UNKNOWN);
        }
        if survey.ignores_a_time {
            self.notes.add(zone, Notes::WRONG_TIMES);
        }
        if survey.moves_atime {
            self.notes.add(zone, Notes::MOVES_ATIME);
        }
        if expired.directory().storage.file_system.is_served() {
            self.notes.add(zone, Notes::SERVER_MOVES_ATIME);
        }
        Ok(survey.content)
    }
}

impl<C: Control> Inspector for FileInspector<'_, C> {
    fn inspect(&self, claimed: Claimed, now: Moment) -> Result<Verified, Rejected> {
        let expired = claimed.expired();
        if is_removed_in_use(expired.name().to_bytes()) {
            return Err(claimed.reject(Rejection::Skipped(Skipped::InUse)));
        }
        let directory: Arc<Directory> = Arc::clone(expired.directory());
        // Before the look: what is written until then has a newer time, and later writers wait.
        let asked = self.in_use(&claimed);
        let metadata = match look(&directory, expired.name()) {
            Ok(metadata) => metadata,
            Err(error) if is_gone(&error) => {
                return Err(claimed.reject(Rejection::Skipped(Skipped::Gone)));
            }
            Err(error) => {
                let failure = failure(expired, Action::Stat, error);
                return Err(claimed.reject(Rejection::Failed(failure)));
            }
        };
        let rechecked = claimed.recheck(metadata, now)?;
        match self.content(&rechecked, asked, now) {
            Ok(content) => rechecked.verify(content, now),
            Err(why) => Err(rechecked.reject(why)),
        }
    }
}

/// Whether there may be anything under the name of the entry.
fn is_there(expired: &Expired) -> bool {
    stat::exists(&expired.directory().handle, expired.name())
}

/// The current metadata of a name.
fn look(directory: &Directory, name: &CStr) -> io::Result<Metadata> {
    if directory.storage.file_system.is_served() {
        // Another machine may have given the name to another file.
        stat::sync(&directory.handle)?;
    }
    stat::at(&directory.handle, name, directory.mount, Freshness::Synced)
}

fn failure(expired: &Expired, action: Action, error: io::Error) -> Failure {
    let directory = expired.directory();
    let hint = hint(&directory.handle, Some(expired.name()), action, &error);
    directory.failure(action, Some(expired.name()), error, hint)
}

#[cfg(test)]
pub(crate) mod tests;
