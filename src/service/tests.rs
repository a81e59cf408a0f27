//! The service with a clock, passes and settings of the test's own.

use std::cell::Cell;
use std::sync::mpsc::{self, Sender};

use super::*;
use crate::service::schedule::Rule;
use crate::service::scheduler::First;

const HOUR: u64 = 3600;

fn hourly(names: &[&str]) -> Schedule {
    let rule = Rule::every(Duration::from_secs(HOUR)).unwrap();
    let zones = names.iter().map(|name| (ZoneName::new(name), rule.clone())).collect();
    Schedule { zones, jitter: Duration::ZERO }
}

/// The readings at `hours` hours after a whole hour.
fn reading(hours: u64) -> Reading {
    let wall = Moment::from_unix(1_767_225_600 + (hours * HOUR).cast_signed(), 0);
    Reading { wall, steady: Duration::from_secs(hours * HOUR) }
}

fn end(zones: &[ZoneName]) -> PassEnd {
    let zones = zones.iter().map(|zone| (zone.clone(), None)).collect();
    PassEnd {
        code: ExitCode::Done,
        at: reading(0).wall,
        zones,
        postponed: Vec::new(),
        is_stopped: false,
    }
}

/// A service whose disks are never too full.
fn service<'a>(
    scheduler: Scheduler,
    calls: &'a mpsc::Receiver<Call>,
    health: &'a Health,
    notify: &'a Notify,
) -> Service<'a> {
    let (waiting, pressed) = (Vec::new(), &|_| Vec::new());
    let time = LocalTime::named("Asia/Kolkata").unwrap();
    Service { scheduler, time, calls, health, notify, waiting, pressed }
}

/// A service over two zones whose clock moves on by an hour whenever it is read: something is always due.
/// `pass` is given the number of the pass, its zones, and a way to call the service.
fn run(
    first: First,
    mut pass: impl FnMut(usize, &[ZoneName], &Sender<Call>) -> PassEnd,
    reload: impl FnMut() -> Result<Schedule, String>,
) -> (ExitCode, Health) {
    let (sender, calls) = mpsc::channel();
    let scheduler = Scheduler::new(hourly(&["export", "tmp"]), 0, reading(0), first);
    let health = Health::new(&scheduler);
    let notify = Notify::default();
    let service = service(scheduler, &calls, &health, &notify);
    let hours = Cell::new(0);
    let clock = || {
        let now = reading(hours.get());
        hours.set(hours.get() + 1);
        now
    };
    let mut count = 0;
    let pass = |zones: &[ZoneName]| {
        count += 1;
        pass(count, zones, &sender)
    };
    let code = service.run(clock, pass, reload);
    (code, health)
}

fn no_reload() -> Result<Schedule, String> {
    panic!("nothing asked for the settings")
}

#[test]
fn passes_are_made_until_a_stop_and_health_hears_of_them() {
    let mut swept = Vec::new();
    let pass = |count, zones: &[ZoneName], calls: &Sender<Call>| {
        swept.push(zones.iter().map(ZoneName::to_string).collect::<Vec<_>>());
        if count == 3 {
            calls.send(Call::Stop).unwrap();
        }
        end(zones)
    };
    let (code, health) = run(First::AtStart, pass, no_reload);
    assert_eq!(code, ExitCode::Done);
    assert_eq!(swept, vec![vec!["export", "tmp"]; 3], "one pass for both zones");
    let text = health.report(reading(0).wall).unwrap();
    assert_eq!(text.matches("without problems").count(), 2, "{text}");
}

#[test]
fn a_pass_that_a_signal_stopped_is_the_last_and_its_code_counts() {
    let pass = |count: usize, zones: &[ZoneName], _: &Sender<Call>| {
        assert_eq!(count, 1);
        PassEnd { code: ExitCode::Stopped, is_stopped: true, ..end(zones) }
    };
    assert_eq!(run(First::AtStart, pass, no_reload).0, ExitCode::Stopped);
}

#[test]
fn a_pass_that_cannot_start_does_not_end_the_service() {
    let pass = |count: usize, zones: &[ZoneName], calls: &Sender<Call>| {
        if count == 2 {
            calls.send(Call::Stop).unwrap();
        }
        PassEnd::not_started(zones, "no data root", reading(0).wall)
    };
    let (code, health) = run(First::AtStart, pass, no_reload);
    assert_eq!(code, ExitCode::Done);
    let text = health.report(reading(0).wall).unwrap_err();
    assert!(text.contains("tmp: last pass ended at "), "{text}");
    assert!(text.contains(": the pass did not start: no data root\n"), "{text}");
}

