//! One pass, or its dry run, as the settings say.
//!
//! This module must not know who asked for it: `run`, `legacy` and `serve` all call [`sweep`]. The only choice between
//! removing and a dry run is made here, and `execute` makes either. [`turns`] decides which zones are swept when.

pub mod turns;
mod unmatched;
mod watchdog;

mod audited;
mod execute;
mod guarded;
mod lists;
mod locks;
mod mounted;
mod output;
mod planned;
mod relief;
mod request;
mod sum;

use std::io::{self, Write};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::Refusal;
pub(super) use super::data_root::open_root;
use crate::cmd::canvas::canvas;
use crate::config::{Config, InUse};
use crate::engine::{Limits, Live, Outcomes, Remembering, Workers};
use crate::fs::Space;
use crate::fs::lease;
use crate::lock::exclusive::ExclusiveLock;
use crate::os::{clock, priority};
use crate::protocol::{ExitCode, Journal, Notes, Observer, RunInfo, RunMode, Summary, ZoneSummary};
use crate::rules::{Moment, Zone, ZoneName};
use crate::service::metrics::{Metrics, Timed};
use crate::source::PathList;
use crate::units;
pub(super) use audited::{on_hangup, open as open_audit_log, refuse_in_zone, zone_around};
pub(super) use execute::probe;
use execute::{Parts, Work};
use lists::Lists;
pub(super) use locks::{application_locks, locks};
pub(super) use mounted::{is_pressed, quotas};
pub(super) use output::{detail, progress_style};
pub use planned::{PlanWriter, Planned};
use relief::{Swept, Way};
pub use request::PassRequest;
use sum::Sum;
use turns::{Turn, Turns};
use watchdog::{Watchdog, Watched};

/// What a pass did.
#[derive(Debug)]
pub struct PassResult {
    /// Whether removals were real.
    pub mode: RunMode,
    /// The exit code.
    pub code: ExitCode,
    /// The counts.
    pub summary: Summary,
    /// How long each zone took.
    pub durations: Vec<(ZoneName, Duration)>,
    /// When the pass ended.
    pub at: Moment,
    /// How full the file system is, if that is known.
    pub space: Option<Space>,
    /// Zones that were postponed, each with the reason.
    pub postponed: Vec<(ZoneName, String)>,
}

impl PassResult {
    /// Nothing could be swept.
    fn postponed(mode: RunMode, postponed: Vec<(ZoneName, String)>) -> Self {
        let Sum { summary, durations } = Sum::default();
        let (code, at) = (ExitCode::Done, clock::now());
        Self { mode, code, summary, durations, at, space: None, postponed }
    }

    /// Adds the pass to the metrics.
    pub fn count(&self, metrics: &Metrics) {
        metrics.count(self.mode, &self.summary, &self.durations, self.at);
        if let Some(space) = &self.space {
            metrics.set_space(space);
        }
    }
}

/// Makes room for the descriptors of passes. To be called before the first thread is started: later, this would wait.
pub(super) fn make_room(config: &Config) {
    if config.jobs > 1 && config.in_use == InUse::Skip {
        lease::make_room(io::stderr());
    }
}

/// Runs one pass and writes its report to `out`. If all zones are postponed, there is none.
///
/// # Errors
/// Why it cannot start.
pub fn sweep(request: &PassRequest<'_>, out: impl Write + Send) -> Result<PassResult, Refusal> {
    let PassRequest { config, zones, .. } = *request;
    let pressure = if request.relieves { config.pressure.clone()? } else { None };
    let limits = limits(config, Arc::clone(&request.signal));
    let mode = if config.dry_run { RunMode::DryRun } else { RunMode::Real };
    let watchdog = Watchdog::start(watched(request, mode), limits.urgent_flags());
    let root = open_root(config, zones)?;
    let _ = watchdog.pass().data_root.set(root.path().to_owned());
    let audit_log = audited::open(config, &root, &request.hangup)?;
    let start = Instant::now();
    let has_list = config.from0.is_some() || request.planned.is_some();
    let mut turns = Turns::new(config, &root, zones, request.when_held, has_list);
    let Some(first) = turns.next(&|| limits.is_stopped()) else {
        return Ok(PassResult::postponed(mode, turns.into_postponed()));
    };
    let locks = locks(config, zones, root.path(), limits.urgent_flags().into())?;
    let now = now(config);
    let workers = workers(config);
    let (command, shard) = (request.command, config.shard);
    let info = RunInfo { command, mode, now, data_root: root.path(), shard };
    let refused = request.planned.and_then(Planned::note);
    let least = refused.as_ref().map_or(ExitCode::Done, |_| ExitCode::SomeFailed);
    let report = output::report(info, config, request.verbosity, out).at_least(least);
    let (notes, exclude) = (Notes::default(), config.exclude.watched());
    turns.foresee(zones, &notes);
    let (workers, exclude, live) = (&workers, &exclude, &watchdog.pass().live);
    let mut parts =
        Parts { request, root: &root, locks, notes: &notes, workers, exclude, live, now, pressure };
    let journal = audit_log.as_ref().map(|log| log as &dyn Journal);
    let taken = parts.take_turns(first, &mut turns, &limits, journal, &report)?;
    // No lock is held while the report is printed.
    drop(parts);
    let Sum { durations, mut summary } = taken.in_order_of(zones);
    if unmatched::is_complete(request, &summary) {
        unmatched::note(exclude, request, &mut summary);
    }
    if let (Some(note), Some(zone)) = (refused, summary.zones.first_mut()) {
        zone.notes.push(note);
    }
    let space = Space::of(root.path()).ok();
    watchdog.pass().on_end(report.code_of(&summary));
    let code = report.finish(&summary, start.elapsed()).max(code_of_counts(&summary));
    let at = clock::now();
    let postponed = turns.into_postponed();
    Ok(PassResult { mode, code, summary, durations, at, space, postponed })
}

