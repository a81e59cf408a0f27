//! The parts of a walk that has forked: what they share, and the names that they divide.
//!
//! This module must not know how directories are reached, only which part does what.

use std::ffi::{CStr, CString};
use std::io;
use std::ops::{ControlFlow, Range};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::super::lease::turn;
use super::super::open;
use super::super::stat::{self, Freshness};
use super::names::Names;
use super::visit::{Break, EntryRef, Flow, Visit, of_both};
use crate::control::Control;
use crate::rules::{Action, FileId, FileKind, FileSystem, Metadata};

/// How many names one worker visits before it looks for help again.
const STRETCH: usize = 16;

/// How long a removal may continue after the pass was stopped.
const GRACE: Duration = Duration::from_millis(300);

/// The tree that is walked, and the control of the walk.
#[derive(Debug)]
pub struct WalkContext<'a, C> {
    /// When to stop, how fast to go on, and who can help.
    pub control: &'a C,
    /// The directory that holds the top of the tree.
    pub parent: std::os::fd::BorrowedFd<'a>,
    /// The identity of that directory.
    pub parent_id: crate::rules::FileId,
    /// The path of that directory, as people see it.
    pub path: &'a Path,
    /// The name of the top.
    pub name: &'a CStr,
    /// The mount that the tree is on.
    pub mount: u64,
    /// The file system that the tree is on.
    pub file_system: FileSystem,
}

/// What all parts of a walk share.
pub(super) struct Shared<'a, C> {
    pub(super) tree: &'a WalkContext<'a, C>,
    /// When the walk was first seen to be stopped.
    stopped: OnceLock<Instant>,
    /// One part has ended it for all.
    halted: AtomicBool,
}

impl<'a, C: Control> Shared<'a, C> {
    pub(super) const fn new(tree: &'a WalkContext<'a, C>) -> Self {
        Self { tree, stopped: OnceLock::new(), halted: AtomicBool::new(false) }
    }

    /// Whether the walk has to end here.
    pub(super) fn go_on<V: Visit>(&self) -> Flow {
        if self.halted.load(Ordering::Relaxed) {
            return ControlFlow::Break(Break::Elsewhere);
        }
        if self.tree.control.is_urgent() {
            let stopped = self.stopped.get_or_init(Instant::now);
            // The tree at work is finished, unless that takes too long.
            if !V::REMOVES || stopped.elapsed() > GRACE {
                return ControlFlow::Break(Break::Stopped);
            }
        }
        ControlFlow::Continue(())
    }

    /// Does two parts of the walk, in parallel if another worker is idle.
    pub(super) fn fork<V: Visit>(
        &self,
        visitor: &mut V,
        left: impl FnOnce(&mut V) -> Flow + Send,
        right: impl FnOnce(&mut V) -> Flow + Send,
    ) -> Flow {
        if !self.tree.control.has_idle_worker() {
            left(visitor)?;
            return right(visitor);
        }
        let noted = |part: Flow| {
            self.halted.fetch_or(part.is_break(), Ordering::Relaxed);
            part
        };
        let mut other = visitor.fork();
        let control = self.tree.control;
        let (left, right) = control.join(|| noted(left(visitor)), || noted(right(&mut other)));
        visitor.join(other);
        of_both(left, right)
    }
}

/// Names in one directory.
#[derive(Clone, Copy)]
pub(super) struct NamesAt<'a> {
    /// The directory, and the name that is visited.
    pub(super) entry: EntryRef<'a>,
    /// No other user can put something else under a name.
    pub(super) is_private: bool,
    /// The device number of the directory: inode numbers are unique only with it, such as in a Btrfs subvolume.
    pub(super) dev: u64,
}

/// Visits some of the names in one directory, in parallel with idle workers. Those that turn out to be
/// directories, which some file systems do not tell in their listings, are added to `dirs`.
pub(super) fn visit<V: Visit, C: Control>(
    shared: &Shared<'_, C>,
    at: NamesAt<'_>,
    names: &Names,
    dirs: &Mutex<Vec<CString>>,
    some: Range<usize>,
    visitor: &mut V,
) -> Flow {
    if some.len() > STRETCH {
        let middle = some.start.midpoint(some.end);
        return shared.fork(
            visitor,
            |visitor| visit(shared, at, names, dirs, some.start..middle, visitor),
            |visitor| visit(shared, at, names, dirs, middle..some.end, visitor),
        );
    }
    for index in some {
        let Some(name) = names.get(index) else { continue };
        shared.go_on::<V>()?;
        if V::REMOVES && !shared.tree.control.pace(1) {
            return ControlFlow::Break(Break::Stopped);
        }
        let at = NamesAt { entry: EntryRef { name, ..at.entry }, ..at };
        if let Some(ino) = names.file(index)
            && visitor.knows(FileId { dev: at.dev, ino })
        {
            continue;
        }
        visit_one(shared, &at, names.file(index).is_some(), dirs, visitor)?;
    }
    ControlFlow::Continue(())
}

