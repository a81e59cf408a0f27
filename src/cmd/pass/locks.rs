//! The locks of a pass, as the settings say.
//!
//! This module must not take any of them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::super::Refusal;
use crate::config::{self, ApplicationLock, Config};
use crate::lock::exclusive::ExclusiveLock;
use crate::lock::redis::{ExporterLocks, Prefix, Timing};
use crate::lock::{self, Backend};
use crate::os::clock;
use crate::rules::{LockKind, Zone};

/// The locks of a pass over these zones of the data root at `path`. When one of the flags `stop` is raised, no lock
/// server is waited for any more.
///
/// # Errors
/// The application's lock is required, and no server is named, or it is not known how the application sees the data
/// root.
pub(in crate::cmd) fn locks(
    config: &Config,
    zones: &[Arc<Zone>],
    path: &Path,
    stop: Vec<Arc<AtomicBool>>,
) -> Result<Backend, Refusal> {
    let uses_application = zones.iter().any(|zone| zone.lock == LockKind::Application);
    let application = if uses_application { config.locks.application.clone()? } else { None };
    let application = application.map(|lock| application_locks(&lock, path, stop)).transpose()?;
    let files = match config.locks.files {
        config::FileLocks::Flock => lock::FileLocks::Flock,
        config::FileLocks::Unlocked => lock::FileLocks::Unlocked,
    };
    let is_application_unwanted = config.locks.is_application_unwanted;
    Ok(Backend { files, application, is_application_unwanted, exclusive: ExclusiveLock::none() })
}

/// The locks of the application. Their keys are made from the path as the application sees it. A wrong one
/// locks nothing without an error, so a guess is warned about, and is refused when these locks are required.
pub(in crate::cmd) fn application_locks(
    lock: &ApplicationLock,
    data_root: &Path,
    stop: Vec<Arc<AtomicBool>>,
) -> Result<ExporterLocks, Refusal> {
    let prefix = match &lock.data_root {
        Some(root) => Prefix::given(root),
        None => Prefix::guessed(data_root, &lock.own_roots),
    };
    if prefix.is_guess() {
        let doubt = format!(
            "the keys of CVAT's locks contain the path as CVAT sees it, and {} does not look like that: \
             name CVAT's path of this data root with --cvat-data (usually /home/django/data)",
            prefix.shown()
        );
        if lock.is_required {
            return Err(Refusal::Start(doubt));
        }
        tracing::warn!("{doubt}");
    }
    let timing = Timing { steady: clock::steady, stop };
    Ok(ExporterLocks::new(lock.server.clone(), prefix, lock.ttl, clock::now(), timing))
}
