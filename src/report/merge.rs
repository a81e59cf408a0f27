//! Adds the reports of several sweepers that shared a volume into the report of one pass.
//!
//! This module must not guess: reports that are not parts of one pass are refused, with the reason, and a value
//! that cannot be read is an error, not zero. Reports are read back into the counts that they were made
//! of, so that the sum is written by the same code as any report.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::canvas::Canvas;
use super::{Format, json, write};
use crate::protocol::{
    ExitCode, ListedFailure, RunInfo, RunMode, Skipped, StopReason, Summary, Tally, ZoneSummary,
};
use crate::rules::{Action, Bytes, KeptReason, Moment, Shard, ZoneName};
use crate::units::{self, errno};

/// How many missing shards are listed.
const LISTED_SHARDS: usize = 10;

/// A report in JSON, as far as the sum depends on it.
#[derive(Deserialize)]
struct JsonReport {
    schema: u32,
    command: String,
    dry_run: bool,
    now: String,
    data_root: String,
    shard: Option<String>,
    elapsed_s: f64,
    stopped: Option<String>,
    zones: Vec<JsonZone>,
    failures: Vec<JsonFailure>,
    exit: u8,
}

#[derive(Deserialize)]
struct JsonZone {
    zone: String,
    path: String,
    path_hex: Option<String>,
    seen: u64,
    removed: u64,
    failed: u64,
    kept_by: BTreeMap<String, u64>,
    skipped_by: BTreeMap<String, u64>,
    freed_bytes: u64,
    notes: Vec<String>,
}

#[derive(Deserialize)]
struct JsonFailure {
    zone: String,
    path: String,
    path_hex: Option<String>,
    action: String,
    errno: Option<String>,
    message: String,
}

/// One report.
#[derive(Debug)]
struct Part {
    /// The name of the report, for people.
    name: String,
    command: &'static str,
    mode: RunMode,
    now: Moment,
    data_root: PathBuf,
    shard: Shard,
    elapsed: Duration,
    summary: Summary,
    exit: ExitCode,
}

/// The sum of several reports.
#[derive(Debug)]
pub struct Merged {
    command: &'static str,
    mode: RunMode,
    now: Moment,
    data_root: PathBuf,
    elapsed: Duration,
    summary: Summary,
    /// The highest exit code of the reports, or that of a stopped pass if a shard has no report.
    pub exit: ExitCode,
}

/// Adds reports, given with their names for people, which are printed as they are. A file can have several.
///
/// A shard that was stopped and run again has two reports. Only the removals of the earlier one count,
/// because the later one has seen everything else again. A shard without a report is noted, and the exit
/// code is that of a pass that was stopped.
///
/// # Errors
/// Why they cannot be added.
pub fn merge(reports: &[(String, Vec<u8>)]) -> Result<Merged, String> {
    let mut parts = Vec::new();
    for (name, bytes) in reports {
        parts.extend(Part::read(name, bytes)?);
    }
    // The first report of each shard counts in full: the one that was not stopped, or else the latest.
    parts.sort_by_key(|part| {
        (part.shard, part.summary.stopped.is_some(), std::cmp::Reverse(part.now))
    });
    let mut rest = parts.into_iter();
    let mut sum = rest.next().ok_or("no reports were given")?;
    let (mut shards, first) = (BTreeSet::from([sum.shard]), sum.name.clone());
    for mut part in rest {
        part.check_same_pass(&sum, &first)?;
        if !shards.insert(part.shard) {
            if part.summary.stopped.is_none() {
                let Part { name, shard, .. } = part;
                return Err(format!("{name}: there is another complete report of shard {shard}"));
            }
            part.keep_only_removals();
        }
        sum.add(part);
    }
    let Part { command, mode, now, data_root, elapsed, mut summary, mut exit, shard, .. } = sum;
    if let Some(note) = note_of_missing(&shards, shard.count()) {
        if let Some(zone) = summary.zones.first_mut() {
            zone.notes.push(note);
        }
        exit = exit.max(ExitCode::Stopped);
    }
    Ok(Merged { command, mode, now, data_root, elapsed, summary, exit })
}

/// A note about the shards that have no report, if there are any.
fn note_of_missing(shards: &BTreeSet<Shard>, count: u32) -> Option<String> {
    let has = |index| Shard::new(index, count).is_ok_and(|shard| shards.contains(&shard));
    let missing: Vec<String> = (0..count)
        .filter(|index| !has(*index))
        .take(LISTED_SHARDS + 1)
        .map(|index| index.to_string())
        .collect();
    let what = match &missing[..] {
        [] => return None,
        [one] => format!("shard {one}"),
        few if few.len() <= LISTED_SHARDS => format!("shards {}", few.join(", ")),
        many => format!("shards {} and more", many[..LISTED_SHARDS].join(", ")),
    };
    Some(format!("no report of {what} of {count}: the counts are incomplete"))
}

