//! The numbers of a usage as plain lines, for a pipe.
//!
//! This module must not cut a name or a path, so that other programs can use them.

use std::io::{self, Write};

use super::charts::{self, Chart};
use crate::rules::Bytes;
use crate::units::{grouped, shown};
use crate::usage::Usage;

/// Writes a table of the areas, and one for each other chart.
pub(super) fn write(out: &mut dyn Write, usage: &Usage) -> io::Result<()> {
    areas(out, usage)?;
    for chart in charts::all(usage).iter().skip(1) {
        writeln!(out)?;
        simple(out, chart)?;
    }
    writeln!(out)?;
    let (allocated, inodes) = (usage.totals.allocated, grouped(usage.totals.inodes));
    let root = shown(&usage.data_root);
    write!(out, "{root}: {allocated} in {inodes} inodes")?;
    if let Some(space) = usage.space {
        let (used, size) = (Bytes(space.bytes_used), Bytes(space.usable()));
        write!(out, "; the file system has {used} of {size} in use")?;
    }
    writeln!(out)
}

fn areas(out: &mut dyn Write, usage: &Usage) -> io::Result<()> {
    let head = ["area", "allocated", "expired", "entries", "inodes"].map(str::to_owned);
    let mut rows = vec![(head, "removed by".to_owned(), "path".to_owned())];
    for area in &usage.areas {
        let command = area.removed_by.command();
        let expired = command.map_or_else(|| "-".to_owned(), |_| area.expired.to_string());
        let cells = [
            area.name.escape_debug().to_string(),
            area.totals.allocated.to_string(),
            expired,
            grouped(area.entries),
            grouped(area.totals.inodes),
        ];
        rows.push((cells, command.unwrap_or("never").to_owned(), shown(&area.path)));
    }
    let width = |at: usize| rows.iter().map(|(cells, ..)| cells[at].chars().count()).max();
    let widths: [usize; 5] = std::array::from_fn(|at| width(at).unwrap_or(0));
    let command_width = rows.iter().map(|(_, command, _)| command.len()).max().unwrap_or(0);
    for ([name, numbers @ ..], command, path) in &rows {
        write!(out, "{name:<0$}", widths[0])?;
        for (number, width) in numbers.iter().zip(&widths[1..]) {
            write!(out, "  {number:>width$}")?;
        }
        writeln!(out, "  {command:<command_width$}  {path}")?;
    }
    Ok(())
}

/// A line for each amount of a chart.
fn simple(out: &mut dyn Write, chart: &Chart) -> io::Result<()> {
    writeln!(out, "{}", chart.title)?;
    let width = chart.bars.iter().map(|bar| bar.name.chars().count()).max().unwrap_or(0);
    for bar in &chart.bars {
        let line = format!("  {:<width$}  {:>10}  {}", bar.name, bar.bytes, bar.count);
        let remark = bar.remark.iter().fold(String::new(), |_, remark| format!("  {remark}"));
        writeln!(out, "{}{remark}", line.trim_end())?;
    }
    Ok(())
}
