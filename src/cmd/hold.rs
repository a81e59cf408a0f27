//! `sweeper hold`: runs a command while holding the lock that a sweep honors for a path.
//!
//! This module must not outlive the command: signals are passed on to it, its exit code is the result, and it inherits
//! the file lock, so that the lock survives when this process is killed. (The Redis lock then expires after
//! its TTL, because it is not extended any more.)

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::Refusal;
use super::data_root::refuse_forbidden;
use super::pass::{application_locks, open_root};
use crate::config::Config;
use crate::lock::flock::{self, NotHeld};
use crate::lock::redis::{ExporterLocks, Grant, Hold};
use crate::os::signals::{bit, ignored};
use crate::protocol;
use crate::rules::{LockKind, Zone};
use crate::units::{self, quoted, shown};

/// Holds `path` while `command` runs.
pub(super) fn hold(
    config: &Config,
    path: &Path,
    command: &[OsString],
) -> Result<ExitCode, Refusal> {
    refuse_forbidden(config)?;
    let lock = application_lock(config, path)?;
    if let Some(why) = lock.as_ref().and_then(|(locks, _)| locks.in_other_database()) {
        tracing::warn!("{why}");
    }
    warn_of_less(config, path)?;
    let end = while_held(config.lock_wait, lock, path, command);
    // Only now that no lock is held: printing waits for as long as a terminal is stopped.
    for line in end.said {
        tracing::error!("{line}");
    }
    Ok(end.code)
}

/// Warns where the lock protects less than it seems to: no sweep honors it, or CVAT does not.
///
/// # Errors
/// The data root was typed for this command and cannot be used.
fn warn_of_less(config: &Config, path: &Path) -> Result<(), Refusal> {
    let shown = shown(path);
    let root = match open_root(config, &config.all_zones) {
        Ok(root) => root,
        Err(why @ Refusal::Root { .. })
            if config.setting("data").is_some_and(|row| row.origin.is_flag()) =>
        {
            return Err(why);
        }
        Err(why) => {
            tracing::warn!("it is not known whether a sweep honors a lock on {shown}: {why}");
            return Ok(());
        }
    };
    // What does not exist is refused when it is opened.
    let Ok(relative) = root.relative(path) else { return Ok(()) };
    let is_entry = |zone: &Zone| {
        relative.as_deref().is_some_and(|path| zone.location.entry_of(path).is_some())
    };
    let is_listed =
        |zone: &Zone| relative.as_ref().is_some_and(|it| zone.location.roots.contains(it));
    let mut zones = config.all_zones.iter().filter(|zone| zone.lock != LockKind::Unlocked);
    let Some(zone) = zones.find(|zone| is_entry(zone) || is_listed(zone)) else {
        tracing::warn!(
            "no sweep of the data root {:?} honors a lock on {shown}: the path is in no zone of that data root that uses \
             locks; hold the entry itself, or name its data root with --data",
            root.path()
        );
        return Ok(());
    };
    if is_entry(zone) && path.is_symlink() {
        tracing::warn!(
            "{shown} is a link: the lock is on what it leads to, and a sweep may remove the link itself"
        );
    }
    let is_unwanted = config.locks.is_application_unwanted;
    if zone.lock == LockKind::Application && !is_entry(zone) && !is_unwanted {
        tracing::warn!(
            "CVAT locks single exports, not {shown}: this lock stops sweepers, but not CVAT; hold the export itself"
        );
        return Ok(());
    }
    if config.locks.misses_application_of(zone) {
        tracing::warn!(
            "CVAT's lock on {shown} is not taken: this lock stops sweepers, but not CVAT. To take it, name the server: \
             --redis redis://HOST:6379 or CVAT_REDIS_INMEM_HOST; to do without it, use --lock flock"
        );
    }
    Ok(())
}

/// How it ended.
struct End {
    code: ExitCode,
    /// What went wrong.
    said: Vec<String>,
}

impl End {
    fn of(code: impl Into<ExitCode>, said: impl Into<String>) -> Self {
        Self { code: code.into(), said: vec![said.into()] }
    }

    fn not_run(why: &str) -> Self {
        Self::of(protocol::ExitCode::NoLock, format!("{why}; the command was not run"))
    }
}

/// Takes the locks, runs the command and releases them.
fn while_held(
    wait: Duration,
    lock: Option<(ExporterLocks, PathBuf)>,
    path: &Path,
    command: &[OsString],
) -> End {
    let lease = match lock.map(|(locks, relative)| Hold::take(locks, &relative, wait)) {
        None => None,
        Some(Ok(Ok(lease))) => Some(lease),
        Some(Ok(Err(grant))) => return End::not_run(&not_ours(path, grant)),
        Some(Err(error)) => {
            let path = shown(path);
            return End::not_run(&format!("cannot take CVAT's lock on {path}: {error}"));
        }
    };
    // From here on, because it could expire during the wait for the other lock.
    let heartbeat = match lease.map(Heartbeat::start).transpose() {
        Ok(heartbeat) => heartbeat,
        Err(error) => {
            return End::not_run(&format!("CVAT's lock cannot be extended: {error}"));
        }
    };
    let mut end = match flock::wait_for(path, wait) {
        Ok(lock) => {
            let end = run(command);
            drop(lock);
            end
        }
        Err(NotHeld::OpenFailed(error)) => {
            let hint = if error.kind() == ErrorKind::NotFound {
                "; it must exist to be held"
            } else if error.kind() == ErrorKind::PermissionDenied {
                "; run this as a user who may open it"
            } else {
                ""
            };
            let said = format!("cannot hold {}: {}{hint}", shown(path), units::error(&error));
            End::of(protocol::ExitCode::Usage, said)
        }
        Err(NotHeld::Locked) => End::not_run(&format!(
            "another process holds {} (--lock-wait DUR waits longer)",
            shown(path)
        )),
        Err(NotHeld::LockFailed(error)) => {
            End::not_run(&format!("cannot lock {}: {}", shown(path), units::error(&error)))
        }
    };
    end.said.extend(heartbeat.and_then(Heartbeat::end));
    end
}

