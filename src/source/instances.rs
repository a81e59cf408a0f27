//! Entries in instance directories: `<root>/*/<dir>/*` and `<root>/<number>/<path>`.
//!
//! This module must not judge or change anything. Most instances have no such entry, so each is first probed
//! with as few calls as possible: a `statx` that fails costs less than an `open` that fails.

use std::ffi::{CStr, CString};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::context::ScanContext;
use super::enter::{look, step_into};
use super::list::list;
use crate::control::Control;
use crate::fs::error::is_gone;
use crate::fs::open::{self, Across};
use crate::fs::stat::{self, Freshness};
use crate::protocol::{Directory, Failure, Found};
use crate::rules::names::is_quarantine;

/// Whether a directory of an instance was opened.
enum Reached {
    Yes(Directory),
    No,
    Failed,
}

/// Looks into instance directories, reusing one buffer for the paths it asks about.
pub(super) struct Instances<'a, C> {
    context: ScanContext<'a, C>,
    path: Vec<u8>,
}

impl<'a, C: Control> Instances<'a, C> {
    pub(super) const fn new(context: ScanContext<'a, C>) -> Self {
        Self { context, path: Vec::new() }
    }

    /// Everything in the directory `dir` of the instance `id`, whose type is `kind` by its listing.
    pub(super) fn all_in(
        &mut self,
        instances: &Arc<Directory>,
        id: &CStr,
        kind: FileType,
        dir: &str,
        each: &mut dyn FnMut(Found<'_>),
    ) {
        if matches!(
            self.type_of(instances, id, kind, dir),
            Some(FileType::Directory | FileType::Unknown)
        ) && let Reached::Yes(found) = self.reach(instances, id, Path::new(dir), each)
        {
            list(&Arc::new(found), self.context, each);
        }
    }

    /// The entries at `paths` in the instance `id`. An instance that is not named by a number is not looked
    /// into.
    pub(super) fn fixed(
        &mut self,
        instances: &Arc<Directory>,
        id: &CStr,
        kind: FileType,
        paths: &[&str],
        each: &mut dyn FnMut(Found<'_>),
    ) {
        if is_quarantine(id.to_bytes()) {
            return look(instances, id, self.context, each);
        }
        if !id.to_bytes().iter().all(u8::is_ascii_digit) {
            return;
        }
        for path in paths {
            let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
            // Many instances have the directory and no such entry in it.
            let kind = if dir.is_empty() {
                Some(kind)
            } else {
                self.type_of(instances, id, kind, dir)
                    .filter(|kind| matches!(kind, FileType::Directory | FileType::Unknown))
            };
            let Some(kind) = kind else { continue };
            if self.type_of(instances, id, kind, path).is_none() {
                continue;
            }
            match self.reach(instances, id, Path::new(dir), each) {
                Reached::Yes(mut directory) => {
                    directory.listed = Some(Arc::clone(instances));
                    let directory = Arc::new(directory);
                    let name = CString::new(name).unwrap_or_default();
                    self.look_if_there(&directory, &name, each);
                }
                Reached::No => {}
                // Reported once per instance.
                Reached::Failed => return,
            }
        }
    }

    /// The type of the file at `path` in the instance `id`, where what `path` begins with is of type `kind`;
    /// `None` when there is certainly nothing that may be entered.
    fn type_of(
        &mut self,
        instances: &Directory,
        id: &CStr,
        kind: FileType,
        path: &str,
    ) -> Option<FileType> {
        let path = self.path_to(id, path);
        if kind == FileType::Directory {
            stat::type_at(&instances.handle, path)
        } else if kind == FileType::Unknown && open::may_exist(&instances.handle, path) {
            Some(FileType::Unknown)
        } else {
            // A link or a file.
            None
        }
    }

    /// `<id>/<rest>`, in the one buffer for it.
    fn path_to(&mut self, id: &CStr, rest: &str) -> &CStr {
        self.path.clear();
        self.path.extend_from_slice(id.to_bytes());
        self.path.push(b'/');
        self.path.extend_from_slice(rest.as_bytes());
        self.path.push(0);
        CStr::from_bytes_until_nul(&self.path).unwrap_or_default()
    }

    /// Opens `<id>/<dir>`.
    fn reach(
        &self,
        instances: &Arc<Directory>,
        id: &CStr,
        dir: &Path,
        each: &mut dyn FnMut(Found<'_>),
    ) -> Reached {
        let steps = dir.iter().map(|step| {
            CString::new(std::os::unix::ffi::OsStrExt::as_bytes(step)).unwrap_or_default()
        });
        let mut directory = None;
        for step in std::iter::once(id.to_owned()).chain(steps) {
            let from: &Directory = directory.as_ref().unwrap_or(instances);
            match step_into(from, &step, Across::SameMount, self.context.notes) {
                Ok(next) => directory = Some(next),
                Err(failure) => return self.not_entered(instances, id, failure, each),
            }
        }
        directory.map_or(Reached::No, Reached::Yes)
    }

    /// A step that cannot be taken: nothing there, something that is never entered, or a failure.
    fn not_entered(
        &self,
        instances: &Directory,
        id: &CStr,
        failure: Failure,
        each: &mut dyn FnMut(Found<'_>),
    ) -> Reached {
        match Errno::from_io_error(&failure.error) {
            // Nothing there, or a link or a file.
            Some(Errno::NOENT | Errno::STALE | Errno::NOTDIR | Errno::LOOP) => Reached::No,
            Some(Errno::XDEV) => {
                let note = "some instance directories are mount points and were not entered";
                self.context.notes.add(&instances.zone.name, note);
                Reached::No
            }
            _ => {
                self.context.report_failure(instances, Some(id), failure, each);
                Reached::Failed
            }
        }
    }

    /// Looks at a name that may not exist: it was asked for, not listed.
    fn look_if_there(
        &self,
        directory: &Arc<Directory>,
        name: &CStr,
        each: &mut dyn FnMut(Found<'_>),
    ) {
        if !self.context.owns(&directory.dir, name) {
            return;
        }
        match stat::at(&directory.handle, name, directory.mount, Freshness::Cached) {
            Err(error) if is_gone(&error) => {}
            _ => look(directory, name, self.context, each),
        }
    }
}
