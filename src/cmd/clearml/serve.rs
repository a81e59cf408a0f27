//! `sweeper clearml run` and `sweeper clearml serve`: one cleanup, or one after the other.
//!
//! It must not clean up itself: that is [`super::pass`].

use std::cell::RefCell;
use std::io::{self, BufWriter};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::connect::{stop_flag, tools};
use super::orphans;
pub(in crate::cmd) use super::pass::task_zone;
use super::pass::{Cleanup, CleanupRequest, cleanup, say};
use crate::clearml::ledger::{FILES, ORPHANS};
use crate::cmd::run_metrics::RunMetrics;
use crate::cmd::runtime::{calls, notify, reading, show};
use crate::cmd::{Refusal, settings};
use crate::config::{ClearmlConfig, Config, RawSettings, ServiceConfig, Verbosity};
use crate::os::clock;
use crate::protocol::{ExitCode, Observer, Outcome, Summary, Tally};
use crate::rules::{Moment, ZoneName};
use crate::service::health::Health;
use crate::service::metrics::Metrics;
use crate::service::schedule::Rule;
use crate::service::scheduler::{First, Schedule, Scheduler};
use crate::service::{PassEnd, Service};

/// The zones of a cleanup.
pub(in crate::cmd) fn zones(options: &ClearmlConfig) -> Vec<ZoneName> {
    let orphans = options.orphans.then(|| ZoneName::new(ORPHANS));
    [task_zone(), ZoneName::new(FILES)].into_iter().chain(orphans).collect()
}

/// One cleanup.
pub(super) fn once(
    config: &Config,
    options: &ClearmlConfig,
    verbosity: Verbosity,
) -> Result<ExitCode, Refusal> {
    let stop = stop_flag()?;
    let metrics = RunMetrics::of(config, &stop)?;
    let result = one(config, options, verbosity, &stop)?;
    metrics.add(&zones(options), result.code, |metrics| count(&result, metrics))
}

/// One cleanup, and the folders without a task after it if that is asked for.
pub(in crate::cmd) fn one(
    config: &Config,
    options: &ClearmlConfig,
    verbosity: Verbosity,
    stop: &Arc<AtomicBool>,
) -> Result<Cleanup, Refusal> {
    let (command, is_retry) = ("clearml run", false);
    if options.compat_output {
        say("Starting cleanup");
    }
    let request = CleanupRequest { command, config, options, verbosity, stop, is_retry };
    let mut result = cleanup(&request, BufWriter::new(io::stdout()))?;
    if options.orphans && !stop.load(Ordering::Relaxed) && result.code < ExitCode::Stopped {
        let tools = tools(options, stop)?;
        let (zone, stopped) = orphans::sweep(config, options, &tools, stop, &Silent)?;
        let summary = Summary { zones: vec![zone], stopped, relief: Vec::new() };
        result.code = result.code.max(ExitCode::of(&summary));
        result.summary.stopped = result.summary.stopped.or(stopped);
        let zone = &summary.zones[0];
        tracing::info!(
            "{}: removed {} of {} folders, {} failed",
            zone.zone,
            zone.tally.removed,
            zone.tally.reported(),
            zone.tally.failed
        );
        result.summary.zones.extend(summary.zones);
    }
    Ok(result)
}

/// Counts a cleanup.
pub(in crate::cmd) fn count(result: &Cleanup, metrics: &Metrics) {
    let durations = [(task_zone(), result.duration)];
    metrics.count(result.mode, &result.summary, &durations, result.at);
}

/// Cleans up on a schedule until told to stop.
pub(super) fn serve(raw: &RawSettings, verbosity: Verbosity) -> Result<ExitCode, Refusal> {
    let config = settings(raw)?;
    let options = config.clearml.clone()?;
    let service = config.service.clone()?;
    let stop = stop_flag()?;
    let calls = calls(&stop)?;
    // What is missing is told before the first cleanup.
    drop(tools(&options, &stop)?);
    let start = clock::now();
    let schedule = schedule(&options, start)?;
    let scheduler = Scheduler::new(schedule, clock::seed(), reading(), First::AtStart);
    let health = Arc::new(Health::new(&scheduler));
    let metrics = Arc::new(Metrics::new(&zones(&options)).map_err(Refusal::Start)?);
    show(&service, &metrics, &health, None, || {})?;
    let notify = notify(&service, &health)?;
    if options.compat_output {
        say("Cleanup service started");
    }
    let current = RefCell::new((config, options));
    let pass = |_: &[ZoneName]| {
        let (config, options) = &*current.borrow();
        let end = end_of(one(config, options, verbosity, &stop), options, &metrics);
        if options.compat_output && !end.is_stopped {
            say(&format!("going to sleep for {:?} days", options.period.as_secs_f64() / 86_400.0));
        }
        end
    };
    let reload = || {
        let new = settings(&raw.read_again()).map_err(|error| error.to_string())?;
        let options = new.clearml.clone().map_err(|error| error.to_string())?;
        let schedule = self::schedule(&options, start).map_err(|error| error.to_string())?;
        current.replace((new, options));
        Ok(schedule)
    };
    let (health, notify, waiting) = (&*health, &notify, Vec::new());
    let (time, pressed) = (ServiceConfig::log_time(raw), &|_| Vec::new());
    let service = Service { scheduler, time, calls: &calls, health, notify, waiting, pressed };
    Ok(service.run(reading, pass, reload))
}

/// The end of a cleanup, for the service.
pub(in crate::cmd) fn end_of(
    result: Result<Cleanup, Refusal>,
    options: &ClearmlConfig,
    metrics: &Metrics,
) -> PassEnd {
    match result {
        Ok(result) => {
            count(&result, metrics);
            PassEnd::new(&result.summary, result.code, result.at, Vec::new())
        }
        Err(refusal) => {
            tracing::error!("the cleanup did not start: {refusal}");
            PassEnd::not_started(&zones(options), &refusal.to_string(), clock::now())
        }
    }
}

/// A cleanup each period from `start` on.
pub(in crate::cmd) fn schedule(
    options: &ClearmlConfig,
    start: Moment,
) -> Result<Schedule, Refusal> {
    let rule = Rule::every_from(options.period, start).map_err(Refusal::Start)?;
    let jitter = std::time::Duration::ZERO;
    Ok(Schedule { zones: vec![(task_zone(), rule)], jitter })
}

/// Is told, and says nothing: the counts are logged.
struct Silent;

impl Observer for Silent {
    fn on_zone(&self, _zone: &ZoneName) {}
    fn on_outcome(&self, _outcome: &Outcome<'_>) {}
    fn on_progress(&self, _root: &crate::protocol::Directory, _names: u64, _counts: &Tally) {}
}
