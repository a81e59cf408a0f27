//! Tells what takes up space in a data root: a picture on a terminal, tables in a pipe, JSON for programs.
//!
//! This module must not measure or count: every number comes from the [`Usage`] that it is given.
//!
//! - `charts`: which numbers are shown together.
//! - `picture`: charts with bars, in the width of a terminal.
//! - `tables`: the same numbers as plain lines.
//! - [`page`]: a page for a browser.
//! - `json`: all of them, for programs.

mod charts;
mod json;
pub mod page;
mod picture;
mod tables;

use std::io::{self, Write};

use super::Format;
use super::canvas::{Canvas, Paint};
use super::text::{NOTE, list_failures, shown_short};
use crate::protocol::{ExitCode, RunMode, StopReason};
use crate::units::grouped;
use crate::usage::Usage;

/// Writes a usage in a format; as text a picture if there is a canvas, and tables if there is none.
///
/// # Errors
/// `out` cannot be written.
pub fn write(
    out: &mut impl Write,
    usage: &Usage,
    format: Format,
    canvas: Option<Canvas>,
) -> io::Result<()> {
    match (format, canvas) {
        (Format::Json | Format::Jsonl, _) => return json::write(out, usage, exit_code(usage)),
        (Format::Text, Some(canvas)) => picture::write(out, usage, canvas)?,
        (Format::Text, None) => tables::write(out, usage)?,
    }
    remarks(out, canvas.unwrap_or(Canvas::PLAIN), usage)
}

/// The exit code of the command.
pub fn exit_code(usage: &Usage) -> ExitCode {
    if usage.stopped.is_some() {
        ExitCode::Stopped
    } else if usage.failed > 0 {
        ExitCode::SomeFailed
    } else {
        ExitCode::Done
    }
}

/// What could not be counted, and why.
fn remarks(out: &mut dyn Write, canvas: Canvas, usage: &Usage) -> io::Result<()> {
    let note =
        |out: &mut dyn Write, text: &str| canvas.write(out, "usage: ", NOTE, &format!(": {text}"));
    list_failures(out, canvas, "usage", RunMode::Real, (&usage.failures, usage.failed))?;
    if usage.failed > 0 {
        note(out, "entries that could not be looked at are not counted")?;
    }
    for path in &usage.mounts {
        note(out, &format!("not counted, another mount: {}", shown_short(path)))?;
    }
    let more = usage.mount_points.saturating_sub(usage.mounts.len() as u64);
    if more > 0 {
        note(out, &format!("not counted, other mounts: {} more", grouped(more)))?;
    }
    for text in &usage.notes {
        note(out, text)?;
    }
    if let Some(why) = usage.stopped {
        // Every other reason is about removals.
        let is_deadline = why == StopReason::Deadline;
        let why = if is_deadline { "the deadline" } else { "a signal" };
        let text = format!(" by {why}: these numbers are not complete");
        canvas.write(out, "usage: ", ("stopped", Paint::Warning), &text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
