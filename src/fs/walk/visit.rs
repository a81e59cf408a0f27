//! What a walk tells its visitor, and what the visitor answers.
//!
//! This module must not do I/O: these are the types that [`super`] and its visitors share.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::super::error::{self, PathError};
use crate::rules::{Action, FileId, Metadata};

/// Why a walk ends before its end.
#[derive(Debug)]
pub enum Break {
    /// Another part of the same walk has ended it, and has the reason.
    Elsewhere,
    /// The pass is stopped.
    Stopped,
    /// The visitor knows enough.
    Enough,
    /// An operation failed.
    Failed(PathError),
}

/// Whether a walk continues.
pub type Flow = ControlFlow<Break>;

/// The result of both parts of a walk: the more important reason if they were ended.
pub(super) fn of_both(left: Flow, right: Flow) -> Flow {
    let weight = |flow: &Flow| match flow {
        ControlFlow::Continue(()) => 0,
        ControlFlow::Break(Break::Elsewhere) => 1,
        ControlFlow::Break(Break::Stopped) => 2,
        ControlFlow::Break(Break::Enough) => 3,
        ControlFlow::Break(Break::Failed(_)) => 4,
    };
    if weight(&left) >= weight(&right) { left } else { right }
}

/// What is done on a walk. A [`Break`] from any method ends it.
pub trait Visit: Send + Sized {
    /// Whether the visitor removes what it visits. Then the walk makes sure that directories are still
    /// where they were found.
    const REMOVES: bool = false;

    /// Whether a look at a file may come from a cache of this machine. It must not if something is removed, or judged
    /// for the last time, because of it.
    const LOOKS_IN_CACHE: bool = false;

    /// A new visitor for another part of the walk.
    #[must_use]
    fn fork(&self) -> Self;

    /// Takes over the result of the visitor of another part.
    fn join(&mut self, other: Self);

    /// Whether subdirectories may be walked in parallel.
    fn forks_dirs(&self) -> bool {
        true
    }

    /// The name of the directory that is entered next, at this depth.
    fn named(&mut self, _name: &CStr, _depth: usize) {}
    /// A directory was opened and not read yet. The top has depth 0.
    fn enter(
        &mut self,
        dir: &OwnedFd,
        metadata: &Metadata,
        depth: usize,
        moves_atime: bool,
    ) -> Flow;

    /// A directory that was entered before had to be closed, deep in the tree, and is open again: it is the same one. A
    /// lock on it did not last.
    fn reopened(&mut self, _dir: &OwnedFd, _depth: usize) -> Flow {
        ControlFlow::Continue(())
    }

    /// Whether the directory that was just entered is to be read.
    fn reads(&self, _metadata: &Metadata) -> bool {
        true
    }

    /// Whether regular files are to be opened. They are looked at through their handle then, which costs
    /// less than by their name.
    fn opens_files(&self) -> bool {
        false
    }

    /// Whether the visitor needs no look at a listed regular file that is this one.
    fn knows(&mut self, _file: FileId) -> bool {
        false
    }

    /// An entry that is not a directory; `opened` if that was asked for and possible, and it has no other name.
    fn file(&mut self, at: &EntryRef<'_>, metadata: &Metadata, opened: Option<OwnedFd>) -> Flow;

    /// A directory was read to its end, and its subdirectories were left; `at` is its own entry.
    fn leave(&mut self, at: &EntryRef<'_>, dir: &Leaving<'_>) -> ControlFlow<Break, Next>;

    /// A mount point.
    fn mount_point(&mut self, at: &EntryRef<'_>) -> Flow;

    /// Another process has removed the directory that the walk is in, deep in the tree. A visitor that
    /// continues hears more from [`Self::cut_off`].
    fn lost(&mut self) -> Flow;
    /// The walk cannot go back to the directory above, deep in the tree: another process has moved it or
    /// removed it. If the visitor continues, so does the walk, in the directory at `depth`; what is left of
    /// those below it is not visited, and they are not left.
    fn cut_off(&mut self, error: PathError, _depth: usize) -> Flow {
        ControlFlow::Break(Break::Failed(error))
    }

    /// An operation failed at this entry.
    fn failed(&mut self, at: &EntryRef<'_>, error: PathError) -> Flow;

    /// How much was done so far, in a unit of the visitor's own; see [`Leaving::before`].
    fn progress(&self) -> u64 {
        0
    }
}

/// What happens after a directory was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The walk continues above it.
    Up,
    /// It is read again from its start.
    Again,
}

/// A directory that is about to be left.
#[derive(Debug)]
pub struct Leaving<'a> {
    /// Its metadata when it was entered.
    pub metadata: &'a Metadata,
    /// The visitor's progress when this reading of it began.
    pub before: u64,
}

/// A name in an open directory of a tree.
#[derive(Debug, Clone, Copy)]
pub struct EntryRef<'a> {
    /// The directory.
    pub dir: BorrowedFd<'a>,
    /// The name.
    pub name: &'a CStr,
    /// The names from the top of the tree down to `dir`; none for the top itself.
    pub(super) trail: &'a [CString],
    /// The path of the directory that holds the top, as people see it.
    pub(super) base: &'a Path,
}

impl EntryRef<'_> {
    /// How many directories of the tree are above this name.
    pub const fn depth(&self) -> usize {
        self.trail.len()
    }

    /// The path of this name, or of the directory if the name is empty, as people see it.
    pub fn path(&self) -> PathBuf {
        let mut path = self.base.to_owned();
        let name = Some(self.name).filter(|name| !name.is_empty());
        for step in self.trail.iter().map(CString::as_c_str).chain(name) {
            path.push(OsStr::from_bytes(step.to_bytes()));
        }
        path
    }

    /// The error of an operation at this name, or at the directory if the name is empty.
    pub fn error(&self, action: Action, error: impl Into<io::Error>) -> PathError {
        let error = error.into();
        let name = Some(self.name).filter(|name| !name.is_empty());
        let hint = error::hint(self.dir, name, action, &error);
        PathError { action, path: self.path(), error, hint }
    }
}
