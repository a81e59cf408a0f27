//! Adds the reports of several sweepers that shared a volume into the report that one would have made.
//!
//! It must not guess: reports that are not parts of one pass are refused, with the reason, and what
//! cannot be read is no zero. They come back as the very counts that they were made of, so that the sum
//! is written by the same code as any report.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{Format, Mode, Occasion, errno, json, text};
use crate::condemn::Spared;
use crate::exit::ExitCode;
use crate::retention::{Bytes, KeptBy, Moment, Shard, Zone};
use crate::stop::Stopped;
use crate::sweep::tally::ListedFailure;
use crate::sweep::{Summary, Tally, ZoneSummary};
use crate::units;

/// How many missing shards are named.
const NAMED: usize = 10;

/// A report as it was written, as far as the sum depends on it.
#[derive(Deserialize)]
struct Told {
    schema: u32,
    command: String,
    rehearsal: bool,
    now: String,
    volume: String,
    shard: Option<String>,
    elapsed_s: f64,
    stopped: Option<String>,
    zones: Vec<ToldZone>,
    failures: Vec<ToldFailure>,
    exit: u8,
}

#[derive(Deserialize)]
struct ToldZone {
    zone: String,
    seen: u64,
    removed: u64,
    failed: u64,
    kept_by: BTreeMap<String, u64>,
    spared_by: BTreeMap<String, u64>,
    freed_bytes: u64,
    notes: Vec<String>,
}

#[derive(Deserialize)]
struct ToldFailure {
    zone: String,
    path: String,
    path_hex: Option<String>,
    doing: String,
    errno: Option<String>,
    message: String,
}

/// One report.
#[derive(Debug)]
struct Part {
    /// What it is called, for people.
    name: String,
    command: &'static str,
    mode: Mode,
    now: Moment,
    volume: PathBuf,
    shard: Shard,
    elapsed: Duration,
    summary: Summary,
    exit: ExitCode,
}

/// The sum of several reports.
#[derive(Debug)]
pub struct Merged {
    command: &'static str,
    mode: Mode,
    now: Moment,
    volume: PathBuf,
    elapsed: Duration,
    summary: Summary,
    /// What they amount to together.
    pub exit: ExitCode,
}

/// Adds reports, each with what it is called.
///
/// A shard that was stopped and run again has two reports. Of the earlier only what it removed counts:
/// the later one has seen all the rest again. A shard without a report is noted and makes the sum one of
/// a pass that was stopped.
///
/// # Errors
/// Why they cannot be added.
pub fn merge(reports: &[(String, Vec<u8>)]) -> Result<Merged, String> {
    let parts = reports.iter().map(|(name, bytes)| Part::read(name, bytes));
    let mut parts = parts.collect::<Result<Vec<Part>, String>>()?;
    // Of those of one shard the one that counts comes first: it was not stopped, or is the latest.
    parts.sort_by_key(|part| {
        (part.shard, part.summary.stopped.is_some(), std::cmp::Reverse(part.now))
    });
    let mut rest = parts.into_iter();
    let mut sum = rest.next().ok_or("no reports were given")?;
    let (mut shards, first) = (BTreeSet::from([sum.shard]), sum.name.clone());
    for mut part in rest {
        part.check_goes_with(&sum, &first)?;
        if !shards.insert(part.shard) {
            if part.summary.stopped.is_none() {
                let Part { name, shard, .. } = part;
                return Err(format!("{name} and another are both of shard {shard}, and complete"));
            }
            part.keep_only_removals();
        }
        sum.add(part);
    }
    let count = sum.shard.count();
    let has = |index| Shard::new(index, count).is_ok_and(|shard| shards.contains(&shard));
    let missing: Vec<String> = (0..count)
        .filter(|index| !has(*index))
        .take(NAMED + 1)
        .map(|index| index.to_string())
        .collect();
    let mut exit = sum.exit;
    if !missing.is_empty() {
        let more = if missing.len() > NAMED { " and more" } else { "" };
        let named = missing[..missing.len().min(NAMED)].join(", ");
        let note = format!("no report of the shards {named}{more} of {count}: this is not all");
        sum.summary.zones.iter_mut().take(1).for_each(|zone| zone.notes.push(note.clone()));
        exit = exit.max(ExitCode::Stopped);
    }
    let Part { command, mode, now, volume, elapsed, summary, .. } = sum;
    Ok(Merged { command, mode, now, volume, elapsed, summary, exit })
}

impl Merged {
    /// Writes the sum as a report.
    ///
    /// # Errors
    /// What `out` says.
    pub fn write(&self, out: &mut impl Write, format: Format) -> io::Result<()> {
        let Self { command, mode, now, elapsed, exit, .. } = *self;
        let occasion = Occasion { command, mode, now, volume: &self.volume, shard: None };
        match format {
            Format::Text => text::summary(out, &occasion, &self.summary, elapsed),
            Format::Json => json::pretty(out, &occasion, &self.summary, elapsed, exit),
            Format::Jsonl => json::line(out, &occasion, &self.summary, elapsed, exit),
        }
    }
}

impl Part {
    fn read(name: &str, bytes: &[u8]) -> Result<Self, String> {
        Self::told(name, bytes).map_err(|why| format!("{name}: {why}"))
    }

