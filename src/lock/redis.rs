//! CVAT's exporter lock: the Redis lock that the Python library pottery takes for every export, download
//! and cleanup (pottery 3.0.1 with one master; CVAT 2.14.1 and newer).
//!
//! It must not delete a key that holds the token of another process, set a key that does not expire, or
//! wait for a lock. Key and algorithm are CVAT's: `SET redlock:export_lock:<path> <token> NX PX <ttl>`,
//! released by a script that compares the token before it deletes the key. Unlike pottery, which makes
//! several round trips and a new connection for each file, the locks of a batch are requested together, in
//! a few scripts whose answers are used as they arrive, and released together in one more. All locks of a
//! batch have the same token. That is as safe as one token each: tokens are compared key by key, and no
//! other batch has the same one.
//!
//! A lease is valid for its TTL, less pottery's allowance for clock drift (1 % and 2 ms), less a reserve. It
//! is measured with the monotonic clock from before the request was sent. An entry whose lease is not valid
//! any more is not removed: the removal checks the lease immediately before the unlink.
//!
//! **Two windows remain.** A process that is suspended between that check and the unlink, for longer than
//! the reserve, unlinks a file whose lock another process may hold by then. Redis locks have no fencing
//! token and Linux has no conditional unlink, so this window is small but cannot be closed. And a server
//! that is restarted forgets all locks, ours and those of the exporters. No entry is handed over on an
//! answer that is older than a tenth of a second, but a restart within that time goes unnoticed.
//! `tests/model.rs` shows both windows, and that there is no other.
//!
//! - `claims`: takes and releases the locks of batches.
//! - `hold`: one lock for as long as a command runs.
//! - `keys`: the names of the locks.
//! - `server` and `connection`: the server, and the commands that are sent to it.

mod claims;
mod connection;
mod hold;
mod keys;
mod server;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use connection::{Connection, Release};
pub use connection::{Holder, LockError};
pub use hold::Hold;
pub use keys::Prefix;
pub use server::Server;

use crate::rules::Moment;

/// The clocks may differ by this many seconds before there is a note.
const CLOCK_NOTED: u64 = 60;

/// The clocks may differ by this many seconds before the zone is left alone.
const CLOCK_REFUSED: u64 = 3600;

/// CVAT's exporter locks on one server.
#[derive(Debug)]
pub struct ExporterLocks {
    server: Server,
    prefix: Prefix,
    /// How long a lock lasts.
    ttl: Duration,
    /// This machine's clock when these locks were made, to compare with the server's.
    clock: Moment,
    started: Instant,
    /// Connections that no worker uses.
    idle: Mutex<Vec<Connection>>,
    /// Why no lock can be taken any more, once that is known.
    error: Mutex<Option<LockError>>,
    notes: Mutex<Vec<String>>,
}

impl ExporterLocks {
    /// Locks on `server` for paths as CVAT sees them, each lasting for `ttl`. `clock` is the present.
    pub fn new(server: Server, prefix: Prefix, ttl: Duration, clock: Moment) -> Self {
        Self {
            server,
            prefix,
            ttl,
            clock,
            started: Instant::now(),
            idle: Mutex::default(),
            error: Mutex::default(),
            notes: Mutex::default(),
        }
    }

