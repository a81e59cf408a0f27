//! Which numbers of a usage are shown together: one chart for each question.
//!
//! This module must not draw: `picture` and `tables` do.

use crate::rules::Bytes;
use crate::units::{entries, grouped};
use crate::usage::model::{AGES_S, HORIZONS_S, LISTED_OWNERS};
use crate::usage::uploads::Remains;
use crate::usage::{AreaUsage, KindUsage, RemovedBy, Unreached, UnreachedUsage, Usage};

/// Amounts of one kind, to be compared.
pub(super) struct Chart {
    pub(super) title: &'static str,
    pub(super) bars: Vec<Bar>,
    /// What the amounts are parts of, if they are parts of something.
    pub(super) whole: Option<Bytes>,
}

/// One amount.
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) bytes: Bytes,
    /// The part of it that has expired.
    pub(super) expired: Bytes,
    /// How many files or inodes these are, in words.
    pub(super) count: String,
    /// What to know about it besides.
    pub(super) remark: Option<String>,
}

impl Bar {
    fn new(name: impl Into<String>, bytes: Bytes, count: String) -> Self {
        Self { name: name.into(), bytes, expired: Bytes(0), count, remark: None }
    }
}

/// The names of the ranges of ages.
pub(super) const AGES: [&str; AGES_S.len() + 1] = [
    "under 1 h",
    "1 to 6 h",
    "6 to 24 h",
    "1 to 3 d",
    "3 to 7 d",
    "7 to 14 d",
    "14 to 30 d",
    "30 to 90 d",
    "90 d to 1 y",
    "over 1 y",
];

/// The names of the horizons of the forecast.
pub(super) const HORIZONS: [&str; HORIZONS_S.len()] =
    ["1 h", "6 h", "24 h", "3 d", "7 d", "14 d", "30 d"];

/// Every chart that has something to show.
pub(super) fn all(usage: &Usage) -> Vec<Chart> {
    let charts =
        [areas(usage), ages(usage), kinds(usage), owners(usage), unreached(usage), forecast(usage)];
    charts.into_iter().filter(|chart| !chart.bars.is_empty()).collect()
}

fn areas(usage: &Usage) -> Chart {
    let bars = usage.areas.iter().map(|area| {
        let count = inodes(area.totals.inodes);
        let bar = Bar::new(area.name.as_str(), area.totals.allocated, count);
        Bar { expired: area.expired, ..bar }
    });
    let mut bars: Vec<Bar> = bars.collect();
    bars.sort_by_key(|bar| std::cmp::Reverse(bar.bytes));
    Chart { title: "what takes up space", whole: Some(sum(&bars)), bars }
}

fn ages(usage: &Usage) -> Chart {
    let bars = AGES.iter().zip(usage.by_age);
    let bars = bars.map(|(name, bytes)| Bar::new(*name, bytes, String::new()));
    Chart { title: "by age", bars: bars.collect(), whole: Some(usage.totals.allocated) }
}

fn kinds(usage: &Usage) -> Chart {
    let bars =
        usage.kinds.iter().map(|kind| Bar::new(kind_name(kind), kind.allocated, files(kind.files)));
    let mut bars: Vec<Bar> = bars.collect();
    bars.sort_by_key(|bar| std::cmp::Reverse(bar.bytes));
    Chart { title: "exports by kind, old caches included", whole: Some(sum(&bars)), bars }
}

/// A kind of export in words.
pub(super) fn kind_name(kind: &KindUsage) -> String {
    let words: Vec<&str> = [kind.owner, kind.content].into_iter().flatten().collect();
    match kind.content {
        None => format!("{} other", words.join(" ")),
        Some(_) => words.join(" "),
    }
}

fn owners(usage: &Usage) -> Chart {
    let bars = usage.owners.iter().take(LISTED_OWNERS).map(|of| {
        let name = format!("{} {}", of.owner.kind, of.owner.id);
        Bar::new(name, of.allocated, files(of.files))
    });
    let whole = usage.kinds.iter().map(|kind| kind.allocated).sum();
    Chart { title: "the most exports", bars: bars.collect(), whole: Some(whole) }
}

