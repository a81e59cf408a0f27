//! `sweeper serve`: the service, connected to signals, clocks, systemd and HTTP.
//!
//! This module must not decide when to run, which is [`crate::service`]'s part, nor sweep: that is [`super::pass`].

mod overview;
mod pressure;
mod waits;

use std::cell::RefCell;
use std::io::{self, BufWriter};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use super::clearml::serve;
use super::pass::turns::{WhenHeld, takes_exclusive_lock};
use super::pass::{PassRequest, locks, make_room, open_audit_log, open_root, sweep};
use super::runtime::{Front, calls, notify, reading, show};
use super::{Refusal, exclusions, settings, unused};
use crate::config::settings::Use;
use crate::config::{ClearmlConfig, Config, IfRunning, RawSettings, ServiceConfig, Verbosity};
use crate::fs::{DataRoot, Space};
use crate::lock::exclusive::ExclusiveLock;
use crate::os::{clock, signals};
use crate::protocol::{ExitCode, RunMode, StopReason, Summary, ZoneSummary};
use crate::rules::{Moment, Zone, ZoneName};
use crate::service::health::Health;
use crate::service::metrics::Metrics;
use crate::service::scheduler::{Reading, Schedule, Scheduler};
use crate::service::{PassEnd, Service, log};
use overview::Overview;
use pressure::Pressed;
use waits::{Waits, try_lock, try_root};

/// Runs passes on a schedule until it is told to stop.
pub(super) fn serve(raw: &RawSettings, verbosity: Verbosity) -> Result<ExitCode, Refusal> {
    let config = Arc::new(settings(raw)?);
    unused::warn(&config, Use::Serve);
    unused::warn_of_useless(&config);
    exclusions::check(&config, "run", &config.zones)?;
    config.pressure.clone()?;
    let options = config.service.clone()?;
    let clearml = clearml_of(&config)?;
    let start = clock::now();
    let schedule = schedule_of(&config, start)?;
    make_room(&config);
    let stop = Arc::<AtomicBool>::default();
    signals::end_on_signals(&stop, || {}).map_err(Refusal::Start)?;
    let hangup = Arc::<AtomicBool>::default();
    signals::note_hangups(&hangup).map_err(Refusal::Start)?;
    let calls = calls(&stop)?;
    let seed = clock::seed();
    let begin = || Scheduler::new(schedule.clone(), seed, reading(), options.first);
    let health = Arc::new(Health::new(&begin()));
    let names = config.zones.iter().map(|zone| zone.name.clone());
    let names: Vec<ZoneName> = names.chain(clearml.iter().flat_map(serve::zones)).collect();
    let metrics = Arc::new(Metrics::new(&names).map_err(Refusal::Start)?);
    let first = try_root(&config)?;
    let path = Arc::<OnceLock<PathBuf>>::default();
    let overview = listen(&options, &config, &metrics, &health, &path)?;
    let notify = notify(&options, &health)?;
    let waits = Waits { config: &config, notify: &notify, health: &health, stop: &stop };
    let (root, exclusive) = match get_ready(&waits, first, &path, &hangup)? {
        Ok(ready) => ready,
        Err(code) => return Ok(code),
    };
    // The waits may have been long.
    let scheduler = begin();
    health.on_schedule(&scheduler);
    let (config, exclusive) = (RefCell::new(config), RefCell::new(exclusive));
    let (swept, pressed, postponed) = <(RefCell<_>, Pressed, RefCell<_>)>::default();
    let root = &root;
    let passes =
        Passes { verbosity, stop, hangup, metrics, overview, swept, pressed, postponed, root };
    let pass = |due: &[ZoneName]| passes.quietly(&config.borrow(), due);
    let pressed = |now: Reading| passes.pressed.zones(&config.borrow(), root, now.steady);
    let reload = || {
        let new = reload(raw, &options, root, &passes.hangup).map_err(|error| error.to_string())?;
        let schedule = schedule_of(&new, start).map_err(|error| error.to_string())?;
        adapt_lock(&config.borrow(), &new, root, &exclusive)?;
        let new = Arc::new(new);
        if let Some(overview) = &passes.overview {
            overview.on_settings(&new);
        }
        config.replace(new);
        passes.pressed.on_settings();
        Ok(schedule)
    };
    let (health, notify, waiting) = (&*health, &notify, Vec::new());
    let pressed = &pressed;
    let time = ServiceConfig::log_time(raw);
    let service = Service { scheduler, time, calls: &calls, health, notify, waiting, pressed };
    let code = service.run(reading, pass, reload);
    drop(exclusive);
    Ok(code)
}