#[test]
fn a_zone_that_is_locked_keeps_no_other_zone_waiting_and_is_tried_until_it_is_free() {
    let mut tried = Vec::new();
    let pass = |count, zones: &[ZoneName], calls: &Sender<Call>| {
        tried.push(zones.iter().any(|zone| zone.as_str() == "tmp"));
        let mut end = end(zones);
        if count < 4 {
            end.zones.retain(|(zone, _)| zone.as_str() != "tmp");
            end.postponed = vec![(ZoneName::new("tmp"), format!("process {count}"))];
        } else {
            calls.send(Call::Stop).unwrap();
        }
        end
    };
    let (code, health) = run(First::AtStart, pass, no_reload);
    assert_eq!((code, tried), (ExitCode::Done, vec![true; 4]));
    let text = health.report(reading(0).wall).unwrap();
    assert_eq!(text.matches("without problems").count(), 2, "{text}");
    assert!(!text.contains("process"), "it does not wait any more: {text}");
}

#[test]
fn reloaded_settings_count_from_the_next_pass_on_and_bad_ones_change_nothing() {
    let mut swept = Vec::new();
    let pass = |count, zones: &[ZoneName], calls: &Sender<Call>| {
        swept.push(zones.len());
        calls.send(if count < 5 { Call::Reload } else { Call::Stop }).unwrap();
        end(zones)
    };
    let mut reloads = 0;
    let reload = || {
        reloads += 1;
        if reloads == 2 { Ok(hourly(&["own"])) } else { Err("a wrong\nsetting".to_owned()) }
    };
    let (code, health) = run(First::AtStart, pass, reload);
    assert_eq!((code, reloads), (ExitCode::Done, 4));
    assert_eq!(swept, [2, 2, 1, 1, 1]);
    assert!(health.report(reading(0).wall).unwrap().starts_with("own: last pass"));
}

#[test]
fn a_service_ends_when_nothing_can_call_it_any_more() {
    let (sender, calls) = mpsc::channel();
    let scheduler = Scheduler::new(hourly(&["tmp"]), 0, reading(0), First::WhenDue);
    let health = Health::new(&scheduler);
    let notify = Notify::default();
    let service = service(scheduler, &calls, &health, &notify);
    drop(sender);
    assert_eq!(service.run(|| reading(0), end, no_reload), ExitCode::Done);
}

#[test]
fn the_outlook_names_each_zone_and_its_next_pass() {
    let (_sender, calls) = mpsc::channel();
    let scheduler = Scheduler::new(hourly(&["export", "own"]), 0, reading(0), First::WhenDue);
    let health = Health::new(&scheduler);
    let notify = Notify::default();
    let mut service = service(scheduler, &calls, &health, &notify);
    assert_eq!(
        service.outlook(),
        "next pass: export at 2026-01-01T06:30:00+05:30, own at 2026-01-01T06:30:00+05:30",
        "in the time zone of the log"
    );
    service.apply(Ok(hourly(&[])), reading(0));
    assert_eq!(service.outlook(), "no pass is scheduled");
}

#[test]
fn there_are_two_pages_and_health_has_a_status() {
    let scheduler = Scheduler::new(hourly(&["tmp"]), 0, reading(0), First::WhenDue);
    let (health, zones) = (Health::new(&scheduler), [ZoneName::new("tmp")]);
    let metrics = Metrics::new(&zones).unwrap();
    let page = |path, hours| page(path, &metrics, &health, reading(hours).wall);
    let shown = page("/metrics", 0).unwrap();
    assert_eq!((shown.status, shown.content_type), (200, metrics::CONTENT_TYPE));
    assert!(shown.text.contains("sweeper_seen_total{zone=\"tmp\"} 0\n"), "{}", shown.text);
    assert!(MEASURED.iter().all(|path| page(path, 0).is_some()));
    assert_eq!(page("/healthz", 0).unwrap().status, 200);
    assert_eq!(page("/healthz", 2).unwrap().status, 503, "the first pass was missed");
    for (hours, line) in
        [(0, "sweeper_healthy{zone=\"tmp\"} 1\n"), (2, "sweeper_healthy{zone=\"tmp\"} 0\n")]
    {
        let text = page("/metrics", hours).unwrap().text;
        assert!(text.contains(line), "{text}");
    }
    assert!(page("/", 0).is_none());
}