/// What the application can no longer reach.
fn unreached(usage: &Usage) -> Chart {
    let bars = usage.unreached.iter().map(|part| {
        let count = match part.why {
            Unreached::OutOfUse => entries(part.entries),
            Unreached::Upload(_) => files(part.entries),
        };
        let bar = Bar::new(unreached_name(part.why), part.allocated, count);
        Bar { expired: part.expired, remark: Some(unreached_remark(part)), ..bar }
    });
    Chart { title: "no longer in use", bars: bars.collect(), whole: None }
}

/// What is no longer reached, in a few words.
pub(super) const fn unreached_name(why: Unreached) -> &'static str {
    match why {
        Unreached::OutOfUse => "old caches",
        Unreached::Upload(Remains::NoProgress) => "stalled uploads",
        Unreached::Upload(Remains::NoRecord) => "uploads, no record",
        Unreached::Upload(Remains::NoContent) => "records, no upload",
    }
}

/// Where it is, and what removes it.
fn unreached_remark(part: &UnreachedUsage) -> String {
    let area = part.area.escape_debug();
    match part.removed_by.command() {
        Some(command) => format!("in {area}: {command} removes what has expired"),
        None => format!("in {area}: never removed by this program"),
    }
}

/// What has expired and what will have, in the zones that `sweeper run` sweeps.
fn forecast(usage: &Usage) -> Chart {
    let expired = expired_in_runs(usage);
    let now = Bar { expired, ..Bar::new("now", expired, String::new()) };
    let later = HORIZONS.iter().zip(usage.forecast).map(|(horizon, bytes)| {
        let bytes = expired + bytes;
        Bar { expired, ..Bar::new(format!("in {horizon}"), bytes, String::new()) }
    });
    let bars = [now].into_iter().chain(later).collect();
    Chart { title: "what `sweeper run` could remove", bars, whole: None }
}

/// What `sweeper run` could remove now.
pub(super) fn expired_in_runs(usage: &Usage) -> Bytes {
    let runs = usage.areas.iter().filter(|area| matches!(area.removed_by, RemovedBy::Run(_)));
    runs.map(|area| area.expired).sum()
}

/// A share in whole percent. What is there at all is never shown as nothing.
pub(super) fn percent(part: Bytes, all: Bytes) -> String {
    if part.0 == 0 {
        return "0%".to_owned();
    }
    let percent = u128::from(part.0) * 100 / u128::from(all.0.max(1));
    if percent == 0 { "<1%".to_owned() } else { format!("{percent}%") }
}

fn sum(bars: &[Bar]) -> Bytes {
    bars.iter().map(|bar| bar.bytes).sum()
}

/// A command and the areas that it removes expired entries of.
pub(super) struct Removal<'a> {
    /// `None` for what is never removed.
    pub(super) command: Option<&'a str>,
    pub(super) expired: Bytes,
    pub(super) areas: Vec<&'a AreaUsage>,
}

/// Each command that removes something, and then what is never removed.
pub(super) fn removals(usage: &Usage) -> Vec<Removal<'_>> {
    let mut removals: Vec<Removal<'_>> = Vec::new();
    let zones = usage.areas.iter().filter(|area| area.removed_by != RemovedBy::Never);
    let others = usage.areas.iter().filter(|area| area.removed_by == RemovedBy::Never);
    for area in zones.chain(others) {
        let command = area.removed_by.command();
        if let Some(known) = removals.iter_mut().find(|known| known.command == command) {
            known.expired += area.expired;
            known.areas.push(area);
        } else {
            let (expired, areas) = (area.expired, vec![area]);
            removals.push(Removal { command, expired, areas });
        }
    }
    removals
}

/// A number of inodes in words.
fn inodes(count: u64) -> String {
    format!("{} inode{}", grouped(count), plural(count))
}

/// A number of files in words.
fn files(count: u64) -> String {
    format!("{} file{}", grouped(count), plural(count))
}

const fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}
