//! The audit log of a pass.
//!
//! This module must not lie where entries are removed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::super::Refusal;
use crate::cmd::new_file::refuse_stdout;
use crate::config::Config;
use crate::fs::{DataRoot, open};
use crate::os::{clock, signals};
use crate::report::audit::AuditLog;
use crate::units;

/// Opens the audit log, if there is one. A dry run leaves it alone. It is opened anew when `is_rotated` is
/// raised.
///
/// # Errors
/// It cannot be used.
pub(in crate::cmd) fn open(
    config: &Config,
    root: &DataRoot,
    is_rotated: &Arc<AtomicBool>,
) -> Result<Option<AuditLog>, Refusal> {
    let Some(path) = &config.audit_log else { return Ok(None) };
    let refused = |why: String| Refusal::Start(format!("the audit log {path:?}: {why}"));
    refuse_in_zone(path, config, root).map_err(refused)?;
    refuse_stdout(path, "the report").map_err(refused)?;
    if path.is_dir() {
        return Err(refused("it is a directory: name a file".to_owned()));
    }
    if config.dry_run {
        AuditLog::foresee(path).map_err(|why| Refusal::Start(why.to_string()))?;
        tracing::warn!("a dry run removes nothing, so {path:?} is not changed");
        return Ok(None);
    }
    let log = AuditLog::open(path, clock::seed(), clock::now, Arc::clone(is_rotated));
    log.map(Some).map_err(|why| Refusal::Start(why.to_string()))
}

/// What SIGHUP does to a run: with an audit log it raises the flag that is returned, because the log was rotated, and
/// without one it raises `stop`. To be called before other threads are started.
///
/// # Errors
/// The system refused the handler.
pub(in crate::cmd) fn on_hangup(
    config: &Config,
    stop: &Arc<AtomicBool>,
) -> Result<Arc<AtomicBool>, Refusal> {
    let is_rotated = Arc::<AtomicBool>::default();
    let has_log = config.audit_log.is_some() && !config.dry_run;
    let handled =
        if has_log { signals::note_hangups(&is_rotated) } else { signals::end_on_hangup(stop) };
    handled.map(|()| is_rotated).map_err(Refusal::Start)
}

/// Why the directory of a file cannot be used, and what to do.
fn no_directory(error: &io::Error) -> String {
    let hint =
        if error.kind() == io::ErrorKind::NotFound { "; make its directory first" } else { "" };
    format!("{}{hint}", units::error(error))
}

/// Refuses a file that a pass would remove.
///
/// # Errors
/// It is in a directory of a zone, or has no directory: for people.
pub(in crate::cmd) fn refuse_in_zone(
    path: &Path,
    config: &Config,
    root: &DataRoot,
) -> Result<(), String> {
    match zone_around(path, config, root).map_err(|why| no_directory(&why))? {
        None => Ok(()),
        Some(zone) => Err(format!(
            "it is in a directory of zone {zone:?}, whose entries are removed: put it somewhere else"
        )),
    }
}

/// The zone in whose directories a file would be.
pub(in crate::cmd) fn zone_around(
    path: &Path,
    config: &Config,
    root: &DataRoot,
) -> io::Result<Option<String>> {
    let directory = open::directory_of(path).canonicalize()?;
    let is_around = |dir: &PathBuf| {
        root.path().join(dir).canonicalize().is_ok_and(|dir| directory.starts_with(dir))
    };
    let zone = config.all_zones.iter().find(|zone| zone.location.roots.iter().any(is_around));
    Ok(zone.map(|zone| zone.name.to_string()))
}
