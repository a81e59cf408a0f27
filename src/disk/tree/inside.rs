//! Whether the directories that a walk is in still lie in the tree.
//!
//! It must not change anything. A directory that somebody moves elsewhere takes the walk along, and what
//! it holds is none of ours from then on; so a walk that removes asks before every buffer of names.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::visit::{Halt, Spot, Visit};
use super::{KEPT_OPEN, Walk};
use crate::look::{self, Freshness};

/// How many closed directories are made sure of before every buffer of names; more of them, now and then.
const CHECKED_ALWAYS: usize = 64;
const CHECKED_EVERY: Duration = Duration::from_millis(50);

impl<V: Visit> Walk<'_, V> {
    /// Makes sure that each of the first `count` directories, if it is open, still lies in the one above
    /// it. Asked where something is about to go and nowhere else: 12 calls for a tree of 100 files, where
    /// asking at every step was 38.
    pub(super) fn stay_inside(&mut self, count: usize) -> Result<(), Halt> {
        let stale = self.shared.stale;
        // Open are the topmost ones and the last.
        let last = self.frames.len().saturating_sub(1);
        for at in (0..last.min(KEPT_OPEN + 1)).chain([last]).take_while(|at| *at < count) {
            let above =
                at.checked_sub(1).map_or(stale.place().id, |above| self.frames[above].facts.id);
            if let Some(handle) = self.frames.get(at).and_then(|frame| frame.handle.as_ref()) {
                let found = look::at(handle, c"..", stale.place().mount, Freshness::Synced);
                let is_inside = match found {
                    Ok(facts) => facts.id == above,
                    // It was removed by somebody else, and is empty for good.
                    Err(error) => error.kind() == io::ErrorKind::NotFound,
                };
                if !is_inside {
                    return Err(self.led_astray(at));
                }
            }
        }
        let closed = self.frames.len().saturating_sub(KEPT_OPEN + 2);
        if closed > 0 && (closed < CHECKED_ALWAYS || Instant::now() > self.check_due) {
            let start = Instant::now();
            let hold = self.closed_hold();
            // In a tree of very many levels no more than a quarter of the time goes into this.
            self.check_due = Instant::now() + CHECKED_EVERY.max(3 * start.elapsed());
            if !hold {
                return Err(self.led_astray(last));
            }
        }
        Ok(())
    }

    /// The end of a walk whose frame at `at` was moved elsewhere.
    fn led_astray(&self, at: usize) -> Halt {
        let (name, trail) = (&self.trail[at], &self.trail[..at]);
        let stale = self.shared.stale;
        let dir = stale.place().handle.as_fd();
        Halt::Failed(Spot::new(dir, name, trail, stale).failure("stay in", Errno::STALE))
    }

    /// The same for the directories that are closed: from the last one up, step by step.
    fn closed_hold(&self) -> bool {
        let Some((last, above)) = self.frames.split_last() else { return true };
        let Some(handle) = &last.handle else { return true };
        let mut below = None;
        for frame in above.iter().rev() {
            let up = look::open_parent(below.as_ref().unwrap_or(handle)).map(Arc::new);
            let up = match up {
                Ok(up) => up,
                // Removed by somebody else, and empty for good.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return true,
                Err(_) => return false,
            };
            let found = look::through(&up, self.shared.stale.place().mount);
            if !found.is_ok_and(|facts| facts.id == frame.facts.id) {
                return false;
            }
            if frame.handle.is_some() {
                break;
            }
            below = Some(up);
        }
        true
    }
}
