//! The only file that deletes.
//!
//! It must not remove anything but what a [`Condemned`] names, one component at a time from the
//! directory it was seen in. In a tree each entry is looked at once more before it goes: a big tree
//! takes a while, and what was put there or used since the survey ends the removal. What then
//! survives, and what survives a failure or a stop, gets the times back that our removals around it
//! moved, or the next pass would take the remains for fresh.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Timespec, Timestamps, futimens, unlinkat};
use rustix::io::Errno;

use super::ledger::Ledger;
use super::tree::{self, Halt, Left, Next, Spot, Visit};
use crate::condemn::{Condemned, Failure, Freed, Off, Removed, Reprieve, Spared, Stale};
use crate::look;
use crate::retention::{Bytes, Facts, Kind, Moment};
use crate::stop::Stop;

/// Removes what is condemned.
pub(super) fn remove(
    condemned: Condemned,
    now: Moment,
    ledger: &Ledger,
    stop: &Stop,
) -> Result<Removed, Reprieve> {
    let stale = condemned.stale();
    if stale.facts().kind == Kind::Dir {
        let Some(top) = condemned.object() else {
            let why = Off::Failed(failed(stale, io::Error::other("the directory is not open")));
            return Err(condemned.not_removed(why, Bytes(0)));
        };
        let mut remover = Remover {
            stale,
            now,
            removed: 0,
            freed: Freed::default(),
            kept_levels: 0,
            first_failure: None,
            spared: None,
        };
        let walked = tree::walk(stale, top, stop, &mut remover);
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
    /// Names removed so far.
    removed: u64,
    freed: Freed,
    /// How many levels from the top hold something that could not be removed.
    kept_levels: usize,
    first_failure: Option<Failure>,
    spared: Option<Spared>,
}

impl Remover<'_> {
    /// Why the tree is still there; nothing when it is gone.
    fn outcome(&mut self, walked: Result<(), Halt>) -> Option<Off> {
        if let Some(spared) = self.spared {
            return Some(Off::Spared(spared));
        }
        match walked {
            Ok(()) => self.first_failure.take().map(Off::Failed),
            Err(Halt::Failed(failure)) => Some(Off::Failed(failure)),
            Err(Halt::Enough | Halt::Stopped) if self.removed == 0 => Some(Off::Unreached),
            Err(Halt::Enough | Halt::Stopped) => {
                let mut failure = failed(self.stale, Errno::INTR.into());
                failure.doing = "remove all of";
                failure.hint = Some(format!(
                    "stopped after {} of its entries; the next pass goes on",
                    self.removed
                ));
                Some(Off::Failed(failure))
            }
        }
    }

    fn unlink(&mut self, at: &Spot<'_>, facts: &Facts, how: AtFlags) -> Result<(), Errno> {
        match unlinkat(at.dir, at.name, how) {
            Ok(()) => {
                self.removed += 1;
                self.freed.add(facts);
                Ok(())
            }
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The survey's judgement, once more, before anything of it goes.
    fn relook(&mut self, facts: &Facts) -> Result<(), Halt> {
        if self.stale.limit().is_fresh(facts, self.now) {
            self.spared = Some(Spared::Used);
            return Err(Halt::Enough);
        }
        Ok(())
    }

    fn keep(&mut self, at: &Spot<'_>, failure: Failure) {
        self.kept_levels = self.kept_levels.max(at.depth());
        self.first_failure.get_or_insert(failure);
    }
}

impl Visit for Remover<'_> {
    const KEEPS_TIMES: bool = true;

    fn enter(&mut self, facts: &Facts, _leaves_trace: bool) -> Result<(), Halt> {
        self.relook(facts)
    }

    fn entry(&mut self, at: &Spot<'_>, facts: &Facts) -> Result<(), Halt> {
        self.relook(facts)?;
        match self.unlink(at, facts, AtFlags::empty()) {
            // ISDIR: replaced by a directory; the tree's removal will find it not empty and look.
            Ok(()) | Err(Errno::ISDIR) => Ok(()),
            Err(error) => {
                self.keep(at, at.failure("unlink", error));
                Ok(())
            }
        }
    }

    fn leave(&mut self, at: &Spot<'_>, left: &Left<'_>) -> Result<Next, Halt> {
        let level = at.depth();
        if level < self.kept_levels {
            self.kept_levels = level;
            self.abandon(left);
            return Ok(Next::Up);
        }
        match self.unlink(at, left.facts, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(Next::Up),
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
        self.spared = Some(Spared::Mounted);
        Err(Halt::Enough)
    }

    fn trouble(&mut self, at: &Spot<'_>, failure: Failure) -> Result<(), Halt> {
        self.keep(at, failure);
        Ok(())
    }

    fn progress(&self) -> u64 {
        self.removed
    }

    fn abandon(&mut self, left: &Left<'_>) {
        // Where it is refused the remains look fresh for one more term: late, not wrong.
        let _ = put_times_back(left.handle, left.facts);
    }
}

fn put_times_back(handle: BorrowedFd<'_>, facts: &Facts) -> rustix::io::Result<()> {
    let timespec = |moment: Moment| Timespec {
        tv_sec: moment.unix_secs(),
        tv_nsec: moment.subsec_nanos().into(),
    };
    let times =
        Timestamps { last_access: timespec(facts.atime), last_modification: timespec(facts.mtime) };
    futimens(handle, &times)
}
