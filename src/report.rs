//! Tells what happened: text for people, JSON for programs.
//!
//! It must not count: numbers come from the tallies that the line made of its outcomes. What it
//! cannot write (a closed pipe, a full disk) ends the writing, never the pass.

pub mod errno;
pub mod json;
pub mod merge;
pub mod progress;
pub mod text;

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::condemn::{Fate, Place};
use crate::exit::ExitCode;
use crate::retention::{Moment, Shard, Zone};
use crate::sweep::{Audience, Outcome, Summary, Tally};
use crate::units;
use progress::Progress;

/// How the report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One object at the end.
    Json,
    /// A line per outcome as it happens, then the object.
    Jsonl,
}

/// Whether removals are real.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They are.
    Real,
    /// They are only told of.
    Rehearsal,
}

/// What the summary says beside the counts.
#[derive(Debug)]
pub struct Occasion<'a> {
    /// The command's name.
    pub command: &'static str,
    /// Whether removals were real.
    pub mode: Mode,
    /// The moment that everything was judged at.
    pub now: Moment,
    /// The data root.
    pub volume: &'a std::path::Path,
    /// Which part of it was swept, if not all.
    pub shard: Option<Shard>,
}

/// Which outcomes are worth a line of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// None; and the text report only when something did not go well.
    Trouble,
    /// What goes or was to go.
    Stale,
    /// What is kept, too.
    All,
}

/// Is told of each outcome while a pass runs, and prints the report at its end.
pub struct Report<'a, W> {
    occasion: Occasion<'a>,
    format: Format,
    detail: Detail,
    out: Mutex<Output<W>>,
    progress: Progress,
}

/// Where the report goes; `None` once writing has failed.
struct Output<W> {
    to: Option<W>,
    is_lost: bool,
}

impl<W: Write> Output<W> {
    fn write(&mut self, write: impl FnOnce(&mut W) -> io::Result<()>) {
        if let Some(out) = &mut self.to
            && let Err(error) = write(out)
        {
            self.to = None;
            // A reader that has seen enough (`| head`) is no trouble worth a word.
            if error.kind() != io::ErrorKind::BrokenPipe {
                self.is_lost = true;
                tracing::warn!("the report cannot be written: {error}; the pass goes on without");
            }
        }
    }
}

impl<'a, W: Write + Send> Report<'a, W> {
    /// A report to `out`.
    pub fn new(
        occasion: Occasion<'a>,
        format: Format,
        detail: Detail,
        progress: Progress,
        out: W,
    ) -> Self {
        Self {
            occasion,
            format,
            detail,
            out: Mutex::new(Output { to: Some(out), is_lost: false }),
            progress,
        }
    }

    /// Prints the end of the report. A report that could not be written is a failure, unless its reader
    /// had seen enough.
    pub fn finish(self, summary: &Summary, elapsed: Duration) -> ExitCode {
        self.progress.finish();
        let code = ExitCode::of(summary);
        let mut out = self.out.into_inner().unwrap_or_else(PoisonError::into_inner);
        out.write(|out| {
            match self.format {
                Format::Text if self.detail == Detail::Trouble && code == ExitCode::Done => {}
                Format::Text => text::summary(out, &self.occasion, summary, elapsed)?,
                Format::Json => json::pretty(out, &self.occasion, summary, elapsed, code)?,
                Format::Jsonl => json::line(out, &self.occasion, summary, elapsed, code)?,
            }
            out.flush()
        });
        if out.is_lost { code.max(ExitCode::SomeFailed) } else { code }
    }

    fn log(&self, outcome: &Outcome<'_>) {
        let zone = outcome.place.zone.name();
        let path = units::shown(&path_of(outcome));
        match &outcome.fate {
            Fate::Removed => {
                let freed = outcome.freed;
                let did = match self.occasion.mode {
                    Mode::Real => "removed",
                    Mode::Rehearsal => "would remove",
                };
                tracing::info!("{zone}: {did} {path}: {}{freed} freed", unused(outcome));
            }
            Fate::Spared(why) => {
                tracing::info!("{zone}: spared {path}: {}{}", unused(outcome), why.key());
            }
            Fate::Failed(failure) => tracing::info!("{zone}: failed to {failure}"),
            Fate::Kept(kept) => {
                tracing::info!("{zone}: kept {path}: {}{}", unused(outcome), kept.why.key());
            }
        }
    }
}

fn unused(outcome: &Outcome<'_>) -> String {
    let ttl = outcome.ttl.map(|ttl| format!(" of {}", units::coarse_secs(ttl.as_secs())));
    outcome
        .age
        .map(|age| {
            let age = units::coarse_secs(age.as_secs());
            format!("unused for {age}{}, ", ttl.unwrap_or_default())
        })
        .unwrap_or_default()
}

fn path_of(outcome: &Outcome<'_>) -> std::path::PathBuf {
    outcome.name.map_or_else(|| outcome.place.path.clone(), |name| outcome.place.path_of(name))
}

impl<W: Write + Send> Audience for Report<'_, W> {
    fn begins(&self, _zone: Zone) {
        self.progress.begins();
    }

    fn tell(&self, outcome: &Outcome<'_>) {
        if matches!(outcome.fate, Fate::Kept(_)) && self.detail != Detail::All {
            return;
        }
        if self.format == Format::Jsonl {
            let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
            out.write(|out| json::outcome(out, outcome));
        }
        if tracing::enabled!(tracing::Level::INFO) {
            self.log(outcome);
        }
    }

    fn so_far(&self, root: &Place, names: u64, handful: &Tally) {
        if self.format == Format::Jsonl {
            let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
            out.write(Write::flush);
        }
        self.progress.so_far(root, names, handful);
    }
}
