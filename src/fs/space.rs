//! How full a file system is, and whether the space of what was removed has appeared.
//!
//! This module must not look at files, or wait forever. Some file systems free space later: xfs in the background,
//! btrfs when it commits. What a process holds open or a snapshot has is never freed.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{StatVfs, fstatvfs, statvfs, syncfs};

use crate::rules::Space;
use crate::rules::pressure::Arrival;

/// How long to wait for space in all.
const PATIENCE: Duration = Duration::from_secs(10);

/// When the file system is asked to commit what it has: most free space at once.
const SOON: Duration = Duration::from_millis(50);

/// Once half of the space is there and nothing more has appeared for this long, it is enough.
const QUIET: Duration = Duration::from_secs(2);

/// How often to ask, at most and at least.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(100);

/// Whether a commit is awaited. One that does not return is not followed by others.
static IS_FLUSHING: AtomicBool = AtomicBool::new(false);

impl Space {
    /// Of the file system that `path` is on.
    ///
    /// # Errors
    /// What the system says.
    pub fn of(path: &Path) -> io::Result<Self> {
        Ok(read(&statvfs(path)?))
    }

    /// Of the file system that an open file is on.
    ///
    /// # Errors
    /// What the system says.
    pub fn at(handle: &OwnedFd) -> io::Result<Self> {
        Ok(read(&fstatvfs(handle)?))
    }

    /// Of the file system that an open directory is on, after it has committed what it has; without, if that takes
    /// 10 s, or when `is_stopped`. Some file systems count what was written only then.
    ///
    /// # Errors
    /// What the system says.
    pub fn committed(handle: &OwnedFd, is_stopped: &dyn Fn() -> bool) -> io::Result<Self> {
        let (start, mut pause, done) = (Instant::now(), SHORTEST, begin_flush(handle));
        while !done.load(Ordering::Acquire) && start.elapsed() < PATIENCE && !is_stopped() {
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST);
        }
        Self::at(handle)
    }

    /// Of the file system that an open directory is on, when the space of the removed entries has appeared according
    /// to `arrival`. As it is after 10 s, if that has not happened, or when `is_stopped`.
    ///
    /// # Errors
    /// What the system says.
    pub fn settled(
        handle: &OwnedFd,
        arrival: &dyn Fn(&Self) -> Arrival,
        is_stopped: &dyn Fn() -> bool,
    ) -> io::Result<Self> {
        let start = Instant::now();
        let (mut pause, mut flush) = (SHORTEST, None);
        let mut seen = Seen { least: Self::at(handle)?, least_at: SHORTEST, flushed_at: None };
        loop {
            let space = Self::at(handle)?;
            let arrived = arrival(&space);
            let waited = start.elapsed();
            if arrived == Arrival::Whole || waited >= PATIENCE || is_stopped() {
                return Ok(space);
            }
            if waited >= SOON && flush.is_none() {
                flush = Some(begin_flush(handle));
            }
            let is_flushed =
                flush.as_ref().is_some_and(|done: &Arc<AtomicBool>| done.load(Ordering::Acquire));
            seen.add(&space, is_flushed, waited);
            if arrived == Arrival::Half && seen.is_enough(&space, waited) {
                return Ok(space);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST);
        }
    }
}

/// What was seen during the wait for space. Times count from the beginning of the wait.
#[derive(Debug)]
struct Seen {
    least: Space,
    least_at: Duration,
    flushed_at: Option<Duration>,
}

impl Seen {
    fn add(&mut self, space: &Space, is_flushed: bool, now: Duration) {
        let Space { bytes_used, inodes_used, .. } = self.least;
        if space.bytes_used < bytes_used || space.inodes_used < inodes_used {
            (self.least, self.least_at) = (*space, now);
        }
        if is_flushed && self.flushed_at.is_none() {
            self.flushed_at = Some(now);
        }
    }

    /// Whether half of the space is enough. Where others write, a long wait would only give them the time to fill
    /// what is free.
    fn is_enough(&self, space: &Space, now: Duration) -> bool {
        let Space { bytes_used, inodes_used, .. } = self.least;
        let others_write = space.bytes_used > bytes_used || space.inodes_used > inodes_used;
        let is_quiet = |since: Duration| now.saturating_sub(since) >= QUIET;
        (others_write && now.saturating_sub(self.least_at) >= SOON)
            || self.flushed_at.is_some_and(|flushed| is_quiet(flushed.max(self.least_at)))
    }
}

fn read(all: &StatVfs) -> Space {
    let bytes = |blocks: u64| blocks.saturating_mul(all.f_frsize);
    Space {
        bytes: bytes(all.f_blocks),
        bytes_used: bytes(all.f_blocks.saturating_sub(all.f_bfree)),
        bytes_available: bytes(all.f_bavail),
        inodes: all.f_files,
        inodes_used: all.f_files.saturating_sub(all.f_ffree),
    }
}

/// Asks a file system to commit, by a thread of its own: nobody knows how long that takes. The result is raised
/// when it is done.
fn begin_flush(handle: &OwnedFd) -> Arc<AtomicBool> {
    let done = Arc::new(AtomicBool::new(false));
    let Ok(handle) = handle.try_clone().map(File::from) else { return done };
    if IS_FLUSHING.swap(true, Ordering::AcqRel) {
        return done;
    }
    let is_done = Arc::clone(&done);
    let flush = move || {
        // Whether it could, the space says.
        let _ = syncfs(&handle);
        is_done.store(true, Ordering::Release);
        IS_FLUSHING.store(false, Ordering::Release);
    };
    if std::thread::Builder::new().name("flush".to_owned()).spawn(flush).is_err() {
        IS_FLUSHING.store(false, Ordering::Release);
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::space::tests::space;

    fn handle() -> OwnedFd {
        File::open(std::env::temp_dir()).unwrap().into()
    }

    #[test]
    fn space_that_is_there_is_not_waited_for() {
        let answers = std::cell::Cell::new(0);
        let arrival = |_: &Space| {
            answers.set(answers.get() + 1);
            if answers.get() < 4 { Arrival::Little } else { Arrival::Whole }
        };
        let space = Space::settled(&handle(), &arrival, &|| false).unwrap();
        assert_eq!(answers.get(), 4);
        assert!(space.bytes > 0 && space.usable() <= space.bytes);
    }

    #[test]
    fn half_of_the_space_is_enough_when_nothing_more_appears_or_others_write() {
        let space = |bytes_used| space(100, bytes_used);
        let at = Duration::from_millis;
        let mut seen = Seen { least: space(50), least_at: at(1), flushed_at: None };
        seen.add(&space(40), false, at(10));
        assert!(!seen.is_enough(&space(40), at(9000)), "the rest may come with the commit");
        assert!(!seen.is_enough(&space(41), at(59)), "it may still become less");
        assert!(seen.is_enough(&space(41), at(60)), "others write");
        seen.add(&space(40), true, at(3000));
        assert!(!seen.is_enough(&space(40), at(4999)));
        assert!(seen.is_enough(&space(40), at(5000)), "nothing more appears");
        seen.add(&space(39), true, at(4999));
        assert!(!seen.is_enough(&space(39), at(5000)));
    }

    #[test]
    fn a_wait_ends_when_the_pass_is_stopped() {
        Space::settled(&handle(), &|_| Arrival::Little, &|| true).unwrap();
    }
}
