//! Removes the members of a tree from the leaves up, each looked at immediately before.
//!
//! This module must not unlink by itself: [`super::unlink`] does.

use std::ffi::OsStr;
use std::fs::File;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::io::Errno;

use super::check::Known;
use super::kept::Kept;
use super::unlink::{remove_empty_directory, remove_file};
use crate::control::Control;
use crate::fs::PathError;
use crate::fs::error::is_gone;
use crate::fs::stat::{self, Freshness};
use crate::fs::walk::{self, Break, EntryRef, Flow, Leaving, Next, Visit, WalkContext};
use crate::protocol::{Freed, Skipped};
use crate::rules::names::is_removed_in_use;
use crate::rules::{Action, Metadata};

/// How often the removal of a tree begins again while another process removes the same tree.
const WALKS: usize = 64;

/// Why a tree stays, or the rest of it.
pub(super) enum Stays {
    Failed(PathError),
    Skipped(Skipped),
    Unreached,
}

/// Removes a tree from the leaves up.
pub(super) struct TreeRemover<'a> {
    known: Known<'a>,
    /// Names removed so far.
    pub(super) removed: u64,
    pub(super) freed: Freed,
    kept: Kept,
    skipped: Option<Skipped>,
}

impl<'a> TreeRemover<'a> {
    pub(super) fn new(known: Known<'a>) -> Self {
        Self { known, removed: 0, freed: Freed::default(), kept: Kept::default(), skipped: None }
    }

    /// Why the tree is still there; `None` when it is gone.
    fn result(&mut self, walked: Flow) -> Option<Stays> {
        match (walked, self.skipped) {
            (ControlFlow::Continue(()), None) => self.kept.take_first().map(Stays::Failed),
            (ControlFlow::Break(Break::Failed(error)), _) => Some(Stays::Failed(error)),
            (_, Some(why)) => Some(Stays::Skipped(why)),
            (ControlFlow::Break(_), None) => Some(Stays::Unreached),
        }
    }

    /// Walks through the tree once. Why something in it stays, if so.
    pub(super) fn walk<C: Control>(
        &mut self,
        tree: &WalkContext<'_, C>,
        top: BorrowedFd<'_>,
    ) -> Option<Stays> {
        self.known.linked.begin();
        let walked = walk::walk(tree, top, self.known.id, self);
        self.result(walked)
    }

    /// Walks through the tree until it is gone or something in it stays. Where another process that removes the
    /// same tree removes the directory that a walk is in, the walk is lost and begins again with what is left.
    pub(super) fn until_gone<C: Control>(
        &mut self,
        tree: &WalkContext<'_, C>,
        top: &File,
    ) -> Option<Stays> {
        for _ in 0..WALKS {
            let why = self.walk(tree, top.as_fd())?;
            if !matches!(why, Stays::Skipped(Skipped::Gone))
                || !stat::exists(tree.parent, tree.name)
            {
                return Some(why);
            }
            self.kept = Kept::default();
            self.skipped = None;
        }
        Some(Stays::Failed(never_gone(tree)))
    }

    fn skip(&mut self, why: Skipped) -> Flow {
        self.skipped = Some(why);
        ControlFlow::Break(Break::Enough)
    }

    /// Locks a directory. A process that works in it can lock it at any time: `sweeper hold`. From here on it cannot, as long
    /// as the directory stays open.
    fn lock(&mut self, dir: &OwnedFd, depth: usize) -> Flow {
        match self.known.is_locked_dir(dir, depth) {
            Ok(false) => ControlFlow::Continue(()),
            Ok(true) => self.skip(Skipped::Locked),
            // The rest stays where it is, and the next pass asks again.
            Err(error) => {
                let (action, path, hint) = (Action::Lock, PathBuf::new(), None);
                let error = PathError { action, path, error, hint };
                ControlFlow::Break(Break::Failed(error))
            }
        }
    }

    /// A directory was gone before its turn.
    fn vanished(&mut self, level: usize) -> ControlFlow<Break, Next> {
        if level == 0 {
            self.skip(Skipped::Gone)?;
        }
        ControlFlow::Continue(Next::Up)
    }
}