    /// Asks once, before a pass, whether the locks can be taken.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self) -> Result<(), LockError> {
        let (mut connection, theirs) = self.with_connection(Connection::time)?;
        let elapsed = i64::try_from(self.started.elapsed().as_secs()).unwrap_or(0);
        let ahead = self.clock.unix_secs() + elapsed - theirs;
        let error = LockError::Clock(ahead);
        if ahead.unsigned_abs() > CLOCK_REFUSED {
            return Err(self.remember(error));
        }
        if ahead.unsigned_abs() > CLOCK_NOTED {
            self.note(error.to_string());
        }
        if self.prefix.is_guess() {
            self.note(format!(
                "CVAT's locks are taken for paths below {}, which is where we see the data; if CVAT sees \
                 it elsewhere, set --cvat-data",
                self.prefix.shown()
            ));
        }
        if !self.prefix.is_known() {
            self.compare_prefixes(&mut connection)?;
        }
        self.put_back(connection);
        Ok(())
    }

    /// Compares the prefix with the locks that exist now. If none of them begins with it, it is wrong.
    fn compare_prefixes(&self, connection: &mut Connection) -> Result<(), LockError> {
        let live = match connection.live_locks() {
            Err(error @ (LockError::Unreachable(_) | LockError::Silent)) => return Err(error),
            // A server that does not permit this may still permit the locks.
            Err(LockError::Denied(_) | LockError::Refused(_) | LockError::Clock(_)) => Vec::new(),
            Ok(live) => live,
        };
        if let Some(theirs) = self.prefix.contradicted_by(&live) {
            self.note(format!(
                "CVAT now holds locks for paths in {theirs}, but ours are for paths in {}: a wrong path \
                 excludes no exporter; set --cvat-data to the path that CVAT uses",
                self.prefix.shown()
            ));
        }
        Ok(())
    }

    /// What the user should know about these locks.
    pub fn notes(&self) -> Vec<String> {
        let expired: usize = self.settle().iter_mut().map(Connection::take_expired).sum();
        if expired > 0 {
            self.note(format!("{expired} locks expired before they were released"));
        }
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, note: String) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if !notes.contains(&note) {
            notes.push(note);
        }
    }

    /// Who holds the lock of a path (relative to the data root), if it is held.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub fn holder(&self, path: &Path) -> Result<Option<Holder>, LockError> {
        let key = self.prefix.key_of(path);
        let (connection, holder) = self.with_connection(|connection| connection.holder(&key))?;
        self.put_back(connection);
        Ok(holder)
    }

    /// Asks on an idle connection, or on a new one if there is none or it was closed.
    fn with_connection<T>(
        &self,
        ask: impl Fn(&mut Connection) -> Result<T, LockError>,
    ) -> Result<(Connection, T), LockError> {
        if let Some(error) = self.known_error() {
            return Err(error);
        }
        let idle = self.idle().pop();
        if let Some(mut connection) = idle {
            match ask(&mut connection) {
                Ok(answer) => return Ok((connection, answer)),
                Err(LockError::Unreachable(_)) => self.release_anew(connection.into_pending()),
                Err(error) => return Err(self.remember(error)),
            }
        }
        let asked = Connection::connect(&self.server).and_then(|mut connection| {
            let answer = ask(&mut connection)?;
            Ok((connection, answer))
        });
        asked.map_err(|error| self.remember(error))
    }

    /// Releases on a new connection what a closed one may not have released. If that is impossible, the
    /// locks expire by themselves.
    fn release_anew(&self, releases: Vec<Release>) {
        let is_unavailable = matches!(
            self.known_error(),
            Some(LockError::Unreachable(_) | LockError::Silent | LockError::Denied(_))
        );
        if !is_unavailable
            && let Ok(mut connection) = Connection::connect(&self.server)
            && releases.into_iter().try_for_each(|release| connection.release(release)).is_ok()
            && connection.read_releases().is_ok()
        {
            self.put_back(connection);
        }
    }

    /// Reads the outstanding answers on idle connections.
    fn settle(&self) -> MutexGuard<'_, Vec<Connection>> {
        let mut is_available = self.known_error().is_none();
        let idle = std::mem::take(&mut *self.idle());
        for mut connection in idle {
            match is_available.then(|| connection.read_releases()) {
                Some(Ok(())) => self.put_back(connection),
                Some(Err(LockError::Unreachable(_))) => {
                    self.release_anew(connection.into_pending());
                }
                // The others would not answer either, after as long a wait each.
                Some(Err(_)) => is_available = false,
                None => {}
            }
        }
        self.idle()
    }

    /// An error that every further attempt would meet again, some of them after a wait.
    fn known_error(&self) -> Option<LockError> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember(&self, error: LockError) -> LockError {
        let mut known = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        known.get_or_insert(error).clone()
    }

    fn put_back(&self, connection: Connection) {
        self.idle().push(connection);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ExporterLocks {
    fn drop(&mut self) {
        drop(self.settle());
    }
}
