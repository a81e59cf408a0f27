//! `sweeper serve`: the service, connected to signals, clocks, systemd and HTTP.
//!
//! It must not decide when to run, which is [`crate::service`]'s part, nor sweep: that is [`super::pass`].

mod overview;

use std::cell::RefCell;
use std::io::{self, BufWriter};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use super::pass::turns::{WhenHeld, sharing, takes_exclusive_lock};
use super::pass::{PassRequest, PassResult, locks, open_audit_log, open_root, sweep};
use super::{Refusal, settings};
use crate::config::{Config, IfRunning, RawSettings, ServiceConfig, Verbosity};
use crate::fs::{DataRoot, Space};
use crate::lock::exclusive::{ExclusiveLock, Sharing};
use crate::os::{clock, signals};
use crate::protocol::{ExitCode, StopReason, Summary, ZoneSummary};
use crate::rules::{Zone, ZoneName};
use crate::service::health::Health;
use crate::service::http::{self, Site};
use crate::service::metrics::Metrics;
use crate::service::notify::Notify;
use crate::service::scheduler::{Reading, Schedule, Scheduler};
use crate::service::{self, Call, PassEnd, Service};
use crate::units;
use overview::Overview;

/// How long a service that stands by waits before it tries again.
const STANDBY_INTERVAL: Duration = Duration::from_millis(100);

/// Runs passes on a schedule until it is told to stop.
pub(super) fn serve(raw: &RawSettings, verbosity: Verbosity) -> Result<ExitCode, Refusal> {
    let config = Arc::new(settings(raw)?);
    let options = config.service.clone()?;
    let schedule = options.schedule()?;
    let stop = Arc::<AtomicBool>::default();
    signals::end_on_signals(&stop).map_err(Refusal::Start)?;
    let hangup = Arc::<AtomicBool>::default();
    signals::note_hangups(&hangup).map_err(Refusal::Start)?;
    let calls = calls()?;
    let root = open_root(&config, &config.zones)?;
    open_audit_log(&config, &root, &hangup)?;
    locks(&config, root.path(), Vec::new())?;
    let seed = clock::seed();
    let begin = || Scheduler::new(schedule.clone(), seed, reading(), options.first);
    let health = Arc::new(Health::new(&begin()));
    let names: Vec<ZoneName> = config.zones.iter().map(|zone| zone.name.clone()).collect();
    let metrics = Arc::new(Metrics::new(&names).map_err(Refusal::Start)?);
    let overview = listen(&options, &config, &metrics, &health, &root)?;
    let notify = notify(&options, &health)?;
    let exclusive = match exclusive(&config, &root, &notify, &health, &stop) {
        Ok(Some(exclusive)) => exclusive,
        Ok(None) => {
            notify.stopping();
            service::log("stopped while standing by: this service made no pass");
            return Ok(ExitCode::Done);
        }
        Err(holder) => {
            tracing::error!("{holder} already serves {:?}", root.path());
            return Ok(ExitCode::NoLock);
        }
    };
    // The wait for another service may have been long.
    let scheduler = begin();
    health.on_schedule(&scheduler);
    let config = RefCell::new(config);
    let shown = overview.clone();
    let passes = Passes { verbosity, stop, hangup, metrics, overview, swept: RefCell::default() };
    let pass = |zones: &[ZoneName]| passes.run(&config.borrow(), zones);
    let reload = || {
        let (new, schedule) = reload(raw, &options, &root).map_err(|error| error.to_string())?;
        let new = Arc::new(new);
        if let Some(shown) = &shown {
            shown.on_settings(&new);
        }
        config.replace(new);
        Ok(schedule)
    };
    let (health, notify, waiting) = (&*health, &notify, Vec::new());
    let service = Service { scheduler, calls: &calls, health, notify, waiting };
    let code = service.run(reading, pass, reload);
    drop(exclusive);
    Ok(code)
}

/// Makes the passes of a service.
struct Passes {
    verbosity: Verbosity,
    stop: Arc<AtomicBool>,
    hangup: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
    /// The page, if there is one.
    overview: Option<Arc<Overview>>,
    /// The zones that this service has swept, or has refused to sweep once because of a guard.
    swept: RefCell<Vec<ZoneName>>,
}

impl Passes {
    /// One pass over the zones that are due, which is counted and remembered.
    fn run(&self, config: &Config, due: &[ZoneName]) -> PassEnd {
        let pass = || self.sweep(config, due);
        let overview = self.overview.as_deref();
        match overview.map_or_else(pass, |overview| overview.during(pass)) {
            Ok(result) => {
                result.count(&self.metrics);
                if let Some(overview) = overview {
                    overview.on_pass(&result);
                }
                PassEnd::new(&result.summary, result.code, result.at, result.postponed)
            }
            Err(refusal) => {
                tracing::error!("the pass did not start: {refusal}");
                if let Some(overview) = overview {
                    overview.on_no_pass(due, &refusal.to_string());
                }
                PassEnd::not_started(due, &refusal.to_string(), clock::now())
            }
        }
    }

    fn sweep(&self, config: &Config, due: &[ZoneName]) -> Result<PassResult, Refusal> {
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
            when_held: match config.if_running.unwrap_or(IfRunning::Wait) {
                // The service goes on with its other zones meanwhile.
                IfRunning::Wait => WhenHeld::Postpone,
                other @ (IfRunning::Exit | IfRunning::Share) => other.into(),
            },
        };
        let result = sweep(&request, BufWriter::new(io::stdout()))?;
        swept.extend(first.into_iter().filter(|zone| had_pass(zone, &result.summary)));
        Ok(result)
    }
}

