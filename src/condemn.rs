//! The protocol between deciding and deleting: two seams, and tokens that cannot be skipped.
//!
//! `Stale` → [`Claim`] → [`Rechecked`] → [`Condemned`] → [`Removed`]. Each is made from the one before
//! and spent by the next, so what was not judged cannot be claimed, what was not claimed and looked
//! at again under the lock cannot be condemned, and what was not condemned cannot be removed. This
//! module must not do I/O; [`Disk`] and [`Locks`] do it for it.
//!
//! There is no unlink by descriptor in Linux. Between the last look and the unlink a name can be
//! given to another file by somebody who does not take the lock; the second look keeps that window
//! at microseconds, and nothing here can close it. A small directory is looked at as a whole before any
//! of it goes: what is used or replaced in it in the milliseconds until then goes with it.
//!
//! This is how it is meant:
//! ```
//! use retention_sweeper::condemn::{Claim, Disk, Removed, Reprieve};
//! use retention_sweeper::retention::Moment;
//! fn finish<D: Disk>(
//!     disk: &D, claim: Claim, now: Moment,
//! ) -> Result<Removed, Reprieve> {
//!     let condemned = disk.look_again(claim, now)?;
//!     disk.remove(condemned, now)
//! }
//! ```
//! A token cannot be forged, nor spent twice:
//! ```compile_fail
//! use retention_sweeper::{condemn::{Condemned, Disk}, retention::Moment};
//! fn twice<D: Disk>(disk: &D, condemned: Condemned, now: Moment) {
//!     let _ = disk.remove(condemned, now);
//!     let _ = disk.remove(condemned, now);
//! }
//! ```
//! What is not locked cannot be looked at again, what was not looked at again cannot be removed:
//! ```compile_fail
//! use retention_sweeper::{condemn::{Disk, Stale}, retention::Moment};
//! fn unlocked<D: Disk>(disk: &D, stale: Stale, now: Moment) { let _ = disk.remove(stale, now); }
//! ```
//! ```compile_fail
//! use retention_sweeper::{condemn::{Claim, Disk}, retention::Moment};
//! fn unchecked<D: Disk>(disk: &D, claim: Claim, now: Moment) { let _ = disk.remove(claim, now); }
//! ```
//! ```compile_fail
//! use retention_sweeper::condemn::{Claim, Guard, Stale};
//! fn forged(stale: Stale, guard: Guard) -> Claim { Claim { stale, guard } }
//! ```

mod inventory;

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

pub use inventory::{Inventory, KnownDir, Names};

use crate::retention::{self, Bytes, Facts, FileId, Kept, KeptBy, Moment, Zone};

/// An open directory that entries of a zone are seen in.
#[derive(Debug)]
pub struct Place {
    /// The zone it belongs to.
    pub zone: Zone,
    /// Its path, for people.
    pub path: PathBuf,
    /// Its path relative to the volume.
    pub dir: PathBuf,
    /// The directory itself; every step from here is one name.
    pub handle: OwnedFd,
    /// Which directory that is.
    pub id: FileId,
    /// The mount it lies on; what lies on another is not ours.
    pub mount: u64,
}

impl Place {
    /// The path of what is called `name` here, for people.
    pub fn path_of(&self, name: &CStr) -> PathBuf {
        self.path.join(OsStr::from_bytes(name.to_bytes()))
    }
}

/// A sighting in an open directory.
pub type Sighting<'a> = retention::Sighting<'a, Arc<Place>>;

/// An entry of an open directory that has expired, as far as the first look can tell.
pub type Stale = retention::Stale<Arc<Place>>;

/// What keeps others off a stale entry. Dropping it gives the lock back.
#[derive(Debug)]
pub struct Guard {
    /// The locked object, open. `None` for what cannot be opened without harm: links, FIFOs,
    /// sockets and devices have no lock that anybody could hold.
    object: Option<File>,
    /// A lock elsewhere that ends by itself, beside the one on the object.
    lease: Option<Box<dyn Lasting>>,
}

/// A lock that ends by itself.
pub trait Lasting: Send + std::fmt::Debug {
    /// Whether it may still be acted upon, at this moment.
    fn lasts(&self) -> bool;
}

