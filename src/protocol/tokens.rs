//! The tokens of the protocol: `Expired` → [`Claimed`] → [`Rechecked`] → [`Verified`] → [`Removed`], and
//! [`Rejected`] for an entry that leaves the pipeline before its end.
//!
//! This module must not do I/O. There is no unlink by descriptor in Linux: between the last look and the unlink,
//! a process that does not take the lock can give a name to another file. The last look keeps that window
//! at microseconds.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::storage::Change;
use super::{Failure, Freed, MemberLeases, Storage};
use crate::rules::{self, Action, Bytes, FileId, KeptReason, Metadata, Moment, Zone};

/// An open directory that holds entries of a zone.
#[derive(Debug)]
pub struct Directory {
    /// The zone.
    pub zone: Arc<Zone>,
    /// Its path, as people see it.
    pub path: PathBuf,
    /// Its path relative to the data root; absolute in a zone outside of it.
    pub dir: PathBuf,
    /// The directory itself.
    pub handle: OwnedFd,
    /// The identity of the directory.
    pub id: FileId,
    /// The mount that it is on. Nothing on another mount is touched.
    pub mount: u64,
    /// The directory in which its entries are put out of reach: the one that is listed, if that is not
    /// this one.
    pub listed: Option<Arc<Directory>>,
    /// The file system that it is on.
    pub storage: Storage,
}

impl Directory {
    /// Says that a name is being taken from it, or given to it, as long as the result exists.
    pub fn change(&self) -> (Change<'_>, Option<Change<'_>>) {
        (self.storage.change(), self.listed.as_ref().map(|listed| listed.storage.change()))
    }

    /// The path of the entry `name`, as people see it.
    pub fn path_of(&self, name: &CStr) -> PathBuf {
        self.path.join(OsStr::from_bytes(name.to_bytes()))
    }

    /// The failure of an operation on the entry `name`, or on the directory itself.
    pub fn failure(
        &self,
        action: Action,
        name: Option<&CStr>,
        error: io::Error,
        hint: Option<String>,
    ) -> Failure {
        let path = name.map_or_else(|| self.path.clone(), |name| self.path_of(name));
        Failure::new(&self.zone.name, action, path, error, hint)
    }
}

/// An entry in an open directory.
pub type Entry<'a> = rules::Entry<'a, Arc<Directory>>;

/// An entry in an open directory that has expired, as far as the first look can tell.
pub type Expired = rules::Expired<Arc<Directory>>;

/// A lock that expires.
pub trait Lease: Send + std::fmt::Debug {
    /// Whether it is still held at this moment.
    fn is_valid(&self) -> bool;
}

/// The locks that are held on an entry. Dropping it releases them.
#[derive(Debug)]
pub struct Guard {
    /// The locked object, open. `None` for links and special files, which cannot be locked.
    object: Option<File>,
    /// A lock elsewhere, beside the one on the object.
    lease: Option<Box<dyn Lease>>,
    /// The lock on the object is one of its NFS server, and excludes every lock of another machine.
    is_exclusive: bool,
    /// The object is locked at all.
    is_locked: bool,
}

impl Guard {
    /// From an object that is locked through this very handle, and a lease beside it.
    pub(crate) const fn new(object: Option<File>, lease: Option<Box<dyn Lease>>) -> Self {
        Self { object, lease, is_exclusive: false, is_locked: true }
    }

    /// Says whether the object is locked, which it is not where no locks are wanted, and whether its lock is one of its
    /// NFS server, and excludes every lock of another machine.
    pub(crate) fn locked(self, is_locked: bool, is_exclusive: bool) -> Self {
        Self { is_exclusive, is_locked, ..self }
    }
}

/// An expired entry whose lock is held.
#[derive(Debug)]
pub struct Claimed {
    expired: Expired,
    guard: Guard,
}

impl Claimed {
    /// Binds a lock to the entry that it was taken for. Only [`super::Locks::claim`] has both.
    pub(crate) const fn new(expired: Expired, guard: Guard) -> Self {
        Self { expired, guard }
    }

    /// The entry.
    pub const fn expired(&self) -> &Expired {
        &self.expired
    }

    /// The locked object, where there is one.
    pub const fn object(&self) -> Option<&File> {
        self.guard.object.as_ref()
    }

    /// Whether the object is locked. If not, nothing has asked whether another process has locked it.
    pub const fn is_locked(&self) -> bool {
        self.guard.is_locked
    }

