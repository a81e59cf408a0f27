//! The scheduler with clocks that jump, passes that take long, and changes of the schedule.

use super::*;
use crate::service::schedule::LocalTime;
use crate::units;

/// A machine: its two clocks, and which zones were swept when by its wall clock.
struct Machine {
    scheduler: Scheduler,
    wall: i64,
    steady: u64,
    /// How long a pass takes, in seconds.
    pass: u64,
    ran: Vec<(String, ZoneName)>,
}

fn export() -> ZoneName {
    ZoneName::new("export")
}

fn tmp() -> ZoneName {
    ZoneName::new("tmp")
}

fn secs(text: &str) -> i64 {
    units::moment(text).unwrap().unix_secs()
}

fn cvat(zone: &str) -> Schedule {
    let zone = LocalTime::named(zone).unwrap();
    let rule = |text| Rule::cron(text, &zone).unwrap();
    let zones = vec![(export(), rule("0 0,12 * * *")), (tmp(), rule("0 18 * * *"))];
    Schedule { zones, jitter: Duration::ZERO }
}

fn hourly() -> Schedule {
    let rule = Rule::every(Duration::from_secs(3600)).unwrap();
    let zones = vec![(export(), rule.clone()), (tmp(), rule)];
    Schedule { zones, jitter: Duration::ZERO }
}

impl Machine {
    fn at(start: &str, schedule: Schedule, first: First) -> Self {
        let wall = secs(start);
        let reading = Reading { wall: Moment::from_unix(wall, 0), steady: Duration::ZERO };
        let scheduler = Scheduler::new(schedule, 7, reading, first);
        Self { scheduler, wall, steady: 0, pass: 60, ran: Vec::new() }
    }

    fn sleep(&mut self, secs: u64) {
        self.wall += secs.cast_signed();
        self.steady += secs;
    }

    fn check(&mut self) -> Next {
        let wall = Moment::from_unix(self.wall, 0);
        self.scheduler.check(Reading { wall, steady: Duration::from_secs(self.steady) })
    }

    /// Runs for `secs` seconds and wakes at least every 20 seconds, as the service does.
    fn run_for(&mut self, secs: u64) {
        let end = self.steady + secs;
        while self.steady < end {
            match self.check() {
                Next::Due(zones) => {
                    let now = units::rfc3339(Moment::from_unix(self.wall, 0));
                    self.ran.extend(zones.into_iter().map(|zone| (now.clone(), zone)));
                    self.sleep(self.pass);
                }
                Next::Wait(wait) => {
                    let wait = wait.as_secs().clamp(1, 20).min(end - self.steady);
                    self.sleep(wait);
                }
            }
        }
    }

    fn ran(&self, zone: &ZoneName) -> Vec<&str> {
        let of_zone = self.ran.iter().filter(|(_, ran)| ran == zone);
        of_zone.map(|(when, _)| when.as_str()).collect()
    }
}

const DAY: u64 = 86_400;

#[test]
fn two_days_of_cvats_schedule_across_a_change_to_summer_time() {
    let mut machine = Machine::at("2026-03-28T12:00:00Z", cvat("Europe/Berlin"), First::WhenDue);
    machine.run_for(2 * DAY);
    let exports = [
        "2026-03-28T23:00:00Z",
        "2026-03-29T10:00:00Z",
        "2026-03-29T22:00:00Z",
        "2026-03-30T10:00:00Z",
    ];
    assert_eq!(machine.ran(&export()), exports);
    assert_eq!(machine.ran(&tmp()), ["2026-03-28T17:00:00Z", "2026-03-29T16:00:00Z"]);
}

#[test]
fn two_days_without_drift_however_long_a_pass_takes() {
    let mut machine = Machine::at("2026-01-01T00:30:00Z", hourly(), First::WhenDue);
    machine.pass = 1234;
    machine.run_for(2 * DAY);
    let ran = machine.ran(&export());
    assert_eq!(ran.len(), 48);
    assert!(ran.iter().all(|when| when.ends_with(":00:00Z")), "{ran:?}");
    assert_eq!(ran, machine.ran(&tmp()), "one pass for both");
}

