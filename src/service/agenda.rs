//! Which zones are due now, and how long until the next: the pure core of the service.
//!
//! It must not read a clock, wait or run anything. Two clocks are handed in with each question: the
//! wall's, which schedules are written in and which may jump, and a steady one, which counts while the
//! machine sleeps. Moments that were missed, asleep or during a long pass, come to one pass. A clock that
//! is set back neither repeats the pass that was just made nor silences the service until it has caught
//! up again.

use std::time::Duration;

use super::schedule::Rule;
use crate::retention::{Moment, Ttl, Zone, shard};

/// What both clocks say.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// The wall's.
    pub wall: Moment,
    /// The steady one's: since whenever, and never back.
    pub steady: Duration,
}

/// When to sweep which zone.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The rule of each zone.
    pub zones: Vec<(Zone, Rule)>,
    /// By how much at most a pass is put off, so that many machines do not start at once.
    pub jitter: Duration,
}

/// Whether passes are made at once when the service starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// They are.
    AtStart,
    /// Not before they are due.
    WhenDue,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Sweep these.
    Due(Vec<Zone>),
    /// Wait, and ask again then or before.
    In(Duration),
}

/// What is to be done when.
#[derive(Debug)]
pub struct Agenda {
    entries: Vec<Entry>,
    delay: Delay,
    /// What the wall's clock said last.
    last: Moment,
}

/// By how much passes are put off.
#[derive(Debug, Clone, Copy)]
struct Delay {
    /// At most.
    jitter: Duration,
    /// Makes the delays of this machine its own.
    seed: u64,
}

#[derive(Debug)]
struct Entry {
    zone: Zone,
    rule: Rule,
    /// The moment that the next pass is for, without jitter.
    due: Moment,
    /// The moment that it begins at.
    begins: Moment,
    /// When the last one was begun, by the steady clock.
    ran: Option<Duration>,
}

impl Agenda {
    /// An agenda that begins now.
    pub fn new(plan: Plan, seed: u64, at: Reading, first: First) -> Self {
        let delay = Delay { jitter: plan.jitter, seed };
        let entry = |(zone, rule): (Zone, Rule)| match first {
            First::AtStart => Entry { zone, rule, due: at.wall, begins: at.wall, ran: None },
            First::WhenDue => Entry::of(zone, rule, at.wall, delay),
        };
        let entries = plan.zones.into_iter().map(entry).collect();
        Self { entries, delay, last: at.wall }
    }

    /// What to do now. What is due counts as begun.
    pub fn look(&mut self, at: Reading) -> Next {
        if at.wall < self.last {
            for entry in &mut self.entries {
                entry.clock_was_set_back(at, self.delay);
            }
        }
        self.last = at.wall;
        let mut zones = Vec::new();
        for entry in self.entries.iter_mut().filter(|entry| entry.begins <= at.wall) {
            entry.is_due_after(at.wall, self.delay);
            entry.ran = Some(at.steady);
            zones.push(entry.zone);
        }
        if !zones.is_empty() {
            return Next::Due(zones);
        }
        let next = self.entries.iter().map(|entry| entry.begins).min();
        Next::In(next.map_or(Duration::MAX, |next| span(at.wall, next)))
    }

    /// Goes by another plan from now on. Zones whose rule stays keep what is due.
    pub fn replan(&mut self, plan: Plan, at: Reading) {
        self.delay.jitter = plan.jitter;
        let mut old = std::mem::take(&mut self.entries);
        for (zone, rule) in plan.zones {
            let known = old.iter().position(|entry| entry.zone == zone && entry.rule == rule);
            self.entries.push(match known {
                Some(known) => old.swap_remove(known),
                None => Entry::of(zone, rule, at.wall, self.delay),
            });
        }
    }

    /// By how much at most a pass is put off.
    pub const fn jitter(&self) -> Duration {
        self.delay.jitter
    }

    /// Each zone, its rule, and when its next pass begins.
    pub fn upcoming(&self) -> impl Iterator<Item = (Zone, &Rule, Moment)> {
        self.entries.iter().map(|entry| (entry.zone, &entry.rule, entry.begins))
    }
}

