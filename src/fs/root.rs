//! The data root, opened once, and the directories that are never one.
//!
//! It must not list or change anything. Everything else starts from the directories that are opened here.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::{file_system, stat};
use crate::rules::{FileId, FileSystem};

/// Directories of the system. They are never swept as a whole, though a directory below them may be.
const SYSTEM: [&str; 20] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/usr",
    "/usr/local",
    "/var",
    "/var/lib",
];

/// An open data root.
#[derive(Debug)]
pub struct DataRoot {
    path: PathBuf,
    handle: OwnedFd,
    id: FileId,
    mount: u64,
    /// Directories outside of it that zones name.
    outside: Vec<Outside>,
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
}

/// Why a directory cannot be a data root.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// None of the candidates is one.
    #[error(
        "no data root found in {}; name it with --data DIR",
        tried.iter().map(|path| format!("{path:?}")).collect::<Vec<_>>().join(", ")
    )]
    NoneFound {
        /// The candidates.
        tried: Vec<PathBuf>,
    },
    /// The directory cannot be opened.
    #[error("cannot open the data root {path:?}: {error}")]
    Unopened {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It contains none of the directories that a data root has.
    #[error(
        "{path:?} is not a data root: it contains none of {}{}", marks.join(", "),
        meant.as_ref().map(|path| format!("; did you mean {path:?}?")).unwrap_or_default()
    )]
    NoMark {
        /// The directory.
        path: PathBuf,
        /// What a data root has at least one of.
        marks: Vec<&'static str>,
        /// A directory nearby that is one.
        meant: Option<PathBuf>,
    },
    /// Sweeping it would be a mistake.
    #[error("{path:?} is refused: {why}")]
    Refused {
        /// The directory.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
}

/// Directories that are never swept, besides `/` and those of the system.
#[derive(Debug, Default, Clone)]
pub struct Forbidden {
    /// Home directories.
    pub homes: Vec<PathBuf>,
    /// The running program: a directory that contains it is refused.
    pub program: Option<PathBuf>,
}

impl Forbidden {
    /// Why the directory with this identity is refused, if it is.
    fn refusal(&self, own: FileId) -> Option<&'static str> {
        let is_own = |path: &Path| id_at(path) == Some(own);
        if is_own(Path::new("/")) {
            return Some("it is the root of the file system");
        }
        if SYSTEM.iter().any(|path| is_own(Path::new(path))) {
            return Some("it is a system directory");
        }
        if self.homes.iter().any(|home| is_own(home)) {
            return Some("it is a home directory");
        }
        let mut above = self.program.iter().flat_map(|program| program.ancestors().skip(1));
        above.any(is_own).then_some("it contains this program")
    }
}

