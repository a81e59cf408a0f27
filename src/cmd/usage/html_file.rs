//! The file of `sweeper usage --html`.
//!
//! This module must not replace anything but an earlier page, and must not lie in the data root: that is only looked
//! at.

use std::io::{self, Write};
use std::path::Path;

use crate::cmd::Refusal;
use crate::cmd::new_file::{NewFile, refuse_stdout};
use crate::fs::{DataRoot, open};
use crate::report::usage::page;
use crate::units;
use crate::usage::Usage;

/// A page that is to be written.
pub(super) struct HtmlFile<'a> {
    path: &'a Path,
    new: NewFile,
}

impl<'a> HtmlFile<'a> {
    /// The page at `path`. It is made before anything is measured, so that a wrong path is known early.
    ///
    /// # Errors
    /// It lies in the data root or is stdout, something else is there, or its directory cannot be written.
    pub(super) fn at(path: &'a Path, root: &DataRoot) -> Result<Self, Refusal> {
        let refused = |what: String| Refusal::Start(format!("--html {path:?}: {what}"));
        let failed = |what: &str, error: &io::Error| {
            refused(format!("cannot {what}: {}", units::error(error)))
        };
        refuse_stdout(path, "the numbers").map_err(refused)?;
        let Some(name) = path.file_name() else {
            return Err(refused("it names no file".to_owned()));
        };
        let dir = open::directory_of(path);
        // The directory has to be there; the page need not.
        let real = dir.canonicalize().map_err(|error| failed("find its directory", &error))?;
        let inside = root.relative(&real.join(name));
        if inside.map_err(|error| failed("compare it with the data root", &error))?.is_some() {
            return Err(refused("it is in the data root: write the page elsewhere".to_owned()));
        }
        let new = NewFile::at(path, "a page of `sweeper usage`", page::BEGINNING.as_bytes());
        Ok(Self { path, new: new.map_err(refused)? })
    }

    /// Writes the page and puts it in its place.
    ///
    /// # Errors
    /// What could not be done, for people.
    pub(super) fn write(self, usage: &Usage) -> Result<(), String> {
        let Self { path, new } = self;
        let write = || {
            let mut out = io::BufWriter::new(new.writer()?);
            page::write(&mut out, usage)?;
            out.flush()?;
            new.put()
        };
        write().map_err(|error: io::Error| {
            format!("cannot write the page {path:?}: {}", units::error(&error))
        })
    }
}