impl Delay {
    /// When a pass that is due begins. Zones that are due together stay together; a delay never reaches
    /// the next moment that is due.
    fn after(self, due: Moment, rule: &Rule) -> Moment {
        if self.jitter.is_zero() {
            return due;
        }
        let most =
            self.jitter.min(span(due, rule.after(due)).saturating_sub(Duration::from_secs(1)));
        let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX).max(1);
        let delay = scattered(self.seed ^ due.unix_secs().unsigned_abs()) % most;
        due.plus(Ttl::from_duration(Duration::from_millis(delay)))
    }
}

impl Entry {
    /// Of a zone that is due next after `at`.
    fn of(zone: Zone, rule: Rule, at: Moment, delay: Delay) -> Self {
        let mut entry = Self { zone, rule, due: at, begins: at, ran: None };
        entry.is_due_after(at, delay);
        entry
    }

    fn is_due_after(&mut self, at: Moment, delay: Delay) {
        self.due = self.rule.after(at);
        self.begins = delay.after(self.due, &self.rule);
    }

    /// What is past its moment stays due. Else the next moment counts, unless it comes so soon after the
    /// last pass that it is the one which that pass was for: that one or the one after it, so the
    /// service is never silent for longer.
    fn clock_was_set_back(&mut self, at: Reading, delay: Delay) {
        if self.due <= at.wall {
            return;
        }
        self.is_due_after(at.wall, delay);
        let (Some(ran), Some(before)) = (self.ran, self.rule.before(self.due)) else { return };
        let period = span(before, self.due);
        let apart = span(at.wall, self.due).saturating_add(at.steady.saturating_sub(ran));
        if apart.saturating_mul(2) < period {
            self.is_due_after(self.due, delay);
        }
    }
}

/// From one moment to a later one.
pub(super) fn span(from: Moment, to: Moment) -> Duration {
    let nanos =
        |at: Moment| i128::from(at.unix_secs()) * 1_000_000_000 + i128::from(at.subsec_nanos());
    let span =
        u64::try_from(nanos(to) - nanos(from)).unwrap_or(if from < to { u64::MAX } else { 0 });
    Duration::from_nanos(span)
}

