//! Private directories that interrupted removals have left: which shard completes which.
//!
//! This module must not change anything, nor take a lock: each shard looks, and only one acts.

use std::ffi::CStr;
use std::sync::Arc;

use rustix::fs::RawDir;

use super::context::ScanContext;
use crate::control::Control;
use crate::fs::list::is_dot;
use crate::fs::open::{self, Across};
use crate::protocol::{Directory, Found};

/// Hands on a private directory that an interrupted removal has left, if this shard owns an entry in it. One that has
/// none, or that this user cannot look into, is owned by its own name.
#[cold]
pub(super) fn each<C: Control>(
    directory: &Arc<Directory>,
    name: &CStr,
    context: ScanContext<'_, C>,
    found: &mut (impl FnMut(Found<'_>) + ?Sized),
) {
    let owns = |inner: &CStr| {
        let (dir, name) = directory.zone.location.original_of(&directory.dir, inner);
        context.owns(&dir, &name)
    };
    let is_owned = context.shard.is_none()
        || any_within(directory, name, owns).unwrap_or_else(|| context.owns(&directory.dir, name));
    if is_owned {
        found(Found::Leftover(directory, name));
    }
}

/// Whether this holds for the name of an entry in a private directory; `None` if it has no entries, as far as is seen.
fn any_within(
    directory: &Directory,
    name: &CStr,
    mut holds: impl FnMut(&CStr) -> bool,
) -> Option<bool> {
    let top = open::dir(&directory.handle, name, Across::SameMount).ok()?.handle;
    let mut buffer = Vec::with_capacity(16 * 1024);
    let mut found = None;
    for stage in [c"check", c"remove"] {
        let Ok(stage) = open::dir(&top, stage, Across::SameMount) else { continue };
        let mut names = RawDir::new(&stage.handle, buffer.spare_capacity_mut());
        while let Some(Ok(entry)) = names.next() {
            if !is_dot(entry.file_name()) {
                if holds(entry.file_name()) {
                    return Some(true);
                }
                found = Some(false);
            }
        }
    }
    found
}
