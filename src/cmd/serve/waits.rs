//! What a service waits for before its first pass: the data root, and another service that has it.
//!
//! This module must not make a pass. A service that waits is ready for systemd, shows its pages and ends at a signal.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::cmd::Refusal;
use crate::cmd::pass::open_root;
use crate::cmd::pass::turns::{sharing, takes_exclusive_lock};
use crate::config::{Config, IfRunning};
use crate::fs::DataRoot;
use crate::lock::exclusive::{ExclusiveLock, Sharing};
use crate::os::clock;
use crate::service::health::Health;
use crate::service::notify::Notify;

/// How long a service that waits pauses before it tries again.
const INTERVAL: Duration = Duration::from_millis(100);

/// What takes part in a wait.
pub(super) struct Waits<'a> {
    pub(super) config: &'a Config,
    pub(super) notify: &'a Notify,
    pub(super) health: &'a Health,
    /// Raised when the service is to end.
    pub(super) stop: &'a AtomicBool,
}

/// The data root, or why a directory is none yet.
///
/// # Errors
/// There is none, and waiting would not help.
pub(super) fn try_root(config: &Config) -> Result<Result<DataRoot, String>, Refusal> {
    match open_root(config, &config.zones) {
        Err(Refusal::Root { at, why }) if why.may_pass() => {
            Ok(Err(Refusal::Root { at, why }.to_string()))
        }
        opened => opened.map(Ok),
    }
}

fn if_running(config: &Config) -> IfRunning {
    config.if_running.unwrap_or(IfRunning::Wait)
}

/// The lock of the one service of a data root, without waiting for it.
///
/// # Errors
/// Who holds the lock.
pub(super) fn try_lock(config: &Config, root: &DataRoot) -> Result<ExclusiveLock, String> {
    if !takes_exclusive_lock(config) {
        return Ok(ExclusiveLock::none());
    }
    let sharing = match if_running(config) {
        IfRunning::Share => Sharing::WithAll,
        IfRunning::Exit | IfRunning::Wait => sharing(config),
    };
    match root.reopen() {
        Ok(handle) => ExclusiveLock::of_service(handle, sharing),
        Err(_) => Ok(ExclusiveLock::none()),
    }
}

impl Waits<'_> {
    /// Waits until the application has made its directories. `None`: the service was stopped before.
    ///
    /// # Errors
    /// The data root cannot be used.
    pub(super) fn for_root(
        &self,
        first: Result<DataRoot, String>,
    ) -> Result<Option<DataRoot>, Refusal> {
        let mut why = match first {
            Ok(root) => return Ok(Some(root)),
            Err(why) => why,
        };
        let tell = |why: &str| {
            self.health.on_block(Some(&format!("waiting for the data root: {why}")));
            tracing::warn!("waiting for the data root: {why}");
        };
        self.notify.ready(&format!("waiting for the data root: {why}"));
        tell(&why);
        self.health.while_waiting(|| {
            while !self.stop.load(Ordering::Relaxed) {
                match try_root(self.config)? {
                    Ok(root) => {
                        self.health.on_block(None);
                        return Ok(Some(root));
                    }
                    Err(other) if other != why => {
                        why = other;
                        self.notify.status(&format!("waiting for the data root: {why}"));
                        tell(&why);
                    }
                    Err(_) => {}
                }
                std::thread::sleep(INTERVAL);
            }
            Ok(None)
        })
    }

    /// The lock of the one service of a data root. Another one stands by until it ends, or exits, as its settings
    /// say. `None`: it was stopped while it stood by.
    ///
    /// # Errors
    /// Who holds the lock.
    pub(super) fn for_others(&self, root: &DataRoot) -> Result<Option<ExclusiveLock>, String> {
        let take = || try_lock(self.config, root);
        match take() {
            Err(holder) if if_running(self.config) == IfRunning::Wait => {
                self.notify.ready(&standing_by(&holder));
                Ok(self.health.while_waiting(|| self.stand_by(holder, take, root)))
            }
            taken => taken.map(Some),
        }
    }

    /// Tries to take the lock until it is free, or until the service is stopped.
    fn stand_by(
        &self,
        mut holder: String,
        take: impl Fn() -> Result<ExclusiveLock, String>,
        root: &DataRoot,
    ) -> Option<ExclusiveLock> {
        let tell = |holder: &str| {
            self.health.on_wait_for_all(clock::now(), &standing_by(holder));
            tracing::warn!("{holder} already serves {:?}: waiting for it", root.path());
        };
        tell(&holder);
        loop {
            match take() {
                Ok(lock) => return Some(lock),
                Err(_) if self.stop.load(Ordering::Relaxed) => return None,
                Err(other) if other != holder => {
                    self.notify.status(&standing_by(&other));
                    tell(&other);
                    holder = other;
                }
                Err(_) => {}
            }
            std::thread::sleep(INTERVAL);
        }
    }
}

fn standing_by(holder: &str) -> String {
    format!("standing by: {holder} serves this data root")
}
