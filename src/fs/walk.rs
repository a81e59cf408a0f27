//! How a whole tree is walked, for a visitor that looks or removes.
//!
//! This module must not remove or judge anything itself. The walk is a loop over a stack of frames, one per level,
//! with a bounded number of open directories: below a few levels a directory is closed while one of
//! its subdirectories is walked, and reached again through `..`, where it must be the same directory. Names
//! come one `getdents` buffer at a time, so memory grows with depth alone. No link is followed and no mount
//! point entered. A walk that removes makes sure before every buffer of names that none of the directories
//! above was moved out of the tree (`inside`): a process that works in one of them can move it, also in
//! quarantine.
//!
//! While other workers are idle a walk forks: a buffer of many names is halved again and again, and so are
//! the subdirectories of the topmost levels. Each half has a visitor of its own, and the two are joined
//! when both are done. So one huge tree keeps every worker busy.

mod frame;
mod gone;
mod inside;
mod names;
mod parts;
mod visit;

use std::ffi::CString;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FileType, OFlags, RawDir, SeekFrom, fcntl_getfl, seek};
use rustix::io::Errno;

use self::frame::{Frame, another};
use self::gone::{has_no_name, is_removed};
use self::names::Names;
pub use self::parts::WalkContext;
use self::parts::{NamesAt, Shared, visit as visit_names};
pub use self::visit::{Break, EntryRef, Flow, Leaving, Next, Visit};
use super::error::is_gone;
use super::list::is_dot;
use super::open::{self, Across};
use super::stat;
use crate::control::Control;
use crate::rules::{Action, FileId, Metadata};

/// How many directories of one walk stay open: enough for usual trees, few enough for many workers.
const KEPT_OPEN: usize = 8;

/// The buffer for names of a directory that stays open.
const BUFFER: usize = 16 * 1024;

/// The buffer for those below, of which there can be any number at once. Room for the longest name.
const DEEP_BUFFER: usize = 1024;

/// Down to which level subdirectories are walked in parallel. They are few there, and all of the
/// directories above are open.
const FORKED_LEVELS: usize = 3;

/// A walk, or a part of one that has forked.
struct Walk<'a, V, C> {
    shared: &'a Shared<'a, C>,
    frames: Vec<Frame>,
    /// How many of the frames belong to the walk that this one is a part of.
    base: usize,
    /// The name of each frame.
    trail: Vec<CString>,
    buffer: Vec<u8>,
    names: Names,
    /// Buffers since the closed directories were last checked.
    unchecked: usize,
    visitor: &'a mut V,
}

/// Walks a tree whose top directory is open as `top` and has the identity `id`.
pub fn walk<V: Visit, C: Control>(
    tree: &WalkContext<'_, C>,
    top: BorrowedFd<'_>,
    id: FileId,
    visitor: &mut V,
) -> Flow {
    let (handle, metadata, moves_atime) = match open_top(top, id, tree.mount) {
        Ok(opened) => opened,
        Err(error) if is_gone(&error) => return visitor.lost(),
        Err(error) => {
            let at = EntryRef { dir: tree.parent, name: tree.name, trail: &[], base: tree.path };
            return ControlFlow::Break(Break::Failed(at.error(Action::Open, error)));
        }
    };
    let shared = Shared::new(tree);
    let mut walk = Walk::new(&shared, visitor, Vec::new(), Vec::new());
    walk.enter(tree.name.to_owned(), metadata, Arc::new(handle), moves_atime)?;
    walk.run()
}

/// The top of a tree, its metadata, and whether reading it moves its atime.
fn open_top(top: BorrowedFd<'_>, id: FileId, mount: u64) -> io::Result<(OwnedFd, Metadata, bool)> {
    let handle = top.try_clone_to_owned()?;
    // The position is shared with the original descriptor, which an earlier walk left at the end.
    seek(&handle, SeekFrom::Start(0))?;
    let metadata = stat::handle(&handle, mount)?;
    if metadata.id != id {
        return Err(another());
    }
    let moves_atime = !fcntl_getfl(&handle)?.contains(OFlags::NOATIME);
    Ok((handle, metadata, moves_atime))
}

impl<'a, V: Visit, C: Control> Walk<'a, V, C> {
    fn new(
        shared: &'a Shared<'a, C>,
        visitor: &'a mut V,
        frames: Vec<Frame>,
        trail: Vec<CString>,
    ) -> Self {
        let (base, buffer, names) = (frames.len(), Vec::new(), Names::default());
        Self { shared, frames, base, trail, buffer, names, unchecked: 0, visitor }
    }

    fn run(&mut self) -> Flow {
        while self.frames.len() > self.base {
            self.shared.go_on::<V>()?;
            self.step()?;
        }
        ControlFlow::Continue(())
    }

