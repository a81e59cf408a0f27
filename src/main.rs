//! `sweeper`: parse, plug the edges together, run, exit code.
//!
//! It must not judge, lock or remove anything itself. The only choice between removing and
//! rehearsing is made here. What `sweeper serve` puts around it is in `serve`.

mod serve;

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, UNIX_EPOCH};

use retention_sweeper::cli::{self, Action, Args, Verbosity};
use retention_sweeper::condemn::Disk;
use retention_sweeper::config::service::ServiceConfig;
use retention_sweeper::config::{
    Config, ConfigError, DataRoot, ExporterPlan, Given, LogFormat, ProgressWhen,
};
use retention_sweeper::disk::{Candidates, RealDisk, Rehearsal};
use retention_sweeper::exit::ExitCode;
use retention_sweeper::lock::guard::{Guard, IfRunning, Sharing};
use retention_sweeper::lock::redis::{ExporterLocks, Prefix};
use retention_sweeper::lock::{Backend, FileLocks};
use retention_sweeper::metrics::{self, Metrics, Timed};
use retention_sweeper::report::progress::{Progress, Style};
use retention_sweeper::report::{Detail, Format, Mode, Occasion, Report};
use retention_sweeper::retention::{Moment, Zone};
use retention_sweeper::service::Ended;
use retention_sweeper::stop::{Stop, Stopped};
use retention_sweeper::sweep::{Pass, Summary};
use retention_sweeper::units;
use retention_sweeper::volume::{Space, Volume, VolumeError};
use retention_sweeper::workers::Workers;
use retention_sweeper::{demo, hold, kindness, report, why};

fn main() -> std::process::ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(args) => {
            let given = Given::with_environment(args.flags.clone());
            log_to_stderr(args.verbosity, LogFormat::of(&given));
            match run(&args, &given) {
                Ok(code) => code,
                Err(error) => {
                    tracing::error!("{error}");
                    ExitCode::Usage.into()
                }
            }
        }
        Err(error) => {
            // Help and version go to stdout and are no error; a closed stdout is none either.
            let _ = error.print();
            if error.use_stderr() { ExitCode::Usage.into() } else { ExitCode::Done.into() }
        }
    }
}

/// What keeps a command from starting.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error("cannot start: {0}")]
    Start(String),
    #[error("cannot add these reports: {0}")]
    Merge(String),
}

fn run(args: &Args, given: &Given) -> Result<std::process::ExitCode, Refusal> {
    let config = || settings(given);
    let mut out = BufWriter::new(io::stdout());
    let printed = match &args.action {
        Action::Run => {
            let config = config()?;
            return Ok(once("run", &config, &config.zones, args.verbosity)?.into());
        }
        Action::Serve => return Ok(serve::serve(args.verbosity, given)?.into()),
        Action::Legacy => {
            return Ok(once("legacy", &config()?, &[Zone::Legacy], args.verbosity)?.into());
        }
        Action::Hold(path, command) => {
            let config = config()?;
            let exporter = exporter_lock(&config, path)?;
            return Ok(hold::hold(path, command, config.lock_wait, exporter));
        }
        Action::Demo => {
            // What it says of a broken temporary directory is not about stdout.
            let sample = demo::sample().map_err(|error| Refusal::Start(error.to_string()))?;
            demo::demo(&sample, &mut out, now(None))
        }
        Action::Why(paths) => {
            let config = config()?;
            let found = explain(paths, &config, &mut out)?;
            if matches!(&found, Ok(all) if all.contains(&false)) {
                let _ = out.flush();
                return Ok(ExitCode::SomeFailed.into());
            }
            found.map(drop)
        }
        Action::Merge(paths) => {
            let format = config()?.format;
            return merge(paths, format, args.verbosity, &mut out);
        }
        Action::Config => {
            let config = config()?;
            ServiceConfig::resolve(given)?;
            match config.format {
                Format::Text => report::text::settings(&mut out, &config.rows),
                Format::Json | Format::Jsonl => report::json::settings(&mut out, &config.rows),
            }
        }
        Action::Completions(shell) => {
            cli::completions(*shell, &mut out);
            Ok(())
        }
        Action::Man => cli::man(&mut out),
    };
    match printed.and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            tracing::error!("cannot write to stdout: {error}");
            Ok(ExitCode::SomeFailed.into())
        }
        _ => Ok(ExitCode::Done.into()),
    }
}

