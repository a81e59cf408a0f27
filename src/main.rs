//! `sweeper`: parse, plug the edges together, run, exit code.
//!
//! It must not judge, lock or remove anything itself. The only choice between removing and
//! rehearsing is made here.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, UNIX_EPOCH};

use retention_sweeper::cli::{self, Action, Args, Verbosity};
use retention_sweeper::condemn::Disk;
use retention_sweeper::config::{Config, ConfigError, DataRoot, ExporterPlan, Given, ProgressWhen};
use retention_sweeper::disk::{Candidates, RealDisk, Rehearsal};
use retention_sweeper::exit::ExitCode;
use retention_sweeper::lock::Backend;
use retention_sweeper::lock::redis::{ExporterLocks, Prefix};
use retention_sweeper::report::progress::{Progress, Style};
use retention_sweeper::report::{Detail, Format, Mode, Occasion, Report};
use retention_sweeper::retention::{Moment, Zone};
use retention_sweeper::stop::Stop;
use retention_sweeper::sweep::{Pass, Summary};
use retention_sweeper::units;
use retention_sweeper::volume::{Volume, VolumeError};
use retention_sweeper::workers::Workers;
use retention_sweeper::{demo, hold, kindness, report, why};

fn main() -> std::process::ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(args) => {
            log_to_stderr(args.verbosity);
            match run(&args) {
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

fn run(args: &Args) -> Result<std::process::ExitCode, Refusal> {
    let config = || -> Result<Config, ConfigError> {
        let config = Config::resolve(&Given::with_environment(args.flags.clone()))?;
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        Ok(config)
    };
    let mut out = BufWriter::new(io::stdout());
    let printed = match &args.action {
        Action::Run => {
            let config = config()?;
            return Ok(sweep("run", &config, &config.zones, args.verbosity)?.into());
        }
        Action::Legacy => {
            return Ok(sweep("legacy", &config()?, &[Zone::Legacy], args.verbosity)?.into());
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

/// One pass, or its rehearsal.
fn sweep(
    command: &'static str,
    config: &Config,
    zones: &[Zone],
    verbosity: Verbosity,
) -> Result<ExitCode, Refusal> {
    let start = Instant::now();
    let now = now(config.now);
    let volume = open(config)?;
    // A rehearsal removes nothing, so nothing of it has to wait.
    let rate = config.max_rate.filter(|_| !config.dry_run);
    let stop = Stop::new(config.max_removals.unwrap_or(u64::MAX)).at_most(rate);
    end_on_signals(&stop)?;
    if let Some(deadline) = config.deadline {
        stop.after(deadline);
    }
    if config.nice
        && let Err(refused) = kindness::stand_back()
    {
        tracing::warn!("--nice: the system refused {refused}");
    }
    let workers = Workers::start(config.jobs).unwrap_or_else(|refused| {
        // Old container engines refuse threads that are asked for in today's way.
        tracing::warn!("the system refused {refused}; one does it all");
        Workers::one()
    });
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
    let locks = locks(config, &volume)?;
    let plan =
        Plan { config, locks: &locks, zones, now, stop: &stop, workers: &workers, report: &report };
    let disk = RealDisk::new(&volume, config.in_use, &stop, &workers)
        .of_shard(config.shard)
        .of_list(candidates(config, &volume, zones)?);
    let summary = match mode {
        Mode::Real => plan.sweep(&disk),
        Mode::Rehearsal => plan.sweep(&Rehearsal::of(disk)),
    };
    Ok(report.finish(&summary, start.elapsed()))
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
    fn sweep<D: Disk>(&self, disk: &D) -> Summary {
        let Self { config, locks, zones, now, stop, workers, report } = *self;
        let (policy, lock_wait) = (&config.policy, config.lock_wait);
        Pass { disk, locks, policy, now, stop, workers, lock_wait }.sweep(zones, report)
    }
}

/// The list of what to look at, if there is one.
fn candidates(
    config: &Config,
    volume: &Volume,
    zones: &[Zone],
) -> Result<Option<Candidates>, Refusal> {
    let Some(path) = &config.from0 else { return Ok(None) };
    if path.as_os_str() == "-" {
        return Ok(Some(Candidates::new(io::stdin(), volume, zones)));
    }
    let list = std::fs::File::open(path)
        .map_err(|error| Refusal::Start(format!("the list {}: {error}", units::shown(path))))?;
    Ok(Some(Candidates::new(list, volume, zones)))
}

/// The locks of a pass over `volume`.
fn locks(config: &Config, volume: &Volume) -> Result<Backend, Refusal> {
    let Some(plan) = &config.locks.exporter else {
        return Ok(Backend { files: config.locks.files, exporter: None });
    };
    let exporter = exporter_locks(plan, volume.path())?;
    Ok(Backend { files: config.locks.files, exporter: Some(exporter) })
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
fn end_on_signals(stop: &Stop) -> Result<(), Refusal> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let flag = stop.signal_flag();
    for signal in [SIGINT, SIGTERM] {
        // The order matters: the first signal finds the flag down, and raises it.
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&flag))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)))
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

/// Log lines go to stderr, without colors, so that they read the same in a file.
fn log_to_stderr(verbosity: Verbosity) {
    let level = match verbosity {
        Verbosity::Quiet => tracing::Level::ERROR,
        Verbosity::Normal => tracing::Level::WARN,
        Verbosity::Verbose => tracing::Level::INFO,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .without_time()
        .with_target(false)
        .with_ansi(false)
        .log_internal_errors(false)
        .init();
}
