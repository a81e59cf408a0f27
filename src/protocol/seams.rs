//! The four seams of a pass: where entries come from, which locks cover them, who looks again, and who
//! removes.
//!
//! This module must not implement any of them; each has a module of its own.

use std::ffi::{CStr, CString};
use std::path::Path;
use std::sync::Arc;

use super::{
    Claimed, Directory, Entry, Expired, Failure, OutcomeKind, Rejected, Rejection, Removed,
    Verified,
};
use crate::rules::{Bytes, FileId, Kept, Moment, Zone, ZoneName};

/// What the first look at a name gives.
#[derive(Debug)]
pub enum Found<'a> {
    /// An entry.
    Entry(&'a Entry<'a>),
    /// A private directory that an interrupted removal may have left.
    Leftover(&'a Arc<Directory>, &'a CStr),
    /// The name was listed, but was gone when it was looked at.
    Gone(&'a Directory, &'a CStr),
    /// The look failed. Without a name: the directory itself could not be read.
    Failed(&'a Directory, Option<&'a CStr>, Failure),
}

/// What a worker knows after a batch of names.
#[derive(Debug)]
pub struct ScanBatch<'s> {
    /// Whether there are more names.
    pub has_more: bool,
    /// The directory that the names came from.
    pub root: Option<&'s Directory>,
    /// How many there were.
    pub names: u64,
    /// Whether they were not in memory, so that each look needed the lock of the directory.
    pub is_cold: bool,
}

/// Where entries come from. It changes nothing.
pub trait Source: Sync {
    /// A zone being read, by several workers at once.
    type Scan: Sync;

    /// Opens a zone for reading; `None` when it does not exist.
    ///
    /// # Errors
    /// The zone exists and cannot be entered.
    fn open(&self, zone: &Arc<Zone>) -> Result<Option<Self::Scan>, Failure>;

    /// Takes the next batch of names, and hands what is there to `each`. The listing has `buffer`, which is used as
    /// it is if it has any room at first.
    fn next_batch<'s>(
        &self,
        scan: &'s Self::Scan,
        buffer: &mut Vec<u8>,
        each: &mut impl FnMut(Found<'_>),
    ) -> ScanBatch<'s>;

    /// Opens the directory `dir` of a zone again.
    ///
    /// # Errors
    /// It cannot be entered.
    fn enter(&self, zone: &Arc<Zone>, dir: &Path) -> Result<Arc<Directory>, Failure>;

