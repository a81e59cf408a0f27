//! A tree in `remove`: opened, locked and looked at as a whole.
//!
//! This module must not change anything: a dry run does the same.

use std::ffi::{CStr, CString};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{FlockOperation, RawDir, flock};
use rustix::io::Errno;

use super::super::check::{Known, TreeCheck};
use super::super::linked::NONE;
use super::super::quarantine::Stage;
use super::super::tree_remover::Stays;
use super::rest::Found;
use crate::control::Control;
use crate::fs::lease::InUseProbe;
use crate::fs::list::is_dot;
use crate::fs::open::{self, Across};
use crate::fs::stat;
use crate::fs::walk::{self, Break, WalkContext};
use crate::protocol::MemberLeases;
use crate::rules::{Action, LockKind, Metadata, Moment, Rule};

/// A tree in `remove`, open.
pub(super) struct Tree<'a> {
    pub(super) name: &'a CStr,
    pub(super) top: OwnedFd,
    pub(super) metadata: Metadata,
    /// The path of `remove`.
    pub(super) path: PathBuf,
}

/// No file of it is under a lease: nothing has looked at it before.
static NO_LEASES: MemberLeases = MemberLeases::of_none();

impl Found {
    /// What is known about a tree in `remove`.
    pub(super) fn known(&self, tree: &Tree<'_>, rule: Rule, probe: InUseProbe) -> Known<'static> {
        Known {
            id: tree.metadata.id,
            mount: self.quarantine.mount(),
            file_system: self.quarantine.file_system(),
            rule,
            now: self.now,
            probe,
            members: &NO_LEASES,
            newest: None,
            ahead: &[],
            latest: Moment::LAST,
            linked: &NONE,
            interrupted: Some(self.interrupted),
            dirs: None,
        }
    }
}

/// Looks at what is left of a tree as a whole. Why it must not be removed, if so.
pub(super) fn check_leftover<C: Control>(
    control: &C,
    found: &Found,
    tree: &Tree<'_>,
    check: &mut TreeCheck<'_>,
) -> Option<Stays> {
    let id = tree.metadata.id;
    match walk::walk(&leftover(control, found, tree), tree.top.as_fd(), id, check) {
        ControlFlow::Continue(()) => None,
        // What cannot be looked at now may be what the removal failed at before.
        ControlFlow::Break(Break::Failed(error)) => Some(Stays::Failed(error)),
        ControlFlow::Break(Break::Stopped | Break::Elsewhere | Break::Enough) => {
            Some(check.skipped.map_or(Stays::Unreached, Stays::Skipped))
        }
    }
}

/// The walk through what is left of a tree.
pub(super) fn leftover<'t, C: Control>(
    control: &'t C,
    found: &'t Found,
    tree: &'t Tree<'_>,
) -> WalkContext<'t, C> {
    WalkContext {
        control,
        parent: found.quarantine.remove.as_fd(),
        parent_id: found.quarantine.remove_id,
        path: &tree.path,
        name: tree.name,
        mount: found.quarantine.mount(),
        file_system: found.quarantine.file_system(),
    }
}

/// Opens a tree in `remove`, and locks it as its removal had.
pub(super) fn open_tree<'a>(found: &Found, name: &'a CStr) -> Result<Tree<'a>, (Action, Errno)> {
    let Found { quarantine, .. } = found;
    let errno = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let top = open::dir(&quarantine.remove, name, Across::SameMount)
        .map_err(|error| (Action::Open, errno(error)))?
        .handle;
    if quarantine.zone().lock != LockKind::Unlocked {
        flock(&top, FlockOperation::NonBlockingLockExclusive).map_err(|e| (Action::Lock, e))?;
    }
    let metadata = stat::handle(&top, quarantine.mount());
    let metadata = metadata.map_err(|error| (Action::Stat, errno(error)))?;
    Ok(Tree { name, top, metadata, path: quarantine.path(Stage::Remove) })
}

/// The names in an open directory, or `most` of them.
pub(super) fn names(dir: impl AsFd, most: usize) -> rustix::io::Result<Vec<CString>> {
    let mut buffer = Vec::with_capacity(16 * 1024);
    let mut listing = RawDir::new(dir, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = listing.next() {
        let entry = entry?;
        if names.len() == most {
            break;
        }
        if !is_dot(entry.file_name()) {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}