/// Says of each path what a pass would do; whether each could be looked at.
fn explain(
    paths: &[PathBuf],
    config: &Config,
    out: &mut impl Write,
) -> Result<io::Result<Vec<bool>>, Refusal> {
    let volume = open(config)?;
    let locks = locks(config, &volume)?;
    let stop = Stop::default();
    let workers = Workers::one();
    let disk = Rehearsal::of(RealDisk::new(&volume, config.in_use, &stop, &workers));
    let asked = why::Asked {
        volume: &volume,
        disk: &disk,
        locks: &locks,
        exporter: locks.exporter.as_ref(),
        files: locks.files,
        zones: &config.zones,
        policy: &config.policy,
        now: now(config.now),
    };
    Ok(paths.iter().map(|path| asked.explain(path, out)).collect())
}

/// Adds reports.
fn merge(
    paths: &[PathBuf],
    format: Format,
    verbosity: Verbosity,
    out: &mut impl Write,
) -> Result<std::process::ExitCode, Refusal> {
    let mut reports = Vec::new();
    for path in paths {
        let read = if path.as_os_str() == "-" {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut io::stdin(), &mut bytes).map(|_| bytes)
        } else {
            std::fs::read(path)
        };
        let name = units::shown(path);
        let bytes = read.map_err(|error| Refusal::Merge(format!("{name}: {error}")))?;
        reports.push((name, bytes));
    }
    let merged = report::merge::merge(&reports).map_err(Refusal::Merge)?;
    let is_quiet = verbosity == Verbosity::Quiet && format == Format::Text;
    if is_quiet && merged.exit == ExitCode::Done {
        return Ok(ExitCode::Done.into());
    }
    match merged.write(out, format).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            tracing::error!("cannot write to stdout: {error}");
            Ok(merged.exit.max(ExitCode::SomeFailed).into())
        }
        _ => Ok(merged.exit.into()),
    }
}

/// The settings, with what there is to be said about them. Those of a service are only refused where they
/// are used.
fn settings(given: &Given) -> Result<Config, Refusal> {
    let config = Config::resolve(given)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    Ok(config)
}

/// One pass, and nothing after it.
fn once(
    command: &'static str,
    config: &Config,
    zones: &[Zone],
    verbosity: Verbosity,
) -> Result<ExitCode, Refusal> {
    let stop = Arc::<AtomicBool>::default();
    end_on_signals(&stop)?;
    let if_running = config.if_running.unwrap_or(IfRunning::Exit);
    let swept = sweep(command, config, zones, verbosity, stop, if_running)?;
    let Some(path) = &config.metrics_file else { return Ok(swept.code) };
    if config.dry_run {
        tracing::warn!(
            "{path:?} is left as it is: a rehearsal removes nothing that could be counted"
        );
        return Ok(swept.code);
    }
    let metrics = Metrics::of(zones).map_err(Refusal::Start)?;
    swept.count(&metrics);
    match metrics.write(path) {
        Ok(()) => Ok(swept.code),
        Err(error) => {
            tracing::error!("cannot write the metrics to {path:?}: {error}");
            Ok(swept.code.max(ExitCode::SomeFailed))
        }
    }
}

/// What came of a pass.
struct Swept {
    mode: Mode,
    code: ExitCode,
    summary: Summary,
    lasted: Vec<(Zone, Duration)>,
    at: Moment,
    space: Option<Space>,
}

impl Swept {
    fn count(&self, metrics: &Metrics) {
        metrics.count(self.mode, &self.summary, &self.lasted, self.at);
        if let Some(space) = &self.space {
            metrics.volume(space);
        }
    }

    fn ended(self) -> Ended {
        let Self { code, summary, at, .. } = self;
        let troubles =
            summary.zones.iter().map(|zone| (zone.zone, metrics::trouble(zone, &summary)));
        let zones = troubles.collect();
        Ended { code, at, zones, was_stopped: summary.stopped == Some(Stopped::Signal) }
    }
}

/// A rehearsal goes beside anything, and without file locks there is no guard either.
fn takes_guard(config: &Config) -> bool {
    !config.dry_run && config.locks.files == FileLocks::Flock
}

/// Shards of the same work go side by side; everything else goes alone.
const fn sharing(config: &Config) -> Sharing {
    if config.shard.is_some() { Sharing::WithOthers } else { Sharing::Alone }
}

