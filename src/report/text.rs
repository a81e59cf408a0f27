//! The report for people.
//!
//! This module must not print a name unescaped. Every line names its zone, so that `grep` finds all about one. On a
//! terminal long lines are divided, and a table that is too wide becomes narrower.

mod table;

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use self::table::counts_of;
use super::canvas::{Canvas, Paint};
use super::relief;
use crate::protocol::{
    ListedFailure, RunInfo, RunMode, Skipped, StopReason, Summary, Tally, ZoneSummary,
};
use crate::rules::{Action, Bytes, KeptReason};
use crate::units::{self, errno, grouped, shown};

/// The longest name that is printed whole, in characters.
const LONGEST_NAME: usize = 60;

/// The longest path that is printed whole, in characters.
const LONGEST_PATH: usize = 160;

/// What a note begins with that is a warning.
const WARNING: &str = "warning: ";

/// How a note begins.
pub(super) const NOTE: (&str, Paint) = ("note", Paint::Faint);

/// How many kinds of failures are listed for a zone.
const FAILURE_KINDS: usize = 10;

/// Writes the report.
///
/// # Errors
/// `out` cannot be written.
pub fn summary(
    out: &mut dyn Write,
    canvas: Canvas,
    info: &RunInfo<'_>,
    summary: &Summary,
    elapsed: Duration,
) -> io::Result<()> {
    let is_withheld = is_withheld(summary);
    let mode = if is_withheld { RunMode::DryRun } else { info.mode };
    table::write(out, canvas, mode, &summary.zones)?;
    for zone in &summary.zones {
        reasons(out, canvas, zone)?;
    }
    for zone in &summary.zones {
        failures(out, canvas, mode, zone)?;
    }
    let (warnings, notes): (Vec<_>, Vec<_>) = summary
        .zones
        .iter()
        .flat_map(|zone| zone.notes.iter().map(move |note| (&zone.zone, note)))
        .partition(|(_, note)| note.starts_with(WARNING));
    for (zone, note) in notes {
        canvas.write(out, &format!("{zone}: "), NOTE, &format!(": {note}"))?;
    }
    for relief in &summary.relief {
        let message = relief::message(relief, info.mode);
        let text = format!(": {}: {message}", shown_short(&relief.path));
        canvas.write(out, "", ("pressure", Paint::Title), &text)?;
    }
    // Notes that need action come last, where the reader looks.
    for (zone, note) in warnings {
        let text = note.strip_prefix(WARNING).unwrap_or(note);
        canvas.write(
            out,
            &format!("{zone}: "),
            ("warning", Paint::Warning),
            &format!(": {text}"),
        )?;
    }
    closing(out, canvas, info, summary, is_withheld, elapsed)
}

/// The notes that need action, for a report that is not printed.
pub(super) fn warnings(summary: &Summary) -> impl Iterator<Item = String> {
    summary.zones.iter().flat_map(|zone| {
        let warnings = zone.notes.iter().filter_map(|note| note.strip_prefix(WARNING));
        warnings.map(|warning| format!("{}: {warning}", zone.zone))
    })
}

/// Why entries of a zone are still there.
fn reasons(out: &mut dyn Write, canvas: Canvas, zone: &ZoneSummary) -> io::Result<()> {
    let Tally { kept_by, skipped_by, .. } = counts_of(zone);
    let kept = counts(KeptReason::ALL.map(KeptReason::key).into_iter().zip(*kept_by));
    let skipped = counts(Skipped::ALL.map(Skipped::key).into_iter().zip(*skipped_by));
    for (word, counts, paint) in
        [("kept", kept, Paint::Faint), ("skipped", skipped, Paint::Warning)]
    {
        if !counts.is_empty() {
            let before = format!("{}: ", zone.zone);
            canvas.write(out, &before, (word, paint), &format!(": {counts}"))?;
        }
    }
    Ok(())
}

/// The reasons that occurred, each with its count.
fn counts<'a>(reasons: impl Iterator<Item = (&'a str, u64)>) -> String {
    let counts: Vec<String> = reasons
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| format!("{} {}", grouped(count), words(reason)))
        .collect();
    counts.join(", ")
}

