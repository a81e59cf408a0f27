//! The report for programs: schema 1, described in `docs/schema/report-1.schema.json`.
//!
//! This module must not print a byte that controls a terminal: besides what JSON demands, everything that is not
//! plain visible text is escaped as `\uXXXX`, and a path that is not UTF-8 has `path_hex` beside it.

mod visible;

use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};

use super::relief;
use crate::protocol::{
    ExitCode, LISTED_FAILURES, ListedFailure, Outcome, OutcomeKind, Relief, RunInfo, RunMode,
    Skipped, StopReason, Summary, Tally, ZoneSummary,
};
use crate::rules::{Age, KeptReason, Ttl};
use crate::units::{self, errno};
use visible::Visible;

/// The report.
#[derive(Serialize)]
struct Object<'a> {
    schema: u32,
    command: &'static str,
    dry_run: bool,
    now: String,
    data_root: Lossy<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<String>,
    elapsed_s: f64,
    stopped: Option<&'static str>,
    zones: Vec<ZoneObject<'a>>,
    totals: Counts,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pressure: Vec<PressureObject<'a>>,
    failures: Vec<Failed<'a>>,
    exit: u8,
}

/// A file system that entries go from before they expire, when it is too full.
#[derive(Serialize)]
struct PressureObject<'a> {
    #[serde(flatten)]
    path: Pathname<'a>,
    #[serde(flatten)]
    relief: relief::Object<'a>,
}

/// A zone of the report.
#[derive(Serialize)]
struct ZoneObject<'a> {
    zone: &'a str,
    #[serde(flatten)]
    path: Pathname<'a>,
    seen: u64,
    removed: u64,
    kept: u64,
    skipped: u64,
    failed: u64,
    kept_by: Reasons,
    skipped_by: Reasons,
    freed_bytes: u64,
    notes: &'a [String],
}

/// Reasons with their counts, in the order of the report.
struct Reasons(Vec<(&'static str, u64)>);

impl Serialize for Reasons {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().copied())
    }
}

/// Sums over all zones.
#[derive(Serialize, Default)]
struct Counts {
    seen: u64,
    removed: u64,
    kept: u64,
    skipped: u64,
    failed: u64,
    freed_bytes: u64,
}

impl Counts {
    fn add(&mut self, tally: &Tally) {
        self.seen += tally.reported();
        self.removed += tally.removed;
        self.kept += tally.kept();
        self.skipped += tally.skipped();
        self.failed += tally.failed;
        self.freed_bytes = self.freed_bytes.saturating_add(tally.freed.0);
    }
}

/// A failure of the report.
#[derive(Serialize)]
struct Failed<'a> {
    zone: &'a str,
    #[serde(flatten)]
    path: Pathname<'a>,
    action: &'static str,
    errno: Option<String>,
    message: &'a str,
}

/// One entry.
#[derive(Serialize)]
struct Line<'a> {
    zone: &'a str,
    #[serde(flatten)]
    path: Pathname<'a>,
    outcome: &'static str,
    reason: &'a str,
    age_s: Option<i64>,
    ttl_s: Option<i64>,
    bytes: u64,
}

/// A path, and its bytes if text cannot hold them.
#[derive(Serialize)]
pub struct Pathname<'a> {
    path: Lossy<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
}

impl<'a> Pathname<'a> {
    /// As `path`, and `path_hex` where that is needed.
    pub fn new(path: &'a Path) -> Self {
        let bytes = path.as_os_str().as_bytes();
        let path_hex = path.to_str().is_none().then(|| {
            bytes.iter().fold(String::with_capacity(bytes.len() * 2), |hex, byte| {
                hex + &format!("{byte:02x}")
            })
        });
        Self { path: Lossy(path), path_hex }
    }
}

/// A path as text.
pub struct Lossy<'a>(pub &'a Path);

impl Serialize for Lossy<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0.to_string_lossy())
    }
}

/// The number of a device as `stat` shows it, from its major number in the upper half.
pub(super) const fn device_number(dev: u64) -> u64 {
    let (major, minor) = (dev >> 32, dev & 0xFFFF_FFFF);
    (major & 0xFFFF_F000) << 32
        | (major & 0xFFF) << 8
        | (minor & 0xFFFF_FF00) << 12
        | (minor & 0xFF)
}

/// Writes any value for stdout, escaped as in a report: over several lines for a person at a terminal, and on one line
/// for a program, which may read lines.
///
/// # Errors
/// `out` cannot be written, or the value has no form in JSON.
pub fn write_whole(mut out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    write(&mut out, value, io::stdout().is_terminal().then(PrettyFormatter::new))
}

/// Writes any value on one line, escaped as in a report.
pub(super) fn write_line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    write(out, value, None)
}

/// Writes what happened to one entry as a line.
///
/// # Errors
/// `out` cannot be written.
pub fn outcome(out: &mut impl Write, outcome: &Outcome<'_>, mode: RunMode) -> io::Result<()> {
    let path = outcome.path();
    let errno;
    let (kind, reason) = match &outcome.kind {
        OutcomeKind::Removed => {
            let reason = if outcome.is_early { "pressure" } else { "expired" };
            match mode {
                RunMode::Real => ("removed", reason),
                RunMode::DryRun => ("would_remove", reason),
            }
        }
        OutcomeKind::Kept(kept) => ("kept", kept.why.key()),
        OutcomeKind::Skipped(why) => ("skipped", why.key()),
        OutcomeKind::Failed(failure) => {
            errno = failure.error.raw_os_error().map(errno::name);
            ("failed", errno.as_deref().unwrap_or_else(|| failure.action.key()))
        }
    };
    let line = Line {
        zone: outcome.zone.as_str(),
        path: Pathname::new(&path),
        outcome: kind,
        reason,
        age_s: outcome.age.map(Age::as_secs),
        ttl_s: outcome.ttl.map(Ttl::as_secs),
        bytes: outcome.freed.0,
    };
    write(out, &line, None)
}

