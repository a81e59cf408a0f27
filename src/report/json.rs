//! The report for programs: schema 1.
//!
//! It must not print a byte that steers a terminal: beside what JSON demands, all that is not plain
//! visible text is escaped as `\uXXXX`, and a path that is not UTF-8 has `path_hex` beside it.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

use super::{Mode, Occasion, errno};
use crate::condemn::{Fate, Spared};
use crate::config::Row;
use crate::exit::ExitCode;
use crate::retention::KeptBy;
use crate::sweep::tally::ListedFailure;
use crate::sweep::{Outcome, Summary, Tally, ZoneSummary};
use crate::units;

#[derive(Serialize)]
struct Object<'a> {
    schema: u32,
    command: &'static str,
    rehearsal: bool,
    now: String,
    volume: Shown<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<String>,
    elapsed_s: f64,
    stopped: Option<&'static str>,
    zones: Vec<Zone<'a>>,
    totals: Counts,
    failures: Vec<Failed<'a>>,
    exit: u8,
}

#[derive(Serialize)]
struct Zone<'a> {
    #[serde(rename = "zone")]
    name: &'static str,
    root: String,
    #[serde(flatten)]
    counts: Counts,
    kept_by: Reasons,
    spared_by: Reasons,
    notes: &'a [String],
}

/// Reasons with their counts.
type Reasons = BTreeMap<&'static str, u64>;

#[derive(Serialize, Default)]
struct Counts {
    seen: u64,
    removed: u64,
    kept: u64,
    spared: u64,
    failed: u64,
    freed_bytes: u64,
}

impl Counts {
    fn of(tally: &Tally) -> Self {
        Self {
            seen: tally.reported(),
            removed: tally.removed,
            kept: tally.kept(),
            spared: tally.spared(),
            failed: tally.failed,
            freed_bytes: tally.freed.0,
        }
    }

    fn add(&mut self, other: &Self) {
        self.seen += other.seen;
        self.removed += other.removed;
        self.kept += other.kept;
        self.spared += other.spared;
        self.failed += other.failed;
        self.freed_bytes += other.freed_bytes;
    }
}

#[derive(Serialize)]
struct Failed<'a> {
    zone: &'static str,
    #[serde(flatten)]
    path: Pathname<'a>,
    doing: &'a str,
    errno: Option<String>,
    message: &'a str,
}

#[derive(Serialize)]
struct Line<'a> {
    zone: &'static str,
    #[serde(flatten)]
    path: Pathname<'a>,
    fate: &'static str,
    reason: String,
    age_s: Option<i64>,
    ttl_s: Option<i64>,
    bytes: u64,
}

/// A path, and its bytes where text cannot hold them.
#[derive(Serialize)]
struct Pathname<'a> {
    path: Shown<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
}

impl<'a> Pathname<'a> {
    fn of(path: &'a Path) -> Self {
        let bytes = path.as_os_str().as_bytes();
        let path_hex = path.to_str().is_none().then(|| {
            bytes.iter().fold(String::with_capacity(bytes.len() * 2), |hex, byte| {
                hex + &format!("{byte:02x}")
            })
        });
        Self { path: Shown(path), path_hex }
    }
}

struct Shown<'a>(&'a Path);

impl Serialize for Shown<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0.to_string_lossy())
    }
}

/// Writes the settings with their origins, as an object by key.
///
/// # Errors
/// What `out` says.
pub fn settings(out: &mut impl Write, rows: &[Row]) -> io::Result<()> {
    #[derive(Serialize)]
    struct Told<'a> {
        value: &'a str,
        origin: String,
    }
    let all: BTreeMap<&str, Told<'_>> = rows
        .iter()
        .map(|row| (row.key, Told { value: &row.value, origin: row.origin.to_string() }))
        .collect();
    write(out, &all, PrettyFormatter::new())
}

/// Writes one outcome as a line.
///
/// # Errors
/// What `out` says.
pub fn outcome(out: &mut impl Write, outcome: &Outcome<'_>) -> io::Result<()> {
    let path = super::path_of(outcome);
    let (fate, reason) = match &outcome.fate {
        Fate::Removed => ("removed", "expired".to_owned()),
        Fate::Kept(kept) => ("kept", kept.why.key().to_owned()),
        Fate::Spared(why) => ("spared", why.key().to_owned()),
        Fate::Failed(failure) => {
            let errno = failure.error.raw_os_error().map(errno::name);
            ("failed", errno.unwrap_or_else(|| failure.doing.to_owned()))
        }
    };
    let line = Line {
        zone: outcome.place.zone.name(),
        path: Pathname::of(&path),
        fate,
        reason,
        age_s: outcome.age.map(crate::retention::Age::as_secs),
        ttl_s: outcome.ttl.map(crate::retention::Ttl::as_secs),
        bytes: outcome.freed.0,
    };
    write(out, &line, CompactFormatter)
}

