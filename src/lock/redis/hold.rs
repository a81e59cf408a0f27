//! One lock for as long as a command runs.
//!
//! It must not extend a lock by itself: its owner calls [`Hold::extend`] at each [`Hold::interval`].

use std::path::Path;
use std::time::{Duration, Instant};

use super::connection::{Connection, Release};
use super::error::LockError;
use super::scripts::Grant;
use super::{ExporterLocks, keys};

/// How long to wait before a lock that another process holds is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// A lock that is held while a command runs, for `sweeper hold`.
#[derive(Debug)]
pub struct Hold {
    locks: ExporterLocks,
    key: [Vec<u8>; 1],
    token: String,
    connection: Connection,
    is_held: bool,
}

impl Hold {
    /// Takes the lock of a path (relative to the data root), and tries for at most `wait`. `Ok(Err(_))`: why it
    /// is not ours.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub fn take(
        locks: ExporterLocks,
        path: &Path,
        wait: Duration,
    ) -> Result<Result<Self, Grant>, LockError> {
        let start = Instant::now();
        let key = [locks.prefix.key_of(path)];
        let mut connection = locks.connect()?;
        loop {
            let token = keys::token();
            connection.request(&key, &token, locks.ttl)?;
            let grant = connection.read_granted(1)?.first().copied().unwrap_or(Grant::Locked);
            if grant == Grant::Ours {
                return Ok(Ok(Self { locks, key, token, connection, is_held: true }));
            }
            if start.elapsed() >= wait {
                return Ok(Err(grant));
            }
            std::thread::sleep(RETRY_INTERVAL.min(wait));
        }
    }

    /// How often it must be extended.
    pub fn interval(&self) -> Duration {
        self.locks.ttl / 3
    }

    /// Extends it by another TTL, or takes it again if it is free. Returns whether it is held.
    pub fn extend(&mut self) -> bool {
        let mut extended = self.connection.extend(&self.key, &self.token, self.locks.ttl);
        if matches!(extended, Err(LockError::Unreachable(_)))
            && let Ok(connection) = self.locks.connect()
        {
            self.connection = connection;
            extended = self.connection.extend(&self.key, &self.token, self.locks.ttl);
        }
        self.is_held = matches!(extended, Ok(true));
        self.is_held
    }

    /// Releases it. If that fails, it expires by itself.
    ///
    /// # Errors
    /// Why it may not be released.
    pub fn release(mut self) -> Result<(), LockError> {
        if !self.is_held {
            return Ok(());
        }
        let release = Release { keys: self.key.to_vec(), token: self.token, is_certain: true };
        self.connection.release(release)?;
        self.connection.read_releases()?;
        match self.connection.take_unreleased().refused {
            Some((_, why)) => Err(LockError::Refused(why)),
            None => Ok(()),
        }
    }

    /// For how long at most the lock outlives a release that failed.
    pub const fn ttl(&self) -> Duration {
        self.locks.ttl
    }
}
