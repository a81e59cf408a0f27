//! What monitoring reads: counters and times in Prometheus' text format, from a page or from a file.
//!
//! It must not count anything itself: the numbers are those of the report. A rehearsal counts nothing,
//! for nothing was removed. A file goes on where the last one stopped, or its counters would say the same
//! after each run and no rate could be made of them.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::core::Collector;
use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::condemn::{Place, Spared};
use crate::report::Mode;
use crate::retention::{KeptBy, Moment, Zone};
use crate::sweep::{Audience, Outcome, Summary, Tally, ZoneSummary};
use crate::volume::Space;

/// The media type of the text.
pub const KIND: &str = prometheus::TEXT_FORMAT;

/// All that is told.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    seen: IntCounterVec,
    removed: IntCounterVec,
    kept: IntCounterVec,
    spared: IntCounterVec,
    failed: IntCounterVec,
    freed: IntCounterVec,
    duration: GaugeVec,
    success: GaugeVec,
    end: GaugeVec,
    bytes: IntGaugeVec,
    inodes: IntGaugeVec,
}

impl Metrics {
    /// Metrics of these zones, all of them zero.
    ///
    /// # Errors
    /// Two of them have the same name.
    pub fn of(zones: &[Zone]) -> Result<Self, String> {
        Self::build(zones).map_err(|error| format!("metrics: {error}"))
    }

    fn build(zones: &[Zone]) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let count = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = GaugeVec::new(Opts::new(name, help), &["zone"])?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let whole = |name: &str, help: &str, label: &str| {
            let gauge = IntGaugeVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        whole("sweeper_build_info", "The version that runs.", "version")?
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        let all = Self {
            seen: count("sweeper_seen_total", "Entries looked at.", &["zone"])?,
            removed: count("sweeper_removed_total", "Entries removed.", &["zone"])?,
            kept: count(
                "sweeper_kept_total",
                "Entries kept at the first look.",
                &["zone", "reason"],
            )?,
            spared: count("sweeper_spared_total", "Expired entries spared.", &["zone", "reason"])?,
            failed: count("sweeper_failed_total", "Entries that could not be removed.", &["zone"])?,
            freed: count("sweeper_freed_bytes_total", "What the disk got back.", &["zone"])?,
            duration: gauge("sweeper_pass_duration_seconds", "How long the last pass took.")?,
            success: gauge(
                "sweeper_last_success_timestamp_seconds",
                "When the last pass ended that swept all of the zone without a failure.",
            )?,
            end: gauge("sweeper_last_end_timestamp_seconds", "When the last pass ended.")?,
            bytes: whole("sweeper_volume_bytes", "Bytes of the volume's file system.", "state")?,
            inodes: whole(
                "sweeper_volume_inodes",
                "Its inodes; 0 where it has no limit.",
                "state",
            )?,
            registry: registry.clone(),
        };
        for zone in zones {
            let name = zone.name();
            for counter in [&all.seen, &all.removed, &all.failed, &all.freed] {
                counter.with_label_values(&[name]);
            }
            for why in KeptBy::ALL {
                all.kept.with_label_values(&[name, why.key()]);
            }
            for why in Spared::ALL {
                all.spared.with_label_values(&[name, why.key()]);
            }
        }
        Ok(all)
    }

    /// Counts a pass that ended at `ended`.
    pub fn count(&self, mode: Mode, summary: &Summary, lasted: &[(Zone, Duration)], ended: Moment) {
        for zone in &summary.zones {
            let name = &[zone.zone.name()];
            if mode == Mode::Real {
                self.add(zone.zone.name(), &zone.tally);
            }
            self.end.with_label_values(name).set(seconds(ended));
            if trouble(zone, summary).is_none() {
                self.success.with_label_values(name).set(seconds(ended));
            }
        }
        for (zone, lasted) in lasted {
            self.duration.with_label_values(&[zone.name()]).set(lasted.as_secs_f64());
        }
    }

    fn add(&self, zone: &str, tally: &Tally) {
        self.seen.with_label_values(&[zone]).inc_by(tally.reported());
        self.removed.with_label_values(&[zone]).inc_by(tally.removed);
        self.failed.with_label_values(&[zone]).inc_by(tally.failed);
        self.freed.with_label_values(&[zone]).inc_by(tally.freed.0);
        for (why, count) in KeptBy::ALL.iter().zip(tally.kept_by) {
            self.kept.with_label_values(&[zone, why.key()]).inc_by(count);
        }
        for (why, count) in Spared::ALL.iter().zip(tally.spared_by) {
            self.spared.with_label_values(&[zone, why.key()]).inc_by(count);
        }
    }

