//! How the service is, for those who ask: the health page and the watchdog.
//!
//! It must not decide when to run or touch a volume: it is told what happened and puts it in words.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::agenda::Agenda;
use super::schedule::Rule;
use crate::retention::{Moment, Ttl, Zone};
use crate::units;

/// How long after its moment a pass may end before it counts as missed.
const GRACE: Duration = Duration::from_secs(600);

/// Between two looks at the agenda, at most: so long it may be wrong about a clock that was set.
pub(super) const TICK: Duration = Duration::from_secs(20);

/// What is known of the service.
#[derive(Debug)]
pub struct Board(Mutex<State>);

#[derive(Debug)]
struct State {
    zones: Vec<Standing>,
    grace: Duration,
    at_work: bool,
    looked: Instant,
}

/// What is known of one zone.
#[derive(Debug)]
struct Standing {
    zone: Zone,
    rule: Rule,
    /// When the first pass over it was to begin.
    first: Moment,
    last: Option<Last>,
}

#[derive(Debug, Clone)]
struct Last {
    ended: Moment,
    trouble: Option<String>,
}

impl Board {
    /// Of a service that is about to begin.
    pub fn of(agenda: &Agenda) -> Self {
        let board = Self(Mutex::new(State {
            zones: Vec::new(),
            grace: GRACE,
            at_work: false,
            looked: Instant::now(),
        }));
        board.plan(agenda);
        board
    }

    /// Goes by the agenda as it is now; what happened to zones that stay is kept.
    pub fn plan(&self, agenda: &Agenda) {
        let mut state = self.state();
        let old = std::mem::take(&mut state.zones);
        state.zones = agenda
            .upcoming()
            .map(|(zone, rule, begins)| {
                let known = old.iter().find(|standing| standing.zone == zone);
                let last = known.and_then(|standing| standing.last.clone());
                let same = known.filter(|standing| standing.rule == *rule);
                let first = same.map_or(begins, |standing| standing.first);
                Standing { zone, rule: rule.clone(), first, last }
            })
            .collect();
        state.grace = GRACE.saturating_add(agenda.jitter());
    }

    /// Whether the service is alive is not asked while it stands by for another.
    pub fn stand_by<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.state().at_work = true;
        let waited = wait();
        self.state().at_work = false;
        waited
    }

    pub(super) fn looks(&self) {
        self.state().looked = Instant::now();
    }

    pub(super) fn begins(&self) {
        self.state().at_work = true;
    }

    pub(super) fn ends(&self, ended: Moment, zones: &[(Zone, Option<String>)]) {
        let mut state = self.state();
        state.at_work = false;
        state.looked = Instant::now();
        for (zone, trouble) in zones {
            if let Some(standing) = state.zones.iter_mut().find(|standing| standing.zone == *zone) {
                standing.last = Some(Last { ended, trouble: trouble.clone() });
            }
        }
    }

    /// Whether the service looks at its agenda as it should. During a pass it does not, and a call that
    /// hangs in the file system is nothing that killing it would help.
    pub fn is_alive(&self) -> bool {
        let state = self.state();
        state.at_work || state.looked.elapsed() < TICK * 3
    }

    /// A line for each zone: good, or with what is wrong.
    ///
    /// # Errors
    /// The same, when anything is wrong.
    pub fn health(&self, now: Moment) -> Result<String, String> {
        let state = self.state();
        let mut good = true;
        let mut text = String::new();
        for standing in &state.zones {
            let (line, is_good) = standing.line(now, state.grace, state.at_work);
            good &= is_good;
            text = format!("{text}{}: {line}\n", standing.zone.name());
        }
        if good { Ok(text) } else { Err(text) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standing {
    fn line(&self, now: Moment, grace: Duration, at_work: bool) -> (String, bool) {
        let late = |due: Moment| due.plus(Ttl::from_duration(grace)) < now;
        let shown = units::rfc3339;
        match &self.last {
            None if late(self.first) && !at_work => (
                format!("the first pass was due at {}, and none has ended", shown(self.first)),
                false,
            ),
            None => (format!("no pass yet, the first is due at {}", shown(self.first)), true),
            Some(Last { ended, trouble: Some(trouble) }) => {
                (format!("the last pass ended at {}: {trouble}", shown(*ended)), false)
            }
            // Two of its moments have gone by without a pass that ended.
            Some(Last { ended, .. }) if late(self.rule.after(self.rule.after(*ended))) => {
                (format!("the last pass ended at {}, and two were due since", shown(*ended)), false)
            }
            Some(Last { ended, .. }) => {
                (format!("the last pass ended at {} and was good", shown(*ended)), true)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::agenda::{First, Plan, Reading};

    #[test]
    fn health_says_what_is_wrong_with_which_zone() {
        let at = |text: &str| units::moment(&format!("2026-01-01T{text}Z")).unwrap();
        let rule = |hours: u64| Rule::every(Duration::from_secs(hours * 3600)).unwrap();
        let zones = vec![(Zone::Export, rule(1)), (Zone::Tmp, rule(12))];
        let plan = Plan { zones, jitter: Duration::from_secs(60) };
        let start = Reading { wall: at("00:30:00"), steady: Duration::ZERO };
        let agenda = Agenda::new(Plan { jitter: Duration::ZERO, ..plan }, 0, start, First::WhenDue);
        let board = Board::of(&agenda);
        let said = |now: &str| board.health(at(now));
        let text = said("01:05:00").unwrap();
        assert!(text.contains("export: no pass yet, the first is due at 2026-01-01T01:00:00Z"));
        assert!(said("01:11:00").unwrap_err().contains("the first pass was due"));
        board.begins();
        assert!(said("01:11:00").is_ok(), "it is being made");
        board.ends(at("01:12:00"), &[(Zone::Export, None)]);
        assert!(said("01:13:00").unwrap().contains("and was good"));
        assert!(said("03:10:00").is_ok(), "two periods and the grace");
        let text = said("03:10:01").unwrap_err();
        assert!(text.contains("export: the last pass ended at 2026-01-01T01:12:00Z, and two"));
        assert!(text.contains("tmp: no pass yet"), "{text}");
        board.ends(at("03:12:00"), &[(Zone::Export, Some("3 entries failed".to_owned()))]);
        assert!(
            said("03:13:00")
                .unwrap_err()
                .contains("export: the last pass ended at 2026-01-01T03:12:00Z: 3 entries failed")
        );
        assert!(said("00:00:00").is_err(), "a clock set back forgives nothing");
        assert!(board.is_alive());
    }
}
