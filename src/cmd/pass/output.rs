//! The report of a pass, as the settings say.
//!
//! This module must not print anything itself: that is [`crate::report`].

use std::io::{IsTerminal, Write};

use crate::cmd::canvas::canvas;
use crate::config::{Config, ProgressWhen, Verbosity};
use crate::protocol::RunInfo;
use crate::report::progress::{Progress, Style};
use crate::report::{Detail, Report};

/// A report of the pass to `out`.
pub(super) fn report<'a, W: Write + Send>(
    info: RunInfo<'a>,
    config: &Config,
    verbosity: Verbosity,
    out: W,
) -> Report<'a, W> {
    let progress = Progress::new(progress_style(config, info.command, verbosity), info.mode);
    Report::new(info, config.format, detail(verbosity), progress, out).on(canvas(config.color))
}

pub(in crate::cmd) const fn detail(verbosity: Verbosity) -> Detail {
    match verbosity {
        Verbosity::Quiet => Detail::Problems,
        Verbosity::Normal => Detail::Expired,
        Verbosity::Verbose => Detail::All,
    }
}

pub(in crate::cmd) fn progress_style(
    config: &Config,
    command: &str,
    verbosity: Verbosity,
) -> Style {
    let is_terminal = std::io::stderr().is_terminal();
    match config.progress {
        ProgressWhen::Auto if verbosity != Verbosity::Normal => Style::Silent,
        ProgressWhen::Always | ProgressWhen::Auto if is_terminal => Style::Drawn,
        ProgressWhen::Always => Style::Lines,
        // The command that `legacy` replaces shows its progress, terminal or not.
        ProgressWhen::Auto if command == "legacy" => Style::Lines,
        ProgressWhen::Never | ProgressWhen::Auto => Style::Silent,
    }
}
