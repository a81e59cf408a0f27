//! `sweeper clearml orphans`: removes folders of the file server whose task is gone.
//!
//! This module must not remove a folder by itself, or on the strength of an old answer of the server.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::ffi::{CStr, CString, OsStr};
use std::io::{self, BufWriter};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::audit::Log;
use super::connect::{flags, now, tools};
use super::ended::reason;
use super::mount::in_words;
use super::place::{FILESERVER, Place, Seams, at_once};
use super::seams::with_seams;
use crate::clearml::error::CycleError;
use crate::clearml::executor::Audit;
use crate::clearml::files::Removal;
use crate::clearml::ledger::{End, ORPHANS, ZoneLedger};
use crate::clearml::orphans::{self, BATCH, Orphans};
use crate::clearml::rows::Id;
use crate::clearml::tools::Tools;
use crate::cmd::Refusal;
use crate::cmd::canvas::canvas;
use crate::cmd::data_root::absolute;
use crate::cmd::pass::detail;
use crate::cmd::run_metrics::RunMetrics;
use crate::config::{ClearmlConfig, Config, ConfigError, Verbosity};
use crate::os::clock;
use crate::protocol::{
    ExitCode, Failure, Found, Notes, Observer, RunInfo, RunMode, StopReason, Summary,
};
use crate::report::Report;
use crate::report::progress::{Progress, Style};
use crate::rules::{EntryKind, Expiry, KeptReason, Zone, ZoneName};
use crate::source::find_trees;
use crate::units;

/// Removes them once, and prints a report.
pub(super) fn orphans(
    config: &Config,
    options: &ClearmlConfig,
    verbosity: Verbosity,
) -> Result<ExitCode, Refusal> {
    let (stop, is_rotated) = flags(config)?;
    let metrics = RunMetrics::of(config, &stop)?;
    let start = Instant::now();
    let tools = tools(config, options, &stop)?;
    let mode = if config.dry_run { RunMode::DryRun } else { RunMode::Real };
    let (folders, audit) = (Folders::open(config, options)?, Log::open(config, &is_rotated)?);
    let info = RunInfo {
        command: "clearml orphans",
        mode,
        now: now(config),
        data_root: &folders.path,
        shard: None,
    };
    let progress = Progress::new(Style::Silent, mode);
    let out = BufWriter::new(io::stdout());
    let report = Report::new(info, config.format, detail(verbosity), progress, out);
    let report = report.on(canvas(config.color));
    let (mut ledger, end) = folders.sweep(&tools, &stop, &audit, &report);
    let stopped = reason(end, &mut [&mut ledger])?;
    let zones = vec![ledger.into_summary()];
    let summary = Summary { zones, stopped, relief: Vec::new() };
    let (duration, end) = (start.elapsed(), clock::now());
    let code = report.finish(&summary, duration);
    let zone = ZoneName::new(ORPHANS);
    let durations = [(zone.clone(), duration)];
    metrics.add(&[zone], code, |metrics| metrics.count(mode, &summary, &durations, end))
}

fn root(options: &ClearmlConfig) -> Result<PathBuf, Refusal> {
    options.fileserver_root.as_deref().map(absolute).ok_or_else(|| {
        let why = "name the directory of the file server with --fileserver-root".to_owned();
        ConfigError::Missing { key: "clearml_fileserver_root", why }.into()
    })
}

/// The directory of a file server, open, with what is asked for.
pub(super) struct Folders<'a> {
    config: &'a Config,
    options: &'a ClearmlConfig,
    path: PathBuf,
    place: Place,
}

impl<'a> Folders<'a> {
    /// Opens the directory.
    pub(super) fn open(config: &'a Config, options: &'a ClearmlConfig) -> Result<Self, Refusal> {
        let path = root(options)?;
        let place = Place::open(config, &path, FILESERVER, ORPHANS)?;
        Ok(Self { config, options, path, place })
    }

    /// Removes folders whose task is gone, and says what became of them.
    pub(super) fn sweep(
        &self,
        tools: &Tools,
        stop: &Arc<AtomicBool>,
        audit: &Log,
        observer: &dyn Observer,
    ) -> (ZoneLedger, Result<Option<StopReason>, CycleError>) {
        let Self { config, options, path, place } = self;
        let zone = &Arc::new(at_once(ORPHANS, EntryKind::Tree, Expiry::After(options.grace)));
        let mut ledger = ZoneLedger::new(ORPHANS, &path.to_string_lossy());
        let notes = Notes::default();
        let end = with_seams(config, tools.deadline, stop, now(config), &notes, |seams| {
            Sweep { tools, options, place, zone, observer, audit, seams }.run(&mut ledger)
        });
        ledger.add_notes(&notes);
        (ledger, end)
    }
}

/// The search with the means to remove.
struct Sweep<'a> {
    tools: &'a Tools,
    options: &'a ClearmlConfig,
    place: &'a Place,
    zone: &'a Arc<Zone>,
    observer: &'a dyn Observer,
    audit: &'a Log,
    seams: Seams<'a>,
}