#[test]
fn one_pass_makes_up_for_all_that_was_missed_in_a_long_pass_or_asleep() {
    let mut machine = Machine::at("2026-01-01T00:30:00Z", hourly(), First::WhenDue);
    machine.pass = 2 * 3600 + 1800;
    machine.run_for(3 * 3600);
    machine.pass = 60;
    machine.run_for(3600);
    let ran = ["2026-01-01T01:00:00Z", "2026-01-01T03:30:00Z"];
    assert_eq!(machine.ran(&export())[..2], ran);

    let mut machine = Machine::at("2026-01-01T00:30:00Z", cvat("UTC"), First::WhenDue);
    machine.run_for(60);
    // Suspended: both clocks go on.
    machine.sleep(2 * DAY + 13 * 3600);
    machine.run_for(DAY);
    assert_eq!(
        machine.ran(&export()),
        ["2026-01-03T13:31:00Z", "2026-01-04T00:00:00Z", "2026-01-04T12:00:00Z"]
    );
    assert_eq!(machine.ran(&tmp()), ["2026-01-03T13:31:00Z", "2026-01-03T18:00:00Z"]);
}

#[test]
fn a_clock_set_back_neither_repeats_nor_delays_a_pass() {
    // How far it is set back, and how long after the pass at 12:00.
    for back in [1, 60, 1800, 3 * 3600, 13 * 3600, 40 * DAY, 4 * 365 * DAY] {
        for after in [1, 20, 300, 3600, 10 * 3600] {
            let mut machine = Machine::at("2030-01-01T11:59:00Z", cvat("UTC"), First::WhenDue);
            machine.pass = 1;
            machine.run_for(60 + after);
            assert_eq!(machine.ran(&export()), ["2030-01-01T12:00:00Z"]);
            let set_at = machine.steady;
            machine.wall -= back.cast_signed();
            let mut starts = Vec::new();
            while machine.steady < set_at + 3 * DAY {
                let known = machine.ran(&export()).len();
                let now = machine.steady;
                machine.run_for(1);
                if machine.ran(&export()).len() > known {
                    starts.push(now);
                }
                machine.sleep(19);
            }
            let first = starts[0];
            assert!(first - 60 >= 6 * 3600 - 60, "{back} {after}: repeated after {first} s");
            assert!(first - set_at <= DAY, "{back} {after}: silent for {first} s");
            assert!(starts.windows(2).all(|two| two[1] - two[0] > 11 * 3600), "{starts:?}");
        }
    }
}

#[test]
fn a_due_pass_stays_due_when_the_clock_goes_back_a_little() {
    let mut schedule = cvat("UTC");
    schedule.jitter = Duration::from_secs(1800);
    let mut machine = Machine::at("2026-01-01T11:59:00Z", schedule, First::WhenDue);
    machine.run_for(62);
    machine.check();
    machine.wall -= 1;
    machine.run_for(3600);
    assert_eq!(machine.ran(&export()).len(), 1, "{:?}", machine.ran);
}

#[test]
fn a_clock_set_forward_leads_to_one_pass() {
    let mut machine = Machine::at("2026-01-01T11:00:00Z", hourly(), First::WhenDue);
    machine.run_for(60);
    machine.wall += 3 * DAY.cast_signed();
    machine.run_for(60);
    assert_eq!(machine.ran(&export()).len(), 1);
}

#[test]
fn at_start_means_at_once_and_then_on_schedule() {
    let mut machine = Machine::at("2026-01-01T11:30:00Z", cvat("UTC"), First::AtStart);
    machine.run_for(3600);
    assert_eq!(machine.ran(&export()), ["2026-01-01T11:30:00Z", "2026-01-01T12:00:00Z"]);
    assert_eq!(machine.ran(&tmp()), ["2026-01-01T11:30:00Z"]);
}