impl Guard {
    /// Takes charge of an object that is locked through this very handle, if it has one, and of a
    /// lease beside it.
    pub(crate) const fn of(object: Option<File>, lease: Option<Box<dyn Lasting>>) -> Self {
        Self { object, lease }
    }
}

/// A stale entry whose lock we hold.
#[derive(Debug)]
pub struct Claim {
    stale: Stale,
    guard: Guard,
}

impl Claim {
    /// Binds a lock to what it was taken for. Only [`Locks::claim`] has both.
    pub(crate) const fn new(stale: Stale, guard: Guard) -> Self {
        Self { stale, guard }
    }

    /// What is claimed.
    pub const fn stale(&self) -> &Stale {
        &self.stale
    }

    /// Judges what the name leads to now, under the lock, by the same rules and the same `now`.
    ///
    /// # Errors
    /// The claim is off when another file has the name by now, or when it was used in between.
    pub fn recheck(self, facts: Facts, now: Moment) -> Result<Rechecked, Reprieve> {
        let first = self.stale.facts();
        if (facts.id, facts.kind) != (first.id, first.kind) {
            return Err(self.spare(Spared::Replaced));
        }
        let stale = judge_again(self.stale, facts, now)?;
        Ok(Rechecked { claim: Self { stale, guard: self.guard } })
    }

    /// Lets the lock go, untouched.
    pub fn give_up(self) -> Stale {
        self.stale
    }

    /// Lets the entry be, because the second look found it spared.
    pub fn spare(self, why: Spared) -> Reprieve {
        Reprieve::of(self.stale, Off::Spared(why))
    }

    /// Lets the entry be, because the second look failed.
    pub fn fail(self, failure: Failure) -> Reprieve {
        Reprieve::of(self.stale, Off::Failed(failure))
    }
}

/// The same judgement as at the first look, on newer facts.
fn judge_again(stale: Stale, facts: Facts, now: Moment) -> Result<Stale, Reprieve> {
    stale.judge_again(facts, now).map_err(|(stale, why)| {
        let spared = match why {
            KeptBy::Fresh | KeptBy::Excluded => Spared::Used,
            KeptBy::NotAFile | KeptBy::Unrecognized => Spared::Replaced,
            KeptBy::Mounted => Spared::Mounted,
        };
        Reprieve::of(stale, Off::Spared(spared))
    })
}

/// A claim whose own times were read again under the lock and still say that it goes. What is
/// missing is what only its content can tell.
#[derive(Debug)]
pub struct Rechecked {
    claim: Claim,
}

impl Rechecked {
    /// What is claimed, with the newer facts.
    pub const fn stale(&self) -> &Stale {
        &self.claim.stale
    }

    /// The locked object, where there is one.
    pub const fn object(&self) -> Option<&File> {
        self.claim.guard.object.as_ref()
    }

    /// Condemns it, unless its content is in use or was used by the same rules and the same `now`.
    ///
    /// # Errors
    /// The claim is off.
    pub fn condemn(self, content: Content, now: Moment) -> Result<Condemned, Reprieve> {
        let newest = content.newest;
        if let Some(spared) = content.spared {
            return Err(Reprieve { newest, ..self.claim.spare(spared) });
        }
        let Content { freed, changed, inventory, .. } = content;
        let Claim { stale, guard } = self.claim;
        // Its own times were judged when they were read again. What is new is what is in it.
        let stale = if newest.is_some() {
            let facts = Facts { newest_inside: newest, ..*stale.facts() };
            judge_again(stale, facts, now)?
        } else {
            stale
        };
        Ok(Condemned { stale, guard, freed, changed, inventory })
    }

    /// Lets the entry be, because its content could not be seen.
    pub fn fail(self, failure: Failure) -> Reprieve {
        self.claim.fail(failure)
    }

    /// Lets the entry be, because the pass was stopped before its content was seen.
    pub fn stop(self) -> Reprieve {
        Reprieve::of(self.claim.stale, Off::Unreached)
    }
}

/// What a look into an entry found.
#[derive(Debug, Default)]
pub struct Content {
    /// The newest use of anything in a directory.
    pub newest: Option<Moment>,
    /// Why it must stay, if it must.
    pub spared: Option<Spared>,
    /// What removing it gives back.
    pub freed: Freed,
    /// The newest ctime of anything in a directory: what has a newer one came or was changed since.
    pub changed: Option<Moment>,
    /// What a directory holds, if that is little.
    pub inventory: Option<Box<Inventory>>,
}