    /// Whether the lock on the object excludes every lock of another machine, so that the server need not be asked
    /// about those.
    pub const fn is_exclusive(&self) -> bool {
        self.guard.is_exclusive
    }

    /// Judges the entry again under the lock, by the same rule and the same `now`.
    ///
    /// # Errors
    /// Another file has the name, or the entry was used in between.
    pub fn recheck(self, metadata: Metadata, now: Moment) -> Result<Rechecked, Rejected> {
        let first = self.expired.metadata();
        if (metadata.id, metadata.kind) != (first.id, first.kind) {
            return Err(self.reject(Rejection::Skipped(Skipped::Replaced)));
        }
        // An entry is removed early because of its age: one that was written since is no longer the oldest.
        if self.expired.rule().early.is_some() && metadata.mtime > first.mtime {
            return Err(self.reject(Rejection::Skipped(Skipped::Used)));
        }
        let expired = evaluate_again(self.expired, metadata, now)?;
        Ok(Rechecked { claimed: Self { expired, guard: self.guard } })
    }

    /// Releases the lock; the entry stays.
    pub fn reject(self, why: Rejection) -> Rejected {
        Rejected::new(self.expired, why)
    }
}

/// The verdict of the first look, once more, on newer metadata.
fn evaluate_again(expired: Expired, metadata: Metadata, now: Moment) -> Result<Expired, Rejected> {
    expired
        .evaluate_again(metadata, now)
        .map_err(|(expired, why)| Rejected::new(expired, Rejection::Skipped(Skipped::since(why))))
}

/// A claimed entry whose own metadata was read again under the lock and still says that it has expired.
/// Its content was not looked at yet.
#[derive(Debug)]
pub struct Rechecked {
    claimed: Claimed,
}

impl Rechecked {
    /// The entry, with the newer metadata.
    pub const fn expired(&self) -> &Expired {
        &self.claimed.expired
    }

    /// The locked object, where there is one.
    pub const fn object(&self) -> Option<&File> {
        self.claimed.guard.object.as_ref()
    }

    /// Judges the entry by its content, with the same rule and the same `now`.
    ///
    /// # Errors
    /// Its content is in use, or was used.
    pub fn verify(self, content: Content, now: Moment) -> Result<Verified, Rejected> {
        let newest = content.newest;
        if let Some(skipped) = content.skipped {
            return Err(self.claimed.reject(Rejection::Skipped(skipped)));
        }
        let Content { freed, changed, ahead, members, is_leased, .. } = content;
        let Claimed { expired, guard } = self.claimed;
        // Its own metadata was judged when it was read again. Only its content is new.
        let expired = if newest.is_some() {
            let metadata = Metadata { newest_inside: newest, ..*expired.metadata() };
            evaluate_again(expired, metadata, now)?
        } else {
            expired
        };
        Ok(Verified { expired, guard, freed, changed, ahead, members, is_leased })
    }

    /// Releases the lock; the entry stays.
    pub fn reject(self, why: Rejection) -> Rejected {
        self.claimed.reject(why)
    }
}

/// What a look into an entry found.
#[derive(Debug, Default)]
pub struct Content {
    /// The newest last use of anything in a directory.
    pub newest: Option<Moment>,
    /// Why the entry must stay, if it must.
    pub skipped: Option<Skipped>,
    /// What its removal frees.
    pub freed: Freed,
    /// The newest ctime of anything in a directory. Anything with a newer one was added or changed later.
    pub changed: Option<Moment>,
    /// Files in a directory whose ctime is newer than that, because they were changed during the look, and that ctime:
    /// with the same one they were not changed again.
    pub ahead: Vec<(FileId, Moment)>,
    /// The leases that are held on files in a directory.
    pub members: MemberLeases,
    /// A lease is held on the file itself, through the handle of its lock.
    pub is_leased: bool,
}

/// An entry that may be removed now: judged twice, the second time under the lock that is still held.
#[derive(Debug)]
pub struct Verified {
    expired: Expired,
    guard: Guard,
    freed: Freed,
    changed: Option<Moment>,
    ahead: Vec<(FileId, Moment)>,
    members: MemberLeases,
    is_leased: bool,
}

impl Verified {
    /// The entry, with the metadata of the second look.
    pub const fn expired(&self) -> &Expired {
        &self.expired
    }

