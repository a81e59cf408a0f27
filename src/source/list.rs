//! All names of a directory, read by one worker.
//!
//! It must not judge or change anything.

use std::sync::Arc;

use rustix::fs::RawDir;

use super::context::ScanContext;
use super::enter::{failure, look};
use crate::control::Control;
use crate::fs::list::is_dot;
use crate::protocol::{Directory, Found};
use crate::rules::Action;

/// The buffer for a listing: large enough that the call costs little, small enough for the processor's
/// cache.
pub(super) const BUFFER: usize = 64 * 1024;

/// Looks at all names in an open directory, for one worker.
pub(super) fn list<C: Control>(
    directory: &Arc<Directory>,
    context: ScanContext<'_, C>,
    each: &mut (impl FnMut(Found<'_>) + ?Sized),
) {
    let mut buffer = Vec::with_capacity(BUFFER);
    let mut names = RawDir::new(&directory.handle, buffer.spare_capacity_mut());
    while let Some(entry) = names.next() {
        if context.control.is_stopped() {
            return;
        }
        match entry {
            Ok(entry) if is_dot(entry.file_name()) => {}
            Ok(entry) => look(directory, entry.file_name(), context, each),
            Err(error) => {
                let failure = failure(directory, Action::List, None, error);
                return context.report_failure(directory, None, failure, each);
            }
        }
    }
}
