//! One pass, or its dry run, as the settings say.
//!
//! It must not know who asked for it: `run`, `legacy` and `serve` all call [`sweep`]. The only choice between
//! removing and a dry run is made here. [`turns`] decides which zones are swept when.

pub mod turns;

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::Refusal;
pub(super) use super::data_root::open_root;
use super::data_root::place_of;
use super::path_list::path_list;
use crate::config::{self, ApplicationLock, Config, InUse, ProgressWhen, Verbosity};
use crate::dispose::{DryRun, Unlink};
use crate::engine::{Limits, Pass, PassControl, Workers};
use crate::fs::lease::{self, InUseProbe};
use crate::fs::{DataRoot, Space};
use crate::inspect::FileInspector;
use crate::lock::exclusive::ExclusiveLock;
use crate::lock::redis::{ExporterLocks, Prefix, Timing};
use crate::lock::{self, Backend};
use crate::os::{clock, priority};
use crate::protocol::{
    Disposer, ExitCode, Inspector, MemberLeases, Notes, Observer, RunInfo, RunMode, Source, Summary,
};
use crate::report::progress::{Progress, Style};
use crate::report::{Detail, Report};
use crate::rules::select::All;
use crate::rules::{Exclude, Moment, Zone, ZoneName};
use crate::service::metrics::{Metrics, Timed};
use crate::source::DirectorySource;
use crate::units;
use turns::{Turn, Turns, WhenHeld};

/// What to sweep, and how to report it.
pub struct PassRequest<'a> {
    /// The command, for the report.
    pub command: &'static str,
    /// The settings.
    pub config: &'a Config,
    /// The zones.
    pub zones: &'a [Arc<Zone>],
    /// How much to say.
    pub verbosity: Verbosity,
    /// Set by a signal.
    pub signal: Arc<AtomicBool>,
    /// What to do with a zone that another sweeper has locked.
    pub when_held: WhenHeld,
}

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

/// Runs one pass and writes its report to `out`. If all zones are postponed, there is none.
///
/// # Errors
/// Why it cannot start.
pub fn sweep(request: &PassRequest<'_>, out: impl Write + Send) -> Result<PassResult, Refusal> {
    let PassRequest { command, config, zones, verbosity, .. } = *request;
    let root = open_root(config, zones)?;
    let mode = if config.dry_run { RunMode::DryRun } else { RunMode::Real };
    let mut turns = Turns::new(config, &root, zones, request.when_held);
    let limits = limits(config, Arc::clone(&request.signal))?;
    let is_stopped = || limits.is_stopped();
    let Some(first) = turns.next(&is_stopped) else {
        return Ok(PassResult::postponed(mode, turns.into_postponed()));
    };
    if config.jobs > 1 && config.in_use == InUse::Skip {
        lease::make_room(root.handle());
    }
    let locks = locks(config, root.path(), limits.urgent_flags())?;
    let (start, now) = (Instant::now(), now(config));
    let workers = workers(config);
    let info = RunInfo { command, mode, now, data_root: root.path(), shard: config.shard };
    let progress = Progress::new(progress_style(config, command, verbosity), mode);
    let report = Report::new(info, config.format, detail(verbosity), progress, out);
    let (notes, control) = (Notes::default(), PassControl { limits: &limits, workers: &workers });
    let probe = probe(config.in_use);
    let source = DirectorySource {
        root: &root,
        control: &control,
        notes: &notes,
        shard: config.shard,
        paths: path_list(config, &root, zones, &limits)?,
    };
    let inspector = FileInspector::new(&control, &notes, probe);
    let exclude = &config.exclude.watched();
    let mut parts = Parts { request, root: &root, locks, notes: &notes, control, exclude, now };
    let mut sum = Sum::default();
    let mut turn = Some(first);
    while let Some(Turn { zones, lock }) = turn {
        parts.locks.exclusive = lock;
        let timed = Timed::new(&report);
        let summary = match mode {
            RunMode::Real => {
                let unlink = Unlink::new(&control, &notes, probe).with_clock(clock::now);
                parts.run(&zones, &source, &inspector, &unlink, &timed)
            }
            RunMode::DryRun => {
                parts.run(&zones, &source, &inspector, &DryRun::new(&control), &timed)
            }
        };
        sum.add(summary, timed.durations());
        // While another zone is waited for, other sweepers may work here.
        parts.locks.exclusive = ExclusiveLock::none();
        turn = turns.next(&is_stopped);
        // What was used during the wait must count as used.
        parts.now = self::now(config);
    }
    // No lock is held while the report is printed.
    drop(parts);
    let Sum { durations, mut summary } = sum.in_order_of(zones);
    if is_complete(request, &summary) {
        note_unmatched(exclude, zones, &mut summary);
    }
    let code = report.finish(&summary, start.elapsed());
    let (at, space) = (clock::now(), Space::of(root.path()).ok());
    let postponed = turns.into_postponed();
    Ok(PassResult { mode, code, summary, durations, at, space, postponed })
}

