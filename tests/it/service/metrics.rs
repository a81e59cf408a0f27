//! What monitoring reads: the page, the file and the health page, checked with Prometheus' own tool.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::{Serving, export, reports, serve};
use crate::start::Start;
use crate::wait::{LIMIT, wait_until};
use crate::world::{DAY, HOUR, Run, World, can_be_root, export_name, zone};

/// Checks a text with Prometheus' own tool, which prints nothing about a good one.
#[track_caller]
pub(super) fn assert_valid(text: &str) {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .start();
    let Ok(mut promtool) = promtool else {
        assert!(std::env::var_os("SWEEPER_TESTS_ALL").is_none(), "needs promtool");
        eprintln!("left out, needs promtool: metrics are as Prometheus wants them");
        return;
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}\n{text}");
}

/// Samples by name and labels.
pub fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let samples = lines.map(|line| line.rsplit_once(' ').unwrap());
    samples.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
}

/// A page: its status and its text.
pub fn get(address: &str, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

/// The address that a service listens on, from its log.
pub(super) fn address(service: &mut Serving) -> String {
    let line = service.says("/metrics");
    line.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned()
}

#[track_caller]
pub(super) fn assert_counts_equal(
    samples: &BTreeMap<String, f64>,
    reports: &[serde_json::Value],
    name: &str,
) {
    let sum = |key: &str, reason: Option<&str>| -> f64 {
        let all = reports.iter().map(|report| {
            let value = &zone(report, name)[key];
            reason.map_or(value, |reason| &value[reason]).as_f64().unwrap()
        });
        all.sum()
    };
    for (metric, key) in [
        ("sweeper_seen_total", "seen"),
        ("sweeper_removed_total", "removed"),
        ("sweeper_failed_total", "failed"),
        ("sweeper_freed_bytes_total", "freed_bytes"),
    ] {
        let found = samples[&format!("{metric}{{zone=\"{name}\"}}")];
        assert!((found - sum(key, None)).abs() < 0.5, "{metric} {found}");
    }
    for (metric, key) in
        [("sweeper_kept_total", "kept_by"), ("sweeper_skipped_total", "skipped_by")]
    {
        for reason in zone(&reports[0], name)[key].as_object().unwrap().keys() {
            let found = samples[&format!("{metric}{{reason=\"{reason}\",zone=\"{name}\"}}")];
            assert!((found - sum(key, Some(reason))).abs() < 0.5, "{metric} {reason} {found}");
        }
    }
}

#[test]
fn the_page_agrees_with_the_reports() {
    let world = World::new();
    for number in 0..5 {
        export(&world, number, 2 * DAY);
    }
    export(&world, 9, HOUR);
    world.file("cache/export/notes.txt", DAY);
    world.file("tmp/old", 20 * DAY);
    let args = ["--every", "2s", "--at-start", "--listen", "0", "--format", "jsonl"];
    let start = Instant::now();
    let mut service = Serving::on(&world, &args);
    let address = address(&mut service);
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    wait_until("the first pass", || get(&address, "GET /healthz").1.contains("without problems"));
    let (status, text) = get(&address, "GET /metrics");
    assert_eq!(status, 200);
    assert_valid(&text);
    let all = samples(&text);
    assert!(all["sweeper_last_success_timestamp_seconds{zone=\"tmp\"}"] > 1.7e9);
    assert!(
        all["sweeper_volume_bytes{state=\"size\"}"] > all["sweeper_volume_bytes{state=\"used\"}"]
    );
    assert!(all.contains_key("sweeper_volume_inodes{state=\"used\"}"));
    let took = all["sweeper_pass_duration_seconds{zone=\"export\"}"];
    assert!(took > 0.0 && took < start.elapsed().as_secs_f64(), "{took}");
    assert!(text.contains("sweeper_build_info{version=\""));

    assert_eq!(get(&address, "GET /metrics?x=1").0, 200);
    assert_eq!(get(&address, "HEAD /metrics"), (200, String::new()));
    assert_eq!(get(&address, "GET /other").0, 404);
    assert_eq!(get(&address, "POST /metrics").0, 405);
    let (_, last) = get(&address, "GET /metrics");
    let known = samples(&last);
    let reports = reports(&service.stop_any_time());
    // Another pass may have ended since; those before it add up.
    let wanted = known["sweeper_seen_total{zone=\"export\"}"];
    let mut seen = 0.0;
    let counted: Vec<_> = reports
        .into_iter()
        .take_while(|report| {
            let before = seen;
            seen += zone(report, "export")["seen"].as_f64().unwrap();
            before < wanted
        })
        .collect();
    assert_counts_equal(&known, &counted, "export");
    assert_counts_equal(&known, &counted, "tmp");
}

#[test]
fn the_health_page_has_a_line_for_each_zone() {
    let world = World::new();
    let mut service = Serving::on(&world, &["--listen", ":0"]);
    let address_1 = address(&mut service);
    let (status, text) = get(&address_1, "GET /healthz");
    assert_eq!(status, 200);
    for zone in ["export", "tmp"] {
        assert!(text.contains(&format!("{zone}: no pass yet; the first is due at ")), "{text}");
    }
    service.stop().0.exits(0);

    // A zone that was left alone is a problem, and the other one is not.
    let dir = std::fs::File::open(world.path("tmp")).unwrap();
    rustix::fs::flock(&dir, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let args = ["--listen", "0", "--at-start", "--if-running", "exit"];
    let mut service = Serving::start(serve(&world, &args));
    let address = address(&mut service);
    wait_until("the pass", || get(&address, "GET /healthz").0 == 503);
    let (_, text) = get(&address, "GET /healthz");
    assert!(
        text.contains("export: last pass ended at ") && text.contains("without problems"),
        "{text}"
    );
    assert!(text.contains("tmp: last pass ended at "), "{text}");
    assert!(
        text.contains("the zone was left alone: ")
            && text.contains("holds the lock on the directory"),
        "{text}"
    );
    service.stop().0.exits(0);
}

#[test]
fn a_run_writes_its_metrics_to_a_file_and_the_next_run_adds_to_them() {
    let world = World::new();
    let dir = world.dir("collector", 0);
    let path = dir.join("sweeper.prom");
    let run = |args: &[&str]| {
        let file = ["--metrics-file", path.to_str().unwrap(), "--format", "json"];
        world.run(&[args, &file].concat())
    };
    let mut reports = Vec::new();
    for number in 0..3 {
        export(&world, number, 2 * DAY);
        world.file("tmp/old", 20 * DAY);
        reports.push(run(&["run"]).exits(0).json());
        let text = std::fs::read_to_string(&path).unwrap();
        assert_valid(&text);
        assert_counts_equal(&samples(&text), &reports, "export");
        assert_counts_equal(&samples(&text), &reports, "tmp");
    }
    world.file("projects/1/export_cache/x", DAY);
    let legacy = run(&["legacy"]).exits(0).json();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_valid(&text);
    assert_counts_equal(&samples(&text), &[legacy], "legacy");
    assert_counts_equal(&samples(&text), &reports, "tmp");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o644);
    // A dry run counts nothing. Nothing else is left in the directory.
    run(&["run", "--dry-run"]).exits(0);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
}

#[test]
fn a_pass_with_failures_counts_them_and_is_no_success() {
    if !can_be_root("metrics as uid 1000, with entries that cannot be removed") {
        return;
    }
    let world = World::new();
    world.file("tmp/old", 20 * DAY);
    world.file(Path::new("cache/export").join(export_name(1)), 2 * DAY);
    let dir = world.dir("collector", 0);
    let path = dir.join("sweeper.prom");
    world.chown(1000);
    std::os::unix::fs::lchown(world.path("tmp"), Some(0), Some(0)).unwrap();
    let args = ["run", "--format", "json", "--metrics-file", path.to_str().unwrap()];
    let report: Run = world.run_as(1000, &args);
    let report = report.exits(1).json();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_valid(&text);
    let all = samples(&text);
    assert_counts_equal(&all, &[report], "tmp");
    assert!(all.contains_key("sweeper_last_end_timestamp_seconds{zone=\"tmp\"}"));
    assert!(!all.contains_key("sweeper_last_success_timestamp_seconds{zone=\"tmp\"}"));
    assert!(all.contains_key("sweeper_last_success_timestamp_seconds{zone=\"export\"}"));
}