/// The failure of a tree of which the system says again and again that it is gone, and which is there.
fn never_gone<C>(tree: &WalkContext<'_, C>) -> PathError {
    let hint = "the file system says that it is gone, but still lists it".to_owned();
    PathError {
        action: Action::RemoveTree,
        path: tree.path.join(OsStr::from_bytes(tree.name.to_bytes())),
        error: Errno::STALE.into(),
        hint: Some(hint),
    }
}

impl Visit for TreeRemover<'_> {
    const REMOVES: bool = true;

    fn fork(&self) -> Self {
        Self::new(self.known)
    }

    fn join(&mut self, other: Self) {
        self.removed += other.removed;
        self.freed.append(other.freed);
        self.kept.join(other.kept);
        self.skipped = self.skipped.or(other.skipped);
    }

    fn enter(
        &mut self,
        dir: &OwnedFd,
        metadata: &Metadata,
        depth: usize,
        _moves_atime: bool,
    ) -> Flow {
        if self.known.is_changed_dir(dir, metadata, depth) {
            return self.skip(Skipped::Used);
        }
        self.lock(dir, depth)
    }

    fn reopened(&mut self, dir: &OwnedFd, depth: usize) -> Flow {
        self.lock(dir, depth)
    }

    fn file(&mut self, at: &EntryRef<'_>, metadata: &Metadata, _opened: Option<OwnedFd>) -> Flow {
        if is_removed_in_use(at.name.to_bytes()) {
            // Perhaps one that was removed here a moment ago: its space is not free yet.
            self.freed.take_back(metadata);
            return self.skip(Skipped::InUse);
        }
        if self.known.is_changed(metadata) {
            return self.skip(Skipped::Used);
        }
        match self.known.in_use(at, metadata) {
            Ok(None) => {}
            Ok(Some(why)) => return self.skip(why),
            Err(error) => return ControlFlow::Break(Break::Failed(error)),
        }
        match remove_file(at.dir, at.name) {
            Ok(()) => {
                self.removed += 1;
                self.freed.add(metadata);
            }
            // NOENT: another process was faster. ISDIR: replaced by a directory; the removal of its
            // directory will find that not empty.
            Err(Errno::NOENT | Errno::STALE | Errno::ISDIR) => {}
            Err(error) => self.kept.keep(at, at.error(Action::Unlink, error)),
        }
        ControlFlow::Continue(())
    }

    fn leave(&mut self, at: &EntryRef<'_>, dir: &Leaving<'_>) -> ControlFlow<Break, Next> {
        let level = at.depth();
        if self.kept.is_in(level) {
            return ControlFlow::Continue(Next::Up);
        }
        // It is removed by its name, so the name is looked at: another directory may have it now.
        match stat::at(at.dir, at.name, self.known.mount, Freshness::Synced) {
            Ok(metadata) if metadata.id == dir.metadata.id => {}
            Err(error) if is_gone(&error) => return self.vanished(level),
            Ok(_) => self.skip(Skipped::Replaced)?,
            Err(error) => {
                self.kept.keep(at, at.error(Action::Stat, error));
                return ControlFlow::Continue(Next::Up);
            }
        }
        match remove_empty_directory(at.dir, at.name) {
            Ok(()) => {
                self.removed += 1;
                self.freed.add(dir.metadata);
                ControlFlow::Continue(Next::Up)
            }
            Err(Errno::NOENT | Errno::STALE) => self.vanished(level),
            // Something was added, or the listing left something out because its neighbors were removed.
            Err(Errno::NOTEMPTY | Errno::EXIST) if self.removed > dir.before => {
                ControlFlow::Continue(Next::Again)
            }
            Err(error) => {
                self.kept.keep(at, at.error(Action::Rmdir, error));
                ControlFlow::Continue(Next::Up)
            }
        }
    }

    fn mount_point(&mut self, _at: &EntryRef<'_>) -> Flow {
        self.skip(Skipped::MountPoint)
    }

    fn lost(&mut self) -> Flow {
        self.skip(Skipped::Gone)
    }

    fn failed(&mut self, at: &EntryRef<'_>, error: PathError) -> Flow {
        self.kept.keep(at, error);
        ControlFlow::Continue(())
    }

    fn progress(&self) -> u64 {
        self.removed
    }
}
