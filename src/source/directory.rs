//! A zone as a stream of batches of names, read by several workers at once.
//!
//! This module must not judge or change anything. A directory is read one `getdents` buffer at a time; each worker
//! takes a whole buffer and looks at its names by itself, so that at most one buffer per worker is in memory. Where
//! looks wait for a disk, a single worker takes several buffers and sorts their names.

use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FileType, RawDir, SeekFrom, seek};

use super::cold::{Sorted, Stopwatch};
use super::context::ScanContext;
use super::enter::{data_root, failure, look, zone_root};
use super::instances::Instances;
use super::list::BUFFER;
use super::rounds::{AtEnd, Rounds, too_long};
use crate::control::Control;
use crate::fs::DataRoot;
use crate::fs::list::is_dot;
use crate::protocol::{Directory, Failure, Found, Notes, ScanBatch};
use crate::rules::{Action, Shape, Zone};

/// What each of several workers begins with: about fifty names. Where a look takes a millisecond, as on a
/// network file system, one large buffer would leave the other workers without any.
const FIRST_BUFFER: usize = 4 * 1024;

/// A buffer is doubled when its names took less time than this, and halved when they took more.
const QUICK: Duration = Duration::from_millis(5);
const SLOW: Duration = Duration::from_millis(20);

/// The directories of a zone, being read.
#[derive(Debug)]
pub(super) struct Directories {
    shape: Shape,
    shared: Vec<SharedDirectory>,
    /// The data root, and the directories that could not be entered and are still to be reported.
    root: Directory,
    unopened: Mutex<Vec<(CString, Failure)>>,
}

/// A directory whose buffers are handed to workers.
#[derive(Debug)]
struct SharedDirectory {
    directory: Arc<Directory>,
    /// Held while one worker fetches a buffer of a listing that may be read again. The kernel itself hands out the
    /// buffers of any other one by one.
    turn: Mutex<()>,
    is_done: AtomicBool,
    /// Its names are not in memory.
    is_cold: AtomicBool,
    /// Looks wait for a disk: one worker looks at names in the order of their inodes. Several would wait for the
    /// same blocks.
    slow: SlowBatches,
    rounds: Rounds,
}

/// How many batches in a row were slow. One alone may be a process that had to wait for a processor, and sorting
/// takes memory.
#[derive(Debug, Default)]
struct SlowBatches(AtomicU32);

impl SlowBatches {
    const SEVERAL: u32 = 3;

    fn add(&self, is_slow: bool) {
        let count = if is_slow { self.0.load(Ordering::Relaxed).saturating_add(1) } else { 0 };
        self.0.store(count, Ordering::Relaxed);
    }

    fn are_several(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= Self::SEVERAL
    }
}

impl Directories {
    pub(super) fn open(
        data: &DataRoot,
        zone: &Arc<Zone>,
        notes: &Notes,
    ) -> Result<Option<Self>, Failure> {
        let root = data_root(data, zone)?;
        let (mut shared, mut unopened) = (Vec::new(), Vec::new());
        for path in &zone.location.roots {
            match zone_root(data, zone, path, notes) {
                Ok(directory) => shared.push(SharedDirectory {
                    rounds: Rounds::on(&directory.storage),
                    directory: Arc::new(directory),
                    turn: Mutex::new(()),
                    is_done: AtomicBool::new(false),
                    is_cold: AtomicBool::new(false),
                    slow: SlowBatches::default(),
                }),
                // What is below the data root may not have been created yet. An absolute path in the settings file is
                // wrong, or its disk is not mounted.
                Err(failure)
                    if failure.error.kind() == io::ErrorKind::NotFound
                        && path.is_relative()
                        && data.place_of(path).is_none() => {}
                Err(failure) => {
                    let name = CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
                    unopened.push((name, failure));
                }
            }
        }
        if shared.is_empty() && unopened.is_empty() {
            return Ok(None);
        }
        let unopened = Mutex::new(unopened);
        Ok(Some(Self { shape: zone.location.shape, shared, root, unopened }))
    }

    /// The directories that this zone is listed from.
    pub(super) fn all(&self) -> impl Iterator<Item = &Directory> {
        self.shared.iter().map(|shared| &*shared.directory)
    }

