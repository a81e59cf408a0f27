//! Counts each file and directory of a walk, and judges each entry of a zone by the rule of its zone.
//!
//! This module must not open a file, and judges nothing itself: `judge` asks the rules.
//!
//! The visitor keeps one level for each directory on its way down, in step with the walk. Inside an entry that
//! is a tree it sums up the tree, and judges it when the walk leaves it.

use std::ffi::{CStr, CString, OsStr};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use super::judge::Verdict;
use super::links::{Counts, LinkedFile};
use super::model::age_range;
use super::places::{Found, Here};
use super::shared::Shared;
use super::sum::Sum;
use super::tally::Tally;
use super::uploads::Part;
use crate::fs::PathError;
use crate::fs::stat::{self, Freshness};
use crate::fs::walk::{Break, EntryRef, Flow, Leaving, Next, Visit};
use crate::rules::names::is_removed_in_use;
use crate::rules::{Action, Bytes, FileKind, Label, Metadata, Moment, Rule};

/// After how many files and directories progress is told.
const STRETCH: u64 = 1024;

/// A directory on the way from the top to where the walk is.
#[derive(Clone)]
struct Level {
    here: Here,
    /// Its path as rules know it; inside an entry, that of the directory that holds the entry.
    path: Arc<Path>,
}

/// An entry that is a tree, while the walk is in it.
struct Tree {
    area: usize,
    /// How many directories are above its top.
    depth: usize,
    name: CString,
    top: Metadata,
    /// It is the rest of one whose removal was interrupted.
    is_rest: bool,
    rule: Option<Rule>,
    label: Option<Label>,
    sum: Sum,
}

/// Counts a part of a walk.
pub(super) struct Visitor<'a> {
    shared: &'a Shared<'a>,
    pub(super) tally: Tally,
    levels: Vec<Level>,
    /// The name of the directory that is entered next.
    name: CString,
    tree: Option<Tree>,
    /// Inodes and bytes that were counted and not told yet.
    untold: (u64, u64),
}

impl<'a> Visitor<'a> {
    /// A visitor that has seen nothing yet; `areas` is the number of areas.
    pub(super) fn new(shared: &'a Shared<'a>, areas: usize) -> Self {
        let (levels, name) = (Vec::new(), CString::default());
        Self { shared, tally: Tally::new(areas), levels, name, tree: None, untold: (0, 0) }
    }

    /// Counts something with one name, or a directory.
    fn count(&mut self, area: usize, metadata: &Metadata) {
        self.tally.inode(area, metadata.allocated);
        self.untold.0 += 1;
        self.untold.1 += metadata.allocated.0;
        if self.untold.0 >= STRETCH {
            let (inodes, bytes) = std::mem::take(&mut self.untold);
            self.shared.progress.add(inodes, bytes);
        }
    }

    /// Counts a file with several names.
    fn link(&self, area: usize, metadata: &Metadata, label: Option<Label>) -> Counts {
        let range = self.range_of(metadata);
        let name = LinkedFile::new(metadata.links, metadata.allocated, area, range);
        self.shared.links.add(metadata.id, name.labeled(label))
    }

    /// The range of ages of something that no rule applies to.
    fn range_of(&self, metadata: &Metadata) -> usize {
        age_range(metadata.mtime.age_at(self.shared.now))
    }

    /// Something called `name` that is in no entry.
    fn plain(&mut self, area: usize, name: &CStr, metadata: &Metadata) {
        if metadata.kind != FileKind::Dir {
            self.tally.areas[area].entries += 1;
            if metadata.links > 1 && self.link(area, metadata, None) != Counts::Here {
                return;
            }
        }
        self.upload(area, name, metadata, false);
        self.count(area, metadata);
        let range = self.range_of(metadata);
        self.tally.areas[area].by_age[range] += metadata.allocated;
    }

    /// An entry that is not walked into: a file, or a directory that cannot be read.
    fn entry(&mut self, area: usize, path: &Path, name: &CStr, metadata: &Metadata) {
        let label = self.shared.label(area, path, name.to_bytes());
        self.tally.areas[area].entries += 1;
        let mut sum = Sum::default();
        let counts = if metadata.has_other_names() {
            self.link(area, metadata, label)
        } else {
            Counts::Here
        };
        match counts {
            Counts::Later => sum.name_of(metadata.id, 1),
            Counts::Elsewhere => {}
            Counts::Here => {
                self.count(area, metadata);
                sum.allocated = metadata.allocated;
                if metadata.has_other_names() {
                    sum.shared = metadata.allocated;
                }
                match metadata.kind {
                    FileKind::Dir => sum.dirs = metadata.allocated,
                    FileKind::File | FileKind::Symlink | FileKind::Special => sum.files = 1,
                }
            }
        }
        let verdict = self.shared.judge(area, path, name, metadata);
        // A pass could not remove what it cannot read.
        let is_protected = metadata.kind == FileKind::Dir || is_removed_in_use(name.to_bytes());
        let verdict = if is_protected { verdict.protected() } else { verdict };
        self.upload(area, name, metadata, verdict.is_expired);
        self.settle(area, label, &sum, verdict, metadata);
    }

