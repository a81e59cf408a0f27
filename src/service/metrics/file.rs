//! The metrics of single runs, in a file for the textfile collector of `node_exporter`.
//!
//! This module must not change anything but a regular file that this program wrote: a link, a device or the file of
//! another program is refused. Each run adds to what the file says, so that a rate can be computed. Runs that
//! end together (shards) do so one after the other: each holds a `flock` on the file while it reads it and
//! puts another in its place.

use std::ffi::OsString;
use std::fmt;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tempfile::TempPath;

use super::Metrics;
use crate::fs::open;
use crate::units;

/// How the first line of our files begins.
const FIRST_LINE: &str = "# HELP sweeper_";

/// The most that is read of a file: many times what is ever written.
const MOST_BYTES: u64 = 1 << 20;

/// The usual wait for another run.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// The wait once this run was told to end.
const LOCK_WAIT_AT_END: Duration = Duration::from_millis(300);

/// What is tried if there is no file yet.
const CREATE: &str = "create";

/// Between two tries to lock the file.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Why a metrics file is not written. It stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is no file of ours.
    #[error("the metrics file {path:?} {what}: name a file that `sweeper` wrote, or a new one")]
    NotOurs {
        /// Its path.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// Another process holds its lock.
    #[error("another process holds the lock of the metrics file {path:?}: this run is not in it")]
    Locked {
        /// Its path.
        path: PathBuf,
    },
    /// The system refused something.
    #[error(
        "cannot {action} the metrics file {path:?}: {}{}",
        units::error(error),
        hint(action, error)
    )]
    Io {
        /// Its path.
        path: PathBuf,
        /// What was refused.
        action: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

/// What to do about an error.
fn hint(action: &str, error: &io::Error) -> &'static str {
    let has_no_directory = action == CREATE && error.kind() == io::ErrorKind::NotFound;
    if has_no_directory { "; make its directory first" } else { "" }
}

/// A path at which a metrics file may be written.
#[derive(Debug, Clone, Copy)]
pub struct MetricsFile<'a> {
    path: &'a Path,
    /// How long to wait for another run that writes the file, in all.
    lock_wait: Duration,
    /// Raised when this run is told to end.
    stop: &'a AtomicBool,
}

impl<'a> MetricsFile<'a> {
    /// The file at `path`. Nothing has to be there yet. Another run is not waited for much longer when `stop` is
    /// raised.
    ///
    /// # Errors
    /// What is there is no file of ours. What cannot be found out now is left to [`Self::add`].
    pub fn at(path: &'a Path, stop: &'a AtomicBool) -> Result<Self, FileError> {
        let file = Self { path, lock_wait: LOCK_WAIT, stop };
        match file.open().and_then(|found| found.map(|found| file.read(found)).transpose()) {
            Err(error @ FileError::NotOurs { .. }) => Err(error),
            Ok(_) | Err(FileError::Locked { .. } | FileError::Io { .. }) => Ok(file),
        }
    }

    /// Adds a run to the file: `metrics` counts nothing yet, and `count` counts the run. Other processes see
    /// the file as it was or as it is then, and every user can read it.
    ///
    /// # Errors
    /// The file cannot be read, locked or written, or it is not ours.
    pub fn add(self, metrics: &Metrics, count: impl FnOnce(&Metrics)) -> Result<(), FileError> {
        let locked = self.lock()?;
        metrics.start_with(&self.read(&locked)?);
        count(metrics);
        self.replace(&metrics.text()).map_err(self.fail("write"))
        // Until here it is locked.
    }

    /// Whether the directory is there in which the file is to be made, and may be written. Nothing is written.
    ///
    /// # Errors
    /// It is not.
    pub fn foresee(self) -> Result<(), FileError> {
        let dir = open::directory_of(self.path);
        let is_usable = match dir.metadata() {
            Ok(found) if !found.is_dir() => Err(io::ErrorKind::NotADirectory.into()),
            Ok(_) => open::may_write(dir),
            Err(error) => Err(error),
        };
        is_usable.map_err(self.fail(CREATE))
    }

