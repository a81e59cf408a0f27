//! One cleanup, or its dry run, as the settings say, with its report.
//!
//! This module must not know who asked for it. The only choice between deleting and a dry run is made here.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::audit::Log;
use super::connect::{now, tools};
use super::ended::reason;
use super::mount::{Mounts, Removers};
use super::orphans::Folders;
use super::place::Seams;
use super::seams::with_seams;
use crate::clearml::error::CycleError;
use crate::clearml::executor::{Look, Real};
use crate::clearml::files::{FolderEnd, Removal, Remover};
use crate::clearml::fileserver::{HttpLook, HttpRemover};
use crate::clearml::journal::Journal;
use crate::clearml::ledger::{Ledger, ZoneLedger};
use crate::clearml::parts::Cycle;
use crate::clearml::tools::Tools;
use crate::cmd::Refusal;
use crate::cmd::canvas::canvas;
use crate::cmd::pass::detail;
use crate::config::{ClearmlConfig, Config, Verbosity};
use crate::lock::flock;
use crate::os::clock;
use crate::protocol::{
    ExitCode, Notes, Observer, RunInfo, RunMode, StopReason, Summary, ZoneSummary,
};
use crate::report::Report;
use crate::report::progress::{Progress, Style};
use crate::rules::{Bytes, Moment, ZoneName};

/// What to clean up, and how to tell it.
pub(in crate::cmd) struct CleanupRequest<'a> {
    /// The command, for the report.
    pub(in crate::cmd) command: &'static str,
    /// All settings.
    pub(in crate::cmd) config: &'a Config,
    /// Those of ClearML.
    pub(in crate::cmd) options: &'a ClearmlConfig,
    /// How much to say.
    pub(in crate::cmd) verbosity: Verbosity,
    /// Set by a signal.
    pub(in crate::cmd) stop: &'a Arc<AtomicBool>,
    /// Raised by a signal: the audit log was rotated.
    pub(in crate::cmd) is_rotated: &'a Arc<AtomicBool>,
    /// Whether to finish the journal, and nothing else.
    pub(in crate::cmd) is_retry: bool,
}

/// What a cleanup did.
#[derive(Debug)]
pub(in crate::cmd) struct Cleanup {
    /// Whether it was real.
    pub(in crate::cmd) mode: RunMode,
    /// The exit code.
    pub(in crate::cmd) code: ExitCode,
    /// The counts.
    pub(in crate::cmd) summary: Summary,
    /// How long it took.
    pub(in crate::cmd) duration: Duration,
    /// When it ended.
    pub(in crate::cmd) at: Moment,
}

/// Cleans up once, and writes the report to `out`, or the lines of the script that this replaces.
///
/// # Errors
/// Why it cannot start.
pub(in crate::cmd) fn cleanup(
    request: &CleanupRequest<'_>,
    out: impl Write + Send,
) -> Result<Cleanup, Refusal> {
    let CleanupRequest { command, config, options, stop, is_rotated, is_retry, .. } = *request;
    let start = Instant::now();
    let tools = tools(config, options, stop)?;
    let mounts = Mounts::open(config, options)?;
    let audit = Log::open(config, is_rotated)?;
    let has_folders = options.orphans && !is_retry;
    let folders = has_folders.then(|| Folders::open(config, options)).transpose()?;
    let now = now(config);
    let mode = if config.dry_run { RunMode::DryRun } else { RunMode::Real };
    let server = tools.client.server();
    let info = RunInfo { command, mode, now, data_root: Path::new(&server.api), shard: None };
    let out: Box<dyn Write + Send + '_> =
        if options.compat_output { Box::new(std::io::sink()) } else { Box::new(out) };
    let progress = Progress::new(Style::Silent, mode);
    let report = Report::new(info, config.format, detail(request.verbosity), progress, out);
    let report = report.on(canvas(config.color));
    let files = server.files.first().map_or("", String::as_str);
    let mut ledger = Ledger::new(&server.api, files);
    let (tools, mounts, notes) = (&tools, &mounts, &Notes::default());
    let part = Part { request, tools, mounts, now, notes, observer: &report, audit: &audit };
    let end = match mode {
        RunMode::Real => part.real(&mut ledger),
        RunMode::DryRun => part.dry_run(&mut ledger),
    };
    ledger.files.add_notes(notes);
    let stopped = reason(end, &mut [&mut ledger.tasks, &mut ledger.files])?;
    let zones = vec![ledger.tasks.into_summary(), ledger.files.into_summary()];
    let mut summary = Summary { zones, stopped, relief: Vec::new() };
    let goes_on = ExitCode::of(&summary) < ExitCode::Stopped && !stop.load(Ordering::Relaxed);
    if let Some(folders) = folders.filter(|_| goes_on) {
        let (zone, stopped) = after_it(folders.sweep(tools, stop, &audit, &report));
        summary.zones.push(zone);
        summary.stopped = stopped;
    }
    let duration = start.elapsed();
    let code = report.finish(&summary, duration);
    if options.compat_output {
        log_problems(&summary);
    }
    Ok(Cleanup { mode, code, summary, duration, at: clock::now() })
}

/// The part of the report about the folders, after a cleanup, which has its report whatever becomes of them.
fn after_it(
    (mut zone, end): (ZoneLedger, Result<Option<StopReason>, CycleError>),
) -> (ZoneSummary, Option<StopReason>) {
    let stopped = reason(end, &mut [&mut zone]).unwrap_or_else(|refusal| {
        tracing::error!("{refusal}");
        zone.left_alone = Some(refusal.to_string());
        None
    });
    (zone.into_summary(), stopped)
}

