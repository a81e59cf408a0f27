//! What `sweeper why` says about the lock of an entry.
//!
//! This module must not take one.

use std::ffi::CStr;
use std::path::Path;

use super::{End, Question};
use crate::fs::open;
use crate::lock::exclusive::named_holder_of;
use crate::lock::redis::Holder;
use crate::protocol::{Directory, Rejection, Skipped};
use crate::rules::{LockKind, Zone};

impl Question<'_> {
    /// Who holds the application's lock, if anyone does.
    pub(super) fn holder(&self, zone: &Zone, relative: &Path) -> Option<String> {
        let locks = self.locks.application.as_ref();
        let locks = locks.filter(|_| zone.lock == LockKind::Application)?;
        match locks.holder(relative) {
            Ok(None) => None,
            Ok(Some(holder)) => {
                let who = if holder.is_sweeper() { "a sweeper" } else { "CVAT" };
                let Holder { token, is_lock, remaining } = holder;
                if !is_lock {
                    return Some(format!(
                        "held in Redis by a key of the wrong type ({token}), which is not a lock: \
                         delete the key"
                    ));
                }
                // It is escaped already.
                let token = format!("\"{token}\"");
                Some(match remaining {
                    Some(remaining) => {
                        let secs = remaining.as_secs_f32();
                        format!("held by {who} in Redis for another {secs:.1} s (token {token})")
                    }
                    None => {
                        format!("held in Redis without an expiry (token {token}): delete the key")
                    }
                })
            }
            Err(error) => Some(format!("unknown: {error}")),
        }
    }

    /// What became of the lock of the entry `name`.
    pub(super) fn describe_lock(
        &self,
        zone: &Zone,
        end: &End,
        directory: &Directory,
        name: &CStr,
    ) -> String {
        let is_taken =
            zone.lock != LockKind::Unlocked && self.locks.files == crate::lock::FileLocks::Flock;
        match end {
            _ if !is_taken => "not taken",
            End::Rejected(Rejection::Skipped(Skipped::Locked), _) => {
                let seen = open::listed(&directory.handle, name, false).ok();
                let holder = seen.and_then(named_holder_of);
                return format!("held by {}", holder.as_deref().unwrap_or("another process"));
            }
            End::Rejected(
                Rejection::Failed(_)
                | Rejection::NotWritten(_)
                | Rejection::NoLock(_)
                | Rejection::Unreached,
                _,
            ) => "unknown",
            _ if self.config.locks.misses_application_of(zone) => {
                "flock: free; CVAT's lock was not looked at, because no Redis server is named (--redis)"
            }
            End::Removed(_) | End::Rejected(Rejection::Skipped(_), _) => "free",
        }
        .to_owned()
    }
}
