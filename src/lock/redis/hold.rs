//! One lock for as long as a command runs.
//!
//! This module must not extend a lock by itself: its owner calls [`Hold::extend`] at each [`Hold::interval`].

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
    /// `None` after an error: an answer that comes late must not be taken for that to the next question.
    connection: Option<Connection>,
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
                let connection = Some(connection);
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
        let known = self.connection.take().map(|connection| self.extend_on(connection));
        let extended = match known {
            Some(Err(LockError::Unreachable(_))) | None => {
                self.locks.connect().and_then(|connection| self.extend_on(connection))
            }
            Some(extended) => extended,
        };
        self.is_held = matches!(extended, Ok(true));
        self.is_held
    }

    fn extend_on(&mut self, mut connection: Connection) -> Result<bool, LockError> {
        let is_held = connection.extend(&self.key, &self.token, self.locks.ttl)?;
        self.connection = Some(connection);
        Ok(is_held)
    }

    /// Releases the lock. If that fails, the lock expires.
    ///
    /// # Errors
    /// Why it may not be released.
    pub fn release(self) -> Result<(), LockError> {
        if !self.is_held {
            return Ok(());
        }
        let Some(mut connection) = self.connection else { return Ok(()) };
        let release = Release { keys: self.key.to_vec(), token: self.token, is_certain: true };
        connection.release(release)?;
        connection.read_releases()?;
        match connection.take_unreleased().refused {
            Some((_, why)) => Err(LockError::Refused(why)),
            None => Ok(()),
        }
    }

    /// For how long at most the lock outlives a release that failed.
    pub const fn ttl(&self) -> Duration {
        self.locks.ttl
    }
}
