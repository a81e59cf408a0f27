//! What a tree says of itself, under its lock: the newest use of anything in it, what its removal
//! gives back, and whether it must stay.
//!
//! It must not change anything. It stops at the first thing that settles the matter: something
//! fresh, something in use, something mounted.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustix::io::Errno;

use super::InUseProbe;
use super::in_use::{self, InUse};
use super::tree::{self, Halt, Left, Means, Next, Spot, Trace, Visit};
use crate::condemn::{Content, Failure, Inventory, Spared, Stale};
use crate::look;
use crate::retention::{Facts, Kind, Moment};

/// What one walk found.
pub(super) struct Survey<'a> {
    stale: &'a Stale,
    now: Moment,
    probe: InUseProbe,
    pub(super) content: Content,
    /// The system did not tell of some file whether it is in use.
    pub(super) in_use_unknown: bool,
    /// A directory was read whose access time may have moved.
    pub(super) atime_moved: bool,
}

impl<'a> Survey<'a> {
    /// Surveys the tree that `stale` names, whose top directory is open as `top`.
    ///
    /// # Errors
    /// Something in it could not be seen, so nothing is known of its age; or the pass is stopped.
    pub(super) fn of(
        stale: &'a Stale,
        top: &File,
        now: Moment,
        probe: InUseProbe,
        means: Means<'_>,
    ) -> Result<Self, Halt> {
        let mut survey = Self::new(stale, now, probe);
        let end = Instant::now() + tree::HOLDS;
        survey.content.inventory = Some(Box::new(Inventory::until(end)));
        match tree::walk(stale, top, None, means, &mut survey) {
            Ok(()) | Err(Halt::Enough) => Ok(survey),
            Err(halt) => Err(halt),
        }
    }

    fn new(stale: &'a Stale, now: Moment, probe: InUseProbe) -> Self {
        let content = Content::default();
        Self { stale, now, probe, content, in_use_unknown: false, atime_moved: false }
    }

    /// Takes one thing into account; what is fresh ends the walk.
    fn count(&mut self, facts: &Facts) -> Result<(), Halt> {
        let limit = self.stale.limit();
        let used = limit.clock.read(facts);
        self.content.newest = self.content.newest.max(Some(used));
        // A ctime moves, too, when the last name goes: nothing of the tree has been seen there.
        if facts.links > 0 {
            self.content.changed = self.content.changed.max(Some(facts.ctime));
        }
        self.content.freed.add(facts);
        if limit.is_fresh(facts, self.now) { self.spare(Spared::Used) } else { Ok(()) }
    }

    /// Adds to the inventory, or gives it up if that was too much.
    fn remember(&mut self, add: impl FnOnce(&mut Inventory) -> bool) {
        if self.content.inventory.as_deref_mut().is_some_and(|inventory| !add(inventory)) {
            self.content.inventory = None;
        }
    }

    fn spare(&mut self, why: Spared) -> Result<(), Halt> {
        self.content.spared = Some(why);
        Err(Halt::Enough)
    }

    fn ask_in_use(
        &mut self,
        at: &Spot<'_>,
        links: u64,
        opened: Option<OwnedFd>,
    ) -> Result<(), Halt> {
        let answer = match opened {
            Some(handle) if links == 1 => in_use::probe(&File::from(handle), links),
            // A handle that we have through one of its names is closed before another is opened.
            other => {
                drop(other);
                in_use_at(at, links)?
            }
        };
        match answer {
            InUse::Free => Ok(()),
            InUse::Open => self.spare(Spared::InUse),
            InUse::Locked => self.spare(Spared::Busy),
            InUse::Unknown => {
                self.in_use_unknown = true;
                Ok(())
            }
        }
    }
}

/// Files with several names are asked about one at a time: through two names at once, two workers of
/// ours would take each other for somebody else. (One that comes to look has such a file open, too, but
/// closes it before it waits for its turn to ask.)
static LINKED: Mutex<()> = Mutex::new(());

/// Whether anybody uses the regular file at this spot.
pub(super) fn in_use_at(at: &Spot<'_>, links: u64) -> Result<InUse, Halt> {
    let _turn = (links > 1).then(|| LINKED.lock().unwrap_or_else(PoisonError::into_inner));
    match look::open_file(at.dir, at.name) {
        Ok(handle) => Ok(in_use::probe(&File::from(handle), links)),
        // Gone, or something else by now: the removal looks at it once more.
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => Ok(InUse::Free),
        // Somebody else's lease, or a program being written or run.
        Err(Errno::WOULDBLOCK | Errno::TXTBSY) => Ok(InUse::Open),
        Err(Errno::ACCESS | Errno::PERM) => Ok(InUse::Unknown),
        Err(error) => Err(Halt::Failed(at.failure("open", error))),
    }
}

impl Visit for Survey<'_> {
    fn fork(&self) -> Self {
        let Self { stale, now, probe, .. } = *self;
        Self::new(stale, now, probe)
    }

    fn join(&mut self, other: Self) {
        let Self { content, in_use_unknown, atime_moved, .. } = other;
        let Content { newest, spared, freed, changed, .. } = content;
        self.content.newest = self.content.newest.max(newest);
        self.content.changed = self.content.changed.max(changed);
        self.content.spared = self.content.spared.or(spared);
        self.content.freed.join(freed);
        // Not all of it was seen by one walk.
        self.content.inventory = None;
        self.in_use_unknown |= in_use_unknown;
        self.atime_moved |= atime_moved;
    }

    fn enter(
        &mut self,
        name: &CStr,
        handle: &Arc<OwnedFd>,
        facts: &Facts,
        trace: Trace,
    ) -> Result<(), Halt> {
        self.atime_moved |= trace == Trace::Atime;
        // The top is what our own lock is on.
        let is_top = facts.id == self.stale.facts().id;
        self.count(facts)?;
        // Whoever works in a directory may hold it: `sweeper hold`, `flock(1)`.
        if !is_top && self.probe == InUseProbe::On && in_use::is_held(handle) {
            return self.spare(Spared::Busy);
        }
        self.remember(|inventory| inventory.enter(name, handle, facts));
        Ok(())
    }

    fn opens_files(&self) -> bool {
        self.probe == InUseProbe::On
    }

    fn entry(&mut self, at: &Spot<'_>, facts: &Facts, opened: Option<OwnedFd>) -> Result<(), Halt> {
        self.count(facts)?;
        if facts.kind == Kind::File && self.probe == InUseProbe::On {
            self.ask_in_use(at, facts.links, opened)?;
        }
        self.remember(|inventory| inventory.add(at.name, facts));
        Ok(())
    }

    fn leave(&mut self, _at: &Spot<'_>, _left: &Left<'_>) -> Result<Next, Halt> {
        if let Some(inventory) = &mut self.content.inventory {
            inventory.leave();
        }
        Ok(Next::Up)
    }

    fn mounted(&mut self, _at: &Spot<'_>) -> Result<(), Halt> {
        self.spare(Spared::Mounted)
    }

    fn lost(&mut self) -> Result<(), Halt> {
        self.spare(Spared::Gone)
    }

    fn trouble(&mut self, _at: &Spot<'_>, failure: Failure) -> Result<(), Halt> {
        Err(Halt::Failed(failure))
    }
}
