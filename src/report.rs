//! Tells what happened: text for people, JSON for programs.
//!
//! This module must not count: the numbers come from the tallies of the pass. An error while writing (a closed
//! pipe, a full disk) ends the writing, never the pass. Nothing is printed while a worker holds locks: a reader
//! that has stopped would hold up those who wait for the locks. So outcomes are collected first.

pub mod audit;
pub mod canvas;
pub mod json;
pub mod merge;
pub mod plan;
pub mod progress;
mod relief;
pub mod text;
pub mod usage;

#[cfg(test)]
mod sample;

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::protocol::{
    Directory, ExitCode, Observer, Outcome, OutcomeKind, RunInfo, RunMode, Summary, Tally,
};
use crate::rules::{Age, ZoneName};
use crate::units;
use canvas::Canvas;
use progress::Progress;

/// The format of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One object at the end.
    Json,
    /// A line per entry as it happens, then the object on one line.
    Jsonl,
}

/// Writes the end of a report in a format; as text on a canvas.
///
/// # Errors
/// `out` cannot be written.
pub fn write(
    out: &mut impl Write,
    (format, canvas): (Format, Canvas),
    info: &RunInfo<'_>,
    summary: &Summary,
    elapsed: Duration,
    code: ExitCode,
) -> io::Result<()> {
    match format {
        Format::Text => text::summary(out, canvas, info, summary, elapsed),
        Format::Json => json::whole(out, info, summary, elapsed, code),
        Format::Jsonl => json::line(out, info, summary, elapsed, code),
    }
}

/// How much a report says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Expired entries have a line each. In text there is no report if the exit code is 0.
    Problems,
    /// Expired entries have a line each.
    Expired,
    /// Kept entries have one too.
    All,
}

/// Observes a pass and prints its report.
pub struct Report<'a, W> {
    info: RunInfo<'a>,
    format: Format,
    detail: Detail,
    canvas: Canvas,
    /// The exit code is this one or a higher one.
    least: ExitCode,
    /// What was told and is not printed yet. It is locked for moments only.
    told: Mutex<Told>,
    /// It is locked for as long as a reader takes, so never by a worker that holds locks.
    out: Mutex<Output<W>>,
    progress: Progress,
}

/// What was told and is not printed yet.
#[derive(Debug, Default)]
struct Told {
    /// Lines of the report.
    lines: Vec<u8>,
    /// Lines for the log.
    log: Vec<String>,
}

/// Where the report is written to.
struct Output<W> {
    /// `None` once writing has failed.
    to: Option<W>,
    /// Why it failed, if not because of a closed pipe.
    lost: Option<io::Error>,
}

impl<W: Write> Output<W> {
    fn write(&mut self, write: impl FnOnce(&mut W) -> io::Result<()>) {
        if let Some(out) = &mut self.to
            && let Err(error) = write(out)
        {
            self.to = None;
            // A closed pipe is no problem: its reader has seen enough, as with `| head`.
            if error.kind() != io::ErrorKind::BrokenPipe {
                self.lost = Some(error);
            }
        }
    }
}

impl<'a, W: Write + Send> Report<'a, W> {
    /// A report to `out`.
    pub fn new(
        info: RunInfo<'a>,
        format: Format,
        detail: Detail,
        progress: Progress,
        out: W,
    ) -> Self {
        Self {
            info,
            format,
            detail,
            canvas: Canvas::PLAIN,
            least: ExitCode::Done,
            told: Mutex::default(),
            out: Mutex::new(Output { to: Some(out), lost: None }),
            progress,
        }
    }

    /// Text in this width, with or without color. Otherwise its lines have any length and no color.
    #[must_use]
    pub fn on(mut self, canvas: Canvas) -> Self {
        self.canvas = canvas;
        self
    }

    /// With this exit code or a higher one, whatever the summary says.
    #[must_use]
    pub const fn at_least(mut self, code: ExitCode) -> Self {
        self.least = code;
        self
    }

    /// The exit code, if the report can be written.
    pub fn code_of(&self, summary: &Summary) -> ExitCode {
        ExitCode::of(summary).max(self.least)
    }

    /// Prints the end of the report and returns the exit code. A report that cannot be written counts as
    /// a failure, unless its reader closed the pipe.
    pub fn finish(self, summary: &Summary, elapsed: Duration) -> ExitCode {
        self.on_unlocked();
        self.progress.finish();
        let code = self.code_of(summary);
        let mut out = self.out.into_inner().unwrap_or_else(PoisonError::into_inner);
        out.write(|out| {
            let is_text = self.format == Format::Text;
            if !is_text || self.detail != Detail::Problems || code != ExitCode::Done {
                write(out, (self.format, self.canvas), &self.info, summary, elapsed, code)?;
            } else {
                text::warnings(summary).for_each(|warning| tracing::warn!("{warning}"));
            }
            out.flush()
        });
        let Some(error) = out.lost else { return code };
        // Nothing else says what was removed.
        let ended = match summary.stopped {
            None => "the pass itself is complete",
            Some(_) => "the pass was stopped before its end",
        };
        let (error, did) = (units::error(&error), text::outcome(&self.info, summary));
        tracing::error!("cannot write the report: {error}; {ended}: {did}");
        code.max(ExitCode::SomeFailed)
    }

