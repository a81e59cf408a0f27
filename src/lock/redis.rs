//! CVAT's exporter lock: the Redis lock that the Python library pottery takes for every export, download
//! and cleanup (pottery 3.0.1 with one master; CVAT 2.14.1 and newer).
//!
//! This module must not delete a key that holds the token of another process, set a key that does not expire, or
//! wait for a lock. Key and algorithm are CVAT's: `SET redlock:export_lock:<path> <token> NX PX <ttl>`,
//! released by a script that compares the token before it deletes the key. Unlike pottery, which makes
//! several round trips and a new connection for each file, the locks of a batch are requested together, in
//! a few scripts whose answers are used as they arrive, and released together in one more. All locks of a
//! batch have the same token. That is as safe as one token each: tokens are compared key by key, and no
//! other batch has the same one.
//!
//! A lease is valid for its TTL, less pottery's allowance for clock drift (1% and 2 ms), less a reserve. It
//! is measured from before the request was sent, with a clock that counts while the machine sleeps, as the
//! server's does. An entry whose lease is not valid any more is not removed: the removal checks the lease
//! immediately before the unlink.
//!
//! **Two windows remain.** A process that is suspended between that check and the unlink, for longer than
//! the reserve, unlinks a file whose lock another process may hold by then. Redis locks have no fencing
//! token and Linux has no conditional unlink, so this window is small but cannot be closed. And a server
//! that is restarted forgets all locks, ours and those of the exporters. No entry is handed over on an
//! answer that arrived more than a tenth of a second ago, but a restart within that time, or while the answer
//! was on its way, goes unnoticed. `tests/model/lock.rs` shows both windows, and that there are no others.
//!
//! - `claims`: takes and releases the locks of batches.
//! - `hold`: one lock for as long as a command runs.
//! - `keys`: the names of the locks.
//! - `odd`: the keys that are not proper locks.
//! - `connection`, `scripts` and `error`: what is asked of the server, and what it answers.
//! - `server`, `stream`, `resp` and `timing`: its address, the socket, the protocol, and the end of each wait.

mod claims;
mod connection;
mod error;
mod hold;
mod keys;
mod odd;
mod resp;
mod scripts;
mod server;
mod stream;
mod timing;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use connection::Holder;
use connection::{Connection, Release, Unreleased};
pub use error::LockError;
pub use hold::Hold;
pub use keys::Prefix;
use odd::OddKeys;
pub use scripts::Grant;
pub use server::Server;
pub use timing::Timing;

use crate::rules::{CLOCK_NOTED, CLOCK_REFUSED, Moment};

/// CVAT's exporter locks on one server.
#[derive(Debug)]
pub struct ExporterLocks {
    server: Server,
    prefix: Prefix,
    /// How long a lock lasts.
    ttl: Duration,
    /// This machine's clock when these locks were made, to compare with the server's.
    clock: Moment,
    /// The steady clock at that moment.
    started: Duration,
    timing: Timing,
    /// Connections that no worker uses.
    idle: Mutex<Vec<Connection>>,
    /// Why no lock can be taken any more, once that is known.
    error: Mutex<Option<LockError>>,
    notes: Mutex<Vec<String>>,
    odd: Mutex<OddKeys>,
    unreleased: Mutex<Unreleased>,
}

impl ExporterLocks {
    /// Locks on `server` for paths as CVAT sees them, each lasting for `ttl`. `clock` is the present.
    pub fn new(
        server: Server,
        prefix: Prefix,
        ttl: Duration,
        clock: Moment,
        timing: Timing,
    ) -> Self {
        Self {
            server,
            prefix,
            ttl,
            clock,
            started: timing.now(),
            timing,
            idle: Mutex::default(),
            error: Mutex::default(),
            notes: Mutex::default(),
            odd: Mutex::default(),
            unreleased: Mutex::default(),
        }
    }

