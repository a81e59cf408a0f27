//! The data root, opened once, and the directories that are never one.
//!
//! This module must not list or change anything. Everything else starts from the directories that are opened here.
//! A directory that cannot be examined is not treated as missing: the error ends the search.

mod error;
mod guard;

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::{file_system, stat};
use crate::rules::{FileId, FileSystem};
pub use error::RootError;
pub use guard::Forbidden;

/// An open data root.
#[derive(Debug)]
pub struct DataRoot {
    path: PathBuf,
    handle: OwnedFd,
    id: FileId,
    mount: u64,
    /// Directories outside of it that zones name.
    outside: Vec<Outside>,
    /// Directories below it that are elsewhere, and where.
    places: Vec<(PathBuf, PathBuf)>,
}

/// A directory outside the data root.
#[derive(Debug)]
pub struct Outside {
    /// Its path, as the settings name it.
    pub path: PathBuf,
    /// The directory.
    pub handle: OwnedFd,
    /// Its identity.
    pub id: FileId,
    /// The mount that it is on.
    pub mount: u64,
    /// Its path without links.
    real: PathBuf,
    /// The directory below the data root whose place it takes.
    stands_for: Option<PathBuf>,
}

/// How many marks a directory must have to be a data root.
const MARKS: usize = 2;

