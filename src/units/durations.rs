//! Durations as people write them, and as they can be read again.
//!
//! This module must not guess a unit.

use std::fmt::Write;
use std::time::Duration;

use humantime::DurationError;

/// Reads a duration with its unit: `36h`, `14d`, `1h30m`, or `0`.
///
/// # Errors
/// What is wrong with the text. A number without a unit is refused with each reading of it: people mean hours or days,
/// and programs mean seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let is_digit = |byte: u8| byte.is_ascii_digit();
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(is_digit);
    if is_number(whole) && is_number(part) {
        return Err(format!(
            "a duration needs a unit: write {text}h for hours, {text}d for days or {text}s for seconds"
        ));
    }
    if let Some(why) = without_fixed_length(text) {
        return Err(why);
    }
    humantime::parse_duration(text).map_err(|error| match error {
        DurationError::UnknownUnit { unit, .. } if !unit.is_empty() => format!(
            "{unit:?} is not a unit of time: write s, m (minutes), h, d or w, like 36h, 14d or 1h30m"
        ),
        DurationError::NumberOverflow => "it is too long".to_owned(),
        DurationError::InvalidCharacter(_)
        | DurationError::NumberExpected(_)
        | DurationError::UnknownUnit { .. }
        | DurationError::Empty => {
            "it is not a duration: write a number and a unit, like 36h, 14d or 1h30m".to_owned()
        }
    })
}

/// Why a duration is refused that counts months or years: they differ in length, and `M` is easily meant as minutes.
fn without_fixed_length(text: &str) -> Option<String> {
    const UNITS: [&str; 6] = ["M", "month", "months", "y", "year", "years"];
    let unit = text.split(|c: char| !c.is_alphabetic()).find(|unit| UNITS.contains(unit))?;
    let number = text.strip_suffix(unit).and_then(|number| number.trim().parse().ok());
    let number = number.unwrap_or(1_u64);
    let days = number.saturating_mul(if unit.starts_with('y') { 365 } else { 30 });
    Some(match unit {
        "M" => format!("M can mean minutes or months: write {number}m or {days}d"),
        _ => format!("months and years have no fixed length: write {days}d"),
    })
}

/// A duration in all its units, as [`duration`] reads it.
pub fn exact(duration: Duration) -> String {
    let secs = duration.as_secs();
    let nanos = duration.subsec_nanos();
    let mut text = String::new();
    for (count, unit) in [
        (secs / 86_400, "d"),
        (secs % 86_400 / 3600, "h"),
        (secs % 3600 / 60, "m"),
        (secs % 60, "s"),
        (u64::from(nanos / 1_000_000), "ms"),
        (u64::from(nanos / 1000 % 1000), "us"),
        (u64::from(nanos % 1000), "ns"),
    ] {
        if count > 0 {
            let gap = if text.is_empty() { "" } else { " " };
            let _ = write!(text, "{gap}{count}{unit}");
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        for (text, secs) in
            [("0", 0), ("36h", 129_600), ("14d", 1_209_600), ("1h 30m", 5400), (" 5s ", 5)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs(secs)), "{text}");
        }
        for text in ["", "soon", "-5", "1.5", "86400", "99999999999999999999", "5 parsecs"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for number in ["14", "14.5"] {
            let all @ [hours, days, secs] = &["h", "d", "s"].map(|unit| format!("{number}{unit}"));
            let said = format!("write {hours} for hours, {days} for days or {secs} for seconds");
            assert_eq!(duration(number).unwrap_err(), format!("a duration needs a unit: {said}"));
            assert!(all.iter().all(|text| duration(text).is_ok()), "what is offered is accepted");
        }
    }

    #[test]
    fn a_unit_that_can_be_misread_is_refused_with_what_to_write() {
        for (text, words) in [
            ("1M", "M can mean minutes or months: write 1m or 30d"),
            ("2 months", "months and years have no fixed length: write 60d"),
            ("1y", "write 365d"),
            ("1d 2M", "write 1m or 30d"),
            ("5 parsecs", "\"parsecs\" is not a unit of time: write s, m (minutes), h, d or w"),
            ("14 D", "\"D\" is not a unit of time"),
            ("soon", "write a number and a unit, like 36h"),
            ("-5h", "write a number and a unit, like 36h"),
            ("99999999999999999999d", "it is too long"),
        ] {
            let error = duration(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn durations_are_shown_as_they_can_be_read_again() {
        for (time, text) in [
            (Duration::ZERO, "0s"),
            (Duration::from_secs(3600), "1h"),
            (Duration::from_secs(129_600), "1d 12h"),
            (Duration::from_secs(14 * 86_400), "14d"),
            (Duration::from_millis(90_500), "1m 30s 500ms"),
            (Duration::from_nanos(1_002_003), "1ms 2us 3ns"),
        ] {
            assert_eq!(exact(time), text);
            assert_eq!(duration(text), Ok(time));
        }
    }
}
