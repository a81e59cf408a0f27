//! Whether any lease of this process was broken: one question about all of them.
//!
//! This module must not forget a break while a lease is held that may be the broken one. Before the `open` that breaks
//! a lease waits or fails, the kernel sends SIGIO to the process that holds it (`__break_lease` in its `fs/locks.c`,
//! `send_sigio` in `fs/fcntl.c`), as long as the thread lives that has taken the lease. (One that has to wait before
//! that is seen by [`super::is_undisturbed`].) Where every thread blocks that signal, it stays pending, so as long as
//! none is pending, every lease is undisturbed. One that is pending does not say which lease was broken: from then on
//! each is asked about ([`super::is_undisturbed`]), until [`forget`]. Where the signals are not known to come, each is
//! asked about all the time.

use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;

use super::super::open;
use super::{Answer, block, is_pending, take_pending, try_take};

/// Whether every thread of this process blocks SIGIO.
static IS_BLOCKED: AtomicBool = AtomicBool::new(false);

/// Whether SIGIO was seen to come when a lease was broken.
static COMES: OnceLock<bool> = OnceLock::new();

/// Whether a lease may have been broken since the last [`forget`].
static MAY_BE_BROKEN: AtomicBool = AtomicBool::new(false);

/// Blocks SIGIO, so that it stays pending. To be called by the first thread of the process before it starts others: they
/// inherit this.
pub fn keep_pending() {
    IS_BLOCKED.store(block(), Ordering::Relaxed);
}

/// Finds out whether breaks are told, once in the life of the process. To be called before a lease is taken that
/// [`were_none`] is asked about.
pub fn watch() {
    COMES.get_or_init(|| IS_BLOCKED.load(Ordering::Relaxed) && are_told());
}

/// Whether no lease of this process was broken since the last [`forget`]. `false` also where that is not known.
pub fn were_none() -> bool {
    if !COMES.get().is_some_and(|comes| *comes) || MAY_BE_BROKEN.load(Ordering::Relaxed) {
        return false;
    }
    let is_broken = is_pending() != Some(false);
    if is_broken {
        MAY_BE_BROKEN.store(true, Ordering::Relaxed);
    }
    !is_broken
}

/// Forgets the breaks so far. To be called between passes, while no lease is held.
pub fn forget() {
    if COMES.get().is_some() {
        take_pending();
        MAY_BE_BROKEN.store(false, Ordering::Relaxed);
    }
}

/// Breaks a lease on purpose: whether its signal is pending afterwards.
fn are_told() -> bool {
    take_pending();
    let is_told = || -> rustix::io::Result<bool> {
        let memory = memfd_create(c"lease", MemfdFlags::CLOEXEC)?;
        let held = open::reopen(&memory)?;
        drop(memory);
        if try_take(held.as_fd()) != Answer::Granted || is_pending() != Some(false) {
            return Ok(false);
        }
        let broken = open::reopen(&held);
        Ok(broken.is_err_and(|error| error == Errno::WOULDBLOCK) && is_pending() == Some(true))
    };
    let is_told = is_told().unwrap_or(false);
    take_pending();
    is_told
}
