//! What monitoring reads: counters and times in Prometheus' text format, for a page or for a [`mod@file`].
//!
//! This module must not count anything itself: the numbers are those of the report. A dry run counts nothing,
//! because nothing was removed.

pub mod age;
pub mod file;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::core::Collector;
use prometheus::{GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::fs::Space;
use crate::protocol::{Directory, Observer, Outcome, Relief, RunMode, Skipped, Summary, Tally};
use crate::rules::{KeptReason, Moment, ZoneName};

/// The media type of the text.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// The metrics of the service, or of one run.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    seen: IntCounterVec,
    removed: IntCounterVec,
    kept: IntCounterVec,
    skipped: IntCounterVec,
    failed: IntCounterVec,
    freed: IntCounterVec,
    duration: GaugeVec,
    success: GaugeVec,
    end: GaugeVec,
    left_alone: GaugeVec,
    healthy: GaugeVec,
    bytes: IntGaugeVec,
    inodes: IntGaugeVec,
    unrelieved: IntGauge,
}

impl Metrics {
    /// Metrics of these zones; all counters are zero.
    ///
    /// # Errors
    /// Two metrics have the same name.
    pub fn new(zones: &[ZoneName]) -> Result<Self, String> {
        let metrics = Self::register(&Registry::new());
        let metrics = metrics.map_err(|error| format!("metrics: {error}"))?;
        for zone in zones {
            // Counters start at 0, so that a rate sees their first increase.
            metrics.add(zone, &Tally::default());
        }
        Ok(metrics)
    }

    fn register(all: &Registry) -> prometheus::Result<Self> {
        const ZONE: &[&str] = &["zone"];
        const REASON: &[&str] = &["zone", "reason"];
        const STATE: &[&str] = &["state"];
        let help = "The version that is running.";
        let version = env!("CARGO_PKG_VERSION");
        whole(all, "sweeper_build_info", help, &["version"])?.with_label_values(&[version]).set(1);
        Ok(Self {
            registry: all.clone(),
            seen: counter(all, "sweeper_seen_total", "Entries found.", ZONE)?,
            removed: counter(all, "sweeper_removed_total", "Entries removed.", ZONE)?,
            kept: counter(all, "sweeper_kept_total", "Entries that the rules keep.", REASON)?,
            skipped: counter(all, "sweeper_skipped_total", "Expired entries skipped.", REASON)?,
            failed: counter(all, "sweeper_failed_total", "Entries that failed.", ZONE)?,
            freed: counter(all, "sweeper_freed_bytes_total", "Disk space freed.", ZONE)?,
            duration: gauge(all, "sweeper_pass_duration_seconds", "How long the last pass took.")?,
            success: gauge(
                all,
                "sweeper_last_success_timestamp_seconds",
                "When the last pass that swept the whole zone without failures ended.",
            )?,
            end: gauge(all, "sweeper_last_end_timestamp_seconds", "When the last pass ended.")?,
            left_alone: gauge(
                all,
                "sweeper_left_alone",
                "1 if the last pass left the zone alone because a lock or ClearML server could not be used or another sweeper was at work, else 0.",
            )?,
            healthy: gauge(
                all,
                "sweeper_healthy",
                "1 if /healthz calls the zone healthy, else 0.",
            )?,
            bytes: whole(
                all,
                "sweeper_volume_bytes",
                "Bytes of the file system that users can have, as in df.",
                STATE,
            )?,
            unrelieved: {
                let help = "1 if a file system is still too full after the last pass with --pressure \
                            or --keep-free, else 0.";
                added(all, IntGauge::new("sweeper_pressure_unrelieved", help))?
            },
            inodes: whole(
                all,
                "sweeper_volume_inodes",
                "Inodes of the file system; 0 where there is no limit.",
                STATE,
            )?,
        })
    }

    /// Counts a pass that ended at `end`. `durations` says how long each zone took. A dry run is no success, so that an
    /// alert tells of a service that is forgotten in that mode.
    pub fn count(
        &self,
        mode: RunMode,
        summary: &Summary,
        durations: &[(ZoneName, Duration)],
        end: Moment,
    ) {
        for zone in &summary.zones {
            if mode == RunMode::Real {
                self.add(&zone.zone, &zone.tally);
            }
            let name = &[zone.zone.as_str()];
            self.end.with_label_values(name).set(seconds(end));
            let is_left_alone = zone.no_lock.is_some();
            self.left_alone.with_label_values(name).set(f64::from(u8::from(is_left_alone)));
            if mode == RunMode::Real && zone.problem(summary.stopped).is_none() {
                self.success.with_label_values(name).set(seconds(end));
            }
        }
        if mode == RunMode::Real && !summary.relief.is_empty() {
            let is_unrelieved = summary.relief.iter().any(Relief::is_unrelieved);
            self.unrelieved.set(i64::from(is_unrelieved));
        }
        for (zone, duration) in durations {
            self.duration.with_label_values(&[zone.as_str()]).set(duration.as_secs_f64());
        }
    }

    fn add(&self, zone: &ZoneName, tally: &Tally) {
        let zone = zone.as_str();
        self.seen.with_label_values(&[zone]).inc_by(tally.reported());
        self.removed.with_label_values(&[zone]).inc_by(tally.removed);
        self.failed.with_label_values(&[zone]).inc_by(tally.failed);
        self.freed.with_label_values(&[zone]).inc_by(tally.freed.0);
        let kept = KeptReason::ALL.into_iter().zip(tally.kept_by);
        for (why, count) in kept.filter(|(why, count)| why.is_common() || *count > 0) {
            self.kept.with_label_values(&[zone, why.key()]).inc_by(count);
        }
        for (why, count) in Skipped::ALL.iter().zip(tally.skipped_by) {
            self.skipped.with_label_values(&[zone, why.key()]).inc_by(count);
        }
    }

