//! One pass, or its dry run, as the settings say.
//!
//! It must not know who asked for it: `run`, `legacy` and `serve` all call [`sweep`]. The only choice between
//! removing and a dry run is made here.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::Refusal;
use crate::config::{
    self, ApplicationLock, Config, FileLocks, IfRunning, InUse, ProgressWhen, Verbosity,
};
use crate::dispose::{DryRun, Unlink};
use crate::engine::{Limits, Pass, PassControl, Workers};
use crate::fs::lease::{self, InUseProbe};
use crate::fs::{DataRoot, Forbidden, RootError, Space};
use crate::inspect::FileInspector;
use crate::lock::exclusive::{self, ExclusiveLock, Sharing};
use crate::lock::redis::{ExporterLocks, Prefix};
use crate::lock::{self, Backend};
use crate::os::{clock, priority};
use crate::protocol::{
    Disposer, ExitCode, Inspector, MemberLeases, Notes, Observer, RunInfo, RunMode, Source, Summary,
};
use crate::report::progress::{Progress, Style};
use crate::report::{Detail, Report};
use crate::rules::select::All;
use crate::rules::{Moment, Zone, ZoneName};
use crate::service::metrics::{Metrics, Timed};
use crate::source::{self, DirectorySource, PathList};

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
    /// What to do when another sweeper is at work.
    pub if_running: IfRunning,
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
}

impl PassResult {
    /// Adds the pass to the metrics.
    pub fn count(&self, metrics: &Metrics) {
        metrics.count(self.mode, &self.summary, &self.durations, self.at);
        if let Some(space) = &self.space {
            metrics.set_space(space);
        }
    }
}

/// Runs one pass and writes its report to `out`.
///
/// # Errors
/// Why it cannot start.
pub fn sweep(request: &PassRequest<'_>, out: impl Write + Send) -> Result<PassResult, Refusal> {
    let PassRequest { command, config, zones, verbosity, .. } = *request;
    let root = open_root(config, zones)?;
    if config.jobs > 1 && config.in_use == InUse::Skip {
        lease::make_room(root.handle());
    }
    let limits = limits(config, Arc::clone(&request.signal))?;
    let mut locks = locks(config, root.path())?;
    if takes_exclusive_lock(config) {
        let roots = zone_roots(&root, zones);
        let if_running = exclusive_if_running(request.if_running);
        let is_stopped = || limits.is_stopped();
        locks.exclusive = ExclusiveLock::of_pass(roots, sharing(config), if_running, &is_stopped);
    }
    // After the wait for another sweeper: what was used meanwhile must count as used.
    let (start, now) = (Instant::now(), config.now.unwrap_or_else(clock::now));
    let workers = workers(config);
    let mode = if config.dry_run { RunMode::DryRun } else { RunMode::Real };
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
        paths: path_list(config, &root, zones)?,
    };
    let inspector = FileInspector::new(&control, &notes, probe);
    let parts = Parts { request, root: &root, locks: &locks, notes: &notes, control, now };
    let timed = Timed::new(&report);
    let summary = match mode {
        RunMode::Real => {
            parts.run(&source, &inspector, &Unlink::new(&control, &notes, probe), &timed)
        }
        RunMode::DryRun => parts.run(&source, &inspector, &DryRun::default(), &timed),
    };
    let durations = timed.durations();
    let code = report.finish(&summary, start.elapsed());
    let space = Space::of(root.path()).ok();
    Ok(PassResult { mode, code, summary, durations, at: clock::now(), space })
}

/// All that a pass needs besides three of its seams.
struct Parts<'a> {
    request: &'a PassRequest<'a>,
    root: &'a DataRoot,
    locks: &'a Backend,
    notes: &'a Notes,
    control: PassControl<'a>,
    now: Moment,
}

impl Parts<'_> {
    fn run(
        &self,
        source: &impl Source,
        inspector: &impl Inspector,
        disposer: &impl Disposer,
        observer: &impl Observer,
    ) -> Summary {
        let config = self.request.config;
        MemberLeases::set_limit(member_leases(config));
        let pass = Pass {
            source,
            locks: self.locks,
            inspector,
            disposer,
            select: &All,
            exclude: &config.exclude,
            data_root: self.root.path(),
            notes: self.notes,
            now: self.now,
            limits: self.control.limits,
            workers: self.control.workers,
            lock_wait: config.lock_wait,
        };
        pass.run(self.request.zones, observer)
    }
}

/// How many leases on the files of trees may be held at once. A removal that waits for its rate holds none:
/// another process that opens such a file would have to wait too.
fn member_leases(config: &Config) -> usize {
    if config.max_rate.is_some() { 0 } else { lease::affordable(config.jobs) }
}

