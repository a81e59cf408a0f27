//! The parts of a walk that has forked: what they share, and the names that they divide.
//!
//! It must not know how directories are reached, only who does what when there are several workers.

use std::ffi::{CStr, CString};
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::visit::{Halt, Spot, Visit};
use crate::condemn::Stale;
use crate::look::{self, Freshness};
use crate::retention::{FileId, Kind};
use crate::stop::Stop;
use crate::workers::Workers;

/// How many names one worker visits at a stretch.
const STRETCH: usize = 16;

/// How long a removal may go on after the pass was stopped.
const GRACE: Duration = Duration::from_millis(300);

/// What a walk is done with.
#[derive(Clone, Copy)]
pub(in crate::disk) struct Means<'a> {
    /// When to end early.
    pub(in crate::disk) stop: &'a Stop,
    /// Who may help.
    pub(in crate::disk) workers: &'a Workers,
}

/// What all parts of a walk share.
pub(super) struct Shared<'a> {
    pub(super) stale: &'a Stale,
    /// The directory that the tree lies in.
    pub(super) parent: FileId,
    pub(super) means: Means<'a>,
    /// When the walk was first seen to be stopped.
    pub(super) stopped: OnceLock<Instant>,
    /// One part has ended it for all.
    pub(super) halted: AtomicBool,
}

impl Shared<'_> {
    /// Whether the walk has to end here.
    pub(super) fn go_on<V: Visit>(&self) -> Result<(), Halt> {
        if self.halted.load(Ordering::Relaxed) {
            return Err(Halt::Elsewhere);
        }
        if self.means.stop.is_urgent() {
            let stopped = self.stopped.get_or_init(Instant::now);
            // The tree in hand is finished, unless that takes too long for whoever waits.
            if !V::REMOVES || stopped.elapsed() > GRACE {
                return Err(Halt::Stopped);
            }
        }
        Ok(())
    }

    /// Does two parts of the walk, side by side if another worker is idle.
    pub(super) fn fork<V: Visit>(
        &self,
        visitor: &mut V,
        left: impl FnOnce(&mut V) -> Result<(), Halt> + Send,
        right: impl FnOnce(&mut V) -> Result<(), Halt> + Send,
    ) -> Result<(), Halt> {
        let noted = |part: Result<(), Halt>| {
            self.halted.fetch_or(part.is_err(), Ordering::Relaxed);
            part
        };
        let mut other = visitor.fork();
        let workers = self.means.workers;
        let (left, right) = workers.halves(|| noted(left(visitor)), || noted(right(&mut other)));
        visitor.join(other);
        Halt::of_both(left, right)
    }
}

/// The names of a buffer that are to be visited, one after the other, each with its NUL.
#[derive(Default)]
pub(super) struct Names {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Those that turn out to be directories: some file systems do not tell kinds in their listings.
    pub(super) dirs: Mutex<Vec<CString>>,
}

impl Names {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    pub(super) const fn count(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn push(&mut self, name: &CStr) {
        self.bytes.extend_from_slice(name.to_bytes_with_nul());
        self.ends.push(self.bytes.len());
    }

    fn get(&self, at: usize) -> Option<&CStr> {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        CStr::from_bytes_with_nul(&self.bytes[start..self.ends[at]]).ok()
    }
}

/// Visits some of the names in one directory, side by side with idle workers.
pub(super) fn visit<V: Visit>(
    shared: &Shared<'_>,
    spot: Spot<'_>,
    names: &Names,
    some: Range<usize>,
    visitor: &mut V,
) -> Result<(), Halt> {
    if some.len() > STRETCH {
        let middle = some.start.midpoint(some.end);
        return shared.fork(
            visitor,
            |visitor| visit(shared, spot, names, some.start..middle, visitor),
            |visitor| visit(shared, spot, names, middle..some.end, visitor),
        );
    }
    for name in some.filter_map(|at| names.get(at)) {
        if shared.halted.load(Ordering::Relaxed) {
            return Err(Halt::Elsewhere);
        }
        if V::REMOVES {
            shared.means.stop.pace(1);
        }
        let spot = Spot { name, ..spot };
        match look::at(spot.dir, name, spot.stale.place().mount, Freshness::Synced) {
            Ok(facts) if facts.mounted => visitor.mounted(&spot)?,
            Ok(facts) if facts.kind == Kind::Dir => {
                names.dirs.lock().unwrap_or_else(PoisonError::into_inner).push(name.to_owned());
            }
            Ok(facts) => visitor.entry(&spot, &facts)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => visitor.trouble(&spot, spot.failure("look at", error))?,
        }
    }
    Ok(())
}
