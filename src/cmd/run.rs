//! `sweeper run` and `sweeper legacy`: one pass.
//!
//! This module must not sweep itself: that is [`super::pass`].

use std::io::{self, BufWriter};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::pass::{PassRequest, PlanWriter, Planned, make_room, on_hangup, sweep};
use super::run_metrics::RunMetrics;
use super::{Refusal, exclusions, unused};
use crate::config::{Config, IfRunning, Verbosity};
use crate::fs::lease;
use crate::os::signals;
use crate::protocol::ExitCode;
use crate::rules::{LockKind, Zone, ZoneName};

/// One pass over the zones of `command`.
pub(super) fn run(
    command: &'static str,
    config: &Config,
    verbosity: Verbosity,
) -> Result<ExitCode, Refusal> {
    Ok(run_by_plan(command, config, verbosity, None, None)?.code)
}

/// How a pass ended.
pub(super) struct Ended {
    pub(super) code: ExitCode,
    /// It was stopped before its end.
    pub(super) is_stopped: bool,
}

/// The same, which writes a plan or follows one.
pub(super) fn run_by_plan(
    command: &'static str,
    config: &Config,
    verbosity: Verbosity,
    plan: Option<&PlanWriter>,
    planned: Option<&Planned>,
) -> Result<Ended, Refusal> {
    let legacy;
    let zones = if command == "legacy" {
        let zone = config.legacy.clone().ok_or_else(|| {
            let why = "with profile none there are no old export caches: leave --profile none out";
            Refusal::Start(why.to_owned())
        })?;
        legacy = [zone];
        &legacy[..]
    } else {
        &config.zones
    };
    exclusions::check(config, command, zones)?;
    if command != "legacy" {
        unused::warn_of_useless(config);
    }
    let is_of_redis = |zone: &Arc<Zone>| zone.lock == LockKind::Application;
    if config.locks.is_application_required() && !zones.iter().any(is_of_redis) {
        tracing::warn!(
            "lock = redis has no effect here: none of these zones has a lock in Redis; flock is taken"
        );
    }
    make_room(config);
    let signal = Arc::<AtomicBool>::default();
    signals::end_on_signals(&signal, lease::forget_descriptors).map_err(Refusal::Start)?;
    let when_held = config.if_running.unwrap_or(IfRunning::Exit).into();
    let hangup = on_hangup(config, &signal)?;
    let first = &[];
    let stop = Arc::clone(&signal);
    let request = PassRequest {
        command,
        config,
        zones,
        first,
        relieves: command == "run",
        plan,
        planned,
        verbosity,
        signal,
        hangup,
        when_held,
    };
    let metrics = RunMetrics::of_pass(config, zones, &stop)?;
    let result = sweep(&request, BufWriter::new(io::stdout()))?;
    let names: Vec<ZoneName> = zones.iter().map(|zone| zone.name.clone()).collect();
    let code = metrics.add(&names, result.code, |metrics| result.count(metrics))?;
    Ok(Ended { code, is_stopped: result.summary.stopped.is_some() })
}