/// Makes the state directory, and locks it against other runs.
pub(super) fn alone(state: &Path) -> Result<File, String> {
    let cannot = |error: &std::io::Error| format!("{state:?}: {}", crate::units::error(error));
    std::fs::create_dir_all(state).map_err(|error| cannot(&error))?;
    flock::wait_for(state, Duration::ZERO).map_err(|why| match why {
        flock::NotHeld::Locked => format!("another sweeper is at work with {state:?}"),
        flock::NotHeld::OpenFailed(error) | flock::NotHeld::LockFailed(error) => cannot(&error),
    })
}

/// The script has no report, so problems are logged.
fn log_problems(summary: &Summary) {
    for zone in &summary.zones {
        let ZoneSummary { zone, tally, .. } = zone;
        for failure in &tally.failures {
            let path = crate::units::shown(&failure.path);
            tracing::warn!("{zone}: cannot delete {path}: {}", failure.message);
        }
        tracing::info!(
            "{zone}: removed {} of {}, kept {}, skipped {}, failed {}",
            tally.removed,
            tally.reported(),
            tally.kept(),
            tally.skipped(),
            tally.failed
        );
    }
}

/// What both ways through a cleanup need.
struct Part<'a, O> {
    request: &'a CleanupRequest<'a>,
    tools: &'a Tools,
    mounts: &'a Mounts,
    now: Moment,
    notes: &'a Notes,
    observer: &'a O,
    audit: &'a Log,
}

impl<O: Observer> Part<'_, O> {
    fn real(&self, ledger: &mut Ledger) -> Result<Option<StopReason>, CycleError> {
        let CleanupRequest { options, is_retry, .. } = *self.request;
        let state = options.state.as_ref().map_err(|error| CycleError::Usage(error.to_string()))?;
        let _alone = alone(state).map_err(CycleError::Journal)?;
        let mut journal = Journal::open(state).map_err(CycleError::Journal)?;
        let company = self.tools.company()?;
        journal.begin(&self.tools.client.server().api, &company).map_err(CycleError::Journal)?;
        let mut http = HttpRemover::default();
        let end = self.carry_out(|seams| {
            let mut removers = self.removers(seams, &mut http);
            let mut real = Real { journal: &mut journal, audit: self.audit, now: self.now };
            self.with_cycle(&mut |cycle| {
                if is_retry {
                    self.tools.check_clock()?;
                    return cycle.resume(&mut real, &mut removers, ledger, true);
                }
                let conditions = cycle.conditions()?;
                let stopped = cycle.resume(&mut real, &mut removers, ledger, false)?;
                if stopped.is_some() {
                    return Ok(stopped);
                }
                cycle.run(&conditions, &mut real, &mut removers, ledger)
            })
        });
        let compacted = journal.compact().map_err(CycleError::Journal);
        let stopped = end?;
        compacted.map(|()| stopped)
    }

    fn dry_run(&self, ledger: &mut Ledger) -> Result<Option<StopReason>, CycleError> {
        let mut http = HttpLook::default();
        let end = self.carry_out(|seams| {
            let mut removers = self.removers(seams, &mut http);
            self.with_cycle(&mut |cycle| {
                cycle.run(&cycle.conditions()?, &mut Look::default(), &mut removers, ledger)
            })
        });
        if http.length > 0 {
            ledger.files.note(format!(
                "the files on file servers total {}; how much disk space their removal frees is not known, and \
                 is not counted",
                Bytes(http.length)
            ));
        }
        end
    }

    fn carry_out(
        &self,
        work: impl FnOnce(Seams<'_>) -> Result<Option<StopReason>, CycleError>,
    ) -> Result<Option<StopReason>, CycleError> {
        let CleanupRequest { config, stop, .. } = *self.request;
        with_seams(config, self.tools.deadline, stop, self.now, self.notes, work)
    }

    fn removers<'s>(&'s self, seams: Seams<'s>, rest: &'s mut dyn Remover) -> Removers<'s> {
        Removers { mounts: self.mounts, seams, rest, audit: self.audit }
    }

    fn with_cycle<R>(&self, run: &mut dyn FnMut(&Cycle<'_>) -> R) -> R {
        let CleanupRequest { options, .. } = *self.request;
        let is_compat = options.compat_output;
        let on_batch = |count: usize| {
            if is_compat && count > 0 {
                say(&format!("Deleting {count} tasks"));
            }
        };
        let on_folder = |folder: &FolderEnd| tell_folder(folder, is_compat);
        run(&Cycle {
            tools: self.tools,
            options: &options.options,
            now: self.now,
            observer: self.observer,
            on_batch: &on_batch,
            on_folder: &on_folder,
        })
    }
}

/// Prints a line of the script.
pub(super) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // A closed pipe is no reason to stop.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn tell_folder(folder: &FolderEnd, is_compat: bool) {
    let FolderEnd { task, path, removal } = folder;
    // As the script writes it, but a name cannot write to the terminal.
    let path: String =
        path.to_string_lossy().chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    match removal {
        Removal::Removed(_) if is_compat => {
            say(&format!("Deleting Task id={task} data folder {path}"));
        }
        Removal::Removed(_) => tracing::info!("removed the folder of task {task}: {path}"),
        Removal::Gone => {}
        Removal::Kept(why) => {
            tracing::warn!("Failed removing folder {path}: {}", why.key());
        }
        Removal::Skipped(why) => {
            tracing::warn!("Failed removing folder {path}: {}", why.key());
        }
        Removal::Failed(why) | Removal::Left(why) => {
            tracing::warn!("Failed removing folder {path}: {why}");
        }
    }
}

/// The name of the zone of tasks, for schedules.
pub(in crate::cmd) fn task_zone() -> ZoneName {
    ZoneName::new(crate::clearml::ledger::TASKS)
}
