//! `sweeper serve`: the service, connected to signals, clocks, systemd and HTTP.
//!
//! It must not decide when to run, which is [`crate::service`]'s part, nor sweep: that is [`super::pass`].

use std::cell::RefCell;
use std::io::{self, BufWriter};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::around::{calls, notify, reading, show};
use super::clearml::serve;
use super::pass::{
    PassRequest, exclusive_if_running, locks, open_root, sharing, sweep, takes_exclusive_lock,
};
use super::{Refusal, settings};
use crate::config::{ClearmlConfig, Config, IfRunning, RawSettings, ServiceConfig, Verbosity};
use crate::fs::{DataRoot, Space};
use crate::lock::exclusive::ExclusiveLock;
use crate::os::{clock, signals};
use crate::protocol::ExitCode;
use crate::rules::{Zone, ZoneName};
use crate::service::health::Health;
use crate::service::metrics::Metrics;
use crate::service::notify::Notify;
use crate::service::scheduler::{Schedule, Scheduler};
use crate::service::{PassEnd, Service};

/// Runs passes on a schedule until it is told to stop.
pub(super) fn serve(raw: &RawSettings, verbosity: Verbosity) -> Result<ExitCode, Refusal> {
    let config = settings(raw)?;
    let options = config.service.clone()?;
    let mut schedule = options.schedule()?;
    let clearml = clearml_of(&config)?;
    let start = clock::now();
    if let Some(clearml) = &clearml {
        schedule.zones.extend(serve::schedule(clearml, start)?.zones);
    }
    let stop = Arc::<AtomicBool>::default();
    signals::end_on_signals(&stop).map_err(Refusal::Start)?;
    let calls = calls()?;
    let root = open_root(&config, &config.zones)?;
    locks(&config, root.path(), Vec::new())?;
    let seed = clock::seed();
    let begin = || Scheduler::new(schedule.clone(), seed, reading(), options.first);
    let health = Arc::new(Health::new(&begin()));
    let names = config.zones.iter().map(|zone| zone.name.clone());
    let names: Vec<ZoneName> = names.chain(clearml.iter().flat_map(serve::zones)).collect();
    let metrics = Arc::new(Metrics::new(&names).map_err(Refusal::Start)?);
    listen(&options, &metrics, &health, &root)?;
    let notify = notify(&options, &health)?;
    let exclusive = match exclusive(&config, &root, &notify, &health, &stop) {
        Ok(exclusive) => exclusive,
        Err(holder) => {
            tracing::error!("{holder} already serves {:?}", root.path());
            return Ok(ExitCode::NoLock);
        }
    };
    // The wait for another service may have been long.
    let scheduler = begin();
    health.on_schedule(&scheduler);
    let config = RefCell::new(config);
    let pass = |due: &[ZoneName]| both(&config.borrow(), due, verbosity, &stop, &metrics);
    let reload = || {
        let (new, mut schedule) =
            reload(raw, &options, &root).map_err(|error| error.to_string())?;
        if let Some(clearml) = clearml_of(&new).map_err(|error| error.to_string())? {
            let cleanup = serve::schedule(&clearml, start).map_err(|error| error.to_string())?;
            schedule.zones.extend(cleanup.zones);
        }
        config.replace(new);
        Ok(schedule)
    };
    let code = Service { scheduler, calls: &calls, health: &health, notify: &notify }
        .run(reading, pass, reload);
    drop(exclusive);
    Ok(code)
}

