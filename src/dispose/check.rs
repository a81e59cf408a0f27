//! The last look at a tree as a whole, after it was taken out of reach and before anything in it is removed.
//!
//! This module must not change anything. Compared with the look before, nothing may be newer, open or locked: then the
//! tree returns to its name.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};

use super::failure::failed_in_tree;
use super::linked::LinkedNames;
use crate::control::Control;
use crate::fs::PathError;
use crate::fs::lease::{self, InUse, InUseProbe, breaks};
use crate::fs::stat;
use crate::fs::walk::{self, Break, EntryRef, Flow, Leaving, Next, Visit, WalkContext};
use crate::protocol::{Expired, Freed, MemberLeases, Rejection, Skipped};
use crate::rules::names::is_removed_in_use;
use crate::rules::{Action, Bytes, FileId, FileKind, FileSystem, Metadata, Moment, Rule};

/// A tree, and what the look before said about it.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    /// The identity of the top.
    pub(super) id: FileId,
    /// The mount and the file system that it is on.
    pub(super) mount: u64,
    pub(super) file_system: FileSystem,
    /// The rule that it has outlived.
    pub(super) rule: Rule,
    pub(super) now: Moment,
    pub(super) probe: InUseProbe,
    /// Leases on files that were free.
    pub(super) members: &'a MemberLeases,
    /// The newest ctime.
    pub(super) newest: Option<Moment>,
    /// Files that had a newer one then.
    pub(super) ahead: &'a [(FileId, Moment)],
    /// A ctime that lies further in the future is not that of a change now.
    pub(super) latest: Moment,
    /// Its files that have other links. A removal of one of those elsewhere moves their ctime.
    pub(super) linked: &'a LinkedNames,
    /// The removal that was interrupted, if it is completed now.
    pub(super) interrupted: Option<Interrupted>,
    /// The directories that the check has seen, once it is done.
    pub(super) dirs: Option<&'a Dirs>,
}

/// The directories of a tree, as far as they fit.
#[derive(Debug, Default)]
pub(super) struct Dirs(Vec<FileId>);

impl Dirs {
    /// How many are remembered. Beyond that, a directory whose times have moved counts as changed.
    const MOST: usize = 4096;

    /// As many as a usual tree has.
    const ROOM: usize = 64;

    fn add(&mut self, id: FileId) {
        if self.0.is_empty() {
            self.0.reserve(Self::ROOM);
        }
        if self.0.len() < Self::MOST {
            self.0.push(id);
        }
    }

    fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
        self.0.truncate(Self::MOST);
    }

    fn has(&self, id: FileId) -> bool {
        self.0.contains(&id)
    }
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
    /// bounds count: the first as work, the others as idle. No removal of ours shares its tick with those.
    fn was_at_work(&self, changed: Moment) -> bool {
        self.began.is_some_and(|began| changed >= began) && !self.was_idle(changed)
    }

    /// Whether the removal has taken something out of a directory with this metadata, as far as is known.
    pub(super) fn has_emptied(&self, metadata: &Metadata) -> bool {
        self.began.is_none_or(|began| metadata.mtime >= began) && !self.is_written(metadata)
    }

    /// Whether something was added to a directory or removed from it while no process of ours was at work.
    fn is_written(&self, metadata: &Metadata) -> bool {
        self.was_idle(metadata.mtime)
    }

    /// The metadata of a directory, without an mtime that the removal itself has moved. What is in it tells its
    /// last use then.
    pub(super) fn unmoved(&self, metadata: &Metadata) -> Metadata {
        let is_moved = self.began.is_some() && self.has_emptied(metadata);
        let mtime = if is_moved { Moment::from_unix(0, 0) } else { metadata.mtime };
        Metadata { mtime, ..*metadata }
    }

    fn was_idle(&self, changed: Moment) -> bool {
        self.idle.is_some_and(|(from, to)| from <= changed && changed <= to)
    }

    /// Whether another process has made this directory, has moved it here, or has added or removed something
    /// in it. `born` is when it was made, where the file system tells.
    fn is_changed(&self, metadata: &Metadata, born: Option<Moment>, depth: usize) -> bool {
        let is_new = self.began.is_some_and(|began| born.is_some_and(|born| born >= began));
        // A removal in a directory moves both of its times to the same moment. A rename moves only the ctime
        // of the directory itself, as that of the top when it was taken out of reach.
        let is_moved =
            depth > 0 && metadata.ctime != metadata.mtime && self.was_at_work(metadata.ctime);
        is_new || is_moved || self.is_written(metadata)
    }
}