    /// Remembers a file that is a part of an upload. One with several names is used elsewhere.
    fn upload(&self, area: usize, name: &CStr, metadata: &Metadata, is_expired: bool) {
        if metadata.kind != FileKind::File || metadata.links > 1 {
            return;
        }
        let Some(upload) = (self.shared.labels.upload)(name.to_bytes()) else { return };
        let allocated = metadata.allocated;
        let expired = if is_expired { allocated } else { Bytes(0) };
        let part = Part { files: 1, allocated, expired };
        self.shared.uploads.add(area, upload, part, metadata.mtime);
    }

    /// Something in the tree that the walk is in.
    fn member(&mut self, name: Option<&[u8]>, metadata: &Metadata) {
        let now = self.shared.now;
        let Some(tree) = &mut self.tree else { return };
        let sum = &mut tree.sum;
        if let Some(rule) = &tree.rule {
            let metadata = &counted(metadata, tree.is_rest);
            sum.newest = sum.newest.max(Some(rule.last_use.read(metadata, now)));
            sum.is_protected |= rule.is_protected_by(metadata, now);
        }
        sum.is_protected |= name.is_some_and(is_removed_in_use);
        let content = match (name, &tree.label) {
            (Some(name), Some(Label { content: None, .. })) if metadata.kind != FileKind::Dir => {
                (self.shared.labels.member)(name)
            }
            _ => None,
        };
        let area = tree.area;
        if metadata.has_other_names() {
            let label =
                tree.label.map(|label| Label { content: label.content.or(content), ..label });
            let range = age_range(metadata.mtime.age_at(now));
            let file = LinkedFile::new(metadata.links, metadata.allocated, area, range);
            match self.shared.links.add(metadata.id, file.labeled(label)) {
                Counts::Later => return sum.name_of(metadata.id, 1),
                Counts::Elsewhere => return,
                Counts::Here => sum.shared += metadata.allocated,
            }
        }
        sum.allocated += metadata.allocated;
        match metadata.kind {
            FileKind::Dir => sum.dirs += metadata.allocated,
            FileKind::File | FileKind::Symlink | FileKind::Special => sum.files += 1,
        }
        if let Some(content) = content {
            sum.content(content, 1, metadata.allocated);
        }
        self.count(area, metadata);
    }

    /// The walk leaves a tree: now its age is known.
    fn close(&mut self, tree: Tree) {
        let Tree { area, depth, name, top, label, sum, .. } = tree;
        let Some(path) = self.levels.get(depth).map(|level| Arc::clone(&level.path)) else {
            return;
        };
        let whole = Metadata { newest_inside: sum.newest, ..top };
        let verdict = self.shared.judge(area, &path, &name, &whole);
        let verdict = if sum.is_protected { verdict.protected() } else { verdict };
        self.settle(area, label, &sum, verdict, &top);
    }

    /// Counts what the verdict on an entry says.
    fn settle(
        &mut self,
        area: usize,
        label: Option<Label>,
        sum: &Sum,
        verdict: Verdict,
        top: &Metadata,
    ) {
        let range = verdict.age.map_or_else(|| self.range_of(top), age_range);
        let tally = &mut self.tally.areas[area];
        tally.by_age[range] += sum.allocated;
        if verdict.is_expired {
            tally.expired += sum.freed();
            self.shared.links.expire(&sum.linked);
        }
        for (expiring, is_within) in tally.forecast.iter_mut().zip(verdict.expires_within) {
            *expiring += if is_within { sum.freed() } else { Bytes(0) };
        }
        let Some(label) = label else { return };
        // The directory of a cache is no export.
        let (mut files, mut allocated) = (sum.files, Bytes(sum.allocated.0 - sum.dirs.0));
        for (content, some, bytes) in &sum.contents {
            let label = Label { content: Some(content), ..label };
            self.tally.label(&label, *some, *bytes, range);
            files -= some;
            allocated.0 -= bytes.0;
        }
        if files > 0 || allocated > Bytes(0) {
            self.tally.label(&label, files, allocated, range);
        }
    }

    /// A name that the walk does not go into: a file, or a directory that cannot be read.
    fn leaf(&mut self, at: &EntryRef<'_>, metadata: &Metadata) {
        let name = at.name.to_bytes();
        if self.tree.is_some() {
            self.member(Some(name), metadata);
            return;
        }
        let Some(level) = at.depth().checked_sub(1).and_then(|depth| self.levels.get(depth)) else {
            return;
        };
        match self.shared.places.find(&level.here, name) {
            Found::Plain(area) => self.plain(area, at.name, metadata),
            Found::Entry(area) => {
                let path = Arc::clone(&level.path);
                self.entry(area, &path, at.name, metadata);
            }
        }
    }

