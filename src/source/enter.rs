//! Steps from the data root to where the entries of a zone are.
//!
//! This module must not list or change anything, nor follow a link: each step opens one directory.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use super::context::ScanContext;
use super::leftovers;
use crate::control::Control;
use crate::fs::error::{hint, is_gone};
use crate::fs::open::{self, Across};
use crate::fs::stat::{self, Freshness};
use crate::fs::{DataRoot, file_system};
use crate::protocol::{Directory, Entry, Failure, Found, Notes, Storage};
use crate::rules::names::is_quarantine;
use crate::rules::{Action, Shape, Zone};

/// A failure at `name` in a directory, or at the directory itself.
pub(super) fn failure(
    directory: &Directory,
    action: Action,
    name: Option<&CStr>,
    error: impl Into<io::Error>,
) -> Failure {
    let error = error.into();
    let hint = hint(&directory.handle, name, action, &error);
    directory.failure(action, name, error, hint)
}

/// The data root itself, to step down from.
pub(super) fn data_root(root: &DataRoot, zone: &Arc<Zone>) -> Result<Directory, Failure> {
    let path = root.path();
    let failed = |error| Failure::new(&zone.name, Action::Open, path.to_owned(), error, None);
    let handle = root.handle().try_clone().map_err(failed)?;
    Ok(Directory {
        zone: Arc::clone(zone),
        path: path.to_owned(),
        dir: PathBuf::new(),
        handle,
        id: root.id(),
        mount: root.mount(),
        listed: None,
        storage: Storage::on(root.file_system()),
    })
}

/// Steps down to one of the directories that a zone names, one component at a time, through no link.
///
/// These steps are named by the zone and not found by listing, so a cache on a disk of its own (a mount at
/// `cache/export`) is swept; below, no mount point is entered.
///
/// # Errors
/// A step cannot be entered.
pub fn zone_root(
    root: &DataRoot,
    zone: &Arc<Zone>,
    path: &Path,
    notes: &Notes,
) -> Result<Directory, Failure> {
    if path.is_absolute() {
        return outside(root, zone, path);
    }
    if let Some(place) = root.place_of(path) {
        return Ok(Directory { dir: path.to_owned(), ..outside(root, zone, place)? });
    }
    let mut directory = data_root(root, zone)?;
    for step in path {
        let name = CString::new(step.as_bytes())
            .map_err(|error| failure(&directory, Action::Open, None, error))?;
        directory = step_into(&directory, &name, Across::AnyMount, notes)?;
    }
    if directory.mount != root.mount() {
        notes.add(&zone.name, "it is on a mount of its own");
    }
    Ok(directory)
}

/// A directory outside the data root. It was opened and checked when the pass began.
fn outside(root: &DataRoot, zone: &Arc<Zone>, path: &Path) -> Result<Directory, Failure> {
    let fail = |error| Failure::new(&zone.name, Action::Open, path.to_owned(), error, None);
    let missing = || {
        let hint = "check the path in the settings file, and whether its disk is mounted";
        Failure { hint: Some(hint.to_owned()), ..fail(Errno::NOENT.into()) }
    };
    let found = root.outside(path).ok_or_else(missing)?;
    // Through `.`, so that each scan has a position of its own.
    let opened = open::dir(&found.handle, c".", Across::AnyMount).map_err(fail)?;
    let storage = Storage::on(file_system::of(&opened.handle));
    Ok(Directory {
        zone: Arc::clone(zone),
        path: path.to_owned(),
        dir: path.to_owned(),
        handle: opened.handle,
        id: found.id,
        mount: found.mount,
        listed: None,
        storage,
    })
}

