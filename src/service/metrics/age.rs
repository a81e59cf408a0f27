//! How long ago the last successful pass was, by a metrics file.
//!
//! This module must not change the file.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use crate::rules::Moment;
use crate::units;

/// The names of the samples that are read.
const END: &str = "sweeper_last_end_timestamp_seconds";
const SUCCESS: &str = "sweeper_last_success_timestamp_seconds";

/// How far a time may be ahead of the clock.
const AHEAD_S: f64 = 60.0;

/// The most that is read of a file.
const MOST_BYTES: u64 = 1 << 20;

/// Whether every zone in the file had a pass without a problem in the last `most`. One line for people.
///
/// # Errors
/// One zone had none, or the file cannot be read: a line that says so.
pub fn of_success(path: &Path, most: Duration, now: Moment) -> Result<String, String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MOST_BYTES).read_to_string(&mut text));
    read.map_err(|error: io::Error| format!("cannot read {path:?}: {}", units::error(&error)))?;
    judge(&text, most, now).unwrap_or_else(|| {
        Err(format!("{path:?} contains no metrics of a pass: was it written by --metrics-file?"))
    })
}

/// The same of the text of a file; `None` if no zone is in it.
fn judge(text: &str, most: Duration, now: Moment) -> Option<Result<String, String>> {
    let times = |name: &'static str| {
        text.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?.strip_prefix("{zone=\"")?;
            let (zone, value) = rest.split_once("\"}")?;
            Some((zone, value.trim().parse::<f64>().ok()?))
        })
    };
    let mut lines = Vec::new();
    let mut is_good = true;
    for (zone, _) in times(END) {
        let success = times(SUCCESS).find(|(other, _)| *other == zone);
        lines.push(match success {
            None => {
                is_good = false;
                format!("{zone}: no pass without problems yet")
            }
            Some((_, at)) => {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "seconds since 1970 are far from 2^52"
                )]
                let age = now.unix_secs() as f64 - at;
                is_good &= (-AHEAD_S..=most.as_secs_f64()).contains(&age);
                #[expect(clippy::cast_possible_truncation, reason = "whole seconds are shown")]
                let secs = age as i64;
                if age < -AHEAD_S {
                    let ahead = units::coarse_secs(secs.saturating_neg());
                    format!(
                        "{zone}: last pass without problems {ahead} in the future: check the clock, then run a pass"
                    )
                } else {
                    let ago = units::coarse_secs(secs.max(0));
                    format!("{zone}: last pass without problems {ago} ago")
                }
            }
        });
    }
    let said = lines.join("; ");
    let said = if is_good { said } else { format!("{said} (at most {})", units::coarse(most)) };
    (!lines.is_empty()).then_some(if is_good { Ok(said) } else { Err(said) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{RunMode, Summary, Tally, ZoneSummary};
    use crate::rules::ZoneName;
    use crate::service::metrics::Metrics;

    const DAY: Duration = Duration::from_secs(86_400);

    /// The metrics of passes over two zones, the second of which has failures.
    fn written(end: i64) -> String {
        let zone = |name: &str, failed| ZoneSummary {
            zone: ZoneName::new(name),
            path: "/data".into(),
            tally: Tally { failed, ..Tally::default() },
            notes: Vec::new(),
            no_lock: None,
        };
        let metrics = Metrics::new(&[ZoneName::new("export"), ZoneName::new("tmp")]).unwrap();
        let zones = vec![zone("export", 0), zone("tmp", 1)];
        let summary = Summary { zones, stopped: None, relief: Vec::new() };
        metrics.count(RunMode::Real, &summary, &[], Moment::from_unix(end, 0));
        metrics.text()
    }

    #[test]
    fn the_oldest_success_decides_and_a_zone_without_one_is_a_problem() {
        let text = written(1000);
        let said = judge(&text, DAY, Moment::from_unix(1060, 0)).unwrap().unwrap_err();
        assert!(said.contains("export: last pass without problems 1m ago"), "{said}");
        assert!(said.contains("tmp: no pass without problems yet"), "{said}");
        let alone: Vec<&str> = text.lines().filter(|line| !line.contains("tmp")).collect();
        let alone = alone.join("\n");
        let at = |secs| judge(&alone, DAY, Moment::from_unix(secs, 0)).unwrap();
        assert!(at(1000 + 86_400).is_ok());
        let late = at(1001 + 86_400).unwrap_err();
        assert_eq!(late, "export: last pass without problems 1d ago (at most 1d)");
        assert!(at(1000 - 60).is_ok());
        let ahead = at(1000 - 3600).unwrap_err();
        assert!(ahead.contains("1h in the future: check the clock"), "{ahead}");
        assert!(judge("", DAY, Moment::from_unix(0, 0)).is_none());
    }
}