impl Sweep<'_> {
    fn run(&self, ledger: &mut ZoneLedger) -> Result<Option<StopReason>, CycleError> {
        // The search completes removals that were interrupted.
        self.tools.check_clock()?;
        let mut ids = HashSet::new();
        let mut take = |id, _| {
            ids.insert(id);
        };
        self.each(&mut take, &mut |_| {});
        // The search may have ended early.
        if let Some(late) = self.tools.late() {
            return Ok(Some(late));
        }
        let mut ids: Vec<Id> = ids.into_iter().collect();
        ids.sort_unstable();
        let orphans = orphans::find(self.tools, &self.options.options, &ids)?;
        let Orphans { gone, named, existing } = orphans;
        let tasks = if existing == 1 { "task that exists" } else { "tasks that exist" };
        ledger.note(format!("the folders of {existing} {tasks} stay"));
        let mut batch: Vec<(Id, PathBuf)> = Vec::new();
        let mut result = Ok(());
        let shared = RefCell::new(ledger);
        let mut take = |id, path: PathBuf| {
            if result.is_err() {
                return;
            }
            let ledger = &mut shared.borrow_mut();
            if named.contains(&id) {
                self.tell(ledger, &path, &End::Kept(KeptReason::Referenced));
            } else if gone.contains(&id) {
                batch.push((id, path));
                if batch.len() >= BATCH {
                    result = self.remove(&std::mem::take(&mut batch), ledger);
                }
            }
        };
        // What cannot be read is told once.
        self.each(&mut take, &mut |failure| {
            let why = units::error(&failure.error);
            self.tell(&mut shared.borrow_mut(), &failure.path, &End::Failed(why));
        });
        result?;
        self.remove(&batch, shared.into_inner())?;
        Ok(self.tools.ends()?)
    }

    /// Removes folders of tasks that are gone, after one more question.
    fn remove(&self, batch: &[(Id, PathBuf)], ledger: &mut ZoneLedger) -> Result<(), CycleError> {
        let ids: Vec<Id> = batch.iter().map(|(id, _)| *id).collect();
        let gone = orphans::still_gone(self.tools, &ids)?;
        let mut emptied = BTreeSet::new();
        for (id, path) in batch {
            if self.tools.ends()?.is_some() {
                break;
            }
            if !gone.contains(id) {
                self.tell(ledger, path, &End::Kept(KeptReason::Referenced));
                continue;
            }
            let name = self.place.root.path().join(path);
            let name = name.to_string_lossy();
            self.audit.write(ORPHANS, &[&*name]).map_err(CycleError::Journal)?;
            let removal = self.seams.remove_folder(&self.place.root, self.zone, path);
            if matches!(removal, Removal::Removed(_)) {
                emptied.extend(path.parent().map(Path::to_owned));
            } else {
                self.audit.withdraw(ORPHANS, &name, in_words(&removal));
            }
            self.tell(ledger, path, &end_of(removal));
        }
        for dir in emptied.iter().rev() {
            self.seams.prune(&self.place.root, self.zone, Some(dir));
        }
        self.observer.on_unlocked();
        Ok(())
    }

    fn tell(&self, ledger: &mut ZoneLedger, path: &Path, end: &End) {
        let path = self.place.root.path().join(path);
        ledger.add(&path.to_string_lossy(), end, None, Some(self.options.grace), self.observer);
    }

    /// Hands every folder of a task to `each`.
    fn each(&self, each: &mut dyn FnMut(Id, PathBuf), failed: &mut dyn FnMut(Failure)) {
        let seams = &self.seams;
        let is_folder = |name: &CStr| Id::of_folder(name.to_bytes()).is_some();
        let mut take = |found: Found<'_>| match found {
            Found::Entry(entry) => {
                if let Some(id) = Id::of_folder(entry.name.to_bytes()) {
                    each(id, entry.dir.join(OsStr::from_bytes(entry.name.to_bytes())));
                }
            }
            Found::Leftover(directory, name) => {
                seams.recover(directory, &CString::from(name));
            }
            Found::Gone(..) | Found::Failed(..) => {}
        };
        let (root, notes) = (&self.place.root, seams.notes);
        find_trees(root, self.zone, seams.control, notes, &is_folder, &mut take, failed);
    }
}

fn end_of(removal: Removal) -> End {
    use crate::protocol::Skipped;
    match removal {
        Removal::Removed(bytes) => End::Removed(bytes),
        Removal::Gone => End::Skipped(Skipped::Gone),
        Removal::Kept(why) => End::Kept(why),
        // Something in it is younger than the grace period.
        Removal::Skipped(Skipped::Used) => End::Kept(KeptReason::Fresh),
        Removal::Skipped(why) => End::Skipped(why),
        Removal::Failed(why) | Removal::Left(why) => End::Failed(why),
    }
}
