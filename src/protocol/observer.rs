//! Who is told what happens during a pass.
//!
//! This module must not change the course of a pass: its methods return nothing.

use super::{Directory, Outcome, Tally};
use crate::rules::ZoneName;

/// Is told what happens during a pass, by several workers at once.
pub trait Observer: Sync {
    /// A zone is about to be swept.
    fn on_zone(&self, zone: &ZoneName);
    /// An entry has its outcome. Others may still be locked by the same worker, so nothing may be waited for
    /// here: no terminal, no pipe.
    fn on_outcome(&self, outcome: &Outcome<'_>);
    /// Whether it is to be told of entries that the rules keep. They are most of the entries of a pass.
    fn wants_kept(&self) -> bool {
        true
    }
    /// The worker holds no lock now: what it told may be printed.
    fn on_unlocked(&self) {}
    /// A worker is done with `names` names from `root`, with these counts. It holds no lock.
    fn on_progress(&self, root: &Directory, names: u64, counts: &Tally);
}

/// Listens to nothing.
impl Observer for () {
    fn on_zone(&self, _zone: &ZoneName) {}
    fn on_outcome(&self, _outcome: &Outcome<'_>) {}
    fn wants_kept(&self) -> bool {
        false
    }
    fn on_progress(&self, _root: &Directory, _names: u64, _counts: &Tally) {}
}
