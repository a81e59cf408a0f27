//! A file that a command writes for its user: a page, a plan.
//!
//! It must not replace anything but an earlier one of its kind, nor write through a link. It is written to a new file
//! beside it, which takes its place when it is complete.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::units;

/// A file that is to be written.
pub(super) struct NewFile {
    path: PathBuf,
    new: NamedTempFile,
}

impl NewFile {
    /// The file at `path`. What is there already must be empty, or begin as all of its `kind` do.
    ///
    /// # Errors
    /// Something else is there, or its directory cannot be written: for people.
    pub(super) fn at(path: &Path, kind: &str, beginning: &[u8]) -> Result<Self, String> {
        let failed =
            |what: &str, error: &io::Error| format!("cannot {what}: {}", units::error(error));
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.unwrap_or(Path::new("."));
        match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("look at it", &error)),
            Ok(seen) if !seen.is_file() => return Err("it is not a regular file".to_owned()),
            Ok(_) => {
                let is_ours = begins(path, beginning).map_err(|error| failed("read it", &error))?;
                if !is_ours {
                    return Err(format!("it is not {kind}: choose another name"));
                }
            }
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".sweeper-new-").permissions(Permissions::from_mode(0o666));
        let new = builder.tempfile_in(dir).map_err(|error| failed("write beside it", &error))?;
        Ok(Self { path: path.to_owned(), new })
    }

    /// What is to be written to.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn writer(&self) -> io::Result<File> {
        self.new.as_file().try_clone()
    }

    /// Puts it in its place.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn put(self) -> io::Result<()> {
        let Self { path, new } = self;
        new.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}

/// Whether a file is empty or begins like this.
fn begins(path: &Path, beginning: &[u8]) -> io::Result<bool> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file: File =
        OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let mut found = Vec::new();
    file.take(beginning.len() as u64).read_to_end(&mut found)?;
    Ok(found.is_empty() || found == beginning)
}