#[test]
fn jitter_is_bounded_does_not_add_up_and_differs_by_machine() {
    let mut schedule = hourly();
    schedule.jitter = Duration::from_secs(600);
    let mut delays = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let mut machine = Machine::at("2026-01-01T00:30:00Z", schedule.clone(), First::WhenDue);
        machine.scheduler.delay.seed = seed;
        machine.pass = 1;
        machine.run_for(5 * 3600);
        let ran = machine.ran(&export());
        assert_eq!(ran, machine.ran(&tmp()), "together");
        assert_eq!(ran.len(), 5, "{ran:?}");
        for (hour, when) in ran.iter().enumerate() {
            let due = secs("2026-01-01T01:00:00Z") + 3600 * i64::try_from(hour).unwrap();
            let delay = secs(when) - due;
            assert!((0..=600).contains(&delay), "{when}");
            delays.insert(delay);
        }
    }
    assert!(delays.len() > 100, "{}", delays.len());
    // A jitter longer than the period is cut to the period.
    schedule.jitter = Duration::from_secs(100_000);
    let mut machine = Machine::at("2026-01-01T00:30:00Z", schedule, First::WhenDue);
    machine.run_for(10 * 3600);
    assert!(machine.ran(&export()).len() >= 9);
}

#[test]
fn a_new_schedule_keeps_the_due_moments_of_unchanged_rules() {
    let mut machine = Machine::at("2026-01-01T11:59:00Z", cvat("UTC"), First::WhenDue);
    let mut schedule = cvat("UTC");
    schedule.zones[1].1 = Rule::every(Duration::from_secs(60)).unwrap();
    machine.wall += 120;
    let at = Reading { wall: Moment::from_unix(machine.wall, 0), steady: Duration::ZERO };
    machine.scheduler.reschedule(schedule, at);
    assert_eq!(machine.check(), Next::Due(vec![export()]));
    machine.wall += 60;
    assert_eq!(machine.check(), Next::Due(vec![tmp()]));
    machine.scheduler.reschedule(Schedule { zones: Vec::new(), jitter: Duration::ZERO }, at);
    assert_eq!(machine.check(), Next::Wait(Duration::MAX));
}

#[test]
fn a_zone_that_could_not_be_swept_is_tried_again_soon_and_the_others_keep_their_times() {
    let mut machine = Machine::at("2026-01-01T11:59:00Z", cvat("UTC"), First::WhenDue);
    machine.pass = 0;
    machine.run_for(60);
    machine.ran.clear();
    let mut tries = 0;
    for _ in 0..2 * DAY {
        if let Next::Due(zones) = machine.check() {
            let now = units::rfc3339(Moment::from_unix(machine.wall, 0));
            for zone in zones {
                let steady = Duration::from_secs(machine.steady);
                let wall = Moment::from_unix(machine.wall, 0);
                if zone == tmp() {
                    tries += 1;
                    machine.scheduler.retry(&zone, Reading { wall, steady });
                } else {
                    machine.ran.push((now.clone(), zone));
                }
            }
        }
        machine.sleep(1);
    }
    assert_eq!(
        machine.ran(&export()),
        [
            "2026-01-01T12:00:00Z",
            "2026-01-02T00:00:00Z",
            "2026-01-02T12:00:00Z",
            "2026-01-03T00:00:00Z"
        ]
    );
    assert!(tries > 100_000, "every second from 18:00 on: {tries}");
    // A new schedule does not forget it, nor does a clock that is set back.
    let mut schedule = cvat("UTC");
    schedule.zones[1].1 = Rule::every(Duration::from_secs(DAY)).unwrap();
    let at = Reading { wall: Moment::from_unix(machine.wall, 0), steady: Duration::MAX };
    machine.scheduler.reschedule(schedule, at);
    machine.wall -= 30 * DAY.cast_signed();
    machine.sleep(1);
    assert_eq!(machine.check(), Next::Due(vec![tmp()]));
    assert!(matches!(machine.check(), Next::Wait(wait) if wait > Duration::from_secs(60)));
}