/// What the disk gets back for a removal.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Freed {
    /// Blocks that nothing else refers to.
    pub bytes: Bytes,
    /// Files that have other names too: they give their blocks back with the last of them.
    pub linked: Vec<Linked>,
}

/// A file with more than one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linked {
    /// Which file.
    pub id: FileId,
    /// How many names it has.
    pub links: u64,
    /// What it occupies.
    pub allocated: Bytes,
}

impl Freed {
    /// Adds one thing that goes.
    pub fn add(&mut self, facts: &Facts) {
        // A directory's link count says how many directories are in it, not how many names it has.
        if facts.links <= 1 || facts.kind == retention::Kind::Dir {
            self.bytes += facts.allocated;
        } else {
            let Facts { id, links, allocated, .. } = *facts;
            self.linked.push(Linked { id, links, allocated });
        }
    }

    /// Adds what else goes.
    pub fn join(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.linked.extend(other.linked);
    }
}

/// An entry that may be removed now: it was judged twice, the second time under the lock that it
/// still holds.
#[derive(Debug)]
pub struct Condemned {
    stale: Stale,
    guard: Guard,
    freed: Freed,
    changed: Option<Moment>,
    inventory: Option<Box<Inventory>>,
}

impl Condemned {
    /// What is condemned, with the facts of the second look.
    pub const fn stale(&self) -> &Stale {
        &self.stale
    }

    /// The locked object, where there is one.
    pub const fn object(&self) -> Option<&File> {
        self.guard.object.as_ref()
    }

    /// Whether its lock still holds. To be asked as the last thing before the removal.
    pub fn lasts(&self) -> bool {
        self.guard.lease.as_ref().is_none_or(|lease| lease.lasts())
    }

    /// The newest ctime that the second look saw in a directory.
    pub const fn changed(&self) -> Option<Moment> {
        self.changed
    }

    /// What the second look saw in a small directory.
    pub fn inventory(&self) -> Option<&Inventory> {
        self.inventory.as_deref()
    }

    /// What the second look says its removal gives back.
    pub const fn freed(&self) -> &Freed {
        &self.freed
    }

    /// It is gone, by us. The lock is given back here, after the removal.
    pub fn removed(self, freed: Bytes) -> Removed {
        Removed { stale: self.stale, freed }
    }

    /// We tried and the system said no, or the entry was used while we were at it; `freed` is what
    /// was removed of it by then.
    pub fn not_removed(self, why: Off, freed: Bytes) -> Reprieve {
        Reprieve { stale: self.stale, why, freed, newest: None }
    }
}

/// An entry that is gone, by us.
#[derive(Debug)]
pub struct Removed {
    /// What it was.
    pub stale: Stale,
    /// What the disk got back.
    pub freed: Bytes,
}

/// A stale entry that stays after all.
#[derive(Debug)]
pub struct Reprieve {
    /// What it is.
    pub stale: Stale,
    /// Why it stays.
    pub why: Off,
    /// What the disk got back all the same: a tree can be removed in part.
    pub freed: Bytes,
    /// The newest use that was seen in it, as far as it was walked.
    pub newest: Option<Moment>,
}

impl Reprieve {
    /// For an entry that nothing was done to.
    pub const fn of(stale: Stale, why: Off) -> Self {
        Self { stale, why, freed: Bytes(0), newest: None }
    }
}

/// How a stale entry leaves the line before its end.
#[derive(Debug)]
pub enum Off {
    /// It must not go now.
    Spared(Spared),
    /// We tried and the system said no.
    Failed(Failure),
    /// The pass was stopped first; nothing was done to it.
    Unreached,
    /// The lock backend cannot be used: nothing more may be claimed in its zone.
    NoLock(String),
}

/// Why a stale entry is spared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Spared {
    /// Somebody holds a lock on it.
    Busy,
    /// Somebody has it open, or something in it.
    InUse,
    /// It was used between the two looks.
    Used,
    /// Another file has its name by now.
    Replaced,
    /// It vanished without us.
    Gone,
    /// Something is mounted in it.
    Mounted,
}

