//! The list of paths (`--from0`), which a pass with guards reads twice.
//!
//! This module must not interpret the list. A list may be a pipe, so the first reading keeps a copy in a temporary
//! file. If that reading ends with an error, so does the second one: what was read is not taken for all of the list.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::sync::{Arc, OnceLock};

use super::super::Refusal;
use super::super::path_list::{List, open_list};
use super::planned::Planned;
use crate::config::Config;
use crate::engine::Limits;
use crate::fs::DataRoot;
use crate::rules::Zone;
use crate::source::PathList;
use crate::units;

/// The paths to look at, if there is a list.
pub(super) struct Lists<'a> {
    pub(super) config: &'a Config,
    pub(super) root: &'a DataRoot,
    pub(super) zones: &'a [Arc<Zone>],
    /// The plan, whose paths come before any list.
    pub(super) planned: Option<&'a Planned>,
    /// A list that nothing has written to yet is waited for until the pass is stopped.
    pub(super) limits: &'a Limits,
    /// What was read of the list, once it was read.
    pub(super) copy: Option<Copied>,
}

/// What was read of a list.
pub(super) struct Copied {
    file: File,
    /// The error that the reading ended with.
    error: Arc<OnceLock<String>>,
}

impl Lists<'_> {
    /// The paths, for the last time.
    pub(super) fn last(&mut self) -> Result<Option<PathList>, Refusal> {
        match self.copy.take() {
            None => self.open()?.map(|list| self.paths(list)).transpose(),
            Some(mut copy) => {
                copy.file.rewind().map_err(|error| self.refused(&error))?;
                self.paths(Box::new(copy)).map(Some)
            }
        }
    }

    /// The paths, to be read again afterwards.
    pub(super) fn first(&mut self) -> Result<Option<PathList>, Refusal> {
        let Some(list) = self.open()? else { return Ok(None) };
        let copy = tempfile::tempfile().and_then(|copy| Ok((copy.try_clone()?, copy)));
        let (to, file) = copy.map_err(|error| self.refused(&error))?;
        let error = Arc::default();
        self.copy = Some(Copied { file, error: Arc::clone(&error) });
        self.paths(Box::new(Copying { list, to, error })).map(Some)
    }

    fn open(&self) -> Result<Option<List>, Refusal> {
        if let Some(plan) = self.planned {
            let copy = plan.paths.try_clone().and_then(|mut paths| {
                paths.rewind()?;
                Ok(paths)
            });
            return Ok(Some(Box::new(copy.map_err(|error| self.refused(&error))?)));
        }
        let Some(path) = &self.config.from0 else { return Ok(None) };
        open_list(path, self.limits).map(Some).map_err(|error| {
            // No file says this.
            let has_no_thread = error.kind() == io::ErrorKind::WouldBlock;
            let unopened = || {
                Refusal::Start(format!("cannot open the list {path:?}: {}", units::error(&error)))
            };
            if has_no_thread { no_thread(&error) } else { unopened() }
        })
    }

    fn paths(&self, list: List) -> Result<PathList, Refusal> {
        let (config, zones) = (self.config, self.zones);
        let is_swept = |zone: &&Arc<Zone>| zones.iter().any(|swept| swept.name == zone.name);
        let others: Vec<Arc<Zone>> =
            config.all_zones.iter().filter(|zone| !is_swept(zone)).cloned().collect();
        let list = PathList::new(list, self.root, zones, &others);
        list.map_err(|error| no_thread(&error))
    }

    fn refused(&self, error: &io::Error) -> Refusal {
        let path = self.config.from0.clone().unwrap_or_default();
        Refusal::Start(format!("the list {path:?}: {}", units::error(error)))
    }
}

/// The system refused a thread that reads a list, or waits for its writer.
fn no_thread(error: &io::Error) -> Refusal {
    Refusal::Start(format!(
        "cannot start a thread that reads the list of paths: {}; or use fewer workers (--jobs 1)",
        units::no_thread(error)
    ))
}

/// A list of which everything that is read is also written to a file.
struct Copying {
    list: List,
    to: File,
    error: Arc<OnceLock<String>>,
}

impl Read for Copying {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let copied = self.list.read(buffer).and_then(|length| {
            let written = self.to.write_all(&buffer[..length]);
            written.map(|()| length).map_err(|error| {
                let dir = std::env::temp_dir();
                let why = units::error(&error);
                io::Error::other(format!("its copy in {} cannot be written: {why}", dir.display()))
            })
        });
        copied.inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                self.error.get_or_init(|| units::error(error));
            }
        })
    }
}

/// The copy, and at its end the error of the first reading.
impl Read for Copied {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (self.file.read(buffer)?, self.error.get()) {
            (0, Some(error)) => Err(io::Error::other(error.clone())),
            (length, _) => Ok(length),
        }
    }
}
