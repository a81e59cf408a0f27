//! Durations, moments, sizes and names as people write and read them.
//!
//! This module must not know any setting or zone. Names are printed in quotes and escaped, so that no name can
//! forge a log line or send an escape sequence to a terminal: control characters, marks that change the
//! writing direction, and bytes that are not UTF-8 are replaced.

mod durations;
pub mod errno;

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use crate::rules::{Bytes, Moment, Share};
pub use durations::{duration, exact};

/// Reads an RFC 3339 moment in UTC.
///
/// # Errors
/// What is wrong with the text.
pub fn moment(text: &str) -> Result<Moment, String> {
    let time = humantime::parse_rfc3339_weak(text)
        .map_err(|error| format!("{error}; write it like 2026-01-02T03:04:05Z"))?;
    let since = time.duration_since(UNIX_EPOCH).map_err(|_| "before 1970".to_owned())?;
    Ok(moment_after_epoch(since))
}

/// The moment `since` after the Unix epoch.
pub fn moment_after_epoch(since: Duration) -> Moment {
    let secs = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    Moment::from_unix(secs, since.subsec_nanos())
}

/// A moment as RFC 3339, whole seconds, in UTC. Outside the years 1970 to 9999: `@` and Unix seconds.
pub fn rfc3339(moment: Moment) -> String {
    let secs = moment.unix_secs();
    match u64::try_from(secs) {
        Ok(past) if past < 253_402_300_800 => {
            humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(past)).to_string()
        }
        _ => format!("@{secs}"),
    }
}

/// A moment as RFC 3339 with nanoseconds, in UTC. Outside the years 1970 to 9999: `@` and Unix seconds.
pub fn rfc3339_exact(moment: Moment) -> String {
    match u64::try_from(moment.unix_secs()) {
        Ok(past) if past < 253_402_300_800 => {
            let since = Duration::new(past, moment.subsec_nanos());
            humantime::format_rfc3339_nanos(UNIX_EPOCH + since).to_string()
        }
        _ => format!("@{}", moment.unix_secs()),
    }
}

/// A duration in its two largest units.
pub fn coarse(duration: Duration) -> String {
    let secs = duration.as_secs();
    let units = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];
    let Some(first) = units.iter().position(|(_, size)| secs >= *size) else {
        return if duration.is_zero() { "0s".to_owned() } else { "<1s".to_owned() };
    };
    let (unit, size) = units[first];
    let mut text = format!("{}{unit}", secs / size);
    if let Some((unit, smaller)) = units.get(first + 1) {
        let rest = secs % size / smaller;
        if rest > 0 {
            text = format!("{text} {rest}{unit}");
        }
    }
    text
}

/// Seconds in the format of [`coarse`], with a minus sign if they are negative.
pub fn coarse_secs(secs: i64) -> String {
    let text = coarse(Duration::from_secs(secs.unsigned_abs()));
    if secs < 0 { format!("-{text}") } else { text }
}

impl fmt::Display for Bytes {
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return f.pad(&format!("{} B", self.0));
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut unit = UNITS[0];
        for larger in &UNITS[1..] {
            // 1023.95 would print as 1024.0.
            if value < 1023.95 {
                break;
            }
            value /= 1024.0;
            unit = larger;
        }
        f.pad(&format!("{value:.1} {unit}"))
    }
}

/// Why the system refuses a thread, and what helps.
pub fn no_thread(error: &io::Error) -> String {
    format!(
        "{}; raise the limit on processes and threads (ulimit -u, or --pids-limit of a container)",
        self::error(error)
    )
}

/// A rate per second: `500/s`, or plain `500`.
///
/// # Errors
/// What is wrong with it.
pub fn rate(text: &str) -> Result<NonZeroU32, String> {
    let number = text.strip_suffix("/s").unwrap_or(text).trim_end();
    number.parse().map_err(|_| "not a rate: write a whole number per second, like 500/s".to_owned())
}

/// An amount of space with its unit: `50GiB` (binary), `50GB` (decimal), or `0`.
///
/// # Errors
/// What is wrong with it. A number without a unit, or with half of one, is refused with both readings of it.
pub fn size(text: &str) -> Result<Bytes, String> {
    let text = text.trim();
    if text == "0" {
        return Ok(Bytes(0));
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..end], text[end..].trim_start());
    let letter = unit.chars().next().map_or('\0', |letter| letter.to_ascii_uppercase());
    let power = match letter {
        _ if unit.eq_ignore_ascii_case("b") => 0,
        '\0' if !number.is_empty() => {
            return Err(format!("a size needs a unit: write {number}B or {number}GiB"));
        }
        letter => 1 + "KMGTPE".find(letter).ok_or("write a size like 500MiB or 50GiB")?,
    };
    let base: f64 = match unit.get(1..).map(str::to_ascii_lowercase).as_deref() {
        _ if power == 0 => 1.0,
        Some("ib") => 1024.0,
        Some("b") => 1000.0,
        Some("") => {
            return Err(format!("write {number}{letter}iB (1024) or {number}{letter}B (1000)"));
        }
        _ => return Err("write a size like 500MiB or 50GiB".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| "write a size like 500MiB or 50GiB".to_owned())?;
    let bytes = number * base.powi(i32::try_from(power).unwrap_or(0));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range")]
    if bytes < 1.8e19 { Ok(Bytes(bytes as u64)) } else { Err("it is too large".to_owned()) }
}