impl Known<'_> {
    /// Whether something was added to a directory of the tree, or used in it, since. `depth` is 0 for the top,
    /// whose ctime the rename has moved.
    pub(super) fn is_changed_dir(&self, dir: &OwnedFd, metadata: &Metadata, depth: usize) -> bool {
        if let Some(interrupted) = &self.interrupted {
            return interrupted.is_changed(metadata, stat::birth(dir), depth)
                || self.rule.is_protected_by(&interrupted.unmoved(metadata), self.now);
        }
        // Another process that removes the same tree moves the times of its directories, too. What it adds has
        // a newer ctime itself, unless the ctimes of some files do not count.
        if self.dirs.is_some_and(|dirs| self.linked.is_empty() && dirs.has(metadata.id)) {
            return false;
        }
        let changed = match depth {
            // A time that was set by hand, ahead of that change itself, tells of no addition.
            0 if metadata.mtime > metadata.ctime => None,
            0 => Some(metadata.mtime),
            _ => Some(metadata.ctime),
        };
        // Without a link, another process is removing it right now.
        let is_newer = metadata.links > 0 && self.is_newer(changed);
        is_newer || self.rule.is_protected_by(metadata, self.now)
    }

    /// Whether a change at this moment came after the look before.
    fn is_newer(&self, changed: Option<Moment>) -> bool {
        self.newest.is_some() && changed > self.newest && changed <= Some(self.latest)
    }

    /// Whether another process has locked this directory, below the top. If not, it is locked while it is open.
    pub(super) fn is_locked_dir(&self, dir: &OwnedFd, depth: usize) -> io::Result<bool> {
        if depth == 0 || self.probe == InUseProbe::Off {
            return Ok(false);
        }
        Ok(lease::is_locked(dir)?)
    }

    /// Whether a member that is not a directory was added or used since. To be asked once for each of its names.
    pub(super) fn is_changed(&self, metadata: &Metadata) -> bool {
        if let Some(interrupted) = &self.interrupted {
            let is_newer =
                !self.linked.take(metadata.id) && interrupted.was_at_work(metadata.ctime);
            return is_newer || self.rule.is_protected_by(metadata, self.now);
        }
        // Without a link, another process is removing it right now.
        let is_known =
            self.linked.take(metadata.id) || self.ahead.contains(&(metadata.id, metadata.ctime));
        let is_newer = !is_known && self.is_newer(Some(metadata.ctime)) && metadata.links > 0;
        is_newer || self.rule.is_protected_by(metadata, self.now)
    }

    /// Whether another process has opened a file that was free, or is about to, as far as is known.
    pub(super) fn is_opened(&self) -> bool {
        let were_none = self.members.handles().next().is_some() && breaks::were_none();
        let is_free = |handle| lease::is_undisturbed(handle, were_none).unwrap_or(false);
        !self.members.handles().all(is_free)
    }

    /// Whether a file under a lease was used since, as far as is known. Its times can be set by its name, which breaks no
    /// lease.
    pub(super) fn is_touched(&self) -> bool {
        self.members.handles().any(|handle| {
            stat::handle(handle, self.mount).map_or(true, |metadata| self.is_changed(&metadata))
        })
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
            Some(handle) => match lease::is_undisturbed(handle, breaks::were_none()) {
                Ok(true) => InUse::Free,
                Ok(false) => InUse::Open,
                Err(error) => return Err(at.error(Action::Lock, error)),
            },
            None => lease::probe_at(at.dir, at.name, self.file_system, metadata)
                .map_err(|error| at.error(Action::Open, error))?,
        };
        Ok(skipped(answer))
    }
}

