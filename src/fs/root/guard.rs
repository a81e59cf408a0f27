//! The directories that are never swept: `/`, those of the system, home directories, and those that contain
//! this program.
//!
//! This module must not let a directory pass that it could not compare: an error means no.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::fs::error::is_missing;
use crate::fs::stat;
use crate::rules::FileId;
use crate::units;

/// How much of a system directory is never swept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// The directory itself. Data may be below it.
    Itself,
    /// It and everything below it.
    Tree,
}

/// The directories of the system. What is below several of them belongs to the nearest.
const SYSTEM: [(&str, Refused); 51] = [
    ("/bin", Refused::Tree),
    ("/boot", Refused::Tree),
    ("/dev", Refused::Tree),
    ("/dev/shm", Refused::Itself),
    ("/etc", Refused::Tree),
    ("/home", Refused::Itself),
    ("/lib", Refused::Tree),
    ("/lib32", Refused::Tree),
    ("/lib64", Refused::Tree),
    ("/libx32", Refused::Tree),
    ("/media", Refused::Itself),
    ("/mnt", Refused::Itself),
    ("/opt", Refused::Itself),
    ("/proc", Refused::Tree),
    ("/root", Refused::Itself),
    ("/run", Refused::Itself),
    ("/run/lock", Refused::Itself),
    ("/run/systemd", Refused::Tree),
    ("/run/user", Refused::Itself),
    ("/sbin", Refused::Tree),
    ("/snap", Refused::Itself),
    ("/srv", Refused::Itself),
    ("/sys", Refused::Tree),
    ("/tmp", Refused::Itself),
    ("/usr", Refused::Tree),
    // Some systems have these elsewhere.
    ("/usr/bin", Refused::Tree),
    ("/usr/lib", Refused::Tree),
    ("/usr/local", Refused::Tree),
    ("/usr/sbin", Refused::Tree),
    ("/usr/share", Refused::Tree),
    // Images of containers have applications and their data there.
    ("/usr/src", Refused::Itself),
    ("/var", Refused::Itself),
    ("/var/cache", Refused::Itself),
    ("/var/lib", Refused::Itself),
    ("/var/lib/apt", Refused::Tree),
    ("/var/lib/containers", Refused::Itself),
    ("/var/lib/docker", Refused::Itself),
    ("/var/lib/docker/volumes", Refused::Itself),
    ("/var/lib/dpkg", Refused::Tree),
    ("/var/lib/kubelet", Refused::Itself),
    ("/var/lib/kubelet/pods", Refused::Itself),
    ("/var/lib/pacman", Refused::Tree),
    ("/var/lib/rpm", Refused::Tree),
    ("/var/lib/systemd", Refused::Tree),
    ("/var/lock", Refused::Itself),
    ("/var/log", Refused::Itself),
    ("/var/mail", Refused::Itself),
    ("/var/opt", Refused::Itself),
    ("/var/run", Refused::Itself),
    ("/var/spool", Refused::Itself),
    ("/var/tmp", Refused::Itself),
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
        let homes = self.homes.iter().map(|home| (home.as_path(), "it is a home directory"));
        let program = above.map(|path| (path, "it contains this program"));
        refuse_any(own, at, root)?;
        refuse_system(own, at)?;
        refuse_any(own, at, homes.chain(program))
    }
}

/// Refuses a directory that is one of `all`, with the reason that comes with it.
fn refuse_any<'a>(
    own: FileId,
    at: &Path,
    all: impl IntoIterator<Item = (&'a Path, &'a str)>,
) -> Result<(), String> {
    for (path, why) in all {
        if id_of(path, at, Refused::Itself)? == Some(own) {
            return Err(why.to_owned());
        }
    }
    Ok(())
}

/// Refuses a directory of the system, and one in a tree of the system.
fn refuse_system(own: FileId, at: &Path) -> Result<(), String> {
    let unexamined = |error: io::Error| {
        let error = units::error(&error);
        format!("it could be in a system directory, and its path cannot be examined: {error}")
    };
    let mut system = Vec::new();
    for (path, refused) in SYSTEM {
        system.extend(id_of(Path::new(path), at, refused)?.map(|id| (id, path, refused)));
    }
    if system.iter().any(|(id, ..)| *id == own) {
        return Err("it is a system directory".to_owned());
    }
    for above in at.canonicalize().map_err(unexamined)?.ancestors().skip(1) {
        let id = match stat_of(above) {
            // Where a parent may not be searched. None of the system's is so.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
            found => found.map_err(unexamined)?,
        };
        let nearest = || system.iter().filter(|(known, ..)| Some(*known) == id);
        if let Some((_, path, _)) = nearest().find(|(_, _, refused)| *refused == Refused::Tree) {
            return Err(format!("it is in the system directory {path:?}"));
        }
        if nearest().next().is_some() {
            return Ok(());
        }
    }
    Ok(())
}

/// The identity of the directory at `path`, if there is one. An error is one to refuse `at` with.
fn id_of(path: &Path, at: &Path, refused: Refused) -> Result<Option<FileId>, String> {
    match stat_of(path) {
        // This process may not reach it by that path, as in the sandbox of a service.
        Err(error)
            if error.kind() == io::ErrorKind::PermissionDenied
                && is_elsewhere(at, path, refused) =>
        {
            Ok(None)
        }
        Err(error) => {
            let error = units::error(&error);
            Err(format!(
                "it could be {path:?}, which is never swept, and which cannot be examined: {error}"
            ))
        }
        Ok(found) => Ok(found),
    }
}

/// Whether the directory `at` was certainly not reached by `path`.
fn is_elsewhere(at: &Path, path: &Path, refused: Refused) -> bool {
    let is_elsewhere = |at: &Path| match refused {
        Refused::Itself => at != path,
        Refused::Tree => !at.starts_with(path),
    };
    is_elsewhere(at) && at.canonicalize().is_ok_and(|real| is_elsewhere(&real))
}

/// The identity of what `path` leads to, if there is anything.
fn stat_of(path: &Path) -> io::Result<Option<FileId>> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    match stat::follow(&path) {
        Ok(id) => Ok(Some(id)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_below_some_system_directories_and_not_below_others() {
        for (path, is_allowed) in [
            ("/dev/shm/x", true),
            ("/dev/x", false),
            ("/home/x/data", true),
            ("/mnt/x", true),
            ("/opt/cvat/data", true),
            ("/root/data", true),
            ("/run/x", true),
            ("/srv/x", true),
            ("/tmp/x", true),
            ("/usr/src/app/data", true),
            ("/usr/local/x", false),
            ("/var/lib/docker/volumes/cvat_cvat_data/_data", true),
            ("/var/lib/containers/storage/volumes/x/_data", true),
            ("/var/lib/kubelet/pods/1/volumes/x", true),
            ("/var/lib/dpkg/info", false),
            ("/var/lib/x", true),
            ("/var/log/x", true),
        ] {
            let find = |above: &Path| SYSTEM.iter().find(|(path, _)| Path::new(path) == above);
            let nearest = Path::new(path).ancestors().skip(1).find_map(find);
            let is_refused = nearest.is_some_and(|(_, refused)| *refused == Refused::Tree);
            assert_eq!(!is_refused, is_allowed, "{path}: {nearest:?}");
        }
    }
}
