//! Takes and releases the locks of batches of entries.
//!
//! This module must not hand out an entry whose lock the server has not confirmed within [`ANSWER_VALIDITY`], or whose
//! lease has run out. The locks of a batch are released together, when its last entry is done.

use std::time::Duration;

use super::connection::{Connection, Release};
use super::error::LockError;
use super::scripts::Grant;
use super::{ExporterLocks, keys};
use crate::protocol::{Expired, Lease, Rejected, Rejection, Skipped};

/// How many locks have one token.
const KEYS_PER_BATCH: usize = 1024;

/// How many of them are in one request, so that the first entries can be worked on while the server
/// answers the other requests.
const KEYS_PER_REQUEST: usize = 128;

/// How long an answer of the server is relied on, from its arrival.
const ANSWER_VALIDITY: Duration = Duration::from_millis(100);

/// An expired entry with the lease that covers it, or the reason why there is none.
pub(in crate::lock) type Leased = Result<(Expired, Box<dyn Lease>), Rejected>;

/// A lock that we hold. It is released with the rest of its batch.
#[derive(Debug)]
struct RedisLease {
    /// By the steady clock.
    until: Duration,
    steady: fn() -> Duration,
}

impl Lease for RedisLease {
    fn is_valid(&self) -> bool {
        (self.steady)() < self.until
    }
}

/// The part of a TTL in which a lease is valid: less pottery's allowance for clock drift, less a reserve
/// of 5%, at most a second, for a delay between the last check and the unlink.
fn usable(ttl: Duration) -> Duration {
    let drift = ttl / 100 + Duration::from_millis(2);
    let reserve = (ttl / 20).min(Duration::from_secs(1));
    ttl.saturating_sub(drift + reserve)
}

/// The locks of a batch, from the request to the release.
struct BatchLocks {
    connection: Connection,
    keys: Vec<Vec<u8>>,
    token: String,
    /// What the server said about each lock, as far as the answers were read.
    granted: Vec<Grant>,
    /// When the last answer arrived that was waited for. It describes a moment at most one round trip before.
    confirmed: Duration,
    steady: fn() -> Duration,
    /// Whether the connection was lost. Then no further lock of the batch is relied on.
    is_lost: bool,
}