/// Opens the data root, and the directories outside of it that `zones` name.
///
/// # Errors
/// One of them cannot be used.
pub(super) fn open_root(config: &Config, zones: &[Arc<Zone>]) -> Result<DataRoot, Refusal> {
    let forbidden = Forbidden { homes: config.homes.clone(), program: config.program.clone() };
    let mut root = match config.data.clone()? {
        config::DataRoot::Named(path) => DataRoot::open(&path, config.marks, &forbidden),
        config::DataRoot::AnyOf(paths) => DataRoot::find(&paths, config.marks, &forbidden),
    }?;
    for zone in zones {
        let roots = zone.location.roots.iter().filter(|root| root.is_absolute());
        let outside: Vec<PathBuf> = roots.cloned().collect();
        root = root
            .with_outside(&outside, &forbidden)
            .map_err(|why| refused_zone(config, &zone.name, why))?;
    }
    Ok(root)
}

fn refused_zone(config: &Config, name: &ZoneName, why: RootError) -> Refusal {
    let at = config.zone_paths.iter().find(|(zone, _)| zone == name).map(|(_, at)| at.clone());
    Refusal::Zone { at, name: name.to_string(), why }
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

/// The locks of a pass over the data root at `path`.
///
/// # Errors
/// The application's lock is required, and it is not known how the application sees the data root.
pub(super) fn locks(config: &Config, path: &Path) -> Result<Backend, Refusal> {
    let application = config.locks.application.as_ref();
    let application = application.map(|lock| application_locks(lock, path)).transpose()?;
    let files = match config.locks.files {
        FileLocks::Flock => lock::FileLocks::Flock,
        FileLocks::Unlocked => lock::FileLocks::Unlocked,
    };
    Ok(Backend { files, application, exclusive: ExclusiveLock::none() })
}

/// The locks of the application. Their keys are made from the path as the application sees it. A wrong one
/// locks nothing without an error, so a guess is warned about, and is refused when these locks are required.
pub(super) fn application_locks(
    lock: &ApplicationLock,
    data_root: &Path,
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
    Ok(ExporterLocks::new(lock.server.clone(), prefix, lock.ttl, clock::now()))
}

/// A dry run needs no exclusive lock, and without file locks there is none.
pub(super) fn takes_exclusive_lock(config: &Config) -> bool {
    !config.dry_run && config.locks.files == FileLocks::Flock
}

/// Shards of the same work run at the same time; everything else runs alone.
pub(super) const fn sharing(config: &Config) -> Sharing {
    if config.shard.is_some() { Sharing::WithOthers } else { Sharing::Alone }
}

pub(super) const fn exclusive_if_running(if_running: IfRunning) -> exclusive::IfRunning {
    match if_running {
        IfRunning::Exit => exclusive::IfRunning::Exit,
        IfRunning::Wait => exclusive::IfRunning::Wait,
        IfRunning::Share => exclusive::IfRunning::Share,
    }
}

/// The directories that `zones` are listed from, open. One that is missing or cannot be opened is left out:
/// the pass reports it.
fn zone_roots(
    root: &DataRoot,
    zones: &[Arc<Zone>],
) -> Vec<(ZoneName, PathBuf, std::os::fd::OwnedFd)> {
    let notes = Notes::default();
    let mut roots = Vec::new();
    for zone in zones {
        for path in &zone.location.roots {
            if let Ok(directory) = source::open_root(root, zone, path, &notes) {
                roots.push((zone.name.clone(), directory.path, directory.handle));
            }
        }
    }
    roots
}

/// The paths to look at, if there is a list.
fn path_list(
    config: &Config,
    root: &DataRoot,
    zones: &[Arc<Zone>],
) -> Result<Option<PathList>, Refusal> {
    let Some(path) = &config.from0 else { return Ok(None) };
    let is_swept = |zone: &&Arc<Zone>| zones.iter().any(|swept| swept.name == zone.name);
    let others: Vec<Arc<Zone>> =
        config.all_zones.iter().filter(|zone| !is_swept(zone)).cloned().collect();
    let list = if path.as_os_str() == "-" {
        PathList::new(std::io::stdin(), root, zones, &others)
    } else {
        std::fs::File::open(path).and_then(|list| PathList::new(list, root, zones, &others))
    };
    let refused = |error| Refusal::Start(format!("the list {path:?}: {error}"));
    list.map(Some).map_err(refused)
}

/// The threads of a pass, at low priority if that is asked for.
pub(super) fn workers(config: &Config) -> Workers {
    if config.nice
        && let Err(refused) = priority::lower()
    {
        tracing::warn!("--nice: the system refused {refused}");
    }
    Workers::start(config.jobs).unwrap_or_else(|refused| {
        // Old container engines refuse threads that are started by a system call they do not know.
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
