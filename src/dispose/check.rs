//! The last look at a tree as a whole, after it was taken out of reach and before anything in it is removed.
//!
//! It must not change anything. Compared with the look before, nothing may be newer, open or locked: then the
//! tree returns to its name.

use std::ops::ControlFlow;
use std::os::fd::OwnedFd;

use crate::fs::PathError;
use crate::fs::lease::{self, InUse, InUseProbe};
use crate::fs::walk::{Break, EntryRef, Flow, Leaving, Next, Visit};
use crate::protocol::{MemberLeases, Skipped};
use crate::rules::names::is_removed_in_use;
use crate::rules::{Action, FileId, FileKind, Metadata, Moment, Rule};

/// A tree, and what the look before said about it.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    /// The identity of the top.
    pub(super) id: FileId,
    /// The mount that it is on.
    pub(super) mount: u64,
    /// The rule that it has outlived.
    pub(super) rule: Rule,
    pub(super) now: Moment,
    pub(super) probe: InUseProbe,
    /// Leases on files that were free.
    pub(super) members: &'a MemberLeases,
    /// The newest ctime.
    pub(super) newest: Option<Moment>,
    /// Whether files in it have other links, whose removal elsewhere moves their ctime.
    pub(super) has_links: bool,
    /// The removal that was interrupted, if it is completed now.
    pub(super) interrupted: Option<Interrupted>,
}

/// When a removal was at work that was interrupted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Interrupted {
    /// From then on; `None` where the file system does not tell.
    pub(super) began: Option<Moment>,
    /// Between these moments no process of ours was at work, and what was changed then, such as rights, may
    /// have been changed so that the removal succeeds. `None` after a crash, whose moment is not known.
    pub(super) idle: Option<(Moment, Moment)>,
}

impl Interrupted {
    /// Whether something was changed while a removal was at work. The clock of file systems is coarse, so the
    /// bounds count: the first as work, the others as idle.
    fn was_at_work(&self, changed: Moment) -> bool {
        let is_idle = self.idle.is_some_and(|(from, to)| from <= changed && changed <= to);
        self.began.is_some_and(|began| changed >= began) && !is_idle
    }
}

impl Known<'_> {
    /// Whether something in the tree was added or used since. `depth` is 0 for the top, whose ctime the
    /// rename has moved.
    pub(super) fn is_changed(&self, metadata: &Metadata, depth: usize) -> bool {
        if let Some(interrupted) = &self.interrupted {
            // The removal has moved the times of directories itself.
            return metadata.kind != FileKind::Dir
                && (interrupted.was_at_work(metadata.ctime)
                    || self.rule.is_protected_by(metadata, self.now));
        }
        let changed = if depth == 0 { metadata.mtime } else { metadata.ctime };
        let counts = metadata.kind == FileKind::Dir || !self.has_links;
        // Without a link, another process is removing it right now.
        let is_newer =
            metadata.links > 0 && counts && self.newest.is_some_and(|newest| changed > newest);
        is_newer || self.rule.is_protected_by(metadata, self.now)
    }

    /// Whether another process has the file open or locked; `None` if not.
    pub(super) fn in_use(
        &self,
        at: &EntryRef<'_>,
        metadata: &Metadata,
    ) -> Result<Option<Skipped>, PathError> {
        if self.probe == InUseProbe::Off || metadata.kind != FileKind::File {
            return Ok(None);
        }
        let answer = match self.members.get(metadata.id) {
            Some(handle) if lease::is_kept(handle) => return Ok(None),
            Some(_) => InUse::Open,
            None => lease::probe_at(at.dir, at.name, metadata.links)
                .map_err(|error| at.error(Action::Open, error))?,
        };
        Ok(match answer {
            InUse::Free | InUse::Unknown => None,
            InUse::Open => Some(Skipped::InUse),
            InUse::Locked => Some(Skipped::Locked),
        })
    }
}

/// Looks at a tree that is out of reach.
pub(super) struct TreeCheck<'a> {
    known: Known<'a>,
    pub(super) skipped: Option<Skipped>,
}

impl<'a> TreeCheck<'a> {
    pub(super) const fn new(known: Known<'a>) -> Self {
        Self { known, skipped: None }
    }

    /// Whether another process has opened a file that was free.
    pub(super) fn is_opened(&self) -> bool {
        self.known.members.handles().any(|handle| !lease::is_kept(handle))
    }

    fn skip(&mut self, why: Skipped) -> Flow {
        self.skipped = Some(why);
        ControlFlow::Break(Break::Enough)
    }
}

impl Visit for TreeCheck<'_> {
    fn fork(&self) -> Self {
        Self::new(self.known)
    }

    fn join(&mut self, other: Self) {
        self.skipped = self.skipped.or(other.skipped);
    }

    fn enter(
        &mut self,
        dir: &OwnedFd,
        metadata: &Metadata,
        depth: usize,
        _moves_atime: bool,
    ) -> Flow {
        if self.known.is_changed(metadata, depth) {
            return self.skip(Skipped::Used);
        }
        if depth > 0 && self.known.probe == InUseProbe::On && lease::is_locked(dir) {
            return self.skip(Skipped::Locked);
        }
        ControlFlow::Continue(())
    }

    /// Where every file is under a lease, a directory without subdirectories tells by its own times whether
    /// anything was added, and there is no more to see in it. (The link count of a directory is 2 plus its
    /// subdirectories, or 1 where the file system does not count them.)
    fn reads(&self, metadata: &Metadata) -> bool {
        !(self.known.members.is_complete() && metadata.links == 2)
    }

    /// A file whose lease was not broken was not opened since, and it is looked at again before its removal.
    fn knows(&mut self, ino: u64) -> bool {
        let dev = self.known.id.dev;
        self.known.members.get(FileId { dev, ino }).is_some()
    }

    fn file(&mut self, at: &EntryRef<'_>, metadata: &Metadata, _opened: Option<OwnedFd>) -> Flow {
        if is_removed_in_use(at.name.to_bytes()) {
            return self.skip(Skipped::InUse);
        }
        if self.known.is_changed(metadata, at.depth()) {
            return self.skip(Skipped::Used);
        }
        match self.known.in_use(at, metadata) {
            Ok(None) => ControlFlow::Continue(()),
            Ok(Some(why)) => self.skip(why),
            Err(error) => ControlFlow::Break(Break::Failed(error)),
        }
    }

    fn leave(&mut self, _at: &EntryRef<'_>, _dir: &Leaving<'_>) -> ControlFlow<Break, Next> {
        ControlFlow::Continue(Next::Up)
    }

    fn mount_point(&mut self, _at: &EntryRef<'_>) -> Flow {
        self.skip(Skipped::MountPoint)
    }

    fn lost(&mut self) -> Flow {
        self.skip(Skipped::Used)
    }

    fn failed(&mut self, _at: &EntryRef<'_>, error: PathError) -> Flow {
        ControlFlow::Break(Break::Failed(error))
    }
}