/// The workers of a pass, standing back for others if they are to.
fn workers(config: &Config) -> Workers {
    if config.nice
        && let Err(refused) = kindness::stand_back()
    {
        tracing::warn!("--nice: the system refused {refused}");
    }
    Workers::start(config.jobs).unwrap_or_else(|refused| {
        // Old container engines refuse threads that are asked for in today's way.
        tracing::warn!("the system refused {refused}; one does it all");
        Workers::one()
    })
}

/// One pass, or its rehearsal.
fn sweep(
    command: &'static str,
    config: &Config,
    zones: &[Zone],
    verbosity: Verbosity,
    signal: Arc<AtomicBool>,
    if_running: IfRunning,
) -> Result<Swept, Refusal> {
    let volume = open(config)?;
    // A rehearsal removes nothing, so nothing of it has to wait.
    let rate = config.max_rate.filter(|_| !config.dry_run);
    let stop = Stop::on(signal, config.max_removals.unwrap_or(u64::MAX)).at_most(rate);
    if let Some(deadline) = config.deadline {
        stop.after(deadline).map_err(Refusal::Start)?;
    }
    let mut locks = locks(config, &volume)?;
    if takes_guard(config) {
        let is_stopped = || stop.is_raised();
        locks.guard = Guard::of_pass(&volume, zones, sharing(config), if_running, &is_stopped);
    }
    // Not before the waiting is over: what was used meanwhile is not unused.
    let (start, now) = (Instant::now(), now(config.now));
    let workers = workers(config);
    let mode = if config.dry_run { Mode::Rehearsal } else { Mode::Real };
    let report = Report::new(
        Occasion { command, mode, now, volume: volume.path(), shard: config.shard },
        config.format,
        match verbosity {
            Verbosity::Quiet => Detail::Trouble,
            Verbosity::Normal => Detail::Stale,
            Verbosity::Verbose => Detail::All,
        },
        Progress::new(progress_style(config, command, verbosity)),
        BufWriter::new(io::stdout()),
    );
    let plan =
        Plan { config, locks: &locks, zones, now, stop: &stop, workers: &workers, report: &report };
    let disk = RealDisk::new(&volume, config.in_use, &stop, &workers)
        .of_shard(config.shard)
        .of_list(candidates(config, &volume, zones)?);
    let (summary, lasted) = match mode {
        Mode::Real => plan.sweep(&disk),
        Mode::Rehearsal => plan.sweep(&Rehearsal::of(disk)),
    };
    let code = report.finish(&summary, start.elapsed());
    let space = Space::of(volume.path()).ok();
    Ok(Swept { mode, code, summary, lasted, at: self::now(None), space })
}

/// All that a pass needs but the disk.
struct Plan<'a> {
    config: &'a Config,
    locks: &'a Backend,
    zones: &'a [Zone],
    now: Moment,
    stop: &'a Stop,
    workers: &'a Workers,
    report: &'a Report<'a, BufWriter<io::Stdout>>,
}

impl Plan<'_> {
    fn sweep<D: Disk>(&self, disk: &D) -> (Summary, Vec<(Zone, Duration)>) {
        let Self { config, locks, zones, now, stop, workers, report } = *self;
        let (policy, lock_wait) = (&config.policy, config.lock_wait);
        let timed = Timed::of(report);
        let summary =
            Pass { disk, locks, policy, now, stop, workers, lock_wait }.sweep(zones, &timed);
        (summary, timed.lasted())
    }
}

/// The list of what to look at, if there is one.
fn candidates(
    config: &Config,
    volume: &Volume,
    zones: &[Zone],
) -> Result<Option<Candidates>, Refusal> {
    let Some(path) = &config.from0 else { return Ok(None) };
    let found = if path.as_os_str() == "-" {
        Candidates::new(io::stdin(), volume, zones)
    } else {
        std::fs::File::open(path).and_then(|list| Candidates::new(list, volume, zones))
    };
    let refused = |error| Refusal::Start(format!("the list {}: {error}", units::shown(path)));
    found.map(Some).map_err(refused)
}

/// The locks of a pass over `volume`.
fn locks(config: &Config, volume: &Volume) -> Result<Backend, Refusal> {
    let Some(plan) = &config.locks.exporter else {
        let guard = Guard::none();
        return Ok(Backend { files: config.locks.files, exporter: None, guard });
    };
    let exporter = exporter_locks(plan, volume.path())?;
    Ok(Backend { files: config.locks.files, exporter: Some(exporter), guard: Guard::none() })
}

