//! Log lines: they go to stderr, as text or as JSON objects.
//!
//! This module must not be used to print results, which go to stdout.

use std::{fmt, io};

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::prelude::*;

/// The target of the lines that a service writes about itself.
pub const SERVICE: &str = "retention_sweeper::service";

/// The target of the lines about a file that a command has written for its user.
pub const WRITTEN: &str = "retention_sweeper::written";

/// Which lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Errors.
    Quiet,
    /// Warnings too.
    Warnings,
    /// Warnings, what a service says about itself, and which file was written.
    Normal,
    /// Everything from `INFO` up.
    Verbose,
}

/// What a line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineFormat {
    /// Text.
    Text,
    /// A JSON object with a time.
    Json,
}

/// Reads the clock, as people write the time.
pub type Clock = Box<dyn Fn() -> String + Send + Sync>;

/// Writes the time of a line.
struct Stamp(Clock);

impl FormatTime for Stamp {
    fn format_time(&self, to: &mut Writer<'_>) -> fmt::Result {
        to.write_str(&(self.0)())
    }
}

/// Sends log lines to stderr from now on. With a `clock`, every line begins with the time; without one, only
/// JSON has a time. Only the first call in a process has an effect.
pub fn to_stderr(detail: Detail, format: LineFormat, clock: Option<Clock>) {
    // No colors, so that lines read the same in a file. A closed stderr is no reason to fail.
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(false)
        .log_internal_errors(false);
    let log = tracing_subscriber::registry().with(levels(detail));
    let stamp = clock.map(Stamp);
    let _ = match (format, stamp) {
        (LineFormat::Text, None) => log.with(lines.without_time()).try_init(),
        (LineFormat::Text, Some(stamp)) => log.with(lines.with_timer(stamp)).try_init(),
        (LineFormat::Json, None) => log.with(lines.json().flatten_event(true)).try_init(),
        (LineFormat::Json, Some(stamp)) => {
            log.with(lines.with_timer(stamp).json().flatten_event(true)).try_init()
        }
    };
}

fn levels(detail: Detail) -> Targets {
    let (level, told) = match detail {
        Detail::Quiet => (Level::ERROR, Level::ERROR),
        Detail::Warnings => (Level::WARN, Level::WARN),
        Detail::Normal => (Level::WARN, Level::INFO),
        Detail::Verbose => (Level::INFO, Level::INFO),
    };
    let targets = Targets::new().with_default(level);
    targets.with_target(SERVICE, told).with_target(WRITTEN, told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_heard_unless_it_is_told_to_be_quiet() {
        let http = "retention_sweeper::service::http";
        let other = "retention_sweeper::engine";
        for (detail, info_of_service, warn, info) in [
            (Detail::Quiet, false, false, false),
            (Detail::Warnings, false, true, false),
            (Detail::Normal, true, true, false),
            (Detail::Verbose, true, true, true),
        ] {
            let levels = levels(detail);
            for service in [SERVICE, http, WRITTEN] {
                assert_eq!(
                    levels.would_enable(service, &Level::INFO),
                    info_of_service,
                    "{detail:?}"
                );
            }
            assert_eq!(levels.would_enable(other, &Level::WARN), warn, "{detail:?}");
            assert_eq!(levels.would_enable(other, &Level::INFO), info, "{detail:?}");
            assert!(levels.would_enable(other, &Level::ERROR));
            assert_eq!(levels.would_enable(SERVICE, &Level::WARN), warn, "{detail:?}");
            assert!(!levels.would_enable(SERVICE, &Level::DEBUG));
        }
    }
}
