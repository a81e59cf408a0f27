//! The names of the metrics, and what is counted.

use super::*;
use crate::protocol::{StopReason, ZoneSummary};
use crate::rules::Bytes;

fn summary(stopped: Option<StopReason>) -> Summary {
    let tally = Tally {
        seen: 13,
        removed: 4,
        kept_by: [3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        skipped_by: [2, 0, 0, 0, 0, 0],
        unreached: 3,
        freed: Bytes(4096),
        ..Tally::default()
    };
    let (zone, path) = (ZoneName::new("own"), "/data/own".into());
    let zone = ZoneSummary { zone, path, tally, notes: Vec::new(), no_lock: None };
    Summary { zones: vec![zone], stopped, relief: Vec::new() }
}

fn end() -> Moment {
    Moment::from_unix(1_767_323_045, 500_000_000)
}

#[track_caller]
fn assert_lines(metrics: &Metrics, lines: &[&str]) {
    let text = metrics.text();
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "{line}\n{text}");
    }
}

#[test]
fn the_names_are_those_that_dashboards_and_alerts_use() {
    let metrics = Metrics::new(&[ZoneName::new("own")]).unwrap();
    let space =
        Space { bytes: 100, bytes_used: 60, bytes_available: 35, inodes: 10, inodes_used: 6 };
    metrics.set_space(&space);
    let durations = [(ZoneName::new("own"), Duration::from_millis(1500))];
    metrics.count(RunMode::Real, &summary(None), &durations, end());
    metrics.set_health(&[(ZoneName::new("own"), true)]);
    let text = metrics.text();
    let mut names: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "sweeper_build_info gauge",
            "sweeper_failed_total counter",
            "sweeper_freed_bytes_total counter",
            "sweeper_healthy gauge",
            "sweeper_kept_total counter",
            "sweeper_last_end_timestamp_seconds gauge",
            "sweeper_last_success_timestamp_seconds gauge",
            "sweeper_left_alone gauge",
            "sweeper_pass_duration_seconds gauge",
            "sweeper_pressure_unrelieved gauge",
            "sweeper_removed_total counter",
            "sweeper_seen_total counter",
            "sweeper_skipped_total counter",
            "sweeper_volume_bytes gauge",
            "sweeper_volume_inodes gauge",
        ]
    );
    assert_lines(
        &metrics,
        &[
            "sweeper_seen_total{zone=\"own\"} 10",
            "sweeper_removed_total{zone=\"own\"} 4",
            "sweeper_kept_total{reason=\"fresh\",zone=\"own\"} 3",
            "sweeper_kept_total{reason=\"mount_point\",zone=\"own\"} 0",
            "sweeper_skipped_total{reason=\"locked\",zone=\"own\"} 2",
            "sweeper_skipped_total{reason=\"mount_point\",zone=\"own\"} 0",
            "sweeper_failed_total{zone=\"own\"} 0",
            "sweeper_freed_bytes_total{zone=\"own\"} 4096",
            "sweeper_left_alone{zone=\"own\"} 0",
            "sweeper_healthy{zone=\"own\"} 1",
            "sweeper_pass_duration_seconds{zone=\"own\"} 1.5",
            "sweeper_last_end_timestamp_seconds{zone=\"own\"} 1767323045.5",
            "sweeper_last_success_timestamp_seconds{zone=\"own\"} 1767323045.5",
            "sweeper_volume_bytes{state=\"used\"} 60",
            "sweeper_volume_bytes{state=\"size\"} 95",
            "sweeper_volume_inodes{state=\"size\"} 10",
        ],
    );
}

#[test]
fn a_dry_run_counts_nothing_and_neither_it_nor_a_stopped_pass_is_a_success() {
    let metrics = Metrics::new(&[ZoneName::new("own")]).unwrap();
    let is_success = || metrics.text().contains("sweeper_last_success_timestamp_seconds{");
    metrics.count(RunMode::DryRun, &summary(None), &[], end());
    assert_lines(
        &metrics,
        &[
            "sweeper_removed_total{zone=\"own\"} 0",
            "sweeper_last_end_timestamp_seconds{zone=\"own\"} 1767323045.5",
        ],
    );
    assert!(!is_success(), "a dry run");
    metrics.count(RunMode::Real, &summary(Some(StopReason::Deadline)), &[], end());
    assert!(!is_success(), "a pass that was stopped");
}

#[test]
fn a_zone_that_was_left_alone_is_no_success_until_the_next_pass() {
    let metrics = Metrics::new(&[ZoneName::new("own")]).unwrap();
    let mut left_alone = summary(None);
    left_alone.zones[0].no_lock = Some("the server does not answer".to_owned());
    metrics.count(RunMode::Real, &left_alone, &[], end());
    assert_lines(&metrics, &["sweeper_left_alone{zone=\"own\"} 1"]);
    assert!(!metrics.text().contains("sweeper_last_success_timestamp_seconds{"));
    metrics.count(RunMode::Real, &summary(None), &[], end());
    assert_lines(&metrics, &["sweeper_left_alone{zone=\"own\"} 0"]);
}

#[test]
fn each_zone_is_timed_and_passed_on() {
    struct Zones(Mutex<Vec<ZoneName>>);
    impl Observer for Zones {
        fn on_zone(&self, zone: &ZoneName) {
            self.0.lock().unwrap().push(zone.clone());
        }
        fn on_outcome(&self, _: &Outcome<'_>) {}
        fn on_progress(&self, _: &Directory, _: u64, _: &Tally) {}
    }
    let observer = Zones(Mutex::default());
    let timed = Timed::new(&observer);
    let zones = ["a", "b"].map(ZoneName::new);
    for zone in &zones {
        timed.on_zone(zone);
    }
    let timed: Vec<ZoneName> = timed.durations().into_iter().map(|(zone, _)| zone).collect();
    assert_eq!(timed, zones);
    assert_eq!(*observer.0.lock().unwrap(), zones);
}
