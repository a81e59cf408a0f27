//! A usage for programs: schema 1, described in `docs/schema/usage-1.schema.json`.
//!
//! This module must not leave out a field: what is not known is `null`.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use crate::protocol::{ExitCode, ListedFailure, StopReason};
use crate::report::json::{Pathname, write_whole};
use crate::rules::Bytes;
use crate::units::{self, errno};
use crate::usage::model::{AGES_S, ByAge, Forecast, HORIZONS_S};
use crate::usage::uploads::Remains;
use crate::usage::{AreaUsage, Unreached, UnreachedUsage, Usage};

#[derive(Serialize)]
struct Object<'a> {
    schema: u32,
    command: &'static str,
    now: String,
    data_root: String,
    volume: Option<Volume>,
    areas: Vec<Area<'a>>,
    totals: Totals,
    forecast: Vec<Within>,
    ages: Vec<Range>,
    kinds: Vec<Kind>,
    owners: Vec<Owner>,
    unreachable: Vec<Unreachable<'a>>,
    failed: u64,
    failures: Vec<Failed<'a>>,
    mount_points: u64,
    mounts: Vec<Pathname<'a>>,
    notes: &'a [String],
    stopped: Option<&'static str>,
    exit: u8,
}

/// The file system of the data root.
#[derive(Serialize)]
struct Volume {
    bytes: u64,
    bytes_used: u64,
    bytes_available: u64,
    inodes: u64,
    inodes_used: u64,
}

#[derive(Serialize)]
struct Area<'a> {
    #[serde(rename = "area")]
    name: &'a str,
    #[serde(flatten)]
    path: Pathname<'a>,
    in_data_root: bool,
    entries: u64,
    inodes: u64,
    allocated_bytes: u64,
    expired_bytes: u64,
    removed_by: Option<&'a str>,
    forecast: Vec<Within>,
    ages: Vec<Range>,
}

#[derive(Serialize)]
struct Totals {
    inodes: u64,
    allocated_bytes: u64,
}

/// What expires within a time.
#[derive(Serialize)]
struct Within {
    within_s: u64,
    allocated_bytes: u64,
}

/// What has an age from the first to below the second.
#[derive(Serialize)]
struct Range {
    from_s: i64,
    to_s: Option<i64>,
    allocated_bytes: u64,
}

#[derive(Serialize)]
struct Kind {
    owner: Option<&'static str>,
    content: Option<&'static str>,
    files: u64,
    allocated_bytes: u64,
    ages: Vec<Range>,
}

#[derive(Serialize)]
struct Owner {
    #[serde(rename = "owner")]
    kind: &'static str,
    id: u64,
    files: u64,
    allocated_bytes: u64,
}

/// What the application can no longer reach.
#[derive(Serialize)]
struct Unreachable<'a> {
    kind: &'static str,
    area: &'a str,
    entries: u64,
    allocated_bytes: u64,
    expired_bytes: u64,
    removed_by: Option<&'a str>,
}

#[derive(Serialize)]
struct Failed<'a> {
    #[serde(flatten)]
    path: Pathname<'a>,
    action: &'static str,
    errno: Option<String>,
    message: &'a str,
}

/// Writes the object.
pub(super) fn write(out: &mut impl Write, usage: &Usage, exit: ExitCode) -> io::Result<()> {
    let volume = usage.space.map(|space| Volume {
        bytes: space.bytes,
        bytes_used: space.bytes_used,
        bytes_available: space.bytes_available,
        inodes: space.inodes,
        inodes_used: space.inodes_used,
    });
    let totals = Totals { inodes: usage.totals.inodes, allocated_bytes: usage.totals.allocated.0 };
    let object = Object {
        schema: 1,
        command: "usage",
        now: units::rfc3339(usage.now),
        data_root: usage.data_root.to_string_lossy().into_owned(),
        volume,
        areas: usage.areas.iter().map(area).collect(),
        totals,
        forecast: forecast(&usage.forecast),
        ages: ages(&usage.by_age),
        kinds: kinds(usage),
        owners: owners(usage),
        unreachable: usage.unreached.iter().map(unreachable).collect(),
        failed: usage.failed,
        failures: usage.failures.iter().map(failure).collect(),
        mount_points: usage.mount_points,
        mounts: usage.mounts.iter().map(|path| Pathname::new(path as &Path)).collect(),
        notes: &usage.notes,
        stopped: usage.stopped.map(StopReason::key),
        exit: exit.number(),
    };
    write_whole(out, &object)
}

fn area(area: &AreaUsage) -> Area<'_> {
    Area {
        name: &area.name,
        path: Pathname::new(&area.path),
        in_data_root: !area.is_outside,
        entries: area.entries,
        inodes: area.totals.inodes,
        allocated_bytes: area.totals.allocated.0,
        expired_bytes: area.expired.0,
        removed_by: area.removed_by.command(),
        forecast: forecast(&area.forecast),
        ages: ages(&area.by_age),
    }
}

fn forecast(forecast: &Forecast) -> Vec<Within> {
    let within = |(within_s, Bytes(bytes)): (&u64, &Bytes)| Within {
        within_s: *within_s,
        allocated_bytes: *bytes,
    };
    HORIZONS_S.iter().zip(forecast).map(within).collect()
}

fn ages(by_age: &ByAge) -> Vec<Range> {
    let from = [0].into_iter().chain(AGES_S);
    let to = AGES_S.into_iter().map(Some).chain([None]);
    let ranges = from.zip(to).zip(by_age);
    ranges.map(|((from_s, to_s), bytes)| Range { from_s, to_s, allocated_bytes: bytes.0 }).collect()
}

fn kinds(usage: &Usage) -> Vec<Kind> {
    let kinds = usage.kinds.iter().map(|kind| Kind {
        owner: kind.owner,
        content: kind.content,
        files: kind.files,
        allocated_bytes: kind.allocated.0,
        ages: ages(&kind.by_age),
    });
    kinds.collect()
}

fn owners(usage: &Usage) -> Vec<Owner> {
    let owners = usage.owners.iter().map(|of| Owner {
        kind: of.owner.kind,
        id: of.owner.id,
        files: of.files,
        allocated_bytes: of.allocated.0,
    });
    owners.collect()
}

fn unreachable(part: &UnreachedUsage) -> Unreachable<'_> {
    Unreachable {
        kind: match part.why {
            Unreached::OutOfUse => "out_of_use",
            Unreached::Upload(Remains::NoProgress) => "upload_without_progress",
            Unreached::Upload(Remains::NoRecord) => "upload_without_record",
            Unreached::Upload(Remains::NoContent) => "record_without_upload",
        },
        area: &part.area,
        entries: part.entries,
        allocated_bytes: part.allocated.0,
        expired_bytes: part.expired.0,
        removed_by: part.removed_by.command(),
    }
}

fn failure(failure: &ListedFailure) -> Failed<'_> {
    Failed {
        path: Pathname::new(&failure.path),
        action: failure.action.key(),
        errno: failure.errno.map(errno::name),
        message: &failure.message,
    }
}