/// A number that looks random: `SplitMix64`.
const fn scattered(number: u64) -> u64 {
    shard::mixed(number.wrapping_add(0x9E37_79B9_7F4A_7C15))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::schedule::LocalTime;
    use crate::units;

    /// A machine: both its clocks, and what ran when by the wall's.
    struct Machine {
        agenda: Agenda,
        wall: i64,
        steady: u64,
        /// How long each pass takes.
        pass: u64,
        ran: Vec<(String, Zone)>,
    }

    fn secs(text: &str) -> i64 {
        units::moment(text).unwrap().unix_secs()
    }

    fn cvats(zone: &str) -> Plan {
        let zone = LocalTime::named(zone).unwrap();
        let rule = |text| Rule::cron(text, &zone).unwrap();
        let zones = vec![(Zone::Export, rule("0 0,12 * * *")), (Zone::Tmp, rule("0 18 * * *"))];
        Plan { zones, jitter: Duration::ZERO }
    }

    fn hourly() -> Plan {
        let rule = Rule::every(Duration::from_secs(3600)).unwrap();
        let zones = vec![(Zone::Export, rule.clone()), (Zone::Tmp, rule)];
        Plan { zones, jitter: Duration::ZERO }
    }

    impl Machine {
        fn at(start: &str, plan: Plan, first: First) -> Self {
            let wall = secs(start);
            let reading = Reading { wall: Moment::from_unix(wall, 0), steady: Duration::ZERO };
            let agenda = Agenda::new(plan, 7, reading, first);
            Self { agenda, wall, steady: 0, pass: 60, ran: Vec::new() }
        }

        fn passes(&mut self, secs: u64) {
            self.wall += secs.cast_signed();
            self.steady += secs;
        }

        fn look(&mut self) -> Next {
            let wall = Moment::from_unix(self.wall, 0);
            self.agenda.look(Reading { wall, steady: Duration::from_secs(self.steady) })
        }

        /// Lets it run for so long, waking at least every twenty seconds as the service does.
        fn run_for(&mut self, secs: u64) {
            let end = self.steady + secs;
            while self.steady < end {
                match self.look() {
                    Next::Due(zones) => {
                        let now = units::rfc3339(Moment::from_unix(self.wall, 0));
                        self.ran.extend(zones.into_iter().map(|zone| (now.clone(), zone)));
                        self.passes(self.pass);
                    }
                    Next::In(wait) => {
                        let wait = wait.as_secs().clamp(1, 20).min(end - self.steady);
                        self.passes(wait);
                    }
                }
            }
        }

        fn ran(&self, zone: Zone) -> Vec<&str> {
            let of_zone = self.ran.iter().filter(|(_, ran)| *ran == zone);
            of_zone.map(|(when, _)| when.as_str()).collect()
        }
    }

    const DAY: u64 = 86_400;

    #[test]
    fn two_days_of_cvats_schedule_across_a_change_of_the_clock() {
        let mut machine =
            Machine::at("2026-03-28T12:00:00Z", cvats("Europe/Berlin"), First::WhenDue);
        machine.run_for(2 * DAY);
        let exports = [
            "2026-03-28T23:00:00Z",
            "2026-03-29T10:00:00Z",
            "2026-03-29T22:00:00Z",
            "2026-03-30T10:00:00Z",
        ];
        assert_eq!(machine.ran(Zone::Export), exports);
        assert_eq!(machine.ran(Zone::Tmp), ["2026-03-28T17:00:00Z", "2026-03-29T16:00:00Z"]);
    }

    #[test]
    fn two_days_without_drift_however_long_a_pass_takes() {
        let mut machine = Machine::at("2026-01-01T00:30:00Z", hourly(), First::WhenDue);
        machine.pass = 1234;
        machine.run_for(2 * DAY);
        let ran = machine.ran(Zone::Export);
        assert_eq!(ran.len(), 48);
        assert!(ran.iter().all(|when| when.ends_with(":00:00Z")), "{ran:?}");
        assert_eq!(ran, machine.ran(Zone::Tmp), "one pass for both");
    }

    #[test]
    fn what_a_long_pass_or_a_sleep_made_miss_is_made_up_for_once() {
        let mut machine = Machine::at("2026-01-01T00:30:00Z", hourly(), First::WhenDue);
        machine.pass = 2 * 3600 + 1800;
        machine.run_for(3 * 3600);
        machine.pass = 60;
        machine.run_for(3600);
        let ran = ["2026-01-01T01:00:00Z", "2026-01-01T03:30:00Z"];
        assert_eq!(machine.ran(Zone::Export)[..2], ran);

        let mut machine = Machine::at("2026-01-01T00:30:00Z", cvats("UTC"), First::WhenDue);
        machine.run_for(60);
        // Suspended: both clocks have gone on when it wakes.
        machine.passes(2 * DAY + 13 * 3600);
        machine.run_for(DAY);
        assert_eq!(
            machine.ran(Zone::Export),
            ["2026-01-03T13:31:00Z", "2026-01-04T00:00:00Z", "2026-01-04T12:00:00Z"]
        );
        assert_eq!(machine.ran(Zone::Tmp), ["2026-01-03T13:31:00Z", "2026-01-03T18:00:00Z"]);
    }

    #[test]
    fn a_clock_set_back_repeats_nothing_and_silences_nothing() {
        // By how far, and whether the pass at 12:00 had just been made.
        for back in [1, 60, 1800, 3 * 3600, 13 * 3600, 40 * DAY, 4 * 365 * DAY] {
            for after in [1, 20, 300, 3600, 10 * 3600] {
                let mut machine = Machine::at("2030-01-01T11:59:00Z", cvats("UTC"), First::WhenDue);
                machine.pass = 1;
                machine.run_for(60 + after);
                assert_eq!(machine.ran(Zone::Export), ["2030-01-01T12:00:00Z"]);
                let set_at = machine.steady;
                machine.wall -= back.cast_signed();
                let mut starts = Vec::new();
                while machine.steady < set_at + 3 * DAY {
                    let known = machine.ran(Zone::Export).len();
                    let now = machine.steady;
                    machine.run_for(1);
                    if machine.ran(Zone::Export).len() > known {
                        starts.push(now);
                    }
                    machine.passes(19);
                }
                let first = starts[0];
                assert!(first - 60 >= 6 * 3600 - 60, "{back} {after}: again after {first} s");
                assert!(first - set_at <= DAY, "{back} {after}: silent for {first} s");
                assert!(starts.windows(2).all(|two| two[1] - two[0] > 11 * 3600), "{starts:?}");
            }
        }
    }

    #[test]
    fn what_was_due_stays_due_when_the_clock_goes_back_a_little() {
        let mut plan = cvats("UTC");
        plan.jitter = Duration::from_secs(1800);
        let mut machine = Machine::at("2026-01-01T11:59:00Z", plan, First::WhenDue);
        machine.run_for(62);
        machine.look();
        machine.wall -= 1;
        machine.run_for(3600);
        assert_eq!(machine.ran(Zone::Export).len(), 1, "{:?}", machine.ran);
    }

    #[test]
    fn a_clock_set_forward_makes_one_pass() {
        let mut machine = Machine::at("2026-01-01T11:00:00Z", hourly(), First::WhenDue);
        machine.run_for(60);
        machine.wall += 3 * DAY.cast_signed();
        machine.run_for(60);
        assert_eq!(machine.ran(Zone::Export).len(), 1);
    }

    #[test]
    fn at_start_means_at_once_and_then_as_planned() {
        let mut machine = Machine::at("2026-01-01T11:30:00Z", cvats("UTC"), First::AtStart);
        machine.run_for(3600);
        assert_eq!(machine.ran(Zone::Export), ["2026-01-01T11:30:00Z", "2026-01-01T12:00:00Z"]);
        assert_eq!(machine.ran(Zone::Tmp), ["2026-01-01T11:30:00Z"]);
    }

    #[test]
    fn jitter_puts_off_within_bounds_without_drift_and_differs_by_machine() {
        let mut plan = hourly();
        plan.jitter = Duration::from_secs(600);
        let mut delays = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let mut machine = Machine::at("2026-01-01T00:30:00Z", plan.clone(), First::WhenDue);
            machine.agenda.delay.seed = seed;
            machine.pass = 1;
            machine.run_for(5 * 3600);
            let ran = machine.ran(Zone::Export);
            assert_eq!(ran, machine.ran(Zone::Tmp), "together");
            assert_eq!(ran.len(), 5, "{ran:?}");
            for (hour, when) in ran.iter().enumerate() {
                let due = secs("2026-01-01T01:00:00Z") + 3600 * i64::try_from(hour).unwrap();
                let delay = secs(when) - due;
                assert!((0..=600).contains(&delay), "{when}");
                delays.insert(delay);
            }
        }
        assert!(delays.len() > 100, "{}", delays.len());
        // More than the period is less than the period.
        plan.jitter = Duration::from_secs(100_000);
        let mut machine = Machine::at("2026-01-01T00:30:00Z", plan, First::WhenDue);
        machine.run_for(10 * 3600);
        assert!(machine.ran(Zone::Export).len() >= 9);
    }

    #[test]
    fn another_plan_keeps_what_is_due_by_a_rule_that_stays() {
        let mut machine = Machine::at("2026-01-01T11:59:00Z", cvats("UTC"), First::WhenDue);
        let mut plan = cvats("UTC");
        plan.zones[1].1 = Rule::every(Duration::from_secs(60)).unwrap();
        machine.wall += 120;
        let at = Reading { wall: Moment::from_unix(machine.wall, 0), steady: Duration::ZERO };
        machine.agenda.replan(plan, at);
        assert_eq!(machine.look(), Next::Due(vec![Zone::Export]));
        machine.wall += 60;
        assert_eq!(machine.look(), Next::Due(vec![Zone::Tmp]));
        machine.agenda.replan(Plan { zones: Vec::new(), jitter: Duration::ZERO }, at);
        assert_eq!(machine.look(), Next::In(Duration::MAX));
    }
}
