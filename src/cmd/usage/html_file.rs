//! The file of `sweeper usage --html`.
//!
//! It must not replace anything but an earlier page, and must not lie in the data root: that is only looked at. The
//! page is written to a new file beside it, which takes its place when it is complete.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::cmd::Refusal;
use crate::fs::DataRoot;
use crate::report::usage::page;
use crate::units;
use crate::usage::Usage;

/// A page that is to be written.
pub(super) struct HtmlFile<'a> {
    path: &'a Path,
    new: NamedTempFile,
}

impl<'a> HtmlFile<'a> {
    /// The page at `path`. It is made before anything is measured, so that a wrong path is known early.
    ///
    /// # Errors
    /// It lies in the data root, something else is there, or its directory cannot be written.
    pub(super) fn at(path: &'a Path, root: &DataRoot) -> Result<Self, Refusal> {
        let refused = |what: &str| Err(Refusal::Start(format!("--html {path:?}: {what}")));
        let failed = |what: &str, error: &io::Error| {
            Refusal::Start(format!("--html {path:?}: cannot {what}: {}", units::error(error)))
        };
        let Some(name) = path.file_name() else { return refused("it names no file") };
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.unwrap_or(Path::new("."));
        // The directory has to be there; the page need not.
        let real = dir.canonicalize().map_err(|error| failed("find its directory", &error))?;
        let inside = root.relative(&real.join(name));
        if inside.map_err(|error| failed("compare it with the data root", &error))?.is_some() {
            return refused("it is in the data root: write the page elsewhere");
        }
        match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("look at it", &error)),
            Ok(seen) if !seen.is_file() => return refused("it is not a regular file"),
            Ok(_) => {
                let is_page = is_page(path).map_err(|error| failed("read it", &error))?;
                if !is_page {
                    return refused("it is not a page of `sweeper usage`: choose another name");
                }
            }
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".sweeper-usage-").permissions(Permissions::from_mode(0o666));
        let new = builder.tempfile_in(dir).map_err(|error| failed("write beside it", &error))?;
        Ok(Self { path, new })
    }

    /// Writes the page and puts it in its place.
    ///
    /// # Errors
    /// What could not be done, for people.
    pub(super) fn write(self, usage: &Usage) -> Result<(), String> {
        let Self { path, mut new } = self;
        let failed =
            |error: &io::Error| format!("cannot write the page {path:?}: {}", units::error(error));
        let mut out = io::BufWriter::new(&mut new);
        page::write(&mut out, usage).and_then(|()| out.flush()).map_err(|error| failed(&error))?;
        drop(out);
        new.persist(path).map_err(|error| failed(&error.error))?;
        Ok(())
    }
}

/// Whether a file is empty or a page that this command has written.
fn is_page(path: &Path) -> io::Result<bool> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file: File =
        OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let mut beginning = Vec::new();
    file.take(page::BEGINNING.len() as u64).read_to_end(&mut beginning)?;
    Ok(beginning.is_empty() || beginning == page::BEGINNING.as_bytes())
}
