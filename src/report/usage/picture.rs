//! The charts of a usage as a picture for a terminal: bars in the width that there is.
//!
//! This module must not write a line that is longer than the terminal is wide, nor a name unescaped.

use std::io::{self, Write};

use super::charts::{self, Bar, Chart, Removal, percent};
use crate::report::canvas::{Canvas, Paint, wrapped};
use crate::report::text::{self, shown_short};
use crate::rules::Bytes;
use crate::units::grouped;
use crate::usage::Usage;

/// The narrowest picture.
const NARROWEST: usize = 48;

/// The longest name beside a bar.
const LONGEST_NAME: usize = 24;

/// From this width on, files are counted beside the bars.
const WIDE: usize = 72;

/// Eighths of a block, by how many are filled.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// Writes the picture.
pub(super) fn write(out: &mut dyn Write, usage: &Usage, canvas: Canvas) -> io::Result<()> {
    let canvas = Canvas { width: canvas.width.max(NARROWEST), ..canvas };
    head(out, usage, canvas)?;
    for chart in charts::all(usage) {
        draw(out, &chart, canvas)?;
    }
    removals(out, &charts::removals(usage), canvas)
}

/// The data root, what is in it, and how full its file system is.
fn head(out: &mut dyn Write, usage: &Usage, canvas: Canvas) -> io::Result<()> {
    let root = text::cut(&shown_short(&usage.data_root), canvas.width);
    writeln!(out, "{}", canvas.paint(Paint::Title, &root))?;
    let (allocated, inodes) = (usage.totals.allocated, grouped(usage.totals.inodes));
    writeln!(out, "{allocated} in {inodes} inodes")?;
    let Some(space) = usage.space else { return Ok(()) };
    let (used, size) = (Bytes(space.bytes_used), Bytes(space.usable()));
    let full = format!("file system {} full: {used} of {size}", percent(used, size));
    writeln!(out, "{}", text::cut(&full, canvas.width))?;
    if space.inodes > 0 {
        let (used, all) = (grouped(space.inodes_used), grouped(space.inodes));
        let share = percent(Bytes(space.inodes_used), Bytes(space.inodes));
        writeln!(out, "{}", text::cut(&format!("inodes {share}: {used} of {all}"), canvas.width))?;
    }
    Ok(())
}

/// One chart.
fn draw(out: &mut dyn Write, chart: &Chart, canvas: Canvas) -> io::Result<()> {
    let Chart { title, bars, whole } = chart;
    let most = bars.iter().map(|bar| bar.bytes).max().unwrap_or_default();
    let longest_name = LONGEST_NAME.min(canvas.width / 3);
    let names: Vec<String> = bars.iter().map(|bar| label(&bar.name, longest_name)).collect();
    let longest = |texts: &mut dyn Iterator<Item = &String>| {
        texts.map(|text| text.chars().count()).max().unwrap_or(0)
    };
    let name_width = longest(&mut names.iter());
    let has_counts = canvas.width >= WIDE;
    let count_width = if has_counts { longest(&mut bars.iter().map(|bar| &bar.count)) } else { 0 };
    // The name, the amount, the share, the count, and two spaces before each of them and the bar.
    let share_width = if whole.is_some() { 2 + 4 } else { 0 };
    let count_width = if count_width > 0 { 2 + count_width } else { 0 };
    let beside = 2 + name_width + 2 + 10 + share_width + count_width + 2;
    let room = canvas.width.saturating_sub(beside);
    writeln!(out)?;
    let title = canvas.paint(Paint::Title, title);
    if bars.iter().any(|bar| bar.expired > Bytes(0)) {
        let expired = canvas.paint(Paint::Expired, "▒");
        writeln!(out, "{title}  {expired} expired")?;
    } else {
        writeln!(out, "{title}")?;
    }
    for (bar, name) in bars.iter().zip(&names) {
        let amount = bar.bytes.to_string();
        let share = whole.map(|whole| percent(bar.bytes, whole)).unwrap_or_default();
        let share = canvas.paint(Paint::Faint, &format!("{share:>share_width$}"));
        let count = if has_counts { bar.count.as_str() } else { "" };
        let drawn = drawn(bar, most, room, canvas);
        let line =
            format!("  {name:<name_width$}  {amount:>10}{share}{count:>count_width$}  {drawn}");
        writeln!(out, "{}", line.trim_end())?;
        let remark = bar.remark.iter().flat_map(|text| wrapped(text, canvas.width - 4, ""));
        for line in remark {
            writeln!(out, "    {}", canvas.paint(Paint::Faint, &line))?;
        }
    }
    Ok(())
}

/// A bar of at most `room` columns, which `most` fills.
fn drawn(bar: &Bar, most: Bytes, room: usize, canvas: Canvas) -> String {
    let eighths = |bytes: Bytes| {
        let all = u128::from(bytes.0) * room as u128 * 8;
        usize::try_from(all.div_ceil(u128::from(most.0.max(1)))).unwrap_or(0)
    };
    let whole = eighths(bar.bytes);
    // Whole columns, so that the two parts meet at the edge of a column.
    let expired = eighths(bar.expired).div_ceil(8).min(whole.div_ceil(8));
    let kept = whole.saturating_sub(expired * 8);
    let expired = canvas.paint(Paint::Expired, &"▒".repeat(expired));
    let kept = "█".repeat(kept / 8) + EIGHTHS[kept % 8];
    expired + &canvas.paint(Paint::Kept, &kept)
}

/// Which command removes what.
fn removals(out: &mut dyn Write, removals: &[Removal<'_>], canvas: Canvas) -> io::Result<()> {
    writeln!(out, "\n{}", canvas.paint(Paint::Title, "what can be removed"))?;
    for Removal { command, expired, areas } in removals {
        let areas = areas.iter().map(|area| match area.about {
            "" => label(&area.name, LONGEST_NAME),
            about => format!("{} ({about})", label(&area.name, LONGEST_NAME)),
        });
        let areas: Vec<String> = areas.collect();
        let (first, rest) = match command {
            Some(command) => {
                let command = label(command, canvas.width.saturating_sub(4));
                (format!("  {command}"), format!("{expired} expired in {}", areas.join(", ")))
            }
            None => ("  never removed by this program".to_owned(), areas.join(", ")),
        };
        writeln!(out, "{first}")?;
        for line in wrapped(&rest, canvas.width.saturating_sub(4), "") {
            writeln!(out, "    {}", canvas.paint(Paint::Faint, &line))?;
        }
    }
    Ok(())
}

/// A name from the settings file or of the program, escaped and cut.
fn label(name: &str, longest: usize) -> String {
    text::cut(&name.escape_debug().to_string(), longest)
}
