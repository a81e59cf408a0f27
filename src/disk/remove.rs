//! The only file that deletes.
//!
//! It must not remove anything but what a [`Condemned`] names, one component at a time from the
//! directory it was seen in. In a tree each entry is looked at once more before it goes, unless it was a
//! few milliseconds ago ([`super::tree`] says when), and once the removal takes longer than [`PROBED`] it
//! is asked once more who has it open: a big tree takes a while, and what was used since the survey ends
//! the removal. What then survives, and what survives a failure or a stop, gets the mtime back that our
//! removals in it moved, or the next pass would take the remains for fresh.

use std::ffi::CStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Timespec, Timestamps, UTIME_OMIT, futimens, unlinkat};
use rustix::io::Errno;

use super::in_use::InUse;
use super::ledger::Ledger;
use super::tree::{self, Halt, Left, Means, Next, Spot, Trace, Visit};
use super::{InUseProbe, Note, Notes, survey};
use crate::condemn::{Condemned, Failure, Freed, Off, Removed, Reprieve, Spared, Stale};
use crate::look::{self, Freshness};
use crate::retention::{Bytes, Facts, Kind, Moment};

/// For how long the survey's answers about who has a file open are taken to hold.
const PROBED: Duration = Duration::from_millis(50);

/// Removes what is condemned.
pub(super) fn remove(
    condemned: Condemned,
    now: Moment,
    probe: InUseProbe,
    ledger: &Ledger,
    notes: &Notes,
    means: Means<'_>,
) -> Result<Removed, Reprieve> {
    let stale = condemned.stale();
    if stale.facts().kind == Kind::Dir {
        let Some(top) = condemned.object() else {
            let why = Off::Failed(failed(stale, io::Error::other("the directory is not open")));
            return Err(condemned.not_removed(why, Bytes(0)));
        };
        // Removing one name of a file changes the file, which has others.
        let changed = condemned.changed().filter(|_| condemned.freed().linked.is_empty());
        let mut remover = Remover::new(stale, now, probe, Instant::now(), changed);
        let walked = tree::walk(stale, top, condemned.inventory(), means, &mut remover);
        if remover.in_other_hands && remover.removed > 0 {
            notes.say(stale.zone(), Note::UsedMeanwhile);
        }
        let why = remover.outcome(walked);
        let freed = ledger.charge(&remover.freed);
        return match why {
            None => Ok(condemned.removed(freed)),
            Some(why) => Err(condemned.not_removed(why, freed)),
        };
    }
    match unlinkat(&stale.place().handle, stale.name(), AtFlags::empty()) {
        Ok(()) => {
            let freed = ledger.charge(condemned.freed());
            Ok(condemned.removed(freed))
        }
        Err(Errno::NOENT) => Err(condemned.not_removed(Off::Spared(Spared::Gone), Bytes(0))),
        // A directory has its name by now.
        Err(Errno::ISDIR) => Err(condemned.not_removed(Off::Spared(Spared::Replaced), Bytes(0))),
        Err(error) => {
            let why = Off::Failed(failed(stale, error.into()));
            Err(condemned.not_removed(why, Bytes(0)))
        }
    }
}

fn failed(stale: &Stale, error: io::Error) -> Failure {
    let place = stale.place();
    look::failure(place, &place.handle, "unlink", Some(stale.name()), error)
}

/// Removes a tree from the leaves up.
struct Remover<'a> {
    stale: &'a Stale,
    now: Moment,
    probe: InUseProbe,
    /// When the survey had ended.
    surveyed: Instant,
    /// The newest ctime that the survey saw, if what is newer was changed by somebody else.
    changed: Option<Moment>,
    /// Names removed so far.
    removed: u64,
    freed: Freed,
    /// How many levels from the top hold something that could not be removed.
    kept_levels: usize,
    first_failure: Option<Failure>,
    /// It was a directory's own mtime that ended the removal.
    in_other_hands: bool,
    spared: Option<Spared>,
}

