//! `sweeper hold`: runs a command while holding the lock that a sweep honors for a path.
//!
//! It must not outlive the command: signals are passed on to it, its exit code is the result, and it inherits
//! the file lock, so that the lock survives when this process is killed. (The Redis lock then expires after
//! its TTL, because it is not extended any more.)

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::Refusal;
use super::pass::{application_locks, open_root};
use crate::config::Config;
use crate::lock::flock::{self, NotHeld};
use crate::lock::redis::{ExporterLocks, Hold};
use crate::protocol;
use crate::rules::LockKind;
use crate::units::{quoted, shown};

/// Holds `path` while `command` runs.
pub(super) fn hold(
    config: &Config,
    path: &Path,
    command: &[OsString],
) -> Result<ExitCode, Refusal> {
    let wait = config.lock_wait;
    let lease = match application_lock(config, path)? {
        None => None,
        Some((locks, relative)) => match Hold::take(locks, &relative, wait) {
            Ok(Some(lease)) => Some(lease),
            Ok(None) => return Ok(not_run(&locked(path))),
            Err(error) => {
                let path = shown(path);
                return Ok(not_run(&format!("cannot take CVAT's lock of {path}: {error}")));
            }
        },
    };
    // From here on, because it could expire during the wait for the other lock.
    let heartbeat = match lease.map(Heartbeat::start).transpose() {
        Ok(heartbeat) => heartbeat,
        Err(error) => return Ok(not_run(&format!("CVAT's lock cannot be extended: {error}"))),
    };
    let code = match flock::wait_for(path, wait) {
        Ok(lock) => {
            let code = run(command);
            drop(lock);
            code
        }
        Err(NotHeld::OpenFailed(error)) if error.kind() == ErrorKind::InvalidInput => {
            tracing::error!("cannot hold {}: {error}", shown(path));
            protocol::ExitCode::Usage.into()
        }
        Err(NotHeld::OpenFailed(error)) => {
            tracing::error!("cannot hold {}: {error}; it must exist to be held", shown(path));
            protocol::ExitCode::Usage.into()
        }
        Err(NotHeld::Locked) => not_run(&locked(path)),
        Err(NotHeld::LockFailed(error)) => {
            not_run(&format!("cannot lock {}: {error}", shown(path)))
        }
    };
    if let Some(heartbeat) = heartbeat {
        heartbeat.end();
    }
    Ok(code)
}

/// The application's lock of a path, if it is taken and the path is an entry of a zone that has one.
fn application_lock(
    config: &Config,
    path: &Path,
) -> Result<Option<(ExporterLocks, PathBuf)>, Refusal> {
    let Some(lock) = &config.locks.application else { return Ok(None) };
    let root = open_root(config, &[])?;
    let relative = root.relative(path).map_err(|error| Refusal::Start(error.to_string()))?;
    let Some(relative) = relative else { return Ok(None) };
    let has_lock = config.all_zones.iter().any(|zone| {
        zone.lock == LockKind::Application && zone.location.entry_of(&relative).is_some()
    });
    if !has_lock {
        return Ok(None);
    }
    Ok(Some((application_locks(lock, root.path())?, relative)))
}

fn locked(path: &Path) -> String {
    format!("another process holds {} (--lock-wait DUR waits longer)", shown(path))
}

fn not_run(why: &str) -> ExitCode {
    tracing::error!("{why}; the command was not run");
    protocol::ExitCode::NoLock.into()
}

/// Extends a lease until it is told to end, so that a long command stays protected.
struct Heartbeat {
    end: Sender<()>,
    thread: JoinHandle<Hold>,
}

impl Heartbeat {
    fn start(mut lease: Hold) -> std::io::Result<Self> {
        let (end, ended) = channel();
        let thread = std::thread::Builder::new().spawn(move || {
            let mut is_lost = false;
            while ended.recv_timeout(lease.interval()) == Err(RecvTimeoutError::Timeout) {
                if !lease.extend() && !is_lost {
                    is_lost = true;
                    tracing::error!(
                        "CVAT's lock was lost: the Redis server is unreachable or has lost it; the \
                         command continues under the file lock alone"
                    );
                }
            }
            lease
        })?;
        Ok(Self { end, thread })
    }

    fn end(self) {
        drop(self.end);
        if let Ok(lease) = self.thread.join() {
            lease.release();
        }
    }
}

/// Runs the command to its end.
fn run(command: &[OsString]) -> ExitCode {
    let [program, args @ ..] = command else { return protocol::ExitCode::Usage.into() };
    // Before the command is started, so that no signal is lost between the two.
    let signals = Signals::new([SIGHUP, SIGINT, SIGTERM]);
    let mut child = match Command::new(program).args(args).spawn() {
        Ok(child) => child,
        Err(error) => {
            tracing::error!("cannot run {}: {error}", quoted(program));
            return ExitCode::from(if error.kind() == ErrorKind::NotFound { 127 } else { 126 });
        }
    };
    if let (Ok(mut signals), Ok(pid)) = (signals, i32::try_from(child.id())) {
        let pass_on_all = move || {
            for signal in signals.forever() {
                pass_on(pid, signal);
            }
        };
        if let Err(error) = std::thread::Builder::new().spawn(pass_on_all) {
            tracing::warn!("signals are not passed on to the command: {error}");
        }
    }
    match child.wait() {
        Ok(status) => {
            // As in a shell: 128 plus the signal that ended the command.
            let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
            ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
        }
        Err(error) => {
            tracing::error!("cannot wait for the command: {error}");
            protocol::ExitCode::SomeFailed.into()
        }
    }
}

fn pass_on(pid: i32, signal: i32) {
    use rustix::process::{Pid, Signal, kill_process};
    if let (Some(pid), Some(signal)) = (Pid::from_raw(pid), Signal::from_named_raw(signal)) {
        // It may have ended.
        let _ = kill_process(pid, signal);
    }
}