    /// The tree that the walk is in is not expired, whatever its age.
    fn protect(&mut self) {
        if let Some(tree) = &mut self.tree {
            tree.sum.is_protected = true;
        }
    }
}

impl Visit for Visitor<'_> {
    const LOOKS_IN_CACHE: bool = true;

    fn fork(&self) -> Self {
        let Self { shared, ref tally, ref levels, ref tree, .. } = *self;
        let tree = tree.as_ref().map(|tree| Tree {
            name: tree.name.clone(),
            sum: Sum::default(),
            ..*tree
        });
        let levels = levels.clone();
        Self { levels, tree, ..Self::new(shared, tally.areas.len()) }
    }

    fn join(&mut self, other: Self) {
        self.tally.add(other.tally);
        self.untold.0 += other.untold.0;
        self.untold.1 += other.untold.1;
        // Another part of the same tree. One that was cut short in a tree of its own has not judged that.
        if let (Some(tree), Some(part)) = (&mut self.tree, other.tree) {
            tree.sum.add(part.sum);
        }
    }

    fn named(&mut self, name: &CStr, _depth: usize) {
        name.clone_into(&mut self.name);
    }

    fn enter(
        &mut self,
        _dir: &OwnedFd,
        metadata: &Metadata,
        depth: usize,
        moves_atime: bool,
    ) -> Flow {
        self.tally.moves_atime |= moves_atime;
        self.levels.truncate(depth);
        let places = &self.shared.places;
        let Some(above) = self.levels.last().cloned() else {
            let here = places.top();
            let area = here.area;
            self.levels.push(Level { here, path: Arc::clone(&self.shared.base) });
            self.plain(area, c"", metadata);
            return ControlFlow::Continue(());
        };
        if self.tree.is_some() {
            self.levels.push(above);
            self.member(None, metadata);
            return ControlFlow::Continue(());
        }
        let name = self.name.to_bytes();
        let found = places.find(&above.here, name);
        let here = places.below(&above.here, name, found);
        let path = Arc::clone(&above.path);
        match found {
            Found::Plain(area) => {
                let has_own_path = here.is_live() && !here.is_private();
                let path =
                    if has_own_path { path.join(OsStr::from_bytes(name)).into() } else { path };
                self.levels.push(Level { here, path });
                self.plain(area, c"", metadata);
            }
            Found::Entry(area) => {
                let rule = Rule::of(&self.shared.zones[area], &self.name, metadata).ok();
                let label = self.shared.label(area, &path, name);
                let (name, sum) = (self.name.clone(), Sum::default());
                let is_rest = above.here.has_rests();
                let top = counted(metadata, is_rest);
                self.tree = Some(Tree { area, depth, name, top, is_rest, rule, label, sum });
                self.levels.push(Level { here, path });
                self.tally.areas[area].entries += 1;
                self.member(None, metadata);
            }
        }
        ControlFlow::Continue(())
    }

    fn file(&mut self, at: &EntryRef<'_>, metadata: &Metadata, _opened: Option<OwnedFd>) -> Flow {
        self.leaf(at, metadata);
        ControlFlow::Continue(())
    }

    fn leave(&mut self, at: &EntryRef<'_>, _dir: &Leaving<'_>) -> ControlFlow<Break, Next> {
        if let Some(tree) = self.tree.take_if(|tree| tree.depth == at.depth()) {
            self.close(tree);
        }
        ControlFlow::Continue(Next::Up)
    }

    fn mount_point(&mut self, at: &EntryRef<'_>) -> Flow {
        self.protect();
        self.tally.mount_point(|| at.path());
        ControlFlow::Continue(())
    }

    fn lost(&mut self) -> Flow {
        ControlFlow::Continue(())
    }

    fn cut_off(&mut self, error: PathError, _depth: usize) -> Flow {
        // What is near the top is never cut off, so a tree that is being summed up is still left.
        self.protect();
        self.tally.failure(error);
        ControlFlow::Continue(())
    }

    fn failed(&mut self, at: &EntryRef<'_>, error: PathError) -> Flow {
        self.protect();
        // A directory that cannot be opened still takes space itself.
        if error.action == Action::Open
            && let Ok(metadata) = stat::at(at.dir, at.name, self.shared.mount, Freshness::Synced)
        {
            self.leaf(at, &metadata);
        }
        self.tally.failure(error);
        ControlFlow::Continue(())
    }
}

/// The metadata whose times count. In the rest of a tree those of directories do not: its removal has moved them.
fn counted(metadata: &Metadata, is_rest: bool) -> Metadata {
    let is_moved = is_rest && metadata.kind == FileKind::Dir;
    let mtime = if is_moved { Moment::from_unix(0, 0) } else { metadata.mtime };
    Metadata { mtime, ..*metadata }
}

#[cfg(test)]
mod tests;