impl<'a> Remover<'a> {
    fn new(
        stale: &'a Stale,
        now: Moment,
        probe: InUseProbe,
        surveyed: Instant,
        changed: Option<Moment>,
    ) -> Self {
        Self {
            stale,
            now,
            probe,
            surveyed,
            changed,
            removed: 0,
            freed: Freed::default(),
            kept_levels: 0,
            first_failure: None,
            in_other_hands: false,
            spared: None,
        }
    }

    /// Why the tree is still there; nothing when it is gone.
    fn outcome(&mut self, walked: Result<(), Halt>) -> Option<Off> {
        match (walked, self.spared) {
            (Ok(()), None) => self.first_failure.take().map(Off::Failed),
            (Err(Halt::Failed(failure)), _) => Some(Off::Failed(failure)),
            // Somebody else was faster, and has left us nothing more to do.
            (_, Some(Spared::Gone)) => Some(Off::Spared(Spared::Gone)),
            (_, Some(spared)) if self.removed == 0 || self.in_other_hands => {
                Some(Off::Spared(spared))
            }
            (_, Some(spared)) => Some(self.in_part(Errno::BUSY, spared.key())),
            (Err(_), None) if self.removed == 0 => Some(Off::Unreached),
            (Err(_), None) => Some(self.in_part(Errno::INTR, "stopped; the next pass goes on")),
        }
    }

    /// Some of the tree is gone and the rest stays: nothing to be silent about.
    fn in_part(&self, error: Errno, why: &str) -> Off {
        let mut failure = failed(self.stale, error.into());
        failure.doing = "remove all of";
        failure.hint = Some(format!("{why}, after {} of its entries were removed", self.removed));
        Off::Failed(failure)
    }

    fn spare(&mut self, why: Spared) -> Result<(), Halt> {
        self.spared = Some(why);
        Err(Halt::Enough)
    }

    /// Removes what is not a directory. Whether it was there for us to remove.
    fn unlink(&mut self, at: &Spot<'_>) -> bool {
        match unlinkat(at.dir, at.name, AtFlags::empty()) {
            Ok(()) => {
                self.removed += 1;
                return true;
            }
            // NOENT: somebody else was faster. ISDIR: replaced by a directory; the tree's removal will
            // find it not empty and look.
            Err(Errno::NOENT | Errno::ISDIR) => {}
            Err(error) => self.keep(at, at.failure("unlink", error)),
        }
        false
    }

    fn is_fresh(&self, facts: &Facts) -> bool {
        self.stale.limit().is_fresh(facts, self.now)
    }

    /// The survey's judgement, once more, before anything of it goes. What was moved here since has the
    /// times that it had, but not its ctime.
    fn relook(&mut self, facts: &Facts) -> Result<(), Halt> {
        // With no link left somebody else removes it at this very moment, and the unlink will find it gone.
        let came = facts.links > 0 && self.changed.is_some_and(|newest| facts.ctime > newest);
        if came || self.is_fresh(facts) { self.spare(Spared::Used) } else { Ok(()) }
    }

    /// A directory was gone before we came to it.
    fn vanished(&mut self, level: usize) -> Result<Next, Halt> {
        if level == 0 {
            self.spare(Spared::Gone)?;
        }
        Ok(Next::Up)
    }

    fn keep(&mut self, at: &Spot<'_>, failure: Failure) {
        self.kept_levels = self.kept_levels.max(at.depth());
        self.first_failure.get_or_insert(failure);
    }
}