    /// Sets how full the file system of the data root is.
    pub fn set_space(&self, space: &Space) {
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        // As `df` counts, which leaves out what is reserved for root: otherwise a full disk would not look full.
        self.bytes.with_label_values(&["size"]).set(whole(space.usable()));
        self.bytes.with_label_values(&["used"]).set(whole(space.bytes_used));
        self.inodes.with_label_values(&["size"]).set(whole(space.inodes));
        self.inodes.with_label_values(&["used"]).set(whole(space.inodes_used));
    }

    /// Sets whether each zone is healthy. A zone that is not named has no such metric.
    pub fn set_health(&self, zones: &[(ZoneName, bool)]) {
        self.healthy.reset();
        for (zone, is_healthy) in zones {
            let value = f64::from(u8::from(*is_healthy));
            self.healthy.with_label_values(&[zone.as_str()]).set(value);
        }
    }

    /// The metrics as text.
    pub fn text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }

    /// Starts with what an earlier run wrote: its counts, and the times of each zone until a pass over that
    /// zone is counted. Lines that this program does not write are ignored.
    fn start_with(&self, old: &str) {
        let gauges = [&self.duration, &self.success, &self.end, &self.left_alone];
        let counters = [&self.seen, &self.removed, &self.failed, &self.freed];
        let by_reason = [&self.kept, &self.skipped];
        for line in old.lines().filter(|line| !line.starts_with('#')) {
            let Some((sample, value)) = line.rsplit_once(' ') else { continue };
            if let ("sweeper_pressure_unrelieved", Ok(value)) = (sample, value.parse()) {
                self.unrelieved.set(value);
            }
            let Some((name, labels)) = sample.split_once('{') else { continue };
            let label = |wanted: &str| {
                let mut parts = labels.split('"');
                loop {
                    let key = parts.next()?.trim_matches([',', '=', '{', '}']);
                    let value = parts.next()?;
                    if key == wanted {
                        return Some(value);
                    }
                }
            };
            let Some(zone) = label("zone") else { continue };
            if let (Some(gauge), Ok(value)) = (called(name, gauges), value.parse()) {
                gauge.with_label_values(&[zone]).set(value);
            }
            let Ok(value) = value.parse() else { continue };
            if let Some(counter) = called(name, counters) {
                counter.with_label_values(&[zone]).inc_by(value);
            }
            if let (Some(counter), Some(reason)) = (called(name, by_reason), label("reason")) {
                counter.with_label_values(&[zone, reason]).inc_by(value);
            }
        }
    }
}

/// The metric with this name.
fn called<'a, M: Collector, const N: usize>(name: &str, all: [&'a M; N]) -> Option<&'a M> {
    all.into_iter().find(|metric| metric.desc().iter().any(|desc| desc.fq_name == name))
}

/// Adds a metric to all of them.
fn added<M: Collector + Clone + 'static>(
    all: &Registry,
    metric: prometheus::Result<M>,
) -> prometheus::Result<M> {
    let metric = metric?;
    all.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counter(
    all: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntCounterVec> {
    added(all, IntCounterVec::new(Opts::new(name, help), labels))
}

fn gauge(all: &Registry, name: &str, help: &str) -> prometheus::Result<GaugeVec> {
    added(all, GaugeVec::new(Opts::new(name, help), &["zone"]))
}

fn whole(
    all: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntGaugeVec> {
    added(all, IntGaugeVec::new(Opts::new(name, help), labels))
}

#[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far from 2^52")]
fn seconds(at: Moment) -> f64 {
    at.unix_secs() as f64 + f64::from(at.subsec_nanos()) / 1e9
}

/// An [`Observer`] that measures how long each zone takes and passes everything on to another observer.
#[derive(Debug)]
pub struct Timed<'a, O> {
    observer: &'a O,
    starts: Mutex<Vec<(ZoneName, Instant)>>,
}

impl<'a, O> Timed<'a, O> {
    /// Passes everything on to `observer`.
    pub const fn new(observer: &'a O) -> Self {
        Self { observer, starts: Mutex::new(Vec::new()) }
    }

    /// How long each zone took, until now. The time of retries at the end counts for the last zone.
    pub fn durations(self) -> Vec<(ZoneName, Duration)> {
        let starts = self.starts.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut end = Instant::now();
        let mut durations = Vec::with_capacity(starts.len());
        for (zone, start) in starts.into_iter().rev() {
            durations.push((zone, end.duration_since(start)));
            end = start;
        }
        durations.reverse();
        durations
    }
}

impl<O: Observer> Observer for Timed<'_, O> {
    fn on_zone(&self, zone: &ZoneName) {
        let start = (zone.clone(), Instant::now());
        self.starts.lock().unwrap_or_else(PoisonError::into_inner).push(start);
        self.observer.on_zone(zone);
    }

    fn on_outcome(&self, outcome: &Outcome<'_>) {
        self.observer.on_outcome(outcome);
    }

    fn wants_kept(&self) -> bool {
        self.observer.wants_kept()
    }

    fn on_unlocked(&self) {
        self.observer.on_unlocked();
    }

    fn on_progress(&self, root: &Directory, names: u64, counts: &Tally) {
        self.observer.on_progress(root, names, counts);
    }
}

#[cfg(test)]
mod tests;