/// Writes the report as one line.
///
/// # Errors
/// `out` cannot be written.
pub fn line(
    mut out: &mut dyn Write,
    info: &RunInfo<'_>,
    summary: &Summary,
    elapsed: Duration,
    exit: ExitCode,
) -> io::Result<()> {
    write(&mut out, &object(info, summary, elapsed, exit), None)
}

/// Writes the report for stdout, as [`write_whole`] does.
///
/// # Errors
/// `out` cannot be written.
pub fn whole(
    out: &mut dyn Write,
    info: &RunInfo<'_>,
    summary: &Summary,
    elapsed: Duration,
    exit: ExitCode,
) -> io::Result<()> {
    write_whole(out, &object(info, summary, elapsed, exit))
}

/// Writes the report as an object over several lines.
///
/// # Errors
/// `out` cannot be written.
#[cfg(test)]
pub(super) fn pretty(
    out: &mut impl Write,
    info: &RunInfo<'_>,
    summary: &Summary,
    elapsed: Duration,
    exit: ExitCode,
) -> io::Result<()> {
    write(out, &object(info, summary, elapsed, exit), Some(PrettyFormatter::new()))
}

/// Reads an object, which may be the last of several lines.
pub(super) fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).or_else(|whole| {
        let last = bytes.trim_ascii().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        serde_json::from_slice(last).map_err(|_| whole.to_string())
    })
}

/// Reads the objects in `bytes` that have a `schema`. Other objects are entries, or what was logged, as other lines are.
pub(super) fn read_each<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<Vec<T>, String> {
    #[derive(serde::Deserialize)]
    struct Any {
        schema: Option<serde::de::IgnoredAny>,
    }
    let (mut found, mut rest) = (Vec::new(), bytes.trim_ascii_start());
    while !rest.is_empty() {
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<Any>();
        let value = values.next();
        let (object, after) = rest.split_at(values.byte_offset());
        rest = match value {
            Some(Ok(any)) => {
                if any.schema.is_some() {
                    found.push(serde_json::from_slice(object).map_err(|why| why.to_string())?);
                }
                after
            }
            Some(Err(why)) if rest.starts_with(b"{") => return Err(why.to_string()),
            _ => rest.iter().position(|byte| *byte == b'\n').map_or(&[], |end| &rest[end..]),
        };
        rest = rest.trim_ascii_start();
    }
    Ok(found)
}

fn object<'a>(
    info: &RunInfo<'a>,
    summary: &'a Summary,
    elapsed: Duration,
    exit: ExitCode,
) -> Object<'a> {
    let mut totals = Counts::default();
    for zone in &summary.zones {
        totals.add(&zone.tally);
    }
    let failures = summary.zones.iter().flat_map(|zone| {
        zone.tally.failures.iter().map(|failure| of_failure(zone.zone.as_str(), failure))
    });
    Object {
        schema: 1,
        command: info.command,
        dry_run: info.mode == RunMode::DryRun,
        now: units::rfc3339(info.now),
        data_root: Lossy(info.data_root),
        shard: info.shard.map(|shard| shard.to_string()),
        elapsed_s: (elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
        stopped: summary.stopped.map(StopReason::key),
        zones: summary.zones.iter().map(of_zone).collect(),
        totals,
        pressure: summary.relief.iter().map(|relief| of_relief(relief, info.mode)).collect(),
        failures: failures.take(LISTED_FAILURES).collect(),
        exit: exit.number(),
    }
}

fn of_relief(relief: &Relief, mode: RunMode) -> PressureObject<'_> {
    PressureObject { path: Pathname::new(&relief.path), relief: relief::object(relief, mode) }
}

fn of_zone(zone: &ZoneSummary) -> ZoneObject<'_> {
    let tally = &zone.tally;
    ZoneObject {
        zone: zone.zone.as_str(),
        path: Pathname::new(&zone.path),
        seen: tally.reported(),
        removed: tally.removed,
        kept: tally.kept(),
        skipped: tally.skipped(),
        failed: tally.failed,
        kept_by: Reasons(
            KeptReason::ALL
                .into_iter()
                .map(|why| (why, tally.kept_by[why as usize]))
                .filter(|(why, count)| why.is_common() || *count > 0)
                .map(|(why, count)| (why.key(), count))
                .collect(),
        ),
        skipped_by: Reasons(
            Skipped::ALL.map(|why| (why.key(), tally.skipped_by[why as usize])).to_vec(),
        ),
        freed_bytes: tally.freed.0,
        notes: &zone.notes,
    }
}

fn of_failure<'a>(zone: &'a str, failure: &'a ListedFailure) -> Failed<'a> {
    Failed {
        zone,
        path: Pathname::new(&failure.path),
        action: failure.action.key(),
        errno: failure.errno.map(errno::name),
        message: &failure.message,
    }
}

/// Over several lines if there is a formatter for that.
fn write(
    out: &mut impl Write,
    value: &impl Serialize,
    pretty: Option<PrettyFormatter<'static>>,
) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(&mut *out, Visible::new(pretty)))?;
    writeln!(out)
}

#[cfg(test)]
mod tests;
