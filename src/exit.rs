//! Exit codes, as the contract numbers them.
//!
//! It must not decide anything but which code goes before which: the highest applies.

use crate::sweep::Summary;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExitCode {
    /// It ended, and nothing failed.
    Done = 0,
    /// It ended, and some entries failed.
    SomeFailed = 1,
    /// Usage, settings or data root are wrong; nothing was done.
    Usage = 2,
    /// It was stopped before its end.
    Stopped = 3,
    /// A lock backend could not be used, or another sweeper is at work; that zone was left alone.
    NoLock = 4,
}

impl ExitCode {
    /// The number.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// What a pass amounts to.
    pub fn of(summary: &Summary) -> Self {
        let mut code = Self::Done;
        if summary.zones.iter().any(|zone| zone.tally.failed > 0) {
            code = code.max(Self::SomeFailed);
        }
        if summary.stopped.is_some() {
            code = code.max(Self::Stopped);
        }
        if summary.zones.iter().any(|zone| zone.no_lock.is_some()) {
            code = code.max(Self::NoLock);
        }
        code
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.number())
    }
}
