//! What a walk tells its visitor, and what the visitor says to that.
//!
//! It must not look at the disk: these are the words that [`super`] and its visitors share.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use crate::condemn::{Failure, Stale};
use crate::look;
use crate::retention::{Bytes, Facts};

/// Why a walk ends before its end.
#[derive(Debug)]
pub(in crate::disk) enum Halt {
    /// Another part of the same walk has ended it, and has the reason.
    Elsewhere,
    /// The pass is stopped.
    Stopped,
    /// The visitor knows enough.
    Enough,
    /// The system said no.
    Failed(Failure),
}

impl Halt {
    /// What both halves of a walk came to, the weightier reason if they were halted.
    pub(super) fn of_both(left: Result<(), Self>, right: Result<(), Self>) -> Result<(), Self> {
        let weight = |result: &Result<(), Self>| match result {
            Ok(()) => 0,
            Err(Self::Elsewhere) => 1,
            Err(Self::Stopped) => 2,
            Err(Self::Enough) => 3,
            Err(Self::Failed(_)) => 4,
        };
        if weight(&left) >= weight(&right) { left } else { right }
    }
}

/// What a walk does on its way. A [`Halt`] from any method ends it.
pub(in crate::disk) trait Visit: Send + Sized {
    /// One like this that has seen nothing yet, for another part of the walk.
    fn fork(&self) -> Self;

    /// Takes over what the visitor of another part has seen.
    fn join(&mut self, other: Self);

    /// Whether subdirectories may be walked side by side.
    fn forks_dirs(&self) -> bool {
        true
    }

    /// A directory called `name` was opened, and nothing in it touched yet.
    fn enter(
        &mut self,
        name: &CStr,
        handle: &Arc<OwnedFd>,
        facts: &Facts,
        trace: Trace,
    ) -> Result<(), Halt>;

    /// Whether regular files are to be opened, because the visitor has something to ask. They are looked
    /// at through their handle then, which costs less than by their name.
    fn opens_files(&self) -> bool {
        false
    }

    /// Something that is not a directory; `opened` if it could be and was asked for.
    fn entry(&mut self, at: &Spot<'_>, facts: &Facts, opened: Option<OwnedFd>) -> Result<(), Halt>;

    /// Something that is not a directory and was looked at a moment ago. Only called when [`Self::REMOVES`].
    fn recalled(&mut self, _at: &Spot<'_>, _allocated: Bytes) -> Result<(), Halt> {
        Ok(())
    }

    /// A directory was read to its end, and its subdirectories were left; `at` is where it lies.
    fn leave(&mut self, at: &Spot<'_>, left: &Left<'_>) -> Result<Next, Halt>;

    /// Something is mounted here.
    fn mounted(&mut self, at: &Spot<'_>) -> Result<(), Halt>;

    /// Somebody else has removed the directory that the walk is in, deep in the tree.
    fn lost(&mut self) -> Result<(), Halt>;

    /// The system said no to something at this spot.
    fn trouble(&mut self, at: &Spot<'_>, failure: Failure) -> Result<(), Halt>;

    /// How much was done so far, by the visitor's own measure; see [`Left::before`].
    fn progress(&self) -> u64 {
        0
    }

    /// A directory that the walk will not come back to because it was halted. Only called when
    /// [`Self::REMOVES`].
    fn abandon(&mut self, _left: &Left<'_>) {}

    /// Whether the visitor changes directories: then it wants to see each of them once more, and the
    /// walk makes sure that they are still where they were found.
    const REMOVES: bool = false;
}

/// What happens after a directory was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::disk) enum Next {
    /// The walk goes on above it.
    Up,
    /// It is read once more from its start.
    Again,
}

/// A directory that is about to be left.
pub(in crate::disk) struct Left<'a> {
    /// The directory.
    pub(in crate::disk) handle: BorrowedFd<'a>,
    /// What it was when it was entered.
    pub(in crate::disk) facts: &'a Facts,
    /// The visitor's progress when it was entered.
    pub(in crate::disk) entered: u64,
    /// The same when this reading of it began.
    pub(in crate::disk) before: u64,
}

/// Whether reading a directory may move its access time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::disk) enum Trace {
    /// It does not.
    None,
    /// It may: the directory is another user's.
    Atime,
}

/// A name in an open directory of a tree.
#[derive(Clone, Copy)]
pub(in crate::disk) struct Spot<'a> {
    /// The directory.
    pub(in crate::disk) dir: BorrowedFd<'a>,
    /// The name.
    pub(in crate::disk) name: &'a CStr,
    /// The names from the top of the tree down to `dir`; none for the top itself.
    pub(super) trail: &'a [CString],
    pub(super) stale: &'a Stale,
}

impl<'a> Spot<'a> {
    /// A name to be looked at, or the directory itself if it is empty.
    pub(super) const fn new(
        dir: BorrowedFd<'a>,
        name: &'a CStr,
        trail: &'a [CString],
        stale: &'a Stale,
    ) -> Self {
        Self { dir, name, trail, stale }
    }

    /// How many directories of the tree lie above this name.
    pub(in crate::disk) const fn depth(&self) -> usize {
        self.trail.len()
    }

    /// The failure of `doing` something here.
    pub(in crate::disk) fn failure(
        &self,
        doing: &'static str,
        error: impl Into<io::Error>,
    ) -> Failure {
        let place = self.stale.place();
        let name = Some(self.name).filter(|name| !name.is_empty());
        let mut failure = look::failure(place, self.dir, doing, name, error);
        failure.path.clone_from(&place.path);
        for step in self.trail.iter().map(CString::as_c_str).chain([self.name]) {
            failure.path.push(OsStr::from_bytes(step.to_bytes()));
        }
        failure
    }
}