/// Whether a zone has had its pass. One that is locked, or was cut short, is still to have it.
fn had_pass(name: &ZoneName, summary: &Summary) -> bool {
    let is_cut_short = matches!(
        summary.stopped,
        Some(StopReason::Signal | StopReason::Deadline | StopReason::AuditLog)
    );
    let is_swept = |zone: &ZoneSummary| zone.zone == *name && zone.no_lock.is_none();
    !is_cut_short && summary.zones.iter().any(is_swept)
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

/// Serves the pages, if there is an address for them.
fn listen(
    options: &ServiceConfig,
    config: &Arc<Config>,
    metrics: &Arc<Metrics>,
    health: &Arc<Health>,
    root: &DataRoot,
) -> Result<Option<Arc<Overview>>, Refusal> {
    let Some(address) = options.listen else { return Ok(None) };
    let overview = Arc::new(Overview::start(config).map_err(Refusal::Start)?);
    let shown = Arc::clone(&overview);
    let (metrics, health) = (Arc::clone(metrics), Arc::clone(health));
    let (measured, path) = (Arc::clone(&metrics), root.path().to_owned());
    let measure = move || {
        if let Ok(space) = Space::of(&path) {
            measured.set_space(&space);
        }
    };
    let page = move |path: &str| match path {
        "/" => Some(shown.page(&health)),
        path => service::page(path, &metrics, &health, clock::now()),
    };
    let site = Site { measure, measured: service::MEASURED, page };
    let address = http::listen(address, site).map_err(Refusal::Start)?;
    service::log(&format!(
        "listening on http://{address}/, http://{address}/metrics and http://{address}/healthz"
    ));
    Ok(Some(overview))
}

/// The connection to systemd.
fn notify(options: &ServiceConfig, health: &Arc<Health>) -> Result<Notify, Refusal> {
    let connect = || Notify::connect(options.notify_socket.as_deref());
    let notify = connect().unwrap_or_else(|error| {
        let error = units::error(&error);
        tracing::warn!("NOTIFY_SOCKET cannot be used, so systemd is not notified: {error}");
        Notify::default()
    });
    if let (Some(limit), Ok(watchdog)) = (options.watchdog, connect()) {
        let health = Arc::clone(health);
        watchdog.feed_watchdog(limit, move || health.is_alive()).map_err(Refusal::Start)?;
    }
    Ok(notify)
}

/// The lock of the one service of a data root. Another one stands by until it ends, or exits, as its settings
/// say. `None`: it was stopped while it stood by.
///
/// # Errors
/// Who holds the lock.
fn exclusive(
    config: &Config,
    root: &DataRoot,
    notify: &Notify,
    health: &Health,
    stop: &AtomicBool,
) -> Result<Option<ExclusiveLock>, String> {
    if !takes_exclusive_lock(config) {
        return Ok(Some(ExclusiveLock::none()));
    }
    let if_running = config.if_running.unwrap_or(IfRunning::Wait);
    let sharing = match if_running {
        IfRunning::Share => Sharing::WithAll,
        IfRunning::Exit | IfRunning::Wait => sharing(config),
    };
    let take = || match root.reopen() {
        Ok(handle) => ExclusiveLock::of_service(handle, sharing),
        Err(_) => Ok(ExclusiveLock::none()),
    };
    match take() {
        Err(holder) if if_running == IfRunning::Wait => {
            notify.ready(&standing_by(&holder));
            Ok(health.while_waiting(|| stand_by(holder, take, root, notify, health, stop)))
        }
        taken => taken.map(Some),
    }
}

/// Tries to take the lock until it is free, or until the service is stopped.
fn stand_by(
    mut holder: String,
    take: impl Fn() -> Result<ExclusiveLock, String>,
    root: &DataRoot,
    notify: &Notify,
    health: &Health,
    stop: &AtomicBool,
) -> Option<ExclusiveLock> {
    let tell = |holder: &str| {
        health.on_wait_for_all(clock::now(), &standing_by(holder));
        tracing::warn!("{holder} already serves {:?}: waiting for it", root.path());
    };
    tell(&holder);
    loop {
        match take() {
            Ok(lock) => return Some(lock),
            Err(_) if stop.load(Ordering::Relaxed) => return None,
            Err(other) if other != holder => {
                notify.status(&standing_by(&other));
                tell(&other);
                holder = other;
            }
            Err(_) => {}
        }
        std::thread::sleep(STANDBY_INTERVAL);
    }
}

fn standing_by(holder: &str) -> String {
    format!("standing by: {holder} serves this data root")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Tally;

    #[test]
    fn a_zone_that_is_locked_or_was_cut_short_is_still_to_have_its_first_pass() {
        let zone = |no_lock: Option<&str>| ZoneSummary {
            zone: ZoneName::new("tmp"),
            path: "/data/tmp".into(),
            tally: Tally::default(),
            notes: Vec::new(),
            no_lock: no_lock.map(str::to_owned),
        };
        let had = |name: &str, zones: Vec<ZoneSummary>, stopped: Option<StopReason>| {
            had_pass(&ZoneName::new(name), &Summary { zones, stopped })
        };
        assert!(had("tmp", vec![zone(None)], None));
        assert!(had("tmp", vec![zone(None)], Some(StopReason::MaxShare)), "it was said");
        assert!(!had("tmp", vec![zone(Some("locked"))], None));
        assert!(!had("export", vec![zone(None)], None), "it was postponed");
        for stopped in [StopReason::Signal, StopReason::Deadline, StopReason::AuditLog] {
            assert!(!had("tmp", vec![zone(None)], Some(stopped)), "{stopped:?}");
        }
    }
}
