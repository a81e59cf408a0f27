//! When a pass is due: cron expressions in a time zone, or a fixed period.
//!
//! This module must not read a clock: each moment is an argument. Time zones come from the system, or from the
//! built-in copy where the system has none, as in an empty container.

use std::fmt;
use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::rules::Moment;
use crate::units;

/// The time zone that cron expressions are read in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalTime(Place);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// That of the machine. It is looked up when it is needed: the system has a file for each of hundreds.
    Machine,
    Named(TimeZone),
}

impl LocalTime {
    /// The time zone that `TZ` names: `Europe/Berlin`, `:Europe/Berlin`, or a rule like
    /// `CET-1CEST,M3.5.0,M10.5.0/3`.
    ///
    /// # Errors
    /// There is no such time zone.
    pub fn named(name: &str) -> Result<Self, String> {
        let name = name.strip_prefix(':').unwrap_or(name);
        let name = name.strip_prefix("/usr/share/zoneinfo/").unwrap_or(name);
        let zone = TimeZone::get(name).or_else(|_| TimeZone::posix(name));
        let zone = zone.map_err(|_| {
            "there is no such time zone; write its name, like Europe/Berlin".to_owned()
        })?;
        Ok(Self(Place::Named(zone)))
    }

    /// The time zone of the machine (`/etc/localtime`), or UTC if it has none.
    pub const fn system() -> Self {
        Self(Place::Machine)
    }

    fn zone(&self) -> TimeZone {
        match &self.0 {
            Place::Machine => TimeZone::try_system().unwrap_or(TimeZone::UTC),
            Place::Named(zone) => zone.clone(),
        }
    }

    /// A moment in this time zone as RFC 3339, whole seconds, with the distance to UTC.
    pub fn shown(&self, at: Moment) -> String {
        let Some(zoned) = zoned(Moment::from_unix(at.unix_secs(), 0), self) else {
            return units::rfc3339(at);
        };
        zoned.timestamp().display_with_offset(zoned.offset()).to_string()
    }
}

/// When passes over a zone are due.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    text: String,
    timing: Timing,
}

#[derive(Debug, Clone, PartialEq)]
enum Timing {
    /// At every multiple of this many seconds since 1970, so that a restart of the service neither skips
    /// nor moves a pass.
    Every(i64),
    /// At this moment and at every multiple of this many seconds after it.
    EveryFrom(i64, Moment),
    /// At the moments of a cron expression in a time zone.
    Cron(Box<Cron>, LocalTime),
}

impl Rule {
    /// Once every `period`.
    ///
    /// # Errors
    /// It is not a whole number of seconds from 1 second to 366 days.
    pub fn every(period: Duration) -> Result<Self, String> {
        match i64::try_from(period.as_secs()) {
            Ok(secs @ 1..=31_622_400) if period.subsec_nanos() == 0 => {
                Ok(Self { text: format!("every {secs} s"), timing: Timing::Every(secs) })
            }
            _ => Err("not a whole number of seconds from 1 second to 366 days".to_owned()),
        }
    }

    /// Once every `period`, counted from `start`.
    ///
    /// # Errors
    /// It is less than a second or more than the longest time.
    pub fn every_from(period: Duration, start: Moment) -> Result<Self, String> {
        match i64::try_from(period.as_secs()) {
            Ok(secs @ 1..=3_200_000_000) => {
                let (text, timing) = (format!("every {secs} s"), Timing::EveryFrom(secs, start));
                Ok(Self { text, timing })
            }
            _ => Err("not a period from 1 second to 36500 days".to_owned()),
        }
    }

