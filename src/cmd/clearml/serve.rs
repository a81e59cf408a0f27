//! `sweeper clearml run` and `sweeper clearml serve`: one cleanup, or one after the other.
//!
//! This module must not clean up itself: that is [`super::pass`].

use std::cell::RefCell;
use std::io::{self, BufWriter};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::connect::{flags, service_flag, tools};
pub(in crate::cmd) use super::pass::task_zone;
use super::pass::{Cleanup, CleanupRequest, cleanup, say};
use crate::clearml::ledger::{FILES, ORPHANS};
use crate::cmd::run_metrics::RunMetrics;
use crate::cmd::runtime::{calls, notify, reading, show};
use crate::cmd::{Refusal, settings};
use crate::config::{ClearmlConfig, Config, RawSettings, ServiceConfig, Verbosity};
use crate::os::clock;
use crate::protocol::ExitCode;
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
    let (stop, is_rotated) = flags(config)?;
    let metrics = RunMetrics::of(config, &stop)?;
    let result = one(config, options, verbosity, (&stop, &is_rotated))?;
    metrics.add(&zones(options), result.code, |metrics| count(&result, metrics))
}

/// One cleanup, with its report. The first flag ends it, and the second says that the audit log was rotated.
pub(in crate::cmd) fn one(
    config: &Config,
    options: &ClearmlConfig,
    verbosity: Verbosity,
    (stop, is_rotated): (&Arc<AtomicBool>, &Arc<AtomicBool>),
) -> Result<Cleanup, Refusal> {
    let (command, is_retry) = ("clearml run", false);
    if options.compat_output {
        say("Starting cleanup");
    }
    let request =
        CleanupRequest { command, config, options, verbosity, stop, is_rotated, is_retry };
    cleanup(&request, BufWriter::new(io::stdout()))
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
    let stop = service_flag()?;
    let calls = calls(&stop)?;
    // What is missing is told before the first cleanup.
    drop(tools(&config, &options, &stop)?);
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
        let end = end_of(one(config, options, verbosity, (&stop, &Arc::default())), &metrics);
        if options.compat_output && !end.is_stopped {
            say(&format!("going to sleep for {:?} days", options.period.as_secs_f64() / 86_400.0));
        }
        end
    };
    let reload = || {
        let new = settings(&raw.read_again()).map_err(|error| error.to_string())?;
        let options = new.clearml.clone().map_err(|error| error.to_string())?;
        let new_service = new.service.clone().map_err(|error| error.to_string())?;
        if new_service.listen != service.listen {
            return Err("listen only changes when the service is restarted".to_owned());
        }
        let schedule = self::schedule(&options, start).map_err(|error| error.to_string())?;
        current.replace((new, options));
        Ok(schedule)
    };
    let (health, notify, waiting) = (&*health, &notify, Vec::new());
    let (time, pressed) = (ServiceConfig::log_time(raw), &|_| Vec::new());
    let service = Service { scheduler, time, calls: &calls, health, notify, waiting, pressed };
    Ok(service.run(reading, pass, reload))
}

/// The end of a cleanup, for the service. Only the zone of tasks is scheduled, so it has the problems of all zones.
pub(in crate::cmd) fn end_of(result: Result<Cleanup, Refusal>, metrics: &Metrics) -> PassEnd {
    let zone = task_zone();
    match result {
        Ok(result) => {
            count(&result, metrics);
            let mut end = PassEnd::new(&result.summary, result.code, result.at, Vec::new());
            let mut problems: Vec<String> = Vec::new();
            for (of, problem) in end.zones.drain(..) {
                let Some(problem) = problem.filter(|it| !problems.contains(it)) else { continue };
                let is_own = of == zone || result.summary.stopped.is_some();
                problems.push(if is_own { problem } else { format!("{of}: {problem}") });
            }
            end.zones.push((zone, (!problems.is_empty()).then(|| problems.join("; "))));
            end
        }
        Err(refusal) => {
            tracing::error!("the cleanup did not start: {refusal}");
            PassEnd::not_started(&[zone], &refusal.to_string(), clock::now())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clearml::ledger::TASKS;
    use crate::protocol::{RunMode, StopReason, Summary, Tally, ZoneSummary};

    #[test]
    fn the_zone_that_is_scheduled_has_the_problems_of_all_zones() {
        let metrics = Metrics::new(&[]).unwrap();
        let problem = |failed: [u64; 2], stopped| {
            let zone = |(name, failed)| ZoneSummary {
                zone: ZoneName::new(name),
                path: "/".into(),
                tally: Tally { failed, ..Tally::default() },
                notes: Vec::new(),
                no_lock: None,
            };
            let zones = [TASKS, FILES].into_iter().zip(failed).map(zone).collect();
            let result = Cleanup {
                mode: RunMode::Real,
                code: ExitCode::Done,
                summary: Summary { zones, stopped, relief: Vec::new() },
                duration: std::time::Duration::ZERO,
                at: Moment::from_unix(0, 0),
            };
            let zones = end_of(Ok(result), &metrics).zones;
            let [(zone, problem)] = zones.as_slice() else { panic!("{zones:?}") };
            assert_eq!(*zone, task_zone());
            problem.clone()
        };
        assert_eq!(problem([0, 0], None), None);
        assert_eq!(problem([0, 3], None).unwrap(), "clearml-files: 3 entries failed");
        assert_eq!(
            problem([1, 3], None).unwrap(),
            "1 entry failed; clearml-files: 3 entries failed"
        );
        let stopped = problem([0, 0], Some(StopReason::Deadline)).unwrap();
        assert_eq!(stopped, "the pass was stopped before its end: deadline");
    }
}