    /// Asks once, before a pass, whether the locks can be taken. That they cannot, because the work was told
    /// to end, is found out when they are.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self) -> Result<(), LockError> {
        match self.check() {
            Err(LockError::Stopped) => Ok(()),
            checked => checked,
        }
    }

    fn check(&self) -> Result<(), LockError> {
        let (mut connection, theirs) = self.with_connection(Connection::time)?;
        let elapsed = self.timing.now().saturating_sub(self.started);
        let elapsed = i64::try_from(elapsed.as_secs()).unwrap_or(0);
        let ahead = self.clock.unix_secs().saturating_add(elapsed).saturating_sub(theirs);
        let error = LockError::Clock(ahead);
        if ahead.unsigned_abs() > CLOCK_REFUSED {
            return Err(self.remember(error));
        }
        if ahead.unsigned_abs() > CLOCK_NOTED {
            self.note(error.to_string());
        }
        if self.prefix.is_guess() {
            self.note(format!(
                "CVAT's locks are taken for paths below {}, where sweeper sees the data; if CVAT sees \
                 it elsewhere, set --cvat-data",
                self.prefix.shown()
            ));
        }
        if let Some(why) = self.in_other_database() {
            self.note(format!("warning: {why}"));
        }
        let compared =
            if self.prefix.is_known() { Ok(()) } else { self.compare_prefixes(&mut connection) };
        match compared {
            Ok(()) => {
                self.put_back(connection);
                Ok(())
            }
            Err(error) => Err(self.remember(error)),
        }
    }

    /// Why CVAT does not see these locks, if the server was named with another database than CVAT's.
    pub fn in_other_database(&self) -> Option<String> {
        let db = self.server.database();
        (db != 0).then(|| {
            let server = self.server.shown();
            format!(
                "CVAT's locks are in database 0, and {server} is used with database {db}: unless CVAT was changed, it does \
                 not see locks there"
            )
        })
    }

    /// Compares the prefix with the locks that CVAT holds now. If none of them begins with it, it is wrong.
    fn compare_prefixes(&self, connection: &mut Connection) -> Result<(), LockError> {
        let live = match connection.live_locks(|key| self.prefix.has(key)) {
            // A server that does not permit this may still permit the locks.
            Err(
                LockError::Denied(_)
                | LockError::NoPassword { .. }
                | LockError::Refused(_)
                | LockError::Clock(_)
                | LockError::WrongPath { .. },
            ) => Vec::new(),
            Err(
                error @ (LockError::Unreachable(_)
                | LockError::Silent(_)
                | LockError::Malformed(_)
                | LockError::Stopped),
            ) => return Err(error),
            Ok(live) => live,
        };
        match self.prefix.contradicted_by(&live) {
            Some(theirs) => Err(LockError::WrongPath { theirs, ours: self.prefix.shown() }),
            None => Ok(()),
        }
    }

    /// What the user should know about these locks.
    pub fn notes(&self) -> Vec<String> {
        let unreleased: Vec<Unreleased> =
            self.settle().iter_mut().map(Connection::take_unreleased).collect();
        let mut all = self.unreleased();
        for some in unreleased {
            all.append(some);
        }
        let Unreleased { expired, refused } = std::mem::take(&mut *all);
        drop(all);
        if expired > 0 {
            self.note(format!("{expired} locks expired before they were released"));
        }
        if let Some((count, why)) = refused {
            let locks =
                if count == 1 { "a lock was" } else { &format!("up to {count} locks were") };
            self.note(format!(
                "{locks} not released ({why}): CVAT may have to wait for up to {} s",
                self.ttl.as_secs()
            ));
        }
        for note in self.odd.lock().unwrap_or_else(PoisonError::into_inner).notes() {
            self.note(note);
        }
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers a key that is no proper lock.
    fn note_odd(&self, grant: Grant, key: &[u8]) {
        if matches!(grant, Grant::Endless | Grant::NotALock) {
            self.odd.lock().unwrap_or_else(PoisonError::into_inner).add(grant, key);
        }
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
                Err(error) => {
                    self.give_up(connection, &error);
                    return Err(self.remember(error));
                }
            }
        }
        let asked = self.connect().and_then(|mut connection| {
            let answer = ask(&mut connection)?;
            Ok((connection, answer))
        });
        asked.map_err(|error| self.remember(error))
    }

    fn connect(&self) -> Result<Connection, LockError> {
        Connection::connect(&self.server, &self.timing)
    }

    /// Releases on a new connection what a closed one may not have released. If that is impossible, the
    /// locks expire by themselves.
    fn release_anew(&self, releases: Vec<Release>) {
        let count = Release::count(&releases);
        if count == 0 {
            return;
        }
        let result = self.try_release(releases);
        let mut unreleased = self.unreleased();
        match result {
            Ok(refused) => unreleased.append(refused),
            Err(error) => unreleased.refuse(count, error.to_string()),
        }
    }

    fn try_release(&self, releases: Vec<Release>) -> Result<Unreleased, LockError> {
        match self.known_error() {
            Some(
                error @ (LockError::Unreachable(_)
                | LockError::Silent(_)
                | LockError::Denied(_)
                | LockError::NoPassword { .. }),
            ) => {
                return Err(error);
            }
            _ if self.timing.is_stopped() => return Err(LockError::Stopped),
            _ => {}
        }
        let mut connection = self.connect()?;
        for release in releases {
            // How many of them are still held is not known.
            connection.release(Release { is_certain: false, ..release })?;
        }
        connection.read_releases()?;
        let refused = connection.take_unreleased();
        self.put_back(connection);
        Ok(refused)
    }

    /// Remembers what a connection that is not used again may not have released.
    fn give_up(&self, mut connection: Connection, error: &LockError) {
        let mut unreleased = self.unreleased();
        unreleased.append(connection.take_unreleased());
        unreleased.refuse(Release::count(&connection.into_pending()), error.to_string());
    }

    fn unreleased(&self) -> MutexGuard<'_, Unreleased> {
        self.unreleased.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the outstanding answers on idle connections.
    fn settle(&self) -> MutexGuard<'_, Vec<Connection>> {
        let mut failed = self.known_error();
        let idle = std::mem::take(&mut *self.idle());
        for mut connection in idle {
            let read = match &failed {
                None => connection.read_releases(),
                // The others would not answer either, after as long a wait each.
                Some(error) => Err(error.clone()),
            };
            match read {
                Ok(()) => self.put_back(connection),
                Err(LockError::Unreachable(_)) => self.release_anew(connection.into_pending()),
                Err(error) => {
                    self.give_up(connection, &error);
                    failed.get_or_insert(error);
                }
            }
        }
        self.idle()
    }

    /// An error that every further attempt would cause again, sometimes after a wait.
    fn known_error(&self) -> Option<LockError> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember(&self, error: LockError) -> LockError {
        if error == LockError::Stopped {
            return error;
        }
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