    fn told(name: &str, bytes: &[u8]) -> Result<Self, String> {
        let told: Told = json::read(bytes).map_err(|why| format!("not a report: {why}"))?;
        if told.schema != 1 {
            return Err(format!("schema {} is not known here, 1 is", told.schema));
        }
        let command = match told.command.as_str() {
            "run" => "run",
            "legacy" => "legacy",
            other => return Err(format!("a report of {other:?}, not of run or legacy")),
        };
        let shard = told.shard.as_deref().unwrap_or("0/1");
        let shard = Shard::parse(shard).map_err(|why| format!("shard {shard:?}: {why}"))?;
        let stopped = told.stopped.as_deref().map(stopped).transpose()?;
        let mut zones = told.zones.iter().map(zone).collect::<Result<Vec<_>, String>>()?;
        for failure in told.failures {
            let at = zones.iter_mut().find(|zone| zone.zone.name() == failure.zone);
            let at = at.ok_or_else(|| format!("no zone {:?}", failure.zone))?;
            at.tally.failures.push(listed(failure)?);
        }
        Ok(Self {
            name: name.to_owned(),
            command,
            mode: if told.rehearsal { Mode::Rehearsal } else { Mode::Real },
            now: units::moment(&told.now).map_err(|why| format!("now: {why}"))?,
            volume: PathBuf::from(told.volume),
            shard,
            elapsed: Duration::try_from_secs_f64(told.elapsed_s)
                .map_err(|error| format!("elapsed_s: {error}"))?,
            summary: Summary { zones, stopped },
            exit: match told.exit {
                0 => ExitCode::Done,
                1 => ExitCode::SomeFailed,
                3 => ExitCode::Stopped,
                4 => ExitCode::NoLock,
                other => return Err(format!("no pass exits with {other}")),
            },
        })
    }

    /// Whether it is of the same pass as the others.
    fn check_goes_with(&self, sum: &Self, first: &str) -> Result<(), String> {
        let zones = |part: &Self| {
            let names = part.summary.zones.iter().map(|zone| zone.zone.name());
            names.collect::<Vec<_>>().join(",")
        };
        let mode = |part: &Self| match part.mode {
            Mode::Real => "no".to_owned(),
            Mode::Rehearsal => "yes".to_owned(),
        };
        for (what, ours, theirs) in [
            ("command", self.command.to_owned(), sum.command.to_owned()),
            ("a rehearsal", mode(self), mode(sum)),
            ("volume", units::shown(&self.volume), units::shown(&sum.volume)),
            ("zones", zones(self), zones(sum)),
            ("number of shards", self.shard.count().to_string(), sum.shard.count().to_string()),
        ] {
            if ours != theirs {
                let ours = format!("{what}: {ours} in {}, {theirs} in {first}", self.name);
                return Err(format!("{ours}: they are not parts of one pass"));
            }
        }
        Ok(())
    }

    /// What another report on the same shard has not seen again.
    fn keep_only_removals(&mut self) {
        for zone in &mut self.summary.zones {
            let Tally { removed, freed, .. } = zone.tally;
            zone.tally = match self.mode {
                Mode::Real => Tally { seen: removed, removed, freed, ..Tally::default() },
                Mode::Rehearsal => Tally::default(),
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

fn stopped(key: &str) -> Result<Stopped, String> {
    let all = [Stopped::Signal, Stopped::Deadline, Stopped::MaxRemovals];
    all.into_iter().find(|why| why.key() == key).ok_or_else(|| format!("stopped by {key:?}?"))
}

fn zone(told: &ToldZone) -> Result<ZoneSummary, String> {
    let zone = Zone::ALL.into_iter().find(|zone| zone.name() == told.zone);
    let zone = zone.ok_or_else(|| format!("no zone {:?} is known here", told.zone))?;
    let tally = Tally {
        seen: told.seen,
        removed: told.removed,
        kept_by: reasons(&told.kept_by, KeptBy::ALL.map(KeptBy::key))?,
        spared_by: reasons(&told.spared_by, Spared::ALL.map(Spared::key))?,
        failed: told.failed,
        unreached: 0,
        freed: Bytes(told.freed_bytes),
        failures: Vec::new(),
    };
    if !tally.is_conserved() {
        return Err(format!("the counts of {} do not add up", zone.name()));
    }
    let notes = told.notes.iter().map(|note| visible(note)).collect();
    Ok(ZoneSummary { zone, tally, notes, no_lock: None })
}

/// Counts by reason, in the order of the tally.
fn reasons<const N: usize>(
    told: &BTreeMap<String, u64>,
    keys: [&'static str; N],
) -> Result<[u64; N], String> {
    if let Some(key) = told.keys().find(|key| !keys.contains(&key.as_str())) {
        return Err(format!("no reason {key:?} is known here"));
    }
    Ok(keys.map(|key| told.get(key).copied().unwrap_or(0)))
}

fn listed(told: ToldFailure) -> Result<ListedFailure, String> {
    let path = match &told.path_hex {
        None => PathBuf::from(told.path),
        Some(hex) => {
            let digits = hex.as_bytes().chunks(2);
            let bytes =
                digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
            let bytes: Option<Vec<u8>> = bytes.collect();
            PathBuf::from(OsString::from_vec(bytes.ok_or("path_hex is not hexadecimal")?))
        }
    };
    let errno = told.errno.as_deref().map(|name| {
        errno::number(name).ok_or_else(|| format!("{name:?} is no error number's name"))
    });
    Ok(ListedFailure {
        path,
        doing: visible(&told.doing).into(),
        errno: errno.transpose()?,
        message: visible(&told.message),
    })
}

/// Text that was read, without what steers a terminal.
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
mod tests {
    use super::*;

    #[test]
    fn what_is_read_cannot_steer_a_terminal() {
        assert_eq!(visible("\"a\\b\" \u{1b}[31m\n\u{202e}é"), "\"a\\b\" \\u{1b}[31m\\n\\u{202e}é");
    }
}
