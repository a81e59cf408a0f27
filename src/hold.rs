//! Runs a command while holding the lock that a sweep honors for a path.
//!
//! It must not outlive or outrank the command: signals go on to it, its exit code is ours, and it
//! inherits the lock, so that killing this process does not bare a command that still writes.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit;
use crate::lock::flock;
use crate::units::{quoted, shown};

/// Holds `path` while `command` runs, waiting at most `wait` for the lock.
pub fn hold(path: &Path, command: &[OsString], wait: Duration) -> ExitCode {
    let lock = match flock::wait_for(path, wait) {
        Ok(lock) => lock,
        Err(flock::NotHeld::NotThere(error)) => {
            tracing::error!(
                "cannot hold {}: {error}; it has to exist before it can be held",
                shown(path)
            );
            return exit::ExitCode::Usage.into();
        }
        Err(flock::NotHeld::Busy) => {
            tracing::error!(
                "somebody else holds {}; the command was not run (--lock-wait DUR waits longer)",
                shown(path)
            );
            return exit::ExitCode::NoLock.into();
        }
        Err(flock::NotHeld::Failed(error)) => {
            tracing::error!("cannot lock {}: {error}; the command was not run", shown(path));
            return exit::ExitCode::NoLock.into();
        }
    };
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
        std::thread::spawn(move || {
            for signal in signals.forever() {
                pass_on(pid, signal);
            }
        });
    }
    let status = child.wait();
    drop(lock);
    match status {
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