impl DataRoot {
    /// Opens the data root at `path`. It must contain one of `marks`, if there are any.
    ///
    /// # Errors
    /// It cannot be opened, is no data root, or is refused.
    pub fn open(
        path: &Path,
        marks: &[&'static str],
        forbidden: &Forbidden,
    ) -> Result<Self, RootError> {
        let (handle, id, mount) = open_allowed(path, OFlags::PATH, forbidden)?;
        if !marks.is_empty() && !marks.iter().any(|mark| path.join(mark).is_dir()) {
            let near = path.ancestors().skip(1).take(3).map(Path::to_owned);
            let meant = near.chain([path.join("data")]).find(|near| near.join(marks[0]).is_dir());
            return Err(RootError::NoMark { path: path.to_owned(), marks: marks.to_vec(), meant });
        }
        Ok(Self { path: path.to_owned(), handle, id, mount, outside: Vec::new() })
    }

    /// Opens the first of `candidates` that is a data root.
    ///
    /// # Errors
    /// None is; or the first that is one cannot be used.
    pub fn find(
        candidates: &[PathBuf],
        marks: &[&'static str],
        forbidden: &Forbidden,
    ) -> Result<Self, RootError> {
        for candidate in candidates {
            match Self::open(candidate, marks, forbidden) {
                Err(RootError::NoMark { .. }) => {}
                Err(RootError::Unopened { error, .. })
                    if error.kind() == io::ErrorKind::NotFound => {}
                found => return found,
            }
        }
        Err(RootError::NoneFound { tried: candidates.to_vec() })
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
        let refused = |path: &Path, why| RootError::Refused { path: path.to_owned(), why };
        let root = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        for path in paths {
            let opened = match open_allowed(path, OFlags::RDONLY, forbidden) {
                Err(RootError::Unopened { error, .. })
                    if error.kind() == io::ErrorKind::NotFound =>
                {
                    continue;
                }
                opened => opened?,
            };
            let real = path.canonicalize().unwrap_or_else(|_| path.clone());
            if real.starts_with(&root) {
                return Err(refused(
                    path,
                    "it is below the data root: write its path relative to that",
                ));
            }
            if root.starts_with(&real) {
                return Err(refused(path, "it contains the data root"));
            }
            let nested =
                |other: &Outside| real.starts_with(&other.real) || other.real.starts_with(&real);
            if self.outside.iter().any(nested) {
                return Err(refused(path, "it overlaps the directory of another zone, by a link"));
            }
            let (handle, id, mount) = opened;
            self.outside.push(Outside { path: path.clone(), handle, id, mount, real });
        }
        Ok(self)
    }

    /// Its path, as it was given.
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

    /// A path relative to the data root, or as it is if it is in a directory outside that a zone names;
    /// `None` when it is elsewhere. The last component is not resolved: it may be a link, and may be gone.
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
            if self.outside.iter().any(|outside| full.starts_with(&outside.path)) {
                return Ok(Some(full));
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
        for outside in &self.outside {
            if let Ok(relative) = full.strip_prefix(outside.path.canonicalize()?) {
                return Ok(Some(outside.path.join(relative)));
            }
        }
        Ok(None)
    }
}

/// Opens a directory that is not forbidden.
fn open_allowed(
    path: &Path,
    flags: OFlags,
    forbidden: &Forbidden,
) -> Result<(OwnedFd, FileId, u64), RootError> {
    let unopened = |error: io::Error| RootError::Unopened { path: path.to_owned(), error };
    let open =
        |flags| openat(CWD, path, flags | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let handle = match open(flags | OFlags::NOATIME) {
        // O_PATH takes no other flags, and other users' directories refuse O_NOATIME.
        Err(_) => open(flags),
        opened => opened,
    };
    let handle = handle.map_err(|error| unopened(error.into()))?;
    let (id, mount) = stat::id_and_mount(&handle).map_err(unopened)?;
    match forbidden.refusal(id) {
        Some(why) => Err(RootError::Refused { path: path.to_owned(), why }),
        None => Ok((handle, id, mount)),
    }
}

fn id_at(path: &Path) -> Option<FileId> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    stat::follow(&path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const MARKS: [&str; 2] = ["cache/export", "tmp"];

    fn volume() -> (tempfile::TempDir, PathBuf) {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("data");
        fs::create_dir_all(root.join("cache/export")).unwrap();
        (scratch, root)
    }

    #[test]
    fn system_directories_homes_and_the_program_are_refused() {
        let (scratch, root) = volume();
        let forbidden =
            Forbidden { homes: vec![root.clone()], program: Some(scratch.path().join("bin/x")) };
        for path in ["/", "/var", "/usr", "/etc", "/home", "/tmp/..", "/usr/local"] {
            let refused = DataRoot::open(Path::new(path), &[], &Forbidden::default());
            assert!(matches!(refused, Err(RootError::Refused { .. })), "{path}: {refused:?}");
        }
        assert!(matches!(
            DataRoot::open(&root, &MARKS, &forbidden),
            Err(RootError::Refused { .. })
        ));
        let above = DataRoot::open(scratch.path(), &[], &forbidden);
        assert!(above.unwrap_err().to_string().contains("contains this program"));
        assert!(DataRoot::open(&root, &MARKS, &Forbidden::default()).is_ok());
    }

    #[test]
    fn a_data_root_has_a_mark_and_a_near_miss_is_named() {
        let (_scratch, root) = volume();
        let inside = DataRoot::open(&root.join("cache"), &MARKS, &Forbidden::default());
        let message = inside.unwrap_err().to_string();
        assert!(message.contains("did you mean") && message.contains("cache/export"), "{message}");
        let found = DataRoot::find(
            &[root.join("none"), root.join("cache"), root.clone()],
            &MARKS,
            &Forbidden::default(),
        );
        assert_eq!(found.unwrap().path(), root);
    }

    #[test]
    fn a_directory_outside_must_be_outside() {
        let (scratch, root) = volume();
        let open = || DataRoot::open(&root, &MARKS, &Forbidden::default()).unwrap();
        let other = scratch.path().join("other");
        fs::create_dir(&other).unwrap();
        let link = scratch.path().join("link");
        std::os::unix::fs::symlink(root.join("cache"), &link).unwrap();
        let none = scratch.path().join("none");
        let with = |paths: &[&PathBuf]| {
            let paths: Vec<PathBuf> = paths.iter().map(|path| (*path).clone()).collect();
            open().with_outside(&paths, &Forbidden::default())
        };
        let found = with(&[&other, &none]).unwrap();
        assert!(found.outside(&other).is_some() && found.outside(&none).is_none());
        assert_eq!(found.relative(&other.join("x/y")).unwrap(), Some(other.join("x/y")));
        assert_eq!(found.relative(&root.join("tmp/a")).unwrap(), Some("tmp/a".into()));
        assert_eq!(found.relative(scratch.path()).unwrap(), None);
        for bad in [&link, &root.join("cache"), &scratch.path().to_owned(), &"/var".into()] {
            assert!(with(&[bad]).is_err(), "{bad:?}");
        }
        // The same directory, or one in it, by a link.
        fs::create_dir(other.join("sub")).unwrap();
        for (name, target) in [("same", other.clone()), ("in-it", other.join("sub"))] {
            let link = scratch.path().join(name);
            std::os::unix::fs::symlink(target, &link).unwrap();
            assert!(with(&[&link]).is_ok() && with(&[&link, &other]).is_err());
        }
    }
}