    /// One subdirectory entered, one buffer read, or one directory left.
    fn step(&mut self) -> Flow {
        let level = self.frames.len();
        let Some(frame) = self.frames.last_mut() else { return ControlFlow::Continue(()) };
        if frame.subdirs.len() > 1
            && level <= FORKED_LEVELS
            && self.shared.tree.control.has_idle_worker()
            && self.visitor.forks_dirs()
        {
            let subdirs = std::mem::take(&mut frame.subdirs);
            branch(self.shared, &self.frames, &self.trail, &subdirs, self.visitor)
        } else if let Some(name) = frame.subdirs.pop() {
            self.descend(name)
        } else if frame.at_end {
            self.ascend()
        } else {
            self.read()
        }
    }

    fn enter(
        &mut self,
        name: CString,
        metadata: Metadata,
        handle: Arc<OwnedFd>,
        moves_atime: bool,
    ) -> Flow {
        self.visitor.named(&name, self.frames.len());
        self.visitor.enter(&handle, &metadata, self.frames.len(), moves_atime)?;
        if self.frames.len() > KEPT_OPEN
            && let Some(above) = self.frames.last_mut()
        {
            above.handle = None;
        }
        let at_end = !self.visitor.reads(&metadata);
        let frame = Frame::new(metadata, Some(handle), self.visitor.progress());
        self.frames.push(Frame { at_end, ..frame });
        self.trail.push(name);
        ControlFlow::Continue(())
    }

    /// Reads one buffer of names: visits what is not a directory, remembers what is.
    fn read(&mut self) -> Flow {
        self.fetch()?;
        if self.names.count() == 0 {
            return ControlFlow::Continue(());
        }
        if V::REMOVES {
            self.stay_inside(self.frames.len())?;
        }
        let Self { shared, frames, trail, names, visitor, .. } = self;
        let Some(frame) = frames.last_mut() else { return ControlFlow::Continue(()) };
        let Some(handle) = frame.handle.as_ref().map(Arc::clone) else {
            return ControlFlow::Continue(());
        };
        let entry = EntryRef { dir: handle.as_fd(), name: c"", trail, base: shared.tree.path };
        let is_private = visitor.opens_files() && open::is_private(&handle);
        let at = NamesAt { entry, is_private, dev: frame.metadata.id.dev };
        let dirs = Mutex::default();
        let visited = visit_names(shared, at, names, &dirs, 0..names.count(), *visitor);
        frame.subdirs.append(&mut dirs.into_inner().unwrap_or_else(PoisonError::into_inner));
        visited
    }

    /// Fetches one buffer of names.
    fn fetch(&mut self) -> Flow {
        let size = if self.frames.len() > KEPT_OPEN { DEEP_BUFFER } else { BUFFER };
        let Self { shared, frames, trail, buffer, names, visitor, .. } = self;
        names.clear();
        let Some((frame, above)) = frames.split_last_mut() else {
            return ControlFlow::Continue(());
        };
        let Some(dir) = frame.handle.as_ref().map(AsFd::as_fd) else {
            return ControlFlow::Continue(());
        };
        buffer.clear();
        buffer.reserve_exact(size);
        let mut listing = RawDir::new(dir, &mut buffer.spare_capacity_mut()[..size]);
        let mut first = true;
        while first || !listing.is_buffer_empty() {
            first = false;
            let entry = match listing.next() {
                Some(Ok(entry)) => entry,
                None => {
                    frame.at_end = true;
                    return ControlFlow::Continue(());
                }
                Some(Err(error)) => {
                    frame.at_end = true;
                    let above = match above.last() {
                        None => Some(shared.tree.parent),
                        Some(above) => above.handle.as_ref().map(AsFd::as_fd),
                    };
                    let entry = above.zip(trail.last().map(CString::as_c_str));
                    if is_removed(shared.tree, dir, entry, error) {
                        return ControlFlow::Continue(());
                    }
                    let at = EntryRef { dir, name: c"", trail, base: shared.tree.path };
                    return visitor.failed(&at, at.error(Action::List, error));
                }
            };
            frame.cookie = entry.next_entry_cookie();
            let name = entry.file_name();
            if is_dot(name) {
                continue;
            }
            if entry.file_type() == FileType::Directory {
                frame.subdirs.push(name.to_owned());
            } else {
                let is_file = entry.file_type() == FileType::RegularFile;
                names.push(name, is_file.then(|| entry.ino()));
            }
        }
        ControlFlow::Continue(())
    }

    /// Enters a subdirectory of the last frame.
    fn descend(&mut self, name: CString) -> Flow {
        let Self { shared, frames, trail, visitor, .. } = self;
        let tree = shared.tree;
        let Some(dir) = frames.last().and_then(|frame| frame.handle.as_ref()) else {
            return ControlFlow::Continue(());
        };
        let at = EntryRef { dir: dir.as_fd(), name: &name, trail, base: tree.path };
        let opened = open::dir(dir, &name, Across::SameMount).and_then(|opened| {
            let metadata = stat::handle(&opened.handle, tree.mount)?;
            Ok((opened, metadata))
        });
        match opened {
            Ok((_, metadata)) if metadata.is_mount_point => visitor.mount_point(&at),
            Ok((opened, metadata)) => {
                self.enter(name, metadata, Arc::new(opened.handle), opened.moves_atime)
            }
            Err(error) => match Errno::from_io_error(&error) {
                // Something else by now: a later look tells what.
                Some(Errno::NOTDIR | Errno::LOOP) => ControlFlow::Continue(()),
                Some(errno) if has_no_name(at.dir, at.name, errno) => ControlFlow::Continue(()),
                Some(Errno::XDEV) => visitor.mount_point(&at),
                _ => visitor.failed(&at, at.error(Action::Open, error)),
            },
        }
    }