/// The application's lock of a path, if it is taken and the path is an entry of a zone that has one.
fn application_lock(
    config: &Config,
    path: &Path,
) -> Result<Option<(ExporterLocks, PathBuf)>, Refusal> {
    let Some(lock) = config.locks.application.clone().transpose() else { return Ok(None) };
    let root = open_root(config, &[])?;
    let relative = root
        .relative(path)
        .map_err(|error| Refusal::Start(format!("{}: {}", shown(path), units::error(&error))))?;
    let Some(relative) = relative else { return Ok(None) };
    let has_lock = config.all_zones.iter().any(|zone| {
        zone.lock == LockKind::Application && zone.location.entry_of(&relative).is_some()
    });
    if !has_lock {
        return Ok(None);
    }
    Ok(Some((application_locks(&lock?, root.path(), Vec::new())?, relative)))
}

/// Why CVAT's lock on `path` is not ours.
fn not_ours(path: &Path, grant: Grant) -> String {
    let path = shown(path);
    match grant {
        Grant::Ours | Grant::Locked => {
            format!("another process holds CVAT's lock on {path} (--lock-wait DUR waits longer)")
        }
        Grant::Endless => format!(
            "CVAT's lock on {path} is taken and has no expiry, so it never ends: delete its key in \
             Redis if no program holds it"
        ),
        Grant::NotALock => format!(
            "the key of CVAT's lock on {path} has the wrong type in Redis, so it is not a lock: delete it"
        ),
    }
}

const LOST: &str = "CVAT's lock was lost: the Redis server is unreachable or has lost it; the command \
                    continues under the file lock alone";

/// Extends a lease until it is told to end, so that a long command stays protected.
struct Heartbeat {
    end: Sender<()>,
    thread: JoinHandle<Option<Hold>>,
}

impl Heartbeat {
    /// Starts it, or releases the lease if the system refuses the thread.
    fn start(lease: Hold) -> Result<Self, String> {
        let (end, ended) = channel();
        let (give, take) = channel::<Hold>();
        let thread = std::thread::Builder::new().spawn(move || {
            let mut lease = take.recv().ok()?;
            let mut is_lost = false;
            while ended.recv_timeout(lease.interval()) == Err(RecvTimeoutError::Timeout) {
                if !lease.extend() && !is_lost {
                    is_lost = true;
                    // In a thread of its own: a stopped terminal must not delay the next attempt.
                    let _ = std::thread::Builder::new().spawn(|| tracing::error!("{LOST}"));
                }
            }
            Some(lease)
        });
        match thread {
            Ok(thread) => {
                // It waits for this.
                let _ = give.send(lease);
                Ok(Self { end, thread })
            }
            Err(error) => {
                // If that fails too, it expires.
                let _ = lease.release();
                Err(units::no_thread(&error))
            }
        }
    }

    /// Releases the lease. What is to be said about that, if it failed.
    fn end(self) -> Option<String> {
        drop(self.end);
        let lease = self.thread.join().ok()??;
        let secs = lease.ttl().as_secs();
        let error = lease.release().err()?;
        Some(format!("CVAT's lock was not released: {error}; it expires within {secs} s"))
    }
}

/// Runs the command to its end.
fn run(command: &[OsString]) -> End {
    let [program, args @ ..] = command else {
        return End { code: protocol::ExitCode::Usage.into(), said: Vec::new() };
    };
    // Before the command is started, so that no signal is lost between the two.
    let signals = Signals::new(not_ignored());
    let mut child = match Command::new(program).args(args).spawn() {
        Ok(child) => child,
        Err(error) => {
            let code = if error.kind() == ErrorKind::NotFound { 127 } else { 126 };
            return End::of(
                code,
                format!("cannot run {}: {}", quoted(program), units::error(&error)),
            );
        }
    };
    let passed_on = signals.and_then(|mut signals| {
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        std::thread::Builder::new().spawn(move || {
            for signal in signals.forever() {
                pass_on(pid, signal);
            }
        })
    });
    let mut said = Vec::new();
    if let Err(error) = passed_on {
        let error = units::error(&error);
        said.push(format!("signals were not passed on to the command: {error}"));
    }
    let code = match child.wait() {
        Ok(status) => {
            // As in a shell: 128 plus the signal that ended the command.
            let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
            ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
        }
        Err(error) => {
            said.push(format!("cannot wait for the command: {}", units::error(&error)));
            protocol::ExitCode::SomeFailed.into()
        }
    };
    End { code, said }
}

/// The signals to pass on, without those that this process was started to ignore (`nohup`): the command is to ignore
/// them too, and a handler here would give it their defaults. Without `/proc` none counts as ignored.
fn not_ignored() -> Vec<i32> {
    let ignored = ignored().unwrap_or_default();
    let all = [SIGHUP, SIGINT, SIGTERM].into_iter();
    all.filter(|signal| ignored & bit(*signal) == 0).collect()
}

fn pass_on(pid: i32, signal: i32) {
    use rustix::process::{Pid, Signal, kill_process};
    if let (Some(pid), Some(signal)) = (Pid::from_raw(pid), Signal::from_named_raw(signal)) {
        // It may have ended.
        let _ = kill_process(pid, signal);
    }
}
