//! A data root: which directory it is, where its zones lie, and what is never entered.
//!
//! It must not list or change anything. The root is opened once; everything else starts from there.
//! Only the paths in [`Volume::roots`] are ever entered: `data`, `assets`, `storages`, `models`,
//! `cache/events` and whatever else lies under the root are never looked into.

mod unit;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::condemn::Place;
use crate::look;
use crate::retention::{FileId, Zone};
pub use unit::Unit;

/// What a data root has at least one of.
const MARKS: [&str; 5] = ["cache/export", "tmp", "projects", "tasks", "jobs"];

/// How full a file system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Its size.
    pub bytes: u64,
    /// What of it is taken.
    pub bytes_used: u64,
    /// How many inodes it can have; 0 where that has no limit.
    pub inodes: u64,
    /// How many it has.
    pub inodes_used: u64,
}

impl Space {
    /// Of the file system that `path` is on.
    ///
    /// # Errors
    /// What the system says.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        let all = rustix::fs::statvfs(path)?;
        Ok(Self {
            bytes: all.f_blocks.saturating_mul(all.f_frsize),
            bytes_used: all.f_blocks.saturating_sub(all.f_bfree).saturating_mul(all.f_frsize),
            inodes: all.f_files,
            inodes_used: all.f_files.saturating_sub(all.f_ffree),
        })
    }
}

/// An open data root.
#[derive(Debug)]
pub struct Volume {
    path: PathBuf,
    handle: OwnedFd,
    id: FileId,
    mount: u64,
}

/// Why a directory is not swept.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// Nowhere to look.
    #[error(
        "no data root: none of these is one: {}; give it with --data DIR",
        tried.iter().map(|p| format!("{p:?}")).collect::<Vec<_>>().join(", ")
    )]
    NoneFound {
        /// Where was looked.
        tried: Vec<PathBuf>,
    },
    /// The directory cannot be opened.
    #[error("cannot open the data root {path:?}: {error}")]
    Unopened {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// It has none of the zones.
    #[error(
        "{path:?} is not a data root: it has neither cache/export nor tmp nor projects, tasks, \
         jobs{}", meant.as_ref().map(|p| format!("; did you mean {p:?}?")).unwrap_or_default()
    )]
    NotAVolume {
        /// Which.
        path: PathBuf,
        /// A directory close by that is one.
        meant: Option<PathBuf>,
    },
    /// Sweeping it would be a mistake.
    #[error("{path:?} is refused as a data root: {why}")]
    Refused {
        /// Which.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
}

/// Directories that are never a data root, beside `/`.
#[derive(Debug, Default)]
pub struct Forbidden {
    /// Users' homes.
    pub homes: Vec<PathBuf>,
    /// The running program: a root that contains it is refused.
    pub program: Option<PathBuf>,
}

impl Volume {
    /// Opens the data root at `path`.
    ///
    /// # Errors
    /// It cannot be opened, is no data root, or is one of those that are refused.
    pub fn open(path: &Path, forbidden: &Forbidden) -> Result<Self, VolumeError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::PATH;
        let unopened =
            |error: std::io::Error| VolumeError::Unopened { path: path.to_owned(), error };
        let handle =
            openat(CWD, path, flags, Mode::empty()).map_err(|error| unopened(error.into()))?;
        let refused = |why| Err(VolumeError::Refused { path: path.to_owned(), why });
        let (own, mount) = look::id_and_mount(&handle).map_err(unopened)?;
        if id_at("/".as_ref()) == Some(own) {
            return refused("it is the root of the file system");
        }
        if forbidden.homes.iter().any(|home| id_at(home) == Some(own)) {
            return refused("it is a home directory");
        }
        let program = forbidden.program.iter().flat_map(|program| program.ancestors().skip(1));
        if program.filter_map(id_at).any(|id| id == own) {
            return refused("it contains this program");
        }
        if !MARKS.iter().any(|mark| path.join(mark).is_dir()) {
            let meant = path
                .ancestors()
                .skip(1)
                .take(3)
                .map(Path::to_owned)
                .chain([path.join("data")])
                .find(|near| near.join("cache/export").is_dir());
            return Err(VolumeError::NotAVolume { path: path.to_owned(), meant });
        }
        Ok(Self { path: path.to_owned(), handle, id: own, mount })
    }

    /// The first of `candidates` that is a data root at all.
    ///
    /// # Errors
    /// None is; or the first that is cannot be used.
    pub fn find(candidates: &[PathBuf], forbidden: &Forbidden) -> Result<Self, VolumeError> {
        for candidate in candidates {
            match Self::open(candidate, forbidden) {
                Err(VolumeError::NotAVolume { .. }) => {}
                Err(VolumeError::Unopened { error, .. })
                    if error.kind() == std::io::ErrorKind::NotFound => {}
                found => return found,
            }
        }
        Err(VolumeError::NoneFound { tried: candidates.to_vec() })
    }

    /// Its path, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The mount that its root is on.
    pub const fn mount(&self) -> u64 {
        self.mount
    }

    /// A path relative to the root; nothing when it lies elsewhere. Its last component is taken as it
    /// is, for it may be a link, and may be gone.
    ///
    /// # Errors
    /// What the system says of the directory that the path lies in.
    pub fn relative(&self, path: &Path) -> std::io::Result<Option<PathBuf>> {
        let full = std::path::absolute(path)?;
        // Reading a link moves its access time, so links are only resolved for a path that is spelled
        // differently from the root.
        let root = std::path::absolute(&self.path)?;
        let goes_up = full.components().any(|step| step == std::path::Component::ParentDir);
        if let (false, Ok(relative)) = (goes_up, full.strip_prefix(&root)) {
            return Ok(Some(relative.to_owned()));
        }
        let root = root.canonicalize()?;
        let (Some(parent), Some(name)) = (full.parent(), full.file_name()) else {
            return Ok(None);
        };
        let full = parent.canonicalize()?.join(name);
        Ok(full.strip_prefix(&root).map(Path::to_owned).ok())
    }

    /// The directories that a zone is listed from, relative to the root.
    pub fn roots(&self, zone: Zone) -> impl Iterator<Item = &'static Path> {
        let roots: &[&str] = match zone {
            Zone::Export => &["cache/export"],
            Zone::Tmp => &["tmp"],
            Zone::InstanceTmp | Zone::Legacy => &["projects", "tasks", "jobs"],
        };
        roots.iter().map(Path::new)
    }

    /// The root itself as a place to step down from.
    pub(crate) fn place(&self, zone: Zone) -> std::io::Result<Place> {
        Ok(Place {
            zone,
            path: self.path.clone(),
            dir: PathBuf::new(),
            handle: self.handle.try_clone()?,
            id: self.id,
            mount: self.mount,
        })
    }
}

fn id_at(path: &Path) -> Option<FileId> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
    look::follow(&path).ok()
}
