//! Errors on the way out of reach.
//!
//! This module must not decide what becomes of the entry.

use std::io;

use rustix::io::Errno;

/// Why an entry is not in quarantine.
#[derive(Debug)]
pub(in super::super) enum NotDetached {
    /// The system refuses the rename, or the directory that it needs, and will refuse it again. The entry can
    /// be removed in place.
    Refused(io::Error),
    /// Anything else. The entry stays, and the next pass tries again.
    Failed(io::Error),
}

impl NotDetached {
    const REFUSALS: [Errno; 12] = [
        Errno::ACCESS,
        Errno::PERM,
        Errno::ROFS,
        Errno::XDEV,
        Errno::NOSPC,
        Errno::DQUOT,
        Errno::MLINK,
        Errno::NAMETOOLONG,
        Errno::INVAL,
        Errno::NOSYS,
        Errno::OPNOTSUPP,
        Errno::NOLCK,
    ];

    /// The error itself.
    pub(in super::super) fn into_error(self) -> io::Error {
        let (Self::Refused(error) | Self::Failed(error)) = self;
        error
    }

    /// The error of a rename, or of making a directory.
    pub(super) fn of(error: Errno) -> Self {
        if Self::REFUSALS.contains(&error) {
            Self::Refused(error.into())
        } else {
            Self::Failed(error.into())
        }
    }

    /// The error of locking a directory. Where locks are known and fail, a removal in place would not know who is at
    /// work in the tree either, and leave half of it.
    pub(super) fn of_lock(error: Errno) -> Self {
        if matches!(error, Errno::NOSYS | Errno::OPNOTSUPP) {
            Self::Refused(error.into())
        } else {
            Self::Failed(error.into())
        }
    }
}