    /// The locked object, where there is one.
    pub const fn object(&self) -> Option<&File> {
        self.guard.object.as_ref()
    }

    /// Whether the lock on the object excludes every lock of another machine, so that the server need not be asked
    /// about those.
    pub const fn is_exclusive(&self) -> bool {
        self.guard.is_exclusive
    }

    /// Whether its lock is still held. To be asked last before the removal.
    pub fn is_valid(&self) -> bool {
        self.guard.lease.as_ref().is_none_or(|lease| lease.is_valid())
    }

    /// The newest ctime that the second look saw in a directory.
    pub const fn changed(&self) -> Option<Moment> {
        self.changed
    }

    /// Files in it that have a newer ctime all the same, and which.
    pub fn ahead(&self) -> &[(FileId, Moment)] {
        &self.ahead
    }

    /// Whether a lease is held on the file itself: another process that opens it breaks the lease.
    pub const fn is_leased(&self) -> bool {
        self.is_leased
    }

    /// What its removal frees, by the second look.
    pub const fn freed(&self) -> &Freed {
        &self.freed
    }

    /// Takes the leases on files in a directory.
    pub fn take_members(&mut self) -> MemberLeases {
        std::mem::take(&mut self.members)
    }

    /// Releases the lock: the entry has to be claimed and looked at again.
    pub fn release(self) -> Expired {
        self.expired
    }

    /// The entry was removed. Its lock is released here.
    pub fn removed(self, freed: Bytes) -> Removed {
        Removed { expired: self.expired, freed }
    }

    /// The entry stays, or a part of it; `freed` is what the removal of the other part freed.
    pub fn reject(self, why: Rejection, freed: Option<Bytes>) -> Rejected {
        Rejected { expired: self.expired, why, freed }
    }
}

/// An entry that was removed.
#[derive(Debug)]
pub struct Removed {
    /// The entry.
    pub expired: Expired,
    /// The space that was freed.
    pub freed: Bytes,
}

/// An expired entry that stays.
#[derive(Debug)]
pub struct Rejected {
    /// The entry.
    pub expired: Expired,
    /// Why.
    pub why: Rejection,
    /// The space that was freed anyway, if a part of a tree was removed.
    pub freed: Option<Bytes>,
}

impl Rejected {
    /// For an entry that was not changed.
    pub const fn new(expired: Expired, why: Rejection) -> Self {
        Self { expired, why, freed: None }
    }
}

/// How an expired entry leaves the pipeline before its end.
#[derive(Debug)]
pub enum Rejection {
    /// Something prevents its removal right now.
    Skipped(Skipped),
    /// Its removal failed.
    Failed(Failure),
    /// The pass was stopped first; the entry was not changed.
    Unreached,
    /// Its removal cannot be written down: no entry can be removed any more.
    NotWritten(Failure),
    /// The lock backend cannot be used: no entry of the zone can be claimed any more.
    NoLock(String),
}

/// Why an expired entry is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Skipped {
    /// Another process holds a lock on it.
    Locked,
    /// Another process has it, or something in it, open.
    InUse,
    /// It was used between the two looks, or something in it is newer.
    Used,
    /// Another file has its name now.
    Replaced,
    /// Another process removed it.
    Gone,
    /// There is a mount point in it.
    MountPoint,
}

impl Skipped {
    /// Every reason, in the order of the report.
    pub const ALL: [Self; 6] =
        [Self::Locked, Self::InUse, Self::Used, Self::Replaced, Self::Gone, Self::MountPoint];

    /// What has happened to an entry that had expired, if the rules keep it now for this reason.
    pub const fn since(why: KeptReason) -> Self {
        match why {
            KeptReason::Fresh
            | KeptReason::Excluded
            | KeptReason::Published
            | KeptReason::Referenced
            | KeptReason::Newest
            | KeptReason::Refused
            | KeptReason::NotOurs
            | KeptReason::LeftToServer => Self::Used,
            KeptReason::NotAFile | KeptReason::Unrecognized => Self::Replaced,
            KeptReason::MountPoint => Self::MountPoint,
        }
    }

    /// The name of the reason in reports.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Locked => "locked",
            Self::InUse => "in_use",
            Self::Used => "used",
            Self::Replaced => "replaced",
            Self::Gone => "gone",
            Self::MountPoint => "mount_point",
        }
    }
}