    /// The line about an outcome for the log.
    fn log_line(&self, outcome: &Outcome<'_>) -> String {
        let zone = outcome.zone;
        let path = units::shown(&outcome.path());
        let mut used = last_used(outcome);
        if outcome.is_early {
            used.push_str("the disk is too full, ");
        }
        match &outcome.kind {
            OutcomeKind::Removed => {
                let freed = outcome.freed;
                match self.info.mode {
                    RunMode::Real => format!("{zone}: removed {path}: {used}{freed} freed"),
                    RunMode::DryRun => {
                        format!("{zone}: would remove {path}: {used}{freed} would be freed")
                    }
                }
            }
            OutcomeKind::Skipped(why) => {
                format!("{zone}: skipped {path}: {used}{}", text::words(why.key()))
            }
            OutcomeKind::Failed(failure) => {
                let fails = text::fails(self.info.mode, failure.action);
                format!("{zone}: {fails} to {failure}")
            }
            OutcomeKind::Kept(kept) => {
                format!("{zone}: kept {path}: {used}{}", text::words(kept.why.key()))
            }
        }
    }
}

/// How long ago the entry was last used and its time to live, ready to be followed by something else.
fn last_used(outcome: &Outcome<'_>) -> String {
    let Some(age) = outcome.age.map(Age::as_secs) else { return String::new() };
    let ago = if age < 0 { "in the future" } else { "ago" };
    let used = format!("last used {} {ago}", units::coarse_secs(age.saturating_abs()));
    match outcome.ttl {
        Some(ttl) => format!("{used}, ttl {}, ", units::coarse_secs(ttl.as_secs())),
        None => format!("{used}, "),
    }
}

impl<W: Write + Send> Observer for Report<'_, W> {
    fn on_zone(&self, _zone: &ZoneName) {
        self.progress.on_zone();
    }

    fn wants_kept(&self) -> bool {
        self.detail == Detail::All
    }

    fn on_outcome(&self, outcome: &Outcome<'_>) {
        if matches!(outcome.kind, OutcomeKind::Kept(_)) && !self.wants_kept() {
            return;
        }
        let line = tracing::enabled!(tracing::Level::INFO).then(|| self.log_line(outcome));
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if self.format == Format::Jsonl {
            // Memory takes everything.
            let _ = json::outcome(&mut told.lines, outcome, self.info.mode);
        }
        told.log.extend(line);
    }

    fn on_unlocked(&self) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let Told { lines, log } =
            std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner));
        if !lines.is_empty() {
            out.write(|out| out.write_all(&lines).and_then(|()| out.flush()));
        }
        for line in log {
            tracing::info!("{line}");
        }
    }

    fn on_progress(&self, root: &Directory, names: u64, counts: &Tally) {
        self.progress.on_progress(root, names, counts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Skipped;
    use crate::rules::{Bytes, Kept, KeptReason};
    use progress::Style;

    /// Refuses every write with one kind of error.
    struct Refusing(io::ErrorKind);

    impl Write for Refusing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn report<W: Write + Send>(format: Format, detail: Detail, out: W) -> Report<'static, W> {
        let progress = Progress::new(Style::Silent, RunMode::Real);
        Report::new(sample::info(), format, detail, progress, out)
    }

    /// Reports three outcomes and the summary.
    fn observe<W: Write + Send>(report: Report<'_, W>, summary: &Summary) -> ExitCode {
        let directory = sample::directory();
        let kept = Kept { why: KeptReason::Fresh, age: None, rule: None };
        report.on_zone(&directory.zone.name);
        for kind in
            [OutcomeKind::Removed, OutcomeKind::Kept(kept), OutcomeKind::Skipped(Skipped::Locked)]
        {
            let (directory, name) = (&directory, Some(c"a"));
            let (zone, dir) = (&directory.zone.name, directory.path.as_path());
            let (device, age, ttl, freed, is_early) = (1, None, None, Bytes(0), false);
            let outcome = Outcome { zone, dir, device, name, kind, age, ttl, freed, is_early };
            report.on_outcome(&outcome);
        }
        report.on_progress(&directory, 3, &Tally::default());
        report.finish(summary, Duration::ZERO)
    }

    #[test]
    fn entries_have_lines_in_jsonl_alone_and_kept_ones_only_if_asked_for() {
        let summary = sample::summary();
        for (format, detail, lines) in [
            (Format::Jsonl, Detail::Problems, 3),
            (Format::Jsonl, Detail::Expired, 3),
            (Format::Jsonl, Detail::All, 4),
            (Format::Text, Detail::All, 8),
        ] {
            let mut out = Vec::new();
            assert_eq!(observe(report(format, detail, &mut out), &summary), ExitCode::SomeFailed);
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text.lines().count(), lines, "{format:?} {detail:?}: {text}");
        }
    }

    #[test]
    fn a_quiet_text_report_is_printed_only_if_there_is_a_problem() {
        let mut summary = sample::summary();
        for problem in [true, false] {
            let mut out = Vec::new();
            observe(report(Format::Text, Detail::Problems, &mut out), &summary);
            assert_eq!(!out.is_empty(), problem);
            summary.zones.remove(0);
        }
    }

    #[test]
    fn a_report_that_is_lost_is_a_failure_and_a_closed_pipe_is_not() {
        let mut summary = sample::summary();
        summary.zones.remove(0);
        for (error, code) in [
            (io::ErrorKind::BrokenPipe, ExitCode::Done),
            (io::ErrorKind::StorageFull, ExitCode::SomeFailed),
        ] {
            for format in [Format::Text, Format::Json, Format::Jsonl] {
                let report = report(format, Detail::Expired, Refusing(error));
                assert_eq!(observe(report, &summary), code, "{format:?}");
            }
        }
    }
}
