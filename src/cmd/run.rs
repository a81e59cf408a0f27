//! `sweeper run` and `sweeper legacy`: one pass.
//!
//! It must not sweep itself: that is [`super::pass`].

use std::io::{self, BufWriter};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::Refusal;
use super::pass::{PassRequest, PlanWriter, Planned, sweep};
use crate::config::{Config, IfRunning, Verbosity};
use crate::os::signals;
use crate::protocol::ExitCode;
use crate::rules::ZoneName;
use crate::service::metrics::Metrics;

/// One pass over the zones of `command`.
pub(super) fn run(
    command: &'static str,
    config: &Config,
    verbosity: Verbosity,
) -> Result<ExitCode, Refusal> {
    run_by_plan(command, config, verbosity, None, None)
}

/// The same, which writes a plan or follows one.
pub(super) fn run_by_plan(
    command: &'static str,
    config: &Config,
    verbosity: Verbosity,
    plan: Option<&PlanWriter>,
    planned: Option<&Planned>,
) -> Result<ExitCode, Refusal> {
    let legacy;
    let zones = if command == "legacy" {
        let zone = config.legacy.clone().ok_or_else(|| {
            Refusal::Start("with profile none there are no old export caches".to_owned())
        })?;
        legacy = [zone];
        &legacy[..]
    } else {
        &config.zones
    };
    let signal = Arc::<AtomicBool>::default();
    signals::end_on_signals(&signal).map_err(Refusal::Start)?;
    let if_running = config.if_running.unwrap_or(IfRunning::Exit);
    let hangup = Arc::<AtomicBool>::default();
    if config.audit_log.is_some() {
        signals::note_hangups(&hangup).map_err(Refusal::Start)?;
    }
    let first = &[];
    let request = PassRequest {
        command,
        config,
        zones,
        first,
        plan,
        planned,
        verbosity,
        signal,
        hangup,
        if_running,
    };
    let result = sweep(&request, BufWriter::new(io::stdout()))?;
    let Some(path) = &config.metrics_file else { return Ok(result.code) };
    if config.dry_run {
        tracing::warn!("a dry run removes nothing that could be counted: {path:?} is not changed");
        return Ok(result.code);
    }
    let names: Vec<ZoneName> = zones.iter().map(|zone| zone.name.clone()).collect();
    let metrics = Metrics::new(&names).map_err(Refusal::Start)?;
    result.count(&metrics);
    match metrics.write(path) {
        Ok(()) => Ok(result.code),
        Err(error) => {
            tracing::error!("cannot write the metrics to {path:?}: {error}");
            Ok(result.code.max(ExitCode::SomeFailed))
        }
    }
}
