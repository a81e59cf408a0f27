//! CVAT's environment variables: what each one sets here, and in which unit.
//!
//! This module must not read the environment: values are arguments.

use std::time::Duration;

/// Gives the data root: the directory `data` in it.
pub const BASE_DIR: &str = "CVAT_BASE_DIR";
/// The host of the Redis server that CVAT's exporters lock with.
pub const REDIS_HOST: &str = "CVAT_REDIS_INMEM_HOST";
/// Its port.
pub const REDIS_PORT: &str = "CVAT_REDIS_INMEM_PORT";
/// Its password; empty: none.
pub const REDIS_PASSWORD: &str = "CVAT_REDIS_INMEM_PASSWORD";
/// The host that CVAT assumes when only a port or a password is set.
pub const DEFAULT_REDIS_HOST: &str = "localhost";
/// The port that CVAT assumes.
pub const DEFAULT_REDIS_PORT: u16 = 6379;

/// For how long CVAT waits for a lock, in seconds. CVAT refuses to start unless it is longer than the
/// lock's time to live.
pub const LOCK_WAITS: [&str; 2] =
    ["CVAT_DATASET_CACHE_LOCK_TIMEOUT", "CVAT_EXPORT_CACHE_LOCK_ACQUISITION_TIMEOUT"];

/// For how long it waits if neither is set.
pub const DEFAULT_LOCK_WAIT: Duration = Duration::from_secs(50);

/// A variable that sets a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// The setting of this program that it gives a value to.
    pub setting: &'static str,
    /// What a number in it counts.
    pub unit: Unit,
    /// If CVAT has deprecated it, the variable to set instead. As in CVAT, the deprecated one wins.
    pub successor: Option<&'static str>,
}

/// What a number in a variable counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Days.
    Days,
}

/// The variables that set durations. Of those of one setting, the first that is set wins.
pub static DURATIONS: [Variable; 5] = [
    Variable {
        name: "CVAT_DATASET_CACHE_TTL",
        setting: "ttl",
        unit: Unit::Seconds,
        successor: Some("CVAT_EXPORT_CACHE_TTL"),
    },
    Variable {
        name: "CVAT_EXPORT_CACHE_TTL",
        setting: "ttl",
        unit: Unit::Seconds,
        successor: None,
    },
    Variable {
        name: "TMP_FILE_OR_DIR_RETENTION_DAYS",
        setting: "retention",
        unit: Unit::Days,
        successor: None,
    },
    Variable {
        name: "CVAT_DATASET_EXPORT_LOCK_TTL",
        setting: "lock_ttl",
        unit: Unit::Seconds,
        successor: Some("CVAT_EXPORT_CACHE_LOCK_TTL"),
    },
    Variable {
        name: "CVAT_EXPORT_CACHE_LOCK_TTL",
        setting: "lock_ttl",
        unit: Unit::Seconds,
        successor: None,
    },
];

/// The names of all variables that are read.
pub fn names() -> impl Iterator<Item = &'static str> {
    let others = [BASE_DIR, REDIS_HOST, REDIS_PORT, REDIS_PASSWORD];
    others.into_iter().chain(LOCK_WAITS).chain(DURATIONS.iter().map(|variable| variable.name))
}

impl Variable {
    /// Reads a value of this variable.
    ///
    /// # Errors
    /// It is not a whole number, or is negative.
    pub fn read(&self, text: &str) -> Result<Duration, String> {
        let (size, unit, example) = match self.unit {
            Unit::Seconds => (1, "seconds", "86400"),
            Unit::Days => (86_400, "days", "14"),
        };
        match whole_number(text) {
            Some(Number::Whole(number)) => Ok(Duration::from_secs(number.saturating_mul(size))),
            Some(Number::Negative) => {
                let why = "with a negative number, everything would have expired";
                Err(format!("{why}: write a number of {unit} like {example}, or 0"))
            }
            None => Err(format!("CVAT takes a whole number of {unit} here, like {example}")),
        }
    }
}

/// Reads a number of seconds.
///
/// # Errors
/// It is not a whole number, or is negative.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let any = Variable { name: "", setting: "", unit: Unit::Seconds, successor: None };
    any.read(text)
}

/// A number in a variable.
enum Number {
    Whole(u64),
    Negative,
}

/// Reads a whole number as Python's `int()` does: white space around it, a sign, and single underscores
/// between digits. CVAT lets everything expire at once when a number is negative. That is hardly ever meant, so
/// such a number is an error here.
fn whole_number(text: &str) -> Option<Number> {
    let text = text.trim();
    let (is_negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let is_number = digits
        .split('_')
        .all(|group| !group.is_empty() && group.bytes().all(|byte| byte.is_ascii_digit()));
    if !is_number {
        return None;
    }
    // More digits than fit are more seconds than any file is old.
    let number = digits.replace('_', "").parse().unwrap_or(u64::MAX);
    Some(if is_negative && number > 0 { Number::Negative } else { Number::Whole(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_python_reads_them() {
        for (text, secs) in [
            ("3600", 3600),
            ("+3600", 3600),
            ("3_600", 3600),
            (" 3600\n", 3600),
            ("007", 7),
            ("0", 0),
            ("-0", 0),
            ("99999999999999999999", u64::MAX),
        ] {
            assert_eq!(seconds(text), Ok(Duration::from_secs(secs)), "{text:?}");
        }
        for text in
            ["", " ", "+", "-", "1.0", "1h", "_1", "1_", "1__0", "--1", "1e5", "0x10", "+ 1"]
        {
            assert!(seconds(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_negative_number_in_any_variable_is_refused_with_what_to_write() {
        for variable in &DURATIONS {
            for text in ["-3", " -1\n", "-1_000", "-99999999999999999999"] {
                let error = variable.read(text).unwrap_err();
                assert!(error.contains("negative") && error.contains("or 0"), "{text:?}: {error}");
            }
        }
        assert!(seconds("-5").is_err());
    }

    #[test]
    fn each_variable_has_its_own_unit() {
        let find = |name| DURATIONS.iter().find(|variable| variable.name == name).unwrap();
        let days = find("TMP_FILE_OR_DIR_RETENTION_DAYS").read("3");
        assert_eq!(days, Ok(Duration::from_secs(3 * 86_400)));
        assert_eq!(find("CVAT_EXPORT_CACHE_TTL").read("3"), Ok(Duration::from_secs(3)));
        let error = find("TMP_FILE_OR_DIR_RETENTION_DAYS").read("three").unwrap_err();
        assert!(error.contains("days"), "{error}");
    }

    #[test]
    fn a_deprecated_variable_comes_before_its_successor() {
        let at = |name| DURATIONS.iter().position(|variable| variable.name == name).unwrap();
        for variable in &DURATIONS {
            if let Some(successor) = variable.successor {
                assert!(at(variable.name) < at(successor), "{}", variable.name);
            }
        }
    }
}