impl DataRoot {
    /// Opens the data root that the user names. It must contain the first of `marks` or two of them, if
    /// there are any.
    ///
    /// # Errors
    /// It cannot be opened or examined, is no data root, or is refused.
    pub fn open(
        path: &Path,
        marks: &[&'static str],
        forbidden: &Forbidden,
    ) -> Result<Self, RootError> {
        Self::open_with(path, marks, forbidden, |found| {
            marks.first().is_none_or(|first| found.contains(first)) || found.len() >= MARKS
        })
    }

    /// Opens the first of `candidates` that is a data root: it contains two of `marks`.
    ///
    /// # Errors
    /// None is one; or one that exists cannot be examined or used.
    pub fn find(
        candidates: &[PathBuf],
        marks: &[&'static str],
        forbidden: &Forbidden,
    ) -> Result<Self, RootError> {
        let (mut near, mut empty) = (None, None);
        for candidate in candidates {
            match Self::open_with(candidate, marks, forbidden, |found| found.len() >= MARKS) {
                Err(RootError::NoMark { path, marks, found, meant }) => {
                    let best =
                        if found.is_empty() && meant.is_none() { &mut empty } else { &mut near };
                    let error = RootError::NoMark { path, marks, found, meant };
                    best.get_or_insert_with(|| Box::new(error));
                }
                Err(RootError::Unopened { error, .. })
                    if error.kind() == io::ErrorKind::NotFound => {}
                found => return found,
            }
        }
        Err(RootError::NoneFound { tried: candidates.to_vec(), near: near.or(empty) })
    }

    fn open_with(
        path: &Path,
        marks: &[&'static str],
        forbidden: &Forbidden,
        is_enough: impl Fn(&[&'static str]) -> bool,
    ) -> Result<Self, RootError> {
        let (handle, id, mount) = open_allowed(path, OFlags::PATH, forbidden)?;
        let mut found = Vec::new();
        for mark in marks {
            // A server that keeps another one may be unreachable.
            if is_enough(&found) {
                break;
            }
            let unexamined = |error| RootError::Unexamined { path: path.join(mark), error };
            let name = CString::new(*mark).map_err(|error| unexamined(error.into()))?;
            if stat::is_dir(&handle, &name).map_err(unexamined)? {
                found.push(*mark);
            }
        }
        if !is_enough(&found) {
            let path = absolute(path);
            let near = path.ancestors().skip(1).take(3).map(Path::to_owned);
            // Where the chart of CVAT mounts it, and where Docker keeps a volume.
            let below = ["data", "_data"].map(|name| path.join(name));
            let mut all = near.chain(below.clone());
            let meant = all.find(|near| near.join(marks[0]).is_dir());
            let found_in = |dir: &Path| marks.iter().filter(|mark| dir.join(mark).is_dir()).count();
            let meant = meant.or_else(|| below.into_iter().find(|dir| found_in(dir) >= MARKS));
            let marks = marks.to_vec();
            return Err(RootError::NoMark { path, marks, found, meant });
        }
        // Reports are read elsewhere. Links are not resolved: others know the path as it is given.
        let path = std::path::absolute(path)
            .map_err(|error| RootError::Unopened { path: path.to_owned(), error })?;
        // Without a slash at the end.
        let path = path.components().as_path().to_owned();
        Ok(Self { path, handle, id, mount, outside: Vec::new(), places: Vec::new() })
    }

    /// Opens the directories outside the data root that zones name. They are held to the same checks. One
    /// that does not exist is left out.
    ///
    /// # Errors
    /// One cannot be opened, is refused, is below the data root or above it, or overlaps another.
    pub fn with_outside(
        mut self,
        paths: &[PathBuf],
        forbidden: &Forbidden,
    ) -> Result<Self, RootError> {
        for path in paths {
            self.open_outside(path, None, forbidden)?;
        }
        Ok(self)
    }

    /// Opens the directory `path` outside the data root, which takes the place of `inside` below it.
    ///
    /// # Errors
    /// As [`Self::with_outside`].
    pub fn with_place(
        mut self,
        inside: &Path,
        path: &Path,
        forbidden: &Forbidden,
    ) -> Result<Self, RootError> {
        self.open_outside(path, Some(inside), forbidden)?;
        self.places.push((inside.to_owned(), path.to_owned()));
        Ok(self)
    }

    fn open_outside(
        &mut self,
        path: &Path,
        stands_for: Option<&Path>,
        forbidden: &Forbidden,
    ) -> Result<(), RootError> {
        let refused =
            |why: &str| Err(RootError::Refused { path: path.to_owned(), why: why.to_owned() });
        let real_path = |path: &Path| {
            let real = path.canonicalize();
            real.map_err(|error| RootError::Unexamined { path: path.to_owned(), error })
        };
        let (handle, id, mount) = match open_allowed(path, OFlags::RDONLY, forbidden) {
            Err(RootError::Unopened { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(());
            }
            opened => opened?,
        };
        let (root, real) = (real_path(&self.path)?, real_path(path)?);
        if real.starts_with(&root) {
            return refused(if stands_for.is_some() {
                "it is below the data root"
            } else {
                "it is below the data root: write its path relative to that"
            });
        }
        if root.starts_with(&real) {
            return refused("it contains the data root");
        }
        let nested =
            |other: &Outside| real.starts_with(&other.real) || other.real.starts_with(&real);
        if self.outside.iter().any(nested) {
            return refused("it overlaps the directory of another zone, by a link");
        }
        let (path, stands_for) = (path.to_owned(), stands_for.map(Path::to_owned));
        self.outside.push(Outside { path, handle, id, mount, real, stands_for });
        Ok(())
    }

    /// Where the directory `inside` below the data root really is, if not there.
    pub fn place_of(&self, inside: &Path) -> Option<&Path> {
        let mut places = self.places.iter();
        places.find(|(logical, _)| logical == inside).map(|(_, path)| path.as_path())
    }

    /// Directories below the data root that are elsewhere, and where.
    pub fn places(&self) -> &[(PathBuf, PathBuf)] {
        &self.places
    }

    /// Its absolute path, with the links that were given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory itself.
    pub const fn handle(&self) -> &OwnedFd {
        &self.handle
    }

    /// The directory opened for a lock.
    ///
    /// # Errors
    /// What the system says.
    pub fn reopen(&self) -> io::Result<OwnedFd> {
        Ok(super::open::dir(&self.handle, c".", super::open::Across::AnyMount)?.handle)
    }

    /// Its identity.
    pub const fn id(&self) -> FileId {
        self.id
    }

    /// The mount that it is on.
    pub const fn mount(&self) -> u64 {
        self.mount
    }

    /// The file system that it is on.
    pub fn file_system(&self) -> FileSystem {
        file_system::of(&self.handle)
    }

    /// The directory outside that a zone names, if it exists.
    pub fn outside(&self, path: &Path) -> Option<&Outside> {
        self.outside.iter().find(|outside| outside.path == path)
    }

    /// A path relative to the data root, or as it is if it is in a directory outside that a zone of its own
    /// names; `None` when it is elsewhere. The last component is not resolved: it may be a link, and may be gone.
    ///
    /// # Errors
    /// What the system says of the directory that holds the path.
    pub fn relative(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        let full = std::path::absolute(path)?;
        // Reading a link moves its atime, so links are only resolved for a path that is written differently
        // from the root.
        let root = std::path::absolute(&self.path)?;
        let goes_up = full.components().any(|step| step == Component::ParentDir);
        if !goes_up {
            if let Ok(relative) = full.strip_prefix(&root) {
                return Ok(Some(relative.to_owned()));
            }
            let outside = self.outside.iter().find_map(|it| it.relative(&full, &it.path));
            if outside.is_some() {
                return Ok(outside);
            }
        }
        let root = root.canonicalize()?;
        let (Some(parent), Some(name)) = (full.parent(), full.file_name()) else {
            return Ok(None);
        };
        let full = parent.canonicalize()?.join(name);
        if let Ok(relative) = full.strip_prefix(&root) {
            return Ok(Some(relative.to_owned()));
        }
        Ok(self.outside.iter().find_map(|outside| outside.relative(&full, &outside.real)))
    }
}

impl Outside {
    /// `full` as the path of an entry, if it is below `own`, which is one of the ways to write this directory.
    fn relative(&self, full: &Path, own: &Path) -> Option<PathBuf> {
        let rest = full.strip_prefix(own).ok()?;
        Some(self.stands_for.as_ref().unwrap_or(&self.path).join(rest))
    }
}

/// A path as an absolute one, for people; as it is if the working directory is gone.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Opens a directory that is not forbidden.
fn open_allowed(
    path: &Path,
    flags: OFlags,
    forbidden: &Forbidden,
) -> Result<(OwnedFd, FileId, u64), RootError> {
    let unopened = |error: io::Error| RootError::Unopened { path: absolute(path), error };
    let open =
        |flags| openat(CWD, path, flags | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let handle = match open(flags | OFlags::NOATIME) {
        // O_PATH takes no other flags, and other users' directories refuse O_NOATIME.
        Err(_) => open(flags),
        opened => opened,
    };
    let handle = handle.map_err(|error| unopened(error.into()))?;
    let (id, mount) = stat::id_and_mount(&handle).map_err(unopened)?;
    let refused = |why| RootError::Refused { path: absolute(path), why };
    forbidden.allow(id, path).map_err(refused)?;
    Ok((handle, id, mount))
}

#[cfg(test)]
mod tests;
