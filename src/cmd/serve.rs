//! `sweeper serve`: the service, connected to signals, clocks, systemd and HTTP.
//!
//! It must not decide when to run, which is [`crate::service`]'s part, nor sweep: that is [`super::pass`].

use std::cell::RefCell;
use std::io::{self, BufWriter};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};

use super::pass::{
    PassRequest, exclusive_if_running, locks, open_audit_log, open_root, sharing, sweep,
    takes_exclusive_lock,
};
use super::{Refusal, settings};
use crate::config::{Config, IfRunning, RawSettings, ServiceConfig, Verbosity};
use crate::fs::DataRoot;
use crate::lock::exclusive::ExclusiveLock;
use crate::os::{clock, signals};
use crate::protocol::ExitCode;
use crate::rules::{Zone, ZoneName};
use crate::service::health::Health;
use crate::service::metrics::Metrics;
use crate::service::notify::Notify;
use crate::service::scheduler::{Reading, Schedule, Scheduler};
use crate::service::{self, Call, PassEnd, Service, http};

/// Runs passes on a schedule until it is told to stop.
pub(super) fn serve(raw: &RawSettings, verbosity: Verbosity) -> Result<ExitCode, Refusal> {
    let config = settings(raw)?;
    let options = config.service.clone()?;
    let schedule = options.schedule()?;
    let stop = Arc::<AtomicBool>::default();
    signals::end_on_signals(&stop).map_err(Refusal::Start)?;
    let hangup = Arc::<AtomicBool>::default();
    signals::note_hangups(&hangup).map_err(Refusal::Start)?;
    let calls = calls()?;
    let root = open_root(&config, &config.zones)?;
    open_audit_log(&config, &root, &hangup)?;
    locks(&config, root.path())?;
    let seed = clock::seed();
    let begin = || Scheduler::new(schedule.clone(), seed, reading(), options.first);
    let health = Arc::new(Health::new(&begin()));
    let names: Vec<ZoneName> = config.zones.iter().map(|zone| zone.name.clone()).collect();
    let metrics = Arc::new(Metrics::new(&names).map_err(Refusal::Start)?);
    listen(&options, &metrics, &health, &root)?;
    let notify = notify(&options, &health);
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
    let passes = Passes { verbosity, stop, hangup, metrics, swept: RefCell::default() };
    let pass = |zones: &[ZoneName]| {
        passes.run(&config.borrow(), zones).unwrap_or_else(|refusal| {
            tracing::error!("the pass did not start: {refusal}");
            PassEnd::not_started(zones, &refusal.to_string(), clock::now())
        })
    };
    let reload = || {
        let (new, schedule) = reload(raw, &options, &root).map_err(|error| error.to_string())?;
        config.replace(new);
        Ok(schedule)
    };
    let code = Service { scheduler, calls: &calls, health: &health, notify: &notify }
        .run(reading, pass, reload);
    drop(exclusive);
    Ok(code)
}

/// Makes the passes of a service.
struct Passes {
    verbosity: Verbosity,
    stop: Arc<AtomicBool>,
    hangup: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
    /// The zones that this service has swept, or has refused to sweep once because of a guard.
    swept: RefCell<Vec<ZoneName>>,
}

impl Passes {
    /// One pass over the zones that are due.
    fn run(&self, config: &Config, due: &[ZoneName]) -> Result<PassEnd, Refusal> {
        let zones: Vec<Arc<Zone>> =
            config.zones.iter().filter(|zone| due.contains(&zone.name)).cloned().collect();
        let mut swept = self.swept.borrow_mut();
        let first: Vec<ZoneName> =
            due.iter().filter(|zone| !swept.contains(zone)).cloned().collect();
        let request = PassRequest {
            command: "run",
            config,
            zones: &zones,
            first: &first,
            plan: None,
            planned: None,
            verbosity: self.verbosity,
            signal: Arc::clone(&self.stop),
            hangup: Arc::clone(&self.hangup),
            if_running: config.if_running.unwrap_or(IfRunning::Wait),
        };
        let result = sweep(&request, BufWriter::new(io::stdout()))?;
        swept.extend(first);
        result.count(&self.metrics);
        Ok(PassEnd::new(&result.summary, result.code, result.at))
    }
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
    locks(&new, found.path())?;
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
    let Some(address) = options.listen else { return Ok(()) };
    let (metrics, health) = (Arc::clone(metrics), Arc::clone(health));
    let path = root.path().to_owned();
    let pages = move |page: &str| service::page(page, &metrics, &health, &path, clock::now());
    let address = http::listen(address, pages).map_err(Refusal::Start)?;
    service::log(&format!("listening on http://{address}/metrics and http://{address}/healthz"));
    Ok(())
}

/// The connection to systemd.
fn notify(options: &ServiceConfig, health: &Arc<Health>) -> Notify {
    let connect = || Notify::connect(options.notify_socket.as_deref());
    let notify = connect().unwrap_or_else(|error| {
        tracing::warn!("NOTIFY_SOCKET cannot be used, so systemd is not notified: {error}");
        Notify::default()
    });
    if let (Some(limit), Ok(watchdog)) = (options.watchdog, connect()) {
        let health = Arc::clone(health);
        watchdog.feed_watchdog(limit, move || health.is_alive());
    }
    notify
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

/// Both clocks of a service.
fn reading() -> Reading {
    Reading { wall: clock::now(), steady: clock::steady() }
}

/// What signals ask of the service. The flag that stops a pass is set beside this.
fn calls() -> Result<Receiver<Call>, Refusal> {
    let (call, calls) = mpsc::channel();
    let pass_on = move |signal| {
        // No one listens once the service has ended.
        let _ = call.send(match signal {
            signals::Signal::Hangup => Call::Reload,
            signals::Signal::Terminate => Call::Stop,
        });
    };
    signals::listen(pass_on).map_err(Refusal::Start)?;
    Ok(calls)
}
