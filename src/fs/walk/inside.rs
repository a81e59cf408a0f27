//! Whether the directories that a walk is in are still in the tree.
//!
//! This module must not change anything. A directory that another process moves elsewhere takes the walk along, and
//! what it holds is not part of the tree from then on. So a walk that removes checks this before every
//! buffer of names.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::io::Errno;

use super::super::error::is_gone;
use super::super::open;
use super::super::stat::{self, Freshness};
use super::visit::{Break, EntryRef, Flow, Visit};
use super::{KEPT_OPEN, Walk};
use crate::control::Control;
use crate::rules::Action;

/// Up to how many closed directories are checked before every buffer of names. More of them are checked
/// that much less often, so that the cost of a very deep tree stays in proportion.
const CHECKED_ALWAYS: usize = 64;

impl<V: Visit, C: Control> Walk<'_, V, C> {
    /// Makes sure that each of the first `count` directories, if it is open, is still in the one above it.
    pub(super) fn stay_inside(&mut self, count: usize) -> Flow {
        let tree = self.shared.tree;
        // Open are the topmost directories and the last one.
        let last = self.frames.len().saturating_sub(1);
        for at in (0..last.min(KEPT_OPEN + 1)).chain([last]).take_while(|at| *at < count) {
            let above =
                at.checked_sub(1).map_or(tree.parent_id, |above| self.frames[above].metadata.id);
            if let Some(handle) = self.frames.get(at).and_then(|frame| frame.handle.as_ref()) {
                let is_inside = match stat::at(handle, c"..", tree.mount, Freshness::Synced) {
                    Ok(metadata) => metadata.id == above,
                    // Another process removed it, so it stays empty.
                    Err(error) if is_gone(&error) => true,
                    Err(error) => {
                        let error = self.at(at).error(Action::OpenParent, error);
                        return ControlFlow::Break(Break::Failed(error));
                    }
                };
                if !is_inside {
                    return self.moved_away(at);
                }
            }
        }
        let closed = self.frames.len().saturating_sub(KEPT_OPEN + 2);
        self.unchecked += 1;
        if closed > 0 && self.unchecked > closed / CHECKED_ALWAYS {
            self.unchecked = 0;
            match self.closed_are_inside() {
                Ok(true) => {}
                Ok(false) => return self.moved_away(last),
                Err(error) => {
                    let at = self.at(last);
                    return ControlFlow::Break(Break::Failed(at.error(Action::OpenParent, error)));
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Ends a walk whose directory at `at` was moved elsewhere.
    fn moved_away(&self, at: usize) -> Flow {
        let mut error = self.at(at).error(Action::OpenParent, Errno::STALE);
        error.hint = Some("another process moved it out of the tree".to_owned());
        ControlFlow::Break(Break::Failed(error))
    }

    /// The directory at `at`, for an error.
    fn at(&self, at: usize) -> EntryRef<'_> {
        let tree = self.shared.tree;
        let (name, trail) = (&self.trail[at], &self.trail[..at]);
        EntryRef { dir: tree.parent.as_fd(), name, trail, base: tree.path }
    }

    /// The same for the directories that are closed: from the last one up, step by step.
    ///
    /// # Errors
    /// The system does not tell.
    fn closed_are_inside(&self) -> io::Result<bool> {
        let Some((last, above)) = self.frames.split_last() else { return Ok(true) };
        let Some(handle) = &last.handle else { return Ok(true) };
        let mut below = None;
        for frame in above.iter().rev() {
            let up = match open::parent(below.as_ref().unwrap_or(handle)).map(Arc::new) {
                Ok(up) => up,
                // Another process removed it, so it stays empty.
                Err(error) if is_gone(&error) => return Ok(true),
                Err(error) => return Err(error),
            };
            if stat::handle(&up, self.shared.tree.mount)?.id != frame.metadata.id {
                return Ok(false);
            }
            if frame.handle.is_some() {
                break;
            }
            below = Some(up);
        }
        Ok(true)
    }
}