    /// Opens the file, if there is one. What is no regular file is not opened: that can have an effect, or
    /// wait forever.
    fn open(self) -> Result<Option<File>, FileError> {
        let seen = match self.path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            seen => seen.map_err(self.fail("look at"))?,
        };
        let kind = seen.file_type();
        let what = match () {
            () if kind.is_file() => None,
            () if kind.is_symlink() => Some("is a link"),
            () if kind.is_dir() => Some("is a directory"),
            () if kind.is_fifo() => Some("is a named pipe"),
            () if kind.is_socket() => Some("is a socket"),
            () => Some("is a device"),
        };
        if let Some(what) = what {
            return Err(self.not_ours(what));
        }
        // If something else has taken its place meanwhile, this neither follows nor waits for it.
        let open = |write| open::careful().read(true).write(write).open(self.path);
        // On NFS the lock needs a file that is open for writing. Elsewhere it does not, and the file may
        // belong to another user.
        let mut file = open(true);
        if file.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
            file = open(false);
        }
        match file {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            file => file.map(Some).map_err(self.fail("open")),
        }
    }

    /// Opens the file and locks it. Makes an empty one if there is none.
    fn lock(self) -> Result<File, FileError> {
        let start = Instant::now();
        loop {
            let Some(file) = self.open()? else {
                let mut options = OpenOptions::new();
                match options.write(true).create_new(true).mode(0o644).open(self.path) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(self.fail(CREATE)(error));
                    }
                    _ => continue,
                }
            };
            let locked = match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK | Errno::INTR) => false,
                locked => {
                    locked.map(|()| true).map_err(io::Error::from).map_err(self.fail("lock"))?
                }
            };
            // Another run may have put another file in its place.
            if locked && self.is(&file).map_err(self.fail("look at"))? {
                return Ok(file);
            }
            let is_stopped = self.stop.load(Ordering::Relaxed);
            let wait =
                if is_stopped { self.lock_wait.min(LOCK_WAIT_AT_END) } else { self.lock_wait };
            if start.elapsed() >= wait {
                return Err(FileError::Locked { path: self.path.to_owned() });
            }
            if !locked {
                std::thread::sleep(LOCK_PAUSE);
            }
        }
    }

    /// Whether this file is the one at the path.
    fn is(self, file: &File) -> io::Result<bool> {
        let open = file.metadata()?;
        match self.path.symlink_metadata() {
            Ok(there) => Ok((there.dev(), there.ino()) == (open.dev(), open.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What an open file says. An empty one is ours: there is nothing in it that could be lost.
    fn read(self, file: impl Read) -> Result<String, FileError> {
        let mut bytes = Vec::new();
        file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(self.fail("read"))?;
        let is_ours = bytes.is_empty() || bytes.starts_with(FIRST_LINE.as_bytes());
        let not_ours = || self.not_ours("was not written by `sweeper`");
        match String::from_utf8(bytes) {
            Ok(text) if is_ours && text.len() as u64 <= MOST_BYTES => Ok(text),
            _ => Err(not_ours()),
        }
    }

    /// Puts a file with this text in the place of the one that is locked.
    fn replace(self, text: &str) -> io::Result<()> {
        // The collector reads names that end in .prom, and so does not read this one before it is renamed.
        let mut name = OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(".sweeper-new");
        let path = open::directory_of(self.path).join(name);
        let new = || OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path);
        let mut file = match new() {
            // A run that was killed has left it: every other one holds the lock.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                TempPath::try_from_path(&path)?.close()?;
                new()?
            }
            file => file?,
        };
        // Removed if one of the next steps fails.
        let path = TempPath::try_from_path(&path)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        // Otherwise it could be empty after a power failure.
        file.sync_all()?;
        path.persist(self.path).map_err(|error| error.error)
    }

    fn not_ours(self, what: &'static str) -> FileError {
        FileError::NotOurs { path: self.path.to_owned(), what }
    }

    fn fail(self, action: &'static str) -> impl FnOnce(io::Error) -> FileError {
        move |error| FileError::Io { path: self.path.to_owned(), action, error }
    }
}

impl fmt::Display for MetricsFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.path)
    }
}

#[cfg(test)]
mod tests;