/// A pass over the zones that are due, and then the cleanup of ClearML, if that is due.
fn both(
    config: &Config,
    due: &[ZoneName],
    verbosity: Verbosity,
    stop: &Arc<AtomicBool>,
    metrics: &Metrics,
) -> PassEnd {
    let (cleanup, zones): (Vec<ZoneName>, Vec<ZoneName>) =
        due.iter().cloned().partition(|zone| *zone == serve::task_zone());
    let sweep = || {
        one_pass(config, &zones, verbosity, stop, metrics).unwrap_or_else(|refusal| {
            tracing::error!("the pass did not start: {refusal}");
            PassEnd::not_started(&zones, &refusal.to_string(), clock::now())
        })
    };
    let swept = (!zones.is_empty()).then(sweep);
    let is_stopped = swept.as_ref().is_some_and(|end| end.is_stopped);
    let clearml = config.clearml.as_ref().ok().filter(|_| !cleanup.is_empty() && !is_stopped);
    let cleaned = clearml.map(|options| {
        let result = serve::one(config, options, verbosity, stop);
        serve::end_of(result, options, metrics)
    });
    match (swept, cleaned) {
        (Some(swept), Some(cleaned)) => swept.and(cleaned),
        (swept, cleaned) => swept
            .or(cleaned)
            .unwrap_or_else(|| PassEnd::not_started(&[], "nothing is due", clock::now())),
    }
}

/// The settings of ClearML's cleanup, if the settings file has a table for it.
fn clearml_of(config: &Config) -> Result<Option<ClearmlConfig>, Refusal> {
    match &config.clearml {
        Ok(clearml) if clearml.is_in_file => Ok(Some(clearml.clone())),
        Ok(_) => Ok(None),
        Err(error) => Err(error.clone().into()),
    }
}

/// One pass over the zones that are due.
fn one_pass(
    config: &Config,
    due: &[ZoneName],
    verbosity: Verbosity,
    stop: &Arc<AtomicBool>,
    metrics: &Metrics,
) -> Result<PassEnd, Refusal> {
    let zones: Vec<Arc<Zone>> =
        config.zones.iter().filter(|zone| due.contains(&zone.name)).cloned().collect();
    let request = PassRequest {
        command: "run",
        config,
        zones: &zones,
        verbosity,
        signal: Arc::clone(stop),
        if_running: config.if_running.unwrap_or(IfRunning::Wait),
    };
    let result = sweep(&request, BufWriter::new(io::stdout()))?;
    result.count(metrics);
    Ok(PassEnd::new(&result.summary, result.code, result.at))
}

/// The settings as they are now, if the service can go on with them.
fn reload(
    raw: &RawSettings,
    options: &ServiceConfig,
    root: &DataRoot,
) -> Result<(Config, Schedule), Refusal> {
    let new = settings(&raw.read_again())?;
    let new_options = new.service.clone()?;
    let found = open_root(&new, &new.zones)?;
    locks(&new, found.path(), Vec::new())?;
    if found.path() != root.path() || new_options.listen != options.listen {
        let why = "data and listen only change when the service is restarted";
        return Err(Refusal::Start(why.to_owned()));
    }
    Ok((new, new_options.schedule()?))
}

fn listen(
    options: &ServiceConfig,
    metrics: &Arc<Metrics>,
    health: &Arc<Health>,
    root: &DataRoot,
) -> Result<(), Refusal> {
    let (measured, path) = (Arc::clone(metrics), root.path().to_owned());
    show(options, metrics, health, move || {
        if let Ok(space) = Space::of(&path) {
            measured.set_space(&space);
        }
    })
}

/// The lock of the one service of a data root. Another one waits until it ends, or exits, as its settings say.
fn exclusive(
    config: &Config,
    root: &DataRoot,
    notify: &Notify,
    health: &Health,
    stop: &AtomicBool,
) -> Result<ExclusiveLock, String> {
    if !takes_exclusive_lock(config) {
        return Ok(ExclusiveLock::none());
    }
    let if_running = config.if_running.unwrap_or(IfRunning::Wait);
    let is_stopped = || stop.load(Ordering::Relaxed);
    let take = |if_running| match root.reopen() {
        Ok(handle) => {
            let if_running = exclusive_if_running(if_running);
            ExclusiveLock::of_service(root.path(), handle, sharing(config), if_running, &is_stopped)
        }
        Err(_) => Ok(ExclusiveLock::none()),
    };
    match take(IfRunning::Exit) {
        Err(holder) if if_running == IfRunning::Wait => {
            notify.ready(&format!("waiting: {holder} serves this data root"));
            health.while_waiting(|| take(if_running))
        }
        Err(_) if if_running == IfRunning::Share => Ok(ExclusiveLock::none()),
        taken => taken,
    }
}
