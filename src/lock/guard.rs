//! One sweeper at a time: a lock on the directories that a pass lists, and one on the data root for a
//! service.
//!
//! It must not be mistaken for what protects files: every removal has its own lock, and two passes side
//! by side lose nothing. The guard keeps them from doing the same work twice. It is a `flock` on the open
//! directory itself: there is no lock file that a pass could sweep or a crash could leave behind. No entry
//! is ever one of these directories, so the locks of entries and `sweeper hold` do not meet it. On NFS a
//! directory's lock is known to its own machine alone.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock, fstat, major, minor};
use rustix::io::Errno;

use crate::look::{self, Across};
use crate::retention::Zone;
use crate::volume::Volume;

/// Between two tries at what another sweeper holds.
const PAUSE: Duration = Duration::from_millis(100);

/// What to do when another sweeper is at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfRunning {
    /// Leave its zones alone.
    Exit,
    /// Wait until it is done.
    Wait,
    /// Work beside it.
    Share,
}

/// Whether others may work beside us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Nobody.
    Alone,
    /// Those who share too: shards of the same work.
    WithOthers,
}

/// What is held until it is dropped.
#[derive(Debug, Default)]
pub struct Guard {
    held: Vec<OwnedFd>,
    left: BTreeMap<Zone, String>,
}

impl Guard {
    /// Of a rehearsal: none is taken, so that it can be made beside a pass.
    pub fn none() -> Self {
        Self::default()
    }

    /// Of a pass over `zones`. Zones that another sweeper holds are waited for, or left alone.
    pub fn of_pass(
        volume: &Volume,
        zones: &[Zone],
        sharing: Sharing,
        if_running: IfRunning,
        stop: &dyn Fn() -> bool,
    ) -> Self {
        let mut guard = Self::none();
        for zone in zones {
            for root in volume.roots(*zone) {
                // What is missing or may not be opened is for the pass to tell.
                let Ok(handle) = open(volume, *zone, root) else { continue };
                match take(handle, &volume.path().join(root), sharing, if_running, stop) {
                    Ok(handle) => guard.held.extend(handle),
                    Err(holder) => {
                        guard.left.insert(*zone, format!("{holder} is at work there"));
                        break;
                    }
                }
            }
        }
        guard
    }

    /// Of a service: it has the data root for as long as it runs, and passes that are made by hand do not
    /// meet it.
    ///
    /// # Errors
    /// Another service has it.
    pub fn of_service(
        volume: &Volume,
        sharing: Sharing,
        if_running: IfRunning,
        stop: &dyn Fn() -> bool,
    ) -> Result<Self, String> {
        let Ok(handle) = open(volume, Zone::Export, Path::new(".")) else {
            return Ok(Self::none());
        };
        let held = take(handle, volume.path(), sharing, if_running, stop)?;
        Ok(Self { held: held.into_iter().collect(), left: BTreeMap::new() })
    }

    /// Why a zone is left alone, if it is.
    pub(super) fn refusal(&self, zone: Zone) -> Option<&String> {
        self.left.get(&zone)
    }
}

fn open(volume: &Volume, zone: Zone, root: &Path) -> std::io::Result<OwnedFd> {
    let mut dir = volume.place(zone)?.handle;
    for step in root {
        let name = CString::new(step.as_bytes())?;
        dir = look::open_dir(&dir, &name, Across::AnyMount)?.handle;
    }
    Ok(dir)
}

/// The lock of an open directory; who has it instead. Nothing where the file system does not lock.
fn take(
    handle: OwnedFd,
    path: &Path,
    sharing: Sharing,
    if_running: IfRunning,
    stop: &dyn Fn() -> bool,
) -> Result<Option<OwnedFd>, String> {
    let operation = match (sharing, if_running) {
        (Sharing::WithOthers, _) | (_, IfRunning::Share) => FlockOperation::NonBlockingLockShared,
        _ => FlockOperation::NonBlockingLockExclusive,
    };
    let mut is_told = false;
    loop {
        match flock(&handle, operation) {
            Ok(()) => return Ok(Some(handle)),
            Err(Errno::WOULDBLOCK) => {}
            Err(_) => return Ok(None),
        }
        match if_running {
            IfRunning::Share => return Ok(None),
            IfRunning::Exit => return Err(holder(&handle)),
            // A pass that is stopped before its start says so itself.
            IfRunning::Wait if stop() => return Ok(None),
            IfRunning::Wait => {
                if !is_told {
                    is_told = true;
                    tracing::warn!("{} is at work on {path:?}: waiting for it", holder(&handle));
                }
                std::thread::sleep(PAUSE);
            }
        }
    }
}

/// Who holds the lock of a directory, as far as the kernel tells us: processes in other containers, and
/// on other machines, are not in our `/proc`.
fn holder(handle: impl AsFd) -> String {
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let pid = fstat(handle).ok().and_then(|facts| {
        let (dev, ino) = (facts.st_dev, facts.st_ino);
        pid_in(&locks, &format!("{:02x}:{:02x}:{ino}", major(dev), minor(dev)))
    });
    match pid {
        Some(pid) => {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            format!("another sweeper (process {pid}, {:?})", name.trim_end())
        }
        None => "another sweeper (not visible from here)".to_owned(),
    }
}

/// The process that holds the `flock` of a file, in the kernel's list:
/// `1: FLOCK  ADVISORY  WRITE 4711 08:01:131074 0 EOF`.
fn pid_in(locks: &str, file: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["FLOCK", _, _, pid, held, ..] = words.get(1..)? else { return None };
        let pid = pid.parse().ok().filter(|pid| *pid > 0)?;
        (*held == file).then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_names_the_holder_and_not_those_who_wait() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 08:01:7 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 0 08:01:8 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 4711 08:01:9 0 EOF\n\
                     3: -> FLOCK  ADVISORY  WRITE 12 08:01:10 0 EOF\nnonsense\n";
        assert_eq!(pid_in(locks, "08:01:9"), Some(4711));
        for file in ["08:01:7", "08:01:8", "08:01:10", "08:01:1"] {
            assert_eq!(pid_in(locks, file), None, "{file}");
        }
    }
}