/// Looks at one name, of which a listing has said whether it is a regular file, and visits it.
fn visit_one<V: Visit, C: Control>(
    shared: &Shared<'_, C>,
    names: &NamesAt<'_>,
    is_file: bool,
    dirs: &Mutex<Vec<CString>>,
    visitor: &mut V,
) -> Flow {
    if is_file && visitor.opens_files() {
        return match look_opened::<V, C>(shared, names) {
            Ok(Looked { metadata, opened }) => {
                visit_seen(&names.entry, &metadata, opened, dirs, visitor)
            }
            Err(error) => visit_unseen(shared, &names.entry, error, dirs, visitor),
        };
    }
    match look::<V, C>(shared, &names.entry) {
        Ok(metadata) => visit_seen(&names.entry, &metadata, None, dirs, visitor),
        Err(error) => visit_unseen(shared, &names.entry, error, dirs, visitor),
    }
}

/// Visits what a look has found.
fn visit_seen<V: Visit>(
    at: &EntryRef<'_>,
    metadata: &Metadata,
    opened: Option<OwnedFd>,
    dirs: &Mutex<Vec<CString>>,
    visitor: &mut V,
) -> Flow {
    if metadata.is_mount_point {
        visitor.mount_point(at)
    } else if metadata.kind == FileKind::Dir {
        dirs.lock().unwrap_or_else(PoisonError::into_inner).push(at.name.to_owned());
        ControlFlow::Continue(())
    } else {
        visitor.file(at, metadata, opened)
    }
}

/// Visits what a look has failed at. A server that does not know the file any more is asked by its name.
#[cold]
fn visit_unseen<V: Visit, C: Control>(
    shared: &Shared<'_, C>,
    at: &EntryRef<'_>,
    error: io::Error,
    dirs: &Mutex<Vec<CString>>,
    visitor: &mut V,
) -> Flow {
    let looked = match Errno::from_io_error(&error) {
        Some(Errno::STALE) if stat::exists(at.dir, at.name) => look::<V, C>(shared, at),
        Some(Errno::STALE) => Err(Errno::NOENT.into()),
        _ => Err(error),
    };
    match looked {
        Ok(metadata) => visit_seen(at, &metadata, None, dirs, visitor),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NOENT) => ControlFlow::Continue(()),
            Some(Errno::XDEV) => visitor.mount_point(at),
            _ => visitor.failed(at, at.error(Action::Stat, error)),
        },
    }
}

/// What a look at a name found, and the file, if it was opened.
struct Looked {
    metadata: Metadata,
    opened: Option<OwnedFd>,
}

impl Looked {
    const fn closed(metadata: Metadata) -> Self {
        Self { metadata, opened: None }
    }
}

/// Looks at a name. A server that is mounted there is not asked: it may never answer.
fn look<V: Visit, C: Control>(shared: &Shared<'_, C>, at: &EntryRef<'_>) -> io::Result<Metadata> {
    let mount = shared.tree.mount;
    let known = stat::at(at.dir, at.name, mount, Freshness::Cached)?;
    if V::LOOKS_IN_CACHE || !shared.tree.file_system.is_served() || known.is_mount_point {
        return Ok(known);
    }
    stat::at(at.dir, at.name, mount, Freshness::Synced)
}

/// Looks at what a listing says is a regular file through a handle. The file is open afterwards, if that is
/// possible and it has no other name.
fn look_opened<V: Visit, C: Control>(
    shared: &Shared<'_, C>,
    at: &NamesAt<'_>,
) -> io::Result<Looked> {
    let _unknown = turn::before_links_are_known();
    let handle = match open::listed(at.entry.dir, at.entry.name, at.is_private) {
        // It may be looked at though it may not be opened, and a lease of another process does not matter here.
        Err(Errno::ACCESS | Errno::PERM | Errno::LOOP | Errno::NXIO | Errno::WOULDBLOCK) => {
            return look::<V, C>(shared, &at.entry).map(Looked::closed);
        }
        handle => handle?,
    };
    let metadata = stat::handle(&handle, shared.tree.mount)?;
    if metadata.kind != FileKind::File || metadata.links != 1 {
        return Ok(Looked::closed(metadata));
    }
    let opened = if at.is_private { Some(handle) } else { open::reopen(&handle).ok() };
    Ok(Looked { metadata, opened })
}