impl Spared {
    /// Every reason, in the order of the report.
    pub const ALL: [Self; 6] =
        [Self::Busy, Self::InUse, Self::Used, Self::Replaced, Self::Gone, Self::Mounted];

    /// The reason's name in the report.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::InUse => "in_use",
            Self::Used => "used",
            Self::Replaced => "replaced",
            Self::Gone => "gone",
            Self::Mounted => "mounted",
        }
    }
}

/// The system said no: what we were doing, to which path, and what it said.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {path:?}: {error}{}", hint.as_ref().map(|h| format!("; {h}")).unwrap_or_default())]
pub struct Failure {
    /// The zone it happened in.
    pub zone: Zone,
    /// What we were doing, in a word or two.
    pub doing: &'static str,
    /// To what.
    pub path: PathBuf,
    /// What the system said.
    pub error: io::Error,
    /// What the user can do about it, where we know.
    pub hint: Option<String>,
}

/// What became of an entry.
#[derive(Debug)]
pub enum Fate<'a> {
    /// It is gone, by us; in a rehearsal it would be.
    Removed,
    /// The first look kept it.
    Kept(Kept),
    /// It was stale and is spared.
    Spared(Spared),
    /// We tried and the system said no.
    Failed(&'a Failure),
}

/// What the first look at a name gives.
#[derive(Debug)]
pub enum Seen<'a> {
    /// Something is there.
    Entry(Sighting<'a>),
    /// It was listed, and vanished before it was looked at.
    Gone(&'a Place, &'a CStr),
    /// It could not be looked at; with the name, unless a whole directory could not be read.
    Failed(&'a Place, Option<&'a CStr>, Failure),
}

/// Whether a zone has more to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum More {
    /// Ask again.
    Yes,
    /// That was all.
    No,
}

/// How far one handful of names has brought a worker.
#[derive(Debug)]
pub struct Step<'s> {
    /// Whether there are more.
    pub more: More,
    /// The directory that the names came from.
    pub root: Option<&'s Place>,
    /// How many there were.
    pub names: u64,
}

/// The volume, as the line sees it. Nothing but [`Disk::remove`] may change anything on it.
pub trait Disk: Sync {
    /// A zone being read, by several workers at once.
    type Scan: Sync;

    /// Opens a zone for reading; `None` when the volume does not have it.
    ///
    /// # Errors
    /// The zone is there and cannot be entered.
    fn open_zone(&self, zone: Zone) -> Result<Option<Self::Scan>, Failure>;

    /// Takes the next handful of names, `buffer` giving the room, and tells `each` what is there.
    fn sight<'s>(
        &self,
        scan: &'s Self::Scan,
        buffer: &mut Vec<u8>,
        each: &mut impl FnMut(Seen<'_>),
    ) -> Step<'s>;

    /// Asked when every zone was read: whether they are to be opened once more, because there is more
    /// to see in them than one opening showed.
    fn another_round(&self) -> More {
        More::No
    }

    /// Looks again, under the lock, at what the name leads to, and into it.
    ///
    /// # Errors
    /// The entry stays, with the reason.
    fn look_again(&self, claim: Claim, now: Moment) -> Result<Condemned, Reprieve>;

    /// Removes it. The token is spent; its lock is given back after the removal.
    ///
    /// # Errors
    /// The entry stays, whole or in part, with the reason.
    fn remove(&self, condemned: Condemned, now: Moment) -> Result<Removed, Reprieve>;

    /// What the user should know about how a zone was read, each thing said once.
    fn notes(&self, zone: Zone) -> Vec<String>;
}

/// The locks that keep exporters and us apart.
pub trait Locks: Sync {
    /// Asks, before a zone is read, whether its locks can be had.
    ///
    /// # Errors
    /// Why not: the zone is left alone.
    fn ready(&self, zone: Zone) -> Result<(), String>;

    /// Takes the locks of a batch, each derived from the entry it covers, and hands every claim or
    /// refusal to `each`, in any order and one at a time. Waits for none of them.
    fn claim(&self, batch: Vec<Stale>, each: &mut dyn FnMut(Result<Claim, Reprieve>));

    /// What the user should know about the locks of a zone.
    fn notes(&self, zone: Zone) -> Vec<String>;
}
