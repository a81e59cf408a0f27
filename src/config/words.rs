//! The values of settings that are a choice of words.
//!
//! This module must not know where a value comes from.

/// Which zones there are besides those of the settings file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// CVAT's.
    Cvat,
    /// None.
    None,
}

/// Whether to check if an entry is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InUse {
    /// Skip what another process has open or locked.
    Skip,
    /// Do not check.
    Ignore,
}

/// The lock that is taken on an entry itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileLocks {
    /// `flock`.
    Flock,
    /// None.
    Unlocked,
}

/// What to do if another sweeper is at work in a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfRunning {
    /// Leave the zone alone.
    Exit,
    /// Wait until the other one has finished.
    Wait,
    /// Share the work.
    Share,
}

/// When to show progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressWhen {
    /// If stderr is a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// When to use color.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColorWhen {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object per line.
    Json,
}

/// How much is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// Errors only; no report if nothing failed.
    Quiet,
    /// Also warnings.
    Normal,
    /// Also what happens to every entry.
    Verbose,
}