/// Looks at a tree as a whole before anything in it is removed: its directories, or why it must not be removed.
pub(super) fn whole<C: Control>(
    expired: &Expired,
    known: Known<'_>,
    top: &std::fs::File,
    tree: &WalkContext<'_, C>,
) -> Result<Dirs, Rejection> {
    if known.is_opened() {
        return Err(Rejection::Skipped(Skipped::InUse));
    }
    known.linked.begin();
    if known.is_touched() {
        return Err(Rejection::Skipped(Skipped::Used));
    }
    let mut visitor = TreeCheck::new(known);
    match walk::walk(tree, top.as_fd(), known.id, &mut visitor) {
        ControlFlow::Continue(()) => Ok(visitor.dirs),
        ControlFlow::Break(Break::Failed(error)) => Err(failed_in_tree(expired, tree.name, error)),
        ControlFlow::Break(Break::Stopped | Break::Elsewhere | Break::Enough) => {
            Err(visitor.skipped.map_or(Rejection::Unreached, Rejection::Skipped))
        }
    }
}

/// Why a file stays about which the kernel says this. Where it does not tell, the first look has made a note.
pub(super) const fn skipped(answer: InUse) -> Option<Skipped> {
    match answer {
        InUse::Free | InUse::Unknown => None,
        InUse::Open => Some(Skipped::InUse),
        InUse::Locked => Some(Skipped::Locked),
    }
}

/// Looks at a tree that is out of reach.
pub(super) struct TreeCheck<'a> {
    known: Known<'a>,
    pub(super) skipped: Option<Skipped>,
    pub(super) dirs: Dirs,
    /// What a removal frees that completes an interrupted one.
    pub(super) freed: Freed,
}

impl<'a> TreeCheck<'a> {
    pub(super) const fn new(known: Known<'a>) -> Self {
        let freed = Freed { bytes: Bytes(0), linked: Vec::new() };
        Self { known, skipped: None, dirs: Dirs(Vec::new()), freed }
    }

    fn count(&mut self, metadata: &Metadata) {
        if self.known.interrupted.is_some() {
            self.freed.add(metadata);
        }
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
        self.dirs.append(other.dirs);
        self.freed.append(other.freed);
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
        self.dirs.add(metadata.id);
        self.count(metadata);
        // An error counts as a lock: the next pass asks again.
        if !matches!(self.known.is_locked_dir(dir, depth), Ok(false)) {
            return self.skip(Skipped::Locked);
        }
        ControlFlow::Continue(())
    }

    /// Where every file is under a lease, and was looked at before this walk, a directory without subdirectories tells
    /// by its own times whether anything was added, and there is no more to see in it. (The link count of a directory
    /// is 2 plus its subdirectories, or 1 where the file system does not count them.)
    fn reads(&self, metadata: &Metadata) -> bool {
        !(self.known.members.is_complete() && metadata.links == 2)
    }

    /// Every file under a lease was looked at before this walk, and is looked at again before its removal.
    fn knows(&mut self, file: FileId) -> bool {
        self.known.members.get(file).is_some()
    }

    fn file(&mut self, at: &EntryRef<'_>, metadata: &Metadata, _opened: Option<OwnedFd>) -> Flow {
        if is_removed_in_use(at.name.to_bytes()) {
            return self.skip(Skipped::InUse);
        }
        if self.known.is_changed(metadata) {
            return self.skip(Skipped::Used);
        }
        self.count(metadata);
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
