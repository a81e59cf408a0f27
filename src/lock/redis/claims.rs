//! Takes and releases the locks of batches of entries.
//!
//! It must not hand out an entry whose lock the server has not confirmed within [`ANSWER_VALIDITY`]. The
//! locks of a batch are released together, when its last entry is done.

use std::time::{Duration, Instant};

use super::connection::{Connection, LockError, Release};
use super::{ExporterLocks, keys};
use crate::protocol::{Expired, Lease, Rejected, Rejection, Skipped};

/// How many locks have one token.
const KEYS_PER_BATCH: usize = 1024;

/// How many of them are in one request, so that the first entries can be worked on while the server
/// answers the other requests.
const KEYS_PER_REQUEST: usize = 128;

/// How long an answer of the server is relied on.
const ANSWER_VALIDITY: Duration = Duration::from_millis(100);

/// An expired entry with the lease that covers it, or the reason why there is none.
pub(in crate::lock) type Leased = Result<(Expired, Box<dyn Lease>), Rejected>;

/// A lock that we hold. It is released with the rest of its batch.
#[derive(Debug)]
struct RedisLease {
    until: Instant,
}

impl Lease for RedisLease {
    fn is_valid(&self) -> bool {
        Instant::now() < self.until
    }
}

/// The part of a TTL in which a lease is valid: less pottery's allowance for clock drift, less a reserve
/// of 5 %, at most a second, for a delay between the last check and the unlink.
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
    /// Whether each lock was granted, as far as the answers were read.
    granted: Vec<bool>,
    /// When the server is known to have held our locks.
    confirmed: Instant,
    /// Whether the connection or a lock was lost. Then no further lock of the batch is relied on.
    is_lost: bool,
}

impl BatchLocks {
    /// Whether the lock at `index` is held now. To be asked in the order of the keys.
    fn is_held(&mut self, index: usize) -> Result<bool, LockError> {
        let is_outdated = self.confirmed.elapsed() > ANSWER_VALIDITY;
        // A question can be asked only when all answers before it were read.
        let needed = if is_outdated { self.keys.len() } else { index + 1 };
        while !self.is_lost && self.granted.len() < needed {
            let unread = self.keys.len() - self.granted.len();
            match self.connection.read_granted(unread.min(KEYS_PER_REQUEST)) {
                Ok(granted) => self.granted.extend(granted),
                Err(LockError::Unreachable(_)) => self.is_lost = true,
                Err(error) => return Err(error),
            }
        }
        if self.is_lost || !self.granted[index] {
            return Ok(false);
        }
        if is_outdated {
            // The server may have been stopped, or restarted without our locks.
            let asked = Instant::now();
            let is_ours = self.connection.is_ours(&self.keys[index], &self.token);
            self.is_lost = !is_ours.unwrap_or(false);
            self.confirmed = asked;
        }
        Ok(!self.is_lost)
    }

    /// What must be released on another connection: every lock that may have been granted.
    fn into_releases(self) -> Vec<Release> {
        let Self { connection, keys, token, .. } = self;
        let mut releases = connection.into_pending();
        releases.push(Release { keys, token });
        releases
    }
}

impl ExporterLocks {
    /// Takes the lock of each entry, and hands it over with its lease or with the reason why it has none.
    pub(in crate::lock) fn claim(&self, batch: Vec<Expired>, each: &mut dyn FnMut(Leased)) {
        let mut batch = batch.into_iter();
        loop {
            let part: Vec<Expired> = batch.by_ref().take(KEYS_PER_BATCH).collect();
            if part.is_empty() {
                return;
            }
            if let Err((error, rest)) = self.claim_part(part, each) {
                for expired in rest.into_iter().chain(batch) {
                    each(Err(Rejected::new(expired, Rejection::NoLock(error.to_string()))));
                }
                return;
            }
        }
    }

    /// Requests all locks of one batch, hands over its entries as the answers arrive, and releases the
    /// locks. An error comes with the entries that were not handed over.
    fn claim_part(
        &self,
        part: Vec<Expired>,
        each: &mut dyn FnMut(Leased),
    ) -> Result<(), (LockError, Vec<Expired>)> {
        let key = |expired: &Expired| self.prefix.key(&expired.directory().dir, expired.name());
        let keys = part.iter().map(key).collect();
        let until = Instant::now() + usable(self.ttl);
        let mut locks = match self.request(keys) {
            Ok(locks) => locks,
            Err(error) => return Err((error, part)),
        };
        let mut part = part.into_iter();
        for index in 0..locks.keys.len() {
            let is_held = match locks.is_held(index) {
                Ok(is_held) => is_held,
                Err(error) => {
                    self.release_anew(locks.into_releases());
                    return Err((error, part.collect()));
                }
            };
            let Some(expired) = part.next() else { break };
            each(if is_held {
                Ok((expired, Box::new(RedisLease { until })))
            } else {
                // Another process holds the lock, or we may have lost it. The engine tries again later.
                Err(Rejected::new(expired, Rejection::Skipped(Skipped::Locked)))
            });
        }
        self.release(locks);
        Ok(())
    }

    /// Requests the locks of a batch and reads the first answer.
    fn request(&self, keys: Vec<Vec<u8>>) -> Result<BatchLocks, LockError> {
        let token = keys::token();
        // An answer describes a moment after this one.
        let confirmed = Instant::now();
        let asked = self.with_connection(|connection| {
            let mut requests = keys.chunks(KEYS_PER_REQUEST);
            requests.try_for_each(|keys| connection.request(keys, &token, self.ttl))?;
            connection.read_granted(keys.len().min(KEYS_PER_REQUEST))
        });
        match asked {
            Ok((connection, granted)) => {
                Ok(BatchLocks { connection, keys, token, granted, confirmed, is_lost: false })
            }
            Err(error) => {
                // Some may have been granted before the error.
                self.release_anew(vec![Release { keys, token }]);
                Err(error)
            }
        }
    }

    /// Releases the locks of a batch. What cannot be released expires by itself.
    fn release(&self, locks: BatchLocks) {
        if locks.is_lost {
            self.release_anew(locks.into_releases());
            return;
        }
        let BatchLocks { mut connection, keys, token, granted, .. } = locks;
        let granted = keys.into_iter().zip(granted).filter(|(_, is_granted)| *is_granted);
        let keys = granted.map(|(key, _)| key).collect();
        match connection.release(Release { keys, token }) {
            Ok(()) => self.put_back(connection),
            Err(_) => self.release_anew(connection.into_pending()),
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
    fn a_lease_ends_by_itself() {
        let now = Instant::now();
        assert!(RedisLease { until: now + Duration::from_secs(3600) }.is_valid());
        assert!(!RedisLease { until: now }.is_valid());
    }
}
