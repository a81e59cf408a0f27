//! Records when a process that left something in its private directory ended, so that the next one knows.
//!
//! This module must not touch the rest. The next process tells the changes of others from the removals of this one by
//! their times alone, so the two must not share a tick of the clock of the file system.

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{Mode, mkdirat};

use super::super::unlink::remove_empty_directory;
use crate::fs::stat;
use crate::rules::Moment;

/// Made and removed again: that moves the mtime of the private directory.
pub(super) const TICK: &CStr = c"tick";

/// A tick of a local file system lasts up to 10 ms. Some file systems count in seconds: those are not waited for.
const TICKS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(1);

/// The mtime of the private directory `top`.
pub(super) fn changed(top: &OwnedFd) -> io::Result<Moment> {
    Ok(stat::handle(top, 0)?.mtime)
}

/// Waits until the clock of the file system is past this moment. Whether it is.
pub(super) fn is_past(top: &OwnedFd, moment: Moment) -> bool {
    for _ in 0..TICKS {
        let is_moved = mkdirat(top, TICK, Mode::RWXU).is_ok()
            && remove_empty_directory(top, TICK).is_ok()
            && changed(top).is_ok_and(|now| now > moment);
        if is_moved {
            return true;
        }
        std::thread::sleep(PAUSE);
    }
    false
}

/// Says that this process has ended: the stage `check` is gone, and the mtime of `top` is later than all that was
/// removed. If that cannot be said, `check` stays, as when the process is killed.
pub(super) fn say(top: &OwnedFd, check: &CStr) {
    let is_said = remove_empty_directory(top, check).is_ok()
        && changed(top).is_ok_and(|last| is_past(top, last));
    if !is_said {
        let _ = mkdirat(top, check, Mode::RWXU);
    }
}

/// What a process that was killed meanwhile has left of this.
pub(super) fn clear(top: &OwnedFd) {
    let _ = remove_empty_directory(top, TICK);
}
