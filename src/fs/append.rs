//! A file that is only appended to, by several processes at once.
//!
//! This module must not remove or rename anything, and must not follow a link. What is appended together lies together:
//! it is written by one call, under a lock, at the end of the file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::open;

/// How often the lock of another writer is tried, and how long to wait in between. It is held for one write, so
/// only a process that was stopped in the middle of it holds it for longer.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// A regular file, open for appending.
#[derive(Debug)]
pub struct AppendFile {
    file: File,
}

impl AppendFile {
    /// Opens the file at `path`, or creates it with mode 0600. Not through a link, and only a regular file.
    ///
    /// # Errors
    /// What the system says, or that it is something else.
    pub fn open(path: &Path) -> io::Result<Self> {
        open_or_create(path).map(|file| Self { file })
    }

    /// Whether it has no name any more, so that nobody will read it.
    pub fn is_unlinked(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }

    /// What it begins with, as much as `most` bytes.
    ///
    /// # Errors
    /// What the system says.
    pub fn beginning(&self, most: usize) -> io::Result<Vec<u8>> {
        beginning(&self.file, most)
    }

    /// Appends whole lines. They are not on disk before [`Self::sync`].
    ///
    /// # Errors
    /// What the system says. Then none of the lines is there, as far as the system allows.
    pub fn append(&self, lines: &[u8]) -> io::Result<()> {
        let is_locked = self.lock()?;
        let written = self.append_at_end(lines, is_locked);
        if is_locked {
            flock(&self.file, FlockOperation::Unlock)?;
        }
        written
    }

    /// Returns when everything that was appended is on disk.
    ///
    /// # Errors
    /// What the system says: it may not be.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn append_at_end(&self, lines: &[u8], is_locked: bool) -> io::Result<()> {
        let mut file = &self.file;
        let length = file.seek(SeekFrom::End(0))?;
        let mut last = [b'\n'];
        if length > 0 {
            file.seek(SeekFrom::Start(length - 1))?;
            file.read_exact(&mut last)?;
        }
        // A writer that was killed may have left half a line.
        let written = if last == [b'\n'] {
            file.write_all(lines)
        } else {
            file.write_all(&[b"\n", lines].concat())
        };
        if written.is_err() && is_locked {
            let _ = self.file.set_len(length);
        }
        written
    }

    /// Whether the lock was taken, in the end.
    fn lock(&self) -> io::Result<bool> {
        for _ in 0..TRIES {
            match flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(true),
                Err(Errno::WOULDBLOCK) => std::thread::sleep(PAUSE),
                // Some file systems have no locks.
                Err(Errno::OPNOTSUPP | Errno::NOLCK | Errno::NOSYS) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }
}

/// Opens the file at `path` for reading and appending, or creates it with mode 0600. Not through a link, and only a
/// regular file.
///
/// # Errors
/// What the system says, or that it is something else.
pub fn open_or_create(path: &Path) -> io::Result<File> {
    let mut options = open::careful();
    options.read(true).append(true).mode(0o600);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let file = options.create(true).open(path)?;
            // Its name must outlive a crash as well.
            File::open(open::directory_of(path))?.sync_all()?;
            regular(file)
        }
        opened => regular(opened.map_err(explained)?),
    }
}

/// Opens the file at `path` for reading. Not through a link, and only a regular file.
///
/// # Errors
/// What the system says, or that it is something else.
pub fn open_existing(path: &Path) -> io::Result<File> {
    regular(open::careful().read(true).open(path).map_err(explained)?)
}

/// What the file at `path` begins with, as much as `most` bytes. It is opened as by [`open_existing`].
///
/// # Errors
/// What the system says, or that it is something else.
pub fn beginning_of(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    beginning(&open_existing(path)?, most)
}

fn beginning(mut file: &File, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() { Ok(file) } else { Err(not_regular()) }
}

/// What [`open::careful`] says of a link and of a FIFO.
fn explained(error: io::Error) -> io::Error {
    match Errno::from_io_error(&error) {
        Some(Errno::LOOP | Errno::NXIO | Errno::ISDIR) => not_regular(),
        _ => error,
    }
}

fn not_regular() -> io::Error {
    io::Error::other("it is not a regular file")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn lines_are_appended_and_half_a_line_is_ended_first() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("log");
        let file = AppendFile::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        file.append(b"1\n2\n").unwrap();
        fs::write(&path, "1\n2\nhal").unwrap();
        AppendFile::open(&path).unwrap().append(b"3\n").unwrap();
        file.append(b"4\n").unwrap();
        file.sync().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n2\nhal\n3\n4\n");
        assert!(!file.is_unlinked());
        fs::rename(&path, scratch.path().join("log.1")).unwrap();
        assert!(!file.is_unlinked(), "it has another name");
        drop(scratch);
        assert!(file.is_unlinked());
    }

    #[test]
    fn only_a_regular_file_is_opened_and_not_through_a_link() {
        let scratch = tempfile::tempdir().unwrap();
        let path = |name: &str| scratch.path().join(name);
        fs::write(path("file"), "").unwrap();
        fs::create_dir(path("dir")).unwrap();
        std::os::unix::fs::symlink("file", path("link")).unwrap();
        std::os::unix::fs::symlink("none", path("dangling")).unwrap();
        let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
        rustix::fs::mknodat(rustix::fs::CWD, path("fifo"), fifo, mode, 0).unwrap();
        for name in ["dir", "link", "dangling", "fifo"] {
            for error in [
                AppendFile::open(&path(name)).unwrap_err(),
                open_existing(&path(name)).unwrap_err(),
            ] {
                assert_eq!(error.to_string(), "it is not a regular file", "{name}");
            }
        }
        let null = AppendFile::open(Path::new("/dev/null")).unwrap_err();
        assert_eq!(null.to_string(), "it is not a regular file");
        assert!(!path("none").exists());
    }

    #[test]
    fn nothing_is_left_of_lines_that_could_not_be_written() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("log");
        let file = AppendFile::open(&path).unwrap();
        file.append(b"1\n").unwrap();
        let (read_only, writes) = (AppendFile { file: File::open(&path).unwrap() }, b"2\n");
        assert!(read_only.append(writes).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    }
}