/// The moment to judge at.
fn now(config: &Config) -> Moment {
    config.now.unwrap_or_else(clock::now)
}

/// What the turns of a pass did.
struct Sum {
    summary: Summary,
    durations: Vec<(ZoneName, Duration)>,
}

impl Default for Sum {
    fn default() -> Self {
        let summary = Summary { zones: Vec::new(), stopped: None };
        Self { summary, durations: Vec::new() }
    }
}

impl Sum {
    fn add(&mut self, turn: Summary, durations: Vec<(ZoneName, Duration)>) {
        self.summary.zones.extend(turn.zones);
        self.summary.stopped = turn.stopped;
        self.durations.extend(durations);
    }

    /// Zones that had to wait are reported in their place.
    fn in_order_of(mut self, zones: &[Arc<Zone>]) -> Self {
        let place = |name: &ZoneName| zones.iter().position(|zone| zone.name == *name);
        self.summary.zones.sort_by_key(|zone| place(&zone.zone));
        self
    }
}

/// All that a pass needs besides three of its seams.
struct Parts<'a> {
    request: &'a PassRequest<'a>,
    root: &'a DataRoot,
    locks: Backend,
    notes: &'a Notes,
    control: PassControl<'a>,
    exclude: &'a Exclude,
    now: Moment,
}

impl Parts<'_> {
    fn run(
        &self,
        zones: &[Arc<Zone>],
        source: &impl Source,
        inspector: &impl Inspector,
        disposer: &impl Disposer,
        observer: &impl Observer,
    ) -> Summary {
        let config = self.request.config;
        MemberLeases::set_limit(member_leases(config));
        let pass = Pass {
            source,
            locks: &self.locks,
            inspector,
            disposer,
            select: &All,
            exclude: self.exclude,
            data_root: self.root.path(),
            notes: self.notes,
            now: self.now,
            limits: self.control.limits,
            workers: self.control.workers,
            // A dry run tries each lock once: a wait would take time, and tell nothing.
            lock_wait: if config.dry_run { Duration::ZERO } else { config.lock_wait },
        };
        let mut summary = pass.run(zones, observer);
        for zone in &mut summary.zones {
            if let Some(place) = place_of(config, &zone.zone) {
                place.clone_into(&mut zone.path);
            }
        }
        summary
    }
}

/// Whether every entry of all zones was looked at.
fn is_complete(request: &PassRequest<'_>, summary: &Summary) -> bool {
    let Config { zones, shard, from0, .. } = request.config;
    let is_part = shard.is_some() || from0.is_some() || summary.stopped.is_some();
    let all = request.command == "run" && summary.zones.len() == zones.len();
    all && !is_part && summary.zones.iter().all(|zone| zone.no_lock.is_none())
}

/// Notes each glob of `--exclude` that has matched nothing, in the first zone whose entries it could match.
fn note_unmatched(exclude: &Exclude, zones: &[Arc<Zone>], summary: &mut Summary) {
    for glob in exclude.unmatched() {
        let can_match =
            |zone: &Arc<Zone>| Exclude::new(&[glob.to_owned()], &[&zone.location]).is_ok();
        let Some(at) = zones.iter().position(can_match) else { continue };
        let is_root = |zone: &&Arc<Zone>| {
            zone.location
                .roots
                .iter()
                .any(|root| root.as_path() == Path::new(glob.trim_matches('/')))
        };
        let hint = zones.iter().find(is_root).map(|zone| {
            format!(
                ": it is compared with the names in {glob}; --zones without {} leaves it alone",
                zone.name
            )
        });
        let note = format!("--exclude {glob:?} matched no entry{}", hint.unwrap_or_default());
        summary.zones[at].notes.push(note);
    }
}