/// The key of a reason as people read it.
pub(super) fn words(key: &str) -> String {
    key.replace('_', " ")
}

/// Failures of one kind.
struct Group<'a> {
    /// The first of them, as an example.
    example: &'a ListedFailure,
    count: u64,
}

/// Writes the failures of a zone, a line for each kind.
fn failures(
    out: &mut dyn Write,
    canvas: Canvas,
    mode: RunMode,
    zone: &ZoneSummary,
) -> io::Result<()> {
    let Tally { failures, failed, .. } = counts_of(zone);
    list_failures(out, canvas, zone.zone.as_str(), mode, (failures, *failed))
}

/// That an action has failed, or that it would.
pub(super) const fn fails(mode: RunMode, action: Action) -> &'static str {
    match mode {
        RunMode::DryRun if action.changes() => "would fail",
        RunMode::DryRun | RunMode::Real => "failed",
    }
}

/// Writes failures, a line for each kind. Each line begins with `name`; `failed` is the number of all. In a dry run
/// those of removals are foreseen.
pub(super) fn list_failures(
    out: &mut dyn Write,
    canvas: Canvas,
    name: &str,
    mode: RunMode,
    (listed, failed): (&[ListedFailure], u64),
) -> io::Result<()> {
    let (groups, before) = (groups(listed), format!("{name}: "));
    let mut rest = failed;
    for Group { example, count } in groups.iter().take(FAILURE_KINDS) {
        let path = shown_short(&example.path);
        let others = match count {
            1 => String::new(),
            2 => " and 1 other".to_owned(),
            _ => format!(" and {} others", grouped(count - 1)),
        };
        let message = message(example);
        let fails = fails(mode, example.action);
        // A path in a list that is no entry's: nothing was tried.
        let is_listed = example.action == Action::ReadList;
        let action =
            if is_listed { "path in the list:".to_owned() } else { example.action.to_string() };
        // The list as a whole has no path.
        let text = if example.path.as_os_str().is_empty() {
            format!(": {message}")
        } else {
            format!(": {action} {path}{others}: {message}")
        };
        canvas.write(out, &before, (fails, Paint::Failed), &text)?;
        rest = rest.saturating_sub(*count);
    }
    if rest > 0 {
        let text = format!(": {} more, not listed", grouped(rest));
        canvas.write(out, &before, ("failed", Paint::Failed), &text)?;
    }
    Ok(())
}

/// Groups failures that tell the user the same: the action, the error and the hint are equal, but for
/// numbers in the hint. The order is that of the first of each kind.
fn groups(failures: &[ListedFailure]) -> Vec<Group<'_>> {
    let kind = |failure: &ListedFailure| {
        let text = failure.message.replace(|c: char| c.is_ascii_digit(), "");
        (failure.action, failure.errno, text)
    };
    let mut kinds = Vec::new();
    let mut groups: Vec<Group<'_>> = Vec::new();
    for failure in failures {
        let own = kind(failure);
        if let Some(at) = kinds.iter().position(|kind| *kind == own) {
            groups[at].count += 1;
        } else {
            kinds.push(own);
            groups.push(Group { example: failure, count: 1 });
        }
    }
    groups
}

/// The message with the name of the error.
fn message(failure: &ListedFailure) -> String {
    let Some(number) = failure.errno else { return failure.message.clone() };
    let name = format!("[{}]", errno::name(number));
    let message = units::without_numbers(&failure.message);
    match message.split_once("; ") {
        Some((what, hint)) => format!("{what} {name}; {hint}"),
        None => format!("{message} {name}"),
    }
}

/// A path, quoted and escaped. Long names in it are cut, and so is the whole.
pub(super) fn shown_short(path: &Path) -> String {
    let quoted = shown(path);
    let plain = quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    // Escaped characters have no `/`.
    let names = plain.unwrap_or(&quoted).split('/').map(|name| cut(name, LONGEST_NAME));
    format!("\"{}\"", cut(&names.collect::<Vec<_>>().join("/"), LONGEST_PATH))
}

