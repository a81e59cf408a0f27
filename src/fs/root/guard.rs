//! The directories that are never swept: `/`, those of the system, home directories, and those that contain
//! this program.
//!
//! It must not let a directory pass that it could not compare: an error means no.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::fs::stat;
use crate::rules::FileId;
use crate::units;

/// Directories of the system. They are never swept as a whole, though a directory below them may be.
const SYSTEM: [&str; 32] = [
    "/bin",
    "/boot",
    "/dev",
    "/dev/shm",
    "/etc",
    "/home",
    "/lib",
    "/lib32",
    "/lib64",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/snap",
    "/srv",
    "/sys",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/local",
    "/usr/sbin",
    "/usr/share",
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/lib/docker",
    "/var/lib/docker/volumes",
    "/var/log",
    "/var/spool",
];

/// Directories that are never swept, besides `/` and those of the system.
#[derive(Debug, Default, Clone)]
pub struct Forbidden {
    /// Home directories.
    pub homes: Vec<PathBuf>,
    /// The running program: a directory that contains it is refused.
    pub program: Option<PathBuf>,
    /// Why some of them are unknown, if they are. Then every directory is refused.
    pub unknown: Option<String>,
}

impl Forbidden {
    /// Allows the directory `at` with this identity to be swept.
    ///
    /// # Errors
    /// Why it is refused.
    pub(super) fn allow(&self, own: FileId, at: &Path) -> Result<(), String> {
        if let Some(why) = &self.unknown {
            return Err(why.clone());
        }
        let above = self.program.iter().flat_map(|program| program.ancestors().skip(1));
        let root = [(Path::new("/"), "it is the root of the file system")];
        let system = SYSTEM.iter().map(|path| (Path::new(path), "it is a system directory"));
        let homes = self.homes.iter().map(|home| (home.as_path(), "it is a home directory"));
        let program = above.map(|path| (path, "it contains this program"));
        for (path, why) in root.into_iter().chain(system).chain(homes).chain(program) {
            match is_at(path, own) {
                Ok(false) => {}
                Ok(true) => return Err(why.to_owned()),
                // This process may not reach it by that path, as in the sandbox of a service.
                Err(error)
                    if error.kind() == io::ErrorKind::PermissionDenied
                        && is_elsewhere(at, path) => {}
                Err(error) => {
                    let error = units::error(&error);
                    return Err(format!(
                        "it could be {path:?}, which is never swept, and which cannot be examined: {error}"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Whether the directory `at` was certainly not reached by `path`.
fn is_elsewhere(at: &Path, path: &Path) -> bool {
    at != path && at.canonicalize().is_ok_and(|real| real != path)
}

/// Whether `path` leads to the directory with this identity.
fn is_at(path: &Path, own: FileId) -> io::Result<bool> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    match stat::follow(&path) {
        Ok(id) => Ok(id == own),
        // There is nothing at that path.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
