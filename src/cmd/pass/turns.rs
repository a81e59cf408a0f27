//! Which zones of a pass are swept when: a zone that another sweeper has locked waits for its own lock, and
//! keeps no other zone waiting.
//!
//! This module must not sweep, and it holds no lock while it waits.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, FileLocks, IfRunning};
use crate::fs::DataRoot;
use crate::lock::exclusive::{ExclusiveLock, Sharing, foresee};
use crate::protocol::Notes;
use crate::rules::{Zone, ZoneName};
use crate::source;

/// How long to wait before the locks are tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// What to do with a zone that another sweeper has locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenHeld {
    /// Leave it alone.
    LeaveAlone,
    /// Sweep it anyway.
    Share,
    /// Sweep the others, and then wait for it.
    Wait,
    /// Sweep the others. The caller asks for this one again.
    Postpone,
}

impl From<IfRunning> for WhenHeld {
    fn from(if_running: IfRunning) -> Self {
        match if_running {
            IfRunning::Exit => Self::LeaveAlone,
            IfRunning::Wait => Self::Wait,
            IfRunning::Share => Self::Share,
        }
    }
}

/// Zones that can be swept now, and the lock that keeps other sweepers out of them.
pub(super) struct Turn {
    pub(super) zones: Vec<Arc<Zone>>,
    pub(super) lock: ExclusiveLock,
}

/// The turns of a pass.
pub(super) struct Turns<'a> {
    config: &'a Config,
    root: &'a DataRoot,
    when_held: WhenHeld,
    /// Zones whose turn has not come; `None` when all had theirs.
    left: Option<Vec<Arc<Zone>>>,
    /// A list of paths is read only once, for all zones together.
    is_one_turn: bool,
    /// Zones that are left to the caller, each with the reason.
    postponed: Vec<(ZoneName, String)>,
    /// A wait is logged once for each zone.
    logged: Vec<ZoneName>,
}

impl<'a> Turns<'a> {
    /// The turns of a pass over `zones`. All in one turn if it `has_list`, a list of paths or a plan.
    pub(super) fn new(
        config: &'a Config,
        root: &'a DataRoot,
        zones: &[Arc<Zone>],
        when_held: WhenHeld,
        has_list: bool,
    ) -> Self {
        let (left, logged, postponed) = (Some(zones.to_vec()), Vec::new(), Vec::new());
        Self { config, root, when_held, left, is_one_turn: has_list, postponed, logged }
    }

    /// The next turn. Waits for a zone if nothing else is left to do; `is_stopped` ends the wait. `None`: all
    /// zones had their turn, or are postponed.
    pub(super) fn next(&mut self, is_stopped: &dyn Fn() -> bool) -> Option<Turn> {
        let zones = self.left.take()?;
        loop {
            let lock = self.try_lock(&zones);
            let is_held = |zone: &Arc<Zone>| lock.refusal(&zone.name).is_some();
            let (held, free): (Vec<_>, Vec<_>) = zones.iter().cloned().partition(is_held);
            match self.when_held {
                _ if held.is_empty() => return Some(Turn { zones, lock }),
                WhenHeld::LeaveAlone | WhenHeld::Share => return Some(Turn { zones, lock }),
                WhenHeld::Postpone => {
                    let reason = |zone: &Arc<Zone>| {
                        let why = lock.refusal(&zone.name).unwrap_or_default();
                        (zone.name.clone(), why.to_owned())
                    };
                    self.postponed = held.iter().map(reason).collect();
                    return (!free.is_empty()).then_some(Turn { zones: free, lock });
                }
                WhenHeld::Wait if !free.is_empty() && !self.is_one_turn => {
                    self.left = Some(held);
                    return Some(Turn { zones: free, lock });
                }
                // The pass finds out by itself that it is stopped, and reports it.
                WhenHeld::Wait if is_stopped() => {
                    return Some(Turn { zones, lock: ExclusiveLock::none() });
                }
                WhenHeld::Wait => self.log(&held, &lock),
            }
            drop(lock);
            std::thread::sleep(RETRY_INTERVAL);
        }
    }

    /// Notes what a dry run does not meet, because it takes no lock: that a run would not sweep `zones` now.
    pub(super) fn foresee(&self, zones: &[Arc<Zone>], notes: &Notes) {
        if !self.config.dry_run {
            return;
        }
        for (zone, why, then) in foreseen(self.config, self.root, zones, self.when_held) {
            notes.add(
                &zone,
                format!(
                    "{why}: {then}; the counts show what a run would remove once the lock is free"
                ),
            );
        }
    }

    /// Zones whose turn comes later.
    pub(super) fn waiting(&self) -> &[Arc<Zone>] {
        self.left.as_deref().unwrap_or_default()
    }

    /// Zones that had no turn because they are locked, each with the reason.
    pub(super) fn into_postponed(self) -> Vec<(ZoneName, String)> {
        self.postponed
    }

    fn log(&mut self, held: &[Arc<Zone>], lock: &ExclusiveLock) {
        for Zone { name, .. } in held.iter().map(|zone| &**zone) {
            if !self.logged.contains(name) {
                let why = lock.refusal(name).unwrap_or_default();
                tracing::warn!("zone {name}: {why}: waiting for it");
                self.logged.push(name.clone());
            }
        }
    }

    fn try_lock(&self, zones: &[Arc<Zone>]) -> ExclusiveLock {
        if !takes_exclusive_lock(self.config) {
            return ExclusiveLock::none();
        }
        let sharing = match self.when_held {
            WhenHeld::Share => Sharing::WithAll,
            WhenHeld::LeaveAlone | WhenHeld::Wait | WhenHeld::Postpone => sharing(self.config),
        };
        ExclusiveLock::of_pass(zone_roots(self.root, zones), sharing)
    }
}

/// Which of `zones` a run would not sweep now because another sweeper is at work there, each with the reason and what
/// the run would do.
pub(in crate::cmd) fn foreseen(
    config: &Config,
    root: &DataRoot,
    zones: &[Arc<Zone>],
    when_held: WhenHeld,
) -> Vec<(ZoneName, String, &'static str)> {
    let then = match when_held {
        _ if config.locks.files == FileLocks::Unlocked => return Vec::new(),
        WhenHeld::Share => return Vec::new(),
        WhenHeld::LeaveAlone => "a run now would leave this zone alone",
        WhenHeld::Wait | WhenHeld::Postpone => "a run now would wait for this zone",
    };
    let refused = foresee(zone_roots(root, zones), sharing(config));
    refused.into_iter().map(|(zone, why)| (zone, why, then)).collect()
}

/// A dry run needs no exclusive lock, and without file locks there is none.
pub fn takes_exclusive_lock(config: &Config) -> bool {
    !config.dry_run && config.locks.files == FileLocks::Flock
}

/// Shards of the same work run at the same time; everything else runs alone.
pub const fn sharing(config: &Config) -> Sharing {
    if config.shard.is_some() { Sharing::WithOthers } else { Sharing::Alone }
}

/// The directories that `zones` are listed from, open. One that is missing or cannot be opened is left out:
/// the pass reports it.
fn zone_roots(root: &DataRoot, zones: &[Arc<Zone>]) -> Vec<(ZoneName, OwnedFd)> {
    let notes = Notes::default();
    let mut roots = Vec::new();
    for zone in zones {
        for path in &zone.location.roots {
            if let Ok(directory) = source::open_root(root, zone, path, &notes) {
                roots.push((zone.name.clone(), directory.handle));
            }
        }
    }
    roots
}
