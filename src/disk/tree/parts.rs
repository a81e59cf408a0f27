//! The parts of a walk that has forked: what they share, and the names that they divide.
//!
//! It must not know how directories are reached, only who does what when there are several workers.

use std::ffi::CString;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::visit::{Halt, Spot, Visit};
use crate::condemn::{Inventory, Names, Stale};
use crate::look::{self, Freshness};
use crate::retention::Kind;
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
    /// What is known of the tree.
    pub(super) inventory: Option<&'a Inventory>,
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
        let workers = self.means.workers;
        if !workers.are_idle() {
            left(visitor)?;
            return right(visitor);
        }
        let noted = |part: Result<(), Halt>| {
            self.halted.fetch_or(part.is_err(), Ordering::Relaxed);
            part
        };
        let mut other = visitor.fork();
        let (left, right) = workers.halves(|| noted(left(visitor)), || noted(right(&mut other)));
        visitor.join(other);
        Halt::of_both(left, right)
    }
}

/// Visits some of the names in one directory, side by side with idle workers. Those that turn out to be
/// directories, which some file systems do not tell in their listings, are added to `dirs`.
pub(super) fn visit<V: Visit>(
    shared: &Shared<'_>,
    spot: Spot<'_>,
    names: &Names,
    dirs: &Mutex<Vec<CString>>,
    some: Range<usize>,
    visitor: &mut V,
) -> Result<(), Halt> {
    if some.len() > STRETCH {
        let middle = some.start.midpoint(some.end);
        return shared.fork(
            visitor,
            |visitor| visit(shared, spot, names, dirs, some.start..middle, visitor),
            |visitor| visit(shared, spot, names, dirs, middle..some.end, visitor),
        );
    }
    for at in some {
        let Some(name) = names.get(at) else { continue };
        if shared.halted.load(Ordering::Relaxed) {
            return Err(Halt::Elsewhere);
        }
        if V::REMOVES {
            shared.means.stop.pace(1);
        }
        visit_one(&Spot { name, ..spot }, names.is_file(at), dirs, visitor)?;
    }
    Ok(())
}

/// Looks at one name, of which a listing has said whether it is a regular file, and visits it.
pub(super) fn visit_one<V: Visit>(
    spot: &Spot<'_>,
    is_file: bool,
    dirs: &Mutex<Vec<CString>>,
    visitor: &mut V,
) -> Result<(), Halt> {
    let opens = is_file && visitor.opens_files();
    let opened = if opens { look::open_listed_file(spot.dir, spot.name) } else { None };
    let mount = spot.stale.place().mount;
    let seen = match &opened {
        Some(handle) => look::of_open(handle, mount),
        None => look::at(spot.dir, spot.name, mount, Freshness::Synced),
    };
    match seen {
        Ok(facts) if facts.mounted => visitor.mounted(spot),
        Ok(facts) if facts.kind == Kind::Dir => {
            dirs.lock().unwrap_or_else(PoisonError::into_inner).push(spot.name.to_owned());
            Ok(())
        }
        Ok(facts) => visitor.entry(spot, &facts, opened),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => visitor.trouble(spot, spot.failure("look at", error)),
    }
}
