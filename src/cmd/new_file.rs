//! A file that a command writes for its user: a page, a plan.
//!
//! This module must not replace anything but an earlier one of its kind, nor write through a link. It is written to a
//! new file beside it, which takes its place when it is complete.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::fs::{append, open};
use crate::units;

/// A file that is to be written.
pub(super) struct NewFile {
    path: PathBuf,
    new: NamedTempFile,
}

impl NewFile {
    /// The file at `path`. What is there already must be empty, or begin as all of its `kind` do; its mode is kept.
    ///
    /// # Errors
    /// Something else is there, or its directory cannot be written: for people.
    pub(super) fn at(path: &Path, kind: &str, beginning: &[u8]) -> Result<Self, String> {
        let failed =
            |what: &str, error: &io::Error| format!("cannot {what}: {}", units::error(error));
        let dir = open::directory_of(path);
        let names_directory = |end: &&[u8]| path.as_os_str().as_bytes().ends_with(end);
        if let Some(end) = [&b"/"[..], b"/."].iter().find(|end| names_directory(end)) {
            let end = String::from_utf8_lossy(end);
            return Err(format!("it is not a regular file: its path ends with {end:?}"));
        }
        let earlier = match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed("look at it", &error)),
            Ok(seen) if !seen.is_file() => return Err("it is not a regular file".to_owned()),
            Ok(seen) => {
                let is_ours = begins(path, beginning).map_err(|error| failed("read it", &error))?;
                if !is_ours {
                    return Err(format!("it is not {kind}: choose another name"));
                }
                Some(Permissions::from_mode(seen.permissions().mode() & 0o777))
            }
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".sweeper-new-").permissions(Permissions::from_mode(0o666));
        // Its message ends with the name of the new file, which nobody has seen.
        let unmade = |error: io::Error| {
            let why = failed("make a file in its directory", &error);
            why.split(" at path ").next().unwrap_or(&why).to_owned()
        };
        let new = builder.tempfile_in(dir).map_err(unmade)?;
        // An earlier one may be secret, or be read by others than a new one.
        let keep = |mode| new.as_file().set_permissions(mode);
        earlier.map_or(Ok(()), keep).map_err(|error| failed("give it the mode it has", &error))?;
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

/// Refuses `-`, which is stdout, where something else goes: `what`.
///
/// # Errors
/// It is that: for people.
pub(super) fn refuse_stdout(path: &Path, what: &str) -> Result<(), String> {
    if path == Path::new("-") {
        return Err(format!("stdout is used for {what}; name a file, or ./- for one of that name"));
    }
    Ok(())
}

/// The path of a file, if one is named, and the setting that names it.
pub(super) type Named<'a> = (&'a str, &'a Option<PathBuf>);

/// Refuses a file that is also meant to be another one: one would take the place of the other.
///
/// # Errors
/// Its path and one of the others name the same file: for people.
pub(super) fn refuse_same((name, path): (&str, &Path), others: &[Named<'_>]) -> Result<(), String> {
    let is_it = |(_, other): &&Named<'_>| other.as_deref().is_some_and(|it| is_same(path, it));
    match others.iter().find(is_it) {
        Some((other, _)) => Err(format!("{name} and {other} name the same file")),
        None => Ok(()),
    }
}

/// Whether two paths name the same file, which may not be there yet.
fn is_same(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| {
        let dir = open::directory_of(path).canonicalize().ok()?;
        Some(dir.join(path.file_name()?))
    };
    let file = |path: &Path| path.symlink_metadata().ok().map(|seen| (seen.dev(), seen.ino()));
    one == other
        || place(one).is_some_and(|at| place(other) == Some(at))
        || file(one).is_some_and(|id| file(other) == Some(id))
}

/// Whether a file is empty or begins like this.
fn begins(path: &Path, beginning: &[u8]) -> io::Result<bool> {
    let found = append::beginning_of(path, beginning.len())?;
    Ok(found.is_empty() || found == beginning)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    #[test]
    fn a_file_that_is_replaced_keeps_its_mode_whatever_the_umask() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("page");
        for mode in [0o600, 0o646, 0o666] {
            fs::write(&path, "page 1").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let new = NewFile::at(&path, "a page", b"page").unwrap();
            new.writer().unwrap().write_all(b"page 2").unwrap();
            new.put().unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "page 2");
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
        }
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_no_reason_to_name_another_file() {
        let refused = NewFile::at(Path::new("/proc/page"), "a page", b"page");
        let why = refused.err().unwrap();
        assert!(why.starts_with("cannot make a file in its directory: "), "{why}");
        assert!(!why.contains(".sweeper-new-"), "{why}");
    }

    #[test]
    fn a_path_that_only_a_directory_can_have_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["new/", "new/.", "none/new/", "", "."] {
            let refused = NewFile::at(&dir.path().join(path), "a page", b"page");
            let why = refused.err().unwrap();
            assert!(why.contains("it is not a regular file"), "{path:?}: {why}");
        }
    }
}
