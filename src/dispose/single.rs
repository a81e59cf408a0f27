//! Removes an entry that is not a tree.
//!
//! This module must not unlink by itself. After the last look at a file, another process can open it or give its name
//! to another file. So the entry is taken out of reach first and looked at once more there. Where the application that
//! writes the entries has a lock of its own, the entry is removed where it is: that lock excludes its writers, if it is
//! taken. It must still be held then.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;

use super::check::skipped;
use super::failure::failure;
use super::quarantine::{Detached, NotDetached, Stage};
use super::tree::{Trees, arrived, look, not_detached};
use super::unlink::remove_file;
use crate::control::Control;
use crate::fs::lease::{self, InUse, InUseProbe};
use crate::fs::stat;
use crate::protocol::{Expired, Rejected, Rejection, Removed, Skipped, Verified};
use crate::rules::{Action, FileKind, LockKind, Metadata, Moment};

impl<C: Control> Trees<'_, C> {
    /// Removes an entry that is not a directory.
    pub(super) fn remove_single(
        &self,
        verified: Verified,
        now: Moment,
    ) -> Result<Removed, Rejected> {
        let why = match verified.expired().directory().zone.lock {
            // To ask a server for its time may have taken longer than the lock lasts.
            LockKind::Application if !verified.is_valid() => {
                Some(Rejection::Skipped(Skipped::Locked))
            }
            LockKind::Application => in_place(verified.expired()),
            LockKind::Flock | LockKind::Unlocked => self.out_of_reach(&verified, now),
        };
        if let Some(why) = why {
            return Err(verified.reject(why, None));
        }
        let freed = self.ledger.charge(verified.freed());
        Ok(verified.removed(freed))
    }

    /// Takes the entry out of reach and removes it there. Why it is not gone, if it is not.
    fn out_of_reach(&self, verified: &Verified, now: Moment) -> Option<Rejection> {
        let expired = verified.expired();
        let directory = Arc::clone(expired.directory());
        match self.quarantines.detach(&directory, expired.name()) {
            Ok(mut detached) => match self.remove_detached_single(verified, &detached, now) {
                None => None,
                gone @ Some(Rejection::Skipped(Skipped::Gone)) => gone,
                Some(why) => Some(self.put_back(expired, &mut detached, why)),
            },
            Err(NotDetached::Refused(error)) => {
                let why = self.remove_where_it_is(verified, now);
                if why.is_none() {
                    self.note_in_place(expired, &error);
                }
                why
            }
            Err(NotDetached::Failed(error)) => Some(not_detached(expired, error)),
        }
    }

    /// Looks at the entry once more, where no other process can reach it by its path, and removes it.
    fn remove_detached_single(
        &self,
        verified: &Verified,
        detached: &Detached,
        now: Moment,
    ) -> Option<Rejection> {
        let expired = verified.expired();
        let check = detached.quarantine.handle(Stage::Check);
        self.look_again(verified, || arrived(expired, detached), now)
            .or_else(|| removed(expired, check, &detached.name))
    }

    /// The same for an entry that cannot be renamed, where it is.
    fn remove_where_it_is(&self, verified: &Verified, now: Moment) -> Option<Rejection> {
        let expired = verified.expired();
        let look = || look(expired, &expired.directory().handle, expired.name());
        self.look_again(verified, look, now).or_else(|| in_place(expired))
    }

    /// Why an entry stays after one more look at it; `None` if it does not.
    fn look_again(
        &self,
        verified: &Verified,
        look: impl FnOnce() -> Result<Metadata, Rejection>,
        now: Moment,
    ) -> Option<Rejection> {
        // Before the look: what is written until then has a newer time.
        if let Some(why) = self.in_use(verified) {
            return Some(Rejection::Skipped(why));
        }
        let found = match look() {
            Ok(found) => found,
            Err(why) => return Some(why),
        };
        let expired = verified.expired();
        let (before, rule) = (expired.metadata(), expired.rule());
        let is_written = found.mtime != before.mtime;
        // The rename has moved the ctime, and so does the removal of another name.
        let found = Metadata { ctime: before.ctime, ..found };
        let is_used = is_written || !rule.is_expired(rule.last_use.read(&found, now), now);
        is_used.then_some(Rejection::Skipped(Skipped::Used))
    }

    /// Whether another process has opened the file since it was looked at; `None` if not.
    fn in_use(&self, verified: &Verified) -> Option<Skipped> {
        let metadata = verified.expired().metadata();
        if self.probe == InUseProbe::Off || metadata.kind != FileKind::File {
            return None;
        }
        let file = verified.object()?;
        let file_system = verified.expired().directory().storage.file_system;
        let answer = if verified.is_exclusive() {
            lease::under_exclusive_lock(file)
        } else if !verified.is_leased() {
            // It has one name less than when it was claimed, perhaps, and the claim has its turn.
            lease::probe(file, file_system, metadata.links)
        } else if lease::is_undisturbed(file, false).unwrap_or(false) {
            InUse::Free
        } else {
            InUse::Open
        };
        skipped(answer)
    }
}

/// Removes the entry where it is. Why it is not gone, if it is not.
fn in_place(expired: &Expired) -> Option<Rejection> {
    let _change = expired.directory().change();
    removed(expired, &expired.directory().handle, expired.name())
}

/// Removes the name that an entry has now. Why it is not gone, if it is not.
fn removed(expired: &Expired, dir: &OwnedFd, name: &CStr) -> Option<Rejection> {
    match remove_file(dir, name) {
        Ok(()) => None,
        Err(Errno::NOENT) => Some(Rejection::Skipped(Skipped::Gone)),
        Err(Errno::STALE) if !stat::exists(dir, name) => Some(Rejection::Skipped(Skipped::Gone)),
        // A directory has its name now.
        Err(Errno::ISDIR) => Some(Rejection::Skipped(Skipped::Replaced)),
        Err(error) => Some(Rejection::Failed(failure(expired, Action::Unlink, error.into()))),
    }
}
