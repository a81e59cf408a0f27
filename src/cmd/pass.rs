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
pub(super) use super::data_root::open_root;
use super::data_root::place_of;
use super::path_list::path_list;
use crate::config::{
    ApplicationLock, Config, FileLocks, IfRunning, InUse, ProgressWhen, Verbosity,
};
use crate::dispose::{DryRun, Unlink};
use crate::engine::{Limits, Pass, PassControl, Workers};
use crate::fs::lease::{self, InUseProbe};
use crate::fs::{DataRoot, Space};
use crate::inspect::FileInspector;
use crate::lock::exclusive::{self, ExclusiveLock, Sharing};
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
use crate::source::{self, DirectorySource};
use crate::units;

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
    let mut locks = locks(config, root.path(), limits.urgent_flags())?;
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
        paths: path_list(config, &root, zones, &limits)?,
    };
    let inspector = FileInspector::new(&control, &notes, probe);
    let exclude = config.exclude.watched();
    let parts = Parts {
        request,
        root: &root,
        locks: &locks,
        notes: &notes,
        control,
        exclude: &exclude,
        now,
    };
    let timed = Timed::new(&report);
    let summary = match mode {
        RunMode::Real => {
            parts.run(&source, &inspector, &Unlink::new(&control, &notes, probe), &timed)
        }
        RunMode::DryRun => parts.run(&source, &inspector, &DryRun::new(&control), &timed),
    };
    let durations = timed.durations();
    // No lock is held while the report is printed.
    drop(locks);
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
    exclude: &'a Exclude,
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
            exclude: self.exclude,
            data_root: self.root.path(),
            notes: self.notes,
            now: self.now,
            limits: self.control.limits,
            workers: self.control.workers,
            // A dry run tries each lock once: a wait would take time, and tell nothing.
            lock_wait: if config.dry_run { Duration::ZERO } else { config.lock_wait },
        };
        let mut summary = pass.run(self.request.zones, observer);
        for zone in &mut summary.zones {
            if let Some(place) = place_of(config, &zone.zone) {
                place.clone_into(&mut zone.path);
            }
        }
        if self.is_complete(&summary) {
            note_unmatched(self.exclude, self.request.zones, &mut summary);
        }
        summary
    }

    /// Whether every entry of all zones was looked at.
    fn is_complete(&self, summary: &Summary) -> bool {
        let Config { zones, shard, from0, .. } = self.request.config;
        let is_part = shard.is_some() || from0.is_some() || summary.stopped.is_some();
        let all = self.request.command == "run" && self.request.zones.len() == zones.len();
        all && !is_part && summary.zones.iter().all(|zone| zone.no_lock.is_none())
    }
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

fn limits(config: &Config, signal: Arc<AtomicBool>) -> Result<Limits, Refusal> {
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

/// The threads of a pass, at low priority if that is asked for.
fn workers(config: &Config) -> Workers {
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

pub(super) const fn detail(verbosity: Verbosity) -> Detail {
    match verbosity {
        Verbosity::Quiet => Detail::Problems,
        Verbosity::Normal => Detail::Expired,
        Verbosity::Verbose => Detail::All,
    }
}

fn progress_style(config: &Config, command: &str, verbosity: Verbosity) -> Style {
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
