//! The counts of the zones, a line for each.
//!
//! This module must not count.

use std::io::{self, Write};

use super::super::canvas::{Canvas, Paint};
use crate::protocol::{RunMode, Tally, ZoneSummary};
use crate::units::grouped;

const COLUMNS: usize = 7;

/// The column of what failed.
const FAILED: usize = 5;

/// Writes the table: with one row of words above it, with two if it is too wide, and a sentence for each zone where
/// that is too wide, too.
pub(super) fn write(
    out: &mut dyn Write,
    canvas: Canvas,
    mode: RunMode,
    zones: &[ZoneSummary],
) -> io::Result<()> {
    let (removed, freed) = match mode {
        RunMode::Real => (["", "removed"], ["", "freed"]),
        RunMode::DryRun => (["would", "remove"], ["would", "free"]),
    };
    let [zone, seen, kept, skipped, failed] =
        ["zone", "seen", "kept", "skipped", "failed"].map(|word| ["", word]);
    // Each word of the second row stands below one of the first.
    let head = [zone, seen, removed, kept, skipped, failed, freed];
    let rows: Vec<_> = zones.iter().map(cells).collect();
    let one_row = [head.map(|words| words.join(" ").trim_start().to_owned())];
    let two_rows = [0, 1].map(|row| head.map(|words| words[row].to_owned()));
    for heads in [&one_row[..], &two_rows] {
        let widths = widths(heads.iter().chain(&rows));
        if widths.iter().sum::<usize>() + 2 * (COLUMNS - 1) <= canvas.width {
            return columns(out, canvas, heads, &rows, &widths);
        }
    }
    let [[_, names @ ..]] = &one_row;
    for [zone, numbers @ ..] in &rows {
        let parts = names.iter().zip(numbers).map(|(name, number)| format!("{name} {number}"));
        let text = format!(": {}", parts.collect::<Vec<_>>().join(", "));
        canvas.write(out, "", (zone, Paint::Title), &text)?;
    }
    Ok(())
}

/// The counts of a zone; of a pass that a guard has stopped, what would have become of its entries.
pub(super) fn counts_of(zone: &ZoneSummary) -> &Tally {
    zone.tally.withheld.as_deref().unwrap_or(&zone.tally)
}

fn cells(zone: &ZoneSummary) -> [String; COLUMNS] {
    let tally = counts_of(zone);
    [
        zone.zone.to_string(),
        grouped(tally.reported()),
        grouped(tally.removed),
        grouped(tally.kept()),
        grouped(tally.skipped()),
        grouped(tally.failed),
        tally.freed.to_string(),
    ]
}

/// The width of each column: that of its longest cell.
fn widths<'a>(rows: impl Iterator<Item = &'a [String; COLUMNS]>) -> [usize; COLUMNS] {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    widths
}

fn columns(
    out: &mut dyn Write,
    canvas: Canvas,
    heads: &[[String; COLUMNS]],
    rows: &[[String; COLUMNS]],
    widths: &[usize; COLUMNS],
) -> io::Result<()> {
    let cell = |at: usize, text: &str| match at {
        0 => format!("{text:<0$}", widths[0]),
        _ => format!("  {text:>0$}", widths[at]),
    };
    for head in heads {
        let line: String = head.iter().enumerate().map(|(at, word)| cell(at, word)).collect();
        writeln!(out, "{}", canvas.paint(Paint::Title, line.trim_end()))?;
    }
    for row in rows {
        for (at, text) in row.iter().enumerate() {
            let text = cell(at, text);
            let has_failed = at == FAILED && row[FAILED] != "0";
            write!(out, "{}", if has_failed { canvas.paint(Paint::Failed, &text) } else { text })?;
        }
        writeln!(out)?;
    }
    Ok(())
}