impl BatchLocks {
    /// Whether the lock at `index` is held now, and who has it if not. To be asked in the order of the keys.
    fn grant_of(&mut self, index: usize) -> Result<Grant, LockError> {
        if self.is_lost {
            return Ok(Grant::Locked);
        }
        let is_outdated = (self.steady)().saturating_sub(self.confirmed) > ANSWER_VALIDITY;
        // A question can be asked only when all answers before it were read.
        let needed = if is_outdated { self.keys.len() } else { index + 1 };
        let mut checked = self.read_until(needed);
        if checked.is_ok() && is_outdated {
            checked = self.confirm_from(index);
        }
        match checked {
            Ok(()) => Ok(self.granted[index]),
            Err(LockError::Unreachable(_)) => {
                self.is_lost = true;
                Ok(Grant::Locked)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads answers until this many locks were answered for.
    fn read_until(&mut self, needed: usize) -> Result<(), LockError> {
        while self.granted.len() < needed {
            let unread = self.keys.len() - self.granted.len();
            self.granted.extend(self.connection.read_granted(unread.min(KEYS_PER_REQUEST))?);
        }
        Ok(())
    }

    /// Asks the server about all locks from `index` on that were granted. It may have been stopped, or
    /// restarted without our locks. They are asked about together: a server that answers slowly is asked once
    /// for the entries of each [`ANSWER_VALIDITY`], not once for each entry.
    fn confirm_from(&mut self, index: usize) -> Result<(), LockError> {
        let is_ours = |at: &usize| self.granted[*at] == Grant::Ours;
        let ours: Vec<usize> = (index..self.keys.len()).filter(is_ours).collect();
        if ours.is_empty() {
            return Ok(());
        }
        let keys: Vec<Vec<u8>> = ours.iter().map(|at| self.keys[*at].clone()).collect();
        let held = self.connection.are_ours(&keys, &self.token)?;
        self.confirmed = (self.steady)();
        for (at, is_held) in ours.into_iter().zip(held) {
            if !is_held {
                self.granted[at] = Grant::Locked;
            }
        }
        Ok(())
    }

    /// What must be released on another connection: every lock that may have been granted.
    fn into_releases(self) -> Vec<Release> {
        let Self { connection, keys, token, .. } = self;
        let mut releases = connection.into_pending();
        releases.push(Release { keys, token, is_certain: false });
        releases
    }
}

/// Why the entries of a batch that were not handed over have no lock.
struct Ended {
    error: LockError,
    rest: Vec<Expired>,
}

impl ExporterLocks {
    /// Takes the lock of each entry, and hands it over with its lease or with the reason why it has none.
    pub(in crate::lock) fn claim(&self, mut batch: Vec<Expired>, each: &mut dyn FnMut(Leased)) {
        while !batch.is_empty() {
            let rest = batch.split_off(batch.len().min(KEYS_PER_BATCH));
            match self.claim_part(batch, each) {
                Ok(mut late) => {
                    late.extend(rest);
                    batch = late;
                }
                Err(ended) => {
                    for expired in ended.rest.into_iter().chain(rest) {
                        let why = if ended.error == LockError::Stopped {
                            Rejection::Unreached
                        } else {
                            Rejection::NoLock(ended.error.to_string())
                        };
                        each(Err(Rejected::new(expired, why)));
                    }
                    return;
                }
            }
        }
    }

    /// Requests all locks of one batch, hands over its entries as the answers arrive, and releases the
    /// locks. Returns the entries whose turn did not come before the lease had run out. An error comes with
    /// the entries that were not handed over.
    fn claim_part(
        &self,
        part: Vec<Expired>,
        each: &mut dyn FnMut(Leased),
    ) -> Result<Vec<Expired>, Ended> {
        let key = |expired: &Expired| self.prefix.key(&expired.directory().dir, expired.name());
        let keys = part.iter().map(key).collect();
        let (until, steady) = (self.timing.now() + usable(self.ttl), self.timing.steady);
        let mut locks = match self.request(keys) {
            Ok(locks) => locks,
            Err(error) => return Err(Ended { error, rest: part }),
        };
        let mut part = part.into_iter();
        let (mut index, mut late) = (0, Vec::new());
        while index < locks.keys.len() {
            if steady() >= until {
                late = part.collect();
                break;
            }
            let stopped = self.timing.is_stopped().then_some(LockError::Stopped);
            let grant = match stopped.map_or_else(|| locks.grant_of(index), Err) {
                Ok(grant) => grant,
                Err(error) => {
                    let error = self.remember(error);
                    self.abandon(locks, &error);
                    return Err(Ended { error, rest: part.collect() });
                }
            };
            let Some(expired) = part.next() else { break };
            self.note_odd(grant, &locks.keys[index]);
            each(if grant == Grant::Ours {
                Ok((expired, Box::new(RedisLease { until, steady })))
            } else {
                // Another process holds the lock, or we may have lost it. The engine tries again later.
                Err(Rejected::new(expired, Rejection::Skipped(Skipped::Locked)))
            });
            index += 1;
        }
        self.release(locks, !late.is_empty());
        if index == 0 {
            // Nothing came of it, and nothing would if it was tried again at once.
            for expired in late.drain(..) {
                each(Err(Rejected::new(expired, Rejection::Skipped(Skipped::Locked))));
            }
        }
        Ok(late)
    }

    /// Requests the locks of a batch and reads the first answer.
    fn request(&self, keys: Vec<Vec<u8>>) -> Result<BatchLocks, LockError> {
        if self.timing.is_stopped() {
            return Err(LockError::Stopped);
        }
        let token = keys::token();
        let asked = self.with_connection(|connection| {
            let mut requests = keys.chunks(KEYS_PER_REQUEST);
            requests.try_for_each(|keys| connection.request(keys, &token, self.ttl))?;
            connection.read_granted(keys.len().min(KEYS_PER_REQUEST))
        });
        match asked {
            Ok((connection, granted)) => {
                let (confirmed, steady) = (self.timing.now(), self.timing.steady);
                Ok(BatchLocks {
                    connection,
                    keys,
                    token,
                    granted,
                    confirmed,
                    steady,
                    is_lost: false,
                })
            }
            Err(error) => {
                // Some may have been granted before the error; but not if the server has refused.
                let releases = vec![Release { keys, token, is_certain: false }];
                if matches!(
                    error,
                    LockError::Denied(_) | LockError::NoPassword { .. } | LockError::Refused(_)
                ) {
                    let _ = self.try_release(releases);
                } else {
                    self.release_anew(releases);
                }
                Err(error)
            }
        }
    }

    /// Releases the locks of a batch whose last entry was handed over. What cannot be released expires by
    /// itself. `is_awaited`: they are taken again next, maybe on another connection.
    fn release(&self, mut locks: BatchLocks, is_awaited: bool) {
        let read = if locks.is_lost { Ok(()) } else { locks.read_until(locks.keys.len()) };
        if locks.is_lost || read.is_err() {
            self.release_anew(locks.into_releases());
            return;
        }
        let BatchLocks { mut connection, keys, token, granted, .. } = locks;
        let granted = keys.into_iter().zip(granted).filter(|(_, grant)| *grant == Grant::Ours);
        let keys = granted.map(|(key, _)| key).collect();
        let released = connection.release(Release { keys, token, is_certain: true });
        match released.and_then(|()| if is_awaited { connection.read_releases() } else { Ok(()) }) {
            Ok(()) => self.put_back(connection),
            Err(_) => self.release_anew(connection.into_pending()),
        }
    }

    /// Releases the locks of a batch that ended with an error.
    fn abandon(&self, mut locks: BatchLocks, error: &LockError) {
        if *error == LockError::Stopped && locks.read_until(locks.keys.len()).is_ok() {
            self.release(locks, false);
        } else {
            self.release_anew(locks.into_releases());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_valid_for_less_time_than_the_lock_lasts() {
        for secs in [1, 2, 30, 55, 3600] {
            let ttl = Duration::from_secs(secs);
            let pottery = ttl.saturating_sub(ttl / 100 + Duration::from_millis(2));
            assert!(usable(ttl) < pottery && usable(ttl) > ttl / 2, "{secs}");
        }
        assert_eq!(usable(Duration::from_millis(1)), Duration::ZERO);
    }

    #[test]
    fn a_lease_ends_by_its_own_clock() {
        let steady = || Duration::from_secs(100);
        for (until, is_valid) in [(101, true), (100, false), (99, false)] {
            let until = Duration::from_secs(until);
            assert_eq!(RedisLease { until, steady }.is_valid(), is_valid);
        }
    }
}
