//! Times as a ClearML server writes and reads them.
//!
//! This module must not read a clock. A server drops a date that it cannot read, and every archived task then matches:
//! so there is one form only, the one that its own clients send.

use crate::rules::{Moment, Ttl};
use crate::units;

/// A moment in the form `2026-01-02 03:04:05.678000`, in UTC. The server keeps milliseconds.
///
/// # Errors
/// The moment is before 1970.
pub fn text(moment: Moment) -> Result<String, String> {
    if moment.unix_secs() < 0 {
        return Err("it reaches back before 1970".to_owned());
    }
    let seconds = units::rfc3339(moment).replace('T', " ");
    let millis = moment.subsec_nanos() / 1_000_000;
    match seconds.strip_suffix('Z') {
        Some(seconds) => Ok(format!("{seconds}.{millis:03}000")),
        None => Err("it is too far in the future".to_owned()),
    }
}

/// The same moment without what is less than a millisecond.
pub const fn in_millis(moment: Moment) -> Moment {
    Moment::from_unix(moment.unix_secs(), moment.subsec_nanos() / 1_000_000 * 1_000_000)
}

/// Reads a time: ISO 8601 with `T` or a space, with or without a fraction, `Z`, or a distance to UTC.
pub fn parse(text: &str) -> Option<Moment> {
    let (plain, offset) = split_offset(text.trim())?;
    let plain = plain.replacen(' ', "T", 1);
    let moment = units::moment(&plain).ok()?;
    if offset >= 0 {
        Some(moment.minus(Ttl::from_secs(offset.unsigned_abs())))
    } else {
        Some(moment.plus(Ttl::from_secs(offset.unsigned_abs())))
    }
}

/// Reads the time of a header, such as `Fri, 02 Jan 2026 03:04:05 GMT`.
pub fn of_header(text: &str) -> Option<Moment> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = words[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    parse(&format!("{year}-{month:02}-{day:0>2}T{time}Z"))
}

/// The part before the distance to UTC, and that distance in seconds.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    let time = text.find(['T', ' '])?;
    let text = text.strip_suffix(['Z', 'z']).unwrap_or(text);
    let Some(sign) = text[time..].find(['+', '-']) else { return Some((text, 0)) };
    let (plain, offset) = text.split_at(time + sign);
    let digits: String = offset[1..].chars().filter(|c| *c != ':').collect();
    if digits.len() != 4 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: i64 = digits.parse().ok()?;
    let secs = number / 100 * 3600 + number % 100 * 60;
    Some((plain, if offset.starts_with('-') { -secs } else { secs }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_form_that_servers_use() {
        let at = |text: &str| parse(text).map(|it| (it.unix_secs(), it.subsec_nanos()));
        let expected = Some((1_767_323_045, 0));
        for text in [
            "2026-01-02T03:04:05Z",
            "2026-01-02T03:04:05",
            "2026-01-02 03:04:05",
            "2026-01-02T03:04:05+00:00",
            "2026-01-02T05:04:05+02:00",
            "2026-01-01 22:34:05-0430",
        ] {
            assert_eq!(at(text), expected, "{text}");
        }
        assert_eq!(at("2026-01-02T03:04:05.220000+00:00"), Some((1_767_323_045, 220_000_000)));
        for text in ["", "soon", "1767323045", "2026-01-02", "2026-01-02T03:04:05+2"] {
            assert_eq!(at(text), None, "{text}");
        }
    }

    #[test]
    fn the_time_of_a_header_is_read() {
        let at = |text| of_header(text).map(Moment::unix_secs);
        assert_eq!(at("Fri, 02 Jan 2026 03:04:05 GMT"), Some(1_767_323_045));
        for text in ["", "now", "Fri, 02 Jan 2026 03:04:05 CET", "Fri, 02 Foo 2026 03:04:05 GMT"] {
            assert_eq!(at(text), None, "{text}");
        }
    }

    #[test]
    fn a_cutoff_is_written_as_python_writes_it() {
        let moment = Moment::from_unix(1_767_323_045, 220_017_999);
        assert_eq!(text(moment).as_deref(), Ok("2026-01-02 03:04:05.220000"));
        assert_eq!(in_millis(moment).subsec_nanos(), 220_000_000);
        assert!(text(Moment::from_unix(-1, 0)).is_err());
    }
}