impl Visit for Remover<'_> {
    const REMOVES: bool = true;

    fn fork(&self) -> Self {
        let Self { stale, now, probe, surveyed, changed, .. } = *self;
        Self::new(stale, now, probe, surveyed, changed)
    }

    /// In several directories at once only if ctimes tell what is moved into one of them meanwhile: the
    /// directory's own mtime tells nothing any more once the first name of it is gone.
    fn forks_dirs(&self) -> bool {
        self.changed.is_some()
    }

    fn join(&mut self, other: Self) {
        self.removed += other.removed;
        self.freed.join(other.freed);
        self.kept_levels = self.kept_levels.max(other.kept_levels);
        self.first_failure = self.first_failure.take().or(other.first_failure);
        self.in_other_hands |= other.in_other_hands;
        self.spared = self.spared.or(other.spared);
    }

    fn enter(
        &mut self,
        _name: &CStr,
        _handle: &Arc<OwnedFd>,
        facts: &Facts,
        _trace: Trace,
    ) -> Result<(), Halt> {
        // Somebody has put something there, with old times perhaps, or removes what is in it as we do.
        // Either way others are at work here.
        self.in_other_hands = self.is_fresh(facts);
        self.relook(facts)
    }

    fn entry(
        &mut self,
        at: &Spot<'_>,
        facts: &Facts,
        _opened: Option<OwnedFd>,
    ) -> Result<(), Halt> {
        self.relook(facts)?;
        let is_file = facts.kind == Kind::File && self.probe == InUseProbe::On;
        if is_file && self.surveyed.elapsed() > PROBED {
            match survey::in_use_at(at, facts.links)? {
                InUse::Free | InUse::Unknown => {}
                InUse::Open => return self.spare(Spared::InUse),
                InUse::Locked => return self.spare(Spared::Busy),
            }
        }
        if self.unlink(at) {
            self.freed.add(facts);
        }
        Ok(())
    }

    fn recalled(&mut self, at: &Spot<'_>, allocated: Bytes) -> Result<(), Halt> {
        if self.unlink(at) {
            self.freed.bytes += allocated;
        }
        Ok(())
    }

    fn leave(&mut self, at: &Spot<'_>, left: &Left<'_>) -> Result<Next, Halt> {
        let level = at.depth();
        if level < self.kept_levels {
            self.kept_levels = level;
            self.abandon(left);
            return Ok(Next::Up);
        }
        // By its name, so the name is looked at: somebody may have put another directory there.
        match look::at(at.dir, at.name, self.stale.place().mount, Freshness::Synced) {
            Ok(facts) if facts.id == left.facts.id => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.vanished(level);
            }
            Ok(_) | Err(_) => self.spare(Spared::Replaced)?,
        }
        match unlinkat(at.dir, at.name, AtFlags::REMOVEDIR) {
            Ok(()) => {
                self.removed += 1;
                self.freed.add(left.facts);
                Ok(Next::Up)
            }
            Err(Errno::NOENT) => self.vanished(level),
            // Something came, or the listing skipped something because we removed its neighbors.
            Err(Errno::NOTEMPTY | Errno::EXIST) if self.removed > left.before => Ok(Next::Again),
            Err(error) => {
                self.abandon(left);
                self.keep(at, at.failure("rmdir", error));
                Ok(Next::Up)
            }
        }
    }

    fn mounted(&mut self, _at: &Spot<'_>) -> Result<(), Halt> {
        self.spare(Spared::Mounted)
    }

    fn lost(&mut self) -> Result<(), Halt> {
        self.spare(Spared::Gone)
    }

    fn trouble(&mut self, at: &Spot<'_>, failure: Failure) -> Result<(), Halt> {
        self.keep(at, failure);
        Ok(())
    }

    fn progress(&self) -> u64 {
        self.removed
    }

    fn abandon(&mut self, left: &Left<'_>) {
        if self.removed > left.entered {
            // Where it is refused the remains look fresh for one more term: late, not wrong.
            let _ = put_mtime_back(left.handle, left.facts);
        }
    }
}

/// The mtime alone: we have not moved the atime, and if somebody else has, that is theirs.
fn put_mtime_back(handle: BorrowedFd<'_>, facts: &Facts) -> rustix::io::Result<()> {
    let (secs, nanos) = (facts.mtime.unix_secs(), facts.mtime.subsec_nanos());
    let last_modification = Timespec { tv_sec: secs, tv_nsec: nanos.into() };
    let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    futimens(handle, &Timestamps { last_access, last_modification })
}