/// The report of a pass that does not end by itself.
fn watched(request: &PassRequest<'_>, mode: RunMode) -> Watched {
    let PassRequest { command, config, zones, .. } = *request;
    Watched {
        command,
        mode,
        shard: config.shard,
        format: config.format,
        canvas: canvas(config.color),
        zones: zones.to_vec(),
        data_root: OnceLock::new(),
        live: Live::default(),
        ended: OnceLock::new(),
    }
}

/// Says if an entry has no outcome or two. The report is printed before that.
fn code_of_counts(summary: &Summary) -> ExitCode {
    let Some(zone) = summary.not_conserved() else { return ExitCode::Done };
    let ZoneSummary { zone, tally, .. } = zone;
    tracing::error!(
        "zone {zone}: the counts do not add up, which is a fault of sweeper: report it with this line: {tally:?}"
    );
    debug_assert!(false, "zone {zone}: {tally:?}");
    ExitCode::SomeFailed
}

/// The moment to judge at.
fn now(config: &Config) -> Moment {
    config.now.unwrap_or_else(clock::now)
}

impl Parts<'_> {
    /// Sweeps the zones of each turn, unless a guard stops the pass before the first.
    fn take_turns(
        &mut self,
        first: Turn,
        turns: &mut Turns<'_>,
        limits: &Limits,
        journal: Option<&dyn Journal>,
        observer: &impl Observer,
    ) -> Result<Sum, Refusal> {
        let PassRequest { config, zones, planned, first: new, .. } = *self.request;
        let names: Vec<ZoneName> = zones.iter().map(|zone| zone.name.clone()).collect();
        let guards = guarded::guards(config.guards, &names, new);
        let mut lists = Lists { config, root: self.root, zones, planned, limits, copy: None };
        let mut sum = Sum::default();
        self.locks.exclusive = first.lock;
        if !config.dry_run && !guards.is_empty() {
            let counted = self.counted(&first.zones, turns.waiting(), limits, lists.first()?);
            if let Some(stopped) = guarded::stopped_by(&guards, counted, limits) {
                sum.add(stopped, Vec::new());
                return Ok(sum);
            }
        }
        let (mut turn, mut swept) = (Some(first.zones), Swept::new());
        let outcomes = Outcomes::new(config.dry_run);
        let observer = &self.remembering(&outcomes, observer);
        while let Some(zones) = turn {
            let (timed, list) = (Timed::new(observer), lists.last()?);
            let summary = if config.dry_run {
                self.dry_run(Work::Sweep(&zones), limits, list, &timed)
            } else {
                self.remove(Work::Sweep(&zones), limits, list, journal, &timed)
            };
            sum.add(summary, timed.durations());
            swept.extend(zones.iter().map(|zone| (zone.name.clone(), self.now)));
            // While another zone is waited for, other sweepers may work here.
            self.locks.exclusive = ExclusiveLock::none();
            turn = turns.next(&|| limits.is_stopped()).map(|Turn { zones, lock }| {
                self.locks.exclusive = lock;
                zones
            });
            // What was used during the wait must count as used.
            self.now = now(config);
        }
        let way = if config.dry_run { Way::DryRun } else { Way::Remove(journal) };
        sum.summary = self.relieve(way, limits, &swept, sum.take_summary(), (&outcomes, observer));
        if config.dry_run {
            guarded::foretell(&guards, &mut sum.summary);
        } else {
            guarded::explain(&mut sum.summary);
        }
        Ok(sum)
    }

    /// Remembers what a relief must know, if one may follow.
    fn remembering<'o, O>(&self, outcomes: &'o Outcomes, observer: &'o O) -> Remembering<'o, O> {
        Remembering { outcomes: self.pressure.is_some().then_some(outcomes), observer }
    }

    /// What a pass would remove now from the zones of its first turn and from those that wait, and early.
    fn counted(
        &mut self,
        first: &[Arc<Zone>],
        waiting: &[Arc<Zone>],
        limits: &Limits,
        list: Option<PathList>,
    ) -> Summary {
        let outcomes = Outcomes::new(true);
        let observer = &self.remembering(&outcomes, &());
        let mut counted = self.count(Work::Sweep(first), limits, list, observer);
        // Zones that wait are counted as well, without their lock: the guards are those of the whole pass.
        let lock = std::mem::replace(&mut self.locks.exclusive, ExclusiveLock::none());
        let later = self.count(Work::Sweep(waiting), limits, None, observer);
        counted.zones.extend(later.zones);
        counted.stopped = counted.stopped.or(later.stopped);
        let zones = self.request.zones.iter();
        let swept = zones.map(|zone| (zone.name.clone(), self.now)).collect();
        counted = self.relieve(Way::Count, limits, &swept, counted, (&outcomes, observer));
        self.locks.exclusive = lock;
        counted
    }
}

pub(super) fn limits(config: &Config, signal: Arc<AtomicBool>) -> Limits {
    // A dry run removes nothing, so nothing in it has to wait.
    let rate = config.max_rate.filter(|_| !config.dry_run);
    let limits = Limits::new(signal, rate);
    if let Some(deadline) = config.deadline {
        limits.set_deadline(deadline);
    }
    limits
}

/// The threads of a pass, at low priority if that is asked for.
pub(super) fn workers(config: &Config) -> Workers {
    if config.nice
        && let Err(refused) = priority::lower()
    {
        tracing::warn!("--nice: the system refused {}", units::without_numbers(&refused));
    }
    Workers::several(config.jobs, |refused| {
        tracing::warn!("the system refused {refused}; fewer workers do all the work");
    })
}
