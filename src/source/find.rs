//! Finds directories by their names, at any depth below a data root.
//!
//! This module must not judge or change anything, or follow a link. What is below a directory that was found is not
//! looked at.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::context::ScanContext;
use super::enter::{data_root, failure, open_directory};
use super::list::list;
use crate::control::Control;
use crate::fs::DataRoot;
use crate::protocol::{Directory, Failure, Found, Notes};
use crate::rules::{Action, FileKind, Zone};

/// Hands every directory below `root` whose name `is_wanted` to `each`, and what an interrupted removal left.
/// Directories that cannot be read are handed to `failed`.
pub fn find_trees(
    root: &DataRoot,
    zone: &Arc<Zone>,
    control: &impl Control,
    notes: &Notes,
    is_wanted: &dyn Fn(&CStr) -> bool,
    each: &mut dyn FnMut(Found<'_>),
    failed: &mut dyn FnMut(Failure),
) {
    let context = ScanContext { control, notes, shard: None };
    find_below(root, zone, context, PathBuf::new(), is_wanted, each, failed);
}

/// Whether there is a directory whose name `is_wanted` at any depth below `dir`. If the search is told to stop, this
/// is not known.
///
/// # Errors
/// A directory cannot be read, so it is not known either.
pub fn has_tree_below(
    root: &DataRoot,
    zone: &Arc<Zone>,
    control: &impl Control,
    notes: &Notes,
    dir: &Path,
    is_wanted: &dyn Fn(&CStr) -> bool,
) -> Result<bool, Failure> {
    let context = ScanContext { control, notes, shard: None };
    let (mut has, mut problem) = (false, None);
    let mut each = |found: Found<'_>| {
        has |= matches!(found, Found::Entry(entry) if entry.metadata.kind == FileKind::Dir);
    };
    let mut failed = |failure| problem = Some(failure);
    find_below(root, zone, context, dir.to_owned(), is_wanted, &mut each, &mut failed);
    problem.map_or(Ok(has), Err)
}

fn find_below(
    root: &DataRoot,
    zone: &Arc<Zone>,
    context: ScanContext<'_, impl Control>,
    start: PathBuf,
    is_wanted: &dyn Fn(&CStr) -> bool,
    each: &mut dyn FnMut(Found<'_>),
    failed: &mut dyn FnMut(Failure),
) {
    let mut open = vec![start];
    while let Some(dir) = open.pop() {
        if context.control.is_stopped() {
            return;
        }
        let opened = if dir.as_os_str().is_empty() {
            open_root(root, zone)
        } else {
            open_directory(root, zone, &dir, context.notes)
        };
        let directory: Arc<Directory> = match opened {
            Ok(directory) => directory,
            // Another process has removed it.
            Err(failure) if failure.error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(failure) => {
                failed(failure);
                continue;
            }
        };
        list(&directory, context, &mut |found: Found<'_>| match found {
            Found::Entry(entry) => {
                let is_tree =
                    entry.metadata.kind == FileKind::Dir && !entry.metadata.is_mount_point;
                if is_wanted(entry.name) {
                    each(Found::Entry(entry));
                } else if is_tree {
                    let name = Path::new(OsStr::from_bytes(entry.name.to_bytes()));
                    open.push(dir.join(name));
                }
            }
            Found::Leftover(directory, name) => each(Found::Leftover(directory, name)),
            Found::Gone(..) => {}
            Found::Failed(_, _, failure) => failed(failure),
        });
    }
}

/// The data root, open for listing.
fn open_root(root: &DataRoot, zone: &Arc<Zone>) -> Result<Arc<Directory>, Failure> {
    let directory = data_root(root, zone)?;
    match root.reopen() {
        Ok(handle) => Ok(Arc::new(Directory { handle, ..directory })),
        Err(error) => Err(failure(&directory, Action::Open, None, error)),
    }
}
