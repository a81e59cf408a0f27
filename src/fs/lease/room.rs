//! How many files may be open under leases at the same time, and room for their descriptors.
//!
//! This module must not open anything that stays open.

use std::os::fd::AsFd;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, getrlimit};

/// The most files that are kept open under leases at the same time.
const MOST: usize = 8192;

/// How many descriptors [`make_room`] makes room for.
pub(super) const ROOM: i32 = 8192;

/// How many files may be kept open under leases at the same time, while `workers` walk through trees: half
/// of what the limit on open files leaves to them, and no more than a few trees need.
pub fn affordable(workers: usize) -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    affordable_within(limit, workers)
}

pub(super) fn affordable_within(limit: usize, workers: usize) -> usize {
    /// What a walk through a deep tree keeps open.
    const EACH: usize = 16;
    /// The directories of zones, locks, the report, and what was inherited.
    const OTHERS: usize = 128;
    (limit.saturating_sub(OTHERS).saturating_sub(workers.saturating_mul(EACH)) / 2).min(MOST)
}

/// Makes room for the descriptors of many leases. To be called before threads are started: whenever the kernel
/// doubles the table of descriptors of a process with several threads, it waits for all processors
/// (`expand_files` in its `fs/file.c`).
pub fn make_room(any: impl AsFd) {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let last = i32::try_from(limit.saturating_sub(1)).unwrap_or(i32::MAX).min(ROOM);
    // The table stays as large when this is closed. If it is refused, the table grows later.
    let _ = fcntl_dupfd_cloexec(any, last);
}
