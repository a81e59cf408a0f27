//! The report for people.
//!
//! It must not print a name unescaped, nor anything that a line-by-line reader could not use.

use std::io::{self, Write};
use std::time::Duration;

use super::{Mode, Occasion, errno};
use crate::condemn::Spared;
use crate::config::Row;
use crate::retention::{Bytes, KeptBy};
use crate::stop::Stopped;
use crate::sweep::{Summary, ZoneSummary};
use crate::units::{grouped, quoted, shown};

/// Writes the summary.
///
/// # Errors
/// What `out` says.
pub fn summary(
    out: &mut impl Write,
    occasion: &Occasion<'_>,
    summary: &Summary,
    elapsed: Duration,
) -> io::Result<()> {
    let (went, freed) = match occasion.mode {
        Mode::Real => ("removed", "freed"),
        Mode::Rehearsal => ("would go", "would free"),
    };
    writeln!(
        out,
        "{:<13}{:>11}{:>11}{:>11}{:>11}{:>9}{:>12}",
        "zone", "seen", went, "kept", "spared", "failed", freed
    )?;
    for zone in &summary.zones {
        let tally = &zone.tally;
        writeln!(
            out,
            "{:<13}{:>11}{:>11}{:>11}{:>11}{:>9}{:>12}",
            zone.zone.name(),
            grouped(tally.reported()),
            grouped(tally.removed),
            grouped(tally.kept()),
            grouped(tally.spared()),
            grouped(tally.failed),
            tally.freed
        )?;
    }
    for zone in &summary.zones {
        reasons(out, zone)?;
    }
    for zone in &summary.zones {
        for failure in &zone.tally.failures {
            let errno = failure.errno.map(|number| format!(" [{}]", errno::name(number)));
            let errno = errno.unwrap_or_default();
            let path = shown(&failure.path);
            writeln!(out, "failed: {} {path}: {}{errno}", failure.doing, failure.message)?;
        }
        let listed = zone.tally.failures.len() as u64;
        if zone.tally.failed > listed {
            writeln!(out, "failed: {} more", grouped(zone.tally.failed - listed))?;
        }
    }
    closing(out, occasion, summary, elapsed)
}

/// Why a zone's entries stayed, and what there is to know about it.
fn reasons(out: &mut impl Write, zone: &ZoneSummary) -> io::Result<()> {
    let name = zone.zone.name();
    let mut list = |word: &str, reasons: Vec<(&str, u64)>| {
        let counts: Vec<String> = reasons
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(reason, count)| format!("{} {}", grouped(count), reason.replace('_', " ")))
            .collect();
        if counts.is_empty() {
            return Ok(());
        }
        writeln!(out, "{name}: {word} {}", counts.join(", "))
    };
    let keys = KeptBy::ALL.iter().map(|why| why.key());
    list("kept", keys.zip(zone.tally.kept_by).collect())?;
    let keys = Spared::ALL.iter().map(|why| why.key());
    list("spared", keys.zip(zone.tally.spared_by).collect())?;
    for note in &zone.notes {
        writeln!(out, "{name}: note: {note}")?;
    }
    Ok(())
}

fn closing(
    out: &mut impl Write,
    occasion: &Occasion<'_>,
    summary: &Summary,
    elapsed: Duration,
) -> io::Result<()> {
    let sum = |count: fn(&ZoneSummary) -> u64| summary.zones.iter().map(count).sum::<u64>();
    let removed = grouped(sum(|zone| zone.tally.removed));
    let seen = grouped(sum(|zone| zone.tally.reported()));
    let failed = sum(|zone| zone.tally.failed);
    let freed: Bytes = summary.zones.iter().map(|zone| zone.tally.freed).sum();
    let volume = shown(occasion.volume);
    if let Some(shard) = occasion.shard {
        writeln!(out, "shard {shard}: only the entries that belong to it were looked at")?;
    }
    let ended = match summary.stopped {
        None => "done",
        Some(Stopped::Signal) => "stopped by a signal",
        Some(Stopped::Deadline) => "stopped at the deadline",
        Some(Stopped::MaxRemovals) => "stopped at the number of removals allowed",
    };
    let did = match occasion.mode {
        Mode::Real => format!("removed {removed} of {seen} entries, freed {freed}"),
        Mode::Rehearsal => {
            format!(
                "would remove {removed} of {seen} entries and free {freed}; nothing was removed"
            )
        }
    };
    let failed = if failed > 0 { format!(", {} failed", grouped(failed)) } else { String::new() };
    writeln!(out, "{volume}: {did}{failed}; {ended} in {:.2} s", elapsed.as_secs_f64())
}

/// Writes the settings with their origins.
///
/// # Errors
/// What `out` says.
pub fn settings(out: &mut impl Write, rows: &[Row]) -> io::Result<()> {
    for Row { key, value, origin } in rows {
        writeln!(out, "{key:<13} {:<24} {origin}", quoted(value.as_ref()))?;
    }
    Ok(())
}