/// The data root, whose path it writes down, and its lock; or the exit code of a service that makes no pass.
fn get_ready(
    waits: &Waits<'_>,
    first: Result<DataRoot, String>,
    path: &OnceLock<PathBuf>,
    hangup: &Arc<AtomicBool>,
) -> Result<Result<(DataRoot, ExclusiveLock), ExitCode>, Refusal> {
    let stopped = |while_doing: &str| {
        waits.notify.stopping();
        log(&format!("stopped while {while_doing}: this service made no pass"));
        Ok(Err(ExitCode::Done))
    };
    let Some(root) = waits.for_root(first)? else {
        return stopped("waiting for the data root");
    };
    let _ = path.set(root.path().to_owned());
    open_audit_log(waits.config, &root, hangup)?;
    locks(waits.config, &waits.config.zones, root.path(), Vec::new())?;
    match waits.for_others(&root) {
        Ok(Some(exclusive)) => Ok(Ok((root, exclusive))),
        Ok(None) => stopped("standing by"),
        Err(holder) => {
            tracing::error!("{holder} already serves {:?}", root.path());
            Ok(Err(ExitCode::NoLock))
        }
    }
}

/// Makes the passes of a service.
struct Passes<'a> {
    verbosity: Verbosity,
    stop: Arc<AtomicBool>,
    hangup: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
    /// The page, if there is one.
    overview: Option<Arc<Overview>>,
    /// The zones that this service has swept, or has refused to sweep once because of a guard.
    swept: RefCell<Vec<ZoneName>>,
    /// Whether a file system is too full.
    pressed: Pressed,
    /// The zones that were locked in the last pass.
    postponed: RefCell<Vec<ZoneName>>,
    root: &'a DataRoot,
}

