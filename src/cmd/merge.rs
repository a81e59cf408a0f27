//! `sweeper merge`: adds the reports of shards.
//!
//! This module must not add anything itself: that is [`crate::report::merge`].

use std::io::{self, Read, Write};
use std::path::PathBuf;

use super::canvas::canvas;
use super::{Refusal, printed};
use crate::config::{Config, Verbosity};
use crate::protocol::ExitCode;
use crate::report::{Format, merge as reports};
use crate::units::{self, shown};

/// Reads the reports and writes their sum.
pub(super) fn merge(
    config: &Config,
    paths: &[PathBuf],
    verbosity: Verbosity,
    out: &mut impl Write,
) -> Result<ExitCode, Refusal> {
    let mut parts = Vec::new();
    for path in paths {
        let read = if path.as_os_str() == "-" {
            let mut bytes = Vec::new();
            io::stdin().read_to_end(&mut bytes).map(|_| bytes)
        } else {
            std::fs::read(path)
        };
        let name = shown(path);
        let bytes =
            read.map_err(|error| Refusal::Merge(format!("{name}: {}", units::error(&error))))?;
        parts.push((name, bytes));
    }
    let merged = reports::merge(&parts).map_err(Refusal::Merge)?;
    let is_quiet = verbosity == Verbosity::Quiet && config.format == Format::Text;
    if is_quiet && merged.exit == ExitCode::Done {
        return Ok(ExitCode::Done);
    }
    Ok(printed(merged.write(out, config.format, canvas(config.color)), merged.exit))
}