/// Writes the summary as one line.
///
/// # Errors
/// What `out` says.
pub fn line(
    out: &mut impl Write,
    occasion: &Occasion<'_>,
    summary: &Summary,
    elapsed: Duration,
    exit: ExitCode,
) -> io::Result<()> {
    write(out, &object(occasion, summary, elapsed, exit), CompactFormatter)
}

/// Writes the summary as an object over several lines.
///
/// # Errors
/// What `out` says.
pub fn pretty(
    out: &mut impl Write,
    occasion: &Occasion<'_>,
    summary: &Summary,
    elapsed: Duration,
    exit: ExitCode,
) -> io::Result<()> {
    write(out, &object(occasion, summary, elapsed, exit), PrettyFormatter::new())
}

/// Reads an object, which may be the last of several lines.
pub(super) fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).or_else(|whole| {
        let last = bytes.trim_ascii().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        serde_json::from_slice(last).map_err(|_| whole.to_string())
    })
}

fn object<'a>(
    occasion: &Occasion<'a>,
    summary: &'a Summary,
    elapsed: Duration,
    exit: ExitCode,
) -> Object<'a> {
    let mut totals = Counts::default();
    let zones: Vec<Zone<'_>> = summary.zones.iter().map(|zone| of_zone(occasion, zone)).collect();
    for zone in &zones {
        totals.add(&zone.counts);
    }
    let failures = summary.zones.iter().flat_map(|zone| {
        zone.tally.failures.iter().map(|failure| of_failure(zone.zone.name(), failure))
    });
    Object {
        schema: 1,
        command: occasion.command,
        rehearsal: occasion.mode == Mode::Rehearsal,
        now: units::rfc3339(occasion.now),
        volume: Shown(occasion.volume),
        shard: occasion.shard.map(|shard| shard.to_string()),
        elapsed_s: (elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
        stopped: summary.stopped.map(crate::stop::Stopped::key),
        zones,
        totals,
        failures: failures.take(crate::sweep::tally::LISTED_FAILURES).collect(),
        exit: exit.number(),
    }
}

fn of_zone<'a>(occasion: &Occasion<'_>, zone: &'a ZoneSummary) -> Zone<'a> {
    let tally = &zone.tally;
    let kept_by = KeptBy::ALL.iter().zip(tally.kept_by).map(|(why, count)| (why.key(), count));
    let spared_by = Spared::ALL.iter().zip(tally.spared_by).map(|(why, count)| (why.key(), count));
    let root = match zone.zone {
        crate::retention::Zone::Export => occasion.volume.join("cache/export"),
        crate::retention::Zone::Tmp => occasion.volume.join("tmp"),
        crate::retention::Zone::InstanceTmp | crate::retention::Zone::Legacy => {
            occasion.volume.to_owned()
        }
    };
    Zone {
        name: zone.zone.name(),
        root: root.to_string_lossy().into_owned(),
        counts: Counts::of(tally),
        kept_by: kept_by.collect(),
        spared_by: spared_by.collect(),
        notes: &zone.notes,
    }
}

fn of_failure<'a>(zone: &'static str, failure: &'a ListedFailure) -> Failed<'a> {
    Failed {
        zone,
        path: Pathname::of(&failure.path),
        doing: &failure.doing,
        errno: failure.errno.map(errno::name),
        message: &failure.message,
    }
}

fn write(out: &mut impl Write, value: &impl Serialize, format: impl Formatter) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(&mut *out, Visible(format)))?;
    writeln!(out)
}

/// A formatter that lets through visible text only.
struct Visible<F>(F);

impl<F: Formatter> Formatter for Visible<F> {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        text: &str,
    ) -> io::Result<()> {
        for c in text.chars() {
            // `escape_debug` knows what is visible; JSON has already dealt with quotes and backslashes.
            let visible = matches!(c, '"' | '\'' | '\\') || c.escape_debug().count() == 1;
            if visible {
                out.write_all(c.encode_utf8(&mut [0; 4]).as_bytes())?;
            } else {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_array(out)
    }
    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array(out)
    }
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(out, first)
    }
    fn end_array_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array_value(out)
    }
    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object(out)
    }
    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object(out)
    }
    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(out, first)
    }
    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object_value(out)
    }
    fn end_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_value(out)
    }
}
