//! Removes nothing, and says what would have been removed.
//!
//! It must not change anything. It fails where the system says beforehand that a removal would.

use std::sync::Arc;

use super::ledger::Ledger;
use crate::fs::error::hint;
use crate::fs::open;
use crate::protocol::{Disposer, Failure, Rejected, Rejection, Removed, Verified};
use crate::rules::{Action, Bytes, Moment};

/// The disposer of a dry run.
#[derive(Debug, Default)]
pub struct DryRun {
    ledger: Ledger,
}

impl Disposer for DryRun {
    fn dispose(&self, verified: Verified, _now: Moment) -> Result<Removed, Rejected> {
        let expired = verified.expired();
        let directory = Arc::clone(expired.directory());
        if let Err(error) = open::may_remove_from(&directory.handle) {
            let (path, error) = (directory.path_of(expired.name()), error.into());
            let hint = hint(&directory.handle, Some(expired.name()), Action::Unlink, &error);
            let failure = Failure::new(&directory.zone.name, Action::Unlink, path, error, hint);
            return Err(verified.reject(Rejection::Failed(failure), Bytes(0)));
        }
        let freed = self.ledger.charge(verified.freed());
        Ok(verified.removed(freed))
    }
}