    /// Tells how full the volume is.
    pub fn volume(&self, space: &Space) {
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.bytes.with_label_values(&["size"]).set(whole(space.bytes));
        self.bytes.with_label_values(&["used"]).set(whole(space.bytes_used));
        self.inodes.with_label_values(&["size"]).set(whole(space.inodes));
        self.inodes.with_label_values(&["used"]).set(whole(space.inodes_used));
    }

    /// The text.
    pub fn text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }

    /// Goes on from what an earlier run wrote: counters continue, and zones that are not swept now keep
    /// what was said of them. Lines that are none of ours are passed over.
    fn go_on_from(&self, old: &str) {
        let gauges = [&self.duration, &self.success, &self.end];
        let counters = [&self.seen, &self.removed, &self.failed, &self.freed];
        let by_reason = [&self.kept, &self.spared];
        for line in old.lines().filter(|line| !line.starts_with('#')) {
            let Some((sample, value)) = line.rsplit_once(' ') else { continue };
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

    /// Writes the text to a file for the `node_exporter`'s textfile collector: whole or not at all, readable by
    /// everybody, and going on from what the file says already.
    ///
    /// # Errors
    /// It cannot be written. What was there stays.
    pub fn write(self, path: &Path) -> io::Result<()> {
        if let Ok(old) = std::fs::read_to_string(path) {
            self.go_on_from(&old);
        }
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.unwrap_or(Path::new("."));
        // The collector reads names that end in .prom; this one is not read before it is renamed.
        let mut file = tempfile::Builder::new().prefix(".sweeper-").tempfile_in(dir)?;
        file.write_all(self.text().as_bytes())?;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}

/// The one of these metrics that is called so.
fn called<'a, M: Collector, const N: usize>(name: &str, all: [&'a M; N]) -> Option<&'a M> {
    all.into_iter().find(|metric| metric.desc().iter().any(|desc| desc.fq_name == name))
}

/// What was wrong with a zone's part of a pass, if anything.
pub fn trouble(zone: &ZoneSummary, summary: &Summary) -> Option<String> {
    if let Some(why) = &zone.no_lock {
        Some(format!("it was left alone: {why}"))
    } else if let Some(why) = summary.stopped {
        Some(format!("it was stopped before its end: {}", why.key()))
    } else if zone.tally.failed > 0 {
        Some(format!("{} entries failed", zone.tally.failed))
    } else {
        None
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far from 2^52")]
fn seconds(at: Moment) -> f64 {
    at.unix_secs() as f64 + f64::from(at.subsec_nanos()) / 1e9
}

/// Passes everything on, and takes the time of each zone.
pub struct Timed<'a, A> {
    audience: &'a A,
    begun: Mutex<Vec<(Zone, Instant)>>,
}

impl<'a, A> Timed<'a, A> {
    /// Passes everything on to `audience`.
    pub const fn of(audience: &'a A) -> Self {
        Self { audience, begun: Mutex::new(Vec::new()) }
    }

    /// How long each zone took, up to now. The second tries at what was busy count for the last.
    pub fn lasted(self) -> Vec<(Zone, Duration)> {
        let begun = self.begun.into_inner().unwrap_or_else(PoisonError::into_inner);
        let ends = begun.iter().skip(1).map(|(_, at)| *at).chain([Instant::now()]);
        begun.iter().zip(ends).map(|((zone, at), end)| (*zone, end.duration_since(*at))).collect()
    }
}

impl<A: Audience> Audience for Timed<'_, A> {
    fn begins(&self, zone: Zone) {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).push((zone, Instant::now()));
        self.audience.begins(zone);
    }

    fn tell(&self, outcome: &Outcome<'_>) {
        self.audience.tell(outcome);
    }

    fn so_far(&self, root: &Place, names: u64, handful: &Tally) {
        self.audience.so_far(root, names, handful);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_on_where_the_last_one_stopped() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("sweeper.prom");
        for run in 1..=3_u64 {
            let metrics = Metrics::of(&[Zone::Export]).unwrap();
            metrics.removed.with_label_values(&["export"]).inc_by(2);
            metrics.kept.with_label_values(&["export", "fresh"]).inc_by(3);
            if run == 1 {
                metrics.end.with_label_values(&["tmp"]).set(1.5);
            }
            metrics.write(&path).unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            for line in [
                format!("sweeper_removed_total{{zone=\"export\"}} {}", 2 * run),
                format!("sweeper_kept_total{{reason=\"fresh\",zone=\"export\"}} {}", 3 * run),
                "sweeper_last_end_timestamp_seconds{zone=\"tmp\"} 1.5".to_owned(),
            ] {
                assert!(text.lines().any(|found| found == line), "{line}\n{text}");
            }
        }
        std::fs::write(&path, "nonsense{\nsweeper_seen_total{zone=\"export} x\n").unwrap();
        Metrics::of(&[Zone::Export]).unwrap().write(&path).unwrap();
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1);
    }
}
