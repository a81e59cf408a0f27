//! `sweeper plan`: a dry run that writes down what it would remove.
//!
//! This module must not remove anything.

use std::collections::BTreeMap;
use std::path::Path;

use super::Refusal;
use super::new_file::{NewFile, refuse_same, refuse_stdout};
use super::pass::{PlanWriter, open_root, zone_around};
use super::run::{Ended, run_by_plan};
use super::unused::warn_of_unused;
use crate::config::settings::Setting;
use crate::config::{Config, GuardSettings, Verbosity};
use crate::os::clock;
use crate::os::logging::WRITTEN;
use crate::protocol::ExitCode;
use crate::report::plan::{BEGINNING, Header};
use crate::units;

/// The settings that decide what is removed, besides the zones of the settings file.
const DECIDING: [&str; 11] = [
    "profile",
    "zones",
    "ttl",
    "ttl_project",
    "ttl_task",
    "ttl_job",
    "ttl_events",
    "retention",
    "tmp_age",
    "exclude",
    "in_use",
];

/// Writes the plan of one pass to the file at `path`.
pub(super) fn plan(
    mut config: Config,
    path: &Path,
    verbosity: Verbosity,
) -> Result<ExitCode, Refusal> {
    warn_of_unused(
        &config,
        &["pressure", "keep_free"],
        "a plan has no entries that are removed before they expire, because they depend on how full \
         the disk is at that moment; `sweeper run --dry-run` shows them",
    );
    warn_of_unused(
        &config,
        &["max_removals", "max_bytes", "max_share"],
        "a plan may have more entries than that, because it removes none; `sweeper apply` honors \
         max_removals and max_bytes",
    );
    config.dry_run = true;
    config.guards = GuardSettings::default();
    let refused = |why: String| Refusal::Plan { path: path.to_owned(), why };
    let failed =
        |error: std::io::Error| refused(format!("it cannot be written: {}", units::error(&error)));
    refuse_stdout(path, "the report").map_err(refused)?;
    let logs = [("audit_log", &config.audit_log), ("metrics_file", &config.metrics_file)];
    refuse_same(("--output", path), &logs).map_err(refused)?;
    let root = open_root(&config, &config.zones)?;
    if let Some(zone) = zone_around(path, &config, &root).map_err(failed)? {
        let why = format!("it would be in a directory of zone {zone:?}: write it somewhere else");
        return Err(refused(why));
    }
    let new = NewFile::at(path, "a plan", BEGINNING).map_err(refused)?;
    let created = units::rfc3339(clock::now());
    let shown = root.path().to_string_lossy().into_owned();
    let header = Header::new(created, clock::seed(), shown, root.id(), deciding(&config));
    let (line, seed) = header.line().map_err(failed)?;
    let writer = new.writer().and_then(|file| PlanWriter::new(file, &line, seed));
    let writer = writer.map_err(failed)?;
    let Ended { code, is_stopped } = run_by_plan("plan", &config, verbosity, Some(&writer), None)?;
    if is_stopped {
        tracing::error!("the plan {path:?} is not written: the pass was stopped before its end");
        return Ok(code);
    }
    match writer.finish().and_then(|()| new.put()) {
        Ok(()) => {
            tracing::info!(target: WRITTEN, "the plan is in {path:?}");
            Ok(code)
        }
        Err(error) => {
            tracing::error!("the plan {path:?} is not written: {}", units::error(&error));
            Ok(code.max(ExitCode::SomeFailed))
        }
    }
}

/// The settings that decide what is removed.
pub(super) fn deciding(config: &Config) -> BTreeMap<String, String> {
    let decides = |key: &str| DECIDING.contains(&key) || Setting::find(key).is_none();
    let rows = config.settings.iter().filter(|row| decides(&row.key));
    rows.map(|row| (row.key.clone(), row.value.clone())).collect()
}