    /// Looks at the next buffer of names.
    pub(super) fn next<'s, C: Control>(
        &'s self,
        buffer: &mut Vec<u8>,
        context: ScanContext<'_, C>,
        each: &mut impl FnMut(Found<'_>),
    ) -> ScanBatch<'s> {
        let unopened =
            std::mem::take(&mut *self.unopened.lock().unwrap_or_else(PoisonError::into_inner));
        for (name, failure) in unopened {
            context.report_failure(&self.root, Some(&name), failure, each);
        }
        let Some(shared) = self.shared.iter().find(|dir| !dir.is_done.load(Ordering::Relaxed))
        else {
            return ScanBatch { has_more: false, root: None, names: 0, is_cold: false };
        };
        let directory = &shared.directory;
        let start = Instant::now();
        let mut names = 0;
        let mut instances = Instances::new(context);
        let mut watch = Stopwatch::new();
        let mut each = |name: io::Result<(&CStr, FileType)>| {
            if context.control.is_stopped() {
                return;
            }
            names += 1;
            watch.before_look();
            match name {
                Ok((name, _)) if !shared.rounds.is_new(name) => names -= 1,
                Ok((name, kind)) => match self.shape {
                    Shape::Flat => look(directory, name, context, each),
                    Shape::InEach(dir) => instances.all_in(directory, name, kind, dir, each),
                    Shape::Fixed(paths) => instances.fixed(directory, name, kind, paths, each),
                },
                Err(error) => {
                    let failure = failure(directory, Action::List, None, error);
                    context.report_failure(directory, None, failure, each);
                }
            }
        };
        let is_one = !context.control.has_several_workers();
        if is_one && shared.slow.are_several() {
            shared.take_sorted(buffer, context.control, &mut each);
        } else {
            let least = if is_one { BUFFER } else { FIRST_BUFFER };
            shared.take(buffer, least, |name| each(name.map(|(name, kind, _)| (name, kind))));
            adapt(buffer, least, start.elapsed());
        }
        let may_be =
            matches!(self.shape, Shape::Flat) && !directory.storage.file_system.is_served();
        let is_cold = shared.adapt_order(&watch, may_be);
        ScanBatch { has_more: true, root: Some(directory), names, is_cold }
    }
}

/// Adapts the size of a worker's buffer to the time that its names took.
fn adapt(buffer: &mut Vec<u8>, least: usize, took: Duration) {
    let size = buffer.capacity();
    if took < QUICK && size < BUFFER {
        buffer.clear();
        buffer.reserve_exact(2 * size);
    } else if took > SLOW {
        buffer.shrink_to(least.max(size / 2));
    }
}

impl SharedDirectory {
    /// Fetches one buffer, of `least` bytes if there is none yet, and hands out its names, their kinds and their
    /// inode numbers, all but `.` and `..`.
    fn take(
        &self,
        buffer: &mut Vec<u8>,
        least: usize,
        mut each: impl FnMut(io::Result<(&CStr, FileType, u64)>),
    ) {
        buffer.clear();
        if buffer.capacity() == 0 {
            buffer.reserve_exact(least);
        }
        let mut names = RawDir::new(&self.directory.handle, buffer.spare_capacity_mut());
        let mut first = true;
        while first || !names.is_buffer_empty() {
            let turn = (first && self.rounds.may_repeat())
                .then(|| self.turn.lock().unwrap_or_else(PoisonError::into_inner));
            first = false;
            let entry = names.next();
            let end = if entry.is_none() { self.end() } else { Ok(()) };
            drop(turn);
            match entry {
                Some(Ok(entry)) => {
                    if !is_dot(entry.file_name()) {
                        each(Ok((entry.file_name(), entry.file_type(), entry.ino())));
                    }
                }
                Some(Err(error)) => {
                    self.is_done.store(true, Ordering::Relaxed);
                    return each(Err(error.into()));
                }
                None => {
                    if let Err(error) = end {
                        each(Err(error));
                    }
                    return;
                }
            }
        }
    }

    /// Whether the names of a batch were not in memory, and so the next ones are looked at in the order of
    /// their inodes. (A server has an order of its own, and what is in an instance takes several looks.)
    fn adapt_order(&self, watch: &Stopwatch, may_be: bool) -> bool {
        if let Some(found) = watch.is_cold() {
            self.is_cold.store(found && may_be, Ordering::Relaxed);
        }
        if let Some(found) = watch.is_slow() {
            self.slow.add(found && may_be);
        }
        self.is_cold.load(Ordering::Relaxed)
    }

    /// Fetches as many buffers as are sorted together, and hands out their names.
    fn take_sorted(
        &self,
        buffer: &mut Vec<u8>,
        control: &impl Control,
        each: &mut impl FnMut(io::Result<(&CStr, FileType)>),
    ) {
        let mut sorted = Sorted::default();
        while !sorted.is_full() && !self.is_done.load(Ordering::Relaxed) && !control.is_stopped() {
            self.take(buffer, BUFFER, |name| match name {
                Ok((name, kind, ino)) => sorted.push(name, kind, ino),
                Err(error) => each(Err(error)),
            });
        }
        sorted.each(|name, kind| each(Ok((name, kind))));
    }

    /// The end of a listing: it is read again from its start, or is done. An error says that it cannot be.
    fn end(&self) -> io::Result<()> {
        let end = self.rounds.at_end(&self.directory.storage);
        if end == AtEnd::Again {
            match seek(&self.directory.handle, SeekFrom::Start(0)) {
                Ok(_) => return Ok(()),
                Err(error) => {
                    self.is_done.store(true, Ordering::Relaxed);
                    return Err(error.into());
                }
            }
        }
        self.is_done.store(true, Ordering::Relaxed);
        if end == AtEnd::TooLong { Err(too_long()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_after_several_slow_batches_in_a_row_and_no_longer_after_a_quick_one() {
        let slow = SlowBatches::default();
        for (is_slow, are_several) in [
            (true, false),
            (true, false),
            (false, false),
            (true, false),
            (true, false),
            (true, true),
            (true, true),
            (false, false),
        ] {
            slow.add(is_slow);
            assert_eq!(slow.are_several(), are_several);
        }
    }
}