/// Text of at most `longest` characters: the middle of longer text is replaced by an ellipsis.
pub(super) fn cut(text: &str, longest: usize) -> String {
    let length = text.chars().count();
    if length <= longest {
        return text.to_owned();
    }
    let tail = (longest - 1) / 2;
    let head = longest - 1 - tail;
    text.chars().take(head).chain(['…']).chain(text.chars().skip(length - tail)).collect()
}

/// Whether it was stopped by a guard before it began. Then the counts say what it would have done.
fn is_withheld(summary: &Summary) -> bool {
    summary.zones.iter().any(|zone| zone.tally.withheld.is_some())
}

/// What was removed, of how much, and what that has freed.
pub(super) fn outcome(info: &RunInfo<'_>, summary: &Summary) -> String {
    let is_withheld = is_withheld(summary);
    let tallies = || summary.zones.iter().map(counts_of);
    let sum = |count: fn(&Tally) -> u64| tallies().map(count).sum();
    let removed = grouped(sum(|tally| tally.removed));
    let seen = units::entries(sum(Tally::reported));
    let failed: u64 = sum(|tally| tally.failed);
    let freed: Bytes = tallies().map(|tally| tally.freed).sum();
    let fails = if info.mode == RunMode::Real && !is_withheld { "failed" } else { "would fail" };
    let failed = if failed > 0 { format!(", {} {fails}", grouped(failed)) } else { String::new() };
    let is_cut_short = matches!(
        summary.stopped,
        Some(StopReason::Signal | StopReason::Deadline | StopReason::AuditLog)
    );
    match info.mode {
        RunMode::Real if is_withheld && is_cut_short => format!(
            "nothing was removed, because the pass ended while it was still counting for its guards \
             ({seen} so far)"
        ),
        RunMode::Real if is_withheld => format!(
            "nothing was removed, because a guard stopped this pass: it would remove {removed} of {seen} \
             and free {freed}{failed}"
        ),
        RunMode::Real => format!("removed {removed} of {seen}, freed {freed}{failed}"),
        RunMode::DryRun => format!(
            "would remove {removed} of {seen}, would free {freed}{failed}; \
             nothing was removed"
        ),
    }
}

/// The totals and how the pass ended.
fn closing(
    out: &mut dyn Write,
    canvas: Canvas,
    info: &RunInfo<'_>,
    summary: &Summary,
    is_withheld: bool,
    elapsed: Duration,
) -> io::Result<()> {
    if let Some(shard) = info.shard {
        let text = format!(" {shard}: only the entries of this shard were checked");
        canvas.write(out, "", ("shard", Paint::Title), &text)?;
    }
    let did = outcome(info, summary);
    let ended = match summary.stopped {
        None => "done in",
        Some(StopReason::Signal) => "stopped by a signal after",
        Some(StopReason::Deadline) => "stopped at the deadline after",
        Some(StopReason::AuditLog) => "stopped because the audit log cannot be written, after",
        Some(StopReason::TooMany) => "stopped because more would be removed than is allowed, after",
        Some(StopReason::MaxRemovals | StopReason::MaxBytes | StopReason::MaxShare) => {
            match info.mode {
                RunMode::Real if is_withheld => "done in",
                RunMode::Real => "stopped by a guard after",
                RunMode::DryRun => "a run would be stopped by a guard; done in",
            }
        }
    };
    let root = shown_short(info.data_root);
    let left = summary.zones.iter().filter(|zone| zone.no_lock.is_some());
    let left: Vec<&str> = left.map(|zone| zone.zone.as_str()).collect();
    let left = match &left[..] {
        [] => String::new(),
        zones => format!("; left alone: {}", zones.join(", ")),
    };
    let text = format!(": {did}; {ended} {:.2} s{left}", elapsed.as_secs_f64());
    canvas.write(out, "", (&root, Paint::Title), &text)
}

#[cfg(test)]
mod tests;