/// A size in the unit that needs the fewest digits and loses nothing, as [`size`] reads it.
pub fn exact_size(size: Bytes) -> String {
    const UNITS: [&str; 6] = ["K", "M", "G", "T", "P", "E"];
    let powers = |base: u64, end: &'static str| {
        let fits = |(at, letter): (usize, &&str)| {
            let unit = base.checked_pow(u32::try_from(at).ok()? + 1)?;
            size.0.is_multiple_of(unit).then(|| (size.0 / unit, format!("{letter}{end}")))
        };
        UNITS.iter().enumerate().filter_map(fits).next_back()
    };
    let all = [Some((size.0, "B".to_owned())), powers(1000, "B"), powers(1024, "iB")];
    let best = all.into_iter().flatten().filter(|_| size.0 > 0).min_by_key(|(count, _)| *count);
    best.map_or_else(|| "0B".to_owned(), |(count, unit)| format!("{count}{unit}"))
}

/// A share in percent: `50%`, `99.5%`.
///
/// # Errors
/// What is wrong with it. A number without `%` is refused, because 0.5 can mean half or half a percent.
pub fn share(text: &str) -> Result<Share, String> {
    const HELP: &str = "write a share from 0% to 100%, like 50% or 99.5%";
    let is_whole =
        text.len() <= 3 && text.parse::<u8>().is_ok_and(|number| (1..=100).contains(&number));
    if is_whole {
        return Err(format!("write {text}%"));
    }
    let number = text.trim().strip_suffix('%').map(str::trim_end).ok_or(HELP)?;
    let (whole, rest) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    if !is_number(whole) || !is_number(rest) || rest.len() > 2 {
        return Err(HELP.to_owned());
    }
    let hundredths: u16 = format!("{whole}{rest:0<2}").parse().map_err(|_| HELP)?;
    Share::from_hundredths(hundredths).ok_or_else(|| HELP.to_owned())
}

/// A number with thousands separators.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of entries in words.
pub fn entries(count: u64) -> String {
    format!("{} {}", grouped(count), if count == 1 { "entry" } else { "entries" })
}

/// A path as text: quoted and escaped.
pub fn shown(path: &Path) -> String {
    quoted(path.as_os_str())
}

/// Any text, quoted and escaped.
pub fn quoted(text: &OsStr) -> String {
    format!("{text:?}")
}

/// An error of the system in words, without its number.
pub fn error(error: &io::Error) -> String {
    let text = without_numbers(&error.to_string());
    // What the C library has no words for.
    let is_unknown = text.starts_with("Unknown error") || text == "No error information";
    match error.raw_os_error().filter(|_| is_unknown) {
        Some(number) => format!("the system refused it with {}", errno::name(number)),
        None => text,
    }
}

/// Text without the ` (os error 13)` that the standard library puts after the words for an error.
pub fn without_numbers(text: &str) -> String {
    const BEFORE: &str = " (os error ";
    let mut parts = text.split(BEFORE);
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')') {
            Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                plain += rest;
            }
            _ => {
                plain += BEFORE;
                plain += part;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_moment_reads_and_prints_as_rfc_3339() {
        let text = "2026-01-02T03:04:05Z";
        assert_eq!(moment(text).map(rfc3339).as_deref(), Ok(text));
        assert!(moment("yesterday").is_err());
        assert_eq!(rfc3339(Moment::from_unix(-1, 0)), "@-1");
    }

    #[test]
    fn bytes_and_durations_print_in_few_characters() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (97 << 30, "97.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
        for (secs, text) in [(0, "0s"), (59, "59s"), (3600, "1h"), (93_600, "1d 2h"), (61, "1m 1s")]
        {
            assert_eq!(coarse(Duration::from_secs(secs)), text);
        }
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(123), "123");
    }

    #[test]
    fn an_error_is_told_in_words_and_never_by_number() {
        for (number, text) in [
            (13, "Permission denied"),
            (75, "Value too large for defined data type"),
            (528, "the system refused it with EJUKEBOX"),
        ] {
            assert_eq!(error(&io::Error::from_raw_os_error(number)), text);
        }
        for (text, plain) in [
            (
                "cannot connect: Connection refused (os error 111); try",
                "cannot connect: Connection refused; try",
            ),
            ("a (os error 1) b (os error 22)", "a b"),
            ("a name (os error x) stays", "a name (os error x) stays"),
            ("cut (os error 1", "cut (os error 1"),
        ] {
            assert_eq!(without_numbers(text), plain);
        }
    }

    #[test]
    fn no_name_can_forge_a_line_or_steer_a_terminal() {
        for name in [
            &b"a\nremoved /etc"[..],
            b"\x1b]0;owned\x07",
            b"\x9b31m",
            "\u{9b}31m".as_bytes(),
            "abc\u{202e}zip.exe".as_bytes(),
            b"\xff\xfe",
            b"tab\there",
        ] {
            let text = quoted(OsStr::from_bytes(name));
            assert!(text.chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{text}");
        }
        assert_eq!(quoted(OsStr::new("Привет.zip")), "\"Привет.zip\"");
    }

    #[test]
    fn a_size_is_shown_in_a_unit_that_loses_nothing() {
        for (text, shown) in [
            ("0", "0B"),
            ("1B", "1B"),
            ("1023B", "1023B"),
            ("1.5 GiB", "1536MiB"),
            ("50GB", "50GB"),
            ("1024GiB", "1TiB"),
            ("1500KB", "1500KB"),
            ("2EiB", "2EiB"),
        ] {
            let bytes = size(text).unwrap();
            assert_eq!(exact_size(bytes), shown, "{text}");
            assert_eq!(size(shown), Ok(bytes), "{text}");
        }
    }
}