    /// Looks at one name that was not listed.
    fn look(&self, _directory: &Arc<Directory>, _name: &CStr, _each: &mut dyn FnMut(Found<'_>)) {}

    /// Asked when every zone was read: whether to open them again, because there are more entries than
    /// one reading gave.
    fn next_round(&self) -> bool {
        false
    }
}

/// The locks that keep the writers of entries and the sweeper apart.
pub trait Locks: Sync {
    /// Asks, before a zone is read, whether its locks can be taken.
    ///
    /// # Errors
    /// Why not: the zone is left alone.
    fn ready(&self, zone: &Zone) -> Result<(), String>;

    /// Takes the lock of each entry of a batch, without waiting, and hands every claim or rejection to
    /// `each`, in any order and one at a time. All entries are of one zone. Once `is_stopped` says so, no
    /// further entry is locked, and the rest of the batch is [`Rejection::Unreached`].
    fn claim(
        &self,
        batch: Vec<Expired>,
        is_stopped: &dyn Fn() -> bool,
        each: &mut dyn FnMut(Result<Claimed, Rejected>),
    );

    /// What the user should know about the locks of a zone.
    fn notes(&self, zone: &Zone) -> Vec<String>;
}

/// Looks at a locked entry again, and into it. It changes nothing.
pub trait Inspector: Sync {
    /// Looks again, under the lock.
    ///
    /// # Errors
    /// The entry stays, with the reason.
    fn inspect(&self, claimed: Claimed, now: Moment) -> Result<Verified, Rejected>;
}

/// Removes an entry. Only this seam changes anything.
pub trait Disposer: Sync {
    /// Removes it. The token is used up; its lock is released after the removal.
    ///
    /// # Errors
    /// The entry stays, whole or in part, with the reason.
    fn dispose(&self, verified: Verified, now: Moment) -> Result<Removed, Rejected>;

    /// Whether each removal is written down first, and so [`Self::write_down`] is called.
    fn writes_first(&self) -> bool {
        false
    }

    /// Writes down the removal of files, which were judged at `now`. Each is claimed and looked at once more before it is disposed of.
    /// Trees are written down when they are disposed of.
    ///
    /// # Errors
    /// None of them may be removed.
    fn write_down(&self, _files: &[Expired], _now: Moment) -> Result<(), Failure> {
        Ok(())
    }

    /// An entry stays that may have been written down.
    fn on_rejected(&self, _expired: &Expired, _why: &Rejection) {}

    /// Removes what it has made for itself: how full the file system is will be asked.
    fn release(&self) {}

    /// Removes the directory `name` in `directory` if it is empty: its last entry was removed. Whether it is
    /// gone now.
    fn prune(&self, _directory: &Directory, _name: &CStr) -> bool {
        false
    }

    /// Completes what an interrupted removal left in the private directory `name` in `directory`, as far as
    /// `recovery` allows it.
    fn recover(
        &self,
        _directory: &Arc<Directory>,
        _name: &CStr,
        _now: Moment,
        _recovery: &mut Recovery<'_>,
    ) {
    }
}

/// What a pass says about what interrupted removals have left: the rules of this pass and its guards decide,
/// not those of the one that was interrupted.
pub struct Recovery<'a> {
    /// The verdict on the rest of a tree, with the times that its removal has not moved.
    pub judge: &'a dyn Fn(&Entry<'_>) -> Result<Expired, Kept>,
    /// Whether one more removal, which frees this much, is allowed.
    pub allow: &'a dyn Fn(&ZoneName, Bytes) -> bool,
    /// A removal that was allowed was not made.
    pub give_back: &'a dyn Fn(&ZoneName, Bytes),
    /// A file or tree is about to get this name again, in this directory. Other workers that find it from then on leave
    /// it to the one that hears of it by `each`.
    pub returns: &'a dyn Fn(&Directory, &CStr, FileId),
    /// It has not got that name.
    pub stays: &'a dyn Fn(&Directory, &CStr, FileId),
    /// Takes each entry that was found.
    pub each: &'a mut dyn FnMut(Recovered<'_>),
}

impl<'a> Recovery<'a> {
    /// One that no guard limits, and from which no other worker learns anything.
    pub fn alone(
        judge: &'a dyn Fn(&Entry<'_>) -> Result<Expired, Kept>,
        each: &'a mut dyn FnMut(Recovered<'_>),
    ) -> Self {
        Self {
            judge,
            allow: &|_, _| true,
            give_back: &|_, _| {},
            returns: &|_, _, _| {},
            stays: &|_, _, _| {},
            each,
        }
    }
}

impl std::fmt::Debug for Recovery<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recovery").finish_non_exhaustive()
    }
}

/// An entry that an interrupted removal had left.
#[derive(Debug)]
pub enum Recovered<'a> {
    /// Its removal had not begun: it has its name again, in this directory.
    Returned(Arc<Directory>, CString),
    /// Its removal had begun and must not be completed: the rest has this name again, in this directory.
    ReturnedInPart(Arc<Directory>, CString, Failure),
    /// Its removal had begun, and has this outcome now; with the directory that it came from, its name there, and
    /// the space that was freed.
    Settled(&'a Directory, &'a CStr, OutcomeKind<'a>, Bytes),
    /// Its removal had begun, and the pass was stopped first.
    Unreached,
    /// Its removal had begun, and its zone is left alone, for this reason.
    LeftAlone(String),
}