    /// Leaves the last frame for the one above it.
    fn ascend(&mut self) -> Flow {
        let level = self.frames.len();
        self.reach_above()?;
        if self.frames.len() < level {
            return ControlFlow::Continue(());
        }
        if V::REMOVES {
            // Whether the last one is in the one above it is checked by `leave`.
            self.stay_inside(self.frames.len().saturating_sub(1))?;
        }
        let Self { shared, frames, trail, visitor, .. } = self;
        let tree = shared.tree;
        let Some((frame, above)) = frames.split_last_mut() else {
            return ControlFlow::Continue(());
        };
        let Some((name, trail_above)) = trail.split_last() else {
            return ControlFlow::Continue(());
        };
        if V::REMOVES && tree.file_system.is_served() {
            // An SMB server removes a directory only when no handle of it is open.
            frame.handle = None;
        }
        let dir = match above.last() {
            None => tree.parent,
            Some(Frame { handle: Some(handle), .. }) => handle.as_fd(),
            // `reach_above` has opened it.
            Some(Frame { handle: None, .. }) => return ControlFlow::Continue(()),
        };
        let at = EntryRef { dir, name, trail: trail_above, base: tree.path };
        match visitor.leave(&at, &frame.leaving())? {
            Next::Up => {
                frames.pop();
                trail.pop();
            }
            Next::Again => {
                let is_closed = frame.handle.is_none();
                if let Err(error) = frame.restart(&at, tree.mount) {
                    return ControlFlow::Break(Break::Failed(at.error(Action::List, error)));
                }
                if is_closed && let Some(handle) = &frame.handle {
                    visitor.reopened(handle, level.saturating_sub(1))?;
                }
                frame.before = visitor.progress();
            }
        }
        ControlFlow::Continue(())
    }

    /// Opens the directory above the last one again, if it was closed, and makes sure that it is the same:
    /// a tree that is moved during the walk must not lead elsewhere.
    fn reach_above(&mut self) -> Flow {
        let Self { shared: Shared { tree, .. }, frames, trail, visitor, .. } = self;
        let depth = frames.len().saturating_sub(2);
        let [.., above, frame] = frames.as_mut_slice() else { return ControlFlow::Continue(()) };
        let (None, Some(child)) = (&above.handle, &frame.handle) else {
            return ControlFlow::Continue(());
        };
        let reopen = || -> io::Result<OwnedFd> {
            let handle = open::parent(child)?;
            let found = stat::handle(&handle, tree.mount)?;
            if found.id != above.metadata.id {
                return Err(another());
            }
            if !above.at_end
                && let Err(error) = seek(&handle, SeekFrom::Start(above.cookie))
            {
                // A removed directory has no positions.
                let is_removed = stat::handle(&handle, tree.mount)?.links == 0;
                return Err(if is_removed { Errno::NOENT } else { error }.into());
            }
            Ok(handle)
        };
        let error = match reopen() {
            Ok(handle) => {
                visitor.reopened(&handle, depth)?;
                above.handle = Some(Arc::new(handle));
                return ControlFlow::Continue(());
            }
            Err(error) => error,
        };
        let is_removed = is_gone(&error);
        let above = &trail[..trail.len().saturating_sub(1)];
        let at = EntryRef { dir: child.as_fd(), name: c"", trail: above, base: tree.path };
        let error = at.error(Action::OpenParent, error);
        // Another process removed it, and a removed directory has no parent.
        if is_removed {
            visitor.lost()?;
        }
        // The ones near the top stay open.
        frames.pop();
        while frames.len() > 1 && frames.last().is_some_and(|frame| frame.handle.is_none()) {
            frames.pop();
        }
        trail.truncate(frames.len());
        visitor.cut_off(error, frames.len().saturating_sub(1))
    }
}

/// Walks some subdirectories of the last frame, in parallel with idle workers.
fn branch<V: Visit, C: Control>(
    shared: &Shared<'_, C>,
    frames: &[Frame],
    trail: &[CString],
    subdirs: &[CString],
    visitor: &mut V,
) -> Flow {
    match subdirs {
        [] => ControlFlow::Continue(()),
        [name] => {
            let frames = frames.iter().map(Frame::above).collect();
            let mut walk = Walk::new(shared, visitor, frames, trail.to_vec());
            shared.go_on::<V>()?;
            walk.descend(name.clone())?;
            walk.run()
        }
        _ => {
            let (left, right) = subdirs.split_at(subdirs.len() / 2);
            shared.fork(
                visitor,
                |visitor| branch(shared, frames, trail, left, visitor),
                |visitor| branch(shared, frames, trail, right, visitor),
            )
        }
    }
}

#[cfg(test)]
mod tests;