/// CVAT's own locks. Their keys are made from the path as CVAT has it: a wrong one locks nothing and
/// says nothing, so a guess is warned about, and will not do when these locks were demanded.
fn exporter_locks(plan: &ExporterPlan, data_root: &Path) -> Result<ExporterLocks, Refusal> {
    let prefix = match &plan.cvat_data {
        Some(root) => Prefix::given(root),
        None => Prefix::guessed(data_root, plan.cvat_base.as_deref()),
    };
    if prefix.is_guess() {
        let doubt = format!(
            "the keys of CVAT's locks are made from the path as CVAT sees it, and {} does not look \
             like that: say where CVAT has this volume with --cvat-data (usually /home/django/data)",
            prefix.shown()
        );
        if plan.is_required {
            return Err(Refusal::Start(doubt));
        }
        tracing::warn!("{doubt}");
    }
    Ok(ExporterLocks::new(plan.server.clone(), prefix, plan.ttl, now(None)))
}

/// CVAT's own lock of one path, if these locks are taken and it is an export's.
fn exporter_lock(config: &Config, path: &Path) -> Result<Option<hold::ExporterLock>, Refusal> {
    let Some(plan) = &config.locks.exporter else { return Ok(None) };
    let volume = open(config)?;
    let relative = volume.relative(path).map_err(|error| Refusal::Start(error.to_string()))?;
    let Some(path) = relative.filter(|path| path.starts_with("cache/export")) else {
        return Ok(None);
    };
    let locks = exporter_locks(plan, volume.path())?;
    Ok(Some(hold::ExporterLock { locks, path }))
}

fn open(config: &Config) -> Result<Volume, VolumeError> {
    match &config.data {
        DataRoot::Named(path) => Volume::open(path, &config.forbidden),
        DataRoot::AnyOf(paths) => Volume::find(paths, &config.forbidden),
    }
}

/// The moment that a pass judges at: read once.
#[expect(clippy::disallowed_methods, reason = "the one reading of the clock that a pass makes")]
fn now(given: Option<Moment>) -> Moment {
    given.unwrap_or_else(|| {
        let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH);
        units::moment_after_epoch(since.unwrap_or_default())
    })
}

/// SIGINT and SIGTERM stop the pass between two entries; a second one ends the process at once.
fn end_on_signals(flag: &Arc<AtomicBool>) -> Result<(), Refusal> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    for signal in [SIGINT, SIGTERM] {
        // The order matters: the first signal finds the flag down, and raises it.
        signal_hook::flag::register_conditional_default(signal, Arc::clone(flag))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(flag)))
            .map_err(|error| Refusal::Start(format!("signal handlers: {error}")))?;
    }
    Ok(())
}

fn progress_style(config: &Config, command: &str, verbosity: Verbosity) -> Style {
    let terminal = io::stderr().is_terminal();
    match config.progress {
        ProgressWhen::Never => Style::Silent,
        ProgressWhen::Auto if verbosity != Verbosity::Normal => Style::Silent,
        ProgressWhen::Always | ProgressWhen::Auto if terminal => Style::Drawn,
        ProgressWhen::Always => Style::Lines,
        // CVAT's command told where it was, and so does its replacement.
        ProgressWhen::Auto => {
            if command == "legacy" {
                Style::Lines
            } else {
                Style::Silent
            }
        }
    }
}

/// Log lines go to stderr, without colors, so that they read the same in a file. What a service says of
/// itself is said unless it is to be quiet.
fn log_to_stderr(verbosity: Verbosity, format: LogFormat) {
    use tracing::Level;
    use tracing_subscriber::filter::Targets;
    use tracing_subscriber::prelude::*;
    let (level, of_service) = match verbosity {
        Verbosity::Quiet => (Level::ERROR, Level::ERROR),
        Verbosity::Normal => (Level::WARN, Level::INFO),
        Verbosity::Verbose => (Level::INFO, Level::INFO),
    };
    let levels = Targets::new().with_default(level);
    let levels = levels.with_target("retention_sweeper::service", of_service);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(false)
        .log_internal_errors(false);
    let log = tracing_subscriber::registry().with(levels);
    match format {
        LogFormat::Text => log.with(lines.without_time()).init(),
        LogFormat::Json => log.with(lines.json().flatten_event(true)).init(),
    }
}