/// How many leases on the files of trees may be held at once. A removal that waits for its rate holds none:
/// another process that opens such a file would have to wait too.
fn member_leases(config: &Config) -> usize {
    if config.max_rate.is_some() { 0 } else { lease::affordable(config.jobs) }
}

pub(super) fn limits(config: &Config, signal: Arc<AtomicBool>) -> Result<Limits, Refusal> {
    // A dry run removes nothing, so nothing in it has to wait.
    let rate = config.max_rate.filter(|_| !config.dry_run);
    let limits = Limits::new(signal, config.max_removals.unwrap_or(u64::MAX), rate);
    if let Some(deadline) = config.deadline {
        limits.set_deadline(deadline).map_err(Refusal::Start)?;
    }
    Ok(limits)
}

/// The locks of a pass over the data root at `path`. When one of the flags `stop` is raised, no lock server is
/// waited for any more.
///
/// # Errors
/// The application's lock is required, and it is not known how the application sees the data root.
pub(super) fn locks(
    config: &Config,
    path: &Path,
    stop: Vec<Arc<AtomicBool>>,
) -> Result<Backend, Refusal> {
    let application = config.locks.application.as_ref();
    let application = application.map(|lock| application_locks(lock, path, stop)).transpose()?;
    let files = match config.locks.files {
        config::FileLocks::Flock => lock::FileLocks::Flock,
        config::FileLocks::Unlocked => lock::FileLocks::Unlocked,
    };
    Ok(Backend { files, application, exclusive: ExclusiveLock::none() })
}

/// The locks of the application. Their keys are made from the path as the application sees it. A wrong one
/// locks nothing without an error, so a guess is warned about, and is refused when these locks are required.
pub(super) fn application_locks(
    lock: &ApplicationLock,
    data_root: &Path,
    stop: Vec<Arc<AtomicBool>>,
) -> Result<ExporterLocks, Refusal> {
    let prefix = match &lock.data_root {
        Some(root) => Prefix::given(root),
        None => Prefix::guessed(data_root, &lock.own_roots),
    };
    if prefix.is_guess() {
        let doubt = format!(
            "the keys of CVAT's locks contain the path as CVAT sees it, and {} does not look like that: \
             name CVAT's path of this data root with --cvat-data (usually /home/django/data)",
            prefix.shown()
        );
        if lock.is_required {
            return Err(Refusal::Start(doubt));
        }
        tracing::warn!("{doubt}");
    }
    let timing = Timing { steady: clock::steady, stop };
    Ok(ExporterLocks::new(lock.server.clone(), prefix, lock.ttl, clock::now(), timing))
}

/// The threads of a pass, at low priority if that is asked for.
pub(super) fn workers(config: &Config) -> Workers {
    if config.nice
        && let Err(refused) = priority::lower()
    {
        tracing::warn!("--nice: the system refused {}", units::without_numbers(&refused));
    }
    Workers::start(config.jobs).unwrap_or_else(|refused| {
        // Old container engines refuse threads that are started by a system call they do not know.
        let refused = units::without_numbers(&refused);
        tracing::warn!("the system refused {refused}; one worker does all the work");
        Workers::one()
    })
}

pub(super) const fn probe(in_use: InUse) -> InUseProbe {
    match in_use {
        InUse::Skip => InUseProbe::On,
        InUse::Ignore => InUseProbe::Off,
    }
}

const fn detail(verbosity: Verbosity) -> Detail {
    match verbosity {
        Verbosity::Quiet => Detail::Problems,
        Verbosity::Normal => Detail::Expired,
        Verbosity::Verbose => Detail::All,
    }
}

pub(super) fn progress_style(config: &Config, command: &str, verbosity: Verbosity) -> Style {
    let is_terminal = std::io::stderr().is_terminal();
    match config.progress {
        ProgressWhen::Auto if verbosity != Verbosity::Normal => Style::Silent,
        ProgressWhen::Always | ProgressWhen::Auto if is_terminal => Style::Drawn,
        ProgressWhen::Always => Style::Lines,
        // The command that `legacy` replaces shows its progress, terminal or not.
        ProgressWhen::Auto if command == "legacy" => Style::Lines,
        ProgressWhen::Never | ProgressWhen::Auto => Style::Silent,
    }
}