impl Merged {
    /// Writes the sum as a report, as text on `canvas`.
    ///
    /// # Errors
    /// `out` cannot be written.
    pub fn write(&self, out: &mut impl Write, format: Format, canvas: Canvas) -> io::Result<()> {
        let Self { command, mode, now, elapsed, exit, .. } = *self;
        let info = RunInfo { command, mode, now, data_root: &self.data_root, shard: None };
        write(out, (format, canvas), &info, &self.summary, elapsed, exit)
    }
}

impl Part {
    /// The reports in `bytes`: one or several, each perhaps after the lines of its entries.
    fn read(name: &str, bytes: &[u8]) -> Result<Vec<Self>, String> {
        let wrong = |why| format!("{name}: not a report of --format json: {why}");
        let reports: Vec<JsonReport> = json::read_each(bytes).map_err(wrong)?;
        if reports.is_empty() {
            return Err(wrong("there is none in it".to_owned()));
        }
        let is_one = reports.len() == 1;
        let part = |(at, report)| {
            let name = if is_one { name.to_owned() } else { format!("{name} ({})", at + 1) };
            Self::new(&name, report).map_err(|why| format!("{name}: {why}"))
        };
        reports.into_iter().enumerate().map(part).collect()
    }

    fn new(name: &str, report: JsonReport) -> Result<Self, String> {
        if report.schema != 1 {
            return Err(format!("schema {} is unknown; this version reads 1", report.schema));
        }
        let command = match report.command.as_str() {
            "run" => "run",
            "legacy" => "legacy",
            other => return Err(format!("a report of {other:?}, not of \"run\" or \"legacy\"")),
        };
        let shard = report.shard.as_deref().unwrap_or("0/1");
        let shard = Shard::parse(shard).map_err(|why| format!("shard {shard:?}: {why}"))?;
        let stopped = report.stopped.as_deref().map(stop_reason).transpose()?;
        let mut zones: Vec<ZoneSummary> = Vec::new();
        for zone in report.zones {
            let zone = zone_summary(zone)?;
            if zones.iter().any(|other| other.zone == zone.zone) {
                return Err(format!("zone {} is in it twice", zone.zone));
            }
            zones.push(zone);
        }
        for failure in report.failures {
            let name = visible(&failure.zone);
            let zone = zones.iter_mut().find(|zone| zone.zone.as_str() == name);
            let zone =
                zone.ok_or_else(|| format!("a failure in zone {name}, which is not in it"))?;
            zone.tally.failures.push(listed_failure(failure)?);
        }
        Ok(Self {
            name: name.to_owned(),
            command,
            mode: if report.dry_run { RunMode::DryRun } else { RunMode::Real },
            now: units::moment(&report.now).map_err(|why| format!("now: {why}"))?,
            data_root: PathBuf::from(report.data_root),
            shard,
            elapsed: Duration::try_from_secs_f64(report.elapsed_s)
                .map_err(|error| format!("elapsed_s: {error}"))?,
            summary: Summary { zones, stopped, relief: Vec::new() },
            exit: match report.exit {
                0 => ExitCode::Done,
                1 => ExitCode::SomeFailed,
                3 => ExitCode::Stopped,
                4 => ExitCode::NoLock,
                other => return Err(format!("no pass has exit code {other}")),
            },
        })
    }

    /// Refuses a report that is not of the same pass as the sum so far. A zone outside the data root must
    /// have one path too, because paths decide which shard an entry belongs to.
    fn check_same_pass(&self, sum: &Self, first: &str) -> Result<(), String> {
        let mode = |part: &Self| match part.mode {
            RunMode::Real => "false".to_owned(),
            RunMode::DryRun => "true".to_owned(),
        };
        let list = |part: &Self, of: fn(&ZoneSummary) -> String| {
            part.summary.zones.iter().map(of).collect::<Vec<_>>().join(", ")
        };
        let zones = |part: &Self| list(part, |zone| zone.zone.to_string());
        let paths = |part: &Self| list(part, |zone| units::shown(&zone.path));
        for (what, ours, theirs) in [
            ("command", self.command.to_owned(), sum.command.to_owned()),
            ("dry_run", mode(self), mode(sum)),
            ("data_root", units::shown(&self.data_root), units::shown(&sum.data_root)),
            ("zones", zones(self), zones(sum)),
            ("path of the zones", paths(self), paths(sum)),
            ("number of shards", self.shard.count().to_string(), sum.shard.count().to_string()),
        ] {
            if ours != theirs {
                let name = &self.name;
                return Err(format!(
                    "{name} and {first} are not parts of one pass: {what}: {ours} and {theirs}"
                ));
            }
        }
        Ok(())
    }