impl Passes<'_> {
    /// The passes that are due; nothing is measured meanwhile.
    fn quietly(&self, config: &Config, due: &[ZoneName]) -> PassEnd {
        let both = || self.both(config, due);
        self.overview.as_ref().map_or_else(both, |overview| overview.during(both))
    }

    /// A pass over the zones that are due, and then the cleanup of ClearML, if that is due.
    fn both(&self, config: &Config, due: &[ZoneName]) -> PassEnd {
        let (cleanup, zones): (Vec<ZoneName>, Vec<ZoneName>) =
            due.iter().cloned().partition(|zone| *zone == serve::task_zone());
        let sweep = || {
            self.run(config, &zones).unwrap_or_else(|refusal| {
                tracing::error!("the pass did not start: {refusal}");
                if let Some(overview) = &self.overview {
                    overview.on_no_pass(&zones, &refusal.to_string());
                }
                PassEnd::not_started(&zones, &refusal.to_string(), clock::now())
            })
        };
        let swept = (!zones.is_empty()).then(sweep);
        let is_stopped = swept.as_ref().is_some_and(|end| end.is_stopped);
        let clearml = config.clearml.as_ref().ok().filter(|_| !cleanup.is_empty() && !is_stopped);
        let cleaned = clearml.map(|options| {
            let result = serve::one(config, options, self.verbosity, (&self.stop, &self.hangup));
            if let Some(overview) = &self.overview {
                match &result {
                    Ok(done) => {
                        let took = [(serve::task_zone(), done.duration)];
                        overview.on_pass(&done.summary, &took, done.at);
                    }
                    Err(refusal) => overview.on_no_pass(&cleanup, &refusal.to_string()),
                }
            }
            serve::end_of(result, &self.metrics)
        });
        match (swept, cleaned) {
            (Some(swept), Some(cleaned)) => swept.and(cleaned),
            (swept, cleaned) => swept
                .or(cleaned)
                .unwrap_or_else(|| PassEnd::not_started(&[], "nothing is due", clock::now())),
        }
    }

    /// One pass over the zones that are due.
    fn run(&self, config: &Config, due: &[ZoneName]) -> Result<PassEnd, Refusal> {
        // If a file system is too full now, the zones that relieve it are swept too. Zones that were locked are tried again
        // every second, so these passes keep to the pause.
        let mut due = due.to_vec();
        let is_retry = due.iter().all(|zone| self.postponed.borrow().contains(zone));
        due.extend(if is_retry {
            self.pressed.zones(config, self.root, clock::steady())
        } else {
            pressure::zones(config, self.root)
        });
        let relieves = pressure::can_relieve(config, &due);
        let zones: Vec<Arc<Zone>> =
            config.zones.iter().filter(|zone| due.contains(&zone.name)).cloned().collect();
        let mut swept = self.swept.borrow_mut();
        let first: Vec<ZoneName> = zones
            .iter()
            .map(|zone| zone.name.clone())
            .filter(|zone| !swept.contains(zone))
            .collect();
        let request = PassRequest {
            command: "run",
            config,
            zones: &zones,
            first: &first,
            relieves,
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
        if result.mode == RunMode::Real {
            swept.extend(first.into_iter().filter(|zone| had_pass(zone, &result.summary)));
        }
        result.count(&self.metrics);
        self.postponed.replace(result.postponed.iter().map(|(zone, _)| zone.clone()).collect());
        if relieves {
            self.pressed.on_pass(&result.summary, result.mode, clock::steady());
        }
        if let Some(overview) = &self.overview {
            overview.on_pass(&result.summary, &result.durations, result.at);
        }
        Ok(PassEnd::new(&result.summary, result.code, result.at, result.postponed))
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

/// When to sweep which zone, and when to clean up in ClearML.
fn schedule_of(config: &Config, start: Moment) -> Result<Schedule, Refusal> {
    let mut schedule = config.service.clone()?.schedule()?;
    if let Some(clearml) = clearml_of(config)? {
        schedule.zones.extend(serve::schedule(&clearml, start)?.zones);
    }
    Ok(schedule)
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
    hangup: &Arc<AtomicBool>,
) -> Result<Config, Refusal> {
    let new = settings(&raw.read_again())?;
    let new_options = new.service.clone()?;
    let found = open_root(&new, &new.zones)?;
    locks(&new, &new.zones, found.path(), Vec::new())?;
    new.pressure.clone()?;
    exclusions::check(&new, "run", &new.zones)?;
    if found.path() != root.path() || new_options.listen != options.listen {
        let why = "data and listen only change when the service is restarted";
        return Err(Refusal::Start(why.to_owned()));
    }
    open_audit_log(&new, root, hangup)?;
    Ok(new)
}

/// Takes the lock that a service does not need as long as it makes dry runs, or releases it.
///
/// # Errors
/// Another service has it.
fn adapt_lock(
    old: &Config,
    new: &Config,
    root: &DataRoot,
    exclusive: &RefCell<ExclusiveLock>,
) -> Result<(), String> {
    if !takes_exclusive_lock(new) {
        exclusive.replace(ExclusiveLock::none());
    } else if !takes_exclusive_lock(old) {
        let serves = |holder| format!("{holder} already serves {:?}", root.path());
        exclusive.replace(try_lock(new, root).map_err(serves)?);
    }
    Ok(())
}

/// Serves the pages, if there is an address for them.
fn listen(
    options: &ServiceConfig,
    config: &Arc<Config>,
    metrics: &Arc<Metrics>,
    health: &Arc<Health>,
    root: &Arc<OnceLock<PathBuf>>,
) -> Result<Option<Arc<Overview>>, Refusal> {
    let overview = options.listen.map(|_| Overview::start(config));
    let overview = overview.transpose().map_err(Refusal::Start)?.map(Arc::new);
    let front = overview
        .clone()
        .map(|overview| -> Front { Box::new(move |health: &Health| overview.page(health)) });
    let (measured, root) = (Arc::clone(metrics), Arc::clone(root));
    let measure = move || {
        if let Some(Ok(space)) = root.get().map(|path| Space::of(path)) {
            measured.set_space(&space);
        }
    };
    show(options, metrics, health, front, measure)?;
    Ok(overview)
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
            had_pass(&ZoneName::new(name), &Summary { zones, stopped, relief: Vec::new() })
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
