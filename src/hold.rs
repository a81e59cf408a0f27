//! Runs a command while holding the lock that a sweep honors for a path.
//!
//! It must not outlive or outrank the command: signals go on to it, its exit code is ours, and it
//! inherits the file lock, so that killing this process does not bare a command that still writes. (In
//! Redis the lock then runs out with its TTL, since nobody extends it.)

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit;
use crate::lock::flock;
use crate::lock::redis::{ExporterLocks, Hold};
use crate::units::{quoted, shown};

/// CVAT's own lock of what is held, beside the lock on the object.
#[derive(Debug)]
pub struct ExporterLock {
    /// Where it is taken.
    pub locks: ExporterLocks,
    /// What it is for, relative to the volume.
    pub path: PathBuf,
}

/// Holds `path` while `command` runs, waiting at most `wait` for each lock.
pub fn hold(
    path: &Path,
    command: &[OsString],
    wait: Duration,
    exporter: Option<ExporterLock>,
) -> ExitCode {
    let lease = match exporter.map(|lock| Hold::take(lock.locks, &lock.path, wait)).transpose() {
        Ok(None) => None,
        Ok(Some(Some(lease))) => Some(lease),
        Ok(Some(None)) => return not_run(&busy(path)),
        Err(trouble) => {
            let path = shown(path);
            return not_run(&format!("cannot take CVAT's lock of {path}: {trouble}"));
        }
    };
    // From here on, or it could run out while the other lock is waited for.
    let beat = match lease.map(Heartbeat::start).transpose() {
        Ok(beat) => beat,
        Err(error) => return not_run(&format!("nothing can extend CVAT's lock: {error}")),
    };
    let lock = match flock::wait_for(path, wait) {
        Ok(lock) => lock,
        Err(not_held) => {
            if let Some(beat) = beat {
                beat.end();
            }
            return match not_held {
                flock::NotHeld::NotThere(error) => {
                    tracing::error!(
                        "cannot hold {}: {error}; it has to exist before it can be held",
                        shown(path)
                    );
                    exit::ExitCode::Usage.into()
                }
                flock::NotHeld::Busy => not_run(&busy(path)),
                flock::NotHeld::Failed(error) => {
                    not_run(&format!("cannot lock {}: {error}", shown(path)))
                }
            };
        }
    };
    let code = run(command);
    drop(lock);
    if let Some(beat) = beat {
        beat.end();
    }
    code
}

fn busy(path: &Path) -> String {
    format!("somebody else holds {} (--lock-wait DUR waits longer)", shown(path))
}

fn not_run(why: &str) -> ExitCode {
    tracing::error!("{why}; the command was not run");
    exit::ExitCode::NoLock.into()
}

/// Extends a lease until it is told to end, so that a long export stays protected.
struct Heartbeat {
    end: Sender<()>,
    thread: JoinHandle<Hold>,
}

impl Heartbeat {
    fn start(mut lease: Hold) -> std::io::Result<Self> {
        let (end, ended) = channel();
        let thread = std::thread::Builder::new().spawn(move || {
            let mut is_lost = false;
            while ended.recv_timeout(lease.pulse()) == Err(RecvTimeoutError::Timeout) {
                if !lease.extend() && !is_lost {
                    is_lost = true;
                    tracing::error!(
                        "CVAT's lock was lost: the Redis server is away, or has forgotten it; the \
                         command goes on under the file lock alone"
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
            lease.give_back();
        }
    }
}

/// Runs the command to its end, whose exit code is ours.
fn run(command: &[OsString]) -> ExitCode {
    let [program, args @ ..] = command else { return exit::ExitCode::Usage.into() };
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
        let pass_all_on = move || {
            for signal in signals.forever() {
                pass_on(pid, signal);
            }
        };
        if let Err(error) = std::thread::Builder::new().spawn(pass_all_on) {
            tracing::warn!("the command is not told of signals: {error}");
        }
    }
    match child.wait() {
        Ok(status) => {
            // As a shell has it: 128 and the signal that ended the command.
            let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
            ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
        }
        Err(error) => {
            tracing::error!("lost the command: {error}");
            exit::ExitCode::SomeFailed.into()
        }
    }
}

fn pass_on(pid: i32, signal: i32) {
    use rustix::process::{Pid, Signal, kill_process};
    if let (Some(pid), Some(signal)) = (Pid::from_raw(pid), Signal::from_named_raw(signal)) {
        // It may have ended by now.
        let _ = kill_process(pid, signal);
    }
}