    /// Drops what another report on the same shard has seen again.
    fn keep_only_removals(&mut self) {
        for zone in &mut self.summary.zones {
            let Tally { removed, freed, .. } = zone.tally;
            zone.tally = match self.mode {
                RunMode::Real => Tally { seen: removed, removed, freed, ..Tally::default() },
                RunMode::DryRun => Tally::default(),
            };
        }
        self.summary.stopped = None;
        self.exit = ExitCode::Done;
    }

    fn add(&mut self, part: Self) {
        self.now = self.now.min(part.now);
        self.elapsed = self.elapsed.max(part.elapsed);
        self.exit = self.exit.max(part.exit);
        self.summary.stopped = self.summary.stopped.or(part.summary.stopped);
        for (zone, other) in self.summary.zones.iter_mut().zip(part.summary.zones) {
            zone.tally.add(other.tally);
            for note in other.notes {
                if !zone.notes.contains(&note) {
                    zone.notes.push(note);
                }
            }
        }
    }
}

fn stop_reason(key: &str) -> Result<StopReason, String> {
    let known = StopReason::ALL.into_iter().find(|why| why.key() == key);
    known.ok_or_else(|| format!("stopped: {key:?} is unknown"))
}

fn zone_summary(zone: JsonZone) -> Result<ZoneSummary, String> {
    let name = ZoneName::new(&visible(&zone.zone));
    let of_zone = |why: String| format!("zone {name}: {why}");
    let tally = Tally {
        seen: zone.seen,
        removed: zone.removed,
        kept_by: reasons("kept_by", &zone.kept_by, KeptReason::ALL.map(KeptReason::key))
            .map_err(of_zone)?,
        skipped_by: reasons("skipped_by", &zone.skipped_by, Skipped::ALL.map(Skipped::key))
            .map_err(of_zone)?,
        failed: zone.failed,
        freed: Bytes(zone.freed_bytes),
        ..Tally::default()
    };
    if !is_plausible(&tally) {
        return Err(of_zone("the counts do not add up".to_owned()));
    }
    let path = path(zone.path, zone.path_hex.as_deref()).map_err(of_zone)?;
    let notes = zone.notes.iter().map(|note| visible(note)).collect();
    Ok(ZoneSummary { zone: name, path, tally, notes, no_lock: None })
}

/// Whether the counts add up, and are small enough for sums of them not to overflow.
fn is_plausible(tally: &Tally) -> bool {
    let reasons = tally.kept_by.iter().chain(&tally.skipped_by);
    let mut counts = reasons.chain([&tally.seen, &tally.removed, &tally.failed]);
    counts.all(|count| *count < 1 << 53) && tally.is_conserved()
}

/// Counts by reason, in the order of the tally.
fn reasons<const N: usize>(
    field: &str,
    counts: &BTreeMap<String, u64>,
    keys: [&'static str; N],
) -> Result<[u64; N], String> {
    if let Some(key) = counts.keys().find(|key| !keys.contains(&key.as_str())) {
        return Err(format!("{field}: {key:?} is unknown"));
    }
    Ok(keys.map(|key| counts.get(key).copied().unwrap_or(0)))
}

fn listed_failure(failure: JsonFailure) -> Result<ListedFailure, String> {
    let unknown = |field: &str, text: &str| format!("{field} of a failure: {text:?} is unknown");
    let action = Action::from_key(&failure.action);
    let errno = failure
        .errno
        .as_deref()
        .map(|name| errno::number(name).ok_or_else(|| unknown("errno", name)));
    Ok(ListedFailure {
        path: path(failure.path, failure.path_hex.as_deref())?,
        action: action.ok_or_else(|| unknown("action", &failure.action))?,
        errno: errno.transpose()?,
        message: visible(&failure.message),
    })
}

/// The path whose bytes are `hex`, if that is given.
pub(super) fn path(text: String, hex: Option<&str>) -> Result<PathBuf, String> {
    let Some(hex) = hex else { return Ok(PathBuf::from(text)) };
    let digit = |digit: &u8| char::from(*digit).to_digit(16).and_then(|it| u8::try_from(it).ok());
    let bytes = hex.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    });
    let bytes: Option<Vec<u8>> = bytes.collect();
    bytes
        .map(|bytes| PathBuf::from(OsString::from_vec(bytes)))
        .ok_or_else(|| format!("path_hex: {hex:?} is not hexadecimal"))
}

/// Text that was read, with escapes for what steers a terminal.
fn visible(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '"' | '\'' | '\\') {
            plain.push(c);
        } else {
            plain.extend(c.escape_debug());
        }
    }
    plain
}

#[cfg(test)]
mod tests;