/// Opens the directory `name` in `directory`.
pub(super) fn step_into(
    directory: &Directory,
    name: &CStr,
    across: Across,
    notes: &Notes,
) -> Result<Directory, Failure> {
    let fail = |error: io::Error| {
        let mut failure = failure(directory, Action::Open, Some(name), error);
        let errno = Errno::from_io_error(&failure.error);
        if matches!(errno, Some(Errno::NOTDIR | Errno::LOOP)) {
            let hint = "it is a link or not a directory, and links are not followed: mount or move the \
                        real directory here, or write its absolute path as the zone's path in the settings \
                        file";
            failure.hint = Some(hint.to_owned());
        }
        failure
    };
    let opened = open::dir(&directory.handle, name, across).map_err(fail)?;
    if opened.moves_atime {
        notes.add(&directory.zone.name, Notes::MOVES_ATIME);
    }
    let (id, mount) = stat::id_and_mount(&opened.handle).map_err(fail)?;
    if across == Across::SameMount && mount != directory.mount {
        return Err(fail(Errno::XDEV.into()));
    }
    let file_system = if mount == directory.mount {
        directory.storage.file_system
    } else {
        file_system::of(&opened.handle)
    };
    let step = PathBuf::from(OsStr::from_bytes(name.to_bytes()));
    Ok(Directory {
        zone: Arc::clone(&directory.zone),
        path: directory.path.join(&step),
        dir: directory.dir.join(&step),
        handle: opened.handle,
        id,
        mount,
        listed: None,
        storage: Storage::on(file_system),
    })
}

/// Looks at one name and hands it to `each`, if it belongs to this shard.
#[inline(always)]
pub(super) fn look<C: Control>(
    directory: &Arc<Directory>,
    name: &CStr,
    context: ScanContext<'_, C>,
    each: &mut (impl FnMut(Found<'_>) + ?Sized),
) {
    if is_quarantine(name.to_bytes()) {
        return leftovers::each(directory, name, context, each);
    }
    if !context.owns(&directory.dir, name) {
        return;
    }
    match stat::at(&directory.handle, name, directory.mount, Freshness::Cached) {
        Ok(metadata) => {
            let (zone, dir) = (&*directory.zone, directory.dir.as_path());
            each(Found::Entry(&Entry { zone, directory, dir, name, metadata }));
        }
        Err(error) => unseen(directory, name, error, each),
    }
}

/// Hands on a name that could not be looked at.
#[cold]
fn unseen(
    directory: &Arc<Directory>,
    name: &CStr,
    error: io::Error,
    each: &mut (impl FnMut(Found<'_>) + ?Sized),
) {
    if is_gone(&error) {
        return each(Found::Gone(directory, name));
    }
    let failure = failure(directory, Action::Stat, Some(name), error);
    each(Found::Failed(directory, Some(name), failure));
}

/// Opens the directory `dir`, which is where an entry of `zone` is: relative to the data root, or absolute
/// if the zone is.
///
/// # Errors
/// A step cannot be entered.
pub fn open_directory(
    root: &DataRoot,
    zone: &Arc<Zone>,
    dir: &Path,
    notes: &Notes,
) -> Result<Arc<Directory>, Failure> {
    let fixed = zone.location.roots.iter().find(|fixed| dir.starts_with(fixed));
    let fixed = fixed.map_or(dir, PathBuf::as_path);
    let listed = Arc::new(zone_root(root, zone, fixed, notes)?);
    let mut below: Option<Directory> = None;
    for step in dir.strip_prefix(fixed).unwrap_or(Path::new("")) {
        let step = CString::new(step.as_bytes()).unwrap_or_default();
        let from = below.as_ref().unwrap_or(&listed);
        below = Some(step_into(from, &step, Across::SameMount, notes)?);
    }
    let Some(mut directory) = below else { return Ok(listed) };
    if matches!(zone.location.shape, Shape::Fixed(_)) {
        directory.listed = Some(listed);
    }
    Ok(Arc::new(directory))
}

/// One entry of an open directory, for a question about a single path.
///
/// # Errors
/// It does not exist, or cannot be looked at.
pub fn entry_at<'a>(directory: &'a Arc<Directory>, name: &'a CStr) -> Result<Entry<'a>, Failure> {
    let metadata = stat::at(&directory.handle, name, directory.mount, Freshness::Synced)
        .map_err(|error| failure(directory, Action::Stat, Some(name), error))?;
    Ok(Entry { zone: &directory.zone, directory, dir: &directory.dir, name, metadata })
}
