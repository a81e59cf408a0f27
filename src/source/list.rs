//! All names of a directory, read by one worker.
//!
//! This module must not judge or change anything.

use std::io;
use std::sync::Arc;

use rustix::fs::{RawDir, SeekFrom, seek};

use super::context::ScanContext;
use super::enter::{failure, look};
use super::rounds::{AtEnd, Rounds, too_long};
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
    let rounds = Rounds::on(&directory.storage);
    loop {
        let result = read(directory, &rounds, context, each).and_then(|()| {
            let end = rounds.at_end(&directory.storage);
            match end {
                AtEnd::Done => {}
                AtEnd::Again => drop(seek(&directory.handle, SeekFrom::Start(0))?),
                AtEnd::TooLong => return Err(too_long()),
            }
            Ok(end)
        });
        match result {
            Ok(AtEnd::Again) if !context.control.is_stopped() => {}
            Ok(_) => return,
            Err(error) => {
                let failure = failure(directory, Action::List, None, error);
                return context.report_failure(directory, None, failure, each);
            }
        }
    }
}

/// Looks at all names that one listing has.
fn read<C: Control>(
    directory: &Arc<Directory>,
    rounds: &Rounds,
    context: ScanContext<'_, C>,
    each: &mut (impl FnMut(Found<'_>) + ?Sized),
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER);
    let mut names = RawDir::new(&directory.handle, buffer.spare_capacity_mut());
    while let Some(entry) = names.next() {
        if context.control.is_stopped() {
            break;
        }
        let entry = entry?;
        if !is_dot(entry.file_name()) && rounds.is_new(entry.file_name()) {
            look(directory, entry.file_name(), context, each);
        }
    }
    Ok(())
}