    /// At the moments of a cron expression with five fields, or of `@hourly`, `@daily`, `@weekly`,
    /// `@monthly` or `@yearly`.
    ///
    /// # Errors
    /// It cannot be read, or no moment matches it.
    pub fn cron(text: &str, zone: &LocalTime) -> Result<Self, String> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed);
        let parser = parser.build();
        let cron = parser.parse(text);
        let cron = match wrong_field(text, parser) {
            Some(why) => return Err(why),
            None => cron.map_err(|error| format!("it is not a cron expression: {error}"))?,
        };
        // From any moment on and in any time zone, this finds out that there is no 30th of February.
        let from = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
        if cron.find_next_occurrence(&from, false).is_err() {
            return Err("no date ever matches it".to_owned());
        }
        let timing = Timing::Cron(Box::new(cron), zone.clone());
        Ok(Self { text: text.to_owned(), timing })
    }

    /// The first moment after `at` at which a pass is due; the end of time if there is none.
    pub fn after(&self, at: Moment) -> Moment {
        self.next(at).unwrap_or(Moment::from_unix(i64::MAX, 0))
    }

    fn next(&self, at: Moment) -> Option<Moment> {
        match &self.timing {
            Timing::Every(secs) => {
                let steps = at.unix_secs().div_euclid(*secs).saturating_add(1);
                Some(Moment::from_unix(steps.saturating_mul(*secs), 0))
            }
            Timing::EveryFrom(secs, start) => {
                let since = at.unix_secs().saturating_sub(start.unix_secs());
                // Within its second, the moment itself is over only with its fraction.
                let is_before = at.subsec_nanos() < start.subsec_nanos();
                let steps = since.saturating_sub(i64::from(is_before)).div_euclid(*secs);
                let next = steps.saturating_add(1).saturating_mul(*secs);
                let next = start.unix_secs().saturating_add(next);
                Some(Moment::from_unix(next, start.subsec_nanos()))
            }
            Timing::Cron(cron, zone) => {
                let next = cron.find_next_occurrence(&zoned(at, zone)?, false).ok()?;
                Some(moment(&next))
            }
        }
    }

    /// The last moment before `at` at which a pass was due.
    pub fn before(&self, at: Moment) -> Option<Moment> {
        match &self.timing {
            Timing::Every(secs) => {
                let at = at.unix_secs().saturating_add(i64::from(at.subsec_nanos() > 0));
                let steps = at.saturating_sub(1).div_euclid(*secs);
                Some(Moment::from_unix(steps.saturating_mul(*secs), 0))
            }
            Timing::EveryFrom(secs, _) => {
                Some(at.minus(crate::rules::Ttl::from_secs(secs.unsigned_abs())))
            }
            Timing::Cron(cron, zone) => {
                let last = cron.find_previous_occurrence(&zoned(at, zone)?, false).ok()?;
                Some(moment(&last))
            }
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The fields of a cron expression: the name, what may stand there, and the largest step.
const FIELDS: [(&str, &str, u32); 5] = [
    ("minute", "0 to 59", 59),
    ("hour", "0 to 23", 23),
    ("day of the month", "1 to 31", 31),
    ("month", "1 to 12 or JAN to DEC", 12),
    ("day of the week", "0 to 7 (0 and 7: Sunday) or SUN to SAT", 7),
];

/// What is wrong with a field of a cron expression, or with their number.
fn wrong_field(text: &str, parser: CronParser) -> Option<String> {
    if text.starts_with('@') {
        let is_known = parser.parse(text).is_ok();
        return (!is_known).then(|| {
            "write @hourly, @daily, @weekly, @monthly, @yearly or the five fields of a cron expression"
                .to_owned()
        });
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Some(format!(
            "a cron expression has five fields, like 30 0,12 * * *: minute, hour, day of the month, month, day of \
             the week; this one has {}",
            fields.len()
        ));
    }
    let wrong = FIELDS.iter().enumerate().find(|(at, (.., most))| {
        let mut alone = ["*"; FIELDS.len()];
        alone[*at] = fields[*at];
        let steps = fields[*at].split(',').filter_map(|item| item.split_once('/'));
        let is_too_long =
            |(_, step): (&str, &str)| step.parse().is_ok_and(|step: u32| step > *most);
        parser.parse(&alone.join(" ")).is_err() || steps.into_iter().any(is_too_long)
    });
    wrong.map(|(at, (name, allowed, _))| {
        format!(
            "its field {} is the {name}, and cannot be {:?}: write {allowed}, several with commas, a range with -, \
             a step with / like */2, or *",
            at + 1,
            fields[at]
        )
    })
}

fn zoned(at: Moment, zone: &LocalTime) -> Option<Zoned> {
    let nanos = i32::try_from(at.subsec_nanos()).ok()?;
    Some(Timestamp::new(at.unix_secs(), nanos).ok()?.to_zoned(zone.zone()))
}

fn moment(zoned: &Zoned) -> Moment {
    let at = zoned.timestamp();
    Moment::from_unix(at.as_second(), at.subsec_nanosecond().unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Moment {
        units::moment(text).unwrap()
    }

    /// The moments after `from` and not after `to` at which `text` is due.
    fn due(text: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
        let rule = Rule::cron(text, &LocalTime::named(zone).unwrap()).unwrap();
        let mut moments = Vec::new();
        let mut moment = rule.after(at(from));
        while moment <= at(to) {
            moments.push(units::rfc3339(moment));
            let next = rule.after(moment);
            assert_eq!(rule.before(next), Some(moment), "{text} in {zone}");
            moment = next;
        }
        moments
    }

    #[test]
    fn cvats_own_schedule_keeps_the_time_of_day_when_the_clock_changes() {
        // Spring: the clock jumps from 2:00 to 3:00.
        let found =
            due("0 0,12 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z");
        let spring = ["28T23:00:00Z", "29T10:00:00Z", "29T22:00:00Z", "30T10:00:00Z"];
        assert_eq!(found, spring.map(|end| format!("2026-03-{end}")));
        // Autumn: the clock goes back from 3:00 to 2:00.
        let found =
            due("0 18 * * *", "Europe/Berlin", "2026-10-24T00:00:00Z", "2026-10-26T00:00:00Z");
        assert_eq!(found, ["2026-10-24T16:00:00Z", "2026-10-25T17:00:00Z"]);
    }

    #[test]
    fn a_time_that_is_skipped_or_repeated_is_due_once() {
        let found =
            due("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z");
        assert_eq!(found.len(), 2, "{found:?}");
        let found =
            due("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z");
        assert_eq!(found.len(), 2, "{found:?}");
        // Here midnight itself is skipped.
        let found =
            due("0 0 * * *", "America/Santiago", "2026-09-05T12:00:00Z", "2026-09-07T12:00:00Z");
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn a_moment_is_shown_in_the_local_time() {
        for (zone, moment, shown) in [
            ("Europe/Berlin", "2026-03-29T00:59:59Z", "2026-03-29T01:59:59+01:00"),
            ("Europe/Berlin", "2026-03-29T01:00:00Z", "2026-03-29T03:00:00+02:00"),
            ("Etc/UTC", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05+00:00"),
            ("Asia/Kolkata", "2026-01-02T22:04:05Z", "2026-01-03T03:34:05+05:30"),
        ] {
            assert_eq!(LocalTime::named(zone).unwrap().shown(at(moment)), shown);
        }
    }

    #[test]
    fn a_period_is_counted_from_1970_so_that_no_restart_moves_it() {
        let rule = Rule::every(Duration::from_secs(43_200)).unwrap();
        assert_eq!(rule.after(at("2026-01-02T03:04:05Z")), at("2026-01-02T12:00:00Z"));
        assert_eq!(rule.after(at("2026-01-02T12:00:00Z")), at("2026-01-03T00:00:00Z"));
        assert_eq!(rule.before(at("2026-01-02T12:00:00Z")), Some(at("2026-01-02T00:00:00Z")));
        assert_eq!(rule.before(at("2026-01-02T12:00:01Z")), Some(at("2026-01-02T12:00:00Z")));
        for millis in [0, 999, 1500] {
            assert!(Rule::every(Duration::from_millis(millis)).is_err(), "{millis}");
        }
    }

    #[test]
    fn a_wrong_field_is_named_with_what_is_allowed() {
        let utc = LocalTime::named("Etc/UTC").unwrap();
        for (text, words) in [
            ("99 * * * *", "field 1 is the minute, and cannot be \"99\": write 0 to 59,"),
            ("5 25 * * *", "field 2 is the hour, and cannot be \"25\": write 0 to 23,"),
            ("5 5 0 * *", "field 3 is the day of the month"),
            (
                "5 5 1 13 *",
                "field 4 is the month, and cannot be \"13\": write 1 to 12 or JAN to DEC,",
            ),
            ("* * * foo *", "field 4 is the month"),
            ("* * * * 1-9", "field 5 is the day of the week"),
            ("*/90 * * * *", "cannot be \"*/90\""),
            ("0,1/70 * * * *", "field 1 is the minute"),
            ("0 0 0 * * *", "this one has 6"),
            ("soon", "this one has 1"),
            ("", "this one has 0"),
            ("@dayly", "write @hourly, @daily, @weekly, @monthly, @yearly or"),
        ] {
            let error = Rule::cron(text, &utc).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        for text in
            ["*/59 * * * *", "0 0 L * *", "0 0 * JAN-mar MON,5", "0-30/10 * * * 7", "@YEARLY"]
        {
            assert!(Rule::cron(text, &utc).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_or_never_matches_is_refused() {
        let utc = LocalTime::named("Etc/UTC").unwrap();
        for text in ["", "soon", "0 0", "61 * * * *", "0 0 30 2 *", "0 0 0 * * *", "* * * * * * *"]
        {
            assert!(Rule::cron(text, &utc).is_err(), "{text}");
        }
        for text in ["@daily", "*/5 * * * *", "0 4 * * SUN"] {
            assert!(Rule::cron(text, &utc).is_ok(), "{text}");
        }
        for zone in ["Nowhere/Land", "", "../../etc/passwd"] {
            assert!(LocalTime::named(zone).is_err(), "{zone}");
        }
        for zone in [
            "UTC",
            ":Europe/Berlin",
            "CET-1CEST,M3.5.0,M10.5.0/3",
            "/usr/share/zoneinfo/Asia/Tokyo",
        ] {
            assert!(LocalTime::named(zone).is_ok(), "{zone}");
        }
    }
}
